//! What all connections share: the reading of the clocks, the prices, the keep-alive periods and the faults.
//!
//! Invariant: at one instant every connection gets the same price.

use super::ExchangeSettings;
use super::fault::Fault;
use super::tape::{Tape, run_of};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One reading of the monotonic and the system clock.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The monotonic clock, for deadlines and the tape.
    pub at: Instant,
    /// The exchange's time, in microseconds since the Unix epoch.
    pub unix_us: u64,
}

impl Now {
    /// Reads the clocks.
    pub fn read() -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        Now {
            at: Instant::now(),
            unix_us: unix.map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX)),
        }
    }
}

impl Now {
    /// The same reading with the exchange's time moved forward by `us` microseconds, or back if negative.
    pub fn ahead(self, us: i64) -> Now {
        Now {
            unix_us: self.unix_us.saturating_add_signed(us),
            ..self
        }
    }
}

/// One trade: a price of the tape and its time.
#[derive(Clone, Copy, Debug)]
pub struct Trade<'a> {
    /// The price, with eight decimals.
    pub price: &'a str,
    /// The number of this price since the tape started to play, from 1.
    pub number: u64,
    /// The time of the trade, in microseconds since the Unix epoch; with `--rate`, the current time.
    pub since_us: u64,
}

/// What all connections share: the prices, the keep-alive periods and the faults.
pub struct Venue {
    tape: Tape,
    speed: f64,
    faults: Vec<Fault>,
    keep_alive: Option<Duration>,
    rate: Option<u64>,
    started: Instant,
}

impl Venue {
    /// Starts to play the tape at `now`.
    pub fn new(tape: Tape, settings: &ExchangeSettings, now: Now) -> Venue {
        Venue {
            tape,
            speed: settings.speed,
            faults: settings.faults.clone(),
            keep_alive: settings.keep_alive_us.map(Duration::from_micros),
            rate: settings.rate,
            started: now.at,
        }
    }

    /// Describes the tape for the log.
    pub(crate) fn wares(&self) -> String {
        format!(
            "{}, {} prices in {:.1} s, played at {} times their speed",
            self.tape.symbol(),
            self.tape.count(),
            self.tape.length_ms() as f64 / 1000.0,
            self.speed
        )
    }

    /// The faults to inject.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// A keep-alive period: `--keep-alive`, or else the exchange's documented one.
    pub fn period(&self, documented_s: u64) -> Duration {
        self.keep_alive.unwrap_or(Duration::from_secs(documented_s))
    }

    /// A keep-alive timeout: three times `--keep-alive`, or else the exchange's documented one.
    pub fn limit(&self, documented_s: u64) -> Duration {
        let limit = self.keep_alive.map(|period| period.saturating_mul(3));
        limit.unwrap_or(Duration::from_secs(documented_s))
    }

    /// Price messages per second on a stream; `None` to send each price when the tape reaches it.
    pub fn rate(&self) -> Option<u64> {
        self.rate
    }

    /// The symbol of the tape.
    pub fn symbol(&self) -> &str {
        self.tape.symbol()
    }

    /// The last trade at `now`.
    pub fn trade(&self, now: Now) -> Trade<'_> {
        let elapsed = now.at.saturating_duration_since(self.started);
        let played = self.tape.at(run_of(elapsed, self.speed));
        let age_us = match self.rate {
            Some(_) => 0,
            None => (played.since.as_micros() as f64 / self.speed) as u64,
        };
        Trade {
            price: played.price,
            number: played.number,
            since_us: now.unix_us.saturating_sub(age_us),
        }
    }
}
