//! The live display: one line per collector.

use super::Slot;
use rsoracle_proof::price;
use rsoracle_proof::record::Record;
use rsoracle_proof::round::Round;
use rsoracle_proof::source::exchange_of;

/// Why a slot gave no answer for a feed in the last round that began, as far as the aggregator can tell.
pub(crate) fn why_silent(slot: &Slot, feed: usize) -> &str {
    let expected = slot.expected[feed];
    match (slot.members.is_empty(), slot.remark.as_str()) {
        (false, _) if !expected && slot.ready_for(feed) => "it became ready after the round began",
        (false, _) if !expected => "no first price from the exchange in time",
        (false, _) => "no answer in time",
        (true, "") => "it did not join",
        (true, remark) => remark,
    }
}

/// The state of a slot while collectors get ready, and whether all is well with it. `may_come`: a collector may still join it.
pub(crate) fn readiness(slot: &Slot, may_come: bool) -> (bool, String) {
    let feeds: Vec<usize> = slot.feeds().map(|(feed, _)| feed).collect();
    let first = slot.first_price(feeds[0]).filter(|_| feeds.len() == 1);
    let told = match first {
        Some(first) => format!("ready    \tfirst price {}", price::text(first)),
        None if feeds.iter().any(|feed| slot.ready_for(*feed)) => {
            let ready = feeds.iter().filter(|feed| slot.ready_for(**feed)).count();
            let state = if slot.ready() {
                "ready    "
            } else {
                "joined   "
            };
            format!("{state}\tfirst prices of {ready} of {} feeds", feeds.len())
        }
        None if !slot.members.is_empty() => "joined   \tconnecting to the exchange".to_owned(),
        None if may_come => "starting ".to_owned(),
        None => format!("gone     \t{}", slot.remark),
    };
    (slot.ready(), told)
}

/// The lines of the display while samples are taken: at most `rows`.
pub(crate) fn sampling(slots: &[Slot], rounds: &[Round], rows: usize) -> Vec<String> {
    block(slots, rows, |_, slot| {
        let feeds: Vec<(usize, u16)> = slot.feeds().collect();
        let of = |feed: usize| slot.records(rounds[feed].start_us, feed);
        let all = || feeds.iter().map(|(feed, _)| of(*feed));
        let answered = |(feed, seat): &(usize, u16)| rounds[*feed].answered(*seat);
        let state = match (slot.members.is_empty(), feeds.iter().all(answered)) {
            (_, true) => "answered ",
            (false, false) if slot.expected.contains(&true) => "sampling ",
            (false, false) => "not ready",
            (true, false) => "gone     ",
        };
        let missing = |records: &[Record]| records.iter().filter(|it| it.price.is_err()).count();
        let misses = match all().map(missing).sum() {
            0 => String::new(),
            count => format!("\t{count} missing"),
        };
        let taken = all().map(<[Record]>::len).max().unwrap_or(0);
        let latest = match feeds.as_slice() {
            [(feed, _)] => {
                let last = of(*feed).iter().rev().find_map(|record| record.price.ok());
                format!("last {}", last.map_or("-".to_owned(), price::text))
            }
            _ => {
                let there = all().filter(|records| records.len() == taken && taken > 0);
                format!("{} of {} feeds", there.count(), feeds.len())
            }
        };
        let samples = rounds[feeds[0].0].terms.schedule.samples;
        let calm = misses.is_empty() && matches!(state, "answered " | "sampling ");
        let text = format!("{state}\t{latest}\tsample {taken} of {samples}{misses}");
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
        let mut sources = slot.sources.iter().filter(|source| !source.is_empty());
        let first = sources.next().map_or("", String::as_str);
        let several = sources.next().is_some();
        let watched = if several { exchange_of(first) } else { first };
        (
            calm,
            index,
            format!("collector {index:<2}\t{text}\t{watched}"),
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

/// How many samples all expected collectors have reported of all their feeds in a round.
pub(crate) fn samples_done(slots: &[Slot], start_us: u64) -> usize {
    let count = |slot: &Slot| {
        let feeds = slot.feeds().filter(|(feed, _)| slot.expected[*feed]);
        feeds
            .map(|(feed, _)| slot.records(start_us, feed).len())
            .min()
    };
    slots.iter().filter_map(count).min().unwrap_or(0)
}

/// One sample of all collectors in a line: `sample 3 of 10: 5 prices, 87231.41 to 87231.42`, or `15 prices of 3 feeds`.
pub(crate) fn sample_line(slots: &[Slot], rounds: &[Round], index: usize) -> String {
    let price = |slot: &Slot, feed: usize| {
        let records = slot.records(rounds[feed].start_us, feed);
        records.get(index)?.price.ok()
    };
    let of_slot =
        |slot: &Slot| Vec::from_iter(slot.feeds().filter_map(|(feed, _)| price(slot, feed)));
    let prices: Vec<f64> = slots.iter().flat_map(of_slot).collect();
    let low = prices.iter().copied().min_by(f64::total_cmp);
    let high = prices.iter().copied().max_by(f64::total_cmp);
    let range = match (low.zip(high), rounds.len()) {
        (_, 2..) => format!(" of {} feeds", rounds.len()),
        (Some((low, high)), _) => format!(", {} to {}", price::text(low), price::text(high)),
        (None, _) => String::new(),
    };
    format!(
        "sample {} of {}: {} prices{range}",
        index + 1,
        rounds[0].terms.schedule.samples,
        prices.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregator::agreed::tests::{roster, terms, two_feeds};

    #[test]
    fn a_terminal_with_fewer_rows_than_slots_shows_those_that_are_not_calm() {
        let roster = roster(&terms(&["kraken:BTC/USD"; 7], 0, 1));
        let slots = Slot::all(&roster, &[None; 7]);
        let shown = |rows| block(&slots, rows, |index, _| (index != 5, "state".to_owned()));
        let whole = shown(7);
        assert_eq!(whole.len(), 7);
        assert_eq!(whole[6], "collector 6 \tstate\tkraken:BTC/USD");
        let few = shown(3).join("; ");
        let told = [0, 5].map(|index| &*whole[index]).join("; ");
        assert_eq!(few, format!("{told}; … and 5 more"));
        assert_eq!(shown(1), ["… and 7 more"]);
    }

    #[test]
    fn of_several_feeds_a_line_says_how_many_of_them_have_the_sample() {
        let roster = two_feeds([None; 3]);
        let mut slots = Slot::all(&roster, &[None; 3]);
        let feeds = roster.feeds.iter().cloned();
        let rounds: Vec<Round> = feeds.map(|terms| Round::new(terms, 0)).collect();
        let record = Record {
            index: 0,
            price: Ok(100.0),
            lateness_us: Some(3),
            age_us: None,
        };
        slots[0].left.records = vec![vec![record], Vec::new()];
        slots[1].left.records = vec![vec![record]];
        slots[2].left.records = vec![vec![record]; 2];
        slots[0].expected = vec![true, true];
        assert_eq!(
            sampling(&slots, &rounds, 9),
            [
                "collector 0 \tgone     \t1 of 2 feeds\tsample 1 of 1\tokx",
                "collector 1 \tgone     \tlast 100.0000\tsample 1 of 1\tokx:BTC-USDT",
                "collector 2 \tgone     \t2 of 2 feeds\tsample 1 of 1\tokx",
            ]
        );
        assert_eq!(samples_done(&slots, 0), 0);
        slots[0].expected = vec![true, false];
        assert_eq!(samples_done(&slots, 0), 1);
        let line = "sample 1 of 1: 4 prices of 2 feeds";
        assert_eq!(sample_line(&slots, &rounds, 0), line);
    }
}
