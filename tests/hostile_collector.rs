//! Enrolled collectors that lie, repeat themselves or stall, and strangers who pose as them on the data port.
//!
//! The test plays the last collectors. The round waits for their answers, so the test controls the order of events.

mod support;

use rsoracle::wire::{FrameKind, Hello, Preamble, Ready, Refusal, Sample};
use rsoracle_proof::reason::{Abstention, Miss, Reject};
use rsoracle_proof::record::{Answer, Observation, Record};
use rsoracle_proof::seal::{ObservationContext, samples_digest};
use support::peer::*;

const PRICE: f64 = 87_231.42;

/// Samples per round: enough for a busy machine to take most in time, and for the test to do its part.
const SAMPLES: u32 = 8;
/// Time between two samples.
const INTERVAL: &str = "1s";
const INTERVAL_US: u64 = 1_000_000;
/// Time from the first sample to the last.
const LAST_US: u64 = (SAMPLES as u64 - 1) * INTERVAL_US;

/// A running round: the stage, the collector of its last slot, and the round that was announced to it.
fn begun() -> (Stage, TestCollector, rsoracle::wire::RoundFrame) {
    let stage = stage(1, SAMPLES, INTERVAL);
    let mut collector = stage.collector(4);
    collector.ready();
    let round = collector.round();
    (stage, collector, round)
}

/// The same, where the test plays the last two collectors: a bad one, and a good one that keeps the round open.
fn begun_with_two() -> (Stage, [(TestCollector, rsoracle::wire::RoundFrame); 2]) {
    let stage = stage(2, SAMPLES, INTERVAL);
    let (mut bad, mut good) = (stage.collector(3), stage.collector(4));
    bad.ready();
    good.ready();
    let rounds = (bad.round(), good.round());
    (stage, [(bad, rounds.0), (good, rounds.1)])
}

/// Sends these observations one after the other, each over its own connection. Each connection must be closed for it.
fn send_refused(collector: &TestCollector, observations: &[[u8; Observation::BYTES]]) {
    for crowd in observations.chunks(50) {
        let send = |bytes| collector.send_observation(bytes);
        let mut peers: Vec<Peer> = crowd.iter().map(send).collect();
        peers.iter_mut().for_each(Peer::until_ended);
    }
}

#[test]
fn any_flipped_bit_of_an_observation_is_refused_and_the_honest_one_still_counts() {
    // A round of 14 seconds, since hundreds of connections take time.
    let stage = stage(1, SAMPLES, "2s");
    let mut collector = stage.collector(4);
    collector.ready();
    let round = collector.round();
    let records = records(SAMPLES, PRICE);
    collector.send_samples(&round, &records);
    let honest = collector.honest(&round, &records).encode();
    let flipped: Vec<[u8; 80]> = (0..640)
        .map(|bit| {
            let mut bytes = honest;
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        })
        .collect();
    send_refused(&collector, &flipped);
    let _data = collector.send_observation(&honest);
    let (report, stderr) = stage.report();
    assert!(
        report.counted(4) && report.signatures_verified == 5,
        "{stderr}"
    );
    report.assert_price_within_the_first(5);
    let refused = report.refused();
    let possible = [Reject::Average, Reject::Timestamp, Reject::Signature];
    assert!(refused.keys().all(|reason| possible.contains(reason)));
    assert_eq!(refused.values().sum::<u32>(), 640, "{refused:?}");
    assert!(refused[&Reject::Signature] >= 512, "{refused:?}");
}

#[test]
fn observations_of_anything_else_are_refused_by_reason_and_the_honest_one_still_counts() {
    let (stage, mut collector, round) = begun();
    let early = collector.honest(&round, &records(SAMPLES, PRICE)).encode();
    let records = records(SAMPLES, PRICE);
    collector.send_samples(&round, &records);
    let digest = samples_digest(&records);
    let true_one = context(4, &round, &digest);
    let (answer, stamp) = (Answer::Price(PRICE), round.start_us + LAST_US + 5);
    let honest = collector.honest(&round, &records);
    assert_eq!((honest.answer, honest.timestamp_us), (answer, stamp));
    assert_eq!(honest.encode(), early, "the same samples, the same bytes");

    let mut session = round.terms_digest;
    session[31] ^= 1;
    let mut other_samples = digest;
    other_samples[0] ^= 1;
    #[rustfmt::skip]
    let contexts: [ObservationContext; 9] = [
        ObservationContext { start_us: round.start_us - 10_000_000, ..true_one },
        ObservationContext { start_us: round.start_us + 1, ..true_one },
        ObservationContext { feed: "ETH/USD", ..true_one },
        ObservationContext { source: "binance:BTCUSDT", ..true_one },
        ObservationContext { slot: 3, ..true_one },
        ObservationContext { terms_digest: &session, ..true_one },
        ObservationContext { samples: SAMPLES - 1, ..true_one },
        ObservationContext { interval_us: INTERVAL_US + 1, ..true_one },
        ObservationContext { samples_digest: &other_samples, ..true_one },
    ];
    let mut bad: Vec<[u8; 80]> = contexts
        .iter()
        .map(|context| collector.sign_over(context, answer, stamp).encode())
        .collect();
    // Signed with another key.
    let mut posing = honest;
    posing.signature = {
        let signed = rsoracle_proof::seal::observation_bytes(&true_one, answer.to_bits(), stamp);
        collector_key(3).sign(&signed)
    };
    bad.push(posing.encode());
    // Averages that are neither prices nor known abstentions. Their bits are what counts, so they are set directly.
    let raw = |bits: u64| {
        let mut bytes = honest.encode();
        bytes[..8].copy_from_slice(&bits.to_be_bytes());
        bytes
    };
    let averages = [
        f64::NAN.to_bits(),
        (-f64::NAN).to_bits(),
        0x7ff0_0000_0000_0001,
        0x7ff8_0000_0000_0000,
        0x7ff8_0000_0000_0004,
        0x7ff8_0000_0001_0001,
        0xfff8_0000_0000_0001,
        f64::INFINITY.to_bits(),
        f64::NEG_INFINITY.to_bits(),
        0,
        (-0.0f64).to_bits(),
        (-PRICE).to_bits(),
        f64::MIN_POSITIVE.to_bits(),
        1.1e15f64.to_bits(),
        f64::MAX.to_bits(),
    ];
    bad.extend(averages.map(raw));
    // Validly signed, but with a timestamp outside the round.
    let signed = |answer, stamp| collector.sign(&round, &records, answer, stamp).encode();
    let last = round.start_us + LAST_US;
    let stamps = [0, 1, round.start_us - 1, last + 500_001, u64::MAX];
    bad.extend(stamps.map(|stamp| signed(answer, stamp)));

    send_refused(&collector, &bad);
    let _data = collector.send_observation(&honest.encode());
    let (report, stderr) = stage.report();
    assert!(
        report.counted(4) && report.signatures_verified == 5,
        "{stderr}"
    );
    report.assert_price_within_the_first(5);
    let expected = [
        (Reject::Average, 15),
        (Reject::Timestamp, 5),
        (Reject::Signature, 10),
    ];
    assert_eq!(report.refused(), counts(&expected));
}

#[test]
fn answers_that_their_samples_do_not_make_are_refused_though_signed_and_exclude_the_true_one() {
    let (stage, mut collector, round) = begun();
    let records = records(SAMPLES, PRICE);
    collector.send_samples(&round, &records);
    let (answer, last) = (Answer::Price(PRICE), round.start_us + LAST_US);
    let stamp = last + 5;
    let signed = |answer, stamp| collector.sign(&round, &records, answer, stamp).encode();
    let averages = [PRICE * 10.0, f64::from_bits(PRICE.to_bits() + 1), 1.0];
    let mut bad: Vec<[u8; 80]> = averages
        .iter()
        .map(|price| signed(Answer::Price(*price), stamp))
        .collect();
    let stamps = [round.start_us, stamp - 1, stamp + 1, last + 500_000];
    bad.extend(stamps.map(|stamp| signed(answer, stamp)));
    bad.push(signed(Answer::Abstain(Abstention::ClockMoved), stamp));
    send_refused(&collector, &bad);
    let honest = collector.honest(&round, &records);
    assert_eq!((honest.answer, honest.timestamp_us), (answer, stamp));
    let _data = collector.send_observation(&honest.encode());
    let (report, stderr) = stage.report();
    assert_eq!(report.collectors[4].standing, "equivocated", "{stderr}");
    assert_eq!(report.signatures_verified, 4);
    report.assert_price_within_the_first(4);
    let expected = [
        (Reject::AverageDiffers, 3),
        (Reject::TimestampDiffers, 5),
        (Reject::Equivocation, 1),
    ];
    assert_eq!(report.refused(), counts(&expected));
}

#[test]
fn the_same_observation_twice_counts_once_and_a_second_answer_excludes_both() {
    let (stage, [(mut bad, round), (mut good, round_4)]) = begun_with_two();
    let records = records(SAMPLES, PRICE);
    let honest = good.honest(&round_4, &records).encode();
    // Before its samples, an observation waits; one that waits is not yet a duplicate.
    let mut data = bad.play(&round, &records);
    send_refused(&bad, &[bad.honest(&round, &records).encode()]);
    let other = bad.sign(
        &round,
        &records,
        Answer::Abstain(Abstention::ClockMoved),
        round.start_us,
    );
    data.send(&other.encode());
    data.until_ended();
    send_refused(&bad, &[other.encode()]);
    good.send_samples(&round_4, &records);
    let mut data = good.send_observation(&honest);
    data.send(&honest);
    let (report, stderr) = stage.report();
    assert_eq!(report.collectors[3].standing, "equivocated", "{stderr}");
    assert!(report.counted(4) && report.collectors[3].price.is_some());
    assert!(stderr.contains("excluded: it signed two different answers"));
    report.assert_price_within_the_first(3);
    let refused = report.refused();
    assert_eq!(refused[&Reject::Equivocation], 1);
    // The good collector's repetition may arrive after the round is over.
    assert!([2, 3].contains(&refused[&Reject::Duplicate]), "{refused:?}");
    assert_eq!(refused.len(), 2, "{refused:?}");
}

#[test]
fn an_observation_before_its_samples_counts_once_they_come_and_never_without_them() {
    let (stage, [(mut bad, round), (mut good, round_4)]) = begun_with_two();
    let records = records(SAMPLES, PRICE);
    let _bad = bad.send_observation(&bad.honest(&round, &records).encode());
    bad.send_samples(&round, &records[..2]);
    let _good = good.send_observation(&good.honest(&round_4, &records).encode());
    // The aggregator polls connections in order of arrival: once this one is refused, it has seen the earlier ones.
    let mut later = Peer::connect(stage.data);
    later.send(&[0; Preamble::BYTES]);
    later.until_ended();
    good.send_samples(&round_4, &records);
    let (report, stderr) = stage.report();
    assert!(report.counted(4), "{stderr}");
    assert_eq!(report.collectors[3].standing, "silent");
    assert_eq!(report.signatures_verified, 4);
    report.assert_price_within_the_first(3);
    let expected = [(Reject::Magic, 1), (Reject::SamplesMissing, 1)];
    assert_eq!(report.refused(), counts(&expected));
}

#[test]
fn an_observation_before_the_round_is_refused_and_samples_too() {
    let stage = stage(1, SAMPLES, INTERVAL);
    let mut collector = stage.collector(4);
    let records = records(SAMPLES, PRICE);
    let nowhen = rsoracle::wire::RoundFrame {
        start_us: 1,
        interval_us: INTERVAL_US,
        samples: SAMPLES,
        terms_digest: [0; 32],
        signature: [0; 64],
    };
    let mut data = collector.play(&nowhen, &records);
    data.until_ended();
    collector.ready();
    let round = collector.round();
    let _data = collector.play(&round, &records);
    let (report, _) = stage.report();
    assert!(report.counted(4) && report.signatures_verified == 5);
    let reasons: Vec<Reject> = report.refused().into_keys().collect();
    assert_eq!(reasons, [Reject::NoRound], "{:?}", report.refused());
    assert_eq!(report.refused()[&Reject::NoRound], SAMPLES + 1);
}

#[test]
fn prices_of_too_few_samples_are_refused_though_signed_and_an_abstention_counts() {
    let (stage, [(mut bad, round), (mut good, round_4)]) = begun_with_two();
    let records = records_with_misses(SAMPLES, PRICE, 2);
    bad.send_samples(&round, &records);
    let stamp = round.start_us + LAST_US + 5;
    let price = bad.sign(&round, &records, Answer::Price(PRICE), stamp);
    send_refused(&bad, &[price.encode()]);
    good.send_samples(&round_4, &records);
    let honest = good.honest(&round_4, &records);
    assert_eq!(honest.answer, Answer::Abstain(Abstention::TooFewSamples));
    let _data = good.send_observation(&honest.encode());
    let (report, _) = stage.report();
    assert_eq!(report.collectors[3].standing, "silent");
    let (standing, why) = (
        &report.collectors[4].standing,
        &report.collectors[4].abstains,
    );
    let expected = Abstention::TooFewSamples.sentence();
    assert_eq!(
        (standing.as_str(), why.as_deref()),
        ("abstained", Some(expected))
    );
    assert_eq!(report.signatures_verified, 4);
    report.assert_price_within_the_first(3);
    assert_eq!(report.refused(), counts(&[(Reject::TooFewSamples, 1)]));
}

#[test]
fn samples_twice_out_of_order_of_another_round_broken_or_late_are_refused_by_reason() {
    let (stage, mut collector, round) = begun();
    let records = records(SAMPLES, PRICE);
    let frame = |record: Record| {
        let start_us = round.start_us;
        Sample { start_us, record }.encode()
    };
    let mut raw = |at: usize, bytes: &[u8]| {
        let mut sample = frame(records[0]);
        sample[16 + at..16 + at + bytes.len()].copy_from_slice(bytes);
        assert!(collector.control.send(&sample));
    };
    // Record: index 4, reason 2, zero 2, price 8, lateness 8, age 8.
    raw(4, &Miss::NoReply.code().to_be_bytes()); // a miss with a price
    raw(4, &[0xff, 0xff]); // no such reason
    raw(8, &f64::NAN.to_be_bytes());
    raw(8, &f64::INFINITY.to_be_bytes());
    raw(8, &(-1.0f64).to_be_bytes());
    raw(8, &[0; 8]);
    raw(16, &[0xff; 8]); // a price never asked for
    raw(6, &[0, 1]);
    let broken = Record {
        price: Err(Miss::NoReply),
        age_us: Some(1),
        ..records[0]
    };
    for bad in [
        broken, // an age and no price
        records[1],
        records[3],
        Record {
            index: SAMPLES,
            ..records[0]
        },
        Record {
            index: u32::MAX,
            ..records[0]
        },
        Record {
            lateness_us: Some(500_001),
            ..records[0]
        },
        Record {
            lateness_us: Some(u64::MAX - 1),
            ..records[0]
        },
    ] {
        assert!(collector.control.send(&frame(bad)));
    }
    for start_us in [0, round.start_us - 1, round.start_us + 1, u64::MAX] {
        let record = records[0];
        assert!(
            collector
                .control
                .send(&Sample { start_us, record }.encode())
        );
    }
    collector.send_samples(&round, &records);
    for again in [0, SAMPLES as usize - 1] {
        assert!(collector.control.send(&frame(records[again])));
    }
    // An answer that is signed for other samples than those sent is invalid; the one for those sent is valid.
    let mut others = records.clone();
    others[2].lateness_us = Some(6);
    let mut swapped = records.clone();
    swapped.swap(0, 1);
    send_refused(
        &collector,
        &[
            collector.honest(&round, &others).encode(),
            collector.honest(&round, &swapped).encode(),
            collector
                .honest(&round, &records[..SAMPLES as usize - 1])
                .encode(),
        ],
    );
    let _data = collector.send_observation(&collector.honest(&round, &records).encode());
    let (report, stderr) = stage.report();
    assert!(report.counted(4), "{stderr}");
    assert_eq!(report.signatures_verified, 5);
    let expected = [
        (Reject::Reserved, 1),
        (Reject::Signature, 3),
        (Reject::SampleRound, 4),
        (Reject::SampleOrder, 4 + 2),
        (Reject::SampleBroken, 9),
        (Reject::SampleLate, 1),
    ];
    assert_eq!(report.refused(), counts(&expected));
}

#[test]
fn a_preamble_that_overtakes_its_hello_is_no_strangers() {
    let stage = stage(1, SAMPLES, INTERVAL);
    let mut data = Peer::connect(stage.data);
    let preamble = Preamble {
        slot: 4,
        key: *collector_key(4).public().bytes(),
    };
    data.send(&preamble.encode());
    // Once this later connection is refused, the aggregator has seen the one before.
    let mut later = Peer::connect(stage.data);
    later.send(&[0; Preamble::BYTES]);
    later.until_ended();
    let mut collector = stage.collector(4);
    collector.ready();
    let round = collector.round();
    let records = records(SAMPLES, PRICE);
    collector.send_samples(&round, &records);
    data.send(&collector.honest(&round, &records).encode());
    let (report, stderr) = stage.report();
    assert!(report.counted(4), "{stderr}");
    assert_eq!(report.refused(), counts(&[(Reject::Magic, 1)]));
}

#[test]
fn a_preamble_for_a_slot_that_nobody_has_taken_is_refused_after_a_second() {
    let stage = stage(1, SAMPLES, INTERVAL);
    let posing = Preamble {
        slot: 4,
        key: *collector_key(9).public().bytes(),
    };
    for ends in [false, true] {
        let mut data = Peer::connect(stage.data);
        data.send(&posing.encode());
        if ends {
            data.half_close();
        }
        data.until_ended();
    }
    let mut collector = stage.collector(4);
    collector.ready();
    let round = collector.round();
    let _data = collector.play(&round, &records(SAMPLES, PRICE));
    let (report, stderr) = stage.report();
    assert!(report.counted(4), "{stderr}");
    assert_eq!(report.refused(), counts(&[(Reject::KeyUnknown, 2)]));
}

#[test]
fn a_crowd_that_names_a_collectors_key_displaces_nobody() {
    let (stage, [(mut named, round), (mut good, round_4)]) = begun_with_two();
    let records = records(SAMPLES, PRICE);
    let (mut data, mut data_4) = (named.open_data(), good.open_data());
    // The aggregator knows both before the crowd comes, since it polls connections in order.
    let mut later = Peer::connect(stage.data);
    later.send(&[0; Preamble::BYTES]);
    later.until_ended();
    let mut crowd: Vec<Peer> = (0..400).map(|_| named.open_data()).collect();
    let nameless: Vec<Peer> = (0..100).map(|_| Peer::connect(stage.data)).collect();
    support::eventually("the crowd displaces its own", || {
        let gone = crowd
            .iter_mut()
            .filter_map(|peer| peer.ended().then_some(()));
        (gone.count() >= 400 - 261).then_some(())
    });
    assert!(!data.ended(), "the first that named the key has stayed");
    assert!(!data_4.ended(), "so has the one of another slot");
    named.send_samples(&round, &records);
    data.send(&named.honest(&round, &records).encode());
    good.send_samples(&round_4, &records);
    data_4.send(&good.honest(&round_4, &records).encode());
    let (report, stderr) = stage.report();
    assert!(report.counted(3) && report.counted(4), "{stderr}");
    assert_eq!(report.signatures_verified, 5);
    report.assert_price_within_the_first(5);
    assert!(report.refused()[&Reject::Crowded] >= 400 - 261);
    drop(nameless);
}

#[test]
fn a_member_that_floods_is_heard_in_turns_and_the_round_goes_on() {
    let (stage, mut collector, round) = begun();
    let records = records(SAMPLES, PRICE);
    let record = records[0];
    let sample = Sample {
        start_us: 7,
        record,
    };
    let ready = Ready {
        clock_us: u64::MAX,
        price: 1.0,
    };
    let flood = [sample.encode().repeat(20), ready.encode().repeat(5)].concat();
    for _ in 0..100 {
        assert!(collector.control.send(&flood));
    }
    let _data = collector.play(&round, &records);
    let (report, stderr) = stage.report();
    assert!(report.counted(4), "{stderr}");
    assert_eq!(report.refused(), counts(&[(Reject::SampleRound, 2_000)]));
}

#[test]
fn a_member_that_sends_what_has_no_place_is_out_and_the_round_goes_on_without_it() {
    let head = |kind: FrameKind| {
        let mut frame = vec![0; kind.bytes()];
        frame[..8].copy_from_slice(&[b'R', b'S', b'O', b'R', 1, kind as u8, 0, 0]);
        frame
    };
    let mut bad_price = Ready {
        clock_us: 0,
        price: PRICE,
    }
    .encode();
    bad_price[16..].copy_from_slice(&f64::NAN.to_be_bytes());
    let refusal = Refusal {
        reason: Reject::RoundShape,
    };
    let mut unknown_refusal = refusal.encode();
    unknown_refusal[8..10].copy_from_slice(&[0xff, 0xff]);
    let cases = [
        (head(FrameKind::Challenge), Reject::Kind),
        (head(FrameKind::Hello), Reject::Kind),
        (head(FrameKind::Round), Reject::Kind),
        (head(FrameKind::Preamble), Reject::Kind),
        (b"RSOR\x01\x09\0\0".to_vec(), Reject::Kind),
        (b"RSOR\x02\x05\0\0".to_vec(), Reject::Version),
        (b"RSOR\x01\x05\0\x01".to_vec(), Reject::Reserved),
        (vec![0; 1 << 16], Reject::Magic),
        (bad_price.to_vec(), Reject::Average),
        (unknown_refusal.to_vec(), Reject::Kind),
        // Half a frame, then nothing more: refused after a second.
        (head(FrameKind::Sample)[..47].to_vec(), Reject::FrameLate),
        (b"RSOR".to_vec(), Reject::FrameLate),
    ];
    // Several aggregators run at once, since each round lasts some seconds, whatever the member does.
    for cases in cases.chunks(6) {
        let playing: Vec<_> = cases
            .iter()
            .map(|(bytes, _)| {
                let (stage, mut collector, _) = begun();
                collector.control.send(bytes);
                (stage, collector)
            })
            .collect();
        for ((stage, mut collector), (bytes, reason)) in playing.into_iter().zip(cases) {
            if bytes.len() <= Hello::BYTES {
                assert_eq!(collector.control.refusal(), *reason);
            } else {
                collector.control.until_ended();
            }
            let (report, stderr) = stage.report();
            report.assert_price_within_the_first(4);
            assert_eq!(report.refused(), counts(&[(*reason, 1)]), "{stderr}");
            assert_eq!(report.collectors[4].standing, "silent");
            let expected = format!("refused: {reason}");
            assert_eq!(support::remark(&stderr, 4), Some(expected.as_str()));
        }
    }
}

#[test]
fn a_member_that_refuses_the_round_is_out_and_its_reason_is_not_counted_as_ours() {
    let (stage, mut collector, _) = begun();
    let reason = Reject::RoundShape;
    collector.control.send(&Refusal { reason }.encode());
    collector.control.until_ended();
    let (report, stderr) = stage.report();
    report.assert_price_within_the_first(4);
    assert_eq!(report.refused(), counts(&[]));
    let expected = format!("it refused this aggregator: {reason}");
    assert_eq!(support::remark(&stderr, 4), Some(expected.as_str()));
}

#[test]
fn a_member_that_becomes_ready_in_mid_round_is_not_waited_for() {
    let stage = impatient_stage(1, SAMPLES, INTERVAL, "15s");
    let mut late = stage.collector(4);
    stage.running.stderr_line(" of 5 collectors ready");
    late.ready();
    let (report, stderr) = stage.report();
    report.assert_price_within_the_first(4);
    assert_eq!(report.collectors[4].standing, "silent");
    let remark = "no first price from the exchange in time";
    assert_eq!(support::remark(&stderr, 4), Some(remark));
    assert!(stderr.contains("sample 8 of 8: "), "{stderr}");
    assert_eq!(late.control.got(), [0u8; 0], "it was never told of a round");
}
