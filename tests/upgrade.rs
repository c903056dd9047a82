//! The HTTP before the WebSocket, between the real binary and an exchange that the test plays, byte by byte: what is asked, what
//! is accepted, and what happens while something else answers in the exchange's place.

mod door;
mod support;
mod witness;

use door::Door;
use std::io::Write;
use support::*;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};
use witness::*;

fn value<'a>(head: &'a str, name: &str) -> &'a str {
    let line = head.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {head}")).trim()
}

#[test]
fn a_usual_request_is_sent_and_every_spelling_of_consent_is_accepted() {
    for (before, fields) in [
        ("", "Upgrade: websocket\r\nConnection: Upgrade\r\n"),
        (
            "",
            "upgrade: WebSocket\r\nconnection: keep-alive, Upgrade\r\n",
        ),
        (
            "HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n",
            "CONNECTION:upgrade\r\nUPGRADE:websocket\r\n",
        ),
    ] {
        let door = Door::open();
        let running = start(&["doctor", "embedded:BTCUSDT", "--endpoint", &door.url]);
        let (mut tcp, head) = door.asked();
        assert!(head.starts_with("GET /ws-api/v3 HTTP/1.1\r\n"), "{head}");
        let place = door.url.split('/').nth(2).unwrap();
        assert_eq!(value(&head, "Host:"), place);
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(value(&head, "User-Agent:"), format!("rsoracle/{version}"));
        let accept = derive_accept_key(value(&head, "Sec-WebSocket-Key:").as_bytes());
        let answer = format!(
            "{before}HTTP/1.1 101 switching protocols\r\n{fields}sec-websocket-accept: {accept}\r\n\r\n"
        );
        tcp.write_all(answer.as_bytes()).unwrap();
        let mut ws = WebSocket::from_raw_socket(tcp, Role::Server, None);
        // Until the doctor has seen enough; reading also answers its ping.
        while let Ok(message) = ws.read() {
            if message
                .to_text()
                .is_ok_and(|text| text.contains("\"first-0\""))
            {
                let reply = r#"{"id":"first-0","status":200,"result":{"symbol":"BTCUSDT","price":"87232.01"}}"#;
                ws.send(Message::text(reply)).unwrap();
            }
        }
        let done = running.finish();
        assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    }
}

#[test]
fn collectors_of_rounds_without_end_wait_for_the_exchange_whatever_stands_in_its_place() {
    for answer in [
        "404 Not Found\r\n\r\nno such virtual host",
        "200 OK\r\n\r\nScheduled maintenance",
        "400 Bad Request\r\n\r\nwhat?",
    ] {
        let door = Door::open();
        let every = ["--every", "1s", "--samples", "1", "--collectors", "3"];
        let source = ["--source", "embedded:BTCUSDT", "--endpoint", &door.url];
        let (command, _) = marked_run(&[&source[..], &every].concat());
        let running = start_command(command);
        let slots = [0, 1, 2];
        let mut before = None;
        let mut count = 0;
        eventually("each collector has been refused several times", || {
            while let Some(mut tcp) = door.come() {
                door::head(&mut tcp);
                let _ = tcp.write_all(format!("HTTP/1.1 {answer}").as_bytes());
                before.get_or_insert_with(|| slots.map(|slot| running.collector(slot)));
                count += 1;
            }
            (count >= 15).then_some(())
        });
        // Nobody was started again, who would know nothing of the exchange's pauses.
        let now = slots.map(|slot| running.collector(slot));
        assert_eq!(before, Some(now), "{}", running.stderr());
        assert!(!running.stderr().contains("started again"));
        let words = answer.rsplit('\n').next().unwrap();
        running.stderr_line(&format!("saying \"{words}\""));
    }
}
