//! How feeds, sources and endpoints are written.
//!
//! Invariant: a name that comes out of here fits its field in what is signed, and holds no byte that could be read as padding.
//! What this module does not do: reach an exchange.

use crate::limits::{FEED_BYTES_MAX, SOURCE_BYTES_MAX};

/// Whether a feed may be called so, such as `BTC/USD`; the error says what would be right.
pub fn check_feed(feed: &str) -> Result<(), &'static str> {
    const _: () = assert!(FEED_BYTES_MAX == 16, "the sentence below says so");
    // Without the two that JSON would have to escape.
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\');
    if feed.is_empty() || feed.len() > FEED_BYTES_MAX || !feed.bytes().all(plain) {
        return Err(
            "1 to 16 visible ASCII characters without quotes and backslashes, such as BTC/USD",
        );
    }
    Ok(())
}

/// An exchange and its symbol, written `binance:BTCUSDC`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The whole name, as it is signed.
    pub name: String,
    /// Whether it is the embedded exchange, whose prices are recorded ones.
    pub embedded: bool,
}

/// The exchange that a source's name begins with.
pub fn exchange_of(source: &str) -> &str {
    source
        .split_once(':')
        .map_or(source, |(exchange, _)| exchange)
}

impl Source {
    /// Reads `EXCHANGE:SYMBOL`; the error says what would be right.
    pub fn parse(name: &str) -> Result<Source, &'static str> {
        const RIGHT: &str = "'binance:SYMBOL' or 'embedded:SYMBOL', the symbol in capital letters and digits, as in binance:BTCUSDC";
        let (exchange, symbol) = name.split_once(':').ok_or(RIGHT)?;
        let known = matches!(exchange, "binance" | "embedded");
        let spelled = !symbol.is_empty()
            && symbol
                .bytes()
                .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        if !known || !spelled || name.len() > SOURCE_BYTES_MAX {
            return Err(RIGHT);
        }
        Ok(Source {
            name: name.to_owned(),
            embedded: exchange == "embedded",
        })
    }

    /// The exchange's name: what comes before the colon.
    pub fn exchange(&self) -> &str {
        exchange_of(&self.name)
    }

    /// The symbol: what comes after the colon.
    pub fn symbol(&self) -> &str {
        self.name.split_once(':').expect("a source has a colon").1
    }
}

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
        let (host, port) = authority.rsplit_once(':').ok_or(RIGHT)?;
        let port = port.parse().map_err(|_| RIGHT)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let plain = !host.is_empty() && url.bytes().all(|b| b.is_ascii_graphic() && b != b'@');
        if !plain || port == 0 {
            return Err(RIGHT);
        }
        Ok(Endpoint {
            url: url.to_owned(),
            tls,
            host: host.to_owned(),
            port,
        })
    }
}
