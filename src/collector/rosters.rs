//! The terms of the rosters that a collector was handed, as far as it needs them, and from which start each roster holds.
//!
//! Invariant: at most one roster holds for a start. A start that was signed, or that is earlier than the moment when the first
//! roster was read, never comes again.

use crate::collector::limits::ROSTERS_HELD_MAX;
use rsoracle_proof::aggregate::Rule;
use rsoracle_proof::schedule::Schedule;
use rsoracle_proof::seal::{PublicKey, hex};
use rsoracle_proof::terms::Terms;
use std::rc::Rc;

/// The part of a feed's terms that a collector needs that prices it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duty {
    /// The terms digest.
    pub digest: [u8; 32],
    /// The collector's slot in the terms.
    pub seat: u16,
    /// Which of the collector's sources prices it.
    pub symbol: usize,
    /// How samples are combined into one price.
    pub sample_rule: Rule,
    /// The greatest age of a sample in microseconds, where the exchange gives a time; `None` for no limit.
    pub age_us_max: Option<u64>,
    /// What begins a complaint about this feed, if the roster has several.
    pub about: String,
}

/// What a collector does in every round of a roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// When samples are taken, for all feeds.
    pub schedule: Schedule,
    /// The feeds that it prices, at least one, in their order.
    pub duties: Vec<Duty>,
}

impl Task {
    /// The terms digests of its feeds.
    pub fn digests(&self) -> Vec<[u8; 32]> {
        self.duties.iter().map(|duty| duty.digest).collect()
    }

    /// The task of `key`, which has these sources, under the terms of a roster's feeds. Feeds without a slot of this key are
    /// left out. For each feed under whose terms it cannot sign, `wrong` gets the reason.
    fn of(
        feeds: Vec<Result<Terms, String>>,
        key: &PublicKey,
        sources: &[String],
        wrong: &mut Vec<String>,
    ) -> Option<Task> {
        let several = feeds.len() > 1;
        let (mut task, mut names): (Option<Task>, Vec<String>) = (None, Vec::new());
        for terms in feeds {
            let about = match &terms {
                Ok(terms) if several => format!("{}: ", terms.feed),
                _ => String::new(),
            };
            let duty = terms.and_then(|terms| {
                let duty = Duty::of(&terms, key, sources, &about)?;
                // One answer for a start, even if the same terms come twice.
                let again = names.contains(&terms.feed);
                names.push(terms.feed);
                match (&task, duty) {
                    (_, Some(_)) if again => Err("a second feed of this name".into()),
                    (Some(task), Some(_)) if task.schedule != terms.schedule => {
                        Err("its schedule is not that of the other feeds".into())
                    }
                    (_, duty) => Ok(duty.map(|duty| (terms.schedule, duty))),
                }
            });
            match duty {
                Ok(Some((schedule, duty))) => {
                    let duties = Vec::new();
                    let task = task.get_or_insert(Task { schedule, duties });
                    task.duties.push(duty);
                }
                Ok(None) => {}
                Err(why) => wrong.push(about + &why),
            }
        }
        if task.is_none() && wrong.is_empty() {
            wrong.push(format!("no slot has this key, {}", hex(key.bytes())));
        }
        task
    }
}

impl Duty {
    /// The duty of `key` under these terms; `None` if no slot has that key.
    fn of(
        terms: &Terms,
        key: &PublicKey,
        sources: &[String],
        about: &str,
    ) -> Result<Option<Duty>, String> {
        let Some(seat) = terms.slot_of(key) else {
            return Ok(None);
        };
        let theirs = &terms.seats[usize::from(seat)].source;
        let Some(symbol) = sources.iter().position(|own| own == theirs) else {
            let own = sources.join(", ");
            return Err(format!("the source of slot {seat} is {theirs}, not {own}"));
        };
        Ok(Some(Duty {
            digest: terms.digest(),
            seat,
            symbol,
            sample_rule: terms.sample_rule,
            age_us_max: terms.age_us_max,
            about: about.to_owned(),
        }))
    }
}

/// A roster, and the earliest start that it holds for.
struct Held {
    from_us: u64,
    /// `None` if this collector cannot sign under it.
    task: Option<Rc<Task>>,
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

    /// Takes the terms of a roster's feeds, which hold for starts from `from_us` on, and replaces those that would hold later. The
    /// reasons why `key`, with these sources, cannot sign under some of them are returned; nothing is signed under those.
    pub fn take(
        &mut self,
        feeds: Vec<Result<Terms, String>>,
        from_us: u64,
        key: &PublicKey,
        sources: &[String],
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        self.add(from_us, Task::of(feeds, key, sources, &mut wrong));
        wrong
    }

    fn add(&mut self, from_us: u64, task: Option<Task>) {
        self.held.retain(|held| held.from_us < from_us);
        let task = task.map(Rc::new);
        self.held.push(Held { from_us, task });
        if self.held.len() > ROSTERS_HELD_MAX {
            self.held.remove(0);
        }
    }

    /// No round is left from then on.
    pub fn end(&mut self, until_us: u64) {
        self.add(until_us, None);
    }

    /// The task under the present roster, if there is one.
    pub fn first(&self) -> Option<&Rc<Task>> {
        self.held.first()?.task.as_ref()
    }

    /// From when on the present roster holds.
    pub fn begins_us(&self) -> Option<u64> {
        self.held.first().map(|held| held.from_us)
    }

    /// The terms digests of all rosters.
    pub fn digests(&self) -> Vec<[u8; 32]> {
        let tasks = self.held.iter().filter_map(|held| held.task.as_ref());
        tasks.flat_map(|task| task.digests()).collect()
    }

    /// The task under the newest roster, if there is one.
    pub fn newest(&self) -> Option<&Rc<Task>> {
        self.held.last()?.task.as_ref()
    }

    /// The next round that is not over at `now_us`: its task and its start. A round that began is included while one of its
    /// samples can still be taken.
    pub fn next(&self, now_us: u64) -> Option<(Rc<Task>, u64)> {
        let until = self.held.iter().skip(1).map(|held| held.from_us);
        let until = until.chain([u64::MAX]);
        let mut starts = self.held.iter().zip(until).filter_map(|(held, until_us)| {
            let task = held.task.as_ref()?;
            let over_us = task.schedule.last_us() + task.schedule.lateness_us_max();
            let from_us = held.from_us.max(self.floor_us);
            let from_us = from_us.max(now_us.saturating_sub(over_us));
            let start_us = task.schedule.next_start_us(from_us)?;
            (start_us < until_us).then(|| (task.clone(), start_us))
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
            schedule: Schedule {
                first_start_us: 0,
                period_us: period_s * SECOND,
                end_us: None,
                samples: 2,
                interval_us: SECOND,
            },
            duties: vec![Duty {
                digest: [seed; 32],
                seat: 0,
                symbol: 0,
                sample_rule: Rule::Mean,
                age_us_max: None,
                about: String::new(),
            }],
        }
    }

    fn digest(rosters: &Rosters) -> Option<u8> {
        rosters.newest().map(|task| task.duties[0].digest[0])
    }

    /// Digest and start of the next round, in seconds.
    fn next(rosters: &Rosters, now_s: u64) -> Option<(u8, u64)> {
        let (task, start_us) = rosters.next(now_s * SECOND)?;
        Some((task.duties[0].digest[0], start_us / SECOND))
    }

    #[test]
    fn each_start_has_the_roster_that_holds_for_it_and_comes_once() {
        let mut rosters = Rosters::new(95 * SECOND);
        assert_eq!((next(&rosters, 100), digest(&rosters)), (None, None));
        rosters.add(0, Some(task(1, 10)));
        assert_eq!(next(&rosters, 90), Some((1, 100)), "90 is before the floor");
        rosters.add(120 * SECOND, Some(task(2, 15)));
        assert_eq!(digest(&rosters), Some(2));
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

    fn key(seed: u8) -> PublicKey {
        crate::keys::secret::SecretKey::from_seed(&mut [seed; 32]).public()
    }

    /// Terms of a feed, in which the key of each of these seeds has the source beside it.
    fn terms(feed: &str, seats: &[(u8, &str)]) -> Terms {
        let seat = |(seed, source): &(u8, &str)| Seat {
            key: Some(key(*seed)),
            source: (*source).into(),
        };
        Terms {
            feed: feed.into(),
            rule: Rule::TrimmedMean,
            sample_rule: Rule::Mean,
            exchanges_min: 1,
            age_us_max: None,
            spread_ppm_max: None,
            schedule: task(1, 10).schedule,
            seats: seats.iter().map(seat).collect(),
        }
    }

    const BTC: &str = "binance:BTCUSDC";
    const ETH: &str = "binance:ETHUSDC";

    /// Seats and symbols of the feeds that key 1 signs, and why not the others.
    fn taken(feeds: &[Result<Terms, String>]) -> (Vec<(u16, usize)>, Vec<String>) {
        let (mut rosters, sources) = (Rosters::new(0), [BTC, ETH].map(str::to_owned));
        let wrong = rosters.take(feeds.to_vec(), 0, &key(1), &sources);
        let next = rosters.next(0);
        let duties = next.iter().flat_map(|(task, _)| &task.duties);
        let places = duties.map(|duty| (duty.seat, duty.symbol)).collect();
        (places, wrong)
    }

    #[test]
    fn a_feed_counts_if_a_slot_has_this_key_with_a_source_of_this_collector() {
        let btc = terms("BTC/USD", &[(0, BTC), (1, BTC)]);
        let eth = terms("ETH/USD", &[(1, ETH), (2, ETH)]);
        let foreign = terms("SOL/USD", &[(0, BTC), (2, BTC)]);
        let other = terms("LTC/USD", &[(1, "kraken:LTC/USD")]);
        let mut rarer = terms("XRP/USD", &[(1, BTC)]);
        rarer.schedule.period_us *= 2;
        let good = [btc, foreign, eth].map(Ok);
        let places = vec![(1, 0), (0, 1)];
        assert_eq!(taken(&good), (places.clone(), vec![]));
        for (bad, says) in [
            (
                Ok(other.clone()),
                "LTC/USD: the source of slot 0 is kraken:LTC/USD, not binance:BTCUSDC, binance:ETHUSDC",
            ),
            (
                Ok(rarer),
                "XRP/USD: its schedule is not that of the other feeds",
            ),
            (good[0].clone(), "BTC/USD: a second feed of this name"),
            (
                Err("the bytes are no terms".into()),
                "the bytes are no terms",
            ),
        ] {
            let feeds = [&good[..], &[bad]].concat();
            assert_eq!(taken(&feeds), (places.clone(), vec![says.to_owned()]));
        }
        let (places, wrong) = taken(&good[1..2]);
        assert!(places.is_empty() && wrong[0].contains("no slot has this key, "));
        let (places, wrong) = taken(&[Ok(other)]);
        assert!(places.is_empty() && wrong[0].starts_with("the source of slot 0"));
    }
}
