//! Arithmetic of time: the next step of a wait, and the detection of a stepped clock.
//!
//! Instants are microseconds since the Unix epoch (`wall`), or since some fixed point (`mono`). Nothing here reads a clock.

use crate::system::limits::{CLOCK_PARTS_US_MAX, CLOCK_PARTS_US_PER_S};

/// Both clocks, read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// System time: microseconds since the Unix epoch. It can be stepped.
    pub wall_us: u64,
    /// Monotonic time: microseconds since some fixed point. It cannot be stepped.
    pub mono_us: u64,
}

/// Both clocks at the beginning of a round.
#[derive(Clone, Copy, Debug)]
pub struct Anchor(
    /// The reading that later ones are compared with.
    pub Reading,
);

impl Anchor {
    /// Whether the system clock was stepped since, or slewed more than any time daemon does.
    pub fn moved(&self, now: Reading) -> bool {
        let wall = i128::from(now.wall_us) - i128::from(self.0.wall_us);
        let mono = i128::from(now.mono_us) - i128::from(self.0.mono_us);
        let allowed =
            i128::from(CLOCK_PARTS_US_MAX) + mono / 1_000_000 * i128::from(CLOCK_PARTS_US_PER_S);
        (wall - mono).abs() > allowed
    }
}

/// How many microseconds before its target a wait stops sleeping, since a sleep ends late. Measured lateness: 91 µs with the
/// lowest timer slack, 141 µs with the default, 500 µs at worst on a busy machine with two cores.
pub(crate) const SLEEP_MARGIN_US: u64 = 1_000;
/// How many microseconds before its target a wait stops yielding the core and spins. Measured on two cores: spinning reduces
/// the error of a process with a core of its own from 0.3 to 0.1 µs, and does not push five processes further apart.
pub(crate) const SPIN_US: u64 = 20;
/// Longest single sleep in microseconds. A stepped clock is noticed after it at the latest.
pub(crate) const SLEEP_US_MAX: u64 = 100_000;

/// What a wait does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Sleep this many microseconds, then ask again.
    Sleep(u64),
    /// Yield the core to other processes, then ask again.
    Yield,
    /// Ask again at once.
    Spin,
    /// The instant has come.
    Go,
}

/// The next step of a wait at `now` for `target`: sleep until shortly before the target, then poll the clock.
///
/// Polling first yields the core, since other processes may wait for the same instant and would run late without one. In the
/// last microseconds it spins.
pub fn step(now_wall_us: u64, target_us: u64) -> Step {
    match target_us.saturating_sub(now_wall_us) {
        0 => Step::Go,
        left if left <= SPIN_US => Step::Spin,
        left if left <= SLEEP_MARGIN_US => Step::Yield,
        left => Step::Sleep((left - SLEEP_MARGIN_US).min(SLEEP_US_MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_sleeps_then_yields_then_spins_then_goes_and_never_sleeps_past_its_margin() {
        assert_eq!(step(0, 10_000_000), Step::Sleep(SLEEP_US_MAX));
        assert_eq!(step(9_990_000, 10_000_000), Step::Sleep(9_000));
        assert_eq!(step(9_999_000, 10_000_000), Step::Yield);
        assert_eq!(step(9_999_979, 10_000_000), Step::Yield);
        assert_eq!(step(9_999_980, 10_000_000), Step::Spin);
        assert_eq!(step(9_999_999, 10_000_000), Step::Spin);
        assert_eq!(step(10_000_000, 10_000_000), Step::Go);
        assert_eq!(step(u64::MAX, 0), Step::Go);
    }

    #[test]
    fn a_stepped_clock_is_noticed_and_a_slewed_one_is_not() {
        let start = Reading {
            wall_us: 1_000_000_000,
            mono_us: 500,
        };
        let after = |wall: i64, mono: i64| Reading {
            wall_us: start.wall_us.wrapping_add_signed(wall),
            mono_us: start.mono_us.wrapping_add_signed(mono),
        };
        let anchor = Anchor(start);
        assert!(!anchor.moved(after(9_000_000, 9_000_000)));
        assert!(
            !anchor.moved(after(9_014_000, 9_000_000)),
            "5 ms and 1 ms a second"
        );
        assert!(anchor.moved(after(9_014_001, 9_000_000)));
        assert!(
            anchor.moved(after(-1_000_000, 1_000)),
            "an hour back would oversleep"
        );
        assert!(
            anchor.moved(after(3_600_000_000, 1_000)),
            "an hour ahead would fire all samples at once"
        );
        assert!(!anchor.moved(after(-4_000, 1_000)));
    }
}
