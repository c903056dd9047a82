//! The settings of `rsoracle collect`.

use crate::exchange::proxy::Proxy;
use crate::source::Source;
use crate::system::endpoint::Endpoint;
use rsoracle_proof::schedule::Tenure;
use rsoracle_proof::seal::PublicKey;
use rsoracle_proof::terms::Roster;
use std::net::IpAddr;
use std::time::Duration;

/// The settings of `rsoracle collect`.
#[derive(Clone, Debug)]
pub struct Collect {
    /// Where its terms come from.
    pub charge: Charge,
    /// The aggregators that it serves, at least one.
    pub aggregators: Vec<AggregatorPlace>,
    /// The exchange's address, if it is not the source's usual one.
    pub endpoint: Option<Endpoint>,
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

/// The operator's overrides of an exchange's time limits. `None` keeps the exchange's own rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// A price older than this is stale.
    pub max_age: Option<Duration>,
    /// A connection that was silent for longer is replaced.
    pub max_silence: Option<Duration>,
    /// Time between two pings.
    pub ping_every: Option<Duration>,
}

/// Where a collector's terms come from.
#[derive(Clone, Debug)]
pub enum Charge {
    /// From `rsoracle run`, its parent, by the tether.
    Tether {
        /// Its slot: the index in the roster.
        slot: u16,
        /// The sources whose prices are read, all of one kind.
        sources: Vec<Source>,
    },
    /// From roster files, of which each follows the one before it. Its key says which slot, and with it which source.
    Roster {
        /// At least one.
        engagements: Vec<Engagement>,
        /// The directory of its mark; `None` keeps the mark beside the key.
        state: Option<String>,
    },
}

impl Charge {
    /// The number of the roster that counts for a round that starts then; `None` if it came by the tether.
    pub fn roster_at(&self, start_us: u64) -> Option<u64> {
        let Charge::Roster { engagements, .. } = self else {
            return None;
        };
        let counts = engagements.iter().find(|it| it.tenure.includes(start_us));
        counts.map(|it| it.roster.number)
    }
}

/// A roster under which a collector by hand signs.
#[derive(Clone, Debug)]
pub struct Engagement {
    /// Its file.
    pub path: String,
    /// The roster.
    pub roster: Roster,
    /// When it counts.
    pub tenure: Tenure,
}

/// Where an aggregator listens, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AggregatorPlace {
    /// Host name or IP address of the control channel.
    pub host: String,
    /// Port of the control channel.
    pub control_port: u16,
    /// IP address of the data channel; `None` if it is that of the control channel.
    pub data_ip: Option<IpAddr>,
    /// Port of the data channel.
    pub data_port: u16,
    /// Its public key; `None` if it comes by the tether.
    pub key: Option<PublicKey>,
}

impl Collect {
    /// The name of this process in its log.
    pub fn role(&self) -> String {
        match &self.charge {
            Charge::Tether { slot, .. } => format!("collector {slot}"),
            Charge::Roster { .. } => "collector".to_owned(),
        }
    }
}
