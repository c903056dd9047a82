//! One session that watches several symbols over one connection: what happens to one of them costs the others nothing.

mod door;
mod support;

use door::Door;
use rsoracle::exchange::session::{ExchangeSession, SessionPlan};
use rsoracle::exchange::{Pace, Said, endpoints, tunnel};
use rsoracle::source::{KINDS, Source};
use rsoracle::system::endpoint::Endpoint;
use rsoracle::system::net::Patience;
use rsoracle::system::now::wall_us;
use rsoracle_proof::reason::Miss;
use std::net::TcpStream;
use std::time::{Duration, Instant};
use support::*;
use tungstenite::{Message, WebSocket};

/// The kinds that acknowledge a subscription to an unknown symbol.
const UNREFUSED: [&str; 2] = ["binance-stream", "bitstamp"];

/// The sources of one kind with these markets, such as BTC in USDT.
fn sources(kind: &str, markets: &[(&str, &str)]) -> Vec<Source> {
    let known = KINDS.iter().find(|known| known.name == kind);
    let spelling = known.expect("a kind").spelling;
    let prefix = match kind {
        "binance" => "embedded".to_owned(),
        _ => format!("embedded-{kind}"),
    };
    let name = |(base, quote): &(&str, &str)| format!("{prefix}:{}", spelling.of(base, quote));
    let source = |market| Source::parse(&name(market)).expect("a source");
    markets.iter().map(source).collect()
}

fn session<'a>(sources: &'a [Source], url: &str) -> ExchangeSession<'a> {
    paced(sources, url, Pace::of(&sources[0]))
}

fn paced<'a>(sources: &'a [Source], url: &str, pace: Pace) -> ExchangeSession<'a> {
    let place = Endpoint::parse(url).expect("an address");
    ExchangeSession::new(SessionPlan {
        sources,
        endpoints: endpoints(&sources[0], Some(&place)),
        tls: None,
        proxies: tunnel::proxies(None).expect("no proxy is named"),
        pace,
    })
}

/// Connects a session to an exchange that the test plays, behind a door that is opened for this one connection.
fn meet(session: &mut ExchangeSession, door: Door) -> (WebSocket<TcpStream>, Door) {
    let (mut tcp, mut ws) = (None, None);
    // The session looks after other things while it waits: here, the exchange's side.
    let mut host = || {
        tcp = tcp.take().or_else(|| door.come());
        if let Some(asks) = tcp.take_if(|tcp| has_come(tcp)) {
            ws = Some(door::upgraded(asks));
        }
        Ok(())
    };
    let connected = session.connect(Instant::now() + LONG, &mut host);
    connected.expect("it is there");
    (ws.expect("an upgrade"), door)
}

/// Whether there is something to read, without waiting for it.
fn has_come(tcp: &TcpStream) -> bool {
    tcp.set_nonblocking(true).expect("a socket");
    let has = tcp.peek(&mut [0]).is_ok();
    tcp.set_nonblocking(false).expect("a socket");
    has
}

fn tell(ws: &mut WebSocket<TcpStream>, text: impl Into<String>) {
    ws.send(Message::text(text.into())).expect("it listens");
}

fn read(ws: &mut WebSocket<TcpStream>) -> String {
    let message = ws.read().expect("a message");
    message.into_text().expect("text").as_str().to_owned()
}

/// The next message that the session hears.
fn heard(session: &mut ExchangeSession) -> Said {
    let said = session.hear(Patience::Until(Instant::now() + LONG));
    said.expect("it stands").expect("a message comes")
}

/// A ticker of Kraken's without a time, so that it is as old as its arrival.
fn ticker(symbol: &str, price: impl std::fmt::Display) -> String {
    format!(
        r#"{{"channel":"ticker","type":"update","data":[{{"symbol":"{symbol}","bid":{price},"ask":{price},"last":{price}}}]}}"#
    )
}

#[test]
fn one_connection_serves_several_symbols_of_every_kind_and_a_refused_one_costs_the_others_nothing()
{
    let (_exchange, url) = exchange(&["--speed", "5"]);
    for kind in KINDS.iter().map(|kind| kind.name) {
        let sources = sources(kind, &[("NOPE", "USDT"), ("BTC", "USDT"), ("BTC", "USDC")]);
        let mut session = session(&sources, &url);
        session.first_price(&mut || Ok(())).expect(kind);
        let refused = match UNREFUSED.contains(&kind) {
            true => Miss::Stale,
            false => Miss::Refused,
        };
        let until = Instant::now() + LONG;
        while session.first_prices()[1..].contains(&None)
            || session.newest(0, wall_us()) != Err(refused)
        {
            assert!(Instant::now() < until, "{kind}");
            heard(&mut session);
        }
        // Once more, with the refusal behind it.
        let mut both = [false; 3];
        while !(both[1] && both[2]) && session.request("x", 1).is_none() {
            assert!(Instant::now() < until, "{kind}");
            if let Said::Price { symbol, .. } = heard(&mut session) {
                both[symbol] = true;
            }
        }
        let prices = session.first_prices();
        assert_eq!(prices[0], None, "{kind}");
        for price in &prices[1..] {
            let usual = |price: &f64| (87_000.0..87_500.0).contains(price);
            assert!(price.as_ref().is_some_and(usual), "{kind}: {prices:?}");
        }
        assert!(session.link().is_some(), "{kind}");
    }
}

#[test]
fn if_all_symbols_are_refused_the_error_names_them() {
    let (_exchange, url) = exchange(&[]);
    let kinds = KINDS.iter().map(|kind| kind.name);
    for kind in kinds.filter(|kind| !UNREFUSED.contains(kind)) {
        for markets in [
            &[("NOPE", "USDT")][..],
            &[("NOPE", "USDT"), ("NOPE", "USDC")],
        ] {
            let sources = sources(kind, markets);
            let error = session(&sources, &url).first_price(&mut || Ok(()));
            let error = error.expect_err("no price");
            let text = error.to_string();
            assert!(text.contains("unknown symbol "), "{kind}: {text}");
            for source in &sources {
                assert!(text.contains(source.symbol()), "{kind}: {text}");
            }
            assert!(!error.passing, "{kind}: {text}");
        }
    }
}

#[test]
fn a_refused_symbol_is_tried_again_on_the_next_connection() {
    let (door, sources) = (
        Door::open(),
        sources("kraken", &[("BTC", "USD"), ("ETH", "USD")]),
    );
    let mut session = session(&sources, &door.url);
    let (mut ws, door) = meet(&mut session, door);
    assert!(read(&mut ws).contains(r#""symbol":["BTC/USD","ETH/USD"]"#));
    tell(
        &mut ws,
        r#"{"error":"Currency pair not supported ETH/USD","method":"subscribe","success":false,"symbol":"ETH/USD"}"#,
    );
    tell(&mut ws, ticker("BTC/USD", "1.5"));
    for _ in 0..2 {
        heard(&mut session);
    }
    assert_eq!(session.newest(1, wall_us()), Err(Miss::Refused));
    assert!(session.newest(0, wall_us()).is_ok());
    let (mut ws, _door) = meet(&mut session, door);
    assert!(read(&mut ws).contains(r#""symbol":["BTC/USD","ETH/USD"]"#));
    // The old price stays until a new one comes.
    assert!(session.newest(0, wall_us()).is_ok());
    tell(&mut ws, ticker("ETH/USD", "2.5"));
    heard(&mut session);
    assert_eq!(session.newest(1, wall_us()).expect("a price").price, 2.5);
    assert_eq!(session.first_prices(), [Some(1.5), Some(2.5)]);
}

#[test]
fn what_is_wrong_with_one_price_or_with_none_in_particular_costs_no_other_price() {
    let (door, sources) = (
        Door::open(),
        sources("kraken", &[("BTC", "USD"), ("ETH", "USD")]),
    );
    let mut session = session(&sources, &door.url);
    let (mut ws, _door) = meet(&mut session, door);
    for (text, expected) in [
        (ticker("BTC/USD", 1), [Ok(1.0), Err(Miss::Stale)]),
        (ticker("ETH/USD", 2), [Ok(1.0), Ok(2.0)]),
        (ticker("ETH/USD", "\"\""), [Ok(1.0), Err(Miss::NotDecimal)]),
        (ticker("ETH/USD", 3), [Ok(1.0), Ok(3.0)]),
        (ticker("XRP/USD", 4), [Ok(1.0), Ok(3.0)]),
        ("garbage".to_owned(), [Ok(1.0), Ok(3.0)]),
        (ticker("BTC/USD", 0), [Err(Miss::OutOfBounds), Ok(3.0)]),
    ] {
        tell(&mut ws, text.as_str());
        heard(&mut session);
        let newest = [0, 1].map(|symbol| session.newest(symbol, wall_us()));
        assert_eq!(
            newest.map(|quote| quote.map(|quote| quote.price)),
            expected,
            "{text}"
        );
    }
}

#[test]
fn a_refusal_that_names_no_symbol_keeps_the_connection_unless_it_is_a_limit_or_the_exchange_is_busy()
 {
    for (kind, text, stays) in [
        (
            "bitstamp",
            r#"{"event":"bts:error","channel":"","data":{"code":null,"message":"Invalid channel provided."}}"#,
            true,
        ),
        (
            "bitstamp",
            r#"{"event":"bts:error","channel":"","data":{"code":null,"message":"Incorrect JSON format."}}"#,
            true,
        ),
        (
            "gemini",
            r#"{"id":"2","status":400,"error":{"code":-1013,"msg":"Invalid stream name: ethusd@trade"}}"#,
            true,
        ),
        (
            "gemini",
            r#"{"status":500,"error":{"code":-1000,"msg":"Internal server error"}}"#,
            false,
        ),
        (
            "gemini",
            r#"{"id":"2","status":429,"error":{"code":-1003,"msg":"Rate limit exceeded"}}"#,
            false,
        ),
        (
            "gemini",
            r#"{"id":"2","status":500,"error":{"code":-1000,"msg":"Internal server error"}}"#,
            true,
        ),
    ] {
        let (door, sources) = (
            Door::open(),
            sources(kind, &[("BTC", "USD"), ("ETH", "USD")]),
        );
        let mut session = session(&sources, &door.url);
        let (mut ws, _door) = meet(&mut session, door);
        tell(&mut ws, text);
        assert!(matches!(heard(&mut session), Said::Refusal(_)), "{text}");
        assert_eq!(session.link().is_some(), stays, "{text}");
    }
}

#[test]
fn sixty_four_symbols_of_a_stream_each_have_their_own_price() {
    let bases: Vec<String> = (0..64).map(|n| format!("S{n}")).collect();
    let markets: Vec<(&str, &str)> = bases.iter().map(|base| (base.as_str(), "USD")).collect();
    let (door, sources) = (Door::open(), sources("kraken", &markets));
    let mut session = session(&sources, &door.url);
    let (mut ws, _door) = meet(&mut session, door);
    let subscription = read(&mut ws);
    for (at, source) in sources.iter().enumerate().rev() {
        assert!(subscription.contains(&format!("\"{}\"", source.symbol())));
        tell(&mut ws, ticker(source.symbol(), 100 + at));
    }
    session.first_price(&mut || Ok(())).expect("a price");
    while session.first_prices().contains(&None) {
        heard(&mut session);
    }
    for at in 0..64 {
        let newest = session.newest(at, wall_us()).expect("a price");
        assert_eq!(newest.price, 100.0 + at as f64);
    }
}

#[test]
fn each_of_sixty_four_symbols_is_asked_for_and_an_answer_counts_for_the_symbol_of_its_request_only()
{
    let bases: Vec<String> = (0..64).map(|n| format!("S{n}")).collect();
    let markets: Vec<(&str, &str)> = bases.iter().map(|base| (base.as_str(), "USDT")).collect();
    let (door, sources) = (Door::open(), sources("binance", &markets));
    let mut session = session(&sources, &door.url);
    let (mut ws, _door) = meet(&mut session, door);
    let reply = |at: usize, id: &str| {
        format!(
            r#"{{"id":"{id}","status":200,"result":{{"symbol":"S{at}USDT","price":"{}"}}}}"#,
            100 + at
        )
    };
    let mut answered = false;
    let mut exchange = || {
        if answered || !has_come(ws.get_ref()) {
            return Ok(());
        }
        answered = true;
        for at in 0..64 {
            let request = read(&mut ws);
            let asked = format!(
                r#""id":"first-{at}","method":"ticker.price","params":{{"symbol":"S{at}USDT""#
            );
            assert!(request.contains(&asked), "{request}");
        }
        // Two answers are exchanged.
        tell(&mut ws, reply(7, "first-8"));
        tell(&mut ws, reply(8, "first-7"));
        for at in (0..64).filter(|at| !(7..9).contains(at)).rev() {
            tell(&mut ws, reply(at, &format!("first-{at}")));
        }
        Ok(())
    };
    session.first_price(&mut exchange).expect("a price");
    while session.first_prices().iter().flatten().count() < 62 {
        heard(&mut session);
    }
    for at in 0..64 {
        let newest = session.newest(at, wall_us()).map(|quote| quote.price);
        let exchanged = (7..9).contains(&at);
        let expected = if exchanged {
            Err(Miss::WrongSymbol)
        } else {
            Ok(100.0 + at as f64)
        };
        assert_eq!(newest, expected, "{at}");
        assert_eq!(session.first_prices()[at].is_none(), exchanged);
    }
}

/// Hears the exchange's messages about some symbols, at least once, until `until` or one of them has fallen silent. Returns which.
fn kept(
    session: &mut ExchangeSession,
    ws: &mut WebSocket<TcpStream>,
    symbols: &[&str],
    until: Instant,
) -> Option<String> {
    loop {
        for symbol in symbols {
            tell(ws, ticker(symbol, 1));
            heard(session);
        }
        // A price may be as old as the moment before at which there was nothing to read.
        assert_eq!(session.hear(Patience::Never), Ok(None));
        if let Err(ended) = session.keep_alive() {
            return Some(ended.text);
        }
        let silent = session.fell_silent().map(str::to_owned);
        if silent.is_some() || Instant::now() >= until {
            return silent;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_symbol_that_falls_silent_costs_one_connection_and_one_that_speaks_never_or_rarely_none() {
    let both = ["BTC/USD", "ETH/USD"];
    let sources = sources("kraken", &[("BTC", "USD"), ("ETH", "USD"), ("XRP", "USD")]);
    // A machine that stops for so long that everything seems silent makes the test begin again.
    eventually("one symbol falls silent, and no other", || {
        let door = Door::open();
        let mut pace = Pace::of(&sources[0]);
        pace.max_age = Duration::from_millis(400);
        let long = 2 * pace.max_age;
        let mut session = paced(&sources, &door.url, pace);
        let (mut ws, door) = meet(&mut session, door);
        let stalled = "the exchange no longer sends prices";
        let keep = |ws: &mut WebSocket<TcpStream>,
                    session: &mut ExchangeSession,
                    symbols: &[&str],
                    periods| {
            let until = Instant::now() + periods * long;
            kept(session, ws, symbols, until)
        };
        let spoken = keep(&mut ws, &mut session, &both, 0);
        let told = spoken.or_else(|| keep(&mut ws, &mut session, &both[..1], 3));
        let told = told.filter(|told| told != stalled && told != both[0])?;
        assert_eq!(told, both[1]);
        // Meanwhile, the connection serves the other.
        assert!(session.link().is_some() && session.newest(0, wall_us()).is_ok());
        let (mut ws, _door) = meet(&mut session, door);
        for (symbols, periods, ends) in [
            // On the new connection it does not speak, and then once.
            (&both[..1], 3, false),
            (&both[..], 0, false),
            (&both[..1], 3, false),
            // It speaks all the time, and falls silent again.
            (&both[..], 3, false),
            (&both[..1], 4, true),
        ] {
            match keep(&mut ws, &mut session, symbols, periods) {
                Some(told) if told == stalled || told == both[0] => return None,
                None if ends => return None,
                told => assert_eq!(told.is_some(), ends, "{symbols:?}"),
            }
        }
        Some(())
    });
}
