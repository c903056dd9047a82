//! A stream over a websocket: the same as the events, each report as one text message.
//!
//! Invariant: at most one message is held for a client that takes nothing. What a client sends is read and forgotten.

use super::index::Cursor;
use super::live::{Pace, Step, too_slow};
use super::problem::Problem;
use super::sending::Left;
use super::site::Site;
use crate::serve::limits::{
    CLIENT_MESSAGE_BYTES_MAX, HEARTBEAT_MS, STALL_MS_MAX, WRITES_PER_SWEEP,
};
use crate::system::channel::Channel;
use crate::system::inbox::waits;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

/// Most messages of a client that one step reads.
const READS_PER_STEP: usize = 16;

/// A stream over a websocket.
pub(super) struct Socket {
    socket: WebSocket<Counted>,
    feed: usize,
    generation: (u64, u64),
    /// The place of the record that is next.
    at: Cursor,
    /// Whether a message waits for room.
    blocked: bool,
    pace: Pace,
    /// Whether its end was said.
    ended: bool,
    /// How many bytes the client has taken when that was looked at last, and when there were more.
    taken: u64,
    moved_at: Instant,
}

/// A connection that counts what is written.
struct Counted(Channel<TcpStream>, u64);

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.0.write(bytes)?;
        self.1 += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Socket {
    /// Takes over a connection whose upgrade was answered. `rest` is what the client sent already, `generation` that of the
    /// feed when the position was found.
    pub(super) fn new(
        channel: Channel<TcpStream>,
        rest: Vec<u8>,
        site: &mut Site,
        (feed, generation): (usize, (u64, u64)),
        from: Result<Cursor, Problem>,
        now: Instant,
    ) -> Socket {
        let config = WebSocketConfig::default()
            .max_message_size(Some(CLIENT_MESSAGE_BYTES_MAX))
            .max_frame_size(Some(CLIENT_MESSAGE_BYTES_MAX))
            .read_buffer_size(CLIENT_MESSAGE_BYTES_MAX)
            .write_buffer_size(0);
        let channel = Counted(channel, 0);
        let start = Cursor {
            report: 0,
            changes: 0,
        };
        let mut socket = Socket {
            socket: WebSocket::from_partially_read(channel, rest, Role::Server, Some(config)),
            feed,
            generation,
            at: *from.as_ref().unwrap_or(&start),
            blocked: false,
            pace: Pace::default(),
            ended: false,
            taken: 0,
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
        let Ok(left) = self.send(site) else {
            return Step::End;
        };
        if !self.ended && self.pace.is_slow(left, now) {
            let feed = site.journal.feeds().get(self.feed);
            let next = feed.map_or(0, |feed| feed.number_or_next(self.at.report));
            self.end(&too_slow(next), site);
        }
        if std::mem::replace(&mut self.taken, self.socket.get_ref().1) != self.taken {
            self.moved_at = now;
        }
        let since = now.saturating_duration_since(self.moved_at);
        match left {
            Left::More => Step::Busy,
            // After its end, the client has as long to close the connection.
            _ if self.ended && since >= Duration::from_millis(STALL_MS_MAX) => Step::End,
            Left::Blocked if since >= Duration::from_millis(STALL_MS_MAX) => Step::End,
            Left::Blocked => Step::Blocked,
            Left::Nothing if !self.ended && since >= Duration::from_millis(HEARTBEAT_MS) => {
                self.blocked = self.socket.send(Message::Ping(Vec::new().into())).is_err();
                Step::Busy
            }
            Left::Nothing => Step::Idle,
        }
    }

    fn send(&mut self, site: &mut Site) -> Result<Left, ()> {
        for _ in 0..4 * WRITES_PER_SWEEP {
            if self.blocked {
                match self.socket.flush() {
                    Ok(()) => self.blocked = false,
                    Err(Error::Io(error)) if waits(&error) => return Ok(Left::Blocked),
                    Err(_) => return Err(()),
                }
            }
            let feed = site.journal.feeds().get(self.feed);
            let next = feed.and_then(|feed| feed.next(self.at));
            let Some((record, after)) = next.filter(|_| !self.ended) else {
                return Ok(Left::Nothing);
            };
            let line = site.journal.line(self.feed, record).map_err(|_| ())?;
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let text = std::str::from_utf8(line).map_err(|_| ())?;
            self.at = after;
            match self.socket.send(Message::text(text)) {
                Ok(()) => {}
                Err(Error::Io(error)) if waits(&error) => self.blocked = true,
                Err(_) => return Err(()),
            }
        }
        Ok(Left::More)
    }
}

#[cfg(test)]
mod tests {
    use super::super::live::tests::{append, pair, site};
    use super::super::scan::lines::line;
    use super::*;

    const BEGIN: Cursor = Cursor {
        report: 0,
        changes: 0,
    };

    /// Steps until there is nothing more to do at once.
    fn step(socket: &mut Socket, site: &mut Site, now: Instant) -> Step {
        loop {
            match socket.step(site, now) {
                Step::Busy => {}
                step => return step,
            }
        }
    }

    #[test]
    fn a_socket_that_stays_behind_is_told_where_to_go_on() {
        let (path, mut site) = site("slow-socket");
        append(&path, &mut site, 1..2, 100_000);
        let (channel, mut client) = pair();
        let start = Instant::now();
        let feed = (0, site.journal.generation(0));
        let mut socket = Socket::new(channel, Vec::new(), &mut site, feed, Ok(BEGIN), start);
        assert_eq!(step(&mut socket, &mut site, start), Step::Idle, "level");
        // More than both sockets hold.
        append(&path, &mut site, 2..400, 100_000);
        let mut bytes = Vec::new();
        for s in [1, 15, 30] {
            let now = start + Duration::from_secs(s);
            assert_eq!(step(&mut socket, &mut site, now), Step::Blocked);
            let read = (&mut client).take(1_000_000).read_to_end(&mut bytes);
            assert_eq!(read.unwrap(), 1_000_000);
        }
        // It took something all the time, but was never level again.
        let late = start + Duration::from_secs(32);
        client.set_nonblocking(true).unwrap();
        let mut last = Step::Blocked;
        while last == Step::Blocked {
            last = step(&mut socket, &mut site, late);
            let _ = client.read_to_end(&mut bytes);
        }
        assert_eq!(last, Step::Idle, "the client may close now");
        std::fs::remove_file(&path).unwrap();
        let rest = std::io::Cursor::new(Vec::new());
        let mut read = WebSocket::from_partially_read(rest, bytes, Role::Client, None);
        let mut texts = Vec::new();
        while let Ok(Message::Text(text)) = read.read() {
            texts.push(text.to_string());
        }
        let (end, reports) = texts.split_last().unwrap();
        for (number, text) in (1..).zip(reports) {
            assert!(*text == line(number, 100_000), "report {number}");
        }
        let next = reports.len() as u64 + 1;
        assert!(next < 400);
        assert_eq!(*end, too_slow(next).json());
        assert_eq!(site.counts.ended.get("too-slow"), Some(&1));
    }

    #[test]
    fn a_socket_that_takes_a_long_report_slowly_is_not_ended_and_one_that_takes_nothing_is() {
        let (path, mut site) = site("long-report");
        // More than both sockets hold.
        append(&path, &mut site, 1..2, 24_000_000);
        let (channel, mut client) = pair();
        let start = Instant::now();
        let feed = (0, site.journal.generation(0));
        let mut socket = Socket::new(channel, Vec::new(), &mut site, feed, Ok(BEGIN), start);
        for s in [0, 19, 38, 57] {
            let now = start + Duration::from_secs(s);
            assert_eq!(step(&mut socket, &mut site, now), Step::Blocked, "{s}");
            client.read_exact(&mut vec![0; 3_000_000]).unwrap();
        }
        let last = start + Duration::from_secs(60);
        assert_eq!(step(&mut socket, &mut site, last), Step::Blocked);
        let late = start + Duration::from_secs(81);
        assert_eq!(step(&mut socket, &mut site, late), Step::End);
        std::fs::remove_file(&path).unwrap();
    }
}
