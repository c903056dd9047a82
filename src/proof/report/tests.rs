//! Tests of reports: their form, their verification, and the line for people.

use super::*;
use crate::answer::answer;
use crate::reason::{Abstention, Miss};
use crate::record::{Answer, Observation, Record};
use crate::round::Standing;
use crate::schedule::Schedule;
use crate::seal::tests::SecretKey;
use crate::seal::{ObservationContext, observation_bytes, samples_digest};
use crate::terms::{Seat, Terms};
use std::prelude::v1::*;

const START_US: u64 = 1_795_343_400_000_000;
const NOW_US: u64 = START_US + 60_000_000;

pub(super) fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

const FEED: &str = "BTC/USD";

fn terms() -> Terms {
    let seat = |slot: u8| Seat {
        key: (slot < 6).then(|| key(slot + 2).public()),
        source: "binance:BTCUSDC".into(),
    };
    Terms {
        feed: FEED.into(),
        rule: Rule::TrimmedMean,
        sample_rule: Rule::Mean,
        exchanges_min: 1,
        age_us_max: None,
        spread_ppm_max: Some(10_000),
        schedule: Schedule {
            first_start_us: START_US,
            period_us: 10_000_000,
            end_us: None,
            samples: 5,
            interval_us: 1_000_000,
        },
        seats: (0..7).map(seat).collect(),
    }
}

fn signed(round: &Round, slot: u16, records: &[Record], answer: Answer, time_us: u64) -> [u8; 80] {
    let context = ObservationContext {
        terms_digest: &round.digest,
        slot,
        start_us: round.start_us,
        samples_digest: &samples_digest(records),
    };
    let bytes = observation_bytes(&context, answer.to_bits(), time_us);
    Observation {
        answer,
        timestamp_us: time_us,
        signature: key(slot as u8 + 2).sign(&bytes),
    }
    .encode()
}

/// Six collectors of seven answer: five with a price, the last with an abstention. Sample 1 of each is missing.
fn round(start_us: u64) -> Round {
    round_of(FEED, start_us)
}

/// The same of another feed.
fn round_of(feed: &str, start_us: u64) -> Round {
    let terms = Terms {
        feed: feed.into(),
        ..terms()
    };
    let mut round = Round::new(terms, start_us);
    for slot in 0..6u16 {
        let record = |index| {
            let missing = index == 1 || (slot == 5 && index == 2);
            let price = 87231.42 + f64::from(slot);
            Record {
                index,
                price: if missing {
                    Err(Miss::NoReply)
                } else {
                    Ok(price)
                },
                lateness_us: Some(10 * u64::from(slot) + 3),
                age_us: None,
            }
        };
        let records: Vec<Record> = (0..5).map(record).collect();
        let (answer, time_us) = answer(&records, start_us, 1_000_000, Rule::Mean);
        let bytes = signed(&round, slot, &records, answer, time_us);
        let heard = round.observe(slot, &records, &bytes);
        heard.expect("the answer is sound");
    }
    round
}

fn report() -> Report {
    let policy = Policy {
        deviation: Some(0.005),
        heartbeat_us: Some(3_600_000_000),
        move_max: None,
    };
    let refused = Refused::from([(Reject::HelloLate, 3), (Reject::Signature, 1)]);
    let mut report = Report::new(1, key(1).public(), round(START_US), refused, policy, None);
    report.signature = key(1).sign(&report.signed_bytes());
    report
}

/// A chain of three reports; the second one's price is not published.
fn chain() -> Vec<String> {
    chain_of(FEED)
}

/// The same of another feed.
fn chain_of(feed: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut previous, mut last) = (None, None);
    for number in 1..=3 {
        let round = round_of(feed, START_US + number * 10_000_000);
        let policy = Policy {
            deviation: Some(0.005),
            ..Policy::default()
        };
        let mut report = Report::new(number, key(1).public(), round, Refused::new(), policy, last);
        report.previous = previous;
        report.signature = key(1).sign(&report.signed_bytes());
        (previous, last) = (Some(report.signature), report.published());
        lines.push(report.line());
    }
    lines
}

fn flaws(lines: &[String]) -> Vec<Vec<String>> {
    let mut verifier = Verifier::default();
    let check = |line: &String| verifier.check(line, NOW_US).flaws;
    lines.iter().map(check).collect()
}

#[test]
fn a_report_round_trips_through_its_line_and_verifies() {
    let report = report();
    let line = report.line();
    let again = Report::read(&line, &mut Keys::default()).expect("it is a report");
    assert_eq!(again.line(), line);
    assert_eq!(again.signed_bytes(), report.signed_bytes());
    assert_eq!(flaws(&[line]), [Vec::<String>::new()]);
    assert_eq!(report.price(), Some(87233.42));
    assert_eq!(
        report.outcome.standings[5],
        Standing::Abstained(Abstention::TooFewSamples)
    );
}

#[test]
fn every_flipped_bit_of_a_line_is_found() {
    let line = report().line();
    let mut verifier = Verifier::default();
    for at in 0..line.len() {
        for bit in 0..8 {
            let mut bytes = line.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            let Ok(text) = String::from_utf8(bytes) else {
                continue;
            };
            verifier.begin_anew();
            let flaws = verifier.check(&text, NOW_US).flaws;
            assert!(!flaws.is_empty(), "byte {at}, bit {bit}: {text}");
        }
    }
}

#[test]
fn no_truncation_and_no_mutation_makes_the_reader_panic() {
    let line = report().line();
    let mut keys = Keys::default();
    for length in 0..line.len() {
        assert!(Report::read(&line[..length], &mut keys).is_err());
    }
    let mut state = 7u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % below
    };
    for _ in 0..20_000 {
        let mut bytes = line.clone().into_bytes();
        for _ in 0..1 + random(4) {
            let (from, to) = (random(bytes.len()), random(bytes.len()));
            match random(3) {
                0 => bytes[to] = bytes[from],
                1 => drop(bytes.drain(from.min(to)..from.max(to).min(from.min(to) + 40))),
                _ => bytes[to] = random(128) as u8,
            }
        }
        if let Ok(text) = String::from_utf8(bytes) {
            let read = Report::read(&text, &mut keys);
            assert!(
                read.is_err()
                    || text == line
                    || Verifier::default().check(&text, NOW_US).flaws != [""; 0]
            );
        }
    }
}

#[test]
fn values_that_do_not_follow_from_the_signatures_are_named() {
    let line = report().line();
    for (from, to, part) in [
        (
            "\"price\":87233.42,\"decision\"",
            "\"price\":87233.43,\"decision\"",
            "after \"price\"",
        ),
        (
            "\"standing\":\"used\"",
            "\"standing\":\"trimmed\"",
            "after \"standing\"",
        ),
        (
            "\"faulty_exchanges_tolerated\":0",
            "\"faulty_exchanges_tolerated\":1",
            "after \"faulty_exchanges_tolerated\"",
        ),
        (
            "\"embedded\":false",
            "\"embedded\": false",
            "after \"embedded\"",
        ),
        ("\"rule\":", "\"rule\":\"rule\":", "expected a rule"),
        (
            "\"used\",\"price\":87233.42",
            "\"used\",\"price\":0",
            "expected a price",
        ),
        (
            "\"used\",\"price\":87233.42",
            "\"used\",\"price\":987233420000000000",
            "expected a price",
        ),
        ("\"f\":2,", "\"f\":3,", "after \"f\""),
        ("\"n\":7,", "\"n\":65535,", "of at most 4096"),
        // In the signed bytes zero means null; in the line only null does.
        (
            "\"move_max\":null",
            "\"move_max\":0",
            "null or a fraction above 0",
        ),
        ("\"quorum\":5,", "\"quorum\":4,", "after \"quorum\""),
        (
            "\"first_start_us\":1795343400000000",
            "\"first_start_us\":1795343400000001",
            "no round that starts then",
        ),
        (
            "\"samples\":5,\"interval_us\":1000000,\"period_us\":10000000",
            "\"samples\":5,\"interval_us\":1000000,\"period_us\":4000000",
            "do not fit into a period",
        ),
        ("\"count\":3", "\"count\":2", "the aggregator's signature"),
        ("\"lateness_us\":13}", "\"lateness_us\":14}", "collector 1"),
        (
            "{\"rsoracle_report\":2",
            "{ \"rsoracle_report\":2",
            "it is not a report: byte 0",
        ),
        (
            "{\"rsoracle_report\":2",
            "{\"rsoracle_report\":1",
            "this is one of protocol 1",
        ),
        ("\"}", "\"} ", "the end of the line"),
    ] {
        assert!(line.contains(from), "{from}");
        let flaws = flaws(&[line.replacen(from, to, 1)]).remove(0);
        assert!(
            flaws.iter().any(|flaw| flaw.contains(part)),
            "{to}: {part:?} in {flaws:?}"
        );
    }
    let early = Verifier::default().check(&line, START_US - 5_000_001).flaws;
    assert!(early[0].contains("in the future"), "{early:?}");
    assert_eq!(
        Verifier::default().check(&line, START_US - 5_000_000).flaws,
        [""; 0]
    );
}

#[test]
fn a_second_signed_answer_is_shown_with_the_first_and_neither_counts() {
    let mut round = round(START_US);
    let records = round.parts[2].records.clone();
    let second = signed(
        &round,
        2,
        &records,
        Answer::Price(1.5),
        START_US + 4_000_023,
    );
    let heard = round.observe(2, &records, &second);
    assert_eq!(heard, Err(Reject::Equivocation));
    let mut report = Report::new(
        1,
        key(1).public(),
        round,
        Refused::new(),
        Policy::default(),
        None,
    );
    report.signature = key(1).sign(&report.signed_bytes());
    let line = report.line();
    assert!(line.contains("\"standing\":\"equivocated\""), "{line}");
    assert!(line.contains("\"price\":1.5,\"abstains\":null"), "{line}");
    assert_eq!(flaws(&[line]), [Vec::<String>::new()]);
    assert_eq!(report.decision, Decision::NoQuorum);
}

#[test]
fn a_chain_verifies_and_every_missing_repeated_or_moved_report_is_found() {
    let lines = chain();
    assert!(
        flaws(&lines).iter().all(Vec::is_empty),
        "{:?}",
        flaws(&lines)
    );
    assert!(
        lines[1].contains("\"decision\":\"unchanged\""),
        "{}",
        lines[1]
    );
    // A chain may begin at any report.
    assert!(flaws(&lines[1..]).iter().all(Vec::is_empty));
    let of = |order: &[usize]| -> Vec<bool> {
        let chosen: Vec<String> = order.iter().map(|at| lines[*at].clone()).collect();
        flaws(&chosen).iter().map(Vec::is_empty).collect()
    };
    assert_eq!(of(&[0, 2]), [true, false], "dropped");
    assert_eq!(of(&[0, 1, 1, 2]), [true, true, false, true], "doubled");
    assert_eq!(of(&[0, 0, 1, 2]), [true, false, true, true], "doubled");
    assert_eq!(of(&[1, 0, 2]), [true, false, false], "moved");
    assert_eq!(of(&[0, 2, 1]), [true, false, false], "moved");
}

#[test]
fn two_first_reports_of_one_round_are_equivocation() {
    let first = report();
    let mut second = report();
    second.ephemeral = false;
    second.signature = key(1).sign(&second.signed_bytes());
    let flaws = flaws(&[first.line(), second.line()]);
    assert_eq!(flaws[0], [""; 0]);
    assert!(flaws[1][0].contains("equivocation"), "{flaws:?}");
}

#[test]
fn the_closing_line_reads_as_promised_and_there_is_none_without_a_price() {
    let line = "BTC/USD 87233.42  (6 of 7 signatures verified, trimmed mean, tolerates 2 faulty collectors of 7, \
                0 faulty exchanges of 1, 0 faulty quote currencies of 1 (USDC), 2026-11-22T10:30:04.000Z)";
    assert_eq!(report().closing_line().as_deref(), Some(line));
    let none = Report::new(
        1,
        key(1).public(),
        Round::new(terms(), START_US),
        Refused::new(),
        Policy::default(),
        None,
    );
    assert_eq!(none.closing_line(), None);
    assert!(
        none.line()
            .contains("\"price\":null,\"decision\":\"no-quorum\",\"time\":null")
    );
}

#[test]
fn lateness_is_summed_up_over_samples_and_collectors() {
    let late = Lateness {
        median_us: 23,
        max_us: 53,
        spread_median_us: 50,
        spread_max_us: 50,
    };
    assert_eq!(Lateness::of(&round(START_US).parts), Some(late));
    assert_eq!(Lateness::of(&[Part::default()]), None);
}

/// Checks that every flipped bit of a line is a flaw.
fn assert_no_bit_is_ignored(line: &str) {
    let mut verifier = Verifier::default();
    for at in 0..line.len() {
        for bit in 0..8 {
            let mut bytes = line.as_bytes().to_vec();
            bytes[at] ^= 1 << bit;
            if let Ok(text) = String::from_utf8(bytes) {
                let flaws = verifier.check(&text, NOW_US).flaws;
                assert!(!flaws.is_empty(), "byte {at}, bit {bit}: {text}");
            }
        }
    }
}

#[test]
fn two_answers_of_one_collector_are_a_self_contained_proof() {
    let mut round = round(START_US);
    let records = round.parts[2].records.clone();
    let second = signed(
        &round,
        2,
        &records,
        Answer::Price(1.5),
        START_US + 4_000_023,
    );
    let heard = round.observe(2, &records, &second);
    assert_eq!(heard, Err(Reject::Equivocation));
    let report = Report::new(
        1,
        key(1).public(),
        round,
        Refused::new(),
        Policy::default(),
        None,
    );
    let part = &report.round.parts[2];
    let proof = Proof {
        key: key(4).public(),
        terms_digest: report.round.digest,
        slot: 2,
        start_us: START_US,
        answers: [part.signed_answer(), part.equivocated]
            .map(|answer| answer.expect("two answers")),
    };
    let line = proof.line();
    assert_eq!(Proof::read(&line, &mut Keys::default()), Ok(proof.clone()));
    let check = Verifier::default().check(&line, NOW_US);
    assert_eq!(check.flaws, [""; 0]);
    assert!(matches!(check.content, super::Content::Proof(_)));
    assert_no_bit_is_ignored(&line);
    // The same answer twice proves nothing, nor do answers of two collectors.
    let mut same = proof.clone();
    same.answers[1] = same.answers[0];
    assert_eq!(same.flaws(), ["both answers are the same"]);
    let mut other = proof.clone();
    other.slot = 3;
    assert_eq!(other.flaws().len(), 2);
}

fn change_of(old: &SecretKey, new: &SecretKey, previous: [u8; 64]) -> KeyChange {
    let mut change = KeyChange {
        feed: FEED.into(),
        old: old.public(),
        new: new.public(),
        previous,
        signatures: [[0; 64]; 2],
    };
    let bytes = change.signed_bytes();
    change.signatures = [old.sign(&bytes), new.sign(&bytes)];
    change
}

#[test]
fn a_change_of_keys_of_a_feed_that_the_roster_lacks_is_refused() {
    let roster = crate::terms::Roster::single(1, None, terms());
    for (feed, flaws) in [
        (FEED, vec![]),
        ("XXX/USD", vec!["the roster has no feed XXX/USD"]),
    ] {
        let mut change = change_of(&key(1), &key(99), [0; 64]);
        change.feed = feed.into();
        let bytes = change.signed_bytes();
        change.signatures = [key(1).sign(&bytes), key(99).sign(&bytes)];
        let check = Verifier::new(Some(&roster)).check(&change.line(), NOW_US);
        assert_eq!(check.flaws, flaws, "{feed}");
        let check = Verifier::default().check(&change.line(), NOW_US);
        assert_eq!(check.flaws, [""; 0], "{feed}, without a roster");
    }
}

#[test]
fn a_change_of_keys_continues_the_chain_only_with_both_signatures() {
    let mut lines = chain();
    let mut verifier = Verifier::default();
    for line in &lines {
        verifier.check(line, NOW_US);
    }
    let change = change_of(&key(1), &key(99), verifier.head(FEED).unwrap());
    assert_eq!(
        KeyChange::read(&change.line(), &mut Keys::default()),
        Ok(change.clone())
    );
    let round = Round::new(terms(), START_US + 50_000_000);
    let last = Report::read(&lines[2], &mut Keys::default())
        .unwrap()
        .published();
    let mut next = Report::new(
        4,
        key(99).public(),
        round,
        Refused::new(),
        Policy::default(),
        last,
    );
    next.previous = Some(change.signature());
    next.signature = key(99).sign(&next.signed_bytes());
    lines.extend([change.line(), next.line()]);
    assert!(
        flaws(&lines).iter().all(Vec::is_empty),
        "{:?}",
        flaws(&lines)
    );
    // Without the record, or with another's, the chain is broken.
    let without = [&lines[..3], &lines[4..]].concat();
    assert!(!flaws(&without)[3].is_empty());
    // A change of keys that comes first does not hide that a report is missing after it.
    let first = [lines[3].clone(), lines[4].clone()];
    assert!(
        flaws(&first).iter().all(Vec::is_empty),
        "{:?}",
        flaws(&first)
    );
    next.previous = Some([7; 64]);
    next.signature = key(99).sign(&next.signed_bytes());
    assert!(!flaws(&[lines[3].clone(), next.line()])[1].is_empty());
    let forged = change_of(&key(98), &key(99), change.previous);
    let mut with = lines.clone();
    with[3] = forged.line();
    assert!(!flaws(&with)[3].is_empty());
    for signature in 0..2 {
        let mut half = change.clone();
        half.signatures[signature] = [0; 64];
        assert_eq!(half.flaws().len(), 1);
    }
    assert_no_bit_is_ignored(&change.line());
}

#[test]
fn two_reports_for_one_start_are_equivocation_of_the_aggregator() {
    let lines = chain();
    let mut second = Report::read(&lines[0], &mut Keys::default()).unwrap();
    second.refused.insert(Reject::Crowded, 1);
    second.number = 2;
    second.previous = Some(second.signature);
    second.signature = key(1).sign(&second.signed_bytes());
    let flaws = flaws(&[lines[0].clone(), second.line()]).remove(1);
    assert!(
        flaws
            .iter()
            .any(|flaw| flaw.starts_with("equivocation: the aggregator")),
        "{flaws:?}"
    );
}

#[test]
fn a_reports_age_is_what_a_quorum_vouches_for() {
    // Ages of five slots with a price, and of one that abstains. The quorum is 5, of plain means 4.
    let aged = |rule, ages: [Option<u64>; 6]| {
        let mut report = report();
        report.round.terms.rule = rule;
        for (part, age_us) in report.round.parts.iter_mut().zip(ages) {
            // Its last sample is the oldest one.
            part.records.last_mut().expect("there are samples").age_us = age_us;
            let priced = part
                .records
                .iter_mut()
                .filter(|record| record.price.is_ok());
            priced.for_each(|record| record.age_us = record.age_us.or(age_us.map(|us| us / 2)));
        }
        report.age_us()
    };
    let all = [3, 5, 1, 4, 2, 0].map(Some);
    assert_eq!(aged(Rule::TrimmedMean, all), Some(5));
    assert_eq!(aged(Rule::Mean, all), Some(4));
    // One that gives no time, or a false one, makes it neither unknown nor old.
    for odd in [None, Some(u64::MAX - 1)] {
        let ages = [Some(3), odd, Some(1), Some(4), Some(2), None];
        assert_eq!(aged(Rule::Mean, ages), Some(4));
    }
    let few = [Some(3), Some(5), None, None, None, Some(1)];
    assert_eq!(aged(Rule::Mean, few), None);
    // Nor does one whose exchange gave the times of some samples only: the others may be older.
    let mut report = report();
    for part in &mut report.round.parts[..6] {
        part.records[0].age_us = Some(1);
    }
    assert!(report.round.parts[0].records[2].price.is_ok());
    assert_eq!(report.age_us(), None);
}

/// The reports of three feeds, as an aggregator appends them: those of one round in the order of the feeds.
fn interleaved() -> Vec<String> {
    let chains = ["BTC/USD", "ETH/USD", "A/B"].map(chain_of);
    let round = |at: usize| chains.each_ref().map(|lines| lines[at].clone());
    (0..3).flat_map(round).collect()
}

#[test]
fn every_feed_of_a_file_has_a_chain_of_its_own_in_whatever_order_they_stand() {
    let lines = interleaved();
    let of = |order: &[usize]| -> Vec<usize> {
        let chosen: Vec<String> = order.iter().map(|at| lines[*at].clone()).collect();
        let flaws = flaws(&chosen);
        (0..order.len())
            .filter(|at| !flaws[*at].is_empty())
            .collect()
    };
    let sound: [&[usize]; 4] = [
        &[0, 1, 2, 3, 4, 5, 6, 7, 8],
        &[2, 0, 1, 4, 5, 3, 8, 6, 7],
        // One feed after the other, and one that begins late and ends early.
        &[0, 3, 6, 1, 4, 7, 2, 5, 8],
        &[0, 2, 3, 4, 5, 6, 8],
    ];
    for order in sound {
        assert_eq!(of(order), [0; 0], "{order:?}");
    }
    // What is wrong with one feed is found at its next report, and nowhere else.
    assert_eq!(of(&[0, 1, 2, 3, 5, 6, 7, 8]), [6], "dropped");
    assert_eq!(of(&[0, 1, 2, 1, 3, 4, 5]), [3], "doubled");
    assert_eq!(of(&[0, 4, 2, 3, 1, 5, 6, 7, 8]), [4, 7], "moved");
    let mut verifier = Verifier::default();
    for line in &lines {
        assert_eq!(verifier.check(line, NOW_US).flaws, [""; 0]);
    }
    assert_eq!(
        verifier.feeds().collect::<Vec<_>>(),
        ["A/B", "BTC/USD", "ETH/USD"]
    );
    for (at, feed) in ["BTC/USD", "ETH/USD", "A/B"].iter().enumerate() {
        let last = Report::read(&lines[6 + at], &mut Keys::default()).expect("a report");
        assert_eq!(verifier.head(feed), Some(last.signature), "{feed}");
        assert_eq!(verifier.aggregator(feed), Some(key(1).public()));
        assert_eq!(verifier.chain.count(feed), 1);
    }
    assert_eq!(
        (verifier.head("ETH"), verifier.chain.count("ETH")),
        (None, 0)
    );
    verifier.begin_anew();
    assert_eq!((verifier.head(FEED), verifier.feeds().count()), (None, 0));
}

#[test]
fn a_report_that_was_moved_to_the_chain_of_another_feed_is_found_there() {
    let lines = interleaved();
    let read = |at: usize| Report::read(&lines[at], &mut Keys::default()).expect("a report");
    // The aggregator signs the second round of one feed as the one behind the first round of another.
    let mut moved = read(4);
    moved.previous = Some(read(0).signature);
    moved.signature = key(1).sign(&moved.signed_bytes());
    let forged = [&lines[..4], &[moved.line()], &lines[5..]].concat();
    let flaws = flaws(&forged);
    assert_eq!(
        flaws[4],
        ["the previous report that it names is not the one before it"]
    );
    assert_eq!(flaws[7], flaws[4]);
    let others = [0, 1, 2, 3, 5, 6, 8];
    assert!(others.iter().all(|at| flaws[*at].is_empty()), "{flaws:?}");
}

#[test]
fn a_change_of_keys_is_one_of_its_feed_alone() {
    let mut lines = interleaved();
    let mut verifier = Verifier::default();
    for line in &lines {
        verifier.check(line, NOW_US);
    }
    let change = change_of(&key(1), &key(99), verifier.head(FEED).unwrap());
    let mut other = change.clone();
    other.feed = "ETH/USD".into();
    assert_ne!(change.signed_bytes(), other.signed_bytes());
    assert_eq!(
        other.flaws().len(),
        2,
        "both keys signed it for another feed"
    );
    assert_eq!(verifier.check(&change.line(), NOW_US).flaws, [""; 0]);
    assert_eq!(verifier.aggregator(FEED), Some(key(99).public()));
    assert_eq!(verifier.aggregator("ETH/USD"), Some(key(1).public()));
    // The next report of each feed, under either key.
    let next = |feed: &str, by: u8, previous| {
        let last = lines
            .iter()
            .rev()
            .map(|line| Report::read(line, &mut Keys::default()).unwrap());
        let last = last
            .clone()
            .find(|report| report.round.terms.feed == feed)
            .unwrap();
        let round = round_of(feed, START_US + 50_000_000);
        let policy = Policy::default();
        let mut next = Report::new(
            4,
            key(by).public(),
            round,
            Refused::new(),
            policy,
            last.published(),
        );
        next.previous = previous;
        next.signature = key(by).sign(&next.signed_bytes());
        next.line()
    };
    let behind = next(FEED, 99, Some(change.signature()));
    let [same, stolen] = [1, 99].map(|by| next("ETH/USD", by, verifier.head("ETH/USD")));
    lines.extend([change.line(), behind, same]);
    assert!(
        flaws(&lines).iter().all(Vec::is_empty),
        "{:?}",
        flaws(&lines)
    );
    lines[11] = stolen;
    let why = "the aggregator's key is not that of the previous report";
    assert_eq!(flaws(&lines)[11], [why]);
}

#[test]
fn no_more_feeds_are_followed_than_a_roster_may_have() {
    let feeds = crate::limits::FEEDS_MAX;
    let line = |feed: usize, start_us: u64| {
        let round = Round::new(
            Terms {
                feed: format!("F/{feed}"),
                ..terms()
            },
            start_us,
        );
        let mut report = Report::new(
            1,
            key(1).public(),
            round,
            Refused::new(),
            Policy::default(),
            None,
        );
        report.signature = key(1).sign(&report.signed_bytes());
        report.line()
    };
    let mut verifier = Verifier::default();
    for feed in 0..feeds {
        assert_eq!(verifier.check(&line(feed, START_US), NOW_US).flaws, [""; 0]);
    }
    let why = "its feed F/64 is one more than the 64 of a file";
    let check = verifier.check(&line(feeds, START_US), NOW_US);
    assert_eq!(check.flaws, [why]);
    assert!(!check.stands_alone && matches!(check.content, Content::Unknown));
    let mut change = change_of(&key(1), &key(2), [0; 64]);
    change.feed = "F/64".into();
    assert_eq!(verifier.check(&change.line(), NOW_US).flaws, [why]);
    // The others go on.
    let again = verifier.check(&line(7, START_US + 10_000_000), NOW_US);
    assert_eq!(again.flaws, [""; 0], "it begins another chain");
    assert_eq!(
        (verifier.feeds().count(), verifier.chain.count("F/7")),
        (feeds, 2)
    );
}

#[test]
fn an_aggregator_is_vouched_for_in_each_feed_by_itself() {
    let seats = terms().seats;
    let feeds = ["BTC/USD", "ETH/USD"].map(|feed| Terms {
        feed: feed.into(),
        ..terms()
    });
    let slot = |seat: &Seat| crate::terms::RosterSlot {
        key: seat.key,
        sources: vec![seat.source.clone(); 2],
    };
    let roster =
        crate::terms::Roster::new(1, None, feeds.to_vec(), seats.iter().map(slot).collect());
    let mut verifier = Verifier::new(Some(&roster));
    assert_eq!(verifier.check(&report().line(), NOW_US).flaws, [""; 0]);
    assert!(verifier.vouched_for());
    // The same aggregator, of another feed: nobody signed that.
    let silent = |start_us| {
        let round = Round::new(feeds[1].clone(), start_us);
        let mut report = Report::new(
            1,
            key(1).public(),
            round,
            Refused::new(),
            Policy::default(),
            None,
        );
        report.signature = key(1).sign(&report.signed_bytes());
        report.line()
    };
    assert_eq!(verifier.check(&silent(START_US), NOW_US).flaws, [""; 0]);
    assert!(!verifier.vouched_for());
    let heard = &chain_of("ETH/USD")[1];
    verifier.check(heard, NOW_US);
    assert!(verifier.vouched_for());
    let strange = verifier.check(&chain_of("A/B")[0], NOW_US);
    assert_eq!(strange.flaws, ["the roster has no feed A/B"]);
}

#[test]
fn what_is_found_of_a_feed_does_not_depend_on_the_others_lines() {
    let mut lines = interleaved();
    let heads = [6, 7].map(|at| Report::read(&lines[at], &mut Keys::default()).unwrap());
    for last in heads {
        let mut change = change_of(&key(1), &key(2), last.signature);
        change.feed = last.round.terms.feed;
        let bytes = change.signed_bytes();
        change.signatures = [key(1).sign(&bytes), key(2).sign(&bytes)];
        lines.push(change.line());
    }
    let feed_of = |at: usize| if at < 9 { at % 3 } else { at - 9 };
    let mut state = 7u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % below
    };
    for published_only in [false, true] {
        for _ in 0..300 {
            let mut order: Vec<usize> = (0..lines.len()).collect();
            for _ in 0..random(6) {
                let (one, other) = (random(order.len()), random(order.len()));
                match random(3) {
                    0 => order.swap(one, other),
                    1 => drop(order.remove(one)),
                    _ => order.insert(one, order[other]),
                }
            }
            let verifier = || {
                let mut verifier = Verifier::default();
                verifier.chain.published_only = published_only;
                verifier
            };
            // The signatures are sound; only the chains are checked.
            let mut all = verifier();
            let mut alone = [verifier(), verifier(), verifier()];
            for at in &order {
                let check =
                    |it: &mut Verifier| it.check_after(&lines[*at], NOW_US, Some(Vec::new()));
                let own = &mut alone[feed_of(*at)];
                assert_eq!(check(&mut all).flaws, check(own).flaws, "{at} in {order:?}");
                let feed = own.feeds().next().expect("its own").to_owned();
                assert_eq!(
                    (all.head(&feed), all.aggregator(&feed)),
                    (own.head(&feed), own.aggregator(&feed))
                );
                assert_eq!(all.chain.count(&feed), own.chain.count(&feed));
            }
            let skipped: u64 = alone.iter().map(|own| own.chain.skipped()).sum();
            assert_eq!(all.chain.skipped(), skipped);
        }
    }
}
