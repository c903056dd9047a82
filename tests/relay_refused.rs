//! `rsoracle relay` and `rsoracle follow` with a scripted NATS server that refuses what it is sent, as clusters do now and then, or
//! that means harm.

mod following;
mod nats;
mod signed;
mod support;

use following::{Server, lines, roster_file, rows, until};
use nats::scripted::{Scripted, error};
use nats::*;
use signed::{Oracle, roster_of_all};
use std::io::{Read, Write};
use std::net::TcpListener;
use support::*;

#[test]
fn what_a_cluster_cannot_take_at_the_moment_is_sent_again() {
    let mut book = Book::new(&["BTC/USD"]);
    book.grow(3);
    let mut server = Scripted::start();
    server.refusals = vec![
        error(409, 10_158, "duplicate message id is in process"),
        error(400, 10_164, "wrong last sequence"),
        error(429, 10_167, "too many requests"),
        error(400, 10_002, "resource limits exceeded for account"),
        error(400, 10_164, "wrong last sequence"),
    ];
    let mut relay = book.relay(&server.url(), &[]);
    server.until_stored(&book, &mut relay);
    assert!(server.refusals.is_empty());
    // Only what the server or the account lacks needs another connection.
    assert_eq!(server.opened, 3, "{}", relay.stderr());
}

#[test]
fn a_refusal_that_asking_does_not_explain_is_named_and_ends_the_connection() {
    let mut book = Book::new(&["BTC/USD"]);
    book.grow(2);
    // The stream's leader names a message that was removed, or none; a replica still has what it had.
    for (refusal, part) in [
        ("wrong last sequence: 99", "its message 99, which it does"),
        ("wrong last sequence", "wrong last sequence"),
    ] {
        let mut server = Scripted::start();
        server.refuses = Some(error(400, 10_071, refusal));
        let mut relay = book.relay(&server.url(), &[]);
        server.until("another connection", &mut relay, |server, _| {
            assert!(server.asked < 100, "it asks without end: {refusal}");
            (server.opened > 1).then_some(())
        });
        let line = relay.stderr_line(part);
        assert!(line.ends_with("; trying again"), "{line}");
        server.refuses = None;
        server.until_stored(&book, &mut relay);
        book.grow(1);
        server.until_stored(&book, &mut relay);
    }
}

/// The most memory that a process has had, in KiB.
fn peak_kib(process: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let words = line.expect("a peak").split_whitespace();
    words.skip(1).find_map(|word| word.parse().ok()).unwrap()
}

#[test]
fn a_server_that_pings_without_end_and_reads_nothing_costs_no_memory() {
    let mut book = Book::new(&["BTC/USD"]);
    let roster = roster_file(&roster_of_all(&book.oracles));
    book.grow(1);
    let pings = b"PING\n".repeat(20_000);
    for follows in [false, true] {
        let mut server = Scripted::start();
        let url = server.url();
        let mut client = match follows {
            false => book.relay(&url, &[]),
            true => start(&["follow", &url, "--json", "--roster", &roster]),
        };
        // The relay's first question needs an answer; whoever follows has asked something once it is connected.
        server.until("a question", &mut client, |server, _| {
            (server.asked > 0).then_some(())
        });
        let (mut stream, before) = (server.take(), peak_kib(&client));
        // At most 25 MB, to which the answers would have 30 MB. It may give the server up meanwhile.
        let sent = (0..250).take_while(|_| stream.write_all(&pings).is_ok());
        assert!(sent.count() > 0);
        let grown = peak_kib(&client) - before;
        assert!(grown < 16_384, "{grown} KiB, follows: {follows}");
    }
}

#[test]
fn a_server_that_sends_no_news_without_end_is_closed_and_its_reports_come_after_that() {
    let mut book = Book::new(&["BTC/USD"]);
    let roster = roster_file(&roster_of_all(&book.oracles));
    book.grow(1);
    let subject = "rsoracle.BTC-USD.reports";
    let has = |book: &Book, server: &mut Scripted| {
        let stored = book
            .lines
            .iter()
            .map(|line| (subject.to_owned(), line.clone()));
        server.stored = stored.collect();
    };
    let mut server = Scripted::start();
    has(&book, &mut server);
    let mut follow = start(&["follow", &server.url(), "--json", "--roster", &roster]);
    let shown = |follow: &Running| rows(&follow.stdout()).len();
    server.until("the first row", &mut follow, |_, follow| {
        (shown(follow) == 1).then_some(())
    });
    let noise = format!("MSG {subject} 2 100000\r\n{}\r\n", "x".repeat(100_000));
    server.until("it is named", &mut follow, |server, follow| {
        server.say(&noise);
        follow
            .stderr()
            .contains("nothing of it is news")
            .then_some(())
    });
    book.grow(2);
    has(&book, &mut server);
    server.until("all rows", &mut follow, |_, follow| {
        (shown(follow) == 3).then_some(())
    });
}

#[test]
fn a_greeting_that_drips_keeps_no_other_source_waiting() {
    let mut oracle = Oracle::new(1, "binance:BTCUSDC");
    let roster = roster_file(&roster_of_all(std::slice::from_ref(&oracle)));
    let mut servers = [Server::honest(&lines(&mut oracle, 1, 1))];
    let drips = TcpListener::bind("127.0.0.1:0").unwrap();
    drips.set_nonblocking(true).unwrap();
    let url = format!("nats://{}", drips.local_addr().unwrap());
    let follow = start(&[
        "follow",
        "--json",
        "--roster",
        &roster,
        &servers[0].url(),
        &url,
    ]);
    let (mut dripping, mut shown, mut next) = (None, 0, 2);
    until("a row while it drips", &mut servers, |servers| {
        if dripping.is_none() {
            let (stream, _) = drips.accept().ok()?;
            stream.set_nonblocking(true).unwrap();
            dripping = Some(stream);
            shown = rows(&follow.stdout()).len();
            servers[0].lines.extend(lines(&mut oracle, next, 1));
            next += 1;
        }
        let stream = dripping.as_mut().expect("it is there");
        // Its greeting has no end.
        let count = rows(&follow.stdout()).len();
        let is_open = stream.write(b" ").is_ok() && stream.read(&mut [0]).is_err();
        if !is_open {
            dripping = None;
        }
        (is_open && count > shown).then_some(())
    });
}
