//! Random bytes from the operating system.
//!
//! Invariant: a process that gets none stops; nothing weaker stands in.

use rsoracle_verify::error::Error;

/// Fills in 32 fresh random bytes, in place: a secret leaves no copy on its way.
pub fn fill(bytes: &mut [u8; 32]) -> Result<(), Error> {
    getrandom::fill(bytes)
        .map_err(|error| Error::new("cannot get random bytes from the system", error))
}

/// 32 fresh random bytes that are no secret.
pub fn bytes() -> Result<[u8; 32], Error> {
    let mut bytes = [0; 32];
    fill(&mut bytes)?;
    Ok(bytes)
}
