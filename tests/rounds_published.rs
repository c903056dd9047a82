//! What rounds without end publish and withhold: deviation and heartbeat, circuit breakers, the newest report, and the journal
//! across restarts, on a full disk, and with wrong keys.

mod chronicle;
mod support;
mod witness;

use chronicle::*;
use rsoracle::keys::file as keyfile;
use rsoracle::system::limits::FUTURE_US_MAX;
use rsoracle::system::now::wall_us;
use rsoracle_proof::aggregate::Rule;
use rsoracle_proof::publish::Policy;
use rsoracle_proof::report::{Refused, Report, Verifier};
use rsoracle_proof::round::Round;
use rsoracle_proof::schedule::Schedule;
use rsoracle_proof::terms::{Seat, Terms};
use rsoracle_proof::utc::utc_text;
use std::path::Path;
use std::process::Command;
use support::*;
use witness::*;

/// The interval of rounds of one sample. It costs no time, but a sample may be late by half of it: slack for a busy machine.
const EVERY: [&str; 6] = ["--every", "500ms", "--samples", "1", "--interval", "500ms"];
const EVERY_US: u64 = 500_000;

/// Runs this many rounds, until the run ends.
fn rounds(chronicle: &Chronicle, count: u32, args: &[&str]) -> Finished {
    let count = count.to_string();
    let args = [&EVERY[..], &["--rounds", &count, "--json"], args].concat();
    chronicle.start(&args).finish()
}

/// Asserts that the published reports are those that were printed, and that the file of `--latest` has the newest of them.
fn assert_published(chronicle: &Chronicle, done: &Finished, latest: &str) -> Vec<Kept> {
    let reports = chronicle.assert_whole(EVERY_US);
    let printed = whole(&done.stdout);
    chronicle.assert_holds(&printed);
    let published = reports.iter().filter(|kept| kept.decision == "published");
    let numbers: Vec<u64> = published.map(|kept| kept.number).collect();
    let found: Vec<u64> = printed.iter().map(|line| Kept::of(line).number).collect();
    assert_eq!(found, numbers);
    let newest = std::fs::read_to_string(latest).unwrap();
    assert_eq!(newest, format!("{}\n", printed.last().unwrap()));
    reports
}

#[test]
fn only_a_price_that_has_changed_is_published() {
    let chronicle = Chronicle::new();
    let latest = chronicle.beside("latest.json");
    let (_exchange, url) = exchange(&["--fault", "scale:2@12.."]);
    let policy = ["--deviation", "5%", "--latest", &latest, "--endpoint", &url];
    let done = rounds(&chronicle, 25, &policy);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let reports = assert_published(&chronicle, &done, &latest);
    let published = reports.iter().filter(|kept| kept.decision == "published");
    let prices: Vec<f64> = published.filter_map(|kept| kept.price).collect();
    let (first, last) = (prices[0], *prices.last().unwrap());
    assert!((1.9..2.1).contains(&(last / first)), "{prices:?}");
    // While collectors see the new price one after the other, prices in between may be published.
    let mut published = None;
    let mut unchanged = 0;
    for kept in &reports {
        let Some(price) = kept.price else { continue };
        let changed = published.is_none_or(|before: f64| (price / before - 1.0).abs() >= 0.05);
        assert_eq!(kept.decision == "published", changed, "{}", kept.number);
        if changed {
            published = Some(price);
        } else {
            assert_eq!(kept.decision, "unchanged", "{}", kept.number);
            unchanged += 1;
        }
    }
    assert!(unchanged > 0, "{prices:?}");
    assert!(
        done.stderr
            .contains("not published: it differs from the last published price by less than 5 %")
    );
}

#[test]
fn a_price_as_old_as_the_heartbeat_is_published_anew() {
    let chronicle = Chronicle::new();
    let latest = chronicle.beside("latest.json");
    let policy = [
        "--deviation",
        "50%",
        "--heartbeat",
        "1s",
        "--latest",
        &latest,
    ];
    let done = rounds(&chronicle, 16, &policy);
    let reports = assert_published(&chronicle, &done, &latest);
    let published = reports.iter().filter(|kept| kept.decision == "published");
    let times: Vec<u64> = published.filter_map(|kept| kept.time_us).collect();
    assert!(times.len() >= 3, "{times:?}");
    let apart = times.windows(2).all(|pair| pair[1] - pair[0] >= 1_000_000);
    assert!(apart, "{times:?}");
    let mut since_us = times[0];
    for kept in reports.iter().filter(|kept| kept.time_us.is_some()) {
        let time_us = kept.time_us.unwrap();
        match kept.decision.as_str() {
            "published" => since_us = time_us,
            _ => assert!(time_us - since_us < 1_000_000, "report {}", kept.number),
        }
    }
}

#[test]
fn a_price_that_jumps_is_withheld_also_after_a_restart() {
    let chronicle = Chronicle::new();
    let latest = chronicle.beside("latest.json");
    let (_exchange, url) = exchange(&["--fault", "scale:2@8.."]);
    let policy = ["--max-move", "10%", "--latest", &latest];
    let done = rounds(
        &chronicle,
        20,
        &[&policy[..], &["--endpoint", &url]].concat(),
    );
    assert_eq!(
        done.code,
        Some(0),
        "some rounds had a price: {}",
        done.stderr
    );
    let why = "no price: it moved by more than 10 % from the last published one";
    assert!(done.stderr.contains(why), "{}", done.stderr);
    let reports = assert_published(&chronicle, &done, &latest);
    assert!(reports.iter().any(|kept| kept.decision == "moved-too-far"));
    assert_eq!(reports.last().unwrap().price, None);
    let newest = std::fs::read_to_string(&latest).unwrap();
    // The last published price is in the journal, so another run withholds these prices too.
    let (_exchange, url) = exchange(&["--fault", "scale:2"]);
    let quiet = ["--endpoint", &url, "--quiet"];
    let done = rounds(&chronicle, 6, &[&policy[..], &quiet].concat());
    assert_eq!((done.code, done.stdout.as_str()), (Some(3), ""));
    assert!(
        done.stderr.contains(why),
        "also when quiet: {}",
        done.stderr
    );
    assert_eq!(std::fs::read_to_string(&latest).unwrap(), newest);
    let reports = chronicle.assert_whole(EVERY_US);
    assert_eq!(reports.len(), 26);
    assert!(reports[20..].iter().all(|kept| kept.price.is_none()));
}

#[test]
fn prices_too_far_apart_are_withheld() {
    let chronicle = Chronicle::new();
    // A collector that reconnects gets true prices for a while; the others' prices are three times as high.
    let (_exchange, url) = exchange(&["--fault", "scale:3@8.."]);
    let policy = ["--rule", "mean", "--max-spread", "1%", "--endpoint", &url];
    let running = chronicle.start(&[&EVERY[..], &["--json"], &policy].concat());
    let high = chronicle.until(0, "the high price", |kept| {
        kept.prices == 5 && kept.price.is_some_and(|price| price > 200_000.0)
    });
    signal(running.collector(4), "KILL");
    let after = high.number as usize;
    let wide = chronicle.until(after, "prices far apart", |kept| {
        kept.decision == "spread-too-wide"
    });
    assert_eq!(wide.price, None);
    let anew = wide.key_with_price(4);
    assert!(anew.is_some() && anew != high.key_with_price(4));
    running.stderr_line("no price: the prices used differ by more than 1 %");
    chronicle.until(wide.number as usize, "one price again", |kept| {
        kept.decision == "published"
    });
    hold(&running);
    let reports = chronicle.assert_whole(EVERY_US);
    for line in whole(&running.stdout()) {
        let number = Kept::of(&line).number as usize;
        assert_eq!(reports[number - 1].decision, "published");
    }
}

#[test]
fn the_newest_report_is_whole_whenever_it_is_read() {
    let chronicle = Chronicle::new();
    let latest = chronicle.beside("latest.json");
    let args = ["--latest", &latest, "--json", "--rounds", "20"];
    let mut running = chronicle.start(&[&EVERY[..], &args].concat());
    let (mut before, mut reads, mut seen) = (String::new(), 0, 0);
    eventually("twenty rounds", || {
        if let Ok(text) = std::fs::read_to_string(&latest) {
            reads += 1;
            if text != before {
                let line = text.strip_suffix('\n').expect("it ends in a newline");
                let check = Verifier::default().check(line, wall_us());
                assert_eq!(check.flaws, Vec::<String>::new(), "{text:?}");
                (before, seen) = (text, seen + 1);
            }
        }
        running.ended().then_some(())
    });
    println!("{reads} reads, {seen} different reports");
    assert!(seen > 5 && reads > seen, "{seen} of {reads}");
    let done = running.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_published(&chronicle, &done, &latest);
}

#[test]
#[ignore = "needs namespaces"]
fn a_full_disk_costs_rounds_and_the_next_goes_on_once_there_is_room() {
    let Some(disk) = small_disk() else {
        return on_a_small_disk("a_full_disk_costs_rounds_and_the_next_goes_on_once_there_is_room");
    };
    let path = disk.join("journal.jsonl");
    let chronicle = Chronicle { path };
    let filler = disk.join("filler");
    std::fs::write(&filler, [0; 40_000]).unwrap();
    let args = ["--json", "--rounds", "20"];
    let running = chronicle.start(&[&EVERY[..], &args].concat());
    let says = "this round is not published, because its report could not be written";
    let line = running.stderr_line(says);
    assert!(line.contains("No space left on device"), "{line}");
    assert!(line.contains(chronicle.name()), "{line}");
    // It must not have ended yet, or there would be no next round.
    std::fs::remove_file(&filler).unwrap();
    let kept = chronicle.lines().len();
    assert!(kept > 2);
    chronicle.until_lines(kept + 2);
    let done = running.finish();
    // A round failed, so the run does too.
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    let reports = chronicle.assert_whole(EVERY_US);
    let lost = done.stderr.matches(says).count();
    assert!(lost > 0 && reports.len() == 20 - lost, "{lost} lost");
    let printed = whole(&done.stdout);
    chronicle.assert_holds(&printed);
    assert!(printed.len() <= reports.len());
}

/// Asserts that a run fails at its start, with a message that contains all of `says`, and leaves the journal as it was.
fn refused(chronicle: &Chronicle, args: &[&str], says: &[&str]) {
    let before = std::fs::read(&chronicle.path).ok();
    let done = rounds(chronicle, 2, args);
    assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""));
    for part in says {
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }
    let after = std::fs::read(&chronicle.path).ok();
    assert!(before.is_none() || before == after, "it is as it was");
}

#[test]
fn a_journal_has_one_writer_at_a_time_and_one_key() {
    let chronicle = Chronicle::new();
    let running = chronicle.start(&EVERY);
    chronicle.until_lines(2);
    let done = rounds(&chronicle, 2, &[]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""));
    let why = "another process is writing to it";
    assert!(done.stderr.contains(why), "{}", done.stderr);
    assert!(done.stderr.contains(chronicle.name()));
    drop(running);
    // The writer has ended, and so has its lock.
    let other = chronicle.beside("other.key");
    rsoracle::keys::create(&other).unwrap();
    let says = ["it is signed with another aggregator key; name the key"];
    refused(&chronicle, &["--aggregator-key", &other], &says);
    // The journal's key is lost, and a new key could not continue it.
    let key = format!("{}.key", chronicle.name());
    let aside = chronicle.beside("aside.key");
    std::fs::rename(&key, &aside).unwrap();
    refused(&chronicle, &[], &["cannot continue the journal", &key]);
    assert!(!Path::new(&key).exists(), "no key was made");
    let done = rounds(&chronicle, 2, &["--aggregator-key", &aside]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    chronicle.assert_whole(EVERY_US);
}

#[test]
fn a_bad_line_stops_the_start_and_a_torn_one_is_moved() {
    // A busy machine may not manage a price in every round.
    let (chronicle, good, price) = eventually("a price in the second of three rounds", || {
        let chronicle = Chronicle::new();
        rounds(&chronicle, 3, &[]);
        let good = std::fs::read_to_string(&chronicle.path).unwrap();
        let price = Kept::of(good.lines().nth(1)?).price?;
        Some((chronicle, good, price))
    });
    let lines: Vec<&str> = good.lines().collect();
    let lie = format!("\"price\":{price},\"abstains\"");
    let forged = lines[1].replacen(&lie, "\"price\":1.5,\"abstains\"", 1);
    let bad = [
        (format!("{good}{{}}\n"), "line 4: it is not a report"),
        (format!("{good}\n"), "line 4: it is not a report"),
        (
            good.replace("{\"rsoracle_report\":2", "{\"rsoracle_report\":1"),
            "line 1: it holds reports of protocol 1",
        ),
        (
            format!("{}\n{}\n", lines[0], lines[2]),
            "line 2: report 3 follows report 1",
        ),
        (
            format!("{good}{}\n", lines[2]),
            "line 4: report 3 appears twice",
        ),
        (
            format!("{}\n{forged}\n{}\n", lines[0], lines[2]),
            "line 2: the aggregator's signature is invalid",
        ),
    ];
    assert_ne!(forged, lines[1]);
    for (text, says) in bad {
        std::fs::write(&chronicle.path, text).unwrap();
        refused(&chronicle, &[], &[says, "nothing was changed"]);
    }
    std::fs::write(&chronicle.path, format!("{good}{}", &lines[2][..700])).unwrap();
    let done = rounds(&chronicle, 2, &["--quiet"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let moved = format!("moved its last 700 bytes to {}.torn", chronicle.name());
    assert!(done.stderr.contains(&moved), "{}", done.stderr);
    let torn = std::fs::read_to_string(format!("{}.torn", chronicle.name())).unwrap();
    assert_eq!(torn, format!("{}\n", &lines[2][..700]));
    assert_eq!(chronicle.assert_whole(EVERY_US).len(), 5);
    assert!(
        std::fs::read_to_string(&chronicle.path)
            .unwrap()
            .starts_with(&good)
    );
}

/// A journal with one report, of a round that starts at that instant and in which nobody answered.
fn journal_that_ends_at(start_us: u64) -> Chronicle {
    let chronicle = Chronicle::new();
    let key = format!("{}.key", chronicle.name());
    rsoracle::keys::create(&key).unwrap();
    let key = keyfile::read(&key).unwrap();
    let seat = Seat {
        key: None,
        source: SOURCE[1].to_owned(),
    };
    let terms = Terms {
        feed: "BTC/USD".to_owned(),
        rule: Rule::TrimmedMean,
        sample_rule: Rule::Mean,
        exchanges_min: 1,
        age_us_max: None,
        spread_ppm_max: None,
        schedule: Schedule {
            first_start_us: start_us,
            period_us: 0,
            end_us: None,
            samples: 1,
            interval_us: 20_000,
        },
        seats: vec![seat; 5],
    };
    let round = Round::new(terms, start_us);
    let mut report = Report::new(
        1,
        key.public(),
        round,
        Refused::new(),
        Policy::default(),
        None,
    );
    report.ephemeral = false;
    report.signature = key.sign(&report.signed_bytes());
    std::fs::write(&chronicle.path, format!("{}\n", report.line())).unwrap();
    chronicle
}

#[test]
fn no_round_starts_at_or_before_the_last_one_of_the_journal() {
    let one = ["--samples", "1", "--interval", "1s"];
    for args in [&EVERY[..], &one] {
        let last_us = (wall_us() + FUTURE_US_MAX).div_ceil(EVERY_US) * EVERY_US - EVERY_US;
        let chronicle = journal_that_ends_at(last_us);
        let mut command = chronicle.command(args).0;
        if args == EVERY {
            command.args(["--rounds", "3"]);
        }
        let done = start_command(command).finish();
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let starts = chronicle
            .reports()
            .into_iter()
            .map(|kept| kept.round_start_us);
        let starts: Vec<u64> = starts.collect();
        assert!(starts.is_sorted_by(|a, b| a < b), "{starts:?}");
        assert!(starts.len() == if args == EVERY { 4 } else { 2 });
        let verified = run(&["verify", chronicle.name()]);
        assert_eq!(
            verified.code,
            Some(5),
            "{}{}",
            verified.stdout,
            verified.stderr
        );
    }
    // No round can begin, but the report's start is still after the last one.
    let chronicle = journal_that_ends_at(wall_us() + 3_000_000);
    let nobody = [
        "--ready-timeout",
        "100ms",
        "--endpoint",
        "ws://127.0.0.1:9/",
    ];
    let done = chronicle.start(&[&one[..], &nobody].concat()).finish();
    assert_eq!(done.code, Some(3), "{}", done.stderr);
    assert_eq!(run(&["verify", chronicle.name()]).code, Some(5));
    let far = journal_that_ends_at(wall_us() + 60 * FUTURE_US_MAX);
    let ends = Kept::of(&far.lines()[0]);
    let says = [
        "it ends in the future: the round of its report 1 starts at ",
        &utc_text(ends.round_start_us),
        ", 5 min from now, ",
        "start again after that time, or begin another journal with a key of its own",
        "consumers need nothing new; keep this file",
        "nothing was changed",
    ];
    refused(&far, &[], &says);
    // As the message says.
    let other = Chronicle::new();
    assert_eq!(rounds(&other, 1, &[]).code, Some(0));
    other.assert_whole(EVERY_US);
}

#[test]
#[ignore = "needs strace"]
fn starts_that_a_slow_disk_costs_are_counted_and_it_is_named_with_its_time() {
    let chronicle = Chronicle::new();
    let args = ["--every", "400ms", "--samples", "1", "--interval", "400ms"];
    let (inner, _) = chronicle.command(&args);
    // What the aggregator waits for when it syncs its journal. Its collectors are not traced, and this process stays it.
    let mut command = Command::new("strace");
    command.args(["-D", "-o", "/dev/null", "-e", "trace=fdatasync"]);
    command.args(["-e", "inject=fdatasync:delay_exit=2000000:when=2+"]);
    command.arg(inner.get_program()).args(inner.get_args());
    let running = start_command(command);
    let line = running.stderr_line(" starts: the disk is too slow: it took the last report in ");
    let (_, count) = line.split_once("skipped ").expect("a count");
    let count: u64 = count.split(' ').next().unwrap().parse().unwrap();
    let (_, seconds) = line.rsplit_once("report in ").unwrap();
    let seconds: f64 = seconds.trim_end_matches(" s").parse().unwrap();
    assert!(count >= 3 && seconds >= 2.0, "{line}");
    chronicle.until_lines(3);
    drop(running);
    let reports = chronicle.assert_whole(400_000);
    let late = reports
        .windows(2)
        .map(|two| two[1].round_start_us - two[0].round_start_us);
    assert!(late.max() >= Some(1_600_000), "starts were skipped");
}

#[test]
fn what_is_replaced_is_never_what_is_kept() {
    let chronicle = Chronicle::new();
    assert_eq!(rounds(&chronicle, 2, &[]).code, Some(0));
    let key = format!("{}.key", chronicle.name());
    let same = chronicle.beside("link.jsonl");
    std::fs::hard_link(&chronicle.path, &same).unwrap();
    let dotted = chronicle.beside("./journal.jsonl");
    let keys = chronicle.beside("keys");
    std::fs::create_dir(&keys).unwrap();
    let with_keys = ["--collector-keys", &keys];
    assert_eq!(rounds(&chronicle, 1, &with_keys).code, Some(0));
    for flag in ["--latest", "--write-roster"] {
        for path in [chronicle.name(), &dotted, &same] {
            let args = [&with_keys[..], &[flag, path]].concat();
            refused(
                &chronicle,
                &args,
                &["cannot replace", "it is the journal", flag],
            );
        }
        for path in [&key, &format!("{keys}/slot-2.key")] {
            let args = [&with_keys[..], &[flag, path]].concat();
            refused(&chronicle, &args, &["cannot replace", "key"]);
        }
    }
    let one = chronicle.beside("one.json");
    for two in [
        &one,
        &chronicle.beside("./one.json"),
        &chronicle.beside("keys/../one.json"),
    ] {
        let args = [&with_keys[..], &["--latest", &one, "--write-roster", two]].concat();
        refused(&chronicle, &args, &["to one file"]);
    }
    // What does not exist yet has a place, too.
    for ending in ["proofs", "torn", "newest.others"] {
        let path = chronicle.beside(&format!("./journal.jsonl.{ending}"));
        let args = [&with_keys[..], &["--latest", &path]].concat();
        refused(&chronicle, &args, &["cannot replace", "--latest"]);
    }
    chronicle.assert_whole(EVERY_US);
}

#[test]
fn the_newest_report_is_put_in_its_place_at_the_next_start_if_it_is_not_there() {
    let chronicle = Chronicle::new();
    assert_eq!(rounds(&chronicle, 2, &[]).code, Some(0));
    // As after a crash between writing the journal and writing the file. No price differs enough to be published again.
    let latest = chronicle.beside("latest.json");
    let done = rounds(&chronicle, 2, &["--latest", &latest, "--deviation", "50%"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let reports = chronicle.reports();
    let published = reports
        .iter()
        .rev()
        .find(|kept| kept.decision == "published");
    let newest = Kept::of(std::fs::read_to_string(&latest).unwrap().trim_end());
    assert_eq!(newest.number, published.unwrap().number);
    assert!(newest.number <= 2, "of the first start");
}

#[test]
fn what_cannot_be_put_in_the_file_of_the_newest_is_printed_all_the_same() {
    let chronicle = Chronicle::new();
    let folder = chronicle.beside("folder");
    std::fs::create_dir(&folder).unwrap();
    let latest = chronicle.beside("folder/latest.json");
    let args = ["--latest", &latest, "--json", "--rounds", "12"];
    let running = chronicle.start(&[&EVERY[..], &args].concat());
    chronicle.until_lines(2);
    std::fs::rename(&folder, chronicle.beside("moved")).unwrap();
    let done = running.finish();
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    let says = format!("cannot replace {latest}");
    assert!(done.stderr.contains(&says), "{}", done.stderr);
    let reports = chronicle.assert_whole(EVERY_US);
    let published = reports.iter().filter(|kept| kept.decision == "published");
    assert_eq!(whole(&done.stdout).len(), published.count());
}
