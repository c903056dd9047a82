//! Turns the flags of `rsoracle run` and the keys of its configuration file into settings, and the flags of `rsoracle aggregate`.
//!
//! Invariant: flags and keys are checked together, by the same rules. Nothing here looks at the system.

use super::sources::{Watched, check_played, warnings};
use crate::aggregator::settings::{Children, Run};
use crate::aggregator::words::of_feeds;
use crate::collector::settings::{Engagement, Overrides};
use crate::exchange::decimal;
use crate::exchange::proxy::Proxy;
use crate::exchange::requests_fit;
use crate::flags::args::{Given, Usage};
use crate::flags::tables::SERVE_LISTEN;
use crate::flags::values::{
    HEARTBEAT_US_MAX, OVERRIDES, bytes, connection_age_us, endpoint, feeds_to_price, optional,
    overrides, path, proxy, sample_rule,
};
use crate::source::Source;
use crate::system::limits;
use rsoracle_proof::duration::duration_text;
use rsoracle_proof::publish::Policy;
use rsoracle_proof::roster::ppm;
use rsoracle_proof::schedule::{Schedule, Tenure};
use rsoracle_proof::terms::{Roster, RosterSlot, Terms};
use rsoracle_proof::tolerance::counted;
use std::collections::BTreeMap;
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
            given.duration_us("heartbeat", 1..=HEARTBEAT_US_MAX)
        })?,
        move_max: percent(given, "max-move")?,
    })
}

/// The greatest spread of the prices used, in millionths.
fn spread_ppm_max(given: &Given) -> Result<Option<u32>, Usage> {
    let Some(text) = given.text("max-spread") else {
        return Ok(None);
    };
    let right =
        |right: &str| given.wrong("max-spread", text, right.trim_start_matches("it takes "));
    ppm(text).map(Some).map_err(right)
}

/// The overrides for each slot's kind of source. A section of the file for a source that is not watched is an error, unless the command
/// line overrode the file's sources.
fn overrides_of(given: &Given, sources: &[Vec<Source>]) -> Result<Vec<Overrides>, Usage> {
    let typed = given.typed("source") || given.typed("sources");
    for section in &given.sections {
        overrides(given, Some(section))?;
        let (place, name) = (&section.place, &section.name);
        if !typed && !sources.iter().any(|markets| markets[0].prefix() == name) {
            return Err(Usage(format!(
                "{place}: section [source.{name}] is for a source that is not watched"
            )));
        }
    }
    let of = |markets: &Vec<Source>| {
        let section = given
            .sections
            .iter()
            .find(|section| section.name == markets[0].prefix());
        overrides(given, section)
    };
    sources.iter().map(of).collect()
}

/// Overrides as flags of `rsoracle collect`.
fn override_flags(given: &Overrides) -> impl Iterator<Item = String> {
    let values = [given.max_age, given.max_silence, given.ping_every];
    let given = OVERRIDES.into_iter().zip(values);
    given.filter_map(|(name, value)| Some(format!("--{name}={}us", value?.as_micros())))
}

/// The terms of a feed that the flags of `run` describe, without seats.
fn terms(given: &Given, feed: String) -> Result<Terms, Usage> {
    let every_us = optional(given, "every", |given| {
        given.duration_us("every", limits::PERIOD_US_MIN..=limits::ROUND_US_MAX)
    });
    Ok(Terms {
        feed,
        rule: given.read("rule", "trimmed-mean, median or mean")?,
        sample_rule: sample_rule(given)?,
        exchanges_min: given.number("min-exchanges", 1..=limits::COLLECTORS_MAX)?,
        age_us_max: None,
        spread_ppm_max: spread_ppm_max(given)?,
        schedule: Schedule {
            first_start_us: 0,
            period_us: every_us?.unwrap_or(0),
            end_us: None,
            samples: given.number("samples", 1..=limits::SAMPLES_MAX)?,
            interval_us: given.duration_us(
                "interval",
                limits::INTERVAL_US_MIN..=limits::INTERVAL_US_MAX,
            )?,
        },
        seats: Vec::new(),
    })
}

/// Reads the flags that `run` and `aggregate` share, and checks that all fit together.
fn settings(
    given: &Given,
    roster: Roster,
    (served, tenure): (Option<String>, Tenure),
    children: Option<Children>,
) -> Result<Run, Usage> {
    let bind: IpAddr = given.read("bind", "an IP address of this machine, such as 127.0.0.1")?;
    let mut places = ["control-port", "data-port", "bind"].into_iter();
    let warnings = (0..).zip(&roster.feeds).flat_map(|(feed, terms)| {
        let warnings = warnings(&terms.tolerance()).into_iter();
        warnings.map(move |warning| (feed, warning))
    });
    let journal = path(given, "journal")?;
    let mut write_roster = match children {
        Some(_) => path(given, "write-roster")?,
        None => None,
    };
    let served = match children {
        // A roster that nobody asked for is written for the server.
        Some(_) if given.has("serve") => {
            let beside = journal.as_ref().map(|journal| format!("{journal}.roster"));
            write_roster = write_roster.or(beside);
            write_roster.clone()
        }
        Some(_) => None,
        None => served,
    };
    let run = Run {
        serve: serve(given, &journal, served)?,
        warnings: of_feeds(&roster, warnings),
        any_port_will_do: children.is_some() && !places.any(|name| given.has(name)),
        roster,
        tenure,
        write_roster,
        children,
        control: SocketAddr::new(bind, given.number("control-port", 0..=u16::MAX)?),
        data: SocketAddr::new(bind, given.number("data-port", 0..=u16::MAX)?),
        ready_timeout_us: given.duration_us("ready-timeout", 100_000..=3_600_000_000)?,
        aggregator_key: path(given, "aggregator-key")?,
        rounds: optional(given, "rounds", |given| {
            given.number("rounds", 1..=i64::MAX as u64)
        })?,
        policy: policy(given)?,
        journal,
        journal_max: bytes(given, "journal-max")?,
        retire_key: path(given, "retire-key")?,
        latest: path(given, "latest")?,
        json: given.has("json"),
        quiet: given.has("quiet"),
    };
    check_once(given, &run)?;
    check_rounds(given, &run)?;
    check_latest(given, &run)?;
    Ok(run)
}

/// The address and the arguments of the server that `--serve` starts, if it is given.
fn serve(
    given: &Given,
    journal: &Option<String>,
    roster: Option<String>,
) -> Result<Option<(SocketAddr, Vec<String>)>, Usage> {
    if !given.has("serve") {
        return Ok(None);
    }
    let address = match given.text("serve") {
        None | Some("") => SERVE_LISTEN.parse().expect("an address"),
        Some(_) => given.address("serve")?,
    };
    let sentence = "--serve needs --journal FILE, whose reports it serves";
    let journal = journal
        .as_ref()
        .ok_or_else(|| given.contradiction(&["serve"], sentence))?;
    let mut words = vec!["serve".to_owned(), format!("--journal={journal}")];
    words.extend(roster.map(|roster| format!("--roster={roster}")));
    Ok(Some((address, words)))
}

/// Checks that feeds do not share a file in the directory of `--latest`.
fn check_latest(given: &Given, run: &Run) -> Result<(), Usage> {
    let mut taken = BTreeMap::new();
    for (terms, path) in run.roster.feeds.iter().zip(run.latest_files()) {
        let Some(path) = path else { continue };
        if let Some(other) = taken.insert(path.clone(), &terms.feed) {
            let feed = &terms.feed;
            let sentence = format!("--latest: {other} and {feed} would share the file {path}");
            return Err(given.contradiction(&["latest"], sentence));
        }
    }
    Ok(())
}

/// Checks what concerns a single round.
fn check_once(given: &Given, run: &Run) -> Result<(), Usage> {
    let port = run.control.port();
    if port == run.data.port() && port != 0 {
        return Err(given.contradiction(
            &["control-port", "data-port"],
            format!(
                "--control-port and --data-port are both {port}; each channel needs its own port"
            ),
        ));
    }
    run.roster.schedule().check().map_err(|why| {
        given.contradiction(
            &["every", "samples", "interval"],
            format!("--every, --samples and --interval do not go together: {why}"),
        )
    })?;
    if run.policy.heartbeat_us.is_some() && run.policy.deviation.is_none() {
        return Err(given.contradiction(
            &["heartbeat", "deviation"],
            "--heartbeat needs --deviation; without it every round's price is published anyway",
        ));
    }
    let few = |terms: &Terms| {
        let exchanges = terms.tolerance().exchanges.count();
        (terms.exchanges_min > exchanges).then_some((terms.exchanges_min, exchanges))
    };
    if let Some((least, exchanges)) = run.roster.feeds.iter().find_map(few) {
        let exchanges = counted(exchanges, "exchange");
        return Err(given.contradiction(
            &["min-exchanges"],
            format!("--min-exchanges {least} is more than the sources have: {exchanges}"),
        ));
    }
    Ok(())
}

/// Checks what concerns more than one round: periods, keys and rosters that outlast it.
fn check_rounds(given: &Given, run: &Run) -> Result<(), Usage> {
    if run.retire_key.is_some() && (run.journal.is_none() || run.aggregator_key.is_none()) {
        return Err(given.contradiction(
            &["retire-key", "journal", "aggregator-key"],
            "--retire-key needs --journal, and --aggregator-key with the new key",
        ));
    }
    if run.journal_max.is_some() && run.journal.is_none() {
        let sentence = "--journal-max needs --journal FILE";
        return Err(given.contradiction(&["journal-max", "journal"], sentence));
    }
    if run.rounds.is_some() && run.single() {
        let sentence = match run.children {
            Some(_) => "--rounds needs --every DURATION",
            None => "--rounds needs a roster of more than one round",
        };
        return Err(given.contradiction(&["rounds", "every"], sentence));
    }
    if run.serve.is_some() && run.single() {
        let sentence = match run.children {
            Some(_) => "--serve needs --every DURATION: the server ends with the run",
            None => "--serve needs a roster of more than one round: the server ends with the last",
        };
        return Err(given.contradiction(&["serve", "every"], sentence));
    }
    if given.has("write-roster") && !run.single() && run.collector_keys().is_none() {
        return Err(given.contradiction(
            &["write-roster", "every", "collector-keys"],
            "--write-roster with --every needs --collector-keys DIR: a restarted collector would sign with a fresh key that is not in the roster",
        ));
    }
    Ok(())
}

/// Checks that exchanges allow what collectors of one address ask of them.
fn check_requests(
    given: &Given,
    sources: &[Vec<Source>],
    schedule: &Schedule,
) -> Result<(), Usage> {
    let refused = |source: &Source, why: String| {
        let sentence = format!("{}: {why}", source.prefix());
        given.contradiction(&["every", "samples", "feed", "collectors"], sentence)
    };
    for markets in sources {
        let fit = requests_fit(&markets[0], markets.len(), schedule);
        fit.map_err(|why| refused(&markets[0], why))?;
    }
    // The limit on requests holds for all collectors together.
    let asked = |source: &&Source| ["binance", "binance-book"].contains(&source.prefix());
    let asked: Vec<&Source> = sources.iter().flatten().filter(asked).collect();
    let fit = |first: &&Source| {
        let fit = requests_fit(first, asked.len(), schedule);
        fit.map_err(|why| refused(first, why))
    };
    asked.first().map_or(Ok(()), fit)
}

/// Reads the flags of [`RUN`](crate::flags::tables::RUN), with the values of a configuration file if there is one.
pub fn read(given: &Given) -> Result<Configuration, Usage> {
    let feeds = feeds_to_price(given)?;
    let watched = Watched::read(given, &feeds)?;
    let collectors = watched.collectors(given, feeds.len())?;
    let sources = watched.sources.iter().cycle();
    let sources: Vec<Vec<Source>> = sources.take(collectors.into()).cloned().collect();
    let proxy = proxy(given)?;
    let variables = proxy.iter().flat_map(Proxy::variables);
    let environment = variables.map(|(name, value)| (name, value.to_owned()));
    let feeds = feeds.into_iter().map(|feed| terms(given, feed));
    let feeds = feeds.collect::<Result<Vec<Terms>, Usage>>()?;
    // Keys are not known yet.
    let slot = |markets: &Vec<Source>| RosterSlot {
        key: None,
        sources: markets.iter().map(|source| source.name.clone()).collect(),
    };
    let roster = Roster::new(1, None, feeds, sources.iter().map(slot).collect());
    let age = duration_text(connection_age_us(given)?);
    let flags = |overrides: &Overrides| {
        let age = format!("--connection-age={age}");
        override_flags(overrides).chain([age]).collect()
    };
    let endpoint = endpoint(given, &sources.concat())?.map(|it| it.url);
    if endpoint.is_none() {
        check_played(given, &sources.concat())?;
    }
    // What is served has a roster, which a restart of a collector or of the run must not overthrow.
    let journal = path(given, "journal")?.filter(|_| given.has("serve"));
    let beside = journal.map(|journal| format!("{journal}.keys"));
    let keys = path(given, "collector-keys")?;
    let children = Children {
        flags: overrides_of(given, &sources)?.iter().map(flags).collect(),
        endpoint,
        ca_file: path(given, "ca-file")?,
        environment: environment.collect(),
        keys_beside: keys.is_none() && beside.is_some(),
        keys: keys.or(beside),
    };
    let run = settings(given, roster, Default::default(), Some(children))?;
    let mut schedule = *run.roster.schedule();
    if let Some(rounds) = run.rounds {
        let end_us = rounds.saturating_mul(schedule.period_us);
        let end_us = end_us.saturating_add(schedule.first_start_us);
        schedule.end_us = Some(schedule.end_us.map_or(end_us, |us| us.min(end_us)));
    }
    check_requests(given, &sources, &schedule)?;
    Ok(Configuration {
        run,
        watched,
        proxy,
    })
}

/// Reads the flags of [`AGGREGATE`](crate::flags::tables::AGGREGATE).
pub fn aggregate(
    given: &Given,
    Engagement {
        path,
        roster,
        tenure,
    }: Engagement,
) -> Result<Run, Usage> {
    let run = settings(given, roster, (Some(path), tenure), None)?;
    if run.rounds.is_some() && tenure.until_us.is_some() {
        let sentence = "--rounds does not go with a roster that ends when the next one counts";
        return Err(given.contradiction(&["rounds", "roster"], sentence));
    }
    Ok(run)
}
