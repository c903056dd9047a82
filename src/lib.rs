//! rsoracle: a distributed price oracle that can be audited in an afternoon.
//!
//! Two crates stand beneath this one: `rsoracle-proof` is what must be read to believe a price, `rsoracle-verify` the program
//! that checks one. Here are the processes around them, a room each: its `mod.rs` says what it is for, what it uses and who
//! uses it. `tests/tidy.rs` holds it to that, and finds every circle; `make audit` says how long each reader's path is.

pub mod aggregator;
pub mod cli;
pub mod collector;
pub mod doctor;
pub mod embedded;
pub mod exchange;
pub mod flags;
pub mod history;
pub mod keys;
pub mod system;
pub mod wire;
