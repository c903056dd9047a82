//! Tells what is in a roster: its digests, its terms in words, and its slots as tables. No line is wider than a terminal.
//!
//! Invariant: everything that a terms digest covers is told, of each feed. Feeds of which the same is to be said share a
//! paragraph.

use super::settings::NO_SOURCE;
use super::text::{instant, percent};
use crate::flags::args::wrapped;
use rsoracle_proof::duration::duration_text;
use rsoracle_proof::seal::hex;
use rsoracle_proof::source::kind_of;
use rsoracle_proof::terms::{Roster, RosterSlot, Terms};
use rsoracle_proof::tolerance::counted;

/// Widest line.
const COLUMNS: usize = 80;
/// Columns before the text of a row.
const MARGIN: usize = 15;
/// What stands in a table where a slot does not price a feed.
const NONE: &str = "-";

/// A row: what it is about, and the text beside it.
pub(crate) fn row(about: &str, text: &str) -> String {
    wrapped(&format!("{about:<0$}", MARGIN - 1), MARGIN, text, COLUMNS)
}

/// The digests: the roster's, and one for each feed.
pub(crate) fn digests(roster: &Roster) -> String {
    let whole = row("roster digest", &hex(&roster.digest()));
    if let [terms] = &roster.feeds[..] {
        return whole + &row("terms digest", &hex(&terms.digest()));
    }
    let of_feed = |terms: &Terms| row(&format!("  {}", terms.feed), &hex(&terms.digest()));
    let feeds: String = roster.feeds.iter().map(of_feed).collect();
    whole + &row("terms digests", "of each feed:") + &feeds
}

/// The terms in words. `more` gives further rows of each feed.
pub(super) fn words(roster: &Roster, now_us: u64, more: &[String]) -> String {
    let number = roster.number;
    let after = roster.previous.map_or("no other".to_owned(), |it| hex(&it));
    let head = |of: &str| {
        let text = format!("of {of}, number {number}, which follows {after}");
        row("roster", &text)
    };
    if let [terms] = &roster.feeds[..] {
        let [price, faults] = of_feed(terms);
        let more = more.concat();
        return head(&terms.feed) + &price + &schedule(terms, now_us) + &faults + &more;
    }
    let mut page = head(&counted(roster.feeds.len() as u64, "feed"));
    page += &schedule(&roster.feeds[0], now_us);
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for (at, terms) in roster.feeds.iter().enumerate() {
        let text = of_feed(terms).concat() + more.get(at).map_or("", |rows| rows);
        match groups.iter_mut().find(|(known, _)| *known == text) {
            Some((_, feeds)) => feeds.push(&terms.feed),
            None => groups.push((text, vec![&terms.feed])),
        }
    }
    for (text, feeds) in groups {
        page += &format!("\n{}{text}", row("prices of", &feeds.join(", ")));
    }
    page
}

/// The terms of one feed in words, without its schedule: how its price is made, and what that survives.
fn of_feed(terms: &Terms) -> [String; 2] {
    let price = format!(
        "{} of the collectors' prices; a price needs {} of {} (quorum), from at least {}",
        terms.rule.name(),
        terms.quorum(),
        counted(terms.n(), "collector"),
        counted(terms.exchanges_min, "exchange"),
    );
    let apart = match terms.schedule.samples {
        1 => String::new(),
        _ => format!(", {} apart", duration_text(terms.schedule.interval_us)),
    };
    let samples = format!(
        "{} of {}{apart}; {}",
        terms.sample_rule.name(),
        counted(terms.schedule.samples, "sample"),
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
    let price = row("price", &price) + &row("spread", &spread) + &row("samples", &samples);
    [price, row("faults", &terms.tolerance().text())]
}

/// The schedule in words.
pub(crate) fn schedule(terms: &Terms, now_us: u64) -> String {
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

/// A roster on a page: its digests, its terms in words, and its slots as a table. The symbols of several feeds have tables of
/// their own. `signed` says of each slot whether its seat is signed.
pub(super) fn show(roster: &Roster, signed: &[bool], now_us: u64) -> String {
    let single = roster.feeds.len() == 1;
    let mut page = digests(roster) + &words(roster, now_us, &[]);
    let (head, wide) = if single { ("source", 32) } else { ("kind", 23) };
    page += &format!("\nslot  {head:<wide$}  key               seat\n");
    for (slot, (place, signed)) in roster.slots.iter().zip(signed).enumerate() {
        let mut sources = place.sources.iter().filter(|source| !source.is_empty());
        let source = sources.next().expect("a slot has a source");
        let what = if single { source } else { kind_of(source) };
        let key = place.key;
        let key = key.map_or("none".to_owned(), |key| hex(&key.bytes()[..8]));
        let signed = if *signed { "signed" } else { "not signed" };
        page += &format!("{slot:>4}  {what:<wide$}  {key:<16}  {signed}\n");
    }
    if single {
        page
    } else {
        page + &markets(roster)
    }
}

/// What a slot watches, in words: of several feeds, for which it watches what.
pub(super) fn watched(roster: &Roster, slot: &RosterSlot) -> String {
    if let [source] = &slot.sources[..] {
        return source.clone();
    }
    let of_feed = |(terms, source): (&Terms, &String)| {
        let source = if source.is_empty() { NO_SOURCE } else { source };
        format!("{} = {source}", terms.feed)
    };
    let all = roster.feeds.iter().zip(&slot.sources).map(of_feed);
    all.collect::<Vec<_>>().join(", ")
}

/// The symbols of all slots, with a column for each feed. Columns that would be too far to the right begin another table.
fn markets(roster: &Roster) -> String {
    let symbol = |source: &str| {
        source
            .split_once(':')
            .map_or(NONE, |(_, symbol)| symbol)
            .to_owned()
    };
    let column = |(at, terms): (usize, &Terms)| {
        let symbols = roster.slots.iter().map(|slot| symbol(&slot.sources[at]));
        [terms.feed.clone()].into_iter().chain(symbols).collect()
    };
    let columns: Vec<Vec<String>> = roster.feeds.iter().enumerate().map(column).collect();
    let width = |column: &[String]| column.iter().map(String::len).max().unwrap_or(0);
    let mut page = String::new();
    let mut rest = &columns[..];
    while !rest.is_empty() {
        let mut used = "slot".len();
        let fits = |column: &&Vec<String>| {
            used += 2 + width(column);
            used <= COLUMNS
        };
        let (now, later) = rest.split_at(rest.iter().take_while(fits).count().max(1));
        for line in 0..=roster.slots.len() {
            let slot = line
                .checked_sub(1)
                .map_or("slot".to_owned(), |slot| slot.to_string());
            let cell = |column: &Vec<String>| format!("  {:<1$}", column[line], width(column));
            let cells: String = now.iter().map(cell).collect();
            let begin = if line == 0 { "\n" } else { "" };
            page += &format!("{begin}{:>4}{}\n", slot, cells.trim_end());
        }
        rest = later;
    }
    page
}
