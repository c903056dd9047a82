//! The terms of the rounds that are gathered: those of the running round, and any that hold from a later start on.
//!
//! Invariant: at most one terms digest holds for a start, and every collector that this aggregator starts was told which.

use rsoracle_proof::reason::Reject;
use rsoracle_proof::terms::{Roster, Terms, tag};

/// Most terms that are kept.
const HELD_MAX: usize = 64;

/// The terms of all feeds, and the first start that they hold for.
pub struct Held {
    /// They hold for this start and later ones.
    pub from_us: u64,
    /// The terms, feed by feed.
    pub roster: Roster,
    /// Their digests, feed by feed.
    pub digests: Vec<[u8; 32]>,
}

impl Held {
    /// The feed whose terms digest begins so.
    fn tagged(&self, named: &[u8; 8]) -> Option<usize> {
        self.digests.iter().position(|digest| tag(digest) == *named)
    }
}

/// All terms that hold now or later, in the order of the starts from which they hold. If several have one start, the last of them
/// hold. The others stay known, since collectors that were told them may still name them.
#[derive(Default)]
pub struct Agreed(Vec<Held>);

impl Agreed {
    /// Adds terms that hold from a start on, whatever was agreed on for it before.
    pub fn add(&mut self, roster: Roster, from_us: u64) {
        self.0.retain(|held| held.from_us <= from_us);
        if self.0.len() >= HELD_MAX {
            // The first may be those of the running round.
            self.0.remove(1);
        }
        self.0.push(Held {
            from_us,
            digests: roster.feeds.iter().map(Terms::digest).collect(),
            roster,
        });
    }

    /// The terms that hold for a start.
    pub fn at(&self, start_us: u64) -> Option<&Held> {
        self.0.iter().rfind(|held| held.from_us <= start_us)
    }

    /// Forgets terms that hold for no start from this one on.
    pub(super) fn forget_before(&mut self, start_us: u64) {
        let past = self.0.iter().filter(|held| held.from_us <= start_us);
        let past = past.count().saturating_sub(1);
        self.0.drain(..past);
    }

    /// The terms that were added last.
    pub(super) fn newest(&self) -> Option<&Held> {
        self.0.last()
    }

    /// The earliest start that any of them hold for.
    pub(super) fn begins_us(&self) -> Option<u64> {
        self.0.first().map(|held| held.from_us)
    }

    /// The feed of the terms that have this digest.
    pub(super) fn feed_of(&self, digest: &[u8; 32]) -> Option<usize> {
        let of = |held: &Held| held.digests.iter().position(|known| known == digest);
        self.0.iter().find_map(of)
    }

    /// The terms that a frame names by their tag, and their feed, if they hold for the frame's start, which must not be before
    /// `floor_us`.
    pub(super) fn named(
        &self,
        named: &[u8; 8],
        start_us: u64,
        floor_us: u64,
    ) -> Result<(&Held, usize), Reject> {
        let feed = self.0.iter().find_map(|held| held.tagged(named));
        let feed = feed.ok_or(Reject::TermsDiffer)?;
        if start_us < floor_us {
            return Err(Reject::RoundOver);
        }
        let held = self.at(start_us).filter(|held| {
            held.tagged(named) == Some(feed) && held.roster.schedule().is_start(start_us)
        });
        held.map(|held| (held, feed)).ok_or(Reject::StartUnknown)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use rsoracle_proof::aggregate::Rule;
    use rsoracle_proof::schedule::Schedule;
    use rsoracle_proof::seal::PublicKey;
    use rsoracle_proof::terms::{RosterSlot, Seat};

    /// Terms of slots without keys, for tests.
    pub fn terms(sources: &[&str], period_us: u64, samples: u32) -> Terms {
        let seat = |source: &&str| Seat {
            key: None,
            source: (*source).to_owned(),
        };
        Terms {
            feed: "BTC/USD".into(),
            rule: Rule::TrimmedMean,
            sample_rule: Rule::Mean,
            exchanges_min: 1,
            age_us_max: None,
            spread_ppm_max: None,
            schedule: Schedule {
                first_start_us: 0,
                period_us,
                end_us: None,
                samples,
                interval_us: 1_000_000,
            },
            seats: sources.iter().map(seat).collect(),
        }
    }

    /// A roster of one feed with these terms.
    pub fn roster(terms: &Terms) -> Roster {
        Roster::single(1, None, terms.clone())
    }

    /// A roster of two feeds, of the second of which slot 1 has no source.
    pub fn two_feeds(keys: [Option<PublicKey>; 3]) -> Roster {
        let feed = |name: &str| Terms {
            feed: name.into(),
            ..terms(&[], 10_000_000, 1)
        };
        let slot = |(at, key): (usize, Option<PublicKey>)| RosterSlot {
            key,
            sources: ["okx:BTC-USDT", ["okx:ETH-USDT", ""][usize::from(at == 1)]]
                .map(str::to_owned)
                .into(),
        };
        let slots = keys.into_iter().enumerate().map(slot).collect();
        Roster::new(1, None, ["BTC/USD", "ETH/USD"].map(feed).into(), slots)
    }

    #[test]
    fn a_frame_names_the_feed_whose_terms_hold_for_its_start() {
        let mut agreed = Agreed::default();
        agreed.add(two_feeds([None; 3]), 0);
        let digests = agreed.newest().expect("they were added").digests.clone();
        for (feed, digest) in digests.iter().enumerate() {
            let named = agreed
                .named(&tag(digest), 10_000_000, 0)
                .map(|(_, feed)| feed);
            assert_eq!((named, agreed.feed_of(digest)), (Ok(feed), Some(feed)));
        }
        assert_eq!(agreed.feed_of(&[7; 32]), None);
    }

    #[test]
    fn a_frame_names_terms_that_hold_for_its_start() {
        let [old, new] = ["okx:BTC-USDT", "kraken:BTC/USD"].map(|source| terms(&[source], 10, 1));
        let [old_tag, new_tag] = [&old, &new].map(|terms| tag(&terms.digest()));
        let mut agreed = Agreed::default();
        assert_eq!(
            agreed.named(&old_tag, 10, 0).err(),
            Some(Reject::TermsDiffer)
        );
        agreed.add(roster(&old), 10);
        agreed.add(roster(&new), 30);
        for (tag, start_us, refused) in [
            (old_tag, 10, None),
            (old_tag, 20, None),
            (old_tag, 15, Some(Reject::StartUnknown)),
            (old_tag, 0, Some(Reject::RoundOver)),
            (old_tag, 30, Some(Reject::StartUnknown)),
            (new_tag, 30, None),
            (new_tag, 20, Some(Reject::StartUnknown)),
            ([7; 8], 20, Some(Reject::TermsDiffer)),
        ] {
            assert_eq!(
                agreed.named(&tag, start_us, 10).err(),
                refused,
                "{start_us}"
            );
        }
        agreed.forget_before(20);
        assert_eq!(agreed.begins_us(), Some(10));
        agreed.forget_before(30);
        assert_eq!(agreed.begins_us(), Some(30));
        assert!(agreed.at(20).is_none());
    }

    #[test]
    fn later_terms_for_the_same_start_replace_earlier_ones() {
        let [one, other] = ["okx:BTC-USDT", "kraken:BTC/USD"].map(|source| terms(&[source], 10, 1));
        let digests = [one.digest(), other.digest()];
        let [replaced, newer] = digests.each_ref().map(tag);
        let mut agreed = Agreed::default();
        agreed.add(roster(&one), 10);
        agreed.add(roster(&other), 10);
        // A collector may still say that it has the replaced ones, but its frames by them count for nothing.
        assert!(
            digests
                .iter()
                .all(|digest| agreed.feed_of(digest) == Some(0))
        );
        assert_eq!(agreed.at(10).map(|held| held.digests[0]), Some(digests[1]));
        let refused = agreed.named(&replaced, 10, 0).err();
        assert_eq!(refused, Some(Reject::StartUnknown));
        assert!(agreed.named(&newer, 10, 0).is_ok());
    }

    #[test]
    fn terms_that_are_replaced_again_and_again_are_bounded() {
        let many: Vec<Terms> = (1..=HELD_MAX as u32 + 9)
            .map(|samples| terms(&["okx:BTC-USDT"], 100_000_000, samples))
            .collect();
        let mut agreed = Agreed::default();
        for (at, terms) in many.iter().enumerate() {
            agreed.add(roster(terms), if at == 0 { 0 } else { 100_000_000 });
        }
        let knows = |terms: &&Terms| agreed.feed_of(&terms.digest()).is_some();
        assert_eq!(many.iter().filter(knows).count(), HELD_MAX);
        assert!(knows(&&many[0]) && !knows(&&many[1]));
        let last = many.last().map(Terms::digest);
        assert_eq!(agreed.at(100_000_000).map(|held| held.digests[0]), last);
    }
}
