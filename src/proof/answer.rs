//! What a collector makes of its samples: one answer, an average or an abstention, and the time that it speaks for.
//!
//! Invariant: a pure function of the records, so that whoever holds them gets the same answer, to the bit.

use crate::aggregate::{Rule, combine};
use crate::limits::{REPLY_MS_MAX, VALID_PERCENT_MIN};
use crate::reason::{Abstention, Miss};
use crate::record::{Answer, Record};
use alloc::vec::Vec;

/// A sample may be asked for so much later than its instant before it is given up: half the interval, and of long
/// intervals half the time that a reply has, so that a round whose last samples are given up still ends in an answer.
pub fn lateness_us_max(interval_us: u64) -> u64 {
    (interval_us / 2).min(REPLY_MS_MAX * 1_000 / 2)
}

/// What a full set of records amounts to: the average and the instant when the newest valid sample was asked for; or,
/// with fewer than 80 % valid, an abstention, which bears the round's start. The aggregator holds prices against it.
pub fn answer(records: &[Record], start_us: u64, interval_us: u64, rule: Rule) -> (Answer, u64) {
    let prices: Vec<f64> = records
        .iter()
        .filter_map(|record| record.price.ok())
        .collect();
    let enough = prices.len() * 100 >= records.len() * VALID_PERCENT_MIN as usize;
    let newest = records.iter().rev().find(|record| record.price.is_ok());
    match (enough, combine(rule, &prices, 0), newest) {
        (true, Some(average), Some(newest)) => {
            let lateness_us = newest.lateness_us.expect("a price was asked for");
            (
                Answer::Price(average),
                start_us + u64::from(newest.index) * interval_us + lateness_us,
            )
        }
        _ => (Answer::Abstain(why_not_enough(records)), start_us),
    }
}

/// Why there is no average: an exchange that lives and says nothing new is another thing than one that is gone.
fn why_not_enough(records: &[Record]) -> Abstention {
    let missing = |record: &&Record| record.price.is_err();
    let stale = |record: &&Record| record.price == Err(Miss::Stale);
    let (missing, stale) = (
        records.iter().filter(missing).count(),
        records.iter().filter(stale).count(),
    );
    if stale * 2 > missing {
        Abstention::Stale
    } else {
        Abstention::TooFewSamples
    }
}
