//! Child processes: each runs this very program, and none outlives its parent.
//!
//! Invariant: dropping a child's handle kills and reaps the child. All children share one socket as standard error. The parent
//! reads its other end, so that only one process writes to the terminal.

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

    /// The child's exit status, once it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.process.try_wait().ok().flatten();
        }
        self.status
    }

    /// The child's standard input, if it is a pipe that was not taken before.
    pub(crate) fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.process.stdin.take()
    }

    /// What an ended child wrote to standard output, truncated to `bytes_max`; empty if that is not a pipe.
    pub fn said(&mut self, bytes_max: u64) -> String {
        let mut bytes = Vec::new();
        if let Some(pipe) = self.process.stdout.take() {
            // On a read error the text is truncated, and its reader reports what is missing.
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

/// Waits up to [`CHILD_END_MS_MAX`] for children that were told to end, then kills the remaining ones.
pub(crate) fn end_all(mut children: Vec<Child>) {
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
    /// Makes the socket pair.
    pub fn new() -> Result<Log, Error> {
        let failed = |error| Error::new("cannot make a socket for the children's log", error);
        let (near, far) = UnixStream::pair().map_err(failed)?;
        near.set_nonblocking(true).map_err(failed)?;
        // Children share the far end: a child that floods it must not block the others.
        far.set_nonblocking(true).map_err(failed)?;
        let bytes = Box::new([0; 16 * 1024]);
        Ok(Log { near, far, bytes })
    }

    /// A copy of the far end, as one child's standard error.
    pub(crate) fn for_child(&self) -> Result<Stdio, Error> {
        let far = self.far.try_clone();
        let far = far.map_err(|error| Error::new("cannot hand the log to a child", error))?;
        Ok(Stdio::from(OwnedFd::from(far)))
    }

    /// What children wrote since the last call; may be empty.
    pub fn read(&mut self) -> &[u8] {
        let count = self.near.read(&mut self.bytes[..]).unwrap_or(0);
        &self.bytes[..count]
    }
}

/// A command that runs this very program.
pub fn this_program() -> Result<Command, Error> {
    let path = std::env::current_exe().or_else(|error| {
        // Without /proc (an empty root), fall back to the path by which this program was started.
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
    // The file was replaced or removed while this program ran. /proc still has it, so children get the same version.
    let mut command = Command::new(ITSELF);
    command.arg0(path);
    Ok(command)
}

/// The executable of this process, even if its file was renamed or removed.
const ITSELF: &str = "/proc/self/exe";
