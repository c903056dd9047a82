//! Gemini's WebSocket API: the streams `trade` and `bookTicker`. Times are in nanoseconds, symbols in lower case, and neither
//! message has the name of its stream.
//!
//! Source: developer.gemini.com/websocket (introduction, streams, message-format). One unknown stream makes the whole
//! subscription fail. Methods other than `subscribe` and `ping` are not supported.

use super::super::quote::MarketData;
use super::super::text::quoted;
use super::{Beat, ChannelKind, Desk, ServerDialect, texts};
use crate::exchange::json::{Json, Spans};

/// Gemini.
pub(crate) static STREAM: ServerDialect = ServerDialect {
    name: "gemini",
    channels: &[
        ("trade", ChannelKind::Trades),
        ("bookTicker", ChannelKind::Quotes),
    ],
    hear,
    price,
    decimals_min: 2,
    welcome: None,
    beat: Beat::None,
    notice: None,
    ping_s: Some(20),
    idle_s: None,
    subscribe_s: None,
};

fn hear(text: &str, desk: &mut Desk) {
    let mut spans = Spans::new();
    let json = Json::read(text, &mut spans).ok();
    let member = |name| json.and_then(|json| json.get(name));
    let id = member("id").map_or("null", Json::raw).to_owned();
    let refuse = |code, why: &str| {
        let why = quoted(why);
        format!(r#"{{"id":{id},"status":400,"error":{{"code":{code},"msg":{why}}}}}"#)
    };
    let method = member("method").and_then(Json::owned).unwrap_or_default();
    match (
        method.to_ascii_lowercase().as_str(),
        texts(member("params")),
    ) {
        ("ping", _) => {}
        ("subscribe", Some(names)) if !names.is_empty() => {
            let split = |name: &String| {
                let (symbol, channel) = name.split_once('@')?;
                let symbol = symbol.to_ascii_lowercase();
                desk.sells(channel, &symbol)
                    .then(|| (channel.to_owned(), symbol))
            };
            let known: Vec<_> = names.iter().map(split).collect();
            if let Some(at) = known.iter().position(Option::is_none) {
                let why = format!("Invalid stream name: {}", names[at]);
                return desk.say(refuse(-1_013, &why));
            }
            for (channel, symbol) in known.into_iter().flatten() {
                desk.subscribe(&channel, &symbol);
            }
        }
        ("subscribe", _) => return desk.say(refuse(-1_013, "Invalid parameters")),
        _ => return desk.say(refuse(-1_020, "Unsupported operation")),
    }
    desk.say(format!(r#"{{"id":{id},"status":200}}"#));
}

fn price(market: &MarketData) -> String {
    let (symbol, serial) = (&market.symbol, market.serial);
    match market.channel {
        "trade" => format!(
            r#"{{"E":{},"s":"{symbol}","t":{serial},"p":{},"q":"0.02000000","m":true}}"#,
            market.trade_us * 1_000,
            quoted(&market.last)
        ),
        _ => format!(
            r#"{{"u":{serial},"E":{},"s":"{symbol}","b":{},"B":"1.25000000","a":{},"A":"0.75000000"}}"#,
            market.now_us * 1_000,
            quoted(&market.bid),
            quoted(&market.ask)
        ),
    }
}
