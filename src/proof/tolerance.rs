//! How many faults a roster tolerates: how many collectors and whole exchanges may lie, and how many foreign quote
//! currencies may lose their parity, without moving the price outside what the other collectors saw.
//!
//! Slots of one exchange, or of one quote currency, fail together: they are a group. The feed's own quote currency is not a
//! group, since the price is expressed in it.
//!
//! Invariant: whichever groups fail, as long as their number is tolerated, they hold at most f slots together.

use crate::aggregate::groups_tolerated;
use crate::source::{exchange_of, foreign_quote};
use crate::terms::Terms;
use alloc::string::String;
use alloc::vec::Vec;

/// The slots of a roster, grouped by exchange or by quote currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups<'a> {
    /// Each group's name and how many slots it holds, in the order of the slots.
    pub slots: Vec<(&'a str, u16)>,
    /// How many of the groups may fail.
    pub tolerated: u16,
}

impl<'a> Groups<'a> {
    fn new(names: impl Iterator<Item = &'a str>, f: u16) -> Groups<'a> {
        let mut slots: Vec<(&str, u16)> = Vec::new();
        for name in names {
            match slots.iter_mut().find(|(known, _)| *known == name) {
                Some((_, count)) => *count += 1,
                None => slots.push((name, 1)),
            }
        }
        let sizes: Vec<u16> = slots.iter().map(|(_, count)| *count).collect();
        Groups {
            tolerated: groups_tolerated(&sizes, f),
            slots,
        }
    }

    /// How many groups there are.
    pub fn count(&self) -> u16 {
        self.slots.len() as u16
    }
}

/// How many faults a roster tolerates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tolerance<'a> {
    /// How many slots there are.
    pub n: u16,
    /// How many of their collectors may lie.
    pub f: u16,
    /// The exchanges.
    pub exchanges: Groups<'a>,
    /// The quote currencies other than the feed's own.
    pub quotes: Groups<'a>,
}

impl Terms {
    /// How many faults these terms tolerate.
    pub fn tolerance(&self) -> Tolerance<'_> {
        let sources: Vec<&str> = self.seats.iter().map(|seat| seat.source.as_str()).collect();
        Tolerance::of(&self.feed, &sources, self.f())
    }
}

impl<'a> Tolerance<'a> {
    /// The tolerance of a roster with these sources, slot by slot.
    pub fn of(feed: &str, sources: &[&'a str], f: u16) -> Tolerance<'a> {
        let foreign = |source: &&'a str| foreign_quote(source, feed);
        Tolerance {
            n: sources.len() as u16,
            f,
            exchanges: Groups::new(sources.iter().map(|source| exchange_of(source)), f),
            quotes: Groups::new(sources.iter().filter_map(foreign), f),
        }
    }

    /// The tolerance in words; foreign quote currencies are named.
    pub fn text(&self) -> String {
        let (n, f) = (self.n, self.f);
        let exchanges = &self.exchanges;
        let mut text = format!(
            "tolerates {} of {n}, {} of {}",
            counted(f, "faulty collector"),
            counted(exchanges.tolerated, "faulty exchange"),
            exchanges.count()
        );
        if self.quotes.count() > 0 {
            let names: Vec<&str> = self.quotes.slots.iter().map(|(name, _)| *name).collect();
            let (count, names) = (self.quotes.count(), names.join(", "));
            let tolerated = counted(self.quotes.tolerated, "faulty quote currency");
            text += &format!(", {tolerated} of {count} ({names})");
        }
        text
    }
}

/// `1 faulty collector`, `2 faulty collectors`, `2 faulty quote currencies`.
pub fn counted(count: impl Into<u64>, what: &str) -> String {
    let count = count.into();
    match (count, what.strip_suffix('y')) {
        (1, _) => format!("1 {what}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) => format!("{count} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::{Rule, combine, faulty_max, quorum};
    use std::prelude::v1::*;

    fn diverse() -> [String; 9] {
        // A test of `flags::values` checks that the built-in roster `diverse` is this list.
        [
            "coinbase:BTC-USD",
            "kraken:BTC/USD",
            "bitstamp:btcusd",
            "bitfinex:tBTCUSD",
            "gemini:btcusd",
            "crypto.com:BTC_USD",
            "binance-stream:BTCUSDC",
            "okx:BTC-USDT",
            "bybit:BTCUSDT",
        ]
        .map(str::to_owned)
    }

    #[test]
    fn a_roster_of_one_exchange_and_one_foreign_currency_tolerates_neither_failing() {
        let tolerance = Tolerance::of("BTC/USD", &["binance:BTCUSDC"; 5], 1);
        assert_eq!(
            tolerance.text(),
            "tolerates 1 faulty collector of 5, 0 faulty exchanges of 1, 0 faulty quote currencies of 1 (USDC)"
        );
    }

    #[test]
    fn the_feeds_own_currency_is_not_a_group() {
        let own = Tolerance::of("BTC/USD", &["kraken:BTC/USD"; 4], 1);
        assert_eq!(own.quotes.count(), 0);
        assert!(!own.text().contains("currenc"), "{}", own.text());
        let usdt = Tolerance::of("BTC/USDT", &["okx:BTC-USDT", "kraken:BTC/USD"], 0);
        assert_eq!(usdt.quotes.slots, [("USD", 1)]);
        // A currency that is not in the list of known ones is recognised by the feed.
        let francs = Tolerance::of("BTC/CHF", &["kraken:BTC/CHF", "kraken:BTC/AUD"], 0);
        assert_eq!(francs.quotes.slots, [("other", 1)]);
        // A feed that names no currency has none of its own.
        let unnamed = Tolerance::of("gold", &["kraken:PAXG/USD"; 2], 0);
        assert_eq!(unnamed.quotes.slots, [("USD", 2)]);
    }

    #[test]
    fn the_diverse_roster_survives_two_exchanges_and_either_foreign_currency() {
        let (f, sources) = (faulty_max(Rule::TrimmedMean, 9), diverse());
        let tolerance = Tolerance::of("BTC/USD", &sources.each_ref().map(String::as_str), f);
        assert_eq!((f, tolerance.exchanges.tolerated), (2, 2));
        assert_eq!(tolerance.quotes.slots, [("USDC", 1), ("USDT", 2)]);
        assert_eq!(tolerance.quotes.tolerated, 1);
        assert_eq!(
            tolerance.text(),
            "tolerates 2 faulty collectors of 9, 2 faulty exchanges of 9, 1 faulty quote currency of 2 (USDC, USDT)"
        );
    }

    /// Whatever the slots of one or two exchanges, or of one foreign currency, say, or if they are silent: the price lies
    /// within what the others saw.
    #[test]
    fn no_exchange_and_no_foreign_currency_moves_the_price_of_the_diverse_roster() {
        let sources = diverse();
        let sources = sources.each_ref().map(String::as_str);
        let groups: Vec<Vec<usize>> = {
            let of = |fits: &dyn Fn(&str) -> bool| -> Vec<usize> {
                (0..9).filter(|slot| fits(sources[*slot])).collect()
            };
            let exchanges = sources.map(exchange_of);
            let mut groups = Vec::new();
            for first in exchanges {
                for second in exchanges {
                    groups.push(of(&|source| [first, second].contains(&exchange_of(source))));
                }
            }
            for quote in ["USDC", "USDT"] {
                groups.push(of(&|source| {
                    foreign_quote(source, "BTC/USD") == Some(quote)
                }));
            }
            groups
        };
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for round in 0..20_000 {
            let group = &groups[round % groups.len()];
            assert!((1..=2).contains(&group.len()));
            let honest: Vec<f64> = (group.len()..9)
                .map(|_| 94_000.0 + (next() % 100_000) as f64 / 1e3)
                .collect();
            let mut prices = honest.clone();
            for _ in group {
                match next() % 4 {
                    0 => {}
                    1 => prices.push(1e-12),
                    2 => prices.push(1e15),
                    _ => prices.push((next() % 200_000) as f64 + 0.5),
                }
            }
            assert!(prices.len() >= usize::from(quorum(9, 2)));
            let price = combine(Rule::TrimmedMean, &prices, 2).expect("a quorum");
            let low = honest.iter().copied().fold(f64::INFINITY, f64::min);
            let high = honest.iter().copied().fold(0.0, f64::max);
            assert!((low..=high).contains(&price), "{price}: {prices:?}");
        }
    }
}
