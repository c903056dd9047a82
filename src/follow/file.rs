//! A journal that is followed as it grows: the lines of one feed.
//!
//! Invariant: only whole lines count. A file that is not there yet is waited for; one that was replaced or cut is read from its
//! beginning. A segment that was closed is read to its end before the next file. At most the longest report of the roster is kept, and a few of the newest ones at the beginning.

use super::intake::head_of;
use crate::follow::limits::FOLLOW_FILE_BYTES;
use crate::system::segments::{after, check_sort, number_of};
use rsoracle_verify::segments::{Id, id, path_of, seen};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

const READ_BYTES: usize = 64 * 1024;
/// Pause between two looks at a file that did not grow.
const LOOK: Duration = Duration::from_millis(20);

/// Where to begin.
#[derive(Clone, Copy)]
pub(super) enum Begin {
    /// With so many of the newest reports.
    Newest(usize),
    /// After this report.
    After(u64),
}

struct Open {
    file: File,
    id: Id,
    /// Its number, if it is a closed segment.
    number: Option<u64>,
    /// How much was read.
    end: u64,
}

/// A file, and how far it was read.
pub(super) struct Growing {
    path: String,
    feed: String,
    bytes_max: usize,
    begin: Begin,
    open: Option<Open>,
    /// The bytes of a line that is not complete.
    line: Vec<u8>,
    /// Whether the line is passed over: too long, or begun before the place where reading began.
    passes: bool,
    lines: VecDeque<Vec<u8>>,
    /// Whether all was read that was there.
    pub(super) is_level: bool,
    looked_at: Option<Instant>,
    /// When the first of `lines` may be taken again.
    held_until: Option<Instant>,
}

impl Growing {
    pub(super) fn new(path: &str, feed: &str, bytes_max: usize, begin: Begin) -> Growing {
        Growing {
            path: path.to_owned(),
            feed: feed.to_owned(),
            bytes_max,
            begin,
            open: None,
            line: Vec::new(),
            passes: false,
            lines: VecDeque::new(),
            is_level: false,
            looked_at: None,
            held_until: None,
        }
    }

    /// Takes the last line back, which comes again then unless the file was replaced. Nothing behind it comes before.
    pub(super) fn put_back(&mut self, line: Vec<u8>, until: Instant) {
        self.lines.push_front(line);
        self.held_until = Some(until);
    }

    /// The next line, if there is a whole one. The error is why the file cannot be read.
    pub(super) fn next(&mut self, now: Instant) -> Result<Option<Vec<u8>>, String> {
        if let Some(until) = self.held_until {
            if now < until {
                return Ok(None);
            }
            self.held_until = None;
            self.look().map_err(|error| error.to_string())?;
        }
        let is_ready = |own: &Growing| own.is_level || matches!(own.begin, Begin::After(_));
        if is_ready(self)
            && let Some(line) = self.lines.pop_front()
        {
            return Ok(Some(line));
        }
        let pause = self
            .looked_at
            .is_some_and(|at| now.saturating_duration_since(at) < LOOK);
        if self.is_level && pause {
            return Ok(None);
        }
        self.looked_at = Some(now);
        self.read().map_err(|error| error.to_string())?;
        match is_ready(self) {
            true => Ok(self.lines.pop_front()),
            false => Ok(None),
        }
    }

    /// Looks whether the file was closed as a segment, or replaced or cut: then nothing of it counts any more.
    fn look(&mut self) -> io::Result<()> {
        let found = std::fs::metadata(&self.path);
        if let (Some(open), Ok(found)) = (&mut self.open, &found)
            && open.number.is_none()
            && (id(found) != open.id || found.len() < open.end)
        {
            open.number = number_of(&self.path, open.id)?.filter(|_| id(found) != open.id);
            if open.number.is_none() {
                (self.open, self.begin) = (None, Begin::After(0));
                self.lines.clear();
            }
        }
        Ok(())
    }

    fn read(&mut self) -> io::Result<()> {
        self.look()?;
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.open()?,
        };
        let done = self.read_on(&mut open);
        self.open = Some(open);
        done
    }

    fn open(&mut self) -> io::Result<Open> {
        let open = match self.begin {
            Begin::Newest(_) => self.near_the_end()?,
            Begin::After(_) => Open::new(after(&self.path, 0)?)?,
        };
        (self.line, self.passes) = (Vec::new(), open.end > 0);
        Ok(open)
    }

    /// The newest reports are near the end, each feed's within one round of the other feeds.
    fn near_the_end(&self) -> io::Result<Open> {
        let mut left = 16 * FOLLOW_FILE_BYTES as u64;
        let mut open = Open::new((File::open(&self.path)?, None))?;
        let newest = open.id;
        for number in seen(&self.path)?.0.into_iter().rev() {
            let length = open.file.metadata()?.len();
            if length >= left {
                break;
            }
            let older = File::open(path_of(&self.path, number))?;
            if id(&older.metadata()?) != newest {
                left -= length;
                open = Open::new((older, Some(number)))?;
            }
        }
        open.end = open.file.metadata()?.len().saturating_sub(left);
        Ok(open)
    }

    /// Reads until there are lines, up to the end, or as much as one turn may read.
    fn read_on(&mut self, open: &mut Open) -> io::Result<()> {
        let mut buffer = vec![0; READ_BYTES];
        for _ in 0..FOLLOW_FILE_BYTES / READ_BYTES {
            let count = match open.file.read_at(&mut buffer, open.end) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            };
            open.end += count as u64;
            if count == 0 {
                let Some(number) = open.number else {
                    self.is_level = true;
                    break;
                };
                *open = Open::new(after(&self.path, number)?)?;
                (self.line, self.passes) = (Vec::new(), false);
                continue;
            }
            let pieces = buffer[..count].split_inclusive(|byte| *byte == b'\n');
            pieces.for_each(|piece| self.piece(piece));
            match self.begin {
                Begin::Newest(most) if !self.is_level => {
                    while self.lines.len() > most {
                        self.lines.pop_front();
                    }
                }
                _ if !self.lines.is_empty() => break,
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes a part of a line, or its end.
    fn piece(&mut self, piece: &[u8]) {
        self.passes |= self.line.len() + piece.len() > self.bytes_max;
        if !self.passes {
            self.line.extend_from_slice(piece);
        }
        if piece.ends_with(b"\n") {
            let mut line = std::mem::take(&mut self.line);
            line.pop();
            if !std::mem::take(&mut self.passes) && wanted(&line, &self.feed, self.begin) {
                self.lines.push_back(line);
            }
        }
    }
}

impl Open {
    fn new((file, number): (File, Option<u64>)) -> io::Result<Open> {
        check_sort(&file)?;
        let id = id(&file.metadata()?);
        Ok(Open {
            file,
            id,
            number,
            end: 0,
        })
    }
}

/// Whether a line is of the feed, or of none that can be told, and comes after the beginning.
fn wanted(line: &[u8], feed: &str, begin: Begin) -> bool {
    if line.starts_with(b"{\"rsoracle_proof\"") {
        return false;
    }
    match (head_of(line), begin) {
        (Some((number, name)), Begin::After(before)) => {
            name == feed && number.is_none_or(|number| number > before)
        }
        (Some((_, name)), Begin::Newest(_)) => name == feed,
        (None, _) => true,
    }
}
