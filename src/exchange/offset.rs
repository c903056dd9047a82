//! How far this machine's clock is off an exchange's, judged by the times that the exchange has sent.
//!
//! | kind of source | time, besides the `Date` of the answer that opens the WebSocket |
//! |---|---|
//! | `binance`, `binance-book` | the answer to the request `time`, sent every 30 s |
//! | `binance-stream` | trades |
//! | `coinbase` | heartbeats, every second; tickers |
//! | `kraken` | answers to the subscription and to pings; tickers |
//! | `bitstamp` | books, every second; trades |
//! | `bitfinex` | every message, and answers to pings |
//! | `gemini`, `crypto.com`, `okx`, `bybit` | every price |
//!
//! A `Date` has whole seconds, and bounds the offset from both sides. A message may have waited on its way, and the price in it
//! may be old. It is only certain that the exchange's clock was past the message's time when the message arrived. So one message
//! can prove that this machine's clock is behind. Only a fresh message (sent as it was made, or later than the price before it)
//! can show that both clocks agree. A message shows that this machine's clock is ahead only where there is no `Date`.
//! Of several symbols, one whose times are wrong must not cost the others their prices: by prices, the clocks disagree only if
//! those of every symbol say so that has shown a time.
//! Invariant: pure functions; the clocks are read elsewhere.

use super::Said;
use crate::exchange::limits::CLOCK_OFF_US_MAX;
use crate::system::span::span;

/// The largest offset with which clocks agree.
const MOST_US: i64 = CLOCK_OFF_US_MAX as i64;

/// What to do about a clock that is off.
pub(crate) const ADVICE: &str = "set it: run an NTP client (chrony, ntpd or systemd-timesyncd) and check that it is synchronized; if only this source reports it, the exchange's clock is wrong";

/// The offset of this machine's clock from an exchange's. All numbers are microseconds by which this machine's clock is ahead.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offset {
    /// By the `Date` of the newest connection: the least offset that fits it.
    dated_us: Option<i64>,
    /// By the messages since: if there are several symbols, by those that are about none of them.
    pub(crate) told_us: Option<i64>,
    symbols: Vec<Told>,
}

/// What the prices of one symbol show.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    /// The time of the newest price, in microseconds since the Unix epoch; 0 if there was none.
    before_us: u64,
    /// The offset, if there are several symbols.
    us: Option<i64>,
}

/// The least offset that fits a `Date` in an answer that came at `now_us` to what was asked at `asked_us`.
pub(crate) fn dated_us(date_us: u64, asked_us: u64, now_us: u64) -> i64 {
    let most_us = ahead_us(now_us, date_us);
    // A date has no parts of a second.
    let least_us = ahead_us(asked_us, date_us).saturating_sub(1_000_000);
    most_us.min(0).max(least_us)
}

fn ahead_us(now_us: u64, time_us: u64) -> i64 {
    now_us.wrapping_sub(time_us) as i64
}

impl Offset {
    /// Begins anew for so many symbols, with the offset that the answer that opened a connection showed.
    pub(super) fn new(dated_us: Option<i64>, symbols: usize) -> Offset {
        Offset {
            dated_us,
            told_us: None,
            symbols: vec![Told::default(); symbols],
        }
    }

    /// Takes the time in a message that was read at `now_us`.
    pub(super) fn hear(&mut self, said: &Said, now_us: u64) {
        let several = self.symbols.len() > 1;
        let (time_us, fresh, told_us) = match said {
            Said::Price {
                symbol, time_us, ..
            } => {
                let Some((us, told)) = time_us.zip(self.symbols.get_mut(*symbol)) else {
                    return;
                };
                // The first price may be old. One with a later time after it is fresh. A time that is nonsense counts until the
                // next price only.
                let before = std::mem::replace(&mut told.before_us, us);
                let told_us = match several {
                    true => &mut told.us,
                    false => &mut self.told_us,
                };
                (us, before != 0 && before < us, told_us)
            }
            Said::Alive { time_us: Some(us) } => (*us, true, &mut self.told_us),
            _ => return,
        };
        let ahead = ahead_us(now_us, time_us);
        if ahead < -MOST_US || fresh {
            // Of times that were on their way for long, the least offset is the closest to the true one.
            let known = told_us.filter(|_| ahead > MOST_US);
            *told_us = Some(known.map_or(ahead, |known| known.min(ahead)));
        }
    }

    /// The offset that this machine's clock is judged by; `None` if the exchange has not shown its time yet.
    pub(crate) fn us(&self) -> Option<i64> {
        let behind = self.told_us.filter(|us| *us < -MOST_US);
        let told = self.symbols.iter().map(|told| told.us);
        let told = told.chain([self.told_us]).flatten();
        let told_us = behind.or(told.min_by_key(|us| us.unsigned_abs()));
        let certain = told_us.filter(|us| *us <= MOST_US);
        certain.or(self.dated_us).or(told_us)
    }

    /// Whether the clocks agree; `None` if the exchange has not shown its time yet.
    pub(crate) fn agrees(&self) -> Option<bool> {
        self.us().map(|us| words(us).is_none())
    }

    /// What a collector says about that.
    pub(crate) fn remark(&self) -> String {
        match self.us().map(words) {
            Some(Some(off)) => format!("{off}; signing nothing meanwhile; {ADVICE}"),
            Some(None) => "this machine's clock agrees with the exchange's; signing".to_owned(),
            None => "the exchange has not shown its time since the start, or since the clock was set; signing nothing until it does".to_owned(),
        }
    }
}

/// The words for an offset that is too large; `None` if the clocks agree within a second.
pub(crate) fn words(ahead_us: i64) -> Option<String> {
    let off_us = ahead_us.unsigned_abs();
    let way = if ahead_us > 0 { "ahead of" } else { "behind" };
    (off_us > CLOCK_OFF_US_MAX).then(|| {
        format!(
            "this machine's clock is {} {way} the exchange's",
            span(off_us)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_790_000_000_000_000;
    const S: i64 = 1_000_000;

    /// The message that the exchange sent when this machine's clock was ahead by so much, or a price of that age.
    fn alive(ahead_us: i64) -> Said {
        let time_us = Some(NOW.wrapping_sub(ahead_us as u64));
        Said::Alive { time_us }
    }

    fn price(ahead_us: i64) -> Said {
        Said::price(0, 1.0, Some(NOW.wrapping_sub(ahead_us as u64)))
    }

    fn after(offset: Offset, said: &[Said]) -> Option<i64> {
        let mut offset = offset;
        said.iter().for_each(|said| offset.hear(said, NOW));
        offset.us()
    }

    #[test]
    fn a_date_bounds_the_offset_from_both_sides() {
        // The answer was made at any moment of the second that begins with its date.
        for (asked_us, now_us, dated) in [
            (0, 0, 0),
            (900_000, 990_000, 0),
            (-10_000, 50_000, 0),
            (1_200_000, 1_250_000, 200_000),
            (2_100_000, 2_150_000, 1_100_000),
            (-1_900_000, -1_800_000, -1_800_000),
            // It took long, so the date may be old.
            (100_000, 4_000_000, 0),
            // The clock was set back meanwhile.
            (9_000_000, 1_000_000, 8_000_000),
        ] {
            let at = |us: i64| NOW.saturating_add_signed(us);
            assert_eq!(dated_us(NOW, at(asked_us), at(now_us)), dated, "{asked_us}");
        }
        assert_eq!(dated_us(NOW, 0, 0), -(NOW as i64));
        dated_us(u64::MAX, 0, u64::MAX);
        dated_us(0, u64::MAX / 2 + 2, 5);
    }

    #[test]
    fn one_message_proves_a_clock_that_is_behind_and_none_that_is_ahead() {
        let dated = |us| Offset::new(Some(us), 1);
        let agreed = || dated(0);
        let unknown = || Offset::new(None, 1);
        let table: [(Offset, &[Said], Option<i64>); 16] = [
            (unknown(), &[], None),
            (unknown(), &[Said::ALIVE, Said::price(0, 1.0, None)], None),
            (unknown(), &[price(S / 10)], None),
            (unknown(), &[price(9 * S), price(S / 10)], Some(S / 10)),
            (unknown(), &[price(S / 10), price(S / 10)], None),
            (unknown(), &[alive(S / 10)], Some(S / 10)),
            (
                unknown(),
                &[alive(9 * S), alive(8 * S), alive(12 * S)],
                Some(8 * S),
            ),
            (unknown(), &[alive(9 * S), alive(-S)], Some(-S)),
            (unknown(), &[price(-2 * S)], Some(-2 * S)),
            // One price from the future, and two ordinary ones.
            (agreed(), &[price(-3_600 * S), price(2)], Some(-3_600 * S)),
            (agreed(), &[price(-3_600 * S), price(2), price(1)], Some(1)),
            // A stream that stopped for a while, and goes on with what had waited.
            (agreed(), &[alive(9 * S), alive(5 * S)], Some(0)),
            (agreed(), &[alive(-2 * S)], Some(-2 * S)),
            (agreed(), &[alive(-2 * S), alive(-S)], Some(-S)),
            (dated(3 * S), &[alive(9 * S)], Some(3 * S)),
            (dated(3 * S), &[alive(S)], Some(S)),
        ];
        for (index, (offset, said, us)) in table.into_iter().enumerate() {
            assert_eq!(after(offset, said), us, "row {index}");
        }
    }

    #[test]
    fn of_several_symbols_all_must_show_that_the_clocks_disagree() {
        let of = |symbol, ahead: i64| {
            Said::price(symbol, 1.0, Some(NOW.wrapping_sub(ahead.cast_unsigned())))
        };
        let table: [(Option<i64>, &[Said], Option<i64>); 9] = [
            (None, &[of(0, -9 * S)], Some(-9 * S)),
            (Some(0), &[of(0, -9 * S)], Some(-9 * S)),
            (Some(0), &[of(0, -9 * S), of(1, 2), of(1, 1)], Some(1)),
            (Some(0), &[of(1, 2), of(1, 1), of(0, -9 * S)], Some(1)),
            (None, &[of(0, -9 * S), of(1, -8 * S)], Some(-8 * S)),
            (None, &[of(0, -9 * S), alive(S)], Some(S)),
            (None, &[of(1, 2), of(1, 1), alive(-9 * S)], Some(-9 * S)),
            // One that comes late shows nothing while another is in time.
            (None, &[of(0, 9 * S), of(0, 8 * S)], Some(8 * S)),
            (None, &[of(0, 9 * S), of(0, 8 * S), alive(S)], Some(S)),
        ];
        for (index, (dated_us, said, us)) in table.into_iter().enumerate() {
            assert_eq!(after(Offset::new(dated_us, 2), said), us, "row {index}");
        }
    }

    #[test]
    fn a_collector_says_what_it_waits_for_and_how_far_its_clock_is_off() {
        for (offset, agrees, says) in [
            (
                Offset::default(),
                None,
                "has not shown its time since the start, or since the clock was set; ",
            ),
            (
                Offset::new(Some(S), 1),
                Some(true),
                "agrees with the exchange's; signing",
            ),
            (
                Offset::new(Some(-3 * S), 1),
                Some(false),
                "3.0 s behind the exchange's; signing nothing meanwhile; set it: run an NTP",
            ),
        ] {
            assert_eq!(offset.agrees(), agrees);
            assert!(offset.remark().contains(says), "{}", offset.remark());
        }
    }

    #[test]
    fn clocks_agree_within_a_second_and_beyond_it_words_say_which_way() {
        for (us, says) in [
            (0, None),
            (S, None),
            (-S, None),
            (S + 1, Some("1.0 s ahead of the exchange's")),
            (-3 * S, Some("3.0 s behind the exchange's")),
            (3_600 * S, Some("60 min ahead of")),
            (i64::MIN, Some("behind the exchange's")),
            (i64::MAX, Some("ahead of the exchange's")),
        ] {
            let words = words(us);
            assert_eq!(words.is_some(), says.is_some(), "{us}");
            assert!(words.unwrap_or_default().contains(says.unwrap_or_default()));
        }
    }
}
