//! The main job, end to end, as a user runs it: one verified price.

mod support;
mod witness;

use rsoracle::exchange::json;
use std::net::TcpListener;
use support::*;
use witness::*;

#[test]
fn five_signed_collectors_make_one_verified_price() {
    let done = run(&[
        "run",
        "--source",
        "embedded:BTCUSDT",
        "--samples",
        "5",
        "--interval",
        "1s",
        "--ready-timeout",
        "2m",
        "--control-port",
        "0",
        "--data-port",
        "0",
    ]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let line = done.stdout.trim_end();
    assert!(line.starts_with("embedded BTC/USD 872"), "{line}");
    let rest = "(5 of 5 signatures verified, trimmed mean, tolerates 1 faulty collector of 5, 0 faulty exchanges of 1, 0 faulty quote currencies of 1 (USDT), 20";
    assert!(line.contains(rest) && line.ends_with("Z)"), "{line}");
    assert!(
        done.stderr
            .lines()
            .all(|line| line.starts_with("embedded ")),
        "every line bears the mark: {}",
        done.stderr
    );
}

#[test]
fn over_tls_with_a_named_authority_the_price_comes_as_json() {
    let tls = good_certificates();
    let (_exchange, url) = exchange(&["--cert", &tls.cert, "--key", &tls.key]);
    let done = run(&[
        "run",
        "--source",
        "embedded:BTCUSDT",
        "--endpoint",
        &url.replace("127.0.0.1", "localhost"),
        "--ca-file",
        &tls.ca,
        "--samples",
        "3",
        "--interval",
        "1s",
        "--ready-timeout",
        "2m",
        "--control-port",
        "0",
        "--data-port",
        "0",
        "--json",
        "--quiet",
    ]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    // If a busy machine keeps a collector from its work, the collector says so.
    let mut lines = done.stderr.lines();
    assert!(
        lines.all(|line| line.starts_with("embedded collector ")),
        "no progress: {}",
        done.stderr
    );
    assert_eq!(json::check(&done.stdout), Ok(()));
    assert!(
        done.stdout.contains("\"signatures_verified\":5")
            && done.stdout.contains("\"embedded\":true"),
        "{}",
        done.stdout
    );
}

#[test]
#[ignore = "needs namespaces"]
fn ports_that_are_in_use_do_not_stop_a_run_that_named_none() {
    // In a network of its own no other program takes or frees these ports.
    if resolver_file().is_none() {
        let this = "ports_that_are_in_use_do_not_stop_a_run_that_named_none";
        return in_a_network_of_its_own(this);
    }
    let _held = [8000, 8080].map(|port| TcpListener::bind(("127.0.0.1", port)).unwrap());
    let args = ["run", "--source", "embedded:BTCUSDT", "--samples", "2"];
    let done = run(&args);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    for port in ["port 8000 is in use", "port 8080 is in use"] {
        assert!(done.stderr.contains(port), "{}", done.stderr);
    }
    let named = run(&[&args[..], &["--control-port", "8000"]].concat());
    assert_eq!(named.code, Some(1), "{}", named.stderr);
    let advice =
        "choose another port with --control-port PORT, or stop the program that uses this one";
    assert!(named.stderr.contains(advice), "{}", named.stderr);
}
