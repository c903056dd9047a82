//! The end of a run: the price or why there is none, what the collectors had to say, and no process left behind.

use super::{Aggregator, DETAIL_SLOTS_MAX, view};
use crate::child::{self, Child};
use crate::error::{EXIT_FAILURE, EXIT_NO_QUORUM, EXIT_PRICE};
use crate::publish::Policy;
use crate::report::Report;
use crate::round::Round;
use crate::wait::wall_us;
use std::io::Write;

/// Reads of the children's log at the end: a child that never stops talking must not keep us.
const LOG_READS_AT_END: usize = 64;

impl Aggregator<'_> {
    /// Makes the report of the round that has ended, and publishes its price or says why there is none.
    pub(super) fn publish(&mut self) -> u8 {
        let round = self.round.take().expect("a round was run");
        self.data.close_round(&mut self.refused);
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.remark.is_empty() && !round.answered(index as u16) {
                slot.remark = view::why_silent(slot).to_owned();
            }
        }
        self.screen.draw(view::sampling(&self.slots, &round), true);
        self.screen.keep();
        let report = self.report(round);
        let remarks: Vec<String> = self.slots.iter().map(|slot| slot.remark.clone()).collect();
        for line in report.details(&remarks, DETAIL_SLOTS_MAX) {
            self.tell(&line);
        }
        if let Some(why) = report.failure() {
            self.screen.say(&format!("aggregator: {why}"));
        }
        self.print(&report)
    }

    /// The result, on standard output.
    fn print(&mut self, report: &Report) -> u8 {
        let code = if report.price().is_some() {
            EXIT_PRICE
        } else {
            EXIT_NO_QUORUM
        };
        let line = if self.config.json {
            Some(report.line())
        } else {
            let mark = self.screen.mark();
            report.closing_line().map(|line| format!("{mark}{line}"))
        };
        let Some(line) = line else { return code };
        let mut out = std::io::stdout().lock();
        match out
            .write_all(format!("{line}\n").as_bytes())
            .and_then(|()| out.flush())
        {
            Ok(()) => code,
            Err(error) => {
                self.screen.say(&format!(
                    "aggregator: cannot write the result to standard output: {error}"
                ));
                EXIT_FAILURE
            }
        }
    }

    /// No round could begin: says what is missing.
    pub(super) fn give_up(&mut self) -> u8 {
        self.drain_log();
        self.screen.keep();
        let (n, needed) = (self.config.collectors, self.config.quorum());
        let ready = self.slots.iter().filter(|slot| slot.ready()).count();
        let missing = self.slots.iter().filter(|slot| !slot.ready());
        let mut reasons: Vec<&str> = missing.map(view::why_silent).collect();
        reasons.sort_unstable();
        reasons.dedup();
        let why = reasons.join("; ");
        let report = self.report(Round::new(self.terms(), wall_us()));
        if let Some(refused) = report.refused_text() {
            self.tell(&refused);
        }
        self.screen.say(&format!(
            "aggregator: no price: {ready} of {n} collectors became ready, {needed} are needed (quorum); {why}"
        ));
        self.print(&report)
    }

    /// The signed report of a round.
    fn report(&mut self, round: Round) -> Report {
        let refused = std::mem::take(&mut self.refused);
        let mut report = Report::new(1, round, refused, Policy::default(), None);
        report.sign(&self.key);
        report
    }

    /// Shows what the children still have to say, and what several of them said.
    fn drain_log(&mut self) {
        for _ in 0..LOG_READS_AT_END {
            let bytes = self.log.read();
            if bytes.is_empty() {
                break;
            }
            for line in self.voices.hear(&bytes) {
                self.screen.say(&line);
            }
        }
        for line in self.voices.summary() {
            self.screen.say(&line);
        }
    }

    /// Tells the collectors to end by ending their connections, and sees to it that they do.
    pub(super) fn end(mut self) {
        self.drain_log();
        let children: Vec<Child> = self
            .slots
            .iter_mut()
            .filter_map(|slot| slot.child.take())
            .collect();
        self.slots.clear();
        drop(self.data);
        drop(self.control);
        child::end_all(children);
    }
}
