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
    /// When each slot answered last, by slot and source.
    pub(super) answered_us: BTreeMap<(usize, String), u64>,
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

    /// Takes the newest report.
    pub(super) fn take(&mut self, report: Report) {
        let slots = report.round.parts.iter().zip(&report.outcome.standings);
        let seats = report.round.terms.seats.iter();
        for ((slot, (part, _)), seat) in slots.enumerate().zip(seats) {
            if let Some(observation) = part.observation {
                let us = observation.timestamp_us;
                self.answered_us.insert((slot, seat.source.clone()), us);
            }
        }
        // A slot whose source was replaced is not there any more.
        let seats = &report.round.terms.seats;
        let is_there = |slot: &usize, source: &String| {
            seats.get(*slot).is_some_and(|seat| seat.source == *source)
        };
        self.answered_us
            .retain(|(slot, source), _| is_there(slot, source));
        self.report = Some(report);
    }

    /// Counts what a new report says. Reports that were there before are not counted.
    pub(super) fn count(&mut self, report: &Report) {
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
