//! What must be read to believe a price of rsoracle: the proof that stands in a report, and its check.
//!
//! A report is one line of JSON. It holds the terms of a round, every sample, every collector's signature, and the price that
//! they make. A roster says whose signatures count. [`report::Verifier`] plays the round again, checks every signature, makes
//! the price anew and writes the line again: what it finds no flaw in is proved, to the bit.
//!
//! This crate does no input or output, reads no clock and holds no secret; it is `no_std` with `alloc`, so that the compiler
//! sees to that. Its one dependency is ed25519-dalek. Files, standard input and exit codes are `rsoracle-verify`'s.
//!
//! ```
//! use rsoracle_proof::report::{Record, Verifier};
//! use rsoracle_proof::roster::Roster;
//!
//! // From files of yours: the roster by a way that you trust, the report from anybody.
//! let roster = include_str!("example.toml");
//! let line = include_str!("example.jsonl").trim_end();
//! // The time that no report may be ahead of: microseconds since the Unix epoch.
//! let now_us = 1_900_000_000_000_000;
//!
//! let roster = Roster::parse(roster).expect("a roster");
//! let mut verifier = Verifier::new(Some(&roster));
//! let check = verifier.check(line, now_us);
//! assert!(check.flaws.is_empty(), "{:?}", check.flaws);
//! let Record::Report(report) = check.record else {
//!     panic!("it is no report");
//! };
//! let price = report.price().expect("a price");
//! assert!(price > 0.0 && report.outcome.timestamp_us.is_some());
//!
//! // One digit of the price is another one: it is not what the signatures make.
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
