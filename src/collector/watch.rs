//! A collector's round: takes samples of all feeds at their instants, reads replies, and sends one signed answer for each feed.
//!
//! Invariant: at an instant there is one write and nothing else or, where the exchange sends a stream, one look at the newest
//! prices. A connection that ends is replaced without shifting later samples. Once every sample of a feed has its record, the
//! feed's answer is sent, unless this machine's clock cannot be trusted any more. A feed without prices costs no other feed a sample.

use super::rosters::{Duty, Task};
use super::{Collector, MESSAGES_PER_LOOK};
use crate::collector::limits::*;
use crate::collector::sampler::Sampler;
use crate::exchange::Said;
use crate::exchange::link::Ended;
use crate::exchange::session::first::FIRST;
use crate::system::clock::Anchor;
use crate::system::net::Patience;
use crate::system::now::wall_us;
use crate::system::stream;
use crate::system::wait::{Clock, wait_until};
use rsoracle_proof::reason::{Abstention, Miss};
use rsoracle_proof::record::Answer;
use rsoracle_verify::error::Error;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The id that the request for a sample of a symbol carries.
fn request_id(start_us: u64, index: u32, symbol: usize) -> String {
    format!("{start_us}-{index}-{symbol}")
}

/// The round start, sample number and symbol in an id that [`request_id`] made; `None` for any other id.
fn sample_of(id: &str) -> Option<(u64, u32, usize)> {
    let (start_us, rest) = id.split_once('-')?;
    let (index, symbol) = rest.split_once('-')?;
    Some((
        start_us.parse().ok()?,
        index.parse().ok()?,
        symbol.parse().ok()?,
    ))
}

/// A feed's part of a round.
struct Part<'a> {
    duty: &'a Duty,
    sampler: Sampler,
    answered: bool,
}

/// One round. Samples of all its feeds are taken at the same instants, so they are due together.
struct Round<'a> {
    parts: Vec<Part<'a>>,
}

impl Round<'_> {
    fn new(task: &Task, start_us: u64) -> Round<'_> {
        let sampler = |rule| Sampler::new(start_us, &task.schedule, rule);
        let parts = task.duties.iter().map(|duty| Part {
            sampler: sampler(duty.sample_rule),
            duty,
            answered: false,
        });
        Round {
            parts: parts.collect(),
        }
    }

    /// The bookkeeping that all feeds have in common.
    fn common(&self) -> &Sampler {
        &self.parts[0].sampler
    }

    fn each(&mut self, act: impl FnMut(&mut Sampler)) {
        let samplers = self.parts.iter_mut().map(|part| &mut part.sampler);
        samplers.for_each(act);
    }

    /// The oldest sample of a symbol that waits for a reply. Without a symbol there is none, unless only one is watched.
    fn oldest_asked(&self, symbol: Option<usize>) -> Option<(usize, u32)> {
        let first = self.parts[0].duty.symbol;
        let only = |symbol| self.parts.iter().all(|part| part.duty.symbol == symbol);
        let symbol = symbol.or(Some(first).filter(|first| only(*first)))?;
        let mut parts = self.parts.iter();
        let part = parts.find(|part| part.duty.symbol == symbol)?;
        Some((symbol, part.sampler.oldest_asked()?))
    }

    /// When the first reply is overdue.
    fn reply_by_us(&self) -> Option<u64> {
        let asked = |part: &Part| part.sampler.oldest_asked();
        let index = self.parts.iter().filter_map(asked).min()?;
        Some(self.common().reply_by_us(index))
    }

    /// The symbols that are watched.
    fn symbols(&self) -> BTreeSet<usize> {
        self.parts.iter().map(|part| part.duty.symbol).collect()
    }
}

impl Collector<'_> {
    /// Takes the samples of one round and sends the answers.
    pub(super) fn watch(
        &mut self,
        task: &Task,
        start_us: u64,
        anchor: &Anchor,
    ) -> Result<(), Error> {
        let mut round = Round::new(task, start_us);
        loop {
            self.ties.look()?;
            let now = self.clock.now();
            if anchor.moved(now) {
                self.abandon(&mut round);
            }
            self.hear(&mut round, Patience::Never);
            self.give_up_overdue(&mut round, now.wall_us);
            self.tell(&mut round);
            if round.parts.iter().all(|part| part.answered) {
                self.ties.answered();
                return Ok(());
            }
            match round.common().due() {
                Some((index, instant_us))
                    if self.session.is_open() && instant_us <= now.wall_us + QUIET_US =>
                {
                    match self.session.is_stream() {
                        true => self.note(&mut round, index, instant_us, anchor),
                        false => self.ask(&mut round, index, instant_us, anchor),
                    }
                }
                due => {
                    let mut now_us = now.wall_us;
                    // While only replies are missing, nothing is connected but what answers wait for.
                    if due.is_none() {
                        self.ties.answered_in_part(round.reply_by_us());
                    } else if let Some((_, instant_us)) = due {
                        self.ties.connect(Some(instant_us));
                        now_us = wall_us();
                        if self.session.is_open() && instant_us <= now_us + QUIET_US {
                            continue;
                        }
                    }
                    self.listen(&mut round, due, now_us);
                }
            }
        }
    }

    /// Sends the records that there are, of all feeds at once, then the answers of the feeds that have all of theirs.
    fn tell(&mut self, round: &mut Round) {
        let mut news = false;
        for part in &mut round.parts {
            while let Some(record) = part.sampler.release() {
                self.ties.present.put(part.duty, record);
                news = true;
            }
        }
        if !news {
            return;
        }
        self.ties.sweep();
        if round.common().due().is_some() {
            return;
        }
        let mut trusted = None;
        for part in round.parts.iter_mut().filter(|part| !part.answered) {
            let Some((records, answer, timestamp_us)) = part.sampler.finish() else {
                continue;
            };
            part.answered = true;
            if let Answer::Abstain(why) = answer {
                self.ties.complain(part.duty, format!("abstains: {why}"));
            }
            // The clock was right when the round began.
            let stepped = answer == Answer::Abstain(Abstention::ClockMoved);
            if stepped || *trusted.get_or_insert_with(|| self.trusts_clock()) {
                let present = &mut self.ties.present;
                present.answer(part.duty, &records, answer, timestamp_us);
            }
        }
        self.ties.sweep();
    }

    /// Gives up overdue samples and replies. If the exchange has stopped answering, drops its connection.
    fn give_up_overdue(&mut self, round: &mut Round, now_us: u64) {
        let why_not_asked = if self.session.is_open() {
            Miss::Overdue
        } else if self.session.is_quiet_at(now_us) {
            Miss::RateLimited
        } else {
            Miss::NotConnected
        };
        let unanswered = round.reply_by_us().is_some_and(|us| us <= now_us);
        round.each(|sampler| sampler.advance(now_us, why_not_asked));
        // An exchange that has answered about another symbol since the last requests is alive.
        let asked = Duration::from_micros(now_us.saturating_sub(self.asked_us));
        let long = asked.max(Duration::from_millis(REPLY_MS_MAX));
        if unanswered && self.session.mute_for(long) && self.session.is_open() {
            let text = "the exchange stopped answering".to_owned();
            let miss = Miss::NoReply;
            self.session.lose();
            self.lost(round, &Ended { miss, text });
        }
    }

    /// Ends sampling after the system clock was stepped. Drops the connection, and with it any request prepared for an instant
    /// of the old clock.
    fn abandon(&mut self, round: &mut Round) {
        if round
            .parts
            .iter()
            .any(|part| part.sampler.finish().is_none())
        {
            stream::say(&self.role, Miss::ClockMoved);
        }
        round.each(Sampler::clock_moved);
        self.session.lose();
    }

    /// Requests sample `index` of all symbols at its instant: encrypts, waits, then sends with one write.
    fn ask(&mut self, round: &mut Round, index: u32, instant_us: u64, anchor: &Anchor) {
        if self.session.is_quiet_at(instant_us) {
            round.each(|sampler| sampler.skip(index, Miss::RateLimited));
            return;
        }
        // Instants that have passed would be asked for all at once.
        let at_us = instant_us.max(self.clock.now().wall_us);
        if at_us.abs_diff(self.asked_us) < INTERVAL_US_MIN / 2 {
            round.each(|sampler| sampler.skip(index, Miss::Overdue));
            return;
        }
        let start_us = round.common().instant_us(0);
        let request = |symbol| {
            let id = request_id(start_us, index, symbol);
            self.session.request(&id, symbol)
        };
        let requests: Vec<String> = round.symbols().into_iter().filter_map(request).collect();
        let Some(link) = self.session.link() else {
            return;
        };
        self.asked_us = at_us;
        if let Err(ended) = link.prepare(requests) {
            self.session.lose();
            self.lost(round, &ended);
            return;
        }
        if wait_until(&mut self.clock, anchor, instant_us).is_err() {
            self.abandon(round);
            return;
        }
        let fired = link.fire();
        let now_us = self.clock.now().wall_us;
        // Another collector that shares this core may be waiting for the same instant.
        self.clock.give_way();
        round.each(|sampler| sampler.asked(index, now_us));
        if let Err(ended) = fired {
            self.session.lose();
            self.lost(round, &ended);
        }
    }

    /// Takes the newest prices known at the instant of sample `index`: reads the stream until shortly before it, then waits.
    /// A price that is older than the terms allow is stale, however old the exchange's prices may be.
    fn note(&mut self, round: &mut Round, index: u32, instant_us: u64, anchor: &Anchor) {
        loop {
            self.hear(round, Patience::Never);
            let now = self.clock.now();
            let left_us = instant_us.saturating_sub(now.wall_us);
            // The wait below detects a clock that was stepped.
            if left_us <= STREAM_QUIET_US || anchor.moved(now) {
                break;
            }
            self.clock
                .sleep((left_us - STREAM_QUIET_US).min(STREAM_QUIET_US));
        }
        if wait_until(&mut self.clock, anchor, instant_us).is_err() {
            self.abandon(round);
            return;
        }
        let now_us = self.clock.now().wall_us;
        self.clock.give_way();
        for part in &mut round.parts {
            let newest = self.session.newest(part.duty.symbol, now_us);
            part.sampler.asked(index, now_us);
            let age_us = newest.ok().and_then(|quote| quote.age_told_us(now_us));
            let price = match age_us.zip(part.duty.age_us_max) {
                Some((us, most)) if us > most => Err(Miss::Stale),
                _ => newest.map(|quote| quote.price),
            };
            part.sampler.replied(index, price, age_us);
        }
    }

    /// Between instants: reads replies, or reconnects.
    fn listen(&mut self, round: &mut Round, due: Option<(u32, u64)>, now_us: u64) {
        let quiet_from_us = due
            .map(|(_, instant_us)| instant_us.saturating_sub(QUIET_US))
            .filter(|us| *us > now_us);
        let slice_us = Some(now_us + SLICE_MS * 1_000);
        let ends_us = [quiet_from_us, round.reply_by_us(), slice_us];
        let until_us = ends_us.into_iter().flatten().min().unwrap_or(now_us);
        let until = Instant::now() + Duration::from_micros(until_us.saturating_sub(now_us));
        if let Err(ended) = self.session.keep_alive() {
            self.lost(round, &ended);
        } else if self.session.is_open() {
            let all = self.hear(round, Patience::Until(until));
            // A look costs more than a message. A stream's messages are needed at the next instant, so they are read together.
            if all && self.session.is_stream() {
                let left = until.saturating_duration_since(Instant::now());
                std::thread::sleep(left);
            }
        } else if Instant::now() >= self.session.retry_at() {
            self.reconnect(round, now_us);
        } else {
            let until = until.min(self.session.retry_at());
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
        }
    }

    /// Reads the exchange's messages: waits up to `patience` for the first, then takes those that have arrived behind it. Returns
    /// whether these are all.
    fn hear(&mut self, round: &mut Round, patience: Patience) -> bool {
        let mut patience = patience;
        for _ in 0..MESSAGES_PER_LOOK {
            match self.session.hear(patience) {
                Ok(Some(said)) if self.session.is_stream() => self.complain_of(&said),
                Ok(Some(said)) => self.understand(round, said),
                Ok(None) => return true,
                Err(ended) => self.lost(round, &ended),
            }
            patience = Patience::Never;
        }
        false
    }

    /// Hands a message to the sample that it answers, if there is one.
    fn understand(&mut self, round: &mut Round, said: Said) {
        let (id, symbol, result, text) = match said {
            Said::Price {
                symbol, id, price, ..
            } => (id, Some(symbol), Ok(price), String::new()),
            Said::Fault {
                symbol,
                id,
                miss,
                text,
            } => (id, symbol, Err(miss), text),
            Said::Refusal(refusal) => {
                let miss = refusal.miss();
                (refusal.id, refusal.symbol, Err(miss), refusal.text)
            }
            _ => return,
        };
        let (place, result) = match id.map(|id| sample_of(id.as_str())) {
            // The late answer to a request for a first price.
            Some(None) if id.is_some_and(|id| id.as_str().starts_with(FIRST)) => return,
            // A foreign id, or none: the message can only answer the symbol's sample that has waited longest.
            Some(None) => (round.oldest_asked(symbol), Err(Miss::WrongId)),
            None => (round.oldest_asked(symbol), result),
            Some(Some((start_us, index, own))) if start_us == round.common().instant_us(0) => {
                let other = symbol.is_some_and(|symbol| symbol != own);
                let result = result.and_then(|price| match other {
                    true => Err(Miss::WrongSymbol),
                    false => Ok(price),
                });
                (Some((own, index)), result)
            }
            // A reply to a sample of an earlier round: too late to count.
            Some(Some(_)) => return,
        };
        let Some((symbol, index)) = place else {
            if let Some(miss) = result
                .err()
                .filter(|_| symbol.is_none() && round.parts.len() > 1)
            {
                let text =
                    format!("the exchange answered no request of this round: {miss}: {text}");
                self.ties.complaints.add(text);
            }
            return;
        };
        let parts = round.parts.iter_mut();
        for part in parts.filter(|part| part.duty.symbol == symbol) {
            if let Err(miss) = result {
                let text = format!("sample {index} refused: {miss}: {text}");
                self.ties.complain(part.duty, text);
            }
            part.sampler.replied(index, result, None);
        }
    }

    /// Logs that the connection ended, and gives up the replies that were expected on it.
    fn lost(&mut self, round: &mut Round, ended: &Ended) {
        stream::say(&self.role, format_args!("{}; reconnecting", ended.text));
        round.each(|sampler| sampler.disconnected(ended.miss));
    }

    /// Tries to connect until the instant of the last sample.
    fn reconnect(&mut self, round: &mut Round, now_us: u64) {
        let Some((_, instant_us)) = round.common().last_due() else {
            // No sample of this round is left to request.
            std::thread::sleep(Duration::from_millis(RECONNECT_MS));
            return;
        };
        let until = Instant::now() + Duration::from_micros(instant_us.saturating_sub(now_us));
        let ties = &mut self.ties;
        match self.session.connect(until, &mut || ties.look()) {
            Ok(()) => {
                self.cut_short = 0;
            }
            Err(Error { attempt, cause, .. }) => {
                self.cut_short += u32::from(Instant::now() >= until);
                self.ties.complaints.add(format!("{attempt}: {cause}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_name_their_sample_and_nothing_else_does() {
        assert_eq!(
            sample_of(&request_id(1_790_000_000_000_000, 7, 63)),
            Some((1_790_000_000_000_000, 7, 63))
        );
        assert!(
            request_id(u64::MAX, u32::MAX, FEEDS_MAX - 1).len() <= 36,
            "Binance accepts ids of at most 36 characters"
        );
        for id in [
            "", "first", "7", "7-", "-7", "7-1", "7-x-1", "7-1-", "7--1", "7-1-1-1",
        ] {
            assert_eq!(sample_of(id), None, "{id}");
        }
    }
}
