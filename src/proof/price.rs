//! Which numbers are valid prices, and how a price is shown to people.
//!
//! Invariant: a price is a finite number from [`PRICE_MIN`] to [`PRICE_MAX`].

use crate::limits::{PRICE_MAX, PRICE_MIN};
use alloc::string::String;

/// Whether `value` is a valid price.
pub fn is_price(value: f64) -> bool {
    (PRICE_MIN..=PRICE_MAX).contains(&value)
}

/// A price for people: at least two decimals, and at least seven significant digits.
/// Software should read the exact value from `--json`.
pub fn text(value: f64) -> String {
    if !value.is_finite() || value <= 0.0 {
        return format!("{value}");
    }
    let decimals = (6 - exponent(value)).clamp(2, 18) as usize;
    format!("{value:.decimals$}")
}

/// The power of ten of a number's first digit. (The core library has no logarithm.)
pub fn exponent(value: f64) -> i32 {
    let scientific = format!("{value:e}");
    let exponent = scientific.split_once('e').map(|(_, exponent)| exponent);
    exponent.and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::prelude::v1::*;

    #[test]
    fn people_see_cents_and_small_prices_keep_their_digits() {
        assert_eq!(text(87231.4235), "87231.42");
        assert_eq!(text(0.013619), "0.01361900");
        assert_eq!(text(1.0), "1.000000");
        assert_eq!(text(1e15), "1000000000000000.00");
    }
}
