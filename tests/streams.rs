//! Every stream end to end: the real binary reads the embedded exchange, which behaves as each exchange does, and then has
//! faults. All dialects run at once, since each test waits more than it computes. A round has one collector, because what is
//! tested is how a collector reads its exchange.

mod published;
mod support;
mod witness;

use published::*;
use rsoracle_proof::reason::Miss;
use std::time::Duration;
use support::*;
use witness::*;

/// The kinds of source that send streams, each with a symbol.
const STREAMS: [(&str, &str); 9] = [
    ("binance-stream", "BTCUSDT"),
    ("coinbase", "BTC-USD"),
    ("kraken", "BTC/USD"),
    ("bitstamp", "btcusd"),
    ("bitfinex", "tBTCUSD"),
    ("gemini", "btcusd"),
    ("crypto.com", "BTC_USD"),
    ("okx", "BTC-USDT"),
    ("bybit", "BTCUSDT"),
];
/// The kind whose prices do not always have a time.
const WITHOUT_TIME: &str = "binance-stream";
/// The kinds that require pings from their clients.
const PINGED: [&str; 2] = ["okx", "bybit"];
const STALE: &str = "the exchange lives, and says no price that is young enough";
const NOT_JSON: &str = "the reply is not JSON";
const NOT_DECIMAL: &str = "the price is no decimal number";
const TOO_FEW: &str = "fewer than 80 % of the samples are valid";
/// Twenty prices per second since the connection was opened, however busy the machine.
const BRISK: [&str; 2] = ["--rate", "20"];

/// A round of which four samples may be missing: a busy machine takes up to three seconds to open a connection anew.
const LENIENT: [&str; 4] = ["--samples", "20", "--interval", "1s"];

/// Starts a round of one collector of the source `kind:symbol` at `url`.
fn round(kind: &str, symbol: &str, url: &str, args: &[&str]) -> Running {
    let source = format!("embedded-{kind}:{symbol}");
    let (mut command, _) = marked_run(&["--source", &source, "--endpoint", url, "--json"]);
    command.args(["--collectors", "1"]).args(args);
    if !args.contains(&"--ready-timeout") {
        command.args(["--ready-timeout", "60s"]);
    }
    start_command(command)
}

/// Runs a round for each of these kinds, all with one exchange. Returns the results.
fn rounds(of: &[(&str, &str)], exchange_args: &[&str], args: &[&str]) -> Vec<(String, Finished)> {
    let (_exchange, url) = exchange(exchange_args);
    let start = |(kind, symbol): &(&str, &str)| (kind.to_string(), round(kind, symbol, &url, args));
    let running: Vec<(String, Running)> = of.iter().map(start).collect();
    let ended = |(kind, running): (String, Running)| (kind, running.finish());
    running.into_iter().map(ended).collect()
}

fn priced(kind: &str, done: &Finished) -> Published {
    assert_eq!(done.code, Some(0), "{kind}: {}", done.stderr);
    let report = Published::of(done);
    let price = report.checked_price();
    // The range of prices on the tape.
    assert!((87_200.0..87_262.1).contains(&price), "{kind}: {price}");
    report
}

/// Asserts that the collector abstains for this reason.
fn abstained(kind: &str, done: &Finished, why: &str) -> Published {
    assert_eq!(done.code, Some(3), "{kind}: {}", done.stderr);
    let report = Published::of(done);
    assert_eq!((report.price, report.signatures_verified), (None, 1));
    for slot in &report.collectors {
        assert_eq!(slot.abstains.as_deref(), Some(why), "{kind}");
    }
    let said = format!("abstains: {why}");
    assert!(done.stderr.contains(&said), "{kind}: {}", done.stderr);
    report
}

#[test]
fn every_stream_makes_a_price_with_and_without_tls() {
    let tls = good_certificates();
    let short = ["--samples", "5", "--interval", "1s"];
    let encrypted = [&short[..], &["--ca-file", &tls.ca]].concat();
    for (exchange_args, args) in [
        (vec![], &short[..]),
        (vec!["--cert", &tls.cert, "--key", &tls.key], &encrypted),
    ] {
        for (kind, done) in rounds(&STREAMS, &exchange_args, args) {
            let report = priced(&kind, &done);
            assert_eq!(report.prices, 1, "{kind}: {}", done.stderr);
            report.assert_on_time(&done);
            let unknown = done.stdout.contains("\"age_us\":null,");
            assert!(!unknown || kind == WITHOUT_TIME, "{kind}");
        }
    }
}

#[test]
fn a_connection_is_kept_over_several_periods_of_its_keep_alive() {
    let args = ["--ping-every", "1s", "--max-silence", "24s"];
    let args = [&LENIENT[..], &args].concat();
    for (kind, done) in rounds(&STREAMS, &["--keep-alive", "4s"], &args) {
        priced(&kind, &done);
        assert!(
            !done.stderr.contains("reconnecting"),
            "{kind}: {}",
            done.stderr
        );
    }
}

#[test]
fn who_does_not_ping_where_it_must_is_dropped_and_comes_back() {
    let pinged: Vec<(&str, &str)> = STREAMS
        .into_iter()
        .filter(|(kind, _)| PINGED.contains(kind))
        .collect();
    let args = [&LENIENT[..], &["--ping-every", "1h"]].concat();
    for (kind, done) in rounds(&pinged, &["--keep-alive", "3s"], &args) {
        priced(&kind, &done);
        let dropped = done.stderr.contains("; reconnecting");
        assert!(dropped, "{kind}: {}", done.stderr);
    }
}

#[test]
fn an_announced_restart_is_followed() {
    let faults = [&BRISK[..], &["--fault", "reconnect@240"]].concat();
    for (kind, done) in rounds(&STREAMS, &faults, &LENIENT) {
        priced(&kind, &done);
        let announced = done.stderr.contains("the exchange announces ");
        let silent = ["coinbase", "kraken", "gemini", "crypto.com", "bybit"];
        let told = announced || silent.contains(&kind.as_str());
        assert!(told, "{kind}: {}", done.stderr);
        assert!(
            done.stderr.contains("; reconnecting"),
            "{kind}: {}",
            done.stderr
        );
    }
}

#[test]
fn a_stream_that_says_nothing_at_all_is_opened_anew() {
    let faults = [&BRISK[..], &["--fault", "hang@100"]].concat();
    let args = [&LENIENT[..], &["--max-silence", "3s"]].concat();
    for (kind, done) in rounds(&STREAMS, &faults, &args) {
        // Five seconds of prices, then silence: the last price is not stale yet.
        priced(&kind, &done);
        let given_up = done
            .stderr
            .contains("nothing has come for 3s; reconnecting");
        assert!(given_up, "{kind}: {}", done.stderr);
    }
}

#[test]
fn a_stream_that_lives_and_says_no_price_is_stale() {
    let faults = [&BRISK[..], &["--keep-alive", "100ms", "--fault", "mute@3"]].concat();
    let args = [
        "--samples",
        "20",
        "--interval",
        "300ms",
        "--max-age",
        "400ms",
    ];
    let args = [&args[..], &["--ping-every", "100ms"]].concat();
    for (kind, done) in rounds(&STREAMS, &faults, &args) {
        let report = abstained(&kind, &done, STALE);
        let stale = "the newest price is too old, or none has come";
        let mut samples = report.collectors.iter().flat_map(|slot| &slot.samples);
        let told = samples.any(|sample| sample.missing.as_deref() == Some(stale));
        assert!(told, "{kind}: {}", done.stdout);
        let anew = done
            .stderr
            .contains("the exchange no longer sends prices; reconnecting");
        assert!(anew, "{kind}: {}", done.stderr);
    }
}

#[test]
fn a_bad_message_costs_no_more_than_its_moment_and_nothing_else_makes_no_price() {
    let brisk = |fault: &'static str| [&BRISK[..], &["--fault", fault]].concat();
    // A busy exchange may take a second for the price that follows the bad message.
    let args = ["--samples", "10", "--interval", "1s"];
    for (kind, done) in rounds(&STREAMS, &brisk("garbage@8"), &args) {
        priced(&kind, &done);
    }
    let args = ["--samples", "10", "--interval", "300ms"];
    for fault in [
        "garbage@3..",
        "wrong-symbol@3..",
        "price:NaN@3..",
        "price:0@3..",
    ] {
        let told = |kind: &str| match (kind, fault) {
            // Its prices do not name their symbol.
            ("bitfinex", "wrong-symbol@3..") => vec![],
            (_, "wrong-symbol@3..") => vec!["the reply has another symbol"],
            (_, "garbage@3..") => vec![NOT_JSON],
            // If prices are JSON numbers, an invalid one is not JSON. Bitstamp has both numbers and texts.
            ("bitfinex" | "kraken", "price:NaN@3..") => vec![NOT_JSON],
            ("bitstamp", "price:NaN@3..") => vec![NOT_JSON, NOT_DECIMAL],
            (_, "price:NaN@3..") => vec![NOT_DECIMAL],
            _ => vec!["the price is zero, negative or absurd"],
        };
        for (kind, done) in rounds(&STREAMS, &brisk(fault), &args) {
            let told = told(&kind);
            if told.is_empty() {
                continue;
            }
            let report = abstained(&kind, &done, TOO_FEW);
            for slot in &report.collectors {
                // The reason is not known for a sample that this machine took too late.
                let late = Miss::Overdue.to_string();
                let mut refused = slot.refused();
                refused.retain(|(_, why)| *why != late);
                let reasons = refused.iter().all(|(_, why)| told.contains(why));
                assert!(reasons && refused.len() > 2, "{kind}: {refused:?}");
            }
        }
    }
}

#[test]
fn a_quote_that_is_crossed_or_far_apart_makes_no_price() {
    // The kinds whose price is always that of a quote.
    let quoted = [
        ("binance-book", "BTCUSDT"),
        ("kraken", "BTC/USD"),
        ("bitfinex", "tBTCUSD"),
        ("crypto.com", "BTC_USD"),
        ("okx", "BTC-USDT"),
        ("bybit", "BTCUSDT"),
    ];
    let args = ["--samples", "10", "--interval", "300ms"];
    for (fault, miss) in [
        ("quote:88000:86000@3..", Miss::Crossed),
        ("quote:1:1000000@3..", Miss::TooWide),
    ] {
        let faults = [&BRISK[..], &["--fault", fault]].concat();
        for (kind, done) in rounds(&quoted, &faults, &args) {
            let report = abstained(&kind, &done, TOO_FEW);
            for slot in &report.collectors {
                // The reason is not known for a sample that this machine took too late.
                let mut refused = slot.refused();
                refused.retain(|(_, why)| *why != Miss::Overdue.sentence());
                let all = refused.iter().all(|(_, why)| *why == miss.sentence());
                assert!(all && refused.len() > 2, "{kind}: {refused:?}");
            }
        }
    }
}

#[test]
fn a_stream_of_bad_messages_is_opened_anew_and_does_not_fill_the_log() {
    // Each message has another number and another time, so no two are the same.
    let faults = ["--rate", "500", "--fault", "price:abc@3.."];
    let args = [
        "--samples",
        "10",
        "--interval",
        "200ms",
        "--max-age",
        "300ms",
    ];
    for (kind, done) in rounds(&[("coinbase", "BTC-USD")], &faults, &args) {
        let anew = "the exchange no longer sends prices; reconnecting";
        assert!(done.stderr.contains(anew), "{kind}: {}", done.stderr);
        let said = done.stderr.matches("no price: the price is no").count();
        // One, and another whenever the number in the excerpt gets longer, so that the excerpt ends at an earlier letter.
        assert!((1..=6).contains(&said), "{kind}: {said} lines");
    }
}

#[test]
fn a_large_message_or_a_dropped_connection_is_got_over() {
    // It takes the exchange some time to send twenty megabytes to each of seven collectors.
    for fault in ["large@240", "drop@240"] {
        let faults = [&BRISK[..], &["--fault", fault]].concat();
        for (kind, done) in rounds(&STREAMS, &faults, &LENIENT) {
            priced(&kind, &done);
            let lost = done.stderr.contains("; reconnecting");
            assert!(lost, "{kind}, {fault}: {}", done.stderr);
        }
    }
}

#[test]
fn maintenance_ends_a_connection() {
    let faults = [&BRISK[..], &["--fault", "maintenance@20"]].concat();
    let args = ["--samples", "10", "--interval", "400ms"];
    for (kind, done) in rounds(&STREAMS, &faults, &args) {
        let announced = done.stderr.contains("the exchange announces maintenance");
        let told = ["kraken", "bitfinex"].contains(&kind.as_str());
        assert!(announced || !told, "{kind}: {}", done.stderr);
        assert!(
            done.stderr.contains("; reconnecting"),
            "{kind}: {}",
            done.stderr
        );
    }
}

#[test]
fn a_symbol_that_is_not_known_is_refused_or_silent() {
    let unknown = [
        ("coinbase", "NONE-USD"),
        ("kraken", "NONE/USD"),
        ("bitfinex", "tNONE:USD"),
        ("gemini", "noneusd"),
        ("crypto.com", "NONE_USD"),
        ("okx", "NONE-USDT"),
        ("bybit", "NONEUSDT"),
    ];
    let for_long = ["--feed", "NONE/USD", "--ready-timeout", "1h"];
    for (kind, done) in rounds(&unknown, &[], &for_long) {
        assert_eq!(done.code, Some(3), "{kind}: {}", done.stderr);
        assert!(done.took < READY, "{kind}: {:?}", done.took);
        let told = done.stderr.contains("unknown symbol ");
        assert!(told, "{kind}: {}", done.stderr);
    }
    // These exchanges acknowledge any symbol.
    let silent = [("binance-stream", "NONEUSDT"), ("bitstamp", "noneusd")];
    let shortly = ["--feed", "NONE/USD", "--ready-timeout", "12s"];
    for (kind, done) in rounds(&silent, &[], &shortly) {
        assert_eq!(done.code, Some(3), "{kind}: {}", done.stderr);
        let told = done
            .stderr
            .contains("no price within 5000 ms; see whether this market trades");
        assert!(told, "{kind}: {}", done.stderr);
    }
}

/// Longest time until a permanent failure ends a run, on any machine. The ready timeout is longer.
const READY: Duration = Duration::from_secs(120);

#[test]
fn an_old_price_is_no_first_price_and_an_old_snapshot_is_waited_over() {
    let timed: Vec<(&str, &str)> = STREAMS
        .into_iter()
        .filter(|(kind, _)| *kind != WITHOUT_TIME)
        .collect();
    // In a flood of old prices, there is always something to read.
    let old = ["--rate", "1000", "--fault", "stale:10m"];
    for (kind, done) in rounds(&timed, &old, &["--ready-timeout", "12s"]) {
        assert_eq!(done.code, Some(3), "{kind}: {}", done.stderr);
        let told = "no recent price within 5000 ms; the last one is from 20";
        assert!(done.stderr.contains(told), "{kind}: {}", done.stderr);
    }
    let snapshot = ["--fault", "old-first:10m", "--speed", "3"];
    let args = ["--samples", "5", "--interval", "1s"];
    for (kind, done) in rounds(&timed, &snapshot, &args) {
        let report = priced(&kind, &done);
        assert_eq!(report.prices, 1, "{kind}: {}", done.stderr);
    }
}

#[test]
fn four_exchanges_of_nine_may_be_out_of_reach() {
    let refused = [
        "binance-stream/upgrade:451",
        "bybit/upgrade:403",
        "okx/upgrade:403",
        "gemini/upgrade:503",
    ];
    let faults = refused.map(|fault| ["--fault", fault]).concat();
    let (_exchange, url) = exchange(&faults);
    let (mut command, _) = marked_run(&["--sources", "embedded-diverse", "--endpoint", &url]);
    command.args(["--samples", "5", "--interval", "1s", "--json"]);
    command.args(["--ready-timeout", "15s"]);
    let report = priced("diverse", &start_command(command).finish());
    assert_eq!((report.f, report.prices), (2, 5));
}

#[test]
fn the_roster_of_nine_bears_a_currency_that_loses_its_parity() {
    // Both slots in USDT, for the same reason.
    let (_exchange, url) = exchange(&["--fault", "okx/scale:0.8", "--fault", "bybit/scale:0.8"]);
    let (mut command, _) = marked_run(&["--sources", "embedded-diverse", "--endpoint", &url]);
    command.args([
        "--samples",
        "5",
        "--interval",
        "1s",
        "--json",
        "--min-exchanges",
        "6",
    ]);
    let done = start_command(command).finish();
    let report = priced("diverse", &done);
    assert_eq!(
        (report.f, report.prices, report.collectors.len()),
        (2, 9, 9)
    );
    let lowered = report
        .collectors
        .iter()
        .filter(|slot| slot.price < Some(80_000.0));
    let standing: Vec<&str> = lowered.map(|slot| slot.standing.as_str()).collect();
    assert_eq!(standing, ["trimmed", "trimmed"]);
}

#[test]
fn rounds_without_end_stay_away_from_an_exchange_that_turns_them_away() {
    let (_exchange, url) = exchange(&["--fault", "upgrade:451"]);
    let (mut command, _) = marked_run(&["--source", "embedded-kraken:BTC/USD", "--endpoint", &url]);
    command.args(["--collectors", "3", "--every", "1s", "--rounds", "3"]);
    command.args([
        "--samples",
        "2",
        "--interval",
        "100ms",
        "--ready-timeout",
        "5s",
    ]);
    let done = start_command(command).finish();
    assert_eq!(done.code, Some(3), "{}", done.stderr);
    let told = done
        .stderr
        .contains("the exchange does not serve this location");
    assert!(told, "{}", done.stderr);
    // It neither retries at once nor is restarted to retry.
    assert!(!done.stderr.contains("started again"), "{}", done.stderr);
}
