//! The output of `run --json` as a consumer reads it: uses no type of the library, and recomputes the price in a few lines.
//!
//! Each test uses a part of this module.
#![allow(dead_code)]

use crate::support::Finished;
use nanoserde::DeJson;
use std::time::UNIX_EPOCH;

/// The reason why a sample has no price if a busy machine requested it too late.
const OVERDUE: &str = "the instant had passed";

/// The fields of a report that tests read.
#[derive(DeJson)]
pub struct Published {
    pub price: Option<f64>,
    pub time_us: Option<u64>,
    pub rule: String,
    pub f: usize,
    pub quorum: usize,
    pub prices: usize,
    pub signatures_verified: usize,
    pub round_start_us: u64,
    pub samples: usize,
    pub interval_us: u64,
    pub collectors: Vec<Slot>,
}

/// One collector's part.
#[derive(DeJson)]
pub struct Slot {
    pub slot: u16,
    pub standing: String,
    pub price: Option<f64>,
    pub abstains: Option<String>,
    pub samples: Vec<Sample>,
}

/// One sample.
#[derive(DeJson, Debug)]
pub struct Sample {
    pub price: Option<f64>,
    pub missing: Option<String>,
    pub lateness_us: Option<u64>,
}

/// The mean as docs/PROTOCOL.md defines it: sorted in ascending order, summed from the left, divided once, clamped.
fn mean(prices: &[f64]) -> f64 {
    let mut sorted = prices.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).expect("prices are numbers"));
    let mut sum = 0.0;
    for price in &sorted {
        sum += price;
    }
    (sum / sorted.len() as f64).clamp(sorted[0], sorted[sorted.len() - 1])
}

impl Published {
    /// Reads the one line of a finished `run --json`.
    pub fn of(done: &Finished) -> Published {
        let read = Published::deserialize_json(&done.stdout);
        read.unwrap_or_else(|error| panic!("{error} in {:?}; {}", done.stdout, done.stderr))
    }

    /// Recomputes every collector's average from its samples, and the price from the averages, and asserts that they are equal
    /// bit for bit. Returns the price.
    pub fn checked_price(&self) -> f64 {
        assert_eq!(self.rule, "trimmed-mean");
        for slot in self.collectors.iter().filter(|slot| slot.price.is_some()) {
            let valid = slot.valid();
            assert!(valid.len() * 100 >= self.samples * 80, "slot {}", slot.slot);
            assert_eq!(
                slot.price.map(f64::to_bits),
                Some(mean(&valid).to_bits()),
                "slot {}",
                slot.slot
            );
        }
        let mut prices: Vec<f64> = self
            .collectors
            .iter()
            .filter_map(|slot| slot.price)
            .collect();
        prices.sort_by(|a, b| a.partial_cmp(b).expect("prices are numbers"));
        assert!(prices.len() >= self.quorum);
        assert_eq!(prices.len(), self.prices);
        let expected = mean(&prices[self.f..prices.len() - self.f]);
        assert_eq!(self.price.map(f64::to_bits), Some(expected.to_bits()));
        expected
    }

    /// Asserts that no sample with a price was requested too late, and that the report was printed by the round's deadline: its
    /// last instant and the closing time, which is at most 1.5 s. A busy machine may add less than a connection may take to open
    /// (20 s).
    pub fn assert_on_time(&self, done: &Finished) {
        let samples = self.collectors.iter().flat_map(|slot| &slot.samples);
        for sample in samples.filter(|sample| sample.price.is_some()) {
            let late = sample.lateness_us.expect("a price was asked for");
            assert!(late <= (self.interval_us / 2).min(500_000), "{sample:?}");
        }
        let last_us = self.round_start_us + (self.samples as u64 - 1) * self.interval_us;
        let printed = done.printed.duration_since(UNIX_EPOCH).unwrap();
        let over_us = (printed.as_micros() as u64).saturating_sub(last_us + 1_500_000);
        assert!(over_us < 15_000_000, "{over_us} µs over its deadline");
    }
}

impl Slot {
    /// The prices of its samples.
    pub fn valid(&self) -> Vec<f64> {
        self.samples
            .iter()
            .filter_map(|sample| sample.price)
            .collect()
    }

    /// The samples that were requested from the exchange, in the order of the requests. A busy machine may have skipped some.
    pub fn asked(&self) -> Vec<&Sample> {
        let asked = |sample: &&Sample| sample.lateness_us.is_some();
        self.samples.iter().filter(asked).collect()
    }

    /// The requested samples without a price, by their index among the requested ones, with the reason. Leaves out those that a
    /// busy machine requested too late.
    pub fn refused(&self) -> Vec<(usize, &str)> {
        let asked = self.asked().into_iter().enumerate();
        asked
            .filter_map(|(at, sample)| Some((at, sample.missing.as_deref()?)))
            .filter(|(_, why)| *why != OVERDUE)
            .collect()
    }
}
