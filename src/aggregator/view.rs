//! The live display: the round and the time to the next one, a line for each source (of several feeds, for each feed), and the
//! last rounds. And the words for what is missing.

use super::{Aggregator, Slot};
use crate::aggregator::limits::DISPLAY_LINES_MAX;
use crate::system::now::wall_us;
use crate::system::screen::LOOK;
use crate::system::span::span;
use rsoracle_proof::price;
use rsoracle_proof::report::Report;
use rsoracle_proof::round::{Round, Standing};
use rsoracle_proof::source::exchange_of;
use rsoracle_proof::terms::Terms;
use rsoracle_proof::utc::utc_text;
use std::collections::VecDeque;

/// What a line begins with that needs no attention.
const CALM: &str = "  ";
/// What is between two columns.
const GAP: &str = "  ";
/// Most rounds that are remembered of a feed, for the sparklines.
pub(crate) const ROUNDS_MAX: usize = 20;
/// Least columns of a sparkline.
const COURSE_MIN: usize = 4;
/// A sparkline's heights, lowest first.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Displays of fewer rows have no line of the last rounds.
const PAST_ROWS_MIN: usize = 6;
/// Displays of fewer rows have no titles of columns.
const TITLED_ROWS_MIN: usize = 12;
/// Displays of fewer columns name exchanges only.
const NAMES_COLUMNS_MIN: usize = 72;
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
    /// Whether the report has a price.
    priced: bool,
    /// The price or, without one, the reason in a word.
    text: String,
    /// The spread of the prices used, in per cent of the price.
    spread: String,
    /// Each seat's answer, or why it gave no price.
    answers: Vec<Result<f64, String>>,
}

impl Seen {
    /// What is to be remembered of a report. `remarks` has, for each seat, what happened to its collector, or an empty text.
    pub(crate) fn new(report: &Report, remarks: &[String]) -> Seen {
        let answer = |(standing, remark): (&Standing, &String)| match standing {
            Standing::Used(price) | Standing::Trimmed(price) => Ok(*price),
            Standing::Abstained(why) => Err(why.to_string()),
            Standing::Equivocated => Err("it signed two different answers".to_owned()),
            Standing::Silent => Err(remark.clone()),
        };
        let outcome = &report.outcome;
        let spread = outcome.spread.zip(outcome.price);
        let spread = spread.map(|(spread, price)| format!("{:.3} %", spread / price * 100.0));
        Seen {
            start_us: report.round.start_us,
            price: outcome.price,
            priced: report.price().is_some(),
            text: match (report.price(), outcome.price) {
                (Some(price), _) => price::text(price),
                (None, Some(_)) => "withheld".to_owned(),
                (None, None) => "no price".to_owned(),
            },
            spread: spread.unwrap_or("-".to_owned()),
            answers: outcome.standings.iter().zip(remarks).map(answer).collect(),
        }
    }
}

/// A line about a source or a feed.
#[derive(Default)]
struct Row {
    /// Whether it needs attention.
    odd: bool,
    /// Its name, and numbers, the most important one first.
    cells: Vec<String>,
    /// What comes after the cells: what is wrong, or a sparkline of these prices.
    remark: String,
    course: Vec<Option<f64>>,
}

impl Aggregator<'_> {
    /// Draws the display, on a terminal.
    pub(super) fn show(&mut self) {
        if self.screen.due() {
            let lines = self.display();
            self.screen.draw(lines);
        }
    }

    /// Shows the round's progress: on a terminal at every sweep, otherwise one line per sample. `told` is the number of lines
    /// shown so far; returns the new one.
    pub(super) fn show_progress(&mut self, told: usize) -> usize {
        self.show();
        if self.screen.live() || !self.config.single() {
            return told;
        }
        let done = samples_done(&self.slots, self.floor_us());
        let lines: Vec<String> = (told..done)
            .map(|index| sample_line(&self.slots, &self.rounds, index))
            .collect();
        lines.iter().for_each(|line| self.tell(line));
        done
    }

    /// The lines of the display. What does not fit into the columns is left out.
    pub(super) fn display(&self) -> Vec<String> {
        let (rows, columns) = self.screen.room();
        let (mut body, titles) = match self.past.len() {
            1 => (self.sources(columns), "source last deviation late"),
            _ => (self.feeds(), "feed price prices spread"),
        };
        let titles = (rows >= TITLED_ROWS_MIN).then(|| Row {
            cells: titles.split(' ').map(str::to_owned).collect(),
            ..Row::default()
        });
        let past = self.last_rounds(columns).filter(|_| rows >= PAST_ROWS_MIN);
        let others = 1 + usize::from(titles.is_some()) + usize::from(past.is_some());
        let room = rows.saturating_sub(others).min(DISPLAY_LINES_MAX + 1);
        let more = leave(&mut body, room);
        body.splice(0..0, titles);
        let mut lines = vec![self.headline(columns)];
        lines.extend(table(body, columns));
        lines.extend((more > 0).then(|| format!("{CALM}… and {more} more")));
        lines.extend(past);
        lines
    }

    /// The newest price, or how many feeds have one, and the time to the next round.
    fn headline(&self, columns: usize) -> String {
        let last = Vec::from_iter(self.past.iter().filter_map(VecDeque::back));
        let priced = last.iter().filter(|seen| seen.priced).count();
        let ready = self.slots.iter().filter(|slot| slot.ready()).count();
        let mut cells = Vec::new();
        cells.extend(self.next_us.map(|us| {
            let left_us = us.saturating_sub(wall_us());
            match left_us.div_ceil(1_000_000) {
                s @ 0..120 => format!("next in {s} s"),
                _ => format!("next in {}", span(left_us)),
            }
        }));
        cells.push(match (self.rounds.first(), last.as_slice()) {
            (Some(round), _) => {
                let done = samples_done(&self.slots, round.start_us);
                format!("sample {done} of {}", round.terms.schedule.samples)
            }
            (None, [seen]) => {
                let prices = seen.answers.iter().flatten().count();
                format!("{prices} of {} prices", seen.answers.len())
            }
            _ => format!("{ready} of {} collectors ready", self.slots.len()),
        });
        let name = match (self.config.roster.feeds.as_slice(), last.as_slice()) {
            ([feed], [seen]) => {
                cells.push(format!("spread {}", seen.spread));
                format!("{} {}", feed.feed, seen.text)
            }
            ([feed], _) => feed.feed.clone(),
            (feeds, []) => format!("{} feeds", feeds.len()),
            (feeds, _) => format!("{priced} of {} feeds priced", feeds.len()),
        };
        let margin = [CALM, LOOK][usize::from(priced < last.len())];
        joined(format!("{margin}{name}"), cells, columns)
    }

    /// A line of the last completed rounds, newest first. `None` before the first round is over.
    fn last_rounds(&self, columns: usize) -> Option<String> {
        let cell = |at: usize| {
            let seen = self.past.iter().map(|seen| seen.iter().rev().nth(at));
            let seen: Vec<&Seen> = seen.collect::<Option<_>>()?;
            let priced = seen.iter().filter(|seen| seen.priced).count();
            let text = match seen.as_slice() {
                [one] => one.text.clone(),
                all => format!("{priced} of {} feeds", all.len()),
            };
            Some(format!("{} {text}", &utc_text(seen[0].start_us)[11..19]))
        };
        cell(0)?;
        let cells = (0..ROUNDS_MAX).map_while(cell);
        Some(joined(format!("{CALM}rounds"), cells, columns))
    }

    /// A row for each source of a single feed.
    fn sources(&self, columns: usize) -> Vec<Row> {
        let (past, running) = (&self.past[0], self.rounds.first());
        let last = past.back();
        let start_us = running.map(|round| round.start_us);
        let start_us = start_us.or(last.map(|seen| seen.start_us)).unwrap_or(0);
        let digits = self.slots.len().saturating_sub(1).to_string().len();
        let row = |(index, slot): (usize, &Slot)| {
            let seat = usize::from(slot.seats[0]?);
            let records = slot.records(start_us, 0);
            let sample = records.iter().rev().find_map(|record| record.price.ok());
            let price = sample.or_else(|| slot.first_price(0));
            let answer = last.map(|seen| seen.answers[seat].as_ref());
            let apart = last.and_then(|seen| Some(answer?.ok()? / seen.price? - 1.0));
            let remark = match (slot.ready_for(0), slot.members.is_empty(), &*slot.remark) {
                (true, ..) => answer.and_then(Result::err).map_or("", String::as_str),
                (_, false, _) => "connecting to the exchange",
                (_, true, "") => "not connected",
                (_, true, remark) => remark,
            };
            let source = slot.sources[0].as_str();
            let exchange = exchange_of(source.trim_start_matches("embedded-"));
            let name = [source, exchange][usize::from(columns < NAMES_COLUMNS_MIN)];
            let mut cells = vec![
                format!("{index:>digits$} {name}"),
                price.map_or("-".to_owned(), price::text),
            ];
            if remark.is_empty() {
                let late_us = records.iter().filter_map(|record| record.lateness_us).max();
                cells.push(apart.map_or("-".to_owned(), |part| format!("{:+.3} %", part * 100.0)));
                let late_ms = late_us.map(|us| format!("{:.2} ms", us as f64 / 1e3));
                cells.push(late_ms.unwrap_or("-".to_owned()));
            }
            let course = past.iter().map(|seen| seen.answers[seat].clone().ok());
            let course = course.collect();
            Some(Row {
                odd: !remark.is_empty() || apart.is_some_and(|part| part.abs() > APART),
                cells,
                remark: remark.to_owned(),
                course,
            })
        };
        self.slots.iter().enumerate().filter_map(row).collect()
    }

    /// A row for each of several feeds.
    fn feeds(&self) -> Vec<Row> {
        let row = |(feed, (terms, past)): (usize, (&Terms, &VecDeque<Seen>))| {
            let seen = past.back();
            let lacks = |(index, slot): (usize, &Slot)| {
                let seat = usize::from(slot.seats[feed]?);
                let there = seen.map_or(slot.ready_for(feed), |seen| seen.answers[seat].is_ok());
                (!there).then(|| format!("{index} {}", exchange_of(&slot.sources[feed])))
            };
            let slots = self.slots.iter().enumerate();
            let without: Vec<String> = slots.filter_map(lacks).collect();
            let n = usize::from(terms.n());
            let mut row = Row {
                odd: !without.is_empty() || seen.is_some_and(|seen| !seen.priced),
                cells: vec![
                    terms.feed.clone(),
                    seen.map_or("-".to_owned(), |seen| seen.text.clone()),
                    format!("{} of {n}", n - without.len()),
                ],
                remark: String::new(),
                course: past.iter().map(|seen| seen.price).collect(),
            };
            match without.is_empty() {
                true => row.cells.extend(seen.map(|seen| seen.spread.clone())),
                false => row.remark = format!("without {}", without.join(", ")),
            }
            row
        };
        let feeds = self.config.roster.feeds.iter().zip(&self.past);
        feeds.enumerate().map(row).collect()
    }
}

/// Leaves as many rows as there is room for, besides a line that counts the others: first those that need attention. Returns
/// how many others there are.
fn leave(rows: &mut Vec<Row>, room: usize) -> usize {
    let all = rows.len();
    if all > room {
        let room = room.saturating_sub(1);
        let odd = rows.iter().filter(|row| row.odd).count().min(room);
        let mut left = [room - odd, odd];
        rows.retain(|row| {
            let left = &mut left[usize::from(row.odd)];
            std::mem::replace(left, left.saturating_sub(1)) > 0
        });
    }
    all - rows.len()
}

/// The rows as lines.
fn table(rows: Vec<Row>, columns: usize) -> Vec<String> {
    let width = |at| {
        let cells = rows.iter().filter_map(|row: &Row| row.cells.get(at));
        cells
            .map(|cell: &String| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths = [0, 1, 2, 3].map(width);
    let line = |row: &Row| {
        let margin = [CALM, LOOK][usize::from(row.odd)];
        let name = format!("{margin}{:<width$}", row.cells[0], width = widths[0]);
        let cells = row.cells.iter().zip(widths).skip(1);
        let cells = cells.map(|(cell, width)| format!("{cell:>width$}"));
        let line = joined(name, cells, columns);
        match row.remark.is_empty() {
            true => with_course(line, &row.course, columns),
            false => line + GAP + &row.remark,
        }
    };
    rows.iter().map(line).collect()
}

/// A line with as many further cells as fit.
fn joined(mut line: String, cells: impl IntoIterator<Item = String>, columns: usize) -> String {
    for cell in cells {
        if line.chars().count() + GAP.len() + cell.chars().count() > columns {
            break;
        }
        line = line + GAP + &cell;
    }
    line
}

/// A line with a sparkline of as many of the newest prices as fit.
fn with_course(line: String, course: &[Option<f64>], columns: usize) -> String {
    let room = columns.saturating_sub(line.chars().count() + GAP.len());
    if room < COURSE_MIN || course.is_empty() {
        return line;
    }
    let course = &course[course.len().saturating_sub(room)..];
    let prices = || course.iter().flatten().copied();
    let low = prices().fold(f64::MAX, f64::min);
    let range = prices().fold(0.0, f64::max) - low;
    let block = |price: f64| match range > 0.0 {
        true => BLOCKS[((price - low) / range * 7.0).round() as usize],
        false => BLOCKS[3],
    };
    let blocks = course.iter().map(|price| price.map_or(' ', block));
    line + GAP + &String::from_iter(blocks)
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
    use crate::aggregator::agreed::tests::two_feeds;
    use rsoracle_proof::record::Record;

    fn row(odd: bool, remark: &str) -> Row {
        Row {
            odd,
            cells: ["7 kraken", "87231.42", "+0.001 %", "1.2 ms"]
                .map(str::to_owned)
                .to_vec(),
            remark: remark.to_owned(),
            course: [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0].map(Some).to_vec(),
        }
    }

    #[test]
    fn a_row_has_what_fits_into_its_line() {
        for (columns, line) in [
            (70, "  7 kraken  87231.42  +0.001 %  1.2 ms  ▁▂▃▄▅▆▇█"),
            (48, "  7 kraken  87231.42  +0.001 %  1.2 ms  ▁▂▃▄▅▆▇█"),
            (44, "  7 kraken  87231.42  +0.001 %  1.2 ms  ▁▃▆█"),
            (43, "  7 kraken  87231.42  +0.001 %  1.2 ms"),
            (37, "  7 kraken  87231.42  +0.001 %  ▁▃▅▆█"),
            (20, "  7 kraken  87231.42"),
            (10, "  7 kraken"),
        ] {
            let lines = table(vec![row(false, "")], columns);
            assert_eq!(lines, [line], "{columns} columns");
        }
        let line = "! 7 kraken  87231.42  +0.001 %  1.2 ms  no answer";
        assert_eq!(table(vec![row(true, "no answer")], 40), [line]);
    }

    #[test]
    fn with_fewer_rows_than_sources_those_that_need_attention_stay() {
        let odd = [false, false, true, false, true];
        for (room, more, left) in [
            (5, 0, &odd[..]),
            (4, 2, &[false, true, true]),
            (2, 4, &[true]),
            (1, 5, &[]),
            (0, 5, &[]),
        ] {
            let mut rows = Vec::from(odd.map(|odd| row(odd, "")));
            assert_eq!(leave(&mut rows, room), more);
            assert_eq!(Vec::from_iter(rows.iter().map(|row| row.odd)), left);
        }
    }

    #[test]
    fn a_sparkline_has_the_newest_prices_and_a_blank_where_there_is_none() {
        let drawn = |course: &[Option<f64>], columns| with_course("12".into(), course, columns);
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
