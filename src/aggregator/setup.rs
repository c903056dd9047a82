//! What must stand before the first collector starts: the two ports, enough open files, root certificates, keys, the
//! enrolments of remote ones.

use crate::config::Run;
use crate::error::Error;
use crate::exchange::roots::{self, Roots};
use crate::exchange::{self, tunnel};
use crate::keyfile;
use crate::limits::STRANGERS_MAX;
use crate::seal::PublicKey;
use crate::source::Source;
use std::collections::HashMap;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens the port of one channel.
pub fn listen(address: SocketAddr, channel: &str, flag: &str) -> Result<TcpListener, Error> {
    TcpListener::bind(address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|error| {
            let attempt = format!(
                "cannot listen on {address} (port {} for the {channel} channel)",
                address.port()
            );
            Error::new(attempt, error).advise(format!(
                "choose another with --{flag} PORT, or end what uses it"
            ))
        })
}

/// Three open files per collector (two channels, a moment of standard input) and room for strangers.
pub fn check_open_files(config: &Run) -> Result<(), Error> {
    let needed = 3 * u64::from(config.collectors) + 2 * STRANGERS_MAX as u64 + 32;
    let Ok(limits) = std::fs::read_to_string("/proc/self/limits") else {
        return Ok(());
    };
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    match soft {
        Some(soft) if soft < needed => {
            let attempt = format!("cannot run {} collectors", config.collectors);
            let cause = format!("this process may open {soft} files, {needed} are needed");
            Err(Error::new(attempt, cause).advise(format!(
                "raise the limit with 'ulimit -n {needed}' or take fewer --collectors"
            )))
        }
        _ => Ok(()),
    }
}

/// Whom to trust and which proxy to take, where that matters: said once and now, rather than by every collector.
pub fn check_way(config: &Run) -> Result<(), Error> {
    let encrypted = |source: &Source| match &config.endpoint {
        Some(endpoint) if source.embedded => endpoint.tls,
        // The embedded exchange that a run starts itself speaks without TLS.
        None if source.embedded => false,
        _ => exchange::endpoints(source, None)
            .iter()
            .any(|endpoint| endpoint.tls),
    };
    if config.ca_file.is_some() || config.sources.iter().any(encrypted) {
        // Once here rather than in every collector, which inherits it. What is open by now is opened again.
        roots::defer();
        Roots::find(config.ca_file.as_deref())?;
        tunnel::proxies(config.proxy.as_ref())?;
    }
    Ok(())
}

/// Writes a remote collector's enrolment so that only its owner can read it.
pub fn write_enrolment(dir: &str, slot: u16, enrolment: &[u8; 64]) -> Result<(), Error> {
    let path = format!("{dir}/slot-{slot}.enrolment");
    let failed = |error| {
        Error::new(format!("cannot write {path}"), error)
            .advise("name a directory with --enrolment-dir that can be written")
    };
    // An older file is removed, not overwritten: its mode might let others read.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path);
    file.and_then(|mut file| file.write_all(enrolment))
        .map_err(failed)
}

/// The keys of local collectors that have lasting ones.
pub struct CollectorKeys {
    /// Their public halves, slot by slot; none for remote collectors and fresh keys.
    pub public: Vec<Option<PublicKey>>,
    /// How many of the files were made just now.
    pub made: u16,
}

/// Looks at the key file of every local collector, so that none fails for it later; makes those that are missing.
pub fn collector_keys(config: &Run, aggregator: PublicKey) -> Result<CollectorKeys, Error> {
    let mut keys = CollectorKeys {
        public: vec![None; usize::from(config.collectors)],
        made: 0,
    };
    let Some(dir) = &config.collector_keys else {
        return Ok(keys);
    };
    // Two that sign with one key could stand for each other.
    let mut taken = HashMap::from([(*aggregator.bytes(), "the aggregator's".to_owned())]);
    for slot in 0..config.collectors - config.remote {
        let path = keyfile::of_slot(dir, slot);
        let key = if Path::new(&path).try_exists().is_ok_and(|exists| !exists) {
            keys.made += 1;
            keyfile::create(&path)?
        } else {
            keyfile::read(&path)?.public()
        };
        keys.public[usize::from(slot)] = Some(key);
        if let Some(other) = taken.insert(*key.bytes(), format!("collector {slot}'s")) {
            let cause = format!("its key is {other} too");
            let advice =
                "every process signs with a key of its own: remove the file, and a new key is made";
            return Err(Error::new(format!("cannot use {path}"), cause).advise(advice));
        }
    }
    Ok(keys)
}
