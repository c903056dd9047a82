//! Kraken's WebSocket API, version 2 (`kraken:`): a ticker whenever best bid or best ask change.
//!
//! Source: docs.kraken.com/api/docs, websocket-v2 (ticker, heartbeat, ping, status) and the guides on connecting and
//! reconnecting. One message subscribes to all symbols: each is answered by itself, and a refusal names its symbol. Prices are
//! JSON numbers. A ticker's time is that of its quote. Its last trade may be much older, so the last price is clamped to the
//! quote. Tickers have a time since 2025; here it is optional.
//! Invariant: the parser is a pure function, total on any text. Unless a price is exactly valid, it returns the reason why not.

use super::{
    Denial, Dialect, Pace, Said, Topics, Way, excerpt, heard, listed, newest_of, quoted_last,
    time_of,
};
use crate::exchange::json::Json;
use rsoracle_proof::reason::Miss;
use std::time::Duration;

/// The last price, clamped to best bid and best ask.
pub(crate) static STREAM: Dialect = Dialect {
    name: "kraken",
    // The exchange announces wss://uws.kraken.com/v2 for 2027.
    urls: &["wss://ws.kraken.com:443/v2"],
    way: Way::Stream(subscribe),
    read: |text, topics| heard(text, topics, read),
    ping: Some(r#"{"method":"ping"}"#),
    pace: Pace {
        // Quotes come every second or so.
        max_age: Duration::from_secs(30),
        // A heartbeat comes after each second without other messages.
        max_silence: Duration::from_secs(10),
        // The exchange does not require pings; their answers have the time.
        ping_every: Duration::from_secs(30),
        // After maintenance, the exchange asks for at least five seconds between attempts.
        pause_min: Duration::from_millis(5_000),
    },
};

fn subscribe(symbols: &[&str]) -> Vec<String> {
    let list = listed(symbols, |symbol| format!(r#""{symbol}""#));
    vec![format!(
        r#"{{"method":"subscribe","params":{{"channel":"ticker","symbol":[{list}],"event_trigger":"bbo","snapshot":true}}}}"#
    )]
}

fn read(json: Json, topics: &Topics, about: &mut Option<usize>) -> Result<Said, Miss> {
    let [channel, data] = json.pick(["channel", "data"]);
    match channel.and_then(Json::text).as_deref() {
        Some("ticker") => {
            let names = ["symbol", "timestamp", "last", "bid", "ask"];
            let newest = newest_of(data, topics, about, names)?;
            let (symbol, [_, time, last, bid, ask]) = newest;
            let time_us = time.map(|time| time_of(Some(time))).transpose()?;
            Ok(Said::price(symbol, quoted_last(last, bid, ask)?, time_us))
        }
        Some("status") => {
            let status = data.and_then(|list| list.at(0));
            let system = status.and_then(|status| status.get("system"));
            match system.and_then(Json::text).ok_or(Miss::Shape)?.as_ref() {
                "online" => Ok(Said::ALIVE),
                other => Ok(Said::Leaving(format!("maintenance ({})", excerpt(other)))),
            }
        }
        Some(_) => Ok(Said::ALIVE),
        None => Ok(answer(json, topics)),
    }
}

/// Parses the answer to our subscription or ping.
fn answer(json: Json, topics: &Topics) -> Said {
    // The guide spells one refusal's member with a capital letter.
    let [error, capital, success, time] = json.pick(["error", "Error", "success", "time_out"]);
    let error = error.or(capital);
    if success.and_then(Json::switch) != Some(false) && error.is_none() {
        let time_us = time_of(time).ok();
        return Said::Alive { time_us };
    }
    let says = |words: &str| error.is_some_and(|error| error.raw().contains(words));
    let denial = if says("not supported") {
        Denial::UnknownSymbol
    } else if says("Exceeded msg rate") {
        Denial::TooMany
    } else {
        Denial::Other
    };
    Said::refusal(denial, topics.named(json.get("symbol")), &[error])
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_bent, refusal, said};
    use super::*;

    const TICKER: &str = r#"{"channel":"ticker","type":"update","data":[{"symbol":"BTC/USD","bid":83744.2,"bid_qty":0.56251979,"ask":83744.3,"ask_qty":0.00044780,"last":83744.9,"volume":2100.5,"vwap":83900.1,"low":83000.0,"high":84700.1,"change":-429.3,"change_pct":-0.51,"trades":135262,"timestamp":"2026-09-25T17:48:26.844359Z"}]}"#;
    const TIME: Option<u64> = Some(1_790_358_506_844_359);

    fn about(text: &str) -> Said {
        said(&STREAM, "BTC/USD", text)
    }

    #[test]
    fn a_ticker_is_the_last_price_within_the_quote() {
        assert_eq!(about(TICKER), Said::price(0, 83744.3, TIME));
        let within = TICKER.replace("83744.9", "8.374425e4");
        assert_eq!(about(&within), Said::price(0, 83744.25, TIME));
        let below = TICKER.replace("83744.9", "80000");
        assert_eq!(about(&below), Said::price(0, 83744.2, TIME));
        let timeless = TICKER.replace(r#","timestamp":"2026-09-25T17:48:26.844359Z""#, "");
        assert_eq!(about(&timeless), Said::price(0, 83744.3, None));
        let zero = TICKER.replace("2026-09-25T17:48:26.844359Z", "1970-01-01T00:00:00Z");
        assert_eq!(
            about(&zero),
            Said::price(0, 83744.3, Some(0)),
            "old, not new"
        );
        let slash = TICKER.replace("BTC/USD", r"BTC\/USD");
        assert_eq!(about(&slash), Said::price(0, 83744.3, TIME));
    }

    #[test]
    fn of_several_entries_the_newest_of_the_symbol_counts() {
        let entry = |symbol: &str, price: &str, second: &str| {
            format!(
                r#"{{"symbol":"{symbol}","bid":{price},"ask":{price},"last":{price},"timestamp":"2026-09-25T17:48:{second}Z"}}"#
            )
        };
        let all = |entries: [String; 4]| {
            about(&format!(
                r#"{{"channel":"ticker","type":"snapshot","data":[{}]}}"#,
                entries.join(",")
            ))
        };
        let (eth, old) = (entry("ETH/USD", "1", "59"), entry("BTC/USD", "2", "07"));
        let (new, last) = (entry("BTC/USD", "3", "08"), entry("BTC/USD", "4", "08"));
        let time = Some(1_790_358_488_000_000);
        let orders = [[&old, &new, &last, &eth], [&eth, &new, &last, &old]];
        for order in orders {
            assert_eq!(all(order.map(String::clone)), Said::price(0, 4.0, time));
        }
    }

    #[test]
    fn of_entries_of_several_symbols_those_of_the_first_that_is_known_count() {
        let entry = |symbol: &str, price: u8| {
            format!(r#"{{"symbol":"{symbol}","bid":{price},"ask":{price},"last":{price}}}"#)
        };
        let list = [entry("X", 1), entry("B", 2), entry("A", 3), entry("B", 4)].join(",");
        let text = format!(r#"{{"channel":"ticker","type":"snapshot","data":[{list}]}}"#);
        let topics = Topics {
            symbols: &["A", "B"],
            channels: &[None; 2],
        };
        assert_eq!((STREAM.read)(&text, &topics), Said::price(1, 4.0, None));
    }

    #[test]
    fn anything_but_an_exact_price_gives_a_reason() {
        assert_bent(
            &STREAM,
            "BTC/USD",
            TICKER,
            &[
                ("BTC/USD", "ETH/USD", Miss::WrongSymbol),
                ("\"symbol\"", "\"sumbol\"", Miss::Shape),
                ("\"last\"", "\"lost\"", Miss::Shape),
                ("83744.9", "null", Miss::Shape),
                ("83744.9", "-83744.9", Miss::OutOfBounds),
                ("83744.2", "\"\"", Miss::NotDecimal),
                ("83744.2", "083744.2", Miss::NotJson),
                ("\"2026-09-25T17:48:26.844359Z\"", "null", Miss::Shape),
                ("\"data\":[", "\"dota\":[", Miss::Shape),
            ],
        );
        let empty = r#"{"channel":"ticker","type":"update","data":[]}"#;
        assert_bent(
            &STREAM,
            "BTC/USD",
            empty,
            &[("update", "snapshot", Miss::Shape)],
        );
    }

    #[test]
    fn heartbeats_and_other_channels_have_no_price_and_answers_have_the_time() {
        for text in [
            r#"{"channel":"heartbeat"}"#,
            r#"{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"buy","price":83744.3,"qty":0.1,"trade_id":1,"timestamp":"2026-09-25T17:48:26.844359Z"}]}"#,
            r#"{"channel":"status","type":"update","data":[{"version":"2.0.10","system":"online","api_version":"v2","connection_id":18125794168470749634}]}"#,
            "{}",
        ] {
            assert_eq!(about(text), Said::ALIVE, "{text}");
        }
        for text in [
            r#"{"method":"subscribe","result":{"channel":"ticker","event_trigger":"bbo","snapshot":true,"symbol":"BTC/USD"},"success":true,"time_in":"2026-09-25T17:48:26.844300Z","time_out":"2026-09-25T17:48:26.844359Z"}"#,
            r#"{"method":"pong","time_in":"2026-09-25T17:48:26.844300Z","time_out":"2026-09-25T17:48:26.844359Z"}"#,
        ] {
            assert_eq!(about(text), Said::Alive { time_us: TIME }, "{text}");
        }
    }

    #[test]
    fn any_status_but_online_is_maintenance() {
        let status = |system: &str| {
            about(&format!(
                r#"{{"channel":"status","type":"update","data":[{{"system":{system},"connection_id":1}}]}}"#
            ))
        };
        for system in ["maintenance", "cancel_only", "post_only"] {
            let said = status(&format!("\"{system}\""));
            assert_eq!(said, Said::Leaving(format!("maintenance ({system})")));
        }
        assert!(matches!(
            status("1"),
            Said::Fault {
                miss: Miss::Shape,
                ..
            }
        ));
    }

    #[test]
    fn refusals_are_recognized() {
        for (text, denial) in [
            (
                r#"{"error":"Currency pair not supported XBT/USD","method":"subscribe","success":false,"symbol":"XBT/USD","time_in":"2026-09-25T17:48:26.844300Z","time_out":"2026-09-25T17:48:26.844359Z"}"#,
                Denial::UnknownSymbol,
            ),
            (r#"{"Error":"Exceeded msg rate"}"#, Denial::TooMany),
            (r#"{"method":"subscribe","success":false}"#, Denial::Other),
        ] {
            assert_eq!(refusal(about(text)).denial, denial, "{text}");
        }
    }
}
