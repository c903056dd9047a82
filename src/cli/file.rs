//! The configuration file of `rsoracle run`: every flag as a key, and back.
//!
//! A key is a flag's name with underscores for dashes. Its value is a whole number if the flag's is, a boolean for a switch,
//! a list of texts for a flag that may be repeated, and text otherwise. A flag whose value may be left out takes a boolean, too.
//! `sources` is the name of a built-in roster or a list of sources, `feed` a feed or a list of feeds. A section `[source.KIND]` overrides timing for one kind of source.
//!
//! Invariant: nothing in a file is ignored, except what the command line overrides. What [`render`] writes reads back as the
//! same configuration, but for what its first lines name.

use super::run::Configuration;
use super::sources::warnings;
use crate::flags::args::{Flag, Given, SourceSection, Usage};
use crate::flags::tables::RUN;
use crate::flags::values::OVERRIDES;
use crate::source::{Source, kinds};
use rsoracle_proof::terms::Roster;
use rsoracle_proof::tolerance::Tolerance;
use rsoracle_proof::toml;
use rsoracle_proof::toml::{Entry, Section, Value, Wrong};
use std::fmt::Write as _;

/// The first lines of a rendered file.
const HEAD: &str = "\
# The configuration of this run as it takes effect. Reading this file back gives the same configuration, with two exceptions:
# - Its ports are fixed. Without control_port, data_port and bind, a run takes a free port instead of one that is in use.
# - The user and password of a proxy are left out.
";

/// Flags that are not keys: two are about the file itself, and sources are under `sources`.
const NO_KEYS: [&str; 3] = ["config", "check", "source"];

/// The flags of `run` that are keys of a file, in the order of its help.
pub fn flags() -> impl Iterator<Item = &'static Flag> {
    let in_files = |flag: &&Flag| !NO_KEYS.contains(&flag.name);
    RUN.flags.iter().filter(in_files)
}

/// A flag's key.
pub fn key(flag: &str) -> String {
    flag.replace('-', "_")
}

/// Adds the values of a file to those of the command line, which override them. `name` is the file's name in errors.
pub fn read(given: &mut Given, name: &str, text: &str) -> Result<(), Usage> {
    let refuse = |wrong: Wrong| Usage(format!("{name}: {wrong}"));
    let sections = toml::parse(text).map_err(refuse)?;
    let (top, rest) = sections
        .split_first()
        .expect("the first section always exists");
    let all: Vec<&Flag> = flags().collect();
    take(given, top, &all, name).map_err(refuse)?;
    let limits: Vec<&Flag> = flags()
        .filter(|flag| OVERRIDES.contains(&flag.name))
        .collect();
    for section in rest {
        let kind = section.name.strip_prefix("source.");
        let Some(kind) = kind.filter(|kind| Source::kind_of(kind).is_some()) else {
            let right = format!(
                "section [{}]; sections are [source.KIND], KIND one of {}",
                section.name,
                kinds()
            );
            return Err(refuse(section.wrong(right)));
        };
        let mut kept = SourceSection {
            name: kind.to_owned(),
            place: format!("{name}: line {}", section.line),
            given: Given::nothing(&RUN),
        };
        take(&mut kept.given, section, &limits, name).map_err(refuse)?;
        given.sections.push(kept);
    }
    Ok(())
}

/// Adds the values of a section, except those that the command line overrides.
fn take(given: &mut Given, section: &Section, flags: &[&Flag], file: &str) -> Result<(), Wrong> {
    let keys: Vec<String> = flags.iter().map(|flag| key(flag.name)).collect();
    for entry in &section.entries {
        let right = entry.key.replace('-', "_");
        if right != entry.key && keys.contains(&right) {
            return Err(entry.wrong(format!("unknown; write {right}")));
        }
    }
    section.only(&keys.iter().map(String::as_str).collect::<Vec<_>>())?;
    for (flag, key) in flags.iter().zip(&keys) {
        let Some(entry) = section.get(key) else {
            continue;
        };
        let (name, texts) = match (&entry.value, flag.name) {
            (Value::List(_), "sources") => ("source", listed(entry)?),
            _ => (flag.name, texts(flag, entry)?),
        };
        // Either flag on the command line overrides the file's sources.
        let rival = key == "sources" && (given.typed("source") || given.typed("sources"));
        if rival || given.typed(name) {
            continue;
        }
        let place = format!("{file}: line {}, key '{key}'", entry.line);
        for text in texts {
            given.set(name, text, &place);
        }
    }
    Ok(())
}

/// Its value as true or false.
fn switch(entry: &Entry) -> Result<bool, Wrong> {
    match entry.value {
        Value::Switch(on) => Ok(on),
        _ => Err(entry.wrong("it takes true or false")),
    }
}

/// Its list of texts.
fn list(entry: &Entry) -> Result<&[String], Wrong> {
    match &entry.value {
        Value::List(texts) => Ok(texts),
        _ => Err(entry.wrong("it takes a list of texts: [\"…\", \"…\"]")),
    }
}

/// Whether a flag's value is a whole number.
fn is_whole(flag: &Flag) -> bool {
    matches!(flag.value, "N" | "PORT")
}

/// The values as they would be on the command line.
fn texts(flag: &Flag, entry: &Entry) -> Result<Vec<String>, Wrong> {
    match &entry.value {
        _ if flag.value.is_empty() => {
            let on = switch(entry)?;
            Ok(vec![String::new(); usize::from(on)])
        }
        // A value that may be left out.
        Value::Switch(on) if flag.value.starts_with('[') => {
            Ok(vec![String::new(); usize::from(*on)])
        }
        Value::List(_) if flag.repeats => listed(entry),
        // One feed may stand alone.
        _ if flag.repeats && flag.name != "feed" => listed(entry),
        Value::Whole(number) if is_whole(flag) => Ok(vec![number.to_string()]),
        _ if is_whole(flag) => Err(entry.wrong("it takes a whole number")),
        _ => Ok(vec![entry.text()?.to_owned()]),
    }
}

/// A list that is not empty.
fn listed(entry: &Entry) -> Result<Vec<String>, Wrong> {
    match list(entry)? {
        [] => Err(entry.wrong("the list is empty")),
        texts => Ok(texts.to_vec()),
    }
}

/// The configuration as it takes effect, as a file. Comments at its beginning say what differs when it is read back, those at its end
/// how many faults the roster survives.
pub fn render(given: &Given, configuration: &Configuration) -> String {
    let mut text = HEAD.to_owned();
    for flag in flags() {
        if let Some(value) = value(flag, given, configuration) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{} = {value}", key(flag.name));
        }
    }
    for section in &given.sections {
        let watched = &configuration.watched.sources;
        let watched = watched.iter().any(|s| s[0].prefix() == section.name);
        let limit = |name: &'static str| {
            let text = section.given.text(name).filter(|_| !given.typed(name));
            Some((name, text?))
        };
        let limits = OVERRIDES.map(limit);
        if watched && limits.iter().any(Option::is_some) {
            let _ = writeln!(text, "\n[source.{}]", section.name);
            for (name, limit) in limits.into_iter().flatten() {
                let _ = writeln!(text, "{} = {}", key(name), quoted(limit));
            }
        }
    }
    text.push_str(&tolerances(&configuration.run.roster));
    text
}

/// How many faults a roster survives, in comments. Feeds that survive the same share them.
fn tolerances(roster: &Roster) -> String {
    let mut groups: Vec<(Tolerance, Vec<&str>)> = Vec::new();
    for terms in &roster.feeds {
        let tolerance = terms.tolerance();
        match groups.iter_mut().find(|(known, _)| *known == tolerance) {
            Some((_, feeds)) => feeds.push(&terms.feed),
            None => groups.push((tolerance, vec![&terms.feed])),
        }
    }
    let single = roster.feeds.len() == 1;
    let mut text = String::new();
    for (tolerance, feeds) in groups {
        let of = if single {
            String::new()
        } else {
            format!(" of {}", feeds.join(", "))
        };
        let _ = writeln!(text, "\n# The roster{of} {}.", tolerance.text());
        for warning in warnings(&tolerance) {
            let _ = writeln!(text, "# Warning: {warning}.");
        }
    }
    text
}

/// The value of a flag as it takes effect, in TOML; None if it has none.
fn value(flag: &Flag, given: &Given, configuration: &Configuration) -> Option<String> {
    let list = |texts: &mut dyn Iterator<Item = &str>| {
        let texts: Vec<String> = texts.map(quoted).collect();
        (!texts.is_empty()).then(|| format!("[{}]", texts.join(", ")))
    };
    let (run, watched) = (&configuration.run, &configuration.watched);
    match flag.name {
        "feed" if run.roster.feeds.len() == 1 => Some(quoted(&run.roster.feeds[0].feed)),
        "feed" => list(&mut run.roster.feeds.iter().map(|terms| &*terms.feed)),
        // A kind alone means its market of each feed.
        "sources" => list(
            &mut watched.sources.iter().map(|markets| match &markets[..] {
                [source] => &*source.name,
                several => several[0].prefix(),
            }),
        ),
        "accept-quote" => list(&mut watched.accepted.iter().map(String::as_str)),
        "serve" => {
            let address = run.serve.as_ref().map(|(address, _)| address);
            address.map(|address| quoted(&address.to_string()))
        }
        "collectors" => Some(run.roster.slots.len().to_string()),
        name if flag.value.is_empty() => Some(given.has(name).to_string()),
        name if flag.repeats => list(&mut given.all(name)),
        name if is_whole(flag) => {
            let number = given.text(name)?.parse::<u64>();
            Some(number.expect("it was read as one").to_string())
        }
        "proxy" => configuration
            .proxy
            .as_ref()
            .map(|proxy| quoted(&proxy.url_shown())),
        name => given.text(name).map(quoted),
    }
}

/// Text in double quotes, escaped. Control characters other than line feed and tab cannot be expressed.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::args;
    use std::time::Duration;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn given(typed: &str, file: &str) -> Result<Given, Usage> {
        let mut given = args::parse(&RUN, &words(typed))?;
        read(&mut given, "oracle.toml", file)?;
        Ok(given)
    }

    fn run(typed: &str, file: &str) -> Result<Configuration, String> {
        let run = given(typed, file).and_then(|given| super::super::run::read(&given));
        run.map_err(|Usage(sentence)| sentence)
    }

    /// The same configuration with the other's `any_port_will_do`: a rendered file names the ports, so that no others are
    /// taken.
    fn but_for_ports(mut configuration: Configuration, other: &Configuration) -> Configuration {
        configuration.run.any_port_will_do = other.run.any_port_will_do;
        configuration
    }

    #[test]
    fn a_file_says_what_flags_say_and_reads_back_as_the_same() {
        for (typed, file) in [
            ("", ""),
            (
                "--json --quiet --samples 0003 --interval 1000ms",
                "json = true\nquiet = true\nsamples = 3\ninterval = \"1s\"",
            ),
            (
                "--sources diverse --min-exchanges 4",
                "sources = \"diverse\"\nmin_exchanges = 4",
            ),
            (
                "--source kraken,okx --source binance:BTCUSDC --accept-quote USDT,USDC --collectors 9",
                "sources = [\"kraken\", \"okx:BTC-USDT\", \"binance\"]\naccept_quote = [\"USDC\", \"USDT\"]\ncollectors = 9",
            ),
            (
                "--source embedded:BTCUSDT --feed gold --rule median --sample-rule median --every 10s --rounds 4294967296",
                "sources = [\"embedded:BTCUSDT\"]\nfeed = \"gold\"\nrule = \"median\"\nsample_rule = \"median\"\nevery = \"10s\"\nrounds = 4294967296",
            ),
            (
                "--feed BTC/USD --feed ETH/USD,SOL/USD --sources diverse",
                "feed = [\"BTC/USD\", \"ETH/USD\", \"SOL/USD\"]\nsources = \"diverse\"",
            ),
            (
                "--feed ETH/USD,BTC/USDC --source kraken,okx --accept-quote USD,USDT --collectors 4",
                "feed = \"ETH/USD,BTC/USDC\"\nsources = [\"kraken\", \"okx\"]\naccept_quote = [\"USDT\", \"USD\"]\ncollectors = 4",
            ),
            (
                "--every 10s --deviation 0.5% --heartbeat 1h --max-move 10% --max-spread 1% --max-age 5s --ping-every 20s",
                "every = \"10s\"\ndeviation = \"0.5%\"\nheartbeat = \"1h\"\nmax_move = \"10%\"\nmax_spread = \"1%\"\nmax_age = \"5s\"\nping_every = \"20s\"",
            ),
        ] {
            let by_flags = run(typed, "").unwrap();
            let page = render(&given(typed, "").unwrap(), &by_flags);
            for file in [file, &page] {
                let by_file = run("", file).unwrap_or_else(|wrong| panic!("{wrong}: {file}"));
                // A number or duration may be written differently, but must mean the same.
                assert_eq!(but_for_ports(by_file, &by_flags), by_flags, "{file}");
            }
            assert_eq!(render(&given("", &page).unwrap(), &by_flags), page);
        }
    }

    #[test]
    fn what_a_page_says_of_reading_it_back_is_all_that_differs() {
        let back = |typed: &str| {
            let before = run(typed, "").unwrap();
            let page = render(&given(typed, "").unwrap(), &before);
            assert!(page.starts_with(HEAD), "{page}");
            (before, run("", &page).unwrap())
        };
        assert_eq!(HEAD.matches("\n# - ").count(), 2);
        for says in [
            "# - Its ports are fixed. Without control_port, data_port and bind, a run takes a free port",
            "# - The user and password of a proxy are left out.",
        ] {
            assert!(HEAD.contains(says), "{HEAD}");
        }
        let (before, after) = back("--proxy http://user:hidden@proxy.example:3128");
        assert!(before.run.any_port_will_do && !after.run.any_port_will_do);
        assert_ne!(but_for_ports(after.clone(), &before), before);
        let nameless = run("--proxy http://proxy.example:3128", "").unwrap();
        assert_eq!(but_for_ports(after, &nameless), nameless);
        for chosen in [
            "--control-port 8000",
            "--data-port 8080",
            "--bind 127.0.0.1",
        ] {
            let (before, after) = back(&format!("{chosen} --proxy http://proxy.example:3128"));
            assert_eq!(after, before, "{chosen}");
        }
    }

    #[test]
    fn a_proxy_is_shown_without_user_and_password() {
        let file = "proxy = \"http://user:hidden@proxy.example:3128\"";
        let page = render(&given("", file).unwrap(), &run("", file).unwrap());
        let shown = "\nproxy = \"http://proxy.example:3128\"\n";
        assert!(page.contains(shown) && !page.contains("hidden"), "{page}");
        let wrong = run("", "\nproxy = \"socks5://user:hidden@h:1\"").unwrap_err();
        let place = "oracle.toml: line 2, key 'proxy': ";
        assert!(
            wrong.starts_with(place) && !wrong.contains("hidden"),
            "{wrong}"
        );
    }

    #[test]
    fn the_command_line_overrides_the_file() {
        let file = "samples = 3\nsources = \"diverse\"\naccept_quote = [\"USDC\", \"USDT\"]\n[source.kraken]\nmax_age = \"3s\"\n[source.okx]\nmax_age = \"7s\"\nping_every = \"9s\"\n[source.crypto.com]\nmax_age = \"4s\"\n";
        let limits = |configuration: &Configuration, name: &str| -> Vec<Option<Duration>> {
            let children = configuration.run.children.as_ref().unwrap();
            let limit = |flags: &Vec<String>| {
                let mut values = flags.iter().filter_map(|flag| flag.strip_prefix(name));
                let us = values.next()?.strip_suffix("us")?.parse();
                Some(Duration::from_micros(us.ok()?))
            };
            children.flags.iter().map(limit).collect()
        };
        let ages = |configuration: &Configuration| limits(configuration, "--max-age=");
        let by_file = run("", file).unwrap();
        let terms = |configuration: &Configuration| {
            let terms = &configuration.run.roster.feeds[0];
            (terms.schedule.samples, terms.n())
        };
        assert_eq!(terms(&by_file), (3, 9));
        let seconds = |s: u64| Some(Duration::from_secs(s));
        assert_eq!(
            ages(&by_file),
            [
                None,
                seconds(3),
                None,
                None,
                None,
                seconds(4),
                None,
                seconds(7),
                None
            ]
        );
        let typed = "--samples 4 --source okx,kraken --max-age 1s";
        let typed_run = run(typed, file).unwrap();
        assert_eq!(terms(&typed_run), (4, 5));
        assert_eq!(ages(&typed_run), [seconds(1); 5]);
        let pings = limits(&typed_run, "--ping-every=");
        assert_eq!(pings[0], seconds(9), "still applies to okx");
        // A section applies to its kind, a key before the first section to all others.
        let both = run("", &format!("max_age = \"2s\"\n{file}")).unwrap();
        assert_eq!(ages(&both)[..2], [seconds(2), seconds(3)]);
        for (typed, file) in [(typed, file), ("", &format!("max_age = \"2s\"\n{file}"))] {
            let run_ = run(typed, file).unwrap();
            let page = render(&given(typed, file).unwrap(), &run_);
            let by_page = but_for_ports(run("", &page).unwrap(), &run_);
            assert_eq!(by_page, run_, "{page}");
        }
    }

    #[test]
    fn invalid_values_are_refused_with_file_line_and_key() {
        for (file, sentence) in [
            (
                "interval = \"1x\"",
                "line 1, key 'interval': \"1x\" is not valid; expected a whole number with a unit",
            ),
            (
                "\nsamples = 0",
                "line 2, key 'samples': \"0\" is not valid; expected a whole number from 1 to 1000",
            ),
            (
                "samples = \"3\"",
                "line 1, key 'samples': it takes a whole number",
            ),
            (
                "samples = 3.0",
                "line 1, key 'samples': not a valid value; valid are text in double quotes, a whole number",
            ),
            (
                "json = \"yes\"",
                "line 1, key 'json': it takes true or false",
            ),
            ("sources = 1", "line 1, key 'sources': it takes text"),
            ("source = [\"kraken\"]", "line 1, key 'source': unknown"),
            (
                "max-move = \"10%\"",
                "line 1, key 'max-move': unknown; write max_move",
            ),
            ("sources = []", "line 1, key 'sources': the list is empty"),
            (
                "sources = [\"kraken\", \"krakn\"]",
                "line 1, key 'sources': \"krakn\" is not valid; expected EXCHANGE:SYMBOL",
            ),
            (
                "sources = [\"okx\"]",
                "line 1, key 'sources': --source: okx:BTC-USDT is priced in USDT, --feed BTC/USD in USD; to accept USDT for USD, add --accept-quote USDT",
            ),
            (
                "feed = \"ETH/USD\"\nsources = [\"kraken:BTC/USD\"]",
                "line 2, key 'sources': --source: kraken:BTC/USD does not price ETH in USD",
            ),
            (
                "sources = \"all\"",
                "line 1, key 'sources': \"all\" is not valid; expected diverse or embedded-diverse",
            ),
            (
                "sources = \"diverse\"\ncollectors = 5",
                "line 2, key 'collectors': 9 sources are more than 5 collectors",
            ),
            (
                "feed = \"BTC/EUR\"",
                "line 1, key 'feed': --source: binance:BTCUSDC is priced in USDC, --feed BTC/EUR in EUR; binance alone means its market in USDC; name the market in EUR: --source binance:BTCEUR",
            ),
            (
                "feed = \"BTC/EUR\"\nsources = \"diverse\"",
                "line 2, key 'sources': --sources: coinbase:BTC-USD is priced in USD, --feed BTC/EUR in EUR",
            ),
            (
                "feed = \"gold\"",
                "\"binance\" is not valid; expected a symbol too, as in binance:BTCUSDC, since the feed gold names no currencies",
            ),
            (
                "accept_quote = [\"usdc\"]",
                "line 1, key 'accept_quote': \"usdc\" is not valid",
            ),
            (
                "feed = \"gold\"\naccept_quote = [\"USDC\"]",
                "line 2, key 'accept_quote': --accept-quote goes with a feed such as BTC/USD",
            ),
            (
                "min_exchanges = 2",
                "line 1, key 'min_exchanges': --min-exchanges 2 is more than the sources have: 1 exchange",
            ),
            (
                "heartbeat = \"1h\"",
                "line 1, key 'heartbeat': --heartbeat needs --deviation",
            ),
            ("rounds = 3", "line 1, key 'rounds': --rounds needs --every"),
            (
                "retire_key = \"a\"",
                "line 1, key 'retire_key': --retire-key needs",
            ),
            (
                "every = \"1s\"",
                "line 1, key 'every': --every, --samples and --interval do not go together: 10 samples, 1s apart, do not fit into a period of 1s",
            ),
            (
                "every = \"1h\"\nwrite_roster = \"a\"",
                "line 2, key 'write_roster': --write-roster with --every needs",
            ),
            (
                "control_port = 8080",
                "line 1, key 'control_port': --control-port and --data-port are both 8080",
            ),
            (
                "samples = 1000\ninterval = \"1h\"",
                "line 1, key 'samples': --every, --samples and --interval do not go together: the time of all samples together",
            ),
            (
                "max_spread = \"0.00001%\"",
                "line 1, key 'max_spread': \"0.00001%\" is not valid; expected a percentage above 0%",
            ),
            (
                "endpoint = \"ws://localhost:1/\"",
                "line 1, key 'endpoint': --endpoint goes with an 'embedded:' source only",
            ),
            (
                "journal = \"\"",
                "line 1, key 'journal': \"\" is not valid; expected a path",
            ),
            (
                "latest = \"a\\tb\"",
                "line 1, key 'latest': \"a\\tb\" is not valid; expected a path",
            ),
            (
                "max_age = \"1us\"",
                "line 1, key 'max_age': \"1us\" is not valid; expected a duration from 10ms to 24h",
            ),
            (
                "sample = 3",
                "line 1, key 'sample': unknown before the first section; known: collectors, samples",
            ),
            ("config = \"a\"", "line 1, key 'config': unknown"),
            ("check = true", "line 1, key 'check': unknown"),
            ("max-age = \"1s\"", "line 1, key 'max-age': unknown"),
            ("json = true\njson = true", "line 2, key 'json': set twice"),
            (
                "sources = [\"kraken\"]\n[source]",
                "line 2: section [source]; sections are [source.KIND]",
            ),
            (
                "[source.krakn]",
                "line 1: section [source.krakn]; sections are [source.KIND]",
            ),
            (
                "[sources.kraken]",
                "line 1: section [sources.kraken]; sections are [source.KIND]",
            ),
            (
                "[source.kraken]\nmax_age = \"5s\"",
                "line 1: section [source.kraken] is for a source that is not watched",
            ),
            (
                "[source.binance]\nage = \"5s\"",
                "line 2, key 'age': unknown in section [source.binance]; known: max_age, max_silence, ping_every",
            ),
            (
                "[source.binance]\nmax_age = \"5\"",
                "line 2, key 'max_age': \"5\" is not valid",
            ),
            (
                "[source.kraken]\nmax_age = \"5\"",
                "line 2, key 'max_age': \"5\" is not valid",
            ),
        ] {
            let wrong = run("", file).unwrap_err();
            let place = if sentence.starts_with("line") {
                "oracle.toml: "
            } else {
                "--source "
            };
            assert!(
                wrong.starts_with(&format!("{place}{sentence}")),
                "{file}: {wrong}"
            );
        }
        // Sources on the command line do not contradict those of the file, and a section for an unused source is no error then.
        let section = "sources = \"diverse\"\n[source.kraken]\nmax_age = \"5s\"";
        assert!(run("--source binance --accept-quote USDC", section).is_ok());
        let typed = run("--heartbeat 1h", "samples = 3").unwrap_err();
        assert!(typed.starts_with("--heartbeat needs"), "{typed}");
    }

    #[test]
    fn quoted_text_round_trips() {
        for text in ["", "BTC/USD", "a\"b\\c\nd\te", "é\\\\\"\"", "#[]="] {
            let sections = toml::parse(&format!("a = {}", quoted(text))).unwrap();
            let read = sections[0].required("a").and_then(Entry::text);
            assert_eq!(read, Ok(text));
        }
    }
}
