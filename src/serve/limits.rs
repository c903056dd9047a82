//! Bounds and deadlines of `serve`, besides those that it shares with other rooms.

pub use crate::system::limits::*;

/// Bytes of the journal that are indexed before connections are served.
pub(crate) const INDEX_BYTES_PER_SWEEP: u64 = 16 * 1024 * 1024;
/// Reports of one tile.
pub const TILE_REPORTS: u64 = 256;
/// Longest head of a request to `serve`, in bytes.
pub const REQUEST_HEAD_BYTES_MAX: usize = 8 * 1024;
/// Most header fields of such a request.
pub const REQUEST_FIELDS_MAX: usize = 64;
/// Timeout from a connection's beginning, or from the first byte of a later request, to the end of its head, in milliseconds.
pub(crate) const REQUEST_MS_MAX: u64 = 5_000;
/// How long a connection may stay open between two requests, in milliseconds.
pub(crate) const KEEP_ALIVE_MS_MAX: u64 = 75_000;
/// How long a client may take nothing of an answer, in milliseconds. Then the connection is closed.
pub(crate) const STALL_MS_MAX: u64 = 20_000;
/// Longest time for a whole answer that is no stream, in milliseconds.
pub(crate) const ANSWER_MS_MAX: u64 = 120_000;
/// Longest `wait` of a request, in microseconds.
pub const WAIT_US_MAX: u64 = 60_000_000;
/// How long a client that was refused may take to read why, in milliseconds.
pub(crate) const LEAVE_MS_MAX: u64 = 1_000;
/// Bytes that are handed to the system in one write.
pub(crate) const WRITE_BYTES_MAX: usize = 64 * 1024;
/// Most writes to one connection before the others are served.
pub(crate) const WRITES_PER_SWEEP: usize = 4;
/// Most connections of `serve`. The limit on open files (`ulimit -n`) can make it fewer.
pub const SERVE_CONNECTIONS_MAX: usize = 8_192;
/// Open files that `serve` keeps for itself.
pub(crate) const SERVE_FILES_SPARE: u64 = 24;
/// After this many milliseconds without anything sent, a stream is sent a comment or a ping.
pub(crate) const HEARTBEAT_MS: u64 = 15_000;
/// How long a stream may be behind the journal once it has been level with it, in milliseconds. Then it is ended.
pub(crate) const BEHIND_MS_MAX: u64 = 30_000;
/// Pause between two looks whether a stream's client has left, in milliseconds.
pub(crate) const STREAM_LOOK_MS: u64 = 1_000;
/// Largest message of a websocket's client, in bytes. A larger one ends the connection.
pub(crate) const CLIENT_MESSAGE_BYTES_MAX: usize = 4 * 1024;
/// Largest file that `serve` passes on as it is (roster, proofs), in bytes.
pub const PASSED_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
