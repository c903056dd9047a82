//! Combines the collectors' prices into one: the rules, and how many liars each tolerates.
//!
//! Invariant: if at most [`faulty_max`] of at least [`quorum`] prices come from liars, the result lies within the prices of
//! honest collectors. Everyone who repeats the computation gets the same bits: prices are added in ascending order, the sum
//! is divided once, and the result is clamped to the lowest and highest price used, since rounding could leave that range.

use crate::price::is_price;
use crate::reason::coded;
use core::ops::Range;

coded! {
    /// How accepted prices are combined.
    Rule, name {
        /// Drop the f lowest and the f highest, average the rest.
        TrimmedMean = 1: "trimmed-mean",
        /// The middle price, or the average of the two middle prices.
        Median = 2: "median",
        /// The average of all prices; tolerates no liar.
        Mean = 3: "mean",
    }
}

/// f: how many of `n` configured slots may lie without moving the price outside what honest collectors saw.
pub fn faulty_max(rule: Rule, n: u16) -> u16 {
    match rule {
        Rule::TrimmedMean | Rule::Median => n.saturating_sub(1) / 3,
        Rule::Mean => 0,
    }
}

/// The fewest prices from which a price may be published: max(2f + 1, majority of n).
pub fn quorum(n: u16, f: u16) -> u16 {
    (2 * f + 1).max(n / 2 + 1)
}

/// How many whole groups (exchanges, quote currencies) may lie, given how many slots each holds: the largest groups are counted
/// as long as they hold at most `f` slots together.
pub(crate) fn groups_tolerated(slots_per_group: &[u16], f: u16) -> u16 {
    let mut sizes = slots_per_group.to_vec();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    let mut held = 0u32;
    let within = sizes.iter().take_while(|&&size| {
        held += u32::from(size);
        held <= u32::from(f)
    });
    within.count() as u16
}

/// The average as the module's doc defines it, so that everyone gets the same bits.
/// `None` for no prices.
pub(crate) fn mean_of_ascending(ascending: &[f64]) -> Option<f64> {
    let (lowest, highest) = (*ascending.first()?, *ascending.last()?);
    debug_assert!(
        ascending.iter().all(|p| is_price(*p)),
        "only prices are averaged"
    );
    let sum: f64 = ascending.iter().sum();
    Some((sum / ascending.len() as f64).clamp(lowest, highest))
}

/// The ranks of `count` ascending prices that `rule` averages; empty if there are too few prices.
pub(crate) fn kept_range(rule: Rule, count: usize, f: u16) -> Range<usize> {
    let cut = match rule {
        Rule::TrimmedMean => usize::from(f),
        Rule::Median => count.saturating_sub(1) / 2,
        Rule::Mean => 0,
    };
    if count > 2 * cut {
        cut..count - cut
    } else {
        0..0
    }
}

/// Combines the accepted `prices`, in any order, by `rule`. `None` if there are too few for the rule.
pub fn combine(rule: Rule, prices: &[f64], f: u16) -> Option<f64> {
    let mut ascending = prices.to_vec();
    ascending.sort_unstable_by(f64::total_cmp);
    mean_of_ascending(&ascending[kept_range(rule, ascending.len(), f)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::prelude::v1::*;

    #[test]
    fn n_f_and_quorum_are_as_designed() {
        let table = [
            (1, 0, 1),
            (2, 0, 2),
            (3, 0, 2),
            (4, 1, 3),
            (5, 1, 3),
            (6, 1, 4),
            (7, 2, 5),
            (10, 3, 7),
            (1000, 333, 667),
        ];
        for (n, f, q) in table {
            assert_eq!(
                (faulty_max(Rule::TrimmedMean, n), quorum(n, f)),
                (f, q),
                "n = {n}"
            );
            assert_eq!(faulty_max(Rule::Median, n), f);
            assert_eq!(faulty_max(Rule::Mean, n), 0);
        }
    }

    #[test]
    fn groups_are_tolerated_while_together_they_hold_at_most_f_slots() {
        assert_eq!(groups_tolerated(&[5], 1), 0);
        assert_eq!(groups_tolerated(&[1, 1, 1, 1, 1], 1), 1);
        assert_eq!(groups_tolerated(&[2, 1, 1, 1, 1, 1], 2), 1);
        assert_eq!(groups_tolerated(&[1; 7], 2), 2);
        assert_eq!(groups_tolerated(&[], 2), 0);
    }

    #[test]
    fn each_rule_does_what_its_name_says() {
        let prices = [5.0, 1.0, 100.0, 3.0, 4.0];
        assert_eq!(combine(Rule::TrimmedMean, &prices, 1), Some(4.0));
        assert_eq!(combine(Rule::Median, &prices, 1), Some(4.0));
        assert_eq!(combine(Rule::Mean, &prices, 0), Some(22.6));
        assert_eq!(combine(Rule::Median, &prices[..4], 1), Some(4.0));
        assert_eq!(combine(Rule::TrimmedMean, &prices[..2], 1), None);
        assert_eq!(combine(Rule::Median, &[], 0), None);
    }

    #[test]
    fn equal_prices_average_to_themselves() {
        assert_ne!(
            (94112.35f64 + 94112.35 + 94112.35) / 3.0,
            94112.35,
            "without the clamp, rounding leaves the range"
        );
        assert_eq!(combine(Rule::Mean, &[94112.35; 3], 0), Some(94112.35));
    }

    /// Tries every split of n = 1..10 slots into honest, lying and silent ones: the result stays within the honest prices.
    #[test]
    fn f_liars_never_move_the_price_outside_what_honest_ones_saw() {
        let honest = [
            94112.35, 94112.36, 94100.01, 94112.35, 94120.9, 94099.99, 94112.34, 94113.0, 94112.35,
            94111.1,
        ];
        let lies = [1e-12, 9411.235, 94112.35, 94112.351, 941123.5, 1e15];
        for rule in [Rule::TrimmedMean, Rule::Median] {
            for n in 1..=10u16 {
                let f = faulty_max(rule, n);
                for liars in 0..=f {
                    for present in quorum(n, f)..=n {
                        // The worst case: all liars answer, and only honest collectors are silent.
                        let honest = &honest[..usize::from(present - liars)];
                        for pick in 0..lies.len().pow(u32::from(liars)) {
                            let mut prices = honest.to_vec();
                            let mut rest = pick;
                            for _ in 0..liars {
                                prices.push(lies[rest % lies.len()]);
                                rest /= lies.len();
                            }
                            let price = combine(rule, &prices, f).expect("a quorum suffices");
                            let low = honest.iter().copied().fold(f64::INFINITY, f64::min);
                            let high = honest.iter().copied().fold(0.0, f64::max);
                            assert!(
                                (low..=high).contains(&price),
                                "{rule} n={n} f={f}: {price} of {prices:?}"
                            );
                        }
                    }
                }
            }
        }
    }
}
