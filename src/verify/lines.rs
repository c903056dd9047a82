//! Reads a journal or standard input line by line. Memory is bounded by the longest line.

use crate::error::Error;
use crate::files::{no_journal, unseen};
use rsoracle_proof::limits::{COLLECTORS_MAX, SAMPLES_MAX};
use std::io::{BufRead, Read};

/// Longest line of a journal in bytes: 4096 collectors with 1000 samples each, at up to 128 bytes per sample. A longer one
/// is an error.
pub const JOURNAL_LINE_BYTES_MAX: usize = 512 * 1024 * 1024;

const _: () =
    assert!(COLLECTORS_MAX as usize * SAMPLES_MAX as usize * 128 <= JOURNAL_LINE_BYTES_MAX);

/// One line of a file or of standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<T> {
    /// Its number, from 1.
    pub number: u64,
    /// Its text without the newline, or why it is not plain text.
    pub text: Result<T, &'static str>,
    /// Whether it ends with a newline. Only the last line may lack one, if it was copied without it or a write was interrupted.
    pub whole: bool,
}

/// An iterator over the lines of a file or of standard input, which reuses one buffer.
#[derive(Debug)]
pub struct Lines<R> {
    input: R,
    name: String,
    bytes_max: usize,
    line: Vec<u8>,
    /// Number of lines so far.
    number: u64,
    /// Bytes of the complete lines so far, including newlines.
    bytes: u64,
    ended: bool,
}

impl<R: BufRead> Lines<R> {
    /// Reads lines from `input`; `name` is its name in errors.
    pub fn new(input: R, name: &str) -> Lines<R> {
        Lines {
            input,
            name: name.to_owned(),
            bytes_max: JOURNAL_LINE_BYTES_MAX,
            line: Vec::new(),
            number: 0,
            bytes: 0,
            ended: false,
        }
    }

    /// Bytes of the complete lines so far, including newlines.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes the bytes of the current line out of the buffer.
    pub fn take_line(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.line)
    }

    /// Whether there is no more to read.
    pub fn is_over(&mut self) -> Result<bool, Error> {
        let rest = self.input.fill_buf().map(|rest| rest.is_empty());
        let failed = |error| Error::new(format!("cannot read {}", self.name), error);
        Ok(self.ended || rest.map_err(failed)?)
    }

    /// The next line; `None` at the end and after an error. An error means that reading failed, that a line is longer than
    /// [`JOURNAL_LINE_BYTES_MAX`], or that the file is known to be no journal.
    pub fn next_line(&mut self) -> Result<Option<Line<&str>>, Error> {
        if self.ended {
            return Ok(None);
        }
        self.line.clear();
        let number = self.number + 1;
        let failed = |cause: String| Error::new(format!("cannot read {}", self.name), cause);
        // One more byte for the newline of the longest line.
        let mut input = (&mut self.input).take(self.bytes_max as u64 + 1);
        let read = input.read_until(b'\n', &mut self.line);
        let whole = self.line.last() == Some(&b'\n');
        self.ended = read.is_err() || !whole;
        read.map_err(|error| failed(error.to_string()))?;
        if whole {
            self.bytes += self.line.len() as u64;
            self.line.pop();
        } else if self.line.len() > self.bytes_max {
            let cause = format!("line {number} is {}", too_long(self.bytes_max));
            return Err(failed(cause));
        } else if self.line.is_empty() {
            return Ok(None);
        }
        if let Some(cause) = no_journal(&self.line).filter(|_| number == 1) {
            self.ended = true;
            return Err(failed(cause.to_owned()));
        }
        self.number = number;
        Ok(Some(Line {
            number,
            text: text(&self.line),
            whole,
        }))
    }
}

/// The bytes of a line as text.
fn text(bytes: &[u8]) -> Result<&str, &'static str> {
    let nul = bytes.contains(&0).then_some("it contains a NUL byte");
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8");
    unseen(bytes).or(nul).map_or(text, Err)
}

/// The error about a line that is too long.
pub fn too_long(bytes_max: usize) -> String {
    format!("a line longer than {bytes_max} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, BufReader};

    /// Reads all lines of an input, with a bound of four bytes per line.
    fn lines(bytes: &[u8]) -> (Vec<String>, Option<Error>) {
        // Smaller than a line, so that lines arrive in pieces.
        let mut lines = Lines::new(BufReader::with_capacity(2, bytes), "standard input");
        lines.bytes_max = 4;
        let mut found = Vec::new();
        loop {
            match lines.next_line() {
                Ok(Some(Line {
                    number,
                    text,
                    whole,
                })) => {
                    found.push(format!("{number} {text:?} {whole}"));
                }
                Ok(None) => return (found, None),
                Err(error) => {
                    assert_eq!(lines.next_line(), Ok(None));
                    return (found, Some(error));
                }
            }
        }
    }

    #[test]
    fn lines_are_read_one_by_one_and_the_last_may_lack_its_newline() {
        let cases: [(&[u8], &[&str]); 7] = [
            (
                b"\xef\xbb\xbfa\n",
                &["1 Err(\"it begins with a byte order mark\") true"],
            ),
            (b"", &[]),
            (b"\n", &["1 Ok(\"\") true"]),
            (
                b"abcd\nx\r\n",
                &[
                    "1 Ok(\"abcd\") true",
                    "2 Err(\"it ends with a carriage return\") true",
                ],
            ),
            (b"a\nabcd", &["1 Ok(\"a\") true", "2 Ok(\"abcd\") false"]),
            (
                b"\xff\nb\n",
                &["1 Err(\"it is not UTF-8\") true", "2 Ok(\"b\") true"],
            ),
            (
                b"a\n\0",
                &[
                    "1 Ok(\"a\") true",
                    "2 Err(\"it contains a NUL byte\") false",
                ],
            ),
        ];
        for (bytes, expected) in cases {
            let (found, error) = lines(bytes);
            assert_eq!(found, expected);
            assert_eq!(error, None);
        }
    }

    #[test]
    fn an_endless_line_is_refused_once_it_is_too_long() {
        for bytes in ["a\nabcde\nb\n", "a\nabcde", "a\nabcdefghij\n"] {
            let (found, error) = lines(bytes.as_bytes());
            assert_eq!(found.len(), 1);
            let error = error.unwrap().to_string();
            assert!(
                error.contains("standard input: line 2 is a line longer than 4 bytes"),
                "{error}"
            );
        }
        let mut endless = Lines::new(BufReader::new(io::repeat(b'x')), "endless");
        endless.bytes_max = 1 << 20;
        assert!(endless.next_line().is_err());
        assert!(
            endless.line.capacity() <= 1 << 22,
            "{}",
            endless.line.capacity()
        );
    }
}
