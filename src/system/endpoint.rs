//! Parses WebSocket addresses (`wss://host:port/path`) and `host:port`.

/// The address of a WebSocket server: `ws://host:port/path` or `wss://host:port/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The whole address.
    pub url: String,
    /// Whether it uses TLS.
    pub tls: bool,
    /// Host name or IP address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Endpoint {
    /// Parses a WebSocket address. The error describes a valid one.
    pub fn parse(url: &str) -> Result<Endpoint, &'static str> {
        const RIGHT: &str =
            "a websocket address with a port, such as wss://localhost:9443/ws-api/v3";
        let (tls, rest) = match (url.strip_prefix("wss://"), url.strip_prefix("ws://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err(RIGHT),
        };
        let authority = rest.split('/').next().unwrap_or(rest);
        let (host, port) = host_and_port(authority).ok_or(RIGHT)?;
        if !url.bytes().all(|b| b.is_ascii_graphic() && b != b'@') {
            return Err(RIGHT);
        }
        Ok(Endpoint {
            url: url.to_owned(),
            tls,
            host: host.to_owned(),
            port,
        })
    }

    /// The same server with another path.
    pub fn with_path(&self, path: &str) -> Endpoint {
        let authority_end = self
            .url
            .match_indices('/')
            .nth(2)
            .map_or(self.url.len(), |(at, _)| at);
        Endpoint {
            url: format!("{}/{path}", &self.url[..authority_end]),
            ..self.clone()
        }
    }
}

/// Splits `host:port`. An IPv6 address loses its brackets; port 0 is refused.
pub(crate) fn host_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then_some((host, port))
}

/// Puts an IPv6 address in brackets, as is required before a port. The opposite of [`host_and_port`].
pub(crate) fn bracketed(host: &str) -> String {
    match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    }
}
