//! Bounds and deadlines of the aggregator and its collectors. The last part of a name that counts bytes or time is its unit,
//! before `MAX` or `MIN`: `US` for microseconds, `MS` for milliseconds.
//!
//! Invariant: nothing that comes from outside is stored, awaited or repeated without a bound from this file or from
//! [`rsoracle_proof::limits`]. The defaults of flags are in `flags/tables`, and the embedded exchange has bounds of its own.

pub use rsoracle_proof::limits::*;

/// Default TCP port of the control channel; `--control-port` overrides it.
pub const CONTROL_PORT: u16 = 8000;
/// Default TCP port of the data channel; `--data-port` overrides it.
pub const DATA_PORT: u16 = 8080;

/// Longest heartbeat (`--heartbeat`) in microseconds: one year.
pub const HEARTBEAT_US_MAX: u64 = 365 * ROUND_US_MAX;

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
/// Largest message of an exchange, in bytes. A larger one ends the connection.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Largest file of certificates, or of the key of a TLS server, in bytes. A larger one is refused.
pub const PEM_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Largest exchange certificate that is parsed, in bytes. A larger one counts as unreadable.
pub const CERTIFICATE_BYTES_MAX: usize = 64 * 1024;
/// Most rounds that `history` shows.
pub const ROUNDS_SHOWN_MAX: usize = 10_000;
/// Most files that are read from a directory of certificates; further ones are ignored.
pub const CERTIFICATE_FILES_MAX: usize = 1_000;

/// Timeout for a new connection's hello (control port) or preamble (data port), in milliseconds. Then the connection is closed.
pub const HELLO_MS_MAX: u64 = 1_000;
/// Timeout from the first byte of a later frame to its last, in milliseconds. Then the connection is closed.
pub const FRAME_MS_MAX: u64 = 1_000;
/// Pause between two pings on a control connection, in milliseconds.
pub const PING_MS: u64 = 5_000;
/// Longest silence of the other side of a control connection, in milliseconds. Then the connection is closed.
pub const SILENCE_MS_MAX: u64 = 15_000;
/// Most connections on one port that have not authenticated yet. Each one beyond that evicts another, usually the oldest.
pub const STRANGERS_MAX: usize = 256;
/// Most connections that one port accepts before the other sockets are served.
pub const ACCEPTS_PER_SWEEP: usize = 64;

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
/// How long before a round's start a collector turns to nothing else, in microseconds.
pub(crate) const ROUND_LEAD_US: u64 = 50_000;
/// Shortest time before the next instant in which a collector tries to connect to an aggregator, in microseconds.
pub(crate) const GAP_US_MIN: u64 = 5_000;
/// Ceiling of the backoff between attempts of a child to reach its parent, in milliseconds. Jitter can make it twice as long.
pub(crate) const UPLINK_NEAR_MS_MAX: u64 = 200;
/// The same for a collector that was started by hand.
pub(crate) const UPLINK_FAR_MS_MAX: u64 = 7_500;
/// A data connection that was idle for this many milliseconds is opened anew: what lies between may have forgotten it.
pub const DATA_IDLE_MS_MAX: u64 = 30_000;
/// A data connection of this age, in milliseconds, is replaced before the next answer: one whose packets are lost on the way is
/// otherwise noticed only after many minutes.
pub(crate) const DATA_AGE_MS_MAX: u64 = 60_000;
/// How long before an answer is expected its data connection is opened, in milliseconds.
pub(crate) const DATA_AHEAD_MS: u64 = 15_000;
/// Most rosters that a collector holds: the present one, and those that were handed down for later starts.
pub(crate) const ROSTERS_HELD_MAX: usize = 8;
/// How long `journal rotate` waits until an aggregator takes its request, in milliseconds. Then the request is withdrawn.
pub(crate) const ROTATE_WAIT_MS_MAX: u64 = 60_000;
/// How long it waits after that until the segment is closed, in milliseconds: the disk may take its time.
pub(crate) const ROTATE_DONE_MS_MAX: u64 = 10_000;
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
/// Longest slice of a blocking wait, in milliseconds. After each slice a collector looks at its tether and its aggregators.
pub const SLICE_MS: u64 = 100;
/// DNS lookup timeout, in milliseconds: as long as the system's resolver waits for one name server.
pub const RESOLVE_MS_MAX: u64 = 5_000;
/// DNS lookup timeout, in milliseconds, for a host whose last known address still works. After the timeout that address is used.
pub const RESOLVE_AGAIN_MS_MAX: u64 = 500;
/// Timeout of one TCP connection attempt to one address, in milliseconds. It is the longest wait that nothing can interrupt, but
/// for a collector's lookup of an aggregator's name between rounds.
pub const CONNECT_SLICE_MS: u64 = 800;
/// Timeout for the handshakes of the embedded exchange, for its farewell, and for its first line to its parent, in milliseconds.
pub const HANDSHAKE_MS_MAX: u64 = 5_000;
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
/// How long `doctor` listens after the first price, in milliseconds. It waits for the answer to its ping and for a newer time.
pub const LISTEN_MS_MAX: u64 = 3_000;
/// Largest offset between two clocks that agree, in microseconds. Beyond it a collector signs nothing, `doctor` reports this
/// machine's clock as wrong, and an aggregator names the collector.
pub const CLOCK_OFF_US_MAX: u64 = 1_000_000;
/// `doctor` warns of a certificate that expires in fewer days than this.
pub const CERTIFICATE_DAYS_MIN: i64 = 14;
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
/// After this many attempts to connect that a new round interrupted, the next attempt is not interrupted.
pub const CUT_SHORT_MAX: u32 = 2;
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
/// Number of different ages at which slots replace their exchange connections, so that neighbours do not reconnect together.
pub const CONNECTION_AGES: u64 = 49;
/// Divisor: the ages of two neighbouring slots differ by this fraction (1/100) of the longest age.
pub const CONNECTION_AGE_STEP: u64 = 100;
/// Shortest age at which a connection to an exchange is replaced, in microseconds (`--connection-age`).
pub const CONNECTION_AGE_US_MIN: u64 = 1_000_000;
/// Grace period for a child that was told to end, in milliseconds. Then it is killed.
pub const CHILD_END_MS_MAX: u64 = 200;

/// How far the system clock may diverge from the monotonic clock within a round, in microseconds ...
pub const CLOCK_PARTS_US_MAX: u64 = 5_000;
/// ... plus this many microseconds for every second of the round. Beyond that the clock was stepped, and the collector
/// abstains.
pub const CLOCK_PARTS_US_PER_S: u64 = 1_000;
/// Microseconds before an instant at which a stream is no longer read. What arrives later counts for the next sample.
pub const STREAM_QUIET_US: u64 = 1_500;
/// Microseconds before an instant from which no timed socket read is made: the kernel rounds timeouts up to whole ticks.
pub const QUIET_US: u64 = 20_000;

/// Longest line of a journal that `serve` passes on, in bytes. A longer one is counted and left out.
pub const SERVED_LINE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Pause between two looks at the journal, in milliseconds.
pub(crate) const JOURNAL_LOOK_MS: u64 = 5;
/// Bytes of the journal that are indexed before connections are served.
pub(crate) const INDEX_BYTES_PER_SWEEP: u64 = 16 * 1024 * 1024;
/// Most odd lines of a journal that are named in the log; all are counted.
pub(crate) const ODD_LINES_NAMED_MAX: u64 = 10;
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

/// Most sources of `follow`.
pub(crate) const FOLLOW_SOURCES_MAX: usize = 32;
/// Most connections of `follow`: it has one for each server and feed.
pub(crate) const FOLLOW_STREAMS_MAX: usize = 512;
/// What a report has besides its collectors' answers, in bytes at most.
pub(crate) const REPORT_BYTES: usize = 16 * 1024;
/// What it has of each collector besides the samples, in bytes at most.
pub(crate) const REPORT_BYTES_PER_SLOT: usize = 2 * 1024;
/// What it has of each sample, in bytes at most.
pub(crate) const REPORT_BYTES_PER_SAMPLE: usize = 128;
/// How long a round waits for the reports of further sources, in milliseconds after its first report and after its end.
pub const ROUND_WAIT_MS: u64 = 2_000;
/// Most rounds of a feed that wait. Beyond that, sources that are further ahead are not read.
pub(crate) const ROUNDS_OPEN_MAX: usize = 64;
/// Most rounds of a feed whose reports are kept after they were printed: a late one can show a lie.
pub(crate) const ROUNDS_KEPT_MAX: usize = 16;
/// Longest silence of a server that is followed, in milliseconds. It sends a comment every [`HEARTBEAT_MS`].
pub(crate) const SERVER_SILENCE_MS_MAX: u64 = 45_000;
/// Most bytes of one connection since its last new report, besides those of [`FOLLOW_LINES_IDLE_MAX`] lines. Then it is closed.
pub(crate) const FOLLOW_BYTES_IDLE_MAX: u64 = 4 * 1024 * 1024;
/// The same in lines as long as a report can be.
pub(crate) const FOLLOW_LINES_IDLE_MAX: u64 = 64;
/// Longest pause before a server that was lost is called again, in milliseconds, the first time ...
pub(crate) const FOLLOW_RETRY_FIRST_MS_MAX: u64 = 100;
/// ... the second time, after which it doubles (jitter can make it twice as long) ...
pub(crate) const FOLLOW_RETRY_MS_MIN: u64 = 250;
/// ... and at most.
pub(crate) const FOLLOW_RETRY_MS_MAX: u64 = 30_000;
/// A connection that lasted this long, in milliseconds, counts as a good one.
pub(crate) const FOLLOW_GOOD_MS: u64 = 30_000;
/// Most reports before the newest one that `follow --once` asks a source for, so that there is a round that all have.
pub(crate) const ONCE_BACK: u64 = 8;
/// Longest time of `follow --once`, in milliseconds.
pub(crate) const ONCE_MS_MAX: u64 = 20_000;
/// Bytes of a file that are read before the next source is.
pub(crate) const FOLLOW_FILE_BYTES: usize = 1024 * 1024;
/// Most files of one source's journal. Each further one begins where a report could not be got.
pub(crate) const JOURNAL_PARTS_MAX: usize = 1_000;

/// Longest line of a child's log that is passed on, in bytes. The rest of a longer line is dropped.
pub const LOG_LINE_BYTES_MAX: usize = 600;
/// Most lines that a collector logs within [`COMPLAINTS_MS`] about messages that it did not expect.
pub const COMPLAINTS_MAX: usize = 10;
/// Window of that limit, in milliseconds. What differs only in numbers is logged once in it.
pub const COMPLAINTS_MS: u64 = 600_000;
/// How long the end of a run waits for standard output to take the rest of a line, in milliseconds.
pub const OUTPUT_END_MS_MAX: u64 = 1_000;
/// Most sources or feeds that the display on a terminal has a line for. One more line counts the others.
pub const DISPLAY_LINES_MAX: usize = 20;

const _: () = assert!(
    CONNECT_SLICE_MS < 1_000,
    "a child must notice the end of its parent within a second"
);
const _: () = assert!(LEAD_MS_MIN * 1000 > QUIET_US);
const _: () = assert!(INTERVAL_US_MIN >= QUIET_US && ROUND_LEAD_US > QUIET_US);
const _: () = assert!(SERVED_LINE_BYTES_MAX < u32::MAX as usize);
const _: () = assert!(DATA_AHEAD_MS < DATA_IDLE_MS_MAX);
const _: () = assert!(CONNECTION_AGES < CONNECTION_AGE_STEP);
const _: () = assert!(RECONNECT_MS < RETRY_MS_MAX && RETRY_MS_MAX < AWAY_MS_MIN);
const _: () = assert!(CONNECT_MS_MAX + PROXY_MS_MAX + TLS_MS_MAX + UPGRADE_MS_MAX <= OPEN_MS_MAX);
