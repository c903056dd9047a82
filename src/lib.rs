//! rsoracle: a distributed price oracle that can be audited in an afternoon.
//!
//! This crate is built on two others. `rsoracle-proof` contains everything that one must read to believe a price, and
//! `rsoracle-verify` is the program that checks prices with it.
//!
//! Here are the processes around them, one folder (room) for each. A room's `mod.rs` says what it is for, what it uses and
//! who uses it. `tests/tidy.rs` checks that and rejects circular imports. `make audit` prints how much code each reader has
//! to read.

pub mod aggregator;
pub mod cli;
pub mod collector;
pub mod doctor;
pub mod embedded;
pub mod exchange;
pub mod flags;
pub mod follow;
pub mod history;
pub mod keys;
pub mod nats;
pub mod relay;
pub mod roster;
pub mod serve;
pub mod source;
pub mod system;
pub mod wire;
