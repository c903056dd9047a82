//! What the flags of `run`, `collect` and `verify` mean, the configuration file, the manual pages.
//!
//! Uses: proof, verify, system, flags, exchange, aggregator, collector. Used by: main.

pub mod collect;
pub mod file;
pub mod manual;
pub mod run;
mod sources;
pub mod verify;
