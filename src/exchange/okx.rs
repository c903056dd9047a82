//! OKX's WebSocket API, version 5 (`okx:`): the ticker.
//!
//! Source: okx.com/docs-v5, "WebSocket" (connect, subscribe, notification) and "Tickers channel". One message subscribes to all
//! symbols, of 480 an hour that the exchange allows: each is answered by itself. A refusal names its symbol in its text only.
//! All numbers are text. A ticker's time is that of its quote. Its last trade may be older and outside the quote, so the last
//! price is clamped to the quote. The ping and its answer are plain text, not JSON.
//! Invariant: the parser is a pure function, total on any text. Unless a price is exactly valid, it returns the reason why not.

use super::{
    Denial, Dialect, Pace, Said, Topics, Way, heard, listed, newest_of, quoted_last, time_of,
};
use crate::exchange::json::Json;
use rsoracle_proof::reason::Miss;
use std::time::Duration;

/// The last price, clamped to best bid and best ask.
pub(crate) static STREAM: Dialect = Dialect {
    name: "okx",
    urls: &["wss://ws.okx.com:8443/ws/v5/public"],
    way: Way::Stream(subscribe),
    read: |text, topics| match text {
        "pong" => Said::ALIVE,
        _ => heard(text, topics, read),
    },
    ping: Some("ping"),
    pace: Pace {
        // Quotes come twice a second.
        max_age: Duration::from_secs(30),
        // The exchange closes a connection after 30 s without a message in either direction.
        max_silence: Duration::from_secs(30),
        ping_every: Duration::from_secs(20),
        // The exchange allows 3 connections per second and address.
        pause_min: Duration::from_millis(1_000),
    },
};

fn subscribe(symbols: &[&str]) -> Vec<String> {
    let tickers = listed(symbols, |symbol| {
        format!(r#"{{"channel":"tickers","instId":"{symbol}"}}"#)
    });
    vec![format!(r#"{{"op":"subscribe","args":[{tickers}]}}"#)]
}

fn read(json: Json, topics: &Topics, about: &mut Option<usize>) -> Result<Said, Miss> {
    let [event, arg, data] = json.pick(["event", "arg", "data"]);
    if let Some(event) = event.and_then(Json::text) {
        return Ok(happening(&event, json, topics));
    }
    let arg = arg.map(|arg| arg.pick(["channel", "instId"]));
    let [channel, symbol] = arg.unwrap_or_default();
    if !channel.is_some_and(|channel| channel.says("tickers")) {
        return Ok(Said::ALIVE);
    }
    topics.find(symbol, about)?;
    let names = ["instId", "ts", "last", "bidPx", "askPx"];
    let newest = newest_of(data, topics, about, names)?;
    let (symbol, [_, time, last, bid, ask]) = newest;
    let price = quoted_last(last, bid, ask)?;
    Ok(Said::price(symbol, price, Some(time_of(time)?)))
}

/// Parses an event: a message that is not data of a channel.
fn happening(event: &str, json: Json, topics: &Topics) -> Said {
    let words = json.pick(["code", "msg"]);
    let code = words[0].and_then(Json::text);
    match (event, code.as_deref()) {
        ("notice", Some("64008")) => Said::Leaving("a service upgrade".into()),
        ("error", code) => {
            let denial = match code {
                Some("60018") => Denial::UnknownSymbol,
                Some("60014") => Denial::TooMany,
                _ => Denial::Other,
            };
            // It names the market in the text of its message only.
            let message = words[1].and_then(Json::text);
            let market = message.as_deref().and_then(|text| {
                let (_, market) = text.split_once("instId:")?;
                Some(market.split_once(' ')?.0)
            });
            let symbol = market.and_then(|market| topics.spelled(market, &mut None).ok());
            Said::refusal(denial, symbol, &words)
        }
        _ => Said::ALIVE,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_bent, refusal, said};
    use super::*;

    const TICKER: &str = r#"{"arg":{"channel":"tickers","instId":"BTC-USDT"},"data":[{"instType":"SPOT","instId":"BTC-USDT","last":"83766.8","lastSz":"0.0000102","askPx":"83774.2","askSz":"0.25697131","bidPx":"83774.1","bidSz":"0.65302934","open24h":"84000","ts":"1790358564077"}]}"#;
    const TIME: Option<u64> = Some(1_790_358_564_077_000);

    fn about(text: &str) -> Said {
        said(&STREAM, "BTC-USDT", text)
    }

    #[test]
    fn a_ticker_is_the_last_price_within_the_quote() {
        assert_eq!(about(TICKER), Said::price(0, 83774.1, TIME));
        let within = TICKER.replace("83766.8", "83774.15");
        assert_eq!(about(&within), Said::price(0, 83774.15, TIME));
    }

    #[test]
    fn anything_but_an_exact_price_gives_a_reason() {
        assert_bent(
            &STREAM,
            "BTC-USDT",
            TICKER,
            &[
                ("BTC-USDT", "ETH-USDT", Miss::WrongSymbol),
                (
                    "\"instId\":\"BTC-USDT\"},",
                    "\"instId\":\"ETH-USDT\"},",
                    Miss::WrongSymbol,
                ),
                (
                    "\"instId\":\"BTC-USDT\",",
                    "\"instId\":\"ETH-USDT\",",
                    Miss::WrongSymbol,
                ),
                ("\"instId\":\"BTC-USDT\",", "\"instId\":null,", Miss::Shape),
                // The exchange sends an empty text for a market without offers.
                ("83774.2", "", Miss::NotDecimal),
                ("\"83774.1\"", "{}", Miss::Shape),
                ("83766.8", "0", Miss::OutOfBounds),
                ("\"1790358564077\"", "\"\"", Miss::Shape),
                ("\"ts\"", "\"tz\"", Miss::Shape),
                ("\"data\"", "\"date\"", Miss::Shape),
            ],
        );
    }

    #[test]
    fn the_pong_is_plain_text() {
        assert_eq!(about("pong"), Said::ALIVE);
        let Said::Fault { miss, .. } = about("pung") else {
            panic!("that is nothing")
        };
        assert_eq!(miss, Miss::NotJson);
    }

    #[test]
    fn other_messages_say_nothing() {
        for text in [
            r#"{"event":"subscribe","arg":{"channel":"tickers","instId":"BTC-USDT"},"connId":"006dcf10"}"#,
            r#"{"event":"notice","code":"64009","msg":"something else"}"#,
            r#"{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","px":"1","ts":"1790358564077"}]}"#,
            r#"{"arg":7}"#,
            "{}",
        ] {
            assert_eq!(about(text), Said::ALIVE, "{text}");
        }
    }

    #[test]
    fn a_refusal_and_an_announced_end_are_recognized() {
        assert_eq!(
            about(
                r#"{"event":"notice","code":"64008","msg":"The connection will soon be closed for a service upgrade. Please reconnect.","connId":"a4d3ae55"}"#
            ),
            Said::Leaving("a service upgrade".into())
        );
        for (code, denial) in [
            ("60018", Denial::UnknownSymbol),
            ("60014", Denial::TooMany),
            ("60012", Denial::Other),
        ] {
            let no = refusal(about(&format!(
                r#"{{"event":"error","msg":"Wrong URL or channel","code":"{code}","connId":"a4d3ae55"}}"#
            )));
            let text = format!("\"{code}\", \"Wrong URL or channel\"");
            assert_eq!((no.denial, no.text), (denial, text));
        }
    }
}
