//! Examines a roster, and tells what is in it, in words.
//!
//! Invariant: what is called sound here can be used by every collector and aggregator of this version. Either all of its seats
//! are signed by their holders, or none is.

use super::text::{instant, percent};
use super::{key_of, load};
use crate::collector::settings::{Charge, Collect};
use crate::flags::args::wrapped;
use crate::source::Source;
use crate::source::market::{self, DOLLARS, Mismatch};
use crate::system::now::wall_us;
use rsoracle_proof::duration::duration_text;
use rsoracle_proof::seal::{PublicKey, hex};
use rsoracle_proof::source::quote_of;
use rsoracle_proof::terms::{Roster, Terms};
use rsoracle_proof::tolerance::counted;
use rsoracle_proof::toml::{self, Value, Wrong};
use rsoracle_verify::error::Error;
use std::collections::{BTreeMap, BTreeSet};

/// Widest line.
const COLUMNS: usize = 80;
/// Columns before the text of a row.
const MARGIN: usize = 15;

/// A roster, and what its file says besides it.
pub(super) struct Read {
    pub(super) roster: Roster,
    slots: Vec<Slot>,
}

struct Slot {
    line: usize,
    /// Whether it has a signature. If so, the signature is valid: otherwise the roster would not have been read.
    signed: bool,
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
    Ok(Read {
        roster: Roster::parse(text)?,
        slots: sections.iter().filter(is_slot).map(slot).collect(),
    })
}

/// A row: what it is about, and the text beside it.
fn row(about: &str, text: &str) -> String {
    wrapped(&format!("{about:<0$}", MARGIN - 1), MARGIN, text, COLUMNS)
}

/// The two digests.
pub(super) fn digests(roster: &Roster) -> String {
    let (whole, terms) = (roster.digest(), roster.feeds[0].digest());
    row("roster digest", &hex(&whole)) + &row("terms digest", &hex(&terms))
}

/// The terms in words.
fn words(roster: &Roster, now_us: u64) -> String {
    let terms = &roster.feeds[0];
    let (number, feed) = (roster.number, &terms.feed);
    let after = roster.previous.map_or("no other".to_owned(), |it| hex(&it));
    let price = format!(
        "{} of the collectors' prices; a price needs {} of {} (quorum), from at least {}",
        terms.rule.name(),
        terms.quorum(),
        counted(terms.n(), "collector"),
        counted(terms.exchanges_min, "exchange"),
    );
    let samples = format!(
        "{} of {}, {} apart; {}",
        terms.sample_rule.name(),
        counted(terms.schedule.samples, "sample"),
        duration_text(terms.schedule.interval_us),
        match terms.age_us_max {
            Some(us) => format!("none older than {}", duration_text(us)),
            None => "no limit on their age but each exchange's".to_owned(),
        }
    );
    let spread = match terms.spread_ppm_max {
        Some(ppm) => format!(
            "withheld if the prices used differ by more than {}",
            percent(ppm)
        ),
        None => "no limit".to_owned(),
    };
    row(
        "roster",
        &format!("of {feed}, number {number}, which follows {after}"),
    ) + &row("price", &price)
        + &row("spread", &spread)
        + &row("samples", &samples)
        + &schedule(terms, now_us)
        + &row("faults", &terms.tolerance().text())
}

/// The schedule in words.
fn schedule(terms: &Terms, now_us: u64) -> String {
    let schedule = &terms.schedule;
    let first = instant(schedule.first_start_us);
    let rounds = match schedule.period_us {
        0 => format!("a single one, at {first}"),
        us => format!("every {} from {first} on", duration_text(us)),
    };
    let end = schedule.end_us.map_or("without end".to_owned(), |us| {
        format!("none at {} or later", instant(us))
    });
    let next = match schedule.next_start_us(now_us) {
        Some(us) => format!("the next is at {}", instant(us)),
        None => "none is left".to_owned(),
    };
    let [last, reply, length] = [
        schedule.last_us(),
        schedule.reply_us(),
        schedule.length_us(),
    ]
    .map(duration_text);
    row("rounds", &format!("{rounds}, {end}; {next}"))
        + &row(
            "each round",
            &format!("last sample after {last}, replies until {reply}, end after {length}"),
        )
}

/// A roster on a page: its digests, its terms in words, and its slots as a table.
pub(super) fn show(read: &Read, now_us: u64) -> String {
    let roster = &read.roster;
    let mut page = digests(roster) + &words(roster, now_us);
    page.push_str("\nslot  source                            key               seat\n");
    for (slot, (seat, has)) in roster.feeds[0].seats.iter().zip(&read.slots).enumerate() {
        let key = seat
            .key
            .map_or("none".to_owned(), |key| hex(&key.bytes()[..8]));
        let signed = if has.signed { "signed" } else { "not signed" };
        page.push_str(&format!(
            "{slot:>4}  {:<32}  {key:<16}  {signed}\n",
            seat.source
        ));
    }
    page
}

/// Examines the text of a roster. Returns what is to be said about it, the verdict, and whether it is sound.
pub(super) fn examine(
    text: &str,
    own: Option<&PublicKey>,
    accepted: &BTreeSet<String>,
    now_us: u64,
) -> (String, &'static str, bool) {
    let not = "NOT sound";
    let read = match read(text) {
        Ok(read) => read,
        Err(wrong) => return (row("wrong", &wrong.to_string()), not, false),
    };
    let mut wrong = Vec::new();
    if read.roster.feeds[0]
        .schedule
        .next_start_us(now_us)
        .is_none()
    {
        wrong.push("no round is left: its end or its only start has passed".to_owned());
    }
    let unsigned = read.slots.iter().all(|slot| !slot.signed);
    let mut page = digests(&read.roster) + &words(&read.roster, now_us);
    page.push_str(&row("seats", &seats(&read, &mut wrong)));
    page.push_str(&row("sources", &sources(&read, accepted, &mut wrong)));
    if let Some(key) = own {
        match read.roster.feeds[0].slot_of(key) {
            Some(slot) => {
                let source = &read.roster.feeds[0].seats[usize::from(slot)].source;
                page.push_str(&row("your slot", &format!("{slot}, {source}")));
                if unsigned {
                    let why = "your seat is not signed: whoever assembled the roster may have changed any seat";
                    wrong.push(why.to_owned());
                }
            }
            None => wrong.push(format!("no slot has your key, {}", hex(key.bytes()))),
        }
    }
    for sentence in &wrong {
        page.push_str(&row("wrong", sentence));
    }
    let verdict = match wrong.is_empty() {
        false => not,
        true if unsigned => "sound, but no seat is signed",
        true => "sound",
    };
    (page, verdict, wrong.is_empty())
}

/// Who signed, in words. A seat without a signature among signed ones may have been changed by whoever assembled the roster.
fn seats(read: &Read, wrong: &mut Vec<String>) -> String {
    let count = read.slots.len();
    let signed = read.slots.iter().filter(|slot| slot.signed).count();
    for (slot, (seat, has)) in read.roster.feeds[0]
        .seats
        .iter()
        .zip(&read.slots)
        .enumerate()
    {
        let place = format!("line {}, slot {slot}", has.line);
        if seat.key.is_none() {
            wrong.push(format!("{place}: it has no key, so nobody can sign in it"));
        } else if signed > 0 && !has.signed {
            wrong.push(format!(
                "{place}: its seat is not signed, as others are: whoever assembled the roster may have changed it"
            ));
        }
    }
    match signed {
        0 => "none is signed, as in a roster that 'rsoracle run' writes: its word is that of whoever wrote it".to_owned(),
        all if all == count => format!("all {count} are signed by their keys"),
        some => format!("{some} of {count} are signed by their keys"),
    }
}

/// Whether all sources are the feed's market, in words. For a feed in USD, its stablecoins are accepted and named.
fn sources(read: &Read, accepted: &BTreeSet<String>, wrong: &mut Vec<String>) -> String {
    let terms = &read.roster.feeds[0];
    let mut accepted = accepted.clone();
    if terms.feed.ends_with("/USD") {
        accepted.extend(DOLLARS.map(str::to_owned));
    }
    let before = wrong.len();
    let mut quotes: BTreeMap<&str, u16> = BTreeMap::new();
    for (slot, (seat, has)) in terms.seats.iter().zip(&read.slots).enumerate() {
        let name = &seat.source;
        *quotes.entry(quote_of(name)).or_default() += 1;
        let why = match Source::parse(name) {
            Err(right) => format!("source {name}; it takes {right}"),
            Ok(source) => match market::check(&source, &terms.feed, &accepted) {
                Ok(()) => continue,
                Err(Mismatch::Quote { other, own }) => format!(
                    "{name} is priced in {other}, the feed in {own}; to accept {other} for {own}, add --accept-quote {other}"
                ),
                Err(Mismatch::Market { base, own }) => {
                    format!("{name} does not price {base} in {own}")
                }
            },
        };
        wrong.push(format!("line {}, slot {slot}: {why}", has.line));
    }
    let quotes = quotes
        .iter()
        .map(|(quote, count)| format!("{count} in {quote}"));
    let quotes = quotes.collect::<Vec<_>>().join(", ");
    match wrong.len() - before {
        0 => format!("all are markets of {}: {quotes}", terms.feed),
        some => format!("{some} of {} are not markets of {}", terms.n(), terms.feed),
    }
}

/// What a collector by hand would do with these settings, in words (`collect --check`).
pub fn charge(config: &Collect) -> Result<String, Error> {
    let Charge::Roster { path, .. } = &config.charge else {
        return Ok(String::new());
    };
    let key_path = config.key.as_deref().expect("--roster needs --key");
    let (Read { roster, .. }, key) = (load(path)?, key_of(key_path)?);
    let failed = |why| Error::new(format!("cannot sign under the roster {path}"), why);
    let slot = roster.feeds[0].slot_of(&key).ok_or_else(|| {
        failed(format!(
            "no slot has the key {} of {key_path}",
            hex(key.bytes())
        ))
    })?;
    let name = &roster.feeds[0].seats[usize::from(slot)].source;
    let source = Source::parse(name).map_err(|right| {
        failed(format!(
            "slot {slot} has the source {name}; it takes {right}"
        ))
    })?;
    if source.embedded != config.endpoint.is_some() {
        return Err(failed(
            "--endpoint URL goes with an 'embedded:' source, and with no other".to_owned(),
        ));
    }
    let mut page = row("key", &hex(key.bytes()));
    page += &row("slot", &format!("{slot} of {}", roster.feeds[0].n()));
    page += &row("source", name);
    page += &digests(&roster);
    page += &schedule(&roster.feeds[0], wall_us());
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
