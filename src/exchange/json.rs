//! JSON (RFC 8259), checked and cut into its pieces in one pass, before any parser is trusted with it.
//!
//! Why: nanoserde 0.2 panics, loops or overflows its stack on some texts that are no JSON. It only ever sees strings of a text
//! that passed the check. Invariant: the check is one loop over the bytes with a bounded stack of its own, so no input makes it
//! recurse, allocate or run longer than its length. While it checks, it notes in a table of fixed size where values begin
//! and end; [`Json`] finds them there, and looks through the text itself only for what the table had no room for. Nothing is
//! converted before someone asks for it, so no number is rounded on its way and no id loses its bytes.
//! What this module does not do: build values of everything.

mod scan;

pub use scan::NotJson;

use crate::exchange::decimal;
use crate::exchange::limits::JSON_SPANS_MAX;
use nanoserde::DeJson;
use scan::{Span, byte_at, scan, skip_blanks, string, token};
use std::borrow::Cow;
use std::iter::from_fn;

/// An empty table. (A constant is copied at once, an expression field by field.)
const UNUSED: [Span; JSON_SPANS_MAX] = [Span::UNUSED; JSON_SPANS_MAX];

/// What [`Json::read`] leaves behind: the text, and a table of the first members and items of its objects and lists, as many
/// as fit.
#[derive(Debug, PartialEq, Eq)]
pub struct Spans<'a> {
    text: &'a str,
    table: [Span; JSON_SPANS_MAX],
}

impl Spans<'_> {
    /// An empty table.
    #[inline(always)]
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Spans {
            text: "",
            table: UNUSED,
        }
    }
}

/// Checks that `text` is one JSON value, nested at most [`JSON_DEPTH_MAX`](crate::exchange::limits::JSON_DEPTH_MAX) deep.
pub fn check(text: &str) -> Result<(), NotJson> {
    scan(text.as_bytes(), &mut []).map(|_| ())
}

/// One value: where it stands in a checked text. It is as small as a string slice, for it is handed on often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<'a> {
    spans: &'a Spans<'a>,
    /// Its place in the table; if it is not in the table, the position of its first byte, added to the table's length.
    at: usize,
}

impl<'a> Json<'a> {
    /// Checks the text, which must be one value, in one pass. What it saw stands in `spans` from then on.
    pub fn read(text: &'a str, spans: &'a mut Spans<'a>) -> Result<Json<'a>, NotJson> {
        let count = scan(text.as_bytes(), &mut spans.table)?;
        spans.text = text;
        let at = match count {
            0 => JSON_SPANS_MAX + skip_blanks(text.as_bytes(), 0),
            _ => 0,
        };
        Ok(Json { spans, at })
    }

    /// What the table has of it.
    #[inline(always)]
    fn span(self) -> Option<&'a Span> {
        self.spans.table.get(self.at)
    }

    /// Position of its first byte.
    #[inline(always)]
    fn start(self) -> usize {
        match self.span() {
            Some(span) => usize::from(span.start),
            None => self.at - JSON_SPANS_MAX,
        }
    }

    /// Its first byte, which tells what kind of value it is.
    #[inline(always)]
    fn first_byte(self) -> u8 {
        byte_at(self.spans.text.as_bytes(), self.start())
    }

    /// The piece of text itself.
    #[inline(always)]
    pub fn raw(self) -> &'a str {
        let start = self.start();
        let end = match self.span() {
            Some(span) => usize::from(span.end),
            None => end_of(self.spans.text.as_bytes(), start),
        };
        &self.spans.text[start..end]
    }

    /// The member of that name; of several the last one, as most readers have it. None too if this is no object.
    #[inline]
    pub fn get(self, name: &str) -> Option<Json<'a>> {
        let [value] = self.pick([name]);
        value
    }

    /// The members of these names, each as [`Json::get`] has it, in one pass.
    #[inline(always)]
    pub fn pick<const N: usize>(self, names: [&str; N]) -> [Option<Json<'a>>; N] {
        let mut picked = [None; N];
        let Some(mut pieces) = self.pieces(b'{') else {
            return picked;
        };
        let bytes = self.spans.text.as_bytes();
        // Most members are not asked for. Comparing one bit is enough to skip most of those.
        let wanted = names
            .iter()
            .fold(0, |bits, name| bits | bit_of(name.as_bytes()));
        while let Some((value, span)) = pieces.noted() {
            let own = &bytes[usize::from(span.key) + 1..usize::from(span.key_end) - 1];
            if span.key_escaped {
                let key = pieces.key(span);
                if let Some(place) = names.iter().position(|name| key.says(name)) {
                    picked[place] = Some(value);
                }
            } else if bit_of(own) & wanted != 0 {
                let same = |name: &&str| name.len() == own.len() && name.as_bytes() == own;
                if let Some(place) = names.iter().position(same) {
                    picked[place] = Some(value);
                }
            }
        }
        while let Some((key, value)) = pieces.member() {
            if let Some(place) = names.iter().position(|name| key.says(name)) {
                picked[place] = Some(value);
            }
        }
        picked
    }

    /// Names and values, if this is an object.
    pub(crate) fn members(self) -> Option<impl Iterator<Item = (Json<'a>, Json<'a>)>> {
        let mut pieces = self.pieces(b'{')?;
        Some(from_fn(move || match pieces.noted() {
            Some((value, span)) => Some((pieces.key(span), value)),
            None => pieces.member(),
        }))
    }

    /// What is listed, if this is a list.
    #[inline(always)]
    pub fn items(self) -> Option<impl Iterator<Item = Json<'a>>> {
        let mut pieces = self.pieces(b'[')?;
        Some(from_fn(move || pieces.item()))
    }

    /// The first items, if this is a list; none for those that it lacks.
    #[inline(always)]
    pub fn first<const N: usize>(self) -> [Option<Json<'a>>; N] {
        let mut pieces = self.pieces(b'[');
        [(); N].map(|()| pieces.as_mut()?.item())
    }

    /// The item at that place, if this is a list so long.
    #[inline]
    pub fn at(self, place: usize) -> Option<Json<'a>> {
        self.items()?.nth(place)
    }

    /// What stands inside, if this begins with that bracket.
    #[inline(always)]
    fn pieces(self, bracket: u8) -> Option<Pieces<'a>> {
        let inside = self.span().map_or(0, |span| usize::from(span.inside));
        (self.first_byte() == bracket).then_some(Pieces {
            spans: self.spans,
            next: self.at + 1,
            behind: self.at + 1 + inside,
            at: self.start() + 1,
        })
    }

    /// What stands between the quotation marks of a string.
    #[inline(always)]
    fn quoted(self) -> Option<&'a str> {
        (self.first_byte() == b'"').then(|| {
            let raw = self.raw();
            &raw[1..raw.len() - 1]
        })
    }

    /// Whether it is a string with a backslash.
    #[inline(always)]
    fn escaped(self) -> bool {
        match self.span() {
            Some(span) => span.escaped,
            None => self.quoted().is_some_and(|text| text.contains('\\')),
        }
    }

    /// What a string says.
    #[inline(always)]
    pub fn text(self) -> Option<Cow<'a, str>> {
        let quoted = self.quoted()?;
        if self.escaped() {
            String::deserialize_json(self.raw()).ok().map(Cow::Owned)
        } else {
            Some(Cow::Borrowed(quoted))
        }
    }

    /// The same, for one who keeps it.
    pub(crate) fn owned(self) -> Option<String> {
        self.text().map(Cow::into_owned)
    }

    /// Whether it is a string that says this.
    #[inline]
    pub fn says(self, text: &str) -> bool {
        if self.escaped() {
            return self.text().is_some_and(|own| own == text);
        }
        self.quoted() == Some(text)
    }

    /// A number's decimal text, as it was written.
    #[inline(always)]
    pub fn number(self) -> Option<&'a str> {
        matches!(self.first_byte(), b'-' | b'0'..=b'9').then(|| self.raw())
    }

    /// A whole number that fits; an exponent or a fraction is none.
    #[inline]
    pub fn whole<T: std::str::FromStr>(self) -> Option<T> {
        self.number()?.parse().ok()
    }

    /// A whole number without a sign, if it fits.
    pub fn unsigned(self) -> Option<u64> {
        decimal::whole(self.number()?)
    }

    /// What is true or false.
    pub(crate) fn switch(self) -> Option<bool> {
        self.raw().parse().ok()
    }
}

/// Chooses one of 64 bits by the first byte and the length of a key. Keys with different bits are different.
#[inline(always)]
fn bit_of(key: &[u8]) -> u64 {
    let first = key.first().map_or(0, |first| usize::from(*first));
    1 << ((first + 8 * key.len()) % 64)
}

/// What stands inside an object or a list, one after the other: members, or items.
struct Pieces<'a> {
    spans: &'a Spans<'a>,
    /// Position in the table of the next member or item.
    next: usize,
    /// Position in the table after the last one that it has. When `next` gets there, the rest must be found in the text.
    behind: usize,
    /// Position in the text after the member or item that was taken last.
    at: usize,
}

impl<'a> Pieces<'a> {
    /// The next member or item that is in the table.
    #[inline(always)]
    fn noted(&mut self) -> Option<(Json<'a>, &'a Span)> {
        if self.next >= self.behind {
            return None;
        }
        let spans = self.spans;
        let (at, span) = (self.next, spans.table.get(self.next)?);
        self.next += 1 + usize::from(span.inside);
        self.at = usize::from(span.end);
        Some((Json { spans, at }, span))
    }

    /// The key of a member.
    fn key(&self, span: &Span) -> Json<'a> {
        Json {
            spans: self.spans,
            at: JSON_SPANS_MAX + usize::from(span.key),
        }
    }

    /// The next member that is not in the table.
    #[inline(always)]
    fn member(&mut self) -> Option<(Json<'a>, Json<'a>)> {
        Some((self.cut()?, self.cut()?))
    }

    /// The next item.
    #[inline(always)]
    fn item(&mut self) -> Option<Json<'a>> {
        match self.noted() {
            Some((item, _)) => Some(item),
            None => self.cut(),
        }
    }

    /// The next key, value or item, for those that are not in the table; None when there is nothing.
    #[inline(always)]
    fn cut(&mut self) -> Option<Json<'a>> {
        match byte_at(self.spans.text.as_bytes(), self.at) {
            b'}' | b']' => None,
            _ => self.cut_text(),
        }
    }

    #[cold]
    fn cut_text(&mut self) -> Option<Json<'a>> {
        let bytes = self.spans.text.as_bytes();
        let start = match token(bytes, self.at) {
            // What ended the piece before; no piece begins so.
            (at, b',' | b':') => skip_blanks(bytes, at + 1),
            (_, 0 | b'}' | b']') => return None,
            (at, _) => at,
        };
        self.at = end_of(bytes, start);
        Some(Json {
            spans: self.spans,
            at: JSON_SPANS_MAX + start,
        })
    }
}

/// Position after the value that begins at `start` in checked text.
#[cold]
fn end_of(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0usize);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => at = string(bytes, at).map_or(bytes.len(), |(end, _)| end),
            b'{' | b'[' => (at, depth) = (at + 1, depth + 1),
            b'}' | b']' if depth > 0 => (at, depth) = (at + 1, depth - 1),
            b'}' | b']' | b',' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return at,
            _ => {
                at += 1;
                continue;
            }
        }
        // A string, an object or a list has ended.
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a text for as long as the tests run.
    fn read(text: &str) -> Json<'_> {
        Json::read(text, Box::leak(Box::new(Spans::new()))).unwrap()
    }

    #[test]
    fn values_are_cut_where_json_does() {
        let text = r#" {"a,b:{":"}],\"\\","id" : "x","n":[{"id":3},"]"],"é\u0041":"\\","id":-1.50e+3,"t":true} "#;
        let json = read(text);
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
                // Of a text so long nothing is noted.
                let long = " ".repeat(usize::from(u16::MAX)) + text;
                let (mut spans, mut none) = (Spans::new(), Spans::new());
                let noted = Json::read(text, &mut spans).unwrap();
                let plain = Json::read(&long, &mut none).unwrap();
                assert_eq!(found(noted), found(plain), "{text}");
            }
        }
    }

    #[test]
    fn what_is_something_else_is_none() {
        let json = read;
        assert!(json("[1]").get("a").is_none() && json("{}").items().is_none());
        assert_eq!(json("[ ]").items().unwrap().count(), 0);
        assert_eq!(json("{ }").members().unwrap().count(), 0);
        assert_eq!((json("1").text(), json("\"1\"").number()), (None, None));
        assert_eq!(json("1.0").whole::<u64>(), None);
        assert_eq!(json("300").whole::<u8>(), None);
        assert_eq!(json("[1,2]").at(2), None);
        let first = json(r#"[ 1 ,"x"]"#).first().map(|item| item.map(Json::raw));
        assert_eq!(first, [Some("1"), Some("\"x\""), None]);
        assert_eq!(json(r#"{"a":1}"#).first(), [None]);
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

    /// Numbers are found eight bytes at a time: each length, with and without more text behind it.
    #[test]
    fn numbers_end_where_they_do() {
        let runs = ["0", "7", "12", "1234567", "12345678", "123456789012345678"];
        let ends = [
            "", ".0", ".25", ".123456", ".1234567", "e5", "E-12", ".5e+300",
        ];
        for (run, end) in runs.iter().flat_map(|run| ends.map(|end| (run, end))) {
            for number in [format!("{run}{end}"), format!("-{run}{end}")] {
                assert_eq!(check(&number), Ok(()), "{number}");
                for behind in ["", ",0,0,0,0,0", " , 12345678"] {
                    let text = format!("[{number}{behind}]");
                    assert_eq!(
                        read(&text).at(0).unwrap().number(),
                        Some(&*number),
                        "{text}"
                    );
                }
                for wrong in [".", "..", "e", "-", "1e", "x", ".5.", "e+", ",0,,,,,,,,"] {
                    let text = format!("[{number}{wrong}]");
                    assert!(check(&text).is_err(), "{text}");
                }
            }
        }
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
