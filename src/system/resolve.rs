//! Names to addresses, asked in a process of its own: the system's resolver waits for a silent name server for as long as it
//! likes, and nothing in the process that asks can cut that short.
//!
//! Invariant: whoever asks looks elsewhere every few milliseconds and is done by its deadline; the process that was asked ends
//! then. What this module does not do: remember answers, or ask name servers itself.

use crate::system::child;
use crate::system::limits::RESOLVE_MS_MAX;
use rsoracle_verify::error::Error;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Time between two looks at the process that asks.
const NAP: Duration = Duration::from_millis(2);
/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// What stands before a cause on standard output, in an address's place.
const FAILED: &str = "failed: ";

/// What the process of its own does: says the addresses of `HOST:PORT`, a line each, or why there are none.
pub fn answer(name: &str) -> (String, Option<Error>) {
    match name.to_socket_addrs() {
        Ok(addresses) => (
            addresses.map(|address| format!("{address}\n")).collect(),
            None,
        ),
        Err(error) => {
            let text = error.to_string();
            // The system's own words are behind what the standard library puts before them.
            let cause = text.strip_prefix("failed to lookup address information: ");
            let said = format!("{FAILED}{}\n", cause.unwrap_or(&text));
            let error = Error::new(format!("cannot resolve {name}"), error);
            (said, Some(error))
        }
    }
}

/// The addresses of a host; an address in the host's place is its own answer.
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
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut asked = child::Child::spawn(&mut command, "a process that resolves a name")?;
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
            cause.unwrap_or("it ended without an answer").to_owned(),
        ));
    }
    let read: Result<Vec<SocketAddr>, _> = said.lines().map(str::parse).collect();
    read.map_err(|error| failed(format!("the answer is no address ({error})")))
}
