//! `rsoracle relay` and `rsoracle follow nats://` with a real NATS server: each report once and in order, whatever is killed.

mod following;
mod nats;
mod signed;
mod support;

use following::*;
use nats::*;
use rsoracle_proof::report::KeyChange;
use signed::*;
use support::*;

/// A change of the aggregator's key of this feed, which its next report continues.
fn change(oracle: &mut Oracle, to: u8) -> String {
    let (old, new) = (key(oracle.aggregator), key(to));
    let mut change = KeyChange {
        feed: oracle.terms.feed.clone(),
        old: old.public(),
        new: new.public(),
        previous: oracle.previous.expect("a report"),
        signatures: [[0; 64]; 2],
    };
    let bytes = change.signed_bytes();
    change.signatures = [old.sign(&bytes), new.sign(&bytes)];
    (oracle.aggregator, oracle.previous) = (to, Some(change.signature()));
    change.line()
}

fn until_kept(journal: &str, count: usize) -> Vec<String> {
    eventually(&format!("{count} reports in {journal}"), || {
        let lines = kept(journal);
        (lines.len() >= count).then_some(lines)
    })
}

#[test]
#[ignore = "needs nats-server"]
fn a_journal_is_published_as_it_grows_and_followed_from_where_one_was() {
    let servers = [Nats::start("")];
    let mut book = Book::new(&["BTC/USD", "ETH/USD"]);
    let roster = roster_file(&roster_of_all(&book.oracles));
    book.grow(5);
    let relay = book.relay(&servers[0].url(), &[]);
    book.until_said(&relay);
    let (follow, journal) = followed(&servers[0].url(), &roster, &[]);
    rows_until(&follow, &mut [], 2);
    let changes = [
        change(&mut book.oracles[0], 20),
        change(&mut book.oracles[1], 21),
    ];
    book.append(&changes);
    book.grow(20);
    book.until_published(&servers, &relay);
    rows_until(&follow, &mut [], 42);
    // It said so once, not after every report.
    let told = relay
        .stderr()
        .matches("has all that the journal has")
        .count();
    assert_eq!(told, 1, "{}", relay.stderr());
    // Of each feed the newest report at the start, the change, and what follows.
    let lines = until_kept(&journal, 44);
    for feed in ["BTC/USD", "ETH/USD"] {
        let part = format!("\"feed\":\"{feed}\"");
        let of: Vec<&String> = lines.iter().filter(|line| line.contains(&part)).collect();
        assert_eq!(of, book.of(feed)[4..].iter().collect::<Vec<_>>());
    }
    let is_change = |line: &str| line.contains("goes on with another key");
    assert!(
        follow.stderr().lines().all(is_change),
        "{}",
        follow.stderr()
    );
    assert_eq!(verified(&roster, &[&journal]).code, Some(0));
    // It is away, and goes on after its last report.
    drop(follow);
    book.grow(30);
    book.until_published(&servers, &relay);
    let follow = follow_into(&journal, &servers[0].url(), &roster, &[]);
    rows_until(&follow, &mut [], 60);
    assert_eq!(until_kept(&journal, 104).len(), 104);
    assert_eq!(
        (verified(&roster, &[&journal]).code, &*follow.stderr()),
        (Some(0), "")
    );
    book.assert_there(&servers, "RSORACLE");
    for id in [relay.id(), follow.id()] {
        assert_eq!(
            std::fs::read_dir(format!("/proc/{id}/task"))
                .unwrap()
                .count(),
            1
        );
    }
    let url = servers[0].url();
    let once = ["follow", &url, "--json", "--roster", &roster];
    let done = run(&[&once[..], &["--once", "--max-age", "1h"]].concat());
    let newest = rows(&done.stdout);
    assert_eq!((done.code, newest.len()), (Some(3), 2), "{}", done.stderr);
    assert!(
        newest.iter().all(|row| row.price == Some(154.0)),
        "{newest:?}"
    );
}

#[test]
#[ignore = "needs nats-server"]
fn relay_and_server_are_killed_in_mid_publish_fifty_times_and_each_report_is_there_once() {
    let mut servers = [Nats::start("")];
    let mut book = Book::new(&["BTC/USD", "ETH/USD", "SOL/USD"]);
    let roster = roster_file(&roster_of_all(&book.oracles));
    book.grow(1);
    let mut relay = book.relay(&servers[0].url(), &[]);
    book.until_said(&relay);
    let (follow, journal) = followed(&servers[0].url(), &roster, &["--feed", "ETH/USD"]);
    rows_until(&follow, &mut [], 1);
    let mut client = servers[0].client();
    let mut amid = 0;
    for round in 0..50 {
        let before = client.last("RSORACLE").expect("it answers");
        book.grow(30);
        // From the first of its 90 reports to most of them.
        let until = before + 1 + round * 37 % 71;
        let found = eventually("it publishes", || {
            let last = client.last("RSORACLE").expect("it answers");
            (last >= until).then_some(last)
        });
        amid += u64::from(found < book.lines.len() as u64);
        if round % 2 == 0 {
            relay.signal("KILL");
            relay = book.relay(&servers[0].url(), &[]);
        } else {
            servers[0].kill();
            servers[0].again();
            client = servers[0].client();
        }
        eventually("JetStream is there", || client.last("RSORACLE"));
    }
    book.until_published(&servers, &relay);
    book.assert_there(&servers, "RSORACLE");
    assert!(amid > 0, "none was killed while it published");
    assert_eq!(until_kept(&journal, 1_501), book.of("ETH/USD"));
    let done = verified(&roster, &[&journal]);
    assert_eq!(done.code, Some(0), "{}", done.stdout);
}

#[test]
#[ignore = "needs nats-server"]
fn two_relays_of_one_journal_publish_each_report_once() {
    let servers = [Nats::start("")];
    let mut book = Book::new(&["BTC/USD", "ETH/USD"]);
    let relays = [0; 2].map(|_| book.relay(&servers[0].url(), &[]));
    for _ in 0..50 {
        book.grow(10);
    }
    relays
        .iter()
        .for_each(|relay| book.until_published(&servers, relay));
    book.assert_there(&servers, "RSORACLE");
    relays.iter().for_each(|relay| relay.signal("STOP"));
    book.grow(100);
    relays.iter().for_each(|relay| relay.signal("CONT"));
    relays
        .iter()
        .for_each(|relay| book.until_published(&servers, relay));
    book.assert_there(&servers, "RSORACLE");
}

#[test]
#[ignore = "needs nats-server"]
fn what_the_stream_no_longer_keeps_is_not_published_again() {
    let servers = [Nats::start("")];
    let mut book = Book::new(&["BTC/USD"]);
    let relay = book.relay(&servers[0].url(), &[]);
    book.grow(10);
    book.until_published(&servers, &relay);
    let mut client = servers[0].client();
    client
        .api("STREAM.PURGE.RSORACLE", "")
        .expect("it is purged");
    book.grow(5);
    book.until_published(&servers, &relay);
    let all = messages(&servers, "RSORACLE");
    let there = &all["rsoracle.BTC-USD.reports"];
    let there: Vec<&String> = there.iter().map(|one| &one.payload).collect();
    assert_eq!(there, book.lines[10..].iter().collect::<Vec<_>>());
    // Another relay begins anew, but the stream takes the first report for one that it has. It does not claim that it is there.
    drop(relay);
    client
        .api("STREAM.PURGE.RSORACLE", "")
        .expect("it is purged");
    let relay = book.relay(&servers[0].url(), &[]);
    relay.stderr_line("as long as the stream knows its id");
    assert!(!relay.stderr().contains("has all that the journal has"));
    // A stream that is made anew knows no ids.
    client
        .api("STREAM.DELETE.RSORACLE", "")
        .expect("it is deleted");
    book.until_published(&servers, &relay);
    book.assert_there(&servers, "RSORACLE");
}

#[test]
#[ignore = "needs nats-server"]
fn a_stream_that_is_made_knows_messages_for_an_hour_or_as_long_as_it_keeps_them() {
    let servers = [Nats::start("")];
    let mut book = Book::new(&["BTC/USD"]);
    book.grow(1);
    for (name, age, minutes) in [("A", "10m", 10), ("B", "2h", 60), ("C", "", 60)] {
        let mut flags = vec!["--stream", name];
        if !age.is_empty() {
            flags.extend(["--max-age", age]);
        }
        let relay = book.relay(&servers[0].url(), &flags);
        book.until_said(&relay);
        let mut client = servers[0].client();
        let about = client.api(&format!("STREAM.INFO.{name}"), "").unwrap();
        let window_ns = number(&about, "duplicate_window");
        assert_eq!(window_ns, Some(minutes * 60_000_000_000), "{about}");
        // Only one stream has these subjects.
        drop(relay);
        client.api(&format!("STREAM.DELETE.{name}"), "").unwrap();
    }
}

#[test]
#[ignore = "needs nats-server"]
fn a_journal_in_segments_is_published_as_one() {
    let servers = [Nats::start("")];
    let url = servers[0].url();
    let mut book = Book::new(&["BTC/USD", "ETH/USD"]);
    let relay = book.relay(&url, &[]);
    let mut closed = Vec::new();
    for number in 1..=5 {
        book.grow(20);
        relay.signal(if number == 3 { "STOP" } else { "CONT" });
        book.grow(20);
        closed.push(book.close_segment(number));
    }
    book.grow(3);
    book.until_published(&servers, &relay);
    book.assert_there(&servers, "RSORACLE");
    assert!(!relay.stderr().contains("replaced"), "{}", relay.stderr());
    // Another one finds its place, also when the oldest segments are gone.
    drop(relay);
    closed[..3]
        .iter()
        .for_each(|path| std::fs::remove_file(path).unwrap());
    let relay = book.relay(&url, &[]);
    book.until_said(&relay);
    book.grow(3);
    book.until_published(&servers, &relay);
    book.assert_there(&servers, "RSORACLE");
}

/// A relay that stops, and what it says on standard error.
fn stopped(relay: Running, parts: &[&str]) {
    let done = relay.finish();
    assert_eq!((done.code, &*done.stdout), (Some(1), ""), "{}", done.stderr);
    for part in parts {
        assert!(done.stderr.contains(part), "{part:?} in {}", done.stderr);
    }
}

#[test]
#[ignore = "needs nats-server"]
fn what_the_stream_has_must_be_the_beginning_of_the_journal() {
    let mut servers = [Nats::start("")];
    let url = servers[0].url();
    let mut book = Book::new(&["BTC/USD"]);
    book.grow(10);
    let relay = book.relay(&url, &[]);
    book.until_said(&relay);
    drop(relay);
    let relayed = |lines: &[String]| {
        let mut other = Book::new(&["BTC/USD"]);
        other.append(lines);
        let relay = other.relay(&url, &[]);
        (other, relay)
    };
    // A journal that is behind waits until it has what the stream has.
    let (mut behind, relay) = relayed(&book.lines[..4]);
    relay.stderr_line("does not have yet (BTC/USD: report 10); waiting for them");
    behind.append(&book.lines[4..]);
    book.until_said(&relay);
    book.grow(1);
    behind.append(&book.lines[10..]);
    book.until_published(&servers, &relay);
    drop(relay);
    // A journal that begins later, one with a line missing, and others.
    book.grow(3);
    let other = |aggregator: u8, count: usize| {
        let mut oracle = Oracle {
            aggregator,
            ..Oracle::new(1, "binance:BTCUSDC")
        };
        lines(&mut oracle, 1, count as u64)
    };
    for (lines, parts) in [
        (
            book.lines[12..].to_vec(),
            [
                "line 1 of BTC/USD",
                "ends with report 11, and what follows that is not",
            ],
        ),
        (
            [&book.lines[..11], &book.lines[12..]].concat(),
            ["line 12 of BTC/USD", "does not continue report 11"],
        ),
        (
            other(30, 20),
            [
                "line 1 of BTC/USD",
                "has another report 1: this is another chain",
            ],
        ),
        (
            // It ends before the stream does.
            other(30, 5),
            [
                "line 1 of BTC/USD",
                "has another report 1: this is another chain",
            ],
        ),
    ] {
        stopped(relayed(&lines).1, &[parts[0], parts[1], "--stream"]);
    }
    let mut late = Oracle {
        aggregator: 31,
        ..Oracle::new(1, "binance:BTCUSDC")
    };
    let late = following::lines(&mut late, 50, 2);
    stopped(
        relayed(&late[1..]).1,
        &["line 1 of BTC/USD", "later than report 11 of the stream"],
    );
    // Something else on the subject.
    let mut client = servers[0].client();
    client
        .ask("rsoracle.BTC-USD.reports", "", "hello")
        .expect("it is stored");
    let relay = book.relay(&url, &[]);
    stopped(
        relay,
        &[
            "(sequence 12) is no report of BTC/USD",
            "nats stream rmm RSORACLE 12",
        ],
    );
    client
        .api("STREAM.MSG.DELETE.RSORACLE", "{\"seq\":12}")
        .expect("it is removed");
    let relay = book.relay(&url, &[]);
    // This version then takes the subject to be empty: to publish all anew would be wrong.
    if servers[0].stderr().contains("Version:  2.9.") {
        relay.stderr_line("does not know which one is the last");
        servers[0].kill();
        servers[0].again();
    }
    book.until_said(&relay);
    book.assert_there(&servers, "RSORACLE");
    // The journal is replaced by the same one, by a shorter beginning, and damaged.
    std::fs::copy(&book.path, book.path.with_extension("copy")).unwrap();
    std::fs::rename(book.path.with_extension("copy"), &book.path).unwrap();
    relay.stderr_line("was replaced or cut; it is read anew");
    book.grow(5);
    book.until_published(&servers, &relay);
    let line = following::lines(&mut book.oracles[0], 100, 1).remove(0);
    book.append(&[line.replacen("\"rule\":\"", "\"rule\":\"x", 1)]);
    stopped(relay, &["line 20 of BTC/USD", "it is damaged"]);
}

#[test]
#[ignore = "needs nats-server"]
fn a_stream_that_is_there_must_fit_and_one_that_vanishes_is_made_again() {
    let servers = [Nats::start("")];
    let url = servers[0].url();
    let mut book = Book::new(&["BTC/USD"]);
    let roster = roster_file(&roster_of_all(&book.oracles));
    book.grow(3);
    let mut client = servers[0].client();
    for (name, config, parts) in [
        (
            "A",
            "\"subjects\":[\"a.b\"],\"retention\":\"workqueue\"",
            [
                "its subjects lack rsoracle.*.reports",
                "its retention is not 'limits'",
            ],
        ),
        (
            "B",
            "\"subjects\":[\"rsoracle.>\"],\"retention\":\"limits\"",
            ["it does not allow direct gets", "nats stream edit"],
        ),
    ] {
        let text = format!("{{\"name\":\"{name}\",{config}}}");
        client
            .api(&format!("STREAM.CREATE.{name}"), &text)
            .expect("it is made");
        stopped(book.relay(&url, &["--stream", name]), &parts);
    }
    // Its subjects are another stream's.
    stopped(
        book.relay(&url, &[]),
        &["cannot use the stream RSORACLE", "subjects overlap"],
    );
    client.api("STREAM.DELETE.B", "").expect("it is removed");
    stopped(
        book.relay(&url, &["--replicas", "3"]),
        &["cannot use the stream RSORACLE", "replicas"],
    );
    let relay = book.relay(&url, &["--max-age", "1h", "--max-bytes", "1000000"]);
    relay.stderr_line("it keeps reports for 1h, the newest 1000000 bytes; replicas: 1");
    book.until_said(&relay);
    let (follow, journal) = followed(&url, &roster, &[]);
    rows_until(&follow, &mut [], 1);
    // It is removed, and made again with all that the journal has. Who follows goes on.
    client
        .api("STREAM.DELETE.RSORACLE", "")
        .expect("it is removed");
    book.grow(1);
    book.until_published(&servers, &relay);
    book.assert_there(&servers, "RSORACLE");
    book.grow(4);
    rows_until(&follow, &mut [], 6);
    assert_eq!(kept(&journal), book.lines[2..]);
}

#[test]
#[ignore = "needs nats-server"]
fn a_stream_that_is_full_is_named_and_goes_on_when_there_is_room() {
    let servers = [Nats::start("")];
    let mut client = servers[0].client();
    let config = |bytes: u64| {
        format!(
            "{{\"name\":\"RSORACLE\",\"subjects\":[\"rsoracle.*.reports\"],\"retention\":\"limits\",\"discard\":\"new\",\"max_bytes\":{bytes},\"allow_direct\":true,\"num_replicas\":1,\"storage\":\"file\"}}"
        )
    };
    client
        .api("STREAM.CREATE.RSORACLE", &config(20_000))
        .expect("it is made");
    let mut book = Book::new(&["BTC/USD", "ETH/USD"]);
    book.grow(50);
    let relay = book.relay(&servers[0].url(), &[]);
    relay.stderr_line("beyond which it refuses reports (discard new)");
    let line = relay.stderr_line("maximum bytes exceeded");
    assert!(
        line.contains("does not take a report of ") && line.ends_with("; trying again"),
        "{line}"
    );
    let full = client.last("RSORACLE").expect("it answers");
    assert!((1..100).contains(&full), "{full}");
    client
        .api("STREAM.UPDATE.RSORACLE", &config(10_000_000))
        .expect("it is changed");
    book.until_published(&servers, &relay);
    book.assert_there(&servers, "RSORACLE");
    let told = relay.stderr().matches("maximum bytes exceeded").count();
    assert!(told <= 2, "once for each feed at most: {}", relay.stderr());
}

#[test]
#[ignore = "needs nats-server"]
fn a_server_whose_disk_is_full_is_named_and_goes_on_when_it_has_more() {
    let mut servers = [Nats::start("")];
    servers[0].configure("jetstream { ", "jetstream { max_file: 100K, ");
    servers[0].kill();
    servers[0].again();
    let mut book = Book::new(&["BTC/USD", "ETH/USD"]);
    book.grow(100);
    let relay = book.relay(&servers[0].url(), &[]);
    let line = relay.stderr_line("does not take a report of ");
    assert!(line.contains("insufficient"), "{line}");
    servers[0].kill();
    servers[0].configure("max_file: 100K", "max_file: 100M");
    servers[0].again();
    book.until_published(&servers, &relay);
    book.assert_there(&servers, "RSORACLE");
}

/// What else may be in the stream: none of it is believed, all of it is named, and nothing after it is lost.
#[test]
#[ignore = "needs nats-server"]
fn what_others_publish_into_the_stream_is_named_and_passed_over() {
    let servers = [Nats::start("")];
    let mut book = Book::new(&["BTC/USD"]);
    let roster = roster_file(&roster_of_all(&book.oracles));
    book.grow(3);
    let relay = book.relay(&servers[0].url(), &[]);
    book.until_said(&relay);
    let (follow, journal) = followed(&servers[0].url(), &roster, &[]);
    rows_until(&follow, &mut [], 1);
    let mut client = servers[0].client();
    let subject = "rsoracle.BTC-USD.reports";
    book.grow(1);
    book.until_published(&servers, &relay);
    drop(relay);
    rows_until(&follow, &mut [], 2);
    let forged = book.lines[3].replacen("\"number\":4", "\"number\":5", 1);
    let long = "x".repeat(900_000);
    let headers = format!("X: {}\r\nNats-Sequence: 99999\r\n", "y".repeat(50_000));
    for (head, payload) in [
        ("NATS/1.0\r\n\r\n", "hello"),
        ("NATS/1.0 404 Message Not Found\r\n\r\n", ""),
        (
            "NATS/1.0\r\nNats-Sequence: 99999\r\nNats-Subject: rsoracle.x.reports\r\n\r\n",
            "{}",
        ),
        ("NATS/1.0\r\n\r\n", &*forged),
        ("NATS/1.0\r\n\r\n", &*book.lines[1]),
        ("NATS/1.0\r\n\r\n", &*long),
        (&*format!("NATS/1.0\r\n{headers}\r\n"), &*long),
    ] {
        let answer = client.asked_raw(subject, head, payload).expect("an answer");
        assert!(answer.payload.contains("\"seq\":"), "{answer:?}");
    }
    let next = following::lines(&mut book.oracles[0], 4, 3);
    book.append(&next);
    for line in &next {
        client.ask(subject, "", line).expect("it is stored");
    }
    rows_until(&follow, &mut [], 5);
    assert_eq!(kept(&journal), book.lines[2..]);
    let text = follow.stderr();
    assert!(
        text.contains("it is passed over") && text.contains("older than its last one"),
        "{text}"
    );
    assert!(text.lines().count() <= 3, "{text}");
    // A new one finds its place among all of that, and one that begins now its end.
    let (fresh, _) = followed(&servers[0].url(), &roster, &[]);
    assert_eq!(rows_until(&fresh, &mut [], 1)[0].price, Some(106.0));
    drop(follow);
    let last = following::lines(&mut book.oracles[0], 7, 1);
    client.ask(subject, "", "more").expect("it is stored");
    client.ask(subject, "", &last[0]).expect("it is stored");
    book.append(&last);
    let follow = follow_into(&journal, &servers[0].url(), &roster, &[]);
    rows_until(&follow, &mut [], 1);
    assert_eq!(kept(&journal), book.lines[2..]);
}

#[test]
#[ignore = "needs nats-server"]
fn a_follower_that_reads_too_slowly_is_dropped_by_the_server_and_misses_nothing() {
    let servers = [Nats::start(
        "max_pending: 1200000\nwrite_deadline: \"100ms\"",
    )];
    let mut book = Book::new(&["BTC/USD"]);
    let roster = roster_file(&roster_of_all(&book.oracles));
    book.grow(3);
    let relay = book.relay(&servers[0].url(), &[]);
    book.until_said(&relay);
    let (follow, journal) = followed(&servers[0].url(), &roster, &[]);
    rows_until(&follow, &mut [], 1);
    follow.signal("STOP");
    // News for which there is no room, on the subject, though not in the stream: it does not have this id twice.
    let mut client = servers[0].client();
    let (long, id) = (
        "x".repeat(900_000),
        &book.lines[2][book.lines[2].len() - 130..book.lines[2].len() - 2],
    );
    eventually("the server drops it", || {
        let answer = client.ask(
            "rsoracle.BTC-USD.reports",
            &format!("Nats-Msg-Id: {id}\r\n"),
            &long,
        );
        assert!(answer.is_some_and(|one| one.payload.contains("\"duplicate\"")));
        servers[0].stderr().contains("Slow Consumer").then_some(())
    });
    book.grow(20);
    book.until_published(&servers, &relay);
    follow.signal("CONT");
    rows_until(&follow, &mut [], 21);
    assert_eq!(kept(&journal), book.lines[2..]);
    // What it had not read may be more than it reads without news.
    let text = follow.stderr();
    let parts = ["the connection", "nothing of it is news"];
    assert!(parts.iter().any(|part| text.contains(part)), "{text}");
}
