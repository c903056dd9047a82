//! A collector's round: samples at their instants, replies as they come, and one signed answer.
//!
//! Invariant: at a sample's instant there is one write and nothing else; a connection that ends is replaced while the
//! schedule runs on; whatever happens, the answer leaves once every sample has its record.

use super::{Collector, Exchange, Stop};
use crate::clock::Anchor;
use crate::error::Error;
use crate::exchange::link::Ended;
use crate::exchange::{self, Said, Topic, Way};
use crate::frame::{Answer, Round, Sample};
use crate::limits::*;
use crate::log;
use crate::net::Patience;
use crate::reason::Miss;
use crate::sampler::Sampler;
use crate::wait::{Clock, wait_until};
use std::time::{Duration, Instant};

/// Most messages of an exchange taken before the schedule is looked at again.
const MESSAGES_PER_LOOK: usize = 64;

/// The id of a sample's request.
fn request_id(start_us: u64, index: u32) -> String {
    format!("{start_us}-{index}")
}

/// The round start and sample number that an id of ours names.
fn sample_of(id: &str) -> Option<(u64, u32)> {
    let (start_us, index) = id.split_once('-')?;
    Some((start_us.parse().ok()?, index.parse().ok()?))
}

impl Collector<'_> {
    /// Takes the samples of one round and sends the answer.
    pub(super) fn watch(&mut self, round: &Round, anchor: &Anchor) -> Result<(), Stop> {
        let mut sampler = Sampler::new(
            round.start_us,
            round.interval_us,
            round.samples,
            self.config.sample_rule,
        );
        loop {
            self.control.stands()?;
            if self.control.next_waits(round.start_us) {
                self.leave(&sampler);
                return Ok(());
            }
            let now = self.clock.now();
            if anchor.moved(now) {
                self.abandon(&mut sampler);
            }
            self.hear(&mut sampler, Patience::Never);
            self.give_up_overdue(&mut sampler, now.wall_us);
            while let Some(record) = sampler.release() {
                self.control.send(
                    &Sample {
                        start_us: round.start_us,
                        record,
                    }
                    .encode(),
                )?;
            }
            if let Some(finished) = sampler.finish() {
                if let Answer::Abstain(why) = finished.1 {
                    log::say(&self.role, format_args!("abstains: {why}"));
                }
                let observation = self.sign(round, &finished);
                return Ok(self.send_observation(&observation.encode())?);
            }
            match sampler.due() {
                Some((index, instant_us))
                    if self.exchange.link.is_some() && instant_us <= now.wall_us + QUIET_US =>
                {
                    self.take(&mut sampler, index, instant_us, anchor);
                }
                due => self.listen(&mut sampler, due, now.wall_us),
            }
        }
    }

    /// Time has passed: samples and replies may be overdue, and with them a connection on which nothing comes any more.
    fn give_up_overdue(&mut self, sampler: &mut Sampler, now_us: u64) {
        let exchange = &self.exchange;
        let why_not_asked = if exchange.link.is_some() {
            Miss::Overdue
        } else if exchange.quiet_until_ms > now_us / 1_000 {
            Miss::RateLimited
        } else {
            Miss::NotConnected
        };
        let unanswered = sampler
            .oldest_asked()
            .is_some_and(|index| sampler.reply_by_us(index) <= now_us);
        sampler.advance(now_us, why_not_asked);
        let silent = exchange.heard_at.elapsed() >= Duration::from_millis(REPLY_MS_MAX);
        if unanswered && silent && exchange.link.is_some() {
            let text = "the exchange does not answer any more".to_owned();
            let miss = Miss::NoReply;
            self.lost(sampler, &Ended { miss, text });
        }
    }

    /// The next round begins before this one has its answer, which nobody waits for any more.
    fn leave(&mut self, sampler: &Sampler) {
        log::say(&self.role, "gives up a round: the next one begins");
        let silent = self.exchange.heard_at.elapsed() >= Duration::from_millis(REPLY_MS_MAX);
        // With short periods no round lasts until a reply is overdue.
        if sampler.oldest_asked().is_some() && silent {
            log::say(
                &self.role,
                "the exchange does not answer any more; reconnecting",
            );
            self.exchange.link = None;
        }
    }

    /// The clock was stepped: no more samples, and no request that was prepared for an instant that means nothing now.
    fn abandon(&mut self, sampler: &mut Sampler) {
        if sampler.finish().is_none() {
            log::say(&self.role, Miss::ClockMoved);
        }
        sampler.clock_moved();
        self.exchange.link = None;
    }

    /// Asks for sample `index` at its instant: encrypt, wait, one write.
    fn take(&mut self, sampler: &mut Sampler, index: u32, instant_us: u64, anchor: &Anchor) {
        let quiet = self.exchange.quiet_until_ms > instant_us / 1_000;
        if quiet {
            sampler.skip(index, Miss::RateLimited);
            return;
        }
        let source = &self.config.source;
        let Way::Poll(request) = exchange::dialect(source).way else {
            unreachable!("streams come next")
        };
        let request = request(&request_id(sampler.instant_us(0), index), source.symbol());
        let Some(link) = &mut self.exchange.link else {
            return;
        };
        if let Err(ended) = link.prepare(request) {
            self.lost(sampler, &ended);
            return;
        }
        if wait_until(&mut self.clock, anchor, instant_us).is_err() {
            self.abandon(sampler);
            return;
        }
        let fired = link.fire();
        sampler.asked(index, self.clock.now().wall_us);
        // Whoever shares this core waits for the same instant.
        self.clock.give_way();
        if let Err(ended) = fired {
            self.lost(sampler, &ended);
        }
    }

    /// Between instants: reads replies, or gets a new connection.
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
        if self.exchange.link.is_some() {
            self.hear(sampler, Patience::Until(until));
        } else if Instant::now() >= self.exchange.retry_at {
            self.reconnect(sampler, now_us);
        } else {
            std::thread::sleep(
                until
                    .min(self.exchange.retry_at)
                    .saturating_duration_since(Instant::now()),
            );
        }
    }

    /// Reads what the exchange says, one message and what came right behind it.
    fn hear(&mut self, sampler: &mut Sampler, patience: Patience) {
        let mut patience = patience;
        for _ in 0..MESSAGES_PER_LOOK {
            let Some(link) = &mut self.exchange.link else {
                return;
            };
            match link.receive(patience) {
                Ok(Some(text)) => {
                    self.exchange.heard_at = Instant::now();
                    self.understand(sampler, &text);
                }
                Ok(None) => return,
                Err(ended) => self.lost(sampler, &ended),
            }
            patience = Patience::Never;
        }
    }

    /// Files one message under the sample that it answers.
    fn understand(&mut self, sampler: &mut Sampler, text: &str) {
        let topic = Topic {
            symbol: self.config.source.symbol(),
            channel: None,
        };
        let read = exchange::dialect(&self.config.source).read;
        let (id, result, text) = match read(text, &topic) {
            Said::Price { id, price, .. } => (id, Ok(price), String::new()),
            Said::Alive { .. } | Said::Channel(_) => return,
            Said::Fault { id, miss, text } => (id, Err(miss), text),
            Said::Refusal(refusal) => {
                if let Some(ms) = refusal.retry_after_ms {
                    self.exchange.stay_away(ms);
                }
                let miss = refusal.miss();
                (refusal.id, Err(miss), refusal.text)
            }
            Said::Leaving(what) => {
                let text = format!("the exchange announces {what}");
                let miss = Miss::Disconnected;
                return self.lost(sampler, &Ended { miss, text });
            }
        };
        let (index, result) = match id.as_deref().map(sample_of) {
            // Not an id of ours, or none: it can only be meant for the sample that has waited longest.
            Some(None) => (sampler.oldest_asked(), Err(Miss::WrongId)),
            None => (sampler.oldest_asked(), result),
            Some(Some((start_us, index))) if start_us == sampler.instant_us(0) => {
                (Some(index), result)
            }
            // A reply to an earlier round's sample, too late to count.
            Some(Some(_)) => (None, result),
        };
        let Some(index) = index else { return };
        if let Err(miss) = result {
            log::say(
                &self.role,
                format_args!("sample {index} refused: {miss}: {text}"),
            );
        }
        sampler.replied(index, result);
    }

    /// The connection ended.
    fn lost(&mut self, sampler: &mut Sampler, ended: &Ended) {
        log::say(&self.role, format_args!("{}; reconnecting", ended.text));
        sampler.disconnected(ended.miss);
        self.exchange.link = None;
    }

    /// Tries for a new connection until the last sample can no longer be asked for; the schedule runs on.
    fn reconnect(&mut self, sampler: &mut Sampler, now_us: u64) {
        let Some((_, instant_us)) = sampler.last_due() else {
            self.exchange.retry_at = Instant::now() + Duration::from_millis(SLICE_MS);
            return;
        };
        let until = Instant::now() + Duration::from_micros(instant_us.saturating_sub(now_us));
        let (exchange, control): (&mut Exchange, _) = (&mut self.exchange, &mut self.control);
        if let Err(error) = exchange.connect(until, &mut || control.look()) {
            exchange.retry_at = Instant::now() + Duration::from_millis(RECONNECT_MS);
            let Error { attempt, cause, .. } = error;
            exchange.complain(&self.role, format!("{attempt}: {cause}"));
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
            "Binance takes ids of at most 36 characters"
        );
        for id in ["", "first", "7", "7-", "-7", "7-x", "a-b-c", "7--1"] {
            assert_eq!(sample_of(id), None, "{id}");
        }
    }
}
