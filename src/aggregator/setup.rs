//! What must be ready before the first collector starts: the two ports, enough open files, keys, and the enrolments of
//! remote collectors.

use crate::aggregator::settings::Run;
use crate::keys::file as keyfile;
use crate::system::file;
use crate::system::limits::STRANGERS_MAX;
use rsoracle_proof::seal::PublicKey;
use rsoracle_verify::error::Error;
use std::collections::{BTreeSet, HashMap};
use std::fs::{self, Metadata};
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Listens on the port of one channel. If it is in use and `any_port_will_do`, takes a free port instead.
pub fn listen(
    address: SocketAddr,
    channel: &str,
    flag: &str,
    any_port_will_do: bool,
) -> Result<TcpListener, Error> {
    let free = SocketAddr::new(address.ip(), 0);
    TcpListener::bind(address)
        .or_else(|error| match error.kind() {
            ErrorKind::AddrInUse if any_port_will_do => TcpListener::bind(free),
            _ => Err(error),
        })
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|error| {
            let attempt = format!(
                "cannot listen on {address} (port {} for the {channel} channel)",
                address.port()
            );
            let advice = match error.kind() {
                ErrorKind::AddrNotAvailable => {
                    "--bind takes an address of this machine, such as 127.0.0.1".to_owned()
                }
                ErrorKind::PermissionDenied => {
                    format!(
                        "choose a port above 1023 with --{flag} PORT, which needs no special right"
                    )
                }
                _ => format!(
                    "choose another port with --{flag} PORT, or stop the program that uses this one"
                ),
            };
            Error::new(attempt, error).advise(advice)
        })
}

/// Checks the limit on open files: three per collector (two channels and, briefly, its standard input), and room for
/// strangers.
pub(crate) fn check_open_files(config: &Run) -> Result<(), Error> {
    let needed = 3 * u64::from(config.collectors) + 2 * STRANGERS_MAX as u64 + 32;
    match file::soft_limit("Max open files") {
        Some(soft) if soft < needed => {
            let attempt = format!("cannot run {} collectors", config.collectors);
            let cause = format!("this process may open {soft} files, and needs {needed}");
            Err(Error::new(attempt, cause).advise(format!(
                "raise the limit with 'ulimit -n {needed}' or use fewer --collectors"
            )))
        }
        _ => Ok(()),
    }
}

/// Writes a remote collector's enrolment to a file that only its owner can read.
pub(crate) fn write_enrolment(dir: &str, slot: u16, enrolment: &[u8; 64]) -> Result<(), Error> {
    let path = format!("{dir}/slot-{slot}.enrolment");
    let failed = |error| {
        Error::new(format!("cannot write {path}"), error)
            .advise("name a writable directory with --enrolment-dir")
    };
    // Remove an older file instead of overwriting it: its mode may let others read.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
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

/// What endangers key files although their own modes are private, in lines for the operator. `own` is the aggregator's.
pub fn key_doubts(config: &Run, own: Option<String>) -> BTreeSet<String> {
    let local = config.collectors - config.remote;
    let dirs = config.collector_keys.iter();
    let of_slots = dirs.flat_map(|dir| (0..local).map(|slot| keyfile::of_slot(dir, slot)));
    let paths = own.into_iter().chain(of_slots);
    paths.filter_map(|path| key_doubt(&path)).collect()
}

/// The same of one key file. Without /proc, nothing is said.
fn key_doubt(path: &str) -> Option<String> {
    let (user, place) = (keyfile::own_user()?, Path::new(".").join(path));
    let folder = place.parent()?;
    let (file, around) = (fs::metadata(path).ok()?, fs::metadata(folder).ok()?);
    let other = |about: &Metadata| Some(about.uid()).filter(|owner| ![0, user].contains(owner));
    let mode = around.mode() & 0o7777;
    // In a sticky folder such as /tmp, nobody else can replace this user's files.
    let is_open = mode & 0o022 != 0 && mode & 0o1000 == 0;
    let why = match (other(&file), other(&around)) {
        (Some(owner), _) => format!("the key file {path} belongs to user {owner}"),
        (_, Some(owner)) => format!("{} belongs to user {owner}", folder.display()),
        _ if is_open => format!("others may write to {} (mode {mode:04o})", folder.display()),
        _ => return None,
    };
    Some(format!(
        "{why}, and so others can replace keys: keep them in a folder of this user's own with mode 0700"
    ))
}

/// The keys of local collectors that have key files.
pub struct CollectorKeys {
    /// Public keys, slot by slot; `None` for remote collectors and fresh keys.
    pub public: Vec<Option<PublicKey>>,
    /// How many of the key files were made just now.
    pub made: u16,
}

/// Reads the key file of every local collector, so that none of them fails later because of it. Makes those that are
/// missing.
pub fn collector_keys(config: &Run, aggregator: PublicKey) -> Result<CollectorKeys, Error> {
    let mut keys = CollectorKeys {
        public: vec![None; usize::from(config.collectors)],
        made: 0,
    };
    let Some(dir) = &config.collector_keys else {
        return Ok(keys);
    };
    // Collectors that share a key could sign for each other.
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
            let cause = format!("its key is also {other}");
            let advice = "every process needs its own key: remove the file, and a new key is made at the next start";
            return Err(Error::new(format!("cannot use {path}"), cause).advise(advice));
        }
    }
    Ok(keys)
}
