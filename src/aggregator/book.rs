//! A run's position in its journal: for each feed the next report's number and the last published price; and the journal itself.
//!
//! Invariant: the reports of a round are on the disk before any of their prices is published; if they cannot be written, none is
//! published. The numbers of each feed and the starts strictly increase, also across restarts.

use super::words::of_feeds;
use crate::aggregator::journal::{Journal, attempt};
use crate::aggregator::resume::{self, Beside, End, newest_path, others_path};
use crate::aggregator::settings::Run;
use crate::keys::file as keyfile;
use crate::keys::make;
use crate::keys::secret::SecretKey;
use crate::system::beside::check_own;
use crate::system::directory;
use crate::system::file;
use crate::system::stream;
use rsoracle_proof::publish::PublishedPrice;
use rsoracle_proof::report::{KeyChange, Proof, Refused, Report};
use rsoracle_proof::round::{Part, Round};
use rsoracle_proof::terms::Roster;
use rsoracle_verify::error::Error;
use rsoracle_verify::segments::{closed, part_of, path_of};
use std::cell::{Cell, LazyCell};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A start that has verified this many signatures (about half a second of work) without finding all it needs says so.
const SIGNATURES_SILENT: u64 = 10_000;

/// The advice if the directory of several newest reports cannot be made.
pub(crate) const A_DIRECTORY: &str =
    "with several feeds, --latest names a directory that this user may write to";

/// What is carried over from one round to the next.
#[derive(Default)]
pub struct Book {
    journal: Option<Journal>,
    /// After closing the open segment has failed: the size in bytes that it must reach before the next attempt; else 0.
    close_at: u64,
    /// Whether the start has read the whole journal, and found no feed but that of the roster.
    is_of_one_feed: bool,
    /// The chains of the roster's feeds, in their order.
    chains: Vec<FeedChain>,
    /// Start of the last round; the next round must start later.
    last_start_us: u64,
    ephemeral: bool,
    /// The lines of the feeds' newest reports, until they have been written beside the journal.
    newest: Vec<String>,
    /// Keys of the collectors whose equivocation was already proved in this run.
    proved: BTreeSet<[u8; 32]>,
}

/// Where a feed's chain goes on.
#[derive(Default)]
struct FeedChain {
    /// The last report's number.
    number: u64,
    previous: Option<[u8; 64]>,
    last: Option<PublishedPrice>,
    /// The line of the newest published report, until it has been written to the file of `--latest`.
    unwritten: Option<String>,
    /// That file.
    latest: Option<String>,
}

/// A line about the journal or the keys for the operator.
pub enum Remark {
    /// Shown even with `--quiet`.
    Warning(String),
    /// Not shown with `--quiet`.
    Progress(String),
}

/// The file beside a journal by which its aggregator is asked to close the segment.
pub(crate) fn request_path(journal: &str) -> String {
    format!("{journal}.rotate")
}

/// The key that signs reports, and whether its file was made just now.
pub fn key(config: &Run) -> Result<(SecretKey, bool), Error> {
    let Some((path, is_new)) = key_file(config)? else {
        return Ok((keyfile::unsaved()?, false));
    };
    if is_new {
        make::create(&path)?;
    }
    Ok((keyfile::read(&path)?, is_new))
}

/// The file of the key that signs reports, and whether a start makes it; `None` as for [`Run::key_path`].
pub(crate) fn key_file(config: &Run) -> Result<Option<(String, bool)>, Error> {
    let Some(path) = config.key_path() else {
        return Ok(None);
    };
    let journal = config.journal.as_deref().unwrap_or_default();
    let there = std::fs::metadata(journal).ok();
    if there.as_ref().is_some_and(|there| !there.is_file()) {
        let advice = "name a file with --journal";
        return Err(Error::new(attempt(journal), "it is not a regular file").advise(advice));
    }
    check_own(journal, &attempt(journal))?;
    let made = config.aggregator_key.is_none() && make::is_missing(&path);
    // If the journal has reports already, a new key could not continue it.
    let has_closed = || closed(journal).is_ok_and(|(_, highest)| highest > 0);
    if made && (there.is_some_and(|there| there.len() > 0) || has_closed()) {
        let attempt = format!("cannot continue the journal {journal}");
        let cause = format!("the key that signed its reports, {path}, is missing");
        let advice = "restore that file, name the key's file with --aggregator-key, or begin another journal";
        return Err(Error::new(attempt, cause).advise(advice));
    }
    Ok(Some((path, made)))
}

/// Whether two paths lead to one file, or would if it existed.
fn is_same(one: &str, other: &str) -> bool {
    let identity = |path: &str| {
        let there = std::fs::metadata(path).ok()?;
        Some((there.dev(), there.ino()))
    };
    let place = |path: &str| {
        let folder = file::folder_of(path).canonicalize().ok()?;
        Some(folder.join(Path::new(path).file_name()?))
    };
    let files = identity(one).is_some_and(|found| identity(other) == Some(found));
    one == other || files || place(one).is_some_and(|found| place(other) == Some(found))
}

/// Refuses a file of `--latest` or `--write-roster`, which are overwritten, that is also a file that must be kept. Compares
/// the files themselves, not their names.
pub(crate) fn check_apart(config: &Run) -> Result<(), Error> {
    let beside = |ending: &str| Some(format!("{}.{ending}", config.journal.as_ref()?));
    let kept = [
        ("journal", config.journal.clone()),
        ("aggregator's key", config.key_path()),
        ("retired key", config.retire_key.clone()),
        ("file of certificates", config.ca_file().cloned()),
        ("file of proofs", beside("proofs")),
        ("file of the journal's torn lines", beside("torn")),
        ("file of the newest report", beside("newest")),
        ("file of other feeds' reports", beside("newest.others")),
        ("file of the journal's next segment", beside("next")),
        ("journal's request", beside("rotate")),
    ];
    let journal = config.journal.as_deref().unwrap_or_default();
    let numbers = closed(journal).unwrap_or_default().0.into_iter();
    let segments = numbers.map(|number| ("journal", Some(path_of(journal, number))));
    let kept: Vec<_> = kept.into_iter().chain(segments).collect();
    let is_segment = |path| part_of(path).is_some_and(|(of, _)| is_same(of, journal));
    let latest_files = config.latest_files();
    let roster = config.write_roster.as_deref();
    let mut latest = latest_files.iter().flatten();
    if latest.any(|path| roster.is_some_and(|roster| is_same(path, roster))) {
        let attempt = "cannot write the newest report and the roster to one file";
        return Err(Error::new(
            attempt,
            "--latest and --write-roster name the same file",
        ));
    }
    let replaced = latest_files.iter().map(|path| ("latest", path));
    for (flag, path) in replaced.chain([("write-roster", &config.write_roster)]) {
        let Some(path) = path else { continue };
        let is_kept = |other: &Option<String>| other.as_ref().is_some_and(|it| is_same(path, it));
        let found = kept.iter().find(|(_, other)| is_kept(other));
        let what = found.map_or(is_segment(path).then_some("journal"), |it| Some(it.0));
        if let Some(what) = what {
            let attempt = format!("cannot replace {path}");
            return Err(Error::new(attempt, format!("it is the {what}"))
                .advise(format!("name another file with --{flag}")));
        }
    }
    Ok(())
}

impl Book {
    /// A book whose chains are to begin.
    pub(crate) fn new(config: &Run) -> Book {
        let chain = |latest| FeedChain {
            latest,
            ..FeedChain::default()
        };
        Book {
            chains: config.latest_files().into_iter().map(chain).collect(),
            ephemeral: config.key_path().is_none(),
            ..Book::default()
        }
    }

    /// Opens the journal, if there is one, and checks its end. Returns lines for the operator, too.
    pub fn open(config: &Run, key: &SecretKey) -> Result<(Book, Vec<Remark>), Error> {
        let latest_files = config.latest_files();
        if let [Some(first), _, ..] = latest_files.as_slice() {
            directory::make_for(first).map_err(|error| error.advise(A_DIRECTORY))?;
        }
        let mut book = Book::new(config);
        let replaceable = |paths: &[Option<String>]| {
            let mut paths = paths.iter().flatten();
            paths.try_for_each(|path| file::make_replaceable(path))
        };
        let Some(path) = &config.journal else {
            replaceable(&latest_files)?;
            check_apart(config)?;
            return Ok((book, Vec::new()));
        };
        let (newest, others) = (newest_path(path), others_path(path));
        // Read under the journal's lock.
        let beside = LazyCell::new(|| Beside::read(path));
        let take = |end: &mut End, line: &str| end.take(line, &beside);
        let read_all = Cell::new(false);
        let enough = |end: &End, whole: bool| {
            read_all.set(whole);
            let lacks = end.lacks(config, key.public(), whole, &beside)?;
            if let Some(sought) = &lacks
                && end.verifier.signatures > SIGNATURES_SILENT
            {
                let line = format!("still reading the journal backwards, for {sought}");
                stream::say("aggregator", &line);
            }
            Ok(lacks.is_none())
        };
        let (mut journal, end, torn) = Journal::open(path, &take, &enough)?;
        // Under the journal's lock, so that no file of another run is taken for one that was left behind.
        replaceable(&latest_files)?;
        file::make_replaceable(&newest)?;
        file::make_replaceable(&others)?;
        check_apart(config)?;
        let mut lines = warnings(journal.bytes, &newest);
        if torn > 0 {
            lines.push(Remark::Warning(format!(
                "the journal ended in the middle of a line, because a write was interrupted; moved its last {torn} bytes to {path}.torn"
            )));
        }
        if let Some(text) = end.others(&config.roster, &beside) {
            // On the disk before the other file changes.
            file::replace(&others, &text)?;
        }
        book.is_of_one_feed = read_all.get() && end.is_of_one_feed(&config.roster, &beside);
        let changes = book.go_on(config, path, Some(key), end)?;
        if !changes.is_empty() {
            journal.append(&changes)?;
            lines.push(Remark::Warning(
                "the journal continues with another aggregator key; the old key and the new one signed the change"
                    .to_owned(),
            ));
        }
        let places = book.places(&config.roster);
        lines.push(Remark::Progress(format!("journal {path}: {places}")));
        book.journal = Some(journal);
        let failed = book.write_newest(config).err();
        lines.extend(failed.map(|error| Remark::Warning(error.to_string())));
        Ok((book, lines))
    }

    /// Where the chains of the feeds go on, in words.
    pub(crate) fn places(&self, roster: &Roster) -> String {
        let places = self.chains.iter().map(|chain| match chain.number {
            0 => "new".to_owned(),
            last => format!("continues at report {}", last + 1),
        });
        of_feeds(roster, places.enumerate()).join("; ")
    }

    /// Whether the journal was lost for good.
    pub(crate) fn journal_lost(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.lost)
    }

    /// Closes the journal's segment if it has reached its greatest size, or if somebody asks for it ([`request_path`]). Returns the
    /// path of the closed segment; `None` if there was nothing to do.
    pub(super) fn close_segment(&mut self, config: &Run) -> Option<Result<String, Error>> {
        let journal = self.journal.as_mut()?;
        let asked = std::fs::remove_file(request_path(config.journal.as_ref()?)).is_ok();
        let most = config
            .journal_max
            .filter(|most| journal.bytes >= self.close_at.max(*most));
        if !asked && most.is_none() {
            return None;
        }
        let named = resume::begin_others(config.journal.as_ref()?, self.is_of_one_feed);
        let closed = named.and_then(|()| journal.close_segment());
        self.close_at = match closed {
            Ok(_) => 0,
            Err(_) => journal.bytes + config.journal_max.unwrap_or(0),
        };
        closed.transpose()
    }

    /// The earliest start that the next round may have.
    pub(crate) fn start_us_min(&self) -> u64 {
        self.last_start_us + 1
    }

    /// Takes the ends of the feeds' chains. Returns the records by which the journal's old key hands over to this run's key, one
    /// for each feed whose chain it ends, whether the roster has that feed or not.
    pub(crate) fn go_on(
        &mut self,
        config: &Run,
        journal: &str,
        key: Option<&SecretKey>,
        mut end: End,
    ) -> Result<Vec<String>, Error> {
        let attempt = format!("cannot continue the journal {journal}");
        let own = key.map(SecretKey::public);
        let changes_hands = |feed| own.is_some() && end.verifier.aggregator(feed) != own;
        let retired = config.retire_key.as_deref();
        let retired = retired.filter(|_| end.verifier.feeds().any(changes_hands));
        let retired = retired.map(keyfile::read).transpose()?;
        let mut changes = Vec::new();
        for (feed, terms) in config.roster.feeds.iter().enumerate() {
            let (name, chain) = (&terms.feed, &mut self.chains[feed]);
            chain.unwritten = end.unwritten(name, chain.latest.as_ref());
            chain.previous = end.verifier.head(name);
            let before = end.verifier.aggregator(name).zip(chain.previous);
            if let (Some(key), Some((before, head))) = (key, before)
                && before != key.public()
            {
                let old = retired.as_ref();
                let old = old.filter(|old| old.public() == before).ok_or_else(|| {
                    let cause = match retired {
                        Some(_) => "the key of --retire-key did not sign its last report",
                        None => "it is signed with another aggregator key",
                    };
                    let cause = of_feeds(&config.roster, [(feed, cause.to_owned())]).join("; ");
                    Error::new(&attempt, cause).advise("name the key that signed it with --aggregator-key, hand over from it with --retire-key FILE, or begin another journal")
                })?;
                let change = hand_over(name, old, key, head);
                changes.push(change.line());
                chain.previous = Some(change.signature());
            }
            let newest = end.feeds.remove(name).and_then(|end| end.newest);
            if let Some((report, line)) = newest {
                self.go_on_after(feed, &report);
                self.newest.push(line);
            }
        }
        let is_other = |feed: &&str| config.roster.feed(feed).is_none();
        for feed in end.verifier.feeds().filter(is_other) {
            let before = end.verifier.aggregator(feed);
            if let (Some(key), Some(old), Some(head)) = (key, &retired, end.verifier.head(feed))
                && before == Some(old.public())
                && before != Some(key.public())
            {
                changes.push(hand_over(feed, old, key, head).line());
            }
        }
        Ok(changes)
    }

    fn go_on_after(&mut self, feed: usize, report: &Report) {
        let chain = &mut self.chains[feed];
        chain.number = report.number;
        chain.last = report.published();
        self.last_start_us = self.last_start_us.max(report.round.start_us);
    }

    /// Writes the newest reports beside the journal, and the newest published ones to the files of `--latest`, unless they are
    /// there already. The disk may take its time with the former, and with the latter if they are several that the journal holds
    /// too: after a power failure they may be older than the journal's end, until the next start. The error is the first one.
    pub(crate) fn write_newest(&mut self, config: &Run) -> Result<(), Error> {
        let mut written = Ok(());
        let newest = std::mem::take(&mut self.newest);
        if let (Some(journal), [_, ..]) = (&config.journal, newest.as_slice()) {
            let lines = newest.iter();
            let text: String = lines.flat_map(|line| [line.as_str(), "\n"]).collect();
            written = file::replace_soon(&newest_path(journal), &text);
        }
        let replace = match (&config.journal, self.chains.len()) {
            (Some(_), 2..) => file::replace_soon,
            _ => file::replace,
        };
        for chain in &mut self.chains {
            if let (Some(path), Some(line)) = (&chain.latest, &chain.unwritten) {
                let replaced = replace(path, &format!("{line}\n"));
                if replaced.is_ok() {
                    chain.unwritten = None;
                }
                written = written.and(replaced);
            }
        }
        written
    }

    /// Writes the proofs of equivocation in reports to a file beside the journal, and returns its name if there were any. Each
    /// collector is proved once per run: more proofs would add nothing, and a liar could fill the disk with them. An error loses
    /// the proof, not the reports.
    pub(crate) fn keep_proofs(
        &mut self,
        config: &Run,
        reports: &[(Report, String)],
    ) -> Result<Option<String>, Error> {
        let Some(journal) = &config.journal else {
            return Ok(None);
        };
        let proofs = reports.iter().flat_map(|(report, _)| proofs_in(report));
        let new = proofs.filter(|proof| self.proved.insert(*proof.key.bytes()));
        let lines: Vec<String> = new.map(|proof| proof.line()).collect();
        if lines.is_empty() {
            return Ok(None);
        }
        let path = format!("{journal}.proofs");
        let (mut file, (), _) = Journal::open(&path, &|(), _| Ok(()), &|(), _| Ok(true))?;
        file.append(&lines)?;
        Ok(Some(path))
    }

    /// Makes and signs the reports of the rounds of one start, feed by feed, and appends them to the journal if there is one. What
    /// was refused is in the first. Returns each report, and the same as one line of JSON without the newline. Without `journals`, it is as if the rounds had never been.
    pub fn keep(
        &mut self,
        config: &Run,
        key: &SecretKey,
        rounds: Vec<Round>,
        mut refused: Refused,
        journals: bool,
    ) -> Result<Vec<(Report, String)>, Error> {
        let before_us = self.last_start_us;
        // Even if the reports cannot be written, no other round may have this start.
        self.last_start_us = rounds[0].start_us;
        let mut reports = Vec::new();
        for (round, chain) in rounds.into_iter().zip(&self.chains) {
            let (number, refused) = (chain.number + 1, std::mem::take(&mut refused));
            let (aggregator, policy) = (key.public(), config.policy);
            let mut report = Report::new(number, aggregator, round, refused, policy, chain.last);
            report.previous = chain.previous;
            report.ephemeral = self.ephemeral;
            report.signature = key.sign(&report.signed_bytes());
            let line = report.line();
            reports.push((report, line));
        }
        if !journals {
            self.last_start_us = before_us;
            return Ok(reports);
        }
        let lines: Vec<&String> = reports.iter().map(|(_, line)| line).collect();
        if let Some(journal) = &mut self.journal {
            journal.append(&lines)?;
        }
        for (feed, (report, line)) in reports.iter().enumerate() {
            self.go_on_after(feed, report);
            let chain = &mut self.chains[feed];
            chain.previous = Some(report.signature);
            if report.decision.publishes() {
                chain.unwritten = Some(line.clone());
            }
        }
        self.newest = lines.into_iter().cloned().collect();
        Ok(reports)
    }
}

/// What the operator should know about the journal: a limit on its size, and that nothing shows whether it has lost its end.
pub(crate) fn warnings(bytes: u64, newest: &str) -> Vec<Remark> {
    let limited = file::soft_limit("Max file size").map(|most| {
        format!(
            "a file of this process may have {most} bytes (ulimit -f, or LimitFSIZE= of a unit), and the journal has {bytes}; a report that does not fit is not published"
        )
    });
    let unknown = resume::held(newest).is_empty() && Path::new(newest).exists();
    let unknown = unknown.then(|| {
        format!("{newest} holds no valid report, so it is unknown whether the journal has lost its end; writing that file anew")
    });
    let lines = limited.into_iter().chain(unknown);
    lines.map(Remark::Warning).collect()
}

/// The proofs in a report that collectors lied.
pub fn proofs_in(report: &Report) -> Vec<Proof> {
    let terms = &report.round.terms;
    let parts = report.round.parts.iter().enumerate();
    let proof = |(slot, part): (usize, &Part)| {
        Some(Proof {
            key: terms.seats[slot].key?,
            terms_digest: report.round.digest,
            slot: slot as u16,
            start_us: report.round.start_us,
            answers: [part.signed_answer()?, part.equivocated?],
        })
    };
    parts.filter_map(proof).collect()
}

/// The record by which one aggregator key hands over to another in a feed's chain; both sign it. `previous` is the signature of
/// the record before it.
pub fn hand_over(feed: &str, old: &SecretKey, new: &SecretKey, previous: [u8; 64]) -> KeyChange {
    let mut change = KeyChange {
        feed: feed.to_owned(),
        old: old.public(),
        new: new.public(),
        previous,
        signatures: [[0; 64]; 2],
    };
    let bytes = change.signed_bytes();
    change.signatures = [old.sign(&bytes), new.sign(&bytes)];
    change
}
