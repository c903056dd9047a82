//! A real `rsoracle collect` whose aggregator the test plays, and its parent too if it has one. Each test uses a part of this module.
#![allow(dead_code)]

use super::support::peer::{Peer, SOURCE, collector_key, roster};
use super::support::{Running, eventually, rsoracle, scratch, start_command};
use rsoracle::keys::create;
use rsoracle::keys::secret::SecretKey;
use rsoracle::system::now::wall_us;
use rsoracle::wire::tether::terms_message;
use rsoracle::wire::*;
use rsoracle_proof::answer::answer;
use rsoracle_proof::reason::Reject;
use rsoracle_proof::record::{Observation, Record};
use rsoracle_proof::roster::Roster;
use rsoracle_proof::seal::{ObservationContext, PublicKey, hex, observation_bytes, samples_digest};
use rsoracle_proof::terms::{Terms, tag};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The slot of the collector.
pub const SLOT: u16 = 3;

/// How often the test's aggregator sends a ping. A collector takes an aggregator for dead that is silent for 15 s.
const PING: Duration = Duration::from_secs(2);

/// The two ports of an aggregator that the test plays, and all data connections to it.
pub struct Ports {
    /// The listener of the control channel.
    pub control: TcpListener,
    /// The listener of the data channel.
    pub data: TcpListener,
    inlets: Vec<Inlet>,
    /// How many data connections have come.
    pub connections: usize,
    /// Every data frame that has come, in this order.
    pub frames: Vec<DataFrame>,
    /// How many feeds the collector prices.
    pub feeds: usize,
}

/// A data connection.
struct Inlet {
    peer: Peer,
    key: Option<[u8; 32]>,
}

/// Listens on two free ports.
pub fn ports() -> Ports {
    ports_at([SocketAddr::from(([127, 0, 0, 1], 0)); 2])
}

/// Listens on these addresses, for control and data.
pub fn ports_at(addresses: [SocketAddr; 2]) -> Ports {
    let [control, data] = addresses.map(|address| {
        let listener = TcpListener::bind(address).expect("a free port");
        listener.set_nonblocking(true).expect("O_NONBLOCK");
        listener
    });
    Ports {
        control,
        data,
        inlets: Vec::new(),
        connections: 0,
        frames: Vec::new(),
        feeds: 1,
    }
}

/// The key of the aggregator that the test plays.
pub fn aggregator_key() -> SecretKey {
    SecretKey::from_seed(&mut [99; 32])
}

/// The address of a listener.
pub fn address(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("an address")
}

/// The next connection to a listener, if there is one.
pub fn try_accept(listener: &TcpListener) -> Option<Peer> {
    match listener.accept() {
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        accepted => Some(Peer::over(accepted.expect("a connection").0)),
    }
}

/// Waits for the next connection to a listener.
pub fn accept(listener: &TcpListener) -> Peer {
    eventually("the collector connects", || try_accept(listener))
}

impl Ports {
    /// Reads what has come on the data channel. Nothing but answers of `key` may come there: for each start at most one of each feed,
    /// and their starts strictly increase. (A new connection gets the answers of the running round once more.)
    pub fn look(&mut self, key: &PublicKey) {
        while let Some(peer) = try_accept(&self.data) {
            self.inlets.push(Inlet { peer, key: None });
            self.connections += 1;
        }
        for inlet in &mut self.inlets {
            if inlet.key.is_none() {
                let preamble = inlet.peer.take();
                inlet.key = preamble.map(|bytes| Preamble::decode(&bytes).expect("one").key);
                assert!(inlet.key.is_none_or(|found| found == *key.bytes()));
            }
            while inlet.key.is_some()
                && let Some(bytes) = inlet.peer.take()
            {
                let frame = DataFrame::decode(&bytes);
                let newest = self.frames.last();
                let again = self
                    .frames
                    .iter()
                    .rev()
                    .take(self.feeds)
                    .any(|it| *it == frame);
                let later = newest.is_none_or(|newest| newest.start_us < frame.start_us);
                let of_start = |it: &&DataFrame| it.start_us == frame.start_us;
                let beside: Vec<_> = self.frames.iter().rev().take_while(of_start).collect();
                let foreign = beside.iter().all(|it| it.tag != frame.tag);
                let of_another = !later && foreign && (1..self.feeds).contains(&beside.len());
                assert!(again || later || of_another, "{frame:?} after {newest:?}");
                self.frames.extend((!again).then_some(frame));
            }
        }
    }

    /// Ends all data connections. An aggregator that `speaks` sends something first, which has no place on this channel.
    pub fn end_data(&mut self, speaks: bool) {
        for inlet in &mut self.inlets {
            match speaks {
                true => drop(inlet.peer.send(b"?")),
                false => inlet.peer.half_close(),
            }
        }
        self.inlets.retain(|_| speaks);
    }
}

/// The text of a roster of five slots, the fourth of which is `key`'s. Rounds start at every multiple of the period.
pub fn roster_text(key: &PublicKey, samples: u32, interval: &str, period: &str) -> String {
    let others = (0..5).map(|slot| collector_key(slot).public());
    let mut keys: Vec<PublicKey> = others.collect();
    keys[usize::from(SLOT)] = *key;
    let text = roster(&keys, samples, interval);
    let (before, rest) = text.split_once("period = \"").expect("a period");
    let (_, after) = rest.split_once('"').expect("its end");
    format!("{before}period = \"{period}\"{after}")
}

/// The text of a roster of these feeds. Beside each is what slot 3, which is `key`'s, watches for it, or nothing. Of the other four
/// slots, all price the first feed, three of them the second and two the third.
pub fn feeds_text(
    key: &PublicKey,
    feeds: &[(&str, &str)],
    samples: u32,
    interval: &str,
    period: &str,
) -> String {
    let single = roster_text(key, samples, interval, period);
    let (top, rest) = single.split_once("[feed.").expect("a feed");
    let (head, slots) = rest.split_once("[slot.0]").expect("a slot");
    let (_, head) = head.split_once('\n').expect("a line");
    let mut text = top.to_owned();
    for (name, _) in feeds {
        text += &format!("[feed.\"{name}\"]\n{head}");
    }
    for (slot, section) in format!("[slot.0]{slots}")
        .split("[slot.")
        .skip(1)
        .enumerate()
    {
        let source = |(feed, (_, own)): (usize, &(&str, &str))| match slot {
            _ if slot == usize::from(SLOT) => format!("\"{own}\""),
            _ if slot >= feed % 3 => format!("\"{SOURCE}\""),
            _ => "\"\"".to_owned(),
        };
        let sources: Vec<String> = feeds.iter().enumerate().map(source).collect();
        let sources = sources.join(", ");
        text += &format!(
            "[slot.{}",
            section.replace(&format!("\"{SOURCE}\""), &sources)
        );
    }
    text
}

/// The terms of that roster.
pub fn charter(key: &PublicKey, samples: u32, interval: &str, period: &str) -> Terms {
    let text = roster_text(key, samples, interval, period);
    Roster::parse(&text).expect("a roster").feeds.remove(0)
}

/// The same terms for one round only, which begins then.
pub fn once(mut terms: Terms, start_us: u64) -> Terms {
    (terms.schedule.period_us, terms.schedule.first_start_us) = (0, start_us);
    terms
}

/// A collector, and its tether's other end if it has one.
pub struct Child {
    /// Its process.
    pub running: Running,
    /// Our end.
    pub tether: Option<UnixStream>,
    /// Its public key.
    pub key: PublicKey,
}

impl Child {
    /// Starts the collector of slot 3 and reads its key. It has not got the aggregator's yet.
    pub fn start(ports: &Ports, exchange_url: &str) -> Child {
        Child::start_with(ports, exchange_url, &[])
    }

    /// The same with more arguments.
    pub fn start_with(ports: &Ports, exchange_url: &str, args: &[&str]) -> Child {
        Child::start_of(ports, exchange_url, SOURCE, args)
    }

    /// The same with another source.
    pub fn start_of(ports: &Ports, exchange_url: &str, source: &str, args: &[&str]) -> Child {
        let (tether, stdin) = UnixStream::pair().expect("sockets");
        let mut command = rsoracle();
        command.args(["collect", "--tether", "--slot", "3", "--source", source]);
        command.args(["--endpoint", exchange_url, "--stay"]);
        command.args(["--control", &address(&ports.control).to_string()]);
        command
            .args(["--data", &address(&ports.data).to_string()])
            .args(args);
        command.stdin(Stdio::from(OwnedFd::from(stdin)));
        let running = start_command(command);
        tether.set_nonblocking(true).expect("O_NONBLOCK");
        let mut shown = Vec::new();
        let key = eventually("the collector shows its key", || {
            let mut bytes = [0; 33];
            let count = (&tether).read(&mut bytes).unwrap_or(0);
            shown.extend_from_slice(&bytes[..count]);
            shown.first_chunk().copied()
        });
        assert_eq!(shown.len(), 32, "nothing else goes up the tether");
        Child {
            running,
            tether: Some(tether),
            key: PublicKey::decode(&key).expect("a key"),
        }
    }

    /// Hands it bytes.
    pub fn hand(&mut self, bytes: &[u8]) {
        let mut left = bytes;
        let tether = self.tether.as_mut().expect("it has one");
        eventually("the collector reads its tether", || {
            match tether.write(left) {
                Ok(count) => left = &left[count..],
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            left.is_empty().then_some(())
        });
    }

    /// Hands it the aggregator's key, as must be done first.
    pub fn introduce(&mut self) {
        self.hand(aggregator_key().public().bytes());
    }

    /// Hands it terms that hold for starts from `from_us` on.
    pub fn hand_terms(&mut self, from_us: u64, terms: &Terms) {
        self.hand(&terms_message(from_us, std::slice::from_ref(terms)));
    }

    /// Ends its tether. It must end because of that, well.
    pub fn part(self) {
        drop(self.tether.expect("it has one"));
        let done = self.running.finish();
        assert_eq!(done.code, Some(0), "{}", done.stderr);
    }
}

/// The files of a collector that is started by hand.
pub struct Post {
    /// The roster.
    pub roster: String,
    /// The secret key.
    pub key_file: String,
    /// The public key.
    pub key: PublicKey,
    /// The roster's terms.
    pub terms: Terms,
}

impl Post {
    /// Makes a key, and a roster that names it.
    pub fn new(samples: u32, interval: &str, period: &str) -> Post {
        let key_file = scratch("slot-3.key");
        let roster = key_file.with_file_name("roster.toml");
        let [key_file, roster] = [key_file, roster].map(|path| path.display().to_string());
        let key = create(&key_file).expect("a key file");
        let post = Post {
            roster,
            key_file,
            key,
            terms: charter(&key, samples, interval, period),
        };
        post.replace(&roster_text(&key, samples, interval, period));
        post
    }

    /// Replaces its roster. Returns the terms of the feeds.
    pub fn replace(&self, text: &str) -> Vec<Terms> {
        std::fs::write(&self.roster, text).expect("a file");
        Roster::parse(text).expect("a roster").feeds
    }

    /// The file of its mark.
    pub fn mark(&self) -> String {
        format!("{}.mark", self.key_file)
    }

    /// The command that starts it, for these aggregators.
    pub fn command(&self, aggregators: &[&Ports], exchange_url: &str) -> Command {
        let mut command = rsoracle();
        command.args(["collect", "--roster", &self.roster, "--key", &self.key_file]);
        command.args(["--endpoint", exchange_url]);
        let key = hex(aggregator_key().public().bytes());
        for ports in aggregators {
            let (control, data) = (address(&ports.control), address(&ports.data));
            let place = format!("127.0.0.1:{},{}@{key}", control.port(), data.port());
            command.args(["--aggregator", &place]);
        }
        command.stdin(Stdio::null());
        command
    }

    /// Starts it.
    pub fn start(&self, aggregators: &[&Ports], exchange_url: &str) -> Child {
        self.start_with(aggregators, exchange_url, &[])
    }

    /// The same with more arguments.
    pub fn start_with(&self, aggregators: &[&Ports], exchange_url: &str, args: &[&str]) -> Child {
        let mut command = self.command(aggregators, exchange_url);
        command.args(args);
        Child {
            running: start_command(command),
            tether: None,
            key: self.key,
        }
    }
}

/// A control connection of a collector.
pub struct Line {
    /// The connection.
    pub control: Peer,
    /// Every *ready* that has come.
    pub ready: Vec<Ready>,
    /// Every sample that has come.
    pub samples: Vec<Sample>,
    /// How many pongs have come.
    pub pongs: usize,
    /// A refusal, if one has come.
    pub refused: Option<Reject>,
    /// Whether to send as many pings as the connection takes.
    pub floods: bool,
    pinged_at: Instant,
    /// How many bytes of a ping were sent last, if not all.
    cut: usize,
}

/// Greets a collector that has connected: challenge, hello, first ping.
pub fn greet(mut control: Peer, key: &PublicKey) -> Line {
    let nonce = [42; 32];
    control.send(&Challenge { nonce }.encode());
    let hello = Hello::decode(&control.next()).expect("a hello");
    assert_eq!(hello.key, *key.bytes());
    let signed = hello.signed_bytes(&nonce, &aggregator_key().public());
    assert!(key.signed(&signed, &hello.signature));
    let mut line = Line {
        control,
        ready: Vec::new(),
        samples: Vec::new(),
        pongs: 0,
        refused: None,
        floods: false,
        pinged_at: Instant::now(),
        cut: 0,
    };
    line.ping();
    line
}

impl Line {
    /// Sends a ping.
    pub fn ping(&mut self) {
        let clock_us = wall_us();
        self.control.send(&Ping { clock_us }.encode());
        self.pinged_at = Instant::now();
    }

    /// Reads what has come, and sends a ping when one is due.
    pub fn look(&mut self) {
        if self.floods {
            self.flood();
        } else if self.pinged_at.elapsed() >= PING {
            self.ping();
        }
        self.read();
    }

    /// Sends as many pings as the connection takes now.
    pub fn flood(&mut self) {
        let pings = Ping { clock_us: 7 }.encode().repeat(1_000);
        let sent = self.control.send_some(&pings[self.cut..]);
        self.cut = (self.cut + sent) % Ping::BYTES;
    }

    /// Reads what has come.
    fn read(&mut self) {
        while let Some(head) = self.control.got().first_chunk() {
            let kind = FrameKind::decode(head).expect("a frame");
            if self.control.got().len() < kind.bytes() {
                return;
            }
            let next = "the frame has come";
            match kind {
                FrameKind::Ready => {
                    let ready = Ready::decode(&self.control.take().expect(next));
                    self.ready.push(ready.expect("ready"));
                }
                FrameKind::Sample => {
                    let sample = Sample::decode(&self.control.take().expect(next));
                    self.samples.push(sample.expect("a sample"));
                }
                FrameKind::Pong => {
                    Pong::decode(&self.control.take().expect(next)).expect("a pong");
                    self.pongs += 1;
                }
                FrameKind::Refusal => {
                    let refusal = Refusal::decode(&self.control.take().expect(next));
                    self.refused = Some(refusal.expect("a refusal").reason);
                }
                kind => panic!("a collector sent {kind:?}"),
            }
        }
    }

    /// The records of one round that have come.
    pub fn records(&self, start_us: u64) -> Vec<Record> {
        let of_round = self.samples.iter();
        let of_round = of_round.filter(|sample| sample.start_us == start_us);
        of_round.map(|sample| sample.record).collect()
    }

    /// The same under these terms.
    pub fn records_under(&self, terms: &Terms, start_us: u64) -> Vec<Record> {
        let tag = tag(&terms.digest());
        let own = |sample: &&Sample| (sample.tag, sample.start_us) == (tag, start_us);
        let of_round = self.samples.iter().filter(own);
        of_round.map(|sample| sample.record).collect()
    }

    /// Waits until the collector says that it is ready under these terms, in slot 3.
    pub fn until_ready(&mut self, digest: [u8; 32]) {
        let slot = eventually("the collector is ready", || {
            self.look();
            let newest = self.ready.last()?;
            (newest.terms_digest == digest).then_some(newest.slot)
        });
        assert_eq!(slot, SLOT);
    }
}

/// A round that was answered.
pub struct Answered {
    /// Its start.
    pub start_us: u64,
    /// The records of its samples.
    pub records: Vec<Record>,
}

impl Answered {
    /// Whether no sample is missing.
    pub fn is_whole(&self) -> bool {
        self.records.iter().all(|record| record.price.is_ok())
    }
}

/// A collector that the test's aggregator has let in.
pub struct Enlisted {
    /// The ports of the aggregator.
    pub ports: Ports,
    /// The collector.
    pub child: Child,
    /// Its control connection.
    pub line: Line,
}

/// Starts a collector, and lets it in. It has no roster yet.
pub fn enlist(exchange_url: &str) -> Enlisted {
    let ports = ports();
    let mut child = Child::start(&ports, exchange_url);
    child.introduce();
    let line = greet(accept(&ports.control), &child.key);
    let mut enlisted = Enlisted { ports, child, line };
    enlisted.line.until_ready([0; 32]);
    enlisted
}

/// The same with terms that hold from now on.
pub fn enlist_under(
    exchange_url: &str,
    samples: u32,
    interval: &str,
    period: &str,
) -> (Enlisted, Terms) {
    let mut enlisted = enlist(exchange_url);
    let terms = charter(&enlisted.child.key, samples, interval, period);
    enlisted.child.hand_terms(0, &terms);
    enlisted.line.until_ready(terms.digest());
    (enlisted, terms)
}

impl Enlisted {
    /// Reads what has come on all connections. The collector must still run.
    pub fn look(&mut self) {
        assert!(!self.child.running.ended(), "the collector has ended");
        self.line.look();
        self.ports.look(&self.child.key);
    }

    /// Waits for the next connection, and lets it in.
    pub fn welcome_again(&mut self) {
        self.line = greet(accept(&self.ports.control), &self.child.key);
    }

    /// Waits for the answer of a round under these terms after `after_us`, and checks it against its samples.
    pub fn answer_after(&mut self, after_us: u64, terms: &Terms) -> Answered {
        let (tag, samples) = (tag(&terms.digest()), terms.schedule.samples as usize);
        let mut rounds: BTreeMap<u64, [u8; Observation::BYTES]> = BTreeMap::new();
        let (start_us, bytes) = eventually("an answer with all its samples", || {
            self.look();
            let frames = self.ports.frames.iter();
            let under = frames.filter(|frame| frame.tag == tag);
            rounds.extend(under.map(|frame| (frame.start_us, frame.observation)));
            let line = &self.line;
            let whole = |start_us| line.records_under(terms, start_us).len() == samples;
            let mut later = rounds.range(after_us + 1..);
            let told = later.find(|(start_us, _)| whole(**start_us));
            told.map(|(start_us, bytes)| (*start_us, *bytes))
        });
        let records = self.line.records_under(terms, start_us);
        let schedule = &terms.schedule;
        assert!(schedule.is_start(start_us), "{start_us} is no start");
        for (index, record) in records.iter().enumerate() {
            assert_eq!(terms.check_record(index as u32, record), Ok(()));
        }
        let observation = Observation::decode(&bytes).expect("an observation");
        let context = ObservationContext {
            terms_digest: &terms.digest(),
            slot: terms.slot_of(&self.child.key).expect("a seat"),
            start_us,
            samples_digest: &samples_digest(&records),
        };
        let bits = observation.answer.to_bits();
        let signed = observation_bytes(&context, bits, observation.timestamp_us);
        assert!(self.child.key.signed(&signed, &observation.signature));
        let due = answer(&records, start_us, schedule.interval_us, terms.sample_rule);
        assert_eq!((observation.answer, observation.timestamp_us), due);
        Answered { start_us, records }
    }

    /// Waits for the answer of a round that is yet to start.
    pub fn answer(&mut self, terms: &Terms) -> Answered {
        self.answer_after(wall_us(), terms)
    }

    /// Waits for a round without a missing sample. On a busy machine, some rounds may have missing ones.
    pub fn whole_answer(&mut self, terms: &Terms) -> Answered {
        let mut after_us = wall_us();
        eventually("a round whose samples all have prices", || {
            let answered = self.answer_after(after_us, terms);
            after_us = answered.start_us;
            answered.is_whole().then_some(answered)
        })
    }
}
