//! What the operator sees on standard error: plain lines and, on a terminal, a live block of lines below them that is redrawn.
//! And the results of rounds without end on standard output.
//!
//! Invariant: every line passes [`rsoracle_verify::log::printable`], so that text from outside cannot control the terminal.
//! Every line begins with the mark of recorded prices, if they are recorded.

use crate::system::limits::OUTPUT_END_MS_MAX;
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
const RESIZE: Duration = Duration::from_secs(1);
/// If the block was not looked after for longer than this, the process was stopped, and others may have written below it.
const STOPPED: Duration = Duration::from_secs(1);
/// Rows and columns of a terminal whose size is unknown.
const SIZE: (usize, usize) = (24, 80);
/// What a line of the block begins with that needs attention. It is yellow, unless the environment has NO_COLOR.
pub(crate) const LOOK: &str = "! ";

/// Standard error.
pub struct Screen {
    live: bool,
    coloured: bool,
    mark: &'static str,
    drawn: usize,
    block: Vec<String>,
    due_at: Instant,
    tended_at: Instant,
    /// Rows and columns of the terminal, and when it is asked for them again.
    size: (usize, usize),
    size_at: Instant,
    narrower: bool,
}

impl Screen {
    /// There is a live block if standard error is a terminal that can move its cursor, unless `quiet` is set.
    pub fn new(quiet: bool, mark: &'static str) -> Screen {
        let is_set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let able = is_set("TERM").is_some_and(|term| term != "dumb");
        let live = !quiet && able && io::stderr().is_terminal();
        let now = Instant::now();
        Screen {
            live,
            coloured: is_set("NO_COLOR").is_none(),
            mark,
            drawn: 0,
            block: Vec::new(),
            due_at: now,
            tended_at: now,
            size: size(&io::stderr()).filter(|_| live).unwrap_or(SIZE),
            size_at: now + RESIZE,
            narrower: false,
        }
    }

    /// Whether there is a live block.
    pub(crate) fn live(&self) -> bool {
        self.live
    }

    /// The prefix of every line: the mark of recorded prices, empty for live prices.
    pub fn mark(&self) -> &'static str {
        self.mark
    }

    /// Most lines that the live block may have, and columns of each: all but the cursor's row, and the mark's columns.
    pub(crate) fn room(&self) -> (usize, usize) {
        let (rows, columns) = self.size;
        (rows - 1, columns.saturating_sub(self.mark.len()))
    }

    /// Prints a line that stays.
    pub fn say(&mut self, line: &str) {
        self.tend();
        let mut out = self.erase();
        let line = printable(&brief(line, LINE_CHARS_MAX));
        out.push_str(&format!("{}{line}\n", self.mark));
        self.put(out, 1);
    }

    /// Whether the live block is to be drawn again: at most ten times a second. Must be called often, also while nothing changes.
    pub(crate) fn due(&mut self) -> bool {
        let now = Instant::now();
        if !self.live || now < self.due_at {
            return false;
        }
        self.due_at = now + REDRAW;
        if now >= self.size_at {
            self.size_at = now + RESIZE;
            let size = size(&io::stderr()).unwrap_or(SIZE);
            self.narrower |= size.1 < self.size.1;
            self.size = size;
        }
        self.tend() && in_foreground()
    }

    /// Draws the live block. A line that is too long is cut.
    pub(crate) fn draw(&mut self, block: Vec<String>) {
        if block != self.block || self.drawn == 0 || self.narrower {
            let erased = self.erase();
            self.block = block;
            self.put(erased, 0);
        }
    }

    /// Removes the live block until it is drawn again.
    pub(crate) fn clear(&mut self) {
        self.tend();
        let erased = self.erase();
        self.freeze();
        self.put(erased, 0);
    }

    /// Leaves the live block on the terminal as plain lines; the next one is drawn below it.
    pub(crate) fn freeze(&mut self) {
        self.block.clear();
        self.drawn = 0;
    }

    /// Whether this process may draw on its terminal. If others may have written below the block, it is left as it is.
    fn tend(&mut self) -> bool {
        let tended_at = std::mem::replace(&mut self.tended_at, Instant::now());
        let may_draw = self.live && in_foreground();
        if !may_draw || tended_at.elapsed() >= STOPPED {
            self.freeze();
        }
        may_draw
    }

    /// The bytes that erase the live block.
    fn erase(&mut self) -> String {
        let narrower = std::mem::take(&mut self.narrower);
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            // A terminal that has become narrower may have wrapped the block, to nobody knows how many rows: they scroll away.
            lines if narrower => format!("\x1b[{lines}A\x1b[J{}", "\n".repeat(self.size.0)),
            lines => format!("\x1b[{lines}A\x1b[J"),
        }
    }

    /// Writes `out`, which has `lines` lines that stay, then the live block below them.
    fn put(&mut self, mut out: String, lines: u64) {
        let (rows, columns) = self.room();
        if !self.block.is_empty() {
            // Without line wrapping, a terminal that has just become narrower cuts lines instead of wrapping them.
            out.push_str("\x1b[?7l");
            for line in self.block.iter().take(rows) {
                let text: String = printable(line).chars().take(columns).collect();
                let text = format!("{}{text}", self.mark);
                match self.coloured && line.starts_with(LOOK) {
                    true => out.push_str(&format!("\x1b[33m{text}\x1b[m\n")),
                    false => out.push_str(&(text + "\n")),
                }
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

/// Whether this process is in the foreground of its terminal, or has none: proc(5), fields `pgrp` and `tpgid` of `stat`.
fn in_foreground() -> bool {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name may hold blanks and brackets. After it: state, ppid, pgrp, session, tty_nr, tpgid.
    let (_, rest) = stat.rsplit_once(')').unwrap_or_default();
    let field = |at| {
        rest.split_whitespace()
            .nth(at)
            .and_then(|it| it.parse().ok())
    };
    let (own, front): (Option<i32>, Option<i32>) = (field(2), field(5));
    front.is_none_or(|front| front <= 0) || own == front
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
