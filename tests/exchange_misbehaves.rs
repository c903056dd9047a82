//! The exchange misbehaves during a round: each bad sample is refused for its reason, the others are taken on schedule, and too
//! few of them make a signed abstention, not a price.

mod published;
mod support;
mod witness;

use published::*;
use std::collections::BTreeSet;
use support::*;
use witness::*;

const NOT_DECIMAL: &str = "the price is no decimal number";
const OUT_OF_BOUNDS: &str = "the price is zero, negative or absurd";
const NO_REPLY: &str = "no reply in time";
const ENDED: &str = "the connection ended before the reply";
const LIMITED: &str = "the exchange limits or bans this address";
const TOO_FEW: &str = "fewer than 80 % of the samples are valid";

/// Faulty replies, and the reason why each has no price.
const REPLIES: [(&str, &str); 9] = [
    ("garbage", "the reply is not JSON"),
    ("wrong-id", "the reply has another id"),
    ("wrong-symbol", "the reply has another symbol"),
    ("price:NaN", NOT_DECIMAL),
    ("price:", NOT_DECIMAL),
    ("price:abc", NOT_DECIMAL),
    ("price:0", OUT_OF_BOUNDS),
    ("price:-1", OUT_OF_BOUNDS),
    ("price:1e400", OUT_OF_BOUNDS),
];

/// Starts a round of three collectors with an exchange that has these faults.
fn round(url: &str, samples: &str, interval: &str) -> Running {
    let (mut command, _) = marked_run(&["--source", "embedded:BTCUSDT", "--endpoint", url]);
    command.args(["--samples", samples, "--interval", interval]);
    command.args(["--collectors", "3", "--json", "--ready-timeout", "4m"]);
    start_command(command)
}

fn ended(running: Running, code: i32) -> (Published, String) {
    let done = running.finish();
    assert_eq!(done.code, Some(code), "{}", done.stderr);
    let report = Published::of(&done);
    report.assert_on_time(&done);
    (report, done.stderr)
}

/// Asserts that a round ends with the price that its samples make.
fn priced(faults: &[&str], samples: &str, interval: &str) -> (Published, String) {
    let (_exchange, url) = exchange(faults);
    let (report, text) = ended(round(&url, samples, interval), 0);
    report.checked_price();
    (report, text)
}

/// Asserts that every collector abstains in a round.
fn abstained(faults: &[&str], samples: &str, interval: &str) -> (Published, String) {
    let (_exchange, url) = exchange(faults);
    let (report, text) = ended(round(&url, samples, interval), 3);
    assert_abstained(&report, &text);
    (report, text)
}

fn assert_abstained(report: &Published, text: &str) {
    assert_eq!(
        (report.price, report.time_us, report.prices),
        (None, None, 0)
    );
    assert_eq!(
        report.signatures_verified, 3,
        "abstentions are signed: {text}"
    );
    for slot in &report.collectors {
        assert_eq!((slot.standing.as_str(), slot.price), ("abstained", None));
        assert_eq!(slot.abstains.as_deref(), Some(TOO_FEW));
    }
    let why = "no price: 0 of 3 collectors gave a price, 2 are needed (quorum)";
    assert!(text.contains(why), "{text}");
    assert!(text.contains(&format!("abstains: {TOO_FEW}")), "{text}");
}

/// Asserts that of the requested samples, every collector has missed exactly these, each for its reason.
fn assert_refused(report: &Published, refused: &[(usize, &str)]) {
    for slot in &report.collectors {
        assert_eq!(slot.refused(), refused, "slot {}", slot.slot);
    }
}

#[test]
fn one_bad_reply_costs_its_sample_and_nothing_else() {
    // A connection's first request is for the first price, so request k is for the sample with index k - 2.
    let at = [2, 5, 8];
    let rounds: Vec<_> = REPLIES
        .chunks(3)
        .map(|three| {
            let fault =
                |(reply, at): (&(&str, &str), usize)| format!("--fault={}@{}", reply.0, at + 2);
            let faults: Vec<String> = three.iter().zip(at).map(fault).collect();
            let faults: Vec<&str> = faults.iter().map(String::as_str).collect();
            let (exchange, url) = exchange(&faults);
            (three, exchange, round(&url, "20", "1s"))
        })
        .collect();
    for (three, _exchange, running) in rounds {
        let (report, text) = ended(running, 0);
        report.checked_price();
        let refused: Vec<(usize, &str)> = at.into_iter().zip(three.iter().map(|r| r.1)).collect();
        assert_refused(&report, &refused);
        for (_, reason) in three {
            let logged = format!(" refused: {reason}: ");
            assert!(text.contains(&logged), "{logged:?} in {text}");
        }
    }
}

#[test]
fn nothing_but_bad_replies_makes_abstentions_with_their_reason() {
    for (fault, reason) in REPLIES {
        let fault = format!("{fault}@2..");
        let (report, text) = abstained(&["--fault", &fault], "2", "1s");
        for slot in &report.collectors {
            assert!(slot.valid().is_empty(), "{fault}: {text}");
            let refused = slot.refused();
            assert!(
                refused.iter().all(|(_, why)| *why == reason),
                "{fault}: {text}"
            );
        }
        // The samples' numbers apart, all say the same: one line, and one more for the other collectors.
        let logged = format!(" refused: {reason}: ");
        let count = text.matches(&logged).count();
        assert!((1..=2).contains(&count), "{logged:?} in {text}");
    }
}

#[test]
fn a_bad_reply_to_one_sample_in_four_is_one_too_many() {
    let (report, _) = abstained(&["--fault", "price:0@3"], "4", "1s");
    assert_refused(&report, &[(1, OUT_OF_BOUNDS)]);
}

#[test]
fn a_message_of_20_mb_costs_the_connection_and_no_memory() {
    let (_exchange, url) = exchange(&["--fault", "large@9"]);
    let running = round(&url, "20", "1s");
    running.stderr_line("sample 6 of 20");
    let peak_kb = |slot| status_number(running.collector(slot), "VmHWM").expect("it runs");
    let before: Vec<u64> = (0..3).map(peak_kb).collect();
    running.stderr_line("sample 10 of 20");
    let after: Vec<u64> = (0..3).map(peak_kb).collect();
    for (before, after) in before.iter().zip(&after) {
        assert!(
            after - before < 4_000,
            "{before} kB before, {after} kB after"
        );
    }
    let (report, text) = ended(running, 0);
    report.checked_price();
    // The second connection's ninth request is the sample at 16.
    let reason = "a message larger than 64 KiB";
    assert_refused(&report, &[(7, reason), (16, reason)]);
    assert!(text.contains("Space limit exceeded"), "{text}");
    assert!(text.contains("; reconnecting"), "{text}");
}

#[test]
fn a_connection_that_drops_is_replaced_within_the_round() {
    let (report, text) = priced(&["--fault", "drop@9"], "20", "1s");
    // The second connection's ninth request is the sample at 16.
    assert_refused(&report, &[(7, ENDED), (16, ENDED)]);
    assert!(text.contains("; reconnecting"), "{text}");
}

#[test]
fn a_connection_that_hangs_is_replaced_within_the_round() {
    let (report, text) = priced(&["--fault", "hang@8"], "10", "1200ms");
    assert_refused(&report, &[(6, NO_REPLY)]);
    assert!(text.contains("; reconnecting"), "{text}");
}

#[test]
fn a_connection_that_hangs_too_late_for_another_does_not_hold_up_the_round() {
    let (report, text) = abstained(&["--fault", "hang@3"], "4", "450ms");
    for slot in &report.collectors {
        let refused = slot.refused();
        assert_eq!(refused.first(), Some(&(1, NO_REPLY)), "{text}");
        assert!(refused.iter().all(|(_, why)| *why == NO_REPLY), "{text}");
    }
}

#[test]
fn an_exchange_that_is_gone_for_good_does_not_hold_up_the_round() {
    for interval in ["2s", "4s"] {
        let (exchange, url) = exchange(&[]);
        let running = round(&url, "2", interval);
        running.stderr_line("2 samples ");
        // The round begins a moment later; the exchange may or may not see its first request.
        drop(exchange);
        let (report, text) = ended(running, 3);
        assert_abstained(&report, &text);
        for slot in &report.collectors {
            let sample = &slot.samples[1];
            assert_eq!((sample.price, sample.lateness_us), (None, None), "{text}");
        }
    }
}

#[test]
fn an_exchange_that_comes_back_is_used_again() {
    // While it is down, no other program may get its port.
    let address = nobodys_address().to_string();
    let gone = start(&["exchange", "--listen", &address]);
    eventually("the exchange listens", || {
        gone.stdout().contains('\n').then_some(())
    });
    let running = round(&format!("ws://{address}/ws-api/v3"), "30", "1s");
    running.stderr_line("sample 3 of 30");
    drop(gone);
    running.stderr_line(" of 30: 0 prices");
    let _back = start(&["exchange", "--listen", &address]);
    let done = running.finish();
    let (report, text) = (Published::of(&done), &done.stderr);
    report.assert_on_time(&done);
    assert!(text.contains("; reconnecting"), "{text}");
    let returned = report
        .collectors
        .iter()
        .filter(|slot| slot.samples[29].price.is_some());
    assert!(returned.count() > 0, "{text}");
    // How long it was away depends on the machine, and so does whether enough samples are left.
    for slot in &report.collectors {
        let enough = slot.valid().len() >= 24;
        assert_eq!(slot.price.is_some(), enough, "slot {}: {text}", slot.slot);
    }
    match report.prices {
        0 | 1 => assert_eq!((done.code, report.price), (Some(3), None), "{text}"),
        _ => drop(report.checked_price()),
    }
}

#[test]
fn pings_are_answered_with_their_payload() {
    // The exchange answers a request only after its ping was echoed.
    let (report, _) = priced(&["--fault", "ping"], "6", "1s");
    assert_refused(&report, &[]);
}

#[test]
fn slow_replies_do_not_shift_the_samples() {
    let (report, _) = priced(&["--fault", "slow:450ms"], "10", "400ms");
    assert_refused(&report, &[]);
}

#[test]
fn replies_after_a_second_are_too_late() {
    // All are requested before the first reply is overdue.
    let (report, _) = abstained(&["--fault", "slow:1200ms@2.."], "3", "400ms");
    for slot in &report.collectors {
        let reasons: Vec<&str> = slot.refused().iter().map(|(_, why)| *why).collect();
        let asked = slot.asked().len();
        assert!(asked > 0, "slot {}", slot.slot);
        assert_eq!(reasons, vec![NO_REPLY; asked], "slot {}", slot.slot);
    }
}

#[test]
fn too_many_requests_in_mid_round_are_obeyed_until_the_exchange_allows_the_next() {
    let (report, text) = priced(&["--fault", "status:429:1500ms@6"], "20", "1s");
    assert_refused(&report, &[(4, LIMITED)]);
    for slot in &report.collectors {
        let limited = |sample: &&Sample| sample.missing.as_deref() == Some(LIMITED);
        let limited: Vec<&Sample> = slot.samples.iter().filter(limited).collect();
        assert!(limited.len() > 1, "the next was not asked for: {text}");
    }
    let logged = " refused: the exchange limits or bans this address: status 429, code -1003";
    assert!(text.contains(logged), "{text}");
}

#[test]
fn a_banned_collector_stays_away() {
    let (_exchange, url) = exchange(&["--fault", "status:418:1h@3"]);
    let mut running = round(&url, "6", "1s");
    let mut clients = BTreeSet::new();
    eventually("the round ends", || {
        clients.extend(clients_of(&url));
        running.ended().then_some(())
    });
    // One connection each, as far as this test saw them while they were open, and none after the ban.
    assert!(clients.len() <= 3, "{clients:?}");
    let (report, text) = ended(running, 3);
    assert_abstained(&report, &text);
    for slot in &report.collectors {
        assert_eq!(slot.refused(), [(1, LIMITED)], "{text}");
        let after = slot.samples.iter().filter(|sample| sample.price.is_none());
        assert!(after.count() > 3, "{text}");
        let last = &slot.samples[5];
        assert_eq!(
            (last.missing.as_deref(), last.lateness_us),
            (Some(LIMITED), None)
        );
    }
}
