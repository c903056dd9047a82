//! Starts the aggregator's children: local collectors and the embedded exchange.
//!
//! Invariant: arguments hold no secret, and the environment holds none but a proxy's password.

use super::settings::Run;
use crate::keys::file as keyfile;
use crate::system::child::{Child, Log, this_program};
use crate::system::embedded::{self, ExchangeChild};
use crate::system::endpoint::Endpoint;
use rsoracle_verify::duration::duration_text;
use rsoracle_verify::error::Error;
use std::io::Write;
use std::net::SocketAddr;
use std::process::Stdio;

/// What a collector's command line needs besides the configuration.
pub struct CollectorPlace<'a> {
    /// The collector's slot.
    pub slot: u16,
    /// Address of the control channel.
    pub control: SocketAddr,
    /// Address of the data channel.
    pub data: SocketAddr,
    /// Address of the embedded exchange, if there is one.
    pub endpoint: Option<&'a Endpoint>,
}

/// Starts one collector, and writes its enrolment to its standard input.
pub fn collector(
    config: &Run,
    place: &CollectorPlace,
    enrolment: &[u8; 64],
    log: &Log,
) -> Result<Child, Error> {
    let mut command = this_program()?;
    command.arg("collect");
    command.args(["--slot", &place.slot.to_string()]);
    let slot = usize::from(place.slot);
    let source = &config.sources[slot];
    command.args(["--source", &source.name, "--feed", &config.feed]);
    command.args([
        "--control",
        &place.control.to_string(),
        "--data",
        &place.data.to_string(),
    ]);
    command.args(["--sample-rule", config.sample_rule.name()]);
    command.args(["--connection-age", &duration_text(config.connection_age_us)]);
    command.args(config.overrides[slot].flags());
    if config.every_us.is_some() {
        command.arg("--stay");
    }
    if let Some(endpoint) = place.endpoint.filter(|_| source.embedded) {
        command.args(["--endpoint", &endpoint.url]);
    }
    if let Some(file) = &config.ca_file {
        command.args(["--ca-file", file]);
    }
    if let Some(dir) = &config.collector_keys {
        command.args(["--key", &keyfile::of_slot(dir, place.slot)]);
    }
    command.envs(config.environment.iter().map(|(name, value)| (name, value)));
    command
        .stdin(Stdio::piped())
        .stdout(log.for_child()?)
        .stderr(log.for_child()?);
    let what = format!("collector {}", place.slot);
    let mut child = Child::spawn(&mut command, &what)?;
    let mut stdin = child.take_stdin().expect("standard input is a pipe");
    // The write fails if the child has ended already, which `sweep` notices.
    let _ = stdin.write_all(enrolment);
    Ok(child)
}

/// Starts the embedded exchange. `before` is its address if it ran before.
pub fn exchange(log: &Log, before: Option<&Endpoint>) -> Result<ExchangeChild, Error> {
    embedded::start(log.for_child()?, before)
}
