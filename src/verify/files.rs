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
        return Err(Error::new(
            attempt,
            format!("it is larger than {bytes_max} bytes"),
        ));
    }
    Ok(bytes)
}
