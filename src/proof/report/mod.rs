//! Reports: the outcome of a round with its proof, as one line of JSON, and as one line for people.
//!
//! Invariant: everything that follows from the samples and signatures is computed from them, never taken from the line. The
//! aggregator's signature covers the whole report, at fixed widths. [`Verifier`] compares a line with what its own samples and
//! signatures give.

mod chain;
mod change;
mod line;
mod proof;
mod read;
mod verify;

pub use chain::Chain;
pub use change::KeyChange;
pub use proof::Proof;
pub use verify::{Check, Content, Verifier};

use crate::aggregate::Rule;
use crate::price;
use crate::publish::{Decision, Policy, PublishedPrice, decide};
use crate::reason::Reject;
use crate::record::{NONE_US, Observation};
use crate::round::{Outcome, Part, Round};
use crate::seal::{CONTEXT_REPORT, Fields, Keys, PublicKey};
use crate::source::is_embedded;
use crate::utc::utc_text;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Display};

/// How often frames and peers were refused, by reason.
pub type Refused = BTreeMap<Reject, u32>;

/// Where a line is not a report, and what was expected there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Byte offset in the line, from 0.
    pub at: usize,
    /// What was expected there.
    pub expected: String,
}

impl Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: expected {}", self.at, self.expected)
    }
}

/// The report of one round.
pub struct Report {
    /// Its number in the journal, from 1; without a journal, 1.
    pub number: u64,
    /// The key of the aggregator that made it. It orders reports, and proves nothing about prices.
    pub aggregator: PublicKey,
    /// The round: terms, start, samples and observations.
    pub round: Round,
    /// The round's outcome.
    pub outcome: Outcome,
    /// What becomes of the price.
    pub decision: Decision,
    /// What was refused during the round.
    pub refused: Refused,
    /// The policy that decided whether to publish.
    pub policy: Policy,
    /// The last price that was published before this report.
    pub last: Option<PublishedPrice>,
    /// The signature of the previous record in the journal.
    pub previous: Option<[u8; 64]>,
    /// Whether the aggregator's key exists only as long as its process.
    pub ephemeral: bool,
    /// The aggregator's signature over [`Report::signed_bytes`].
    pub signature: [u8; 64],
}

/// How late samples were requested, and how far apart the collectors requested the same sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lateness {
    /// Median over all samples of all collectors, in microseconds.
    pub median_us: u64,
    /// The maximum over all samples of all collectors, in microseconds.
    pub max_us: u64,
    /// Spread of a sample (its latest minus its earliest collector), in microseconds: the median over the samples.
    pub spread_median_us: u64,
    /// The maximum of these spreads, in microseconds.
    pub spread_max_us: u64,
}

impl Lateness {
    /// Computed from the samples of a round that have a price; `None` if there are none.
    pub fn of(parts: &[Part]) -> Option<Lateness> {
        let most = parts.iter().map(|part| part.records.len()).max()?;
        let mut all: Vec<u64> = Vec::with_capacity(most * parts.len());
        // Earliest and latest of each sample, by its number.
        let mut extremes: Vec<Option<(u64, u64)>> = vec![None; most];
        for record in parts.iter().flat_map(|part| &part.records) {
            // Samples without a price do not count: they may have been requested too late.
            let (Ok(_), Some(us)) = (record.price, record.lateness_us) else {
                continue;
            };
            all.push(us);
            let (low, high) = extremes[record.index as usize].get_or_insert((us, us));
            (*low, *high) = ((*low).min(us), (*high).max(us));
        }
        let spreads = extremes.into_iter().flatten();
        let mut spreads: Vec<u64> = spreads.map(|(low, high)| high - low).collect();
        all.sort_unstable();
        spreads.sort_unstable();
        Some(Lateness {
            median_us: *all.get(all.len() / 2)?,
            max_us: *all.last()?,
            spread_median_us: spreads[spreads.len() / 2],
            spread_max_us: *spreads.last()?,
        })
    }
}

impl Report {
    /// Makes an unsigned report of a round.
    pub fn new(
        number: u64,
        aggregator: PublicKey,
        round: Round,
        refused: Refused,
        policy: Policy,
        last: Option<PublishedPrice>,
    ) -> Report {
        let outcome = round.outcome();
        Report {
            number,
            aggregator,
            decision: decide(&outcome, round.terms.spread_ppm_max, &policy, last.as_ref()),
            round,
            outcome,
            refused,
            policy,
            last,
            previous: None,
            ephemeral: true,
            signature: [0; 64],
        }
    }

    /// Parses a line as [`Report::line`] writes it.
    pub fn read(line: &str, keys: &mut Keys) -> Result<Report, Flaw> {
        read::whole(line, keys, |cursor| cursor.report())
    }

    /// The report as one line of JSON, without the newline.
    pub fn line(&self) -> String {
        line::write(self)
    }

    /// The bytes that the aggregator's signature covers, as in the table of docs/PROTOCOL.md. A missing value is all zeros,
    /// a missing time all ones.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let (terms, outcome, policy) = (&self.round.terms, &self.outcome, &self.policy);
        let bits = |value: Option<f64>| value.map_or(0, f64::to_bits).to_be_bytes();
        let last = self.last.unwrap_or(PublishedPrice {
            number: 0,
            price: 0.0,
            time_us: NONE_US,
        });
        let mut bytes = Fields::new(CONTEXT_REPORT)
            .field(&self.number.to_be_bytes())
            .field(&self.previous.unwrap_or([0; 64]))
            .field(self.aggregator.bytes())
            .field(&u16::from(self.ephemeral).to_be_bytes())
            .field(&self.round.digest)
            .field(&self.round.start_us.to_be_bytes())
            .field(&self.decision.code().to_be_bytes())
            .field(&bits(self.price()))
            .field(&bits(outcome.spread))
            .field(&outcome.timestamp_us.unwrap_or(NONE_US).to_be_bytes())
            .field(&bits(policy.deviation))
            .field(&policy.heartbeat_us.unwrap_or(NONE_US).to_be_bytes())
            .field(&bits(policy.move_max))
            .field(&last.number.to_be_bytes())
            .field(&last.price.to_bits().to_be_bytes())
            .field(&last.time_us.to_be_bytes())
            .field(&(self.refused.len() as u16).to_be_bytes());
        for (reason, count) in &self.refused {
            bytes = bytes
                .field(&reason.code().to_be_bytes())
                .field(&count.to_be_bytes());
        }
        bytes = bytes.field(&terms.n().to_be_bytes());
        for part in &self.round.parts {
            let encoded = |one: Option<Observation>| one.map_or([0; 80], |one| one.encode());
            let second = part.equivocated.as_ref();
            bytes = bytes
                .field(&encoded(part.observation))
                .field(&second.map_or([0; 32], |second| second.samples_digest))
                .field(&encoded(second.map(|second| second.observation)))
                .field(&(part.records.len() as u32).to_be_bytes());
            for record in &part.records {
                bytes = bytes.field(&record.encode());
            }
        }
        bytes.bytes()
    }

    /// The price that the report shows: `None` below the quorum, or if the price was withheld.
    pub fn price(&self) -> Option<f64> {
        self.outcome.price.filter(|_| self.decision.has_price())
    }

    /// The last published price after this report; the next report names it.
    pub fn published(&self) -> Option<PublishedPrice> {
        if !self.decision.publishes() {
            return self.last;
        }
        let (price, time_us) = self.outcome.price.zip(self.outcome.timestamp_us)?;
        Some(PublishedPrice {
            number: self.number,
            price,
            time_us,
        })
    }

    /// The age that a quorum vouches for, in microseconds: the exchange prices of at least a quorum of collectors were no older.
    /// `None` if the exchanges of fewer collectors gave times.
    pub fn age_us(&self) -> Option<u64> {
        let rank = usize::from(self.round.terms.quorum()).checked_sub(1)?;
        let mut ages: Vec<u64> = self.round.parts.iter().filter_map(Part::age_us).collect();
        ages.sort_unstable();
        ages.get(rank).copied()
    }

    /// Whether any of its prices are recorded ones.
    pub fn embedded(&self) -> bool {
        let seats = &self.round.terms.seats;
        seats.iter().any(|seat| is_embedded(&seat.source))
    }

    /// The result as one line for people; `None` without a price.
    pub fn closing_line(&self) -> Option<String> {
        let terms = &self.round.terms;
        let (price, time_us) = self.price().zip(self.outcome.timestamp_us)?;
        let rule = match terms.rule {
            Rule::TrimmedMean => "trimmed mean",
            Rule::Median => "median",
            Rule::Mean => "plain mean",
        };
        let (verified, n) = (self.outcome.verified, terms.n());
        Some(format!(
            "{} {}  ({verified} of {n} signatures verified, {rule}, {}, {})",
            terms.feed,
            price::text(price),
            terms.tolerance().text(),
            utc_text(time_us)
        ))
    }
}

#[cfg(test)]
mod tests;
