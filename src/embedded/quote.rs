//! The content of a price message: the tape's price as the last trade, and a best bid and best ask around it.
//!
//! Invariant: prices stay decimal text or whole numbers, and the middle of bid and ask is exactly the price. Text that a
//! fault puts in place of a price is passed on unchanged. The dialects write the messages.

use rsoracle_proof::utc::utc_text;

/// Number of decimals of a price on the tape.
const DECIMALS: usize = 8;
/// One cent, in units of the last decimal: the distance of bid and ask from the price, unless a thousandth of the price is
/// less.
const CENT: i64 = 1_000_000;

/// One market at one instant, from which a dialect writes its message.
#[derive(Clone, Debug)]
pub struct MarketData {
    /// The channel that the message is for.
    pub channel: &'static str,
    /// The market, as the dialect spells it.
    pub symbol: String,
    /// The subscription's number on its connection, from 0.
    pub number: u64,
    /// Whether the client asked for a time in every message.
    pub stamps: bool,
    /// Whether this is the first price message of the subscription.
    pub first: bool,
    /// Increases from one price message of a symbol on this connection to the next.
    pub serial: u64,
    /// The last price, as decimal text in the dialect's form.
    pub last: String,
    /// Best bid, likewise.
    pub bid: String,
    /// Best ask, likewise.
    pub ask: String,
    /// The time of the trade at this price, in microseconds since the Unix epoch.
    pub trade_us: u64,
    /// The exchange's time, in microseconds since the Unix epoch.
    pub now_us: u64,
}

impl MarketData {
    /// The trade's time in milliseconds since the Unix epoch.
    pub(crate) fn trade_ms(&self) -> u64 {
        self.trade_us / 1_000
    }

    /// The exchange's time in milliseconds since the Unix epoch.
    pub(crate) fn now_ms(&self) -> u64 {
        self.now_us / 1_000
    }
}

/// Best bid and best ask at the same distance from a price. Text that is not a decimal number is returned as both.
pub fn around(price: &str) -> (String, String) {
    let Some(units) = units(price) else {
        return (price.to_owned(), price.to_owned());
    };
    let step = (units.abs() / 1_000).min(CENT);
    (text_of(units - step), text_of(units + step))
}

/// The text of a number of units of the eighth decimal.
pub(super) fn text_of(units: i64) -> String {
    let sign = if units < 0 { "-" } else { "" };
    let one = 10u64.pow(DECIMALS as u32);
    let (whole, part) = (units.unsigned_abs() / one, units.unsigned_abs() % one);
    format!("{sign}{whole}.{part:0DECIMALS$}")
}

/// The value of a text with eight decimals, in units of the last decimal; `None` for any other text.
pub(super) fn units(text: &str) -> Option<i64> {
    let (whole, part) = text.split_once('.')?;
    if part.len() != DECIMALS {
        return None;
    }
    let units: i64 = format!("{whole}{part}").parse().ok()?;
    (units.abs() < i64::MAX / 2).then_some(units)
}

/// Removes trailing zeros from decimal text, but keeps the first `decimals_min` decimals if there are that many.
pub fn short(text: &str, decimals_min: usize) -> &str {
    let Some(point) = text.find('.') else {
        return text;
    };
    let kept = text.trim_end_matches('0').len();
    let least = decimals_min.saturating_add(point + 1).min(text.len());
    text[..kept.max(least)].trim_end_matches('.')
}

/// An instant in UTC, to the microsecond: `2026-11-22T10:30:09.000123Z`.
pub(crate) fn utc_us_text(unix_us: u64) -> String {
    let ms = utc_text(unix_us);
    format!("{}{:03}Z", ms.trim_end_matches('Z'), unix_us % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bid_and_ask_stand_a_cent_from_the_price_in_exact_decimals() {
        for (price, bid, ask) in [
            ("87232.01000000", "87232.00000000", "87232.02000000"),
            ("87231.99999999", "87231.98999999", "87232.00999999"),
            ("1.00000000", "0.99900000", "1.00100000"),
            ("0.00001050", "0.00001049", "0.00001051"),
            ("0.00000001", "0.00000001", "0.00000001"),
            ("-5.00000000", "-5.00500000", "-4.99500000"),
            ("-0.50000000", "-0.50050000", "-0.49950000"),
            ("NaN", "NaN", "NaN"),
            ("", "", ""),
            ("1e400", "1e400", "1e400"),
            ("1.5", "1.5", "1.5"),
        ] {
            assert_eq!(around(price), (bid.to_owned(), ask.to_owned()), "{price}");
        }
        let absurd = format!("{}.00000000", "9".repeat(11));
        assert_eq!(around(&absurd).0, absurd);
    }

    #[test]
    fn zeros_at_the_end_are_cut_as_the_dialect_does() {
        for (text, decimals_min, cut) in [
            ("87232.01000000", 8, "87232.01000000"),
            ("87232.01000000", 1, "87232.01"),
            ("87232.00000000", 1, "87232.0"),
            ("87230.00000000", 0, "87230"),
            ("87232.10000000", 0, "87232.1"),
            ("100", 1, "100"),
            ("1.500", usize::MAX, "1.500"),
        ] {
            assert_eq!(short(text, decimals_min), cut);
        }
    }

    #[test]
    fn a_time_has_six_decimals() {
        assert_eq!(
            utc_us_text(1_790_358_564_077_009),
            "2026-09-25T17:49:24.077009Z"
        );
    }
}
