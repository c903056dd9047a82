//! OKX's public WebSocket API v5: the channel `tickers`. A client's `ping` and its answer are plain text, not JSON.
//!
//! Source: okx.com/docs-v5, websocket. Each argument is acknowledged or refused separately. A refusal names the market only
//! in the text of its message.

use super::super::quote::MarketData;
use super::super::text::quoted;
use super::{Beat, ChannelKind, Desk, ServerDialect};
use crate::exchange::json::{Json, Spans};

/// OKX.
pub(crate) static STREAM: ServerDialect = ServerDialect {
    name: "okx",
    channels: &[("tickers", ChannelKind::Quotes)],
    hear,
    price,
    decimals_min: 0,
    welcome: None,
    beat: Beat::None,
    notice: Some(|_| {
        r#"{"event":"notice","code":"64008","msg":"The connection will soon be closed for a service upgrade. Please reconnect.","connId":"006dcf10"}"#.into()
    }),
    ping_s: None,
    idle_s: Some(30),
    subscribe_s: None,
};

fn hear(text: &str, desk: &mut Desk) {
    if text == "ping" {
        return desk.say("pong");
    }
    let error = |code, msg: &str| {
        format!(
            r#"{{"event":"error","msg":{},"code":"{code}","connId":"006dcf10"}}"#,
            quoted(msg)
        )
    };
    let mut spans = Spans::new();
    let json = Json::read(text, &mut spans).ok();
    let json = json.filter(|json| json.get("op").is_some_and(|op| op.says("subscribe")));
    let args = json.and_then(|json| json.get("args")?.items());
    let args: Vec<Json> = args.into_iter().flatten().collect();
    if args.is_empty() {
        return desk.say(error(60_012, &format!("Invalid request: {text}")));
    }
    for arg in args {
        let member = |name| arg.get(name).and_then(Json::owned).unwrap_or_default();
        let (channel, market) = (member("channel"), member("instId"));
        let place = desk.subscribe(&channel, &market);
        desk.say(match place {
            Some(_) => format!(
                r#"{{"event":"subscribe","arg":{{"channel":"tickers","instId":"{market}"}},"connId":"006dcf10"}}"#
            ),
            None => error(
                60_018,
                &format!(
                    "Wrong URL or channel:{channel},instId:{market} doesn't exist. Please use the correct URL, channel and parameters referring to API document."
                ),
            ),
        });
    }
}

fn price(market: &MarketData) -> String {
    let symbol = &market.symbol;
    format!(
        r#"{{"arg":{{"channel":"tickers","instId":"{symbol}"}},"data":[{{"instType":"SPOT","instId":"{symbol}","last":{},"lastSz":"0.0000102","askPx":{},"askSz":"0.25697131","bidPx":{},"bidSz":"0.65302934","open24h":"86000","high24h":"88000","low24h":"85000","sodUtc0":"86100","sodUtc8":"86200","volCcy24h":"512000000.5","vol24h":"6100.25","ts":"{}"}}]}}"#,
        quoted(&market.last),
        quoted(&market.ask),
        quoted(&market.bid),
        market.now_ms()
    )
}
