//! The exchange misbehaves in mid-round: each sample is refused for its reason, the others are taken on schedule, and
//! too few of them make a signed abstention, not a price.

mod published;
mod support;

use published::*;
use rsoracle::args;
use rsoracle::config::EXCHANGE;
use rsoracle::embedded::Settings;
use rsoracle::embedded::server::Server;
use rsoracle::embedded::venue::Now;
use support::*;

const NOT_DECIMAL: &str = "the price is no decimal number";
const OUT_OF_BOUNDS: &str = "the price is zero, negative or absurd";
const NO_REPLY: &str = "no reply in time";
const ENDED: &str = "the connection ended before the reply";
const LIMITED: &str = "the exchange limits or bans this address";
const ABSTAINED: &str = "abstained: fewer than 80 % of the samples are valid";

/// What replies can be, and the reason why each is no price.
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

/// Starts a round of three collectors at an exchange with these faults.
fn round(url: &str, samples: &str, interval: &str) -> Running {
    let (mut command, _) = marked_run(&["--source", "embedded:BTCUSDT", "--endpoint", url]);
    command.args(["--samples", samples, "--interval", interval]);
    command.args(["--collectors", "3", "--json", "--ready-timeout", "60s"]);
    start_command(command)
}

fn ended(running: Running, code: i32) -> (Published, String) {
    let done = running.finish();
    assert_eq!(done.code, Some(code), "{}", done.stderr);
    let report = Published::of(&done);
    report.assert_on_time();
    (report, done.stderr)
}

/// A round that ends with a price, which is what its samples make.
fn priced(faults: &[&str], samples: &str, interval: &str) -> (Published, String) {
    let (_exchange, url) = exchange(faults);
    let (report, text) = ended(round(&url, samples, interval), 0);
    report.checked_price();
    (report, text)
}

/// A round in which every collector abstains.
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
        assert_eq!((slot.standing.as_str(), slot.price), (ABSTAINED, None));
    }
    let why = "no price: 0 of 3 collectors gave a price, 2 are needed (quorum)";
    assert!(text.contains(why), "{text}");
    let said = "abstains: fewer than 80 % of the samples are valid";
    assert!(text.contains(said), "{text}");
}

/// The first collector has missed these samples and no others, and each for its reason (a busy machine may cost
/// another one a sample more).
fn assert_missed_only(report: &Published, missed: &[(usize, &str)]) {
    for slot in &report.collectors {
        for (index, reason) in missed {
            assert_eq!(
                slot.missing(*index),
                *reason,
                "slot {} sample {index}",
                slot.slot
            );
        }
    }
    let wanted = report.samples - missed.len();
    assert!(
        report
            .collectors
            .iter()
            .any(|slot| slot.valid().len() == wanted),
        "nothing else is missed"
    );
}

#[test]
fn one_bad_reply_costs_its_sample_and_nothing_else() {
    for three in REPLIES.chunks(3) {
        // A connection's first request is for the first price: request k is sample k - 2.
        let at = [2, 5, 8];
        let faults: Vec<String> = three
            .iter()
            .zip(at)
            .map(|((fault, _), index)| format!("--fault={fault}@{}", index + 2))
            .collect();
        let faults: Vec<&str> = faults.iter().map(String::as_str).collect();
        let (report, text) = priced(&faults, "25", "100ms");
        let missed: Vec<(usize, &str)> = at.into_iter().zip(three.iter().map(|r| r.1)).collect();
        assert_missed_only(&report, &missed);
        for (index, reason) in missed {
            let logged = format!("sample {index} refused: {reason}: ");
            assert!(text.contains(&logged), "{logged:?} in {text}");
        }
    }
}

#[test]
fn nothing_but_bad_replies_makes_abstentions_with_their_reason() {
    for (fault, reason) in REPLIES {
        let fault = format!("{fault}@2..");
        let (report, text) = abstained(&["--fault", &fault], "3", "100ms");
        for slot in &report.collectors {
            for index in 0..3 {
                assert_eq!(slot.missing(index), reason, "{fault}: {text}");
            }
        }
        let logged = format!("sample 0 refused: {reason}: ");
        assert!(text.contains(&logged), "{logged:?} in {text}");
    }
}

#[test]
fn a_bad_reply_to_one_sample_in_four_is_one_too_many() {
    let (report, _) = abstained(&["--fault", "price:0@4"], "4", "100ms");
    assert_missed_only(&report, &[(2, OUT_OF_BOUNDS)]);
}

#[test]
fn a_message_of_20_mb_costs_the_connection_and_no_memory() {
    let (_exchange, url) = exchange(&["--fault", "large@6"]);
    let running = round(&url, "15", "200ms");
    running.stderr_line("sample 3 of 15");
    let peak_kb = |slot| status_number(running.collector(slot), "VmHWM").expect("it runs");
    let before: Vec<u64> = (0..3).map(peak_kb).collect();
    running.stderr_line("sample 7 of 15");
    let after: Vec<u64> = (0..3).map(peak_kb).collect();
    for (before, after) in before.iter().zip(&after) {
        assert!(
            after - before < 4_000,
            "{before} kB before, {after} kB after"
        );
    }
    let (report, text) = ended(running, 0);
    report.checked_price();
    // The second connection's sixth request is sample 10.
    let reason = "a message larger than 64 KiB";
    assert_missed_only(&report, &[(4, reason), (10, reason)]);
    assert!(text.contains("Space limit exceeded"), "{text}");
    assert!(text.contains("; reconnecting"), "{text}");
}

#[test]
fn a_connection_that_drops_is_replaced_within_the_round() {
    let (report, text) = priced(&["--fault", "drop@6"], "15", "200ms");
    // The second connection's sixth request is sample 10.
    assert_missed_only(&report, &[(4, ENDED), (10, ENDED)]);
    assert!(text.contains("; reconnecting"), "{text}");
}

#[test]
fn a_connection_that_hangs_is_replaced_within_the_round() {
    let (report, text) = priced(&["--fault", "hang@4"], "5", "1200ms");
    assert_missed_only(&report, &[(2, NO_REPLY)]);
    assert!(text.contains("; reconnecting"), "{text}");
}

#[test]
fn a_connection_that_hangs_too_late_for_another_does_not_hold_up_the_round() {
    let (report, _) = abstained(&["--fault", "hang@3"], "4", "100ms");
    assert_missed_only(&report, &[(1, NO_REPLY), (2, NO_REPLY), (3, NO_REPLY)]);
}

#[test]
fn an_exchange_that_is_gone_for_good_does_not_hold_up_the_round() {
    for interval in ["200ms", "3200ms"] {
        let (exchange, url) = exchange(&[]);
        let running = round(&url, "2", interval);
        running.stderr_line("2 samples ");
        // The round begins tens of milliseconds later; the exchange may or may not see its first sample.
        drop(exchange);
        let (report, text) = ended(running, 3);
        assert_abstained(&report, &text);
        for slot in &report.collectors {
            assert_eq!(slot.missing(1), "no connection to the exchange", "{text}");
            assert_eq!(slot.samples[1].lateness_us, None);
        }
    }
}

#[test]
fn an_exchange_that_comes_back_is_used_again() {
    let (gone, url) = exchange(&[]);
    let running = round(&url, "25", "200ms");
    running.stderr_line("sample 3 of 25");
    drop(gone);
    running.stderr_line(" of 25: 0 prices");
    let listen = url.trim_start_matches("ws://").split('/').next().unwrap();
    let _back = start(&["exchange", "--listen", listen]);
    let (report, text) = ended(running, 0);
    report.checked_price();
    assert!(text.contains("; reconnecting"), "{text}");
    let returned = |slot: &&Slot| slot.price.is_some() && slot.missing(24).is_empty();
    assert!(
        report.collectors.iter().any(|slot| returned(&slot)),
        "{text}"
    );
}

#[test]
fn pings_are_answered_with_their_payload() {
    // The exchange answers a request only once its ping was echoed.
    let (report, _) = priced(&["--fault", "ping"], "10", "100ms");
    assert_missed_only(&report, &[]);
}

#[test]
fn slow_replies_do_not_shift_the_samples() {
    let (report, _) = priced(&["--fault", "slow:350ms"], "10", "100ms");
    assert_missed_only(&report, &[]);
}

#[test]
fn replies_after_a_second_are_too_late() {
    let (report, _) = abstained(&["--fault", "slow:1200ms@2.."], "3", "100ms");
    assert_missed_only(&report, &[(0, NO_REPLY), (1, NO_REPLY), (2, NO_REPLY)]);
}

#[test]
fn too_many_requests_in_mid_round_are_obeyed_until_the_exchange_allows_the_next() {
    let (report, text) = priced(&["--fault", "status:429:300ms@6"], "15", "200ms");
    assert_missed_only(&report, &[(4, LIMITED), (5, LIMITED)]);
    for slot in &report.collectors {
        assert!(
            slot.samples[4].lateness_us.is_some(),
            "this one was refused"
        );
        assert_eq!(
            slot.samples[5].lateness_us, None,
            "this one was not asked for"
        );
    }
    let logged =
        "sample 4 refused: the exchange limits or bans this address: status 429, code -1003";
    assert!(text.contains(logged), "{text}");
}

#[test]
fn a_banned_collector_stays_away() {
    let words = ["--listen", "127.0.0.1:0", "--fault", "status:418:1h@3"].map(str::to_owned);
    let settings = Settings::from_flags(&args::parse(&EXCHANGE, &words).unwrap()).unwrap();
    // The exchange is in this process, so that it can count.
    let mut server = Server::open(&settings).unwrap();
    let mut running = round(&server.url(), "6", "100ms");
    let (mut open, mut opened) = (0, 0);
    eventually("the round ends", || {
        server.sweep(Now::read());
        opened += server.connections().saturating_sub(open);
        open = server.connections();
        running.ended().then_some(())
    });
    assert_eq!(opened, 3, "one connection each, and none after the ban");
    let (report, text) = ended(running, 3);
    assert_abstained(&report, &text);
    for slot in &report.collectors {
        assert!(slot.missing(0).is_empty(), "{text}");
        for index in 1..6 {
            assert_eq!(slot.missing(index), LIMITED, "sample {index}: {text}");
        }
    }
}
