//! One WebSocket connection to an exchange, with or without TLS. The content of messages is read elsewhere.
//!
//! Invariant: each phase of opening has its own timeout. While opening waits, it calls the caller's `look` every slice, so
//! that the caller can do other things or give up. A message larger than 64 KiB, or any protocol error, ends the connection.
//! Pings are answered as they are read.

use super::http::{Unopened, upgrade};
use super::roots::Trust;
use super::tunnel;
use crate::exchange::proxy::Proxies;
use crate::system::channel::Channel;
use crate::system::endpoint::Endpoint;
use crate::system::inbox::waits;
use crate::system::limits::{CONNECT_MS_MAX, CONNECT_SLICE_MS, MESSAGE_BYTES_MAX, TLS_MS_MAX};
use crate::system::net::{Gate, Look, Patience, Phase};
use crate::system::resolve::Addresses;
use native_tls::{HandshakeError as TlsHandshakeError, TlsConnector, TlsStream};
use rsoracle_proof::reason::Miss;
use rsoracle_verify::error::Error;
use std::io;
use std::net::TcpStream;
use std::time::Instant;
use tungstenite::{Message, Utf8Bytes, WebSocket};

/// Most frames read in one call of [`Link::receive`] before it returns.
const MESSAGES_PER_DRAIN: usize = 64;

/// Why the connection ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// The reason to record for the samples that wait for an answer.
    pub miss: Miss,
    /// The text for the log.
    pub text: String,
}

/// An open WebSocket connection to an exchange.
pub struct Link {
    ws: WebSocket<Channel<Gate>>,
    /// When the last frame arrived, pings and pongs included.
    heard_at: Instant,
    ponged_at: Option<Instant>,
    /// By how many microseconds this machine's clock was ahead of the exchange's, if the answer that opened it had the time.
    pub(super) ahead_us: Option<i64>,
}

impl Link {
    /// Resolves the name, connects (through a proxy, if there is one), makes the TLS handshake and the WebSocket upgrade. Gives
    /// up at `deadline` at the latest. `addresses` are those of the endpoint's host or, if it is reached through one, the
    /// proxy's.
    pub fn open(
        endpoint: &Endpoint,
        tls: Option<&mut Trust>,
        proxies: &Proxies,
        addresses: &mut Addresses,
        deadline: Instant,
        look: Look,
    ) -> Result<Link, Unopened> {
        let gate = reach(endpoint, proxies, addresses, deadline, look)?;
        let channel = if endpoint.tls {
            let trust = tls.expect("whoever names a wss place says whom to trust");
            let mut shaken = shake_hands(endpoint, trust.connector(), gate, deadline, look);
            if shaken.as_ref().is_err_and(|refusal| refusal.untrusted) && trust.widen() {
                let gate = reach(endpoint, proxies, addresses, deadline, look)?;
                shaken = shake_hands(endpoint, trust.connector(), gate, deadline, look);
            }
            let stream = shaken.map_err(|refusal| refusal.error)?;
            Channel::Tls(Box::new(stream))
        } else {
            Channel::Plain(gate)
        };
        let (ws, ahead_us) = upgrade(endpoint, channel, deadline, look)?;
        Ok(Link {
            ws,
            ahead_us,
            heard_at: Instant::now(),
            ponged_at: None,
        })
    }

    /// When the last frame arrived, pings and pongs included, or else when the connection was opened.
    pub(crate) fn heard_at(&self) -> Instant {
        self.heard_at
    }

    /// The last time at which the connection had nothing to read. Whatever was received since then arrived later.
    pub(crate) fn dry_at(&mut self) -> Instant {
        self.ws.get_mut().inner().dry_at()
    }

    /// The exchange's certificate in DER; `None` without TLS.
    pub fn certificate(&self) -> Option<Vec<u8>> {
        let Channel::Tls(tls) = self.ws.get_ref() else {
            return None;
        };
        tls.peer_certificate().ok()??.to_der().ok()
    }

    /// Sends a ping frame. After its pong was read, [`Link::ponged_at`] says when.
    pub fn ping(&mut self) -> Result<(), Ended> {
        self.ponged_at = None;
        self.ws.get_mut().inner().shut();
        let ping = Message::Ping(b"rsoracle"[..].into());
        self.ws.send(ping).map_err(ended)?;
        self.fire()
    }

    /// When the pong to the last ping was read; `None` before that.
    pub(crate) fn ponged_at(&self) -> Option<Instant> {
        self.ponged_at
    }

    /// Encrypts requests now; [`Link::fire`] sends them.
    pub(crate) fn prepare(
        &mut self,
        requests: impl IntoIterator<Item = String>,
    ) -> Result<(), Ended> {
        self.ws.get_mut().inner().shut();
        let mut requests = requests.into_iter();
        requests.try_for_each(|request| self.ws.send(Message::text(request)).map_err(ended))
    }

    /// Hands the prepared requests to the system in one write.
    pub(crate) fn fire(&mut self) -> Result<(), Ended> {
        self.ws
            .get_mut()
            .inner()
            .open()
            .map_err(|error| ended(error.into()))
    }

    /// Sends a request at once.
    pub fn send(&mut self, request: String) -> Result<(), Ended> {
        self.prepare([request])?;
        self.fire()
    }

    /// Reads the next message; `None` if none has come by the end of `patience`.
    pub fn receive(&mut self, patience: Patience) -> Result<Option<Utf8Bytes>, Ended> {
        let gate = self.ws.get_mut().inner();
        gate.set_budget(2 * MESSAGE_BYTES_MAX);
        gate.set_patience(patience)
            .map_err(|error| ended(error.into()))?;
        for _ in 0..MESSAGES_PER_DRAIN {
            let read = self.ws.read();
            if read.is_ok() {
                self.heard_at = Instant::now();
            }
            match read {
                Ok(Message::Text(text)) => return Ok(Some(text)),
                Ok(Message::Binary(_)) => return Ok(Some("(binary)".into())),
                Ok(Message::Close(frame)) => {
                    let why =
                        frame.map_or(String::new(), |f| format!(" ({} {})", f.code, f.reason));
                    return Err(Ended {
                        miss: Miss::Disconnected,
                        text: format!("the exchange closed the connection{why}"),
                    });
                }
                Ok(Message::Pong(_)) => self.ponged_at = Some(self.heard_at),
                // The pong is prepared now, but without a flush only the next write would send it.
                Ok(_) => match self.ws.flush() {
                    Err(tungstenite::Error::Io(error)) if waits(&error) => return Ok(None),
                    other => other.map_err(ended)?,
                },
                Err(tungstenite::Error::Io(error)) if waits(&error) => return Ok(None),
                Err(error) => return Err(ended(error)),
            }
        }
        Ok(None)
    }
}

fn ended(error: tungstenite::Error) -> Ended {
    let miss = match &error {
        tungstenite::Error::Capacity(_) => Miss::TooLarge,
        _ => Miss::Disconnected,
    };
    Ended {
        miss,
        text: format!("the connection to the exchange failed: {error}"),
    }
}

/// Opens a TCP connection to the exchange, directly or through a proxy.
fn reach(
    endpoint: &Endpoint,
    proxies: &Proxies,
    addresses: &mut Addresses,
    deadline: Instant,
    look: Look,
) -> Result<Gate, Unopened> {
    let Some(proxy) = proxies.to(endpoint) else {
        let Endpoint { host, port, .. } = endpoint;
        return Ok(connect(host, *port, addresses, deadline, look)?);
    };
    let reached = connect(&proxy.host, proxy.port, addresses, deadline, look);
    let gate = reached.map_err(|error| error.advise(tunnel::UNREACHED))?;
    Ok(tunnel::open_tunnel(proxy, endpoint, gate, deadline, look)?)
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

/// Why the TLS handshake failed.
struct NoTls {
    error: Error,
    /// Whether the certificate was refused.
    untrusted: bool,
}

impl From<Error> for NoTls {
    fn from(error: Error) -> NoTls {
        let untrusted = false;
        NoTls { error, untrusted }
    }
}

fn shake_hands(
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
