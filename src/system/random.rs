//! Random bytes from the operating system.
//!
//! Invariant: without random bytes the caller gets an error. There is no weaker fallback.

use rsoracle_verify::error::Error;

/// Fills `bytes` with random bytes in place, so that a secret leaves no copy behind.
pub fn fill(bytes: &mut [u8; 32]) -> Result<(), Error> {
    getrandom::fill(bytes)
        .map_err(|error| Error::new("cannot get random bytes from the system", error))
}

/// 32 random bytes that need not stay secret.
pub fn bytes() -> Result<[u8; 32], Error> {
    let mut bytes = [0; 32];
    fill(&mut bytes)?;
    Ok(bytes)
}
