//! The journal: an append-only file of lines that survives crashes and power failures.
//!
//! Invariants:
//! - When [`Journal::append`] succeeds, its lines are on the disk, whole.
//! - No byte is thrown away: the remains of an interrupted write are moved to `FILE.torn`, which only grows too.
//! - There is one writer at a time: it holds the system's lock on the file, which is released when the process ends.
//! - A file that is not understood is not changed.
//! - A closed segment ([`rsoracle_verify::segments`]) is not written to any more. Its lines are on the disk, under its number, before
//!   another file gets the journal's name.
//!
//! A process that is killed while it appends may leave whole lines whose success was never reported. After a restart, those
//! lines count. Opening reads the end of the file only, however long the file is. A line takes at most
//! [`JOURNAL_LINE_BYTES_MAX`] of memory, and what a growing buffer rounds up.
//!
//! The journal does not know what a line means (its opener does). It cannot prevent writes by a process that ignores the lock, but
//! before every append it notices that the file's length has changed, that the file was removed, or that its path no longer names
//! it. Readers take no lock: they may see a last line that is still being written, which
//! [`rsoracle_verify::lines::Line::whole`] tells.

use crate::system::file;
use crate::system::file::MODE;
use rsoracle_verify::error::Error;
use rsoracle_verify::lines::{JOURNAL_LINE_BYTES_MAX, too_long};
use rsoracle_verify::segments::{NUMBER_MAX, Reading, Segments, closed, id, path_of};
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, fchown};
use std::time::{Duration, Instant};

/// How long a lock is waited for. The lock of a killed process may last a moment longer than the process.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// Takes the next line of a journal's end.
type Take<'a, T> = &'a dyn Fn(&mut T, &str) -> Result<(), String>;
/// Whether the lines taken are enough; the flag says whether they are all.
type Enough<'a, T> = &'a dyn Fn(&T, bool) -> Result<bool, Error>;

/// A journal that this process may append to.
#[derive(Debug)]
pub struct Journal {
    path: String,
    file: File,
    /// Total length of the whole lines of the open segment, all of which are on the disk.
    pub(super) bytes: u64,
    /// Whether the folder may not have its name on the disk yet.
    unnamed: bool,
    /// Whether a failed write left bytes behind the last whole line that could not be truncated.
    ragged: bool,
    /// Whether the file is lost for good: removed, replaced, or changed by another program.
    pub(super) lost: bool,
}

impl Journal {
    /// Opens the journal at `path`, or creates it, and reads its end. Passes each line to `take`, with a state that begins as
    /// the default. Then `enough` is asked whether the state suffices (its flag: the whole file was read). Until it does,
    /// reading starts again, farther from the end.
    ///
    /// An error of `take` or `enough` is returned, and nothing is changed. Bytes behind the last newline were never appended
    /// successfully: they are moved to `PATH.torn`, and their number is returned. If the process ends during the move, both files
    /// have them, and the next start moves them again. What `take` saw is on the disk when this returns.
    pub fn open<T: Default>(
        path: &str,
        take: Take<T>,
        enough: Enough<T>,
    ) -> Result<(Journal, T, usize), Error> {
        let attempt = attempt(path);
        let failed = |error: io::Error| Error::new(&attempt, error);
        let file = open_locked(path, &attempt)?;
        take_back(path, &file).map_err(failed)?;
        check_newest(path)?;
        let segments = Segments::of(path, Some(file.try_clone().map_err(failed)?))?;
        let (state, bytes, tail) = read_end(path, &segments, take, enough)?;
        if !tail.is_empty() {
            move_tail(path, &file, bytes, &tail)?;
        }
        file.sync_all().map_err(failed)?;
        // Even if the file existed: the process that created it may have died before it could do this.
        file::sync_directory(path).map_err(failed)?;
        let journal = Journal {
            path: path.to_owned(),
            file,
            bytes,
            unnamed: false,
            ragged: false,
            lost: false,
        };
        Ok((journal, state, tail.len()))
    }

    /// Appends lines, given without their newlines, all of them or none. When this succeeds, they are on the disk.
    ///
    /// After an error the file is as it was before, without the lines, and a later call may succeed. The exception is an error
    /// that says that the file could not be truncated: then the next call, or the next start, first tries that again.
    pub fn append(&mut self, lines: &[impl AsRef<str>]) -> Result<(), Error> {
        let attempt = format!("cannot append to the journal {}", self.path);
        let mut text = String::new();
        for line in lines.iter().map(AsRef::as_ref) {
            assert!(
                !line.bytes().any(|byte| byte == b'\n' || byte == 0),
                "a line holds no newline and no NUL"
            );
            if line.len() > JOURNAL_LINE_BYTES_MAX {
                return Err(Error::new(attempt, too_long(JOURNAL_LINE_BYTES_MAX)));
            }
            text.extend([line, "\n"]);
        }
        self.mend(&attempt)?;
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
        if self.unnamed {
            file::sync_directory(&self.path).map_err(failed)?;
            self.unnamed = false;
        }
        let named = std::fs::metadata(&self.path);
        let same = |named: &Metadata| id(named) == id(&there);
        let what = match (changed(&there, self.bytes), &named) {
            (Some(what), _) => what,
            (None, Ok(named)) if same(named) => return Ok(()),
            (None, Ok(_)) => "the file was moved, and another one has its name".to_owned(),
            (None, Err(error)) => {
                let what = format!("its name no longer leads to it: {error}");
                return Err(Error::new(attempt, what).advise(MOVED));
            }
        };
        self.lost = true;
        Err(Error::new(attempt, what).advise(LOST))
    }

    /// Closes the open segment, unless it is empty: its lines stay under the next number, and the next ones go to a new file. Returns
    /// the path of the closed segment. After an error, all is as it was, and a later call may succeed. The exception is a folder that
    /// cannot be synced in the end: then the next append first tries that again.
    pub fn close_segment(&mut self) -> Result<Option<String>, Error> {
        self.close_by(|next, path| std::fs::rename(next, path))
    }

    /// The same, by this way of giving the next file the journal's name.
    fn close_by(
        &mut self,
        rename: impl Fn(&str, &str) -> io::Result<()>,
    ) -> Result<Option<String>, Error> {
        if self.bytes == 0 {
            return Ok(None);
        }
        let attempt = format!("cannot close the segment of the journal {}", self.path);
        self.mend(&attempt)?;
        let next = format!("{}.next", self.path);
        let done = self.begin_segment(&next, rename);
        if done.is_err() {
            // It is taken back at the next attempt, or start.
            let _ = std::fs::remove_file(&next).and(take_back(&self.path, &self.file));
        }
        let (file, path) = done
            .map_err(|error| Error::new(&attempt, error).advise("it goes on in the same file"))?;
        (self.file, self.bytes, self.unnamed) = (file, 0, true);
        self.mend(&attempt)?;
        Ok(Some(path))
    }

    /// Makes the file of the next segment, which is locked before it has its name, and gives its number to this one.
    fn begin_segment(
        &self,
        next: &str,
        rename: impl Fn(&str, &str) -> io::Result<()>,
    ) -> io::Result<(File, String)> {
        if std::fs::symlink_metadata(&self.path)?.is_symlink() {
            return Err(io::Error::other(IS_LINK));
        }
        match std::fs::remove_file(next) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        take_back(&self.path, &self.file)?;
        let file = open_to_append(next)?;
        file.try_lock()?;
        let (found, made) = (self.file.metadata()?, file.metadata()?);
        if (found.uid(), found.gid()) != (made.uid(), made.gid()) {
            fchown(&file, Some(found.uid()), Some(found.gid()))?;
        }
        file.set_permissions(found.permissions())?;
        file.sync_all()?;
        self.file.sync_all()?;
        let highest = closed(&self.path)?.1;
        if highest == NUMBER_MAX {
            return Err(io::Error::other("no higher number is left"));
        }
        let path = path_of(&self.path, highest + 1);
        // Unlike a rename, this never replaces a file, and the journal is never without one.
        std::fs::hard_link(&self.path, &path)?;
        if id(&std::fs::metadata(&path)?) != id(&found) {
            std::fs::remove_file(&path)?;
            return Err(io::Error::other("another file has its name"));
        }
        file::sync_directory(&self.path)?;
        let renamed = rename(next, &self.path);
        // A network's file system may report an error of what it has done.
        if id(&std::fs::metadata(&self.path)?) != id(&made) {
            renamed?;
        }
        Ok((file, path))
    }
}

/// Removes the number of a segment whose closing was interrupted, so that it is the open one again. A number is removed only while
/// the file has the journal's name too.
fn take_back(path: &str, open: &File) -> io::Result<()> {
    let open = id(&open.metadata()?);
    if id(&std::fs::metadata(path)?) != open {
        return Ok(());
    }
    for number in closed(path)?.0.into_iter().rev() {
        let segment = path_of(path, number);
        if id(&std::fs::metadata(&segment)?) != open {
            break;
        }
        std::fs::remove_file(&segment)?;
    }
    Ok(())
}

/// Refuses a journal whose newest closed segment is not there to be read: with an empty open one, it would be taken for a new journal.
pub(crate) fn check_newest(path: &str) -> Result<(), Error> {
    let (numbers, highest) = closed(path).map_err(|error| Error::new(attempt(path), error))?;
    if numbers.last().copied().unwrap_or(0) == highest {
        return Ok(());
    }
    let cause = format!(
        "its newest closed segment, {}, is missing",
        path_of(path, highest)
    );
    Err(Error::new(attempt(path), cause).advise("put it back (decompressed, if it was compressed)"))
}

/// The attempt that errors about opening name.
pub(crate) fn attempt(path: &str) -> String {
    format!("cannot open the journal {path}")
}

/// Reads the end of a journal, as far as it is needed. Returns the state, the length of the whole lines of the open segment, and the
/// bytes behind them.
pub(crate) fn read_end<T: Default>(
    path: &str,
    segments: &Segments,
    take: Take<T>,
    enough: Enough<T>,
) -> Result<(T, u64, Vec<u8>), Error> {
    let attempt = attempt(path);
    let mut stretch = file::TAIL_BYTES;
    loop {
        let mut state = T::default();
        let mut lines = segments.tail(stretch)?;
        let taken = &mut |line: &str| take(&mut state, line);
        let tail = read(&mut lines, taken, &attempt)?;
        let (whole, found) = (lines.whole, lines.bytes() > 0 || !tail.is_empty());
        // It is asked even if there is no more to read: it may refuse.
        let enough = (whole || found) && enough(&state, whole)?;
        if enough || whole {
            return Ok((state, lines.end(), tail));
        }
        stretch = stretch.saturating_mul(file::TAIL_LONGER);
    }
}

/// Advice when the remains of a failed write could not be truncated.
const RAGGED: &str = "the file could not be truncated either: it may end in a line that does not count; the next start or append tries again";

/// Advice when a journal is lost to its writer.
const LOST: &str =
    "this run ends; put the file with all reports back under its name, and start again";

/// Why a segment is not closed: its number would be given to a name elsewhere.
pub(crate) const IS_LINK: &str = "it is a symbolic link; name the file itself";

/// Advice when a journal's path names no file.
const MOVED: &str = "move it back under its name: nothing is published until then; for another journal, start again with another file name";

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

/// Opens or creates the open segment, and locks it.
fn open_locked(path: &str, attempt: &str) -> Result<File, Error> {
    loop {
        let failed = |error: io::Error| Error::new(attempt, error);
        let file = open_to_append(path).map_err(failed)?;
        lock(&file, attempt)?;
        // Another process may have closed it meanwhile.
        let named = std::fs::metadata(path).map_err(failed)?;
        if id(&named) == id(&file.metadata().map_err(failed)?) {
            return Ok(file);
        }
    }
}

fn lock(file: &File, attempt: &str) -> Result<(), Error> {
    let until = Instant::now() + LOCK_WAIT;
    let mut locked = file.try_lock();
    while matches!(locked, Err(TryLockError::WouldBlock)) && Instant::now() < until {
        std::thread::sleep(LOCK_WAIT / 50);
        locked = file.try_lock();
    }
    locked.map_err(|error| match error {
        TryLockError::WouldBlock => Error::new(attempt, "another process is writing to it")
            .advise("stop that process, or name another file"),
        TryLockError::Error(error) => Error::new(attempt, format!("it cannot be locked: {error}"))
            .advise("name a file on a local disk"),
    })
}

/// Passes every whole line to `take`. Returns the bytes behind the last one.
fn read(
    lines: &mut Reading,
    take: &mut dyn FnMut(&str) -> Result<(), String>,
    attempt: &str,
) -> Result<Vec<u8>, Error> {
    loop {
        let Some(line) = lines.next_line().map_err(|error| error.advise(UNCHANGED))? else {
            return Ok(Vec::new());
        };
        let (number, whole) = (line.number, line.whole);
        let text = line.text.map_err(str::to_owned);
        let taken = match whole {
            true => text.and_then(&mut *take),
            false if lines.is_last() => return Ok(lines.take_line()),
            false => Err("it is cut off, in a closed segment".to_owned()),
        };
        taken.map_err(|why| {
            let place = lines.place(number);
            Error::new(attempt, format!("{place}: {why}")).advise(UNCHANGED)
        })?;
    }
}

/// Moves `tail` from the end of the journal, whose whole lines have `bytes` bytes, to `PATH.torn`, as a line of its own. It
/// is on the disk there before the journal is truncated.
fn move_tail(path: &str, file: &File, bytes: u64, tail: &[u8]) -> Result<(), Error> {
    let torn = format!("{path}.torn");
    let attempt = format!(
        "cannot move the end of the journal {path}, left by an interrupted write, to {torn}"
    );
    let failed = |error: io::Error| {
        Error::new(&attempt, error).advise("resolve that and start again; nothing was lost")
    };
    let to = open_to_append(&torn).map_err(failed)?;
    let before = to.metadata().map_err(failed)?.len();
    let mut last = [b'\n'];
    if before > 0 {
        to.read_exact_at(&mut last, before - 1).map_err(failed)?;
    }
    // A process that ended during the move has left a line without its end.
    let separator: &[u8] = if last == *b"\n" { b"" } else { b"\n" };
    let moved = [separator, tail, b"\n"].concat();
    write(&to, before, &moved).map_err(|error| failed(error.cause))?;
    file::sync_directory(&torn).map_err(failed)?;
    cut(file, bytes).map_err(failed)
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
    file::check_size(before + bytes.len() as u64)
        .and_then(|()| file.write_all(bytes))
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
        fn open(&self) -> Result<(Journal, usize, Vec<String>), Error> {
            let (journal, lines, torn) = Journal::open(&self.path(), &keep, &all)?;
            Ok((journal, torn, lines))
        }
    }

    fn keep(lines: &mut Vec<String>, line: &str) -> Result<(), String> {
        lines.push(line.to_owned());
        match line {
            "bad" => Err("it is bad".to_owned()),
            _ => Ok(()),
        }
    }

    fn all(_: &Vec<String>, whole: bool) -> Result<bool, Error> {
        Ok(whole)
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
        assert_eq!((torn, lines.len()), (0, 0));
        for line in ["one", "", "zwölf"] {
            journal.append(&[line]).unwrap();
        }
        assert_eq!(scratch.bytes(), "one\n\nzwölf\n".as_bytes());
        drop(journal);
        let (mut journal, torn, lines) = scratch.open().unwrap();
        assert_eq!(
            (torn, lines),
            (0, ["one", "", "zwölf"].map(str::to_owned).to_vec())
        );
        journal.append(&["four"]).unwrap();
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
            assert_eq!(torn, tail.len());
            let moved = [tail, b"\n"].concat();
            let moved = if tail.is_empty() { tail } else { &moved };
            assert_eq!(
                (scratch.bytes(), scratch.torn()),
                (kept.to_vec(), moved.to_vec())
            );
            let whole = std::str::from_utf8(kept).unwrap();
            assert_eq!(lines, whole.lines().collect::<Vec<_>>());
            journal.append(&["after"]).unwrap();
            drop(journal);
            let (_, torn, lines) = scratch.open().unwrap();
            assert_eq!((torn, lines.last().unwrap().as_str()), (0, "after"));
            assert_eq!(scratch.bytes(), [kept, b"after\n"].concat());
            assert_eq!(scratch.torn(), moved);
        }
    }

    #[test]
    fn an_end_of_nul_bytes_or_half_characters_is_moved_too_below_what_was_moved_before() {
        let scratch = Scratch::with(b"one\ntw\0\0\0");
        let (_, torn, lines) = scratch.open().unwrap();
        assert_eq!((torn, lines), (5, vec!["one".to_owned()]));
        assert_eq!(
            (scratch.bytes(), scratch.torn()),
            (b"one\n".to_vec(), b"tw\0\0\0\n".to_vec())
        );
        std::fs::write(scratch.path(), b"one\nzw\xc3").unwrap();
        let (_, torn, _) = scratch.open().unwrap();
        assert_eq!(scratch.torn(), b"tw\0\0\0\nzw\xc3\n");
        // As a process leaves it that is killed during the move.
        std::fs::write(scratch.path() + ".torn", "t").unwrap();
        std::fs::write(scratch.path(), "one\ntw").unwrap();
        scratch.open().unwrap();
        assert_eq!(scratch.torn(), b"t\ntw\n");
        assert_eq!(torn, 3);
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
            let error = scratch.open().unwrap_err().to_string();
            let attempt = format!("cannot open the journal {}", scratch.path());
            assert!(
                error.starts_with(&attempt) && error.contains(part),
                "{error}"
            );
            assert_eq!((scratch.bytes(), scratch.files()), (bytes.to_vec(), 1));
        }
    }

    #[test]
    fn a_rename_that_took_effect_and_reports_an_error_costs_nothing() {
        let scratch = Scratch::new();
        let (mut journal, _, _) = scratch.open().unwrap();
        journal.append(&["one"]).unwrap();
        let failed = || Err(io::Error::other("the connection was lost"));
        let closed = journal.close_by(|_, _| failed());
        assert!(closed.unwrap_err().to_string().contains("the same file"));
        let segment = path_of(&scratch.path(), 1);
        let closed =
            journal.close_by(|next, path| std::fs::rename(next, path).and_then(|()| failed()));
        assert_eq!(closed.unwrap(), Some(segment.clone()));
        journal.append(&["two"]).unwrap();
        assert_eq!(scratch.bytes(), b"two\n");
        // Whatever goes wrong later, the only name of a file is not removed.
        let closed = File::open(&segment).unwrap();
        take_back(&scratch.path(), &closed).unwrap();
        assert_eq!(std::fs::read(&segment).unwrap(), b"one\n");
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
        first.append(&["two"]).unwrap();
        drop(first);
        let (_second, torn, lines) = scratch.open().unwrap();
        assert_eq!((torn, lines.len()), (0, 2));
    }

    #[test]
    fn a_refused_start_lets_go_of_the_lock() {
        let scratch = Scratch::with(b"one\n");
        let no = |_: &Vec<String>, _: bool| Err(Error::new("no", "it is not liked"));
        let refused = Journal::open(&scratch.path(), &keep, &no);
        assert!(refused.is_err() && scratch.open().is_ok());
    }

    #[test]
    fn what_a_failed_write_left_is_cut_off_before_the_next_line() {
        let scratch = Scratch::new();
        let (mut journal, ..) = scratch.open().unwrap();
        journal.append(&["one"]).unwrap();
        // As if truncating the file had failed as well.
        std::fs::write(scratch.path(), b"one\nhal").unwrap();
        journal.ragged = true;
        journal.append(&["two"]).unwrap();
        assert_eq!(scratch.bytes(), b"one\ntwo\n");
        assert_eq!(journal.bytes, 8);
    }

    /// Asserts that nothing is appended, and whether that is so for good.
    fn assert_refused(journal: &mut Journal, path: &str, says: &str, lost: bool) {
        let error = journal.append(&["three"]).unwrap_err().to_string();
        assert!(error.contains(path) && error.contains(says), "{error}");
        assert_eq!(journal.lost, lost, "{error}");
    }

    #[test]
    fn a_file_that_somebody_else_changed_replaced_or_removed_is_not_written_to() {
        let changed = "the file was changed by another program";
        for bytes in ["", "one\ntwo\n"] {
            let scratch = Scratch::with(b"one\n");
            let (mut journal, ..) = scratch.open().unwrap();
            std::fs::write(scratch.path(), bytes).unwrap();
            assert_refused(&mut journal, &scratch.path(), changed, true);
            assert_eq!(scratch.bytes(), bytes.as_bytes());
        }
        for new in [None, Some("one\n"), Some("")] {
            let scratch = Scratch::with(b"one\n");
            let (mut journal, ..) = scratch.open().unwrap();
            std::fs::remove_file(scratch.path()).unwrap();
            if let Some(new) = new {
                std::fs::write(scratch.path(), new).unwrap();
            }
            let removed = "the file was removed by another program";
            assert_refused(&mut journal, &scratch.path(), removed, true);
        }
        let scratch = Scratch::new();
        let (mut journal, ..) = scratch.open().unwrap();
        std::fs::remove_dir_all(&scratch.dir).unwrap();
        assert_refused(&mut journal, &scratch.path(), "the file was removed", true);
    }

    #[test]
    fn a_file_that_was_moved_is_not_written_to_until_it_is_back_under_its_name() {
        let scratch = Scratch::with(b"one\n");
        let (mut journal, ..) = scratch.open().unwrap();
        let aside = scratch.file("journal.1");
        std::fs::rename(scratch.path(), &aside).unwrap();
        for _ in 0..2 {
            let moved = "its name no longer leads to it";
            assert_refused(&mut journal, &scratch.path(), moved, false);
        }
        std::fs::rename(&aside, scratch.path()).unwrap();
        journal.append(&["two"]).unwrap();
        // As logrotate does it, which creates another file.
        std::fs::rename(scratch.path(), &aside).unwrap();
        std::fs::write(scratch.path(), "").unwrap();
        let replaced = "another one has its name";
        assert_refused(&mut journal, &scratch.path(), replaced, true);
        assert_eq!(scratch.bytes(), b"");
        assert_eq!(std::fs::read(&aside).unwrap(), b"one\ntwo\n");
    }

    #[test]
    fn a_lock_that_is_free_within_a_second_is_waited_for() {
        let scratch = Scratch::with(b"one\n");
        // Another open file of the same process locks like another process.
        let other = open_to_append(&scratch.path()).unwrap();
        lock(&other, "test").unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("0.2")
            .stdin(other.try_clone().unwrap())
            .spawn()
            .unwrap();
        // The child has the lock now, as the child of a killed process may for a moment.
        drop(other);
        let opened = scratch.open().map(drop);
        child.wait().unwrap();
        opened.unwrap();
    }

    #[test]
    fn only_the_end_of_a_long_file_is_read_and_as_much_as_its_opener_wants() {
        let line = |number: usize| format!("{number:01000}");
        let count = 20_000;
        let text: String = (0..count).map(|number| line(number) + "\n").collect();
        let scratch = Scratch::with(format!("bad\n{text}{}", "t".repeat(2 << 20)).as_bytes());
        let want = |least: usize| {
            move |lines: &Vec<String>, whole: bool| Ok(whole || lines.len() >= least)
        };
        // The file ends in more bytes than the first stretch has.
        let (journal, lines, torn) = Journal::open(&scratch.path(), &keep, &want(1)).unwrap();
        assert_eq!(torn, 2 << 20);
        assert_eq!(journal.bytes, 4 + text.len() as u64);
        drop(journal);
        let expected: Vec<String> = (0..count).map(line).collect();
        assert!(expected.ends_with(&lines) && lines.len() < 10_000);
        let (journal, lines, _) = Journal::open(&scratch.path(), &keep, &want(1)).unwrap();
        drop(journal);
        assert!(expected.ends_with(&lines) && (200..2_000).contains(&lines.len()));
        let (journal, lines, _) = Journal::open(&scratch.path(), &keep, &want(5_000)).unwrap();
        drop(journal);
        assert!(expected.ends_with(&lines) && (5_000..count).contains(&lines.len()));
        let error = Journal::open(&scratch.path(), &keep, &want(count)).unwrap_err();
        assert!(error.to_string().contains("line 1: it is bad"), "{error}");
        std::fs::write(scratch.path(), format!("{text}bad\n")).unwrap();
        let error = Journal::open(&scratch.path(), &keep, &want(1)).unwrap_err();
        let place = format!("the line at byte {}: it is bad", text.len());
        assert!(error.to_string().contains(&place), "{error}");
    }

    #[test]
    #[should_panic(expected = "a line holds no newline")]
    fn two_lines_are_not_one() {
        let scratch = Scratch::new();
        let (mut journal, ..) = scratch.open().unwrap();
        let _ = journal.append(&["one\ntwo"]);
    }

    #[test]
    fn what_is_no_file_is_no_journal() {
        let scratch = Scratch::new();
        let missing = scratch.file("none/journal");
        for path in ["/dev/null", scratch.dir.to_str().unwrap(), &missing] {
            let error = Journal::open(path, &keep, &all).unwrap_err();
            assert!(error.to_string().contains(path), "{error}");
        }
        assert_eq!(scratch.files(), 0);
    }
}
