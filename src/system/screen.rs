//! What the operator sees on standard error: plain lines and, on a terminal, a live block of lines below them that is redrawn.
//! And the results of rounds without end on standard output.
//!
//! Invariant: every line passes [`rsoracle_verify::log::printable`], so that text from outside cannot control the terminal.
//! Every line begins with the mark of recorded prices, if they are recorded.

use crate::system::limits::{DISPLAY_LINES_MAX, OUTPUT_END_MS_MAX};
use crate::system::stream::{put, write_some};
use rsoracle_verify::error::brief;
use rsoracle_verify::log::{LINE_CHARS_MAX, printable};
use std::io::{self, ErrorKind, IsTerminal};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Shortest time between two drawings of the live block.
const REDRAW: Duration = Duration::from_millis(100);
/// Shortest time between two looks at the terminal's size.
const RESIZE: Duration = Duration::from_millis(500);
/// Rows and columns of a terminal whose size is unknown.
const SIZE: (usize, usize) = (24, 80);
/// What is between two columns of the live block.
const SEPARATOR: &str = "  ";

/// Standard error.
pub struct Screen {
    live: bool,
    mark: &'static str,
    drawn: usize,
    block: Vec<String>,
    drawn_at: Option<Instant>,
    /// Rows and columns of the terminal, and when it was asked for them.
    size: (usize, usize),
    sized_at: Instant,
}

impl Screen {
    /// There is a live block if standard error is a terminal that can move its cursor, unless `quiet` is set.
    pub fn new(quiet: bool, mark: &'static str) -> Screen {
        let able = std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
        let live = !quiet && able && io::stderr().is_terminal();
        Screen {
            live,
            mark,
            drawn: 0,
            block: Vec::new(),
            drawn_at: None,
            size: size(&io::stderr()).filter(|_| live).unwrap_or(SIZE),
            sized_at: Instant::now(),
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

    /// How many lines the live block may have: all rows but that of the cursor.
    pub(crate) fn rows(&self) -> usize {
        self.size.0.saturating_sub(1).min(DISPLAY_LINES_MAX + 1)
    }

    /// Prints a line that stays.
    pub fn say(&mut self, line: &str) {
        let mut out = self.erase();
        let line = printable(&brief(line, LINE_CHARS_MAX));
        out.push_str(&format!("{}{line}\n", self.mark));
        self.put(out, 1);
    }

    /// Redraws the live block: at most ten times a second, unless `now` is set. The columns of a line are separated by tabs;
    /// those that do not fit are left out.
    pub(crate) fn draw(&mut self, block: Vec<String>, now: bool) {
        let due = self.drawn_at.is_none_or(|at| at.elapsed() >= REDRAW);
        if !self.live || !(due || now) || (block == self.block && self.drawn > 0) {
            return;
        }
        if self.sized_at.elapsed() >= RESIZE {
            self.sized_at = Instant::now();
            self.size = size(&io::stderr()).unwrap_or(SIZE);
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

    /// Writes `out`, which has `lines` lines that stay, then the live block below them.
    fn put(&mut self, mut out: String, lines: u64) {
        if self.live && !self.block.is_empty() {
            // Without line wrapping, a terminal that has just become narrower cuts lines instead of wrapping them.
            out.push_str("\x1b[?7l");
            for line in self.block.iter().take(self.rows()) {
                out.push_str(&fit(self.mark, line, self.size.1));
                out.push('\n');
                self.drawn += 1;
            }
            out.push_str("\x1b[?7h");
        }
        // What is on the terminal is unknown if it did not take everything, so the next block is drawn below.
        if !put(&format!("{}aggregator", self.mark), &out, lines) {
            self.drawn = 0;
        }
    }
}

/// A line of the live block, with as many of its columns as fit into a terminal of this width.
fn fit(mark: &str, line: &str, columns: usize) -> String {
    let mut cells = line.split('\t').map(printable);
    let mut fitting = format!("{mark}{}", cells.next().unwrap_or_default());
    for cell in cells {
        if fitting.chars().count() + SEPARATOR.len() + cell.trim_end().chars().count() > columns {
            break;
        }
        fitting = fitting + SEPARATOR + &cell;
    }
    fitting.chars().take(columns).collect()
}

/// Rows and columns of a terminal, from stty(1), since the standard library cannot ask for them. `None` if this is no terminal,
/// or there is no such program.
fn size(terminal: &impl AsFd) -> Option<(usize, usize)> {
    let terminal = terminal.as_fd().try_clone_to_owned().ok()?;
    let mut stty = Command::new("stty");
    stty.arg("size").stdin(Stdio::from(terminal));
    let told = String::from_utf8(stty.output().ok()?.stdout).ok()?;
    let (rows, columns) = told.trim_end().split_once(' ')?;
    // A terminal that does not know its size says 0.
    let number = |text: &str| text.parse().ok().filter(|count| *count > 0);
    Some((number(rows)?, number(columns)?))
}

/// The width of the terminal on standard output; that of `SIZE` if it is no terminal, or its size is unknown.
pub fn columns() -> usize {
    let terminal = io::stdout();
    let known = terminal.is_terminal().then(|| size(&terminal)).flatten();
    known.unwrap_or(SIZE).1
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_columns_that_fit() {
        let line = "collector 0\tsampling \tlast 87232.00\tsample 1 of 2";
        for (columns, text) in [
            (80, "collector 0  sampling   last 87232.00  sample 1 of 2"),
            (52, "collector 0  sampling   last 87232.00  sample 1 of 2"),
            (51, "collector 0  sampling   last 87232.00"),
            (37, "collector 0  sampling   last 87232.00"),
            (36, "collector 0  sampling "),
            (21, "collector 0  sampling"),
            (20, "collector 0"),
            (5, "colle"),
        ] {
            assert_eq!(fit("", line, columns), text, "{columns} columns");
        }
        assert_eq!(fit("embedded ", line, 30), "embedded collector 0  sampling");
        assert_eq!(fit("", "gone\tits \x1b[2J end", 80), "gone  its ·[2J end");
    }
}
