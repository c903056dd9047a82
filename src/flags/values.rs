//! Parses the values of flags that several commands share. Nothing here looks at the system (files, ports, host names).

use crate::collector::settings::Overrides;
use crate::exchange::proxy::Proxy;
use crate::flags::args::{Given, SourceSection, Usage};
use crate::source::market::{in_capitals, market_of};
use crate::source::{Source, capitals};
use crate::system::endpoint::Endpoint;
use crate::system::limits::ROUND_US_MAX;
use rsoracle_proof::aggregate::Rule;
use rsoracle_proof::limits::FEEDS_MAX;
use rsoracle_proof::source::{check_feed, exchange_of};
use std::collections::BTreeSet;
use std::time::Duration;

/// Default TCP port of the control channel; `--control-port` overrides it.
pub const CONTROL_PORT: u16 = 8000;
/// Default TCP port of the data channel; `--data-port` overrides it.
pub const DATA_PORT: u16 = 8080;
/// Longest heartbeat (`--heartbeat`) in microseconds: one year.
pub const HEARTBEAT_US_MAX: u64 = 365 * ROUND_US_MAX;
/// Shortest age at which a connection to an exchange is replaced, in microseconds (`--connection-age`).
pub const CONNECTION_AGE_US_MIN: u64 = 1_000_000;

/// Reads a flag's value by `read`; None if the flag is not given and has no default.
pub(crate) fn optional<T>(
    given: &Given,
    name: &str,
    read: impl FnOnce(&Given) -> Result<T, Usage>,
) -> Result<Option<T>, Usage> {
    given.text(name).map(|_| read(given)).transpose()
}

/// How a collector combines its samples (`--sample-rule`).
pub fn sample_rule(given: &Given) -> Result<Rule, Usage> {
    const RIGHT: &str = "mean or median";
    match given.read("sample-rule", RIGHT)? {
        Rule::TrimmedMean => Err(given.wrong("sample-rule", Rule::TrimmedMean.name(), RIGHT)),
        rule => Ok(rule),
    }
}

/// The age in microseconds at which a connection is replaced (`--connection-age`).
pub(crate) fn connection_age_us(given: &Given) -> Result<u64, Usage> {
    given.duration_us("connection-age", CONNECTION_AGE_US_MIN..=ROUND_US_MAX)
}

/// The values of a flag that may be repeated and takes lists separated by commas.
pub(crate) fn listed<'a>(given: &'a Given, flag: &'a str) -> impl Iterator<Item = &'a str> {
    given.all(flag).flat_map(|text| text.split(','))
}

/// The name of the only feed (`--feed`).
fn feed(given: &Given) -> Result<String, Usage> {
    let feed = given.required("feed")?;
    check_feed(feed).map_err(|right| given.wrong("feed", feed, right))?;
    Ok(feed.to_owned())
}

/// The names of the feeds, where `--feed` may name several. No two are the same.
pub fn feeds(given: &Given) -> Result<Vec<String>, Usage> {
    if !given.has("feed") {
        return Ok(vec![feed(given)?]);
    }
    let mut feeds: Vec<String> = Vec::new();
    for feed in listed(given, "feed") {
        check_feed(feed).map_err(|right| given.wrong("feed", feed, right))?;
        if feeds.iter().any(|other| other == feed) {
            return Err(given.contradiction(&["feed"], format!("--feed names {feed} twice")));
        }
        feeds.push(feed.to_owned());
    }
    if feeds.len() > FEEDS_MAX {
        let count = feeds.len();
        let sentence = format!("--feed names {count} feeds; a roster has at most {FEEDS_MAX}");
        return Err(given.contradiction(&["feed"], sentence));
    }
    Ok(feeds)
}

/// The same for feeds that are to be priced. What is a market is written in capitals: no source could be held against `btc/usd`.
pub fn feeds_to_price(given: &Given) -> Result<Vec<String>, Usage> {
    let feeds = feeds(given)?;
    let small = |feed: &String| in_capitals(feed).map(|capitals| (feed.clone(), capitals));
    match feeds.iter().find_map(small) {
        None => Ok(feeds),
        Some((feed, capitals)) => {
            let sentence = format!("--feed {feed}: write currencies in capitals, {capitals}");
            Err(given.contradiction(&["feed"], sentence))
        }
    }
}

/// Currencies that are accepted for a feed's own (`--accept-quote`).
pub fn accepted(given: &Given) -> Result<BTreeSet<String>, Usage> {
    let named = listed(given, "accept-quote").map(|quote| match capitals(quote) {
        true => Ok(quote.to_owned()),
        false => {
            let right = "currencies in capital letters, such as USDC or USDC,USDT";
            Err(given.wrong("accept-quote", quote, right))
        }
    });
    named.collect()
}

/// The proxy, if one is named (`--proxy`). An error does not repeat the URL, which may contain a password.
pub fn proxy(given: &Given) -> Result<Option<Proxy>, Usage> {
    let refused = |right| {
        let sentence = format!("--proxy is not valid; expected {right}");
        given.contradiction(&["proxy"], sentence)
    };
    let url = given.text("proxy").map(Proxy::parse);
    url.transpose().map_err(refused)
}

/// A path, if one is given. An empty path is refused, since it is usually an unset variable in a script. Control characters are
/// refused, since a configuration file cannot express them.
pub fn path(given: &Given, name: &str) -> Result<Option<String>, Usage> {
    match given.text(name) {
        Some(text) if text.is_empty() || text.contains(char::is_control) => {
            Err(given.wrong(name, text, "a path without control characters"))
        }
        text => Ok(text.map(str::to_owned)),
    }
}

/// A size in bytes, if one is given.
pub(crate) fn bytes(given: &Given, name: &str) -> Result<Option<u64>, Usage> {
    let Some(text) = given.text(name) else {
        return Ok(None);
    };
    let units = [("kB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000)];
    let number = units.iter().find_map(|(unit, bytes)| {
        let number = text.strip_suffix(unit)?.parse::<u64>().ok()?;
        number.checked_mul(*bytes).filter(|bytes| *bytes > 0)
    });
    let right = "a size such as 500kB, 100MB or 2GB";
    number
        .map(Some)
        .ok_or_else(|| given.wrong(name, text, right))
}

/// The path of the embedded exchange, for a `--endpoint` without one.
const EMBEDDED_PATH: &str = "ws-api/v3";

/// The address of the embedded exchange (`--endpoint`), whatever the source is.
pub(crate) fn endpoint_of(given: &Given) -> Result<Option<Endpoint>, Usage> {
    let Some(url) = given.text("endpoint") else {
        return Ok(None);
    };
    let endpoint = Endpoint::parse(url).map_err(|right| given.wrong("endpoint", url, right))?;
    let bare = endpoint.url.splitn(4, '/').nth(3).is_none_or(str::is_empty);
    Ok(Some(match bare {
        true => endpoint.with_path(EMBEDDED_PATH),
        false => endpoint,
    }))
}

/// The same; None if `run` starts one itself.
pub fn endpoint(given: &Given, sources: &[Source]) -> Result<Option<Endpoint>, Usage> {
    let Some(endpoint) = endpoint_of(given)? else {
        return Ok(None);
    };
    if sources.iter().any(|source| source.embedded) {
        return Ok(Some(endpoint));
    }
    let live = sources.first().expect("there is at least one source");
    Err(given.contradiction(&["endpoint"], format!(
        "--endpoint goes with an 'embedded:' source only; what is signed as {} must come from {} itself",
        live.name,
        exchange_of(&live.name)
    )))
}

/// The flags of [`Overrides`], in the order of its fields. They are also the keys in `[source.KIND]` of a configuration file.
pub(crate) const OVERRIDES: [&str; 3] = ["max-age", "max-silence", "ping-every"];

/// Overrides of an exchange's timing. The command line overrides the file's section for the source, which overrides the file's
/// general keys.
pub fn overrides(given: &Given, section: Option<&SourceSection>) -> Result<Overrides, Usage> {
    let value = |name: &str| {
        let section = section.filter(|section| section.given.has(name) && !given.typed(name));
        let said = section.map_or(given, |section| &section.given);
        optional(said, name, |said| {
            let us = said.duration_us(name, 10_000..=ROUND_US_MAX)?;
            Ok(Duration::from_micros(us))
        })
    };
    let [max_age, max_silence, ping_every] = OVERRIDES.map(value);
    Ok(Overrides {
        max_age: max_age?,
        max_silence: max_silence?,
        ping_every: ping_every?,
    })
}

/// The kinds of the built-in roster `diverse`: nine exchanges, six of them in USD, and at most two in any other currency. Two
/// may lie, and four may be out of reach, such as those that do not serve this location.
pub const DIVERSE: [&str; 9] = [
    "coinbase",
    "kraken",
    "bitstamp",
    "bitfinex",
    "gemini",
    "crypto.com",
    "binance-stream",
    "okx",
    "bybit",
];

/// Parses `KIND:SYMBOL`, or a kind alone, such as `kraken`: then the symbol is the market of the feed's base currency in
/// the kind's default quote currency. The error describes valid sources.
pub fn source_for(name: &str, feed: &str) -> Result<Source, String> {
    let Some((kind, _)) = Source::kind_of(name) else {
        return Source::parse(name);
    };
    let (base, _) = market_of(feed).ok_or_else(|| {
        let example = kind.spelling.of("BTC", kind.quote);
        format!("a symbol too, as in {name}:{example}, since the feed {feed} names no currencies")
    })?;
    Source::parse(&format!("{name}:{}", kind.spelling.of(base, kind.quote)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tests of `rsoracle_proof::tolerance` show what this roster tolerates.
    #[test]
    fn the_diverse_roster_is_the_one_in_the_tests_of_tolerance() {
        assert_eq!(
            DIVERSE.map(|kind| source_for(kind, "BTC/USD").map(|source| source.name)),
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
            .map(|name| Ok(name.to_owned()))
        );
    }

    #[test]
    fn a_kind_alone_means_its_market_of_the_feeds_base() {
        for (name, feed, source) in [
            ("kraken", "BTC/USD", "kraken:BTC/USD"),
            ("bitfinex", "DOGE/USD", "bitfinex:tDOGE:USD"),
            ("bitstamp", "ETH/USD", "bitstamp:ethusd"),
            ("embedded-okx", "BTC/USD", "embedded-okx:BTC-USDT"),
            ("binance", "BTC/EUR", "binance:BTCUSDC"),
            ("okx:ETH-BTC", "BTC/USD", "okx:ETH-BTC"),
        ] {
            assert_eq!(source_for(name, feed).unwrap().name, source);
        }
        for (name, feed, says) in [
            ("kraken", "gold", "a symbol too, as in kraken:BTC/USD"),
            ("kraken", "btc/usd", "a symbol too"),
            ("kraken", "BTC/USD/X", "a symbol too"),
            ("krake", "BTC/USD", "EXCHANGE:SYMBOL"),
            ("kraken:", "BTC/USD", "kraken:BTC/USD"),
        ] {
            let right = source_for(name, feed).unwrap_err();
            assert!(right.contains(says), "{name}: {right}");
        }
    }
}
