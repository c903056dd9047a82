//! What the operator sees on standard error: plain lines and, on a terminal, a live block of lines below them that is redrawn.
//! And the results of rounds without end on standard output.
//!
//! Invariant: every line passes [`rsoracle_verify::log::printable`], so that text from outside cannot control the terminal.
//! Every line begins with the mark of recorded prices, if they are recorded.

use crate::system::limits::{DISPLAY_LINES_MAX, OUTPUT_END_MS_MAX};
use crate::system::stream::{put, write_some};
use rsoracle_verify::log::printable;
use std::io::{self, ErrorKind, IsTerminal};
use std::time::{Duration, Instant};

/// Shortest time between two drawings of the live block.
const REDRAW: Duration = Duration::from_millis(100);
/// Columns of the live block. Longer lines are truncated, since a wrapped line would break the redrawing.
const COLUMNS: usize = 79;

/// Standard error.
pub struct Screen {
    live: bool,
    mark: &'static str,
    drawn: usize,
    block: Vec<String>,
    drawn_at: Option<Instant>,
}

impl Screen {
    /// There is a live block if standard error is a terminal that can move its cursor, unless `quiet` is set.
    pub fn new(quiet: bool, mark: &'static str) -> Screen {
        let able = std::env::var("TERM").is_ok_and(|term| !term.is_empty() && term != "dumb");
        let live = !quiet && able && std::io::stderr().is_terminal();
        Screen {
            live,
            mark,
            drawn: 0,
            block: Vec::new(),
            drawn_at: None,
        }
    }

    /// Whether a live block is shown.
    pub(crate) fn live(&self) -> bool {
        self.live
    }

    /// The prefix of every line: the mark of recorded prices, empty for live prices.
    pub fn mark(&self) -> &'static str {
        self.mark
    }

    /// Prints a line that stays.
    pub fn say(&mut self, line: &str) {
        let mut out = self.erase();
        out.push_str(&format!("{}{}\n", self.mark, printable(line)));
        self.put(out, 1);
    }

    /// Redraws the live block: at most ten times a second, unless `now` is set.
    pub(crate) fn draw(&mut self, block: Vec<String>, now: bool) {
        let due = self.drawn_at.is_none_or(|at| at.elapsed() >= REDRAW);
        if !self.live || !(due || now) || (block == self.block && self.drawn > 0) {
            return;
        }
        self.drawn_at = Some(Instant::now());
        let erased = self.erase();
        self.block = block;
        self.put(erased, 0);
    }

    /// Leaves the live block on the terminal as plain lines; the next one is drawn below it.
    pub(crate) fn freeze(&mut self) {
        self.block.clear();
        self.drawn = 0;
    }

    /// The bytes that erase the live block.
    fn erase(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\x1b[J"),
        }
    }

    /// Writes `out`, which holds so many lines that stay, then the live block below it.
    fn put(&mut self, mut out: String, lines: u64) {
        if self.live {
            for line in self.block.iter().take(DISPLAY_LINES_MAX + 1) {
                let line: String = format!("{}{}", self.mark, printable(line))
                    .chars()
                    .take(COLUMNS)
                    .collect();
                out.push_str(&line);
                out.push('\n');
                self.drawn += 1;
            }
        }
        // What is on the terminal is unknown if it did not take everything, so the next block is drawn below.
        if !put(&format!("{}aggregator", self.mark), &out, lines) {
            self.drawn = 0;
        }
    }
}

/// Standard output of a run that goes on without it, since the results are in a file too.
#[derive(Default)]
pub(crate) struct Outlet {
    /// What it has not taken yet of the last line.
    rest: Vec<u8>,
    /// Whether the last result could not be written.
    pub(crate) fails: bool,
}

impl Outlet {
    /// Writes what is left of the last line, as far as standard output takes it at once.
    pub(crate) fn push(&mut self) -> io::Result<()> {
        while !self.rest.is_empty() {
            let taken = write_some(&io::stdout(), &self.rest)?;
            self.rest.drain(..taken);
        }
        Ok(())
    }

    /// Writes a line, as far as standard output takes it at once. [`Outlet::push`] writes the rest later. If the line before it
    /// is not taken yet, this one is dropped with an error, since a reader must find whole lines only.
    pub(crate) fn print(&mut self, line: &str) -> io::Result<()> {
        self.push().map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => io::Error::other("nobody reads it"),
            _ => error,
        })?;
        self.rest = format!("{line}\n").into_bytes();
        match self.push() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            done => done,
        }
    }

    /// Waits up to [`OUTPUT_END_MS_MAX`] for standard output to take the rest of the last line. Returns whether it did.
    pub(crate) fn finish(&mut self) -> bool {
        let until = Instant::now() + Duration::from_millis(OUTPUT_END_MS_MAX);
        while self.push().is_err() && Instant::now() < until {
            std::thread::sleep(REDRAW);
        }
        self.rest.is_empty()
    }
}
