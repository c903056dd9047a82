//! Secret keys: in memory, in files, and the commands that make and show them (`rsoracle keygen`, `rsoracle keys`).
//!
//! Invariant: what the commands print is public.
//! Uses: proof, system, verify, wire. Used by: aggregator, collector, main.

pub mod file;
pub mod secret;

use crate::system::random;
use rsoracle_proof::seal::hex;
use rsoracle_verify::error::Error;
use rsoracle_verify::log::printable;
use secret::SecretKey;

/// Makes a key file; gives the line to print, its public key.
pub fn keygen(path: &str) -> Result<String, Error> {
    let key = file::create(path)?;
    Ok(format!("{}\n", hex(key.bytes())))
}

/// The public keys of key files, a line each with the file's path; nothing if one of them cannot be read.
pub fn keys(paths: &[String]) -> Result<String, Error> {
    let line = |path: &String| {
        let key = file::read(path)?.public();
        Ok(format!("{}  {}\n", hex(key.bytes()), printable(path)))
    };
    paths.iter().map(line).collect()
}

/// A fresh key that nobody else has.
pub fn fresh() -> Result<SecretKey, Error> {
    let mut seed = [0; 32];
    random::fill(&mut seed)?;
    Ok(SecretKey::from_seed(&mut seed))
}
