//! The rounds of a feed: gathers the reports of each from all sources, and decides when a round is told.
//!
//! Invariant: rounds are told once, in the order of their starts, and what was told is never revised. A round is told once every
//! source that kept up has gone that far, or when it has waited long enough; so a source that is late, silent or lost costs the
//! others one wait, and is not waited for again until it has caught up.

use crate::follow::limits::{ROUND_WAIT_MS, ROUNDS_KEPT_MAX, ROUNDS_OPEN_MAX};
use rsoracle_proof::pool::Pool;
use rsoracle_proof::report::{Proof, Report};
use rsoracle_proof::schedule::Schedule;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A report, and the number of the source that it came from.
pub(super) type Sourced = (usize, Rc<Report>);

struct Round {
    /// No two are the same report.
    reports: Vec<Sourced>,
    /// How many sources had one.
    sources: usize,
    /// When the first of them came.
    since: Instant,
}

/// How far a source is.
#[derive(Clone, Copy, Default)]
struct Progress {
    start_us: Option<u64>,
    /// Whether it did not have the last round that was told when that was told.
    lags: bool,
}

/// What taking a report showed.
#[derive(Default)]
pub(super) struct Shown {
    /// Lies of collectors that no report shows by itself.
    pub(super) lies: Vec<Proof>,
    /// Whether an aggregator has signed two reports of the round.
    pub(super) is_twice: bool,
    /// Whether its round has been told already.
    pub(super) is_late: bool,
}

/// A round to tell.
pub(super) struct Told {
    pub(super) start_us: u64,
    pub(super) reports: Vec<Sourced>,
    pub(super) sources: usize,
    /// How many rounds of the schedule between this and the one told before have no report.
    pub(super) missing: u64,
    /// The sources that kept up so far, and have no report of it.
    pub(super) late: Vec<usize>,
}

/// All rounds of a feed.
pub(super) struct Rounds {
    schedule: Schedule,
    waiting: BTreeMap<u64, Round>,
    /// Rounds that were told, for lies that a late report shows.
    kept: BTreeMap<u64, Vec<Sourced>>,
    /// Start of the last round that was told.
    told_us: Option<u64>,
    progress: Vec<Progress>,
}

impl Rounds {
    /// The rounds of a feed, of which those up to `told_us` were told already.
    pub(super) fn new(schedule: Schedule, sources: usize, told_us: Option<u64>) -> Rounds {
        Rounds {
            schedule,
            waiting: BTreeMap::new(),
            kept: BTreeMap::new(),
            told_us,
            progress: vec![Progress::default(); sources],
        }
    }

    /// Takes a report, which is newer than all before it of the same source.
    pub(super) fn take(&mut self, source: usize, report: Rc<Report>, now: Instant) -> Shown {
        let start_us = report.round.start_us;
        let progress = &mut self.progress[source];
        progress.start_us = Some(start_us);
        progress.lags &= self.told_us.is_some_and(|told_us| start_us < told_us);
        let is_late = self.told_us.is_some_and(|told_us| start_us <= told_us);
        let reports = if is_late {
            let Some(kept) = self.kept.get_mut(&start_us) else {
                let is_late = true;
                return Shown {
                    is_late,
                    ..Shown::default()
                };
            };
            kept
        } else {
            let round = self.waiting.entry(start_us).or_insert_with(|| Round {
                reports: Vec::new(),
                sources: 0,
                since: now,
            });
            round.sources += 1;
            &mut round.reports
        };
        let signature = report.signature;
        let is_known = |(_, other): &Sourced| other.signature == signature;
        if reports.iter().any(is_known) {
            return Shown {
                is_late,
                ..Shown::default()
            };
        }
        let key = report.aggregator;
        let is_twice = reports.iter().any(|(_, other)| other.aggregator == key);
        reports.push((source, report));
        let lies = match reports.len() {
            1 => Vec::new(),
            _ => pool(reports).lies,
        };
        Shown {
            lies,
            is_twice,
            is_late,
        }
    }

    /// Whether a source need not be read now: enough rounds wait, and it has the first of them.
    pub(super) fn has_enough_of(&self, source: usize) -> bool {
        let first = self.waiting.first_key_value();
        let has_first =
            first.is_some_and(|(first_us, _)| self.progress[source].start_us >= Some(*first_us));
        has_first && self.waiting.len() >= ROUNDS_OPEN_MAX
    }

    /// The next round to tell, if it need not wait. `now_us` is the same instant, in microseconds since the Unix epoch.
    pub(super) fn tell(&mut self, now: Instant, now_us: u64) -> Option<Told> {
        let (start_us, round) = self.waiting.first_key_value()?;
        let start_us = *start_us;
        let lacks = |progress: &Progress| !progress.lags && progress.start_us < Some(start_us);
        // No report can be there before the round's end. One that is all the same is not a reason to tell the round.
        let end_us = start_us + self.schedule.length_us() + ROUND_WAIT_MS * 1_000;
        let waited = now.saturating_duration_since(round.since);
        let is_over = waited >= Duration::from_millis(ROUND_WAIT_MS) && now_us >= end_us;
        if !is_over && self.progress.iter().any(lacks) {
            return None;
        }
        self.tell_first()
    }

    /// The next round, whether others may still have reports of it or not.
    pub(super) fn tell_first(&mut self) -> Option<Told> {
        let (
            start_us,
            Round {
                reports, sources, ..
            },
        ) = self.waiting.pop_first()?;
        let mut late = Vec::new();
        for (source, progress) in self.progress.iter_mut().enumerate() {
            if progress.start_us < Some(start_us) && !std::mem::replace(&mut progress.lags, true) {
                late.push(source);
            }
        }
        let missing = self
            .told_us
            .map_or(0, |told_us| self.between(told_us, start_us));
        self.told_us = Some(start_us);
        self.kept.insert(start_us, reports.clone());
        if self.kept.len() > ROUNDS_KEPT_MAX {
            self.kept.pop_first();
        }
        Some(Told {
            start_us,
            reports,
            sources,
            missing,
            late,
        })
    }

    /// How many rounds of the schedule start between two of its starts.
    fn between(&self, before_us: u64, start_us: u64) -> u64 {
        let rounds = (start_us - before_us).checked_div(self.schedule.period_us);
        rounds.unwrap_or(0).saturating_sub(1)
    }
}

/// Pools reports of one round.
pub(super) fn pool(reports: &[Sourced]) -> Pool {
    let reports: Vec<&Report> = reports.iter().map(|(_, report)| &**report).collect();
    Pool::of(&reports)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rsoracle_proof::publish::Policy;
    use rsoracle_proof::report::Refused;
    use rsoracle_proof::round::Round as Answers;
    use rsoracle_proof::seal::PublicKey;
    use rsoracle_proof::terms::Terms;

    const START_US: u64 = 1_700_000_000_000_000;
    const PERIOD_US: u64 = 10_000_000;

    fn terms() -> Terms {
        Terms {
            feed: "BTC/USD".into(),
            rule: rsoracle_proof::aggregate::Rule::Mean,
            sample_rule: rsoracle_proof::aggregate::Rule::Mean,
            exchanges_min: 1,
            age_us_max: None,
            spread_ppm_max: None,
            schedule: Schedule {
                first_start_us: 0,
                period_us: PERIOD_US,
                end_us: None,
                samples: 1,
                interval_us: 1_000_000,
            },
            seats: Vec::new(),
        }
    }

    /// A report of a round, which nobody has signed. Each of another `number` is another report.
    fn report(round: u64, number: u8) -> Rc<Report> {
        let answers = Answers::new(terms(), START_US + round * PERIOD_US);
        // The base point of the curve.
        let mut bytes = [0x66; 32];
        bytes[0] = 0x58;
        let key = PublicKey::decode(&bytes).expect("a point");
        let mut report = Report::new(1, key, answers, Refused::new(), Policy::default(), None);
        report.signature = [number; 64];
        Rc::new(report)
    }

    /// A feed of two sources, and the clocks, which show the same time.
    struct Stage {
        rounds: Rounds,
        begin: Instant,
        /// Since the first start.
        ms: u64,
    }

    impl Stage {
        fn new() -> Stage {
            let rounds = Rounds::new(terms().schedule, 2, None);
            let begin = Instant::now();
            Stage {
                rounds,
                begin,
                ms: 3_000,
            }
        }

        fn take(&mut self, source: usize, round: u64) -> Shown {
            let now = self.begin + Duration::from_millis(self.ms);
            self.rounds.take(source, report(round, source as u8), now)
        }

        /// The next round to tell, how many sources have it, and which are late.
        fn tell(&mut self) -> Option<(u64, usize, Vec<usize>)> {
            let now = self.begin + Duration::from_millis(self.ms);
            let told = self.rounds.tell(now, START_US + self.ms * 1_000)?;
            let round = (told.start_us - START_US) / PERIOD_US;
            Some((round, told.sources, told.late))
        }
    }

    #[test]
    fn a_round_waits_for_those_that_keep_up_and_no_longer_than_it_may() {
        let mut stage = Stage::new();
        stage.take(0, 0);
        assert_eq!(stage.tell(), None, "the other one may have it");
        stage.take(1, 0);
        assert_eq!(stage.tell(), Some((0, 2, vec![])));
        stage.ms += 10_000;
        stage.take(0, 1);
        stage.ms += ROUND_WAIT_MS - 1;
        assert_eq!(stage.tell(), None);
        stage.ms += 1;
        assert_eq!(stage.tell(), Some((1, 1, vec![1])));
        // It is not waited for any more, until it has what was told last.
        stage.ms += 8_000;
        stage.take(0, 2);
        assert_eq!(stage.tell(), Some((2, 1, vec![])));
        assert!(stage.take(1, 1).is_late);
        stage.ms += 10_000;
        stage.take(0, 3);
        assert_eq!(stage.tell(), Some((3, 1, vec![])));
        assert!(stage.take(1, 2).is_late && stage.take(1, 3).is_late);
        stage.ms += 10_000;
        stage.take(0, 4);
        assert_eq!(stage.tell(), None, "it has caught up");
        stage.take(1, 5);
        assert_eq!(
            stage.tell(),
            Some((4, 1, vec![])),
            "it has none of this one"
        );
    }

    #[test]
    fn a_report_before_its_rounds_end_is_no_reason_to_tell_the_round() {
        let mut stage = Stage::new();
        stage.take(0, 1);
        let end_ms = (PERIOD_US + terms().schedule.length_us()) / 1_000;
        stage.ms = end_ms + ROUND_WAIT_MS - 1;
        assert_eq!(stage.tell(), None);
        // The other one's is in time.
        stage.take(1, 1);
        assert_eq!(stage.tell(), Some((1, 2, vec![])));
        stage.take(0, 3);
        stage.ms += PERIOD_US / 500 + 1;
        assert_eq!(stage.tell(), Some((3, 1, vec![1])));
    }

    #[test]
    fn rounds_without_a_report_are_counted_and_one_that_is_far_ahead_is_not_read() {
        let mut stage = Stage::new();
        for round in 0..ROUNDS_OPEN_MAX as u64 {
            assert!(!stage.rounds.has_enough_of(0));
            stage.take(0, round);
        }
        assert!(stage.rounds.has_enough_of(0) && !stage.rounds.has_enough_of(1));
        stage.take(1, 7);
        for _ in 0..8 {
            assert_eq!(stage.rounds.tell_first().map(|told| told.missing), Some(0));
        }
        assert!(!stage.rounds.has_enough_of(0));
        while stage.rounds.tell_first().is_some() {}
        stage.take(0, ROUNDS_OPEN_MAX as u64 + 5);
        assert_eq!(stage.rounds.tell_first().map(|told| told.missing), Some(5));
        let told_us = stage.rounds.told_us;
        assert!(stage.take(1, 8).is_late);
        assert_eq!(stage.rounds.told_us, told_us);
    }
}
