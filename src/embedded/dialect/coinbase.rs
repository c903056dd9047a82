//! Coinbase Exchange's WebSocket feed: the channels `ticker` and `heartbeat`.
//!
//! Source: docs.cdp.coinbase.com, Exchange, websocket feed (overview, channels, errors). One bad product makes the whole
//! subscription fail. Each trade sends a ticker with the trade's time.

use super::super::quote::{MarketData, utc_us_text};
use super::super::text::quoted;
use super::{Beat, ChannelKind, Desk, ServerDialect, texts};
use crate::exchange::json::{Json, Spans};

/// Coinbase.
pub(crate) static STREAM: ServerDialect = ServerDialect {
    name: "coinbase",
    channels: &[
        ("ticker", ChannelKind::Trades),
        ("heartbeat", ChannelKind::Heartbeats),
    ],
    hear,
    price,
    decimals_min: 0,
    welcome: None,
    beat: Beat::Steady(1, heartbeat),
    notice: None,
    ping_s: None,
    idle_s: None,
    subscribe_s: Some(5),
};

fn hear(text: &str, desk: &mut Desk) {
    let mut spans = Spans::new();
    let Ok(json) = Json::read(text, &mut spans) else {
        return desk.say(r#"{"type":"error","message":"Malformed JSON"}"#);
    };
    match wanted(json, desk) {
        Ok(wanted) => {
            for (channel, product) in wanted {
                desk.subscribe(&channel, &product);
            }
            desk.say(state(desk));
        }
        Err(reason) => desk.say(format!(
            r#"{{"type":"error","message":"Failed to subscribe","reason":{}}}"#,
            quoted(&reason)
        )),
    }
}

/// The channels and products of a subscription, or why it fails. A channel may be an object that lists its own products.
fn wanted(json: Json, desk: &Desk) -> Result<Vec<(String, String)>, String> {
    if !json.get("type").is_some_and(|what| what.says("subscribe")) {
        return Err("Type has to be subscribe".into());
    }
    let all = texts(json.get("product_ids")).unwrap_or_default();
    let channels = json.get("channels").and_then(Json::items);
    let mut wanted = Vec::new();
    for channel in channels.ok_or("channels is not an array")? {
        let name = channel
            .owned()
            .or(channel.get("name").and_then(Json::owned));
        let name = name.ok_or("a channel without a name")?;
        if !desk.channels.iter().any(|(known, _)| *known == name) {
            return Err(format!("{name} is not a valid channel"));
        }
        let own = texts(channel.get("product_ids"));
        for product in own.unwrap_or_else(|| all.clone()) {
            if !desk.sells(&name, &product) {
                return Err(format!("{product} is not a valid product"));
            }
            wanted.push((name.clone(), product));
        }
    }
    match wanted.is_empty() {
        true => Err("No product is named".into()),
        false => Ok(wanted),
    }
}

/// The message that lists all subscriptions, old and new.
fn state(desk: &Desk) -> String {
    let channel = |(name, _): &(&str, ChannelKind)| {
        let own = desk.subscriptions.iter().filter(|sub| sub.channel == *name);
        let products: Vec<String> = own.map(|sub| quoted(&sub.symbol)).collect();
        let products = products.join(",");
        (!products.is_empty()).then(|| {
            format!(r#"{{"name":"{name}","product_ids":[{products}],"account_ids":null}}"#)
        })
    };
    let channels: Vec<String> = desk.channels.iter().filter_map(channel).collect();
    format!(
        r#"{{"type":"subscriptions","channels":[{}]}}"#,
        channels.join(",")
    )
}

fn price(market: &MarketData) -> String {
    format!(
        r#"{{"type":"ticker","sequence":{serial},"product_id":"{}","price":{last},"open_24h":"86000","volume_24h":"7000.5","low_24h":"85000","high_24h":"88000","volume_30d":"210000.25","best_bid":{},"best_bid_size":"0.03","best_ask":{},"best_ask_size":"0.2","side":"buy","time":"{}","trade_id":{serial},"last_size":"0.0012"}}"#,
        market.symbol,
        quoted(&market.bid),
        quoted(&market.ask),
        utc_us_text(market.trade_us),
        serial = market.serial,
        last = quoted(&market.last),
    )
}

fn heartbeat(market: &MarketData) -> String {
    format!(
        r#"{{"type":"heartbeat","last_trade_id":{serial},"product_id":"{}","sequence":{serial},"time":"{}"}}"#,
        market.symbol,
        utc_us_text(market.now_us),
        serial = market.serial,
    )
}
