//! Secret keys in memory and in files, and the commands that make and show them (`rsoracle keygen`, `rsoracle keys`).
//!
//! Invariant: the commands print public keys only. No key file is ever overwritten. A module that only reads a key, such as
//! the collector, uses only `file` and `secret`.
//!
//! Uses: proof, system, verify, wire. Used by: aggregator, cli, collector, main, nats, roster.

pub mod file;
pub mod secret;

use crate::system::file::{SECRET_BEGINS, sync_directory};
use crate::system::random;
use file::{HEAD, HEX_END, LINE_BYTES};
use rsoracle_proof::seal::{PublicKey, hex, hex_into};
use rsoracle_verify::error::Error;
use rsoracle_verify::log::printable;
use secret::{SecretKey, wipe};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const _: () = assert!(
    HEAD.len() == SECRET_BEGINS.len() + 2,
    "system::file::replace recognises key files by their beginning"
);

/// Creates a key file, and returns the line to print: its public key.
pub fn keygen(path: &str) -> Result<String, Error> {
    let key = create(path)?;
    Ok(format!("{}\n", hex(key.bytes())))
}

/// The lines to print: each key file's public key and, if there are several files, its path. An error if any cannot be read.
pub fn keys(paths: &[String]) -> Result<String, Error> {
    let line = |path: &String| {
        let key = file::read(path)?.public();
        let name = match paths.len() {
            1 => String::new(),
            _ => format!("  {}", printable(path)),
        };
        Ok(format!("{}{name}\n", hex(key.bytes())))
    };
    paths.iter().map(line).collect()
}

/// Creates a key in a new file, and returns the public key once the file is safely on disk.
pub fn create(path: &str) -> Result<PublicKey, Error> {
    let attempt = format!("cannot create the key file {path}");
    if Path::new(path).exists() && file::is_missing(path) {
        // An empty file. If it cannot be removed, creating the new one fails, and says why.
        let _ = std::fs::remove_file(path);
    }
    let mut new = OpenOptions::new();
    let opened = new.write(true).create_new(true).mode(0o600).open(path);
    let mut file = opened.map_err(|error| {
        let advice = match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
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
