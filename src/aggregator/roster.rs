//! The rosters of a run that starts its collectors: it makes them of the keys that its children show, hands them down the
//! tethers, and writes one to the file of `--write-roster`.
//!
//! Invariant: the file names every slot's key, or it is not written. A price does not depend on it.

use super::Aggregator;
use crate::system::file;
use crate::system::now::wall_us;
use crate::wire::tether::terms_message;
use rsoracle_proof::duration::duration_text;
use rsoracle_proof::limits::{COLLECTORS_MAX, TOML_BYTES_MAX};
use rsoracle_proof::seal::{PublicKey, hex};
use rsoracle_proof::terms::{Seat, Terms};
use rsoracle_proof::utc::utc_text;
use rsoracle_verify::error::Error;
use std::fmt::Write as _;
use std::rc::Rc;

/// The attempt that an [`Error`] names.
fn attempt(path: &str) -> String {
    format!("cannot write the roster to {path}")
}

/// Checks, before anything is started, that the roster can be written.
pub(super) fn check(path: &str) -> Result<(), Error> {
    let advice = "name a file in a writable directory with --write-roster";
    file::make_replaceable(path).map_err(|error| error.advise(advice))
}

/// Most bytes that one slot takes in the file.
const SEAT_BYTES_MAX: usize = 160;
const _: () = assert!(COLLECTORS_MAX as usize * SEAT_BYTES_MAX + 4096 <= TOML_BYTES_MAX);

/// The beginning of the file.
const HEAD: &str = "\
# A roster of rsoracle: the terms of a price, and whose signatures count. It contains only public keys and is not secret.
# Whoever can change this file decides which prices you believe, so get it over a channel that you trust.
";

/// The file of a run's own roster. None follows another: a run that makes its own answers to nobody.
fn own(terms: &Terms) -> String {
    render(1, None, terms)
}

impl Aggregator<'_> {
    /// The terms with the keys known by now.
    pub(super) fn terms(&self) -> Terms {
        let mut terms = self.config.terms.clone();
        for (seat, slot) in terms.seats.iter_mut().zip(&self.slots) {
            seat.key = slot.key;
        }
        terms
    }

    /// Fixes the terms of the rounds from a start on, and hands them down to all children.
    pub(super) fn hand_down(&mut self, from_us: u64) {
        let mut terms = self.terms();
        if self.config.single() {
            terms.schedule.first_start_us = from_us;
        }
        let message = Rc::new(terms_message(from_us, &terms));
        self.agreed.add(terms, from_us);
        let children = self.slots.iter_mut().filter_map(|slot| slot.child.as_mut());
        children.for_each(|child| child.tether.hand(&message));
    }

    /// The same from the next start on that leaves the lead time, if there is one.
    pub(super) fn hand_down_next(&mut self) {
        let schedule = &self.config.terms.schedule;
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
        let schedule = &held.terms.schedule;
        let from_us = schedule.next_start_us(soonest_us.max(held.from_us));
        if let (Some(from_us), Some(child)) = (from_us, &mut self.slots[index].child) {
            let message = terms_message(from_us, &held.terms);
            child.tether.hand(&Rc::new(message));
        }
    }

    /// Sends on what tethers did not take before, and reads the keys that children show. A new key makes new terms, once there
    /// are any. Returns whether a key came.
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
        match self
            .roster(path)
            .and_then(|text| file::replace(path, &text))
        {
            Ok(()) => {
                let fresh = "; it is valid for this run only, because its keys are fresh: --collector-keys DIR keeps them";
                let only = config.collector_keys().map_or(fresh, |_| "");
                self.tell(&format!("roster written to {path}{only}"));
                true
            }
            Err(error) => {
                self.screen.say(&format!("aggregator: {error}"));
                false
            }
        }
    }

    /// The text of the file at `path`.
    fn roster(&self, path: &str) -> Result<String, Error> {
        let held = self.agreed.newest().expect("terms were handed down");
        let is_unknown = |seat: &Seat| seat.key.is_none();
        if let Some(index) = held.terms.seats.iter().position(is_unknown) {
            let cause = format!("collector {index} did not start, so its key is unknown");
            let advice = "run again once it starts; with --collector-keys DIR, keys of collectors are known beforehand";
            return Err(Error::new(attempt(path), cause).advise(advice));
        }
        Ok(own(&held.terms))
    }
}

/// A roster as a file, with comments, which `Roster::parse` reads as the same roster.
pub fn render(number: u64, previous: Option<[u8; 32]>, terms: &Terms) -> String {
    let schedule = &terms.schedule;
    let instant = |us: u64| match us % 1_000_000 {
        0 => format!("{}Z", &utc_text(us)[..19]),
        part => format!("{}.{part:06}Z", &utc_text(us)[..19]),
    };
    let percent = |ppm: u32| {
        let text = format!("{}.{:04}", ppm / 10_000, ppm % 10_000);
        format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
    };
    let previous = previous.map_or(String::new(), |digest| hex(&digest));
    let (feed, rule, sample_rule) = (&terms.feed, terms.rule.name(), terms.sample_rule.name());
    let (min_exchanges, samples) = (terms.exchanges_min, schedule.samples);
    let max_age = terms.age_us_max.map_or(String::new(), duration_text);
    let max_spread = terms.spread_ppm_max.map_or(String::new(), percent);
    let [interval, period] = [schedule.interval_us, schedule.period_us].map(duration_text);
    let first_start = instant(schedule.first_start_us);
    let end = schedule.end_us.map_or(String::new(), instant);
    // No name needs an escape: that is what the parser checks of them.
    let mut text = format!(
        "{HEAD}number = {number}
previous = \"{previous}\"

[feed.\"{feed}\"]
rule = \"{rule}\" # of the collectors' prices: trimmed-mean, median or mean
sample_rule = \"{sample_rule}\" # of a collector's samples: mean or median
min_exchanges = {min_exchanges} # how many exchanges a price needs
max_age = \"{max_age}\" # of a sample; \"\": what each exchange's kind has
max_spread = \"{max_spread}\" # of the prices used; \"\": no limit
samples = {samples} # of each collector in each round
interval = \"{interval}\" # from one sample to the next
period = \"{period}\" # from one round's start to the next; \"0s\": a single round
first_start = \"{first_start}\"
end = \"{end}\" # no round starts at that time or later; \"\": no end
"
    );
    for (slot, seat) in terms.seats.iter().enumerate() {
        let key = seat.key.map_or(String::new(), |key| hex(key.bytes()));
        let source = &seat.source;
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n[slot.{slot}]\nkey = \"{key}\"\nsources = [\"{source}\"]\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregator::agreed::tests::terms;
    use crate::keys::secret::SecretKey;
    use rsoracle_proof::aggregate::Rule;
    use rsoracle_proof::roster::Roster;
    use rsoracle_proof::schedule::Schedule;

    fn key(seed: u8) -> PublicKey {
        SecretKey::from_seed(&mut [seed; 32]).public()
    }

    fn roster(n: u8) -> Roster {
        let mut terms = terms(&vec!["binance:BTCUSDC"; n.into()], 10_000_000, 10);
        for (slot, seat) in (0..).zip(&mut terms.seats) {
            seat.key = Some(key(slot));
        }
        Roster {
            number: 1,
            previous: None,
            terms,
        }
    }

    fn rendered(roster: &Roster) -> String {
        render(roster.number, roster.previous, &roster.terms)
    }

    #[test]
    fn a_roster_round_trips() {
        let mut odd = roster(5);
        odd.number = 7;
        odd.previous = Some([7; 32]);
        odd.terms = Terms {
            feed: "a'b#[]=c".into(),
            rule: Rule::Mean,
            sample_rule: Rule::Median,
            age_us_max: Some(60_000_000),
            spread_ppm_max: Some(20_500),
            schedule: Schedule {
                first_start_us: 1_795_343_400_000_001,
                period_us: 10_500_000,
                end_us: Some(1_895_343_400_123_456),
                samples: 3,
                interval_us: 20_000,
            },
            ..odd.terms
        };
        odd.terms.seats[3].key = None;
        for ppm in [1, 10_000, 1_000_000, 999_999] {
            let mut spread = odd.clone();
            spread.terms.spread_ppm_max = Some(ppm);
            assert_eq!(Roster::parse(&rendered(&spread)).as_ref(), Ok(&spread));
        }
        for roster in [roster(1), roster(5), roster(100), odd] {
            let text = rendered(&roster);
            assert_eq!(Roster::parse(&text).as_ref(), Ok(&roster), "{text}");
            assert_eq!(rendered(&Roster::parse(&text).unwrap()), text);
        }
    }

    #[test]
    fn the_largest_roster_is_within_the_bound_of_the_parser() {
        let mut largest = roster(1);
        largest.terms.seats[0].source = format!("binance:{}", "X".repeat(24));
        let text = rendered(&largest);
        let seat = text.len() - text.find("\n[slot.0]").unwrap() + "4095".len();
        assert!(seat <= SEAT_BYTES_MAX && text.len() - seat < 4096, "{seat}");
    }
}
