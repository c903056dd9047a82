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

/// Bytes that are read from a file at once.
const READ_BYTES: usize = 64 * 1024;
/// Fewest digits of a segment's number.
const DIGITS: usize = 6;

/// Device and inode of a file.
pub type Id = (u64, u64);

/// The identity of a file.
pub fn id(of: &Metadata) -> Id {
    (of.dev(), of.ino())
}

/// The path of a closed segment.
pub fn path_of(journal: &str, number: u64) -> String {
    format!("{journal}.{number:0DIGITS$}")
}

/// The numbers of the closed segments that are there, in their order, and the highest number of all. The latter counts also what
/// has a further ending, such as a compressed segment. A folder that may not be listed shows none.
pub fn closed(journal: &str) -> io::Result<(Vec<u64>, u64)> {
    let path = Path::new(journal);
    let begin = format!("{}.", path.file_name().unwrap_or_default().display());
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok((Vec::new(), 0)),
        entries => entries?,
    };
    let (mut numbers, mut highest) = (Vec::new(), 0);
    for entry in entries {
        let name = entry?.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(&begin)) else {
            continue;
        };
        let digits = rest.split('.').next().unwrap_or(rest);
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.parse::<u64>();
        let number = number.ok().filter(|_| plain && digits.len() >= DIGITS);
        highest = highest.max(number.unwrap_or(0));
        numbers.extend(number.filter(|_| digits == rest));
    }
    numbers.sort_unstable();
    Ok((numbers, highest))
}

/// The number of the closed segment that is this file.
pub fn number_of(journal: &str, file: Id) -> io::Result<Option<u64>> {
    let mut numbers = closed(journal)?.0.into_iter().rev();
    let is_file = |number: &u64| {
        std::fs::metadata(path_of(journal, *number)).is_ok_and(|found| id(&found) == file)
    };
    Ok(numbers.find(is_file))
}

/// The file that goes on after the closed segment with this number (0: the first one), and its number if it is closed too.
pub fn after(journal: &str, number: u64) -> io::Result<(File, Option<u64>)> {
    loop {
        let open = File::open(journal);
        let open_id = open.as_ref().ok().map(|open| open.metadata());
        let open_id = open_id.transpose()?.map(|found| id(&found));
        let next = closed(journal)?.0.into_iter().find(|next| *next > number);
        let Some(next) = next else {
            return Ok((open?, None));
        };
        match File::open(path_of(journal, next)) {
            // It was removed meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            file => {
                let file = file?;
                let is_open = Some(id(&file.metadata()?)) == open_id;
                return Ok((file, Some(next).filter(|_| !is_open)));
            }
        }
    }
}

/// A file of a journal.
struct Part {
    path: String,
    bytes: u64,
    /// The open segment, which may get another name at any moment.
    file: Option<File>,
}

/// The files of a journal that are there, in their order.
pub struct Segments {
    path: String,
    parts: Vec<Part>,
    /// Whether it can be read from its end: it is no pipe.
    pub seekable: bool,
}

impl Segments {
    /// Finds the files of the journal at `path`. An error means that there are none, or that one is missing between others.
    pub fn open(path: &str) -> Result<Segments, Error> {
        let failed = |error| Error::new(format!("cannot read {path}"), error);
        loop {
            let before = closed(path).map_err(failed);
            let file = File::open(path).map_err(failed);
            // What was closed between the two would be missing.
            if closed(path).map_err(failed) != before {
                continue;
            }
            let has_parts = before.is_ok_and(|(numbers, _)| !numbers.is_empty());
            return match file {
                Err(_) if has_parts && !Path::new(path).exists() => Segments::of(path, None),
                file => Segments::of(path, Some(file?)),
            };
        }
    }

    /// The same, where the caller has the open segment and prevents that it is closed.
    pub fn of(path: &str, file: Option<File>) -> Result<Segments, Error> {
        let failed = |error| Error::new(format!("cannot read {path}"), error);
        let open = file.map(|file| file.metadata().map(|found| (found, file)));
        let open = open.transpose().map_err(failed)?;
        let seekable = open.as_ref().is_none_or(|(found, _)| found.is_file());
        let (numbers, highest) = match seekable {
            true => closed(path).map_err(failed)?,
            false => (Vec::new(), 0),
        };
        let mut parts = Vec::new();
        let mut next = numbers.first().copied().unwrap_or(highest + 1);
        for number in numbers.into_iter().chain([highest + 1]) {
            if number != next {
                let cause = format!("the segment {} is missing", path_of(path, next));
                return Err(Error::new(format!("cannot read {path}"), cause).advise(
                    "put it back (decompressed, if it was compressed), or move the older ones away too; each segment can be read by its own name",
                ));
            }
            next += 1;
            let path = path_of(path, number);
            if number <= highest {
                let found = std::fs::metadata(&path).map_err(failed)?;
                let is_open = |(open, _): &(Metadata, File)| id(open) == id(&found);
                if !open.as_ref().is_some_and(is_open) {
                    let (bytes, file) = (found.len(), None);
                    parts.push(Part { path, bytes, file });
                }
            }
        }
        parts.extend(open.map(|(found, file)| Part {
            path: path.to_owned(),
            bytes: found.len(),
            file: Some(file),
        }));
        Ok(Segments {
            path: path.to_owned(),
            parts,
            seekable,
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
        let open = |part: &Part| {
            let file = part.file.as_ref().map(File::try_clone).transpose();
            let file =
                file.map_err(|error| Error::new(format!("cannot read {}", part.path), error));
            Ok((part.path.clone(), file?))
        };
        let rest = self.parts[first..].iter().map(open);
        let mut reading = Reading {
            name: self.path.clone(),
            lines: Lines::new(Box::new(io::empty()), &self.path),
            rest: rest.collect::<Result<_, Error>>()?,
            is_several: self.parts.len() > 1,
            whole: false,
            begin: 0,
            at: 0,
            before: 0,
        };
        reading.go_on(left)?;
        reading.whole = first == 0 && reading.begin == 0;
        Ok(reading)
    }
}

/// The lines of the files of a journal, from some line on.
pub struct Reading {
    /// The file that is being read.
    pub name: String,
    lines: Lines<Box<dyn BufRead>>,
    /// The files behind it.
    rest: VecDeque<(String, Option<File>)>,
    /// Whether the journal has several files.
    pub is_several: bool,
    /// Whether it begins with the first line that is there.
    pub whole: bool,
    /// Where the first line that is read begins in its file, and where the last one does.
    begin: u64,
    at: u64,
    /// Bytes of the complete lines of the files before it.
    before: u64,
}

impl Reading {
    /// Reads standard input.
    pub fn standard_input() -> Reading {
        let name = "standard input";
        Reading {
            name: name.to_owned(),
            lines: Lines::new(Box::new(io::stdin().lock()), name),
            rest: VecDeque::new(),
            is_several: false,
            whole: true,
            begin: 0,
            at: 0,
            before: 0,
        }
    }

    /// The next line; `None` at the end. Its number counts the lines read of its file. An error is as in [`Lines::next_line`].
    pub fn next_line(&mut self) -> Result<Option<Line<&str>>, Error> {
        while !self.rest.is_empty() && self.lines.is_over()? {
            self.go_on(u64::MAX)?;
        }
        self.at = self.end();
        self.lines.next_line()
    }

    /// Goes on with the next file, within its last `bytes` bytes.
    fn go_on(&mut self, bytes: u64) -> Result<(), Error> {
        let Some((name, file)) = self.rest.pop_front() else {
            return Ok(());
        };
        let failed = |error| Error::new(format!("cannot read {name}"), error);
        let file = file.map_or_else(|| File::open(&name), Ok).map_err(failed)?;
        let (begin, input) = tail(file, bytes).map_err(failed)?;
        self.before += self.lines.bytes();
        self.begin = begin;
        self.lines = Lines::new(Box::new(input), &name);
        self.name = name;
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

/// Opens a file at the first line that begins within its last `bytes` bytes. Returns where that is, in bytes from the beginning of the
/// file: 0 if the whole file will be read, and the file's length if no line begins there.
fn tail(mut file: File, bytes: u64) -> io::Result<(u64, BufReader<File>)> {
    let from = file.metadata()?.len().saturating_sub(bytes);
    // The byte before tells whether a line begins there.
    let sought = file.seek(SeekFrom::Start(from.saturating_sub(1)));
    let mut reader = BufReader::with_capacity(READ_BYTES, file);
    let skipped = match from {
        // What can only be read once is at its beginning anyway.
        0 => 0,
        _ => {
            sought?;
            reader.skip_until(b'\n')?.saturating_sub(1)
        }
    };
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
        for other in ["j.12", "j.newest", "j.000012x", "jj.000013", "j.torn", "k"] {
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
    fn a_file_with_both_names_is_the_open_one() {
        let folder = Folder::new("both");
        folder.write("j.000001", "one\n");
        folder.write("j", "two\n");
        std::fs::hard_link(folder.path(), path_of(&folder.path(), 2)).unwrap();
        assert_eq!(
            folder.read(99).unwrap().1,
            ["j.000001: line 1 one", "j: line 1 two"]
        );
        assert_eq!(after(&folder.path(), 0).unwrap().1, Some(1));
        assert_eq!(after(&folder.path(), 1).unwrap().1, None);
        let (file, number) = after(&folder.path(), 2).unwrap();
        assert_eq!(number, None);
        let file = id(&file.metadata().unwrap());
        assert_eq!(number_of(&folder.path(), file).unwrap(), Some(2));
        assert_eq!(number_of(&folder.path(), (0, 0)).unwrap(), None);
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
