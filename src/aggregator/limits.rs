//! Bounds and deadlines of the aggregator, besides those that it shares with other rooms.

pub use crate::system::limits::*;

/// Timeout for a new connection's hello (control port) or preamble (data port), in milliseconds. Then the connection is closed.
pub const HELLO_MS_MAX: u64 = 1_000;
/// Timeout from the first byte of a later frame to its last, in milliseconds. Then the connection is closed.
pub const FRAME_MS_MAX: u64 = 1_000;
/// Pause between two pings on a control connection, in milliseconds.
pub const PING_MS: u64 = 5_000;
/// Most connections on one port that have not authenticated yet. Each one beyond that evicts another, usually the oldest.
pub const STRANGERS_MAX: usize = 256;

/// Shortest time from handing down a roster to the first start that it holds for, in milliseconds. A round begins as long before
/// its start for the aggregator.
pub const LEAD_MS_MIN: u64 = 40;
/// The same time grows with the roster: at least this many microseconds for each collector, since all of them must wake up,
/// read all keys and encrypt a request before the start.
pub const LEAD_US_PER_COLLECTOR: u64 = 2_000;
/// Longest such time, in milliseconds.
pub const LEAD_MS_MAX: u64 = 2_000;
/// How far ahead of the aggregator's clock a sample's instant or an answer's round may be, in microseconds.
pub const AHEAD_US_MAX: u64 = 1_000_000;
/// When too few collectors are left for a quorum, the others have this many milliseconds to say why they fail. Then the
/// aggregator stops waiting for them.
pub const LAST_WORDS_MS_MAX: u64 = 1_000;
/// First backoff before an ended collector is restarted, in milliseconds. Every further end doubles it. Jitter can halve it.
pub const RESTART_MS_MIN: u64 = 500;
/// Minimum of the second backoff, in milliseconds. Jitter can halve it. The half is the longest pause that an exchange requires
/// between two connections, since a new process does not know when the one before it connected.
pub const RESTART_AGAIN_MS_MIN: u64 = 10_000;
/// Ceiling of that backoff, in milliseconds.
pub const RESTART_MS_MAX: u64 = 60_000;
/// A collector that gave a price in this many consecutive rounds starts again at the first backoff.
pub const RESTART_ROUNDS_GOOD: u32 = 3;
/// Grace period for a child that was told to end, in milliseconds. Then it is killed.
pub const CHILD_END_MS_MAX: u64 = 200;

/// Longest line of a child's log that is passed on, in bytes. The rest of a longer line is dropped.
pub const LOG_LINE_BYTES_MAX: usize = 600;
/// Most sources or feeds that the display on a terminal has a line for. One more line counts the others.
pub const DISPLAY_LINES_MAX: usize = 20;

const _: () = assert!(LEAD_MS_MIN * 1000 > QUIET_US);
