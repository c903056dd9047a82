//! What is known of a feed from reading its reports with the proof crate: the newest one, the newest published one, and what
//! was counted since this process has followed the journal.
//!
//! No signature is checked here: nothing in this room is meant to be believed.

use super::scan::signature;
use rsoracle_proof::reason::{Abstention, Reject};
use rsoracle_proof::report::Report;
use rsoracle_proof::round::Standing;
use rsoracle_proof::schedule::Schedule;
use rsoracle_proof::seal::Keys;
use std::collections::BTreeMap;

/// The newest published report of a feed.
#[derive(Debug)]
pub(super) struct Published {
    /// Its position in the journal.
    pub(super) position: usize,
    /// Its signature, in hexadecimal.
    pub(super) signature: String,
    /// The oldest observation that it uses, in microseconds since the Unix epoch.
    pub(super) time_us: u64,
}

/// What is known of a slot.
#[derive(Default)]
pub(super) struct Slot {
    source: String,
    /// When it answered last, in microseconds since the Unix epoch, by its own clock.
    pub(super) answered_us: Option<u64>,
    /// Rounds in a row, up to the newest, in which it signed nothing.
    pub(super) without_answer: u64,
    /// Rounds in a row, up to the newest, in which it was silent or abstained.
    pub(super) without_price: u64,
}

/// What is known of a feed.
#[derive(Default)]
pub(super) struct Newest {
    /// The newest report.
    pub(super) report: Option<Report>,
    /// The newest published one.
    pub(super) published: Option<Published>,
    /// What aggregators refused, by reason.
    pub(super) refused: BTreeMap<Reject, u64>,
    /// How often collectors abstained, by reason.
    pub(super) abstained: BTreeMap<Abstention, u64>,
    /// How often a collector gave two different answers.
    pub(super) equivocated: u64,
    /// The slots of the newest report.
    pub(super) slots: Vec<Slot>,
    /// When the newest report was found, in microseconds since the Unix epoch.
    pub(super) seen_us: u64,
    /// From the last instant of the newest report's round until it was found, in microseconds. Negative if the oracle's clocks
    /// are ahead of the clock here; None if it was there at the beginning.
    pub(super) delay_us: Option<i64>,
}

/// The report in a line without its newline, if it is one.
pub(super) fn read(line: &[u8], keys: &mut Keys) -> Option<Report> {
    Report::read(std::str::from_utf8(line).ok()?, keys).ok()
}

impl Newest {
    /// Takes the line of the newest published report.
    pub(super) fn publish(&mut self, position: usize, line: &[u8], report: &Report) {
        self.published = signature(line).map(|signature| Published {
            position,
            signature: signature.to_owned(),
            time_us: report.outcome.timestamp_us.unwrap_or(0),
        });
    }

    /// Takes the newest report, which was found at this time.
    pub(super) fn take(&mut self, report: Report, seen_us: u64) {
        let seats = &report.round.terms.seats;
        self.slots.resize_with(seats.len(), Slot::default);
        let parts = report.round.parts.iter().zip(&report.outcome.standings);
        for ((slot, seat), (part, standing)) in self.slots.iter_mut().zip(seats).zip(parts) {
            // Nothing is known of a source that took the place of another.
            if slot.source != seat.source {
                *slot = Slot {
                    source: seat.source.clone(),
                    ..Slot::default()
                };
            }
            let observed_us = part.observation.map(|one| one.timestamp_us);
            slot.answered_us = observed_us.or(slot.answered_us);
            slot.without_answer = match standing {
                Standing::Silent => slot.without_answer + 1,
                _ => 0,
            };
            slot.without_price = match standing {
                Standing::Silent | Standing::Abstained(_) => slot.without_price + 1,
                _ => 0,
            };
        }
        self.seen_us = seen_us;
        self.delay_us = None;
        self.report = Some(report);
    }

    /// Takes a report that has just come, and counts what it says. Reports that were there before are not counted.
    pub(super) fn follow(&mut self, report: Report, seen_us: u64) {
        let last_us = report.round.last_instant_us();
        for (reason, count) in &report.refused {
            *self.refused.entry(*reason).or_default() += u64::from(*count);
        }
        for standing in &report.outcome.standings {
            match standing {
                Standing::Abstained(why) => *self.abstained.entry(*why).or_default() += 1,
                Standing::Equivocated => self.equivocated += 1,
                _ => {}
            }
        }
        self.take(report, seen_us);
        self.delay_us = Some(seen_us.cast_signed().wrapping_sub_unsigned(last_us));
    }

    /// The schedule of the newest report, if its rounds repeat.
    pub(super) fn schedule(&self) -> Option<&Schedule> {
        let report = self.report.as_ref()?;
        Some(&report.round.terms.schedule).filter(|schedule| schedule.period_us > 0)
    }

    /// Before this time, in microseconds since the Unix epoch, no newer report can come: the last sample of the round after
    /// the newest report's. None if no round follows.
    pub(super) fn next_report_us(&self) -> Option<u64> {
        let (schedule, report) = (self.schedule()?, self.report.as_ref()?);
        let start_us = schedule.next_start_us(report.round.start_us + 1)?;
        Some(start_us + schedule.last_us())
    }
}
