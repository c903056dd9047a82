//! A hostile exchange that the test plays.

mod door;
mod support;

use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;
use support::*;
use tungstenite::{Message, WebSocket};

/// Accepts a collector's connection, and answers its first request.
fn first_price(listener: &TcpListener) -> WebSocket<TcpStream> {
    let (tcp, _) = eventually("a collector connects", || match listener.accept() {
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        accepted => Some(accepted.expect("a connection")),
    });
    tcp.set_nonblocking(false).expect("blocking");
    tcp.set_read_timeout(Some(LONG)).expect("a limit");
    let mut ws = door::upgraded(tcp);
    let request = ws.read().expect("a request").into_text().expect("in text");
    assert!(request.contains("\"id\":\"first-0\""), "{request}");
    let reply = r#"{"id":"first-0","status":200,"result":{"symbol":"BTCUSDT","price":"87232.01"}}"#;
    ws.send(Message::text(reply)).expect("a reply");
    ws
}

#[test]
fn fragments_without_end_do_not_keep_a_collector_from_noticing_that_its_aggregator_is_dead() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("O_NONBLOCK");
    let url = format!(
        "ws://{}/ws-api/v3",
        listener.local_addr().expect("an address")
    );
    let aggregator = start(&[
        "run",
        "--source",
        "embedded:BTCUSDT",
        "--endpoint",
        &url,
        "--collectors",
        "1",
        "--ready-timeout",
        "4m",
        "--samples",
        "1000",
        "--control-port",
        "0",
        "--data-port",
        "0",
    ]);
    let collector = aggregator.collector(0);
    let mut ws = first_price(&listener);
    aggregator.stderr_line("1 of 1 collectors ready");
    let tcp = ws.get_mut();
    tcp.set_nonblocking(true).expect("O_NONBLOCK");
    // RFC 6455, 5.2: a text frame that is not the last of its message, then empty continuations, none of them the last.
    tcp.write_all(&[0x01, 0]).expect("the collector reads");
    let fragments = vec![0; 8192];
    // Send faster than it can read, so that its socket is never empty: first until it has passed the instants of some samples,
    // then until it has ended.
    let began = Instant::now();
    while !aggregator.stderr().contains("sample 2 of 1000") {
        let _ = tcp.write(&fragments);
        assert!(began.elapsed() < LONG, "it takes no samples");
    }
    aggregator.signal("KILL");
    let began = Instant::now();
    while alive(collector) {
        let _ = tcp.write(&fragments);
        assert!(
            began.elapsed() < LONG,
            "the collector outlives its aggregator while its exchange keeps talking"
        );
    }
}
