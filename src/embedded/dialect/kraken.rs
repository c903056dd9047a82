//! Kraken's WebSocket API v2: the channel `ticker`. Prices are JSON numbers with at least one decimal.
//!
//! Source: docs.kraken.com, websocket-v2 (ticker, heartbeat, ping, status). Each symbol is acknowledged or refused
//! separately. `"snapshot":false` is ignored.

use super::super::quote::{MarketData, utc_us_text};
use super::super::text::quoted;
use super::{Beat, ChannelKind, Desk, ServerDialect, echoed, texts};
use crate::exchange::json::{Json, Spans};

/// Kraken.
pub(crate) static STREAM: ServerDialect = ServerDialect {
    name: "kraken",
    channels: &[("ticker", ChannelKind::Quotes)],
    hear,
    price,
    decimals_min: 1,
    // The connection's number does not fit in 63 bits, as was seen on the wire.
    welcome: Some(|online| {
        let system = if online { "online" } else { "maintenance" };
        format!(
            r#"{{"channel":"status","type":"update","data":[{{"version":"2.0.10","system":"{system}","api_version":"v2","connection_id":18125794168470749634,"upcoming_maintenance":[],"emergency":[]}}]}}"#
        )
    }),
    beat: Beat::Quiet(1, || r#"{"channel":"heartbeat"}"#.into()),
    notice: None,
    ping_s: None,
    idle_s: None,
    subscribe_s: None,
};

fn hear(text: &str, desk: &mut Desk) {
    let time = utc_us_text(desk.now_us);
    let times = format!(r#""time_in":"{time}","time_out":"{time}""#);
    let method = |json: Json| json.get("method").and_then(Json::owned);
    let mut spans = Spans::new();
    let json = Json::read(text, &mut spans).ok();
    let request = json.map_or(String::new(), |json| echoed(json, "req_id"));
    let refuse = |why: &str| {
        format!(
            r#"{{"error":{},"success":false{request},{times}}}"#,
            quoted(why)
        )
    };
    let Some((json, method)) = json.and_then(|json| Some((json, method(json)?))) else {
        return desk.say(refuse("Malformed request"));
    };
    if method == "ping" {
        return desk.say(format!(r#"{{"method":"pong"{request},{times}}}"#));
    }
    let params = json.get("params").filter(|_| method == "subscribe");
    let symbols = params.and_then(|params| texts(params.get("symbol")));
    let symbols = symbols.filter(|symbols| !symbols.is_empty());
    let (Some(params), Some(symbols)) = (params, symbols) else {
        return desk.say(refuse("Method or parameters are not supported"));
    };
    if !params
        .get("channel")
        .is_some_and(|channel| channel.says("ticker"))
    {
        return desk.say(refuse("Channel is not supported"));
    }
    let trigger = params.get("event_trigger").and_then(Json::owned);
    let trigger = quoted(trigger.as_deref().unwrap_or("trades"));
    for symbol in symbols {
        let name = quoted(&symbol);
        let place = desk.subscribe("ticker", &symbol);
        desk.say(match place {
            Some(_) => format!(
                r#"{{"method":"subscribe","result":{{"channel":"ticker","event_trigger":{trigger},"snapshot":true,"symbol":{name}}},"success":true{request},{times}}}"#
            ),
            None => format!(
                r#"{{"error":{},"method":"subscribe","success":false,"symbol":{name}{request},{times}}}"#,
                quoted(&format!("Currency pair not supported {symbol}"))
            ),
        });
    }
}

fn price(market: &MarketData) -> String {
    let kind = if market.first { "snapshot" } else { "update" };
    let MarketData {
        symbol,
        last,
        bid,
        ask,
        serial,
        ..
    } = market;
    let time = utc_us_text(market.now_us);
    format!(
        r#"{{"channel":"ticker","type":"{kind}","data":[{{"symbol":"{symbol}","bid":{bid},"bid_qty":0.56251970,"ask":{ask},"ask_qty":0.00044780,"last":{last},"volume":1816.24805050,"vwap":87100.1,"low":85000.0,"high":88000.0,"change":-429.3,"change_pct":-0.50,"trades":{serial},"timestamp":"{time}"}}]}}"#
    )
}
