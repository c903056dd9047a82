//! A server whose stream of one feed is followed: opens the stream, and reads its events without waiting.
//!
//! Invariant: opening has a deadline for each of its phases, and calls `look` while it waits. Reading never waits. What a server
//! sends is bounded by the longest report of the roster, whatever it sends.

use super::body::Body;
use super::events::{Event, Events};
use crate::exchange::dial::dial;
use crate::exchange::http::{body, read_head, saying};
use crate::exchange::proxy::Proxies;
use crate::exchange::roots::Trust;
use crate::follow::limits::{
    FOLLOW_BYTES_IDLE_MAX, FOLLOW_LINES_IDLE_MAX, OPEN_MS_MAX, SERVER_SILENCE_MS_MAX,
    UPGRADE_MS_MAX,
};
use crate::system::channel::Channel;
use crate::system::endpoint::{Endpoint, bracketed};
use crate::system::inbox::waits;
use crate::system::net::{Gate, Look, Patience, Phase};
use crate::system::resolve::Addresses;
use rsoracle_verify::error::Error;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// Bytes of one read.
const READ_BYTES: usize = 16 * 1024;
/// Most reads without an event before others are read.
const READS_MAX: usize = 8;

/// What reading led to.
pub(super) enum Heard {
    Event(Event),
    /// Something came, but no whole event.
    Part,
    Nothing,
}

/// An open stream.
struct Stream {
    channel: Channel<Gate>,
    body: Body,
    has_more: bool,
    events: Events,
    /// Bytes that were read, and how many of them were taken.
    bytes: Vec<u8>,
    taken: usize,
    opened_at: Instant,
    heard_at: Instant,
    /// Bytes since the last news.
    idle_bytes: u64,
}

/// A server, connected or not.
pub(super) struct Server {
    endpoint: Endpoint,
    path: String,
    tls: Option<Trust>,
    proxies: Proxies,
    addresses: Addresses,
    /// Most bytes of a report.
    bytes_max: usize,
    stream: Option<Stream>,
}

impl Server {
    /// A server that is not connected yet. `prefix` is the path under which it is.
    pub(super) fn new(
        endpoint: &Endpoint,
        prefix: &str,
        feed: &str,
        bytes_max: usize,
        (tls, proxies): (Option<Trust>, Proxies),
    ) -> Server {
        Server {
            endpoint: endpoint.clone(),
            path: format!("{prefix}/v1/stream?feed={}", escaped(feed)),
            tls,
            proxies,
            addresses: Addresses::default(),
            bytes_max,
            stream: None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    /// For how long it has been open.
    pub(super) fn lasted(&self) -> Duration {
        let stream = self.stream.as_ref();
        stream.map_or(Duration::ZERO, |stream| stream.opened_at.elapsed())
    }

    pub(super) fn close(&mut self) {
        self.stream = None;
    }

    /// What came was news, so that it may send on.
    pub(super) fn is_news(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.idle_bytes = 0;
        }
    }

    /// Opens the stream after a report, or at its newest one.
    pub(super) fn open(&mut self, after: Option<u64>, look: Look) -> Result<(), Error> {
        self.stream = None;
        let deadline = Instant::now() + Duration::from_millis(OPEN_MS_MAX);
        let (endpoint, addresses) = (&self.endpoint, &mut self.addresses);
        let tls = self.tls.as_mut();
        let mut channel = dial(endpoint, tls, &self.proxies, addresses, deadline, look)?;
        let attempt = format!("cannot follow {}", endpoint.url);
        let failed = |cause: String| Error::new(&attempt, cause).passing();
        let broken = |error: io::Error| failed(error.to_string());
        let phase = Phase::new(deadline, UPGRADE_MS_MAX);
        let request = self.request(after);
        channel
            .inner()
            .set_patience(Patience::Until(phase.until))
            .and_then(|()| channel.write_all(request.as_bytes()))
            .map_err(broken)?;
        let gate: fn(&mut Channel<Gate>) -> &mut Gate = Channel::inner;
        let head = read_head((&mut channel, gate), "GET", &phase, &failed, look)?;
        if head.status != 200 {
            let words = body((&mut channel, gate), &head, deadline, look);
            let cause = format!("refused with HTTP {}{}", head.status, saying(&words));
            return Err(failed(cause));
        }
        let says = |name, word: &str| {
            let mut values = head.values(name).flat_map(|value| value.split([',', ';']));
            values.any(|value| value.trim().eq_ignore_ascii_case(word))
        };
        if !says("Content-Type", "text/event-stream") {
            let cause = "it sends no events: is there an 'rsoracle serve' at this address?";
            return Err(failed(cause.to_owned()));
        }
        channel
            .inner()
            .set_patience(Patience::Never)
            .map_err(broken)?;
        let now = Instant::now();
        self.stream = Some(Stream {
            channel,
            body: Body::new(says("Transfer-Encoding", "chunked")),
            has_more: true,
            events: Events::new(self.bytes_max),
            bytes: Vec::new(),
            taken: 0,
            opened_at: now,
            heard_at: now,
            idle_bytes: 0,
        });
        Ok(())
    }

    fn request(&self, after: Option<u64>) -> String {
        let Endpoint {
            host, port, tls, ..
        } = &self.endpoint;
        let host = bracketed(host);
        let port = match (tls, port) {
            (true, 443) | (false, 80) => String::new(),
            _ => format!(":{port}"),
        };
        let mut request = format!(
            "GET {} HTTP/1.1\r\nHost: {host}{port}\r\nUser-Agent: rsoracle\r\nAccept: text/event-stream\r\nCache-Control: no-cache\r\n",
            self.path
        );
        if let Some(number) = after {
            let _ = write!(request, "Last-Event-ID: {number}\r\n");
        }
        request + "\r\n"
    }

    /// Reads on without waiting. After an error the stream is closed.
    pub(super) fn hear(&mut self, now: Instant) -> Result<Heard, String> {
        let Some(stream) = &mut self.stream else {
            return Ok(Heard::Nothing);
        };
        let heard = stream.hear(now, self.bytes_max as u64);
        if heard.is_err() {
            self.stream = None;
        }
        heard
    }
}

impl Stream {
    fn hear(&mut self, now: Instant, bytes_max: u64) -> Result<Heard, String> {
        let mut came = false;
        for _ in 0..READS_MAX {
            if self.taken < self.bytes.len() {
                let (taken, event) = self.events.take(&self.bytes[self.taken..])?;
                self.taken += taken;
                if let Some(event) = event {
                    return Ok(Heard::Event(event));
                }
            }
            self.bytes.clear();
            self.taken = 0;
            if !self.has_more {
                return Err("it has ended the stream".to_owned());
            }
            let mut buffer = [0; READ_BYTES];
            match self.channel.read(&mut buffer) {
                Ok(0) => return Err("it has closed the connection".to_owned()),
                Ok(count) => {
                    came = true;
                    self.heard_at = now;
                    self.idle_bytes += count as u64;
                    self.has_more = self.body.take(&buffer[..count], &mut self.bytes)?;
                }
                Err(error) if waits(&error) => break,
                Err(error) => return Err(format!("the connection failed: {error}")),
            }
        }
        if self.idle_bytes > FOLLOW_BYTES_IDLE_MAX + FOLLOW_LINES_IDLE_MAX * bytes_max {
            return Err("it sends much, and nothing of it is news".to_owned());
        }
        let silence = now.saturating_duration_since(self.heard_at);
        if silence >= Duration::from_millis(SERVER_SILENCE_MS_MAX) {
            return Err(format!("it has sent nothing for {} s", silence.as_secs()));
        }
        Ok(if came { Heard::Part } else { Heard::Nothing })
    }
}

/// A feed's name in a query.
fn escaped(name: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    name.bytes().map(one).collect()
}
