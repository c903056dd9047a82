//! The live display: one line per collector.

use super::Slot;
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

/// The lines of the display while collectors get ready: at most `rows`. Columns are separated by tabs, the most important ones
/// first.
pub fn gathering(slots: &[Slot], rows: usize) -> Vec<String> {
    let state = |slot: &Slot| match &slot.member {
        Some(member) => match member.first_price {
            Some(first) => (
                true,
                format!("ready    \tfirst price {}", price::text(first)),
            ),
            None => (false, "enrolled \tconnecting to the exchange".to_owned()),
        },
        None if slot.may_come() => (false, "starting ".to_owned()),
        None => (false, format!("gone     \t{}", slot.remark)),
    };
    block(slots, rows, |_, slot| state(slot))
}

/// The lines of the display while samples are taken: at most `rows`.
pub(crate) fn sampling(slots: &[Slot], round: &Round, rows: usize) -> Vec<String> {
    block(slots, rows, |index, slot| {
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
            format!("\t{missing} missing")
        } else {
            String::new()
        };
        let last = last.map_or("-".to_owned(), price::text);
        let (taken, samples) = (records.len(), round.terms.samples);
        let calm = missing == 0 && matches!(state, "answered " | "sampling ");
        (
            calm,
            format!("{state}\tlast {last}\tsample {taken} of {samples}{misses}"),
        )
    })
}

/// One line for each slot, with its exchange last. If there are more slots than rows, those that are not calm come first, and
/// the last line counts the others.
fn block(
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::secret::EnrolmentSecret;

    #[test]
    fn a_terminal_with_fewer_rows_than_slots_shows_those_that_are_not_calm() {
        let slot = |_| {
            let secret = EnrolmentSecret::take(&mut [1; 32]);
            Slot::new("kraken:BTC/USD".to_owned(), secret, false)
        };
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
