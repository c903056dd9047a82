//! Command lines: tables of commands, their reading, and values that several commands have.
//!
//! Uses: collector, exchange, proof, system, verify. Used by: cli, doctor, embedded, history, main.

pub mod args;
pub mod tables;
pub mod values;
