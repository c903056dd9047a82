//! Starts the aggregator's children, local collectors, the embedded exchange and the server of the journal, and reads their log.
//!
//! Invariant: arguments hold no secret, and the environment holds none but a proxy's password. All children share one socket
//! as standard error. The aggregator reads its other end, so that only one process writes to the terminal.

use super::tether::Tether;
use super::{Aggregator, Restart, words};
use crate::aggregator::limits::{CHILD_END_MS_MAX, HANDSHAKE_MS_MAX};
use crate::keys::make;
use crate::system::child::{Child, this_program};
use rsoracle_proof::seal::hex;
use rsoracle_proof::source::is_embedded;
use rsoracle_verify::error::Error;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A collector that this process has started.
pub struct LocalCollector {
    /// The process.
    pub process: Child,
    /// The collector ends when this is closed, so it never outlives us.
    pub tether: Tether,
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
        let roster = &self.config.roster;
        for warning in &self.config.warnings {
            self.tell(warning);
        }
        if let Some((listen, words)) = &self.config.serve {
            let server = ServerChild::start("server", words.clone(), listen, &self.log)?;
            self.tell(&format!("live page and reports on {}/", server.url));
            self.servers.push((server, Restart::default()));
        }
        let children = self.config.children.as_ref();
        if self.config.embedded() && children.is_some_and(|it| it.endpoint.is_none()) {
            let exchange = exchange(&self.log)?;
            self.tell(&format!(
                "embedded exchange on {}, with recorded prices",
                exchange.url
            ));
            self.endpoint = Some(exchange.url.clone());
            self.servers.push((exchange, Restart::default()));
        }
        if children.is_none() {
            let digests = (0..).zip(&roster.feeds).map(|(feed, terms)| {
                let begins = hex(&terms.digest()[..8]);
                (
                    feed,
                    format!("the digest of its terms begins with {begins}"),
                )
            });
            let mut digests = words::of_feeds(roster, digests);
            if digests.len() > 1 {
                let begins = hex(&roster.digest()[..8]);
                digests.insert(0, format!("the digest of its roster begins with {begins}"));
            }
            let (key, digests) = (self.key.public(), digests.join("; "));
            self.tell(&format!(
                "this aggregator's key is {}; {digests}",
                hex(key.bytes())
            ));
            return Ok(());
        }
        for slot in 0..self.config.n() {
            self.start_collector(slot)?;
            // The first collectors connect already, and the listener's queue is short.
            self.sweep();
        }
        Ok(())
    }

    /// Starts the collector of a slot.
    pub(super) fn start_collector(&mut self, slot: u16) -> Result<(), Error> {
        let what = self.slots[usize::from(slot)].collector(usize::from(slot));
        let failed = |error| Error::new(format!("cannot start {what}"), error).passing();
        let (tether, stdin) = Tether::new(&self.key.public()).map_err(failed)?;
        let mut command = self.collector(slot)?;
        command
            .stdin(Stdio::from(stdin))
            .stdout(self.log.for_child()?)
            .stderr(self.log.for_child()?);
        let process = Child::spawn(&mut command, &what)?;
        self.slots[usize::from(slot)].child = Some(LocalCollector { process, tether });
        Ok(())
    }

    /// The command that runs the collector of a slot.
    fn collector(&self, index: u16) -> Result<Command, Error> {
        let (config, slot) = (self.config, usize::from(index));
        let children = config.children.as_ref().expect("it starts collectors");
        let sources = &config.roster.slots[slot].sources;
        let sources: Vec<&String> = sources.iter().filter(|it| !it.is_empty()).collect();
        let mut command = this_program()?;
        command.args(["collect", "--tether", "--slot", &index.to_string()]);
        for source in &sources {
            command.args(["--source", source]);
        }
        command.args(["--control", &self.control.address.to_string()]);
        command.args(["--data", &self.data.address.to_string()]);
        command.args(&children.flags[slot]);
        if !config.single() {
            command.arg("--stay");
        }
        if let Some(url) = self.endpoint.as_ref().filter(|_| is_embedded(sources[0])) {
            command.args(["--endpoint", url]);
        }
        if let Some(file) = &children.ca_file {
            command.args(["--ca-file", file]);
        }
        if let Some(dir) = &children.keys {
            command.args(["--key", &make::of_slot(dir, index)]);
        }
        command.envs(children.environment.iter().cloned());
        Ok(command)
    }
}

/// A server that runs as a child: the embedded exchange, or `rsoracle serve`.
pub struct ServerChild {
    /// What it is called in messages.
    pub(super) name: &'static str,
    words: Vec<String>,
    listen: String,
    /// Where it listens.
    pub(crate) url: String,
    /// The process, and the other ends of its standard input and output. It ends when the former is closed, so it never outlives
    /// us.
    running: Option<(Child, [UnixStream; 2])>,
}

impl ServerChild {
    /// Starts a server with these arguments, and waits until it listens.
    fn start(
        name: &'static str,
        words: Vec<String>,
        listen: &impl ToString,
        log: &Log,
    ) -> Result<ServerChild, Error> {
        let mut server = ServerChild {
            name,
            words,
            listen: listen.to_string(),
            url: String::new(),
            running: None,
        };
        let [_, said] = server.spawn(log)?;
        let attempt = format!("cannot start the {name}");
        let mut line = String::new();
        said.set_read_timeout(Some(Duration::from_millis(HANDSHAKE_MS_MAX)))
            .and_then(|()| BufReader::new(said.take(200)).read_line(&mut line))
            .map_err(|error| Error::new(&attempt, error))?;
        let url = line.trim().strip_prefix("listening on ");
        let url = url.ok_or_else(|| Error::new(&attempt, "it ended before it listened"))?;
        // Started again, it listens at the same address.
        server.listen = url.split('/').nth(2).unwrap_or_default().to_owned();
        server.url = url.to_owned();
        Ok(server)
    }

    /// Starts it. Returns the other ends of its standard input and output.
    pub(super) fn spawn(&mut self, log: &Log) -> Result<&mut [UnixStream; 2], Error> {
        let failed = |error| Error::new(format!("cannot start the {}", self.name), error);
        let (tether, stdin) = UnixStream::pair().map_err(failed)?;
        let (said, stdout) = UnixStream::pair().map_err(failed)?;
        let mut command = this_program()?;
        command
            .args(&self.words)
            .args(["--listen", &self.listen, "--until-eof"])
            .stdin(Stdio::from(OwnedFd::from(stdin)))
            .stdout(Stdio::from(OwnedFd::from(stdout)))
            .stderr(log.for_child()?);
        let child = Child::spawn(&mut command, &format!("the {}", self.name))?;
        // The command is dropped here, and with it our copies of the child's ends: so we see end of file when it ends.
        Ok(&mut self.running.insert((child, [tether, said])).1)
    }

    /// Its exit status, once after it has ended.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.running.as_mut()?.0.ended()?;
        self.running = None;
        Some(status)
    }

    /// Whether it runs.
    pub(super) fn runs(&self) -> bool {
        self.running.is_some()
    }
}

/// Starts the embedded exchange on a free port of 127.0.0.1, and waits until it listens.
pub fn exchange(log: &Log) -> Result<ServerChild, Error> {
    let words = vec!["exchange".to_owned()];
    ServerChild::start("embedded exchange", words, &"127.0.0.1:0", log)
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
