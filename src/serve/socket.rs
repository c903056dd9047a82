//! A stream over a websocket: the same as the events, each report as one text message.
//!
//! Invariant: at most one message is held for a client that takes nothing. What a client sends is read and forgotten.

use super::live::{Pace, Step, too_slow};
use super::problem::Problem;
use super::sending::Left;
use super::site::Site;
use crate::system::channel::Channel;
use crate::system::inbox::waits;
use crate::system::limits::{
    CLIENT_MESSAGE_BYTES_MAX, HEARTBEAT_MS, STALL_MS_MAX, WRITES_PER_SWEEP,
};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

/// Most messages of a client that one step reads.
const READS_PER_STEP: usize = 16;

/// A stream over a websocket.
pub(super) struct Socket {
    socket: WebSocket<Channel<TcpStream>>,
    feed: usize,
    generation: (u64, u64),
    /// Position of the report that is next.
    at: usize,
    /// Whether a message waits for room.
    blocked: bool,
    pace: Pace,
    /// Whether its end was said.
    ended: bool,
    moved_at: Instant,
}

impl Socket {
    /// Takes over a connection whose upgrade was answered. `rest` is what the client sent already, `generation` that of the
    /// feed when the position was found.
    pub(super) fn new(
        channel: Channel<TcpStream>,
        rest: Vec<u8>,
        site: &mut Site,
        (feed, generation): (usize, (u64, u64)),
        from: Result<usize, Problem>,
        now: Instant,
    ) -> Socket {
        let config = WebSocketConfig::default()
            .max_message_size(Some(CLIENT_MESSAGE_BYTES_MAX))
            .max_frame_size(Some(CLIENT_MESSAGE_BYTES_MAX))
            .read_buffer_size(CLIENT_MESSAGE_BYTES_MAX)
            .write_buffer_size(0);
        let mut socket = Socket {
            socket: WebSocket::from_partially_read(channel, rest, Role::Server, Some(config)),
            feed,
            generation,
            at: *from.as_ref().unwrap_or(&0),
            blocked: false,
            pace: Pace::default(),
            ended: false,
            moved_at: now,
        };
        if let Err(problem) = from {
            socket.end(&problem, site);
        }
        socket
    }

    /// Says why the stream ends, and closes it.
    fn end(&mut self, problem: &Problem, site: &mut Site) {
        *site.counts.ended.entry(problem.name).or_default() += 1;
        self.ended = true;
        let said = self.socket.write(Message::text(problem.json()));
        self.blocked |= said.is_err();
        let closed = self.socket.close(None);
        self.blocked |= closed.is_err();
    }

    /// Reads what the client says, sends what there is, or a ping if nothing was sent for long.
    pub(super) fn step(&mut self, site: &mut Site, now: Instant) -> Step {
        for _ in 0..READS_PER_STEP {
            match self.socket.read() {
                Ok(_) => {}
                Err(Error::Io(error)) if waits(&error) => break,
                Err(_) => return Step::End,
            }
        }
        if self.generation != site.journal.generation(self.feed) && !self.ended {
            self.end(&Problem::REPLACED, site);
        }
        let too_old = site.journal.too_old(self.feed, self.at);
        if let Some(problem) = too_old.filter(|_| !self.ended) {
            self.end(&problem, site);
        }
        let Ok(left) = self.send(site, now) else {
            return Step::End;
        };
        if !self.ended && self.pace.is_slow(left, now) {
            let feed = site.journal.feeds().get(self.feed);
            let after = || Some(feed?.last_number()? + 1);
            let next = feed.and_then(|feed| feed.number(self.at)).or_else(after);
            self.end(&too_slow(next.unwrap_or(0)), site);
        }
        let since = now - self.moved_at;
        match left {
            Left::More => Step::Busy,
            // After its end, the client has as long to close the connection.
            _ if self.ended && since >= Duration::from_millis(STALL_MS_MAX) => Step::End,
            Left::Blocked if since >= Duration::from_millis(STALL_MS_MAX) => Step::End,
            Left::Blocked => Step::Blocked,
            Left::Nothing if !self.ended && since >= Duration::from_millis(HEARTBEAT_MS) => {
                self.blocked = self.socket.send(Message::Ping(Vec::new().into())).is_err();
                self.moved_at = now;
                Step::Busy
            }
            Left::Nothing => Step::Idle,
        }
    }

    fn send(&mut self, site: &mut Site, now: Instant) -> Result<Left, ()> {
        for _ in 0..4 * WRITES_PER_SWEEP {
            if self.blocked {
                match self.socket.flush() {
                    Ok(()) => (self.blocked, self.moved_at) = (false, now),
                    Err(Error::Io(error)) if waits(&error) => return Ok(Left::Blocked),
                    Err(_) => return Err(()),
                }
            }
            let length = site
                .journal
                .feeds()
                .get(self.feed)
                .map_or(0, |feed| feed.len());
            if self.ended || self.at >= length {
                return Ok(Left::Nothing);
            }
            let line = site.journal.line(self.feed, self.at).map_err(|_| ())?;
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let text = std::str::from_utf8(line).map_err(|_| ())?;
            self.at += 1;
            match self.socket.send(Message::text(text)) {
                Ok(()) => self.moved_at = now,
                Err(Error::Io(error)) if waits(&error) => self.blocked = true,
                Err(_) => return Err(()),
            }
        }
        Ok(Left::More)
    }
}
