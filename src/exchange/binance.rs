//! Binance's websocket API, method `ticker.price`; the embedded exchange speaks it too.
//!
//! Source of the rules: binance/binance-spot-api-docs, web-socket-api.md ("Symbol price ticker", "Rate limits",
//! "Error codes") and errors.md. The exchange gives no time with this price, so its age is unknown.
//! Invariant: [`parse`] is a pure function, total on any text; what is not exactly a price is a reason why not.

use crate::json;
use crate::price::{self, BadPrice};
use crate::reason::Miss;
use nanoserde::{DeJson, DeJsonErr, DeJsonState, DeJsonTok};
use std::str::Chars;

/// Where the API listens.
pub const ENDPOINT: &str = "wss://ws-api.binance.com:443/ws-api/v3";

/// The request for one price. It asks for trading symbols only, so that a halted market is an error, not a stale price.
/// `id` comes back in the reply; letters, digits and hyphens, at most 36.
pub fn request(id: &str, symbol: &str) -> String {
    format!(
        r#"{{"id":"{id}","method":"ticker.price","params":{{"symbol":"{symbol}","symbolStatus":"TRADING"}}}}"#
    )
}

/// What a message of the exchange says.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// The price asked for under this id.
    Price {
        /// Which request it answers.
        id: String,
        /// The price.
        price: f64,
    },
    /// No price.
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
    /// The exchange announces that it will close the connection.
    Shutdown,
}

/// An error object.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// Which request it answers, where that can be told.
    pub id: Option<String>,
    /// Status as in HTTP: 400 bad request, 418 banned, 429 too many requests.
    pub status: u16,
    /// The exchange's own number; -1121 is "Invalid symbol.".
    pub code: i64,
    /// The exchange's own words.
    pub message: String,
    /// When to come back: milliseconds since the Unix epoch.
    pub retry_after_ms: Option<u64>,
}

/// -1220 SYMBOL_DOES_NOT_MATCH_STATUS: there is such a market, but it is not trading.
pub const CODE_NOT_TRADING: i64 = -1220;
/// -1121 BAD_SYMBOL
pub const CODE_BAD_SYMBOL: i64 = -1121;

impl Refusal {
    /// What goes into the sample's record.
    pub fn miss(&self) -> Miss {
        if matches!(self.status, 418 | 429) {
            Miss::RateLimited
        } else {
            Miss::Refused
        }
    }
}

/// An id as it comes back: a string, an integer or null.
#[derive(Debug, PartialEq)]
struct Id(Option<String>);

impl DeJson for Id {
    fn de_json(state: &mut DeJsonState, input: &mut Chars) -> Result<Id, DeJsonErr> {
        let id = match &state.tok {
            DeJsonTok::Str => Some(state.strbuf.clone()),
            DeJsonTok::U64(number) => Some(number.to_string()),
            DeJsonTok::I64(number) => Some(number.to_string()),
            DeJsonTok::Null => None,
            _ => return Err(state.err_token("string, integer or null")),
        };
        state.next_tok(input)?;
        Ok(Id(id))
    }
}

#[derive(DeJson)]
struct Envelope {
    id: Option<Id>,
    status: Option<u16>,
    result: Option<Ticker>,
    error: Option<ErrorObject>,
    event: Option<Event>,
}

#[derive(DeJson)]
struct Ticker {
    symbol: String,
    price: String,
}

#[derive(DeJson)]
struct ErrorObject {
    code: i64,
    msg: String,
    data: Option<ErrorData>,
}

#[derive(DeJson)]
struct ErrorData {
    #[nserde(rename = "retryAfter")]
    retry_after: Option<u64>,
}

#[derive(DeJson)]
struct Event {
    e: String,
}

/// Reads one message, which should answer a request for the price of `symbol`.
pub fn parse(text: &str, symbol: &str) -> Reply {
    let fault = |id, miss, text: String| Reply::Fault { id, miss, text };
    if let Err(json::NotJson(at)) = json::check(text) {
        return fault(
            None,
            Miss::NotJson,
            format!("byte {at} is not JSON: {}", excerpt(text)),
        );
    }
    let envelope: Envelope = match DeJson::deserialize_json(text) {
        Ok(envelope) => envelope,
        Err(error) => return fault(None, Miss::Shape, format!("{error} in {}", excerpt(text))),
    };
    let id = envelope.id.and_then(|id| id.0);
    if let Some(event) = envelope.event {
        return match event.e.as_str() {
            "serverShutdown" => Reply::Shutdown,
            other => fault(id, Miss::Shape, format!("unknown event {}", excerpt(other))),
        };
    }
    let status = envelope.status.unwrap_or(0);
    if let Some(error) = envelope.error {
        let retry_after_ms = error.data.and_then(|data| data.retry_after);
        return Reply::Refusal(Refusal {
            id,
            status,
            code: error.code,
            message: excerpt(&error.msg),
            retry_after_ms,
        });
    }
    match (status, envelope.result, id) {
        (200, Some(ticker), id) if ticker.symbol != symbol => fault(
            id,
            Miss::WrongSymbol,
            format!("asked for {symbol}, got {}", excerpt(&ticker.symbol)),
        ),
        (200, Some(ticker), Some(id)) => match price::parse(&ticker.price) {
            Ok(price) => Reply::Price { id, price },
            Err(BadPrice::NotDecimal) => fault(
                Some(id),
                Miss::NotDecimal,
                format!("{:?}", excerpt(&ticker.price)),
            ),
            Err(BadPrice::OutOfBounds) => fault(
                Some(id),
                Miss::OutOfBounds,
                format!("{:?}", excerpt(&ticker.price)),
            ),
        },
        (200, Some(_), None) => fault(None, Miss::WrongId, "null".into()),
        (_, _, id) => fault(
            id,
            Miss::Shape,
            format!("status {status} without result: {}", excerpt(text)),
        ),
    }
}

/// The beginning of foreign text, for the log.
fn excerpt(text: &str) -> String {
    let short: String = text.chars().take(100).collect();
    if short.len() < text.len() {
        format!("{short}…")
    } else {
        short
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"id":"s-3","status":200,"result":{"symbol":"BTCUSDC","price":"87231.42000000"},"rateLimits":[{"rateLimitType":"REQUEST_WEIGHT","interval":"MINUTE","intervalNum":1,"limit":6000,"count":2}]}"#;

    fn miss(text: &str) -> (Option<String>, Miss) {
        match parse(text, "BTCUSDC") {
            Reply::Fault { id, miss, .. } => (id, miss),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_documented_reply_is_a_price() {
        assert_eq!(
            parse(GOOD, "BTCUSDC"),
            Reply::Price {
                id: "s-3".into(),
                price: 87231.42
            }
        );
        let example = r#"{"id":"043a7cf2-bde3-4888-9604-c8ac41fcba4d","status":200,"result":{"symbol":"BNBBTC","price":"0.01361900"}}"#;
        assert_eq!(
            parse(example, "BNBBTC"),
            Reply::Price {
                id: "043a7cf2-bde3-4888-9604-c8ac41fcba4d".into(),
                price: 0.013619
            }
        );
        assert_eq!(
            parse(&GOOD.replace("\"s-3\"", "17"), "BTCUSDC"),
            Reply::Price {
                id: "17".into(),
                price: 87231.42
            }
        );
    }

    #[test]
    fn the_request_is_what_the_document_asks_for() {
        let expected = r#"{"id":"a-1","method":"ticker.price","params":{"symbol":"BTCUSDC","symbolStatus":"TRADING"}}"#;
        assert_eq!(request("a-1", "BTCUSDC"), expected);
        assert_eq!(json::check(expected), Ok(()));
    }

    #[test]
    fn what_is_not_exactly_a_price_is_a_reason() {
        let with = |from: &str, to: &str| miss(&GOOD.replace(from, to));
        let id = || Some("s-3".to_owned());
        assert_eq!(with("BTCUSDC", "BTCUSDT"), (id(), Miss::WrongSymbol));
        for text in ["NaN", "", "abc", "inf", "0x1"] {
            assert_eq!(
                with("87231.42000000", text),
                (id(), Miss::NotDecimal),
                "{text}"
            );
        }
        for text in ["0", "0.00000000", "-87231.42", "1e400"] {
            assert_eq!(
                with("87231.42000000", text),
                (id(), Miss::OutOfBounds),
                "{text}"
            );
        }
        assert_eq!(
            with("\"87231.42000000\"", "87231.42"),
            (None, Miss::Shape),
            "a number is not this exchange's way"
        );
        assert_eq!(with("\"87231.42000000\"", "NaN"), (None, Miss::NotJson));
        assert_eq!(with("\"price\"", "\"prize\""), (None, Miss::Shape));
        assert_eq!(with("\"s-3\"", "null"), (None, Miss::WrongId));
        assert_eq!(with("\"s-3\"", "[1]"), (None, Miss::Shape));
        assert_eq!(with("200", "201"), (id(), Miss::Shape));
        assert_eq!(miss("{}"), (None, Miss::Shape));
        assert_eq!(miss("[]"), (None, Miss::Shape));
        assert_eq!(miss("garbage"), (None, Miss::NotJson));
        assert_eq!(miss(r#"{"event":{"e":"news"}}"#), (None, Miss::Shape));
    }

    #[test]
    fn the_exchange_may_say_no() {
        let banned = r#"{"id":"fc93a61a","status":418,"error":{"code":-1003,"msg":"Way too much request weight used; IP banned until 1659146400000.","data":{"serverTime":1659142907531,"retryAfter":1659146400000}},"rateLimits":[]}"#;
        let Reply::Refusal(refusal) = parse(banned, "BTCUSDC") else {
            panic!()
        };
        assert_eq!(
            (refusal.status, refusal.code, refusal.retry_after_ms),
            (418, -1003, Some(1_659_146_400_000))
        );
        assert_eq!(refusal.miss(), Miss::RateLimited);
        let unknown = r#"{"id":"1","status":400,"error":{"code":-1121,"msg":"Invalid symbol."}}"#;
        let Reply::Refusal(refusal) = parse(unknown, "BTCUSDC") else {
            panic!()
        };
        assert_eq!(
            (refusal.code, refusal.miss(), refusal.retry_after_ms),
            (CODE_BAD_SYMBOL, Miss::Refused, None)
        );
        assert_eq!(
            parse(
                r#"{"event":{"e":"serverShutdown","E":1770123456789}}"#,
                "BTCUSDC"
            ),
            Reply::Shutdown
        );
    }

    #[test]
    fn no_truncation_and_no_mutation_makes_the_parser_panic_or_invent_a_price() {
        for end in 0..GOOD.len() {
            assert!(
                !matches!(parse(&GOOD[..end], "BTCUSDC"), Reply::Price { .. }),
                "{}",
                &GOOD[..end]
            );
        }
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for _ in 0..20_000 {
            let mut bytes = GOOD.as_bytes().to_vec();
            for _ in 0..1 + next() % 4 {
                let at = next() as usize % bytes.len();
                bytes[at] = b"{}[]\",:0123456789.eE+-\\u/ntf\0 \x7f"[next() as usize % 31];
            }
            let text = String::from_utf8_lossy(&bytes);
            if let Reply::Price { price, .. } = parse(&text, "BTCUSDC") {
                assert!(price::is_price(price), "{text}");
            }
        }
    }
}
