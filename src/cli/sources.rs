//! The sources of a run (`--source`, `--sources`, `--accept-quote`).
//!
//! Invariant: a live source of a feed `BASE/QUOTE` prices that base in that currency, or in one that was explicitly accepted. A
//! price in another currency is never used by mistake. Recorded prices are marked, so there a dollar and its stablecoins count as
//! one currency; but they too must be of the feed's base.

use crate::flags::args::{Given, Usage};
use crate::flags::values::{DIVERSE, source_for};
use crate::source::market::{self, DOLLARS, Mismatch};
use crate::source::{Source, capitals, market_of};
use crate::system::limits::COLLECTORS_MAX;
use std::collections::BTreeSet;

/// The sources of a run, before they are assigned to slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The sources in their order, with repetitions.
    pub sources: Vec<Source>,
    /// Currencies that are accepted for the feed's own.
    pub accepted: BTreeSet<String>,
}

impl Watched {
    /// Reads `--source`, `--sources` and `--accept-quote`.
    pub fn read(given: &Given, feed: &str) -> Result<Watched, Usage> {
        let (flag, names, in_dollars) = named(given)?;
        let mut accepted = BTreeSet::new();
        for quote in listed(given, "accept-quote") {
            if !capitals(quote) {
                let right = "currencies in capital letters, such as USDC or USDC,USDT";
                return Err(given.wrong("accept-quote", quote, right));
            }
            accepted.insert(quote.to_owned());
        }
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
        let mut sources = Vec::new();
        for name in &names {
            let source = source_for(name, feed);
            let source = source.map_err(|right| given.wrong(flag, name, &right))?;
            check_quote(&source, feed, &accepted).map_err(|sentence| {
                given.contradiction(
                    &[flag, "feed", "accept-quote"],
                    format!("--{flag}: {sentence}"),
                )
            })?;
            sources.push(source);
        }
        Ok(Watched { sources, accepted })
    }

    /// The number of collectors: `--collectors`, or else its default or the number of sources, whichever is greater.
    pub fn collectors(&self, given: &Given) -> Result<u16, Usage> {
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
        Ok(few.max(count as u16))
    }
}

/// The values of a flag that may be repeated and takes lists separated by commas.
fn listed<'a>(given: &'a Given, flag: &'a str) -> impl Iterator<Item = &'a str> {
    given.all(flag).flat_map(|text| text.split(','))
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

/// Checks that a source is the market of a feed. The error says what to change.
fn check_quote(source: &Source, feed: &str, accepted: &BTreeSet<String>) -> Result<(), String> {
    let name = &source.name;
    market::check(source, feed, accepted).map_err(|mismatch| match mismatch {
        Mismatch::Quote { other, own } => format!(
            "{name} is priced in {other}, --feed {feed} in {own}; to accept {other} for {own}, add --accept-quote {other}"
        ),
        Mismatch::Market { base, own } => format!(
            "{name} does not price {base} in {own}, as --feed {feed} requires, nor in a currency that --accept-quote names"
        ),
    })
}
