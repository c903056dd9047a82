//! Everything that one must read to believe a price of rsoracle: reports, which contain their own proof, and their
//! verification.
//!
//! A report is one line of JSON. It contains the terms of a round, every sample, every collector's signature, and the price. A
//! roster says which terms and whose signatures count. [`report::Verifier`] repeats the round from the samples, verifies every signature,
//! recomputes the price, and writes the line again. If it finds no flaw, the price is proved, to the bit.
//!
//! This crate does no input or output, reads no clock and holds no secret. It is `no_std` with `alloc`, so the compiler
//! enforces that. Its only dependency is ed25519-dalek. Files, standard input and exit codes are in `rsoracle-verify`.
//!
//! ```
//! use rsoracle_proof::report::{Content, Verifier};
//! use rsoracle_proof::roster::Roster;
//!
//! // The roster must come over a channel that you trust; the report may come from anyone.
//! let roster = include_str!("example.toml");
//! let line = include_str!("example.jsonl").trim_end();
//! // The current time, microseconds since the Unix epoch. Reports of the future are refused.
//! let now_us = 1_900_000_000_000_000;
//!
//! let roster = Roster::parse(roster).expect("a roster");
//! let mut verifier = Verifier::new(Some(&roster));
//! let check = verifier.check(line, now_us);
//! assert!(check.flaws.is_empty(), "{:?}", check.flaws);
//! let Content::Report(report) = check.content else {
//!     panic!("not a report");
//! };
//! let price = report.price().expect("a price");
//! assert!(price > 0.0 && report.outcome.timestamp_us.is_some());
//!
//! // Change the price: it no longer follows from the signed samples.
//! let forged = line.replacen(&format!("\"price\":{price}"), "\"price\":1", 1);
//! assert!(!Verifier::new(Some(&roster)).check(&forged, now_us).flaws.is_empty());
//! ```
//!
//! Uses: nothing of ours. Used by: everything.
#![no_std]
#![forbid(unsafe_code)]

#[macro_use]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod aggregate;
pub mod answer;
pub mod bytes;
pub mod change;
pub mod decode;
pub mod duration;
pub mod limits;
mod observe;
pub mod pool;
pub mod price;
pub mod publish;
pub mod reason;
pub mod record;
pub mod report;
pub mod roster;
pub mod round;
pub mod schedule;
pub mod seal;
pub mod source;
pub mod succession;
pub mod terms;
pub mod tolerance;
pub mod toml;
pub mod utc;
