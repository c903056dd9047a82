//! Starts the aggregator's children, local collectors and the embedded exchange, and reads their log.
//!
//! Invariant: arguments hold no secret, and the environment holds none but a proxy's password. All children share one socket
//! as standard error. The aggregator reads its other end, so that only one process writes to the terminal.

use super::settings::Run;
use super::setup::write_enrolment;
use super::{Aggregator, words};
use crate::keys::file as keyfile;
use crate::keys::secret::wipe;
use crate::system::child::{Child, this_program};
use crate::system::endpoint::Endpoint;
use crate::system::limits::{CHILD_END_MS_MAX, HANDSHAKE_MS_MAX};
use rsoracle_verify::duration::duration_text;
use rsoracle_verify::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

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

impl Aggregator<'_> {
    /// Starts the embedded exchange if it is needed, and every local collector.
    pub(super) fn start_collectors(&mut self) -> Result<(), Error> {
        let (control, data) = (self.control.address, self.data.address);
        for (asked, opened) in [(self.config.control, control), (self.config.data, data)] {
            if asked.port() != opened.port() && asked.port() != 0 {
                let (taken, free) = (asked.port(), opened.port());
                self.tell(&format!(
                    "port {taken} is in use by another program; using port {free} instead, which collectors started here are told"
                ));
            }
        }
        self.tell(&format!(
            "control channel on {control}, data channel on {data}"
        ));
        for warning in words::warnings(&self.config.tolerance()) {
            self.tell(&warning);
        }
        if self.has_exchange() {
            let exchange = exchange(&self.log, None)?;
            self.tell(&format!(
                "embedded exchange on {}, with recorded prices",
                exchange.endpoint.url
            ));
            self.endpoint = Some(exchange.endpoint.clone());
            self.exchange = Some(exchange);
        }
        let endpoint = self.endpoint.clone();
        for slot in 0..self.config.collectors {
            let place = CollectorPlace {
                slot,
                control,
                data,
                endpoint: endpoint.as_ref(),
            };
            self.start_collector(&place)?;
            // The first collectors connect already, and the listener's queue is short.
            self.sweep();
        }
        Ok(())
    }

    /// Whether this aggregator starts the embedded exchange.
    pub(super) fn has_exchange(&self) -> bool {
        self.config.embedded() && self.config.endpoint.is_none()
    }

    /// Starts a local collector, or writes the enrolment of a remote one.
    pub(super) fn start_collector(&mut self, place: &CollectorPlace) -> Result<(), Error> {
        let slot = &mut self.slots[usize::from(place.slot)];
        let mut enrolment = [0; 64];
        enrolment[..32].copy_from_slice(slot.secret.expose());
        enrolment[32..].copy_from_slice(self.key.public().bytes());
        let done = if slot.remote {
            let dir = self.config.enrolment_dir.as_deref();
            write_enrolment(dir.expect("--remote needs it"), place.slot, &enrolment)
        } else {
            let child = collector(self.config, place, &enrolment, &self.log);
            child.map(|child| slot.child = Some(child))
        };
        wipe(&mut enrolment);
        done
    }
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

/// The embedded exchange, running as a child.
pub struct ExchangeChild {
    /// The process.
    pub child: Child,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// The other end of its standard input. The exchange ends when this is closed, so it never outlives us.
    _tether: UnixStream,
}

/// Starts the embedded exchange on 127.0.0.1 and waits until it listens. `before` is its address if it ran before: it
/// listens there again. Otherwise it takes a free port.
pub fn exchange(log: &Log, before: Option<&Endpoint>) -> Result<ExchangeChild, Error> {
    let attempt = "cannot start the embedded exchange";
    let failed = |error| Error::new(attempt, error);
    let (tether, stdin) = UnixStream::pair().map_err(failed)?;
    let (said, stdout) = UnixStream::pair().map_err(failed)?;
    said.set_read_timeout(Some(Duration::from_millis(HANDSHAKE_MS_MAX)))
        .map_err(failed)?;
    let mut command = this_program()?;
    let port = before.map_or(0, |endpoint| endpoint.port);
    command.args(["exchange", "--listen", &format!("127.0.0.1:{port}")]);
    command.arg("--until-eof");
    command
        .stdin(Stdio::from(OwnedFd::from(stdin)))
        .stdout(Stdio::from(OwnedFd::from(stdout)));
    command.stderr(log.for_child()?);
    let child = Child::spawn(&mut command, "the embedded exchange")?;
    // Dropping the command closes our copies of the child's ends, so that we see end of file when it ends.
    drop(command);
    let mut line = String::new();
    BufReader::new(said.take(200))
        .read_line(&mut line)
        .map_err(failed)?;
    let url = line.trim().strip_prefix("listening on ");
    match url.and_then(|url| Endpoint::parse(url).ok()) {
        Some(endpoint) => Ok(ExchangeChild {
            child,
            endpoint,
            _tether: tether,
        }),
        None => Err(Error::new(attempt, "it ended before it listened")),
    }
}

/// Waits up to [`CHILD_END_MS_MAX`] for children that were told to end, then kills the remaining ones.
pub(crate) fn end_all(mut children: Vec<Child>) {
    let until = Instant::now() + Duration::from_millis(CHILD_END_MS_MAX);
    let mut nap = Duration::from_micros(200);
    while Instant::now() < until {
        children.retain_mut(|child| child.ended().is_none());
        if children.is_empty() {
            return;
        }
        std::thread::sleep(nap);
        nap = (nap * 2).min(Duration::from_millis(10));
    }
}

/// The socket that children write their log to.
pub struct Log {
    near: UnixStream,
    far: UnixStream,
    /// What was read last.
    bytes: Box<[u8; 16 * 1024]>,
}

impl Log {
    /// Makes the socket pair.
    pub fn new() -> Result<Log, Error> {
        let failed = |error| Error::new("cannot make a socket for the children's log", error);
        let (near, far) = UnixStream::pair().map_err(failed)?;
        near.set_nonblocking(true).map_err(failed)?;
        // Children share the far end: a child that floods it must not block the others.
        far.set_nonblocking(true).map_err(failed)?;
        let bytes = Box::new([0; 16 * 1024]);
        Ok(Log { near, far, bytes })
    }

    /// A copy of the far end, as one child's standard error.
    pub(crate) fn for_child(&self) -> Result<Stdio, Error> {
        let far = self.far.try_clone();
        let far = far.map_err(|error| Error::new("cannot hand the log to a child", error))?;
        Ok(Stdio::from(OwnedFd::from(far)))
    }

    /// What children wrote since the last call; may be empty.
    pub fn read(&mut self) -> &[u8] {
        let count = self.near.read(&mut self.bytes[..]).unwrap_or(0);
        &self.bytes[..count]
    }
}
