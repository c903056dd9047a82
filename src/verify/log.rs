//! Writes log lines to standard error.
//!
//! Invariant: every line begins with the role of its process, contains no control characters, is bounded however long the
//! values in it are, and is written at once, so that lines of several processes do not mix. A failed write is ignored. There
//! are no levels or timestamps; a supervisor's journal adds those.

use crate::error::brief;
use std::fmt;
use std::io::Write;

/// Longest line, in characters. The middle of a longer one is left out.
pub const LINE_CHARS_MAX: usize = 2_000;

/// Writes `role: line` to standard error.
pub fn say(role: &str, line: impl fmt::Display) {
    let line = brief(&format!("{role}: {line}"), LINE_CHARS_MAX);
    let text = format!("{}\n", printable(&line));
    // Ignore a closed standard error.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// The text with all characters replaced that could control a terminal.
pub fn printable(text: &str) -> String {
    // Control characters control a terminal; the others reorder or hide what it shows.
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars()
        .map(|c| if steers(c) { '·' } else { c })
        .collect()
}

/// Text as a JSON string, with unprintable characters replaced.
pub fn quoted(text: &str) -> String {
    let escaped = printable(text).replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

/// A value in JSON, or `null`.
pub fn or_null(value: Option<String>) -> String {
    value.unwrap_or_else(|| "null".to_owned())
}
