//! Turns the flags of `rsoracle run` and the keys of its configuration file into settings.
//!
//! Invariant: flags and keys are checked together, by the same rules. Nothing here looks at the system.

use super::sources::Watched;
use crate::aggregator::settings::Run;
use crate::collector::overrides::Overrides;
use crate::exchange::decimal;
use crate::exchange::proxy::Proxy;
use crate::flags::args::{Given, Usage};
use crate::flags::values::{
    connection_age_us, endpoint, feed, optional, overrides, path, proxy, sample_rule,
};
use crate::source::Source;
use crate::system::limits;
use rsoracle_proof::publish::Policy;
use std::net::{IpAddr, SocketAddr};

/// The configuration of a run: the aggregator's settings, and what only [`super::file::render`] and [`super::way::check`] need.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// The aggregator's settings.
    pub run: Run,
    /// The sources, before they are assigned to slots.
    pub watched: Watched,
    /// The proxy for exchanges, if `--proxy` names one. It overrides the environment.
    pub proxy: Option<Proxy>,
}

/// A percentage as a fraction: 0.005 for `0.5%`.
fn percent(given: &Given, name: &str) -> Result<Option<f64>, Usage> {
    let Some(text) = given.text(name) else {
        return Ok(None);
    };
    let number = text
        .strip_suffix('%')
        .and_then(|number| decimal::parse(number).ok());
    let fraction = number
        .map(|number| number / 100.0)
        .filter(|fraction| *fraction <= 1.0);
    let right = "a percentage above 0% and up to 100%, such as 0.5%";
    fraction
        .map(Some)
        .ok_or_else(|| given.wrong(name, text, right))
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

/// The overrides for each slot's source. A section of the file for a source that is not watched is an error, unless the command
/// line overrode the file's sources.
fn overrides_of(given: &Given, sources: &[Source]) -> Result<Vec<Overrides>, Usage> {
    let typed = given.typed("source") || given.typed("sources");
    for section in &given.sections {
        overrides(given, Some(section))?;
        let (place, name) = (&section.place, &section.name);
        if !typed && !sources.iter().any(|source| source.prefix() == name) {
            return Err(Usage(format!(
                "{place}: section [source.{name}] is for a source that is not watched"
            )));
        }
    }
    let of = |source: &Source| {
        let section = given
            .sections
            .iter()
            .find(|section| section.name == source.prefix());
        overrides(given, section)
    };
    sources.iter().map(of).collect()
}

/// Reads the flags of [`RUN`](crate::flags::tables::RUN), with the values of a configuration file if there is one.
pub fn read(given: &Given) -> Result<Configuration, Usage> {
    let feed = feed(given)?;
    let watched = Watched::read(given, &feed)?;
    let collectors = watched.collectors(given)?;
    let sources = watched.sources.iter().cycle();
    let sources: Vec<Source> = sources.take(collectors.into()).cloned().collect();
    let bind: IpAddr = given.read("bind", "an IP address of this machine, such as 127.0.0.1")?;
    let proxy = proxy(given)?;
    let variables = proxy.iter().flat_map(Proxy::variables);
    let environment = variables.map(|(name, value)| (name, value.to_owned()));
    let environment = environment.collect();
    let remote = given.number("remote", 0..=limits::COLLECTORS_MAX)?;
    let place_named = ["control-port", "data-port", "bind"]
        .iter()
        .any(|name| given.has(name));
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
        overrides: overrides_of(given, &sources)?,
        endpoint: endpoint(given, &sources)?,
        sources,
        exchanges_min: given.number("min-exchanges", 1..=limits::COLLECTORS_MAX)?,
        feed,
        rule: given.read("rule", "trimmed-mean, median or mean")?,
        sample_rule: sample_rule(given)?,
        control: SocketAddr::new(bind, given.number("control-port", 0..=u16::MAX)?),
        data: SocketAddr::new(bind, given.number("data-port", 0..=u16::MAX)?),
        ca_file: path(given, "ca-file")?,
        environment,
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
        json: given.has("json"),
        quiet: given.has("quiet"),
    };
    run.check()
        .map_err(|wrong| given.contradiction(wrong.flags, wrong.sentence))?;
    Ok(Configuration {
        run,
        watched,
        proxy,
    })
}
