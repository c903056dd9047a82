//! Makes schedules: the terms of a chain of rounds, the role of each collector, and what everyone sends.

use super::chance::Chance;
use super::oracle::{self, CLOCK_MOVED_BITS, STALE_BITS, lateness_us_max};
use super::schedule::{Delivery, Frame, KeyRing, Letter, Role, Schedule, Signed};
use rsoracle::collector::sampler::Sampler;
use rsoracle::wire::Sample;
use rsoracle_proof::aggregate::Rule;
use rsoracle_proof::reason::Miss;
use rsoracle_proof::record::{Answer, Record};
use rsoracle_proof::terms::{Seat, Terms};
use std::rc::Rc;

const SOURCES: [&str; 5] = [
    "embedded:BTCUSDT",
    "binance:BTCUSDC",
    "binance-book:BTCUSDT",
    "coinbase:BTC-USD",
    "kraken:BTC/EUR",
];
/// Timeout of an exchange's reply, in microseconds.
const REPLY_US_MAX: u64 = 1_000_000;

/// The state from which the rounds of one chain are made.
pub struct Stage<'a> {
    pub chance: Chance,
    pub keys: &'a KeyRing,
    terms: Rc<Terms>,
    /// The key in each seat, as an index in the key ring.
    seats: Vec<Option<usize>>,
    start_us: u64,
    /// The price that honest collectors see, give or take a little.
    pub price: f64,
    /// Genuine letters of earlier rounds, with their slots.
    pub earlier: Vec<(u16, Letter)>,
}

impl Stage<'_> {
    pub fn new(mut chance: Chance, keys: &KeyRing) -> Stage<'_> {
        let terms = terms(&mut chance, keys);
        let seats = (0..terms.seats.len()).map(Some).collect();
        let price = chance.pick(&[94112.35, 0.013619, 3.0, 1e-9, 7e11]);
        Stage {
            chance,
            keys,
            terms: Rc::new(terms),
            seats,
            start_us: 1_790_000_000_000_000,
            price,
            earlier: Vec::new(),
        }
    }

    /// Makes the schedule of the next round.
    pub fn round(&mut self) -> Schedule {
        self.next_terms();
        let whole_us = u64::from(self.terms.samples) * self.terms.interval_us;
        self.start_us += whole_us + self.chance.within(1_500_000, 5_000_000);
        self.price *= self.chance.pick(&[1.0, 1.0, 1.0001, 0.9998, 1.02, 0.8]);
        let n = self.terms.seats.len();
        let mut schedule = Schedule {
            terms: self.terms.clone(),
            keys: self.seats.clone(),
            start_us: self.start_us,
            roles: self.roles(n),
            made: vec![None; n],
            deliveries: Vec::new(),
            ends_early: self.chance.percent(30),
        };
        for slot in 0..n as u16 {
            self.perform(&mut schedule, slot);
        }
        self.strangers(&mut schedule);
        self.remember(&schedule);
        schedule.deliveries.sort_by_key(|delivery| delivery.at_us);
        schedule
    }

    /// Changes the terms between rounds: collectors may return with other keys, and the aggregator with another session.
    fn next_terms(&mut self) {
        let mut terms = (*self.terms).clone();
        if self.chance.percent(10) {
            terms.session[self.chance.index(32)] ^= 1;
        }
        for slot in 0..self.seats.len() {
            if self.chance.percent(4) {
                // One of the three keys that collectors of this slot may have, or none.
                let key = self.chance.index(4);
                self.seats[slot] = (key < 3).then_some(10 * key + slot);
                terms.seats[slot].key = self.seats[slot].map(|key| self.keys.public(key));
            }
        }
        if terms != *self.terms {
            self.terms = Rc::new(terms);
        }
    }

    /// The roles of a round: nobody misbehaves, a tolerated number does, or anyone may.
    fn roles(&mut self, n: usize) -> Vec<Role> {
        let mut roles = vec![Role::Honest; n];
        let bad = match self.chance.below(10) {
            0..3 => 0,
            3..7 => usize::from(self.terms.f),
            _ => self.chance.index(n + 1),
        };
        for (index, role) in roles.iter_mut().enumerate() {
            let all = &Role::ALL;
            *role = if index < bad {
                let lies = self.chance.percent(40);
                if lies {
                    Role::Lies
                } else {
                    self.chance.pick(all)
                }
            } else {
                let light = [
                    (88, Role::Honest),
                    (6, Role::Noisy),
                    (3, Role::Slow),
                    (1, Role::Dies),
                    (1, Role::Silent),
                    (1, Role::Refuses),
                ];
                self.chance.weighted(&light)
            };
        }
        self.chance.shuffle(&mut roles);
        roles
    }

    /// Adds everything that the collector of `slot` sends.
    fn perform(&mut self, schedule: &mut Schedule, slot: u16) {
        let role = schedule.roles[usize::from(slot)];
        if role == Role::Silent {
            return;
        }
        let (records, taken_us) = self.watch(schedule, role);
        let (bits, stamp_us) = oracle::answer(schedule, &records);
        schedule.made[usize::from(slot)] = Some((bits, stamp_us));
        let records = Rc::new(records);
        let mut deliveries = self.samples(schedule, slot, role, &records, &taken_us);
        let ready_us = *taken_us.last().expect("a round has samples");
        let own = Signed {
            key: self.seats[usize::from(slot)].unwrap_or(usize::from(slot)),
            terms: self.terms.clone(),
            slot,
            start_us: schedule.start_us,
            records,
        };
        for (bits, stamp_us) in self.answers(schedule, role, (bits, stamp_us)) {
            let mut signed = own.clone();
            if role == Role::Rekeyed {
                signed.key = (signed.key + 10) % 30;
            }
            let late_us = if role == Role::Slow {
                2_000_000
            } else {
                400_000
            };
            deliveries.push(Delivery {
                at_us: ready_us + self.chance.below(late_us),
                slot,
                what: "answer",
                frame: Frame::Answer(self.keys.sign(signed, bits, stamp_us)),
            });
        }
        match role {
            Role::Dies => deliveries.truncate(self.chance.index(deliveries.len())),
            Role::Hasty => drop(deliveries.remove(self.chance.index(deliveries.len() - 1))),
            _ => {}
        }
        schedule.deliveries.append(&mut deliveries);
    }

    /// A collector's records in a round, and the instant when it knew each.
    fn watch(&mut self, schedule: &Schedule, role: Role) -> (Vec<Record>, Vec<u64>) {
        let (chance, terms) = (&mut self.chance, &schedule.terms);
        let price = match role {
            Role::Lies => lie(chance, self.price),
            _ => self.price * (1.0 + chance.below(100) as f64 * 1e-6),
        };
        let misses = chance.weighted(&[(60, 0), (25, 4), (10, 20), (5, 60)]);
        let aged = chance.percent(50);
        let latest_us = lateness_us_max(terms.interval_us);
        let mut sampler = Sampler::new(
            schedule.start_us,
            terms.interval_us,
            terms.samples,
            terms.sample_rule,
        );
        let mut known_us = Vec::new();
        for index in 0..terms.samples {
            let late_us = chance.weighted(&[(90, 40), (6, latest_us), (2, latest_us + 1), (2, 0)]);
            let late_us = if late_us == 40 {
                chance.below(40)
            } else {
                late_us
            };
            let asked_us = sampler.instant_us(index) + late_us;
            if chance.percent(misses) && chance.percent(50) {
                sampler.skip(index, Miss::NotConnected);
            } else {
                sampler.asked(index, asked_us);
                let missed = chance.percent(misses);
                let seen = (price * (1.0 + chance.below(10) as f64 * 1e-7)).min(1e15);
                let reply = if missed { Err(Miss::NotJson) } else { Ok(seen) };
                sampler.replied(index, reply, Some(u64::from(index) * 1_000));
            }
            known_us.push(
                asked_us + chance.within(1_000, REPLY_US_MAX - late_us.min(REPLY_US_MAX / 2)),
            );
        }
        let (mut records, answer, stamp_us) = sampler.finish().expect("every sample is over");
        let bits = match answer {
            Answer::Price(price) => price.to_bits(),
            Answer::Abstain(_) => oracle::TOO_FEW_BITS,
        };
        assert_eq!(
            (bits, stamp_us),
            oracle::answer(schedule, &records),
            "a sampler's answer"
        );
        for record in records
            .iter_mut()
            .filter(|record| aged && record.price.is_ok())
        {
            record.age_us = Some(chance.below(1_000_000));
        }
        if role == Role::Late {
            let at = chance.index(records.len());
            records[at].price = Ok(price);
            records[at].lateness_us = Some(latest_us + chance.within(1, 10_000));
        }
        (records, known_us)
    }

    /// Adds the sample frames, in order, each after its collector knew it.
    fn samples(
        &mut self,
        schedule: &Schedule,
        slot: u16,
        role: Role,
        records: &[Record],
        known_us: &[u64],
    ) -> Vec<Delivery> {
        let chance = &mut self.chance;
        let mut frames: Vec<(u64, &'static str, Sample)> = Vec::new();
        let start_us = schedule.start_us;
        let broken = (role == Role::Broken).then(|| chance.index(records.len()));
        for (record, known_us) in records.iter().zip(known_us) {
            let right = Sample {
                start_us,
                record: *record,
            };
            if role == Role::Noisy && chance.percent(50) {
                frames.push((
                    *known_us,
                    "a sample too many",
                    astray(chance, schedule, right),
                ));
            }
            let slow_us = if role == Role::Slow {
                1_000_000
            } else {
                50_000
            };
            frames.push((known_us + chance.below(slow_us), "sample", right));
        }
        let (mut deliveries, mut earliest_us) = (Vec::new(), 0);
        let mut right = 0;
        for (at_us, mut what, sample) in frames {
            let mut bytes = sample.encode();
            if what == "sample" {
                if broken == Some(right) {
                    what = "a sample with a flipped bit";
                    bytes[chance.index(Sample::BYTES)] ^= 1 << chance.below(8);
                }
                right += 1;
            }
            earliest_us = at_us.max(earliest_us + 1);
            deliveries.push(Delivery {
                at_us: earliest_us,
                slot,
                what,
                frame: Frame::Sample(bytes),
            });
        }
        deliveries
    }

    /// The answers that a collector signs, given the answer that its samples make.
    fn answers(&mut self, schedule: &Schedule, role: Role, made: (u64, u64)) -> Vec<(u64, u64)> {
        let start_us = schedule.start_us;
        let latest_us =
            oracle::last_instant_us(schedule) + lateness_us_max(schedule.terms.interval_us);
        match role {
            Role::Mute => vec![],
            Role::Refuses => {
                let bits = self.chance.pick(&[CLOCK_MOVED_BITS, STALE_BITS]);
                vec![(bits, start_us)]
            }
            Role::Misreckons => vec![self.misreckoned(schedule, made)],
            Role::Equivocates => {
                let mut all = vec![made, self.misreckoned(schedule, made)];
                if self.chance.percent(30) {
                    all.push((CLOCK_MOVED_BITS, start_us));
                }
                if self.chance.percent(30) {
                    all.remove(0);
                }
                self.chance.shuffle(&mut all);
                all
            }
            Role::Jumps => {
                let far_us = self.chance.pick(&[1, 1, 1_000_000, 3_600_000_000]);
                let stamps = [start_us - far_us, latest_us + far_us, 0, u64::MAX];
                vec![(made.0, self.chance.pick(&stamps))]
            }
            _ => vec![made],
        }
    }

    /// An answer that differs from the one that the samples make; sometimes one that is never valid.
    fn misreckoned(&mut self, schedule: &Schedule, (bits, stamp_us): (u64, u64)) -> (u64, u64) {
        let lie = lie(&mut self.chance, self.price).to_bits();
        let last_us = oracle::last_instant_us(schedule);
        match self.chance.below(10) {
            0 => (bits + 1, stamp_us),
            1 => (bits, stamp_us + 1),
            2 => (bits, stamp_us.saturating_sub(1)),
            3 => (CLOCK_MOVED_BITS, last_us),
            4 => (CLOCK_MOVED_BITS, schedule.start_us),
            5 => (STALE_BITS + 1, schedule.start_us),
            8 => (STALE_BITS, schedule.start_us),
            6 => (
                self.chance
                    .pick(&[0.0, -1.0, f64::INFINITY, 1e16])
                    .to_bits(),
                stamp_us,
            ),
            7 => (self.price.to_bits(), last_us),
            _ => (lie, stamp_us),
        }
    }

    /// Keeps genuine letters, to replay them later.
    fn remember(&mut self, schedule: &Schedule) {
        for delivery in &schedule.deliveries {
            if let Frame::Answer(letter) = &delivery.frame
                && letter.signed.is_some()
                && delivery.what == "answer"
            {
                self.earlier.push((delivery.slot, letter.clone()));
            }
        }
    }
}

/// Makes the terms of a chain.
fn terms(chance: &mut Chance, keys: &KeyRing) -> Terms {
    // Few collectors, since signatures take time. From four on, one may lie; from seven on, two.
    let sizes = [
        (14, 1),
        (12, 2),
        (16, 3),
        (30, 4),
        (12, 5),
        (4, 6),
        (6, 7),
        (2, 8),
        (2, 9),
        (2, 10),
    ];
    let n: u16 = chance.weighted(&sizes);
    let rule = chance.weighted(&[
        (60, Rule::TrimmedMean),
        (25, Rule::Median),
        (15, Rule::Mean),
    ]);
    let tolerated = if rule == Rule::Mean { 0 } else { (n - 1) / 3 };
    let f = if chance.percent(85) {
        tolerated
    } else {
        chance.within(0, u64::from(tolerated)) as u16
    };
    let least = (2 * f + 1).max(n / 2 + 1);
    let quorum = if chance.percent(85) {
        least
    } else {
        chance.within(u64::from(least), u64::from(n)) as u16
    };
    let sources = 1 + chance.index(SOURCES.len());
    let seat = |slot: u16| Seat {
        key: Some(keys.public(usize::from(slot))),
        source: SOURCES[usize::from(slot) % sources].into(),
    };
    Terms {
        aggregator: keys.public(KeyRing::AGGREGATOR),
        session: std::array::from_fn(|_| chance.bits() as u8),
        feed: "BTC/USD".into(),
        rule,
        sample_rule: chance.pick(&[Rule::Mean, Rule::Median]),
        f,
        quorum,
        exchanges_min: chance.weighted(&[(80, 1), (14, 2), (6, 3)]),
        samples: chance.weighted(&[
            (26, 1),
            (16, 2),
            (10, 3),
            (10, 4),
            (20, 5),
            (4, 6),
            (3, 7),
            (3, 8),
            (3, 9),
            (5, 10),
        ]),
        interval_us: chance.pick(&[20_000, 100_000, 1_000_000, 1_000_001, 60_000_000]),
        seats: (0..n).map(seat).collect(),
    }
}

/// A price that no collector saw.
fn lie(chance: &mut Chance, price: f64) -> f64 {
    let near = f64::from_bits(price.to_bits() + 2_000_000_000_000);
    let lies = [
        price * 10.0,
        price / 10.0,
        price * 1.5,
        price * 0.99,
        near,
        1e-12,
        1e15,
    ];
    chance.pick(&lies).clamp(1e-12, 1e15)
}

/// Changes a sample so that the round must refuse it.
fn astray(chance: &mut Chance, schedule: &Schedule, mut sample: Sample) -> Sample {
    match chance.below(5) {
        0 => sample.start_us -= 1_000_000,
        1 => sample.start_us += 1,
        2 => sample.record.index += 1,
        3 => sample.record.index = schedule.terms.samples + chance.below(3) as u32,
        _ if sample.record.index > 0 => sample.record.index -= 1,
        _ => sample.record.index = u32::MAX,
    }
    sample
}
