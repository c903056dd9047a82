//! Checks before a run that its collectors will find root certificates, and that the proxy settings are valid.

use super::run::Configuration;
use crate::exchange::roots::{self, Roots};
use crate::exchange::{endpoints, tunnel};
use crate::source::Source;
use rsoracle_verify::error::Error;

/// Looks for root certificates and a proxy, if any connection will use TLS. A problem is reported here, once, before every
/// collector would report it.
pub fn check(configuration: &Configuration) -> Result<(), Error> {
    let Some(children) = &configuration.run.children else {
        return Ok(());
    };
    let encrypted = |source: &Source| match &children.endpoint {
        Some(url) if source.embedded => url.starts_with("wss://"),
        // The embedded exchange that a run starts itself does not use TLS.
        None if source.embedded => false,
        _ => endpoints(source, None).iter().any(|endpoint| endpoint.tls),
    };
    let mut sources = configuration.watched.sources.iter().flatten();
    if children.ca_file.is_some() || sources.any(encrypted) {
        // Done once here; the collectors inherit it.
        roots::defer();
        Roots::find(children.ca_file.as_deref())?;
        tunnel::proxies(configuration.proxy.as_ref())?;
    }
    Ok(())
}
