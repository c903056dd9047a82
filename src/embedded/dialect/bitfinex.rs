//! Bitfinex's WebSocket API v2: the channel `ticker`. Prices are numbers in arrays that start with the number of the channel;
//! they have no symbol, and a time only for clients that ask for one.
//!
//! Source: docs.bitfinex.com, ws-general, ws-public and ws-public-ticker. Each subscription takes a message of its own and is a
//! channel with a number of its own. Of the event `conf`, only the flag of the time is supported.

use super::super::quote::MarketData;
use super::super::text::quoted;
use super::{Beat, ChannelKind, Desk, ServerDialect, echoed};
use crate::exchange::json::{Json, Spans};

/// The number of the first channel of a connection.
const CHANNEL: u64 = 232_949;

/// Most channels of one connection (ws-public: 25 at the same time).
const CHANNELS_MAX: usize = 25;

/// The flag of the event `conf` that adds the time to every array.
const TIMESTAMP: u32 = 32_768;

/// Bitfinex.
pub(crate) static STREAM: ServerDialect = ServerDialect {
    name: "bitfinex",
    channels: &[("ticker", ChannelKind::Quotes)],
    hear,
    price,
    decimals_min: 0,
    welcome: Some(|online| {
        let status = u8::from(online);
        format!(
            r#"{{"event":"info","version":2,"serverId":"5a1c3b7e-embedded","platform":{{"status":{status}}}}}"#
        )
    }),
    beat: Beat::Still(15, |market| {
        format!(r#"[{},"hb"{}]"#, CHANNEL + market.number, end(market))
    }),
    notice: Some(|_| {
        r#"{"event":"info","code":20051,"msg":"Stopping. Please try to reconnect"}"#.into()
    }),
    ping_s: None,
    idle_s: None,
    subscribe_s: None,
};

fn hear(text: &str, desk: &mut Desk) {
    let member = |json: Json, name| json.get(name).and_then(Json::owned);
    let mut spans = Spans::new();
    let json = Json::read(text, &mut spans).ok();
    let Some((json, event)) = json.and_then(|json| Some((json, member(json, "event")?))) else {
        return desk.say(r#"{"event":"error","msg":"event: invalid","code":10000}"#);
    };
    if event == "ping" {
        let (ts, cid) = (desk.now_us / 1_000, echoed(json, "cid"));
        return desk.say(format!(r#"{{"event":"pong","ts":{ts}{cid}}}"#));
    }
    if event == "conf" {
        let flags = json.get("flags").and_then(Json::whole::<u32>).unwrap_or(0);
        desk.stamps = flags & TIMESTAMP != 0;
        return desk.say(format!(
            r#"{{"event":"conf","status":"OK","flags":{flags}}}"#
        ));
    }
    let channel = member(json, "channel").unwrap_or_default();
    let symbol = member(json, "symbol").unwrap_or_default();
    let (c, s) = (quoted(&channel), quoted(&symbol));
    let refuse = |code, why: &str| {
        format!(r#"{{"event":"error","msg":"{why}","code":{code},"channel":{c},"symbol":{s}}}"#)
    };
    let before = desk.subscriptions.len();
    let full = before >= CHANNELS_MAX && desk.sells(&channel, &symbol);
    let place = match event.as_str() {
        "subscribe" if full => return desk.say(refuse(10_305, "subscribe: limit")),
        "subscribe" => desk.subscribe(&channel, &symbol),
        _ => return desk.say(refuse(10_000, "event: invalid")),
    };
    desk.say(match place {
        None if channel != "ticker" => refuse(10_302, "channel: unknown"),
        None => refuse(10_001, "symbol: invalid"),
        Some(place) if place < before => refuse(10_301, "subscribe: dup"),
        Some(place) => format!(
            r#"{{"event":"subscribed","channel":"ticker","chanId":{},"symbol":{s},"pair":{}}}"#,
            CHANNEL + place as u64,
            quoted(symbol.trim_start_matches('t'))
        ),
    });
}

/// The fields are BID, BID_SIZE, ASK, ASK_SIZE, DAILY_CHANGE, DAILY_CHANGE_RELATIVE, LAST_PRICE, VOLUME, HIGH, LOW.
fn price(market: &MarketData) -> String {
    format!(
        "[{},[{},12.25,{},9.5,-429.3,-0.0051,{},1816.2480505,88000,85000]{}]",
        CHANNEL + market.number,
        market.bid,
        market.ask,
        market.last,
        end(market)
    )
}

/// What an array ends in.
fn end(market: &MarketData) -> String {
    match market.stamps {
        true => format!(",{}", market.now_ms()),
        false => String::new(),
    }
}
