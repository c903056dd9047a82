//! The terms of a feed: everything that is agreed on before a round starts. Every signature of a collector covers their digest.
//!
//! Invariant: terms that differ in anything have different digests. How many collectors may lie (f) and the quorum are not terms,
//! since they follow from the number of slots.

use crate::aggregate::{self, Rule, faulty_max};
use crate::bytes::{Put, padded};
use crate::limits::{COLLECTORS_MAX, FEED_BYTES_MAX, FEEDS_MAX, SOURCE_BYTES_MAX};
use crate::reason::Reject;
use crate::record::Record;
use crate::schedule::Schedule;
use crate::seal::{CONTEXT_ROSTER, CONTEXT_TERMS, Fields, PublicKey};
use crate::source::{check_feed, check_source, exchange_of, kind_of};
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

/// One slot: a collector's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The collector's key; `None` in a roster that `run` made for itself, if the slot's collector showed none.
    pub key: Option<PublicKey>,
    /// What the collector watches, such as `binance:BTCUSDC`.
    pub source: String,
}

/// The terms of a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The name of the feed: what is priced.
    pub feed: String,
    /// How the collectors' prices are combined.
    pub rule: Rule,
    /// How a collector's samples are combined: by mean or median.
    pub sample_rule: Rule,
    /// The fewest distinct exchanges among the prices.
    pub exchanges_min: u16,
    /// The greatest age of a sample, in microseconds, where the exchange gives a time; `None` if only each exchange's own limit
    /// counts.
    pub age_us_max: Option<u64>,
    /// The greatest difference between the prices used, in millionths of the price; `None` for no limit. If it is exceeded, the
    /// price is withheld.
    pub spread_ppm_max: Option<u32>,
    /// When rounds start and samples are taken.
    pub schedule: Schedule,
    /// The n slots that price the feed.
    pub seats: Vec<Seat>,
}

/// A collector's place in a roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterSlot {
    /// The collector's key; `None` as in [`Seat`].
    pub key: Option<PublicKey>,
    /// What the collector watches for each feed, in the order of the feeds; empty where it does not price the feed.
    pub sources: Vec<String>,
}

/// A roster: the terms of all feeds, and the roster that it replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    /// The roster's number, from 1.
    pub number: u64,
    /// The digest of the roster before it.
    pub previous: Option<[u8; 32]>,
    /// The terms of its feeds, at least one, whose seats follow from the slots.
    pub feeds: Vec<Terms>,
    /// The collectors' places.
    pub slots: Vec<RosterSlot>,
}

impl Roster {
    /// A roster of these slots. The seats of `feeds` are replaced by those that follow from the slots.
    pub fn new(
        number: u64,
        previous: Option<[u8; 32]>,
        mut feeds: Vec<Terms>,
        slots: Vec<RosterSlot>,
    ) -> Roster {
        for (at, terms) in feeds.iter_mut().enumerate() {
            let seat = |slot: &RosterSlot| {
                let source = slot.sources.get(at).filter(|source| !source.is_empty())?;
                Some(Seat {
                    key: slot.key,
                    source: source.clone(),
                })
            };
            terms.seats = slots.iter().filter_map(seat).collect();
        }
        Roster {
            number,
            previous,
            feeds,
            slots,
        }
    }

    /// The roster of one feed.
    pub fn single(number: u64, previous: Option<[u8; 32]>, terms: Terms) -> Roster {
        let slot = |seat: &Seat| RosterSlot {
            key: seat.key,
            sources: vec![seat.source.clone()],
        };
        let slots = terms.seats.iter().map(slot).collect();
        Roster::new(number, previous, vec![terms], slots)
    }

    /// The digest by which people compare rosters: it covers everything.
    pub fn digest(&self) -> [u8; 32] {
        let head = Fields::new(CONTEXT_ROSTER)
            .field(&self.number.to_be_bytes())
            .field(&self.previous.unwrap_or([0; 32]))
            .field(&(self.feeds.len() as u16).to_be_bytes());
        let feed = |fields: Fields, terms: &Terms| fields.field(&terms.digest());
        self.feeds.iter().fold(head, feed).digest()
    }

    /// The schedule of all its feeds.
    pub fn schedule(&self) -> &Schedule {
        &self.feeds[0].schedule
    }

    /// The terms of the feed of this name.
    pub fn feed(&self, name: &str) -> Option<&Terms> {
        self.feeds.iter().find(|terms| terms.feed == name)
    }

    /// The place of a key.
    pub fn slot_of(&self, key: &PublicKey) -> Option<u16> {
        let of = |slot: &RosterSlot| slot.key.as_ref() == Some(key);
        self.slots.iter().position(of).map(|slot| slot as u16)
    }

    /// A slot's number in the terms of a feed; `None` if it does not price that feed, or if there is no such slot.
    pub fn seat_of(&self, feed: usize, slot: usize) -> Option<u16> {
        let prices = |slot: &&RosterSlot| slot.sources.get(feed).is_some_and(|it| !it.is_empty());
        let (own, before) = self.slots.get(..=slot)?.split_last()?;
        prices(&own).then(|| before.iter().filter(prices).count() as u16)
    }

    /// Checks that the roster makes sense. The error says what does not, and which feed or slot it is about.
    pub fn check(&self) -> Result<(), (Place, String)> {
        let wrong = |place, why: String| Err((place, why));
        let (feeds, slots) = (self.feeds.len(), self.slots.len());
        if feeds * slots > usize::from(COLLECTORS_MAX) {
            let why =
                format!("{slots} slots of {feeds} feeds are more than {COLLECTORS_MAX} in all");
            return wrong(Place::Feed(feeds - 1), why);
        }
        let mut names = BTreeSet::new();
        for (at, terms) in self.feeds.iter().enumerate() {
            let place = Place::Feed(at);
            if at >= FEEDS_MAX {
                return wrong(place, format!("more than {FEEDS_MAX} feeds"));
            }
            terms.check().or_else(|why| wrong(place, why))?;
            if !names.insert(&terms.feed) {
                return wrong(place, "a second feed of this name".into());
            }
            if terms.schedule != *self.schedule() {
                let why = "its schedule (samples, interval, period, first_start, end) is not that of the first feed; feeds of another schedule need a roster of their own";
                return wrong(place, why.into());
            }
        }
        let mut keys = BTreeSet::new();
        for (at, slot) in self.slots.iter().enumerate() {
            let place = Place::Slot(at);
            let sources = slot.sources.iter().filter(|it| !it.is_empty());
            let kinds: BTreeSet<&str> = sources.map(|it| kind_of(it)).collect();
            let several =
                "its sources are of several kinds; it watches one exchange, over one connection";
            let why = match kinds.len() {
                _ if slot.sources.len() != feeds => "it has not one source or \"\" for each feed",
                0 => "it has no source",
                1 if slot.key.is_none_or(|key| keys.insert(*key.bytes())) => continue,
                1 => "two slots have the same key",
                _ => several,
            };
            return wrong(place, why.into());
        }
        Ok(())
    }
}

/// What a flaw of a roster is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The feed of this index.
    Feed(usize),
    /// The slot of this index.
    Slot(usize),
}

/// The first bytes of a terms digest, which name the terms in frames.
pub fn tag(digest: &[u8; 32]) -> [u8; 8] {
    *digest.first_chunk().expect("8 of 32 bytes")
}

/// Bytes of encoded terms before the seats.
pub const HEAD_BYTES: usize = FEED_BYTES_MAX + 2 + 2 + 2 + 8 + 4 + 4 + 8 + 8 + 8 + 8 + 2;
/// Bytes of each encoded seat.
pub const SEAT_BYTES: usize = 32 + SOURCE_BYTES_MAX;

impl Terms {
    /// n: the number of slots, whoever answers.
    pub fn n(&self) -> u16 {
        self.seats.len() as u16
    }

    /// f: how many collectors may lie.
    pub fn f(&self) -> u16 {
        faulty_max(self.rule, self.n())
    }

    /// The fewest prices from which a price may be published.
    pub fn quorum(&self) -> u16 {
        aggregate::quorum(self.n(), self.f())
    }

    /// The first 32 bytes of SHA-512 over a context and [`Terms::encode`].
    pub fn digest(&self) -> [u8; 32] {
        Fields::new(CONTEXT_TERMS).field(&self.encode()).digest()
    }

    /// All terms at fixed widths, as in the table of docs/PROTOCOL.md. A missing key is 32 zero bytes, a missing limit or end all
    /// ones.
    pub fn encode(&self) -> Vec<u8> {
        let schedule = &self.schedule;
        let head: [u8; HEAD_BYTES] = Put::new()
            .put(&padded::<FEED_BYTES_MAX>(&self.feed))
            .put(&self.rule.code().to_be_bytes())
            .put(&self.sample_rule.code().to_be_bytes())
            .put(&self.exchanges_min.to_be_bytes())
            .put(&self.age_us_max.unwrap_or(u64::MAX).to_be_bytes())
            .put(&self.spread_ppm_max.unwrap_or(u32::MAX).to_be_bytes())
            .put(&schedule.samples.to_be_bytes())
            .put(&schedule.interval_us.to_be_bytes())
            .put(&schedule.period_us.to_be_bytes())
            .put(&schedule.first_start_us.to_be_bytes())
            .put(&schedule.end_us.unwrap_or(u64::MAX).to_be_bytes())
            .put(&self.n().to_be_bytes())
            .done();
        let mut bytes = head.to_vec();
        for seat in &self.seats {
            bytes.extend(seat.key.as_ref().map_or([0; 32], |key| *key.bytes()));
            bytes.extend(padded::<SOURCE_BYTES_MAX>(&seat.source));
        }
        bytes
    }

    /// The slot of a key.
    pub fn slot_of(&self, key: &PublicKey) -> Option<u16> {
        let of = |seat: &Seat| seat.key.as_ref() == Some(key);
        self.seats.iter().position(of).map(|slot| slot as u16)
    }

    /// Checks that the next sample of a collector, number `index`, may count in a round.
    pub fn check_record(&self, index: u32, record: &Record) -> Result<(), Reject> {
        if !record.is_sound() {
            return Err(Reject::SampleBroken);
        }
        if record.index != index || index >= self.schedule.samples {
            return Err(Reject::SampleOrder);
        }
        let late = |us| us > self.schedule.lateness_us_max();
        if record.price.is_ok() && record.lateness_us.is_some_and(late) {
            return Err(Reject::SampleLate);
        }
        let old = |(us, most)| us > most;
        if record.age_us.zip(self.age_us_max).is_some_and(old) {
            return Err(Reject::SampleOld);
        }
        Ok(())
    }

    /// Checks that the terms make sense by themselves. The error says what does not.
    pub fn check(&self) -> Result<(), String> {
        self.schedule.check()?;
        if self.sample_rule == Rule::TrimmedMean {
            return Err("the rule of samples is neither mean nor median".into());
        }
        let named = |seat: &Seat| check_source(&seat.source).is_ok();
        if check_feed(&self.feed).is_err() || !self.seats.iter().all(named) {
            return Err("the name of the feed or of a source is not valid".into());
        }
        if self.seats.len() > usize::from(COLLECTORS_MAX) {
            return Err(format!("more than {COLLECTORS_MAX} slots"));
        }
        let keys = self.seats.iter().filter_map(|seat| seat.key.as_ref());
        let mut seen = BTreeSet::new();
        if !keys.into_iter().all(|key| seen.insert(key.bytes())) {
            return Err("two slots have the same key".into());
        }
        let exchanges = self.seats.iter().map(|seat| exchange_of(&seat.source));
        let exchanges = exchanges.collect::<BTreeSet<_>>().len();
        if !(1..=exchanges).contains(&usize::from(self.exchanges_min)) {
            let least = self.exchanges_min;
            return Err(format!(
                "the least number of exchanges is {least}, but the sources are of {exchanges}"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::tests::SecretKey;
    use std::prelude::v1::*;

    fn terms() -> Terms {
        let key = |seed| SecretKey::from_seed(&[seed; 32]).public();
        Terms {
            feed: "BTC/USD".into(),
            rule: Rule::TrimmedMean,
            sample_rule: Rule::Mean,
            exchanges_min: 1,
            age_us_max: None,
            spread_ppm_max: None,
            schedule: Schedule {
                first_start_us: 0,
                period_us: 10_000_000,
                end_us: None,
                samples: 10,
                interval_us: 1_000_000,
            },
            seats: (3..7)
                .map(|seed| Seat {
                    key: Some(key(seed)),
                    source: "binance:BTCUSDC".into(),
                })
                .collect(),
        }
    }

    #[test]
    fn any_difference_in_the_terms_changes_the_digest() {
        type Change = fn(&mut Terms);
        let changes: [Change; 15] = [
            |t| t.feed.push('T'),
            |t| t.rule = Rule::Median,
            |t| t.sample_rule = Rule::Median,
            |t| t.exchanges_min = 2,
            |t| t.age_us_max = Some(60_000_000),
            |t| t.spread_ppm_max = Some(20_000),
            |t| t.schedule.samples = 11,
            |t| t.schedule.interval_us += 1,
            |t| t.schedule.period_us += 1,
            |t| t.schedule.first_start_us += 1,
            |t| t.schedule.end_us = Some(1),
            |t| t.seats[3].key = None,
            |t| t.seats[3].source.push('T'),
            |t| t.seats.swap(0, 1),
            |t| t.seats.truncate(3),
        ];
        let mut digests = vec![terms().digest()];
        for change in changes {
            let mut changed = terms();
            change(&mut changed);
            let digest = changed.digest();
            assert!(!digests.contains(&digest), "change {}", digests.len());
            digests.push(digest);
        }
        assert_eq!(digests[0], terms().digest());
    }

    #[test]
    fn terms_that_contradict_themselves_are_refused() {
        assert_eq!(terms().check(), Ok(()));
        let mut twice = terms();
        twice.seats[3].key = twice.seats[0].key;
        assert!(twice.check().unwrap_err().contains("the same key"));
        for least in [0, 2] {
            let few = Terms {
                exchanges_min: least,
                ..terms()
            };
            assert!(few.check().unwrap_err().contains("of 1"), "{least}");
        }
    }

    #[test]
    fn a_record_counts_if_it_is_whole_in_order_in_time_and_young_enough() {
        let terms = Terms {
            age_us_max: Some(1_000),
            ..terms()
        };
        let good = Record {
            index: 3,
            price: Ok(1.0),
            lateness_us: Some(9),
            age_us: Some(1_000),
        };
        let late_us = terms.schedule.lateness_us_max();
        let late = Record {
            lateness_us: Some(late_us + 1),
            ..good
        };
        let missed = Record {
            price: Err(crate::reason::Miss::Overdue),
            age_us: None,
            ..late
        };
        for (record, result) in [
            (good, Ok(())),
            (
                Record {
                    lateness_us: Some(late_us),
                    ..good
                },
                Ok(()),
            ),
            (late, Err(Reject::SampleLate)),
            (missed, Ok(())),
            (
                Record {
                    age_us: Some(1_001),
                    ..good
                },
                Err(Reject::SampleOld),
            ),
            (
                Record {
                    age_us: None,
                    ..good
                },
                Ok(()),
            ),
            (Record { index: 4, ..good }, Err(Reject::SampleOrder)),
            (
                Record {
                    price: Ok(-1.0),
                    ..good
                },
                Err(Reject::SampleBroken),
            ),
        ] {
            assert_eq!(terms.check_record(3, &record), result, "{record:?}");
        }
        assert_eq!(
            terms.check_record(10, &Record { index: 10, ..good }),
            Err(Reject::SampleOrder)
        );
    }

    /// Two feeds, of which slots 1 and 2 of five price one only.
    fn roster() -> Roster {
        let eth = Terms {
            feed: "ETH/USD".into(),
            ..terms()
        };
        let sources = [
            ["a:1", "a:2"],
            ["", "b:2"],
            ["c:1", ""],
            ["a:1", "a:2"],
            ["d:1", "d:2"],
        ];
        let slot = |(seed, sources): (u8, [&str; 2])| RosterSlot {
            key: Some(SecretKey::from_seed(&[seed; 32]).public()),
            sources: sources.map(String::from).to_vec(),
        };
        let slots = (3..).zip(sources).map(slot).collect();
        Roster::new(1, None, vec![terms(), eth], slots)
    }

    #[test]
    fn the_seats_of_a_feed_are_those_of_the_slots_that_price_it() {
        let roster = roster();
        assert_eq!(roster.check(), Ok(()));
        let seats = |feed: usize| {
            (0..6)
                .map(|slot| roster.seat_of(feed, slot))
                .collect::<Vec<_>>()
        };
        assert_eq!(seats(0), [Some(0), None, Some(1), Some(2), Some(3), None]);
        assert_eq!(seats(1), [Some(0), Some(1), None, Some(2), Some(3), None]);
        assert_eq!(
            (seats(2), roster.seat_of(0, usize::MAX)),
            (vec![None; 6], None)
        );
        for (feed, terms) in roster.feeds.iter().enumerate() {
            assert_eq!(roster.feed(&terms.feed), Some(terms));
            let priced = (0..5).filter(|slot| roster.seat_of(feed, *slot).is_some());
            for (seat, slot) in terms.seats.iter().zip(priced) {
                assert_eq!(seat.key, roster.slots[slot].key);
                assert_eq!(seat.source, roster.slots[slot].sources[feed]);
                let key = seat.key.expect("a key");
                assert_eq!(terms.slot_of(&key), roster.seat_of(feed, slot));
                assert_eq!(roster.slot_of(&key), Some(slot as u16));
            }
            assert_eq!(terms.n(), 4);
        }
        assert_eq!(roster.feed("SOL/USD"), None);
    }

    #[test]
    fn the_digest_covers_all_feeds_and_their_order() {
        let changed = |change: fn(&mut Roster)| {
            let mut roster = roster();
            change(&mut roster);
            Roster::new(roster.number, roster.previous, roster.feeds, roster.slots).digest()
        };
        let same = changed(|_| ());
        let digests = [
            same,
            changed(|it| {
                it.feeds.swap(0, 1);
                it.slots.iter_mut().for_each(|slot| slot.sources.swap(0, 1));
            }),
            changed(|it| drop(it.feeds.pop())),
            changed(|it| it.feeds[1].rule = Rule::Median),
            changed(|it| it.feeds[1].feed.push('C')),
            changed(|it| it.slots[1].sources[1] = "b:3".into()),
            changed(|it| it.slots[1].sources[0] = "b:1".into()),
            changed(|it| it.slots.swap(0, 4)),
        ];
        let distinct: BTreeSet<_> = digests.iter().collect();
        assert_eq!((distinct.len(), roster().digest()), (digests.len(), same));
        // Another feed changes nothing of a feed's own terms.
        let alone = Roster::single(1, None, roster().feeds.remove(0));
        assert_eq!(alone.feeds[0].digest(), roster().feeds[0].digest());
        assert_ne!(alone.digest(), same);
    }

    #[test]
    fn rosters_that_contradict_themselves_are_refused_with_their_place() {
        type Change = fn(&mut Roster);
        let changes: [(Change, Place, &str); 12] = [
            (
                |it| it.feeds[1].feed = "BTC/USD".into(),
                Place::Feed(1),
                "a second feed of this name",
            ),
            (
                |it| it.feeds[1].schedule.samples = 9,
                Place::Feed(1),
                "its schedule",
            ),
            (
                |it| it.feeds[1].schedule.end_us = Some(1),
                Place::Feed(1),
                "its schedule",
            ),
            (|it| it.feeds[1].exchanges_min = 4, Place::Feed(1), "of 3"),
            (
                |it| it.slots[4].sources[1] = "a:2".into(),
                Place::Slot(4),
                "of several kinds",
            ),
            (
                |it| it.slots[4].sources[1] = "d-book:2".into(),
                Place::Slot(4),
                "of several kinds",
            ),
            (
                |it| it.slots[1].sources[1].clear(),
                Place::Slot(1),
                "it has no source",
            ),
            (
                |it| drop(it.slots[1].sources.pop()),
                Place::Slot(1),
                "for each feed",
            ),
            (
                |it| it.slots[1].sources.push("b:3".into()),
                Place::Slot(1),
                "for each feed",
            ),
            (
                |it| it.slots[4].key = it.slots[0].key,
                Place::Feed(0),
                "the same key",
            ),
            // Both slots price no feed together.
            (
                |it| it.slots[2].key = it.slots[1].key,
                Place::Slot(2),
                "the same key",
            ),
            (
                |it| it.slots[0].sources[0] = "no-kind".into(),
                Place::Feed(0),
                "the name of",
            ),
        ];
        for (change, place, why) in changes {
            let mut it = roster();
            change(&mut it);
            let it = Roster::new(it.number, it.previous, it.feeds, it.slots);
            let (at, says) = it.check().expect_err(why);
            assert!(at == place && says.contains(why), "{why}: {at:?} {says}");
        }
        // Slots without a key are of an own roster, and have no key in common.
        let mut own = roster();
        own.slots.iter_mut().for_each(|slot| slot.key = None);
        assert_eq!(Roster::new(1, None, own.feeds, own.slots).check(), Ok(()));
    }

    #[test]
    fn the_numbers_of_feeds_and_slots_are_bounded_together() {
        let of = |feeds: usize, slots: usize| {
            let terms = |feed| Terms {
                feed: format!("F/{feed}"),
                ..terms()
            };
            let slot = RosterSlot {
                key: None,
                sources: vec!["a:1".into(); feeds],
            };
            Roster::new(1, None, (0..feeds).map(terms).collect(), vec![slot; slots]).check()
        };
        for (feeds, slots) in [(64, 64), (1, 4_096), (2, 2_048)] {
            assert_eq!(of(feeds, slots), Ok(()), "{feeds} {slots}");
        }
        for (feeds, slots, says) in [
            (65, 2, "more than 64 feeds"),
            (64, 65, "65 slots of 64 feeds are more than 4096 in all"),
            (2, 2_049, "2049 slots of 2 feeds are more than 4096 in all"),
        ] {
            let (place, why) = of(feeds, slots).expect_err(says);
            assert_eq!((place, why.as_str()), (Place::Feed(feeds - 1), says));
        }
    }
}
