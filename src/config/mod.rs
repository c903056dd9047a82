//! What a command line means once it is checked.
//!
//! Invariant: a configuration that comes out of here is consistent in itself; the roles ask no further questions.
//! What this module does not do: look at the system (files, ports, names); the roles do, and say what is wrong there.

pub mod file;
mod run;
mod sources;

pub use run::{Run, clear_us};
pub use sources::{Limits, endpoint};

use crate::aggregate::Rule;
use crate::args::{Given, Usage};
use crate::limits;
use crate::proxy::Proxy;
use crate::seal::unhex;
use crate::source::check_feed;
use std::net::SocketAddr;

pub use crate::commands::{
    COLLECT, COMMANDS, DOCTOR, EXCHANGE, HISTORY, KEYGEN, KEYS, MANUAL, RESOLVE, RUN, VERIFY,
};
pub use crate::source::{Endpoint, Source};

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
    /// How old a price may be, if not as old as the exchange's own rule says.
    pub max_age_us: Option<u64>,
    /// How long the connection may keep silent, if not as that rule says.
    pub max_silence_us: Option<u64>,
    /// How often the exchange is pinged, if not as that rule says.
    pub ping_every_us: Option<u64>,
    /// Wait while the exchange turns this address away, instead of ending.
    pub stay: bool,
}

/// A flag that need not be given.
fn optional<T>(
    given: &Given,
    name: &str,
    read: impl FnOnce(&Given) -> Result<T, Usage>,
) -> Result<Option<T>, Usage> {
    given.text(name).map(|_| read(given)).transpose()
}

fn sample_rule(given: &Given) -> Result<Rule, Usage> {
    const RIGHT: &str = "mean or median";
    match given.read("sample-rule", RIGHT)? {
        Rule::TrimmedMean => Err(given.wrong("sample-rule", Rule::TrimmedMean.name(), RIGHT)),
        rule => Ok(rule),
    }
}

fn connection_age_us(given: &Given) -> Result<u64, Usage> {
    given.duration_us(
        "connection-age",
        limits::CONNECTION_AGE_US_MIN..=limits::ROUND_US_MAX,
    )
}

/// What is priced.
pub fn feed(given: &Given) -> Result<String, Usage> {
    let feed = given.required("feed")?;
    check_feed(feed).map_err(|right| given.wrong("feed", feed, right))?;
    Ok(feed.to_owned())
}

/// The proxy that is named, if one is. What is refused is not repeated: it may hold a password.
pub fn proxy(given: &Given) -> Result<Option<Proxy>, Usage> {
    let refused = |right| {
        let sentence = format!("--proxy makes no sense; it takes {right}");
        given.contradiction(sentence)
    };
    let url = given.text("proxy").map(Proxy::parse);
    url.transpose().map_err(refused)
}

/// A path, if one is given. An empty one is what an unset variable in a script leaves, never what was meant; control
/// characters have no spelling in a configuration file.
pub fn path(given: &Given, name: &str) -> Result<Option<String>, Usage> {
    match given.text(name) {
        Some(text) if text.is_empty() || text.contains(char::is_control) => {
            Err(given.wrong(name, text, "a path without control characters"))
        }
        text => Ok(text.map(str::to_owned)),
    }
}

impl Collect {
    /// Makes sense of the flags of [`COLLECT`].
    pub fn from_flags(given: &Given) -> Result<Collect, Usage> {
        let (name, feed) = (given.required("source")?, feed(given)?);
        let source = Source::parse_for(name, &feed);
        let source = source.map_err(|right| given.wrong("source", name, &right))?;
        let endpoint = endpoint(given, std::slice::from_ref(&source))?;
        let limits = Limits::read(given, None)?;
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
            feed,
            control: given.address("control")?,
            data: given.address("data")?,
            sample_rule: sample_rule(given)?,
            ca_file: path(given, "ca-file")?,
            proxy: proxy(given)?,
            key: path(given, "key")?,
            connection_age_us: connection_age_us(given)?,
            max_age_us: limits.age_us_max,
            max_silence_us: limits.silence_us_max,
            ping_every_us: limits.ping_us,
            stay: given.switch("stay"),
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
                Some(unhex(text).ok_or_else(|| given.wrong("head", text, right))?)
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
