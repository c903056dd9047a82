//! What a command line means once it is checked.
//!
//! Invariant: a configuration that comes out of here is consistent in itself; the roles ask no further questions.
//! What this module does not do: look at the system (files, ports, names); the roles do, and say what is wrong there.

use crate::aggregate::{Rule, faulty_max, quorum};
use crate::args::{Given, Usage, duration_text, wrong};
use crate::limits;
use crate::price;
use crate::proxy::Proxy;
use crate::publish::Policy;
use crate::seal::unhex;
use crate::source::check_feed;
use std::net::{IpAddr, SocketAddr};

pub use crate::commands::{
    COLLECT, COMMANDS, DOCTOR, EXCHANGE, HISTORY, KEYGEN, KEYS, RESOLVE, RUN, VERIFY,
};
pub use crate::source::{Endpoint, Source, exchange_of};

/// What `rsoracle run` is to do.
#[derive(Clone, Debug)]
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
    /// What every collector watches.
    pub source: Source,
    /// Where the embedded exchange is, if it is not to be started.
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
    /// Wait for as long as the exchange turns this address away, instead of ending.
    pub stay: bool,
    /// The age at which a price is stale, if not the exchange's usual one.
    pub max_age_us: Option<u64>,
    /// How long the exchange may say nothing at all, likewise.
    pub max_silence_us: Option<u64>,
    /// How often the exchange is pinged, likewise.
    pub ping_every_us: Option<u64>,
}

fn source_and_endpoint(given: &Given) -> Result<(Source, Option<Endpoint>), Usage> {
    let name = given.required("source")?;
    let source = Source::parse(name).map_err(|right| wrong("source", name, &right))?;
    let endpoint = match given.text("endpoint") {
        Some(url) => Some(Endpoint::parse(url).map_err(|right| wrong("endpoint", url, right))?),
        None => None,
    };
    if endpoint.is_some() && !source.embedded {
        return Err(Usage(format!(
            "--endpoint goes with an 'embedded:' source only; what is signed as {} must come from {} itself",
            source.name,
            source.exchange()
        )));
    }
    Ok((source, endpoint))
}

/// A flag that need not be given.
fn optional<T>(
    given: &Given,
    name: &str,
    read: impl FnOnce(&Given) -> Result<T, Usage>,
) -> Result<Option<T>, Usage> {
    given.text(name).map(|_| read(given)).transpose()
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
    part.map(Some).ok_or_else(|| wrong(name, text, right))
}

fn policy(given: &Given) -> Result<Policy, Usage> {
    let policy = Policy {
        deviation: percent(given, "deviation")?,
        heartbeat_us: optional(given, "heartbeat", |given| {
            given.duration_us("heartbeat", 1..=limits::HEARTBEAT_US_MAX)
        })?,
        move_max: percent(given, "max-move")?,
        spread_max: percent(given, "max-spread")?,
    };
    if policy.heartbeat_us.is_some() && policy.deviation.is_none() {
        return Err(Usage(
            "--heartbeat goes with --deviation; without it every round's price is published".into(),
        ));
    }
    Ok(policy)
}

fn sample_rule(given: &Given) -> Result<Rule, Usage> {
    const RIGHT: &str = "mean or median";
    match given.read("sample-rule", RIGHT)? {
        Rule::TrimmedMean => Err(wrong("sample-rule", Rule::TrimmedMean.name(), RIGHT)),
        rule => Ok(rule),
    }
}

fn connection_age_us(given: &Given) -> Result<u64, Usage> {
    given.duration_us(
        "connection-age",
        limits::CONNECTION_AGE_US_MIN..=limits::ROUND_US_MAX,
    )
}

fn feed(given: &Given) -> Result<String, Usage> {
    let feed = given.required("feed")?;
    check_feed(feed).map_err(|right| wrong("feed", feed, right))?;
    Ok(feed.to_owned())
}

/// What is refused is not repeated: it may hold a password.
pub fn proxy(given: &Given) -> Result<Option<Proxy>, Usage> {
    let refused = |right| Usage(format!("--proxy makes no sense; it takes {right}"));
    let url = given.text("proxy").map(Proxy::parse);
    url.transpose().map_err(refused)
}

/// A path, if one is given. An empty one is what an unset variable in a script leaves, never what was meant.
fn path(given: &Given, name: &str) -> Result<Option<String>, Usage> {
    match given.text(name) {
        Some("") => Err(wrong(name, "", "a path")),
        text => Ok(text.map(str::to_owned)),
    }
}

/// A round ends so long before the next one is announced: to keep and publish its report in.
pub fn clear_us(every_us: u64) -> u64 {
    (every_us / limits::CLEAR_PART).min(limits::CLEAR_US_MAX)
}

impl Run {
    /// Makes sense of the flags of [`RUN`].
    pub fn from_flags(given: &Given) -> Result<Run, Usage> {
        let (source, endpoint) = source_and_endpoint(given)?;
        let bind: IpAddr =
            given.read("bind", "an IP address of this machine, such as 127.0.0.1")?;
        let run = Run {
            collectors: given.number("collectors", 1..=limits::COLLECTORS_MAX)?,
            remote: given.number("remote", 0..=limits::COLLECTORS_MAX)?,
            enrolment_dir: given.text("enrolment-dir").map(str::to_owned),
            samples: given.number("samples", 1..=limits::SAMPLES_MAX)?,
            interval_us: given.duration_us(
                "interval",
                limits::INTERVAL_US_MIN..=limits::INTERVAL_US_MAX,
            )?,
            source,
            endpoint,
            feed: feed(given)?,
            rule: given.read("rule", "trimmed-mean, median or mean")?,
            sample_rule: sample_rule(given)?,
            control: SocketAddr::new(bind, given.number("control-port", 0..=u16::MAX)?),
            data: SocketAddr::new(bind, given.number("data-port", 0..=u16::MAX)?),
            ca_file: given.text("ca-file").map(str::to_owned),
            proxy: proxy(given)?,
            ready_timeout_us: given.duration_us("ready-timeout", 100_000..=3_600_000_000)?,
            aggregator_key: path(given, "aggregator-key")?,
            collector_keys: path(given, "collector-keys")?,
            write_roster: path(given, "write-roster")?,
            every_us: optional(given, "every", |given| {
                given.duration_us("every", limits::PERIOD_US_MIN..=limits::ROUND_US_MAX)
            })?,
            rounds: optional(given, "rounds", |given| {
                given.number("rounds", 1..=u64::MAX)
            })?,
            policy: policy(given)?,
            connection_age_us: connection_age_us(given)?,
            journal: path(given, "journal")?,
            retire_key: path(given, "retire-key")?,
            latest: path(given, "latest")?,
            json: given.switch("json"),
            quiet: given.switch("quiet"),
        };
        run.check()?;
        run.check_rounds()?;
        Ok(run)
    }

    /// f: how many collectors may lie.
    pub fn f(&self) -> u16 {
        faulty_max(self.rule, self.collectors)
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
            return Err(Usage(
                "--write-roster with --every needs --collector-keys DIR: a collector that is started again would sign with a key that is not in the roster".into(),
            ));
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

impl Collect {
    /// Makes sense of the flags of [`COLLECT`].
    pub fn from_flags(given: &Given) -> Result<Collect, Usage> {
        let (source, endpoint) = source_and_endpoint(given)?;
        if source.embedded && endpoint.is_none() {
            return Err(Usage(
                "an 'embedded:' source needs --endpoint URL, where the embedded exchange listens"
                    .into(),
            ));
        }
        Ok(Collect {
            slot: given.number("slot", 0..=limits::COLLECTORS_MAX - 1)?,
            source,
            endpoint,
            feed: feed(given)?,
            control: given.address("control")?,
            data: given.address("data")?,
            sample_rule: sample_rule(given)?,
            ca_file: given.text("ca-file").map(str::to_owned),
            proxy: proxy(given)?,
            key: path(given, "key")?,
            connection_age_us: connection_age_us(given)?,
            stay: false,
            max_age_us: None,
            max_silence_us: None,
            ping_every_us: None,
        })
    }
}

/// What `rsoracle verify` is to check, and against what.
#[derive(Clone, Debug)]
pub struct Verify {
    /// The files; `-` is standard input.
    pub files: Vec<String>,
    /// The roster's file.
    pub roster: Option<String>,
    /// The signature of the report that must be the last.
    pub head: Option<[u8; 64]>,
    /// How old the last price may be.
    pub age_us_max: Option<u64>,
    /// Print JSON.
    pub json: bool,
}

impl Verify {
    /// Makes sense of the flags of [`VERIFY`].
    pub fn from_flags(given: &Given) -> Result<Verify, Usage> {
        let head = match given.text("head") {
            Some(text) => {
                let right = "the 128 lower-case hexadecimal digits of a report's signature";
                Some(unhex(text).ok_or_else(|| wrong("head", text, right))?)
            }
            None => None,
        };
        if head.is_some() && given.operands().len() > 1 {
            return Err(Usage(
                "--head goes with one FILE, whose last report it is".into(),
            ));
        }
        let age_us_max = match given.text("max-age") {
            Some(_) => Some(given.duration_us("max-age", 1..=limits::ROUND_US_MAX * 3_650)?),
            None => None,
        };
        Ok(Verify {
            files: given.operands().to_vec(),
            roster: path(given, "roster")?,
            head,
            age_us_max,
            json: given.switch("json"),
        })
    }
}

/// What `rsoracle history` is to show.
#[derive(Clone, Debug)]
pub struct History {
    /// The journal; `-` is standard input.
    pub file: String,
    /// How many rounds at most, from the end.
    pub last: usize,
    /// Print JSON.
    pub json: bool,
}

impl History {
    /// Makes sense of the flags of [`HISTORY`].
    pub fn from_flags(given: &Given) -> Result<History, Usage> {
        Ok(History {
            file: given.operands()[0].clone(),
            last: given.number("last", 1..=limits::ROUNDS_SHOWN_MAX)?,
            json: given.switch("json"),
        })
    }
}
