//! Prices in the JSON that is printed: the shortest digits that read back as the same number, and no exponent.

use nanoserde::{SerJson, SerJsonState};

/// A price as JSON has it.
pub(crate) struct Exact(
    /// Finite.
    pub f64,
);

impl SerJson for Exact {
    fn ser_json(&self, _depth: usize, state: &mut SerJsonState) {
        state.out.push_str(&self.0.to_string());
    }
}
