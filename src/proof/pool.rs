//! Pools the reports of one round: several aggregators may have received different answers, and one price follows from all of
//! them.
//!
//! Invariant: the same reports give the same price, in whatever order they come, and whatever policies their aggregators have. A
//! slot that contradicts itself does not count, be it within a report or between two.

use crate::publish::{Policy, decide};
use crate::report::{Proof, Refused, Report};
use crate::round::{Part, Round};
use alloc::vec::Vec;
use core::cmp::Reverse;

/// The reports of one round, pooled.
pub struct Pool {
    /// What all their answers give by the terms alone, as a report that no aggregator has signed.
    pub report: Report,
    /// Which of the reports counts instead, if the pool has no quorum.
    pub stands: Option<usize>,
    /// For each report, the slots that it calls silent though another report has their answer.
    pub left_out: Vec<Vec<u16>>,
    /// Lies that none of the reports shows by itself.
    pub lies: Vec<Proof>,
}

impl Pool {
    /// Pools at least one report. All of them are of one terms digest and start, and each is valid by itself.
    pub fn of(reports: &[&Report]) -> Pool {
        let first = &reports[0].round;
        let same = |one: &&Report| (one.round.digest, one.round.start_us);
        assert!(
            reports.iter().map(same).all(|one| one == same(&reports[0])),
            "they are of one round"
        );
        let slots = 0..first.parts.len();
        let parts_of = |slot: usize| reports.iter().map(move |one| &one.round.parts[slot]);
        let parts: Vec<Part> = slots.clone().map(|slot| pooled(parts_of(slot))).collect();
        let lies = slots.clone().filter_map(|slot| {
            let is_news = parts_of(slot).all(|part| part.equivocated.is_none());
            let answers = [parts[slot].signed_answer()?, parts[slot].equivocated?];
            is_news.then_some(Proof {
                key: first.terms.seats[slot].key?,
                terms_digest: first.digest,
                slot: slot as u16,
                start_us: first.start_us,
                answers,
            })
        });
        let lies = lies.collect();
        let silent = |part: &Part| part.observation.is_none();
        let left_out = |report: &&Report| {
            let hidden =
                |slot: &usize| silent(&report.round.parts[*slot]) && !silent(&parts[*slot]);
            let hidden = slots.clone().filter(hidden);
            hidden.map(|slot| slot as u16).collect()
        };
        let left_out = reports.iter().map(left_out).collect();
        let round = Round {
            terms: first.terms.clone(),
            parts,
            ..*first
        };
        let (nobody, policy) = (reports[0].aggregator, Policy::default());
        let report = Report::new(0, nobody, round, Refused::new(), policy, None);
        let rank = |at: &usize| {
            let report = reports[*at];
            let lower = Reverse((*report.aggregator.bytes(), report.signature));
            (report.outcome.prices, lower)
        };
        let best = (0..reports.len()).max_by_key(rank);
        Pool {
            stands: best.filter(|_| report.outcome.price.is_none()),
            report,
            left_out,
            lies,
        }
    }
}

/// One slot's part in the pool: the first answer, and the first one that differs from it.
fn pooled<'a>(parts: impl Iterator<Item = &'a Part>) -> Part {
    let mut pooled = Part::default();
    let mut first = None;
    for part in parts {
        let Some(answer) = part.signed_answer() else {
            continue;
        };
        let Some(first) = &first else {
            (pooled, first) = (part.clone(), Some(answer));
            continue;
        };
        let both = [Some(answer), part.equivocated].into_iter().flatten();
        let mut others = both.filter(|other| !other.says_the_same_as(first));
        pooled.equivocated = pooled.equivocated.or(others.next());
    }
    pooled
}

/// The price that the terms give from a report's answers, whatever its aggregator's policy.
pub fn price_by_terms(report: &Report) -> Option<f64> {
    let spread_ppm_max = report.round.terms.spread_ppm_max;
    let decision = decide(&report.outcome, spread_ppm_max, &Policy::default(), None);
    report.outcome.price.filter(|_| decision.has_price())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::Rule;
    use crate::answer::answer;
    use crate::publish::{Decision, PublishedPrice};
    use crate::reason::Reject;
    use crate::record::{Observation, Record};
    use crate::round::Standing;
    use crate::schedule::Schedule;
    use crate::seal::tests::SecretKey;
    use crate::seal::{ObservationContext, observation_bytes, samples_digest};
    use crate::terms::{Seat, Terms};
    use std::prelude::v1::*;

    const START_US: u64 = 1_795_343_400_000_000;
    const KRAKEN: &str = "kraken:BTC/USD";

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed(&[seed; 32])
    }

    /// Five slots, of which one may lie and three must give a price.
    fn terms() -> Terms {
        let seat = |slot: u8| Seat {
            key: Some(key(slot + 10).public()),
            source: if slot < 3 { KRAKEN } else { "okx:BTC-USD" }.into(),
        };
        Terms {
            feed: "BTC/USD".into(),
            rule: Rule::TrimmedMean,
            sample_rule: Rule::Mean,
            exchanges_min: 1,
            age_us_max: None,
            spread_ppm_max: None,
            schedule: Schedule {
                first_start_us: START_US,
                period_us: 10_000_000,
                end_us: None,
                samples: 1,
                interval_us: 1_000_000,
            },
            seats: (0..5).map(seat).collect(),
        }
    }

    /// A round in which these slots answer these prices. The third part of each is the age of its sample.
    fn round(terms: &Terms, prices: &[(u16, f64, u64)]) -> Round {
        let mut round = Round::new(terms.clone(), START_US);
        for (slot, price, age_us) in prices {
            let records = [Record {
                index: 0,
                price: Ok(*price),
                lateness_us: Some(7),
                age_us: Some(*age_us),
            }];
            let (answer, timestamp_us) = answer(&records, START_US, 1_000_000, Rule::Mean);
            let context = ObservationContext {
                terms_digest: &round.digest,
                slot: *slot,
                start_us: START_US,
                samples_digest: &samples_digest(&records),
            };
            let bytes = observation_bytes(&context, answer.to_bits(), timestamp_us);
            let observation = Observation {
                answer,
                timestamp_us,
                signature: key(*slot as u8 + 10).sign(&bytes),
            };
            let is_second = round.answered(*slot);
            let heard = round.observe(*slot, &records, &observation.encode());
            let expected = is_second.then_some(Reject::Equivocation);
            assert_eq!(heard.err(), expected);
        }
        round
    }

    /// The report of an aggregator, which published a price before.
    fn report(aggregator: u8, round: Round, policy: Policy) -> Report {
        let last = PublishedPrice {
            number: 1,
            price: 100.0,
            time_us: START_US - 1,
        };
        let key = key(aggregator);
        let mut report = Report::new(2, key.public(), round, Refused::new(), policy, Some(last));
        report.signature = key.sign(&report.signed_bytes());
        report
    }

    fn plain(aggregator: u8, prices: &[(u16, f64, u64)]) -> Report {
        report(aggregator, round(&terms(), prices), Policy::default())
    }

    /// Pools two reports in both orders. The result is the same, except for the order of what it says about each.
    fn pooled_price(one: &Report, other: &Report) -> (Pool, Option<f64>) {
        let (pool, turned) = (Pool::of(&[one, other]), Pool::of(&[other, one]));
        assert_eq!(turned.report.outcome, pool.report.outcome);
        assert_eq!(turned.stands.map(|at| 1 - at), pool.stands);
        assert_eq!(turned.lies.len(), pool.lies.len());
        assert_eq!(turned.left_out[1], pool.left_out[0]);
        let price = pool.report.price();
        (pool, price)
    }

    #[test]
    fn what_one_left_out_the_other_adds() {
        let one = plain(1, &[(0, 100.0, 0), (1, 101.0, 0), (2, 102.0, 0)]);
        let other = plain(2, &[(2, 102.0, 0), (3, 103.0, 0), (4, 104.5, 0)]);
        assert_eq!((one.price(), other.price()), (Some(101.0), Some(103.0)));
        let (pool, price) = pooled_price(&one, &other);
        assert_eq!(price, Some(102.0));
        assert_eq!(pool.report.outcome.prices, 5);
        assert_eq!(pool.left_out, [[3, 4], [0, 1]]);
        assert_eq!((pool.stands, pool.lies.len()), (None, 0));
        let alone = Pool::of(&[&one]);
        assert_eq!(alone.report.price(), Some(101.0));
        assert_eq!(alone.left_out, [[]]);
    }

    #[test]
    fn a_slot_that_told_each_another_answer_is_dropped_and_proved_to_lie() {
        let one = plain(
            1,
            &[(0, 100.0, 5), (1, 101.0, 0), (2, 102.0, 0), (3, 103.0, 0)],
        );
        // Another price, or the same price of other samples.
        for lie in [(0, 999.0, 5), (0, 100.0, 6)] {
            let other = plain(2, &[lie, (1, 101.0, 0), (2, 102.0, 0), (3, 103.0, 0)]);
            let (pool, price) = pooled_price(&one, &other);
            assert_eq!(price, Some(102.0));
            assert_eq!(pool.report.outcome.standings[0], Standing::Equivocated);
            assert_eq!(pool.left_out, [[], []]);
            let proof = &pool.lies[0];
            assert_eq!(proof.flaws(), Vec::<String>::new());
            assert_eq!((proof.key, proof.slot), (key(10).public(), 0));
        }
    }

    #[test]
    fn the_same_answer_under_another_signature_is_no_lie() {
        let prices = [(0, 100.0, 0), (1, 101.0, 0), (2, 102.0, 0)];
        let (one, mut other) = (plain(1, &prices), plain(2, &prices));
        let again = &mut other.round.parts[0].observation;
        again.as_mut().expect("an answer").signature = [1; 64];
        let (pool, price) = pooled_price(&one, &other);
        assert_eq!((price, pool.lies.len()), (Some(101.0), 0));
        assert_eq!(pool.left_out, [[], []]);
    }

    #[test]
    fn a_lie_that_one_of_them_shows_drops_the_slot_and_is_no_news() {
        let rest = [(1, 101.0, 0), (2, 102.0, 0), (3, 103.0, 0)];
        let both = plain(1, &[&[(0, 100.0, 0), (0, 99.0, 0)], &rest[..]].concat());
        assert_eq!(both.outcome.standings[0], Standing::Equivocated);
        for told in [100.0, 99.0, 98.0] {
            let other = plain(2, &[&[(0, told, 0)], &rest[..]].concat());
            let (pool, price) = pooled_price(&both, &other);
            assert_eq!((price, pool.lies.len()), (Some(102.0), 0));
            assert_eq!(pool.report.outcome.standings[0], Standing::Equivocated);
        }
    }

    #[test]
    fn without_a_quorum_the_report_with_the_most_prices_stands() {
        let prices = [(0, 100.0, 0), (1, 101.0, 0), (2, 102.0, 0)];
        let lied = [(0, 90.0, 0), (1, 101.0, 0), (2, 102.0, 0)];
        let (one, other) = (plain(1, &prices), plain(2, &lied));
        let (pool, price) = pooled_price(&one, &other);
        assert_eq!((price, pool.report.outcome.prices), (None, 2));
        assert_eq!(pool.lies.len(), 1);
        let lower = usize::from(other.aggregator.bytes() < one.aggregator.bytes());
        assert_eq!(pool.stands, Some(lower));
        for (fewer, most) in [(&one, 2), (&other, 1)] {
            let aggregator = if most == 2 { 2 } else { 1 };
            let most = plain(aggregator, &[&lied[..], &[(1, 1.0, 0)]].concat());
            let (pool, _) = pooled_price(fewer, &most);
            assert_eq!(pool.stands, Some(0), "{} prices", most.outcome.prices);
        }
        // Too few exchanges are no quorum either.
        let mut strict = terms();
        strict.exchanges_min = 2;
        let of = |aggregator| report(aggregator, round(&strict, &prices), Policy::default());
        let (pool, price) = pooled_price(&of(1), &of(2));
        assert_eq!((price, pool.stands.is_some()), (None, true));
    }

    #[test]
    fn policies_of_aggregators_do_not_matter_and_the_spread_limit_of_the_terms_does() {
        let prices = [(0, 200.0, 0), (1, 200.0, 0), (2, 200.0, 0)];
        let more = [(0, 200.0, 0), (1, 200.0, 0), (3, 210.0, 0), (4, 211.0, 0)];
        let careful = Policy {
            move_max: Some(0.01),
            ..Policy::default()
        };
        let mut terms = terms();
        for (ppm, price, decision) in [
            (None, Some(205.0), Decision::Published),
            (Some(48_000), None, Decision::SpreadTooWide),
        ] {
            terms.spread_ppm_max = ppm;
            let one = report(1, round(&terms, &prices), careful);
            assert_eq!((one.price(), price_by_terms(&one)), (None, Some(200.0)));
            let other = report(2, round(&terms, &more), Policy::default());
            let (pool, pooled) = pooled_price(&one, &other);
            assert_eq!(price_by_terms(&other), price);
            assert_eq!(
                (pooled.is_some(), pool.report.decision),
                (price.is_some(), decision)
            );
            assert_eq!(pool.stands, None, "what all know is too far apart");
        }
    }
}
