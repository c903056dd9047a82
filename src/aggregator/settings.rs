//! The settings of `rsoracle run` and `rsoracle aggregate`, and the rules by which they must fit together.
//!
//! Invariant: values from a configuration file and from flags are checked together, by the same rules. The system is not
//! looked at.

use crate::collector::overrides::Overrides;
use crate::system::endpoint::Endpoint;
use crate::system::limits;
use rsoracle_proof::publish::Policy;
use rsoracle_proof::terms::Terms;
use rsoracle_proof::tolerance::counted;
use std::net::SocketAddr;

/// Flags whose values contradict each other.
#[derive(Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// The flags, the one to blame first.
    pub flags: &'static [&'static str],
    /// What is wrong, and what would be right.
    pub sentence: String,
}

impl Contradiction {
    fn new(flags: &'static [&'static str], sentence: impl Into<String>) -> Contradiction {
        Contradiction {
            flags,
            sentence: sentence.into(),
        }
    }
}

/// The settings of `rsoracle run` and `rsoracle aggregate`.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The terms of the feed. Those of a run that starts its collectors have no keys yet and, for a single round, no start.
    pub terms: Terms,
    /// What the collectors need that this run starts; `None` if it starts none (`rsoracle aggregate`).
    pub children: Option<Children>,
    /// Address of the control channel; port 0 takes any free port.
    pub control: SocketAddr,
    /// Address of the data channel; port 0 takes any free port.
    pub data: SocketAddr,
    /// Whether to take free ports if these are in use: when they are defaults, and all collectors are told.
    pub any_port_will_do: bool,
    /// How long the aggregator waits for collectors to be ready.
    pub ready_timeout_us: u64,
    /// File of the aggregator's key; `None` uses one beside the journal, or a fresh key.
    pub aggregator_key: Option<String>,
    /// File that the roster is written to.
    pub write_roster: Option<String>,
    /// How many rounds to run; `None` for no end.
    pub rounds: Option<u64>,
    /// The policy that decides when a price is published.
    pub policy: Policy,
    /// The journal: file of all reports.
    pub journal: Option<String>,
    /// File of the key that signed the journal so far, if this run's key is another.
    pub retire_key: Option<String>,
    /// File that always holds the newest published report.
    pub latest: Option<String>,
    /// Print JSON.
    pub json: bool,
    /// Print no progress.
    pub quiet: bool,
}

/// Whether a source has recorded prices.
pub(crate) fn is_embedded(source: &str) -> bool {
    source.starts_with("embedded")
}

/// What collectors need that `rsoracle run` starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Children {
    /// Overrides of the exchanges' time limits, slot by slot.
    pub overrides: Vec<Overrides>,
    /// Address of a running embedded exchange; `None` starts one if a source needs it.
    pub endpoint: Option<Endpoint>,
    /// Certificates to trust besides the system's.
    pub ca_file: Option<String>,
    /// Variables to add to the collectors' environment, for their proxy.
    pub environment: Vec<(&'static str, String)>,
    /// Directory of the collectors' keys; `None` makes fresh keys.
    pub keys: Option<String>,
    /// Longest age of a collector's connection to its exchange, before it is replaced.
    pub connection_age_us: u64,
}

impl Run {
    /// Checks that all settings fit together.
    pub fn check(&self) -> Result<(), Contradiction> {
        self.check_once().and_then(|()| self.check_rounds())
    }

    /// Whether there is a single round.
    pub fn single(&self) -> bool {
        self.terms.schedule.period_us == 0
    }

    /// Whether any source has recorded prices, so that everything is marked `embedded`.
    pub fn embedded(&self) -> bool {
        let mut seats = self.terms.seats.iter();
        seats.any(|seat| is_embedded(&seat.source))
    }

    /// The file of the local collectors' certificates, if one is named.
    pub(crate) fn ca_file(&self) -> Option<&String> {
        self.children.as_ref()?.ca_file.as_ref()
    }

    /// The directory of the local collectors' keys, if one is named.
    pub(crate) fn collector_keys(&self) -> Option<&String> {
        self.children.as_ref()?.keys.as_ref()
    }

    /// Lead time: between handing down a roster and the first start that it holds for.
    pub(crate) fn lead_us(&self) -> u64 {
        let reading_us = u64::from(self.terms.n()) * limits::LEAD_US_PER_COLLECTOR;
        reading_us.clamp(limits::LEAD_MS_MIN * 1_000, limits::LEAD_MS_MAX * 1_000)
    }

    /// Checks what concerns more than one round: periods, keys and rosters that outlast it.
    fn check_rounds(&self) -> Result<(), Contradiction> {
        if self.retire_key.is_some() && (self.journal.is_none() || self.aggregator_key.is_none()) {
            return Err(Contradiction::new(
                &["retire-key", "journal", "aggregator-key"],
                "--retire-key needs --journal, and --aggregator-key with the new key",
            ));
        }
        if self.rounds.is_some() && self.single() {
            return Err(Contradiction::new(
                &["rounds", "every"],
                match self.children {
                    Some(_) => "--rounds needs --every DURATION",
                    None => "--rounds needs a roster of more than one round",
                },
            ));
        }
        if self.write_roster.is_some() && !self.single() && self.collector_keys().is_none() {
            return Err(Contradiction::new(
                &["write-roster", "every", "collector-keys"],
                "--write-roster with --every needs --collector-keys DIR: a restarted collector would sign with a fresh key that is not in the roster",
            ));
        }
        Ok(())
    }

    fn check_once(&self) -> Result<(), Contradiction> {
        if self.control.port() == self.data.port() && self.control.port() != 0 {
            let port = self.control.port();
            return Err(Contradiction::new(
                &["control-port", "data-port"],
                format!(
                    "--control-port and --data-port are both {port}; each channel needs its own port"
                ),
            ));
        }
        self.terms.schedule.check().map_err(|why| {
            Contradiction::new(
                &["every", "samples", "interval"],
                format!("--every, --samples and --interval do not go together: {why}"),
            )
        })?;
        if self.policy.heartbeat_us.is_some() && self.policy.deviation.is_none() {
            return Err(Contradiction::new(
                &["heartbeat", "deviation"],
                "--heartbeat needs --deviation; without it every round's price is published anyway",
            ));
        }
        let exchanges = self.terms.tolerance().exchanges.count();
        let least = self.terms.exchanges_min;
        if least > exchanges {
            return Err(Contradiction::new(
                &["min-exchanges"],
                format!(
                    "--min-exchanges {least} is more than the sources have: {}",
                    counted(exchanges, "exchange")
                ),
            ));
        }
        Ok(())
    }
}
