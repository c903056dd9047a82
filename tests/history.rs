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
    feed: String,
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

/// One oracle for each of three feeds, with one aggregator's key.
fn three(aggregator: u8) -> [Oracle; 3] {
    ["BTC/USD", "ETH/USD", "SOL/USD"].map(|feed| {
        let mut oracle = Oracle::new(5, "binance:BTCUSDC");
        feed.clone_into(&mut oracle.terms.feed);
        oracle.aggregator = aggregator;
        oracle
    })
}

/// A round of all three, one line each. The third has no price.
fn round_of(oracles: &mut [Oracle; 3], number: u64, price: f64) -> Vec<String> {
    let [one, two, three] = oracles;
    let few = [Price(price), Nothing, Nothing, Nothing, Nothing];
    vec![
        one.line(second(number), &[Price(price); 5]),
        two.line(second(number), &[Price(price / 10.0); 5]),
        three.line(second(number), &few),
    ]
}

#[test]
fn each_feed_of_a_file_has_a_page_of_its_own() {
    let mut oracles = three(0);
    let rounds = (1..=8).map(|number| round_of(&mut oracles, number, 1000.0 + number as f64));
    let lines: Vec<String> = rounds.flatten().collect();
    let path = journal(&lines);
    let (table, code) = history(&[&path, "--last", "2"]);
    let expected = "\
BTC/USD: the last 2 of 8 rounds
  number  round start (UTC)       price  decision   prices  missing
       7  2023-11-14 22:14:30  1007.000  published     5/5
       8  2023-11-14 22:14:40  1008.000  published     5/5
whole file: 8 rounds, 8 published, 0 without a price; 2023-11-14T22:13:30.000Z
   to 2023-11-14T22:14:40.000Z; lowest 1001.000, highest 1008.000
prices shown, ▁ 1007.000 to █ 1008.000:
  ▁█

ETH/USD: the last 2 of 8 rounds
  number  round start (UTC)       price  decision   prices  missing
       7  2023-11-14 22:14:30  100.7000  published     5/5
       8  2023-11-14 22:14:40  100.8000  published     5/5
whole file: 8 rounds, 8 published, 0 without a price; 2023-11-14T22:13:30.000Z
   to 2023-11-14T22:14:40.000Z; lowest 100.1000, highest 100.8000
prices shown, ▁ 100.7000 to █ 100.8000:
  ▁█

SOL/USD: the last 2 of 8 rounds
  number  round start (UTC)       price  decision   prices  missing
!      7  2023-11-14 22:14:30  no price  no-quorum     1/5
          silent binance 1, binance 2, binance 3, binance 4
!      8  2023-11-14 22:14:40  no price  no-quorum     1/5
          silent binance 1, binance 2, binance 3, binance 4
whole file: 8 rounds, 0 published, 8 without a price; 2023-11-14T22:13:30.000Z
   to 2023-11-14T22:14:40.000Z
";
    assert_eq!((table.as_str(), code), (expected, Some(0)));
    let (only, code) = history(&[&path, "--last", "2", "--feed", "ETH/USD"]);
    let pages: Vec<&str> = expected.split("\n\n").collect();
    assert_eq!((only.trim_end(), code), (pages[1], Some(0)));
    let (both, code) = history(&[&path, "--last", "2", "--feed", "BTC/USD,ETH/USD"]);
    assert_eq!((both, code), (pages[..2].join("\n\n") + "\n", Some(0)));
    let none = history(&[&path, "--feed", "XRP/USD"]);
    assert_eq!(
        none,
        (
            "no rounds of XRP/USD in this file, only of BTC/USD, ETH/USD, SOL/USD\n".to_owned(),
            Some(1)
        )
    );
    let none = run(&["history", &path, "--feed", "XRP/USD", "--json"]);
    assert_eq!((none.code, none.stdout.as_str()), (Some(1), ""));
    assert!(
        none.stderr.contains("only of BTC/USD, ETH"),
        "{}",
        none.stderr
    );
    let (rounds, code) = shown(&[&path, "--last", "2"]);
    let told: Vec<(&str, u64)> = rounds.iter().map(|it| (&*it.feed, it.number)).collect();
    let of = |feed| [(feed, 7), (feed, 8)];
    assert_eq!(told, [of("BTC/USD"), of("ETH/USD"), of("SOL/USD")].concat());
    assert_eq!(code, Some(0));

    // A missing report is missing in its own feed only.
    let mut fewer = lines.clone();
    fewer.remove(19);
    let (table, code) = history(&[&journal(&fewer), "--last", "3"]);
    assert_eq!(code, Some(1), "{table}");
    let gaps = table.matches("\n! report 7 is missing; 20.0 s from start to start\n");
    assert_eq!(gaps.count(), 1, "{table}");
    assert_eq!(table.matches("its line is invalid").count(), 1, "{table}");
    let (_, eth) = table
        .split_once("\nETH/USD: the last 3 of 7 rounds\n")
        .expect(&table);
    assert!(
        eth.split("SOL/USD").next().unwrap().contains("! report 7"),
        "{table}"
    );
}

#[test]
fn a_change_of_keys_is_told_with_its_feed() {
    let mut oracles = three(0);
    let mut lines = round_of(&mut oracles, 1, 100.0);
    let oracle = &mut oracles[1];
    let change = hand_over(
        &oracle.terms.feed,
        &key(0),
        &key(9),
        oracle.previous.unwrap(),
    );
    lines.push(change.line());
    oracle.previous = Some(change.signature());
    oracle.aggregator = 9;
    lines.extend(round_of(&mut oracles, 2, 101.0));
    let (table, code) = history(&[&journal(&lines)]);
    assert_eq!(code, Some(0), "{table}");
    let pages: Vec<&str> = table.split("\n\n").collect();
    let told = "\nchanges of the aggregator's key, each signed by the old key and the new one: 1\n";
    let tells: Vec<bool> = pages.iter().map(|page| page.contains(told)).collect();
    assert_eq!(tells, [false, true, false], "{table}");
}

#[test]
fn a_long_file_of_several_feeds_is_read_from_its_end() {
    let mut oracles = three(0);
    let rounds = (1..=700).map(|number| round_of(&mut oracles, number, 1000.0));
    let mut lines: Vec<String> = rounds.flatten().collect();
    assert!(lines.iter().map(String::len).sum::<usize>() > 2 << 20);
    // If the beginning were read, this line would be told.
    lines[0] = "{}".to_owned();
    let path = journal(&lines);
    for (last, code) in [("1", 0), ("20", 0), ("690", 1)] {
        let (rounds, found) = shown(&[&path, "--last", last]);
        let last: u64 = last.parse().unwrap();
        assert_eq!((rounds.len() as u64, found), (3 * last, Some(code)));
        let firsts = rounds.iter().step_by(last as usize);
        let firsts: Vec<(&str, u64)> = firsts.map(|it| (&*it.feed, it.number)).collect();
        let begin = 701 - last;
        assert_eq!(
            firsts,
            [("BTC/USD", begin), ("ETH/USD", begin), ("SOL/USD", begin)]
        );
        assert!(rounds.iter().all(|it| it.checks && !it.gap));
    }
}

/// A pooled round as `--json` prints it.
#[derive(DeJson, Debug)]
struct Pooled {
    feed: String,
    files: usize,
    round_start_us: u64,
    price: Option<f64>,
    decision: String,
    prices: u16,
    differences: Vec<String>,
}

/// Runs `history --json` with several files. Returns the rounds and the exit code.
fn pooled(args: &[&str]) -> (Vec<Pooled>, Option<i32>) {
    let done = run(&[&["history", "--json"], args].concat());
    let round = |line: &str| {
        assert_eq!(json::check(line), Ok(()), "{line}");
        Pooled::deserialize_json(line).expect("the fields are there")
    };
    (done.stdout.lines().map(round).collect(), done.code)
}

const RISING: [Says; 5] = [
    Price(100.0),
    Price(101.0),
    Price(102.0),
    Price(103.0),
    Price(104.5),
];

/// Two aggregators of one roster, which were told the same.
fn two() -> [Oracle; 2] {
    [20, 21].map(|number| Oracle {
        aggregator: number,
        ..Oracle::new(5, "binance:BTCUSDC")
    })
}

/// A folder in which `history` is run, so that files have short names.
fn pooled_table(files: &[(&str, &[String])], more: &[&str]) -> (String, Option<i32>) {
    let folder = scratch("x").parent().expect("a folder").to_owned();
    let mut command = rsoracle();
    command.arg("history").args(more).current_dir(&folder);
    for (name, lines) in files {
        let whole: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(folder.join(name), whole).unwrap();
        command.arg(name);
    }
    let done = start_command(command).finish();
    assert_eq!(done.stderr, "");
    (done.stdout, done.code)
}

#[test]
fn several_files_are_pooled_and_rounds_in_which_they_differ_stand_out() {
    let [mut a, mut b] = two();
    let mut lines = [Vec::new(), Vec::new()];
    let mut both = |number: u64, [one, other]: [[Says; 5]; 2]| {
        lines[0].push(a.line(second(number), &one));
        lines[1].push(b.line(second(number), &other));
    };
    both(1, [RISING; 2]);
    let hides = [RISING[0], RISING[1], RISING[2], RISING[3], Nothing];
    both(2, [hides, RISING]);
    // Neither has a quorum, and both together have one.
    let (two, others) = (
        [RISING[0], RISING[1], Nothing, Nothing, Nothing],
        [Nothing, Nothing, Nothing, RISING[3], RISING[4]],
    );
    both(3, [two, others]);
    both(4, [two, two]);
    lines[1].push(b.line(second(5), &RISING));
    let files = [("a.jsonl", &lines[0][..]), ("b.jsonl", &lines[1][..])];
    let (table, code) = pooled_table(&files, &[]);
    let expected = "\
BTC/USD, pooled from 2 files: 5 rounds
  files  round start (UTC)       price  decision   prices  remarks
    2/2  2023-11-14 22:13:30  102.0000  pooled        5/5
!   2/2  2023-11-14 22:13:40  102.0000  pooled        5/5
         a.jsonl left out the answers of slot 4; prices: a.jsonl 101.5, b.jsonl
         102, pooled 102
!   2/2  2023-11-14 22:13:50  102.0000  pooled        4/5
         silent binance 2; a.jsonl left out the answers of slots 3, 4; b.jsonl
         left out the answers of slots 0, 1; prices: a.jsonl none, b.jsonl none,
         pooled 102
!   2/2  2023-11-14 22:14:00  no price  no-quorum     2/5
         silent binance 2, binance 3, binance 4
!   1/2  2023-11-14 22:14:10  102.0000  pooled        5/5
         a.jsonl has no report of it
whole files: 5 rounds, differences in 3, 1 without a price;
   2023-11-14T22:13:30.000Z to 2023-11-14T22:14:10.000Z; lowest 102.0000,
   highest 102.0000
prices shown, all 102.0000:
  ▅▅▅ ▅
";
    assert_eq!((table.as_str(), code), (expected, Some(0)));
    let (rounds, code) = pooled(&[&journal(&lines[0]), &journal(&lines[1])]);
    assert_eq!(code, Some(0));
    let told: Vec<(usize, Option<f64>, u16, usize)> = rounds
        .iter()
        .map(|it| (it.files, it.price, it.prices, it.differences.len()))
        .collect();
    let mid = Some(102.0);
    assert_eq!(
        told,
        [
            (2, mid, 5, 0),
            (2, mid, 5, 2),
            (2, mid, 4, 3),
            (2, None, 2, 0),
            (1, mid, 5, 1)
        ]
    );
    assert_eq!(rounds[4].round_start_us, second(5));
    assert_eq!(
        (&*rounds[4].feed, &*rounds[4].decision),
        ("BTC/USD", "pooled")
    );
}

#[test]
fn liars_other_terms_disorder_and_invalid_lines_are_told_of_pooled_files() {
    let [mut a, mut b] = two();
    let mut lied = RISING;
    lied[0] = Price(99.0);
    let few = |first| [first, RISING[1], RISING[2], Nothing, Nothing];
    let mut lines = [
        vec![
            a.line(second(1), &RISING),
            a.line(second(2), &few(RISING[0])),
        ],
        vec![b.line(second(1), &lied), b.line(second(2), &few(lied[0]))],
    ];
    let told = |lines: &[Vec<String>; 2]| {
        let files = [("a.jsonl", &lines[0][..]), ("b.jsonl", &lines[1][..])];
        pooled_table(&files, &[])
    };
    let (table, code) = told(&lines);
    assert_eq!(code, Some(1), "{table}");
    for part in [
        "\n         equivocated binance 0; different answers of slot 0; prices: a.jsonl\n",
        "  101.0000  stands       3/5\n",
        "\nrounds in which a collector gave different answers: 2; 'rsoracle verify a.jsonl b.jsonl' proves it\n",
    ] {
        assert!(table.contains(part), "{part}: {table}");
    }
    // B's third report is forged, its fourth comes too late, and then A has other terms.
    for number in 3..=4 {
        lines[0].push(a.line(second(number), &RISING));
    }
    let three = b
        .line(second(3), &RISING)
        .replacen("\"price\":102,", "\"price\":103,", 1);
    let four = b.line(second(4), &RISING);
    let five = b.line(second(5), &RISING);
    lines[1].extend([three, five, four]);
    a.terms.spread_ppm_max = Some(50_000);
    lines[0].push(a.line(second(5), &RISING));
    let (table, code) = told(&lines);
    assert_eq!(code, Some(1), "{table}");
    for part in [
        "!   1/2  2023-11-14 22:13:50  102.0000  pooled       5/5\n         b.jsonl was not compared\n",
        "!   1/2  2023-11-14 22:14:10  102.0000  pooled       5/5\n         b.jsonl has a report of other terms\n",
        "!   1/2  2023-11-14 22:14:10  102.0000  pooled       5/5\n         a.jsonl has a report of other terms\n",
        "\nb.jsonl: 3 lines are invalid, the first: line 3: ",
        "\nb.jsonl: reports that are there twice or not in order, and are not pooled: 1\n",
    ] {
        assert!(table.contains(part), "{part}: {table}");
    }
}

#[test]
fn a_file_whose_feeds_stand_in_another_order_is_not_compared() {
    let [mut ours, mut theirs] = [three(20), three(21)];
    let round = |oracles: &mut [Oracle; 3]| -> Vec<String> {
        let rounds = (1..=3).map(|number| round_of(oracles, number, 1000.0));
        rounds.flatten().collect()
    };
    let (one, mut other) = (round(&mut ours), round(&mut theirs));
    // The second feed stands behind the first and the third.
    let late: Vec<String> = (0..3).map(|number| other.remove(1 + 2 * number)).collect();
    other.extend(late);
    let files = [("a.jsonl", &one[..]), ("b.jsonl", &other[..])];
    let (table, code) = pooled_table(&files, &[]);
    assert_eq!(code, Some(1), "{table}");
    let told = "!   1/2  2023-11-14 22:13:30  100.0000  pooled       5/5\n         b.jsonl was not compared\n";
    assert!(table.contains(told), "{table}");
    assert!(!table.contains("has no report"), "{table}");
    let told = "\nb.jsonl: reports that are there twice or not in order, and are not pooled: 2\n";
    assert!(table.contains(told), "{table}");
}

#[test]
fn a_feed_that_stands_still_is_shown_with_as_many_rounds_as_the_others() {
    let [mut often, mut seldom, _] = three(0);
    let says = [Price(100.0); 5];
    let mut lines: Vec<String> = (1..=20)
        .map(|number| seldom.line(second(number), &says))
        .collect();
    lines.extend((1..=900).map(|number| often.line(second(number), &says)));
    let newest = format!("{}\n{}\n", lines[19], lines[919]);
    lines.push(seldom.line(second(1000), &says));
    assert!(lines.iter().map(String::len).sum::<usize>() > 1 << 20);
    let count = |lines: &[String], newest: Option<&str>| {
        let path = journal(lines);
        if let Some(newest) = newest {
            fs::write(format!("{path}.newest"), newest).unwrap();
        }
        let (rounds, code) = shown(&[&path, "--last", "5"]);
        assert_eq!(code, Some(0));
        ["BTC/USD", "ETH/USD"].map(|feed| rounds.iter().filter(|it| it.feed == feed).count())
    };
    assert_eq!(count(&lines, None), [5, 5]);
    // A feed that is not at the end at all is known from the file beside the journal.
    lines.pop();
    assert_eq!(count(&lines, None), [5, 0]);
    assert_eq!(count(&lines, Some(&newest)), [5, 5]);
    let path = journal(&lines);
    fs::write(format!("{path}.newest"), "no report\n").unwrap();
    assert_eq!(shown(&[&path, "--last", "5"]).0.len(), 5);
}

#[test]
fn no_more_reports_of_one_start_are_held_than_a_roster_has_feeds() {
    let [mut a, mut b] = two();
    let lines = (1..=70).map(|ppm| {
        a.terms.spread_ppm_max = Some(1_000 * ppm);
        a.line(second(1), &[Price(100.0); 5])
    });
    let lines: Vec<String> = lines.collect();
    let other = [b.line(second(1), &[Price(100.0); 5])];
    let files = [("a.jsonl", &lines[..]), ("b.jsonl", &other[..])];
    let (table, code) = pooled_table(&files, &["--last", "100"]);
    assert_eq!(code, Some(1), "{table}");
    assert!(
        table.starts_with("BTC/USD, pooled from 2 files: 65 rounds\n"),
        "{table}"
    );
    let told = "\na.jsonl: reports that are there twice or not in order, and are not pooled: 6\n";
    assert!(table.contains(told), "{table}");
}

#[test]
fn long_files_are_pooled_from_their_ends_feed_by_feed() {
    let [mut ours, mut theirs] = [three(20), three(21)];
    let mut lines = [Vec::new(), Vec::new()];
    for number in 1..=400 {
        lines[0].extend(round_of(&mut ours, number, 1000.0));
        // The other one's lines are longer, and it was away for a while.
        if !(380..390).contains(&number) {
            lines[1].extend(round_of(&mut theirs, number, 1000.0));
        }
    }
    for lines in &mut lines {
        assert!(lines.iter().map(String::len).sum::<usize>() > 1 << 20);
        // If the beginning were read, this line would be told.
        lines[0] = "{}".to_owned();
    }
    let [a, b] = [journal(&lines[0]), journal(&lines[1])];
    for (last, code) in [("5", 0), ("30", 0), ("399", 1)] {
        let (rounds, found) = pooled(&[&a, &b, "--last", last]);
        let last: usize = last.parse().unwrap();
        assert_eq!((rounds.len(), found), (3 * last, Some(code)));
        for (page, feed) in rounds.chunks(last).zip(["BTC/USD", "ETH/USD", "SOL/USD"]) {
            let starts: Vec<u64> = page.iter().map(|it| it.round_start_us).collect();
            let expected = (401 - last as u64..=400).map(second);
            assert_eq!(starts, expected.collect::<Vec<_>>());
            assert!(page.iter().all(|it| it.feed == feed));
            let away = |it: &&Pooled| it.files == 1 && it.differences.len() == 1;
            let expected = if last > 20 { 10 } else { 0 };
            let first = usize::from(last == 399);
            let gone = page[first..].iter().filter(away).count();
            assert_eq!(gone, expected);
        }
    }
    let (rounds, _) = pooled(&[&a, &b, "--feed", "ETH/USD", "--last", "7"]);
    assert_eq!(rounds.len(), 7);
    assert!(
        rounds
            .iter()
            .all(|it| it.feed == "ETH/USD" && it.price == Some(100.0))
    );
    // Of a pipe, all is read.
    let mut piped = rsoracle();
    piped.args(["history", &a, "-", "--last", "1"]);
    piped.stdin(fs::File::open(&b).unwrap());
    let done = start_command(piped).finish();
    assert!(
        done.stdout.contains("pooled from 2 files: the last 1 of "),
        "{}",
        done.stdout
    );
    assert_eq!(done.code, Some(1));
    let missing = run(&["history", &a, "/nonexistent.jsonl"]);
    assert_eq!((missing.code, missing.stdout.as_str()), (Some(4), ""));
    let name = "x".to_owned();
    let many: Vec<&str> = std::iter::repeat_n(name.as_str(), 33).collect();
    let many = run(&[&["history"], &many[..]].concat());
    assert_eq!(many.code, Some(2));
    assert!(
        many.stderr.contains("33 files are too many"),
        "{}",
        many.stderr
    );
}
