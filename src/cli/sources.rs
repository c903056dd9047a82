//! The sources of a run (`--source`, `--sources`, `--accept-quote`).
//!
//! Invariant: a live source of a feed `BASE/QUOTE` prices that base in that currency, or in one that was explicitly accepted. A
//! price in another currency is never used by mistake. Recorded prices are marked, so there a dollar and its stablecoins count as
//! one currency; but they too must be of the feed's base. Which market is of which of several feeds is never guessed.

use crate::flags::args::{Given, Usage};
use crate::flags::values::{DIVERSE, accepted, listed, source_for};
use crate::source::market::{self, DOLLARS, Mismatch, market_of};
use crate::source::{Source, recorded};
use crate::system::limits::COLLECTORS_MAX;
use rsoracle_proof::tolerance::{Groups, Tolerance};
use std::collections::BTreeSet;

/// The sources of a run, before they are assigned to slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The sources in their order, with repetitions: of each, its market of every feed.
    pub sources: Vec<Vec<Source>>,
    /// Currencies that are accepted for the feeds' own.
    pub accepted: BTreeSet<String>,
}

impl Watched {
    /// Reads `--source`, `--sources` and `--accept-quote`.
    pub fn read(given: &Given, feeds: &[String]) -> Result<Watched, Usage> {
        let (flag, names, in_dollars) = named(given)?;
        let mut accepted = accepted(given)?;
        for quote in &accepted {
            let feeds = feeds.iter().map(String::as_str);
            if let Some(why) = market::unacceptable(quote, feeds) {
                return Err(given.contradiction(&["accept-quote"], why));
            }
        }
        let of_feed = feeds
            .iter()
            .map(|feed| accepted_for(given, feed, &accepted, in_dollars));
        let of_feed = of_feed.collect::<Result<Vec<_>, Usage>>()?;
        if feeds.len() > 1 {
            check_several(given, flag, &names, feeds)?;
        }
        let market = |name: &String, at: usize| {
            let feed = &feeds[at];
            let source = source_for(name, feed);
            let source = source.map_err(|right| given.wrong(flag, name, &right))?;
            market::check(&source, feed, &of_feed[at]).map_err(|mismatch| {
                let sentence = said_of(&mismatch, (flag, name), &source, (feed, feeds.len() > 1));
                given.contradiction(
                    &[flag, "feed", "accept-quote"],
                    format!("--{flag}: {sentence}"),
                )
            })?;
            Ok(source)
        };
        let mut sources = Vec::new();
        for name in &names {
            let markets = (0..feeds.len()).map(|at| market(name, at));
            sources.push(markets.collect::<Result<Vec<Source>, Usage>>()?);
            check_apart(given, sources.last().expect("it was pushed"), feeds)?;
        }
        of_feed.into_iter().for_each(|more| accepted.extend(more));
        Ok(Watched { sources, accepted })
    }

    /// The number of collectors: `--collectors`, or else its default or the number of sources, whichever is greater.
    pub fn collectors(&self, given: &Given, feeds: usize) -> Result<u16, Usage> {
        let count = self.sources.len();
        let few = given.number("collectors", 1..=COLLECTORS_MAX)?;
        let most = if given.has("collectors") {
            few
        } else {
            COLLECTORS_MAX
        };
        if count > usize::from(most) {
            return Err(given.contradiction(&["collectors"], format!(
                "{count} sources are more than {most} collectors; each source needs a collector, so raise --collectors"
            )));
        }
        let collectors = few.max(count as u16);
        let all = usize::from(collectors) * feeds;
        if all > usize::from(COLLECTORS_MAX) {
            return Err(given.contradiction(&["collectors", "feed"], format!(
                "{collectors} collectors of {feeds} feeds each are {all} in all; at most {COLLECTORS_MAX} are possible"
            )));
        }
        Ok(collectors)
    }
}

/// The currencies that are accepted for a feed's own: those of `--accept-quote`, and for USD those that the sources say.
fn accepted_for(
    given: &Given,
    feed: &str,
    accepted: &BTreeSet<String>,
    in_dollars: &[&str],
) -> Result<BTreeSet<String>, Usage> {
    let mut accepted = accepted.clone();
    match market_of(feed) {
        None if !accepted.is_empty() => {
            return Err(given.contradiction(&["accept-quote"], format!(
                "--accept-quote goes with a feed such as BTC/USD; {feed} names no currency that others could be accepted for"
            )));
        }
        // Stablecoins of the dollar are accepted for USD only.
        Some((_, "USD")) => accepted.extend(in_dollars.iter().map(|quote| (*quote).to_owned())),
        _ => {}
    }
    Ok(accepted)
}

/// Checks names of sources for several feeds: each must be a kind alone, whose market of every feed is known.
fn check_several(
    given: &Given,
    flag: &str,
    names: &[String],
    feeds: &[String],
) -> Result<(), Usage> {
    if let Some(feed) = feeds.iter().find(|feed| market_of(feed).is_none()) {
        return Err(given.contradiction(&["feed"], format!(
            "--feed {feed} names no currencies, so its market at a source is not known; among several feeds it needs a roster file, which names the market of each ('rsoracle help roster')"
        )));
    }
    let Some(name) = names.iter().find(|name| name.contains(':')) else {
        return Ok(());
    };
    let (kind, _) = name.split_once(':').expect("it has a colon");
    let count = feeds.len();
    Err(given.contradiction(&[flag], format!(
        "--{flag} {name} is one market, but there are {count} feeds: give the kind alone ('{kind}'), which means its market of each feed; a roster file can name any market of each ('rsoracle help roster')"
    )))
}

/// Checks that a source has another market for each feed.
fn check_apart(given: &Given, markets: &[Source], feeds: &[String]) -> Result<(), Usage> {
    for (at, market) in markets.iter().enumerate() {
        if let Some(other) = markets[..at].iter().position(|other| other == market) {
            let (name, one, two) = (&market.name, &feeds[other], &feeds[at]);
            return Err(given.contradiction(
                &["feed"],
                format!("--feed: {one} and {two} would both be prices of {name}"),
            ));
        }
    }
    Ok(())
}

/// Checks that the embedded exchange that a run starts itself has these markets.
pub(super) fn check_played(given: &Given, sources: &[Source]) -> Result<(), Usage> {
    let missing = |source: &&Source| source.embedded && !recorded::plays(source);
    let Some(source) = sources.iter().find(missing) else {
        return Ok(());
    };
    let bases: Vec<&str> = recorded::bases().collect();
    Err(given.contradiction(&["source", "sources", "feed"], format!(
        "{} has no recorded prices; the embedded exchange plays {} in USD, USDC and USDT (Binance's API: in the last two). With another tape, run 'rsoracle exchange --tape FILE' and name it with --endpoint",
        source.name,
        bases.join(", ")
    )))
}

/// The flag that names the sources, the names, and the currencies that this choice accepts for USD.
fn named(given: &Given) -> Result<(&'static str, Vec<String>, &'static [&'static str]), Usage> {
    let typed: Vec<String> = listed(given, "source").map(str::to_owned).collect();
    let prefix = match given.text("sources") {
        Some(_) if !typed.is_empty() => {
            return Err(given.contradiction(
                &["source", "sources"],
                "--source and --sources both name the sources; give only one of them",
            ));
        }
        Some("diverse") => "",
        Some("embedded-diverse") => "embedded-",
        Some(other) => return Err(given.wrong("sources", other, "diverse or embedded-diverse")),
        None if typed.is_empty() => {
            let built_in = given.required("source")?.to_owned();
            return Ok(("source", vec![built_in], &DOLLARS[..1]));
        }
        None => return Ok(("source", typed, &[])),
    };
    let kinds = DIVERSE.map(|kind| format!("{prefix}{kind}"));
    Ok(("sources", kinds.to_vec(), &DOLLARS))
}

/// What a source that is not the market of a feed differs in, and what to change. `flag` and `name` are what named the source;
/// where there are several feeds, a name without a market stands for that of each.
fn said_of(
    mismatch: &Mismatch,
    (flag, name): (&str, &str),
    source: &Source,
    (feed, several): (&str, bool),
) -> String {
    let market = &source.name;
    let (other, own) = match *mismatch {
        Mismatch::Quote { other, own } => (other, own),
        Mismatch::Market { base, own } => {
            return format!(
                "{market} does not price {base} in {own}, as --feed {feed} requires, nor in a currency that --accept-quote names"
            );
        }
    };
    let differs = format!("{market} is priced in {other}, --feed {feed} in {own}");
    if let Some((other, own)) = mismatch.acceptable() {
        return format!("{differs}; to accept {other} for {own}, add --accept-quote {other}");
    }
    if several {
        return format!(
            "{differs}; only a roster file can name the market of each of several feeds ('rsoracle help roster'), or run each feed by itself"
        );
    }
    let base = market_of(feed).map_or("", |(base, _)| base);
    let right = source.market_in(base, own);
    let default = match name.contains(':') {
        true => String::new(),
        false => format!("{name} alone means its market in {other}; "),
    };
    match flag {
        "source" => format!("{differs}; {default}name the market in {own}: --source {right}"),
        _ => format!("{differs}; name markets in {own} with --source, such as --source {right}"),
    }
}

/// A warning for every exchange and every foreign quote currency that holds more slots than may be faulty.
pub(super) fn warnings(tolerance: &Tolerance) -> Vec<String> {
    let exchanges = (&tolerance.exchanges, "exchange", "is wrong or stands still");
    let quotes = (&tolerance.quotes, "quote currency", "loses its parity");
    let large = |(groups, what, fails): (&Groups, &str, &str)| {
        let large = groups
            .slots
            .iter()
            .filter(|(_, slots)| *slots > tolerance.f);
        let sentence = |(name, slots): &(&str, u16)| {
            format!(
                "{what} {name} holds {slots} of {} slots, and {} may be faulty: if it {fails}, the price can be wrong",
                tolerance.n, tolerance.f
            )
        };
        large.map(sentence).collect::<Vec<_>>()
    };
    [exchanges, quotes].into_iter().flat_map(large).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_group_that_holds_more_slots_than_may_be_faulty_has_a_warning() {
        assert_eq!(
            warnings(&Tolerance::of("BTC/USD", &["binance:BTCUSDC"; 5], 1)),
            [
                "exchange binance holds 5 of 5 slots, and 1 may be faulty: if it is wrong or stands still, the price can be wrong",
                "quote currency USDC holds 5 of 5 slots, and 1 may be faulty: if it loses its parity, the price can be wrong",
            ]
        );
        let own = Tolerance::of("BTC/USD", &["kraken:BTC/USD"; 4], 1);
        assert_eq!(warnings(&own).len(), 1);
        let apart = ["kraken:BTC/USD", "okx:BTC-USDT", "coinbase:BTC-USD"];
        assert_eq!(warnings(&Tolerance::of("BTC/USD", &apart, 1)), [""; 0]);
    }
}
