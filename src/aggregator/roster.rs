//! Writes the roster file of `--write-roster`: the keys to trust for this aggregator's prices.
//!
//! Invariant: a roster names every slot's key, or it is not written. A price does not depend on it.

use super::{Aggregator, Slot};
use crate::system::file;
use rsoracle_proof::roster::{Roster, RosterSeat};
use rsoracle_verify::error::Error;

/// The attempt that an [`Error`] names.
fn attempt(path: &str) -> String {
    format!("cannot write the roster to {path}")
}

/// Checks, before anything is started, that the roster can be written.
pub(super) fn check(path: &str) -> Result<(), Error> {
    let advice = "name a file in a writable directory with --write-roster";
    file::make_replaceable(path).map_err(|error| error.advise(advice))
}

impl Aggregator<'_> {
    /// Writes the roster of the round that is about to begin, if `--write-roster` is set. Returns false if that failed.
    pub(super) fn write_roster(&mut self) -> bool {
        let config = self.config;
        let Some(path) = &config.write_roster else {
            return true;
        };
        let written = self
            .roster(path)
            .and_then(|roster| file::replace(path, &roster.render()));
        match written {
            Ok(()) if config.collector_keys.is_none() && config.remote < config.collectors => {
                self.tell(&format!(
                    "roster written to {path}; it is valid for this run only, because its keys are fresh: --collector-keys DIR keeps them"
                ));
                true
            }
            Ok(()) if self.book.key_changed => {
                self.tell(&format!(
                    "roster written to {path}; it names no aggregator, because the journal has reports of more than one aggregator key"
                ));
                true
            }
            Ok(()) => {
                self.tell(&format!("roster written to {path}"));
                true
            }
            Err(error) => {
                self.screen.say(&format!("aggregator: {error}"));
                false
            }
        }
    }

    /// Whether the keys of all slots are known.
    pub(super) fn all_keys_known(&self) -> bool {
        let known = |slot: &Slot| slot.key.or(slot.file_key).is_some();
        self.slots.iter().all(known)
    }

    fn roster(&self, path: &str) -> Result<Roster, Error> {
        let terms = self.terms();
        let seat = |(index, slot): (usize, &Slot)| {
            // If a local collector has not joined, its key file still tells its key.
            let key = slot.key.or(slot.file_key).ok_or_else(|| {
                let cause = format!("collector {index} has not joined, so its key is unknown");
                let advice = "run again once it joins; with --collector-keys DIR, keys of local collectors are known beforehand";
                Error::new(attempt(path), cause).advise(advice)
            })?;
            Ok(RosterSeat {
                key,
                source: slot.source.clone(),
            })
        };
        let collectors = self.slots.iter().enumerate().map(seat);
        Ok(Roster {
            collectors: collectors.collect::<Result<_, Error>>()?,
            feed: terms.feed,
            rule: terms.rule,
            sample_rule: terms.sample_rule,
            f: terms.f,
            quorum: terms.quorum,
            exchanges_min: terms.exchanges_min,
            // A fresh key is lost after this run, so naming it would make the roster useless for the next.
            aggregator: super::book::key_path(self.config)
                .filter(|_| !self.book.key_changed)
                .map(|_| terms.aggregator),
        })
    }
}
