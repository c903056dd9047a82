//! Command lines: the tables of commands and flags, their parser, and the values that several commands share.
//!
//! Uses: collector, exchange, proof, source, system, verify. Used by: cli, doctor, embedded, follow, history, main, nats, relay, roster, serve.

pub mod args;
pub mod tables;
pub mod values;
