//! A client of NATS: the protocol, credentials, one connection, and what JetStream is asked and answers.
//!
//! Invariant: whatever a server sends, memory is bounded by the longest message that is wanted, and every wait by a deadline. A
//! server is believed nothing about reports: it can delay and withhold them, and whoever gets one verifies it.
//! Uses: exchange, flags, keys, proof, system, verify. Used by: follow, relay.

pub(crate) mod client;
pub(crate) mod credentials;
pub(crate) mod jetstream;
pub mod limits;
pub(crate) mod place;
pub mod protocol;
