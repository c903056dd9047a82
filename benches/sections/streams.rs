//! Streams: the CPU time from a message on the socket to a price. (benches/peers compares it with other programs.)
//!
//! First, a session like that of a collector reads the embedded exchange as fast as possible. The cost is the CPU time of
//! this process, so the speed of the exchange, which runs on another core, does not count. Then a whole run gets 20,000
//! messages per second.

use crate::figures::{Table, digits, largest, median, quantile};
use crate::machine;
use crate::rounds::{ReportView, listening};
use crate::support::{Certificates, Running, good_certificates, rsoracle, start_command};
use rsoracle::exchange::Pace;
use rsoracle::exchange::roots::Roots;
use rsoracle::exchange::session::{ExchangeSession, SessionPlan};
use rsoracle::exchange::{Said, Way, dialect, tunnel};
use rsoracle::source::{KINDS, Source};
use rsoracle::system::endpoint::Endpoint;
use rsoracle::system::net::Patience;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Number of prices that are read for one figure.
const MESSAGES: u32 = 100_000;
/// Messages per second that a collector must keep up with.
const RATE: &str = "20000";

fn exchange(tls: &Certificates, rate: &str) -> (Running, String) {
    let mut command = rsoracle();
    command.args(["exchange", "--listen", "127.0.0.1:0", "--poll", "0ms"]);
    command.args(["--rate", rate]);
    command.args(["--cert", &tls.cert, "--key", &tls.key]);
    command.stdin(Stdio::null());
    let running = start_command(command);
    let url = listening(&running).replace("127.0.0.1", "localhost");
    (running, url)
}

fn plan<'a>(sources: &'a [Source], url: &str, tls: &Certificates) -> SessionPlan<'a> {
    let place = Endpoint::parse(url).expect("an address");
    let roots = Roots::find(Some(&tls.ca)).expect("a certificate");
    SessionPlan {
        sources,
        endpoints: rsoracle::exchange::endpoints(&sources[0], Some(&place)),
        tls: Some(roots.trust().expect("TLS can be set up")),
        proxies: tunnel::proxies(None).expect("no proxy is named"),
        pace: Pace::of(&sources[0]),
    }
}

/// CPU time of this process for one message, from socket to price, in microseconds.
fn read_us(source: &Source, tls: &Certificates) -> f64 {
    let (_exchange, url) = exchange(tls, "1000000");
    let mut session = ExchangeSession::new(plan(std::slice::from_ref(source), &url, tls));
    session.first_price(&mut || Ok(())).expect("a first price");
    let before = machine::cpu_ms(std::process::id()).expect("Linux tells");
    let mut prices = 0;
    while prices < MESSAGES {
        let until = Patience::Until(Instant::now() + Duration::from_secs(10));
        match session.hear(until).expect("the connection stands") {
            Some(Said::Price { .. }) => prices += 1,
            Some(_) => {}
            None => panic!("the exchange has stopped sending"),
        }
    }
    let after = machine::cpu_ms(std::process::id()).expect("Linux tells");
    (after - before) * 1e3 / f64::from(MESSAGES)
}

/// Runs one collector at the full rate: how late its samples are, and how much of a core it uses.
fn kept_up(source: &Source, table: &mut Table) {
    let tls = good_certificates();
    let (_exchange, url) = exchange(&tls, RATE);
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
        "the exchange sends no times".to_owned()
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
        let us = read_us(source, &tls);
        let name = source.kind.name;
        let what = format!("{name}: messages a second of CPU, socket to price, over TLS");
        table.at_least(&what, 1e6 / us, 20_000.0, "/s");
        table.remark(&format!("{} µs a message", digits(us)));
    }
    for source in &streams {
        kept_up(source, table);
    }
}
