//! Starts `rsoracle serve` on a journal that the test writes, and asks it over plain sockets.
//!
//! Each test uses a part of this module.
#![allow(dead_code)]

use crate::signed::Says::Price;
use crate::signed::*;
use crate::support::*;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

/// An answer.
#[derive(Debug)]
pub struct Answered {
    pub status: u16,
    head: String,
    pub body: String,
}

impl Answered {
    /// A header field.
    pub fn field(&self, name: &str) -> Option<&str> {
        let begin = format!("{}:", name.to_lowercase());
        let is = |line: &&str| line.to_lowercase().starts_with(&begin);
        let line = self.head.lines().find(is)?;
        Some(line[begin.len()..].trim())
    }

    /// The name of an error.
    pub fn error(&self) -> &str {
        let rest = self.body.strip_prefix("{\"error\":\"");
        let rest = rest.unwrap_or_else(|| panic!("no error: {self:?}"));
        rest.split('"').next().unwrap()
    }
}

/// A connection, and what was read from it beyond the last answer.
pub struct Client {
    pub stream: TcpStream,
    /// The id that a browser would send when it connects again; empty if none.
    pub cursor: String,
    read: Vec<u8>,
}

impl Client {
    pub fn new(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(LONG)).unwrap();
        Client {
            stream,
            cursor: String::new(),
            read: Vec::new(),
        }
    }

    pub fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).expect("it is sent");
    }

    /// Reads until `found` returns the number of bytes to take.
    fn until(&mut self, what: &str, found: impl Fn(&[u8]) -> Option<usize>) -> Vec<u8> {
        loop {
            if let Some(count) = found(&self.read) {
                return self.read.drain(..count).collect();
            }
            let mut buffer = [0; 65_536];
            let count = self.stream.read(&mut buffer);
            let count = count.unwrap_or_else(|error| panic!("{what}: {error}"));
            let so_far = String::from_utf8_lossy(&self.read);
            assert!(count > 0, "the end instead of {what}: {so_far}");
            self.read.extend_from_slice(&buffer[..count]);
        }
    }

    /// Reads so many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        self.until("bytes", |bytes| (bytes.len() >= count).then_some(count))
    }

    /// Reads the head of an answer, with its blank line.
    pub fn head(&mut self) -> String {
        let end = |bytes: &[u8]| bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let head = self.until("a head", |bytes| Some(end(bytes)? + 4));
        String::from_utf8(head).expect("UTF-8")
    }

    /// Reads an answer. `has_body`: whether what its length says follows.
    pub fn answer(&mut self, has_body: bool) -> Answered {
        let head = self.head();
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok());
        let mut answered = Answered {
            status: status.expect("a status"),
            head,
            body: String::new(),
        };
        let length = answered
            .field("content-length")
            .map_or(0, |length| length.parse().unwrap());
        if has_body {
            let body = self.until("a body", |bytes| (bytes.len() >= length).then_some(length));
            answered.body = String::from_utf8(body).expect("UTF-8");
        }
        answered
    }

    /// Sends a request for a path with further header fields, and reads the answer.
    pub fn get(&mut self, path: &str, fields: &str) -> Answered {
        self.send(&format!(
            "GET {path} HTTP/1.1\r\nHost: here\r\n{fields}\r\n"
        ));
        self.answer(true)
    }

    /// Whether the server has closed the connection, after nothing more.
    pub fn is_closed(&mut self) -> bool {
        assert_eq!(String::from_utf8_lossy(&self.read), "");
        match self.stream.read(&mut [0; 1]) {
            Ok(0) => true,
            Ok(_) => panic!("more bytes"),
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }

    /// Begins a stream of events.
    pub fn stream(address: SocketAddr, query: &str, fields: &str) -> Client {
        let mut client = Client::new(address);
        client.send(&format!(
            "GET /v1/stream{query} HTTP/1.1\r\nHost: here\r\n{fields}\r\n"
        ));
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(
            head.contains("Content-Type: text/event-stream\r\n"),
            "{head}"
        );
        client
    }

    /// The next event, without comments: its fields.
    pub fn event(&mut self) -> Event {
        loop {
            let end = |bytes: &[u8]| bytes.windows(2).position(|two| two == b"\n\n");
            let text = self.until("an event", |bytes| Some(end(bytes)? + 2));
            let text = String::from_utf8(text).expect("UTF-8");
            if text.starts_with(':') {
                continue;
            }
            let field = |name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(name));
                line.map(|value| value[1..].trim_start().to_owned())
            };
            let id = field("id");
            if let Some(id) = &id {
                self.cursor.clone_from(id);
            }
            let number = |id: String| id.rsplit('-').next().map(str::to_owned);
            let id = id.and_then(number).filter(|id| !id.is_empty());
            return Event {
                // That of a change of keys is no number.
                id: id.and_then(|id| id.parse().ok()),
                name: field("event"),
                data: field("data").expect("data"),
            };
        }
    }
}

/// A server-sent event.
#[derive(Debug, PartialEq)]
pub struct Event {
    pub id: Option<u64>,
    pub name: Option<String>,
    pub data: String,
}

impl Event {
    /// The event of a report.
    pub fn of(number: u64, line: &str) -> Event {
        Event {
            id: Some(number),
            name: None,
            data: line.to_owned(),
        }
    }
}

/// A running server.
pub struct Served {
    pub running: Running,
    pub address: SocketAddr,
    /// The address of its listener for metrics.
    pub metrics: Option<SocketAddr>,
}

impl Served {
    /// Serves a journal, with further flags.
    pub fn start(journal: &Path, flags: &[&str]) -> Served {
        let journal = journal.to_str().expect("a path in UTF-8");
        let fixed = ["serve", "--journal", journal, "--listen", "127.0.0.1:0"];
        let running = start(&[&fixed, flags].concat());
        let lines = if flags.contains(&"--metrics-listen") {
            2
        } else {
            1
        };
        let text = eventually("it listens", || {
            let text = running.stdout();
            (text.matches('\n').count() == lines).then_some(text)
        });
        let at = |what: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(what))?;
            line.split_once("://")?.1.parse().ok()
        };
        Served {
            address: at("listening on ").expect("an address"),
            metrics: at("metrics on "),
            running,
        }
    }

    /// Asks for a path, by a connection of its own.
    pub fn get(&self, path: &str) -> Answered {
        Client::new(self.address).get(path, "")
    }

    /// Asks until the answer fits.
    pub fn until(&self, path: &str, fits: impl Fn(&Answered) -> bool) -> Answered {
        eventually(path, || Some(self.get(path)).filter(&fits))
    }

    /// The value of a metric, as it is written.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let page = self.get("/metrics").body;
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim().parse().expect("a number"))
    }
}

/// A journal that a test writes.
pub struct Book {
    pub path: PathBuf,
    pub oracle: Oracle,
    /// All lines so far.
    pub lines: Vec<String>,
    start_us: u64,
}

impl Book {
    /// An empty file. Rounds follow each other from `start_us` on.
    pub fn new(start_us: u64) -> Book {
        let path = scratch("journal.jsonl");
        File::create(&path).unwrap();
        Book {
            path,
            oracle: Oracle::new(5, "binance:BTCUSDC"),
            lines: Vec::new(),
            start_us,
        }
    }

    /// Appends text to the file.
    pub fn append(&self, text: &str) {
        let mut file = OpenOptions::new().append(true).open(&self.path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// The next report, which is not written yet.
    pub fn next(&mut self, says: &[Says]) -> String {
        let line = self.oracle.line(self.start_us, says);
        self.start_us += GRID_US;
        self.lines.push(line.clone());
        line
    }

    /// Appends reports with a price each. Returns their lines.
    pub fn grow(&mut self, count: usize) -> Vec<String> {
        let from = self.lines.len();
        let text: String = (0..count)
            .map(|at| self.next(&[Price(100_000.0 + (from + at) as f64); 5]) + "\n")
            .collect();
        self.append(&text);
        self.lines[from..].to_vec()
    }
}
