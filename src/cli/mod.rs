//! Turns the flags of `run`, `aggregate`, `collect` and `verify` into settings, and tells what an aggregator would do; the
//! configuration file; manual pages and shell completions.
//!
//! Uses: aggregator, collector, exchange, flags, proof, roster, source, system, verify. Used by: main.

pub mod collect;
pub mod file;
pub mod gather;
pub mod manual;
pub mod run;
mod sources;
pub mod verify;
pub mod way;
