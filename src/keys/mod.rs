//! Secret keys in memory and in files, and the commands that make and show them (`rsoracle keygen`, `rsoracle keys`).
//!
//! Invariant: the commands print public keys only. No key file is ever overwritten. A module that only reads a key, such as
//! the collector, uses only `file` and `secret`. The aggregator also makes keys, with `make`.
//!
//! Uses: proof, system, verify. Used by: aggregator, cli, collector, main, nats, roster.

pub mod file;
pub mod make;
pub mod secret;

pub use make::create;
use rsoracle_proof::seal::hex;
use rsoracle_verify::error::Error;
use rsoracle_verify::log::printable;

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
