//! What `rsoracle collect` is to do.

use super::overrides::Overrides;
use crate::exchange::proxy::Proxy;
use crate::system::endpoint::Endpoint;
use rsoracle_proof::aggregate::Rule;
use rsoracle_proof::source::Source;
use std::net::SocketAddr;

/// What `rsoracle collect` is to do.
#[derive(Clone, Debug)]
pub struct Collect {
    /// Index in the roster.
    pub slot: u16,
    /// What is watched.
    pub source: Source,
    /// Where, if not where the source usually is.
    pub endpoint: Option<Endpoint>,
    /// What is priced.
    pub feed: String,
    /// The aggregator's control channel.
    pub control: SocketAddr,
    /// The aggregator's data channel.
    pub data: SocketAddr,
    /// How samples become one.
    pub sample_rule: Rule,
    /// Certificates to trust besides the system's.
    pub ca_file: Option<String>,
    /// The proxy on the way to exchanges, if not what the environment names.
    pub proxy: Option<Proxy>,
    /// Its key, if not a fresh one.
    pub key: Option<String>,
    /// How old the connection to the exchange may get.
    pub connection_age_us: u64,
    /// What holds instead of the exchange's own rules.
    pub overrides: Overrides,
    /// Wait while the exchange turns this address away, instead of ending.
    pub stay: bool,
}
