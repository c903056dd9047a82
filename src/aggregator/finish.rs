//! The end of a round: its report, and the price or the reason why there is none. And the end of a run: every child is
//! ended.

use super::book::Kept;
use super::children;
use super::words::{self, Words};
use super::{Aggregator, DETAIL_SLOTS_MAX, Slot, view};
use crate::system::child::Child;
use crate::system::now::wall_us;
use rsoracle_proof::publish::Decision;
use rsoracle_proof::record::Answer;
use rsoracle_proof::report::Report;
use rsoracle_proof::round::Round;
use rsoracle_proof::seal::hex;
use rsoracle_verify::error::{EXIT_FAILURE, EXIT_NO_PRICE, EXIT_OK};
use std::io::{IsTerminal, Write};
use std::time::Instant;

/// Most reads of the children's log at the end of a run: a child that never stops logging must not delay the end.
const LOG_READS_AT_END: usize = 64;

impl Aggregator<'_> {
    /// Ends the round: writes its report to the journal, then publishes the price or says why there is none. Returns the exit
    /// code.
    pub(super) fn publish(&mut self) -> u8 {
        let round = self.round.take().expect("a round has run");
        let start_us = round.start_us;
        let mut misfits = self.data.close_round(start_us, &mut self.refused);
        let terms = hex(&round.digest[..8]);
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let answered = round.answered(index as u16);
            let observation = round.parts[index].observation;
            let priced = observation.is_some_and(|one| matches!(one.answer, Answer::Price(_)));
            slot.restart.round_over(priced);
            if priced {
                self.voices.last.remove(&(index as u16));
            }
            if slot.remark.is_empty() && !answered {
                slot.remark = match misfits.remove(&(index as u16)) {
                    None => view::why_silent(slot).to_owned(),
                    Some(reason) => format!(
                        "an answer under its key was refused: {reason}; compare its roster with this aggregator's, whose terms are {terms}"
                    ),
                };
            }
        }
        // Of many rounds, only the lines below stay.
        let block = match self.config.single() {
            true => view::sampling(&self.slots, &round, self.screen.rows()),
            false => Vec::new(),
        };
        self.screen.draw(block, true);
        self.screen.freeze();
        let Some(Kept { report, line, .. }) = self.keep(round) else {
            return EXIT_FAILURE;
        };
        for line in self.strays.take(&report) {
            self.screen.say(&format!("aggregator: {line}"));
        }
        match self.config.single() {
            true => self.tell_round(&report),
            false => self.tell_one_of_many(&report),
        }
        self.print(&report, &line)
    }

    /// Says what every slot did.
    fn tell_round(&mut self, report: &Report) {
        let remarks: Vec<String> = self.slots.iter().map(|slot| slot.remark.clone()).collect();
        for line in Words(report).details(&remarks, DETAIL_SLOTS_MAX) {
            self.tell(&line);
        }
        for line in self.voices.summary() {
            self.screen.say(&line);
        }
        if let Some(why) = Words(report).failure() {
            let help = match report.decision {
                Decision::NoQuorum => self.doctor(),
                _ => String::new(),
            };
            self.screen.say(&format!("aggregator: {why}{help}"));
        }
    }

    /// Says what is new about the slots, and one line about the round. A price that is missing or withheld is always reported.
    fn tell_one_of_many(&mut self, report: &Report) {
        let words = Words(report);
        let cause = |(index, slot): (u16, &Slot)| match self.voices.last.get(&index) {
            Some(said) if slot.remark.is_empty() => format!("it said: {said}"),
            Some(said) => format!("{}; it said: {said}", slot.remark),
            None => slot.remark.clone(),
        };
        let causes: Vec<String> = (0..).zip(&self.slots).map(cause).collect();
        let news = words.news(&mut self.absences, &causes, DETAIL_SLOTS_MAX);
        for line in self.voices.summary() {
            self.screen.say(&line);
        }
        news.iter().for_each(|line| self.tell(line));
        if let Some(refused) = words.refused_text() {
            self.tell(&refused);
        }
        let restarts = self.slots.iter().map(|slot| slot.restart.count).sum();
        let mut line = words.round_line(restarts, &self.absences);
        let whole = report.outcome.prices == self.config.terms().n();
        // On a terminal that shows the result too, one line a round is enough, unless something is wrong.
        let shown = self.screen.live() && std::io::stdout().is_terminal();
        match report.decision {
            Decision::Published if shown && whole => {}
            Decision::Published | Decision::Unchanged => self.tell(&line),
            _ => {
                if report.decision == Decision::NoQuorum && !news.is_empty() {
                    line.push_str(&self.doctor());
                }
                self.screen.say(&format!("aggregator: {line}"));
            }
        }
    }

    /// The command that examines the sources; empty if they are embedded.
    fn doctor(&self) -> String {
        words::doctor(self.slots.iter().map(|slot| slot.source.as_str()))
    }

    /// Makes the signed report of a round, and appends it to the journal if there is one. `None` if that failed.
    fn keep(&mut self, round: Round) -> Option<Kept> {
        let refused = std::mem::take(&mut self.refused);
        let began = Instant::now();
        let kept = self.book.keep(self.config, &self.key, round, refused);
        self.spent_us = [began.elapsed().as_micros() as u64, 0];
        match kept {
            Ok(kept) => {
                let why = match &kept.proofs {
                    Ok(Some(path)) => format!("the proof is in {path}"),
                    Err(error) => error.to_string(),
                    Ok(None) => return Some(kept),
                };
                self.screen.say(&format!(
                    "aggregator: a collector signed two different answers for this round; {why}"
                ));
                Some(kept)
            }
            Err(error) => {
                self.screen.say(&format!(
                    "aggregator: this round is not published, because its report could not be written: {error}"
                ));
                None
            }
        }
    }

    /// Prints the result to standard output, and writes it to the files of the newest report. Returns the exit code.
    fn print(&mut self, report: &Report, line: &str) -> u8 {
        let mut code = if report.price().is_some() {
            EXIT_OK
        } else {
            EXIT_NO_PRICE
        };
        if let Err(error) = self.book.write_newest(self.config) {
            self.screen.say(&format!("aggregator: {error}"));
            code = EXIT_FAILURE;
        }
        if !self.config.single() && !report.decision.publishes() {
            return code;
        }
        let shown = if self.config.json {
            Some(line.to_owned())
        } else {
            let mark = self.screen.mark();
            report.closing_line().map(|line| format!("{mark}{line}"))
        };
        match shown {
            Some(shown) if !self.print_line(&shown) => EXIT_FAILURE,
            _ => code,
        }
    }

    /// Prints a result, and returns whether that was possible. In an endless run that also writes its results to a file, no
    /// round waits for a reader. Without such a file, the run ends once nothing can be printed any more.
    fn print_line(&mut self, shown: &str) -> bool {
        let config = self.config;
        let file = config.journal.as_ref().or(config.latest.as_ref());
        let began = Instant::now();
        let written = match file {
            Some(_) if !config.single() => self.outlet.print(shown),
            _ => writeln!(std::io::stdout(), "{shown}"),
        };
        self.spent_us[1] = began.elapsed().as_micros() as u64;
        let failed = written.is_err();
        self.over = failed && file.is_none();
        let changed = failed != std::mem::replace(&mut self.outlet.fails, failed);
        let line = match (written, file) {
            _ if !changed => return !failed,
            (Ok(()), _) => "standard output takes results again".to_owned(),
            (Err(error), Some(path)) => format!(
                "cannot write to standard output: {error}; reports are still written to {path}"
            ),
            (Err(error), None) => {
                format!("cannot write the result to standard output, and no file keeps it: {error}")
            }
        };
        self.screen.say(&format!("aggregator: {line}"));
        !failed
    }

    /// Called when no round can begin: says what is missing. Returns the exit code.
    pub(super) fn give_up(&mut self) -> u8 {
        self.drain_log();
        self.screen.freeze();
        let (n, needed) = (self.config.terms().n(), self.config.terms().quorum());
        let ready = self.slots.iter().filter(|slot| slot.ready()).count();
        let missing = self.slots.iter().filter(|slot| !slot.ready());
        let mut reasons: Vec<&str> = missing.map(view::why_silent).collect();
        reasons.sort_unstable();
        reasons.dedup();
        let why = reasons.join("; ");
        let start_us = wall_us().max(self.book.start_us_min());
        let mut terms = self.terms();
        terms.schedule.first_start_us = start_us;
        let round = Round::new(terms, start_us);
        let Some(Kept { report, line, .. }) = self.keep(round) else {
            return EXIT_FAILURE;
        };
        if let Some(refused) = Words(&report).refused_text() {
            self.tell(&refused);
        }
        let doctor = self.doctor();
        self.screen.say(&format!(
            "aggregator: no price: {ready} of {n} collectors became ready, {needed} are needed (quorum); {why}{doctor}"
        ));
        self.print(&report, &line)
    }

    /// Shows what is left in the children's log, then the summary of lines that several collectors logged.
    fn drain_log(&mut self) {
        for _ in 0..LOG_READS_AT_END {
            let bytes = self.log.read();
            if bytes.is_empty() {
                break;
            }
            for line in self.voices.hear(bytes) {
                self.screen.say(&line);
            }
        }
        for line in self.voices.summary() {
            self.screen.say(&line);
        }
    }

    /// Ends the collectors by closing their tethers; kills those that do not end in time.
    pub(super) fn end(mut self) {
        self.drain_log();
        let children: Vec<Child> = self
            .slots
            .iter_mut()
            .filter_map(|slot| Some(slot.child.take()?.process))
            .collect();
        children::end_all(children);
    }
}
