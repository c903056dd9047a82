//! Real NATS servers, alone or as a cluster, and a client that shares no code with ours.
//!
//! Each test uses a part of this module.
#![allow(dead_code)]

pub mod scripted;

use crate::signed::Says::Price;
use crate::signed::*;
use crate::support::*;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A server, which keeps its address and its files when it is started again.
pub struct Nats {
    config: PathBuf,
    pub address: SocketAddr,
    pub running: Option<Running>,
}

impl Nats {
    /// Starts a server alone, with more lines of configuration.
    pub fn start(more: &str) -> Nats {
        let mut nats = Nats::of("alone", nobodys_address(), more);
        nats.again();
        nats
    }

    /// A server that is not started yet.
    fn of(name: &str, address: SocketAddr, more: &str) -> Nats {
        let config = scratch("nats.conf");
        let store = config.with_file_name("store");
        let text = format!(
            "server_name: {name}\nlisten: \"{address}\"\njetstream {{ store_dir: \"{}\" }}\n{more}\n",
            store.display()
        );
        std::fs::write(&config, text).unwrap();
        Nats {
            config,
            address,
            running: None,
        }
    }

    /// Starts it again, and waits until it greets.
    pub fn again(&mut self) {
        let mut command = Command::new("nats-server");
        command.arg("-c").arg(&self.config).stdin(Stdio::null());
        let running = self.running.insert(start_command(command));
        let address = self.address;
        eventually("the server greets", || {
            assert!(!running.ended(), "{}", running.stderr());
            let stream = TcpStream::connect(address).ok()?;
            stream.set_read_timeout(Some(LONG)).ok()?;
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line).ok()?;
            line.starts_with("INFO ").then_some(())
        });
    }

    /// Changes its configuration, which counts from its next start on.
    pub fn configure(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(&self.config).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(&self.config, text.replacen(from, to, 1)).unwrap();
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.running.take();
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Connects to it.
    pub fn client(&self) -> Client {
        eventually("a connection", || Client::new(self.address))
    }

    pub fn stderr(&self) -> String {
        self.running.as_ref().expect("it runs").stderr()
    }
}

/// Three servers that are a cluster.
pub fn cluster() -> [Nats; 3] {
    let routes = [0; 3].map(|_| nobodys_address());
    let all: String = routes.map(|one| format!("\"nats://{one}\", ")).concat();
    let one = |at: usize| {
        let more = format!(
            "cluster {{ name: trio, listen: \"{}\", routes: [ {all} ] }}\nlame_duck_duration: \"30s\"\nlame_duck_grace_period: \"1s\"",
            routes[at]
        );
        Nats::of(&format!("s{at}"), nobodys_address(), &more)
    };
    let mut servers = [0, 1, 2].map(one);
    servers.iter_mut().for_each(Nats::again);
    servers
}

/// A connection.
pub struct Client {
    stream: BufReader<TcpStream>,
    /// Where answers come: no other connection has it.
    inbox: String,
    asked: u64,
}

/// The number of connections so far.
static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);

/// A message: its headers and its content.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub headers: String,
    pub payload: String,
}

impl Client {
    fn new(address: SocketAddr) -> Option<Client> {
        let stream = TcpStream::connect(address).ok()?;
        stream
            .set_read_timeout(Some(std::time::Duration::from_secs(5)))
            .ok()?;
        let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        let mut client = Client {
            stream: BufReader::new(stream),
            inbox: format!("_INBOX.test-{number}"),
            asked: 0,
        };
        client.line()?;
        let hello = format!(
            "CONNECT {{\"verbose\":false,\"headers\":true,\"no_responders\":true}}\r\nSUB {}.* 1\r\n",
            client.inbox
        );
        client.write(hello.as_bytes())?;
        Some(client)
    }

    fn write(&mut self, bytes: &[u8]) -> Option<()> {
        self.stream.get_mut().write_all(bytes).ok()
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.stream
            .read_line(&mut line)
            .ok()
            .filter(|count| *count > 0)?;
        Some(line)
    }

    /// Publishes, and returns the answer; None if the connection ended, or nothing came for five seconds.
    pub fn ask(&mut self, subject: &str, headers: &str, payload: &str) -> Option<Message> {
        self.asked_raw(subject, &format!("NATS/1.0\r\n{headers}\r\n"), payload)
    }

    /// The same with headers as they are.
    pub fn asked_raw(&mut self, subject: &str, head: &str, payload: &str) -> Option<Message> {
        self.asked += 1;
        let own = format!("{}.{}", self.inbox, self.asked);
        let total = head.len() + payload.len();
        let text = format!(
            "HPUB {subject} {own} {} {total}\r\n{head}{payload}\r\n",
            head.len()
        );
        self.write(text.as_bytes())?;
        loop {
            let line = self.line()?;
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[0] {
                "PING" => self.write(b"PONG\r\n")?,
                "MSG" | "HMSG" => {
                    let total: usize = words[words.len() - 1].parse().unwrap();
                    let head: usize = match words[0] {
                        "HMSG" => words[words.len() - 2].parse().unwrap(),
                        _ => 0,
                    };
                    let mut bytes = vec![0; total + 2];
                    self.stream.read_exact(&mut bytes).ok()?;
                    let text = String::from_utf8_lossy(&bytes[..total]).into_owned();
                    if words[1] == own {
                        let (headers, payload) = text.split_at(head);
                        return Some(Message {
                            headers: headers.to_owned(),
                            payload: payload.to_owned(),
                        });
                    }
                }
                "INFO" | "+OK" => {}
                other => panic!("{other} in {line}"),
            }
        }
    }

    /// Asks JetStream's API.
    pub fn api(&mut self, what: &str, payload: &str) -> Option<String> {
        Some(self.ask(&format!("$JS.API.{what}"), "", payload)?.payload)
    }

    /// The last sequence of a stream; None if there is no answer.
    pub fn last(&mut self, stream: &str) -> Option<u64> {
        number(&self.api(&format!("STREAM.INFO.{stream}"), "")?, "last_seq")
    }
}

/// The number of a member of JSON, wherever it stands.
pub fn number(json: &str, name: &str) -> Option<u64> {
    let (_, rest) = json.split_once(&format!("\"{name}\":"))?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// A server of this cluster that answers.
pub fn anyone(servers: &[Nats]) -> Client {
    let mut running = servers.iter().filter(|one| one.running.is_some());
    running.next().expect("one runs").client()
}

/// All messages of a stream in their order, by subject, as its leader has them. (Direct gets are answered by any replica, which
/// may be behind, and with nats-server 2.9 may have other messages than the leader after a server was killed.)
pub fn messages(servers: &[Nats], stream: &str) -> BTreeMap<String, Vec<Message>> {
    let mut client = anyone(servers);
    let mut api = |what: &str, payload: &str| {
        eventually("an answer", || {
            let answer = client.api(&format!("{what}.{stream}"), payload);
            if answer.is_none() {
                client = anyone(servers);
            }
            answer
        })
    };
    let last = number(&api("STREAM.INFO", ""), "last_seq").expect("the stream's end");
    let mut all = BTreeMap::new();
    for sequence in 1..=last {
        let found = api("STREAM.MSG.GET", &format!("{{\"seq\":{sequence}}}"));
        let part = |name: &str| {
            let (_, rest) = found.split_once(&format!("\"{name}\":\""))?;
            Some(rest.split_once('"')?.0)
        };
        let Some(subject) = part("subject") else {
            assert!(found.contains("no message found"), "{found}");
            continue;
        };
        let message = Message {
            headers: from_base64(part("hdrs").unwrap_or("")),
            payload: from_base64(part("data").unwrap_or("")),
        };
        all.entry(subject.to_owned())
            .or_insert_with(Vec::new)
            .push(message);
    }
    all
}

fn from_base64(text: &str) -> String {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for digit in text.trim_end_matches('=').chars() {
        bits = bits << 6 | DIGITS.find(digit).expect("base64") as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    String::from_utf8(bytes).expect("text")
}

/// A journal of several feeds.
pub struct Book {
    pub path: PathBuf,
    pub oracles: Vec<Oracle>,
    pub lines: Vec<String>,
    round: u64,
}

impl Book {
    /// An empty journal of these feeds, of one collector.
    pub fn new(feeds: &[&str]) -> Book {
        let path = scratch("journal.jsonl");
        File::create(&path).unwrap();
        Book {
            path,
            oracles: oracles(feeds, 1, "binance:BTCUSDC"),
            lines: Vec::new(),
            round: 0,
        }
    }

    /// Appends so many rounds: a report of each feed in each.
    pub fn grow(&mut self, rounds: usize) {
        for _ in 0..rounds {
            let says = [Price(100.0 + self.round as f64)];
            let lines = lines_of(&mut self.oracles, START_US + self.round * GRID_US, &says);
            self.round += 1;
            self.append(&lines);
        }
    }

    /// Appends lines.
    pub fn append(&mut self, lines: &[String]) {
        let mut file = OpenOptions::new().append(true).open(&self.path).unwrap();
        file.write_all((lines.join("\n") + "\n").as_bytes())
            .unwrap();
        self.lines.extend_from_slice(lines);
    }

    /// Closes the file as a segment of this number, as an aggregator does, and begins another one.
    pub fn close_segment(&self, number: u64) -> String {
        let closed = format!("{}.{number:06}", self.name());
        std::fs::hard_link(&self.path, &closed).unwrap();
        let fresh = self.path.with_extension("new");
        File::create(&fresh).unwrap();
        std::fs::rename(&fresh, &self.path).unwrap();
        closed
    }

    pub fn name(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// The lines of a feed.
    pub fn of(&self, feed: &str) -> Vec<String> {
        let part = format!("\"feed\":\"{feed}\"");
        self.lines
            .iter()
            .filter(|line| line.contains(&part))
            .cloned()
            .collect()
    }

    /// Starts a relay of it.
    pub fn relay(&self, url: &str, flags: &[&str]) -> Running {
        let fixed = ["relay", "--journal", self.name(), "--nats", url];
        start(&[&fixed, flags].concat())
    }

    /// Waits until a relay has said that the stream has all that the journal has now, as it does once after it connected or waited.
    pub fn until_said(&self, relay: &Running) {
        let ends = self.oracles.iter().map(|oracle| {
            let feed = &oracle.terms.feed;
            let line = self.of(feed).pop().expect("a line");
            let number = number(&line, "number").expect("a number");
            format!("{feed}: report {number}")
        });
        let ends = ends.collect::<Vec<_>>().join(", ");
        relay.stderr_line(&format!("has all that the journal has ({ends})"));
    }

    /// Waits until the stream of a relay ends, as its leader says, with the newest line of each feed.
    pub fn until_published(&self, servers: &[Nats], relay: &Running) {
        let mut client = anyone(servers);
        for oracle in &self.oracles {
            let feed = &oracle.terms.feed;
            let newest = self.of(feed).pop().expect("a line");
            let subject = format!("rsoracle.{}.reports", feed.replace('/', "-"));
            let asks = format!("{{\"last_by_subj\":\"{subject}\"}}");
            let what = format!("the newest report of {feed} in the stream");
            eventually(&what, || {
                let said = relay.stderr();
                assert!(!said.contains("cannot publish"), "{said}");
                // nats-server 2.9 crashes if it is asked for a message of a stream that it is about to make.
                if client.last("RSORACLE").is_none_or(|last| last == 0) {
                    client = anyone(servers);
                    return None;
                }
                let Some(found) = client.api("STREAM.MSG.GET.RSORACLE", &asks) else {
                    client = anyone(servers);
                    return None;
                };
                let (_, rest) = found.split_once("\"data\":\"")?;
                let data = rest.split_once('"')?.0;
                (from_base64(data) == newest).then_some(())
            });
        }
    }

    /// Asserts that a stream has every line of the journal once and in order, with its signature as its id, and nothing else.
    pub fn assert_there(&self, servers: &[Nats], stream: &str) {
        let mut all = messages(servers, stream);
        for oracle in &self.oracles {
            let feed = &oracle.terms.feed;
            let subject = format!("rsoracle.{}.reports", feed.replace('/', "-"));
            let there = all.remove(&subject).unwrap_or_default();
            let payloads: Vec<&str> = there.iter().map(|one| &*one.payload).collect();
            let numbers = payloads.iter().map(|one| number(one, "number"));
            let numbers: Vec<_> = numbers.collect();
            assert!(payloads == self.of(feed), "{feed}: {numbers:?}");
            for (line, message) in payloads.iter().zip(&there) {
                let id = format!(
                    "Nats-Msg-Id: {}\r\n",
                    &line[line.len() - 130..line.len() - 2]
                );
                assert!(message.headers.contains(&id), "{}", message.headers);
            }
        }
        assert!(all.is_empty(), "{:?}", all.keys());
    }
}

/// Starts `follow --json` on a stream, with a journal of its own. Returns it and the journal.
pub fn followed(url: &str, roster: &str, flags: &[&str]) -> (Running, String) {
    let journal = scratch("kept.jsonl").to_str().unwrap().to_owned();
    (follow_into(&journal, url, roster, flags), journal)
}

/// The same with this journal, which may be there.
pub fn follow_into(journal: &str, url: &str, roster: &str, flags: &[&str]) -> Running {
    let fixed = [
        "follow",
        url,
        "--json",
        "--roster",
        roster,
        "--journal",
        journal,
    ];
    start(&[&fixed, flags].concat())
}
