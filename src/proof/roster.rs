//! The roster file, which says whom a consumer trusts: feed, rule, f, quorum, and whose signatures count.
//!
//! Invariant: every roster that [`Roster::parse`] returns is consistent. No key appears twice, no key is weak (anyone could
//! sign for it), and f and quorum are such that f liars cannot move the price.

use crate::aggregate;
use crate::aggregate::{Rule, faulty_max};
use crate::limits::COLLECTORS_MAX;
use crate::seal::{PublicKey, unhex};
use crate::source::{check_feed, check_source};
use crate::toml;
use crate::toml::{Entry, Section, Wrong};
use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// Whom to trust for one price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    /// The name of the feed: what is priced.
    pub feed: String,
    /// How the collectors' prices are combined.
    pub rule: Rule,
    /// How a collector's samples are combined: by mean or median.
    pub sample_rule: Rule,
    /// How many collectors may lie.
    pub f: u16,
    /// The fewest prices from which a price may be published.
    pub quorum: u16,
    /// The fewest distinct exchanges among those prices.
    pub exchanges_min: u16,
    /// The key of the only aggregator that is trusted; None for any aggregator.
    pub aggregator: Option<PublicKey>,
    /// The collectors. A collector's index is its slot.
    pub collectors: Vec<RosterSeat>,
}

/// A trusted collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterSeat {
    /// Its key.
    pub key: PublicKey,
    /// Its source, such as `binance:BTCUSDC`.
    pub source: String,
}

impl Roster {
    /// n: the number of configured collectors, whoever answers.
    pub fn n(&self) -> u16 {
        self.collectors.len() as u16
    }

    /// Parses a roster file. Errors name the line and the key.
    pub fn parse(text: &str) -> Result<Roster, Wrong> {
        let sections = toml::parse(text)?;
        let (top, rest) = sections
            .split_first()
            .expect("the first section always exists");
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
        let mut keys = KeyLines::default();
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

    /// Checks that f and quorum are such that f liars cannot move the price.
    fn check(&self, top: &Section) -> Result<(), Wrong> {
        let (n, rule) = (self.n(), self.rule);
        if n == 0 {
            return Err(Wrong::line(
                top.line,
                "no collector: the first section must be [collector.0]",
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
                "{} is not from {fewest} to {n}: with f = {}, liars or a minority could decide fewer than {fewest} of {n} prices",
                self.quorum, self.f
            )));
        }
        Ok(())
    }
}

/// Parses the sections of the collectors, in the order of their slots. There are no other sections.
fn collectors(sections: &[Section], keys: &mut KeyLines) -> Result<Vec<RosterSeat>, Wrong> {
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
        let takes = |right| source.wrong(format!("it takes {right}"));
        check_source(source.text()?).map_err(takes)?;
        Ok(RosterSeat {
            key,
            source: source.text()?.to_owned(),
        })
    };
    sections.iter().enumerate().map(seat).collect()
}

/// The keys so far, and their lines.
#[derive(Default)]
struct KeyLines(BTreeMap<[u8; 32], usize>);

impl KeyLines {
    /// The public key of an entry. It must not have appeared before.
    fn take(&mut self, entry: &Entry) -> Result<PublicKey, Wrong> {
        let bytes = unhex(entry.text()?).ok_or_else(|| {
            entry.wrong("it takes a public key: 64 lower-case hexadecimal digits")
        })?;
        let key = PublicKey::decode(&bytes).ok_or_else(|| {
            entry.wrong("no valid public key: it is not a point, of small order, or not in canonical encoding")
        })?;
        match self.0.insert(bytes, entry.line) {
            Some(line) => Err(entry.wrong(format!(
                "the same key is on line {line}; every process signs with its own key"
            ))),
            None => Ok(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::hex;
    use crate::seal::tests::SecretKey;
    use std::prelude::v1::*;

    fn key(seed: u8) -> PublicKey {
        SecretKey::from_seed(&[seed; 32]).public()
    }

    /// A roster file of `n` collectors.
    fn roster(n: u8) -> String {
        let f = faulty_max(Rule::TrimmedMean, u16::from(n));
        let quorum = aggregate::quorum(u16::from(n), f);
        let aggregator = hex(key(200).bytes());
        let mut text = format!(
            "feed = \"BTC/USD\"\nrule = \"trimmed-mean\"\nsample_rule = \"mean\"\nf = {f}\nquorum = {quorum}\nexchanges_min = 1\naggregator = \"{aggregator}\"\n"
        );
        for slot in 0..n {
            let key = hex(key(slot).bytes());
            text += &format!("[collector.{slot}]\nkey = \"{key}\"\nsource = \"binance:BTCUSDC\"\n");
        }
        text
    }

    #[test]
    fn a_source_of_a_kind_that_this_program_does_not_know_is_accepted() {
        let text = roster(4).replace("binance:BTCUSDC", "new-exchange:xbt.usd");
        let roster = Roster::parse(&text).expect("a roster");
        assert_eq!(roster.collectors[3].source, "new-exchange:xbt.usd");
    }

    #[test]
    fn invalid_rosters_are_refused_with_line_and_key() {
        let good = roster(4);
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
            (&hex_3, &hex_0, "key 'key'", "the same key is on line"),
            (&hex_3, &aggregator, "key 'key'", "the same key is on line"),
            (&hex_3, &small_order, "key 'key'", "no valid public key"),
            (&hex_3, &upper, "key 'key'", "lower-case"),
            (&hex_3, &hex_3[1..], "key 'key'", "64 lower-case"),
            (&aggregator, "", "key 'aggregator'", "64 lower-case"),
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
