//! What must be read to believe a price of rsoracle: the proof that stands in a report, and its check.
#![no_std]
#![forbid(unsafe_code)]

#[macro_use]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod aggregate;
pub mod answer;
pub mod bytes;
pub mod limits;
pub mod price;
pub mod publish;
pub mod reason;
pub mod record;
pub mod report;
pub mod roster;
pub mod round;
pub mod seal;
pub mod source;
pub mod terms;
pub mod tolerance;
pub mod toml;
pub mod utc;
