//! The check: one loop over the bytes, which notes in a table where values begin and end.
//!
//! Invariant: the table has of each object and each list the first members and items, so that the reader knows where to look
//! for the rest. What this module does not do: look for anything.

use crate::exchange::decimal::no_digits;
use crate::exchange::limits::{JSON_DEPTH_MAX, JSON_ITEMS_MAX, JSON_SPANS_MAX};

/// Byte position of the first thing that is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotJson(
    /// Offset in bytes from the start of the text.
    pub usize,
);

/// Where a member of an object, an item of a list, or the whole value stands in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// First byte of a member's key.
    pub(super) key: u16,
    /// Behind the last byte of its key.
    pub(super) key_end: u16,
    /// First byte of the value.
    pub(super) start: u16,
    /// Behind its last byte.
    pub(super) end: u16,
    /// How many of the spans behind this one are of what stands inside the value.
    pub(super) inside: u8,
    /// Whether the key has a backslash, and whether the value is a string that has one.
    pub(super) key_escaped: bool,
    pub(super) escaped: bool,
}

impl Span {
    pub(super) const UNUSED: Span = Span {
        key: 0,
        key_end: 0,
        start: 0,
        end: 0,
        inside: 0,
        key_escaped: false,
        escaped: false,
    };
}

/// An object or a list that the check is inside of.
#[derive(Clone, Copy)]
struct Open {
    /// Its own place in the table, or [`NOWHERE`].
    place: u8,
    /// How many more members or items of it may be noted.
    room: u8,
    /// The bracket that ends it.
    close: u8,
}

/// The place of what is not in the table.
const NOWHERE: u8 = u8::MAX;
const _: () = assert!(JSON_SPANS_MAX < NOWHERE as usize);

impl Open {
    /// Inside of nothing: there is one value.
    const OUTSIDE: Open = Open {
        place: NOWHERE,
        room: 1,
        close: 0,
    };
}

/// Inside of nothing at every depth. (A constant is copied at once, an expression field by field.)
const OUTSIDE: [Open; JSON_DEPTH_MAX] = [Open::OUTSIDE; JSON_DEPTH_MAX];

/// The table as far as it is filled.
struct Notes<'t> {
    table: &'t mut [Span],
    count: usize,
}

impl Notes<'_> {
    /// Notes what stands in `within`, if there is room; gives its place.
    #[inline(always)]
    fn note(&mut self, within: &mut Open, span: Span) -> u8 {
        if within.room == 0 {
            return NOWHERE;
        }
        let Some(slot) = self.table.get_mut(self.count) else {
            // Note nothing later of this object or list either: the reader would take it for the member or item missing here.
            within.room = 0;
            return NOWHERE;
        };
        *slot = span;
        within.room -= 1;
        self.count += 1;
        (self.count - 1) as u8
    }

    /// Notes that the object or list that has this place ends before `at`.
    #[inline(always)]
    fn end(&mut self, place: u8, at: usize) {
        if let Some(span) = self.table.get_mut(usize::from(place)) {
            span.end = at as u16;
            span.inside = (self.count - 1 - usize::from(place)) as u8;
        }
    }
}

/// Checks, and fills the table from its beginning; gives how many places are filled.
pub(super) fn scan(bytes: &[u8], table: &mut [Span]) -> Result<usize, NotJson> {
    let fits = u16::try_from(bytes.len()).is_ok();
    let table = if fits { table } else { &mut [] };
    let mut notes = Notes { table, count: 0 };
    let mut outer = OUTSIDE;
    let (mut depth, mut within, mut at) = (0, Open::OUTSIDE, 0);
    // What is noted next: its key stands there already.
    let mut span = Span::UNUSED;
    'value: loop {
        let byte;
        (at, byte) = token(bytes, at);
        span.start = at as u16;
        if matches!(byte, b'{' | b'[') {
            *outer.get_mut(depth).ok_or(NotJson(at))? = within;
            let place = notes.note(&mut outer[depth], span);
            let room = match byte {
                _ if place == NOWHERE => 0,
                b'{' => u8::MAX,
                _ => JSON_ITEMS_MAX,
            };
            within = Open {
                place,
                room,
                // In ASCII each closing bracket stands two behind its opening one.
                close: byte + 2,
            };
            depth += 1;
            let (next, inner) = token(bytes, at + 1);
            at = next;
            if inner != within.close {
                if byte == b'{' {
                    at = key(bytes, at, &mut span)?;
                }
                continue;
            }
        } else {
            (at, span.escaped) = scalar(bytes, at, byte)?;
            span.end = at as u16;
            notes.note(&mut within, span);
            span.escaped = false;
        }
        // A value has ended, or stands empty before its closing bracket.
        while depth > 0 {
            let byte;
            (at, byte) = token(bytes, at);
            if byte == b',' {
                at += 1;
                if within.close == b'}' {
                    at = key(bytes, at, &mut span)?;
                }
                continue 'value;
            }
            if byte != within.close {
                return Err(NotJson(at));
            }
            at += 1;
            depth -= 1;
            let ended = within.place;
            within = outer[depth];
            notes.end(ended, at);
        }
        let end = skip_blanks(bytes, at);
        let whole = end == bytes.len();
        return whole.then_some(notes.count).ok_or(NotJson(end));
    }
}

/// Position after the key that comes next from `at` on and its colon.
#[inline(always)]
fn key(bytes: &[u8], at: usize, span: &mut Span) -> Result<usize, NotJson> {
    let (at, b'"') = token(bytes, at) else {
        return Err(NotJson(skip_blanks(bytes, at)));
    };
    let (end, escaped) = string(bytes, at)?;
    (span.key, span.key_end, span.key_escaped) = (at as u16, end as u16, escaped);
    match token(bytes, end) {
        (at, b':') => Ok(at + 1),
        (at, _) => Err(NotJson(at)),
    }
}

/// The byte at that position; after the end 0, which no JSON text contains.
#[inline(always)]
pub(super) fn byte_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

/// The first byte from `at` on that is no blank, and its position.
#[inline(always)]
pub(super) fn token(bytes: &[u8], at: usize) -> (usize, u8) {
    match byte_at(bytes, at) {
        0..=b' ' => {
            let at = skip_blanks(bytes, at);
            (at, byte_at(bytes, at))
        }
        byte => (at, byte),
    }
}

#[inline(never)]
pub(super) fn skip_blanks(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// Position after the string, number or literal that begins at `at` with `byte`; whether it is a string with a backslash.
#[inline(always)]
fn scalar(bytes: &[u8], at: usize, byte: u8) -> Result<(usize, bool), NotJson> {
    let literal = match byte {
        b'"' => return string(bytes, at),
        b't' => &b"true"[..],
        b'f' => b"false",
        b'n' => b"null",
        _ => return Ok((number(bytes, at, byte)?, false)),
    };
    let found = bytes[at..].starts_with(literal);
    found
        .then_some((at + literal.len(), false))
        .ok_or(NotJson(at))
}

/// Position after the string that begins at `at`, and whether there is a backslash in it.
#[inline(always)]
pub(super) fn string(bytes: &[u8], at: usize) -> Result<(usize, bool), NotJson> {
    let end = skip_plain(bytes, at + 1);
    match bytes.get(end) {
        Some(b'"') => Ok((end + 1, false)),
        _ => Ok((escapes(bytes, end)?, true)),
    }
}

/// Position after a string that has a backslash at `at`, or something that no string has.
#[cold]
fn escapes(bytes: &[u8], mut at: usize) -> Result<usize, NotJson> {
    loop {
        match bytes.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => match bytes.get(at + 1) {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => at += 2,
                Some(b'u') => {
                    let hex = bytes.get(at + 2..at + 6).ok_or(NotJson(at))?;
                    if !hex.iter().all(u8::is_ascii_hexdigit) {
                        return Err(NotJson(at));
                    }
                    at += 6;
                }
                _ => return Err(NotJson(at)),
            },
            _ => return Err(NotJson(at)),
        }
        at = skip_plain(bytes, at);
    }
}

/// Position of the first quotation mark, backslash or control character from `at` on, or the length; eight bytes at a time.
#[inline(always)]
fn skip_plain(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    while let Some(word) = eight(bytes, at) {
        // The subtraction borrows in each byte that is below the limit, which sets its high bit. The first such byte is found
        // reliably; bytes behind it may be found wrongly. Flipping bit 1 puts the quotation mark just above the control
        // characters, which remain control characters.
        let control_or_quote = (word ^ (ONES * 2)).wrapping_sub(ONES * 0x21);
        let backslash = (word ^ (ONES * u64::from(b'\\'))).wrapping_sub(ONES);
        let found = (control_or_quote | backslash) & !word & HIGHS;
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while bytes
        .get(at)
        .is_some_and(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1f))
    {
        at += 1;
    }
    at
}

/// Position after the number that begins at `at` with `byte`.
#[inline(always)]
fn number(bytes: &[u8], at: usize, byte: u8) -> Result<usize, NotJson> {
    let begin = at + usize::from(byte == b'-');
    let Some(eight) = eight(bytes, begin) else {
        return any_number(bytes, begin);
    };
    // Most numbers are a few digits, or a few with a point among them: one look at eight bytes finds both ends.
    let others = no_digits(eight);
    let whole = (others.trailing_zeros() / 8) as usize;
    let rest = others & others.wrapping_sub(1);
    let fraction = (rest.trailing_zeros() / 8) as usize;
    let leading_zero = eight as u8 == b'0' && whole > 1;
    if whole == 0 || whole == 8 || leading_zero {
        return any_number(bytes, begin);
    }
    let mut end = begin + whole;
    if byte_at(bytes, end) == b'.' {
        end = match rest {
            0 => skip_digits(bytes, begin + 8),
            _ => begin + fraction,
        };
        if end == begin + whole + 1 {
            return any_number(bytes, begin);
        }
    }
    match byte_at(bytes, end) {
        b'e' | b'E' => any_number(bytes, begin),
        _ => Ok(end),
    }
}

/// The same for all numbers; a minus stands before `begin`.
#[inline(never)]
fn any_number(bytes: &[u8], begin: usize) -> Result<usize, NotJson> {
    let mut end = skip_digits(bytes, begin);
    if end == begin || (end > begin + 1 && byte_at(bytes, begin) == b'0') {
        return Err(NotJson(begin));
    }
    let mut next = byte_at(bytes, end);
    if next == b'.' {
        let fraction = skip_digits(bytes, end + 1);
        if fraction == end + 1 {
            return Err(NotJson(end));
        }
        end = fraction;
        next = byte_at(bytes, end);
    }
    if matches!(next, b'e' | b'E') {
        let signed = end + 1 + usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = skip_digits(bytes, signed);
        if exponent == signed {
            return Err(NotJson(end));
        }
        end = exponent;
    }
    Ok(end)
}

/// Eight bytes from `at` on, the first one lowest, if there are so many.
#[inline(always)]
fn eight(bytes: &[u8], at: usize) -> Option<u64> {
    let eight = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*eight))
}

/// Position of the first byte from `at` on that is no digit, or the length; eight bytes at a time.
#[inline(always)]
fn skip_digits(bytes: &[u8], mut at: usize) -> usize {
    while let Some(eight) = eight(bytes, at) {
        let count = (no_digits(eight).trailing_zeros() / 8) as usize;
        at += count;
        if count < 8 {
            return at;
        }
    }
    while bytes.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}
