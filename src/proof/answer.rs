//! Turns a collector's samples into its answer: an average or an abstention, with its timestamp.
//!
//! Invariant: the answer is a pure function of the sample records, so that everyone who has them gets the same answer, to
//! the bit.

use crate::aggregate::{Rule, combine};
use crate::limits::VALID_PERCENT_MIN;
use crate::reason::{Abstention, Miss};
use crate::record::{Answer, Record};
use alloc::vec::Vec;

/// The answer that a full set of records gives, with its timestamp: the average, and when the newest valid sample was
/// requested. If fewer than 80 % of the records are valid: an abstention, and the round's start. The aggregator compares
/// signed answers with this.
pub fn answer(records: &[Record], start_us: u64, interval_us: u64, rule: Rule) -> (Answer, u64) {
    let prices: Vec<f64> = records
        .iter()
        .filter_map(|record| record.price.ok())
        .collect();
    let enough = prices.len() * 100 >= records.len() * VALID_PERCENT_MIN as usize;
    let newest = records.iter().rev().find(|record| record.price.is_ok());
    match (enough, combine(rule, &prices, 0), newest) {
        (true, Some(average), Some(newest)) => {
            let lateness_us = newest
                .lateness_us
                .expect("a sample with a price was requested");
            (
                Answer::Price(average),
                start_us + u64::from(newest.index) * interval_us + lateness_us,
            )
        }
        _ => (Answer::Abstain(why_not_enough(records)), start_us),
    }
}

/// Why there is no average. An exchange that answers with stale prices is distinguished from one that does not answer.
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
