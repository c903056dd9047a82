//! Prices in printed JSON: the fewest digits that read back as the same number, without an exponent.

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
