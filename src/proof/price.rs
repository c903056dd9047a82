//! Which numbers are valid prices, and how a number is written: exactly, and for people.
//!
//! Invariant: a price is a finite number from [`PRICE_MIN`] to [`PRICE_MAX`].

use crate::limits::{PRICE_MAX, PRICE_MIN};
use alloc::string::{String, ToString};

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

/// A number's exact text: the fewest decimal digits that read back as the same number, without exponent. Of several such texts
/// it is the nearest, and of two equally near ones the one with an even last digit. Python and JavaScript choose the same digits.
pub fn exact(value: f64) -> String {
    let mut text = value.to_string();
    let decimals = text
        .rsplit_once('.')
        .map_or(0, |(_, decimals)| decimals.len());
    // Where two texts are equally near, Rust rounds up. That happens if the number has exactly one decimal more than the text,
    // a 5, and so exactly that many binary places.
    let scale = f64::from_bits((1024 + decimals as u64) << 52);
    if decimals > 0 && value * scale % 2.0 == 1.0 {
        let last = text.pop().expect("it has decimals");
        let even = char::from(last as u8 & !1);
        text.push(even);
        if text.parse() != Ok(value) {
            text.pop();
            text.push(last);
        }
    }
    text
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

    /// The nearest text with this many decimals, of two equally near ones the even one: cut from the number's exact decimals.
    fn rounded(value: f64, decimals: usize) -> String {
        let all = format!("{value:.1100}");
        let (kept, rest) = all.split_at(all.find('.').unwrap() + 1 + decimals);
        let tie = rest.starts_with('5') && rest[1..].bytes().all(|digit| digit == b'0');
        let up = if tie {
            !kept.bytes().last().unwrap().is_multiple_of(2)
        } else {
            rest >= "5"
        };
        let mut digits: Vec<u8> = kept.bytes().collect();
        for digit in digits
            .iter_mut()
            .rev()
            .filter(|digit| **digit != b'.')
            .take_while(|_| up)
        {
            match digit {
                b'9' => *digit = b'0',
                _ => {
                    *digit += 1;
                    break;
                }
            }
        }
        String::from_utf8(digits).unwrap()
    }

    #[test]
    fn of_two_shortest_texts_that_are_equally_near_the_even_one_is_written() {
        for (value, text) in [
            (87_231.0 + 1.0 / 4_096.0, "87231.00024414062"),
            (87_231.0 + 3.0 / 4_096.0, "87231.00073242188"),
            (1_568.0 + 3_415.0 / 16_384.0, "1568.2084350585938"),
            (9_007_199_254_740_992.0, "9007199254740992"),
            (5e-324, &format!("0.{}5", "0".repeat(323))),
        ] {
            assert_eq!(exact(value), text);
        }
        // Numbers of all sizes with few binary places: of the shortest decimals that read back, the nearest.
        let (mut state, mut ties) = (1u64, 0);
        for _ in 0..50_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let (bits, places) = (state >> 32 & 31, state >> 37 & 31);
            let value = ((state >> 24 >> bits) * 2 + 1) as f64 / (1u64 << places) as f64;
            let text = exact(value);
            let decimals = text
                .rsplit_once('.')
                .map_or(0, |(_, decimals)| decimals.len());
            if decimals == 0 {
                continue;
            }
            assert_eq!(text, rounded(value, decimals), "{value:e}");
            let fewer = rounded(value, decimals - 1);
            assert_ne!(fewer.parse(), Ok(value), "{fewer} is shorter");
            ties += usize::from(decimals as u64 + 1 == places);
        }
        assert!(ties > 1_000, "{ties} ties");
    }

    #[test]
    fn people_see_cents_and_small_prices_keep_their_digits() {
        assert_eq!(text(87231.4235), "87231.42");
        assert_eq!(text(0.013619), "0.01361900");
        assert_eq!(text(1.0), "1.000000");
        assert_eq!(text(1e15), "1000000000000000.00");
    }
}
