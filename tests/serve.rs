//! `rsoracle serve`: what is at each path, for journals of one feed and of several, that grow, are cut, or are not there yet.

mod served;
mod signed;
mod support;
mod witness;

use rsoracle::system::now::wall_us;
use rsoracle_proof::report::{Check, Verifier};
use served::*;
use signed::Says::*;
use signed::*;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use support::*;
use witness::*;

/// The signature at the end of a line.
fn signature(line: &str) -> &str {
    &line[line.len() - 130..line.len() - 2]
}

/// A journal of reports with a price, and its server.
fn served(count: usize) -> (Book, Served) {
    let mut book = Book::new(START_US);
    book.grow(count);
    let served = Served::start(&book.path, &[]);
    served.until("/v1/latest", |answered| answered.status == 200);
    (book, served)
}

#[test]
fn the_newest_published_report_is_served_byte_for_byte() {
    let mut book = Book::new(START_US);
    let lines = book.grow(2);
    let unpublished = book.next(&[Price(1.0), Nothing, Nothing, Nothing, Nothing]);
    book.append(&format!("{unpublished}\n"));
    let served = Served::start(&book.path, &[]);
    let answered = served.until("/v1/latest", |answered| answered.status == 200);
    assert_eq!(answered.body, format!("{}\n", lines[1]));
    let tag = format!("\"{}\"", signature(&lines[1]));
    assert_eq!(answered.field("etag"), Some(&*tag));
    assert_eq!(answered.field("content-type"), Some("application/json"));
    assert_eq!(answered.field("access-control-allow-origin"), Some("*"));
    assert_eq!(served.get("/v1/latest?feed=BTC%2FUSD").body, answered.body);
    assert_eq!(served.get("/v1/latest?feed=BTC/USD").body, answered.body);
    // What is served is what the verifier reads.
    let mut verifier = Verifier::new(None);
    let Check { flaws, .. } = verifier.check(answered.body.trim_end(), wall_us());
    assert_eq!(flaws, Vec::<String>::new());

    let mut client = Client::new(served.address);
    for (fields, status) in [
        (format!("If-None-Match: {tag}\r\n"), 304),
        (format!("If-None-Match: \"x\", W/{tag}\r\n"), 304),
        ("If-None-Match: *\r\n".to_owned(), 304),
        ("If-None-Match: \"x\"\r\n".to_owned(), 200),
    ] {
        let answered = client.get("/v1/latest", &fields);
        assert_eq!(answered.status, status, "{fields}");
        assert_eq!(answered.field("etag"), Some(&*tag));
        assert_eq!(answered.body.is_empty(), status == 304);
        assert_eq!(answered.field("content-length").is_none(), status == 304);
    }
}

#[test]
fn the_newest_report_is_cached_for_a_few_seconds_at_most() {
    // A round an hour, whose last sample is at its start.
    let mut book = Book::new(0);
    book.oracle.terms.schedule.period_us = 3_600_000_000;
    let now_us = wall_us();
    let start_us = now_us - now_us % 3_600_000_000;
    let line = book.oracle.line(start_us, &[Price(1.0); 5]);
    book.append(&format!("{line}\n"));
    let served = Served::start(&book.path, &[]);
    let answered = served.until("/v1/latest", |answered| answered.status == 200);
    let caching = answered.field("cache-control").unwrap().to_owned();
    // At the end of an hour less is left.
    let left_s = (start_us + 3_600_000_000).saturating_sub(wall_us()) / 1_000_000;
    assert!(
        caching == "public, max-age=10, must-revalidate" || left_s < 10,
        "{caching} {left_s}"
    );
    let tag = answered.field("etag").unwrap();
    for (path, fields) in [
        ("/v1/latest?wait=1ms", String::new()),
        ("/v1/latest?wait=1ms", format!("If-None-Match: {tag}\r\n")),
    ] {
        let answered = Client::new(served.address).get(path, &fields);
        assert_eq!(answered.field("cache-control"), Some("no-store"), "{path}");
    }
    // A price that must not be older than some time is not cached for longer than it may be used.
    let age_us = wall_us() - start_us;
    let max_age = format!("/v1/latest?max_age={}s", age_us / 1_000_000 + 5);
    if let Some(caching) = served.get(&max_age).field("cache-control") {
        let said = caching.strip_prefix("public, max-age=");
        let said = said.and_then(|rest| rest.strip_suffix(", must-revalidate"));
        let said = said.map_or(0, |s| s.parse().unwrap());
        assert!(said <= 5, "{caching}");
    }
}

#[test]
fn a_price_that_is_too_old_is_refused_on_request() {
    let (_, served) = served(1);
    let answered = served.get("/v1/latest?max_age=15s");
    assert_eq!((answered.status, answered.error()), (503, "stale"));
    assert!(
        answered.body.contains(",\"time_us\":1700000000"),
        "{}",
        answered.body
    );
    assert_eq!(answered.field("cache-control"), Some("no-store"));
    assert_eq!(served.get("/v1/latest?max_age=900000h").status, 200);
    for query in ["max_age=15", "max_age=", "max_age=1s&max_age=2s", "wait=x"] {
        let answered = served.get(&format!("/v1/latest?{query}"));
        assert_eq!(
            (answered.status, answered.error()),
            (400, "bad-parameter"),
            "{query}"
        );
    }
    // A mistyped parameter must not let a stale price pass.
    let answered = served.get("/v1/latest?maxage=15s");
    assert_eq!(
        (answered.status, answered.error()),
        (400, "unknown-parameter")
    );
}

#[test]
fn a_long_poll_is_answered_by_the_next_published_report() {
    let (mut book, served) = served(1);
    let tag = format!("If-None-Match: \"{}\"\r\n", signature(&book.lines[0]));
    let mut client = Client::new(served.address);
    let answered = client.get("/v1/latest?wait=20ms", &tag);
    assert_eq!(answered.status, 304, "nothing came");
    client.send(&format!(
        "GET /v1/latest?wait=60s HTTP/1.1\r\nHost: here\r\n{tag}\r\n"
    ));
    // A report that is not published does not end the wait.
    let unpublished = book.next(&[Abstains; 5]);
    book.append(&format!("{unpublished}\n"));
    served.until("/v1/reports/2", |answered| answered.status == 200);
    let line = book.grow(1).remove(0);
    let answered = client.answer(true);
    assert_eq!((answered.status, answered.body), (200, format!("{line}\n")));
    // So does one for a price that is young enough.
    let mut young = Book::new(start_before(wall_us()));
    client.send("GET /v1/latest?wait=60s&max_age=1h HTTP/1.1\r\nHost: here\r\n\r\n");
    young.oracle.number = 4;
    young.oracle.previous = book.oracle.previous;
    let line = young.next(&[Price(7.0); 5]);
    book.append(&format!("{line}\n"));
    assert_eq!(client.answer(true).body, format!("{line}\n"));
}

#[test]
fn reports_are_found_by_number_and_by_time() {
    let (book, served) = served(3);
    for (at, line) in book.lines.iter().enumerate() {
        let answered = served.get(&format!("/v1/reports/{}", at + 1));
        assert_eq!(
            (answered.status, &answered.body),
            (200, &format!("{line}\n"))
        );
        assert_eq!(
            answered.field("cache-control"),
            Some("public, max-age=10, must-revalidate")
        );
        let tag = format!("\"{}\"", signature(line));
        assert_eq!(answered.field("etag"), Some(&*tag));
        let us = START_US + at as u64 * GRID_US;
        for us in [us, us + GRID_US - 1] {
            let answered = served.get(&format!("/v1/at/{us}"));
            assert_eq!(answered.status, 302);
            assert_eq!(
                answered.field("location"),
                Some(&*format!("/v1/reports/{}", at + 1))
            );
            let settled = at < 2;
            assert_eq!(
                answered.field("cache-control") == Some("no-store"),
                !settled
            );
        }
    }
    let answered = served.get(&format!("/v1/at/{START_US}?feed=BTC%2FUSD"));
    assert_eq!(
        answered.field("location"),
        Some("/v1/reports/1?feed=BTC%2FUSD")
    );
    let answered = served.get(&format!("/v1/at/{}", START_US - 1));
    assert_eq!((answered.status, answered.error()), (404, "too-early"));
    for (number, status, error) in [
        ("4", 404, "not-yet"),
        ("0", 404, "not-kept"),
        ("01", 400, "bad-number"),
        ("-1", 400, "bad-number"),
        ("+1", 400, "bad-number"),
        ("1.0", 400, "bad-number"),
        ("", 400, "bad-number"),
        ("%31", 400, "bad-number"),
        ("99999999999999999999999", 400, "bad-number"),
        ("18446744073709551615", 404, "not-yet"),
        ("1/", 400, "bad-number"),
    ] {
        let answered = served.get(&format!("/v1/reports/{number}"));
        assert_eq!(
            (answered.status, answered.error()),
            (status, error),
            "{number}"
        );
    }
}

#[test]
fn tiles_have_256_reports_and_never_change_once_they_are_full() {
    let (book, served) = served(300);
    let text = |lines: &[String]| {
        lines
            .iter()
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    };
    let full = served.get("/v1/tiles/0");
    assert!(full.body == text(&book.lines[..256]), "the first tile");
    assert_eq!(
        full.field("cache-control"),
        Some("public, max-age=10, must-revalidate")
    );
    assert_eq!(
        full.field("etag"),
        Some(&*format!("\"{}\"", signature(&book.lines[255])))
    );
    let begun = served.get("/v1/tiles/1");
    assert!(begun.body == text(&book.lines[256..]), "the second tile");
    assert_eq!(begun.field("cache-control"), Some("no-cache"));
    assert_eq!(begun.field("etag"), None);
    for tile in ["2", "18446744073709551615", "72057594037927936"] {
        assert_eq!(served.get(&format!("/v1/tiles/{tile}")).error(), "no-tile");
    }
}

#[test]
fn several_feeds_have_answers_of_their_own() {
    let mut book = Book::new(START_US);
    let mut other = Book::new(START_US);
    other.oracle.terms.feed = "ETH/USD".to_owned();
    for _ in 0..5 {
        let lines = [
            book.next(&[Price(100_000.0); 5]),
            other.next(&[Price(3_000.0); 5]),
        ];
        book.append(&format!("{}\n{}\n", lines[0], lines[1]));
    }
    let served = Served::start(&book.path, &[]);
    served.until("/ready", |answered| !answered.body.contains("being read"));
    let missing = served.get("/v1/latest");
    assert_eq!((missing.status, missing.error()), (400, "feed-missing"));
    let unknown = served.get("/v1/latest?feed=DOGE/USD");
    assert_eq!((unknown.status, unknown.error()), (404, "unknown-feed"));
    for (name, lines) in [("BTC%2FUSD", &book.lines), ("ETH%2FUSD", &other.lines)] {
        assert_eq!(
            served.get(&format!("/v1/latest?feed={name}")).body,
            format!("{}\n", lines[4])
        );
        assert_eq!(
            served.get(&format!("/v1/reports/2?feed={name}")).body,
            format!("{}\n", lines[1])
        );
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        assert!(
            served.get(&format!("/v1/tiles/0?feed={name}")).body == text,
            "{name}"
        );
        let at = served.get(&format!("/v1/at/{START_US}?feed={name}"));
        assert_eq!(
            at.field("location"),
            Some(&*format!("/v1/reports/1?feed={name}"))
        );
        let mut stream = Client::stream(served.address, &format!("?since=0&feed={name}"), "");
        for (number, line) in (1..).zip(lines) {
            assert_eq!(stream.event(), Event::of(number, line));
        }
    }
    let feeds = served.get("/v1/feeds").body;
    let chain = &signature(&book.lines[0])[..16];
    let begin = format!(
        "{{\"feeds\":[{{\"feed\":\"BTC/USD\",\"chain\":\"{chain}\",\"reports\":5,\"first\":1,\"last\":5,"
    );
    assert!(feeds.starts_with(&begin), "{feeds}");
    assert!(
        feeds.contains(&format!("\"signature\":\"{}\"", signature(&other.lines[4]))),
        "{feeds}"
    );
    assert_eq!(status_number(served.running.id(), "Threads"), Some(1));
}

#[test]
fn a_journal_is_waited_for_and_followed_and_half_a_line_is_not_served() {
    let mut book = Book::new(START_US);
    fs::remove_file(&book.path).unwrap();
    let served = Served::start(&book.path, &[]);
    assert_eq!(served.get("/v1/latest").error(), "no-journal");
    let ready = served.get("/ready");
    assert_eq!(ready.status, 503);
    assert!(
        ready.body.contains("the journal does not exist yet"),
        "{}",
        ready.body
    );
    assert_eq!(served.get("/live").status, 200);
    fs::write(&book.path, "").unwrap();
    served.until("/v1/latest", |answered| answered.error() == "no-report");
    let line = book.next(&[Price(1.0); 5]);
    let (begin, end) = line.split_at(line.len() - 1);
    for part in [begin, end] {
        book.append(part);
        // An edit is noticed after it was written: what is after it in another file would be, too.
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!(
            served.get("/v1/reports/1").status,
            404,
            "it has no newline yet"
        );
    }
    book.append("\n");
    let answered = served.until("/v1/latest", |answered| answered.status == 200);
    assert_eq!(answered.body, format!("{line}\n"));
    for number in 2..20 {
        let line = book.grow(1).remove(0);
        let path = format!("/v1/reports/{number}");
        let answered = served.until(&path, |answered| answered.status == 200);
        assert_eq!(answered.body, format!("{line}\n"));
    }
}

#[test]
fn a_journal_that_was_cut_or_replaced_is_indexed_anew() {
    let (book, served) = served(5);
    let mut stream = Client::stream(served.address, "", "");
    assert_eq!(stream.event(), Event::of(5, &book.lines[4]));
    // Cut.
    let two: String = book.lines[..2]
        .iter()
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(&book.path, &two).unwrap();
    let end = stream.event();
    assert_eq!(end.name.as_deref(), Some("journal-replaced"), "{end:?}");
    assert!(stream.is_closed());
    let answered = served.until("/v1/latest", |answered| {
        !answered.body.starts_with("{\"error\":\"i")
    });
    assert_eq!(answered.body, format!("{}\n", book.lines[1]));
    assert_eq!(served.get("/v1/reports/3").error(), "not-yet");
    served.running.stderr_line("was cut; it is indexed anew");
    // Replaced by another file.
    let mut other = Book::new(START_US);
    other.grow(9);
    fs::rename(&other.path, &book.path).unwrap();
    served.until("/v1/reports/9", |answered| answered.status == 200);
    served
        .running
        .stderr_line("was replaced; it is indexed anew");
    // Written anew, and longer than before, within the same file.
    let mut third = Book::new(START_US);
    third.oracle.aggregator = 9;
    let lines = third.grow(12);
    let mut file = fs::OpenOptions::new().write(true).open(&book.path).unwrap();
    file.write_all(&fs::read(&third.path).unwrap()).unwrap();
    served
        .running
        .stderr_line("was written anew; it is indexed anew");
    let answered = served.until("/v1/reports/12", |answered| answered.status == 200);
    assert_eq!(answered.body, format!("{}\n", lines[11]));
    assert_eq!(
        served.get("/v1/reports/1").body,
        format!("{}\n", lines[0]),
        "of the new one, too"
    );
    // Removed: what was there is still served.
    fs::remove_file(&book.path).unwrap();
    served
        .running
        .stderr_line("was removed; its reports are still served");
    assert_eq!(
        served.get("/v1/reports/12").body,
        format!("{}\n", lines[11])
    );
}

#[test]
fn odd_lines_are_counted_and_named_and_never_served() {
    let mut book = Book::new(START_US);
    let lines: Vec<String> = (0..6).map(|_| book.next(&[Price(1.0); 5])).collect();
    let twice = &lines[1];
    let spaced = lines[2].replacen("\"feed\":", "\"feed\": ", 1);
    let text = [
        &lines[0], twice, twice, &spaced, "", "{}", "\u{e9}", &lines[3],
    ]
    .join("\n");
    book.append(&(text + "\n"));
    let served = Served::start(&book.path, &[]);
    served.until("/v1/latest", |answered| answered.status == 200);
    assert_eq!(served.metric("rsoracle_journal_odd_lines"), Some(5.0));
    let named = served.running.stderr_line("line 3 of ");
    assert!(
        named.ends_with("is left out: it starts no later than a report before it"),
        "{named}"
    );
    served.running.stderr_line("line 4 of ");
    assert_eq!(served.get("/v1/reports/3").error(), "not-kept");
    assert_eq!(served.get("/v1/reports/4").body, format!("{}\n", lines[3]));
    // A line that is wrong in its middle is served, now and after a restart, but is never the newest price.
    let broken = lines[4].replacen(
        "\"collectors\":[{\"slot\":0",
        "\"collectors\":[{\"slot\":7",
        1,
    );
    assert_ne!(broken, lines[4]);
    book.append(&format!("{broken}\n{}\n", lines[5]));
    served.until("/v1/reports/6", |answered| answered.status == 200);
    assert_eq!(served.metric("rsoracle_journal_odd_lines"), Some(5.0));
    // A stream goes on with what is there.
    let mut stream = Client::stream(served.address, "?since=2", "");
    for (number, line) in [(4, &lines[3]), (5, &broken), (6, &lines[5])] {
        assert_eq!(stream.event(), Event::of(number, line));
    }
    let last = book.next(&[Price(1.0); 5]);
    let last = last.replacen(
        "\"collectors\":[{\"slot\":0",
        "\"collectors\":[{\"slot\":7",
        1,
    );
    book.append(&format!("{last}\n"));
    served.until("/v1/reports/7", |answered| answered.status == 200);
    for served in [served, Served::start(&book.path, &[])] {
        let answered = served.until("/v1/latest", |answered| answered.status == 200);
        assert_eq!(answered.body, format!("{}\n", lines[5]));
        assert_eq!(served.get("/v1/reports/7").body, format!("{last}\n"));
    }
}

#[test]
fn roster_and_proofs_are_passed_on_and_said_to_prove_nothing() {
    let mut book = Book::new(START_US);
    book.grow(1);
    let served_without = Served::start(&book.path, &[]);
    let answered = served_without.get("/v1/roster");
    assert_eq!((answered.status, answered.error()), (404, "no-roster"));
    assert_eq!(served_without.get("/v1/proofs").body, "");

    let roster = scratch("roster.toml");
    let own = rsoracle_proof::terms::Roster::single(1, None, book.oracle.terms.clone());
    fs::write(&roster, rsoracle::roster::text::render(&own)).unwrap();
    let served = Served::start(&book.path, &["--roster", roster.to_str().unwrap()]);
    let answered = served.get("/v1/roster");
    assert!(
        answered
            .field("rsoracle-note")
            .unwrap()
            .starts_with("proves nothing")
    );
    assert!(
        answered
            .body
            .starts_with("# This roster comes from the server"),
        "{}",
        answered.body
    );
    let read = rsoracle_proof::terms::Roster::parse(&answered.body).expect("it is still a roster");
    assert_eq!(read.digest(), own.digest());

    let proofs = format!("{}.proofs", book.path.display());
    fs::write(&proofs, "{\"rsoracle_proof\":2,one}\n{\"rsoracle_pr").unwrap();
    let answered = served.get("/v1/proofs");
    assert_eq!(
        answered.body, "{\"rsoracle_proof\":2,one}\n",
        "half a line is not passed on"
    );
    fs::write(
        &proofs,
        "{\"rsoracle_proof\":2,one}\n{\"rsoracle_proof\":2,two}\n",
    )
    .unwrap();
    assert_eq!(
        served.get("/v1/proofs").body,
        fs::read_to_string(&proofs).unwrap()
    );
}

#[test]
fn readiness_names_each_feed_and_collector_that_lacks() {
    let mut book = Book::new(start_before(wall_us()) - 5 * GRID_US);
    // Long rounds, so that the newest report is fresh during the test.
    book.oracle.terms.schedule.period_us = 3_600_000_000;
    let start_us = wall_us() / 3_600_000_000 * 3_600_000_000;
    let line = book.oracle.line(
        start_us - 3_600_000_000,
        &[Price(1.0), Price(1.0), Price(1.0), Abstains, Nothing],
    );
    book.append(&format!("{line}\n"));
    let served = Served::start(&book.path, &[]);
    let ready = served.until("/ready", |answered| answered.status == 200);
    assert_eq!(
        ready.body,
        "{\"ready\":true,\"lacks\":[\"BTC/USD: collector 3 (binance:BTCUSDC): abstains: fewer than 80 % of the samples are valid\",\"BTC/USD: collector 4 (binance:BTCUSDC): silent\"]}\n"
    );
    for path in ["/-/ready", "/readyz"] {
        assert_eq!(served.get(path).body, ready.body);
    }
    for path in ["/live", "/-/healthy", "/healthz"] {
        assert_eq!(served.get(path).body, "{\"live\":true}\n");
    }
    let line = book.oracle.line(
        start_us,
        &[Price(1.0), Price(1.0), Nothing, Nothing, Nothing],
    );
    book.append(&format!("{line}\n"));
    let ready = served.until("/ready", |answered| answered.status == 503);
    assert!(ready.body.starts_with("{\"ready\":false,\"lacks\":[\"BTC/USD: the newest report has no price (no-quorum)\",\"BTC/USD: collector 2 "), "{}", ready.body);
    // Old.
    let (_, old) = served_old();
    let ready = old.get("/ready");
    assert_eq!(ready.status, 503);
    assert!(
        ready.body.contains("BTC/USD: no report for ")
            && ready.body.contains("one is due every 100ms"),
        "{}",
        ready.body
    );
    assert_eq!(old.get("/live").status, 200);
}

fn served_old() -> (Book, Served) {
    served(1)
}

#[test]
fn metrics_say_what_the_reports_say() {
    let mut book = Book::new(START_US);
    book.grow(2);
    let served = Served::start(&book.path, &[]);
    served.until("/v1/latest", |answered| answered.status == 200);
    let line = book.next(&[
        Price(100_010.0),
        Price(100_000.0),
        Price(99_990.0),
        Abstains,
        Both(1.0),
    ]);
    book.append(&format!("{line}\n"));
    served.until("/v1/reports/3", |answered| answered.status == 200);
    for (name, value) in [
        (
            "rsoracle_rounds_total{feed=\"BTC/USD\",decision=\"published\"}",
            3.0,
        ),
        (
            "rsoracle_rounds_total{feed=\"BTC/USD\",decision=\"no-quorum\"}",
            0.0,
        ),
        ("rsoracle_report_number{feed=\"BTC/USD\"}", 3.0),
        ("rsoracle_price{feed=\"BTC/USD\"}", 100_000.0),
        ("rsoracle_prices{feed=\"BTC/USD\"}", 3.0),
        ("rsoracle_quorum{feed=\"BTC/USD\"}", 3.0),
        ("rsoracle_period_seconds{feed=\"BTC/USD\"}", 0.1),
        (
            "rsoracle_round_start_timestamp_seconds{feed=\"BTC/USD\"}",
            1_700_000_000.2,
        ),
        (
            "rsoracle_abstentions_total{feed=\"BTC/USD\",reason=\"fewer than 80 % of the samples are valid\"}",
            1.0,
        ),
        ("rsoracle_equivocations_total{feed=\"BTC/USD\"}", 1.0),
        (
            "rsoracle_refused_total{feed=\"BTC/USD\",reason=\"the round is over\"}",
            0.0,
        ),
        (
            "rsoracle_decision{feed=\"BTC/USD\",decision=\"published\"}",
            1.0,
        ),
        (
            "rsoracle_decision{feed=\"BTC/USD\",decision=\"no-quorum\"}",
            0.0,
        ),
        ("rsoracle_price_spread_ratio{feed=\"BTC/USD\"}", 0.0),
        ("rsoracle_journal_readable", 1.0),
        ("rsoracle_journal_writer", 0.0),
        (
            "rsoracle_collector_price{feed=\"BTC/USD\",slot=\"2\",source=\"binance:BTCUSDC\"}",
            99_990.0,
        ),
        (
            "rsoracle_collector_deviation_ratio{feed=\"BTC/USD\",slot=\"1\",source=\"binance:BTCUSDC\"}",
            0.0,
        ),
        (
            "rsoracle_collector_lateness_seconds{feed=\"BTC/USD\",slot=\"2\",source=\"binance:BTCUSDC\"}",
            0.000_003,
        ),
        ("rsoracle_serve_streams{form=\"events\"}", 0.0),
    ] {
        assert_eq!(served.metric(name), Some(value), "{name}");
    }
    // One that abstains gives an answer, and one that gives two prices gives both.
    for (slot, answer, price) in [(2, 0.0, 0.0), (3, 0.0, 1.0), (4, 0.0, 0.0)] {
        for (name, rounds) in [("answer", answer), ("price", price)] {
            let of = format!("{{feed=\"BTC/USD\",slot=\"{slot}\",source=\"binance:BTCUSDC\"}}");
            let name = format!("rsoracle_collector_rounds_without_{name}{of}");
            assert_eq!(served.metric(&name), Some(rounds), "{name}");
        }
    }
    // These rounds were years ago.
    let delay = served.metric("rsoracle_report_delay_seconds{feed=\"BTC/USD\"}");
    assert!(delay.unwrap() > 1e6);
    let metadata = fs::metadata(&book.path).unwrap();
    let modified = metadata.mtime() as f64 + metadata.mtime_nsec() as f64 / 1e9;
    let told = served.metric("rsoracle_journal_modified_timestamp_seconds");
    assert!((told.unwrap() - modified).abs() < 1e-3);
    let size = metadata.len() as f64;
    assert_eq!(served.metric("rsoracle_journal_bytes"), Some(size));
    assert_eq!(served.metric("rsoracle_journal_indexed_bytes"), Some(size));
    assert!(
        served
            .metric("rsoracle_serve_answers_total{status=\"200\"}")
            .unwrap()
            > 1.0
    );
    // Every value belongs to a family that was introduced.
    let page = served.get("/metrics").body;
    let mut family = "";
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split(' ').next().unwrap();
        } else if !line.starts_with("# TYPE ") {
            let name = line.split(['{', ' ']).next().unwrap();
            assert_eq!(name, family, "{line}");
        }
    }
}

#[test]
fn over_tls_even_a_slow_client_gets_every_byte() {
    let mut book = Book::new(START_US);
    book.grow(300);
    let Certificates { ca, cert, key } = good_certificates();
    let served = Served::start(&book.path, &["--cert", &cert, "--key", &key]);
    assert!(served.running.stdout().starts_with("listening on https://"));
    let ca = native_tls::Certificate::from_pem(&fs::read(ca).unwrap()).unwrap();
    let mut connector = native_tls::TlsConnector::builder();
    let connector = connector.add_root_certificate(ca).build().unwrap();
    let connect = || {
        let stream = TcpStream::connect(served.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        connector.connect("localhost", stream).unwrap()
    };
    let ask = |path: &str| {
        let mut stream = connect();
        let text = format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).unwrap();
        stream
    };
    eventually("it answers", || {
        let mut text = String::new();
        ask("/v1/latest").read_to_string(&mut text).unwrap();
        text.ends_with(&format!("\r\n\r\n{}\n", book.lines[299]))
            .then_some(())
    });
    // More than both sockets hold: the server has to wait, and to go on where it was.
    for _ in 0..20 {
        book.grow(300);
    }
    let mut stream = ask("/v1/stream?since=0");
    let (mut text, mut number) = (Vec::new(), 0);
    let mut buffer = [0; 5_000];
    while number < book.lines.len() {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the end after {number}");
        text.extend_from_slice(&buffer[..count]);
        if number == 0 {
            // What the server can send without us is on its way.
            std::thread::sleep(std::time::Duration::from_millis(300));
            let head = text.windows(4).position(|four| four == b"\r\n\r\n");
            head.map(|at| text.drain(..at + 4));
        }
        while let Some(line) = book.lines.get(number) {
            let chain = &signature(&book.lines[0])[..16];
            let event = format!("id: {chain}-{}\ndata: {line}\n\n", number + 1);
            if !text.starts_with(event.as_bytes()) {
                let begun = text.len().min(event.len());
                assert!(
                    event.as_bytes().starts_with(&text[..begun]),
                    "in report {}",
                    number + 1
                );
                break;
            }
            text.drain(..event.len());
            number += 1;
        }
    }
    // A client that speaks no TLS, and one that says nothing, cost nothing but their place.
    let mut plain = Client::new(served.address);
    plain.send("GET /live HTTP/1.1\r\nHost: here\r\n\r\n");
    let _ = plain.stream.read_to_end(&mut Vec::new());
    let _silent = Client::new(served.address);
    let mut text = String::new();
    ask("/live").read_to_string(&mut text).unwrap();
    assert!(text.ends_with("{\"live\":true}\n"), "{text}");
    for (flags, says) in [
        (&["--cert", &cert][..], "--cert needs --key"),
        (&["--key", &key], "--key needs --cert"),
    ] {
        let done = run(&[&["serve", "--journal", "x"], flags].concat());
        assert_eq!(done.code, Some(2));
        assert!(done.stderr.contains(says), "{}", done.stderr);
    }
    assert_eq!(run(&["serve"]).code, Some(2), "a journal is needed");
}

#[test]
fn a_server_that_a_parent_started_ends_with_it() {
    let book = Book::new(START_US);
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut command = rsoracle();
    command.args(["serve", "--listen", "127.0.0.1:0", "--until-eof"]);
    command.args(["--journal", book.path.to_str().unwrap()]);
    command.stdin(Stdio::from(OwnedFd::from(theirs)));
    let mut running = start_command(command);
    eventually("it listens", || {
        running.stdout().ends_with('\n').then_some(())
    });
    assert!(!running.ended());
    drop(ours);
    assert_eq!(running.finish().code, Some(0));
}

#[test]
fn metrics_can_have_a_listener_of_their_own() {
    let mut book = Book::new(START_US);
    book.grow(1);
    let served = Served::start(&book.path, &["--metrics-listen", "127.0.0.1:0"]);
    let inside = served.metrics.expect("a second address");
    assert_eq!(served.get("/metrics").error(), "not-found");
    let ask = |path: &str| Client::new(inside).get(path, "");
    assert!(
        ask("/metrics")
            .body
            .contains("rsoracle_build_info{version=")
    );
    assert_eq!(ask("/live").status, 200);
    assert_eq!(ask("/v1/latest").error(), "not-found");
    assert_eq!(ask("/ready").status, served.get("/ready").status);
}

/// docs/openapi.json: its paths, each with the statuses that it may answer.
fn described() -> Vec<(String, Vec<u16>)> {
    let document = include_str!("../docs/openapi.json");
    let mut paths: Vec<(String, Vec<u16>)> = Vec::new();
    for line in document.lines() {
        let key = |indent: &str| {
            let rest = line.strip_prefix(indent)?.strip_prefix('"')?;
            rest.strip_suffix("\": {").map(str::to_owned)
        };
        if let Some(path) = key("  ").filter(|path| path.starts_with('/')) {
            paths.push((path, Vec::new()));
        } else if let Some(status) = key("     ").and_then(|status| status.parse().ok()) {
            paths.last_mut().expect("a path").1.push(status);
        }
    }
    paths
}

#[test]
fn no_file_but_a_roster_is_passed_on_as_one() {
    let mut book = Book::new(START_US);
    book.grow(1);
    let [secret, draft, roster] = ["slot-0.key", "draft.toml", "roster.toml"].map(scratch);
    let [key, draft, path] = [&secret, &draft, &roster].map(|path| path.to_str().unwrap());
    assert_eq!(run(&["keygen", key]).code, Some(0));
    let made = run(&["roster", "new", "BTC/USD", "--out", draft]);
    assert_eq!(made.code, Some(0));
    let journal = book.path.to_str().unwrap();
    let hidden = fs::read_to_string(&secret).unwrap()[22..86].to_owned();
    for (wrong, says) in [
        (key, "as the roster: it is a secret key"),
        (draft, "it is not a roster: line"),
        (journal, "it is not a roster: line 1"),
    ] {
        let words = ["serve", "--journal", journal, "--roster", wrong];
        let done = run(&[&words[..], &["--listen", "127.0.0.1:0"]].concat());
        assert_eq!(done.code, Some(2), "{}", done.stderr);
        let named = format!("cannot serve {wrong}");
        assert!(done.stderr.contains(&named), "{}", done.stderr);
        assert!(done.stderr.contains(says), "{}", done.stderr);
        assert!(!done.stderr.contains(&hidden), "{}", done.stderr);
    }
    // A roster that comes later, and another file that takes its place.
    let served = Served::start(&book.path, &["--roster", path]);
    let none = served.get("/v1/roster");
    assert_eq!((none.status, none.error()), (404, "no-roster"));
    let own = rsoracle_proof::terms::Roster::single(1, None, book.oracle.terms.clone());
    fs::write(&roster, rsoracle::roster::text::render(&own)).unwrap();
    assert_eq!(served.get("/v1/roster").status, 200);
    fs::copy(&secret, &roster).unwrap();
    for _ in 0..2 {
        let refused = served.get("/v1/roster");
        assert_eq!((refused.status, refused.error()), (500, "unreadable"));
        assert!(!refused.body.contains(&hidden));
    }
    fs::write(&roster, rsoracle::roster::text::render(&own)).unwrap();
    assert_eq!(served.get("/v1/roster").status, 200);
    let said = served.running.stderr();
    let count = |part: &str| said.matches(part).count();
    assert_eq!(
        count(&format!("there is no roster {path} yet")),
        1,
        "{said}"
    );
    assert_eq!(count("it is a secret key"), 1, "{said}");
    assert!(!said.contains(&hidden));
}

#[test]
fn every_path_of_the_description_is_there_and_answers_as_it_says() {
    let mut book = Book::new(START_US);
    book.grow(2);
    let roster = scratch("roster.toml");
    let own = rsoracle_proof::terms::Roster::single(1, None, book.oracle.terms.clone());
    fs::write(&roster, rsoracle::roster::text::render(&own)).unwrap();
    let served = Served::start(&book.path, &["--roster", roster.to_str().unwrap()]);
    served.until("/v1/latest", |answered| answered.status == 200);
    let paths = described();
    assert_eq!(paths.len(), 13);
    for (path, statuses) in paths {
        let asked = path
            .replace("{number}", "2")
            .replace("{tile}", "0")
            .replace("{microseconds}", &START_US.to_string());
        let mut client = Client::new(served.address);
        client.send(&format!("HEAD {asked} HTTP/1.1\r\nHost: here\r\n\r\n"));
        let status = client.answer(false).status;
        assert!(
            statuses.contains(&status),
            "{path}: {status} of {statuses:?}"
        );
        assert_ne!(status, 404, "{path}");
        if path.starts_with("/v1/") {
            let refused = served.get(&format!("{asked}?unknown=1"));
            assert_eq!(refused.error(), "unknown-parameter", "{path}");
            assert!(statuses.contains(&400), "{path}");
        }
    }
}

#[test]
#[ignore = "needs python"]
fn the_description_is_valid_openapi() {
    let python = std::env::var_os("RSORACLE_PYTHON");
    let python = python.expect("RSORACLE_PYTHON names a Python that has openapi-spec-validator");
    let done = std::process::Command::new(python)
        .args(["-m", "openapi_spec_validator", "docs/openapi.json"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("Python starts");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
}
