//! What the collectors watch: the sources of a run, dealt over its slots, and their limits.
//!
//! Invariant: a live source of a feed `BASE/QUOTE` prices that base in that currency or in one that was accepted in so many
//! words; what is priced in another money is never taken for it by oversight. Recorded prices are exempt: they are marked.
//! What this module does not do: reach an exchange, or know how long it may keep silent.

use crate::flags::args::{Given, Usage};
use crate::system::limits::COLLECTORS_MAX;
use rsoracle_proof::source::{DIVERSE, Source, capitals, market_of, quote_of};
use std::collections::BTreeSet;

/// What the built-in choices take for dollars.
const DOLLARS: [&str; 2] = ["USDC", "USDT"];

/// What is watched, before it is dealt over the slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Each once, or as often as it was named.
    pub sources: Vec<Source>,
    /// The currencies that are taken for the feed's own.
    pub accepted: BTreeSet<String>,
}

impl Watched {
    /// Makes sense of `--source`, `--sources` and `--accept-quote`.
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
                    "--accept-quote goes with a feed such as BTC/USD; {feed} names no currency that another could stand for"
                )));
            }
            // What stands for the dollar stands for no other currency.
            Some((_, "USD")) => accepted.extend(in_dollars.iter().map(|quote| (*quote).to_owned())),
            _ => {}
        }
        let mut sources = Vec::new();
        for name in &names {
            let source = Source::parse_for(name, feed);
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

    /// How many collectors there are, unless it is said: a few, or one for each source.
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
                "{count} sources are more than {most} collectors; each needs one of its own, so take more --collectors"
            )));
        }
        Ok(few.max(count as u16))
    }
}

/// The values of a flag that repeats and takes lists.
fn listed<'a>(given: &'a Given, flag: &'a str) -> impl Iterator<Item = &'a str> {
    given.all(flag).flat_map(|text| text.split(','))
}

/// The flag that says what is watched, what it names, and what that takes for dollars by itself.
fn named(given: &Given) -> Result<(&'static str, Vec<String>, &'static [&'static str]), Usage> {
    let typed: Vec<String> = listed(given, "source").map(str::to_owned).collect();
    let prefix = match given.text("sources") {
        Some(_) if !typed.is_empty() => {
            return Err(given.contradiction(
                &["source", "sources"],
                "--source and --sources both say what is watched; give one of them",
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

/// Whether a source prices what the feed names, in the feed's currency or one that is accepted; the error says what would
/// be right.
fn check_quote(source: &Source, feed: &str, accepted: &BTreeSet<String>) -> Result<(), String> {
    let Some((base, quote)) = market_of(feed).filter(|_| !source.embedded) else {
        return Ok(());
    };
    let taken = |quote: &str| source.prices(base, quote);
    let (name, other) = (&source.name, quote_of(&source.name));
    if taken(quote) || accepted.iter().any(|quote| taken(quote)) {
        Ok(())
    } else if taken(other) {
        Err(format!(
            "{name} is priced in {other}, --feed {feed} in {quote}; if a {other} may stand for a {quote} here, say so by --accept-quote {other}"
        ))
    } else {
        Err(format!(
            "{name} does not price {base} in {quote}, as --feed {feed} wants it, nor in a currency that --accept-quote names"
        ))
    }
}
