//! The live display: the round and the time to the next one, a line for each source (of several feeds, for each feed), and the
//! last rounds. And the words for what is missing.

use super::Slot;
use crate::system::limits::DISPLAY_LINES_MAX;
use crate::system::screen::LOOK;
use crate::system::span::span;
use rsoracle_proof::price;
use rsoracle_proof::report::Report;
use rsoracle_proof::round::{Round, Standing};
use rsoracle_proof::source::exchange_of;
use rsoracle_proof::terms::{Roster, Terms};
use rsoracle_proof::utc::utc_text;
use std::collections::VecDeque;

/// What a line begins with that needs no attention.
const CALM: &str = "  ";
/// What is between two columns.
const GAP: &str = "  ";
/// Most rounds that are remembered of a feed, for the sparklines.
pub(crate) const ROUNDS_MAX: usize = 20;
/// Least columns of a sparkline.
const ROUNDS_MIN: usize = 4;
/// A sparkline's heights, lowest first.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Displays of fewer rows have no line of the last rounds.
const PAST_ROWS_MIN: usize = 6;
/// Displays of fewer rows have no titles of columns.
const TITLED_ROWS_MIN: usize = 12;
/// A source whose answer is further from the round's price than this part of it needs attention.
const APART: f64 = 0.005;

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

/// What is remembered of a feed's round.
pub(crate) struct Seen {
    start_us: u64,
    /// The price, also if it is withheld.
    price: Option<f64>,
    withheld: bool,
    spread: Option<f64>,
    /// Each seat's answer, or why it gave no price.
    answers: Vec<Result<f64, String>>,
}

impl Seen {
    /// What is to be remembered of a report. `remarks` has, for each seat, what happened to its collector, or an empty text.
    pub(crate) fn new(report: &Report, remarks: &[String]) -> Seen {
        let answer = |(standing, remark): (&Standing, &String)| match standing {
            Standing::Used(price) | Standing::Trimmed(price) => Ok(*price),
            Standing::Abstained(why) => Err(format!("abstains: {why}")),
            Standing::Equivocated => Err("it signed two different answers".to_owned()),
            Standing::Silent if remark.is_empty() => Err("no answer".to_owned()),
            Standing::Silent => Err(remark.clone()),
        };
        let outcome = &report.outcome;
        Seen {
            start_us: report.round.start_us,
            price: outcome.price,
            withheld: !report.decision.has_price(),
            spread: outcome.spread,
            answers: outcome.standings.iter().zip(remarks).map(answer).collect(),
        }
    }

    /// The price, or a word for why there is none.
    fn text(&self) -> String {
        match self.price {
            None => "no price".to_owned(),
            Some(_) if self.withheld => "withheld".to_owned(),
            Some(price) => price::text(price),
        }
    }

    /// The spread of the prices used, in per cent of the price.
    fn spread_text(&self) -> String {
        let part = self.spread.zip(self.price);
        part.map_or("-".to_owned(), |(spread, price)| {
            format!("{:.3} %", spread / price * 100.0)
        })
    }
}

/// What the display shows.
pub(crate) struct View<'a> {
    pub(super) roster: &'a Roster,
    pub(super) slots: &'a [Slot],
    /// The running rounds; empty between rounds.
    pub(super) rounds: &'a [Round],
    /// For each feed, its last rounds.
    pub(super) past: &'a [VecDeque<Seen>],
    /// Microseconds until the next round, if there will be one.
    pub(super) next_us: Option<u64>,
    /// Rows and columns.
    pub(super) room: (usize, usize),
}

/// A line about a source or a feed.
#[derive(Default)]
struct Row {
    calm: bool,
    /// Its long and its short name.
    names: [String; 2],
    /// The most important one first.
    cells: Vec<String>,
    /// What is wrong; it comes after the cells, instead of the sparkline.
    remark: String,
    course: Vec<Option<f64>>,
}

impl View<'_> {
    /// The lines of the display, at most as many as there are rows. What does not fit into the columns is left out.
    pub(crate) fn lines(&self) -> Vec<String> {
        let (rows, columns) = self.room;
        let (mut body, titles) = match self.roster.feeds.len() {
            1 => (self.sources(), ["source", "last", "deviation", "late"]),
            _ => (self.feeds(), ["feed", "price", "prices", "spread"]),
        };
        let titled = rows >= TITLED_ROWS_MIN;
        let past = self.last_rounds().filter(|_| rows >= PAST_ROWS_MIN);
        let room = rows.saturating_sub(1 + usize::from(titled) + usize::from(past.is_some()));
        let more = body.len() - leave(&mut body, room.min(DISPLAY_LINES_MAX + 1));
        if titled {
            body.insert(0, Row::titles(titles));
        }
        let mut lines = vec![self.headline()];
        lines.extend(table(&body, columns));
        lines.extend((more > 0).then(|| format!("{CALM}… and {more} more")));
        lines.extend(past);
        lines
    }

    /// The newest price, or how many feeds have one, and the time to the next round.
    fn headline(&self) -> String {
        let feeds = &self.roster.feeds;
        let last = Vec::from_iter(self.past.iter().filter_map(VecDeque::back));
        let priced = last.iter().filter(|seen| !seen.withheld).count();
        let margin = [LOOK, CALM][usize::from(priced == last.len())];
        let next = self.next_us.map(|us| match us.div_ceil(1_000_000) {
            s @ 0..120 => format!("next in {s} s"),
            _ => format!("next in {}", span(us)),
        });
        let ready = self.slots.iter().filter(|slot| slot.ready()).count();
        let state = match (self.rounds.first(), last.as_slice()) {
            (Some(round), _) => {
                let done = samples_done(self.slots, round.start_us);
                format!("sample {done} of {}", round.terms.schedule.samples)
            }
            (None, [seen]) => {
                let prices = seen.answers.iter().filter(|answer| answer.is_ok()).count();
                format!("{prices} of {} prices", seen.answers.len())
            }
            _ => format!("{ready} of {} collectors ready", self.slots.len()),
        };
        let (name, spread) = match (last.as_slice(), feeds.as_slice()) {
            ([seen], [feed]) => (
                format!("{} {}", feed.feed, seen.text()),
                Some(seen.spread_text()),
            ),
            (_, [feed]) => (feed.feed.clone(), None),
            ([], feeds) => (format!("{} feeds", feeds.len()), None),
            (_, feeds) => (format!("{priced} of {} feeds priced", feeds.len()), None),
        };
        let spread = spread.map(|spread| format!("spread {spread}"));
        let cells = next.into_iter().chain([state]).chain(spread);
        let line = joined(format!("{margin}{name}"), cells, self.room.1);
        let course = self.past[0].iter().map(|seen| seen.price);
        with_course(
            line,
            course.take_while(|_| feeds.len() == 1).collect(),
            self.room.1,
        )
    }

    /// The last rounds that are over, newest first.
    fn last_rounds(&self) -> Option<String> {
        let cell = |at: usize| {
            let seen = self.past.iter().map(|seen| seen.iter().rev().nth(at));
            let seen: Vec<&Seen> = seen.collect::<Option<_>>()?;
            let time = &utc_text(seen[0].start_us)[11..19];
            Some(match seen.as_slice() {
                [one] => format!("{time} {}", one.text()),
                all => {
                    let priced = all.iter().filter(|seen| !seen.withheld).count();
                    format!("{time} {priced} of {} feeds", all.len())
                }
            })
        };
        let cells = (0..ROUNDS_MAX).map_while(cell);
        let line = joined(format!("{CALM}rounds"), cells, self.room.1);
        self.past[0].back().map(|_| line)
    }

    /// A row for each source of a single feed.
    fn sources(&self) -> Vec<Row> {
        let digits = self.slots.len().saturating_sub(1).to_string().len();
        let row = |(index, slot): (usize, &Slot)| {
            let (seat, seen) = (usize::from(slot.seats[0]?), self.past[0].back());
            let running = self.rounds.first().map(|round| round.start_us);
            let start_us = running.or(seen.map(|seen| seen.start_us));
            let records = start_us.map_or(&[][..], |us| slot.records(us, 0));
            let sample = records.iter().rev().find_map(|record| record.price.ok());
            let last = sample.or_else(|| slot.first_price(0));
            let mut cells = vec![last.map_or("-".to_owned(), price::text)];
            let answer = seen.map(|seen| seen.answers[seat].as_ref());
            let apart =
                seen.and_then(|seen| Some(seen.answers[seat].as_ref().ok()? / seen.price? - 1.0));
            let missing = records
                .iter()
                .filter(|record| record.price.is_err())
                .count();
            let remark = match (state(slot), answer) {
                (Some(state), _) => state.to_owned(),
                (None, Some(Err(why))) => why.clone(),
                _ if missing > 0 => format!("{missing} of {} samples missing", records.len()),
                _ => String::new(),
            };
            if remark.is_empty() {
                let late_us = records.iter().filter_map(|record| record.lateness_us).max();
                cells.push(apart.map_or("-".to_owned(), |part| format!("{:+.3} %", part * 100.0)));
                cells.push(late_us.map_or("-".to_owned(), |us| match us {
                    0..10_000 => format!("{us} µs"),
                    _ => format!("{} ms", us / 1_000),
                }));
            }
            let exchange = exchange_of(&slot.sources[0]);
            let exchange = exchange.strip_prefix("embedded-").unwrap_or(exchange);
            let names = [&slot.sources[0], exchange];
            let seen = self.past[0].iter();
            Some(Row {
                calm: remark.is_empty() && apart.is_none_or(|part| part.abs() <= APART),
                names: names.map(|name| format!("{index:>digits$} {name}")),
                cells,
                remark,
                course: seen.map(|seen| seen.answers[seat].clone().ok()).collect(),
            })
        };
        self.slots.iter().enumerate().filter_map(row).collect()
    }

    /// A row for each of several feeds.
    fn feeds(&self) -> Vec<Row> {
        let row = |(feed, (terms, past)): (usize, (&Terms, &VecDeque<Seen>))| {
            let seen = past.back();
            let lacks = |(index, slot): (usize, &Slot)| {
                let there = match seen {
                    Some(seen) => seen.answers[usize::from(slot.seats[feed]?)].is_ok(),
                    None => slot.seats[feed].map(|_| slot.ready_for(feed))?,
                };
                (!there).then(|| format!("{index} {}", exchange_of(&slot.sources[feed])))
            };
            let without: Vec<String> = self.slots.iter().enumerate().filter_map(lacks).collect();
            let n = usize::from(terms.n());
            let mut cells = vec![
                seen.map_or("-".to_owned(), Seen::text),
                format!("{} of {n}", n - without.len()),
            ];
            let remark = match without.is_empty() {
                true => String::new(),
                false => format!("without {}", without.join(", ")),
            };
            if without.is_empty() {
                cells.extend(seen.map(Seen::spread_text));
            }
            Row {
                calm: without.is_empty() && seen.is_none_or(|seen| !seen.withheld),
                names: [&terms.feed, &terms.feed].map(String::clone),
                cells,
                remark,
                course: past.iter().map(|seen| seen.price).collect(),
            }
        };
        let feeds = self.roster.feeds.iter().zip(self.past);
        feeds.enumerate().map(row).collect()
    }
}

impl Row {
    fn titles([name, cells @ ..]: [&str; 4]) -> Row {
        Row {
            calm: true,
            names: [name, name].map(str::to_owned),
            cells: cells.map(str::to_owned).to_vec(),
            ..Row::default()
        }
    }
}

/// What a collector is doing that has no prices yet.
fn state(slot: &Slot) -> Option<&str> {
    match (
        slot.members.is_empty(),
        slot.child.is_some(),
        slot.remark.as_str(),
    ) {
        (false, ..) if slot.ready_for(0) => None,
        (false, ..) => Some("connecting to the exchange"),
        (true, true, "") => Some("starting"),
        (true, false, "") => Some("not connected"),
        (true, _, remark) => Some(remark),
    }
}

/// Leaves as many rows as there is room for, besides a line that counts the others: first those that are not calm. Returns
/// their number.
fn leave(rows: &mut Vec<Row>, room: usize) -> usize {
    if rows.len() > room {
        let left = room.saturating_sub(1);
        let odd = rows.iter().filter(|row| !row.calm).count().min(left);
        let mut left = [odd, left - odd];
        rows.retain(|row| {
            let left = &mut left[usize::from(row.calm)];
            let stays = *left > 0;
            *left -= usize::from(stays);
            stays
        });
    }
    rows.len()
}

/// The rows as lines, with short names if these leave room for more.
fn table(rows: &[Row], columns: usize) -> Vec<String> {
    let longest = |texts: &mut dyn Iterator<Item = &String>| {
        texts.map(|it| it.chars().count()).max().unwrap_or(0)
    };
    let widths = [0, 1, 2].map(|at| longest(&mut rows.iter().filter_map(|row| row.cells.get(at))));
    let names = [0, 1].map(|at| longest(&mut rows.iter().map(|row| &row.names[at])));
    let cells: usize = widths.iter().map(|width| GAP.len() + width).sum();
    let short = CALM.len() + names[0] + cells + GAP.len() + ROUNDS_MIN > columns;
    let short = usize::from(short);
    let line = |row: &Row| {
        let margin = [LOOK, CALM][usize::from(row.calm)];
        let name = format!("{margin}{:<width$}", row.names[short], width = names[short]);
        let cells = row.cells.iter().zip(widths);
        let cells = cells.map(|(cell, width)| format!("{cell:>width$}"));
        let line = joined(name, cells, columns);
        match row.remark.is_empty() {
            true => with_course(line, row.course.clone(), columns),
            false => format!("{line}{GAP}{}", row.remark),
        }
    };
    rows.iter().map(line).collect()
}

/// A line with as many further cells as fit.
fn joined(first: String, cells: impl IntoIterator<Item = String>, columns: usize) -> String {
    let mut line = first;
    for cell in cells {
        if line.chars().count() + GAP.len() + cell.chars().count() > columns {
            break;
        }
        line = line + GAP + &cell;
    }
    line
}

/// A line with a sparkline of as many of the newest prices as fit.
fn with_course(line: String, course: Vec<Option<f64>>, columns: usize) -> String {
    let room = columns.saturating_sub(line.chars().count() + GAP.len());
    let course = &course[course.len().saturating_sub(room)..];
    let prices = || course.iter().flatten().copied();
    let (low, high) = (
        prices().fold(f64::MAX, f64::min),
        prices().fold(0.0, f64::max),
    );
    let block = |price: f64| match high > low {
        true => BLOCKS[((price - low) / (high - low) * 7.0).round() as usize],
        false => BLOCKS[3],
    };
    if room < ROUNDS_MIN || course.is_empty() {
        return line;
    }
    let blocks: String = course
        .iter()
        .map(|price| price.map_or(' ', block))
        .collect();
    line + GAP + &blocks
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
    use rsoracle_proof::record::Record;

    fn row(calm: bool, remark: &str) -> Row {
        Row {
            calm,
            names: ["7 embedded-kraken:BTC/USD", "7 kraken"].map(str::to_owned),
            cells: ["87231.42", "+0.001 %", "12 µs"]
                .map(str::to_owned)
                .to_vec(),
            remark: remark.to_owned(),
            course: [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0].map(Some).to_vec(),
        }
    }

    #[test]
    fn a_row_has_what_fits_into_its_line() {
        for (columns, line) in [
            (
                70,
                "  7 embedded-kraken:BTC/USD  87231.42  +0.001 %  12 µs  ▁▂▃▄▅▆▇█",
            ),
            (
                60,
                "  7 embedded-kraken:BTC/USD  87231.42  +0.001 %  12 µs  ▁▃▆█",
            ),
            (59, "  7 kraken  87231.42  +0.001 %  12 µs  ▁▂▃▄▅▆▇█"),
            (42, "  7 kraken  87231.42  +0.001 %  12 µs"),
            (36, "  7 kraken  87231.42  +0.001 %"),
            (20, "  7 kraken  87231.42"),
            (19, "  7 kraken  ▁▂▃▅▆▇█"),
            (10, "  7 kraken"),
        ] {
            let lines = table(&[row(true, "")], columns);
            assert_eq!(lines, [line], "{columns} columns");
        }
        let line = "! 7 kraken  87231.42  +0.001 %  12 µs  no answer";
        assert_eq!(table(&[row(false, "no answer")], 40), [line]);
    }

    #[test]
    fn with_fewer_rows_than_sources_those_that_need_attention_stay() {
        let calm = [true, true, false, true, false];
        for (room, number, left) in [
            (5, 5, &calm[..]),
            (4, 3, &[true, false, false]),
            (2, 1, &[false]),
            (1, 0, &[]),
            (0, 0, &[]),
        ] {
            let mut rows = Vec::from(calm.map(|calm| row(calm, "")));
            assert_eq!(leave(&mut rows, room), number);
            assert_eq!(Vec::from_iter(rows.iter().map(|row| row.calm)), left);
        }
    }

    #[test]
    fn a_sparkline_has_the_newest_prices_and_a_blank_where_there_is_none() {
        let drawn =
            |course: &[Option<f64>], columns| with_course("12".into(), course.to_vec(), columns);
        let course = [Some(9.0), Some(1.0), None, Some(2.0), Some(3.0)];
        assert_eq!(drawn(&course, 80), "12  █▁ ▂▃");
        assert_eq!(drawn(&course, 8), "12  ▁ ▅█");
        assert_eq!(drawn(&course, 7), "12");
        assert_eq!(drawn(&[Some(1e-12), Some(1e15)], 80), "12  ▁█");
        assert_eq!(drawn(&[Some(5.0), Some(5.0)], 80), "12  ▄▄");
        assert_eq!(drawn(&[None], 80), "12   ");
        assert_eq!(drawn(&[], 80), "12");
    }

    #[test]
    fn before_the_first_round_the_display_says_who_is_not_ready() {
        let roster = roster(&terms(&["kraken:BTC/USD"; 7], 0, 1));
        let slots = Slot::all(&roster, &[None; 7]);
        let mut view = View {
            roster: &roster,
            slots: &slots,
            rounds: &[],
            past: &[VecDeque::new()],
            next_us: Some(2_000_001),
            room: (3, 60),
        };
        let lines = view.lines();
        assert!(
            lines[0].ends_with("  next in 3 s  0 of 7 collectors ready"),
            "{lines:?}"
        );
        assert_eq!(
            lines[1..],
            ["! 0 kraken:BTC/USD  -  not connected", "  … and 6 more"]
        );
        for rows in 1..30 {
            view.room = (rows, 60);
            assert!(view.lines().len() <= rows.max(2), "{rows} rows");
        }
        view.room = (23, 60);
        assert_eq!(view.lines().len(), 9);
    }

    #[test]
    fn samples_are_counted_that_all_expected_collectors_have_of_all_feeds() {
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
        assert_eq!(samples_done(&slots, 0), 0);
        slots[0].expected = vec![true, false];
        assert_eq!(samples_done(&slots, 0), 1);
        let line = "sample 1 of 1: 4 prices of 2 feeds";
        assert_eq!(sample_line(&slots, &rounds, 0), line);
    }
}
