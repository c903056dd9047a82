//! Coinbase Exchange's WebSocket feed (`coinbase:`): a ticker with every match, and a heartbeat each second.
//!
//! Source: docs.cdp.coinbase.com/exchange/websocket-feed (overview, channels, errors, rate limits). One wrong product makes a
//! whole subscription fail (coinbase/coinbase-pro-node, issue 174). So each message subscribes to one product, of 100 messages
//! a second that the exchange allows an address, and a refusal names the product in its text. The first ticker repeats the last
//! match, and has that match's time. A product may be an alias of another (BTC-USDC of BTC-USD) and come under the other's
//! name. It is then refused as a wrong symbol, since it is not an independent price.
//! Invariant: the parser is a pure function, total on any text. Unless a price is exactly valid, it returns the reason why not.

use super::{Denial, Dialect, Pace, Said, Topics, Way, heard, price_of, time_of};
use crate::exchange::json::Json;
use rsoracle_proof::reason::Miss;
use std::time::Duration;

/// The last match.
pub(crate) static STREAM: Dialect = Dialect {
    name: "coinbase",
    urls: &["wss://ws-feed.exchange.coinbase.com:443"],
    way: Way::Stream(subscribe),
    read: |text, topics| heard(text, topics, read),
    ping: None,
    pace: Pace {
        // No ticker comes while nobody trades.
        max_age: Duration::from_secs(60),
        // Ten heartbeats missing.
        max_silence: Duration::from_secs(10),
        ping_every: Duration::from_secs(0),
        // The exchange allows 8 requests per second and address.
        pause_min: Duration::from_millis(1_000),
    },
};

/// Without a subscription the exchange closes the connection after five seconds.
fn subscribe(symbols: &[&str]) -> Vec<String> {
    let product = |symbol| {
        format!(
            r#"{{"type":"subscribe","product_ids":["{symbol}"],"channels":["ticker","heartbeat"]}}"#
        )
    };
    symbols.iter().map(product).collect()
}

fn read(json: Json, topics: &Topics, about: &mut Option<usize>) -> Result<Said, Miss> {
    let [kind, symbol, price, time] = json.pick(["type", "product_id", "price", "time"]);
    match kind.and_then(Json::text).as_deref() {
        Some("ticker") => {
            let symbol = topics.find(symbol, about)?;
            Ok(Said::price(symbol, price_of(price)?, Some(time_of(time)?)))
        }
        Some("heartbeat") => Ok(Said::Alive {
            time_us: time_of(time).ok(),
        }),
        Some("error") => {
            let words = json.pick(["message", "reason"]);
            let texts = words.iter().flatten().filter_map(|word| word.text());
            let unknown = texts.filter_map(|text| {
                let (product, _) = text.split_once(" is not a valid product")?;
                Some(topics.spelled(product, about).ok())
            });
            Ok(match unknown.last() {
                Some(symbol) => Said::refusal(Denial::UnknownSymbol, symbol, &words),
                None => Said::refusal(Denial::Other, None, &words),
            })
        }
        _ => Ok(Said::ALIVE),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_bent, refusal, said};
    use super::*;

    const TICKER: &str = r#"{"type":"ticker","sequence":137077291831,"product_id":"BTC-USD","price":"83532.25","open_24h":"84155.07","volume_24h":"7321.9","low_24h":"83000","high_24h":"84700.01","volume_30d":"281000.1","best_bid":"83532.24","best_bid_size":"0.1","best_ask":"83532.25","best_ask_size":"0.2","side":"buy","time":"2026-09-25T17:48:26.844359Z","trade_id":891234567,"last_size":"0.00012"}"#;

    fn about(text: &str) -> Said {
        said(&STREAM, "BTC-USD", text)
    }

    #[test]
    fn a_ticker_is_a_price_with_its_time() {
        let time = Some(1_790_358_506_844_359);
        assert_eq!(about(TICKER), Said::price(0, 83532.25, time));
    }

    #[test]
    fn anything_but_an_exact_price_gives_a_reason() {
        assert_bent(
            &STREAM,
            "BTC-USD",
            TICKER,
            &[
                ("BTC-USD", "BTC-USDC", Miss::WrongSymbol),
                ("\"product_id\"", "\"product\"", Miss::Shape),
                ("\"83532.25\",\"open", "true,\"open", Miss::Shape),
                ("\"price\":\"83532.25\"", "\"price\":\"\"", Miss::NotDecimal),
                ("\"price\":\"83532.25\"", "\"price\":0", Miss::OutOfBounds),
                ("\"price\"", "\"prize\"", Miss::Shape),
                ("2026-09-25T", "2026-13-25T", Miss::Shape),
                ("\"time\"", "\"tome\"", Miss::Shape),
            ],
        );
    }

    #[test]
    fn heartbeats_have_the_time_and_other_messages_nothing() {
        assert_eq!(
            about(
                r#"{"type":"heartbeat","last_trade_id":1052119293,"product_id":"BTC-USD","sequence":132235026653,"time":"2026-07-07T22:58:18.000000Z"}"#
            ),
            Said::Alive {
                time_us: Some(1_783_465_098_000_000)
            }
        );
        for text in [
            r#"{"type":"subscriptions","channels":[{"name":"ticker","product_ids":["BTC-USD"],"account_ids":null},{"name":"heartbeat","product_ids":["BTC-USD"],"account_ids":null}]}"#,
            r#"{"type":"last_match","trade_id":1,"side":"buy","size":"0.1","price":"63519.29","product_id":"BTC-USD","sequence":2,"time":"2026-07-07T22:58:16.833065Z"}"#,
            r#"{"type":"heartbeat","time":7.5}"#,
            r#"{"type":["ticker"],"price":"1"}"#,
            "{}",
        ] {
            assert_eq!(about(text), Said::ALIVE, "{text}");
        }
    }

    #[test]
    fn refusals_are_recognized() {
        let unknown = refusal(about(
            r#"{"type":"error","message":"Failed to subscribe","reason":"GIBBERISH-USD is not a valid product"}"#,
        ));
        assert_eq!(unknown.denial, Denial::UnknownSymbol);
        assert!(unknown.text.contains("GIBBERISH-USD"), "{}", unknown.text);
        let other = refusal(about(r#"{"type":"error","message":"Malformed JSON"}"#));
        assert_eq!(other.denial, Denial::Other);
    }
}
