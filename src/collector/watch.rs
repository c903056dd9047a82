//! A collector's round: takes samples at their instants, reads replies, and sends one signed answer.
//!
//! Invariant: at a sample's instant there is one write and nothing else or, where the exchange sends a stream, one look at
//! the newest price. A connection that ends is replaced without shifting later samples. Once every sample has its record, the
//! answer is sent, unless this machine's clock cannot be trusted any more.

use super::rosters::Task;
use super::{Collector, MESSAGES_PER_LOOK};
use crate::collector::sampler::Sampler;
use crate::exchange::Said;
use crate::exchange::link::Ended;
use crate::system::clock::Anchor;
use crate::system::limits::*;
use crate::system::net::Patience;
use crate::system::now::wall_us;
use crate::system::stream;
use crate::system::wait::{Clock, wait_until};
use rsoracle_proof::reason::{Abstention, Miss};
use rsoracle_proof::record::Answer;
use rsoracle_verify::error::Error;
use std::time::{Duration, Instant};

/// The id that the request for a sample carries.
fn request_id(start_us: u64, index: u32) -> String {
    format!("{start_us}-{index}")
}

/// The round start and sample number in an id that [`request_id`] made; `None` for any other id.
fn sample_of(id: &str) -> Option<(u64, u32)> {
    let (start_us, index) = id.split_once('-')?;
    Some((start_us.parse().ok()?, index.parse().ok()?))
}

impl Collector<'_> {
    /// Takes the samples of one round and sends the answer.
    pub(super) fn watch(
        &mut self,
        task: &Task,
        start_us: u64,
        anchor: &Anchor,
    ) -> Result<(), Error> {
        let mut sampler = Sampler::new(start_us, &task.schedule, task.sample_rule);
        loop {
            self.ties.look()?;
            let now = self.clock.now();
            if anchor.moved(now) {
                self.abandon(&mut sampler);
            }
            self.hear(&mut sampler, Patience::Never);
            self.give_up_overdue(&mut sampler, now.wall_us);
            while let Some(record) = sampler.release() {
                self.ties.put(record);
            }
            if let Some((_, answer, timestamp_us)) = sampler.finish() {
                if let Answer::Abstain(why) = answer {
                    self.ties.complaints.add(format!("abstains: {why}"));
                }
                // The clock was right when the round began.
                let stepped = answer == Answer::Abstain(Abstention::ClockMoved);
                if stepped || self.trusts_clock() {
                    self.ties.answer(task, answer, timestamp_us);
                }
                return Ok(());
            }
            match sampler.due() {
                Some((index, instant_us))
                    if self.session.is_open() && instant_us <= now.wall_us + QUIET_US =>
                {
                    match self.session.request(&request_id(start_us, index), 0) {
                        Some(request) => self.ask(&mut sampler, index, instant_us, anchor, request),
                        None => self.note(&mut sampler, index, anchor, task.age_us_max),
                    }
                }
                due => {
                    let mut now_us = now.wall_us;
                    // Nothing is connected while only replies are missing: the answer comes next, and connects.
                    if let Some((_, instant_us)) = due {
                        self.ties.connect(Some(instant_us));
                        now_us = wall_us();
                        if self.session.is_open() && instant_us <= now_us + QUIET_US {
                            continue;
                        }
                    }
                    self.listen(&mut sampler, due, now_us);
                }
            }
        }
    }

    /// Gives up overdue samples and replies. If the exchange has stopped answering, drops its connection.
    fn give_up_overdue(&mut self, sampler: &mut Sampler, now_us: u64) {
        let why_not_asked = if self.session.is_open() {
            Miss::Overdue
        } else if self.session.is_quiet_at(now_us) {
            Miss::RateLimited
        } else {
            Miss::NotConnected
        };
        let unanswered = sampler
            .oldest_asked()
            .is_some_and(|index| sampler.reply_by_us(index) <= now_us);
        sampler.advance(now_us, why_not_asked);
        if unanswered && self.session.mute_for(REPLY_MS_MAX) && self.session.is_open() {
            let text = "the exchange stopped answering".to_owned();
            let miss = Miss::NoReply;
            self.session.lose();
            self.lost(sampler, &Ended { miss, text });
        }
    }

    /// Ends sampling after the system clock was stepped. Drops the connection, and with it any request prepared for an instant
    /// of the old clock.
    fn abandon(&mut self, sampler: &mut Sampler) {
        if sampler.finish().is_none() {
            stream::say(&self.role, Miss::ClockMoved);
        }
        sampler.clock_moved();
        self.session.lose();
    }

    /// Requests sample `index` at its instant: encrypts, waits, then sends with one write.
    fn ask(
        &mut self,
        sampler: &mut Sampler,
        index: u32,
        instant_us: u64,
        anchor: &Anchor,
        request: String,
    ) {
        if self.session.is_quiet_at(instant_us) {
            sampler.skip(index, Miss::RateLimited);
            return;
        }
        // Instants that have passed would be asked for all at once.
        let at_us = instant_us.max(self.clock.now().wall_us);
        if at_us.abs_diff(self.asked_us) < INTERVAL_US_MIN / 2 {
            sampler.skip(index, Miss::Overdue);
            return;
        }
        let Some(link) = self.session.link() else {
            return;
        };
        self.asked_us = at_us;
        if let Err(ended) = link.prepare([request]) {
            self.session.lose();
            self.lost(sampler, &ended);
            return;
        }
        if wait_until(&mut self.clock, anchor, instant_us).is_err() {
            self.abandon(sampler);
            return;
        }
        let fired = link.fire();
        sampler.asked(index, self.clock.now().wall_us);
        // Another collector that shares this core may be waiting for the same instant.
        self.clock.give_way();
        if let Err(ended) = fired {
            self.session.lose();
            self.lost(sampler, &ended);
        }
    }

    /// Takes the newest price known at the instant of sample `index`: reads the stream until shortly before it, then waits.
    /// A price that is older than `age_us_max` is stale by the terms, however old the exchange's prices may be.
    fn note(
        &mut self,
        sampler: &mut Sampler,
        index: u32,
        anchor: &Anchor,
        age_us_max: Option<u64>,
    ) {
        let instant_us = sampler.instant_us(index);
        loop {
            self.hear(sampler, Patience::Never);
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
            self.abandon(sampler);
            return;
        }
        let now_us = self.clock.now().wall_us;
        let newest = self.session.newest(0, now_us);
        sampler.asked(index, now_us);
        self.clock.give_way();
        let age_us = newest.ok().and_then(|quote| quote.age_told_us(now_us));
        let price = match age_us.zip(age_us_max) {
            Some((us, most)) if us > most => Err(Miss::Stale),
            _ => newest.map(|quote| quote.price),
        };
        sampler.replied(index, price, age_us);
    }

    /// Between instants: reads replies, or reconnects.
    fn listen(&mut self, sampler: &mut Sampler, due: Option<(u32, u64)>, now_us: u64) {
        let quiet_from_us = due
            .map(|(_, instant_us)| instant_us.saturating_sub(QUIET_US))
            .filter(|us| *us > now_us);
        let reply_by_us = sampler
            .oldest_asked()
            .map(|index| sampler.reply_by_us(index));
        let until_us = [quiet_from_us, reply_by_us, Some(now_us + SLICE_MS * 1_000)]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(now_us);
        let until = Instant::now() + Duration::from_micros(until_us.saturating_sub(now_us));
        if let Err(ended) = self.session.keep_alive() {
            self.lost(sampler, &ended);
        } else if self.session.is_open() {
            self.hear(sampler, Patience::Until(until));
        } else if Instant::now() >= self.session.retry_at() {
            self.reconnect(sampler, now_us);
        } else {
            let until = until.min(self.session.retry_at());
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
        }
    }

    /// Reads the exchange's messages: waits up to `patience` for the first, then takes those that have arrived behind it.
    fn hear(&mut self, sampler: &mut Sampler, patience: Patience) {
        let mut patience = patience;
        for _ in 0..MESSAGES_PER_LOOK {
            match self.session.hear(patience) {
                Ok(Some(said)) if self.session.is_stream() => self.complain_of(&said),
                Ok(Some(said)) => self.understand(sampler, said),
                Ok(None) => return,
                Err(ended) => self.lost(sampler, &ended),
            }
            patience = Patience::Never;
        }
    }

    /// Hands a message to the sample that it answers, if there is one.
    fn understand(&mut self, sampler: &mut Sampler, said: Said) {
        let (id, result, text) = match said {
            Said::Price { id, price, .. } => (id, Ok(price), String::new()),
            Said::Fault { id, miss, text, .. } => (id, Err(miss), text),
            Said::Refusal(refusal) => {
                let miss = refusal.miss();
                (refusal.id, Err(miss), refusal.text)
            }
            Said::Alive { .. } | Said::Asked(_) | Said::Channel { .. } | Said::Leaving(_) => {
                return;
            }
        };
        let (index, result) = match id.map(|id| sample_of(id.as_str())) {
            // A foreign id, or none: the message can only answer the sample that has waited longest.
            Some(None) => (sampler.oldest_asked(), Err(Miss::WrongId)),
            None => (sampler.oldest_asked(), result),
            Some(Some((start_us, index))) if start_us == sampler.instant_us(0) => {
                (Some(index), result)
            }
            // A reply to a sample of an earlier round: too late to count.
            Some(Some(_)) => (None, result),
        };
        let Some(index) = index else {
            return;
        };
        if let Err(miss) = result {
            let text = format!("sample {index} refused: {miss}: {text}");
            self.ties.complaints.add(text);
        }
        sampler.replied(index, result, None);
    }

    /// Logs that the connection ended, and gives up the replies that were expected on it.
    fn lost(&mut self, sampler: &mut Sampler, ended: &Ended) {
        stream::say(&self.role, format_args!("{}; reconnecting", ended.text));
        sampler.disconnected(ended.miss);
    }

    /// Tries to connect until the instant of the last sample.
    fn reconnect(&mut self, sampler: &mut Sampler, now_us: u64) {
        let Some((_, instant_us)) = sampler.last_due() else {
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
            sample_of(&request_id(1_790_000_000_000_000, 7)),
            Some((1_790_000_000_000_000, 7))
        );
        assert!(
            request_id(u64::MAX, u32::MAX).len() <= 36,
            "Binance accepts ids of at most 36 characters"
        );
        for id in ["", "first", "7", "7-", "-7", "7-x", "a-b-c", "7--1"] {
            assert_eq!(sample_of(id), None, "{id}");
        }
    }
}
