//! Rounds without end: one at every start of the schedule, with the same collectors.
//!
//! Invariant: starts strictly increase, also across restarts. Whatever happens in a round, the next one starts on time. A
//! collector that ended is restarted after a backoff, which is reset once the collector works again.

use super::Aggregator;
use super::clock;
use super::control;
use super::nap::Naps;
use super::resume::ANOTHER_JOURNAL;
use crate::aggregator::limits::*;
use crate::system::now::wall_us;
use crate::system::random;
use crate::system::span::span;
use rsoracle_proof::utc::utc_text;
use rsoracle_verify::error::{EXIT_FAILURE, EXIT_NO_PRICE, EXIT_OK, Error};
use std::time::{Duration, Instant};

/// If a start is late by more than this on the monotonic clock, the system clock was set back.
const CLOCK_SET: Duration = Duration::from_secs(2);

/// How long a clock that was set is doubted, before it ends anything.
const CLOCK_DOUBT: Duration = Duration::from_secs(5);

/// The backoff of a child that ended: when it is restarted.
#[derive(Default)]
pub struct Restart {
    /// How often it was restarted.
    pub count: u32,
    /// The earliest instant of the next restart, while the child is down.
    at: Option<Instant>,
    pause: Option<Duration>,
    /// Consecutive rounds in which it gave a price.
    good_rounds: u32,
}

impl Restart {
    /// Called while the child is down: whether to restart it now.
    fn due(&mut self) -> Result<bool, Error> {
        match self.at {
            None => self.ended(random::bytes()?[0]),
            Some(at) if Instant::now() < at => {}
            Some(_) => {
                self.at = None;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Notes that the child ended, and schedules its restart: after half a pause to a whole one, by `random`, so that many
    /// children do not restart at once.
    fn ended(&mut self, random: u8) {
        let least = Duration::from_millis(RESTART_MS_MIN);
        let again = Duration::from_millis(RESTART_AGAIN_MS_MIN);
        let pause = self.pause.map_or(least, |pause| again.max(pause * 2));
        let pause = pause.min(Duration::from_millis(RESTART_MS_MAX));
        self.pause = Some(pause);
        self.good_rounds = 0;
        self.at = Some(Instant::now() + pause / 2 + pause / 2 * u32::from(random) / 255);
    }

    /// Counts a restart.
    fn again(&mut self) -> u32 {
        self.count += 1;
        self.count
    }

    /// Notes that a round ended, and whether the collector gave a price in it.
    pub(crate) fn round_over(&mut self, good: bool) {
        self.good_rounds = if good { self.good_rounds + 1 } else { 0 };
        if self.good_rounds >= RESTART_ROUNDS_GOOD {
            self.pause = None;
        }
    }
}

/// Why a round's time was overrun by `late_us`: the cause that was measured to take most of it. `moved_us` is by how much the
/// offsets grew, and `spent_us` what the round before spent on keeping its report and on writing to standard output.
fn why_late(late_us: u64, moved_us: [u64; 2], spent_us: [u64; 2]) -> String {
    let ([ahead_us, suspended_us], [disk_us, output_us]) = (moved_us, spent_us);
    let set_us = ahead_us.saturating_sub(suspended_us);
    let stopped_us = late_us.saturating_sub(set_us + suspended_us + disk_us + output_us);
    let causes = [
        (suspended_us, "the machine was suspended for"),
        (set_us, "the system clock was set ahead by"),
        (disk_us, "the disk is too slow: it took the last report in"),
        (output_us, "nobody read standard output for"),
        (stopped_us, "this process was stopped or had no core for"),
    ];
    let most = causes.into_iter().max_by_key(|(us, _)| *us);
    most.map_or(String::new(), |(us, cause)| format!("{cause} {}", span(us)))
}

impl Aggregator<'_> {
    /// Runs rounds: as many as `--rounds` says, until the schedule ends, or without end. Returns the exit code.
    pub(super) fn rounds(&mut self) -> Result<u8, Error> {
        if !self.config.single() {
            self.gather();
        }
        // The clock may have been set since the set-up, and from here on that is seen.
        self.look_at_clock();
        self.hand_down_next();
        let mut written = self.write_roster();
        let mut failed = false;
        let mut code = EXIT_NO_PRICE;
        let mut left = self.config.rounds;
        let schedule = self.config.roster.schedule();
        let period_us = schedule.period_us;
        let mut before_us: Option<u64> = None;
        while left != Some(0) && !self.over {
            let moved_us = self.look_at_clock();
            if self.early {
                break;
            }
            // The first round is a whole one; later ones may be begun late.
            let grace_us = before_us.map_or(0, |_| schedule.reply_us());
            let Some(start_us) = self.next_start_us(grace_us) else {
                match self.is_over() {
                    true => break,
                    false => continue,
                }
            };
            if let Some(before_us) = &mut before_us
                && start_us > *before_us + period_us
            {
                let count = (start_us - *before_us) / period_us - 1;
                let late_us = wall_us().saturating_sub(*before_us + period_us);
                let moved_us = moved_us.map(|us| us.max(0).cast_unsigned());
                let why = why_late(late_us, moved_us, self.spent_us);
                self.tell(&format!("skipped {count} starts: {why}"));
                *before_us = start_us - period_us;
            }
            self.next_us = Some(start_us);
            if !self.rest(start_us)? {
                // What was not begun on purpose was not skipped.
                let held = std::mem::take(&mut self.clock.held);
                before_us = before_us.filter(|_| !held);
                continue;
            }
            let is_first = before_us.replace(start_us).is_none();
            self.next_us = schedule
                .next_start_us(start_us + 1)
                .filter(|us| left != Some(1) && self.config.tenure.includes(*us));
            self.begin(start_us, is_first);
            self.watch(LEAD_MS_MIN * 1_000);
            match self.publish() {
                EXIT_FAILURE => failed = true,
                EXIT_OK => code = EXIT_OK,
                _ => {}
            }
            self.over |= self.book.journal_lost();
            left = left.map(|left| left - 1);
            if self.roster_is_new && self.slots.iter().all(|slot| slot.key.is_some()) {
                written = self.write_roster();
            }
        }
        Ok(if !self.outlet.finish() || failed || !written {
            EXIT_FAILURE
        } else {
            code
        })
    }

    /// The next round's start: the first one after the last round's that is at most `grace_us` ago. `None` if there is none.
    fn next_start_us(&mut self, grace_us: u64) -> Option<u64> {
        let schedule = self.config.roster.schedule();
        let soonest_us = (wall_us() + 1).saturating_sub(grace_us);
        let least_us = self.book.start_us_min();
        let from_us = soonest_us.max(least_us).max(self.clock.unkept_us + 1);
        let from_us = from_us.max(self.agreed.begins_us()?);
        let start_us = schedule.next_start_us(from_us)?;
        if !self.config.tenure.includes(start_us) {
            return None;
        }
        if least_us > wall_us() + schedule.period_us {
            self.screen.say(&format!(
                "aggregator: the clock is behind the last round's start; the next round is at {}; to go on now, {ANOTHER_JOURNAL}",
                utc_text(start_us)
            ));
        }
        Some(start_us)
    }

    /// Sees whether the system clock was set since the last call. Returns by how much it moved.
    fn look_at_clock(&mut self) -> [i64; 2] {
        let moved_us = self.clock.moved_us();
        if moved_us[0].unsigned_abs() > CLOCK_OFF_US_MAX {
            self.clock_was_set(moved_us[0] < 0);
        }
        moved_us
    }

    /// The system clock was set, or the machine was suspended: what collectors said of their clocks no longer counts. If the
    /// clock went back, the present roster must hold from an earlier start on.
    fn clock_was_set(&mut self, back: bool) {
        self.clock.set_at = Some(Instant::now());
        control::ask_for_clocks(&mut self.slots);
        if back {
            self.clock.unkept_us = 0;
            self.early = self.is_early();
            if self.early {
                self.tell("the clock was ahead: the roster before this one still counts");
            }
            self.hand_down_next();
        }
    }

    /// Whether the run before this one has a round left after all: the clock was ahead when it was left.
    fn is_early(&self) -> bool {
        let from_us = wall_us().max(self.book.start_us_min());
        self.before.is_some_and(|run| {
            let from_us = from_us.max(run.tenure.from_us);
            let start_us = run.roster.schedule().next_start_us(from_us);
            start_us.is_some_and(|start_us| run.tenure.includes(start_us))
        })
    }

    /// Whether no round is left, by a clock that can be trusted. Says so.
    fn is_over(&mut self) -> bool {
        let until_us = self.config.tenure.until_us;
        if self.doubts_clock() {
            return false;
        }
        let text = match until_us {
            Some(us) => format!("the next roster counts from {} on", utc_text(us)),
            None => "no round is left by this roster".to_owned(),
        };
        self.tell(&text);
        true
    }

    /// Whether this machine's clock may be wrong: it was set just now, or it is ahead of those of most collectors. Polls meanwhile.
    fn doubts_clock(&mut self) -> bool {
        let set_at = self.clock.set_at;
        let doubts = set_at.is_some_and(|at| at.elapsed() < CLOCK_DOUBT) || self.is_ahead();
        if doubts {
            self.sweep();
            std::thread::sleep(Naps::resting().waiting());
        }
        doubts
    }

    /// Whether no round may begin, since this machine's clock is ahead of those of most collectors. Says so when it begins, and
    /// when it ends.
    pub(super) fn is_ahead(&mut self) -> bool {
        let ahead_us = clock::ahead_us(&self.slots);
        let changed =
            ahead_us.is_some() != std::mem::replace(&mut self.clock.ahead, ahead_us.is_some());
        match ahead_us {
            Some(us) if changed => self.screen.say(&format!("aggregator: this machine's clock is {} ahead of those of most connected collectors; no round begins meanwhile, since its report would be of the future; set it: run an NTP client", span(us))),
            None if changed => self.screen.say("aggregator: this machine's clock agrees with those of most connected collectors; rounds go on"),
            _ => {}
        }
        self.clock.held |= self.clock.ahead;
        self.clock.ahead
    }

    /// Between rounds: polls, and restarts children that ended, until the lead time before the start. Returns false if the start
    /// must be computed again: the clock was set meanwhile, or it was ahead at the start.
    fn rest(&mut self, start_us: u64) -> Result<bool, Error> {
        // By the clock as it was before the start was chosen: it may have been set since.
        let latest = self.clock.instant_of(start_us) + CLOCK_SET;
        let mut naps = Naps::resting();
        loop {
            let stirred = self.sweep();
            // An error is reported with the next result.
            let _ = self.outlet.push();
            self.close_segment();
            self.restart_servers()?;
            self.restart_ended()?;
            self.show();
            let begin_us = start_us - LEAD_MS_MIN * 1_000;
            let left_us = begin_us.saturating_sub(wall_us());
            let nap = naps.after(stirred);
            if left_us == 0 || self.clock.held {
                if !self.is_ahead() {
                    let end_us = start_us + self.config.roster.schedule().reply_us();
                    return Ok(!self.clock.held && wall_us() < end_us);
                }
                std::thread::sleep(nap);
                continue;
            }
            if Instant::now() + Duration::from_micros(left_us) > latest {
                self.tell("the clock was set back; computing the next start again");
                return Ok(false);
            }
            std::thread::sleep(nap.min(Duration::from_micros(left_us)));
        }
    }

    /// Restarts local collectors whose backoff is over.
    fn restart_ended(&mut self) -> Result<(), Error> {
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            let down = self.config.children.is_some() && slot.child.is_none();
            if !down || !slot.restart.due()? {
                continue;
            }
            // A failure is not fatal: a system that has run out of processes or files may have some later.
            match self.start_collector(index as u16) {
                Ok(()) => {
                    let slot = &mut self.slots[index];
                    let (count, who) = (slot.restart.again(), slot.collector(index));
                    self.tell(&format!("{who}: started again ({count})"));
                }
                Err(error) => self.screen.say(&format!("aggregator: {error}")),
            }
        }
        Ok(())
    }

    /// Restarts servers whose backoff is over.
    fn restart_servers(&mut self) -> Result<(), Error> {
        for at in 0..self.servers.len() {
            let (server, restart) = &mut self.servers[at];
            if server.runs() || !restart.due()? {
                continue;
            }
            match server.spawn(&self.log) {
                Ok(_) => {
                    let line = format!("{}: started again ({})", server.name, restart.again());
                    self.tell(&line);
                }
                Err(error) => self.screen.say(&format!("aggregator: {error}")),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_that_took_most_of_the_time_is_named_with_its_time() {
        let s = 1_000_000;
        for (late_us, moved_us, spent_us, why) in [
            (
                60 * s,
                [59 * s, 59 * s],
                [s, 0],
                "the machine was suspended for 59.0 s",
            ),
            (
                60 * s,
                [59 * s, 0],
                [s, 0],
                "the system clock was set ahead by 59.0 s",
            ),
            (
                9 * s,
                [0, 0],
                [5 * s, 2 * s],
                "the disk is too slow: it took the last report in 5.0 s",
            ),
            (
                9 * s,
                [0, 0],
                [s, 7 * s],
                "nobody read standard output for 7.0 s",
            ),
            (
                9 * s,
                [0, 0],
                [s, 2 * s],
                "this process was stopped or had no core for 6.0 s",
            ),
        ] {
            assert_eq!(why_late(late_us, moved_us, spent_us), why);
        }
    }
}
