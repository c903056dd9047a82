//! Says what is wrong with a source, once: the same again only after ten minutes, with how often it happened.
//!
//! Invariant: whatever sources do, at most one line for each of them and each kind of trouble is written in that time.

use crate::follow::limits::COMPLAINTS_MS;
use crate::system::stream::say;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Kinds of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// It cannot be reached, refuses, or has hung up.
    Lost,
    /// It was lost, and is there again.
    Back,
    /// What it sends does not pass verification, or is no report.
    False,
    /// What it sends is of the future.
    Early,
    /// Its reports do not form one chain.
    Broken,
    /// Its aggregator has another key.
    Key,
    /// Reports of it are missing and cannot be got.
    Missing,
    /// It sends reports that are no news.
    Old,
    /// It is later than the others.
    Late,
    /// A collector or an aggregator contradicts itself.
    Lie,
    /// There is no fresh price.
    Stale,
}

/// What was said lately.
#[derive(Default)]
pub(super) struct Complaints {
    /// By place and kind: when it was said, and how often it happened since.
    said: BTreeMap<(usize, Kind), (Instant, u64)>,
}

impl Complaints {
    /// Says that something happened to a source (or a feed, by another number), if that was not said lately.
    pub(super) fn add(&mut self, place: usize, kind: Kind, text: &str, now: Instant) {
        if let Some(text) = self.news(place, kind, text, now) {
            say("follow", text);
        }
    }

    fn news(&mut self, place: usize, kind: Kind, text: &str, now: Instant) -> Option<String> {
        let window = Duration::from_millis(COMPLAINTS_MS);
        let before = self.said.get_mut(&(place, kind));
        let count = match before {
            Some((at, count)) if now.saturating_duration_since(*at) < window => {
                *count += 1;
                return None;
            }
            Some((_, count)) => *count,
            None => 0,
        };
        self.said.insert((place, kind), (now, 0));
        let again = match count {
            0 => String::new(),
            _ => format!(" (and {count} times since that was said last)"),
        };
        Some(format!("{text}{again}"))
    }

    /// Whether this was said.
    pub(super) fn has_said(&self, place: usize, kind: Kind) -> bool {
        self.said.contains_key(&(place, kind))
    }

    /// Whether a source was said to be lost, and not to be back since.
    pub(super) fn is_lost(&self, place: usize) -> bool {
        let at = |kind| self.said.get(&(place, kind)).map(|(at, _)| *at);
        at(Kind::Lost) > at(Kind::Back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_trouble_is_named_once_in_ten_minutes() {
        let (mut complaints, start) = (Complaints::default(), Instant::now());
        let mut news = |place, kind, s| {
            let now = start + Duration::from_secs(s);
            complaints.news(place, kind, "it", now)
        };
        assert_eq!(news(0, Kind::Lost, 0), Some("it".to_owned()));
        assert_eq!(news(0, Kind::False, 0), Some("it".to_owned()));
        assert_eq!(news(1, Kind::Lost, 0), Some("it".to_owned()));
        for s in 1..600 {
            assert_eq!(news(0, Kind::Lost, s), None);
        }
        let again = "it (and 599 times since that was said last)";
        assert_eq!(news(0, Kind::Lost, 600), Some(again.to_owned()));
        assert_eq!(news(0, Kind::Lost, 601), None);
    }

    #[test]
    fn who_was_lost_is_back_once() {
        let (mut complaints, start) = (Complaints::default(), Instant::now());
        let at = |s| start + Duration::from_secs(s);
        assert!(!complaints.is_lost(0));
        complaints.news(0, Kind::Lost, "it was lost", at(0));
        let mut said = 0;
        // A report a second for two hours.
        for s in 1..7_200 {
            if complaints.is_lost(0) {
                said += usize::from(
                    complaints
                        .news(0, Kind::Back, "it is back", at(s))
                        .is_some(),
                );
            }
        }
        assert_eq!(said, 1);
        complaints.news(0, Kind::Lost, "it was lost", at(7_200));
        assert!(complaints.is_lost(0) && !complaints.is_lost(1));
    }
}
