//! Says which slots stray: whose price stays apart from the others', stands still while the others' move, or is older.
//!
//! Invariant: it changes no price: the rules are agreed on, and this is a hint for the operator. It looks at reports only, so
//! whoever has the journal can see the same. A slot that strays is reported once when it begins to, and once when it stops.

use crate::system::span::span;
use rsoracle_proof::price;
use rsoracle_proof::report::Report;
use rsoracle_proof::round::Standing;
use rsoracle_proof::utc::utc_text;

/// A slot is reported after it strayed in this many rounds in a row. Rounds without its price do not count.
const ROUNDS: u32 = 5;
/// A price is apart if it differs from the others' by more than this part of them.
const APART: f64 = 0.005;
/// A price is older if, by the exchanges' own time, its age exceeds the others' by more than this, in microseconds.
const OLDER_US: f64 = 10e6;
/// A way to stray: in words; for how many microseconds a slot must do it before it is reported; and how its own value and
/// the others' are written.
type Way = (&'static str, u64, fn(f64) -> String);
const WAYS: [Way; 3] = [
    ("is apart from the others'", 0, price::text),
    (
        "stands still while the others' move",
        60_000_000,
        price::text,
    ),
    (
        "is older than the others' by the exchanges' own time",
        0,
        age_text,
    ),
];

fn age_text(us: f64) -> String {
    span(us as u64)
}

/// What is remembered of one slot in one way: rounds in a row in which it strayed, when that began, and whether it was
/// reported.
type Run = (u32, u64, bool);

/// All slots: what is remembered of each, and its last price beside the others'.
#[derive(Default)]
pub struct Strays(Vec<([Run; WAYS.len()], (f64, f64))>);

impl Strays {
    /// Takes a round's report, of whose seats `slots` are the places in the roster. Returns the lines to show.
    pub fn take(&mut self, report: &Report, slots: &[u16]) -> Vec<String> {
        let (round, standings) = (&report.round, report.outcome.standings.iter());
        let prices: Vec<Option<f64>> = standings
            .map(|standing| match standing {
                Standing::Used(price) | Standing::Trimmed(price) => Some(*price),
                _ => None,
            })
            .collect();
        // The age of each slot's youngest price.
        let records = round.parts.iter().map(|part| part.records.iter());
        let youngest = records.map(|records| records.filter_map(|record| record.age_us).min());
        let ages: Vec<Option<f64>> = youngest.map(|us| Some(us? as f64)).collect();
        let (sorted, sorted_ages) = (sorted(&prices), sorted(&ages));
        self.0.resize(prices.len(), Default::default());
        let mut lines = Vec::new();
        for (at, (runs, last)) in self.0.iter_mut().enumerate() {
            let Some((price, theirs)) = beside(prices[at], &sorted) else {
                continue;
            };
            let (own, other) = std::mem::replace(last, (price, theirs));
            let (moved, they_moved) = (own != price, other != theirs);
            let aged = beside(ages[at], &sorted_ages);
            let found = [
                Some(((price - theirs).abs() > APART * theirs, price, theirs)),
                (moved || they_moved).then_some((!moved, price, theirs)),
                aged.map(|(age, other)| (age > other + OLDER_US, age, other)),
            ];
            let (slot, source) = (slots[at], &round.terms.seats[at].source);
            let news = (WAYS.iter().zip(runs).zip(found))
                .filter_map(|(((what, us_min, text), run), found)| {
                    let (strays, own, theirs) = found?;
                    let (since_us, begins) = note(run, strays, round.start_us, *us_min)?;
                    let since = utc_text(since_us);
                    Some(match begins {
                        true => format!("{what} since {since}: {}, and {}; prices are made as before; compare it with its exchange, and use another if this lasts", text(own), text(theirs)),
                        false => format!("no longer {what}; it did for {}", span(round.start_us - since_us)),
                    })
                });
            lines.extend(news.map(|rest| format!("collector {slot} ({source}): its price {rest}")));
        }
        lines
    }
}

/// Notes whether a slot strayed in a round. Returns what to report, if anything: when the straying began, and whether it lasts.
fn note(run: &mut Run, strays: bool, start_us: u64, us_min: u64) -> Option<(u64, bool)> {
    let (rounds, since_us, reported) = run;
    if *rounds == 0 {
        *since_us = start_us;
    }
    *rounds = if strays { rounds.saturating_add(1) } else { 0 };
    let long = *rounds >= ROUNDS && start_us >= *since_us + us_min;
    let lasts = strays && (*reported || long);
    (std::mem::replace(reported, lasts) != lasts).then_some((*since_us, lasts))
}

fn sorted(values: &[Option<f64>]) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.iter().flatten().copied().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// A slot's value, and the nearest to it that is a median of the others'. `None` without a value, or with fewer than two others.
fn beside(value: Option<f64>, sorted: &[f64]) -> Option<(f64, f64)> {
    let value = value?;
    let at = sorted
        .binary_search_by(|other| other.total_cmp(&value))
        .ok()?;
    let others = sorted.len() - 1;
    let nth = |index: usize| sorted[index + usize::from(index >= at)];
    (others >= 2).then(|| (value, value.clamp(nth((others - 1) / 2), nth(others / 2))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregator::agreed::tests::terms;
    use crate::keys::secret::SecretKey;
    use rsoracle_proof::publish::Policy;
    use rsoracle_proof::record::Record;
    use rsoracle_proof::report::Refused;
    use rsoracle_proof::round::Round;

    const START_US: u64 = 1_795_343_400_000_000;

    /// Rounds 10 s apart, in which the slots have these prices and ages.
    struct Rounds {
        strays: Strays,
        count: u64,
    }

    impl Rounds {
        fn new() -> Rounds {
            let strays = Strays::default();
            Rounds { strays, count: 0 }
        }

        fn take(&mut self, slots: &[(Option<f64>, Option<u64>)]) -> Vec<String> {
            let mut terms = terms(&vec!["kraken:"; slots.len()], 0, 2);
            for (slot, seat) in terms.seats.iter_mut().enumerate() {
                seat.source.push_str(&slot.to_string());
            }
            let mut round = Round::new(terms, START_US + self.count * 10_000_000);
            self.count += 1;
            for (part, (price, age_us)) in round.parts.iter_mut().zip(slots) {
                // Its second sample is older.
                let record = |index: u32| {
                    price.map(|price| Record {
                        index,
                        price: Ok(price),
                        lateness_us: Some(3),
                        age_us: age_us.map(|us| us * (1 + u64::from(index))),
                    })
                };
                part.records.extend((0..2).filter_map(record));
            }
            let aggregator = SecretKey::from_seed(&mut [1; 32]).public();
            let (refused, policy) = (Refused::new(), Policy::default());
            let mut report = Report::new(1, aggregator, round, refused, policy, None);
            let standing = |price: &Option<f64>| price.map_or(Standing::Silent, Standing::Used);
            report.outcome.standings = slots.iter().map(|(price, _)| standing(price)).collect();
            self.strays.take(&report, &[0, 1, 2, 3, 4])
        }

        /// Takes `rounds` rounds; the last returns lines and the others none.
        fn until(&mut self, rounds: u32, slots: &dyn Fn(f64) -> [f64; 5]) -> Vec<String> {
            for round in 1..=rounds {
                let prices = slots(self.count as f64);
                let lines = self.take(&prices.map(|price| (Some(price), None)));
                if round == rounds {
                    return lines;
                }
                assert_eq!(lines, [""; 0], "round {round}");
            }
            Vec::new()
        }
    }

    #[test]
    fn a_price_apart_from_the_others_is_reported_when_it_begins_and_when_it_ends() {
        let mut rounds = Rounds::new();
        let apart = |at: f64| [100.0 + at, 100.1 + at, 99.3 + at, 99.9 + at, 100.2 + at];
        let together = |at: f64| [100.0 + at, 100.1 + at, 99.6 + at, 99.9 + at, 100.2 + at];
        assert_eq!(rounds.until(20, &together), [""; 0], "0.4 % is near");
        let lines = rounds.until(5, &apart);
        assert_eq!(lines.len(), 1);
        let line = "collector 2 (kraken:2): its price is apart from the others' since 2026-11-22T10:33:20.000Z: 123.3000, and 124.0000; prices are made as before; compare it with its exchange, and use another if this lasts";
        assert_eq!(lines, [line]);
        assert_eq!(rounds.until(10, &apart), [""; 0], "reported once");
        let line = "collector 2 (kraken:2): its price no longer is apart from the others'; it did for 2 min";
        assert_eq!(rounds.until(1, &together), [line]);
        assert_eq!(rounds.until(10, &together), [""; 0]);
        // Not in a row.
        assert_eq!(rounds.until(4, &apart), [""; 0]);
        assert_eq!(rounds.until(1, &together), [""; 0]);
        assert_eq!(rounds.until(4, &apart), [""; 0]);
    }

    #[test]
    fn who_is_far_from_a_liar_does_not_stray() {
        let mut rounds = Rounds::new();
        for _ in 0..20 {
            let lines = rounds.take(&[50.0, 100.0, 100.0].map(|price| (Some(price), None)));
            assert!(
                lines.iter().all(|line| line.starts_with("collector 0 ")),
                "{lines:?}"
            );
        }
        let two = [50.0, 100.0].map(|price| (Some(price), None));
        let mut rounds = Rounds::new();
        assert!((0..20).all(|_| rounds.take(&two).is_empty()), "which one?");
    }

    #[test]
    fn two_prices_that_stand_still_are_reported_though_the_price_does_not_move() {
        let mut rounds = Rounds::new();
        let frozen = |at: f64| {
            [
                100.0,
                100.0,
                100.1 + at / 1e3,
                100.1 + at / 1e3,
                100.2 + at / 1e3,
            ]
        };
        let lines = rounds.until(8, &frozen);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[1].starts_with("collector 1 (kraken:1): its price stands still while the others' move since 2026-11-22T10:30:10.000Z: 100.0000, and 100."), "{}", lines[1]);
        assert_eq!(rounds.until(10, &frozen), [""; 0]);
        let moves = |at: f64| frozen(at).map(|price| price + at);
        let lines = rounds.until(1, &moves);
        assert_eq!(lines.len(), 2, "{lines:?}");
        // A market in which nobody trades.
        let mut rounds = Rounds::new();
        assert_eq!(rounds.until(100, &|_| [100.0; 5]), [""; 0]);
    }

    #[test]
    fn a_price_that_is_older_than_the_others_is_reported() {
        let mut rounds = Rounds::new();
        let slots = |age_us| {
            [Some(300_000), Some(age_us), None, Some(2_000_000)].map(|age| (Some(100.0), age))
        };
        for _ in 0..4 {
            assert_eq!(rounds.take(&slots(13_000_000)), [""; 0]);
        }
        let lines = rounds.take(&slots(13_500_000));
        assert_eq!(lines.len(), 1);
        assert!(lines[0].starts_with("collector 1 (kraken:1): its price is older than the others' by the exchanges' own time since 2026-11-22T10:30:00.000Z: 13.5 s, and 2.0 s; "), "{}", lines[0]);
        // A slot without a price says nothing about itself.
        let silent = [
            (Some(100.0), Some(0)),
            (None, None),
            (Some(100.0), Some(0)),
            (Some(100.0), Some(0)),
        ];
        assert_eq!(rounds.take(&silent), [""; 0]);
        assert_eq!(rounds.take(&slots(2_000_000)).len(), 1);
    }
}
