//! Runs of many rounds: starts them, and reads their journal without types of the library.
//!
//! Each test uses a part of this module.
#![allow(dead_code)]

use crate::support::*;
use crate::witness::marked_run;
use nanoserde::DeJson;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The flags for the source in all of these tests.
pub const SOURCE: [&str; 2] = ["--source", "embedded:BTCUSDT"];

/// The fields of a report that tests read.
#[derive(DeJson, Clone)]
pub struct Kept {
    pub feed: String,
    pub number: u64,
    pub price: Option<f64>,
    pub decision: String,
    pub time_us: Option<u64>,
    pub round_start_us: u64,
    pub prices: usize,
    pub collectors: Vec<Part>,
}

/// One collector's entry in a report.
#[derive(DeJson, Clone)]
pub struct Part {
    pub key: Option<String>,
    pub standing: String,
    pub price: Option<f64>,
}

impl Kept {
    /// Reads a line of a journal.
    pub fn of(line: &str) -> Kept {
        Kept::deserialize_json(line).unwrap_or_else(|error| panic!("{error} in {line:?}"))
    }

    /// The key of a slot's collector, if it gave a price.
    pub fn key_with_price(&self, slot: usize) -> Option<String> {
        let part = &self.collectors[slot];
        part.price.and(part.key.clone())
    }
}

/// A test's journal.
pub struct Chronicle {
    /// Its path.
    pub path: PathBuf,
}

impl Chronicle {
    /// A journal that does not exist yet.
    pub fn new() -> Chronicle {
        let path = scratch("journal.jsonl");
        Chronicle { path }
    }

    /// Its path as text.
    pub fn name(&self) -> &str {
        self.path.to_str().expect("a path in UTF-8")
    }

    /// A path beside it.
    pub fn beside(&self, name: &str) -> String {
        let dir = self.path.parent().expect("a folder");
        dir.join(name).to_str().expect("a path in UTF-8").to_owned()
    }

    /// The command `rsoracle run` with this journal, and the mark of its processes.
    pub fn command(&self, args: &[&str]) -> (Command, String) {
        let journal = ["--journal", self.name()];
        marked_run(&[&SOURCE[..], &journal, args].concat())
    }

    /// Starts that command.
    pub fn start(&self, args: &[&str]) -> Running {
        start_command(self.command(args).0)
    }

    /// Its whole lines.
    pub fn lines(&self) -> Vec<String> {
        whole_lines(&self.path)
    }

    /// Its reports.
    pub fn reports(&self) -> Vec<Kept> {
        self.lines().iter().map(|line| Kept::of(line)).collect()
    }

    /// Waits for a report after the first `after` for which `fits` is true.
    pub fn until(&self, after: usize, what: &str, fits: impl Fn(&Kept) -> bool) -> Kept {
        let mut seen = after;
        eventually(what, || {
            let lines = self.lines();
            let from = seen.min(lines.len());
            seen = lines.len();
            lines[from..]
                .iter()
                .map(|line| Kept::of(line))
                .find(|kept| fits(kept))
        })
    }

    /// Waits until it has at least `count` lines.
    pub fn until_lines(&self, count: usize) {
        let what = format!("{count} lines in the journal");
        eventually(&what, || (self.lines().len() >= count).then_some(()));
    }

    /// Asserts that it is a complete chain of each feed: `rsoracle verify` finds no fault (exit code 5: no roster names the
    /// signers), numbers have no gap, and starts are multiples of the period and strictly increase.
    pub fn assert_whole(&self, every_us: u64) -> Vec<Kept> {
        let done = run(&["verify", self.name()]);
        assert_eq!(done.code, Some(5), "{}{}", done.stdout, done.stderr);
        let text = std::fs::read_to_string(&self.path).unwrap();
        assert!(text.ends_with('\n'), "its last line is complete");
        let reports = self.reports();
        let mut before: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for report in &reports {
            let start_us = report.round_start_us;
            let (number, before_us) = before.get(&*report.feed).copied().unwrap_or((0, 0));
            assert_eq!(report.number, number + 1, "{}", report.feed);
            assert!(start_us.is_multiple_of(every_us), "{start_us}");
            assert!(before_us < start_us, "{before_us} {start_us}");
            before.insert(&report.feed, (report.number, start_us));
            assert_eq!(
                report.price.is_some(),
                report.time_us.is_some() && report.shows()
            );
        }
        reports
    }

    /// Asserts that it contains all printed lines, unchanged and in the same order.
    pub fn assert_holds(&self, printed: &[String]) {
        let lines = self.lines();
        let mut left = lines.iter();
        for line in printed {
            assert!(left.any(|kept| kept == line), "not in the journal: {line}");
        }
    }
}

impl Kept {
    fn shows(&self) -> bool {
        matches!(self.decision.as_str(), "published" | "unchanged")
    }
}

/// The lines of a file, without an incomplete last one.
pub fn whole_lines(path: &Path) -> Vec<String> {
    let text = String::from_utf8(std::fs::read(path).unwrap_or_default()).expect("UTF-8");
    let end = text.rfind('\n').map_or(0, |end| end + 1);
    text[..end].lines().map(str::to_owned).collect()
}

/// The lines of a text, without an incomplete last one.
pub fn whole(text: &str) -> Vec<String> {
    let end = text.rfind('\n').map_or(0, |end| end + 1);
    text[..end].lines().map(str::to_owned).collect()
}

/// Stops an aggregator (SIGSTOP), so that its files no longer change.
pub fn hold(running: &Running) {
    running.signal("STOP");
    let stat = format!("/proc/{}/stat", running.id());
    eventually("it is stopped", || {
        let text = std::fs::read_to_string(&stat).ok()?;
        let (_, rest) = text.rsplit_once(") ")?;
        rest.starts_with('T').then_some(())
    });
}

/// The process ids of an aggregator's local collectors.
pub fn collectors(running: &Running) -> Vec<u32> {
    let collects = |id: &u32| arguments(*id).get(1).is_some_and(|word| word == "collect");
    running.children().into_iter().filter(collects).collect()
}

/// Waits until no process has this mark.
pub fn until_nobody_is_left(mark: &str) {
    eventually("no process is left", || {
        crate::witness::bearers(mark).is_empty().then_some(())
    });
}
