//! The settings of `rsoracle run`, and the rules by which they must fit together.
//!
//! Invariant: values from a configuration file and from flags are checked together, by the same rules. The system is not
//! looked at.

use crate::collector::overrides::Overrides;
use crate::source::Source;
use crate::system::endpoint::Endpoint;
use crate::system::limits;
use rsoracle_proof::aggregate::{Rule, faulty_max, quorum};
use rsoracle_proof::publish::Policy;
use rsoracle_proof::tolerance::{Tolerance, counted};
use rsoracle_verify::duration::duration_text;
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

/// The settings of `rsoracle run`.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Number of collectors: slots in the roster.
    pub collectors: u16,
    /// How many of them are remote, that is, not started by this aggregator: those in the last slots.
    pub remote: u16,
    /// Directory for the enrolment files of remote collectors.
    pub enrolment_dir: Option<String>,
    /// Samples per round.
    pub samples: u32,
    /// Time between two samples.
    pub interval_us: u64,
    /// The source of each collector, slot by slot.
    pub sources: Vec<Source>,
    /// Overrides of the exchanges' time limits, slot by slot.
    pub overrides: Vec<Overrides>,
    /// Fewest distinct exchanges whose prices make a price.
    pub exchanges_min: u16,
    /// Address of a running embedded exchange; `None` starts one if a source needs it.
    pub endpoint: Option<Endpoint>,
    /// The feed that is priced, such as `BTC/USD`.
    pub feed: String,
    /// How the collectors' prices are combined into one.
    pub rule: Rule,
    /// How a collector's samples are combined into its price.
    pub sample_rule: Rule,
    /// Address of the control channel; port 0 takes any free port.
    pub control: SocketAddr,
    /// Address of the data channel; port 0 takes any free port.
    pub data: SocketAddr,
    /// Whether to take free ports if these are in use: when they are defaults, and no collector is remote.
    pub any_port_will_do: bool,
    /// Certificates to trust besides the system's.
    pub ca_file: Option<String>,
    /// Variables to add to the collectors' environment, for their proxy.
    pub environment: Vec<(&'static str, String)>,
    /// How long the aggregator waits for collectors to be ready.
    pub ready_timeout_us: u64,
    /// File of the aggregator's key; `None` uses one beside the journal, or a fresh key.
    pub aggregator_key: Option<String>,
    /// Directory of local collectors' keys; `None` makes fresh keys.
    pub collector_keys: Option<String>,
    /// File that the roster is written to.
    pub write_roster: Option<String>,
    /// Period: time from one round's start to the next; `None` runs one round.
    pub every_us: Option<u64>,
    /// How many rounds to run; `None` for no end.
    pub rounds: Option<u64>,
    /// The policy that decides when a price is published.
    pub policy: Policy,
    /// Longest age of a collector's connection to its exchange, before it is replaced.
    pub connection_age_us: u64,
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

/// The part of a period, at its end, that is reserved for writing and publishing the report before the next round is
/// announced, in microseconds.
pub(crate) fn clear_us(every_us: u64) -> u64 {
    (every_us / limits::CLEAR_PART).min(limits::CLEAR_US_MAX)
}

impl Run {
    /// Checks that all settings fit together.
    pub fn check(&self) -> Result<(), Contradiction> {
        self.check_once().and_then(|()| self.check_rounds())
    }

    /// f: the number of lying collectors that a price tolerates.
    pub fn f(&self) -> u16 {
        faulty_max(self.rule, self.collectors)
    }

    /// Whether any source has recorded prices, so that everything is marked `embedded`.
    pub fn embedded(&self) -> bool {
        self.sources.iter().any(|source| source.embedded)
    }

    /// How many lying collectors, and which failing exchanges, the roster tolerates.
    pub(crate) fn tolerance(&self) -> Tolerance<'_> {
        let names: Vec<&str> = self.sources.iter().map(|source| &*source.name).collect();
        Tolerance::of(&self.feed, &names, self.f())
    }

    /// Fewest collectors' prices that make a price.
    pub fn quorum(&self) -> u16 {
        quorum(self.collectors, self.f())
    }

    /// Shortest lead time: between a round's announcement and its start.
    pub(crate) fn lead_us_min(&self) -> u64 {
        let waking_us = u64::from(self.collectors) * limits::LEAD_US_PER_COLLECTOR;
        waking_us.clamp(limits::LEAD_MS_MIN * 1_000, limits::LEAD_MS_MAX * 1_000)
    }

    /// Longest lead time. With a period, it is at most half of the time that sampling leaves, so that one collector that is
    /// slow, or lies about its clock, cannot use up the time for the others' answers.
    pub(crate) fn lead_us_max(&self) -> u64 {
        let half_us = |every_us: u64| {
            let left_us = every_us - self.last_instant_us() - clear_us(every_us);
            (left_us / 2).max(self.lead_us_min())
        };
        let longest_us = limits::LEAD_MS_MAX * 1_000;
        self.every_us.map_or(longest_us, half_us).min(longest_us)
    }

    /// Time from a round's start to its last sample.
    fn last_instant_us(&self) -> u64 {
        u64::from(self.samples - 1) * self.interval_us
    }

    /// Checks what concerns more than one round: periods, keys and rosters that outlast it.
    fn check_rounds(&self) -> Result<(), Contradiction> {
        if self.retire_key.is_some() && (self.journal.is_none() || self.aggregator_key.is_none()) {
            return Err(Contradiction::new(
                &["retire-key", "journal", "aggregator-key"],
                "--retire-key needs --journal, and --aggregator-key with the new key",
            ));
        }
        let Some(every_us) = self.every_us else {
            return match self.rounds {
                Some(_) => Err(Contradiction::new(
                    &["rounds", "every"],
                    "--rounds needs --every DURATION",
                )),
                None => Ok(()),
            };
        };
        let fresh_keys = self.collector_keys.is_none() && self.remote < self.collectors;
        if self.write_roster.is_some() && fresh_keys {
            return Err(Contradiction::new(
                &["write-roster", "every", "collector-keys"],
                "--write-roster with --every needs --collector-keys DIR: a restarted collector would sign with a fresh key that is not in the roster",
            ));
        }
        // After the last sample, a period needs time for the answers, the report, and the announcement of the next round.
        let behind_us = limits::ANSWER_US_MIN + clear_us(every_us) + self.lead_us_min();
        let needed_us =
            (self.last_instant_us() + behind_us).max(u64::from(self.samples) * self.interval_us);
        if needed_us > every_us {
            return Err(Contradiction::new(
                &["every", "interval"],
                format!(
                    "{} samples, {} apart, of {} collectors do not fit into --every {}; use fewer --samples, a shorter --interval or a longer --every",
                    self.samples,
                    duration_text(self.interval_us),
                    self.collectors,
                    duration_text(every_us)
                ),
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
        if self.last_instant_us() > limits::ROUND_US_MAX {
            let longest = duration_text(limits::ROUND_US_MAX);
            return Err(Contradiction::new(
                &["samples", "interval"],
                format!(
                    "--samples times --interval is longer than {longest}; use fewer samples or a shorter interval"
                ),
            ));
        }
        if self.policy.heartbeat_us.is_some() && self.policy.deviation.is_none() {
            return Err(Contradiction::new(
                &["heartbeat", "deviation"],
                "--heartbeat needs --deviation; without it every round's price is published anyway",
            ));
        }
        let exchanges = self.tolerance().exchanges.count();
        if self.exchanges_min > exchanges {
            return Err(Contradiction::new(
                &["min-exchanges"],
                format!(
                    "--min-exchanges {} is more than the sources have: {}",
                    self.exchanges_min,
                    counted(exchanges.into(), "exchange")
                ),
            ));
        }
        match (self.remote, &self.enrolment_dir) {
            (remote, _) if remote > self.collectors => Err(Contradiction::new(
                &["remote", "collectors"],
                format!(
                    "--remote {remote} is more than --collectors {}, which counts remote collectors too",
                    self.collectors
                ),
            )),
            (1.., None) => Err(Contradiction::new(
                &["remote", "enrolment-dir"],
                "--remote needs --enrolment-dir DIR, for the enrolment files of the remote collectors",
            )),
            (0, Some(_)) => Err(Contradiction::new(
                &["enrolment-dir", "remote"],
                "--enrolment-dir needs --remote N: no collector is remote",
            )),
            _ => Ok(()),
        }
    }
}
