//! Access to the operating system: sockets, child processes, files, DNS lookups, randomness, clocks, the terminal.
//!
//! Uses: proof, verify. Used by: aggregator, cli, collector, doctor, embedded, exchange, flags, follow, history, keys, main, nats, relay, roster, serve.

pub(crate) mod acceptor;
pub(crate) mod beside;
pub(crate) mod channel;
pub(crate) mod child;
pub mod clock;
pub(crate) mod date;
pub mod directory;
pub mod endpoint;
pub(crate) mod exact;
pub mod file;
pub mod inbox;
pub(crate) mod lifeline;
pub mod limits;
pub mod net;
pub mod now;
pub mod random;
pub mod resolve;
pub mod screen;
pub(crate) mod segments;
pub(crate) mod span;
pub mod stream;
pub mod wait;
