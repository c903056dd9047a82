//! One collector prices several feeds of a roster: over one connection to its exchange, at the same instants, with one signature
//! for each feed. A feed without prices costs no other feed anything, and no start of any feed is signed twice.

mod enlisted;
mod support;
mod witness;

use enlisted::*;
use rsoracle::system::now::wall_us;
use rsoracle::wire::tether::terms_message;
use rsoracle::wire::{Pong, Ready, Sample};
use rsoracle_proof::reason::{Abstention, Miss};
use rsoracle_proof::record::{Answer, Observation, Record};
use rsoracle_proof::seal::hex;
use rsoracle_proof::source::kind_of;
use rsoracle_proof::terms::{Terms, tag};
use rsoracle_proof::utc::utc_us;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};
use support::*;
use tungstenite::{Message, WebSocket};
use witness::clients_of;

const POLLED: [(&str, &str); 3] = [
    ("BTC/USD", "embedded:BTCUSDT"),
    ("ETH/USD", ""),
    ("SOL/USD", "embedded:SOLUSDT"),
];
const STREAMED: [(&str, &str); 3] = [
    ("BTC/USD", "embedded-kraken:BTC/USD"),
    ("ETH/USD", ""),
    ("SOL/USD", "embedded-kraken:SOL/USD"),
];

/// A post in a roster of these feeds, and their terms.
fn post(feeds: &[(&str, &str)], samples: u32, interval: &str, period: &str) -> (Post, Vec<Terms>) {
    let post = Post::new(samples, interval, period);
    let terms = post.replace(&feeds_text(&post.key, feeds, samples, interval, period));
    (post, terms)
}

/// Starts its collector, and lets it in.
fn stand(post: &Post, mut ports: Ports, url: &str, feeds: usize) -> Enlisted {
    ports.feeds = feeds;
    let child = post.start(&[&ports], url);
    let line = greet(accept(&ports.control), &child.key);
    Enlisted { ports, child, line }
}

/// Waits until the collector is ready under these terms, each once and with its seat. Nothing else is ready.
fn until_ready(collector: &mut Enlisted, feeds: &[&Terms]) {
    eventually("all feeds are ready", || {
        collector.look();
        (collector.line.ready.len() == feeds.len()).then_some(())
    });
    let seat = |terms: &Terms| terms.slot_of(&collector.child.key).expect("a seat");
    let mut due: Vec<([u8; 32], u16)> = feeds.iter().map(|it| (it.digest(), seat(it))).collect();
    let told = |ready: &Ready| (ready.terms_digest, ready.slot);
    let mut told: Vec<_> = collector.line.ready.iter().map(told).collect();
    due.sort();
    told.sort();
    assert_eq!(told, due);
}

/// Waits for a start after `after_us` for which all these feeds have an answer. Returns it and their records.
fn whole_start(collector: &mut Enlisted, feeds: &[&Terms], after_us: u64) -> (u64, Vec<Answered>) {
    let first = collector.answer_after(after_us, feeds[0]);
    let start_us = first.start_us;
    let mut answers = vec![first];
    for terms in &feeds[1..] {
        let answer = collector.answer_after(start_us - 1, terms);
        assert_eq!(answer.start_us, start_us, "each start is answered");
        answers.push(answer);
    }
    (start_us, answers)
}

/// Does something again and again for a while, without a pause.
fn spin(mut turn: impl FnMut()) {
    let until = Instant::now() + Duration::from_millis(20);
    while Instant::now() < until {
        turn();
    }
}

/// Whether these answers have samples of the same moments, all with prices.
fn same_moments(answers: &[Answered]) -> bool {
    let lateness = |record: &Record| record.lateness_us;
    let moments = |it: &Answered| it.records.iter().map(lateness).collect::<Vec<_>>();
    let first = moments(&answers[0]);
    answers.iter().for_each(|it| assert_eq!(moments(it), first));
    answers.iter().all(Answered::is_whole)
}

#[test]
fn of_a_stream_the_prices_of_all_feeds_at_one_moment_are_sent_in_one_write() {
    let (_exchange, url) = exchange(&[]);
    let (post, terms) = post(&STREAMED, 5, "100ms", "1s");
    let own = [&terms[0], &terms[2]];
    let mut collector = stand(&post, ports(), &url, 2);
    until_ready(&mut collector, &own);
    assert_eq!(
        own.map(|terms| terms.slot_of(&post.key)),
        [Some(3), Some(1)]
    );
    let mut after_us = wall_us();
    eventually("a start whose samples all have prices", || {
        collector.line.control.pieces.clear();
        spin(|| collector.look());
        let newest_us = collector.ports.frames.last()?.start_us;
        // Each write has samples of both, or is a pong.
        for piece in &collector.line.control.pieces {
            let rest = piece % (2 * Sample::BYTES);
            assert!([0, Pong::BYTES].contains(&rest), "{piece} bytes came");
        }
        (newest_us > after_us).then_some(())?;
        let (start_us, answers) = whole_start(&mut collector, &own, after_us);
        after_us = start_us;
        same_moments(&answers).then_some(())
    });
    assert_eq!(clients_of(&url).len(), 1);
    let foreign = tag(&terms[1].digest());
    assert!(collector.line.samples.iter().all(|it| it.tag != foreign));
}

/// A connection that counts how often bytes came.
struct Counted {
    tcp: TcpStream,
    reads: usize,
}

impl Read for Counted {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.tcp.read(bytes)?;
        self.reads += 1;
        Ok(count)
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tcp.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}

/// An exchange that is asked. It knows no SOL, which it says for the first time only when a round has begun.
struct Asked {
    ws: WebSocket<Counted>,
    late: Option<String>,
    /// For each instant, by the first two parts of the ids: which symbols were asked for in which read.
    asked: BTreeMap<String, Vec<(String, usize)>>,
}

/// What stands in a message between this and the next quotation mark.
fn part<'a>(text: &'a str, begin: &str) -> &'a str {
    let (_, rest) = text.split_once(begin).unwrap_or_default();
    rest.split('"').next().unwrap_or_default()
}

impl Asked {
    fn accept(listener: &TcpListener) -> Asked {
        let (tcp, _) = listener.accept().expect("the collector connects");
        tcp.set_nodelay(true).expect("TCP_NODELAY");
        let ws = tungstenite::accept(Counted { tcp, reads: 0 }).expect("an upgrade");
        let tcp = &ws.get_ref().tcp;
        tcp.set_nonblocking(true).expect("O_NONBLOCK");
        let (late, asked) = (None, BTreeMap::new());
        Asked { ws, late, asked }
    }

    fn turn(&mut self) {
        while let Ok(message) = self.ws.read() {
            let Message::Text(text) = message else {
                continue;
            };
            let (id, symbol) = (part(&text, "\"id\":\""), part(&text, "\"symbol\":\""));
            let answer = match symbol {
                "" => format!("200,\"result\":{{\"serverTime\":{}}}", wall_us() / 1_000),
                "SOLUSDT" => {
                    "400,\"error\":{\"code\":-1121,\"msg\":\"Invalid symbol.\"}".to_owned()
                }
                _ => format!("200,\"result\":{{\"symbol\":\"{symbol}\",\"price\":\"7.5\"}}"),
            };
            let answer = format!("{{\"id\":\"{id}\",\"status\":{answer}}}");
            if id == "first-1" {
                self.late = Some(answer);
                continue;
            }
            let late = self.late.take_if(|_| id.len() > "first-1".len());
            for answer in late.into_iter().chain([answer]) {
                let _ = self.ws.send(Message::text(answer));
            }
            if let Some((instant, number)) = id.rsplit_once('-') {
                let reads = self.ws.get_ref().reads;
                let asked = self.asked.entry(instant.to_owned()).or_default();
                asked.push((format!("{number} {symbol}"), reads));
            }
        }
    }
}

#[test]
fn all_requests_of_an_instant_come_in_one_segment_and_a_refused_symbol_costs_its_feed_only() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("ws://{}/", address(&listener));
    let (post, terms) = post(&POLLED, 5, "100ms", "1s");
    let own = [&terms[0], &terms[2]];
    let mut ports = ports();
    ports.feeds = 2;
    let child = post.start(&[&ports], &url);
    let mut exchange = Asked::accept(&listener);
    let control = eventually("it connects", || {
        exchange.turn();
        try_accept(&ports.control)
    });
    let line = greet(control, &child.key);
    let mut collector = Enlisted { ports, child, line };
    let (mut newest_us, began_us) = (0, wall_us());
    eventually("three rounds of prices", || {
        spin(|| {
            exchange.turn();
            collector.look();
        });
        let starts = collector.ports.frames.iter().map(|it| it.start_us);
        newest_us = starts.max()?;
        (newest_us > began_us + 3_000_000).then_some(())
    });
    let instants = exchange.asked.iter().filter(|(id, _)| *id != "first");
    for (instant, asked) in instants {
        let symbols: Vec<&str> = asked.iter().map(|(symbol, _)| symbol.as_str()).collect();
        assert_eq!(symbols, ["0 BTCUSDT", "1 SOLUSDT"], "{instant}");
        assert_eq!(asked[0].1, asked[1].1, "{instant}: in two reads");
    }
    let (mut after_us, mut whole) = (began_us, 0);
    while after_us < newest_us {
        let (start_us, answers) = whole_start(&mut collector, &own, after_us);
        whole += u32::from(answers[0].is_whole());
        let foreign = |record: &Record| record.price == Err(Miss::WrongId);
        assert!(!answers[0].records.iter().any(foreign), "{start_us}");
        let refused = |record: &Record| record.price == Err(Miss::Refused);
        if answers[0].is_whole() {
            assert!(
                answers[1].records.iter().all(refused),
                "{:?}",
                answers[1].records
            );
        }
        after_us = start_us;
    }
    assert!(whole > 0, "no round without a missing sample");
    let ready: Vec<[u8; 32]> = collector
        .line
        .ready
        .iter()
        .map(|it| it.terms_digest)
        .collect();
    assert_eq!(ready, [terms[0].digest()], "no first price of the other");
    let complaint = collector.child.running.stderr_line("SOL/USD: sample ");
    assert!(complaint.contains("Invalid symbol."), "{complaint}");
    collector.child.running.stderr_line("SOL/USD: abstains: ");
}

#[test]
fn a_symbol_that_a_stream_refuses_costs_its_feed_only() {
    let (_exchange, url) = exchange(&["--fault", "kraken/SOL/refuse"]);
    let (post, terms) = post(&STREAMED, 5, "100ms", "1s");
    let mut collector = stand(&post, ports(), &url, 2);
    until_ready(&mut collector, &[&terms[0]]);
    collector.whole_answer(&terms[0]);
    let newest_us = collector.ports.frames.last().expect("one").start_us;
    let answer = collector.answer_after(newest_us - 1, &terms[2]);
    assert!(answer.records.iter().all(|it| it.price.is_err()));
    let of_sol = tag(&terms[2].digest());
    let mut frames = collector.ports.frames.iter();
    let frame = frames.rfind(|it| it.tag == of_sol).expect("one");
    let signed = Observation::decode(&frame.observation).expect("an observation");
    let too_few = Answer::Abstain(Abstention::TooFewSamples);
    assert_eq!(signed.answer, too_few);
    assert_eq!(clients_of(&url).len(), 1);
}

#[test]
fn after_a_restart_no_start_of_any_feed_is_signed_twice() {
    let (_exchange, url) = exchange(&[]);
    let (post, terms) = post(&STREAMED, 2, "20ms", "200ms");
    let own = [&terms[0], &terms[2]];
    // The frames of all lives come here, and the ports check their starts.
    let mut ports = ports();
    for life in 0..3 {
        let seen = ports.frames.len();
        let mut collector = stand(&post, ports, &url, 2);
        eventually("some answers", || {
            collector.look();
            (collector.ports.frames.len() > seen + 3).then_some(())
        });
        std::thread::sleep(Duration::from_millis(53 * life));
        collector.child.running.signal("KILL");
        eventually("it ends", || collector.child.running.ended().then_some(()));
        collector.ports.look(&post.key);
        ports = collector.ports;
        let newest_us = ports.frames.last().expect("an answer").start_us;
        let marks = marks(&post);
        assert_eq!(marks.len(), 2);
        for terms in own {
            assert!(marks[&hex(&terms.digest())] >= newest_us);
        }
    }
}

/// The mark of each terms digest.
fn marks(post: &Post) -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(post.mark()).expect("a mark");
    let marks = text.lines().filter_map(|line| {
        let (digest, time) = line.split_once(' ')?;
        Some((digest.to_owned(), utc_us(time)?))
    });
    marks.collect()
}

#[test]
fn a_feed_that_is_added_later_keeps_the_mark_of_those_before() {
    let (_exchange, url) = exchange(&[]);
    let (post, first) = post(&STREAMED[..1], 2, "20ms", "200ms");
    let mut collector = stand(&post, ports(), &url, 1);
    collector.answer(&first[0]);
    collector.child.running.signal("KILL");
    eventually("it ends", || collector.child.running.ended().then_some(()));
    collector.ports.look(&post.key);
    let ports = collector.ports;
    let mark_us = marks(&post)[&hex(&first[0].digest())];
    assert!(mark_us > ports.frames.last().expect("one").start_us);
    let text = feeds_text(&post.key, &STREAMED, 2, "20ms", "200ms");
    let both = post.replace(&text);
    assert_eq!(both[0], first[0], "a later feed changes no other's terms");
    let before = ports.frames.len();
    let mut collector = stand(&post, ports, &url, 2);
    let own = [&both[0], &both[2]];
    let (start_us, _) = whole_start(&mut collector, &own, mark_us);
    let later = &collector.ports.frames[before..];
    assert!(later.iter().all(|frame| frame.start_us > mark_us));
    let marks = marks(&post);
    assert!(own.iter().all(|it| marks[&hex(&it.digest())] >= start_us));
}

#[test]
fn with_twenty_feeds_an_aggregator_that_never_reads_costs_the_other_nothing() {
    let (_exchange, url) = exchange(&[]);
    let bases =
        "BTC ETH XRP BNB SOL DOGE TRX ADA LINK AVAX XLM LTC BCH DOT UNI NEAR APT ATOM FIL ETC";
    let names = |base: &str| (format!("{base}/USD"), format!("embedded-kraken:{base}/USD"));
    let names: Vec<_> = bases.split(' ').map(names).collect();
    let feeds: Vec<_> = names
        .iter()
        .map(|(feed, source)| (feed.as_str(), source.as_str()))
        .collect();
    let (post, terms) = post(&feeds, 10, "100ms", "2s");
    let own: Vec<&Terms> = terms.iter().collect();
    let (deaf, mut ports) = (ports(), ports());
    ports.feeds = 20;
    let child = post.start(&[&deaf, &ports], &url);
    let mut unread = greet(accept(&deaf.control), &post.key);
    let line = greet(accept(&ports.control), &post.key);
    let mut collector = Enlisted { ports, child, line };
    until_ready(&mut collector, &own);
    let mut after_us = wall_us();
    eventually("a whole round while another floods and never reads", || {
        after_us = eventually("an answer", || {
            unread.flood();
            collector.look();
            let newest_us = collector.ports.frames.last()?.start_us;
            (newest_us > after_us).then_some(newest_us)
        });
        let (_, answers) = whole_start(&mut collector, &own, after_us - 1);
        same_moments(&answers).then_some(())
    });
}

#[test]
fn who_comes_back_in_mid_round_gets_the_samples_of_all_feeds_first() {
    let (_exchange, url) = exchange(&[]);
    let (post, terms) = post(&STREAMED, 10, "100ms", "2s");
    let own = [&terms[0], &terms[2]];
    let mut collector = stand(&post, ports(), &url, 2);
    until_ready(&mut collector, &own);
    let start_us = eventually("half a round", || {
        collector.look();
        let newest = collector.line.samples.last()?;
        (newest.record.index == 5).then_some(newest.start_us)
    });
    collector.line.control.half_close();
    collector.welcome_again();
    let (again_us, _) = whole_start(&mut collector, &own, start_us - 1);
    assert_eq!(again_us, start_us, "the round that ran then");
}

/// The ready frames of a child of `rsoracle run` that has no terms yet: one, which counts for all feeds. After `terms`, one for
/// each of them.
fn told_by_a_child(url: &str, sources: [&str; 2], of: usize) -> Duration {
    let ports = ports();
    let more = ["--source", sources[1]];
    let child = Child::start_of(&ports, url, sources[0], &more);
    let mut collector = {
        let mut child = child;
        child.introduce();
        let line = greet(accept(&ports.control), &child.key);
        Enlisted { ports, child, line }
    };
    collector.ports.feeds = 2;
    let began = Instant::now();
    collector.line.until_ready([0; 32]);
    let past = began.elapsed();
    assert_eq!(collector.line.ready.len(), 1);
    collector.line.ready.clear();
    let feeds = [("BTC/USD", sources[0]), ("SOL/USD", sources[1])];
    let text = feeds_text(&collector.child.key, &feeds, 2, "100ms", "1s");
    let terms = rsoracle_proof::roster::Roster::parse(&text)
        .expect("one")
        .feeds;
    collector.child.hand(&terms_message(0, &terms));
    let own: Vec<&Terms> = terms.iter().collect();
    until_ready(&mut collector, &own[..of]);
    whole_start(&mut collector, &own, wall_us());
    collector.child.part();
    past
}

#[test]
fn a_child_is_ready_once_all_its_symbols_have_a_price_or_some_have_none_for_long() {
    let (_all, url) = exchange(&[]);
    told_by_a_child(&url, [STREAMED[0].1, STREAMED[2].1], 2);
    told_by_a_child(&url, [POLLED[0].1, POLLED[2].1], 2);
    let (_one, url) = exchange(&["--fault", "kraken/SOL/mute"]);
    let past = told_by_a_child(&url, [STREAMED[0].1, STREAMED[2].1], 1);
    assert!(past > Duration::from_secs(3), "{past:?}");
}

#[test]
fn a_childs_sources_are_of_one_kind() {
    assert_eq!(kind_of(POLLED[0].1), "embedded");
    let place = "127.0.0.1:1";
    let both = ["--source", POLLED[0].1, "--source", STREAMED[2].1];
    let child = [
        "collect",
        "--tether",
        "--slot",
        "3",
        "--control",
        place,
        "--data",
        place,
    ];
    let done = run(&[&child[..], &both, &["--endpoint", "ws://127.0.0.1:1/"]].concat());
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("all of one kind"), "{}", done.stderr);
}

#[test]
fn a_check_shows_each_feed_and_what_an_exchange_does_not_allow_is_refused() {
    let ports = ports();
    let (good, _) = post(&POLLED, 5, "100ms", "1s");
    let page = |post: &Post, url: &str, check: bool| {
        let mut command = post.command(&[&ports], url);
        if url.is_empty() {
            let words: Vec<_> = command.get_args().map(|it| it.to_owned()).collect();
            command = rsoracle();
            let kept = words
                .iter()
                .filter(|it| !it.is_empty() && *it != "--endpoint");
            command.args(kept);
        }
        command.args(check.then_some("--check"));
        start_command(command).finish()
    };
    let done = page(&good, "ws://127.0.0.1:1/", true);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    for (about, text) in [
        ("slot", "3 of 5"),
        ("feed", "BTC/USD, slot 3 of 5: embedded:BTCUSDT"),
        ("feed", "SOL/USD, slot 1 of 3: embedded:SOLUSDT"),
    ] {
        let row = format!("{about:<15}{text}\n");
        assert!(done.stdout.contains(&row), "{row}{}", done.stdout);
    }
    assert!(!done.stdout.contains("ETH/USD, slot"), "{}", done.stdout);
    let much: Vec<String> = (b'A'..=b'P')
        .map(|base| char::from(base).to_string())
        .collect();
    let names = |base: &String| (format!("{base}/USD"), format!("binance:{base}USDC"));
    let much: Vec<_> = much.iter().map(names).collect();
    let feeds: Vec<_> = much
        .iter()
        .map(|(feed, source)| (feed.as_str(), source.as_str()))
        .collect();
    let (much, _) = post(&feeds, 10, "50ms", "1s");
    for check in [true, false] {
        let done = page(&much, "", check);
        assert_eq!(done.code, Some(1), "{}", done.stderr);
        for says in [
            "slot 3 watches too much: 9600 requests a minute",
            "use fewer symbols",
        ] {
            assert!(done.stderr.contains(says), "{}", done.stderr);
        }
    }
}
