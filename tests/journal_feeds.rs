//! Where the chains of several feeds go on in a long journal: how far it is read, and what says that a feed is new.

mod signed;
mod support;

use rsoracle_proof::seal::hex;
use signed::Says::*;
use signed::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use support::peer::collector_key;
use support::*;

const FEEDS: [&str; 3] = ["BTC/USD", "ETH/USD", "SOL/USD"];
/// So many that the stretch of the journal that is read at first (256 KiB) does not have them all.
const ROUNDS: u64 = 150;

/// A journal that key 0 has signed, the file beside it, and a roster.
struct Files(PathBuf);

impl Files {
    /// The roster has these feeds.
    fn new(feeds: &[&str]) -> Files {
        let files = Files(scratch("roster.toml").parent().unwrap().to_owned());
        files.roster(feeds);
        files.key("journal.key", 1);
        files
    }

    /// Replaces the roster by one that has these feeds.
    fn roster(&self, feeds: &[&str]) {
        let mut text = "number = 1\nprevious = \"\"\n".to_owned();
        for feed in feeds {
            text += &format!(
                "[feed.\"{feed}\"]\nrule = \"median\"\nsample_rule = \"mean\"\nmin_exchanges = 1\nmax_age = \"\"\nmax_spread = \"\"\nsamples = 1\ninterval = \"1s\"\nperiod = \"10s\"\nfirst_start = \"2026-01-01T00:00:00Z\"\nend = \"\"\n"
            );
        }
        let key = hex(collector_key(1).public().bytes());
        let sources = vec!["\"kraken:BTC/USD\""; feeds.len()].join(", ");
        text += &format!("[slot.0]\nkey = \"{key}\"\nsources = [{sources}]\n");
        fs::write(self.path("roster.toml"), text).unwrap();
    }

    /// Writes the file of the secret key that has this byte 32 times.
    fn key(&self, name: &str, byte: u8) {
        let key = format!("rsoracle secret key 1 {}\n", hex(&[byte; 32]));
        fs::write(self.path(name), key).unwrap();
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(self.path(name), mode).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// The lines of a file; none if it does not exist.
    fn held(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn put(&self, name: &str, lines: &[String]) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(self.path(name), text).unwrap();
    }

    /// Starts an aggregator. Returns what it says of its journal, where it goes on or why it does not.
    fn start(&self) -> String {
        self.start_with(&[])
    }

    fn start_with(&self, more: &[&str]) -> String {
        let (roster, journal) = (self.path("roster.toml"), self.path("journal"));
        let args = ["aggregate", "--roster", &roster, "--journal", &journal];
        let ports = ["--control-port", "0", "--data-port", "0"];
        let running = start(&[&args[..], &ports, more].concat());
        let line = running.stderr_line(&format!("journal {journal}"));
        line.replace(&self.path(""), "")
    }

    /// Asks what a start would do. Returns the exit code and all that is said.
    fn check(&self, more: &[&str]) -> (Option<i32>, String) {
        let (roster, journal) = (self.path("roster.toml"), self.path("journal"));
        let args = ["aggregate", "--roster", &roster, "--journal", &journal];
        let done = run(&[&args[..], &["--check"], more].concat());
        let said = done.stdout + &done.stderr;
        (done.code, said.replace(&self.path(""), ""))
    }
}

/// For each feed what signs its reports.
fn oracles() -> [Oracle; 3] {
    FEEDS.map(|feed| {
        let mut oracle = Oracle::new(5, "kraken:BTC/USD");
        oracle.terms.feed = feed.to_owned();
        oracle
    })
}

/// The journal's lines: rounds of the first two feeds, before which the third had `before` reports.
fn lines(before: u64) -> Vec<String> {
    let mut oracles = oracles();
    let mut lines = Vec::new();
    for round in 1..=before + ROUNDS {
        let feeds = if round <= before { 3 } else { 2 };
        for oracle in &mut oracles[..feeds] {
            lines.push(oracle.line(START_US + round * GRID_US, &[Price(100.0); 5]));
        }
    }
    lines
}

#[test]
fn the_whole_journal_is_searched_for_a_feed_that_stood_there_long_ago() {
    let files = Files::new(&FEEDS);
    let mut lines = lines(3);
    files.put("journal", &lines);
    let third = lines[8].clone();
    let goes_on = "journal journal: BTC/USD, ETH/USD: continues at report 154; SOL/USD: continues at report 4";
    for beside in [&[lines[307].clone(), lines[308].clone(), third][..], &[]] {
        files.put("journal.newest", beside);
        let said = files.start();
        assert!(said.ends_with(goes_on), "{said}");
    }
    // Only a part of the last round was written: the chains end apart.
    lines.pop();
    files.put("journal", &lines);
    fs::remove_file(files.path("journal.newest.others")).unwrap();
    files.put("journal.newest", &lines[305..307]);
    let said = files.start();
    let goes_on = "BTC/USD: continues at report 154; ETH/USD: continues at report 153; SOL/USD: continues at report 4";
    assert!(said.ends_with(goes_on), "{said}");
}

#[test]
fn a_feed_is_new_without_a_search_if_the_file_beside_the_journal_is_its_end_and_does_not_name_it() {
    let files = Files::new(&FEEDS);
    let mut lines = lines(0);
    // Whoever reads so far is refused.
    lines.insert(0, "{}".to_owned());
    files.put("journal", &lines);
    files.put("journal.newest", &lines[lines.len() - 2..]);
    let whole = "cannot open the journal journal: line 1: ";
    let said = files.start();
    assert!(said.contains(whole), "the other file is missing: {said}");
    files.put("journal.newest.others", &[]);
    let said = files.start();
    let goes_on = "BTC/USD, ETH/USD: continues at report 151; SOL/USD: new";
    assert!(said.ends_with(goes_on), "{said}");
    // It is older than the end, as after a power failure: what is between is read.
    files.put("journal.newest", &lines[lines.len() - 4..lines.len() - 2]);
    let said = files.start();
    assert!(said.ends_with(goes_on), "{said}");
    // It is so old that it says nothing about the lines that are read.
    files.put("journal.newest", &lines[1..3]);
    let said = files.start();
    assert!(said.contains(whole), "{said}");
    // No feed of the roster is missing, but which others there are must be known.
    let files = Files::new(&FEEDS[..2]);
    files.put("journal", &lines);
    let said = files.start();
    assert!(said.contains(whole), "{said}");
    files.put("journal.newest", &lines[lines.len() - 2..]);
    files.put("journal.newest.others", &[]);
    let said = files.start();
    let goes_on = "journal journal: all feeds: continues at report 151";
    assert!(said.ends_with(goes_on), "{said}");
}

#[test]
fn a_feed_of_the_file_beside_the_journal_that_the_journal_lacks_is_refused() {
    let files = Files::new(&FEEDS);
    let lines = lines(1);
    files.put("journal", &[&lines[..2], &lines[3..]].concat());
    let newest = [&lines[lines.len() - 2..], &lines[2..3]].concat();
    files.put("journal.newest", &newest);
    let said = files.start();
    let lost = "SOL/USD: it has no report, but its key has signed report 1, which journal.newest holds: the journal has lost its end";
    assert!(said.contains(lost), "{said}");
    // Not in the roster, it is nobody's concern.
    let others = Files::new(&FEEDS[..2]);
    others.put("journal", &[&lines[..2], &lines[3..]].concat());
    others.put("journal.newest", &newest);
    let said = others.start();
    assert!(
        said.ends_with("all feeds: continues at report 152"),
        "{said}"
    );
    assert!(others.held("journal.newest") == newest[..2]);
    let kept = others.held("journal.newest.others");
    assert!(kept == newest, "its line stays");
    others.roster(&FEEDS);
    let said = others.start();
    let lost = lost.replace("journal.newest", "journal.newest.others");
    assert!(said.contains(&lost), "{said}");
}

#[test]
fn a_feed_is_not_new_whatever_became_of_the_files_beside_the_journal() {
    // Feed B has one report, in the first round of both, and many reports of A follow.
    let two = &FEEDS[..2];
    let mut oracles = oracles();
    let [a, b, _] = &mut oracles;
    let at = |round: u64| START_US + round * GRID_US;
    let mut lines = vec![a.line(at(1), &[Price(100.0); 5])];
    lines.push(a.line(at(2), &[Price(100.0); 5]));
    lines.push(b.line(at(2), &[Price(100.0); 5]));
    for round in 3..2 * ROUNDS {
        lines.push(a.line(at(round), &[Price(100.0); 5]));
    }
    let goes_on = "BTC/USD: continues at report 300; ETH/USD: continues at report 2";
    // The process ended after it had appended that round, before it replaced the file beside the journal: that is the one of
    // the round before, or there is none.
    for (newest, others) in [(1, true), (0, true), (1, false), (0, false)] {
        let files = Files::new(&FEEDS[..1]);
        files.put("journal", &lines[..3]);
        files.put("journal.newest", &lines[..newest]);
        if others {
            files.put("journal.newest.others", &[]);
        }
        let said = files.start();
        assert!(said.ends_with("continues at report 3"), "{said}");
        assert!(files.held("journal.newest") == lines[1..2]);
        // If it was missing, it may have been another one that was lost: it has all feeds.
        let known = if others { 2..3 } else { 1..3 };
        assert!(files.held("journal.newest.others") == lines[known.clone()]);
        // As rounds of A alone leave it.
        files.put("journal", &lines);
        files.put("journal.newest", &lines[lines.len() - 1..]);
        let said = files.start();
        assert!(said.ends_with("continues at report 300"), "{said}");
        files.roster(two);
        let said = files.start();
        assert!(said.ends_with(goes_on), "{said}");
        assert!(files.held("journal.newest.others") == lines[known]);
    }
    // Somebody has removed one of the files beside the journal, or both.
    for (newest, others) in [(false, true), (true, false), (false, false)] {
        for feeds in [&FEEDS[..1], two] {
            let files = Files::new(feeds);
            files.put("journal", &lines);
            if newest {
                files.put("journal.newest", &lines[lines.len() - 1..]);
            }
            if others {
                files.put("journal.newest.others", &[]);
            }
            files.start();
            files.roster(two);
            let said = files.start();
            assert!(said.ends_with(goes_on), "{said}");
        }
    }
}

#[test]
fn a_feed_that_would_be_one_too_many_in_the_journal_is_refused_before_the_first_append() {
    let feed = |number: usize| format!("F{number}/USD");
    let lines: Vec<String> = (0..40)
        .map(|number| {
            let mut oracle = Oracle::new(1, "kraken:BTC/USD");
            oracle.terms.feed = feed(number);
            oracle.line(START_US, &[Price(100.0)])
        })
        .collect();
    let others: Vec<String> = (40..65).map(feed).collect();
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    // Some of the feeds stand in the journal, the others only beside it.
    for held in [0, 20] {
        let files = Files::new(&others);
        files.put("journal", &lines[held..]);
        files.put("journal.newest", &lines[20..]);
        files.put("journal.newest.others", &lines[..20]);
        let many = "cannot continue the journal journal: with this roster it would have 65 feeds, and at most 64 are followed";
        let (code, said) = files.check(&[]);
        assert!(code == Some(1) && said.contains(many), "{said}");
        let said = files.start();
        assert!(said.contains(many), "{said}");
        assert!(files.held("journal") == lines[held..]);
        files.roster(&others[1..]);
        assert_eq!(files.check(&[]).0, Some(0));
        let said = files.start();
        assert!(said.ends_with("all feeds: new"), "{said}");
    }
}

#[test]
fn a_change_of_keys_is_one_of_every_chain_that_the_old_key_ends_whatever_the_roster_has() {
    let files = Files::new(&FEEDS[..2]);
    files.key("new.key", 9);
    files.key("third.key", 8);
    // The chain of the third feed ends far in front of the end.
    let lines = lines(3);
    files.put("journal", &lines);
    let (new, old) = (files.path("new.key"), files.path("journal.key"));
    let key = ["--aggregator-key", new.as_str()];
    let said = files.start_with(&key);
    let other = "BTC/USD: it is signed with another aggregator key";
    assert!(said.contains(other), "{said}");
    let third = files.path("third.key");
    let said = files.start_with(&[&key[..], &["--retire-key", &third]].concat());
    let other = "BTC/USD: the key of --retire-key did not sign its last report";
    assert!(said.contains(other), "{said}");
    let change = [&key[..], &["--retire-key", &old]].concat();
    let (_, said) = files.check(&change);
    assert!(said.contains("would continue with another"), "{said}");
    for _ in 0..2 {
        let said = files.start_with(&change);
        assert!(said.ends_with("continues at report 154"), "{said}");
        let journal = files.held("journal");
        assert!(journal[..lines.len()] == lines);
        let changes: Vec<&str> = journal[lines.len()..]
            .iter()
            .map(|it| it.split("\"old\"").next().unwrap())
            .collect();
        let expected =
            FEEDS.map(|feed| format!("{{\"rsoracle_key_change\":2,\"feed\":\"{feed}\","));
        assert_eq!(changes, expected);
    }
    // Then the old key may be gone, whatever the flags still say.
    fs::remove_file(&old).unwrap();
    let said = files.start_with(&change);
    assert!(said.ends_with("continues at report 154"), "{said}");
    // When the third feed is back, its chain goes on under the new key.
    files.roster(&FEEDS);
    let said = files.start_with(&key);
    assert!(said.ends_with("SOL/USD: continues at report 4"), "{said}");
    let verified = run(&["verify", &files.path("journal")]);
    assert_eq!(verified.code, Some(5), "{}", verified.stderr);
}
