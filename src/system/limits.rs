//! Bounds and deadlines that several rooms share. Those of one room stand in its own `limits.rs` or, if only one file needs them, at
//! the head of that file. The last part of a name that counts bytes or time is its unit, before `MAX` or `MIN`: `US` for
//! microseconds, `MS` for milliseconds.
//!
//! Invariant: nothing that comes from outside is stored, awaited or repeated without such a bound, or one from
//! [`rsoracle_proof::limits`]. The defaults of flags are in `flags`, and the embedded exchange has bounds of its own.

pub use rsoracle_proof::limits::*;

/// Largest message of an exchange, in bytes. A larger one ends the connection.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Largest file of certificates, or of the key of a TLS server, in bytes. A larger one is refused.
pub const PEM_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Longest silence of the other side of a control connection, in milliseconds. Then the connection is closed.
pub const SILENCE_MS_MAX: u64 = 15_000;
/// Most connections that one port accepts before the other sockets are served.
pub const ACCEPTS_PER_SWEEP: usize = 64;

/// A data connection that was idle for this many milliseconds is opened anew: what lies between may have forgotten it.
pub const DATA_IDLE_MS_MAX: u64 = 30_000;
/// Longest slice of a blocking wait, in milliseconds. After each slice a collector looks at its tether and its aggregators.
pub const SLICE_MS: u64 = 100;
/// DNS lookup timeout, in milliseconds: as long as the system's resolver waits for one name server.
pub const RESOLVE_MS_MAX: u64 = 5_000;
/// DNS lookup timeout, in milliseconds, for a host whose last known address still works. After the timeout that address is used.
pub const RESOLVE_AGAIN_MS_MAX: u64 = 500;
/// Timeout for the handshakes of the embedded exchange, for its farewell, and for its first line to its parent, in milliseconds.
pub const HANDSHAKE_MS_MAX: u64 = 5_000;
/// Largest offset between two clocks that agree, in microseconds. Beyond it a collector signs nothing, `doctor` reports this
/// machine's clock as wrong, and an aggregator names the collector.
pub const CLOCK_OFF_US_MAX: u64 = 1_000_000;

/// How far the system clock may diverge from the monotonic clock within a round, in microseconds ...
pub const CLOCK_PARTS_US_MAX: u64 = 5_000;
/// ... plus this many microseconds for every second of the round. Beyond that the clock was stepped, and the collector
/// abstains.
pub const CLOCK_PARTS_US_PER_S: u64 = 1_000;
/// Microseconds before an instant from which no timed socket read is made: the kernel rounds timeouts up to whole ticks.
pub const QUIET_US: u64 = 20_000;

/// Longest line of a journal that `serve` passes on, in bytes. A longer one is counted and left out.
pub const SERVED_LINE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Pause between two looks at the journal, in milliseconds.
pub(crate) const JOURNAL_LOOK_MS: u64 = 5;
/// Most odd lines of a journal that are named in the log; all are counted.
pub(crate) const ODD_LINES_NAMED_MAX: u64 = 10;

/// Most lines that a collector logs within [`COMPLAINTS_MS`] about messages that it did not expect.
pub const COMPLAINTS_MAX: usize = 10;
/// Window of that limit, in milliseconds. What differs only in numbers is logged once in it.
pub const COMPLAINTS_MS: u64 = 600_000;
/// How long the end of a run waits for standard output to take the rest of a line, in milliseconds.
pub const OUTPUT_END_MS_MAX: u64 = 1_000;

const _: () = assert!(INTERVAL_US_MIN >= QUIET_US);
const _: () = assert!(SERVED_LINE_BYTES_MAX < u32::MAX as usize);
