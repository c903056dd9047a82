//! Whether a text is JSON (RFC 8259), decided before any parser is trusted with it.
//!
//! Why: nanoserde 0.2 panics, loops or overflows its stack on some texts that are no JSON. It only ever sees text
//! that passed [`check`]. Invariant: the check is one loop over the bytes with a bounded stack of its own, so
//! no input makes it recurse, allocate or run longer than its length. [`Json`] then cuts what passed into its raw pieces:
//! nothing is converted before someone asks for it, so no number is rounded on its way and no id loses its bytes.
//! What this module does not do: build values of everything.

use crate::system::limits::JSON_DEPTH_MAX;
use nanoserde::DeJson;
use std::borrow::Cow;
use std::iter::from_fn;

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
    let literal = match bytes[at] {
        b'"' => return string(bytes, at),
        b't' => &b"true"[..],
        b'f' => b"false",
        b'n' => b"null",
        _ => return number(bytes, at),
    };
    if bytes[at..].starts_with(literal) {
        Ok(at + literal.len())
    } else {
        Err(NotJson(at))
    }
}

/// Position after the string that begins at `at`.
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

/// One value, as the piece of checked text that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<'a>(&'a str);

impl<'a> Json<'a> {
    /// Checks the text, which must be one value.
    pub fn parse(text: &'a str) -> Result<Json<'a>, NotJson> {
        check(text).map(|()| Json::trimmed(text))
    }

    /// Without the blanks around it; the check has let through no others than JSON's own four.
    fn trimmed(piece: &'a str) -> Json<'a> {
        Json(piece.trim_ascii())
    }

    /// The piece of text itself.
    pub fn raw(self) -> &'a str {
        self.0
    }

    /// The member of that name; of several the last one, as most readers have it. None too if this is no object.
    pub fn get(self, name: &str) -> Option<Json<'a>> {
        let [value] = self.pick([name]);
        value
    }

    /// The members of these names, each as [`Json::get`] has it, in one pass.
    pub fn pick<const N: usize>(self, names: [&str; N]) -> [Option<Json<'a>>; N] {
        let mut picked = [None; N];
        for (known, value) in self.members().into_iter().flatten() {
            let known = known.text();
            let place = names.iter().position(|name| known.as_deref() == Some(name));
            if let Some(place) = place {
                picked[place] = Some(value);
            }
        }
        picked
    }

    /// Names and values, if this is an object.
    pub fn members(self) -> Option<impl Iterator<Item = (Json<'a>, Json<'a>)>> {
        let mut rest = self.0.strip_prefix('{')?.strip_suffix('}')?;
        Some(from_fn(move || {
            Some((cut(&mut rest, b':')?, cut(&mut rest, b',')?))
        }))
    }

    /// What is listed, if this is a list.
    pub fn items(self) -> Option<impl Iterator<Item = Json<'a>>> {
        let mut rest = self.0.strip_prefix('[')?.strip_suffix(']')?;
        Some(from_fn(move || cut(&mut rest, b',')))
    }

    /// The item at that place, if this is a list so long.
    pub fn at(self, place: usize) -> Option<Json<'a>> {
        self.items()?.nth(place)
    }

    /// What a string says.
    pub fn text(self) -> Option<Cow<'a, str>> {
        let inner = self.0.strip_prefix('"')?.strip_suffix('"')?;
        if inner.contains('\\') {
            String::deserialize_json(self.0).ok().map(Cow::Owned)
        } else {
            Some(Cow::Borrowed(inner))
        }
    }

    /// The same, for one who keeps it.
    pub fn owned(self) -> Option<String> {
        self.text().map(Cow::into_owned)
    }

    /// Whether it is a string that says this.
    pub fn says(self, text: &str) -> bool {
        self.text().is_some_and(|own| own == text)
    }

    /// A number's decimal text, as it was written.
    pub fn number(self) -> Option<&'a str> {
        self.0
            .starts_with(|c: char| c == '-' || c.is_ascii_digit())
            .then_some(self.0)
    }

    /// A whole number that fits; an exponent or a fraction is none.
    pub fn whole<T: std::str::FromStr>(self) -> Option<T> {
        self.number()?.parse().ok()
    }

    /// What is true or false.
    pub fn switch(self) -> Option<bool> {
        match self.0 {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }
}

/// Takes off `rest` what stands before its first `stop` outside of strings and brackets, and the stop too; None when there is nothing.
fn cut<'a>(rest: &mut &'a str, stop: u8) -> Option<Json<'a>> {
    let (piece, behind) = rest.split_at(until(rest, stop));
    *rest = behind.get(1..).unwrap_or_default();
    let piece = Json::trimmed(piece);
    (!piece.0.is_empty()).then_some(piece)
}

/// Position of the first `stop` outside of strings and brackets, or the length.
/// `stop` is ASCII and never part of a longer character, so one may cut there.
fn until(text: &str, stop: u8) -> usize {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0usize, 0);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = string(bytes, at).unwrap_or(bytes.len());
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ if depth == 0 && byte == stop => return at,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_cut_where_json_does() {
        let text = r#" {"a,b:{":"}],\"\\","id" : "x","n":[{"id":3},"]"],"é\u0041":"\\","id":-1.50e+3,"t":true} "#;
        let json = Json::parse(text).unwrap();
        let names: Vec<String> = json
            .members()
            .unwrap()
            .filter_map(|(name, _)| name.text().map(Cow::into_owned))
            .collect();
        assert_eq!(names, ["a,b:{", "id", "n", "éA", "id", "t"]);
        assert_eq!(
            json.get("id").and_then(Json::number),
            Some("-1.50e+3"),
            "the last one counts"
        );
        let list = json.get("n").unwrap();
        let raw: Vec<&str> = list.items().unwrap().map(Json::raw).collect();
        assert_eq!(raw, [r#"{"id":3}"#, "\"]\""]);
        assert_eq!(list.at(0).unwrap().get("id").unwrap().whole(), Some(3u8));
        assert_eq!(json.get("éA").and_then(Json::text).as_deref(), Some("\\"));
        assert_eq!(json.get("t").and_then(Json::switch), Some(true));
        assert!(json.get("a,b:{").unwrap().says("}],\"\\"));
        let [t, none, id] = json.pick(["t", "T", "id"]);
        assert_eq!((t, none, id), (json.get("t"), None, json.get("id")));
    }

    #[test]
    fn what_is_something_else_is_none() {
        let json = |text| Json::parse(text).unwrap();
        assert!(json("[1]").get("a").is_none() && json("{}").items().is_none());
        assert_eq!(json("[ ]").items().unwrap().count(), 0);
        assert_eq!(json("{ }").members().unwrap().count(), 0);
        assert_eq!((json("1").text(), json("\"1\"").number()), (None, None));
        assert_eq!(json("1.0").whole::<u64>(), None);
        assert_eq!(json("300").whole::<u8>(), None);
        assert_eq!(json("[1,2]").at(2), None);
        assert_eq!(json(r#""\ud800""#).text(), None, "half a character");
    }

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
