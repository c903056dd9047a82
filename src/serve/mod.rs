//! `rsoracle serve`: passes the reports of a journal on over HTTP, while the journal grows.
//!
//! Invariant: one thread, no key, and nothing is written. What is passed on was signed elsewhere, so this process may be late or
//! down, but what it says cannot be believed more than the journal: whoever gets a report verifies it.
//! Nothing that a client sends is stored beyond its request, and every client has bounds of time and memory.
//! Uses: flags, proof, system, verify. Used by: main.

mod answer;
mod begin;
mod connection;
mod index;
mod journal;
pub mod limits;
mod live;
mod metrics;
mod newest;
mod open;
mod page;
mod problem;
mod query;
mod ready;
pub mod request;
mod routes;
pub mod scan;
mod sending;
mod server;
mod site;
mod socket;

use crate::flags::args::{Given, Usage};
use crate::flags::values::{optional, path};
use crate::serve::limits::{PASSED_FILE_BYTES_MAX, SERVE_CONNECTIONS_MAX};
use crate::system::lifeline::Lifeline;
use crate::system::stream::say;
use rsoracle_verify::error::Error;
use rsoracle_verify::files;
use rsoracle_verify::segments::unlisted;
use server::Server;
use std::io::{self, Write};
use std::net::SocketAddr;

/// The settings of `rsoracle serve`.
#[derive(Clone, Debug)]
pub struct ServeSettings {
    /// The journal's file.
    journal: String,
    /// The address to listen on; port 0 takes any free port.
    listen: SocketAddr,
    /// The address that only metrics and health are at, and where alone metrics are then.
    metrics_listen: Option<SocketAddr>,
    /// The files of certificate chain and private key, for TLS.
    tls: Option<(String, String)>,
    /// The roster's file, which is passed on.
    roster: Option<String>,
    /// Most connections of one address.
    per_address: usize,
    /// Whether to end when standard input is closed.
    until_eof: bool,
}

impl ServeSettings {
    /// Reads the flags of [`crate::flags::tables::SERVE`].
    pub fn from_flags(given: &Given) -> Result<ServeSettings, Usage> {
        let tls = match (path(given, "cert")?, path(given, "key")?) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => {
                return Err(Usage("--cert needs --key FILE, its private key".into()));
            }
            (None, Some(_)) => {
                return Err(Usage("--key needs --cert FILE, its certificate".into()));
            }
        };
        given.required("journal")?;
        Ok(ServeSettings {
            journal: path(given, "journal")?.unwrap_or_default(),
            listen: given.address("listen")?,
            metrics_listen: optional(given, "metrics-listen", |given| {
                given.address("metrics-listen")
            })?,
            tls,
            roster: path(given, "roster")?,
            per_address: given.number("per-address", 1..=SERVE_CONNECTIONS_MAX)?,
            until_eof: given.has("until-eof"),
        })
    }
}

impl ServeSettings {
    /// Checks the roster's file, so that a wrong one is named at the start. One that is missing may be made later. Where this
    /// process is a child, its parent vouches for the file, and may be about to write it.
    pub fn check_roster(&self) -> Result<(), Usage> {
        let Some(path) = self.roster.as_deref().filter(|_| !self.until_eof) else {
            return Ok(());
        };
        if !std::fs::exists(path).unwrap_or(true) {
            say(
                "serve",
                format!(
                    "there is no roster {path} yet: /v1/roster has none until there is one; --roster names its file"
                ),
            );
            return Ok(());
        }
        let attempt = format!("cannot serve {path} as the roster");
        if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return Err(Usage(format!("{attempt}: it is not a regular file")));
        }
        let bytes = files::read(path, PASSED_FILE_BYTES_MAX, &attempt);
        let checked = bytes.and_then(|bytes| site::check_roster(path, &bytes));
        checked.map_err(|error| Usage(error.to_string()))
    }
}

/// Serves for ever or, with `--until-eof`, until standard input is closed.
pub fn run(settings: &ServeSettings) -> Result<(), Error> {
    let mut lifeline = match settings.until_eof {
        true => Some(Lifeline::open()?),
        false => None,
    };
    let mut server = Server::open(settings)?;
    // The only lines on standard output. A parent that asked for port 0 reads the port from them.
    let mut stdout = io::stdout().lock();
    let mut lines = String::new();
    for (what, inside) in [("listening", false), ("metrics", true)] {
        if let Some(url) = server.url(inside) {
            lines.push_str(&format!("{what} on {url}\n"));
        }
    }
    stdout
        .write_all(lines.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| Error::new("cannot write to standard output", error))?;
    say(
        "serve",
        format!(
            "serving {} to at most {} connections",
            settings.journal,
            server.connections_max()
        ),
    );
    if let Some(note) = unlisted(&settings.journal) {
        say("serve", note);
    }
    loop {
        if lifeline.as_mut().is_some_and(Lifeline::has_ended) {
            return Ok(());
        }
        let nap = server.sweep();
        match nap.is_zero() {
            true => std::thread::yield_now(),
            false => std::thread::sleep(nap),
        }
    }
}
