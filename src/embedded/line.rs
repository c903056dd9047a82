//! One open websocket, whatever is spoken on it: what is said leaves when it can, at its time, or as a fault has it.
//!
//! Invariant: nothing here blocks or does more than a bounded amount of work at once, so one connection cannot starve the
//! others. While what was written does not leave, nothing more is read: a slow reader holds up itself, and what is kept for
//! it stays bounded.
//! What this module does not do: know what is said.

use super::binance::answer::GARBAGE;
use super::fault::{Deed, Plan};
use super::venue::Now;
use crate::exchange::channel::Channel;
use crate::system::limits::{HANDSHAKE_MS_MAX, MESSAGE_BYTES_MAX};
use crate::system::net::waits;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

/// Answers of one connection that wait for their time or their pong; one more costs it the connection.
const HELD_MAX: usize = 1024;
/// What is gathered before it is written, in bytes; all is written at the end of a step.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;
/// What may wait for a slow reader, in bytes.
const WRITE_BUFFER_BYTES_MAX: usize = 1024 * 1024;
/// From the notice that a connection will end to its end.
const NOTICE_S: u64 = 1;

/// Length of the message of the fault `large`.
const LARGE_BYTES: u64 = 20_000_000;
/// Its frame's header (RFC 6455, 5.2): final, text, not masked, 64 bits of length.
const LARGE_HEADER: [u8; 10] = {
    let l = LARGE_BYTES.to_be_bytes();
    [0x81, 127, l[0], l[1], l[2], l[3], l[4], l[5], l[6], l[7]]
};
/// What it is filled with, a piece at a time: the 20 MB are never in memory.
static LARGE_FILL: [u8; 16 * 1024] = [b'x'; 16 * 1024];
/// Pieces of it written in one step, or reads of a peer that is not listened to.
const PIECES_PER_STEP: usize = 64;

/// How often a ping frame is due, and how long its pong is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Pings {
    /// From one to the next.
    pub every: Duration,
    /// From a ping to the end of the connection.
    pub limit: Duration,
}

/// What came.
pub enum Heard {
    /// A message.
    Text(String),
    /// A sign of life.
    Sign,
    /// Nothing, or nothing that is listened to now.
    Nothing,
}

/// What is done when it is time for an answer.
pub enum Act {
    /// This is said.
    Text(String),
    /// This is said, and then the connection is closed, as a banned client experiences it.
    LastText(String),
    /// This is said, and a second later the connection is closed.
    Notice(String),
    /// The connection is closed with this code.
    Close(CloseCode),
    /// The message of 20 MB is sent.
    Large,
    /// The connection is dropped.
    Drop,
    /// Nothing is done from now on.
    Hang,
}

impl Act {
    /// What all dialects do alike. Deeds that they do not have in common are none here: the answer is given.
    pub fn of(deed: Deed, answer: impl FnOnce() -> String) -> Act {
        match deed {
            Deed::Hang => Act::Hang,
            Deed::Garbage => Act::Text(GARBAGE.to_owned()),
            Deed::Large => Act::Large,
            Deed::Drop => Act::Drop,
            _ => Act::Text(answer()),
        }
    }
}

/// An act that waits.
struct Held {
    due: Instant,
    /// The payload that must come back in a pong first.
    echo: Option<Vec<u8>>,
    act: Act,
}

/// An open websocket.
pub struct Line {
    ws: WebSocket<Channel<TcpStream>>,
    pings: Option<Pings>,
    held: Vec<Held>,
    /// Pings of the fault `ping` so far.
    riddles: u64,
    /// It will never say anything again.
    hung: bool,
    /// Bytes of the large message that have left.
    large: Option<u64>,
    /// Something written has not left yet.
    unsent: bool,
    /// It is closed then.
    leaves: Option<Instant>,
    /// The peer has until then to answer our close.
    closing: Option<Instant>,
    next_ping: Instant,
    last_pong: Instant,
    heard: Instant,
}

impl Line {
    /// Begins after the upgrade; `rest` came behind the head.
    pub fn new(stream: Channel<TcpStream>, rest: Vec<u8>, pings: Option<Pings>, now: Now) -> Line {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX))
            .read_buffer_size(16 * 1024)
            .write_buffer_size(WRITE_BUFFER_BYTES)
            .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX);
        Line {
            ws: WebSocket::from_partially_read(stream, rest, Role::Server, Some(config)),
            pings,
            held: Vec::new(),
            riddles: 0,
            hung: false,
            large: None,
            unsent: false,
            leaves: None,
            closing: None,
            next_ping: now.at + pings.map_or(Duration::ZERO, |pings| pings.every),
            last_pong: now.at,
            heard: now.at,
        }
    }

    /// When anything came from the client last.
    pub fn heard(&self) -> Instant {
        self.heard
    }

    /// Whether there is anyone to say something to, who can take it now.
    pub fn is_free(&self) -> bool {
        let busy = self.unsent || self.large.is_some() || self.hung;
        !busy && self.closing.is_none()
    }

    /// What comes before all else in a step. It breaks, with whether anything happened, when nothing else may happen now.
    pub fn tend(&mut self, now: Now) -> Result<ControlFlow<bool>, Error> {
        if self.hung {
            return self.ignore().map(ControlFlow::Break);
        }
        let silent = now.at.saturating_duration_since(self.last_pong);
        let dead = |pings: Pings| silent > pings.every + pings.limit;
        let overdue = self.closing.is_some_and(|until| now.at >= until);
        if overdue || self.pings.is_some_and(dead) {
            return Err(Error::ConnectionClosed);
        }
        if self.unsent {
            self.unsent = false;
            self.flush()?;
            if self.unsent {
                return Ok(ControlFlow::Break(false));
            }
        }
        if self.large.is_some() {
            return self.push_large().map(ControlFlow::Break);
        }
        if self.leaves.is_some_and(|at| now.at >= at) {
            self.leaves = None;
            self.close(CloseCode::Restart, "service restart", now)?;
        }
        if let Some(pings) = self.pings
            && now.at >= self.next_ping
            && self.closing.is_none()
        {
            self.next_ping = now.at + pings.every;
            let payload = (now.unix_us / 1000).to_string().into_bytes();
            self.write(Message::Ping(payload.into()))?;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The next thing that came.
    pub fn hear(&mut self, now: Now) -> Result<Heard, Error> {
        if self.unsent || self.large.is_some() || self.hung {
            return Ok(Heard::Nothing);
        }
        let message = match self.ws.read() {
            Err(Error::Io(error)) if waits(&error) => return Ok(Heard::Nothing),
            message => message?,
        };
        self.heard = now.at;
        match message {
            Message::Text(text) if self.closing.is_none() => {
                return Ok(Heard::Text(text.as_str().to_owned()));
            }
            // All dialects are text frames.
            Message::Binary(_) => self.close(CloseCode::Unsupported, "text only", now)?,
            Message::Pong(payload) => self.pong(&payload, now),
            // tungstenite answers pings and closes; the next read or flush sends what it answers.
            _ => {}
        }
        Ok(Heard::Sign)
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

    /// Does something, when and how the plan has it.
    pub fn carry_out(&mut self, plan: &Plan, act: Act, now: Now) -> Result<(), Error> {
        if !plan.ping && plan.delay_us == 0 {
            return self.act(act, now);
        }
        if self.held.len() >= HELD_MAX {
            return Err(Error::ConnectionClosed);
        }
        let echo = plan.ping.then(|| self.riddle(now));
        if let Some(payload) = &echo {
            self.write(Message::Ping(payload.clone().into()))?;
        }
        // A time that the clock cannot express never comes: then it is never done.
        if let Some(due) = now.at.checked_add(Duration::from_micros(plan.delay_us)) {
            self.held.push(Held { due, echo, act });
        }
        Ok(())
    }

    /// A payload that no client can know beforehand by habit, and that no two pings of a connection share.
    fn riddle(&mut self, now: Now) -> Vec<u8> {
        self.riddles += 1;
        let mixed = now.unix_us.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.riddles.rotate_left(32);
        format!("{mixed:016x}{:x}", self.riddles).into_bytes()
    }

    /// Does what waited for this time.
    pub fn release(&mut self, now: Now) -> Result<bool, Error> {
        let mut released = false;
        let mut at = 0;
        while at < self.held.len() && self.is_free() {
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
            Act::Text(text) => self.say(text),
            Act::LastText(text) => {
                self.say(text)?;
                // Seen on the wire when Binance disconnects.
                self.close(CloseCode::Policy, "disconnected", now)
            }
            Act::Notice(text) => {
                let leaves = now.at + Duration::from_secs(NOTICE_S);
                self.leaves.get_or_insert(leaves);
                self.say(text)
            }
            Act::Close(code) => self.close(code, "", now),
            Act::Large => {
                // Its bytes go around the codec, so what the codec still holds must leave first.
                (self.large, self.unsent) = (Some(0), true);
                Ok(())
            }
            Act::Drop => {
                self.flush()?;
                Err(Error::ConnectionClosed)
            }
            Act::Hang => {
                self.hung = true;
                self.flush()
            }
        }
    }

    /// Says something; it leaves at the end of the step at the latest.
    pub fn say(&mut self, text: String) -> Result<(), Error> {
        self.write(Message::text(text))
    }

    fn write(&mut self, message: Message) -> Result<(), Error> {
        self.ws.write(message).or_else(|error| self.later(error))
    }

    /// Sends what was said.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.ws.flush().or_else(|error| self.later(error))
    }

    /// Closes the connection and says why.
    pub fn close(&mut self, code: CloseCode, reason: &'static str, now: Now) -> Result<(), Error> {
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

    /// Throws away what comes, and so answers nothing at all: not even a ping. It ends when the peer leaves.
    fn ignore(&mut self) -> Result<bool, Error> {
        let mut buffer = [0; 2048];
        for _ in 0..PIECES_PER_STEP {
            match self.ws.get_mut().read(&mut buffer) {
                Ok(0) => return Err(Error::ConnectionClosed),
                Ok(_) => {}
                Err(error) if waits(&error) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// Writes a bounded part of the large message.
    fn push_large(&mut self) -> Result<bool, Error> {
        let end = LARGE_HEADER.len() as u64 + LARGE_BYTES;
        let mut wrote = false;
        for _ in 0..PIECES_PER_STEP {
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
