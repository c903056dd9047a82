//! The expected outcome of a round, computed independently of the library.
//!
//! The oracle knows from the script who signed what, so it checks no signatures. It looks at all deliveries at once, so it
//! depends on no order but that of the samples on each connection. It uses only types and the decoding of sample frames from the
//! modules under test.

use super::script::{CONNECTIONS, Delivery, Frame, Letter, Script};
use rsoracle::wire::Sample;
use rsoracle_proof::aggregate::Rule;
use rsoracle_proof::publish::{Decision, Policy, PublishedPrice};
use rsoracle_proof::reason::Abstention;
use rsoracle_proof::record::Record;
use rsoracle_proof::round::{Outcome, Standing};
use rsoracle_proof::schedule::Schedule;
use rsoracle_proof::terms::Terms;
use std::collections::BTreeSet;

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

/// From the start of a round to the instant of its last sample.
fn last_us(schedule: &Schedule) -> u64 {
    u64::from(schedule.samples) * schedule.interval_us - schedule.interval_us
}

/// From the last instant to the round's end: 1.5 s, or less if the period is short, of which a twentieth is left clear.
fn closing_us(schedule: &Schedule) -> u64 {
    if schedule.period_us == 0 {
        return 1_500_000;
    }
    let clear_us = (schedule.period_us / 20).clamp(5_000, 100_000);
    (schedule.period_us - clear_us - last_us(schedule)).min(1_500_000)
}

/// From the start of a round to its end.
pub fn length_us(schedule: &Schedule) -> u64 {
    last_us(schedule) + closing_us(schedule)
}

/// The end of the round is for answers to travel: a quarter of the closing time, or 10 ms.
pub fn travel_us(schedule: &Schedule) -> u64 {
    (closing_us(schedule) / 4).max(10_000)
}

/// Whether a round starts then.
pub fn is_start(schedule: &Schedule, us: u64) -> bool {
    let Some(since_us) = us.checked_sub(schedule.first_start_us) else {
        return false;
    };
    let on_grid = since_us == 0 || since_us.checked_rem(schedule.period_us) == Some(0);
    on_grid && schedule.end_us.is_none_or(|end_us| us < end_us)
}

/// The instant of the last sample.
pub fn last_instant_us(script: &Script) -> u64 {
    script.start_us + last_us(&script.terms.schedule)
}

/// How late a sample may be requested: half the interval, but at most half of the second, or less, that the last reply has.
pub fn lateness_us_max(schedule: &Schedule) -> u64 {
    let reply_us = closing_us(schedule) - travel_us(schedule);
    let most_us = reply_us.min(1_000_000) / 2;
    most_us.min(schedule.interval_us / 2)
}

/// How many collectors of these terms may lie: fewer than a third.
pub fn f(terms: &Terms) -> u16 {
    let n = terms.seats.len() as u16;
    match terms.rule {
        Rule::Mean => 0,
        _ => (0..n).filter(|f| 3 * f < n).max().unwrap_or(0),
    }
}

/// The fewest prices that make a price: more than twice the liars, and more than half of all.
pub fn quorum(terms: &Terms) -> u16 {
    let n = terms.seats.len() as u16;
    (2 * f(terms) + 1).max(n / 2 + 1)
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
pub fn answer(script: &Script, records: &[Record]) -> (u64, u64) {
    let terms = &script.terms;
    let (mut prices, mut newest_us) = (Vec::new(), 0);
    for (index, record) in records.iter().enumerate() {
        if let Ok(price) = record.price {
            prices.push(price);
            newest_us = script.start_us
                + index as u64 * terms.schedule.interval_us
                + record.lateness_us.expect("a price was asked for");
        }
    }
    // At least four of five: 5 * valid >= 4 * all.
    if prices.is_empty() || 5 * prices.len() < 4 * records.len() {
        return (TOO_FEW_BITS, script.start_us);
    }
    let average = average(terms.sample_rule, &prices).expect("there are prices");
    (average.to_bits(), newest_us)
}

/// The expected result of a round with these deliveries.
pub fn judge(script: &Script, delivered: &[&Delivery]) -> Verdict {
    let slots = 0..script.n();
    let (mut standings, mut counted, mut answered) = (Vec::new(), Vec::new(), Vec::new());
    for slot in slots {
        let to_slot = delivered.iter().filter(|delivery| delivery.slot == slot);
        let to_slot: Vec<&Delivery> = to_slot.copied().collect();
        let (standing, timestamp_us) = stand(script, slot, &to_slot);
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
    let kept = kept(script, &counted);
    for one in &counted {
        if !kept.iter().any(|keeps| keeps.slot == one.slot) {
            standings[usize::from(one.slot)] = Standing::Trimmed(one.price);
        }
    }
    let prices: Vec<f64> = kept.iter().map(|one| one.price).collect();
    let enough = suffice(script, &counted);
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
fn stand(script: &Script, slot: u16, delivered: &[&Delivery]) -> (Standing, Option<u64>) {
    let tracks = (0..CONNECTIONS).map(|connection| accepted(script, connection, delivered));
    let whole = |records: &Vec<Record>| records.len() == script.terms.schedule.samples as usize;
    let tracks: Vec<Vec<Record>> = tracks.filter(whole).collect();
    let mut genuine: Vec<(&Letter, &[Record])> = Vec::new();
    for delivery in delivered {
        if let Frame::Answer(posted) = &delivery.frame
            && posted.start_us == script.start_us
            && posted.tag == script.tag
            && let Some(records) = signed_over(script, slot, &tracks, &posted.letter)
            && !genuine
                .iter()
                .any(|(other, _)| other.bytes == posted.letter.bytes)
        {
            genuine.push((&posted.letter, records));
        }
    }
    let fits = |(letter, records): &&(&Letter, &[Record])| match letter.bits() {
        TOO_FEW_BITS | CLOCK_MOVED_BITS | STALE_BITS => letter.timestamp_us() == script.start_us,
        bits => (bits, letter.timestamp_us()) == answer(script, records),
    };
    let Some((letter, _)) = genuine.iter().find(fits) else {
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

/// The samples of one connection that count, from its frames in their order.
fn accepted(script: &Script, connection: usize, delivered: &[&Delivery]) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    let schedule = &script.terms.schedule;
    let late = lateness_us_max(schedule);
    for delivery in delivered {
        let Frame::Sample(on, bytes) = &delivery.frame else {
            continue;
        };
        let Ok(sample) = Sample::decode(bytes) else {
            continue;
        };
        let record = sample.record;
        let of_round =
            *on == connection && sample.start_us == script.start_us && sample.tag == script.tag;
        let instant_us = script.start_us + u64::from(record.index) * schedule.interval_us;
        let early = record.price.is_ok() && instant_us > delivery.at_us + 1_000_000;
        let next = record.index as usize == records.len() && record.index < schedule.samples;
        let late = record.price.is_ok() && record.lateness_us > Some(late);
        let most_us = script.terms.age_us_max.unwrap_or(u64::MAX);
        let old = record.age_us.unwrap_or(0) > most_us;
        if of_round && next && !early && !late && !old {
            records.push(record);
        }
    }
    records
}

/// The samples of one of these connections over which the slot's own key signed this letter, for this round and its terms.
fn signed_over<'a>(
    script: &Script,
    slot: u16,
    tracks: &'a [Vec<Record>],
    letter: &Letter,
) -> Option<&'a [Record]> {
    let signed = letter.signed.as_ref()?;
    let price = f64::from_bits(letter.bits());
    let says_something = (1e-12..=1e15).contains(&price)
        || [TOO_FEW_BITS, CLOCK_MOVED_BITS, STALE_BITS].contains(&letter.bits());
    let latest_us = last_instant_us(script) + lateness_us_max(&script.terms.schedule);
    let is_own = says_something
        && letter.timestamp_us() >= script.start_us
        && letter.timestamp_us() <= latest_us
        && script.keys[usize::from(slot)] == Some(signed.key)
        && (signed.slot, signed.start_us) == (slot, script.start_us)
        && signed.terms == script.terms;
    let mut tracks = tracks.iter().filter(|_| is_own);
    let records = tracks.find(|records| **records == *signed.records)?;
    Some(records)
}

/// The prices that the rule keeps, lowest first. Of equal prices, that of the lower slot counts as the lower.
fn kept(script: &Script, counted: &[Counted]) -> Vec<Counted> {
    let mut left: Vec<Counted> = Vec::new();
    for one in counted {
        let at = left.iter().position(|other| other.price > one.price);
        left.insert(at.unwrap_or(left.len()), *one);
    }
    match script.terms.rule {
        Rule::Mean => {}
        Rule::Median => {
            while left.len() > 2 {
                left.pop();
                left.remove(0);
            }
        }
        Rule::TrimmedMean => {
            for _ in 0..f(&script.terms) {
                left.pop();
                if !left.is_empty() {
                    left.remove(0);
                }
            }
        }
    }
    left
}

/// Whether these are enough prices, of enough exchanges.
fn suffice(script: &Script, counted: &[Counted]) -> bool {
    let exchange = |one: &Counted| exchange(&script.terms.seats[usize::from(one.slot)].source);
    let exchanges: BTreeSet<&str> = counted.iter().map(exchange).collect();
    counted.len() >= usize::from(quorum(&script.terms))
        && exchanges.len() >= usize::from(script.terms.exchanges_min)
}

/// The exchange of a source.
pub fn exchange(source: &str) -> &str {
    let kind = source.split(':').next().expect("there is a first part");
    kind.trim_end_matches("-book")
}

/// The expected decision about a price, and the last published price after it.
pub fn decision(
    number: u64,
    outcome: &Outcome,
    spread_ppm_max: Option<u32>,
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
    if matches!(spread_ppm_max, Some(ppm) if spread > f64::from(ppm) / 1e6 * price) {
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
