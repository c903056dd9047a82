//! Collectors on other hosts that disagree with their aggregator on feed, rule or clock: both sides say on what.

mod support;

use rsoracle::system::now::wall_us;
use rsoracle::wire::Ready;
use std::process::Stdio;
use support::peer::{SOURCE, collector_key, hello_at, stage};
use support::*;

/// Runs rounds with a real collector in slot 4 that has these flags. Waits for what the aggregator says of it and for what
/// it says itself.
fn disagrees(args: &[&str], aggregator_says: &str, collector_says: &str) {
    let (_exchange, url) = exchange(&["--speed", "50"]);
    let dir = scratch("enrolments").parent().unwrap().to_owned();
    let dir = dir.to_str().expect("a path in UTF-8");
    let aggregator = start(
        &[
            &[
                "run",
                "--source",
                SOURCE,
                "--endpoint",
                &url,
                "--ready-timeout",
                "60s",
            ][..],
            &["--every", "1s", "--samples", "3", "--interval", "200ms"],
            &["--control-port", "0", "--data-port", "0"],
            &["--remote", "1", "--enrolment-dir", dir],
        ]
        .concat(),
    );
    let path = format!("{dir}/slot-4.enrolment");
    eventually("the enrolment is written", || {
        (std::fs::metadata(&path).ok()?.len() == 64).then_some(())
    });
    let (control, data) = aggregator.channels();
    let mut command = rsoracle();
    command.args(["collect", "--slot", "4", "--source", SOURCE]);
    command.args(["--endpoint", &url, "--control", &control.to_string()]);
    command.args(["--data", &data.to_string()]).args(args);
    command.stdin(Stdio::from(std::fs::File::open(&path).unwrap()));
    let collector = start_command(command);
    aggregator.stderr_line(aggregator_says);
    collector.stderr_line(collector_says);
}

const COLLECTOR_SAYS: &str = "collector 4: the aggregator ended the data connection, as it does after an answer that it refuses; compare --feed, --sample-rule and the clock with its own";

#[test]
fn another_feed_is_named_on_both_sides() {
    let refused = "an answer under its key was refused: the observation's signature does not check over this round, its terms and the samples received; its --feed must be BTC/USD and its --sample-rule mean";
    disagrees(&["--feed", "ETH/USD"], refused, COLLECTOR_SAYS);
}

#[test]
fn another_rule_of_the_samples_is_named_on_both_sides() {
    let refused = "an answer under its key was refused: signed, but the average is not that of its samples; its --feed must be BTC/USD and its --sample-rule mean";
    disagrees(&["--sample-rule", "median"], refused, COLLECTOR_SAYS);
}

#[test]
fn a_clock_that_is_off_is_told_with_the_number() {
    for (off_us, told) in [
        (-10_000_000, " s behind this machine's: set both (NTP)"),
        (10_000_000, " s ahead of this machine's: set both (NTP)"),
    ] {
        let stage = stage(1, 1, "1s");
        let (secret, _) = stage.enrolment(4);
        let (mut control, nonce) = stage.challenged();
        let clock_us = wall_us().saturating_add_signed(off_us);
        let hello = hello_at(clock_us, 4, &collector_key(4), SOURCE, &nonce, &secret);
        let ready = Ready {
            clock_us,
            price: 87_231.42,
        };
        control.send(&[&hello.encode()[..], &ready.encode()].concat());
        let line = stage
            .running
            .stderr_line("aggregator: collector 4: its clock is ");
        assert!(line.contains(told), "{line}");
    }
}
