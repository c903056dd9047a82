//! One open websocket: requests in, answers and faults out.
//!
//! Invariant: a step never blocks and never does more than a bounded amount of work, so one connection cannot
//! starve the others. While what was written does not leave, nothing more is read: a slow reader holds up itself,
//! and what is kept for it stays bounded.
//! What this module does not do: tell a peer why it is dropped, unless Binance would.

use super::answer::{GARBAGE, Scene, reply, too_many};
use super::fault::{Deed, Plan};
use super::request::Request;
use super::upgrade::Wishes;
use super::venue::{Now, Venue};
use crate::exchange::channel::Channel;
use crate::limits::{HANDSHAKE_MS_MAX, MESSAGE_BYTES_MAX};
use crate::net::waits;
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

/// Messages read from one connection before the others get their turn.
const READS_PER_STEP: usize = 16;
/// Answers of one connection that wait for their time or their pong; one more costs it the connection.
const HELD_MAX: usize = 1024;
/// What may wait for a slow reader, in bytes.
const WRITE_BUFFER_BYTES_MAX: usize = 1024 * 1024;
/// Binance pings this often (web-socket-api.md) ...
const PING_S: u64 = 20;
/// ... and drops a client that has not answered a ping for this long.
const PONG_S_MAX: u64 = 60;

/// Length of the message of the fault `large`.
const LARGE_BYTES: u64 = 20_000_000;
/// Its frame's header (RFC 6455, 5.2): final, text, not masked, 64 bits of length.
const LARGE_HEADER: [u8; 10] = {
    let l = LARGE_BYTES.to_be_bytes();
    [0x81, 127, l[0], l[1], l[2], l[3], l[4], l[5], l[6], l[7]]
};
/// What it is filled with, a piece at a time: the 20 MB are never in memory.
static LARGE_FILL: [u8; 16 * 1024] = [b'x'; 16 * 1024];
/// Pieces of it written in one step.
const LARGE_PIECES_PER_STEP: usize = 64;

/// What became of a connection in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing to do.
    Idle,
    /// Something was read or written.
    Busy,
    /// It is over.
    End,
}

/// An open websocket.
pub struct Talk {
    ws: WebSocket<Channel<TcpStream>>,
    wishes: Wishes,
    /// Requests so far.
    requests: u64,
    held: Vec<Held>,
    /// It will never answer again.
    hung: bool,
    /// Bytes of the large message that have left.
    large: Option<u64>,
    /// Something written has not left yet.
    unsent: bool,
    /// The peer has until then to answer our close.
    closing: Option<Instant>,
    next_ping: Instant,
    last_pong: Instant,
}

/// An answer that waits.
struct Held {
    due: Instant,
    /// The payload that must come back in a pong first.
    echo: Option<Vec<u8>>,
    act: Act,
}

enum Act {
    Text(String),
    /// And then close, as a banned client experiences it.
    LastText(String),
    Large,
    Drop,
}

impl Talk {
    /// Begins after the upgrade; `rest` came behind the head.
    pub fn new(stream: Channel<TcpStream>, rest: Vec<u8>, wishes: Wishes, now: Now) -> Talk {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX))
            .read_buffer_size(16 * 1024)
            .write_buffer_size(0)
            .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX);
        Talk {
            ws: WebSocket::from_partially_read(stream, rest, Role::Server, Some(config)),
            wishes,
            requests: 0,
            held: Vec::new(),
            hung: false,
            large: None,
            unsent: false,
            closing: None,
            next_ping: now.at + Duration::from_secs(PING_S),
            last_pong: now.at,
        }
    }

    /// Does what can be done without waiting.
    pub fn step(&mut self, venue: &mut Venue, now: Now) -> Step {
        match self.try_step(venue, now) {
            Ok(true) => Step::Busy,
            Ok(false) => Step::Idle,
            // Whatever went wrong: the peer left, or broke the protocol, or is to be dropped.
            Err(_) => Step::End,
        }
    }

    fn try_step(&mut self, venue: &mut Venue, now: Now) -> Result<bool, Error> {
        let silent = now.at.saturating_duration_since(self.last_pong);
        let overdue = self.closing.is_some_and(|until| now.at >= until);
        if overdue || silent > Duration::from_secs(PING_S + PONG_S_MAX) {
            return Err(Error::ConnectionClosed);
        }
        if self.unsent {
            self.unsent = false;
            self.ws.flush().or_else(|error| self.later(error))?;
            if self.unsent {
                return Ok(false);
            }
        }
        if self.large.is_some() {
            return self.push_large();
        }
        if now.at >= self.next_ping && self.closing.is_none() {
            self.next_ping = now.at + Duration::from_secs(PING_S);
            self.send(Message::Ping(
                (now.unix_us / 1000).to_string().into_bytes().into(),
            ))?;
        }
        let read = self.read(venue, now)?;
        let released = self.release(now)?;
        Ok(read || released)
    }

    fn read(&mut self, venue: &mut Venue, now: Now) -> Result<bool, Error> {
        for taken in 0..READS_PER_STEP {
            if self.unsent || self.large.is_some() {
                return Ok(true);
            }
            match self.ws.read() {
                Ok(Message::Text(text)) => self.take(text.as_str(), venue, now)?,
                Ok(Message::Pong(payload)) => self.pong(&payload, now),
                // Requests are text frames (web-socket-api.md).
                Ok(Message::Binary(_)) => self.close(CloseCode::Unsupported, "text only", now)?,
                // tungstenite answers pings and closes; the next read or flush sends what it answers.
                Ok(Message::Ping(_) | Message::Close(_) | Message::Frame(_)) => {}
                Err(Error::Io(error)) if waits(&error) => return Ok(taken > 0),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn pong(&mut self, payload: &[u8], now: Now) {
        self.last_pong = now.at;
        let echoed = |held: &Held| held.echo.as_deref() == Some(payload);
        if let Some(at) = self.held.iter().position(echoed) {
            // A pong answers its ping and may stand for all before it (RFC 6455, 5.5.3).
            for held in self.held.iter_mut().take(at + 1) {
                held.echo = None;
            }
        }
    }

    /// One request.
    fn take(&mut self, text: &str, venue: &mut Venue, now: Now) -> Result<(), Error> {
        if self.hung || self.closing.is_some() {
            return Ok(());
        }
        self.requests += 1;
        let request = Request::read(text);
        let weight_used = venue.spend(request.weight(), now);
        let plan = Plan::of(venue.faults(), self.requests);
        let scene = Scene {
            symbol: venue.symbol(),
            price: venue.price(now),
            unix_us: now.unix_us,
            micros: self.wishes.micros,
            rate_limits: self.wishes.rate_limits,
            weight_used,
        };
        let act = match plan.deed {
            Deed::Hang => {
                self.hung = true;
                return Ok(());
            }
            Deed::Answer => Act::Text(reply(&request, &scene, &plan.lie)),
            Deed::Garbage => Act::Text(GARBAGE.to_owned()),
            Deed::Status { code, retry_us } => {
                let text = too_many(&request, &scene, &plan.lie, code, retry_us);
                match code {
                    418 => Act::LastText(text),
                    _ => Act::Text(text),
                }
            }
            Deed::Large => Act::Large,
            Deed::Drop => Act::Drop,
        };
        if !plan.ping && plan.delay_us == 0 {
            return self.act(act, now);
        }
        if self.held.len() >= HELD_MAX {
            return Err(Error::ConnectionClosed);
        }
        let echo = plan.ping.then(|| self.riddle(now));
        if let Some(payload) = &echo {
            self.send(Message::Ping(payload.clone().into()))?;
        }
        // A time that the clock cannot express never comes: then there is no answer.
        if let Some(due) = now.at.checked_add(Duration::from_micros(plan.delay_us)) {
            self.held.push(Held { due, echo, act });
        }
        Ok(())
    }

    /// A payload that no client can know beforehand by habit, and that no two pings of a connection share.
    fn riddle(&self, now: Now) -> Vec<u8> {
        let mixed = now.unix_us.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.requests.rotate_left(32);
        format!("{mixed:016x}{:x}", self.requests).into_bytes()
    }

    /// Gives the answers whose time has come.
    fn release(&mut self, now: Now) -> Result<bool, Error> {
        let mut released = false;
        let mut at = 0;
        while at < self.held.len() && self.large.is_none() && self.closing.is_none() {
            if self.held[at].echo.is_none() && self.held[at].due <= now.at {
                let held = self.held.remove(at);
                self.act(held.act, now)?;
                released = true;
            } else {
                at += 1;
            }
        }
        Ok(released)
    }

    fn act(&mut self, act: Act, now: Now) -> Result<(), Error> {
        match act {
            Act::Text(text) => self.send(Message::text(text)),
            Act::LastText(text) => {
                self.send(Message::text(text))?;
                // Seen on the wire when Binance disconnects.
                self.close(CloseCode::Policy, "disconnected", now)
            }
            Act::Large => {
                // Its bytes go around the codec, so what the codec still holds must leave first.
                (self.large, self.unsent) = (Some(0), true);
                Ok(())
            }
            Act::Drop => Err(Error::ConnectionClosed),
        }
    }

    fn send(&mut self, message: Message) -> Result<(), Error> {
        self.ws.send(message).or_else(|error| self.later(error))
    }

    fn close(&mut self, code: CloseCode, reason: &'static str, now: Now) -> Result<(), Error> {
        self.closing = Some(now.at + Duration::from_millis(HANDSHAKE_MS_MAX));
        let frame = CloseFrame {
            code,
            reason: reason.into(),
        };
        self.ws
            .close(Some(frame))
            .or_else(|error| self.later(error))
    }

    /// A write that would block has been kept by the codec and is flushed later; sending again would double it.
    fn later(&mut self, error: Error) -> Result<(), Error> {
        match error {
            Error::Io(error) if waits(&error) => {
                self.unsent = true;
                Ok(())
            }
            error => Err(error),
        }
    }

    /// Writes a bounded part of the large message.
    fn push_large(&mut self) -> Result<bool, Error> {
        let end = LARGE_HEADER.len() as u64 + LARGE_BYTES;
        let mut wrote = false;
        for _ in 0..LARGE_PIECES_PER_STEP {
            let sent = match self.large {
                Some(sent) if sent < end => sent,
                _ => {
                    self.large = None;
                    return Ok(true);
                }
            };
            let header_left = LARGE_HEADER.get(sent as usize..).filter(|h| !h.is_empty());
            let fill_left = (end - sent).min(LARGE_FILL.len() as u64) as usize;
            // The same place gives the same piece: TLS wants a blocked write to be repeated unchanged.
            let piece = header_left.unwrap_or(&LARGE_FILL[..fill_left]);
            match self.ws.get_mut().write(piece) {
                Ok(0) => return Err(Error::ConnectionClosed),
                Ok(n) => self.large = Some(sent + n as u64),
                Err(error) if waits(&error) => return Ok(wrote),
                Err(error) => return Err(error.into()),
            }
            wrote = true;
        }
        Ok(true)
    }
}
