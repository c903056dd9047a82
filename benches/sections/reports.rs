//! The cost of proof: verifying reports, beside checking their signatures alone; appending them to a journal; and the
//! aggregator's CPU time for a round with 5, 50 and 500 collectors.
//!
//! The reports are made here; the rounds are run by the real binary with the embedded exchange.

use crate::figures::{Table, digits, median};
use crate::machine;
use crate::support::{eventually, scratch, start};
use rsoracle::aggregator::journal::Journal;
use rsoracle::keys::secret::SecretKey;
use rsoracle_proof::aggregate::Rule;
use rsoracle_proof::answer as sampler;
use rsoracle_proof::publish::Policy;
use rsoracle_proof::record::{Observation, Record};
use rsoracle_proof::report::{Refused, Report, Verifier};
use rsoracle_proof::round::Round;
use rsoracle_proof::schedule::Schedule;
use rsoracle_proof::seal::{ObservationContext, PublicKey, observation_bytes, samples_digest};
use rsoracle_proof::terms::{Seat, Terms};
use std::io::Write;
use std::time::Instant;

const START_US: u64 = 1_790_000_000_000_000;
const INTERVAL_US: u64 = 1_000_000;
const SAMPLES: u32 = 10;
const COLLECTORS: u16 = 5;
/// The number of collectors for which a round's cost has a goal.
const COLLECTORS_OF_A_ROUND: u32 = COLLECTORS as u32;
/// Number of reports in the chain that is verified.
const REPORTS: u64 = 1_000;

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&mut [seed; 32])
}

fn terms(keys: &[SecretKey]) -> Terms {
    let seat = |key: &SecretKey| Seat {
        key: Some(key.public()),
        source: "embedded:BTCUSDT".to_owned(),
    };
    Terms {
        feed: "BTC/USD".to_owned(),
        rule: Rule::TrimmedMean,
        sample_rule: Rule::Mean,
        exchanges_min: 1,
        age_us_max: None,
        spread_ppm_max: None,
        schedule: Schedule {
            first_start_us: 0,
            period_us: u64::from(SAMPLES) * INTERVAL_US,
            end_us: None,
            samples: SAMPLES,
            interval_us: INTERVAL_US,
        },
        seats: keys.iter().map(seat).collect(),
    }
}

/// A signature to check: key, signed bytes, signature.
struct Signed(PublicKey, Vec<u8>, [u8; 64]);

/// A round in which every collector answers. Adds its signatures to `all`.
fn round(terms: &Terms, keys: &[SecretKey], start_us: u64, all: &mut Vec<Signed>) -> Round {
    let mut round = Round::new(terms.clone(), start_us);
    for (slot, key) in keys.iter().enumerate() {
        let record = |index| Record {
            index,
            price: Ok(87_231.42 + f64::from(index) / 100.0),
            lateness_us: Some(3 + slot as u64),
            age_us: None,
        };
        let records: Vec<Record> = (0..SAMPLES).map(record).collect();
        let (answer, timestamp_us) = sampler::answer(&records, start_us, INTERVAL_US, Rule::Mean);
        let context = ObservationContext {
            terms_digest: &round.digest,
            slot: slot as u16,
            start_us,
            samples_digest: &samples_digest(&records),
        };
        let bytes = observation_bytes(&context, answer.to_bits(), timestamp_us);
        let signature = key.sign(&bytes);
        let observation = Observation {
            answer,
            timestamp_us,
            signature,
        };
        let heard = round.observe(slot as u16, &records, &observation.encode());
        assert_eq!(heard, Ok(()));
        all.push(Signed(key.public(), bytes.to_vec(), signature));
    }
    round
}

/// A chain of reports, and every signature in it.
fn chain() -> (Vec<String>, Vec<Signed>) {
    let keys: Vec<SecretKey> = (10..10 + COLLECTORS as u8).map(key).collect();
    let terms = terms(&keys);
    let (mut lines, mut all) = (Vec::new(), Vec::new());
    let (mut previous, mut last) = (None, None);
    for number in 1..=REPORTS {
        let round = round(&terms, &keys, START_US + number * 10_000_000, &mut all);
        let mut report = Report::new(
            number,
            key(1).public(),
            round,
            Refused::new(),
            Policy::default(),
            last,
        );
        report.previous = previous;
        report.signature = key(1).sign(&report.signed_bytes());
        (previous, last) = (Some(report.signature), report.published());
        all.push(Signed(
            key(1).public(),
            report.signed_bytes(),
            report.signature,
        ));
        lines.push(report.line());
    }
    (lines, all)
}

/// Verifying, and checking the same signatures alone, in alternation.
fn verifying(table: &mut Table, lines: &[String], all: &[Signed]) {
    let (mut raw_us, mut whole_us) = (Vec::new(), Vec::new());
    let mut verifier = Verifier::default();
    let per_report = usize::from(COLLECTORS) + 1;
    for (some, signed) in lines.chunks(50).zip(all.chunks(50 * per_report)) {
        let began = Instant::now();
        for Signed(key, bytes, signature) in signed {
            assert!(key.signed(bytes, signature));
        }
        raw_us.push(began.elapsed().as_secs_f64() * 1e6 / some.len() as f64);
        let began = Instant::now();
        for line in some {
            assert_eq!(verifier.check(line, u64::MAX / 2).flaws, [""; 0]);
        }
        whole_us.push(began.elapsed().as_secs_f64() * 1e6 / some.len() as f64);
    }
    let ratios: Vec<f64> = raw_us
        .iter()
        .zip(&whole_us)
        .map(|(raw, whole)| raw / whole * 100.0)
        .collect();
    let what = format!(
        "reports of {COLLECTORS} x {SAMPLES} samples: rate, divided by that of their signatures alone"
    );
    table.at_least(&what, median(&ratios), 92.0, "%");
    table.remark(&format!(
        "{} µs a report of {} bytes, its {per_report} signatures alone {} µs; 100,000 reports in {} s",
        digits(median(&whole_us)),
        lines[0].len(),
        digits(median(&raw_us)),
        digits(median(&whole_us) / 10.0)
    ));
}

/// Appending a report to a journal, which flushes it to the disk, and merely writing it.
fn keeping(table: &mut Table, lines: &[String]) {
    let path = scratch("bench.jsonl");
    let path = path.to_str().expect("a path in UTF-8");
    let (mut journal, (), _) =
        Journal::open(path, &|_: &mut (), _| Ok(()), &|_, _| Ok(true)).expect("a new journal");
    let mut unsynced = std::fs::File::create(scratch("unsynced.jsonl")).expect("a file");
    let (mut synced_us, mut written_us) = (Vec::new(), Vec::new());
    for line in lines.iter().take(200) {
        let began = Instant::now();
        journal.append(&[line]).expect("the disk has room");
        synced_us.push(began.elapsed().as_secs_f64() * 1e6);
        let began = Instant::now();
        unsynced
            .write_all(line.as_bytes())
            .expect("the disk has room");
        written_us.push(began.elapsed().as_secs_f64() * 1e6);
    }
    let (synced, written) = (median(&synced_us), median(&written_us));
    table.figure(
        "appending a report: flushed to the disk / without waiting for it",
        &format!(
            "{} / {} µs, ratio {}",
            digits(synced),
            digits(written),
            digits(synced / written)
        ),
    );
}

/// The aggregator's CPU time per round, measured over several rounds.
fn rounds(table: &mut Table, n: u32) -> f64 {
    const ROUNDS: u64 = 6;
    let journal = scratch("rounds.jsonl");
    let running = start(&[
        "run",
        "--source",
        "embedded:BTCUSDT",
        "--collectors",
        &n.to_string(),
        "--samples",
        "5",
        "--interval",
        "100ms",
        "--every",
        "2s",
        "--rounds",
        &ROUNDS.to_string(),
        "--ready-timeout",
        "50s",
        "--control-port",
        "0",
        "--data-port",
        "0",
        "--json",
        "--quiet",
        "--journal",
        journal.to_str().expect("a path in UTF-8"),
    ]);
    let lines = |text: &str| text.lines().count() as u64;
    eventually("a first round", || {
        (lines(&running.stdout()) >= 1).then_some(())
    });
    let before = machine::cpu_ms(running.id()).unwrap_or(f64::NAN);
    eventually("the last round but one", || {
        (lines(&running.stdout()) >= ROUNDS - 1).then_some(())
    });
    let after = machine::cpu_ms(running.id()).unwrap_or(f64::NAN);
    let per_round = (after - before) / (ROUNDS - 2) as f64;
    let done = running.finish();
    let verified: Vec<&str> = done
        .stdout
        .lines()
        .filter(|line| line.contains("\"decision\":\"published\""))
        .collect();
    let what = format!("{n} collectors: the aggregator's CPU time for a round");
    match n {
        COLLECTORS_OF_A_ROUND => table.at_most(&what, per_round, 3.0, "ms"),
        _ => table.figure(&what, &format!("{} ms", digits(per_round))),
    }
    table.remark(&format!(
        "{} µs a collector ({} of {ROUNDS} rounds published)",
        digits(per_round * 1e3 / f64::from(n)),
        verified.len()
    ));
    per_round / f64::from(n)
}

/// Prints the section.
pub fn show(table: &mut Table) {
    let (lines, all) = chain();
    verifying(table, &lines, &all);
    keeping(table, &lines);
    let costs: Vec<f64> = [5, 50, 500].into_iter().map(|n| rounds(table, n)).collect();
    table.figure(
        "500 over 5 collectors: CPU time of a round for each",
        &digits(costs[2] / costs[0]),
    );
}
