//! Several symbols on one connection: how each stream takes a list of them, how it answers for each, and how one of them fails
//! without the others. The expected texts were written from the exchanges' documents.

use crate::rig::{Rig, settings};
use rsoracle::embedded::dialect::STREAMS;
use rsoracle::embedded::server::Server;
use rsoracle::embedded::venue::Now;
use rsoracle::source::recorded;
use std::net::TcpStream;
use tungstenite::{Message, WebSocket};

/// 2026-09-25T17:48:24Z
const T0: u64 = 1_790_358_504_000_000;
/// Slows the tape down so that no price changes during a test.
const STILL: &str = "--speed 0.000001";
/// The bases of the tests, and the beginning of each one's price when the tape starts to play.
const BASES: [(&str, &str); 3] = [("BTC", "87232"), ("ETH", "2067.30"), ("SOL", "143.92")];

type Client = WebSocket<TcpStream>;

fn connected(rig: &mut Rig, name: &str) -> Client {
    let mut ws = rig.at(&format!("/{name}"));
    if matches!(name, "kraken" | "bitfinex") {
        rig.text(&mut ws);
    }
    ws
}

/// The requests that subscribe to the channel whose prices are last prices or, if it has none, quotes of these bases in
/// dollars: one message with a list where the exchange takes lists, else one for each.
fn requests(name: &str, bases: &[&str]) -> Vec<String> {
    let list = |spelled: &dyn Fn(&str) -> String| {
        let all: Vec<String> = bases.iter().map(|base| spelled(base)).collect();
        all.join(",")
    };
    let each = |spelled: &dyn Fn(&str) -> String| bases.iter().map(|base| spelled(base)).collect();
    let small = |base: &str| base.to_ascii_lowercase();
    match name {
        "binance-stream" => {
            let names = list(&|base| format!(r#""{}usd@trade""#, small(base)));
            vec![format!(
                r#"{{"method":"SUBSCRIBE","params":[{names}],"id":1}}"#
            )]
        }
        "coinbase" => {
            let names = list(&|base| format!(r#""{base}-USD""#));
            vec![format!(
                r#"{{"type":"subscribe","product_ids":[{names}],"channels":["ticker"]}}"#
            )]
        }
        "kraken" => {
            let names = list(&|base| format!(r#""{base}/USD""#));
            vec![format!(
                r#"{{"method":"subscribe","params":{{"channel":"ticker","symbol":[{names}]}}}}"#
            )]
        }
        "bitstamp" => each(&|base| {
            let name = small(base);
            format!(r#"{{"event":"bts:subscribe","data":{{"channel":"live_trades_{name}usd"}}}}"#)
        }),
        "bitfinex" => each(&|base| {
            format!(r#"{{"event":"subscribe","channel":"ticker","symbol":"t{base}USD"}}"#)
        }),
        "gemini" => {
            let names = list(&|base| format!(r#""{}usd@trade""#, small(base)));
            vec![format!(
                r#"{{"id":"1","method":"subscribe","params":[{names}]}}"#
            )]
        }
        "crypto.com" => {
            let names = list(&|base| format!(r#""ticker.{base}_USD""#));
            vec![format!(
                r#"{{"id":1,"method":"subscribe","params":{{"channels":[{names}]}}}}"#
            )]
        }
        "okx" => {
            let names = list(&|base| format!(r#"{{"channel":"tickers","instId":"{base}-USD"}}"#));
            vec![format!(r#"{{"op":"subscribe","args":[{names}]}}"#)]
        }
        "bybit" => {
            let names = list(&|base| format!(r#""tickers.{base}USD""#));
            vec![format!(
                r#"{{"req_id":"1","op":"subscribe","args":[{names}]}}"#
            )]
        }
        other => panic!("{other}"),
    }
}

/// Everything that comes until the server has nothing more to say.
fn all(rig: &mut Rig, ws: &mut Client) -> Vec<String> {
    let mut told = Vec::new();
    for _ in 0..5 {
        rig.turn();
        while let Ok(Message::Text(text)) = ws.read() {
            told.push(text.as_str().to_owned());
        }
    }
    told
}

/// Subscribes, and returns the answers and the prices.
fn subscribed(rig: &mut Rig, ws: &mut Client, name: &str, bases: &[&str]) -> Vec<String> {
    for request in requests(name, bases) {
        rig.send(ws, &request);
    }
    all(rig, ws)
}

/// How often the price of each of [`BASES`] was told.
fn prices(told: &[String]) -> [usize; 3] {
    BASES.map(|(_, price)| told.iter().filter(|text| text.contains(price)).count())
}

#[test]
fn every_stream_sends_the_prices_of_several_symbols_on_one_connection() {
    for dialect in STREAMS {
        let name = dialect.name;
        let mut rig = Rig::stopped(STILL, T0);
        let mut ws = connected(&mut rig, name);
        let bases = BASES.map(|(base, _)| base);
        let told = subscribed(&mut rig, &mut ws, name, &bases);
        assert_eq!(prices(&told), [1, 1, 1], "{name}: {told:#?}");
        // Each price is in a message about its own symbol, and each message about one symbol.
        for (place, (base, price)) in BASES.into_iter().enumerate() {
            let message = told.iter().find(|text| text.contains(price)).unwrap();
            let spelled = |base: &str| {
                let small = message.to_ascii_lowercase();
                let base = base.to_ascii_lowercase();
                let marks = ["", "-", "/", "_"].map(|mark| format!("{base}{mark}usd"));
                marks.iter().any(|symbol| small.contains(symbol))
            };
            match name {
                "bitfinex" => assert!(message.starts_with(&format!("[{},", 232_949 + place))),
                _ => assert!(spelled(base), "{name}: {message}"),
            }
            let mut others = BASES.iter().filter(|(other, _)| *other != base);
            assert!(
                !others.any(|(other, _)| spelled(other)),
                "{name}: {message}"
            );
        }
    }
}

#[test]
fn an_unknown_symbol_is_refused_alone_or_with_its_list_as_the_exchange_does() {
    for (name, refusal, served) in [
        ("binance-stream", r#"{"result":null,"id":1}"#, true),
        (
            "coinbase",
            r#"{"type":"error","message":"Failed to subscribe","reason":"XMR-USD is not a valid product"}"#,
            false,
        ),
        (
            "kraken",
            r#"{"error":"Currency pair not supported XMR/USD","method":"subscribe","success":false,"symbol":"XMR/USD","#,
            true,
        ),
        (
            "bitstamp",
            r#"{"event":"bts:subscription_succeeded","channel":"live_trades_xmrusd","data":{}}"#,
            true,
        ),
        (
            "bitfinex",
            r#"{"event":"error","msg":"symbol: invalid","code":10001,"channel":"ticker","symbol":"tXMRUSD"}"#,
            true,
        ),
        (
            "gemini",
            r#"{"id":"1","status":400,"error":{"code":-1013,"msg":"Invalid stream name: xmrusd@trade"}}"#,
            false,
        ),
        (
            "crypto.com",
            r#"{"id":1,"method":"subscribe","code":40003,"channel":"ticker.XMR_USD","message":"Unknown symbol"}"#,
            true,
        ),
        (
            "okx",
            "Wrong URL or channel:tickers,instId:XMR-USD doesn't exist.",
            true,
        ),
        (
            "bybit",
            r#"{"success":false,"ret_msg":"error:handler not found,topic:tickers.BTCUSD,tickers.XMRUSD,tickers.SOLUSD","conn_id":"d9avt8embedded","req_id":"1","op":"subscribe"}"#,
            false,
        ),
    ] {
        let mut rig = Rig::stopped(STILL, T0);
        let mut ws = connected(&mut rig, name);
        let told = subscribed(&mut rig, &mut ws, name, &["BTC", "XMR", "SOL"]);
        let refusals = told.iter().filter(|text| text.contains(refusal)).count();
        assert_eq!(refusals, 1, "{name}: {told:#?}");
        let expected = [usize::from(served), 0, usize::from(served)];
        assert_eq!(prices(&told), expected, "{name}: {told:#?}");
        // The connection goes on, and the refused list may be sent again without the bad one.
        let told = subscribed(&mut rig, &mut ws, name, &["ETH", "SOL", "BTC"]);
        let expected = [usize::from(!served), 1, usize::from(!served)];
        assert_eq!(prices(&told), expected, "{name}: {told:#?}");
    }
}

#[test]
fn one_symbol_can_be_refused_fall_silent_or_be_halted_and_the_others_go_on() {
    for dialect in STREAMS {
        let name = dialect.name;
        for fault in ["refuse", "mute", "halt", "mute@1.."] {
            let mut rig = Rig::stopped(&format!("{STILL} --fault {name}/ETH/{fault}"), T0);
            let mut ws = connected(&mut rig, name);
            let mut told = Vec::new();
            // One message for each, so that no list fails as a whole.
            for (base, _) in BASES {
                told.extend(subscribed(&mut rig, &mut ws, name, &[base]));
            }
            assert_eq!(prices(&told), [1, 0, 1], "{name}/{fault}: {told:#?}");
            let unknown = ["ETH", "eth"].map(|base| {
                let about = told.iter().filter(|text| text.contains(base)).cloned();
                about.collect::<String>().contains("rror")
            });
            let silent = matches!(name, "binance-stream" | "bitstamp");
            let refused = unknown.contains(&true) || told.concat().contains(r#""code":40003"#);
            assert_eq!(
                refused,
                fault == "refuse" && !silent,
                "{name}/{fault}: {told:#?}"
            );
        }
    }
}

#[test]
fn a_fault_of_one_base_counts_its_own_prices() {
    // 200 ms of the tape: bitcoin has a second price, ETH and SOL do not.
    let mut rig = Rig::stopped(
        "--fault ETH/mute@2 --fault BTC/price:abc@2 --fault SOL/scale:2@1",
        T0,
    );
    let mut ws = connected(&mut rig, "okx");
    let told = subscribed(&mut rig, &mut ws, "okx", &BASES.map(|(base, _)| base));
    assert_eq!(prices(&told), [1, 1, 0], "{told:#?}");
    assert!(told.concat().contains(r#""last":"287.8"#), "{told:#?}");
    let mut later = Vec::new();
    for _ in 0..40 {
        rig.pass(500);
        later.extend(all(&mut rig, &mut ws));
        rig.send(&mut ws, "ping");
    }
    let about = |base: &str| later.iter().filter(|text| text.contains(base)).count();
    assert_eq!(about("ETH-USD"), 0);
    assert!(about("BTC-USD") > 3 && about("SOL-USD") > 3);
    assert_eq!(later.iter().filter(|text| text.contains("abc")).count(), 1);
}

/// Bitstamp and Bybit repeat a symbol's book when that has not changed for a while, whatever the others do, and Bitfinex
/// shows that a channel is alive.
#[test]
fn a_quiet_symbol_is_repeated_beside_busy_ones() {
    for (name, repeated) in [
        ("bitstamp", r#""channel":"order_book_btcusd""#),
        ("bybit", r#""topic":"orderbook.1.BTCUSD""#),
        ("bitfinex", r#"[232949,"hb"]"#),
    ] {
        let mut rig = Rig::stopped("--keep-alive 1s --fault bitfinex/BTC/mute", T0);
        // From 30.8 to 37.7 s the recorded price stands still.
        rig.pass(31_000);
        let mut ws = connected(&mut rig, name);
        let bases: Vec<&str> = recorded::bases().collect();
        let requests = bases.chunks(10).flat_map(|bases| requests(name, bases));
        for request in requests {
            let books = request.replace("live_trades", "order_book");
            rig.send(&mut ws, &books.replace("tickers.", "orderbook.1."));
        }
        all(&mut rig, &mut ws);
        let mut repeats = 0;
        for _ in 0..60 {
            rig.pass(100);
            // So that nobody is disconnected for being idle.
            rig.send(&mut ws, r#"{"op":"ping"}"#);
            let told = all(&mut rig, &mut ws);
            repeats += told.iter().filter(|text| text.contains(repeated)).count();
        }
        assert_eq!(repeats, 6, "{name}");
    }
}

#[test]
fn bitfinex_has_25_channels_per_connection_and_bybit_takes_10_arguments() {
    let mut rig = Rig::stopped(STILL, T0);
    let mut ws = connected(&mut rig, "bitfinex");
    let bases: Vec<&str> = recorded::bases().collect();
    let short: Vec<&str> = bases
        .iter()
        .copied()
        .filter(|base| base.len() == 3)
        .collect();
    for (count, base) in bases.iter().chain(&short).enumerate().take(27) {
        let colon = if base.len() > 3 { ":" } else { "" };
        let quote = if count < 25 { "USD" } else { "UST" };
        let symbol = format!("t{base}{colon}{quote}");
        let answer = rig.ask(
            &mut ws,
            &format!(r#"{{"event":"subscribe","channel":"ticker","symbol":"{symbol}"}}"#),
        );
        if count < 25 {
            let number = 232_949 + count;
            assert!(
                answer.contains(&format!(r#""chanId":{number},"symbol":"{symbol}""#)),
                "{answer}"
            );
            assert!(rig.text(&mut ws).starts_with(&format!("[{number},[")));
        } else {
            assert_eq!(
                answer,
                format!(
                    r#"{{"event":"error","msg":"subscribe: limit","code":10305,"channel":"ticker","symbol":"{symbol}"}}"#
                )
            );
        }
    }
    let mut ws = connected(&mut rig, "bybit");
    let told = subscribed(&mut rig, &mut ws, "bybit", &bases[..11]);
    assert_eq!(
        told,
        [
            r#"{"success":false,"ret_msg":"args size >10","conn_id":"d9avt8embedded","req_id":"1","op":"subscribe"}"#
        ]
    );
    let told = subscribed(&mut rig, &mut ws, "bybit", &bases[..10]);
    assert_eq!(told.len(), 11, "{told:#?}");
}

/// Binance's WS-API has no subscriptions: each request names its symbol.
#[test]
fn binance_answers_requests_for_several_symbols_and_refuses_one_alone() {
    let ask = |id: u64, base: &str| {
        format!(
            r#"{{"id":{id},"method":"ticker.price","params":{{"symbol":"{base}USDT","symbolStatus":"TRADING"}}}}"#
        )
    };
    for (fault, refusal) in [
        ("refuse", Some("-1121")),
        ("halt@2..", Some("-1220")),
        ("mute@2..", None),
    ] {
        let mut rig = Rig::stopped(&format!("{STILL} --fault binance/ETH/{fault}"), T0);
        let mut ws = rig.client();
        for round in 1..=3 {
            for (id, (base, _)) in (1..).zip(BASES) {
                rig.send(&mut ws, &ask(id, base));
            }
            let told = all(&mut rig, &mut ws);
            let fails = fault == "refuse" || round > 1;
            assert_eq!(
                prices(&told),
                [1, usize::from(!fails), 1],
                "{fault}: {told:#?}"
            );
            if let Some(code) = refusal.filter(|_| fails) {
                let error = format!(r#"{{"id":2,"status":400,"error":{{"code":{code},"#);
                assert!(
                    told.iter().any(|text| text.starts_with(&error)),
                    "{told:#?}"
                );
            }
        }
        assert!(rig.ask(&mut ws, &ask(9, "XMR")).contains("-1121"));
    }
}

#[test]
fn a_fault_of_a_base_that_is_not_played_and_a_tape_with_one_base_are_told_apart() {
    let open = |flags: &str| Server::open(&settings(flags), Now::read()).map(|_| ());
    let error = open("--listen 127.0.0.1:0 --fault XMR/mute").unwrap_err();
    assert!(
        error.cause.contains("no XMR") && error.advice.contains("BTC, ETH"),
        "{error}"
    );
    let own = std::process::id();
    let tape = format!("{}/one-base-{own}.csv", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(&tape, "symbol,DOGEUSDC\nlength_ms,5\n0,0.19\n").unwrap();
    let own = format!("--listen 127.0.0.1:0 --tape {tape}");
    assert!(open(&format!("{own} --fault DOGE/mute")).is_ok());
    assert!(open(&format!("{own} --fault ETH/mute")).is_err());
    let mut rig = Rig::stopped(&format!("--tape {tape}"), T0);
    let mut ws = connected(&mut rig, "kraken");
    let told = subscribed(&mut rig, &mut ws, "kraken", &["BTC", "DOGE", "ETH"]).concat();
    assert!(told.contains(r#""last":0.19"#), "{told}");
    assert_eq!(told.matches("not supported").count(), 2, "{told}");
}
