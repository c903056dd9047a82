//! A record of a journal: a report, or a change of the aggregator's key.
//!
//! Invariant: pure. A record has the form of the proof crate. No signature is checked: whoever gets the record does that.

use rsoracle_proof::report::{KeyChange, Report};
use rsoracle_proof::seal::Keys;

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) feed: String,
    /// A report's number.
    pub(super) number: Option<u64>,
    /// When a report's round started; 0 for a change.
    pub(super) start_us: u64,
    /// The signature of the record before it.
    pub(super) previous: Option<[u8; 64]>,
    pub(super) signature: [u8; 64],
    /// Its bytes, without the newline.
    pub(super) line: Vec<u8>,
}

impl Record {
    /// Reads a line; None if it is no record.
    pub(super) fn read(line: Vec<u8>, keys: &mut Keys) -> Option<Record> {
        let text = std::str::from_utf8(&line).ok()?;
        if let Ok(report) = Report::read(text, keys) {
            return Some(Record {
                feed: report.round.terms.feed,
                number: Some(report.number),
                start_us: report.round.start_us,
                previous: report.previous,
                signature: report.signature,
                line,
            });
        }
        let change = KeyChange::read(text, keys).ok()?;
        Some(Record {
            number: None,
            start_us: 0,
            previous: Some(change.previous),
            signature: change.signature(),
            feed: change.feed,
            line,
        })
    }

    /// What it is, for people.
    pub(super) fn name(&self) -> String {
        match self.number {
            Some(number) => format!("report {number}"),
            None => "a change of the aggregator's key".to_owned(),
        }
    }
}

/// Number and feed at the beginning of a line, which need not be a record. A change of keys has no number.
pub(super) fn head(line: &[u8]) -> Option<(Option<u64>, &str)> {
    let begin = &line[..line.len().min(120)];
    let text = std::str::from_utf8(begin).ok()?;
    let (number, rest) = match text.strip_prefix("{\"rsoracle_report\":2,\"number\":") {
        Some(rest) => {
            let (number, rest) = rest.split_once(',')?;
            (Some(number.parse().ok()?), rest)
        }
        None => (None, text.strip_prefix("{\"rsoracle_key_change\":2,")?),
    };
    let (feed, _) = rest.strip_prefix("\"feed\":\"")?.split_once('"')?;
    Some((number, feed))
}
