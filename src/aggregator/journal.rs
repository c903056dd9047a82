//! The journal: an append-only file of lines that survives crashes and power failures.
//!
//! Invariants:
//! - When [`Journal::append`] succeeds, the line is on the disk, whole.
//! - No byte is thrown away: the remains of an interrupted write are moved to `FILE.torn`, which only grows too.
//! - There is one writer at a time: it holds the system's lock on the file, which is released when the process ends.
//! - A file that is not understood is not changed.
//!
//! A process that is killed while it appends may leave a whole line whose success was never reported. After a restart, that
//! line counts. Reading takes the memory of the longest line: at most [`JOURNAL_LINE_BYTES_MAX`], and what a growing buffer
//! rounds up.
//!
//! The journal does not know what a line means (`check` does), and is not rotated. It cannot prevent writes by a process
//! that ignores the lock, but it notices when the file's length has changed or the file was removed. Readers take no lock:
//! they may see a last line that is still being written, which [`rsoracle_verify::lines::Line::whole`] tells.

use crate::system::file;
use crate::system::file::MODE;
use rsoracle_verify::error::Error;
use rsoracle_verify::lines::{JOURNAL_LINE_BYTES_MAX, Lines, too_long};
use std::fmt;
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

/// Size of the read buffer in bytes.
const READ_BYTES: usize = 64 * 1024;

/// A journal that this process may append to.
#[derive(Debug)]
pub struct Journal {
    path: String,
    file: File,
    /// Total length of the whole lines, all of which are on the disk.
    bytes: u64,
    /// Whether a failed write left bytes behind the last whole line that could not be truncated.
    ragged: bool,
}

/// The remains of an interrupted write, found behind the last whole line and moved to another file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// How many bytes.
    pub bytes: u64,
    /// The file that they were appended to.
    pub path: String,
}

impl fmt::Display for Torn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Torn { bytes, path } = self;
        write!(
            f,
            "the journal ended in the middle of a line, because a write was interrupted; moved its last {bytes} bytes to {path}"
        )
    }
}

impl Journal {
    /// Opens the journal at `path`, or creates it, and passes every line with its number, from 1, to `check`.
    ///
    /// If `check` refuses a line, this fails and changes nothing. Bytes behind the last newline were never appended
    /// successfully: they are moved to another file, and returned as [`Torn`]. A process that ends during the move leaves them
    /// in both files, and the next start moves them again. What `check` saw is on the disk when this returns.
    pub fn open(
        path: &str,
        check: &mut dyn FnMut(u64, &str) -> Result<(), String>,
    ) -> Result<(Journal, Option<Torn>), Error> {
        let attempt = format!("cannot open the journal {path}");
        let failed = |error: io::Error| Error::new(&attempt, error);
        let file = open_to_append(path).map_err(failed)?;
        lock(&file, &attempt)?;
        let mut lines = Lines::new(BufReader::with_capacity(READ_BYTES, &file), path);
        let tail = read(&mut lines, check, &attempt)?;
        let bytes = lines.bytes();
        let torn = match tail.is_empty() {
            true => None,
            false => Some(move_tail(path, &file, bytes, &tail)?),
        };
        file.sync_all().map_err(failed)?;
        // Even if the file existed: the process that created it may have died before it could do this.
        file::sync_directory(path).map_err(failed)?;
        let journal = Journal {
            path: path.to_owned(),
            file,
            bytes,
            ragged: false,
        };
        Ok((journal, torn))
    }

    /// Appends a line, given without its newline. When this succeeds, the line is on the disk.
    ///
    /// After an error the file is as it was before, without the line, and a later call may succeed. The exception is an error
    /// that says that the file could not be truncated: then the next call, or the next start, first tries that again.
    pub fn append(&mut self, line: &str) -> Result<(), Error> {
        assert!(
            !line.bytes().any(|byte| byte == b'\n' || byte == 0),
            "a line holds no newline and no NUL"
        );
        let attempt = format!("cannot append to the journal {}", self.path);
        if line.len() > JOURNAL_LINE_BYTES_MAX {
            return Err(Error::new(attempt, too_long(JOURNAL_LINE_BYTES_MAX)));
        }
        self.mend(&attempt)?;
        let text = format!("{line}\n");
        if let Err(failed) = write(&self.file, self.bytes, text.as_bytes()) {
            self.ragged = failed.cut.is_err();
            return Err(failed.tell(&attempt));
        }
        self.bytes += text.len() as u64;
        Ok(())
    }

    /// Makes sure that the file ends where its last whole line ends.
    fn mend(&mut self, attempt: &str) -> Result<(), Error> {
        let failed = |error: io::Error| Error::new(attempt, error);
        let mut there = self.file.metadata().map_err(failed)?;
        if self.ragged && there.len() > self.bytes {
            cut(&self.file, self.bytes).map_err(|error| failed(error).advise(RAGGED))?;
            there = self.file.metadata().map_err(failed)?;
        }
        self.ragged = false;
        changed(&there, self.bytes).map_or(Ok(()), |what| {
            Err(Error::new(attempt, what)
                .advise("stop this process, restore the file, and start again"))
        })
    }
}

/// Advice when the remains of a failed write could not be truncated.
const RAGGED: &str = "the file could not be truncated either: it may end in a line that does not count; the next start or append tries again";

/// Advice when a journal is not understood.
const UNCHANGED: &str =
    "restore the file, or move it away to begin a new journal; nothing was changed";

/// What another program did to the file, if it was changed or removed.
fn changed(there: &Metadata, bytes: u64) -> Option<String> {
    if there.nlink() == 0 {
        return Some("the file was removed by another program".to_owned());
    }
    let found = there.len();
    (found != bytes).then(|| {
        format!("the file was changed by another program: it had {bytes} bytes, and has {found}")
    })
}

/// Opens or creates a file for appending. Refuses what is not a regular file.
fn open_to_append(path: &str) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(MODE);
    let file = options.open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

fn lock(file: &File, attempt: &str) -> Result<(), Error> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => Error::new(attempt, "another process is writing to it")
            .advise("stop that process, or name another file"),
        TryLockError::Error(error) => Error::new(attempt, format!("it cannot be locked: {error}"))
            .advise("name a file on a local disk"),
    })
}

/// Passes every whole line to `check`. Returns the bytes behind the last one.
fn read(
    lines: &mut Lines<impl BufRead>,
    check: &mut dyn FnMut(u64, &str) -> Result<(), String>,
    attempt: &str,
) -> Result<Vec<u8>, Error> {
    while let Some(line) = lines.next_line().map_err(|error| error.advise(UNCHANGED))? {
        if !line.whole {
            return Ok(lines.take_line());
        }
        let checked = line.text.map_err(str::to_owned);
        let checked = checked.and_then(|text| check(line.number, text));
        checked.map_err(|why| {
            Error::new(attempt, format!("line {}: {why}", line.number)).advise(UNCHANGED)
        })?;
    }
    Ok(Vec::new())
}

/// Moves `tail` from the end of the journal, whose whole lines have `bytes` bytes, to the end of `PATH.torn`. It is on the
/// disk there before the journal is truncated.
fn move_tail(path: &str, file: &File, bytes: u64, tail: &[u8]) -> Result<Torn, Error> {
    let torn = format!("{path}.torn");
    let attempt = format!(
        "cannot move the end of the journal {path}, left by an interrupted write, to {torn}"
    );
    let failed = |error: io::Error| {
        Error::new(&attempt, error).advise("resolve that and start again; nothing was lost")
    };
    let to = open_to_append(&torn).map_err(failed)?;
    let before = to.metadata().map_err(failed)?.len();
    write(&to, before, tail).map_err(|error| failed(error.cause))?;
    file::sync_directory(&torn).map_err(failed)?;
    cut(file, bytes).map_err(failed)?;
    Ok(Torn {
        bytes: tail.len() as u64,
        path: torn,
    })
}

/// A write that failed, and whether its remains could be truncated.
struct Failed {
    cause: io::Error,
    cut: io::Result<()>,
}

impl Failed {
    fn tell(self, attempt: &str) -> Error {
        match self.cut {
            Ok(()) => Error::new(attempt, self.cause).advise(
                "the file is as it was before, without this line; make room if its disk is full",
            ),
            Err(cut) => Error::new(attempt, format!("{}, then {cut}", self.cause)).advise(RAGGED),
        }
    }
}

/// Writes to the end of a file that has `before` bytes, and flushes it to the disk. After an error, truncates the file to
/// `before` bytes.
fn write(mut file: &File, before: u64, bytes: &[u8]) -> Result<(), Failed> {
    file.write_all(bytes)
        .and_then(|()| file.sync_data())
        .map_err(|cause| Failed {
            cause,
            cut: cut(file, before),
        })
}

/// Truncates a file, and flushes that to the disk: otherwise the truncated bytes may be back after a power failure.
fn cut(file: &File, bytes: u64) -> io::Result<()> {
    file.set_len(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A test's own directory for a journal; removed at the end.
    struct Scratch {
        dir: PathBuf,
    }

    impl Scratch {
        fn new() -> Scratch {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("rsoracle-journal-{}-{number}", std::process::id());
            let dir = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&dir).unwrap();
            Scratch { dir }
        }

        /// The same, with these bytes in the journal.
        fn with(bytes: &[u8]) -> Scratch {
            let scratch = Scratch::new();
            std::fs::write(scratch.path(), bytes).unwrap();
            scratch
        }

        fn path(&self) -> String {
            self.file("journal")
        }

        fn file(&self, name: &str) -> String {
            self.dir.join(name).to_str().unwrap().to_owned()
        }

        fn bytes(&self) -> Vec<u8> {
            std::fs::read(self.path()).unwrap()
        }

        fn torn(&self) -> Vec<u8> {
            std::fs::read(self.path() + ".torn").unwrap_or_default()
        }

        fn files(&self) -> usize {
            std::fs::read_dir(&self.dir).unwrap().count()
        }

        /// Opens the journal, and returns the lines that it had.
        fn open(&self) -> Result<(Journal, Option<Torn>, Vec<String>), Error> {
            let mut lines = Vec::new();
            let (journal, torn) = Journal::open(&self.path(), &mut |number, line| {
                lines.push(line.to_owned());
                assert_eq!(number, lines.len() as u64);
                Ok(())
            })?;
            Ok((journal, torn, lines))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }

    #[test]
    fn what_was_appended_is_there_at_the_next_start() {
        let scratch = Scratch::new();
        let (mut journal, torn, lines) = scratch.open().unwrap();
        assert_eq!((torn, lines.len()), (None, 0));
        for line in ["one", "", "zwölf"] {
            journal.append(line).unwrap();
        }
        assert_eq!(scratch.bytes(), "one\n\nzwölf\n".as_bytes());
        drop(journal);
        let (mut journal, torn, lines) = scratch.open().unwrap();
        assert_eq!(
            (torn, lines),
            (None, ["one", "", "zwölf"].map(str::to_owned).to_vec())
        );
        journal.append("four").unwrap();
        assert_eq!(scratch.bytes(), "one\n\nzwölf\nfour\n".as_bytes());
        assert_eq!(scratch.files(), 1);
        let mode = std::fs::metadata(scratch.path()).unwrap().mode();
        assert_eq!(mode & 0o777 & !MODE, 0, "{mode:o}");
    }

    #[test]
    fn a_write_cut_off_anywhere_costs_that_line_only() {
        let text = "{\"a\":1}\nzwölf\nthird line\n".as_bytes();
        for length in 0..=text.len() {
            let scratch = Scratch::with(&text[..length]);
            let kept = text[..length].iter().rposition(|byte| *byte == b'\n');
            let (kept, tail) = text[..length].split_at(kept.map_or(0, |at| at + 1));
            let (mut journal, torn, lines) = scratch.open().unwrap();
            let expected = Torn {
                bytes: tail.len() as u64,
                path: scratch.path() + ".torn",
            };
            assert_eq!(torn, (!tail.is_empty()).then_some(expected));
            assert_eq!(
                (scratch.bytes(), scratch.torn()),
                (kept.to_vec(), tail.to_vec())
            );
            let whole = std::str::from_utf8(kept).unwrap();
            assert_eq!(lines, whole.lines().collect::<Vec<_>>());
            journal.append("after").unwrap();
            drop(journal);
            let (_, torn, lines) = scratch.open().unwrap();
            assert_eq!((torn, lines.last().unwrap().as_str()), (None, "after"));
            assert_eq!(scratch.bytes(), [kept, b"after\n"].concat());
            assert_eq!(scratch.torn(), tail);
        }
    }

    #[test]
    fn an_end_of_nul_bytes_or_half_characters_is_moved_too_and_what_was_moved_before_stays() {
        let scratch = Scratch::with(b"one\ntw\0\0\0");
        let (_, torn, lines) = scratch.open().unwrap();
        assert_eq!((torn.unwrap().bytes, lines), (5, vec!["one".to_owned()]));
        assert_eq!(
            (scratch.bytes(), scratch.torn()),
            (b"one\n".to_vec(), b"tw\0\0\0".to_vec())
        );
        std::fs::write(scratch.path(), b"one\nzw\xc3").unwrap();
        let (_, torn, _) = scratch.open().unwrap();
        assert_eq!(scratch.torn(), b"tw\0\0\0zw\xc3");
        let said = torn.unwrap().to_string();
        assert!(
            said.contains("its last 3 bytes") && said.contains("journal.torn"),
            "{said}"
        );
    }

    #[test]
    fn a_bad_whole_line_stops_the_start_and_nothing_is_changed() {
        let cases: [(&[u8], &str); 4] = [
            (b"one\ntwo\nbad\nfour\nhal", "line 3: it is bad; restore"),
            (
                b"one\nt\0wo\nthree\nhal",
                "line 2: it contains a NUL byte; restore",
            ),
            (b"one\ntw\xffo\nthree\n", "line 2: it is not UTF-8; restore"),
            (b"bad\n", "line 1: it is bad; restore"),
        ];
        for (bytes, part) in cases {
            let scratch = Scratch::with(bytes);
            let error = Journal::open(&scratch.path(), &mut |_, line| match line {
                "bad" => Err("it is bad".to_owned()),
                _ => Ok(()),
            })
            .unwrap_err()
            .to_string();
            let attempt = format!("cannot open the journal {}", scratch.path());
            assert!(
                error.starts_with(&attempt) && error.contains(part),
                "{error}"
            );
            assert_eq!((scratch.bytes(), scratch.files()), (bytes.to_vec(), 1));
        }
    }

    #[test]
    fn there_is_one_writer_at_a_time() {
        let scratch = Scratch::with(b"one\nhal");
        let (mut first, ..) = scratch.open().unwrap();
        let error = scratch.open().unwrap_err().to_string();
        assert!(error.contains(&scratch.path()), "{error}");
        assert!(
            error.contains("another process is writing to it"),
            "{error}"
        );
        first.append("two").unwrap();
        drop(first);
        let (_second, torn, lines) = scratch.open().unwrap();
        assert_eq!((torn, lines.len()), (None, 2));
    }

    #[test]
    fn a_refused_start_lets_go_of_the_lock() {
        let scratch = Scratch::with(b"one\n");
        let refused = Journal::open(&scratch.path(), &mut |_, _| Err("no".to_owned()));
        assert!(refused.is_err() && scratch.open().is_ok());
    }

    #[test]
    fn what_a_failed_write_left_is_cut_off_before_the_next_line() {
        let scratch = Scratch::new();
        let (mut journal, ..) = scratch.open().unwrap();
        journal.append("one").unwrap();
        // As if truncating the file had failed as well.
        std::fs::write(scratch.path(), b"one\nhal").unwrap();
        journal.ragged = true;
        journal.append("two").unwrap();
        assert_eq!(scratch.bytes(), b"one\ntwo\n");
        assert_eq!(journal.bytes, 8);
    }

    #[test]
    fn a_file_that_somebody_else_changed_or_removed_is_not_written_to() {
        let scratch = Scratch::new();
        let (mut journal, ..) = scratch.open().unwrap();
        journal.append("one").unwrap();
        for bytes in ["", "one\ntwo\n"] {
            std::fs::write(scratch.path(), bytes).unwrap();
            let error = journal.append("three").unwrap_err().to_string();
            assert!(error.contains(&scratch.path()), "{error}");
            assert!(
                error.contains("the file was changed by another program"),
                "{error}"
            );
            assert_eq!(scratch.bytes(), bytes.as_bytes());
        }
        std::fs::remove_file(scratch.path()).unwrap();
        let error = journal.append("three").unwrap_err().to_string();
        assert!(
            error.contains("the file was removed by another program"),
            "{error}"
        );
    }

    #[test]
    #[should_panic(expected = "a line holds no newline")]
    fn two_lines_are_not_one() {
        let scratch = Scratch::new();
        let (mut journal, ..) = scratch.open().unwrap();
        let _ = journal.append("one\ntwo");
    }

    #[test]
    fn what_is_no_file_is_no_journal() {
        let scratch = Scratch::new();
        let missing = scratch.file("none/journal");
        for path in ["/dev/null", scratch.dir.to_str().unwrap(), &missing] {
            let error = Journal::open(path, &mut |_, _| Ok(())).unwrap_err();
            assert!(error.to_string().contains(path), "{error}");
        }
        assert_eq!(scratch.files(), 0);
    }
}
