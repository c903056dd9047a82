//! One line of log, written whole.
//!
//! Invariant: every line begins with the role that speaks, holds no control characters and is one write, so that
//! lines of several processes on one descriptor do not mix. A log that cannot be written never stops a role.
//! What this module does not do: levels, time stamps, files. A supervisor's journal adds those.

use std::fmt;
use std::io::Write;

/// Writes `role: line` to standard error.
pub fn say(role: &str, line: impl fmt::Display) {
    let text = format!("{}\n", printable(&format!("{role}: {line}")));
    // A closed standard error is no reason to stop: there is nobody left to tell.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// The text with everything that could steer a terminal replaced.
pub fn printable(text: &str) -> String {
    // Control characters steer a terminal; the others reorder or hide what it shows.
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars()
        .map(|c| if steers(c) { '·' } else { c })
        .collect()
}

/// Printable text as a JSON string.
pub fn quoted(text: &str) -> String {
    let escaped = printable(text).replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}
