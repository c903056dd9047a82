//! The commands that make and show keys: `rsoracle keygen` and `rsoracle keys`.
//!
//! Invariant: what they print is public. What this module does not do: know how a key file looks.

use crate::error::Error;
use crate::keyfile;
use crate::log::printable;
use crate::seal::hex;

/// Makes a key file; gives the line to print, its public key.
pub fn keygen(path: &str) -> Result<String, Error> {
    let key = keyfile::create(path)?;
    Ok(format!("{}\n", hex(key.bytes())))
}

/// The public keys of key files, a line each with the file's path; nothing if one of them cannot be read.
pub fn keys(paths: &[String]) -> Result<String, Error> {
    let line = |path: &String| {
        let key = keyfile::read(path)?.public();
        Ok(format!("{}  {}\n", hex(key.bytes()), printable(path)))
    };
    paths.iter().map(line).collect()
}
