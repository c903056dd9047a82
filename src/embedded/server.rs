//! The server of the embedded exchange: one listener and all its connections, in one thread.
//!
//! Invariant: [`Server::sweep`] visits everything once and never blocks; `run` decides how long to nap between two sweeps.
//! The clock is passed in, so a test can drive server and client alternately in one thread.

use super::ExchangeSettings;
use super::connection::Connection;
use super::talk::Progress;
use super::tape::Tape;
use super::upgrade::PATH;
use super::venue::{Now, Venue};
use crate::system::acceptor::acceptor;
use crate::system::inbox::waits;
use crate::system::limits::ACCEPTS_PER_SWEEP;
use crate::system::stream::say;
use native_tls::TlsAcceptor;
use rsoracle_verify::error::Error;
use rsoracle_verify::files;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

/// Most connections at one time. A further one is closed as soon as it is accepted.
pub const CONNECTIONS_MAX: usize = 4096;
/// Largest price tape, in bytes. A larger file is refused.
pub(crate) const TAPE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The embedded exchange.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    venue: Venue,
    connections: Vec<Connection>,
    /// Whether a failed accept was already logged, and whether a failed TLS handshake was.
    accept_told: bool,
    tls_told: bool,
}

impl Server {
    /// Reads the files that the settings name, and starts to listen. The tape starts to play at `now`.
    pub fn open(settings: &ExchangeSettings, now: Now) -> Result<Server, Error> {
        let tape = tape(settings.tape.as_deref())?;
        let venue = Venue::new(tape, settings, now);
        if let Some(base) = unknown_base(&venue) {
            let cause = format!("the tape has no {base}");
            let advice = format!("it plays {}", venue.bases().join(", "));
            return Err(Error::new("cannot inject the faults (--fault)", cause).advise(advice));
        }
        let acceptor = match &settings.tls {
            Some((cert, key)) => Some(acceptor(cert, key)?),
            None => None,
        };
        let attempt = || format!("cannot listen on {} (embedded exchange)", settings.listen);
        let listener = TcpListener::bind(settings.listen).map_err(|error| {
            Error::new(attempt(), &error).advise(match error.kind() {
                ErrorKind::AddrInUse => {
                    "another process has this port: choose another one with --listen, or port 0 for any that is free"
                }
                ErrorKind::PermissionDenied => "choose a port from 1024 with --listen",
                ErrorKind::AddrNotAvailable => {
                    "--listen takes an address of this machine, such as 127.0.0.1"
                }
                _ => "",
            })
        })?;
        listener
            .set_nonblocking(true)
            .map_err(|error| Error::new(attempt(), error))?;
        let address = listener
            .local_addr()
            .map_err(|error| Error::new(attempt(), error))?;
        Ok(Server {
            listener,
            address,
            acceptor,
            venue,
            connections: Vec::new(),
            accept_told: false,
            tls_told: false,
        })
    }

    /// The address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The WebSocket URL of the WS-API.
    pub fn url(&self) -> String {
        let scheme = if self.acceptor.is_some() { "wss" } else { "ws" };
        format!("{scheme}://{}{PATH}", self.address)
    }

    /// Describes the tape for the log.
    pub(crate) fn wares(&self) -> String {
        self.venue.wares()
    }

    /// The number of connections, in any phase.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Accepts waiting clients and advances every connection by one step. Returns whether anything happened.
    pub fn sweep(&mut self, now: Now) -> bool {
        self.venue.turn(now);
        let mut busy = self.accept(now);
        let Server {
            venue, connections, ..
        } = self;
        let mut failure = None;
        connections.retain_mut(|connection| {
            let step = connection.step(venue, now);
            busy |= step != Progress::Idle;
            if step == Progress::End {
                failure = connection.take_tls_failure().or(failure.take());
            }
            step != Progress::End
        });
        if let Some(why) = failure
            && !self.tls_told
        {
            self.tls_told = true;
            say(
                "exchange",
                format!(
                    "a TLS handshake failed: {why}; if no client succeeds, does --key belong to the first certificate in --cert? further failures are not logged"
                ),
            );
        }
        busy
    }

    fn accept(&mut self, now: Now) -> bool {
        for accepted in 0..ACCEPTS_PER_SWEEP {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if waits(&error) => return accepted > 0,
                Err(error) => {
                    // The peer may have left while it waited. But when file descriptors run out, this fails at every sweep.
                    if !self.accept_told {
                        self.accept_told = true;
                        say(
                            "exchange",
                            format!(
                                "cannot accept a connection: {error}; if too many files are open, raise 'ulimit -n'; further failures are not logged"
                            ),
                        );
                    }
                    return accepted > 0;
                }
            };
            let ready = stream.set_nonblocking(true).and(stream.set_nodelay(true));
            if ready.is_ok() && self.connections.len() < CONNECTIONS_MAX {
                let connection = Connection::new(stream, self.acceptor.as_ref(), now);
                self.connections.push(connection);
            }
        }
        true
    }
}

/// A base that a fault is limited to and that is not played, so that the fault would never happen.
fn unknown_base(venue: &Venue) -> Option<&String> {
    let mut named = venue
        .faults()
        .iter()
        .filter_map(|fault| fault.base.as_ref());
    named.find(|base| !venue.bases().contains(base))
}

fn tape(path: Option<&str>) -> Result<Tape, Error> {
    let Some(path) = path else {
        return Ok(Tape::built_in());
    };
    let attempt = format!("cannot read the price tape {path}");
    let bytes = files::read(path, TAPE_BYTES_MAX, &attempt)?;
    let text = files::text(bytes).map_err(|why| Error::new(&attempt, why))?;
    // Spreadsheets begin a text with a byte order mark.
    Tape::parse(text.trim_start_matches('\u{feff}')).map_err(|bad| {
        Error::new(attempt, format!("line {}: {}", bad.line, bad.wrong))
            .advise("src/embedded/tape.csv in the source code is an example of the format")
    })
}
