//! Reads journals from their ends, and checks each line.
//!
//! Invariant: a report that fails a check is marked, and it is passed on only if the aggregator signed it.

use super::page::Source;
use super::{Found, HistorySettings};
use crate::system::file;
use crate::system::now::wall_us;
use crate::system::stream::say;
use rsoracle_proof::limits::FEEDS_MAX;
use rsoracle_proof::report::{Check, Content, KeyChange, Report, Verifier};
use rsoracle_proof::seal::Keys;
use rsoracle_verify::error::Error;
use rsoracle_verify::lines::Lines;
use rsoracle_verify::segments::{Reading, Segments};
use std::fs::File;
use std::io::BufReader;

/// An open journal.
pub(super) struct Journal {
    /// Its name in messages.
    pub(super) name: String,
    /// `None`: standard input.
    segments: Option<Segments>,
}

impl Journal {
    /// Opens the file at `path`; `-` is standard input.
    pub(super) fn open(path: &str) -> Result<Journal, Error> {
        let (name, segments) = match path {
            "-" => ("standard input", None),
            path => (path, Some(Segments::open(path)?)),
        };
        if let Some(note) = segments.as_ref().and_then(|it| it.unlisted.as_ref()) {
            say("history", note);
        }
        Ok(Journal {
            name: name.to_owned(),
            segments,
        })
    }

    /// Whether its end can be read without its beginning.
    pub(super) fn seekable(&self) -> bool {
        self.segments.as_ref().is_some_and(|it| it.seekable)
    }

    /// The feeds that the file beside it names, where its aggregator keeps the newest report of each. Nothing is proved by it: it
    /// only says how much is worth reading.
    pub(super) fn newest(&self) -> Vec<String> {
        let path = format!("{}.newest", self.name);
        let is_file = std::fs::metadata(&path).is_ok_and(|metadata| metadata.is_file());
        let file = File::open(&path)
            .ok()
            .filter(|_| is_file && self.seekable());
        let mut lines = file.map(|file| Lines::new(BufReader::new(file), &path));
        let mut feeds = Vec::new();
        while feeds.len() < FEEDS_MAX
            && let Some(Ok(Some(line))) = lines.as_mut().map(Lines::next_line)
        {
            let report = line
                .text
                .ok()
                .map(|text| Report::read(text, &mut Keys::default()));
            feeds.extend(
                report
                    .and_then(Result::ok)
                    .map(|report| report.round.terms.feed),
            );
        }
        feeds
    }

    /// Its last lines, of about so many bytes; all of them if it can only be read from its beginning.
    pub(super) fn tail(&self, bytes: u64) -> Result<Tail, Error> {
        let lines = match &self.segments {
            None => Reading::standard_input(),
            Some(all) if !all.seekable => all.tail(u64::MAX)?,
            Some(all) => all.tail(bytes)?,
        };
        Ok(Tail {
            whole: lines.whole,
            lines,
            verifier: Verifier::default(),
            bad: 0,
            first_bad: None,
            torn: false,
        })
    }
}

/// What a line holds.
pub(super) enum Entry {
    /// A report, whether it passed all checks, and whether it did but for its place in the chain.
    Report(Box<Report>, bool, bool),
    /// A sound change of the aggregator's key in this feed.
    KeyChange(String),
    /// Nothing to show.
    Nothing,
}

/// The end of a journal, read line by line.
pub(super) struct Tail {
    /// Whether it is all of the journal.
    pub(super) whole: bool,
    lines: Reading,
    verifier: Verifier,
    /// Number of lines that failed a check, and the first of them with the reason.
    pub(super) bad: u64,
    first_bad: Option<String>,
    torn: bool,
}

impl Tail {
    /// Reads and checks the next line; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Error> {
        let Some(line) = self.lines.next_line()? else {
            return Ok(None);
        };
        let (number, whole) = (line.number, line.whole);
        let check = match line.text {
            Ok(text) => self.verifier.check(text, wall_us()),
            Err(why) => Check::unreadable(why),
        };
        let signed = |report: &Report| {
            let key = &report.aggregator;
            key.signed(&report.signed_bytes(), &report.signature)
        };
        let report = match (check.content, check.flaws.first()) {
            (Content::Report(report), None) => {
                return Ok(Some(Entry::Report(report, true, true)));
            }
            (Content::KeyChange, None) => {
                let text = line.text.expect("it was checked");
                let change = KeyChange::read(text, &mut Keys::default());
                let feed = change.expect("it was read before").feed;
                return Ok(Some(Entry::KeyChange(feed)));
            }
            (Content::Report(report), Some(_)) => Some(report).filter(|report| signed(report)),
            _ if !whole && self.lines.is_last() => {
                self.torn = true;
                return Ok(Some(Entry::Nothing));
            }
            _ => None,
        };
        self.bad += 1;
        let place = self.lines.place(number);
        let why = check.flaws.first();
        let why = why.map_or("it is not a report", |why| why.as_str());
        self.first_bad.get_or_insert(format!("{place}: {why}"));
        Ok(Some(match report {
            Some(report) => Entry::Report(report, false, check.stands_alone),
            None => {
                // A line that cannot be trusted does not count in the chain, so the next line need not continue it.
                self.verifier.begin_anew();
                Entry::Nothing
            }
        }))
    }

    /// Warnings about what was read. `name` is the argument that names the file.
    pub(super) fn remarks(&self, name: &str) -> Vec<String> {
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
}

/// Reads the rounds to show of one journal.
pub(super) fn read(config: &HistorySettings, path: &str) -> Result<Found, Error> {
    let journal = Journal::open(path)?;
    let newest = journal.newest();
    let mut stretch = file::TAIL_BYTES;
    loop {
        let mut tail = journal.tail(stretch)?;
        let whole = tail.whole;
        let mut found = Found::new(Source { files: 1, whole });
        while let Some(entry) = tail.next()? {
            match entry {
                Entry::Report(report, sound, _) => {
                    if let Some(page) = found.page(config, &report.round.terms.feed) {
                        page.add(&report, sound);
                    }
                }
                Entry::KeyChange(feed) => {
                    if let Some(page) = found.page(config, &feed) {
                        page.key_changes += 1;
                    }
                }
                Entry::Nothing => {}
            }
        }
        if whole || found.suffices(config, &newest) {
            found.remarks = tail.remarks(path);
            found.bad = tail.bad > 0;
            return Ok(found);
        }
        stretch = stretch.saturating_mul(file::TAIL_LONGER);
    }
}
