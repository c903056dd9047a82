//! `rsoracle serve`: a journal in segments, which are closed, removed and read while it is served.

mod served;
mod signed;
mod support;

use rsoracle_verify::segments::path_of;
use served::*;
use signed::*;
use std::fs;
use support::*;

fn served(book: &Book) -> Served {
    let served = Served::start(&book.path, &[]);
    served.until("/v1/feeds", |answered| answered.status == 200);
    served
}

fn name(book: &Book) -> &str {
    book.path.to_str().unwrap()
}

/// Closes the journal's segment, as an operator does.
fn rotate(book: &Book) {
    let done = run(&["journal", "rotate", name(book)]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stdout.contains(": closed "), "{}", done.stdout);
}

/// A journal with so many reports in each of its segments, the last of which is open.
fn book_of(counts: &[usize]) -> Book {
    let mut book = Book::new(START_US);
    for (at, count) in counts.iter().enumerate() {
        if at > 0 {
            rotate(&book);
        }
        book.grow(*count);
    }
    book
}

fn assert_served(served: &Served, book: &Book, numbers: std::ops::RangeInclusive<usize>) {
    for number in numbers {
        let answered = served.get(&format!("/v1/reports/{number}"));
        assert_eq!(answered.body, format!("{}\n", book.lines[number - 1]));
    }
}

#[test]
fn a_stream_has_no_gap_and_no_double_over_rotations() {
    let mut book = book_of(&[3, 2]);
    let served = served(&book);
    let mut live = Client::stream(served.address, "?since=5", "");
    let mut replay = Client::stream(served.address, "?since=0", "");
    for round in 0..3 {
        book.grow(2);
        rotate(&book);
        if round == 1 {
            // Several between two looks.
            served.running.signal("STOP");
            for _ in 0..3 {
                book.grow(1);
                rotate(&book);
            }
            served.running.signal("CONT");
        }
        let last = book.grow(1).remove(0);
        served.until("/v1/latest", |answered| {
            answered.body == format!("{last}\n")
        });
    }
    let count = book.lines.len();
    assert_eq!(count, 17);
    for number in 1..=count {
        assert_eq!(
            replay.event(),
            Event::of(number as u64, &book.lines[number - 1])
        );
    }
    for number in 6..=count {
        assert_eq!(
            live.event(),
            Event::of(number as u64, &book.lines[number - 1])
        );
    }
    assert_served(&served, &book, 1..=count);
    let tile = served.get("/v1/tiles/0").body;
    assert_eq!(tile, book.lines.join("\n") + "\n");
    let size: usize = book.lines.iter().map(|line| line.len() + 1).sum();
    assert_eq!(served.metric("rsoracle_journal_bytes"), Some(size as f64));
    assert_eq!(served.metric("rsoracle_journal_odd_lines"), Some(0.0));
    assert!(!served.running.stderr().contains("indexed anew"));
    // It reads the same from the beginning.
    let again = Served::start(&book.path, &[]);
    again.until("/v1/reports/17", |answered| answered.status == 200);
    assert_served(&again, &book, 1..=count);
}

#[test]
fn an_empty_journal_behind_its_segments_is_served() {
    let mut book = book_of(&[3]);
    rotate(&book);
    let served = served(&book);
    assert_served(&served, &book, 1..=3);
    let mut stream = Client::stream(served.address, "", "");
    assert_eq!(stream.event(), Event::of(3, &book.lines[2]));
    let line = book.grow(1).remove(0);
    assert_eq!(stream.event(), Event::of(4, &line));
}

#[test]
fn reports_of_removed_segments_are_said_not_to_be_kept() {
    let mut book = book_of(&[300, 300, 300]);
    let served = served(&book);
    // A client that takes nothing is still at the beginning when that is removed.
    let mut slow = Client::stream(served.address, "?since=0", "");
    assert_eq!(slow.event(), Event::of(1, &book.lines[0]));
    fs::remove_file(path_of(name(&book), 1)).unwrap();
    let answered = served.until("/v1/reports/300", |answered| answered.status == 404);
    assert_eq!(answered.error(), "not-kept");
    assert!(
        answered.body.contains("\"first\":301,\"last\":900"),
        "{}",
        answered.body
    );
    assert_served(&served, &book, 301..=303);
    assert_eq!(served.get("/v1/tiles/0").error(), "no-tile");
    let tile = served.get("/v1/tiles/1").body;
    assert_eq!(tile, book.lines[300..512].join("\n") + "\n");
    let at = format!("/v1/at/{}", START_US + 2 * GRID_US);
    assert_eq!(served.get(&at).error(), "too-early");
    let feeds = served.get("/v1/feeds").body;
    assert!(
        feeds.contains("\"reports\":600,\"first\":301,\"last\":900"),
        "{feeds}"
    );
    let mut old = Client::stream(served.address, "?since=10", "");
    let end = old.event();
    assert_eq!(end.name.as_deref(), Some("cursor-too-old"));
    assert!(end.data.ends_with("\"first\":301}"), "{}", end.data);
    let mut events = 1;
    let end = loop {
        let event = slow.event();
        if event.id.is_none() {
            break event;
        }
        events += 1;
        assert_eq!(event, Event::of(events as u64, &book.lines[events - 1]));
        if events == 900 {
            // The sockets held all that was removed.
            return;
        }
    };
    assert_eq!(end.name.as_deref(), Some("cursor-too-old"));
    // It goes on where it was told to.
    let mut again = Client::stream(served.address, "?since=300", "");
    assert_eq!(again.event(), Event::of(301, &book.lines[300]));
    let line = book.grow(1).remove(0);
    served.until("/v1/latest", |answered| {
        answered.body == format!("{line}\n")
    });
}
