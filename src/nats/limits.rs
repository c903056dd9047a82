//! Bounds of what NATS servers send, and of how long they are waited for. The last part of a name that counts bytes or time is its
//! unit.

/// Longest line of a server, in bytes. A longer one ends the connection.
pub const LINE_BYTES_MAX: usize = 32 * 1024;
/// Most bytes of a message's headers that are kept: their end, where a stream's own are.
pub const HEADERS_BYTES_MAX: usize = 8 * 1024;
/// Longest message that the relay reads of its stream, in bytes: as long as `serve` passes a line on.
pub(crate) const MESSAGE_BYTES_MAX: usize = crate::system::limits::SERVED_LINE_BYTES_MAX;
/// Bytes that wait for the server to take them, beyond which nothing more is published.
pub(crate) const OUT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most servers of a cluster that are tried.
pub(crate) const SERVERS_MAX: usize = 32;
/// Timeout for a server's greeting, and for its answer to CONNECT, in milliseconds each.
pub(crate) const HELLO_MS_MAX: u64 = 5_000;
/// After this silence of a server, in milliseconds, it is asked whether it is alive ...
pub(crate) const PING_MS: u64 = 10_000;
/// ... and after this one the connection is closed.
pub(crate) const SILENCE_MS_MAX: u64 = 30_000;
/// Timeout for an answer of JetStream, in milliseconds. Then the connection is closed, and everything is asked anew on the next.
pub(crate) const ANSWER_MS_MAX: u64 = 5_000;
/// Pause before a stream that has no further report yet is asked again, in milliseconds. It doubles from the one ...
pub(crate) const LOOK_MS_MIN: u64 = 10;
/// ... to the other.
pub(crate) const LOOK_MS_MAX: u64 = 5_000;
/// How often a stream in which reports are missing is asked again, each time on another server of a cluster. Each server answers
/// from its own replica of the stream. With nats-server 2.9, a server that was killed may keep other messages than the rest from then on.
pub(crate) const GAP_ASKS: u32 = 4;
/// How many sequences further back reading begins then: on a replica that lacks messages, later ones have smaller sequences.
pub(crate) const GAP_BACK: u64 = 256;
/// Longest pause before a server is called again that was lost, in milliseconds, after the first failure ...
pub(crate) const RETRY_FIRST_MS_MAX: u64 = 100;
/// ... the second, after which it doubles (jitter can make it twice as long) ...
pub(crate) const RETRY_MS_MIN: u64 = 250;
/// ... and at most.
pub(crate) const RETRY_MS_MAX: u64 = 8_000;
