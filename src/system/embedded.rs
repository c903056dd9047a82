//! Starts the embedded exchange as a child process.
//!
//! Invariant: it ends when its handle is dropped, and when this process ends, however that happens.

use crate::system::child::{Child, this_program};
use crate::system::endpoint::Endpoint;
use crate::system::limits::HANDSHAKE_MS_MAX;
use rsoracle_verify::error::Error;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

/// The embedded exchange, running as a child.
pub struct ExchangeChild {
    /// The process.
    pub(crate) child: Child,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// The other end of its standard input. The exchange ends when this is closed, so it never outlives us.
    _tether: UnixStream,
}

/// Starts the embedded exchange on 127.0.0.1 and waits until it listens. `before` is its address if it ran before: it
/// listens there again. Otherwise it takes a free port. It logs to `stderr`.
pub fn start(stderr: Stdio, before: Option<&Endpoint>) -> Result<ExchangeChild, Error> {
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
    command.stderr(stderr);
    let child = Child::spawn(&mut command, "the embedded exchange")?;
    // Dropping the command closes our copies of the child's ends, so that we see end of file when it ends.
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
