//! The samples that came over one control connection, round by round.
//!
//! Invariant: a connection has samples of at most [`STARTS_MAX`] starts, the newest, and of each feed as many as its terms have.

use super::agreed::Held;
use crate::aggregator::limits::AHEAD_US_MAX;
use rsoracle_proof::reason::Reject;
use rsoracle_proof::record::Record;

/// Most starts of whose rounds samples are kept for a connection.
const STARTS_MAX: usize = 2;

/// The samples of the rounds of one start.
#[derive(Default)]
pub struct Track {
    /// The start.
    pub start_us: u64,
    /// The samples of each feed so far, in order.
    pub records: Vec<Vec<Record>>,
}

impl Track {
    /// The samples of a feed.
    pub fn of(&self, feed: usize) -> &[Record] {
        self.records.get(feed).map_or(&[], Vec::as_slice)
    }

    /// Takes over, feed by feed, the samples of another track of the same start that has more of them.
    pub fn join(&mut self, other: Track) {
        let feeds = self.records.len().max(other.records.len());
        self.records.resize_with(feeds, Vec::new);
        for (own, more) in self.records.iter_mut().zip(other.records) {
            if more.len() > own.len() {
                *own = more;
            }
        }
    }
}

/// The samples of the newest rounds.
#[derive(Default)]
pub struct Tracks(Vec<Track>);

impl Tracks {
    /// Takes a sample of the round that starts at `start_us`, of a feed of the terms that hold for it.
    pub fn take(
        &mut self,
        (held, feed): (&Held, usize),
        start_us: u64,
        record: &Record,
        now_us: u64,
    ) -> Result<(), Reject> {
        let terms = &held.roster.feeds[feed];
        // Without a price, a sample may come at any time of its round: a collector whose clock was stepped gives up the rest at once.
        let since_us = match record.price {
            Ok(_) => u64::from(record.index).saturating_mul(terms.schedule.interval_us),
            Err(_) => 0,
        };
        if start_us.saturating_add(since_us) > now_us + AHEAD_US_MAX {
            return Err(Reject::TooEarly);
        }
        let known = self.0.iter().position(|track| track.start_us == start_us);
        let taken = known.map_or(0, |at| self.0[at].of(feed).len());
        terms.check_record(taken as u32, record)?;
        let at = known.map_or_else(|| self.begin(start_us, held.roster.feeds.len()), Ok)?;
        self.0[at].records[feed].push(*record);
        Ok(())
    }

    /// Makes room for another start; returns its place.
    fn begin(&mut self, start_us: u64, feeds: usize) -> Result<usize, Reject> {
        if self.0.len() == STARTS_MAX {
            let oldest_us = self.0.iter().map(|track| track.start_us).min();
            if oldest_us > Some(start_us) {
                return Err(Reject::RoundOver);
            }
            self.0.retain(|track| Some(track.start_us) != oldest_us);
        }
        self.0.push(Track {
            start_us,
            records: vec![Vec::new(); feeds],
        });
        Ok(self.0.len() - 1)
    }

    /// The samples of a feed in the round that starts at `start_us`.
    pub fn at(&self, start_us: u64, feed: usize) -> &[Record] {
        let track = self.0.iter().find(|track| track.start_us == start_us);
        track.map_or(&[], |track| track.of(feed))
    }

    /// Takes out the samples of all feeds of that start.
    pub fn remove(&mut self, start_us: u64) -> Option<Track> {
        let at = self.0.iter().position(|track| track.start_us == start_us)?;
        Some(self.0.swap_remove(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregator::agreed::tests::{roster, terms};
    use rsoracle_proof::reason::Miss;

    #[test]
    fn samples_are_kept_of_the_two_newest_rounds() {
        let terms = terms(&["kraken:BTC/USD"], 10_000_000, 3);
        let held = Held {
            from_us: 0,
            digests: vec![terms.digest()],
            roster: roster(&terms),
        };
        let record = |index| Record {
            index,
            price: Ok(100.0),
            lateness_us: Some(3),
            age_us: None,
        };
        let mut tracks = Tracks::default();
        let mut take = |start_s: u64, index, now_s: u64| {
            let (start_us, now_us) = (start_s * 1_000_000, now_s * 1_000_000);
            tracks.take((&held, 0), start_us, &record(index), now_us)
        };
        assert_eq!(take(10, 1, 10), Err(Reject::SampleOrder));
        assert_eq!(take(10, 0, 10), Ok(()));
        assert_eq!(take(10, 0, 10), Err(Reject::SampleOrder));
        assert_eq!(take(10, 2, 10), Err(Reject::TooEarly), "two seconds ahead");
        assert_eq!(take(10, 1, 10), Ok(()), "a second ahead");
        assert_eq!(take(20, 0, 20), Ok(()));
        assert_eq!(take(10, 2, 20), Ok(()));
        assert_eq!(take(10, 3, 20), Err(Reject::SampleOrder));
        assert_eq!(take(30, 0, 30), Ok(()));
        assert_eq!(take(10, 0, 30), Err(Reject::RoundOver));
        let counts = [10, 20, 30].map(|start_s| tracks.at(start_s * 1_000_000, 0).len());
        assert_eq!(counts, [0, 1, 1]);
        // What a collector gives up comes at once, but not before its round.
        let mut give_up = |start_s: u64, index| {
            let given_up = Record {
                price: Err(Miss::ClockMoved),
                lateness_us: None,
                ..record(index)
            };
            tracks.take((&held, 0), start_s * 1_000_000, &given_up, 30_000_000)
        };
        assert_eq!([1, 2].map(|index| give_up(30, index)), [Ok(()); 2]);
        assert_eq!(give_up(40, 0), Err(Reject::TooEarly));
    }
}
