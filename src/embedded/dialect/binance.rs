//! Binance's market streams: `@trade` and `@bookTicker`, wrapped with the stream's name as on a combined connection.
//!
//! Source: web-socket-streams.md of binance/binance-spot-api-docs. A subscription to an unknown stream is acknowledged like
//! any other, and nothing ever comes on it.

use super::super::quote::MarketData;
use super::super::text::quoted;
use super::{Beat, ChannelKind, Desk, ServerDialect, texts};
use crate::exchange::json::{Json, NotJson, Spans};

/// Binance's market streams.
pub(crate) static STREAM: ServerDialect = ServerDialect {
    name: "binance-stream",
    channels: &[
        ("trade", ChannelKind::Trades),
        ("bookTicker", ChannelKind::Quotes),
    ],
    hear,
    price,
    decimals_min: 8,
    welcome: None,
    beat: Beat::None,
    notice: Some(|now_ms| {
        format!(r#"{{"stream":"!serverShutdown","data":{{"e":"serverShutdown","E":{now_ms}}}}}"#)
    }),
    ping_s: Some(20),
    idle_s: None,
    subscribe_s: None,
};

fn hear(text: &str, desk: &mut Desk) {
    let mut spans = Spans::new();
    let json = match Json::read(text, &mut spans) {
        Ok(json) => json,
        Err(NotJson(at)) => {
            let column = at + 1;
            return desk.say(format!(
                r#"{{"code":3,"msg":"Invalid JSON: expected value at line 1 column {column}"}}"#
            ));
        }
    };
    let subscribes = json
        .get("method")
        .is_some_and(|method| method.says("SUBSCRIBE"));
    let (Some(names), Some(id), true) = (texts(json.get("params")), json.get("id"), subscribes)
    else {
        return desk
            .say(r#"{"code":2,"msg":"Invalid request: expected SUBSCRIBE with params and id"}"#);
    };
    for name in names {
        // Symbols are in lower case in stream names, and in upper case everywhere else.
        if let Some((symbol, channel)) = name.split_once('@')
            && symbol == symbol.to_ascii_lowercase()
        {
            desk.subscribe(channel, &symbol.to_ascii_uppercase());
        }
    }
    desk.say(format!(r#"{{"result":null,"id":{}}}"#, id.raw()));
}

fn price(market: &MarketData) -> String {
    let (symbol, channel, serial) = (&market.symbol, market.channel, market.serial);
    let (bid, ask) = (quoted(&market.bid), quoted(&market.ask));
    let data = match channel {
        "trade" => format!(
            r#"{{"e":"trade","E":{},"s":"{symbol}","t":{serial},"p":{},"q":"0.02000000","T":{},"m":true,"M":true}}"#,
            market.now_ms(),
            quoted(&market.last),
            market.trade_ms()
        ),
        _ => format!(
            r#"{{"u":{serial},"s":"{symbol}","b":{bid},"B":"3.78826000","a":{ask},"A":"1.54698000"}}"#
        ),
    };
    let stream = symbol.to_ascii_lowercase();
    format!(r#"{{"stream":"{stream}@{channel}","data":{data}}}"#)
}
