//! The roster file: what a consumer or an operator trusts. Feed, rule, how many may lie, and whose signatures count.
//!
//! Invariant: a roster that comes out of [`Roster::parse`] is consistent in itself: no key stands twice, no key is one that
//! anyone can sign for, and f and quorum keep the promise of its rule. [`Roster::render`] writes what `parse` reads as the same.
//! What this module does not do: open files, or check a report against a roster.

use crate::aggregate;
use crate::aggregate::{Rule, faulty_max};
use crate::limits::{COLLECTORS_MAX, TOML_BYTES_MAX};
use crate::seal::{PublicKey, hex, unhex};
use crate::source::{Source, check_feed};
use crate::toml;
use crate::toml::{Entry, Section, Wrong, quoted};
use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt::Write as _;

/// Bytes that one collector takes in the file, at most.
const SEAT_BYTES_MAX: usize = 160;
const _: () = assert!(COLLECTORS_MAX as usize * SEAT_BYTES_MAX + 4096 <= TOML_BYTES_MAX);

/// What stands first in the file.
const HEAD: &str = "\
# A roster of rsoracle: whom to trust for one price. Public keys only; nothing here is secret.
# Whoever changes this file decides what is believed, so get it on a way that you trust.
";

/// Whom to trust for one price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    /// What is priced.
    pub feed: String,
    /// How prices become one.
    pub rule: Rule,
    /// How a collector's samples become one: the mean or the median.
    pub sample_rule: Rule,
    /// How many collectors may lie.
    pub f: u16,
    /// The fewest prices from which one may be published.
    pub quorum: u16,
    /// The fewest distinct exchanges among them.
    pub exchanges_min: u16,
    /// The only aggregator whose rounds count; any, where there is none.
    pub aggregator: Option<PublicKey>,
    /// The collectors: their index is their slot.
    pub collectors: Vec<RosterSeat>,
}

/// One collector that is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterSeat {
    /// Its key.
    pub key: PublicKey,
    /// What it watches, such as `binance:BTCUSDC`.
    pub source: String,
}

impl Roster {
    /// n: how many collectors are configured, whoever answers.
    pub fn n(&self) -> u16 {
        self.collectors.len() as u16
    }

    /// Reads a roster file; what is wrong comes with its line and key.
    pub fn parse(text: &str) -> Result<Roster, Wrong> {
        let sections = toml::parse(text)?;
        let (top, rest) = sections.split_first().expect("there is always a first");
        let known = [
            "feed",
            "rule",
            "sample_rule",
            "f",
            "quorum",
            "exchanges_min",
            "aggregator",
        ];
        top.only(&known)?;
        let feed = top.required("feed")?;
        let takes = |right| feed.wrong(format!("it takes {right}"));
        check_feed(feed.text()?).map_err(takes)?;
        let rule = top.required("rule")?;
        let sample_rule = top.required("sample_rule")?;
        let mut keys = Keys::default();
        let aggregator = top.get("aggregator");
        let roster = Roster {
            feed: feed.text()?.to_owned(),
            rule: rule
                .text()?
                .parse()
                .map_err(|()| rule.wrong("it takes trimmed-mean, median or mean"))?,
            sample_rule: match sample_rule.text()?.parse() {
                Ok(rule @ (Rule::Mean | Rule::Median)) => rule,
                _ => return Err(sample_rule.wrong("it takes mean or median")),
            },
            f: top.required("f")?.whole(0..=COLLECTORS_MAX)?,
            quorum: top.required("quorum")?.whole(1..=COLLECTORS_MAX)?,
            exchanges_min: top.required("exchanges_min")?.whole(1..=COLLECTORS_MAX)?,
            aggregator: aggregator.map(|entry| keys.take(entry)).transpose()?,
            collectors: collectors(rest, &mut keys)?,
        };
        roster.check(top)?;
        Ok(roster)
    }

    /// Whether f and quorum keep the promise that liars cannot move the price.
    fn check(&self, top: &Section) -> Result<(), Wrong> {
        let (n, rule) = (self.n(), self.rule);
        if n == 0 {
            return Err(Wrong::line(
                top.line,
                "no collector: the first is [collector.0]",
            ));
        }
        let most = faulty_max(rule, n);
        if self.f > most {
            return Err(top.required("f")?.wrong(format!(
                "{} is more than {most}, the most faulty collectors of {n} that {rule} tolerates",
                self.f
            )));
        }
        let fewest = aggregate::quorum(n, self.f);
        if !(fewest..=n).contains(&self.quorum) {
            return Err(top.required("quorum")?.wrong(format!(
                "{} is not from {fewest} to {n}: with f = {}, fewer prices than {fewest} of {n} could be moved by liars or taken from a minority",
                self.quorum, self.f
            )));
        }
        Ok(())
    }

    /// The roster as a file that explains itself. Names in it must be such as [`Roster::parse`] takes.
    pub fn render(&self) -> String {
        let mut text = String::from(HEAD);
        let mut entry = |comment: &str, key: &str, value: &str| {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n# {comment}\n{key} = {value}\n");
        };
        entry("What is priced.", "feed", &quoted(&self.feed));
        entry(
            "How prices become one: trimmed-mean, median or mean.",
            "rule",
            &quoted(self.rule.name()),
        );
        entry(
            "What a collector makes of its samples: mean or median.",
            "sample_rule",
            &quoted(self.sample_rule.name()),
        );
        entry(
            "How many collectors may lie without moving the price outside what honest ones saw.",
            "f",
            &self.f.to_string(),
        );
        entry(
            "The fewest collectors' prices from which one may be published.",
            "quorum",
            &self.quorum.to_string(),
        );
        entry(
            "The fewest distinct exchanges among them.",
            "exchanges_min",
            &self.exchanges_min.to_string(),
        );
        if let Some(key) = &self.aggregator {
            entry(
                "The only aggregator whose rounds count; without this line any aggregator's do.",
                "aggregator",
                &quoted(&hex(key.bytes())),
            );
        }
        text.push_str(
            "\n# The collectors, slot by slot: the key that signs, and what it watches.\n",
        );
        for (slot, seat) in self.collectors.iter().enumerate() {
            let (key, source) = (quoted(&hex(seat.key.bytes())), quoted(&seat.source));
            let _ = write!(
                text,
                "\n[collector.{slot}]\nkey = {key}\nsource = {source}\n"
            );
        }
        text
    }
}

/// The sections of the collectors, which are all there are, in the order of their slots.
fn collectors(sections: &[Section], keys: &mut Keys) -> Result<Vec<RosterSeat>, Wrong> {
    let seat = |(slot, section): (usize, &Section)| {
        let name = format!("collector.{slot}");
        if slot >= usize::from(COLLECTORS_MAX) {
            let most = format!("more than {COLLECTORS_MAX} collectors");
            return Err(Wrong::line(section.line, most));
        }
        if section.name != name {
            return Err(Wrong::line(
                section.line,
                format!(
                    "section [{}] where [{name}] is expected: slots count from 0 without gaps, and there are no other sections",
                    section.name
                ),
            ));
        }
        section.only(&["key", "source"])?;
        let key = keys.take(section.required("key")?)?;
        let source = section.required("source")?;
        let takes = |right: String| source.wrong(format!("it takes {right}"));
        Ok(RosterSeat {
            key,
            source: Source::parse(source.text()?).map_err(takes)?.name,
        })
    };
    sections.iter().enumerate().map(seat).collect()
}

/// The keys so far, and the lines they stand on.
#[derive(Default)]
struct Keys(BTreeMap<[u8; 32], usize>);

impl Keys {
    /// The public key of an entry, which must be a new one.
    fn take(&mut self, entry: &Entry) -> Result<PublicKey, Wrong> {
        let bytes = unhex(entry.text()?).ok_or_else(|| {
            entry.wrong("it takes a public key: 64 hexadecimal digits in lower case")
        })?;
        let key = PublicKey::decode(&bytes).ok_or_else(|| {
            entry.wrong("no public key: it is no point, one of small order, or a second spelling")
        })?;
        match self.0.insert(bytes, entry.line) {
            Some(line) => Err(entry.wrong(format!(
                "the same key stands on line {line}; every process signs with one of its own"
            ))),
            None => Ok(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::tests::SecretKey;
    use std::prelude::v1::*;

    fn key(seed: u8) -> PublicKey {
        SecretKey::from_seed(&[seed; 32]).public()
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
    fn a_roster_comes_back_the_same() {
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
            let text = roster.render();
            assert_eq!(Roster::parse(&text).as_ref(), Ok(&roster), "{text}");
            assert_eq!(Roster::parse(&text).unwrap().render(), text);
        }
    }

    #[test]
    fn the_file_is_bounded_by_what_is_read() {
        let mut largest = roster(1);
        largest.collectors[0].source = format!("binance:{}", "X".repeat(24));
        let text = largest.render();
        let seat = text.len() - text.find("\n[collector.0]").unwrap() + "4095".len();
        assert!(seat <= SEAT_BYTES_MAX && text.len() - seat < 4096, "{seat}");
    }

    #[test]
    fn what_cannot_be_trusted_is_refused_with_line_and_key() {
        let good = roster(4).render();
        let (hex_0, hex_3) = (hex(key(0).bytes()), hex(key(3).bytes()));
        let aggregator = hex(key(200).bytes());
        let small_order = format!("01{}", "0".repeat(62));
        let upper = hex_3.to_uppercase();
        let table: &[(&str, &str, &str, &str)] = &[
            ("feed = \"BTC/USD\"", "", "key 'feed'", "missing"),
            ("\"BTC/USD\"", "\"BTC USD\"", "key 'feed'", "visible"),
            ("\"BTC/USD\"", "\"\"", "key 'feed'", "1 to 16"),
            ("\"BTC/USD\"", "5", "key 'feed'", "double quotes"),
            ("\"trimmed-mean\"", "\"average\"", "key 'rule'", "median"),
            (
                "\"trimmed-mean\"",
                "\"mean\"",
                "key 'f'",
                "1 is more than 0",
            ),
            ("f = 1", "f = 2", "key 'f'", "2 is more than 1"),
            ("f = 1", "f = -1", "key 'f'", "from 0"),
            ("f = 1", "f = 1.0", "key 'f'", "whole number"),
            (
                "quorum = 3",
                "quorum = 2",
                "key 'quorum'",
                "2 is not from 3 to 4",
            ),
            (
                "quorum = 3",
                "quorum = 5",
                "key 'quorum'",
                "5 is not from 3 to 4",
            ),
            (
                "exchanges_min = 1",
                "exchanges_min = 0",
                "key 'exchanges_min'",
                "from 1",
            ),
            ("exchanges_min = 1", "", "key 'exchanges_min'", "missing"),
            (
                "exchanges_min = 1",
                "exchange_min = 1",
                "key 'exchange_min'",
                "unknown",
            ),
            ("aggregator =", "agregator =", "key 'agregator'", "unknown"),
            (&hex_3, &hex_0, "key 'key'", "the same key stands on line"),
            (
                &hex_3,
                &aggregator,
                "key 'key'",
                "the same key stands on line",
            ),
            (&hex_3, &small_order, "key 'key'", "no public key"),
            (&hex_3, &upper, "key 'key'", "lower case"),
            (&hex_3, &hex_3[1..], "key 'key'", "64 hexadecimal digits"),
            (&aggregator, "", "key 'aggregator'", "64 hexadecimal digits"),
            (
                "\"binance:BTCUSDC\"",
                "\"binance\"",
                "key 'source'",
                "binance:BTCUSDC",
            ),
            (
                "[collector.3]",
                "[collector.4]",
                "line ",
                "[collector.3] is expected",
            ),
            (
                "[collector.0]",
                "[collector.4]",
                "line ",
                "[collector.0] is expected",
            ),
            (
                "[collector.3]",
                "[collector.03]",
                "line ",
                "[collector.3] is expected",
            ),
            (
                "[collector.3]",
                "[collector]",
                "line ",
                "[collector.3] is expected",
            ),
            ("[collector.3]", "[collector.2]", "line ", "twice"),
            (
                "[collector.3]\n",
                "[collector.3]\nslot = 3\n",
                "key 'slot'",
                "unknown",
            ),
        ];
        for (part, other, place, says) in table {
            assert!(good.contains(part), "{part}");
            let sentence = Roster::parse(&good.replacen(part, other, 1)).unwrap_err();
            let sentence = sentence.to_string();
            assert!(sentence.starts_with("line "), "{other}: {sentence}");
            assert!(sentence.contains(place), "{other}: {sentence}");
            assert!(sentence.contains(says), "{other}: {sentence}");
        }
        let (top, _) = good.split_once("[collector.0]").unwrap();
        let sentence = Roster::parse(top).unwrap_err().to_string();
        assert!(sentence.contains("no collector"), "{sentence}");
    }
}
