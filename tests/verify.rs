//! `rsoracle verify`: accepts real journals, and rejects tampered and forged ones.

mod signed;
mod support;
mod witness;

use nanoserde::DeJson;
use rsoracle::aggregator::book::{hand_over, proofs_in};
use rsoracle::exchange::json;
use rsoracle::roster::text;
use rsoracle_proof::aggregate::Rule;
use rsoracle_proof::publish::PublishedPrice;
use rsoracle_proof::record::{Answer, Observation, Record};
use rsoracle_proof::report::{Proof, Report};
use rsoracle_proof::roster::Roster;
use rsoracle_proof::round::Round;
use rsoracle_proof::seal::{Keys, hex};
use rsoracle_proof::terms::Terms;
use signed::Says::*;
use signed::*;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};
use support::*;
use witness::*;

/// Exit code and verdict of sound reports without a recent price.
const STALE: (i32, &str) = (6, "verdict: STALE; do not act on its price");

/// The verdict on a file, as `--json` prints it.
#[derive(DeJson, Debug)]
struct Verdict {
    file: String,
    verdict: String,
    reports: u64,
    bad: u64,
    published: u64,
    signatures: u64,
    price: Option<f64>,
    time_us: Option<u64>,
    head: Option<String>,
    wrong: Vec<String>,
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Writes a file with these lines.
fn file<T: AsRef<str>>(lines: &[T]) -> String {
    let path = scratch("reports.jsonl");
    let whole: String = lines
        .iter()
        .map(|line| format!("{}\n", line.as_ref()))
        .collect();
    fs::write(&path, whole).unwrap();
    text(&path).to_owned()
}

fn roster_file(roster: &Roster) -> String {
    let path = scratch("roster.toml");
    fs::write(&path, text::render(roster)).unwrap();
    text(&path).to_owned()
}

fn verify(args: &[&str]) -> Finished {
    run(&[&["verify"], args].concat())
}

/// Runs `verify --json`. Returns a verdict per file, and the exit code.
fn verdicts(args: &[&str]) -> (Vec<Verdict>, Option<i32>) {
    let done = verify(&[&["--json"], args].concat());
    let verdict = |line: &str| {
        assert_eq!(json::check(line), Ok(()), "{line}");
        Verdict::deserialize_json(line).expect("the fields are there")
    };
    let verdicts = done.stdout.lines().map(verdict).collect();
    (verdicts, done.code)
}

/// Asserts that these lines are rejected, with a message that contains all of `parts`, and with exit code 1.
fn assert_wrong<T: AsRef<str>>(lines: &[T], args: &[&str], parts: &[&str]) {
    let verdict = "verdict: INVALID; do not use any price in it";
    assert_verdict(lines, args, parts, (1, verdict));
}

/// Asserts that `verify` ends with this exit code and this verdict, after a message that contains all of `parts`.
fn assert_verdict<T: AsRef<str>>(
    lines: &[T],
    args: &[&str],
    parts: &[&str],
    (code, verdict): (i32, &str),
) {
    let path = file(lines);
    let done = verify(&[&[path.as_str()], args].concat());
    assert_eq!(done.code, Some(code), "{}{}", done.stdout, done.stderr);
    assert!(
        done.stdout.ends_with(&format!("{verdict}\n")),
        "{}",
        done.stdout
    );
    for part in parts {
        assert!(done.stdout.contains(part), "{part:?} in {}", done.stdout);
    }
}

/// A real journal of three rounds, and its roster.
struct Real {
    lines: Vec<String>,
    roster: Roster,
}

/// Made once, by the real binary, from recorded prices; made again if a collector missed a round on a busy machine.
fn real() -> &'static Real {
    static REAL: OnceLock<Real> = OnceLock::new();
    REAL.get_or_init(|| {
        let whole = |real: &Real| {
            let five = |line: &String| line.contains(",\"prices\":5,");
            real.lines.iter().all(five)
        };
        let made = std::iter::repeat_with(make_real).take(5).find(whole);
        made.expect("three rounds with five prices each")
    })
}

fn make_real() -> Real {
    let journal = scratch("journal.jsonl");
    let dir = journal.parent().unwrap();
    let roster = dir.join("roster.toml");
    let (mut command, _) = marked_run(&["--source", "embedded:BTCUSDT", "--quiet"]);
    command
        .args("--samples 5 --interval 400ms --ready-timeout 1m --every 3s --rounds 3".split(' '));
    command.args(["--journal", text(&journal), "--write-roster", text(&roster)]);
    command.args(["--collector-keys", text(dir)]);
    let done = start_command(command).finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let lines: Vec<String> = read(&journal).lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 3);
    let roster = Roster::parse(&read(&roster)).expect("the roster is read back");
    Real { lines, roster }
}

/// A complete small journal: five collectors, six rounds.
fn journal() -> (Oracle, Vec<String>) {
    let mut oracle = Oracle::new(5, "binance:BTCUSDC");
    let says = [100.0, 101.0, 102.0, 103.0, 104.0].map(Price);
    let lines = (1..=6)
        .map(|round| oracle.line(START_US + round * 10_000_000, &says))
        .collect();
    (oracle, lines)
}

/// About now, where an oracle's round may start.
fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    start_before(now.as_micros() as u64)
}

#[test]
fn a_real_journal_is_valid_with_its_roster_and_of_unknown_signers_without() {
    let Real { lines, roster } = real();
    let (path, roster) = (file(lines), roster_file(roster));
    let done = verify(&[&path, "--roster", &roster]);
    assert_eq!(
        (done.code, done.stderr.as_str()),
        (Some(0), ""),
        "{}",
        done.stdout
    );
    let (head, rest) = done.stdout.split_once('\n').unwrap();
    let closing = ": 3 reports, number 1 to 3; the last: embedded BTC/USD 872";
    assert!(head.starts_with(&path) && head.contains(closing), "{head}");
    for part in [
        "  form: every line ",
        "  signatures: 18 of collectors and aggregator, all valid",
        "  chain: it begins at report 1; no report is missing",
        "  not checked: whether reports are missing at its end",
        "  verdict: valid, and the signers are those of the roster\n",
    ] {
        assert!(rest.contains(part), "{part:?} in {rest}");
    }
    let done = verify(&[&path]);
    assert_eq!(done.code, Some(5), "{}", done.stdout);
    assert!(
        done.stdout
            .contains("verdict: consistent, but the signers are unknown")
    );

    let (verdicts, code) = verdicts(&[&path, "--roster", &roster]);
    assert_eq!(code, Some(0));
    let of = &verdicts[0];
    assert_eq!(
        (of.file.as_str(), of.verdict.as_str(), of.reports, of.bad),
        (path.as_str(), "trusted", 3, 0)
    );
    assert_eq!((of.published, of.signatures, of.wrong.len()), (3, 18, 0));
    let last = &lines[2];
    let price = format!(",\"price\":{},\"decision\"", of.price.expect("a price"));
    let time = format!(",\"time_us\":{},", of.time_us.expect("a time"));
    let signature = format!(",\"signature\":\"{}\"}}", of.head.clone().unwrap());
    assert!(last.contains(&price) && last.contains(&time), "{last}");
    assert!(last.ends_with(&signature), "{last}");
}

#[test]
fn every_flipped_character_of_a_real_line_is_found() {
    let Real { lines, roster } = real();
    let (line, roster) = (&lines[1], roster_file(roster));
    let mut files = Vec::new();
    for at in (0..line.len()).step_by(7) {
        let other = match line.as_bytes()[at] {
            b'9' => '8',
            b'z' => 'y',
            b'a' => 'b',
            digit @ b'0'..=b'8' => char::from(digit + 1),
            b'"' => '\'',
            letter => char::from(letter + 1),
        };
        let mut text = line.clone();
        text.replace_range(at..at + 1, &other.to_string());
        files.push(file(&[text]));
    }
    assert!(files.len() > 400, "{} places", files.len());
    let mut args: Vec<&str> = files.iter().map(String::as_str).collect();
    args.extend(["--roster", &roster]);
    let (verdicts, code) = verdicts(&args);
    assert_eq!((verdicts.len(), code), (files.len(), Some(1)));
    for (place, verdict) in verdicts.iter().enumerate() {
        let at = place * 7;
        assert_eq!(verdict.verdict, "invalid", "byte {at} of {line}");
        assert!(
            verdict.wrong[0].starts_with("line 1"),
            "{:?}",
            verdict.wrong
        );
        assert_eq!((verdict.price, verdict.bad), (None, 1), "byte {at}");
    }
    // Without a roster, in the middle of a journal: the message names the line.
    let second = fs::read_to_string(&files[300]).unwrap();
    let tampered = [&lines[0], second.trim_end(), &lines[2]];
    assert_wrong(&tampered, &[], &["wrong: line 2"]);
}

#[test]
fn reports_dropped_doubled_and_moved_are_found_by_their_line() {
    let (_, lines) = journal();
    let of = |order: &[usize]| -> Vec<String> {
        order
            .iter()
            .map(|number| lines[number - 1].clone())
            .collect()
    };
    for (order, line, why) in [
        (
            &[1, 2, 4, 5, 6][..],
            "line 3 (report 4)",
            "report 4 follows report 2",
        ),
        (
            &[1, 3, 4, 5, 6],
            "line 2 (report 3)",
            "report 3 follows report 1",
        ),
        (
            &[1, 2, 3, 3, 4, 5],
            "line 4 (report 3)",
            "report 3 appears twice",
        ),
        (&[1, 1, 2, 3], "line 2 (report 1)", "report 1 appears twice"),
        (
            &[1, 2, 3, 4, 5, 6, 6],
            "line 7 (report 6)",
            "report 6 appears twice",
        ),
        (
            &[1, 3, 2, 4],
            "line 2 (report 3)",
            "report 3 follows report 1",
        ),
        (
            &[2, 1, 3],
            "line 2 (report 1)",
            "starts before that of the previous report",
        ),
        (
            &[1, 2, 1, 2],
            "line 3 (report 1)",
            "starts before that of the previous report",
        ),
        (&[6, 5], "line 2 (report 5)", "report 5 follows report 6"),
    ] {
        assert_wrong(&of(order), &[], &[&format!("wrong: {line}: "), why]);
        let (verdicts, _) = verdicts(&[&file(&of(order))]);
        let first = &verdicts[0].wrong[0];
        assert!(first.starts_with(line), "{order:?}: {first}");
    }
    // A journal may be checked from any report on; the output says that it does not begin at the first.
    let done = verify(&[&file(&of(&[3, 4, 5]))]);
    assert_eq!(done.code, Some(5), "{}", done.stdout);
    let chain = "from report 3 on, no report is missing, repeated or out of order; earlier reports are not in this file";
    assert!(done.stdout.contains(chain), "{}", done.stdout);
}

#[test]
fn an_aggregator_that_signs_two_reports_for_one_start_is_found_even_at_the_beginning() {
    let at = START_US + 10_000_000;
    let first = Oracle::new(1, "binance:BTCUSDC").line(at, &[Price(100.0)]);
    let second = Oracle::new(1, "binance:BTCUSDC").line(at, &[Price(101.0)]);
    let why = "equivocation: the aggregator signed two different reports for the same round start";
    assert_wrong(
        &[&first, &second],
        &[],
        &["wrong: line 2 (report 1): ", why],
    );
    // In the middle.
    let (mut oracle, mut lines) = journal();
    let again = START_US + 60_000_000;
    lines.push(oracle.line(again, &[Price(1.0); 5]));
    assert_wrong(&lines, &[], &["wrong: line 7 (report 7): ", why]);
    // Reports of two oracles with the same start are not an equivocation, and concatenated journals are not a flaw.
    let mut other = Oracle::new(1, "binance:BTCUSDC");
    other.aggregator = 9;
    let second = other.line(at, &[Price(101.0)]);
    let done = verify(&[&file(&[first, second])]);
    assert_eq!(done.code, Some(5), "{}", done.stdout);
    assert!(
        done.stdout
            .contains("chain: 2 chains, the first from report 1 on; "),
        "{}",
        done.stdout
    );
}

#[test]
fn a_report_with_numbers_that_no_chain_has_is_found() {
    let at = START_US + 10_000_000;
    type Change = fn(&mut Oracle);
    let made = |change: Change| {
        let mut oracle = Oracle::new(1, "binance:BTCUSDC");
        change(&mut oracle);
        oracle.line(at, &[Price(100.0)])
    };
    assert_eq!(verify(&[&file(&[made(|_| ())])]).code, Some(5));
    let changes: [(Change, &str); 4] = [
        (
            |oracle| oracle.number = 2,
            "report 1, and no other, has no previous report",
        ),
        (
            |oracle| oracle.previous = Some([1; 64]),
            "report 1, and no other, has no previous report",
        ),
        (
            |oracle| {
                oracle.number = 0;
                oracle.previous = Some([1; 64]);
            },
            "reports are numbered from 1",
        ),
        (
            |oracle| {
                oracle.last = Some(PublishedPrice {
                    number: 0,
                    price: 99.0,
                    time_us: START_US,
                });
            },
            "the last published",
        ),
    ];
    for (change, why) in changes {
        assert_wrong(&[made(change)], &[], &["wrong: line 1 ", why]);
    }
}

#[test]
fn numbers_that_nobody_would_sign_are_refused_and_never_end_the_program() {
    let line = Oracle::new(4, "binance:BTCUSDC").line(START_US, &[Price(100.5); 4]);
    let longest = "9".repeat(400);
    for (from, to) in [
        ("\"price\":100.5", "\"price\":0"),
        ("\"price\":100.5", "\"price\":0.0"),
        ("\"price\":100.5", "\"price\":1000000000000001"),
        ("\"price\":100.5", &format!("\"price\":{longest}")),
        ("\"price\":100.5", "\"price\":1e400"),
        ("\"price\":100.5", "\"price\":-100.5"),
        ("\"price\":100.5", "\"price\":NaN"),
        ("\"f\":1,", "\"f\":32768,"),
        ("\"f\":1,", "\"f\":65535,"),
        ("\"quorum\":3,", "\"quorum\":0,"),
        ("\"quorum\":3,", "\"quorum\":65535,"),
        ("\"n\":4,", "\"n\":0,"),
        ("\"n\":4,", "\"n\":4097,"),
        ("\"exchanges_min\":1,", "\"exchanges_min\":65535,"),
        ("\"age_us_max\":null", "\"age_us_max\":9007199254740992"),
        ("\"spread_ppm_max\":null", "\"spread_ppm_max\":0"),
        ("\"spread_ppm_max\":null", "\"spread_ppm_max\":1000001"),
        ("\"samples\":1,", "\"samples\":0,"),
        ("\"samples\":1,", "\"samples\":1000,"),
        (
            "\"interval_us\":1000000,",
            "\"interval_us\":9007199254740991,",
        ),
        (
            "\"samples\":1,\"interval_us\":1000000,",
            "\"samples\":1000,\"interval_us\":9007199254740991,",
        ),
        ("\"period_us\":100000,", "\"period_us\":0,"),
        ("\"period_us\":100000,", "\"period_us\":1,"),
        ("\"period_us\":100000,", "\"period_us\":9007199254740991,"),
        (
            "\"first_start_us\":0,",
            "\"first_start_us\":9007199254740991,",
        ),
        ("\"end_us\":null", "\"end_us\":0"),
        ("\"end_us\":null", "\"end_us\":9007199254740992"),
        ("\"lateness_us\":1", "\"lateness_us\":9007199254740991"),
        (
            "\"round_start_us\":1700",
            "\"round_start_us\":9999999999999991700",
        ),
        ("\"number\":1,", "\"number\":9007199254740991,"),
        ("\"number\":1,", "\"number\":18446744073709551615,"),
        (
            "\"timestamp_us\":17",
            "\"timestamp_us\":99999999999999999999917",
        ),
        ("\"deviation\":null", "\"deviation\":0"),
        ("\"move_max\":null", "\"move_max\":0"),
        ("\"heartbeat_us\":null", "\"heartbeat_us\":0"),
        ("{", "[[[[[[[[[[[["),
    ] {
        for (count, what) in [(1, "the first"), (usize::MAX, "all")] {
            let changed = line.replacen(from, to, count);
            assert_ne!(changed, line, "{from}");
            let done = verify(&[&file(&[changed])]);
            assert_eq!(done.code, Some(1), "{what} {from} to {to}: {}", done.stderr);
            assert_eq!(done.stderr, "", "{what} {from} to {to}");
        }
    }
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused() {
    let path = file(&real().lines);
    let digits = "0".repeat(127);
    for (args, parts) in [
        (&[][..], ["FILE… is missing", "rsoracle verify FILE…"]),
        (
            &[&path, "--head", &digits],
            ["--head", "128 lower-case hexadecimal digits"],
        ),
        (
            &[&path, "--head", ""],
            ["--head", "128 lower-case hexadecimal digits"],
        ),
        (
            &[&path, &path, "--head", &"0".repeat(128)],
            ["--head", "one FILE"],
        ),
        (&[&path, "--max-age", "60"], ["--max-age", "with a unit"]),
        (&[&path, "--max-age", "0s"], ["--max-age", "from 1us"]),
        (&[&path, "--roster", ""], ["--roster", "a path"]),
        (&[&path, "--rooster", &path], ["--rooster", "help verify"]),
        (&[&path, "--json=yes"], ["--json", "no value"]),
    ] {
        let done = verify(args);
        assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{args:?}");
        for part in parts {
            assert!(done.stderr.contains(part), "{part:?} in {}", done.stderr);
        }
    }
}

#[test]
fn what_cannot_be_read_has_an_exit_code_of_its_own_and_hides_no_other_file() {
    let Real { lines, roster } = real();
    let (path, roster) = (file(lines), roster_file(roster));
    let folder = scratch("x");
    let folder = text(folder.parent().unwrap());
    for (args, part) in [
        (
            &["/nonexistent.jsonl"][..],
            "verify: cannot read /nonexistent.jsonl: ",
        ),
        (&[folder], "verify: cannot read "),
        (
            &[&path, "--roster", "/nonexistent.toml"],
            "cannot use the roster /nonexistent.toml: ",
        ),
        (&[&path, "--roster", &path], "cannot use the roster "),
    ] {
        let done = verify(args);
        assert_eq!(
            (done.code, done.stdout.as_str()),
            (Some(4), ""),
            "{}",
            done.stderr
        );
        assert!(done.stderr.contains(part), "{part:?} in {}", done.stderr);
        assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    }
    // The other files are still checked, and an invalid file decides the exit code.
    let (verdicts, code) = verdicts(&["/nonexistent.jsonl", &path, "--roster", &roster]);
    assert_eq!((verdicts.len(), code), (1, Some(4)));
    assert_eq!(verdicts[0].verdict, "trusted");
    let bad = file(&["no report"]);
    for order in [[&bad, "/nonexistent.jsonl"], ["/nonexistent.jsonl", &bad]] {
        let done = verify(&order);
        assert_eq!(done.code, Some(1), "{}", done.stdout);
        assert!(done.stdout.contains("INVALID") && done.stderr.contains("/nonexistent"));
    }
}

#[test]
fn standard_input_and_several_files_are_judged_one_by_one() {
    let Real { lines, roster } = real();
    let (good, bad) = (file(lines), file(&[&lines[0], &lines[2]]));
    let roster = roster_file(roster);
    for (from, code) in [(&good, 0), (&bad, 1)] {
        let mut command = rsoracle();
        command.args(["verify", "-", "--roster", &roster]);
        command.stdin(fs::File::open(from).unwrap());
        let done = start_command(command).finish();
        assert_eq!(done.code, Some(code), "{}", done.stdout);
        assert!(
            done.stdout.starts_with("standard input: "),
            "{}",
            done.stdout
        );
    }
    let (verdicts, code) = verdicts(&[&good, &bad, &good, "--roster", &roster]);
    assert_eq!(code, Some(1));
    let each: Vec<&str> = verdicts.iter().map(|one| one.verdict.as_str()).collect();
    assert_eq!(each, ["trusted", "invalid", "trusted"]);
    assert!(verdicts[1].wrong[0].starts_with("line 2 (report 3): "));
    assert_eq!(verify(&[&good, &good, "--roster", &roster]).code, Some(0));
}

#[test]
fn what_is_no_report_is_not_counted_as_one_and_every_bad_line_is_counted() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let done = verify(&[readme]);
    assert_eq!(done.code, Some(1));
    assert!(
        done.stdout.starts_with(&format!("{readme}: 0 reports\n")),
        "{}",
        done.stdout
    );
    assert!(
        done.stdout
            .contains("  wrong: line 1: it is not a report: byte 0: "),
        "{}",
        done.stdout
    );
    let lines = fs::read_to_string(readme).unwrap().lines().count();
    let more = format!("  wrong: and {} more lines\n", lines - 20);
    assert!(done.stdout.contains(&more), "{more:?} in {}", done.stdout);
    let (verdicts, _) = verdicts(&[readme]);
    assert_eq!((verdicts[0].reports, verdicts[0].bad), (0, lines as u64));
    assert_eq!(verdicts[0].verdict, "invalid");
    // Text that would steer a terminal or break JSON is made harmless.
    let path = file(&["\x1b[2J\u{202e}\"\\ no report"]);
    assert_eq!(verdicts_of(&path).bad, 1);
}

fn verdicts_of(path: &str) -> Verdict {
    verdicts(&[path]).0.remove(0)
}

#[test]
fn a_last_line_that_was_cut_off_is_named_as_that() {
    let (_, lines) = journal();
    let path = scratch("journal.jsonl");
    let whole: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(&path, &whole[..whole.len() - 100]).unwrap();
    let done = verify(&[text(&path)]);
    assert_eq!(done.code, Some(1));
    let hint = "wrong: line 6: it is not a report: ";
    assert!(done.stdout.contains(hint), "{}", done.stdout);
    let why = "the line is incomplete: it is still being written, or a write was interrupted";
    assert!(done.stdout.contains(why), "{}", done.stdout);
    // If only the newline is missing, the report is valid.
    fs::write(&path, whole.trim_end()).unwrap();
    assert_eq!(verify(&[text(&path)]).code, Some(5));
}

#[test]
fn the_head_tells_whether_the_end_is_there() {
    let (oracle, lines) = journal();
    let head = hex(&oracle.previous.expect("the last signature"));
    let roster = roster_file(&roster_of(&oracle.terms));
    let of = |count: usize| file(&lines[..count]);
    let done = verify(&[&of(6), "--head", &head, "--roster", &roster]);
    assert_eq!(done.code, Some(0), "{}", done.stdout);
    assert!(!done.stdout.contains("not checked"), "{}", done.stdout);
    let why = "its last report is not that of --head";
    assert_wrong(&lines[..5], &["--head", &head, "--roster", &roster], &[why]);
    assert_wrong(&lines, &["--head", &hex(&[7; 64])], &[why]);
    assert_wrong::<&str>(&[], &["--head", &head], &[why]);
    // A signature alone does not make a report.
    let mut forged = lines.clone();
    forged[5] = forged[5].replace("104", "105");
    assert_wrong(&forged, &["--head", &head], &["wrong: line 6 (report 6): "]);
    // Without --head, a truncated journal is valid; the output says so, with the signature to compare.
    let done = verify(&[&of(5), "--roster", &roster]);
    assert_eq!(done.code, Some(0));
    let shown = verdicts_of(&of(5)).head.unwrap();
    let not_seen = format!(
        "not checked: whether reports are missing at its end; --head SIGNATURE checks that, if you know the newest signature (here it is {shown})"
    );
    assert!(done.stdout.contains(&not_seen), "{}", done.stdout);
    // What is shown can be named.
    let done = verify(&[&of(5), "--head", &shown, "--roster", &roster]);
    assert_eq!(done.code, Some(0), "{}", done.stdout);
}

#[test]
fn a_price_too_old_to_act_on_is_refused_where_an_age_is_asked_for() {
    let mut oracle = Oracle::new(1, "binance:BTCUSDC");
    let mut lines = vec![oracle.line(now_us() - 100_000_000, &[Price(100.0)])];
    assert_eq!(verify(&[&file(&lines), "--max-age", "5m"]).code, Some(5));
    let roster = roster_file(&roster_of(&oracle.terms));
    for args in [
        &["--max-age", "90s"][..],
        &["--max-age", "90s", "--roster", &roster],
    ] {
        let why = ["wrong: its last price is 100.", "more than --max-age 90s\n"];
        assert_verdict(&lines, args, &why, STALE);
    }
    let (stale, code) = verdicts(&[&file(&lines), "--max-age", "90s"]);
    let of = &stale[0];
    assert_eq!(
        (code, of.verdict.as_str(), of.bad, of.price),
        (Some(6), "stale", 0, None)
    );
    // What is forged is not only old.
    let forged = [lines[0].replace("\"price\":100,", "\"price\":101,")];
    assert_wrong(
        &forged,
        &["--max-age", "90s"],
        &["wrong: line 1 ", "wrong: its last price is 100."],
    );
    // The last report counts, and it must have a price.
    lines.push(oracle.line(now_us() - 10_000_000, &[Price(100.0)]));
    assert_eq!(verify(&[&file(&lines), "--max-age", "1m"]).code, Some(5));
    lines.push(oracle.line(now_us() - 5_000_000, &[Nothing]));
    assert_eq!(verify(&[&file(&lines)]).code, Some(5));
    assert_verdict(
        &lines,
        &["--max-age", "1m"],
        &["wrong: its last report has no price, so --max-age is not met"],
        STALE,
    );
}

#[test]
fn a_price_that_is_old_because_it_is_published_seldom_is_said_to_be() {
    for (heartbeat_us, age, hint) in [
        (
            Some(3_600_000_000),
            "1m",
            "; its aggregator publishes prices that stand still every 1h only\n",
        ),
        (None, "1m", "more than --max-age 1m\n"),
        (Some(30_000_000), "1m", "more than --max-age 1m\n"),
    ] {
        let mut oracle = Oracle::new(1, "binance:BTCUSDC");
        oracle.policy.deviation = Some(0.005);
        oracle.policy.heartbeat_us = heartbeat_us;
        let lines = [oracle.line(now_us() - 100_000_000, &[Price(100.0)])];
        assert_verdict(&lines, &["--max-age", age], &[hint], STALE);
    }
}

#[test]
fn the_age_that_a_quorum_vouches_for_is_said() {
    // Of the five, four are needed.
    for (ages, said, field) in [
        (
            [Some(900_000_000), Some(200_000), None, None, Some(100_000)],
            "age: the exchange prices of a quorum were at most 900.0 s old when they were sampled\n",
            ",\"age_us\":900000000,",
        ),
        (
            [Some(300_000), None, None, None, Some(100_000)],
            "age: unknown: too few of the exchanges give times\n",
            ",\"age_us\":null,",
        ),
    ] {
        let mut oracle = Oracle::new(5, "kraken:BTC/USD");
        let line = oracle.report_aged(START_US, &ages).line();
        let (head, _) = line.split_once("\"collectors\":").expect("a report");
        assert!(head.contains(field), "{field}: {head}");
        let verdict = "name a roster that you trust with --roster FILE";
        assert_verdict(&[line], &[], &[said], (5, verdict));
    }
}

#[test]
fn a_file_is_read_as_the_document_says_whatever_its_lines_end_with() {
    let (oracle, lines) = journal();
    let roster = roster_file(&roster_of(&oracle.terms));
    let whole: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let bytes = |text: &[u8]| {
        let path = scratch("reports.jsonl");
        fs::write(&path, text).unwrap();
        text_of(&path)
    };
    let invalid = "verdict: INVALID";
    for (content, code, says) in [
        (String::new(), 3, "wrong: it contains no report"),
        (whole.clone(), 0, "6 reports, number 1 to 6"),
        (whole.trim_end().to_owned(), 0, "6 reports, number 1 to 6"),
        ("\n".to_owned(), 1, "wrong: line 1: it is not a report"),
        (format!("{whole}\n"), 1, "wrong: line 7: it is not a report"),
        (
            whole.replace('\n', "\r\n"),
            1,
            "wrong: line 1: it is not a report: it ends with a carriage return",
        ),
        (
            format!("\u{feff}{whole}"),
            1,
            "wrong: line 1: it is not a report: it begins with a byte order mark",
        ),
        (
            format!(" {whole}"),
            1,
            "wrong: line 1: it is not a report: byte 0",
        ),
        (
            whole[..whole.len() - 2].to_owned(),
            1,
            "wrong: line 6: it is not a report",
        ),
    ] {
        let done = verify(&[&bytes(content.as_bytes()), "--roster", &roster]);
        assert_eq!(done.code, Some(code), "{}", done.stdout);
        assert!(done.stdout.contains(says), "{says}: {}", done.stdout);
        assert_eq!(done.stdout.contains(invalid), code == 1, "{}", done.stdout);
    }
    for (content, why) in [
        (&b"\xff\n"[..], "it is not UTF-8"),
        (b"{\0\n", "a NUL byte"),
    ] {
        let done = verify(&[&bytes(content)]);
        assert_eq!(done.code, Some(1), "{}", done.stdout);
        assert!(done.stdout.contains(why), "{}", done.stdout);
    }
}

/// The path as text of its own.
fn text_of(path: &Path) -> String {
    text(path).to_owned()
}

#[test]
fn the_worst_file_decides_the_exit_code() {
    let mut oracle = Oracle::new(1, "binance:BTCUSDC");
    let old = file(&[oracle.line(now_us() - 100_000_000, &[Price(100.0)])]);
    let fresh =
        file(&[Oracle::new(1, "binance:BTCUSDC").line(now_us() - 1_000_000, &[Price(1.0)])]);
    let roster = roster_file(&roster_of(&oracle.terms));
    let (empty, bad, none) = (
        file::<&str>(&[]),
        file(&["no report"]),
        "/nonexistent.jsonl",
    );
    // From best to worst.
    let each = [
        (fresh.as_str(), 0),
        (&old, 6),
        (&empty, 3),
        (none, 4),
        (&bad, 1),
    ];
    for (at, (worse, code)) in each.into_iter().enumerate() {
        for (better, _) in &each[..=at] {
            for files in [[*better, worse], [worse, *better]] {
                let args = [&files[..], &["--roster", &roster, "--max-age", "90s"]].concat();
                let done = verify(&args);
                assert_eq!(done.code, Some(code), "{files:?}: {}", done.stdout);
            }
        }
    }
    // Without a roster, a stale file is stale.
    assert_eq!(verify(&[&fresh, &old]).code, Some(5));
    assert_eq!(verify(&[&fresh, &old, "--max-age", "90s"]).code, Some(6));
}

#[test]
fn a_report_that_nobody_of_the_roster_signed_is_not_trusted() {
    let mut oracle = Oracle::new(5, "binance:BTCUSDC");
    let roster = roster_file(&roster_of(&oracle.terms));
    let args = ["--roster", roster.as_str()];
    let unknown = (
        5,
        "verdict: consistent, but nobody of the roster signed all of it: anyone can make a report without a collector's answer",
    );
    let trusted = (0, "verdict: valid, and the signers are those of the roster");
    let mut stranger = Oracle::new(5, "binance:BTCUSDC");
    stranger.aggregator = 40;
    let empty = stranger.line(START_US, &[Nothing; 5]);
    let lines = [
        empty.clone(),
        stranger.line(START_US + 10_000_000, &[Nothing; 5]),
    ];
    assert_verdict(&lines, &args, &["NO PRICE"], unknown);
    let (verdicts, _) = verdicts(&[&[file(&lines).as_str()], &args[..]].concat());
    assert_eq!(verdicts[0].verdict, "signers-unknown");
    // Collectors that signed in one report of an aggregator vouch for what it signs besides.
    let lines = [
        oracle.line(START_US, &[Nothing; 5]),
        oracle.line(START_US + 10_000_000, &[Price(100.0); 5]),
        oracle.line(START_US + 20_000_000, &[Nothing; 5]),
    ];
    assert_verdict(&lines, &args, &["3 reports"], trusted);
    // They do not vouch for another, even in the same file; and a change of keys hands the trust on.
    let other = [&lines[..], &[empty]].concat();
    assert_verdict(&other, &args, &["4 reports"], unknown);
    let change = hand_over(
        "BTC/USD",
        &key(0),
        &key(40),
        oracle.previous.expect("a report"),
    );
    oracle.previous = Some(change.signature());
    oracle.aggregator = 40;
    let last = oracle.line(START_US + 30_000_000, &[Nothing; 5]);
    let changed = [&lines[..], &[change.line(), last]].concat();
    assert_verdict(&changed, &args, &["4 reports"], trusted);
}

#[test]
fn the_roster_that_the_document_shows_is_one() {
    let document = include_str!("../docs/CONSUMING.md");
    let (_, behind) = document.split_once("```toml\n").expect("a roster");
    let (shown, _) = behind.split_once("```\n").expect("its end");
    let terms = Roster::parse(shown).expect("a roster").feeds.remove(0);
    assert_eq!(terms.seats[0].source, "coinbase:BTC-USD");
    // What the program writes has the same keys and the same sections.
    let key = |line: &str| line.split(" = ").next().unwrap().to_owned();
    let keys = |text: &str| -> Vec<String> {
        let said = text.lines().filter(|line| !line.starts_with('#'));
        said.filter(|line| !line.is_empty()).map(key).collect()
    };
    assert_eq!(
        keys(&text::render(&Roster::single(1, None, terms.clone()))),
        keys(shown)
    );
}

#[test]
fn a_slot_without_a_key_is_as_the_roster_has_it() {
    let mut oracle = Oracle::new(5, "binance:BTCUSDC");
    let keyed = roster_file(&roster_of(&oracle.terms));
    let four = [Price(1.0), Price(1.0), Price(1.0), Price(1.0), Nothing];
    let whole = oracle.line(START_US, &four);
    let mut oracle = Oracle::new(5, "binance:BTCUSDC");
    oracle.terms.seats[4].key = None;
    let keyless = roster_file(&roster_of(&oracle.terms));
    assert!(fs::read_to_string(&keyless).unwrap().contains("key = \"\""));
    let lacking = oracle.line(START_US, &four);
    for (line, roster, other) in [(whole, &keyed, &keyless), (lacking, &keyless, &keyed)] {
        let trusted = (0, "verdict: valid, and the signers are those of the roster");
        assert_verdict(&[&line], &["--roster", roster], &["1 report"], trusted);
        let why = "; the key in slot 4 is not the roster's\n";
        assert_wrong(&[&line], &["--roster", other], &[why]);
    }
    // Nobody can answer for such a slot, whatever signature stands there.
    let mut round = Round::new(Oracle::new(5, "binance:BTCUSDC").terms, START_US);
    let records = [Record {
        index: 0,
        price: Ok(1.0),
        lateness_us: Some(1),
        age_us: None,
    }];
    round.terms.seats[4].key = None;
    round.digest = round.terms.digest();
    let answer = signed(&round, 4, &records, Answer::Price(1.0), START_US + 1);
    round.parts[4].records = records.to_vec();
    round.parts[4].observation = Some(Observation::decode(&answer).expect("an answer"));
    let line = Oracle::new(5, "binance:BTCUSDC").sign(round).line();
    assert_wrong(
        &[line],
        &[],
        &["wrong: line 1 (report 1): collector 4: the observation's signature does not check"],
    );
}

#[test]
fn what_the_terms_do_not_allow_is_named_also_if_everybody_signed_it() {
    type Change = fn(&mut Terms);
    let made = |change: Change, start_us: u64| {
        let mut oracle = Oracle::new(2, "binance:BTCUSDC");
        change(&mut oracle.terms);
        oracle.report_aged(start_us, &[Some(1_001), None]).line()
    };
    let every_ten_seconds: Change = |terms| terms.schedule.period_us = 10_000_000;
    let once: Change = |terms| {
        terms.schedule.period_us = 0;
        terms.schedule.first_start_us = START_US;
    };
    let later: Change = |terms| terms.schedule.first_start_us = START_US + GRID_US;
    let ended: Change = |terms| terms.schedule.end_us = Some(START_US + GRID_US);
    let next_us = START_US + GRID_US;
    let no_round = "its terms have no round that starts then";
    for (change, start_us, why) in [
        (every_ten_seconds, START_US, None),
        (every_ten_seconds, START_US + 1, Some(no_round)),
        (every_ten_seconds, next_us, Some(no_round)),
        (once, START_US, None),
        (once, next_us, Some(no_round)),
        (later, next_us, None),
        (later, START_US, Some(no_round)),
        (ended, START_US, None),
        (ended, next_us, Some(no_round)),
        (|terms| terms.age_us_max = Some(1_001), START_US, None),
        (
            |terms| terms.age_us_max = Some(1_000),
            START_US,
            Some("collector 0, sample 0: a price older than the terms allow"),
        ),
        (
            |terms| terms.schedule.period_us = 20_000,
            START_US,
            Some("the period is not from 100ms"),
        ),
        (
            |terms| terms.schedule.interval_us = 10_000,
            START_US,
            Some("the interval is not from 20ms"),
        ),
        (
            |terms| terms.exchanges_min = 2,
            START_US,
            Some("the least number of exchanges is 2, but the sources are of 1"),
        ),
    ] {
        let line = made(change, start_us);
        match why {
            None => assert_eq!(verify(&[&file(&[&line])]).code, Some(5), "{line}"),
            Some(why) => {
                let wrong = format!("wrong: line 1 (report 1): {why}");
                assert_wrong(&[line], &[], &[&wrong]);
            }
        }
    }
    // A key in two slots, of which only one answers.
    let mut oracle = Oracle::new(2, "binance:BTCUSDC");
    oracle.terms.seats[1].key = oracle.terms.seats[0].key;
    let line = oracle.line(START_US, &[Price(1.0), Nothing]);
    assert_wrong(
        &[line],
        &[],
        &["wrong: line 1 (report 1): two slots have the same key"],
    );
}

#[test]
fn a_journal_of_protocol_1_is_named_as_that() {
    let (_, lines) = journal();
    let old: Vec<String> = lines
        .iter()
        .map(|line| line.replacen("\"rsoracle_report\":2", "\"rsoracle_report\":1", 1))
        .collect();
    assert_ne!(old, lines);
    let why = "this is one of protocol 1";
    assert_wrong(&old, &[], &["wrong: line 1: it is not a report: ", why]);
}

#[test]
fn a_file_of_published_reports_may_skip_those_that_were_not_and_no_others() {
    let mut oracle = Oracle::new(5, "binance:BTCUSDC");
    oracle.policy.deviation = Some(0.01);
    let prices = [100.0, 100.1, 102.0, 102.1, 102.2, 104.0, 106.0];
    let all: Vec<String> = (1..)
        .zip(prices)
        .map(|(round, price)| oracle.line(START_US + round * 10_000_000, &[Price(price); 5]))
        .collect();
    let roster = roster_file(&roster_of(&oracle.terms));
    let is_published = |line: &&String| line.contains("\"decision\":\"published\"");
    let published: Vec<&String> = all.iter().filter(is_published).collect();
    assert_eq!(published, [&all[0], &all[2], &all[5], &all[6]]);
    let args = ["--published", "--roster", &roster];
    let trusted = (0, "verdict: valid, and the signers are those of the roster");
    let chain = "chain: 1 chain; 3 reports between its reports were not published and are not in this file; no published report is missing, repeated or out of order";
    assert_verdict(
        &published,
        &args,
        &["4 reports, number 1 to 7", chain],
        trusted,
    );
    assert_verdict(
        &all,
        &args,
        &["chain: it begins at report 1; no report is missing"],
        trusted,
    );
    let skipped = verify(&[&["--json", file(&published).as_str()], &args[..]].concat());
    assert!(
        skipped.stdout.contains("\"published\":4,\"skipped\":3,"),
        "{}",
        skipped.stdout
    );
    // Without the flag it is a journal with gaps; the message names the flag.
    let hint = "wrong: line 2 (report 3): report 3 follows report 1 (no published report is missing: --published allows this)";
    assert_wrong(&published, &["--roster", &roster], &[hint]);
    // A published report that is missing, repeated or out of order is found.
    for (order, line) in [
        (
            &[0, 5, 6][..],
            "line 2 (report 6): report 6 follows report 1; ",
        ),
        (&[0, 2, 2, 5], "line 3 (report 3): report 3 appears twice"),
        (&[0, 2, 5, 2, 6], "line 4 (report 3): "),
        (&[2, 0], "line 2 (report 1): "),
    ] {
        let lines: Vec<&String> = order.iter().map(|at| &all[*at]).collect();
        assert_wrong(&lines, &args, &[&format!("wrong: {line}")]);
    }
    // Nor may another key go on behind reports that are missing, though it names the last published price.
    let mut thief = Oracle::new(5, "binance:BTCUSDC");
    thief.policy = oracle.policy;
    thief.aggregator = 40;
    let taken = (1..).zip(&prices[..3]).map(|(round, price)| {
        let report = thief.report(START_US + round * 10_000_000, &[Price(*price); 5]);
        thief.previous = Some(report.signature);
        report.line()
    });
    let taken: Vec<String> = taken.collect();
    assert_wrong(
        &[&all[0], &taken[2]],
        &["--published", "--roster", &roster],
        &[
            "wrong: line 2 (report 3): ",
            "the aggregator's key is not that of the previous report",
        ],
    );
    // The first one may be missing where nothing tells of it.
    assert_verdict(&published[1..], &args, &["number 3 to 7"], trusted);
    // Of several runs without a journal, each has a key of its own, and its first rounds may not have been published.
    let mut later = Oracle::new(5, "binance:BTCUSDC");
    later.aggregator = 40;
    let says = [[Nothing; 5], [Price(99.0); 5]];
    let run = (10..).zip(says);
    let run: Vec<String> = run
        .map(|(round, says)| later.line(START_US + round * 10_000_000, &says))
        .collect();
    let captured = [published[0], published[1], &run[1]];
    assert_verdict(&captured, &args, &["chain: 2 chains"], trusted);
}

#[test]
fn what_run_prints_can_be_captured_and_verified() {
    let path = scratch("roster.toml");
    let (mut command, _) = marked_run(&["--source", "embedded:BTCUSDT", "--quiet", "--json"]);
    command
        .args("--samples 1 --ready-timeout 1m --every 1s --rounds 4 --deviation 100%".split(' '));
    let keys = path.parent().unwrap();
    command.args(["--heartbeat", "2s", "--write-roster", text(&path)]);
    command.args(["--collector-keys", text(keys)]);
    let done = start_command(command).finish();
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert!((1..4).contains(&lines.len()), "{lines:?}{}", done.stderr);
    let args = ["--published", "--roster", text(&path)];
    let trusted = (0, "verdict: valid, and the signers are those of the roster");
    assert_verdict(&lines, &args, &["reports"], trusted);
}

#[test]
fn a_report_from_the_future_is_refused() {
    let at = |ahead_us: u64| {
        let mut oracle = Oracle::new(1, "binance:BTCUSDC");
        [oracle.line(now_us() + ahead_us, &[Price(100.0)])]
    };
    let why = "its round starts in the future: the aggregator's clock or this machine's is wrong";
    assert_wrong(&at(60_000_000), &[], &["wrong: line 1 (report 1): ", why]);
    assert_wrong(&at(86_400_000_000 * 365), &[], &[why]);
    let almost = verify(&[&file(&at(4_000_000))]);
    assert_eq!(
        almost.code,
        Some(5),
        "clocks differ a little: {}",
        almost.stdout
    );
}

#[test]
fn whatever_differs_from_the_roster_is_named() {
    let Real { lines, roster } = real();
    type Change = fn(&mut Terms);
    let changes: [(Change, &str); 17] = [
        (
            |terms| terms.feed = "ETH/USD".into(),
            "its feed is BTC/USD, the roster's ETH/USD",
        ),
        (
            |terms| terms.rule = Rule::Median,
            "its rule is trimmed-mean, the roster's median",
        ),
        (
            |terms| terms.sample_rule = Rule::Median,
            "its sample rule is mean, the roster's median",
        ),
        (
            |terms| {
                terms.exchanges_min = 2;
                terms.seats[4].source = "binance:BTCUSDC".into();
            },
            "its minimum number of exchanges is 1, the roster's 2; its source in slot 4 is ",
        ),
        (
            |terms| terms.age_us_max = Some(60_000_000),
            "its greatest age in microseconds is none, the roster's 60000000",
        ),
        (
            |terms| terms.spread_ppm_max = Some(20_000),
            "its greatest spread in millionths is none, the roster's 20000",
        ),
        (
            |terms| terms.schedule.samples = 4,
            "its number of samples is 5, the roster's 4",
        ),
        (
            |terms| terms.schedule.interval_us = 300_000,
            "its interval in microseconds is 400000, the roster's 300000",
        ),
        (
            |terms| terms.schedule.period_us = 6_000_000,
            "its period in microseconds is 3000000, the roster's 6000000",
        ),
        (
            |terms| terms.schedule.first_start_us = 3_000_000,
            "its first start in microseconds is 0, the roster's 3000000",
        ),
        (
            |terms| terms.schedule.end_us = Some(4_000_000_000_000_000),
            "its end in microseconds is none, the roster's 4000000000000000",
        ),
        (
            |terms| drop(terms.seats.pop()),
            "its number of slots is 5, the roster's 4",
        ),
        (
            |terms| {
                let mut another = terms.seats[0].clone();
                another.key = Some(key(60).public());
                terms.seats.push(another);
            },
            "its number of slots is 5, the roster's 6",
        ),
        (
            |terms| terms.seats[3].key = Some(key(60).public()),
            "the key in slot 3 is not the roster's",
        ),
        (
            |terms| terms.seats[3].key = None,
            "the key in slot 3 is not the roster's",
        ),
        (
            |terms| terms.seats.swap(1, 2),
            "the key in slot 1 is not the roster's; the key in slot 2 is not",
        ),
        (
            |terms| terms.seats[4].source = "embedded:BTCUSDC".into(),
            "its source in slot 4 is embedded:BTCUSDT, the roster's embedded:BTCUSDC",
        ),
    ];
    let path = file(lines);
    for (change, why) in changes {
        let mut other = roster.clone();
        change(&mut other.feeds[0]);
        let other = roster_of(&other.feeds[0]);
        let [found, own] = [roster, &other].map(|it| hex(&it.feeds[0].digest()[..8]));
        let why = format!(
            "its terms are another roster's: their digest begins with {found}, the roster's with {own}; {why}"
        );
        let done = verify(&[&path, "--roster", &roster_file(&other)]);
        assert_eq!(done.code, Some(1), "{why}: {}{}", done.stdout, done.stderr);
        for line in [
            "line 1 (report 1)",
            "line 2 (report 2)",
            "line 3 (report 3)",
        ] {
            assert!(
                done.stdout.contains(&format!("wrong: {line}: {why}")),
                "{why}: {}",
                done.stdout
            );
        }
        assert!(
            !done.stdout.contains("872"),
            "no price is shown: {}",
            done.stdout
        );
    }
    // All keys are another oracle's.
    let mut other = roster.clone();
    for (seed, seat) in (60..).zip(&mut other.feeds[0].seats) {
        seat.key = Some(key(seed).public());
    }
    let done = verify(&[&path, "--roster", &roster_file(&roster_of(&other.feeds[0]))]);
    let line = done.stdout.lines().nth(1).expect("a line");
    let end = "; the key in slot 0 is not the roster's; the key in slot 1 is not the roster's; and 3 more differences";
    assert!(line.ends_with(end), "{}", done.stdout);
    assert!(!done.stdout.contains("roster: "), "{}", done.stdout);
    // Reports do not tell the number of the roster, nor the one before it.
    let later = Roster {
        number: 7,
        previous: Some(roster.digest()),
        ..roster.clone()
    };
    assert_ne!(later.digest(), roster.digest());
    let done = verify(&[&path, "--roster", &roster_file(&later)]);
    assert_eq!(done.code, Some(0), "{}", done.stdout);
}

#[test]
fn a_file_of_another_kind_is_named_and_no_secret_is_shown() {
    let Real { roster, .. } = real();
    let roster = roster_file(roster);
    let secret = "ab".repeat(32);
    for (bytes, what) in [
        (fs::read(&roster).unwrap(), "it is a roster (or the draft"),
        (
            format!("rsoracle secret key 1 {secret}\n").into_bytes(),
            "it is a secret key, not a journal",
        ),
        (
            b"\x1f\x8b\x08\0\xff".to_vec(),
            "'gunzip -c FILE | rsoracle verify -'",
        ),
        (
            b"\x28\xb5\x2f\xfd\0\xff".to_vec(),
            "'zstd -dc FILE | rsoracle verify -'",
        ),
    ] {
        let path = scratch("other");
        fs::write(&path, &bytes).unwrap();
        let path = text(&path);
        let follow = ["follow", path, "--once", "--roster", &roster];
        for (args, code) in [
            (&["verify", path][..], 4),
            (&["history", path], 4),
            (&follow, 1),
        ] {
            let done = run(args);
            assert_eq!((done.code, &*done.stdout), (Some(code), ""), "{args:?}");
            assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
            assert!(done.stderr.contains(what), "{args:?}: {}", done.stderr);
            assert!(!done.stderr.contains(&secret), "{}", done.stderr);
        }
        let serve = start(&["serve", "--journal", path, "--listen", "127.0.0.1:0"]);
        serve.stderr_line(what);
        assert!(!serve.stderr().contains(&secret));
        if what.contains("roster") {
            continue;
        }
        let done = verify(&["-", "--roster", path]);
        let parts = [": it is a secret key; ", ": it is compressed; "];
        assert_eq!(done.code, Some(4), "{}", done.stderr);
        assert!(
            parts.iter().any(|part| done.stderr.contains(part)),
            "{}",
            done.stderr
        );
        assert!(!done.stderr.contains(&secret), "{}", done.stderr);
    }
    let lines = &real().lines;
    let done = verify(&["-", "--roster", &file(lines)]);
    assert!(done.stderr.contains("it is a journal"), "{}", done.stderr);
}

#[test]
fn a_change_of_the_aggregators_key_is_followed_if_both_keys_signed_it() {
    let (mut oracle, mut lines) = journal();
    let roster = roster_file(&roster_of(&oracle.terms));
    let head = oracle.previous.expect("a report before it");
    let change = hand_over("BTC/USD", &key(0), &key(40), head);
    lines.push(change.line());
    oracle.previous = Some(change.signature());
    oracle.aggregator = 40;
    lines.push(oracle.line(START_US + 70_000_000, &[Price(100.0); 5]));
    let done = verify(&[&file(&lines), "--roster", &roster]);
    assert_eq!(done.code, Some(0), "{}", done.stdout);
    assert!(
        done.stdout
            .contains("7 reports, number 1 to 7; the last: BTC/USD 100.0000")
    );
    assert!(
        done.stdout.contains(
            "keys: 1 change of the aggregator's key, signed by the old key and the new one"
        ),
        "{}",
        done.stdout
    );
    // The old key signs another report after it.
    let mut back = lines[..7].to_vec();
    let mut other = Oracle::new(5, "binance:BTCUSDC");
    (other.number, other.previous) = (7, Some(change.signature()));
    other.last = Report::read(&lines[5], &mut Keys::default())
        .expect("a report")
        .published();
    back.push(other.line(START_US + 70_000_000, &[Price(100.0); 5]));
    let why = "wrong: line 8 (report 7): the aggregator's key is not that of the previous report\n";
    assert_wrong(&back, &[], &[why]);
    // The record is dropped, doubled, moved, or signed by only one of the two keys.
    let without: Vec<&String> = lines.iter().filter(|line| **line != lines[6]).collect();
    let why = "the aggregator's key is not that of the previous report";
    assert_wrong(&without, &[], &["wrong: line 7 (report 7): ", why]);
    let mut doubled = lines.clone();
    doubled.insert(6, lines[6].clone());
    assert_wrong(
        &doubled,
        &[],
        &["wrong: line 8 (a change of keys): it does not continue the chain"],
    );
    let mut moved = lines.clone();
    moved.swap(5, 6);
    assert_wrong(&moved, &[], &["wrong: line 6 (a change of keys): "]);
    let mut stolen = change.clone();
    stolen.new = key(41).public();
    let by_old = "the old key's signature is invalid";
    let mut forged = lines[..6].to_vec();
    stolen.signatures = hand_over("BTC/USD", &key(42), &key(41), head).signatures;
    forged.push(stolen.line());
    assert_wrong(
        &forged,
        &[],
        &["wrong: line 7 (a change of keys): ", by_old],
    );
    // A report and the change that follows it, doubled together, continue the chain again and again.
    let first = Oracle::new(5, "binance:BTCUSDC").line(START_US, &[Price(100.0); 5]);
    let signature = Report::read(&first, &mut Keys::default())
        .expect("a report")
        .signature;
    let change = hand_over("BTC/USD", &key(0), &key(40), signature).line();
    let doubled = [&first, &change, &first, &change];
    let twice = "wrong: line 3 (report 1): report 1 appears twice";
    assert_wrong(&doubled, &[], &[twice]);
    let other = Oracle::new(5, "binance:BTCUSDC").line(START_US, &[Price(101.0); 5]);
    assert_wrong(
        &[&first, &change, &other],
        &[],
        &["wrong: line 3 (report 1): equivocation: "],
    );
    // Collectors signed the price, so nobody need trust the old key. It makes no report trusted that they did not sign.
    let change = hand_over("BTC/USD", &key(41), &key(40), head).line();
    for (says, code) in [(Price(100.0), 0), (Nothing, 5)] {
        let mut other = Oracle::new(5, "binance:BTCUSDC");
        other.aggregator = 40;
        let lines = [change.clone(), other.line(START_US, &[says; 5])];
        let done = verify(&[&file(&lines), "--roster", &roster]);
        assert_eq!(done.code, Some(code), "{}", done.stdout);
    }
}

#[test]
fn a_last_report_without_a_price_is_valid_and_said_to_have_none() {
    let mut oracle = Oracle::new(5, "binance:BTCUSDC");
    let report = oracle.report(START_US, &[Price(100.0), Price(100.0)]);
    let roster = roster_file(&roster_of(&oracle.terms));
    let done = verify(&[&file(&[report.line()]), "--roster", &roster]);
    assert_eq!(done.code, Some(0), "{}", done.stdout);
    let none = "1 report, number 1; the last has NO PRICE (no-quorum)";
    assert!(done.stdout.contains(none), "{}", done.stdout);
}

#[test]
fn a_proof_of_a_lie_is_valid_by_itself_and_stands_for_no_price() {
    let mut oracle = Oracle::new(4, "binance:BTCUSDC");
    let lied = |oracle: &mut Oracle, start_us: u64, lie| {
        let report = oracle.report(start_us, &[Price(1.0), lie, Price(3.0), Price(4.0)]);
        let line = report.line();
        assert_eq!(line.matches("\"standing\":\"equivocated\"").count(), 1);
        assert_eq!(verify(&[&file(&[line])]).code, Some(5));
        let proofs: Vec<String> = proofs_in(&report).iter().map(Proof::line).collect();
        assert_eq!(proofs.len(), 1);
        proofs
    };
    let proofs = lied(&mut oracle, START_US, Both(2.0));
    let roster = roster_file(&roster_of(&oracle.terms));
    // The same average over other samples is a lie too.
    let anew = lied(&mut oracle, START_US + GRID_US, Anew(2.0));
    assert_eq!(anew[0].matches("\"price\":2,").count(), 2, "{}", anew[0]);
    let done = verify(&[&file(&anew), "--roster", &roster]);
    assert_eq!(done.code, Some(0), "{}", done.stdout);
    // Only a roster tells whose key it is; the proof alone tells that it lied.
    for (args, code) in [(&[][..], 5), (&["--roster", &roster], 0)] {
        let done = verify(&[&[file(&proofs).as_str()], args].concat());
        assert_eq!(done.code, Some(code), "{}", done.stdout);
        assert!(done.stdout.contains("  verdict: proved"), "{}", done.stdout);
        let key = hex(key(2).public().bytes());
        let proof = format!(
            "  proof: the holder of the key {key} signed two different answers for the round of 2023-11-14T22:13:20.000Z\n"
        );
        assert!(done.stdout.contains(&proof), "{}", done.stdout);
    }
    assert_verdict(
        &proofs,
        &["--max-age", "24h"],
        &["its last report has no price"],
        STALE,
    );
    let mut others = oracle.terms.clone();
    others.seats[1].key = Some(key(60).public());
    assert_wrong(
        &proofs,
        &["--roster", &roster_file(&roster_of(&others))],
        &["wrong: line 1 (a proof): its key is not in the roster"],
    );
    let line = &proofs[0];
    let terms = hex(&oracle.terms.digest());
    for (from, to) in [
        ("\"price\":2,", "\"price\":2.5,"),
        ("\"slot\":1", "\"slot\":2"),
        ("\"round_start_us\":17", "\"round_start_us\":16"),
        (terms.as_str(), &hex(&Oracle::new(3, "okx").terms.digest())),
        ("\"rsoracle_proof\":2", "\"rsoracle_proof\":1"),
        ("\"price\":2,", "\"price\":2.0,"),
        ("\"price\":2,", "\"price\":3,"),
    ] {
        assert!(line.contains(from), "{from} in {line}");
        assert_wrong(&[line.replacen(from, to, 1)], &[], &["wrong: line 1"]);
    }
    // Other samples than the ones that were signed.
    let (before, samples) = line.split_once("\"samples_digest\":\"").unwrap();
    let other = if samples.starts_with('0') { '1' } else { '0' };
    let changed = format!("{before}\"samples_digest\":\"{other}{}", &samples[1..]);
    let why = "wrong: line 1 (a proof): the first answer's signature is invalid";
    assert_wrong(&[changed], &[], &[why]);
    // The first answer, twice.
    let (before, rest) = line.split_once("\"first\":{").unwrap();
    let (first, _) = rest.split_once("},\"second\":").unwrap();
    let twice = format!("{before}\"first\":{{{first}}},\"second\":{{{first}}}}}");
    assert_wrong(
        &[twice],
        &[],
        &["wrong: line 1 (a proof): both answers are the same"],
    );
}

/// A report that is valid, except that its collector's key is the identity point, under which one signature is valid for any
/// message.
fn forged_with_a_key_of_small_order() -> String {
    let neutral = {
        let mut bytes = [0; 32];
        bytes[0] = 1;
        bytes
    };
    let mut oracle = Oracle::new(1, "binance:BTCUSDC");
    let terms = &oracle.terms;
    let mut round = Round::new(terms.clone(), START_US);
    round.digest = digest_with_key(terms, &neutral);
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&neutral);
    round.parts[0].records.push(Record {
        index: 0,
        price: Ok(5.0),
        lateness_us: Some(1),
        age_us: None,
    });
    round.parts[0].observation = Some(Observation {
        answer: Answer::Price(5.0),
        timestamp_us: START_US + 1,
        signature,
    });
    let honest = hex(key(1).public().bytes());
    oracle.sign(round).line().replace(&honest, &hex(&neutral))
}

#[test]
fn a_key_of_small_order_signs_nothing() {
    let line = forged_with_a_key_of_small_order();
    assert!(
        line.contains("\"price\":5,\"decision\":\"published\""),
        "{line}"
    );
    let why = "expected an Ed25519 public key that is not of small order";
    assert_wrong(
        &[line],
        &[],
        &["wrong: line 1: it is not a report: byte ", why],
    );
}

/// Verifies this many reports from standard input. Returns the peak memory in kB, measured when all but the last buffer was
/// read.
fn memory_kb(lines: &[String]) -> u64 {
    let mut command = rsoracle();
    command
        .args(["verify", "-", "--json"])
        .stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the program starts");
    let mut input = child.stdin.take().expect("a pipe");
    for line in lines {
        input.write_all(line.as_bytes()).expect("it reads on");
        input.write_all(b"\n").expect("it reads on");
    }
    let kb = status_number(child.id(), "VmHWM").expect("it is running");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let verdict = String::from_utf8(output.stdout).unwrap();
    let verdict = Verdict::deserialize_json(&verdict).expect("a verdict");
    assert_eq!((verdict.reports, verdict.bad), (lines.len() as u64, 0));
    kb
}

#[test]
fn a_long_journal_takes_no_more_memory_than_a_short_one() {
    let mut oracle = Oracle::new(1, "binance:BTCUSDC");
    let lines: Vec<String> = (0..20_000)
        .map(|round| oracle.line(START_US + round * 1_000_000, &[Price(100.0)]))
        .collect();
    let (short, long) = (memory_kb(&lines[..2_000]), memory_kb(&lines));
    println!("{short} kB for 2,000 reports, {long} kB for 20,000");
    assert!(long < short + 512, "{short} kB, then {long} kB");
    assert!(long < 16 * 1024, "{long} kB");
}

/// The feeds of a journal with several, in the order in which their reports are appended.
const FEEDS: [&str; 3] = ["BTC/USD", "SOL/USD", "ETH/USD"];

/// A complete journal of three feeds, four rounds and five collectors: line 3 r + f is of round r, feed f.
fn journal_of_three() -> (Vec<Oracle>, Vec<String>) {
    let mut oracles = oracles(&FEEDS, 5, "binance:BTCUSDC");
    let says = [100.0, 101.0, 102.0, 103.0, 104.0].map(Price);
    let round = |round: u64| lines_of(&mut oracles, START_US + round * 10_000_000, &says);
    let lines = (0..4).flat_map(round).collect();
    (oracles, lines)
}

/// The verdict on a file with several feeds, as `--json` prints it.
#[derive(DeJson, Debug)]
struct VerdictOfSeveral {
    verdict: String,
    reports: u64,
    number: Option<u64>,
    feed: Option<String>,
    price: Option<f64>,
    time_us: Option<u64>,
    head: Option<String>,
    feeds: Vec<VerdictOfFeed>,
    wrong: Vec<String>,
}

#[derive(DeJson, Debug)]
struct VerdictOfFeed {
    feed: String,
    reports: u64,
    number: Option<u64>,
    embedded: Option<bool>,
    price: Option<f64>,
    time_us: Option<u64>,
    head: Option<String>,
}

fn verdict_of_several(args: &[&str]) -> (VerdictOfSeveral, Option<i32>) {
    let done = verify(&[&["--json"], args].concat());
    assert_eq!(done.stdout.lines().count(), 1, "{}", done.stdout);
    assert_eq!(
        json::check(done.stdout.trim_end()),
        Ok(()),
        "{}",
        done.stdout
    );
    let verdict = VerdictOfSeveral::deserialize_json(&done.stdout);
    (
        verdict.unwrap_or_else(|why| panic!("{why}: {}", done.stdout)),
        done.code,
    )
}

#[test]
fn the_feeds_of_a_file_are_named_each_with_its_chain_and_its_last_price() {
    let (oracles, lines) = journal_of_three();
    let (path, roster) = (file(&lines), roster_file(&roster_of_all(&oracles)));
    let args = [path.as_str(), "--roster", &roster];
    let done = verify(&args);
    assert_eq!(
        (done.code, done.stderr.as_str()),
        (Some(0), ""),
        "{}",
        done.stdout
    );
    let heads = oracles
        .iter()
        .map(|one| hex(&one.previous.expect("a report")));
    let heads: Vec<String> = heads.collect();
    let begin = format!(
        "{path}: 12 reports of 3 feeds\n  BTC/USD: 4 reports, number 1 to 4; the last: BTC/USD 102.0000  (5 of 5 signatures verified, "
    );
    assert!(done.stdout.starts_with(&begin), "{}", done.stdout);
    for says in [
        "\n  ETH/USD: 4 reports, number 1 to 4; the last: ETH/USD 102.0000  (5 of 5 ",
        "\n  SOL/USD: 4 reports, number 1 to 4; the last: SOL/USD 102.0000  (5 of 5 ",
        "\n  signatures: 72 of collectors and aggregator, all valid; ",
        "\n  chain: that of each feed begins at report 1; no report is missing, repeated or out of order\n",
        "\n  age of SOL/USD: unknown: too few",
        &format!(
            "\n  not checked: whether reports of SOL/USD are missing at its end; --head SIGNATURE checks that, if you know the newest signature (here it is {})\n",
            heads[1]
        ),
        "\n  verdict: valid, and the signers are those of the roster\n",
    ] {
        assert!(done.stdout.contains(says), "{says} in {}", done.stdout);
    }
    // For software, the feeds are members of a list, and nothing else is of one feed.
    let (verdict, code) = verdict_of_several(&args);
    assert_eq!(
        (verdict.verdict.as_str(), code, verdict.reports),
        ("trusted", Some(0), 12)
    );
    assert!(verdict.wrong.is_empty() && verdict.number.is_none() && verdict.feed.is_none());
    assert!(verdict.price.is_none() && verdict.time_us.is_none() && verdict.head.is_none());
    let names: Vec<&str> = verdict.feeds.iter().map(|one| one.feed.as_str()).collect();
    assert_eq!(names, ["BTC/USD", "ETH/USD", "SOL/USD"]);
    for (of, head) in verdict.feeds.iter().zip([&heads[0], &heads[2], &heads[1]]) {
        assert_eq!(
            (of.reports, of.number, of.embedded),
            (4, Some(4), Some(false))
        );
        assert_eq!(
            (of.price, of.time_us),
            (Some(102.0), Some(START_US + 30_000_002))
        );
        assert_eq!(of.head.as_ref(), Some(head));
    }
    // From the middle on.
    let later = verify(&[&file(&lines[4..])]);
    let chain = "\n  chain: from the first report of each feed on, no report is missing, repeated or out of order; earlier reports are not in this file\n";
    assert!(
        later.code == Some(5) && later.stdout.contains(chain),
        "{}",
        later.stdout
    );
    let mut other = Oracle::new(5, "binance:BTCUSDC");
    other.aggregator = 9;
    let mut twice = lines.clone();
    twice.push(other.line(START_US, &[Price(1.0); 5]));
    let twice = verify(&[&file(&twice)]);
    let chain = "\n  chain: 4 chains of 3 feeds; within each, no report is missing, ";
    assert!(
        twice.code == Some(5) && twice.stdout.contains(chain),
        "{}",
        twice.stdout
    );
}

#[test]
fn reports_of_several_feeds_may_stand_in_any_order_and_none_may_be_missing() {
    let (oracles, lines) = journal_of_three();
    let roster = roster_file(&roster_of_all(&oracles));
    let of = |order: &[usize]| -> Vec<&String> { order.iter().map(|at| &lines[*at]).collect() };
    let trusted = (0, "verdict: valid, and the signers are those of the roster");
    for order in [
        // Two lines swapped; the feeds of a round turned round; one feed after the other.
        &[0, 1, 2, 4, 3, 5, 6, 7, 8, 9, 10, 11][..],
        &[0, 1, 2, 5, 4, 3, 6, 7, 8, 11, 10, 9],
        &[0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11],
        // Two feeds end early.
        &[0, 1, 2, 3, 4, 5, 6, 9],
    ] {
        assert_verdict(
            &of(order),
            &["--roster", &roster],
            &[" of 3 feeds"],
            trusted,
        );
    }
    let missing = of(&[0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]);
    let why = "wrong: line 7 (report 3 of SOL/USD): report 3 follows report 1\n";
    let done = verify(&[&file(&missing), "--json"]);
    assert_eq!(
        done.stdout.matches("\"bad\":1,").count(),
        1,
        "{}",
        done.stdout
    );
    let (wrong, code) = verdict_of_several(&[&file(&missing)]);
    assert_eq!(
        (wrong.verdict.as_str(), code, wrong.wrong.len()),
        ("invalid", Some(1), 1)
    );
    for of in &wrong.feeds {
        assert_eq!(
            (of.price, of.number, of.embedded),
            (None, None, None),
            "{}",
            of.feed
        );
        assert!(of.head.is_some() && FEEDS.contains(&of.feed.as_str()));
    }
    assert_wrong(&missing, &[], &[why.trim_end()]);
    for (order, why) in [
        (
            &[0, 1, 2, 3, 4, 4, 5][..],
            "wrong: line 6 (report 2 of SOL/USD): report 2 appears twice",
        ),
        (
            &[0, 1, 2, 7, 3, 4, 5],
            "wrong: line 4 (report 3 of SOL/USD): report 3 follows report 1",
        ),
    ] {
        assert_wrong(&of(order), &["--roster", &roster], &[why]);
    }
}

#[test]
fn of_published_reports_each_feed_may_skip_its_own() {
    let mut oracles = oracles(&FEEDS[..2], 5, "binance:BTCUSDC");
    let roster = roster_file(&roster_of_all(&oracles));
    oracles[0].policy.deviation = Some(0.01);
    let mut all = Vec::new();
    for round in 1..=4 {
        let price = if round == 4 { 101.0 } else { 100.0 };
        let start_us = START_US + round * 10_000_000;
        all.extend(lines_of(&mut oracles, start_us, &[Price(price); 5]));
    }
    let is_published = |line: &&String| line.contains("\"decision\":\"published\"");
    let published: Vec<&String> = all.iter().filter(is_published).collect();
    assert_eq!(
        published.len(),
        6,
        "1 and 4 of the first feed, and all of the second"
    );
    let args = ["--published", "--roster", &roster];
    let trusted = (0, "verdict: valid, and the signers are those of the roster");
    let chain = "chain: 2 chains; 2 reports between its reports were not published and are not in this file; ";
    assert_verdict(&published, &args, &["6 reports of 2 feeds", chain], trusted);
    let why = "wrong: line 5 (report 4 of SOL/USD): report 4 follows report 2";
    let missing = [&published[..3], &published[4..]].concat();
    assert_wrong(&missing, &args, &[why]);
}

#[test]
fn a_report_in_the_chain_of_another_feed_and_a_feed_of_no_roster_are_found() {
    let (oracles, lines) = journal_of_three();
    let read = |line: &String| Report::read(line, &mut Keys::default()).expect("a report");
    // The aggregator signs a report of one feed again, as the next of another feed's chain.
    let mut moved = read(&lines[4]);
    moved.previous = Some(read(&lines[0]).signature);
    moved.signature = key(0).sign(&moved.signed_bytes());
    let mut forged = lines.clone();
    forged[4] = moved.line();
    let why = "the previous report that it names is not the one before it";
    for line in [5, 8] {
        let number = line / 3 + 1;
        assert_wrong(
            &forged,
            &[],
            &[&format!(
                "wrong: line {line} (report {number} of SOL/USD): {why}\n"
            )],
        );
    }
    assert_eq!(verdict_of_several(&[&file(&forged)]).0.wrong.len(), 2);
    let two = roster_file(&roster_of_all(&oracles[..2]));
    let why = "wrong: line 3 (report 1 of ETH/USD): the roster has no feed ETH/USD\n";
    assert_wrong(&lines, &["--roster", &two], &[why]);
    let mut others = roster_of_all(&oracles);
    others.feeds[2].rule = Rule::Median;
    let why = "; its rule is trimmed-mean, the roster's median\n";
    assert_wrong(&lines, &["--roster", &roster_file(&others)], &[why]);
    let only: Vec<&String> = lines.iter().step_by(3).collect();
    assert_eq!(verify(&[&file(&only), "--roster", &two]).code, Some(0));
}

#[test]
fn a_change_of_keys_is_one_of_a_single_feed() {
    let (mut oracles, mut lines) = journal_of_three();
    let roster = roster_file(&roster_of_all(&oracles));
    let args = ["--roster", roster.as_str()];
    let head = |oracle: &Oracle| oracle.previous.expect("a report");
    let change = hand_over("SOL/USD", &key(0), &key(40), head(&oracles[1]));
    lines.push(change.line());
    (oracles[1].previous, oracles[1].aggregator) = (Some(change.signature()), 40);
    lines.extend(lines_of(
        &mut oracles,
        START_US + 40_000_000,
        &[Price(100.0); 5],
    ));
    let trusted = (0, "verdict: valid, and the signers are those of the roster");
    let says = [
        "15 reports of 3 feeds",
        "keys: 1 change of the aggregator's key, ",
    ];
    assert_verdict(&lines, &args, &says, trusted);
    // The same record in another feed's chain, by its own words or by others.
    let mut other = change.clone();
    other.feed = "ETH/USD".to_owned();
    let mut forged = lines.clone();
    forged[12] = other.line();
    let invalid = "wrong: line 13 (a change of keys): the old key's signature is invalid; the new key's signature is invalid; it does not continue the chain";
    assert_wrong(
        &forged,
        &args,
        &[
            invalid,
            "wrong: line 15 (report 5 of SOL/USD): ",
            "wrong: line 16 (report 5 of ETH/USD): ",
        ],
    );
    forged[12] = hand_over("ETH/USD", &key(0), &key(40), change.previous).line();
    assert_wrong(
        &forged,
        &args,
        &["wrong: line 13 (a change of keys): it does not continue the chain"],
    );
    // A feed of which there is nothing but a change of keys has no report, and no price.
    let alone = [lines[0].clone(), change.line()];
    let (verdict, code) = verdict_of_several(&[&file(&alone)]);
    assert_eq!(
        (verdict.reports, code, verdict.feeds.len()),
        (1, Some(5), 2)
    );
    assert_eq!(
        (verdict.feeds[1].reports, verdict.feeds[1].price),
        (0, None)
    );
    assert_eq!(verdict.feeds[1].head, Some(hex(&change.signature())));
}

#[test]
fn a_head_can_be_named_for_every_feed() {
    let (oracles, lines) = journal_of_three();
    let heads: Vec<String> = oracles
        .iter()
        .map(|one| hex(&one.previous.expect("a report")))
        .collect();
    let path = file(&lines);
    let named = |which: &[usize]| -> Vec<&str> {
        which
            .iter()
            .flat_map(|at| ["--head", heads[*at].as_str()])
            .collect()
    };
    let done = verify(&[&[path.as_str()], &named(&[2, 0, 1])[..]].concat());
    assert!(
        done.code == Some(5) && !done.stdout.contains("not checked"),
        "{}",
        done.stdout
    );
    let done = verify(&[&[path.as_str()], &named(&[1, 1])[..]].concat());
    assert_eq!(done.code, Some(5), "{}", done.stdout);
    for (feed, checked) in [("BTC/USD", false), ("SOL/USD", true), ("ETH/USD", false)] {
        let says = format!("not checked: whether reports of {feed} are missing at its end");
        assert_eq!(done.stdout.contains(&says), !checked, "{}", done.stdout);
    }
    // The last report of one feed is missing.
    let cut = [&lines[..10], &lines[11..]].concat();
    let why = format!(
        "wrong: no feed ends with the report of --head {}: ",
        heads[1]
    );
    assert_wrong(&cut, &named(&[0, 1, 2]), &[&why]);
    assert_eq!(
        verify(&[&[file(&cut).as_str()], &named(&[0, 2])[..]].concat()).code,
        Some(5)
    );
    // Of a file with one feed, all heads are that one's.
    let only: Vec<&String> = lines.iter().step_by(3).collect();
    let why = format!(
        "wrong: no feed ends with the report of --head {}: ",
        heads[1]
    );
    assert_wrong(&only, &named(&[0, 1]), &[&why]);
    assert_wrong(
        &only,
        &named(&[1]),
        &["wrong: its last report is not that of --head: "],
    );
}

#[test]
fn the_last_price_of_every_feed_must_be_young_enough() {
    let mut oracles = oracles(&FEEDS, 1, "binance:BTCUSDC");
    let roster = roster_file(&roster_of_all(&oracles));
    let now_us = now_us();
    let mut lines = lines_of(&mut oracles, now_us - 100_000_000, &[Price(100.0)]);
    lines.push(oracles[0].line(now_us - 10_000_000, &[Price(100.0)]));
    lines.push(oracles[2].line(now_us - 10_000_000, &[Price(100.0)]));
    let args = ["--max-age", "90s", "--roster", &roster];
    assert_verdict(
        &lines,
        &args,
        &["\n  wrong: SOL/USD: its last price is 100."],
        STALE,
    );
    let (verdict, _) = verdict_of_several(&[&[file(&lines).as_str()], &args[..]].concat());
    assert_eq!(
        (verdict.verdict.as_str(), verdict.wrong.len()),
        ("stale", 1)
    );
    lines.push(oracles[1].line(now_us - 9_000_000, &[Price(100.0)]));
    let trusted = (0, "verdict: valid, and the signers are those of the roster");
    assert_verdict(&lines, &args, &[], trusted);
    lines.push(oracles[0].line(now_us - 8_000_000, &[Nothing]));
    let why = "\n  wrong: BTC/USD: its last report has no price, so --max-age is not met\n";
    assert_verdict(&lines, &args, &[why], STALE);
}

#[test]
fn a_feed_that_no_collector_signed_is_not_trusted() {
    let mut oracles = oracles(&FEEDS, 5, "binance:BTCUSDC");
    let roster = roster_file(&roster_of_all(&oracles));
    let mut lines: Vec<String> = oracles[..2]
        .iter_mut()
        .map(|one| one.line(START_US, &[Price(1.0); 5]))
        .collect();
    lines.push(oracles[2].line(START_US, &[Nothing; 5]));
    let unknown = (
        5,
        "verdict: consistent, but nobody of the roster signed all of it: anyone can make a report without a collector's answer",
    );
    let none = "\n  ETH/USD: 1 report, number 1; the last has NO PRICE (no-quorum)\n";
    assert_verdict(&lines, &["--roster", &roster], &[none], unknown);
}

#[test]
fn a_sixty_fifth_feed_is_one_too_many() {
    let names: Vec<String> = (0..65).map(|feed| format!("F{feed:02}/USD")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut oracles = oracles(&names, 1, "binance:BTCUSDC");
    let mut lines = lines_of(&mut oracles, START_US, &[Price(1.0)]);
    let (verdict, code) = verdict_of_several(&[&file(&lines[..64])]);
    assert_eq!((verdict.feeds.len(), code), (64, Some(5)));
    lines.extend(lines_of(
        &mut oracles[..64],
        START_US + GRID_US,
        &[Price(1.0)],
    ));
    let why = "wrong: line 65: its feed F64/USD is one more than the 64 of a file\n";
    assert_wrong(&lines, &[], &[why]);
    let (verdict, _) = verdict_of_several(&[&file(&lines)]);
    assert_eq!(
        (verdict.reports, verdict.feeds.len(), verdict.wrong.len()),
        (128, 64, 1)
    );
}

#[test]
fn a_long_journal_of_many_feeds_takes_no_more_memory_than_a_short_one() {
    let names: Vec<String> = (0..64).map(|feed| format!("F{feed}/USD")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut oracles = oracles(&names, 1, "binance:BTCUSDC");
    let round = |round: u64| lines_of(&mut oracles, START_US + round * 1_000_000, &[Price(100.0)]);
    let lines: Vec<String> = (0..160).flat_map(round).collect();
    let (short, long) = (memory_kb(&lines[..1_600]), memory_kb(&lines));
    println!("{short} kB for 1,600 reports, {long} kB for 10,240");
    assert!(long < short + 512, "{short} kB, then {long} kB");
}

#[test]
fn of_the_last_report_of_each_feed_only_what_is_shown_is_kept() {
    let names: Vec<String> = (0..64).map(|feed| format!("F{feed}/USD")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut many = oracles(&names, 60, "binance:BTCUSDC");
    let of_many = lines_of(&mut many, START_US, &[Price(100.0); 60]);
    let mut one = Oracle::new(60, "binance:BTCUSDC");
    let round = |round: u64| one.line(START_US + round * 10_000_000, &[Price(100.0); 60]);
    let of_one: Vec<String> = (0..64).map(round).collect();
    let (few, all) = (memory_kb(&of_one), memory_kb(&of_many));
    println!("{few} kB for 64 reports of one feed, {all} kB for one of each of 64 feeds");
    assert!(all < few + 1024, "{few} kB, then {all} kB");
}

#[test]
fn a_feed_of_the_roster_that_a_file_lacks_is_named() {
    let (oracles, lines) = journal_of_three();
    let roster = roster_file(&roster_of_all(&oracles));
    let told = |path: &str, roster: &[&str]| {
        let words = verify(&[&[path], roster].concat());
        let json = verify(&[&["--json", path], roster].concat());
        assert_eq!(words.code, json.code);
        let absent = json.stdout.split_once("\"absent\":");
        let absent = absent.map(|(_, rest)| rest.split_once(']').expect("a list").0.to_owned());
        let line = words
            .stdout
            .lines()
            .find(|line| line.contains("not in this file"));
        (words.code, line.map(str::to_owned), absent)
    };
    let roster = ["--roster", &roster];
    let without: Vec<&String> = lines
        .iter()
        .filter(|line| !line.contains("SOL/USD"))
        .collect();
    let without = file(&without);
    let line = "  not in this file: SOL/USD".to_owned();
    let absent = Some("[\"SOL/USD\"".to_owned());
    assert_eq!(told(&without, &roster), (Some(0), Some(line), absent));
    assert_eq!(told(&without, &[]), (Some(5), None, None));
    let whole = file(&lines);
    assert_eq!(told(&whole, &roster), (Some(0), None, Some("[".to_owned())));
}
