//! The schedule of a feed: when rounds start and end, and when their samples are taken. Anyone can compute every instant from it.
//!
//! Invariant: rounds of one schedule that passes [`Schedule::check`] never overlap, and each leaves time for its answers.

use crate::duration::duration_text;
use crate::limits::*;
use alloc::string::String;

/// When rounds start, and when each round's samples are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Start of the first round, microseconds since the Unix epoch.
    pub first_start_us: u64,
    /// Microseconds from one round's start to the next; 0 for a single round.
    pub period_us: u64,
    /// No round starts at this time or later, microseconds since the Unix epoch; `None` for no end.
    pub end_us: Option<u64>,
    /// Samples per round.
    pub samples: u32,
    /// Microseconds from one sample to the next.
    pub interval_us: u64,
}

/// When a roster counts: for rounds that start within this time, in microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tenure {
    /// The first moment.
    pub from_us: u64,
    /// When the next roster takes over; `None` if there is no next one.
    pub until_us: Option<u64>,
}

impl Tenure {
    /// Whether a round that starts then is within it.
    pub fn includes(&self, start_us: u64) -> bool {
        self.from_us <= start_us && self.until_us.is_none_or(|until_us| start_us < until_us)
    }
}

impl Schedule {
    /// Microseconds from a round's start to its last sample's instant.
    pub fn last_us(&self) -> u64 {
        u64::from(self.samples.saturating_sub(1)) * self.interval_us
    }

    /// Microseconds between the last sample's instant and the end of the round: [`CLOSING_US_MAX`], or what the period leaves
    /// before the time at its end that is clear of rounds.
    fn closing_us(&self) -> u64 {
        if self.period_us == 0 {
            return CLOSING_US_MAX;
        }
        let clear_us = (self.period_us / CLEAR_PART).clamp(CLEAR_US_MIN, CLEAR_US_MAX);
        let left_us = self.period_us.saturating_sub(clear_us + self.last_us());
        left_us.min(CLOSING_US_MAX)
    }

    /// Microseconds from a round's start to its end.
    pub fn length_us(&self) -> u64 {
        self.last_us() + self.closing_us()
    }

    /// Microseconds from a round's start until replies of exchanges are given up. The rest of the round, the last quarter of its
    /// closing time, is for answers to travel.
    pub fn reply_us(&self) -> u64 {
        let travel_us = (self.closing_us() / 4).max(TRAVEL_US_MIN);
        self.length_us().saturating_sub(travel_us)
    }

    /// How late a sample may be requested, in microseconds after its instant. Later it is skipped.
    ///
    /// This is half the interval, but at most half of the time that the last sample's reply has, so that a round whose last
    /// samples are skipped still ends with an answer.
    pub fn lateness_us_max(&self) -> u64 {
        let reply_us = self.reply_us().saturating_sub(self.last_us());
        (self.interval_us / 2).min(reply_us.min(REPLY_MS_MAX * 1_000) / 2)
    }

    /// Whether a round starts at this time.
    pub fn is_start(&self, us: u64) -> bool {
        self.next_start_us(us) == Some(us)
    }

    /// The first start that is not before `from_us`, if there is one.
    pub fn next_start_us(&self, from_us: u64) -> Option<u64> {
        let since_us = from_us.saturating_sub(self.first_start_us);
        let rounds = match self.period_us {
            0 if since_us > 0 => return None,
            0 => 0,
            period_us => since_us.div_ceil(period_us),
        };
        let start_us = rounds
            .checked_mul(self.period_us)?
            .checked_add(self.first_start_us)?;
        Some(start_us).filter(|us| self.end_us.is_none_or(|end_us| *us < end_us))
    }

    /// Checks that everything fits together. The error says what does not, and what to change.
    pub fn check(&self) -> Result<(), String> {
        let text = duration_text;
        let bounds = |what, us, (low, high)| {
            let outside = || format!("{what} is not from {} to {}", text(low), text(high));
            let is_inside = (low..=high).contains(&us);
            is_inside.then_some(()).ok_or_else(outside)
        };
        if !(1..=SAMPLES_MAX).contains(&self.samples) {
            let outside = "the number of samples is not from 1 to";
            return Err(format!("{outside} {SAMPLES_MAX}"));
        }
        let (interval, period) = (
            (INTERVAL_US_MIN, INTERVAL_US_MAX),
            (PERIOD_US_MIN, ROUND_US_MAX),
        );
        let whole = "the time of all samples together";
        bounds("the interval", self.interval_us, interval)?;
        bounds(whole, self.last_us(), (0, ROUND_US_MAX))?;
        if self.period_us > 0 {
            bounds("the period", self.period_us, period)?;
        }
        if self.closing_us() < CLOSING_US_MIN {
            return Err(format!(
                "{} samples, {} apart, do not fit into a period of {}, which must leave {} for answers and its end clear; use fewer samples, a shorter interval or a longer period",
                self.samples,
                text(self.interval_us),
                text(self.period_us),
                text(CLOSING_US_MIN)
            ));
        }
        if self.end_us.is_some_and(|us| us <= self.first_start_us) {
            return Err("the end is not after the first start".into());
        }
        if self.first_start_us.max(self.end_us.unwrap_or(0)) > TIME_US_MAX {
            return Err("a time is too late for a report".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::prelude::v1::*;

    fn schedule(samples: u32, interval_ms: u64, period_ms: u64) -> Schedule {
        Schedule {
            first_start_us: 0,
            period_us: period_ms * 1_000,
            end_us: None,
            samples,
            interval_us: interval_ms * 1_000,
        }
    }

    #[test]
    fn a_round_leaves_time_for_replies_for_answers_and_before_the_next_start() {
        for (samples, interval_ms, period_ms, length_ms, reply_ms, lateness_ms) in [
            (10, 1_000, 10_000, 9_900, 9_675, 337),
            (10, 1_000, 60_000, 10_500, 10_125, 500),
            (10, 1_000, 0, 10_500, 10_125, 500),
            (3, 20, 100, 95, 81, 10),
            (1, 20, 100, 95, 71, 10),
        ] {
            let schedule = schedule(samples, interval_ms, period_ms);
            assert_eq!(schedule.check(), Ok(()));
            let computed = [
                schedule.length_us(),
                schedule.reply_us(),
                schedule.lateness_us_max(),
            ];
            let computed = computed.map(|us| us / 1_000);
            assert_eq!(computed, [length_ms, reply_ms, lateness_ms], "{schedule:?}");
            assert!(schedule.last_us() + 2 * schedule.lateness_us_max() <= schedule.reply_us());
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_to_change() {
        let good = schedule(10, 1_000, 10_000);
        for (bad, says) in [
            (schedule(0, 1_000, 10_000), "the number of samples"),
            (schedule(1_001, 20, 0), "from 1 to 1000"),
            (schedule(10, 19, 10_000), "the interval is not from 20ms"),
            (schedule(1_000, 3_600_000, 0), "all samples together"),
            (schedule(1, 1_000, 99), "the period is not from 100ms"),
            (schedule(11, 1_000, 10_000), "use fewer samples"),
            (schedule(5, 20, 100), "5 samples, 20ms apart"),
            (
                Schedule {
                    first_start_us: TIME_US_MAX + 1,
                    ..good
                },
                "too late",
            ),
            (
                Schedule {
                    end_us: Some(0),
                    ..good
                },
                "the end is not after",
            ),
        ] {
            let sentence = bad.check().unwrap_err();
            assert!(sentence.contains(says), "{sentence}");
        }
    }

    #[test]
    fn starts_are_on_the_grid_from_the_first_one_until_the_end() {
        let mut grid = Schedule {
            first_start_us: 7_000_000,
            ..schedule(1, 1_000, 10_000)
        };
        let starts = [(0, 7), (7, 7), (8, 17), (17, 17), (1_000_000, 1_000_007)];
        for (from_s, start_s) in starts {
            assert_eq!(
                grid.next_start_us(from_s * 1_000_000),
                Some(start_s * 1_000_000)
            );
        }
        assert!(grid.is_start(17_000_000) && !grid.is_start(17_000_001) && !grid.is_start(0));
        grid.end_us = Some(17_000_000);
        assert!(grid.is_start(7_000_000) && !grid.is_start(17_000_000));
        assert_eq!(grid.next_start_us(u64::MAX), None);
        let once = Schedule {
            first_start_us: 7,
            ..schedule(1, 1_000, 0)
        };
        assert_eq!(
            [0, 7, 8].map(|us| once.next_start_us(us)),
            [Some(7), Some(7), None]
        );
    }
}
