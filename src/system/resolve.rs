//! DNS lookups, each in a child process (`rsoracle resolve`), since nothing can interrupt the system's resolver when a name
//! server does not answer.
//!
//! Invariant: a lookup returns by its deadline, and its child process ends then. The caller's callback runs every few
//! milliseconds meanwhile. Nothing is cached.

use crate::system::child;
use crate::system::limits::RESOLVE_MS_MAX;
use rsoracle_verify::error::Error;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Pause between two checks of the child process.
const NAP: Duration = Duration::from_millis(2);
/// Bytes of the child's answer that are read; a longer one is truncated.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// Prefix of the child's output when the lookup failed; the cause follows.
const FAILED: &str = "failed: ";

/// The child's job: looks up `HOST:PORT`. Returns the text for standard output (one address per line, or the cause of the
/// failure), and the error if there is one.
pub fn answer(name: &str) -> (String, Option<Error>) {
    match name.to_socket_addrs() {
        Ok(addresses) => (
            addresses.map(|address| format!("{address}\n")).collect(),
            None,
        ),
        Err(error) => {
            let text = error.to_string();
            // Drop the standard library's prefix: the system's own message is enough.
            let cause = text.strip_prefix("failed to lookup address information: ");
            let said = format!("{FAILED}{}\n", cause.unwrap_or(&text));
            let error = Error::new(format!("cannot resolve {name}"), error);
            (said, Some(error))
        }
    }
}

/// The addresses of a host. An IP address needs no lookup.
///
/// `look` is called while the lookup runs; its error ends it.
pub fn addresses(
    host: &str,
    port: u16,
    deadline: Instant,
    look: &mut dyn FnMut() -> Result<(), Error>,
) -> Result<Vec<SocketAddr>, Error> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let failed = |cause: String| {
        let advice = "check the name, this machine's network and /etc/resolv.conf";
        Error::new(format!("cannot resolve {host}"), cause)
            .advise(advice)
            .passing()
    };
    let mut command = child::this_program()?;
    command.args(["resolve", &format!("{host}:{port}")]);
    // Not Stdio::null, which opens /dev/null: an empty root has none. Nobody reads these few words.
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut asked = child::Child::spawn(&mut command, "the process that looks up host names")?;
    let until = deadline.min(Instant::now() + Duration::from_millis(RESOLVE_MS_MAX));
    let status = loop {
        if let Some(status) = asked.ended() {
            break status;
        }
        look()?;
        if Instant::now() >= until {
            return Err(failed(format!(
                "no name server answered within {RESOLVE_MS_MAX} ms"
            )));
        }
        std::thread::sleep(NAP);
    };
    let said = asked.said(ANSWER_BYTES_MAX);
    if !status.success() {
        let cause = said.trim_end().strip_prefix(FAILED);
        return Err(failed(
            cause
                .unwrap_or("the lookup process ended without an answer")
                .to_owned(),
        ));
    }
    let read: Result<Vec<SocketAddr>, _> = said.lines().map(str::parse).collect();
    read.map_err(|error| {
        failed(format!(
            "the lookup process answered with no address ({error})"
        ))
    })
}
