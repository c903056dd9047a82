//! `rsoracle serve`: streams of events and over websockets. Every report once and in order, whatever happens to the server.

mod served;
mod signed;
mod support;
mod witness;

use served::*;
use signed::Says::*;
use signed::*;
use std::net::TcpStream;
use std::time::Duration;
use support::*;
use tungstenite::client::IntoClientRequest;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};
use witness::*;

fn served(book: &Book) -> Served {
    let served = Served::start(&book.path, &[]);
    served.until("/v1/feeds", |answered| answered.status == 200);
    served
}

#[test]
fn a_stream_has_every_report_once_and_in_order() {
    let mut book = Book::new(START_US);
    book.grow(20);
    let served = served(&book);
    let mut all = Client::stream(served.address, "?since=0", "");
    let mut some = Client::stream(served.address, "?since=3", "Last-Event-ID: 17\r\n");
    let mut newest = Client::stream(served.address, "", "");
    let unpublished = book.next(&[Nothing; 5]);
    book.append(&format!("{unpublished}\n"));
    for _ in 0..30 {
        book.grow(7);
    }
    for (number, line) in (1..).zip(&book.lines) {
        let event = Event::of(number, line);
        assert_eq!(all.event(), event);
        if number > 17 {
            assert_eq!(some.event(), event, "the header overrides the query");
        }
        if number >= 20 {
            assert_eq!(newest.event(), event);
        }
    }
    let line = book.grow(1).remove(0);
    for stream in [&mut all, &mut some, &mut newest] {
        assert_eq!(stream.event(), Event::of(book.lines.len() as u64, &line));
    }
    assert_eq!(
        served.metric("rsoracle_serve_streams{form=\"events\"}"),
        Some(3.0)
    );
    drop((all, some, newest));
    eventually("the streams have left", || {
        let streams = served.metric("rsoracle_serve_streams{form=\"events\"}");
        (streams == Some(0.0)).then_some(())
    });
}

#[test]
fn a_stream_that_cannot_go_on_ends_with_a_name() {
    let mut book = Book::new(START_US);
    book.oracle.number = 40;
    book.grow(3);
    let served = served(&book);
    for (since, name, more) in [
        ("43", "cursor-ahead", "\"last\":42"),
        ("18446744073709551615", "cursor-ahead", "\"last\":42"),
        ("38", "cursor-too-old", "\"first\":40"),
        ("0", "cursor-too-old", "\"first\":40"),
    ] {
        let mut stream = Client::stream(served.address, &format!("?since={since}"), "");
        let event = stream.event();
        assert_eq!(
            (event.id, event.name.as_deref()),
            (None, Some(name)),
            "{since}"
        );
        assert!(event.data.contains(more), "{}", event.data);
        assert!(stream.is_closed());
    }
    for since in ["39", "41"] {
        let mut stream = Client::stream(served.address, &format!("?since={since}"), "");
        let number: u64 = since.parse::<u64>().unwrap() + 1;
        assert_eq!(
            stream.event(),
            Event::of(number, &book.lines[number as usize - 40])
        );
    }
    let mut last = Client::stream(served.address, "?since=42", "");
    let line = book.grow(1).remove(0);
    assert_eq!(last.event(), Event::of(43, &line));
    for since in ["x", "-1", "1.5", "18446744073709551616", ""] {
        let answered = served.get(&format!("/v1/stream?since={since}"));
        assert_eq!(
            (answered.status, answered.error()),
            (400, "bad-parameter"),
            "{since}"
        );
    }
    assert_eq!(
        served.metric("rsoracle_serve_ended_streams_total{reason=\"cursor-ahead\"}"),
        Some(2.0)
    );
}

#[test]
fn no_report_is_lost_or_doubled_when_the_server_is_killed() {
    let mut book = Book::new(START_US);
    book.grow(1);
    let mut seen = 0;
    for _ in 0..5 {
        let served = served(&book);
        let (query, fields) = match seen {
            0 => ("?since=0".to_owned(), String::new()),
            _ => (String::new(), format!("Last-Event-ID: {seen}\r\n")),
        };
        let mut stream = Client::stream(served.address, &query, &fields);
        for _ in 0..3 {
            book.grow(2);
            // It is killed with reports on their way.
            while seen + 2 < book.lines.len() {
                assert_eq!(
                    stream.event(),
                    Event::of(seen as u64 + 1, &book.lines[seen])
                );
                seen += 1;
            }
        }
        served.running.signal("KILL");
        book.grow(3);
    }
    assert!(seen > 20);
}

#[test]
fn a_client_that_never_reads_delays_nobody_and_costs_no_memory() {
    let mut book = Book::new(START_US);
    book.grow(200);
    let served = served(&book);
    let silent: Vec<Client> = (0..20)
        .map(|_| Client::stream(served.address, "?since=0", ""))
        .collect();
    let mut reader = Client::stream(served.address, "?since=0", "");
    for _ in 0..40 {
        book.grow(100);
    }
    for (number, line) in (1..).zip(&book.lines) {
        assert_eq!(reader.event(), Event::of(number, line));
    }
    // 20 times 4,200 reports would be more than 100 MB.
    let kb = status_number(served.running.id(), "VmHWM").unwrap();
    assert!(kb < 40_000, "{kb} kB");
    drop(silent);
}

#[test]
fn streams_that_have_nothing_to_say_cost_next_to_no_time_on_a_core() {
    let mut book = Book::new(START_US);
    book.grow(1);
    let served = served(&book);
    let mut streams: Vec<Client> = (0..200)
        .map(|_| Client::stream(served.address, "", ""))
        .collect();
    for stream in &mut streams {
        stream.event();
    }
    let id = served.running.id();
    let before = time_on_a_core(id);
    std::thread::sleep(Duration::from_secs(2));
    let used = time_on_a_core(id) - before;
    // Far above what it needs, and far below a sweep over all of them without a pause.
    assert!(used < Duration::from_millis(500), "{used:?}");
}

/// Opens a websocket.
fn socket(served: &Served, query: &str) -> WebSocket<MaybeTlsStream<TcpStream>> {
    let url = format!("ws://{}/v1/ws{query}", served.address);
    let (socket, response) = tungstenite::connect(url.into_client_request().unwrap()).unwrap();
    assert_eq!(response.status(), 101);
    if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
        stream.set_read_timeout(Some(LONG)).unwrap();
    }
    socket
}

/// The next text of a websocket.
fn text(socket: &mut WebSocket<MaybeTlsStream<TcpStream>>) -> String {
    loop {
        match socket.read().expect("a message") {
            Message::Text(text) => return text.to_string(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_websocket_has_the_same_reports() {
    let mut book = Book::new(START_US);
    book.grow(5);
    let served = served(&book);
    let mut all = socket(&served, "?since=0");
    let mut newest = socket(&served, "?feed=BTC%2FUSD");
    for _ in 0..10 {
        book.grow(20);
    }
    for (at, line) in book.lines.iter().enumerate() {
        assert_eq!(text(&mut all), *line);
        if at >= 4 {
            assert_eq!(text(&mut newest), *line);
        }
    }
    // A client's messages are ignored, and its pings are answered.
    all.send(Message::text("hello")).unwrap();
    all.send(Message::Ping(b"are you there".to_vec().into()))
        .unwrap();
    let pong = all.read().unwrap();
    assert_eq!(pong, Message::Pong(b"are you there".to_vec().into()));
    let line = book.grow(1).remove(0);
    assert_eq!(text(&mut all), line);
    // What is too long ends the connection of who sent it.
    let _ = all.send(Message::text("x".repeat(100_000)));
    while all.read().is_ok() {}
    assert_eq!(text(&mut newest), line);
    // A client that reads late gets all that it missed, once.
    let mut late = socket(&served, "?since=0");
    for _ in 0..60 {
        book.grow(100);
    }
    let path = format!("/v1/reports/{}", book.lines.len());
    served.until(&path, |answered| answered.status == 200);
    for line in &book.lines {
        assert_eq!(text(&mut late), *line);
    }
    let mut ahead = socket(&served, "?since=100000");
    let end = text(&mut ahead);
    assert!(end.starts_with("{\"error\":\"cursor-ahead\","), "{end}");
    assert!(matches!(ahead.read(), Ok(Message::Close(_))));
}

#[test]
fn what_is_no_upgrade_to_a_websocket_is_told_so() {
    let mut book = Book::new(START_US);
    book.grow(1);
    let served = served(&book);
    let good = "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (from, to) in [
        (good, ""),
        ("websocket", "h2c"),
        (", Upgrade", ""),
        ("13", "8"),
        ("Version: 13", "Version: 13\r\nSec-WebSocket-Version: 13"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="),
        ("dGhl", "dG l"),
    ] {
        let bad = good.replacen(from, to, 1);
        let answered = Client::new(served.address).get("/v1/ws", &bad);
        assert_eq!(
            (answered.status, answered.error()),
            (426, "no-websocket"),
            "{bad}"
        );
    }
    let mut client = Client::new(served.address);
    client.send(&format!("GET /v1/ws HTTP/1.1\r\nHost: here\r\n{good}\r\n"));
    let head = client.head();
    assert!(
        head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{head}"
    );
    // The example of RFC 6455, section 1.3.
    assert!(
        head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
        "{head}"
    );
    assert!(
        !head.contains("Content-Length") && !head.contains("close"),
        "{head}"
    );
    assert_eq!(client.bytes(1), [0x81], "a text");
}

/// The aggregator and the server know nothing of each other but the file.
#[test]
fn a_run_of_two_feeds_is_served_while_it_goes_on() {
    let journal = scratch("journal.jsonl");
    let served = Served::start(&journal, &[]);
    let path = journal.to_str().unwrap();
    let (mut command, _) = marked_run(&["--feed", "BTC/USD", "--feed", "ETH/USD"]);
    command.args(["--source", "embedded-kraken"]);
    command.args(["--every", "500ms", "--samples", "2", "--interval", "20ms"]);
    command.args(["--rounds", "4", "--journal", path, "--quiet"]);
    let run = start_command(command);
    for feed in ["BTC%2FUSD", "ETH%2FUSD"] {
        served.until(&format!("/v1/reports/1?feed={feed}"), |answered| {
            answered.status == 200
        });
        let mut stream = Client::stream(served.address, &format!("?since=0&feed={feed}"), "");
        let events: Vec<Event> = (0..4).map(|_| stream.event()).collect();
        let journal = std::fs::read_to_string(&journal).unwrap();
        let name = format!(",\"feed\":\"{}\",", feed.replace("%2F", "/"));
        let lines: Vec<&str> = journal
            .lines()
            .filter(|line| line.contains(&name))
            .collect();
        for (number, event) in (1..).zip(&events) {
            assert_eq!(*event, Event::of(number, lines[number as usize - 1]));
        }
    }
    assert_eq!(run.finish().code, Some(0));
    assert_eq!(served.metric("rsoracle_journal_odd_lines"), Some(0.0));
}
