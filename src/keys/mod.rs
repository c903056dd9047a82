//! Secret keys in memory and in files, and the commands that make and show them (`rsoracle keygen`, `rsoracle keys`).
//!
//! Invariant: the commands print public keys only.
//!
//! Uses: proof, system, verify, wire. Used by: aggregator, collector, main.

pub mod file;
pub mod secret;

use crate::system::random;
use rsoracle_proof::seal::hex;
use rsoracle_verify::error::Error;
use rsoracle_verify::log::printable;
use secret::SecretKey;

/// Creates a key file, and returns the line to print: its public key.
pub fn keygen(path: &str) -> Result<String, Error> {
    let key = file::create(path)?;
    Ok(format!("{}\n", hex(key.bytes())))
}

/// The lines to print: each key file's public key and path. An error if any file cannot be read.
pub fn keys(paths: &[String]) -> Result<String, Error> {
    let line = |path: &String| {
        let key = file::read(path)?.public();
        Ok(format!("{}  {}\n", hex(key.bytes()), printable(path)))
    };
    paths.iter().map(line).collect()
}

/// Makes a new random key.
pub fn fresh() -> Result<SecretKey, Error> {
    let mut seed = [0; 32];
    random::fill(&mut seed)?;
    Ok(SecretKey::from_seed(&mut seed))
}
