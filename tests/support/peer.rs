//! Scripted peers: a raw connection, an aggregator under test, and collectors that the test plays.
//!
//! They use the library's own codec and signatures, honestly or not. No threads: sockets do not block, and tests wait with
//! `eventually`. Each test uses a part of this module.
#![allow(dead_code)]

use super::{Running, eventually, exchange, rsoracle, scratch, start, start_command};
use nanoserde::DeJson;
use rsoracle::keys::create;
use rsoracle::keys::secret::SecretKey;
use rsoracle::system::now::wall_us;
use rsoracle::wire::*;
use rsoracle_proof::answer;
use rsoracle_proof::duration::duration_us;
use rsoracle_proof::reason::{Miss, Reject};
use rsoracle_proof::record::{Answer, Observation, Record};
use rsoracle_proof::roster::Roster;
use rsoracle_proof::schedule::Schedule;
use rsoracle_proof::seal::{ObservationContext, PublicKey, hex, observation_bytes, samples_digest};
use rsoracle_proof::terms::{Terms, tag};
use rsoracle_proof::utc::{utc_text, utc_us};
use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The source of every slot in these tests.
pub const SOURCE: &str = "embedded:BTCUSDT";
/// The feed in these tests.
pub const FEED: &str = "BTC/USD";
/// Slots of the roster in these tests.
const SLOTS: u16 = 5;

/// One raw connection.
pub struct Peer {
    tcp: TcpStream,
    got: Vec<u8>,
    ended: bool,
    /// The numbers of bytes that came at once.
    pub pieces: Vec<usize>,
}

impl Peer {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Peer {
        Peer::over(TcpStream::connect(address).expect("the port takes connections"))
    }

    /// Connects, unless the port's queue is full: then the system drops the attempt silently.
    pub fn try_connect(address: SocketAddr) -> Option<Peer> {
        let patience = std::time::Duration::from_millis(10);
        TcpStream::connect_timeout(&address, patience)
            .ok()
            .map(Peer::over)
    }

    /// Wraps a connection.
    pub fn over(tcp: TcpStream) -> Peer {
        tcp.set_nodelay(true).expect("TCP_NODELAY");
        tcp.set_nonblocking(true).expect("O_NONBLOCK");
        Peer {
            tcp,
            got: Vec::new(),
            ended: false,
            pieces: Vec::new(),
        }
    }

    /// Sends all bytes. Returns false if the other side has ended the connection.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        let mut left = bytes;
        eventually("the other side takes bytes or ends", || {
            match self.tcp.write(left) {
                Ok(count) => left = &left[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return Some(false),
            }
            left.is_empty().then_some(true)
        })
    }

    /// Sends as many bytes as fit without waiting. Returns how many.
    pub fn send_some(&mut self, bytes: &[u8]) -> usize {
        self.tcp.write(bytes).unwrap_or(0)
    }

    /// Reads what has arrived.
    pub fn look(&mut self) {
        let mut bytes = [0; 4096];
        while !self.ended {
            match self.tcp.read(&mut bytes) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    self.got.extend_from_slice(&bytes[..count]);
                    self.pieces.push(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.ended = true,
            }
        }
    }

    /// Whether the other side has ended the connection.
    pub fn ended(&mut self) -> bool {
        self.look();
        self.ended
    }

    /// Waits until the other side has ended the connection.
    pub fn until_ended(&mut self) {
        eventually("the other side ends the connection", || {
            self.ended().then_some(())
        });
    }

    /// What has arrived and was not taken yet.
    pub fn got(&mut self) -> &[u8] {
        self.look();
        &self.got
    }

    /// Takes the next `W` bytes if they have arrived.
    pub fn take<const W: usize>(&mut self) -> Option<[u8; W]> {
        self.look();
        let bytes = *self.got.first_chunk()?;
        self.got.drain(..W);
        Some(bytes)
    }

    /// Waits for the next `W` bytes.
    pub fn next<const W: usize>(&mut self) -> [u8; W] {
        eventually(&format!("{W} bytes from the other side"), || self.take())
    }

    /// Takes a ping if it is next.
    pub fn ping(&mut self) -> Option<Ping> {
        self.look();
        let ping = Ping::decode(self.got.first_chunk()?).ok()?;
        self.got.drain(..Ping::BYTES);
        Some(ping)
    }

    /// Waits for a refusal and for the end of the connection, whatever pings come before. Returns the reason.
    pub fn refusal(&mut self) -> Reject {
        self.until_ended();
        while self.ping().is_some() {}
        let refusal = Refusal::decode(&self.next()).expect("a refusal");
        assert_eq!(self.got, [0u8; 0], "nothing comes after a refusal");
        refusal.reason
    }

    /// Ends our direction only; the other side may still send.
    pub fn half_close(&mut self) {
        let _ = self.tcp.shutdown(std::net::Shutdown::Write);
    }
}

/// A running `rsoracle aggregate` of five slots, round after round. The first slots have real collectors, the last ones the test
/// plays.
pub struct Stage {
    /// The aggregator.
    pub running: Running,
    /// Its control channel.
    pub control: SocketAddr,
    /// Its data channel.
    pub data: SocketAddr,
    /// Its key.
    pub key: PublicKey,
    /// The terms of the roster.
    pub terms: Terms,
    /// The real collectors, slot by slot.
    pub collectors: Vec<Running>,
    /// The address of the exchange that they watch.
    pub url: String,
    _exchange: Running,
    dir: PathBuf,
}

/// A stage whose first round begins once all collectors are ready. The test plays the last `played` of them.
pub fn stage(played: u16, samples: u32, interval: &str) -> Stage {
    stage_with(played, samples, interval, &["--ready-timeout", "4m"])
}

/// The same, with other arguments of the aggregator.
pub fn stage_with(played: u16, samples: u32, interval: &str, more: &[&str]) -> Stage {
    stage_watching(&[], played, samples, interval, more)
}

/// The same, with other arguments of the exchange.
pub fn stage_watching(
    exchange_args: &[&str],
    played: u16,
    samples: u32,
    interval: &str,
    more: &[&str],
) -> Stage {
    let dir = scratch("roster.toml")
        .parent()
        .expect("a folder")
        .to_owned();
    let key = create(&inside(&dir, "aggregator.key")).expect("a key file");
    (0..SLOTS).for_each(|slot| write_key(&inside(&dir, &key_name(slot)), slot));
    let (exchange, url) = exchange(exchange_args);
    let keys: Vec<PublicKey> = (0..SLOTS)
        .map(|slot| collector_key(slot).public())
        .collect();
    // The real collectors are usually ready by then.
    let first_us = (wall_us() + 2_500_000).next_multiple_of(1_000);
    let text = roster_from(&keys, samples, interval, first_us);
    let terms = Roster::parse(&text).expect("a roster").feeds.remove(0);
    std::fs::write(dir.join("roster.toml"), &text).expect("a roster file");
    let aggregate = [
        "aggregate",
        "--roster",
        &inside(&dir, "roster.toml"),
        "--aggregator-key",
        &inside(&dir, "aggregator.key"),
        "--journal",
        &inside(&dir, JOURNAL),
        "--control-port",
        "0",
        "--data-port",
        "0",
        "--json",
    ];
    let running = start(&[&aggregate[..], more].concat());
    let (control, data) = running.channels();
    let mut stage = Stage {
        running,
        control,
        data,
        key,
        terms,
        collectors: Vec::new(),
        url,
        _exchange: exchange,
        dir,
    };
    let started = |slot| start_command(stage.by_hand(slot).command());
    stage.collectors = (0..SLOTS - played).map(started).collect();
    stage
}

/// The journal's name in a stage's folder.
const JOURNAL: &str = "journal.jsonl";

fn key_name(slot: u16) -> String {
    format!("slot-{slot}.key")
}

/// The path of a file in a folder.
fn inside(dir: &Path, name: &str) -> String {
    let path = dir.join(name);
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// Writes the key of [`collector_key`] to a file.
fn write_key(path: &str, slot: u16) {
    let line = format!("rsoracle secret key 1 {}\n", hex(&collector_seed(slot)));
    std::fs::write(path, line).expect("a key file");
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).expect("its mode");
}

/// A roster file with a slot for each key, of rounds that are as near to each other as all their times allow.
pub fn roster(keys: &[PublicKey], samples: u32, interval: &str) -> String {
    roster_from(keys, samples, interval, 1_767_225_600_000_000)
}

/// The same, whose first round starts at `first_us`, which has whole milliseconds.
fn roster_from(keys: &[PublicKey], samples: u32, interval: &str, first_us: u64) -> String {
    let interval_us = duration_us(interval).expect("a duration");
    let period_s = (u64::from(samples - 1) * interval_us + 2_000_000).div_ceil(1_000_000);
    let first = utc_text(first_us);
    let mut text = format!(
        "number = 1\nprevious = \"\"\n[feed.\"{FEED}\"]\nrule = \"trimmed-mean\"\nsample_rule = \"mean\"\nmin_exchanges = 1\nmax_age = \"60s\"\nmax_spread = \"\"\nsamples = {samples}\ninterval = \"{interval}\"\nperiod = \"{period_s}s\"\nfirst_start = \"{first}\"\nend = \"\"\n"
    );
    for (slot, key) in keys.iter().enumerate() {
        let key = hex(key.bytes());
        text += &format!("[slot.{slot}]\nkey = \"{key}\"\nsources = [\"{SOURCE}\"]\n");
    }
    text
}

/// What a real collector is started with.
pub struct ByHand {
    /// The roster file.
    pub roster: String,
    /// The key file.
    pub key: String,
    /// Control and data port of its aggregator.
    pub ports: [u16; 2],
    /// The key that it expects of its aggregator.
    pub aggregator: PublicKey,
    /// The address of its exchange.
    pub endpoint: String,
}

impl ByHand {
    /// The command that runs it.
    pub fn command(&self) -> Command {
        let ([control, data], key) = (self.ports, hex(self.aggregator.bytes()));
        let mut command = rsoracle();
        command.args(["collect", "--roster", &self.roster, "--key", &self.key]);
        command.args(["--aggregator", &format!("127.0.0.1:{control},{data}@{key}")]);
        command
            .args(["--endpoint", &self.endpoint])
            .stdin(Stdio::null());
        command
    }
}

/// A round that is to come or runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoundOf {
    /// Its first instant, microseconds since the Unix epoch.
    pub start_us: u64,
    /// The digest of its terms.
    pub terms_digest: [u8; 32],
    /// Its schedule.
    pub schedule: Schedule,
}

impl RoundOf {
    /// The round of these terms that begins then.
    pub fn new(terms: &Terms, start_us: u64) -> RoundOf {
        RoundOf {
            start_us,
            terms_digest: terms.digest(),
            schedule: terms.schedule,
        }
    }

    /// The instant of a sample.
    pub fn instant_us(&self, index: u32) -> u64 {
        self.start_us + u64::from(index) * self.schedule.interval_us
    }

    /// The instant of its last sample.
    pub fn last_us(&self) -> u64 {
        self.start_us + self.schedule.last_us()
    }

    /// When it ends, even if an answer is missing.
    pub fn end_us(&self) -> u64 {
        self.start_us + self.schedule.length_us()
    }

    /// The round after it.
    pub fn next(&self) -> RoundOf {
        let start_us = self.start_us + self.schedule.period_us;
        RoundOf { start_us, ..*self }
    }
}

/// Sleeps until a time of the system clock, unless it is past.
pub fn sleep_until(us: u64) {
    let left_us = us.saturating_sub(wall_us());
    std::thread::sleep(Duration::from_micros(left_us));
}

impl Stage {
    /// Connects to the control port as a stranger. Returns the connection, and the nonce of its challenge.
    pub fn challenged(&self) -> (Peer, [u8; 32]) {
        let mut peer = Peer::connect(self.control);
        let challenge = Challenge::decode(&peer.next()).expect("a challenge");
        (peer, challenge.nonce)
    }

    /// A collector in `slot` that the aggregator has let in. It is not ready, and has no data connection yet.
    pub fn collector(&self, slot: u16) -> TestCollector {
        self.collector_off(slot, 0)
    }

    /// The same, with a clock that is off by so much.
    pub fn collector_off(&self, slot: u16, clock_off_us: i64) -> TestCollector {
        let key = collector_key(slot);
        let (mut control, nonce) = self.challenged();
        let hello = hello(&key, &nonce, &self.key);
        assert!(control.send(&hello.encode()));
        let mut collector = TestCollector {
            slot,
            key,
            terms: self.terms.clone(),
            control,
            data: self.data,
            clock_off_us,
        };
        // Who is let in is pinged at once.
        eventually("the first ping", || collector.tend().then_some(()));
        collector
    }

    /// What a real collector of this slot is started with.
    pub fn by_hand(&self, slot: u16) -> ByHand {
        ByHand {
            roster: self.path("roster.toml"),
            key: self.path(&key_name(slot)),
            ports: [self.control.port(), self.data.port()],
            aggregator: self.key,
            endpoint: self.url.clone(),
        }
    }

    /// The path of a file in its folder.
    pub fn path(&self, name: &str) -> String {
        inside(&self.dir, name)
    }

    /// The path of its journal.
    pub fn journal(&self) -> String {
        self.path(JOURNAL)
    }

    /// Waits until the aggregator says that all are ready. Returns the next round that begins. The collectors that the test
    /// plays answer pings meanwhile.
    pub fn round(&self, played: &mut [&mut TestCollector]) -> RoundOf {
        let said = eventually("the aggregator says when its first round begins", || {
            played.iter_mut().for_each(|collector| {
                collector.tend();
            });
            let text = self.running.stderr();
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            let line = whole
                .lines()
                .find(|line| line.contains(" collectors ready; "));
            line.map(str::to_owned)
        });
        let (_, start) = said.rsplit_once("from ").expect("the time of its start");
        // Of a round that runs already, collectors may have missed samples.
        let from_us = utc_us(start).expect("a time").max(wall_us());
        self.round_from(from_us)
    }

    /// The first round that begins then or later.
    pub fn round_from(&self, from_us: u64) -> RoundOf {
        let start_us = self.terms.schedule.next_start_us(from_us);
        RoundOf::new(&self.terms, start_us.expect("rounds never end"))
    }

    /// Whether the report of a round is there.
    pub fn told(&self, round: &RoundOf) -> bool {
        self.running.stderr().contains(&told(round))
    }

    /// Waits for the report of a round. Everything that was refused in the rounds before counts as refused in it. Returns it with
    /// what the aggregator has said so far.
    pub fn report(&self, round: &RoundOf) -> (Report, String) {
        let (mut reports, said) = self.reports(round);
        let mut report = reports.pop().expect("that of the round");
        let before = reports.into_iter().flat_map(|report| report.refused);
        report.refused.extend(before);
        (report, said)
    }

    /// Waits for the report of a round, and returns its line.
    pub fn report_line(&self, round: &RoundOf) -> String {
        self.report(round);
        let text = std::fs::read_to_string(self.journal()).expect("a journal");
        let start = format!("\"round_start_us\":{},", round.start_us);
        let line = text.lines().find(|line| line.contains(&start));
        line.expect("the report of the round").to_owned()
    }

    /// Waits for the report of a round. Returns all reports up to this one, with what the aggregator has said so far.
    pub fn reports(&self, round: &RoundOf) -> (Vec<Report>, String) {
        self.running.stderr_line(&told(round));
        let text = std::fs::read_to_string(self.journal()).expect("a journal");
        let read = |line| Report::deserialize_json(line).expect("the report is JSON");
        let reports = text.lines().map(read);
        let reports: Vec<Report> = reports
            .take_while(|report| report.round_start_us <= round.start_us)
            .collect();
        let last = reports.last().map(|report| report.round_start_us);
        assert_eq!(last, Some(round.start_us), "the journal has the report");
        (reports, self.running.stderr())
    }
}

/// What the aggregator says of a round once its report is in the journal.
fn told(round: &RoundOf) -> String {
    format!("round of {}: ", utc_text(round.start_us))
}

/// What the aggregator has said last about why a slot gives no price.
pub fn silence(said: &str, slot: u16) -> &str {
    let begin = format!("collector {slot} (embedded): no price since ");
    let line = said.lines().rfind(|line| line.contains(&begin));
    let line = line.unwrap_or_else(|| panic!("no line of collector {slot} in {said}"));
    line.split_once(" UTC: ").expect("a time").1
}

/// The seed of [`collector_key`].
pub fn collector_seed(slot: u16) -> [u8; 32] {
    [slot as u8 + 1; 32]
}

/// The key of the collector that the test plays in a slot.
pub fn collector_key(slot: u16) -> SecretKey {
    SecretKey::from_seed(&mut collector_seed(slot))
}

/// A valid hello of a key to an aggregator.
pub fn hello(key: &SecretKey, nonce: &[u8; 32], aggregator: &PublicKey) -> Hello {
    let mut hello = Hello {
        key: *key.public().bytes(),
        clock_us: wall_us(),
        signature: [0; 64],
    };
    hello.signature = key.sign(&hello.signed_bytes(nonce, aggregator));
    hello
}

/// Samples that all have the same price, and were all taken on time.
pub fn records(samples: u32, price: f64) -> Vec<Record> {
    let record = |index| Record {
        index,
        price: Ok(price),
        lateness_us: Some(5),
        age_us: None,
    };
    (0..samples).map(record).collect()
}

/// The same, but the first `missing` of them have no price.
pub fn records_with_misses(samples: u32, price: f64, missing: u32) -> Vec<Record> {
    let mut records = records(samples, price);
    for record in &mut records[..missing as usize] {
        record.price = Err(Miss::NoReply);
    }
    records
}

/// A collector that the test plays.
pub struct TestCollector {
    /// Its slot.
    pub slot: u16,
    /// Its key.
    pub key: SecretKey,
    /// The terms that it knows.
    pub terms: Terms,
    /// Its control connection.
    pub control: Peer,
    data: SocketAddr,
    /// How far its clock is off.
    pub clock_off_us: i64,
}

impl TestCollector {
    /// A collector over a control connection on which it has said hello.
    pub fn over(slot: u16, key: SecretKey, terms: Terms, control: Peer, data: SocketAddr) -> Self {
        TestCollector {
            slot,
            key,
            terms,
            control,
            data,
            clock_off_us: 0,
        }
    }

    /// Answers the pings that have come. Returns whether there were any.
    pub fn tend(&mut self) -> bool {
        let mut came = false;
        while let Some(ping) = self.control.ping() {
            let pong = Pong {
                echo_us: ping.clock_us,
                clock_us: wall_us().saturating_add_signed(self.clock_off_us),
            };
            self.control.send(&pong.encode());
            came = true;
        }
        came
    }

    /// What it sends when it is ready.
    pub fn readiness(&self) -> Ready {
        Ready {
            terms_digest: self.terms.digest(),
            slot: self.slot,
            price: 87_231.42,
        }
    }

    /// Reports that it is ready.
    pub fn ready(&mut self) {
        let ready = self.readiness();
        assert!(self.control.send(&ready.encode()));
    }

    /// Sends a sample at once.
    pub fn send_sample(&mut self, round: &RoundOf, record: Record) {
        let sample = Sample {
            tag: tag(&round.terms_digest),
            start_us: round.start_us,
            record,
        };
        assert!(self.control.send(&sample.encode()));
    }

    /// Sends samples, each half a second before its instant: no aggregator takes one that comes more than a second before it.
    pub fn send_samples(&mut self, round: &RoundOf, records: &[Record]) {
        for record in records {
            sleep_until(round.instant_us(record.index) - 500_000);
            self.tend();
            self.send_sample(round, *record);
        }
    }

    /// Opens a data connection with a preamble that names this collector.
    pub fn open_data(&self) -> Peer {
        let mut peer = Peer::connect(self.data);
        let key = *self.key.public().bytes();
        peer.send(&Preamble { key }.encode());
        peer
    }

    /// Opens a data connection, and sends an observation on it.
    pub fn send_observation(&self, round: &RoundOf, bytes: &[u8; Observation::BYTES]) -> Peer {
        let mut peer = Peer::connect(self.data);
        let key = *self.key.public().bytes();
        // One write, so that observations are handled in the order in which they were sent.
        peer.send(&[&Preamble { key }.encode()[..], &data_frame(round, bytes)].concat());
        peer
    }

    /// Signs an answer for this context.
    pub fn sign_over(
        &self,
        context: &ObservationContext,
        answer: Answer,
        timestamp_us: u64,
    ) -> Observation {
        let signed = observation_bytes(context, answer.to_bits(), timestamp_us);
        Observation {
            answer,
            timestamp_us,
            signature: self.key.sign(&signed),
        }
    }

    /// Signs this answer for these samples, whether they make it or not.
    pub fn sign(
        &self,
        round: &RoundOf,
        records: &[Record],
        answer: Answer,
        timestamp_us: u64,
    ) -> Observation {
        let digest = samples_digest(records);
        self.sign_over(&context(self.slot, round, &digest), answer, timestamp_us)
    }

    /// The signed answer that these samples make.
    pub fn honest(&self, round: &RoundOf, records: &[Record]) -> Observation {
        let rule = self.terms.sample_rule;
        let interval_us = round.schedule.interval_us;
        let (answer, timestamp_us) = answer::answer(records, round.start_us, interval_us, rule);
        self.sign(round, records, answer, timestamp_us)
    }

    /// Sends samples and the honest answer.
    pub fn play(&mut self, round: &RoundOf, records: &[Record]) -> Peer {
        self.send_samples(round, records);
        self.send_observation(round, &self.honest(round, records).encode())
    }
}

/// The frame that carries an observation of a round.
pub fn data_frame(round: &RoundOf, bytes: &[u8; Observation::BYTES]) -> [u8; DataFrame::BYTES] {
    let frame = DataFrame {
        tag: tag(&round.terms_digest),
        start_us: round.start_us,
        observation: *bytes,
    };
    frame.encode()
}

/// The context for which an honest observation of `slot` is signed.
pub fn context<'a>(slot: u16, round: &'a RoundOf, digest: &'a [u8; 32]) -> ObservationContext<'a> {
    ObservationContext {
        terms_digest: &round.terms_digest,
        slot,
        start_us: round.start_us,
        samples_digest: digest,
    }
}

/// The fields of a report that tests read.
#[derive(DeJson)]
pub struct Report {
    /// The price.
    pub price: Option<f64>,
    /// How many observations counted.
    pub signatures_verified: u16,
    /// The round's start.
    pub round_start_us: u64,
    /// One entry per slot.
    pub collectors: Vec<Collector>,
    refused: Vec<RefusedLine>,
}

/// One slot in a report.
#[derive(DeJson)]
pub struct Collector {
    /// Whether its price was used, trimmed, and so on.
    pub standing: String,
    /// Its price.
    pub price: Option<f64>,
    /// The reason why it abstains, if it does.
    pub abstains: Option<String>,
}

#[derive(DeJson)]
struct RefusedLine {
    code: u16,
    count: u32,
}

impl Report {
    /// How often each reason for a refusal was counted.
    pub fn refused(&self) -> BTreeMap<Reject, u32> {
        let mut refused = BTreeMap::new();
        for line in &self.refused {
            let reason = Reject::from_code(line.code).expect("a known reason");
            *refused.entry(reason).or_default() += line.count;
        }
        refused
    }

    /// Whether the price of a slot counted.
    pub fn counted(&self, slot: u16) -> bool {
        ["used", "trimmed"].contains(&self.collectors[usize::from(slot)].standing.as_str())
    }

    /// Asserts that there is a price, and that it is within the prices of the first `honest` collectors. (On a busy machine,
    /// some of these may have abstained.)
    pub fn assert_price_within_the_first(&self, honest: usize) {
        let seen = || self.collectors[..honest].iter().filter_map(|c| c.price);
        let price = self.price.expect("a price");
        let (low, high) = (
            seen().fold(f64::MAX, f64::min),
            seen().fold(f64::MIN, f64::max),
        );
        assert!(
            (low..=high).contains(&price),
            "{price} not in {low} to {high}"
        );
    }
}

/// Reasons and counts, as [`Report::refused`] returns them.
pub fn counts(expected: &[(Reject, u32)]) -> BTreeMap<Reject, u32> {
    expected.iter().copied().collect()
}
