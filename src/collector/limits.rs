//! Bounds and deadlines of a collector, besides those that it shares with other rooms.

pub use crate::exchange::limits::*;

/// How long before a round's start a collector turns to nothing else, in microseconds.
pub(crate) const ROUND_LEAD_US: u64 = 50_000;
/// Shortest time before the next instant in which a collector tries to connect to an aggregator, in microseconds.
pub(crate) const GAP_US_MIN: u64 = 5_000;
/// Ceiling of the backoff between attempts of a child to reach its parent, in milliseconds. Jitter can make it twice as long.
pub(crate) const UPLINK_NEAR_MS_MAX: u64 = 200;
/// The same for a collector that was started by hand.
pub(crate) const UPLINK_FAR_MS_MAX: u64 = 7_500;
/// A data connection of this age, in milliseconds, is replaced before the next answer: one whose packets are lost on the way is
/// otherwise noticed only after many minutes.
pub(crate) const DATA_AGE_MS_MAX: u64 = 60_000;
/// How long before an answer is expected its data connection is opened, in milliseconds.
pub(crate) const DATA_AHEAD_MS: u64 = 15_000;
/// Most rosters that a collector holds: the present one, and those that were handed down for later starts.
pub(crate) const ROSTERS_HELD_MAX: usize = 8;
/// How far beyond a round's start a collector's mark moves, in microseconds.
pub(crate) const MARK_AHEAD_US: u64 = 10_000_000;
/// How long before a round's start the mark moves at the latest, in microseconds: the disk may take its time. If the start is
/// within [`MARK_AHEAD_US`] of the answer before, it moves right after that.
pub(crate) const MARK_EARLY_US: u64 = 2_000_000;
/// How long a new process waits for the locks of a predecessor, in milliseconds.
pub(crate) const LOCK_MS_MAX: u64 = 1_000;
/// Most terms that a mark tells apart: those of 64 of the largest rosters. Beyond that those that were signed longest ago are
/// forgotten.
pub(crate) const MARK_TERMS_MAX: usize = 64 * FEEDS_MAX;
/// After this many attempts to connect that a new round interrupted, the next attempt is not interrupted.
pub const CUT_SHORT_MAX: u32 = 2;
/// Number of different ages at which slots replace their exchange connections, so that neighbours do not reconnect together.
pub const CONNECTION_AGES: u64 = 49;
/// Divisor: the ages of two neighbouring slots differ by this fraction (1/100) of the longest age.
pub const CONNECTION_AGE_STEP: u64 = 100;
/// Microseconds before an instant at which a stream is no longer read. What arrives later counts for the next sample.
pub const STREAM_QUIET_US: u64 = 1_500;

const _: () = assert!(ROUND_LEAD_US > QUIET_US);
const _: () = assert!(DATA_AHEAD_MS < DATA_IDLE_MS_MAX);
const _: () = assert!(CONNECTION_AGES < CONNECTION_AGE_STEP);
