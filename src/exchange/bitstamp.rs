//! Bitstamp's WebSocket API, version 2 (`bitstamp:`): every trade, and the order book, which is recent even when trades are
//! rare.
//!
//! Source: bitstamp.net/websocket/v2. Each message subscribes to one channel of one pair. Only the channel's name has the
//! symbol. A subscription to an unknown pair is acknowledged like any other, and nothing ever comes on it. Each number comes
//! twice; the one that is text is exact.
//! Invariant: the parser is a pure function, total on any text. Unless a price is exactly valid, it returns the reason why not.

use super::{Denial, Dialect, Pace, Said, Topics, Way, heard, middle_of, price_of, time_of};
use crate::exchange::json::Json;
use rsoracle_proof::reason::Miss;
use std::time::Duration;

/// Trades, and the middle of best bid and best ask. Whichever came last is the price.
pub(crate) static STREAM: Dialect = Dialect {
    name: "bitstamp",
    urls: &["wss://ws.bitstamp.net:443"],
    way: Way::Stream(subscribe),
    read: |text, topics| heard(text, topics, read),
    ping: Some(r#"{"event":"bts:heartbeat"}"#),
    pace: Pace {
        // On average a trade of BTC/USD came every 13 s. The book comes about once a second.
        max_age: Duration::from_secs(30),
        // Two of our pings without an answer.
        max_silence: Duration::from_secs(45),
        ping_every: Duration::from_secs(20),
        // The exchange does not publish its limit on connections.
        pause_min: Duration::from_millis(2_000),
    },
};

fn subscribe(symbols: &[&str]) -> Vec<String> {
    let channel = |kind: &str, symbol: &str| {
        format!(r#"{{"event":"bts:subscribe","data":{{"channel":"{kind}_{symbol}"}}}}"#)
    };
    let both = |symbol: &&str| {
        [
            channel("live_trades", symbol),
            channel("order_book", symbol),
        ]
    };
    symbols.iter().flat_map(both).collect()
}

/// The members with these names; `None` for each that is missing.
fn inside<'a, const N: usize>(data: Option<Json<'a>>, names: [&str; N]) -> [Option<Json<'a>>; N] {
    data.map_or([None; N], |data| data.pick(names))
}

fn read<'a>(json: Json<'a>, topics: &Topics, about: &mut Option<usize>) -> Result<Said, Miss> {
    let [event, channel, data] = json.pick(["event", "channel", "data"]);
    let mut of = |kind: &str| {
        let channel = channel.and_then(Json::text).ok_or(Miss::Shape)?;
        let symbol = channel.strip_prefix(kind);
        symbol
            .map(|symbol| topics.spelled(symbol, about))
            .transpose()
    };
    let event = event.and_then(Json::text);
    let symbol = match event.as_deref() {
        Some("trade") => of("live_trades_")?,
        Some("data") => of("order_book_")?,
        _ => None,
    };
    match (event.as_deref(), symbol) {
        (Some("trade"), Some(symbol)) => {
            let [price, time] = inside(data, ["price_str", "microtimestamp"]);
            Ok(Said::price(symbol, price_of(price)?, Some(time_of(time)?)))
        }
        (Some("data"), Some(symbol)) => {
            let [bids, asks, time] = inside(data, ["bids", "asks", "microtimestamp"]);
            let time = time_of(time)?;
            let best = |side: Option<Json<'a>>| side?.at(0)?.at(0);
            let price = middle_of(best(bids), best(asks))?;
            Ok(Said::price(symbol, price, Some(time)))
        }
        // Data of a channel that was not subscribed to.
        (Some("data"), None) => {
            let time = data.and_then(|data| data.get("microtimestamp"));
            let time_us = time_of(time).ok();
            Ok(Said::Alive { time_us })
        }
        (Some("bts:request_reconnect"), _) => Ok(Said::Leaving("a restart".into())),
        (Some("bts:error"), _) => {
            let words = inside(data, ["code", "message"]);
            // The answer to a misspelled channel.
            let denial = match words[1].and_then(Json::text).as_deref() {
                Some("Invalid channel provided.") => Denial::UnknownSymbol,
                _ => Denial::Other,
            };
            Ok(Said::refusal(denial, None, &words))
        }
        _ => Ok(Said::ALIVE),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_bent, refusal, said};
    use super::*;

    const TRADE: &str = r#"{"data":{"id":629344156,"timestamp":"1788481329","amount":0.07375969,"amount_str":"0.07375969","price":81263.98,"price_str":"81263.98","type":0,"microtimestamp":"1788481329090000","buy_order_id":2046551467757570,"sell_order_id":2046551452086274},"channel":"live_trades_btcusd","event":"trade"}"#;

    fn about(text: &str) -> Said {
        said(&STREAM, "btcusd", text)
    }

    #[test]
    fn a_trade_is_a_price_with_its_time() {
        let time = Some(1_788_481_329_090_000);
        assert_eq!(about(TRADE), Said::price(0, 81263.98, time));
        let whole = TRADE.replace("\"81263.98\"", "\"24629\"");
        assert_eq!(about(&whole), Said::price(0, 24629.0, time));
    }

    #[test]
    fn anything_but_an_exact_price_gives_a_reason() {
        assert_bent(
            &STREAM,
            "btcusd",
            TRADE,
            &[
                ("btcusd", "btcusdt", Miss::WrongSymbol),
                ("\"live_trades_btcusd\"", "7", Miss::Shape),
                ("\"price_str\"", "\"price_string\"", Miss::Shape),
                ("\"81263.98\"", "[]", Miss::Shape),
                ("\"81263.98\"", "\"81,263.98\"", Miss::NotDecimal),
                ("\"81263.98\"", "\"0\"", Miss::OutOfBounds),
                ("\"1788481329090000\"", "\"soon\"", Miss::Shape),
                ("\"microtimestamp\"", "\"micro\"", Miss::Shape),
                ("\"data\"", "\"date\"", Miss::Shape),
            ],
        );
    }

    const BOOK: &str = r#"{"data":{"timestamp":"1788481329","microtimestamp":"1788481329244908","bids":[["81263.97","0.1"],["81260","1"]],"asks":[["81263.99","0.2"]]},"channel":"order_book_btcusd","event":"data"}"#;

    #[test]
    fn an_order_book_is_read_as_its_middle() {
        let time = Some(1_788_481_329_244_908);
        assert_eq!(about(BOOK), Said::price(0, 81263.98, time));
        assert_bent(
            &STREAM,
            "btcusd",
            BOOK,
            &[
                ("order_book_btcusd", "order_book_ethusd", Miss::WrongSymbol),
                (
                    "[[\"81263.97\",\"0.1\"],[\"81260\",\"1\"]]",
                    "[]",
                    Miss::Shape,
                ),
                ("\"81263.99\"", "\"0\"", Miss::OutOfBounds),
                ("\"microtimestamp\"", "\"micro\"", Miss::Shape),
            ],
        );
    }

    #[test]
    fn other_messages_have_no_price() {
        for text in [
            r#"{"event":"bts:subscription_succeeded","channel":"live_trades_btcusd","data":{}}"#,
            r#"{"event":"bts:heartbeat","channel":"","data":{"status":"success"}}"#,
            r#"{"event":"data","channel":"diff_order_book_btcusd","data":null}"#,
            r#"{"event":"trade","channel":"other_btcusd","data":{"price_str":"1"}}"#,
            "{}",
        ] {
            assert_eq!(about(text), Said::ALIVE, "{text}");
        }
    }

    #[test]
    fn a_refusal_and_an_announced_end_are_recognized() {
        for data in ["\"\"", "null"] {
            let text = format!(r#"{{"event":"bts:request_reconnect","channel":"","data":{data}}}"#);
            assert_eq!(about(&text), Said::Leaving("a restart".into()));
        }
        for (message, denial) in [
            ("Incorrect JSON format.", Denial::Other),
            ("Invalid channel provided.", Denial::UnknownSymbol),
        ] {
            let no = refusal(about(&format!(
                r#"{{"event":"bts:error","channel":"","data":{{"code":null,"message":"{message}"}}}}"#
            )));
            assert_eq!(
                (no.denial, no.text),
                (denial, format!("null, \"{message}\""))
            );
        }
    }
}
