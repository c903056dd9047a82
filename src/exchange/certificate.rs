//! Reads the issuer and the expiry of an X.509 certificate in DER (RFC 5280, section 4.1), to show them to an operator.
//!
//! Invariant: a pure function, total on any bytes. It walks the fields in order and without recursion, each within the
//! field around it. The issuer's name is short and printable. The TLS library has verified the certificate before; nothing
//! is verified here.

use crate::exchange::limits::CERTIFICATE_BYTES_MAX;
use rsoracle_proof::utc::utc_us;
use rsoracle_verify::log::printable;

/// Longest issuer's name, in characters. A longer one is truncated.
const NAME_CHARS_MAX: usize = 64;
/// Tags (X.690): the number of the type, plus 0x20 if it contains fields.
const OBJECT: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const BMP_STRING: u8 = 0x1e;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
/// Object identifiers of attributes (RFC 5280, appendix A.1): 2.5.4.3 and 2.5.4.10.
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const ORGANIZATION: &[u8] = &[0x55, 4, 10];

/// Issuer and expiry of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The issuer's common name; if that is missing or empty, its organization, or else `?`.
    pub issuer: String,
    /// When it expires, in microseconds since the Unix epoch.
    pub not_after_us: u64,
}

impl Certificate {
    /// Reads a certificate in DER; `None` if it is invalid, or larger than `CERTIFICATE_BYTES_MAX`.
    pub fn read(der: &[u8]) -> Option<Certificate> {
        let mut whole = Fields(Some(der).filter(|der| der.len() <= CERTIFICATE_BYTES_MAX)?);
        let mut outer = Fields(whole.expect(SEQUENCE)?);
        let mut fields = Fields(outer.expect(SEQUENCE)?);
        let (first, _) = fields.next()?;
        // Version 1 has no version field; then the first field is the serial number.
        if first == VERSION {
            fields.next()?;
        }
        fields.expect(SEQUENCE)?; // the signature's algorithm
        let issuer = issuer(fields.expect(SEQUENCE)?)?;
        let mut validity = Fields(fields.expect(SEQUENCE)?);
        validity.next()?;
        let (kind, text) = validity.next()?;
        let not_after_us = time_us(kind, text)?;
        Some(Certificate {
            issuer,
            not_after_us,
        })
    }

    /// Whole days from `now_us` until it expires; negative after it has expired.
    pub fn days_left(&self, now_us: u64) -> i64 {
        const DAY_US: i128 = 86_400_000_000;
        let left_us = i128::from(self.not_after_us) - i128::from(now_us);
        i64::try_from(left_us.div_euclid(DAY_US)).expect("the days in 64 bits of microseconds")
    }
}

/// Consecutive DER fields.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Tag and content of the next field. `None` at the end, for tags of several bytes, and for lengths that DER forbids
    /// (indefinite, or encoded in more bytes than necessary) or that exceed the data.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, length], rest) = self.0.split_first_chunk::<2>()?;
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (length, rest) = match length {
            0..=0x7f => (usize::from(length), rest),
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(length & 0x0f))?;
                let add = |sum, digit: &u8| sum << 8 | usize::from(*digit);
                let length = digits.iter().fold(0, add);
                let shortest = digits[0] != 0 && length > 0x7f;
                (Some(length).filter(|_| shortest)?, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next field; `None` if it has another tag.
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next()
            .filter(|(known, _)| *known == tag)
            .map(|(_, content)| content)
    }
}

/// The displayed part of a distinguished name, which is a sequence of sets of pairs of attribute and value.
fn issuer(name: &[u8]) -> Option<String> {
    let (mut common, mut organization) = (None, None);
    let mut sets = Fields(name);
    while !sets.0.is_empty() {
        let mut pairs = Fields(sets.expect(SET)?);
        while !pairs.0.is_empty() {
            let mut pair = Fields(pairs.expect(SEQUENCE)?);
            let attribute = pair.expect(OBJECT)?;
            let (kind, value) = pair.next()?;
            match attribute {
                COMMON_NAME => common = Some(shown(kind, value)),
                ORGANIZATION => organization = Some(shown(kind, value)),
                _ => {}
            }
        }
    }
    let names = [common, organization].into_iter().flatten();
    let mut filled = names.filter(|name: &String| !name.is_empty());
    Some(filled.next().unwrap_or_else(|| "?".to_owned()))
}

/// The text of a string, truncated and without control characters.
fn shown(kind: u8, bytes: &[u8]) -> String {
    let text = if kind == BMP_STRING {
        let units = bytes
            .chunks_exact(2)
            .map(|two| u16::from_be_bytes([two[0], two[1]]));
        char::decode_utf16(units)
            .map(|read| read.unwrap_or('?'))
            .collect()
    } else {
        String::from_utf8_lossy(bytes).into_owned()
    };
    printable(&text.chars().take(NAME_CHARS_MAX).collect::<String>())
}

/// Parses `YYMMDDHHMMSSZ` (1950 to 2049) or `YYYYMMDDHHMMSSZ` (RFC 5280, section 4.1.2.5), in microseconds since the Unix
/// epoch.
fn time_us(kind: u8, text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text)
        .ok()
        .filter(|text| text.is_ascii())?;
    let text = match (kind, text.len()) {
        (UTC_TIME, 13) if text.starts_with(['5', '6', '7', '8', '9']) => format!("19{text}"),
        (UTC_TIME, 13) => format!("20{text}"),
        (GENERALIZED_TIME, 15) => text.to_owned(),
        _ => return None,
    };
    let (year, rest) = text.split_at(4);
    let two = |at: usize| &rest[at..at + 2];
    let (month, day, hour, minute) = (two(0), two(2), two(4), two(6));
    utc_us(&format!(
        "{year}-{month}-{day}T{hour}:{minute}:{}",
        &rest[8..]
    ))
}
