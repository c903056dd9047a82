//! A whole round on both channels, over sockets: three honest collectors, and one that does what the input says, on any number
//! of connections; one of them may even stand beside the first collector's own, under its key. Whatever it does, the honest
//! three count, the price lies within their prices, and the report verifies.
#![no_main]
#![feature(tcp_linger)]

use rsoracle::aggregator::Slot;
use rsoracle::aggregator::agreed::Agreed;
use rsoracle::aggregator::control::ControlChannel;
use rsoracle::aggregator::data::DataChannel;
use rsoracle::aggregator::limits::HELLO_MS_MAX;
use rsoracle::keys::secret::*;
use rsoracle::wire::{Challenge, DataFrame, Hello, Ping, Pong, Preamble, Ready, Sample};
use rsoracle_proof::aggregate::Rule;
use rsoracle_proof::answer as sampler;
use rsoracle_proof::bytes::Put;
use rsoracle_proof::publish::Policy;
use rsoracle_proof::reason::Abstention;
use rsoracle_proof::record::{Answer, Observation, RECORD_BYTES, Record};
use rsoracle_proof::report::{Refused, Report, Verifier};
use rsoracle_proof::round::{Round, Standing};
use rsoracle_proof::schedule::Schedule;
use rsoracle_proof::seal::*;
use rsoracle_proof::terms::{Roster, Seat, Terms, tag};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

const START_US: u64 = 1_700_000_000_000_000;
const INTERVAL_US: u64 = 1_000_000;
const PERIOD_US: u64 = 10_000_000;
const SOURCE: &str = "binance:BTCUSDC";
const SEATS: u16 = 4;
const LIAR: u16 = 3;
/// The slot whose collector somebody else passes for, on a second connection.
const SHADOWED: u16 = 0;
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

/// The keys of the slots, then the aggregator's.
static KEYS: LazyLock<[SecretKey; 5]> =
    LazyLock::new(|| [1, 2, 3, 4, 5].map(|seed| SecretKey::from_seed(&mut [seed; 32])));

static TERMS: LazyLock<Terms> = LazyLock::new(terms);
static DIGEST: LazyLock<[u8; 32]> = LazyLock::new(|| TERMS.digest());

/// The rest of the input; zeros after its end.
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

    /// An unusual value if the next byte is odd, otherwise the usual one.
    fn or(&mut self, usual: u64) -> u64 {
        match self.byte() % 2 {
            0 => usual,
            _ => u64::from_be_bytes(self.array()),
        }
    }
}

/// The test's end of a connection.
struct Wire {
    tcp: TcpStream,
    nonce: Option<[u8; 32]>,
    /// The samples that the liar sent on it in their order.
    records: Vec<Record>,
}

impl Wire {
    /// Closing leaves no socket in TIME_WAIT, since the number of ports is limited.
    fn open(address: SocketAddr) -> Wire {
        let tcp = TcpStream::connect(address).expect("the listener has room");
        tcp.set_linger(Some(Duration::ZERO))
            .expect("an option that every system has");
        let quick = tcp.set_nodelay(true).and(tcp.set_nonblocking(true));
        quick.expect("options that every system has");
        Wire {
            tcp,
            nonce: None,
            records: Vec::new(),
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        let _ = self.tcp.write(bytes);
    }

    /// Reads what has arrived: the challenge, then pings, which nobody answers in so short a time.
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
    agreed: Agreed,
    round: Option<Round>,
    refused: Refused,
    liar: Vec<Wire>,
    /// Whether a hello of another collector was passed on.
    is_shadowed: bool,
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

fn terms() -> Terms {
    let seat = |slot| Seat {
        key: Some(key(slot).public()),
        source: SOURCE.to_owned(),
    };
    Terms {
        feed: "BTC/USD".to_owned(),
        rule: Rule::TrimmedMean,
        sample_rule: Rule::Mean,
        exchanges_min: 1,
        age_us_max: Some(1_000_000),
        spread_ppm_max: None,
        schedule: Schedule {
            first_start_us: START_US - PERIOD_US,
            period_us: PERIOD_US,
            end_us: None,
            samples: 2,
            interval_us: INTERVAL_US,
        },
        seats: (0..SEATS).map(seat).collect(),
    }
}

/// The signed hello of a slot's collector.
fn hello(slot: u16, nonce: &[u8; 32]) -> Hello {
    signed_hello(
        slot,
        nonce,
        Hello {
            key: *key(slot).public().bytes(),
            clock_us: START_US,
            signature: [0; 64],
        },
    )
}

fn signed_hello(slot: u16, nonce: &[u8; 32], mut hello: Hello) -> Hello {
    let signed = hello.signed_bytes(nonce, &key(AGGREGATOR).public());
    hello.signature = key(slot).sign(&signed);
    hello
}

fn record(index: u32, price: f64) -> Record {
    Record {
        index,
        price: Ok(price),
        lateness_us: Some(u64::from(index)),
        age_us: None,
    }
}

/// The observation that the collector in `slot` sends.
fn signed(slot: u16, records: &[Record], bits: u64, timestamp_us: u64) -> [u8; Observation::BYTES] {
    let context = ObservationContext {
        terms_digest: &DIGEST,
        slot,
        start_us: START_US,
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
        let listening = |listener: &TcpListener| {
            let address = listener.local_addr().expect("it has an address");
            (listener.try_clone().expect("a listener twice"), address)
        };
        let keys: Vec<_> = (0..SEATS).map(|slot| Some(key(slot).public())).collect();
        let roster = Roster::single(1, None, TERMS.clone());
        let slots = Slot::all(&roster, &keys);
        let mut agreed = Agreed::default();
        agreed.add(roster, START_US);
        let own = key(AGGREGATOR).public();
        Stage {
            began: Instant::now(),
            control: ControlChannel::new(listening(control), own),
            data: DataChannel::new(listening(data)),
            slots,
            agreed,
            round: None,
            refused: Refused::new(),
            liar: Vec::new(),
            is_shadowed: false,
        }
    }

    fn sweep(&mut self) {
        self.control
            .sweep(&mut self.slots, &self.agreed, START_US, &mut self.refused);
        self.data.sweep(
            &self.slots,
            &self.agreed,
            self.round.as_mut_slice(),
            START_US,
            &mut self.refused,
        );
    }

    /// Sweeps until a condition is true; `None` if the machine held up the round so long that a deadline may have passed.
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

    /// Plays the round of the honest three; the liar acts between their steps.
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
            let nonce = wire.nonce.expect("it was waited for");
            wire.send(&hello(slot, &nonce).encode());
        }
        let mut observers: Vec<Wire> = (0..LIAR).map(|_| Wire::open(data)).collect();
        for (slot, wire) in (0..).zip(&mut observers) {
            let key = *key(slot).public().bytes();
            wire.send(&Preamble { key }.encode());
        }
        self.lie(input);
        for (slot, wire) in (0..).zip(&mut honest) {
            let ready = Ready {
                terms_digest: *DIGEST,
                slot,
                price: 100.0,
            };
            wire.send(&ready.encode());
        }
        self.until(|stage| stage.slots[..3].iter().all(Slot::ready))?;
        self.lie(input);
        self.round = Some(Round::new(TERMS.clone(), START_US));
        self.lie(input);
        for index in 0..2 {
            for (slot, wire) in (0u16..).zip(&mut honest) {
                let record = record(index, 100.0 + f64::from(slot));
                wire.send(
                    &Sample {
                        tag: tag(&DIGEST),
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
            let observation = signed(slot, &records, answer.to_bits(), at_us);
            let frame = DataFrame {
                tag: tag(&DIGEST),
                start_us: START_US,
                observation,
            };
            wire.send(&frame.encode());
        }
        self.until(|stage| {
            let round = stage.round.as_ref().expect("it runs");
            (0..LIAR).all(|slot| round.answered(slot))
        })?;
        self.lie(input);
        self.sweep();
        Some(())
    }

    /// The liar's actions, up to a zero or the end of the input. An action is a byte, the index of a connection, and its
    /// arguments.
    fn lie(&mut self, input: &mut Input) {
        while !input.0.is_empty() {
            let deed = input.byte() % 14;
            let place = usize::from(input.byte()) % self.liar.len().max(1);
            match deed {
                0 => return,
                1 | 2 if self.liar.len() >= CONNECTIONS_MAX => {}
                1 => self.liar.push(Wire::open(self.control.address)),
                2 => self.liar.push(Wire::open(self.data.address)),
                // Let the aggregator read what the liar sent, and read what the aggregator sent.
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
            7 => self.lying_hello(place, input.array()),
            8 => {
                let mut terms_digest = *DIGEST;
                match input.byte() % 4 {
                    0 | 1 => {}
                    2 => terms_digest = [0; 32],
                    _ => terms_digest[usize::from(input.byte()) % 32] ^= 1,
                }
                let ready = Ready {
                    terms_digest,
                    slot: LIAR ^ u16::from(input.byte()),
                    price: f64::from_bits(input.or(101f64.to_bits())),
                };
                ready.encode().to_vec()
            }
            9 => self.lying_sample(place, input),
            // A preamble that names any key.
            10 => {
                let slot = u16::from(LIAR as u8 ^ input.byte());
                let key = *key(slot % SEATS).public().bytes();
                Preamble { key }.encode().to_vec()
            }
            11 => self.lying_observation(input),
            // Floods, which nobody asked for.
            12 => {
                let (echo_us, clock_us) = (input.or(START_US), input.or(START_US));
                let pong = Pong { echo_us, clock_us }.encode();
                pong.repeat(usize::from(input.byte()))
            }
            _ => {
                let clock_us = input.or(START_US);
                let ping = Ping { clock_us }.encode();
                ping.repeat(usize::from(input.byte()))
            }
        }
    }

    /// A hello of the liar, with one byte changed before or after signing; or once a hello of another collector, passed on.
    fn lying_hello(&mut self, place: usize, [at, by, how]: [u8; 3]) -> Vec<u8> {
        let nonce = self.liar[place].nonce.unwrap_or_default();
        if how % 4 == 2 && !self.is_shadowed {
            self.is_shadowed = true;
            return hello(SHADOWED, &nonce).encode().to_vec();
        }
        let mut bytes = hello(LIAR, &nonce).encode();
        bytes[usize::from(at) % Hello::BYTES] ^= by;
        if let (1, Ok(changed)) = (how % 2, Hello::decode(&bytes)) {
            bytes = signed_hello(LIAR, &nonce, changed).encode();
        }
        bytes.to_vec()
    }

    /// The sample that is due on a connection, or any other.
    fn lying_sample(&mut self, place: usize, input: &mut Input) -> Vec<u8> {
        let records = &mut self.liar[place].records;
        let due = record(records.len() as u32, 101.0 + place as f64);
        let (tag, start_us) = lying_place(input);
        let mut bytes = Sample {
            tag,
            start_us,
            record: due,
        }
        .encode();
        if input.byte() % 2 == 1 {
            let any: [u8; RECORD_BYTES] = input.array();
            bytes[Sample::BYTES - RECORD_BYTES..].copy_from_slice(&any);
        } else if start_us == START_US {
            records.push(due);
        }
        bytes.to_vec()
    }

    /// The answer that it signs for the samples of one of its connections: the one that they make, an abstention, another price,
    /// or anything.
    fn lying_observation(&self, input: &mut Input) -> Vec<u8> {
        let of = usize::from(input.byte()) % self.liar.len();
        let records = &self.liar[of].records;
        let made = sampler::answer(records, START_US, INTERVAL_US, Rule::Mean);
        let (bits, timestamp_us) = match input.byte() % 4 {
            0 => (made.0.to_bits(), made.1),
            1 => (Answer::Abstain(Abstention::ClockMoved).to_bits(), START_US),
            2 => (f64::from(input.byte()).to_bits(), made.1),
            _ => (input.or(made.0.to_bits()), input.or(made.1)),
        };
        let (tag, start_us) = lying_place(input);
        let frame = DataFrame {
            tag,
            start_us,
            observation: signed(LIAR, records, bits, timestamp_us),
        };
        frame.encode().to_vec()
    }

    /// Checks the outcome of the round.
    fn judge(self) {
        let round = self.round.expect("it was played");
        let outcome = round.outcome();
        let counts =
            |standing: &Standing| matches!(standing, Standing::Used(_) | Standing::Trimmed(_));
        assert!(outcome.standings[..3].iter().all(counts), "{outcome:?}");
        let price = outcome.price.expect("three honest prices are a quorum");
        assert!((100.0..=102.0).contains(&price), "{outcome:?}");
        let by = key(AGGREGATOR).public();
        let mut report = Report::new(1, by, round, self.refused, Policy::default(), None);
        report.signature = key(AGGREGATOR).sign(&report.signed_bytes());
        let line = report.line();
        let check = Verifier::default().check(&line, u64::MAX);
        assert!(check.flaws.is_empty(), "{:?}: {line}", check.flaws);
    }
}

/// The tag and the start that a frame names: those of the round, or others.
fn lying_place(input: &mut Input) -> ([u8; 8], u64) {
    let mut tag = tag(&DIGEST);
    let start_us = match input.byte() % 8 {
        0 | 1 => START_US,
        2 => START_US + 1,
        3 => START_US - PERIOD_US,
        4 => START_US + PERIOD_US,
        5 => START_US + 1_000_000_000 * PERIOD_US,
        6 => input.or(START_US),
        _ => {
            tag[usize::from(input.byte()) % 8] ^= 1;
            START_US
        }
    };
    (tag, start_us)
}
