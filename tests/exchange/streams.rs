//! The exact messages of every stream. The expected texts were written from the exchanges' documents.

use crate::rig::Rig;
use rsoracle::embedded::dialect::STREAMS;
use rsoracle::exchange::json;
use std::net::TcpStream;
use tungstenite::{Message, WebSocket};

/// 2026-09-25T17:48:24Z
const T0: u64 = 1_790_358_504_000_000;
/// The tape starts with 87232.00; 87232.01 follows after 196 ms. This is long enough to see the second price.
const STEP_MS: u64 = 200;
/// Slows the tape down so that the first price lasts for 196 s.
const SLOW: &str = "--speed 0.001";

/// The message that subscribes to bitcoin in dollars.
pub fn subscription(name: &str) -> &'static str {
    match name {
        "binance-stream" => {
            r#"{"method":"SUBSCRIBE","params":["btcusd@trade","btcusd@bookTicker"],"id":1}"#
        }
        "coinbase" => {
            r#"{"type":"subscribe","product_ids":["BTC-USD"],"channels":["ticker","heartbeat"]}"#
        }
        "kraken" => {
            r#"{"method":"subscribe","params":{"channel":"ticker","symbol":["BTC/USD"],"event_trigger":"bbo","snapshot":true}}"#
        }
        "bitstamp" => r#"{"event":"bts:subscribe","data":{"channel":"live_trades_btcusd"}}"#,
        "bitfinex" => r#"{"event":"subscribe","channel":"ticker","symbol":"tBTCUSD"}"#,
        "gemini" => {
            r#"{"id":"1","method":"SUBSCRIBE","params":["btcusd@bookTicker","btcusd@trade"]}"#
        }
        "crypto.com" => r#"{"id":1,"method":"subscribe","params":{"channels":["ticker.BTC_USD"]}}"#,
        "okx" => r#"{"op":"subscribe","args":[{"channel":"tickers","instId":"BTC-USD"}]}"#,
        "bybit" => r#"{"op":"subscribe","args":["orderbook.1.BTCUSD"]}"#,
        other => panic!("{other}"),
    }
}

type Client = WebSocket<TcpStream>;

/// Asserts that exactly these texts come next, in this order, and nothing after them.
fn says(rig: &mut Rig, ws: &mut Client, expected: &[&str]) {
    for text in expected {
        let told = rig.text(ws);
        assert_eq!(told, *text);
        assert!(told == "pong" || json::check(&told).is_ok(), "{told}");
    }
    rig.silence(ws);
}

fn hears(rig: &mut Rig, ws: &mut Client, text: &str, expected: &[&str]) {
    rig.send(ws, text);
    says(rig, ws, expected);
}

#[test]
fn binance_wraps_trades_and_book_tickers_and_acknowledges_unknown_streams() {
    let mut rig = Rig::stopped("", T0);
    let mut ws = rig.at("/binance-stream");
    rig.silence(&mut ws);
    hears(
        &mut rig,
        &mut ws,
        r#"{"method":"SUBSCRIBE","params":["btcusdc@trade","btcusdc@bookTicker","foobar@trade","BTCUSDT@trade","btcusdt@depth","x"],"id":"a-1"}"#,
        &[
            r#"{"result":null,"id":"a-1"}"#,
            r#"{"stream":"btcusdc@trade","data":{"e":"trade","E":1790358504000,"s":"BTCUSDC","t":2,"p":"87232.00000000","q":"0.02000000","T":1790358504000,"m":true,"M":true}}"#,
            r#"{"stream":"btcusdc@bookTicker","data":{"u":3,"s":"BTCUSDC","b":"87231.99000000","B":"3.78826000","a":"87232.01000000","A":"1.54698000"}}"#,
        ],
    );
    rig.pass(STEP_MS);
    says(
        &mut rig,
        &mut ws,
        &[
            r#"{"stream":"btcusdc@trade","data":{"e":"trade","E":1790358504200,"s":"BTCUSDC","t":5,"p":"87232.01000000","q":"0.02000000","T":1790358504196,"m":true,"M":true}}"#,
            r#"{"stream":"btcusdc@bookTicker","data":{"u":6,"s":"BTCUSDC","b":"87232.00000000","B":"3.78826000","a":"87232.02000000","A":"1.54698000"}}"#,
        ],
    );
    hears(
        &mut rig,
        &mut ws,
        r#"{"method":"#,
        &[r#"{"code":3,"msg":"Invalid JSON: expected value at line 1 column 11"}"#],
    );
    let told = rig.ask(&mut ws, r#"{"method":"LIST","params":[],"id":1}"#);
    assert!(
        told.starts_with(r#"{"code":2,"msg":"Invalid request"#),
        "{told}"
    );
}

#[test]
fn binance_sends_ping_frames_and_drops_a_client_that_does_not_answer() {
    for (flags, period_ms, limit_ms) in [
        (SLOW, 20_000, 60_000),
        ("--speed 0.001 --keep-alive 50ms", 50, 150),
    ] {
        let mut rig = Rig::stopped(flags, T0);
        let mut ws = rig.at("/binance-stream");
        for n in 1..=3 {
            rig.pass(period_ms);
            let ms = (T0 / 1_000 + n * period_ms).to_string();
            assert!(
                matches!(rig.next(&mut ws), Ok(Message::Ping(p)) if p.as_ref() == ms.as_bytes())
            );
            rig.silence(&mut ws);
        }
        // From here on the client does not read, so it does not answer.
        rig.pass(period_ms);
        rig.turn();
        rig.pass(limit_ms);
        rig.turn();
        assert_eq!(rig.server.connections(), 1);
        rig.pass(1);
        rig.turn();
        assert_eq!(rig.server.connections(), 0);
    }
}

#[test]
fn coinbase_sends_trades_and_a_heartbeat_every_second() {
    let mut rig = Rig::stopped("", T0);
    let mut ws = rig.at("/coinbase");
    rig.silence(&mut ws);
    hears(
        &mut rig,
        &mut ws,
        r#"{"type":"subscribe","product_ids":["BTC-USD"],"channels":["heartbeat",{"name":"ticker","product_ids":["BTC-USDT","BTC-USD"]}]}"#,
        &[
            r#"{"type":"subscriptions","channels":[{"name":"ticker","product_ids":["BTC-USDT","BTC-USD"],"account_ids":null},{"name":"heartbeat","product_ids":["BTC-USD"],"account_ids":null}]}"#,
            r#"{"type":"ticker","sequence":2,"product_id":"BTC-USDT","price":"87232","open_24h":"86000","volume_24h":"7000.5","low_24h":"85000","high_24h":"88000","volume_30d":"210000.25","best_bid":"87231.99","best_bid_size":"0.03","best_ask":"87232.01","best_ask_size":"0.2","side":"buy","time":"2026-09-25T17:48:24.000000Z","trade_id":2,"last_size":"0.0012"}"#,
            r#"{"type":"ticker","sequence":3,"product_id":"BTC-USD","price":"87232","open_24h":"86000","volume_24h":"7000.5","low_24h":"85000","high_24h":"88000","volume_30d":"210000.25","best_bid":"87231.99","best_bid_size":"0.03","best_ask":"87232.01","best_ask_size":"0.2","side":"buy","time":"2026-09-25T17:48:24.000000Z","trade_id":3,"last_size":"0.0012"}"#,
        ],
    );
    rig.pass(STEP_MS);
    for product in ["BTC-USDT", "BTC-USD"] {
        let told = rig.text(&mut ws);
        let time = r#""time":"2026-09-25T17:48:24.196000Z""#;
        assert!(
            told.contains(product) && told.contains(r#""price":"87232.01""#) && told.contains(time)
        );
    }
    rig.silence(&mut ws);
    rig.pass(800);
    let beat = |serial, time| {
        format!(
            r#"{{"type":"heartbeat","last_trade_id":{serial},"product_id":"BTC-USD","sequence":{serial},"time":"2026-09-25T17:48:{time}Z"}}"#
        )
    };
    says(&mut rig, &mut ws, &[&beat(6, "25.000000")]);
    let (bad, error) = (
        r#"{"type":"subscribe","product_ids":["BTC-USDC","GIBBERISH-USD"],"channels":["ticker"]}"#,
        r#"{"type":"error","message":"Failed to subscribe","reason":"GIBBERISH-USD is not a valid product"}"#,
    );
    // The valid product of that request is not subscribed to either.
    hears(&mut rig, &mut ws, bad, &[error]);
    let malformed = r#"{"type":"error","message":"Malformed JSON"}"#;
    hears(&mut rig, &mut ws, "{", &[malformed]);
    for bad in [
        r#"{"type":"subscribe","product_ids":["BTC-USD"],"channels":["level9"]}"#,
        r#"{"type":"subscribe","channels":["ticker"]}"#,
        r#"{"type":"hello"}"#,
    ] {
        assert!(rig.ask(&mut ws, bad).contains("Failed to subscribe"));
    }
}

#[test]
fn coinbase_heartbeats_continue_and_a_client_without_a_subscription_is_disconnected() {
    for (flags, period_ms, limit_ms) in [
        (SLOW, 1_000, 5_000),
        ("--speed 0.001 --keep-alive 50ms", 50, 150),
    ] {
        let mut rig = Rig::stopped(flags, T0);
        let mut ws = rig.at("/coinbase");
        rig.ask(&mut ws, subscription("coinbase"));
        rig.text(&mut ws);
        for _ in 0..4 {
            rig.pass(period_ms);
            assert!(rig.text(&mut ws).contains("heartbeat"));
            rig.silence(&mut ws);
        }
        let mut idle = rig.at("/coinbase");
        rig.pass(limit_ms);
        rig.silence(&mut idle);
        rig.pass(1);
        rig.closed(&mut idle);
        assert!(rig.text(&mut ws).contains("heartbeat"));
    }
}

#[test]
fn kraken_acknowledges_each_symbol_and_sends_a_heartbeat_when_idle() {
    let mut rig = Rig::stopped("", T0);
    let mut ws = rig.at("/kraken");
    says(
        &mut rig,
        &mut ws,
        &[
            r#"{"channel":"status","type":"update","data":[{"version":"2.0.10","system":"online","api_version":"v2","connection_id":18125794168470749634,"upcoming_maintenance":[],"emergency":[]}]}"#,
        ],
    );
    let ticker = |kind, symbol, bid, ask, last, trades, time| {
        format!(
            r#"{{"channel":"ticker","type":"{kind}","data":[{{"symbol":"{symbol}","bid":{bid},"bid_qty":0.56251970,"ask":{ask},"ask_qty":0.00044780,"last":{last},"volume":1816.24805050,"vwap":87100.1,"low":85000.0,"high":88000.0,"change":-429.3,"change_pct":-0.50,"trades":{trades},"timestamp":"2026-09-25T17:48:{time}Z"}}]}}"#
        )
    };
    let first = |symbol, trades| {
        ticker(
            "snapshot",
            symbol,
            "87231.99",
            "87232.01",
            "87232.0",
            trades,
            "24.000000",
        )
    };
    hears(
        &mut rig,
        &mut ws,
        r#"{"method":"subscribe","params":{"channel":"ticker","symbol":["BTC/USD","XBT/USD","BTC/USDT"],"event_trigger":"bbo","snapshot":true},"req_id":7}"#,
        &[
            r#"{"method":"subscribe","result":{"channel":"ticker","event_trigger":"bbo","snapshot":true,"symbol":"BTC/USD"},"success":true,"req_id":7,"time_in":"2026-09-25T17:48:24.000000Z","time_out":"2026-09-25T17:48:24.000000Z"}"#,
            r#"{"error":"Currency pair not supported XBT/USD","method":"subscribe","success":false,"symbol":"XBT/USD","req_id":7,"time_in":"2026-09-25T17:48:24.000000Z","time_out":"2026-09-25T17:48:24.000000Z"}"#,
            r#"{"method":"subscribe","result":{"channel":"ticker","event_trigger":"bbo","snapshot":true,"symbol":"BTC/USDT"},"success":true,"req_id":7,"time_in":"2026-09-25T17:48:24.000000Z","time_out":"2026-09-25T17:48:24.000000Z"}"#,
            &first("BTC/USD", 2),
            &first("BTC/USDT", 3),
        ],
    );
    rig.pass(STEP_MS);
    let next = |symbol, trades| {
        ticker(
            "update",
            symbol,
            "87232.0",
            "87232.02",
            "87232.01",
            trades,
            "24.200000",
        )
    };
    says(
        &mut rig,
        &mut ws,
        &[&next("BTC/USD", 5), &next("BTC/USDT", 6)],
    );
    hears(
        &mut rig,
        &mut ws,
        r#"{"method":"ping","req_id":101}"#,
        &[
            r#"{"method":"pong","req_id":101,"time_in":"2026-09-25T17:48:24.200000Z","time_out":"2026-09-25T17:48:24.200000Z"}"#,
        ],
    );
    for bad in [
        "{",
        "[]",
        r#"{"method":"subscribe","params":{"channel":"book","symbol":["BTC/USD"]}}"#,
        r#"{"method":"add_order"}"#,
    ] {
        let told = rig.ask(&mut ws, bad);
        assert!(
            told.starts_with(r#"{"error":""#) && told.contains(r#""success":false"#),
            "{told}"
        );
    }
}

#[test]
fn kraken_and_bitfinex_send_a_heartbeat_after_each_idle_period_once_subscribed() {
    for (name, beat, period_ms) in [
        ("kraken", r#"{"channel":"heartbeat"}"#, 1_000),
        ("bitfinex", r#"[232949,"hb"]"#, 15_000),
    ] {
        for (flags, period_ms) in [(SLOW, period_ms), ("--speed 0.001 --keep-alive 50ms", 50)] {
            let mut rig = Rig::stopped(flags, T0);
            let mut ws = rig.at(&format!("/{name}"));
            rig.text(&mut ws);
            rig.pass(period_ms);
            rig.silence(&mut ws);
            rig.ask(&mut ws, subscription(name));
            rig.text(&mut ws);
            rig.pass(period_ms / 2);
            rig.silence(&mut ws);
            // Any message postpones the heartbeat of a connection, but not that of a channel.
            let of_channel = name == "bitfinex";
            let ping = [r#"{"method":"ping"}"#, r#"{"event":"ping"}"#][usize::from(of_channel)];
            assert!(rig.ask(&mut ws, ping).contains("pong"));
            rig.pass(period_ms / 2);
            if !of_channel {
                rig.silence(&mut ws);
                rig.pass(period_ms / 2);
            }
            for _ in 0..4 {
                says(&mut rig, &mut ws, &[beat]);
                rig.pass(period_ms);
            }
        }
    }
}

#[test]
fn a_heartbeat_covers_all_symbols_at_kraken_and_one_channel_at_bitfinex() {
    let mut rig = Rig::stopped(&format!("{SLOW} --keep-alive 1s"), T0);
    let (mut kraken, mut bitfinex) = (rig.at("/kraken"), rig.at("/bitfinex"));
    let both = subscription("kraken").replace("]", r#","BTC/USDT"]"#);
    rig.ask(&mut kraken, &both);
    rig.send(&mut bitfinex, subscription("bitfinex"));
    let other = subscription("bitfinex").replace("tBTCUSD", "tBTCUST");
    rig.ask(&mut bitfinex, &other);
    for _ in 0..4 {
        rig.text(&mut kraken);
        rig.text(&mut bitfinex);
    }
    rig.pass(1_000);
    says(&mut rig, &mut kraken, &[r#"{"channel":"heartbeat"}"#]);
    says(
        &mut rig,
        &mut bitfinex,
        &[r#"[232949,"hb"]"#, r#"[232950,"hb"]"#],
    );
}

#[test]
fn bitstamp_accepts_any_subscription_and_sends_trades_once_and_books_repeatedly() {
    let mut rig = Rig::stopped(SLOW, T0);
    let mut ws = rig.at("/bitstamp");
    rig.silence(&mut ws);
    hears(
        &mut rig,
        &mut ws,
        r#"{"event":"bts:subscribe","data":{"channel":"live_trades_btcusd"}}"#,
        &[
            r#"{"event":"bts:subscription_succeeded","channel":"live_trades_btcusd","data":{}}"#,
            r#"{"data":{"id":2,"timestamp":"1790358504","amount":0.07375969,"amount_str":"0.07375969","price":87232,"price_str":"87232","type":0,"microtimestamp":"1790358504000000","buy_order_id":2046551467757570,"sell_order_id":2046551452086274},"channel":"live_trades_btcusd","event":"trade"}"#,
        ],
    );
    let book = |us, bid, ask| {
        format!(
            r#"{{"data":{{"timestamp":"1790358{}","microtimestamp":"1790358{us}","bids":[["{bid}","0.50000000"]],"asks":[["{ask}","0.50000000"]]}},"channel":"order_book_btcusd","event":"data"}}"#,
            us / 1_000_000
        )
    };
    hears(
        &mut rig,
        &mut ws,
        r#"{"event":"bts:subscribe","data":{"channel":"order_book_btcusd"}}"#,
        &[
            r#"{"event":"bts:subscription_succeeded","channel":"order_book_btcusd","data":{}}"#,
            &book(504_000_000u64, "87231.99", "87232.01"),
        ],
    );
    for second in 1..=3 {
        rig.pass(1_000);
        let us = 504_000_000 + second * 1_000_000;
        says(&mut rig, &mut ws, &[&book(us, "87231.99", "87232.01")]);
    }
    rig.pass(193_500);
    says(
        &mut rig,
        &mut ws,
        &[
            r#"{"data":{"id":8,"timestamp":"1790358700","amount":0.07375969,"amount_str":"0.07375969","price":87232.01,"price_str":"87232.01","type":0,"microtimestamp":"1790358700000000","buy_order_id":2046551467757570,"sell_order_id":2046551452086274},"channel":"live_trades_btcusd","event":"trade"}"#,
            &book(700_500_000, "87232", "87232.02"),
        ],
    );
    hears(
        &mut rig,
        &mut ws,
        r#"{"event":"bts:heartbeat"}"#,
        &[r#"{"event":"bts:heartbeat","channel":"","data":{"status":"success"}}"#],
    );
    hears(
        &mut rig,
        &mut ws,
        r#"{"event":"bts:subscribe","data":{"channel":"live_trades_foobar"}}"#,
        &[r#"{"event":"bts:subscription_succeeded","channel":"live_trades_foobar","data":{}}"#],
    );
    let bad = r#"{"event":"bts:error","channel":"","data":{"code":null,"message":"Incorrect JSON format."}}"#;
    hears(&mut rig, &mut ws, "{", &[bad]);
}

#[test]
fn bitfinex_sends_the_time_to_those_who_ask_for_it() {
    let mut rig = Rig::stopped("--keep-alive 15s", T0);
    let mut ws = rig.at("/bitfinex");
    rig.text(&mut ws);
    hears(
        &mut rig,
        &mut ws,
        r#"{"event":"conf","flags":32768}"#,
        &[r#"{"event":"conf","status":"OK","flags":32768}"#],
    );
    rig.ask(&mut ws, subscription("bitfinex"));
    let end = format!(",{}]", T0 / 1_000);
    let price = rig.text(&mut ws);
    assert!(price.ends_with(&end), "{price}");
}

#[test]
fn bitfinex_sends_arrays_with_the_number_of_the_channel() {
    let mut rig = Rig::stopped("", T0);
    let mut ws = rig.at("/bitfinex");
    says(
        &mut rig,
        &mut ws,
        &[r#"{"event":"info","version":2,"serverId":"5a1c3b7e-embedded","platform":{"status":1}}"#],
    );
    hears(
        &mut rig,
        &mut ws,
        r#"{"event":"subscribe","channel":"ticker","symbol":"tBTCUSD"}"#,
        &[
            r#"{"event":"subscribed","channel":"ticker","chanId":232949,"symbol":"tBTCUSD","pair":"BTCUSD"}"#,
            "[232949,[87231.99,12.25,87232.01,9.5,-429.3,-0.0051,87232,1816.2480505,88000,85000]]",
        ],
    );
    hears(
        &mut rig,
        &mut ws,
        r#"{"event":"subscribe","channel":"ticker","symbol":"tBTCUST"}"#,
        &[
            r#"{"event":"subscribed","channel":"ticker","chanId":232950,"symbol":"tBTCUST","pair":"BTCUST"}"#,
            "[232950,[87231.99,12.25,87232.01,9.5,-429.3,-0.0051,87232,1816.2480505,88000,85000]]",
        ],
    );
    rig.pass(STEP_MS);
    says(
        &mut rig,
        &mut ws,
        &[
            "[232949,[87232,12.25,87232.02,9.5,-429.3,-0.0051,87232.01,1816.2480505,88000,85000]]",
            "[232950,[87232,12.25,87232.02,9.5,-429.3,-0.0051,87232.01,1816.2480505,88000,85000]]",
        ],
    );
    for (text, answer) in [
        (
            r#"{"event":"ping","cid":1}"#,
            r#"{"event":"pong","ts":1790358504200,"cid":1}"#,
        ),
        (
            r#"{"event":"subscribe","channel":"ticker","symbol":"tBTCUSDT"}"#,
            r#"{"event":"error","msg":"symbol: invalid","code":10001,"channel":"ticker","symbol":"tBTCUSDT"}"#,
        ),
        (
            r#"{"event":"subscribe","channel":"ticker","symbol":"tBTCUSD"}"#,
            r#"{"event":"error","msg":"subscribe: dup","code":10301,"channel":"ticker","symbol":"tBTCUSD"}"#,
        ),
        (
            r#"{"event":"subscribe","channel":"candles","symbol":"tBTCUSD"}"#,
            r#"{"event":"error","msg":"channel: unknown","code":10302,"channel":"candles","symbol":"tBTCUSD"}"#,
        ),
        (
            "{",
            r#"{"event":"error","msg":"event: invalid","code":10000}"#,
        ),
    ] {
        hears(&mut rig, &mut ws, text, &[answer]);
    }
}

#[test]
fn okx_acknowledges_each_argument_and_answers_a_ping_in_plain_text() {
    let mut rig = Rig::stopped("", T0);
    let mut ws = rig.at("/okx");
    rig.silence(&mut ws);
    let ticker = |last, ask, bid, ts| {
        format!(
            r#"{{"arg":{{"channel":"tickers","instId":"BTC-USDT"}},"data":[{{"instType":"SPOT","instId":"BTC-USDT","last":"{last}","lastSz":"0.0000102","askPx":"{ask}","askSz":"0.25697131","bidPx":"{bid}","bidSz":"0.65302934","open24h":"86000","high24h":"88000","low24h":"85000","sodUtc0":"86100","sodUtc8":"86200","volCcy24h":"512000000.5","vol24h":"6100.25","ts":"{ts}"}}]}}"#
        )
    };
    hears(
        &mut rig,
        &mut ws,
        r#"{"op":"subscribe","args":[{"channel":"tickers","instId":"NMR-USDT"},{"channel":"tickers","instId":"BTC-USDT"}]}"#,
        &[
            r#"{"event":"error","msg":"Wrong URL or channel:tickers,instId:NMR-USDT doesn't exist. Please use the correct URL, channel and parameters referring to API document.","code":"60018","connId":"006dcf10"}"#,
            r#"{"event":"subscribe","arg":{"channel":"tickers","instId":"BTC-USDT"},"connId":"006dcf10"}"#,
            &ticker("87232", "87232.01", "87231.99", "1790358504000"),
        ],
    );
    rig.pass(STEP_MS);
    says(
        &mut rig,
        &mut ws,
        &[&ticker("87232.01", "87232.02", "87232", "1790358504200")],
    );
    hears(&mut rig, &mut ws, "ping", &["pong"]);
    hears(
        &mut rig,
        &mut ws,
        r#"{"op":"#,
        &[
            r#"{"event":"error","msg":"Invalid request: {\"op\":","code":"60012","connId":"006dcf10"}"#,
        ],
    );
}

#[test]
fn bybit_acknowledges_all_arguments_together_and_repeats_an_unchanged_book() {
    let mut rig = Rig::stopped(SLOW, T0);
    let mut ws = rig.at("/bybit");
    rig.silence(&mut ws);
    let book = |ms, bid, ask, serial| {
        format!(
            r#"{{"topic":"orderbook.1.BTCUSDT","ts":{ms},"type":"snapshot","data":{{"s":"BTCUSDT","b":[["{bid}","0.65302934"]],"a":[["{ask}","0.25697131"]],"u":{},"seq":{serial}}},"cts":{ms}}}"#,
            serial + 1
        )
    };
    hears(
        &mut rig,
        &mut ws,
        r#"{"req_id":"1","op":"subscribe","args":["orderbook.1.BTCUSDT","tickers.BTCUSDT"]}"#,
        &[
            r#"{"success":true,"ret_msg":"subscribe","conn_id":"d9avt8embedded","req_id":"1","op":"subscribe"}"#,
            &book(1_790_358_504_000u64, "87231.99", "87232.01", 2),
            r#"{"topic":"tickers.BTCUSDT","ts":1790358504000,"type":"snapshot","cs":3,"data":{"symbol":"BTCUSDT","lastPrice":"87232","highPrice24h":"88000","lowPrice24h":"85000","prevPrice24h":"86000","volume24h":"6100.25","turnover24h":"512000000.5","price24hPcnt":"0.0015","usdIndexPrice":"87232"}}"#,
        ],
    );
    for n in 1..=3 {
        rig.pass(2_999);
        // An answer does not postpone the book.
        hears(
            &mut rig,
            &mut ws,
            r#"{"op":"ping"}"#,
            &[r#"{"success":true,"ret_msg":"pong","conn_id":"d9avt8embedded","op":"ping"}"#],
        );
        rig.pass(1);
        let ms = 1_790_358_504_000 + n * 3_000;
        says(
            &mut rig,
            &mut ws,
            &[&book(ms, "87231.99", "87232.01", 3 + n)],
        );
    }
    rig.pass(188_000);
    let told = rig.text(&mut ws);
    assert_eq!(told, book(1_790_358_701_000, "87232", "87232.02", 8));
    assert!(rig.text(&mut ws).contains(r#""lastPrice":"87232.01""#));
    for (text, answer) in [
        (
            r#"{"op":"subscribe","args":["tickers.BTCUSD","orderbook.1.FOOBAR"]}"#,
            r#"{"success":false,"ret_msg":"error:handler not found,topic:tickers.BTCUSD,orderbook.1.FOOBAR","conn_id":"d9avt8embedded","op":"subscribe"}"#,
        ),
        (
            r#"{"req_id":"9","op":"subscribe","args":["x"]}"#,
            r#"{"success":false,"ret_msg":"error:handler not found,topic:x","conn_id":"d9avt8embedded","req_id":"9","op":"subscribe"}"#,
        ),
        (
            "{",
            r#"{"success":false,"ret_msg":"error:request expected op and args","conn_id":"d9avt8embedded","op":""}"#,
        ),
    ] {
        hears(&mut rig, &mut ws, text, &[answer]);
    }
}

#[test]
fn gemini_sends_trades_and_quotes_in_nanoseconds_and_refuses_all_for_one_bad_stream() {
    let mut rig = Rig::stopped("", T0);
    let mut ws = rig.at("/gemini");
    rig.silence(&mut ws);
    hears(
        &mut rig,
        &mut ws,
        r#"{"id":4,"method":"subscribe","params":["btcusd@trade","nosuchusd@trade"]}"#,
        &[
            r#"{"id":4,"status":400,"error":{"code":-1013,"msg":"Invalid stream name: nosuchusd@trade"}}"#,
        ],
    );
    hears(
        &mut rig,
        &mut ws,
        subscription("gemini"),
        &[
            r#"{"id":"1","status":200}"#,
            r#"{"u":2,"E":1790358504000000000,"s":"btcusd","b":"87231.99","B":"1.25000000","a":"87232.01","A":"0.75000000"}"#,
            r#"{"E":1790358504000000000,"s":"btcusd","t":3,"p":"87232.00","q":"0.02000000","m":true}"#,
        ],
    );
    rig.pass(STEP_MS);
    says(
        &mut rig,
        &mut ws,
        &[
            r#"{"u":5,"E":1790358504200000000,"s":"btcusd","b":"87232.00","B":"1.25000000","a":"87232.02","A":"0.75000000"}"#,
            r#"{"E":1790358504196000000,"s":"btcusd","t":6,"p":"87232.01","q":"0.02000000","m":true}"#,
        ],
    );
    for (asked, told) in [
        (
            r#"{"id":100,"method":"ping"}"#,
            r#"{"id":100,"status":200}"#,
        ),
        (
            r#"{"id":11,"method":"nope"}"#,
            r#"{"id":11,"status":400,"error":{"code":-1020,"msg":"Unsupported operation"}}"#,
        ),
        (
            r#"{"id":12,"method":"subscribe","params":{"streams":["btcusd@trade"]}}"#,
            r#"{"id":12,"status":400,"error":{"code":-1013,"msg":"Invalid parameters"}}"#,
        ),
    ] {
        hears(&mut rig, &mut ws, asked, &[told]);
    }
}

#[test]
fn crypto_com_sends_tickers_and_ends_a_connection_that_does_not_answer() {
    let ticker = |bid: &str, last: &str, ask: &str, ms: u64| {
        format!(
            r#"{{"id":-1,"method":"subscribe","code":0,"result":{{"instrument_name":"BTC_USD","subscription":"ticker.BTC_USD","channel":"ticker","data":[{{"h":"88000.00","l":"85000.00","a":"{last}","c":"0.0092","b":"{bid}","bs":"0.27217","k":"{ask}","ks":"0.23532","i":"BTC_USD","v":"2657.5053","vv":"169819487.92","oi":"0","t":{ms}}}]}}}}"#
        )
    };
    let mut rig = Rig::stopped("", T0);
    let mut ws = rig.at("/crypto.com");
    hears(
        &mut rig,
        &mut ws,
        subscription("crypto.com"),
        &[
            r#"{"id":1,"method":"subscribe","code":0,"result":{"instrument_name":"BTC_USD","subscription":"ticker.BTC_USD","channel":"ticker"}}"#,
            &ticker("87231.99", "87232.00", "87232.01", T0 / 1_000),
        ],
    );
    rig.pass(STEP_MS);
    says(
        &mut rig,
        &mut ws,
        &[&ticker(
            "87232.00",
            "87232.01",
            "87232.02",
            T0 / 1_000 + STEP_MS,
        )],
    );
    for (asked, told) in [
        (
            r#"{"id":11,"method":"subscribe","params":{"channels":["ticker.NOPE_USD"]}}"#,
            r#"{"id":11,"method":"subscribe","code":40003,"channel":"ticker.NOPE_USD","message":"Unknown symbol"}"#,
        ),
        (
            r#"{"id":12,"method":"subscribe","params":{"channels":["nope.BTC_USD"]}}"#,
            r#"{"id":12,"method":"subscribe","code":40003,"channel":"nope.BTC_USD","message":"Unrecognized channel"}"#,
        ),
        (
            r#"{"id":13,"method":"public/nope"}"#,
            r#"{"id":13,"method":"public/nope","code":40003,"message":"No such method"}"#,
        ),
    ] {
        hears(&mut rig, &mut ws, asked, &[told]);
    }
    for (flags, period_ms) in [("", 30_000), ("--keep-alive 1s", 1_000)] {
        let mut rig = Rig::stopped(&format!("{flags} --fault mute"), T0);
        let mut ws = rig.at("/crypto.com");
        rig.ask(&mut ws, subscription("crypto.com"));
        let asks = |rig: &mut Rig, ws: &mut Client| {
            rig.pass(period_ms);
            let asked = rig.text(ws);
            let id = asked.strip_prefix(r#"{"id":"#).unwrap();
            let id = id.strip_suffix(r#","method":"public/heartbeat","code":0}"#);
            format!(
                r#"{{"id":{},"method":"public/respond-heartbeat"}}"#,
                id.unwrap()
            )
        };
        for _ in 0..5 {
            let answer = asks(&mut rig, &mut ws);
            rig.send(&mut ws, &answer);
            rig.silence(&mut ws);
        }
        for _ in 0..3 {
            asks(&mut rig, &mut ws);
        }
        rig.pass(1);
        rig.closed(&mut ws);
    }
}

#[test]
fn okx_and_bybit_disconnect_a_silent_client() {
    for (name, ping, limit_ms) in [
        ("okx", "ping", 30_000),
        ("bybit", r#"{"op":"ping"}"#, 600_000),
    ] {
        for (flags, limit_ms) in [("", limit_ms), ("--keep-alive 50ms", 150)] {
            let mut rig = Rig::stopped(&format!("{flags} --fault mute"), T0);
            let mut ws = rig.at(&format!("/{name}"));
            rig.ask(&mut ws, subscription(name));
            for _ in 0..3 {
                rig.pass(limit_ms);
                assert!(rig.ask(&mut ws, ping).contains("pong"));
            }
            rig.pass(limit_ms);
            rig.silence(&mut ws);
            rig.pass(1);
            rig.closed(&mut ws);
            while rig.server.connections() > 0 {
                rig.turn();
            }
        }
    }
    // The others have no such timeout, except Crypto.com, which asks.
    for name in ["kraken", "bitstamp", "bitfinex", "coinbase"] {
        let mut rig = Rig::stopped("--fault mute", T0);
        let mut ws = rig.at(&format!("/{name}"));
        rig.ask(&mut ws, subscription(name));
        rig.pass(86_400_000);
        rig.turn();
        assert_eq!(rig.server.connections(), 1);
        let mut again = rig.at(&format!("/{name}"));
        rig.ask(&mut again, subscription(name));
        assert_eq!(rig.server.connections(), 2);
    }
}

/// The tape has prices of BTCUSDT. Its base, and those that are played at scaled prices, are served against three currencies,
/// each in the exchange's spelling, and nothing else is.
#[test]
fn only_the_bases_of_the_tape_against_dollars_and_two_stablecoins_are_served() {
    for dialect in STREAMS {
        let name = dialect.name;
        let spelled: [&str; 6] = match name {
            "binance-stream" => [
                "btcusd", "btcusdc", "btcusdt", "ethusdt", "btceur", "xmrusd",
            ],
            "bybit" => [
                "BTCUSD", "BTCUSDC", "BTCUSDT", "ETHUSDT", "BTCEUR", "XMRUSD",
            ],
            "bitstamp" | "gemini" => [
                "btcusd", "btcusdc", "btcusdt", "ethusdt", "btceur", "xmrusd",
            ],
            "crypto.com" => [
                "BTC_USD", "BTC_USDC", "BTC_USDT", "ETH_USDT", "BTC_EUR", "XMR_USD",
            ],
            "bitfinex" => [
                "tBTCUSD", "tBTCUDC", "tBTCUST", "tETHUST", "tBTCEUR", "tXMRUSD",
            ],
            "kraken" => [
                "BTC/USD", "BTC/USDC", "BTC/USDT", "ETH/USDT", "BTC/EUR", "XMR/USD",
            ],
            _ => [
                "BTC-USD", "BTC-USDC", "BTC-USDT", "ETH-USDT", "BTC-EUR", "XMR-USD",
            ],
        };
        for (at, symbol) in spelled.into_iter().enumerate() {
            let mut rig = Rig::stopped("", T0);
            let mut ws = rig.at(&format!("/{name}"));
            if dialect.welcome.is_some() {
                rig.text(&mut ws);
            }
            let text = subscription(name).replace(spelled[0], symbol);
            rig.ask(&mut ws, &text);
            match at {
                0..3 => assert!(rig.text(&mut ws).contains("87232"), "{name} {symbol}"),
                // 0.0237 times a price of about 87228.
                3 => assert!(rig.text(&mut ws).contains("2067."), "{name} {symbol}"),
                _ => rig.silence(&mut ws),
            }
        }
    }
}
