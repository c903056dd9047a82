//! One accepted connection until it ends: TLS handshake, head of the HTTP request, response, WebSocket.
//!
//! Invariant: a step never blocks, and every stage before the WebSocket has a deadline, so a silent client holds its place
//! for five seconds at most. `upgrade` and `talk` speak the protocols.

use super::talk::{Progress, Talk};
use super::upgrade::{self, Response, Service};
use super::venue::{Now, Venue};
use crate::exchange::limits::HTTP_HEAD_BYTES_MAX;
use crate::system::channel::Channel;
use crate::system::inbox::waits;
use crate::system::limits::HANDSHAKE_MS_MAX;
use native_tls::{HandshakeError, MidHandshakeTlsStream, TlsAcceptor, TlsStream};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// Most reads per step from a refused peer, whose data is discarded.
const LINGER_READS_PER_STEP: usize = 16;

enum Stage {
    /// The TLS handshake.
    Handshake(MidHandshakeTlsStream<TcpStream>),
    /// The part of the HTTP request's head that has arrived.
    Head(Channel<TcpStream>, Vec<u8>),
    /// The HTTP response is being sent. Then the WebSocket opens, or the connection ends.
    Answering {
        stream: Channel<TcpStream>,
        bytes: Vec<u8>,
        sent: usize,
        opens: Option<Service>,
        rest: Vec<u8>,
    },
    /// Refused. Whatever still arrives is discarded until the peer closes: unread data would make the system send a reset,
    /// which could overtake the refusal.
    Leaving(Channel<TcpStream>),
    /// The WebSocket is open.
    Open(Box<Talk>),
    /// The connection has ended.
    Over,
}

/// One accepted connection.
pub struct Connection {
    stage: Stage,
    /// The end of the current stage at the latest; an open WebSocket has no such deadline.
    deadline: Instant,
    /// Why the TLS handshake failed, until [`Connection::take_tls_failure`] takes it.
    tls_failure: Option<String>,
}

impl Connection {
    /// Takes over an accepted, non-blocking connection.
    pub fn new(stream: TcpStream, acceptor: Option<&TlsAcceptor>, now: Now) -> Connection {
        let mut connection = Connection {
            stage: Stage::Over,
            deadline: deadline(now),
            tls_failure: None,
        };
        connection.stage = match acceptor {
            None => Stage::Head(Channel::Plain(stream), Vec::new()),
            Some(acceptor) => connection.shaken(acceptor.accept(stream)),
        };
        connection
    }

    /// Returns why the TLS handshake failed, the first time that it is called.
    pub(crate) fn take_tls_failure(&mut self) -> Option<String> {
        self.tls_failure.take()
    }

    /// Does everything that is possible without waiting.
    pub fn step(&mut self, venue: &mut Venue, now: Now) -> Progress {
        if let Stage::Open(talk) = &mut self.stage {
            return talk.step(venue, now);
        }
        if now.at >= self.deadline {
            return Progress::End;
        }
        let (stage, moved) = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Handshake(mid) => {
                let stage = self.shaken(mid.handshake());
                let moved = !matches!(stage, Stage::Handshake(_));
                (stage, moved)
            }
            Stage::Head(stream, bytes) => read_head(stream, bytes, venue, now),
            Stage::Answering {
                mut stream,
                bytes,
                sent,
                opens,
                rest,
            } => match write_some(&mut stream, &bytes, sent) {
                None => (Stage::Over, true),
                Some(sent) if sent < bytes.len() => (
                    Stage::Answering {
                        stream,
                        bytes,
                        sent,
                        opens,
                        rest,
                    },
                    false,
                ),
                Some(_) => (after_response(stream, opens, rest, venue, now), true),
            },
            Stage::Leaving(stream) => see_off(stream),
            other => (other, false),
        };
        if moved {
            self.deadline = deadline(now);
        }
        self.stage = stage;
        match (&self.stage, moved) {
            (Stage::Over, _) => Progress::End,
            (_, true) => Progress::Busy,
            (_, false) => Progress::Idle,
        }
    }

    fn shaken(&mut self, result: Result<TlsStream<TcpStream>, HandshakeError<TcpStream>>) -> Stage {
        match result {
            Ok(stream) => Stage::Head(Channel::Tls(Box::new(stream)), Vec::new()),
            Err(HandshakeError::WouldBlock(mid)) => Stage::Handshake(mid),
            Err(HandshakeError::Failure(error)) => {
                self.tls_failure = Some(error.to_string());
                Stage::Over
            }
        }
    }
}

fn deadline(now: Now) -> Instant {
    now.at + Duration::from_millis(HANDSHAKE_MS_MAX)
}

/// Reads what has arrived of the head, and prepares the response once the head is complete. Returns whether the stage has
/// changed: a head that trickles in does not extend its deadline.
fn read_head(
    mut stream: Channel<TcpStream>,
    mut bytes: Vec<u8>,
    venue: &mut Venue,
    now: Now,
) -> (Stage, bool) {
    let mut buffer = [0; 2048];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (Stage::Over, true),
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            Err(error) if waits(&error) => return (Stage::Head(stream, bytes), false),
            Err(_) => return (Stage::Over, true),
        }
        let (response, rest) = match upgrade::head_length(&bytes) {
            Some(length) if length <= HTTP_HEAD_BYTES_MAX => {
                let rest = bytes.split_off(length);
                let unix_ms = now.unix_us / 1000;
                (upgrade::respond(&bytes, venue.faults(), unix_ms), rest)
            }
            None if bytes.len() < HTTP_HEAD_BYTES_MAX => continue,
            _ => (upgrade::too_long(), Vec::new()),
        };
        let Response { bytes, opens } = response;
        let answering = Stage::Answering {
            stream,
            bytes,
            sent: 0,
            opens,
            rest,
        };
        return (answering, true);
    }
}

/// Writes as much as possible without waiting. Returns how many bytes are sent by now; `None` if the connection is gone.
fn write_some(stream: &mut Channel<TcpStream>, bytes: &[u8], mut sent: usize) -> Option<usize> {
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(0) => return None,
            Ok(n) => sent += n,
            Err(error) if waits(&error) => break,
            Err(_) => return None,
        }
    }
    Some(sent)
}

fn after_response(
    mut stream: Channel<TcpStream>,
    opens: Option<Service>,
    rest: Vec<u8>,
    venue: &mut Venue,
    now: Now,
) -> Stage {
    match opens {
        Some(service) => Stage::Open(Box::new(Talk::new(stream, rest, service, venue, now))),
        None => {
            finish(&mut stream);
            Stage::Leaving(stream)
        }
    }
}

/// Shuts down the sending side. Errors are ignored, since the peer may already be gone.
fn finish(stream: &mut Channel<TcpStream>) {
    if let Channel::Tls(tls) = stream {
        let _ = tls.shutdown();
    }
    let _ = stream.inner().shutdown(Shutdown::Write);
}

fn see_off(mut stream: Channel<TcpStream>) -> (Stage, bool) {
    let mut buffer = [0; 2048];
    for _ in 0..LINGER_READS_PER_STEP {
        match stream.read(&mut buffer) {
            Ok(0) => return (Stage::Over, true),
            Ok(_) => {}
            Err(error) if waits(&error) => break,
            Err(_) => return (Stage::Over, true),
        }
    }
    (Stage::Leaving(stream), false)
}
