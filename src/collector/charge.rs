//! Gets a collector's key, rosters and mark by its settings: from the tether, or from files.

use super::complaints::Complaints;
use super::mark::{self, Mark};
use super::present::Present;
use super::rosters::Rosters;
use super::settings::{Charge, Collect};
use super::tether::Tether;
use super::ties::Ties;
use super::uplink::Uplink;
use crate::exchange::requests_fit;
use crate::exchange::roots::variable;
use crate::keys::file as key_file;
use crate::keys::secret::SecretKey;
use crate::source::Source;
use rsoracle_proof::seal::hex;
use rsoracle_proof::terms::Roster;
use rsoracle_verify::error::Error;
use std::fs::File;
use std::path::Path;

/// What a collector works with: its sources, its ties, its mark, and the lock of its key file.
pub(super) struct Charged {
    /// All of one kind, none twice.
    pub(super) sources: Vec<Source>,
    pub(super) ties: Ties,
    pub(super) mark: Option<Mark>,
    /// The key file, locked until this is dropped.
    _lock: Option<File>,
}

/// Reads the key, and takes the tether or reads the roster and the mark.
pub(super) fn take(config: &Collect) -> Result<Charged, Error> {
    let key = match &config.key {
        Some(path) => key_file::read(path)?,
        None => key_file::unsaved()?,
    };
    let lock = config.key.as_deref().map(mark::lock_key).transpose()?;
    let public = key.public();
    let mut rosters = Rosters::new(0);
    let (path, roster, state) = match &config.charge {
        Charge::Roster {
            path,
            roster,
            state,
        } => (path, roster, state.as_deref()),
        Charge::Tether { slot, sources } => {
            let sources = distinct(sources.iter().cloned());
            let tether = Some(Tether::take(&public)?);
            return Ok(Charged {
                ties: ties(config, key, *slot, &sources, rosters, tether),
                sources,
                mark: None,
                _lock: lock,
            });
        }
    };
    let key_path = config.key.as_deref().expect("--roster needs --key");
    let failed = |why| Error::new(format!("cannot sign under the roster {path}"), why);
    let slot = roster.slot_of(&public).ok_or_else(|| {
        let why = format!("no slot has the key {} of {key_path}", hex(public.bytes()));
        let advice =
            "name the key file of one of its slots; 'rsoracle keys FILE' shows a file's key";
        failed(why).advise(advice)
    })?;
    let sources = sources_of(roster, slot).map_err(failed)?;
    let feeds = roster.feeds.iter().cloned().map(Ok).collect();
    let wrong = rosters.take(feeds, 0, &public, &texts(&sources));
    wrong.into_iter().try_for_each(|why| Err(failed(why)))?;
    let mark = Mark::open(mark_path(key_path, state)?, public)?;
    let digests = rosters.newest().map(|task| task.digests());
    rosters.begin(mark.of(&digests.unwrap_or_default()));
    Ok(Charged {
        ties: ties(config, key, slot, &sources, rosters, None),
        sources,
        mark: Some(mark),
        _lock: lock,
    })
}

/// What a slot of a roster watches. The error says which source there is not, or why its exchange does not serve them all.
pub fn sources_of(roster: &Roster, slot: u16) -> Result<Vec<Source>, String> {
    let parse = |name: &String| {
        Source::parse(name)
            .map_err(|right| format!("slot {slot} has the source {name}; it takes {right}"))
    };
    let names = &roster.slots[usize::from(slot)].sources;
    let named = names.iter().filter(|name| !name.is_empty()).map(parse);
    let sources = distinct(named.collect::<Result<Vec<_>, _>>()?);
    let fits = requests_fit(&sources[0], sources.len(), roster.schedule());
    fits.map_err(|why| format!("slot {slot} watches too much: {why}"))?;
    Ok(sources)
}

/// Sources without repetitions: two feeds may have one.
fn distinct(all: impl IntoIterator<Item = Source>) -> Vec<Source> {
    let mut sources: Vec<Source> = Vec::new();
    for source in all {
        if !sources.contains(&source) {
            sources.push(source);
        }
    }
    sources
}

fn texts(sources: &[Source]) -> Vec<String> {
    sources.iter().map(|source| source.name.clone()).collect()
}

fn ties(
    config: &Collect,
    key: SecretKey,
    slot: u16,
    sources: &[Source],
    rosters: Rosters,
    tether: Option<Tether>,
) -> Ties {
    let places = config.aggregators.iter().cloned();
    Ties {
        present: Present::new(key, slot, rosters.newest().cloned()),
        sources: texts(sources),
        tether,
        rosters,
        uplinks: places
            .map(|place| Uplink::new(place, Complaints::new(&config.role())))
            .collect(),
        complaints: Complaints::new(&config.role()),
    }
}

/// Where the mark of a key is: beside the key file or, under the key file's name, in the state directory.
fn mark_path(key_path: &str, state: Option<&str>) -> Result<String, Error> {
    let name = Path::new(key_path).file_name().unwrap_or_default();
    // systemd separates several directories by colons.
    let set = variable("STATE_DIRECTORY")?;
    let set = set.as_deref().and_then(|dirs| dirs.split(':').next());
    Ok(match state.or(set) {
        Some(dir) => format!("{dir}/{}.mark", name.display()),
        None => format!("{key_path}.mark"),
    })
}
