//! Every fault of the WS-API, as a client sees it.

use crate::rig::{ASK, Rig, upgrade};
use rsoracle::exchange::json;
use std::io::{Read, Write};
use std::time::{Duration, Instant};
use tungstenite::{Error, Message};

#[test]
fn each_fault_happens_at_its_request_and_not_before() {
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
    // Requests are counted per connection.
    let mut ws = rig.client();
    assert!(rig.ask(&mut ws, ASK).contains(r#""status":200"#));
}

#[test]
fn a_slow_answer_delays_no_other_answer() {
    let mut rig = Rig::stopped("--fault slow:300ms@1", 1_700_000_000_000_000);
    let (mut slow, mut other) = (rig.client(), rig.client());
    rig.send(&mut slow, ASK);
    rig.send(&mut slow, r#"{"id":2,"method":"ping"}"#);
    // Only the first request is slow, so the replies come out of order.
    assert!(
        matches!(rig.next(&mut slow), Ok(Message::Text(t)) if t.as_str().contains(r#""id":2"#))
    );
    rig.send(&mut other, ASK);
    rig.ask(&mut other, ASK);
    rig.pass(299);
    rig.silence(&mut slow);
    rig.pass(1);
    assert!(
        matches!(rig.next(&mut slow), Ok(Message::Text(t)) if t.as_str().contains(r#""id":"a1""#))
    );
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
        rig.silence(&mut hung);
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
    // tungstenite has queued the pong, but nothing has flushed it yet, so there is no answer.
    for _ in 0..20 {
        rig.turn();
    }
    assert!(matches!(rig.next(&mut ws), Ok(Message::Text(_))));
}

#[test]
fn a_pong_with_another_payload_does_not_count() {
    let mut rig = Rig::new("--fault ping");
    let mut stream = rig.tcp();
    stream.write_all(upgrade("/ws-api/v3").as_bytes()).unwrap();
    // The mask is zero, so the payload is readable.
    let frame = |opcode: u8, payload: &[u8]| {
        let mut frame = vec![opcode, 0x80 | payload.len() as u8, 0, 0, 0, 0];
        frame.extend_from_slice(payload);
        frame
    };
    // The request is so wrong that its answer is short.
    let short = br#"{"id":1}"#;
    stream.write_all(&frame(0x81, short)).unwrap();
    let mut seen = Vec::new();
    let mut read = |rig: &mut Rig, until: &dyn Fn(&[u8]) -> bool| {
        let mut buffer = [0; 1024];
        while !until(&seen) {
            rig.turn();
            if let Ok(n) = stream.read(&mut buffer) {
                seen.extend_from_slice(&buffer[..n]);
            }
        }
        seen.clone()
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
    assert!(had > 0 && answer[..n].ends_with(br#"expected a string."}}"#));
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
    // A client that disconnects after the header is dropped.
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
fn a_ban_is_answered_and_then_the_connection_ends() {
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
        // The clocks stand still, so no deadline passes: the server itself ends the answer.
        let mut rig = Rig::stopped(&format!("--fault upgrade:{code}"), 1_700_000_000_000_000);
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
