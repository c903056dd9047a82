//! The files of a journal: closed segments, `FILE.000001` and so on, and the open one, `FILE`. Together they are read as one journal.
//!
//! Whoever writes a journal closes a segment: its file gets a number as a second name, and then a new file takes the first one. So
//! `FILE` always exists, and a file with both names is still the open one.
//!
//! Invariant: lines are read in the order in which they were written, each once, also while a segment is being closed. The oldest
//! segments may be gone. One that is missing after another is an error.

use crate::error::Error;
use crate::lines::{Line, Lines};
use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::rc::Rc;

/// Bytes that are read from a file at once.
const READ_BYTES: usize = 64 * 1024;

/// Bytes of the ending of a closed segment: a dot, and exactly six digits. So no other number, such as a date, is taken for one.
const ENDING_BYTES: usize = 7;

/// The highest number of a closed segment.
pub const NUMBER_MAX: u64 = 999_999;

/// Device and inode of a file.
pub type Id = (u64, u64);

/// The identity of a file.
pub fn id(of: &Metadata) -> Id {
    (of.dev(), of.ino())
}

/// The path of a closed segment, which is beside the file itself if `journal` is a symbolic link.
pub fn path_of(journal: &str, number: u64) -> String {
    format!("{}.{number:06}", itself(journal))
}

/// What a symbolic link leads to; else the path as it is.
fn itself(journal: &str) -> String {
    let is_link = Path::new(journal).is_symlink();
    let file = is_link
        .then(|| std::fs::canonicalize(journal).ok())
        .flatten();
    file.map_or_else(|| journal.to_owned(), |file| file.display().to_string())
}

/// The journal and the number of the closed segment that would have this path; `None` for a path of another form.
pub fn part_of(path: &str) -> Option<(&str, u64)> {
    let (journal, digits) = path.rsplit_once('.')?;
    let is_number =
        digits.len() + 1 == ENDING_BYTES && digits.bytes().all(|digit| digit.is_ascii_digit());
    let number = digits.parse().ok().filter(|number| *number > 0)?;
    is_number.then_some((journal, number))
}

/// The numbers of the closed segments that are there, in their order, and the highest number of all. The latter counts also what
/// has a further ending, such as a compressed segment. The error of a folder that may not be listed names it.
pub fn closed(journal: &str) -> io::Result<(Vec<u64>, u64)> {
    let journal = itself(journal);
    let path = Path::new(&journal);
    let name = path.file_name().unwrap_or_default().display().to_string();
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let folder = folder.unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(folder).map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => {
            let what = format!("the folder {} may not be listed: {error}", folder.display());
            io::Error::new(error.kind(), what)
        }
        _ => error,
    });
    let (mut numbers, mut highest) = (Vec::new(), 0);
    for entry in entries? {
        let found = entry?.file_name().into_string().unwrap_or_default();
        let (segment, rest) = found
            .split_at_checked(name.len() + ENDING_BYTES)
            .unwrap_or_default();
        let Some((_, number)) = part_of(segment).filter(|(journal, _)| *journal == name) else {
            continue;
        };
        if rest.is_empty() {
            numbers.push(number);
        }
        if rest.is_empty() || rest.starts_with('.') {
            highest = highest.max(number);
        }
    }
    numbers.sort_unstable();
    Ok((numbers, highest))
}

/// The same for who only reads: a folder that may not be listed shows none. [`unlisted`] tells that.
pub fn seen(journal: &str) -> io::Result<(Vec<u64>, u64)> {
    match closed(journal) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok((Vec::new(), 0)),
        found => found,
    }
}

/// What whoever reads a journal says at the beginning if its closed segments are not seen, since their folder may not be listed.
pub fn unlisted(journal: &str) -> Option<Error> {
    // A closed segment that is read by its own name has none.
    let found = part_of(journal).is_none().then(|| closed(journal))?;
    let error = found.err()?;
    let attempt = format!("cannot look for closed segments of the journal {journal}");
    (error.kind() == ErrorKind::PermissionDenied).then(|| {
        Error::new(attempt, error).advise("older segments, if there are any, are not read")
    })
}

/// A file of a journal.
#[derive(Clone)]
struct Part {
    path: String,
    bytes: u64,
    /// The open segment, which may get another name at any moment.
    file: Option<Rc<File>>,
}

/// The files of a journal that are there, in their order.
pub struct Segments {
    parts: Vec<Part>,
    /// Whether it can be read from its end: it is no pipe.
    pub seekable: bool,
    /// What is to be said if closed segments are not seen.
    pub unlisted: Option<Error>,
}

impl Segments {
    /// Finds the files of the journal at `path`. An error means that there are none, or that one is missing between others.
    pub fn open(path: &str) -> Result<Segments, Error> {
        loop {
            let before = seen(path).ok();
            let file = File::open(path);
            // What was closed between the two would be missing.
            if seen(path).ok() == before {
                let has_closed = before.is_some_and(|(numbers, _)| !numbers.is_empty());
                return match file {
                    Err(error) if error.kind() == ErrorKind::NotFound && has_closed => {
                        Segments::of(path, None)
                    }
                    file => Segments::of(path, Some(file.map_err(failed(path))?)),
                };
            }
        }
    }

    /// The same, where the caller has the open segment and prevents that it is closed.
    pub fn of(path: &str, file: Option<File>) -> Result<Segments, Error> {
        let open = file.as_ref().map(File::metadata).transpose();
        let open = open.map_err(failed(path))?;
        let seekable = open.as_ref().is_none_or(Metadata::is_file);
        let (numbers, highest) = match seekable {
            true => seen(path).map_err(failed(path))?,
            false => (Vec::new(), 0),
        };
        let first = numbers.first().copied().unwrap_or(highest + 1);
        if let Some(missing) = (first..=highest).find(|it| numbers.binary_search(it).is_err()) {
            let cause = format!("the segment {} is missing", path_of(path, missing));
            return Err(Error::new(format!("cannot read {path}"), cause).advise(
                "put it back (decompressed, if it was compressed), or move the older ones away too; each segment can be read by its own name",
            ));
        }
        let mut parts = Vec::new();
        for path in numbers.into_iter().map(|number| path_of(path, number)) {
            let found = std::fs::metadata(&path).map_err(failed(&path))?;
            if open.as_ref().is_none_or(|open| id(open) != id(&found)) {
                let (bytes, file) = (found.len(), None);
                parts.push(Part { path, bytes, file });
            }
        }
        parts.extend(open.zip(file).map(|(open, file)| Part {
            path: path.to_owned(),
            bytes: open.len(),
            file: Some(Rc::new(file)),
        }));
        Ok(Segments {
            parts,
            seekable,
            unlisted: seekable.then(|| unlisted(path)).flatten(),
        })
    }

    /// Their length together when they were found; 0 for what has none, such as a pipe.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// Reads from the first line that begins within the last `bytes` bytes.
    pub fn tail(&self, bytes: u64) -> Result<Reading, Error> {
        let (mut left, mut first) = (bytes, self.parts.len().saturating_sub(1));
        while first > 0 && left > self.parts[first].bytes {
            left -= self.parts[first].bytes;
            first -= 1;
        }
        let mut reading = Reading::new("", Box::new(io::empty()));
        reading.rest = self.parts[first..].iter().cloned().collect();
        reading.is_several = self.parts.len() > 1;
        reading.go_on(left)?;
        reading.whole = first == 0 && reading.begin == 0;
        Ok(reading)
    }
}

/// The lines of the files of a journal, from some line on.
pub struct Reading {
    /// The file that is being read.
    name: String,
    lines: Lines<Box<dyn BufRead>>,
    /// The files behind it.
    rest: VecDeque<Part>,
    /// Whether the journal has several files.
    is_several: bool,
    /// Whether it begins with the first line that is there.
    pub whole: bool,
    /// Where the first line that is read begins in its file, and where the last one does.
    begin: u64,
    at: u64,
    /// Bytes of the complete lines of the files before it.
    before: u64,
}

impl Reading {
    fn new(name: &str, input: Box<dyn BufRead>) -> Reading {
        Reading {
            name: name.to_owned(),
            lines: Lines::new(input, name),
            rest: VecDeque::new(),
            is_several: false,
            whole: true,
            begin: 0,
            at: 0,
            before: 0,
        }
    }

    /// Reads standard input.
    pub fn standard_input() -> Reading {
        Reading::new("standard input", Box::new(io::stdin().lock()))
    }

    /// The next line; `None` at the end. Its number counts the lines read of its file. An error is as in [`Lines::next_line`].
    pub fn next_line(&mut self) -> Result<Option<Line<&str>>, Error> {
        while !self.is_last() && self.lines.is_over()? {
            self.go_on(u64::MAX)?;
        }
        self.at = self.end();
        self.lines.next_line()
    }

    /// Goes on with the next file, within its last `bytes` bytes.
    fn go_on(&mut self, bytes: u64) -> Result<(), Error> {
        if let Some(Part { path, file, .. }) = self.rest.pop_front() {
            let file = file.map_or_else(|| File::open(&path), |file| file.try_clone());
            let (begin, input) = file
                .and_then(|file| tail(file, bytes))
                .map_err(failed(&path))?;
            self.before += self.lines.bytes();
            self.begin = begin;
            self.lines = Lines::new(Box::new(input), &path);
            self.name = path;
        }
        Ok(())
    }

    /// Whether the last file is being read.
    pub fn is_last(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes of the complete lines so far, including newlines.
    pub fn bytes(&self) -> u64 {
        self.before + self.lines.bytes()
    }

    /// Where the complete lines so far end in the file that is being read.
    pub fn end(&self) -> u64 {
        self.begin + self.lines.bytes()
    }

    /// Takes the bytes of the current line out of the buffer.
    pub fn take_line(&mut self) -> Vec<u8> {
        self.lines.take_line()
    }

    /// How a message names the line with this number that was read last: by its number if its file was read from the beginning, else
    /// by the position of its first byte. Of several files, the file is named too.
    pub fn place(&self, number: u64) -> String {
        let line = match self.begin {
            0 => format!("line {number}"),
            _ => format!("the line at byte {}", self.at),
        };
        match self.is_several {
            true => format!("{}: {line}", self.name),
            false => line,
        }
    }
}

/// The error about a file that cannot be read.
fn failed(path: &str) -> impl Fn(io::Error) -> Error {
    move |error| Error::new(format!("cannot read {path}"), error)
}

/// Opens a file at the first line that begins within its last `bytes` bytes. Returns where that is, in bytes from the beginning of the
/// file: 0 if the whole file will be read, and the file's length if no line begins there.
fn tail(mut file: File, bytes: u64) -> io::Result<(u64, BufReader<File>)> {
    let from = file.metadata()?.len().saturating_sub(bytes);
    // The byte before tells whether a line begins there.
    let sought = file.seek(SeekFrom::Start(from.saturating_sub(1)));
    let mut reader = BufReader::with_capacity(READ_BYTES, file);
    // What can only be read once is at its beginning anyway.
    if from == 0 {
        return Ok((0, reader));
    }
    sought?;
    let skipped = reader.skip_until(b'\n')?.saturating_sub(1);
    Ok((from + skipped as u64, reader))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::path::PathBuf;

    /// A test's own folder; removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let name = format!("rsoracle-segments-{name}-{}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&folder).unwrap();
            Folder(folder)
        }

        fn path(&self) -> String {
            self.0.join("j").to_str().unwrap().to_owned()
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.0.join(name), text).unwrap();
        }

        fn read(&self, bytes: u64) -> Result<(bool, Vec<String>), String> {
            let told = |error: Error| error.to_string();
            let segments = Segments::open(&self.path()).map_err(told)?;
            let mut reading = segments.tail(bytes).map_err(told)?;
            let mut found = Vec::new();
            while let Some(line) = reading.next_line().map_err(told)? {
                let (number, text) = (line.number, line.text.unwrap().to_owned());
                let place = reading.place(number).replace(&self.path(), "j");
                found.push(format!("{place} {text}"));
            }
            Ok((reading.whole, found))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn segments_are_read_in_order_and_from_the_end_as_far_as_is_asked() {
        let folder = Folder::new("order");
        folder.write("j.000009", "one\ntwo\n");
        folder.write("j.000010", "");
        folder.write("j.000011", "three\n");
        folder.write("j", "four\nfi");
        for other in [
            "j.12",
            "j.newest",
            "j.000012x",
            "jj.000013",
            "j.torn",
            "k",
            "j.20261126",
            "j.000000",
            "j.18446744073709551615.gz",
            "j.+00012",
            "j.20261126.gz",
            "j.00001é",
        ] {
            folder.write(other, "other\n");
        }
        let all = [
            "j.000009: line 1 one",
            "j.000009: line 2 two",
            "j.000011: line 1 three",
            "j: line 1 four",
            "j: line 2 fi",
        ];
        for (bytes, whole, found) in [
            (u64::MAX, true, &all[..]),
            (21, true, &all),
            (13, false, &all[2..]),
            (7, false, &all[3..]),
        ] {
            let found = found.iter().map(|line| (*line).to_owned()).collect();
            assert_eq!(folder.read(bytes).unwrap(), (whole, found), "{bytes}");
        }
        let (whole, found) = folder.read(17).unwrap();
        assert_eq!((whole, found.len()), (false, 4));
        assert_eq!(found[0], "j.000009: the line at byte 4 two");
    }

    #[test]
    fn the_oldest_may_be_gone_and_one_that_is_missing_after_another_is_named() {
        let folder = Folder::new("missing");
        folder.write("j", "three\n");
        assert_eq!(folder.read(99).unwrap().1, ["line 1 three"]);
        folder.write("j.000002.gz", "compressed");
        folder.write("j.000003", "two\n");
        assert_eq!(folder.read(99).unwrap().1.len(), 2);
        folder.write("j.000001", "one\n");
        let error = folder.read(99).unwrap_err();
        assert!(error.contains("j.000002 is missing"), "{error}");
        folder.write("j.000002", "between\n");
        folder.write("j.000004.zst", "compressed");
        let error = folder.read(99).unwrap_err();
        assert!(error.contains("j.000004 is missing"), "{error}");
        std::fs::remove_file(folder.0.join("j.000004.zst")).unwrap();
        std::fs::remove_file(folder.path()).unwrap();
        assert_eq!(folder.read(99).unwrap().1.len(), 3);
    }

    #[test]
    fn a_link_to_a_journal_has_its_segments() {
        let folder = Folder::new("link");
        folder.write("it.000001", "one\n");
        folder.write("it", "two\n");
        std::os::unix::fs::symlink("it", folder.path()).unwrap();
        assert_eq!(folder.read(99).unwrap().1.len(), 2);
    }

    #[test]
    fn a_file_with_both_names_is_the_open_one() {
        let folder = Folder::new("both");
        folder.write("j.000001", "one\n");
        folder.write("j", "two\n");
        std::fs::hard_link(folder.path(), path_of(&folder.path(), 2)).unwrap();
        assert_eq!(
            folder.read(99).unwrap().1,
            ["j.000001: line 1 one", "j: line 1 two"]
        );
    }

    #[test]
    fn the_last_bytes_begin_at_the_next_line_and_at_the_first_if_they_are_all() {
        let folder = Folder::new("tail");
        let all = "one\ntwo\nthree\nfo";
        File::create(folder.path())
            .unwrap()
            .write_all(all.as_bytes())
            .unwrap();
        let rest = |bytes: u64| {
            let (begin, mut reader) = tail(File::open(folder.path()).unwrap(), bytes).unwrap();
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            (begin, text)
        };
        for bytes in 0..20 {
            let from = all.len().saturating_sub(bytes);
            let starts = |at: &usize| *at == 0 || all.as_bytes()[at - 1] == b'\n';
            let begin = (from..all.len()).find(starts).unwrap_or(all.len());
            let expected = (begin as u64, all[begin..].to_owned());
            assert_eq!(rest(bytes as u64), expected, "{bytes}");
        }
    }
}
