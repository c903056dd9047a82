//! A collector of two feeds whose exchange the test plays: what is wrong with one symbol, or with none in particular, costs the
//! other feed nothing.

mod door;
mod enlisted;
mod support;

use door::{Door, upgraded};
use enlisted::*;
use rsoracle::system::inbox::waits;
use rsoracle::system::now::wall_us;
use rsoracle_proof::reason::Miss;
use rsoracle_proof::record::Record;
use rsoracle_proof::terms::{Terms, tag};
use rsoracle_proof::utc::utc_text;
use std::cell::{Cell, RefCell};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use support::*;
use tungstenite::{Message, WebSocket};

const STREAMED: [(&str, &str); 2] = [
    ("BTC/USD", "embedded-kraken:BTC/USD"),
    ("SOL/USD", "embedded-kraken:SOL/USD"),
];
const POLLED: [(&str, &str); 2] = [
    ("BTC/USD", "embedded:BTCUSDT"),
    ("SOL/USD", "embedded:SOLUSDT"),
];

/// The exchange. It never waits.
struct Venue<'a> {
    door: Door,
    links: Vec<WebSocket<TcpStream>>,
    /// How many connections have come, and how many of them while the one before still stood.
    opened: usize,
    overlapping: usize,
    /// What it sends on every connection again and again.
    says: &'a dyn Fn() -> Vec<String>,
    /// What it answers to messages that arrived together.
    answers: &'a dyn Fn(&[String]) -> Vec<String>,
    said_at: Option<Instant>,
}

impl<'a> Venue<'a> {
    fn new(
        says: &'a dyn Fn() -> Vec<String>,
        answers: &'a dyn Fn(&[String]) -> Vec<String>,
    ) -> Venue<'a> {
        Venue {
            door: Door::open(),
            links: Vec::new(),
            opened: 0,
            overlapping: 0,
            says,
            answers,
            said_at: None,
        }
    }

    fn turn(&mut self) {
        if let Some(tcp) = self.door.come() {
            let stands = self.links.last_mut().is_some_and(|ws| hear(ws).1);
            self.overlapping += usize::from(stands);
            let ws = upgraded(tcp);
            ws.get_ref().set_nonblocking(true).expect("O_NONBLOCK");
            self.links.push(ws);
            (self.opened, self.said_at) = (self.opened + 1, None);
        }
        let due = |at: Instant| at.elapsed() >= Duration::from_millis(20);
        let due = self.said_at.is_none_or(due);
        let says = due.then(|| (self.says)());
        self.said_at = self.said_at.filter(|_| !due).or(Some(Instant::now()));
        for ws in &mut self.links {
            let answers = (self.answers)(&hear(ws).0);
            for text in says.iter().flatten().cloned().chain(answers) {
                // Who has hung up hears nothing.
                let _ = ws.send(Message::text(text));
            }
        }
    }
}

/// What has come, and whether the connection still stands.
fn hear(ws: &mut WebSocket<TcpStream>) -> (Vec<String>, bool) {
    let mut heard = Vec::new();
    loop {
        match ws.read() {
            Ok(message) => heard.extend(message.into_text().map(|text| text.as_str().to_owned())),
            Err(error) => {
                let stands = matches!(error, tungstenite::Error::Io(error) if waits(&error));
                return (heard, stands);
            }
        }
    }
}

/// A ticker of Kraken's.
fn ticker(symbol: &str, time_us: u64) -> String {
    let time = utc_text(time_us);
    format!(
        r#"{{"channel":"ticker","type":"update","data":[{{"symbol":"{symbol}","bid":7.5,"ask":7.5,"last":7.5,"timestamp":"{time}"}}]}}"#
    )
}

/// A collector of these feeds at work, with its exchange, and the feeds' terms.
fn stand<'a>(
    venue: Venue<'a>,
    feeds: &[(&str, &str)],
    flags: &[&str],
) -> (Venue<'a>, Enlisted, Vec<Terms>) {
    stand_at(venue, feeds, flags, "100ms")
}

/// The same with this interval.
fn stand_at<'a>(
    mut venue: Venue<'a>,
    feeds: &[(&str, &str)],
    flags: &[&str],
    interval: &str,
) -> (Venue<'a>, Enlisted, Vec<Terms>) {
    let post = Post::new(5, interval, "1s");
    let terms = post.replace(&feeds_text(&post.key, feeds, 5, interval, "1s"));
    let mut ports = ports();
    ports.feeds = feeds.len();
    let child = post.start_with(&[&ports], &venue.door.url, flags);
    let control = eventually("it connects", || {
        venue.turn();
        try_accept(&ports.control)
    });
    let line = greet(control, &child.key);
    (venue, Enlisted { ports, child, line }, terms)
}

/// The records of both feeds in so many starts that are answered for both.
fn starts(
    venue: &mut Venue,
    collector: &mut Enlisted,
    terms: &[Terms],
    count: usize,
) -> Vec<[Vec<Record>; 2]> {
    let from = collector.ports.frames.len();
    let (mut after_us, mut all) = (wall_us(), Vec::new());
    eventually("starts that are answered for both feeds", || {
        let until = Instant::now() + Duration::from_millis(10);
        while Instant::now() < until {
            venue.turn();
            collector.look();
        }
        let frames = &collector.ports.frames[from..];
        (frames.len() >= 2 * (count + 2)).then_some(())
    });
    for _ in 0..count {
        let first = collector.answer_after(after_us, &terms[0]);
        after_us = first.start_us;
        let second = collector.answer_after(after_us - 1, &terms[1]);
        assert_eq!(second.start_us, after_us);
        all.push([first.records, second.records]);
    }
    all
}

/// Whether all of these have a price.
fn whole(records: &[Record]) -> bool {
    records.iter().all(|record| record.price.is_ok())
}

fn silent(_: &[String]) -> Vec<String> {
    Vec::new()
}

#[test]
fn a_refusal_of_one_symbol_or_of_none_in_particular_costs_no_other_feed_its_prices() {
    for refusal in [
        r#"{"error":"EService:Unavailable","method":"subscribe","success":false,"symbol":"SOL/USD"}"#,
        r#"{"error":"EGeneral:Internal error","method":"subscribe","success":false,"symbol":"SOL/USD"}"#,
        r#"{"error":"EQuery:Malformed request","method":"subscribe","success":false}"#,
    ] {
        let says = || vec![refusal.to_owned(), ticker("BTC/USD", wall_us())];
        let venue = Venue::new(&says, &silent);
        let (mut venue, mut collector, terms) = stand(venue, &STREAMED, &[]);
        let all = starts(&mut venue, &mut collector, &terms, 3);
        assert_eq!(venue.opened, 1, "{refusal}");
        assert!(all.iter().any(|[btc, _]| whole(btc)), "{refusal}: {all:?}");
        for [_, sol] in &all {
            assert!(sol.iter().all(|record| record.price.is_err()), "{refusal}");
        }
    }
}

#[test]
fn one_symbol_with_times_ahead_does_not_make_the_clock_look_wrong() {
    const HOUR_US: u64 = 3_600_000_000;
    let says = || {
        let now_us = wall_us();
        vec![
            ticker("BTC/USD", now_us),
            ticker("SOL/USD", now_us + HOUR_US),
        ]
    };
    let venue = Venue::new(&says, &silent);
    let (mut venue, mut collector, terms) = stand(venue, &STREAMED, &[]);
    let all = starts(&mut venue, &mut collector, &terms, 3);
    assert!(all.iter().any(|[btc, _]| whole(btc)), "{all:?}");
    for [_, sol] in &all {
        assert!(sol.iter().all(|record| record.price.is_err()), "{sol:?}");
    }
}

/// What stands in a message between this and the next quotation mark.
fn part<'a>(text: &'a str, begin: &str) -> &'a str {
    let (_, rest) = text.split_once(begin).unwrap_or_default();
    rest.split('"').next().unwrap_or_default()
}

#[test]
fn a_reply_that_names_neither_request_nor_symbol_costs_no_other_feed_a_sample() {
    let answers = |asked: &[String]| {
        let mut answers = Vec::new();
        // What is about SOL comes first.
        for text in asked.iter().rev() {
            let (id, symbol) = (part(text, "\"id\":\""), part(text, "\"symbol\":\""));
            answers.push(match symbol {
                "" => format!(
                    r#"{{"id":"{id}","status":200,"result":{{"serverTime":{}}}}}"#,
                    wall_us() / 1_000
                ),
                "SOLUSDT" => {
                    r#"{"status":500,"error":{"code":-1000,"msg":"Something failed."}}"#.to_owned()
                }
                _ => format!(
                    r#"{{"id":"{id}","status":200,"result":{{"symbol":"{symbol}","price":"7.5"}}}}"#
                ),
            });
        }
        answers
    };
    let says = || Vec::new();
    let venue = Venue::new(&says, &answers);
    let (mut venue, mut collector, terms) = stand(venue, &POLLED, &[]);
    let all = starts(&mut venue, &mut collector, &terms, 3);
    assert!(all.iter().any(|[btc, _]| whole(btc)), "{all:?}");
    for [btc, sol] in &all {
        let refused = |record: &Record| record.price == Err(Miss::Refused);
        assert!(!btc.iter().any(refused), "{btc:?}");
        assert!(sol.iter().all(|record| record.price.is_err()), "{sol:?}");
    }
    let complaint = collector.child.running.stderr_line("answered no request");
    assert!(complaint.contains("Something failed."), "{complaint}");
}

#[test]
fn a_symbol_that_falls_silent_is_subscribed_to_anew_while_the_others_prices_go_on() {
    let speaks = Cell::new(true);
    let says = || {
        let mut says = vec![ticker("BTC/USD", wall_us())];
        says.extend(speaks.get().then(|| ticker("SOL/USD", wall_us())));
        says
    };
    let venue = Venue::new(&says, &silent);
    let flags = ["--max-age", "400ms"];
    let (mut venue, mut collector, terms) = stand(venue, &STREAMED, &flags);
    eventually("both speak", || {
        let all = starts(&mut venue, &mut collector, &terms, 1);
        all[0].iter().all(|records| whole(records)).then_some(())
    });
    speaks.set(false);
    let before = venue.overlapping;
    eventually("another connection while the one before stands", || {
        venue.turn();
        collector.look();
        (venue.overlapping > before).then_some(())
    });
    let all = starts(&mut venue, &mut collector, &terms, 2);
    assert!(all.iter().any(|[btc, _]| whole(btc)), "{all:?}");
    let line = collector.child.running.stderr_line("no longer sends");
    assert!(line.contains("SOL/USD"), "{line}");
}

/// The answer of a polled exchange.
fn quote(id: &str, symbol: &str) -> String {
    format!(r#"{{"id":"{id}","status":200,"result":{{"symbol":"{symbol}","price":"7.5"}}}}"#)
}

#[test]
fn an_answer_waits_neither_for_another_feeds_reply_nor_for_its_data_connection() {
    // What is asked of SOL is answered once the answer of BTC to the same start has come.
    let (held, start_us) = (RefCell::new(Vec::<(String, String)>::new()), Cell::new(0));
    let answers = |asked: &[String]| {
        let mut answers = Vec::new();
        for text in asked {
            let (id, symbol) = (part(text, "\"id\":\""), part(text, "\"symbol\":\""));
            match symbol {
                "" => {}
                "SOLUSDT" if !id.starts_with("first") => {
                    let (start, _) = id.split_once('-').expect("an id");
                    held.borrow_mut()
                        .push((start.to_owned(), quote(id, symbol)));
                }
                _ => answers.push(quote(id, symbol)),
            }
        }
        answers
    };
    let says = || {
        let now = start_us.get().to_string();
        let due = held
            .borrow_mut()
            .extract_if(.., |(start, _)| *start == now)
            .collect::<Vec<_>>();
        due.into_iter().map(|(_, text)| text).collect()
    };
    let venue = Venue::new(&says, &answers);
    // Between two instants, there is no time for connecting.
    let (mut venue, mut collector, terms) = stand_at(venue, &POLLED, &[], "20ms");
    let of_btc = tag(&terms[0].digest());
    let mut ended_us = 0;
    eventually(
        "a start without a data connection in which both have all prices",
        || {
            venue.turn();
            collector.look();
            let sample = collector.line.samples.last()?;
            if sample.start_us > ended_us && sample.record.index > 0 {
                ended_us = sample.start_us;
                collector.ports.end_data(false);
            }
            let newest = collector.ports.frames.last()?;
            if newest.tag == of_btc {
                start_us.set(newest.start_us);
            }
            let records = |terms| collector.line.records_under(terms, start_us.get());
            let both = terms
                .iter()
                .map(records)
                .all(|records| records.len() == 5 && whole(&records));
            // Each start has had another data connection.
            (both && start_us.get() == ended_us && collector.ports.connections > 2).then_some(())
        },
    );
}
