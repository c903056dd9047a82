//! Whether the collectors of a run can get out: whom to trust, and by which proxy.

use super::run::Meant;
use crate::exchange::roots::{self, Roots};
use crate::exchange::{endpoints, tunnel};
use rsoracle_proof::source::Source;
use rsoracle_verify::error::Error;

/// Whom to trust and which proxy to take, where that matters: said once and now, rather than by every collector.
pub fn check(meant: &Meant) -> Result<(), Error> {
    let run = &meant.run;
    let encrypted = |source: &Source| match &run.endpoint {
        Some(endpoint) if source.embedded => endpoint.tls,
        // The embedded exchange that a run starts itself speaks without TLS.
        None if source.embedded => false,
        _ => endpoints(source, None).iter().any(|endpoint| endpoint.tls),
    };
    if run.ca_file.is_some() || run.sources.iter().any(encrypted) {
        // Once here rather than in every collector, which inherits it.
        roots::defer();
        Roots::find(run.ca_file.as_deref())?;
        tunnel::proxies(meant.proxy.as_ref())?;
    }
    Ok(())
}
