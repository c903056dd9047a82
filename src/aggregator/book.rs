//! A run's position in its journal: the next report's number, the last published price, and the journal itself.
//!
//! Invariant: a report is on the disk before its price is published; if it cannot be written, it is not published. Numbers
//! and starts strictly increase, also across restarts.

use crate::aggregator::journal::Journal;
use crate::aggregator::resume::{self, End, newest_path};
use crate::aggregator::settings::Run;
use crate::keys::file as keyfile;
use crate::keys::secret::SecretKey;
use crate::system::file;
use crate::system::stream;
use rsoracle_proof::publish::PublishedPrice;
use rsoracle_proof::report::{KeyChange, Proof, Refused, Report};
use rsoracle_proof::round::{Part, Round};
use rsoracle_proof::seal::PublicKey;
use rsoracle_verify::error::Error;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A start that has verified this many signatures (about half a second of work) without finding all it needs says so.
const SIGNATURES_SILENT: u64 = 10_000;

/// What is carried over from one round to the next.
#[derive(Default)]
pub struct Book {
    journal: Option<Journal>,
    number: u64,
    previous: Option<[u8; 64]>,
    last: Option<PublishedPrice>,
    /// Start of the last round; the next round must start later.
    last_start_us: u64,
    ephemeral: bool,
    /// The line of the newest published report, until it has been written to the file of `--latest`.
    unwritten: Option<String>,
    /// The line of the newest report, until it has been written beside the journal.
    newest: Option<String>,
    /// Keys of the collectors whose equivocation was already proved in this run.
    proved: BTreeSet<[u8; 32]>,
}

/// A line about the journal or the keys for the operator.
pub enum Remark {
    /// Shown even with `--quiet`.
    Warning(String),
    /// Not shown with `--quiet`.
    Progress(String),
}

/// The file of the aggregator's key: the file of `--aggregator-key`, or else a file beside the journal. `None`: the key is
/// fresh, and kept nowhere.
pub(crate) fn key_path(config: &Run) -> Option<String> {
    let beside = config
        .journal
        .as_ref()
        .map(|journal| format!("{journal}.key"));
    config.aggregator_key.clone().or(beside)
}

/// The key that signs reports, and whether its file was made just now.
pub fn key(config: &Run) -> Result<(SecretKey, bool), Error> {
    let Some(path) = key_path(config) else {
        return Ok((keyfile::unsaved()?, false));
    };
    if let Some(journal) = &config.journal
        && std::fs::metadata(journal).is_ok_and(|there| !there.is_file())
    {
        let attempt = format!("cannot open the journal {journal}");
        let advice = "name a file with --journal";
        return Err(Error::new(attempt, "it is not a regular file").advise(advice));
    }
    let missing = keyfile::is_missing(&path);
    let made = config.aggregator_key.is_none() && missing;
    if made {
        // The journal has reports already, and a new key could not continue it.
        if let Some(journal) = &config.journal
            && std::fs::metadata(journal).is_ok_and(|there| there.len() > 0)
        {
            let attempt = format!("cannot continue the journal {journal}");
            let cause = format!("the key that signed its reports, {path}, is missing");
            let advice = "restore that file, name the key's file with --aggregator-key, or begin another journal";
            return Err(Error::new(attempt, cause).advise(advice));
        }
        crate::keys::create(&path)?;
    }
    Ok((keyfile::read(&path)?, made))
}

/// Refuses a file of `--latest` or `--write-roster`, which are overwritten, that is also a file that must be kept. Compares
/// the files themselves, not their names.
fn check_apart(config: &Run) -> Result<(), Error> {
    let identity = |path: &str| {
        let there = std::fs::metadata(path).ok()?;
        Some((there.dev(), there.ino()))
    };
    let beside = |ending: &str| {
        config
            .journal
            .as_ref()
            .map(|path| format!("{path}.{ending}"))
    };
    let kept = [
        ("journal", config.journal.clone()),
        ("aggregator's key", key_path(config)),
        ("retired key", config.retire_key.clone()),
        ("file of certificates", config.ca_file().cloned()),
        ("file of proofs", beside("proofs")),
        ("file of the journal's torn lines", beside("torn")),
        ("file of the newest report", beside("newest")),
    ];
    if config.latest.is_some() && config.latest == config.write_roster {
        let attempt = "cannot write the newest report and the roster to one file";
        return Err(Error::new(
            attempt,
            "--latest and --write-roster name the same file",
        ));
    }
    let replaced = [
        ("latest", &config.latest),
        ("write-roster", &config.write_roster),
    ];
    for (flag, path) in replaced {
        let Some(path) = path else { continue };
        for (what, other) in &kept {
            let same = |other: &String| {
                path == other || identity(path).is_some_and(|found| identity(other) == Some(found))
            };
            if other.as_ref().is_some_and(same) {
                let attempt = format!("cannot replace {path}");
                return Err(Error::new(attempt, format!("it is the {what}"))
                    .advise(format!("name another file with --{flag}")));
            }
        }
    }
    Ok(())
}

impl Book {
    /// Opens the journal, if there is one, and checks its end. Returns lines for the operator, too.
    pub fn open(config: &Run, key: &SecretKey) -> Result<(Book, Vec<Remark>), Error> {
        let mut book = Book {
            number: 1,
            ephemeral: key_path(config).is_none(),
            ..Book::default()
        };
        let Some(path) = &config.journal else {
            let mut latest = config.latest.iter();
            latest.try_for_each(|path| file::make_replaceable(path))?;
            check_apart(config)?;
            return Ok((book, Vec::new()));
        };
        let beside = newest_path(path);
        let enough = |end: &End, whole: bool| {
            let enough = end.suffices(config, key.public(), whole)?;
            if !enough && end.verifier.signatures > SIGNATURES_SILENT {
                let line = "still reading the journal backwards, for its newest published report";
                stream::say("aggregator", line);
            }
            Ok(enough)
        };
        let (mut journal, end, torn) = Journal::open(path, &End::take, &enough)?;
        // Under the journal's lock, so that no file of another run is taken for one that was left behind.
        let mut replaced = config.latest.iter().chain([&beside]);
        replaced.try_for_each(|path| file::make_replaceable(path))?;
        check_apart(config)?;
        let mut lines = warnings(&journal, &beside);
        if torn > 0 {
            lines.push(Remark::Warning(format!(
                "the journal ended in the middle of a line, because a write was interrupted; moved its last {torn} bytes to {path}.torn"
            )));
        }
        let feed = &config.roster.feeds[0].feed;
        book.previous = end.verifier.head(feed);
        let before = end.verifier.aggregator(feed);
        if let (Some(before), Some(head)) = (
            before.filter(|before| *before != key.public()),
            book.previous,
        ) {
            let change = change_of_keys(config, path, before, head, key)?;
            journal.append(&change.line())?;
            book.previous = Some(change.signature());
            lines.push(Remark::Warning(
                "the journal continues with another aggregator key; the old key and the new one signed the change"
                    .to_owned(),
            ));
        }
        book.unwritten = end.unwritten(config);
        if let Some((report, line)) = end.newest {
            book.go_on_after(&report);
            book.newest = Some(line);
        }
        lines.push(Remark::Progress(match book.number {
            1 => format!("journal {path}: new"),
            next => format!("journal {path}: continues at report {next}"),
        }));
        book.journal = Some(journal);
        let written = book.write_newest(config);
        lines.extend(
            written
                .err()
                .map(|error| Remark::Warning(error.to_string())),
        );
        Ok((book, lines))
    }

    /// Whether the journal was lost for good.
    pub(crate) fn journal_lost(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.lost)
    }

    /// The earliest start that the next round may have.
    pub(crate) fn start_us_min(&self) -> u64 {
        self.last_start_us + 1
    }

    fn go_on_after(&mut self, report: &Report) {
        self.number = report.number + 1;
        self.last = report.published();
        self.last_start_us = report.round.start_us;
    }

    /// Writes the newest report beside the journal, and the newest published one to the file of `--latest`, unless they are
    /// there already. The disk may take its time with the former: after a power failure it may be older than the journal's end.
    pub(crate) fn write_newest(&mut self, config: &Run) -> Result<(), Error> {
        let mut beside = Ok(());
        if let (Some(journal), Some(line)) = (&config.journal, self.newest.take()) {
            beside = file::replace_soon(&newest_path(journal), &format!("{line}\n"));
        }
        if let (Some(path), Some(line)) = (&config.latest, &self.unwritten) {
            file::replace(path, &format!("{line}\n"))?;
            self.unwritten = None;
        }
        beside
    }

    /// Writes the proofs of equivocation in a report to a file beside the journal, and returns its name if there were any. Each
    /// collector is proved once per run: more proofs would add nothing, and a liar could fill the disk with them.
    fn keep_proofs(&mut self, config: &Run, report: &Report) -> Result<Option<String>, Error> {
        let Some(journal) = &config.journal else {
            return Ok(None);
        };
        let mut proofs = proofs_in(report);
        proofs.retain(|proof| self.proved.insert(*proof.key.bytes()));
        if proofs.is_empty() {
            return Ok(None);
        }
        let path = format!("{journal}.proofs");
        let (mut file, (), _) = Journal::open(&path, &|(), _| Ok(()), &|(), _| Ok(true))?;
        for proof in proofs {
            file.append(&proof.line())?;
        }
        Ok(Some(path))
    }

    /// Makes and signs the report of a round, and appends it to the journal if there is one.
    pub fn keep(
        &mut self,
        config: &Run,
        key: &SecretKey,
        round: Round,
        refused: Refused,
    ) -> Result<Kept, Error> {
        // Even if the report cannot be written, no other round may have this start.
        self.last_start_us = round.start_us;
        let (number, policy) = (self.number, config.policy);
        let mut report = Report::new(number, key.public(), round, refused, policy, self.last);
        report.previous = self.previous;
        report.ephemeral = self.ephemeral;
        report.sign(key);
        let line = report.line();
        if let Some(journal) = &mut self.journal {
            journal.append(&line)?;
        }
        self.go_on_after(&report);
        self.previous = Some(report.signature);
        self.newest = Some(line.clone());
        if report.decision.publishes() {
            self.unwritten = Some(line.clone());
        }
        let proofs = self.keep_proofs(config, &report);
        Ok(Kept {
            report,
            line,
            proofs,
        })
    }
}

/// A signed report. If there is a journal, it is on the disk.
pub struct Kept {
    /// The report.
    pub report: Report,
    /// The report as one line of JSON, without the newline.
    pub line: String,
    /// The file to which proofs of equivocation were written, if there were any. An error here loses the proof, not the report.
    pub proofs: Result<Option<String>, Error>,
}

/// What the operator should know about the journal: a limit on its size, and that nothing shows whether it has lost its end.
fn warnings(journal: &Journal, newest: &str) -> Vec<Remark> {
    let limited = file::soft_limit("Max file size").map(|most| {
        format!(
            "a file of this process may have {most} bytes (ulimit -f, or LimitFSIZE= of a unit), and the journal has {}; a report that does not fit is not published",
            journal.bytes
        )
    });
    let unknown = resume::held(newest).is_none() && Path::new(newest).exists();
    let unknown = unknown.then(|| {
        format!("{newest} holds no valid report, so it is unknown whether the journal has lost its end; writing that file anew")
    });
    let lines = limited.into_iter().chain(unknown);
    lines.map(Remark::Warning).collect()
}

/// The record by which the journal's old key (`--retire-key`) hands over to this run's key.
fn change_of_keys(
    config: &Run,
    journal: &str,
    before: PublicKey,
    head: [u8; 64],
    key: &SecretKey,
) -> Result<KeyChange, Error> {
    let attempt = format!("cannot continue the journal {journal}");
    let refused = |cause: &str| {
        let advice = "name the key that signed it with --aggregator-key, hand over from it with --retire-key FILE, or begin another journal";
        Error::new(&attempt, cause).advise(advice)
    };
    let Some(path) = &config.retire_key else {
        return Err(refused("it is signed with another aggregator key"));
    };
    let old = keyfile::read(path)?;
    if old.public() != before {
        return Err(refused(
            "the key of --retire-key did not sign its last report",
        ));
    }
    Ok(hand_over(&config.roster.feeds[0].feed, &old, key, head))
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
