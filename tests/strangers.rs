//! Strangers on both ports of an aggregator: they lose their connection, and do the round no harm.
//!
//! In each test, the test plays the last collector and holds it back until the strangers have attacked. So the attack is over
//! (or still runs) when the round begins, however fast the machine is.

mod support;

use rsoracle::keys::secret::SecretKey;
use rsoracle::wire::{DataFrame, FrameKind, Hello, Preamble};
use rsoracle_proof::reason::Reject;
use support::eventually;
use support::peer::*;

/// One of them may be missed.
const SAMPLES: u32 = 5;
/// An interval long enough for collectors on a machine that is busy with strangers.
const INTERVAL: &str = "1s";
const PRICE: f64 = 87_231.42;

/// Plays the collector of the last slot honestly. Asserts that the round has five signatures.
fn finish_with(stage: &Stage, mut collector: TestCollector) -> (Report, String) {
    collector.ready();
    let round = stage.round(&mut [&mut collector]);
    let _data = collector.play(&round, &records(SAMPLES, PRICE));
    finish(stage, &round)
}

fn finish(stage: &Stage, round: &RoundOf) -> (Report, String) {
    let (report, stderr) = stage.report(round);
    assert_eq!(report.signatures_verified, 5, "{stderr}");
    report.assert_price_within_the_first(5);
    (report, stderr)
}

#[test]
fn frames_that_are_no_hello_are_refused_by_reason() {
    let stage = stage(1, SAMPLES, INTERVAL);
    let with = |at: usize, byte: u8| {
        let mut bytes = [0; Hello::BYTES];
        bytes[..8].copy_from_slice(b"RSOR\x02\x02\0\0");
        bytes[at] = byte;
        bytes
    };
    let head = |kind: FrameKind| {
        let mut frame = vec![0; kind.bytes()];
        frame[..8].copy_from_slice(&[b'R', b'S', b'O', b'R', 2, kind as u8, 0, 0]);
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
        (with(4, 1).to_vec(), Reject::Version),
        (with(4, 3).to_vec(), Reject::Version),
        (with(5, 0).to_vec(), Reject::Kind),
        (with(5, 9).to_vec(), Reject::Kind),
        (with(5, 255).to_vec(), Reject::Kind),
        (with(6, 1).to_vec(), Reject::Reserved),
        (with(7, 128).to_vec(), Reject::Reserved),
        (head(FrameKind::Challenge), Reject::Kind),
        (head(FrameKind::Ready), Reject::Kind),
        (head(FrameKind::Sample), Reject::Kind),
        (head(FrameKind::Ping), Reject::Kind),
        (head(FrameKind::Pong), Reject::Kind),
        (head(FrameKind::Refusal), Reject::Kind),
        (head(FrameKind::Preamble), Reject::Kind),
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
    let (report, stderr) = finish_with(&stage, collector);
    assert_eq!(report.refused(), expected);
    for (reason, count) in expected {
        let text = format!("{count} × {reason}");
        assert!(stderr.contains(&text), "{text:?} in {stderr}");
    }
}

#[test]
fn hellos_that_do_not_fit_their_slot_are_refused_by_reason() {
    let stage = stage(1, SAMPLES, INTERVAL);
    let (key, stranger) = (collector_key(4), collector_key(9));
    let refused = |make: &dyn Fn(&[u8; 32]) -> Hello| {
        let (mut peer, nonce) = stage.challenged();
        peer.send(&make(&nonce).encode());
        peer.refusal()
    };
    // Whoever has no key of the roster is not let in, whatever it signs, and be it the aggregator itself.
    let valid = |key: &SecretKey, nonce: &[u8; 32]| hello(key, nonce, &stage.key);
    assert_eq!(
        refused(&|nonce| valid(&stranger, nonce)),
        Reject::KeyUnknown
    );
    let own = stage.key;
    let of_the_aggregator = |nonce: &[u8; 32]| Hello {
        key: *own.bytes(),
        ..valid(&stranger, nonce)
    };
    assert_eq!(refused(&of_the_aggregator), Reject::KeyUnknown);
    // Signed with a key that is not the one shown.
    let posing = |nonce: &[u8; 32]| {
        let mut hello = valid(&key, nonce);
        hello.signature = stranger.sign(&hello.signed_bytes(nonce, &own));
        hello
    };
    assert_eq!(refused(&posing), Reject::HelloSignature);
    // The identity point: under this key, the signature "identity, 0" is valid for any message, unless such keys are refused.
    let weak = |_: &[u8; 32]| {
        let (mut key, mut signature) = ([0; 32], [0; 64]);
        (key[0], signature[0]) = (1, 1);
        Hello {
            key,
            clock_us: 7,
            signature,
        }
    };
    assert_eq!(refused(&weak), Reject::KeyWeak);
    // Meant for another aggregator, which passes it on together with our challenge.
    let other = collector_key(8).public();
    let relayed = |nonce: &[u8; 32]| hello(&key, nonce, &other);
    assert_eq!(refused(&relayed), Reject::HelloSignature);
    // Signed for another connection's nonce.
    let (_first, nonce_of_first) = stage.challenged();
    let replayed = valid(&key, &nonce_of_first);
    assert_eq!(refused(&|_| replayed), Reject::HelloSignature);
    // Any field changed after signing.
    let bytes = [8, 20, 39, 40, 47, 48, 80, 111];
    for byte in bytes {
        let (mut peer, nonce) = stage.challenged();
        let mut bytes = valid(&key, &nonce).encode();
        bytes[byte] ^= 4;
        peer.send(&bytes);
        let reason = peer.refusal();
        let fits = match byte {
            8..40 => [Reject::KeyUnknown, Reject::KeyWeak],
            _ => [Reject::HelloSignature; 2],
        };
        assert!(fits.contains(&reason), "byte {byte}: {reason}");
    }
    let collector = stage.collector(4);
    let (report, _) = finish_with(&stage, collector);
    let mut refused = report.refused();
    // The connection that stayed silent after its challenge, unless the round was over first.
    refused.remove(&Reject::HelloLate);
    assert_eq!(refused[&Reject::HelloSignature], 3 + 5, "{refused:?}");
    assert!(refused[&Reject::KeyUnknown] >= 2, "{refused:?}");
    assert!(refused[&Reject::KeyWeak] >= 1, "{refused:?}");
    let all: u32 = refused.values().sum();
    assert_eq!(all, 2 + 1 + 1 + 1 + 1 + 8, "{refused:?}");
}

#[test]
fn silence_drops_of_bytes_and_half_frames_end_after_a_second_on_either_port() {
    let stage = stage(1, SAMPLES, INTERVAL);
    let key = collector_key(4);
    // Silence, and one byte less than a head, a frame, a preamble.
    let mut late_control: Vec<Peer> = (0..4).map(|_| stage.challenged().0).collect();
    let mut late_data: Vec<Peer> = (0..4).map(|_| Peer::connect(stage.data)).collect();
    let head = *b"RSOR\x02\x02\0\0";
    late_control[1].send(&head[..7]);
    late_control[2].send(&head);
    let (peer, nonce) = stage.challenged();
    late_control.push(peer);
    let whole = hello(&key, &nonce, &stage.key).encode();
    late_control[4].send(&whole[..Hello::BYTES - 1]);
    late_data[1].send(&head[..7]);
    late_data[2].send(b"RSOR\x02\x08\0\0");
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
    let (report, _) = finish_with(&stage, collector);
    let expected = [(Reject::HelloLate, 6 + 5), (Reject::HalfFrame, 2 * 3)];
    assert_eq!(report.refused(), counts(&expected));
}

#[test]
fn a_megabyte_of_anything_on_either_port_costs_the_sender_its_connection() {
    let stage = stage(1, SAMPLES, INTERVAL);
    let key = collector_key(4);
    for control in [true, false, true, false] {
        let mut peer = Peer::connect(if control { stage.control } else { stage.data });
        peer.send(&vec![b'R'; 1 << 20]);
        peer.until_ended();
    }
    // A valid hello with a megabyte behind it: admitted, then refused for what follows.
    let (mut peer, nonce) = stage.challenged();
    let mut bytes = hello(&key, &nonce, &stage.key).encode().to_vec();
    bytes.resize(1 << 20, 0);
    peer.send(&bytes);
    peer.until_ended();
    let collector = stage.collector(4);
    let (report, _) = finish_with(&stage, collector);
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
    // While the collectors get ready ...
    let gathering = flood();
    let mut collector = stage.collector(4);
    collector.ready();
    let round = stage.round(&mut [&mut collector]);
    // ... and while they sample (not both at once: this process may open a thousand files).
    drop(gathering);
    sleep_until(round.start_us);
    let _sampling = flood();
    let _data = collector.play(&round, &records(SAMPLES, PRICE));
    let (report, stderr) = finish(&stage, &round);
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
    let (report, _) = finish_with(&stage, collector);
    let refused = report.refused();
    let all: u32 = refused.values().sum();
    assert!(all >= 300 - 256 && refused.len() <= 2, "{refused:?}");
}

#[test]
fn garbage_on_the_data_port_is_refused_by_reason() {
    let stage = stage(1, SAMPLES, INTERVAL);
    let collector = stage.collector(4);
    let known = Preamble {
        key: *collector.key.public().bytes(),
    };
    let unknown = |seed| Preamble {
        key: *collector_key(seed).public().bytes(),
    };
    let changed = |at: usize, byte: u8| {
        let mut bytes = known.encode();
        bytes[at] = byte;
        bytes
    };
    let mut with_frame = known.encode().to_vec();
    with_frame.extend([0x40; DataFrame::BYTES]);
    let half_frame = &with_frame[..with_frame.len() - 1];
    for bytes in [
        &[0xff; Preamble::BYTES][..],
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: curl\r\n\r\n",
        &changed(4, 1),
        &changed(4, 3),
        &changed(5, 2),
        &changed(5, 99),
        &changed(6, 1),
        &changed(7, 1),
        &unknown(5).encode(),
        &unknown(77).encode(),
        Preamble {
            key: *stage.key.bytes(),
        }
        .encode()
        .as_slice(),
        &with_frame,
        half_frame,
    ] {
        let mut peer = Peer::connect(stage.data);
        peer.send(bytes);
        if bytes.len() == half_frame.len() {
            peer.half_close();
        }
        peer.until_ended();
        assert_eq!(peer.got(), [0u8; 0], "the data channel never answers");
    }
    let (report, _) = finish_with(&stage, collector);
    let expected = [
        (Reject::Magic, 2),
        (Reject::Version, 2),
        (Reject::Kind, 2),
        (Reject::Reserved, 2),
        (Reject::KeyUnknown, 3),
        (Reject::TermsDiffer, 1),
        (Reject::HalfFrame, 1),
    ];
    assert_eq!(report.refused(), counts(&expected));
}
