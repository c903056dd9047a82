//! Bounds of reports and rosters. A name that counts bytes or time ends with its unit, before `MAX` or `MIN`.

/// Most collectors of one aggregator; also most slots of all feeds of a roster, each counted for each feed.
pub const COLLECTORS_MAX: u16 = 4096;
/// Most feeds of a roster.
pub const FEEDS_MAX: usize = 64;
/// Most samples in one round.
pub const SAMPLES_MAX: u32 = 1000;
/// Shortest interval from one sample to the next, in microseconds.
pub const INTERVAL_US_MIN: u64 = 20_000;
/// Longest interval from one sample to the next, in microseconds: one hour.
pub const INTERVAL_US_MAX: u64 = 3_600_000_000;
/// Fewest valid samples from which a collector makes an average, in percent of a round's samples. With fewer it abstains.
pub const VALID_PERCENT_MIN: u32 = 80;
/// Longest name of a feed, such as `BTC/USD`, in bytes.
pub const FEED_BYTES_MAX: usize = 16;
/// Longest name of a source, such as `binance:BTCUSDC`, in bytes.
pub const SOURCE_BYTES_MAX: usize = 32;
/// Largest limit on the spread of prices, in millionths of the price: all of it.
pub const PPM_MAX: u32 = 1_000_000;
/// Lowest valid price.
pub const PRICE_MIN: f64 = 1e-12;
/// Highest valid price.
pub const PRICE_MAX: f64 = 1e15;
/// Largest configuration or roster file, in bytes.
pub const TOML_BYTES_MAX: usize = 1024 * 1024;
/// Timeout for an exchange's reply, in milliseconds after the sample's instant. Then the sample has no price.
pub const REPLY_MS_MAX: u64 = 1_000;
/// Latest time and greatest number in a report, in microseconds since the Unix epoch: 2^53 - 1, up to which JavaScript's numbers
/// are exact.
pub const TIME_US_MAX: u64 = (1 << 53) - 1;
/// Longest round, from its first instant to its last, and longest period, in microseconds: one day.
pub const ROUND_US_MAX: u64 = 86_400_000_000;
/// Shortest period, in microseconds from one start to the next.
pub const PERIOD_US_MIN: u64 = 100_000;
/// Shortest closing time, in microseconds from the last instant to the end of the round. Schedules that leave less are refused.
pub const CLOSING_US_MIN: u64 = 20_000;
/// Longest closing time, in microseconds.
pub const CLOSING_US_MAX: u64 = 1_500_000;
/// Shortest time at the end of a round in which answers travel and no reply is awaited any more, in microseconds.
pub const TRAVEL_US_MIN: u64 = 10_000;
/// Divisor: this fraction of a period (1/20), at its end, is clear of rounds, so that reports are written before the next start.
pub const CLEAR_PART: u64 = 20;
/// Least clear time, in microseconds.
pub const CLEAR_US_MIN: u64 = 5_000;
/// Longest clear time, in microseconds.
pub const CLEAR_US_MAX: u64 = 100_000;
/// How far in the future a report's round may start, in microseconds. A later start means a wrong clock, and the report is
/// refused.
pub const FUTURE_US_MAX: u64 = 5_000_000;

const _: () = assert!(VALID_PERCENT_MIN > 50 && VALID_PERCENT_MIN <= 100);
