//! HTTP proxies that tunnel TLS with CONNECT (RFC 9110, section 9.3.6): parses their addresses and the bypass list `NO_PROXY`,
//! and writes the request.
//!
//! Invariant: pure functions, total on any text and bytes. User and password of a proxy are never displayed.
//! `exchange::tunnel` makes the connection. Proxies over TLS (https) or SOCKS are not supported.

use crate::system::endpoint::{Endpoint, bracketed, host_and_port};
use std::fmt;
use std::net::IpAddr;

/// The address of one proxy, and its credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    url: String,
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User and password as `user:password` in Base64, if there are any.
    credentials: Option<String>,
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", bracketed(&self.host), self.port)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Proxy {
    /// Parses `http://host:port` or `http://user:password@host:port`, user and password percent-encoded. The error says what
    /// would be right, and does not repeat the text, which may contain a password.
    pub fn parse(url: &str) -> Result<Proxy, &'static str> {
        const RIGHT: &str =
            "http://HOST:PORT or http://USER:PASSWORD@HOST:PORT, user and password percent-encoded";
        let rest = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => {
                return Err(
                    "an address that begins with http://; proxies over TLS (https) or SOCKS are not supported",
                );
            }
            None => url,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        let (host, port) = host_and_port(place).ok_or(RIGHT)?;
        let fit = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
        if !host.bytes().all(fit) || (host.contains(':') && host.parse::<IpAddr>().is_err()) {
            return Err(RIGHT);
        }
        Ok(Proxy {
            url: url.to_owned(),
            host: host.to_owned(),
            port,
            credentials: login
                .map(|login| credentials(login).ok_or(RIGHT))
                .transpose()?,
        })
    }

    /// Its URL without user and password.
    pub fn url_shown(&self) -> String {
        format!("http://{self}")
    }

    /// The environment variables that make a child process use this proxy and no other. They go into the environment, which
    /// only processes of the same user can read, because every user can read arguments.
    pub fn variables(&self) -> [(&'static str, &str); 4] {
        [
            ("HTTPS_PROXY", self.url.as_str()),
            ("https_proxy", ""),
            ("NO_PROXY", ""),
            ("no_proxy", ""),
        ]
    }

    /// The request for a connection to a host, whose name the proxy resolves.
    pub fn request(&self, host: &str, port: u16) -> String {
        let target = format!("{}:{port}", bracketed(host));
        let login = self.credentials.as_ref().map_or(String::new(), |text| {
            format!("Proxy-Authorization: Basic {text}\r\n")
        });
        format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{login}\r\n")
    }
}

/// Encodes `user:password` for RFC 7617. `None` if either contains control characters, or the user a colon.
fn credentials(login: &str) -> Option<String> {
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (user, password) = (percent_decoded(user)?, percent_decoded(password)?);
    let controls = user.iter().chain(&password).any(u8::is_ascii_control);
    (!controls && !user.contains(&b':')).then(|| base64(&[&user[..], b":", &password].concat()))
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let hex = piece.get(..2).filter(|hex| !hex.contains('+'))?;
        bytes.push(u8::from_str_radix(hex, 16).ok()?);
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    Some(bytes)
}

/// The letters of Base64, by their values.
pub(crate) const BASE64: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 with padding (RFC 4648, section 4).
pub(crate) fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, at| {
            bits << 8 | usize::from(three.get(at).copied().unwrap_or(0))
        });
        for at in 0..4 {
            let sextet = bits >> (18 - 6 * at) & 63;
            text.push(if at <= three.len() {
                char::from(BASE64[sextet])
            } else {
                '='
            });
        }
    }
    text
}

/// Which connections use a proxy, and which one.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    proxy: Option<Proxy>,
    bypass: String,
}

impl Proxies {
    /// Finds the proxy. One named on the command line is for all connections. Otherwise `https_proxy` or `HTTPS_PROXY` names it,
    /// and `no_proxy` or `NO_PROXY` lists the hosts that bypass it. If both spellings are set, lower case overrides upper case,
    /// as with curl; an empty variable counts as unset. The error is the variable's name, and what would be right in it.
    pub fn find(
        named: Option<&Proxy>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Proxies, (&'static str, &'static str)> {
        if let Some(proxy) = named {
            let proxy = Some(proxy.clone());
            return Ok(Proxies {
                proxy,
                bypass: String::new(),
            });
        }
        let first = |names: [&'static str; 2]| {
            let filled = |name| variable(name).filter(|text| !text.trim().is_empty());
            names
                .into_iter()
                .find_map(|name| Some((name, filled(name)?)))
        };
        let Some((name, url)) = first(["https_proxy", "HTTPS_PROXY"]) else {
            return Ok(Proxies::default());
        };
        let proxy = Proxy::parse(url.trim()).map_err(|right| (name, right))?;
        let bypass = first(["no_proxy", "NO_PROXY"]).map_or(String::new(), |(_, list)| list);
        Ok(Proxies {
            proxy: Some(proxy),
            bypass,
        })
    }

    /// The proxy for an endpoint. Endpoints without TLS, and those in `NO_PROXY`, bypass it.
    pub fn to(&self, endpoint: &Endpoint) -> Option<&Proxy> {
        let proxy = self.proxy.as_ref().filter(|_| endpoint.tls)?;
        let bypass = bypasses(&self.bypass, &endpoint.host, endpoint.port);
        (!bypass).then_some(proxy)
    }
}

/// Whether a list such as `example.com, .example.org:443, 192.0.2.0/24, *` contains a host. An entry is a name, which includes
/// its subdomains, an address or a network, each for one port or for all ports; `*` is every host.
fn bypasses(list: &str, host: &str, port: u16) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    list.split(',').map(str::trim).any(|entry| {
        if entry == "*" || names(entry, &host) {
            return true;
        }
        host_and_port(entry).is_some_and(|(entry, only)| only == port && names(entry, &host))
    })
}

/// Whether one entry without a port contains a host, given in lower case.
fn names(entry: &str, host: &str) -> bool {
    let entry = entry
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_ascii_lowercase();
    if let Ok(address) = host.parse::<IpAddr>() {
        let (network, width) = match entry.split_once('/') {
            Some((network, width)) => (network, width.parse().ok()),
            None => (entry.as_str(), Some(u32::MAX)),
        };
        let network = network.parse::<IpAddr>().ok();
        return network
            .zip(width)
            .is_some_and(|(network, width)| within(address, network, width));
    }
    let name = entry.strip_prefix('*').unwrap_or(&entry);
    let name = name.trim_start_matches('.').trim_end_matches('.');
    let above = host.strip_suffix(name).filter(|_| !name.is_empty());
    above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
}

/// Whether the first `width` bits of an address and of a network are the same. A larger `width` than the address has means
/// all bits.
fn within(address: IpAddr, network: IpAddr, width: u32) -> bool {
    let shared = |one: u128, other: u128, bits: u32| {
        let apart = (one ^ other).checked_shr(bits - width.min(bits));
        apart.unwrap_or(0) == 0
    };
    match (address, network) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            shared(one.to_bits().into(), other.to_bits().into(), 32)
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => shared(one.to_bits(), other.to_bits(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        // Section 10, and two bytes that need the last two characters of the alphabet.
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xbf]), "+/+/");
    }

    #[test]
    fn a_proxy_is_read_and_asked() {
        let plain = Proxy::parse("http://proxy.example:3128").unwrap();
        assert_eq!((plain.host.as_str(), plain.port), ("proxy.example", 3128));
        assert_eq!(
            plain.request("ws.kraken.com", 443),
            "CONNECT ws.kraken.com:443 HTTP/1.1\r\nHost: ws.kraken.com:443\r\n\r\n"
        );
        assert!(
            plain
                .request("2001:db8::1", 443)
                .starts_with("CONNECT [2001:db8::1]:443 ")
        );
        for same in ["HTTP://proxy.example:3128/", "proxy.example:3128"] {
            assert_eq!(Proxy::parse(same).unwrap().to_string(), plain.to_string());
        }
        let six = Proxy::parse("http://[::1]:8080").unwrap();
        assert_eq!(
            (six.host.as_str(), six.to_string()),
            ("::1", "[::1]:8080".into())
        );
        // RFC 7617, section 2 and 2.1: the second has a pound sign in UTF-8.
        for (login, text) in [
            ("Aladdin:open%20sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            ("test:123%C2%A3", "dGVzdDoxMjPCow=="),
            ("test:123\u{a3}", "dGVzdDoxMjPCow=="),
            ("user", "dXNlcjo="),
            ("a:b:c@d", "YTpiOmNAZA=="),
        ] {
            let proxy = Proxy::parse(&format!("http://{login}@[::1]:8080")).unwrap();
            let line = format!("\r\nProxy-Authorization: Basic {text}\r\n\r\n");
            assert!(proxy.request("h", 1).ends_with(&line), "{login}");
            assert_eq!(format!("{proxy} {proxy:?}"), "[::1]:8080 [::1]:8080");
            assert_eq!(proxy.url_shown(), "http://[::1]:8080");
        }
    }

    #[test]
    fn an_invalid_proxy_is_refused_without_repeating_its_password() {
        for url in [
            "",
            "http://",
            "http://proxy.example",
            "http://proxy.example:0",
            "http://proxy.example:65536",
            "http://proxy.example:3128/path",
            "http://:3128",
            "http://proxy example:3128",
            "http://proxy.example\r\nX:3128",
            "http://user:secret%0d%0aX@proxy.example:1",
            "http://user:secret%4@proxy.example:1",
            "http://user:secret%+4@proxy.example:1",
            "http://user:secret%zz@proxy.example:1",
            "http://us%3Aer:secret@proxy.example:1",
        ] {
            let right = Proxy::parse(url).unwrap_err();
            assert!(right.starts_with("http://HOST:PORT"), "{url}: {right}");
            assert!(!right.contains("secret"), "{right}");
        }
        for url in [
            "https://proxy.example:443",
            "socks5://user:secret@127.0.0.1:1080",
        ] {
            let right = Proxy::parse(url).unwrap_err();
            assert!(right.contains("SOCKS are not supported"), "{right}");
        }
    }

    #[test]
    fn no_proxy_lists_domains_with_their_subdomains_addresses_and_networks() {
        for (list, host, bypass) in [
            ("*", "ws.kraken.com", true),
            ("kraken.com", "ws.kraken.com", true),
            ("kraken.com", "kraken.com", true),
            ("Kraken.COM", "WS.kraken.com.", true),
            (".kraken.com", "kraken.com", true),
            ("*.kraken.com", "ws.kraken.com", true),
            (" example.org , kraken.com. ", "ws.kraken.com", true),
            ("kraken.com:443", "ws.kraken.com", true),
            ("kraken.com:8443", "ws.kraken.com", false),
            ("aken.com", "ws.kraken.com", false),
            ("ws.kraken.com", "kraken.com", false),
            ("kraken.com.evil", "kraken.com", false),
            ("com", "kraken.com", true),
            ("", "kraken.com", false),
            (",", "kraken.com", false),
            (".", "kraken.com", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1:443", "127.0.0.1", true),
            ("127.0.0.1:444", "127.0.0.1", false),
            ("0.0.1", "127.0.0.1", false),
            ("127.0.0.1", "localhost", false),
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.1.2.128/25", "10.1.2.200", true),
            ("10.1.2.128/25", "10.1.2.100", false),
            ("10.0.0.0/8:443", "10.1.1.1", true),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("192.0.2.1/32", "192.0.2.1", true),
            ("192.0.2.1/32", "192.0.2.0", false),
            ("192.0.2.0/x", "192.0.2.0", false),
            ("10.0.0.0/8", "ten.example", false),
            ("::1", "::1", true),
            ("[::1]", "::1", true),
            ("[::1]:443", "::1", true),
            ("[::1]:444", "::1", false),
            ("2001:db8::/32", "2001:db8:1::5", true),
            ("2001:db8::/32", "2001:db9::5", false),
            ("::/0", "2001:db9::5", true),
            ("::/0", "192.0.2.1", false),
        ] {
            assert_eq!(bypasses(list, host, 443), bypass, "{list} {host}");
        }
    }

    #[test]
    fn the_command_line_overrides_the_environment_and_lower_case_overrides_upper_case() {
        let endpoint = |url| Endpoint::parse(url).unwrap();
        let found = |named: Option<&str>, variables: &[(&str, &str)], url| {
            let named = named.map(|url| Proxy::parse(url).unwrap());
            let variable = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name)?;
                Some(found.1.to_owned())
            };
            let proxies = Proxies::find(named.as_ref(), variable);
            proxies.map(|proxies| proxies.to(&endpoint(url)).map(|proxy| proxy.to_string()))
        };
        const FAR: &str = "wss://ws.kraken.com:443/v2";
        let some = |proxy: &str| Ok(Some(proxy.to_owned()));
        assert_eq!(found(None, &[], FAR), Ok(None));
        assert_eq!(found(None, &[("HTTPS_PROXY", "")], FAR), Ok(None));
        let both = [("HTTPS_PROXY", "http://a:1"), ("https_proxy", "http://b:2")];
        assert_eq!(found(None, &both, FAR), some("b:2"));
        assert_eq!(found(None, &both[..1], FAR), some("a:1"));
        assert_eq!(
            found(None, &both, "ws://127.0.0.1:9443/"),
            Ok(None),
            "without TLS"
        );
        let bypass = [
            ("HTTPS_PROXY", "http://a:1"),
            ("no_proxy", ""),
            ("NO_PROXY", "kraken.com"),
        ];
        assert_eq!(found(None, &bypass, FAR), Ok(None));
        assert_eq!(found(None, &bypass, "wss://kraken.org:443/"), some("a:1"));
        assert_eq!(found(Some("http://c:3"), &bypass, FAR), some("c:3"));
        let bad = [("HTTPS_PROXY", "socks5://a:1")];
        assert_eq!(found(None, &bad, FAR).unwrap_err().0, "HTTPS_PROXY");
        assert_eq!(found(Some("http://c:3"), &bad, FAR), some("c:3"));
        let handed_down = Proxy::parse("http://u:p@d:4").unwrap();
        assert_eq!(found(None, &handed_down.variables(), FAR), some("d:4"));
    }

    #[test]
    fn no_bytes_make_the_readers_panic_or_pass_line_ends_on_to_the_proxy() {
        let mut seed = 0x5eed_0000_0000_0001u64;
        let mut next = |below: usize| {
            seed = seed
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            (seed >> 33) as usize % below
        };
        let good: [&[u8]; 2] = [
            b"http://us%20er:pass@proxy.example:3128/",
            b".example.org:443, 192.0.2.0/24, [::1]:443, *",
        ];
        let mut asked = 0;
        for round in 0..60_000 {
            let mut bytes = good[round % 2].to_vec();
            for _ in 0..1 + next(4) {
                let at = next(bytes.len());
                bytes[at] = b"%:@/[].,*0127aF\r\n\0\xff \x80"[next(21)];
            }
            let text = String::from_utf8_lossy(&bytes);
            bypasses(&text, "ws.example.org", 443);
            bypasses(&text, "192.0.2.77", 443);
            if let Ok(proxy) = Proxy::parse(&text) {
                asked += 1;
                assert_eq!(proxy.request("h", 1).matches("\r\n").count(), 4, "{text:?}");
            }
        }
        assert!(asked > 1_000, "{asked}");
    }
}
