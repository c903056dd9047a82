//! Scripted peers: a raw connection, an aggregator under test, and collectors that the test plays.
//!
//! They use the library's own codec and signatures, honestly or not. No threads: sockets do not block, and tests wait with
//! `eventually`. Each test uses a part of this module.
#![allow(dead_code)]

use super::{Running, eventually, scratch, start};
use nanoserde::DeJson;
use rsoracle::keys::secret::{EnrolmentSecret, SecretKey, hello_bytes, round_bytes};
use rsoracle::system::now::wall_us;
use rsoracle::wire::{Challenge, Hello, Preamble, Ready, Refusal, RoundFrame, Sample};
use rsoracle_proof::aggregate::Rule;
use rsoracle_proof::answer;
use rsoracle_proof::bytes::padded;
use rsoracle_proof::reason::{Miss, Reject};
use rsoracle_proof::record::{Answer, Observation, Record};
use rsoracle_proof::seal::{ObservationContext, PublicKey, observation_bytes, samples_digest};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;

/// The source of every slot in these tests.
pub const SOURCE: &str = "embedded:BTCUSDT";
/// The feed in these tests.
pub const FEED: &str = "BTC/USD";

/// One raw connection.
pub struct Peer {
    tcp: TcpStream,
    got: Vec<u8>,
    ended: bool,
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
                Ok(count) => self.got.extend_from_slice(&bytes[..count]),
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

    /// Waits for a refusal and for the end of the connection. Returns the reason.
    pub fn refusal(&mut self) -> Reject {
        let refusal = Refusal::decode(&self.next()).expect("a refusal");
        self.until_ended();
        assert_eq!(self.got, [0u8; 0], "nothing comes after a refusal");
        refusal.reason
    }

    /// Ends our direction only; the other side may still send.
    pub fn half_close(&mut self) {
        let _ = self.tcp.shutdown(std::net::Shutdown::Write);
    }
}

/// A running aggregator whose last collectors the test plays.
pub struct Stage {
    /// The process.
    pub running: Running,
    /// Its control channel.
    pub control: SocketAddr,
    /// Its data channel.
    pub data: SocketAddr,
    dir: PathBuf,
}

/// Starts an aggregator with five slots, the last `remote` of them for the test to play.
pub fn stage(remote: u16, samples: u32, interval: &str) -> Stage {
    impatient_stage(remote, samples, interval, "2m")
}

/// The same, with a time after which the round starts if a quorum is ready.
pub fn impatient_stage(remote: u16, samples: u32, interval: &str, ready_timeout: &str) -> Stage {
    stage_with(
        remote,
        samples,
        interval,
        &["--ready-timeout", ready_timeout],
    )
}

/// The same, with more arguments.
pub fn stage_with(remote: u16, samples: u32, interval: &str, more: &[&str]) -> Stage {
    let folder = scratch("here");
    let dir = folder.parent().expect("a folder").to_owned();
    let (samples, remote) = (samples.to_string(), remote.to_string());
    let args = [
        "run",
        "--source",
        SOURCE,
        "--feed",
        FEED,
        "--samples",
        &samples,
        "--interval",
        interval,
        "--control-port",
        "0",
        "--data-port",
        "0",
        "--json",
        "--remote",
        &remote,
        "--enrolment-dir",
        dir.to_str().expect("a path in UTF-8"),
    ];
    let running = start(&[&args[..], more].concat());
    let (control, data) = running.channels();
    Stage {
        running,
        control,
        data,
        dir,
    }
}

impl Stage {
    /// Connects to the control port as a stranger. Returns the connection, and the nonce of its challenge.
    pub fn challenged(&self) -> (Peer, [u8; 32]) {
        let mut peer = Peer::connect(self.control);
        let challenge = Challenge::decode(&peer.next()).expect("a challenge");
        (peer, challenge.nonce)
    }

    /// The file to which the aggregator writes the enrolment of a slot.
    pub fn enrolment_path(&self, slot: u16) -> PathBuf {
        self.dir.join(format!("slot-{slot}.enrolment"))
    }

    /// The URL of its embedded exchange.
    pub fn exchange(&self) -> String {
        let line = self.running.stderr_line("embedded exchange on ");
        let (_, rest) = line
            .split_once("embedded exchange on ")
            .expect("found by it");
        rest.split(',').next().expect("a part").to_owned()
    }

    /// The enrolment of a slot: its secret and the aggregator's key.
    pub fn enrolment(&self, slot: u16) -> (EnrolmentSecret, PublicKey) {
        let bytes = eventually("the enrolment file", || {
            let read = std::fs::read(self.enrolment_path(slot));
            read.ok().filter(|bytes| bytes.len() == 64)
        });
        let mut secret: [u8; 32] = *bytes.first_chunk().expect("32 bytes");
        let key = PublicKey::decode(bytes.last_chunk().expect("32 bytes")).expect("a key");
        (EnrolmentSecret::take(&mut secret), key)
    }

    /// A collector in `slot` that has sent a valid hello. It is not ready, and has no data connection yet.
    pub fn collector(&self, slot: u16) -> TestCollector {
        let (secret, aggregator) = self.enrolment(slot);
        let key = collector_key(slot);
        let (mut control, nonce) = self.challenged();
        let hello = hello(slot, &key, SOURCE, &nonce, &secret);
        assert!(control.send(&hello.encode()));
        TestCollector {
            slot,
            key,
            aggregator,
            nonce,
            hello_signature: hello.signature,
            control,
            data: self.data,
        }
    }

    /// Waits for the end of the run and reads its report.
    pub fn report(self) -> (Report, String) {
        let done = self.running.finish();
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let report = Report::deserialize_json(&done.stdout).expect("the report is JSON");
        (report, done.stderr)
    }
}

/// The key of the collector that the test plays in a slot.
pub fn collector_key(slot: u16) -> SecretKey {
    SecretKey::from_seed(&mut [slot as u8 + 1; 32])
}

/// A hello that is valid if `secret` is the slot's.
pub fn hello(
    slot: u16,
    key: &SecretKey,
    source: &str,
    nonce: &[u8; 32],
    secret: &EnrolmentSecret,
) -> Hello {
    hello_at(wall_us(), slot, key, source, nonce, secret)
}

/// The same, by another clock.
pub fn hello_at(
    clock_us: u64,
    slot: u16,
    key: &SecretKey,
    source: &str,
    nonce: &[u8; 32],
    secret: &EnrolmentSecret,
) -> Hello {
    let mut hello = Hello {
        slot,
        key: *key.public().bytes(),
        source: padded(source),
        clock_us,
        signature: [0; 64],
    };
    hello.signature = key.sign(&hello_bytes(nonce, secret, &hello));
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
    /// Its control connection.
    pub control: Peer,
    aggregator: PublicKey,
    nonce: [u8; 32],
    hello_signature: [u8; 64],
    data: SocketAddr,
}

impl TestCollector {
    /// Reports that it is ready.
    pub fn ready(&mut self) {
        let ready = Ready {
            clock_us: wall_us(),
            price: 87_231.42,
        };
        assert!(self.control.send(&ready.encode()));
    }

    /// Waits for the announcement of a round, and checks that the aggregator signed it for this connection.
    pub fn round(&mut self) -> RoundFrame {
        let round = RoundFrame::decode(&self.control.next()).expect("a round");
        let signed = round_bytes(&self.nonce, &self.hello_signature, &round);
        assert!(self.aggregator.signed(&signed, &round.signature));
        round
    }

    /// Sends samples. The aggregator accepts them however early they come.
    pub fn send_samples(&mut self, round: &RoundFrame, records: &[Record]) {
        for record in records {
            let sample = Sample {
                start_us: round.start_us,
                record: *record,
            };
            assert!(self.control.send(&sample.encode()));
        }
    }

    /// Opens a data connection with a preamble that names this collector.
    pub fn open_data(&self) -> Peer {
        let mut peer = Peer::connect(self.data);
        let preamble = Preamble {
            slot: self.slot,
            key: *self.key.public().bytes(),
        };
        peer.send(&preamble.encode());
        peer
    }

    /// Opens a data connection, and sends these 80 bytes on it.
    pub fn send_observation(&self, bytes: &[u8; Observation::BYTES]) -> Peer {
        let mut peer = Peer::connect(self.data);
        let preamble = Preamble {
            slot: self.slot,
            key: *self.key.public().bytes(),
        };
        // One write, so that observations are handled in the order in which they were sent.
        peer.send(&[&preamble.encode()[..], bytes].concat());
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
        round: &RoundFrame,
        records: &[Record],
        answer: Answer,
        timestamp_us: u64,
    ) -> Observation {
        let digest = samples_digest(records);
        self.sign_over(&context(self.slot, round, &digest), answer, timestamp_us)
    }

    /// The signed answer that these samples make.
    pub fn honest(&self, round: &RoundFrame, records: &[Record]) -> Observation {
        let (answer, timestamp_us) =
            answer::answer(records, round.start_us, round.interval_us, Rule::Mean);
        self.sign(round, records, answer, timestamp_us)
    }

    /// Sends samples and the honest answer.
    pub fn play(&mut self, round: &RoundFrame, records: &[Record]) -> Peer {
        self.send_samples(round, records);
        self.send_observation(&self.honest(round, records).encode())
    }
}

/// The context for which an honest observation of `slot` is signed.
pub fn context<'a>(
    slot: u16,
    round: &'a RoundFrame,
    digest: &'a [u8; 32],
) -> ObservationContext<'a> {
    ObservationContext {
        terms_digest: &round.terms_digest,
        slot,
        feed: FEED,
        source: SOURCE,
        start_us: round.start_us,
        samples: round.samples,
        interval_us: round.interval_us,
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
        let reason = |code| Reject::from_code(code).expect("a known reason");
        let lines = self.refused.iter();
        lines.map(|line| (reason(line.code), line.count)).collect()
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
