//! Command lines: tables of commands, their reading, and values that several commands have.
//!
//! Uses: proof, verify, system, collector, exchange. Used by: cli, doctor, embedded, history, main.

pub mod args;
pub mod tables;
pub mod values;
