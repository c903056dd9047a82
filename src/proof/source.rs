//! Names of feeds (`BTC/USD`) and sources (`binance:BTCUSDC`): how they are written, and which exchange and currency they mean.
//!
//! Invariant: a name that is accepted here fits its fixed-width field in the signed bytes, and contains no byte that could
//! be taken for padding.

use crate::limits::{FEED_BYTES_MAX, SOURCE_BYTES_MAX};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

/// Checks the name of a feed, such as `BTC/USD`. The error describes valid names.
pub fn check_feed(feed: &str) -> Result<(), &'static str> {
    const _: () = assert!(FEED_BYTES_MAX == 16, "the sentence below says 16");
    // Not the two characters that JSON would have to escape.
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\');
    if feed.is_empty() || feed.len() > FEED_BYTES_MAX || !feed.bytes().all(plain) {
        return Err(
            "1 to 16 visible ASCII characters without quotes and backslashes, such as BTC/USD",
        );
    }
    Ok(())
}

/// A kind of source: an exchange and how it is watched. A source's name begins with it.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceKind {
    /// Such as `binance-stream`.
    pub name: &'static str,
    /// The default quote currency, for a source without a symbol.
    pub quote: &'static str,
    /// How the exchange spells its symbols.
    pub spelling: Spelling,
}

/// How an exchange spells a market.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// `BTCUSDC`
    Joined,
    /// `btcusd`
    Small,
    /// `BTC-USD`, `BTC/USD` or another mark between the two.
    Apart(char),
    /// `tBTCUSD`, `tDOGE:USD`. Bitfinex calls USDT UST and USDC UDC.
    Bitfinex,
}

/// All kinds of source. Each may have the prefix `embedded-`; `embedded` alone means `embedded-binance`.
pub static KINDS: [SourceKind; 9] = [
    kind("binance", "USDC", Spelling::Joined),
    kind("binance-book", "USDC", Spelling::Joined),
    kind("binance-stream", "USDC", Spelling::Joined),
    kind("coinbase", "USD", Spelling::Apart('-')),
    kind("kraken", "USD", Spelling::Apart('/')),
    kind("bitstamp", "USD", Spelling::Small),
    kind("bitfinex", "USD", Spelling::Bitfinex),
    kind("okx", "USDT", Spelling::Apart('-')),
    kind("bybit", "USDT", Spelling::Joined),
];

const fn kind(name: &'static str, quote: &'static str, spelling: Spelling) -> SourceKind {
    SourceKind {
        name,
        quote,
        spelling,
    }
}

impl Spelling {
    /// The symbol of the market of `base`, such as `BTC`, in `quote`, such as `USD`.
    pub fn of(self, base: &str, quote: &str) -> String {
        match self {
            Spelling::Joined => format!("{base}{quote}"),
            Spelling::Small => format!("{base}{quote}").to_ascii_lowercase(),
            Spelling::Apart(mark) => format!("{base}{mark}{quote}"),
            Spelling::Bitfinex => {
                let quote = match quote {
                    "USDT" => "UST",
                    "USDC" => "UDC",
                    other => other,
                };
                let colon = if base.len() > 3 || quote.len() > 3 {
                    ":"
                } else {
                    ""
                };
                format!("t{base}{colon}{quote}")
            }
        }
    }

    /// Whether a symbol is spelled as this exchange spells its symbols.
    fn takes(self, symbol: &str) -> bool {
        match self {
            Spelling::Joined => capitals(symbol),
            Spelling::Small => {
                let fit = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
                !symbol.is_empty() && symbol.bytes().all(fit)
            }
            Spelling::Apart(mark) => symbol
                .split_once(mark)
                .is_some_and(|(base, quote)| capitals(base) && capitals(quote)),
            Spelling::Bitfinex => symbol
                .strip_prefix('t')
                .is_some_and(|rest| capitals(&rest.replacen(':', "", 1))),
        }
    }
}

/// A source: a kind and a symbol, written `binance:BTCUSDC`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The whole name, as it is signed.
    pub name: String,
    /// Its kind.
    pub kind: &'static SourceKind,
    /// Whether it is the embedded exchange, whose prices are recorded.
    pub embedded: bool,
}

/// The exchange of a source. `binance-book` and `binance-stream` are both `binance`.
pub fn exchange_of(source: &str) -> &str {
    let kind = source.split_once(':').map_or(source, |(kind, _)| kind);
    let stripped = kind.strip_suffix("-book").or(kind.strip_suffix("-stream"));
    stripped.unwrap_or(kind)
}

/// The quote currency of a source, from the end of its symbol; `other` for all currencies that are not in the list.
pub fn quote_of(source: &str) -> &'static str {
    const QUOTES: [&str; 9] = [
        "USDT", "USDC", "FDUSD", "TUSD", "USD", "EUR", "GBP", "JPY", "BTC",
    ];
    let symbol = source.to_ascii_uppercase();
    if exchange_of(source).ends_with("bitfinex") {
        match symbol.get(symbol.len().saturating_sub(3)..) {
            Some("UST") => return "USDT",
            Some("UDC") => return "USDC",
            _ => {}
        }
    }
    let ends = |quote: &&&str| symbol.ends_with(**quote);
    QUOTES.iter().find(ends).copied().unwrap_or("other")
}

/// The quote currency of a source, if it differs from the feed's own, which follows the slash in the feed's name.
pub(crate) fn foreign_quote(source: &str, feed: &str) -> Option<&'static str> {
    let quote = quote_of(source);
    let is_own = |own: &str| match quote {
        "other" => !own.is_empty() && source.to_ascii_uppercase().ends_with(own),
        known => known == own,
    };
    let own = feed.split_once('/').is_some_and(|(_, own)| is_own(own));
    (!own).then_some(quote)
}

/// Whether a source's prices are recorded.
pub(crate) fn is_embedded(source: &str) -> bool {
    let exchange = exchange_of(source);
    exchange == "embedded" || exchange.starts_with("embedded-")
}

/// Base and quote currency of a feed such as `BTC/USD`; None for a feed with another form of name.
pub fn market_of(feed: &str) -> Option<(&str, &str)> {
    let (base, quote) = feed.split_once('/')?;
    (capitals(base) && capitals(quote)).then_some((base, quote))
}

/// Whether a name consists of capital letters and digits, as the name of a currency does.
pub fn capitals(name: &str) -> bool {
    let fit = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit();
    !name.is_empty() && name.bytes().all(fit)
}

impl Source {
    /// Parses `KIND:SYMBOL`. The error describes valid sources.
    pub fn parse(name: &str) -> Result<Source, String> {
        let (prefix, symbol) = name.split_once(':').ok_or_else(|| {
            format!(
                "EXCHANGE:SYMBOL, as in binance:BTCUSDC; exchanges: {}",
                kinds()
            )
        })?;
        let (kind, embedded) = Source::kind_of(prefix)
            .ok_or_else(|| format!("one of these before the colon: {}", kinds()))?;
        let example = kind.spelling.of("BTC", kind.quote);
        if !kind.spelling.takes(symbol) {
            return Err(format!(
                "a symbol as {prefix} spells it, such as {prefix}:{example}"
            ));
        }
        if name.len() > SOURCE_BYTES_MAX {
            return Err(format!(
                "at most {SOURCE_BYTES_MAX} characters, as in {prefix}:{example}"
            ));
        }
        Ok(Source {
            name: name.to_owned(),
            kind,
            embedded,
        })
    }

    /// The kind that a prefix names, and whether it is the embedded exchange.
    pub fn kind_of(prefix: &str) -> Option<(&'static SourceKind, bool)> {
        let (name, embedded) = match prefix.strip_prefix("embedded") {
            Some("") => ("binance", true),
            Some(rest) => (rest.strip_prefix('-')?, true),
            None => (prefix, false),
        };
        let kind = KINDS.iter().find(|kind| kind.name == name)?;
        Some((kind, embedded))
    }

    /// The part before the colon: the kind's name, possibly after `embedded-`.
    pub fn prefix(&self) -> &str {
        self.name.split_once(':').expect("a source has a colon").0
    }

    /// Whether its symbol is the market of `base` in `quote`.
    pub fn prices(&self, base: &str, quote: &str) -> bool {
        self.symbol() == self.kind.spelling.of(base, quote)
    }

    /// The symbol: the part after the colon.
    pub fn symbol(&self) -> &str {
        self.name.split_once(':').expect("a source has a colon").1
    }
}

/// The names of all kinds, for an error.
pub fn kinds() -> String {
    let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
    format!(
        "{}, or one of them with 'embedded-' before it",
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic;

    #[test]
    fn every_kind_accepts_the_symbols_that_it_spells() {
        for kind in &KINDS {
            for quote in ["USD", "USDC", "USDT"] {
                let symbol = kind.spelling.of("BTC", quote);
                for prefix in ["", "embedded-"] {
                    let name = format!("{prefix}{}:{symbol}", kind.name);
                    let source =
                        Source::parse(&name).unwrap_or_else(|right| panic!("{name}: {right}"));
                    assert_eq!((source.kind, source.symbol()), (kind, symbol.as_str()));
                    assert_eq!(source.embedded, !prefix.is_empty());
                    assert_eq!(quote_of(&name), quote, "{name}");
                }
            }
        }
        assert_eq!(
            Source::parse("embedded:BTCUSDT").unwrap().kind.name,
            "binance"
        );
    }

    #[test]
    fn a_source_knows_its_market() {
        let source = Source::parse("bitfinex:tBTCUST").unwrap();
        assert!(source.prices("BTC", "USDT") && !source.prices("BTC", "USD"));
        assert!(!source.prices("ETH", "USDT"));
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
    fn errors_about_sources_describe_valid_ones() {
        for (name, says) in [
            ("binance", "EXCHANGE:SYMBOL"),
            ("binanze:BTCUSDC", "binance-stream, coinbase"),
            ("embeddedkraken:BTC/USD", "one of these"),
            ("embedded-:BTCUSDT", "one of these"),
            ("kraken:XBTUSD", "kraken:BTC/USD"),
            ("kraken:BTC/USD/X", "kraken:BTC/USD"),
            ("bitstamp:BTCUSD", "bitstamp:btcusd"),
            ("bitfinex:BTCUSD", "bitfinex:tBTCUSD"),
            ("coinbase:BTC-", "coinbase:BTC-USD"),
            ("binance:", "binance:BTCUSDC"),
            ("binance:BTCUSDCBTCUSDCBTCUSDCBTCUSDC", "32"),
        ] {
            let right = Source::parse(name).unwrap_err();
            assert!(right.contains(says), "{name}: {right}");
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
    fn quote_currencies_are_recognised_by_the_end_of_the_symbol() {
        for (source, quote) in [
            ("binance:BTCUSDC", "USDC"),
            ("binance:BTCFDUSD", "FDUSD"),
            ("coinbase:BTC-USD", "USD"),
            ("bitstamp:btcusd", "USD"),
            ("bitfinex:tBTCUST", "USDT"),
            ("bitfinex:tDOGE:USD", "USD"),
            ("okx:BTC-USDT", "USDT"),
            ("okx:DUST-BTC", "BTC"),
            ("kraken:ETH/CHF", "other"),
        ] {
            assert_eq!(quote_of(source), quote, "{source}");
        }
    }
}
