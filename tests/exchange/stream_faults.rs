//! Every fault of a stream, as a client sees it.

use crate::rig::{Rig, blocked, upgrade};
use crate::streams::subscription;
use rsoracle::embedded::dialect::STREAMS;
use rsoracle::exchange::json;
use std::net::TcpStream;
use tungstenite::{Error, Message, WebSocket};

/// 2026-09-25T17:48:24Z
const T0: u64 = 1_790_358_504_000_000;

type Client = WebSocket<TcpStream>;

/// A client that has subscribed and read everything before the first price.
fn watching(rig: &mut Rig, name: &str) -> Client {
    let mut ws = rig.at(&format!("/{name}"));
    if matches!(name, "kraken" | "bitfinex") {
        rig.text(&mut ws);
    }
    rig.ask(&mut ws, subscription(name));
    ws
}

/// The number of channels with prices in that subscription.
fn channels(name: &str) -> usize {
    if matches!(name, "binance-stream" | "gemini") {
        2
    } else {
        1
    }
}

/// The next prices, one per channel, after the tape has advanced.
fn prices(rig: &mut Rig, ws: &mut Client, name: &str) -> Vec<String> {
    (0..channels(name)).map(|_| rig.text(ws)).collect()
}

#[test]
fn on_a_stream_faults_count_price_messages() {
    for name in [
        "coinbase",
        "kraken",
        "bitstamp",
        "bitfinex",
        "crypto.com",
        "okx",
        "bybit",
    ] {
        let mut rig = Rig::stopped(
            "--fault garbage@2 --fault wrong-symbol@3 --fault price:abc@4 --fault scale:0.5@5 --fault drop@6",
            T0,
        );
        let mut ws = watching(&mut rig, name);
        let mut next = |rig: &mut Rig| {
            let beats = |text: &String| text.contains("heartbeat");
            let told = std::iter::repeat_with(|| rig.text(&mut ws)).find(|text| !beats(text));
            rig.pass(1_000);
            told.unwrap()
        };
        let first = next(&mut rig);
        let own = [
            "BTC-USD", "BTC_USD", "BTC/USD", "btcusd", "BTCUSD", "232949",
        ];
        let foreign = [
            "XMR-USD", "XMR_USD", "XMR/USD", "xmrusd", "XMRUSD", "232950",
        ];
        assert!(own.iter().any(|own| first.contains(own)), "{first}");
        assert!(json::check(&next(&mut rig)).is_err());
        let other = next(&mut rig);
        assert!(
            foreign.iter().any(|foreign| other.contains(foreign)),
            "{other}"
        );
        assert!(!own.iter().any(|own| other.contains(own)), "{other}");
        assert!(next(&mut rig).contains("abc"));
        let half = next(&mut rig);
        assert!(
            half.contains("43616") || half.contains("43615.99"),
            "{half}"
        );
        while let Ok(told) = rig.next(&mut ws) {
            assert!(told.to_string().contains("heartbeat"), "{told}");
        }
    }
}

#[test]
fn a_stale_fault_shifts_the_times_in_messages() {
    // Forty seconds before `T0`, as each dialect writes it.
    let old = ["1790358464000", "2026-09-25T17:47:44.000000Z"];
    let new = ["17903585", "2026-09-25T17:48:2"];
    let tells = |text: &str, times: [&str; 2]| times.iter().any(|time| text.contains(time));
    for dialect in STREAMS.iter().filter(|dialect| dialect.name != "bitfinex") {
        let name = dialect.name;
        let mut rig = Rig::stopped("--fault old-first:40s --fault stale:40s@4..", T0);
        let mut ws = watching(&mut rig, name);
        let first = prices(&mut rig, &mut ws, name);
        assert!(tells(&first[0], old) && !tells(&first[0], new), "{first:?}");
        rig.pass(200);
        let second = prices(&mut rig, &mut ws, name);
        assert!(tells(&second[0], new), "{second:?}");
    }
    let mut rig = Rig::stopped("--fault stale:40s", T0);
    let mut ws = watching(&mut rig, "okx");
    for ts in ["1790358464000", "1790358464200"] {
        assert!(rig.text(&mut ws).contains(ts));
        rig.pass(200);
    }
}

#[test]
fn a_mute_connection_sends_everything_but_prices() {
    for (name, beat, ping, pong) in [
        ("coinbase", Some("heartbeat"), None, ""),
        (
            "kraken",
            Some("heartbeat"),
            Some(r#"{"method":"ping"}"#),
            "pong",
        ),
        ("bitfinex", Some("hb"), Some(r#"{"event":"ping"}"#), "pong"),
        (
            "bitstamp",
            None,
            Some(r#"{"event":"bts:heartbeat"}"#),
            "success",
        ),
        ("okx", None, Some("ping"), "pong"),
        ("bybit", None, Some(r#"{"op":"ping"}"#), "pong"),
    ] {
        let mut rig = Rig::stopped("--keep-alive 1s --fault mute@2", T0);
        let mut ws = watching(&mut rig, name);
        assert!(rig.text(&mut ws).contains("87232"));
        for _ in 0..3 {
            rig.pass(1_000);
            // A dialect without heartbeats sends nothing at all.
            match beat {
                Some(beat) => assert!(rig.text(&mut ws).contains(beat)),
                None => rig.silence(&mut ws),
            }
            if let Some(ping) = ping {
                assert!(rig.ask(&mut ws, ping).contains(pong));
            }
        }
        rig.silence(&mut ws);
    }
}

#[test]
fn a_hung_connection_sends_nothing_at_all() {
    for dialect in STREAMS {
        let mut rig = Rig::stopped(&format!("--fault {}/hang", dialect.name), T0);
        let mut ws = watching(&mut rig, dialect.name);
        for _ in 0..5 {
            rig.pass(100_000);
            let _ = ws.send(Message::Ping("x".into()));
            let _ = ws.send(Message::text("ping"));
            rig.silence(&mut ws);
        }
        assert_eq!(rig.server.connections(), 1);
        drop(ws);
        while rig.server.connections() > 0 {
            rig.turn();
        }
    }
}

#[test]
fn the_end_is_announced_in_the_exchanges_words_a_second_before() {
    for (name, notice) in [
        (
            "binance-stream",
            Some(r#"{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1790358504200}}"#),
        ),
        (
            "bitstamp",
            Some(r#"{"event":"bts:request_reconnect","channel":"","data":""}"#),
        ),
        (
            "okx",
            Some(
                r#"{"event":"notice","code":"64008","msg":"The connection will soon be closed for a service upgrade. Please reconnect.","connId":"006dcf10"}"#,
            ),
        ),
        (
            "bitfinex",
            Some(r#"{"event":"info","code":20051,"msg":"Stopping. Please try to reconnect"}"#),
        ),
        ("coinbase", None),
        ("kraken", None),
        ("gemini", None),
        ("crypto.com", None),
        ("bybit", None),
    ] {
        let k = channels(name) + 1;
        let mut rig = Rig::stopped(&format!("--fault reconnect@{k}"), T0);
        let mut ws = watching(&mut rig, name);
        prices(&mut rig, &mut ws, name);
        rig.pass(200);
        let Some(notice) = notice else {
            rig.closed(&mut ws);
            continue;
        };
        assert_eq!(rig.text(&mut ws), notice);
        if name == "binance-stream" {
            assert!(rig.text(&mut ws).contains("bookTicker"));
        }
        rig.pass(999);
        // Prices continue until then.
        for _ in 0..5 {
            rig.turn();
            match ws.read() {
                Ok(Message::Text(_)) => {}
                Err(Error::Io(error)) if blocked(&error) => {}
                other => panic!("{other:?}"),
            }
        }
        rig.pass(1);
        rig.closed(&mut ws);
    }
    // Binance's WS-API has such a notice, too.
    let mut rig = Rig::stopped("--fault binance/reconnect@1", T0);
    let mut ws = rig.client();
    let notice = r#"{"event":{"e":"serverShutdown","E":1790358504000}}"#;
    assert_eq!(rig.ask(&mut ws, crate::rig::ASK), notice);
    rig.pass(1_000);
    rig.closed(&mut ws);
}

#[test]
fn maintenance_is_announced_or_else_closes_the_connection() {
    for dialect in STREAMS {
        let name = dialect.name;
        let mut rig = Rig::stopped("--fault maintenance@2", T0);
        let mut ws = watching(&mut rig, name);
        rig.text(&mut ws);
        rig.pass(200);
        let words = match name {
            "kraken" => r#""system":"maintenance""#,
            "bitfinex" => r#""platform":{"status":0}"#,
            _ => {
                rig.closed(&mut ws);
                continue;
            }
        };
        assert!(rig.text(&mut ws).contains(words));
        // No prices come any more, but heartbeats do.
        rig.pass(15_000);
        assert!(rig.text(&mut ws).contains("h"));
        rig.silence(&mut ws);
        // While maintenance lasts, new clients are told.
        let mut rig = Rig::stopped("--fault maintenance", T0);
        let mut ws = rig.at(&format!("/{name}"));
        assert!(rig.text(&mut ws).contains(words));
    }
}

#[test]
fn a_fault_of_one_dialect_does_not_affect_the_others() {
    let mut rig = Rig::stopped("--fault kraken/garbage --fault okx/upgrade:429:7", T0);
    let mut ws = watching(&mut rig, "kraken");
    assert!(json::check(&rig.text(&mut ws)).is_err());
    for name in ["coinbase", "bitfinex", "bybit"] {
        let mut ws = watching(&mut rig, name);
        assert_eq!(json::check(&rig.text(&mut ws)), Ok(()));
    }
    let answer = rig.http(upgrade("/okx").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("\r\nRetry-After: 7\r\n"));
    assert!(
        rig.http(upgrade("/nowhere").as_bytes())
            .starts_with("HTTP/1.1 404 ")
    );
}

#[test]
fn prices_may_be_delayed_or_wait_for_a_pong_or_be_large() {
    let mut rig = Rig::stopped("--fault slow:300ms@1 --fault ping@2 --fault large@3", T0);
    let mut ws = watching(&mut rig, "okx");
    ws.set_config(|config| {
        config.max_message_size = None;
        config.max_frame_size = None;
    });
    rig.pass(299);
    // Only the first price is slow. The second one waits for a pong.
    let Ok(Message::Ping(payload)) = rig.next(&mut ws) else {
        panic!("no ping");
    };
    assert!(payload.len() >= 16);
    assert!(rig.text(&mut ws).contains(r#""last":"87232.01""#));
    rig.silence(&mut ws);
    rig.pass(1);
    let late = rig.text(&mut ws);
    assert!(
        late.contains(r#""last":"87232""#) && late.contains("1790358504000"),
        "{late}"
    );
    rig.pass(900);
    assert_eq!(rig.text(&mut ws).len(), 20_000_000);
    rig.pass(1_000);
    assert!(rig.text(&mut ws).contains(r#""last":"87232"#));
}

#[test]
fn a_rate_is_shared_by_all_channels_of_a_connection() {
    let mut rig = Rig::stopped("--rate 20000", T0);
    let (mut ws, mut other) = (
        watching(&mut rig, "binance-stream"),
        watching(&mut rig, "kraken"),
    );
    let read = |rig: &mut Rig, ws: &mut Client| {
        let mut told: Vec<String> = Vec::new();
        let mut idle = 0;
        while idle < 3 {
            match ws.read() {
                Ok(Message::Text(text)) => told.push(text.as_str().to_owned()),
                Err(Error::Io(error)) if blocked(&error) => {
                    rig.turn();
                    idle += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        told
    };
    assert_eq!(read(&mut rig, &mut ws).len(), 1);
    assert_eq!(read(&mut rig, &mut other).len(), 1);
    for ms in [1, 10, 100] {
        rig.pass(ms);
        let told = read(&mut rig, &mut ws);
        assert_eq!(told.len() as u64, 20 * ms);
        let trades = told.iter().filter(|text| text.contains("@trade")).count();
        assert_eq!(trades as u64, 10 * ms);
        assert_eq!(read(&mut rig, &mut other).len() as u64, 20 * ms);
    }
    // Each message is a separate trade with the current time.
    rig.pass(1);
    let last = read(&mut rig, &mut ws);
    let trade = last.iter().rfind(|text| text.contains("@trade")).unwrap();
    assert!(trade.contains(r#""T":1790358504112,"#), "{trade}");
}

#[test]
fn messages_sent_before_a_drop_still_arrive() {
    let mut rig = Rig::stopped("--fault drop@2", T0);
    let mut ws = watching(&mut rig, "binance-stream");
    assert!(rig.text(&mut ws).contains("@trade"));
    assert!(rig.next(&mut ws).is_err());
}

#[test]
fn a_slow_reader_of_a_stream_misses_prices_and_then_gets_the_newest() {
    let mut rig = Rig::stopped("", T0);
    let (mut slow, mut other) = (
        watching(&mut rig, "coinbase"),
        watching(&mut rig, "coinbase"),
    );
    // The first client does not read: its socket buffers fill up, and then nothing more is written.
    let mut newest = String::new();
    for _ in 0..20_000 {
        rig.pass(1_000);
        rig.turn();
        while let Ok(Message::Text(text)) = other.read() {
            if text.as_str().contains("ticker") {
                newest = text.as_str().to_owned();
            }
        }
    }
    let price = |text: &str| {
        text.split(r#""price":""#)
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap()
            .to_owned()
    };
    let mut last = String::new();
    let mut count = 0;
    rig.turn();
    let mut idle = 0;
    while idle < 20 {
        match slow.read() {
            Ok(Message::Text(text)) if text.as_str().contains("ticker") => {
                (last, count, idle) = (text.as_str().to_owned(), count + 1, 0);
            }
            Ok(_) => {}
            Err(Error::Io(error)) if blocked(&error) => {
                rig.turn();
                idle += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(count > 100, "{count}");
    assert_eq!(price(&last), price(&newest));
}
