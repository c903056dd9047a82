//! Makes the files of secret keys.
//!
//! Invariant: no key file is ever overwritten, and none is left incomplete.

use super::file::{HEAD, HEX_END, LINE_BYTES};
use super::secret::{SecretKey, wipe};
use crate::system::file::{SECRET_BEGINS, sync_directory};
use crate::system::random;
use rsoracle_proof::seal::{PublicKey, hex_into};
use rsoracle_verify::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const _: () = assert!(
    HEAD.len() == SECRET_BEGINS.len() + 2,
    "system::file::replace recognises key files by their beginning"
);

/// The path of a slot's key file in a directory of key files.
pub fn of_slot(dir: &str, slot: u16) -> String {
    format!("{dir}/slot-{slot}.key")
}

/// Whether there is no key file at `path`. An empty file counts as none: a process that was killed while it made a key leaves one.
pub(crate) fn is_missing(path: &str) -> bool {
    match std::fs::metadata(path) {
        Ok(there) => there.is_file() && there.len() == 0,
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}

/// Creates a key in a new file, and returns the public key once the file is safely on disk.
pub fn create(path: &str) -> Result<PublicKey, Error> {
    let attempt = format!("cannot create the key file {path}");
    if Path::new(path).exists() && is_missing(path) {
        // An empty file. If it cannot be removed, creating the new one fails, and says why.
        let _ = std::fs::remove_file(path);
    }
    let mut new = OpenOptions::new();
    let opened = new.write(true).create_new(true).mode(0o600).open(path);
    let mut file = opened.map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::AlreadyExists => {
                "key files are never overwritten; name another file, or remove this one if nobody trusts its key any more"
            }
            _ => "name a file in an existing directory that this user may write to",
        };
        Error::new(&attempt, error).advise(advice)
    })?;
    let made = write_new(&mut file, &attempt).and_then(|key| {
        let safe = file.sync_all().and_then(|()| sync_directory(path));
        safe.map(|()| key)
            .map_err(|error| Error::new(&attempt, error))
    });
    if made.is_err() {
        // An incomplete key file is useless, and would make the next attempt fail.
        let _ = std::fs::remove_file(path);
    }
    made
}

/// Makes a new key and writes it to `file`.
fn write_new(file: &mut File, attempt: &str) -> Result<PublicKey, Error> {
    let mut seed = [0; 32];
    random::fill(&mut seed)?;
    let mut line = [b'\n'; LINE_BYTES];
    line[..HEAD.len()].copy_from_slice(HEAD);
    hex_into(&seed, &mut line[HEAD.len()..HEX_END]);
    let key = SecretKey::from_seed(&mut seed);
    let written = file.write_all(&line);
    wipe(&mut line);
    written.map_err(|error| Error::new(attempt, error))?;
    Ok(key.public())
}
