//! Bitfinex's WebSocket API, version 2 (`bitfinex:`): the ticker.
//!
//! Source: docs.bitfinex.com, ws-general, ws-public and ws-public-ticker. Each message subscribes to one symbol, and a refusal
//! names it. Prices come in lists that have the number of their channel instead of the symbol, so a list is no price before the
//! subscription is acknowledged. Lists may get further items at their end. A ticker's last trade may be old, so the last price
//! is clamped to the quote. On request, every list ends in the time at which it was sent. (The channel `book` is faster, but
//! says prices to five digits only, one side at a time.)
//! Invariant: the parser is a pure function, total on any text. Unless a price is exactly valid, it returns the reason why not.

use super::{Denial, Dialect, Pace, Said, Topics, Way, heard, quoted_last, time_of};
use crate::exchange::json::Json;
use rsoracle_proof::reason::Miss;
use std::time::Duration;

/// Most channels on one connection (ws-public; ws-general has 30). One too many is refused by itself.
pub(super) const CHANNELS_MAX: usize = 25;

/// The last price, clamped to best bid and best ask.
pub(crate) static STREAM: Dialect = Dialect {
    name: "bitfinex",
    urls: &["wss://api-pub.bitfinex.com:443/ws/2"],
    way: Way::Stream(subscribe),
    read: |text, topics| heard(text, topics, read),
    ping: Some(r#"{"event":"ping","cid":1}"#),
    pace: Pace {
        // Quotes come every few seconds.
        max_age: Duration::from_secs(30),
        // A heartbeat comes after 15 s without other messages.
        max_silence: Duration::from_secs(40),
        // The exchange does not require pings; their answers have the time.
        ping_every: Duration::from_secs(30),
        // The exchange allows 20 connections per minute and address.
        pause_min: Duration::from_millis(3_000),
    },
};

fn subscribe(symbols: &[&str]) -> Vec<String> {
    let ticker =
        |symbol| format!(r#"{{"event":"subscribe","channel":"ticker","symbol":"{symbol}"}}"#);
    let stamps = r#"{"event":"conf","flags":32768}"#.to_owned();
    let tickers = symbols.iter().map(ticker);
    [stamps].into_iter().chain(tickers).collect()
}

/// The time at the end of a list, in microseconds since the Unix epoch. `None` if there is no whole number, or one that is too
/// small to be a time in milliseconds after September 2001.
fn sent_us(end: Option<Json>) -> Option<u64> {
    let ms = end?.unsigned()?;
    (ms >= 1_000_000_000_000).then(|| ms.saturating_mul(1_000))
}

fn read(json: Json, topics: &Topics, about: &mut Option<usize>) -> Result<Said, Miss> {
    if let Some(event) = json.get("event").and_then(Json::text) {
        return happening(&event, json, topics, about);
    }
    let [channel, ticker, end] = json.first();
    let channel = channel.and_then(Json::unsigned);
    let known = |own: &Option<u64>| channel.is_some() && *own == channel;
    let Some(symbol) = topics.channels.iter().position(known) else {
        return Ok(Said::ALIVE);
    };
    *about = Some(symbol);
    let (ticker, time_us) = (ticker.ok_or(Miss::Shape)?, sent_us(end));
    if ticker.says("hb") {
        return Ok(Said::Alive { time_us });
    }
    // BID, BID_SIZE, ASK, ASK_SIZE, DAILY_CHANGE, DAILY_CHANGE_RELATIVE, LAST_PRICE, ...
    let [bid, _, ask, _, _, _, last] = ticker.first();
    let price = quoted_last(last, bid, ask)?;
    Ok(Said::price(symbol, price, time_us))
}

/// Parses an event: a message that is not a list.
fn happening(
    event: &str,
    json: Json,
    topics: &Topics,
    about: &mut Option<usize>,
) -> Result<Said, Miss> {
    let words = json.pick(["code", "msg"]);
    let [code, message] = words;
    let number = code.and_then(Json::whole::<u32>);
    match event {
        "subscribed" => {
            let [name, symbol, channel] = json.pick(["channel", "symbol", "chanId"]);
            if !name.is_some_and(|name| name.says("ticker")) {
                return Ok(Said::ALIVE);
            }
            let symbol = topics.find(symbol, about)?;
            let number = channel.and_then(Json::unsigned).ok_or(Miss::Shape)?;
            Ok(Said::Channel { symbol, number })
        }
        "pong" => Ok(Said::Alive {
            time_us: time_of(json.get("ts")).ok(),
        }),
        "info" => {
            let status = json.get("platform").and_then(|about| about.get("status"));
            let maintenance = status.and_then(Json::whole::<u8>) == Some(0);
            Ok(match number {
                Some(20051) => Said::Leaving("a restart".into()),
                Some(20060) => Said::Leaving("maintenance".into()),
                // A client that stayed connected should subscribe again; reconnecting does that.
                Some(20061) => Said::Leaving("the end of its maintenance".into()),
                _ if maintenance => Said::Leaving("maintenance".into()),
                _ => Said::ALIVE,
            })
        }
        "error" => {
            let symbol = message.is_some_and(|message| message.raw().contains("symbol"));
            let denial = match number {
                Some(10001) => Denial::UnknownSymbol,
                Some(10300) if symbol => Denial::UnknownSymbol,
                _ => Denial::Other,
            };
            Ok(Said::refusal(
                denial,
                topics.named(json.get("symbol")),
                &words,
            ))
        }
        _ => Ok(Said::ALIVE),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_bent, refusal, said};
    use super::*;

    // The tests' channel is 17.
    const TICKER: &str =
        "[17,[83744.2,10.5,83744.3,4.25,-429.3,-0.0051,83750,2100.5,84700.1,83000]]";

    fn about(text: &str) -> Said {
        said(&STREAM, "tBTCUSD", text)
    }

    #[test]
    fn a_ticker_of_our_channel_is_the_last_price_within_the_quote() {
        assert_eq!(about(TICKER), Said::price(0, 83744.3, None));
        let within = TICKER.replace("83750", "8.374425E+4");
        assert_eq!(about(&within), Said::price(0, 83744.25, None));
        let timed = TICKER.replace("]]", "],1790358564077]");
        let time = Some(1_790_358_564_077_000);
        assert_eq!(about(&timed), Said::price(0, 83744.3, time));
        // With a sequence number and further items at the end.
        let grown = TICKER
            .replace("83000]", "83000,7]")
            .replace("]]", "],127,5]");
        assert_eq!(about(&grown), Said::price(0, 83744.3, None));
    }

    #[test]
    fn nothing_is_a_price_before_the_channel_is_known() {
        let topics = Topics {
            symbols: &["tBTCUSD"],
            channels: &[None],
        };
        assert_eq!((STREAM.read)(TICKER, &topics), Said::ALIVE);
        assert_eq!(about(&TICKER.replace("[17,", "[18,")), Said::ALIVE);
        assert_eq!(about(&TICKER.replace("[17,", "[null,")), Said::ALIVE);
    }

    #[test]
    fn anything_but_an_exact_price_gives_a_reason() {
        assert_bent(
            &STREAM,
            "tBTCUSD",
            TICKER,
            &[
                ("83744.2", "null", Miss::Shape),
                ("83744.3", "\"\"", Miss::NotDecimal),
                ("83750", "0", Miss::OutOfBounds),
                (",83750,2100.5,84700.1,83000", "", Miss::Shape),
                ("83744.2,", "[83744.2,1,2],", Miss::Shape),
                ("17,[", "17,7,[", Miss::Shape),
                ("83744.2", "83744.", Miss::NotJson),
            ],
        );
        assert_bent(&STREAM, "tBTCUSD", "[17]", &[("17", " 17", Miss::Shape)]);
    }

    #[test]
    fn the_acknowledgement_tells_the_channel() {
        let text = r#"{"event":"subscribed","channel":"ticker","chanId":232949,"symbol":"tBTCUSD","pair":"BTCUSD"}"#;
        assert_eq!(
            about(text),
            Said::Channel {
                symbol: 0,
                number: 232_949
            }
        );
        assert_eq!(about(&text.replace("ticker", "book")), Said::ALIVE);
        assert_bent(
            &STREAM,
            "tBTCUSD",
            text,
            &[
                ("tBTCUSD", "tBTCUST", Miss::WrongSymbol),
                ("232949", "\"232949\"", Miss::Shape),
                ("232949", "-1", Miss::Shape),
            ],
        );
    }

    #[test]
    fn heartbeats_have_no_price_and_pongs_have_the_time() {
        for text in [
            r#"[17,"hb"]"#,
            r#"[17,"hb",127]"#,
            r#"{"event":"info","version":2,"serverId":"083bd8d4","platform":{"status":1}}"#,
            r#"{"event":"conf","status":"OK","flags":65536}"#,
            r#"{"event":7}"#,
            "[]",
            "{}",
        ] {
            assert_eq!(about(text), Said::ALIVE, "{text}");
        }
        let time_us = Some(1_790_358_564_077_000);
        let timed = r#"[17,"hb",1790358564077]"#;
        assert_eq!(about(timed), Said::Alive { time_us });
        let pong = r#"{"event":"pong","ts":1790358564077,"cid":1}"#;
        assert_eq!(about(pong), Said::Alive { time_us });
    }

    #[test]
    fn a_refusal_and_an_announced_end_are_recognized() {
        for (text, what) in [
            (
                r#"{"event":"info","version":2,"platform":{"status":0}}"#,
                "maintenance",
            ),
            (r#"{"event":"info","code":20060,"msg":"x"}"#, "maintenance"),
            (
                r#"{"event":"info","code":20061,"msg":"x"}"#,
                "the end of its maintenance",
            ),
            (r#"{"event":"info","code":20051,"msg":"x"}"#, "a restart"),
        ] {
            assert_eq!(about(text), Said::Leaving(what.into()), "{text}");
        }
        for (code, message, denial) in [
            (10300, "symbol: invalid", Denial::UnknownSymbol),
            (10300, "generic", Denial::Other),
            (10001, "unknown", Denial::UnknownSymbol),
            (10305, "subscribe: limit", Denial::Other),
            (10302, "channel: unknown", Denial::Other),
        ] {
            let no = refusal(about(&format!(
                r#"{{"event":"error","channel":"ticker","symbol":"tX","msg":"{message}","code":{code},"pair":"X"}}"#
            )));
            assert_eq!(
                (no.denial, no.text),
                (denial, format!("{code}, \"{message}\""))
            );
        }
    }
}
