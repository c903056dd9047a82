//! What all connections share: the reading of the clocks, the prices, the keep-alive periods and the faults.
//!
//! Invariant: within one sweep every connection gets the same price of a base. The prices are looked up once per sweep, in
//! [`Venue::turn`], however many connections and subscriptions there are.

use super::ExchangeSettings;
use super::fault::Fault;
use super::tape::{Part, Tape, run_of};
use std::rc::Rc;
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

/// The last trade of one base: a price of the tape and its time.
#[derive(Clone, Debug, Default)]
pub struct Trade {
    /// The price, with eight decimals.
    pub price: String,
    /// Increases by one from one price of this base to the next.
    pub number: u64,
    /// The time of the trade, in microseconds since the Unix epoch; with `--rate`, the current time.
    pub since_us: u64,
}

/// What all connections share: the prices, the keep-alive periods and the faults.
pub struct Venue {
    tape: Tape,
    parts: Vec<Part>,
    bases: Rc<[String]>,
    /// The last trade of each part.
    trades: Vec<Trade>,
    /// The number of sweeps so far in which a price changed.
    changes: u64,
    speed: f64,
    faults: Vec<Fault>,
    keep_alive: Option<Duration>,
    rate: Option<u64>,
    started: Instant,
}

impl Venue {
    /// Starts to play the tape at `now`.
    pub fn new(tape: Tape, settings: &ExchangeSettings, now: Now) -> Venue {
        let parts = tape.parts();
        let mut venue = Venue {
            tape,
            bases: parts.iter().map(|part| part.base.clone()).collect(),
            trades: vec![Trade::default(); parts.len()],
            parts,
            changes: 0,
            speed: settings.speed,
            faults: settings.faults.clone(),
            keep_alive: settings.keep_alive_us.map(Duration::from_micros),
            rate: settings.rate,
            started: now.at,
        };
        venue.turn(now);
        venue
    }

    /// Plays the tape up to `now`.
    pub fn turn(&mut self, now: Now) {
        let elapsed = now.at.saturating_duration_since(self.started);
        let run = run_of(elapsed, self.speed);
        let mut changed = false;
        for (part, trade) in self.parts.iter().zip(&mut self.trades) {
            let played = self.tape.at(part, run);
            if played.number != trade.number {
                trade.number = played.number;
                trade.price = part.scale(played.price);
                changed = true;
            }
            let age_us = match self.rate {
                Some(_) => 0,
                None => (played.since.as_micros() as f64 / self.speed) as u64,
            };
            // A part that begins in the middle of a price has that price since the exchange was opened.
            let age_us = age_us.min(elapsed.as_micros() as u64);
            trade.since_us = now.unix_us.saturating_sub(age_us);
        }
        self.changes += u64::from(changed);
    }

    /// Describes the tape for the log.
    pub(crate) fn wares(&self) -> String {
        let scaled = match self.bases.len() - 1 {
            0 => String::new(),
            more => format!("; {more} more bases at scaled prices"),
        };
        format!(
            "{}, {} prices in {:.1} s, played at {} times their speed{scaled}",
            self.tape.symbol(),
            self.tape.count(),
            self.tape.length_ms() as f64 / 1000.0,
            self.speed
        )
    }

    /// The bases that are played, the tape's own first. A base's place in this list is the number of its part.
    pub fn bases(&self) -> &Rc<[String]> {
        &self.bases
    }

    /// The part that prices a symbol of Binance's WS-API. A base is sold for USDT and USDC, since Binance trades both, and
    /// the tape's own base for the tape's own quote currency too.
    pub fn part_of(&self, symbol: &str) -> Option<usize> {
        let base = symbol.strip_suffix("USDT").or(symbol.strip_suffix("USDC"));
        let sold = base.and_then(|base| self.bases.iter().position(|own| own == base));
        sold.or((symbol == self.tape.symbol()).then_some(0))
    }

    /// The number of sweeps so far in which a price changed.
    pub fn changes(&self) -> u64 {
        self.changes
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

    /// The last trade of a part.
    pub fn trade(&self, part: usize) -> &Trade {
        &self.trades[part]
    }
}
