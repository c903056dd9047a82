//! Waiting for an instant of the system clock, and the two clocks themselves.
//!
//! Invariant: a wait ends at its instant, or soon after the clock was stepped. It never sleeps longer than
//! [`SLEEP_US_MAX`](crate::system::clock::SLEEP_US_MAX) at a time.

use crate::system::clock::{Anchor, Reading, Step, step};
use crate::system::now::wall_us;
use std::time::{Duration, Instant};

/// A source of time; tests inject their own.
pub trait Clock {
    /// Reads both clocks.
    fn now(&mut self) -> Reading;
    /// Sleeps for about `us` microseconds.
    fn sleep(&mut self, us: u64);
    /// Yields the core to another process that is ready to run, if there is one.
    fn give_way(&mut self);
    /// Passes a moment without yielding the core.
    fn spin(&mut self);
}

/// If reading both clocks took more microseconds than this, they are read again, ...
const TORN_US: u64 = 1_000;
/// ... until this many readings were made.
const READINGS_MAX: u32 = 20;

/// The system's clocks.
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// Creates a clock whose monotonic time starts at 0.
    #[allow(clippy::new_without_default)]
    pub fn new() -> SystemClock {
        SystemClock {
            origin: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn now(&mut self) -> Reading {
        both(wall_us, || self.origin.elapsed().as_micros() as u64)
    }

    fn sleep(&mut self, us: u64) {
        std::thread::sleep(Duration::from_micros(us));
    }

    fn give_way(&mut self) {
        std::thread::yield_now();
    }

    fn spin(&mut self) {
        std::hint::spin_loop();
    }
}

/// Reads both clocks. If this process lost its core between the readings, it reads again: that gap would look like a stepped
/// clock.
fn both(wall_us: impl Fn() -> u64, mono_us: impl Fn() -> u64) -> Reading {
    let mut readings = 1;
    loop {
        let before_us = mono_us();
        let reading = Reading {
            wall_us: wall_us(),
            mono_us: mono_us(),
        };
        if reading.mono_us.saturating_sub(before_us) <= TORN_US || readings == READINGS_MAX {
            return reading;
        }
        readings += 1;
    }
}

/// The system clock was stepped while someone waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved;

/// Waits until the system clock shows `target_us`; returns the reading that ended the wait.
pub fn wait_until(
    clock: &mut impl Clock,
    anchor: &Anchor,
    target_us: u64,
) -> Result<Reading, Moved> {
    loop {
        let now = clock.now();
        if anchor.moved(now) {
            return Err(Moved);
        }
        match step(now.wall_us, target_us) {
            Step::Go => return Ok(now),
            Step::Yield => clock.give_way(),
            Step::Spin => clock.spin(),
            Step::Sleep(us) => clock.sleep(us),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::limits::CLOCK_PARTS_US_MAX;

    /// A clock that moves only when someone waits on it, and that is stepped once.
    struct Injected {
        now: Reading,
        step_at_mono_us: u64,
        step_us: i64,
        slept: Vec<u64>,
    }

    impl Injected {
        fn pass(&mut self, us: u64) {
            self.now.mono_us += us;
            self.now.wall_us += us;
            if self.now.mono_us >= self.step_at_mono_us {
                self.now.wall_us = self.now.wall_us.wrapping_add_signed(self.step_us);
                self.step_at_mono_us = u64::MAX;
            }
        }
    }

    impl Clock for Injected {
        fn now(&mut self) -> Reading {
            self.now
        }
        fn sleep(&mut self, us: u64) {
            self.slept.push(us);
            self.pass(us + 120);
        }
        fn give_way(&mut self) {
            self.pass(1);
        }
        fn spin(&mut self) {
            self.pass(1);
        }
    }

    fn injected(step_at_mono_us: u64, step_us: i64) -> Injected {
        Injected {
            now: Reading {
                wall_us: 1_000_000_000,
                mono_us: 0,
            },
            step_at_mono_us,
            step_us,
            slept: Vec::new(),
        }
    }

    #[test]
    fn losing_the_core_between_two_readings_does_not_count_as_a_step() {
        use std::cell::Cell;
        let (past_us, losses) = (Cell::new(0), Cell::new(3));
        let wall_us = || {
            let wall_us = 1_000_000 + past_us.get();
            // After this reading the core is lost, for long enough to look like a step.
            if losses.get() > 0 {
                losses.set(losses.get() - 1);
                past_us.set(past_us.get() + CLOCK_PARTS_US_MAX + 1);
            }
            wall_us
        };
        let reading = both(wall_us, || past_us.get());
        assert_eq!(reading.wall_us, 1_000_000 + reading.mono_us);
    }

    #[test]
    fn a_wait_ends_at_its_instant_to_the_microsecond() {
        let mut clock = injected(u64::MAX, 0);
        let anchor = Anchor(clock.now);
        let end = wait_until(&mut clock, &anchor, 1_000_250_000).unwrap();
        assert_eq!(end.wall_us, 1_000_250_000);
        assert!(
            clock
                .slept
                .iter()
                .all(|us| *us <= crate::system::clock::SLEEP_US_MAX)
        );
    }

    #[test]
    fn a_clock_stepped_forward_or_back_ends_the_wait() {
        for step_us in [3_600_000_000, -900_000_000, 7_000, -7_000] {
            let mut clock = injected(300_000, step_us);
            let anchor = Anchor(clock.now);
            assert_eq!(
                wait_until(&mut clock, &anchor, 1_001_000_000),
                Err(Moved),
                "{step_us}"
            );
            assert!(
                clock.now.mono_us < 300_000 + 2 * crate::system::clock::SLEEP_US_MAX,
                "{} µs",
                clock.now.mono_us
            );
        }
    }
}
