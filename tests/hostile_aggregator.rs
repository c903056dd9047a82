//! A real `rsoracle collect` against a hostile aggregator that the test plays: the collector logs why it refuses, ends, and
//! signs nothing.

mod enlisted;
mod support;

use enlisted::*;
use rsoracle::keys::secret::SecretKey;
use rsoracle::system::limits::{INTERVAL_US_MAX, SAMPLES_MAX, START_AHEAD_US_MAX};
use rsoracle::system::now::wall_us;
use rsoracle::wire::{Challenge, FrameKind, Hello, Refusal, RoundFrame, Sample};
use rsoracle_proof::reason::{Abstention, Miss, Reject};
use rsoracle_proof::record::{Answer, Observation};
use std::io::ErrorKind;
use std::net::TcpStream;
use support::peer::Peer;
use support::*;

#[test]
fn rounds_that_make_no_sense_are_refused_though_the_aggregator_signed_them() {
    let (_exchange, url) = exchange(&[]);
    let ports = ports();
    let soon = || wall_us() + 4_000_000;
    let hour = 3_600_000_000;
    type Make<'a> = &'a dyn Fn(&Enlisted) -> RoundFrame;
    let cases: [(Make, Reject); 11] = [
        (&|c| c.signed(0, 2, 20_000), Reject::RoundStart),
        (
            &|c| c.signed(soon() + 6 * START_AHEAD_US_MAX, 2, 20_000),
            Reject::RoundStart,
        ),
        (&|c| c.signed(u64::MAX, 2, 20_000), Reject::RoundStart),
        (&|c| c.signed(soon(), 0, 20_000), Reject::RoundShape),
        (
            &|c| c.signed(soon(), SAMPLES_MAX + 1, 20_000),
            Reject::RoundShape,
        ),
        (
            &|c| c.signed(soon(), u32::MAX, u64::MAX),
            Reject::RoundShape,
        ),
        (&|c| c.signed(soon(), 2, 0), Reject::RoundShape),
        (&|c| c.signed(soon(), 2, 19_999), Reject::RoundShape),
        (
            &|c| c.signed(soon(), 1, INTERVAL_US_MAX + 1),
            Reject::RoundShape,
        ),
        (&|c| c.signed(soon(), 2, u64::MAX), Reject::RoundShape),
        (&|c| c.signed(soon(), 26, hour), Reject::RoundShape),
    ];
    for (make, reason) in cases {
        let collector = enlist(&ports, &url);
        let round = make(&collector);
        collector.refuses(&round.encode(), reason);
    }
}

#[test]
fn rounds_that_are_over_are_passed_over_and_the_next_one_is_answered() {
    let (_exchange, url) = exchange(&[]);
    let mut collector = enlist(&ports(), &url);
    let over = [1, wall_us() - 1_000_000];
    for start_us in over {
        let round = collector.signed(start_us, 2, 20_000);
        collector.control.send(&round.encode());
    }
    let round = collector.round();
    collector.control.send(&round.encode());
    for index in 0..2 {
        let sample = eventually("a sample", || collector.control.take());
        let sample = Sample::decode(&sample).unwrap();
        let (start_us, found) = (sample.start_us, sample.record.index);
        assert_eq!((start_us, found), (round.start_us, index));
    }
    eventually("one answer", || {
        (collector.data.got().len() >= Observation::BYTES).then_some(())
    });
    assert_eq!(collector.data.got().len(), Observation::BYTES);
    let missed = "missed a round: it was over before its announcement was read";
    assert_eq!(collector.running.stderr().matches(missed).count(), 2);
}

#[test]
fn rounds_that_the_aggregator_did_not_sign_for_this_connection_are_refused() {
    let (_exchange, url) = exchange(&[]);
    let ports = ports();
    let stranger = SecretKey::from_seed(&mut [98; 32]);
    let mut collector = enlist(&ports, &url);
    let by_another = collector.seal(collector.round(), &stranger);
    // A round that was signed for an earlier connection of this slot, unchanged.
    let earlier = collector.round();
    collector.control.send(&by_another.encode());
    assert_eq!(collector.control.refusal(), Reject::RoundSignature);

    enlist(&ports, &url).refuses(&earlier.encode(), Reject::RoundSignature);
    type Change = fn(&mut Enlisted, &mut RoundFrame);
    let changes: [Change; 8] = [
        |_, round| round.start_us += 1,
        |_, round| round.samples += 1,
        |_, round| round.interval_us += 1,
        |_, round| round.terms_digest[0] ^= 1,
        |_, round| round.signature[63] ^= 1,
        |_, round| round.signature = [0; 64],
        |collector, round| {
            collector.nonce[0] ^= 1;
            *round = collector.round();
        },
        |collector, round| {
            collector.hello.signature[0] ^= 1;
            *round = collector.round();
        },
    ];
    for change in changes {
        let mut collector = enlist(&ports, &url);
        let mut round = collector.round();
        change(&mut collector, &mut round);
        collector.refuses(&round.encode(), Reject::RoundSignature);
    }
}

#[test]
fn what_is_no_round_is_refused() {
    let (_exchange, url) = exchange(&[]);
    let ports = ports();
    let head = |kind: FrameKind| {
        let mut frame = vec![0; kind.bytes()];
        frame[..8].copy_from_slice(&[b'R', b'S', b'O', b'R', 1, kind as u8, 0, 0]);
        frame
    };
    let mut reserved = enlist(&ports, &url);
    let mut bytes = reserved.round().encode();
    bytes[31] = 1;
    reserved.control.send(&bytes);
    assert_eq!(reserved.control.refusal(), Reject::Reserved);
    for (bytes, reason) in [
        (head(FrameKind::Challenge), Reject::Kind),
        (head(FrameKind::Hello), Reject::Kind),
        (head(FrameKind::Ready), Reject::Kind),
        (head(FrameKind::Sample), Reject::Kind),
        (head(FrameKind::Preamble), Reject::Kind),
        // A refusal with an unknown reason.
        (head(FrameKind::Refusal), Reject::Kind),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), Reject::Magic),
        (b"RSOR\x02\x04\0\0".to_vec(), Reject::Version),
        (b"RSOR\x01\x04\x01\0".to_vec(), Reject::Reserved),
    ] {
        enlist(&ports, &url).refuses(&bytes, reason);
    }
}

#[test]
fn one_start_is_answered_once_and_a_replay_of_it_never() {
    let (_exchange, url) = exchange(&[]);
    let ports = ports();
    // The second announcement comes during the round, after it, and with another shape but the same start.
    for late in [false, true] {
        let mut collector = enlist(&ports, &url);
        let round = collector.round();
        let again = match late {
            true => collector.signed(round.start_us, 3, 20_000),
            false => round,
        };
        collector.control.send(&round.encode());
        if late {
            collector.answers(&round);
        }
        collector.control.send(&again.encode());
        assert_eq!(collector.control.refusal(), Reject::RoundStart);
        collector.data.until_ended();
        assert_eq!(collector.data.got(), [0u8; 0], "one answer at most");
        assert_eq!(collector.running.finish().code, Some(1));
    }
}

#[test]
fn a_round_that_began_a_moment_ago_costs_samples_and_not_the_collector() {
    let (_exchange, url) = exchange(&[]);
    let mut collector = enlist(&ports(), &url);
    let round = collector.signed(wall_us() - 700_000, 2, 5_000_000);
    collector.control.send(&round.encode());
    for index in 0..2 {
        let sample = Sample::decode(&collector.control.next()).expect("a sample");
        assert_eq!(sample.record.index, index);
        if index == 0 {
            assert_eq!(sample.record.price, Err(Miss::Overdue));
        }
    }
    let answer = Observation::decode(&collector.data.next()).expect("an observation");
    assert_eq!(answer.answer, Answer::Abstain(Abstention::TooFewSamples));
}

#[test]
fn when_the_control_connection_ends_so_does_the_collector_and_signs_nothing() {
    let (_exchange, url) = exchange(&[]);
    let ports = ports();
    // After it is ready.
    let collector = enlist(&ports, &url);
    drop(collector.control);
    let done = collector.running.finish();
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    // After half of a round frame, and in a round that runs for an hour.
    for half in [true, false] {
        let mut collector = enlist(&ports, &url);
        let round = collector.signed(wall_us() + 500_000, 3, 1_200_000_000);
        let bytes = round.encode();
        collector
            .control
            .send(&bytes[..if half { 127 } else { 128 }]);
        if !half {
            Sample::decode(&collector.control.next()).expect("the first sample");
        }
        drop(collector.control);
        let done = collector.running.finish();
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
        assert_eq!(collector.data.got(), [0u8; 0], "nothing was signed");
    }
    // Before and after the challenge.
    let running = collect(&ports, &url, &enrolment());
    drop(accept(&ports.control));
    let done = running.finish();
    assert_eq!(done.code, Some(1));
    assert!(
        done.stderr.contains("the other side sent no challenge"),
        "{}",
        done.stderr
    );
    let running = collect(&ports, &url, &enrolment());
    let mut control = accept(&ports.control);
    control.send(&Challenge { nonce: [1; 32] }.encode());
    let _hello: [u8; Hello::BYTES] = control.next();
    drop(control);
    let done = running.finish();
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_refusal_is_logged_in_words() {
    let (_exchange, url) = exchange(&[]);
    let ports = ports();
    for reason in [Reject::HelloSignature, Reject::SlotTaken] {
        let mut collector = enlist(&ports, &url);
        collector.control.send(&Refusal { reason }.encode());
        drop(collector.control);
        let done = collector.running.finish();
        let line = format!("collector 3: the aggregator refused this collector: {reason}\n");
        assert_eq!((done.code, done.stderr), (Some(1), line));
    }
}

#[test]
fn an_aggregator_that_says_nothing_or_garbage_is_given_up_with_a_clear_error() {
    let (_exchange, url) = exchange(&[]);
    let ports = ports();
    let challenge = Challenge { nonce: [1; 32] }.encode();
    let greetings: [(&[u8], &str); 5] = [
        (b"", "the other side sent no challenge"),
        (&challenge[..39], "the other side sent no challenge"),
        (&[0x16; 40], "not this protocol"),
        (
            b"RSOR\x07\x01\0\0________________________________",
            "another protocol version",
        ),
        (
            b"RSOR\x01\x02\0\0________________________________",
            "a frame that has no place here",
        ),
    ];
    let waiting: Vec<(Running, Peer)> = greetings
        .iter()
        .map(|(greeting, _)| {
            let running = collect(&ports, &url, &enrolment());
            let mut control = accept(&ports.control);
            control.send(greeting);
            (running, control)
        })
        .collect();
    for ((running, mut control), (_, cause)) in waiting.into_iter().zip(greetings) {
        let done = running.finish();
        let begins = "collector 3: cannot open the control channel to 127.0.0.1:";
        assert_eq!(done.code, Some(1), "{}", done.stderr);
        assert!(
            done.stderr.starts_with(begins) && done.stderr.contains(cause),
            "{}",
            done.stderr
        );
        assert_eq!(control.got(), [0u8; 0], "it said nothing of itself");
    }
}

#[test]
fn an_enrolment_that_is_none_is_refused_before_anything_else() {
    let ports = ports();
    let whole = enrolment();
    let weak_key = [&SECRET[..], &[0; 32]].concat();
    let one_more = [&whole[..], b"\n"].concat();
    let twice = [&whole[..], &whole[..]].concat();
    for (bytes, cause) in [
        (&whole[..0], "it ended after 0 of 64 bytes"),
        (&whole[..31], "it ended after 31 of 64 bytes"),
        (&whole[..63], "it ended after 63 of 64 bytes"),
        (&one_more[..], "there are more than 64 bytes"),
        (&twice[..], "there are more than 64 bytes"),
        (&weak_key[..], "its second half is not a public key"),
    ] {
        let done = collect(&ports, "ws://127.0.0.1:1/", bytes).finish();
        let begins = "collector 3: cannot read the enrolment from standard input: ";
        assert_eq!(done.code, Some(1));
        assert!(
            done.stderr.starts_with(begins)
                && done.stderr.contains(cause)
                && done.stderr.contains("it expects the 64 bytes"),
            "{}",
            done.stderr
        );
    }
    let came = ports.control.accept().map(|_| ());
    assert_eq!(came.unwrap_err().kind(), ErrorKind::WouldBlock);
}

/// Local ports of connections to `port` that are still being opened, as the system lists them.
fn half_open(port: u16) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux lists its connections");
    let to = format!("0100007F:{port:04X}");
    let half_open = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words.get(2) == Some(&to.as_str()) && words.get(3) == Some(&"02"))
            .then(|| words[1].to_owned())
    };
    table.lines().filter_map(half_open).collect()
}

#[test]
fn a_full_queue_at_the_door_is_tried_again() {
    let (_exchange, url) = exchange(&[]);
    let ports = ports();
    // Connections that are not accepted, until the system drops further ones.
    let mut crowd = Vec::new();
    let brief = std::time::Duration::from_millis(200);
    // A single failed attempt may only mean that this program was held up.
    let mut dropped = 0;
    while dropped < 3 {
        match TcpStream::connect_timeout(&address(&ports.control), brief) {
            Ok(tcp) => crowd.push(tcp),
            Err(_) => dropped += 1,
        }
    }
    let mut running = collect(&ports, &url, &enrolment());
    let port = address(&ports.control).port();
    let first = eventually("the collector knocks", || half_open(port).pop());
    eventually("it knocks again, from another port", || {
        assert!(!running.ended(), "it gave up: {}", running.stderr());
        half_open(port)
            .iter()
            .any(|other| *other != first)
            .then_some(())
    });
    // Now all are accepted; the collector among them answers its challenge.
    let mut let_in = Vec::new();
    let hello: [u8; Hello::BYTES] = eventually("the collector says hello", || {
        while let Ok((tcp, _)) = ports.control.accept() {
            let mut peer = Peer::over(tcp);
            peer.send(&Challenge { nonce: [1; 32] }.encode());
            let_in.push(peer);
        }
        let_in.iter_mut().find_map(Peer::take)
    });
    assert_eq!(Hello::decode(&hello).map(|hello| hello.slot), Ok(3));
}
