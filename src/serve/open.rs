//! A file of the journal that is being indexed: how far, and what happened to it since the last look.

use crate::system::segments::check_sort;
use rsoracle_verify::segments::{Id, id};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

/// How many bytes before the end of what is indexed are remembered: they differ in every report.
const MARK_BYTES: usize = 130;

/// The file that is being followed.
pub(super) struct Open {
    pub(super) file: File,
    pub(super) id: Id,
    /// Its number, if it is a closed segment.
    pub(super) number: Option<u64>,
    /// The bytes of the files before it.
    pub(super) before: u64,
    /// Where what is indexed ends: behind the newline of a line.
    pub(super) end: u64,
    /// The number of lines before that.
    pub(super) lines: u64,
    /// The last bytes before that.
    mark: Vec<u8>,
    /// The size of the file when it was read to its end, or else `end`.
    pub(super) size: u64,
    /// When the file and its inode were changed, as they were when the mark was compared last.
    times: [i64; 4],
    /// Whether a line that is too long is being passed over.
    pub(super) passing: bool,
}

/// What a look at the file shows.
pub(super) enum Change {
    /// Nothing.
    Nothing,
    /// What is indexed is as it was; more or less may be behind it.
    More,
    /// What is indexed is not there any more.
    Lost(&'static str),
}

impl Open {
    pub(super) fn new(file: File, number: Option<u64>, before: u64) -> io::Result<Open> {
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        check_sort(&file)?;
        Ok(Open {
            file,
            id: id(&found),
            number,
            before,
            end: 0,
            lines: 0,
            mark: Vec::new(),
            size: 0,
            times: [0; 4],
            passing: false,
        })
    }

    /// What happened to the file since the last look.
    pub(super) fn change(&mut self, now: &Metadata) -> io::Result<Change> {
        if id(now) != self.id {
            return Ok(Change::Lost("replaced"));
        }
        // An unfinished line behind that may go: it was never served.
        if now.len() < self.end {
            return Ok(Change::Lost("cut"));
        }
        let times = [now.mtime(), now.mtime_nsec(), now.ctime(), now.ctime_nsec()];
        if now.len() == self.size && times == self.times {
            return Ok(Change::Nothing);
        }
        let mut mark = vec![0; self.mark.len()];
        let begin = self.end - mark.len() as u64;
        let same = self.file.read_exact_at(&mut mark, begin);
        if same.is_err() || mark != self.mark {
            return Ok(Change::Lost("written anew"));
        }
        self.times = times;
        Ok(Change::More)
    }

    /// What is before `end` is indexed now.
    pub(super) fn reach(&mut self, end: u64) -> io::Result<()> {
        self.end = end;
        self.mark.resize((MARK_BYTES as u64).min(end) as usize, 0);
        let begin = end - self.mark.len() as u64;
        self.file.read_exact_at(&mut self.mark, begin)
    }
}
