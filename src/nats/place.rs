//! Addresses of NATS servers, and the names of subjects and streams.
//!
//! Invariant: pure. What is made here has no blank, dot, wildcard or line end where NATS would read it as one.

use crate::system::endpoint::{Endpoint, host_and_port};

/// The port that servers listen on unless they are told another.
const PORT: u16 = 4222;
/// The stream unless another one is named.
pub(crate) const STREAM: &str = "RSORACLE";

/// Parses `nats://HOST[:PORT][/STREAM]`, or `tls://` for TLS in any case. Returns the server and the stream.
pub(crate) fn parse(url: &str) -> Option<(Endpoint, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let stream = if path.is_empty() { STREAM } else { path };
    let tls = scheme == "tls";
    let endpoint = endpoint(authority, tls)?;
    ((tls || scheme == "nats") && is_stream(stream)).then(|| (endpoint, stream.to_owned()))
}

/// A server by host and port, as NATS itself names the servers of a cluster.
pub(crate) fn endpoint(authority: &str, tls: bool) -> Option<Endpoint> {
    let with_port = match authority.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => authority.to_owned(),
        _ => format!("{authority}:{PORT}"),
    };
    let (host, port) = host_and_port(&with_port)?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    host.bytes().all(fits).then(|| Endpoint {
        url: format!("{}://{authority}", if tls { "tls" } else { "nats" }),
        tls,
        host: host.to_owned(),
        port,
    })
}

/// Whether a name can be a stream's.
pub(crate) fn is_stream(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(fits)
}

/// The subject of a feed's reports. Letters and digits of its name stay, `/` becomes `-`, and any other byte becomes `_` and its
/// two hexadecimal digits: so no two feeds share a subject.
pub(crate) fn subject(feed: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        b'/' => "-".to_owned(),
        _ => format!("_{byte:02X}"),
    };
    let feed: String = feed.bytes().map(one).collect();
    format!("rsoracle.{feed}.reports")
}

/// The subjects of all feeds.
pub(crate) const SUBJECTS: &str = "rsoracle.*.reports";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_may_have_a_port_and_a_stream() {
        for (url, tls, host, port, stream) in [
            ("nats://127.0.0.1", false, "127.0.0.1", 4222, "RSORACLE"),
            ("tls://a.example:4443/", true, "a.example", 4443, "RSORACLE"),
            ("nats://[::1]:4/A-b_1", false, "::1", 4, "A-b_1"),
            ("nats://[::1]", false, "::1", 4222, "RSORACLE"),
        ] {
            let (found, name) = parse(url).unwrap_or_else(|| panic!("{url}"));
            let found = (found.tls, &*found.host, found.port, &*name);
            assert_eq!(found, (tls, host, port, stream), "{url}");
        }
        for url in [
            "http://a",
            "nats://",
            "nats://u:p@a",
            "nats://a:0",
            "nats://a/b.c",
            "nats://a/b/c",
            "nats://a b",
            "a:4222",
            "nats://a/*",
            "nats://a\r\nb",
        ] {
            assert_eq!(parse(url), None, "{url}");
        }
    }

    #[test]
    fn no_two_feeds_share_a_subject() {
        assert_eq!(subject("BTC/USD"), "rsoracle.BTC-USD.reports");
        assert_eq!(subject("a-b_c.*>"), "rsoracle.a_2Db_5Fc_2E_2A_3E.reports");
        let names = [
            "A/B", "A-B", "A_2DB", "A.B", "A*B", "a/b", "A_2dB", "A/-B", "A-/B",
        ];
        let mut subjects: Vec<String> = names.map(subject).to_vec();
        subjects.sort();
        subjects.dedup();
        assert_eq!(subjects.len(), names.len());
    }
}
