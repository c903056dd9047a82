//! Standard error as the operator sees it: plain lines, or on a terminal a block of lines that is drawn anew.
//!
//! Invariant: every line passes [`log::printable`], so that nobody's text steers the terminal, and bears the mark of
//! recorded prices if there is one. What this module does not do: know what the lines mean.

use crate::system::limits::DISPLAY_LINES_MAX;
use rsoracle_verify::log::printable;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Time between two drawings of the block.
const REDRAW: Duration = Duration::from_millis(100);
/// Columns of the block; longer lines are cut, since a wrapped line would spoil the drawing.
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
    /// Plain, unless standard error is a terminal that can move its cursor (and `quiet` is off).
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

    /// Whether there is a block that is drawn anew.
    pub fn live(&self) -> bool {
        self.live
    }

    /// The mark of recorded prices, to stand before every line; empty for live ones.
    pub fn mark(&self) -> &'static str {
        self.mark
    }

    /// One line that stays.
    pub fn say(&mut self, line: &str) {
        let mut out = self.erase();
        out.push_str(&format!("{}{}\n", self.mark, printable(line)));
        self.put(out);
    }

    /// The block that is drawn anew, at most ten times a second unless `now`.
    pub fn draw(&mut self, block: Vec<String>, now: bool) {
        let due = self.drawn_at.is_none_or(|at| at.elapsed() >= REDRAW);
        if !self.live || !(due || now) || (block == self.block && self.drawn > 0) {
            return;
        }
        self.drawn_at = Some(Instant::now());
        let erased = self.erase();
        self.block = block;
        self.put(erased);
    }

    /// The block as it is becomes plain lines.
    pub fn keep(&mut self) {
        self.block.clear();
        self.drawn = 0;
    }

    /// The bytes that remove the block.
    fn erase(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\x1b[J"),
        }
    }

    /// Writes, with the block below it.
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
        // A closed standard error is no reason to stop: the result goes elsewhere.
        let _ = std::io::stderr().write_all(out.as_bytes());
    }
}
