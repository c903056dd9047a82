//! Starts the real binary, waits for conditions with a timeout, and cleans up by process id.
//!
//! No threads: a program's output goes to files that the test reads. Each test uses a part of this module.
#![allow(dead_code)]

pub mod peer;

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Timeout for a condition that is expected to come true, however busy the machine. Only a failing test waits this long.
pub const LONG: Duration = Duration::from_secs(240);

/// Most time between two checks that counts towards a timeout: if it was longer, the machine was suspended.
const STEP_MAX: Duration = Duration::from_secs(1);

/// Number of output lines of each process that a failing test prints.
const LAST_LINES: usize = 30;

/// Characters of each of these lines: a report is longer than anybody reads.
const LINE_CHARS_MAX: usize = 300;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A fresh path under cargo's directory for test files.
pub fn scratch(name: &str) -> PathBuf {
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{number}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory for the test's files");
    dir.join(name)
}

/// A running program; killed and reaped when dropped. If the test is failing, dropping it prints its last lines.
pub struct Running {
    child: Child,
    command: String,
    out: PathBuf,
    err: PathBuf,
    began: Instant,
    code: Option<i32>,
}

/// The output of a program that has ended.
pub struct Finished {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Time from start to end.
    pub took: Duration,
    /// When it last wrote to standard output.
    pub printed: SystemTime,
}

/// The binary under test: the one that cargo built, or the one that RSORACLE_BINARY names (such as the static one). Removes
/// the machine's proxy settings, which are not meant for exchanges on this machine.
pub fn rsoracle() -> Command {
    let named = std::env::var_os("RSORACLE_BINARY");
    let mut command = Command::new(named.unwrap_or_else(|| env!("CARGO_BIN_EXE_rsoracle").into()));
    for name in ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"] {
        command.env_remove(name);
    }
    command
}

/// Copies a program, by a process of its own. If this process wrote the file, a child that another test starts at that moment
/// could hold it open for writing, and the system would refuse to run it ("Text file busy").
pub fn copy_program(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let copied = Command::new("cp")
        .arg(from.as_ref())
        .arg(to.as_ref())
        .status();
    assert!(copied.is_ok_and(|status| status.success()), "cp(1) copies");
}

/// Starts `rsoracle` with these arguments.
pub fn start(args: &[&str]) -> Running {
    let mut command = rsoracle();
    command.args(args).stdin(Stdio::null());
    start_command(command)
}

/// Starts a command whose output goes to files.
pub fn start_command(mut command: Command) -> Running {
    let (out, err) = (scratch("stdout"), scratch("stderr"));
    let file = |path: &Path| File::create(path).expect("a file for output");
    command.stdout(file(&out)).stderr(file(&err));
    let began = Instant::now();
    Running {
        child: command.spawn().expect("the program starts"),
        command: format!("{command:?}"),
        out,
        err,
        began,
        code: None,
    }
}

/// Runs `rsoracle` with these arguments until it ends.
pub fn run(args: &[&str]) -> Finished {
    start(args).finish()
}

/// Waits until `condition` returns a value. Panics after [`LONG`], naming `what` was awaited.
pub fn eventually<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    within(LONG, what, condition)
}

/// The same with another timeout. Time during which the machine is suspended (as a virtual machine may be) does not count.
pub fn within<T>(limit: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let mut waited = Duration::ZERO;
    loop {
        let before = Instant::now();
        if let Some(value) = condition() {
            return value;
        }
        assert!(
            waited < limit,
            "timed out after {waited:.1?} waiting for: {what}"
        );
        std::thread::sleep(Duration::from_millis(2));
        waited += before.elapsed().min(STEP_MAX);
    }
}

impl Running {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its standard error so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.err).unwrap_or_default()).into_owned()
    }

    /// Its standard output so far.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.out).unwrap_or_default()).into_owned()
    }

    /// Waits for a whole line on standard error that contains `part`, and returns it.
    pub fn stderr_line(&self, part: &str) -> String {
        let what = format!("a line with {part:?} on standard error of {}", self.id());
        eventually(&what, || {
            let text = self.stderr();
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            let line = whole.lines().find(|line| line.contains(part));
            line.map(str::to_owned)
        })
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> bool {
        match self.child.try_wait().expect("a child can be waited for") {
            Some(status) => {
                self.code = status.code();
                true
            }
            None => false,
        }
    }

    /// Waits until it ends.
    pub fn finish(self) -> Finished {
        self.finish_within(LONG)
    }

    /// The same with another timeout.
    pub fn finish_within(mut self, limit: Duration) -> Finished {
        let what = format!("the end of process {}", self.id());
        within(limit, &what, || self.ended().then_some(()));
        let took = self.began.elapsed();
        let printed = std::fs::metadata(&self.out).and_then(|out| out.modified());
        Finished {
            printed: printed.expect("the file of its output is there"),
            code: self.code,
            stdout: self.stdout(),
            stderr: self.stderr(),
            took,
        }
    }

    /// Sends a signal by name, such as `KILL` or `STOP`.
    pub fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// The process ids of its children, in the order of their start.
    pub fn children(&self) -> Vec<u32> {
        let id = self.id();
        let text =
            std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        text.split_whitespace()
            .filter_map(|id| id.parse().ok())
            .collect()
    }

    /// The process id of its collector in `slot`, found by its arguments.
    pub fn collector(&self, slot: u16) -> u32 {
        eventually(&format!("collector {slot} is running"), || {
            let of_slot = |id: &u32| {
                arguments(*id)
                    .windows(2)
                    .any(|pair| pair == ["--slot", &slot.to_string()])
            };
            self.children().into_iter().find(of_slot)
        })
    }

    /// An aggregator's control and data addresses, as its log names them.
    pub fn channels(&self) -> (SocketAddr, SocketAddr) {
        let line = self.stderr_line("control channel on ");
        let after = |mark: &str| {
            line.split(mark)
                .nth(1)
                .expect("both channels are named")
                .split(',')
                .next()
                .unwrap()
                .trim()
        };
        (
            after("control channel on ").parse().unwrap(),
            after("data channel on ").parse().unwrap(),
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let state = match self.child.try_wait() {
                Ok(Some(status)) => format!("ended, {status}"),
                _ => "running".to_owned(),
            };
            let (out, err) = (last_lines(&self.stdout()), last_lines(&self.stderr()));
            eprintln!(
                "--- process {} ({state} after {:.1?}): {}\n--- its standard output:\n{out}\n--- its standard error:\n{err}",
                self.id(),
                self.began.elapsed(),
                self.command
            );
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Finished {
    /// The remark that ends a slot's line on the aggregator's standard error, if there is one.
    pub fn remark(&self, slot: u16) -> Option<&str> {
        remark(&self.stderr, slot)
    }
}

/// The same for an aggregator's standard error, which must have a line about the slot.
pub fn remark(stderr: &str, slot: u16) -> Option<&str> {
    let begin = format!("aggregator: collector {slot}: ");
    let standings = ["used ", "trimmed ", "abstained: ", "excluded: ", "silent ("];
    let of_slot = |line| {
        let (_, text) = str::split_once(line, &begin)?;
        let stands = standings.iter().any(|standing| text.starts_with(standing));
        stands.then_some(text)
    };
    let line = stderr.lines().filter_map(of_slot).next_back();
    let line = line.unwrap_or_else(|| panic!("no line of collector {slot} in {stderr}"));
    line.split_once("; ").map(|(_, remark)| remark)
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
    let cut = last.iter().map(|line| line.chars().take(LINE_CHARS_MAX));
    cut.map(String::from_iter).collect::<Vec<_>>().join("\n")
}

/// Sends a signal to a process that the test started, if it has not ended. Uses the shell's built-in `kill`, since a minimal
/// system lacks the program.
pub fn signal(id: u32, name: &str) {
    let status = Command::new("sh")
        .args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &id.to_string()])
        .stderr(Stdio::null())
        .status();
    assert!(status.is_ok(), "sh(1) is there");
}

/// The arguments of a process.
pub fn arguments(id: u32) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    bytes
        .split(|byte| *byte == 0)
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect()
}

/// Whether a process is alive (a zombie is not).
pub fn alive(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .and_then(|rest| rest.split_whitespace().next())
        .is_some_and(|state| state != "Z")
}

/// An address on this machine where nobody listens. Its port is below the range from which the system assigns ports, so no
/// other test gets it by chance.
pub fn nobodys_address() -> SocketAddr {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let first = range
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok());
    let highest: u16 = first.unwrap_or(32_768);
    assert!(highest > 12_000, "there are ports below the assigned range");
    // Test programs that run at the same time start their search at different ports.
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let begin = std::process::id().wrapping_mul(97).wrapping_add(count);
    let ports = (0..1_000)
        .map(|at| 10_000 + (begin.wrapping_add(at * 89) % u32::from(highest - 10_000)) as u16);
    let mut addresses = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let free = |address: &SocketAddr| TcpListener::bind(address).is_ok();
    addresses
        .find(free)
        .expect("one of a thousand ports is free")
}

/// Starts an embedded exchange on a free port. Returns it and its URL.
pub fn exchange(args: &[&str]) -> (Running, String) {
    let running = start(&[&["exchange", "--listen", "127.0.0.1:0"], args].concat());
    let url = eventually("the exchange listens", || {
        let text = running.stdout();
        let (line, _) = text.split_once('\n')?;
        line.strip_prefix("listening on ").map(str::to_owned)
    });
    (running, url)
}

/// Files of certificates for the TLS tests, made by the program `openssl`.
pub struct Certificates {
    /// The certificate authority.
    pub ca: String,
    /// The server's certificate, signed by the authority.
    pub cert: String,
    /// The server's key (PKCS #8).
    pub key: String,
}

/// Makes a certificate authority, and a certificate signed by it for `name` (a `subjectAltName`, such as
/// `DNS:localhost,IP:127.0.0.1`), valid from `from` to `to` (`YYYYMMDDHHMMSSZ`).
pub fn certificates(name: &str, from: &str, to: &str) -> Certificates {
    let dir = scratch("ca.pem").parent().unwrap().to_owned();
    let script = format!(
        "set -e\n\
         openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 3650 -subj '/CN=Test authority'\n\
         openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out leaf.csr -subj /CN=leaf\n\
         touch index.txt; echo 01 > serial\n\
         printf '[ca]\\ndefault_ca=c\\n[c]\\ndatabase=index.txt\\nserial=serial\\nnew_certs_dir=.\\npolicy=p\\nx509_extensions=x\\nunique_subject=no\\n[p]\\ncommonName=supplied\\n[x]\\nsubjectAltName={name}\\n' > ca.cnf\n\
         openssl ca -batch -config ca.cnf -cert ca.pem -keyfile ca.key -md sha256 -startdate {from} -enddate {to} -notext -in leaf.csr -out cert.pem\n"
    );
    let output = Command::new("sh")
        .args(["-c", &script])
        .current_dir(&dir)
        .output()
        .expect("sh runs");
    assert!(
        output.status.success(),
        "openssl: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let path = |file: &str| dir.join(file).to_str().expect("a path in UTF-8").to_owned();
    Certificates {
        ca: path("ca.pem"),
        cert: path("cert.pem"),
        key: path("key.pem"),
    }
}

/// Valid certificates for `localhost` and 127.0.0.1.
pub fn good_certificates() -> Certificates {
    certificates(
        "DNS:localhost,IP:127.0.0.1",
        "20200101000000Z",
        "20991231235959Z",
    )
}
