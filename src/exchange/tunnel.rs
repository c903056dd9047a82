//! Opens a tunnel through an HTTP proxy with CONNECT.
//!
//! Invariant: of an answer that opens the tunnel, exactly the head is read. Everything after it comes from the host behind the
//! proxy, and is left for TLS. The proxy resolves the host's name.

use super::http::{body, read_head, saying};
use crate::exchange::limits::PROXY_MS_MAX;
use crate::exchange::proxy::{Proxies, Proxy};
use crate::exchange::roots::variable;
use crate::system::endpoint::Endpoint;
use crate::system::net::{Gate, Look, Phase};
use rsoracle_verify::error::Error;
use std::io::Write;
use std::time::Instant;

/// Reads which connections use a proxy: `--proxy`, or else the environment variables.
pub fn proxies(named: Option<&Proxy>) -> Result<Proxies, Error> {
    for name in ["https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"] {
        // With --proxy, the variables do not count.
        named.map_or_else(|| variable(name), |_| Ok(None))?;
    }
    let value = |name: &str| variable(name).ok().flatten();
    Proxies::find(named, value).map_err(|(name, right)| {
        let cause = format!("it takes {right}");
        Error::new(format!("cannot use the proxy that {name} names"), cause).advise(format!(
            "correct or unset {name}, or name a proxy with --proxy"
        ))
    })
}

/// Advice if the proxy itself cannot be reached.
pub(crate) const UNREACHED: &str =
    "this is the proxy: check --proxy or HTTPS_PROXY, and that the proxy is up";

/// Asks the proxy at the other end of `gate` for a connection to `endpoint`.
pub(crate) fn open_tunnel(
    proxy: &Proxy,
    endpoint: &Endpoint,
    mut gate: Gate,
    deadline: Instant,
    look: Look,
) -> Result<Gate, Error> {
    let Endpoint { host, port, .. } = endpoint;
    let phase = Phase::new(deadline, PROXY_MS_MAX);
    let failed = |cause: String| {
        let attempt = format!("cannot reach {host}:{port} through the proxy {proxy}");
        let advice =
            "check the proxy's address (--proxy, HTTPS_PROXY), and that it supports CONNECT";
        Error::new(attempt, cause).advise(advice)
    };
    let broken = |error: std::io::Error| failed(error.to_string()).passing();
    gate.set_patience(phase.slice()).map_err(broken)?;
    gate.write_all(proxy.request(host, *port).as_bytes())
        .map_err(broken)?;
    let itself: fn(&mut Gate) -> &mut Gate = |gate| gate;
    let head = read_head((&mut gate, itself), "CONNECT", &phase, &failed, look)?;
    if head.status == 200 {
        return Ok(gate);
    }
    let words = body((&mut gate, itself), &head, deadline, look);
    Err(refusal(failed, head.status, &words))
}

/// The error for a status other than 200: what it means, and what to do (RFC 9110, section 15).
fn refusal(failed: impl Fn(String) -> Error, code: u16, words: &str) -> Error {
    let (meaning, advice) = match code {
        407 => (
            "it requires credentials, or does not accept these",
            "name them as http://USER:PASSWORD@HOST:PORT, preferably in HTTPS_PROXY, which other users cannot read",
        ),
        403 => (
            "it does not let this machine reach that host and port",
            "ask the proxy's operator to allow them, or use another source",
        ),
        400 | 404 | 405 | 501 => (
            "it does not support CONNECT",
            "check that the address is that of a proxy that tunnels TLS, not that of a web server",
        ),
        429 => ("it got too many requests", "wait before the next try"),
        502 | 504 => (
            "it could not reach that host",
            "check that the host is up, and that the proxy can reach it",
        ),
        500..=599 => (
            "it is not working",
            "try again later, or ask the proxy's operator",
        ),
        _ => ("this answer opens no tunnel", "check the proxy's address"),
    };
    let said = saying(words);
    let error = failed(format!("refused with HTTP {code}: {meaning}{said}")).advise(advice);
    if code >= 429 { error.passing() } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::net::Patience;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    /// Opens a tunnel through a proxy that has sent `answer` before it was asked. Returns the result, and the proxy's end of the
    /// connection.
    fn told(answer: &[u8], patience: Duration, look: Look) -> (Result<Gate, Error>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        far.write_all(answer).unwrap();
        let proxy = Proxy::parse("http://user:hidden@proxy.example:3128").unwrap();
        let endpoint = Endpoint::parse("wss://ws.kraken.com:443/v2").unwrap();
        let deadline = Instant::now() + patience;
        let gate = Gate::new(near).unwrap();
        (open_tunnel(&proxy, &endpoint, gate, deadline, look), far)
    }

    fn refused(answer: &[u8]) -> Error {
        let (tunnel, _) = told(answer, Duration::from_secs(60), &mut || Ok(()));
        let error = tunnel.err().expect("no tunnel");
        let attempt = "cannot reach ws.kraken.com:443 through the proxy proxy.example:3128";
        assert_eq!(error.attempt, attempt);
        assert!(!error.to_string().contains("hidden") && !error.advice.is_empty());
        error
    }

    #[test]
    fn bytes_after_the_proxys_answer_belong_to_the_host() {
        let answer = b"HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\n\x16\x03\x03 and more";
        let (tunnel, mut far) = told(answer, Duration::from_secs(60), &mut || Ok(()));
        let mut gate = tunnel.unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        gate.set_patience(Patience::Until(until)).unwrap();
        let mut rest = [0; 12];
        gate.read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"\x16\x03\x03 and more");
        let mut asked = [0; 200];
        let count = far.read(&mut asked).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&asked[..count]),
            "CONNECT ws.kraken.com:443 HTTP/1.1\r\nHost: ws.kraken.com:443\r\nProxy-Authorization: Basic dXNlcjpoaWRkZW4=\r\n\r\n"
        );
    }

    #[test]
    fn a_refusal_says_what_it_means_and_whether_to_retry() {
        for (code, says, passing) in [
            (407, "credentials", false),
            (403, "does not let this machine", false),
            (405, "does not support CONNECT", false),
            (502, "could not reach", true),
            (504, "could not reach", true),
            (503, "not working", true),
            (429, "too many", true),
            (204, "no tunnel", false),
            (302, "no tunnel", false),
        ] {
            let head = format!("HTTP/1.1 {code} Whatever\r\nContent-Length: 21\r\n\r\n");
            let error = refused((head + "<p>Ask the\nadmin.</p>").as_bytes());
            let cause = format!("refused with HTTP {code}: ");
            let fits = error.cause.starts_with(&cause) && error.cause.contains(says);
            let said = error.cause.ends_with(", saying \"Ask the admin.\"");
            assert!(fits && said, "{error}");
            assert_eq!(error.passing, passing, "{error}");
        }
    }

    #[test]
    fn an_invalid_answer_is_refused_at_once() {
        assert!(
            refused(b"SSH-2.0-OpenSSH\r\n")
                .cause
                .contains("does not speak HTTP")
        );
        let endless = [b"HTTP/1.1 200 OK\r\n", &b"X: y\r\n".repeat(2_000)[..]].concat();
        assert!(refused(&endless).cause.contains("longer than 8192 bytes"));
        let fits = b"X: y\r\n".repeat(8_000 / 6);
        let head = [b"HTTP/1.1 200 OK\r\n", &fits[..], b"\r\n"].concat();
        assert!(
            told(&head, Duration::from_secs(60), &mut || Ok(()))
                .0
                .is_ok()
        );
    }

    #[test]
    fn silence_ends_at_the_deadline_or_when_the_caller_gives_up() {
        let (tunnel, _far) = told(b"HTTP/1.1 2", Duration::from_millis(250), &mut || Ok(()));
        let error = tunnel.err().expect("no tunnel");
        assert!(
            error.passing && error.cause.contains("no whole answer"),
            "{error}"
        );
        let mut looks = 0;
        let mut look = || {
            looks += 1;
            Err(Error::new("cannot wait", "the caller has no time"))
        };
        let (tunnel, _far) = told(b"", Duration::from_secs(60), &mut look);
        assert_eq!(tunnel.err().expect("no tunnel").attempt, "cannot wait");
        assert_eq!(looks, 1);
    }
}
