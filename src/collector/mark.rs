//! The mark of a key that outlives its process: up to which start of which terms the key may have signed, in a file.
//!
//! The file is text: a line with the key, a line for each terms digest with a time, and a line `end`. If a round starts later
//! than the mark of one of its feeds, the marks of all of them are moved to [`MARK_AHEAD_US`] after that start, and reach the
//! disk, in one file, before the round begins. After a restart only starts later than all of them are signed, so that no start
//! is signed twice.
//!
//! Invariant: a file that is not whole, or is another key's, is never replaced.

use crate::collector::limits::{LOCK_MS_MAX, MARK_AHEAD_US, MARK_TERMS_MAX};
use crate::system::file;
use rsoracle_proof::seal::{PublicKey, hex, unhex};
use rsoracle_proof::utc::{utc_text, utc_us};
use rsoracle_verify::error::Error;
use rsoracle_verify::files;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

/// The beginning of the first line; the number is the version of the format. The key follows.
const HEAD: &str = "rsoracle mark 1 ";
/// The last line, so that a file that was cut is recognised.
const END: &str = "end";
/// Largest file, in bytes.
const BYTES_MAX: u64 = 128 * (MARK_TERMS_MAX as u64 + 2);

/// A key's mark.
pub(super) struct Mark {
    path: String,
    key: PublicKey,
    /// Terms digests, each with the latest start that may have been signed under it, the newest last.
    marks: Vec<([u8; 32], u64)>,
    /// A file beside the mark, locked for as long as this process lives: a copy of the key file has another lock.
    _lock: File,
}

impl Mark {
    /// Locks and reads the mark: from `path`, or none if there is no such file. The file for the lock is made if it is missing, so
    /// that a place that cannot be written to is known at the start; a full disk costs rounds only.
    pub(super) fn open(path: String, key: PublicKey) -> Result<Mark, Error> {
        file::make_replaceable(&path)?;
        let (beside, mut options) = (format!("{path}.lock"), OpenOptions::new());
        options.write(true).create(true).mode(file::MODE);
        let lock = lock(options.open(&beside), &format!("the mark by {beside}"))?;
        let attempt = format!("cannot read the mark {path}");
        let advice = "it says up to when this key has signed; restore the file or, if nothing was signed with this key in the last minute, remove it; with a new key ('rsoracle keygen') it is not needed";
        let marks = match std::fs::symlink_metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            _ => {
                let bytes = files::read(&path, BYTES_MAX, &attempt);
                let text = files::text(bytes.map_err(|error| error.advise(advice))?);
                let marks = text.map_err(str::to_owned);
                let marks = marks.and_then(|text| parse(&text, &key));
                marks.map_err(|why| Error::new(&attempt, why).advise(advice))?
            }
        };
        Ok(Mark {
            path,
            key,
            marks,
            _lock: lock,
        })
    }

    /// The latest start under any of these terms that may have been signed, microseconds since the Unix epoch.
    pub(super) fn of(&self, digests: &[[u8; 32]]) -> u64 {
        let marks = digests.iter().map(|digest| self.mark(digest));
        marks.max().unwrap_or(0)
    }

    fn mark(&self, digest: &[u8; 32]) -> u64 {
        let own = |(other, us): &([u8; 32], u64)| (other == digest).then_some(*us);
        self.marks.iter().rev().find_map(own).unwrap_or(0)
    }

    /// Moves the marks of all these terms, unless they cover this start already. After an error the start must not be signed.
    pub(super) fn cover(&mut self, digests: &[[u8; 32]], start_us: u64) -> Result<(), Error> {
        if digests.iter().all(|digest| start_us <= self.mark(digest)) {
            return Ok(());
        }
        let mut marks = self.marks.clone();
        marks.retain(|(other, _)| !digests.contains(other));
        // The text of a time has whole milliseconds.
        let mark_us = (start_us + MARK_AHEAD_US).next_multiple_of(1_000);
        marks.extend(digests.iter().map(|digest| (*digest, mark_us)));
        let surplus = marks.len().saturating_sub(MARK_TERMS_MAX);
        marks.drain(..surplus);
        file::replace(&self.path, &render(&self.key, &marks))?;
        self.marks = marks;
        Ok(())
    }
}

/// Keeps every other process with this key file out, while the result lives.
pub(super) fn lock_key(path: &str) -> Result<File, Error> {
    lock(File::open(path), &format!("the key file {path}"))
}

/// Locks a file. A predecessor that was killed may need a moment to let go of it.
fn lock(file: io::Result<File>, what: &str) -> Result<File, Error> {
    let attempt = format!("cannot lock {what}");
    let file = file.map_err(|error| Error::new(&attempt, error))?;
    let until = Instant::now() + Duration::from_millis(LOCK_MS_MAX);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(LOCK_MS_MAX / 50));
            }
            Err(TryLockError::WouldBlock) => {
                let cause = "another process signs with this key";
                return Err(Error::new(attempt, cause).advise("end it first, or use another key"));
            }
            Err(TryLockError::Error(error)) => return Err(Error::new(attempt, error)),
        }
    }
}

fn render(key: &PublicKey, marks: &[([u8; 32], u64)]) -> String {
    let mut text = format!("{HEAD}{}\n", hex(key.bytes()));
    for (digest, us) in marks {
        text += &format!("{} {}\n", hex(digest), utc_text(*us));
    }
    text + END + "\n"
}

/// Parses exactly what [`render`] writes.
fn parse(text: &str, key: &PublicKey) -> Result<Vec<([u8; 32], u64)>, String> {
    let own = hex(key.bytes());
    let Some(theirs) = text.lines().next().and_then(|line| line.strip_prefix(HEAD)) else {
        return Err("it is not a mark".to_owned());
    };
    if theirs != own {
        return Err(format!("it is of another key, {theirs}; this key is {own}"));
    }
    let line = |line: &str| {
        let (digest, time) = line.split_once(' ')?;
        Some((unhex(digest)?, utc_us(time)?))
    };
    let lines = text.lines().skip(1).take_while(|line| *line != END);
    let marks: Option<Vec<([u8; 32], u64)>> = lines.map(line).collect();
    let whole = marks.filter(|marks| render(key, marks) == text);
    whole.ok_or_else(|| "it is cut or was changed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::secret::SecretKey;

    fn key(seed: u8) -> PublicKey {
        SecretKey::from_seed(&mut [seed; 32]).public()
    }

    #[test]
    fn a_mark_round_trips_and_anything_else_is_refused() {
        let marks = vec![([3; 32], 1_790_000_000_007_000), ([4; 32], 0)];
        let text = render(&key(1), &marks);
        assert_eq!(parse(&text, &key(1)).as_ref(), Ok(&marks));
        assert_eq!(parse(&render(&key(1), &[]), &key(1)), Ok(Vec::new()));
        let foreign = parse(&text, &key(2)).unwrap_err();
        assert!(foreign.contains("another key"), "{foreign}");
        for cut in 0..text.len() {
            assert!(parse(&text[..cut], &key(1)).is_err(), "{cut}");
        }
        for other in [format!("{text}\n"), text.replace("0303", "03"), "x".into()] {
            assert!(parse(&other, &key(1)).is_err(), "{other}");
        }
    }

    #[test]
    fn a_mark_reaches_the_disk_before_its_start_and_keeps_others_out() {
        let folder = std::env::temp_dir().join(format!("rsoracle-mark-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let place = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        std::fs::write(place("key"), "").unwrap();
        let held = lock_key(&place("key")).unwrap();
        let second = lock_key(&place("key")).err().unwrap().to_string();
        let says = format!(
            "cannot lock the key file {}: another process signs",
            place("key")
        );
        assert!(second.contains(&says), "{second}");
        drop(held);
        lock_key(&place("key")).unwrap();
        let open = || Mark::open(place("key.mark"), key(1));
        let mut mark = open().unwrap();
        // Whatever copy of the key file the second process has.
        let second = open().err().unwrap().to_string();
        assert!(second.contains("another process"), "{second}");
        let both = [[3; 32], [4; 32]];
        assert_eq!(mark.of(&both), 0);
        mark.cover(&both[..1], 1_000_000).unwrap();
        let first_us = 1_000_000 + MARK_AHEAD_US;
        assert_eq!(mark.of(&both[..1]), first_us);
        drop(mark);
        let mut mark = open().unwrap();
        // A second feed: nothing is signed that the first may have.
        assert_eq!((mark.of(&both), mark.of(&both[1..])), (first_us, 0));
        mark.cover(&both, 2_000_000).unwrap();
        mark.cover(&[[5; 32]], 1).unwrap();
        drop(mark);
        let mut mark = open().unwrap();
        for digest in both {
            assert_eq!(mark.of(&[digest]), 2_000_000 + MARK_AHEAD_US);
        }
        // What lies under the mark needs no file any more.
        std::fs::remove_dir_all(&folder).unwrap();
        mark.cover(&both, 3_000_000).unwrap();
        assert!(mark.cover(&[both[0], [6; 32]], 3_000_000).is_err());
        assert_eq!(mark.of(&[[6; 32]]), 0, "a mark that was not written");
        assert!(open().is_err(), "no folder");
    }
}
