//! A collector's bookkeeping for one round: which sample is due, the record of each sample, and the average at the end.
//!
//! A pure state machine: it does not wait, send or sign. Sample k is due at `start + k * interval`, so samples do not drift
//! with the exchange's latency. Replies are matched by number, so a slow one does not delay the next.
//! Invariant: every sample gets exactly one record, and records are released in order. If the system clock is stepped during
//! a round, the round ends in an abstention, never in a burst of samples.

use crate::collector::limits::REPLY_MS_MAX;
use rsoracle_proof::aggregate::Rule;
use rsoracle_proof::answer::answer;
use rsoracle_proof::reason::{Abstention, Miss};
use rsoracle_proof::record::{Answer, Record};
use rsoracle_proof::schedule::Schedule;

/// The state of one sample.
#[derive(Clone, Copy, Debug, PartialEq)]
enum SampleState {
    Due,
    Asked { lateness_us: u64 },
    Over(Record),
}

/// The samples of one round.
#[derive(Clone, Debug)]
pub struct Sampler {
    start_us: u64,
    schedule: Schedule,
    rule: Rule,
    states: Vec<SampleState>,
    released: usize,
    clock_moved: bool,
}

impl Sampler {
    /// The round of `schedule` (of at least one sample) that starts at `start_us`. `rule` combines the samples into one price.
    pub fn new(start_us: u64, schedule: &Schedule, rule: Rule) -> Sampler {
        assert!(schedule.samples > 0, "a round has at least one sample");
        Sampler {
            start_us,
            schedule: *schedule,
            rule,
            states: vec![SampleState::Due; schedule.samples as usize],
            released: 0,
            clock_moved: false,
        }
    }

    /// The instant at which sample `index` is due, in microseconds since the Unix epoch.
    pub fn instant_us(&self, index: u32) -> u64 {
        self.start_us + u64::from(index) * self.schedule.interval_us
    }

    /// The next sample to request, and its instant.
    pub fn due(&self) -> Option<(u32, u64)> {
        let mut states = self.states.iter();
        let index = states.position(|state| *state == SampleState::Due)? as u32;
        Some((index, self.instant_us(index)))
    }

    /// The last sample that has not been requested yet, and its instant.
    pub(crate) fn last_due(&self) -> Option<(u32, u64)> {
        let mut states = self.states.iter();
        let index = states.rposition(|state| *state == SampleState::Due)? as u32;
        Some((index, self.instant_us(index)))
    }

    /// The oldest sample that is waiting for a reply.
    pub(crate) fn oldest_asked(&self) -> Option<u32> {
        let asked = |state: &SampleState| matches!(state, SampleState::Asked { .. });
        let index = self.states.iter().position(asked)?;
        Some(index as u32)
    }

    /// Notes that the request for sample `index` was handed to the system at `now_us`.
    pub fn asked(&mut self, index: u32, now_us: u64) {
        assert_eq!(
            self.states[index as usize],
            SampleState::Due,
            "a sample is requested once only"
        );
        let lateness_us = now_us.saturating_sub(self.instant_us(index));
        self.states[index as usize] = SampleState::Asked { lateness_us };
    }

    /// Notes that sample `index` will not be requested at all, and why.
    pub fn skip(&mut self, index: u32, why: Miss) {
        assert_eq!(
            self.states[index as usize],
            SampleState::Due,
            "a requested sample cannot be skipped"
        );
        self.over(index, why);
    }

    /// Notes the reply to sample `index`; has no effect if the sample is not waiting for one. A price does not count if its
    /// sample was requested too late (this process had to wait for a core): the aggregator would refuse it. `age_us` is the
    /// price's age by the exchange's own time, if the exchange gives one.
    pub fn replied(&mut self, index: u32, price: Result<f64, Miss>, age_us: Option<u64>) {
        let Some(SampleState::Asked { lateness_us }) = self.states.get(index as usize).copied()
        else {
            return;
        };
        let price = match price {
            Ok(_) if lateness_us > self.schedule.lateness_us_max() => Err(Miss::Overdue),
            price => price,
        };
        let age_us = age_us.filter(|_| price.is_ok());
        self.states[index as usize] = SampleState::Over(Record {
            index,
            price,
            lateness_us: Some(lateness_us),
            age_us,
        });
    }

    /// Notes that the connection ended: samples that are waiting for a reply will not get one.
    pub fn disconnected(&mut self, why: Miss) {
        while let Some(index) = self.oldest_asked() {
            self.replied(index, Err(why), None);
        }
    }

    /// Gives up what is overdue at `now_us`: samples that have not been requested, for the reason `why_not_asked`, and replies.
    pub(crate) fn advance(&mut self, now_us: u64, why_not_asked: Miss) {
        while let Some((index, instant_us)) = self.due() {
            if now_us <= instant_us + self.schedule.lateness_us_max() {
                break;
            }
            self.over(index, why_not_asked);
        }
        while let Some(index) = self.oldest_asked() {
            if now_us < self.reply_by_us(index) {
                break;
            }
            self.replied(index, Err(Miss::NoReply), None);
        }
    }

    /// The reply deadline of sample `index`, in microseconds since the Unix epoch: the exchange has [`REPLY_MS_MAX`], but never so
    /// much that the answer would be late.
    pub(crate) fn reply_by_us(&self, index: u32) -> u64 {
        let most_us = self.start_us + self.schedule.reply_us();
        most_us.min(self.instant_us(index) + REPLY_MS_MAX * 1_000)
    }

    /// Notes that the system clock was stepped: the instants of this round have lost their meaning.
    pub(crate) fn clock_moved(&mut self) {
        self.clock_moved = true;
        while let Some((index, _)) = self.due() {
            self.over(index, Miss::ClockMoved);
        }
        self.disconnected(Miss::ClockMoved);
    }

    /// Ends a sample that was never requested.
    fn over(&mut self, index: u32, why: Miss) {
        self.states[index as usize] = SampleState::Over(Record {
            index,
            price: Err(why),
            lateness_us: None,
            age_us: None,
        });
    }

    /// The next record, in order of samples, that has not been released yet.
    pub fn release(&mut self) -> Option<Record> {
        match self.states.get(self.released) {
            Some(SampleState::Over(record)) => {
                self.released += 1;
                Some(*record)
            }
            _ => None,
        }
    }

    /// Once every sample has its record: all records, the answer that they make, and the answer's time.
    pub fn finish(&self) -> Option<(Vec<Record>, Answer, u64)> {
        let over = |state: &SampleState| match state {
            SampleState::Over(record) => Some(*record),
            _ => None,
        };
        let records: Vec<Record> = self.states.iter().map(over).collect::<Option<_>>()?;
        let (answer, timestamp_us) = if self.clock_moved {
            (Answer::Abstain(Abstention::ClockMoved), self.start_us)
        } else {
            let interval_us = self.schedule.interval_us;
            answer(&records, self.start_us, interval_us, self.rule)
        };
        Some((records, answer, timestamp_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_790_000_000_000_000;
    const SECOND: u64 = 1_000_000;

    /// A single round of so many samples.
    fn sampler(interval_us: u64, samples: u32) -> Sampler {
        let schedule = Schedule {
            first_start_us: START,
            period_us: 0,
            end_us: None,
            samples,
            interval_us,
        };
        Sampler::new(START, &schedule, Rule::Mean)
    }

    fn released(sampler: &mut Sampler) -> Vec<(u32, Result<f64, Miss>)> {
        std::iter::from_fn(|| sampler.release())
            .map(|record| (record.index, record.price))
            .collect()
    }

    #[test]
    fn ten_samples_on_schedule_make_their_average() {
        let mut sampler = sampler(SECOND, 10);
        for k in 0..10 {
            assert_eq!(sampler.due(), Some((k, START + u64::from(k) * SECOND)));
            sampler.asked(k, START + u64::from(k) * SECOND + 7);
            assert!(sampler.finish().is_none());
            sampler.replied(k, Ok(100.0 + f64::from(k)), None);
            assert_eq!(released(&mut sampler), [(k, Ok(100.0 + f64::from(k)))]);
        }
        let (records, answer, timestamp_us) = sampler.finish().unwrap();
        assert_eq!(
            (records.len(), answer, timestamp_us),
            (10, Answer::Price(104.5), START + 9 * SECOND + 7)
        );
    }

    #[test]
    fn a_price_asked_for_too_late_does_not_count_and_the_next_one_does() {
        let mut sampler = sampler(100_000, 2);
        sampler.asked(0, START + 50_001);
        sampler.asked(1, START + 100_000 + 50_000);
        sampler.replied(0, Ok(10.0), None);
        sampler.replied(1, Ok(10.0), None);
        assert_eq!(
            released(&mut sampler),
            [(0, Err(Miss::Overdue)), (1, Ok(10.0))]
        );
    }

    #[test]
    fn replies_may_overtake_each_other_but_records_leave_in_order() {
        let mut sampler = sampler(50_000, 3);
        for k in 0..3 {
            sampler.asked(k, START + u64::from(k) * 50_000);
        }
        sampler.replied(2, Ok(3.0), None);
        sampler.replied(1, Ok(2.0), None);
        assert_eq!(released(&mut sampler), []);
        sampler.replied(0, Ok(1.0), None);
        assert_eq!(
            released(&mut sampler),
            [(0, Ok(1.0)), (1, Ok(2.0)), (2, Ok(3.0))]
        );
        sampler.replied(2, Ok(9.0), None);
        assert_eq!(
            sampler.finish().unwrap().1,
            Answer::Price(2.0),
            "the first reply counts"
        );
    }

    #[test]
    fn four_of_five_valid_samples_suffice_and_three_do_not() {
        for (valid, expected) in [
            (4, Answer::Price(1.0)),
            (3, Answer::Abstain(Abstention::TooFewSamples)),
        ] {
            let mut sampler = sampler(SECOND, 5);
            for k in 0..5 {
                sampler.asked(k, sampler.instant_us(k) + 1);
                sampler.replied(
                    k,
                    if k < valid {
                        Ok(1.0)
                    } else {
                        Err(Miss::NotDecimal)
                    },
                    None,
                );
            }
            let (_, answer, timestamp_us) = sampler.finish().unwrap();
            let newest = if valid == 4 {
                START + 3 * SECOND + 1
            } else {
                START
            };
            assert_eq!(
                (answer, timestamp_us),
                (expected, newest),
                "the time is that of the newest valid sample"
            );
        }
    }

    #[test]
    fn what_is_too_late_is_given_up_and_never_made_up_for() {
        let mut sampler = sampler(SECOND, 4);
        sampler.asked(0, START);
        sampler.advance(START + 500_000, Miss::NotConnected);
        assert_eq!(sampler.due().unwrap().0, 1);
        sampler.advance(START + 2 * SECOND + 500_001, Miss::NotConnected);
        assert_eq!(
            sampler.due(),
            Some((3, START + 3 * SECOND)),
            "no burst: overdue samples are not made up for"
        );
        assert_eq!(
            released(&mut sampler),
            [
                (0, Err(Miss::NoReply)),
                (1, Err(Miss::NotConnected)),
                (2, Err(Miss::NotConnected))
            ]
        );
        sampler.asked(3, START + 3 * SECOND);
        sampler.disconnected(Miss::TooLarge);
        assert_eq!(released(&mut sampler), [(3, Err(Miss::TooLarge))]);
    }

    #[test]
    fn a_sample_that_was_asked_for_too_late_has_no_price() {
        let mut sampler = sampler(SECOND, 2);
        sampler.asked(0, START + 500_000);
        sampler.replied(0, Ok(1.0), None);
        sampler.asked(1, START + SECOND + 500_001);
        sampler.replied(1, Ok(2.0), None);
        assert_eq!(
            released(&mut sampler),
            [(0, Ok(1.0)), (1, Err(Miss::Overdue))],
            "the aggregator would refuse the sample, and with it the whole answer"
        );
    }

    #[test]
    fn a_sample_of_a_long_interval_is_given_up_while_the_round_can_still_be_answered() {
        for (interval_us, latest_us) in [
            (20_000, 10_000),
            (SECOND, 500_000),
            (3_600 * SECOND, 500_000),
        ] {
            let mut sampler = sampler(interval_us, 1);
            sampler.advance(START + latest_us, Miss::NotConnected);
            assert!(sampler.finish().is_none(), "{interval_us}");
            sampler.advance(START + latest_us + 1, Miss::NotConnected);
            assert!(sampler.finish().is_some(), "{interval_us}");
        }
    }

    #[test]
    fn replies_are_given_up_before_the_answer_would_be_late() {
        let schedule = Schedule {
            first_start_us: 0,
            period_us: 10 * SECOND,
            end_us: None,
            samples: 10,
            interval_us: SECOND,
        };
        let mut sampler = Sampler::new(START, &schedule, Rule::Mean);
        assert_eq!(sampler.reply_by_us(0), START + SECOND);
        let last_us = START + schedule.reply_us();
        assert!(last_us < START + 10 * SECOND);
        assert_eq!(sampler.reply_by_us(9), last_us);
        for k in 0..10 {
            sampler.asked(k, sampler.instant_us(k));
        }
        sampler.advance(last_us - 1, Miss::NotConnected);
        assert!(sampler.finish().is_none());
        sampler.advance(last_us, Miss::NotConnected);
        assert!(sampler.finish().is_some());
    }

    #[test]
    fn a_stepped_clock_ends_in_an_abstention_even_with_enough_samples() {
        let mut sampler = sampler(SECOND, 5);
        for k in 0..4 {
            sampler.asked(k, sampler.instant_us(k));
            sampler.replied(k, Ok(1.0), None);
        }
        sampler.clock_moved();
        let (records, answer, timestamp_us) = sampler.finish().unwrap();
        assert_eq!(
            (answer, timestamp_us),
            (Answer::Abstain(Abstention::ClockMoved), START)
        );
        assert_eq!(records[4].price, Err(Miss::ClockMoved));
        assert_eq!(sampler.due(), None, "no sample is asked for after the step");
    }
}
