//! Cutting checked JSON into its raw pieces, bytes as they came.
//!
//! Why: an id must be echoed untouched, and a parser that makes values of everything has lost its bytes.
//! Invariant: no text makes these functions panic; on text that passed `json::check` they cut where JSON does.
//! What this module does not do: check. Whoever calls it has done so; nanoserde sees single strings of it only.

use nanoserde::DeJson;

/// What may stand around a JSON value (RFC 8259).
pub const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

/// What a raw JSON string says.
pub fn string(raw: &str) -> Option<String> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        String::deserialize_json(raw).ok()
    } else {
        Some(inner.to_owned())
    }
}

/// The member of that name; of several the last one, as most readers have it.
pub fn last<'a>(members: &[(String, &'a str)], name: &str) -> Option<&'a str> {
    members
        .iter()
        .rev()
        .find(|(known, _)| known == name)
        .map(|(_, raw)| *raw)
}

/// Names and raw values of a JSON object; none if it is something else.
pub fn members(raw: &str) -> Option<Vec<(String, &str)>> {
    parts(raw, '{', '}')?
        .into_iter()
        .map(|member| {
            let colon = until(member, b':');
            let name = string(member[..colon].trim_matches(BLANKS))?;
            Some((name, member.get(colon + 1..)?.trim_matches(BLANKS)))
        })
        .collect()
}

/// What stands between the outermost commas of a JSON object or list that has passed the check.
pub fn parts(raw: &str, open: char, close: char) -> Option<Vec<&str>> {
    let inner = raw.strip_prefix(open)?.strip_suffix(close)?;
    let mut rest = inner.trim_matches(BLANKS);
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let comma = until(rest, b',');
        parts.push(rest[..comma].trim_matches(BLANKS));
        rest = rest.get(comma + 1..).unwrap_or("");
    }
    Some(parts)
}

/// Position of the first `stop` outside of strings and brackets, or the length.
/// `stop` is ASCII and never part of a longer character, so one may cut there.
fn until(text: &str, stop: u8) -> usize {
    let bytes = text.as_bytes();
    let (mut depth, mut quoted, mut at) = (0usize, false, 0);
    while let Some(&byte) = bytes.get(at) {
        match (quoted, byte) {
            (true, b'\\') => at += 1,
            (_, b'"') => quoted = !quoted,
            (true, _) => {}
            (false, b'{' | b'[') => depth += 1,
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            (false, byte) if depth == 0 && byte == stop => return at,
            (false, _) => {}
        }
        at += 1;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_colons_and_brackets_in_strings_split_nothing() {
        let text = r#"{"a,b:{":"}],\"\\","id" : "x","n":[{"id":3},"]"],"é\u0041":"\\"}"#;
        let found = members(text).unwrap();
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a,b:{", "id", "n", "éA"]);
        assert_eq!(last(&found, "id"), Some("\"x\""));
        let list = last(&found, "n").unwrap();
        assert_eq!(parts(list, '[', ']').unwrap(), [r#"{"id":3}"#, "\"]\""]);
        assert_eq!(last(&found, "éA").and_then(string), Some("\\".to_owned()));
    }

    #[test]
    fn what_is_something_else_is_none_and_unchecked_text_does_no_harm() {
        assert_eq!(members("[1]"), None);
        assert_eq!(parts("[ ]", '[', ']'), Some(Vec::new()));
        assert_eq!(string("1"), None);
        assert_eq!(string("\""), None);
        for text in [
            "{",
            "{}",
            "{:}",
            "{,}",
            "{\"a}",
            "{\"a\\}",
            "{]}",
            "{\"é\":}",
        ] {
            let _ = members(text);
        }
    }
}
