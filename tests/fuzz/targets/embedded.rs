//! What clients send to the embedded exchange. The first byte selects: a head, a request of the WS-API, messages to a stream
//! (one per line), or a head and frames over a socket. Each is answered in JSON, or ends the connection.
#![no_main]
#![feature(tcp_linger)]

use rsoracle::flags::args;
use rsoracle::flags::tables::EXCHANGE;
use rsoracle::embedded::ExchangeSettings;
use rsoracle::embedded::binance::answer::{Scene, reply};
use rsoracle::embedded::connection::Connection;
use rsoracle::embedded::dialect::{Desk, STREAMS};
use rsoracle::embedded::fault::{Fault, Lie};
use rsoracle::embedded::binance::request::Request;
use rsoracle::embedded::talk::Progress;
use rsoracle::embedded::tape::Tape;
use rsoracle::embedded::upgrade::{head_length, respond};
use rsoracle::embedded::venue::{Now, Venue};
use rsoracle::exchange::json;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::LazyLock;
use std::time::Duration;

static LISTENER: LazyLock<TcpListener> =
    LazyLock::new(|| TcpListener::bind("127.0.0.1:0").expect("a free port"));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else {
        return;
    };
    let text = std::str::from_utf8(rest).unwrap_or_default();
    match *first {
        b'H' => upgrade(rest),
        b'R' => request(text),
        b'S' => socket(rest),
        b'F' => drop(Fault::parse(text)),
        other => stream(usize::from(other), text),
    }
});

fn upgrade(bytes: &[u8]) {
    let Some(length) = head_length(bytes) else {
        return;
    };
    let response = respond(&bytes[..length], &[], 1_700_000_000_000);
    let answered = response.bytes;
    assert!(answered.starts_with(b"HTTP/1.1 "));
    let switches = answered.starts_with(b"HTTP/1.1 101 ");
    assert_eq!(response.opens.is_some(), switches);
    // One head, without lines that the exchange did not intend.
    let head = &answered[..head_length(&answered).expect("a whole head")];
    assert!(head.split(|byte| *byte == b'\n').count() <= 8);
}

fn request(text: &str) {
    let scene = Scene {
        price: Some("87231.42000000"),
        halted: false,
        unix_us: 1_700_000_000_000_000,
    };
    let request = Request::read(text);
    let answer = reply(&request, &scene, &Lie::default());
    assert_eq!(json::check(&answer), Ok(()), "{answer}");
}

fn stream(which: usize, text: &str) {
    let dialect = STREAMS[which % STREAMS.len()];
    let mut desk = Desk::new(dialect, Tape::built_in().parts().into_iter().map(|part| part.base).collect());
    for line in text.lines() {
        (dialect.hear)(line, &mut desk);
        assert!(!desk.said.is_empty(), "{line}");
        for said in desk.said.drain(..) {
            let plain = (line, said.as_str()) == ("ping", "pong");
            assert!(plain || json::check(&said).is_ok(), "{line}: {said}");
        }
    }
    assert!(desk.subscriptions.len() <= 25 * 3 * dialect.channels.len());
}

/// Sends everything at once; then lets an hour pass, in steps of a minute.
fn socket(bytes: &[u8]) {
    let given = args::parse(&EXCHANGE, &[]).expect("no flags");
    let settings = ExchangeSettings::from_flags(&given).expect("defaults");
    let began = Now::read();
    let mut venue = Venue::new(Tape::built_in(), &settings, began);
    let address = LISTENER.local_addr().expect("it listens");
    let mut client = TcpStream::connect(address).expect("the listener has room");
    // Closing leaves no socket in TIME_WAIT, since the number of ports is limited.
    let linger = client.set_linger(Some(Duration::ZERO));
    linger
        .and(client.set_nonblocking(true))
        .expect("options that every system has");
    let (stream, _) = LISTENER.accept().expect("it has just connected");
    stream
        .set_nonblocking(true)
        .expect("a connection that does not block");
    let _ = client.write(bytes);
    let mut connection = Connection::new(stream, None, began);
    for minute in 0..60 {
        let passed = Duration::from_secs(60 * minute);
        let now = Now {
            at: began.at + passed,
            unix_us: began.unix_us + passed.as_micros() as u64,
        };
        venue.turn(now);
        for _ in 0..8 {
            match connection.step(&mut venue, now) {
                Progress::Busy => {}
                Progress::Idle => break,
                Progress::End => return,
            }
        }
    }
}
