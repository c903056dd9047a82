//! Turns the flags of `rsoracle verify` into settings.

use crate::flags::args::{Given, Usage};
use rsoracle_verify::Settings;

/// Reads the flags of [`crate::flags::tables::VERIFY`].
pub fn read(given: &Given) -> Result<Settings, Usage> {
    let settings = Settings::new(
        given.operands().to_vec(),
        given.all("roster").collect(),
        given.all("head").collect(),
        given.text("max-age"),
        [given.has("published"), given.has("json")],
    );
    settings.map_err(Usage)
}
