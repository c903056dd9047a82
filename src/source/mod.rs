//! What can be watched: the kinds of source (`binance`, `kraken`), how each spells its symbols, and sources such as
//! `binance:BTCUSDC`.
//!
//! Invariant: a source that is parsed here has a name that the proof crate accepts. Which exchange and currency a name means is
//! decided there, since reports are proved by it.
//!
//! Uses: proof. Used by: cli, collector, doctor, embedded, exchange, flags, roster.

pub mod market;
pub mod recorded;

use rsoracle_proof::limits::SOURCE_BYTES_MAX;

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
pub static KINDS: [SourceKind; 11] = [
    kind("binance", "USDC", Spelling::Joined),
    kind("binance-book", "USDC", Spelling::Joined),
    kind("binance-stream", "USDC", Spelling::Joined),
    kind("coinbase", "USD", Spelling::Apart('-')),
    kind("kraken", "USD", Spelling::Apart('/')),
    kind("bitstamp", "USD", Spelling::Small),
    kind("bitfinex", "USD", Spelling::Bitfinex),
    kind("gemini", "USD", Spelling::Small),
    kind("crypto.com", "USD", Spelling::Apart('_')),
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

/// Whether a name consists of capital letters and digits, as the name of a currency does.
pub fn capitals(name: &str) -> bool {
    let fit = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit();
    !name.is_empty() && name.bytes().all(fit)
}

impl Source {
    /// Checks that an address of the embedded exchange is given if this source needs one, and only then. The error says what is wrong.
    pub(crate) fn check_endpoint(&self, given: bool) -> Result<(), String> {
        let name = &self.name;
        match (self.embedded, given) {
            (true, false) => Err(format!(
                "{name} needs --endpoint URL, the address of the embedded exchange"
            )),
            (false, true) => Err(format!(
                "--endpoint is for the embedded exchange only, and {name} comes from the real one"
            )),
            _ => Ok(()),
        }
    }

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

    /// The name of the market of `base` in `quote` at the same exchange.
    pub fn market_in(&self, base: &str, quote: &str) -> String {
        format!("{}:{}", self.prefix(), self.kind.spelling.of(base, quote))
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
    use rsoracle_proof::source::quote_of;

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
                    assert_eq!(quote_of(&name, ""), quote, "{name}");
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
}
