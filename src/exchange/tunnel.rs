//! A connection through a proxy: CONNECT, and its answer to the last byte of its head and no further.
//!
//! Invariant: what the host behind the proxy sends is left to be read by whoever speaks TLS with it; the answer has a named
//! deadline and a bounded head. What this module does not do: choose the proxy, or resolve the host's name (the proxy does).

use super::link::{Look, slice};
use crate::error::Error;
use crate::limits::{PROXY_HEAD_BYTES_MAX, PROXY_MS_MAX};
use crate::net::{Gate, waits};
use crate::proxy::{Answer, Proxies, Proxy, answer};
use crate::source::Endpoint;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

/// Which connections go through which proxy: what `--proxy` names, or else the environment.
pub fn proxies(named: Option<&Proxy>) -> Result<Proxies, Error> {
    let variable = |name: &str| std::env::var(name).ok();
    Proxies::find(named, variable).map_err(|(name, right)| {
        let cause = format!("it takes {right}");
        Error::new(format!("cannot use the proxy that {name} names"), cause).advise(format!(
            "mend or unset {name}, or name a proxy with --proxy"
        ))
    })
}

/// What to do where the proxy itself cannot be reached.
pub const UNREACHED: &str = "that is the proxy: check --proxy or HTTPS_PROXY, and that it is up";

/// Asks the proxy at the other end of `gate` for a connection to the endpoint.
pub fn dig(
    proxy: &Proxy,
    endpoint: &Endpoint,
    mut gate: Gate,
    deadline: Instant,
    look: Look,
) -> Result<Gate, Error> {
    let Endpoint { host, port, .. } = endpoint;
    let until = deadline.min(Instant::now() + Duration::from_millis(PROXY_MS_MAX));
    let failed = |cause: String| {
        let attempt = format!("cannot reach {host}:{port} through the proxy {proxy}");
        let advice = "check the proxy's address (--proxy, HTTPS_PROXY), and that it takes CONNECT";
        Error::new(attempt, cause).advise(advice)
    };
    let broken = |error: std::io::Error| failed(error.to_string()).passing();
    gate.set_patience(slice(until)).map_err(broken)?;
    gate.write_all(proxy.request(host, *port).as_bytes())
        .map_err(broken)?;
    let mut head = Vec::new();
    loop {
        match answer(&head) {
            Answer::Status(200) => return Ok(gate),
            Answer::Status(code) => return Err(refusal(failed, code)),
            Answer::Other => return Err(failed("what answers there is no HTTP proxy".into())),
            Answer::Part if head.len() >= PROXY_HEAD_BYTES_MAX => {
                return Err(failed(format!(
                    "the head of its answer is longer than {PROXY_HEAD_BYTES_MAX} bytes"
                )));
            }
            Answer::Part => {}
        }
        // One byte at a time: the next one may be the host's.
        let mut byte = [0];
        match gate.read(&mut byte) {
            Ok(0) => return Err(failed("it closed the connection".into()).passing()),
            Ok(_) => head.extend(byte),
            Err(error) if waits(&error) => {
                look()?;
                if Instant::now() >= until {
                    let cause = format!("no whole answer to CONNECT within {PROXY_MS_MAX} ms");
                    return Err(failed(cause).passing());
                }
                gate.set_patience(slice(until)).map_err(broken)?;
            }
            Err(error) => return Err(broken(error)),
        }
    }
}

/// What a proxy means by a status other than 200, and what to do (RFC 9110, section 15).
fn refusal(failed: impl Fn(String) -> Error, code: u16) -> Error {
    let (meaning, advice) = match code {
        407 => (
            "it wants other credentials, or any",
            "name them: http://USER:PASSWORD@HOST:PORT, best in HTTPS_PROXY, which other users cannot read",
        ),
        403 => (
            "it does not let this machine reach that host and port",
            "ask whoever runs it to allow them, or use another source",
        ),
        400 | 404 | 405 | 501 => (
            "it does not take CONNECT",
            "check that the address is a proxy's that passes TLS on, not a web server's",
        ),
        429 => ("too many requests to it", "wait before the next try"),
        502 | 504 => (
            "it could not reach that host",
            "check that the host is up and that the proxy has a way to it",
        ),
        500..=599 => (
            "it is out of order",
            "try again later, or ask whoever runs it",
        ),
        _ => (
            "an answer that makes no tunnel",
            "check the proxy's address",
        ),
    };
    let error = failed(format!("refused with HTTP {code}: {meaning}")).advise(advice);
    if code >= 429 { error.passing() } else { error }
}
