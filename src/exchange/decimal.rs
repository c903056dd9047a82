//! Decimal text to price.
//!
//! Invariant: a price is a finite number from PRICE_MIN to PRICE_MAX. There is no default and no
//! rounding but the one of IEEE 754: `str::parse::<f64>` is correctly rounded, so equal text gives equal bits.
//! Of a text that is no price, the error is the reason to record for the sample.
//! What this module does not do: guess. `NaN`, `inf`, hexadecimal, signs, blanks and thousands separators are refused.

use crate::exchange::limits::{PRICE_TEXT_BYTES_MAX, QUOTE_WIDTH_MAX};
use rsoracle_proof::price::is_price;
use rsoracle_proof::reason::Miss;

/// Reads the decimal text of a price, such as `87232.01000000` or `9.2E-7`.
#[inline]
pub fn parse(text: &str) -> Result<f64, Miss> {
    Decimal::read(text)?.price(text)
}

/// Checks that a bid and an ask, both of them prices, say what the market's price is.
#[inline]
pub(crate) fn check_quote(bid: f64, ask: f64) -> Result<(), Miss> {
    if bid > ask {
        Err(Miss::Crossed)
    } else if ask - bid > QUOTE_WIDTH_MAX * (bid / 2.0 + ask / 2.0) {
        Err(Miss::TooWide)
    } else {
        Ok(())
    }
}

/// The middle of a bid and an ask, added as the decimal numbers that they are and rounded once, to the nearest value. What
/// has more digits than fit into 128 bits is refused, and a quote that [`check_quote`] refuses.
pub fn middle(bid: &str, ask: &str) -> Result<f64, Miss> {
    let a = Decimal::read(bid)?;
    let b = Decimal::read(ask)?;
    check_quote(a.price(bid)?, b.price(ask)?)?;
    let sum = || {
        let exponent = a.exponent.min(b.exponent);
        let scaled = |number: &Decimal, text: &str| {
            let digits = number.all_digits(text)?;
            match number.exponent.abs_diff(exponent) {
                0 => Some(digits),
                places => digits.checked_mul(10u128.checked_pow(places)?),
            }
        };
        let sum = scaled(&a, bid)?.checked_add(scaled(&b, ask)?)?;
        Some((sum.checked_mul(5)?, exponent - 1))
    };
    let (digits, exponent) = sum().ok_or(Miss::NotDecimal)?;
    // Between two prices there is a price.
    Ok(exactly(digits, exponent).unwrap_or_else(|| rounded(digits, exponent)))
}

/// A decimal number as it is written, `digits[.digits][(e|E)[+-]digits]` with or without a minus: in one pass over its text.
struct Decimal {
    negative: bool,
    /// How many digits stand before the exponent.
    count: usize,
    /// All of them as one number, if they are at most [`DIGITS_MAX`]. More of them would not fit: then this is meaningless, and
    /// `all_digits` reads the text again.
    digits: u64,
    /// Which power of ten that number counts; one that is out of all bounds stays out of them.
    exponent: i32,
}

/// So many digits always fit into 64 bits.
const DIGITS_MAX: usize = 19;

impl Decimal {
    #[inline(always)]
    fn read(text: &str) -> Result<Decimal, Miss> {
        if text.len() > PRICE_TEXT_BYTES_MAX {
            return Err(Miss::NotDecimal);
        }
        let bytes = text.as_bytes();
        let unsigned = bytes.strip_prefix(b"-").unwrap_or(bytes);
        let (mut digits, mut count, mut point, mut rest) = (0u64, 0, None, unsigned);
        while let [byte, more @ ..] = rest {
            match byte {
                b'0'..=b'9' => {
                    let digit = u64::from(byte - b'0');
                    digits = digits.wrapping_mul(10).wrapping_add(digit);
                    count += 1;
                }
                b'.' if point.is_none() => point = Some(count),
                _ => break,
            }
            rest = more;
        }
        let whole = point.unwrap_or(count);
        let fraction = count - whole;
        let exponent = match rest {
            [] => Some(0),
            _ => exponent(rest),
        };
        match exponent {
            // Digits stand before a point and after it.
            Some(exponent) if whole > 0 && point != Some(count) => Ok(Decimal {
                negative: unsigned.len() < bytes.len(),
                count,
                digits,
                exponent: exponent - fraction as i32,
            }),
            _ => Err(Miss::NotDecimal),
        }
    }

    /// The price that it is; `text` is what it was read from.
    #[inline(always)]
    fn price(&self, text: &str) -> Result<f64, Miss> {
        if self.negative {
            return Err(Miss::OutOfBounds);
        }
        let short = self.count <= DIGITS_MAX;
        let exact = short.then(|| exactly(self.digits.into(), self.exponent));
        let price = exact.flatten().or_else(|| text.parse().ok());
        let sound = price.filter(|price| is_price(*price));
        sound.ok_or(Miss::OutOfBounds)
    }

    /// All digits of the text that it was read from as one number, if they fit.
    #[inline(always)]
    fn all_digits(&self, text: &str) -> Option<u128> {
        if self.count <= DIGITS_MAX {
            return Some(self.digits.into());
        }
        let mut digits = text.bytes().filter(u8::is_ascii_digit).take(self.count);
        digits.try_fold(0u128, |sum, digit| {
            sum.checked_mul(10)?.checked_add((digit - b'0').into())
        })
    }
}

/// Reads a whole number without a sign, if it fits.
#[inline]
pub(crate) fn whole(text: &str) -> Option<u64> {
    let (eights, rest) = text.as_bytes().as_chunks();
    let mut number = 0u64;
    for eight in eights {
        let digits = eight_digits(u64::from_le_bytes(*eight))?;
        number = number.checked_mul(100_000_000)?.checked_add(digits)?;
    }
    for byte in rest {
        let digit = byte.is_ascii_digit().then(|| byte - b'0')?;
        number = number.checked_mul(10)?.checked_add(digit.into())?;
    }
    (!text.is_empty()).then_some(number)
}

/// The number that eight digits are, of which the first is the lowest byte. Neighbours make numbers of two digits, these make
/// numbers of four, and these the whole.
#[inline(always)]
fn eight_digits(eight: u64) -> Option<u64> {
    let ones = eight & 0x0f0f_0f0f_0f0f_0f0f;
    let pairs = (ones * 10 + (ones >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    let all = (fours * 10_000 + (fours >> 32)) & 0xffff_ffff;
    (no_digits(eight) == 0).then_some(all)
}

/// Sets the high bit of each of the eight bytes that is not a digit.
#[inline(always)]
pub(super) fn no_digits(eight: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    // Digits are now 0 to 9. A greater byte has its high bit already or gets it from the sum, which carries into no other byte.
    let digits = eight ^ (ONES * u64::from(b'0'));
    (((digits & (ONES * 0x7f)) + ONES * 0x76) | digits) & (ONES << 7)
}

/// The exponent that stands behind the digits, if it is one.
#[inline(never)]
fn exponent(text: &[u8]) -> Option<i32> {
    let (negative, digits) = match text {
        [b'e' | b'E', b'-', digits @ ..] => (true, digits),
        [b'e' | b'E', b'+', digits @ ..] | [b'e' | b'E', digits @ ..] => (false, digits),
        _ => return None,
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // No price has an exponent of five digits.
    let size = digits.iter().fold(0i32, |sum, digit| {
        (sum * 10 + i32::from(digit - b'0')).min(99_999)
    });
    Some(if negative { -size } else { size })
}

/// `digits` times a power of ten, rounded once, if one operation on two exact values makes it: whole numbers up to 2^53 and
/// powers of ten up to the 22nd are exact, and IEEE 754 rounds their product and their quotient once.
#[inline(always)]
fn exactly(digits: u128, exponent: i32) -> Option<f64> {
    const POWERS: [f64; 23] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
        1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
    ];
    let power = POWERS.get(exponent.unsigned_abs() as usize)?;
    if digits > 1 << f64::MANTISSA_DIGITS {
        return None;
    }
    let digits = digits as u64 as f64;
    Some(if exponent < 0 {
        digits / power
    } else {
        digits * power
    })
}

/// The same for any digits, by way of their decimal text. Few prices have so many.
#[cold]
fn rounded(digits: u128, exponent: i32) -> f64 {
    format!("{digits}e{exponent}").parse().unwrap_or(f64::NAN)
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
            assert_eq!(parse(text), Err(Miss::NotDecimal), "{text:?}");
        }
        for text in [
            "0", "0.0", "-1", "-0.01", "1e400", "1e-400", "1e16", "1e-13", "-1e400",
        ] {
            assert_eq!(parse(text), Err(Miss::OutOfBounds), "{text:?}");
        }
        assert_eq!(parse(&"1".repeat(65)), Err(Miss::NotDecimal));
    }

    #[test]
    fn a_middle_is_rounded_once() {
        for (one, other, middle_of_them) in [
            ("61837.63", "61837.64", 61837.635),
            ("81263.97", "81263.99000000", 81263.98),
            ("87231.42", "87231.42", 87231.42),
            ("1.99E-8", "2.01e-8", 2e-8),
            ("999999999999999.0000000000001", "1e15", 999999999999999.5),
            ("2683.8", "2683.81", 2683.805),
            ("0.99", "1.00997", 0.999985),
        ] {
            assert_eq!(middle(one, other), Ok(middle_of_them), "{one} {other}");
            let same = one.parse::<f64>() == other.parse();
            let crossed = same.then_some(middle_of_them).ok_or(Miss::Crossed);
            assert_eq!(middle(other, one), crossed);
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

    #[test]
    fn bid_and_ask_far_apart_have_no_middle() {
        for (bid, ask) in [
            ("1", "1000000"),
            ("0.99", "1.0102"),
            ("98", "100"),
            ("1e-12", "1e15"),
        ] {
            assert_eq!(middle(bid, ask), Err(Miss::TooWide), "{bid} {ask}");
        }
        assert_eq!(middle("1e15", "1e-12"), Err(Miss::Crossed));
        assert_eq!(middle("99", "100.9"), Ok(99.95));
    }

    #[test]
    fn whole_numbers_are_read_as_the_standard_library_reads_them() {
        let most = u64::MAX.to_string();
        for length in 0..40 {
            for digit in ["0", "1", "9"] {
                let digits = digit.repeat(length);
                assert_eq!(whole(&digits), digits.parse().ok(), "{digits}");
                let ends = format!("{digits}{most}");
                assert_eq!(whole(&ends), ends.parse().ok(), "{ends}");
                for (at, other) in (0..length).flat_map(|at| [(at, "/"), (at, ":"), (at, "+")]) {
                    let mut wrong = digits.clone();
                    wrong.replace_range(at..=at, other);
                    assert_eq!(whole(&wrong), None, "{wrong}");
                }
            }
        }
        assert_eq!(whole("18446744073709551616"), None);
    }

    /// Texts with few and with many digits, all rounded as the standard library rounds them.
    #[test]
    fn the_short_way_rounds_as_the_long_one() {
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let digits = seed >> (seed % 40);
            let (point, exponent) = (1 + seed as usize % 4, seed as i64 % 30 - 15);
            let mut text = format!("{digits:05}e{exponent}");
            text.insert(point, '.');
            let value: f64 = text.parse().unwrap();
            let read = parse(&text);
            assert_eq!(read.is_ok(), is_price(value), "{text}");
            assert!(read.is_err() || read == Ok(value), "{text}");
            // The middle of a price and itself is that price.
            assert!(read.is_err() || middle(&text, &text) == read, "{text}");
        }
    }
}
