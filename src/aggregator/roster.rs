//! The rosters of a run that starts its collectors: it makes them of the keys that its children show, hands them down the
//! tethers, and writes one to the file of `--write-roster`.
//!
//! Invariant: the file names every slot's key, or it is not written. A price does not depend on it.

use super::Aggregator;
use crate::roster::text;
use crate::system::file;
use crate::system::limits::TOML_BYTES_MAX;
use crate::system::now::wall_us;
use crate::wire::tether::terms_message;
use rsoracle_proof::seal::PublicKey;
use rsoracle_proof::terms::{Roster, RosterSlot};
use rsoracle_verify::error::Error;
use rsoracle_verify::files;
use std::rc::Rc;

impl Aggregator<'_> {
    /// The roster with the keys known by now; its only round, if there is a single one, starts at `start_us`.
    pub(super) fn roster_now(&self, start_us: u64) -> Roster {
        let Roster {
            number,
            previous,
            mut feeds,
            mut slots,
        } = self.config.roster.clone();
        for (roster_slot, slot) in slots.iter_mut().zip(&self.slots) {
            roster_slot.key = slot.key;
        }
        if self.config.single() {
            let schedules = feeds.iter_mut().map(|terms| &mut terms.schedule);
            schedules.for_each(|schedule| schedule.first_start_us = start_us);
        }
        Roster::new(number, previous, feeds, slots)
    }

    /// Fixes the terms of the rounds from a start on, and hands them down to all children.
    pub(super) fn hand_down(&mut self, from_us: u64) {
        let roster = self.roster_now(from_us);
        let message = Rc::new(terms_message(from_us, &roster.feeds));
        self.agreed.add(roster, from_us);
        self.roster_is_new = true;
        let children = self.slots.iter_mut().filter_map(|slot| slot.child.as_mut());
        children.for_each(|child| child.tether.hand(&message));
    }

    /// The same from the next start on that leaves the lead time, if there is one.
    pub(super) fn hand_down_next(&mut self) {
        let schedule = self.config.roster.schedule();
        let next_us = schedule.next_start_us(self.soonest_us());
        if let Some(from_us) = next_us.filter(|_| self.config.children.is_some()) {
            self.hand_down(from_us);
        }
    }

    /// The time from which on starts leave the lead time.
    fn soonest_us(&self) -> u64 {
        (wall_us() + self.config.lead_us()).max(self.floor_us() + 1)
    }

    /// Hands the present terms to the child of a slot, which has just started and whose key they name.
    fn hand_present(&mut self, index: usize) {
        let soonest_us = self.soonest_us();
        let Some(held) = self.agreed.newest() else {
            return;
        };
        let schedule = held.roster.schedule();
        let from_us = schedule.next_start_us(soonest_us.max(held.from_us));
        if let (Some(from_us), Some(child)) = (from_us, &mut self.slots[index].child) {
            let message = terms_message(from_us, &held.roster.feeds);
            child.tether.hand(&Rc::new(message));
        }
    }

    /// Sends what tethers did not take before, and reads the keys that children show. Once there are terms, a new key makes new
    /// ones. Returns whether a key came.
    pub(super) fn tend_tethers(&mut self) -> bool {
        let (mut came, mut changed) = (false, false);
        for index in 0..self.slots.len() {
            let Some(child) = &mut self.slots[index].child else {
                continue;
            };
            child.tether.push();
            let Some(shown) = child.tether.shown() else {
                continue;
            };
            came = true;
            let key = PublicKey::decode(&shown);
            if key == self.slots[index].key {
                self.hand_present(index);
            } else if key.is_some() && self.slots.iter().all(|slot| slot.key != key) {
                self.slots[index].key = key;
                changed = true;
            } else {
                "it showed no key of its own".clone_into(&mut self.slots[index].remark);
            }
        }
        if changed && self.agreed.newest().is_some() {
            self.hand_down_next();
        }
        came
    }

    /// Writes the roster, if `--write-roster` is set. Returns false if that failed.
    pub(super) fn write_roster(&mut self) -> bool {
        let config = self.config;
        let Some(path) = &config.write_roster else {
            return true;
        };
        let other = !config.single() && self.holds_another(path);
        match self
            .roster(path)
            .and_then(|text| file::replace(path, &text))
        {
            Ok(()) => {
                if other {
                    self.tell(&format!(
                        "{path} had another roster, which is gone: what the journal has from before does not verify with the new one"
                    ));
                }
                self.roster_is_new = false;
                let single = "; it is valid for this round only, whose start is one of its terms: --every makes rounds of one roster";
                let only = if config.single() { single } else { "" };
                self.tell(&format!("roster written to {path}{only}"));
                true
            }
            Err(error) => {
                self.screen.say(&format!("aggregator: {error}"));
                false
            }
        }
    }

    /// Whether there is a file at `path` with another roster than the present one.
    fn holds_another(&self, path: &str) -> bool {
        let held = self.agreed.newest().map(|held| held.roster.digest());
        let there = files::read(path, TOML_BYTES_MAX as u64, "").ok();
        let there = there.and_then(|bytes| files::text(bytes).ok());
        let there = there.and_then(|text| Roster::parse(&text).ok());
        there.is_some_and(|there| Some(there.digest()) != held)
    }

    /// The text of the file at `path`.
    fn roster(&self, path: &str) -> Result<String, Error> {
        let held = self.agreed.newest().expect("terms were handed down");
        let is_unknown = |slot: &RosterSlot| slot.key.is_none();
        if let Some(index) = held.roster.slots.iter().position(is_unknown) {
            let who = self.slots[index].collector(index);
            let cause = format!("{who} did not start, so its key is unknown");
            let advice = "run again once it starts; with --collector-keys DIR, keys of collectors are known beforehand";
            let attempt = format!("cannot write the roster to {path}");
            return Err(Error::new(attempt, cause).advise(advice));
        }
        Ok(text::render(&held.roster))
    }
}
