//! Turns the flags of `run`, `aggregate`, `collect` and `verify` into settings, and tells what an aggregator would do; the
//! configuration file; manual pages and shell completions; closes segments of journals.
//!
//! Uses: aggregator, collector, exchange, flags, keys, proof, roster, source, system, verify. Used by: main.

pub mod collect;
pub mod file;
pub mod gather;
pub mod manual;
mod outlook;
pub mod rotate;
pub mod run;
mod sources;
pub mod verify;
pub mod way;
