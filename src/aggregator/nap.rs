//! How long the aggregator sleeps (naps) between two sweeps.
//!
//! Invariant: naps are short while answers are expected. Otherwise they are long, since a wake-up costs more than all frames
//! of a round. One exception: while a stranger is connected, and for a while after a collector has left, they are short, so
//! new connections are polled often. No nap between samples ends around a sample's instant, when the collectors need the cores.

use std::time::Duration;

/// First nap while frames are expected. Naps grow slowly from here, so that prompt senders are not kept waiting.
const NAP_SHORT: Duration = Duration::from_micros(500);
/// Longest nap while collectors get ready.
const NAP_GATHERING_MAX: Duration = Duration::from_millis(5);
/// Longest nap while answers are expected.
const NAP_CLOSING_MAX: Duration = Duration::from_millis(2);
/// Nap between rounds after something has happened.
const NAP_RESTING: Duration = Duration::from_millis(10);
/// Nap between samples after something has happened.
const NAP_SAMPLING: Duration = Duration::from_millis(20);
/// Nap while nothing happens: this delays, for example, noticing that a child ended or wants to join.
const NAP_IDLE_MAX: Duration = Duration::from_millis(100);
/// No nap ends within this time of a sample's instant, before or after: collectors poll the clock before it, and encrypt and
/// send after it.
pub(crate) const INSTANT_CLEAR: Duration = Duration::from_millis(3);

/// The naps of one phase of a round.
pub struct Naps {
    next: Duration,
    awake: Duration,
    longest: Duration,
}

impl Naps {
    /// Naps while collectors get ready.
    pub fn gathering() -> Naps {
        Naps::new(NAP_SHORT, NAP_SHORT, NAP_GATHERING_MAX)
    }

    /// Naps between rounds.
    pub(crate) fn resting() -> Naps {
        Naps::new(NAP_IDLE_MAX, NAP_RESTING, NAP_IDLE_MAX)
    }

    /// Naps between samples.
    pub(crate) fn sampling() -> Naps {
        Naps::new(NAP_IDLE_MAX, NAP_SAMPLING, NAP_IDLE_MAX)
    }

    /// Naps after the last sample.
    pub fn closing() -> Naps {
        Naps::new(NAP_SHORT, NAP_SHORT, NAP_CLOSING_MAX)
    }

    fn new(next: Duration, awake: Duration, longest: Duration) -> Naps {
        Naps {
            next,
            awake,
            longest,
        }
    }

    /// The next nap while frames are expected: each is 1 % longer than the one before.
    pub fn waiting(&mut self) -> Duration {
        let nap = self.next;
        self.next = (nap + nap / 100).min(self.longest);
        nap
    }

    /// The next nap after a sweep: `stirred` says whether anything happened in it.
    pub fn after(&mut self, stirred: bool) -> Duration {
        let longer = (self.next + self.next / 2).min(self.longest);
        self.next = if stirred { self.awake } else { longer };
        self.next
    }
}

/// A nap of at least `nap` that does not end around a sample's instant.
pub(crate) fn between_instants(
    nap: Duration,
    now_us: u64,
    start_us: u64,
    interval_us: u64,
) -> Duration {
    let clear_us = INSTANT_CLEAR.as_micros() as u64;
    let wake_us = now_us + nap.as_micros() as u64;
    if wake_us + clear_us < start_us {
        return nap;
    }
    let since = (wake_us + clear_us).saturating_sub(start_us);
    let past_instant = since % interval_us;
    // `past_instant` counts from INSTANT_CLEAR before an instant. Up to twice INSTANT_CLEAR, the wake-up is too near.
    let shift = (2 * clear_us).saturating_sub(past_instant);
    nap + Duration::from_micros(shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_nap_between_samples_ends_around_an_instant() {
        let (start, interval, clear) = (1_000_000_000, 1_000_000, INSTANT_CLEAR.as_micros() as u64);
        for nap in [NAP_SAMPLING, NAP_IDLE_MAX] {
            for offset in (0..3_000_000).step_by(333) {
                let now = start - 500_000 + offset;
                let wake = now + between_instants(nap, now, start, interval).as_micros() as u64;
                if wake + clear < start {
                    continue;
                }
                let near = (wake + clear - start) % interval;
                assert!(near >= 2 * clear, "now {now}, wakes {wake}");
            }
        }
    }

    #[test]
    fn naps_grow_while_nothing_stirs_and_are_brief_once_something_does() {
        let mut naps = Naps::resting();
        assert_eq!(naps.after(false), NAP_IDLE_MAX);
        assert_eq!(naps.after(true), NAP_RESTING);
        let idle: Vec<Duration> = (0..20).map(|_| naps.after(false)).collect();
        assert!(idle[0] > NAP_RESTING && idle.is_sorted());
        assert_eq!(idle.last(), Some(&NAP_IDLE_MAX));
        assert_eq!(naps.after(true), NAP_RESTING);
    }

    #[test]
    fn who_waits_for_an_answer_naps_briefly() {
        let mut naps = Naps::closing();
        let first = naps.waiting();
        let last = (0..10_000).map(|_| naps.waiting()).last();
        assert_eq!((first, last), (NAP_SHORT, Some(NAP_CLOSING_MAX)));
    }
}
