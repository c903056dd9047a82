//! Opens connections: name, TCP, a proxy's tunnel and TLS. For websockets of exchanges, and for servers that are followed.
//!
//! Invariant: each phase has its own timeout. While it waits, it calls the caller's `look` every slice, so that the caller can do
//! other things or give up.

use super::roots::Trust;
use super::tunnel;
use crate::exchange::limits::{CONNECT_MS_MAX, CONNECT_SLICE_MS, TLS_MS_MAX};
use crate::exchange::proxy::Proxies;
use crate::system::channel::Channel;
use crate::system::endpoint::Endpoint;
use crate::system::net::{Gate, Look, Phase};
use crate::system::resolve::Addresses;
use native_tls::{HandshakeError as TlsHandshakeError, TlsConnector, TlsStream};
use rsoracle_verify::error::Error;
use std::io;
use std::net::TcpStream;
use std::time::Instant;

/// Resolves the name, connects (through a proxy, if there is one) and makes the TLS handshake, if the endpoint has TLS. Gives up at
/// `deadline` at the latest. `addresses` are those of the endpoint's host or, if it is reached through one, the proxy's.
pub(crate) fn dial(
    endpoint: &Endpoint,
    tls: Option<&mut Trust>,
    proxies: &Proxies,
    addresses: &mut Addresses,
    deadline: Instant,
    look: Look,
) -> Result<Channel<Gate>, Error> {
    let gate = reach(endpoint, proxies, addresses, deadline, look)?;
    if !endpoint.tls {
        return Ok(Channel::Plain(gate));
    }
    let trust = tls.expect("whoever names a place with TLS says whom to trust");
    let mut shaken = shake_hands(endpoint, trust.connector(), gate, deadline, look);
    if shaken.as_ref().is_err_and(|refusal| refusal.untrusted) && trust.widen() {
        let gate = reach(endpoint, proxies, addresses, deadline, look)?;
        shaken = shake_hands(endpoint, trust.connector(), gate, deadline, look);
    }
    let stream = shaken.map_err(|refusal| refusal.error)?;
    Ok(Channel::Tls(Box::new(stream)))
}

/// Opens a TCP connection, directly or through a proxy.
fn reach(
    endpoint: &Endpoint,
    proxies: &Proxies,
    addresses: &mut Addresses,
    deadline: Instant,
    look: Look,
) -> Result<Gate, Error> {
    let Some(proxy) = proxies.to(endpoint) else {
        let Endpoint { host, port, .. } = endpoint;
        return connect(host, *port, addresses, deadline, look);
    };
    let reached = connect(&proxy.host, proxy.port, addresses, deadline, look);
    let gate = reached.map_err(|error| error.advise(tunnel::UNREACHED))?;
    tunnel::open_tunnel(proxy, endpoint, gate, deadline, look)
}

/// Tries the addresses of a host one after the other, from where the last attempt ended.
fn connect(
    host: &str,
    port: u16,
    addresses: &mut Addresses,
    deadline: Instant,
    look: Look,
) -> Result<Gate, Error> {
    let unresolved = addresses.find(host, port, deadline, look)?;
    look()?;
    let phase = Phase::new(deadline, CONNECT_MS_MAX);
    let mut last = phase.late("TCP connection");
    for _ in 0..addresses.count() {
        let attempt = Phase::new(phase.until, CONNECT_SLICE_MS);
        let left = attempt.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(&addresses.next(), left).and_then(Gate::new) {
            Ok(gate) => {
                addresses.works = true;
                return Ok(gate);
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                last = attempt.late("TCP connection");
            }
            Err(error) => last = error,
        }
        addresses.failed();
        look()?;
    }
    let mut cause = last.to_string();
    if let Some(why) = unresolved {
        cause += &format!(" at its last known address, since it cannot be resolved: {why}");
    }
    let advice = "check that it is up, and that no firewall blocks the connection";
    Err(
        Error::new(format!("cannot connect to {host}:{port}"), cause)
            .advise(advice)
            .passing(),
    )
}

/// Why a TLS handshake failed.
pub(crate) struct NoTls {
    /// What went wrong, and what to do.
    pub(crate) error: Error,
    /// Whether the certificate was refused.
    pub(crate) untrusted: bool,
}

impl From<Error> for NoTls {
    fn from(error: Error) -> NoTls {
        let untrusted = false;
        NoTls { error, untrusted }
    }
}

/// Makes the TLS handshake on a connection.
pub(crate) fn shake_hands(
    endpoint: &Endpoint,
    tls: &TlsConnector,
    mut gate: Gate,
    deadline: Instant,
    look: Look,
) -> Result<TlsStream<Gate>, NoTls> {
    let phase = Phase::new(deadline, TLS_MS_MAX);
    let attempt = format!(
        "cannot complete the TLS handshake with {}:{}",
        endpoint.host, endpoint.port
    );
    let stuck = |error: io::Error| Error::new(&attempt, error).passing();
    gate.set_patience(phase.slice()).map_err(stuck)?;
    let mut state = tls.connect(&endpoint.host, gate);
    loop {
        match state {
            Ok(stream) => return Ok(stream),
            Err(TlsHandshakeError::Failure(error)) => {
                return Err(NoTls {
                    untrusted: error.to_string().contains("certificate verify failed"),
                    error: tls_failure(&attempt, endpoint, &error),
                });
            }
            Err(TlsHandshakeError::WouldBlock(mut mid)) => {
                look()?;
                if phase.is_over() {
                    return Err(stuck(phase.late("TLS handshake")).into());
                }
                mid.get_mut().set_patience(phase.slice()).map_err(stuck)?;
                state = mid.handshake();
            }
        }
    }
}

/// The error with advice for each reason that OpenSSL gives. Only a broken connection counts as passing, not a bad
/// certificate.
fn tls_failure(attempt: &str, endpoint: &Endpoint, error: &native_tls::Error) -> Error {
    let text = error.to_string();
    let known = [
        ("hostname mismatch", format!("its certificate is not for {}; check the address, and which server answers there", endpoint.host)),
        ("IP address mismatch", format!("its certificate is not for the address {}; use the host's name", endpoint.host)),
        ("has expired", "its certificate has expired; check this machine's clock; if it is right, the server's operator must renew the certificate".to_owned()),
        ("not yet valid", "its certificate is not valid yet; check this machine's clock".to_owned()),
        ("self-signed", "no authority that is trusted here signed its certificate; name its root authority with --ca-file if you trust it".to_owned()),
        ("unable to get local issuer", "no authority that is trusted here signed its certificate; name its root authority with --ca-file if you trust it, or install the system's CA certificates".to_owned()),
        ("unable to get issuer certificate", "an intermediate authority is trusted here, but not the root that signed it; add the root's certificate to the file of --ca-file or SSL_CERT_FILE".to_owned()),
        ("wrong version number", "what answers there does not speak TLS".to_owned()),
    ];
    match known.into_iter().find(|(sign, _)| text.contains(sign)) {
        Some((sign, advice)) => Error::new(attempt, format!("{sign} (OpenSSL)")).advise(advice),
        None => Error::new(attempt, text).passing(),
    }
}
