//! The bookkeeping of one round: which samples and observations count, and the outcome that they give.
//!
//! It is a pure state machine. It is told what arrived from which slot, and never reads a clock. The aggregator runs it
//! during a round, and a verifier runs it again on the report.
//!
//! Invariant: an observation counts only if
//! - its slot's key signed it, over this round, its terms and exactly the samples received from that slot,
//! - it is the answer that those samples give, and
//! - that key signed no different answer over them.
//!
//! Nobody else's frames can undo what an honest collector sent.

use crate::aggregate::{combine, kept_range};
use crate::answer::{answer, lateness_us_max};
use crate::limits::{CLOSE_MS_MAX, REPLY_MS_MAX};
use crate::reason::{Abstention, Reject};
use crate::record::{Answer, Observation, Record};
use crate::seal::{ObservationContext, observation_bytes, samples_digest};
use crate::source::exchange_of;
use crate::terms::Terms;
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

/// What became of an observation that [`Round::observe`] did not refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// The observation counts.
    Accepted,
    /// Not all samples of its slot have arrived yet. Try again when they have.
    TooEarly,
}

/// One slot's part in the round.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// The samples received so far, in order.
    pub records: Vec<Record>,
    /// The observation that counts.
    pub observation: Option<Observation>,
    /// A different observation that the same key signed.
    pub equivocated: Option<Observation>,
    /// An observation that the same key signed, but that its samples do not give. Any other that the key signs contradicts it.
    pub unfit: Option<Observation>,
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
        self.start_us + self.terms.last_instant_us()
    }

    /// When the round ends, even if observations are missing.
    pub fn deadline_us(&self) -> u64 {
        self.last_instant_us() + (REPLY_MS_MAX + CLOSE_MS_MAX) * 1_000
    }

    /// Takes a sample that arrived on the control connection of `slot`.
    pub fn sample(&mut self, slot: u16, start_us: u64, record: &Record) -> Result<(), Reject> {
        if start_us != self.start_us {
            return Err(Reject::SampleRound);
        }
        let part = &mut self.parts[usize::from(slot)];
        let in_order =
            record.index as usize == part.records.len() && record.index < self.terms.samples;
        if !in_order {
            return Err(Reject::SampleOrder);
        }
        let late = lateness_us_max(self.terms.interval_us);
        if record.lateness_us.is_some_and(|us| us > late) && record.price.is_ok() {
            return Err(Reject::SampleLate);
        }
        part.records.push(*record);
        Ok(())
    }

    /// Takes an observation that arrived on a data connection which named the key of `slot`.
    pub fn observe(
        &mut self,
        slot: u16,
        bytes: &[u8; Observation::BYTES],
    ) -> Result<Observed, Reject> {
        let observation = Observation::decode(bytes)?;
        let latest = self.last_instant_us() + lateness_us_max(self.terms.interval_us);
        if !(self.start_us..=latest).contains(&observation.timestamp_us) {
            return Err(Reject::Timestamp);
        }
        let part = &self.parts[usize::from(slot)];
        if part.observation == Some(observation) || part.equivocated == Some(observation) {
            return Err(Reject::Duplicate);
        }
        if part.records.len() < self.terms.samples as usize {
            return Ok(Observed::TooEarly);
        }
        self.check_signature(slot, &observation)?;
        // A key can sign the same bytes in many ways. Only a different answer contradicts the first.
        if part
            .observation
            .is_some_and(|first| first.says_the_same_as(&observation))
        {
            return Err(Reject::Duplicate);
        }
        if part.observation.is_some() {
            self.parts[usize::from(slot)].equivocated = Some(observation);
            return Err(Reject::Equivocation);
        }
        let fits = self.check_samples(slot, &observation);
        let part = &mut self.parts[usize::from(slot)];
        if let Err(reason) = fits {
            part.unfit = Some(observation);
            return Err(reason);
        }
        part.observation = Some(observation);
        part.equivocated = part.unfit;
        match part.equivocated {
            None => Ok(Observed::Accepted),
            Some(_) => Err(Reject::Equivocation),
        }
    }

    fn check_signature(&self, slot: u16, observation: &Observation) -> Result<(), Reject> {
        let (seat, part) = (
            &self.terms.seats[usize::from(slot)],
            &self.parts[usize::from(slot)],
        );
        let context = ObservationContext {
            terms_digest: &self.digest,
            slot,
            feed: &self.terms.feed,
            source: &seat.source,
            start_us: self.start_us,
            samples: self.terms.samples,
            interval_us: self.terms.interval_us,
            samples_digest: &samples_digest(&part.records),
        };
        let signed = observation_bytes(
            &context,
            observation.answer.to_bits(),
            observation.timestamp_us,
        );
        match &seat.key {
            Some(key) if key.signed(&signed, &observation.signature) => Ok(()),
            _ => Err(Reject::Signature),
        }
    }

    /// Checks that a signed price is the one that its samples give, to the bit. (An abstention is always allowed: nobody
    /// must answer.)
    fn check_samples(&self, slot: u16, observation: &Observation) -> Result<(), Reject> {
        let records = &self.parts[usize::from(slot)].records;
        let Answer::Price(average) = observation.answer else {
            let stamped = observation.timestamp_us == self.start_us;
            return if stamped {
                Ok(())
            } else {
                Err(Reject::TimestampDiffers)
            };
        };
        let terms = &self.terms;
        match answer(records, self.start_us, terms.interval_us, terms.sample_rule) {
            (Answer::Abstain(_), _) => Err(Reject::TooFewSamples),
            (Answer::Price(price), _) if price.to_bits() != average.to_bits() => {
                Err(Reject::AverageDiffers)
            }
            (_, timestamp_us) if timestamp_us != observation.timestamp_us => {
                Err(Reject::TimestampDiffers)
            }
            _ => Ok(()),
        }
    }

    /// Whether an observation of `slot` counts, so that nothing more is needed from it.
    pub fn answered(&self, slot: u16) -> bool {
        self.parts[usize::from(slot)].observation.is_some()
    }

    /// Whether `slot` gave a price.
    pub fn priced(&self, slot: u16) -> bool {
        let observation = &self.parts[usize::from(slot)].observation;
        observation.is_some_and(|observation| matches!(observation.answer, Answer::Price(_)))
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
        let kept = kept_range(self.terms.rule, prices.len(), self.terms.f);
        for (rank, (price, slot)) in prices.iter().enumerate() {
            if !kept.contains(&rank) {
                standings[*slot] = Standing::Trimmed(*price);
            }
        }
        let quorum = prices.len() >= usize::from(self.terms.quorum)
            && self.exchanges_among(&prices) >= self.terms.exchanges_min;
        let values: Vec<f64> = prices.iter().map(|(price, _)| *price).collect();
        let used = &prices[kept];
        let stamp =
            |(_, slot): &(f64, usize)| self.parts[*slot].observation.map(|o| o.timestamp_us);
        let price = combine(self.terms.rule, &values, self.terms.f);
        let oldest_us = used.iter().filter_map(stamp).min();
        let spread = used
            .first()
            .zip(used.last())
            .map(|(low, high)| high.0 - low.0);
        Outcome {
            price: price.filter(|_| quorum),
            timestamp_us: oldest_us.filter(|_| quorum),
            spread: spread.filter(|_| quorum),
            verified: standings
                .iter()
                .filter(|standing| standing.counts())
                .count() as u16,
            prices: prices.len() as u16,
            standings,
        }
    }

    fn exchanges_among(&self, prices: &[(f64, usize)]) -> u16 {
        let exchange = |(_, slot): &(f64, usize)| exchange_of(&self.terms.seats[*slot].source);
        let mut exchanges: Vec<&str> = prices.iter().map(exchange).collect();
        exchanges.sort_unstable();
        exchanges.dedup();
        exchanges.len() as u16
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
    use crate::aggregate::Rule;
    use crate::reason::Miss;
    use crate::seal::tests::SecretKey;
    use crate::terms::Seat;
    use std::prelude::v1::*;

    const START: u64 = 1_790_000_000_000_000;
    const SOURCE: &str = "embedded:BTCUSDT";

    fn key(slot: u16) -> SecretKey {
        SecretKey::from_seed(&[slot as u8 + 10; 32])
    }

    fn terms(n: u16, rule: Rule) -> Terms {
        let f = crate::aggregate::faulty_max(rule, n);
        let seat = |slot| Seat {
            key: Some(key(slot).public()),
            source: SOURCE.into(),
        };
        Terms {
            aggregator: key(99).public(),
            session: [7; 32],
            feed: "BTC/USD".into(),
            rule,
            sample_rule: Rule::Mean,
            f,
            quorum: crate::aggregate::quorum(n, f),
            exchanges_min: 1,
            samples: 5,
            interval_us: 1_000_000,
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
            feed: &round.terms.feed,
            source: SOURCE,
            start_us: round.start_us,
            samples: round.terms.samples,
            interval_us: round.terms.interval_us,
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
        let (answer, timestamp_us) =
            answer(records, round.start_us, round.terms.interval_us, Rule::Mean);
        signed(round, slot, &key(slot), records, answer, timestamp_us)
    }

    fn send_samples(round: &mut Round, slot: u16, records: &[Record]) {
        for record in records {
            round.sample(slot, START, record).unwrap();
        }
    }

    fn play(round: &mut Round, slot: u16, price: f64) {
        let records = records(price);
        send_samples(round, slot, &records);
        let observation = honest(round, slot, &records);
        assert_eq!(
            round.observe(slot, &observation.encode()),
            Ok(Observed::Accepted)
        );
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
        send_samples(&mut round, 2, &missing);
        let abstention = honest(&round, 2, &missing);
        assert_eq!(
            round.observe(2, &abstention.encode()),
            Ok(Observed::Accepted)
        );
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
        send_samples(&mut round, 0, &records);
        let good = honest(&round, 0, &records).encode();
        for bit in 0..640 {
            let mut bytes = good;
            bytes[bit / 8] ^= 1 << (bit % 8);
            let refused = round.observe(0, &bytes).unwrap_err();
            assert!(
                matches!(
                    refused,
                    Reject::Average | Reject::Timestamp | Reject::Signature
                ),
                "bit {bit}: {refused}"
            );
        }
        assert_eq!(round.observe(0, &good), Ok(Observed::Accepted));
        assert_eq!(round.observe(0, &good), Err(Reject::Duplicate));
        assert_eq!(round.outcome().price, Some(87231.42));
    }

    #[test]
    fn an_observation_of_another_round_feed_slot_or_session_does_not_check() {
        let records = records(10.0);
        type Change = fn(&mut Round);
        let others: [Change; 4] = [
            |other| other.start_us -= 1_000_000,
            |other| other.terms.feed = "ETH/USD".into(),
            |other| other.terms.session[0] ^= 1,
            |other| other.terms.seats.swap(0, 1),
        ];
        let mut round = Round::new(terms(2, Rule::TrimmedMean), START);
        send_samples(&mut round, 0, &records);
        for change in others {
            let mut other = Round::new(terms(2, Rule::TrimmedMean), START);
            change(&mut other);
            let other = Round::new(other.terms, other.start_us);
            let (answer, timestamp_us) = answer(&records, START, 1_000_000, Rule::Mean);
            let observation = signed(&other, 0, &key(0), &records, answer, timestamp_us);
            assert_eq!(
                round.observe(0, &observation.encode()),
                Err(Reject::Signature)
            );
        }
        let of_slot_1 = honest(&round, 1, &records);
        assert_eq!(
            round.observe(0, &of_slot_1.encode()),
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
            send_samples(&mut round, 0, &records);
            let observation = signed(&round, 0, &key(0), &records, answer, timestamp_us);
            assert_eq!(round.observe(0, &observation.encode()), Err(reason));
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
        send_samples(&mut round, 0, &sent);
        assert_eq!(
            round.observe(0, &observation.encode()),
            Err(Reject::Signature)
        );
        let mut few = records(10.0);
        for record in &mut few[..2] {
            record.price = Err(Miss::NotDecimal);
        }
        send_samples(&mut round, 1, &few);
        let observation = signed(
            &round,
            1,
            &key(1),
            &few,
            Answer::Price(10.0),
            START + 4_000_002,
        );
        assert_eq!(
            round.observe(1, &observation.encode()),
            Err(Reject::TooFewSamples)
        );
    }

    #[test]
    fn samples_come_once_in_order_for_this_round_and_not_too_late() {
        let mut round = Round::new(terms(1, Rule::TrimmedMean), START);
        let record = |index, lateness_us| Record {
            index,
            price: Ok(10.0),
            lateness_us: Some(lateness_us),
            age_us: None,
        };
        let mut sample =
            |start_us, index, lateness_us| round.sample(0, start_us, &record(index, lateness_us));
        assert_eq!(sample(START, 1, 0), Err(Reject::SampleOrder));
        assert_eq!(sample(START, 0, 0), Ok(()));
        assert_eq!(sample(START, 0, 0), Err(Reject::SampleOrder));
        assert_eq!(sample(START + 1, 1, 0), Err(Reject::SampleRound));
        assert_eq!(sample(START, 1, 500_001), Err(Reject::SampleLate));
        for index in 1..5 {
            assert_eq!(sample(START, index, 500_000), Ok(()));
        }
        assert_eq!(sample(START, 5, 0), Err(Reject::SampleOrder));
    }

    #[test]
    fn an_observation_before_its_samples_waits_for_them() {
        let mut round = Round::new(terms(1, Rule::TrimmedMean), START);
        let records = records(10.0);
        let observation = honest(&round, 0, &records).encode();
        send_samples(&mut round, 0, &records[..4]);
        assert_eq!(round.observe(0, &observation), Ok(Observed::TooEarly));
        round.sample(0, START, &records[4]).unwrap();
        assert_eq!(round.observe(0, &observation), Ok(Observed::Accepted));
    }

    #[test]
    fn two_signed_answers_exclude_each_other_in_either_order() {
        let price = |price| (Answer::Price(price), START + 4_000_002);
        for answers in [[price(10.0), price(11.0)], [price(11.0), price(10.0)]] {
            let mut round = Round::new(terms(1, Rule::TrimmedMean), START);
            let records = records(10.0);
            send_samples(&mut round, 0, &records);
            let heard = answers.map(|(answer, timestamp_us)| {
                let observation = signed(&round, 0, &key(0), &records, answer, timestamp_us);
                round.observe(0, &observation.encode())
            });
            assert_eq!(heard[1], Err(Reject::Equivocation), "after {:?}", heard[0]);
            assert_eq!(round.outcome().standings, [Standing::Equivocated]);
        }
    }

    /// By the key of slot 0, over its honest answer below, with another nonce than RFC 8032's: r is the SHA-512 of
    /// "another nonce", R = r B, S = r + H(R, A, M) a.
    const OTHER_SIGNATURE: &str = "156066fae0212dbd64f85f330238e93fc600324b4b2f16a8a21ca59aeede783c56be6948e708e6a739132f705d5cf8f44e548d5c653ea56a7f7db5307665ef02";

    #[test]
    fn the_same_answer_signed_again_is_a_duplicate_and_no_contradiction() {
        let mut round = Round::new(terms(1, Rule::TrimmedMean), START);
        let records = records(10.0);
        send_samples(&mut round, 0, &records);
        let price = Answer::Price(10.0);
        let first = signed(&round, 0, &key(0), &records, price, START + 4_000_002);
        let second = Observation {
            signature: crate::seal::unhex(OTHER_SIGNATURE).expect("64 bytes"),
            ..first
        };
        assert_ne!(first, second);
        // Each one counts by itself.
        let mut alone = Round::new(terms(1, Rule::TrimmedMean), START);
        send_samples(&mut alone, 0, &records);
        assert_eq!(alone.observe(0, &second.encode()), Ok(Observed::Accepted));
        assert_eq!(round.observe(0, &first.encode()), Ok(Observed::Accepted));
        assert_eq!(round.observe(0, &second.encode()), Err(Reject::Duplicate));
        assert_eq!(round.outcome().standings, [Standing::Used(10.0)]);
    }

    #[test]
    fn two_signed_answers_of_one_key_exclude_each_other() {
        let mut round = Round::new(terms(4, Rule::TrimmedMean), START);
        (0..4).for_each(|slot| play(&mut round, slot, 10.0));
        let second = signed(
            &round,
            3,
            &key(3),
            &records(10.0),
            Answer::Abstain(Abstention::ClockMoved),
            START,
        );
        assert_eq!(
            round.observe(3, &second.encode()),
            Err(Reject::Equivocation)
        );
        assert_eq!(round.observe(3, &second.encode()), Err(Reject::Duplicate));
        let outcome = round.outcome();
        assert_eq!(
            (outcome.standings[3], outcome.prices, outcome.price),
            (Standing::Equivocated, 3, Some(10.0))
        );
    }
}
