//! The page of one feed: the rounds shown as a table, totals of what was read, and the prices as a chart.
//!
//! Invariant: memory is bounded by the rounds shown.

use super::row::{Pooled, Row, marked};
use crate::flags::args::wrapped;
use rsoracle_proof::report::Report;
use rsoracle_proof::tolerance::counted;
use rsoracle_proof::utc::utc_text;
use std::collections::VecDeque;

/// Width of the chart in columns, including its indentation.
const COLUMNS: usize = 72;
/// Margins: of a usual line of the table, and of a line that needs attention.
const INDENT: &str = "  ";
const LOOK: &str = "! ";
/// The heights of the chart, lowest first.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// The columns of the table.
const HEADS: [&str; 6] = [
    "number",
    "round start (UTC)",
    "price",
    "decision",
    "prices",
    "missing",
];
/// The columns of the table of pooled rounds.
const POOLED_HEADS: [&str; 6] = [
    "files",
    "round start (UTC)",
    "price",
    "decision",
    "prices",
    "remarks",
];
/// Whether each column is aligned to the right.
const TO_THE_RIGHT: [bool; 6] = [true, false, true, false, true, false];

/// What the rounds of a page were read from.
#[derive(Clone, Copy, Default)]
pub(super) struct Source {
    /// How many files are pooled; 1: a file by itself.
    pub(super) files: usize,
    /// Whether they were read from their beginning.
    pub(super) whole: bool,
}

/// What is kept in memory of one feed.
#[derive(Default)]
pub(super) struct Page {
    pub(super) feed: String,
    source: Source,
    /// Most rows.
    shown: usize,
    rows: VecDeque<Row>,
    pub(super) rounds: u64,
    published: u64,
    priceless: u64,
    /// Pooled rounds in which the files differ.
    differ: u64,
    first_us: u64,
    pub(super) last_us: u64,
    /// Lowest and highest price of the reports read.
    range: Option<(f64, f64)>,
    embedded: bool,
    pub(super) key_changes: u64,
    /// Number and start of the last report.
    before: Option<(u64, u64)>,
}

impl Page {
    /// Nothing yet of a feed. `shown`: how many rounds are to be shown at most, counted from the end.
    pub(super) fn new(feed: &str, shown: usize, source: Source) -> Page {
        Page {
            feed: feed.to_owned(),
            shown,
            source,
            ..Page::default()
        }
    }

    /// Adds a round of one file.
    pub(super) fn add(&mut self, report: &Report, sound: bool) {
        self.published += u64::from(report.decision.publishes());
        self.push(Row::new(report, self.before, sound));
    }

    /// Adds a pooled round.
    pub(super) fn add_pooled(&mut self, report: &Report, pooled: Pooled) {
        let differ = !pooled.differences.is_empty() || !pooled.without.is_empty();
        self.differ += u64::from(differ);
        let mut row = Row::new(report, self.before, true);
        // Numbers are those of single journals.
        row.lost = 0;
        row.pooled = Some(pooled);
        self.push(row);
    }

    /// What is to be said of the rounds shown that were pooled.
    pub(super) fn pooled(&mut self) -> impl Iterator<Item = &mut Pooled> {
        self.rows.iter_mut().filter_map(|row| row.pooled.as_mut())
    }

    fn push(&mut self, row: Row) {
        if self.rounds == 0 {
            self.first_us = row.start_us;
        }
        self.last_us = row.start_us;
        self.rounds += 1;
        match row.price {
            None => self.priceless += 1,
            Some(price) => {
                let (low, high) = self.range.unwrap_or((price, price));
                self.range = Some((low.min(price), high.max(price)));
                self.embedded |= row.embedded;
            }
        }
        self.before = Some((row.number, row.start_us));
        self.rows.push_back(row);
        if self.rows.len() > self.shown {
            self.rows.pop_front();
        }
    }

    /// The usual time between two consecutive rounds' starts: the lower median of those shown.
    fn usual_us(&self) -> u64 {
        let follow = self.rows.iter().filter(|row| row.lost == 0);
        let mut distances: Vec<u64> = follow.filter_map(|row| row.since_us).collect();
        distances.sort_unstable();
        let middle = distances.len().saturating_sub(1) / 2;
        distances.get(middle).copied().unwrap_or(u64::MAX)
    }

    /// The rounds shown, one per line, and lines that say what is missing between them.
    fn table(&self, columns: usize) -> Vec<String> {
        if self.rows.is_empty() {
            return Vec::new();
        }
        let (feed, shown, all) = (&self.feed, self.rows.len() as u64, self.rounds);
        let (from, heads) = match self.source.files {
            1 => (String::new(), HEADS),
            files => (format!(", pooled from {files} files"), POOLED_HEADS),
        };
        let title = match (shown == all, self.source.whole) {
            (true, _) => format!("{feed}{from}: {}", counted(all, "round")),
            (false, true) => format!(
                "{feed}{from}: the last {shown} of {}",
                counted(all, "round")
            ),
            (false, false) => format!("{feed}{from}: the last {}", counted(shown, "round")),
        };
        let heads = heads.map(str::to_owned);
        let whole = |row: &Row| row.start_us.is_multiple_of(1_000_000);
        let whole = self.rows.iter().all(whole);
        let cells: Vec<[String; 6]> = self.rows.iter().map(|row| row.cells(whole)).collect();
        let mut widths = [0; 6];
        for row in cells.iter().chain([&heads]) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let usual_us = self.usual_us();
        let mut lines = vec![title, aligned(INDENT, &heads, &widths)];
        for (row, cells) in self.rows.iter().zip(&cells) {
            lines.extend(row.gap(usual_us).map(|gap| format!("{LOOK}{gap}")));
            let margin = if row.stands_out() { LOOK } else { INDENT };
            let line = aligned(margin, cells, &widths);
            if line.chars().count() <= columns {
                lines.push(line);
                continue;
            }
            // The last cell gets lines of its own.
            let mut others = cells.clone();
            let last = std::mem::take(&mut others[5]);
            lines.push(aligned(margin, &others, &widths));
            let below = " ".repeat(INDENT.len() + widths[0] + 1);
            lines.push(wrapped(&below, below.len() + 1, &last, columns));
        }
        lines
    }

    /// Totals of what was read.
    fn summary(&self) -> Vec<String> {
        let read = match (self.source.whole, self.source.files) {
            (true, 1) => "whole file",
            (false, 1) => "end of the file, as far as it was read",
            (true, _) => "whole files",
            (false, _) => "ends of the files, as far as they were read",
        };
        let what = match self.source.files {
            1 => format!("{} published", self.published),
            _ => format!("differences in {}", self.differ),
        };
        let mut lines = vec![format!(
            "{read}: {}, {what}, {} without a price; {} to {}",
            counted(self.rounds, "round"),
            self.priceless,
            utc_text(self.first_us),
            utc_text(self.last_us)
        )];
        if let Some((low, high)) = self.range {
            let (low, high) = (marked(low, self.embedded), marked(high, self.embedded));
            lines[0].push_str(&format!("; lowest {low}, highest {high}"));
        }
        if self.key_changes > 0 {
            lines.push(format!(
                "changes of the aggregator's key, each signed by the old key and the new one: {}",
                self.key_changes
            ));
        }
        lines
    }

    /// The chart of the prices shown.
    fn chart(&self) -> Vec<String> {
        let prices = || self.rows.iter().filter_map(|row| row.price);
        let Some(low) = prices().min_by(f64::total_cmp) else {
            return Vec::new();
        };
        let high = prices().fold(low, f64::max);
        let embedded = self.rows.iter().any(|row| row.embedded);
        let scale = match low == high {
            true => format!("prices shown, all {}:", marked(low, embedded)),
            false => format!(
                "prices shown, ▁ {} to █ {}:",
                marked(low, embedded),
                marked(high, embedded)
            ),
        };
        let drawn = drawn(&self.course(), low, high);
        vec![scale, format!("{INDENT}{drawn}").trim_end().to_owned()]
    }

    /// The prices shown, in order, with a blank for every round that is missing or has no price.
    fn course(&self) -> Vec<Option<f64>> {
        let usual_us = self.usual_us().max(1);
        let mut course = Vec::new();
        for row in &self.rows {
            let blanks = match (row.lost, row.since_us) {
                (0, Some(us)) if row.late(usual_us) => (us / usual_us).saturating_sub(1).max(1),
                (lost, _) => lost,
            };
            // A longer gap would fill the whole chart anyway.
            let blanks = blanks.min(COLUMNS as u64) as usize;
            course.extend(std::iter::repeat_n(None, blanks));
            course.push(row.price);
        }
        course
    }

    /// Everything that is shown to people, in lines of at most so many columns.
    pub(super) fn lines(&self, columns: usize) -> Vec<String> {
        let wrap = |line: String| wrapped("", INDENT.len() + 1, &line, columns);
        let summary = self.summary().into_iter().map(wrap);
        let table = self.table(columns).into_iter();
        table.chain(summary).chain(self.chart()).collect()
    }

    /// The rounds shown, as one line of JSON each.
    pub(super) fn json(&self) -> Vec<String> {
        let usual_us = self.usual_us();
        let json = |row: &Row| row.json(&self.feed, usual_us);
        self.rows.iter().map(json).collect()
    }
}

/// A line of the table.
fn aligned(margin: &str, cells: &[String; 6], widths: &[usize; 6]) -> String {
    let mut line = margin.to_owned();
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let blanks = " ".repeat(width - cell.chars().count());
        let separator = if column == 0 { "" } else { "  " };
        line.push_str(separator);
        match TO_THE_RIGHT[column] {
            true => line.extend([blanks.as_str(), cell]),
            false => line.extend([cell, blanks.as_str()]),
        }
    }
    line.trim_end().to_owned()
}

/// Draws prices as blocks. If there are more prices than columns, each column shows the last price of its share.
fn drawn(course: &[Option<f64>], low: f64, high: f64) -> String {
    let columns = course.len().min(COLUMNS - INDENT.len());
    let piece = |column: usize| {
        let (from, to) = (
            column * course.len() / columns,
            (column + 1) * course.len() / columns,
        );
        course[from..to].iter().rev().find_map(|price| *price)
    };
    let block = |price: f64| {
        let part = if high > low {
            (price - low) / (high - low)
        } else {
            0.5
        };
        BLOCKS[(part * (BLOCKS.len() - 1) as f64).round() as usize]
    };
    let blocks = (0..columns).map(|column| piece(column).map_or(' ', block));
    blocks.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_course_is_drawn_from_the_lowest_to_the_highest_block_and_fits_the_terminal() {
        let rising: Vec<Option<f64>> = (0..8).map(|step| Some(f64::from(step))).collect();
        assert_eq!(drawn(&rising, 0.0, 7.0), "▁▂▃▄▅▆▇█");
        assert_eq!(drawn(&[Some(1.0), None, Some(2.0)], 1.0, 2.0), "▁ █");
        assert_eq!(drawn(&[Some(3.0); 3], 3.0, 3.0), "▅▅▅");
        let long: Vec<Option<f64>> = (0..1_000).map(|step| Some(f64::from(step))).collect();
        let line = drawn(&long, 0.0, 999.0);
        assert_eq!(line.chars().count(), 70);
        assert!(line.starts_with('▁') && line.ends_with('█'), "{line}");
        // The largest and smallest prices that are valid stay within the chart.
        assert_eq!(drawn(&[Some(1e-12), Some(1e15)], 1e-12, 1e15), "▁█");
    }
}
