//! The live display: one line per collector.

use super::Slot;
use rsoracle_proof::price;
use rsoracle_proof::round::Round;

/// Why a slot gave no answer in the last round that began, as far as the aggregator can tell.
pub(crate) fn why_silent(slot: &Slot) -> &str {
    match (slot.members.is_empty(), slot.remark.as_str()) {
        (false, _) if !slot.expected && slot.ready() => "it became ready after the round began",
        (false, _) if !slot.expected => "no first price from the exchange in time",
        (false, _) => "no answer in time",
        (true, "") => "it did not join",
        (true, remark) => remark,
    }
}

/// The state of a slot while collectors get ready, and whether all is well with it. `may_come`: a collector may still join it.
pub(crate) fn readiness(slot: &Slot, may_come: bool) -> (bool, String) {
    let told = match slot.first_price() {
        Some(first) => format!("ready    \tfirst price {}", price::text(first)),
        None if !slot.members.is_empty() => "joined   \tconnecting to the exchange".to_owned(),
        None if may_come => "starting ".to_owned(),
        None => format!("gone     \t{}", slot.remark),
    };
    (slot.ready(), told)
}

/// The lines of the display while samples are taken: at most `rows`.
pub(crate) fn sampling(slots: &[Slot], round: &Round, rows: usize) -> Vec<String> {
    block(slots, rows, |index, slot| {
        let records = slot.records(round.start_us);
        let last = records.iter().rev().find_map(|record| record.price.ok());
        let state = match (slot.members.is_empty(), round.answered(index as u16)) {
            (_, true) => "answered ",
            (false, false) if slot.expected => "sampling ",
            (false, false) => "not ready",
            (true, false) => "gone     ",
        };
        let missing = records.iter().filter(|record| record.price.is_err());
        let misses = match missing.count() {
            0 => String::new(),
            count => format!("\t{count} missing"),
        };
        let last = last.map_or("-".to_owned(), price::text);
        let (taken, samples) = (records.len(), round.terms.schedule.samples);
        let calm = misses.is_empty() && matches!(state, "answered " | "sampling ");
        let text = format!("{state}\tlast {last}\tsample {taken} of {samples}{misses}");
        (calm, text)
    })
}

/// The lines of the display: at most `rows`, one for each slot, with its exchange last. `line` tells whether all is well with a
/// slot, and its state, in columns separated by tabs, the most important one first. If there are more slots than rows, those
/// with which all is not well come first, and the last line counts the others.
pub(crate) fn block(
    slots: &[Slot],
    rows: usize,
    line: impl Fn(usize, &Slot) -> (bool, String),
) -> Vec<String> {
    let told = |(index, slot): (usize, &Slot)| {
        let (calm, text) = line(index, slot);
        (
            calm,
            index,
            format!("collector {index:<2}\t{text}\t{}", slot.source),
        )
    };
    let mut lines: Vec<(bool, usize, String)> = slots.iter().enumerate().map(told).collect();
    if lines.len() > rows {
        lines.sort_unstable();
        let shown = rows.saturating_sub(1);
        let more = lines.split_off(shown).len();
        lines.push((true, slots.len(), format!("… and {more} more")));
        lines.sort_unstable_by_key(|(_, index, _)| *index);
    }
    lines.into_iter().map(|(_, _, text)| text).collect()
}

/// How many samples all expected collectors have reported in a round.
pub(crate) fn samples_done(slots: &[Slot], start_us: u64) -> usize {
    let expected = slots.iter().filter(|slot| slot.expected);
    let counts = expected.map(|slot| slot.records(start_us).len());
    counts.min().unwrap_or(0)
}

/// One sample of all collectors in a line: `sample 3 of 10: 5 prices, 87231.41 to 87231.42`.
pub(crate) fn sample_line(slots: &[Slot], round: &Round, index: usize) -> String {
    let price = |slot: &Slot| slot.records(round.start_us).get(index)?.price.ok();
    let prices: Vec<f64> = slots.iter().filter_map(price).collect();
    let low = prices.iter().copied().min_by(f64::total_cmp);
    let high = prices.iter().copied().max_by(f64::total_cmp);
    let range = low.zip(high).map_or(String::new(), |(low, high)| {
        format!(", {} to {}", price::text(low), price::text(high))
    });
    format!(
        "sample {} of {}: {} prices{range}",
        index + 1,
        round.terms.schedule.samples,
        prices.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_with_fewer_rows_than_slots_shows_those_that_are_not_calm() {
        let slot = |_| Slot::new("kraken:BTC/USD".to_owned(), None);
        let slots: Vec<Slot> = (0..7).map(slot).collect();
        let shown = |rows| block(&slots, rows, |index, _| (index != 5, "state".to_owned()));
        let whole = shown(7);
        assert_eq!(whole.len(), 7);
        assert_eq!(whole[6], "collector 6 \tstate\tkraken:BTC/USD");
        let few = shown(3).join("; ");
        let told = [0, 5].map(|index| &*whole[index]).join("; ");
        assert_eq!(few, format!("{told}; … and 5 more"));
        assert_eq!(shown(1), ["… and 7 more"]);
    }
}
