//! The check: one loop over the bytes, which notes in a table where values begin and end.
//!
//! Invariant: the table has of each object and each list the first members and items, so that who reads it knows where to look
//! for the rest. What this module does not do: look for anything.

use crate::system::limits::{JSON_DEPTH_MAX, JSON_ITEMS_MAX};

/// Byte position of the first thing that is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotJson(
    /// Offset in bytes from the start of the text.
    pub usize,
);

/// Where a key or a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Its first byte, counted from the first byte of the object or list that it stands in.
    pub(super) start: u32,
    /// Behind its last byte, counted the same way.
    pub(super) end: u32,
    /// How many of the spans behind this one are of what stands inside it.
    pub(super) inside: u16,
    /// Whether it is a string with a backslash.
    pub(super) escaped: bool,
}

/// An object or a list that the check is inside of.
#[derive(Clone, Copy)]
struct Open {
    /// Its first byte.
    start: u32,
    /// Its own place in the table, counted from 1, or 0.
    place: u16,
    /// How many more values inside it may be noted.
    room: u16,
    /// The bracket that ends it.
    close: u8,
}

/// Inside of nothing, however deep.
const OUTSIDE: [Open; JSON_DEPTH_MAX] = [Open {
    start: 0,
    place: 0,
    room: 0,
    close: 0,
}; JSON_DEPTH_MAX];

/// The table as far as it is filled.
struct Notes<'t> {
    table: &'t mut [Span],
    count: usize,
}

impl Notes<'_> {
    /// Notes that something begins at `at`, if there are `needed` places left; gives its place.
    #[inline(always)]
    fn begin(&mut self, within: &mut Open, at: usize, needed: usize) -> u16 {
        if within.room == 0 {
            return 0;
        }
        if self.count + needed > self.table.len() {
            // What comes later in there must not be noted either: it would take the place of what is missing.
            within.room = 0;
            return 0;
        }
        within.room -= 1;
        self.table[self.count].start = at as u32 - within.start;
        self.count += 1;
        self.count as u16
    }

    /// Notes that what has this place ends before `at`.
    #[inline(always)]
    fn end(&mut self, within: &Open, place: u16, at: usize, escaped: bool) {
        let place = usize::from(place);
        if let Some(span) = self.table.get_mut(place.wrapping_sub(1)) {
            span.end = at as u32 - within.start;
            span.inside = (self.count - place) as u16;
            span.escaped = escaped;
        }
    }
}

/// Checks, and fills the table from its beginning; gives how many places are filled.
pub(super) fn scan(bytes: &[u8], table: &mut [Span]) -> Result<usize, NotJson> {
    let fits = u32::try_from(bytes.len()).is_ok();
    let table = if fits { table } else { &mut [] };
    let mut notes = Notes { table, count: 0 };
    let mut outer = OUTSIDE;
    let (mut depth, mut within, mut at) = (0, OUTSIDE[0], 0);
    'value: loop {
        at = skip_blanks(bytes, at);
        let byte = *bytes.get(at).ok_or(NotJson(at))?;
        let place = notes.begin(&mut within, at, 1);
        if matches!(byte, b'{' | b'[') {
            *outer.get_mut(depth).ok_or(NotJson(at))? = within;
            let room = match byte {
                _ if place == 0 && depth > 0 => 0,
                b'{' => u16::MAX,
                _ => JSON_ITEMS_MAX,
            };
            within = Open {
                start: at as u32,
                place,
                room,
                // In ASCII each closing bracket stands two behind its opening one.
                close: byte + 2,
            };
            depth += 1;
            at = skip_blanks(bytes, at + 1);
            if bytes.get(at) != Some(&within.close) {
                if byte == b'{' {
                    at = key(bytes, at, &mut within, &mut notes)?;
                }
                continue;
            }
        } else {
            let (end, escaped) = scalar(bytes, at, byte)?;
            notes.end(&within, place, end, escaped);
            at = end;
        }
        // A value has ended, or stands empty before its closing bracket.
        while depth > 0 {
            at = skip_blanks(bytes, at);
            match bytes.get(at) {
                Some(b',') => {
                    at += 1;
                    if within.close == b'}' {
                        at = key(bytes, skip_blanks(bytes, at), &mut within, &mut notes)?;
                    }
                    continue 'value;
                }
                Some(byte) if *byte == within.close => {
                    at += 1;
                    depth -= 1;
                    let ended = within.place;
                    within = outer[depth];
                    notes.end(&within, ended, at, false);
                }
                _ => return Err(NotJson(at)),
            }
        }
        let end = skip_blanks(bytes, at);
        let whole = end == bytes.len();
        return whole.then_some(notes.count).ok_or(NotJson(end));
    }
}

/// Position after the key that begins at `at` and its colon.
#[inline(always)]
fn key(bytes: &[u8], at: usize, within: &mut Open, notes: &mut Notes) -> Result<usize, NotJson> {
    if bytes.get(at) != Some(&b'"') {
        return Err(NotJson(at));
    }
    let (end, escaped) = string(bytes, at)?;
    // Its value gets a place too, or neither does.
    let place = notes.begin(within, at, 2);
    notes.end(within, place, end, escaped);
    let at = skip_blanks(bytes, end);
    match bytes.get(at) {
        Some(b':') => Ok(at + 1),
        _ => Err(NotJson(at)),
    }
}

#[inline(always)]
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
        _ => return Ok((number(bytes, at)?, false)),
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
    while let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let word = u64::from_le_bytes(*eight);
        // A byte less than another loses its high bit to a borrow; the first such byte is found right, those behind it may not be.
        let quote = (word ^ (ONES * u64::from(b'"'))).wrapping_sub(ONES);
        let backslash = (word ^ (ONES * u64::from(b'\\'))).wrapping_sub(ONES);
        let control = word.wrapping_sub(ONES * 0x20);
        let found = (quote | backslash | control) & !word & HIGHS;
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

/// Position after the number that begins at `at`.
#[inline]
fn number(bytes: &[u8], mut at: usize) -> Result<usize, NotJson> {
    let digits = |mut at: usize| {
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    if bytes.get(at) == Some(&b'-') {
        at += 1;
    }
    let whole = digits(at);
    if whole == at || (bytes[at] == b'0' && whole > at + 1) {
        return Err(NotJson(at));
    }
    at = whole;
    if bytes.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        if fraction == at + 1 {
            return Err(NotJson(at));
        }
        at = fraction;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let signed = at + 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(signed);
        if exponent == signed {
            return Err(NotJson(at));
        }
        at = exponent;
    }
    Ok(at)
}
