//! Bitstamp's WebSocket API v2: `live_trades` and `order_book`. Each message is about one channel, whose name has the market.
//!
//! Source: bitstamp.net/websocket/v2. A subscription to an unknown market succeeds, but nothing ever comes on it. Order books
//! are sent whether they have changed or not.

use super::super::quote::MarketData;
use super::super::text::quoted;
use super::{Beat, ChannelKind, Desk, ServerDialect};
use crate::exchange::json::{Json, Spans};

/// Bitstamp.
pub(crate) static STREAM: ServerDialect = ServerDialect {
    name: "bitstamp",
    channels: &[
        ("live_trades", ChannelKind::Trades),
        ("order_book", ChannelKind::Quotes),
    ],
    hear,
    price,
    decimals_min: 0,
    welcome: None,
    beat: Beat::Again(1),
    notice: Some(|_| r#"{"event":"bts:request_reconnect","channel":"","data":""}"#.into()),
    ping_s: None,
    idle_s: None,
    subscribe_s: None,
};

fn hear(text: &str, desk: &mut Desk) {
    let refusal = |why: &str| {
        format!(r#"{{"event":"bts:error","channel":"","data":{{"code":null,"message":"{why}"}}}}"#)
    };
    let mut spans = Spans::new();
    let Ok(json) = Json::read(text, &mut spans) else {
        return desk.say(refusal("Incorrect JSON format."));
    };
    let event = json.get("event").and_then(Json::owned);
    match event.as_deref() {
        Some("bts:heartbeat") => {
            desk.say(r#"{"event":"bts:heartbeat","channel":"","data":{"status":"success"}}"#)
        }
        Some("bts:subscribe") => {
            let channel = json.get("data").and_then(|data| data.get("channel"));
            let Some(name) = channel.and_then(Json::owned) else {
                return desk.say(refusal("Bad subscription string."));
            };
            if let Some((channel, market)) = name.rsplit_once('_') {
                desk.subscribe(channel, market);
            }
            desk.say(format!(
                r#"{{"event":"bts:subscription_succeeded","channel":{},"data":{{}}}}"#,
                quoted(&name)
            ));
        }
        _ => desk.say(refusal("Incorrect JSON format.")),
    }
}

fn price(market: &MarketData) -> String {
    let (event, data) = match market.channel {
        "live_trades" => (
            "trade",
            format!(
                r#"{{"id":{serial},"timestamp":"{}","amount":0.07375969,"amount_str":"0.07375969","price":{},"price_str":{},"type":0,"microtimestamp":"{}","buy_order_id":2046551467757570,"sell_order_id":2046551452086274}}"#,
                market.trade_us / 1_000_000,
                market.last,
                quoted(&market.last),
                market.trade_us,
                serial = market.serial
            ),
        ),
        _ => (
            "data",
            format!(
                r#"{{"timestamp":"{}","microtimestamp":"{}","bids":[[{},"0.50000000"]],"asks":[[{},"0.50000000"]]}}"#,
                market.now_us / 1_000_000,
                market.now_us,
                quoted(&market.bid),
                quoted(&market.ask)
            ),
        ),
    };
    let (channel, symbol) = (market.channel, &market.symbol);
    format!(r#"{{"data":{data},"channel":"{channel}_{symbol}","event":"{event}"}}"#)
}
