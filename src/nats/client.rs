//! A connection to one of a cluster's servers: opens it, and reads and writes without waiting longer than it is told.
//!
//! Invariant: opening has a deadline for each of its phases and calls `look` while it waits. After any error the connection is
//! closed, and what was asked on it will not be answered: whoever asked connects again and asks again.

use super::credentials::Credentials;
use super::limits::{
    HELLO_MS_MAX, LINE_BYTES_MAX, OUT_BYTES_MAX, PING_MS, SERVERS_MAX, SILENCE_MS_MAX,
};
use super::place::endpoint;
use super::protocol::{Info, Message, Parser, Said, publish};
use crate::exchange::dial::{dial, shake_hands};
use crate::exchange::limits::OPEN_MS_MAX;
use crate::exchange::proxy::Proxies;
use crate::exchange::roots::{Roots, Trust};
use crate::system::channel::Channel;
use crate::system::endpoint::Endpoint;
use crate::system::inbox::waits;
use crate::system::limits::SLICE_MS;
use crate::system::net::{Gate, Look, Patience, Phase};
use crate::system::random;
use crate::system::resolve::Addresses;
use rsoracle_proof::seal::hex;
use rsoracle_verify::error::{Error, VALUE_CHARS_MAX, brief};
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Bytes of one read.
const READ_BYTES: usize = 16 * 1024;
/// Most reads before the caller has its turn.
const READS_MAX: usize = 64;
/// The subscription to answers.
const ANSWERS: u64 = 1;
const PONG: &[u8] = b"PONG\r\n";

/// How to connect.
#[derive(Clone)]
pub(crate) struct Way {
    /// The servers that were named, at least one. Those that they name in turn are tried too.
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) credentials: Option<Rc<Credentials>>,
    pub(crate) ca_file: Option<String>,
    /// Whom to trust, where that is known already. Else that is found out when a server wants TLS.
    pub(crate) trust: Option<Trust>,
    /// Most bytes of a message that is wanted.
    pub(crate) payload_bytes_max: usize,
}

/// A message that came.
pub(crate) struct Came {
    /// The number of what it answers; None if it came for a subscription.
    pub(crate) answers: Option<u64>,
    message: Message,
}

impl Came {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.message.header(name)
    }

    pub(crate) fn status(&self) -> Option<(u16, &str)> {
        self.message.status()
    }

    /// Its content, or nothing if it is no text or longer than wanted.
    pub(crate) fn text(&self) -> &str {
        let payload = self.message.payload.as_deref().unwrap_or_default();
        std::str::from_utf8(payload).unwrap_or_default()
    }

    /// Its content; None if it is longer than wanted.
    pub(crate) fn payload(self) -> Option<Vec<u8>> {
        self.message.payload
    }
}

/// An open connection.
struct Link {
    channel: Channel<Gate>,
    parser: Parser,
    /// Bytes that were read last, and how many of them were taken.
    bytes: Vec<u8>,
    taken: usize,
    /// How many were read in all.
    read: u64,
    /// Bytes that are to be written, and how many there can be.
    out: Vec<u8>,
    out_bytes_max: usize,
    inbox: String,
    asked: u64,
    info: Info,
    heard_at: Instant,
    pinged_at: Instant,
}

/// The client of a cluster, connected or not.
pub(crate) struct Client {
    way: Way,
    /// The servers that were named, and then those that the last one names.
    places: Vec<(Endpoint, Addresses)>,
    /// The server that was tried last, or is the first to be tried.
    at: usize,
    /// How many times one was tried.
    tried: usize,
    link: Option<Link>,
}

impl Client {
    /// A client that is not connected yet.
    pub(crate) fn new(way: Way) -> Client {
        let places = way.endpoints.iter().cloned();
        Client {
            places: places.map(|one| (one, Addresses::default())).collect(),
            way,
            at: 0,
            tried: 0,
            link: None,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.link.is_some()
    }

    /// The server that was tried last.
    pub(crate) fn url(&self) -> &str {
        &self.places[self.at].0.url
    }

    /// Closes the connection.
    pub(crate) fn close(&mut self) {
        self.link = None;
    }

    /// Most bytes of a message that the server takes.
    pub(crate) fn payload_bytes_max(&self) -> Option<usize> {
        self.link.as_ref()?.info.payload_bytes_max
    }

    /// How many bytes the server has not taken yet.
    pub(crate) fn bytes_waiting(&self) -> usize {
        self.link.as_ref().map_or(0, |link| link.out.len())
    }

    /// How many bytes the server has sent on this connection.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.link.as_ref().map_or(0, |link| link.read)
    }

    /// Connects to a server: each time to another one, if there is one.
    pub(crate) fn open(&mut self, look: Look) -> Result<(), Error> {
        self.link = None;
        self.turn();
        let link = self.connect(look)?;
        self.learn(&link.info);
        self.link = Some(link);
        Ok(())
    }

    /// Chooses the server to try: every second time one that was named, since the others may be false or gone.
    fn turn(&mut self) {
        let (named, tried) = (self.way.endpoints.len(), self.tried);
        self.at = match self.places.len() - named {
            0 => tried % named,
            learned if tried % 2 == 1 => named + tried / 2 % learned,
            _ => tried / 2 % named,
        };
        self.tried = tried.wrapping_add(1);
    }

    fn connect(&mut self, look: Look) -> Result<Link, Error> {
        let deadline = Instant::now() + Duration::from_millis(OPEN_MS_MAX);
        let (mut channel, mut info) = self.greet(deadline, look)?;
        let (place, _) = &self.places[self.at];
        let tls = place.tls || info.tls_required;
        if tls && !info.tls_required && !info.tls_available {
            let error = Error::new(format!("cannot use {}", place.url), "it does not offer TLS");
            return Err(error.advise(
                "nats:// in place of tls:// connects without, for a network that you trust",
            ));
        }
        if tls {
            if self.way.trust.is_none() {
                self.way.trust = Some(Roots::find(self.way.ca_file.as_deref())?.trust()?);
            }
            let (channel_found, info_found) = self.secure(channel, info, deadline, look)?;
            (channel, info) = (channel_found, info_found);
        }
        let mut link = Link::new(channel, info, self.way.payload_bytes_max)?;
        let (place, _) = &self.places[self.at];
        link.introduce(place, self.way.credentials.as_deref(), tls, deadline, look)?;
        Ok(link)
    }

    /// Opens a TCP connection, and reads what the server says of itself.
    fn greet(&mut self, deadline: Instant, look: Look) -> Result<(Channel<Gate>, Info), Error> {
        let (place, addresses) = &mut self.places[self.at];
        let plain = Endpoint {
            tls: false,
            ..place.clone()
        };
        let mut channel = dial(&plain, None, &Proxies::default(), addresses, deadline, look)?;
        let phase = Phase::new(deadline, HELLO_MS_MAX);
        let failed = |cause: String| Error::new(format!("cannot use {}", plain.url), cause);
        let mut line = Vec::new();
        let mut slice = phase.slice();
        // Byte by byte from the gate, which has them already: what follows belongs to TLS, if that is next.
        while line.last() != Some(&b'\n') && line.len() <= LINE_BYTES_MAX {
            let mut byte = [0];
            channel
                .inner()
                .set_patience(slice)
                .map_err(|error| failed(error.to_string()).passing())?;
            match channel.read(&mut byte) {
                Ok(0) => return Err(failed("it has closed the connection".to_owned()).passing()),
                Ok(_) => line.push(byte[0]),
                Err(error) if waits(&error) => {}
                Err(error) => return Err(failed(error.to_string()).passing()),
            }
            if phase.is_over() {
                let late = phase.late("greeting of a NATS server");
                return Err(failed(late.to_string()).passing());
            }
            // However slowly its bytes come, others have their turn.
            if matches!(slice, Patience::Until(until) if Instant::now() >= until) {
                look()?;
                slice = phase.slice();
            }
        }
        let text = std::str::from_utf8(&line).ok();
        let info = text.and_then(|text| Info::read(text.strip_prefix("INFO ")?.trim()));
        let info = info.ok_or_else(|| failed("what answers there is no NATS server".to_owned()))?;
        match info.headers {
            true => Ok((channel, info)),
            false => {
                Err(failed("it knows no headers".to_owned()).advise("use nats-server 2.9 or newer"))
            }
        }
    }

    /// Makes the TLS handshake, if need be once more with all roots, on a new connection.
    fn secure(
        &mut self,
        channel: Channel<Gate>,
        info: Info,
        deadline: Instant,
        look: Look,
    ) -> Result<(Channel<Gate>, Info), Error> {
        let (mut channel, mut info) = (channel, info);
        loop {
            let Channel::Plain(gate) = channel else {
                return Ok((channel, info));
            };
            let mut named = self.places[self.at].0.clone();
            // Servers name each other by address. Their certificates have the name that was given here.
            if named.host.parse::<std::net::IpAddr>().is_ok() && self.at >= self.way.endpoints.len()
            {
                named.host.clone_from(&self.way.endpoints[0].host);
            }
            let trust = self.way.trust.as_mut().expect("it was set up before");
            match shake_hands(&named, trust.connector(), gate, deadline, look) {
                Ok(stream) => channel = Channel::Tls(Box::new(stream)),
                Err(refusal) if refusal.untrusted && trust.widen() => {
                    (channel, info) = self.greet(deadline, look)?;
                }
                Err(refusal) => return Err(refusal.error),
            }
        }
    }

    /// Notes the servers that a server names, in place of those that were learned before.
    fn learn(&mut self, info: &Info) {
        let named = self.way.endpoints.len();
        if self.at >= named {
            self.places.swap(named, self.at);
            self.at = named;
        }
        self.places.truncate(named.max(self.at + 1));
        let tls = self.way.endpoints[0].tls;
        for url in &info.urls {
            let Some(found) = endpoint(url, tls) else {
                continue;
            };
            let is_known = |(one, _): &(Endpoint, Addresses)| {
                (&one.host, one.port) == (&found.host, found.port)
            };
            if self.places.len() < SERVERS_MAX && !self.places.iter().any(is_known) {
                self.places.push((found, Addresses::default()));
            }
        }
    }

    /// Publishes a message to which an answer is wanted. Returns the number that the answer will have.
    pub(crate) fn ask(&mut self, subject: &str, headers: &[(&str, &str)], payload: &[u8]) -> u64 {
        let Some(link) = &mut self.link else { return 0 };
        link.asked += 1;
        let reply = format!("{}.{}", link.inbox, link.asked);
        publish(&mut link.out, subject, &reply, headers, payload);
        link.asked
    }

    /// Subscribes to a subject.
    pub(crate) fn subscribe(&mut self, subject: &str) {
        if let Some(link) = &mut self.link {
            let line = format!("SUB {subject} {}\r\n", ANSWERS + 1);
            link.out.extend_from_slice(line.as_bytes());
        }
    }

    /// Writes what is to be written, and returns what came next; None if nothing has come by the end of `patience`. After an
    /// error the connection is closed.
    pub(crate) fn next(&mut self, patience: Patience) -> Result<Option<Came>, String> {
        let Some(link) = &mut self.link else {
            return Ok(None);
        };
        let next = link.next(patience);
        if next.is_err() {
            self.close();
        }
        match next? {
            Some(Said::Message(message)) => {
                let number = message
                    .subject
                    .rsplit('.')
                    .next()
                    .and_then(|number| number.parse().ok());
                let answers = number.filter(|_| message.sid == ANSWERS);
                Ok(Some(Came { answers, message }))
            }
            Some(Said::Info(text)) => match Info::read(&text) {
                Some(info) if info.is_lame_duck => {
                    self.learn(&info);
                    self.close();
                    Err("it is about to end".to_owned())
                }
                Some(info) => {
                    self.learn(&info);
                    Ok(None)
                }
                None => Ok(None),
            },
            _ => Ok(None),
        }
    }
}

impl Link {
    fn new(channel: Channel<Gate>, info: Info, payload_bytes_max: usize) -> Result<Link, Error> {
        let now = Instant::now();
        Ok(Link {
            channel,
            parser: Parser::new(payload_bytes_max),
            bytes: Vec::new(),
            taken: 0,
            read: 0,
            out: Vec::new(),
            out_bytes_max: OUT_BYTES_MAX + payload_bytes_max,
            inbox: format!("_INBOX.{}", hex(&random::bytes()?[..12])),
            asked: 0,
            info,
            heard_at: now,
            pinged_at: now,
        })
    }

    /// Says who this client is, and waits until the server accepts that.
    fn introduce(
        &mut self,
        place: &Endpoint,
        credentials: Option<&Credentials>,
        tls: bool,
        deadline: Instant,
        look: Look,
    ) -> Result<(), Error> {
        let phase = Phase::new(deadline, HELLO_MS_MAX);
        let failed = |cause: String| Error::new(format!("cannot use {}", place.url), cause);
        let nonce = self.info.nonce.as_deref().unwrap_or_default();
        let who = credentials.map_or(String::new(), |own| own.answer(nonce));
        let text = format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false,\"tls_required\":{tls},\"headers\":true,\"no_responders\":true,\"protocol\":1,\"name\":\"rsoracle\",\"lang\":\"rust\",\"version\":\"{}\"{who}}}\r\nSUB {}.* {ANSWERS}\r\nPING\r\n",
            env!("CARGO_PKG_VERSION"),
            self.inbox
        );
        self.out.extend_from_slice(text.as_bytes());
        loop {
            match self.next(phase.slice()) {
                Ok(Some(Said::Pong)) => return Ok(()),
                Ok(_) if phase.is_over() => {
                    return Err(failed(phase.late("answer to CONNECT").to_string()).passing());
                }
                Ok(_) => look()?,
                Err(why) if why.contains("Authorization") => {
                    let needs = self.info.auth_required && credentials.is_none();
                    let advice = match needs {
                        true => "it wants credentials: name them with --creds or --nkey",
                        false => "check the credentials, and that its account has this user",
                    };
                    return Err(failed(why).advise(advice));
                }
                Err(why) => return Err(failed(why).passing()),
            }
        }
    }

    fn next(&mut self, patience: Patience) -> Result<Option<Said>, String> {
        let broken = |error: io::Error| format!("the connection failed: {error}");
        for _ in 0..READS_MAX {
            while self.taken < self.bytes.len() {
                let (taken, said) = self.parser.take(&self.bytes[self.taken..])?;
                self.taken += taken;
                match said {
                    // One answer to all that came while the server did not read.
                    Some(Said::Ping) if self.out.ends_with(PONG) => {}
                    Some(Said::Ping) => self.out.extend_from_slice(PONG),
                    Some(Said::Refusal(text)) => {
                        return Err(format!("it refuses: {}", brief(&text, VALUE_CHARS_MAX)));
                    }
                    Some(said) => return Ok(Some(said)),
                    None => {}
                }
            }
            self.keep_alive()?;
            self.channel
                .inner()
                .set_patience(Patience::Never)
                .map_err(broken)?;
            while !self.out.is_empty() {
                match self.channel.write(&self.out) {
                    Ok(0) => return Err("it has closed the connection".to_owned()),
                    Ok(count) => drop(self.out.drain(..count)),
                    Err(error) if waits(&error) => break,
                    Err(error) => return Err(broken(error)),
                }
            }
            // Answers lead to questions, also those of a server that does not read.
            if self.out.len() > self.out_bytes_max {
                return Err("it sends, but does not read".to_owned());
            }
            // What is left is tried again soon.
            let patience = match (patience, self.out.is_empty()) {
                (Patience::Until(until), false) => Patience::Until(
                    until.min(Instant::now() + Duration::from_millis(SLICE_MS / 10)),
                ),
                (patience, _) => patience,
            };
            self.channel
                .inner()
                .set_patience(patience)
                .map_err(broken)?;
            self.bytes.resize(READ_BYTES, 0);
            let read = self.channel.read(&mut self.bytes);
            self.bytes.truncate(read.as_ref().map_or(0, |count| *count));
            self.taken = 0;
            match read {
                Ok(0) => return Err("it has closed the connection".to_owned()),
                Ok(count) => {
                    (self.heard_at, self.read) = (Instant::now(), self.read + count as u64)
                }
                Err(error) if waits(&error) => return Ok(None),
                Err(error) => return Err(broken(error)),
            }
        }
        Ok(None)
    }

    /// Asks whether the server is alive after a silence, and gives it up after a longer one.
    fn keep_alive(&mut self) -> Result<(), String> {
        let silence = self.heard_at.elapsed();
        if silence >= Duration::from_millis(SILENCE_MS_MAX) {
            return Err(format!("it has sent nothing for {} s", silence.as_secs()));
        }
        let pause = Duration::from_millis(PING_MS);
        if silence >= pause && self.pinged_at.elapsed() >= pause {
            self.pinged_at = Instant::now();
            self.out.extend_from_slice(b"PING\r\n");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(named: &[&str]) -> Client {
        let named = named.iter().map(|one| endpoint(one, false).unwrap());
        Client::new(Way {
            endpoints: named.collect(),
            credentials: None,
            ca_file: None,
            trust: None,
            payload_bytes_max: 1,
        })
    }

    /// The servers that are tried next.
    fn tried(client: &mut Client, count: usize) -> Vec<String> {
        let mut next = || {
            client.turn();
            client.places[client.at].0.host.clone()
        };
        (0..count).map(|_| next()).collect()
    }

    fn names(urls: &[String]) -> Info {
        Info {
            urls: urls.to_vec(),
            ..Info::default()
        }
    }

    #[test]
    fn every_second_server_that_is_tried_was_named_and_the_others_are_those_of_the_last_one() {
        let mut client = client(&["a", "b"]);
        assert_eq!(tried(&mut client, 3), ["a", "b", "a"]);
        client.learn(&names(&["a:4222".to_owned(), "c:1".to_owned()]));
        assert_eq!(tried(&mut client, 5), ["c", "a", "c", "b", "c"]);
        // The one that is connected stays. What it does not name is forgotten, however much another one named.
        let dead: Vec<String> = (0..100).map(|at| format!("dead{at}:1")).collect();
        client.learn(&names(&dead));
        assert_eq!(client.places.len(), SERVERS_MAX);
        assert_eq!(client.url(), "nats://c:1");
        client.learn(&names(&["d:1".to_owned()]));
        let left = client.places.iter().map(|(one, _)| &*one.host);
        assert_eq!(left.collect::<Vec<_>>(), ["a", "b", "c", "d"]);
        let found = tried(&mut client, 8);
        for host in ["a", "b", "c", "d"] {
            let count = found.iter().filter(|one| *one == host).count();
            assert_eq!(count, 2, "{found:?}");
        }
    }
}
