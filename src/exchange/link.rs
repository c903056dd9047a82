//! One WebSocket connection to an exchange, with or without TLS. The content of messages is read elsewhere.
//!
//! Invariant: each phase of opening has its own timeout. While opening waits, it calls the caller's `look` every slice, so
//! that the caller can do other things or give up. A message larger than 64 KiB, or any protocol error, ends the connection.
//! Pings are answered as they are read.

mod probe;

use super::dial::dial;
use super::http::{Unopened, upgrade};
use super::roots::Trust;
use crate::exchange::limits::{MESSAGE_BYTES_MAX, UPGRADE_MS_MAX};
use crate::exchange::proxy::Proxies;
use crate::system::channel::Channel;
use crate::system::endpoint::Endpoint;
use crate::system::inbox::waits;
use crate::system::net::{Gate, Look, Patience, Phase};
use crate::system::resolve::Addresses;
use rsoracle_proof::reason::Miss;
use std::time::Instant;
use tungstenite::{Message, Utf8Bytes, WebSocket};

/// Most frames read in one call of [`Link::receive`] before it returns.
const MESSAGES_PER_DRAIN: usize = 64;

/// Why the connection ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// The reason to record for the samples that wait for an answer.
    pub miss: Miss,
    /// The text for the log.
    pub text: String,
}

/// An open WebSocket connection to an exchange.
pub struct Link {
    ws: WebSocket<Channel<Gate>>,
    /// When the last frame arrived, pings and pongs included.
    heard_at: Instant,
    /// When the pong to the last ping of [`probe`] was read.
    ponged_at: Option<Instant>,
    /// By how many microseconds this machine's clock was ahead of the exchange's, if the answer that opened it had the time.
    pub(super) ahead_us: Option<i64>,
}

impl Link {
    /// Resolves the name, connects (through a proxy, if there is one), makes the TLS handshake and the WebSocket upgrade. Gives
    /// up at `deadline` at the latest. `addresses` are those of the endpoint's host or, if it is reached through one, the
    /// proxy's.
    pub fn open(
        endpoint: &Endpoint,
        tls: Option<&mut Trust>,
        proxies: &Proxies,
        addresses: &mut Addresses,
        deadline: Instant,
        look: Look,
    ) -> Result<Link, Unopened> {
        let channel = dial(endpoint, tls, proxies, addresses, deadline, look)?;
        let (ws, ahead_us) = upgrade(endpoint, channel, deadline, look)?;
        Ok(Link {
            ws,
            ahead_us,
            heard_at: Instant::now(),
            ponged_at: None,
        })
    }

    /// When the last frame arrived, pings and pongs included, or else when the connection was opened.
    pub(crate) fn heard_at(&self) -> Instant {
        self.heard_at
    }

    /// The last time at which the connection had nothing to read. Whatever was received since then arrived later.
    pub(crate) fn dry_at(&mut self) -> Instant {
        self.ws.get_mut().inner().dry_at()
    }

    /// Encrypts requests now; [`Link::fire`] sends them.
    pub(crate) fn prepare(
        &mut self,
        requests: impl IntoIterator<Item = String>,
    ) -> Result<(), Ended> {
        self.ws.get_mut().inner().shut();
        let mut requests = requests.into_iter();
        requests.try_for_each(|request| self.ws.send(Message::text(request)).map_err(ended))
    }

    /// Hands the prepared requests to the system in one write.
    pub(crate) fn fire(&mut self) -> Result<(), Ended> {
        let gate = self.ws.get_mut().inner();
        let opened = gate.open(Patience::Never);
        opened.map_err(|error| ended(error.into()))
    }

    /// Sends requests that need not leave at once, until `deadline` at the latest.
    pub(super) fn send_all(
        &mut self,
        requests: Vec<String>,
        deadline: Instant,
        look: Look,
    ) -> Result<(), Ended> {
        self.prepare(requests)?;
        let phase = Phase::new(deadline, UPGRADE_MS_MAX);
        loop {
            match self.ws.get_mut().inner().open(phase.slice()) {
                Err(error) if waits(&error) && !phase.is_over() && look().is_ok() => {}
                opened => return opened.map_err(|error| ended(error.into())),
            }
        }
    }

    /// Sends a request at once.
    pub fn send(&mut self, request: String) -> Result<(), Ended> {
        self.prepare([request])?;
        self.fire()
    }

    /// Reads the next message; `None` if none has come by the end of `patience`.
    pub fn receive(&mut self, patience: Patience) -> Result<Option<Utf8Bytes>, Ended> {
        let gate = self.ws.get_mut().inner();
        gate.set_budget(2 * MESSAGE_BYTES_MAX);
        gate.set_patience(patience)
            .map_err(|error| ended(error.into()))?;
        for _ in 0..MESSAGES_PER_DRAIN {
            let read = self.ws.read();
            if read.is_ok() {
                self.heard_at = Instant::now();
            }
            match read {
                Ok(Message::Text(text)) => return Ok(Some(text)),
                Ok(Message::Binary(_)) => return Ok(Some("(binary)".into())),
                Ok(Message::Close(frame)) => {
                    let why =
                        frame.map_or(String::new(), |f| format!(" ({} {})", f.code, f.reason));
                    return Err(Ended {
                        miss: Miss::Disconnected,
                        text: format!("the exchange closed the connection{why}"),
                    });
                }
                Ok(Message::Pong(_)) => self.ponged_at = Some(self.heard_at),
                // The pong is prepared now, but without a flush only the next write would send it.
                Ok(_) => match self.ws.flush() {
                    Err(tungstenite::Error::Io(error)) if waits(&error) => return Ok(None),
                    other => other.map_err(ended)?,
                },
                Err(tungstenite::Error::Io(error)) if waits(&error) => return Ok(None),
                Err(error) => return Err(ended(error)),
            }
        }
        Ok(None)
    }
}

fn ended(error: tungstenite::Error) -> Ended {
    let miss = match &error {
        tungstenite::Error::Capacity(_) => Miss::TooLarge,
        _ => Miss::Disconnected,
    };
    Ended {
        miss,
        text: format!("the connection to the exchange failed: {error}"),
    }
}
