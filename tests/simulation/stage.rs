//! Makes scripts: the terms of a chain of rounds, the role of each collector, and what everyone sends.

use super::chance::Chance;
use super::oracle::{self, CLOCK_MOVED_BITS, STALE_BITS, lateness_us_max};
use super::script::{Delivery, Frame, KeyRing, Letter, Posted, Role, Script, Signed};
use rsoracle::collector::sampler::Sampler;
use rsoracle::wire::Sample;
use rsoracle_proof::aggregate::Rule;
use rsoracle_proof::reason::Miss;
use rsoracle_proof::record::{Answer, Record};
use rsoracle_proof::schedule::Schedule;
use rsoracle_proof::terms::{Seat, Terms, tag};
use std::collections::BTreeSet;
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
    /// Genuine letters of earlier rounds, as they were posted, with their slots.
    pub earlier: Vec<(u16, Posted)>,
}

/// A frame of a collector: when it arrives, what it is, and the frame.
type Sent = (u64, &'static str, Frame);

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
            start_us: 0,
            price,
            earlier: Vec::new(),
        }
    }

    /// Makes the script of the next round.
    pub fn round(&mut self) -> Script {
        self.next_terms();
        self.price *= self.chance.pick(&[1.0, 1.0, 1.0001, 0.9998, 1.02, 0.8]);
        let n = self.terms.seats.len();
        let mut script = Script {
            terms: self.terms.clone(),
            tag: tag(&self.terms.digest()),
            keys: self.seats.clone(),
            start_us: self.start_us,
            roles: self.roles(n),
            made: vec![None; n],
            deliveries: Vec::new(),
            ends_early: self.chance.percent(30),
        };
        for slot in 0..n as u16 {
            self.perform(&mut script, slot);
        }
        self.strangers(&mut script);
        self.remember(&script);
        script.deliveries.sort_by_key(|delivery| delivery.at_us);
        script
    }

    /// Finds the start of the next round. The terms may change before it: collectors may return with other keys, and a schedule
    /// may end, or be replaced.
    fn next_terms(&mut self) {
        let mut terms = (*self.terms).clone();
        for slot in 0..self.seats.len() {
            if self.start_us > 0 && self.chance.percent(4) {
                // One of the three keys that collectors of this slot may have, or none.
                let key = self.chance.index(4);
                self.seats[slot] = (key < 3).then_some(10 * key + slot);
                terms.seats[slot].key = self.seats[slot].map(|key| self.keys.public(key));
            }
        }
        let over_us = self.start_us + oracle::length_us(&terms.schedule);
        let skipped_us = self.chance.pick(&[0, 0, 0, 3_000_000]);
        let next_us = terms.schedule.next_start_us(over_us + skipped_us);
        let (chance, first) = (&mut self.chance, self.start_us == 0);
        self.start_us = match next_us {
            _ if first => terms.schedule.first_start_us,
            Some(next_us) if !chance.percent(10) => next_us,
            _ => {
                let first_us = over_us + chance.below(5_000_000);
                terms.schedule = schedule(chance, first_us);
                first_us
            }
        };
        if terms != *self.terms {
            self.terms = Rc::new(terms);
        }
    }

    /// The roles of a round: nobody misbehaves, a tolerated number does, or anyone may.
    fn roles(&mut self, n: usize) -> Vec<Role> {
        let mut roles = vec![Role::Honest; n];
        let bad = match self.chance.below(10) {
            0..3 => 0,
            3..7 => usize::from(oracle::f(&self.terms)),
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
                    (80, Role::Honest),
                    (6, Role::Noisy),
                    (4, Role::Reconnects),
                    (4, Role::Shadowed),
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
    fn perform(&mut self, script: &mut Script, slot: u16) {
        let role = script.roles[usize::from(slot)];
        if role == Role::Silent {
            return;
        }
        let (records, known_us) = self.watch(script, role);
        let made = oracle::answer(script, &records);
        script.made[usize::from(slot)] = Some(made);
        let ready_us = *known_us.iter().max().expect("a round has samples");
        let mut sent = self.samples(script, role, &records, &known_us);
        let own = Signed {
            key: self.seats[usize::from(slot)].unwrap_or(usize::from(slot)),
            terms: self.terms.clone(),
            slot,
            start_us: script.start_us,
            records: Rc::new(records),
        };
        let mut letters = Vec::new();
        for (bits, stamp_us) in self.answers(script, role, made) {
            letters.push(self.letter(role, &own, bits, stamp_us));
        }
        if let Some(others) =
            self.second_connection(script, role, &own.records, &known_us, &mut sent)
            && role == Role::TwoFaced
        {
            let (bits, stamp_us) = oracle::answer(script, &others);
            let other = Signed {
                records: Rc::new(others),
                ..own.clone()
            };
            letters.push(self.letter(role, &other, bits, stamp_us));
            if self.chance.percent(30) {
                letters.remove(0);
            }
        }
        let travel_us = oracle::travel_us(&script.terms.schedule);
        let travel_us = if role == Role::Slow {
            3 * travel_us
        } else {
            travel_us
        };
        for letter in letters {
            let posted = Posted::to(script, letter);
            let at_us = ready_us + self.chance.below(travel_us);
            sent.push((at_us, "answer", Frame::Answer(posted)));
        }
        match role {
            Role::Dies => sent.truncate(self.chance.index(sent.len())),
            Role::Hasty => drop(sent.remove(self.chance.index(sent.len() - 1))),
            _ => {}
        }
        let delivery = |(at_us, what, frame)| Delivery {
            at_us,
            slot,
            what,
            frame,
        };
        script.deliveries.extend(sent.into_iter().map(delivery));
    }

    fn letter(&self, role: Role, own: &Signed, bits: u64, stamp_us: u64) -> Letter {
        let mut signed = own.clone();
        if role == Role::Rekeyed {
            signed.key = (signed.key + 10) % 30;
        }
        self.keys.sign(signed, bits, stamp_us)
    }

    /// What passes on a second connection under the same key, in three roles. Returns samples that are not the collector's own.
    fn second_connection(
        &mut self,
        script: &Script,
        role: Role,
        records: &[Record],
        known_us: &[u64],
        sent: &mut Vec<Sent>,
    ) -> Option<Vec<Record>> {
        let chance = &mut self.chance;
        let (records, from_us, what) = match role {
            // It sends everything from the first sample on, whether the first connection seems to stand or not.
            Role::Reconnects => {
                let lost = chance.index(sent.len());
                let from_us = sent[lost].0;
                if chance.percent(60) {
                    sent.truncate(lost);
                }
                (records.to_vec(), from_us, "a sample again")
            }
            Role::Shadowed | Role::TwoFaced => {
                let mut others = records.to_vec();
                let at = chance.index(others.len());
                match (others[at].price, chance.below(3)) {
                    (Ok(_), 0) => others[at].lateness_us = Some(0),
                    (Ok(price), _) => others[at].price = Ok(lie(chance, price)),
                    (Err(_), _) => others[at].price = Err(Miss::WrongId),
                }
                (others, 0, "another sample")
            }
            _ => return None,
        };
        let travel_us = oracle::travel_us(&script.terms.schedule) / 4;
        let mut earliest_us = from_us;
        for (record, known_us) in records.iter().zip(known_us) {
            let sample = Sample {
                tag: script.tag,
                start_us: script.start_us,
                record: *record,
            };
            earliest_us = (known_us + chance.below(travel_us)).max(earliest_us + 1);
            sent.push((earliest_us, what, Frame::Sample(1, sample.encode())));
        }
        (role != Role::Reconnects).then_some(records)
    }

    /// A collector's records in a round, and the instant when it knew each.
    fn watch(&mut self, script: &Script, role: Role) -> (Vec<Record>, Vec<u64>) {
        let (chance, terms) = (&mut self.chance, &script.terms);
        let schedule = &terms.schedule;
        let price = match role {
            Role::Lies => lie(chance, self.price),
            _ => self.price * (1.0 + chance.below(100) as f64 * 1e-6),
        };
        let misses = chance.weighted(&[(60, 0), (25, 4), (10, 20), (5, 60)]);
        let aged = chance.percent(50);
        let latest_us = lateness_us_max(schedule);
        let oldest_us = terms.age_us_max.unwrap_or(1_000_000);
        // Replies that come later are given up.
        let replied_us = script.end_us() - oracle::travel_us(schedule);
        let mut sampler = Sampler::new(script.start_us, schedule, terms.sample_rule);
        let mut known_us = Vec::new();
        for index in 0..schedule.samples {
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
            let reply_us = replied_us.min(sampler.instant_us(index) + REPLY_US_MAX);
            known_us.push(chance.within(asked_us, reply_us));
        }
        let (mut records, answer, stamp_us) = sampler.finish().expect("every sample is over");
        let bits = match answer {
            Answer::Price(price) => price.to_bits(),
            Answer::Abstain(_) => oracle::TOO_FEW_BITS,
        };
        assert_eq!(
            (bits, stamp_us),
            oracle::answer(script, &records),
            "a sampler's answer"
        );
        for record in records
            .iter_mut()
            .filter(|record| aged && record.price.is_ok())
        {
            record.age_us = Some(chance.below(oldest_us + 1));
        }
        if role == Role::Refuses && chance.percent(50) {
            // Its clock was stepped: it gives up the rest at once.
            let from = chance.index(records.len());
            for record in &mut records[from..] {
                (record.price, record.lateness_us) = (Err(Miss::ClockMoved), None);
                record.age_us = None;
            }
            let now_us = known_us[..from].iter().max().copied();
            known_us[from..].fill(now_us.unwrap_or(script.start_us));
        }
        if role == Role::Late {
            let at = chance.index(records.len());
            records[at].price = Ok(price);
            if terms.age_us_max.is_some() && chance.percent(50) {
                records[at].lateness_us = Some(0);
                records[at].age_us = Some(oldest_us + chance.within(1, 10_000));
            } else {
                records[at].lateness_us = Some(latest_us + chance.within(1, 10_000));
            }
        }
        (records, known_us)
    }

    /// The sample frames on the first connection, in order, each after its collector knew it.
    fn samples(
        &mut self,
        script: &Script,
        role: Role,
        records: &[Record],
        known_us: &[u64],
    ) -> Vec<Sent> {
        let chance = &mut self.chance;
        let broken = (role == Role::Broken).then(|| chance.index(records.len()));
        let travel_us = oracle::travel_us(&script.terms.schedule);
        let travel_us = if role == Role::Slow {
            2 * travel_us
        } else {
            travel_us / 4
        };
        let (mut sent, mut earliest_us) = (Vec::new(), 0);
        for (index, (record, known_us)) in records.iter().zip(known_us).enumerate() {
            let right = Sample {
                tag: script.tag,
                start_us: script.start_us,
                record: *record,
            };
            if role == Role::Noisy && chance.percent(50) {
                earliest_us = (earliest_us + 1).max(*known_us);
                let frame = Frame::Sample(0, astray(chance, script, right).encode());
                sent.push((earliest_us, "a sample too many", frame));
            }
            let (mut bytes, mut what) = (right.encode(), "sample");
            if broken == Some(index) {
                what = "a sample with a flipped bit";
                bytes[chance.index(Sample::BYTES)] ^= 1 << chance.below(8);
            }
            earliest_us = (known_us + chance.below(travel_us)).max(earliest_us + 1);
            sent.push((earliest_us, what, Frame::Sample(0, bytes)));
        }
        sent
    }

    /// The answers that a collector signs, given the answer that its samples make.
    fn answers(&mut self, script: &Script, role: Role, made: (u64, u64)) -> Vec<(u64, u64)> {
        let start_us = script.start_us;
        let latest_us = oracle::last_instant_us(script) + lateness_us_max(&script.terms.schedule);
        match role {
            Role::Mute => vec![],
            Role::Refuses => {
                let bits = self.chance.pick(&[CLOCK_MOVED_BITS, STALE_BITS]);
                vec![(bits, start_us)]
            }
            Role::Misreckons => vec![self.misreckoned(script, made)],
            Role::Equivocates => {
                let mut all = vec![made, self.misreckoned(script, made)];
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
    fn misreckoned(&mut self, script: &Script, (bits, stamp_us): (u64, u64)) -> (u64, u64) {
        let lie = lie(&mut self.chance, self.price).to_bits();
        let last_us = oracle::last_instant_us(script);
        match self.chance.below(10) {
            0 => (bits + 1, stamp_us),
            1 => (bits, stamp_us + 1),
            2 => (bits, stamp_us.saturating_sub(1)),
            3 => (CLOCK_MOVED_BITS, last_us),
            4 => (CLOCK_MOVED_BITS, script.start_us),
            5 => (STALE_BITS + 1, script.start_us),
            8 => (STALE_BITS, script.start_us),
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
    fn remember(&mut self, script: &Script) {
        for delivery in &script.deliveries {
            if let Frame::Answer(posted) = &delivery.frame
                && posted.letter.signed.is_some()
                && delivery.what == "answer"
            {
                self.earlier.push((delivery.slot, posted.clone()));
            }
        }
    }
}

/// Makes the terms of a chain.
pub fn terms(chance: &mut Chance, keys: &KeyRing) -> Terms {
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
    let sources = 1 + chance.index(SOURCES.len());
    let source = |slot: u16| SOURCES[usize::from(slot) % sources];
    let exchanges: BTreeSet<&str> = (0..n).map(|slot| oracle::exchange(source(slot))).collect();
    let exchanges_min = chance.weighted(&[(80, 1), (14, 2), (6, 3)]);
    let seat = |slot: u16| Seat {
        key: Some(keys.public(usize::from(slot))),
        source: source(slot).into(),
    };
    Terms {
        feed: "BTC/USD".into(),
        rule,
        sample_rule: chance.pick(&[Rule::Mean, Rule::Median]),
        exchanges_min: exchanges_min.min(exchanges.len() as u16),
        age_us_max: chance.pick(&[None, Some(500_000), Some(60_000_000)]),
        spread_ppm_max: chance.pick(&[None, None, Some(1), Some(100), Some(10_000)]),
        schedule: schedule(chance, 1_790_000_000_000_000),
        seats: (0..n).map(seat).collect(),
    }
}

/// A schedule: a single round, a period that leaves hardly any time, or a longer one.
fn schedule(chance: &mut Chance, first_start_us: u64) -> Schedule {
    let counts = [
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
    ];
    let samples = chance.weighted(&counts);
    let interval_us = chance.pick(&[20_000, 100_000, 1_000_000, 1_000_001, 60_000_000]);
    let last_us = u64::from(samples - 1) * interval_us;
    // Behind the last sample, 20 ms to close and at most 100 ms that are clear.
    let shortest_us = (last_us + 20_000).div_ceil(19) * 20;
    let shortest_us = shortest_us.clamp(last_us + 25_000, last_us + 120_000);
    let shortest_us = shortest_us.max(100_000);
    let more_us = chance.pick(&[0, 0, 1, 30_000, 700_000, 1_600_000, 20_000_000]);
    let period_us = if chance.percent(15) {
        0
    } else {
        shortest_us + more_us
    };
    let ends = period_us > 0 && chance.percent(10);
    let rounds = chance.within(1, 3);
    let schedule = Schedule {
        first_start_us,
        period_us,
        end_us: ends.then(|| first_start_us + rounds * period_us),
        samples,
        interval_us,
    };
    assert_eq!(schedule.check(), Ok(()), "{schedule:?}");
    schedule
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

/// Changes a sample so that it is refused, or belongs to another round.
fn astray(chance: &mut Chance, script: &Script, mut sample: Sample) -> Sample {
    let schedule = &script.terms.schedule;
    match chance.below(8) {
        0 => sample.start_us -= 1_000_000,
        1 => sample.start_us += 1,
        2 => sample.record.index += 1,
        3 => sample.record.index = schedule.samples + chance.below(3) as u32,
        4 => sample.tag[chance.index(8)] ^= 1,
        5 => sample.start_us += schedule.period_us.max(1),
        6 => sample.start_us += 1_000_000_000 * schedule.period_us.max(1),
        _ if sample.record.index > 0 => sample.record.index -= 1,
        _ => sample.record.index = u32::MAX,
    }
    sample
}
