//! The eleven kinds of messages as types of serde_json, written as by someone who trusts the exchange: text is borrowed, fields
//! that have no name here are skipped, prices are `f64` at once, or after `str::parse` where they are text.

use chrono::{DateTime, Utc};
use serde::Deserialize;

/// A price, and when the exchange says it was so, in microseconds, where it says.
pub type Priced = (f64, Option<i64>);

/// What reads a message about a symbol.
pub type Reader = fn(&str, &str) -> Option<Priced>;

/// The reader of a kind of source.
pub fn reader(kind: &str) -> Reader {
    match kind {
        "binance" => last,
        "binance-book" => book,
        "binance-stream" => stream,
        "coinbase" => coinbase,
        "kraken" => kraken,
        "bitstamp" => bitstamp,
        "bitfinex" => bitfinex,
        "gemini" => gemini,
        "crypto.com" => crypto_com,
        "okx" => okx,
        "bybit" => bybit,
        _ => panic!("no reader of {kind}"),
    }
}

#[derive(Deserialize)]
struct Reply<'a, T> {
    #[serde(borrow)]
    id: Option<&'a str>,
    status: u16,
    result: T,
}

#[derive(Deserialize)]
struct Last<'a> {
    symbol: &'a str,
    price: &'a str,
}

fn last(text: &str, symbol: &str) -> Option<Priced> {
    let reply: Reply<Last> = serde_json::from_str(text).ok()?;
    let right = reply.status == 200 && reply.id.is_some() && reply.result.symbol == symbol;
    right.then_some((reply.result.price.parse().ok()?, None))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Best<'a> {
    symbol: &'a str,
    bid_price: &'a str,
    ask_price: &'a str,
}

fn middle(bid: &str, ask: &str) -> Option<f64> {
    Some((bid.parse::<f64>().ok()? + ask.parse::<f64>().ok()?) / 2.0)
}

fn book(text: &str, symbol: &str) -> Option<Priced> {
    let reply: Reply<Best> = serde_json::from_str(text).ok()?;
    let right = reply.status == 200 && reply.id.is_some() && reply.result.symbol == symbol;
    let best = reply.result;
    right.then_some((middle(best.bid_price, best.ask_price)?, None))
}

#[derive(Deserialize)]
struct Wrapped<'a> {
    #[serde(borrow)]
    data: Event<'a>,
}

#[derive(Deserialize)]
struct Event<'a> {
    e: Option<&'a str>,
    s: &'a str,
    p: Option<&'a str>,
    #[serde(rename = "T")]
    time_ms: Option<i64>,
    b: Option<&'a str>,
    a: Option<&'a str>,
}

fn stream(text: &str, symbol: &str) -> Option<Priced> {
    let event = serde_json::from_str::<Wrapped>(text).ok()?.data;
    let priced = match event.e {
        Some("trade") => (event.p?.parse().ok()?, Some(event.time_ms? * 1_000)),
        Some(_) => return None,
        None => (middle(event.b?, event.a?)?, None),
    };
    (event.s == symbol).then_some(priced)
}

#[derive(Deserialize)]
struct Match<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    product_id: &'a str,
    price: &'a str,
    time: DateTime<Utc>,
}

fn coinbase(text: &str, symbol: &str) -> Option<Priced> {
    let last: Match = serde_json::from_str(text).ok()?;
    let right = last.kind == "ticker" && last.product_id == symbol;
    right.then_some((last.price.parse().ok()?, Some(last.time.timestamp_micros())))
}

/// The last price held within the quote.
fn within(last: f64, bid: f64, ask: f64) -> f64 {
    last.max(bid.min(ask)).min(bid.max(ask))
}

#[derive(Deserialize)]
struct Push<'a> {
    channel: &'a str,
    #[serde(borrow)]
    data: Vec<Quote<'a>>,
}

#[derive(Deserialize)]
struct Quote<'a> {
    symbol: &'a str,
    bid: f64,
    ask: f64,
    last: f64,
    timestamp: DateTime<Utc>,
}

fn kraken(text: &str, symbol: &str) -> Option<Priced> {
    let push: Push = serde_json::from_str(text).ok()?;
    let quote = push.data.iter().find(|quote| quote.symbol == symbol)?;
    let price = within(quote.last, quote.bid, quote.ask);
    (push.channel == "ticker").then_some((price, Some(quote.timestamp.timestamp_micros())))
}

#[derive(Deserialize)]
struct Told<'a> {
    event: &'a str,
    channel: &'a str,
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
struct Data<'a> {
    microtimestamp: &'a str,
    price_str: Option<&'a str>,
    #[serde(borrow)]
    bids: Option<Vec<[&'a str; 2]>>,
    #[serde(borrow)]
    asks: Option<Vec<[&'a str; 2]>>,
}

fn bitstamp(text: &str, symbol: &str) -> Option<Priced> {
    let Told {
        event,
        channel,
        data,
    } = serde_json::from_str(text).ok()?;
    let time = data.microtimestamp.parse().ok()?;
    let (prefix, price) = match event {
        "trade" => ("live_trades_", data.price_str?.parse().ok()?),
        "data" => {
            let (bids, asks) = (data.bids?, data.asks?);
            ("order_book_", middle(bids.first()?[0], asks.first()?[0])?)
        }
        _ => return None,
    };
    (channel.strip_prefix(prefix)? == symbol).then_some((price, Some(time)))
}

fn bitfinex(text: &str, _symbol: &str) -> Option<Priced> {
    let (_channel, ticker, ms): (u64, [f64; 10], i64) = serde_json::from_str(text).ok()?;
    let price = within(ticker[6], ticker[0], ticker[2]);
    Some((price, Some(ms * 1_000)))
}

#[derive(Deserialize)]
struct Tick<'a> {
    s: &'a str,
    #[serde(rename = "E")]
    time_ns: i64,
    p: Option<&'a str>,
    b: Option<&'a str>,
    a: Option<&'a str>,
}

fn gemini(text: &str, symbol: &str) -> Option<Priced> {
    let tick: Tick = serde_json::from_str(text).ok()?;
    let price = match tick.p {
        Some(price) => price.parse().ok()?,
        None => middle(tick.b?, tick.a?)?,
    };
    (tick.s == symbol).then_some((price, Some(tick.time_ns / 1_000)))
}

#[derive(Deserialize)]
struct Pushed<'a> {
    code: i32,
    #[serde(borrow)]
    result: TickerOf<'a>,
}

#[derive(Deserialize)]
struct TickerOf<'a> {
    channel: &'a str,
    instrument_name: &'a str,
    #[serde(borrow)]
    data: Vec<Summary<'a>>,
}

#[derive(Deserialize)]
struct Summary<'a> {
    i: &'a str,
    a: &'a str,
    b: &'a str,
    k: &'a str,
    t: i64,
}

fn crypto_com(text: &str, symbol: &str) -> Option<Priced> {
    let pushed: Pushed = serde_json::from_str(text).ok()?;
    let result = pushed.result;
    let best = result.data.iter().find(|best| best.i == symbol)?;
    let price = within(
        best.a.parse().ok()?,
        best.b.parse().ok()?,
        best.k.parse().ok()?,
    );
    let right = pushed.code == 0 && result.channel == "ticker" && result.instrument_name == symbol;
    right.then_some((price, Some(best.t * 1_000)))
}

#[derive(Deserialize)]
struct Tickers<'a> {
    #[serde(borrow)]
    arg: Channel<'a>,
    #[serde(borrow)]
    data: Vec<Ticker<'a>>,
}

#[derive(Deserialize)]
struct Channel<'a> {
    channel: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ticker<'a> {
    inst_id: &'a str,
    last: &'a str,
    bid_px: &'a str,
    ask_px: &'a str,
    ts: &'a str,
}

fn okx(text: &str, symbol: &str) -> Option<Priced> {
    let tickers: Tickers = serde_json::from_str(text).ok()?;
    let ticker = tickers
        .data
        .iter()
        .find(|ticker| ticker.inst_id == symbol)?;
    let (last, bid, ask) = (ticker.last, ticker.bid_px, ticker.ask_px);
    let price = within(last.parse().ok()?, bid.parse().ok()?, ask.parse().ok()?);
    let time = ticker.ts.parse::<i64>().ok()? * 1_000;
    (tickers.arg.channel == "tickers").then_some((price, Some(time)))
}

#[derive(Deserialize)]
struct Topical<'a> {
    topic: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    data: Level<'a>,
    cts: i64,
}

#[derive(Deserialize)]
struct Level<'a> {
    s: &'a str,
    #[serde(borrow)]
    b: Vec<[&'a str; 2]>,
    #[serde(borrow)]
    a: Vec<[&'a str; 2]>,
}

fn bybit(text: &str, symbol: &str) -> Option<Priced> {
    let told: Topical = serde_json::from_str(text).ok()?;
    let right = told.topic.strip_prefix("orderbook.1.")? == symbol && told.kind == "snapshot";
    let (bid, ask) = (told.data.b.first()?[0], told.data.a.first()?[0]);
    let price = middle(bid, ask)?;
    (right && told.data.s == symbol).then_some((price, Some(told.cts * 1_000)))
}
