//! A whole round on both channels, over sockets: three honest collectors, and one who does what the input says, on as many
//! connections as it likes. Whatever that is, the honest three count, the price lies within theirs, and the report verifies.
#![no_main]
#![feature(tcp_linger)]

use rsoracle_proof::aggregate::Rule;
use rsoracle::aggregator::Slot;
use rsoracle::aggregator::control::ControlChannel;
use rsoracle::aggregator::data::DataChannel;
use rsoracle_proof::record::{Answer, Observation, RECORD_BYTES, Record};
use rsoracle::wire::{Challenge, Hello, Preamble, Ready, Sample};
use rsoracle_proof::bytes::{Put, padded};
use rsoracle::system::limits::HELLO_MS_MAX;
use rsoracle_proof::publish::Policy;
use rsoracle_proof::reason::Abstention;
use rsoracle_proof::report::{Refused, Report, Verifier};
use rsoracle_proof::round::{Round, Standing};
use rsoracle_proof::answer as sampler;
use rsoracle::keys::secret::*;
use rsoracle_proof::seal::*;
use rsoracle_proof::terms::{Seat, Terms};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

const START_US: u64 = 1_700_000_000_000_000;
const INTERVAL_US: u64 = 1_000_000;
const SOURCE: &str = "binance:BTCUSDC";
const SEATS: u16 = 4;
const LIAR: u16 = 3;
const AGGREGATOR: u16 = 4;
const CONNECTIONS_MAX: usize = 8;

static LISTENERS: LazyLock<[TcpListener; 2]> = LazyLock::new(|| {
    [(); 2].map(|()| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener
            .set_nonblocking(true)
            .expect("a listener that does not block");
        listener
    })
});

/// Those of the slots, then the aggregator's.
static KEYS: LazyLock<[SecretKey; 5]> =
    LazyLock::new(|| [1, 2, 3, 4, 5].map(|seed| SecretKey::from_seed(&mut [seed; 32])));

static TERMS: LazyLock<Terms> = LazyLock::new(terms);
static DIGEST: LazyLock<[u8; 32]> = LazyLock::new(|| TERMS.digest());

/// What the input still holds; zeros, once it is used up.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let (taken, rest) = self.0.split_at(self.0.len().min(N));
        self.0 = rest;
        let mut array = [0; N];
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    /// Something else than what is usual, where the next byte is odd.
    fn or(&mut self, usual: u64) -> u64 {
        match self.byte() % 2 {
            0 => usual,
            _ => u64::from_be_bytes(self.array()),
        }
    }
}

/// One end of a connection, in the tests' hands.
struct Wire {
    tcp: TcpStream,
    nonce: Option<[u8; 32]>,
}

impl Wire {
    /// Its end leaves nothing behind that waits: there are only so many ports.
    fn open(address: SocketAddr) -> Wire {
        let tcp = TcpStream::connect(address).expect("the listener has room");
        tcp.set_linger(Some(Duration::ZERO))
            .expect("an option that every system has");
        let quick = tcp.set_nodelay(true).and(tcp.set_nonblocking(true));
        quick.expect("options that every system has");
        Wire { tcp, nonce: None }
    }

    fn send(&mut self, bytes: &[u8]) {
        let _ = self.tcp.write(bytes);
    }

    /// Reads what has come, which begins with the challenge.
    fn read(&mut self) {
        let mut bytes = [0; 1024];
        let count = self.tcp.read(&mut bytes).unwrap_or(0);
        if self.nonce.is_none() && count >= Challenge::BYTES {
            let challenge = Challenge::decode(bytes.first_chunk().expect("it is that long"));
            self.nonce = challenge.ok().map(|challenge| challenge.nonce);
        }
    }
}

struct Stage {
    began: Instant,
    control: ControlChannel,
    data: DataChannel,
    slots: Vec<Slot>,
    round: Option<Round>,
    refused: Refused,
    liar: Vec<Wire>,
    records: Vec<Record>,
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut stage = Stage::new();
    if stage.play(&mut Input(bytes)).is_some() {
        stage.judge();
    }
});

fn key(slot: u16) -> &'static SecretKey {
    &KEYS[usize::from(slot)]
}

fn secret(slot: u16) -> EnrolmentSecret {
    EnrolmentSecret::take(&mut [slot as u8 + 101; 32])
}

fn terms() -> Terms {
    let seat = |slot| Seat {
        key: Some(key(slot).public()),
        source: SOURCE.to_owned(),
    };
    Terms {
        aggregator: key(AGGREGATOR).public(),
        session: [7; 32],
        feed: "BTC/USD".to_owned(),
        rule: Rule::TrimmedMean,
        sample_rule: Rule::Mean,
        f: 1,
        quorum: 3,
        exchanges_min: 1,
        samples: 2,
        interval_us: INTERVAL_US,
        seats: (0..SEATS).map(seat).collect(),
    }
}

fn hello(slot: u16) -> Hello {
    Hello {
        slot,
        key: *key(slot).public().bytes(),
        source: padded(SOURCE),
        clock_us: START_US,
        signature: [0; 64],
    }
}

fn record(index: u32, price: f64) -> Record {
    Record {
        index,
        price: Ok(price),
        lateness_us: Some(u64::from(index)),
        age_us: None,
    }
}

/// What the collector in `slot` sends as its observation.
fn signed(slot: u16, records: &[Record], bits: u64, timestamp_us: u64) -> [u8; Observation::BYTES] {
    let context = ObservationContext {
        terms_digest: &DIGEST,
        slot,
        feed: "BTC/USD",
        source: SOURCE,
        start_us: START_US,
        samples: 2,
        interval_us: INTERVAL_US,
        samples_digest: &samples_digest(records),
    };
    let signature = key(slot).sign(&observation_bytes(&context, bits, timestamp_us));
    let put = Put::new()
        .put(&bits.to_be_bytes())
        .put(&timestamp_us.to_be_bytes());
    put.put(&signature).done()
}

impl Stage {
    fn new() -> Stage {
        let [control, data] = &*LISTENERS;
        let listener = |listener: &TcpListener| listener.try_clone().expect("a listener twice");
        let slot = |slot| Slot::new(SOURCE.to_owned(), secret(slot), true);
        Stage {
            began: Instant::now(),
            control: ControlChannel::new(listener(control)).expect("it has an address"),
            data: DataChannel::new(listener(data)).expect("it has an address"),
            slots: (0..SEATS).map(slot).collect(),
            round: None,
            refused: Refused::new(),
            liar: Vec::new(),
            records: Vec::new(),
        }
    }

    fn sweep(&mut self) {
        let round = self.round.as_mut();
        self.control
            .sweep(&mut self.slots, round, true, &mut self.refused);
        self.data
            .sweep(&self.slots, self.round.as_mut(), &mut self.refused);
    }

    /// Sweeps until it is so; none if this machine held the round up so long that a deadline may have passed.
    fn until(&mut self, mut so: impl FnMut(&mut Stage) -> bool) -> Option<()> {
        let begun = Instant::now();
        for sweeps in 1.. {
            self.sweep();
            if so(self) {
                break;
            }
            if self.began.elapsed() > Duration::from_millis(HELLO_MS_MAX - 200) {
                return None;
            }
            let waited = sweeps > 500 && begun.elapsed() > Duration::from_millis(300);
            assert!(
                !waited,
                "an honest collector is not heard: {:?}",
                self.refused
            );
            std::thread::yield_now();
        }
        Some(())
    }

    /// The honest three play their round; between their steps the liar has its turn.
    fn play(&mut self, input: &mut Input) -> Option<()> {
        let (control, data) = (self.control.address, self.data.address);
        self.lie(input);
        let mut honest: Vec<Wire> = (0..LIAR).map(|_| Wire::open(control)).collect();
        self.until(|_| {
            honest.iter_mut().for_each(Wire::read);
            honest.iter().all(|wire| wire.nonce.is_some())
        })?;
        self.lie(input);
        for (slot, wire) in (0..).zip(&mut honest) {
            let mut hello = hello(slot);
            let nonce = wire.nonce.expect("it was waited for");
            hello.signature = key(slot).sign_hello(&nonce, &secret(slot), &hello);
            wire.send(&hello.encode());
        }
        let mut observers: Vec<Wire> = (0..LIAR).map(|_| Wire::open(data)).collect();
        for (slot, wire) in (0..).zip(&mut observers) {
            let key = *key(slot).public().bytes();
            wire.send(&Preamble { slot, key }.encode());
        }
        self.lie(input);
        let (clock_us, price) = (START_US, 100.0);
        let ready = Ready { clock_us, price }.encode();
        honest.iter_mut().for_each(|wire| wire.send(&ready));
        self.until(|stage| stage.slots[..3].iter().all(Slot::ready))?;
        self.lie(input);
        let round = Round::new(TERMS.clone(), START_US);
        for slot in &mut self.slots {
            slot.announce(&round, key(AGGREGATOR));
        }
        self.round = Some(round);
        self.lie(input);
        for index in 0..2 {
            for (slot, wire) in (0u16..).zip(&mut honest) {
                let record = record(index, 100.0 + f64::from(slot));
                wire.send(
                    &Sample {
                        start_us: START_US,
                        record,
                    }
                    .encode(),
                );
            }
            self.lie(input);
        }
        for (slot, wire) in (0u16..).zip(&mut observers) {
            let price = 100.0 + f64::from(slot);
            let records = [record(0, price), record(1, price)];
            let (answer, at_us) = sampler::answer(&records, START_US, INTERVAL_US, Rule::Mean);
            wire.send(&signed(slot, &records, answer.to_bits(), at_us));
        }
        self.until(|stage| {
            let round = stage.round.as_ref().expect("it runs");
            (0..LIAR).all(|slot| round.answered(slot))
        })?;
        self.lie(input);
        self.sweep();
        Some(())
    }

    /// The liar's turn, up to a zero or the end of the input. A deed is a byte, the connection, and what it needs.
    fn lie(&mut self, input: &mut Input) {
        while !input.0.is_empty() {
            let deed = input.byte() % 12;
            let place = usize::from(input.byte()) % self.liar.len().max(1);
            match deed {
                0 => return,
                1 | 2 if self.liar.len() >= CONNECTIONS_MAX => {}
                1 => self.liar.push(Wire::open(self.control.address)),
                2 => self.liar.push(Wire::open(self.data.address)),
                // What it sent is looked at, and what the aggregator sent is read.
                3 => {
                    self.sweep();
                    self.liar.iter_mut().for_each(Wire::read);
                }
                _ if self.liar.is_empty() => {}
                4 => drop(self.liar.remove(place)),
                5 => drop(self.liar[place].tcp.shutdown(Shutdown::Write)),
                deed => {
                    let bytes = self.lying_bytes(deed, place, input);
                    self.liar[place].send(&bytes);
                }
            }
        }
    }

    fn lying_bytes(&mut self, deed: u8, place: usize, input: &mut Input) -> Vec<u8> {
        match deed {
            6 => {
                let (taken, rest) = input.0.split_at(input.0.len().min(100));
                input.0 = rest;
                taken.to_vec()
            }
            7 => lying_hello(self.liar[place].nonce.unwrap_or_default(), input.array()),
            8 => {
                let price = f64::from_bits(input.or(101f64.to_bits()));
                Ready {
                    clock_us: START_US,
                    price,
                }
                .encode()
                .to_vec()
            }
            // The sample that is due, or any.
            9 => {
                let due = record(self.records.len() as u32, 101.0);
                let start_us = input.or(START_US);
                let mut bytes = Sample {
                    start_us,
                    record: due,
                }
                .encode();
                if input.byte() % 2 == 1 {
                    let any: [u8; RECORD_BYTES] = input.array();
                    bytes[Sample::BYTES - RECORD_BYTES..].copy_from_slice(&any);
                } else {
                    self.records.push(due);
                }
                bytes.to_vec()
            }
            // A preamble that names anybody.
            10 => {
                let slot = u16::from(LIAR as u8 ^ input.byte());
                let key = *key(slot % SEATS).public().bytes();
                let slot = slot ^ u16::from(input.byte());
                Preamble { slot, key }.encode().to_vec()
            }
            _ => self.lying_observation(input),
        }
    }

    /// What it signs over its samples: what they make, an abstention, another price, or anything.
    fn lying_observation(&self, input: &mut Input) -> Vec<u8> {
        // Over what the aggregator has of it.
        let heard = self
            .round
            .as_ref()
            .map(|round| &round.parts[usize::from(LIAR)].records);
        let records = heard.unwrap_or(&self.records);
        let made = sampler::answer(records, START_US, INTERVAL_US, Rule::Mean);
        let (bits, timestamp_us) = match input.byte() % 4 {
            0 => (made.0.to_bits(), made.1),
            1 => (Answer::Abstain(Abstention::ClockMoved).to_bits(), START_US),
            2 => (f64::from(input.byte()).to_bits(), made.1),
            _ => (input.or(made.0.to_bits()), input.or(made.1)),
        };
        signed(LIAR, records, bits, timestamp_us).to_vec()
    }

    /// What became of the round.
    fn judge(self) {
        let round = self.round.expect("it was played");
        let outcome = round.outcome();
        let counts =
            |standing: &Standing| matches!(standing, Standing::Used(_) | Standing::Trimmed(_));
        assert!(outcome.standings[..3].iter().all(counts), "{outcome:?}");
        let price = outcome.price.expect("three honest prices are a quorum");
        assert!((100.0..=102.0).contains(&price), "{outcome:?}");
        let mut report = Report::new(1, round, self.refused, Policy::default(), None);
        report.sign(key(AGGREGATOR));
        let line = report.line();
        let check = Verifier::default().check(&line, u64::MAX);
        assert!(check.flaws.is_empty(), "{:?}: {line}", check.flaws);
    }
}

/// A hello of its own, one byte of which is changed before or after it is signed.
fn lying_hello(nonce: [u8; 32], [at, by, resign]: [u8; 3]) -> Vec<u8> {
    let sign = |hello: &Hello| key(LIAR).sign_hello(&nonce, &secret(LIAR), hello);
    let mut hello = hello(LIAR);
    hello.signature = sign(&hello);
    let mut bytes = hello.encode();
    bytes[usize::from(at) % Hello::BYTES] ^= by;
    if let (1, Ok(mut changed)) = (resign % 2, Hello::decode(&bytes)) {
        changed.signature = sign(&changed);
        bytes = changed.encode();
    }
    bytes.to_vec()
}
