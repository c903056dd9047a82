//! The expected outcome of a round, computed independently of the library.
//!
//! The oracle knows from the schedule who signed what, so it checks no signatures. It looks at all deliveries at once, so it
//! depends on no order but that of each collector's samples. It uses only types and the decoding of sample frames from the
//! modules under test.

use super::schedule::{Delivery, Frame, Letter, Schedule};
use rsoracle::wire::Sample;
use rsoracle_proof::aggregate::Rule;
use rsoracle_proof::publish::{Decision, Policy, PublishedPrice};
use rsoracle_proof::reason::Abstention;
use rsoracle_proof::record::Record;
use rsoracle_proof::round::{Outcome, Standing};

/// The bits in place of the average in an abstention: too few samples, clock moved, stale.
pub const TOO_FEW_BITS: u64 = 0x7ff8_0000_0000_0001;
pub const CLOCK_MOVED_BITS: u64 = 0x7ff8_0000_0000_0002;
pub const STALE_BITS: u64 = 0x7ff8_0000_0000_0003;

/// The expected result of a round.
pub struct Verdict {
    pub outcome: Outcome,
    /// The prices that count.
    pub counted: Vec<Counted>,
    /// For each slot, whether an answer that fits its samples arrived.
    pub answered: Vec<bool>,
}

/// A price that counts, with its slot and timestamp.
#[derive(Clone, Copy)]
pub struct Counted {
    pub price: f64,
    pub slot: u16,
    pub timestamp_us: u64,
}

/// The instant of the last sample.
pub fn last_instant_us(schedule: &Schedule) -> u64 {
    let terms = &schedule.terms;
    schedule.start_us + (u64::from(terms.samples) - 1) * terms.interval_us
}

/// How late a sample may be requested: half the interval, but at most half a second.
pub fn lateness_us_max(interval_us: u64) -> u64 {
    if interval_us > 1_000_000 {
        500_000
    } else {
        interval_us / 2
    }
}

/// The average of these prices by `rule`, without trimming.
pub fn average(rule: Rule, prices: &[f64]) -> Option<f64> {
    let mut left: Vec<f64> = Vec::new();
    for price in prices {
        let at = left.iter().position(|other| other > price);
        left.insert(at.unwrap_or(left.len()), *price);
    }
    while rule == Rule::Median && left.len() > 2 {
        left.pop();
        left.remove(0);
    }
    average_of_ascending(&left)
}

fn average_of_ascending(ascending: &[f64]) -> Option<f64> {
    let (first, last) = (*ascending.first()?, *ascending.last()?);
    let mut sum = 0.0;
    for price in ascending {
        sum += price;
    }
    let quotient = sum / ascending.len() as f64;
    Some(if quotient < first {
        first
    } else if quotient > last {
        last
    } else {
        quotient
    })
}

/// The answer that a full set of samples makes: the bits of the average, and the timestamp.
pub fn answer(schedule: &Schedule, records: &[Record]) -> (u64, u64) {
    let terms = &schedule.terms;
    let (mut prices, mut newest_us) = (Vec::new(), 0);
    for (index, record) in records.iter().enumerate() {
        if let Ok(price) = record.price {
            prices.push(price);
            newest_us = schedule.start_us
                + index as u64 * terms.interval_us
                + record.lateness_us.expect("a price was asked for");
        }
    }
    // At least four of five: 5 * valid >= 4 * all.
    if prices.is_empty() || 5 * prices.len() < 4 * records.len() {
        return (TOO_FEW_BITS, schedule.start_us);
    }
    let average = average(terms.sample_rule, &prices).expect("there are prices");
    (average.to_bits(), newest_us)
}

/// The expected result of a round with these deliveries.
pub fn judge(schedule: &Schedule, delivered: &[&Delivery]) -> Verdict {
    let slots = 0..schedule.terms.seats.len() as u16;
    let (mut standings, mut counted, mut answered) = (Vec::new(), Vec::new(), Vec::new());
    for slot in slots {
        let to_slot = delivered.iter().filter(|delivery| delivery.slot == slot);
        let to_slot: Vec<&Delivery> = to_slot.copied().collect();
        let (standing, timestamp_us) = stand(schedule, slot, &to_slot);
        answered.push(timestamp_us.is_some());
        if let (Standing::Used(price), Some(timestamp_us)) = (standing, timestamp_us) {
            counted.push(Counted {
                price,
                slot,
                timestamp_us,
            });
        }
        standings.push(standing);
    }
    let signed = |s: &&Standing| !matches!(s, Standing::Silent | Standing::Equivocated);
    let verified = standings.iter().filter(signed).count() as u16;
    let kept = kept(schedule, &counted);
    for one in &counted {
        if !kept.iter().any(|keeps| keeps.slot == one.slot) {
            standings[usize::from(one.slot)] = Standing::Trimmed(one.price);
        }
    }
    let prices: Vec<f64> = kept.iter().map(|one| one.price).collect();
    let enough = quorum(schedule, &counted);
    let spread = || Some(prices.last()? - prices.first()?);
    let outcome = Outcome {
        price: enough.then(|| average_of_ascending(&prices)).flatten(),
        timestamp_us: enough
            .then(|| kept.iter().map(|one| one.timestamp_us).min())
            .flatten(),
        spread: enough.then(spread).flatten(),
        verified,
        prices: counted.len() as u16,
        standings,
    };
    Verdict {
        outcome,
        counted,
        answered,
    }
}

/// A slot's standing before trimming, and the timestamp of its answer, if one fits its samples.
fn stand(schedule: &Schedule, slot: u16, delivered: &[&Delivery]) -> (Standing, Option<u64>) {
    let records = accepted(schedule, delivered);
    if records.len() < schedule.terms.samples as usize {
        return (Standing::Silent, None);
    }
    let mut genuine: Vec<&Letter> = Vec::new();
    for delivery in delivered {
        if let Frame::Answer(letter) = &delivery.frame
            && is_genuine(schedule, slot, &records, letter)
            && !genuine.iter().any(|other| other.bytes == letter.bytes)
        {
            genuine.push(letter);
        }
    }
    let (bits, timestamp_us) = answer(schedule, &records);
    let fits = |letter: &&&Letter| match letter.bits() {
        TOO_FEW_BITS | CLOCK_MOVED_BITS | STALE_BITS => letter.timestamp_us() == schedule.start_us,
        signed => (signed, letter.timestamp_us()) == (bits, timestamp_us),
    };
    let Some(letter) = genuine.iter().find(fits) else {
        return (Standing::Silent, None);
    };
    let standing = match letter.bits() {
        _ if genuine.len() > 1 => Standing::Equivocated,
        TOO_FEW_BITS => Standing::Abstained(Abstention::TooFewSamples),
        CLOCK_MOVED_BITS => Standing::Abstained(Abstention::ClockMoved),
        STALE_BITS => Standing::Abstained(Abstention::Stale),
        bits => Standing::Used(f64::from_bits(bits)),
    };
    (standing, Some(letter.timestamp_us()))
}

/// The samples that count, from the frames in their order.
fn accepted(schedule: &Schedule, delivered: &[&Delivery]) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    let late = lateness_us_max(schedule.terms.interval_us);
    for delivery in delivered {
        let Frame::Sample(bytes) = &delivery.frame else {
            continue;
        };
        let Ok(Sample { start_us, record }) = Sample::decode(bytes) else {
            continue;
        };
        let next = record.index as usize == records.len() && record.index < schedule.terms.samples;
        let late = record.price.is_ok() && record.lateness_us > Some(late);
        if start_us == schedule.start_us && next && !late {
            records.push(record);
        }
    }
    records
}

/// Whether the slot's own key signed this letter for this round, its terms and these samples.
fn is_genuine(schedule: &Schedule, slot: u16, records: &[Record], letter: &Letter) -> bool {
    let Some(signed) = &letter.signed else {
        return false;
    };
    let price = f64::from_bits(letter.bits());
    let says_something = (1e-12..=1e15).contains(&price)
        || [TOO_FEW_BITS, CLOCK_MOVED_BITS, STALE_BITS].contains(&letter.bits());
    let latest_us = last_instant_us(schedule) + lateness_us_max(schedule.terms.interval_us);
    says_something
        && letter.timestamp_us() >= schedule.start_us
        && letter.timestamp_us() <= latest_us
        && schedule.keys[usize::from(slot)] == Some(signed.key)
        && (signed.slot, signed.start_us) == (slot, schedule.start_us)
        && signed.terms == schedule.terms
        && *signed.records == *records
}

/// The prices that the rule keeps, lowest first. Of equal prices, that of the lower slot counts as the lower.
fn kept(schedule: &Schedule, counted: &[Counted]) -> Vec<Counted> {
    let mut left: Vec<Counted> = Vec::new();
    for one in counted {
        let at = left.iter().position(|other| other.price > one.price);
        left.insert(at.unwrap_or(left.len()), *one);
    }
    match schedule.terms.rule {
        Rule::Mean => {}
        Rule::Median => {
            while left.len() > 2 {
                left.pop();
                left.remove(0);
            }
        }
        Rule::TrimmedMean => {
            for _ in 0..schedule.terms.f {
                left.pop();
                if !left.is_empty() {
                    left.remove(0);
                }
            }
        }
    }
    left
}

fn quorum(schedule: &Schedule, counted: &[Counted]) -> bool {
    let mut exchanges: Vec<&str> = Vec::new();
    for one in counted {
        let source = &schedule.terms.seats[usize::from(one.slot)].source;
        let kind = source.split(':').next().expect("there is a first part");
        let exchange = kind.trim_end_matches("-book");
        if !exchanges.contains(&exchange) {
            exchanges.push(exchange);
        }
    }
    counted.len() >= usize::from(schedule.terms.quorum)
        && exchanges.len() >= usize::from(schedule.terms.exchanges_min)
}

/// The expected decision about a price, and the last published price after it.
pub fn decision(
    number: u64,
    outcome: &Outcome,
    policy: &Policy,
    last: Option<PublishedPrice>,
) -> (Decision, Option<PublishedPrice>) {
    let Some(price) = outcome.price else {
        return (Decision::NoQuorum, last);
    };
    let (spread, time_us) = (outcome.spread.unwrap(), outcome.timestamp_us.unwrap());
    let published = Some(PublishedPrice {
        number,
        price,
        time_us,
    });
    if matches!(policy.spread_max, Some(part) if spread > part * price) {
        return (Decision::SpreadTooWide, last);
    }
    let Some(before) = last else {
        return (Decision::Published, published);
    };
    let moved = if price > before.price {
        price - before.price
    } else {
        before.price - price
    };
    if matches!(policy.move_max, Some(part) if moved > part * before.price) {
        return (Decision::MovedTooFar, last);
    }
    let near = matches!(policy.deviation, Some(part) if moved < part * before.price);
    let age_us = time_us.max(before.time_us) - before.time_us;
    let fresh = !matches!(policy.heartbeat_us, Some(us) if age_us >= us);
    if near && fresh {
        (Decision::Unchanged, last)
    } else {
        (Decision::Published, published)
    }
}
