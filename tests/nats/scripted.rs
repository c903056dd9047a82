//! A NATS server of one stream that refuses as a test tells it, which the test steps itself.

use super::{Book, number};
use crate::support::*;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// How JetStream describes a stream that fits.
const ABOUT: &str = "{\"config\":{\"subjects\":[\"rsoracle.*.reports\"],\"retention\":\"limits\",\"max_bytes\":-1,\"max_age\":0,\"num_replicas\":3,\"allow_direct\":true},\"created\":\"2026-01-01T00:00:00Z\"}";
const NOTHING: &str = "NATS/1.0 404 Message Not Found\r\n\r\n";

/// What a client asked.
struct Asked {
    subject: String,
    reply: String,
    payload: String,
}

struct Connection {
    stream: TcpStream,
    bytes: Vec<u8>,
    rest: Vec<u8>,
}

/// The server.
pub struct Scripted {
    listener: TcpListener,
    pub address: SocketAddr,
    connections: Vec<Connection>,
    /// How many connections there were.
    pub opened: usize,
    /// How many messages were published or asked for.
    pub asked: usize,
    /// What the stream has: subject and content.
    pub stored: Vec<(String, String)>,
    /// The errors with which the next messages are refused, the last one first.
    pub refusals: Vec<String>,
    /// The error with which all are refused.
    pub refuses: Option<String>,
    /// Another server of the cluster.
    pub names: Option<SocketAddr>,
}

impl Scripted {
    pub fn start() -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Scripted {
            address: listener.local_addr().unwrap(),
            listener,
            connections: Vec::new(),
            opened: 0,
            asked: 0,
            stored: Vec::new(),
            refusals: Vec::new(),
            refuses: None,
            names: None,
        }
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Answers until `condition` returns a value, while the client runs.
    pub fn until<T>(
        &mut self,
        what: &str,
        client: &mut Running,
        mut condition: impl FnMut(&mut Scripted, &Running) -> Option<T>,
    ) -> T {
        eventually(what, || {
            assert!(!client.ended(), "it has ended: {}", client.stderr());
            self.step();
            condition(self, client)
        })
    }

    /// Answers until the stream has every line of a journal of one feed, and nothing else.
    pub fn until_stored(&mut self, book: &Book, relay: &mut Running) {
        self.until("all that the journal has", relay, |server, _| {
            let stored: Vec<&String> = server.stored.iter().map(|(_, line)| line).collect();
            let is_all = stored.len() == book.lines.len();
            is_all.then(|| assert_eq!(stored, book.lines.iter().collect::<Vec<_>>()))
        });
    }

    /// Says something on each connection that has taken what was said before.
    pub fn say(&mut self, text: &str) {
        let mut ready = self.connections.iter_mut();
        while let Some(one) = ready.find(|one| one.rest.is_empty()) {
            one.rest.extend_from_slice(text.as_bytes());
        }
    }

    /// Hands out the newest connection, which is stepped no more.
    pub fn take(&mut self) -> TcpStream {
        let stream = self.connections.pop().expect("a connection").stream;
        stream.set_nonblocking(false).unwrap();
        stream
    }

    /// Does what can be done without waiting.
    pub fn step(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(true).unwrap();
            self.opened += 1;
            let others = self.names.map_or(String::new(), |one| format!("\"{one}\""));
            let hello = format!(
                "INFO {{\"headers\":true,\"max_payload\":1048576,\"connect_urls\":[{others}]}}\r\n"
            );
            self.connections.push(Connection {
                stream,
                bytes: Vec::new(),
                rest: hello.into_bytes(),
            });
        }
        let mut connections = std::mem::take(&mut self.connections);
        connections.retain_mut(|connection| self.serve(connection).is_ok());
        self.connections = connections;
    }

    fn serve(&mut self, connection: &mut Connection) -> Result<(), ErrorKind> {
        let mut buffer = [0; 16_384];
        match connection.stream.read(&mut buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof),
            Ok(count) => connection.bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.kind()),
        }
        while let Some(text) = self.take_next(&mut connection.bytes) {
            connection.rest.extend_from_slice(text.as_bytes());
        }
        while !connection.rest.is_empty() {
            match connection.stream.write(&connection.rest) {
                Ok(count) => drop(connection.rest.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.kind()),
            }
        }
        Ok(())
    }

    /// Takes what a client says next, once it is whole, and returns the answer.
    fn take_next(&mut self, bytes: &mut Vec<u8>) -> Option<String> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let line = String::from_utf8(bytes[..end].to_vec()).expect("text");
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_message = matches!(words[0], "PUB" | "HPUB");
        let total = match is_message {
            true => words[words.len() - 1].parse().expect("a length"),
            false => 0,
        };
        let whole = end + 1 + if is_message { total + 2 } else { 0 };
        if bytes.len() < whole {
            return None;
        }
        let body: Vec<u8> = bytes.drain(..whole).skip(end + 1).take(total).collect();
        let body = String::from_utf8(body).expect("text");
        let asked = |head: usize| Asked {
            subject: words[1].to_owned(),
            reply: words[2].to_owned(),
            payload: body[head..].to_owned(),
        };
        Some(match words[0] {
            "PING" => "PONG\r\n".to_owned(),
            "PUB" => self.tell(&asked(0)),
            "HPUB" => {
                let head = words[3].parse().expect("a length");
                let last = body.lines().find_map(|line| {
                    line.strip_prefix("Nats-Expected-Last-Subject-Sequence: ")?
                        .parse()
                        .ok()
                });
                self.store(&asked(head), last.expect("a sequence"))
            }
            _ => String::new(),
        })
    }

    /// Answers a question about the stream.
    fn tell(&mut self, asked: &Asked) -> String {
        self.asked += 1;
        let reply = &asked.reply;
        if asked.subject.starts_with("$JS.API.STREAM.INFO.") {
            return format!("MSG {reply} 1 {}\r\n{ABOUT}\r\n", ABOUT.len());
        }
        let is_of = |(subject, _): &(String, String)| {
            asked.payload.contains(&format!("by_subj\":\"{subject}\""))
        };
        let found = match number(&asked.payload, "seq") {
            None => self.stored.iter().rposition(is_of),
            Some(from) => {
                let from = from as usize - 1;
                let rest = self.stored.iter().skip(from);
                rest.clone().position(is_of).map(|at| from + at)
            }
        };
        let (head, line) = match found {
            None => (NOTHING.to_owned(), ""),
            Some(at) => {
                let (subject, line) = &self.stored[at];
                let sequence = at + 1;
                let head = format!(
                    "NATS/1.0\r\nNats-Subject: {subject}\r\nNats-Sequence: {sequence}\r\n\r\n"
                );
                (head, &**line)
            }
        };
        let total = head.len() + line.len();
        format!("HMSG {reply} 1 {} {total}\r\n{head}{line}\r\n", head.len())
    }

    /// Stores a message after the one of this sequence, or refuses it.
    fn store(&mut self, asked: &Asked, after: usize) -> String {
        self.asked += 1;
        let mut stored = self.stored.iter();
        let last = stored.rposition(|(subject, _)| *subject == asked.subject);
        let last = last.map_or(0, |at| at + 1);
        let scripted = self.refusals.pop().or_else(|| self.refuses.clone());
        let error = scripted.or_else(|| (after != last).then(|| error(400, 10_071, "wrong last")));
        let answer = match error {
            Some(error) => format!("{{\"error\":{error},\"seq\":0}}"),
            None => {
                self.stored
                    .push((asked.subject.clone(), asked.payload.clone()));
                format!("{{\"stream\":\"RSORACLE\",\"seq\":{}}}", self.stored.len())
            }
        };
        format!("MSG {} 1 {}\r\n{answer}\r\n", asked.reply, answer.len())
    }
}

/// An error of JetStream.
pub fn error(code: u64, err_code: u64, text: &str) -> String {
    format!("{{\"code\":{code},\"err_code\":{err_code},\"description\":\"{text}\"}}")
}
