//! Bybit's WebSocket API, version 5, spot (`bybit:`): the first level of the order book.
//!
//! Source: bybit-exchange/docs, v5/ws/connect, v5/websocket/public/orderbook and v5/error. A request may have ten topics, and
//! is answered once: one wrong topic makes it fail. So each request subscribes to one symbol, and its id, which the answer
//! repeats, is the symbol's index plus one. The first level comes complete whenever it changes, and again after three seconds
//! without a change. The ticker has no quotes, and trades may be rare. A change of one side (`delta`, as other markets have it)
//! is no price, and makes the book before it none. The time is `cts`, that of the matching engine: it does not advance while
//! nothing happens, and so reveals a market that has stopped. `ts`, the time of sending, would make an old price look new.
//! Invariant: the parser is a pure function, total on any text. Unless a price is exactly valid, it returns the reason why not.

use super::{Denial, Dialect, Pace, Said, Topics, Way, heard, middle_of, of_symbol, time_of};
use crate::exchange::json::Json;
use rsoracle_proof::reason::Miss;
use std::time::Duration;

/// Name of the topic of the first level, without the symbol at its end.
const BOOK: &str = "orderbook.1.";

/// The middle of best bid and best ask.
pub(crate) static STREAM: Dialect = Dialect {
    name: "bybit",
    urls: &["wss://stream.bybit.com:443/v5/public/spot"],
    way: Way::Stream(subscribe),
    read: |text, topics| heard(text, topics, read),
    ping: Some(r#"{"req_id":"0","op":"ping"}"#),
    pace: Pace {
        // The book of an active market changes all the time.
        max_age: Duration::from_secs(30),
        // Ten books missing, or one answer to our ping.
        max_silence: Duration::from_secs(30),
        ping_every: Duration::from_secs(20),
        // The exchange allows 500 connections per 5 minutes and address.
        pause_min: Duration::from_millis(1_000),
    },
};

fn subscribe(symbols: &[&str]) -> Vec<String> {
    let book =
        |(id, symbol)| format!(r#"{{"req_id":"{id}","op":"subscribe","args":["{BOOK}{symbol}"]}}"#);
    (1..).zip(symbols).map(book).collect()
}

fn read<'a>(json: Json<'a>, topics: &Topics, about: &mut Option<usize>) -> Result<Said, Miss> {
    let [name, kind, book, made, sent] = json.pick(["topic", "type", "data", "cts", "ts"]);
    let Some(name) = name.and_then(Json::text) else {
        return Ok(answer(json, topics));
    };
    let Some(symbol) = name.strip_prefix(BOOK) else {
        return Ok(Said::ALIVE);
    };
    let index = topics.spelled(symbol, about)?;
    // Only a snapshot is a complete book; a delta is not.
    if !kind.is_some_and(|kind| kind.says("snapshot")) {
        return Err(Miss::Shape);
    }
    let [symbol, bids, asks] = book.ok_or(Miss::Shape)?.pick(["s", "b", "a"]);
    of_symbol(symbol, topics.symbols[index])?;
    let best = |side: Option<Json<'a>>| side?.at(0)?.at(0);
    let price = middle_of(best(bids), best(asks))?;
    Ok(Said::price(index, price, Some(time_of(made.or(sent))?)))
}

/// Parses the answer to our subscription or ping.
fn answer(json: Json, topics: &Topics) -> Said {
    if json.get("success").and_then(Json::switch) != Some(false) {
        return Said::ALIVE;
    }
    let message = json.get("ret_msg");
    let unknown = message.is_some_and(|message| {
        let words = ["handler not found", "nvalid symbol", "nvalid topic"];
        words.iter().any(|words| message.raw().contains(words))
    });
    let denial = if unknown {
        Denial::UnknownSymbol
    } else {
        Denial::Other
    };
    Said::refusal(denial, topics.numbered(json.get("req_id")), &[message])
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_bent, refusal, said};
    use super::*;

    const LEVEL: &str = r#"{"topic":"orderbook.1.BTCUSDT","ts":1786310821917,"type":"snapshot","data":{"s":"BTCUSDT","b":[["65140.5","0.25"]],"a":[["65140.6","1.5"]],"u":1399781,"seq":122620616678},"cts":1786310821912}"#;

    fn about(text: &str) -> Said {
        said(&STREAM, "BTCUSDT", text)
    }

    #[test]
    fn a_book_is_read_as_its_middle() {
        let middle = 65140.55;
        assert_eq!(
            about(LEVEL),
            Said::price(0, middle, Some(1_786_310_821_912_000))
        );
        let sent = LEVEL.replace(r#","cts":1786310821912"#, "");
        assert_eq!(
            about(&sent),
            Said::price(0, middle, Some(1_786_310_821_917_000))
        );
    }

    #[test]
    fn anything_but_an_exact_price_gives_a_reason() {
        assert_bent(
            &STREAM,
            "BTCUSDT",
            LEVEL,
            &[
                ("BTCUSDT", "ETHUSDT", Miss::WrongSymbol),
                (
                    "orderbook.1.BTCUSDT",
                    "orderbook.1.ETHUSDT",
                    Miss::WrongSymbol,
                ),
                ("\"s\":\"BTCUSDT\"", "\"s\":\"ETHUSDT\"", Miss::WrongSymbol),
                ("\"s\":\"BTCUSDT\"", "\"s\":7", Miss::Shape),
                ("snapshot", "delta", Miss::Shape),
                ("[[\"65140.5\",\"0.25\"]]", "[]", Miss::Shape),
                ("[[\"65140.5\",\"0.25\"]]", "[[]]", Miss::Shape),
                ("[[\"65140.6\",\"1.5\"]]", "null", Miss::Shape),
                ("\"65140.6\"", "true", Miss::Shape),
                ("65140.6", "1e400", Miss::OutOfBounds),
                ("65140.6", "0x1", Miss::NotDecimal),
                ("1786310821912", "1786310821912.5", Miss::Shape),
            ],
        );
    }

    #[test]
    fn answers_and_other_topics_have_no_price() {
        for text in [
            r#"{"success":true,"ret_msg":"subscribe","conn_id":"d9avt8","req_id":"1","op":"subscribe"}"#,
            r#"{"success":true,"ret_msg":"pong","conn_id":"d9avt8","req_id":"1","op":"ping"}"#,
            r#"{"topic":"tickers.BTCUSDT","ts":1786310819126,"type":"snapshot","cs":1,"data":{"symbol":"BTCUSDT","lastPrice":"65140.5"}}"#,
            "{}",
        ] {
            assert_eq!(about(text), Said::ALIVE, "{text}");
        }
    }

    #[test]
    fn refusals_are_recognized() {
        for (words, denial) in [
            (
                "error:handler not found,topic:orderbook.1.X",
                Denial::UnknownSymbol,
            ),
            ("Invalid symbol :[orderbook.1.X]", Denial::UnknownSymbol),
            ("Invalid topic :[orderbook.1.X]", Denial::UnknownSymbol),
            ("error:invalid op", Denial::Other),
        ] {
            let no = refusal(about(&format!(
                r#"{{"success":false,"ret_msg":"{words}","conn_id":"d9avt8","op":"subscribe"}}"#
            )));
            assert_eq!((no.denial, no.text), (denial, format!("\"{words}\"")));
        }
    }
}
