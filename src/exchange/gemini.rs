//! Gemini's WebSocket API (`gemini:`): every trade, and best bid and best ask as often as they change.
//!
//! Source: developer.gemini.com/websocket (introduction, streams, message-format), version 0.10.7. Prices are text, and times
//! are in nanoseconds. Neither a trade nor a quote need have an event name; both are recognized by their keys. One unknown
//! symbol makes a whole subscription fail. So each message subscribes to one symbol, and its id, which the answer repeats, is
//! the symbol's index plus one.
//! Invariant: the parser is a pure function, total on any text. Unless a price is exactly valid, it returns the reason why not.

use super::{Denial, Dialect, Pace, Said, Topics, Way, heard, middle_of, price_of, time_of};
use crate::exchange::json::Json;
use rsoracle_proof::reason::Miss;
use std::time::Duration;

/// Trades, and the middle of best bid and best ask. Whichever came last is the price.
pub(crate) static STREAM: Dialect = Dialect {
    name: "gemini",
    urls: &["wss://ws.gemini.com:443"],
    way: Way::Stream(subscribe),
    read: |text, topics| heard(text, topics, read),
    ping: None,
    pace: Pace {
        // Quotes of BTC/USD come many times a second, those of a quiet market every half minute.
        max_age: Duration::from_secs(60),
        // The exchange pings every 20 s.
        max_silence: Duration::from_secs(60),
        ping_every: Duration::from_secs(0),
        // The exchange allows 300 connections per 5 minutes and address.
        pause_min: Duration::from_millis(1_000),
    },
};

fn subscribe(symbols: &[&str]) -> Vec<String> {
    let both = |(id, symbol)| {
        format!(
            r#"{{"id":"{id}","method":"subscribe","params":["{symbol}@bookTicker","{symbol}@trade"]}}"#
        )
    };
    (1..).zip(symbols).map(both).collect()
}

fn read(json: Json, topics: &Topics, about: &mut Option<usize>) -> Result<Said, Miss> {
    let names = ["e", "s", "b", "a", "p", "E", "status", "error"];
    let [event, symbol, bid, ask, price, time, status, error] = json.pick(names);
    if let Some(status) = status {
        return Ok(answer(status, error, topics.numbered(json.get("id"))));
    }
    // A change of the book has the keys of a quote, and another event name.
    let is = |name: &str| event.is_none_or(|event| event.says(name));
    let price = match price {
        Some(_) if is("trade") => price_of(price),
        None if is("bookTicker") && bid.or(ask).is_some() => middle_of(bid, ask),
        _ => return Ok(Said::ALIVE),
    };
    let symbol = topics.find(symbol, about)?;
    Ok(Said::price(symbol, price?, Some(time_of(time)?)))
}

/// Parses the answer to our subscription.
fn answer(status: Json, error: Option<Json>, symbol: Option<usize>) -> Said {
    let words = error.map(|error| error.pick(["code", "msg"]));
    if status.whole() == Some(200) && words.is_none() {
        return Said::ALIVE;
    }
    let words = words.unwrap_or([Some(status), None]);
    let [code, message] = words;
    let denial = match code.and_then(Json::whole::<i32>) {
        Some(-1003) => Denial::TooMany,
        _ if message.is_some_and(|message| message.raw().contains("Invalid stream name")) => {
            Denial::UnknownSymbol
        }
        _ => Denial::Other,
    };
    Said::refusal(denial, symbol, &words)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_bent, refusal, said};
    use super::*;

    // The document's example.
    const QUOTE: &str = r#"{"u":1751505576085,"E":1751508438600117161,"s":"btcusd","b":"45000.50","B":"1.25000000","a":"45001.00","A":"0.75000000"}"#;
    const TRADE: &str = r#"{"E":1751508438600117161,"s":"btcusd","t":123456789,"p":"45000.75","q":"0.25","m":true}"#;
    const TIME: Option<u64> = Some(1_751_508_438_600_117);

    fn about(text: &str) -> Said {
        said(&STREAM, "btcusd", text)
    }

    #[test]
    fn trades_and_quotes_are_prices_with_and_without_an_event_name() {
        for (text, price, name) in [(QUOTE, 45000.75, "bookTicker"), (TRADE, 45000.75, "trade")] {
            assert_eq!(about(text), Said::price(0, price, TIME));
            let named = text.replace("{", &format!(r#"{{"e":"{name}","#));
            assert_eq!(about(&named), Said::price(0, price, TIME));
        }
        // The last price that some quotes have too is not used.
        let last = QUOTE.replace("{", r#"{"c":"1.00","#);
        assert_eq!(about(&last), Said::price(0, 45000.75, TIME));
    }

    #[test]
    fn anything_but_an_exact_price_gives_a_reason() {
        assert_bent(
            &STREAM,
            "btcusd",
            QUOTE,
            &[
                ("btcusd", "ethusd", Miss::WrongSymbol),
                ("\"btcusd\"", "7", Miss::Shape),
                ("\"b\"", "\"x\"", Miss::Shape),
                ("\"a\"", "\"x\"", Miss::Shape),
                ("45001.00", "", Miss::NotDecimal),
                ("45001.00", "45000.00", Miss::Crossed),
                ("45001.00", "90000.00", Miss::TooWide),
                ("1751508438600117161", "null", Miss::Shape),
                ("\"E\"", "\"T\"", Miss::Shape),
                ("1751505576085", "1751505576085.", Miss::NotJson),
            ],
        );
        assert_bent(
            &STREAM,
            "btcusd",
            TRADE,
            &[
                ("btcusd", "btcgusd", Miss::WrongSymbol),
                ("\"45000.75\"", "[45000.75]", Miss::Shape),
                ("45000.75", "-45000.75", Miss::OutOfBounds),
                ("1751508438600117161", "-1", Miss::Shape),
            ],
        );
    }

    #[test]
    fn other_messages_have_no_price() {
        for text in [
            r#"{"id":"1","status":200}"#,
            r#"{"e":"depthUpdate","E":1751508260659505382,"s":"btcusd","U":1,"u":2,"b":[["45000.50","1.25"]],"a":[["45001.00","0.75"]]}"#,
            r#"{"e":"markPrice","E":1789456746446652397,"s":"btcusd","p":"77303.727","i":"7725880.833"}"#,
            r#"{"lastUpdateId":12345678,"bids":[["45000.50","1.25"]],"asks":[["45001.00","0.75"]]}"#,
            "{}",
            "[]",
        ] {
            assert_eq!(about(text), Said::ALIVE, "{text}");
        }
    }

    #[test]
    fn refusals_are_recognized() {
        for (status, code, message, denial) in [
            (
                400,
                -1013,
                "Invalid stream name: x@trade",
                Denial::UnknownSymbol,
            ),
            (400, -1020, "Unsupported operation", Denial::Other),
            (429, -1003, "Rate limit exceeded", Denial::TooMany),
            (500, -1000, "Internal server error", Denial::Busy),
        ] {
            let text = format!(
                r#"{{"id":"1","status":{status},"error":{{"code":{code},"msg":"{message}"}}}}"#
            );
            let no = refusal(about(&text));
            assert_eq!(
                (no.denial, no.text),
                (denial, format!("{code}, \"{message}\""))
            );
        }
        assert_eq!(refusal(about(r#"{"id":"1","status":401}"#)).text, "401");
    }
}
