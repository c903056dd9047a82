//! Decimal text to price, and back to text for people.
//!
//! Invariant: a price is a finite number from [`PRICE_MIN`] to [`PRICE_MAX`]. There is no default and no
//! rounding but the one of IEEE 754: `str::parse::<f64>` is correctly rounded, so equal text gives equal bits.
//! What this module does not do: guess. `NaN`, `inf`, hexadecimal, signs, blanks and thousands separators are refused.

use crate::limits::{PRICE_MAX, PRICE_MIN, PRICE_TEXT_BYTES_MAX};

/// Why a text is no price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPrice {
    /// Not of the form `digits[.digits][e[+-]digits]`.
    NotDecimal,
    /// A decimal number, but outside [`PRICE_MIN`] to [`PRICE_MAX`] (zero and negative ones among them).
    OutOfBounds,
}

/// Whether `value` may stand as a price.
pub fn is_price(value: f64) -> bool {
    (PRICE_MIN..=PRICE_MAX).contains(&value)
}

/// Reads the decimal text of a price, such as `87232.01000000` or `9.2E-7`.
pub fn parse(text: &str) -> Result<f64, BadPrice> {
    if text.len() > PRICE_TEXT_BYTES_MAX {
        return Err(BadPrice::NotDecimal);
    }
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    if !is_decimal(unsigned) {
        return Err(BadPrice::NotDecimal);
    }
    let value: f64 = text.parse().map_err(|_| BadPrice::NotDecimal)?;
    if is_price(value) {
        Ok(value)
    } else {
        Err(BadPrice::OutOfBounds)
    }
}

/// `digits[.digits][(e|E)[+-]digits]`
fn is_decimal(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, Some(exponent)),
        None => (text, None),
    };
    let whole = match number.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(number),
    };
    whole && exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)))
}

/// A price for people: at least two decimals, and at least seven significant digits.
/// Software reads the exact value from `--json` instead.
pub fn text(value: f64) -> String {
    if !value.is_finite() || value <= 0.0 {
        return format!("{value}");
    }
    let whole_digits = value.log10().floor() as i32 + 1;
    let decimals = (7 - whole_digits).clamp(2, 18) as usize;
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_text_is_read_to_the_nearest_value() {
        for (text, value) in [
            ("87232.01000000", 87232.01),
            ("0.01361900", 0.013619),
            ("1", 1.0),
            ("9.2E-7", 9.2e-7),
            ("1e+5", 1e5),
            ("000.5", 0.5),
        ] {
            assert_eq!(
                parse(text).unwrap().to_bits(),
                f64::to_bits(value),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_price_is_refused_and_never_defaulted() {
        for text in [
            "", " ", "NaN", "nan", "inf", "Infinity", "abc", "1,000", "1_000", "0x10", "+5", " 5",
            "5 ", ".5", "5.", "1e", "1e+", "--1", "1.2.3", "५",
        ] {
            assert_eq!(parse(text), Err(BadPrice::NotDecimal), "{text:?}");
        }
        for text in [
            "0", "0.0", "-1", "-0.01", "1e400", "1e-400", "1e16", "1e-13", "-1e400",
        ] {
            assert_eq!(parse(text), Err(BadPrice::OutOfBounds), "{text:?}");
        }
        assert_eq!(parse(&"1".repeat(65)), Err(BadPrice::NotDecimal));
    }

    #[test]
    fn people_see_cents_and_small_prices_keep_their_digits() {
        assert_eq!(text(87231.4235), "87231.42");
        assert_eq!(text(0.013619), "0.01361900");
        assert_eq!(text(1.0), "1.000000");
        assert_eq!(text(1e15), "1000000000000000.00");
    }
}
