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

/// Starts `follow --json` on a stream, with a journal. Returns it and the journal.
fn followed(url: &str, roster: &str, flags: &[&str]) -> (Running, String) {
    let journal = scratch("kept.jsonl").to_str().unwrap().to_owned();
    let fixed = [
        "follow",
        url,
        "--json",
        "--roster",
        roster,
        "--journal",
        &journal,
    ];
    (start(&[&fixed, flags].concat()), journal)
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
    book.until_published(&relay);
    let (follow, journal) = followed(&servers[0].url(), &roster, &[]);
    rows_until(&follow, &mut [], 2);
    let changes = [
        change(&mut book.oracles[0], 20),
        change(&mut book.oracles[1], 21),
    ];
    book.append(&changes);
    book.grow(20);
    book.until_published(&relay);
    rows_until(&follow, &mut [], 42);
    // Of each feed the newest report at the start, the change, and what follows.
    let lines = until_kept(&journal, 44);
    for feed in ["BTC/USD", "ETH/USD"] {
        let part = format!("\"feed\":\"{feed}\"");
        let of: Vec<&String> = lines.iter().filter(|line| line.contains(&part)).collect();
        assert_eq!(of, book.of(feed)[4..].iter().collect::<Vec<_>>());
    }
    assert_eq!(follow.stderr(), "");
    assert_eq!(verified(&roster, &[&journal]).code, Some(0));
    // It is away, and goes on after its last report.
    drop(follow);
    book.grow(30);
    book.until_published(&relay);
    let fixed = [
        "follow",
        &servers[0].url(),
        "--json",
        "--roster",
        &roster,
        "--journal",
        &journal,
    ];
    let follow = start(&fixed);
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
    let done = run(&[&fixed[..5], &["--once", "--max-age", "1h"]].concat());
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
    book.until_published(&relay);
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
    book.until_published(&relay);
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
    relays.iter().for_each(|relay| book.until_published(relay));
    book.assert_there(&servers, "RSORACLE");
    relays.iter().for_each(|relay| relay.signal("STOP"));
    book.grow(100);
    relays.iter().for_each(|relay| relay.signal("CONT"));
    relays.iter().for_each(|relay| book.until_published(relay));
    book.assert_there(&servers, "RSORACLE");
}
