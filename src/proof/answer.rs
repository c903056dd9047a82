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
    let mut priced = records.iter().filter(|record| record.price.is_ok());
    let prices: Vec<f64> = priced.clone().filter_map(|it| it.price.ok()).collect();
    let enough = prices.len() * 100 >= records.len() * VALID_PERCENT_MIN as usize;
    match (enough, combine(rule, &prices, 0), priced.next_back()) {
        (true, Some(average), Some(newest)) => {
            let lateness_us = newest.lateness_us.expect("what has a price was requested");
            let instant_us = start_us + u64::from(newest.index) * interval_us;
            (Answer::Price(average), instant_us + lateness_us)
        }
        _ => (Answer::Abstain(why_not_enough(records)), start_us),
    }
}

/// Why there is no average. An exchange that answers with stale prices is distinguished from one that does not answer.
fn why_not_enough(records: &[Record]) -> Abstention {
    let missing = records.iter().filter_map(|record| record.price.err());
    let stale = missing.clone().filter(|miss| *miss == Miss::Stale).count();
    if stale * 2 > missing.count() {
        Abstention::Stale
    } else {
        Abstention::TooFewSamples
    }
}
