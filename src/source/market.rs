//! Whether a source is the market of a feed.
//!
//! Invariant: a source of a feed `BASE/QUOTE` prices that base in that currency, or in one that was explicitly accepted. Recorded
//! prices are marked, so there a dollar and its stablecoins count as one currency; but they too must be of the feed's base.

use super::{Source, capitals};
use rsoracle_proof::source::quote_of;
use std::collections::BTreeSet;

/// Currencies that built-in rosters accept for USD.
pub const DOLLARS: [&str; 2] = ["USDC", "USDT"];

/// Base and quote currency of a feed such as `BTC/USD`; None for a feed with another form of name.
pub fn market_of(feed: &str) -> Option<(&str, &str)> {
    let (base, quote) = feed.split_once('/')?;
    (capitals(base) && capitals(quote)).then_some((base, quote))
}

impl Source {
    /// Whether its symbol is the market of `base` in `quote`.
    pub fn prices(&self, base: &str, quote: &str) -> bool {
        self.symbol() == self.kind.spelling.of(base, quote)
    }
}

/// How a source differs from the market of a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch<'a> {
    /// It prices the feed's base in a currency that is not accepted.
    Quote {
        /// The source's currency.
        other: &'static str,
        /// The feed's.
        own: &'a str,
    },
    /// It prices something else, or in a currency that is not known here.
    Market {
        /// What the feed prices.
        base: &'a str,
        /// The feed's currency.
        own: &'a str,
    },
}

/// Checks that a source prices the feed's base, in the feed's currency or an accepted one. A feed whose name has no currencies
/// takes any source.
pub fn check<'a>(
    source: &Source,
    feed: &'a str,
    accepted: &BTreeSet<String>,
) -> Result<(), Mismatch<'a>> {
    let Some((base, own)) = market_of(feed) else {
        return Ok(());
    };
    let taken = |quote: &str| source.prices(base, quote);
    let other = quote_of(&source.name, feed);
    let dollar = |quote: &str| quote == "USD" || DOLLARS.contains(&quote);
    let recorded = source.embedded && dollar(own) && dollar(other);
    let accepted = accepted.iter().any(|quote| taken(quote));
    if taken(own) || accepted || (recorded && taken(other)) {
        Ok(())
    } else if taken(other) {
        Err(Mismatch::Quote { other, own })
    } else {
        Err(Mismatch::Market { base, own })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_its_feeds_market_or_differs_in_currency_or_altogether() {
        let accepted = |quotes: &str| quotes.split(',').map(str::to_owned).collect();
        let quote = |other, own| Err(Mismatch::Quote { other, own });
        let market = |base, own| Err(Mismatch::Market { base, own });
        for (name, feed, quotes, result) in [
            ("kraken:BTC/USD", "BTC/USD", "", Ok(())),
            ("okx:BTC-USDT", "BTC/USD", "", quote("USDT", "USD")),
            ("okx:BTC-USDT", "BTC/USD", "USDC,USDT", Ok(())),
            ("kraken:ETH/CHF", "ETH/USD", "CHF", Ok(())),
            ("kraken:ETH/USD", "BTC/USD", "USD", market("BTC", "USD")),
            ("bitstamp:dotusd", "DOT/EUR", "", quote("USD", "EUR")),
            ("embedded:BTCUSDT", "BTC/USD", "", Ok(())),
            ("embedded:BTCUSDT", "ETH/USD", "", market("ETH", "USD")),
            ("embedded:BTCUSDT", "BTC/EUR", "", quote("USDT", "EUR")),
            ("kraken:ETH/USD", "gold", "", Ok(())),
        ] {
            let source = Source::parse(name).expect("a source");
            assert_eq!(check(&source, feed, &accepted(quotes)), result, "{name}");
        }
    }
}
