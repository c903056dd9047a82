//! Bybit's public spot WebSocket API v5: `orderbook.1`, and `tickers`, which has no bid and ask. Every message is a complete
//! snapshot.
//!
//! Source: bybit-exchange/docs, v5 websocket (public orderbook and ticker, wss-authentication). All arguments of a request are
//! acknowledged together, and a bad one makes all of them fail. A book is sent again after three seconds without a change.

use super::super::quote::MarketData;
use super::super::text::quoted;
use super::{Beat, ChannelKind, Desk, ServerDialect, echoed, texts};
use crate::exchange::json::{Json, Spans};

/// Most arguments of one request (ws/connect: 10 for spot).
const ARGS_MAX: usize = 10;

/// Bybit.
pub(crate) static STREAM: ServerDialect = ServerDialect {
    name: "bybit",
    channels: &[
        ("orderbook.1", ChannelKind::Quotes),
        ("tickers", ChannelKind::Trades),
    ],
    hear,
    price,
    decimals_min: 0,
    welcome: None,
    beat: Beat::Again(3),
    notice: None,
    ping_s: None,
    idle_s: Some(600),
    subscribe_s: None,
};

fn hear(text: &str, desk: &mut Desk) {
    let mut spans = Spans::new();
    let json = Json::read(text, &mut spans).ok();
    let request = json.map_or(String::new(), |json| echoed(json, "req_id"));
    let op = json.and_then(|json| json.get("op")?.owned());
    let topics = json.and_then(|json| texts(json.get("args")));
    let answer = match (op.as_deref(), topics) {
        (Some("ping"), _) => Ok("pong"),
        (Some("subscribe"), Some(topics)) if topics.len() > ARGS_MAX => {
            Err(format!("args size >{ARGS_MAX}"))
        }
        (Some("subscribe"), Some(topics)) => {
            let split: Vec<(&str, &str)> = topics
                .iter()
                .filter_map(|topic| topic.rsplit_once('.'))
                .collect();
            let known = |(channel, symbol): &(&str, &str)| desk.sells(channel, symbol);
            if split.len() == topics.len() && split.iter().all(known) {
                for (channel, symbol) in split {
                    desk.subscribe(channel, symbol);
                }
                Ok("subscribe")
            } else {
                Err(format!(
                    "error:handler not found,topic:{}",
                    topics.join(",")
                ))
            }
        }
        _ => Err("error:request expected op and args".to_owned()),
    };
    let says = quoted(answer.as_deref().unwrap_or_else(|why| why));
    let op = quoted(op.as_deref().unwrap_or_default());
    desk.say(format!(
        r#"{{"success":{},"ret_msg":{says},"conn_id":"d9avt8embedded"{request},"op":{op}}}"#,
        answer.is_ok()
    ));
}

fn price(market: &MarketData) -> String {
    let (channel, symbol) = (market.channel, &market.symbol);
    let (serial, ms) = (market.serial, market.now_ms());
    let head = format!(r#"{{"topic":"{channel}.{symbol}","ts":{ms},"type":"snapshot""#);
    match channel {
        // The update number 1 would mean that the service has restarted.
        "orderbook.1" => format!(
            r#"{head},"data":{{"s":"{symbol}","b":[[{},"0.65302934"]],"a":[[{},"0.25697131"]],"u":{},"seq":{serial}}},"cts":{ms}}}"#,
            quoted(&market.bid),
            quoted(&market.ask),
            serial + 1
        ),
        _ => format!(
            r#"{head},"cs":{serial},"data":{{"symbol":"{symbol}","lastPrice":{last},"highPrice24h":"88000","lowPrice24h":"85000","prevPrice24h":"86000","volume24h":"6100.25","turnover24h":"512000000.5","price24hPcnt":"0.0015","usdIndexPrice":{last}}}}}"#,
            last = quoted(&market.last)
        ),
    }
}
