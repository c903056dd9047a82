//! `rsoracle history`: shows the last rounds of a journal as a table, and their prices as a chart in the terminal.
//!
//! Invariant: memory is bounded by the rounds shown and the longest line, whatever the length of the file. A file is read
//! from its end, as far as the rounds shown need. Each line read is verified as `rsoracle verify` does without a roster. A
//! report that fails is marked and shown only if the aggregator signed it; whether to trust the signers is left to `verify`.
//! Uses: flags, proof, system, verify. Used by: main.

mod row;

use crate::flags::args::{Given, Usage, wrapped};
use crate::system::file;
use crate::system::limits::ROUNDS_SHOWN_MAX;
use crate::system::now::wall_us;
use crate::system::screen;
use crate::system::stream::say;
use row::{Row, marked};
use rsoracle_proof::report::{Check, Content, Report, Verifier};
use rsoracle_proof::tolerance::counted;
use rsoracle_proof::utc::utc_text;
use rsoracle_verify::error::{EXIT_FAILURE, EXIT_OK, Error};
use rsoracle_verify::lines::{Line, Lines};
use rsoracle_verify::log::printable;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader};

/// Width of the chart in columns, including its indentation.
const COLUMNS: usize = 72;
/// Margins: of a usual line of the table, and of a line that needs attention.
const INDENT: &str = "  ";
const LOOK: &str = "! ";
/// The heights of the chart, lowest first.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// The columns of the table, and whether each is aligned to the right.
const HEADS: [(&str, bool); 6] = [
    ("number", true),
    ("round start (UTC)", false),
    ("price", true),
    ("decision", false),
    ("prices", true),
    ("missing", false),
];

/// The settings of `rsoracle history`.
#[derive(Clone, Debug)]
pub struct HistorySettings {
    /// The journal's file; `-` is standard input.
    pub file: String,
    /// Most rounds to show, counted from the end.
    pub last: usize,
    /// Print JSON.
    pub json: bool,
}

impl HistorySettings {
    /// Reads the flags of [`crate::flags::tables::HISTORY`].
    pub fn from_flags(given: &Given) -> Result<HistorySettings, Usage> {
        Ok(HistorySettings {
            file: given.operands()[0].clone(),
            last: given.number("last", 1..=ROUNDS_SHOWN_MAX)?,
            json: given.has("json"),
        })
    }
}

/// What is kept in memory of a file, or of its end.
#[derive(Default)]
struct Page {
    /// Where the first line that was read begins, in bytes from the beginning of the file.
    begin: u64,
    rows: VecDeque<Row>,
    feed: String,
    rounds: u64,
    published: u64,
    priceless: u64,
    first_us: u64,
    last_us: u64,
    /// Lowest and highest price of the reports read.
    range: Option<(f64, f64)>,
    embedded: bool,
    key_changes: u64,
    /// Number and start of the last report.
    before: Option<(u64, u64)>,
    /// Number of lines that failed a check, and the first of them with the reason.
    bad: u64,
    first_bad: Option<String>,
    torn: bool,
}

/// Shows the last rounds. Returns the exit code.
pub fn run(config: &HistorySettings) -> Result<u8, Error> {
    let page = if config.file == "-" {
        read(config, "standard input", std::io::stdin().lock(), 0)?
    } else {
        let attempt = format!("cannot read {}", config.file);
        let failed = |error| Error::new(&attempt, error);
        let file = File::open(&config.file).map_err(failed)?;
        if file.metadata().map_err(failed)?.is_file() {
            read_end(config, &file, failed)?
        } else {
            read(config, &config.file, BufReader::new(file), 0)?
        }
    };
    let remarks = page.remarks(&config.file);
    let columns = screen::columns();
    let wrap = |lines: Vec<String>| {
        let line = |line: String| wrapped("", INDENT.len() + 1, &line, columns);
        lines.into_iter().map(line).collect()
    };
    let lines = match config.json {
        true => page.json(),
        false => [
            page.table(columns),
            wrap(page.summary()),
            page.chart(),
            remarks.clone(),
        ]
        .concat(),
    };
    let mut text = String::new();
    for line in lines.iter().flat_map(|line| line.lines()) {
        text.push_str(&printable(line));
        text.push('\n');
    }
    let printed = rsoracle_verify::print("history", &text);
    if config.json {
        remarks.iter().for_each(|remark| say("history", remark));
    }
    Ok(if page.bad > 0 || !printed {
        EXIT_FAILURE
    } else {
        EXIT_OK
    })
}

/// Reads the end of a journal: the rounds to show, and one more before them.
fn read_end(
    config: &HistorySettings,
    file: &File,
    failed: impl Fn(std::io::Error) -> Error,
) -> Result<Page, Error> {
    let mut stretch = file::TAIL_BYTES;
    loop {
        let (begin, reader) = file::tail(file, stretch).map_err(&failed)?;
        let page = read(config, &config.file, reader, begin)?;
        if begin == 0 || page.rounds > config.last as u64 {
            return Ok(page);
        }
        stretch = stretch.saturating_mul(file::TAIL_LONGER);
    }
}

/// Reads a journal to its end from the line that begins at byte `begin`, and keeps the last rounds.
fn read(
    config: &HistorySettings,
    name: &str,
    input: impl BufRead,
    begin: u64,
) -> Result<Page, Error> {
    let mut lines = Lines::new(input, name);
    let mut reader = Reader::default();
    reader.page.begin = begin;
    loop {
        let at = begin + lines.bytes();
        let Some(line) = lines.next_line()? else {
            return Ok(reader.page);
        };
        reader.take(&line, at);
        if reader.page.rows.len() > config.last {
            reader.page.rows.pop_front();
        }
    }
}

/// Checks a journal line by line.
#[derive(Default)]
struct Reader {
    verifier: Verifier,
    page: Page,
}

impl Reader {
    /// Takes the line that begins at byte `at` of the file.
    fn take(&mut self, line: &Line<&str>, at: u64) {
        let check = match line.text {
            Ok(text) => self.verifier.check(text, wall_us()),
            Err(why) => Check::unreadable(why),
        };
        let signed = |report: &Report| {
            let key = &report.aggregator;
            key.signed(&report.signed_bytes(), &report.signature)
        };
        let report = match (check.content, check.flaws.first()) {
            (Content::Report(report), None) => return self.page.add(&report, true),
            (Content::KeyChange, None) => return self.page.key_changes += 1,
            (Content::Report(report), Some(_)) => Some(report).filter(|report| signed(report)),
            _ if !line.whole => return self.page.torn = true,
            _ => None,
        };
        self.page.bad += 1;
        let place = file::place(self.page.begin, at, line.number);
        let why = check.flaws.first();
        let why = why.map_or("it is not a report", |why| why.as_str());
        self.page.first_bad.get_or_insert(format!("{place}: {why}"));
        match report {
            Some(report) => self.page.add(&report, false),
            // A line that cannot be trusted does not count in the chain, so the next line need not continue it.
            None => self.verifier.begin_anew(),
        }
    }
}

impl Page {
    fn add(&mut self, report: &Report, sound: bool) {
        let row = Row::new(report, self.before, sound);
        if self.feed != report.round.terms.feed {
            self.feed.clone_from(&report.round.terms.feed);
        }
        if self.rounds == 0 {
            self.first_us = row.start_us;
        }
        self.last_us = row.start_us;
        self.rounds += 1;
        self.published += u64::from(row.decision.publishes());
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
        let title = match (shown == all, self.begin) {
            (true, _) => format!("{feed}: {}", counted(all, "round")),
            (false, 0) => format!("{feed}: the last {shown} of {}", counted(all, "round")),
            (false, _) => format!("{feed}: the last {}", counted(shown, "round")),
        };
        let heads = HEADS.map(|(head, _)| head.to_owned());
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

    /// Totals of what was read of the file.
    fn summary(&self) -> Vec<String> {
        if self.rounds == 0 {
            return vec!["no rounds in this file".to_owned()];
        }
        let read = match self.begin {
            0 => "whole file",
            _ => "end of the file, as far as it was read",
        };
        let mut lines = vec![format!(
            "{read}: {}, {} published, {} without a price; {} to {}",
            counted(self.rounds, "round"),
            self.published,
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

    /// Warnings about the file.
    fn remarks(&self, name: &str) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.torn {
            remarks.push("the last line is incomplete: it is being written now, or a write was interrupted; it is not counted".to_owned());
        }
        if let Some(first) = &self.first_bad {
            remarks.push(format!(
                "{} invalid, the first: {first}; 'rsoracle verify {name}' says more",
                match self.bad {
                    1 => "1 line is".to_owned(),
                    bad => format!("{bad} lines are"),
                }
            ));
        }
        remarks
    }

    /// The rounds shown, as one line of JSON each.
    fn json(&self) -> Vec<String> {
        let usual_us = self.usual_us();
        self.rows.iter().map(|row| row.json(usual_us)).collect()
    }
}

/// A line of the table.
fn aligned(margin: &str, cells: &[String; 6], widths: &[usize; 6]) -> String {
    let mut line = margin.to_owned();
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let blanks = " ".repeat(width - cell.chars().count());
        let separator = if column == 0 { "" } else { "  " };
        line.push_str(separator);
        match HEADS[column].1 {
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
