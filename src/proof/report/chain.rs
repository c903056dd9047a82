//! Compares each record of a file with the ones before it: whether they form a chain, or several.
//!
//! Invariant: no report stands twice, and the starts of one aggregator's key increase, whatever chains and changes of keys stand
//! between its reports. Signatures are not checked here.

use super::{KeyChange, Report};
use crate::publish::PublishedPrice;
use crate::round::Part;
use crate::seal::PublicKey;
use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// Most aggregators whose reports are compared with each other.
const AGGREGATORS_MAX: usize = 100_000;

/// The chains of the records so far.
#[derive(Default)]
pub struct Chain {
    pub(super) last: Option<Seen>,
    /// Every aggregator's key so far.
    aggregators: BTreeMap<[u8; 32], Served>,
    /// Whether reports that were not published may be missing. Each report names the last published one, so that a missing
    /// published report is found all the same.
    pub published_only: bool,
    /// How many chains there are. The first may begin before the first record.
    pub count: u64,
    /// How many reports that were not published are missing between the records, if that is allowed.
    pub skipped: u64,
}

/// What the next report of a chain is compared with.
pub(super) struct Seen {
    pub(super) signature: [u8; 64],
    pub(super) aggregator: PublicKey,
    /// The last report; None after a change of keys that came first.
    report: Option<SeenReport>,
}

struct SeenReport {
    number: u64,
    start_us: u64,
    published: Option<PublishedPrice>,
}

/// What an aggregator's key has signed so far.
#[derive(Default)]
struct Served {
    /// Signature and start of its last report.
    last: Option<([u8; 64], u64)>,
    /// Whether its reports have anything that a collector signed.
    vouched_for: bool,
}

/// What is wrong with the start of a report, if the one before it started at `before_us`.
fn start_flaw(report: &Report, before_us: u64) -> Option<String> {
    use core::cmp::Ordering::{Equal, Greater, Less};
    let why = match report.round.start_us.cmp(&before_us) {
        Greater => return None,
        Equal => {
            "equivocation: the aggregator signed two different reports for the same round start"
        }
        Less => "its round starts before that of the previous report",
    };
    Some(why.to_owned())
}

impl Chain {
    /// Forgets the records so far.
    pub(super) fn forget(&mut self) {
        self.last = None;
        self.aggregators.clear();
    }

    /// Whether collectors signed for the aggregators of all reports so far.
    pub(super) fn vouched_for(&self) -> bool {
        let is_known = |served: &Served| served.vouched_for || served.last.is_none();
        self.aggregators.values().all(is_known)
    }

    /// Compares a change of keys with the record before it. `is_signed`: both keys signed it.
    pub(super) fn change(&mut self, change: &KeyChange, is_signed: bool) -> Option<String> {
        let old = self.aggregators.get(change.old.bytes());
        let vouched_for = is_signed && old.is_some_and(|served| served.vouched_for);
        let too_many = self.forget_the_many();
        let new = self.aggregators.entry(*change.new.bytes()).or_default();
        new.vouched_for |= vouched_for;
        let seen = self.last.take();
        self.count += u64::from(seen.is_none());
        let seen_keys = seen.as_ref().map(|seen| (seen.aggregator, seen.signature));
        let continues = seen_keys.is_none_or(|keys| keys == (change.old, change.previous));
        self.last = Some(Seen {
            signature: change.signature(),
            aggregator: change.new,
            report: seen.and_then(|seen| seen.report),
        });
        let flaw = "it does not continue the chain: its old key or its previous signature is not that of the record before it";
        (!continues).then(|| flaw.to_owned()).or(too_many)
    }

    /// Forgets all aggregators if there are too many, and returns that as a flaw: their reports cannot be compared any more.
    fn forget_the_many(&mut self) -> Option<String> {
        let too_many = self.aggregators.len() > AGGREGATORS_MAX;
        if too_many {
            self.aggregators.clear();
        }
        too_many.then(|| "too many aggregators before it, so that it cannot be compared".to_owned())
    }

    /// Compares a report with the record before it, and with the last report under the same key.
    pub(super) fn report(&mut self, report: &Report) -> Vec<String> {
        let aggregator = report.aggregator;
        let seen = self.last.replace(Seen {
            signature: report.signature,
            aggregator,
            report: Some(SeenReport {
                number: report.number,
                start_us: report.round.start_us,
                published: report.published(),
            }),
        });
        let begins = report.previous.is_none() || (self.published_only && report.last.is_none());
        self.count += u64::from(begins || seen.is_none());
        let mut flaws: Vec<String> = self.forget_the_many().into_iter().collect();
        let served = self.aggregators.entry(*aggregator.bytes()).or_default();
        let signed = |part: &Part| part.observation.is_some();
        served.vouched_for |= report.round.parts.iter().any(signed);
        let start_us = report.round.start_us;
        let last = served.last.replace((report.signature, start_us));
        if report.previous.is_none() != (report.number == 1) {
            flaws.push("report 1, and no other, has no previous report".to_owned());
        }
        if last.is_some_and(|(signature, _)| signature == report.signature) {
            flaws.push(format!("report {} appears twice", report.number));
            return flaws;
        }
        // The starts of one key increase across all chains, and those of one chain across its keys.
        let mut before_us = last.map(|(_, start_us)| start_us);
        if let Some(seen) = seen.filter(|_| !begins) {
            let before = seen.report.as_ref();
            before_us = before_us.max(before.map(|before| before.start_us));
            flaws.extend(self.continued(report, &seen));
        }
        flaws.extend(before_us.and_then(|before_us| start_flaw(report, before_us)));
        flaws
    }

    /// What is wrong with a report as the one that follows `seen` in a chain.
    fn continued(&mut self, report: &Report, seen: &Seen) -> Vec<String> {
        let mut flaws = Vec::new();
        let same_key = report.aggregator == seen.aggregator;
        let before = seen.report.as_ref();
        let same_last = before.is_none_or(|before| report.last == before.published);
        let number = before.map_or(report.number, |before| before.number + 1);
        let unpublished = same_key && same_last && report.number > number;
        if unpublished && self.published_only {
            self.skipped += report.number - number;
            return flaws;
        }
        if report.number != number {
            let hint = " (no published report is missing: --published allows this)";
            let hint = if unpublished { hint } else { "" };
            let (found, before) = (report.number, number - 1);
            flaws.push(format!("report {found} follows report {before}{hint}"));
        }
        if report.previous != Some(seen.signature) {
            flaws.push("the previous report that it names is not the one before it".to_owned());
        }
        if !same_key {
            flaws.push("the aggregator's key is not that of the previous report".to_owned());
        }
        if !same_last {
            flaws.push(
                "the last published price that it names is not that of the previous reports"
                    .to_owned(),
            );
        }
        flaws
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::key;

    #[test]
    fn changes_of_keys_without_end_take_no_memory_without_end() {
        let change = KeyChange {
            old: key(1).public(),
            new: key(2).public(),
            previous: [0; 64],
            signatures: [[0; 64]; 2],
        };
        let mut chain = Chain::default();
        assert_eq!(chain.change(&change, false), None);
        let bytes = |number: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
            bytes
        };
        let many = (0..AGGREGATORS_MAX).map(|number| (bytes(number), Served::default()));
        chain.aggregators.extend(many);
        chain.last = None;
        let flaw = chain.change(&change, false).expect("a flaw");
        assert!(flaw.starts_with("too many aggregators"), "{flaw}");
        assert_eq!(chain.aggregators.len(), 1);
    }
}
