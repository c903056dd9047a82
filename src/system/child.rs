//! Child processes: started as this very program, never outliving the one who started them.
//!
//! Invariant: a child's handle, when dropped, kills and reaps it. Children share one socket as standard error, whose other end the parent reads, so that one process writes to the terminal.
//! What this module does not do: know what children say.

use crate::system::limits::CHILD_END_MS_MAX;
use rsoracle_verify::error::Error;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
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

    /// Its standard input, if that is a pipe and was not taken before.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.process.stdin.take()
    }

    /// What a child that has ended wrote to standard output, if that is a pipe: as much as the bound allows.
    pub fn said(&mut self, bytes_max: u64) -> String {
        let mut bytes = Vec::new();
        if let Some(pipe) = self.process.stdout.take() {
            // What could not be read is missed by whoever makes sense of it.
            let _ = pipe.take(bytes_max).read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
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

    /// The far end, for one child.
    pub fn for_child(&self) -> Result<Stdio, Error> {
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
