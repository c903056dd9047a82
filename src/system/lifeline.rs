//! Notices that the parent process has ended, for servers that it starts (`--until-eof`).

use crate::system::inbox::waits;
use rsoracle_verify::error::Error;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

/// Standard input, a socket whose other end a parent process holds.
pub(crate) struct Lifeline(UnixStream);

impl Lifeline {
    /// Takes over standard input.
    pub(crate) fn open() -> Result<Lifeline, Error> {
        let open = || {
            let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
            // Fails if standard input is no Unix socket, before anything is changed: making a terminal or a pipe
            // non-blocking here would make it so for every process that shares it.
            socket.local_addr()?;
            socket.set_nonblocking(true)?;
            Ok(Lifeline(socket))
        };
        open().map_err(|error: io::Error| {
            Error::new(
                "cannot watch standard input for its end (--until-eof)",
                error,
            )
            .advise("--until-eof is for a parent process that hands down a Unix socket as standard input; leave it out otherwise")
        })
    }

    /// Whether the other end is closed. Anything that the parent writes is discarded.
    pub(crate) fn has_ended(&mut self) -> bool {
        match self.0.read(&mut [0; 64]) {
            Ok(n) => n == 0,
            Err(error) => !waits(&error),
        }
    }
}
