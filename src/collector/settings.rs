//! The settings of `rsoracle collect`.

use super::overrides::Overrides;
use crate::exchange::proxy::Proxy;
use crate::source::Source;
use crate::system::endpoint::Endpoint;
use rsoracle_proof::aggregate::Rule;
use std::net::SocketAddr;

/// The settings of `rsoracle collect`.
#[derive(Clone, Debug)]
pub struct Collect {
    /// This collector's slot: its index in the roster.
    pub slot: u16,
    /// The source whose price is read.
    pub source: Source,
    /// The exchange's address, if it is not the source's usual one.
    pub endpoint: Option<Endpoint>,
    /// The feed that the price is for, such as `BTC/USD`.
    pub feed: String,
    /// Address of the aggregator's control channel.
    pub control: SocketAddr,
    /// Address of the aggregator's data channel.
    pub data: SocketAddr,
    /// How the samples are combined into one price.
    pub sample_rule: Rule,
    /// Certificates to trust besides the system's.
    pub ca_file: Option<String>,
    /// The proxy to exchanges; `None` uses the proxy that the environment names, if any.
    pub proxy: Option<Proxy>,
    /// The file of its secret key; `None` makes a fresh key.
    pub key: Option<String>,
    /// Longest age of the connection to the exchange, before it is replaced.
    pub connection_age_us: u64,
    /// Overrides of the exchange's time limits.
    pub overrides: Overrides,
    /// Whether to go on trying, instead of ending, when the exchange cannot be used at the start.
    pub stay: bool,
}
