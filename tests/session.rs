//! One session with exchanges that turn it away: which endpoint it tries next, and how long it stays away.

mod support;

use native_tls::TlsConnector;
use rsoracle::exchange::Pace;
use rsoracle::exchange::Said;
use rsoracle::exchange::session::{ExchangeSession, SessionPlan};
use rsoracle::exchange::tunnel;
use rsoracle::source::Source;
use rsoracle::system::endpoint::Endpoint;
use rsoracle::system::net::Patience;
use rsoracle::system::now::wall_us;
use rsoracle_proof::reason::Miss;
use rsoracle_verify::error::Error;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};
use support::*;

fn source() -> [Source; 1] {
    one("embedded-kraken:BTC/USD")
}

fn one(name: &str) -> [Source; 1] {
    [Source::parse(name).expect("a source")]
}

fn session<'a>(source: &'a [Source], urls: &[&str]) -> ExchangeSession<'a> {
    let place = |url: &&str| {
        Endpoint::parse(url)
            .expect("an address")
            .with_path("kraken")
    };
    let tls = urls.iter().any(|url| url.starts_with("wss:"));
    ExchangeSession::new(SessionPlan {
        sources: source,
        endpoints: urls.iter().map(place).collect(),
        tls: tls.then(|| TlsConnector::new().expect("TLS can be set up").into()),
        proxies: tunnel::proxies(None).expect("no proxy is named"),
        pace: Pace::of(&source[0]),
    })
}

/// The first price of a session with one symbol.
fn first(session: &mut ExchangeSession) -> f64 {
    session.first_price(&mut || Ok(())).expect("a price");
    session.first_prices()[0].expect("a price")
}

/// How long a session stays away after its upgrade was refused, and its message.
struct Away {
    /// The pause as measured from before the attempt: its lower bound.
    least: Duration,
    /// The pause as measured from after the attempt: its upper bound.
    most: Duration,
    text: String,
}

fn refused(fault: &str) -> Away {
    let (_exchange, url) = exchange(&["--fault", &format!("upgrade:{fault}")]);
    let source = source();
    let mut session = session(&source, &[&url]);
    let before = Instant::now();
    let error = session.connect(before + LONG, &mut || Ok(())).unwrap_err();
    let retry_at = session.retry_at();
    Away {
        least: retry_at.saturating_duration_since(before),
        most: retry_at.saturating_duration_since(Instant::now()),
        text: error.to_string(),
    }
}

#[test]
fn where_one_place_cannot_be_used_the_next_one_is() {
    let closed = ["451", "403", "418", "429", "503"];
    let closed = closed.map(|status| exchange(&["--fault", &format!("upgrade:{status}")]));
    let mut places: Vec<String> = closed.iter().map(|(_, url)| url.clone()).collect();
    places.push(format!("ws://{}/", nobodys_address()));
    for closed in &places {
        let (_open, open) = exchange(&[]);
        let source = source();
        let mut session = session(&source, &[closed, &open]);
        let price = first(&mut session);
        assert!((87_200.0..87_263.0).contains(&price), "{price}");
        let place = open.rsplit_once("/ws-api").unwrap().0;
        assert!(session.endpoint().url.starts_with(place));
    }
}

/// An exchange that the test plays: it answers upgrades with `head`. Returns how many it has answered.
fn answers(listener: &TcpListener, head: &str) -> usize {
    listener.set_nonblocking(true).unwrap();
    let mut count = 0;
    while let Ok((mut tcp, _)) = listener.accept() {
        tcp.write_all(head.as_bytes()).unwrap();
        // Its end must not overtake the answer, so the request is read.
        tcp.set_nonblocking(false).unwrap();
        let _ = tcp.read(&mut [0; 1024]);
        count += 1;
    }
    count
}

#[test]
fn a_place_that_asked_for_a_pause_is_left_alone_while_the_others_are_tried() {
    let [away, down] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let url = |listener: &TcpListener| format!("ws://{}/", listener.local_addr().unwrap());
    let source = source();
    let mut session = session(&source, &[&url(&away), &url(&down)]);
    let (mut sent_away, mut downs) = (0, 0);
    for attempt in 1..=3 {
        let until = Instant::now() + LONG;
        let error = session.connect(until, &mut || {
            let empty = "Content-Length: 0\r\n\r\n";
            sent_away += answers(&away, &format!("HTTP/1.1 451 X\r\n{empty}"));
            downs += answers(&down, &format!("HTTP/1.1 503 X\r\n{empty}"));
            Ok(())
        });
        assert!(error.unwrap_err().passing, "the second may come back soon");
        assert_eq!((sent_away, downs), (1, attempt));
        let pause = session.retry_at().saturating_duration_since(Instant::now());
        assert!(pause < Duration::from_secs(60), "{pause:?}");
    }
    // Even without any time left, the one that may be tried is tried.
    let error = session.connect(Instant::now(), &mut || Ok(()));
    assert!(error.unwrap_err().passing);
    assert_eq!(sent_away, 1);
}

#[test]
fn what_the_exchange_asks_for_is_obeyed_to_the_millisecond() {
    let (told, ms) = (Duration::from_secs(7), Duration::from_millis(1));
    for fault in ["429:7", "503:7"] {
        let Away { least, most, text } = refused(fault);
        assert!(most <= told && told <= least + ms, "{fault}: {most:?}");
        assert!(text.contains("(Retry-After: 7 s)"), "{text}");
    }
}

#[test]
fn who_is_turned_away_stays_away_for_long_and_not_as_long_as_its_neighbour() {
    let mut all = Vec::new();
    for fault in ["451", "403", "418", "451", "418:5"] {
        let away = refused(fault);
        assert!(away.least >= Duration::from_secs(600), "{fault}");
        assert!(away.most <= Duration::from_secs(1_200), "{fault}");
        all.push(away.most.as_millis() / 100);
    }
    all.dedup();
    assert!(all.len() > 1, "no two in step: {all:?}");
    let down = refused("503").most;
    assert!(down < Duration::from_secs(2), "{down:?}");
}

/// Answers one upgrade with this head. Returns the error, and how long the session then stays away.
fn answered(head: &str) -> (Error, Duration) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let source = source();
    let mut session = session(&source, &[&url]);
    let mut peer = None;
    let until = Instant::now() + LONG;
    let refused = session.connect(until, &mut || {
        listener.set_nonblocking(true).unwrap();
        if let Ok((mut tcp, _)) = listener.accept() {
            tcp.write_all(head.as_bytes()).unwrap();
            peer = Some(tcp);
        }
        Ok(())
    });
    let pause = session.retry_at().saturating_duration_since(Instant::now());
    (refused.expect_err("no websocket"), pause)
}

#[test]
fn no_number_in_retry_after_is_too_large_to_be_obeyed() {
    let three_days = Duration::from_secs(3 * 86_400);
    for head in [
        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 18446744073709551615\r\n\r\n",
        "HTTP/1.1 418 I'm a teapot\r\nRetry-After: 18446744073709551615\r\n\r\n",
        "HTTP/1.1 403 Forbidden\r\nRetry-After: 18446744073709551\r\n\r\n",
    ] {
        let (_, away) = answered(head);
        let slack = Duration::from_secs(60);
        assert!(away <= three_days && away + slack > three_days, "{away:?}");
    }
}

#[test]
fn a_pause_until_a_date_is_obeyed() {
    // The exchange's clock is years behind.
    let (error, away) = answered(
        "HTTP/1.1 503 Down\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: Sun, 06 Nov 1994 09:49:37 GMT\r\nContent-Length: 0\r\n\r\n",
    );
    let told = Duration::from_secs(3_601);
    assert!(
        away <= told && away + Duration::from_secs(60) > told,
        "{away:?}"
    );
    assert!(
        error.to_string().contains("(Retry-After: 3601 s)"),
        "{error}"
    );
}

#[test]
fn what_stands_in_the_exchanges_place_is_shown_and_may_pass() {
    for (answer, passing, parts) in [
        (
            "200 OK\r\nContent-Type: text/html\r\n\r\n<!DOCTYPE html><html><style>b {}</style><title>Back soon</title><body>Scheduled\n maintenance</body>",
            true,
            [
                "HTTP 200 OK, saying \"Back soon Scheduled maintenance\"",
                "in maintenance",
            ],
        ),
        (
            "302 Found\r\nLocation: http://hotspot.example/login\r\nContent-Length: 0\r\n\r\n",
            true,
            ["saying \"http://hotspot.example/login\"", "wants a login"],
        ),
        (
            "301 Moved\r\n\r\n",
            true,
            ["refused with HTTP 301 Moved;", "a page answers"],
        ),
        (
            "403 Forbidden\r\n\r\n{\"msg\":\"Access too frequent\"}",
            false,
            [
                "saying \"{\"msg\":\"Access too frequent\"}\"",
                "wait before the next try",
            ],
        ),
        (
            "404 Not Found\r\n\r\n",
            false,
            ["404 Not Found", "check the address"],
        ),
    ] {
        // The connection stays open: what has come within a moment counts.
        let (error, _) = answered(&format!("HTTP/1.1 {answer}"));
        let text = error.to_string();
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        assert_eq!(error.passing, passing, "{text}");
    }
}

#[test]
fn a_first_message_without_a_price_costs_no_more_than_a_later_one() {
    for (name, path) in [
        ("embedded-kraken:BTC/USD", "kraken"),
        ("embedded:BTCUSDT", "ws-api/v3"),
    ] {
        for fault in ["price:0@1", "garbage@1", "wrong-symbol@1"] {
            let (_exchange, url) = exchange(&["--rate", "20", "--fault", fault]);
            let source = one(name);
            let mut session = ExchangeSession::new(SessionPlan {
                sources: &source,
                endpoints: vec![Endpoint::parse(&url).unwrap().with_path(path)],
                tls: None,
                proxies: tunnel::proxies(None).expect("no proxy is named"),
                pace: Pace::of(&source[0]),
            });
            let price = first(&mut session);
            assert!(
                (87_200.0..87_263.0).contains(&price),
                "{name} {fault}: {price}"
            );
        }
    }
}

#[test]
fn a_renewed_stream_keeps_its_price_until_the_next_one_comes() {
    // The exchange sends one price on each connection, then nothing.
    let (_exchange, url) = exchange(&["--speed", "0.001"]);
    let source = source();
    let mut session = session(&source, &[&url]);
    let first = first(&mut session);
    let until = Instant::now() + LONG;
    session.connect(until, &mut || Ok(())).expect("it is there");
    let kept = session.newest(0, wall_us()).expect("the old one");
    assert_eq!(kept.price, first);
    // A lost connection takes its price with it.
    session.lose();
    assert!(session.newest(0, wall_us()).is_err());
    session.connect(until, &mut || Ok(())).expect("it is there");
    assert!(session.newest(0, wall_us()).is_err());
}

#[test]
fn an_exchange_that_hangs_up_again_and_again_is_not_called_at_once_each_time() {
    // The exchange sends a price, and ends the connection half a second later.
    let (_exchange, url) = exchange(&["--rate", "2", "--fault", "drop@2"]);
    let source = source();
    let mut pace = Pace::of(&source[0]);
    // A long pause: on no machine does half a second become ten pauses, nor is the end noticed a pause too late.
    pace.pause_min = Duration::from_secs(4);
    let mut session = ExchangeSession::new(SessionPlan {
        sources: &source,
        endpoints: vec![Endpoint::parse(&url).unwrap().with_path("kraken")],
        tls: None,
        proxies: tunnel::proxies(None).expect("no proxy is named"),
        pace,
    });
    for pause_s_min in [0, 2, 6] {
        first(&mut session);
        let until = Instant::now() + LONG;
        while session.hear(Patience::Until(until)).is_ok() {}
        let pause = session.retry_at().saturating_duration_since(Instant::now());
        assert!(pause >= Duration::from_secs(pause_s_min), "{pause:?}");
    }
}

#[test]
fn a_price_that_waited_to_be_read_is_as_old_as_it_may_be() {
    let (_exchange, url) = exchange(&["--speed", "0.001"]);
    // Its quotes have no time.
    let source = one("embedded-binance-stream:BTCUSDT");
    let mut pace = Pace::of(&source[0]);
    pace.max_age = Duration::from_secs(1);
    let mut session = ExchangeSession::new(SessionPlan {
        sources: &source,
        endpoints: vec![Endpoint::parse(&url).unwrap().with_path("binance-stream")],
        tls: None,
        proxies: tunnel::proxies(None).expect("no proxy is named"),
        pace,
    });
    let until = Instant::now() + LONG;
    session.connect(until, &mut || Ok(())).expect("it is there");
    // As if the collector were busy opening another connection.
    std::thread::sleep(Duration::from_millis(1_500));
    loop {
        let said = session.hear(Patience::Until(until)).expect("it stands");
        let said = said.expect("a price comes");
        if matches!(said, Said::Price { time_us: None, .. }) {
            break;
        }
    }
    assert_eq!(session.newest(0, wall_us()), Err(Miss::Stale));
}

#[test]
fn an_exchange_that_sends_nothing_at_all_does_not_count_as_alive() {
    let (_exchange, url) = exchange(&["--fault", "hang@2"]);
    let source = one("embedded-bybit:BTCUSDT");
    let mut pace = Pace::of(&source[0]);
    pace.max_age = Duration::from_millis(10);
    let mut session = ExchangeSession::new(SessionPlan {
        sources: &source,
        endpoints: vec![Endpoint::parse(&url).unwrap().with_path("bybit")],
        tls: None,
        proxies: tunnel::proxies(None).expect("no proxy is named"),
        pace,
    });
    let until = Instant::now() + LONG;
    session.connect(until, &mut || Ok(())).expect("it is there");
    let mut last = Instant::now();
    eventually("silence is told from an old price", || {
        if session.hear(Patience::Never).expect("it stands").is_some() {
            last = Instant::now();
        }
        let newest = session.newest(0, wall_us());
        (newest == Err(Miss::NoReply)).then_some(())
    });
    assert!(last.elapsed() >= Duration::from_secs(10) - Duration::from_millis(100));
}

#[test]
fn each_deadline_is_named_by_the_one_who_missed_it() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let missed = |scheme: &str| {
        let url = format!("{scheme}://{address}/");
        let source = source();
        let mut session = session(&source, &[&url]);
        let until = Instant::now() + LONG;
        let mut looks = 0;
        let connected = session.connect(until, &mut || {
            looks += 1;
            Ok(())
        });
        assert!(
            looks > 10,
            "who waits looks elsewhere all the time: {looks}"
        );
        connected.unwrap_err().to_string()
    };
    for (scheme, told) in [
        ("wss", "no TLS handshake within 5000 ms"),
        ("ws", "no whole answer to the upgrade within 5000 ms"),
    ] {
        let text = missed(scheme);
        assert!(text.contains(told), "{text}");
    }
}
