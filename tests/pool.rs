//! `rsoracle verify` with the files of several aggregators: it pools their answers, says where they differ, and proves lies that
//! none of them shows by itself.

mod chronicle;
mod signed;
mod support;
mod witness;

use chronicle::Chronicle;
use nanoserde::DeJson;
use rsoracle::exchange::json;
use rsoracle::keys::create;
use rsoracle::roster::text;
use rsoracle_proof::aggregate::Rule;
use rsoracle_proof::pool::Pool;
use rsoracle_proof::report::{Proof, Report};
use rsoracle_proof::roster::Roster;
use rsoracle_proof::round::{Part, Round};
use rsoracle_proof::seal::{Keys, hex};
use signed::Says::*;
use signed::*;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::Stdio;
use support::*;

const SOURCE: &str = "binance:BTCUSDC";
const PERIOD_US: u64 = 10_000_000;

/// What `verify --json` prints after the files' verdicts.
#[derive(DeJson, Debug)]
struct Pooled {
    files: Vec<String>,
    rounds: u64,
    differ: u64,
    alone: Vec<u64>,
    disordered: Vec<u64>,
    other_terms: u64,
    liars: u64,
    round_start_us: u64,
    feed: String,
    price: Option<f64>,
    time_us: Option<u64>,
    differences: Vec<String>,
}

fn verify(args: &[&str]) -> Finished {
    run(&[&["verify"], args].concat())
}

/// Runs `verify --json`. Returns what it says of the pool, the proofs, and the exit code.
fn pooled(args: &[&str]) -> (Pooled, Vec<String>, Option<i32>) {
    let done = verify(&[&["--json"], args].concat());
    let lines: Vec<&str> = done.stdout.lines().collect();
    let at = lines
        .iter()
        .position(|line| line.starts_with("{\"files\":"));
    let at = at.unwrap_or_else(|| panic!("no pool in {}{}", done.stdout, done.stderr));
    assert_eq!(json::check(lines[at]), Ok(()));
    let pooled = Pooled::deserialize_json(lines[at]).expect("the fields are there");
    let proofs = lines[at + 1..].iter().map(|line| line.to_string());
    (pooled, proofs.collect(), done.code)
}

/// An aggregator with a key of its own, in a roster of five.
fn aggregator(number: u8) -> Oracle {
    Oracle {
        aggregator: number,
        ..Oracle::new(5, SOURCE)
    }
}

/// Writes a file with this name, and these lines.
fn file(name: &str, lines: &[String]) -> String {
    let path = scratch(name);
    std::fs::write(&path, lines.join("\n") + "\n").expect("a file");
    path.display().to_string()
}

fn roster_file(oracle: &Oracle) -> String {
    let roster = roster_of(&oracle.terms);
    let text = text::render(&roster);
    file("roster.toml", &[text])
}

fn start_us(round: u64) -> u64 {
    START_US + round * PERIOD_US
}

const ALL: [Says; 5] = [
    Price(100.0),
    Price(101.0),
    Price(102.0),
    Price(103.0),
    Price(104.5),
];

#[test]
fn two_that_agree_are_said_to_and_what_one_left_out_is_named() {
    let (mut a, mut b) = (aggregator(20), aggregator(21));
    let roster = roster_file(&a);
    let mut lines = [Vec::new(), Vec::new()];
    for round in 0..5 {
        lines[0].push(a.line(start_us(round), &ALL));
        lines[1].push(b.line(start_us(round), &ALL));
    }
    let [first, second] = [file("a.jsonl", &lines[0]), file("b.jsonl", &lines[1])];
    let done = verify(&[&first, &second, "--roster", &roster]);
    assert_eq!(done.code, Some(0), "{}", done.stdout);
    let says = "\npool: 5 rounds in more than one file, differences in 0\n  the last round, of 2023-11-14T22:14:00.000Z: BTC/USD 102.0000\n";
    assert!(done.stdout.ends_with(says), "{}", done.stdout);
    // A leaves out a high price, which moves its own price, and then a price that changes nothing.
    let hides = [ALL[0], ALL[1], ALL[2], ALL[3], Nothing];
    let same = [Price(102.0); 5];
    let mut fewer = same;
    fewer[1] = Nothing;
    lines[0].push(a.line(start_us(5), &hides));
    lines[1].push(b.line(start_us(5), &ALL));
    lines[0].push(a.line(start_us(6), &fewer));
    lines[1].push(b.line(start_us(6), &same));
    // Neither has a quorum, and both together have one.
    lines[0].push(a.line(start_us(7), &[ALL[0], ALL[1], Nothing, Nothing, Nothing]));
    lines[1].push(b.line(start_us(7), &[Nothing, Nothing, Nothing, ALL[3], ALL[4]]));
    let [first, second] = [file("a.jsonl", &lines[0]), file("b.jsonl", &lines[1])];
    let done = verify(&[&first, &second, "--roster", &roster]);
    assert_eq!(done.code, Some(0), "{}", done.stdout);
    for says in [
        "\npool: 8 rounds in more than one file, differences in 3\n".to_owned(),
        format!(
            "\n  2023-11-14T22:14:10.000Z: {first} left out the answers of slot 4; prices: {first} 101.5, {second} 102, pooled 102\n"
        ),
        format!(
            "\n  2023-11-14T22:14:20.000Z: {first} left out the answers of slot 1; the price is the same, 102\n"
        ),
        format!(
            "\n  2023-11-14T22:14:30.000Z: {first} left out the answers of slots 3, 4; {second} left out the answers of slots 0, 1; prices: {first} none, {second} none, pooled 102\n"
        ),
        "\n  the last round, of 2023-11-14T22:14:30.000Z: BTC/USD 102.0000\n".to_owned(),
    ] {
        assert!(done.stdout.contains(&says), "{says:?} in {}", done.stdout);
    }
    let (pool, proofs, code) = pooled(&[&first, &second, "--roster", &roster]);
    assert_eq!(
        (pool.rounds, pool.differ, pool.liars, code),
        (8, 3, 0, Some(0))
    );
    assert_eq!((pool.price, pool.alone), (Some(102.0), vec![0, 0]));
    assert_eq!(
        (pool.round_start_us, pool.feed.as_str()),
        (start_us(7), "BTC/USD")
    );
    assert_eq!(pool.time_us, Some(start_us(7) + 2));
    assert_eq!(pool.files, [first, second]);
    assert_eq!((pool.differences.len(), proofs.len()), (3, 0));
}

#[test]
fn whoever_tells_each_another_answer_is_proved_to_lie() {
    let (mut a, mut b) = (aggregator(20), aggregator(21));
    let roster = roster_file(&a);
    let lied = [Price(99.0), ALL[1], ALL[2], ALL[3], ALL[4]];
    let mut lines = [Vec::new(), Vec::new()];
    for round in 0..3 {
        lines[0].push(a.line(start_us(round), &ALL));
        lines[1].push(b.line(start_us(round), if round == 0 { &ALL } else { &lied }));
    }
    // Without the liar there are too few in the last round.
    let few = |first| [first, ALL[1], ALL[2], Nothing, Nothing];
    lines[0].push(a.line(start_us(3), &few(ALL[0])));
    lines[1].push(b.line(start_us(3), &few(lied[0])));
    let lower = key(20).public().bytes() < key(21).public().bytes();
    let [a, b] = [file("a.jsonl", &lines[0]), file("b.jsonl", &lines[1])];
    for alone in [&a, &b] {
        assert_eq!(verify(&[alone, "--roster", &roster]).code, Some(0));
    }
    let stands = if lower { &a } else { &b };
    let done = verify(&[&a, &b, "--roster", &roster]);
    assert_eq!(done.code, Some(1), "{}", done.stdout);
    for says in [
        "\n  2023-11-14T22:13:30.000Z: different answers of slot 0; ".to_owned(),
        format!("; prices: {a} 102, {b} 102, pooled 102.5\n"),
        format!("; prices: {a} 101, {b} 101, pooled none; the report of {stands} stands\n"),
        "\n  the last round, of 2023-11-14T22:13:50.000Z: BTC/USD 101.0000\n".to_owned(),
        "\n  LIE: two different answers of slot 0 for the round of 2023-11-14T22:13:30.000Z; the proof is below\n".to_owned(),
    ] {
        assert!(done.stdout.contains(&says), "{says:?} in {}", done.stdout);
    }
    // One proof for each liar, which can be kept and checked by itself.
    let (pool, proofs, code) = pooled(&[&a, &b]);
    assert_eq!(
        (pool.liars, pool.differ, proofs.len(), code),
        (1, 3, 1, Some(1))
    );
    assert!(
        done.stdout.ends_with(&format!("\n{}\n", proofs[0])),
        "{}",
        done.stdout
    );
    let proof = Proof::read(&proofs[0], &mut Keys::default()).expect("a proof");
    assert_eq!((proof.slot, proof.start_us), (0, start_us(1)));
    let kept = file("proofs.jsonl", &proofs);
    let done = verify(&[&kept, "--roster", &roster]);
    assert_eq!(done.code, Some(0), "{}", done.stdout);
}

#[test]
fn what_is_not_valid_not_in_order_or_of_other_terms_is_not_pooled() {
    let (mut a, mut b) = (aggregator(20), aggregator(21));
    let mut lines = [Vec::new(), Vec::new()];
    for round in 0..4 {
        lines[0].push(a.line(start_us(round), &ALL));
        lines[1].push(b.line(start_us(round), &ALL));
    }
    // B's price of round 1 is forged; its round 3 comes before round 2.
    lines[1][1] = lines[1][1].replacen("\"price\":102,", "\"price\":103,", 1);
    lines[1].swap(2, 3);
    // One more round, and one of other terms, are in A only.
    lines[0].push(a.line(start_us(4), &ALL));
    a.terms.sample_rule = Rule::Median;
    lines[0].push(a.line(start_us(5), &ALL));
    let [a, b] = [file("a.jsonl", &lines[0]), file("b.jsonl", &lines[1])];
    let (pool, _, code) = pooled(&[&a, &b]);
    assert_eq!(code, Some(1), "B is invalid");
    assert_eq!((pool.rounds, pool.differ), (2, 0), "0 and 3");
    assert_eq!((pool.alone, pool.disordered), (vec![3, 0], vec![0, 1]));
    assert_eq!(pool.other_terms, 1);
    let said = verify(&[&a, &b]).stdout;
    for says in [
        format!(
            "\n  rounds in which only {a} has a price, the last of 2023-11-14T22:14:00.000Z: 3\n"
        ),
        format!("\n  reports of {b} that are not in order, and not compared: 1\n"),
        "\n  reports of other terms, not compared: 1\n".to_owned(),
    ] {
        assert!(said.contains(&says), "{says:?} in {said}");
    }
}

#[test]
fn the_last_round_is_of_the_pooled_terms() {
    let (mut a, mut b, mut other) = (aggregator(20), aggregator(21), aggregator(22));
    other.terms.sample_rule = Rule::Median;
    let pooled_lines = [a.line(start_us(0), &ALL), b.line(start_us(0), &ALL)];
    let alone = other.line(start_us(0), &[Price(900.0); 5]);
    let [a, b] = [("a.jsonl", 0), ("b.jsonl", 1)]
        .map(|(name, at)| file(name, std::slice::from_ref(&pooled_lines[at])));
    let other = file("other.jsonl", &[alone]);
    for files in [[&a, &b, &other], [&other, &a, &b]] {
        let (pool, _, _) = pooled(&files.map(String::as_str));
        assert_eq!((pool.price, pool.rounds), (Some(102.0), 1));
    }
}

#[test]
fn liars_beyond_the_first_ten_are_counted() {
    let n = 13;
    let [a, b] = [(20, 100.0), (21, 101.0)].map(|(number, price)| {
        let mut oracle = Oracle {
            aggregator: number,
            ..Oracle::new(n, SOURCE)
        };
        let line = oracle.line(start_us(0), &vec![Price(price); usize::from(n)]);
        file(&format!("{number}.jsonl"), &[line])
    });
    let (pool, proofs, code) = pooled(&[&a, &b]);
    assert_eq!((pool.liars, proofs.len(), code), (13, 10, Some(1)));
    let said = verify(&[&a, &b]).stdout;
    let more = "\n  more liars, whose proofs are not shown: 3\n";
    assert!(said.contains(more), "{said}");
}

#[test]
fn many_differences_are_counted_and_copies_are_not_worth_a_word() {
    let (mut a, mut b) = (aggregator(20), aggregator(21));
    let mut lines = [Vec::new(), Vec::new()];
    for round in 0..40 {
        let mut says = ALL;
        says[round as usize % 5] = Nothing;
        lines[0].push(a.line(start_us(round), &ALL));
        lines[1].push(b.line(start_us(round), &says));
    }
    let [a, b] = [file("a.jsonl", &lines[0]), file("b.jsonl", &lines[1])];
    let said = verify(&[&a, &b]).stdout;
    let (_, pool) = said.split_once("\npool: ").expect("a pool");
    assert_eq!(pool.lines().count(), 13, "{pool}");
    assert!(pool.contains("\n  more rounds that differ: 30\n"), "{pool}");
    // A copy of a file, or the rest of it, is of the same aggregator.
    let (begin, end) = (
        file("1.jsonl", &lines[0][..20]),
        file("2.jsonl", &lines[0][20..]),
    );
    for files in [[&a, &a], [&begin, &end], [&end, &a]] {
        let done = verify(&files.map(String::as_str));
        assert_eq!(
            done.stdout.matches("\n  verdict: ").count(),
            2,
            "{}",
            done.stdout
        );
        assert!(!done.stdout.contains("\npool: "), "{}", done.stdout);
    }
    // More files than can be open are read one after the other.
    let many: Vec<&str> = [a.as_str(), &b].repeat(17);
    let done = verify(&many);
    assert_eq!(
        done.stdout.matches("\n  verdict: ").count(),
        34,
        "{}",
        done.stdout
    );
    assert!(
        done.stderr.contains("verify: more than 32 files "),
        "{}",
        done.stderr
    );
}

/// What `verify --json` prints of a pool of several feeds.
#[derive(DeJson, Debug)]
struct PooledFeeds {
    rounds: u64,
    differ: u64,
    alone: Vec<u64>,
    disordered: Vec<u64>,
    other_terms: u64,
    liars: u64,
    round_start_us: Option<u64>,
    feed: Option<String>,
    price: Option<f64>,
    time_us: Option<u64>,
    feeds: Vec<PooledFeed>,
    differences: Vec<String>,
}

#[derive(DeJson, Debug)]
struct PooledFeed {
    round_start_us: u64,
    feed: String,
    price: Option<f64>,
    time_us: Option<u64>,
}

/// As [`pooled`], for files of several feeds.
fn pooled_feeds(args: &[&str]) -> (PooledFeeds, Vec<String>, Option<i32>) {
    let done = verify(&[&["--json"], args].concat());
    let mut lines = done
        .stdout
        .lines()
        .skip_while(|line| !line.starts_with("{\"files\":"));
    let pool = lines
        .next()
        .unwrap_or_else(|| panic!("no pool in {}{}", done.stdout, done.stderr));
    assert_eq!(json::check(pool), Ok(()));
    let read = PooledFeeds::deserialize_json(pool);
    let read = read.unwrap_or_else(|why| panic!("{why}: {pool}"));
    (read, lines.map(str::to_owned).collect(), done.code)
}

/// An aggregator with a key of its own, of three feeds.
fn aggregators(number: u8) -> Vec<Oracle> {
    let mut oracles = oracles(&["BTC/USD", "ETH/USD", "SOL/USD"], 5, SOURCE);
    oracles.iter_mut().for_each(|one| one.aggregator = number);
    oracles
}

#[test]
fn the_rounds_of_every_feed_are_pooled_in_whatever_order_a_file_has_them() {
    let (mut a, mut b) = (aggregators(20), aggregators(21));
    let roster = file("roster.toml", &[text::render(&roster_of_all(&a))]);
    let mut lines = [Vec::new(), Vec::new()];
    for round in 0..5 {
        lines[0].extend(lines_of(&mut a, start_us(round), &ALL));
        let mut others = lines_of(&mut b, start_us(round), &ALL);
        others.rotate_left(round as usize % 3);
        lines[1].extend(others);
    }
    let [first, second] = [file("a.jsonl", &lines[0]), file("b.jsonl", &lines[1])];
    let done = verify(&[&first, &second, "--roster", &roster]);
    assert_eq!(done.code, Some(0), "{}", done.stdout);
    let says = "\npool: 15 rounds in more than one file, differences in 0\n  the last round, of 2023-11-14T22:14:00.000Z: BTC/USD 102.0000\n  the last round, of 2023-11-14T22:14:00.000Z: ETH/USD 102.0000\n  the last round, of 2023-11-14T22:14:00.000Z: SOL/USD 102.0000\n";
    assert!(done.stdout.ends_with(says), "{}", done.stdout);
    // One leaves out an answer of one feed. Then one has no report of one feed, and the other none of two.
    let hides = [ALL[0], ALL[1], ALL[2], ALL[3], Nothing];
    for (at, lines) in lines.iter_mut().enumerate() {
        let oracles = if at == 0 { &mut a } else { &mut b };
        lines.push(oracles[0].line(start_us(5), &ALL));
        lines.push(oracles[1].line(start_us(5), if at == 0 { &hides } else { &ALL }));
    }
    lines[1].push(b[2].line(start_us(5), &ALL));
    lines[0].push(a[2].line(start_us(6), &ALL));
    lines[1].push(b[0].line(start_us(7), &ALL));
    let [first, second] = [file("a.jsonl", &lines[0]), file("b.jsonl", &lines[1])];
    let done = verify(&[&first, &second, "--roster", &roster]);
    assert_eq!(done.code, Some(0), "{}", done.stdout);
    let difference = format!(
        "ETH/USD, 2023-11-14T22:14:10.000Z: {first} left out the answers of slot 4; prices: {first} 101.5, {second} 102, pooled 102"
    );
    for says in [
        "\npool: 17 rounds in more than one file, differences in 1\n".to_owned(),
        format!("\n  {difference}\n"),
        format!(
            "\n  rounds in which only {first} has a price, the last of 2023-11-14T22:14:20.000Z: 1\n"
        ),
        format!(
            "\n  rounds in which only {second} has a price, the last of 2023-11-14T22:14:30.000Z: 2\n"
        ),
        "\n  the last round, of 2023-11-14T22:14:10.000Z: ETH/USD 102.0000\n".to_owned(),
        "\n  the last round, of 2023-11-14T22:14:20.000Z: SOL/USD 102.0000\n".to_owned(),
    ] {
        assert!(done.stdout.contains(&says), "{says:?} in {}", done.stdout);
    }
    let (pool, proofs, code) = pooled_feeds(&[&first, &second]);
    assert_eq!((code, proofs.len(), pool.liars), (Some(5), 0, 0));
    assert_eq!(
        (pool.rounds, pool.differ, pool.differences),
        (17, 1, vec![difference])
    );
    assert_eq!(
        (pool.alone, pool.disordered, pool.other_terms),
        (vec![1, 2], vec![0, 0], 0)
    );
    let none = (pool.round_start_us, pool.feed, pool.price, pool.time_us);
    assert_eq!(none, (None, None, None, None));
    for (of, (feed, round)) in
        pool.feeds
            .iter()
            .zip([("BTC/USD", 7), ("ETH/USD", 5), ("SOL/USD", 6)])
    {
        assert_eq!(
            (of.feed.as_str(), of.round_start_us),
            (feed, start_us(round))
        );
        assert_eq!(
            (of.price, of.time_us),
            (Some(102.0), Some(start_us(round) + 2))
        );
    }
    assert_eq!(pool.feeds.len(), 3);
}

#[test]
fn a_lie_in_one_feed_is_proved_and_changes_nothing_of_another() {
    let (mut a, mut b) = (aggregators(20), aggregators(21));
    let mut lies = ALL;
    lies[3] = Price(99.0);
    let first = file("a.jsonl", &lines_of(&mut a, start_us(0), &ALL));
    let other = [b[0].line(start_us(0), &ALL), b[1].line(start_us(0), &lies)];
    let second = file("b.jsonl", &other);
    let done = verify(&[&first, &second]);
    assert_eq!(done.code, Some(1), "{}", done.stdout);
    for says in [
        "\n  ETH/USD, 2023-11-14T22:13:20.000Z: different answers of slot 3; ",
        "\n  the last round, of 2023-11-14T22:13:20.000Z: BTC/USD 102.0000\n",
        "\n  LIE: two different answers of slot 3 of ETH/USD for the round of 2023-11-14T22:13:20.000Z; the proof is below\n",
    ] {
        assert!(done.stdout.contains(says), "{says:?} in {}", done.stdout);
    }
    let (pool, proofs, _) = pooled_feeds(&[&first, &second]);
    assert_eq!(
        (pool.rounds, pool.differ, pool.liars, pool.alone),
        (2, 1, 1, vec![1, 0])
    );
    let proof = Proof::read(&proofs[0], &mut Keys::default()).expect("a proof");
    assert_eq!((proof.terms_digest, proofs.len()), (b[1].terms.digest(), 1));
}

#[test]
fn a_feed_that_stands_behind_another_is_not_in_order_and_files_of_fewer_feeds_are_compared() {
    let (mut a, mut b) = (aggregators(20), aggregators(21));
    let mut lines = [Vec::new(), Vec::new()];
    for round in 0..4 {
        lines[0].extend(lines_of(&mut a, start_us(round), &ALL));
        lines[1].extend(lines_of(&mut b, start_us(round), &ALL));
    }
    // One feed after the other: what starts earlier than a report before it is not compared, and so might hide a lie.
    let sorted = |feed: usize| lines[1].iter().skip(feed).step_by(3).cloned();
    let behind: Vec<String> = (0..3).flat_map(sorted).collect();
    let only: Vec<String> = sorted(1).collect();
    let [first, second, third] = [
        file("a.jsonl", &lines[0]),
        file("b.jsonl", &behind),
        file("c.jsonl", &only),
    ];
    let (pool, _, code) = pooled_feeds(&[&first, &second]);
    assert_eq!(
        (code, pool.rounds),
        (Some(1), 6),
        "BTC, and the last of the others"
    );
    let says = "wrong: its reports are not in the order of their starts, so that they cannot all be compared with the others'\n";
    let said = verify(&[&first, &second]).stdout;
    assert_eq!(said.matches(says).count(), 1, "{said}");
    assert_eq!(verify(&[&second]).code, Some(5), "by itself it is sound");
    assert_eq!((pool.disordered, pool.alone), (vec![0, 6], vec![6, 0]));
    let (pool, _, _) = pooled_feeds(&[&third, &first]);
    assert_eq!(
        (pool.rounds, pool.alone, pool.disordered),
        (4, vec![0, 8], vec![0, 0])
    );
    assert_eq!(pool.feeds.len(), 3);
    // Of one feed, reports with one start stand in each other's way.
    let twice = [vec![lines[0][0].clone()], sorted(0).collect()].concat();
    let (pool, _, _) = pooled(&[
        &file("twice.jsonl", &twice),
        &file("only.jsonl", &lines[0][..1]),
    ]);
    assert_eq!((pool.rounds, pool.disordered), (1, vec![1, 0]));
}

#[test]
fn reports_of_one_start_are_held_as_far_as_a_roster_may_have_them() {
    // Two feeds of 2,049 slots each cannot be in one roster.
    let of = |number: u8, n: u16| {
        let mut oracles = oracles(&["BTC/USD", "ETH/USD"], 1, SOURCE);
        for oracle in &mut oracles {
            oracle.aggregator = number;
            let seat = rsoracle_proof::terms::Seat {
                key: None,
                ..oracle.terms.seats[0].clone()
            };
            oracle.terms.seats.resize(n.into(), seat);
        }
        file(
            "reports.jsonl",
            &lines_of(&mut oracles, start_us(0), &[Price(100.0)]),
        )
    };
    for (n, rounds, disordered) in [(2_048, 2, 0), (2_049, 1, 1)] {
        let [first, second] = [of(20, n), of(21, n)];
        let done = verify(&["--json", &first, &second]);
        let pool = done.stdout.lines().last().expect("a pool");
        let counts = format!("\"rounds\":{rounds},");
        let late = format!("\"disordered\":[{disordered}, {disordered}],");
        assert!(
            pool.contains(&counts) && pool.contains(&late),
            "{n}: {pool}"
        );
    }
}

/// Verifies these lines from standard input, together with a file. Returns what it says of the pool, and its peak memory in kB.
fn with_memory(lines: &[String], other: &str) -> (Pooled, u64) {
    let mut command = rsoracle();
    command.args(["verify", "-", other, "--json"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut input = child.stdin.take().expect("a pipe");
    for line in lines {
        input.write_all(line.as_bytes()).expect("it reads on");
        input.write_all(b"\n").expect("it reads on");
    }
    let kb = witness::status_number(child.id(), "VmHWM").expect("it is running");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8(output.stdout).expect("text");
    let pool = text.lines().last().expect("a pool");
    (Pooled::deserialize_json(pool).expect("a pool"), kb)
}

#[test]
fn long_files_are_compared_whole_and_take_no_more_memory_than_short_ones() {
    let (mut a, mut b) = (aggregator(20), aggregator(21));
    let mut lines = [Vec::new(), Vec::new()];
    for round in 0..3_000 {
        let mut says = ALL;
        if round % 1_000 == 999 {
            says[4] = Nothing;
        }
        lines[0].push(a.line(start_us(round), &ALL));
        lines[1].push(b.line(start_us(round), &says));
    }
    let [a, b] = [file("a.jsonl", &lines[0]), file("b.jsonl", &lines[1])];
    let length = std::fs::metadata(&a).expect("a file").len();
    assert!(
        length > 5 << 20,
        "{length} bytes are shared among processes"
    );
    let (pool, _, code) = pooled(&[&a, &b]);
    assert_eq!((pool.rounds, pool.differ, code), (3_000, 3, Some(5)));
    let short = file("short.jsonl", &lines[1][..1_000]);
    let (few, short_kb) = with_memory(&lines[0][..1_000], &short);
    let (all, long_kb) = with_memory(&lines[0], &file("long.jsonl", &lines[1][..1_500]));
    assert_eq!((few.rounds, few.alone), (1_000, vec![0, 0]));
    assert_eq!((all.rounds, all.alone), (1_500, vec![1_500, 0]));
    println!("{short_kb} kB for 1,000 rounds, {long_kb} kB for 3,000");
    // The lines that it reads more are over 3 MB. What else differs is about 1 MB, whatever the length.
    assert!(
        long_kb < short_kb + 2_048,
        "{short_kb} kB, then {long_kb} kB"
    );
}

#[test]
fn standard_input_is_read_once() {
    let done = verify(&["-", "-"]);
    assert_eq!(done.code, Some(2));
    assert!(
        done.stderr.contains("'-' is given twice"),
        "{}",
        done.stderr
    );
}

/// A roster of five collectors, its collectors, and three aggregators with journals.
struct Three {
    roster: String,
    journals: [Chronicle; 3],
    aggregators: Vec<Running>,
    _others: Vec<Running>,
}

fn three() -> Three {
    let (exchange, url) = exchange(&[]);
    let journals: [Chronicle; 3] = std::array::from_fn(|_| Chronicle::new());
    let beside = |name: &str| journals[0].beside(name);
    let roster = beside("roster.toml");
    let key_files: Vec<String> = (0..5)
        .map(|slot| beside(&format!("slot-{slot}.key")))
        .collect();
    let keys = key_files.iter().map(|file| create(file).expect("a key"));
    let text = support::peer::roster(&keys.collect::<Vec<_>>(), 2, "200ms");
    std::fs::write(&roster, text).expect("a file");
    let mut places = Vec::new();
    let mut others = vec![exchange];
    let mut aggregators = Vec::new();
    for journal in &journals {
        let key_file = journal.beside("aggregator.key");
        let key = hex(create(&key_file).expect("a key").bytes());
        let ports = [nobodys_address(), nobodys_address()].map(|at| at.port().to_string());
        let [control, data] = &ports;
        places.push(format!("127.0.0.1:{control},{data}@{key}"));
        let files = ["--roster", &roster, "--aggregator-key", &key_file];
        let ports = ["--control-port", control, "--data-port", data];
        let journal = ["--journal", journal.name()];
        aggregators.push(start(
            &[&["aggregate"], &files[..], &ports, &journal].concat(),
        ));
    }
    for key in &key_files {
        let mut words = vec![
            "collect",
            "--roster",
            &roster,
            "--key",
            key,
            "--endpoint",
            &url,
        ];
        for place in &places {
            words.extend(["--aggregator", place]);
        }
        others.push(start(&words));
    }
    Three {
        roster,
        journals,
        aggregators,
        _others: others,
    }
}

/// The reports in a file.
fn reports(file: &str) -> Vec<Report> {
    let text = std::fs::read_to_string(file).expect("a file");
    let read = |line| Report::read(line, &mut Keys::default()).expect("a report");
    text.lines().map(read).collect()
}

/// The same round as a fourth aggregator shows it, which hides the answers of two slots: the highest or lowest ones.
fn hidden(report: &Report, oracle: &mut Oracle) -> String {
    let mut round = Round {
        terms: report.round.terms.clone(),
        parts: report.round.parts.clone(),
        ..report.round
    };
    let price = |part: &Part| part.observation.map(|one| one.answer.to_bits());
    let mut order: Vec<usize> = (0..round.parts.len()).collect();
    order.sort_by_key(|slot| price(&round.parts[*slot]));
    for slot in &order[3..] {
        round.parts[*slot] = Part::default();
    }
    oracle.sign(round).line()
}

/// Stops each of three aggregators for some rounds, or for ever.
fn disturb(journals: &[Chronicle; 3], aggregators: &[Running]) {
    let [a, b, c] = journals;
    let [first, killed, third] = aggregators else {
        panic!("three aggregators");
    };
    let gets_five = |journal: &Chronicle| {
        let after = journal.lines().len();
        journal.until(after, "five prices", |kept| kept.prices == 5);
    };
    journals.iter().for_each(gets_five);
    for (stopped, journal, other) in [(first, a, b), (third, c, a)] {
        stopped.signal("STOP");
        other.until_lines(other.lines().len() + 3);
        stopped.signal("CONT");
        gets_five(journal);
    }
    killed.signal("KILL");
    a.until_lines(a.lines().len() + 3);
    first.signal("STOP");
    third.signal("STOP");
}

#[test]
fn aggregators_that_stand_still_die_and_hide_answers_cost_no_price() {
    let Three {
        roster,
        journals,
        aggregators,
        _others,
    } = three();
    disturb(&journals, &aggregators);
    let text = std::fs::read_to_string(&roster).expect("a file");
    let mut fourth = Oracle {
        terms: Roster::parse(&text).expect("a roster").feeds.remove(0),
        ..aggregator(23)
    };
    // Without a last line that is being written.
    let copy = |journal: &Chronicle| file("journal.jsonl", &journal.lines());
    let [a, b, c] = journals.each_ref().map(copy);
    let shown = reports(&a).into_iter();
    let whole = shown.filter(|report| report.outcome.prices == 5);
    let hiding: Vec<String> = whole.map(|report| hidden(&report, &mut fourth)).collect();
    let d = file("hides.jsonl", &hiding);
    let files = [a.as_str(), &b, &c, &d];
    let (pool, proofs, code) = pooled(&[&files[..], &["--roster", &roster]].concat());
    assert_eq!(
        (code, pool.liars, proofs.len()),
        (Some(0), 0, 0),
        "{pool:?}"
    );
    assert!(
        pool.differ >= hiding.len() as u64 && !hiding.is_empty(),
        "{pool:?}"
    );
    assert_eq!((pool.other_terms, &pool.disordered), (0, &vec![0; 4]));
    let hides = format!("{d} left out the answers of slots ");
    assert!(
        pool.differences.iter().any(|text| text.contains(&hides)),
        "{pool:?}"
    );
    assert!(pool.price.is_some() && pool.time_us.is_some(), "{pool:?}");
    // Every round by itself, from when the collectors had come.
    let mut rounds: BTreeMap<u64, Vec<Report>> = BTreeMap::new();
    for report in files.into_iter().flat_map(reports) {
        let of_round = rounds.entry(report.round.start_us).or_default();
        of_round.push(report);
    }
    let whole = |(_, of_round): &(&u64, &Vec<Report>)| of_round[0].outcome.prices == 5;
    let begun_us = *rounds.iter().find(whole).expect("a whole round").0;
    let rounds = rounds.split_off(&begun_us);
    let starts: Vec<u64> = rounds.keys().copied().collect();
    let period_us = fourth.terms.schedule.period_us;
    let follow = starts.windows(2).all(|pair| pair[1] - pair[0] == period_us);
    assert!(follow, "a round that nobody shows: {starts:?}");
    for file in files {
        let from = |report: &&Report| report.round.start_us >= begun_us;
        let count = reports(file).iter().filter(from).count();
        assert!(count < starts.len(), "{file} lacks none of {starts:?}");
    }
    for of_round in rounds.values() {
        let pool = Pool::of(&of_round.iter().collect::<Vec<_>>());
        let price = pool.report.price().expect("no price is missing");
        let records = pool
            .report
            .round
            .parts
            .iter()
            .flat_map(|part| &part.records);
        let seen = records.filter_map(|record| record.price.ok());
        let low = seen.clone().fold(f64::MAX, f64::min);
        let high = seen.fold(f64::MIN, f64::max);
        assert!((low..=high).contains(&price), "{low} {price} {high}");
    }
}
