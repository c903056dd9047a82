//! Writes the roster file of `--write-roster`: the keys to trust for this aggregator's prices.
//!
//! Invariant: a roster names every slot's key, or it is not written. A price does not depend on it.

use super::{Aggregator, Slot};
use crate::system::file;
use rsoracle_proof::limits::{COLLECTORS_MAX, TOML_BYTES_MAX};
use rsoracle_proof::roster::{Roster, RosterSeat};
use rsoracle_proof::seal::hex;
use rsoracle_verify::error::Error;
use std::fmt::Write as _;

/// The attempt that an [`Error`] names.
fn attempt(path: &str) -> String {
    format!("cannot write the roster to {path}")
}

/// Checks, before anything is started, that the roster can be written.
pub(super) fn check(path: &str) -> Result<(), Error> {
    let advice = "name a file in a writable directory with --write-roster";
    file::make_replaceable(path).map_err(|error| error.advise(advice))
}

/// Most bytes that one collector takes in the file.
const SEAT_BYTES_MAX: usize = 160;
const _: () = assert!(COLLECTORS_MAX as usize * SEAT_BYTES_MAX + 4096 <= TOML_BYTES_MAX);

/// The beginning of the file.
const HEAD: &str = "\
# A roster of rsoracle: whom to trust for one price. It contains only public keys and is not secret.
# Whoever can change this file decides which prices you believe, so get it over a channel that you trust.
";

impl Aggregator<'_> {
    /// Writes the roster of the round that is about to begin, if `--write-roster` is set. Returns false if that failed.
    pub(super) fn write_roster(&mut self) -> bool {
        let config = self.config;
        let Some(path) = &config.write_roster else {
            return true;
        };
        let written = self
            .roster(path)
            .and_then(|roster| file::replace(path, &render(&roster)));
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
                let when = match self.config.every_us {
                    Some(_) => "it is written once the collector joins",
                    None => "run again once it joins",
                };
                Error::new(attempt(path), cause).advise(format!(
                    "{when}; with --collector-keys DIR, keys of local collectors are known beforehand"
                ))
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

/// The roster as a file, with comments, which [`Roster::parse`] reads as the same roster.
pub fn render(roster: &Roster) -> String {
    let mut text = String::from(HEAD);
    // No name needs an escape: that is what the parser checks of them.
    let quoted = |text: &str| format!("\"{text}\"");
    let mut entry = |comment: &str, key: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n# {comment}\n{key} = {value}\n");
    };
    entry("What is priced.", "feed", &quoted(&roster.feed));
    entry(
        "How the collectors' prices are combined: trimmed-mean, median or mean.",
        "rule",
        &quoted(roster.rule.name()),
    );
    entry(
        "How a collector combines its samples: mean or median.",
        "sample_rule",
        &quoted(roster.sample_rule.name()),
    );
    entry(
        "How many collectors may lie without moving the price outside what honest collectors saw.",
        "f",
        &roster.f.to_string(),
    );
    entry(
        "A price is published only if at least this many collectors gave one.",
        "quorum",
        &roster.quorum.to_string(),
    );
    entry(
        "The prices must come from at least this many exchanges.",
        "exchanges_min",
        &roster.exchanges_min.to_string(),
    );
    if let Some(key) = &roster.aggregator {
        entry(
            "The only aggregator that is trusted. Without this line, any aggregator is.",
            "aggregator",
            &quoted(&hex(key.bytes())),
        );
    }
    text.push_str("\n# The collectors, slot by slot: public key and source.\n");
    for (slot, seat) in roster.collectors.iter().enumerate() {
        let (key, source) = (quoted(&hex(seat.key.bytes())), quoted(&seat.source));
        let _ = write!(
            text,
            "\n[collector.{slot}]\nkey = {key}\nsource = {source}\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::secret::SecretKey;
    use rsoracle_proof::aggregate::{self, Rule, faulty_max};
    use rsoracle_proof::seal::PublicKey;

    fn key(seed: u8) -> PublicKey {
        SecretKey::from_seed(&mut [seed; 32]).public()
    }

    fn roster(n: u8) -> Roster {
        let f = faulty_max(Rule::TrimmedMean, u16::from(n));
        Roster {
            feed: "BTC/USD".into(),
            rule: Rule::TrimmedMean,
            sample_rule: Rule::Mean,
            f,
            quorum: aggregate::quorum(u16::from(n), f),
            exchanges_min: 1,
            aggregator: Some(key(200)),
            collectors: (0..n)
                .map(|slot| RosterSeat {
                    key: key(slot),
                    source: "binance:BTCUSDC".into(),
                })
                .collect(),
        }
    }

    #[test]
    fn a_roster_round_trips() {
        let odd = Roster {
            feed: "a'b#[]=c".into(),
            rule: Rule::Mean,
            sample_rule: Rule::Mean,
            f: 0,
            quorum: 5,
            exchanges_min: 2,
            aggregator: None,
            ..roster(5)
        };
        for roster in [roster(1), roster(5), roster(100), odd] {
            let text = render(&roster);
            assert_eq!(Roster::parse(&text).as_ref(), Ok(&roster), "{text}");
            assert_eq!(render(&Roster::parse(&text).unwrap()), text);
        }
    }

    #[test]
    fn the_largest_roster_is_within_the_bound_of_the_parser() {
        let mut largest = roster(1);
        largest.collectors[0].source = format!("binance:{}", "X".repeat(24));
        let text = render(&largest);
        let seat = text.len() - text.find("\n[collector.0]").unwrap() + "4095".len();
        assert!(seat <= SEAT_BYTES_MAX && text.len() - seat < 4096, "{seat}");
    }
}
