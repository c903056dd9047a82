//! What strangers send: guesses, and letters that they overheard, replayed, changed, or signed for another place.

use super::script::{Delivery, Frame, Letter, Posted, Script};
use super::stage::Stage;
use rsoracle_proof::aggregate::Rule;
use rsoracle_proof::terms::{Terms, tag};
use std::rc::Rc;

impl Stage<'_> {
    /// Adds what strangers send who name a slot's key or replay what they overheard.
    pub fn strangers(&mut self, script: &mut Script) {
        let count = self
            .chance
            .weighted(&[(40, 0), (25, 1), (20, 2), (10, 3), (5, 6)]);
        let span_us = script.end_us() + 300_000 - script.start_us;
        for _ in 0..count {
            if let Some((slot, what, posted)) = self.strange(script) {
                script.deliveries.push(Delivery {
                    at_us: script.start_us + self.chance.below(span_us),
                    slot,
                    what,
                    frame: Frame::Answer(posted),
                });
            }
        }
    }

    fn strange(&mut self, script: &Script) -> Option<(u16, &'static str, Posted)> {
        let n = script.n();
        let any = self.chance.below(u64::from(n)) as u16;
        match self.chance.below(9) {
            0 => {
                let random = std::array::from_fn(|_| self.chance.bits() as u8);
                let letter = Letter::unsigned(self.chance.bits(), self.chance.bits(), random);
                return Some((any, "garbage", Posted::to(script, letter)));
            }
            1 => {
                let random = std::array::from_fn(|_| self.chance.bits() as u8);
                let stamp_us = script.start_us + self.chance.below(1_000);
                let letter = Letter::unsigned(self.price.to_bits(), stamp_us, random);
                return Some((any, "a made-up signature", Posted::to(script, letter)));
            }
            2 if !self.earlier.is_empty() => {
                let at = self.chance.index(self.earlier.len());
                let (slot, posted) = self.earlier[at].clone();
                let posted = match self.chance.below(2) {
                    0 => posted,
                    _ => Posted::to(script, posted.letter),
                };
                return Some((slot, "an answer of an earlier round", posted));
            }
            _ => {}
        }
        let sent: Vec<(u16, &Posted)> = script.deliveries.iter().filter_map(answered).collect();
        if sent.is_empty() {
            return None;
        }
        let (slot, posted) = sent[self.chance.index(sent.len())];
        let (slot, what, posted) = self.overheard(script, slot, posted.clone())?;
        Some((slot % n, what, posted))
    }

    /// What a stranger makes of an answer of `slot` that it overheard. `None` if it needs the key, and nobody signed the answer.
    fn overheard(
        &mut self,
        script: &Script,
        slot: u16,
        mut posted: Posted,
    ) -> Option<(u16, &'static str, Posted)> {
        let (bits, at_us) = (posted.letter.bits(), posted.letter.timestamp_us());
        let chance = &mut self.chance;
        let what = match chance.below(7) {
            0 => "the same answer again",
            1 => {
                posted.letter.bytes[chance.index(80)] ^= 1 << chance.below(8);
                posted.letter.signed = None;
                "an answer with a flipped bit"
            }
            2 => return Some((slot + 1, "an answer of another slot", posted)),
            3 => {
                let period_us = script.terms.schedule.period_us.max(1);
                posted.start_us += chance.pick(&[1, period_us, 1_000_000_000 * period_us]);
                "an answer to a later round"
            }
            4 => {
                posted.tag[chance.index(8)] ^= 1 << chance.below(8);
                "an answer with another tag"
            }
            5 => {
                let own = posted.letter.signed?;
                posted.letter = self.keys.sign_elsewhere(chance, &own, bits, at_us);
                "an answer for another place"
            }
            _ => {
                let mut own = posted.letter.signed?;
                let terms = self.other_terms(&own.terms);
                if self.chance.percent(50) {
                    posted.tag = tag(&terms.digest());
                }
                own.terms = Rc::new(terms);
                posted.letter = self.keys.sign(own, bits, at_us);
                "an answer under other terms"
            }
        };
        Some((slot, what, posted))
    }

    /// Terms that differ in one field.
    fn other_terms(&mut self, terms: &Terms) -> Terms {
        let mut other = terms.clone();
        match self.chance.below(12) {
            0 => other.age_us_max = Some(other.age_us_max.map_or(1, |us| us + 1)),
            1 => other.feed = "ETH/USD".into(),
            2 => other.spread_ppm_max = Some(other.spread_ppm_max.map_or(1, |ppm| ppm + 1)),
            3 => other.schedule.period_us += 1,
            4 => other.exchanges_min += 1,
            5 => other.schedule.first_start_us -= 1,
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
            10 => other.schedule.samples += 1,
            _ => other.seats.push(other.seats[0].clone()),
        }
        other
    }
}

/// The slot and the frame of an answer.
fn answered(delivery: &Delivery) -> Option<(u16, &Posted)> {
    match &delivery.frame {
        Frame::Answer(posted) => Some((delivery.slot, posted)),
        Frame::Sample(..) => None,
    }
}
