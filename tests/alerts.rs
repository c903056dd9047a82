//! docs/alerts.yml and docs/dashboard.json, on what a real server says: ten faults are injected into real oracles, and each fires its
//! own alert, and no other but those that follow from it. A healthy oracle fires none.

mod chronicle;
mod served;
mod signed;
mod support;
mod watched;
mod witness;
#[path = "watched/world.rs"]
mod world;

use chronicle::Chronicle;
use nanoserde::DeJson;
use rsoracle::system::now::wall_us;
use served::*;
use signed::Says::*;
use signed::start_before;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use support::peer::SOURCE;
use support::*;
use watched::*;
use witness::*;
use world::*;

const SILENT: &str = "RsoracleCollectorSilent";
const NOT_GROWING: &str = "RsoracleJournalNotGrowing";
const WITHHELD: &str = "RsoraclePriceWithheld";

/// Scrapes in a minute of the rules' time, and some more.
const MINUTE: usize = 9;
/// The same of five minutes.
const FIVE_MINUTES: usize = 34;
/// Scrapes in three rounds, and some more.
const THREE_ROUNDS: usize = 17;

#[test]
#[ignore = "needs promtool"]
fn collectors_that_die_one_by_one_and_an_aggregator_that_dies() {
    play(|| {
        let exchange = Exchange::new(&[]);
        let mut world = World::new(scratch("journal.jsonl"), [(SOURCE, &exchange); 5], &[]);
        let mut watch = world.watch();
        watch.pass(THREE_ROUNDS);
        watch.phase(&[]);
        let silent = "rsoracle_collector_rounds_without_answer";
        let dies = |world: &mut World, watch: &mut Watch, slot: usize| {
            drop(world.collectors.pop());
            watch.until(silent, &format!("slot=\"{slot}\""), |rounds| rounds >= 3.0);
            watch.pass(MINUTE);
        };
        dies(&mut world, &mut watch, 4);
        watch.phase(&[(SILENT, 1)]);
        dies(&mut world, &mut watch, 3);
        watch.phase(&[(SILENT, 2), ("RsoracleQuorumAtEdge", 1)]);
        // The reports go on, without a price.
        dies(&mut world, &mut watch, 2);
        watch.phase(&[(SILENT, 3), ("RsoracleNoQuorum", 1)]);
        let disturbed = world.disturbed(&[2, 3, 4]);
        world.aggregator.signal("KILL");
        watch.until("rsoracle_journal_writer", "", |writer| writer == 0.0);
        watch.pass(THREE_ROUNDS + MINUTE);
        // What the newest report says still holds.
        watch.phase(&[
            (SILENT, 3),
            ("RsoracleNoQuorum", 1),
            ("RsoracleAggregatorDead", 1),
        ]);
        promtool(&["check", "metrics"], &watch.text).expect("metrics as they should be");
        (watch, disturbed)
    });
}

#[test]
#[ignore = "needs promtool"]
fn an_exchange_whose_prices_get_stale() {
    play(|| {
        let (good, stale) = (
            Exchange::new(&[]),
            Exchange::new(&["--rate", "10", "--fault", "stale:10m@70.."]),
        );
        let mut watches = [(SOURCE, &good); SLOTS];
        watches[4] = ("embedded-kraken:BTC/USD", &stale);
        let world = World::new(scratch("journal.jsonl"), watches, &[]);
        let mut watch = world.watch();
        let priceless = "rsoracle_collector_rounds_without_price";
        watch.until(priceless, "slot=\"4\"", |rounds| rounds >= 3.0);
        watch.pass(MINUTE);
        watch.phase(&[("RsoracleExchangeStale", 1)]);
        (watch, world.disturbed(&[4]))
    });
}

#[test]
#[ignore = "needs promtool"]
fn two_exchanges_that_stray() {
    play(|| {
        let [low, high] = [1.0, 1.03].map(|factor| Exchange::that_jumps(8, factor));
        let mut watches = [(SOURCE, &low); SLOTS];
        (watches[3].1, watches[4].1) = (&high, &high);
        let world = World::new(scratch("journal.jsonl"), watches, &[]);
        let mut watch = world.watch();
        watch.until("rsoracle_price_spread_ratio", "", |ratio| ratio > 0.01);
        watch.pass(FIVE_MINUTES);
        // The price lies between the two levels, so that everybody is away from it.
        watch.phase(&[("RsoracleSpreadWide", 1), ("RsoracleCollectorDeviates", 5)]);
        (watch, world.disturbed(&[]))
    });
}

#[test]
#[ignore = "needs promtool"]
fn a_price_that_is_withheld_an_aggregator_that_is_stopped_and_a_server_that_dies() {
    play(|| {
        let exchange = Exchange::that_jumps(9, 1.2);
        let flags = ["--max-move", "10%"];
        let mut world = World::new(scratch("journal.jsonl"), [(SOURCE, &exchange); 5], &flags);
        let mut watch = world.watch();
        watch.until("rsoracle_decision", "moved-too-far", |is| is == 1.0);
        watch.pass(MINUTE);
        watch.phase(&[(WITHHELD, 1)]);
        let disturbed = world.disturbed(&[]);
        world.aggregator.signal("STOP");
        watch.pass(THREE_ROUNDS + MINUTE);
        // Nobody has withdrawn the price that is withheld.
        watch.phase(&[(WITHHELD, 1), (NOT_GROWING, 1)]);
        world.served.running.signal("KILL");
        eventually("serve has ended", || {
            world.served.running.ended().then_some(())
        });
        watch.until_down();
        watch.pass(MINUTE);
        // Nobody knows more.
        watch.phase(&[("RsoracleServeDown", 1)]);
        (watch, disturbed)
    });
}

#[test]
#[ignore = "needs promtool"]
fn two_processes_with_one_key_and_a_journal_that_is_moved() {
    play(|| {
        let [exchange, other] = [1.0, 1.001].map(|factor| Exchange::that_jumps(0, factor));
        let world = World::new(scratch("journal.jsonl"), [(SOURCE, &exchange); 5], &[]);
        let mut watch = world.watch();
        watch.pass(MINUTE);
        watch.phase(&[]);
        let impostor = world.impostor(4, &other);
        watch.until("rsoracle_equivocations_total", "", |count| count >= 2.0);
        drop(impostor);
        watch.pass(MINUTE);
        watch.phase(&[("RsoracleEquivocation", 1)]);
        let disturbed = world.disturbed(&[4]);
        fs::rename(&world.chronicle.path, scratch("moved.jsonl")).expect("it is moved");
        watch.until("rsoracle_journal_readable", "", |is| is == 0.0);
        watch.pass(THREE_ROUNDS + MINUTE);
        watch.phase(&[("RsoracleEquivocation", 1), (NOT_GROWING, 1)]);
        watch.holds_elsewhere_too();
        (watch, disturbed)
    });
}

#[test]
#[ignore = "needs promtool, namespaces"]
fn a_journal_whose_disk_is_full() {
    let Some(disk) = small_disk() else {
        return on_a_small_disk("a_journal_whose_disk_is_full");
    };
    let filler = disk.join("filler");
    play(|| {
        let journal = disk.join("journal.jsonl");
        for entry in fs::read_dir(&disk).expect("the disk") {
            fs::remove_file(entry.expect("an entry").path()).expect("it is removed");
        }
        let exchange = Exchange::new(&[]);
        let world = World::new(journal, [(SOURCE, &exchange); 5], &[]);
        let mut watch = world.watch();
        watch.pass(MINUTE);
        watch.phase(&[]);
        let mut file = fs::File::create(&filler).expect("a file");
        let full = (0..1_000).any(|_| std::io::Write::write_all(&mut file, &[b'x'; 64]).is_err());
        assert!(full, "the disk is small");
        drop(file);
        world.aggregator.stderr_line("No space left on device");
        watch.pass(THREE_ROUNDS + MINUTE);
        watch.phase(&[("RsoracleDiskFull", 1)]);
        watch.holds_elsewhere_too();
        let disturbed = world.disturbed(&[]);
        (watch, disturbed)
    });
}

#[test]
#[ignore = "needs promtool, faketime"]
fn an_oracle_whose_clock_is_set_ahead() {
    let library = faketime();
    play(|| {
        let chronicle = Chronicle::new();
        let clock = chronicle.path.with_file_name("clock");
        assert!(set_clock(&clock, "+0"));
        let args = ["--every", "1s", "--samples", "1", "--interval", "1s"];
        let (mut command, _) = chronicle.command(&args);
        by_the_clock_of(&mut command, &library, &clock);
        let _running = start_command(command);
        let served = Served::start(&chronicle.path, &[]);
        let mut watch = Watch::new(served.address, SLOTS);
        watch.pass(MINUTE);
        watch.phase(&[]);
        assert!(set_clock(&clock, "+5"));
        watch.until("rsoracle_report_delay_seconds", "", |delay| delay < -1.0);
        watch.pass(MINUTE);
        watch.phase(&[("RsoracleClockOff", 1)]);
        let whole = |kept: &chronicle::Kept| kept.prices == SLOTS;
        let disturbed = !chronicle.reports().iter().all(whole);
        (watch, disturbed.then(|| "prices are missing".to_owned()))
    });
}

#[test]
#[ignore = "needs promtool"]
fn a_server_without_a_journal_and_with_an_empty_one() {
    play(|| {
        let journal = scratch("journal.jsonl");
        let served = Served::start(&journal, &[]);
        let mut watch = Watch::at_once(served.address);
        watch.pass(FIVE_MINUTES);
        watch.phase(&[("RsoracleServeNotReady", 1), (NOT_GROWING, 1)]);
        fs::File::create(&journal).expect("a file");
        watch.until("rsoracle_journal_readable", "", |is| is == 1.0);
        watch.pass(MINUTE);
        watch.phase(&[("RsoracleServeNotReady", 1)]);
        (watch, None)
    });
}

/// What a server says that has met everything: an equivocation, an abstention, prices with an age, a refusal, streams.
fn page_with_everything() -> String {
    let start_us = start_before(wall_us()) - 3_000_000;
    let mut book = Book::new(start_us);
    let mut aged = Book::new(start_us).oracle;
    aged.terms.feed = "ETH/USD".to_owned();
    book.grow(2);
    let flags = ["--per-address", "2", "--metrics-listen", "127.0.0.1:0"];
    let served = Served::start(&book.path, &flags);
    served.until("/v1/latest", |answered| answered.status == 200);
    let line = book.next(&[Price(3.0), Price(2.0), Price(1.0), Abstains, Both(1.0)]);
    let aged = aged.report_aged(start_us + 200_000, &[Some(50_000); 5]);
    book.append(&format!("{line}\n{}\n", aged.line()));
    let fits = |answered: &Answered| answered.status == 200;
    served.until("/v1/reports/3?feed=BTC/USD", fits);
    served.until("/v1/reports/1?feed=ETH/USD", fits);
    let _streams = [(); 2].map(|()| Client::stream(served.address, "?feed=BTC/USD", ""));
    let mut third = Client::new(served.address);
    third.send("GET /live HTTP/1.1\r\nHost: here\r\n\r\n");
    assert_eq!(third.answer(true).status, 429);
    scrape(served.metrics.expect("an address")).expect("a page")
}

/// The names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text
        .split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_' || letter == ':'));
    let names = words.filter(|word| word.starts_with("rsoracle_"));
    names.map(str::to_owned).collect()
}

#[test]
#[ignore = "needs promtool"]
fn what_a_server_says_and_what_the_rules_and_the_dashboard_ask_is_as_prometheus_wants_it() {
    let page = page_with_everything();
    let said = promtool(&["check", "metrics"], &page).expect("metrics as they should be");
    assert_eq!(said, "");
    promtool(&["check", "rules", RULES], "").expect("rules as they should be");
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    for (at, expression) in expressions().iter().enumerate() {
        let filled = expression
            .replace("$__rate_interval", "5m")
            .replace("$__range", "1h")
            .replace("$feed", "BTC/USD")
            .replace('\'', "''");
        rules += &format!("      - record: panel:number_{at}\n        expr: '{filled}'\n");
    }
    let path = scratch("panels.yml");
    fs::write(&path, rules).expect("a file");
    promtool(&["check", "rules", path.to_str().expect("UTF-8")], "").expect("expressions");
}

#[derive(DeJson)]
struct Dashboard {
    panels: Vec<Panel>,
}

#[derive(DeJson)]
struct Panel {
    title: String,
    description: String,
    targets: Vec<Target>,
}

#[derive(DeJson)]
struct Target {
    expr: String,
}

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(path).expect("a file")
}

/// The expressions of the dashboard.
fn expressions() -> Vec<String> {
    let dashboard = Dashboard::deserialize_json(&read("docs/dashboard.json"));
    let panels = dashboard.expect("a dashboard").panels;
    assert!(panels.len() > 10);
    for panel in &panels {
        assert!(!panel.description.is_empty(), "{}", panel.title);
    }
    let targets = panels.into_iter().flat_map(|panel| panel.targets);
    targets.map(|target| target.expr).collect()
}

#[test]
fn every_metric_and_every_label_that_the_rules_and_the_dashboard_name_is_in_a_scrape() {
    let page = page_with_everything();
    let values: Vec<&str> = page.lines().filter(|line| !line.starts_with('#')).collect();
    let rules = read("docs/alerts.yml");
    let asked = [rules.clone(), expressions().join("\n")].join("\n");
    let all = names(&asked);
    assert!(all.len() > 25, "{all:?}");
    for name in &all {
        let has = |line: &&str| line.split(['{', ' ']).next() == Some(name.as_str());
        assert!(values.iter().any(has), "{name} in {page}");
    }
    // Such as reason="…" and decision=~"…|…".
    let mut labels = 0;
    for label in ["reason", "decision"] {
        for operator in ["=\"", "=~\""] {
            for rest in asked.split(&format!("{label}{operator}")).skip(1) {
                let (alternatives, _) = rest.split_once('"').expect("an end");
                for value in alternatives.split('|') {
                    labels += 1;
                    let told = format!("{label}=\"{value}\"");
                    assert!(page.contains(&told), "{told}");
                }
            }
        }
    }
    assert!(labels >= 4);
}

#[test]
fn every_alert_says_how_bad_it_is_and_has_its_paragraph_in_the_document() {
    let (rules, document) = (read("docs/alerts.yml"), read("docs/OPERATING.md"));
    let alerts: Vec<&str> = rules.split("      - alert: ").skip(1).collect();
    assert_eq!(alerts.len(), 14);
    for alert in &alerts {
        let name = alert.lines().next().expect("a name");
        assert!(document.contains(&format!("\n#### {name}\n")), "{name}");
        let runbook = format!("runbook: \"docs/OPERATING.md#{}\"", name.to_lowercase());
        for part in [&*runbook, "summary: \"", "description: \"", "expr: "] {
            assert!(alert.contains(part), "{name}: {part}");
        }
        let has = |word: &str| alert.contains(&format!("severity: {word}\n"));
        assert!(["critical", "warning"].into_iter().any(has), "{name}");
    }
    let told = document.matches("\n#### Rsoracle").count();
    assert_eq!(told, alerts.len(), "no paragraph without its alert");
}
