//! The bookkeeping of one round: which samples and observations count, and the outcome that they give.
//!
//! It is a pure state machine. It is told what arrived from which slot, and never reads a clock. The aggregator runs it
//! during a round, and a verifier runs it again on the report.
//!
//! Invariant: an observation counts only if
//! - its slot's key signed it, over this round, its terms and exactly the samples that came with it,
//! - it is the answer that those samples give, and
//! - that key signed no different answer for this round, as far as was seen.
//!
//! Nobody else's frames can undo what an honest collector sent.

use crate::aggregate::{kept_range, mean_of_ascending};
use crate::answer::answer;
use crate::reason::{Abstention, Reject};
use crate::record::{Answer, Observation, Record, SignedAnswer};
use crate::seal::samples_digest;
use crate::source::exchange_of;
use crate::terms::Terms;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// The standing of a slot at the end of the round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Standing {
    /// No observation counts.
    Silent,
    /// A price that the rule used.
    Used(f64),
    /// A price that the rule dropped as one of the lowest or highest.
    Trimmed(f64),
    /// A signed abstention.
    Abstained(Abstention),
    /// Two different signed answers.
    Equivocated,
}

impl Standing {
    /// Whether a signed answer counts, be it a price or an abstention.
    fn counts(&self) -> bool {
        !matches!(self, Standing::Silent | Standing::Equivocated)
    }
}

/// One slot's part in the round.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// The samples of the observation that counts; empty without one.
    pub records: Vec<Record>,
    /// The observation that counts.
    pub observation: Option<Observation>,
    /// A different answer that the same key signed.
    pub equivocated: Option<SignedAnswer>,
    /// An answer that the same key signed, but that does not follow from its samples. Any other answer that the key signs
    /// contradicts it.
    pub unfit: Option<SignedAnswer>,
}

/// One round.
pub struct Round {
    /// Its terms.
    pub terms: Terms,
    /// The terms' digest.
    pub digest: [u8; 32],
    /// Instant of sample 0, microseconds since the Unix epoch.
    pub start_us: u64,
    /// Every slot's part.
    pub parts: Vec<Part>,
}

/// The outcome of a round.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The standing of every slot.
    pub standings: Vec<Standing>,
    /// The price; `None` below the quorum.
    pub price: Option<f64>,
    /// The price's timestamp: the oldest one of the observations used, microseconds since the Unix epoch.
    pub timestamp_us: Option<u64>,
    /// Highest minus lowest price used; `None` below the quorum.
    pub spread: Option<f64>,
    /// How many observations count, including abstentions.
    pub verified: u16,
    /// How many of them are prices.
    pub prices: u16,
}

impl Round {
    /// A round that begins at `start_us`.
    pub fn new(terms: Terms, start_us: u64) -> Round {
        let parts = vec![Part::default(); terms.seats.len()];
        Round {
            digest: terms.digest(),
            terms,
            start_us,
            parts,
        }
    }

    /// Instant of the last sample.
    pub fn last_instant_us(&self) -> u64 {
        self.start_us + self.terms.schedule.last_us()
    }

    /// When the round ends, even if observations are missing.
    pub fn end_us(&self) -> u64 {
        self.start_us + self.terms.schedule.length_us()
    }

    /// Takes an observation for `slot`, and the samples that came with it, each checked by [`Terms::check_record`].
    pub fn take(
        &mut self,
        slot: u16,
        records: &[Record],
        observation: Observation,
    ) -> Result<(), Reject> {
        let latest = self.last_instant_us() + self.terms.schedule.lateness_us_max();
        if !(self.start_us..=latest).contains(&observation.timestamp_us) {
            return Err(Reject::Timestamp);
        }
        let part = &self.parts[usize::from(slot)];
        let second = part.equivocated.map(|second| second.observation);
        if part.observation == Some(observation) || second == Some(observation) {
            return Err(Reject::Duplicate);
        }
        if records.len() < self.terms.schedule.samples as usize {
            return Err(Reject::SamplesMissing);
        }
        let signed = SignedAnswer {
            samples_digest: samples_digest(records),
            observation,
        };
        if !self.is_signed(slot, &signed) {
            return Err(Reject::Signature);
        }
        if let Some(first) = part.signed_answer() {
            // A key can sign the same answer in many ways. Only a different one contradicts the first.
            if first.says_the_same_as(&signed) {
                return Err(Reject::Duplicate);
            }
            let equivocated = &mut self.parts[usize::from(slot)].equivocated;
            equivocated.get_or_insert(signed);
            return Err(Reject::Equivocation);
        }
        let fits = self.check_samples(records, &observation);
        let part = &mut self.parts[usize::from(slot)];
        if let Err(reason) = fits {
            part.unfit = Some(signed);
            return Err(reason);
        }
        part.records = records.to_vec();
        part.observation = Some(observation);
        part.equivocated = part.unfit;
        match part.equivocated {
            None => Ok(()),
            Some(_) => Err(Reject::Equivocation),
        }
    }

    /// Whether the key of `slot` signed this answer for this round.
    pub(crate) fn is_signed(&self, slot: u16, signed: &SignedAnswer) -> bool {
        let key = &self.terms.seats[usize::from(slot)].key;
        key.is_some_and(|key| key.answered(&self.digest, slot, self.start_us, signed))
    }

    /// Checks that a signed price is the one that its samples give, to the bit. (An abstention is always allowed: nobody
    /// must answer.)
    fn check_samples(&self, records: &[Record], observation: &Observation) -> Result<(), Reject> {
        let (said, schedule) = (observation.answer, &self.terms.schedule);
        let (interval_us, rule) = (schedule.interval_us, self.terms.sample_rule);
        let (gives, timestamp_us) = match said {
            Answer::Price(_) => answer(records, self.start_us, interval_us, rule),
            Answer::Abstain(_) => (said, self.start_us),
        };
        match (gives, said) {
            (Answer::Abstain(_), Answer::Price(_)) => Err(Reject::TooFewSamples),
            _ if gives.to_bits() != said.to_bits() => Err(Reject::AverageDiffers),
            _ if timestamp_us != observation.timestamp_us => Err(Reject::TimestampDiffers),
            _ => Ok(()),
        }
    }

    /// Whether an observation of `slot` counts, so that nothing more is needed from it.
    pub fn answered(&self, slot: u16) -> bool {
        self.parts[usize::from(slot)].observation.is_some()
    }

    /// The outcome, from what has arrived so far.
    pub fn outcome(&self) -> Outcome {
        let mut standings: Vec<Standing> = self.parts.iter().map(Part::standing).collect();
        let mut prices: Vec<(f64, usize)> = Vec::new();
        for (slot, standing) in standings.iter().enumerate() {
            if let Standing::Used(price) = standing {
                prices.push((*price, slot));
            }
        }
        prices.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let kept = kept_range(self.terms.rule, prices.len(), self.terms.f());
        for (rank, (price, slot)) in prices.iter().enumerate() {
            if !kept.contains(&rank) {
                standings[*slot] = Standing::Trimmed(*price);
            }
        }
        let exchange = |(_, slot): &(f64, usize)| exchange_of(&self.terms.seats[*slot].source);
        let exchanges: BTreeSet<&str> = prices.iter().map(exchange).collect();
        let quorum = prices.len() >= usize::from(self.terms.quorum())
            && exchanges.len() >= usize::from(self.terms.exchanges_min);
        let used = &prices[kept];
        let stamp = |at: &(f64, usize)| self.parts[at.1].observation.map(|o| o.timestamp_us);
        let oldest_us = used.iter().filter_map(stamp).min();
        let ascending: Vec<f64> = used.iter().map(|(price, _)| *price).collect();
        let price = mean_of_ascending(&ascending);
        let ends = ascending.first().zip(ascending.last());
        let spread = ends.map(|(low, high)| high - low);
        Outcome {
            price: price.filter(|_| quorum),
            timestamp_us: oldest_us.filter(|_| quorum),
            spread: spread.filter(|_| quorum),
            verified: standings.iter().filter(|it| it.counts()).count() as u16,
            prices: prices.len() as u16,
            standings,
        }
    }
}

impl Part {
    /// The age of its oldest priced sample, in microseconds. `None` if it stands without a price, or its exchange did not give
    /// the times of all of them.
    pub fn age_us(&self) -> Option<u64> {
        let stands = matches!(self.standing(), Standing::Used(_));
        let valid = self.records.iter().filter(|record| record.price.is_ok());
        let ages: Option<Vec<u64>> = valid.map(|record| record.age_us).collect();
        ages.filter(|_| stands)?.into_iter().max()
    }

    /// The observation that counts, with the digest of its samples.
    pub fn signed_answer(&self) -> Option<SignedAnswer> {
        Some(SignedAnswer {
            samples_digest: samples_digest(&self.records),
            observation: self.observation?,
        })
    }

    fn standing(&self) -> Standing {
        match (&self.equivocated, &self.observation) {
            (Some(_), _) => Standing::Equivocated,
            (None, None) => Standing::Silent,
            (None, Some(observation)) => match observation.answer {
                Answer::Price(price) => Standing::Used(price),
                Answer::Abstain(why) => Standing::Abstained(why),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::{Rule, combine};
    use crate::reason::Miss;
    use crate::schedule::Schedule;
    use crate::seal::tests::SecretKey;
    use crate::seal::{ObservationContext, observation_bytes};
    use crate::terms::Seat;
    use std::prelude::v1::*;

    const START: u64 = 1_790_000_000_000_000;
    const SOURCE: &str = "embedded:BTCUSDT";

    fn key(slot: u16) -> SecretKey {
        SecretKey::from_seed(&[slot as u8 + 10; 32])
    }

    fn terms(n: u16, rule: Rule) -> Terms {
        let seat = |slot| Seat {
            key: Some(key(slot).public()),
            source: SOURCE.into(),
        };
        Terms {
            feed: "BTC/USD".into(),
            rule,
            sample_rule: Rule::Mean,
            exchanges_min: 1,
            age_us_max: None,
            spread_ppm_max: None,
            schedule: Schedule {
                first_start_us: START,
                period_us: 0,
                end_us: None,
                samples: 5,
                interval_us: 1_000_000,
            },
            seats: (0..n).map(seat).collect(),
        }
    }

    fn records(price: f64) -> Vec<Record> {
        (0..5)
            .map(|index| Record {
                index,
                price: Ok(price),
                lateness_us: Some(2),
                age_us: None,
            })
            .collect()
    }

    /// What the collector of `slot` would send for these samples, signed by `signer`.
    fn signed(
        round: &Round,
        slot: u16,
        signer: &SecretKey,
        records: &[Record],
        answer: Answer,
        timestamp_us: u64,
    ) -> Observation {
        let context = ObservationContext {
            terms_digest: &round.digest,
            slot,
            start_us: round.start_us,
            samples_digest: &samples_digest(records),
        };
        let signature = signer.sign(&observation_bytes(&context, answer.to_bits(), timestamp_us));
        Observation {
            answer,
            timestamp_us,
            signature,
        }
    }

    fn honest(round: &Round, slot: u16, records: &[Record]) -> Observation {
        let (answer, timestamp_us) = answer(records, round.start_us, 1_000_000, Rule::Mean);
        signed(round, slot, &key(slot), records, answer, timestamp_us)
    }

    fn play(round: &mut Round, slot: u16, price: f64) {
        let records = records(price);
        let observation = honest(round, slot, &records);
        assert_eq!(round.observe(slot, &records, &observation.encode()), Ok(()));
    }

    #[test]
    fn five_honest_collectors_make_a_price() {
        let mut round = Round::new(terms(5, Rule::TrimmedMean), START);
        for (slot, price) in [10.0, 12.0, 11.0, 14.0, 13.0].into_iter().enumerate() {
            play(&mut round, slot as u16, price);
        }
        let outcome = round.outcome();
        assert_eq!(
            (
                outcome.price,
                outcome.spread,
                outcome.verified,
                outcome.prices
            ),
            (Some(12.0), Some(2.0), 5, 5)
        );
        assert_eq!(outcome.timestamp_us, Some(START + 4_000_002));
        assert_eq!(outcome.standings[0], Standing::Trimmed(10.0));
        assert_eq!(outcome.standings[1], Standing::Used(12.0));
        assert_eq!(outcome.standings[3], Standing::Trimmed(14.0));
    }

    #[test]
    fn a_liar_and_a_crash_at_once_leave_the_price_within_the_honest_ones() {
        let mut round = Round::new(terms(5, Rule::TrimmedMean), START);
        for (slot, price) in [(0, 94112.35), (1, 941123.5), (2, 94112.36), (4, 94112.35)] {
            play(&mut round, slot, price);
        }
        let outcome = round.outcome();
        assert_eq!(outcome.price, combine(Rule::Mean, &[94112.35, 94112.36], 0));
        assert_eq!(
            (outcome.standings[1], outcome.standings[3]),
            (Standing::Trimmed(941123.5), Standing::Silent)
        );
    }

    #[test]
    fn below_the_quorum_there_is_no_price_and_abstentions_do_not_count() {
        let mut round = Round::new(terms(5, Rule::TrimmedMean), START);
        play(&mut round, 0, 10.0);
        play(&mut round, 1, 10.0);
        let mut missing = records(10.0);
        missing[0] = Record {
            index: 0,
            price: Err(Miss::NoReply),
            lateness_us: Some(1),
            age_us: None,
        };
        missing[1] = Record {
            index: 1,
            price: Err(Miss::NotConnected),
            lateness_us: None,
            age_us: None,
        };
        let abstention = honest(&round, 2, &missing).encode();
        assert_eq!(round.observe(2, &missing, &abstention), Ok(()));
        let outcome = round.outcome();
        assert_eq!(
            (
                outcome.price,
                outcome.timestamp_us,
                outcome.verified,
                outcome.prices
            ),
            (None, None, 3, 2)
        );
        assert_eq!(
            outcome.standings[2],
            Standing::Abstained(Abstention::TooFewSamples)
        );
    }

    #[test]
    fn quorum_counts_distinct_exchanges_where_the_terms_ask_for_it() {
        let mut terms = terms(3, Rule::TrimmedMean);
        terms.exchanges_min = 2;
        let mut round = Round::new(terms, START);
        (0..3).for_each(|slot| play(&mut round, slot, 10.0));
        assert_eq!(round.outcome().price, None);
    }

    #[test]
    fn any_flipped_bit_is_refused_and_the_honest_observation_still_counts() {
        let mut round = Round::new(terms(1, Rule::TrimmedMean), START);
        let records = records(87231.42);
        let good = honest(&round, 0, &records).encode();
        for bit in 0..640 {
            let mut bytes = good;
            bytes[bit / 8] ^= 1 << (bit % 8);
            let refused = round.observe(0, &records, &bytes).unwrap_err();
            assert!(
                matches!(
                    refused,
                    Reject::Average | Reject::Timestamp | Reject::Signature
                ),
                "bit {bit}: {refused}"
            );
        }
        assert_eq!(round.observe(0, &records, &good), Ok(()));
        assert_eq!(round.observe(0, &records, &good), Err(Reject::Duplicate));
        assert_eq!(round.outcome().price, Some(87231.42));
    }

    #[test]
    fn an_observation_of_another_round_feed_or_slot_does_not_check() {
        let records = records(10.0);
        type Change = fn(&mut Round);
        let others: [Change; 3] = [
            |other| other.start_us -= 1_000_000,
            |other| other.terms.feed = "ETH/USD".into(),
            |other| other.terms.seats.swap(0, 1),
        ];
        let mut round = Round::new(terms(2, Rule::TrimmedMean), START);
        for change in others {
            let mut other = Round::new(terms(2, Rule::TrimmedMean), START);
            change(&mut other);
            let other = Round::new(other.terms, other.start_us);
            let (answer, timestamp_us) = answer(&records, START, 1_000_000, Rule::Mean);
            let observation = signed(&other, 0, &key(0), &records, answer, timestamp_us);
            assert_eq!(
                round.observe(0, &records, &observation.encode()),
                Err(Reject::Signature)
            );
        }
        let of_slot_1 = honest(&round, 1, &records);
        assert_eq!(
            round.observe(0, &records, &of_slot_1.encode()),
            Err(Reject::Signature)
        );
    }

    #[test]
    fn averages_and_times_that_their_samples_do_not_give_are_refused_although_signed() {
        let records = records(10.0);
        let stamp = START + 4_000_002;
        let cases = [
            (Answer::Price(10.1), stamp, Reject::AverageDiffers),
            (Answer::Price(10.0), stamp - 1, Reject::TimestampDiffers),
            (Answer::Price(10.0), START - 1, Reject::Timestamp),
            (Answer::Price(10.0), START + 4_500_001, Reject::Timestamp),
            (
                Answer::Abstain(Abstention::ClockMoved),
                stamp,
                Reject::TimestampDiffers,
            ),
        ];
        for (answer, timestamp_us, reason) in cases {
            let mut round = Round::new(terms(1, Rule::TrimmedMean), START);
            let observation = signed(&round, 0, &key(0), &records, answer, timestamp_us);
            assert_eq!(
                round.observe(0, &records, &observation.encode()),
                Err(reason)
            );
        }
    }

    #[test]
    fn samples_other_than_those_signed_do_not_check_and_too_few_valid_ones_make_no_price() {
        let mut round = Round::new(terms(2, Rule::TrimmedMean), START);
        let (seen, sent) = (
            records(10.0),
            records(10.0)
                .into_iter()
                .map(|r| Record {
                    lateness_us: Some(3),
                    ..r
                })
                .collect::<Vec<_>>(),
        );
        let observation = honest(&round, 0, &seen);
        assert_eq!(
            round.observe(0, &sent, &observation.encode()),
            Err(Reject::Signature)
        );
        let mut few = records(10.0);
        for record in &mut few[..2] {
            record.price = Err(Miss::NotDecimal);
        }
        let observation = signed(
            &round,
            1,
            &key(1),
            &few,
            Answer::Price(10.0),
            START + 4_000_002,
        );
        assert_eq!(
            round.observe(1, &few, &observation.encode()),
            Err(Reject::TooFewSamples)
        );
    }

    #[test]
    fn an_observation_before_its_samples_does_not_count_yet() {
        let mut round = Round::new(terms(1, Rule::TrimmedMean), START);
        let records = records(10.0);
        let observation = honest(&round, 0, &records).encode();
        let few = round.observe(0, &records[..4], &observation);
        assert_eq!(few, Err(Reject::SamplesMissing));
        assert_eq!(round.observe(0, &records, &observation), Ok(()));
    }

    #[test]
    fn the_same_average_of_other_samples_is_another_answer() {
        let mut round = Round::new(terms(1, Rule::TrimmedMean), START);
        play(&mut round, 0, 10.0);
        let mut others = records(10.0);
        others[0].lateness_us = Some(3);
        let second = honest(&round, 0, &others).encode();
        assert_eq!(
            round.observe(0, &others, &second),
            Err(Reject::Equivocation)
        );
        assert_eq!(round.outcome().standings, [Standing::Equivocated]);
    }

    #[test]
    fn two_signed_answers_exclude_each_other_in_either_order() {
        let price = |price| (Answer::Price(price), START + 4_000_002);
        for answers in [[price(10.0), price(11.0)], [price(11.0), price(10.0)]] {
            let mut round = Round::new(terms(1, Rule::TrimmedMean), START);
            let records = records(10.0);
            let heard = answers.map(|(answer, timestamp_us)| {
                let observation = signed(&round, 0, &key(0), &records, answer, timestamp_us);
                round.observe(0, &records, &observation.encode())
            });
            assert_eq!(heard[1], Err(Reject::Equivocation), "after {:?}", heard[0]);
            assert_eq!(round.outcome().standings, [Standing::Equivocated]);
        }
    }

    /// By the key of slot 0, over its honest answer below, with another nonce than RFC 8032's: r is the SHA-512 of
    /// "another nonce", R = r B, S = r + H(R, A, M) a.
    const OTHER_SIGNATURE: &str = "156066fae0212dbd64f85f330238e93fc600324b4b2f16a8a21ca59aeede783cf9e33f0d8d2b03c5a553089f759bc146ef2f3fbbf0c92c59db2d8df6fc2bbf0e";

    #[test]
    fn the_same_answer_signed_again_is_a_duplicate_and_no_contradiction() {
        let mut round = Round::new(terms(1, Rule::TrimmedMean), START);
        let records = records(10.0);
        let price = Answer::Price(10.0);
        let first = signed(&round, 0, &key(0), &records, price, START + 4_000_002);
        let second = Observation {
            signature: crate::seal::unhex(OTHER_SIGNATURE).expect("64 bytes"),
            ..first
        };
        assert_ne!(first, second);
        // Each one counts by itself.
        let mut alone = Round::new(terms(1, Rule::TrimmedMean), START);
        assert_eq!(alone.observe(0, &records, &second.encode()), Ok(()));
        assert_eq!(round.observe(0, &records, &first.encode()), Ok(()));
        assert_eq!(
            round.observe(0, &records, &second.encode()),
            Err(Reject::Duplicate)
        );
        assert_eq!(round.outcome().standings, [Standing::Used(10.0)]);
    }

    #[test]
    fn two_signed_answers_of_one_key_exclude_each_other() {
        let mut round = Round::new(terms(4, Rule::TrimmedMean), START);
        (0..4).for_each(|slot| play(&mut round, slot, 10.0));
        let records = records(10.0);
        let second = signed(
            &round,
            3,
            &key(3),
            &records,
            Answer::Abstain(Abstention::ClockMoved),
            START,
        );
        assert_eq!(
            round.observe(3, &records, &second.encode()),
            Err(Reject::Equivocation)
        );
        assert_eq!(
            round.observe(3, &records, &second.encode()),
            Err(Reject::Duplicate)
        );
        let outcome = round.outcome();
        assert_eq!(
            (outcome.standings[3], outcome.prices, outcome.price),
            (Standing::Equivocated, 3, Some(10.0))
        );
    }
}
