//! Follows a journal as it grows, and keeps its index.
//!
//! Its files are read in their order, as one: a position in bytes counts from the beginning of the first one.
//!
//! Invariant: only whole lines are indexed, in their order. A journal that is not there yet is waited for; one that was replaced
//! or cut is indexed anew, and what was known of the old one is forgotten. A segment that was closed is read to its end before the
//! next file. Memory is that of the index, of the newest reports, and of the longest line.

use super::index::{Added, Cursor, Feed, Index, Record};
use super::newest::{Newest, read};
use super::open::{Change, Open};
use super::problem::Problem;
use super::scan::{Kind, handover, head, scan};
use crate::serve::limits::{
    INDEX_BYTES_PER_SWEEP, ODD_LINES_NAMED_MAX, SERVED_LINE_BYTES_MAX, WRITE_BYTES_MAX,
};
use crate::system::now::wall_us;
use crate::system::segments::{after, number_of};
use crate::system::stream::say;
use rsoracle_proof::report::Report;
use rsoracle_proof::seal::Keys;
use rsoracle_verify::segments::{id, path_of};
use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Bytes that are read from the journal at once.
const READ_BYTES: usize = 256 * 1024;
/// So many bytes at either end of a long line tell which report it is.
const END_BYTES: usize = 2 * 1024;

/// Most reports at the end of a feed that are read at the beginning because later ones are damaged.
const DAMAGED_MAX: usize = 16;
/// How many reports of a feed are read at the beginning, so that it is known who has been silent for some rounds.
const RECENT: usize = 4;

/// A report with its position and its line.
type Readable = (usize, Vec<u8>, Report);

/// A journal and its index.
pub(super) struct Journal {
    path: String,
    /// The segments before the file that is being read: where each begins, and its number.
    closed: Vec<(u64, u64)>,
    /// How many of them are gone.
    gone: usize,
    open: Option<Open>,
    /// The segment of `closed` that was read last, by its number.
    older: Option<(u64, File)>,
    index: Index,
    newest: Vec<Newest>,
    keys: Keys,
    line: Vec<u8>,
    /// Where the line in `line` begins, if it was read for [`Journal::line`].
    held: Option<u64>,
    /// Changes whenever all positions are no longer valid.
    generation: u64,
    /// Changes whenever a report is added.
    pub(super) version: u64,
    /// Whether all of the journal is indexed that was there at the beginning.
    pub(super) level: bool,
    /// When the file was changed last, in microseconds since the Unix epoch.
    pub(super) modified_us: u64,
    /// Lines that are neither reports nor changes of keys nor proofs.
    pub(super) odd: u64,
    /// How many lines were named in the log, of all journals that were at this path.
    named: u64,
    /// Whether a look at the journal has failed, so that it is said once.
    failed: bool,
}

impl Journal {
    /// A journal that need not exist yet.
    pub(super) fn new(path: &str) -> Journal {
        Journal {
            path: path.to_owned(),
            closed: Vec::new(),
            gone: 0,
            open: None,
            older: None,
            index: Index::default(),
            newest: Vec::new(),
            keys: Keys::default(),
            line: Vec::new(),
            held: None,
            generation: 0,
            version: 0,
            level: false,
            modified_us: 0,
            odd: 0,
            named: 0,
            failed: false,
        }
    }

    /// The feeds, in the order of their first reports.
    pub(super) fn feeds(&self) -> &[Feed] {
        &self.index.feeds
    }

    /// Changes whenever positions of a feed are no longer valid: with the journal, and with a chain of the feed.
    pub(super) fn generation(&self, feed: usize) -> (u64, u64) {
        let of_feed = self.index.feeds.get(feed).map_or(0, |feed| feed.generation);
        (self.generation, of_feed)
    }

    /// The place of a feed.
    pub(super) fn find(&self, feed: &str) -> Option<usize> {
        self.index.find(feed)
    }

    /// What is known of the feed at a place.
    pub(super) fn newest(&self, feed: usize) -> Option<&Newest> {
        self.newest.get(feed)
    }

    /// Whether it exists.
    pub(super) fn exists(&self) -> bool {
        self.open.is_some()
    }

    /// Whether it was there at the last look, and could be read.
    pub(super) fn is_readable(&self) -> bool {
        !self.failed
    }

    /// The number of its file's inode.
    pub(super) fn inode(&self) -> Option<u64> {
        Some(self.open.as_ref()?.id.1)
    }

    /// Its size in bytes, and how many of them are indexed.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let sizes = |open: &Open| (open.before + open.size, open.before + open.end);
        self.open.as_ref().map_or((0, 0), sizes)
    }

    /// Looks whether the journal has grown, and indexes a bounded part of what is new. Returns whether there is more.
    pub(super) fn look(&mut self) -> bool {
        match self.try_look() {
            Ok(more) => {
                self.failed = false;
                more
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failed, true) {
                    let path = &self.path;
                    say(
                        "serve",
                        match error.kind() {
                            io::ErrorKind::NotFound if self.open.is_some() => format!(
                                "the journal {path} was removed; its reports are still served, until another one is there"
                            ),
                            io::ErrorKind::NotFound => {
                                format!("the journal {path} does not exist yet; waiting for it")
                            }
                            _ => format!("cannot read the journal {path}: {error}; trying again"),
                        },
                    );
                }
                false
            }
        }
    }

    fn try_look(&mut self) -> io::Result<bool> {
        if self.open.is_none() {
            let (file, number) = after(&self.path, 0)?;
            self.open = Some(Open::new(file, number, 0)?);
        }
        self.miss_oldest();
        let open = self.open.as_mut().expect("it is open");
        let mut now = match open.number {
            None => std::fs::metadata(&self.path)?,
            Some(_) => open.file.metadata()?,
        };
        if id(&now) != open.id {
            open.number = number_of(&self.path, open.id)?;
            if open.number.is_some() {
                now = open.file.metadata()?;
            }
        }
        let number = open.number;
        match open.change(&now)? {
            Change::Nothing if self.level && number.is_none() => return Ok(false),
            Change::Nothing | Change::More => {}
            Change::Lost(what) => {
                let path = &self.path;
                say(
                    "serve",
                    format!("the journal {path} was {what}; it is indexed anew"),
                );
                self.forget();
                return Ok(true);
            }
        }
        self.modified_us = modified_us(&now);
        let more = self.index_more(now.len())?;
        match number {
            Some(number) if !more => self.go_on_after(number)?,
            None if !more && !self.level => self.reach_level()?,
            _ => return Ok(more),
        }
        Ok(number.is_some())
    }

    /// A closed segment was read: goes on with the file behind it.
    fn go_on_after(&mut self, number: u64) -> io::Result<()> {
        let (file, next) = after(&self.path, number)?;
        let open = self.open.as_ref().expect("it is open");
        let (begin, end) = (open.before, open.before + open.size);
        if open.end < open.size || next.is_some_and(|next| next > number + 1) {
            self.index.loosen();
        }
        self.open = Some(Open::new(file, next, end)?);
        self.closed.push((begin, number));
        Ok(())
    }

    /// Notices that the oldest segments were removed.
    fn miss_oldest(&mut self) {
        let before = self.gone;
        let is_there = |number: u64| {
            // An error does not say that it is gone.
            let found = Path::new(&path_of(&self.path, number)).try_exists();
            found.unwrap_or(true)
        };
        while self
            .closed
            .get(self.gone)
            .is_some_and(|(_, number)| !is_there(*number))
        {
            self.gone += 1;
        }
        if self.gone == before {
            return;
        }
        let open = self.open.as_ref().map_or(0, |open| open.before);
        let first = self.closed.get(self.gone).map_or(open, |(begin, _)| *begin);
        self.index.keep_from(first);
        (self.older, self.held) = (None, None);
        self.version += 1;
        for (newest, feed) in self.newest.iter_mut().zip(&self.index.feeds) {
            let is_there = |position: usize| position >= feed.kept();
            newest.published = newest.published.take().filter(|it| is_there(it.position));
        }
    }

    fn forget(&mut self) {
        *self = Journal {
            generation: self.generation + 1,
            version: self.version + 1,
            named: self.named,
            ..Journal::new(&self.path)
        };
    }

    /// Indexes a bounded number of new bytes of a file that has `size` bytes. Returns whether there are more.
    fn index_more(&mut self, size: u64) -> io::Result<bool> {
        let open = self.open.as_mut().expect("the journal is open");
        let (mut end, mut passing, before) = (open.end, open.passing, open.before);
        let until = end + INDEX_BYTES_PER_SWEEP;
        let mut file = open.file.try_clone()?;
        file.seek(SeekFrom::Start(end))?;
        let mut input = BufReader::with_capacity(READ_BYTES, file);
        let mut lines = open.lines;
        self.held = None;
        let mut line = std::mem::take(&mut self.line);
        let mut more = true;
        while end < until {
            line.clear();
            let most = SERVED_LINE_BYTES_MAX as u64 + 1;
            let count = (&mut input).take(most).read_until(b'\n', &mut line)? as u64;
            let whole = line.pop_if(|byte| *byte == b'\n').is_some();
            if !whole && count < most {
                // The rest of the line is not there yet. The rest of one that is too long need not be read again.
                end += if passing { count } else { 0 };
                more = false;
                break;
            }
            lines += u64::from(whole);
            if passing || !whole {
                self.index.loosen();
                self.odd_line(lines + u64::from(!whole), "it is too long", !passing);
            } else {
                self.take(&line, before + end, lines);
            }
            passing = !whole;
            end += count;
        }
        self.line = line;
        let open = self.open.as_mut().expect("the journal is open");
        (open.lines, open.passing) = (lines, passing);
        open.size = if more { end } else { size.max(end) };
        open.reach(end)?;
        Ok(more)
    }

    fn odd_line(&mut self, number: u64, why: &str, first: bool) {
        self.odd += u64::from(first);
        self.named += u64::from(first);
        if first && self.named <= ODD_LINES_NAMED_MAX {
            let last = match self.named {
                ODD_LINES_NAMED_MAX => "; further odd lines are only counted",
                _ => "",
            };
            let segment = self.open.as_ref().and_then(|open| open.number);
            let path = segment.map_or(self.path.clone(), |it| path_of(&self.path, it));
            say(
                "serve",
                format!("line {number} of {path} is left out: {why}{last}"),
            );
        }
    }

    /// Takes a line without its newline, which begins at `offset`.
    fn take(&mut self, line: &[u8], offset: u64, number: u64) {
        let head = match scan(line) {
            Kind::Report(head) => head,
            Kind::Aside => return,
            Kind::Change(change) => {
                match self.index.hand_over(&change, offset, line.len()) {
                    Ok(known) => self.version += u64::from(known),
                    Err(why) => self.odd_line(number, why, true),
                }
                return;
            }
            Kind::Odd(why) => {
                self.index.loosen();
                return self.odd_line(number, why, true);
            }
        };
        // What came since is read whole. There is no time for that at the beginning, so what is damaged is served as it is.
        let report = self.level.then(|| read(line, &mut self.keys)).flatten();
        match self.index.add(&head, offset, line.len()) {
            Err(why) => self.odd_line(number, why, true),
            Ok((feed, added)) => {
                self.version += 1;
                self.newest
                    .resize_with(self.index.feeds.len(), Newest::default);
                if added == Added::Anew {
                    self.newest[feed] = Newest::default();
                }
                if let Some(report) = report {
                    let newest = &mut self.newest[feed];
                    if report.decision.publishes() {
                        newest.publish(self.index.feeds[feed].len() - 1, line, &report);
                    }
                    newest.follow(report, wall_us());
                }
            }
        }
    }

    /// All is indexed that was there: reads the newest reports, or older ones where those are damaged.
    fn reach_level(&mut self) -> io::Result<()> {
        for at in 0..self.index.feeds.len() {
            let last = self.index.feeds[at].len();
            let newest = (0..last).rev().take(DAMAGED_MAX);
            let newest = newest.filter_map(|position| self.readable(at, position).transpose());
            let recent: io::Result<Vec<Readable>> = newest.take(RECENT).collect();
            let back =
                (0..DAMAGED_MAX).map_while(|back| self.index.feeds[at].newest_published(back));
            let back: Vec<usize> = back.collect();
            let mut back = back.into_iter();
            let published = back.find_map(|position| self.readable(at, position).transpose());
            if let Some((position, line, report)) = published.transpose()? {
                self.newest[at].publish(position, &line, &report);
            }
            for (_, _, report) in recent?.into_iter().rev() {
                self.newest[at].take(report, self.modified_us);
            }
        }
        self.level = true;
        self.version += 1;
        Ok(())
    }

    /// The position, line and content of a report; None if it is damaged.
    fn readable(&mut self, at: usize, position: usize) -> io::Result<Option<Readable>> {
        let line = self.line(at, Record::Report(position))?.to_owned();
        let line = line.strip_suffix(b"\n").unwrap_or(&line).to_owned();
        let report = read(&line, &mut self.keys);
        if report.is_none() {
            let (path, name) = (&self.path, &self.index.feeds[at].name);
            say("serve", format!("a report of {name} in {path} is damaged"));
        }
        Ok(report.map(|report| (position, line, report)))
    }

    /// The end of a stream at a place, if what is next there is no longer there.
    pub(super) fn too_old(&self, feed: usize, place: Cursor) -> Option<Problem> {
        let feed = self.index.feeds.get(feed)?;
        let next = feed.number(place.report).filter(|_| feed.is_lost(place))?;
        let first = feed.first_number().or(feed.last_number())?;
        Some(Problem::too_old(next, first))
    }

    /// The line of a record, with its newline. An error means that the file is not what it was.
    pub(super) fn line(&mut self, feed: usize, record: Record) -> io::Result<&[u8]> {
        let (offset, length) = self.place(feed, record)?;
        if self.held != Some(offset) {
            self.held = None;
            let mut line = std::mem::take(&mut self.line);
            line.resize(length + 1, 0);
            let read = self.read_at(&mut line, offset);
            self.line = line;
            read?;
            if !is_record(&self.line, &self.line, &self.index.feeds[feed], record) {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.held = Some(offset);
        }
        Ok(&self.line)
    }

    /// Appends the line of a record to `out`, from its byte `from` on, until that has `most` bytes. Of a long line, no more is read.
    pub(super) fn piece(
        &mut self,
        (feed, record): (usize, Record),
        from: usize,
        out: &mut Vec<u8>,
        most: usize,
    ) -> io::Result<()> {
        let (offset, length) = self.place(feed, record)?;
        let count = (length + 1).saturating_sub(from).min(most - out.len());
        if length <= WRITE_BYTES_MAX {
            let line = self.line(feed, record)?;
            out.extend_from_slice(&line[from.min(length + 1)..][..count]);
            return Ok(());
        }
        let [mut begin, mut end] = [[0; END_BYTES]; 2];
        self.read_at(&mut begin, offset)?;
        self.read_at(&mut end, offset + (length + 1 - END_BYTES) as u64)?;
        if !is_record(&begin, &end, &self.index.feeds[feed], record) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let had = out.len();
        out.resize(had + count, 0);
        self.read_at(&mut out[had..], offset + from as u64)
    }

    /// Where the line of a record is, if it is still there: offset, and bytes without the newline.
    fn place(&self, feed: usize, record: Record) -> io::Result<(u64, usize)> {
        let feed = self.index.feeds.get(feed).filter(|it| it.has(record));
        let line = feed.and_then(|feed| feed.line(record));
        line.ok_or(io::ErrorKind::NotFound.into())
    }

    /// Reads from the file that has the bytes from this offset on.
    fn read_at(&mut self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let open = self.open.as_ref().ok_or(io::ErrorKind::NotFound)?;
        if open.before <= offset {
            return open.file.read_exact_at(bytes, offset - open.before);
        }
        let at = self.closed.partition_point(|(begin, _)| *begin <= offset);
        let (begin, number) = self.closed[at - 1];
        let is_open = |(older, _): &(u64, File)| *older == number;
        if !self.older.as_ref().is_some_and(is_open) {
            let file = File::open(path_of(&self.path, number))?;
            self.older = Some((number, file));
        }
        let (_, file) = self.older.as_ref().expect("it was just opened");
        file.read_exact_at(bytes, offset - begin)
    }
}

/// Whether a line that begins and ends so, with its newline, is this record of a feed.
fn is_record(begin: &[u8], end: &[u8], feed: &Feed, record: Record) -> bool {
    let Some(end) = end.strip_suffix(b"\n") else {
        return false;
    };
    match record {
        Record::Report(at) => {
            let found = head(begin, end).filter(|head| head.feed == feed.name);
            found.is_some_and(|head| feed.number(at) == Some(head.number))
        }
        Record::Change(_) => handover(end).is_some_and(|change| change.feed == feed.name),
    }
}

/// When a file was changed last, in microseconds since the Unix epoch.
fn modified_us(seen: &Metadata) -> u64 {
    let us = seen.mtime().saturating_mul(1_000_000);
    let us = us.saturating_add(seen.mtime_nsec() / 1_000);
    us.max(0).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::super::scan::lines::line;
    use super::*;
    use std::io::Write;

    #[test]
    fn a_long_line_is_read_in_pieces_and_no_more_of_it_is_held() {
        let name = format!("rsoracle-pieces-{}.jsonl", std::process::id());
        let path = std::env::temp_dir().join(name);
        let lines = [(1, 0), (2, 3_000_000), (3, 10)];
        let lines = lines.map(|(number, pad)| line(number, pad) + "\n");
        std::fs::write(&path, lines.concat()).unwrap();
        let mut journal = Journal::new(path.to_str().unwrap());
        while journal.look() {}
        (journal.line, journal.held) = (Vec::new(), None);
        for (at, line) in lines.iter().enumerate() {
            let mut found = Vec::new();
            while found.len() < line.len() {
                let mut out = vec![b'-'; 100];
                let (record, from) = ((0, Record::Report(at)), found.len());
                journal.piece(record, from, &mut out, 10_100).unwrap();
                found.extend_from_slice(&out[100..]);
            }
            assert!(found == line.as_bytes(), "line {at}");
        }
        assert!(journal.line.capacity() < WRITE_BYTES_MAX);
        // A long line that is another one now is not taken for what it was.
        let mut bytes = lines.concat().into_bytes();
        let end = lines[0].len() + lines[1].len() - 3;
        bytes[end] = b'x';
        std::fs::write(&path, bytes).unwrap();
        let again = journal.piece((0, Record::Report(1)), 5, &mut Vec::new(), 100);
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::InvalidData);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_in_pieces_and_counted_once() {
        let name = format!("rsoracle-journal-{}.jsonl", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut file = File::create(&path).unwrap();
        writeln!(file, "{}", line(1, 0)).unwrap();
        file.write_all(&vec![b'x'; 2 * SERVED_LINE_BYTES_MAX + 5])
            .unwrap();
        let mut journal = Journal::new(path.to_str().unwrap());
        while journal.look() {}
        assert_eq!((journal.odd, journal.feeds()[0].len()), (1, 1));
        // Its end comes later.
        write!(file, "xx\n{}\n", line(2, 0)).unwrap();
        journal.level = false;
        while journal.look() {}
        assert_eq!((journal.odd, journal.feeds()[0].len()), (1, 2));
        let length = std::fs::metadata(&path).unwrap().len();
        assert_eq!(journal.bytes(), (length, length));
        let text = journal.line(0, Record::Report(1)).unwrap().to_owned();
        assert_eq!(text, format!("{}\n", line(2, 0)).into_bytes());
        assert_eq!(
            journal.line(0, Record::Report(2)).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        // A file that no longer has the line where it was gives an error, not something else.
        std::fs::write(&path, vec![b' '; length as usize]).unwrap();
        assert_eq!(
            journal.line(0, Record::Report(0)).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        std::fs::remove_file(&path).unwrap();
    }
}
