//! Messages of the tether: the socket pair between `rsoracle run` and each of its children. It never leaves the host. Here they
//! are written; [`super::handed`] reads them.
//!
//! The child sends its public key (32 bytes) once. `run` first sends the aggregator's public key (32 bytes), once. Then it sends
//! terms, any number of times: the earliest start that they hold for (8 bytes), the length of all that follows (4 bytes), and for
//! each feed the length of its terms (4 bytes) and the terms at fixed widths.

use rsoracle_proof::terms::Terms;

/// The terms of feeds as a message.
pub fn terms_message(from_us: u64, feeds: &[Terms]) -> Vec<u8> {
    let feeds: Vec<Vec<u8>> = feeds.iter().map(Terms::encode).collect();
    message(from_us, &feeds)
}

/// Any bytes as such a message.
pub fn message(from_us: u64, feeds: &[Vec<u8>]) -> Vec<u8> {
    let sized = |feed: &Vec<u8>| [&(feed.len() as u32).to_be_bytes(), feed.as_slice()].concat();
    let feeds: Vec<u8> = feeds.iter().flat_map(sized).collect();
    let mut bytes = from_us.to_be_bytes().to_vec();
    bytes.extend_from_slice(&(feeds.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&feeds);
    bytes
}
