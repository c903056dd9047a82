//! The terms of the rosters that a collector was handed, as far as it needs them, and from which start each of them holds.
//!
//! Invariant: at most one roster holds for a start. A start that was signed, or that is earlier than the moment when the first
//! roster was read, never comes again.

use crate::system::limits::ROSTERS_HELD_MAX;
use rsoracle_proof::aggregate::Rule;
use rsoracle_proof::schedule::Schedule;
use rsoracle_proof::seal::{PublicKey, hex};
use rsoracle_proof::terms::Terms;

/// The part of a feed's terms that its collectors need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// The terms digest.
    pub digest: [u8; 32],
    /// When samples are taken.
    pub schedule: Schedule,
    /// How samples are combined into one price.
    pub sample_rule: Rule,
    /// The greatest age of a sample in microseconds, where the exchange gives a time; `None` for no limit.
    pub age_us_max: Option<u64>,
}

impl Task {
    /// The task in these terms. The error says why `key` cannot sign in `slot` under them.
    fn of(terms: &Terms, key: &PublicKey, slot: u16, source: &str) -> Result<Task, String> {
        let Some(seat) = terms.seats.get(usize::from(slot)) else {
            return Err(format!("it has no slot {slot}"));
        };
        if seat.key != Some(*key) {
            let own = hex(key.bytes());
            return Err(format!("slot {slot} is not that of this key, {own}"));
        }
        if seat.source != source {
            let theirs = &seat.source;
            return Err(format!(
                "the source of slot {slot} is {theirs}, not {source}"
            ));
        }
        Ok(Task {
            digest: terms.digest(),
            schedule: terms.schedule,
            sample_rule: terms.sample_rule,
            age_us_max: terms.age_us_max,
        })
    }
}

/// A roster, and the earliest start that it holds for.
struct Held {
    from_us: u64,
    /// `None` if this collector cannot sign under it.
    task: Option<Task>,
}

/// The rosters that hold now and later.
pub struct Rosters {
    /// In the order in which they hold.
    held: Vec<Held>,
    /// The earliest start that may still be signed.
    floor_us: u64,
}

impl Rosters {
    /// No roster yet; starts before `floor_us` are never signed.
    pub fn new(floor_us: u64) -> Rosters {
        Rosters {
            held: Vec::new(),
            floor_us,
        }
    }

    /// Takes terms that hold for starts from `from_us` on, and replaces those that would hold later. The error says why `key`, in
    /// `slot`, cannot sign under them; then nothing is signed from there on.
    pub fn take(
        &mut self,
        terms: Result<Terms, String>,
        from_us: u64,
        key: &PublicKey,
        slot: u16,
        source: &str,
    ) -> Result<(), String> {
        let task = terms.and_then(|terms| Task::of(&terms, key, slot, source));
        self.add(from_us, task.as_ref().ok().copied());
        task.map(|_| ())
    }

    fn add(&mut self, from_us: u64, task: Option<Task>) {
        self.held.retain(|held| held.from_us < from_us);
        self.held.push(Held { from_us, task });
        if self.held.len() > ROSTERS_HELD_MAX {
            self.held.remove(0);
        }
    }

    /// The digest of the newest terms; zeros if there are none.
    pub fn digest(&self) -> [u8; 32] {
        let newest = self.held.last().and_then(|held| held.task);
        newest.map_or([0; 32], |task| task.digest)
    }

    /// The next round that is not over at `now_us`: its task and its start. A round that began is included while one of its
    /// samples can still be taken.
    pub fn next(&self, now_us: u64) -> Option<(Task, u64)> {
        let until = self.held.iter().skip(1).map(|held| held.from_us);
        let until = until.chain([u64::MAX]);
        let mut starts = self.held.iter().zip(until).filter_map(|(held, until_us)| {
            let task = held.task?;
            let over_us = task.schedule.last_us() + task.schedule.lateness_us_max();
            let from_us = held.from_us.max(self.floor_us);
            let from_us = from_us.max(now_us.saturating_sub(over_us));
            let start_us = task.schedule.next_start_us(from_us)?;
            (start_us < until_us).then_some((task, start_us))
        });
        starts.next()
    }

    /// Notes that the round at `start_us` begins: only later starts come from now on.
    pub fn begin(&mut self, start_us: u64) {
        self.floor_us = start_us + 1;
        while self
            .held
            .get(1)
            .is_some_and(|next| next.from_us <= self.floor_us)
        {
            self.held.remove(0);
        }
    }

    /// The earliest start that may still be signed.
    pub fn floor_us(&self) -> u64 {
        self.floor_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rsoracle_proof::terms::Seat;

    const SECOND: u64 = 1_000_000;

    fn task(seed: u8, period_s: u64) -> Task {
        Task {
            digest: [seed; 32],
            schedule: Schedule {
                first_start_us: 0,
                period_us: period_s * SECOND,
                end_us: None,
                samples: 2,
                interval_us: SECOND,
            },
            sample_rule: Rule::Mean,
            age_us_max: None,
        }
    }

    /// Digest and start of the next round, in seconds.
    fn next(rosters: &Rosters, now_s: u64) -> Option<(u8, u64)> {
        let (task, start_us) = rosters.next(now_s * SECOND)?;
        Some((task.digest[0], start_us / SECOND))
    }

    #[test]
    fn each_start_has_the_roster_that_holds_for_it_and_comes_once() {
        let mut rosters = Rosters::new(95 * SECOND);
        assert_eq!((next(&rosters, 100), rosters.digest()), (None, [0; 32]));
        rosters.add(0, Some(task(1, 10)));
        assert_eq!(next(&rosters, 90), Some((1, 100)), "90 is before the floor");
        rosters.add(120 * SECOND, Some(task(2, 15)));
        assert_eq!(rosters.digest(), [2; 32]);
        for (start, digest) in [(100, 1), (110, 1), (120, 2), (135, 2)] {
            assert_eq!(next(&rosters, 101), Some((digest, start)));
            rosters.begin(start * SECOND);
        }
        assert_eq!(rosters.held.len(), 1);
        rosters.add(160 * SECOND, Some(task(3, 10)));
        rosters.add(155 * SECOND, Some(task(4, 10)));
        assert_eq!(next(&rosters, 151), Some((2, 150)));
        rosters.begin(150 * SECOND);
        assert_eq!(next(&rosters, 151), Some((4, 160)), "it replaced the third");
        rosters.add(0, None);
        assert_eq!(next(&rosters, 151), None, "no seat under it");
    }

    #[test]
    fn a_round_that_began_is_joined_while_a_sample_is_left_and_none_is_made_up_for() {
        let mut rosters = Rosters::new(0);
        rosters.add(0, Some(task(1, 10)));
        assert_eq!(next(&rosters, 101), Some((1, 100)));
        assert_eq!(next(&rosters, 102), Some((1, 110)));
        rosters.begin(100 * SECOND);
        assert_eq!(next(&rosters, 50), Some((1, 110)), "the clock was set back");
    }

    #[test]
    fn a_roster_counts_only_if_key_slot_and_source_are_this_collectors() {
        let key = |seed| crate::keys::secret::SecretKey::from_seed(&mut [seed; 32]).public();
        let terms = Terms {
            feed: "BTC/USD".into(),
            rule: Rule::TrimmedMean,
            sample_rule: Rule::Mean,
            exchanges_min: 1,
            age_us_max: None,
            spread_ppm_max: None,
            schedule: task(1, 10).schedule,
            seats: [0, 1]
                .map(|seed| Seat {
                    key: Some(key(seed)),
                    source: "binance:BTCUSDC".into(),
                })
                .into(),
        };
        let take = |seed, slot, source| {
            let mut rosters = Rosters::new(0);
            let taken = rosters.take(Ok(terms.clone()), 0, &key(seed), slot, source);
            assert_eq!(rosters.next(0).is_some(), taken.is_ok());
            taken
        };
        assert_eq!(take(1, 1, "binance:BTCUSDC"), Ok(()));
        for (seed, slot, source, says) in [
            (0, 1, "binance:BTCUSDC", "not that of this key"),
            (1, 2, "binance:BTCUSDC", "no slot 2"),
            (
                1,
                1,
                "kraken:BTC/USD",
                "is binance:BTCUSDC, not kraken:BTC/USD",
            ),
        ] {
            let sentence = take(seed, slot, source).unwrap_err();
            assert!(sentence.contains(says), "{sentence}");
        }
    }
}
