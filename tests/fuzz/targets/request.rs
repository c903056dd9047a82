//! The head of a request: the same request in whatever pieces it arrives, and httparse reads the same from it, so that a proxy
//! does, too. What is refused stays refused, whatever follows.
#![no_main]

use rsoracle::serve::limits::{REQUEST_FIELDS_MAX, REQUEST_HEAD_BYTES_MAX};
use rsoracle::serve::request::{Method, Request, read};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Every end of a short head, and some ends of a long one.
    let step = 1 + bytes.len() / 256;
    let ends = (0..bytes.len()).step_by(step).chain([bytes.len()]);
    let mut seen = Ok(None);
    for end in ends {
        let now = read(&bytes[..end]);
        match (&seen, &now) {
            (Ok(None), Ok(Some(request))) => judge(request, &bytes[..request.length]),
            (Ok(Some(_)), now) => assert_eq!(now, &seen),
            (Err(_), now) => assert!(now.is_err(), "{now:?}"),
            (Ok(None), _) => {}
        }
        if let Ok(None) = now {
            assert!(end < REQUEST_HEAD_BYTES_MAX);
        }
        seen = now;
    }
});

/// Checks a request against its head.
fn judge(request: &Request, head: &[u8]) {
    assert!(head.len() <= REQUEST_HEAD_BYTES_MAX && head.ends_with(b"\r\n\r\n"));
    assert_eq!(read(&head[..head.len() - 1]), Ok(None));
    let mut fields = [httparse::EMPTY_HEADER; REQUEST_FIELDS_MAX];
    let mut other = httparse::Request::new(&mut fields);
    let parsed = other.parse(head).expect("httparse reads it, too");
    assert_eq!(parsed, httparse::Status::Complete(head.len()));
    let method = match request.method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Options => "OPTIONS",
    };
    assert_eq!(other.method, Some(method));
    assert_eq!(other.version, Some(u8::from(!request.old)));
    let target = other.path.expect("a target");
    // Of an absolute target, what is after the host counts.
    assert!(target.contains(&request.path) || request.path == "/");
    assert_eq!(other.headers.len(), request.fields.len());
    for (own, field) in request.fields.iter().zip(other.headers.iter()) {
        let value = std::str::from_utf8(field.value).expect("it is text");
        assert_eq!(own.0, field.name.to_ascii_lowercase());
        assert_eq!(own.1, value.trim_matches([' ', '\t']));
        let length = own.0 == "content-length" && own.1 != "0";
        assert!(!length && own.0 != "transfer-encoding", "a body: {own:?}");
    }
    query(request);
}

/// Checks that the parameters are the same if each of their bytes is escaped.
fn query(request: &Request) {
    let escaped =
        |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02x}")).collect() };
    let pairs = request.query.iter();
    let pairs = pairs.map(|(name, value)| format!("{}={}", escaped(name), escaped(value)));
    let pairs: Vec<String> = pairs.collect();
    let head = format!("GET /?{} HTTP/1.0\r\n\r\n", pairs.join("&"));
    // Escapes are three times as long.
    if head.len() <= REQUEST_HEAD_BYTES_MAX {
        let again = read(head.as_bytes()).expect("a request");
        assert_eq!(again.expect("it is whole").query, request.query);
    }
}
