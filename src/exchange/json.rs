//! JSON (RFC 8259), checked and cut into its pieces in one pass, before any parser is trusted with it.
//!
//! Why: nanoserde 0.2 panics, loops or overflows its stack on some texts that are no JSON. It only ever sees strings of a text
//! that passed the check. Invariant: the check is one loop over the bytes with a bounded stack of its own, so no input makes it
//! recurse, allocate or run longer than its length. While it checks, it notes in a table of fixed size where values begin and end;
//! [`Json`] finds them there, and looks through the text itself only for what the table had no room for. Nothing is converted
//! before someone asks for it, so no number is rounded on its way and no id loses its bytes.
//! What this module does not do: build values of everything.

mod scan;

pub use scan::NotJson;

use crate::system::limits::JSON_SPANS_MAX;
use nanoserde::DeJson;
use scan::{Span, scan, skip_blanks, string};
use std::borrow::Cow;
use std::iter::from_fn;

/// What has not been noted. (A constant is copied at once, an expression field by field.)
const UNUSED: [Span; JSON_SPANS_MAX] = [Span {
    start: 0,
    end: 0,
    inside: 0,
    escaped: false,
}; JSON_SPANS_MAX];

/// The table that a check fills, for [`Json::read`]: of each object and list the first members and items, as many as fit.
pub struct Spans {
    table: [Span; JSON_SPANS_MAX],
}

impl Spans {
    /// An empty table.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Spans {
        Spans { table: UNUSED }
    }
}

/// Checks that `text` is one JSON value, nested at most [`crate::system::limits::JSON_DEPTH_MAX`] deep.
pub fn check(text: &str) -> Result<(), NotJson> {
    scan(text.as_bytes(), &mut []).map(|_| ())
}

/// One value, as the piece of checked text that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<'a> {
    raw: &'a str,
    /// What the table has of what stands inside it: always its beginning.
    inside: &'a [Span],
    /// Whether it is a string with a backslash.
    escaped: bool,
}

impl<'a> Json<'a> {
    /// Checks the text, which must be one value. For what is read rarely: each look goes through the text again.
    pub fn parse(text: &'a str) -> Result<Json<'a>, NotJson> {
        check(text).map(|()| Json::piece(text))
    }

    /// The same in one pass: what it saw stands in `spans` from then on.
    pub fn read(text: &'a str, spans: &'a mut Spans) -> Result<Json<'a>, NotJson> {
        let count = scan(text.as_bytes(), &mut spans.table)?;
        Ok(Json {
            inside: &spans.table[..count],
            ..Json::piece(text)
        })
    }

    /// A piece that is not in the table, without the blanks around it; the check has let through no others than JSON's own four.
    fn piece(text: &'a str) -> Json<'a> {
        let raw = text.trim_ascii();
        Json {
            raw,
            inside: &[],
            escaped: raw.starts_with('"') && raw.contains('\\'),
        }
    }

    /// The piece of text itself.
    pub fn raw(self) -> &'a str {
        self.raw
    }

    /// The member of that name; of several the last one, as most readers have it. None too if this is no object.
    pub fn get(self, name: &str) -> Option<Json<'a>> {
        let [value] = self.pick([name]);
        value
    }

    /// The members of these names, each as [`Json::get`] has it, in one pass.
    #[inline]
    pub fn pick<const N: usize>(self, names: [&str; N]) -> [Option<Json<'a>>; N] {
        let mut picked = [None; N];
        let Some(mut pieces) = self.pieces(b'{') else {
            return picked;
        };
        let bytes = self.raw.as_bytes();
        // Most keys are not looked for: they are compared where they stand.
        while let [key, value, rest @ ..] = pieces.noted
            && !key.escaped
        {
            let own = &bytes[key.start as usize + 1..key.end as usize - 1];
            // Mostly the length or the first byte tells, without a call.
            let same = |name: &&str| {
                let name = name.as_bytes();
                name.len() == own.len() && name.first() == own.first() && name == own
            };
            if let Some(place) = names.iter().position(same) {
                pieces.noted = &pieces.noted[1..];
                picked[place] = pieces.next(b',');
            } else {
                pieces.noted = &rest[usize::from(value.inside)..];
                pieces.at = value.end as usize;
            }
        }
        while let (Some(key), Some(value)) = (pieces.next(b':'), pieces.next(b',')) {
            if let Some(place) = names.iter().position(|name| key.says(name)) {
                picked[place] = Some(value);
            }
        }
        picked
    }

    /// Names and values, if this is an object.
    #[inline]
    pub fn members(self) -> Option<impl Iterator<Item = (Json<'a>, Json<'a>)>> {
        let mut pieces = self.pieces(b'{')?;
        Some(from_fn(move || {
            Some((pieces.next(b':')?, pieces.next(b',')?))
        }))
    }

    /// What is listed, if this is a list.
    #[inline]
    pub fn items(self) -> Option<impl Iterator<Item = Json<'a>>> {
        let mut pieces = self.pieces(b'[')?;
        Some(from_fn(move || pieces.next(b',')))
    }

    /// What stands inside, if this begins with that bracket.
    #[inline]
    fn pieces(self, bracket: u8) -> Option<Pieces<'a>> {
        (self.raw.as_bytes().first() == Some(&bracket)).then_some(Pieces {
            raw: self.raw,
            noted: self.inside,
            at: 1,
        })
    }

    /// The item at that place, if this is a list so long.
    pub fn at(self, place: usize) -> Option<Json<'a>> {
        self.items()?.nth(place)
    }

    /// What stands between the quotation marks of a string.
    #[inline]
    fn quoted(self) -> Option<&'a str> {
        let is_string = self.raw.as_bytes().first() == Some(&b'"');
        is_string.then(|| &self.raw[1..self.raw.len() - 1])
    }

    /// What a string says.
    #[inline]
    pub fn text(self) -> Option<Cow<'a, str>> {
        let quoted = self.quoted()?;
        if self.escaped {
            String::deserialize_json(self.raw).ok().map(Cow::Owned)
        } else {
            Some(Cow::Borrowed(quoted))
        }
    }

    /// The same, for one who keeps it.
    pub fn owned(self) -> Option<String> {
        self.text().map(Cow::into_owned)
    }

    /// Whether it is a string that says this.
    #[inline]
    pub fn says(self, text: &str) -> bool {
        if self.escaped {
            return self.text().is_some_and(|own| own == text);
        }
        self.quoted() == Some(text)
    }

    /// A number's decimal text, as it was written.
    pub fn number(self) -> Option<&'a str> {
        let first = self.raw.as_bytes().first();
        matches!(first, Some(b'-' | b'0'..=b'9')).then_some(self.raw)
    }

    /// A whole number that fits; an exponent or a fraction is none.
    pub fn whole<T: std::str::FromStr>(self) -> Option<T> {
        self.number()?.parse().ok()
    }

    /// What is true or false.
    pub fn switch(self) -> Option<bool> {
        match self.raw {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }
}

/// What stands inside an object or a list, one after the other: keys and values, or items.
struct Pieces<'a> {
    /// The object or the list.
    raw: &'a str,
    /// What the table has of the rest.
    noted: &'a [Span],
    /// Where what was taken last has ended.
    at: usize,
}

impl<'a> Pieces<'a> {
    /// The next piece, which ends before `stop`; None when there is nothing.
    #[inline]
    fn next(&mut self, stop: u8) -> Option<Json<'a>> {
        if let [span, rest @ ..] = self.noted {
            let (inside, rest) = rest.split_at(usize::from(span.inside));
            (self.noted, self.at) = (rest, span.end as usize);
            return Some(Json {
                raw: &self.raw[span.start as usize..self.at],
                inside,
                escaped: span.escaped,
            });
        }
        (self.at + 1 < self.raw.len()).then(|| self.cut(stop))?
    }

    /// The same for what is not in the table.
    fn cut(&mut self, stop: u8) -> Option<Json<'a>> {
        let bytes = &self.raw.as_bytes()[..self.raw.len() - 1];
        let mut begin = skip_blanks(bytes, self.at);
        // What ended the piece before; no piece begins so.
        begin += usize::from(matches!(bytes.get(begin), Some(b',' | b':')));
        self.at = until(bytes, begin, stop);
        let piece = Json::piece(&self.raw[begin..self.at]);
        (!piece.raw.is_empty()).then_some(piece)
    }
}

/// Position of the first `stop` from `at` on outside of strings and brackets, or the length.
/// `stop` is ASCII and never part of a longer character, so one may cut there.
fn until(bytes: &[u8], mut at: usize, stop: u8) -> usize {
    let mut depth = 0usize;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = string(bytes, at).map_or(bytes.len(), |(end, _)| end);
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

    /// All that is found in a value, every which way.
    fn found(json: Json) -> String {
        if let Some(members) = json.members() {
            let shown = members.map(|(key, value)| {
                let again = json.get(&key.text().unwrap()).unwrap();
                format!("{:?} {} {}", key.text(), found(value), again.raw())
            });
            return shown.collect();
        }
        if let Some(items) = json.items() {
            return items.map(|item| found(item) + ";").collect();
        }
        format!("{} {:?} {:?}", json.raw(), json.text(), json.number())
    }

    #[test]
    fn what_has_no_room_in_the_table_is_found_all_the_same() {
        let member = |at: usize| format!("\"k{at}\" : [ {at}, {{ \"\\u0041\":\"{at}\"}}]");
        for count in [0, 1, 2, 7, 8, 9, 14, 15, 16, 31, 32, 33, 100] {
            let members: Vec<String> = (0..count).map(member).collect();
            let object = format!("{{ {} }}", members.join(" , "));
            let list = format!("[{}]", vec![object.as_str(); 1 + count / 3].join(" ,"));
            let both = format!(r#" {{"a":{list},"b\"":{object},"a":1,"é":[[[]],"x",{{}}]}} "#);
            for text in [&object, &list, &both] {
                let plain = Json::parse(text).unwrap();
                let mut spans = Spans::new();
                let noted = Json::read(text, &mut spans).unwrap();
                assert_eq!(found(noted), found(plain), "{text}");
            }
        }
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
