//! The transport of one open WebSocket: pings, delays, and the faults that are about bytes instead of content.
//!
//! Invariant: nothing here blocks or does more than a bounded amount of work at once, so one connection cannot starve the
//! others. While written data waits to be sent, nothing more is read: a slow reader delays only itself, and what is buffered
//! for it stays bounded. The content of messages is decided elsewhere.

use super::binance::answer::GARBAGE;
use super::fault::{Deed, Plan};
use super::venue::Now;
use crate::system::channel::Channel;
use crate::system::inbox::waits;
use crate::system::limits::{HANDSHAKE_MS_MAX, MESSAGE_BYTES_MAX};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

/// Most answers of one connection that may wait for their time or their pong. One more, and the connection is dropped.
const HELD_MAX: usize = 1024;
/// Bytes that are gathered before they are written. At the end of a step everything is written.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;
/// Most bytes that may wait for a slow reader. If there are more, the connection is dropped.
const WRITE_BUFFER_BYTES_MAX: usize = 1024 * 1024;
/// Seconds from the notice that a connection will be closed until it is closed.
const NOTICE_S: u64 = 1;

/// Length of the message of the fault `large`, in bytes.
const LARGE_BYTES: u64 = 20_000_000;
/// The header of that message's frame (RFC 6455, section 5.2): final, text, not masked, length in 64 bits.
const LARGE_HEADER: [u8; 10] = {
    let l = LARGE_BYTES.to_be_bytes();
    [0x81, 127, l[0], l[1], l[2], l[3], l[4], l[5], l[6], l[7]]
};
/// The content of that message, sent piece by piece: the 20 MB are never in memory.
static LARGE_FILL: [u8; 16 * 1024] = [b'x'; 16 * 1024];
/// Most pieces of that message written in one step, and most reads in one step from a peer that is ignored.
const PIECES_PER_STEP: usize = 64;

/// How often ping frames are sent, and the timeout of their pongs.
#[derive(Clone, Copy, Debug)]
pub struct Pings {
    /// From one ping to the next.
    pub every: Duration,
    /// From a ping that gets no pong to the end of the connection.
    pub limit: Duration,
}

/// What was read.
pub enum Heard {
    /// A text message.
    Text(String),
    /// A frame without text, such as a pong.
    Sign,
    /// Nothing has arrived, or nothing is read now.
    Nothing,
}

/// What to do when an answer is due.
pub enum Act {
    /// Send this text.
    Text(String),
    /// Send this text and then close the connection, as Binance does with a banned client.
    LastText(String),
    /// Send this text and close the connection a second later.
    Notice(String),
    /// Close the connection with this code.
    Close(CloseCode),
    /// Send a message of 20 MB.
    Large,
    /// Drop the connection.
    Drop,
    /// Do nothing from now on.
    Hang,
}

impl Act {
    /// The act for a deed that all dialects do alike. For any other deed it is the plain answer: the caller handles those
    /// deeds first.
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

/// An act that waits for its time or for a pong.
struct Held {
    due: Instant,
    /// The payload that a pong must bring back first.
    echo: Option<Vec<u8>>,
    act: Act,
}

/// An open WebSocket.
pub struct OpenSocket {
    ws: WebSocket<Channel<TcpStream>>,
    pings: Option<Pings>,
    held: Vec<Held>,
    /// The number of pings that the fault `ping` has sent so far.
    fault_pings: u64,
    /// Whether the connection hangs: it never sends anything again.
    hung: bool,
    /// The number of bytes of the large message sent so far; `None` if none is being sent.
    large: Option<u64>,
    /// Whether written data still waits to be sent.
    unsent: bool,
    /// When to close the connection, after its end was announced.
    leaves: Option<Instant>,
    /// Deadline of the peer's answer to our close frame.
    closing: Option<Instant>,
    next_ping: Instant,
    last_pong: Instant,
    heard: Instant,
}

impl OpenSocket {
    /// Starts after the upgrade. `rest` is what the client sent after the head of its request.
    pub fn new(
        stream: Channel<TcpStream>,
        rest: Vec<u8>,
        pings: Option<Pings>,
        now: Now,
    ) -> OpenSocket {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX))
            .read_buffer_size(16 * 1024)
            .write_buffer_size(WRITE_BUFFER_BYTES)
            .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX);
        OpenSocket {
            ws: WebSocket::from_partially_read(stream, rest, Role::Server, Some(config)),
            pings,
            held: Vec::new(),
            fault_pings: 0,
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

    /// When the last frame came from the client.
    pub fn heard(&self) -> Instant {
        self.heard
    }

    /// Whether the connection is open and can take a message now.
    pub(crate) fn is_free(&self) -> bool {
        let busy = self.unsent || self.large.is_some() || self.hung;
        !busy && self.closing.is_none()
    }

    /// The first part of a step: timeouts, pings, and what still waits to be sent. `Break` means that nothing else may happen
    /// in this step; its value says whether anything happened.
    pub(crate) fn tend(&mut self, now: Now) -> Result<ControlFlow<bool>, Error> {
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

    /// Reads the next frame.
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
            // Every dialect uses text frames only.
            Message::Binary(_) => self.close(CloseCode::Unsupported, "text only", now)?,
            Message::Pong(payload) => self.pong(&payload, now),
            // tungstenite prepares the answers to pings and closes; the next read or flush sends them.
            _ => {}
        }
        Ok(Heard::Sign)
    }

    fn pong(&mut self, payload: &[u8], now: Now) {
        self.last_pong = now.at;
        let echoed = |held: &Held| held.echo.as_deref() == Some(payload);
        if let Some(at) = self.held.iter().position(echoed) {
            // A pong answers its ping and may also answer all earlier ones (RFC 6455, section 5.5.3).
            for held in self.held.iter_mut().take(at + 1) {
                held.echo = None;
            }
        }
    }

    /// Does `act` now, or holds it back for as long as the plan says.
    pub(crate) fn carry_out(&mut self, plan: &Plan, act: Act, now: Now) -> Result<(), Error> {
        if !plan.ping && plan.delay_us == 0 {
            return self.act(act, now);
        }
        if self.held.len() >= HELD_MAX {
            return Err(Error::ConnectionClosed);
        }
        let echo = plan.ping.then(|| self.ping_payload(now));
        if let Some(payload) = &echo {
            self.write(Message::Ping(payload.clone().into()))?;
        }
        // If the clock cannot express the time, it never comes, and the act is never done.
        if let Some(due) = now.at.checked_add(Duration::from_micros(plan.delay_us)) {
            self.held.push(Held { due, echo, act });
        }
        Ok(())
    }

    /// A ping payload that a client cannot guess, different for each ping of a connection.
    fn ping_payload(&mut self, now: Now) -> Vec<u8> {
        self.fault_pings += 1;
        let mixed =
            now.unix_us.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.fault_pings.rotate_left(32);
        format!("{mixed:016x}{:x}", self.fault_pings).into_bytes()
    }

    /// Does every act that is due. Returns whether there was any.
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
                // This close frame was seen on the wire when Binance disconnects a client.
                self.close(CloseCode::Policy, "disconnected", now)
            }
            Act::Notice(text) => {
                let leaves = now.at + Duration::from_secs(NOTICE_S);
                self.leaves.get_or_insert(leaves);
                self.say(text)
            }
            Act::Close(code) => self.close(code, "", now),
            Act::Large => {
                // These bytes bypass the codec, so the codec must first send what it still holds.
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

    /// Writes a text message, which is sent at the end of the step at the latest.
    pub fn say(&mut self, text: String) -> Result<(), Error> {
        self.write(Message::text(text))
    }

    fn write(&mut self, message: Message) -> Result<(), Error> {
        self.ws.write(message).or_else(|error| self.later(error))
    }

    /// Sends everything that was written.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.ws.flush().or_else(|error| self.later(error))
    }

    /// Sends a close frame with a code and a reason.
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

    /// Handles a write that would block: the codec has kept the message and a later flush sends it. Writing it again would
    /// send it twice.
    fn later(&mut self, error: Error) -> Result<(), Error> {
        match error {
            Error::Io(error) if waits(&error) => {
                self.unsent = true;
                Ok(())
            }
            error => Err(error),
        }
    }

    /// Discards what arrives, and so answers nothing, not even a ping. Fails once the peer has left.
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

    /// Writes the next part of the large message, of bounded size.
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
            // The same position always gives the same piece: TLS requires that a blocked write is repeated unchanged.
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
