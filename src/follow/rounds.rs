//! The rounds of a feed: gathers the reports of each from all sources, and decides when a round is told.
//!
//! Invariant: rounds are told once, in the order of their starts, and what was told is never revised. A round is told once every
//! source that kept up has gone that far, or when it has waited long enough; so a source that is late, silent or lost costs the
//! others one wait, and is not waited for again until it has caught up.

use crate::system::limits::{ROUND_WAIT_MS, ROUNDS_KEPT_MAX, ROUNDS_OPEN_MAX};
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
