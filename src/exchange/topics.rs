//! The symbols that a session watches, and how a message is found to be about one of them.
//!
//! A session asks for all of its symbols over one connection. Everywhere else a symbol is an index: its place in the session's
//! list. Invariant: pure functions, total on any text; an index that one of them returns is in the list.

use super::{time_of, written};
use crate::exchange::json::Json;
use rsoracle_proof::reason::Miss;

/// What a message must be about to count: one of these symbols, which is then called by its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topics<'a> {
    /// The symbols in the exchange's spelling.
    pub symbols: &'a [&'a str],
    /// For each symbol the number that the exchange gave to its subscription, if its prices have that instead of the symbol.
    pub channels: &'a [Option<u64>],
}

impl Topics<'_> {
    /// Looks up a symbol, and stores its index in `about`.
    #[inline]
    pub(super) fn spelled(&self, symbol: &str, about: &mut Option<usize>) -> Result<usize, Miss> {
        *about = self.symbols.iter().position(|own| *own == symbol);
        about.ok_or(Miss::WrongSymbol)
    }

    /// Looks up the symbol in a JSON string, and stores its index in `about`.
    #[inline]
    pub(super) fn find(
        &self,
        value: Option<Json>,
        about: &mut Option<usize>,
    ) -> Result<usize, Miss> {
        let symbol = value.and_then(Json::text).ok_or(Miss::Shape)?;
        self.spelled(&symbol, about)
    }

    /// The symbol that a message names; `None` if it names none, or another one.
    pub(super) fn named(&self, value: Option<Json>) -> Option<usize> {
        self.find(value, &mut None).ok()
    }

    /// The symbol of the subscription with this id, which is the symbol's index plus one.
    pub(super) fn numbered(&self, id: Option<Json>) -> Option<usize> {
        let number: usize = written(id).ok()?.parse().ok()?;
        let index = number.checked_sub(1)?;
        (index < self.symbols.len()).then_some(index)
    }

    /// The symbol of the request with this id, which ends in a hyphen and the symbol's index.
    pub(super) fn asked(&self, id: &str) -> Option<usize> {
        let (_, index) = id.rsplit_once('-')?;
        let index = index.parse().ok()?;
        (index < self.symbols.len()).then_some(index)
    }
}

/// The parts of a list, one for each symbol.
pub(super) fn listed(symbols: &[&str], part: fn(&str) -> String) -> String {
    let parts: Vec<String> = symbols.iter().map(|symbol| part(symbol)).collect();
    parts.join(",")
}

/// Checks that a message is about `symbol`.
#[inline]
pub(super) fn of_symbol(value: Option<Json>, symbol: &str) -> Result<(), Miss> {
    match value {
        Some(own) if own.says(symbol) => Ok(()),
        Some(own) if own.text().is_some() => Err(Miss::WrongSymbol),
        _ => Err(Miss::Shape),
    }
}

/// The newest entry of a message that is about one symbol: the one in `about` or, if there is none, the first that is known.
/// Of equally old entries, the last. Returns the symbol, and the entry's members with these names: the first name must be the
/// symbol's, the second the time's.
pub(super) fn newest_of<'a, const N: usize>(
    list: Option<Json<'a>>,
    topics: &Topics,
    about: &mut Option<usize>,
    names: [&str; N],
) -> Result<(usize, [Option<Json<'a>>; N]), Miss> {
    let time = |entry: &[Option<Json>; N]| time_of(entry[1]).ok();
    let (mut newest, mut miss) = (None, Miss::Shape);
    for entry in list.and_then(Json::items).ok_or(Miss::Shape)? {
        let entry = entry.pick(names);
        let own = match *about {
            Some(known) => of_symbol(entry[0], topics.symbols[known]).map(|()| known),
            None => topics.find(entry[0], about),
        };
        match (own, &newest) {
            (Err(other), _) => miss = other,
            (Ok(_), Some((_, known))) if time(known) > time(&entry) => {}
            (Ok(symbol), _) => newest = Some((symbol, entry)),
        }
    }
    newest.ok_or(miss)
}
