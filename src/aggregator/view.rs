//! The live display: one line per collector.

use super::Slot;
use crate::system::limits::DISPLAY_LINES_MAX;
use rsoracle_proof::price;
use rsoracle_proof::round::Round;

/// Why a slot gave no answer in the round that started at `start_us`, as far as the aggregator can tell.
pub(crate) fn why_silent(slot: &Slot, start_us: u64) -> &str {
    match (&slot.member, slot.remark.as_str()) {
        (Some(_), _) if !slot.takes_part(start_us) => "no first price from the exchange in time",
        (Some(_), _) => "no answer in time",
        (None, "") if slot.remote => "the remote collector did not join",
        (None, "") => "it did not join",
        (None, remark) => remark,
    }
}

/// The lines of the display while collectors get ready.
pub fn gathering(slots: &[Slot]) -> Vec<String> {
    let state = |slot: &Slot| match &slot.member {
        Some(member) => match member.first_price {
            Some(first) => format!("ready        first price {}", price::text(first)),
            None => "enrolled     connecting to the exchange".to_owned(),
        },
        None if slot.may_come() => "starting".to_owned(),
        None => format!("gone         {}", slot.remark),
    };
    block(slots, |_, slot| state(slot))
}

/// The lines of the display while samples are taken.
pub(crate) fn sampling(slots: &[Slot], round: &Round) -> Vec<String> {
    block(slots, |index, slot| {
        let records = &round.parts[index].records;
        let last = records.iter().rev().find_map(|record| record.price.ok());
        let state = match (&slot.member, round.answered(index as u16)) {
            (_, true) => "answered ",
            (Some(_), false) if slot.takes_part(round.start_us) => "sampling ",
            (Some(_), false) => "not ready",
            (None, false) => "gone     ",
        };
        let missing = records
            .iter()
            .filter(|record| record.price.is_err())
            .count();
        let misses = if missing > 0 {
            format!("  {missing} missing")
        } else {
            String::new()
        };
        let last = last.map_or("-".to_owned(), price::text);
        format!(
            "{state}    sample {} of {}  last {last}{misses}",
            records.len(),
            round.terms.samples
        )
    })
}

fn block(slots: &[Slot], line: impl Fn(usize, &Slot) -> String) -> Vec<String> {
    let shown = slots.iter().enumerate().take(DISPLAY_LINES_MAX);
    let mut lines: Vec<String> = shown
        .map(|(index, slot)| format!("collector {index:<3} {}", line(index, slot)))
        .collect();
    if slots.len() > DISPLAY_LINES_MAX {
        lines.push(format!("… and {} more", slots.len() - DISPLAY_LINES_MAX));
    }
    lines
}

/// How many samples all participating collectors have reported.
pub(crate) fn samples_done(slots: &[Slot], round: &Round) -> usize {
    let taking_part = slots
        .iter()
        .zip(&round.parts)
        .filter(|(slot, _)| slot.takes_part(round.start_us));
    taking_part
        .map(|(_, part)| part.records.len())
        .min()
        .unwrap_or(0)
}

/// One sample of all collectors in a line: `sample 3 of 10: 5 prices, 87231.41 to 87231.42`.
pub(crate) fn sample_line(round: &Round, index: usize) -> String {
    let prices: Vec<f64> = round
        .parts
        .iter()
        .filter_map(|part| part.records.get(index)?.price.ok())
        .collect();
    let low = prices.iter().copied().min_by(f64::total_cmp);
    let high = prices.iter().copied().max_by(f64::total_cmp);
    let range = low.zip(high).map_or(String::new(), |(low, high)| {
        format!(", {} to {}", price::text(low), price::text(high))
    });
    format!(
        "sample {} of {}: {} prices{range}",
        index + 1,
        round.terms.samples,
        prices.len()
    )
}
