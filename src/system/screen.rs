//! What the operator sees on standard error: plain lines and, on a terminal, a live block of lines below them that is redrawn.
//!
//! Invariant: every line passes [`rsoracle_verify::log::printable`], so that text from outside cannot control the terminal.
//! Every line begins with the mark of recorded prices, if they are recorded.

use crate::system::limits::DISPLAY_LINES_MAX;
use rsoracle_verify::error::brief;
use rsoracle_verify::log::{LINE_CHARS_MAX, printable};
use std::io::{IsTerminal, Write};
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
        let able = std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
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
        let line = printable(&brief(line, LINE_CHARS_MAX));
        out.push_str(&format!("{}{line}\n", self.mark));
        self.put(out);
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
        self.put(erased);
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

    /// Writes `out`, then the live block below it.
    fn put(&mut self, mut out: String) {
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
        // A closed standard error does not stop the run: the result goes to standard output.
        let _ = std::io::stderr().write_all(out.as_bytes());
    }
}
