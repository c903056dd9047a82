//! One collector of five lies by a factor of ten, alone or while others are killed: the price lies within the honest prices,
//! and is, bit for bit, what the rule makes of them.

mod published;
mod support;

use nanoserde::DeJson;
use published::*;
use rsoracle::system::now::wall_us;
use support::peer::{RoundOf, sleep_until, stage_watching};
use support::*;

/// The liar's slot.
const LIAR: u16 = 4;

/// An aggregator, four honest collectors and a liar.
struct Stage {
    stage: peer::Stage,
    _liar: [Running; 2],
}

/// Starts five collectors, of which the last has an exchange with this fault.
fn stage(fault: &str, samples: u32) -> Stage {
    // Play the tape faster than recorded, so that prices change during the round.
    let speed = ["--speed", "50"];
    let stage = stage_watching(&speed, 1, samples, "1s", &["--ready-timeout", "4m"]);
    let (lying, url) = exchange(&[&speed[..], &["--fault", fault]].concat());
    let mut liar = stage.by_hand(LIAR);
    liar.endpoint = url;
    let liar = start_command(liar.command());
    Stage {
        stage,
        _liar: [lying, liar],
    }
}

impl Stage {
    /// Waits for the report of a round.
    fn report(&self, round: &RoundOf) -> Published {
        let line = self.stage.report_line(round);
        Published::deserialize_json(&line).expect("the report is JSON")
    }
}

/// Runs a round with a liar whose exchange has this fault. The collectors in `killed` are killed during the round.
fn lied_to(fault: &str, killed: &[u16]) -> Published {
    let stage = stage(fault, 5);
    let round = stage.stage.round(&mut []);
    sleep_until(round.instant_us(1));
    for slot in killed {
        stage.stage.collectors[usize::from(*slot)].signal("KILL");
    }
    let report = stage.report(&round);
    let late_us = wall_us().saturating_sub(round.end_us());
    assert!(late_us < 15_000_000, "{late_us} µs over its deadline");
    let said = stage.stage.running.stderr();
    assert_eq!(report.prices, 5 - killed.len(), "{said}");
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
    let Stage { stage, _liar } = stage("scale:1.01", 1);
    let told =
        format!("collector {LIAR} (embedded:BTCUSDT): its price is apart from the others' since ");
    stage.running.stderr_line(&told);
    let reports = || stage.running.stdout().lines().count();
    let before = reports();
    eventually("more rounds", || (reports() > before + 3).then_some(()));
    let text = stage.running.stderr();
    assert_eq!(text.matches("): its price ").count(), 1, "{text}");
}
