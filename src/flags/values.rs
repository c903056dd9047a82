//! Values of flags that several commands have, as what they mean.
//!
//! What this module does not do: look at the system (files, ports, names); the roles do, and say what is wrong there.

use crate::collector::overrides::Overrides;
use crate::exchange::proxy::Proxy;
use crate::flags::args::{Given, Part, Usage};
use crate::system::endpoint::Endpoint;
use crate::system::limits::{CONNECTION_AGE_US_MIN, ROUND_US_MAX};
use rsoracle_proof::aggregate::Rule;
use rsoracle_proof::source::{Source, check_feed};
use std::time::Duration;

/// A flag that need not be given.
pub fn optional<T>(
    given: &Given,
    name: &str,
    read: impl FnOnce(&Given) -> Result<T, Usage>,
) -> Result<Option<T>, Usage> {
    given.text(name).map(|_| read(given)).transpose()
}

/// How samples become one.
pub fn sample_rule(given: &Given) -> Result<Rule, Usage> {
    const RIGHT: &str = "mean or median";
    match given.read("sample-rule", RIGHT)? {
        Rule::TrimmedMean => Err(given.wrong("sample-rule", Rule::TrimmedMean.name(), RIGHT)),
        rule => Ok(rule),
    }
}

/// How old a connection may get.
pub fn connection_age_us(given: &Given) -> Result<u64, Usage> {
    given.duration_us("connection-age", CONNECTION_AGE_US_MIN..=ROUND_US_MAX)
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
        given.contradiction(&["proxy"], sentence)
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

/// Where embedded sources are, if not where this program starts them itself.
pub fn endpoint(given: &Given, sources: &[Source]) -> Result<Option<Endpoint>, Usage> {
    let Some(url) = given.text("endpoint") else {
        return Ok(None);
    };
    let endpoint = Endpoint::parse(url).map_err(|right| given.wrong("endpoint", url, right))?;
    if sources.iter().any(|source| source.embedded) {
        return Ok(Some(endpoint));
    }
    let live = sources.first().expect("something is watched");
    Err(given.contradiction(&["endpoint"], format!(
        "--endpoint goes with an 'embedded:' source only; what is signed as {} must come from {} itself",
        live.name,
        live.exchange()
    )))
}

/// What changes an exchange's own rules: what was typed, else what a file says of the source, else what it says of all.
pub fn overrides(given: &Given, part: Option<&Part>) -> Result<Overrides, Usage> {
    let value = |name: &str| {
        let part = part.filter(|part| part.given.has(name) && !given.typed(name));
        let said = part.map_or(given, |part| &part.given);
        optional(said, name, |said| {
            let us = said.duration_us(name, 10_000..=ROUND_US_MAX)?;
            Ok(Duration::from_micros(us))
        })
    };
    let [max_age, max_silence, ping_every] = Overrides::FLAGS.map(value);
    Ok(Overrides::new([max_age?, max_silence?, ping_every?]))
}
