//! Crypto.com Exchange's WebSocket API, version 1 (`crypto.com:`): the ticker.
//!
//! Source: exchange-developer.crypto.com/exchange/v1/docs, "WebSocket" (common API reference, subscribe, heartbeat, ticker).
//! One message subscribes to all symbols, since of 100 requests only a part is allowed in the second of the connection. Each
//! channel is answered by itself, up to 400 of a connection, and a refusal names its channel, as was seen on the wire. All
//! prices are text. A ticker comes when the quote changes. Its last trade may be older and outside the quote, so the last price
//! is clamped to the quote. The exchange asks every 30 s whether the client is alive, and ends a connection that does not
//! answer. The server closes with 1013 before it restarts. Its USD is one balance of dollars and their stablecoins.
//! Invariant: the parser is a pure function, total on any text. Unless a price is exactly valid, it returns the reason why not.

use super::{
    Denial, Dialect, Pace, Said, Topics, Way, heard, listed, newest_of, quoted_last, time_of,
};
use crate::exchange::json::Json;
use rsoracle_proof::reason::Miss;
use std::time::Duration;

/// The last price, clamped to best bid and best ask.
pub(crate) static STREAM: Dialect = Dialect {
    name: "crypto.com",
    urls: &["wss://stream.crypto.com:443/exchange/v1/market"],
    way: Way::Stream(subscribe),
    read: |text, topics| heard(text, topics, read),
    ping: None,
    pace: Pace {
        // Tickers of BTC/USD come about twice a second.
        max_age: Duration::from_secs(30),
        // The exchange pings every 5 s, and asks every 30 s.
        max_silence: Duration::from_secs(30),
        ping_every: Duration::from_secs(0),
        // The exchange does not publish its limit on connections.
        pause_min: Duration::from_millis(2_000),
    },
};

fn subscribe(symbols: &[&str]) -> Vec<String> {
    let tickers = listed(symbols, |symbol| format!(r#""ticker.{symbol}""#));
    vec![format!(
        r#"{{"id":1,"method":"subscribe","params":{{"channels":[{tickers}]}}}}"#
    )]
}

fn read(json: Json, topics: &Topics, about: &mut Option<usize>) -> Result<Said, Miss> {
    let names = ["id", "method", "code", "message", "channel", "result"];
    let [id, method, code, message, refused, result] = json.pick(names);
    if method.is_some_and(|method| method.says("public/heartbeat")) {
        let id: i64 = id.and_then(Json::whole).ok_or(Miss::Shape)?;
        return Ok(Said::Asked(format!(
            r#"{{"id":{id},"method":"public/respond-heartbeat"}}"#
        )));
    }
    if code.is_some_and(|code| code.whole() != Some(0)) {
        let refused = refused.and_then(Json::text);
        let symbol = refused
            .as_deref()
            .and_then(|name| name.strip_prefix("ticker."));
        let symbol = symbol.and_then(|symbol| topics.spelled(symbol, about).ok());
        return Ok(refusal(code, symbol, message));
    }
    let told = result.map(|result| result.pick(["channel", "instrument_name", "data"]));
    let [channel, symbol, data] = told.unwrap_or_default();
    // An acknowledgement may come without data.
    if data.is_none() || !channel.is_some_and(|channel| channel.says("ticker")) {
        return Ok(Said::ALIVE);
    }
    topics.find(symbol, about)?;
    let newest = newest_of(data, topics, about, ["i", "t", "a", "b", "k"])?;
    let (symbol, [_, time, last, bid, ask]) = newest;
    let price = quoted_last(last, bid, ask)?;
    Ok(Said::price(symbol, price, Some(time_of(time)?)))
}

fn refusal(code: Option<Json>, symbol: Option<usize>, message: Option<Json>) -> Said {
    let says = |words: &str| message.is_some_and(|message| message.raw().contains(words));
    let denial = match code.and_then(Json::whole::<u32>) {
        Some(40003) if says("Unknown symbol") || says("Unsupported instrument") => {
            Denial::UnknownSymbol
        }
        // In the calendar second of the connection only a part of its 100 requests is allowed; the next second will do.
        Some(42901) => Denial::Busy,
        _ => Denial::Other,
    };
    Said::refusal(denial, symbol, &[code, message])
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_bent, refusal, said};
    use super::*;

    // Received on 2026-06-21.
    const TICKER: &str = r#"{"id":-1,"method":"subscribe","code":0,"result":{"instrument_name":"BTC_USD","subscription":"ticker.BTC_USD","channel":"ticker","data":[{"h":"64531.99","l":"63120.85","a":"63958.47","c":"0.0092","b":"63962.64","bs":"0.27217","k":"63962.65","ks":"0.23532","i":"BTC_USD","v":"2657.5053","vv":"169819487.92","oi":"0","t":1782032455141}]}}"#;
    const TIME: Option<u64> = Some(1_782_032_455_141_000);

    fn about(text: &str) -> Said {
        said(&STREAM, "BTC_USD", text)
    }

    #[test]
    fn a_ticker_is_the_last_price_within_the_quote() {
        assert_eq!(about(TICKER), Said::price(0, 63962.64, TIME));
        let within = TICKER.replace("63958.47", "63962.645");
        assert_eq!(about(&within), Said::price(0, 63962.645, TIME));
        // The first one has the number of our request.
        let first = TICKER.replace("\"id\":-1", "\"id\":1");
        assert_eq!(about(&first), Said::price(0, 63962.64, TIME));
    }

    #[test]
    fn anything_but_an_exact_price_gives_a_reason() {
        assert_bent(
            &STREAM,
            "BTC_USD",
            TICKER,
            &[
                ("BTC_USD", "ETH_USD", Miss::WrongSymbol),
                (
                    "\"i\":\"BTC_USD\"",
                    "\"i\":\"BTCUSD-PERP\"",
                    Miss::WrongSymbol,
                ),
                (
                    "\"instrument_name\":\"BTC_USD\"",
                    "\"instrument_name\":7",
                    Miss::Shape,
                ),
                // The exchange sends null for a side without offers, and before the first trade.
                ("\"63962.64\"", "null", Miss::Shape),
                ("\"63958.47\"", "null", Miss::Shape),
                ("63962.65", "", Miss::NotDecimal),
                ("63962.65", "0", Miss::OutOfBounds),
                ("63962.65", "63962.63", Miss::Crossed),
                ("63962.65", "66000", Miss::TooWide),
                ("1782032455141", "\"\"", Miss::Shape),
                ("\"t\":", "\"tt\":", Miss::Shape),
                ("[{", "{\"x\":{", Miss::NotJson),
            ],
        );
        let empty = TICKER.split("[{").next().unwrap().to_owned() + "[]}}";
        assert_bent(
            &STREAM,
            "BTC_USD",
            &empty,
            &[("\"id\":-1", "\"id\":1", Miss::Shape)],
        );
    }

    #[test]
    fn a_heartbeat_is_answered_with_its_own_number() {
        let asked = r#"{"id":1782032467342,"method":"public/heartbeat","code":0}"#;
        let answer = r#"{"id":1782032467342,"method":"public/respond-heartbeat"}"#;
        assert_eq!(about(asked), Said::Asked(answer.into()));
        assert_bent(
            &STREAM,
            "BTC_USD",
            asked,
            &[
                ("1782032467342", "\"1,\\\"x\\\"\"", Miss::Shape),
                ("\"id\"", "\"no\"", Miss::Shape),
            ],
        );
    }

    #[test]
    fn acknowledgements_and_other_channels_have_no_price() {
        for text in [
            r#"{"id":1,"method":"subscribe","code":0}"#,
            r#"{"id":1,"method":"subscribe","code":0,"channel":"ticker.BTC_USD"}"#,
            r#"{"id":1,"method":"subscribe","code":0,"result":{"instrument_name":"BTC_USD","subscription":"ticker.BTC_USD","channel":"ticker"}}"#,
            r#"{"id":-1,"method":"subscribe","code":0,"result":{"instrument_name":"BTC_USD","subscription":"trade.BTC_USD","channel":"trade","data":[{"t":1782032437671,"p":"63958.47","i":"BTC_USD"}]}}"#,
            "{}",
            "[]",
        ] {
            assert_eq!(about(text), Said::ALIVE, "{text}");
        }
    }

    #[test]
    fn refusals_are_recognized() {
        for (code, message, denial) in [
            (40003, "Unknown symbol", Denial::UnknownSymbol),
            (40003, "Unsupported instrument", Denial::UnknownSymbol),
            (40003, "Unrecognized channel", Denial::Other),
            (42901, "TOO_MANY_REQUESTS", Denial::Busy),
            (50001, "ERR_INTERNAL", Denial::Busy),
        ] {
            let text = format!(
                r#"{{"id":1,"method":"subscribe","code":{code},"channel":"ticker.X","message":"{message}"}}"#
            );
            let no = refusal(about(&text));
            assert_eq!(
                (no.denial, no.text),
                (denial, format!("{code}, \"{message}\""))
            );
        }
    }
}
