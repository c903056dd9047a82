//! Whether a source is the market of a feed.
//!
//! Invariant: a source of a feed `BASE/QUOTE` prices that base in that currency, or in one that was explicitly accepted and is
//! not known to be worth something else. Recorded prices are marked, so there a dollar and its stablecoins count as one
//! currency; but they too must be of the feed's base.

use super::{Source, capitals};
use rsoracle_proof::source::quote_of;
use std::collections::BTreeSet;

/// Currencies that built-in rosters accept for USD.
pub const DOLLARS: [&str; 2] = ["USDC", "USDT"];

/// Currencies that others are pegged to, each with those.
const PEGS: [(&str, &str); 7] = [
    (
        "USD",
        "USDC USDT FDUSD TUSD GUSD PYUSD RLUSD BUSD USDP USDS USDG USDE USDD USD1 DAI",
    ),
    ("EUR", "EURC EURI EURS EURT EURQ EURR EURCV AEUR"),
    ("GBP", "TGBP GBPT"),
    ("TRY", "BTRY TRYB"),
    ("SGD", "XSGD"),
    ("BTC", "XBT WBTC CBBTC TBTC"),
    ("ETH", "WETH"),
];

/// Further currencies that are quoted in, each worth nothing but itself.
const APART: &str = "AED ARS AUD BRL CAD CHF CLP CNH CNY COP CZK DKK HKD HUF IDR ILS INR JPY KRW MXN MYR NGN NOK NZD PEN PHP PLN RON \
                     RUB SAR SEK THB TWD UAH VND ZAR ADA ATOM AVAX BCH BNB DOGE DOT LINK LTC SOL TON TRX XLM XMR XRP";

/// The currency whose worth this one has; None if it is not known here, as a new stablecoin is.
fn worth(currency: &str) -> Option<&str> {
    let listed = |list: &str| list.split(' ').any(|one| one == currency);
    let peg = PEGS
        .iter()
        .find(|(peg, list)| *peg == currency || listed(list));
    match peg {
        Some((peg, _)) => Some(peg),
        None => listed(APART).then_some(currency),
    }
}

/// Whether `quote` is known to be pegged to `own`, or both to the same currency.
fn is_pegged(quote: &str, own: &str) -> bool {
    worth(quote).is_some_and(|it| worth(own) == Some(it))
}

/// Whether `quote` may be accepted for `own`: it is pegged to it, or not known here, as a new stablecoin is.
pub fn is_acceptable(quote: &str, own: &str) -> bool {
    quote == own || worth(quote).is_none() || is_pegged(quote, own)
}

/// Why this currency cannot be accepted for any of these feeds' own. None if it can.
pub fn unacceptable<'a>(quote: &str, feeds: impl Iterator<Item = &'a str>) -> Option<String> {
    let owns: BTreeSet<&str> = feeds.filter_map(market_of).map(|(_, own)| own).collect();
    if owns.is_empty() || owns.iter().any(|own| is_acceptable(quote, own)) {
        return None;
    }
    let owns = Vec::from_iter(owns).join(" or ");
    Some(format!(
        "--accept-quote {quote} would take prices in {quote} as if they were in {owns}, and {quote} is not pegged to {owns}: only a currency that is, such as USDC to USD, can be accepted"
    ))
}

/// Base and quote currency of a feed such as `BTC/USD`; None for a feed with another form of name.
pub fn market_of(feed: &str) -> Option<(&str, &str)> {
    let (base, quote) = feed.split_once('/')?;
    (capitals(base) && capitals(quote)).then_some((base, quote))
}

/// The feed `BTC/USD` for one that is written `btc/usd`: its currencies in capitals. None if they are, or if it has another form.
pub fn in_capitals(feed: &str) -> Option<String> {
    let capitals = feed.to_ascii_uppercase();
    (capitals != feed && market_of(&capitals).is_some()).then_some(capitals)
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
    let accepted = accepted
        .iter()
        .any(|quote| is_acceptable(quote, own) && taken(quote));
    if taken(own) || accepted || (recorded && taken(other)) {
        Ok(())
    } else if taken(other) {
        Err(Mismatch::Quote { other, own })
    } else {
        Err(Mismatch::Market { base, own })
    }
}

impl Mismatch<'_> {
    /// The currency that may be accepted to take the source for this market, and the one that it is accepted for, if there is one.
    pub fn acceptable(&self) -> Option<(&'static str, &str)> {
        match *self {
            Mismatch::Quote { other, own } if is_pegged(other, own) => Some((other, own)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_currency_is_accepted_for_another_only_if_it_is_not_known_to_be_worth_something_else() {
        for (quote, own, pegged, acceptable) in [
            ("USDT", "USD", true, true),
            ("USD", "USDC", true, true),
            ("USDT", "USDC", true, true),
            ("EURC", "EUR", true, true),
            ("XBT", "BTC", true, true),
            // A stablecoin that is not listed here may be accepted.
            ("USDNEW", "USD", false, true),
            ("USD", "BTC", false, false),
            ("USD", "EUR", false, false),
            ("USDC", "EUR", false, false),
            ("CHF", "USD", false, false),
            ("ETH", "USD", false, false),
            ("USD", "NEW", false, false),
        ] {
            assert_eq!(is_pegged(quote, own), pegged, "{quote} for {own}");
            assert_eq!(is_acceptable(quote, own), acceptable, "{quote} for {own}");
        }
    }

    #[test]
    fn a_source_is_its_feeds_market_or_differs_in_currency_or_altogether() {
        let accepted = |quotes: &str| quotes.split(',').map(str::to_owned).collect();
        let quote = |other, own| Err(Mismatch::Quote { other, own });
        let market = |base, own| Err(Mismatch::Market { base, own });
        for (name, feed, quotes, result) in [
            ("kraken:BTC/USD", "BTC/USD", "", Ok(())),
            ("okx:BTC-USDT", "BTC/USD", "", quote("USDT", "USD")),
            ("okx:BTC-USDT", "BTC/USD", "USDC,USDT", Ok(())),
            ("kraken:ETH/PUSD", "ETH/USD", "PUSD", Ok(())),
            ("kraken:ETH/CHF", "ETH/USD", "CHF", market("ETH", "USD")),
            ("kraken:ETH/USD", "ETH/BTC", "USD", quote("USD", "BTC")),
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
