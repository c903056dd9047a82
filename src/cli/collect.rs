//! Turns the flags of `rsoracle collect` into settings.

use crate::collector::settings::{AggregatorPlace, Charge, Collect, Engagement};
use crate::flags::args::{Given, Usage};
use crate::flags::values::{
    CONTROL_PORT, DATA_PORT, connection_age_us, endpoint, endpoint_of, overrides, path, proxy,
};
use crate::source::Source;
use crate::system::endpoint::{Endpoint, host_and_port};
use crate::system::limits::{COLLECTORS_MAX, FEEDS_MAX};
use rsoracle_proof::seal::{PublicKey, unhex};
use rsoracle_proof::source::kind_of;
use std::net::Ipv6Addr;

/// Flags that go with `--tether` only.
const CHILD: [&str; 4] = ["slot", "source", "control", "data"];
/// Flags that go with `--roster` only.
const BY_HAND: [&str; 3] = ["aggregator", "state", "check"];

/// Whether a collector is started by hand. The error says which flags are missing, or do not go together.
pub fn is_by_hand(given: &Given) -> Result<bool, Usage> {
    let tether = given.has("tether");
    if tether == given.has("roster") {
        return Err(Usage(
            "a collector needs --roster FILE, --key FILE and --aggregator HOST@KEY; or else --tether, with which 'rsoracle run' starts its own"
                .into(),
        ));
    }
    let (foreign, own) = match tether {
        true => (&BY_HAND[..], "tether"),
        false => (&CHILD[..], "roster"),
    };
    if let Some(name) = foreign.iter().find(|name| given.has(name)) {
        return Err(Usage(format!("--{name} does not go with --{own}")));
    }
    if !tether {
        given.required("key")?;
        given.required("aggregator")?;
    }
    Ok(!tether)
}

/// Reads the flags of [`crate::flags::tables::COLLECT`]. Of a collector by hand, `engagements` are its rosters.
pub fn read(given: &Given, engagements: Vec<Engagement>) -> Result<Collect, Usage> {
    let is_child = engagements.is_empty();
    let (charge, aggregators, endpoint) = match is_child {
        true => child(given)?,
        false => by_hand(given, engagements)?,
    };
    Ok(Collect {
        charge,
        aggregators,
        endpoint,
        ca_file: path(given, "ca-file")?,
        proxy: proxy(given)?,
        key: path(given, "key")?,
        connection_age_us: connection_age_us(given)?,
        overrides: overrides(given, None)?,
        stay: !is_child || given.has("stay"),
    })
}

/// What is different between a child and a collector by hand.
type Post = (Charge, Vec<AggregatorPlace>, Option<Endpoint>);

/// What a child of `rsoracle run` is told.
fn child(given: &Given) -> Result<Post, Usage> {
    given.required("source")?;
    let read = |name| Source::parse(name).map_err(|right| given.wrong("source", name, &right));
    let sources: Vec<Source> = given
        .all("source")
        .map(read)
        .collect::<Result<_, Usage>>()?;
    let kind = kind_of(&sources[0].name);
    if sources.iter().any(|source| kind_of(&source.name) != kind) || sources.len() > FEEDS_MAX {
        let right = format!("at most {FEEDS_MAX} sources, all of one kind");
        return Err(given.wrong("source", &sources[sources.len() - 1].name, &right));
    }
    let endpoint = endpoint(given, &sources)?;
    if sources.iter().any(|source| source.embedded) && endpoint.is_none() {
        return Err(Usage(
            "an 'embedded:' source needs --endpoint URL, the address of the embedded exchange"
                .into(),
        ));
    }
    let (control, data) = (given.address("control")?, given.address("data")?);
    let place = AggregatorPlace {
        host: control.ip().to_string(),
        control_port: control.port(),
        data_ip: Some(data.ip()),
        data_port: data.port(),
        key: None,
    };
    let slot = given.number("slot", 0..=COLLECTORS_MAX - 1)?;
    Ok((Charge::Tether { slot, sources }, vec![place], endpoint))
}

/// What an operator says.
fn by_hand(given: &Given, engagements: Vec<Engagement>) -> Result<Post, Usage> {
    let place = |text: &str| {
        let right = "HOST@KEY or HOST:CONTROL,DATA@KEY, as in oracle.example:8000,8080@KEY: two ports, and the aggregator's public key as 64 lower-case hexadecimal digits; an IPv6 address in brackets";
        place(text).ok_or_else(|| given.wrong("aggregator", text, right))
    };
    let places = given.all("aggregator").map(place);
    let charge = Charge::Roster {
        engagements,
        state: path(given, "state")?,
    };
    let places = places.collect::<Result<_, Usage>>()?;
    Ok((charge, places, endpoint_of(given)?))
}

/// Parses `HOST[:CONTROL,DATA]@KEY`.
fn place(text: &str) -> Option<AggregatorPlace> {
    let (at, key) = text.rsplit_once('@')?;
    let (host, control_port, data_port) = match at.rsplit_once(',') {
        Some((control, data)) => {
            let data_port = data.parse().ok().filter(|port| *port != 0)?;
            host_and_port(control).map(|(_, port)| {
                let (host, _) = control.rsplit_once(':').expect("it has a port");
                (host, port, data_port)
            })?
        }
        None => (at, CONTROL_PORT, DATA_PORT),
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let sound = match bare {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
    };
    (sound && !host.is_empty()).then_some(())?;
    Some(AggregatorPlace {
        host: bare.unwrap_or(host).to_owned(),
        control_port,
        data_ip: None,
        data_port,
        key: Some(PublicKey::decode(&unhex(key)?)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::secret::SecretKey;
    use rsoracle_proof::seal::hex;

    #[test]
    fn an_aggregator_is_a_host_its_ports_and_its_key() {
        let key = SecretKey::from_seed(&mut [3; 32]).public();
        let digits = hex(key.bytes());
        for (at, host, control_port, data_port) in [
            ("oracle.example", "oracle.example", 8000, 8080),
            ("192.0.2.7:1,2", "192.0.2.7", 1, 2),
            ("[2001:db8::7]", "2001:db8::7", 8000, 8080),
            ("[::1]:9000,9001", "::1", 9000, 9001),
        ] {
            let expected = AggregatorPlace {
                host: host.to_owned(),
                control_port,
                data_ip: None,
                data_port,
                key: Some(key),
            };
            assert_eq!(place(&format!("{at}@{digits}")), Some(expected), "{at}");
        }
        for at in [
            "",
            "a:1",
            "a:1,",
            "a:,1",
            "a:0,1",
            "a:1,0",
            "a:1,65536",
            "::1",
            "[::1",
            "[a]",
            "a b",
            ":1,2",
            "a:1,2,3",
            "[]",
            "a@b",
        ] {
            assert_eq!(place(&format!("{at}@{digits}")), None, "{at}");
        }
        for text in [
            "a",
            "a@",
            &format!("a@{}", &digits[1..]),
            &format!("a@{}", "0".repeat(64)),
        ] {
            assert_eq!(place(text), None, "{text}");
        }
    }
}
