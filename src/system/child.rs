//! Child processes: each runs this very program, and none outlives its parent.
//!
//! Invariant: dropping a child's handle kills and reaps the child.

use rsoracle_verify::error::Error;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

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
