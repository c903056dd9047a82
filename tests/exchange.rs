//! The embedded exchange over real sockets: server and clients take turns in one thread.

use rsoracle::embedded::Settings;
use rsoracle::embedded::server::Server;
use rsoracle::embedded::venue::Now;
use rsoracle::{args, config, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};
use tungstenite::handshake::HandshakeError;
use tungstenite::{Error, Message, WebSocket};

const ASK: &str =
    r#"{"id":"a1","method":"ticker.price","params":{"symbol":"BTCUSDT","symbolStatus":"TRADING"}}"#;

/// A server, and the patience of a test.
struct Rig {
    server: Server,
    until: Instant,
    /// What the clock of the exchange stands at, where a test wants it to stand.
    unix_us: Option<u64>,
}

fn settings(flags: &str) -> Settings {
    let words: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
    let given = args::parse(&config::EXCHANGE, &words).unwrap();
    Settings::from_flags(&given).unwrap()
}

fn blocked(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::WouldBlock
}

impl Rig {
    fn new(flags: &str) -> Rig {
        Rig {
            server: Server::open(&settings(&format!("--listen 127.0.0.1:0 {flags}"))).unwrap(),
            until: Instant::now() + Duration::from_secs(20),
            unix_us: None,
        }
    }

    /// Lets the server run once; a test that waits too long fails here.
    fn turn(&mut self) {
        assert!(Instant::now() < self.until, "waited too long");
        let mut now = Now::read();
        now.unix_us = self.unix_us.unwrap_or(now.unix_us);
        if !self.server.sweep(now) {
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.address()).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    }

    fn open<S: Read + Write>(&mut self, stream: S, path: &str) -> Result<WebSocket<S>, Error> {
        let url = format!("ws://localhost{path}");
        let mut shaken = tungstenite::client(url, stream);
        loop {
            match shaken {
                Ok((ws, _)) => return Ok(ws),
                Err(HandshakeError::Failure(error)) => return Err(error),
                Err(HandshakeError::Interrupted(mid)) => {
                    self.turn();
                    shaken = mid.handshake();
                }
            }
        }
    }

    fn client(&mut self) -> WebSocket<TcpStream> {
        let stream = self.tcp();
        self.open(stream, "/ws-api/v3").unwrap()
    }

    fn send<S: Read + Write>(&mut self, ws: &mut WebSocket<S>, text: &str) {
        ws.send(Message::text(text)).unwrap();
    }

    fn next<S: Read + Write>(&mut self, ws: &mut WebSocket<S>) -> Result<Message, Error> {
        loop {
            match ws.read() {
                Err(Error::Io(error)) if blocked(&error) => self.turn(),
                other => return other,
            }
        }
    }

    fn ask<S: Read + Write>(&mut self, ws: &mut WebSocket<S>, text: &str) -> String {
        self.send(ws, text);
        match self.next(ws) {
            Ok(Message::Text(text)) => text.as_str().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    /// Everything that comes until the server closes.
    fn http(&mut self, request: &[u8]) -> String {
        let mut stream = self.tcp();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return String::from_utf8(answer).unwrap(),
                Ok(n) => answer.extend_from_slice(&buffer[..n]),
                Err(error) if blocked(&error) => self.turn(),
                Err(error) => panic!("{error}; so far {answer:?}"),
            }
        }
    }
}

fn upgrade(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

#[test]
fn a_price_is_answered_and_weight_is_counted_over_all_connections() {
    let mut rig = Rig::new("--speed 0.000001");
    rig.unix_us = Some(1_700_000_000_000_000);
    let (mut a, mut b) = (rig.client(), rig.client());
    let answer = |count: u32| {
        format!(
            r#"{{"id":"a1","status":200,"result":{{"symbol":"BTCUSDT","price":"87232.00000000"}},"rateLimits":[{{"rateLimitType":"REQUEST_WEIGHT","interval":"MINUTE","intervalNum":1,"limit":6000,"count":{count}}}]}}"#
        )
    };
    // Two connections cost 2 each.
    assert_eq!(rig.ask(&mut a, ASK), answer(6));
    assert_eq!(rig.ask(&mut b, ASK), answer(8));
    rig.unix_us = Some(1_700_000_060_000_000);
    assert_eq!(rig.ask(&mut a, ASK), answer(2));
}

#[test]
fn the_tape_runs() {
    let mut rig = Rig::new("--speed 1000");
    let mut ws = rig.client();
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 5 {
        seen.insert(rig.ask(&mut ws, r#"{"id":1,"method":"ticker.price","params":{"symbol":"BTCUSDT","returnRateLimits":false}}"#));
    }
}

#[test]
fn address_line_options_are_heeded() {
    let mut rig = Rig::new("");
    let stream = rig.tcp();
    let mut ws = rig
        .open(
            stream,
            "/ws-api/v3?returnRateLimits=false&timeUnit=MICROSECOND",
        )
        .unwrap();
    let answer = rig.ask(&mut ws, r#"{"id":1,"method":"time"}"#);
    assert!(answer.starts_with(r#"{"id":1,"status":200,"result":{"serverTime":1"#));
    assert_eq!(
        answer.len(),
        r#"{"id":1,"status":200,"result":{"serverTime":1700000000000000}}"#.len()
    );
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
fn each_fault_comes_at_its_request_and_not_before() {
    let mut rig = Rig::new("--fault garbage@2 --fault wrong-id@3 --fault price:@4 --fault drop@5");
    let mut ws = rig.client();
    assert!(rig.ask(&mut ws, ASK).contains(r#""status":200"#));
    assert!(json::check(&rig.ask(&mut ws, ASK)).is_err());
    assert!(
        rig.ask(&mut ws, ASK)
            .starts_with(r#"{"id":"another","status":200"#)
    );
    assert!(rig.ask(&mut ws, ASK).contains(r#""price":"""#));
    rig.send(&mut ws, ASK);
    assert!(rig.next(&mut ws).is_err());
    // The count is per connection.
    let mut ws = rig.client();
    assert!(rig.ask(&mut ws, ASK).contains(r#""status":200"#));
}

#[test]
fn a_slow_answer_holds_up_nobody_else() {
    let mut rig = Rig::new("--fault slow:300ms@1");
    let (mut slow, mut other) = (rig.client(), rig.client());
    let sent = Instant::now();
    rig.send(&mut slow, ASK);
    rig.send(&mut slow, r#"{"id":2,"method":"ping"}"#);
    // Replies may come out of order: the second request is not the slow one.
    assert!(
        matches!(rig.next(&mut slow), Ok(Message::Text(t)) if t.as_str().contains(r#""id":2"#))
    );
    rig.send(&mut other, ASK);
    rig.ask(&mut other, ASK);
    assert!(sent.elapsed() < Duration::from_millis(300));
    assert!(
        matches!(rig.next(&mut slow), Ok(Message::Text(t)) if t.as_str().contains(r#""id":"a1""#))
    );
    assert!(sent.elapsed() >= Duration::from_millis(299));
}

#[test]
fn a_hung_connection_never_answers_and_others_do() {
    let mut rig = Rig::new("--fault hang@2");
    let (mut hung, mut other) = (rig.client(), rig.client());
    rig.ask(&mut hung, ASK);
    rig.send(&mut hung, ASK);
    rig.send(&mut hung, ASK);
    rig.ask(&mut other, ASK);
    let until = Instant::now() + Duration::from_millis(100);
    while Instant::now() < until {
        rig.turn();
        assert!(matches!(hung.read(), Err(Error::Io(error)) if blocked(&error)));
    }
    assert_eq!(rig.server.connections(), 2);
}

#[test]
fn a_ping_must_be_echoed_before_the_answer_comes() {
    let mut rig = Rig::new("--fault ping");
    let mut ws = rig.client();
    rig.send(&mut ws, ASK);
    let Ok(Message::Ping(payload)) = rig.next(&mut ws) else {
        panic!("no ping");
    };
    assert!(payload.len() >= 16);
    // tungstenite has queued the pong; nothing has flushed it yet, so there is no answer.
    for _ in 0..20 {
        rig.turn();
    }
    assert!(matches!(rig.next(&mut ws), Ok(Message::Text(_))));
}

#[test]
fn another_payload_is_no_echo() {
    let mut rig = Rig::new("--fault ping");
    let mut stream = rig.tcp();
    stream.write_all(upgrade("/ws-api/v3").as_bytes()).unwrap();
    // Masked with zeros, so the payload stands there as it is.
    let frame = |opcode: u8, payload: &[u8]| {
        let mut frame = vec![opcode, 0x80 | payload.len() as u8, 0, 0, 0, 0];
        frame.extend_from_slice(payload);
        frame
    };
    let short = br#"{"id":1,"method":"ping","params":{"returnRateLimits":false}}"#;
    stream.write_all(&frame(0x81, short)).unwrap();
    let mut seen = Vec::new();
    let mut read = |rig: &mut Rig, until: &dyn Fn(&[u8]) -> bool| {
        let mut buffer = [0; 1024];
        for _ in 0..2_000 {
            rig.turn();
            if let Ok(n) = stream.read(&mut buffer) {
                seen.extend_from_slice(&buffer[..n]);
            }
            if until(&seen) {
                return seen.clone();
            }
        }
        panic!("nothing came after {:?}", String::from_utf8_lossy(&seen));
    };
    let frames_at = |bytes: &[u8]| {
        bytes
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .map(|at| at + 4)
    };
    let all = read(&mut rig, &|bytes| {
        frames_at(bytes).is_some_and(|at| bytes.len() > at + 16)
    });
    let ping = &all[frames_at(&all).unwrap()..];
    assert_eq!(ping[0], 0x89);
    let payload = ping[2..2 + usize::from(ping[1])].to_vec();
    drop(all);
    let mut wrong = payload.clone();
    wrong[0] ^= 1;
    let had = seen.len();
    stream.write_all(&frame(0x8a, &wrong)).unwrap();
    for _ in 0..50 {
        rig.turn();
    }
    assert!(
        stream.read(&mut [0; 64]).is_err(),
        "answered without an echo"
    );
    stream.write_all(&frame(0x8a, &payload)).unwrap();
    let mut answer = [0; 256];
    let n = loop {
        match stream.read(&mut answer) {
            Ok(n) => break n,
            Err(_) => rig.turn(),
        }
    };
    assert!(had > 0 && answer[..n].ends_with(br#"{"id":1,"status":200,"result":{}}"#));
}

#[test]
fn a_large_message_is_one_of_20_mb_and_the_connection_goes_on() {
    let mut rig = Rig::new("--fault large@1");
    let mut ws = rig.client();
    ws.set_config(|config| {
        config.max_message_size = None;
        config.max_frame_size = None;
    });
    let answer = rig.ask(&mut ws, ASK);
    assert_eq!(answer.len(), 20_000_000);
    assert!(rig.ask(&mut ws, ASK).contains(r#""status":200"#));
    // One who hangs up at the header is let go.
    let mut ws = rig.client();
    ws.set_config(|config| config.max_frame_size = Some(65_536));
    rig.send(&mut ws, ASK);
    assert!(matches!(rig.next(&mut ws), Err(Error::Capacity(_))));
    drop(ws);
    while rig.server.connections() > 1 {
        rig.turn();
    }
}

#[test]
fn a_ban_is_an_answer_and_then_the_end() {
    let mut rig = Rig::new("--fault status:429:2s@1 --fault status:418:2s@2");
    let mut ws = rig.client();
    assert!(
        rig.ask(&mut ws, ASK)
            .contains(r#""status":429,"error":{"code":-1003"#)
    );
    assert!(
        rig.ask(&mut ws, ASK)
            .contains(r#""status":418,"error":{"code":-1003"#)
    );
    assert!(matches!(rig.next(&mut ws), Ok(Message::Close(Some(_)))));
    assert!(matches!(rig.next(&mut ws), Err(Error::ConnectionClosed)));
}

#[test]
fn upgrades_are_refused_with_status_and_body() {
    for code in [451, 403, 418, 429] {
        let mut rig = Rig::new(&format!("--fault upgrade:{code}"));
        // Long before the deadline of the stage: the server says by itself that this is all.
        rig.until = Instant::now() + Duration::from_secs(2);
        let answer = rig.http(upgrade("/ws-api/v3").as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{answer}");
        let stream = rig.tcp();
        match rig.open(stream, "/ws-api/v3") {
            Err(Error::Http(response)) => assert_eq!(response.status().as_u16(), code),
            other => panic!("{:?}", other.map(|_| ())),
        }
    }
    let mut rig = Rig::new("");
    assert!(
        rig.http(upgrade("/ws").as_bytes())
            .starts_with("HTTP/1.1 404 ")
    );
    assert!(
        rig.http(b"GET / HTTP/1.0\r\n\r\n")
            .starts_with("HTTP/1.1 400 ")
    );
    assert!(rig.http(&[b'a'; 9_000]).starts_with("HTTP/1.1 431 "));
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
    let mut rig = Rig::new("");
    let silent: Vec<TcpStream> = (0..20).map(|_| rig.tcp()).collect();
    let mut dribbling = rig.tcp();
    while rig.server.connections() < 21 {
        rig.turn();
    }
    let mut open = rig.client();
    // The clock is passed in: nobody waits.
    let later = |s: u64| Now {
        at: Instant::now() + Duration::from_millis(s),
        ..Now::read()
    };
    dribbling.write_all(b"GET /").unwrap();
    rig.server.sweep(later(4_000));
    assert_eq!(rig.server.connections(), 22);
    rig.server.sweep(later(5_100));
    assert_eq!(rig.server.connections(), 1);
    assert!(rig.ask(&mut open, ASK).contains("200"));
    drop(silent);
    // A client that answers no ping goes, too; one that does stays.
    rig.server.sweep(later(21_000));
    assert!(matches!(rig.next(&mut open), Ok(Message::Ping(_))));
    rig.server.sweep(later(79_000));
    assert_eq!(rig.server.connections(), 1);
    rig.server.sweep(later(81_000));
    assert_eq!(rig.server.connections(), 0);
}

#[test]
fn a_slow_reader_holds_up_itself_and_gets_every_answer_whole_and_in_order() {
    let mut rig = Rig::new("");
    let (mut ws, mut other) = (rig.client(), rig.client());
    // Sends and does not read, until nothing leaves here any more and nothing moves there any more.
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
        let busy = rig.server.sweep(Now::read());
        blocked = blocked && ws.flush().is_err();
        idle = if busy || !blocked { 0 } else { idle + 1 };
    }
    assert!(rig.ask(&mut other, ASK).contains("200"));
    for got in 0..sent {
        // What blocked above leaves as soon as the server reads again.
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
    let (cert, key) = (
        format!("{dir}/exchange-cert.pem"),
        format!("{dir}/exchange-key.pem"),
    );
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
    let mut shaken = connector.connect("localhost", rig.tcp());
    let stream = loop {
        match shaken {
            Ok(stream) => break stream,
            Err(native_tls::HandshakeError::WouldBlock(mid)) => {
                rig.turn();
                shaken = mid.handshake();
            }
            Err(native_tls::HandshakeError::Failure(error)) => panic!("{error}"),
        }
    };
    let mut ws = rig.open(stream, "/ws-api/v3").unwrap();
    assert!(rig.ask(&mut ws, ASK).contains(r#""status":200"#));
    ws.set_config(|config| {
        config.max_message_size = None;
        config.max_frame_size = None;
    });
    assert_eq!(rig.ask(&mut ws, ASK).len(), 20_000_000);
    assert!(rig.ask(&mut ws, ASK).contains(r#""status":200"#));
    // Without TLS there is nothing to be had here, and nobody is disturbed.
    let plain = rig.tcp();
    assert!(rig.open(plain, "/ws-api/v3").is_err());
    assert!(rig.ask(&mut ws, ASK).contains(r#""status":200"#));
    // A key that is none, and files that are not there, are named.
    for (c, k, names) in [
        (&cert, &cert, "--key"),
        (&key, &key, "--cert"),
        (&format!("{dir}/nothing.pem"), &key, "nothing.pem"),
    ] {
        let settings = settings(&format!("--listen 127.0.0.1:0 --cert {c} --key {k}"));
        let error = Server::open(&settings).err().unwrap().to_string();
        assert!(error.contains(names), "{error}");
    }
}

#[test]
fn an_address_that_is_taken_and_a_bad_tape_are_named() {
    let rig = Rig::new("");
    let taken = rig.server.address().to_string();
    let error = Server::open(&settings(&format!("--listen {taken}")))
        .err()
        .unwrap();
    assert!(
        error.attempt.contains(&taken) && error.advice.contains("--listen"),
        "{error}"
    );
    let path = format!("{}/bad-tape.csv", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(&path, "length_ms,5\n0,cheap\n").unwrap();
    let error = Server::open(&settings(&format!("--listen 127.0.0.1:0 --tape {path}")))
        .err()
        .unwrap();
    assert!(
        error.attempt.contains(&path) && error.cause.contains("line 2"),
        "{error}"
    );
}
