//! Reads a journal's lines in their order, while it grows.
//!
//! Invariant: only whole lines count, and each is read once until [`Journal::rewind`]. A journal that is not there yet is waited for.

use crate::system::limits::SERVED_LINE_BYTES_MAX;
use crate::system::stream::say;
use rsoracle_verify::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;

/// Bytes that are read from the file at once.
const READ_BYTES: usize = 256 * 1024;

struct Open {
    input: BufReader<File>,
    /// Device and inode.
    id: (u64, u64),
    /// Where the lines that were read end, and how many they are.
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
        if self.open.is_none() {
            let file = File::open(&self.path)?;
            let about = file.metadata()?;
            if !about.is_file() {
                return Err(io::Error::other("it is not a regular file"));
            }
            self.open = Some(Open {
                input: BufReader::with_capacity(READ_BYTES, file),
                id: (about.dev(), about.ino()),
                end: 0,
                lines: 0,
            });
        }
        let open = self.open.as_mut().expect("it was opened before");
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
        // The end of the line is not there yet; what is there may still be removed.
        open.input.seek(SeekFrom::Start(open.end))?;
        let now = std::fs::metadata(&self.path)?;
        if (now.dev(), now.ino()) != open.id || now.len() < open.end {
            return Ok(Next::Replaced);
        }
        Ok(Next::Level)
    }
}
