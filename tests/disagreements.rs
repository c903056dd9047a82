//! Collectors that disagree with their aggregator on terms, key or clock: both sides say on what.

mod support;

use rsoracle_proof::reason::Reject;
use rsoracle_proof::roster::Roster;
use rsoracle_proof::seal::hex;
use support::peer::*;
use support::*;

/// Runs rounds in which the collector of slot 4 is a real one that has another roster: this aggregator's, with `from` replaced
/// by `to`. Both sides must name both digests or the reason.
fn another_roster_is_named(from: &str, to: &str) {
    let stage = stage_with(1, 2, "200ms", &["--ready-timeout", "8s"]);
    let own = std::fs::read_to_string(stage.path("roster.toml")).expect("a roster");
    assert!(own.contains(from), "{own}");
    let other = own.replace(from, to);
    let mut by_hand = stage.by_hand(4);
    by_hand.roster = stage.path("other.toml");
    std::fs::write(&by_hand.roster, &other).expect("a roster file");
    let collector = start_command(by_hand.command());
    let theirs = Roster::parse(&other).expect("a roster").feeds[0].digest();
    let [theirs, ours] = [theirs, stage.terms.digest()].map(|digest| hex(&digest[..8]));
    let reason = Reject::TermsDiffer;
    let refused =
        format!("refused: {reason}; its roster's terms are {theirs}, this aggregator's {ours}");
    stage.running.stderr_line(&refused);
    let told = format!("refused this collector: {reason}; ");
    collector.stderr_line(&told);
    // It comes back again and again, is refused each time, and the others go on.
    let mut round = stage.round(&mut []);
    eventually("a second refusal", || {
        let (report, stderr) = stage.report(&round);
        assert!(report.price.is_some(), "{stderr}");
        round = round.next();
        (report.refused().get(&reason)? >= &2).then_some(())
    });
    let named = format!("the aggregator at 127.0.0.1:{} ", stage.control.port());
    let said = collector.stderr();
    assert!(said.contains(&named), "{said}");
}

#[test]
fn another_feed_is_named_on_both_sides() {
    another_roster_is_named("BTC/USD", "ETH/USD");
}

#[test]
fn another_rule_of_the_samples_is_named_on_both_sides() {
    another_roster_is_named("sample_rule = \"mean\"", "sample_rule = \"median\"");
}

#[test]
fn a_collector_that_expects_another_aggregators_key_is_refused_and_told() {
    let stage = stage_with(1, 2, "200ms", &["--ready-timeout", "8s"]);
    let mut by_hand = stage.by_hand(4);
    by_hand.aggregator = collector_key(7).public();
    let collector = start_command(by_hand.command());
    let told = format!(
        "refused this collector: {}; most likely the key after @ is not this aggregator's; compare it with the key that the aggregator shows at its start; ",
        Reject::HelloSignature
    );
    collector.stderr_line(&told);
    let round = stage.round(&mut []);
    let (report, stderr) = stage.report(&round);
    assert!(report.refused()[&Reject::HelloSignature] >= 1, "{stderr}");
    assert_eq!(report.collectors[4].standing, "silent");
    assert!(report.price.is_some(), "{stderr}");
}

#[test]
fn a_clock_that_is_off_is_told_with_the_number() {
    for (off_us, told) in [
        (-10_000_000, " s behind this machine's: set both (NTP)"),
        (10_000_000, " s ahead of this machine's: set both (NTP)"),
    ] {
        let stage = stage(1, 1, "1s");
        let mut collector = stage.collector_off(4, off_us);
        collector.ready();
        let line = stage
            .running
            .stderr_line("aggregator: collector 4 (embedded): its clock is ");
        assert!(line.contains(told), "{line}");
    }
}

#[test]
fn a_clock_that_goes_wrong_later_is_told_too() {
    let stage = stage(1, 1, "1s");
    let mut collector = stage.collector(4);
    collector.ready();
    stage.round(&mut [&mut collector]);
    assert!(!stage.running.stderr().contains("its clock is "));
    collector.clock_off_us = 60_000_000;
    eventually("a word about the clock", || {
        collector.tend();
        let text = stage.running.stderr();
        text.contains("collector 4 (embedded): its clock is ")
            .then_some(())
    });
}
