//! The end of a round: its report, and the price or the reason why there is none. And the end of a run: every child is
//! ended.

use super::children;
use super::view::{self, ROUNDS_MAX, Seen};
use super::words::{self, Words};
use super::{Aggregator, DETAIL_SLOTS_MAX, Slot};
use crate::system::now::wall_us;
use rsoracle_proof::publish::Decision;
use rsoracle_proof::record::Answer;
use rsoracle_proof::report::Report;
use rsoracle_proof::round::Round;
use rsoracle_proof::seal::hex;
use rsoracle_verify::error::{EXIT_FAILURE, EXIT_NO_PRICE, EXIT_OK};
use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::time::Instant;

/// Most reads of the children's log at the end of a run: a child that never stops logging must not delay the end.
const LOG_READS_AT_END: usize = 64;

impl Aggregator<'_> {
    /// Ends the rounds: writes their reports to the journal, then publishes the prices or says why there are none. Returns the
    /// exit code.
    pub(super) fn publish(&mut self) -> u8 {
        let rounds = std::mem::take(&mut self.rounds);
        let remarks = self.remarks(&rounds);
        self.screen.clear();
        let Some(kept) = self.keep(rounds) else {
            return EXIT_FAILURE;
        };
        let mut strays = Vec::new();
        for (feed, (report, _)) in kept.iter().enumerate() {
            let past = &mut self.past[feed];
            past.push_back(Seen::new(report, &remarks[feed]));
            if past.len() > ROUNDS_MAX {
                past.pop_front();
            }
            let places = self.places(feed);
            let lines = self.strays[feed].take(report, &places);
            strays.extend(lines.into_iter().map(|line| (feed, line)));
        }
        for line in words::of_feeds(&self.config.roster, strays) {
            self.screen.say(&format!("aggregator: {line}"));
        }
        match (self.config.single(), kept.as_slice()) {
            (true, [(report, _)]) => self.tell_round(report, &remarks[0]),
            _ => self.tell_one_of_many(&kept, &remarks),
        }
        self.print(&kept)
    }

    /// Notes how every slot did in the rounds that are over. Returns for each feed and seat what happened to its collector.
    fn remarks(&mut self, rounds: &[Round]) -> Vec<Vec<String>> {
        let start_us = rounds[0].start_us;
        let misfits = self.data.close_round(start_us, &mut self.refused);
        for (server, restart) in &mut self.servers {
            restart.round_over(server.runs());
        }
        let mut remarks = vec![Vec::new(); rounds.len()];
        for (index, slot) in (0..).zip(&mut self.slots) {
            let (mut priced, mut first, mut answered) = (Vec::new(), None, false);
            for (feed, seat) in slot.feeds() {
                let observation = rounds[feed].parts[usize::from(seat)].observation;
                let answer = observation.map(|one| one.answer);
                answered |= answer.is_some();
                priced.push(matches!(answer, Some(Answer::Price(_))));
                let mut remark = slot.remark.clone();
                if remark.is_empty() && answer.is_none() {
                    let terms = hex(&rounds[feed].digest[..8]);
                    remark = match misfits.get(&(index, feed)) {
                        None => view::why_silent(slot, feed).to_owned(),
                        Some(reason) => format!(
                            "an answer under its key was refused: {reason}; compare its roster with this aggregator's, whose terms are {terms}"
                        ),
                    };
                    first.get_or_insert(remark.clone());
                }
                remarks[feed].push(remark);
            }
            slot.restart.round_over(priced.contains(&true));
            if !priced.contains(&false) {
                self.voices.last.remove(&index);
            }
            // What one feed lacks says nothing about a collector that has answered for another.
            if let Some(first) = first.filter(|_| !answered) {
                slot.remark = first;
            }
        }
        remarks
    }

    /// The places in the roster of a feed's seats.
    fn places(&self, feed: usize) -> Vec<u16> {
        let slots = (0..).zip(&self.slots);
        let of_feed = slots.filter(|(_, slot)| slot.seats[feed].is_some());
        of_feed.map(|(place, _)| place).collect()
    }

    /// Says what every slot did.
    fn tell_round(&mut self, report: &Report, remarks: &[String]) {
        let places = self.places(0);
        let words = Words(report, &places);
        for line in words.details(remarks, DETAIL_SLOTS_MAX) {
            self.tell(&line);
        }
        for line in self.voices.summary() {
            self.screen.say(&line);
        }
        if let Some(why) = words.failure() {
            let help = match report.decision {
                Decision::NoQuorum => self.doctor(),
                _ => String::new(),
            };
            self.screen.say(&format!("aggregator: {why}{help}"));
        }
    }

    /// Says what is new about the slots, and one line about the round. A price that is missing or withheld is always reported.
    fn tell_one_of_many(&mut self, kept: &[(Report, String)], remarks: &[Vec<String>]) {
        let places: Vec<_> = (0..kept.len()).map(|feed| self.places(feed)).collect();
        let words = kept.iter().zip(&places);
        let words: Vec<Words> = words.map(|((it, _), places)| Words(it, places)).collect();
        let mut news = Vec::new();
        for (feed, words) in words.iter().enumerate() {
            let cause = |(place, remark): (&u16, &String)| match self.voices.last.get(place) {
                Some(said) if remark.is_empty() => format!("it said: {said}"),
                Some(said) => format!("{remark}; it said: {said}"),
                None => remark.clone(),
            };
            let causes: Vec<String> = words.1.iter().zip(&remarks[feed]).map(cause).collect();
            let lines = words.news(&mut self.absences[feed], &causes, DETAIL_SLOTS_MAX);
            news.extend(lines.into_iter().map(|line| (feed, line)));
        }
        let roster = &self.config.roster;
        let news = words::of_feeds(roster, news);
        for line in self.voices.summary() {
            self.screen.say(&line);
        }
        news.iter().for_each(|line| self.tell(line));
        if let Some(refused) = words[0].refused_text() {
            self.tell(&refused);
        }
        let restarts = self.slots.iter().map(|slot| slot.restart.count).sum();
        let mut line = match words.as_slice() {
            [one] if self.clock.kept => one.round_line(restarts, &self.absences[0]),
            all => words::feeds_line(roster, all, restarts, &self.absences),
        };
        let all = |is: fn(&Report) -> bool| kept.iter().all(|(report, _)| is(report));
        if !all(|report| report.decision.has_price()) {
            let starved = !all(|report| report.decision != Decision::NoQuorum);
            if starved && !news.is_empty() {
                line.push_str(&self.doctor());
            }
            self.screen.say(&format!("aggregator: {line}"));
            return;
        }
        let whole = |report: &Report| {
            report.decision.publishes() && report.outcome.prices == report.round.terms.n()
        };
        // On a terminal that shows the result too, one line a round is enough, unless something is wrong.
        let shown = self.screen.live() && std::io::stdout().is_terminal();
        if !(shown && all(whole)) {
            self.tell(&line);
        }
    }

    /// The command that examines the sources; empty if they are embedded.
    fn doctor(&self) -> String {
        let sources = self.slots.iter().flat_map(|slot| &slot.sources);
        words::doctor(sources.map(String::as_str).filter(|it| !it.is_empty()))
    }

    /// Whether the journal gets the reports of rounds: somebody has answered, or this machine's clock is not known to be ahead and
    /// an earlier answer vouches for it.
    fn journals(&mut self, rounds: &[Round]) -> bool {
        let answered = |round: &Round| round.parts.iter().any(|part| part.observation.is_some());
        let answered = rounds.iter().any(answered);
        self.clock.vouched |= answered;
        if answered || self.config.journal.is_none() || self.config.single() {
            return true;
        }
        if !self.clock.vouched && !std::mem::replace(&mut self.clock.told, true) {
            self.screen.say("aggregator: nobody has answered since the start, or since this machine's clock was set; rounds without an answer are not kept in the journal until a collector answers. Collectors that were restarted leave out rounds for up to 20 s. If it lasts longer, check this machine's clock: if it is ahead, the reports would be of the future");
        }
        // It may have been set after it was looked at, and before this round's start was chosen.
        self.clock.vouched && !self.clock.was_set_ahead() && !self.is_ahead()
    }

    /// Makes the signed reports of rounds, and appends them to the journal if there is one. `None` if that failed.
    fn keep(&mut self, rounds: Vec<Round>) -> Option<Vec<(Report, String)>> {
        let refused = std::mem::take(&mut self.refused);
        let journals = self.journals(&rounds);
        self.clock.kept = journals;
        if !journals {
            self.clock.unkept_us = rounds[0].start_us;
        }
        let began = Instant::now();
        let (config, key) = (self.config, &self.key);
        let kept = self.book.keep(config, key, rounds, refused, journals);
        self.spent_us = [began.elapsed().as_micros() as u64, 0];
        let reports = match kept {
            Ok(reports) => reports,
            Err(error) => {
                self.screen.say(&format!(
                    "aggregator: this round is not published, because its report could not be written: {error}"
                ));
                return None;
            }
        };
        let why = match self.book.keep_proofs(config, &reports) {
            Ok(None) => return Some(reports),
            Ok(Some(path)) => format!("the proof is in {path}"),
            Err(error) => error.to_string(),
        };
        self.screen.say(&format!(
            "aggregator: a collector signed two different answers for this round; {why}"
        ));
        Some(reports)
    }

    /// Closes the journal's segment when it is time, and says so.
    pub(super) fn close_segment(&mut self) {
        match self.book.close_segment(self.config) {
            None => {}
            Some(Ok(path)) => self.tell(&format!("closed the journal's segment {path}")),
            Some(Err(error)) => self.screen.say(&format!("aggregator: {error}")),
        }
    }

    /// Prints the results to standard output, and writes them to the files of the newest reports. Returns the exit code.
    fn print(&mut self, kept: &[(Report, String)]) -> u8 {
        let mut code = match kept.iter().all(|(report, _)| report.price().is_some()) {
            true => EXIT_OK,
            false => EXIT_NO_PRICE,
        };
        let began = Instant::now();
        let written = self.book.write_newest(self.config);
        self.spent_us[0] += began.elapsed().as_micros() as u64;
        if let Err(error) = written {
            self.screen.say(&format!("aggregator: {error}"));
            code = EXIT_FAILURE;
        }
        let (config, mark) = (self.config, self.screen.mark());
        let due = kept.iter();
        let due = due.filter(|(report, _)| config.single() || report.decision.publishes());
        let shown: Vec<String> = match config.json {
            true => due.map(|(_, line)| line.clone()).collect(),
            false => due
                .filter_map(|(report, _)| Some(format!("{mark}{}", report.closing_line()?)))
                .collect(),
        };
        // All in one piece: if it cannot be printed now, none of it is.
        match shown.is_empty() || self.print_line(&shown.join("\n")) {
            true => code,
            false => EXIT_FAILURE,
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
        let silent = |slot: &Slot, (feed, _)| {
            (!slot.ready_for(feed)).then(|| view::why_silent(slot, feed).to_owned())
        };
        let slots = self.slots.iter();
        let reasons = slots.flat_map(|slot| slot.feeds().filter_map(move |it| silent(slot, it)));
        let reasons: BTreeSet<String> = reasons.collect();
        let why = Vec::from_iter(reasons).join("; ");
        let roster = self.roster_now(wall_us().max(self.book.start_us_min()));
        let counts = roster.feeds.iter().enumerate().map(|(feed, terms)| {
            let slots = self.slots.iter().filter(|slot| slot.seats[feed].is_some());
            let ready = slots.filter(|slot| slot.ready_for(feed)).count();
            let (n, needed) = (terms.n(), terms.quorum());
            let text =
                format!("{ready} of {n} collectors became ready, {needed} are needed (quorum)");
            (feed, text)
        });
        let counts = words::of_feeds(&roster, counts).join("; ");
        let feeds = roster.feeds.into_iter();
        let rounds = feeds.map(|terms| {
            let start_us = terms.schedule.first_start_us;
            Round::new(terms, start_us)
        });
        let Some(kept) = self.keep(rounds.collect()) else {
            return EXIT_FAILURE;
        };
        if let Some(refused) = Words(&kept[0].0, &[]).refused_text() {
            self.tell(&refused);
        }
        let doctor = self.doctor();
        self.screen
            .say(&format!("aggregator: no price: {counts}; {why}{doctor}"));
        self.print(&kept)
    }

    /// Shows what is left in the children's log, then the summary of lines that several collectors logged.
    pub(super) fn drain_log(&mut self) {
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
        let children = self.slots.iter_mut();
        let children = children.filter_map(|slot| Some(slot.child.take()?.process));
        children::end_all(children.collect());
    }
}
