//! The command line: invalid arguments are refused with a clear message, help and version are printed, and a port that is in
//! use ends the run before it begins.

mod support;
mod witness;

use rsoracle::cli::{rotate, run, verify};
use rsoracle::doctor::DoctorSettings as Doctor;
use rsoracle::embedded::ExchangeSettings;
use rsoracle::flags::args;
use rsoracle::flags::tables::COMMANDS;
use rsoracle::history;
use rsoracle::relay::RelaySettings;
use rsoracle::roster::settings::RosterSettings as Roster;
use rsoracle::serve::ServeSettings;
use std::ffi::OsStr;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use support::*;
use witness::*;

/// A command line, and what the message that refuses it must contain.
const REFUSED: &[(&str, &[&str])] = &[
    ("", &["which command", "rsoracle help"]),
    ("price", &["unknown command 'price'", "rsoracle help"]),
    ("help price", &["unknown command 'price'"]),
    ("run --samples 0", &["--samples \"0\"", "from 1 to 1000"]),
    (
        "run --samples ten",
        &["--samples \"ten\"", "from 1 to 1000"],
    ),
    ("run --samples -1", &["--samples \"-1\"", "from 1 to 1000"]),
    ("run --samples", &["--samples lacks its value"]),
    ("run --samples 1 --samples 2", &["--samples is given twice"]),
    (
        "run --collectors 0",
        &["--collectors \"0\"", "from 1 to 4096"],
    ),
    (
        "run --control-port 65536",
        &["--control-port \"65536\"", "65535"],
    ),
    ("run --data-port 65536", &["--data-port \"65536\"", "65535"]),
    (
        "run --control-port 9000 --data-port 9000",
        &["--control-port", "--data-port", "both 9000"],
    ),
    (
        "run --data-port 8000",
        &["--control-port", "--data-port", "both 8000"],
    ),
    ("run --sample 3", &["unknown flag --sample", "help run"]),
    ("run now", &["'now' is not a flag"]),
    ("run --json=yes", &["--json takes no value"]),
    (
        "run --interval 1",
        &["--interval \"1\"", "with a unit", "250ms"],
    ),
    (
        "run --interval 1ms",
        &["--interval \"1ms\"", "from 20ms to 1h"],
    ),
    (
        "run --ready-timeout 10",
        &["--ready-timeout \"10\"", "with a unit"],
    ),
    (
        "run --samples 1000 --interval 1h",
        &["--samples", "--interval", "24h"],
    ),
    ("run --rule average", &["--rule \"average\"", "median"]),
    (
        "run --source BTCUSDC",
        &["--source \"BTCUSDC\"", "binance:BTCUSDC"],
    ),
    (
        "run --source kraken:XBT",
        &["--source \"kraken:XBT\"", "kraken:BTC/USD"],
    ),
    (
        "run --source kraken,binanze",
        &["--source \"binanze\"", "bitfinex"],
    ),
    (
        "run --source kraken,",
        &["--source \"\"", "EXCHANGE:SYMBOL"],
    ),
    (
        "run --source okx",
        &[
            "okx:BTC-USDT",
            "USDT",
            "BTC/USD in USD",
            "--accept-quote USDT",
        ],
    ),
    (
        "run --source kraken:ETH/USD",
        &["kraken:ETH/USD", "BTC in USD", "--feed"],
    ),
    (
        "run --source kraken --feed gold",
        &["--source \"kraken\"", "kraken:BTC/USD", "gold"],
    ),
    (
        "run --feed BTC/EUR",
        &[
            "binance:BTCUSDC is priced in USDC, --feed BTC/EUR in EUR; binance alone means its market in USDC; name the market in EUR: --source binance:BTCEUR",
        ],
    ),
    (
        "run --feed ETH/BTC --source embedded-kraken --samples 1",
        &[
            "embedded-kraken:ETH/USD is priced in USD, --feed ETH/BTC in BTC",
            "name the market in BTC: --source embedded-kraken:ETH/BTC",
        ],
    ),
    (
        "run --feed ETH/BTC --source embedded-kraken --samples 1 --accept-quote USD",
        &[
            "--accept-quote USD would take prices in USD as if they were in BTC",
            "USD is not pegged to BTC",
        ],
    ),
    (
        "run --feed BTC/EUR --accept-quote USDC",
        &["USDC is not pegged to EUR"],
    ),
    (
        "run --source kraken:BTC/CHF --accept-quote CHF",
        &["CHF is not pegged to USD"],
    ),
    (
        "run --feed btc/usd --source kraken",
        &["--feed btc/usd: write currencies in capitals, BTC/USD"],
    ),
    (
        "run --feed btc/usd --source kraken:BTC/USD",
        &["--feed btc/usd: write currencies in capitals, BTC/USD"],
    ),
    (
        "doctor kraken --feed btc/usd",
        &["--feed btc/usd: write currencies in capitals, BTC/USD"],
    ),
    (
        "roster new btc/usd",
        &["feed btc/usd: write currencies in capitals, BTC/USD"],
    ),
    (
        "run --source embedded:BTCUSDT --feed XYZ/USD",
        &["embedded:BTCUSDT does not price XYZ in USD"],
    ),
    (
        "run --source embedded-kraken:BTC/EUR",
        &[
            "embedded-kraken:BTC/EUR is priced in EUR, --feed BTC/USD in USD; name the market in USD: --source embedded-kraken:BTC/USD",
        ],
    ),
    (
        "run --sources embedded-diverse --feed BTC/USD,XMR/USD",
        &[
            "embedded-coinbase:XMR-USD has no recorded prices",
            "ETH, XRP",
        ],
    ),
    (
        "run --source embedded:BTCUSD",
        &["embedded:BTCUSD has no recorded prices", "Binance's API"],
    ),
    (
        "run --feed BTC/USD,ETH/USD --feed BTC/USD",
        &["--feed names BTC/USD twice"],
    ),
    (
        "run --feed BTC/USD,,ETH/USD",
        &["--feed \"\"", "such as BTC/USD"],
    ),
    (
        "run --feed BTC/USD,gold --source kraken",
        &["--feed gold names no currencies", "roster file"],
    ),
    (
        "run --feed BTC/USD,ETH/USD --source coinbase,kraken:BTC/USD",
        &[
            "--source kraken:BTC/USD is one market, but there are 2 feeds",
            "the kind alone ('kraken')",
            "roster file",
        ],
    ),
    (
        "run --feed BTC/USD,BTC/USDC --source kraken --accept-quote USD",
        &["BTC/USD and BTC/USDC would both be prices of kraken:BTC/USD"],
    ),
    (
        "run --feed ETH/USD,BTC/EUR --sources diverse",
        &[
            "coinbase:BTC-USD is priced in USD, --feed BTC/EUR in EUR",
            "only a roster file can name the market of each",
        ],
    ),
    (
        "run --feed BTC/USD,ETH/USD --source okx",
        &["BTC/USD in USD", "--accept-quote USDT"],
    ),
    (
        "run --feed BTC/USD,ETH/USD --sources diverse --collectors 2049",
        &["2049 collectors of 2 feeds each are 4098", "4096"],
    ),
    (
        "run --feed A/USD,a/USD --source kraken",
        &["--feed a/USD: write currencies in capitals, A/USD"],
    ),
    (
        "run --source kraken --sources diverse",
        &["--source and --sources"],
    ),
    ("run --sources all", &["--sources \"all\"", "diverse"]),
    (
        "run --sources diverse --collectors 6",
        &["9 sources", "6 collectors", "--collectors"],
    ),
    (
        "run --source embedded:BTCUSDT --feed gold --accept-quote USDC",
        &["--accept-quote goes with a feed", "gold"],
    ),
    (
        "run --accept-quote usdc",
        &["--accept-quote \"usdc\"", "USDC,USDT"],
    ),
    (
        "run --min-exchanges 2",
        &["--min-exchanges 2", "1 exchange"],
    ),
    (
        "run --sources diverse --min-exchanges 10",
        &["--min-exchanges 10", "9 exchanges"],
    ),
    (
        "run --every 1s --samples 6 --interval 100ms --source binance,binance-book --feed BTC/USD,ETH/USD --accept-quote USDC",
        &[
            "binance: ",
            "requests a minute",
            "6000 a minute",
            "a longer period",
        ],
    ),
    (
        "run --max-age 1ms",
        &["--max-age \"1ms\"", "from 10ms to 24h"],
    ),
    ("run --config=", &["--config \"\"", "a path"]),
    (
        "run --bind localhost",
        &["--bind \"localhost\"", "127.0.0.1"],
    ),
    (
        "run --endpoint ws://127.0.0.1:1/ws-api/v3",
        &["--endpoint", "'embedded:' source", "binance:BTCUSDC"],
    ),
    (
        "run --source embedded:BTCUSDT --endpoint http://localhost",
        &["--endpoint \"http://localhost\"", "wss://"],
    ),
    (
        "run --max-spread 0.00001%",
        &["--max-spread \"0.00001%\"", "at most four decimals"],
    ),
    ("run --remote 1", &["unknown flag --remote", "help run"]),
    ("run --roster x", &["unknown flag --roster", "help run"]),
    ("aggregate", &["--roster is missing"]),
    (
        "aggregate --roster /nonexistent",
        &["cannot use the roster /nonexistent", "--write-roster"],
    ),
    (
        "aggregate --roster /dev/null",
        &["cannot use the roster /dev/null", "--write-roster"],
    ),
    (
        "aggregate --check --roster /dev/null",
        &["cannot use the roster /dev/null"],
    ),
    ("aggregate --every 10s", &["unknown flag --every"]),
    (
        "collect",
        &[
            "--roster FILE",
            "--key FILE",
            "--aggregator HOST@KEY",
            "--tether",
        ],
    ),
    (
        "collect --tether --roster x",
        &["--roster FILE", "--tether"],
    ),
    (
        "collect --tether --aggregator x",
        &["--aggregator does not go with --tether"],
    ),
    (
        "collect --tether --state x",
        &["--state does not go with --tether"],
    ),
    (
        "collect --roster x --slot 0",
        &["--slot does not go with --roster"],
    ),
    ("collect --roster x", &["--key is missing"]),
    ("collect --roster x --key y", &["--aggregator is missing"]),
    (
        "collect --roster src/proof/example.toml --key y --aggregator oracle.example:8000,8080",
        &["--aggregator \"oracle.example:8000,8080\"", "HOST@KEY"],
    ),
    (
        "collect --tether --slot 0 --source embedded:BTCUSDT --control 8000 --endpoint ws://127.0.0.1:1/",
        &["--control \"8000\"", "127.0.0.1:8000"],
    ),
    (
        "collect --tether --slot 0 --source embedded:BTCUSDT",
        &["--endpoint"],
    ),
    (
        "collect --tether --check",
        &["--check does not go with --tether"],
    ),
    (
        "roster sit",
        &["'sit'", "new, seat, assemble, change, endorse, check, show"],
    ),
    ("roster new", &["FEED… is missing"]),
    (
        "roster new BTC/USD --every 5s",
        &["10 samples, 1s apart", "a period of 5s"],
    ),
    ("roster seat --key x", &["--source is missing"]),
    ("roster assemble draft", &["SEAT…"]),
    (
        "roster show x --key y",
        &["--key does not go with 'roster show'"],
    ),
    ("keygen", &["FILE is missing", "rsoracle keygen FILE"]),
    ("keygen a b", &["'b' is one too many", "one FILE"]),
    ("keygen -f", &["'-f' is not a flag", "help keygen"]),
    ("keygen --force a", &["unknown flag --force", "help keygen"]),
    ("keys", &["FILE… is missing", "rsoracle keys FILE…"]),
    (
        "roster",
        &[
            "which action?",
            "new, seat, assemble, change, endorse, check, show",
            "'rsoracle help roster'",
        ],
    ),
    ("serve", &["--journal is missing: --journal FILE"]),
    ("serve --journal", &["--journal lacks its value"]),
    (
        "serve --journal x --listen 8090",
        &["--listen \"8090\"", "127.0.0.1:8000"],
    ),
    ("serve --journal x --key k", &["--key needs --cert FILE"]),
    ("serve --journal x --cert c", &["--cert needs --key FILE"]),
    ("serve --journal x --per-address 0", &["from 1 to 8192"]),
    ("relay", &["--journal is missing: --journal FILE"]),
    (
        "relay --journal x --nats nats://user:secret@h",
        &["--nats", "nats://HOST:PORT"],
    ),
    (
        "relay --journal x --nats nats://h/S",
        &["--stream names the stream"],
    ),
    (
        "relay --journal x --nats tls://a,nats://b",
        &["--nats", "tls:// for all servers"],
    ),
    (
        "relay --journal x --stream a.b",
        &["--stream \"a.b\"", "letters, digits"],
    ),
    (
        "relay --journal x --creds a --nkey b",
        &["--creds and --nkey exclude each other"],
    ),
    ("relay --journal x --replicas 6", &["from 1 to 5"]),
    ("relay --journal x --max-age 1s", &["from 1m to"]),
    ("history", &["FILE… is missing", "rsoracle history FILE…"]),
    ("history - -", &["'-' is given twice"]),
    ("history a --feed \"BTC", &["--feed", "such as BTC/USD"]),
    ("history a --last 0", &["--last \"0\"", "from 1 to 10000"]),
    (
        "history a --last 10001",
        &["--last \"10001\"", "from 1 to 10000"],
    ),
    (
        "run --aggregator-key",
        &["--aggregator-key lacks its value"],
    ),
    (
        "run --collector-keys=",
        &["--collector-keys \"\"", "a path"],
    ),
    ("exchange --listen 127.0.0.1:65536", &["--listen", "65535"]),
    (
        "doctor krakn",
        &["\"krakn\" is not a source", "binance-stream"],
    ),
    ("doctor kraken --feed gold", &["a symbol too", "gold"]),
    (
        "doctor kraken --endpoint ws://127.0.0.1:1/",
        &["'embedded:' source", "kraken:BTC/USD"],
    ),
    (
        "doctor --proxy https://user:hidden@h:1",
        &["--proxy is not valid", "begins with http://"],
    ),
    (
        "exchange --clock-offset +3s",
        &["--clock-offset \"+3s\"", "with a unit"],
    ),
    ("exchange --fault dorp", &["--fault \"dorp\"", "drop"]),
    ("exchange --cert cert.pem", &["--key FILE"]),
];

#[test]
fn what_makes_no_sense_is_refused_with_a_sentence_that_names_it() {
    for (line, names) in REFUSED {
        let words: Vec<&str> = line.split_whitespace().collect();
        let done = run(&words);
        let sentence = done.stderr.as_str();
        assert_eq!(
            (done.code, done.stdout.as_str()),
            (Some(2), ""),
            "{line}: {sentence}"
        );
        assert_eq!(sentence.lines().count(), 1, "{line}: {sentence}");
        assert!(sentence.starts_with("rsoracle: "), "{sentence}");
        for name in *names {
            assert!(
                sentence.contains(name),
                "{line}: {name:?} is not in {sentence}"
            );
        }
    }
}

#[test]
fn a_roster_has_at_most_64_feeds() {
    let names: Vec<String> = (0..65).map(|feed| format!("X{feed}/USD")).collect();
    let check = |count: usize| {
        let feeds = names[..count].join(",");
        run(&["run", "--check", "--feed", &feeds, "--source", "kraken"])
    };
    let (most, more) = (check(64), check(65));
    assert_eq!(most.code, Some(0), "{}", most.stderr);
    assert_eq!(more.code, Some(2), "{}", more.stderr);
    let says = "--feed names 65 feeds; a roster has at most 64\n";
    assert!(more.stderr.ends_with(says), "{}", more.stderr);
    // What an exchange serves over one connection limits it too.
    let feeds = names[..26].join(",");
    let many = run(&["run", "--check", "--feed", &feeds, "--sources", "diverse"]);
    assert_eq!(many.code, Some(2), "{}", many.stderr);
    assert!(
        many.stderr.contains("bitfinex: 26 symbols"),
        "{}",
        many.stderr
    );
}

#[test]
fn no_more_requests_are_counted_than_all_rounds_make() {
    let plan = "run --check --feed BTC/USD --source binance:BTCUSDC --accept-quote USDC --collectors 10 --samples 40 --interval 50ms --every 3s";
    let plan: Vec<&str> = plan.split(' ').collect();
    for (rounds, code) in [(None, 2), (Some("7"), 0), (Some("8"), 2)] {
        let more = rounds.map_or(vec![], |rounds| vec!["--rounds", rounds]);
        let done = run(&[&plan[..], &more].concat());
        assert_eq!(done.code, Some(code), "{rounds:?}: {}", done.stderr);
        let says = done.stderr.contains("requests a minute");
        assert_eq!(says, code == 2, "{}", done.stderr);
    }
}

#[test]
fn an_argument_that_is_no_text_is_refused() {
    let mut command = rsoracle();
    command.arg("run").arg(OsStr::from_bytes(b"--feed=\xff"));
    let done = start_command(command).finish();
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.contains("UTF-8"), "{}", done.stderr);
}

fn answered(args: &[&str]) -> String {
    let done = run(args);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{args:?}");
    done.stdout
}

#[test]
fn help_shows_every_flag_of_run_with_its_default() {
    // A line that continues another one is indented further than a flag.
    let page = answered(&["help", "run"]).replace("\n      ", " ");
    for (flag, default) in [
        ("--collectors N ", "5"),
        ("--samples N ", "10"),
        ("--interval DURATION ", "1s"),
        ("--config FILE ", ""),
        ("--check ", ""),
        ("--source EXCHANGE:SYMBOL ", "binance"),
        ("--sources ROSTER ", ""),
        ("--accept-quote CURRENCY ", ""),
        ("--min-exchanges N ", "1"),
        ("--max-age DURATION ", ""),
        ("--max-silence DURATION ", ""),
        ("--ping-every DURATION ", ""),
        ("--feed NAME ", "BTC/USD"),
        ("--rule RULE ", "trimmed-mean"),
        ("--sample-rule RULE ", "mean"),
        ("--control-port PORT ", "8000"),
        ("--data-port PORT ", "8080"),
        ("--bind ADDRESS ", "127.0.0.1"),
        ("--ca-file FILE ", ""),
        ("--proxy URL ", ""),
        ("--ready-timeout DURATION ", "10s"),
        ("--connection-age DURATION ", "23h"),
        ("--aggregator-key FILE ", ""),
        ("--collector-keys DIR ", ""),
        ("--write-roster FILE ", ""),
        ("--every DURATION ", ""),
        ("--rounds N ", ""),
        ("--deviation PERCENT ", ""),
        ("--heartbeat DURATION ", ""),
        ("--max-move PERCENT ", ""),
        ("--max-spread PERCENT ", ""),
        ("--journal FILE ", ""),
        ("--serve [ADDRESS:PORT]", ""),
        ("--retire-key FILE ", ""),
        ("--latest FILE ", ""),
        ("--json ", ""),
        ("--quiet ", ""),
    ] {
        let line = page
            .lines()
            .find(|line| line.trim_start().starts_with(flag));
        let line = line.unwrap_or_else(|| panic!("no {flag} in {page}"));
        let shown = format!("[default: {default}]");
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(line.ends_with(&shown), !default.is_empty(), "{line}");
    }
}

#[test]
fn help_is_no_wider_than_a_terminal_and_names_each_flag_of_run_in_one_group() {
    for command in COMMANDS {
        let page = answered(&["help", command.name]);
        for line in page.lines().filter(|line| !line.contains(command.example)) {
            assert!(line.chars().count() <= 80, "{line:?}");
        }
        let narrow = args::help(command, 40);
        for line in narrow
            .lines()
            .filter(|line| !line.contains(command.example))
        {
            // Only a single word may be wider.
            let words = line.split_whitespace().count();
            assert!(line.chars().count() <= 40 || words <= 3, "{line:?}");
        }
    }
    for line in answered(&["help"]).lines() {
        assert!(line.chars().count() <= 80, "{line:?}");
    }
    let run = COMMANDS[0];
    let mut grouped: Vec<&str> = run
        .groups
        .iter()
        .flat_map(|(_, names)| names.split(' '))
        .collect();
    let mut flags: Vec<&str> = run.flags.iter().map(|flag| flag.name).collect();
    grouped.sort_unstable();
    flags.sort_unstable();
    assert_eq!(grouped, flags);
    let page = answered(&["help", "run"]);
    assert!(page.contains("\nPrices:\n  --feed NAME ") && !page.contains("\nFlags:\n"));
}

#[test]
fn help_of_each_command_has_all_its_flags_and_an_example_that_is_accepted() {
    let list = answered(&["help"]);
    let names = [
        "run",
        "serve",
        "follow",
        "relay",
        "verify",
        "history",
        "journal",
        "doctor",
        "collect",
        "aggregate",
        "roster",
        "exchange",
        "keygen",
        "keys",
        "resolve",
        "manual",
    ];
    assert_eq!(COMMANDS.map(|command| command.name), names);
    for name in names {
        assert!(list.contains(&format!("rsoracle {name} ")), "{list}");
        let page = answered(&["help", name]);
        assert_eq!(answered(&[name, "--help"]), page);
        assert_eq!(answered(&[name, "--samples", "0", "-h"]), page);
        let command = COMMANDS
            .iter()
            .find(|command| command.name == name)
            .unwrap();
        for flag in command.flags {
            let shown = format!("  --{} {}", flag.name, flag.value);
            assert!(page.contains(shown.trim_end()), "{shown} in {page}");
        }
        let (_, example) = page
            .split_once("\nExample:\n  rsoracle ")
            .expect("an example");
        let typed = example.split('<').next().unwrap();
        let words: Vec<String> = typed
            .split_whitespace()
            .skip(1)
            .map(str::to_owned)
            .collect();
        let given = args::parse(command, &words).expect("the example is accepted");
        match name {
            "run" => drop(run::read(&given).expect("the example makes sense")),
            // Their examples stand for files and a key that are the reader's own.
            "collect" | "aggregate" | "follow" => assert!(given.has("roster")),
            "verify" => drop(verify::read(&given).expect("the example makes sense")),
            "history" => {
                drop(history::HistorySettings::from_flags(&given).expect("the example makes sense"))
            }
            "relay" => drop(RelaySettings::from_flags(&given).expect("the example makes sense")),
            "serve" => drop(ServeSettings::from_flags(&given).expect("the example makes sense")),
            "doctor" => drop(Doctor::from_flags(&given).expect("the example makes sense")),
            "roster" => drop(Roster::from_flags(&given, 0).expect("the example makes sense")),
            "journal" => drop(rotate::read(&given).expect("the example makes sense")),
            "keygen" | "keys" | "resolve" | "manual" => assert!(!given.operands().is_empty()),
            _ => drop(ExchangeSettings::from_flags(&given).expect("the example makes sense")),
        }
    }
    for all in [&["--help"], &["-h"]] {
        assert_eq!(answered(all), list);
    }
}

#[test]
fn the_version_is_told() {
    let said = answered(&["--version"]);
    assert_eq!(answered(&["-V"]), said);
    let begin = concat!("rsoracle ", env!("CARGO_PKG_VERSION"), " (");
    let inside = said
        .strip_prefix(begin)
        .and_then(|rest| rest.strip_suffix(")\n"));
    let (commit, target) = inside
        .and_then(|inside| inside.split_once(", "))
        .expect(&said);
    assert!(!commit.is_empty(), "{said}");
    let targets = ["gnu", "musl"].map(|libc| format!("{}-linux-{libc}", std::env::consts::ARCH));
    assert!(targets.iter().any(|one| one == target), "{said}");
}

#[test]
fn a_port_that_is_taken_ends_the_run_at_once_and_leaves_no_child() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (channel, flag) in [("control", "--control-port"), ("data", "--data-port")] {
        let patience = [
            "--source",
            "embedded:BTCUSDT",
            "--ready-timeout",
            "1h",
            flag,
            &port,
        ];
        let (command, mark) = marked_run(&patience);
        let done = start_command(command).finish();
        assert_eq!(
            (done.code, done.stdout.as_str()),
            (Some(1), ""),
            "{}",
            done.stderr
        );
        for part in [
            &format!("port {port} "),
            &format!("{channel} channel"),
            flag,
        ] {
            assert!(done.stderr.contains(part), "{part:?} in {}", done.stderr);
        }
        assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
        assert_eq!(bearers(&mark), [], "nobody is left");
    }
}

#[test]
fn what_prevents_a_start_is_blamed_and_nothing_else_and_no_file_is_made() {
    let folder = scratch("here");
    std::fs::create_dir(&folder).unwrap();
    for (args, cause, advice) in [
        (
            ["--bind", "203.0.113.1"],
            "Cannot assign requested address",
            "--bind takes an address of this machine",
        ),
        (
            ["--journal", "."],
            "cannot open the journal .: it is not a regular file",
            "name a file with --journal",
        ),
        (
            ["--journal", "/dev/null"],
            "cannot open the journal /dev/null: it is not a regular file",
            "name a file with --journal",
        ),
    ] {
        let (mut command, _) = marked_run(&["--source", "embedded:BTCUSDT"]);
        command.args(args).current_dir(&folder);
        let done = start_command(command).finish();
        assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""));
        assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
        for part in [cause, advice] {
            assert!(done.stderr.contains(part), "{part:?} in {}", done.stderr);
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    }
    assert!(!std::path::Path::new("/dev/null.key").exists());
}

/// A value of a hundred thousand characters is not repeated whole, wherever it stands; what is wrong and what to do still is.
#[test]
fn messages_are_bounded_however_long_the_values_are() {
    let long = "a".repeat(100_000);
    let folder = scratch("here");
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("oracle.toml");
    let assert_short = |done: &Finished, part: &str| {
        assert!(!matches!(done.code, None | Some(0)), "{}", done.stdout);
        for line in done.stderr.lines().chain(done.stdout.lines()) {
            // A value that makes no sense is shown with 120 characters; other lines have as much of it as fits.
            let is_brief = line.contains(" is not valid; ") || line.contains(" is not a source; ");
            let most = if is_brief { 1_000 } else { 4_000 };
            let length = line.len();
            assert!(length < most, "{length}: {}", &line[..400]);
        }
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    };
    for (text, part) in [
        ("interval = \"LONG\"", "expected a whole number with a unit"),
        ("sources = \"LONG\"", "expected diverse or"),
        ("sources = [\"LONG\"]", "expected EXCHANGE:SYMBOL"),
        ("accept_quote = [\"LONG\"]", "expected currencies"),
        ("feed = \"LONG\"", "key 'feed'"),
        ("rule = \"LONG\"", "expected trimmed-mean"),
        ("bind = \"LONG\"", "expected an IP address"),
        ("max_move = \"LONG\"", "expected a percentage"),
        ("proxy = \"LONG\"", "expected http://"),
        ("endpoint = \"LONG\"", "expected a websocket address"),
        ("samples = LONG", "not a valid value"),
        ("LONG = 1", "known: collectors"),
        ("[LONG]", "sections are [source.KIND]"),
        ("[source.kraken]\nLONG = 1", "known: max_age"),
        ("[LONG", "a section is written"),
        ("journal = \"LONG\"", "File name too long"),
        ("latest = \"LONG\"", "File name too long"),
        ("write_roster = \"LONG\"", "File name too long"),
        ("collector_keys = \"LONG\"", "File name too long"),
        ("aggregator_key = \"LONG\"", "File name too long"),
        ("ca_file = \"LONG\"", "File name too long"),
    ] {
        let source = match text.contains("source") {
            true => "",
            false => "sources = [\"embedded:BTCUSDT\"]\n",
        };
        std::fs::write(&file, format!("{source}{}\n", text.replace("LONG", &long))).unwrap();
        let (mut command, _) = marked_run(&["--config", file.to_str().unwrap()]);
        command.current_dir(&folder);
        assert_short(&start_command(command).finish(), part);
    }
    for (line, part) in [
        ("LONG", "'rsoracle help' lists"),
        ("help LONG", "'rsoracle help' lists"),
        ("run --LONG", "'rsoracle help run' lists"),
        ("run LONG", "flags of 'run' begin with --"),
        ("run --config LONG", "File name too long"),
        ("run --source LONG", "expected EXCHANGE:SYMBOL"),
        ("run --collectors LONG", "expected a whole number"),
        ("verify LONG", "File name too long"),
        ("verify --roster LONG x", "File name too long"),
        ("verify --head LONG x", "expected the 128"),
        ("verify --max-age LONG x", "with a unit"),
        ("history LONG", "File name too long"),
        ("keys LONG", "File name too long"),
        ("keygen LONG", "File name too long"),
        ("keygen x LONG", "takes one FILE"),
        ("aggregate --roster LONG", "File name too long"),
        (
            concat!(
                "collect --key y --aggregator LONG --roster ",
                env!("CARGO_MANIFEST_DIR"),
                "/src/proof/example.toml"
            ),
            "expected HOST@KEY",
        ),
        ("doctor LONG", "is not a source"),
        ("manual /dev/null/LONG", "name a directory"),
        ("exchange --tape LONG", "File name too long"),
        ("exchange --fault LONG", "--fault"),
        ("exchange --listen LONG", "--listen"),
    ] {
        let line = line.replace("LONG", &long);
        let mut command = rsoracle();
        command.args(line.split(' ')).current_dir(&folder);
        assert_short(&start_command(command).finish(), part);
    }
    for name in ["SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY"] {
        let mut command = rsoracle();
        command.args(["run", "--source", "kraken"]).env(name, &long);
        assert_short(&start_command(command).finish(), name);
    }
}

#[test]
fn a_file_of_certificates_that_is_none_is_refused_by_name_before_anything_starts() {
    for (file, cause) in [
        ("/dev/zero", "it is larger than"),
        ("/nonexistent.pem", "No such file"),
        (
            concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"),
            "no certificate in it",
        ),
    ] {
        let done = run(&[
            "run",
            "--source",
            "embedded:BTCUSDT",
            "--ca-file",
            file,
            "--control-port",
            "0",
            "--data-port",
            "0",
        ]);
        assert_eq!(
            (done.code, done.stdout.as_str()),
            (Some(1), ""),
            "{}",
            done.stderr
        );
        let named = done.stderr.contains(&format!("--ca-file {file}: {cause}"));
        assert!(
            named && done.stderr.contains("in PEM form"),
            "{}",
            done.stderr
        );
        assert_eq!(
            done.stderr.lines().count(),
            1,
            "nothing was started: {}",
            done.stderr
        );
    }
}
