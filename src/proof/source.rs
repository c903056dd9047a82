//! Names of feeds (`BTC/USD`) and sources (`binance:BTCUSDC`): how they are written, and which exchange and currency they mean.
//! Which kinds of source there are is not known here: a report proves its price whatever its collectors watched.
//!
//! Invariant: a name that is accepted here fits its fixed-width field in the signed bytes, and contains no byte that could
//! be taken for padding.

use crate::limits::{FEED_BYTES_MAX, SOURCE_BYTES_MAX};
use alloc::borrow::ToOwned;
use alloc::string::String;

/// Checks the name of a feed, such as `BTC/USD`. The error describes valid names.
pub fn check_feed(feed: &str) -> Result<(), &'static str> {
    const _: () = assert!(FEED_BYTES_MAX == 16, "the sentence below says 16");
    let right =
        "1 to 16 visible ASCII characters without quotes, backslashes and commas, such as BTC/USD";
    let fits = !feed.is_empty() && !feed.contains(',') && is_plain(feed, FEED_BYTES_MAX);
    if fits { Ok(()) } else { Err(right) }
}

/// Checks the name of a source, such as `binance:BTCUSDC`. The error describes valid names.
pub fn check_source(source: &str) -> Result<(), &'static str> {
    const _: () = assert!(SOURCE_BYTES_MAX == 32, "the sentence below says 32");
    let right = "EXCHANGE:SYMBOL, as in binance:BTCUSDC: at most 32 visible ASCII characters without quotes and backslashes";
    let parts = source.split_once(':');
    let whole = parts.is_some_and(|(exchange, symbol)| !exchange.is_empty() && !symbol.is_empty());
    let fits = whole && is_plain(source, SOURCE_BYTES_MAX);
    if fits { Ok(()) } else { Err(right) }
}

/// Whether a name has at most `bytes_max` visible ASCII characters, without the two that JSON would have to escape.
fn is_plain(name: &str, bytes_max: usize) -> bool {
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\');
    name.len() <= bytes_max && name.bytes().all(plain)
}

/// The kind of a source: what stands before the colon of its name.
pub fn kind_of(source: &str) -> &str {
    source.split_once(':').map_or(source, |(kind, _)| kind)
}

/// The exchange of a source. `binance-book` and `binance-stream` are both `binance`.
pub fn exchange_of(source: &str) -> &str {
    let kind = kind_of(source);
    let stripped = kind.strip_suffix("-book").or(kind.strip_suffix("-stream"));
    stripped.unwrap_or(kind)
}

/// What a source's symbol says of its currency, in capitals: what follows the feed's base and a mark; without that base, all of it.
fn after_base(source: &str, feed: &str) -> String {
    let mut symbol = source.split_once(':').map_or(source, |(_, symbol)| symbol);
    if exchange_of(source).ends_with("bitfinex") {
        symbol = symbol.strip_prefix('t').unwrap_or(symbol);
    }
    let symbol = symbol.to_ascii_uppercase();
    let base = feed.split_once('/').map_or("", |(base, _)| base);
    let rest = symbol.strip_prefix(base).unwrap_or(&symbol);
    rest.trim_start_matches(|c: char| !c.is_ascii_alphanumeric())
        .to_owned()
}

/// The quote currency of a source of a feed; `other` for all currencies that are not in the list.
pub fn quote_of(source: &str, feed: &str) -> &'static str {
    // The first two are abbreviations.
    const QUOTES: [&str; 12] = [
        "UST", "UDC", "USDT", "USDC", "FDUSD", "TUSD", "GUSD", "USD", "EUR", "GBP", "JPY", "BTC",
    ];
    let rest = after_base(source, feed);
    let abbreviates = exchange_of(source).ends_with("bitfinex");
    let mut known = QUOTES.iter().skip(if abbreviates { 0 } else { 2 });
    match known.find(|end| rest.ends_with(**end)) {
        None => "other",
        Some(&"UST") => "USDT",
        Some(&"UDC") => "USDC",
        Some(quote) => quote,
    }
}

/// The quote currency of a source, if it differs from the feed's own, which follows the slash in the feed's name.
pub(crate) fn foreign_quote(source: &str, feed: &str) -> Option<&'static str> {
    let (rest, quote) = (after_base(source, feed), quote_of(source, feed));
    let is_own = |own: &str| match quote {
        _ if own.is_empty() => false,
        "other" => rest.ends_with(own),
        known => known == own || rest == own,
    };
    let own = feed.split_once('/').is_some_and(|(_, own)| is_own(own));
    (!own).then_some(quote)
}

/// Whether a source's prices are recorded.
pub fn is_embedded(source: &str) -> bool {
    let exchange = exchange_of(source);
    exchange == "embedded" || exchange.starts_with("embedded-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feeds_name_has_no_comma_since_lists_of_feeds_are_split_there() {
        assert_eq!(check_feed("BTC/USD"), Ok(()));
        for name in ["BTC/USD,ETH/USD", ",", "", "BTC\"USD"] {
            assert!(check_feed(name).is_err(), "{name}");
        }
    }

    #[test]
    fn recorded_prices_are_recognised_by_the_name() {
        for name in ["embedded:X", "embedded-kraken:X", "embedded-binance-book:X"] {
            assert!(is_embedded(name), "{name}");
        }
        for name in ["binance:X", "embeddedkraken:X", "kraken:embedded:X"] {
            assert!(!is_embedded(name), "{name}");
        }
    }

    #[test]
    fn several_kinds_of_source_can_be_one_exchange() {
        for (source, exchange) in [
            ("binance:BTCUSDC", "binance"),
            ("binance-book:BTCUSDC", "binance"),
            ("binance-stream:BTCUSDC", "binance"),
            ("embedded:BTCUSDT", "embedded"),
            ("embedded-kraken:BTC/USD", "embedded-kraken"),
            ("embedded-binance-stream:BTCUSDT", "embedded-binance"),
        ] {
            assert_eq!(exchange_of(source), exchange);
        }
    }

    #[test]
    fn the_feeds_own_currency_is_compared_as_written() {
        assert_eq!(foreign_quote("kraken:BTC/USD", "BTC/USD"), None);
        assert_eq!(foreign_quote("kraken:BTC/USD", "BTC/usd"), Some("USD"));
        assert_eq!(foreign_quote("bitstamp:btcusd", "BTC/USD"), None);
        assert_eq!(foreign_quote("kraken:ETH/CHF", "ETH/CHF"), None);
        assert_eq!(foreign_quote("kraken:ETH/CHF", "ETH/chf"), Some("other"));
    }

    #[test]
    fn quote_currencies_are_recognised_by_the_end_of_the_symbol() {
        for (source, quote) in [
            ("binance:BTCUSDC", "USDC"),
            ("binance:BTCFDUSD", "FDUSD"),
            ("coinbase:BTC-USD", "USD"),
            ("bitstamp:btcusd", "USD"),
            ("gemini:btcgusd", "GUSD"),
            ("bitfinex:tBTCUST", "USDT"),
            ("bitfinex:tDOGE:USD", "USD"),
            ("okx:BTC-USDT", "USDT"),
            ("okx:DUST-BTC", "BTC"),
            ("kraken:ETH/CHF", "other"),
        ] {
            assert_eq!(quote_of(source, ""), quote, "{source}");
        }
    }

    #[test]
    fn the_end_of_a_base_is_not_taken_for_the_beginning_of_a_currency() {
        for (source, feed, quote) in [
            ("bitstamp:dotusd", "DOT/USD", "USD"),
            ("gemini:aptusd", "APT/USD", "USD"),
            ("bitfinex:tDOTUSD", "DOT/USD", "USD"),
            ("embedded-bitfinex:tDOTUST", "DOT/USDT", "USDT"),
            ("bitfinex:tTRX:USD", "TRX/USD", "USD"),
            ("binance:DOTUSDT", "DOT/USDT", "USDT"),
            ("bitstamp:aptpyusd", "APT/PYUSD", "USD"),
            ("kraken:APT/PYUSD", "APT/PYUSD", "USD"),
        ] {
            assert_eq!(quote_of(source, feed), quote, "{source}");
            assert_eq!(foreign_quote(source, feed), None, "{source}");
        }
        for (source, feed, quote) in [
            ("bitstamp:dotusd", "DOT/EUR", "USD"),
            ("binance:DOTTUSD", "DOT/USD", "TUSD"),
            ("gemini:dotgusd", "DOT/USD", "GUSD"),
            ("bitstamp:dotusd", "dot/USD", "TUSD"),
        ] {
            assert_eq!(foreign_quote(source, feed), Some(quote), "{source}");
        }
    }
}
