//! What must be ready before the first collector starts: the two ports, enough open files, and keys.

use crate::aggregator::book::Remark;
use crate::aggregator::limits::STRANGERS_MAX;
use crate::aggregator::settings::Run;
use crate::keys::file as keyfile;
use crate::keys::make;
use crate::system::file;
use crate::system::now::wall_us;
use rsoracle_proof::seal::PublicKey;
use rsoracle_verify::error::Error;
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

/// The place of the first run whose roster is not over, by the clock.
pub(super) fn first_current(runs: &[Run]) -> usize {
    let now_us = wall_us();
    let is_over = |run: &&Run| run.tenure.until_us.is_some_and(|us| us <= now_us);
    runs.iter().take_while(is_over).count()
}

/// Listens on the port of one channel, without waiting for anybody. If it is in use and `any_port_will_do`, takes a free port
/// instead. Returns the address, too.
pub fn listen(
    address: SocketAddr,
    channel: &str,
    flag: &str,
    any_port_will_do: bool,
) -> Result<(TcpListener, SocketAddr), Error> {
    let free = SocketAddr::new(address.ip(), 0);
    TcpListener::bind(address)
        .or_else(|error| match error.kind() {
            ErrorKind::AddrInUse if any_port_will_do => TcpListener::bind(free),
            _ => Err(error),
        })
        .and_then(|listener| {
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        })
        .map_err(|error| {
            let attempt = format!(
                "cannot listen on {address} (port {} for the {channel} channel)",
                address.port()
            );
            Error::new(attempt, &error).advise(match error.kind() {
                ErrorKind::AddrNotAvailable => {
                    "--bind takes an address of this machine, such as 127.0.0.1".to_owned()
                }
                ErrorKind::PermissionDenied => {
                    format!("choose a port above 1023 with --{flag} PORT")
                }
                _ => format!(
                    "choose another port with --{flag} PORT, or stop the program that uses this one"
                ),
            })
        })
}

/// Checks that a roster from a file has a round left.
pub(crate) fn check_schedule(config: &Run) -> Result<(), Error> {
    let next_us = config.roster.schedule().next_start_us(wall_us());
    if config.children.is_some() || next_us.is_some() {
        return Ok(());
    }
    let cause = "no round starts any more: its end or its only start has passed";
    Err(Error::new("cannot aggregate by this roster", cause).advise("name a newer one"))
}

/// Checks the limit on open files: four per collector (two control connections, one for data, the tether), and room for
/// strangers.
pub(crate) fn check_open_files(config: &Run) -> Result<(), Error> {
    let needed = 4 * u64::from(config.n()) + 2 * STRANGERS_MAX as u64 + 32;
    match file::soft_limit("Max open files") {
        Some(soft) if soft < needed => {
            let attempt = format!("cannot gather from {} collectors", config.n());
            let cause = format!("this process may open {soft} files, and needs {needed}");
            Err(Error::new(attempt, cause).advise(format!(
                "raise the limit with 'ulimit -n {needed}' or use fewer collectors"
            )))
        }
        _ => Ok(()),
    }
}

/// What the operator should know about the keys: which files were made just now, and who else can replace them. `own` is the
/// aggregator's file.
pub(crate) fn key_remarks(
    config: &Run,
    own: Option<String>,
    own_made: bool,
    made: u16,
) -> Vec<Remark> {
    let local = config.n();
    let mut remarks = Vec::new();
    if let (Some(path), true) = (&own, own_made) {
        let line = format!("made a new key for the aggregator: {path}");
        remarks.push(Remark::Progress(line));
    }
    if let (Some(dir), 1..) = (config.collector_keys(), made) {
        let line = format!("made new keys for {made} of {local} collectors in {dir}");
        remarks.push(Remark::Progress(line));
    }
    let dirs = config.collector_keys().into_iter();
    let of_slots = dirs.flat_map(|dir| (0..local).map(|slot| make::of_slot(dir, slot)));
    let folder = |path: &String| Some(Path::new(".").join(path).parent()?.to_owned());
    let places = own.into_iter().chain(of_slots);
    let places = places.flat_map(|path| [folder(&path), Some(path.into())].into_iter().flatten());
    let doubts: BTreeSet<String> = places.filter_map(|place| key_doubt(&place)).collect();
    remarks.extend(doubts.into_iter().map(Remark::Warning));
    remarks
}

/// Who else can replace a key file, or the files in a folder. Without /proc, nothing is said.
fn key_doubt(place: &Path) -> Option<String> {
    let (user, about) = (keyfile::own_user()?, fs::metadata(place).ok()?);
    let (owner, mode) = (about.uid(), about.mode() & 0o7777);
    // In a sticky folder such as /tmp, nobody else can replace this user's files.
    let is_open = about.is_dir() && mode & 0o022 != 0 && mode & 0o1000 == 0;
    let is_strange = owner != 0 && owner != user;
    (is_open || is_strange).then(|| {
        let advice = "keep keys in a folder of this user's own with mode 0700";
        let place = place.display();
        format!("others can replace keys: {place} belongs to user {owner} and has mode {mode:04o}; {advice}")
    })
}

/// Refuses an aggregator's key that is a collector's too: both would sign with one key.
pub(crate) fn check_aggregator_key(runs: &[Run]) -> Result<(), Error> {
    let path = runs.first().and_then(Run::key_path);
    let Some(path) = path.filter(|path| !make::is_missing(path)) else {
        return Ok(());
    };
    let key = keyfile::read(&path)?.public();
    for run in runs {
        if let Some(slot) = run.roster.slot_of(&key) {
            let attempt = format!("cannot aggregate with the key {path}");
            let number = run.roster.number;
            let cause = format!(
                "it is the key of slot {slot} of roster {number}, whose collector signs with it"
            );
            let advice = "every process needs its own key: 'rsoracle keygen FILE' makes one, and --aggregator-key FILE names it";
            return Err(Error::new(attempt, cause).advise(advice));
        }
    }
    Ok(())
}

/// The keys of collectors that are known beforehand, slot by slot: those of the terms, or of key files. Reads the key file of
/// every local collector, so that none of them fails later because of it. Makes those that are missing, and counts them.
pub fn collector_keys(
    config: &Run,
    aggregator: PublicKey,
) -> Result<(Vec<Option<PublicKey>>, u16), Error> {
    let mut keys: Vec<_> = config.roster.slots.iter().map(|slot| slot.key).collect();
    let mut made = 0;
    let Some(dir) = config.collector_keys() else {
        return Ok((keys, made));
    };
    let beside = config.children.as_ref().is_some_and(|it| it.keys_beside);
    if beside && !Path::new(dir).exists() {
        let made = fs::DirBuilder::new().mode(0o700).create(dir);
        made.map_err(|error| {
            let attempt = format!("cannot create {dir} for the collectors' keys");
            Error::new(attempt, error).advise("name another directory with --collector-keys")
        })?;
    }
    // Collectors that share a key could sign for each other.
    let mut taken = HashMap::from([(*aggregator.bytes(), "the aggregator's".to_owned())]);
    for slot in 0..config.n() {
        let path = make::of_slot(dir, slot);
        let key = if make::is_missing(&path) {
            made += 1;
            make::create(&path)?
        } else {
            keyfile::read(&path)?.public()
        };
        keys[usize::from(slot)] = Some(key);
        if let Some(other) = taken.insert(*key.bytes(), format!("collector {slot}'s")) {
            let cause = format!("its key is also {other}");
            let advice = "every process needs its own key: remove the file, and a new key is made at the next start";
            return Err(Error::new(format!("cannot use {path}"), cause).advise(advice));
        }
    }
    Ok((keys, made))
}
