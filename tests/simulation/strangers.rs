//! What strangers send: guesses, and letters that they overheard, replayed, changed, or signed for another place.

use super::schedule::{Delivery, Frame, Letter, Schedule};
use super::stage::Stage;
use rsoracle_proof::aggregate::Rule;
use rsoracle_proof::terms::Terms;
use std::rc::Rc;

impl Stage<'_> {
    /// Adds what strangers send who name a slot's key or replay what they overheard.
    pub fn strangers(&mut self, schedule: &mut Schedule) {
        let count = self
            .chance
            .weighted(&[(40, 0), (25, 1), (20, 2), (10, 3), (5, 6)]);
        let span_us = schedule.deadline_us() + 300_000 - schedule.start_us;
        for _ in 0..count {
            if let Some((slot, what, letter)) = self.strange(schedule) {
                schedule.deliveries.push(Delivery {
                    at_us: schedule.start_us + self.chance.below(span_us),
                    slot,
                    what,
                    frame: Frame::Answer(letter),
                });
            }
        }
    }

    fn strange(&mut self, schedule: &Schedule) -> Option<(u16, &'static str, Letter)> {
        let n = schedule.n();
        let any = self.chance.below(u64::from(n)) as u16;
        match self.chance.below(9) {
            0 => {
                let random = std::array::from_fn(|_| self.chance.bits() as u8);
                let letter = Letter::unsigned(self.chance.bits(), self.chance.bits(), random);
                return Some((any, "garbage", letter));
            }
            1 => {
                let random = std::array::from_fn(|_| self.chance.bits() as u8);
                let stamp_us = schedule.start_us + self.chance.below(1_000);
                let letter = Letter::unsigned(self.price.to_bits(), stamp_us, random);
                return Some((any, "a made-up signature", letter));
            }
            2 if !self.earlier.is_empty() => {
                let at = self.chance.index(self.earlier.len());
                let (slot, letter) = self.earlier[at].clone();
                return Some((slot, "an answer of an earlier round", letter));
            }
            _ => {}
        }
        let sent = |delivery: &&Delivery| matches!(delivery.frame, Frame::Answer(_));
        let sent: Vec<&Delivery> = schedule.deliveries.iter().filter(sent).collect();
        if sent.is_empty() {
            return None;
        }
        let heard = sent[self.chance.index(sent.len())];
        let Frame::Answer(letter) = &heard.frame else {
            unreachable!("only answers were chosen")
        };
        let mut letter = letter.clone();
        let own = letter.signed.clone();
        match (self.chance.below(5), own) {
            (0, _) => Some((heard.slot, "the same answer again", letter)),
            (1, _) => {
                letter.bytes[self.chance.index(80)] ^= 1 << self.chance.below(8);
                letter.signed = None;
                Some((heard.slot, "an answer with a flipped bit", letter))
            }
            (2, _) => Some(((heard.slot + 1) % n, "an answer of another slot", letter)),
            (3, Some(own)) => {
                let (bits, at_us) = (letter.bits(), letter.timestamp_us());
                let letter = self
                    .keys
                    .sign_elsewhere(&mut self.chance, &own, bits, at_us);
                Some((heard.slot, "an answer for another place", letter))
            }
            (_, Some(mut own)) => {
                own.terms = Rc::new(self.other_terms(&own.terms));
                let letter = self.keys.sign(own, letter.bits(), letter.timestamp_us());
                Some((heard.slot, "an answer under other terms", letter))
            }
            _ => None,
        }
    }

    /// Terms that differ in one field.
    fn other_terms(&mut self, terms: &Terms) -> Terms {
        let mut other = terms.clone();
        match self.chance.below(11) {
            0 => other.session[self.chance.index(32)] ^= 0x80,
            1 => other.feed = "ETH/USD".into(),
            2 => other.f += 1,
            3 => other.quorum += 1,
            4 => other.exchanges_min += 1,
            5 => other.aggregator = self.keys.public(29),
            6 => {
                other.rule = match other.rule {
                    Rule::Mean => Rule::Median,
                    _ => Rule::Mean,
                }
            }
            7 => {
                other.sample_rule = match other.sample_rule {
                    Rule::Mean => Rule::Median,
                    _ => Rule::Mean,
                }
            }
            8 => {
                let last = other.seats.len() - 1;
                other.seats[last].key = Some(self.keys.public(28));
            }
            9 => other.seats[0].source.push('X'),
            _ => other.seats.push(other.seats[0].clone()),
        }
        other
    }
}
