//! One collector of five lies by a factor of ten, alone or while others are killed: the price lies within the honest prices,
//! and is, bit for bit, what the rule makes of them.

mod published;
mod support;
mod witness;

use published::*;
use std::process::Stdio;
use support::*;
use witness::*;

/// The liar's slot.
const LIAR: u16 = 4;

/// An aggregator with a liar, and what they need.
struct Stage {
    aggregator: Running,
    _others: [Running; 3],
}

/// Starts five collectors, of which the last has an exchange with this fault.
fn stage(fault: &str, args: &[&str]) -> Stage {
    let dir = scratch("enrolments").parent().unwrap().to_owned();
    let dir = dir.to_str().expect("a path in UTF-8");
    // Play the tape faster than recorded, so that prices change during the round.
    let (honest, honest_url) = exchange(&["--speed", "50"]);
    let (mut command, _) = marked_run(&["--source", "embedded:BTCUSDT", "--json"]);
    command.args(["--endpoint", &honest_url, "--ready-timeout", "60s"]);
    command.args(["--remote", "1", "--enrolment-dir", dir]);
    let aggregator = start_command({
        command.args(args);
        command
    });
    let path = format!("{dir}/slot-{LIAR}.enrolment");
    eventually("the liar's enrolment is written", || {
        (std::fs::metadata(&path).ok()?.len() == 64).then_some(())
    });
    let (control, data) = aggregator.channels();
    let (lying, url) = exchange(&["--speed", "50", "--fault", fault]);
    let mut command = rsoracle();
    command.args(["collect", "--slot", &LIAR.to_string()]);
    command.args(["--source", "embedded:BTCUSDT", "--endpoint", &url]);
    command.args([
        "--control",
        &control.to_string(),
        "--data",
        &data.to_string(),
    ]);
    command.stdin(Stdio::from(std::fs::File::open(&path).unwrap()));
    Stage {
        aggregator,
        _others: [honest, lying, start_command(command)],
    }
}

/// Runs a round with a liar whose exchange has this fault. The collectors in `killed` are killed during the round.
fn lied_to(fault: &str, killed: &[u16]) -> Published {
    let stage = stage(fault, &["--samples", "5", "--interval", "1s"]);
    stage.aggregator.stderr_line("sample 2 of 5");
    for slot in killed {
        signal(stage.aggregator.collector(*slot), "KILL");
    }
    let done = stage.aggregator.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let report = Published::of(&done);
    report.assert_on_time(&done);
    assert_eq!(report.prices, 5 - killed.len(), "{}", done.stderr);
    report
}

/// Asserts that the price lies within the honest prices, and that the lie is in the report, trimmed.
fn assert_harmless(report: &Published, lie: std::ops::Range<f64>) {
    let price = report.checked_price();
    let (liars, honest): (Vec<&Slot>, Vec<&Slot>) =
        report.collectors.iter().partition(|slot| slot.slot == LIAR);
    let honest: Vec<f64> = honest.into_iter().filter_map(|slot| slot.price).collect();
    let low = honest.iter().copied().fold(f64::INFINITY, f64::min);
    let high = honest.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    assert!((low..=high).contains(&price), "{price} in {honest:?}");
    assert!((80_000.0..95_000.0).contains(&price), "{price}");
    let said = liars[0].price.expect("the liar has signed a price");
    assert!(lie.contains(&said), "{said}");
    assert_eq!(liars[0].standing, "trimmed");
}

#[test]
fn a_price_ten_times_too_high_is_trimmed() {
    assert_harmless(&lied_to("scale:10@2..", &[]), 800_000.0..950_000.0);
}

#[test]
fn a_price_ten_times_too_low_is_trimmed() {
    assert_harmless(&lied_to("scale:0.1", &[]), 8_000.0..9_500.0);
}

#[test]
fn one_liar_and_one_crash_at_once_are_survived() {
    assert_harmless(&lied_to("scale:10", &[1]), 800_000.0..950_000.0);
}

#[test]
fn one_liar_and_two_crashes_still_make_a_quorum() {
    assert_harmless(&lied_to("scale:10", &[0, 2]), 800_000.0..950_000.0);
}

#[test]
fn a_liar_that_is_trimmed_round_after_round_is_told_of_once() {
    let stage = stage("scale:1.01", &["--every", "1s", "--samples", "1"]);
    let told =
        format!("collector {LIAR} (embedded:BTCUSDT): its price is apart from the others' since ");
    stage.aggregator.stderr_line(&told);
    let reports = || stage.aggregator.stdout().lines().count();
    let before = reports();
    eventually("more rounds", || (reports() > before + 3).then_some(()));
    let text = stage.aggregator.stderr();
    assert_eq!(text.matches("): its price ").count(), 1, "{text}");
}
