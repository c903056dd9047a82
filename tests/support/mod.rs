//! Starts the real binary, waits for conditions with deadlines, and cleans up by process id.
//!
//! No threads: what a program prints goes to files that the test reads. Each test uses part of this.
#![allow(dead_code)]

pub mod peer;

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Deadline for anything that does happen, on however busy a machine; only a test that fails waits for all of it.
pub const LONG: Duration = Duration::from_secs(240);

/// Of the time between two looks no more is counted: for longer, the machine stood still.
const STEP_MAX: Duration = Duration::from_secs(1);

/// Lines of a process's output that a failing test prints.
const LAST_LINES: usize = 30;

/// Characters of each of these lines: a report is longer than anybody reads.
const LINE_CHARS_MAX: usize = 300;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A fresh path under cargo's folder for such files.
pub fn scratch(name: &str) -> PathBuf {
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{number}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder for the test's files");
    dir.join(name)
}

/// A running `rsoracle`; killed and reaped when dropped. Where a test fails, its drop prints the last lines that it wrote.
pub struct Running {
    child: Child,
    command: String,
    out: PathBuf,
    err: PathBuf,
    began: Instant,
    code: Option<i32>,
}

/// What a finished one left.
pub struct Finished {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
    /// When it last wrote to standard output.
    pub printed: SystemTime,
}

/// The binary under test: what cargo built, or what RSORACLE_BINARY names (the static one, say). A proxy that the calling
/// machine names is not for exchanges on this machine.
pub fn rsoracle() -> Command {
    let named = std::env::var_os("RSORACLE_BINARY");
    let mut command = Command::new(named.unwrap_or_else(|| env!("CARGO_BIN_EXE_rsoracle").into()));
    for name in ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"] {
        command.env_remove(name);
    }
    command
}

/// Starts `rsoracle` with these arguments.
pub fn start(args: &[&str]) -> Running {
    let mut command = rsoracle();
    command.args(args).stdin(Stdio::null());
    start_command(command)
}

/// Starts a command with its output in files.
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

/// Runs `rsoracle` to its end.
pub fn run(args: &[&str]) -> Finished {
    start(args).finish()
}

/// Waits until `condition` gives something; panics when it never does, and says what was awaited and for how long.
pub fn eventually<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    within(LONG, what, condition)
}

/// The same with another limit. While this machine stands still (a suspended guest, say), nobody is waited for.
pub fn within<T>(limit: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let mut waited = Duration::ZERO;
    loop {
        let before = Instant::now();
        if let Some(value) = condition() {
            return value;
        }
        assert!(
            waited < limit,
            "waited {waited:.1?}, and it did not happen: {what}"
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

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.err).unwrap_or_default()).into_owned()
    }

    /// What it wrote to standard output so far.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.out).unwrap_or_default()).into_owned()
    }

    /// Waits for a whole line on standard error that holds `part`, and gives it.
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

    /// Waits for its end.
    pub fn finish(self) -> Finished {
        self.finish_within(LONG)
    }

    /// The same with another limit.
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

    /// Control and data address of an aggregator, from its first line.
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
    /// What the aggregator said of a slot's collector besides how it stands: the end of its line on standard error.
    pub fn remark(&self, slot: u16) -> Option<&str> {
        remark(&self.stderr, slot)
    }
}

/// The same in what an aggregator has written to standard error; each slot must have its line there.
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

/// Sends a signal to a process that the test started, or to one that has ended. The shell's own `kill` does it: the program
/// of that name is missing on a minimal system.
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

/// Whether a process is there (a zombie is not).
pub fn alive(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .and_then(|rest| rest.split_whitespace().next())
        .is_some_and(|state| state != "Z")
}

/// An address on this machine where nobody listens, and nobody will whom the system gives a port: those are higher.
pub fn nobodys_address() -> SocketAddr {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let first = range
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok());
    let highest: u16 = first.unwrap_or(32_768);
    assert!(highest > 12_000, "some ports are given to nobody");
    // Programs of tests that run at one time begin at different places.
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let begin = std::process::id().wrapping_mul(97).wrapping_add(count);
    let ports = (0..1_000)
        .map(|at| 10_000 + (begin.wrapping_add(at * 89) % u32::from(highest - 10_000)) as u16);
    let mut addresses = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let free = |address: &SocketAddr| TcpListener::bind(address).is_ok();
    addresses.find(free).expect("one in a thousand is free")
}

/// An embedded exchange on a free port, and where it listens.
pub fn exchange(args: &[&str]) -> (Running, String) {
    let running = start(&[&["exchange", "--listen", "127.0.0.1:0"], args].concat());
    let url = eventually("the exchange listens", || {
        let text = running.stdout();
        let (line, _) = text.split_once('\n')?;
        line.strip_prefix("listening on ").map(str::to_owned)
    });
    (running, url)
}

/// Certificates for the TLS tests, made by the `openssl` program.
pub struct Certificates {
    /// The authority that signed them.
    pub ca: String,
    /// For `localhost` and 127.0.0.1.
    pub cert: String,
    /// Its key (PKCS #8).
    pub key: String,
}

/// Makes an authority and a certificate of it for `name` (a `subjectAltName`, such as `DNS:localhost,IP:127.0.0.1`), valid
/// from `from` to `to` (`YYYYMMDDHHMMSSZ`).
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

/// Certificates that are fine for `localhost` and 127.0.0.1.
pub fn good_certificates() -> Certificates {
    certificates(
        "DNS:localhost,IP:127.0.0.1",
        "20200101000000Z",
        "20991231235959Z",
    )
}
