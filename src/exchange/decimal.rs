//! Decimal text to price.
//!
//! Invariant: a price is a finite number from PRICE_MIN to PRICE_MAX. There is no default and no
//! rounding but the one of IEEE 754: `str::parse::<f64>` is correctly rounded, so equal text gives equal bits.
//! What this module does not do: guess. `NaN`, `inf`, hexadecimal, signs, blanks and thousands separators are refused.

use crate::system::limits::PRICE_TEXT_BYTES_MAX;
use rsoracle_proof::price::is_price;

/// Why a text is no price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPrice {
    /// Not of the form `digits[.digits][e[+-]digits]`.
    NotDecimal,
    /// A decimal number, but outside PRICE_MIN to PRICE_MAX (zero and negative ones among them).
    OutOfBounds,
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

/// The middle of two prices, added as the decimal numbers that they are and rounded once, to the nearest value. What has more
/// digits than fit into 128 bits is refused.
pub fn middle(one: &str, other: &str) -> Result<f64, BadPrice> {
    parse(one)?;
    parse(other)?;
    let sum = || {
        let ((a, a_exponent), (b, b_exponent)) = (digits(one)?, digits(other)?);
        let exponent = a_exponent.min(b_exponent);
        let scaled = |digits: u128, from: i32| {
            let scale = 10u128.checked_pow(from.checked_sub(exponent)?.unsigned_abs())?;
            digits.checked_mul(scale)
        };
        let sum = scaled(a, a_exponent)?.checked_add(scaled(b, b_exponent)?)?;
        Some(format!(
            "{}e{}",
            sum.checked_mul(5)?,
            exponent.checked_sub(1)?
        ))
    };
    parse(&sum().ok_or(BadPrice::NotDecimal)?)
}

/// A decimal text without a sign as a whole number of powers of ten.
fn digits(text: &str) -> Option<(u128, i32)> {
    let (number, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}").parse().ok()?;
    let exponent: i32 = exponent.parse().ok()?;
    Some((digits, exponent.checked_sub(fraction.len() as i32)?))
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
    fn a_middle_is_rounded_once() {
        for (one, other, middle_of_them) in [
            ("61837.63", "61837.64", 61837.635),
            ("81263.97", "81263.99000000", 81263.98),
            ("87231.42", "87231.42", 87231.42),
            ("1E-8", "3e-8", 2e-8),
            ("1e15", "0.000000000002", 500000000000000.0),
            ("2683.8", "2683.81", 2683.805),
        ] {
            assert_eq!(middle(one, other), Ok(middle_of_them), "{one} {other}");
            assert_eq!(middle(other, one), Ok(middle_of_them));
        }
        let long = "0.1234567890123456789012345678901234567890";
        for (one, other) in [
            ("0", "1"),
            ("1", "x"),
            ("1", "-1"),
            (long, "1"),
            ("1e99999999999", "1"),
        ] {
            assert!(middle(one, other).is_err() && middle(other, one).is_err());
        }
    }
}
