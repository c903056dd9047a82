//! Random bytes from the operating system.
//!
//! Invariant: a process that gets none stops; nothing weaker stands in.

use crate::error::Error;
use crate::seal::SecretKey;

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

/// A fresh key that nobody else has.
pub fn key() -> Result<SecretKey, Error> {
    let mut seed = [0; 32];
    fill(&mut seed)?;
    Ok(SecretKey::from_seed(&mut seed))
}
