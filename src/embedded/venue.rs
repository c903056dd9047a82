//! What all connections share: the clock reading, the prices, the faults and the count of weight.
//!
//! Invariant: at one instant every connection gets the same price, and one count of weight holds for all, as if all
//! came from one address.
//! What this module does not do: refuse anyone whose weight is used up.

use super::fault::{Fault, upgrade_refusal};
use super::tape::{Tape, run_of};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// One reading of both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For deadlines and the tape.
    pub at: Instant,
    /// What the exchange says the time is, in microseconds since the Unix epoch.
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
    /// The same on a clock that is so far ahead.
    pub fn ahead(self, us: i64) -> Now {
        Now {
            unix_us: self.unix_us.saturating_add_signed(us),
            ..self
        }
    }
}

/// What all connections share: the prices, the faults and the count of weight.
pub struct Venue {
    tape: Tape,
    speed: f64,
    faults: Vec<Fault>,
    started: Instant,
    /// The minute that `weight_used` counts, since the Unix epoch.
    minute: u64,
    weight_used: u32,
}

impl Venue {
    /// The tape begins to play.
    pub fn new(tape: Tape, speed: f64, faults: Vec<Fault>, now: Now) -> Venue {
        Venue {
            tape,
            speed,
            faults,
            started: now.at,
            minute: 0,
            weight_used: 0,
        }
    }

    /// What is sold here, for the log.
    pub fn wares(&self) -> String {
        format!(
            "{}, {} prices in {:.1} s, played at {} times their speed",
            self.tape.symbol(),
            self.tape.count(),
            self.tape.length_ms() as f64 / 1000.0,
            self.speed
        )
    }

    /// The faults to be injected.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// The HTTP status that upgrades are refused with, if they are.
    pub fn refusal(&self) -> Option<u16> {
        upgrade_refusal(&self.faults)
    }

    /// The symbol there is.
    pub fn symbol(&self) -> &str {
        self.tape.symbol()
    }

    /// Its price now.
    pub fn price(&self, now: Now) -> &str {
        let elapsed = now.at.saturating_duration_since(self.started);
        self.tape.price_at(run_of(elapsed, self.speed))
    }

    /// Counts weight, and says how much was used in this minute of the clock.
    pub fn spend(&mut self, weight: u32, now: Now) -> u32 {
        let minute = now.unix_us / 60_000_000;
        if minute != self.minute {
            (self.minute, self.weight_used) = (minute, 0);
        }
        self.weight_used = self.weight_used.saturating_add(weight);
        self.weight_used
    }
}
