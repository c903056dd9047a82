//! Reports that a test signs with its own keys and at chosen instants: a whole oracle without processes.
//!
//! Each test uses a part of this module.
#![allow(dead_code)]

use Says::*;
use rsoracle::keys::secret::SecretKey;
use rsoracle::wire::Sample;
use rsoracle_proof::aggregate::{Rule, faulty_max, quorum};
use rsoracle_proof::answer;
use rsoracle_proof::bytes::padded;
use rsoracle_proof::publish::{Policy, PublishedPrice};
use rsoracle_proof::reason::{Miss, Reject};
use rsoracle_proof::record::{Answer, Observation, Record};
use rsoracle_proof::report::{Refused, Report};
use rsoracle_proof::roster::{Roster, RosterSeat};
use rsoracle_proof::round::Round;
use rsoracle_proof::seal::{Digest32, ObservationContext, observation_bytes, samples_digest};
use rsoracle_proof::terms::{Seat, Terms};

/// A round start in the past: 2023-11-14T22:13:20Z.
pub const START_US: u64 = 1_700_000_000_000_000;

/// What a collector answers in a round of one sample.
#[derive(Clone, Copy, PartialEq)]
pub enum Says {
    /// It signs this price.
    Price(f64),
    /// It signs that it abstains.
    Abstains,
    /// It sends nothing.
    Nothing,
    /// It signs this price and a different one.
    Both(f64),
}

/// An aggregator with its collectors, and its position in its journal.
pub struct Oracle {
    /// The terms of its next round.
    pub terms: Terms,
    /// The policy by which it publishes.
    pub policy: Policy,
    /// The number of its next report.
    pub number: u64,
    /// The signature of its last report.
    pub previous: Option<[u8; 64]>,
    /// The price that it published last.
    pub last: Option<PublishedPrice>,
}

/// Secret keys by number: 0 is the aggregator's, slot + 1 a collector's.
pub fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&mut [seed + 1; 32])
}

impl Oracle {
    /// An oracle of `n` collectors, with one sample per round.
    pub fn new(n: u8, source: &str) -> Oracle {
        let f = faulty_max(Rule::TrimmedMean, n.into());
        let seat = |slot| Seat {
            key: Some(key(slot + 1).public()),
            source: source.to_owned(),
        };
        Oracle {
            terms: Terms {
                aggregator: key(0).public(),
                session: [7; 32],
                feed: "BTC/USD".to_owned(),
                rule: Rule::TrimmedMean,
                sample_rule: Rule::Mean,
                f,
                quorum: quorum(n.into(), f),
                exchanges_min: 1,
                samples: 1,
                interval_us: 1_000_000,
                seats: (0..n).map(seat).collect(),
            },
            policy: Policy::default(),
            number: 1,
            previous: None,
            last: None,
        }
    }

    /// Runs the next round, and returns its signed report.
    pub fn report(&mut self, start_us: u64, says: &[Says]) -> Report {
        let mut round = Round::new(self.terms.clone(), start_us);
        for (slot, says) in (0..).zip(says) {
            take_part(&mut round, slot, *says, None);
        }
        self.sign(round)
    }

    /// The same, where all prices are alike and have these ages.
    pub fn report_aged(&mut self, start_us: u64, ages_us: &[Option<u64>]) -> Report {
        let mut round = Round::new(self.terms.clone(), start_us);
        for (slot, age_us) in (0..).zip(ages_us) {
            take_part(&mut round, slot, Says::Price(100_000.0), *age_us);
        }
        self.sign(round)
    }

    /// Signs the report of a round, which becomes the last one.
    pub fn sign(&mut self, round: Round) -> Report {
        let mut report = Report::new(self.number, round, Refused::new(), self.policy, self.last);
        report.previous = self.previous;
        report.ephemeral = false;
        report.sign(&key(0));
        self.number += 1;
        self.previous = Some(report.signature);
        self.last = report.published();
        report
    }

    /// Runs the next round, and returns its report as a line.
    pub fn line(&mut self, start_us: u64, says: &[Says]) -> String {
        self.report(start_us, says).line()
    }
}

/// The digest of terms in which the first collector's key is these bytes, which need not be a key.
pub fn digest_with_key(terms: &Terms, key: &[u8; 32]) -> [u8; 32] {
    let digest = Digest32::terms()
        .field(terms.aggregator.bytes())
        .field(&terms.session)
        .field(&padded::<16>(&terms.feed))
        .field(&terms.rule.code().to_be_bytes())
        .field(&terms.sample_rule.code().to_be_bytes())
        .field(&terms.n().to_be_bytes())
        .field(&terms.f.to_be_bytes())
        .field(&terms.quorum.to_be_bytes())
        .field(&terms.exchanges_min.to_be_bytes())
        .field(&terms.samples.to_be_bytes())
        .field(&terms.interval_us.to_be_bytes());
    let seat = |digest: Digest32, (slot, seat): (usize, &Seat)| {
        let own = seat.key.as_ref().map_or([0; 32], |key| *key.bytes());
        let key = if slot == 0 { *key } else { own };
        digest.field(&key).field(&padded::<32>(&seat.source))
    };
    terms.seats.iter().enumerate().fold(digest, seat).done()
}

fn take_part(round: &mut Round, slot: u16, says: Says, age_us: Option<u64>) {
    let start_us = round.start_us;
    let price = match says {
        Price(price) | Both(price) => Ok(price),
        Abstains => Err(Miss::NoReply),
        Nothing => return,
    };
    let record = Record {
        index: 0,
        price,
        lateness_us: Some(u64::from(slot) + 1),
        age_us,
    };
    let sample = Sample { start_us, record };
    round
        .sample(slot, sample.start_us, &sample.record)
        .expect("the sample is sound");
    let (answer, timestamp_us) = answer::answer(&[record], start_us, 1_000_000, Rule::Mean);
    let first = signed(round, slot, answer, timestamp_us);
    round.observe(slot, &first).expect("the answer is sound");
    if let Both(price) = says {
        let second = signed(round, slot, Answer::Price(price + 1.0), timestamp_us);
        assert_eq!(round.observe(slot, &second), Err(Reject::Equivocation));
    }
}

/// An observation signed by the collector in `slot`, whether it fits its samples or not.
pub fn signed(round: &Round, slot: u16, answer: Answer, timestamp_us: u64) -> [u8; 80] {
    let terms = &round.terms;
    let context = ObservationContext {
        terms_digest: &round.digest,
        slot,
        feed: &terms.feed,
        source: &terms.seats[usize::from(slot)].source,
        start_us: round.start_us,
        samples: terms.samples,
        interval_us: terms.interval_us,
        samples_digest: &samples_digest(&round.parts[usize::from(slot)].records),
    };
    let bytes = observation_bytes(&context, answer.to_bits(), timestamp_us);
    Observation {
        answer,
        timestamp_us,
        signature: key(slot as u8 + 1).sign(&bytes),
    }
    .encode()
}

/// The roster that names exactly these terms.
pub fn roster_of(terms: &Terms) -> Roster {
    let seat = |seat: &Seat| RosterSeat {
        key: seat.key.expect("every seat has its key"),
        source: seat.source.clone(),
    };
    Roster {
        feed: terms.feed.clone(),
        rule: terms.rule,
        sample_rule: terms.sample_rule,
        f: terms.f,
        quorum: terms.quorum,
        exchanges_min: terms.exchanges_min,
        aggregator: Some(terms.aggregator),
        collectors: terms.seats.iter().map(seat).collect(),
    }
}
