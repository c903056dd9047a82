//! Turns the flags of `rsoracle collect` into settings.

use crate::collector::settings::Collect;
use crate::flags::args::{Given, Usage};
use crate::flags::values::{
    connection_age_us, endpoint, feed, overrides, path, proxy, sample_rule, source_for,
};
use crate::system::limits::COLLECTORS_MAX;

/// Reads the flags of [`crate::flags::tables::COLLECT`].
pub fn read(given: &Given) -> Result<Collect, Usage> {
    let (name, feed) = (given.required("source")?, feed(given)?);
    let source = source_for(name, &feed);
    let source = source.map_err(|right| given.wrong("source", name, &right))?;
    let endpoint = endpoint(given, std::slice::from_ref(&source))?;
    if source.embedded && endpoint.is_none() {
        return Err(Usage(
            "an 'embedded:' source needs --endpoint URL, the address of the embedded exchange"
                .into(),
        ));
    }
    Ok(Collect {
        slot: given.number("slot", 0..=COLLECTORS_MAX - 1)?,
        source,
        endpoint,
        feed,
        control: given.address("control")?,
        data: given.address("data")?,
        sample_rule: sample_rule(given)?,
        ca_file: path(given, "ca-file")?,
        proxy: proxy(given)?,
        key: path(given, "key")?,
        connection_age_us: connection_age_us(given)?,
        overrides: overrides(given, None)?,
        stay: given.has("stay"),
    })
}
