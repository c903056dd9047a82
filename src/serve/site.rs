//! What is served: the journal, the files that are passed on as they are, and what this process counts of itself.

use super::answer::{Answer, Body, NEVER};
use super::journal::Journal;
use super::page::Page;
use super::problem::Problem;
use super::ready::readiness;
use crate::serve::limits::PASSED_FILE_BYTES_MAX;
use crate::system::file::SECRET_BEGINS;
use rsoracle_proof::roster::RosterFile;
use rsoracle_verify::error::Error;
use rsoracle_verify::files;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;

/// What stands before the roster.
const ROSTER_NOTE: &str = "# This roster comes from the server that the reports come from. It proves nothing: compare its digest\n\
# ('rsoracle roster show') with that of a roster that you have from the operator over a channel that you trust.\n";
/// The same in the head of the answer.
const NOTE: &str = "proves nothing; hold reports against your own copy of the roster";

/// How long a text that is made from the whole journal is kept at least, in microseconds.
pub(super) const KEPT_US: u64 = 1_000_000;

/// What this process counts of itself.
#[derive(Default)]
pub(super) struct Counts {
    /// Answers, by status.
    pub(super) answers: BTreeMap<u16, u64>,
    /// Connections that were refused, by the name of the problem.
    pub(super) refused: BTreeMap<&'static str, u64>,
    /// Streams that were ended here, by the name of the reason.
    pub(super) ended: BTreeMap<&'static str, u64>,
    /// Connections, streams of events and websockets at present.
    pub(super) open: [usize; 3],
}

/// Everything that answers are made of.
pub(super) struct Site {
    pub(super) journal: Journal,
    pub(super) page: Page,
    /// Whether metrics have a listener of their own.
    pub(super) metrics_apart: bool,
    pub(super) counts: Counts,
    /// The address of this process's beginning, in microseconds since the Unix epoch.
    pub(super) began_us: u64,
    /// Bytes on their way to the system, for all connections.
    pub(super) scratch: Vec<u8>,
    roster: Option<Passed>,
    proofs: Passed,
    /// The metrics of the reports.
    pub(super) metrics: Kept,
    /// Whether all feeds are ready, and what `/ready` says.
    readiness: (bool, Kept),
    /// Whether a process has the journal's lock, and when that was looked at, in microseconds since the Unix epoch.
    writer: (Option<bool>, u64),
}

/// A text that is made from the whole journal, and kept so that making it cannot be asked for often.
pub(super) struct Kept {
    pub(super) text: Rc<[u8]>,
    /// When it was made, in microseconds since the Unix epoch.
    made_us: u64,
    /// The version of the journal that it was made from.
    pub(super) version: Option<u64>,
}

impl Kept {
    fn new() -> Kept {
        Kept {
            text: Rc::new([]),
            made_us: 0,
            version: None,
        }
    }

    /// Whether it may be made anew.
    pub(super) fn is_old(&self, now_us: u64) -> bool {
        self.version.is_none() || now_us.abs_diff(self.made_us) >= KEPT_US
    }

    pub(super) fn keep(&mut self, text: String, version: u64, now_us: u64) {
        self.text = text.into_bytes().into();
        (self.made_us, self.version) = (now_us, Some(version));
    }
}

/// A file that is passed on, read again when it has changed.
struct Passed {
    path: String,
    /// What it must be.
    kind: Kind,
    /// Inode, size, and time of the last change.
    seen: (u64, u64, i64, i64),
    /// What is passed on; `None` if the file is not what it must be.
    bytes: Option<Rc<[u8]>>,
    /// Whether it was said that it cannot be passed on.
    told: bool,
}

/// What a file that is passed on must be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A roster.
    Roster,
    /// Lines, of which only whole ones are passed on: the last one may still be being written.
    Lines,
}

/// Checks that the bytes of a file are a roster, so that no other file, least of all a secret key, is passed on as one. The error
/// repeats nothing of a secret key.
pub(super) fn check_roster(path: &str, bytes: &[u8]) -> Result<(), Error> {
    let attempt = format!("cannot serve {path} as the roster");
    let secret = SECRET_BEGINS.as_bytes();
    if bytes.windows(secret.len()).any(|begin| begin == secret) {
        let advice = "--roster names the file of a roster, which has public keys only";
        return Err(Error::new(attempt, "it is a secret key").advise(advice));
    }
    let advice = "'rsoracle roster check FILE' examines one";
    let wrong = match str::from_utf8(bytes) {
        Ok(text) => RosterFile::parse(text).err().map(|wrong| wrong.to_string()),
        Err(_) => Some("it is not text".to_owned()),
    };
    wrong.map_or(Ok(()), |wrong| {
        let why = format!("it is not a roster: {wrong}");
        Err(Error::new(attempt, why).advise(advice))
    })
}

impl Passed {
    fn new(path: String, kind: Kind) -> Passed {
        Passed {
            path,
            kind,
            seen: (0, 0, 0, 0),
            bytes: None,
            told: false,
        }
    }

    /// Its content, after `note`; None if it does not exist.
    fn bytes(&mut self, note: &str) -> Result<Option<Rc<[u8]>>, Problem> {
        let Ok(now) = std::fs::metadata(&self.path) else {
            return Ok(None);
        };
        let attempt = format!("cannot read {}", self.path);
        // To open a pipe may take for ever.
        if !now.is_file() {
            return Err(self.refuse(Error::new(attempt, "it is not a regular file")));
        }
        let now = (now.ino(), now.len(), now.mtime(), now.mtime_nsec());
        if now != self.seen {
            let read = files::read(&self.path, PASSED_FILE_BYTES_MAX, &attempt);
            let bytes = read.map_err(|error| self.refuse(error))?;
            self.seen = now;
            self.bytes = None;
            if self.kind == Kind::Roster {
                check_roster(&self.path, &bytes).map_err(|error| self.refuse(error))?;
            }
            let end = bytes.iter().rposition(|byte| *byte == b'\n');
            let whole = match self.kind {
                Kind::Roster => bytes.len(),
                Kind::Lines => end.map_or(0, |end| end + 1),
            };
            self.bytes = Some([note.as_bytes(), &bytes[..whole]].concat().into());
            self.told = false;
        }
        match &self.bytes {
            Some(bytes) => Ok(Some(bytes.clone())),
            None => Err(unreadable()),
        }
    }

    /// Says once why the file is not passed on.
    fn refuse(&mut self, error: Error) -> Problem {
        if !std::mem::replace(&mut self.told, true) {
            crate::system::stream::say("serve", error);
        }
        unreadable()
    }
}

fn unreadable() -> Problem {
    let sentence =
        "a file that is served cannot be read, or is not what it should be; the log says more"
            .to_owned();
    Problem::new(500, "unreadable", sentence)
}

impl Site {
    /// What is served from a journal, and a roster's file if there is one.
    pub(super) fn new(
        journal: &str,
        roster: Option<&str>,
        metrics_apart: bool,
        now_us: u64,
    ) -> Site {
        Site {
            journal: Journal::new(journal),
            page: Page::new(),
            metrics_apart,
            counts: Counts::default(),
            began_us: now_us,
            scratch: Vec::new(),
            roster: roster.map(|path| Passed::new(path.to_owned(), Kind::Roster)),
            proofs: Passed::new(format!("{journal}.proofs"), Kind::Lines),
            metrics: Kept::new(),
            readiness: (false, Kept::new()),
            writer: (None, 0),
        }
    }

    /// Whether all feeds are ready, and what `/ready` says: looked at anew at most once a second.
    pub(super) fn readiness(&mut self, now_us: u64) -> (bool, Rc<[u8]>) {
        let (ready, kept) = &mut self.readiness;
        if kept.is_old(now_us) {
            let found = readiness(&self.journal, now_us);
            *ready = found.ready;
            kept.keep(found.json(), self.journal.version, now_us);
        }
        (*ready, kept.text.clone())
    }

    /// Whether a process on this machine has the lock of the journal, as its aggregator has: looked at anew at most once a
    /// second. None if the system does not tell.
    pub(super) fn has_writer(&mut self, now_us: u64) -> Option<bool> {
        let (has_writer, looked_us) = &mut self.writer;
        if now_us.abs_diff(*looked_us) >= KEPT_US {
            *looked_us = now_us;
            *has_writer = is_locked(self.journal.inode());
        }
        *has_writer
    }

    /// The roster, with a note that it proves nothing.
    pub(super) fn roster(&mut self) -> Result<Answer, Problem> {
        let roster = self.roster.as_mut().ok_or(Problem::NO_ROSTER)?;
        let bytes = roster.bytes(ROSTER_NOTE)?.ok_or(Problem::NO_ROSTER)?;
        let mut answer = passed(bytes, "application/toml");
        answer.field("Rsoracle-Note", NOTE);
        answer.field("Access-Control-Expose-Headers", "Rsoracle-Note");
        Ok(answer)
    }

    /// The proofs that collectors lied, one a line; none if nobody did.
    pub(super) fn proofs(&mut self) -> Result<Answer, Problem> {
        let bytes = self.proofs.bytes("")?.unwrap_or_default();
        Ok(passed(bytes, "application/x-ndjson"))
    }
}

/// Whether a process on this machine has an exclusive lock on a file with this inode, by proc_locks(5). None if there is no
/// such list. Devices are not compared: some file systems have another number there than in stat(2).
fn is_locked(inode: Option<u64>) -> Option<bool> {
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let is_it = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let kind = [fields.next(), fields.next(), fields.next()];
        let file = fields.nth(1).and_then(|file| file.rsplit(':').next());
        let number = file.and_then(|number| number.parse().ok());
        kind == [Some("FLOCK"), Some("ADVISORY"), Some("WRITE")]
            && number.is_some()
            && number == inode
    };
    Some(locks.lines().any(is_it))
}

fn passed(bytes: Rc<[u8]>, kind: &str) -> Answer {
    let mut answer = Answer::new(200);
    answer.field("Content-Type", kind);
    answer.field("Cache-Control", NEVER);
    answer.body = Body::Bytes(bytes);
    answer
}
