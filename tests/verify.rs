//! `rsoracle verify`: accepts real journals, and rejects tampered and forged ones.

mod signed;
mod support;
mod witness;

use nanoserde::DeJson;
use rsoracle::aggregator::roster;
use rsoracle::exchange::json;
use rsoracle_proof::aggregate::Rule;
use rsoracle_proof::publish::PublishedPrice;
use rsoracle_proof::record::{Answer, Observation, Record};
use rsoracle_proof::report::{KeyChange, Proof};
use rsoracle_proof::roster::Roster;
use rsoracle_proof::round::Round;
use rsoracle_proof::seal::hex;
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
    fs::write(&path, roster::render(roster)).unwrap();
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
    let path = file(lines);
    let done = verify(&[&[path.as_str()], args].concat());
    assert_eq!(done.code, Some(1), "{}{}", done.stdout, done.stderr);
    assert!(
        done.stdout
            .ends_with("verdict: INVALID; do not use any price in it\n"),
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

fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_micros() as u64
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
    other.terms.aggregator = key(9).public();
    let mut report = other.report(at, &[Price(101.0)]);
    report.sign(&key(9));
    let done = verify(&[&file(&[first, report.line()])]);
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
        ("\"samples\":1,", "\"samples\":0,"),
        ("\"samples\":1,", "\"samples\":1000,"),
        (
            "\"interval_us\":1000000,",
            "\"interval_us\":9007199254740991,",
        ),
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
        ("\"spread_max\":null", "\"spread_max\":0"),
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
    assert_wrong::<&str>(&[], &[], &[": 0 reports\n", "wrong: it contains no report"]);
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
        "not checked: whether reports are missing at its end; --head SIGNATURE checks that, if you know the newest signature (here it is {}…)",
        &shown[..16]
    );
    assert!(done.stdout.contains(&not_seen), "{}", done.stdout);
}

#[test]
fn a_price_too_old_to_act_on_is_refused_where_an_age_is_asked_for() {
    let mut oracle = Oracle::new(1, "binance:BTCUSDC");
    let mut lines = vec![oracle.line(now_us() - 100_000_000, &[Price(100.0)])];
    assert_eq!(verify(&[&file(&lines), "--max-age", "5m"]).code, Some(5));
    assert_wrong(
        &lines,
        &["--max-age", "90s"],
        &["wrong: its last price is 100.", "more than --max-age 90s"],
    );
    // The last report counts, and it must have a price.
    lines.push(oracle.line(now_us() - 10_000_000, &[Price(100.0)]));
    assert_eq!(verify(&[&file(&lines), "--max-age", "1m"]).code, Some(5));
    lines.push(oracle.line(now_us() - 5_000_000, &[Nothing]));
    assert_eq!(verify(&[&file(&lines)]).code, Some(5));
    assert_wrong(
        &lines,
        &["--max-age", "1m"],
        &["wrong: its last report has no price, so --max-age is not met"],
    );
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
    type Change = fn(&mut Roster);
    let changes: [(Change, &str); 12] = [
        (
            |roster| roster.feed = "ETH/USD".into(),
            "its feed is BTC/USD, the roster's ETH/USD",
        ),
        (
            |roster| roster.rule = Rule::Median,
            "its rule is trimmed-mean, the roster's median",
        ),
        (
            |roster| roster.sample_rule = Rule::Median,
            "its sample rule is mean, the roster's median",
        ),
        (|roster| roster.f = 0, "its f is 1, the roster's 0"),
        (
            |roster| roster.quorum = 4,
            "its quorum is 3, the roster's 4",
        ),
        (
            |roster| roster.exchanges_min = 2,
            "its minimum number of exchanges is 1, the roster's 2",
        ),
        (
            |roster| drop(roster.collectors.pop()),
            "its number of slots is 5, the roster's 4",
        ),
        (
            |roster| {
                let mut another = roster.collectors[0].clone();
                another.key = key(60).public();
                roster.collectors.push(another);
                roster.quorum = 4;
            },
            "its number of slots is 5, the roster's 6; its quorum is 3",
        ),
        (
            |roster| roster.collectors[3].key = key(60).public(),
            "the key in slot 3 is not the roster's",
        ),
        (
            |roster| roster.collectors.swap(1, 2),
            "the key in slot 1 is not the roster's; the key in slot 2 is not",
        ),
        (
            |roster| roster.collectors[4].source = "embedded:BTCUSDC".into(),
            "its source in slot 4 is embedded:BTCUSDT, the roster's embedded:BTCUSDC",
        ),
        (
            |roster| roster.aggregator = Some(key(60).public()),
            "the aggregator's key is not the roster's",
        ),
    ];
    let path = file(lines);
    assert!(
        roster.aggregator.is_some(),
        "the key beside the journal lasts"
    );
    for (change, why) in changes {
        let mut other = roster.clone();
        change(&mut other);
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
    // A roster that names no aggregator trusts any; the output says so.
    let mut any = roster.clone();
    any.aggregator = None;
    let done = verify(&[&path, "--roster", &roster_file(&any)]);
    assert_eq!(done.code, Some(0), "{}", done.stdout);
    let said = "aggregator: any, since the roster names none";
    assert!(done.stdout.contains(said), "{}", done.stdout);
}

#[test]
fn a_change_of_the_aggregators_key_is_followed_from_the_key_that_is_trusted() {
    let (mut oracle, mut lines) = journal();
    let roster = roster_file(&roster_of(&oracle.terms));
    let head = oracle.previous.expect("a report before it");
    let change = KeyChange::sign(&key(0), &key(40), head);
    lines.push(change.line());
    oracle.previous = Some(change.signature());
    oracle.terms.aggregator = key(40).public();
    let mut report = oracle.report(START_US + 70_000_000, &[Price(100.0); 5]);
    report.sign(&key(40));
    lines.push(report.line());
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
    stolen.signatures = KeyChange::sign(&key(42), &key(41), head).signatures;
    forged.push(stolen.line());
    assert_wrong(
        &forged,
        &[],
        &["wrong: line 7 (a change of keys): ", by_old],
    );
    // A change of keys makes the new key trusted only if the old key is trusted.
    let mut other = Oracle::new(5, "binance:BTCUSDC");
    other.terms.aggregator = key(40).public();
    let mut report = other.report(START_US, &[Price(100.0); 5]);
    report.sign(&key(40));
    let change = KeyChange::sign(&key(41), &key(40), head);
    let lines = [change.line(), report.line()];
    assert_wrong(
        &lines,
        &["--roster", &roster],
        &["the aggregator's key is not the roster's"],
    );
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
    let says = [Price(1.0), Both(2.0), Price(3.0), Price(4.0)];
    let report = oracle.report(START_US, &says);
    let proofs: Vec<String> = Proof::in_report(&report).iter().map(Proof::line).collect();
    assert_eq!(proofs.len(), 1);
    let roster = roster_file(&roster_of(&oracle.terms));
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
    assert_wrong(
        &proofs,
        &["--max-age", "24h"],
        &["its last report has no price"],
    );
    let mut others = roster_of(&oracle.terms);
    others.collectors[1].key = key(60).public();
    assert_wrong(
        &proofs,
        &["--roster", &roster_file(&others)],
        &["wrong: line 1 (a proof): its key is not in the roster"],
    );
    let line = &proofs[0];
    for (from, to) in [
        ("\"price\":2,", "\"price\":2.5,"),
        ("\"slot\":1", "\"slot\":2"),
        ("\"feed\":\"BTC", "\"feed\":\"ETH"),
        ("\"price\":2,", "\"price\":2.0,"),
        ("\"price\":2,", "\"price\":3,"),
    ] {
        assert_wrong(&[line.replacen(from, to, 1)], &[], &["wrong: line 1"]);
    }
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
