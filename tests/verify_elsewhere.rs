//! Reports of real runs, checked by programs that share no code with ours: docs/verify.py for reports, `openssl` for an
//! observation's signature.

mod openssl;
mod published;
mod signed;
mod support;
mod vectors;
mod witness;

use nanoserde::DeJson;
use openssl::openssl_takes;
use published::Published;
use rsoracle::keys::file as keyfile;
use rsoracle::keys::secret::SecretKey;
use rsoracle::roster::text;
use rsoracle_proof::publish::PublishedPrice;
use rsoracle_proof::reason::{Abstention, Miss};
use rsoracle_proof::record::{Answer, Observation, Record, SignedAnswer};
use rsoracle_proof::report::Report;
use rsoracle_proof::round::Round;
use rsoracle_proof::seal::{
    Keys, ObservationContext, hex, observation_bytes, samples_digest, unhex,
};
use rsoracle_proof::terms::{Roster, Terms};
use signed::{GRID_US, Oracle, START_US, Says};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use support::*;
use vectors::Story;
use witness::*;

/// The lines that a run prints with `--json`.
fn reported(source: &str, args: &[&str]) -> String {
    let (mut command, _) = marked_run(&["--source", source, "--json"]);
    command.args(["--samples", "5", "--interval", "400ms"]);
    command.args(["--ready-timeout", "60s"]).args(args);
    let done = start_command(command).finish();
    let reports = done.code == Some(0) || done.code == Some(3);
    assert!(reports, "{args:?}: {}", done.stderr);
    done.stdout
}

fn read(line: &str) -> Report {
    Report::read(line.trim_end(), &mut Keys::default()).expect("a report")
}

/// The Python with the package that docs/verify.py needs, which `.ci/test` sets up.
fn python() -> PathBuf {
    let path = std::env::var_os("RSORACLE_PYTHON").map(PathBuf::from);
    path.expect("RSORACLE_PYTHON names a Python that has the package cryptography")
}

/// Writes the line to a file, and runs docs/verify.py on it. Returns the file and the output.
fn checked(python: &Path, line: &str) -> (String, Output) {
    let file = scratch("report.json");
    std::fs::write(&file, line).expect("a file for the test");
    let file = file.to_str().expect("a path in UTF-8").to_owned();
    let output = checked_file(python, &[&file]);
    (file, output)
}

/// Runs docs/verify.py with these words: a file, and maybe a roster.
fn checked_file(python: &Path, words: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/verify.py");
    let output = Command::new(python).arg(script).args(words).output();
    output.expect("Python runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
#[ignore = "needs python"]
fn a_verifier_in_python_takes_reports_of_all_kinds() {
    let python = python();
    let none = text(&checked_file(&python, &[]).stderr);
    assert!(none.starts_with("usage: python3 verify.py FILE"), "{none}");
    let source = "embedded:BTCUSDT";
    let line = reported(source, &[]);
    let (_, output) = checked(&python, &line);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report = Published::deserialize_json(&line).expect("JSON");
    let price = report.checked_price();
    let said = text(&output.stdout);
    let expected = format!("price of BTC/USD: {price}, recomputed");
    assert!(said.contains(&expected), "{said}");
    let parts = said.matches("samples, average and signature check");
    assert_eq!(parts.count(), 5, "{said}");
    // Other rules, terms and policies, numbers in a chain, and no price.
    let breakers = ["--max-move", "50%", "--max-spread", "10%"];
    let rounds = ["--every", "3s", "--rounds", "2"];
    let chain = reported(source, &[&breakers[..], &rounds].concat());
    let second = chain.lines().nth(1).expect("two reports").to_owned();
    for part in [
        "\"last_published\":{\"number\":1,",
        "\"spread_ppm_max\":100000,",
        "\"period_us\":3000000,\"first_start_us\":0,",
    ] {
        assert!(second.contains(part), "{part}: {second}");
    }
    let publishing = ["--deviation", "5%", "--heartbeat", "1h"];
    let (_exchange, url) = exchange(&[]);
    for line in [
        second,
        reported(source, &publishing),
        reported(source, &["--rule", "median", "--collectors", "4"]),
        reported(source, &["--rule", "mean", "--sample-rule", "median"]),
        reported(
            "embedded:BTCUSD",
            &["--collectors", "2", "--endpoint", &url],
        ),
        with_misses(Miss::ALL, Abstention::TooFewSamples),
    ] {
        let (_, output) = checked(&python, &line);
        assert!(output.status.success(), "{}: {line}", text(&output.stderr));
    }
}

/// The document's rule for numbers that lie halfway between two shortest texts, with the digits of Python's repr.
const DECIMALS: &str = "
import hashlib
from decimal import Decimal
state, texts = 1, ''
for i in range(10000):
    state, k = (state * 6364136223846793005 + 1442695040888963407) % 2**64, i % 3
    number = (2 * (state >> (39 - 7 * k)) + 1) / 2**(14 - 3 * k)
    texts += format(Decimal(repr(number)), 'f') + '\\n'
print(texts, end='')
";

#[test]
#[ignore = "needs python"]
fn python_writes_numbers_with_the_same_digits_and_both_verifiers_take_no_others() {
    let python = python();
    let output = Command::new(&python).args(["-c", DECIMALS]).output();
    let (theirs, ours) = (
        text(&output.expect("Python runs").stdout),
        vectors::decimals(),
    );
    let pairs = theirs.lines().zip(ours.lines());
    let differ: Vec<_> = pairs
        .filter(|(theirs, ours)| theirs != ours)
        .take(5)
        .collect();
    assert!(
        differ.is_empty() && theirs.len() == ours.len(),
        "{differ:?}"
    );
    // A collector can make any price a tie.
    let tie = Says::Price(87_231.0 + 1.0 / 4_096.0);
    let line = Oracle::new(1, "kraken:BTC/USD").line(START_US, &[tie]);
    let even = "87231.00024414062";
    assert_eq!(line.matches(even).count(), 3, "{line}");
    for (text_of_it, ours, theirs) in [
        (even, 5, true),
        ("87231.00024414063", 1, false),
        ("87231.000244140625", 1, false),
        ("8.723100024414062e4", 1, false),
        ("87231.000244140620", 1, false),
    ] {
        let (file, output) = checked(&python, &line.replace(even, text_of_it));
        assert_eq!(
            output.status.success(),
            theirs,
            "{text_of_it}: {}",
            text(&output.stderr)
        );
        assert_eq!(run(&["verify", &file]).code, Some(ours), "{text_of_it}");
    }
}

#[test]
#[ignore = "needs python"]
fn a_verifier_in_python_takes_the_same_keys_and_policies_as_ours() {
    let python = python();
    // A silent collector signs nothing, and yet its key must be one.
    let silent = |key: [u8; 32]| {
        let mut oracle = Oracle::new(1, "kraken:BTC/USD");
        let mut round = Round::new(oracle.terms.clone(), START_US);
        round.digest = signed::digest_with_key(&oracle.terms, &key);
        let honest = hex(signed::key(1).public().bytes());
        oracle.sign(round).line().replace(&honest, &hex(&key))
    };
    let of = |first: u8, middle: u8, last: u8| {
        let mut key = [middle; 32];
        (key[0], key[31]) = (first, last);
        key
    };
    let policy = |part: f64| {
        let mut oracle = Oracle::new(1, "kraken:BTC/USD");
        oracle.policy.deviation = Some(part);
        oracle.policy.move_max = Some(part);
        oracle.line(START_US, &[Says::Price(100.0)])
    };
    let spread = |ppm: u32| {
        let mut oracle = Oracle::new(4, "kraken:BTC/USD");
        oracle.terms.spread_ppm_max = Some(ppm);
        let prices = [100.0, 100.0, 101.0, 102.0];
        oracle.line(START_US, &prices.map(Says::Price))
    };
    for (line, takes) in [
        (silent(*signed::key(1).public().bytes()), true),
        (silent(of(0x02, 0, 0)), false),
        (silent(of(0x01, 0, 0)), false),
        (silent(of(0xf0, 0xff, 0x7f)), false),
        (policy(0.5), true),
        (policy(1.5), true),
        (policy(1e308), true),
        (policy(5e-324), true),
        (
            policy(0.5).replace("\"deviation\":0.5", "\"deviation\":0"),
            false,
        ),
        (spread(9_950), true),
        (spread(9_951), true),
        (spread(1_000_000), true),
        (spread(1_000_001), false),
    ] {
        let (file, output) = checked(&python, &line);
        let said = text(&output.stderr);
        assert_eq!(output.status.success(), takes, "{said}: {line}");
        let code = if takes { 5 } else { 1 };
        let done = run(&["verify", &file]);
        assert_eq!(done.code, Some(code), "{}: {line}", done.stdout);
    }
}

/// A round of four collectors of two exchanges, both of which are required. The second and the last give these answers; the
/// others give 100.
fn of_two_exchanges(second: Says, last: Says, sources: [&str; 4]) -> String {
    let mut oracle = Oracle::new(4, "");
    oracle.terms.exchanges_min = 2;
    for (seat, source) in oracle.terms.seats.iter_mut().zip(sources) {
        seat.source = source.to_owned();
    }
    oracle.line(
        START_US,
        &[Says::Price(100.0), second, Says::Price(100.0), last],
    )
}

/// A round in which the only collector abstains, since its samples are missing for these reasons.
fn with_misses(misses: &[Miss], why: Abstention) -> String {
    let mut oracle = Oracle::new(1, "kraken:BTC/USD");
    oracle.terms.schedule.samples = misses.len() as u32;
    oracle.terms.schedule.period_us = 100_000_000;
    let mut round = Round::new(oracle.terms.clone(), START_US);
    let record = |(index, miss): (u32, &Miss)| Record {
        index,
        price: Err(*miss),
        lateness_us: Some(3),
        age_us: None,
    };
    let records: Vec<Record> = (0..).zip(misses).map(record).collect();
    let answer = Answer::Abstain(why);
    let signed = signed::signed(&round, 0, &records, answer, START_US);
    let heard = round.observe(0, &records, &signed);
    heard.expect("a sound answer");
    oracle.sign(round).line()
}

#[test]
#[ignore = "needs python"]
fn a_verifier_in_python_tells_exchanges_and_recorded_prices_by_the_same_names() {
    let python = python();
    let sources = [
        "binance:BTCUSDC",
        "binance-book:BTCUSDC",
        "binance-stream:BTCUSDC",
        "kraken:BTC/USD",
    ];
    let mut embedded = sources;
    embedded[1] = "embedded-kraken:BTC/USD";
    for (line, says) in [
        (
            of_two_exchanges(Says::Price(101.0), Says::Price(102.0), sources),
            "\"price\":100.5,",
        ),
        (
            of_two_exchanges(Says::Price(101.0), Says::Nothing, sources),
            "\"price\":null,",
        ),
        (
            of_two_exchanges(Says::Price(101.0), Says::Nothing, embedded),
            "\"embedded\":true,",
        ),
        (
            with_misses(&[Miss::Stale], Abstention::Stale),
            "\"abstains\":\"the exchange lives, and says no price that is young enough\"",
        ),
    ] {
        assert!(line.contains(says), "{says} in {line}");
        let (file, output) = checked(&python, &line);
        assert!(output.status.success(), "{}: {line}", text(&output.stderr));
        let ours = run(&["verify", &file]);
        assert_eq!(ours.code, Some(5), "{}", ours.stdout);
    }
}

/// A second signature of the collector in slot 0 of [`Oracle`] over its answer below, with another nonce than RFC 8032's: r is
/// the SHA-512 of "another nonce", R = r B, S = r + H(R, A, M) a.
const SIGNED_AGAIN: &str = "156066fae0212dbd64f85f330238e93fc600324b4b2f16a8a21ca59aeede783cd9edf7817b7efde8b663a443cda4b554bd1e0f2ab093a90d3e21f1e5a0458905";

/// A round in which a collector answers twice: with its price, and with what `second` makes of that answer.
fn with_a_second_answer(second: impl FnOnce(&Round, SignedAnswer) -> SignedAnswer) -> String {
    let mut oracle = Oracle::new(1, "kraken:BTC/USD");
    let mut round = oracle.report(START_US, &[Says::Price(100.0)]).round;
    let first = round.parts[0].signed_answer().expect("a price");
    round.parts[0].equivocated = Some(second(&round, first));
    Oracle::new(1, "").sign(round).line()
}

#[test]
#[ignore = "needs python"]
fn a_verifier_in_python_calls_two_answers_a_lie_and_one_answer_signed_twice_none_and_so_does_ours()
{
    let python = python();
    let two = with_a_second_answer(|round, first| {
        let (records, other) = (
            &round.parts[0].records,
            Answer::Abstain(Abstention::ClockMoved),
        );
        let bytes = signed::signed(round, 0, records, other, START_US);
        SignedAnswer {
            observation: Observation::decode(&bytes).expect("an answer"),
            ..first
        }
    });
    // The same average over other samples.
    let anew = Oracle::new(1, "kraken:BTC/USD").line(START_US, &[Says::Anew(100.0)]);
    let again = with_a_second_answer(|_, first| SignedAnswer {
        observation: Observation {
            signature: unhex(SIGNED_AGAIN).expect("64 bytes"),
            ..first.observation
        },
        ..first
    });
    // Its first answer, as if it had signed that over other samples.
    let moved = with_a_second_answer(|_, first| SignedAnswer {
        samples_digest: [7; 32],
        ..first
    });
    let story = Story::play();
    for (line, ours, theirs) in [
        (two, 5, None),
        (anew, 5, None),
        (moved, 1, Some("the signature does not check")),
        (again, 1, Some("one answer twice")),
        (story.proof().line(), 5, None),
        (
            story.no_proof().line(),
            1,
            Some("both answers are the same"),
        ),
    ] {
        let (file, output) = checked(&python, &line);
        let said = text(&output.stderr);
        let refused = theirs.is_some_and(|why| said.starts_with("REFUSED: ") && said.contains(why));
        assert_eq!(output.status.success(), theirs.is_none(), "{said}: {line}");
        assert_eq!(refused, theirs.is_some(), "{said}: {line}");
        let done = run(&["verify", &file]);
        assert_eq!(done.code, Some(ours), "{}: {line}", done.stdout);
    }
}

/// A round at this start by changed terms, in which three of four collectors sign prices of this age.
fn by_terms(change: fn(&mut Terms), start_us: u64, age_us: u64) -> (String, Oracle) {
    let mut oracle = Oracle::new(4, "kraken:BTC/USD");
    change(&mut oracle.terms);
    let line = oracle.report_aged(start_us, &[Some(age_us); 3]).line();
    (line, oracle)
}

#[test]
#[ignore = "needs python"]
fn a_verifier_in_python_holds_rounds_to_the_terms_that_were_signed_and_so_does_ours() {
    let python = python();
    let once = |terms: &mut Terms| {
        terms.schedule.period_us = 0;
        terms.schedule.first_start_us = START_US;
    };
    let limits = |terms: &mut Terms| {
        terms.age_us_max = Some(1_000);
        terms.schedule.end_us = Some(START_US + 1);
    };
    let next_us = START_US + GRID_US;
    for ((line, _), theirs) in [
        (by_terms(once, START_US, 0), None),
        (by_terms(once, next_us, 0), Some("no round starts then")),
        (
            by_terms(|_| (), START_US + 1, 0),
            Some("no round starts then"),
        ),
        (by_terms(limits, START_US, 1_000), None),
        (
            by_terms(limits, START_US, 1_001),
            Some("older than the terms"),
        ),
        (by_terms(limits, next_us, 0), Some("no round starts then")),
        (
            by_terms(|terms| terms.schedule.period_us = 20_000, START_US, 0),
            Some("period out of bounds"),
        ),
        (
            by_terms(|terms| terms.schedule.interval_us = 19_999, START_US, 0),
            Some("interval out of bounds"),
        ),
        (
            by_terms(|terms| terms.seats[3].key = terms.seats[0].key, START_US, 0),
            Some("two slots have the same key"),
        ),
        (
            by_terms(|terms| terms.exchanges_min = 2, START_US, 0),
            Some("fewer exchanges"),
        ),
    ] {
        let (file, output) = checked(&python, &line);
        let said = text(&output.stderr);
        assert_eq!(output.status.success(), theirs.is_none(), "{said}: {line}");
        assert!(said.contains(theirs.unwrap_or("")), "{said}: {line}");
        let code = if theirs.is_none() { 5 } else { 1 };
        let done = run(&["verify", &file]);
        assert_eq!(done.code, Some(code), "{}: {line}", done.stdout);
    }
}

#[test]
#[ignore = "needs python"]
fn a_verifier_in_python_reads_the_same_rosters_as_ours() {
    let python = python();
    let limits = |terms: &mut Terms| {
        terms.age_us_max = Some(60_000_000);
        terms.spread_ppm_max = Some(12_345);
        terms.schedule.end_us = Some(START_US + 1);
        // A time with microseconds.
        terms.schedule.period_us = GRID_US + 51;
        terms.schedule.first_start_us = START_US - 7 * terms.schedule.period_us;
    };
    let (line, oracle) = by_terms(limits, START_US, 0);
    let keep = |terms: &Terms| {
        let path = scratch("roster.toml");
        std::fs::write(&path, text::render(&Roster::single(1, None, terms.clone())))
            .expect("a file for the test");
        path.to_str().expect("a path in UTF-8").to_owned()
    };
    let (file, _) = checked(&python, &line);
    type Change = fn(&mut Terms);
    let changes: [(Change, Option<&str>); 9] = [
        (|_| (), None),
        (|terms| terms.feed = "ETH/USD".into(), Some("feed is")),
        (|terms| terms.age_us_max = None, Some("age_us_max is")),
        (
            |terms| terms.spread_ppm_max = Some(12_346),
            Some("spread_ppm_max is"),
        ),
        (|terms| terms.schedule.end_us = None, Some("end_us is")),
        (
            |terms| terms.schedule.first_start_us -= 1,
            Some("first_start_us is"),
        ),
        (|terms| terms.schedule.period_us += 1, Some("period_us is")),
        (
            |terms| terms.seats[2].key = None,
            Some("keys or sources are not those of the roster"),
        ),
        (
            |terms| terms.seats[2].source = "okx:BTC-USDT".into(),
            Some("keys or sources are not those of the roster"),
        ),
    ];
    for (change, theirs) in changes {
        let mut terms = oracle.terms.clone();
        change(&mut terms);
        let roster = keep(&terms);
        let output = checked_file(&python, &[&file, &roster]);
        let said = text(&output.stderr);
        assert_eq!(output.status.success(), theirs.is_none(), "{said}");
        assert!(said.contains(theirs.unwrap_or("")), "{said}");
        let done = run(&["verify", &file, "--roster", &roster]);
        let code = if theirs.is_none() { 0 } else { 1 };
        assert_eq!(done.code, Some(code), "{}", done.stdout);
    }
    // A proof is of a key of the roster, or not.
    let proof = Story::play().proof();
    let (file, _) = checked(&python, &proof.line());
    let stranger = keep(&oracle.terms);
    let mut terms = oracle.terms;
    terms.seats[3].key = Some(proof.key);
    let known = keep(&terms);
    for (roster, ours) in [(stranger, 1), (known, 0)] {
        let output = checked_file(&python, &[&file, &roster]);
        let said = text(&output.stderr);
        assert_eq!(output.status.success(), ours == 0, "{said}");
        let done = run(&["verify", &file, "--roster", &roster]);
        assert_eq!(done.code, Some(ours), "{}", done.stdout);
    }
}

#[test]
#[ignore = "needs python"]
fn a_verifier_in_python_reads_rosters_of_several_feeds_as_ours_does() {
    let python = python();
    let names = ["BTC/USD", "ETH/USD", "SOL/USD"];
    let mut oracles = signed::oracles(&names, 4, "kraken:BTC/USD");
    for (oracle, base) in oracles.iter_mut().zip(["BTC", "ETH", "SOL"]) {
        for (seat, kind) in oracle
            .terms
            .seats
            .iter_mut()
            .zip(["kraken", "kraken", "okx", "okx"])
        {
            seat.source = format!("{kind}:{base}/USD");
        }
    }
    let whole = signed::roster_of_all(&oracles);
    // The second feed is not priced by slot 1, and the third by neither 0 nor 2.
    let mut slots = whole.slots.clone();
    for (slot, feed) in [(1, 1), (0, 2), (2, 2)] {
        slots[slot].sources[feed].clear();
    }
    let mut feeds = whole.feeds.clone();
    feeds[1].rule = rsoracle_proof::aggregate::Rule::Median;
    let roster = Roster::new(1, None, feeds, slots);
    for (oracle, terms) in oracles.iter_mut().zip(&roster.feeds) {
        oracle.terms = terms.clone();
    }
    // Those who sign are found by their keys: the seats of two feeds are other slots.
    let lines = [
        oracles[0].line(START_US, &[Says::Price(100.0); 4]),
        oracles[1].line(START_US, &[Says::Price(7.0), Says::Nothing, Says::Nothing]),
        oracles[2].line(START_US, &[Says::Nothing; 2]),
    ];
    let keep = |text: &str| {
        let path = scratch("roster.toml");
        std::fs::write(&path, text).expect("a file for the test");
        path.to_str().expect("a path in UTF-8").to_owned()
    };
    let good = text::render(&roster);
    let path = keep(&good);
    for (line, ours) in lines.iter().zip([0, 0, 5]) {
        let (file, output) = checked(&python, line);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let output = checked_file(&python, &[&file, &path]);
        assert!(output.status.success(), "{}: {line}", text(&output.stderr));
        let done = run(&["verify", &file, "--roster", &path]);
        assert_eq!(done.code, Some(ours), "{}", done.stdout);
    }
    let (file, _) = checked(&python, &lines[1]);
    let swapped = |one: &str, other: &str| {
        good.replace(one, "@")
            .replace(other, one)
            .replace('@', other)
    };
    let source = |name: &str| format!("\"{name}\"");
    let [eth, sol] = ["ETH", "SOL"].map(|base| source(&format!("okx:{base}/USD")));
    for (what, changed, theirs) in [
        (
            "another feed",
            good.replace("feed.\"ETH/USD\"", "feed.\"XRP/USD\""),
            "feed is",
        ),
        (
            "other feeds' sources",
            swapped(&eth, &sol),
            "keys or sources",
        ),
        (
            "one more seat",
            good.replacen(
                "[\"kraken:BTC/USD\", \"\",",
                "[\"kraken:BTC/USD\", \"kraken:ETH/USD\",",
                1,
            ),
            "keys or sources",
        ),
        (
            "a short list",
            good.replacen(", \"\"]", "]", 1),
            "for each feed",
        ),
        (
            "a long list",
            good.replacen("okx:SOL/USD\"]", "okx:SOL/USD\", \"\"]", 1),
            "for each feed",
        ),
        (
            "two kinds",
            good.replacen("\"kraken:ETH/USD\"", "\"okx:ETH/USD\"", 1),
            "of one kind",
        ),
        (
            "two schedules",
            good.replacen("period = \"100ms\"", "period = \"200ms\"", 1),
            "several schedules",
        ),
        // Whatever is wrong about a feed that the report is not of.
        (
            "no rule",
            good.replacen("\"trimmed-mean\"", "\"average\"", 1),
            "average",
        ),
        (
            "no exchanges",
            good.replacen("min_exchanges = 1", "min_exchanges = 9", 1),
            "exchanges",
        ),
        (
            "no number",
            good.replacen("number = 1\n", "", 1),
            "of its keys",
        ),
        (
            "no previous",
            good.replacen("previous = \"\"\n", "", 1),
            "of its keys",
        ),
        (
            "one more key",
            good.replacen("min_exchanges", "most = 1\nmin_exchanges", 1),
            "of its keys",
        ),
    ] {
        assert_ne!(changed, good, "{what}");
        let path = keep(&changed);
        let output = checked_file(&python, &[&file, &path]);
        let said = text(&output.stderr);
        assert!(
            !output.status.success() && said.contains(theirs),
            "{what}: {said}"
        );
        let done = run(&["verify", &file, "--roster", &path]);
        assert!(matches!(done.code, Some(1 | 4)), "{what}: {}", done.stdout);
    }
}

#[test]
#[ignore = "needs python"]
fn a_verifier_in_python_takes_the_same_changes_of_keys_as_ours() {
    let python = python();
    let line = Story::play().lines()[2].clone();
    for (from, to, takes) in [
        ("", "", true),
        ("BTC/USD", "ETH/USD", false),
        ("\"new\":\"", "\"new\":\"0", false),
        (
            "\"rsoracle_key_change\":2",
            "\"rsoracle_key_change\":1",
            false,
        ),
        ("\"previous\":\"", "\"previous\":\"00", false),
    ] {
        let (file, output) = checked(&python, &line.replacen(from, to, 1));
        let said = text(&output.stderr);
        assert_eq!(output.status.success(), takes, "{said}: {from}");
        // Without a report, there is nothing to act on.
        let code = if takes { 3 } else { 1 };
        assert_eq!(run(&["verify", &file]).code, Some(code), "{from}");
    }
    let roster = text::render(&Story::play().roster());
    for (feed, code) in [("BTC/USD", 3), ("XRP/USD", 1)] {
        let path = scratch("roster.toml");
        std::fs::write(&path, roster.replace("BTC/USD\"]", &format!("{feed}\"]")))
            .expect("a file for the test");
        let path = path.to_str().expect("a path in UTF-8");
        let (file, _) = checked(&python, &line);
        let output = checked_file(&python, &[&file, path]);
        let said = text(&output.stderr);
        assert_eq!(output.status.success(), code == 3, "{feed}: {said}");
        let done = run(&["verify", &file, "--roster", path]);
        assert_eq!(done.code, Some(code), "{feed}: {}", done.stdout);
    }
}

/// The line of a changed report, signed again with the aggregator's key.
fn signed_anew(line: &str, key: &SecretKey, change: impl FnOnce(&mut Report)) -> String {
    let mut report = read(line);
    change(&mut report);
    report.signature = key.sign(&report.signed_bytes());
    report.line()
}

/// The line with the first byte of a signature or key changed.
fn flipped(line: &str, bytes: &[u8]) -> String {
    let mut changed = bytes.to_vec();
    changed[0] ^= 1;
    line.replace(&hex(bytes), &hex(&changed))
}

/// Changed reports of five collectors, each with the words that must be in the refusal.
fn lies(line: &str, key: &SecretKey) -> Vec<(&'static str, String)> {
    let report = read(line);
    let swap = |from: &str, to: &str| {
        assert!(line.contains(from), "{from}");
        line.replacen(from, to, 1)
    };
    let price = report.price().expect("a price");
    let observation = |slot: usize| report.round.parts[slot].observation.expect("an answer");
    let next = |price: f64| f64::from_bits(price.to_bits() + 1);
    let start = format!("\"round_start_us\":{}", report.round.start_us);
    let later = report.round.start_us + 3_600_000_000;
    let first = report.round.terms.seats[0].key.expect("it came");
    let identity = format!("01{}", "00".repeat(31));
    let refused = |codes: &str| {
        let some = format!("\"refused\":[{{\"code\":{codes},\"count\":1}}]");
        swap("\"refused\":[]", &some)
    };
    let before = |number| {
        signed_anew(line, key, |report| {
            report.last = Some(PublishedPrice {
                number,
                price,
                time_us: 1,
            });
        })
    };
    vec![
        (
            "price is",
            swap(
                &format!("\"price\":{price},\"decision\""),
                &format!("\"price\":{},\"decision\"", next(price)),
            ),
        ),
        ("stand as", swap("\"used\"", "\"trimmed\"")),
        (
            "aggregator",
            swap("\"ephemeral\":false", "\"ephemeral\":true"),
        ),
        ("aggregator", flipped(line, &report.signature)),
        ("collector 2", flipped(line, &observation(2).signature)),
        ("anyone could sign", swap(&hex(first.bytes()), &identity)),
        (
            "collector 0",
            swap("\"exchanges_min\":1", "\"exchanges_min\":0"),
        ),
        ("f and quorum are", swap("\"f\":1,", "\"f\":2,")),
        ("f and quorum are", swap("\"quorum\":3,", "\"quorum\":2,")),
        (
            "collector 0",
            swap("\"age_us_max\":null", "\"age_us_max\":60000000"),
        ),
        (
            "no round starts then",
            swap("\"first_start_us\":1", "\"first_start_us\":"),
        ),
        (
            "out of bounds",
            swap(&start, &format!("\"round_start_us\":{later}")),
        ),
        ("is no name", swap("\"feed\":\"BTC", "\"feed\":\"BT\\\"")),
        (
            "is no KIND:SYMBOL",
            swap("\"source\":\"embedded:", "\"source\":\"embedded"),
        ),
        (
            "the numbers are out of order",
            signed_anew(line, key, |report| report.number = 0),
        ),
        ("the numbers are out of order", before(0)),
        ("the numbers are out of order", before(1)),
        ("are no codes", refused("32")),
        ("are no codes", refused("5,\"count\":1},{\"code\":5")),
        ("are no codes", refused("6,\"count\":1},{\"code\":5")),
        (
            "stands twice",
            swap("\"number\":1,", "\"number\":1,\"number\":1,"),
        ),
        (
            "collector 1",
            signed_anew(line, key, |report| {
                report.round.parts[1].records[0].lateness_us = Some(1_234);
            }),
        ),
        (
            "collector 3",
            signed_anew(line, key, |report| {
                let answer = report.round.parts[3]
                    .observation
                    .as_mut()
                    .expect("it is there");
                let Answer::Price(average) = answer.answer else {
                    panic!("a price");
                };
                answer.answer = Answer::Price(next(average));
            }),
        ),
        (
            "price is",
            signed_anew(line, key, |report| {
                report.outcome.price = report.outcome.price.map(next);
            }),
        ),
    ]
}

#[test]
#[ignore = "needs python"]
fn a_verifier_in_python_refuses_what_was_tampered_with_and_so_does_ours() {
    let python = python();
    let path = scratch("aggregator.key");
    let path = path.to_str().expect("a path in UTF-8");
    assert_eq!(run(&["keygen", path]).code, Some(0));
    let line = reported("embedded:BTCUSDT", &["--aggregator-key", path]);
    let (_, output) = checked(&python, &line);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let key = keyfile::read(path).expect("it was made just now");
    for (part, lie) in lies(&line, &key) {
        assert_ne!(lie.trim_end(), line.trim_end(), "{part}");
        let (file, output) = checked(&python, &lie);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{part}: {said}");
        let named = said.starts_with("REFUSED: ") && said.contains(part);
        assert!(named, "{part}: {said}");
        let ours = run(&["verify", &file]);
        assert_eq!(ours.code, Some(1), "{part}: {}", ours.stdout);
    }
}

#[test]
fn openssl_takes_every_observation_of_a_report_and_the_reports_own_signature() {
    let report = read(&reported("embedded:BTCUSDT", &[]));
    let (round, terms) = (&report.round, &report.round.terms);
    for (slot, (part, seat)) in round.parts.iter().zip(&terms.seats).enumerate() {
        let observation = part.observation.expect("everyone answered");
        let context = ObservationContext {
            terms_digest: &terms.digest(),
            slot: slot as u16,
            start_us: round.start_us,
            samples_digest: &samples_digest(&part.records),
        };
        let bits = observation.answer.to_bits();
        let mut signed = observation_bytes(&context, bits, observation.timestamp_us);
        let key = seat.key.expect("everyone came");
        let (key, signature) = (key.bytes(), &observation.signature);
        assert!(openssl_takes(key, &signed, signature), "slot {slot}");
        signed[100] ^= 1;
        assert!(!openssl_takes(key, &signed, signature), "slot {slot}");
    }
    let key = report.aggregator.bytes();
    let signed = report.signed_bytes();
    assert!(openssl_takes(key, &signed, &report.signature));
}
