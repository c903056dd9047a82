//! Binance's WebSocket API, on which each price is requested: `ticker.price` (`binance:`) and the middle of `ticker.book`
//! (`binance-book:`).
//!
//! Source: binance/binance-spot-api-docs, web-socket-api.md ("Symbol price ticker", "Symbol order book ticker", "Rate limits",
//! "Error codes") and errors.md. These prices have no time, so their age is unknown. Each symbol is requested by itself, with a
//! weight of 2: one wrong symbol would make a request for a list fail. The id of a request ends in its symbol's index, which
//! tells whose price an answer or a refusal is.
//! Invariant: the parsers are pure functions, total on any text. Unless a price is exactly valid, they return the reason why
//! not.

use super::{
    Denial, Dialect, Id, Pace, Refusal, Said, Topics, Way, excerpt, middle_of, not_json, price_of,
    time_of,
};
use crate::exchange::json::{Json, NotJson, Spans};
use rsoracle_proof::reason::Miss;
use std::time::Duration;

/// The address of the API.
const URLS: &[&str] = &["wss://ws-api.binance.com:443/ws-api/v3"];

/// The exchange pings every 20 s ("General API Information"); it allows 300 connections per 5 minutes and address.
const PACE: Pace = Pace {
    max_age: Duration::from_secs(10),
    max_silence: Duration::from_secs(60),
    // The exchange does not require pings; ours asks for its time, which no price has.
    ping_every: Duration::from_secs(30),
    pause_min: Duration::from_millis(1_000),
};

/// Most weight that the exchange allows a minute and address ("Rate limits").
pub(super) const WEIGHT_MAX: u64 = 6_000;

/// The weight of so many requests for a price of one symbol. That of a new connection and of our pings is small, and left out.
pub(super) fn weight(requests: u64) -> u64 {
    2 * requests
}

/// The last price.
pub static POLL: Dialect = Dialect {
    name: "binance",
    urls: URLS,
    way: Way::Poll(|id, symbol| request("ticker.price", id, symbol)),
    read: |text, topics| read(text, topics, |result| price_of(result.get("price"))),
    ping: Some(TIME),
    pace: PACE,
};

/// The middle of best bid and best ask.
pub(crate) static BOOK: Dialect = Dialect {
    name: "binance-book",
    urls: URLS,
    way: Way::Poll(|id, symbol| request("ticker.book", id, symbol)),
    read: |text, topics| {
        read(text, topics, |result| {
            let [bid, ask] = result.pick(["bidPrice", "askPrice"]);
            middle_of(bid, ask)
        })
    },
    ping: Some(TIME),
    pace: PACE,
};

/// The request for one price. It asks for trading symbols only, so that a halted market is an error, not a stale price.
/// The reply repeats `id`, which has at most 36 letters, digits and hyphens.
fn request(method: &str, id: &str, symbol: &str) -> String {
    format!(
        r#"{{"id":"{id}","method":"{method}","params":{{"symbol":"{symbol}","symbolStatus":"TRADING"}}}}"#
    )
}

/// The request for the exchange's time, of weight 1 ("Check server time").
const TIME: &str = r#"{"id":"time","method":"time"}"#;

/// Parses one message, normally the answer to a request.
fn read(text: &str, topics: &Topics, price: fn(Json) -> Result<f64, Miss>) -> Said {
    let mut spans = Spans::new();
    let json = match Json::read(text, &mut spans) {
        Ok(json) => json,
        Err(NotJson(at)) => return not_json(text, at),
    };
    let [id, event, status, error, result] =
        json.pick(["id", "event", "status", "error", "result"]);
    let asked = id.and_then(Json::text).and_then(|id| topics.asked(&id));
    let id = match id {
        None => Ok(None),
        Some(id) if id.raw() == "null" => Ok(None),
        Some(id) => {
            let number = || id.whole::<i64>().map(|id| Id::new(&id.to_string()));
            let id = id.text().map(|text| Id::new(&text)).or_else(number);
            id.map(Some).ok_or(())
        }
    };
    let Ok(id) = id else {
        return Said::fault(None, Miss::Shape, text);
    };
    let fault = |symbol: Option<usize>, id, miss| Said::Fault {
        symbol: asked.or(symbol),
        id,
        miss,
        text: excerpt(text),
    };
    if let Some(event) = event {
        return match event.get("e") {
            Some(name) if name.says("serverShutdown") => Said::Leaving("a shutdown".into()),
            // Other announcements are not about the requested price.
            _ => Said::ALIVE,
        };
    }
    let status = status.and_then(Json::whole::<u16>);
    if let Some(error) = error {
        let refused = refusal(asked, id, status.unwrap_or(0), error);
        return refused.unwrap_or_else(|| fault(None, id, Miss::Shape));
    }
    let result = match (status, result) {
        (Some(200), Some(result)) => result,
        _ => return fault(None, id, Miss::Shape),
    };
    let [time, symbol] = result.pick(["serverTime", "symbol"]);
    if let Ok(time_us) = time_of(time) {
        let time_us = Some(time_us);
        return Said::Alive { time_us };
    }
    let mut about = None;
    let symbol = match topics.find(symbol, &mut about) {
        // The answer to a request for one symbol has the price of another.
        Ok(symbol) if asked.is_some_and(|asked| asked != symbol) => Err(Miss::WrongSymbol),
        found => found,
    };
    match symbol.and_then(|symbol| Ok((symbol, price(result)?))) {
        Ok(_) if id.is_none() => fault(about, None, Miss::WrongId),
        Ok((symbol, price)) => Said::Price {
            symbol,
            id,
            price,
            time_us: None,
        },
        Err(miss) => fault(about, id, miss),
    }
}

/// Parses an error object, whose codes are in errors.md; `None` if it has none.
fn refusal(symbol: Option<usize>, id: Option<Id>, status: u16, error: Json) -> Option<Said> {
    let code: i64 = error.get("code").and_then(Json::whole)?;
    let message = error.get("msg").and_then(Json::text)?;
    let denial = match (status, code) {
        (418, _) => Denial::Banned,
        (429, _) => Denial::TooMany,
        (_, -1121) => Denial::UnknownSymbol,
        (_, -1220) => Denial::NotTrading,
        (500.., _) => Denial::Busy,
        _ => Denial::Other,
    };
    let retry_after = error.get("data").and_then(|data| data.get("retryAfter"));
    Some(Said::Refusal(Refusal {
        symbol,
        id,
        denial,
        text: format!("status {status}, code {code}, {:?}", excerpt(&message)),
        retry_after_ms: retry_after.and_then(Json::whole),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"id":"s-3","status":200,"result":{"symbol":"BTCUSDC","price":"87231.42000000"},"rateLimits":[{"rateLimitType":"REQUEST_WEIGHT","interval":"MINUTE","intervalNum":1,"limit":6000,"count":2}]}"#;
    // The document's example ("Symbol order book ticker").
    const BOOKED: &str = r#"{"id":"9d32157c","status":200,"result":{"symbol":"BNBBTC","bidPrice":"0.01358000","bidQty":"12.53400000","askPrice":"0.01358100","askQty":"17.83700000"}}"#;

    fn said(text: &str) -> Said {
        about(text, "BTCUSDC")
    }

    fn about(text: &str, symbol: &str) -> Said {
        (POLL.read)(text, &of(&[symbol]))
    }

    fn of<'a>(symbols: &'a [&'a str]) -> Topics<'a> {
        let channels = &[];
        Topics { symbols, channels }
    }

    fn price(id: &str, price: f64) -> Said {
        Said::Price {
            symbol: 0,
            id: Some(Id::new(id)),
            price,
            time_us: None,
        }
    }

    fn miss(text: &str) -> (Option<Id>, Miss) {
        match said(text) {
            Said::Fault { id, miss, .. } => (id, miss),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_reply_with_the_exchanges_time_is_no_price() {
        // The document's example ("Check server time").
        let reply = r#"{"id":"187d3cb2-942d-484c-8271-4e2141bbadb1","status":200,"result":{"serverTime":1656400526260}}"#;
        let time_us = Some(1_656_400_526_260_000);
        assert_eq!(said(reply), Said::Alive { time_us });
        assert!(crate::exchange::json::check(TIME).is_ok());
    }

    #[test]
    fn the_documented_reply_is_a_price() {
        assert_eq!(said(GOOD), price("s-3", 87231.42));
        let example = r#"{"id":"043a7cf2-bde3-4888-9604-c8ac41fcba4d","status":200,"result":{"symbol":"BNBBTC","price":"0.01361900"}}"#;
        assert_eq!(
            about(example, "BNBBTC"),
            price("043a7cf2-bde3-4888-9604-c8ac41fcba4d", 0.013619)
        );
        assert_eq!(said(&GOOD.replace("\"s-3\"", "17")), price("17", 87231.42));
        assert_eq!(
            said(&GOOD.replace("\"87231.42000000\"", "8.723142e4")),
            price("s-3", 87231.42)
        );
    }

    #[test]
    fn a_book_is_read_as_its_middle() {
        let topics = of(&["BNBBTC"]);
        assert_eq!((BOOK.read)(BOOKED, &topics), price("9d32157c", 0.0135805));
        for (from, miss) in [
            ("0.01358100", Miss::OutOfBounds),
            ("\"askPrice\"", Miss::Shape),
        ] {
            let text = BOOKED.replace(
                from,
                if from.starts_with('"') {
                    "\"ask\""
                } else {
                    "0"
                },
            );
            match (BOOK.read)(&text, &topics) {
                Said::Fault { miss: found, .. } => assert_eq!(found, miss),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn an_answer_with_the_price_of_another_symbol_than_its_request_asked_for_is_refused() {
        let topics = of(&["ETHUSDC", "BTCUSDC"]);
        let said = |id: &str| (POLL.read)(&GOOD.replace("s-3", id), &topics);
        for (id, symbol) in [("first-0", Some(0)), ("17-5-0", Some(0))] {
            match said(id) {
                Said::Fault {
                    symbol: about,
                    miss,
                    id: Some(_),
                    ..
                } => assert_eq!((about, miss), (symbol, Miss::WrongSymbol), "{id}"),
                other => panic!("{other:?}"),
            }
        }
        for id in ["first-1", "17-5-1"] {
            assert!(matches!(said(id), Said::Price { symbol: 1, .. }), "{id}");
        }
    }

    #[test]
    fn the_request_is_what_the_document_asks_for() {
        let expected = r#"{"id":"a-1","method":"ticker.price","params":{"symbol":"BTCUSDC","symbolStatus":"TRADING"}}"#;
        let Way::Poll(request) = POLL.way else {
            panic!("it is asked")
        };
        assert_eq!(request("a-1", "BTCUSDC"), expected);
        assert!(crate::exchange::json::check(expected).is_ok());
    }

    #[test]
    fn anything_but_an_exact_price_gives_a_reason() {
        let with = |from: &str, to: &str| miss(&GOOD.replace(from, to));
        let id = || Some(Id::new("s-3"));
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
        for text in ["null", "true", "[1]", "{}"] {
            assert_eq!(with("\"87231.42000000\"", text), (id(), Miss::Shape));
        }
        assert_eq!(with("\"87231.42000000\"", "NaN"), (None, Miss::NotJson));
        assert_eq!(with("\"price\"", "\"prize\""), (id(), Miss::Shape));
        assert_eq!(with("\"s-3\"", "null"), (None, Miss::WrongId));
        assert_eq!(with("\"s-3\"", "[1]"), (None, Miss::Shape));
        assert_eq!(with("200", "201"), (id(), Miss::Shape));
        assert_eq!(miss("{}"), (None, Miss::Shape));
        assert_eq!(miss("[]"), (None, Miss::Shape));
        assert_eq!(miss("garbage"), (None, Miss::NotJson));
        assert_eq!(said(r#"{"event":{"e":"news"}}"#), Said::ALIVE);
    }

    #[test]
    fn refusals_are_recognized() {
        let refused = |text: &str| match said(text) {
            Said::Refusal(refusal) => refusal,
            other => panic!("{other:?}"),
        };
        let banned = refused(
            r#"{"id":"fc93a61a","status":418,"error":{"code":-1003,"msg":"Way too much request weight used; IP banned until 1659146400000.","data":{"serverTime":1659142907531,"retryAfter":1659146400000}},"rateLimits":[]}"#,
        );
        assert_eq!(
            (banned.denial, banned.miss(), banned.retry_after_ms),
            (Denial::Banned, Miss::RateLimited, Some(1_659_146_400_000))
        );
        let unknown =
            refused(r#"{"id":"1","status":400,"error":{"code":-1121,"msg":"Invalid symbol."}}"#);
        assert_eq!(
            (unknown.denial, unknown.miss(), unknown.retry_after_ms),
            (Denial::UnknownSymbol, Miss::Refused, None)
        );
        assert!(matches!(
            said(r#"{"event":{"e":"serverShutdown","E":1770123456789}}"#),
            Said::Leaving(_)
        ));
    }
}
