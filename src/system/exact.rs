//! Numbers in text. In printed JSON, prices have the fewest digits that read back as the same number, without an exponent.
//! Where lines of a log are compared, numbers do not count.

use nanoserde::{SerJson, SerJsonState};

/// A price in printed JSON.
#[derive(Clone, Copy)]
pub(crate) struct Exact(
    /// The price, which must be finite.
    pub f64,
);

impl SerJson for Exact {
    fn ser_json(&self, _depth: usize, state: &mut SerJsonState) {
        state.out.push_str(&self.0.to_string());
    }
}

/// The shape of a line: lines that differ only in numbers have the same one.
pub(crate) fn shape(line: &str) -> String {
    let mut shape = String::with_capacity(line.len());
    for c in line.chars() {
        let within = shape.ends_with('#') && matches!(c, '.' | ',' | '0'..='9');
        match c {
            _ if within => {}
            '0'..='9' => shape.push('#'),
            _ => shape.push(c),
        }
    }
    shape
}
