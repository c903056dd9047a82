//! Random bytes from the operating system.
//!
//! Invariant: a process that gets none stops; nothing weaker stands in.

use crate::error::Error;

/// 32 fresh random bytes.
pub fn bytes() -> Result<[u8; 32], Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::new("cannot get random bytes from the system", error))?;
    Ok(bytes)
}
