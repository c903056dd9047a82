//! Compares each record of a file with the ones before it of the same feed: whether they form a chain, or several.
//!
//! Invariant: no report stands twice, and the starts of one aggregator's key in one feed increase, whatever chains and changes of
//! keys stand between its reports. Two feeds have nothing in common but the limits on how much is kept. Signatures are not
//! checked here.

use super::{KeyChange, Report};
use crate::limits::FEEDS_MAX;
use crate::publish::PublishedPrice;
use crate::round::Part;
use crate::seal::PublicKey;
use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering::{Equal, Greater, Less};

/// Most aggregators whose reports are compared with each other, each counted for each of its feeds.
const AGGREGATORS_MAX: usize = 100_000;

/// The chains of the records so far, by feed.
#[derive(Default)]
pub struct Chain {
    pub(super) feeds: BTreeMap<String, FeedChain>,
    /// Whether reports that were not published may be missing. Each report names the last published one, so that a missing
    /// published report is found all the same.
    pub published_only: bool,
}

/// The chains of one feed.
#[derive(Default)]
pub(super) struct FeedChain {
    pub(super) last: Option<Seen>,
    /// Every aggregator's key so far.
    aggregators: BTreeMap<[u8; 32], Served>,
    count: u64,
    skipped: u64,
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

impl Chain {
    /// How many chains a feed has. The first may begin before the first record.
    pub fn count(&self, feed: &str) -> u64 {
        self.feeds.get(feed).map_or(0, |chain| chain.count)
    }

    /// How many reports that were not published are missing between the records, if that is allowed.
    pub fn skipped(&self) -> u64 {
        self.feeds.values().map(|chain| chain.skipped).sum()
    }

    /// Whether collectors signed for the aggregators of all reports so far, in each of their feeds.
    pub(super) fn vouched_for(&self) -> bool {
        let is_known = |served: &Served| served.vouched_for || served.last.is_none();
        let mut chains = self.feeds.values();
        chains.all(|chain| chain.aggregators.values().all(is_known))
    }

    /// Compares a change of keys with the record before it. `is_signed`: both keys signed it.
    pub(super) fn change(&mut self, change: &KeyChange, is_signed: bool) -> Option<String> {
        let too_many = self.forget_the_many();
        let chain = self.feeds.entry(change.feed.clone()).or_default();
        chain.change(change, is_signed).or(too_many)
    }

    /// Compares a report with the record of its feed before it, and with the last report under the same key.
    pub(super) fn report(&mut self, report: &Report) -> Vec<String> {
        let mut flaws: Vec<String> = self.forget_the_many().into_iter().collect();
        let feed = report.round.terms.feed.clone();
        let chain = self.feeds.entry(feed).or_default();
        chain.report(report, self.published_only, &mut flaws);
        flaws
    }

    /// The flaw of a record of this feed, if there is no room for a further one.
    pub(super) fn crowded(&self, feed: &str) -> Option<String> {
        let has_room = self.feeds.len() < FEEDS_MAX || self.feeds.contains_key(feed);
        let flaw = || format!("its feed {feed} is one more than the {FEEDS_MAX} of a file");
        (!has_room).then(flaw)
    }

    /// Forgets all aggregators if there are too many, and returns that as a flaw: their reports cannot be compared any more.
    fn forget_the_many(&mut self) -> Option<String> {
        let count: usize = self.feeds.values().map(|it| it.aggregators.len()).sum();
        if count <= AGGREGATORS_MAX {
            return None;
        }
        let chains = self.feeds.values_mut();
        chains.for_each(|chain| chain.aggregators.clear());
        Some("too many aggregators before it, so that it cannot be compared".to_owned())
    }
}

impl FeedChain {
    fn change(&mut self, change: &KeyChange, is_signed: bool) -> Option<String> {
        let old = self.aggregators.get(change.old.bytes());
        let vouched_for = is_signed && old.is_some_and(|served| served.vouched_for);
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
        (!continues).then(|| flaw.to_owned())
    }

    fn report(&mut self, report: &Report, published_only: bool, flaws: &mut Vec<String>) {
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
        let begins = report.previous.is_none() || (published_only && report.last.is_none());
        self.count += u64::from(begins || seen.is_none());
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
            return;
        }
        // The starts of one key increase across all chains, and those of one chain across its keys.
        let mut before_us = last.map(|(_, start_us)| start_us);
        if let Some(seen) = seen.filter(|_| !begins) {
            let before = seen.report.as_ref();
            before_us = before_us.max(before.map(|before| before.start_us));
            self.continued(report, &seen, published_only, flaws);
        }
        let flaw = match before_us.map(|before_us| start_us.cmp(&before_us)) {
            None | Some(Greater) => return,
            Some(Equal) => {
                "equivocation: the aggregator signed two different reports for the same round start"
            }
            Some(Less) => "its round starts before that of the previous report",
        };
        flaws.push(flaw.to_owned());
    }

    /// Adds what is wrong with a report as the one that follows `seen` in a chain.
    fn continued(
        &mut self,
        report: &Report,
        seen: &Seen,
        published_only: bool,
        flaws: &mut Vec<String>,
    ) {
        let same_key = report.aggregator == seen.aggregator;
        let before = seen.report.as_ref();
        let same_last = before.is_none_or(|before| report.last == before.published);
        let number = before.map_or(report.number, |before| before.number + 1);
        let unpublished = same_key && same_last && report.number > number;
        if unpublished && published_only {
            self.skipped += report.number - number;
            return;
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
            let flaw = "the last published price that it names is not that of the previous reports";
            flaws.push(flaw.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::key;

    #[test]
    fn changes_of_keys_without_end_take_no_memory_without_end() {
        let change = |feed: &str| KeyChange {
            feed: feed.into(),
            old: key(1).public(),
            new: key(2).public(),
            previous: [0; 64],
            signatures: [[0; 64]; 2],
        };
        let mut chain = Chain::default();
        assert_eq!(chain.change(&change("A"), false), None);
        let bytes = |number: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
            bytes
        };
        let many = (0..AGGREGATORS_MAX).map(|number| (bytes(number), Served::default()));
        let of = chain.feeds.get_mut("A").expect("a feed");
        of.aggregators.extend(many);
        // Those of all feeds are counted together.
        let flaw = chain.change(&change("B"), false).expect("a flaw");
        assert!(flaw.starts_with("too many aggregators"), "{flaw}");
        let count = |feed| chain.feeds[feed].aggregators.len();
        assert_eq!((count("A"), count("B")), (0, 1));
    }
}
