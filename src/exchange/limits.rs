//! Bounds of what exchanges and proxies send, and how long they are waited for. Other clients of servers share some of them.

pub use crate::system::limits::*;

/// Longest price as decimal text, in bytes. A longer one is refused.
pub const PRICE_TEXT_BYTES_MAX: usize = 64;
/// How far apart best bid and best ask may be to say a price, as a part of their middle, for every kind of source. Of the 27
/// markets in our recordings, the 25 that people trade in are at most 1.6 % wide, and those of BTC and ETH at most 0.01 %.
pub(crate) const QUOTE_WIDTH_MAX: f64 = 0.02;
/// Deepest nesting of JSON that the reader accepts. Deeper text is refused.
pub const JSON_DEPTH_MAX: usize = 32;
/// Most JSON members and items of one message whose positions are recorded. A message with a price has fewer before its price.
pub const JSON_SPANS_MAX: usize = 56;
/// Most items of one JSON list that are recorded. The first level of an order book is the best one.
pub const JSON_ITEMS_MAX: u8 = 8;
/// Longest id of a request to an exchange, in bytes (Binance's rule).
pub(crate) const ID_BYTES_MAX: usize = 36;

/// Largest exchange certificate that is parsed, in bytes. A larger one counts as unreadable.
pub const CERTIFICATE_BYTES_MAX: usize = 64 * 1024;
/// Most files that are read from a directory of certificates; further ones are ignored.
pub const CERTIFICATE_FILES_MAX: usize = 1_000;

/// Timeout of one TCP connection attempt to one address, in milliseconds. It is the longest wait that nothing can interrupt, but
/// for a collector's lookup of an aggregator's name between rounds.
pub const CONNECT_SLICE_MS: u64 = 800;
/// Timeout for the TCP connection to an exchange, in milliseconds, over all its addresses.
pub const CONNECT_MS_MAX: u64 = 5_000;
/// Timeout for a proxy's whole answer to CONNECT, in milliseconds.
pub const PROXY_MS_MAX: u64 = 5_000;
/// Longest head of an HTTP request or answer, in bytes. A longer answer ends the attempt; a longer request is refused with 431.
pub const HTTP_HEAD_BYTES_MAX: usize = 8 * 1024;
/// Most bytes that are read of the body of a refusal.
pub const BODY_BYTES_MAX: usize = 2 * 1024;
/// How long that body is waited for, in milliseconds.
pub const BODY_MS_MAX: u64 = 500;
/// TLS handshake timeout, in milliseconds.
pub const TLS_MS_MAX: u64 = 5_000;
/// WebSocket upgrade timeout, in milliseconds.
pub const UPGRADE_MS_MAX: u64 = 5_000;
/// Timeout for all phases of opening a connection to an exchange together, in milliseconds.
pub const OPEN_MS_MAX: u64 = 20_000;
/// Timeout for a first price that is not stale, on a new connection, in milliseconds. Then another connection is tried.
pub const FIRST_PRICE_MS_MAX: u64 = 5_000;
/// Pause in milliseconds before a first price is requested again, after an answer without one.
pub const FIRST_PRICE_AGAIN_MS: u64 = 1_000;
/// Ceiling of the doubling backoff between attempts to reach an exchange, in milliseconds. Jitter can make a pause twice as
/// long.
pub const RETRY_MS_MAX: u64 = 16_000;
/// Minimum backoff in milliseconds after an exchange turned this address away (HTTP 403, 418 or 451, or a ban). Jitter can
/// make it twice as long.
pub const AWAY_MS_MIN: u64 = 600_000;
/// Backoff in milliseconds after a rate-limit answer that names no delay. Jitter can make it twice as long.
pub const LIMITED_MS: u64 = 60_000;
/// After this many milliseconds without a byte, not even a heartbeat, an exchange no longer counts as alive. A sample that is
/// missing then gets that as its reason.
pub const SILENT_MS: u64 = 10_000;
/// A stream without a price for this many times its staleness age is reconnected.
pub const RESUBSCRIBE_AGES: u32 = 2;
/// Longest backoff that an exchange's `retryAfter` can impose, in milliseconds: three days, Binance's longest ban.
pub const RETRY_AFTER_MS_MAX: u64 = 3 * 86_400_000;
/// Tolerance for the end of a `retryAfter` that lies in the past, in milliseconds. An end that is further past shows that
/// one of the clocks is wrong; it is ignored, and the default backoff applies.
pub const RETRY_LATE_MS_MAX: u64 = 1_000;
/// Longest backoff before the first attempt to reconnect, in milliseconds, unless the exchange's minimum backoff is shorter.
pub const FIRST_RETRY_MS_MAX: u64 = 1_000;
/// A short pause, in milliseconds: the minimum backoff of the embedded exchange, a collector's first pause between attempts to
/// reach an aggregator, and its nap when it waits for the end of a round without a connection to its exchange.
pub const RECONNECT_MS: u64 = 50;
/// A connection counts as good if it gave a price and lasted this many times the exchange's minimum backoff. Only a good
/// connection resets the backoff: otherwise an exchange that hangs up every second would be called every second.
pub const GOOD_PAUSES: u32 = 10;

const _: () = assert!(
    CONNECT_SLICE_MS < 1_000,
    "a child must notice the end of its parent within a second"
);
const _: () = assert!(RECONNECT_MS < RETRY_MS_MAX && RETRY_MS_MAX < AWAY_MS_MIN);
const _: () = assert!(CONNECT_MS_MAX + PROXY_MS_MAX + TLS_MS_MAX + UPGRADE_MS_MAX <= OPEN_MS_MAX);
