//! The roster file that `--write-roster` asks for: whom to trust for the prices of this aggregator.
//!
//! Invariant: it names every slot's key, or it is not written; a price does not wait for it.

use super::{Aggregator, Slot};
use crate::system::file;
use rsoracle_proof::roster::{Roster, RosterSeat};
use rsoracle_verify::error::Error;

/// What is attempted, for errors.
fn attempt(path: &str) -> String {
    format!("cannot write the roster to {path}")
}

/// Whether there is a place for the roster: said before anything is started.
pub(super) fn check(path: &str) -> Result<(), Error> {
    let advice = "name a file with --write-roster in a directory that can be written";
    file::check_replaceable(path).map_err(|error| error.advise(advice))
}

impl Aggregator<'_> {
    /// Writes the roster of the round that is about to begin, if one is wanted; whether that went as it should.
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
                    "roster written to {path}; it fits this run only, since its keys are fresh: --collector-keys DIR keeps them"
                ));
                true
            }
            Ok(()) if self.book.key_changed => {
                self.tell(&format!(
                    "roster written to {path}; it names no aggregator, since the journal has reports of more than one aggregator key"
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

    /// Whether every slot's key is known by now.
    pub(super) fn all_keys_known(&self) -> bool {
        let known = |slot: &Slot| slot.key.or(slot.file_key).is_some();
        self.slots.iter().all(known)
    }

    fn roster(&self, path: &str) -> Result<Roster, Error> {
        let terms = self.terms();
        let seat = |(index, slot): (usize, &Slot)| {
            // Where a local collector has not come, its file still says who it will be.
            let key = slot.key.or(slot.file_key).ok_or_else(|| {
                let cause = format!("collector {index} has not come, and so its key is unknown");
                let advice = "run again when it comes; --collector-keys DIR makes local collectors' keys known beforehand";
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
            // A fresh one is gone with this run, and would make the roster worthless for the next.
            aggregator: super::book::key_path(self.config)
                .filter(|_| !self.book.key_changed)
                .map(|_| terms.aggregator),
        })
    }
}
