//! Whether a text is JSON (RFC 8259), decided before any parser is trusted with it.
//!
//! Why: nanoserde 0.2 panics, loops or overflows its stack on some texts that are no JSON. It only ever sees text
//! that passed [`check`]. Invariant: the check is one loop over the bytes with a bounded stack of its own, so
//! no input makes it recurse, allocate or run longer than its length.
//! What this module does not do: build values, or look at names and types.

use crate::limits::JSON_DEPTH_MAX;

/// Byte position of the first thing that is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotJson(
    /// Offset in bytes from the start of the text.
    pub usize,
);

/// What may come next.
#[derive(Clone, Copy, PartialEq)]
enum Expect {
    Value,
    ValueOrEnd,
    KeyOrEnd,
    Key,
    CommaOrEnd,
}

/// Checks that `text` is one JSON value, nested at most [`JSON_DEPTH_MAX`] deep.
pub fn check(text: &str) -> Result<(), NotJson> {
    let bytes = text.as_bytes();
    let mut open = [0u8; JSON_DEPTH_MAX];
    let mut depth = 0;
    let mut expect = Expect::Value;
    let mut at = 0;
    loop {
        at = skip_blanks(bytes, at);
        let Some(&byte) = bytes.get(at) else {
            return Err(NotJson(at));
        };
        match (expect, byte) {
            (Expect::Value | Expect::ValueOrEnd, b'{' | b'[') => {
                *open.get_mut(depth).ok_or(NotJson(at))? = byte;
                depth += 1;
                at += 1;
                expect = if byte == b'{' {
                    Expect::KeyOrEnd
                } else {
                    Expect::ValueOrEnd
                };
                continue;
            }
            (Expect::Key | Expect::KeyOrEnd, b'"') => {
                at = skip_blanks(bytes, string(bytes, at)?);
                if bytes.get(at) != Some(&b':') {
                    return Err(NotJson(at));
                }
                at += 1;
                expect = Expect::Value;
                continue;
            }
            (Expect::CommaOrEnd, b',') => {
                at += 1;
                expect = if open[depth - 1] == b'{' {
                    Expect::Key
                } else {
                    Expect::Value
                };
                continue;
            }
            (Expect::CommaOrEnd | Expect::KeyOrEnd, b'}') if open[depth - 1] == b'{' => {
                (depth, at) = (depth - 1, at + 1)
            }
            (Expect::CommaOrEnd | Expect::ValueOrEnd, b']') if open[depth - 1] == b'[' => {
                (depth, at) = (depth - 1, at + 1)
            }
            (Expect::Value | Expect::ValueOrEnd, _) => at = scalar(bytes, at)?,
            _ => return Err(NotJson(at)),
        }
        if depth == 0 {
            let end = skip_blanks(bytes, at);
            return if end == bytes.len() {
                Ok(())
            } else {
                Err(NotJson(end))
            };
        }
        expect = Expect::CommaOrEnd;
    }
}

fn skip_blanks(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// Position after the string, number or literal that begins at `at`.
fn scalar(bytes: &[u8], at: usize) -> Result<usize, NotJson> {
    for literal in [&b"true"[..], b"false", b"null"] {
        if bytes[at..].starts_with(literal) {
            return Ok(at + literal.len());
        }
    }
    if bytes[at] == b'"' {
        string(bytes, at)
    } else {
        number(bytes, at)
    }
}

fn string(bytes: &[u8], mut at: usize) -> Result<usize, NotJson> {
    at += 1;
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
            Some(0..=0x1f) | None => return Err(NotJson(at)),
            Some(_) => at += 1,
        }
    }
}

fn number(bytes: &[u8], mut at: usize) -> Result<usize, NotJson> {
    let digits = |from: usize| {
        from + bytes[from.min(bytes.len())..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_passes() {
        for text in [
            "0",
            "-0",
            "1.5e-7",
            " [ ] ",
            "{}",
            "\"\"",
            "null",
            r#"{"a":[1,{"b":null},"\u00e9\n"],"c":true}"#,
            "[[[]]]",
            "\"é\"",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        assert_eq!(
            check(&format!("{}{}", "[".repeat(32), "]".repeat(32))),
            Ok(())
        );
    }

    #[test]
    fn what_is_not_json_is_refused_where_it_stops_being_so() {
        for (text, at) in [
            ("", 0),
            ("[", 1),
            ("]", 0),
            ("[1,2", 4),
            (r#"{"x":}"#, 5),
            (r#"{"x":,"#, 5),
            (r#"{"x"}"#, 4),
            ("{1:2}", 1),
            ("[1,]", 3),
            (r#"{"a":1,}"#, 7),
            ("+5", 0),
            ("01", 0),
            ("1.", 1),
            (".5", 0),
            ("1e", 1),
            ("nul", 0),
            ("NaN", 0),
            ("[1]x", 3),
            ("//\n1", 0),
            (r#""\q""#, 1),
            ("\"\n\"", 1),
            (r#""\u12g4""#, 1),
            ("\"", 1),
            ("[}", 1),
            ("{]", 1),
            ("1\0", 1),
            ("[1}", 2),
            (r#"{"a":1]"#, 6),
            ("-", 1),
        ] {
            assert_eq!(check(text), Err(NotJson(at)), "{text}");
        }
        assert_eq!(check(&"[".repeat(33)), Err(NotJson(32)));
        assert_eq!(check(&"[".repeat(100_000)), Err(NotJson(32)));
    }

    #[test]
    fn no_truncation_of_json_is_json() {
        let text = r#"{"id":"a1","status":200,"result":{"symbol":"BTCUSDT","price":"1.5"},"n":[-1.5e+3,true]}"#;
        assert_eq!(check(text), Ok(()));
        for end in 0..text.len() {
            assert!(check(&text[..end]).is_err(), "{}", &text[..end]);
        }
    }
}
