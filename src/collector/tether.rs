//! A child's end of its tether: its standard input, a socket that `rsoracle run` holds the other end of.
//!
//! Invariant: no call waits longer than it says. When the other end is closed, the parent has ended, and so does this process.

use crate::system::inbox::waits;
use crate::wire::handed::{Handed, TetherReader};
use rsoracle_proof::seal::PublicKey;
use rsoracle_verify::error::Error;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The tether, once this collector's public key was sent up.
pub(super) struct Tether {
    socket: UnixStream,
    reader: TetherReader,
    ended: bool,
}

impl Tether {
    /// Takes standard input, and sends the public key.
    pub(super) fn take(key: &PublicKey) -> Result<Tether, Error> {
        let send = |stdin| {
            let mut socket = UnixStream::from(stdin);
            socket.write_all(key.bytes()).map(|()| socket)
        };
        let socket = io::stdin().as_fd().try_clone_to_owned().and_then(send);
        let socket = socket.map_err(|error| {
            let advice = "'rsoracle run' starts collectors with --tether; by hand, use --roster";
            Error::new("cannot use standard input as the tether", error).advise(advice)
        })?;
        Ok(Tether {
            socket,
            reader: TetherReader::default(),
            ended: false,
        })
    }

    /// Whether the parent has ended.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// The next message that was handed down, after a wait of up to `patience`; zero does not wait.
    pub(super) fn read(&mut self, patience: Duration) -> Result<Option<Handed>, Error> {
        let message = self.take_message(patience).map_err(|error| {
            let advice = "start collectors with the same program as 'rsoracle run'";
            Error::new("cannot read the tether", error).advise(advice)
        })?;
        match self.ended {
            true => Err(Error::new("the tether was closed", "its parent has ended")),
            false => Ok(message),
        }
    }

    /// Reads until a message is complete or nothing more has come.
    fn take_message(&mut self, patience: Duration) -> io::Result<Option<Handed>> {
        self.socket.set_nonblocking(patience.is_zero())?;
        self.socket
            .set_read_timeout(Some(patience).filter(|patience| !patience.is_zero()))?;
        let mut bytes = [0; 4096];
        loop {
            let wants = self.reader.wants().map_err(io::Error::other)?;
            match self.socket.read(&mut bytes[..wants.min(4096)]) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    let message = self.reader.add(&bytes[..count]);
                    match message.map_err(io::Error::other)? {
                        // The rest may come later.
                        None => {
                            self.socket.set_nonblocking(true)?;
                            continue;
                        }
                        message => return Ok(message),
                    }
                }
                Err(error) if waits(&error) => {}
                // A socket whose other end was closed with unread bytes.
                Err(_) => self.ended = true,
            }
            return Ok(None);
        }
    }
}
