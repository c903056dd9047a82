//! Exchanges: their addresses, how to talk to them, and what their messages mean. Each exchange has one file, whose parser is
//! a pure function.
//!
//! A [`Dialect`] is all that the rest of the program knows of an exchange. Invariant: a parser returns a [`Said`] for any
//! text; it never panics, never guesses, and ignores what it does not know. `session` keeps the connection; the collector
//! decides when to take a sample.
//! Uses: proof, source, system, verify. Used by: cli, collector, doctor, embedded, flags, follow, nats, relay, roster.

pub mod binance;
pub(crate) mod binance_stream;
pub(crate) mod bitfinex;
pub(crate) mod bitstamp;
pub(crate) mod bybit;
pub mod certificate;
pub(crate) mod coinbase;
pub(crate) mod crypto_com;
pub mod decimal;
pub(crate) mod dial;
pub(crate) mod gemini;
pub mod http;
pub mod json;
pub(crate) mod kraken;
pub mod limits;
pub mod link;
pub(crate) mod offset;
pub(crate) mod okx;
pub mod proxy;
pub(crate) mod quote;
pub mod roots;
pub mod session;
mod topics;
pub mod tunnel;

use crate::exchange::json::{Json, NotJson, Spans};
use crate::exchange::limits::{ID_BYTES_MAX, RECONNECT_MS};
use crate::source::Source;
use crate::system::endpoint::Endpoint;
use rsoracle_proof::reason::Miss;
use rsoracle_proof::schedule::Schedule;
use rsoracle_proof::utc::utc_us;
use rsoracle_verify::error::Error;
use std::borrow::Cow;
use std::time::Duration;
pub use topics::Topics;
use topics::{listed, newest_of, of_symbol};

/// How to talk to one exchange.
pub struct Dialect {
    /// Name of the kind of source, such as `kraken`.
    pub name: &'static str,
    /// Its addresses, by preference. If one cannot be used, the next one is tried.
    pub urls: &'static [&'static str],
    /// Whether prices are requested or streamed.
    pub way: Way,
    /// The parser of text messages: a pure function, total on any text.
    pub read: fn(&str, &Topics) -> Said,
    /// The client's ping message, for exchanges that have one.
    pub ping: Option<&'static str>,
    /// Its timeouts and periods.
    pub pace: Pace,
}

/// How prices are obtained.
pub enum Way {
    /// Each price is requested. The function writes a request; the reply repeats its id.
    Poll(fn(id: &str, symbol: &str) -> String),
    /// The exchange streams prices after it has got these messages.
    Stream(fn(symbols: &[&str]) -> Vec<String>),
}

/// The timeouts and periods of one exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// A price older than this is stale. Its age counts from the exchange's own time or, if there is none, from its arrival.
    pub max_age: Duration,
    /// A connection on which nothing at all has come for this long is dead, and is replaced.
    pub max_silence: Duration,
    /// Period of the client's ping; zero if there is none.
    pub ping_every: Duration,
    /// Minimum backoff between two attempts to connect, from the second retry on.
    pub pause_min: Duration,
}

impl Pace {
    /// The exchange's own pace. For the embedded exchange, which has no limit on connections, the backoff starts lower.
    pub fn of(source: &Source) -> Pace {
        let pace = dialect(source).pace;
        let pause_min = match source.embedded {
            true => Duration::from_millis(RECONNECT_MS),
            false => pace.pause_min,
        };
        Pace { pause_min, ..pace }
    }
}

/// The id of a request, as its answer repeats it. It needs no allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id {
    text: [u8; ID_BYTES_MAX],
    length: u8,
}

impl Id {
    /// An id that is too long becomes empty. No request of ours has an empty id, so the answer counts as another's.
    pub fn new(text: &str) -> Id {
        let mut id = Id {
            text: [0; ID_BYTES_MAX],
            length: 0,
        };
        if let Some(place) = id.text.get_mut(..text.len()) {
            place.copy_from_slice(text.as_bytes());
            id.length = text.len() as u8;
        }
        id
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        let text = &self.text[..usize::from(self.length)];
        std::str::from_utf8(text).unwrap_or_default()
    }
}

/// The meaning of an exchange's message for a client that watches some symbols, each of which has an index.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// A price of a symbol.
    Price {
        /// The symbol.
        symbol: usize,
        /// The request that it answers; `None` on a stream.
        id: Option<Id>,
        /// The price.
        price: f64,
        /// The exchange's time of the price, in microseconds since the Unix epoch; `None` if it gives none.
        time_us: Option<u64>,
    },
    /// Nothing about the price: an acknowledgement, a heartbeat, or anything that was not asked for.
    Alive {
        /// The exchange's time in microseconds since the Unix epoch; `None` if the message has none.
        time_us: Option<u64>,
    },
    /// The exchange has accepted the subscription to a symbol and given it this number.
    Channel {
        /// The symbol.
        symbol: usize,
        /// The number.
        number: u64,
    },
    /// The message should have a valid price, but has none.
    Fault {
        /// The symbol that it is about, if that is known.
        symbol: Option<usize>,
        /// The request that it answers, if that is known.
        id: Option<Id>,
        /// The reason to record for the sample.
        miss: Miss,
        /// The text for the log.
        text: String,
    },
    /// The exchange refuses, for good or for a while.
    Refusal(Refusal),
    /// The exchange asks whether the client is alive, and this message is the answer.
    Asked(String),
    /// The exchange announces that it will end this connection, for example to restart. The text says what it announced.
    Leaving(String),
}

/// A refusal from the exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The symbol that it is about, if that is known.
    pub symbol: Option<usize>,
    /// The request that it answers, if that is known.
    pub id: Option<Id>,
    /// Its meaning.
    pub denial: Denial,
    /// The exchange's own error code and message.
    pub text: String,
    /// When the exchange allows the next request, in milliseconds since the Unix epoch; `None` if it does not say.
    pub retry_after_ms: Option<u64>,
}

/// The meaning of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// There is no such symbol.
    UnknownSymbol,
    /// The market exists, but is not trading.
    NotTrading,
    /// Too many requests from this address.
    TooMany,
    /// This address is banned.
    Banned,
    /// The exchange cannot answer now.
    Busy,
    /// Something else.
    Other,
}

impl Refusal {
    /// The reason to record for the sample.
    pub fn miss(&self) -> Miss {
        match self.denial {
            Denial::TooMany | Denial::Banned => Miss::RateLimited,
            _ => Miss::Refused,
        }
    }

    /// The error for this refusal in answer to the first request: what it means and what to do.
    pub(crate) fn error(&self, attempt: &str, symbol: &str) -> Error {
        let until = self.retry_after_ms.map_or(String::new(), |ms| {
            let until = rsoracle_proof::utc::utc_text(ms.saturating_mul(1_000));
            format!("; until {until}")
        });
        let error = |cause: String| Error::new(attempt, cause + &until);
        let text = &self.text;
        match self.denial {
            Denial::UnknownSymbol => error(format!("unknown symbol {symbol} ({text})"))
                .advise("check the spelling of the source, and that the exchange has this market"),
            Denial::NotTrading => error(text.clone())
                .advise("the exchange has halted this market; use it again once it trades")
                .passing(),
            Denial::Banned => error(text.clone()).advise(
                "the exchange has banned this address for too many requests; stay away until the ban ends",
            ),
            Denial::TooMany => error(text.clone())
                .advise("too many requests from this address; wait until the exchange allows the next")
                .passing(),
            Denial::Busy => error(text.clone()).passing(),
            Denial::Other => error(text.clone()),
        }
    }
}

impl Said {
    /// A message without a price and without a time.
    pub(crate) const ALIVE: Said = Said::Alive { time_us: None };

    /// A price on a stream, which answers no request.
    pub fn price(symbol: usize, price: f64, time_us: Option<u64>) -> Said {
        Said::Price {
            symbol,
            id: None,
            price,
            time_us,
        }
    }

    /// A message that should have had a valid price of some symbol.
    pub fn fault(symbol: Option<usize>, miss: Miss, text: &str) -> Said {
        Said::Fault {
            symbol,
            id: None,
            miss,
            text: excerpt(text),
        }
    }

    /// A refusal on a stream; `words` are the exchange's error code and message. An exchange that calls the error its own, or
    /// asks to try again, cannot answer now.
    pub fn refusal(denial: Denial, symbol: Option<usize>, words: &[Option<Json>]) -> Said {
        let words: Vec<String> = words
            .iter()
            .flatten()
            .map(|word| excerpt(word.raw()))
            .collect();
        let text = words.join(", ");
        let small = text.to_ascii_lowercase();
        let passes = ["internal", "unavailable", "try again"];
        let denial = match denial {
            Denial::Other if passes.iter().any(|word| small.contains(word)) => Denial::Busy,
            denial => denial,
        };
        Said::Refusal(Refusal {
            symbol,
            id: None,
            denial,
            text,
            retry_after_ms: None,
        })
    }
}

/// The dialects of all kinds of source.
pub static DIALECTS: [&Dialect; 11] = [
    &binance::POLL,
    &binance::BOOK,
    &binance_stream::STREAM,
    &coinbase::STREAM,
    &kraken::STREAM,
    &bitstamp::STREAM,
    &bitfinex::STREAM,
    &gemini::STREAM,
    &crypto_com::STREAM,
    &okx::STREAM,
    &bybit::STREAM,
];

/// The dialect of a source.
pub fn dialect(source: &Source) -> &'static Dialect {
    let spoken = |dialect: &&&Dialect| dialect.name == source.kind.name;
    DIALECTS
        .iter()
        .find(spoken)
        .expect("there is a dialect for every kind of source")
}

/// The addresses that `source` gets its prices from: the exchange's own or, for the embedded exchange, `named`.
pub fn endpoints(source: &Source, named: Option<&Endpoint>) -> Vec<Endpoint> {
    if source.embedded {
        let named = named.expect("the configuration names an endpoint where the source has none");
        return vec![match dialect(source).way {
            // Requests go to exactly the path that was named.
            Way::Poll(_) => named.clone(),
            Way::Stream(_) => named.with_path(source.kind.name),
        }];
    }
    let own = dialect(source).urls.iter();
    own.map(|url| Endpoint::parse(url).expect("the built-in addresses are well formed"))
        .collect()
}

/// Checks that an exchange sends the prices of so many symbols over one connection and, where each price is requested, that its
/// published limit allows the requests that `schedule` makes of one address. If several collectors share an address, `symbols`
/// counts those of all. The error says what does not fit.
pub fn requests_fit(source: &Source, symbols: usize, schedule: &Schedule) -> Result<(), String> {
    const MINUTE_US: u64 = 60_000_000;
    let name = source.kind.name;
    if source.embedded {
        return Ok(());
    }
    if name == bitfinex::STREAM.name && symbols > bitfinex::CHANNELS_MAX {
        return Err(format!(
            "{symbols} symbols; {name} serves at most {} over one connection",
            bitfinex::CHANNELS_MAX
        ));
    }
    let Way::Poll(_) = dialect(source).way else {
        return Ok(());
    };
    let within =
        |us: u64| u64::from(schedule.samples).min(us.div_ceil(schedule.interval_us.max(1)));
    let samples = match schedule.period_us {
        0 => within(MINUTE_US),
        us => MINUTE_US / us * u64::from(schedule.samples) + within(MINUTE_US % us),
    };
    let length_us = |end_us: u64| end_us.saturating_sub(schedule.first_start_us);
    let rounds = match (schedule.period_us, schedule.end_us.map(length_us)) {
        (1.., Some(us)) => us.div_ceil(schedule.period_us),
        _ => u64::MAX,
    };
    let all = rounds.saturating_mul(schedule.samples.into());
    let requests = samples.min(all) * symbols as u64;
    let weight = binance::weight(requests);
    if weight <= binance::WEIGHT_MAX {
        return Ok(());
    }
    Err(format!(
        "{requests} requests a minute, which have a weight of {weight}; {name} allows {} a minute and address; use fewer symbols, fewer samples or a longer period",
        binance::WEIGHT_MAX
    ))
}

/// Parses a message of a stream. If it is JSON, `read` gets it, and a place to store which symbol it is about; a reason that
/// `read` returns becomes a [`Said::Fault`].
pub fn heard(
    text: &str,
    topics: &Topics,
    read: fn(Json, &Topics, about: &mut Option<usize>) -> Result<Said, Miss>,
) -> Said {
    let mut about = None;
    match Json::read(text, &mut Spans::new()) {
        Ok(json) => read(json, topics, &mut about)
            .unwrap_or_else(|miss| Said::fault(about, miss, json.raw())),
        Err(NotJson(at)) => not_json(text, at),
    }
}

/// The content of a JSON string, or the text of a JSON number.
#[inline(always)]
fn written(value: Option<Json<'_>>) -> Result<Cow<'_, str>, Miss> {
    let value = value.ok_or(Miss::Shape)?;
    let number = || value.number().map(Cow::Borrowed);
    value.text().or_else(number).ok_or(Miss::Shape)
}

/// Reads a price from the decimal text of a JSON string or number.
#[inline]
pub(crate) fn price_of(value: Option<Json>) -> Result<f64, Miss> {
    decimal::parse(&written(value)?)
}

/// Reads a time from a JSON string or number, in microseconds since the Unix epoch. It may be written as
/// `2026-09-25T17:48:26.844359Z`, or as a whole number of milliseconds, microseconds or nanoseconds. The number's size decides
/// between these: from 10^14 on it is microseconds, since 10^14 ms are in the year 5138 and 10^14 µs in 1973, and from 10^17
/// on nanoseconds likewise. A time that makes no sense is not a fault here; the price simply counts as old.
pub(crate) fn time_of(value: Option<Json>) -> Result<u64, Miss> {
    const US_FROM: u64 = 100_000_000_000_000;
    const NS_FROM: u64 = 1_000 * US_FROM;
    let text = written(value)?;
    if let Some(us) = utc_us(&text) {
        return Ok(us);
    }
    let number = decimal::whole(&text).ok_or(Miss::Shape)?;
    Ok(match number {
        ..US_FROM => number * 1_000,
        US_FROM..NS_FROM => number,
        NS_FROM.. => number / 1_000,
    })
}

/// The middle of best bid and best ask, each of which must be a valid price, not crossed and not too far apart.
pub(crate) fn middle_of(bid: Option<Json>, ask: Option<Json>) -> Result<f64, Miss> {
    decimal::middle(&written(bid)?, &written(ask)?)
}

/// The last price, clamped to the best bid and best ask that came with it: the median of the three. So it is as recent as
/// the quote, and always one of the exchange's own numbers. A quote that says no price is refused.
pub(crate) fn quoted_last(
    last: Option<Json>,
    bid: Option<Json>,
    ask: Option<Json>,
) -> Result<f64, Miss> {
    let (last, bid, ask) = (price_of(last)?, price_of(bid)?, price_of(ask)?);
    decimal::check_quote(bid, ask)?;
    Ok(last.clamp(bid, ask))
}

/// The first 100 characters of an exchange's text, for the log.
pub(crate) fn excerpt(text: &str) -> String {
    let short: String = text.chars().take(100).collect();
    if short.len() < text.len() {
        format!("{short}…")
    } else {
        short
    }
}

/// The fault of a text that is not JSON from the byte `at` on.
pub(crate) fn not_json(text: &str, at: usize) -> Said {
    let text = format!("byte {at} is not JSON: {}", excerpt(text));
    Said::Fault {
        symbol: None,
        id: None,
        miss: Miss::NotJson,
        text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{KINDS, Source};
    use rsoracle_proof::price;

    /// What `dialect` makes of a text about a symbol whose subscription has the number 17.
    pub(super) fn said(dialect: &Dialect, symbol: &str, text: &str) -> Said {
        let topics = Topics {
            symbols: &[symbol],
            channels: &[Some(17)],
        };
        (dialect.read)(text, &topics)
    }

    /// The refusal in `said`.
    pub(super) fn refusal(said: Said) -> Refusal {
        match said {
            Said::Refusal(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }

    /// For each row of `table`: replaces the first text by the second in a good message, which must then be the fault in the
    /// third column.
    pub(super) fn assert_bent(
        dialect: &Dialect,
        symbol: &str,
        good: &str,
        table: &[(&str, &str, Miss)],
    ) {
        for (from, to, miss) in table {
            let bent = good.replace(from, to);
            assert_ne!(bent, good, "{from}");
            match said(dialect, symbol, &bent) {
                Said::Fault { miss: found, .. } => assert_eq!(found, *miss, "{bent}"),
                other => panic!("{other:?}: {bent}"),
            }
        }
    }

    #[test]
    fn every_kind_of_source_has_its_dialect() {
        for (kind, known) in KINDS.iter().zip(DIALECTS) {
            let symbol = kind.spelling.of("BTC", kind.quote);
            let source = Source::parse(&format!("{}:{symbol}", kind.name)).unwrap();
            let spoken = dialect(&source);
            assert_eq!((spoken.name, known.name), (kind.name, kind.name));
            for url in spoken.urls {
                assert!(Endpoint::parse(url).is_ok(), "{url}");
            }
            let messages = match spoken.way {
                Way::Poll(request) => vec![request("a-1", &symbol)],
                Way::Stream(subscribe) => subscribe(&[&symbol]),
            };
            for message in &messages {
                assert_eq!(json::check(message), Ok(()), "{message}");
            }
            let last = messages.last().unwrap().to_uppercase();
            assert!(last.contains(&symbol.to_uppercase()));
            let Pace {
                max_silence,
                ping_every,
                ..
            } = spoken.pace;
            let pings = ping_every > Duration::ZERO;
            assert_eq!(spoken.ping.is_some(), pings, "{}", spoken.name);
            assert!(GOOD.iter().any(|(good, ..)| std::ptr::eq(*good, spoken)));
            // A heartbeat of Kraken's comes each second, whether it is pinged or not.
            assert!(ping_every < max_silence || spoken.name == "kraken");
        }
    }

    #[test]
    fn a_collector_that_is_started_again_and_again_calls_no_exchange_too_often() {
        use crate::aggregator::limits::RESTART_AGAIN_MS_MIN;
        for dialect in DIALECTS {
            let least = Duration::from_millis(RESTART_AGAIN_MS_MIN / 2);
            assert!(dialect.pace.pause_min <= least, "{}", dialect.name);
        }
    }

    #[test]
    fn an_error_of_the_exchange_itself_passes() {
        for (dialect, symbol, text) in [
            (
                &okx::STREAM,
                "BTC-USDT",
                r#"{"event":"error","code":"63999","msg":"Login failed due to internal error. Please try again later.","connId":"a4d3ae55"}"#,
            ),
            (
                &okx::STREAM,
                "BTC-USDT",
                r#"{"event":"error","code":"50001","msg":"Service temporarily unavailable","connId":"a4d3ae55"}"#,
            ),
            (
                &coinbase::STREAM,
                "BTC-USD",
                r#"{"type":"error","message":"Failed to subscribe","reason":"Internal server error"}"#,
            ),
            (
                &kraken::STREAM,
                "BTC/USD",
                r#"{"error":"EService:Unavailable","method":"subscribe","success":false}"#,
            ),
        ] {
            let no = refusal(said(dialect, symbol, text));
            assert_eq!(no.denial, Denial::Busy, "{text}");
        }
    }

    #[test]
    fn the_unit_of_a_time_follows_from_its_form() {
        for (text, us) in [
            ("1723161255342", Ok(1_723_161_255_342_000)),
            ("\"1723161255342\"", Ok(1_723_161_255_342_000)),
            ("1723161255342017", Ok(1_723_161_255_342_017)),
            ("99999999999999", Ok(99_999_999_999_999_000)),
            ("100000000000000", Ok(100_000_000_000_000)),
            ("99999999999999999", Ok(99_999_999_999_999_999)),
            ("1751508438600117161", Ok(1_751_508_438_600_117)),
            ("18446744073709551615", Ok(u64::MAX / 1_000)),
            ("0", Ok(0)),
            ("\"2024-08-08T23:54:15.342Z\"", Ok(1_723_161_255_342_000)),
            ("18446744073709551616", Err(Miss::Shape)),
            ("-1", Err(Miss::Shape)),
            ("1e3", Err(Miss::Shape)),
            ("\"\"", Err(Miss::Shape)),
            ("null", Err(Miss::Shape)),
        ] {
            let mut spans = Spans::new();
            assert_eq!(time_of(Json::read(text, &mut spans).ok()), us, "{text}");
        }
        assert_eq!(time_of(None), Err(Miss::Shape));
    }

    /// Truncates and mutates messages, with a fixed seed: no parser panics, and none returns an invalid price.
    #[test]
    fn no_truncation_and_no_mutation_makes_a_parser_panic_or_invent_a_price() {
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for (dialect, symbol, good) in GOOD {
            let priced = |text: &str| match said(dialect, symbol, text) {
                Said::Price { price, .. } => Some(price),
                _ => None,
            };
            assert!(priced(good).is_some(), "{good}");
            for end in 0..good.len() {
                assert_eq!(priced(&good[..end]), None, "{}", &good[..end]);
            }
            for _ in 0..5_000 {
                let mut bytes = good.as_bytes().to_vec();
                for _ in 0..1 + next() % 4 {
                    let at = next() as usize % bytes.len();
                    bytes[at] = b"{}[]\",:0123456789.eE+-\\u/ntf\0 \x7f"[next() as usize % 31];
                }
                let text = String::from_utf8_lossy(&bytes);
                assert!(priced(&text).is_none_or(price::is_price), "{text}");
            }
        }
    }

    /// What `dialect` makes of a text about one of many symbols: `symbol` is the last, and its subscription has the number 17.
    fn among(dialect: &Dialect, count: usize, symbol: &str, text: &str) -> Said {
        let others: Vec<String> = (1..count).map(|n| format!("OTHER{n}")).collect();
        let mut symbols: Vec<&str> = others.iter().map(String::as_str).collect();
        symbols.push(symbol);
        let channels: Vec<Option<u64>> =
            (18..).map(Some).take(count - 1).chain([Some(17)]).collect();
        let topics = Topics {
            symbols: &symbols,
            channels: &channels,
        };
        (dialect.read)(text, &topics)
    }

    #[test]
    fn a_price_is_that_of_its_symbol_among_many() {
        for (dialect, symbol, good) in GOOD {
            let Said::Price { price, .. } = said(dialect, symbol, good) else {
                panic!("{good}");
            };
            let good = good.replace("s-3", "s-63");
            match among(dialect, 64, symbol, &good) {
                Said::Price {
                    symbol: 63,
                    price: found,
                    ..
                } => assert_eq!(found, price, "{good}"),
                other => panic!("{other:?}: {good}"),
            }
            let foreign = among(dialect, 64, "OTHER", &good.replace("[17,", "[7,"));
            assert!(
                matches!(
                    foreign,
                    Said::ALIVE
                        | Said::Fault {
                            miss: Miss::WrongSymbol,
                            ..
                        }
                ),
                "{foreign:?}: {good}"
            );
        }
    }

    #[test]
    fn a_message_without_a_price_still_says_which_symbol_it_is_about() {
        for (dialect, symbol, good) in GOOD {
            // A time of trade or two prices, whichever there are, that are no number.
            let bent = good.replace("s-3", "s-2").replace("\"p\":\"", "\"p\":\"x");
            let bent = bent
                .replace("\"price\":\"", "\"price\":\"x")
                .replace("83744.2,", "0,");
            let bent = bent
                .replace("price_str\":\"", "price_str\":\"x")
                .replace("Px\":\"", "Px\":\"x");
            let bent = ["b\":\"", "b\":[[\"", "bidPrice\":\""]
                .into_iter()
                .fold(bent, |bent, key| bent.replace(key, &format!("{key}x")));
            match among(dialect, 3, symbol, &bent) {
                Said::Fault { symbol, .. } => assert_eq!(symbol, Some(2), "{bent}"),
                other => panic!("{other:?}: {bent}"),
            }
        }
    }

    #[test]
    fn several_symbols_are_subscribed_to_together_where_each_is_answered_by_itself() {
        for (name, ours) in [
            (
                "binance-stream",
                &[
                    r#"{"method":"SUBSCRIBE","params":["a@trade","a@bookTicker","b@trade","b@bookTicker"],"id":1}"#,
                ][..],
            ),
            (
                "coinbase",
                &[
                    r#"{"type":"subscribe","product_ids":["A"],"channels":["ticker","heartbeat"]}"#,
                    r#"{"type":"subscribe","product_ids":["B"],"channels":["ticker","heartbeat"]}"#,
                ],
            ),
            (
                "kraken",
                &[
                    r#"{"method":"subscribe","params":{"channel":"ticker","symbol":["A","B"],"event_trigger":"bbo","snapshot":true}}"#,
                ],
            ),
            (
                "bitstamp",
                &[
                    r#"{"event":"bts:subscribe","data":{"channel":"live_trades_A"}}"#,
                    r#"{"event":"bts:subscribe","data":{"channel":"order_book_A"}}"#,
                    r#"{"event":"bts:subscribe","data":{"channel":"live_trades_B"}}"#,
                    r#"{"event":"bts:subscribe","data":{"channel":"order_book_B"}}"#,
                ],
            ),
            (
                "bitfinex",
                &[
                    r#"{"event":"conf","flags":32768}"#,
                    r#"{"event":"subscribe","channel":"ticker","symbol":"A"}"#,
                    r#"{"event":"subscribe","channel":"ticker","symbol":"B"}"#,
                ],
            ),
            (
                "gemini",
                &[
                    r#"{"id":"1","method":"subscribe","params":["A@bookTicker","A@trade"]}"#,
                    r#"{"id":"2","method":"subscribe","params":["B@bookTicker","B@trade"]}"#,
                ],
            ),
            (
                "crypto.com",
                &[r#"{"id":1,"method":"subscribe","params":{"channels":["ticker.A","ticker.B"]}}"#],
            ),
            (
                "okx",
                &[
                    r#"{"op":"subscribe","args":[{"channel":"tickers","instId":"A"},{"channel":"tickers","instId":"B"}]}"#,
                ],
            ),
            (
                "bybit",
                &[
                    r#"{"req_id":"1","op":"subscribe","args":["orderbook.1.A"]}"#,
                    r#"{"req_id":"2","op":"subscribe","args":["orderbook.1.B"]}"#,
                ],
            ),
        ] {
            let known = DIALECTS.iter().find(|known| known.name == name);
            match known.expect("a dialect").way {
                Way::Stream(subscribe) => assert_eq!(subscribe(&["A", "B"]), ours),
                Way::Poll(_) => panic!("{name}"),
            }
        }
    }

    #[test]
    fn a_refusal_says_which_symbol_it_is_about_if_the_exchange_does() {
        for (dialect, symbol, text, about) in [
            (
                &binance::POLL,
                "BTCUSDC",
                r#"{"id":"first-2","status":400,"error":{"code":-1121,"msg":"Invalid symbol."}}"#,
                Some(2),
            ),
            (
                &binance::POLL,
                "BTCUSDC",
                r#"{"id":"1-2-3","status":400,"error":{"code":-1121,"msg":"Invalid symbol."}}"#,
                None,
            ),
            (
                &coinbase::STREAM,
                "BTC-USD",
                r#"{"type":"error","message":"Failed to subscribe","reason":"BTC-USD is not a valid product"}"#,
                Some(2),
            ),
            (
                &coinbase::STREAM,
                "BTC-USD",
                r#"{"type":"error","message":"Failed to subscribe","reason":"BTC-USDC is not a valid product"}"#,
                None,
            ),
            (
                &kraken::STREAM,
                "BTC/USD",
                r#"{"error":"Currency pair not supported BTC/USD","method":"subscribe","success":false,"symbol":"BTC/USD"}"#,
                Some(2),
            ),
            (
                &kraken::STREAM,
                "BTC/USD",
                r#"{"error":"Exceeded msg rate","success":false}"#,
                None,
            ),
            (
                &bitstamp::STREAM,
                "btcusd",
                r#"{"event":"bts:error","channel":"","data":{"code":null,"message":"Invalid channel provided."}}"#,
                None,
            ),
            (
                &bitfinex::STREAM,
                "tBTCUSD",
                r#"{"event":"error","channel":"ticker","symbol":"tBTCUSD","msg":"symbol: invalid","code":10300,"pair":"BTCUSD"}"#,
                Some(2),
            ),
            (
                &gemini::STREAM,
                "btcusd",
                r#"{"id":"3","status":400,"error":{"code":-1013,"msg":"Invalid stream name: btcusd@trade"}}"#,
                Some(2),
            ),
            (
                &gemini::STREAM,
                "btcusd",
                r#"{"id":3,"status":400,"error":{"code":-1013,"msg":"Invalid stream name: btcusd@trade"}}"#,
                Some(2),
            ),
            (
                &gemini::STREAM,
                "btcusd",
                r#"{"id":"4","status":400,"error":{"code":-1013,"msg":"Invalid stream name: btcusd@trade"}}"#,
                None,
            ),
            (
                &crypto_com::STREAM,
                "BTC_USD",
                r#"{"id":1,"method":"subscribe","code":40003,"channel":"ticker.BTC_USD","message":"Unknown symbol"}"#,
                Some(2),
            ),
            (
                &crypto_com::STREAM,
                "BTC_USD",
                r#"{"id":1,"method":"subscribe","code":40107,"message":"Maximum subscriptions exceeded"}"#,
                None,
            ),
            (
                &okx::STREAM,
                "BTC-USDT",
                r#"{"event":"error","msg":"Wrong URL or channel:tickers,instId:BTC-USDT doesn't exist. Please use the correct URL.","code":"60018","connId":"a"}"#,
                Some(2),
            ),
            (
                &okx::STREAM,
                "BTC-USDT",
                r#"{"event":"error","msg":"instId:BTC-USDT","code":"60018","connId":"a"}"#,
                None,
            ),
            (
                &bybit::STREAM,
                "BTCUSDT",
                r#"{"success":false,"ret_msg":"error:handler not found,topic:orderbook.1.BTCUSDT","conn_id":"d","req_id":"3","op":"subscribe"}"#,
                Some(2),
            ),
            (
                &bybit::STREAM,
                "BTCUSDT",
                r#"{"success":false,"ret_msg":"","conn_id":"d","req_id":"0","op":"ping"}"#,
                None,
            ),
        ] {
            let refusal = refusal(among(dialect, 3, symbol, text));
            assert_eq!(refusal.symbol, about, "{text}");
        }
    }

    #[test]
    fn a_schedule_fits_an_exchange_up_to_its_published_limit() {
        let schedule = |samples, interval_ms: u64, period_ms: u64| Schedule {
            first_start_us: 0,
            period_us: period_ms * 1_000,
            end_us: None,
            samples,
            interval_us: interval_ms * 1_000,
        };
        let usual = schedule(10, 1_000, 10_000);
        let ends = |schedule, ms: u64| Schedule {
            end_us: Some(ms * 1_000),
            ..schedule
        };
        for (name, symbols, schedule, says) in [
            // 60 requests of each symbol. The few at a start and our pings are left out.
            ("binance:BTCUSDC", 50, usual, None),
            (
                "binance-book:BTCUSDC",
                51,
                usual,
                Some("3060 requests a minute"),
            ),
            // No more than all rounds make.
            ("binance:BTCUSDC", 64, ends(usual, 40_000), None),
            (
                "binance:BTCUSDC",
                64,
                ends(usual, 40_001),
                Some("3200 requests"),
            ),
            ("binance:BTCUSDC", 64, schedule(10, 1_000, 20_000), None),
            ("binance:BTCUSDC", 1, schedule(1_000, 20, 0), None),
            ("binance:BTCUSDC", 1, schedule(9_000, 20, 0), None),
            (
                "binance:BTCUSDC",
                2,
                schedule(1_501, 20, 0),
                Some("weight of 6004"),
            ),
            // Seven rounds may begin within a minute.
            ("binance:BTCUSDC", 42, schedule(10, 100, 9_000), None),
            (
                "binance:BTCUSDC",
                43,
                schedule(10, 100, 9_000),
                Some("3010 requests"),
            ),
            (
                "binance:BTCUSDC",
                64,
                schedule(60, 1_000, 3_600_000),
                Some("binance allows 6000"),
            ),
            ("embedded:BTCUSDC", 64, schedule(9_000, 20, 0), None),
            ("binance-stream:BTCUSDC", 64, schedule(9_000, 20, 0), None),
            ("bitfinex:tBTCUSD", 25, usual, None),
            (
                "bitfinex:tBTCUSD",
                26,
                usual,
                Some("at most 25 over one connection"),
            ),
            ("embedded-bitfinex:tBTCUSD", 64, usual, None),
            ("kraken:BTC/USD", 64, usual, None),
        ] {
            let source = Source::parse(name).unwrap();
            let fits = requests_fit(&source, symbols, &schedule);
            match says {
                None => assert_eq!(fits, Ok(()), "{name} {symbols}"),
                Some(says) => assert!(
                    fits.is_err_and(|why| why.contains(says)),
                    "{name} {symbols}"
                ),
            }
        }
    }

    /// A message with a price of every dialect.
    const GOOD: &[(&Dialect, &str, &str)] = &[
        (
            &binance::POLL,
            "BTCUSDC",
            r#"{"id":"s-3","status":200,"result":{"symbol":"BTCUSDC","price":"87231.42000000"},"rateLimits":[]}"#,
        ),
        (
            &binance::BOOK,
            "BTCUSDC",
            r#"{"id":"s-3","status":200,"result":{"symbol":"BTCUSDC","bidPrice":"87231.42","bidQty":"1","askPrice":"87231.43","askQty":"2"}}"#,
        ),
        (
            &binance_stream::STREAM,
            "BTCUSDC",
            r#"{"stream":"btcusdc@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDC","t":3735683259,"p":"61837.63000000","q":"0.02","T":1723161255342,"m":true}}"#,
        ),
        (
            &binance_stream::STREAM,
            "BTCUSDC",
            r#"{"u":50093239212,"s":"BTCUSDC","b":"61837.63000000","B":"3.78826000","a":"61837.64000000","A":"1.54698000"}"#,
        ),
        (
            &coinbase::STREAM,
            "BTC-USD",
            r#"{"type":"ticker","sequence":137077291831,"product_id":"BTC-USD","price":"83532.25","best_bid":"83532.24","time":"2026-09-25T17:48:26.844359Z","trade_id":891234567}"#,
        ),
        (
            &kraken::STREAM,
            "BTC/USD",
            r#"{"channel":"ticker","type":"update","data":[{"symbol":"BTC/USD","bid":83744.2,"ask":83744.3,"last":8.37443e4,"timestamp":"2026-09-25T17:48:26.844359Z"}]}"#,
        ),
        (
            &bitstamp::STREAM,
            "btcusd",
            r#"{"data":{"id":629344156,"price":81263.98,"price_str":"81263.98","microtimestamp":"1788481329090000"},"channel":"live_trades_btcusd","event":"trade"}"#,
        ),
        (
            &bitfinex::STREAM,
            "tBTCUSD",
            "[17,[83744.2,10.5,83744.3,4.25,-429.3,-0.0051,83750,2100.5,84700.1,83000],5]",
        ),
        (
            &gemini::STREAM,
            "btcusd",
            r#"{"u":1751505576085,"E":1751508438600117161,"s":"btcusd","b":"45000.50","B":"1.25","a":"45001.00","A":"0.75"}"#,
        ),
        (
            &gemini::STREAM,
            "btcusd",
            r#"{"E":1751508438600117161,"s":"btcusd","t":123456789,"p":"45000.75","q":"0.25","m":true}"#,
        ),
        (
            &crypto_com::STREAM,
            "BTC_USD",
            r#"{"id":-1,"method":"subscribe","code":0,"result":{"instrument_name":"BTC_USD","subscription":"ticker.BTC_USD","channel":"ticker","data":[{"a":"63958.47","b":"63962.64","k":"63962.65","i":"BTC_USD","t":1782032455141}]}}"#,
        ),
        (
            &okx::STREAM,
            "BTC-USDT",
            r#"{"arg":{"channel":"tickers","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","last":"83766.8","askPx":"83774.2","bidPx":"83774.1","ts":"1790358564077"}]}"#,
        ),
        (
            &bybit::STREAM,
            "BTCUSDT",
            r#"{"topic":"orderbook.1.BTCUSDT","ts":1786310821917,"type":"snapshot","data":{"s":"BTCUSDT","b":[["65140.5","0.25"]],"a":[["65140.6","1.5"]]},"cts":1786310821912}"#,
        ),
    ];
}
