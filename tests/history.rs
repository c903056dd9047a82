//! `rsoracle history`: what it shows of complete and of damaged journals.

mod signed;
mod support;
mod witness;

use nanoserde::DeJson;
use rsoracle::aggregator::book::hand_over;
use rsoracle::exchange::json;
use signed::Says::*;
use signed::*;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;
use support::*;
use witness::*;

/// A round as `--json` prints it.
#[derive(DeJson, Debug)]
struct Shown {
    number: u64,
    round_start: String,
    round_start_us: u64,
    price: Option<f64>,
    decision: String,
    age_us: Option<u64>,
    embedded: bool,
    prices: u16,
    n: u16,
    given: Vec<Given>,
    missing: Vec<Missing>,
    gap: bool,
    reports_missing: u64,
    checks: bool,
}

#[derive(DeJson, Debug, PartialEq)]
struct Given {
    slot: u16,
    source: String,
    price: f64,
    age_us: Option<u64>,
}

#[derive(DeJson, Debug)]
struct Missing {
    slot: u16,
    why: String,
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Writes a journal with these lines.
fn journal(lines: &[String]) -> String {
    let path = scratch("journal.jsonl");
    let whole: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(&path, whole).unwrap();
    text(&path).to_owned()
}

/// Runs `history`. Returns its output and its exit code.
fn history(args: &[&str]) -> (String, Option<i32>) {
    let done = run(&[&["history"], args].concat());
    assert_eq!(done.stderr, "");
    (done.stdout, done.code)
}

/// Runs `history --json`. Returns the rounds and the exit code.
fn shown(args: &[&str]) -> (Vec<Shown>, Option<i32>) {
    let done = run(&[&["history", "--json"], args].concat());
    let round = |line: &str| {
        assert_eq!(json::check(line), Ok(()), "{line}");
        Shown::deserialize_json(line).expect("the fields are there")
    };
    (done.stdout.lines().map(round).collect(), done.code)
}

fn second(number: u64) -> u64 {
    START_US + number * 10_000_000
}

/// Twelve rounds, ten seconds apart except the last one, with prices that rise and fall, silence, abstention, equivocation.
fn eventful() -> Vec<String> {
    let mut oracle = Oracle::new(5, "binance:BTCUSDC");
    oracle.policy.deviation = Some(0.0001);
    oracle.terms.spread_ppm_max = Some(10_000);
    let all = |price: f64| [Price(price); 5];
    let mut lines = vec![
        oracle.line(second(1), &all(100_000.0)),
        oracle.line(second(2), &all(100_070.0)),
        oracle.line(second(3), &all(100_075.0)),
        oracle.line(second(4), &all(99_999.5)),
    ];
    let [low, mid, high] = [99_950.0, 100_000.0, 100_050.0].map(Price);
    lines.push(oracle.line(second(5), &[low, mid, Nothing, mid, high]));
    lines.push(oracle.line(second(6), &[mid, Abstains, Nothing, Abstains, Nothing]));
    lines.push(oracle.line(second(7), &[mid, Both(1.0), Nothing, mid, mid]));
    lines.push(oracle.line(second(8), &[Price(1_000.0), low, mid, high, Price(1e15)]));
    lines.push(oracle.line(
        second(9),
        &[low, Price(98_000.0), mid, mid, Price(90_000.0)],
    ));
    lines.push(oracle.line(second(10), &all(100_010.0)));
    lines.push(oracle.line(second(11), &all(100_020.0)));
    lines.push(oracle.line(second(15), &all(100_030.0)));
    lines
}

#[test]
fn the_table_shows_each_round_and_what_is_missing_stands_out() {
    let mut lines = eventful();
    let (table, code) = history(&[&journal(&lines)]);
    let expected = "\
BTC/USD: 12 rounds
  number  round start (UTC)        price  decision         prices  missing
       1  2023-11-14 22:13:30  100000.00  published           5/5
       2  2023-11-14 22:13:40  100070.00  published           5/5
       3  2023-11-14 22:13:50  100075.00  unchanged           5/5
       4  2023-11-14 22:14:00   99999.50  published           5/5
       5  2023-11-14 22:14:10  100000.00  unchanged           4/5
          silent binance 2
!      6  2023-11-14 22:14:20   no price  no-quorum           1/5
          silent binance 2, binance 4; abstained binance 1, binance 3
       7  2023-11-14 22:14:30  100000.00  unchanged           3/5
          silent binance 2; equivocated binance 1
       8  2023-11-14 22:14:40  100000.00  unchanged           5/5
!      9  2023-11-14 22:14:50   no price  spread-too-wide     5/5
      10  2023-11-14 22:15:00  100010.00  published           5/5
      11  2023-11-14 22:15:10  100020.00  unchanged           5/5
! 40.0 s from start to start; usual: 10.0 s
      12  2023-11-14 22:15:50  100030.00  published           5/5
whole file: 12 rounds, 5 published, 2 without a price; 2023-11-14T22:13:30.000Z
   to 2023-11-14T22:15:50.000Z; lowest 99999.50, highest 100075.00
prices shown, ▁ 99999.50 to █ 100075.00:
  ▁██▁▁ ▁▁ ▂▃   ▄
";
    assert_eq!((table.as_str(), code), (expected, Some(0)));

    // Two reports are missing, and only the last five are shown: totals of the whole file stay.
    lines.drain(8..10);
    let (table, code) = history(&[&journal(&lines), "--last", "5"]);
    let expected = "\
BTC/USD: the last 5 of 10 rounds
  number  round start (UTC)        price  decision   prices  missing
!      6  2023-11-14 22:14:20   no price  no-quorum     1/5
          silent binance 2, binance 4; abstained binance 1, binance 3
       7  2023-11-14 22:14:30  100000.00  unchanged     3/5
          silent binance 2; equivocated binance 1
       8  2023-11-14 22:14:40  100000.00  unchanged     5/5
! reports 9 to 10 are missing; 30.0 s from start to start
!     11  2023-11-14 22:15:10  100020.00  unchanged     5/5  its line is invalid
! 40.0 s from start to start; usual: 10.0 s
      12  2023-11-14 22:15:50  100030.00  published     5/5
whole file: 10 rounds, 4 published, 1 without a price; 2023-11-14T22:13:30.000Z
   to 2023-11-14T22:15:50.000Z; lowest 99999.50, highest 100075.00
prices shown, ▁ 100000.00 to █ 100030.00:
   ▁▁  ▆   █
1 line is invalid, the first: line 9: report 11 follows report 8; 'rsoracle verify ";
    assert!(table.starts_with(expected), "{table}");
    assert!(table.ends_with("journal.jsonl' says more\n"), "{table}");
    assert_eq!(code, Some(1));
}

#[test]
fn the_table_names_exchanges_and_fits_80_columns() {
    let mut oracle = Oracle::new(5, "kraken:BTC/USD");
    let others = ["coinbase:BTC-USD", "bitstamp:btcusd", "okx:BTC-USDT"];
    for (seat, source) in oracle.terms.seats.iter_mut().zip(others) {
        seat.source = source.into();
    }
    let price = Price(100_000.0);
    let (table, code) = history(&[&journal(&[
        oracle.line(second(1), &[price, price, Nothing, price, price]),
        oracle.line(second(2), &[Abstains, Abstains, Nothing, price, Nothing]),
    ])]);
    assert_eq!(code, Some(0), "{table}");
    for line in [
        "       1  2023-11-14 22:13:30  100000.00  published     4/5  silent okx\n",
        "!      2  2023-11-14 22:13:40   no price  no-quorum     1/5\n",
        "\n          silent okx, kraken 4; abstained coinbase, bitstamp\n",
    ] {
        assert!(table.contains(line), "{table}");
    }
    assert!(
        table.lines().all(|line| line.chars().count() <= 80),
        "{table}"
    );
}

#[test]
fn json_has_the_same_rounds_one_a_line() {
    let mut lines = eventful();
    lines.remove(9);
    let path = journal(&lines);
    let (rounds, code) = shown(&[&path, "--last", "7"]);
    assert_eq!(code, Some(1));
    let numbers: Vec<u64> = rounds.iter().map(|round| round.number).collect();
    assert_eq!(numbers, [5, 6, 7, 8, 9, 11, 12]);
    let gaps: Vec<(bool, u64, bool)> = rounds
        .iter()
        .map(|round| (round.gap, round.reports_missing, round.checks))
        .collect();
    let none = (false, 0, true);
    let expected = [
        none,
        none,
        none,
        none,
        none,
        (true, 1, false),
        (true, 0, true),
    ];
    assert_eq!(gaps, expected);
    let prices: Vec<Option<f64>> = rounds.iter().map(|round| round.price).collect();
    let mid = Some(100_000.0);
    assert_eq!(
        prices,
        [mid, None, mid, mid, None, Some(100_020.0), Some(100_030.0)]
    );
    let second_round = &rounds[1];
    let missing: Vec<(u16, &str)> = second_round
        .missing
        .iter()
        .map(|missing| (missing.slot, missing.why.as_str()))
        .collect();
    assert_eq!(
        missing,
        [
            (1, "abstained"),
            (2, "silent"),
            (3, "abstained"),
            (4, "silent")
        ]
    );
    assert_eq!(
        (second_round.prices, second_round.n, second_round.embedded),
        (1, 5, false)
    );
    assert_eq!(
        (
            second_round.decision.as_str(),
            second_round.round_start.as_str()
        ),
        ("no-quorum", "2023-11-14T22:14:20.000Z")
    );
    assert_eq!(second_round.round_start_us, second(6));
    let given = Given {
        slot: 0,
        source: "binance:BTCUSDC".to_owned(),
        price: 100_000.0,
        age_us: None,
    };
    assert_eq!(
        (&*second_round.given, second_round.age_us),
        (&[given][..], None)
    );
    // Warnings go to standard error, not into the JSON.
    let done = run(&["history", "--json", &path]);
    assert!(
        done.stderr.starts_with("history: 1 line is invalid"),
        "{}",
        done.stderr
    );
}

#[test]
fn a_line_that_the_aggregator_did_not_sign_is_counted_and_never_shown() {
    let lines = eventful();
    let with = |at: usize, line: String| {
        let mut lines = lines.clone();
        lines[at] = line;
        let (rounds, code) = shown(&[&journal(&lines)]);
        assert_eq!(code, Some(1));
        rounds
    };
    // A line with a changed price and sample, a line that is not a report, and a report that names its predecessor's signature
    // but is not signed by the aggregator.
    let changed = lines[3].replace("99999.5", "99999.6");
    let copied = {
        let signature = |line: &str| line[line.len() - 130..].to_owned();
        lines[3].replace(&signature(&lines[3]), &signature(&lines[2]))
    };
    assert_ne!(copied, lines[3]);
    for line in [
        changed,
        copied,
        "{}".to_owned(),
        String::new(),
        lines[3].replace("BTC/", "B\0C/"),
    ] {
        let rounds = with(3, line);
        let numbers: Vec<u64> = rounds.iter().map(|round| round.number).collect();
        assert_eq!(numbers, [1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12]);
        // The next line lacks its predecessor, but is valid.
        assert_eq!((rounds[3].reports_missing, rounds[3].checks), (1, true));
    }
    // A report that appears twice is shown twice, and marked.
    let mut doubled = lines.clone();
    doubled.insert(4, lines[3].clone());
    let (table, code) = history(&[&journal(&doubled)]);
    let marked = "!      4  2023-11-14 22:14:00   99999.50  published           5/5\n          its line is invalid\n";
    assert!(table.contains(marked), "{table}");
    assert!(table.contains("line 5: report 4 appears twice"), "{table}");
    assert_eq!(code, Some(1));
}

#[test]
fn a_line_that_is_being_written_is_said_and_no_error() {
    let lines = eventful();
    let whole: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let path = scratch("journal.jsonl");
    let end = whole.len();
    for cut in [end - 2, end - lines[11].len(), end - 700] {
        fs::write(&path, &whole[..cut]).unwrap();
        let (table, code) = history(&[text(&path)]);
        assert!(table.contains("whole file: 11 rounds"), "{table}");
        assert!(table.contains("the last line is incomplete"), "{table}");
        assert_eq!(code, Some(0), "{table}");
        let (rounds, code) = shown(&[text(&path)]);
        assert_eq!((rounds.len(), code), (11, Some(0)));
    }
    // Only the newline is missing: the report is complete.
    fs::write(&path, &whole[..end - 1]).unwrap();
    let (table, code) = history(&[text(&path)]);
    assert!(
        table.contains("whole file: 12 rounds") && !table.contains("no end"),
        "{table}"
    );
    assert_eq!(code, Some(0));
}

#[test]
fn what_cannot_be_read_is_an_error_of_its_own_and_an_empty_journal_is_none() {
    let missing = run(&["history", "/nonexistent.jsonl"]);
    assert_eq!((missing.code, missing.stdout.as_str()), (Some(4), ""));
    assert!(
        missing
            .stderr
            .starts_with("history: cannot read /nonexistent.jsonl: "),
        "{}",
        missing.stderr
    );
    let folder = scratch("x");
    let folder = run(&["history", text(folder.parent().unwrap())]);
    assert_eq!((folder.code, folder.stdout.as_str()), (Some(4), ""));
    let empty = history(&[&journal(&[])]);
    assert_eq!(empty, ("no rounds in this file\n".to_owned(), Some(0)));
    let (rounds, code) = shown(&[&journal(&[])]);
    assert_eq!((rounds.len(), code), (0, Some(0)));
    let nonsense = history(&[concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")]);
    assert!(
        nonsense.0.starts_with("no rounds in this file\n"),
        "{}",
        nonsense.0
    );
    assert_eq!(nonsense.1, Some(1));
}

#[test]
fn journals_one_after_the_other_lack_no_report_and_many_missing_slots_fit_the_table() {
    let mut lines = vec![];
    for seconds in [0, 50] {
        let mut oracle = Oracle::new(20, "binance:BTCUSDC");
        oracle.aggregator = seconds as u8;
        for number in 1..4 {
            let mut says = [Nothing; 20];
            says[..4].fill(Price(1.5));
            lines.push(oracle.line(second(seconds) + number * 10_000_000, &says));
        }
    }
    let (table, code) = history(&[&journal(&lines)]);
    assert_eq!(code, Some(0), "{table}");
    let row = "!      1  2023-11-14 22:13:30  no price  no-quorum    4/20\n          silent binance 4, binance 5, binance 6, binance 7, binance 8, binance\n          9, binance 10, binance 11 and 8 more\n";
    assert!(table.contains(row), "{table}");
    assert!(
        table.contains("! 8 min from start to start; usual: 10.0 s\n!      1  "),
        "{table}"
    );
    assert!(!table.contains("prices shown"), "{table}");
    assert!(
        table.contains("6 rounds, 0 published, 6 without a price"),
        "{table}"
    );
}

#[test]
fn a_change_of_the_aggregators_key_is_told_and_lacks_nothing() {
    let mut oracle = Oracle::new(1, "binance:BTCUSDC");
    let mut lines = vec![oracle.line(second(1), &[Price(100.0)])];
    let change = hand_over("BTC/USD", &key(0), &key(9), oracle.previous.unwrap());
    lines.push(change.line());
    oracle.previous = Some(change.signature());
    oracle.aggregator = 9;
    lines.push(oracle.line(second(2), &[Price(101.0)]));
    let (table, code) = history(&[&journal(&lines)]);
    assert_eq!(code, Some(0), "{table}");
    let told = "\nchanges of the aggregator's key, each signed by the old key and the new one: 1\n";
    assert!(table.contains(told) && !table.contains('!'), "{table}");
    lines.remove(1);
    let (table, code) = history(&[&journal(&lines)]);
    assert!(table.contains("the first: line 2: "), "{table}");
    assert_eq!(code, Some(1));
}

/// Runs rounds of recorded prices, one every three seconds, into a journal, until the run ends.
fn recorded(path: &str, rounds: &str) {
    let (mut command, _) = marked_run(&["--source", "embedded:BTCUSDT", "--quiet"]);
    command.args(["--samples", "1", "--ready-timeout", "2m"]);
    command.args(["--every", "3s", "--rounds", rounds, "--journal", path]);
    let done = start_command(command).finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}

#[test]
fn a_real_journal_is_shown_with_the_mark_of_recorded_prices() {
    let path = scratch("journal.jsonl");
    let path = text(&path);
    recorded(path, "2");
    recorded(path, "2");
    let (table, code) = history(&[path]);
    assert_eq!(code, Some(0), "{table}");
    assert!(
        table.starts_with("BTC/USD: 4 rounds\n  number  round start (UTC) "),
        "{table}"
    );
    // On a busy machine, a collector may sometimes abstain.
    let (rounds, _) = shown(&[path]);
    assert_eq!(rounds.len(), 4);
    for round in &rounds {
        let start = round.round_start[..19].replace('T', " ");
        let begins = format!("{}  {start}", round.number);
        let mut rows = table
            .lines()
            .map(|line| line.trim_start_matches(['!', ' ']));
        let row = rows.find(|row| row.starts_with(&begins)).expect(&table);
        let price = match round.price {
            Some(_) => "  embedded 872",
            None => "  no price  ",
        };
        let prices = format!(" {}/5", round.prices);
        assert!(row.contains(price) && row.contains(&prices), "{table}");
    }
    assert!(
        table.contains("lowest embedded 872") && table.contains("\nprices shown, "),
        "{table}"
    );
    let (rounds, code) = shown(&[path, "--last", "3"]);
    assert_eq!(code, Some(0));
    let numbers: Vec<u64> = rounds.iter().map(|round| round.number).collect();
    assert_eq!(numbers, [2, 3, 4]);
    assert!(
        rounds
            .iter()
            .all(|round| round.embedded && round.checks && round.reports_missing == 0)
    );

    // From standard input, with a line missing.
    let whole = fs::read_to_string(path).unwrap();
    let kept: Vec<String> = whole.lines().map(str::to_owned).collect();
    let cut = journal(&[kept[0].clone(), kept[2].clone(), kept[3].clone()]);
    let mut command = rsoracle();
    command
        .args(["history", "-"])
        .stdin(fs::File::open(cut).unwrap());
    let done = start_command(command).finish();
    assert_eq!(done.code, Some(1), "{}", done.stdout);
    assert!(
        done.stdout.contains("! report 2 is missing; "),
        "{}",
        done.stdout
    );
    assert!(
        done.stdout
            .contains("1 line is invalid, the first: line 2: "),
        "{}",
        done.stdout
    );
}

#[test]
fn of_a_long_file_the_last_rounds_are_shown_quickly_and_the_line_fits() {
    let mut oracle = Oracle::new(1, "binance:BTCUSDC");
    let mut whole = String::new();
    for number in 0..5_000u64 {
        let price = 100.0 + (number % 700) as f64;
        let _ = writeln!(whole, "{}", oracle.line(second(number), &[Price(price)]));
    }
    let path = scratch("journal.jsonl");
    fs::write(&path, &whole).unwrap();
    let mut running = start(&["history", text(&path), "--last", "1000"]);
    // CPU time, since elapsed time depends on how busy the machine is.
    let mut took = Duration::ZERO;
    eventually("the table is made", || {
        took = took.max(time_on_a_core(running.id()));
        running.ended().then_some(())
    });
    let table = running.finish().stdout;
    assert_eq!(table.lines().count(), 2 + 1_000 + 5);
    let drawn = table.lines().last().unwrap();
    assert_eq!(drawn.chars().count(), 72, "{drawn}");
    assert!(drawn.contains('▁') && drawn.contains('█'), "{drawn}");
    assert!(
        table.starts_with("BTC/USD: the last 1000 rounds\n"),
        "{table}"
    );
    assert!(took.as_secs() < 20, "{took:?}");
    let (rounds, _) = shown(&[text(&path), "--last", "10000"]);
    assert_eq!(rounds.len(), 5_000);
}

#[test]
fn a_long_journal_is_read_from_its_end_as_far_as_the_rounds_shown_need() {
    let mut oracle = Oracle::new(5, "binance:BTCUSDC");
    let all = [Price(100_000.0); 5];
    let mut lines: Vec<String> = (1..=7_000)
        .map(|number| oracle.line(second(number), &all))
        .collect();
    assert!(lines.iter().map(String::len).sum::<usize>() > 10 << 20);
    // If the beginning were read, this line would be told.
    lines[0] = "{}".to_owned();
    let path = journal(&lines);
    for (last, code) in [("1", 0), ("20", 0), ("1000", 0), ("6990", 1)] {
        let (rounds, found) = shown(&[&path, "--last", last]);
        let last: u64 = last.parse().unwrap();
        assert_eq!((rounds.len() as u64, found), (last, Some(code)));
        assert_eq!(rounds[0].number, 7_001 - last);
        let sound = |round: &Shown| round.checks && !round.gap && round.reports_missing == 0;
        assert!(rounds.iter().all(sound));
    }
    let (table, code) = history(&[&path]);
    assert_eq!(code, Some(0), "{table}");
    assert!(
        table.starts_with("BTC/USD: the last 20 rounds\n"),
        "{table}"
    );
    assert!(table.contains("\nend of the file, as far as it was read: "));
    // A line in the end that is invalid is named by its place.
    let at: usize = lines[..6_990].iter().map(|line| line.len() + 1).sum();
    lines[6_990] = "{}".to_owned();
    let (table, code) = history(&[&journal(&lines)]);
    assert_eq!(code, Some(1), "{table}");
    let place = format!("1 line is invalid, the first: the line at byte {at}: ");
    assert!(table.contains(&place), "{table}");
    // Standard input is read from its beginning.
    let mut piped = rsoracle();
    piped.args(["history", "-", "--last", "1"]);
    piped.stdin(fs::File::open(&path).unwrap());
    let done = start_command(piped).finish();
    assert!(
        done.stdout.contains("the last 1 of 6999 rounds"),
        "{}",
        done.stdout
    );
    assert_eq!(done.code, Some(1));
}

#[test]
fn the_age_of_each_slot_and_of_a_quorum_is_in_the_json() {
    let mut oracle = Oracle::new(5, "kraken:BTC/USD");
    let ages = [Some(300), Some(200), None, Some(900_000_000), Some(100)];
    let report = oracle.report_aged(second(1), &ages);
    let (rounds, code) = shown(&[&journal(&[report.line()])]);
    assert_eq!((code, rounds[0].age_us), (Some(0), Some(300)));
    let given = rounds[0].given.iter();
    assert_eq!(given.map(|given| given.age_us).collect::<Vec<_>>(), ages);
}
