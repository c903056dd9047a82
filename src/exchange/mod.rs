//! Exchanges: where they are, how they are spoken to, what they say. One file per exchange, its parser a pure function.
//!
//! A [`Dialect`] is all that the rest of the program knows of an exchange. Invariant: what a parser gives is a value of
//! [`Said`], whatever the text; it never panics, never guesses, and ignores what it does not know.
//! What this module does not do: wait or decide; `session` speaks, the collector samples.

pub mod binance;
pub mod certificate;
pub mod channel;
pub mod link;
pub mod roots;
pub mod session;
pub mod tunnel;

use crate::json::Json;
use crate::price::{self, BadPrice};
use crate::reason::Miss;
use crate::source::{Endpoint, Source};

/// How one exchange is spoken to.
pub struct Dialect {
    /// As in a source's name: `kraken`.
    pub name: &'static str,
    /// Where it listens. The next one is tried when the one before does not serve this location (HTTP 451 or 403).
    pub urls: &'static [&'static str],
    /// Whether prices are asked for or come by themselves.
    pub way: Way,
    /// What a text message says: a pure function, total on any text.
    pub read: fn(&str, &Topic) -> Said,
    /// The text by which a client shows that it lives, where the exchange asks for one.
    pub ping: Option<&'static str>,
    /// Its rules of keeping a connection.
    pub pace: Pace,
}

/// How prices come.
pub enum Way {
    /// Each is asked for: the request for one, under an id that comes back in the reply.
    Poll(fn(id: &str, symbol: &str) -> String),
    /// They come by themselves once these messages were sent.
    Stream(fn(symbol: &str) -> Vec<String>),
}

/// When a connection, or what it said, is too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// A price older than this is stale: by the exchange's own time where it gives one, else by its arrival.
    pub age_s_max: u64,
    /// A connection on which nothing at all has come for so long is dead.
    pub silence_s_max: u64,
    /// The client's ping is due so often.
    pub ping_s: u64,
    /// Shortest pause between two attempts to connect, after the first.
    pub pause_ms_min: u64,
}

/// What a connection is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic<'a> {
    /// The symbol, as the exchange spells it.
    pub symbol: &'a str,
    /// The number that the exchange gave the subscription, where prices bear that instead of the symbol.
    pub channel: Option<u64>,
}

/// What a message of an exchange says to one who watches one symbol.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// A price of the symbol.
    Price {
        /// Which request it answers, where prices are asked for.
        id: Option<String>,
        /// The price.
        price: f64,
        /// When the exchange says it was so, in microseconds since the Unix epoch.
        time_us: Option<u64>,
    },
    /// Nothing about the price: an acknowledgement, a heartbeat, or what nobody asked for.
    Alive {
        /// The exchange's time, where the message gives it, in microseconds since the Unix epoch.
        time_us: Option<u64>,
    },
    /// The subscription stands under this number.
    Channel(u64),
    /// There should be a price here, and is none.
    Fault {
        /// Which request it answers, where that can be told.
        id: Option<String>,
        /// What goes into the sample's record.
        miss: Miss,
        /// What goes into the log.
        text: String,
    },
    /// The exchange says no, for good or for a while.
    Refusal(Refusal),
    /// The exchange wants this connection to end: a restart, a maintenance. The text says what it announced.
    Leaving(String),
}

/// The exchange says no.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// Which request it answers, where that can be told.
    pub id: Option<String>,
    /// What it amounts to.
    pub denial: Denial,
    /// The exchange's own number and words.
    pub text: String,
    /// When to come back: milliseconds since the Unix epoch.
    pub retry_after_ms: Option<u64>,
}

/// What a refusal amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// There is no such symbol.
    UnknownSymbol,
    /// There is such a market, but it is not trading.
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
    /// What goes into the sample's record.
    pub fn miss(&self) -> Miss {
        match self.denial {
            Denial::TooMany | Denial::Banned => Miss::RateLimited,
            _ => Miss::Refused,
        }
    }
}

impl Said {
    /// A message without a price and without a time.
    pub const ALIVE: Said = Said::Alive { time_us: None };

    /// A message that should have had a price, in a stream.
    pub fn fault(miss: Miss, text: impl Into<String>) -> Said {
        Said::Fault {
            id: None,
            miss,
            text: text.into(),
        }
    }
}

/// How a kind of source is spoken to.
pub fn dialect(source: &Source) -> &'static Dialect {
    match source.kind.name {
        "binance" => &binance::POLL,
        "binance-book" => &binance::BOOK,
        other => unreachable!("no dialect for {other}"),
    }
}

/// Where prices of `source` come from: the exchange's own places, or `named`, which is where the embedded exchange listens.
pub fn endpoints(source: &Source, named: Option<&Endpoint>) -> Vec<Endpoint> {
    if source.embedded {
        let named = named.expect("the configuration names an endpoint where the source has none");
        return vec![match dialect(source).way {
            // It is asked at the path that was named.
            Way::Poll(_) => named.clone(),
            Way::Stream(_) => named.with_path(source.kind.name),
        }];
    }
    let own = dialect(source).urls.iter();
    own.map(|url| Endpoint::parse(url).expect("the built-in addresses are well formed"))
        .collect()
}

/// The price that stands in a JSON string or number, from its decimal text.
pub fn price_of(value: Option<Json>) -> Result<f64, Miss> {
    let value = value.ok_or(Miss::Shape)?;
    let text = value.text();
    let text = text.as_deref().or(value.number()).ok_or(Miss::Shape)?;
    price::parse(text).map_err(|bad| match bad {
        BadPrice::NotDecimal => Miss::NotDecimal,
        BadPrice::OutOfBounds => Miss::OutOfBounds,
    })
}

/// The middle of best bid and best ask, each a price of its own.
pub fn middle_of(bid: Option<Json>, ask: Option<Json>) -> Result<f64, Miss> {
    Ok(price_of(bid)?.midpoint(price_of(ask)?))
}

/// A last price held within the best bid and ask that came with it (the median of the three): as young as the quote is, and
/// always one of the exchange's own numbers.
pub fn quoted_last(last: Option<Json>, bid: Option<Json>, ask: Option<Json>) -> Result<f64, Miss> {
    let mut three = [price_of(last)?, price_of(bid)?, price_of(ask)?];
    three.sort_by(f64::total_cmp);
    Ok(three[1])
}

/// A price in a stream, or why it is none; `text` is the message that it should stand in.
pub fn streamed(price: Result<f64, Miss>, time_us: Option<u64>, text: &str) -> Said {
    match price {
        Ok(price) => Said::Price {
            id: None,
            price,
            time_us,
        },
        Err(miss) => Said::fault(miss, excerpt(text)),
    }
}

/// The beginning of foreign text, for the log.
pub fn excerpt(text: &str) -> String {
    let short: String = text.chars().take(100).collect();
    if short.len() < text.len() {
        format!("{short}…")
    } else {
        short
    }
}

/// What a text is that is no JSON.
pub fn not_json(text: &str, at: usize) -> Said {
    Said::fault(
        Miss::NotJson,
        format!("byte {at} is not JSON: {}", excerpt(text)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::price;

    /// Cuts and bends a message in seeded ways: no parser panics, and none makes a price that is none.
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
            let topic = Topic {
                symbol,
                channel: Some(17),
            };
            let priced = |text: &str| match (dialect.read)(text, &topic) {
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
    ];
}
