//! The HTTP part of a connection: reads the head of the request, and accepts or refuses the WebSocket upgrade.
//!
//! Invariant: [`respond`] is pure and answers every head. A refusal has a body and its length, and closes the connection.
//! `connection` reads and writes the socket.

use super::binance::answer::weight_message;
use super::dialect::{STREAMS, ServerDialect};
use super::fault::{API, Fault, UpgradeRefusal, upgrade_refusal};
use crate::system::date::http_date;
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::{Request, create_response, write_response};

/// Path of the WS-API.
pub const PATH: &str = "/ws-api/v3";

const SPACE_AFTER_HEAD: &[u8] = b"\r\n\r\n";

/// What a WebSocket connects to.
#[derive(Clone, Copy)]
pub enum Service {
    /// Binance's WS-API.
    Api,
    /// The stream of a dialect.
    Stream(&'static ServerDialect),
}

impl Service {
    /// What is at a path: the WS-API where Binance has it, a stream at the name of its kind of source.
    fn at(path: &str) -> Option<Service> {
        if path == PATH {
            return Some(Service::Api);
        }
        let name = path.strip_prefix('/')?;
        let known = STREAMS.iter().find(|dialect| dialect.name == name);
        known.map(|dialect| Service::Stream(dialect))
    }

    /// Its name in a fault.
    fn name(&self) -> &'static str {
        match self {
            Service::Api => API,
            Service::Stream(dialect) => dialect.name,
        }
    }
}

/// The response to the head of a request.
pub struct Response {
    /// The bytes to send.
    pub bytes: Vec<u8>,
    /// What the WebSocket connects to; `None` if the upgrade is refused.
    pub opens: Option<Service>,
}

/// Length in bytes of the head at the start of `bytes`; `None` while it is incomplete.
pub fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(SPACE_AFTER_HEAD.len())
        .position(|window| window == SPACE_AFTER_HEAD)
        .map(|at| at + SPACE_AFTER_HEAD.len())
}

/// Answers a complete head.
pub fn respond(head: &[u8], faults: &[Fault], unix_ms: u64) -> Response {
    let request = match Request::try_parse(head) {
        Ok(Some((_, request))) => request,
        _ => return refusal(400, "not a GET request of HTTP/1.1\n"),
    };
    let uri = request.uri();
    let Some(service) = Service::at(uri.path()) else {
        return refusal(
            404,
            "not found; Binance's WebSocket API is at /ws-api/v3, a stream at its name, such as /kraken\n",
        );
    };
    if let Some(turned) = upgrade_refusal(faults, service.name()) {
        return turn_away(turned, service.name(), unix_ms);
    }
    let mut bytes = Vec::new();
    match create_response(&request) {
        Ok(accepted) if write_response(&mut bytes, &accepted).is_ok() => {}
        _ => return refusal(400, "not a websocket upgrade (RFC 6455)\n"),
    }
    bytes.truncate(bytes.len() - "\r\n".len());
    bytes.extend(format!("Date: {}\r\n\r\n", http_date(unix_ms / 1_000)).bytes());
    Response {
        bytes,
        opens: Some(service),
    }
}

/// The refusal of a head that is too long.
pub(crate) fn too_long() -> Response {
    refusal(431, "the head of the request is too long\n")
}

fn refusal(code: u16, body: &str) -> Response {
    answer(
        UpgradeRefusal {
            code,
            retry_s: None,
        },
        body,
    )
}

fn answer(turned: UpgradeRefusal, body: &str) -> Response {
    let code = turned.code;
    let reason = match code {
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        418 => "I'm a teapot",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        503 => "Service Unavailable",
        _ => "Refused",
    };
    let kind = if body.starts_with('{') {
        "application/json"
    } else {
        "text/plain"
    };
    let retry = turned
        .retry_s
        .map_or(String::new(), |s| format!("Retry-After: {s}\r\n"));
    let text = format!(
        "HTTP/1.1 {code} {reason}\r\nContent-Type: {kind};charset=UTF-8\r\nContent-Length: {}\r\n{retry}Connection: close\r\n\r\n{body}",
        body.len()
    );
    Response {
        bytes: text.into_bytes(),
        opens: None,
    }
}

/// The refusal of an upgrade. Binance's own bodies are used for Binance only. The body for 451 is the one that users report.
/// 403 comes from a firewall and is not JSON. For 418 and 429 there is always a `Retry-After`, by default of one second.
fn turn_away(turned: UpgradeRefusal, dialect: &str, unix_ms: u64) -> Response {
    let retry_s = match turned.code {
        418 | 429 => Some(turned.retry_s.unwrap_or(1)),
        _ => turned.retry_s,
    };
    let until_ms = retry_s
        .unwrap_or(0)
        .saturating_mul(1_000)
        .saturating_add(unix_ms);
    let body = match turned.code {
        451 if dialect.starts_with(API) => "{\"code\":0,\"msg\":\"Service unavailable from a restricted location according to 'b. Eligibility' in https://www.binance.com/en/terms. Please contact customer service if you believe you received this message in error.\"}".to_owned(),
        code @ (418 | 429) if dialect.starts_with(API) => format!(
            "{{\"code\":-1003,\"msg\":\"{}\"}}",
            weight_message(code, until_ms)
        ),
        403 => "Request blocked by the web application firewall.\n".to_owned(),
        _ => "Not now, or not here.\n".to_owned(),
    };
    let code = turned.code;
    answer(UpgradeRefusal { code, retry_s }, &body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::json;

    fn head(line: &str) -> String {
        format!(
            "{line}\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
    }

    fn told(head: &str, fault: &str) -> (String, Option<Service>) {
        let faults: Vec<Fault> = fault
            .split_whitespace()
            .map(|fault| Fault::parse(fault).unwrap())
            .collect();
        let response = respond(head.as_bytes(), &faults, 1000);
        (String::from_utf8(response.bytes).unwrap(), response.opens)
    }

    #[test]
    fn an_upgrade_on_the_right_path_opens() {
        let (text, opens) = told(&head("GET /ws-api/v3 HTTP/1.1"), "");
        assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
        // The example of RFC 6455, section 1.3.
        assert!(
            text.to_lowercase()
                .contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=")
        );
        assert!(text.ends_with("\r\n\r\n"));
        assert!(matches!(opens, Some(Service::Api)));
    }

    #[test]
    fn the_answer_to_an_upgrade_has_the_exchanges_time() {
        let (text, _) = told(&head("GET /okx HTTP/1.1"), "");
        assert!(text.ends_with("\r\nDate: Thu, 01 Jan 1970 00:00:01 GMT\r\n\r\n"));
    }

    #[test]
    fn everything_else_is_refused_with_a_status_and_a_body() {
        let good = head("GET /ws-api/v3 HTTP/1.1");
        for (head, fault, status) in [
            (head("GET / HTTP/1.1"), "", 404),
            (head("GET /ws-api/v3/ HTTP/1.1"), "", 404),
            (head("GET /ws-api/v3 HTTP/1.0"), "", 400),
            (head("POST /ws-api/v3 HTTP/1.1"), "", 400),
            (head("nonsense"), "", 400),
            ("\r\n\r\n".to_owned(), "", 400),
            (good.replace("websocket\r\n", "h2c\r\n"), "", 400),
            (good.replace("dGhlIHNhbXBsZSBub25jZQ==", "short"), "", 400),
            (good.replace("Version: 13", "Version: 8"), "", 400),
            (good.clone(), "upgrade:451", 451),
            (good.clone(), "upgrade:403", 403),
            (good.clone(), "upgrade:418", 418),
            (good, "binance/upgrade:429 okx/upgrade:403", 429),
        ] {
            let (text, opens) = told(&head, fault);
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
            assert!(opens.is_none());
            let (top, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(top.contains(&format!("Content-Length: {}\r\n", body.len())));
            assert!(top.ends_with("Connection: close") && !body.is_empty());
            assert_eq!(top.contains("Retry-After: 1"), matches!(status, 418 | 429));
            if top.contains("json") {
                assert_eq!(json::check(body), Ok(()));
            }
        }
        let (text, _) = told(&head("GET /ws-api/v3 HTTP/1.1"), "upgrade:451");
        assert!(
            text.contains(r#"{"code":0,"msg":"Service unavailable from a restricted location"#)
        );
    }

    #[test]
    fn every_stream_is_at_its_name_whatever_the_query() {
        for dialect in STREAMS {
            for query in ["", "?", "?streams=a/b&x"] {
                let line = format!("GET /{}{query} HTTP/1.1", dialect.name);
                match told(&head(&line), "").1 {
                    Some(Service::Stream(opened)) => assert_eq!(opened.name, dialect.name),
                    _ => panic!("{line}"),
                }
            }
        }
        for path in [
            "/binance",
            "/binance-book",
            "/kraken/",
            "//kraken",
            "/Kraken",
        ] {
            let (text, _) = told(&head(&format!("GET {path} HTTP/1.1")), "");
            assert!(text.starts_with("HTTP/1.1 404 "), "{path}");
        }
        let line = head("GET /okx HTTP/1.1");
        let (text, _) = told(&line, "binance/upgrade:451 okx/upgrade:503:7");
        assert!(text.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
        assert!(text.contains("\r\nRetry-After: 7\r\n") && !text.contains("binance"));
        assert!(told(&line, "kraken/upgrade:503").1.is_some());
    }

    #[test]
    fn heads_end_where_the_blank_line_is() {
        assert_eq!(head_length(b"GET / HTTP/1.1\r\n\r\nrest"), Some(18));
        assert_eq!(head_length(b"GET / HTTP/1.1\r\n\r"), None);
        assert_eq!(head_length(b""), None);
    }

    #[test]
    fn no_truncation_or_single_change_of_a_head_panics() {
        let good = head("GET /ws-api/v3?timeUnit=x HTTP/1.1").into_bytes();
        for at in 0..good.len() {
            respond(&good[..at], &[], 0);
            for byte in [0, b' ', b'\n', b'?', b'%', 0x7f, 0xff] {
                let mut bytes = good.clone();
                bytes[at] = byte;
                respond(&bytes, &[], 0);
            }
        }
    }
}
