//! Writes to standard output and standard error without waiting for whoever reads them: a pipe that nobody empties, a stopped
//! terminal or a hanging log daemon must not stop a round.
//!
//! Invariant: what does not fit is dropped and counted, and the next line that fits says how many lines are missing. The flags
//! of the terminal, pipe or socket are left as they are, since other processes share them.
//!
//! Only a pipe or terminal of another user (`sudo -u`, some supervisors) that the system does not let us open again can still
//! make a write wait.

use rsoracle_verify::error::brief;
use rsoracle_verify::log::{LINE_CHARS_MAX, printable};
use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::{fs::OpenOptionsExt, net::UnixStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// `O_NONBLOCK | O_NOCTTY` of open(2), as Linux numbers them on x86, ARM and RISC-V.
const AT_ONCE: i32 = 0o4000 | 0o400;
/// Longest wait for a full socket. The kernel rounds it up to two of its ticks.
const SOCKET_WAIT: Duration = Duration::from_millis(1);

/// Number of lines for standard error that were dropped and not yet reported.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Writes `role: line` to standard error, as [`rsoracle_verify::log::say`] does.
pub fn say(role: &str, line: impl Display) {
    let line = brief(&format!("{role}: {line}"), LINE_CHARS_MAX);
    put(role, &format!("{}\n", printable(&line)), 1);
}

/// Writes text that holds so many lines to standard error. Returns whether all of it was taken.
pub(crate) fn put(role: &str, text: &str, lines: u64) -> bool {
    let dropped = DROPPED.swap(0, Ordering::Relaxed);
    let note = match dropped {
        0 => String::new(),
        // The line break ends a line that was cut.
        _ => format!(
            "\n{role}: lines missing here, since standard error could not take them: {dropped}\n"
        ),
    };
    let all = note + text;
    let taken = write_some(&io::stderr(), all.as_bytes()).is_ok_and(|taken| taken == all.len());
    if !taken {
        DROPPED.store(dropped + lines, Ordering::Relaxed);
    }
    taken
}

/// Writes what a stream takes at once, and returns how much that was. Only files are waited for.
pub(crate) fn write_some(stream: &impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    let shared = stream.as_fd();
    let path = format!("/proc/self/fd/{}", shared.as_raw_fd());
    // A pipe or terminal that is opened again gets its own flags. A file is not opened again: that would have its own position.
    // A pipe without a reader and a socket cannot be opened again.
    let again = OpenOptions::new()
        .write(true)
        .custom_flags(AT_ONCE)
        .open(path);
    if let Ok(mut again) = again
        && !again.metadata()?.is_file()
    {
        return again.write(bytes);
    }
    let mut socket = UnixStream::from(shared.try_clone_to_owned()?);
    let Ok(before) = socket.write_timeout() else {
        return File::from(OwnedFd::from(socket)).write(bytes);
    };
    socket.set_write_timeout(Some(SOCKET_WAIT))?;
    let written = socket.write(bytes);
    socket.set_write_timeout(before)?;
    written
}
