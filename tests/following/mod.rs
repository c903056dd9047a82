//! Scripted servers of reports, which the test steps itself, and what `rsoracle follow` prints of them.
//!
//! Each test uses a part of this module.
#![allow(dead_code)]

use crate::signed::Says::Price;
use crate::signed::*;
use crate::support::*;
use nanoserde::DeJson;
use rsoracle::exchange::json;
use rsoracle::roster::text;
use rsoracle_proof::roster::Roster;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;

/// A line of `follow --json`.
#[derive(DeJson, Debug, PartialEq, Clone)]
pub struct Row {
    pub feed: String,
    pub round_start_us: u64,
    pub price: Option<f64>,
    pub time_us: Option<u64>,
    pub decision: String,
    pub spread: Option<f64>,
    pub prices: u16,
    pub n: u16,
    pub embedded: bool,
    pub sources: usize,
    pub sources_followed: usize,
    pub age_us: Option<u64>,
    pub fresh: Option<bool>,
    pub rounds_missing: u64,
    pub differences: Vec<String>,
}

/// What was printed so far, in whole lines.
pub fn rows(text: &str) -> Vec<Row> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let row = |line: &str| {
        assert_eq!(json::check(line), Ok(()), "{line}");
        Row::deserialize_json(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    let lines = whole
        .lines()
        .filter(|line| !line.starts_with("{\"rsoracle_proof\""));
    lines.map(row).collect()
}

/// Writes a roster to a file.
pub fn roster_file(roster: &Roster) -> String {
    let path = scratch("roster.toml");
    std::fs::write(&path, text::render(roster)).expect("a file");
    path.to_str().unwrap().to_owned()
}

/// `count` reports with a price each, from the round after `after` on.
pub fn lines(oracle: &mut Oracle, after: u64, count: u64) -> Vec<String> {
    let n = oracle.terms.n() as usize;
    let line = |round| {
        let says = vec![Price(100.0 + round as f64); n];
        oracle.line(START_US + round * GRID_US, &says)
    };
    (after..after + count).map(line).collect()
}

/// What becomes of a connection after its first answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It gets the reports that follow, as they are.
    Goes,
    /// It gets nothing more.
    Holds,
    Closes,
}

/// What a server knows when it answers a request.
pub struct Asked {
    /// The number of the connection, from 0.
    pub connection: usize,
    /// The report after which the client wants to go on.
    pub after: Option<usize>,
    pub head: String,
    /// All reports that the server has.
    pub lines: Vec<String>,
}

impl Asked {
    /// What an honest server sends: the reports after that one, or the newest one.
    pub fn honest(&self) -> Vec<u8> {
        let from = self.after.unwrap_or(self.lines.len().saturating_sub(1));
        [HEAD.as_bytes(), &events(&self.lines, from)].concat()
    }
}

type Answer = Box<dyn FnMut(&Asked) -> (Vec<u8>, Then)>;

struct Connection {
    stream: TcpStream,
    head: Vec<u8>,
    /// What is to be sent.
    rest: Vec<u8>,
    /// How many reports were sent or are to be, once it was asked.
    at: Option<usize>,
    then: Then,
}

/// A server of reports, numbered from 1.
pub struct Server {
    listener: TcpListener,
    pub address: SocketAddr,
    pub lines: Vec<String>,
    pub asked: Vec<Option<usize>>,
    answer: Answer,
    connections: Vec<Connection>,
}

pub const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";

/// A report as an event.
pub fn event(number: usize, line: &str) -> String {
    format!("id: {number}\ndata: {line}\n\n")
}

fn events(lines: &[String], from: usize) -> Vec<u8> {
    let numbered = (from + 1..).zip(&lines[from.min(lines.len())..]);
    let text: String = numbered.map(|(number, line)| event(number, line)).collect();
    text.into_bytes()
}

impl Server {
    /// A server that does what it should.
    pub fn honest(lines: &[String]) -> Server {
        Server::new(lines, |asked| (asked.honest(), Then::Goes))
    }

    /// `answer` returns what this one sends at first, head and events.
    pub fn new(
        lines: &[String],
        answer: impl FnMut(&Asked) -> (Vec<u8>, Then) + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Server {
            address: listener.local_addr().unwrap(),
            listener,
            lines: lines.to_vec(),
            asked: Vec::new(),
            answer: Box::new(answer),
            connections: Vec::new(),
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Does what can be done without waiting.
    pub fn step(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(true).unwrap();
            self.connections.push(Connection {
                stream,
                head: Vec::new(),
                rest: Vec::new(),
                at: None,
                then: Then::Goes,
            });
        }
        let mut connections = std::mem::take(&mut self.connections);
        connections.retain_mut(|connection| self.serve(connection));
        self.connections = connections;
    }

    /// Whether the connection stays.
    fn serve(&mut self, connection: &mut Connection) -> bool {
        let mut buffer = [0; 4096];
        match connection.stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(count) => connection.head.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
        match connection.at {
            None if connection.head.ends_with(b"\r\n\r\n") => {
                let head = String::from_utf8(std::mem::take(&mut connection.head)).unwrap();
                let field = head
                    .lines()
                    .find_map(|line| line.strip_prefix("Last-Event-ID: "));
                let after = field.map(|number| number.parse().expect("a number"));
                let from = after.unwrap_or(self.lines.len().saturating_sub(1));
                let asked = Asked {
                    connection: self.asked.len(),
                    after,
                    head,
                    lines: self.lines.clone(),
                };
                self.asked.push(after);
                (connection.rest, connection.then) = (self.answer)(&asked);
                connection.at = Some(self.lines.len().max(from));
            }
            Some(at) if connection.then == Then::Goes && at < self.lines.len() => {
                connection.rest.extend(events(&self.lines, at));
                connection.at = Some(self.lines.len());
            }
            _ => {}
        }
        while !connection.rest.is_empty() {
            match connection.stream.write(&connection.rest) {
                Ok(count) => drop(connection.rest.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
        connection.at.is_none() || connection.then != Then::Closes
    }
}

/// Steps all servers until `condition` returns a value.
pub fn until<T>(
    what: &str,
    servers: &mut [Server],
    mut condition: impl FnMut(&mut [Server]) -> Option<T>,
) -> T {
    eventually(what, || {
        servers.iter_mut().for_each(Server::step);
        condition(servers)
    })
}

/// Starts `follow --json` on all servers.
pub fn follow(servers: &[Server], roster: &str, flags: &[&str]) -> Running {
    let urls: Vec<String> = servers.iter().map(Server::url).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    start(&[&["follow", "--json", "--roster", roster], &urls[..], flags].concat())
}

/// Steps the servers until there are so many rows.
pub fn rows_until(running: &Running, servers: &mut [Server], count: usize) -> Vec<Row> {
    until(&format!("{count} rows"), servers, |_| {
        let rows = rows(&running.stdout());
        assert!(
            rows.len() <= count,
            "more than {count} rows: {:?}",
            rows.last()
        );
        (rows.len() == count).then_some(rows)
    })
}

/// Steps the servers until there is a line with this part on standard error.
pub fn named(running: &Running, servers: &mut [Server], part: &str) -> String {
    until(&format!("{part:?} on standard error"), servers, |_| {
        let text = running.stderr();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .find(|line| line.contains(part))
            .map(str::to_owned)
    })
}

/// Runs a command to its end while the servers are stepped.
pub fn finished(mut running: Running, servers: &mut [Server]) -> Finished {
    until("its end", servers, |_| running.ended().then_some(()));
    running.finish()
}

/// Whether these rows are of the rounds from `first` on, with the prices of [`lines`].
pub fn assert_rounds(rows: &[Row], first: u64) {
    for (round, row) in (first..).zip(rows) {
        assert_eq!(row.round_start_us, START_US + round * GRID_US, "{row:?}");
        assert_eq!(row.price, Some(100.0 + round as f64), "{row:?}");
    }
}

/// The lines of a file.
pub fn kept(path: impl AsRef<Path>) -> Vec<String> {
    let text = std::fs::read_to_string(path.as_ref()).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// `rsoracle verify` of these files.
pub fn verified(roster: &str, files: &[&str]) -> Finished {
    run(&[&["verify", "--roster", roster], files].concat())
}
