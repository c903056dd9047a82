//! Decides whether a round's price is published: the quorum, the circuit breakers, the deviation and the heartbeat.
//!
//! An oracle publishes a price that differs from the last published one by a *deviation*, or once the last published one is
//! older than a *heartbeat*. A price that moved too far, or on which the collectors differ too much, is withheld.
//!
//! Invariant: the decision is a pure function of what is in the report, so that everyone who has the report can repeat it.

use crate::reason::coded;
use crate::round::Outcome;

/// When a price is published. `None` means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Policy {
    /// Publish if the price differs from the last published one by this fraction or more.
    pub deviation: Option<f64>,
    /// Publish if the last published price is older by this many microseconds or more.
    pub heartbeat_us: Option<u64>,
    /// Withhold a price that differs from the last published one by more than this fraction.
    pub move_max: Option<f64>,
}

/// The last published price.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PublishedPrice {
    /// The number of its report.
    pub number: u64,
    /// The price.
    pub price: f64,
    /// Its timestamp, microseconds since the Unix epoch.
    pub time_us: u64,
}

coded! {
    /// What became of a round's price.
    Decision, name {
        /// It is published.
        Published = 1: "published",
        /// It is in the report, but is too close to the last published one to be published.
        Unchanged = 2: "unchanged",
        /// There is no price: too few collectors gave one.
        NoQuorum = 3: "no-quorum",
        /// It is withheld, since it is too far from the last published one.
        MovedTooFar = 4: "moved-too-far",
        /// It is withheld, since the collectors differ too much.
        SpreadTooWide = 5: "spread-too-wide",
    }
}

impl Decision {
    /// Whether the price is published.
    pub fn publishes(self) -> bool {
        self == Decision::Published
    }

    /// Whether the report shows a price.
    pub fn has_price(self) -> bool {
        matches!(self, Decision::Published | Decision::Unchanged)
    }
}

/// Decides what becomes of an outcome's price, given the last published one.
/// `spread_ppm_max` is [`crate::terms::Terms::spread_ppm_max`].
pub fn decide(
    outcome: &Outcome,
    spread_ppm_max: Option<u32>,
    policy: &Policy,
    last: Option<&PublishedPrice>,
) -> Decision {
    let (Some(price), Some(spread), Some(time_us)) =
        (outcome.price, outcome.spread, outcome.timestamp_us)
    else {
        return Decision::NoQuorum;
    };
    let too_wide = |ppm: u32| spread > f64::from(ppm) / 1e6 * price;
    if spread_ppm_max.is_some_and(too_wide) {
        return Decision::SpreadTooWide;
    }
    let Some(last) = last else {
        return Decision::Published;
    };
    let moved = (price - last.price).abs();
    let too_far = |part| moved > part * last.price;
    if policy.move_max.is_some_and(too_far) {
        return Decision::MovedTooFar;
    }
    let stale = |us| time_us.saturating_sub(last.time_us) >= us;
    let far = |part| moved >= part * last.price;
    if policy.deviation.is_none_or(far) || policy.heartbeat_us.is_some_and(stale) {
        Decision::Published
    } else {
        Decision::Unchanged
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::prelude::v1::*;

    fn outcome(price: f64, spread: f64, time_us: u64) -> Outcome {
        Outcome {
            standings: Vec::new(),
            price: Some(price),
            timestamp_us: Some(time_us),
            spread: Some(spread),
            verified: 5,
            prices: 5,
        }
    }

    #[test]
    fn a_price_is_published_held_back_or_withheld_as_the_policy_says() {
        use Decision::*;
        let policy = Policy {
            deviation: Some(0.01),
            heartbeat_us: Some(60),
            move_max: Some(0.1),
        };
        let last = PublishedPrice {
            number: 1,
            price: 100.0,
            time_us: 1_000,
        };
        for (price, spread, time_us, expected) in [
            (100.0, 0.0, 1_001, Unchanged),
            (100.99, 0.0, 1_001, Unchanged),
            (101.0, 0.0, 1_001, Published),
            (99.0, 0.0, 1_001, Published),
            (100.0, 0.0, 1_059, Unchanged),
            (100.0, 0.0, 1_060, Published),
            (110.0, 0.0, 1_001, Published),
            (110.1, 0.0, 1_001, MovedTooFar),
            (89.9, 0.0, 9_999, MovedTooFar),
            (100.0, 2.0, 1_060, Published),
            (100.0, 2.1, 1_060, SpreadTooWide),
        ] {
            let outcome = outcome(price, spread, time_us);
            let decision = decide(&outcome, Some(20_000), &policy, Some(&last));
            assert_eq!(decision, expected, "{price} {spread} {time_us}");
        }
        // The first price has no predecessor, but its spread may be too wide.
        let first = |spread| decide(&outcome(110.1, spread, 0), Some(20_000), &policy, None);
        assert_eq!((first(0.0), first(3.0)), (Published, SpreadTooWide));
        // Without a policy everything is published.
        let free = decide(
            &outcome(500.0, 400.0, 1_000),
            None,
            &Policy::default(),
            Some(&last),
        );
        assert_eq!(free, Published);
    }

    #[test]
    fn without_a_quorum_there_is_nothing_to_decide() {
        let mut none = outcome(1.0, 0.0, 1);
        none.price = None;
        assert_eq!(
            decide(&none, None, &Policy::default(), None),
            Decision::NoQuorum
        );
    }
}
