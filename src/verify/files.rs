//! Reads files within a size bound, so that no file, however large or endless, takes more memory than that. And tells by its
//! beginning what a file is that was named in the place of another one.

use crate::error::Error;
use std::fs::File;
use std::io::Read;

/// Reads a whole file of at most `bytes_max` bytes. `attempt` begins the error message.
pub fn read(path: &str, bytes_max: u64, attempt: &str) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(bytes_max + 1).read_to_end(&mut bytes))
        .map_err(|error| Error::new(attempt, error))?;
    if bytes.len() as u64 > bytes_max {
        let cause = format!("it is larger than {bytes_max} bytes");
        return Err(Error::new(attempt, cause));
    }
    Ok(bytes)
}

/// The text of a file, or why it is not text.
pub fn text(bytes: Vec<u8>) -> Result<String, &'static str> {
    let cause = unseen(&bytes).unwrap_or("it is not valid UTF-8");
    String::from_utf8(bytes).map_err(|_| cause)
}

/// Bytes of a file's beginning that tell what it is.
pub const BEGIN_BYTES: usize = 64;

/// What a file is, by its beginning.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Journal,
    Roster,
    SecretKey,
    Gzip,
    Zstd,
}

fn sort(begin: &[u8]) -> Option<Sort> {
    let known: [(&[u8], Sort); 6] = [
        (b"{\"rsoracle_", Sort::Journal),
        (b"# A roster of rsoracle", Sort::Roster),
        (b"number = ", Sort::Roster),
        (b"rsoracle secret key ", Sort::SecretKey),
        (&[0x1f, 0x8b], Sort::Gzip),
        (&[0x28, 0xb5, 0x2f, 0xfd], Sort::Zstd),
    ];
    let found = known.iter().find(|(head, _)| begin.starts_with(head));
    found.map(|(_, sort)| *sort)
}

/// What is wrong with a file that begins so, if it is known to be no journal. Nothing of the file is repeated.
pub fn no_journal(begin: &[u8]) -> Option<&'static str> {
    match sort(begin)? {
        Sort::Journal => None,
        Sort::Roster => Some(
            "it is a roster (or the draft of one), not a journal; name the file with the reports",
        ),
        Sort::SecretKey => {
            Some("it is a secret key, not a journal; name the file with the reports")
        }
        Sort::Gzip => Some(
            "it is compressed with gzip; decompress it first, or use 'gunzip -c FILE | rsoracle verify -'",
        ),
        Sort::Zstd => Some(
            "it is compressed with zstd; decompress it first, or use 'zstd -dc FILE | rsoracle verify -'",
        ),
    }
}

/// What is wrong with a file that begins so, if it is known to be no roster.
pub fn no_roster(begin: &[u8]) -> Option<&'static str> {
    match sort(begin)? {
        Sort::Roster => None,
        Sort::Journal => Some("it is a journal"),
        Sort::SecretKey => Some("it is a secret key"),
        Sort::Gzip | Sort::Zstd => Some("it is compressed; decompress it first"),
    }
}

/// What some editors put into a line of text without showing it. `line` has no newline.
pub fn unseen(line: &[u8]) -> Option<&'static str> {
    match line {
        [0xef, 0xbb, 0xbf, ..] => Some("it begins with a byte order mark"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("it is UTF-16; save it as UTF-8"),
        [.., b'\r'] => Some("it ends with a carriage return"),
        _ => None,
    }
}
