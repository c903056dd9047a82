//! Finds out where an aggregator would go on, and what would prevent its start (`rsoracle aggregate --check`).
//!
//! Invariant: no file is made or changed, and no port is opened.

use crate::aggregator::book::{A_DIRECTORY, Book, Remark, check_apart, key_file, warnings};
use crate::aggregator::journal::{check_newest, read_end};
use crate::aggregator::resume::{Beside, End, newest_path, others_path};
use crate::aggregator::settings::Run;
use crate::aggregator::setup::{check_open_files, check_schedule};
use crate::keys::file as keyfile;
use crate::system::{directory, file};
use rsoracle_proof::seal::PublicKey;
use rsoracle_verify::error::Error;
use rsoracle_verify::segments::{Segments, closed};
use std::fs::{File, TryLockError};
use std::path::Path;

/// What an aggregator would start with.
pub struct Outlook {
    /// The file of its key, and the key; no key if a start makes it. `None`: a new key at each start, which is kept nowhere.
    pub key: Option<(String, Option<PublicKey>)>,
    /// Where its journal goes on, in words; `None` without a journal.
    pub journal: Option<String>,
    /// The files that always hold the newest published reports.
    pub latest: Vec<String>,
    /// What a start would say besides.
    pub remarks: Vec<String>,
}

impl Outlook {
    /// Looks at all that a start needs. The error is the one that a start would give.
    pub fn of(config: &Run) -> Result<Outlook, Error> {
        check_schedule(config)?;
        check_open_files(config)?;
        let key_file = key_file(config)?;
        let make = key_file.as_ref().is_some_and(|(_, make)| *make);
        let key = key_file.as_ref().filter(|_| !make);
        let key = key.map(|(path, _)| keyfile::read(path)).transpose()?;
        let latest: Vec<String> = config.latest_files().into_iter().flatten().collect();
        if let [first, _, ..] = latest.as_slice() {
            directory::check_for(first).map_err(|error| error.advise(A_DIRECTORY))?;
        }
        let directory = |path: &String| Path::new(path).parent().is_some_and(Path::is_dir);
        // A start makes the directory of several files.
        for path in latest
            .iter()
            .filter(|path| latest.len() == 1 || directory(path))
        {
            file::check_replaceable(path)?;
        }
        check_apart(config)?;
        let mut outlook = Outlook {
            key: key_file.map(|(path, _)| (path, key.as_ref().map(|key| key.public()))),
            journal: None,
            latest,
            remarks: Vec::new(),
        };
        let Some(path) = &config.journal else {
            return Ok(outlook);
        };
        if let Err(error) = std::fs::metadata(file::folder_of(path)) {
            return Err(Error::new(format!("cannot open the journal {path}"), error));
        }
        let newest = newest_path(path);
        file::check_replaceable(&newest)?;
        file::check_replaceable(&others_path(path))?;
        let beside = Beside::read(path);
        let enough = |end: &End, whole: bool| match &key {
            Some(key) => Ok(end.lacks(config, key.public(), whole, &beside)?.is_none()),
            // A new key continues no journal.
            None => Ok(true),
        };
        let found = peek(path, &beside, &enough)?;
        if found.is_none() {
            enough(&End::default(), true)?;
        }
        let (end, torn) = found.unwrap_or_default();
        let mut book = Book::new(config);
        let changes = book.go_on(config, path, key.as_ref(), end)?;
        outlook.journal = Some(book.places(&config.roster));
        if !changes.is_empty() {
            let line = "the journal would continue with another aggregator key, to which the old key hands over";
            outlook.remarks.push(line.to_owned());
        }
        if is_in_use(path) {
            let line = "another process is writing to the journal, and must end before a start";
            outlook.remarks.push(line.to_owned());
        }
        if torn > 0 {
            outlook.remarks.push(format!("the journal ends in the middle of a line: it is being written now, or a write was interrupted; a start moves these {torn} bytes to {path}.torn"));
        }
        let bytes = std::fs::metadata(path).map_or(0, |there| there.len());
        for remark in warnings(bytes, &newest) {
            let (Remark::Warning(line) | Remark::Progress(line)) = remark;
            outlook.remarks.push(line);
        }
        Ok(outlook)
    }
}

/// Reads the end of the journal at `path` as a start does, and changes nothing: takes no lock, and leaves the bytes behind the last
/// newline, whose number is returned, where they are. `None` if there is no such file.
fn peek(
    path: &str,
    beside: &Beside,
    enough: &dyn Fn(&End, bool) -> Result<bool, Error>,
) -> Result<Option<(End, usize)>, Error> {
    check_newest(path)?;
    let has_closed = closed(path).is_ok_and(|(_, highest)| highest > 0);
    if !has_closed && !Path::new(path).exists() {
        return Ok(None);
    }
    let take = |end: &mut End, line: &str| end.take(line, beside);
    let (end, _, tail) = read_end(path, &Segments::open(path)?, &take, enough)?;
    Ok(Some((end, tail.len())))
}

/// Whether another process has the journal at `path` open to append to it.
pub(super) fn is_in_use(path: &str) -> bool {
    let locked = File::open(path).map(|file| file.try_lock_shared());
    matches!(locked, Ok(Err(TryLockError::WouldBlock)))
}
