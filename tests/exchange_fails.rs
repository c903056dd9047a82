//! The exchange cannot be reached, or refuses: every collector logs why and what to do, and there is no price.

mod published;
mod support;
mod witness;

use published::*;
use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;
use support::*;
use witness::*;

/// How long collectors may retry after failures that may pass.
const READY: Duration = Duration::from_secs(8);
/// How much longer a run may take on a busy machine. Less than a connection may take to open (20 s), which no run may wait for.
const SLACK: Duration = Duration::from_secs(15);

const SOURCE: [&str; 2] = ["--source", "embedded:BTCUSDT"];

/// The slots whose collectors logged `part`, in a line of their own or in a summary of several.
fn speakers(stderr: &str, part: &str) -> BTreeSet<u16> {
    let mut slots = BTreeSet::new();
    for line in stderr.lines().filter(|line| line.contains(part)) {
        let line = line.trim_start_matches("embedded ");
        let Some((_, rest)) = line.split_once("collector") else {
            continue;
        };
        let who = rest.trim_start_matches('s').trim_start();
        let end = who.find([':', 's']).unwrap_or(0);
        for run in who[..end].split(", ") {
            let (first, last) = run.split_once('-').unwrap_or((run, run));
            let number = |text: &str| text.trim().parse::<u16>().ok();
            if let (Some(first), Some(last)) = (number(first), number(last)) {
                slots.extend(first..=last);
            }
        }
    }
    slots
}

/// Asserts that there is no price, and that at least `least` of three collectors logged all of `parts` in one line.
fn assert_no_price(done: &Finished, least: usize, parts: &[&str]) {
    let text = &done.stderr;
    assert_eq!((done.code, done.stdout.as_str()), (Some(3), ""), "{text}");
    let line = text
        .lines()
        .find(|line| parts.iter().all(|part| line.contains(part)));
    assert!(line.is_some(), "{parts:?} in one line of {text}");
    for part in parts {
        let said_by = speakers(text, part).len();
        assert!(said_by >= least, "{said_by} said {part:?} in {text}");
    }
    let last = "no price: 0 of 3 collectors became ready, 2 are needed (quorum)";
    assert!(text.contains(last), "{text}");
}

/// Number of collectors that must log why they fail. After two have failed there is no quorum; the third has one more
/// second to log its reason, which may be too short on a busy machine.
const TOO_MANY: usize = 2;

/// Runs three collectors against a permanent failure: the run ends without waiting for its ready timeout.
fn fails_for_good(args: &[&str], parts: &[&str]) {
    let (mut command, mark) = marked_run(&["--collectors", "3", "--ready-timeout", "1h"]);
    command.args(args);
    assert_no_price(&start_command(command).finish(), TOO_MANY, parts);
    assert_eq!(bearers(&mark), [], "nobody is left");
}

/// Runs three collectors against a transient failure: they retry until the ready timeout.
fn fails_for_now(command: Command, mark: &str, parts: &[&str]) {
    let done = start_command(command).finish();
    assert_no_price(&done, 3, &[parts, &["trying again"]].concat());
    let why = "no first price from the exchange in time";
    assert!(done.stderr.contains(why), "{}", done.stderr);
    assert!(done.took < READY + SLACK, "took {:?}", done.took);
    assert_eq!(bearers(mark), [], "nobody is left");
}

fn trying(args: &[&str]) -> (Command, String) {
    let patience = format!("{}ms", READY.as_millis());
    let (mut command, mark) = marked_run(&["--collectors", "3", "--ready-timeout", &patience]);
    command.args(args);
    (command, mark)
}

fn fails_at(url: &str, parts: &[&str]) {
    let (mut command, mark) = trying(&SOURCE);
    command.args(["--endpoint", url]);
    fails_for_now(command, &mark, parts);
}

#[test]
#[ignore = "needs namespaces"]
fn a_name_that_does_not_exist() {
    // The domain is reserved for this (RFC 6761). In a separate network namespace, the query does not leave the machine.
    let (mut command, mark) = trying(&SOURCE);
    command.args(["--endpoint", "ws://nosuchhost.invalid:1/ws-api/v3"]);
    let command = apart("true", &command);
    let advice = "check the name, this machine's network and /etc/resolv.conf";
    fails_for_now(
        command,
        &mark,
        &["cannot resolve nosuchhost.invalid", advice],
    );
}

#[test]
#[ignore = "needs namespaces"]
fn an_address_that_swallows_every_packet() {
    let (mut command, mark) = trying(&SOURCE);
    command.args(["--endpoint", IN_THE_ABYSS]);
    let attempt = "cannot connect to 10.9.9.9:9: no TCP connection within 800 ms";
    fails_for_now(apart(ABYSS, &command), &mark, &[attempt, "firewall"]);
}

#[test]
fn a_port_where_nobody_listens() {
    let free = nobodys_address();
    let attempt = format!("cannot connect to {free}: Connection refused");
    let advice = "check that it is up";
    fails_at(&format!("ws://{free}/ws-api/v3"), &[&attempt, advice]);
}

#[test]
fn a_run_without_a_price_names_what_examines_its_sources() {
    let proxy = format!("http://{}", nobodys_address());
    let names = "; 'rsoracle doctor kraken:BTC/USD' examines what can be reached";
    let soon = ["--collectors", "3", "--ready-timeout", "200ms"];
    let live = ["--source", "kraken", "--proxy", &proxy];
    let roots = good_certificates().ca;
    let many = ["--every", "1s", "--samples", "1", "--rounds", "3"];
    for rounds in [&[][..], &many] {
        let (mut command, _) = marked_run(&soon);
        command.args(live).args(rounds).env("SSL_CERT_FILE", &roots);
        let done = start_command(command).finish();
        assert_eq!(done.code, Some(3), "{}", done.stderr);
        let first = done.stderr.lines().find(|line| line.contains("no price:"));
        let first = first.unwrap_or_else(|| panic!("{}", done.stderr));
        assert!(first.contains(names), "{first}");
    }
    // Recorded prices need no network.
    let (mut command, _) = marked_run(&soon);
    let nobody = format!("ws://{}/ws-api/v3", nobodys_address());
    command.args(SOURCE).args(["--endpoint", &nobody]);
    let done = start_command(command).finish();
    assert!(!done.stderr.contains("rsoracle doctor"), "{}", done.stderr);
}

#[test]
fn a_network_that_cannot_be_reached() {
    // Linux refuses TCP to a multicast address without sending anything.
    let attempt = "cannot connect to 224.0.0.1:9: Network is unreachable";
    fails_at("ws://224.0.0.1:9/ws-api/v3", &[attempt, "firewall"]);
}

#[test]
fn an_exchange_that_accepts_and_says_nothing() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("wss://{}/ws-api/v3", silent.local_addr().unwrap());
    let (command, mark) = trying(&[&SOURCE[..], &["--endpoint", &url]].concat());
    let done = start_command(command).finish();
    assert_eq!((done.code, done.stdout.as_str()), (Some(3), ""));
    let why = "no first price from the exchange in time";
    assert!(done.stderr.contains(why), "{}", done.stderr);
    assert!(done.took < READY + SLACK, "took {:?}", done.took);
    assert_eq!(bearers(&mark), [], "nobody is left");
}

#[test]
fn a_certificate_that_is_not_trusted() {
    let (tls, other) = (good_certificates(), good_certificates());
    let (_exchange, url) = exchange(&["--cert", &tls.cert, "--key", &tls.key]);
    let url = url.replace("127.0.0.1", "localhost");
    let args = [&SOURCE[..], &["--endpoint", &url]].concat();
    let advice = "name its root authority with --ca-file if you trust it";
    let parts = ["cannot complete the TLS handshake with localhost:", advice];
    fails_for_good(&args, &parts);
    fails_for_good(&[&args[..], &["--ca-file", &other.ca]].concat(), &parts);
}

#[test]
fn a_certificate_that_has_expired_or_is_not_valid_yet() {
    let name = "DNS:localhost,IP:127.0.0.1";
    for (from, to, cause) in [
        ("20200101000000Z", "20200201000000Z", "has expired"),
        ("20980101000000Z", "20991231235959Z", "not yet valid"),
    ] {
        let tls = certificates(name, from, to);
        let (_exchange, url) = exchange(&["--cert", &tls.cert, "--key", &tls.key]);
        let args = ["--endpoint", &url, "--ca-file", &tls.ca];
        let advice = "check this machine's clock";
        fails_for_good(&[&SOURCE[..], &args].concat(), &[cause, advice]);
    }
}

#[test]
fn a_certificate_for_another_host() {
    let always = ("20200101000000Z", "20991231235959Z");
    let tls = certificates("DNS:example.org", always.0, always.1);
    let (_exchange, url) = exchange(&["--cert", &tls.cert, "--key", &tls.key]);
    for (host, advice) in [
        (
            "127.0.0.1",
            "its certificate is not for the address 127.0.0.1",
        ),
        ("localhost", "its certificate is not for localhost"),
    ] {
        let url = url.replace("127.0.0.1", host);
        let args = ["--endpoint", &url, "--ca-file", &tls.ca];
        fails_for_good(&[&SOURCE[..], &args].concat(), &["mismatch", advice]);
    }
}

#[test]
fn an_exchange_without_tls_where_tls_was_asked_for() {
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    plain.set_nonblocking(true).unwrap();
    let url = format!("wss://{}/ws-api/v3", plain.local_addr().unwrap());
    let (mut command, _) = marked_run(&["--collectors", "3", "--ready-timeout", "1h"]);
    command.args(SOURCE).args(["--endpoint", &url]);
    let mut running = start_command(command);
    eventually("three collectors are told in plain HTTP", || {
        if let Ok((mut stream, _)) = plain.accept() {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
        running.ended().then_some(())
    });
    let advice = "what answers there does not speak TLS";
    let parts = ["wrong version number", advice];
    assert_no_price(&running.finish(), TOO_MANY, &parts);
}

#[test]
fn an_upgrade_that_is_refused() {
    for (status, advice) in [
        (
            "451",
            "the exchange does not serve this location; use another source",
        ),
        ("403", "a firewall of the exchange refuses this address"),
        ("418", "stay away until the ban ends"),
        ("429", "wait before the next try"),
    ] {
        let (_exchange, url) = exchange(&["--fault", &format!("upgrade:{status}")]);
        let cause = format!("cannot open a websocket at {url}: refused with HTTP {status} ");
        let args = ["--endpoint", &url];
        fails_for_good(&[&SOURCE[..], &args].concat(), &[&cause, advice]);
    }
}

#[test]
fn a_symbol_that_is_not_known() {
    // Binance does not trade it, so the embedded exchange does not either. A run that starts the exchange itself knows.
    let (_exchange, url) = exchange(&[]);
    let symbol = ["--source", "embedded:BTCUSD", "--endpoint", &url];
    let cause = "unknown symbol BTCUSD (status 400, code -1121";
    fails_for_good(&symbol, &[cause, "check the spelling of the source"]);
}

#[test]
fn without_a_round_there_is_still_a_report_for_software_and_no_price_in_it() {
    let (_exchange, url) = exchange(&[]);
    let done = run(&[
        "run",
        "--source",
        "embedded:BTCUSD",
        "--endpoint",
        &url,
        "--collectors",
        "3",
        "--json",
        "--quiet",
        "--control-port",
        "0",
        "--data-port",
        "0",
    ]);
    assert_eq!(done.code, Some(3), "{}", done.stderr);
    assert_eq!(rsoracle::exchange::json::check(&done.stdout), Ok(()));
    let part = "\"price\":null,\"decision\":\"no-quorum\",\"time\":null";
    assert!(done.stdout.contains(part), "{part} in {}", done.stdout);
    let report = Published::of(&done);
    // The report of the round that could not begin: all collectors are silent in it.
    report.assert_on_time(&done);
    let seen = (report.time_us, report.prices, report.signatures_verified);
    assert_eq!(seen, (None, 0, 0));
    assert_eq!(report.collectors.len(), 3);
    for slot in &report.collectors {
        assert_eq!((slot.standing.as_str(), slot.price), ("silent", None));
        assert!(slot.samples.is_empty());
    }
}

#[test]
fn a_ban_in_answer_to_the_first_request() {
    let (_exchange, url) = exchange(&["--fault", "status:418:1h"]);
    let args = ["--endpoint", &url];
    let parts = ["status 418, code -1003", "stay away until the ban ends"];
    fails_for_good(&[&SOURCE[..], &args].concat(), &parts);
}

#[test]
fn too_many_requests_in_answer_to_the_first_one() {
    let (_exchange, url) = exchange(&["--fault", "status:429:100ms"]);
    fails_at(
        &url,
        &["status 429, code -1003", "wait until the exchange allows"],
    );
}

#[test]
fn what_is_no_price_in_answer_to_the_first_request() {
    let all = [
        ("garbage", "the reply is not JSON"),
        ("price:0", "the price is zero, negative or absurd"),
        ("large", "Space limit exceeded"),
        ("drop", "cannot get a first price of BTCUSDT"),
    ];
    // All at once, since each takes its ready timeout.
    let running = all.map(|(fault, cause)| {
        let (exchange, url) = exchange(&["--fault", fault]);
        let (mut command, _) = trying(&SOURCE);
        command.args(["--endpoint", &url]);
        (exchange, start_command(command), cause)
    });
    for (_exchange, running, cause) in running {
        assert_no_price(&running.finish(), 3, &[cause, "trying again"]);
    }
}

#[test]
fn an_exchange_that_comes_up_late_is_waited_for() {
    let free = nobodys_address();
    let url = format!("ws://{free}/ws-api/v3");
    let (command, _) = marked_run(
        &[
            &SOURCE[..],
            &["--ready-timeout", "1h", "--samples", "5"],
            &["--endpoint", &url],
        ]
        .concat(),
    );
    let running = start_command(command);
    running.stderr_line("Connection refused");
    let _exchange = start(&["exchange", "--listen", &free.to_string()]);
    let done = running.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stdout.contains("5 of 5 signatures"), "{}", done.stdout);
}
