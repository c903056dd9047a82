//! Turns the flags of `run`, `collect` and `verify` into settings; the configuration file; manual pages and shell completions.
//!
//! Uses: aggregator, collector, exchange, flags, proof, source, system, verify. Used by: main.

pub mod collect;
pub mod file;
pub mod manual;
pub mod run;
mod sources;
pub mod verify;
pub mod way;
