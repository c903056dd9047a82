//! Parses configuration and roster files: a strict, flat subset of TOML 1.0, which every TOML parser reads the same way.
//!
//! | what | how |
//! |---|---|
//! | section | `[name]`, dotted as in `[name.name]`; letters, digits, `_` and `-`, or others in double quotes; entries before the first are in section "" |
//! | entry | `key = value`; a key is written like a section's name |
//! | text | `"…"` on one line, with `\"`, `\\`, `\n` and `\t` as the only escapes |
//! | whole number | decimal, optional sign, `_` between digits, within 64 bits |
//! | switch | `true` or `false` |
//! | list | `["…", "…"]`: texts only, on one line |
//! | comment | from `#` to the end of the line |
//!
//! Invariant: everything else is refused, with its line and its key if it has one. Nothing is guessed, and nothing but
//! comments is ignored. (A key with the name of a section is left to those who know the keys: they refuse it as unknown.)

use crate::limits::TOML_BYTES_MAX;
use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::RangeInclusive;

/// The value of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `"…"`
    Text(String),
    /// `-12_000`
    Whole(i64),
    /// `true`
    Switch(bool),
    /// `["…", "…"]`
    List(Vec<String>),
}

/// One `key = value`.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Value,
    /// Its line, from 1.
    pub line: usize,
}

/// One section with its entries, in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// The name between the brackets; empty for entries before the first section.
    pub name: String,
    /// The line of its header, from 1.
    pub line: usize,
    /// Its entries.
    pub entries: Vec<Entry>,
}

/// An error, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The line, from 1.
    pub line: usize,
    /// The key; empty if there is none.
    pub key: String,
    /// What is wrong, and what would be valid.
    pub text: String,
}

impl Wrong {
    /// An error in a line without a key.
    pub fn line(line: usize, text: impl Into<String>) -> Wrong {
        Wrong::key(line, "", text)
    }

    /// An error about a key.
    pub fn key(line: usize, key: &str, text: impl Into<String>) -> Wrong {
        Wrong {
            line,
            key: key.to_owned(),
            text: text.into(),
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        if !self.key.is_empty() {
            write!(f, ", key '{}'", self.key)?;
        }
        write!(f, ": {}", self.text)
    }
}

impl Section {
    /// The entry of a key, if it is set.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The entry of a key that must be set.
    pub fn required(&self, key: &str) -> Result<&Entry, Wrong> {
        let missing = || Wrong::key(self.line, key, format!("missing {}", self.place()));
        self.get(key).ok_or_else(missing)
    }

    /// Refuses all keys except these.
    pub fn only(&self, known: &[&str]) -> Result<(), Wrong> {
        let unknown = |entry: &&Entry| !known.contains(&entry.key.as_str());
        match self.entries.iter().find(unknown) {
            Some(entry) => {
                let place = self.place();
                Err(entry.wrong(format!("unknown {place}; known: {}", known.join(", "))))
            }
            None => Ok(()),
        }
    }

    /// Parses the text of a key that must be set. The error of `parse` says what would be right.
    pub fn read<T>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Result<T, Wrong> {
        self.required(key)?.read(parse)
    }

    /// The same; `None` for an empty text.
    pub fn read_some<T>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Result<Option<T>, Wrong> {
        let entry = self.required(key)?;
        let is_empty = entry.text()?.is_empty();
        (!is_empty).then(|| entry.read(parse)).transpose()
    }

    /// Refuses the section if it has another name. `why` follows in the error.
    pub fn named(&self, name: &str, why: &str) -> Result<(), Wrong> {
        if self.name == name {
            return Ok(());
        }
        let found = &self.name;
        Err(self.wrong(format!(
            "section [{found}] where [{name}] is expected: {why}"
        )))
    }

    /// An error about this section.
    pub fn wrong(&self, text: impl Into<String>) -> Wrong {
        Wrong::line(self.line, text)
    }

    fn place(&self) -> String {
        if self.name.is_empty() {
            "before the first section".to_owned()
        } else {
            format!("in section [{}]", self.name)
        }
    }
}

impl Entry {
    /// An error about this entry.
    pub fn wrong(&self, text: impl Into<String>) -> Wrong {
        Wrong::key(self.line, &self.key, text)
    }

    /// Its text.
    pub fn text(&self) -> Result<&str, Wrong> {
        match &self.value {
            Value::Text(text) => Ok(text),
            _ => Err(self.wrong("it takes text in double quotes")),
        }
    }

    /// Its text, parsed. The error of `parse` says what would be right.
    pub fn read<T>(&self, parse: impl Fn(&str) -> Result<T, &'static str>) -> Result<T, Wrong> {
        parse(self.text()?).map_err(|right| self.wrong(right))
    }

    /// Its whole number, which must lie within `range`.
    pub fn whole<T>(&self, range: RangeInclusive<T>) -> Result<T, Wrong>
    where
        T: TryFrom<i64> + PartialOrd + fmt::Display,
    {
        let number = match &self.value {
            Value::Whole(number) => T::try_from(*number).ok(),
            _ => None,
        };
        let inside = number.filter(|number| range.contains(number));
        let (low, high) = (range.start(), range.end());
        inside.ok_or_else(|| self.wrong(format!("it takes a whole number from {low} to {high}")))
    }
}

/// Parses a text. The first section is always "", for entries before the first header; it may be empty.
pub fn parse(text: &str) -> Result<Vec<Section>, Wrong> {
    if text.len() > TOML_BYTES_MAX {
        let too_long = format!("the text is longer than {TOML_BYTES_MAX} bytes");
        return Err(Wrong::line(1, too_long));
    }
    if text.starts_with('\u{feff}') {
        return Err(Wrong::line(1, "a byte order mark; save without it"));
    }
    let mut sections = vec![Section {
        name: String::new(),
        line: 1,
        entries: Vec::new(),
    }];
    let mut sections_set = BTreeSet::new();
    // Those of the present section.
    let mut keys = BTreeSet::new();
    // A carriage return is allowed as part of a line's end.
    for (number, body) in (1..).zip(text.lines()) {
        if let Some(c) = body.chars().find(|c| c.is_control() && *c != '\t') {
            return Err(Wrong::line(number, format!("the control character {c:?}")));
        }
        let mut cursor = Cursor {
            rest: body,
            line: number,
            key: "",
        };
        cursor.blank();
        if cursor.rest.starts_with('[') {
            let name = cursor.header()?;
            if !sections_set.insert(name.to_owned()) {
                return Err(cursor.wrong(format!("section [{name}] appears twice")));
            }
            keys.clear();
            sections.push(Section {
                name: name.to_owned(),
                line: number,
                entries: Vec::new(),
            });
        } else if !cursor.at_end() {
            let section = sections
                .last_mut()
                .expect("the first section always exists");
            let entry = cursor.entry()?;
            if !keys.insert(entry.key.clone()) {
                return Err(entry.wrong(format!("set twice {}", section.place())));
            }
            section.entries.push(entry);
        }
    }
    Ok(sections)
}

/// Parses one line.
struct Cursor<'a> {
    rest: &'a str,
    line: usize,
    /// The key, once it is read.
    key: &'a str,
}

impl<'a> Cursor<'a> {
    fn wrong(&self, text: impl Into<String>) -> Wrong {
        Wrong::key(self.line, self.key, text)
    }

    /// Passes over spaces and tabs.
    fn blank(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    /// Passes over `mark` if it comes next.
    fn takes(&mut self, mark: char) -> bool {
        let after = self.rest.strip_prefix(mark);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    /// Takes all next characters that `fit`; may be none.
    fn word(&mut self, fit: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !fit(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn name(&mut self) -> &'a str {
        self.word(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    }

    /// Whether nothing but a comment is left.
    fn at_end(&mut self) -> bool {
        self.blank();
        self.rest.is_empty() || self.rest.starts_with('#')
    }

    fn end(&mut self) -> Result<(), Wrong> {
        if self.at_end() {
            Ok(())
        } else {
            Err(self.wrong("unexpected text where the end of the line should be"))
        }
    }

    fn header(&mut self) -> Result<&'a str, Wrong> {
        let right = "a section is written [name] or with dots, as in [name.name], names of letters, digits, _ and -, or of others in double quotes";
        self.takes('[');
        if self.rest.starts_with('[') {
            return Err(self.wrong("arrays of tables ([[…]]) are not supported"));
        }
        let whole = self.rest;
        let mut sound = self.part();
        while self.takes('.') {
            sound &= self.part();
        }
        let name = &whole[..whole.len() - self.rest.len()];
        if !sound || !self.takes(']') {
            return Err(self.wrong(right));
        }
        self.end()?;
        Ok(name)
    }

    /// Passes over one part of a section's name. Returns whether there is one.
    fn part(&mut self) -> bool {
        if !self.takes('"') {
            return !self.name().is_empty();
        }
        let quoted = self.word(|c| !matches!(c, '"' | '\\'));
        self.takes('"') && !quoted.is_empty()
    }

    fn entry(&mut self) -> Result<Entry, Wrong> {
        if self.rest.starts_with(['"', '\'']) {
            return Err(self.wrong("quoted keys are not supported"));
        }
        self.key = self.name();
        if self.key.is_empty() {
            return Err(self.wrong("neither a section, nor a key, nor a comment"));
        }
        self.blank();
        if self.rest.starts_with('.') {
            return Err(self.wrong("dotted keys are not supported; use a section"));
        }
        if !self.takes('=') {
            return Err(self.wrong("no '=' after the key"));
        }
        self.blank();
        let value = self.value()?;
        self.end()?;
        Ok(Entry {
            key: self.key.to_owned(),
            value,
            line: self.line,
        })
    }

    fn value(&mut self) -> Result<Value, Wrong> {
        match self.rest.chars().next() {
            None | Some('#') => Err(self.wrong("no value after the '='")),
            Some('"') => self.text().map(Value::Text),
            Some('[') => self.list().map(Value::List),
            Some('\'') => {
                Err(self.wrong("text in single quotes is not supported; use double quotes"))
            }
            Some('{') => Err(self.wrong("inline tables are not supported; use a section")),
            Some(_) => self.plain(),
        }
    }

    fn text(&mut self) -> Result<String, Wrong> {
        if self.rest.starts_with("\"\"\"") {
            return Err(self.wrong("text of several lines is not supported"));
        }
        if !self.takes('"') {
            return Err(self.wrong("text must be in double quotes"));
        }
        let mut text = String::new();
        let mut rest = self.rest.chars();
        loop {
            match rest.next() {
                None => return Err(self.wrong("no '\"' at the end of the text")),
                Some('"') => break,
                Some('\t') => return Err(self.wrong("a tab within text; write \\t")),
                Some('\\') => text.push(match rest.next() {
                    Some('"') => '"',
                    Some('\\') => '\\',
                    Some('n') => '\n',
                    Some('t') => '\t',
                    _ => {
                        return Err(self.wrong("the only escapes are \\\" \\\\ \\n and \\t"));
                    }
                }),
                Some(other) => text.push(other),
            }
        }
        self.rest = rest.as_str();
        Ok(text)
    }

    fn list(&mut self) -> Result<Vec<String>, Wrong> {
        let mut texts = Vec::new();
        self.takes('[');
        loop {
            self.blank();
            if self.takes(']') {
                return Ok(texts);
            }
            if !self.rest.starts_with('"') {
                return Err(self.wrong("a list is one line of texts: [\"…\", \"…\"]"));
            }
            texts.push(self.text()?);
            self.blank();
            if !self.takes(',') && !self.rest.starts_with(']') {
                return Err(self.wrong("neither ',' nor ']' after a text of the list"));
            }
        }
    }

    /// A value without quotes or brackets.
    fn plain(&mut self) -> Result<Value, Wrong> {
        let word = self.word(|c| !matches!(c, ' ' | '\t' | '#'));
        let value = match word {
            "true" => Some(Value::Switch(true)),
            "false" => Some(Value::Switch(false)),
            _ => number(word),
        };
        value.ok_or_else(|| {
            self.wrong("not a valid value; valid are text in double quotes, a whole number, true, false and a list of texts")
        })
    }
}

fn number(word: &str) -> Option<Value> {
    let digits = word.strip_prefix(['+', '-']).unwrap_or(word);
    let leading_zero = digits.len() > 1 && digits.starts_with('0');
    if leading_zero || !are_digits(digits) {
        return None;
    }
    word.replace('_', "").parse().ok().map(Value::Whole)
}

/// Decimal digits, a single `_` only between two of them.
fn are_digits(text: &str) -> bool {
    let group = |group: &str| !group.is_empty() && group.bytes().all(|b| b.is_ascii_digit());
    text.split('_').all(group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::prelude::v1::*;

    /// The only value of a text with one entry.
    fn value(text: &str) -> Result<Value, Wrong> {
        let mut sections = parse(text)?;
        assert_eq!((sections.len(), sections[0].entries.len()), (1, 1));
        Ok(sections[0].entries.remove(0).value)
    }

    #[test]
    fn every_kind_of_value_is_parsed() {
        let texts = |texts: &[&str]| Value::List(texts.iter().map(|t| (*t).to_owned()).collect());
        for (text, right) in [
            (r#"a = "x""#, Value::Text("x".into())),
            (r#"a="""#, Value::Text(String::new())),
            ("a = \"#b\" # c", Value::Text("#b".into())),
            (r#"a = "\"\\\n\té""#, Value::Text("\"\\\n\té".into())),
            ("a = 0", Value::Whole(0)),
            ("a = -0", Value::Whole(0)),
            ("a = +1_000#c", Value::Whole(1000)),
            ("a = -9223372036854775808", Value::Whole(i64::MIN)),
            ("a = 9223372036854775807", Value::Whole(i64::MAX)),
            ("\ta\t=\ttrue\t", Value::Switch(true)),
            ("a = false\r\n", Value::Switch(false)),
            ("a = []", texts(&[])),
            (r#"a = [ "x" ]"#, texts(&["x"])),
            (r#"a = ["x","]",]"#, texts(&["x", "]"])),
            ("# c\n\n  \na = 1", Value::Whole(1)),
            ("007 = 1", Value::Whole(1)),
        ] {
            assert_eq!(value(text), Ok(right), "{text}");
        }
    }

    #[test]
    fn sections_come_in_their_order_with_their_lines() {
        let text = "# c\na = 1\n[b] # c\n\n[c.0]\nx = true\na = 2\n[c-d_.E]\n";
        let sections = parse(text).unwrap();
        let heads: Vec<_> = sections.iter().map(|s| (s.name.as_str(), s.line)).collect();
        assert_eq!(heads, [("", 1), ("b", 3), ("c.0", 5), ("c-d_.E", 8)]);
        let lines: Vec<_> = sections[2].entries.iter().map(|e| e.line).collect();
        assert_eq!((sections[0].entries.len(), lines), (1, vec![6, 7]));
    }

    #[test]
    fn everything_else_is_refused_with_its_line_and_key() {
        for (text, place, part) in [
            ("\na = 1\na = 2", "line 3, key 'a': ", "twice"),
            (
                "[s]\na = 1\n\na = 1",
                "line 4, key 'a': ",
                "twice in section [s]",
            ),
            ("[a]\n[b]\n[a]", "line 3: ", "section [a] appears twice"),
            ("[[a]]", "line 1: ", "arrays of tables"),
            ("[a", "line 1: ", "[name]"),
            ("[]", "line 1: ", "[name]"),
            ("[a.]", "line 1: ", "[name]"),
            ("[.a]", "line 1: ", "[name]"),
            ("[a..b]", "line 1: ", "[name]"),
            ("[ a ]", "line 1: ", "[name]"),
            ("[\"\"]", "line 1: ", "[name]"),
            ("[\"a]", "line 1: ", "[name]"),
            ("[a] b", "line 1: ", "end of the line"),
            ("a.b = 1", "line 1, key 'a': ", "dotted"),
            ("a . b = 1", "line 1, key 'a': ", "dotted"),
            ("\"a\" = 1", "line 1: ", "quoted keys"),
            ("= 1", "line 1: ", "neither"),
            ("é = 1", "line 1: ", "neither"),
            ("a", "line 1, key 'a': ", "no '='"),
            ("a b = 1", "line 1, key 'a': ", "no '='"),
            ("a =", "line 1, key 'a': ", "no value"),
            ("a = # 1", "line 1, key 'a': ", "no value"),
            ("a = 1 2", "line 1, key 'a': ", "end of the line"),
            ("a = \"x\" y", "line 1, key 'a': ", "end of the line"),
            ("a = \"x\"\"y\"", "line 1, key 'a': ", "end of the line"),
            ("a = true false", "line 1, key 'a': ", "end of the line"),
            ("a = 'x'", "line 1, key 'a': ", "single quotes"),
            ("a = \"\"\"x\"\"\"", "line 1, key 'a': ", "several lines"),
            ("a = '''x'''", "line 1, key 'a': ", "single quotes"),
            ("a = \"x", "line 1, key 'a': ", "at the end"),
            ("a = \"x\\\"", "line 1, key 'a': ", "at the end"),
            ("a = \"\\u0041\"", "line 1, key 'a': ", "escapes"),
            ("a = \"\\", "line 1, key 'a': ", "escapes"),
            ("a = \"x\ty\"", "line 1, key 'a': ", "tab"),
            ("a = {b = 1}", "line 1, key 'a': ", "inline"),
            ("a = [1]", "line 1, key 'a': ", "list"),
            ("a = [[\"x\"]]", "line 1, key 'a': ", "list"),
            ("a = [\"x\" \"y\"]", "line 1, key 'a': ", "list"),
            ("a = [,]", "line 1, key 'a': ", "list"),
            ("a = [\"x\",,]", "line 1, key 'a': ", "list"),
            ("a = [\"x\",\n\"y\"]", "line 1, key 'a': ", "list"),
            (
                "a = [\"x\"] # [\nb = ]",
                "line 2, key 'b': ",
                "not a valid value",
            ),
            ("a = \"x\u{7f}\"", "line 1: ", "control"),
            ("# \0", "line 1: ", "control"),
            ("a = 1\rb = 2", "line 1: ", "the control character '\\r'"),
            ("a = 1\r", "line 1: ", "the control character '\\r'"),
            ("\u{feff}a = 1", "line 1: ", "a byte order mark"),
            ("a = 1\r\r\n", "line 1: ", "the control character '\\r'"),
        ] {
            let sentence = parse(text).unwrap_err().to_string();
            assert!(sentence.starts_with(place), "{text}: {sentence}");
            assert!(sentence.contains(part), "{text}: {sentence}");
        }
    }

    #[test]
    fn what_only_looks_like_a_number_is_refused() {
        for word in [
            "01",
            "-01",
            "00",
            "+",
            "-",
            "--1",
            "1_",
            "_1",
            "1__0",
            "0.25",
            "-1_0.0_1",
            "0x1f",
            "0o7",
            "0b1",
            "1e3",
            "1.0e3",
            "1.",
            ".5",
            "1._0",
            "1.0_",
            "01.5",
            "1.2.3",
            "inf",
            "nan",
            "+inf",
            "9223372036854775808",
            "1,000",
            "1h",
            "2026-11-24",
            "12:30:00",
            "2026-11-24T12:30:00Z",
            "yes",
            "True",
            "x",
            "١",
        ] {
            let sentence = value(&format!("a = {word}")).unwrap_err().to_string();
            assert!(sentence.contains("not a valid value"), "{word}: {sentence}");
        }
    }

    #[test]
    fn getters_name_line_and_key() {
        let sections = parse("n = 70000\nt = \"x\"\n[s]\nb = true\nf = 15\nl = [\"x\"]\n").unwrap();
        let (top, s) = (&sections[0], &sections[1]);
        let n = top.get("n").unwrap();
        assert_eq!(n.whole(0..=u32::MAX), Ok(70_000));
        assert_eq!(top.required("t").and_then(Entry::text), Ok("x"));
        for (wrong, sentence) in [
            (
                n.whole(1..=u16::MAX).unwrap_err(),
                "line 1, key 'n': it takes a whole number from 1 to 65535",
            ),
            (
                n.text().unwrap_err(),
                "line 1, key 'n': it takes text in double quotes",
            ),
            (
                top.required("x").unwrap_err(),
                "line 1, key 'x': missing before the first section",
            ),
            (
                s.required("x").unwrap_err(),
                "line 3, key 'x': missing in section [s]",
            ),
            (
                s.only(&["b", "l"]).unwrap_err(),
                "line 5, key 'f': unknown in section [s]; known: b, l",
            ),
        ] {
            assert_eq!(wrong.to_string(), sentence);
        }
        assert_eq!(top.only(&["n", "t", "x"]), Ok(()));
    }

    #[test]
    fn text_is_bounded() {
        let filler = "#".repeat(TOML_BYTES_MAX);
        assert!(parse(&filler).is_ok());
        let sentence = parse(&(filler + "#")).unwrap_err().to_string();
        assert!(sentence.contains("longer than"), "{sentence}");
    }

    const SAMPLE: &str =
        "# é\r\na = \"x\\\"y\" # c\nb = -1_000\nc = 5\n[s]\nd = [\"x\", \"é\",]\n[s.0]\ne = true\n";

    #[test]
    fn no_truncation_panics_or_reads_as_more_than_it_is() {
        let whole = parse(SAMPLE).unwrap();
        for end in (0..SAMPLE.len()).filter(|end| SAMPLE.is_char_boundary(*end)) {
            if let Ok(sections) = parse(&SAMPLE[..end]) {
                assert!(sections.len() <= whole.len());
            }
        }
    }

    #[test]
    fn no_mutation_panics() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        let pieces: Vec<char> = "[]\"'\\#=.,_-+0 \t\r\n1xé{}tn\u{7f}".chars().collect();
        let mut refused = 0;
        for _ in 0..20_000 {
            let mut chars: Vec<char> = SAMPLE.chars().collect();
            for _ in 0..=next(3) {
                let (at, piece) = (next(chars.len()), pieces[next(pieces.len())]);
                match next(3) {
                    0 => chars[at] = piece,
                    1 => chars.insert(at, piece),
                    _ => drop(chars.remove(at)),
                }
            }
            refused += usize::from(parse(&chars.into_iter().collect::<String>()).is_err());
        }
        assert!(
            (1_000..20_000).contains(&refused),
            "{refused} of 20000 refused"
        );
    }
}
