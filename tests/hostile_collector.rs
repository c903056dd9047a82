//! Collectors of the roster that lie, repeat themselves or stall, and strangers who pose as them on the data port.
//!
//! The test plays the last collectors. A round waits for their answers, so that the test controls the order of events until the
//! round's end: it has two seconds from the last sample that it sends.

mod support;

use rsoracle::system::now::wall_us;
use rsoracle::wire::{DataFrame, FrameKind, Hello, Pong, Preamble, Refusal, Sample};
use rsoracle_proof::reason::{Abstention, Miss, Reject};
use rsoracle_proof::record::{Answer, Observation, Record};
use rsoracle_proof::seal::{ObservationContext, observation_bytes, samples_digest};
use rsoracle_proof::terms::{Terms, tag};
use std::time::{Duration, Instant};
use support::eventually;
use support::peer::*;

const PRICE: f64 = 87_231.42;

/// Samples per round. One of them may be missed.
const SAMPLES: u32 = 5;
/// Time between two samples: enough for collectors on a busy machine.
const INTERVAL: &str = "1s";

/// A round that is about to begin: the stage, and the collector of its last slot.
fn begun() -> (Stage, TestCollector, RoundOf) {
    let stage = stage(1, SAMPLES, INTERVAL);
    let mut collector = stage.collector(4);
    collector.ready();
    let round = stage.round(&mut [&mut collector]);
    (stage, collector, round)
}

/// The same, where the test plays the last two collectors: a bad one, and a good one that keeps the round open.
fn begun_with_two() -> (Stage, TestCollector, TestCollector, RoundOf) {
    let stage = stage(2, SAMPLES, INTERVAL);
    let (mut bad, mut good) = (stage.collector(3), stage.collector(4));
    bad.ready();
    good.ready();
    let round = stage.round(&mut [&mut bad, &mut good]);
    (stage, bad, good, round)
}

/// Sends these observations one after the other, each over its own connection. Each connection must be closed for it.
fn send_refused(
    collector: &TestCollector,
    round: &RoundOf,
    observations: &[[u8; Observation::BYTES]],
) {
    for crowd in observations.chunks(50) {
        let send = |bytes| collector.send_observation(round, bytes);
        let mut peers: Vec<Peer> = crowd.iter().map(send).collect();
        peers.iter_mut().for_each(Peer::until_ended);
    }
}

/// Sends these bytes on a data connection that names this collector. It must be closed for them.
fn send_refused_bytes(collector: &TestCollector, bytes: &[u8]) {
    let mut peer = collector.open_data();
    peer.send(bytes);
    peer.until_ended();
}

/// Waits until the aggregator has handled all connections to its data port so far: it polls them in the order of their arrival.
/// Counts as one refusal for [`Reject::Magic`].
fn all_heard(stage: &Stage) {
    let mut later = Peer::connect(stage.data);
    later.send(&[0; Preamble::BYTES]);
    later.until_ended();
}

#[test]
fn any_flipped_bit_of_an_observation_is_refused_and_the_honest_one_still_counts() {
    // As many rounds as it takes.
    let stage = stage(1, 1, INTERVAL);
    let mut collector = stage.collector(4);
    collector.ready();
    let mut round = stage.round(&mut [&mut collector]);
    let records = records(1, PRICE);
    let mut bits = 0..640;
    loop {
        collector.send_samples(&round, &records);
        let honest = collector.honest(&round, &records).encode();
        while wall_us() < round.start_us + 500_000 && !bits.is_empty() {
            let flipped = bits.by_ref().take(10).map(|bit: usize| {
                let mut bytes = honest;
                bytes[bit / 8] ^= 1 << (bit % 8);
                bytes
            });
            send_refused(&collector, &round, &flipped.collect::<Vec<_>>());
        }
        let _data = collector.send_observation(&round, &honest);
        let (report, stderr) = stage.report(&round);
        assert!(report.counted(4), "{stderr}");
        assert_eq!(report.signatures_verified, 5, "{stderr}");
        report.assert_price_within_the_first(5);
        if bits.is_empty() {
            let refused = report.refused();
            let possible = [Reject::Average, Reject::Timestamp, Reject::Signature];
            assert!(refused.keys().all(|reason| possible.contains(reason)));
            assert_eq!(refused.values().sum::<u32>(), 640, "{refused:?}");
            assert!(refused[&Reject::Signature] >= 512, "{refused:?}");
            return;
        }
        round = stage.round_from(wall_us());
    }
}

/// The digests of terms that differ from these in one thing each.
fn other_digests(terms: &Terms) -> Vec<[u8; 32]> {
    type Change = fn(&mut Terms);
    let changes: [Change; 7] = [
        |terms| terms.feed = "ETH/USD".into(),
        |terms| terms.seats[4].source = "binance:BTCUSDT".into(),
        |terms| terms.seats.swap(0, 1),
        |terms| terms.age_us_max = None,
        |terms| terms.schedule.samples -= 1,
        |terms| terms.schedule.interval_us += 1,
        |terms| terms.schedule.period_us += 1_000_000,
    ];
    let changed = |change: &Change| {
        let mut terms = terms.clone();
        change(&mut terms);
        terms.digest()
    };
    changes.iter().map(changed).collect()
}

/// Averages that are neither prices nor known abstentions, as their bits.
const BAD_AVERAGES: [u64; 15] = [
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

#[test]
fn observations_of_anything_else_are_refused_by_reason_and_the_honest_one_still_counts() {
    let (stage, mut collector, round) = begun();
    let early = collector.honest(&round, &records(SAMPLES, PRICE)).encode();
    let records = records(SAMPLES, PRICE);
    collector.send_samples(&round, &records);
    let digest = samples_digest(&records);
    let true_one = context(4, &round, &digest);
    let (answer, stamp) = (Answer::Price(PRICE), round.last_us() + 5);
    let honest = collector.honest(&round, &records);
    assert_eq!((honest.answer, honest.timestamp_us), (answer, stamp));
    assert_eq!(honest.encode(), early, "the same samples, the same bytes");

    let mut other_samples = digest;
    other_samples[0] ^= 1;
    let others = other_digests(&stage.terms);
    let of_terms = |terms_digest| ObservationContext {
        terms_digest,
        ..true_one
    };
    #[rustfmt::skip]
    let mut contexts = vec![
        ObservationContext { start_us: round.start_us - round.schedule.period_us, ..true_one },
        ObservationContext { start_us: round.start_us + 1, ..true_one },
        ObservationContext { slot: 3, ..true_one },
        ObservationContext { samples_digest: &other_samples, ..true_one },
    ];
    contexts.extend(others.iter().map(of_terms));
    let mut bad: Vec<[u8; 80]> = contexts
        .iter()
        .map(|context| collector.sign_over(context, answer, stamp).encode())
        .collect();
    // Signed with another key.
    let mut posing = honest;
    let signed = observation_bytes(&true_one, answer.to_bits(), stamp);
    posing.signature = collector_key(3).sign(&signed);
    bad.push(posing.encode());
    // Not even a collector that means it can put these bits into an answer, so they are set directly.
    let raw = |bits: u64| {
        let mut bytes = honest.encode();
        bytes[..8].copy_from_slice(&bits.to_be_bytes());
        bytes
    };
    bad.extend(BAD_AVERAGES.map(raw));
    // Validly signed, but with a timestamp outside the round.
    let signed = |stamp| collector.sign(&round, &records, answer, stamp).encode();
    let latest = round.last_us() + round.schedule.lateness_us_max();
    bad.extend([0, 1, round.start_us - 1, latest + 1, u64::MAX].map(signed));

    send_refused(&collector, &round, &bad);
    let _data = collector.send_observation(&round, &honest.encode());
    let (report, stderr) = stage.report(&round);
    assert!(
        report.counted(4) && report.signatures_verified == 5,
        "{stderr}"
    );
    report.assert_price_within_the_first(5);
    let expected = [
        (Reject::Average, 15),
        (Reject::Timestamp, 5),
        (Reject::Signature, 4 + 7 + 1),
    ];
    assert_eq!(report.refused(), counts(&expected));
}

#[test]
fn frames_of_other_terms_of_no_round_early_or_late_are_refused_by_reason_and_the_honest_ones_count()
{
    let (stage, mut collector, round) = begun();
    let records = records(SAMPLES, PRICE);
    let others = other_digests(&stage.terms);
    let of_terms = |terms_digest: &[u8; 32]| RoundOf {
        terms_digest: *terms_digest,
        ..round
    };
    let at = |start_us| RoundOf { start_us, ..round };
    let period_us = round.schedule.period_us;
    let [soon, far] = [2, 1_000_000].map(|periods| at(round.start_us + periods * period_us));
    let off = [
        round.start_us + 1,
        round.start_us + period_us / 2,
        u64::MAX - 10_000_000,
    ]
    .map(at);
    // Before the round, and again in it.
    for _ in 0..2 {
        let of_others = others.iter().map(of_terms);
        for round in of_others.chain(off).chain([soon, far]) {
            collector.send_sample(&round, records[0]);
            let bytes = collector.honest(&round, &records).encode();
            send_refused(&collector, &round, &[bytes]);
        }
        sleep_until(round.start_us);
    }
    collector.send_samples(&round, &records);
    let honest = collector.honest(&round, &records).encode();
    let _data = collector.send_observation(&round, &honest);
    let (report, stderr) = stage.report(&round);
    assert!(report.counted(4), "{stderr}");
    let mut expected = counts(&[
        (Reject::TermsDiffer, 2 * 2 * 7),
        (Reject::StartUnknown, 2 * 2 * 3),
        (Reject::TooEarly, 2 * 2 * 2),
    ]);
    assert_eq!(report.refused(), expected, "{stderr}");
    // All that belongs to a round is worth nothing in the next one.
    let next = round.next();
    for record in &records {
        collector.send_sample(&round, *record);
    }
    send_refused(&collector, &round, &[honest]);
    collector.play(&next, &records);
    let (report, stderr) = stage.report(&next);
    assert!(report.counted(4), "{stderr}");
    expected.insert(Reject::RoundOver, SAMPLES + 1);
    assert_eq!(report.refused(), expected, "{stderr}");
}

#[test]
fn answers_that_their_samples_do_not_make_are_refused_though_signed_and_exclude_the_true_one() {
    let (stage, mut collector, round) = begun();
    let records = records(SAMPLES, PRICE);
    collector.send_samples(&round, &records);
    let (answer, last) = (Answer::Price(PRICE), round.last_us());
    let stamp = last + 5;
    let signed = |answer, stamp| collector.sign(&round, &records, answer, stamp).encode();
    let averages = [PRICE * 10.0, f64::from_bits(PRICE.to_bits() + 1), 1.0];
    let mut bad: Vec<[u8; 80]> = averages
        .iter()
        .map(|price| signed(Answer::Price(*price), stamp))
        .collect();
    let latest = last + round.schedule.lateness_us_max();
    let stamps = [round.start_us, stamp - 1, stamp + 1, latest];
    bad.extend(stamps.map(|stamp| signed(answer, stamp)));
    bad.push(signed(Answer::Abstain(Abstention::ClockMoved), stamp));
    send_refused(&collector, &round, &bad);
    let honest = collector.honest(&round, &records);
    assert_eq!((honest.answer, honest.timestamp_us), (answer, stamp));
    let _data = collector.send_observation(&round, &honest.encode());
    let (report, stderr) = stage.report(&round);
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
    let (stage, mut bad, mut good, round) = begun_with_two();
    let records = records(SAMPLES, PRICE);
    let honest = good.honest(&round, &records).encode();
    // Before its samples, an observation waits; one that waits is not yet a duplicate.
    let mut data = bad.play(&round, &records);
    send_refused(&bad, &round, &[bad.honest(&round, &records).encode()]);
    let other = bad.sign(
        &round,
        &records,
        Answer::Abstain(Abstention::ClockMoved),
        round.start_us,
    );
    data.send(&data_frame(&round, &other.encode()));
    data.until_ended();
    send_refused(&bad, &round, &[other.encode()]);
    good.send_samples(&round, &records);
    let mut data = good.send_observation(&round, &honest);
    data.send(&data_frame(&round, &honest));
    let (report, stderr) = stage.report(&round);
    assert_eq!(report.collectors[3].standing, "equivocated", "{stderr}");
    assert!(report.counted(4) && report.collectors[3].price.is_some());
    assert!(
        silence(&stderr, 3).starts_with("excluded: it signed two different answers"),
        "{stderr}"
    );
    report.assert_price_within_the_first(3);
    let refused = report.refused();
    assert_eq!(refused[&Reject::Equivocation], 1);
    // The good collector's repetition may arrive after the round is over.
    assert!([2, 3].contains(&refused[&Reject::Duplicate]), "{refused:?}");
    assert_eq!(refused.len(), 2, "{refused:?}");
}

#[test]
fn an_observation_before_its_samples_counts_once_they_come_and_never_without_them() {
    let (stage, mut bad, mut good, round) = begun_with_two();
    let records = records(SAMPLES, PRICE);
    // Before the round begins, too.
    sleep_until(round.start_us - 500_000);
    let _bad = bad.send_observation(&round, &bad.honest(&round, &records).encode());
    bad.send_samples(&round, &records[..2]);
    let _good = good.send_observation(&round, &good.honest(&round, &records).encode());
    all_heard(&stage);
    good.send_samples(&round, &records);
    let (report, stderr) = stage.report(&round);
    assert!(report.counted(4), "{stderr}");
    assert_eq!(report.collectors[3].standing, "silent");
    assert_eq!(report.signatures_verified, 4);
    report.assert_price_within_the_first(3);
    let expected = [(Reject::Magic, 1), (Reject::SamplesMissing, 1)];
    assert_eq!(report.refused(), counts(&expected));
}

#[test]
fn prices_of_too_few_samples_are_refused_though_signed_and_an_abstention_counts() {
    let (stage, mut bad, mut good, round) = begun_with_two();
    let records = records_with_misses(SAMPLES, PRICE, 2);
    bad.send_samples(&round, &records);
    let stamp = round.last_us() + 5;
    let price = bad.sign(&round, &records, Answer::Price(PRICE), stamp);
    send_refused(&bad, &round, &[price.encode()]);
    good.send_samples(&round, &records);
    let honest = good.honest(&round, &records);
    assert_eq!(honest.answer, Answer::Abstain(Abstention::TooFewSamples));
    let _data = good.send_observation(&round, &honest.encode());
    let (report, _) = stage.report(&round);
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

/// Sends first samples that are broken, late or old: nine, one and one.
fn send_bad_first_samples(collector: &mut TestCollector, round: &RoundOf, first: Record) {
    let mut raw = |at: usize, bytes: &[u8]| {
        let sample = Sample {
            tag: tag(&round.terms_digest),
            start_us: round.start_us,
            record: first,
        };
        let mut sample = sample.encode();
        sample[24 + at..24 + at + bytes.len()].copy_from_slice(bytes);
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
    let lateness_us_max = round.schedule.lateness_us_max();
    for bad in [
        Record {
            price: Err(Miss::NoReply),
            age_us: Some(1),
            ..first // an age and no price
        },
        Record {
            lateness_us: Some(u64::MAX - 1),
            ..first
        },
        Record {
            lateness_us: Some(lateness_us_max + 1),
            ..first
        },
        Record {
            age_us: Some(60_000_001),
            ..first
        },
    ] {
        collector.send_sample(round, bad);
    }
}

#[test]
fn samples_twice_out_of_order_broken_late_early_or_old_are_refused_by_reason() {
    let (stage, mut collector, round) = begun();
    let mut records = records(SAMPLES, PRICE);
    // As late and as old as they may be.
    records[1].lateness_us = Some(round.schedule.lateness_us_max());
    records[1].age_us = Some(60_000_000);
    sleep_until(round.start_us - 500_000);
    send_bad_first_samples(&mut collector, &round, records[0]);
    for index in [2, SAMPLES, u32::MAX] {
        let early = Record {
            index,
            ..records[0]
        };
        collector.send_sample(&round, early);
    }
    sleep_until(round.instant_us(2));
    for skipped in [1, 2, 3] {
        collector.send_sample(&round, records[skipped]);
    }
    collector.send_samples(&round, &records);
    sleep_until(round.last_us() + 50_000);
    let beyond = Record {
        index: SAMPLES,
        ..records[0]
    };
    for again in [records[0], records[SAMPLES as usize - 1], beyond] {
        collector.send_sample(&round, again);
    }
    // An answer that is signed for other samples than those sent is invalid; the one for those sent is valid.
    let mut others = records.clone();
    others[2].lateness_us = Some(6);
    let mut swapped = records.clone();
    swapped.swap(0, 1);
    let fewer = &records[..SAMPLES as usize - 1];
    let signed = [&others, &swapped, fewer];
    let signed = signed.map(|records| collector.honest(&round, records).encode());
    send_refused(&collector, &round, &signed);
    let _data = collector.send_observation(&round, &collector.honest(&round, &records).encode());
    let (report, stderr) = stage.report(&round);
    assert!(report.counted(4), "{stderr}");
    assert_eq!(report.signatures_verified, 5);
    let expected = [
        (Reject::Reserved, 1),
        (Reject::Signature, 3),
        (Reject::SampleOrder, 3 + 3),
        (Reject::SampleBroken, 9),
        (Reject::SampleLate, 1),
        (Reject::SampleOld, 1),
        (Reject::TooEarly, 3),
    ];
    assert_eq!(report.refused(), counts(&expected));
}

#[test]
fn an_answer_counts_with_the_samples_of_whichever_connection_of_its_key_it_fits() {
    let (stage, mut first, round) = begun();
    let mut second = stage.collector(4);
    second.ready();
    let (honest, mut others) = (records(SAMPLES, PRICE), records(SAMPLES, PRICE));
    others[0].lateness_us = Some(6);
    // All samples came over both, but not the same. The answer fits those of the second, then those of the first.
    let mut next = round;
    for signed in [&others, &honest] {
        let round = next;
        next = round.next();
        for (record, other) in honest.iter().zip(&others) {
            first.send_samples(&round, &[*record]);
            second.send_sample(&round, *other);
        }
        let neither = first.honest(&round, &records(SAMPLES, 1.0)).encode();
        send_refused(&first, &round, &[neither]);
        let answer = first.honest(&round, signed).encode();
        let _data = first.send_observation(&round, &answer);
        let (report, stderr) = stage.report(&round);
        assert!(report.counted(4), "{stderr}");
    }

    // The answer comes before the last of its samples, when the other connection has brought others.
    let round = next;
    let last = honest.len() - 1;
    second.send_samples(&round, &records(SAMPLES, 2.0));
    first.send_samples(&round, &honest[..last]);
    let _early = first.send_observation(&round, &first.honest(&round, &honest).encode());
    all_heard(&stage);
    first.send_samples(&round, &honest[last..]);
    let (report, stderr) = stage.report(&round);
    assert!(report.counted(4), "{stderr}");

    // The host of one vanishes in mid-round. The other connection was opened later, and gets the records from the first.
    let round = round.next();
    first.send_samples(&round, &honest[..2]);
    second.send_samples(&round, &honest);
    let _data = second.send_observation(&round, &second.honest(&round, &honest).encode());
    let (report, stderr) = stage.report(&round);
    assert!(report.counted(4), "{stderr}");

    // A connection that has brought everything may end before the answer comes.
    let round = round.next();
    second.send_samples(&round, &honest);
    drop(second);
    let _data = first.send_observation(&round, &first.honest(&round, &honest).encode());
    let (report, stderr) = stage.report(&round);
    assert!(report.counted(4), "{stderr}");
    assert_eq!(
        report.refused(),
        counts(&[(Reject::Magic, 1), (Reject::Signature, 2)])
    );
}

#[test]
fn a_third_connection_of_a_key_displaces_the_one_that_was_silent_longest() {
    let stage = stage(1, SAMPLES, INTERVAL);
    let mut first = stage.collector(4);
    let mut second = stage.collector(4);
    // The aggregator greets a stranger after it has read what members have sent.
    stage.challenged();
    first.ready();
    let mut third = stage.collector(4);
    assert_eq!(second.control.refusal(), Reject::Displaced);
    third.ready();
    let round = stage.round(&mut [&mut first, &mut third]);
    let records = records(SAMPLES, PRICE);
    let _data = first.play(&round, &records);
    let (report, stderr) = stage.report(&round);
    assert!(report.counted(4), "{stderr}");
    assert_eq!(report.refused(), counts(&[(Reject::Displaced, 1)]));
    assert!(!first.control.ended() && !third.control.ended());
}

#[test]
fn a_member_that_says_nothing_for_15_seconds_is_out_and_may_come_back() {
    let stage = stage(1, 1, INTERVAL);
    let mut dead = stage.collector(4);
    dead.ready();
    let since = Instant::now();
    stage.round(&mut []);
    assert_eq!(dead.control.refusal(), Reject::Silent);
    assert!(since.elapsed() > Duration::from_secs(15));
    let round = stage.round_from(wall_us());
    let (report, stderr) = stage.report(&round);
    report.assert_price_within_the_first(4);
    let expected = format!("silent; refused: {}", Reject::Silent);
    assert_eq!(silence(&stderr, 4), expected);
    assert_eq!(report.refused(), counts(&[(Reject::Silent, 1)]));
    let mut back = stage.collector(4);
    back.ready();
    let round = stage.round_from(wall_us() + 500_000);
    let _data = back.play(&round, &records(1, PRICE));
    let (report, stderr) = stage.report(&round);
    assert!(report.counted(4), "{stderr}");
}

#[test]
fn a_preamble_that_comes_before_its_hello_is_no_strangers() {
    let stage = stage(1, SAMPLES, INTERVAL);
    let mut data = Peer::connect(stage.data);
    let preamble = Preamble {
        key: *collector_key(4).public().bytes(),
    };
    data.send(&preamble.encode());
    all_heard(&stage);
    let mut collector = stage.collector(4);
    collector.ready();
    let round = stage.round(&mut [&mut collector]);
    let records = records(SAMPLES, PRICE);
    collector.send_samples(&round, &records);
    let honest = collector.honest(&round, &records).encode();
    data.send(&data_frame(&round, &honest));
    let (report, stderr) = stage.report(&round);
    assert!(report.counted(4), "{stderr}");
    assert_eq!(report.refused(), counts(&[(Reject::Magic, 1)]));
}

#[test]
fn a_crowd_that_names_a_collectors_key_displaces_nobody() {
    let (stage, mut named, mut good, round) = begun_with_two();
    let records = records(SAMPLES, PRICE);
    let (mut data, mut data_4) = (named.open_data(), good.open_data());
    // The aggregator knows both before the crowd comes.
    all_heard(&stage);
    let mut crowd: Vec<Peer> = (0..400).map(|_| named.open_data()).collect();
    let nameless: Vec<Peer> = (0..100).map(|_| Peer::connect(stage.data)).collect();
    eventually("the crowd displaces its own", || {
        let gone = crowd
            .iter_mut()
            .filter_map(|peer| peer.ended().then_some(()));
        (gone.count() >= 400 - 261).then_some(())
    });
    assert!(!data.ended(), "the first that named the key has stayed");
    assert!(!data_4.ended(), "so has the one of another slot");
    named.send_samples(&round, &records);
    let honest = named.honest(&round, &records).encode();
    data.send(&data_frame(&round, &honest));
    good.send_samples(&round, &records);
    let honest = good.honest(&round, &records).encode();
    data_4.send(&data_frame(&round, &honest));
    let (report, stderr) = stage.report(&round);
    assert!(report.counted(3) && report.counted(4), "{stderr}");
    assert_eq!(report.signatures_verified, 5);
    report.assert_price_within_the_first(5);
    assert!(report.refused()[&Reject::Crowded] >= 400 - 261);
    drop(nameless);
}

#[test]
fn a_connection_that_names_or_proves_a_key_of_another_slot_silences_nobody() {
    let (stage, mut hostile, mut good, round) = begun_with_two();
    let records = records(SAMPLES, PRICE);
    let honest = good.honest(&round, &records).encode();
    // It has proved its own key only: what it sends is its own, whatever key it names on the data port.
    let mut again = stage.collector(3);
    for record in &records {
        hostile.send_samples(&round, &[*record]);
        again.send_sample(&round, *record);
    }
    let mut naming = good.open_data();
    let lie = hostile.honest(&round, &records).encode();
    naming.send(&data_frame(&round, &lie));
    all_heard(&stage);
    assert!(!naming.ended(), "it waits for the samples of that slot");
    good.send_samples(&round, &records);
    naming.until_ended();
    let _data = hostile.send_observation(&round, &lie);
    let _data_4 = good.send_observation(&round, &honest);
    let (report, stderr) = stage.report(&round);
    assert!(report.counted(3) && report.counted(4), "{stderr}");
    let expected = [(Reject::Magic, 1), (Reject::Signature, 1)];
    assert_eq!(report.refused(), counts(&expected));
    // A *ready* for another slot is refused.
    let mut posing = stage.collector(3);
    posing.slot = 4;
    posing.ready();
    assert_eq!(posing.control.refusal(), Reject::SlotDiffers);
    let next = stage.round_from(wall_us() + 500_000);
    let _data_4 = good.play(&next, &records);
    let (report, stderr) = stage.report(&next);
    assert!(report.counted(4), "{stderr}");
}

#[test]
fn nobodys_silence_moves_a_rounds_end() {
    let stage = stage(1, 1, INTERVAL);
    let mut silent = stage.collector(4);
    silent.ready();
    let mut round = stage.round(&mut [&mut silent]);
    for _ in 0..3 {
        let (report, stderr) = stage.report(&round);
        let late_us = wall_us().saturating_sub(round.end_us());
        // A busy machine takes its time, but nobody is waited for.
        assert!(late_us < 15_000_000, "{late_us}");
        report.assert_price_within_the_first(4);
        assert_eq!(silence(&stderr, 4), "silent; no answer in time");
        silent.tend();
        round = round.next();
    }
    // Whoever has not been ready when the round begins is not even waited for until its end.
    drop(silent);
    let mut unready = stage.collector(4);
    eventually("a report before the round's end", || {
        unready.tend();
        let round = stage.round_from(wall_us());
        let (report, stderr) = stage.report(&round);
        let remark = "silent; no first price from the exchange in time";
        (wall_us() < round.end_us() && report.price.is_some() && silence(&stderr, 4) == remark)
            .then_some(())
    });
}

#[test]
fn a_member_that_floods_is_heard_in_turns_and_the_round_goes_on() {
    let (stage, mut collector, round) = begun();
    let records = records(SAMPLES, PRICE);
    let sample = Sample {
        tag: [7; 8],
        start_us: round.start_us,
        record: records[0],
    };
    let pong = Pong {
        echo_us: 7,
        clock_us: u64::MAX,
    };
    let ready = collector.readiness().encode();
    let flood = [
        sample.encode().repeat(20),
        ready.repeat(5),
        pong.encode().repeat(20),
    ];
    let flood = flood.concat();
    for _ in 0..100 {
        assert!(collector.control.send(&flood));
    }
    let _data = collector.play(&round, &records);
    let (report, stderr) = stage.report(&round);
    assert!(report.counted(4), "{stderr}");
    assert_eq!(report.refused(), counts(&[(Reject::TermsDiffer, 2_000)]));
}

/// Frames that have no place on a member's connection, with the reason for which it ends.
fn misplaced(collector: &TestCollector) -> Vec<(Vec<u8>, Reject)> {
    let head = |kind: FrameKind| {
        let mut frame = vec![0; kind.bytes()];
        frame[..8].copy_from_slice(&[b'R', b'S', b'O', b'R', 2, kind as u8, 0, 0]);
        frame
    };
    let ready = collector.readiness();
    let mut bad_price = ready.encode();
    bad_price[48..].copy_from_slice(&f64::NAN.to_be_bytes());
    let mut other_slot = ready;
    other_slot.slot = 3;
    let mut other_terms = ready;
    other_terms.terms_digest[31] ^= 1;
    let refusal = Refusal {
        reason: Reject::TermsDiffer,
    };
    let mut unknown_refusal = refusal.encode();
    unknown_refusal[8..10].copy_from_slice(&[0xff, 0xff]);
    vec![
        (head(FrameKind::Challenge), Reject::Kind),
        (head(FrameKind::Hello), Reject::Kind),
        (head(FrameKind::Ping), Reject::Kind),
        (head(FrameKind::Preamble), Reject::Kind),
        (b"RSOR\x02\x09\0\0".to_vec(), Reject::Kind),
        (b"RSOR\x01\x04\0\0".to_vec(), Reject::Version),
        (b"RSOR\x02\x04\0\x01".to_vec(), Reject::Reserved),
        (vec![0; 1 << 16], Reject::Magic),
        (bad_price.to_vec(), Reject::Average),
        (unknown_refusal.to_vec(), Reject::Kind),
        (other_slot.encode().to_vec(), Reject::SlotDiffers),
        (other_terms.encode().to_vec(), Reject::TermsDiffer),
        // Half a frame, then nothing more: refused after a second.
        (head(FrameKind::Sample)[..47].to_vec(), Reject::FrameLate),
        (b"RSOR".to_vec(), Reject::FrameLate),
    ]
}

#[test]
fn a_member_that_sends_what_has_no_place_is_out_and_the_round_goes_on_without_it() {
    let stage = stage(1, 1, INTERVAL);
    let mut collector = stage.collector(4);
    collector.ready();
    stage.round(&mut [&mut collector]);
    let cases = misplaced(&collector);
    drop(collector);
    let mut expected = std::collections::BTreeMap::new();
    for (bytes, reason) in cases {
        let mut collector = stage.collector(4);
        collector.ready();
        collector.control.send(&bytes);
        if bytes.len() <= Hello::BYTES {
            assert_eq!(collector.control.refusal(), reason);
        } else {
            collector.control.until_ended();
        }
        *expected.entry(reason).or_insert(0) += 1;
        let (report, stderr) = stage.report(&stage.round_from(wall_us()));
        assert_eq!(report.refused(), expected, "{stderr}");
        assert_eq!(report.collectors[4].standing, "silent");
        let said = format!("silent; refused: {reason}");
        assert!(silence(&stderr, 4).starts_with(&said), "{stderr}");
    }
    let mut collector = stage.collector(4);
    collector.ready();
    let round = stage.round_from(wall_us() + 500_000);
    let _data = collector.play(&round, &records(1, PRICE));
    let (reports, stderr) = stage.reports(&round);
    assert!(reports[reports.len() - 1].counted(4), "{stderr}");
    let with_a_price = reports.iter().filter(|report| report.price.is_some());
    // Of the first round, the collectors may have missed the beginning.
    assert!(with_a_price.count() + 1 >= reports.len(), "{stderr}");
}

#[test]
fn a_member_that_refuses_us_is_out_and_its_reason_is_not_counted_as_ours() {
    let (stage, mut collector, round) = begun();
    let reason = Reject::TermsDiffer;
    collector.control.send(&Refusal { reason }.encode());
    collector.control.until_ended();
    let (report, stderr) = stage.report(&round);
    report.assert_price_within_the_first(4);
    assert_eq!(report.refused(), counts(&[]));
    let expected = format!("silent; it refused this aggregator: {reason}");
    assert_eq!(silence(&stderr, 4), expected);
}

#[test]
fn a_member_that_becomes_ready_in_mid_round_is_said_to_be_and_counts_in_the_next() {
    let stage = stage_with(1, SAMPLES, INTERVAL, &["--ready-timeout", "15s"]);
    let mut late = stage.collector(4);
    let round = stage.round(&mut [&mut late]);
    sleep_until(round.instant_us(1));
    late.ready();
    let (report, stderr) = stage.report(&round);
    assert_eq!(report.collectors[4].standing, "silent");
    let remark = "silent; it became ready after the round began";
    assert_eq!(silence(&stderr, 4), remark);
    let next = stage.round_from(wall_us() + 500_000);
    let _data = late.play(&next, &records(SAMPLES, PRICE));
    let (report, stderr) = stage.report(&next);
    assert!(report.counted(4), "{stderr}");
    report.assert_price_within_the_first(5);
}

#[test]
fn a_member_that_comes_in_mid_round_with_its_samples_is_waited_for() {
    let stage = stage_with(1, SAMPLES, INTERVAL, &["--ready-timeout", "2s"]);
    let round = stage.round(&mut []);
    sleep_until(round.instant_us(1));
    let mut back = stage.collector(4);
    back.ready();
    let records = records(SAMPLES, PRICE);
    back.send_samples(&round, &records);
    // By now the others have answered.
    sleep_until(round.end_us() - 500_000);
    let answer = back.honest(&round, &records).encode();
    let _data = back.send_observation(&round, &answer);
    let (report, stderr) = stage.report(&round);
    assert!(report.counted(4), "{stderr}");
    report.assert_price_within_the_first(5);
}

#[test]
fn a_round_that_begins_without_anybody_waits_for_those_that_come_back() {
    let stage = stage_with(5, SAMPLES, INTERVAL, &["--ready-timeout", "1s"]);
    let round = stage.round(&mut []);
    sleep_until(round.instant_us(1));
    let records = records(SAMPLES, PRICE);
    let mut back: Vec<TestCollector> = (0..5).map(|slot| stage.collector(slot)).collect();
    back.iter_mut().for_each(TestCollector::ready);
    for record in &records {
        let one = std::slice::from_ref(record);
        back.iter_mut()
            .for_each(|each| each.send_samples(&round, one));
    }
    let answer = |each: &TestCollector| {
        let answer = each.honest(&round, &records).encode();
        each.send_observation(&round, &answer)
    };
    let _data: Vec<Peer> = back.iter().map(answer).collect();
    let (report, _) = stage.report(&round);
    report.assert_price_within_the_first(5);
    assert_eq!(report.refused(), counts(&[]));
}

#[test]
fn data_frames_that_are_not_whole_cost_their_connection_only() {
    let (stage, mut collector, round) = begun();
    let records = records(SAMPLES, PRICE);
    let honest = data_frame(&round, &collector.honest(&round, &records).encode());
    let mut halved = collector.open_data();
    halved.send(&honest[..DataFrame::BYTES - 1]);
    halved.half_close();
    halved.until_ended();
    // Begun, and not finished within a second.
    send_refused_bytes(&collector, &honest[..1]);
    let _data = collector.play(&round, &records);
    let (report, stderr) = stage.report(&round);
    assert!(report.counted(4), "{stderr}");
    let expected = [(Reject::HalfFrame, 1), (Reject::FrameLate, 1)];
    assert_eq!(report.refused(), counts(&expected));
}
