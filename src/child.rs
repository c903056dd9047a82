//! Child processes: started as this very program, never outliving the one who started them.
//!
//! Invariant: nothing secret is in arguments, and in the environment nothing but a proxy's password; a child's handle, when dropped, kills and reaps it. Children
//! share one socket as standard error, whose other end the parent reads, so that one process writes to the terminal.
//! What this module does not do: know what children say.

use crate::args::duration_text;
use crate::config::{Endpoint, Run};
use crate::error::Error;
use crate::keyfile;
use crate::limits::{CHILD_END_MS_MAX, HANDSHAKE_MS_MAX};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A running child; killed and reaped when dropped.
pub struct Child {
    process: std::process::Child,
    status: Option<ExitStatus>,
}

impl Child {
    /// Starts a command; `what` is its name in errors.
    pub fn spawn(command: &mut Command, what: &str) -> Result<Child, Error> {
        let process = command.spawn().map_err(|error| {
            let advice = "check the limits on processes and open files (ulimit -u, ulimit -n)";
            Error::new(format!("cannot start {what}"), error)
                .advise(advice)
                .passing()
        })?;
        Ok(Child {
            process,
            status: None,
        })
    }

    /// How the child ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.process.try_wait().ok().flatten();
        }
        self.status
    }

    /// What a child that has ended wrote to standard output and standard error, if both are pipes: as much of each as the
    /// bound allows.
    pub fn said(&mut self, bytes_max: u64) -> (String, String) {
        let out = self.process.stdout.take();
        let err = self.process.stderr.take();
        (all_of(out, bytes_max), all_of(err, bytes_max))
    }
}

fn all_of(pipe: Option<impl Read>, bytes_max: u64) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What could not be read is missed by whoever makes sense of it.
        let _ = pipe.take(bytes_max).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.ended().is_none() {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

/// Lets children that were told to end do so, for a moment; then kills those that did not.
pub fn end_all(mut children: Vec<Child>) {
    let until = Instant::now() + Duration::from_millis(CHILD_END_MS_MAX);
    let mut nap = Duration::from_micros(200);
    while Instant::now() < until {
        children.retain_mut(|child| child.ended().is_none());
        if children.is_empty() {
            return;
        }
        std::thread::sleep(nap);
        nap = (nap * 2).min(Duration::from_millis(10));
    }
}

/// The socket that children write their log to.
pub struct Log {
    near: UnixStream,
    far: UnixStream,
    /// What was read last.
    bytes: Box<[u8; 16 * 1024]>,
}

impl Log {
    /// A fresh one.
    pub fn new() -> Result<Log, Error> {
        let failed = |error| Error::new("cannot make a socket for the children's log", error);
        let (near, far) = UnixStream::pair().map_err(failed)?;
        near.set_nonblocking(true).map_err(failed)?;
        // Children share one description of the far end: one that talks without end must not make the others wait.
        far.set_nonblocking(true).map_err(failed)?;
        let bytes = Box::new([0; 16 * 1024]);
        Ok(Log { near, far, bytes })
    }

    fn for_child(&self) -> Result<Stdio, Error> {
        let far = self.far.try_clone();
        let far = far.map_err(|error| Error::new("cannot hand the log to a child", error))?;
        Ok(Stdio::from(OwnedFd::from(far)))
    }

    /// What children wrote since; empty if nothing.
    pub fn read(&mut self) -> &[u8] {
        let count = self.near.read(&mut self.bytes[..]).unwrap_or(0);
        &self.bytes[..count]
    }
}

/// A command that is this very program.
pub fn this_program() -> Result<Command, Error> {
    let path = std::env::current_exe().or_else(|error| {
        // Where /proc is missing (an empty root), the path by which this program was started must do.
        let started_as = std::env::args_os().next().map(PathBuf::from);
        let path = started_as.filter(|path| path.components().count() > 1);
        path.ok_or(error).and_then(std::fs::canonicalize)
    });
    let path = path.map_err(|error| {
        let advice = "mount /proc, or start it by its path (/path/to/rsoracle)";
        Error::new("cannot find this program's own file", error).advise(advice)
    })?;
    if path.exists() || !Path::new(ITSELF).exists() {
        return Ok(Command::new(path));
    }
    // The file was replaced or removed while it ran: what runs is still there, and children are of the same version.
    let mut command = Command::new(ITSELF);
    command.arg0(path);
    Ok(command)
}

/// The file that this process runs, whatever became of its name.
const ITSELF: &str = "/proc/self/exe";

/// What a collector needs to know besides the configuration.
pub struct CollectorPlace<'a> {
    /// Its slot.
    pub slot: u16,
    /// The control channel.
    pub control: SocketAddr,
    /// The data channel.
    pub data: SocketAddr,
    /// Where embedded sources are.
    pub endpoint: Option<&'a Endpoint>,
}

/// Starts one collector and hands it its enrolment on standard input.
pub fn collector(
    config: &Run,
    place: &CollectorPlace,
    enrolment: &[u8; 64],
    log: &Log,
) -> Result<Child, Error> {
    let mut command = this_program()?;
    command.arg("collect");
    command.args(["--slot", &place.slot.to_string()]);
    let slot = usize::from(place.slot);
    let source = &config.sources[slot];
    command.args(["--source", &source.name, "--feed", &config.feed]);
    command.args([
        "--control",
        &place.control.to_string(),
        "--data",
        &place.data.to_string(),
    ]);
    command.args(["--sample-rule", config.sample_rule.name()]);
    command.args(["--connection-age", &duration_text(config.connection_age_us)]);
    command.args(config.limits[slot].flags());
    if config.every_us.is_some() {
        command.arg("--stay");
    }
    if let Some(endpoint) = place.endpoint.filter(|_| source.embedded) {
        command.args(["--endpoint", &endpoint.url]);
    }
    if let Some(file) = &config.ca_file {
        command.args(["--ca-file", file]);
    }
    if let Some(dir) = &config.collector_keys {
        command.args(["--key", &keyfile::of_slot(dir, place.slot)]);
    }
    if let Some(proxy) = &config.proxy {
        command.envs(proxy.variables());
    }
    // So that a second name server is asked while there is time: the resolver's own limit is five seconds for each.
    command.env("RES_OPTIONS", "timeout:1 attempts:1");
    command
        .stdin(Stdio::piped())
        .stdout(log.for_child()?)
        .stderr(log.for_child()?);
    let what = format!("collector {}", place.slot);
    let mut child = Child::spawn(&mut command, &what)?;
    let mut stdin = child
        .process
        .stdin
        .take()
        .expect("standard input is a pipe");
    // It may have been killed already: then there is nobody to hand it to, and its end is noticed like any other.
    let _ = stdin.write_all(enrolment);
    Ok(child)
}

/// The embedded exchange as a child.
pub struct ExchangeChild {
    /// The process.
    pub child: Child,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Its standard input: it ends when this is closed, however we end.
    _tether: UnixStream,
}

/// Starts the embedded exchange on this machine, on a free port or, again, where it was before; waits until it listens.
pub fn exchange(log: &Log, before: Option<&Endpoint>) -> Result<ExchangeChild, Error> {
    let attempt = "cannot start the embedded exchange";
    let failed = |error| Error::new(attempt, error);
    let (tether, stdin) = UnixStream::pair().map_err(failed)?;
    let (said, stdout) = UnixStream::pair().map_err(failed)?;
    said.set_read_timeout(Some(Duration::from_millis(HANDSHAKE_MS_MAX)))
        .map_err(failed)?;
    let mut command = this_program()?;
    let port = before.map_or(0, |endpoint| endpoint.port);
    command.args(["exchange", "--listen", &format!("127.0.0.1:{port}")]);
    command.arg("--until-eof");
    command
        .stdin(Stdio::from(OwnedFd::from(stdin)))
        .stdout(Stdio::from(OwnedFd::from(stdout)));
    command.stderr(log.for_child()?);
    let child = Child::spawn(&mut command, "the embedded exchange")?;
    // Our copies of its ends go with the command; from here on its end is seen.
    drop(command);
    let mut line = String::new();
    BufReader::new(said.take(200))
        .read_line(&mut line)
        .map_err(failed)?;
    let url = line.trim().strip_prefix("listening on ");
    match url.and_then(|url| Endpoint::parse(url).ok()) {
        Some(endpoint) => Ok(ExchangeChild {
            child,
            endpoint,
            _tether: tether,
        }),
        None => Err(Error::new(attempt, "it ended before it listened")),
    }
}
