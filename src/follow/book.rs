//! The journal of one source: its reports as they were received, so that `verify` can check them again.
//!
//! Invariant: a file only grows, each line is written at once, and each file is a chain without a gap. Where a report could not be
//! got, or the source began another chain, the next file begins (FILE.part2). What was cut by a crash is removed at the start;
//! the source has it. There is no sync: what a power failure takes is fetched again, too. A file may have closed segments.

use super::intake::{Seen, head_of};
use crate::follow::limits::JOURNAL_PARTS_MAX;
use crate::system::beside::check_own;
use rsoracle_proof::report::{KeyChange, Report};
use rsoracle_proof::seal::Keys;
use rsoracle_verify::error::Error;
use rsoracle_verify::segments::{closed, id, path_of};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

/// The journal of one source.
pub(super) struct Book {
    path: String,
    part: usize,
    file: File,
    /// Whether the part has a report, maybe in a closed segment.
    is_begun: bool,
    /// The last report of each feed.
    pub(super) last: BTreeMap<String, Seen>,
}

impl Book {
    /// Opens the last part of a journal, which need not exist yet, and reads where each feed ends.
    pub(super) fn open(path: &str) -> Result<Book, Error> {
        check_own(path, &format!("cannot open the journal {path}"))?;
        let parts = 1..=JOURNAL_PARTS_MAX;
        let exists = |part: &usize| Path::new(&named(path, part + 1)).exists();
        let part = 1 + parts.take_while(exists).count();
        let mut book = Book {
            path: path.to_owned(),
            part,
            file: file(path, part)?,
            is_begun: false,
            last: BTreeMap::new(),
        };
        book.read()?;
        Ok(book)
    }

    /// Reads the part with its closed segments: the last line of each feed says where it ends.
    fn read(&mut self) -> Result<(), Error> {
        let name = named(&self.path, self.part);
        let failed =
            |cause: String| Error::new(format!("cannot go on with the journal {name}"), cause);
        let broken = |error: std::io::Error| failed(error.to_string());
        let mut lines = BTreeMap::<String, String>::new();
        let own = self.file.metadata().map_err(broken)?;
        for number in closed(&name).map_err(broken)?.0 {
            let segment = File::open(path_of(&name, number)).map_err(broken)?;
            // It may be the open one still.
            if id(&segment.metadata().map_err(broken)?) != id(&own) {
                ends(&segment, &mut lines).map_err(failed)?;
            }
        }
        let end = ends(&self.file, &mut lines).map_err(failed)?;
        self.file.set_len(end).map_err(broken)?;
        self.is_begun = !lines.is_empty();
        let mut keys = Keys::default();
        for (feed, text) in lines {
            let mut seen = None;
            for line in text.lines() {
                match (
                    Report::read(line, &mut keys),
                    KeyChange::read(line, &mut keys),
                    &mut seen,
                ) {
                    (Ok(report), _, _) => seen = Some(Seen::of(&report)),
                    (_, Ok(change), Some(seen)) => {
                        seen.hand_over(&change);
                    }
                    _ => {}
                }
            }
            let seen =
                seen.ok_or_else(|| failed(format!("its last report of {feed} is damaged")))?;
            self.last.insert(feed, seen);
        }
        Ok(())
    }

    /// Appends a line. `follows`: it continues the chain of its feed; else the next file begins.
    pub(super) fn append(&mut self, line: &[u8], follows: bool) -> Result<(), Error> {
        if !follows && self.is_begun {
            if self.part >= JOURNAL_PARTS_MAX {
                let attempt = format!("cannot go on with the journal {}", self.path);
                let cause =
                    format!("it has {JOURNAL_PARTS_MAX} parts: its source begins anew too often");
                return Err(Error::new(attempt, cause));
            }
            self.part += 1;
            self.file = file(&self.path, self.part)?;
        }
        let whole = [line, b"\n"].concat();
        let before = self.file.metadata().map_or(0, |found| found.len());
        self.file.write_all(&whole).map_err(|error| {
            // A part of a line would spoil what follows.
            let _ = self.file.set_len(before);
            let attempt = format!("cannot write the journal {}", named(&self.path, self.part));
            Error::new(attempt, error)
        })?;
        self.is_begun = true;
        Ok(())
    }
}

/// Reads the lines of a file, and keeps the last ones of each feed. Returns where the last whole line ends.
fn ends(file: &File, lines: &mut BTreeMap<String, String>) -> Result<u64, String> {
    let mut input = BufReader::with_capacity(256 * 1024, file);
    let (mut line, mut end) = (Vec::new(), 0);
    while input
        .read_until(b'\n', &mut line)
        .map_err(|error| error.to_string())?
        > 0
    {
        if line.pop() != Some(b'\n') {
            break;
        }
        let head = head_of(&line);
        let text = head.and_then(|(_, feed)| Some((feed, std::str::from_utf8(&line).ok()?)));
        let (feed, text) = text.ok_or_else(|| {
            "it has a line that is no report: it is another file, or damaged".to_owned()
        })?;
        // Of a change of keys, only the signature counts: the report before it says the rest.
        let mut text = text.to_owned();
        if head.is_some_and(|(number, _)| number.is_none()) {
            let before = lines.get(feed).map(String::as_str).unwrap_or_default();
            text = format!("{before}\n{text}");
        }
        lines.insert(feed.to_owned(), text);
        end += line.len() as u64 + 1;
        line.clear();
    }
    Ok(end)
}

/// The name of a part.
fn named(path: &str, part: usize) -> String {
    match part {
        1 => path.to_owned(),
        _ => format!("{path}.part{part}"),
    }
}

fn file(path: &str, part: usize) -> Result<File, Error> {
    let name = named(path, part);
    let failed = |cause: String| Error::new(format!("cannot open the journal {name}"), cause);
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(&name);
    let file = file.map_err(|error| failed(error.to_string()))?;
    let locked = file.try_lock();
    locked.map_err(|_| failed("another process writes it".to_owned()))?;
    Ok(file)
}

/// The files of the sources' journals: the file itself for a single source, else one for each, by its name.
pub(super) fn paths(journal: &str, names: &[&str]) -> Result<Vec<String>, Error> {
    if names.len() == 1 {
        return Ok(vec![journal.to_owned()]);
    }
    let fit = |c: char| match c.is_ascii_alphanumeric() || "._-".contains(c) {
        true => c,
        false => '-',
    };
    let plain = |name: &&str| {
        let place = name.split_once("://").map_or(*name, |(_, place)| place);
        let place: String = place.trim_matches('/').chars().map(fit).collect();
        format!("{journal}.{place}")
    };
    let paths: Vec<String> = names.iter().map(plain).collect();
    for (at, path) in paths.iter().enumerate() {
        if let Some(other) = paths[..at].iter().position(|other| other == path) {
            let cause = format!(
                "{} and {} would share the file {path}",
                names[other], names[at]
            );
            return Err(Error::new(
                format!("cannot write the journal {journal}"),
                cause,
            ));
        }
    }
    Ok(paths)
}

/// Appends a proof to the file of proofs.
pub(super) fn append_proof(journal: &str, line: &str) -> Result<(), Error> {
    let path = format!("{journal}.proofs");
    let failed = |error: std::io::Error| Error::new(format!("cannot write {path}"), error);
    let file = OpenOptions::new().append(true).create(true).open(&path);
    let mut file = file.map_err(failed)?;
    file.write_all(format!("{line}\n").as_bytes())
        .map_err(failed)
}
