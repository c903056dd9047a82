//! What `rsoracle run` is to do.
//!
//! Invariant: what a file says and what was typed are checked by the same rules, and together.
//! What this module does not do: look at the system.

use crate::collector::overrides::Overrides;
use crate::system::endpoint::Endpoint;
use crate::system::limits;
use rsoracle_proof::aggregate::{Rule, faulty_max, quorum};
use rsoracle_proof::publish::Policy;
use rsoracle_proof::source::Source;
use rsoracle_proof::tolerance::{Tolerance, counted};
use rsoracle_verify::duration::duration_text;
use std::net::SocketAddr;

/// Flags that do not go together.
#[derive(Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// Which, the first first.
    pub flags: &'static [&'static str],
    /// What is wrong and what would be right.
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

/// What `rsoracle run` is to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Slots in the roster.
    pub collectors: u16,
    /// Of these, how many come from elsewhere (the last ones).
    pub remote: u16,
    /// Where the enrolment files of remote collectors go.
    pub enrolment_dir: Option<String>,
    /// Samples per round.
    pub samples: u32,
    /// From one sample to the next.
    pub interval_us: u64,
    /// What each collector watches, slot by slot.
    pub sources: Vec<Source>,
    /// What holds instead of the exchanges' own rules, slot by slot.
    pub overrides: Vec<Overrides>,
    /// The fewest distinct exchanges from which a price may be published.
    pub exchanges_min: u16,
    /// Where embedded exchanges are, if none is to be started.
    pub endpoint: Option<Endpoint>,
    /// What is priced.
    pub feed: String,
    /// How prices become one.
    pub rule: Rule,
    /// How a collector's samples become one.
    pub sample_rule: Rule,
    /// Control channel, port 0 for any.
    pub control: SocketAddr,
    /// Data channel, port 0 for any.
    pub data: SocketAddr,
    /// Whether free ports will do where these are in use: nobody asked for them, and all collectors are started here.
    pub any_port_will_do: bool,
    /// Certificates to trust besides the system's.
    pub ca_file: Option<String>,
    /// What the collectors' environment must hold besides ours, for the proxy on their way to the exchanges.
    pub environment: Vec<(&'static str, String)>,
    /// How long collectors may take to be ready.
    pub ready_timeout_us: u64,
    /// The aggregator's key, if not a fresh one.
    pub aggregator_key: Option<String>,
    /// Where the keys of local collectors are, if not fresh ones.
    pub collector_keys: Option<String>,
    /// Where the roster goes.
    pub write_roster: Option<String>,
    /// From one round's start to the next; one round only if there is none.
    pub every_us: Option<u64>,
    /// How many rounds; without end if it is not said.
    pub rounds: Option<u64>,
    /// When a price is published.
    pub policy: Policy,
    /// How old a collector's connection to its exchange may get.
    pub connection_age_us: u64,
    /// Where all reports are kept.
    pub journal: Option<String>,
    /// The key that signed the journal until now, if this run's key is another.
    pub retire_key: Option<String>,
    /// Where the newest published report is.
    pub latest: Option<String>,
    /// Print JSON.
    pub json: bool,
    /// Print no progress.
    pub quiet: bool,
}

/// A round ends so long before the next one is announced: to keep and publish its report in.
pub fn clear_us(every_us: u64) -> u64 {
    (every_us / limits::CLEAR_PART).min(limits::CLEAR_US_MAX)
}

impl Run {
    /// Whether all of it goes together.
    pub fn check(&self) -> Result<(), Contradiction> {
        self.check_once().and_then(|()| self.check_rounds())
    }

    /// f: how many collectors may lie.
    pub fn f(&self) -> u16 {
        faulty_max(self.rule, self.collectors)
    }

    /// Whether prices of it are recorded ones.
    pub fn embedded(&self) -> bool {
        self.sources.iter().any(|source| source.embedded)
    }

    /// What its roster survives.
    pub fn tolerance(&self) -> Tolerance<'_> {
        let names: Vec<&str> = self.sources.iter().map(|source| &*source.name).collect();
        Tolerance::of(&self.feed, &names, self.f())
    }

    /// The fewest prices from which one may be published.
    pub fn quorum(&self) -> u16 {
        quorum(self.collectors, self.f())
    }

    /// The shortest time between a round's announcement and its start.
    pub fn lead_us_min(&self) -> u64 {
        let waking_us = u64::from(self.collectors) * limits::LEAD_US_PER_COLLECTOR;
        waking_us.clamp(limits::LEAD_MS_MIN * 1_000, limits::LEAD_MS_MAX * 1_000)
    }

    /// The longest such time: with a period at most half of what the samples leave of it, so that one slow collector, or one
    /// that lies about its clock, does not take the time in which the others answer.
    pub fn lead_us_max(&self) -> u64 {
        let half_us = |every_us: u64| {
            let left_us = every_us - self.last_instant_us() - clear_us(every_us);
            (left_us / 2).max(self.lead_us_min())
        };
        let longest_us = limits::LEAD_MS_MAX * 1_000;
        self.every_us.map_or(longest_us, half_us).min(longest_us)
    }

    /// From a round's start to its last sample.
    fn last_instant_us(&self) -> u64 {
        u64::from(self.samples - 1) * self.interval_us
    }

    /// What rounds without end ask for.
    fn check_rounds(&self) -> Result<(), Contradiction> {
        if self.retire_key.is_some() && (self.journal.is_none() || self.aggregator_key.is_none()) {
            return Err(Contradiction::new(
                &["retire-key", "journal", "aggregator-key"],
                "--retire-key goes with --journal and --aggregator-key, the new key",
            ));
        }
        let Some(every_us) = self.every_us else {
            return match self.rounds {
                Some(_) => Err(Contradiction::new(
                    &["rounds", "every"],
                    "--rounds goes with --every DURATION",
                )),
                None => Ok(()),
            };
        };
        let fresh_keys = self.collector_keys.is_none() && self.remote < self.collectors;
        if self.write_roster.is_some() && fresh_keys {
            return Err(Contradiction::new(
                &["write-roster", "every", "collector-keys"],
                "--write-roster with --every needs --collector-keys DIR: a collector that is started again would sign with a key that is not in the roster",
            ));
        }
        // Behind the last sample come the answers, the report, and the announcement of the next round.
        let behind_us = limits::ANSWER_US_MIN + clear_us(every_us) + self.lead_us_min();
        let needed_us =
            (self.last_instant_us() + behind_us).max(u64::from(self.samples) * self.interval_us);
        if needed_us > every_us {
            return Err(Contradiction::new(
                &["every", "interval"],
                format!(
                    "{} samples {} apart of {} collectors take longer than --every {}; take fewer samples, a shorter --interval or a longer period",
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
                    "--control-port and --data-port are both {port}; the two channels need a port each"
                ),
            ));
        }
        if self.last_instant_us() > limits::ROUND_US_MAX {
            let longest = duration_text(limits::ROUND_US_MAX);
            return Err(Contradiction::new(
                &["samples", "interval"],
                format!(
                    "--samples times --interval is longer than {longest}; take fewer samples or a shorter interval"
                ),
            ));
        }
        if self.policy.heartbeat_us.is_some() && self.policy.deviation.is_none() {
            return Err(Contradiction::new(
                &["heartbeat", "deviation"],
                "--heartbeat goes with --deviation; without it every round's price is published",
            ));
        }
        let exchanges = self.tolerance().exchanges.count();
        if self.exchanges_min > exchanges {
            return Err(Contradiction::new(
                &["min-exchanges"],
                format!(
                    "--min-exchanges {} is more than the sources name: {}",
                    self.exchanges_min,
                    counted(exchanges, "exchange")
                ),
            ));
        }
        match (self.remote, &self.enrolment_dir) {
            (remote, _) if remote > self.collectors => Err(Contradiction::new(
                &["remote", "collectors"],
                format!(
                    "--remote {remote} is more than --collectors {}; remote collectors are some of them",
                    self.collectors
                ),
            )),
            (1.., None) => Err(Contradiction::new(
                &["remote", "enrolment-dir"],
                "--remote needs --enrolment-dir DIR, where the enrolment files go",
            )),
            (0, Some(_)) => Err(Contradiction::new(
                &["enrolment-dir", "remote"],
                "--enrolment-dir goes with --remote N; no collector here is remote",
            )),
            _ => Ok(()),
        }
    }
}
