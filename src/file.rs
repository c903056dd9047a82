//! Files that an operator names: read within a bound, replaced whole.
//!
//! Invariant: no file, however large or endless, takes more memory than its bound; no reader sees half of a file written here.
//! What this module does not do: secrets; those are in `keyfile`.

use crate::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

/// All of a file of at most `bytes_max` bytes; `attempt` says what it was wanted for.
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

/// Puts `bytes` in the place of a file at once: whoever reads it, even after a loss of power, sees all of the old or all of
/// the new. `attempt` says what it was wanted for.
pub fn replace(path: &str, bytes: &[u8], attempt: &str) -> Result<(), Error> {
    let beside = beside(path);
    let done = create_new(&beside)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&beside, path))
        .and_then(|()| sync_directory_of(path));
    done.map_err(|error| {
        let _ = std::fs::remove_file(&beside);
        Error::new(attempt, error)
    })
}

/// Whether [`replace`] is likely to succeed, to know it before there is anything to write.
pub fn check_replaceable(path: &str, attempt: &str) -> Result<(), Error> {
    if Path::new(path).is_dir() {
        return Err(Error::new(attempt, "it is a directory"));
    }
    let beside = beside(path);
    create_new(&beside)
        .and_then(|_| std::fs::remove_file(&beside))
        .map_err(|error| Error::new(attempt, error))
}

/// Makes a file's name in its directory outlast a loss of power.
pub fn sync_directory_of(path: &str) -> std::io::Result<()> {
    let directory = match Path::new(path).parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

/// A name beside the file, of this process alone: a rename does not reach beyond a file system.
fn beside(path: &str) -> String {
    format!("{path}.new-{}", std::process::id())
}

/// A new file of that name, in place of what an earlier process of the same number may have left.
fn create_new(path: &str) -> std::io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).open(path)
}
