//! An aggregator that the test plays tries to make a collector work: by announcing many rounds, by refusing it again and
//! again, by frames that are never whole. Whatever it does, the exchange is asked no more often than the schedule allows.

mod enlisted;
mod support;

use enlisted::*;
use rsoracle::system::limits::{INTERVAL_US_MIN, RECONNECT_MS};
use rsoracle::system::now::wall_us;
use rsoracle::wire::{Challenge, Hello, Refusal, Sample};
use rsoracle_proof::reason::Reject;
use rsoracle_proof::record::Observation;
use std::net::TcpListener;
use std::time::{Duration, Instant};
use support::*;

#[test]
fn a_round_whose_samples_are_too_near_to_those_before_is_refused() {
    let (_exchange, url) = exchange(&[]);
    let ports = ports();
    for (after_us, refused) in [
        (1, true),
        (INTERVAL_US_MIN - 1, true),
        (INTERVAL_US_MIN, false),
    ] {
        let mut collector = enlist(&ports, &url);
        let round = collector.signed(wall_us() + 4_000_000, 3, INTERVAL_US_MIN);
        collector.control.send(&round.encode());
        let last_us = round.start_us + 2 * INTERVAL_US_MIN;
        // Its one sample may be half a second late.
        let next = collector.signed(last_us + after_us, 1, 1_000_000);
        collector.answers(&round);
        match refused {
            true => collector.refuses(&next.encode(), Reject::RoundStart),
            false => {
                collector.control.send(&next.encode());
                collector.answers(&next);
            }
        }
    }
}

#[test]
fn rounds_that_have_begun_do_not_hurry_a_collector() {
    let (_exchange, url) = exchange(&[]);
    let mut collector = enlist(&ports(), &url);
    let (began_us, began) = (wall_us(), Instant::now());
    let mut asked = 0;
    // All of their samples are due, and none is too late. Each round is announced as soon as the one before is over.
    for number in 0..20 {
        let start_us = began_us - 400_000 + number * INTERVAL_US_MIN;
        let round = collector.signed(start_us, 1, 10_000_000);
        collector.control.send(&round.encode());
        let sample = Sample::decode(&collector.control.next()).expect("a sample");
        assert_eq!(sample.start_us, start_us);
        asked += u64::from(sample.record.lateness_us.is_some());
        let _answer: [u8; Observation::BYTES] = collector.data.next();
    }
    let past_us = began.elapsed().as_micros() as u64;
    assert!(asked > 0, "it asks if it may");
    assert!(
        asked <= past_us / (INTERVAL_US_MIN / 2) + 1,
        "{asked} in {past_us} µs"
    );
}

#[test]
fn a_bad_frame_is_answered_when_it_is_read_and_not_when_the_round_ends() {
    let (_exchange, url) = exchange(&[]);
    let ports = ports();
    type Make = fn(&Enlisted) -> Vec<u8>;
    let cases: [(Make, Reject); 4] = [
        (|_| b"HTTP/1.1 400 Bad Request".to_vec(), Reject::Magic),
        (
            |_| Challenge { nonce: [1; 32] }.encode().to_vec(),
            Reject::Kind,
        ),
        (
            |collector| {
                let mut round = collector.round();
                round.signature[0] ^= 1;
                round.encode().to_vec()
            },
            Reject::RoundSignature,
        ),
        (
            |collector| {
                collector
                    .signed(wall_us() + 3_600_000_000, 1, 20_000)
                    .encode()
                    .to_vec()
            },
            Reject::RoundStart,
        ),
    ];
    for (make, reason) in cases {
        let mut collector = enlist(&ports, &url);
        // A round that runs for 40 minutes.
        let round = collector.signed(wall_us() + 500_000, 3, 1_200_000_000);
        collector.control.send(&round.encode());
        Sample::decode(&collector.control.next()).expect("the first sample");
        let bytes = make(&collector);
        collector.refuses(&bytes, reason);
    }
}

#[test]
fn a_round_that_starts_too_far_ahead_is_refused_with_both_numbers() {
    let (_exchange, url) = exchange(&[]);
    let mut collector = enlist(&ports(), &url);
    let round = collector.signed(wall_us() + 3_600_000_000, 2, 20_000);
    collector.control.send(&round.encode());
    let done = collector.running.finish();
    let why = "by this machine's clock it starts in 60 min, and at most 10.0 s are allowed";
    assert!(done.stderr.contains(why), "{}", done.stderr);
}

#[test]
fn who_is_displaced_again_and_again_pauses_before_it_connects_again_to_anybody() {
    let ports = ports();
    let exchange = TcpListener::bind("127.0.0.1:0").expect("a free port");
    exchange.set_nonblocking(true).expect("O_NONBLOCK");
    let url = format!("ws://{}/", address(&exchange));
    let began = Instant::now();
    let mut running = collect(&ports, &url, &enrolment());
    let (mut hellos, mut calls) = (0, Vec::new());
    eventually("the collector gives up", || {
        // The exchange never answers.
        calls.extend(exchange.accept());
        if let Some(mut control) = try_accept(&ports.control) {
            control.send(&Challenge { nonce: [1; 32] }.encode());
            let _hello: [u8; Hello::BYTES] = control.next();
            // Time for a call to the exchange, before it is refused.
            std::thread::sleep(Duration::from_millis(5));
            control.send(
                &Refusal {
                    reason: Reject::Crowded,
                }
                .encode(),
            );
            hellos += 1;
        }
        running.ended().then_some(())
    });
    let past_ms = began.elapsed().as_millis() as u64;
    assert!(hellos > 1, "it tries again");
    assert!(
        hellos <= past_ms / RECONNECT_MS + 1,
        "{hellos} in {past_ms} ms"
    );
    // The pauses double from 50 ms on, for five seconds.
    let calls = calls.len();
    assert!((1..=9).contains(&calls), "{calls} in {past_ms} ms");
}

/// The CPU time that a process has used, in nanoseconds.
fn cpu_ns(id: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{id}/schedstat")).expect("it lives");
    text.split(' ')
        .next()
        .and_then(|ns| ns.parse().ok())
        .expect("a number")
}

#[test]
fn half_a_frame_does_not_keep_a_collector_busy() {
    let (_exchange, url) = exchange(&[]);
    let mut collector = enlist(&ports(), &url);
    let round = collector.round().encode();
    collector.control.send(&round[..100]);
    let id = collector.running.id();
    let (before_ns, began) = (cpu_ns(id), Instant::now());
    std::thread::sleep(Duration::from_secs(1));
    let part = (cpu_ns(id) - before_ns) as f64 / began.elapsed().as_nanos() as f64;
    assert!(part < 0.2, "{part} of a core");
}
