//! Binance's market streams (`binance-stream:`): every trade, and best bid and ask as often as they change.
//!
//! Source: binance/binance-spot-api-docs, web-socket-streams.md ("General WSS information", "Live Subscribing", "Trade
//! Streams", "Individual Symbol Book Ticker Streams") and faqs/market_data_only.md. A trade has a time. A quote of the spot
//! market has neither a time nor an event name, and is recognized by its keys; those of other markets have both. A subscription
//! to an unknown symbol is acknowledged like any other, and nothing ever comes on it. So one message subscribes to all symbols:
//! the exchange allows 1,024 streams on one connection, but only five messages a second.
//! Invariant: the parser is a pure function, total on any text. Unless a price is exactly valid, it returns the reason why not.

use super::{
    Denial, Dialect, Pace, Said, Topics, Way, heard, listed, middle_of, price_of, time_of,
};
use crate::exchange::json::Json;
use rsoracle_proof::reason::Miss;
use std::time::Duration;

/// Trades, and the middle of best bid and best ask. Whichever came last is the price.
pub(crate) static STREAM: Dialect = Dialect {
    name: "binance-stream",
    urls: &[
        "wss://stream.binance.com:443/stream",
        // The same market data, for locations that the first address does not serve.
        "wss://data-stream.binance.vision:443/stream",
    ],
    way: Way::Stream(subscribe),
    read: |text, topics| heard(text, topics, read),
    ping: None,
    pace: Pace {
        // Quotes come many times a second.
        max_age: Duration::from_secs(30),
        // The exchange pings every 20 s.
        max_silence: Duration::from_secs(60),
        ping_every: Duration::from_secs(0),
        // The exchange allows 300 connections per 5 minutes and address.
        pause_min: Duration::from_millis(1_000),
    },
};

/// Symbols are in lower case in stream names, and in upper case in messages.
fn subscribe(symbols: &[&str]) -> Vec<String> {
    let streams = listed(symbols, |symbol| {
        let symbol = symbol.to_ascii_lowercase();
        format!(r#""{symbol}@trade","{symbol}@bookTicker""#)
    });
    vec![format!(
        r#"{{"method":"SUBSCRIBE","params":[{streams}],"id":1}}"#
    )]
}

fn read(json: Json, topics: &Topics, about: &mut Option<usize>) -> Result<Said, Miss> {
    // The payload may come alone, or wrapped with the name of its stream.
    let [stream, data] = json.pick(["stream", "data"]);
    let event = match stream {
        Some(_) => data.ok_or(Miss::Shape)?,
        None => json,
    };
    let names = ["e", "s", "b", "a", "p", "T", "E", "error"];
    let [kind, symbol, bid, ask, price, time, sent, error] = event.pick(names);
    match kind.and_then(Json::text).as_deref() {
        Some("trade") => {
            let symbol = topics.find(symbol, about)?;
            Ok(Said::price(symbol, price_of(price)?, Some(time_of(time)?)))
        }
        Some("serverShutdown") => Ok(Said::Leaving("a shutdown".into())),
        name if name == Some("bookTicker") || kind.is_none() && bid.or(ask).is_some() => {
            let symbol = topics.find(symbol, about)?;
            let time = time.or(sent).map(|time| time_of(Some(time)));
            Ok(Said::price(symbol, middle_of(bid, ask)?, time.transpose()?))
        }
        // A refusal comes alone, or wrapped with the number of the request.
        _ => match error.unwrap_or(event).pick(["code", "msg"]) {
            [None, _] => Ok(Said::ALIVE),
            words => Ok(Said::refusal(Denial::Other, None, &words)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_bent, refusal, said};
    use super::*;
    use crate::exchange::json::Spans;

    const TRADE: &str = r#"{"stream":"btcusdc@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDC","t":3735683259,"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}"#;
    const QUOTE: &str = r#"{"stream":"btcusdc@bookTicker","data":{"u":50093239212,"s":"BTCUSDC","b":"61837.63000000","B":"3.78826000","a":"61837.64000000","A":"1.54698000"}}"#;

    fn raw(wrapped: &str) -> String {
        let mut spans = Spans::new();
        let json = Json::read(wrapped, &mut spans).unwrap();
        json.get("data").unwrap().raw().to_owned()
    }

    fn about(text: &str) -> Said {
        said(&STREAM, "BTCUSDC", text)
    }

    #[test]
    fn trades_and_quotes_are_prices_wrapped_or_not() {
        let trade = Said::price(0, 61837.63, Some(1_723_161_255_342_000));
        let quote = Said::price(0, 61837.635, None);
        for (text, expected) in [(TRADE, trade), (QUOTE, quote)] {
            assert_eq!(about(text), expected);
            assert_eq!(about(&raw(text)), expected);
        }
        // Quotes as other markets have them, and as this one may.
        let named = QUOTE.replace("{\"u\"", "{\"e\":\"bookTicker\",\"E\":1723161255343,\"u\"");
        let sent = Some(1_723_161_255_343_000);
        assert_eq!(about(&named), Said::price(0, 61837.635, sent));
        let made = named.replace("\"E\"", "\"E\":1,\"T\"");
        assert_eq!(about(&made), Said::price(0, 61837.635, sent));
        // The form of a stream with times in microseconds.
        let us = TRADE.replace("1723161255342", "1723161255342017");
        assert_eq!(
            about(&us),
            Said::price(0, 61837.63, Some(1_723_161_255_342_017))
        );
    }

    #[test]
    fn anything_but_an_exact_price_gives_a_reason() {
        assert_bent(
            &STREAM,
            "BTCUSDC",
            TRADE,
            &[
                ("BTCUSDC", "BTCUSDT", Miss::WrongSymbol),
                ("\"BTCUSDC\"", "7", Miss::Shape),
                ("\"61837.63000000\"", "null", Miss::Shape),
                ("61837.63000000", "0.00000000", Miss::OutOfBounds),
                ("61837.63000000", "", Miss::NotDecimal),
                ("\"p\"", "\"price\"", Miss::Shape),
                ("1723161255342,", "true,", Miss::Shape),
                ("1723161255342,", "-1,", Miss::Shape),
                ("\"data\"", "\"date\"", Miss::Shape),
                ("\"m\":true", "\"m\":treu", Miss::NotJson),
            ],
        );
        assert_bent(
            &STREAM,
            "BTCUSDC",
            QUOTE,
            &[
                ("BTCUSDC", "BTCUSDT", Miss::WrongSymbol),
                ("\"b\"", "\"bid\"", Miss::Shape),
                ("\"a\"", "\"ask\"", Miss::Shape),
                ("\"61837.64000000\"", "[61837.64]", Miss::Shape),
                ("61837.64000000", "-61837.64", Miss::OutOfBounds),
            ],
        );
    }

    #[test]
    fn other_messages_are_not_taken_for_prices() {
        for text in [
            r#"{"result":null,"id":1}"#,
            r#"{"stream":"btcusdc@aggTrade","data":{"e":"aggTrade","E":1,"s":"BTCUSDC","p":"1.0"}}"#,
            r#"{"e":7,"s":"BTCUSDC","b":"1.0","a":"1.0"}"#,
            "{}",
            "[]",
            "7",
        ] {
            assert_eq!(about(text), Said::ALIVE, "{text}");
        }
    }

    #[test]
    fn a_shutdown_is_announced_wrapped_or_not() {
        let text =
            r#"{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}"#;
        for text in [text, &raw(text)] {
            assert_eq!(about(text), Said::Leaving("a shutdown".into()));
        }
    }

    #[test]
    fn refusals_are_recognized() {
        let flat = r#"{"code":2,"msg":"Invalid request: invalid stream"}"#;
        let wrapped = format!(r#"{{"error":{flat},"id":1}}"#);
        for text in [flat, &wrapped] {
            let no = refusal(about(text));
            assert_eq!(no.denial, Denial::Other);
            assert_eq!(no.text, r#"2, "Invalid request: invalid stream""#);
        }
    }
}
