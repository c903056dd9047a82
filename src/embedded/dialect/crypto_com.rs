//! Crypto.com Exchange's WebSocket API v1: the channel `ticker`. The server asks every 30 s whether the client is alive, and
//! disconnects one that does not answer.
//!
//! Source: exchange-developer.crypto.com/exchange/v1/docs, WebSocket (subscribe, heartbeat, ticker). Each channel is
//! acknowledged or refused separately; a refusal names the channel beside its message.

use super::super::quote::MarketData;
use super::super::text::quoted;
use super::{Beat, ChannelKind, Desk, ServerDialect, texts};
use crate::exchange::json::{Json, Spans};

/// Crypto.com.
pub(crate) static STREAM: ServerDialect = ServerDialect {
    name: "crypto.com",
    channels: &[("ticker", ChannelKind::Quotes)],
    hear,
    price,
    decimals_min: 2,
    welcome: None,
    beat: Beat::Asks(30, |id| {
        format!(r#"{{"id":{id},"method":"public/heartbeat","code":0}}"#)
    }),
    notice: None,
    ping_s: None,
    // The third heartbeat without an answer ends the connection.
    idle_s: Some(90),
    subscribe_s: None,
};

fn hear(text: &str, desk: &mut Desk) {
    let mut spans = Spans::new();
    let json = Json::read(text, &mut spans).ok();
    let member = |name| json.and_then(|json| json.get(name));
    let id = member("id").map_or("-1", Json::raw).to_owned();
    let method = member("method").and_then(Json::owned).unwrap_or_default();
    let channels = member("params").and_then(|params| params.get("channels"));
    let names = match (method.as_str(), texts(channels)) {
        ("public/respond-heartbeat", _) => return,
        ("subscribe", Some(names)) if !names.is_empty() => names,
        (_, names) => {
            let why = match names {
                Some(_) => "Invalid channels",
                // The exchange does not answer what is not JSON.
                None => "No such method",
            };
            let method = quoted(&method);
            return desk.say(format!(
                r#"{{"id":{id},"method":{method},"code":40003,"message":"{why}"}}"#
            ));
        }
    };
    for name in names {
        let (channel, symbol) = name.split_once('.').unwrap_or((&name, ""));
        let known = desk.channels.iter().any(|(known, _)| *known == channel);
        let head = format!(r#"{{"id":{id},"method":"subscribe","code""#);
        let named = quoted(&name);
        let answer = match desk.subscribe(channel, symbol) {
            Some(_) => format!(
                r#"{head}:0,"result":{{"instrument_name":"{symbol}","subscription":{named},"channel":"ticker"}}}}"#
            ),
            None if known => {
                format!(r#"{head}:40003,"channel":{named},"message":"Unknown symbol"}}"#)
            }
            None => format!(r#"{head}:40003,"channel":{named},"message":"Unrecognized channel"}}"#),
        };
        desk.say(answer);
    }
}

fn price(market: &MarketData) -> String {
    let symbol = &market.symbol;
    format!(
        r#"{{"id":-1,"method":"subscribe","code":0,"result":{{"instrument_name":"{symbol}","subscription":"ticker.{symbol}","channel":"ticker","data":[{{"h":"88000.00","l":"85000.00","a":{},"c":"0.0092","b":{},"bs":"0.27217","k":{},"ks":"0.23532","i":"{symbol}","v":"2657.5053","vv":"169819487.92","oi":"0","t":{}}}]}}}}"#,
        quoted(&market.last),
        quoted(&market.bid),
        quoted(&market.ask),
        market.now_ms()
    )
}
