//! The example round that docs/PROTOCOL.md shows byte by byte, made with the library.
//!
//! Every secret key and nonce is 32 times the same byte, so that anyone can repeat it. Each test uses a part of this module.
#![allow(dead_code)]

mod layouts;

use ed25519_dalek::{Digest, Sha512};
use rsoracle::aggregator::book::hand_over;
use rsoracle::keys::secret::*;
use rsoracle::wire::*;
use rsoracle_proof::aggregate;
use rsoracle_proof::aggregate::Rule;
use rsoracle_proof::answer as sampler;
use rsoracle_proof::bytes::padded;
use rsoracle_proof::change::Change;
use rsoracle_proof::price;
use rsoracle_proof::publish::Policy;
use rsoracle_proof::reason::{Abstention, Miss, Reject};
use rsoracle_proof::record::*;
use rsoracle_proof::report::{KeyChange, Proof, Refused, Report};
use rsoracle_proof::roster::{Roster, seat_bytes};
use rsoracle_proof::round::{Round as Bookkeeping, Standing};
use rsoracle_proof::schedule::Schedule;
use rsoracle_proof::seal::*;
use rsoracle_proof::terms::{RosterSlot, Seat, Terms, tag};

/// Bytes with their name in the document.
pub type Named = Vec<(String, Vec<u8>)>;

const START_US: u64 = 1_795_343_400_000_000;
const NEXT_START_US: u64 = START_US + 10_000_000;
const INTERVAL_US: u64 = 1_000_000;
const SAMPLES: u32 = 2;
const SEATS: u16 = 6;
const FEED: &str = "BTC/USD";
const SOURCE: &str = "binance:BTCUSDC";

/// Price (`None`: no reply in time) and lateness of both samples, by slot. The last slot has no collector.
const SAMPLED: [[(Option<f64>, u64); 2]; 5] = [
    [(Some(87231.4), 3), (Some(87231.42), 5)],
    [(Some(87231.4), 2), (Some(87231.42), 4)],
    [(Some(87231.43), 7), (Some(87231.44), 9)],
    [(Some(87231.5), 1), (Some(87231.6), 1)],
    [(Some(87231.41), 8), (None, 6)],
];

/// A signature of the collector in slot 0 over its observation, with the identity as R: `[S]B = R + [k]A` holds.
const SMALL_ORDER_R: &str = "01000000000000000000000000000000000000000000000000000000000000006248dcc54c950896ecd73d35f309cfc54d7b3ba48f59fc00c13b65c81321b00a";

/// A signature of the collector in slot 0 over its observation, with another nonce than RFC 8032's: r is the SHA-512 of
/// "another nonce", R = r B, S = r + H(R, A, M) a.
const SIGNED_AGAIN: &str = "156066fae0212dbd64f85f330238e93fc600324b4b2f16a8a21ca59aeede783c7c8473bbe5d6b41cfaab2bb609f952c576af5870bd5dca06ca7dca67b60ea609";

/// What one collector does in the round.
pub struct Player {
    slot: u16,
    key: SecretKey,
    nonce: [u8; 32],
    hello: Hello,
    terms_digest: [u8; 32],
    records: Vec<Record>,
    observation: Observation,
}

/// The example round.
pub struct Story {
    /// Its terms.
    pub terms: Terms,
    /// Its collectors.
    pub players: Vec<Player>,
    /// The aggregator's report of it, the first one.
    pub report: Report,
    /// The report of the next round, in which nobody took part.
    pub next: Report,
    /// The change of the aggregator's key after that report.
    pub change: KeyChange,
}

fn collector_key(slot: u16) -> SecretKey {
    SecretKey::from_seed(&mut [0x10 + slot as u8; 32])
}

fn aggregator_key() -> SecretKey {
    SecretKey::from_seed(&mut [0x02; 32])
}

fn new_key() -> SecretKey {
    SecretKey::from_seed(&mut [0x03; 32])
}

fn terms() -> Terms {
    let seat = |slot| Seat {
        key: (slot < 5).then(|| collector_key(slot).public()),
        source: SOURCE.into(),
    };
    Terms {
        feed: FEED.into(),
        rule: Rule::TrimmedMean,
        sample_rule: Rule::Mean,
        exchanges_min: 1,
        age_us_max: Some(60_000_000),
        spread_ppm_max: Some(10_000),
        schedule: Schedule {
            first_start_us: START_US,
            period_us: NEXT_START_US - START_US,
            end_us: None,
            samples: SAMPLES,
            interval_us: INTERVAL_US,
        },
        seats: (0..SEATS).map(seat).collect(),
    }
}

fn record(index: u32, price: Result<f64, Miss>, lateness_us: Option<u64>) -> Record {
    Record {
        index,
        price,
        lateness_us,
        age_us: None,
    }
}

impl Player {
    fn new(slot: u16, terms: &Terms) -> Player {
        let key = collector_key(slot);
        let nonce = [0x30 + slot as u8; 32];
        let mut hello = Hello {
            key: *key.public().bytes(),
            clock_us: START_US - 300_000,
            signature: [0; 64],
        };
        hello.signature = key.sign(&hello.signed_bytes(&nonce, &aggregator_key().public()));
        let taken = (0..).zip(SAMPLED[usize::from(slot)]);
        let records: Vec<Record> = taken
            .map(|(k, (price, late))| record(k, price.ok_or(Miss::NoReply), Some(late)))
            .collect();
        let (answer, timestamp_us) = sampler::answer(&records, START_US, INTERVAL_US, Rule::Mean);
        let mut player = Player {
            slot,
            key,
            nonce,
            hello,
            terms_digest: terms.digest(),
            records,
            observation: Observation {
                answer,
                timestamp_us,
                signature: [0; 64],
            },
        };
        player.observation.signature = player.key.sign(&player.observation_signed());
        player
    }

    fn hello_signed(&self) -> Vec<u8> {
        let aggregator = aggregator_key().public();
        self.hello.signed_bytes(&self.nonce, &aggregator).to_vec()
    }

    fn observation_signed(&self) -> [u8; OBSERVATION_SIGNED_BYTES] {
        self.signed(&self.observation)
    }

    fn signed(&self, observation: &Observation) -> [u8; OBSERVATION_SIGNED_BYTES] {
        let context = ObservationContext {
            terms_digest: &self.terms_digest,
            slot: self.slot,
            start_us: START_US,
            samples_digest: &samples_digest(&self.records),
        };
        observation_bytes(
            &context,
            observation.answer.to_bits(),
            observation.timestamp_us,
        )
    }

    fn samples(&self) -> impl Iterator<Item = Sample> {
        self.records.iter().map(|record| Sample {
            tag: tag(&self.terms_digest),
            start_us: START_US,
            record: *record,
        })
    }

    fn preamble(&self) -> Preamble {
        Preamble {
            key: self.hello.key,
        }
    }

    fn data_frame(&self) -> DataFrame {
        DataFrame {
            tag: tag(&self.terms_digest),
            start_us: START_US,
            observation: self.observation.encode(),
        }
    }

    fn ready(&self) -> Ready {
        Ready {
            terms_digest: self.terms_digest,
            slot: self.slot,
            price: 87231.4,
        }
    }
}

impl Story {
    /// Plays the round through the library's bookkeeping of a round.
    pub fn play() -> Story {
        let terms = terms();
        let mut books = Bookkeeping::new(terms.clone(), START_US);
        let players: Vec<Player> = (0..5).map(|slot| Player::new(slot, &terms)).collect();
        for player in &players {
            let mut records = Vec::new();
            for (index, sample) in (0..).zip(player.samples()) {
                let sample = Sample::decode(&sample.encode()).expect("a sample that stands");
                let checked = terms.check_record(index, &sample.record);
                assert_eq!(checked, Ok(()), "slot {}", player.slot);
                records.push(sample.record);
            }
            let frame = DataFrame::decode(&player.data_frame().encode());
            let heard = books.observe(player.slot, &records, &frame.observation);
            assert_eq!(heard, Ok(()), "slot {}", player.slot);
        }
        let policy = Policy {
            deviation: Some(0.005),
            heartbeat_us: Some(3_600_000_000),
            move_max: None,
        };
        let refused = Refused::from([(Reject::HelloLate, 3), (Reject::Duplicate, 1)]);
        let by = aggregator_key().public();
        let mut report = Report::new(1, by, books, refused, policy, None);
        report.signature = aggregator_key().sign(&report.signed_bytes());
        let empty = Bookkeeping::new(terms.clone(), NEXT_START_US);
        let mut next = Report::new(2, by, empty, Refused::new(), policy, report.published());
        next.previous = Some(report.signature);
        next.signature = aggregator_key().sign(&next.signed_bytes());
        Story {
            terms,
            players,
            report,
            change: hand_over(FEED, &aggregator_key(), &new_key(), next.signature),
            next,
        }
    }

    /// A proof that the collector of slot 3 lied: its answer, and an abstention over the same samples.
    pub fn proof(&self) -> Proof {
        let player = &self.players[3];
        let mut second = Observation {
            answer: Answer::Abstain(Abstention::ClockMoved),
            timestamp_us: START_US,
            signature: [0; 64],
        };
        second.signature = player.key.sign(&player.signed(&second));
        self.proof_of(player, second)
    }

    /// The answer of slot 0 under another signature.
    pub fn signed_again(&self) -> Observation {
        Observation {
            signature: unhex(SIGNED_AGAIN).expect("64 bytes"),
            ..self.players[0].observation
        }
    }

    /// Not a proof: the answer of slot 0 under two valid signatures.
    pub fn no_proof(&self) -> Proof {
        let player = &self.players[0];
        let again = self.signed_again();
        let message = player.observation_signed();
        assert!(player.key.public().signed(&message, &again.signature));
        assert_ne!(again.signature, player.observation.signature);
        self.proof_of(player, again)
    }

    /// The answer of a collector, and another one over the same samples.
    fn proof_of(&self, player: &Player, second: Observation) -> Proof {
        let signed = |observation| SignedAnswer {
            samples_digest: samples_digest(&player.records),
            observation,
        };
        Proof {
            key: player.key.public(),
            terms_digest: self.terms.digest(),
            slot: player.slot,
            start_us: START_US,
            answers: [signed(player.observation), signed(second)],
        }
    }

    /// The document's lines, in order: two reports, a change of keys, a proof.
    pub fn lines(&self) -> [String; 4] {
        [
            self.report.line(),
            self.next.line(),
            self.change.line(),
            self.proof().line(),
        ]
    }

    /// The rows of the document's table of the round.
    pub fn rows(&self) -> Vec<String> {
        let sample = |(price, late): (Option<f64>, u64)| match price {
            Some(price) => format!("{price}, {late} µs"),
            None => format!("no reply in time, {late} µs"),
        };
        let standings = &self.report.outcome.standings;
        let row = |player: &Player| {
            let slot = usize::from(player.slot);
            let [first, second] = SAMPLED[slot].map(sample);
            let (became, timestamp_us) = (&standings[slot], player.observation.timestamp_us);
            let became = match became {
                Standing::Used(price) => format!("used {price}"),
                Standing::Trimmed(price) => format!("trimmed {price}"),
                Standing::Abstained(why) => format!("abstained {}", why.code()),
                other => format!("{other:?}"),
            };
            format!(
                "| {slot} | {:02x} | {:02x} | {first} | {second} | {became} | {timestamp_us} |",
                slot + 0x10,
                slot + 0x30
            )
        };
        self.players.iter().map(row).collect()
    }

    /// The change of roster to that of two feeds, two rounds after the story.
    pub fn roster_change(&self) -> Change {
        Change {
            old: self.roster().digest(),
            new: self.roster_of_two().digest(),
            from_us: NEXT_START_US + 20_000_000,
        }
    }

    /// Everything in the document's blocks of vectors.
    pub fn vectors(&self) -> Named {
        let mut all = Named::new();
        let mut put = |name: &str, bytes: &[u8]| all.push((name.to_owned(), bytes.to_vec()));
        put("aggregator.seed", &[0x02; 32]);
        put("aggregator.public", aggregator_key().public().bytes());
        let (one, two) = (self.roster(), self.roster_of_two());
        for (name, fields, digest) in [
            ("terms", terms_fields(&self.terms), self.terms.digest()),
            ("roster", roster_fields(&one), one.digest()),
            (
                "two.terms",
                terms_fields(&two.feeds[1]),
                two.feeds[1].digest(),
            ),
            ("two.roster", roster_fields(&two), two.digest()),
        ] {
            let digested = join(&fields);
            assert_eq!(first_half(&digested), digest, "{name}");
            put(&format!("{name}.digested"), &digested);
            put(&format!("{name}.digest"), &digest);
        }
        let first = &self.players[0];
        let seat = seat_bytes(&first.key.public(), &two.slots[0].sources);
        put("two.seat0.signed", &seat);
        put("two.seat0.signature", &first.key.sign(&seat));
        let change = self.roster_change().signed_bytes();
        put("two.change.signed", &change);
        put("two.change.signature", &first.key.sign(&change));
        let challenge = Challenge { nonce: first.nonce };
        put("slot0.challenge", &challenge.encode());
        put("slot0.hello.signed", &first.hello_signed());
        put("slot0.hello", &first.hello.encode());
        put("slot0.ping", &ping().encode());
        put("slot0.pong", &pong().encode());
        put("slot0.ready", &first.ready().encode());
        put("slot0.preamble", &first.preamble().encode());
        put("refusal", &refusal().encode());
        for player in &self.players {
            let mut put =
                |name: &str, bytes: &[u8]| put(&format!("slot{}.{name}", player.slot), bytes);
            put("seed", &[0x10 + player.slot as u8; 32]);
            put("public", player.key.public().bytes());
            put("hello.signature", &player.hello.signature);
            for (index, sample) in player.samples().enumerate() {
                put(&format!("sample{index}"), &sample.encode());
            }
            put("samples.digested", &digested_samples(&player.records));
            put("samples.digest", &samples_digest(&player.records));
            put("observation.signed", &player.observation_signed());
            put("observation", &player.observation.encode());
            put("data", &player.data_frame().encode());
        }
        let outcome = &self.report.outcome;
        put(
            "outcome.price",
            &outcome.price.expect("a quorum").to_be_bytes(),
        );
        put(
            "outcome.time",
            &outcome.timestamp_us.expect("a quorum").to_be_bytes(),
        );
        put(
            "outcome.spread",
            &outcome.spread.expect("prices").to_be_bytes(),
        );
        for (name, report) in [("report", &self.report), ("next", &self.next)] {
            put(&format!("{name}.signed"), &report.signed_bytes());
            put(&format!("{name}.signature"), &report.signature);
        }
        put("change.signed", &self.change.signed_bytes());
        put(
            "slot0.again.signature",
            &self.no_proof().answers[1].observation.signature,
        );
        put("decimals.sha512", &first_half(decimals().as_bytes()));
        all.extend(recipes());
        all.extend(refused(first));
        all
    }

    /// The roster with these terms alone.
    pub fn roster(&self) -> Roster {
        Roster::single(1, None, self.terms.clone())
    }

    /// The next roster, in which a second feed is priced by roster slots 1 to 4.
    pub fn roster_of_two(&self) -> Roster {
        let first = self.roster();
        let second = Terms {
            feed: "ETH/USD".into(),
            rule: Rule::Median,
            ..self.terms.clone()
        };
        let slot = |(at, slot): (usize, &RosterSlot)| {
            let source = if (1..=4).contains(&at) {
                "binance:ETHUSDC"
            } else {
                ""
            };
            RosterSlot {
                key: slot.key,
                sources: vec![SOURCE.into(), source.into()],
            }
        };
        let slots = first.slots.iter().enumerate().map(slot).collect();
        let feeds = vec![self.terms.clone(), second];
        let two = Roster::new(2, Some(first.digest()), feeds, slots);
        assert_eq!((two.check(), two.seat_of(1, 4)), (Ok(()), Some(3)));
        two
    }
}

fn roster_fields(roster: &Roster) -> Vec<(&'static str, Vec<u8>)> {
    let previous = roster.previous.unwrap_or([0; 32]);
    let mut fields = vec![
        ("context", padded::<32>("rsoracle 2 roster").to_vec()),
        ("number", roster.number.to_be_bytes().to_vec()),
        ("previous", previous.to_vec()),
        ("feeds", (roster.feeds.len() as u16).to_be_bytes().to_vec()),
    ];
    let digests = roster.feeds.iter().map(|terms| terms.digest().to_vec());
    fields.extend(digests.map(|digest| ("terms digest", digest)));
    fields
}

fn terms_fields(terms: &Terms) -> Vec<(&'static str, Vec<u8>)> {
    let schedule = &terms.schedule;
    let us = |us: u64| us.to_be_bytes().to_vec();
    let limit = |us: Option<u64>| us.unwrap_or(u64::MAX);
    let spread = terms.spread_ppm_max.unwrap_or(u32::MAX);
    let two = |number: u16| number.to_be_bytes().to_vec();
    let mut fields = vec![
        ("context", padded::<32>("rsoracle 2 terms").to_vec()),
        ("feed", padded::<16>(&terms.feed).to_vec()),
        ("rule", two(terms.rule.code())),
        ("sample rule", two(terms.sample_rule.code())),
        ("least exchanges", two(terms.exchanges_min)),
        ("greatest age", us(limit(terms.age_us_max))),
        ("greatest spread", spread.to_be_bytes().to_vec()),
        ("samples", schedule.samples.to_be_bytes().to_vec()),
        ("interval", us(schedule.interval_us)),
        ("period", us(schedule.period_us)),
        ("first start", us(schedule.first_start_us)),
        ("end", us(limit(schedule.end_us))),
        ("n", two(terms.n())),
    ];
    for seat in &terms.seats {
        let key = seat.key.map_or([0; 32], |key| *key.bytes());
        fields.push(("public key", key.to_vec()));
        fields.push(("source", padded::<32>(&seat.source).to_vec()));
    }
    fields
}

fn ping() -> Ping {
    Ping {
        clock_us: START_US - 200_000,
    }
}

fn pong() -> Pong {
    Pong {
        echo_us: ping().clock_us,
        clock_us: START_US - 199_000,
    }
}

fn refusal() -> Refusal {
    Refusal {
        reason: Reject::Displaced,
    }
}

fn join(fields: &[(&'static str, Vec<u8>)]) -> Vec<u8> {
    fields.iter().flat_map(|(_, bytes)| bytes.clone()).collect()
}

fn digested_samples(records: &[Record]) -> Vec<u8> {
    let mut bytes = padded::<32>("rsoracle 2 samples").to_vec();
    records.iter().for_each(|r| bytes.extend(r.encode()));
    assert_eq!(first_half(&bytes), samples_digest(records));
    bytes
}

/// The first 32 bytes of SHA-512.
fn first_half(bytes: &[u8]) -> [u8; 32] {
    let whole: [u8; 64] = Sha512::digest(bytes).into();
    *whole.first_chunk().expect("32 of 64")
}

/// The bits of numbers, and their texts in a report: two shortest texts are equally near in the first three.
pub const DECIMALS: [f64; 6] = [
    87_231.0 + 1.0 / 4_096.0,
    87_231.0 + 3.0 / 4_096.0,
    1_568.0 + 3_415.0 / 16_384.0,
    0.1 + 0.2,
    87_231.5,
    1e-12,
];

/// The texts of 10,000 numbers of the document's rule, each with a newline.
pub fn decimals() -> String {
    let mut state = 1u64;
    let number = |index: u32| {
        let k = index % 3;
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let number = (2 * (state >> (39 - 7 * k)) + 1) as f64 / f64::from(1u32 << (14 - 3 * k));
        price::exact(number) + "\n"
    };
    (0..10_000).map(number).collect()
}

/// Averages, prices and answers for which the order of the steps matters.
fn recipes() -> Named {
    let mut all = Named::new();
    let bits = |prices: &[f64]| {
        prices
            .iter()
            .flat_map(|p| p.to_be_bytes())
            .collect::<Vec<u8>>()
    };
    let mut combined = |name: &str, rule, f, prices: &[f64]| {
        let price = aggregate::combine(rule, prices, f).expect("enough prices");
        all.push((format!("{name}.prices"), bits(prices)));
        all.push((format!("{name}.price"), bits(&[price])));
    };
    let unordered = [94112.46, 94112.21, 94112.57, 94112.55, 94112.12];
    combined("mean.ascending", Rule::Mean, 0, &unordered);
    combined("mean.clamped", Rule::Mean, 0, &[94112.35; 3]);
    combined("median.odd", Rule::Median, 1, &unordered);
    combined("median.even", Rule::Median, 1, &unordered[..4]);
    combined("trimmed.five", Rule::TrimmedMean, 1, &unordered);
    let mut records: Vec<Record> = (0..5)
        .map(|k| record(k, Ok(87231.4 + f64::from(k)), Some(u64::from(k))))
        .collect();
    records[4] = record(4, Err(Miss::NotConnected), None);
    let mut aged = record(0, Ok(0.013619), Some(0));
    aged.age_us = Some(250_000);
    all.push(("record.aged".into(), aged.encode().to_vec()));
    all.push(("record.never-asked".into(), records[4].encode().to_vec()));
    let mut answered = |name: &str, records: &[Record]| {
        let (answer, timestamp_us) = sampler::answer(records, START_US, INTERVAL_US, Rule::Mean);
        let encoded = records.iter().flat_map(Record::encode).collect();
        all.push((format!("{name}.records"), encoded));
        all.push((
            format!("{name}.average"),
            answer.to_bits().to_be_bytes().to_vec(),
        ));
        all.push((
            format!("{name}.timestamp"),
            timestamp_us.to_be_bytes().to_vec(),
        ));
    };
    answered("answer.four-of-five", &records);
    records[1] = record(1, Err(Miss::NotDecimal), Some(1));
    answered("answer.three-of-five", &records);
    for why in Abstention::ALL {
        let bits = Answer::Abstain(*why).to_bits().to_be_bytes();
        all.push((format!("abstention.{}", why.code()), bits.to_vec()));
    }
    all
}

/// Keys and signatures that a careless verifier accepts.
fn refused(player: &Player) -> Named {
    let key = |first: u8, middle: u8, last: u8| {
        let mut key = [middle; 32];
        (key[0], key[31]) = (first, last);
        assert_eq!(PublicKey::decode(&key), None, "{}", hex(&key));
        key.to_vec()
    };
    let mut all: Named = vec![
        ("refused.key.identity".into(), key(0x01, 0, 0)),
        ("refused.key.order-2".into(), key(0xec, 0xff, 0x7f)),
        ("refused.key.order-4".into(), key(0, 0, 0)),
        ("refused.key.spelled-twice".into(), key(0xf0, 0xff, 0x7f)),
        ("refused.key.no-point".into(), key(0x02, 0, 0)),
    ];
    let high_s = plus_group_order(&player.observation.signature);
    let small_r: Vec<u8> = (0..64)
        .map(|at| u8::from_str_radix(&SMALL_ORDER_R[2 * at..2 * at + 2], 16).expect("hex"))
        .collect();
    let small_r: [u8; 64] = small_r.try_into().expect("64 bytes");
    let message = player.observation_signed();
    for signature in [&high_s, &small_r] {
        assert!(!player.key.public().signed(&message, signature));
    }
    let plain =
        ed25519_dalek::VerifyingKey::from_bytes(player.key.public().bytes()).expect("a key");
    let taken = ed25519_dalek::Verifier::verify(&plain, &message, &(&small_r).into());
    assert!(taken.is_ok(), "plain verification takes it");
    all.push(("refused.signature.high-s".into(), high_s.to_vec()));
    all.push(("refused.signature.small-order-r".into(), small_r.to_vec()));
    all
}

/// The same signature with S + L instead of S: equal modulo the group order L, so that a careless verifier accepts it.
fn plus_group_order(signature: &[u8; 64]) -> [u8; 64] {
    const ORDER: u128 = 27_742_317_777_372_353_535_851_937_790_883_648_493;
    let mut order = [0u8; 32];
    order[..16].copy_from_slice(&ORDER.to_le_bytes());
    order[31] = 0x10;
    let (mut sum, mut carry) = (*signature, 0u16);
    for at in 0..32 {
        carry += u16::from(sum[32 + at]) + u16::from(order[at]);
        sum[32 + at] = carry as u8;
        carry >>= 8;
    }
    sum
}
