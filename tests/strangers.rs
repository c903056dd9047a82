//! Strangers on both ports of an aggregator: they lose their connection, and do the round no harm.
//!
//! In each test, the test plays the last collector and holds it back until the strangers have attacked. So the attack is over
//! (or still runs) when the round begins, however fast the machine is.

mod support;

use rsoracle::keys::secret::EnrolmentSecret;
use rsoracle::wire::{FrameKind, Hello, Preamble, Ready, Refusal, Sample};
use rsoracle_proof::reason::Reject;
use rsoracle_proof::record::Observation;
use support::eventually;
use support::peer::*;

/// One of them may be missed.
const SAMPLES: u32 = 5;
/// An interval long enough for collectors on a machine that is busy with strangers.
const INTERVAL: &str = "1s";
const PRICE: f64 = 87_231.42;

/// Plays the collector of the last slot honestly. Asserts that the round has five signatures.
fn finish_with(stage: Stage, mut collector: TestCollector) -> (Report, String) {
    collector.ready();
    let round = collector.round();
    let _data = collector.play(&round, &records(SAMPLES, PRICE));
    finish(stage)
}

fn finish(stage: Stage) -> (Report, String) {
    let (report, stderr) = stage.report();
    assert_eq!(report.signatures_verified, 5, "{stderr}");
    report.assert_price_within_the_first(5);
    (report, stderr)
}

#[test]
fn frames_that_are_no_hello_are_refused_by_reason() {
    let stage = stage(1, SAMPLES, INTERVAL);
    let with = |at: usize, byte: u8| {
        let mut bytes = [0; Hello::BYTES];
        bytes[..8].copy_from_slice(b"RSOR\x01\x02\0\0");
        bytes[at] = byte;
        bytes
    };
    let head = |kind: FrameKind, bytes: usize| {
        let mut frame = vec![0; bytes];
        frame[..8].copy_from_slice(&[b'R', b'S', b'O', b'R', 1, kind as u8, 0, 0]);
        frame
    };
    let mut cases = vec![
        (
            b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n".to_vec(),
            Reject::Magic,
        ),
        (vec![0xff; Hello::BYTES], Reject::Magic),
        (vec![0; 8], Reject::Magic),
        (with(4, 0).to_vec(), Reject::Version),
        (with(4, 2).to_vec(), Reject::Version),
        (with(5, 0).to_vec(), Reject::Kind),
        (with(5, 8).to_vec(), Reject::Kind),
        (with(5, 255).to_vec(), Reject::Kind),
        (with(6, 1).to_vec(), Reject::Reserved),
        (with(7, 128).to_vec(), Reject::Reserved),
        (with(10, 1).to_vec(), Reject::Reserved),
        (with(15, 1).to_vec(), Reject::Reserved),
        (head(FrameKind::Challenge, 40), Reject::Kind),
        (head(FrameKind::Ready, Ready::BYTES), Reject::Kind),
        (head(FrameKind::Round, 128), Reject::Kind),
        (head(FrameKind::Sample, Sample::BYTES), Reject::Kind),
        (head(FrameKind::Refusal, Refusal::BYTES), Reject::Kind),
        (head(FrameKind::Preamble, Preamble::BYTES), Reject::Kind),
    ];
    // Flip every single bit of a hello's head, except those that make it another kind (above).
    for bit in (0..64).filter(|bit| bit / 8 != 5) {
        let mut bytes = with(0, b'R');
        bytes[bit / 8] ^= 1 << (bit % 8);
        let reason = [Reject::Magic, Reject::Version, Reject::Reserved][match bit / 8 {
            0..4 => 0,
            4 => 1,
            _ => 2,
        }];
        cases.push((bytes.to_vec(), reason));
    }
    let mut expected = std::collections::BTreeMap::new();
    for (bytes, reason) in &cases {
        let (mut peer, _) = stage.challenged();
        peer.send(bytes);
        assert_eq!(peer.refusal(), *reason, "{:?}", &bytes[..8]);
        *expected.entry(*reason).or_insert(0) += 1;
    }
    let collector = stage.collector(4);
    let (report, stderr) = finish_with(stage, collector);
    assert_eq!(report.refused(), expected);
    for (reason, count) in expected {
        let text = format!("{count} × {reason}");
        assert!(stderr.contains(&text), "{text:?} in {stderr}");
    }
}

#[test]
fn hellos_that_do_not_fit_their_slot_are_refused_by_reason() {
    let stage = stage(2, SAMPLES, INTERVAL);
    let (secret_3, _) = stage.enrolment(3);
    let (secret_4, _) = stage.enrolment(4);
    let no_secret = EnrolmentSecret::take(&mut [0; 32]);
    let (key_3, key_4) = (collector_key(3), collector_key(4));
    let refused = |make: &dyn Fn(&[u8; 32]) -> Hello| {
        let (mut peer, nonce) = stage.challenged();
        peer.send(&make(&nonce).encode());
        peer.refusal()
    };
    let without = |nonce: &[u8; 32]| hello(4, &key_4, SOURCE, nonce, &no_secret);
    assert_eq!(refused(&without), Reject::HelloSignature);
    let of_slot_3 = |nonce: &[u8; 32]| hello(4, &key_4, SOURCE, nonce, &secret_3);
    assert_eq!(refused(&of_slot_3), Reject::HelloSignature);
    for slot in [5, 4095, u16::MAX] {
        let unknown = |nonce: &[u8; 32]| hello(slot, &key_4, SOURCE, nonce, &secret_4);
        assert_eq!(refused(&unknown), Reject::SlotUnknown);
    }
    let elsewhere = |nonce: &[u8; 32]| hello(4, &key_4, "embedded:ETHUSDT", nonce, &secret_4);
    assert_eq!(refused(&elsewhere), Reject::SourceDiffers);
    // The identity point: under this key, the signature "identity, 0" is valid for any message, unless such keys are refused.
    let weak = |_: &[u8; 32]| {
        let (mut key, mut signature) = ([0; 32], [0; 64]);
        (key[0], signature[0]) = (1, 1);
        let mut hello = hello(4, &key_4, SOURCE, &[0; 32], &secret_4);
        (hello.key, hello.signature) = (key, signature);
        hello
    };
    assert_eq!(refused(&weak), Reject::KeyWeak);
    // Signed for another connection's nonce.
    let (_first, nonce_of_first) = stage.challenged();
    let replayed = hello(4, &key_4, SOURCE, &nonce_of_first, &secret_4);
    assert_eq!(refused(&|_| replayed), Reject::HelloSignature);
    // Any field changed after signing.
    for byte in [9, 16, 40, 50, 70, 80, 87, 88, 151] {
        let (mut peer, nonce) = stage.challenged();
        let mut bytes = hello(3, &key_3, SOURCE, &nonce, &secret_3).encode();
        bytes[byte] ^= 4;
        peer.send(&bytes);
        let reason = peer.refusal();
        let fits = [Reject::HelloSignature, Reject::KeyWeak, Reject::SlotUnknown];
        assert!(fits.contains(&reason), "byte {byte}: {reason}");
    }
    // Slot 3 is taken, and its key cannot be used for slot 4.
    let mut third = stage.collector(3);
    let again = |nonce: &[u8; 32]| hello(3, &key_3, SOURCE, nonce, &secret_3);
    assert_eq!(refused(&again), Reject::SlotTaken);
    let other_key = |nonce: &[u8; 32]| hello(3, &key_4, SOURCE, nonce, &secret_3);
    assert_eq!(refused(&other_key), Reject::SlotTaken);
    let its_key = |nonce: &[u8; 32]| hello(4, &key_3, SOURCE, nonce, &secret_4);
    assert_eq!(refused(&its_key), Reject::KeyTaken);
    let mut fourth = stage.collector(4);
    third.ready();
    fourth.ready();
    let (round_3, round_4) = (third.round(), fourth.round());
    let _third = third.play(&round_3, &records(SAMPLES, PRICE));
    // During a round, not even a stranger that knows the secret is admitted.
    let late = |nonce: &[u8; 32]| hello(4, &key_4, SOURCE, nonce, &secret_4);
    assert_eq!(refused(&late), Reject::RoundRunning);
    let _fourth = fourth.play(&round_4, &records(SAMPLES, PRICE));
    let (report, _) = stage.report();
    assert_eq!(report.signatures_verified, 5);
    report.assert_price_within_the_first(5);
    let refused = report.refused();
    for (reason, least) in [
        (Reject::HelloSignature, 3),
        (Reject::SlotUnknown, 3),
        (Reject::SourceDiffers, 1),
        (Reject::KeyWeak, 1),
        (Reject::SlotTaken, 2),
        (Reject::KeyTaken, 1),
        (Reject::RoundRunning, 1),
    ] {
        assert!(refused[&reason] >= least, "{reason}: {refused:?}");
    }
    // ... and the connection that stayed silent after its challenge, unless the round was over first.
    let late = refused.get(&Reject::HelloLate).copied().unwrap_or(0);
    let all: u32 = refused.values().sum();
    assert_eq!(all, 3 + 3 + 1 + 1 + 9 + 2 + 1 + 1 + late, "{refused:?}");
}

#[test]
fn silence_drops_of_bytes_and_half_frames_end_after_a_second_on_either_port() {
    let stage = stage(1, SAMPLES, INTERVAL);
    let (secret, _) = stage.enrolment(4);
    let key = collector_key(4);
    // Silence, and one byte less than a head, a frame, a preamble.
    let mut late_control: Vec<Peer> = (0..4).map(|_| stage.challenged().0).collect();
    let mut late_data: Vec<Peer> = (0..4).map(|_| Peer::connect(stage.data)).collect();
    let head = *b"RSOR\x01\x02\0\0";
    late_control[1].send(&head[..7]);
    late_control[2].send(&head);
    let (peer, nonce) = stage.challenged();
    late_control.push(peer);
    let whole = hello(4, &key, SOURCE, &nonce, &secret).encode();
    late_control[4].send(&whole[..Hello::BYTES - 1]);
    late_data[1].send(&head[..7]);
    late_data[2].send(b"RSOR\x01\x07\0\0");
    late_data[3].send(&[0; Preamble::BYTES - 1]);
    // A valid hello, sent byte by byte, again and again: it is never complete, and the deadline is never extended.
    let (mut slow, _) = stage.challenged();
    let mut slow_data = Peer::connect(stage.data);
    let mut sent = 0;
    eventually("the slow ones are refused", || {
        if sent < Preamble::BYTES - 1 {
            slow.send(&whole[sent..=sent]);
            slow_data.send(&[0]);
            sent += 1;
            std::thread::sleep(std::time::Duration::from_millis(30));
        }
        (slow.ended() && slow_data.ended()).then_some(())
    });
    assert_eq!(slow.refusal(), Reject::HelloLate);
    for peer in &mut late_control {
        assert_eq!(peer.refusal(), Reject::HelloLate);
    }
    for peer in &mut late_data {
        peer.until_ended();
    }
    // Half a frame, then the end of the connection. Also no bytes, then the end, which is not counted.
    for bytes in [&b""[..], b"R", &head, &whole[..100]] {
        let (mut peer, _) = stage.challenged();
        peer.send(bytes);
        peer.half_close();
        peer.until_ended();
        let mut peer = Peer::connect(stage.data);
        peer.send(&bytes[..bytes.len().min(Preamble::BYTES - 1)]);
        peer.half_close();
        peer.until_ended();
    }
    let collector = stage.collector(4);
    let (report, _) = finish_with(stage, collector);
    let expected = [(Reject::HelloLate, 6 + 5), (Reject::HalfFrame, 2 * 3)];
    assert_eq!(report.refused(), counts(&expected));
}

#[test]
fn a_megabyte_of_anything_on_either_port_costs_the_sender_its_connection() {
    let stage = stage(1, SAMPLES, INTERVAL);
    let (secret, _) = stage.enrolment(4);
    let key = collector_key(4);
    for control in [true, false, true, false] {
        let mut peer = Peer::connect(if control { stage.control } else { stage.data });
        peer.send(&vec![b'R'; 1 << 20]);
        peer.until_ended();
    }
    // A valid hello with a megabyte behind it: admitted, then refused for what follows.
    let (mut peer, nonce) = stage.challenged();
    let mut bytes = hello(4, &key, SOURCE, &nonce, &secret).encode().to_vec();
    bytes.resize(1 << 20, 0);
    peer.send(&bytes);
    peer.until_ended();
    let collector = stage.collector(4);
    let (report, _) = finish_with(stage, collector);
    assert_eq!(report.refused(), counts(&[(Reject::Magic, 5)]));
}

#[test]
fn two_hundred_connections_on_each_port_hold_nobody_up() {
    let stage = stage(1, SAMPLES, INTERVAL);
    let flood = || -> Vec<Peer> {
        let one = |address| move |_| Peer::try_connect(address);
        let control = (0..200).filter_map(one(stage.control));
        control
            .chain((0..200).filter_map(one(stage.data)))
            .collect()
    };
    // While the collectors enrol ...
    let gathering = flood();
    let mut collector = stage.collector(4);
    collector.ready();
    let round = collector.round();
    // ... and while they sample (not both at once: this process may open a thousand files).
    drop(gathering);
    let _sampling = flood();
    let _data = collector.play(&round, &records(SAMPLES, PRICE));
    let (report, stderr) = finish(stage);
    let expected = [Reject::HelloLate, Reject::Crowded];
    let refused = report.refused();
    let only = refused.keys().all(|reason| expected.contains(reason));
    assert!(only && !refused.is_empty(), "{refused:?} {stderr}");
}

#[test]
fn a_crowd_displaces_its_own_oldest_and_counts_them() {
    let stage = stage(1, SAMPLES, INTERVAL);
    let mut crowd: Vec<Peer> = (0..300).map(|_| Peer::connect(stage.control)).collect();
    let collector = stage.collector(4);
    let displaced = eventually("the first of the crowd is told why", || {
        crowd[0].got().get(40..).filter(|rest| rest.len() == 16)?;
        let _challenge: [u8; 40] = crowd[0].next();
        Some(crowd[0].refusal())
    });
    // A slow machine may have refused it for its silence first. Either way it is gone, and the newest stranger was accepted.
    assert!([Reject::Crowded, Reject::HelloLate].contains(&displaced));
    let (report, _) = finish_with(stage, collector);
    let refused = report.refused();
    let all: u32 = refused.values().sum();
    assert!(all >= 300 - 256 && refused.len() <= 2, "{refused:?}");
}

#[test]
fn garbage_on_the_data_port_is_refused_by_reason() {
    let stage = stage(1, SAMPLES, INTERVAL);
    let collector = stage.collector(4);
    let known = Preamble {
        slot: 4,
        key: *collector.key.public().bytes(),
    };
    let unknown = |slot, seed| Preamble {
        slot,
        key: *collector_key(seed).public().bytes(),
    };
    let changed = |at: usize, byte: u8| {
        let mut bytes = known.encode();
        bytes[at] = byte;
        bytes
    };
    let mut with_observation = known.encode().to_vec();
    with_observation.extend([0x40; Observation::BYTES]);
    let mut half_observation = known.encode().to_vec();
    half_observation.extend([0x40; Observation::BYTES - 1]);
    for bytes in [
        &[0xff; Preamble::BYTES][..],
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: curl\r\n\r\n",
        &changed(4, 2),
        &changed(5, 2),
        &changed(5, 99),
        &changed(7, 1),
        &changed(15, 1),
        &unknown(5, 4).encode(),
        &unknown(u16::MAX, 4).encode(),
        &unknown(4, 77).encode(),
        &unknown(0, 4).encode(),
        &with_observation,
        &half_observation,
    ] {
        let mut peer = Peer::connect(stage.data);
        peer.send(bytes);
        if bytes.len() == half_observation.len() {
            peer.half_close();
        }
        peer.until_ended();
        assert_eq!(peer.got(), [0u8; 0], "the data channel never answers");
    }
    let (report, _) = finish_with(stage, collector);
    let expected = [
        (Reject::Magic, 2),
        (Reject::Version, 1),
        (Reject::Kind, 2),
        (Reject::Reserved, 2),
        (Reject::SlotUnknown, 2),
        (Reject::KeyUnknown, 2),
        (Reject::NoRound, 1),
        (Reject::HalfFrame, 1),
    ];
    assert_eq!(report.refused(), counts(&expected));
}
