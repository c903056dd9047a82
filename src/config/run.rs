//! What `rsoracle run` is to do.
//!
//! Invariant: what a file says and what was typed are checked by the same rules, and together.
//! What this module does not do: look at the system.

use super::sources::{Limits, Watched, endpoint};
use super::{connection_age_us, feed, optional, path, proxy, sample_rule};
use crate::aggregate::{Rule, faulty_max, quorum};
use crate::args::{Given, Usage, duration_text};
use crate::limits;
use crate::price;
use crate::proxy::Proxy;
use crate::publish::Policy;
use crate::source::{Endpoint, Source};
use crate::tolerance::{Tolerance, counted};
use std::net::{IpAddr, SocketAddr};

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
    /// What the sources' limits are, slot by slot.
    pub limits: Vec<Limits>,
    /// What was dealt over the slots.
    pub watched: Watched,
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
    /// The proxy on the way to exchanges, if not what the environment names.
    pub proxy: Option<Proxy>,
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

/// `0.5%` as a part: 0.005.
fn percent(given: &Given, name: &str) -> Result<Option<f64>, Usage> {
    let Some(text) = given.text(name) else {
        return Ok(None);
    };
    let number = text
        .strip_suffix('%')
        .and_then(|number| price::parse(number).ok());
    let part = number
        .map(|number| number / 100.0)
        .filter(|part| *part <= 1.0);
    let right = "a percentage above 0% and up to 100%, such as 0.5%";
    part.map(Some).ok_or_else(|| given.wrong(name, text, right))
}

fn policy(given: &Given) -> Result<Policy, Usage> {
    Ok(Policy {
        deviation: percent(given, "deviation")?,
        heartbeat_us: optional(given, "heartbeat", |given| {
            given.duration_us("heartbeat", 1..=limits::HEARTBEAT_US_MAX)
        })?,
        move_max: percent(given, "max-move")?,
        spread_max: percent(given, "max-spread")?,
    })
}

/// What the file and the flags say of each slot's source. A file says nothing of a source that is not watched, unless what
/// is watched was typed in the file's stead.
fn limits_of(given: &Given, sources: &[Source]) -> Result<Vec<Limits>, Usage> {
    let typed = given.typed("source") || given.typed("sources");
    for part in &given.parts {
        Limits::read(given, Some(part))?;
        let (place, name) = (&part.place, &part.name);
        if !typed && !sources.iter().any(|source| source.prefix() == name) {
            return Err(Usage(format!(
                "{place}: section [source.{name}] is of a source that is not watched"
            )));
        }
    }
    let limits = |source: &Source| {
        let part = given.parts.iter().find(|part| part.name == source.prefix());
        Limits::read(given, part)
    };
    sources.iter().map(limits).collect()
}

/// A round ends so long before the next one is announced: to keep and publish its report in.
pub fn clear_us(every_us: u64) -> u64 {
    (every_us / limits::CLEAR_PART).min(limits::CLEAR_US_MAX)
}

impl Run {
    /// Makes sense of the flags of [`RUN`].
    pub fn from_flags(given: &Given) -> Result<Run, Usage> {
        let feed = feed(given)?;
        let watched = Watched::read(given, &feed)?;
        let collectors = watched.collectors(given)?;
        let sources = watched.sources.iter().cycle();
        let sources: Vec<Source> = sources.take(collectors.into()).cloned().collect();
        let bind: IpAddr =
            given.read("bind", "an IP address of this machine, such as 127.0.0.1")?;
        let remote = given.number("remote", 0..=limits::COLLECTORS_MAX)?;
        let place_named = ["control-port", "data-port", "bind"]
            .iter()
            .any(|name| given.switch(name));
        let run = Run {
            collectors,
            remote,
            any_port_will_do: remote == 0 && !place_named,
            enrolment_dir: path(given, "enrolment-dir")?,
            samples: given.number("samples", 1..=limits::SAMPLES_MAX)?,
            interval_us: given.duration_us(
                "interval",
                limits::INTERVAL_US_MIN..=limits::INTERVAL_US_MAX,
            )?,
            limits: limits_of(given, &sources)?,
            endpoint: endpoint(given, &sources)?,
            sources,
            watched,
            exchanges_min: given.number("min-exchanges", 1..=limits::COLLECTORS_MAX)?,
            feed,
            rule: given.read("rule", "trimmed-mean, median or mean")?,
            sample_rule: sample_rule(given)?,
            control: SocketAddr::new(bind, given.number("control-port", 0..=u16::MAX)?),
            data: SocketAddr::new(bind, given.number("data-port", 0..=u16::MAX)?),
            ca_file: path(given, "ca-file")?,
            proxy: proxy(given)?,
            ready_timeout_us: given.duration_us("ready-timeout", 100_000..=3_600_000_000)?,
            aggregator_key: path(given, "aggregator-key")?,
            collector_keys: path(given, "collector-keys")?,
            write_roster: path(given, "write-roster")?,
            every_us: optional(given, "every", |given| {
                given.duration_us("every", limits::PERIOD_US_MIN..=limits::ROUND_US_MAX)
            })?,
            rounds: optional(given, "rounds", |given| {
                given.number("rounds", 1..=i64::MAX as u64)
            })?,
            policy: policy(given)?,
            connection_age_us: connection_age_us(given)?,
            journal: path(given, "journal")?,
            retire_key: path(given, "retire-key")?,
            latest: path(given, "latest")?,
            json: given.switch("json"),
            quiet: given.switch("quiet"),
        };
        let checked = run.check().and_then(|()| run.check_rounds());
        checked.map_err(|Usage(sentence)| given.contradiction(sentence))?;
        Ok(run)
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
    fn check_rounds(&self) -> Result<(), Usage> {
        if self.retire_key.is_some() && (self.journal.is_none() || self.aggregator_key.is_none()) {
            return Err(Usage(
                "--retire-key goes with --journal and --aggregator-key, the new key".into(),
            ));
        }
        let Some(every_us) = self.every_us else {
            return match self.rounds {
                Some(_) => Err(Usage("--rounds goes with --every DURATION".into())),
                None => Ok(()),
            };
        };
        let fresh_keys = self.collector_keys.is_none() && self.remote < self.collectors;
        if self.write_roster.is_some() && fresh_keys {
            return Err(Usage("--write-roster with --every needs --collector-keys DIR: a collector that is started again would sign with a key that is not in the roster".into()));
        }
        // Behind the last sample come the answers, the report, and the announcement of the next round.
        let behind_us = limits::ANSWER_US_MIN + clear_us(every_us) + self.lead_us_min();
        let needed_us =
            (self.last_instant_us() + behind_us).max(u64::from(self.samples) * self.interval_us);
        if needed_us > every_us {
            return Err(Usage(format!(
                "{} samples {} apart of {} collectors take longer than --every {}; take fewer samples, a shorter --interval or a longer period",
                self.samples,
                duration_text(self.interval_us),
                self.collectors,
                duration_text(every_us)
            )));
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Usage> {
        if self.control.port() == self.data.port() && self.control.port() != 0 {
            let port = self.control.port();
            return Err(Usage(format!(
                "--control-port and --data-port are both {port}; the two channels need a port each"
            )));
        }
        if self.last_instant_us() > limits::ROUND_US_MAX {
            let longest = duration_text(limits::ROUND_US_MAX);
            return Err(Usage(format!(
                "--samples times --interval is longer than {longest}; take fewer samples or a shorter interval"
            )));
        }
        if self.policy.heartbeat_us.is_some() && self.policy.deviation.is_none() {
            return Err(Usage(
                "--heartbeat goes with --deviation; without it every round's price is published"
                    .into(),
            ));
        }
        let exchanges = self.tolerance().exchanges.count();
        if self.exchanges_min > exchanges {
            return Err(Usage(format!(
                "--min-exchanges {} is more than the sources name: {}",
                self.exchanges_min,
                counted(exchanges, "exchange")
            )));
        }
        match (self.remote, &self.enrolment_dir) {
            (remote, _) if remote > self.collectors => Err(Usage(format!(
                "--remote {remote} is more than --collectors {}; remote collectors are some of them",
                self.collectors
            ))),
            (1.., None) => Err(Usage(
                "--remote needs --enrolment-dir DIR, where the enrolment files go".into(),
            )),
            (0, Some(_)) => Err(Usage(
                "--enrolment-dir goes with --remote N; no collector here is remote".into(),
            )),
            _ => Ok(()),
        }
    }
}
