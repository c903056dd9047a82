//! Changes of the aggregator's key: `serve` passes them on in their place in the chain, and `follow` goes on with the same chain.

mod following;
mod served;
mod signed;
mod support;

use following::{HEAD, Then};
use following::{assert_rounds, kept, named, rows, rows_until, verified};
use rsoracle_verify::segments::path_of;
use served::*;
use signed::Says::Price;
use signed::*;
use std::path::Path;
use support::*;
use tungstenite::Message;

fn served(path: &Path) -> Served {
    let served = Served::start(path, &[]);
    served.until("/v1/feeds", |answered| answered.status == 200);
    served
}

/// A journal of six reports, with changes of keys after the second, twice after the fourth, and after the last. Returns all
/// its lines, and for each the end of the id of its event.
fn changing() -> (Book, Vec<(String, String)>) {
    let mut book = Book::new(START_US);
    let mut all = Vec::new();
    for (number, changes) in [(1, 0), (2, 1), (3, 0), (4, 2), (5, 0), (6, 1)] {
        let line = book.next(&[Price(99.0 + number as f64); 5]);
        all.push((line, number.to_string()));
        for count in 1..=changes {
            let line = book.oracle.hand_over(number as u8 * 10 + count);
            all.push((line, format!("{number}.{count}")));
        }
    }
    let text: String = all.iter().map(|(line, _)| format!("{line}\n")).collect();
    book.append(&text);
    (book, all)
}

/// Asserts that the next event of a stream is this record.
fn assert_next(stream: &mut Client, (line, place): &(String, String)) {
    let event = stream.event();
    let name = place.contains('.').then(|| "key-change".to_owned());
    assert_eq!((&event.data, event.name), (line, name), "{place}");
    let (_, id) = stream.cursor.split_once('-').expect("chain and place");
    assert_eq!(id, place);
}

#[test]
fn a_stream_has_every_change_of_keys_once_and_in_its_place() {
    let (mut book, mut all) = changing();
    let served = served(&book.path);
    let mut live = Client::stream(served.address, "?since=0", "");
    let mut cursors = Vec::new();
    for record in &all {
        assert_next(&mut live, record);
        cursors.push(live.cursor.clone());
    }
    // From every place on, by the id of its event or by the number of a report alone.
    for (at, cursor) in cursors.iter().enumerate() {
        let field = format!("Last-Event-ID: {cursor}\r\n");
        let mut again = Client::stream(served.address, "", &field);
        all[at + 1..]
            .iter()
            .for_each(|it| assert_next(&mut again, it));
        let (_, place) = cursor.split_once('-').unwrap();
        if !place.contains('.') {
            let mut again = Client::stream(served.address, &format!("?since={place}"), "");
            all[at + 1..]
                .iter()
                .for_each(|it| assert_next(&mut again, it));
        }
    }
    // A stream without a place begins with the newest report.
    let mut newest = Client::stream(served.address, "", "");
    all[8..].iter().for_each(|it| assert_next(&mut newest, it));
    // Those that come later, each before the report that continues it is written.
    for number in 7..10 {
        for place in [format!("{number}"), format!("{number}.1")] {
            let line = match place.contains('.') {
                true => book.oracle.hand_over(number * 10),
                false => book.next(&[Price(1.0); 5]),
            };
            book.append(&format!("{line}\n"));
            all.push((line, place));
            for stream in [&mut live, &mut newest] {
                assert_next(stream, all.last().unwrap());
            }
        }
    }
    let chain = live.cursor.split_once('-').unwrap().0;
    for (since, error) in [
        (format!("{chain}-1.1"), "cursor-ahead"),
        (format!("{chain}-4.3"), "cursor-ahead"),
        (format!("{chain}-9.2"), "cursor-ahead"),
        (format!("{chain}-10"), "cursor-ahead"),
    ] {
        let mut ahead = Client::stream(served.address, &format!("?since={since}"), "");
        assert_eq!(ahead.event().name.as_deref(), Some(error), "{since}");
    }
    for since in ["4.1", &format!("{chain}-4."), &format!("{chain}-4.x")] {
        let answered = served.get(&format!("/v1/stream?since={since}"));
        assert_eq!(answered.error(), "bad-parameter", "{since}");
    }
    assert_eq!(served.metric("rsoracle_journal_odd_lines"), Some(0.0));
}

#[test]
fn a_websocket_has_them_too_and_tiles_form_a_journal_that_can_be_verified() {
    let (mut book, mut all) = changing();
    for number in 7..300 {
        all.push((book.next(&[Price(7.0); 5]), number.to_string()));
        if number == 256 {
            all.push((book.oracle.hand_over(99), "256.1".to_owned()));
        }
    }
    let rest: String = all[10..]
        .iter()
        .map(|(line, _)| format!("{line}\n"))
        .collect();
    book.append(&rest);
    let served = served(&book.path);
    let url = format!("ws://{}/v1/ws?since=0", served.address);
    let (mut socket, _) = tungstenite::connect(url).unwrap();
    for (line, place) in &all {
        let message = socket.read().expect("a message");
        assert_eq!(message, Message::text(line.as_str()), "{place}");
    }
    // The change between two tiles is before the reports of the second.
    let tiles = [0, 1].map(|tile| served.get(&format!("/v1/tiles/{tile}")).body);
    assert_eq!(tiles[0].lines().count(), 256 + 4);
    let text: String = all.iter().map(|(line, _)| format!("{line}\n")).collect();
    assert_eq!(tiles.concat(), text);
    let path = scratch("tiles.jsonl");
    std::fs::write(&path, &text).unwrap();
    let roster = following::roster_file(&roster_of(&book.oracle.terms));
    let done = verified(&roster, &[path.to_str().unwrap()]);
    assert_eq!(done.code, Some(0), "{}", done.stdout);
    // A report is alone.
    for number in [2, 3, 5] {
        let body = served.get(&format!("/v1/reports/{number}")).body;
        let right = all.iter().find(|(_, place)| *place == number.to_string());
        assert_eq!(body, format!("{}\n", right.unwrap().0));
    }
}

#[test]
fn a_change_that_continues_nothing_or_is_damaged_is_left_out() {
    let mut book = Book::new(START_US);
    book.grow(2);
    let mut fork = Book::new(START_US).oracle;
    (fork.aggregator, fork.previous) = (9, Some([5; 64]));
    let stray = fork.hand_over(10);
    let server = served(&book.path);
    let mut stream = Client::stream(server.address, "?since=1", "");
    assert_eq!(stream.event(), Event::of(2, &book.lines[1]));
    book.append(&format!("{stray}\n{}\n", &stray[..stray.len() - 9]));
    server
        .running
        .stderr_line("it does not continue the record before it");
    server.running.stderr_line("it is no whole change of keys");
    let line = book.grow(1).remove(0);
    assert_eq!(stream.event(), Event::of(3, &line));
    // The same when the journal is read from its beginning.
    let server = served(&book.path);
    let mut stream = Client::stream(server.address, "?since=2", "");
    assert_eq!(stream.event(), Event::of(3, &line));
    assert_eq!(server.metric("rsoracle_journal_odd_lines"), Some(2.0));
}

#[test]
fn a_follower_goes_on_with_the_same_chain_and_the_same_file() {
    let mut book = Book::new(START_US);
    let roster = following::roster_file(&roster_of(&book.oracle.terms));
    let round = |book: &mut Book, number: u64| {
        let line = book.next(&[Price(100.0 + number as f64); 5]);
        book.append(&format!("{line}\n"));
    };
    round(&mut book, 0);
    let journal = scratch("followed.jsonl");
    let journal = journal.to_str().unwrap();
    let mut server = served(&book.path);
    let url = format!("http://{}", server.address);
    let words = [
        "follow",
        "--json",
        "--roster",
        &roster,
        "--journal",
        journal,
    ];
    let mut follower = start(&[&words[..], &[&url]].concat());
    let told = |follower: &Running, count: usize| {
        eventually("all rounds", || {
            let rows = rows(&follower.stdout());
            (rows.len() == count).then_some(rows)
        })
    };
    told(&follower, 1);
    for number in 1..6 {
        let change = book.oracle.hand_over(number as u8 + 10);
        book.append(&format!("{change}\n"));
        let size = std::fs::metadata(&book.path).unwrap().len();
        if number % 2 == 0 {
            // The change is there before the report after it, over a restart of either side.
            eventually("the change is followed", || {
                let found = std::fs::metadata(journal).unwrap().len();
                (found == size).then_some(())
            });
        }
        if number == 2 {
            follower.signal("KILL");
            follower.finish();
            follower = start(&[&words[..], &[&url]].concat());
        }
        if number == 4 {
            let listen = server.address.to_string();
            server.running.signal("KILL");
            drop(server.running);
            let path = book.path.to_str().unwrap();
            let running = start(&["serve", "--journal", path, "--listen", &listen]);
            server = Served {
                running,
                address: server.address,
                metrics: None,
            };
        }
        round(&mut book, number);
        let count = if number < 2 { 2 } else { number as usize - 1 };
        told(&follower, count);
    }
    assert_rounds(&rows(&follower.stdout()), 2);
    let text = std::fs::read_to_string(&book.path).unwrap();
    assert_eq!(std::fs::read_to_string(journal).unwrap(), text);
    assert!(!Path::new(&format!("{journal}.part2")).exists());
    assert_eq!(verified(&roster, &[journal]).code, Some(0));
    follower.stderr_line("goes on with another key");
}

#[test]
fn a_follower_passes_over_a_change_that_was_not_signed_by_both_keys() {
    let mut oracle = Oracle::new(5, "binance:BTCUSDC");
    let roster = following::roster_file(&roster_of(&oracle.terms));
    let first = following::lines(&mut oracle, 0, 1);
    // Another aggregator continues the chain, and hands over to itself.
    let mut thief = Oracle::new(5, "binance:BTCUSDC");
    (thief.aggregator, thief.previous) = (66, oracle.previous);
    let stolen = thief.hand_over(67);
    let good = oracle.hand_over(7);
    let forged = good.replacen("\"new_signature\":\"", "\"new_signature\":\"00", 1);
    let forged = format!("{}\"}}", &forged[..forged.len() - 4]);
    let second = following::lines(&mut oracle, 1, 2);
    let change =
        |line: &str| format!("id: 0123456789abcdef-1.1\nevent: key-change\ndata: {line}\n\n");
    let events = [
        following::event(1, &first[0]),
        change(&forged),
        change(&stolen),
        change(&good),
        change(&good),
        following::event(2, &second[0]),
        following::event(3, &second[1]),
    ];
    let text = HEAD.to_owned() + &events.concat();
    let server = following::Server::new(&[], move |_| (text.clone().into_bytes(), Then::Holds));
    let mut servers = [server];
    let journal = scratch("followed.jsonl");
    let journal = journal.to_str().unwrap();
    let follower = following::follow(&servers, &roster, &["--journal", journal]);
    assert_rounds(&rows_until(&follower, &mut servers, 3), 0);
    named(&follower, &mut servers, "it is passed over");
    let right = [&first[0], &good, &second[0], &second[1]];
    assert_eq!(kept(journal).iter().collect::<Vec<_>>(), right);
    assert_eq!(verified(&roster, &[journal]).code, Some(0));
    assert_eq!(servers[0].asked, [None], "it was not asked again");
}

#[test]
fn a_change_whose_segment_was_removed_is_not_missed_by_who_has_the_report_before_it() {
    let (book, all) = changing();
    // The first segment ends with the second of the two changes after the fourth report.
    let text = |records: &[(String, String)]| {
        let lines = records.iter().map(|(line, _)| format!("{line}\n"));
        lines.collect::<String>()
    };
    let segment = path_of(book.path.to_str().unwrap(), 1);
    std::fs::write(&segment, text(&all[..7])).unwrap();
    std::fs::write(&book.path, text(&all[7..])).unwrap();
    let served = served(&book.path);
    let mut stream = Client::stream(served.address, "?since=0", "");
    let mut cursors = Vec::new();
    for record in &all {
        assert_next(&mut stream, record);
        cursors.push(stream.cursor.clone());
    }
    std::fs::remove_file(&segment).unwrap();
    served.until("/v1/feeds", |answered| {
        answered.body.contains("\"first\":5,")
    });
    // Those who have the fourth report, with or without the changes after it.
    for cursor in &cursors[4..7] {
        let mut again = Client::stream(served.address, &format!("?since={cursor}"), "");
        all[7..].iter().for_each(|it| assert_next(&mut again, it));
    }
    let mut old = Client::stream(served.address, &format!("?since={}", cursors[3]), "");
    assert_eq!(old.event().name.as_deref(), Some("cursor-too-old"));
    assert_eq!(served.get("/v1/tiles/0").body, text(&all[7..9]));
}
