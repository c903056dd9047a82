//! Where a run goes on: the end of the journal, and what shows that it is the end.
//!
//! The newest report of each feed is also kept beside the journal, in [`newest_path`], which is replaced after the reports of a
//! round were appended and before their prices are published. A journal in which a feed's chain ends before that report has lost
//! its end (it was restored from a backup, or removed), and whoever continued it would sign numbers a second time.
//!
//! If that file has the journal's last report, it also says which feeds have reports at all: a feed of the roster that it does
//! not name is new, and its chain begins. Otherwise the whole journal is searched for the feed.
//!
//! Invariant: no line is used unless it was verified as `rsoracle verify` does it. A run that is killed at any moment leaves a
//! journal that may be continued.

use crate::aggregator::settings::Run;
use crate::system::now::wall_us;
use rsoracle_proof::report::{Content, Report, Verifier};
use rsoracle_proof::seal::PublicKey;
use rsoracle_verify::error::Error;
use rsoracle_verify::files;
use rsoracle_verify::lines::JOURNAL_LINE_BYTES_MAX;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::ErrorKind;

/// The beginning of a report of protocol 1.
const PROTOCOL_1: &str = "{\"rsoracle_report\":1,";

/// The file beside a journal with the newest report of each feed, whether that was published or not, one a line.
pub(super) fn newest_path(journal: &str) -> String {
    format!("{journal}.newest")
}

/// The end of a journal, read forward from some line.
#[derive(Default)]
pub(super) struct End {
    pub(super) verifier: Verifier,
    /// The ends of the feeds' chains.
    pub(super) feeds: BTreeMap<String, FeedEnd>,
    /// The signature of the last report.
    last: Option<[u8; 64]>,
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
    pub(super) fn take(&mut self, line: &str) -> Result<(), String> {
        if line.starts_with(PROTOCOL_1) {
            return Err(
                "it holds reports of protocol 1, which this program does not continue".to_owned(),
            );
        }
        let check = self.verifier.check(line, wall_us());
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
                self.last = Some(report.signature);
                end.newest = Some((*report, line.to_owned()));
            }
            Content::KeyChange => {}
            Content::Proof(_) | Content::Unknown => return Err("it is not a report".to_owned()),
        }
        Ok(())
    }

    /// Whether these lines are enough to go on: for each feed of the roster they have the newest report and, unless its file of
    /// `--latest` has it, the newest published one; or the feed is new. Fails if the journal must not be continued with this key.
    /// `whole`: these are all lines.
    pub(super) fn suffices(
        &self,
        config: &Run,
        key: PublicKey,
        whole: bool,
    ) -> Result<bool, Error> {
        let journal = config.journal.as_deref().expect("it is being opened");
        let path = newest_path(journal);
        let beside = held(&path);
        let is_last = |(report, _): &(Report, String)| Some(report.signature) == self.last;
        let is_current = beside.iter().any(is_last);
        let latest_files = config.latest_files();
        let feeds = || config.roster.feeds.iter().zip(&latest_files);
        let is_enough = |feed: &str, latest: Option<&String>| {
            let end = self.feeds.get(feed);
            let Some((end, (newest, _))) = end.and_then(|end| Some((end, end.newest.as_ref()?)))
            else {
                return is_current && of_feed(&beside, feed).is_none();
            };
            let shown = |number| {
                let held = latest.map_or(Vec::new(), |path| held(path));
                held.iter().any(|(held, _)| held.number == number)
            };
            latest.is_none()
                || end.published.is_some()
                || newest.published().is_none_or(|last| shown(last.number))
        };
        if !whole && !feeds().all(|(terms, latest)| is_enough(&terms.feed, latest.as_ref())) {
            return Ok(false);
        }
        can_be_read(journal, &path)?;
        for (terms, latest) in feeds() {
            let feed = terms.feed.as_str();
            let report = of_feed(&beside, feed);
            self.compare(journal, &path, report, |signer| {
                !self.hands_over(feed, signer, key)
            })?;
            if let Some(latest) = latest {
                can_be_read(journal, latest)?;
                let held = held(latest);
                self.compare(journal, latest, of_feed(&held, feed), |signer| {
                    signer == key
                })?;
            }
        }
        Ok(true)
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
    let reports = held.iter().map(|(report, _)| report);
    reports.into_iter().find(|it| it.round.terms.feed == feed)
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
