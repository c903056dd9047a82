//! Writes log lines to standard error.
//!
//! Invariant: every line begins with the role of its process, contains no control characters, and is written at once, so
//! that lines of several processes do not mix. A failed write is ignored. There are no levels or timestamps; a supervisor's
//! journal adds those.

use std::fmt;
use std::io::Write;

/// Writes `role: line` to standard error.
pub fn say(role: &str, line: impl fmt::Display) {
    let text = format!("{}\n", printable(&format!("{role}: {line}")));
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
