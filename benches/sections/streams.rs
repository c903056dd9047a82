//! Streams: what one message costs from the socket to a price, and where the time goes.
//!
//! A session, as every collector has one, reads the embedded exchange as fast as that can be done; what it costs is this
//! process's own CPU time, so that the exchange's speed on the other core does not count. Then a whole run under 20,000 messages
//! a second.

use crate::figures::{Table, digits, largest, median, quantile};
use crate::machine;
use crate::rounds::{ReportView, listening};
use crate::support::{Certificates, Running, good_certificates, rsoracle, start_command};
use rsoracle::exchange::Pace;
use rsoracle::exchange::link::Link;
use rsoracle::exchange::roots::Roots;
use rsoracle::exchange::session::{Plan, Session};
use rsoracle::exchange::{Said, Topic, Way, dialect, tunnel};
use rsoracle::system::endpoint::Endpoint;
use rsoracle::system::net::Patience;
use rsoracle_proof::source::{KINDS, Source};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Messages that are read for one figure.
const MESSAGES: u32 = 100_000;
/// Messages a second that a collector is to keep up with.
const RATE: &str = "20000";

fn exchange(tls: Option<&Certificates>, rate: &str) -> (Running, String) {
    let mut command = rsoracle();
    command.args(["exchange", "--listen", "127.0.0.1:0", "--poll", "0ms"]);
    command.args(["--rate", rate]);
    if let Some(tls) = tls {
        command.args(["--cert", &tls.cert, "--key", &tls.key]);
    }
    command.stdin(Stdio::null());
    let running = start_command(command);
    let url = listening(&running).replace("127.0.0.1", "localhost");
    (running, url)
}

fn plan<'a>(source: &'a Source, url: &str, tls: Option<&Certificates>) -> Plan<'a> {
    let place = Endpoint::parse(url).expect("an address");
    let connector = tls.map(|tls| {
        let roots = Roots::find(Some(&tls.ca)).expect("a certificate");
        roots.trust().expect("TLS can be set up")
    });
    Plan {
        source,
        endpoints: rsoracle::exchange::endpoints(source, Some(&place)),
        tls: connector,
        proxies: tunnel::proxies(None).expect("no proxy is named"),
        pace: Pace::of(source),
    }
}

/// Microseconds of this process's CPU that one message costs from socket to price.
fn read_us(source: &Source, tls: Option<&Certificates>) -> f64 {
    let (_exchange, url) = exchange(tls, "1000000");
    let mut session = Session::new(plan(source, &url, tls));
    session.first_price(&mut || Ok(())).expect("a first price");
    let before = machine::cpu_ms(std::process::id()).expect("Linux tells");
    let mut prices = 0;
    while prices < MESSAGES {
        let until = Patience::Until(Instant::now() + Duration::from_secs(10));
        match session.hear(until).expect("the connection stands") {
            Some(Said::Price { .. }) => prices += 1,
            Some(_) => {}
            None => panic!("nothing comes any more"),
        }
    }
    let after = machine::cpu_ms(std::process::id()).expect("Linux tells");
    (after - before) * 1e3 / f64::from(MESSAGES)
}

/// Messages of a stream as they come, and how many nanoseconds reading one takes, on average over all of them.
fn parse_ns(source: &Source) -> (f64, usize) {
    let (_exchange, url) = exchange(None, "20000");
    let Plan {
        endpoints, proxies, ..
    } = plan(source, &url, None);
    let until = Instant::now() + Duration::from_secs(10);
    let opened = Link::open(&endpoints[0], None, &proxies, until, &mut || Ok(()));
    let mut link = opened.expect("the exchange answers");
    let dialect = dialect(source);
    if let Way::Stream(subscribe) = dialect.way {
        for message in subscribe(source.symbol()) {
            link.send(message).expect("the exchange listens");
        }
    }
    let mut topic = Topic {
        symbol: source.symbol(),
        channel: None,
    };
    let mut priced = Vec::new();
    while priced.len() < 500 {
        let text = link.receive(Patience::Until(until));
        let text = text.expect("it stands").expect("a message in time");
        match (dialect.read)(text.as_str(), &topic) {
            Said::Channel(number) => topic.channel = Some(number),
            Said::Price { .. } => priced.push(text),
            _ => {}
        }
    }
    let bytes = priced.iter().map(|text| text.as_str().len()).sum::<usize>() / priced.len();
    let mut rounds: Vec<f64> = Vec::new();
    for _ in 0..50 {
        let began = Instant::now();
        for text in &priced {
            std::hint::black_box((dialect.read)(std::hint::black_box(text.as_str()), &topic));
        }
        rounds.push(began.elapsed().as_nanos() as f64 / priced.len() as f64);
    }
    (median(&rounds), bytes)
}

/// One collector under full rate: how late its samples are, and how much of a core it takes.
fn kept_up(source: &Source, table: &mut Table) {
    let tls = good_certificates();
    let (_exchange, url) = exchange(Some(&tls), RATE);
    let mut command = rsoracle();
    command.args(["run", "--source", &source.name, "--json", "--quiet"]);
    command.args([
        "--control-port",
        "0",
        "--data-port",
        "0",
        "--collectors",
        "1",
    ]);
    command.args(["--endpoint", &url, "--ca-file", &tls.ca]);
    command.args(["--samples", "50", "--interval", "100ms"]);
    command.stdin(Stdio::null());
    let running = start_command(command);
    let collector = running.collector(0);
    std::thread::sleep(Duration::from_secs(2));
    let before = machine::cpu_ms(collector);
    let since = Instant::now();
    std::thread::sleep(Duration::from_secs(2));
    let cpu = machine::cpu_ms(collector)
        .zip(before)
        .map(|(after, before)| 100.0 * (after - before) / since.elapsed().as_millis() as f64);
    let done = running.finish();
    let report = ReportView::read(done.stdout.trim_end());
    let mut late = report.lateness_us().concat();
    late.retain(|us| us.is_finite());
    let what = format!(
        "{}: {RATE} messages a second, samples late, median",
        source.kind.name
    );
    table.at_most(&what, median(&late), 20.0, "µs");
    let oldest = report.collectors.iter().flat_map(|c| &c.samples);
    let ages: Vec<f64> = oldest
        .filter_map(|s| s.age_us)
        .map(|us| us as f64 / 1e3)
        .collect();
    let ages = if ages.is_empty() {
        "the exchange tells no age".to_owned()
    } else {
        format!(
            "prices {} ms old (median), {} ms (oldest)",
            digits(median(&ages)),
            digits(largest(&ages))
        )
    };
    table.remark(&format!(
        "p99 {} µs, {} of 50 samples; {ages}; {} % of a core, {} of 1 signatures",
        digits(quantile(&late, 0.99)),
        late.len(),
        cpu.map_or("?".into(), digits),
        report.signatures_verified
    ));
}

/// Prints the section.
pub fn show(table: &mut Table) {
    let tls = good_certificates();
    let streams: Vec<Source> = KINDS
        .iter()
        .map(|kind| format!("embedded-{}:{}", kind.name, kind.spelling.of("BTC", "USDT")))
        .map(|name| Source::parse(&name).expect("the embedded exchange has it"))
        .filter(|source| matches!(dialect(source).way, Way::Stream(_)))
        .collect();
    for source in &streams {
        let (json_ns, bytes) = parse_ns(source);
        let (plain_us, tls_us) = (read_us(source, None), read_us(source, Some(&tls)));
        let name = source.kind.name;
        let what = format!("{name}: messages a second of CPU, socket to price, over TLS");
        table.at_least(&what, 1e6 / tls_us, 20_000.0, "/s");
        let part = |us: f64| digits(100.0 * us / tls_us);
        let json_us = json_ns / 1e3;
        table.remark(&format!(
            "{} ns to parse one of {bytes} bytes; of {} µs: JSON {} %, websocket and socket {} %, TLS {} %; {}/s without TLS",
            digits(json_ns),
            digits(tls_us),
            part(json_us),
            part(plain_us - json_us),
            part(tls_us - plain_us),
            digits(1e6 / plain_us)
        ));
    }
    for source in &streams {
        kept_up(source, table);
    }
}
