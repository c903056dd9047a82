//! Reads the end of a long file of lines, and not the rest of it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};

/// The first stretch at the end of a file that is read, in bytes.
pub(crate) const BYTES: u64 = 256 << 10;
/// Factor: how much longer the next stretch is, if one was too short.
pub(crate) const LONGER: u64 = 4;
/// Size of the read buffer in bytes.
const READ_BYTES: usize = 64 * 1024;

/// Opens a file at the first line that begins within its last `bytes` bytes. Returns where that is, in bytes from the
/// beginning of the file: 0 if the whole file will be read, and the file's length if no line begins there.
pub(crate) fn open(mut file: &File, bytes: u64) -> io::Result<(u64, BufReader<&File>)> {
    let from = file.metadata()?.len().saturating_sub(bytes);
    // The byte before tells whether a line begins there.
    file.seek(SeekFrom::Start(from.saturating_sub(1)))?;
    let mut reader = BufReader::with_capacity(READ_BYTES, file);
    let skipped = match from {
        0 => 0,
        _ => reader.skip_until(b'\n')?.saturating_sub(1),
    };
    Ok((from + skipped as u64, reader))
}

/// How a message names line `number` of those that begin at byte `begin`, the one at byte `at`.
pub(crate) fn place(begin: u64, at: u64, number: u64) -> String {
    match begin {
        0 => format!("line {number}"),
        _ => format!("the line at byte {at}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn the_last_bytes_begin_at_the_next_line_and_at_the_first_if_they_are_all() {
        let path = std::env::temp_dir().join(format!("rsoracle-tail-{}", std::process::id()));
        let mut file = File::options()
            .read(true)
            .append(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all(b"one\ntwo\nthree\nfo").unwrap();
        let rest = |bytes: u64| {
            let (begin, mut reader) = open(&file, bytes).unwrap();
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            (begin, text)
        };
        let all = "one\ntwo\nthree\nfo";
        for bytes in 0..20 {
            let from = all.len().saturating_sub(bytes);
            let starts = |at: &usize| *at == 0 || all.as_bytes()[at - 1] == b'\n';
            let begin = (from..all.len()).find(starts).unwrap_or(all.len());
            let expected = (begin as u64, all[begin..].to_owned());
            assert_eq!(rest(bytes as u64), expected, "{bytes}");
        }
    }
}
