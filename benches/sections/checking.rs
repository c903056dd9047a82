//! The cost of checking an observation, from the bytes of ten sample frames and an observation to an accepted observation,
//! beside that of `verify_strict` alone on the same signed bytes with the same keys.
//!
//! The two alternate in blocks, so that disturbances of the machine affect both alike.

use crate::figures::{Table, digits, median};
use rsoracle::keys::secret::SecretKey;
use rsoracle::wire::Sample;
use rsoracle_proof::aggregate::Rule;
use rsoracle_proof::answer as sampler;
use rsoracle_proof::record::{Observation, Record};
use rsoracle_proof::round::Round;
use rsoracle_proof::schedule::Schedule;
use rsoracle_proof::seal::{ObservationContext, PublicKey, observation_bytes, samples_digest};
use rsoracle_proof::terms::{Seat, Terms, tag};
use std::time::Instant;

const SOURCE: &str = "embedded:BTCUSDT";
const FEED: &str = "BTC/USD";
const START_US: u64 = 1_795_343_400_000_000;
const SAMPLES: u32 = 10;
const BLOCK: usize = 250;

/// What one collector sends, and the bytes that its signature covers.
struct Sent {
    key: PublicKey,
    samples: Vec<[u8; Sample::BYTES]>,
    observation: [u8; Observation::BYTES],
    signed: Vec<u8>,
    signature: [u8; 64],
}

fn secret(slot: u16) -> SecretKey {
    let mut seed = [7; 32];
    seed[..2].copy_from_slice(&slot.to_be_bytes());
    SecretKey::from_seed(&mut seed)
}

fn terms(n: u16) -> Terms {
    let seat = |slot| Seat {
        key: Some(secret(slot).public()),
        source: SOURCE.into(),
    };
    Terms {
        feed: FEED.into(),
        rule: Rule::TrimmedMean,
        sample_rule: Rule::Mean,
        exchanges_min: 1,
        age_us_max: None,
        spread_ppm_max: None,
        schedule: Schedule {
            first_start_us: START_US,
            period_us: 0,
            end_us: None,
            samples: SAMPLES,
            interval_us: 1_000_000,
        },
        seats: (0..n).map(seat).collect(),
    }
}

fn send(slot: u16, round: &Round) -> Sent {
    let key = secret(slot);
    let record = |index| Record {
        index,
        price: Ok(87_000.0 + f64::from(slot) / 100.0 + f64::from(index)),
        lateness_us: Some(u64::from(slot % 50)),
        age_us: None,
    };
    let records: Vec<Record> = (0..SAMPLES).map(record).collect();
    let (answer, timestamp_us) = sampler::answer(&records, START_US, 1_000_000, Rule::Mean);
    let context = ObservationContext {
        terms_digest: &round.digest,
        slot,
        start_us: START_US,
        samples_digest: &samples_digest(&records),
    };
    let signed = observation_bytes(&context, answer.to_bits(), timestamp_us);
    let signature = key.sign(&signed);
    let observation = Observation {
        answer,
        timestamp_us,
        signature,
    };
    let frame = |record: &Record| {
        let sample = Sample {
            tag: tag(&round.digest),
            start_us: START_US,
            record: *record,
        };
        sample.encode()
    };
    Sent {
        key: key.public(),
        samples: records.iter().map(frame).collect(),
        observation: observation.encode(),
        signed: signed.to_vec(),
        signature,
    }
}

/// The cost of a signature check and of a whole observation.
struct Cost {
    /// `verify_strict` alone: median of blocks, in microseconds.
    raw_us: f64,
    /// From received bytes to accepted: likewise.
    whole_us: f64,
    /// The former divided by the latter: median of the blocks' ratios.
    ratio: f64,
    /// Total time in milliseconds.
    total_ms: f64,
}

fn measure(n: u16, times: usize) -> Cost {
    let template = Round::new(terms(n), START_US);
    let sent: Vec<Sent> = (0..n).map(|slot| send(slot, &template)).collect();
    let (mut raw_us, mut whole_us, mut totals) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..times {
        let mut round = Round::new(template.terms.clone(), START_US);
        let mut total_us = 0.0;
        for (block, part) in sent.chunks(BLOCK).enumerate() {
            let began = Instant::now();
            for one in part {
                assert!(one.key.signed(&one.signed, &one.signature));
            }
            raw_us.push(began.elapsed().as_secs_f64() * 1e6 / part.len() as f64);
            let began = Instant::now();
            for (index, one) in part.iter().enumerate() {
                let slot = (block * BLOCK + index) as u16;
                let mut records = Vec::with_capacity(one.samples.len());
                for (index, bytes) in (0..).zip(&one.samples) {
                    let record = Sample::decode(bytes).expect("a sample").record;
                    let heard = round.terms.check_record(index, &record);
                    heard.expect("it is in order");
                    records.push(record);
                }
                let heard = round.observe(slot, &records, &one.observation);
                assert_eq!(heard, Ok(()));
            }
            let block_us = began.elapsed().as_secs_f64() * 1e6;
            whole_us.push(block_us / part.len() as f64);
            total_us += block_us;
        }
        totals.push(total_us / 1e3);
        assert!(round.outcome().price.is_some());
    }
    let ratios: Vec<f64> = raw_us.iter().zip(&whole_us).map(|(a, b)| a / b).collect();
    Cost {
        raw_us: median(&raw_us),
        whole_us: median(&whole_us),
        ratio: median(&ratios),
        total_ms: median(&totals),
    }
}

/// Prints the section.
pub fn show(table: &mut Table) {
    let costs = [(1_000, 20), (10_000, 4)].map(|(n, times)| (n, measure(n, times)));
    for (n, cost) in &costs {
        table.at_least(
            &format!(
                "{n} observations of {SAMPLES} samples: rate, divided by that of verify_strict"
            ),
            cost.ratio * 100.0,
            90.0,
            "%",
        );
        table.remark(&format!(
            "{} µs each, verify_strict alone {} µs; {} ms in all",
            digits(cost.whole_us),
            digits(cost.raw_us),
            digits(cost.total_ms)
        ));
    }
    let growth = costs[1].1.total_ms / costs[0].1.total_ms;
    table.figure(
        "10,000 over 1,000 observations, time (10 is linear)",
        &digits(growth),
    );
}
