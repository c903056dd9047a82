//! Whether this machine's own clock may be trusted to date reports.
//!
//! A collector signs only while its clock agrees with its exchange's. An aggregator has no exchange to ask, and a journal must not
//! end in the future: its next report could not be made before that time has come. So no round begins while this clock is ahead
//! of those of most connected collectors, and the journal gets no report of a round in which nobody has signed anything, until
//! one collector has: since the start, or since the clock was set ahead.
//!
//! Invariant: it moves no start and no price. Collectors that lie are too few to hold up rounds that could have a price.

use super::Slot;
use crate::aggregator::limits::CLOCK_OFF_US_MAX;
use crate::system::now::wall_us;
use std::time::{Duration, Instant};

/// What is known of this machine's clock.
pub(super) struct OwnClock {
    origin: Instant,
    offsets_us: [u64; 2],
    /// Whether a collector has signed an answer since the start, or since the clock was set ahead.
    pub(super) vouched: bool,
    /// Whether the operator was told that reports are not kept.
    pub(super) told: bool,
    /// Whether the journal has got the last reports.
    pub(super) kept: bool,
    /// Whether no round begins, because it is ahead.
    pub(super) ahead: bool,
    /// When it was set last.
    pub(super) set_at: Option<Instant>,
    /// Whether the next start was not used because this clock was ahead.
    pub(super) held: bool,
    /// The start of the last round that was not kept in the journal; 0 if there is none, or if the clock was set back since then.
    pub(super) unkept_us: u64,
}

impl OwnClock {
    pub(super) fn new() -> OwnClock {
        let origin = Instant::now();
        OwnClock {
            origin,
            offsets_us: offsets_us(origin),
            vouched: false,
            told: false,
            kept: true,
            ahead: false,
            set_at: None,
            held: false,
            unkept_us: 0,
        }
    }

    /// The same clock for another run, which sees whether it was set since the last call of [`moved_us`](Self::moved_us).
    pub(super) fn anew(&self) -> OwnClock {
        OwnClock {
            origin: self.origin,
            offsets_us: self.offsets_us,
            ..OwnClock::new()
        }
    }

    /// By how much, in microseconds, the system clock and the time since the system's start have gone ahead of the monotonic
    /// clock since the last call. A clock that is set moves the first, and a machine that is suspended moves both.
    pub(super) fn moved_us(&mut self) -> [i64; 2] {
        let now_us = offsets_us(self.origin);
        let before_us = std::mem::replace(&mut self.offsets_us, now_us);
        if is_set_ahead(before_us, now_us) {
            (self.vouched, self.told) = (false, false);
        }
        growth_us(before_us, now_us)
    }

    /// Whether the system clock was set ahead since the last call of [`moved_us`](Self::moved_us).
    pub(super) fn was_set_ahead(&self) -> bool {
        is_set_ahead(self.offsets_us, offsets_us(self.origin))
    }

    /// When the system clock will show this time, if it goes on as it did at the last call of [`moved_us`](Self::moved_us).
    pub(super) fn instant_of(&self, us: u64) -> Instant {
        self.origin + Duration::from_micros(us.saturating_sub(self.offsets_us[0]))
    }
}

fn growth_us(before_us: [u64; 2], now_us: [u64; 2]) -> [i64; 2] {
    [0, 1].map(|at| now_us[at].wrapping_sub(before_us[at]).cast_signed())
}

/// Whether the system clock was set ahead between two readings: it gained more than the time since the system's start did, which
/// counts suspensions too.
fn is_set_ahead(before_us: [u64; 2], now_us: [u64; 2]) -> bool {
    let grown_us = growth_us(before_us, now_us);
    grown_us[0] - grown_us[1] > CLOCK_OFF_US_MAX as i64
}

/// The system clock and the time since the system's start, each less the monotonic clock, in microseconds.
fn offsets_us(origin: Instant) -> [u64; 2] {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let up_s = text.split(' ').next().and_then(|s| s.parse().ok());
    let up_us = (up_s.unwrap_or(0.0) * 1e6) as u64;
    let mono_us = origin.elapsed().as_micros() as u64;
    [wall_us(), up_us].map(|us| us.saturating_sub(mono_us))
}

/// By how many microseconds this machine's clock is ahead of those of most connected collectors (the median of these); `None` if
/// it is not, or not by more than clocks that agree may differ.
pub(super) fn ahead_us(slots: &[Slot]) -> Option<u64> {
    let connected = slots.iter().filter(|slot| !slot.members.is_empty());
    let behind = |slot: &Slot| {
        let mut clocks = slot.members.iter().rev();
        let (off_us, round_trip_us) = clocks.find_map(|member| member.clock)?;
        let behind_us = u64::try_from(-off_us).ok()?;
        (behind_us > CLOCK_OFF_US_MAX + round_trip_us / 2).then_some(behind_us)
    };
    let mut all: Vec<u64> = connected.clone().filter_map(behind).collect();
    all.sort_unstable();
    (2 * all.len() > connected.count()).then(|| all[all.len() / 2])
}
