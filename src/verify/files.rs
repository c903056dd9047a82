//! Reads files within a size bound, so that no file, however large or endless, takes more memory than that.

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

/// What some editors put into a line of text without showing it. `line` has no newline.
pub fn unseen(line: &[u8]) -> Option<&'static str> {
    match line {
        [0xef, 0xbb, 0xbf, ..] => Some("it begins with a byte order mark"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("it is UTF-16; save it as UTF-8"),
        [.., b'\r'] => Some("it ends with a carriage return"),
        _ => None,
    }
}
