//! Where a run goes on: the end of the journal, and what shows that it is the end.
//!
//! The newest report of each feed is also kept beside the journal, in [`newest_path`], which is replaced after the reports of a
//! round were appended and before their prices are published. A journal in which a feed's chain ends before that report has lost
//! its end (it was restored from a backup, or removed), and whoever continued it would sign numbers a second time.
//!
//! That file has the feeds of the roster. The newest reports of feeds that were in the roster once are in [`others_path`], which
//! only ever gains feeds, and is on the disk before the first file no longer has them. Together with the lines of the journal from
//! a report on that the first file has, the two name all feeds of the journal: another one is new, and its chain begins. If
//! anything is missing of the three, the whole journal is read. If its oldest segments are gone, what is left has the last round,
//! which with [`others_path`] still names all feeds; without that file, a journal with several feeds is not continued.
//!
//! Invariant: no line is used unless it was verified as `rsoracle verify` does it. A run that is killed at any moment leaves a
//! journal that may be continued.

use crate::aggregator::limits::FUTURE_US_MAX;
use crate::aggregator::settings::Run;
use crate::system::file;
use crate::system::now::wall_us;
use crate::system::span::span;
use rsoracle_proof::limits::FEEDS_MAX;
use rsoracle_proof::report::{Content, Report, Verifier};
use rsoracle_proof::seal::PublicKey;
use rsoracle_proof::terms::Roster;
use rsoracle_proof::utc::utc_text;
use rsoracle_verify::error::Error;
use rsoracle_verify::files;
use rsoracle_verify::lines::JOURNAL_LINE_BYTES_MAX;
use rsoracle_verify::segments::closed;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

/// The way on when a journal ends in the future.
pub(super) const ANOTHER_JOURNAL: &str = "begin another journal with a key of its own (--journal NEW, without --aggregator-key or with a new one): rosters name no aggregator, so consumers need nothing new; keep this file, whose reports stay valid";

/// The beginning of a report of protocol 1.
const PROTOCOL_1: &str = "{\"rsoracle_report\":1,";

/// The file beside a journal with the newest report of each feed, whether that was published or not, one a line.
pub(crate) fn newest_path(journal: &str) -> String {
    format!("{journal}.newest")
}

/// The file beside a journal with a report of each feed that was not in the roster of some start. It does not exist as long as
/// there is only one feed and no closed segment.
pub(crate) fn others_path(journal: &str) -> String {
    format!("{journal}.newest.others")
}

/// Makes [`others_path`] for a journal that is known to have a single feed, before its first segment is closed; for another nothing is done. Without it, nothing
/// would tell whether segments that are gone had other feeds.
pub(crate) fn begin_others(journal: &str, is_of_one_feed: bool) -> Result<(), Error> {
    let others = others_path(journal);
    let is_first = closed(journal).is_ok_and(|(_, highest)| highest == 0);
    match is_of_one_feed && is_first && !Path::new(&others).exists() {
        true => file::replace(&others, ""),
        false => Ok(()),
    }
}

/// Whether the oldest segments of a journal are gone.
fn begins_later(journal: &str) -> bool {
    closed(journal).is_ok_and(|(numbers, _)| numbers.first().is_some_and(|first| *first > 1))
}

/// The reports beside a journal, with their lines.
pub(crate) struct Beside {
    /// Those in [`newest_path`].
    newest: Vec<(Report, String)>,
    /// Those in [`others_path`]; `None` if it is missing or holds anything else.
    others: Option<Vec<(Report, String)>>,
}

impl Beside {
    pub(crate) fn read(journal: &str) -> Beside {
        let others = others_path(journal);
        let is_empty = std::fs::metadata(&others).is_ok_and(|there| there.len() == 0);
        Beside {
            newest: held(&newest_path(journal)),
            others: Some(held(&others)).filter(|held| is_empty || !held.is_empty()),
        }
    }

    /// Whether [`others_path`] does not say which other feeds the journal has.
    fn has_lost_others(&self) -> bool {
        self.others.is_none()
    }

    fn others(&self) -> &[(Report, String)] {
        self.others.as_deref().unwrap_or_default()
    }

    /// The feeds that these reports name.
    fn feeds(&self) -> impl Iterator<Item = &str> {
        let reports = self.newest.iter().chain(self.others());
        reports.map(|(report, _)| report.round.terms.feed.as_str())
    }
}

/// The end of a journal, read forward from some line.
#[derive(Default)]
pub(crate) struct End {
    pub(super) verifier: Verifier,
    /// The ends of the feeds' chains.
    pub(super) feeds: BTreeMap<String, FeedEnd>,
    /// Whether these lines have a report that [`newest_path`] has, so that every later line is among them.
    anchored: bool,
}

/// The end of a feed's chain.
#[derive(Default)]
pub(super) struct FeedEnd {
    /// The newest report and its line.
    pub(super) newest: Option<(Report, String)>,
    /// The newest published report: the start of its round, and its line.
    published: Option<(u64, String)>,
    /// The keys that signed its reports.
    signers: BTreeSet<[u8; 32]>,
}

impl End {
    /// Takes and verifies the next line.
    pub(crate) fn take(&mut self, line: &str, beside: &Beside) -> Result<(), String> {
        if line.starts_with(PROTOCOL_1) {
            return Err(
                "it holds reports of protocol 1, which this program does not continue".to_owned(),
            );
        }
        // Whether it is of the future is judged once the end is known.
        let check = self.verifier.check(line, u64::MAX);
        if let Some(flaw) = check.flaws.into_iter().next() {
            return Err(flaw);
        }
        match check.content {
            Content::Report(report) => {
                let feed = self.feeds.entry(report.round.terms.feed.clone());
                let end = feed.or_default();
                if report.decision.publishes() {
                    end.published = Some((report.round.start_us, line.to_owned()));
                }
                end.signers.insert(*report.aggregator.bytes());
                let mut newest = beside.newest.iter();
                self.anchored |= newest.any(|(held, _)| held.signature == report.signature);
                end.newest = Some((*report, line.to_owned()));
            }
            Content::KeyChange => {}
            Content::Proof(_) | Content::Unknown => return Err("it is not a report".to_owned()),
        }
        Ok(())
    }

    /// What these lines lack to go on, in words; `None` if they are enough: for each feed of the roster they have the newest report
    /// and, unless its file of `--latest` has it, the newest published one, or the feed is new; and every other feed is known.
    /// Fails if the journal must not be continued with this key. `whole`: these are all lines.
    pub(crate) fn lacks(
        &self,
        config: &Run,
        key: PublicKey,
        whole: bool,
        beside: &Beside,
    ) -> Result<Option<String>, Error> {
        let journal = config.journal.as_deref().expect("it is being opened");
        if !whole && let Some(sought) = self.sought(config, key, beside) {
            return Ok(Some(sought));
        }
        let feeds = self.known(&config.roster, beside).len();
        if feeds > FEEDS_MAX {
            let cause = format!(
                "with this roster it would have {feeds} feeds, and at most {FEEDS_MAX} are followed in one file"
            );
            return Err(refused(journal, cause).advise("begin another journal with a key of its own (--journal NEW); keep this file, whose reports stay valid"));
        }
        let (path, others) = (newest_path(journal), others_path(journal));
        if feeds > 1 && beside.has_lost_others() && begins_later(journal) {
            let cause = format!(
                "its oldest segments are gone, and {others}, which names the feeds that only they have, is missing or damaged: a feed of the roster may be one of them, and its numbers would be signed a second time"
            );
            return Err(refused(journal, cause).advise(format!("restore {others}, or put the oldest segments back for this start, or begin another journal with a key of its own (--journal NEW)")));
        }
        can_be_read(journal, &path)?;
        can_be_read(journal, &others)?;
        for (terms, latest) in config.roster.feeds.iter().zip(config.latest_files()) {
            let feed = terms.feed.as_str();
            for (path, held) in [
                (&path, beside.newest.as_slice()),
                (&others, beside.others()),
            ] {
                self.compare(journal, path, of_feed(held, feed), |signer| {
                    !self.hands_over(feed, signer, key)
                })?;
            }
            if let Some(latest) = &latest {
                can_be_read(journal, latest)?;
                let held = held(latest);
                self.compare(journal, latest, of_feed(&held, feed), |signer| {
                    signer == key
                })?;
            }
        }
        self.check_time(config, journal)?;
        Ok(None)
    }

    /// What must be looked for in front of these lines, in words.
    fn sought(&self, config: &Run, key: PublicKey, beside: &Beside) -> Option<String> {
        let journal = config.journal.as_deref().unwrap_or_default();
        let complete = self.anchored && beside.others.is_some();
        let others = Path::new(&others_path(journal)).exists();
        // Before its segments are closed, it must be known whether they have other feeds.
        let closes = config.journal_max.is_some() && beside.others.is_none();
        let closes = closes && closed(journal).is_ok_and(|(_, highest)| highest == 0);
        if !complete && (others || closes || self.known(&config.roster, beside).len() > 1) {
            return Some("all of its feeds".to_owned());
        }
        let mut keys = self
            .verifier
            .feeds()
            .map(|feed| self.verifier.aggregator(feed));
        if config.retire_key.is_some() && keys.any(|last| last != Some(key)) {
            return Some("all chains that the retired key has signed".to_owned());
        }
        for (terms, latest) in config.roster.feeds.iter().zip(config.latest_files()) {
            let feed = terms.feed.as_str();
            let end = self.feeds.get(feed);
            let Some((end, (newest, _))) = end.and_then(|end| Some((end, end.newest.as_ref()?)))
            else {
                if complete && !beside.feeds().any(|held| held == feed) {
                    continue;
                }
                return Some(format!("the newest report of {feed}"));
            };
            let shown = |number| {
                let held = latest.as_ref().map_or(Vec::new(), |path| held(path));
                held.iter().any(|(held, _)| held.number == number)
            };
            let is_enough = latest.is_none()
                || end.published.is_some()
                || newest.published().is_none_or(|last| shown(last.number));
            if !is_enough {
                return Some(format!("the newest published report of {feed}"));
            }
        }
        None
    }

    /// The feeds that the roster, these lines and the files beside the journal name.
    fn known<'a>(&'a self, roster: &'a Roster, beside: &'a Beside) -> BTreeSet<&'a str> {
        let feeds = roster.feeds.iter().map(|terms| terms.feed.as_str());
        feeds
            .chain(self.verifier.feeds())
            .chain(beside.feeds())
            .collect()
    }

    /// Whether these lines, the roster and the files beside the journal name a single feed.
    pub(crate) fn is_of_one_feed(&self, roster: &Roster, beside: &Beside) -> bool {
        self.known(roster, beside).len() == 1
    }

    /// The text that [`others_path`] is to have; `None` if it is not to be changed. A feed that it has stays there, with the
    /// report that it had, also when the feed is in the roster again: after a power failure, the other file may be one of before. For
    /// the same reason it has all feeds if it is made for a journal that has several.
    pub(crate) fn others(&self, roster: &Roster, beside: &Beside) -> Option<String> {
        let known = self.known(roster, beside);
        if beside.others.is_none() && known.len() < 2 {
            return None;
        }
        let line = |feed: &str| {
            let in_roster = beside.others.is_some() && roster.feed(feed).is_some();
            let read = self.feeds.get(feed).and_then(|end| end.newest.as_ref());
            let held = beside.newest.iter().chain(read).filter(|_| !in_roster);
            let held = held.chain(beside.others());
            let of_feed = held.filter(|(report, _)| report.round.terms.feed == feed);
            of_feed.max_by_key(|(report, _)| report.number)
        };
        let lines = known.into_iter().filter_map(line);
        let text: String = lines.map(|(_, line)| format!("{line}\n")).collect();
        let now = beside.others.as_ref();
        let now = now.map(|it| it.iter().map(|(_, line)| format!("{line}\n")).collect());
        (now != Some(text.clone())).then_some(text)
    }

    /// Refuses a journal that ends in the future: its next report would have to be of a later time still.
    fn check_time(&self, config: &Run, journal: &str) -> Result<(), Error> {
        let now_us = wall_us();
        let feeds = config.roster.feeds.iter();
        let ends = feeds.filter_map(|terms| self.feeds.get(&terms.feed)?.newest.as_ref());
        let last = ends
            .map(|(report, _)| report)
            .max_by_key(|it| it.round.start_us);
        let Some(last) = last.filter(|it| it.round.start_us > now_us.saturating_add(FUTURE_US_MAX))
        else {
            return Ok(());
        };
        let (number, start_us) = (last.number, last.round.start_us);
        let (until, left) = (utc_text(start_us), span(start_us - now_us));
        let cause = format!(
            "it ends in the future: the round of its report {number} starts at {until}, {left} from now, so the clock that dated it was ahead, or this machine's is behind"
        );
        Err(refused(journal, cause).advise(format!(
            "set this machine's clock if it is wrong; if it is right, start again after that time, or {ANOTHER_JOURNAL}; nothing was changed"
        )))
    }

    /// The line of a feed's newest published report, if the file of `--latest` may have it: even after a change of keys, that
    /// file does not go back.
    pub(super) fn unwritten(&self, feed: &str, latest: Option<&String>) -> Option<String> {
        let latest = latest.and_then(|path| held(path).pop());
        let goes_on = |start_us| latest.is_none_or(|(latest, _)| latest.round.start_us <= start_us);
        let (start_us, line) = self.feeds.get(feed)?.published.as_ref()?;
        goes_on(*start_us).then(|| line.clone())
    }

    /// Whether `signer` signs nothing more in a feed's chain: it has handed over to another key, or does so now to `key`, or the
    /// chain begins now with `key`.
    fn hands_over(&self, feed: &str, signer: PublicKey, key: PublicKey) -> bool {
        let end = self.feeds.get(feed);
        match self.verifier.aggregator(feed).unwrap_or(signer) {
            last if last == signer => signer != key,
            _ => end.is_some_and(|end| end.signers.contains(signer.bytes())),
        }
    }

    /// Refuses the journal if it has lost the report that the file at `path` holds of a feed, if its signer `counts`.
    fn compare(
        &self,
        journal: &str,
        path: &str,
        held: Option<&Report>,
        counts: impl Fn(PublicKey) -> bool,
    ) -> Result<(), Error> {
        let Some(held) = held.filter(|held| counts(held.aggregator)) else {
            return Ok(());
        };
        let feed = &held.round.terms.feed;
        let end = self.feeds.get(feed).and_then(|end| end.newest.as_ref());
        let what = match end.map(|(newest, _)| newest) {
            Some(newest) if newest.number > held.number => return Ok(()),
            Some(newest) if newest.signature == held.signature => return Ok(()),
            Some(newest) if newest.number == held.number => "its last report is another".to_owned(),
            Some(newest) => format!("it ends at report {}", newest.number),
            None if self.feeds.is_empty() => "it is empty".to_owned(),
            None => "it has no report".to_owned(),
        };
        let of = match self.feeds.keys().all(|only| only == feed) {
            true => String::new(),
            false => format!("{feed}: "),
        };
        let cause = format!(
            "{of}{what}, but its key has signed report {}, which {path} holds: the journal has lost its end, and its numbers would be signed a second time",
            held.number
        );
        Err(refused(journal, cause).advise(format!(
            "restore the copy of the journal that ends latest; if no copy has the lost reports, hand over to a new key (--aggregator-key NEW --retire-key OLD) or begin another journal with a key of its own; only if nobody has used the lost reports, remove {path}"
        )))
    }
}

fn refused(journal: &str, cause: String) -> Error {
    Error::new(format!("cannot continue the journal {journal}"), cause)
}

/// Refuses the journal if a file that may show that it has lost its end is there, and cannot be read.
fn can_be_read(journal: &str, path: &str) -> Result<(), Error> {
    match File::open(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(refused(journal, format!("{path} cannot be read: {error}")))
        }
        _ => Ok(()),
    }
}

/// The report of a feed among others.
fn of_feed<'a>(held: &'a [(Report, String)], feed: &str) -> Option<&'a Report> {
    let mut reports = held.iter().map(|(report, _)| report);
    reports.find(|it| it.round.terms.feed == feed)
}

/// The valid reports that a file holds, with their lines; none if it holds anything else, or does not exist.
pub(super) fn held(path: &str) -> Vec<(Report, String)> {
    let valid = |line: &str| {
        // It was signed, whatever the clock says now.
        let check = Verifier::default().check(line, u64::MAX);
        match check.content {
            Content::Report(report) if check.flaws.is_empty() => Some((*report, line.to_owned())),
            _ => None,
        }
    };
    let read = || -> Option<Vec<_>> {
        let bytes = files::read(path, JOURNAL_LINE_BYTES_MAX as u64 + 1, path).ok()?;
        let text = std::str::from_utf8(&bytes).ok()?.strip_suffix('\n')?;
        text.split('\n').map(valid).collect()
    };
    read().unwrap_or_default()
}
