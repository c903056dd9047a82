//! The newest price of a stream, and its age.
//!
//! Invariant: the age of a price is at least the time since it arrived, whatever the exchange's clock or this machine's clock
//! says. The caller decides how old is too old.

use rsoracle_proof::reason::Miss;
use std::time::{Duration, Instant};

/// What is known of one of the symbols that a session watches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watched {
    /// The newest price, or the reason why the newest message about it had none.
    pub(super) newest: Result<StreamPrice, Miss>,
    /// Whether the exchange has refused it on this connection, for good.
    pub(super) refused: bool,
    /// When the first and the last of its prices came, since there was none for long or a new connection. The first was not
    /// stale: otherwise a market without trades would seem to speak whenever it is subscribed to.
    pub(super) spoke: Option<[Instant; 2]>,
    /// When the exchange refused it for a while, unless a price has come since.
    pub(super) put_off: Option<Instant>,
    /// How often a connection was replaced because of it.
    pub(super) missed: u32,
}

impl Watched {
    /// A symbol of which nothing is known.
    pub(super) const NEW: Watched = Watched {
        newest: Err(Miss::Stale),
        refused: false,
        spoke: None,
        put_off: None,
        missed: 0,
    };

    /// What is known of it on a new connection.
    pub(super) fn anew(&self) -> Watched {
        Watched {
            missed: self.missed,
            ..Watched::NEW
        }
    }

    /// Whether it has spoken, and then fallen silent for `long`, or was refused for a while, and that is over. Each new connection
    /// that it has cost doubles that time, and it must have spoken for as long before: in a market that trades now and then, a new
    /// connection is no remedy.
    pub(super) fn fell_silent(&self, long: Duration) -> bool {
        let long = long * (1 << self.missed.min(16));
        let silent = |[first, last]: [Instant; 2]| {
            last.elapsed() >= long && (self.missed == 0 || last - first >= long)
        };
        let over = |at: Instant| at.elapsed() >= long;
        self.spoke.is_some_and(silent) || self.put_off.is_some_and(over)
    }
}

/// The newest price that an exchange streamed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StreamPrice {
    /// The price.
    pub price: f64,
    /// The exchange's time of the price, in microseconds since the Unix epoch; `None` if it gives none.
    pub time_us: Option<u64>,
    /// When it arrived, by the monotonic clock. If it has no time of the exchange: the last moment before that at which
    /// nothing waited to be read.
    pub heard_at: Instant,
    /// The same moment by the system clock, in microseconds since the Unix epoch. Only this clock advances while the machine
    /// is suspended.
    pub heard_us: u64,
}

impl StreamPrice {
    /// Age at `now_us`, in microseconds: by the exchange's time, if there is one, but at least the time since the price
    /// arrived. A time ahead of this machine's clock counts like one that is behind it by as much.
    pub fn age_us(&self, now_us: u64) -> u64 {
        let by_time_us = now_us.abs_diff(self.time_us.unwrap_or(self.heard_us));
        by_time_us.max(self.here_us())
    }

    /// Age at `now_us` for the record of a sample, in microseconds; `None` if the exchange gives no time. If its time is ahead
    /// of this machine's clock, the age is the time since the price arrived.
    pub(crate) fn age_told_us(&self, now_us: u64) -> Option<u64> {
        let age_us = |time_us| now_us.saturating_sub(time_us).max(self.here_us());
        self.time_us.map(age_us)
    }

    fn here_us(&self) -> u64 {
        self.heard_at.elapsed().as_micros() as u64
    }

    /// Whether this price replaces `before`, which arrived earlier: it does, unless the exchange's times say that it is older.
    pub fn replaces(&self, before: &StreamPrice) -> bool {
        match (self.time_us, before.time_us) {
            (Some(own), Some(other)) => own >= other,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn quote(time_us: Option<u64>) -> StreamPrice {
        StreamPrice {
            price: 1.0,
            time_us,
            heard_at: Instant::now(),
            heard_us: 4_000_000,
        }
    }

    #[test]
    fn a_symbol_that_was_missed_before_falls_silent_only_after_it_has_spoken_all_the_time() {
        let s = Duration::from_secs;
        let silent = |missed, spoke: Option<[u64; 2]>, put_off: Option<u64>| {
            let at = |ago| Instant::now() - s(ago);
            let symbol = Watched {
                spoke: spoke.map(|ago| ago.map(at)),
                put_off: put_off.map(at),
                missed,
                ..Watched::NEW
            };
            symbol.fell_silent(s(60))
        };
        for (spoke, put_off, silences) in [
            (None, None, [false; 3]),
            (Some([200, 0]), None, [false; 3]),
            (Some([70, 70]), None, [true, false, false]),
            (Some([240, 130]), None, [true, false, false]),
            (Some([260, 130]), None, [true, true, false]),
            (Some([500, 250]), None, [true, true, true]),
            (None, Some(50), [false; 3]),
            (None, Some(70), [true, false, false]),
            (None, Some(130), [true, true, false]),
        ] {
            let silences_now = [0, 1, 2].map(|missed| silent(missed, spoke, put_off));
            assert_eq!(silences_now, silences, "{spoke:?} {put_off:?}");
        }
    }

    #[test]
    fn a_later_price_replaces_an_earlier_one_unless_its_time_is_older() {
        assert!(quote(Some(5)).replaces(&quote(Some(5))));
        assert!(!quote(Some(4)).replaces(&quote(Some(5))));
        assert!(quote(None).replaces(&quote(Some(5))) && quote(Some(1)).replaces(&quote(None)));
    }

    #[test]
    fn a_time_ahead_of_this_clock_is_no_younger_than_one_behind_it() {
        assert_eq!(quote(Some(1_000_000)).age_us(4_000_000), 3_000_000);
        assert_eq!(quote(Some(7_000_000)).age_us(4_000_000), 3_000_000);
    }

    #[test]
    fn the_age_of_a_price_is_at_least_the_time_since_it_arrived() {
        let mut old = quote(Some(24_000_000));
        old.heard_at = Instant::now() - Duration::from_secs(40);
        // The exchange's clock is 20 s ahead: by its time alone the price would be 20 s old.
        assert!(old.age_us(44_000_000) >= 40_000_000);
        assert!(old.age_told_us(10_000_000) >= Some(40_000_000));
        assert_eq!(quote(None).age_told_us(44_000_000), None);
        // While a machine is suspended only the system clock runs on.
        assert_eq!(quote(None).age_us(3_604_000_000), 3_600_000_000);
        assert!(quote(None).age_us(4_000_000) < 1_000_000);
    }
}
