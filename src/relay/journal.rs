//! Reads a journal's lines in their order, while it grows.
//!
//! Invariant: only whole lines count, and each is read once until [`Journal::rewind`]. A journal that is not there yet is waited for, and
//! a segment that was closed is read to its end before the next file.

use crate::system::limits::SERVED_LINE_BYTES_MAX;
use crate::system::segments::{after, check_sort, number_of};
use crate::system::stream::say;
use rsoracle_verify::error::Error;
use rsoracle_verify::segments::{Id, id};
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};

/// Bytes that are read from the file at once.
const READ_BYTES: usize = 256 * 1024;

struct Open {
    input: BufReader<File>,
    id: Id,
    /// Its number, if it is a closed segment.
    number: Option<u64>,
    /// Where the lines that were read end, and how many there were in all files.
    end: u64,
    lines: u64,
}

/// A journal, and how far it was read.
pub(super) struct Journal {
    path: String,
    open: Option<Open>,
    /// Whether it was said that it cannot be read.
    told: bool,
}

/// What comes next.
pub(super) enum Next {
    /// A line without its newline, and its number from 1.
    Line(u64, Vec<u8>),
    /// Nothing yet.
    Level,
    /// Another file is there now, or this one was cut: what was read may not be there any more.
    Replaced,
}

impl Journal {
    pub(super) fn new(path: &str) -> Journal {
        Journal {
            path: path.to_owned(),
            open: None,
            told: false,
        }
    }

    /// Begins anew.
    pub(super) fn rewind(&mut self) {
        self.open = None;
    }

    /// The next line, if there is a whole one. The error is that it has one that no report can be as long as.
    pub(super) fn next(&mut self) -> Result<Next, Error> {
        let mut line = Vec::new();
        let next = self.try_next(&mut line);
        let read = next.as_ref().err().map(io::Error::kind);
        if read == Some(ErrorKind::InvalidData) {
            let attempt = format!("cannot go on with the journal {}", self.path);
            let cause = next.err().map_or(String::new(), |error| error.to_string());
            return Err(Error::new(attempt, cause));
        }
        next.or_else(|error| {
            if !std::mem::replace(&mut self.told, true) {
                let path = &self.path;
                let text = match error.kind() {
                    ErrorKind::NotFound => {
                        format!("the journal {path} is not there; waiting for it")
                    }
                    _ => format!("cannot read the journal {path}: {error}; trying again"),
                };
                say("relay", text);
            }
            Ok(Next::Level)
        })
    }

    fn try_next(&mut self, line: &mut Vec<u8>) -> io::Result<Next> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => Open::new(after(&self.path, 0)?, 0)?,
        };
        let next = self.read(&mut open, line);
        self.open = Some(open);
        next
    }

    fn read(&mut self, open: &mut Open, line: &mut Vec<u8>) -> io::Result<Next> {
        loop {
            let most = SERVED_LINE_BYTES_MAX as u64 + 1;
            let count = (&mut open.input).take(most).read_until(b'\n', line)? as u64;
            if line.pop_if(|byte| *byte == b'\n').is_some() {
                (open.end, open.lines, self.told) = (open.end + count, open.lines + 1, false);
                return Ok(Next::Line(open.lines, std::mem::take(line)));
            }
            if count == most {
                let text = format!("line {} is longer than any report", open.lines + 1);
                return Err(io::Error::new(ErrorKind::InvalidData, text));
            }
            line.clear();
            if let Some(number) = open.number {
                *open = Open::new(after(&self.path, number)?, open.lines)?;
                continue;
            }
            // The end of the line is not there yet; what is there may still be removed.
            open.input.seek(SeekFrom::Start(open.end))?;
            let now = std::fs::metadata(&self.path)?;
            if id(&now) == open.id {
                return Ok(match now.len() < open.end {
                    true => Next::Replaced,
                    false => Next::Level,
                });
            }
            // It was closed, maybe after more was written to it.
            open.number = number_of(&self.path, open.id)?;
            if open.number.is_none() {
                return Ok(Next::Replaced);
            }
        }
    }
}

impl Open {
    /// A file, its number if it is a closed segment, and how many lines those before it have.
    fn new((file, number): (File, Option<u64>), lines: u64) -> io::Result<Open> {
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        check_sort(&file)?;
        Ok(Open {
            input: BufReader::with_capacity(READ_BYTES, file),
            id: id(&about),
            number,
            end: 0,
            lines,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rsoracle_verify::segments::path_of;
    use std::fs::OpenOptions;
    use std::io::Write;

    fn read(journal: &mut Journal) -> Vec<String> {
        let mut found = Vec::new();
        while let Next::Line(_, line) = journal.next().unwrap() {
            found.push(String::from_utf8(line).unwrap());
        }
        found
    }

    #[test]
    fn a_segment_that_is_closed_is_read_to_its_end_before_the_next_file() {
        let name = format!("rsoracle-relay-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("j").to_str().unwrap().to_owned();
        let append = |text: &str| {
            let mut options = OpenOptions::new();
            let mut file = options.append(true).create(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        let close = |number: u64| {
            std::fs::rename(&path, path_of(&path, number)).unwrap();
            append("");
        };
        append("1\n");
        close(1);
        append("2\nhal");
        let mut journal = Journal::new(&path);
        assert_eq!(read(&mut journal), ["1", "2"]);
        append("f\n3\n");
        close(2);
        append("4\n");
        close(3);
        close(4);
        append("5\n");
        assert_eq!(read(&mut journal), ["half", "3", "4", "5"]);
        assert!(matches!(journal.next(), Ok(Next::Level)));
        std::fs::remove_file(&path).unwrap();
        append("other\n");
        assert!(matches!(journal.next(), Ok(Next::Replaced)));
        journal.rewind();
        assert_eq!(read(&mut journal).len(), 6);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
