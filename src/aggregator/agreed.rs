//! The terms of the rounds that are gathered: those of the running round, and any that hold from a later start on.
//!
//! Invariant: at most one terms digest holds for a start, and every collector that this aggregator starts was told which.

use rsoracle_proof::reason::Reject;
use rsoracle_proof::terms::{Terms, tag};

/// Most terms that are kept.
const HELD_MAX: usize = 64;

/// Terms, and the first start that they hold for.
pub struct Held {
    /// They hold for this start and later ones.
    pub from_us: u64,
    /// The terms.
    pub terms: Terms,
    /// Their digest.
    pub digest: [u8; 32],
}

/// All terms that hold now or later, in the order of the starts from which they hold. If several have one start, the last of them
/// hold. The others stay known, since collectors that were told them may still name them.
#[derive(Default)]
pub struct Agreed(Vec<Held>);

impl Agreed {
    /// Adds terms that hold from a start on, whatever was agreed on for it before.
    pub fn add(&mut self, terms: Terms, from_us: u64) {
        self.0.retain(|held| held.from_us <= from_us);
        if self.0.len() >= HELD_MAX {
            // The first may be those of the running round.
            self.0.remove(1);
        }
        self.0.push(Held {
            from_us,
            digest: terms.digest(),
            terms,
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

    /// Whether any of them have this digest.
    pub(super) fn knows(&self, digest: &[u8; 32]) -> bool {
        self.0.iter().any(|held| held.digest == *digest)
    }

    /// The terms that a frame names by their tag, if they hold for the frame's start, which must not be before `floor_us`.
    pub(super) fn named(
        &self,
        named: &[u8; 8],
        start_us: u64,
        floor_us: u64,
    ) -> Result<&Held, Reject> {
        if !self.0.iter().any(|held| tag(&held.digest) == *named) {
            return Err(Reject::TermsDiffer);
        }
        if start_us < floor_us {
            return Err(Reject::RoundOver);
        }
        let held = self
            .at(start_us)
            .filter(|held| tag(&held.digest) == *named && held.terms.schedule.is_start(start_us));
        held.ok_or(Reject::StartUnknown)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use rsoracle_proof::aggregate::Rule;
    use rsoracle_proof::schedule::Schedule;
    use rsoracle_proof::terms::Seat;

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

    #[test]
    fn a_frame_names_terms_that_hold_for_its_start() {
        let [old, new] = ["okx:BTC-USDT", "kraken:BTC/USD"].map(|source| terms(&[source], 10, 1));
        let [old_tag, new_tag] = [&old, &new].map(|terms| tag(&terms.digest()));
        let mut agreed = Agreed::default();
        assert_eq!(
            agreed.named(&old_tag, 10, 0).err(),
            Some(Reject::TermsDiffer)
        );
        agreed.add(old, 10);
        agreed.add(new, 30);
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
        agreed.add(one, 10);
        agreed.add(other, 10);
        // A collector may still say that it has the replaced ones, but its frames by them count for nothing.
        assert!(digests.iter().all(|digest| agreed.knows(digest)));
        assert_eq!(agreed.at(10).map(|held| held.digest), Some(digests[1]));
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
            agreed.add(terms.clone(), if at == 0 { 0 } else { 100_000_000 });
        }
        let knows = |terms: &&Terms| agreed.knows(&terms.digest());
        assert_eq!(many.iter().filter(knows).count(), HELD_MAX);
        assert!(knows(&&many[0]) && !knows(&&many[1]));
        let last = many.last().map(Terms::digest);
        assert_eq!(agreed.at(100_000_000).map(|held| held.digest), last);
    }
}
