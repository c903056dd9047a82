//! `rsoracle doctor`: what it prints about good sources, and about everything that can be wrong with a source.

mod support;
mod witness;

use rsoracle::exchange::DIALECTS;
use rsoracle::exchange::json::{Json, Spans};
use rsoracle::source::KINDS;
use support::*;

const POLL: &str = "embedded:BTCUSDT";

/// Runs the doctor on sources of the embedded exchange at `url`.
fn doctor(url: &str, more: &[&str]) -> Finished {
    run(&[&["doctor", "--endpoint", url], more].concat())
}

/// Its output, with every run of blanks reduced to one.
fn words(done: &Finished) -> String {
    done.stdout.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Runs the doctor on a source of an exchange with these flags, such as faults.
fn looked_at(source: &str, flags: &[&str]) -> Finished {
    let (_exchange, url) = exchange(flags);
    doctor(&url, &[source])
}

/// Asserts that the source is unusable, and that its lines contain all of `parts`.
fn assert_unusable(done: &Finished, parts: &[&str]) {
    let text = words(done);
    assert_eq!((done.code, done.stderr.as_str()), (Some(1), ""), "{text}");
    assert!(text.ends_with(" 0 of 1 can be used"), "{text}");
    for part in [&[" unusable "], parts].concat() {
        assert!(text.contains(part), "{part} in {text}");
    }
    for line in done.stdout.lines() {
        assert!(line.chars().count() <= 120, "{line}");
    }
}

#[test]
fn a_source_that_is_well_is_one_line() {
    let tls = good_certificates();
    let (_exchange, url) = exchange(&["--cert", &tls.cert, "--key", &tls.key]);
    let url = url.replace("127.0.0.1", "localhost");
    let done = doctor(&url, &[POLL, "--ca-file", &tls.ca]);
    assert_eq!(
        (done.code, done.stderr.as_str()),
        (Some(0), ""),
        "{}",
        done.stdout
    );
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].starts_with("  source ") && lines[2] == "1 of 1 can be used");
    let cells: Vec<&str> = lines[1].split_whitespace().collect();
    let [
        source,
        verdict,
        _,
        "ms",
        _,
        "ms",
        price,
        "-",
        clock,
        "ms",
        days,
        "d,",
        "Test",
        "authority",
    ] = cells[..]
    else {
        panic!("{cells:?}");
    };
    assert_eq!((source, verdict), (POLL, "usable"));
    assert!(price.starts_with("87"), "{price}");
    let clock_ms: f64 = clock.parse().unwrap();
    assert!(clock_ms.abs() < 1_000.0, "{clock_ms}");
    // The certificate expires at the end of the century.
    assert!(days.parse::<i64>().unwrap() > 20_000, "{days}");
}

#[test]
fn every_kind_of_source_can_be_looked_at_by_its_name_alone() {
    let (_exchange, url) = exchange(&[]);
    let names: Vec<String> = KINDS
        .iter()
        .map(|kind| format!("embedded-{}", kind.name))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let done = doctor(&url, &names);
    assert_eq!(
        (done.code, done.stderr.as_str()),
        (Some(0), ""),
        "{}",
        done.stdout
    );
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(lines.len(), 1 + KINDS.len() + 1, "{lines:?}");
    for (line, kind) in lines[1..].iter().zip(&KINDS) {
        let name = format!(
            "  embedded-{}:{} ",
            kind.name,
            kind.spelling.of("BTC", kind.quote)
        );
        assert!(
            line.starts_with(&name) && line.contains(" usable "),
            "{line}"
        );
        assert!(line.chars().count() <= 120, "{line}");
    }
    let sources = |line: &str| -> Vec<String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let given = rsoracle::flags::args::parse(&rsoracle::flags::tables::DOCTOR, &words).unwrap();
        let settings = rsoracle::doctor::DoctorSettings::from_flags(&given).unwrap();
        let names = settings.sources.iter().map(|source| source.name.clone());
        names.collect()
    };
    // Without operands, the doctor examines the exchanges themselves.
    assert_eq!(sources("").len(), KINDS.len());
    assert_eq!(sources("")[4], "kraken:BTC/USD");
    assert_eq!(
        sources("kraken coinbase:SOL-USD --feed BTC/USD,ETH/USD"),
        ["kraken:BTC/USD", "kraken:ETH/USD", "coinbase:SOL-USD"]
    );
}

#[test]
fn without_an_address_it_starts_the_embedded_exchange_itself_and_leaves_no_process() {
    let mark = format!("RSORACLE_TEST_RUN=doctor-{}", std::process::id());
    let (name, value) = mark.split_once('=').unwrap();
    let mut command = rsoracle();
    command
        .args(["doctor", POLL, "embedded-kraken"])
        .env(name, value);
    let done = start_command(command).finish();
    assert_eq!(
        (done.code, done.stderr.as_str()),
        (Some(0), ""),
        "{}",
        done.stdout
    );
    assert!(
        done.stdout.ends_with("2 of 2 can be used\n"),
        "{}",
        done.stdout
    );
    assert_eq!(witness::bearers(&mark), []);
}

/// An address without a path means the embedded exchange's own path.
#[test]
fn an_address_may_lack_its_path() {
    let (_exchange, url) = exchange(&[]);
    let (host, _) = url
        .rsplit_once("/ws-api/v3")
        .expect("the path of the embedded exchange");
    for url in [host.to_owned(), format!("{host}/")] {
        let done = doctor(&url, &[POLL, "embedded-kraken"]);
        assert_eq!(done.code, Some(0), "{}", done.stdout);
    }
    // Another path is taken as it is.
    let done = doctor(&format!("{host}/other"), &[POLL]);
    assert!(
        done.stdout.contains("no websocket API at this path"),
        "{}",
        done.stdout
    );
}

#[test]
fn a_stream_whose_prices_are_old_or_stay_away() {
    for (source, fault, parts) in [
        (
            "embedded-kraken",
            "stale:60s",
            &[
                "no recent price within 5000 ms; the last one is from 2",
                " 60.",
            ][..],
        ),
        (
            "embedded-coinbase",
            "mute",
            &["no price within 5000 ms", "see whether this market trades"],
        ),
        (
            "embedded-kraken:NOSUCH/USD",
            "ping",
            &["unknown symbol NOSUCH/USD"],
        ),
        (
            "embedded-okx:NOSUCH-USDT",
            "ping",
            &["unknown symbol NOSUCH-USDT"],
        ),
        (
            "embedded-bybit",
            "upgrade:503:7",
            &[
                "refused with HTTP 503",
                "Z (Retry-After: 7 s)",
                "down or in maintenance",
            ],
        ),
        (
            "embedded-bitfinex",
            "maintenance",
            &["cannot get a first price"],
        ),
    ] {
        assert_unusable(&looked_at(source, &["--fault", fault]), parts);
    }
}

#[test]
fn a_clock_that_is_off_is_seen_wherever_the_exchange_gives_a_time() {
    for kind in &KINDS {
        let source = format!("embedded-{}", kind.name);
        let done = looked_at(&source, &["--clock-offset", "2s", "--rate", "5"]);
        assert_unusable(
            &done,
            &["this machine's clock is ", " behind the exchange's"],
        );
    }
}

/// Whoever keeps a list of permitted hosts finds them all there.
#[test]
fn every_address_is_in_the_operators_document_in_the_order_of_preference() {
    let page = include_str!("../docs/OPERATING.md");
    for dialect in DIALECTS {
        let hosts = dialect.urls.iter().map(|url| {
            let end = url
                .match_indices('/')
                .nth(2)
                .map_or(url.len(), |(at, _)| at);
            format!("`{}`", &url[..end])
        });
        let hosts: Vec<String> = hosts.collect();
        let row = page.lines().find(|line| {
            let kinds = line.split('|').nth(1).unwrap_or_default();
            let named = format!("`{}`", dialect.name);
            kinds.contains(&named) && line.contains("`wss://")
        });
        let row = row.unwrap_or_else(|| panic!("no addresses of {}", dialect.name));
        assert!(row.contains(&hosts.join(", ")), "{row}");
    }
}

#[test]
fn software_gets_one_object_a_line() {
    let (_exchange, url) = exchange(&["--clock-offset", "-2m"]);
    let done = doctor(&url, &["--json", POLL, "embedded:NOSUCHUSDT"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(1), ""));
    let lines: Vec<&str> = done.stdout.lines().collect();
    let mut spans = [Spans::new(), Spans::new()];
    let both: Vec<Json> = lines
        .iter()
        .zip(&mut spans)
        .map(|(line, spans)| Json::read(line, spans).expect("JSON"))
        .collect();
    assert_eq!(both.len(), 2);
    let get = |of: usize, name: &str| both[of].get(name).expect("every field is there").raw();
    assert_eq!(get(0, "source"), "\"embedded:BTCUSDT\"");
    assert_eq!(get(0, "url"), format!("\"{url}\""));
    assert_eq!(
        (get(0, "issuer"), get(0, "age_us"), get(0, "proxy")),
        ("null", "null", "null")
    );
    let ahead_us: i64 = get(0, "clock_ahead_us").parse().unwrap();
    assert!((120_000_000..180_000_000).contains(&ahead_us), "{ahead_us}");
    assert!(get(0, "price").starts_with("87"));
    assert_eq!(
        (get(1, "verdict"), get(1, "price")),
        ("\"unusable\"", "null")
    );
    assert!(get(1, "problems").contains("unknown symbol NOSUCHUSDT"));
}

#[test]
fn whoever_is_turned_away_is_told_by_whom_and_what_to_do() {
    for (fault, parts) in [
        (
            "upgrade:451",
            &[
                "refused with HTTP 451",
                "does not serve this location",
                "binance-stream",
            ][..],
        ),
        (
            "upgrade:403",
            &["refused with HTTP 403", "a firewall of the exchange"],
        ),
        (
            "upgrade:418",
            &["refused with HTTP 418", "banned this address"],
        ),
        (
            "upgrade:429",
            &[
                "refused with HTTP 429",
                " until 2",
                "Z (Retry-After: 1 s)",
                "wait before",
            ],
        ),
        (
            "status:429:1h",
            &["status 429, code -1003", "; until 2", "too many requests"],
        ),
        (
            "status:418:1h",
            &["status 418, code -1003", "; until 2", "banned this address"],
        ),
    ] {
        assert_unusable(&looked_at(POLL, &["--fault", fault]), parts);
    }
}

#[test]
fn an_exchange_that_says_no_price() {
    for (fault, parts) in [
        (
            "hang",
            &["no price within 5000 ms", "see whether this market trades"][..],
        ),
        ("garbage", &["the reply is not JSON"]),
        ("price:0", &["the price is zero, negative or absurd"]),
        ("drop", &["the connection to the exchange failed"]),
    ] {
        assert_unusable(&looked_at(POLL, &["--fault", fault]), parts);
    }
    assert_unusable(
        &looked_at("embedded:NOSUCHUSDT", &[]),
        &["unknown symbol NOSUCHUSDT", "check the spelling"],
    );
}

#[test]
fn a_clock_that_is_off_is_this_machines_to_mend() {
    let advice = "-> set it: run an NTP client";
    for (offset, says) in [
        ("3s", " behind the exchange's"),
        (
            "-1h",
            "this machine's clock is 60 min ahead of the exchange's",
        ),
    ] {
        let done = looked_at(POLL, &["--clock-offset", offset]);
        assert_unusable(&done, &[says, advice]);
    }
    let done = looked_at(POLL, &["--clock-offset", "400ms"]);
    assert_eq!(done.code, Some(0), "{}", done.stdout);
}

#[test]
fn nobody_there() {
    let free = nobodys_address();
    let done = doctor(&format!("ws://{free}/ws-api/v3"), &[POLL]);
    assert_unusable(&done, &["Connection refused", "check that it is up"]);
    let done = doctor("ws://nosuchhost.invalid:1/", &[POLL]);
    assert_unusable(
        &done,
        &["cannot resolve nosuchhost.invalid", "/etc/resolv.conf"],
    );
}

#[test]
fn certificates_that_have_ended_or_soon_will() {
    let name = "DNS:localhost,IP:127.0.0.1";
    let utc = |us| rsoracle_proof::utc::utc_text(us)[..19].replace(['-', 'T', ':'], "") + "Z";
    let now_us = rsoracle::system::now::wall_us();
    const DAY_US: u64 = 86_400_000_000;
    let looked_at = |to_us| {
        let tls = certificates(name, "20200101000000Z", &utc(to_us));
        let (_exchange, url) = exchange(&["--cert", &tls.cert, "--key", &tls.key]);
        doctor(&url, &[POLL, "--ca-file", &tls.ca])
    };
    let expired = looked_at(now_us - DAY_US);
    assert_unusable(
        &expired,
        &["its certificate has expired; check this machine's clock"],
    );
    let soon = looked_at(now_us + 9 * DAY_US + DAY_US / 2);
    let text = words(&soon);
    assert_eq!(soon.code, Some(0), "{text}");
    for part in [
        " warning ",
        " 9 d, Test authority ",
        "its certificate expires in 9 days",
        "1 of 1 can be used",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn one_that_fails_hides_no_other_and_a_source_needs_no_symbol() {
    let (_exchange, url) = exchange(&[]);
    let done = doctor(
        &url,
        &[
            "embedded:NOSUCHUSDT",
            POLL,
            "embedded-binance-book",
            "--feed",
            "XMR/USD",
        ],
    );
    let text = words(&done);
    assert_eq!(done.code, Some(1), "{text}");
    assert!(text.contains(" embedded:BTCUSDT usable "), "{text}");
    assert!(
        text.contains("! embedded-binance-book:XMRUSDC unusable "),
        "{text}"
    );
    assert!(text.ends_with("1 of 3 can be used"), "{text}");
}
