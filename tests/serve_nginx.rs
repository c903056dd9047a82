//! `rsoracle serve` behind nginx: as a plain proxy, which speaks HTTP/1.0 to its servers, and as docs/OPERATING.md has it.

mod served;
mod signed;
mod support;

use rsoracle::system::now::wall_us;
use served::*;
use signed::Says::Price;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use support::*;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};

/// A journal of three reports of rounds that are a day apart.
fn book() -> Book {
    let mut book = Book::new(wall_us() / 1_000_000 * 1_000_000 - 60_000_000);
    let schedule = &mut book.oracle.terms.schedule;
    schedule.period_us = 86_400_000_000;
    schedule.first_start_us = wall_us() / 1_000_000 * 1_000_000 - 60_000_000 - 2 * 86_400_000_000;
    for day in 0..3 {
        let start_us = book.oracle.terms.schedule.first_start_us + day * 86_400_000_000;
        let line = book.oracle.line(start_us, &[Price(100.0 + day as f64); 5]);
        book.append(&format!("{line}\n"));
        book.lines.push(line);
    }
    book
}

/// Starts nginx in front of a server. Returns it and its address. `rest` is its configuration, as in the document.
fn nginx(served: &Served, rest: &str) -> (Running, SocketAddr) {
    let address = nobodys_address();
    let dir = scratch("nginx.conf").parent().unwrap().to_owned();
    let path = dir.to_str().unwrap();
    let rest = rest
        .replace("listen 80;", &format!("listen {address};"))
        .replace("127.0.0.1:8090", &served.address.to_string())
        .replace("/var/cache/nginx", path);
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {path}/{kind};\n"))
        .concat();
    let text = format!(
        "daemon off;\nmaster_process off;\npid {path}/pid;\nevents {{}}\nhttp {{\naccess_log off;\nkeepalive_requests 100000;\n{paths}{rest}\n}}\n"
    );
    std::fs::write(dir.join("nginx.conf"), text).unwrap();
    let mut command = Command::new("nginx");
    // Where users other than root do not look.
    let places = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
    command.env("PATH", places);
    command.args(["-p", path, "-e", "stderr", "-c", "nginx.conf"]);
    command.stdin(Stdio::null());
    let mut running = start_command(command);
    eventually("nginx listens", || {
        assert!(!running.ended(), "{}", running.stderr());
        TcpStream::connect(address).ok()
    });
    (running, address)
}

/// The configuration in the document.
fn documented() -> String {
    let text = include_str!("../docs/OPERATING.md");
    let (_, rest) = text.split_once("```nginx\n").expect("a configuration");
    rest.split_once("```").unwrap().0.to_owned()
}

/// A server of a journal that is indexed.
fn served(book: &Book) -> Served {
    let served = Served::start(&book.path, &["--metrics-listen", "127.0.0.1:0"]);
    served.until("/v1/feeds", |answered| answered.status == 200);
    served
}

/// How many requests a server has answered with 200, besides those of this function itself after the first one.
fn answers(served: &Served, before: u32) -> f64 {
    let page = Client::new(served.metrics.unwrap())
        .get("/metrics", "")
        .body;
    let name = "rsoracle_serve_answers_total{status=\"200\"} ";
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0.0, |value| value.parse().expect("a number")) - f64::from(before)
}

/// Begins a stream. To a client of HTTP/1.0, nginx sends no chunks.
fn stream_of(address: SocketAddr, query: &str, fields: &str) -> Client {
    let mut client = Client::new(address);
    client.send(&format!("GET /v1/stream{query} HTTP/1.0\r\n{fields}\r\n"));
    let head = client.head();
    assert!(head.contains("200 OK"), "{head}");
    client
}

/// The next message of a websocket that is not a ping.
fn said(socket: &mut WebSocket<MaybeTlsStream<TcpStream>>) -> Message {
    loop {
        let message = socket.read().unwrap();
        if !message.is_ping() {
            return message;
        }
    }
}

/// Appends a report, and returns its line.
fn grow(book: &mut Book) -> String {
    let schedule = &book.oracle.terms.schedule;
    let start_us = schedule.first_start_us + 86_400_000_000 * (book.oracle.number - 1);
    let line = book.oracle.line(start_us, &[Price(7.0); 5]);
    book.append(&format!("{line}\n"));
    line
}

#[test]
#[ignore = "needs nginx"]
fn a_plain_proxy_passes_all_on_as_it_comes() {
    let mut book = book();
    let served = served(&book);
    let plain = "server { listen 80; location / { proxy_pass http://127.0.0.1:8090; } }";
    let (_nginx, address) = nginx(&served, plain);
    let mut client = Client::new(address);
    for path in ["/v1/latest", "/v1/reports/1", "/v1/tiles/0", "/live"] {
        let (through, direct) = (client.get(path, ""), served.get(path));
        assert_eq!(
            (through.status, &through.body),
            (200, &direct.body),
            "{path}"
        );
        for name in ["etag", "content-type", "access-control-allow-origin"] {
            assert_eq!(through.field(name), direct.field(name), "{path} {name}");
        }
    }
    let answered = client.get("/v1/reports/9", "");
    assert_eq!((answered.status, answered.error()), (404, "not-yet"));
    // Each event comes before the next one is there.
    let mut stream = stream_of(address, "", "Last-Event-ID: 2\r\n");
    assert_eq!(stream.event(), Event::of(3, &book.lines[2]));
    for number in 4..8 {
        let line = grow(&mut book);
        assert_eq!(stream.event(), Event::of(number, &line));
    }
    drop(stream);
    eventually("the stream has left", || {
        let page = Client::new(served.metrics.unwrap())
            .get("/metrics", "")
            .body;
        page.contains("\nrsoracle_serve_streams{form=\"events\"} 0\n")
            .then_some(())
    });
}

#[test]
#[ignore = "needs nginx"]
fn behind_the_documented_cache_each_object_reaches_the_server_once() {
    let book = book();
    let served = served(&book);
    let (_nginx, address) = nginx(&served, &documented());
    let chain = &book.lines[0][book.lines[0].len() - 130..][..16];
    let named = format!("?feed=BTC/USD&chain={chain}");
    let paths = ["reports/1", "reports/2", "reports/3"].map(|it| format!("/v1/{it}{named}"));
    let before = answers(&served, 0);
    let mut clients: Vec<Client> = (0..8).map(|_| Client::new(address)).collect();
    for path in &paths {
        let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n");
        for _ in 0..50 {
            clients.iter_mut().for_each(|it| it.send(&request));
            for client in &mut clients {
                let answered = client.answer(true);
                assert_eq!(answered.status, 200);
                assert!(
                    book.lines
                        .iter()
                        .any(|line| answered.body == format!("{line}\n"))
                );
            }
        }
    }
    assert_eq!(answers(&served, 1) - before, 3.0, "one for each report");
    // The newest price is kept for ten seconds.
    let (before, began) = (answers(&served, 0), std::time::Instant::now());
    let request = "GET /v1/latest HTTP/1.1\r\nHost: here\r\n\r\n";
    for _ in 0..250 {
        clients.iter_mut().for_each(|it| it.send(request));
        for client in &mut clients {
            let answered = client.answer(true);
            assert_eq!(answered.body, format!("{}\n", book.lines[2]));
        }
    }
    let most = 1.0 + (began.elapsed().as_secs_f64() / 9.0).floor();
    let asked = answers(&served, 1) - before;
    assert!(asked >= 1.0 && asked <= most, "{asked}, not {most}");
}

#[test]
#[ignore = "needs nginx"]
fn streams_websockets_and_long_polls_pass_the_documented_cache() {
    let mut book = book();
    let served = served(&book);
    let (_nginx, address) = nginx(&served, &documented());
    let mut stream = stream_of(address, "?since=1", "");
    assert_eq!(stream.event(), Event::of(2, &book.lines[1]));
    let url = format!("ws://{address}/v1/ws?since=2");
    let (mut socket, _) = tungstenite::connect(url).unwrap();
    assert_eq!(said(&mut socket), Message::text(&*book.lines[2]));
    let mut again = stream_of(address, "", "Last-Event-ID: 2\r\n");
    for stream in [&mut stream, &mut again] {
        assert_eq!(stream.event(), Event::of(3, &book.lines[2]));
    }
    // It waits for another report than the one that it knows, whatever the cache has.
    let mut waiting = Client::new(address);
    let latest = waiting.get("/v1/latest", "");
    let tag = latest.field("etag").unwrap().to_owned();
    let fields = format!("If-None-Match: {tag}\r\n");
    waiting.send(&format!(
        "GET /v1/latest?wait=50s HTTP/1.1\r\nHost: here\r\n{fields}\r\n"
    ));
    eventually("it waits", || {
        let page = Client::new(served.metrics.unwrap())
            .get("/metrics", "")
            .body;
        // Two streams, a websocket, and the waiting one. Those that ask for the metrics do not count.
        page.contains("\nrsoracle_serve_connections 4\n")
            .then_some(())
    });
    let line = grow(&mut book);
    assert_eq!(waiting.answer(true).body, format!("{line}\n"));
    for stream in [&mut stream, &mut again] {
        assert_eq!(stream.event(), Event::of(4, &line));
    }
    assert_eq!(said(&mut socket), Message::text(&*line));
}
