//! `rsoracle relay` and `rsoracle follow nats://` with a real cluster of three NATS servers, whose leaders are lost.

mod following;
mod nats;
mod signed;
mod support;

use following::*;
use nats::scripted::Scripted;
use nats::*;
use signed::*;
use support::*;

/// The place of the server that leads the stream, once there is one.
fn leader(servers: &[Nats]) -> usize {
    let mut client = anyone(servers);
    eventually("the stream has a leader", || {
        let Some(about) = client.api("STREAM.INFO.RSORACLE", "") else {
            client = anyone(servers);
            return None;
        };
        let (_, rest) = about.split_once("\"leader\":\"s")?;
        rest.chars().next()?.to_digit(10).map(|at| at as usize)
    })
}

/// Waits until all three copies of the stream are level, so that one server can be spared again.
fn until_level(servers: &[Nats]) {
    let mut client = anyone(servers);
    eventually("all replicas are level", || {
        let Some(about) = client.api("STREAM.INFO.RSORACLE", "") else {
            client = anyone(servers);
            return None;
        };
        let is_level =
            about.matches("\"current\":true").count() == 2 && !about.contains("\"offline\":true");
        is_level.then_some(())
    });
}

#[test]
#[ignore = "needs nats-server"]
fn the_leader_of_a_cluster_is_lost_again_and_again_and_each_report_is_there_once() {
    let mut servers = cluster();
    let mut book = Book::new(&["BTC/USD", "ETH/USD"]);
    let roster = roster_file(&roster_of_all(&book.oracles));
    book.grow(1);
    // One server is named; the others are found through it.
    let flags = ["--replicas", "3"];
    let relays = [0, 1].map(|at: usize| book.relay(&servers[at].url(), &flags));
    relays.iter().for_each(|relay| book.until_said(relay));
    relays[0].stderr_line("it keeps reports for ever; replicas: 3");
    let (follow, journal) = followed(&servers[2].url(), &roster, &[]);
    rows_until(&follow, &mut [], 2);
    for round in 0..3u64 {
        let at = leader(&servers);
        let before = anyone(&servers).last("RSORACLE").unwrap_or(0);
        book.grow(60);
        let mut client = servers[at].client();
        eventually("they publish", || {
            (client.last("RSORACLE")? > before + round * 9).then_some(())
        });
        servers[at].kill();
        // The two that are left elect another one, and publishing goes on.
        book.grow(10);
        relays
            .iter()
            .for_each(|relay| book.until_published(&servers, relay));
        servers[at].again();
        until_level(&servers);
    }
    book.assert_there(&servers, "RSORACLE");
    let rows = rows_until(&follow, &mut [], book.lines.len());
    assert_eq!(rows.len(), 2 * 211);
    assert_eq!(verified(&roster, &[&journal]).code, Some(0));
    let part = "\"feed\":\"ETH/USD\"";
    let of: Vec<String> = kept(&journal)
        .into_iter()
        .filter(|line| line.contains(part))
        .collect();
    assert_eq!(of, book.of("ETH/USD"));
}

#[test]
#[ignore = "needs nats-server"]
fn a_server_that_is_about_to_end_is_left_before_it_ends() {
    let mut servers = cluster();
    let mut book = Book::new(&["BTC/USD"]);
    book.grow(5);
    let relay = book.relay(&servers[0].url(), &["--replicas", "3"]);
    book.until_published(&servers, &relay);
    // Lame duck mode, in which it says so and keeps its clients for a while.
    let text = relay.stderr();
    let (at, url) = (0..3)
        .map(|at: usize| (at, servers[at].url()))
        .max_by_key(|(_, url)| text.rfind(&format!("at {url}; ")))
        .unwrap();
    servers[at].running.as_ref().unwrap().signal("USR2");
    let line = relay.stderr_line("it is about to end");
    assert!(line.contains(&url), "{line}");
    book.grow(5);
    book.until_published(&servers, &relay);
    servers[at].kill();
    book.assert_there(&servers, "RSORACLE");
}

/// Follows a cluster of two servers, of which each has these messages of a journal of 30 lines, by their numbers. Returns the
/// numbers of the reports that were printed, and what was said.
fn followed_from(replicas: [&[u64]; 2]) -> (Vec<u64>, String) {
    let mut servers = [Scripted::start(), Scripted::start()];
    servers[0].names = Some(servers[1].address);
    let mut book = Book::new(&["BTC/USD"]);
    let roster = roster_file(&roster_of_all(&book.oracles));
    book.grow(30);
    let message = |number: u64| {
        let line = book.lines[number as usize - 1].clone();
        ("rsoracle.BTC-USD.reports".to_owned(), line)
    };
    servers
        .iter_mut()
        .for_each(|one| one.stored.push(message(1)));
    let (follow, _) = followed(&servers[0].url(), &roster, &[]);
    let mut until_row = |price: f64, is_all: bool| {
        eventually("a row", || {
            servers.iter_mut().for_each(Scripted::step);
            let rows = rows(&follow.stdout());
            if rows.last()?.price != Some(price) {
                return None;
            }
            if !is_all {
                for (server, numbers) in servers.iter_mut().zip(replicas) {
                    server.stored = numbers.iter().copied().map(message).collect();
                }
            }
            Some(rows)
        })
    };
    until_row(100.0, false);
    let rows = until_row(129.0, true);
    let numbers = rows.iter().map(|row| row.price.unwrap() as u64 - 99);
    (numbers.collect(), follow.stderr())
}

#[test]
fn what_one_replica_lacks_is_read_from_another_and_named_if_none_has_it() {
    let all: Vec<u64> = (1..=30).collect();
    // Its sequences are ahead of the other's, since it has messages twice.
    let twice: Vec<u64> = (1..=10).chain(1..=12).chain(14..=30).collect();
    let (numbers, said) = followed_from([&twice, &all]);
    assert_eq!(numbers, all);
    assert!(
        said.contains("missing before 14; the source is asked again"),
        "{said}"
    );
    assert!(!said.contains("does not have"), "{said}");
    let lacks: Vec<u64> = (1..=12).chain(14..=30).collect();
    let (numbers, said) = followed_from([&twice, &lacks]);
    assert_eq!(numbers, lacks);
    assert!(
        said.contains("it does not have the reports 13 to 13"),
        "{said}"
    );
}
