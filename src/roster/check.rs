//! Examines a roster, and says what is wrong with it.
//!
//! Invariant: what is called sound here can be used by every collector and aggregator of this version. Either all of its seats
//! are signed by their holders, or none is.

use super::change::{self, Step};
use super::key_of;
use super::page::{digests, row, schedule, watched, words};
use super::text::instant;
use crate::collector::settings::{Charge, Collect, Engagement};
use crate::collector::sources_of;
use crate::exchange::requests_fit;
use crate::source::Source;
use crate::source::market::{self, DOLLARS, Mismatch, market_of};
use crate::system::now::wall_us;
use rsoracle_proof::roster::RosterFile;
use rsoracle_proof::schedule::Tenure;
use rsoracle_proof::seal::{PublicKey, hex};
use rsoracle_proof::source::quote_of;
use rsoracle_proof::terms::Roster;
use rsoracle_proof::tolerance::counted;
use rsoracle_proof::toml::{self, Value, Wrong};
use rsoracle_verify::error::Error;
use std::collections::{BTreeMap, BTreeSet};

/// A roster, and what its file says besides it.
pub(super) struct Read {
    pub(super) roster: Roster,
    pub(super) slots: Vec<Slot>,
    /// From when on it counts, and how many keys endorsed that, if it follows another roster by a change.
    change: Option<(u64, usize)>,
}

pub(super) struct Slot {
    line: usize,
    /// Whether it has a signature. If so, the signature is valid: otherwise the roster would not have been read.
    pub(super) signed: bool,
}

/// Reads a roster as the proof crate does. Of two slots with one key, the error names the second.
pub(super) fn read(text: &str) -> Result<Read, Wrong> {
    let sections = toml::parse(text)?;
    let is_slot = |section: &&toml::Section| section.name.starts_with("slot.");
    let mut seen = BTreeMap::new();
    for section in sections.iter().filter(is_slot) {
        if let Some(entry) = section.get("key")
            && let Value::Text(key) = &entry.value
            && !key.is_empty()
            && let Some(first) = seen.insert(key, &section.name)
        {
            return Err(entry.wrong(format!("[{first}] has the same key")));
        }
    }
    let slot = |section: &toml::Section| Slot {
        line: section.line,
        signed: section.get("signature").is_some(),
    };
    let file = RosterFile::parse(text)?;
    Ok(Read {
        change: file.from_us.map(|us| (us, file.endorsements.len())),
        roster: file.roster,
        slots: sections.iter().filter(is_slot).map(slot).collect(),
    })
}

impl Read {
    /// From when on it counts, in words; nothing if it always did.
    pub(super) fn tenure(&self) -> String {
        let row_of = |(us, keys): &(u64, usize)| {
            let by = counted(*keys as u64, "endorsement");
            row(
                "counts",
                &format!(
                    "from {} on, with {by} (the time and the endorsements are not part of the digest)",
                    instant(*us)
                ),
            )
        };
        self.change.as_ref().map_or(String::new(), row_of)
    }

    /// The time that the next round is told from: now, or when it begins to count.
    pub(super) fn seen_us(&self, now_us: u64) -> u64 {
        self.change.map_or(now_us, |(us, _)| now_us.max(us))
    }

    /// Of each slot, whether its seat is signed.
    pub(super) fn signed(&self) -> Vec<bool> {
        self.slots.iter().map(|slot| slot.signed).collect()
    }
}

/// Examines the text of a roster. Returns what is to be said about it, the verdict, and whether it is sound.
pub(super) fn examine(
    text: &str,
    step: Option<&Step>,
    own: Option<&PublicKey>,
    accepted: &BTreeSet<String>,
    now_us: u64,
) -> (String, &'static str, bool) {
    let not = "NOT sound";
    let read = match read(text) {
        Ok(read) => read,
        Err(wrong) => return (row("wrong", &wrong.to_string()), not, false),
    };
    let roster = &read.roster;
    let now_us = read.seen_us(now_us);
    let mut wrong = Vec::new();
    let mut missing = Vec::new();
    if roster.schedule().next_start_us(now_us).is_none() {
        wrong.push("no round is left: its end or its only start has passed".to_owned());
    }
    for quote in accepted {
        let feeds = roster.feeds.iter().map(|terms| &*terms.feed);
        wrong.extend(market::unacceptable(quote, feeds));
    }
    let unsigned = read.slots.iter().all(|slot| !slot.signed);
    let signers = row("seats", &seats(&read, &mut wrong));
    let markets = |feed| row("sources", &sources(&read, feed, accepted, &mut wrong));
    let markets: Vec<String> = (0..roster.feeds.len()).map(markets).collect();
    let mut page = digests(roster) + &read.tenure();
    if roster.feeds.len() == 1 {
        page += &(words(roster, now_us, &[]) + &signers + &markets[0]);
    } else {
        page += &(words(roster, now_us, &markets) + "\n" + &signers);
    }
    if let Some(key) = own {
        match roster.slot_of(key) {
            Some(slot) => {
                let seat = &roster.slots[usize::from(slot)];
                page += &row("your slot", &format!("{slot}, {}", watched(roster, seat)));
                if unsigned {
                    let why = "your seat is not signed: whoever assembled the roster may have changed any seat";
                    wrong.push(why.to_owned());
                }
            }
            None => wrong.push(format!("no slot has your key, {}", hex(key.bytes()))),
        }
    }
    if let Some(step) = step {
        let (rows, endorsements) = step.page();
        page += &format!("\n{rows}");
        missing = endorsements;
    }
    page += &change::lacking(&missing);
    for sentence in &wrong {
        page.push_str(&row("wrong", sentence));
    }
    let verdict = match wrong.is_empty() {
        false => not,
        true if !missing.is_empty() => {
            "not yet endorsed: nothing is wrong, but endorsements are missing"
        }
        true if unsigned => "sound, but no seat is signed",
        true => "sound",
    };
    (page, verdict, wrong.is_empty() && missing.is_empty())
}

/// Who signed, in words. A seat without a signature among signed ones may have been changed by whoever assembled the roster.
fn seats(read: &Read, wrong: &mut Vec<String>) -> String {
    let count = read.slots.len();
    let signed = read.slots.iter().filter(|slot| slot.signed).count();
    for (slot, (place, has)) in read.roster.slots.iter().zip(&read.slots).enumerate() {
        let at = format!("line {}, slot {slot}", has.line);
        if place.key.is_none() {
            wrong.push(format!("{at}: it has no key, so nobody can sign in it"));
        } else if signed > 0 && !has.signed {
            wrong.push(format!(
                "{at}: its seat is not signed, as others are: whoever assembled the roster may have changed it"
            ));
        }
        let sources = place.sources.iter().filter(|source| !source.is_empty());
        let mut seen = BTreeSet::new();
        let count = sources.clone().count();
        let first = sources
            .clone()
            .next()
            .and_then(|name| Source::parse(name).ok());
        let fits = first.map_or(Ok(()), |first| {
            requests_fit(&first, count, read.roster.schedule())
        });
        wrong.extend(fits.err().map(|why| format!("{at}: {why}")));
        if let Some(twice) = sources.clone().find(|source| !seen.insert(*source)) {
            wrong.push(format!("{at}: {twice} stands for two feeds"));
        }
    }
    match signed {
        0 => "none is signed, as in a roster that 'rsoracle run' writes: its word is that of whoever wrote it".to_owned(),
        all if all == count => format!("all {count} are signed by their keys"),
        some => format!("{some} of {count} are signed by their keys"),
    }
}

/// Whether all sources of a feed are its market, in words. For a feed in USD, its stablecoins are accepted and named.
fn sources(
    read: &Read,
    feed: usize,
    accepted: &BTreeSet<String>,
    wrong: &mut Vec<String>,
) -> String {
    let terms = &read.roster.feeds[feed];
    let several = read.roster.feeds.len() > 1;
    let mut accepted = accepted.clone();
    if terms.feed.ends_with("/USD") {
        accepted.extend(DOLLARS.map(str::to_owned));
    }
    let before = wrong.len();
    let mut quotes: BTreeMap<&str, u16> = BTreeMap::new();
    for (slot, (place, has)) in read.roster.slots.iter().zip(&read.slots).enumerate() {
        let name = &place.sources[feed];
        if name.is_empty() {
            continue;
        }
        *quotes.entry(quote_of(name, &terms.feed)).or_default() += 1;
        let why = match Source::parse(name) {
            Err(right) => format!("source {name}; it takes {right}"),
            Ok(source) => match market::check(&source, &terms.feed, &accepted) {
                Ok(()) => continue,
                Err(mismatch) => said_of(&mismatch, &source, &terms.feed),
            },
        };
        let of = if several {
            format!(", {}", terms.feed)
        } else {
            String::new()
        };
        wrong.push(format!("line {}, slot {slot}{of}: {why}", has.line));
    }
    let quotes = quotes
        .iter()
        .map(|(quote, count)| format!("{count} in {quote}"));
    let quotes = quotes.collect::<Vec<_>>().join(", ");
    // Feeds of which the same is to be said share this sentence.
    let feed = if several { "the feed" } else { &terms.feed };
    match wrong.len() - before {
        0 => format!("all are markets of {feed}: {quotes}"),
        some => format!("{some} of {} are not markets of {feed}", terms.n()),
    }
}

/// What a source that is not the market of a feed differs in, and what to do about it.
fn said_of(mismatch: &Mismatch, source: &Source, feed: &str) -> String {
    let name = &source.name;
    let (other, own) = match *mismatch {
        Mismatch::Quote { other, own } => (other, own),
        Mismatch::Market { base, own } => return format!("{name} does not price {base} in {own}"),
    };
    let base = market_of(feed).map_or("", |(base, _)| base);
    let right = source.market_in(base, own);
    let remedy = match mismatch.acceptable() {
        Some(_) => format!("to accept {other} for {own}, add --accept-quote {other}"),
        None => format!("its collector must sign a seat with the market in {own}, {right}"),
    };
    format!("{name} is priced in {other}, the feed in {own}; {remedy}")
}

/// Which roster it is, and when it counts, if there are several or it begins to count at some time.
fn counts(it: &Engagement, several: bool) -> String {
    let Tenure { from_us, until_us } = it.tenure;
    if !several && from_us == 0 {
        return String::new();
    }
    let from = if from_us == 0 {
        String::new()
    } else {
        format!(" from {}", instant(from_us))
    };
    let until = until_us.map_or(String::new(), |us| format!(" until {}", instant(us)));
    let text = format!(
        "{}, number {}, which counts{from}{until}",
        it.path, it.roster.number
    );
    row("roster", &text)
}

/// What the collector of a slot would do, in words.
fn post(config: &Collect, it: &Engagement, slot: u16) -> Result<String, String> {
    let roster = &it.roster;
    let sources = sources_of(roster, slot)?;
    sources[0].check_endpoint(config.endpoint.is_some())?;
    let names = &roster.slots[usize::from(slot)].sources;
    let mut page = row("slot", &format!("{slot} of {}", roster.slots.len()));
    for (feed, (terms, name)) in roster.feeds.iter().zip(names).enumerate() {
        match roster.seat_of(feed, slot.into()) {
            Some(_) if names.len() == 1 => page += &row("source", name),
            Some(seat) => {
                let (of, n) = (&terms.feed, terms.n());
                page += &row("feed", &format!("{of}, slot {seat} of {n}: {name}"));
            }
            None => {}
        }
    }
    page += &digests(roster);
    page += &schedule(&roster.feeds[0], wall_us().max(it.tenure.from_us));
    Ok(page)
}

/// What a collector by hand would do with these settings, in words (`collect --check`).
pub fn charge(config: &Collect) -> Result<String, Error> {
    let Charge::Roster { engagements, .. } = &config.charge else {
        return Ok(String::new());
    };
    let key_path = config.key.as_deref().expect("--roster needs --key");
    let key = key_of(key_path)?;
    let mut page = row("key", &hex(key.bytes()));
    let several = engagements.len() > 1;
    for (at, it) in engagements.iter().enumerate() {
        let failed = |why| Error::new(format!("cannot sign under the roster {}", it.path), why);
        let text = format!("{}, number {}", it.path, it.roster.number);
        match it.roster.slot_of(&key) {
            Some(slot) => {
                page += &counts(it, several);
                page += &post(config, it, slot).map_err(failed)?;
            }
            None if several && at + 1 < engagements.len() || at > 0 => {
                page += &row("roster", &format!("{text}: no slot has this key"));
            }
            None => {
                let key = hex(key.bytes());
                return Err(failed(format!("no slot has the key {key} of {key_path}")));
            }
        }
    }
    for place in &config.aggregators {
        let (host, key) = (&place.host, place.key.map(|key| hex(key.bytes())));
        let (control, data) = (place.control_port, place.data_port);
        let key = key.unwrap_or_default();
        page += &row(
            "aggregator",
            &format!("{host}, control port {control}, data port {data}, key {key}"),
        );
    }
    Ok(page)
}
