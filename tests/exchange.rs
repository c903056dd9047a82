//! The embedded exchange over real sockets. Server and clients take turns in one thread.

#[path = "exchange/faults.rs"]
mod faults;
#[path = "exchange/rig.rs"]
mod rig;
#[path = "exchange/stream_faults.rs"]
mod stream_faults;
#[path = "exchange/streams.rs"]
mod streams;
#[path = "exchange/symbols.rs"]
mod symbols;

use rig::{ASK, Rig, settings};
use rsoracle::embedded::dialect::STREAMS;
use rsoracle::embedded::server::Server;
use rsoracle::embedded::venue::Now;
use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;
use streams::subscription;
use tungstenite::{Error, Message};

#[test]
fn a_price_is_answered_to_every_connection() {
    let mut rig = Rig::stopped("", 1_700_000_000_000_000);
    let (mut a, mut b) = (rig.client(), rig.client());
    let answer = r#"{"id":"a1","status":200,"result":{"symbol":"BTCUSDT","price":"87232.00000000"},"rateLimits":[{"rateLimitType":"REQUEST_WEIGHT","interval":"MINUTE","intervalNum":1,"limit":6000,"count":2}]}"#;
    assert_eq!(rig.ask(&mut a, ASK), answer);
    assert_eq!(rig.ask(&mut b, ASK), answer);
}

#[test]
fn the_tape_runs() {
    let mut rig = Rig::new("--speed 1000");
    let mut ws = rig.client();
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 5 {
        seen.insert(rig.ask(
            &mut ws,
            r#"{"id":1,"method":"ticker.price","params":{"symbol":"BTCUSDT"}}"#,
        ));
    }
}

#[test]
fn a_client_ping_is_echoed_and_a_close_answered() {
    let mut rig = Rig::new("");
    let mut ws = rig.client();
    ws.send(Message::Ping("payload".into())).unwrap();
    assert!(matches!(rig.next(&mut ws), Ok(Message::Pong(p)) if p.as_ref() == b"payload"));
    ws.close(None).unwrap();
    assert!(matches!(rig.next(&mut ws), Ok(Message::Close(_))));
    assert!(matches!(rig.next(&mut ws), Err(Error::ConnectionClosed)));
    while rig.server.connections() > 0 {
        rig.turn();
    }
}

#[test]
fn a_message_over_the_limit_or_unmasked_or_binary_ends_the_connection() {
    let mut rig = Rig::new("");
    let mut ws = rig.client();
    let _ = ws.send(Message::text("x".repeat(70_000)));
    assert!(rig.next(&mut ws).is_err());
    let mut ws = rig.client();
    ws.get_mut().write_all(b"\x81\x02hi").unwrap();
    assert!(rig.next(&mut ws).is_err());
    let mut ws = rig.client();
    ws.send(Message::binary(vec![1, 2, 3])).unwrap();
    assert!(matches!(rig.next(&mut ws), Ok(Message::Close(Some(_)))));
    while rig.server.connections() > 1 {
        let _ = ws.read();
        rig.turn();
    }
}

#[test]
fn silent_strangers_are_gone_after_five_seconds() {
    // The clock is an argument, so nothing waits.
    let mut rig = Rig::stopped("", 1_700_000_000_000_000);
    let silent: Vec<TcpStream> = (0..20).map(|_| rig.tcp()).collect();
    let mut dribbling = rig.tcp();
    while rig.server.connections() < 21 {
        rig.turn();
    }
    let mut open = rig.client();
    let begun = rig.clock.expect("it is stopped");
    let later = |ms: u64| Now {
        at: begun.at + Duration::from_millis(ms),
        unix_us: begun.unix_us + ms * 1_000,
    };
    dribbling.write_all(b"GET /").unwrap();
    rig.server.sweep(later(4_000));
    assert_eq!(rig.server.connections(), 22);
    rig.server.sweep(later(5_100));
    assert_eq!(rig.server.connections(), 1);
    assert!(rig.ask(&mut open, ASK).contains("200"));
    drop(silent);
    // A client that does not answer pings is disconnected too; one that does stays.
    rig.server.sweep(later(21_000));
    assert!(matches!(rig.next(&mut open), Ok(Message::Ping(_))));
    rig.server.sweep(later(79_000));
    assert_eq!(rig.server.connections(), 1);
    rig.server.sweep(later(81_000));
    assert_eq!(rig.server.connections(), 0);
}

#[test]
fn a_slow_reader_holds_up_itself_and_gets_every_answer_whole_and_in_order() {
    // The server's clock stands still, since it would ping a client that is slow for long.
    let mut rig = Rig::stopped("", 1_700_000_000_000_000);
    let (mut ws, mut other) = (rig.client(), rig.client());
    // Send without reading, until neither side can send any more.
    let mut sent = 0;
    let mut idle = 0;
    let mut blocked = false;
    while idle < 20 {
        for _ in 0..64 {
            if !blocked {
                let ask = format!(r#"{{"id":{sent},"method":"ping"}}"#);
                blocked = ws.send(Message::text(ask)).is_err();
                sent += 1;
            }
        }
        let busy = rig.server.sweep(rig.clock.expect("it is stopped"));
        blocked = blocked && ws.flush().is_err();
        idle = if busy || !blocked { 0 } else { idle + 1 };
    }
    assert!(rig.ask(&mut other, ASK).contains("200"));
    for got in 0..sent {
        // What was blocked above is sent as soon as the server reads again.
        let _ = ws.flush();
        let Ok(Message::Text(text)) = rig.next(&mut ws) else {
            panic!("no answer to {got} of {sent}");
        };
        assert!(
            text.as_str()
                .starts_with(&format!(r#"{{"id":{got},"status":200"#))
        );
    }
}

#[test]
fn hundreds_of_connections_are_served() {
    let mut rig = Rig::new("");
    let mut clients: Vec<_> = (0..300).map(|_| rig.client()).collect();
    assert_eq!(rig.server.connections(), 300);
    for ws in &mut clients {
        ws.send(Message::text(ASK)).unwrap();
    }
    for ws in &mut clients {
        assert!(matches!(rig.next(ws), Ok(Message::Text(t)) if t.as_str().contains("200")));
    }
}

#[test]
fn tls_is_spoken_with_certificate_and_key() {
    let dir = env!("CARGO_TARGET_TMPDIR");
    // Two concurrent runs of this test must not write to the same files.
    let own = std::process::id();
    let cert = format!("{dir}/exchange-cert-{own}.pem");
    let key = format!("{dir}/exchange-key-{own}.pem");
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ])
        .args(["-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args([
            "-addext",
            "subjectAltName=DNS:localhost",
            "-keyout",
            &key,
            "-out",
            &cert,
        ])
        .output()
        .expect("this test makes its certificate with the openssl command");
    assert!(made.status.success(), "{made:?}");
    let mut rig = Rig::new(&format!("--fault large@2 --cert {cert} --key {key}"));
    assert!(rig.server.url().starts_with("wss://127.0.0.1:"));
    let root = native_tls::Certificate::from_pem(&std::fs::read(&cert).unwrap()).unwrap();
    let connector = native_tls::TlsConnector::builder()
        .add_root_certificate(root)
        .build()
        .unwrap();
    let connect = |rig: &mut Rig| {
        let mut shaken = connector.connect("localhost", rig.tcp());
        loop {
            match shaken {
                Ok(stream) => return stream,
                Err(native_tls::HandshakeError::WouldBlock(mid)) => {
                    rig.turn();
                    shaken = mid.handshake();
                }
                Err(native_tls::HandshakeError::Failure(error)) => panic!("{error}"),
            }
        }
    };
    let stream = connect(&mut rig);
    let mut ws = rig.open(stream, "/ws-api/v3").unwrap();
    assert!(rig.ask(&mut ws, ASK).contains(r#""status":200"#));
    ws.set_config(|config| {
        config.max_message_size = None;
        config.max_frame_size = None;
    });
    assert_eq!(rig.ask(&mut ws, ASK).len(), 20_000_000);
    assert!(rig.ask(&mut ws, ASK).contains(r#""status":200"#));
    for dialect in STREAMS {
        let stream = connect(&mut rig);
        let mut ws = rig.open(stream, &format!("/{}", dialect.name)).unwrap();
        if dialect.welcome.is_some() {
            rig.text(&mut ws);
        }
        rig.ask(&mut ws, subscription(dialect.name));
        assert!(rig.text(&mut ws).contains("872"));
    }
    // A client without TLS gets nothing, and disturbs nobody.
    let plain = rig.tcp();
    assert!(rig.open(plain, "/ws-api/v3").is_err());
    assert!(rig.ask(&mut ws, ASK).contains(r#""status":200"#));
    // Invalid keys and missing files are named.
    for (c, k, names) in [
        (&cert, &cert, "--key"),
        (&key, &key, "--cert"),
        (&format!("{dir}/nothing.pem"), &key, "nothing.pem"),
    ] {
        let settings = settings(&format!("--listen 127.0.0.1:0 --cert {c} --key {k}"));
        let error = Server::open(&settings, Now::read())
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains(names), "{error}");
    }
}

#[test]
fn an_address_that_is_taken_and_a_bad_tape_are_named() {
    let rig = Rig::new("");
    let taken = rig.server.address().to_string();
    let error = Server::open(&settings(&format!("--listen {taken}")), Now::read())
        .err()
        .unwrap();
    assert!(
        error.attempt.contains(&taken) && error.advice.contains("--listen"),
        "{error}"
    );
    let own = std::process::id();
    let path = format!("{}/bad-tape-{own}.csv", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(&path, "length_ms,5\n0,cheap\n").unwrap();
    let settings = settings(&format!("--listen 127.0.0.1:0 --tape {path}"));
    let error = Server::open(&settings, Now::read()).err().unwrap();
    assert!(
        error.attempt.contains(&path) && error.cause.contains("line 2"),
        "{error}"
    );
}
