//! `rsoracle relay`: publishes the records of a journal to a stream of NATS JetStream, while the journal grows.
//!
//! Invariant: one thread, no key of an oracle, and nothing is written on this machine. Of each feed the stream gets every report and
//! every change of the aggregator's key, byte for byte, once and in order, whenever this process, another one of the same journal, or
//! a server is killed: each message says which one of its subject it follows, and the stream refuses it anywhere else.
//! Uses: exchange, flags, nats, proof, system, verify. Used by: main.

mod feed;
mod journal;
mod publisher;
mod record;
mod trouble;

use crate::exchange::roots::defer;
use crate::flags::args::{Given, Usage};
use crate::flags::values::{HEARTBEAT_US_MAX, listed, optional, path};
use crate::nats::client::Way;
use crate::nats::credentials::Credentials;
use crate::nats::jetstream::Wanted;
use crate::nats::limits::{MESSAGE_BYTES_MAX, SERVERS_MAX};
use crate::nats::place;
use crate::system::lifeline::Lifeline;
use crate::system::stream::say;
use publisher::Publisher;
use rsoracle_verify::error::Error;
use rsoracle_verify::segments::unlisted;
use std::rc::Rc;

/// The settings of `rsoracle relay`.
pub struct RelaySettings {
    /// The journal's file.
    journal: String,
    way: Way,
    /// The file of credentials, and the flag that named it.
    credentials: Option<(String, &'static str)>,
    stream: Wanted,
    /// Whether to end when standard input is closed.
    until_eof: bool,
}

impl RelaySettings {
    /// Reads the flags of [`crate::flags::tables::RELAY`].
    pub fn from_flags(given: &Given) -> Result<RelaySettings, Usage> {
        given.required("journal")?;
        let ca_file = path(given, "ca-file")?;
        let mut urls: Vec<&str> = listed(given, "nats").collect();
        if urls.is_empty() {
            urls = given.text("nats").into_iter().collect();
        }
        let server = |url: &&str| {
            let right = "nats://HOST:PORT or tls://HOST:PORT; --stream names the stream";
            let found = place::parse(url).filter(|_| url.matches('/').count() == 2);
            let (mut endpoint, _) = found.ok_or_else(|| given.wrong("nats", url, right))?;
            // Whoever says whom to trust wants TLS.
            endpoint.tls |= ca_file.is_some();
            Ok(endpoint)
        };
        let endpoints: Vec<_> = urls.iter().map(server).collect::<Result<_, _>>()?;
        if endpoints.len() > SERVERS_MAX {
            return Err(Usage(format!(
                "--nats names more than {SERVERS_MAX} servers"
            )));
        }
        if endpoints.iter().any(|one| one.tls != endpoints[0].tls) {
            // The servers that one names in turn are reached as they are.
            let right = "tls:// for all servers, or nats:// for all";
            return Err(given.wrong("nats", &urls.join(","), right));
        }
        let name = given.required("stream")?;
        if !place::is_stream(name) {
            let right = "1 to 64 letters, digits, hyphens and underscores";
            return Err(given.wrong("stream", name, right));
        }
        Ok(RelaySettings {
            journal: path(given, "journal")?.unwrap_or_default(),
            way: Way {
                endpoints,
                credentials: None,
                ca_file,
                trust: None,
                payload_bytes_max: MESSAGE_BYTES_MAX,
            },
            credentials: Credentials::named(given)?,
            stream: Wanted {
                name: name.to_owned(),
                replicas: given.number("replicas", 1..=5)?,
                age_us_max: optional(given, "max-age", |given| {
                    given.duration_us("max-age", 60_000_000..=HEARTBEAT_US_MAX)
                })?,
                bytes_max: optional(given, "max-bytes", |given| {
                    given.number("max-bytes", 1_000_000..=i64::MAX as u64)
                })?,
            },
            until_eof: given.has("until-eof"),
        })
    }
}

/// Publishes for ever or, with `--until-eof`, until standard input is closed.
pub fn run(settings: &RelaySettings) -> Result<(), Error> {
    if settings.way.endpoints.iter().any(|one| one.tls) {
        defer();
    }
    let lifeline = match settings.until_eof {
        true => Some(Lifeline::open()?),
        false => None,
    };
    let mut way = settings.way.clone();
    if let Some((file, flag)) = &settings.credentials {
        way.credentials = Some(Rc::new(Credentials::read(file, flag)?));
    }
    if let Some(note) = unlisted(&settings.journal) {
        say("relay", note);
    }
    Publisher::new(&settings.journal, way, &settings.stream, lifeline).run()
}
