//! The bounds that a report and a roster are held to, by name, the unit last.

/// Most collectors of one aggregator.
pub const COLLECTORS_MAX: u16 = 4096;
/// Most samples in one round.
pub const SAMPLES_MAX: u32 = 1000;
/// Shortest distance of two samples.
pub const INTERVAL_US_MIN: u64 = 20_000;
/// Longest distance of two samples: one hour.
pub const INTERVAL_US_MAX: u64 = 3_600_000_000;
/// Fewest valid samples, in percent of a round's samples, from which a collector makes an average.
pub const VALID_PERCENT_MIN: u32 = 80;
/// Bytes of a feed's name, such as `BTC/USD`.
pub const FEED_BYTES_MAX: usize = 16;
/// Bytes of a source's name, such as `binance:BTCUSDC`.
pub const SOURCE_BYTES_MAX: usize = 32;
/// Lowest price that is believed.
pub const PRICE_MIN: f64 = 1e-12;
/// Highest price that is believed.
pub const PRICE_MAX: f64 = 1e15;
/// Largest configuration or roster file.
pub const TOML_BYTES_MAX: usize = 1024 * 1024;
/// An exchange's reply to a sample is waited for this long.
pub const REPLY_MS_MAX: u64 = 1_000;
/// After the last reply could have come, observations have this long to arrive.
pub const CLOSE_MS_MAX: u64 = 500;
/// A report of a round that starts further ahead than this is refused: somebody's clock is wrong.
pub const FUTURE_US_MAX: u64 = 5_000_000;

const _: () = assert!(VALID_PERCENT_MIN > 50 && VALID_PERCENT_MIN <= 100);
