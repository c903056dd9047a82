//! Gets a collector's key, rosters and mark by its settings: from the tether, or from files.

use super::complaints::Complaints;
use super::mark::{self, Mark};
use super::present::Present;
use super::rosters::Rosters;
use super::settings::{Charge, Collect, Engagement};
use super::tether::Tether;
use super::ties::Ties;
use super::uplink::Uplink;
use crate::exchange::requests_fit;
use crate::exchange::roots::variable;
use crate::keys::file as key_file;
use crate::keys::secret::SecretKey;
use crate::source::Source;
use rsoracle_proof::seal::{PublicKey, hex};
use rsoracle_proof::terms::Roster;
use rsoracle_proof::utc::utc_text;
use rsoracle_verify::error::Error;
use std::fs::File;
use std::path::Path;

/// What a collector works with: its sources, its ties, its mark, and the lock of its key file.
pub(super) struct Charged {
    /// All of one kind, none twice.
    pub(super) sources: Vec<Source>,
    pub(super) ties: Ties,
    pub(super) mark: Option<Mark>,
    /// When it is to be charged again, or to end, since another roster counts from then on.
    pub(super) until_us: Option<u64>,
    /// When the last roster in which the key has a slot, of those that no longer count, was over; `None` if there is none.
    pub(super) earlier_us: Option<u64>,
    /// The key file, locked until this is dropped.
    _lock: Option<File>,
}

/// Reads the key, and takes the tether, or the rosters that count at `since_us` or later, and the mark. `floor_us` is the earliest
/// start that this process may still sign, if it has signed already. `None` if it has, and the key has no slot any more.
pub(super) fn take(
    config: &Collect,
    since_us: u64,
    floor_us: Option<u64>,
) -> Result<Option<Charged>, Error> {
    let key = match &config.key {
        Some(path) => key_file::read(path)?,
        None => key_file::unsaved()?,
    };
    let lock = config.key.as_deref().map(mark::lock_key).transpose()?;
    let public = key.public();
    let mut rosters = Rosters::new(0);
    let (engagements, state) = match &config.charge {
        Charge::Roster { engagements, state } => (engagements, state.as_deref()),
        Charge::Tether { slot, sources } => {
            let sources = distinct(sources.iter().cloned());
            let tether = Some(Tether::take(&public)?);
            return Ok(Some(Charged {
                ties: ties(config, key, *slot, &sources, rosters, tether),
                sources,
                mark: None,
                until_us: None,
                earlier_us: None,
                _lock: lock,
            }));
        }
    };
    let key_path = config.key.as_deref().expect("--roster needs --key");
    let counts = |it: &&Engagement| it.tenure.until_us.is_none_or(|us| since_us < us);
    let current = engagements.iter().filter(counts);
    let has_slot = |it: &&Engagement| it.roster.slot_of(&public).is_some();
    let Some(first) = current.clone().find(has_slot) else {
        return match engagements.last() {
            Some(last) if floor_us.is_none() => slot_in(last, &public, key_path).map(|_| None),
            _ => Ok(None),
        };
    };
    let mut past = engagements.iter().rev().filter(|it| !counts(it));
    let earlier_us = past.find(has_slot).and_then(|it| it.tenure.until_us);
    let slot = slot_in(first, &public, key_path)?;
    let sources = watched(config, first, slot)?;
    let later = current.skip_while(|it| it.tenure.from_us < first.tenure.from_us);
    let until_us = take_all(config, later, &public, &sources, &mut rosters)?;
    let mark = Mark::open(mark_path(key_path, state)?, public)?;
    let marked_us = mark.of(&rosters.digests());
    rosters.begin(floor_us.unwrap_or(marked_us));
    let mut ties = ties(config, key, slot, &sources, rosters, None);
    if floor_us.is_none() && marked_us > since_us {
        let until = utc_text(marked_us);
        ties.complaints.tell(&format!("leaves out rounds until {until}: a process with this key may have signed for them (mark)"));
    }
    if let Some(until_us) = until_us {
        ties.rosters.end(until_us);
    }
    Ok(Some(Charged {
        ties,
        sources,
        mark: Some(mark),
        until_us,
        earlier_us,
        _lock: lock,
    }))
}

/// Takes all rosters up to the one in which the key has other sources. Returns from when on that counts, or another one in which it has
/// no slot.
fn take_all<'a>(
    config: &Collect,
    engagements: impl Iterator<Item = &'a Engagement>,
    key: &PublicKey,
    sources: &[Source],
    rosters: &mut Rosters,
) -> Result<Option<u64>, Error> {
    let mut until_us = None;
    for it in engagements {
        // Other sources need another session with an exchange.
        let stays = match it.roster.slot_of(key) {
            Some(slot) => watched(config, it, slot)? == *sources,
            None => false,
        };
        if !stays {
            until_us = until_us.or(Some(it.tenure.from_us));
        }
        if until_us.is_none() {
            let feeds = it.roster.feeds.iter().cloned().map(Ok).collect();
            let wrong = rosters.take(feeds, it.tenure.from_us, key, &texts(sources));
            wrong.into_iter().try_for_each(|why| Err(failed(it, why)))?;
        }
    }
    Ok(until_us)
}

fn failed(under: &Engagement, why: String) -> Error {
    Error::new(format!("cannot sign under the roster {}", under.path), why)
}

/// The slot of a key in a roster.
fn slot_in(under: &Engagement, key: &PublicKey, key_path: &str) -> Result<u16, Error> {
    under.roster.slot_of(key).ok_or_else(|| {
        let why = format!("no slot has the key {} of {key_path}", hex(key.bytes()));
        let advice =
            "name the key file of one of its slots; 'rsoracle keys FILE' shows a file's key";
        failed(under, why).advise(advice)
    })
}

/// What a slot of a roster watches, which must be what this collector can reach.
fn watched(config: &Collect, under: &Engagement, slot: u16) -> Result<Vec<Source>, Error> {
    let sources = sources_of(&under.roster, slot).map_err(|why| failed(under, why))?;
    let fits = sources[0].check_endpoint(config.endpoint.is_some());
    fits.map_err(|why| failed(under, why))?;
    Ok(sources)
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
    let about = format!("slot {slot} with {}", texts(sources).join(", "));
    Ties {
        present: Present::new(key, slot, rosters.first().cloned()),
        sources: texts(sources),
        tether,
        rosters,
        uplinks: places
            .map(|place| Uplink::new(place, &about, Complaints::new(&config.role())))
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
        Some(dir) if !Path::new(dir).is_dir() => {
            let attempt = format!("cannot keep the mark of {key_path} in {dir}");
            let advice = "--state names an existing directory that this user may write to";
            return Err(Error::new(attempt, "it is not a directory").advise(advice));
        }
        Some(dir) => format!("{dir}/{}.mark", name.display()),
        None => format!("{key_path}.mark"),
    })
}
