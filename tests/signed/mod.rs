//! Reports that a test signs with its own keys and at chosen instants: a whole oracle without processes.
//!
//! Each test uses a part of this module.
#![allow(dead_code)]

use Says::*;
use rsoracle::keys::secret::SecretKey;
use rsoracle::roster::text::render;
use rsoracle_proof::aggregate::Rule;
use rsoracle_proof::answer;
use rsoracle_proof::bytes::padded;
use rsoracle_proof::change::Change;
use rsoracle_proof::publish::{Policy, PublishedPrice};
use rsoracle_proof::reason::{Miss, Reject};
use rsoracle_proof::record::{Answer, Observation, Record};
use rsoracle_proof::report::{KeyChange, Refused, Report};
use rsoracle_proof::roster::Roster;
use rsoracle_proof::round::Round;
use rsoracle_proof::schedule::Schedule;
use rsoracle_proof::seal::{
    CONTEXT_TERMS, Fields, ObservationContext, hex, observation_bytes, samples_digest,
};
use rsoracle_proof::terms::{RosterSlot, Seat, Terms};
use rsoracle_proof::utc::utc_text;

/// A round start in the past: 2023-11-14T22:13:20Z.
pub const START_US: u64 = 1_700_000_000_000_000;

/// From one possible start to the next, in [`Oracle::new`]. It divides the times between the starts of all tests.
pub const GRID_US: u64 = 100_000;

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
    /// It signs this price twice, for samples that differ in their age only.
    Anew(f64),
}

/// An aggregator with its collectors, and its position in its journal.
pub struct Oracle {
    /// The terms of its next round.
    pub terms: Terms,
    /// The number of the aggregator's key.
    pub aggregator: u8,
    /// The policy by which it publishes.
    pub policy: Policy,
    /// The number of its next report.
    pub number: u64,
    /// The signature of its last report.
    pub previous: Option<[u8; 64]>,
    /// The price that it published last.
    pub last: Option<PublishedPrice>,
}

/// The last possible start of [`Oracle::new`] that is not after this time.
pub fn start_before(us: u64) -> u64 {
    us - us % GRID_US
}

/// Secret keys by number: 0 is the aggregator's unless a test gives it another, slot + 1 a collector's.
pub fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&mut [seed + 1; 32])
}

impl Oracle {
    /// An oracle of `n` collectors, with one sample per round.
    pub fn new(n: u8, source: &str) -> Oracle {
        let seat = |slot| Seat {
            key: Some(key(slot + 1).public()),
            source: source.to_owned(),
        };
        Oracle {
            terms: Terms {
                feed: "BTC/USD".to_owned(),
                rule: Rule::TrimmedMean,
                sample_rule: Rule::Mean,
                exchanges_min: 1,
                age_us_max: None,
                spread_ppm_max: None,
                schedule: Schedule {
                    first_start_us: 0,
                    period_us: GRID_US,
                    end_us: None,
                    samples: 1,
                    interval_us: 1_000_000,
                },
                seats: (0..n).map(seat).collect(),
            },
            aggregator: 0,
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
        let key = key(self.aggregator);
        let mut report = Report::new(
            self.number,
            key.public(),
            round,
            Refused::new(),
            self.policy,
            self.last,
        );
        report.previous = self.previous;
        report.ephemeral = false;
        report.signature = key.sign(&report.signed_bytes());
        self.number += 1;
        self.previous = Some(report.signature);
        self.last = report.published();
        report
    }

    /// Hands over to the aggregator with another key. Returns the line that goes between the reports.
    pub fn hand_over(&mut self, to: u8) -> String {
        let keys = [key(self.aggregator), key(to)];
        let mut change = KeyChange {
            feed: self.terms.feed.clone(),
            old: keys[0].public(),
            new: keys[1].public(),
            previous: self.previous.expect("there was a report"),
            signatures: [[0; 64]; 2],
        };
        let bytes = change.signed_bytes();
        change.signatures = keys.map(|key| key.sign(&bytes));
        (self.aggregator, self.previous) = (to, Some(change.signature()));
        change.line()
    }

    /// Runs the next round, and returns its report as a line.
    pub fn line(&mut self, start_us: u64, says: &[Says]) -> String {
        self.report(start_us, says).line()
    }
}

/// The digest of terms in which the first collector's key is these bytes, which need not be a key.
pub fn digest_with_key(terms: &Terms, key: &[u8; 32]) -> [u8; 32] {
    let schedule = &terms.schedule;
    let digest = Fields::new(CONTEXT_TERMS)
        .field(&padded::<16>(&terms.feed))
        .field(&terms.rule.code().to_be_bytes())
        .field(&terms.sample_rule.code().to_be_bytes())
        .field(&terms.exchanges_min.to_be_bytes())
        .field(&terms.age_us_max.unwrap_or(u64::MAX).to_be_bytes())
        .field(&terms.spread_ppm_max.unwrap_or(u32::MAX).to_be_bytes())
        .field(&schedule.samples.to_be_bytes())
        .field(&schedule.interval_us.to_be_bytes())
        .field(&schedule.period_us.to_be_bytes())
        .field(&schedule.first_start_us.to_be_bytes())
        .field(&schedule.end_us.unwrap_or(u64::MAX).to_be_bytes())
        .field(&terms.n().to_be_bytes());
    let seat = |digest: Fields, (slot, seat): (usize, &Seat)| {
        let own = seat.key.as_ref().map_or([0; 32], |key| *key.bytes());
        let key = if slot == 0 { *key } else { own };
        digest.field(&key).field(&padded::<32>(&seat.source))
    };
    terms.seats.iter().enumerate().fold(digest, seat).digest()
}

fn take_part(round: &mut Round, slot: u16, says: Says, age_us: Option<u64>) {
    let price = match says {
        Price(price) | Both(price) | Anew(price) => Ok(price),
        Abstains => Err(Miss::NoReply),
        Nothing => return,
    };
    let records = [Record {
        index: 0,
        price,
        lateness_us: Some(u64::from(slot) + 1),
        age_us,
    }];
    let schedule = &round.terms.schedule;
    let (answer, timestamp_us) =
        answer::answer(&records, round.start_us, schedule.interval_us, Rule::Mean);
    let first = signed(round, slot, &records, answer, timestamp_us);
    let heard = round.observe(slot, &records, &first);
    heard.expect("the answer is sound");
    let (others, other) = match says {
        Both(price) => (records, Answer::Price(price + 1.0)),
        Anew(_) => {
            let [record] = records;
            let age_us = Some(age_us.map_or(0, |us| us + 1));
            ([Record { age_us, ..record }], answer)
        }
        _ => return,
    };
    let second = signed(round, slot, &others, other, timestamp_us);
    let heard = round.observe(slot, &others, &second);
    assert_eq!(heard, Err(Reject::Equivocation));
}

/// An observation over these samples, signed by the collector in `slot`, whether it fits them or not.
pub fn signed(
    round: &Round,
    slot: u16,
    records: &[Record],
    answer: Answer,
    timestamp_us: u64,
) -> [u8; 80] {
    let context = ObservationContext {
        terms_digest: &round.digest,
        slot,
        start_us: round.start_us,
        samples_digest: &samples_digest(records),
    };
    let bytes = observation_bytes(&context, answer.to_bits(), timestamp_us);
    // In a roster that follows another, the key of a slot may be that of another number.
    let own = slot as u8 + 1;
    let seat = round.terms.seats.get(usize::from(slot));
    let holds = |seed: &u8| seat.is_some_and(|seat| seat.key == Some(key(*seed).public()));
    let seed = (own..own + 8).find(holds).unwrap_or(own);
    Observation {
        answer,
        timestamp_us,
        signature: key(seed).sign(&bytes),
    }
    .encode()
}

/// A first roster, with exactly these terms.
pub fn roster_of(terms: &Terms) -> Roster {
    Roster::single(1, None, terms.clone())
}

/// An aggregator of several feeds, whose collectors price all of them: an oracle for each feed.
pub fn oracles(feeds: &[&str], n: u8, source: &str) -> Vec<Oracle> {
    let oracle = |feed: &&str| {
        let mut oracle = Oracle::new(n, source);
        oracle.terms.feed = (*feed).to_owned();
        oracle
    };
    feeds.iter().map(oracle).collect()
}

/// Their reports of a round, in which the collectors say the same of every feed.
pub fn lines_of(oracles: &mut [Oracle], start_us: u64, says: &[Says]) -> Vec<String> {
    let line = |oracle: &mut Oracle| oracle.line(start_us, says);
    oracles.iter_mut().map(line).collect()
}

/// A first roster of these feeds, all of which every collector prices.
pub fn roster_of_all(oracles: &[Oracle]) -> Roster {
    let feeds: Vec<Terms> = oracles.iter().map(|one| one.terms.clone()).collect();
    let slot = |(at, seat): (usize, &Seat)| RosterSlot {
        key: seat.key,
        sources: feeds.iter().map(|it| it.seats[at].source.clone()).collect(),
    };
    let slots = feeds[0].seats.iter().enumerate().map(slot).collect();
    Roster::new(1, None, feeds.clone(), slots)
}

/// The file of a roster that follows another from then on, endorsed by these keys, in the form that the document describes.
pub fn endorsed(old: &Roster, new: &Roster, from_us: u64, seeds: &[u8]) -> String {
    let change = Change {
        old: old.digest(),
        new: new.digest(),
        from_us,
    };
    let mut text = format!(
        "{}\n[change]\nfrom = \"{}\"\n",
        render(new),
        instant(from_us)
    );
    for (at, seed) in seeds.iter().enumerate() {
        let key = key(*seed);
        let signature = hex(&key.sign(&change.signed_bytes()));
        text += &format!(
            "[endorsement.{at}]\nkey = \"{}\"\nsignature = \"{signature}\"\n",
            hex(key.public().bytes())
        );
    }
    text
}

/// A time of whole seconds, as in a roster.
pub fn instant(us: u64) -> String {
    format!("{}Z", &utc_text(us)[..19])
}
