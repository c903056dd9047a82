//! `rsoracle history`: shows the last rounds of journals as a table, and their prices as a chart in the terminal. Each feed has
//! a table of its own. The reports of several files are pooled round by round.
//!
//! Invariant: memory is bounded by the rounds shown and the longest lines of one round, whatever the length of the files. A file
//! is read from its end, as far as the rounds shown need. Each line read is verified as `rsoracle verify` does without a
//! roster. Whether to trust the signers is left to `verify`.
//! Uses: flags, proof, system, verify. Used by: main.

mod journal;
mod page;
mod pooled;
mod row;

use crate::flags::args::{Given, Usage};
use crate::flags::values::feeds;
use crate::system::screen;
use crate::system::stream::say;
use page::{Page, Source};
use rsoracle_proof::limits::FEEDS_MAX;
use rsoracle_verify::error::{EXIT_FAILURE, EXIT_OK, Error};
use rsoracle_verify::log::printable;
use std::collections::BTreeSet;

/// Most rounds that are shown.
const ROUNDS_SHOWN_MAX: usize = 10_000;
/// Most files that are pooled.
const FILES_MAX: usize = 32;

/// The settings of `rsoracle history`.
#[derive(Clone, Debug)]
pub struct HistorySettings {
    /// The journals' files, which are pooled if there are several; `-` is standard input.
    pub files: Vec<String>,
    /// The only feeds to show; none for all.
    pub feeds: Vec<String>,
    /// Most rounds to show of each feed, counted from the end.
    pub last: usize,
    /// Print JSON.
    pub json: bool,
}

impl HistorySettings {
    /// Reads the flags of [`crate::flags::tables::HISTORY`].
    pub fn from_flags(given: &Given) -> Result<HistorySettings, Usage> {
        let files = given.operands().to_vec();
        if files.len() > FILES_MAX {
            let count = files.len();
            let sentence = format!("{count} files are too many; at most {FILES_MAX} are pooled");
            return Err(Usage(sentence));
        }
        if files.iter().filter(|file| *file == "-").count() > 1 {
            let sentence = "'-' is given twice; standard input can be read once";
            return Err(Usage(sentence.to_owned()));
        }
        let feeds = match given.has("feed") {
            true => feeds(given)?,
            false => Vec::new(),
        };
        Ok(HistorySettings {
            files,
            feeds,
            last: given.number("last", 1..=ROUNDS_SHOWN_MAX)?,
            json: given.has("json"),
        })
    }

    /// Whether this feed is shown.
    fn shows(&self, feed: &str) -> bool {
        self.feeds.is_empty() || self.feeds.iter().any(|only| only == feed)
    }
}

/// What was found in the files.
struct Found {
    /// What the pages are made from.
    source: Source,
    /// The feeds, each with the number of its last entry.
    pages: Vec<(u64, Page)>,
    entries: u64,
    /// Feeds that were found and are not shown.
    others: BTreeSet<String>,
    /// What else is to be said, such as what is wrong with a file.
    remarks: Vec<String>,
    /// Whether anything is wrong.
    bad: bool,
}

impl Found {
    fn new(source: Source) -> Found {
        Found {
            source,
            pages: Vec::new(),
            entries: 0,
            others: BTreeSet::new(),
            remarks: Vec::new(),
            bad: false,
        }
    }

    /// The page of a feed, if that is shown and there is room for it.
    fn page(&mut self, config: &HistorySettings, feed: &str) -> Option<&mut Page> {
        let at = self.pages.iter().position(|(_, page)| page.feed == feed);
        if !config.shows(feed) && self.others.len() < FEEDS_MAX && !self.others.contains(feed) {
            self.others.insert(feed.to_owned());
        }
        if !config.shows(feed) || (at.is_none() && self.pages.len() >= FEEDS_MAX) {
            return None;
        }
        let at = at.unwrap_or_else(|| {
            let page = Page::new(feed, config.last, self.source);
            self.pages.push((0, page));
            self.pages.len() - 1
        });
        self.entries += 1;
        self.pages[at].0 = self.entries;
        Some(&mut self.pages[at].1)
    }

    /// Whether no more needs to be read: of each feed found or known to be there, one round more than is shown, from which the time
    /// to the first one shown follows, and of several feeds one more, since what was read may begin within a round.
    fn suffices(&self, config: &HistorySettings, newest: &[String]) -> bool {
        let needed = config.last as u64 + u64::from(self.pages.len() > 1);
        let is_found = |feed: &String| self.pages.iter().any(|(_, page)| page.feed == *feed);
        let mut known = newest.iter().filter(|feed| config.shows(feed));
        let all_found = !self.pages.is_empty() && known.all(is_found);
        all_found && self.pages.iter().all(|(_, page)| page.rounds > needed)
    }
}

/// Shows the last rounds. Returns the exit code.
pub fn run(config: &HistorySettings) -> Result<u8, Error> {
    let mut found = match &config.files[..] {
        [file] => journal::read(config, file)?,
        files => pooled::read(config, files)?,
    };
    found.pages.retain(|(_, page)| page.rounds > 0);
    // A round has its reports in the order of the roster's feeds.
    found.pages.sort_by_key(|(last, _)| *last);
    let columns = screen::columns();
    let mut lines = Vec::new();
    for (at, (_, page)) in found.pages.iter().enumerate() {
        if config.json {
            lines.extend(page.json());
            continue;
        }
        if at > 0 {
            lines.push("\n".to_owned());
        }
        lines.extend(page.lines(columns));
    }
    // Feeds that somebody asks for and that are not there are most likely misspelled.
    let lacks = found.pages.is_empty() && !found.others.is_empty();
    if lacks && config.json {
        found.remarks.push(nothing(config, &found.others));
    }
    if !config.json {
        if found.pages.is_empty() {
            lines.push(nothing(config, &found.others));
        }
        lines.extend(found.remarks.iter().cloned());
    }
    let mut text = String::new();
    for line in lines.iter().flat_map(|line| line.lines()) {
        text.push_str(&printable(line));
        text.push('\n');
    }
    let printed = rsoracle_verify::print("history", &text);
    if config.json {
        found
            .remarks
            .iter()
            .for_each(|remark| say("history", remark));
    }
    Ok(if found.bad || lacks || !printed {
        EXIT_FAILURE
    } else {
        EXIT_OK
    })
}

/// What is said if there is no round to show.
fn nothing(config: &HistorySettings, others: &BTreeSet<String>) -> String {
    let what = match &config.feeds[..] {
        [] => "no rounds".to_owned(),
        feeds => format!("no rounds of {}", feeds.join(", ")),
    };
    let place = match config.files.len() {
        1 => "this file",
        _ => "these files",
    };
    let feeds: Vec<&str> = others.iter().map(String::as_str).collect();
    match &feeds[..] {
        [] => format!("{what} in {place}"),
        feeds => format!("{what} in {place}, only of {}", feeds.join(", ")),
    }
}
