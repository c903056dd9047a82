//! `rsoracle journal rotate`: closes a journal's segment, by itself or by asking the aggregator that writes it.
//!
//! Invariant: only whoever holds the journal's lock closes a segment. What is not a journal is not touched.

use super::outlook::is_in_use;
use crate::aggregator::book::request_path;
use crate::aggregator::journal::{IS_LINK, Journal};
use crate::aggregator::resume::{begin_others, others_path};
use crate::flags::args::{Given, Usage};
use crate::system::beside::check_own;
use crate::system::segments::number_of;
use rsoracle_proof::report::Verifier;
use rsoracle_verify::error::Error;
use rsoracle_verify::segments::{Id, closed, id, path_of};
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long it waits until an aggregator takes its request, in milliseconds. Then the request is withdrawn.
const ROTATE_WAIT_MS_MAX: u64 = 60_000;
/// How long it waits after that until the segment is closed, in milliseconds: the disk may take its time.
const ROTATE_DONE_MS_MAX: u64 = 10_000;
/// Pause between two looks whether it is done.
const LOOK: Duration = Duration::from_millis(20);

/// The journals of [`crate::flags::tables::JOURNAL_COMMAND`].
pub fn read(given: &Given) -> Result<&[String], Usage> {
    match given.operands().split_first() {
        Some((action, files)) if action == "rotate" && !files.is_empty() => Ok(files),
        _ => {
            let sentence = "what is to be done? 'rsoracle journal rotate FILE' closes its segment";
            Err(Usage(sentence.to_owned()))
        }
    }
}

/// Closes the segment of each journal. Returns a line for each.
pub fn rotate(paths: &[String]) -> Result<String, Error> {
    let close = |path: &String| {
        let attempt = format!("cannot close the segment of the journal {path}");
        let closed = rotate_one(path, &attempt)?;
        Ok(match closed {
            Some(segment) => format!("{path}: closed {segment}\n"),
            None => format!("{path}: it is empty; there is nothing to close\n"),
        })
    };
    paths.iter().map(close).collect()
}

/// The closed segment; `None` if the open one is empty.
fn rotate_one(path: &str, attempt: &str) -> Result<Option<String>, Error> {
    let failed = |error| Error::new(attempt, error);
    let found = || std::fs::metadata(path).map_err(failed);
    let before = found()?;
    if !before.is_file() {
        return Err(Error::new(attempt, "it is not a regular file"));
    }
    if Path::new(path).is_symlink() {
        return Err(Error::new(attempt, IS_LINK));
    }
    check_own(path, attempt)?;
    // Else nobody could say which number it got.
    closed(path).map_err(failed)?;
    let (request, began) = (request_path(path), Instant::now());
    let mut taken: Option<Instant> = None;
    let mut asked = false;
    loop {
        if id(&found()?) != id(&before) {
            // Another process may have asked for the same.
            let _ = asked.then(|| std::fs::remove_file(&request));
            return closed_as(path, id(&before), attempt).map(Some);
        }
        if found()?.len() == 0 {
            return Ok(None);
        }
        if !is_in_use(path) {
            let _ = std::fs::remove_file(&request);
            return close(path, attempt);
        }
        if !asked {
            File::create(&request).map_err(failed)?;
            asked = true;
        } else if !Path::new(&request).exists() {
            let taken = *taken.get_or_insert_with(Instant::now);
            if taken.elapsed() > Duration::from_millis(ROTATE_DONE_MS_MAX) {
                let cause = "the process that writes it was asked, and could not";
                return Err(Error::new(attempt, cause).advise("its log says why"));
            }
        }
        let waited = began.elapsed() > Duration::from_millis(ROTATE_WAIT_MS_MAX);
        if waited && taken.is_none() && std::fs::remove_file(&request).is_ok() {
            let cause = "the process that writes it has not answered within a minute";
            return Err(Error::new(attempt, cause).advise(
                "nothing was changed; an aggregator closes it between two rounds: if its rounds are longer than that, use its --journal-max, or stop it first",
            ));
        }
        std::thread::sleep(LOOK);
    }
}

/// The segment that a file was closed as.
fn closed_as(path: &str, file: Id, attempt: &str) -> Result<String, Error> {
    let number = number_of(path, file).map_err(|error| Error::new(attempt, error))?;
    let gone = || Error::new(attempt, "another file has its name meanwhile");
    number.map(|number| path_of(path, number)).ok_or_else(gone)
}

/// Closes the segment of a journal that nobody writes.
fn close(path: &str, attempt: &str) -> Result<Option<String>, Error> {
    let take = |(verifier, taken): &mut (Verifier, bool), line: &str| {
        *taken = true;
        // It was signed, whatever the clock says now.
        let flaw = verifier.check(line, u64::MAX).flaws.into_iter().next();
        flaw.map_or(Ok(()), Err)
    };
    // Before the first segment is closed, it must be known whether the journal has several feeds.
    let is_first = closed(path).is_ok_and(|(_, highest)| highest == 0)
        && !Path::new(&others_path(path)).exists();
    let enough = |(_, taken): &(Verifier, bool), whole| match (*taken, whole) {
        // What is behind the last whole line is cut off next, so there must be one that shows that it is a journal.
        (false, true) => Err(Error::new(
            attempt,
            "it holds no whole line; nothing was changed",
        )),
        (taken, whole) => Ok(taken && (whole || !is_first)),
    };
    let (mut journal, (verifier, _), _) = Journal::open(path, &take, &enough)?;
    begin_others(path, is_first && verifier.feeds().count() == 1)?;
    journal.close_segment()
}
