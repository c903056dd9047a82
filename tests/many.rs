//! More collectors than a listener's queue holds (128): all of them join, and no honest one is counted as refused. More feeds
//! than anybody watches by hand: one connection of each collector serves all of them.

mod support;

use rsoracle::source::recorded;
use support::*;

/// Every kind of source, from the embedded exchange.
const KINDS: &str = "embedded,embedded-binance-book,embedded-binance-stream,embedded-coinbase,embedded-kraken,embedded-bitstamp,embedded-bitfinex,embedded-gemini,embedded-crypto.com,embedded-okx,embedded-bybit";

/// Starts rounds without end of these feeds, with a collector of each kind.
fn priced(feeds: &str, url: &str) -> Running {
    let what = ["run", "--feed", feeds, "--source", KINDS, "--endpoint", url];
    let rounds = ["--samples", "3", "--interval", "300ms", "--every", "3s"];
    let ports = ["--control-port", "0", "--data-port", "0", "--json"];
    start(&[&what[..], &rounds, &ports].concat())
}

/// The reports of a feed so far.
fn reports(running: &Running, feed: &str) -> Vec<String> {
    let own = format!("\"feed\":\"{feed}\"");
    let text = running.stdout();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().filter(|line| line.contains(&own));
    lines.map(str::to_owned).collect()
}

/// The connections to the exchange at `url` that a process has, by the system's table.
fn connections(url: &str) -> usize {
    let port: u16 = url.split(['/', ':']).nth(4).unwrap().parse().unwrap();
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the system's table");
    let to = format!(" 0100007F:{port:04X} 01 ");
    table.lines().filter(|line| line.contains(&to)).count()
}

#[test]
fn every_kind_of_source_prices_all_that_is_recorded_over_one_connection() {
    let (_exchange, url) = exchange(&[]);
    let feeds: Vec<String> = recorded::bases()
        .map(|base| format!("{base}/USD"))
        .collect();
    let running = priced(&feeds.join(","), &url);
    for feed in &feeds {
        eventually("a round in which all kinds count", || {
            let all = |report: &String| report.contains("\"prices\":11,");
            reports(&running, feed).iter().any(all).then_some(())
        });
    }
    assert_eq!(connections(&url), 11);
}

#[test]
fn a_symbol_that_is_refused_falls_silent_or_is_halted_costs_no_other_a_price() {
    let faults = [
        "ETH/refuse",
        "SOL/mute",
        "XRP/halt",
        "ADA/mute@3..",
        "BNB/price:NaN",
    ];
    let flags = faults.map(|fault| ["--fault", fault]).concat();
    let (_exchange, url) = exchange(&flags);
    let running = priced(
        "BTC/USD,ETH/USD,SOL/USD,XRP/USD,ADA/USD,BNB/USD,LTC/USD",
        &url,
    );
    for feed in ["BTC/USD", "LTC/USD"] {
        eventually("three rounds in which all kinds count", || {
            let reports = reports(&running, feed);
            let all = reports
                .iter()
                .filter(|report| report.contains("\"prices\":11,"));
            (all.count() >= 3).then_some(())
        });
    }
    // A round's report is printed if it has a price.
    for feed in ["ETH/USD", "SOL/USD", "XRP/USD", "BNB/USD"] {
        let reports = reports(&running, feed);
        assert!(reports.is_empty(), "{feed}: {reports:?}");
    }
    running.stderr_line("ETH/USD, SOL/USD, XRP/USD, BNB/USD: no price: 0 of 11 collectors");
    // Nor a connection: an exchange that answers about the others is alive.
    let stderr = running.stderr();
    assert!(!stderr.contains("stopped answering"), "{stderr}");
}

/// All must answer within a second and a half. A busy machine may not manage that in every round, so the first round in which
/// it does is checked.
#[test]
fn a_hundred_and_fifty_collectors_all_get_in_and_all_count() {
    let running = start(&[
        "run",
        "--collectors",
        "150",
        "--source",
        "embedded:BTCUSDT",
        "--samples",
        "1",
        "--interval",
        "1s",
        "--every",
        "5s",
        "--ready-timeout",
        "4m",
        "--control-port",
        "0",
        "--data-port",
        "0",
        "--json",
    ]);
    eventually("a round in which all count", || {
        let counted = "\"signatures_verified\":150";
        running.stdout().contains(counted).then_some(())
    });
    let refused = "is in no slot of the roster";
    assert!(
        !running.stdout().contains(refused),
        "a preamble was judged before the hello that came before it"
    );
    let said = running.stderr();
    assert!(
        !said.contains("started again"),
        "all got in at once: {said}"
    );
}
