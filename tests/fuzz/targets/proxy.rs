//! A proxy's URL, the hosts that bypass it, and its answer. The lines are the URL, NO_PROXY and an endpoint; the rest is the
//! answer.
#![no_main]

use rsoracle::exchange::http::Answer;
use rsoracle::exchange::proxy::{Proxies, Proxy};
use rsoracle::system::endpoint::Endpoint;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.splitn(4, |byte| *byte == b'\n');
    let mut line = || std::str::from_utf8(lines.next().unwrap_or_default()).unwrap_or_default();
    let (url, around, place) = (line(), line(), line());
    let endpoint = Endpoint::parse(place);
    if let (Ok(proxy), Ok(endpoint)) = (Proxy::parse(url), &endpoint) {
        asked(&proxy, endpoint);
    }
    let variable = |name: &str| match name {
        "HTTPS_PROXY" => Some(url.to_owned()),
        "NO_PROXY" => Some(around.to_owned()),
        _ => None,
    };
    if let (Ok(proxies), Ok(endpoint)) = (Proxies::find(None, variable), endpoint) {
        assert!(endpoint.tls || proxies.to(&endpoint).is_none());
        let shown = Endpoint::parse(&endpoint.url).expect("what was read reads again");
        assert_eq!((shown.host, shown.port), (endpoint.host, endpoint.port));
    }
    let head = lines.next().unwrap_or_default();
    // As it arrives: byte by byte, until it is clear what it is.
    let first = (0..=head.len()).map(|end| Answer::parse(&head[..end]));
    if let Some(Answer::Head(head)) = first.into_iter().find(|said| *said != Answer::Part) {
        assert!(head.status <= 999);
    }
});

/// Checks that the request is one head of at most three lines, whatever the addresses contain.
fn asked(proxy: &Proxy, endpoint: &Endpoint) {
    let shown = Proxy::parse(&proxy.url_shown()).expect("what is shown reads again");
    assert_eq!((&shown.host, shown.port), (&proxy.host, proxy.port));
    let request = proxy.request(&endpoint.host, endpoint.port);
    let head = request.strip_suffix("\r\n\r\n").expect("the head ends");
    assert!(head.split("\r\n").count() <= 3);
    assert!(!head.replace("\r\n", "").contains(char::is_control));
}
