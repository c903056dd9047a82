//! The system clock is stepped during a round, for one collector of five or for the whole machine: the real binary under
//! libfaketime.
//!
//! Unit tests with an injected clock, precise to the microsecond, are in `wait.rs` and `sampler.rs`.

mod chronicle;
mod published;
mod support;
mod witness;

use chronicle::{Chronicle, Kept};
use nanoserde::DeJson;
use published::*;
use std::time::{Duration, Instant};
use support::peer::{Stage, TestCollector, sleep_until, stage};
use support::*;
use witness::*;

#[test]
#[ignore = "needs faketime"]
fn a_collector_whose_clock_is_stepped_abstains_and_says_so() {
    let library = faketime();
    for step in ["+3600", "-3600"] {
        // The fifth collector is this one.
        let stage = stage(1, 5, "1s");
        let clock = std::path::PathBuf::from(stage.path("clock"));
        std::fs::write(&clock, "+0").unwrap();
        let mut collect = stage.by_hand(4).command();
        by_the_clock_of(&mut collect, &library, &clock);
        let collector = start_command(collect);
        let round = stage.round(&mut []);
        sleep_until(round.instant_us(1) + 500_000);
        assert!(set_clock(&clock, step));

        let line = stage.report_line(&round);
        let report = Published::deserialize_json(&line).expect("the report is JSON");
        let slot_4 = &report.collectors[4];
        let why = "the system clock was stepped within the round";
        assert_eq!(slot_4.standing, "abstained", "{step}");
        assert_eq!(slot_4.abstains.as_deref(), Some(why), "{step}");
        let missing = slot_4.samples.iter().map(|sample| &sample.missing);
        let stepped = |why: &&Option<String>| {
            let why = why.as_deref();
            why == Some("the system clock was stepped")
        };
        let given_up = missing.clone().filter(stepped).count();
        let after_the_step = missing.clone().rev().take_while(stepped).count();
        // Before the step, a busy machine may request samples too late, which is another reason.
        assert_eq!(
            (given_up, slot_4.samples.len()),
            (after_the_step, 5),
            "{step}: no sample after the step, none lost: {:?}",
            slot_4.samples
        );
        assert!((1..=3).contains(&given_up), "{step}: {:?}", slot_4.samples);
        assert!(!slot_4.valid().is_empty(), "{step}: {:?}", slot_4.samples);
        collector.stderr_line("abstains: the system clock was stepped");
    }
}

#[test]
#[ignore = "needs faketime"]
fn rounds_go_on_when_a_whole_machines_clock_is_set_and_no_start_comes_twice() {
    let library = faketime();
    let chronicle = Chronicle::new();
    let clock = chronicle.path.with_file_name("clock");
    // Never ahead of this machine's clock: `verify` refuses reports from the future.
    assert!(set_clock(&clock, "-60"));
    let args = ["--every", "400ms", "--samples", "1", "--interval", "400ms"];
    let (mut command, _) = chronicle.command(&args);
    by_the_clock_of(&mut command, &library, &clock);
    let running = start_command(command);
    let published = |after, from_us| {
        let what = format!("a price after report {after}");
        chronicle.until(after, &what, |kept| {
            kept.decision == "published" && kept.round_start_us >= from_us
        })
    };
    let before = published(2, 0);
    assert!(set_clock(&clock, "-2"));
    let forward = published(before.number as usize, before.round_start_us + 50_000_000);
    running.stderr_line(" starts: the system clock was set ahead by ");
    assert!(set_clock(&clock, "-6"));
    // There are two messages, since the step is noticed during a round or between rounds.
    eventually("a word about the clock", || {
        let told = running.stderr();
        let ways = [
            "the clock is behind the last round's start",
            "the clock was set back",
        ];
        ways.iter().any(|way| told.contains(way)).then_some(())
    });
    published(forward.number as usize + 2, 0);
    drop(running);
    let reports = chronicle.assert_whole(400_000);
    println!(
        "{} reports, {} up to the step forward",
        reports.len(),
        before.number
    );
}

/// A second without a report, to begin with the next one.
fn assert_no_report_comes(chronicle: &Chronicle) {
    let before = chronicle.lines().len();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(chronicle.lines().len(), before);
}

#[test]
#[ignore = "needs faketime"]
fn a_clock_that_is_ahead_for_a_while_puts_no_report_of_the_future_into_the_journal() {
    let library = faketime();
    let (_exchange, url) = exchange(&[]);
    let chronicle = Chronicle::new();
    let clock = chronicle.path.with_file_name("clock");
    // At the start, as a machine without a battery may have it until NTP sets it; and again later.
    assert!(set_clock(&clock, "+3600"));
    let args = ["--every", "400ms", "--samples", "1", "--interval", "400ms"];
    let (mut command, _) = chronicle.command(&args);
    command.args(["--endpoint", &url, "--ready-timeout", "1s"]);
    by_the_clock_of(&mut command, &library, &clock);
    let running = start_command(command);
    let not_kept = "rounds without an answer are not kept in the journal until a collector answers. Collectors that were restarted leave out rounds for up to 20 s. If it lasts longer, check this machine's clock";
    for times in 1..=2 {
        eventually("a word about the journal", || {
            let told = running.stderr().matches(not_kept).count();
            (told == times).then_some(())
        });
        running.stderr_line("the exchange's; signing nothing meanwhile");
        assert_no_report_comes(&chronicle);
        assert!(set_clock(&clock, "+0"));
        let after = chronicle.lines().len();
        let price = |kept: &Kept| kept.decision == "published";
        chronicle.until(after, "a price by the right clock", price);
        // From now on rounds without an answer are kept: see `rounds.rs`.
        assert!(set_clock(&clock, "+3600"));
    }
    let mut starts = std::collections::BTreeSet::new();
    for line in running.stderr().lines() {
        if let Some((_, round)) = line.split_once("aggregator: round of ") {
            let (start, _) = round.split_once(": ").expect("a start");
            assert!(
                starts.insert(start.to_owned()),
                "a round came twice: {line}"
            );
        }
    }
    assert!(starts.len() > 2, "{starts:?}");
    drop(running);
    chronicle.assert_whole(400_000);
}

#[test]
fn an_aggregator_whose_clock_is_ahead_of_most_collectors_begins_no_round_until_they_agree() {
    // Most of those that are connected: the clocks of the two real collectors agree with the aggregator's.
    let stage = stage(3, 2, "100ms");
    let mut played = [2, 3, 4].map(|slot| stage.collector_off(slot, -30_000_000));
    let tend = |played: &mut [TestCollector]| {
        for one in played {
            one.tend();
        }
    };
    played.iter_mut().for_each(TestCollector::ready);
    let lines =
        |stage: &Stage| chronicle::whole_lines(std::path::Path::new(&stage.journal())).len();
    let says = "this machine's clock is 30.0 s ahead of those of most connected collectors; no round begins meanwhile";
    eventually("a word about the clock", || {
        tend(&mut played);
        stage.running.stderr().contains(says).then_some(())
    });
    let before = lines(&stage);
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        tend(&mut played);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(lines(&stage), before, "no round meanwhile");
    assert_eq!(stage.running.stderr().matches(says).count(), 1);
    // One of the three is enough: then it is no majority.
    played[0].clock_off_us = 0;
    eventually("a report", || {
        tend(&mut played);
        (lines(&stage) > before).then_some(())
    });
    let said = stage.running.stderr();
    let agrees =
        "this machine's clock agrees with those of most connected collectors; rounds go on";
    assert!(said.contains(agrees), "{said}");
    assert!(!said.contains("skipped"), "{said}");
}
