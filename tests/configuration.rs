//! `rsoracle run --config FILE` and `--check`, with the real binary: the example file, invalid files, flags that override the
//! file, and that a check opens, starts and writes nothing.

mod published;
mod support;
mod witness;

use nanoserde::DeJson;
use published::Published;
use rsoracle::cli::file;
use rsoracle::cli::file::quoted;
use rsoracle_proof::toml;
use rsoracle_proof::toml::{Section, Value};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::*;
use witness::*;

fn example() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/oracle.toml")).unwrap()
}

/// The example with every commented key enabled, except that of embedded sources, since it has none.
fn example_in_full() -> String {
    let uncomment = |line: &str| {
        let shown = line.strip_prefix("# ").filter(|rest| {
            let key = rest.split(" = ").next().expect("there is a first");
            file::flags().any(|flag| file::key(flag.name) == key) && key != "endpoint"
        });
        format!("{}\n", shown.unwrap_or(line))
    };
    example().lines().map(uncomment).collect()
}

/// Writes this text to a file.
fn written(text: &str) -> String {
    let path = scratch("oracle.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// What `run --config` prints under `--check`, for a file with this text and these flags.
fn checked(text: &str, typed: &[&str]) -> String {
    let path = written(text);
    let done = run(&[&["run", "--config", &path, "--check"], typed].concat());
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{text}");
    done.stdout
}

fn entry<'a>(sections: &'a [Section], section: &str, key: &str) -> Option<&'a Value> {
    let section = sections.iter().find(|found| found.name == section)?;
    Some(&section.get(key)?.value)
}

#[test]
fn the_example_takes_effect_as_it_says_and_what_a_check_prints_reads_back_as_the_same() {
    for text in [example(), example_in_full()] {
        let page = checked(&text, &[]);
        let (said, effective) = (toml::parse(&text).unwrap(), toml::parse(&page).unwrap());
        for section in &said {
            for said in &section.entries {
                let found = entry(&effective, &section.name, &said.key);
                let found = found.unwrap_or_else(|| panic!("no {} in {page}", said.key));
                if said.key != "sources" {
                    assert_eq!(found, &said.value, "{}", said.key);
                }
            }
        }
        let sources = [
            "coinbase:BTC-USD",
            "kraken:BTC/USD",
            "bitstamp:btcusd",
            "bitfinex:tBTCUSD",
            "gemini:btcusd",
            "crypto.com:BTC_USD",
            "binance-stream:BTCUSDC",
            "okx:BTC-USDT",
            "bybit:BTCUSDT",
        ];
        let sources = Value::List(sources.map(str::to_owned).to_vec());
        assert_eq!(entry(&effective, "", "sources"), Some(&sources));
        assert!(
            page.ends_with("# The roster tolerates 2 faulty collectors of 9, 2 faulty exchanges of 9, 1 faulty quote currency of 2 (USDC, USDT).\n"),
            "{page}"
        );
        assert_eq!(checked(&page, &[]), page);
    }
}

#[test]
fn the_example_shows_every_key() {
    let example = example();
    for flag in file::flags() {
        let key = file::key(flag.name);
        let shows = |line: &str| {
            let line = line.strip_prefix("# ").unwrap_or(line);
            line.starts_with(&format!("{key} = "))
        };
        assert!(example.lines().any(shows), "{key}");
    }
}

#[test]
fn several_feeds_take_effect_and_read_back_as_the_same() {
    let list = "feed = [\"BTC/USD\", \"ETH/USD\", \"SOL/USD\"]\n";
    let page = checked(&format!("{list}sources = \"diverse\"\n"), &[]);
    let kinds = "sources = [\"coinbase\", \"kraken\", \"bitstamp\", \"bitfinex\", \"gemini\", \"crypto.com\", \"binance-stream\", \"okx\", \"bybit\"]\n";
    let survives =
        "\n# The roster of BTC/USD, ETH/USD, SOL/USD tolerates 2 faulty collectors of 9, ";
    for part in [list, kinds, "collectors = 9\n", survives] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert_eq!(checked(&page, &[]), page);
    let typed = ["--feed", "BTC/USD", "--feed", "ETH/USD,SOL/USD"];
    assert_eq!(checked("sources = \"diverse\"\n", &typed), page);
    // What is typed overrides the file's feeds, and one feed is written as it always was.
    let single = checked(&page, &["--feed", "ETH/USD"]);
    assert!(single.contains("\nfeed = \"ETH/USD\"\n"), "{single}");
    assert!(single.contains("\"kraken:ETH/USD\""), "{single}");
    // Feeds that survive other faults are told apart.
    let text = "feed = \"BTC/USDT,ETH/USD\"\nsources = [\"okx\"]\naccept_quote = [\"USDT\"]\n";
    let page = checked(text, &[]);
    for part in [
        "# The roster of BTC/USDT tolerates 1 faulty collector of 5, 0 faulty exchanges of 1.\n",
        "# The roster of ETH/USD tolerates 1 faulty collector of 5, 0 faulty exchanges of 1, 0 faulty quote currencies of 1 (USDT).\n",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    for (text, says) in [
        (
            "\nfeed = [\"BTC/USD\", \"BTC/USD\"]\n",
            "line 2, key 'feed': --feed names BTC/USD twice",
        ),
        ("feed = []\n", "line 1, key 'feed': the list is empty"),
        ("feed = 7\n", "line 1, key 'feed': it takes text"),
        (
            "feed = [\"A.B\", \"A,B\"]\n",
            "line 1, key 'feed': --feed A.B names no currencies",
        ),
        (
            "feed = [\"BTC/USD\", \"ETH/USD\"]\nsources = [\"kraken:BTC/USD\"]\n",
            "line 2, key 'sources': --source kraken:BTC/USD is one market, but there are 2 feeds",
        ),
    ] {
        let done = run(&["run", "--config", &written(text), "--check"]);
        assert_eq!(done.code, Some(2), "{text}");
        assert!(done.stderr.contains(says), "{says}: {}", done.stderr);
    }
}

#[test]
fn a_check_opens_starts_and_writes_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let folder = scratch("here");
    std::fs::create_dir(&folder).unwrap();
    let (mut command, mark) = marked_run(&["--check", "--control-port", &port, "--every", "10s"]);
    command.args(["--source", "embedded:BTCUSDT", "--collectors", "3"]);
    command.args(["--journal", "prices.jsonl", "--latest", "latest.json"]);
    command.args(["--collector-keys", "keys", "--write-roster", "roster.toml"]);
    command.args(["--ca-file", "nowhere.pem"]);
    command.current_dir(&folder);
    let done = start_command(command).finish();
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    assert!(done.stdout.contains("collectors = 3\n"), "{}", done.stdout);
    for warning in [
        "# Warning: exchange embedded holds 3 of 3 slots, and 0 may be faulty: ",
        "# Warning: quote currency USDT holds 3 of 3 slots, and 0 may be faulty: ",
    ] {
        assert!(done.stdout.contains(warning), "{}", done.stdout);
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    assert_eq!(bearers(&mark), []);
}

#[test]
fn a_run_does_what_its_file_says_and_what_is_typed_wins() {
    let path = written(
        "sources = [\"embedded:BTCUSDT\"]\nsamples = 3\ninterval = \"1s\"\ncollectors = 4\nready_timeout = \"2m\"\njson = true\nquiet = true\n[source.embedded]\nmax_age = \"9s\"\n",
    );
    let (command, _) = marked_run(&["--config", &path, "--samples", "2"]);
    let done = start_command(command).finish();
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    let report = Published::deserialize_json(&done.stdout).expect("a report");
    report.checked_price();
    assert_eq!(report.collectors.len(), 4);
    let samples = |slot: &published::Slot| slot.samples.len();
    assert!(
        report
            .collectors
            .iter()
            .map(samples)
            .all(|count| count == 2)
    );
}

#[test]
fn what_makes_no_sense_in_a_file_is_refused_with_file_line_and_key() {
    for (text, sentence) in [
        (
            "samples = 3\n\ninterval = \"1x\"\n",
            "line 3, key 'interval': \"1x\" is not valid; expected a whole number with a unit, such as 250ms, 1s or 2m",
        ),
        (
            "heartbeat = \"1h\"\n",
            "line 1, key 'heartbeat': --heartbeat needs --deviation; without it every round's price is published anyway",
        ),
        (
            "sources = [\"kraken\", \"okx\"]\n",
            "line 1, key 'sources': --source: okx:BTC-USDT is priced in USDT, --feed BTC/USD in USD; to accept USDT for USD, add --accept-quote USDT",
        ),
        (
            "every = \"1s\"\ninterval = \"1s\"\n",
            "line 1, key 'every': --every, --samples and --interval do not go together: 10 samples, 1s apart, do not fit into a period of 1s, which must leave 20ms for answers and its end clear; use fewer samples, a shorter interval or a longer period",
        ),
        (
            "samples = 3\nsamples = 3\n",
            "line 2, key 'samples': set twice before the first section",
        ),
        (
            "\u{feff}samples = 3\n",
            "line 1: a byte order mark; save without it",
        ),
        (
            "samples = yes\n",
            "line 1, key 'samples': not a valid value; valid are text in double quotes, a whole number, true, false and a list of texts",
        ),
    ] {
        let path = written(text);
        let done = run(&["run", "--config", &path]);
        let expected = format!("rsoracle: {path}: {sentence}\n");
        assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""));
        assert_eq!(done.stderr, expected);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_advice() {
    let not_text = scratch("latin.toml");
    std::fs::write(&not_text, b"feed = \"\xe9\"\n").unwrap();
    let wide = scratch("wide.toml");
    std::fs::write(&wide, b"\xff\xfe#\0\n\0").unwrap();
    let folder = not_text.parent().unwrap();
    let missing = folder.join("missing.toml");
    for (path, cause) in [
        (missing.as_path(), "No such file"),
        (folder, "Is a directory"),
        (&not_text, "it is not valid UTF-8"),
        (&wide, "it is UTF-16; save it as UTF-8"),
        (Path::new("/dev/zero"), "it is larger than"),
    ] {
        let path = path.to_str().unwrap();
        let done = run(&["run", "--config", path]);
        let begin = format!("rsoracle: cannot read the configuration {path}: {cause}");
        // Wrong usage, which a supervisor does not try again.
        assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""));
        assert!(done.stderr.starts_with(&begin), "{}", done.stderr);
        assert!(done.stderr.contains("docs/oracle.toml"), "{}", done.stderr);
        assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    }
}

/// Every setting as a line with its path and its value, which is written as Python's json module does.
fn spelled(text: &str) -> Vec<String> {
    let value = |value: &Value| match value {
        Value::Text(text) => quoted(text),
        Value::Whole(number) => number.to_string(),
        Value::Switch(on) => on.to_string(),
        Value::List(texts) => {
            let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
            format!("[{}]", texts.join(", "))
        }
    };
    let mut lines = Vec::new();
    for section in toml::parse(text).unwrap() {
        for entry in section.entries {
            let path = [section.name.as_str(), &entry.key].join(".");
            let path = path.trim_start_matches('.');
            lines.push(format!("{path} {}", value(&entry.value)));
        }
    }
    lines.sort();
    lines
}

/// Compares our reading of TOML with that of an independent reader.
const TOMLLIB: &str = "
import json, sys, tomllib
def tell(path, value):
    if isinstance(value, dict):
        for key in value: tell(path + [key], value[key])
    else: print('.'.join(path), json.dumps(value, ensure_ascii=False))
tell([], tomllib.load(open(sys.argv[1], 'rb')))
";

#[test]
#[ignore = "needs python"]
fn python_reads_the_example_and_what_a_check_prints_to_the_same_values() {
    let python = |script: &str, file: &str| {
        let output = Command::new("python3").args(["-c", script, file]).output();
        let output = output.expect("Python starts");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        output
    };
    let page = checked(&example_in_full(), &[]);
    for text in [example(), example_in_full(), page] {
        let path = PathBuf::from(written(&text));
        let output = python(TOMLLIB, path.to_str().unwrap());
        let said = String::from_utf8(output.stdout).unwrap();
        let mut read: Vec<&str> = said.lines().collect();
        read.sort_unstable();
        assert_eq!(read, spelled(&text));
        assert!(read.len() > 20);
    }
}
