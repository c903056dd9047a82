//! The settings of `rsoracle follow`, from its flags.

use crate::exchange::proxy::Proxy;
use crate::flags::args::{Given, Usage};
use crate::flags::values::{HEARTBEAT_US_MAX, listed, optional, path, proxy};
use crate::follow::limits::{FOLLOW_SOURCES_MAX, FOLLOW_STREAMS_MAX};
use crate::nats::credentials::Credentials;
use crate::nats::place;
use crate::system::endpoint::{Endpoint, host_and_port};
use rsoracle_proof::succession::Succession;
use rsoracle_proof::terms::Roster;
use rsoracle_verify::error::{VALUE_CHARS_MAX, brief};
use std::path::Path;

/// Where reports come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A server such as `rsoracle serve`, and the path under which it is.
    Server(Endpoint, String),
    /// A server of NATS, and the stream there.
    Nats(Endpoint, String),
    /// A journal, which may grow.
    File(String),
}

/// What to follow, and how.
pub struct FollowSettings {
    /// The sources, with the names by which they were given.
    pub(super) sources: Vec<(String, Place)>,
    pub(super) rosters: Succession,
    /// Indices of the feeds in the newest roster.
    pub(super) feeds: Vec<usize>,
    /// The journal to write.
    pub(super) journal: Option<String>,
    /// Greatest age of a fresh price in microseconds.
    pub(super) age_us_max: Option<u64>,
    pub(super) json: bool,
    /// Print the newest price and end.
    pub(super) once: bool,
    /// The file of credentials for NATS, and the flag that named it.
    pub(super) credentials: Option<(String, &'static str)>,
    pub(super) ca_file: Option<String>,
    pub(super) proxy: Option<Proxy>,
}

impl FollowSettings {
    /// Reads the flags of [`crate::flags::tables::FOLLOW`].
    pub fn from_flags(given: &Given, rosters: Succession) -> Result<FollowSettings, Usage> {
        let source = |name: &String| {
            let right = "http://HOST:PORT, https://HOST, nats://HOST:PORT or a file";
            let shown = brief(name, VALUE_CHARS_MAX);
            let refused = || Usage(format!("{shown:?} is not a source; it takes {right}"));
            let place = parse(name).ok_or_else(refused)?;
            misnamed(name, &place).map_or(Ok(()), |why| Err(Usage(why)))?;
            Ok((name.clone(), place))
        };
        let sources: Vec<_> = given
            .operands()
            .iter()
            .map(source)
            .collect::<Result<_, _>>()?;
        for (at, (name, _)) in sources.iter().enumerate() {
            if sources[..at].iter().any(|(other, _)| other == name) {
                let shown = brief(name, VALUE_CHARS_MAX);
                return Err(Usage(format!(
                    "the source {shown:?} is given twice; give it once"
                )));
            }
        }
        let credentials = Credentials::named(given)?;
        if let Some((_, flag)) = &credentials {
            known_to_one(&sources, flag)?;
        }
        let feeds = feeds(given, rosters.newest())?;
        let count = sources.len() * feeds.len();
        if sources.len() > FOLLOW_SOURCES_MAX || count > FOLLOW_STREAMS_MAX {
            return Err(Usage(format!(
                "at most {FOLLOW_SOURCES_MAX} sources, and {FOLLOW_STREAMS_MAX} pairs of source and feed, can be followed; name fewer, or fewer feeds with --feed"
            )));
        }
        Ok(FollowSettings {
            sources,
            feeds,
            journal: path(given, "journal")?,
            age_us_max: optional(given, "max-age", |given| {
                given.duration_us("max-age", 1..=HEARTBEAT_US_MAX)
            })?,
            json: given.has("json"),
            once: given.has("once"),
            credentials,
            ca_file: path(given, "ca-file")?,
            proxy: proxy(given)?,
            rosters,
        })
    }

    /// The greatest age of a fresh price of a feed, in microseconds. `--once` always has one, if rounds repeat: a round's length
    /// and two periods, and five seconds for the way.
    pub(super) fn age_us_max(&self) -> Option<u64> {
        let schedule = self.rosters.newest().schedule();
        let usual_us = schedule.length_us() + 2 * schedule.period_us + 5_000_000;
        let usual_us = Some(usual_us).filter(|_| self.once && schedule.period_us > 0);
        self.age_us_max.or(usual_us)
    }
}

/// What is wrong with a source that is another one than was meant, and how to name that.
fn misnamed(name: &str, place: &Place) -> Option<String> {
    let shown = brief(name, VALUE_CHARS_MAX);
    match place {
        Place::File(path) => {
            let (host, _) = host_and_port(path)?;
            let is_server = is_host(host) && !Path::new(path).exists();
            is_server.then(|| {
                format!("there is no file {shown:?}; a server is named with its scheme: 'http://{shown}'")
            })
        }
        Place::Server(_, prefix) => {
            let end = ["/v1/latest", "/v1/stream", "/v1/reports"]
                .into_iter()
                .find(|end| prefix.ends_with(end))?;
            let server = name.trim_end_matches('/').trim_end_matches(end);
            let server = brief(server, VALUE_CHARS_MAX);
            Some(format!("name the server without {end}: '{server}'"))
        }
        Place::Nats(..) => None,
    }
}

/// Refuses credentials for several servers: one could pass another's nonce on, and so pass itself off as this client there.
fn known_to_one(sources: &[(String, Place)], flag: &str) -> Result<(), Usage> {
    let mut servers = sources.iter().filter_map(|(name, place)| match place {
        Place::Nats(endpoint, _) => Some((name, (&endpoint.host, endpoint.port))),
        _ => None,
    });
    let Some((one, first)) = servers.next() else {
        return Ok(());
    };
    match servers.find(|(_, server)| *server != first) {
        None => Ok(()),
        Some((other, _)) => {
            let [one, other] = [one, other].map(|name| brief(name, VALUE_CHARS_MAX));
            Err(Usage(format!(
                "--{flag} is for one NATS server, but {one:?} and {other:?} are two, one of which could pass itself off as you to the other; name one server of each cluster, and follow another cluster with a process of its own"
            )))
        }
    }
}

fn feeds(given: &Given, roster: &Roster) -> Result<Vec<usize>, Usage> {
    let mut feeds = Vec::new();
    for name in listed(given, "feed") {
        let at = roster.feeds.iter().position(|terms| terms.feed == *name);
        let at = at.ok_or_else(|| {
            let known: Vec<&str> = roster.feeds.iter().map(|terms| &*terms.feed).collect();
            given.wrong(
                "feed",
                name,
                &format!("a feed of the roster: {}", known.join(", ")),
            )
        })?;
        if !feeds.contains(&at) {
            feeds.push(at);
        }
    }
    match feeds.is_empty() {
        true => Ok((0..roster.feeds.len()).collect()),
        false => Ok(feeds),
    }
}

/// Reads a source. What has a scheme is a server, everything else a file.
fn parse(text: &str) -> Option<Place> {
    let (tls, rest) = match text.split_once("://") {
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        Some(("nats" | "tls", _)) => {
            let (endpoint, stream) = place::parse(text)?;
            return Some(Place::Nats(endpoint, stream));
        }
        Some(_) => return None,
        None => {
            let is_path = !text.is_empty() && text != "-" && !text.contains(char::is_control);
            return is_path.then(|| Place::File(text.to_owned()));
        }
    };
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"@?#\"\\".contains(&byte);
    if !text.bytes().all(plain) {
        return None;
    }
    let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let with_port = match authority.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => authority.to_owned(),
        _ => format!("{authority}:{}", if tls { 443 } else { 80 }),
    };
    let (host, port) = host_and_port(&with_port)?;
    let endpoint = Endpoint {
        url: text.to_owned(),
        tls,
        host: host.to_owned(),
        port,
    };
    let prefix = prefix.trim_end_matches('/').to_owned();
    is_host(host).then_some(Place::Server(endpoint, prefix))
}

fn is_host(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_for_one_nats_server() {
        let refused = |names: &[&str]| {
            let place = |name: &&str| ((*name).to_owned(), parse(name).expect("a source"));
            let sources: Vec<_> = names.iter().map(place).collect();
            known_to_one(&sources, "nkey").err().map(|usage| usage.0)
        };
        for names in [
            &["http://a", "http://b", "c"][..],
            &["nats://a", "http://b", "c"],
            &["nats://a/ONE", "nats://a:4222/TWO"],
        ] {
            assert_eq!(refused(names), None, "{names:?}");
        }
        for other in ["nats://b", "tls://b", "nats://a:4223"] {
            let why = refused(&["http://x", "nats://a", other]).expect(other);
            let parts = ["--nkey is for one NATS server", "\"nats://a\"", other];
            assert!(parts.iter().all(|part| why.contains(part)), "{why}");
        }
    }

    #[test]
    fn a_source_is_a_server_or_a_file() {
        for (text, tls, host, port, prefix) in [
            ("http://127.0.0.1:8090", false, "127.0.0.1", 8090, ""),
            ("https://oracle.example", true, "oracle.example", 443, ""),
            ("https://oracle.example/", true, "oracle.example", 443, ""),
            ("http://[::1]:8090/a/b/", false, "::1", 8090, "/a/b"),
            ("http://[::1]", false, "::1", 80, ""),
        ] {
            let Some(Place::Server(endpoint, path)) = parse(text) else {
                panic!("{text}");
            };
            let found = (endpoint.tls, &*endpoint.host, endpoint.port, &*path);
            assert_eq!(found, (tls, host, port, prefix), "{text}");
        }
        for text in [
            "ws://x:1",
            "http://",
            "http://x:0",
            "http://x:99999",
            "https://u:p@x",
            "http://x/?a",
            "-",
            "",
            "http://x y",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(
            parse("a/b.jsonl"),
            Some(Place::File("a/b.jsonl".to_owned()))
        );
    }
}
