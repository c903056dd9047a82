//! Access to the operating system: sockets, child processes, files, DNS lookups, randomness, clocks, the terminal.
//!
//! Uses: proof, verify. Used by: aggregator, cli, collector, doctor, embedded, exchange, flags, history, keys, main.

pub mod child;
pub mod clock;
pub mod endpoint;
pub mod file;
pub mod limits;
pub mod net;
pub mod random;
pub mod resolve;
pub mod screen;
pub mod wait;
