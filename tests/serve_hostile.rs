//! `rsoracle serve`: requests that are wrong, slow, too long or too many.

mod served;
mod signed;
mod support;
mod witness;

use served::*;
use signed::*;
use std::io::{Read, Write};
use std::time::Duration;
use support::*;
use witness::*;

fn served(flags: &[&str]) -> (Book, Served) {
    let mut book = Book::new(START_US);
    book.grow(3);
    let served = Served::start(&book.path, flags);
    served.until("/v1/feeds", |answered| answered.status == 200);
    (book, served)
}

/// Sends bytes, and reads the answer.
fn answer_to(served: &Served, bytes: &[u8]) -> Answered {
    let mut client = Client::new(served.address);
    client.stream.write_all(bytes).unwrap();
    client.answer(true)
}

#[test]
fn methods_and_versions_of_http_are_answered_as_they_ask() {
    let (book, served) = served(&[]);
    let line = format!("{}\n", book.lines[2]);
    // HTTP/1.0 closes, unless it asks not to. It needs no host.
    let mut old = Client::new(served.address);
    old.send("GET /v1/latest HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let answered = old.answer(true);
    assert_eq!(answered.field("connection"), Some("keep-alive"));
    old.send("GET /v1/latest HTTP/1.0\r\n\r\n");
    let answered = old.answer(true);
    assert_eq!(
        (answered.field("connection"), &answered.body),
        (Some("close"), &line)
    );
    assert!(old.is_closed());
    // HTTP/1.1 stays open, unless it asks not to.
    let mut new = Client::new(served.address);
    for _ in 0..3 {
        let answered = new.get("/v1/latest", "");
        assert_eq!(
            (answered.field("connection"), &answered.body),
            (None, &line)
        );
    }
    let get = new.get("/v1/latest", "");
    for (path, status) in [
        ("/v1/latest", 200),
        ("/v1/reports/9", 404),
        ("/nothing", 404),
        ("/live", 200),
    ] {
        new.send(&format!("HEAD {path} HTTP/1.1\r\nHost: here\r\n\r\n"));
        let head = new.answer(false);
        assert_eq!(head.status, status);
        let got = new.get(path, "");
        for name in ["content-length", "content-type", "etag", "cache-control"] {
            assert_eq!(head.field(name), got.field(name), "{path} {name}");
        }
    }
    new.send("OPTIONS /v1/latest HTTP/1.1\r\nHost: here\r\nOrigin: http://there\r\n\r\n");
    let options = new.answer(true);
    assert_eq!(
        (
            options.status,
            options.field("access-control-allow-methods")
        ),
        (204, Some("GET, HEAD, OPTIONS"))
    );
    new.send("OPTIONS * HTTP/1.1\r\nHost: here\r\n\r\n");
    assert_eq!(new.answer(true).status, 204);
    new.send("GET http://here/v1/latest HTTP/1.1\r\nHost: here\r\n\r\n");
    assert_eq!(new.answer(true).body, get.body, "as proxies ask");
    let answered = new.get("/v1/latest", "Connection: close\r\n");
    assert_eq!(answered.field("connection"), Some("close"));
    assert!(new.is_closed());
    // A stream is announced to HEAD, and not begun.
    let mut head = Client::new(served.address);
    head.send("HEAD /v1/stream HTTP/1.1\r\nHost: here\r\n\r\n");
    assert_eq!(
        head.answer(false).field("content-type"),
        Some("text/event-stream")
    );
    assert!(head.is_closed());
}

#[test]
fn requests_that_come_together_are_answered_in_their_order() {
    let (book, served) = served(&[]);
    let mut client = Client::new(served.address);
    let one = |number: usize| format!("GET /v1/reports/{number} HTTP/1.1\r\nHost: here\r\n\r\n");
    let order = [1, 3, 2, 2, 1, 9, 3];
    client.send(&order.map(one).concat());
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    for number in order {
        let answered = client.answer(true);
        match book.lines.get(number - 1) {
            Some(line) => assert_eq!(answered.body, format!("{line}\n")),
            None => assert_eq!(answered.error(), "not-yet"),
        }
    }
    assert!(client.is_closed());
    // More than fits into the buffer for a head.
    let mut many = Client::new(served.address);
    many.send(&one(1).repeat(500));
    for _ in 0..500 {
        assert_eq!(many.answer(true).status, 200);
    }
    // In any pieces.
    let mut pieces = Client::new(served.address);
    for byte in format!("\r\n{}", one(2)).as_bytes() {
        pieces.stream.write_all(&[*byte]).unwrap();
    }
    assert_eq!(pieces.answer(true).body, format!("{}\n", book.lines[1]));
}

#[test]
fn what_is_no_request_is_refused_with_a_name_and_the_connection_closed() {
    let (_, served) = served(&[]);
    let long = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(8_192));
    let fields = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "a: b\r\n".repeat(64));
    for (request, status, error) in [
        ("GET\r\n\r\n", 400, "bad-request"),
        ("GET /live\r\n\r\n", 400, "bad-request"),
        ("GET  /live HTTP/1.1\r\nHost: h\r\n\r\n", 400, "bad-request"),
        ("GET /live HTTP/1.1 \r\nHost: h\r\n\r\n", 400, "bad-request"),
        ("GET live HTTP/1.1\r\nHost: h\r\n\r\n", 400, "bad-request"),
        (
            "GET /li\x7fve HTTP/1.1\r\nHost: h\r\n\r\n",
            400,
            "bad-request",
        ),
        (
            "GET http://h\0st/live HTTP/1.1\r\nHost: h\r\n\r\n",
            400,
            "bad-request",
        ),
        (
            "GET /l\u{ef}ve HTTP/1.1\r\nHost: h\r\n\r\n",
            400,
            "bad-request",
        ),
        ("GET /live HTTP/1.1\r\n\r\n", 400, "bad-request"),
        (
            "GET /live HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
            400,
            "bad-request",
        ),
        ("GET /live HTTP/1.1\nHost: h\n\n", 400, "bad-request"),
        (
            "GET /live HTTP/1.1\nX:1\r\nHost: h\r\n\r\n",
            400,
            "bad-request",
        ),
        (
            "GET /live HTTP/1.1\r\nHost: h\r\na: b\n\r\n\r\n",
            400,
            "bad-request",
        ),
        (
            "GET /live HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n",
            400,
            "bad-request",
        ),
        ("GET /live HTTP/1.1\r\nHost : h\r\n\r\n", 400, "bad-request"),
        (
            "GET /live HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n",
            400,
            "bad-request",
        ),
        (
            "GET /live HTTP/1.1\r\nHost: h\0\r\n\r\n",
            400,
            "bad-request",
        ),
        ("GE\0T", 400, "bad-request"),
        ("\x16\x03\x01\x02\0\x01", 400, "bad-request"),
        ("G\u{ef}T / HTTP/1.1\r\nHost: h\r\n\r\n", 400, "bad-request"),
        (
            "POST /v1/latest HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
            405,
            "bad-method",
        ),
        ("get /live HTTP/1.1\r\nHost: h\r\n\r\n", 405, "bad-method"),
        (
            "GET /live HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
            413,
            "body",
        ),
        (
            "GET /live HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            413,
            "body",
        ),
        ("GET /live HTTP/2.0\r\nHost: h\r\n\r\n", 505, "bad-version"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "bad-version"),
        (
            "GET /v1/latest?feed=%4 HTTP/1.1\r\nHost: h\r\n\r\n",
            400,
            "bad-escape",
        ),
        (
            "GET /v1/latest?feed=%00 HTTP/1.1\r\nHost: h\r\n\r\n",
            400,
            "bad-escape",
        ),
        (
            "GET /v1/latest?feed=%ff HTTP/1.1\r\nHost: h\r\n\r\n",
            400,
            "bad-escape",
        ),
        (&long, 431, "head-too-long"),
        (&fields, 431, "head-too-long"),
    ] {
        let mut client = Client::new(served.address);
        client.stream.write_all(request.as_bytes()).unwrap();
        let answered = client.answer(true);
        let shown: String = request.chars().take(60).collect();
        assert_eq!(
            (answered.status, answered.error()),
            (status, error),
            "{shown:?}"
        );
        assert_eq!(answered.field("access-control-allow-origin"), Some("*"));
        assert_eq!(answered.field("connection"), Some("close"));
        assert!(
            answered.body.contains("\",\"message\":\""),
            "{}",
            answered.body
        );
        assert!(client.is_closed(), "{shown:?}");
    }
    // An unknown path is no broken request: the connection stays.
    let mut client = Client::new(served.address);
    for path in [
        "/v1",
        "/v1/",
        "/v2/latest",
        "/v1/latest/",
        "//v1/latest",
        "/v1/reports",
        "/../etc/passwd",
        "/V1/latest",
    ] {
        let answered = client.get(path, "");
        assert_eq!(
            (answered.status, answered.error()),
            (404, "not-found"),
            "{path}"
        );
    }
    assert_eq!(client.get("/live", "").status, 200);
}

#[test]
fn a_request_that_does_not_end_is_given_up() {
    let (_, served) = served(&[]);
    let mut half = Client::new(served.address);
    half.send("GET /live HTTP/1.1\r\nHo");
    let mut silent = Client::new(served.address);
    let mut between = Client::new(served.address);
    assert_eq!(between.get("/live", "").status, 200);
    // A byte now and then does not extend the deadline.
    let mut slow = Client::new(served.address);
    slow.stream
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let mut told = Vec::new();
    eventually("the slow request is given up", || {
        let _ = slow.stream.write_all(b"x");
        let mut buffer = [0; 1024];
        match slow.stream.read(&mut buffer) {
            Ok(0) => Some(()),
            Ok(count) => {
                told.extend_from_slice(&buffer[..count]);
                None
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
            Err(_) => Some(()),
        }
    });
    let told = String::from_utf8_lossy(&told);
    assert!(
        told.starts_with("HTTP/1.1 408 ") && told.contains("request-late"),
        "{told}"
    );
    assert_eq!(half.answer(true).error(), "request-late");
    assert!(half.is_closed());
    // One that says nothing has no more time, unless it has asked before.
    assert!(silent.is_closed());
    assert_eq!(between.get("/live", "").status, 200);
    // Others are answered all the time.
    assert_eq!(served.get("/live").status, 200);
}

#[test]
fn two_thousand_connections_of_one_address_leave_room_for_others() {
    let (_, served) = served(&["--metrics-listen", "127.0.0.1:0"]);
    let mut crowd: Vec<Client> = Vec::new();
    // As many as a test may open: the limit on open files may be 1,024.
    let files = std::fs::read_to_string("/proc/self/limits").unwrap();
    let files = files
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let files: usize = files
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let most = 2_000.min(files.saturating_sub(100));
    for at in 0..most {
        let mut client = Client::new(served.address);
        // One that never asked anything is closed soon.
        if at < 256 {
            assert_eq!(client.get("/live", "").status, 200);
        }
        crowd.push(client);
    }
    // Those beyond the bound are told so, or just closed.
    let mut told = 0;
    for client in &mut crowd[256..] {
        let mut text = String::new();
        let _ = client.stream.read_to_string(&mut text);
        assert!(
            text.is_empty() || text.contains("too-many-of-this-address"),
            "{text}"
        );
        told += usize::from(!text.is_empty());
    }
    assert!(told > 0);
    for client in &mut crowd[..256] {
        assert_eq!(client.get("/v1/latest", "").status, 200);
    }
    // The listener for metrics is not crowded out.
    let page = Client::new(served.metrics.unwrap()).get("/metrics", "");
    assert!(
        page.body.contains(
            "rsoracle_serve_refused_connections_total{reason=\"too-many-of-this-address\"}"
        )
    );
    drop(crowd);
    served.until("/live", |answered| answered.status == 200);
    let kb = status_number(served.running.id(), "VmHWM").unwrap();
    assert!(kb < 24_000, "{kb} kB");
}

#[test]
fn connections_at_the_listener_for_metrics_count_by_themselves_and_are_bounded() {
    let (_, served) = served(&["--metrics-listen", "127.0.0.1:0", "--per-address", "2"]);
    let inside = served.metrics.unwrap();
    eventually("the first ones have left", || {
        let page = Client::new(inside).get("/metrics", "Connection: close\r\n");
        let alone = page.body.contains("\nrsoracle_serve_connections 1\n");
        (page.status == 200 && alone).then_some(())
    });
    let mut open: Vec<Client> = Vec::new();
    let refused = loop {
        let mut client = Client::new(inside);
        let answered = client.get("/live", "");
        if answered.status != 200 {
            break answered;
        }
        open.push(client);
        assert!(open.len() < 1_000, "there is no bound");
    };
    assert_eq!(refused.error(), "too-many-connections");
    assert!(open.len() > 10);
    let mut outside: Vec<Client> = (0..2).map(|_| Client::new(served.address)).collect();
    for client in &mut outside {
        assert_eq!(client.get("/live", "").status, 200);
    }
    assert_eq!(
        served.get("/live").error(),
        "too-many-of-this-address",
        "those do count"
    );
    assert_eq!(open[0].get("/live", "").status, 200);
}

#[test]
fn a_flood_of_requests_whose_answers_nobody_takes_costs_no_memory() {
    let (_, served) = served(&[]);
    let request = "GET /v1/tiles/0 HTTP/1.1\r\nHost: here\r\n\r\n".repeat(1_000);
    let flood: Vec<Client> = (0..50)
        .map(|_| {
            let mut client = Client::new(served.address);
            client.stream.set_nonblocking(true).unwrap();
            let _ = client.stream.write(request.as_bytes());
            client
        })
        .collect();
    for _ in 0..100 {
        assert_eq!(served.get("/v1/latest").status, 200);
    }
    let kb = status_number(served.running.id(), "VmHWM").unwrap();
    assert!(kb < 24_000, "{kb} kB");
    drop(flood);
}

#[test]
fn proofs_that_nobody_takes_cost_no_copy_for_each_request() {
    let (book, served) = served(&[]);
    // Of the greatest size, with a last line that is still being written.
    let mut proofs = "{\"rsoracle_proof\":2,one}\n".repeat(150_000);
    proofs.push_str("{\"rsoracle_pr");
    let path = format!("{}.proofs", book.path.display());
    std::fs::write(&path, &proofs).unwrap();
    let clients: Vec<Client> = (0..100)
        .map(|_| {
            let mut client = Client::new(served.address);
            client.send("GET /v1/proofs HTTP/1.1\r\nHost: here\r\n\r\n");
            client.head();
            client
        })
        .collect();
    let kb = status_number(served.running.id(), "VmHWM").unwrap();
    assert!(kb < 50_000, "{kb} kB");
    drop(clients);
    // What is too large is said once.
    for _ in 0..3 {
        proofs.push_str(&"x".repeat(1_000_000));
        std::fs::write(&path, &proofs).unwrap();
        for _ in 0..10 {
            assert_eq!(served.get("/v1/proofs").error(), "unreadable");
        }
    }
    let log = served.running.stderr();
    assert_eq!(log.matches(".proofs").count(), 1, "{log}");
}

#[test]
fn no_request_of_random_bytes_or_with_one_change_is_answered_wrongly() {
    let (book, served) = served(&[]);
    let good = b"GET /v1/reports/2?feed=BTC%2FUSD HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for _ in 0..500 {
        let mut bytes = good.to_vec();
        let at = next() as usize % (bytes.len() - 4);
        bytes[at] = next() as u8;
        let answered = answer_to(&served, &bytes);
        match answered.status {
            200 => assert!(
                book.lines
                    .iter()
                    .any(|line| answered.body == format!("{line}\n"))
            ),
            400..=505 => assert!(!answered.error().is_empty()),
            other => panic!("{other}"),
        }
    }
    assert_eq!(status_number(served.running.id(), "Threads"), Some(1));
}
