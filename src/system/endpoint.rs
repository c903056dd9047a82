//! Addresses of websockets, and hosts with their ports, as they are written.

/// Where a websocket is spoken: `ws://host:port/path` or `wss://host:port/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The whole address.
    pub url: String,
    /// Whether it is TLS.
    pub tls: bool,
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Endpoint {
    /// Reads a websocket address; the error says what would be right.
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

    /// The same place under another path.
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

/// A host's name or address, without the brackets around one of version 6, and the port after it.
pub fn host_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then_some((host, port))
}
