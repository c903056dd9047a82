//! The bounds and deadlines of aggregator and collectors, by name, the unit last.
//!
//! Invariant: nothing that comes from outside is stored, awaited or repeated without a bound from this page.
//! What this page does not hold: defaults of flags (they stand in the tables of `flags`), how often a loop takes a turn
//! (beside the loop), and the embedded exchange's own bounds (beside its code).

pub use rsoracle_proof::limits::*;

/// Port of the control channel, unless `--control-port` says otherwise.
pub const CONTROL_PORT: u16 = 8000;
/// Port of the data channel, unless `--data-port` says otherwise.
pub const DATA_PORT: u16 = 8080;

/// Longest round from its first to its last instant: one day.
pub const ROUND_US_MAX: u64 = 86_400_000_000;
/// Shortest time from one round's start to the next.
pub const PERIOD_US_MIN: u64 = 100_000;
/// Least time that is left of a period for the answers, between the last sample and the end of the round.
pub const ANSWER_US_MIN: u64 = 10_000;
/// At the end of a period this part of it, one in so many, is kept free to publish in before the next round is announced ...
pub const CLEAR_PART: u64 = 20;
/// ... but no more than this.
pub const CLEAR_US_MAX: u64 = 100_000;
/// Longest heartbeat of published prices: a year.
pub const HEARTBEAT_US_MAX: u64 = 365 * ROUND_US_MAX;

/// Longest decimal text of a price.
pub const PRICE_TEXT_BYTES_MAX: usize = 64;
/// Deepest nesting of JSON that is looked at.
pub const JSON_DEPTH_MAX: usize = 32;
/// Largest message of an exchange; a larger one costs it the connection.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Largest file of certificates or of a key.
pub const PEM_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Largest certificate of an exchange that is looked into.
pub const CERTIFICATE_BYTES_MAX: usize = 64 * 1024;
/// Most rounds that `history` shows.
pub const ROUNDS_SHOWN_MAX: usize = 10_000;
/// Most files that are read of a directory of certificates.
pub const CERTIFICATE_FILES_MAX: usize = 1_000;

/// A stranger on the control port has this long for its hello, on the data port for its preamble.
pub const HELLO_MS_MAX: u64 = 1_000;
/// A frame that has begun has this long to be whole.
pub const FRAME_MS_MAX: u64 = 1_000;
/// Connections on one port that have not proved anything yet; one more displaces the oldest of them.
pub const STRANGERS_MAX: usize = 256;
/// Connections taken from one port's queue before the others get their turn.
pub const ACCEPTS_PER_SWEEP: usize = 64;

/// Fewest milliseconds between the announcement of a round and its start.
pub const LEAD_MS_MIN: u64 = 40;
/// And so much for each collector: all of them must have woken, checked a signature and encrypted a request by then.
pub const LEAD_US_PER_COLLECTOR: u64 = 300;
/// Most milliseconds between the announcement of a round and its start.
pub const LEAD_MS_MAX: u64 = 2_000;
/// A collector refuses a round that starts later than this from now.
pub const START_AHEAD_US_MAX: u64 = 10_000_000;
/// Every blocking wait of a collector is cut into slices of this length, to look at the control connection.
pub const SLICE_MS: u64 = 100;
/// A name is asked for so long.
pub const RESOLVE_MS_MAX: u64 = 2_500;
/// One attempt to connect to one address; the longest wait that cannot be cut.
pub const CONNECT_SLICE_MS: u64 = 800;
/// A handshake with a peer of this program has this long.
pub const HANDSHAKE_MS_MAX: u64 = 5_000;
/// The TCP connection to an exchange has this long, over all its addresses.
pub const CONNECT_MS_MAX: u64 = 5_000;
/// A proxy has this long for its whole answer to CONNECT ...
pub const PROXY_MS_MAX: u64 = 5_000;
/// ... whose head is at most so long.
pub const PROXY_HEAD_BYTES_MAX: usize = 8 * 1024;
/// The TLS handshake with an exchange has this long.
pub const TLS_MS_MAX: u64 = 5_000;
/// The websocket upgrade has this long.
pub const UPGRADE_MS_MAX: u64 = 5_000;
/// All of these together.
pub const OPEN_MS_MAX: u64 = 20_000;
/// A first price that is young enough is read for this long; then another connection is tried.
pub const FIRST_PRICE_MS_MAX: u64 = 5_000;
/// `doctor` listens so long after the first price, for an answer to its ping and for a newer time.
pub const LISTEN_MS_MAX: u64 = 3_000;
/// `doctor` takes this machine's clock for wrong when it is off by more than this.
pub const CLOCK_OFF_US_MAX: u64 = 1_000_000;
/// `doctor` warns of a certificate that ends in fewer days.
pub const CERTIFICATE_DAYS_MIN: i64 = 14;
/// Pauses between two attempts to reach an exchange double up to this, and are jittered to at most twice as long.
pub const RETRY_MS_MAX: u64 = 16_000;
/// An address that an exchange turns away (HTTP 403, 418, 451, a ban) is not used again for this long, at least.
pub const AWAY_MS_MIN: u64 = 600_000;
/// One that it limits without saying for how long waits so long.
pub const LIMITED_MS: u64 = 60_000;
/// A stream that has said no price for so many times the age at which one is stale is opened anew.
pub const RESUBSCRIBE_AGES: u32 = 2;
/// Longest time that an exchange's `retryAfter` is obeyed without asking again: three days, Binance's longest ban.
pub const RETRY_AFTER_MS_MAX: u64 = 3 * 86_400_000;
/// A pause whose end has gone by for longer than this when it is asked for is told by a clock that is wrong.
pub const RETRY_LATE_MS_MAX: u64 = 1_000;
/// The first attempt after a connection that stood comes within this time, or the exchange's floor if that is shorter.
pub const FIRST_RETRY_MS_MAX: u64 = 1_000;
/// The floor of the embedded exchange; to an aggregator in a crowd, the pause between two attempts.
pub const RECONNECT_MS: u64 = 50;
/// A connection that gave a price and stood for so many of its exchange's shortest pauses was a good one: the next is tried for
/// at once. After a shorter one pauses grow on, else an exchange that hangs up every second would be called every second.
pub const GOOD_PAUSES: u32 = 10;
/// After so many attempts to connect that rounds cut short, one is not cut short.
pub const CUT_SHORT_MAX: u32 = 2;
/// When too few collectors are left for a quorum, those that still try have this long to say why they fail.
pub const LAST_WORDS_MS_MAX: u64 = 1_000;
/// A collector that ended is started again after this pause, which doubles with every end ...
pub const RESTART_MS_MIN: u64 = 500;
/// ... up to this ...
pub const RESTART_MS_MAX: u64 = 60_000;
/// ... and is short again once the collector has given a price in so many rounds on end.
pub const RESTART_ROUNDS_GOOD: u32 = 3;
/// So many slots replace the connection to their exchange at ages of their own ...
pub const CONNECTION_AGES: u64 = 49;
/// ... each this part of the longest age, one in so many, before the slot below it.
pub const CONNECTION_AGE_STEP: u64 = 100;
/// Shortest age at which a connection to an exchange is replaced.
pub const CONNECTION_AGE_US_MIN: u64 = 1_000_000;
/// A child that was told to end has this long before it is killed.
pub const CHILD_END_MS_MAX: u64 = 200;

/// The system clock may part from the monotonic clock by this much within a round ...
pub const CLOCK_PARTS_US_MAX: u64 = 5_000;
/// ... plus this much per second of it.
pub const CLOCK_PARTS_US_PER_S: u64 = 1_000;
/// From here to the target a stream is not read any more: what comes then counts for the next sample.
pub const STREAM_QUIET_US: u64 = 1_500;
/// From here to the target there are no timed socket reads (the kernel rounds them up by whole ticks).
pub const QUIET_US: u64 = 20_000;

/// Longest line of a child's log that is passed on.
pub const LOG_LINE_BYTES_MAX: usize = 600;
/// Of what a stream says and should not, so many lines are logged ...
pub const COMPLAINTS_MAX: u32 = 10;
/// ... within so long.
pub const COMPLAINTS_MS: u64 = 10_000;
/// Lines on the terminal's live display; further collectors are summed up in one line.
pub const DISPLAY_LINES_MAX: usize = 20;

const _: () = assert!(
    CONNECT_SLICE_MS < 1_000,
    "a collector must notice the end of its aggregator within a second"
);
const _: () = assert!(LEAD_MS_MIN * 1000 > QUIET_US && LEAD_MS_MAX * 1000 < START_AHEAD_US_MAX);
const _: () = assert!(COLLECTORS_MAX as u64 * LEAD_US_PER_COLLECTOR <= LEAD_MS_MAX * 1000);
const _: () = assert!(INTERVAL_US_MIN >= QUIET_US);
const _: () =
    assert!(LEAD_MS_MIN * 1000 + PERIOD_US_MIN / CLEAR_PART + ANSWER_US_MIN < PERIOD_US_MIN);
const _: () = assert!(CONNECTION_AGES < CONNECTION_AGE_STEP);
const _: () = assert!(RECONNECT_MS < RETRY_MS_MAX && RETRY_MS_MAX < AWAY_MS_MIN);
const _: () = assert!(CONNECT_MS_MAX + PROXY_MS_MAX + TLS_MS_MAX + UPGRADE_MS_MAX <= OPEN_MS_MAX);
