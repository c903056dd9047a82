//! `rsoracle serve`: journals that are cut, replaced or written anew, and chains of reports that follow each other.

mod served;
mod signed;
mod support;

use rsoracle::system::now::wall_us;
use served::*;
use signed::Says::*;
use signed::*;
use std::fs::{self, OpenOptions};
use std::io::Write;
use support::*;

fn served(book: &Book) -> Served {
    let served = Served::start(&book.path, &[]);
    served.until("/v1/feeds", |answered| answered.status == 200);
    served
}

/// An empty journal, whose aggregator has another key.
fn other(start_us: u64) -> Book {
    let mut book = Book::new(start_us);
    book.oracle.aggregator = 9;
    book
}

#[test]
fn an_unfinished_line_that_is_cut_off_ends_no_stream() {
    let mut book = Book::new(START_US);
    book.grow(3);
    let served = served(&book);
    let mut stream = Client::stream(served.address, "?since=2", "");
    assert_eq!(stream.event(), Event::of(3, &book.lines[2]));
    let whole = fs::metadata(&book.path).unwrap().len();
    for _ in 0..3 {
        book.append("{\"rsoracle_report\":2,\"number\":4,\"fe");
        let size = fs::metadata(&book.path).unwrap().len() as f64;
        eventually("half a line is seen", || {
            (served.metric("rsoracle_journal_bytes") == Some(size)).then_some(())
        });
        let file = OpenOptions::new().write(true).open(&book.path).unwrap();
        file.set_len(whole).unwrap();
        eventually("it is gone", || {
            (served.metric("rsoracle_journal_bytes") == Some(whole as f64)).then_some(())
        });
    }
    let line = book.grow(1).remove(0);
    assert_eq!(stream.event(), Event::of(4, &line));
    assert_eq!(served.get("/v1/reports/1").status, 200);
}

#[test]
fn a_chain_that_begins_before_the_end_of_another_is_not_mixed_with_it() {
    let mut old = Book::new(START_US);
    old.grow(5);
    let mut new = other(START_US + 2 * GRID_US);
    let lines: Vec<String> = (0..4).map(|_| new.next(&[Price(7.0); 5])).collect();
    let first = served(&old);
    old.append(&(lines.join("\n") + "\n"));
    first.until("/v1/latest", |answered| {
        answered.body == format!("{}\n", lines[3])
    });
    // What continues the old chain is left out.
    old.grow(3);
    let last = new.next(&[Price(7.0); 5]);
    old.append(&format!("{last}\n"));
    first.until("/v1/latest", |answered| {
        answered.body == format!("{last}\n")
    });
    for served in [first, served(&old)] {
        for (number, line) in (1..).zip(lines.iter().chain([&last])) {
            let path = format!("/v1/reports/{number}");
            assert_eq!(served.get(&path).body, format!("{line}\n"));
        }
        assert_eq!(served.get("/v1/reports/6").error(), "not-yet");
        assert_eq!(served.metric("rsoracle_journal_odd_lines"), Some(3.0));
        served
            .running
            .stderr_line("it continues a chain that another one has replaced");
    }
}

#[test]
fn a_report_that_does_not_continue_the_one_before_it_is_left_out() {
    let mut book = Book::new(START_US);
    book.grow(2);
    let mut fork = other(START_US + 2 * GRID_US);
    fork.oracle.number = 3;
    fork.oracle.previous = Some([5; 64]);
    let served = served(&book);
    let lines: Vec<String> = (0..3).map(|_| fork.next(&[Price(7.0); 5])).collect();
    book.append(&(lines.join("\n") + "\n"));
    served
        .running
        .stderr_line("it does not continue the report before it");
    let line = book.grow(1).remove(0);
    served.until("/v1/reports/3", |answered| {
        answered.body == format!("{line}\n")
    });
    assert_eq!(served.get("/v1/reports/4").error(), "not-yet");
    // Its first report again begins no other chain.
    book.append(&format!("{}\n", book.lines[0]));
    let line = book.grow(1).remove(0);
    served.until("/v1/reports/4", |answered| {
        answered.body == format!("{line}\n")
    });
    assert_eq!(
        served.get("/v1/reports/1").body,
        format!("{}\n", book.lines[0])
    );
}

#[test]
fn a_client_that_connects_again_after_its_journal_was_replaced_begins_anew() {
    let mut book = Book::new(START_US);
    book.grow(5);
    let server = served(&book);
    let mut stream = Client::stream(server.address, "", "");
    assert_eq!(stream.event(), Event::of(5, &book.lines[4]));
    let cursor = stream.cursor.clone();
    assert!(cursor.ends_with("-5"), "{cursor}");
    // It goes on where it was, in either spelling.
    let line = book.grow(1).remove(0);
    for since in [&cursor[..], "5"] {
        let field = format!("Last-Event-ID: {since}\r\n");
        let mut again = Client::stream(server.address, "", &field);
        assert_eq!(again.event(), Event::of(6, &line));
        let mut again = Client::stream(server.address, &format!("?since={since}"), "");
        assert_eq!(again.event(), Event::of(6, &line));
    }
    assert_eq!(stream.event(), Event::of(6, &line));
    // A browser that names nothing any more begins with the newest report.
    let mut new = other(START_US);
    new.grow(9);
    fs::rename(&new.path, &book.path).unwrap();
    let end = stream.event();
    assert_eq!(end.name.as_deref(), Some("journal-replaced"));
    assert_eq!(stream.cursor, "");
    server.until("/v1/reports/9", |answered| answered.status == 200);
    drop(server);
    // The same over a restart of the server, which does not know the old chain.
    let server = served(&book);
    for at in ["5", "9", "77"] {
        let cursor = format!("{}-{at}", cursor.split_once('-').unwrap().0);
        let field = format!("Last-Event-ID: {cursor}\r\n");
        let mut again = Client::stream(server.address, "", &field);
        again.cursor = cursor;
        assert_eq!(again.event().name.as_deref(), Some("journal-replaced"));
        assert_eq!(again.cursor, "");
        assert!(again.is_closed());
    }
    let mut ahead = Client::stream(server.address, "", "Last-Event-ID: 77\r\n");
    ahead.cursor = "77".to_owned();
    assert_eq!(ahead.event().name.as_deref(), Some("cursor-ahead"));
    assert_eq!(ahead.cursor, "");
    // An empty field is none.
    let mut again = Client::stream(server.address, "", "Last-Event-ID: \r\n");
    assert_eq!(again.event(), Event::of(9, &new.lines[8]));
    for fields in [
        "Last-Event-ID: 1\r\nLast-Event-ID: 1\r\n",
        "Last-Event-ID: x-1\r\n",
        "Last-Event-ID: 0123456789abcdef-\r\n",
        "Last-Event-ID: -1\r\n",
    ] {
        let answered = Client::new(server.address).get("/v1/stream", fields);
        assert_eq!(answered.status, 400, "{fields}");
    }
}

#[test]
fn a_new_chain_of_one_feed_ends_the_streams_of_that_feed_only() {
    let mut book = Book::new(START_US);
    let mut eth = Book::new(START_US);
    eth.oracle.terms.feed = "ETH/USD".to_owned();
    book.grow(2);
    let line = eth.next(&[Price(3.0); 5]);
    book.append(&format!("{line}\n"));
    let served = served(&book);
    let mut stays = Client::stream(served.address, "?feed=ETH/USD", "");
    assert_eq!(stays.event(), Event::of(1, &line));
    let mut ends = Client::stream(served.address, "?feed=BTC/USD", "");
    assert_eq!(ends.event(), Event::of(2, &book.lines[1]));
    let mut new = other(START_US + 10 * GRID_US);
    let line = new.next(&[Price(7.0); 5]);
    book.append(&format!("{line}\n"));
    assert_eq!(ends.event().name.as_deref(), Some("journal-replaced"));
    let line = eth.next(&[Price(3.0); 5]);
    book.append(&format!("{line}\n"));
    assert_eq!(stays.event(), Event::of(2, &line));
}

#[test]
fn a_journal_that_was_written_anew_at_the_same_size_is_indexed_anew() {
    let mut book = Book::new(START_US);
    book.grow(4);
    let mut new = other(START_US);
    new.grow(4);
    let bytes = fs::read(&new.path).unwrap();
    assert_eq!(fs::metadata(&book.path).unwrap().len(), bytes.len() as u64);
    let served = served(&book);
    let mut file = OpenOptions::new().write(true).open(&book.path).unwrap();
    file.write_all(&bytes).unwrap();
    served
        .running
        .stderr_line("was written anew; it is indexed anew");
    served.until("/v1/latest", |answered| {
        answered.body == format!("{}\n", new.lines[3])
    });
}

#[test]
fn odd_lines_of_a_journal_that_is_gone_do_not_count() {
    let mut book = Book::new(START_US);
    book.append("x\ny\n");
    book.grow(1);
    let served = served(&book);
    assert_eq!(served.metric("rsoracle_journal_odd_lines"), Some(2.0));
    let mut new = Book::new(START_US);
    new.append("z\n");
    new.grow(2);
    fs::rename(&new.path, &book.path).unwrap();
    served.until("/v1/reports/2", |answered| answered.status == 200);
    assert_eq!(served.metric("rsoracle_journal_odd_lines"), Some(1.0));
}

#[test]
fn a_feed_that_was_dropped_from_the_roster_does_not_make_the_others_unready() {
    const HOUR_US: u64 = 3_600_000_000;
    let mut book = Book::new(START_US);
    let mut eth = Book::new(START_US);
    eth.oracle.terms.feed = "ETH/USD".to_owned();
    let start_us = wall_us() / HOUR_US * HOUR_US;
    for oracle in [&mut book.oracle, &mut eth.oracle] {
        oracle.terms.schedule.period_us = HOUR_US;
    }
    let mut round = |book: &mut Book, back: u64, with: bool| {
        let mut lines = book
            .oracle
            .line(start_us - back * HOUR_US, &[Price(1.0); 5])
            + "\n";
        if with {
            lines += &(eth.oracle.line(start_us - back * HOUR_US, &[Price(1.0); 5]) + "\n");
        }
        book.append(&lines);
    };
    for back in [6, 5, 4, 3] {
        round(&mut book, back, back > 3);
    }
    let served = served(&book);
    let ready = served.get("/ready");
    assert_eq!(ready.status, 503, "{}", ready.body);
    assert!(ready.body.contains("ETH/USD: no report for "));
    for back in [2, 1, 0] {
        round(&mut book, back, false);
    }
    let ready = served.until("/ready", |answered| answered.status == 200);
    assert!(ready.body.contains("ETH/USD: not in the last rounds"));
    // Nothing of it changes any more, so nothing of it can alert anybody.
    let page = served.get("/metrics").body;
    assert!(page.contains("feed=\"BTC/USD\"") && !page.contains("feed=\"ETH/USD\""));
}

#[test]
fn a_server_that_begins_knows_who_has_been_silent() {
    let mut book = Book::new(START_US);
    book.grow(2);
    for _ in 0..3 {
        let line = book.next(&[Price(1.0), Price(1.0), Price(1.0), Price(1.0), Nothing]);
        book.append(&format!("{line}\n"));
    }
    let served = served(&book);
    let rounds = |slot: usize| {
        let of = format!("{{feed=\"BTC/USD\",slot=\"{slot}\",source=\"binance:BTCUSDC\"}}");
        served.metric(&format!("rsoracle_collector_rounds_without_answer{of}"))
    };
    assert_eq!((rounds(3), rounds(4)), (Some(0.0), Some(3.0)));
    // When the newest report was found is not known, but it was not later than this.
    let modified = served.metric("rsoracle_journal_modified_timestamp_seconds");
    let of = "{feed=\"BTC/USD\"}";
    let seen = served.metric(&format!("rsoracle_report_seen_timestamp_seconds{of}"));
    assert!(modified.is_some());
    assert_eq!(seen, modified);
    let delay = served.metric(&format!("rsoracle_report_delay_seconds{of}"));
    assert_eq!(delay, None);
}

#[test]
fn readiness_says_that_no_round_follows_and_ends_with_the_schedule() {
    let mut single = Book::new(START_US);
    single.oracle.terms.schedule.period_us = 0;
    single.oracle.terms.schedule.first_start_us = START_US;
    single.grow(1);
    let mut ended = Book::new(START_US);
    ended.oracle.terms.schedule.end_us = Some(START_US + 2 * GRID_US);
    ended.grow(2);
    for (book, status) in [(single, 200), (ended, 503)] {
        let ready = served(&book).get("/ready");
        assert_eq!(ready.status, status, "{}", ready.body);
        assert!(ready.body.contains("BTC/USD: it is over"), "{}", ready.body);
    }
}

#[test]
fn a_line_that_is_another_report_now_is_not_served_as_the_one_that_was_there() {
    let mut book = Book::new(START_US);
    book.grow(4);
    let served = served(&book);
    // Two lines change places, and the end stays as it was.
    let swapped = [0, 2, 1, 3].map(|at| book.lines[at].clone()).join("\n");
    assert_eq!(book.lines[1].len(), book.lines[2].len());
    let mut file = OpenOptions::new().write(true).open(&book.path).unwrap();
    file.write_all(swapped.as_bytes()).unwrap();
    for at in [2, 3] {
        let answered = served.get(&format!("/v1/reports/{at}"));
        let right = format!("{}\n", book.lines[at - 1]);
        assert!(answered.status != 200 || answered.body == right);
    }
}

#[test]
fn what_names_its_feed_and_chain_never_changes_and_all_else_may() {
    let mut book = Book::new(START_US);
    book.grow(258);
    let served = served(&book);
    let chain = &book.lines[0][book.lines[0].len() - 130..][..16];
    let feeds = served.get("/v1/feeds").body;
    assert!(feeds.contains(&format!("\"chain\":\"{chain}\"")), "{feeds}");
    let at = format!("at/{START_US}");
    for path in ["reports/2", "tiles/0", &at] {
        for (query, caching) in [
            ("", "public, max-age=10, must-revalidate"),
            ("?feed=BTC/USD", "public, max-age=10, must-revalidate"),
            (
                &format!("?chain={chain}"),
                "public, max-age=10, must-revalidate",
            ),
            (
                &format!("?feed=BTC/USD&chain={chain}"),
                "public, max-age=31536000, immutable",
            ),
        ] {
            let answered = served.get(&format!("/v1/{path}{query}"));
            assert_eq!(
                answered.field("cache-control"),
                Some(caching),
                "{path}{query}"
            );
        }
        let path = format!("/v1/{path}?feed=BTC/USD&chain=0123456789abcdef");
        let answered = served.get(&path);
        assert_eq!(
            (answered.status, answered.error()),
            (404, "journal-replaced")
        );
    }
    let answered = served.get(&format!("/v1/{at}?feed=BTC/USD&chain={chain}"));
    let location = format!("/v1/reports/1?feed=BTC%2FUSD&chain={chain}");
    assert_eq!(answered.field("location"), Some(&*location));
    let answered = served.get("/v1/reports/2?chain=x");
    assert_eq!(
        (answered.status, answered.error()),
        (404, "journal-replaced")
    );
}
