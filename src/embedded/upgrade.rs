//! The HTTP part of a connection: from the request's head to the switch to websocket, or its refusal.
//!
//! Invariant: [`respond`] is pure and answers every head; a refusal has a body, its length, and closes.
//! What this module does not do: read or write sockets; `connection` does.

use super::answer::weight_message;
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::{Request, create_response, write_response};

/// Longest head of an HTTP request; tungstenite would read 60 KB.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Where the WS-API is.
pub const PATH: &str = "/ws-api/v3";

const SPACE_AFTER_HEAD: &[u8] = b"\r\n\r\n";

/// What a connection's address line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wishes {
    /// `rateLimits` in replies, unless a request says otherwise (`?returnRateLimits=`).
    pub rate_limits: bool,
    /// Times in microseconds (`?timeUnit=`).
    pub micros: bool,
}

/// The answer to a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// What is written.
    pub bytes: Vec<u8>,
    /// What the websocket that follows is like; none if it is refused.
    pub opens: Option<Wishes>,
}

/// How many bytes of `bytes` are the head; none while it is not whole.
pub fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(SPACE_AFTER_HEAD.len())
        .position(|window| window == SPACE_AFTER_HEAD)
        .map(|at| at + SPACE_AFTER_HEAD.len())
}

/// Answers a whole head. `refuse_with` is the HTTP status of the fault `upgrade`.
pub fn respond(head: &[u8], refuse_with: Option<u16>, unix_ms: u64) -> Response {
    let request = match Request::try_parse(head) {
        Ok(Some((_, request))) => request,
        _ => return refusal(400, "not a GET request of HTTP/1.1\n"),
    };
    if request.uri().path() != PATH {
        return refusal(404, "not found; the WebSocket API is at /ws-api/v3\n");
    }
    if let Some(code) = refuse_with {
        return refusal(code, &fault_body(code, unix_ms));
    }
    let Ok(accepted) = create_response(&request) else {
        return refusal(400, "not a websocket upgrade (RFC 6455)\n");
    };
    let mut bytes = Vec::new();
    if write_response(&mut bytes, &accepted).is_err() {
        return refusal(400, "not a websocket upgrade (RFC 6455)\n");
    }
    Response {
        bytes,
        opens: Some(wishes(request.uri().query().unwrap_or(""))),
    }
}

/// The refusal of a head that does not end.
pub fn too_long() -> Response {
    refusal(431, "the head of the request is too long\n")
}

/// `returnRateLimits` and `timeUnit`, as web-socket-api.md has them; everything else is ignored.
fn wishes(query: &str) -> Wishes {
    let mut wishes = Wishes {
        rate_limits: true,
        micros: false,
    };
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("returnRateLimits", value)) => wishes.rate_limits = value != "false",
            Some(("timeUnit", value)) => wishes.micros = value.eq_ignore_ascii_case("microsecond"),
            _ => {}
        }
    }
    wishes
}

fn refusal(code: u16, body: &str) -> Response {
    let (reason, retry) = match code {
        400 => ("Bad Request", ""),
        403 => ("Forbidden", ""),
        404 => ("Not Found", ""),
        418 => ("I'm a teapot", "Retry-After: 1\r\n"),
        429 => ("Too Many Requests", "Retry-After: 1\r\n"),
        431 => ("Request Header Fields Too Large", ""),
        451 => ("Unavailable For Legal Reasons", ""),
        _ => ("Refused", ""),
    };
    let kind = if body.starts_with('{') {
        "application/json"
    } else {
        "text/plain"
    };
    let text = format!(
        "HTTP/1.1 {code} {reason}\r\nContent-Type: {kind};charset=UTF-8\r\nContent-Length: {}\r\n{retry}Connection: close\r\n\r\n{body}",
        body.len()
    );
    Response {
        bytes: text.into_bytes(),
        opens: None,
    }
}

/// What Binance says with each status. The body for 451 is the one that users report; 403 comes from its
/// firewall and is no JSON.
fn fault_body(code: u16, unix_ms: u64) -> String {
    match code {
        451 => "{\"code\":0,\"msg\":\"Service unavailable from a restricted location according to 'b. Eligibility' in https://www.binance.com/en/terms. Please contact customer service if you believe you received this message in error.\"}".to_owned(),
        418 | 429 => format!(
            "{{\"code\":-1003,\"msg\":\"{}\"}}",
            weight_message(code, unix_ms.saturating_add(1000))
        ),
        _ => "Request blocked by the web application firewall.\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    fn head(line: &str) -> String {
        format!(
            "{line}\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
    }

    fn answer(head: &str, fault: Option<u16>) -> (String, Option<Wishes>) {
        let response = respond(head.as_bytes(), fault, 1000);
        (String::from_utf8(response.bytes).unwrap(), response.opens)
    }

    #[test]
    fn an_upgrade_on_the_right_path_opens() {
        let (text, opens) = answer(&head("GET /ws-api/v3 HTTP/1.1"), None);
        assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
        // The example of RFC 6455, section 1.3.
        assert!(
            text.to_lowercase()
                .contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=")
        );
        assert!(text.ends_with("\r\n\r\n"));
        let plain = Wishes {
            rate_limits: true,
            micros: false,
        };
        assert_eq!(opens, Some(plain));
        let (_, opens) = answer(
            &head("GET /ws-api/v3?returnRateLimits=false&timeUnit=MICROSECOND HTTP/1.1"),
            None,
        );
        assert_eq!(
            opens,
            Some(Wishes {
                rate_limits: false,
                micros: true
            })
        );
    }

    #[test]
    fn everything_else_is_refused_with_a_status_and_a_body() {
        let good = head("GET /ws-api/v3 HTTP/1.1");
        for (head, fault, status) in [
            (head("GET / HTTP/1.1"), None, 404),
            (head("GET /ws-api/v3/ HTTP/1.1"), None, 404),
            (head("GET /ws-api/v3 HTTP/1.0"), None, 400),
            (head("POST /ws-api/v3 HTTP/1.1"), None, 400),
            (head("nonsense"), None, 400),
            ("\r\n\r\n".to_owned(), None, 400),
            (good.replace("websocket\r\n", "h2c\r\n"), None, 400),
            (good.replace("dGhlIHNhbXBsZSBub25jZQ==", "short"), None, 400),
            (good.replace("Version: 13", "Version: 8"), None, 400),
            (good.clone(), Some(451), 451),
            (good.clone(), Some(403), 403),
            (good.clone(), Some(418), 418),
            (good, Some(429), 429),
        ] {
            let (text, opens) = answer(&head, fault);
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
            assert_eq!(opens, None);
            let (top, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(top.contains(&format!("Content-Length: {}\r\n", body.len())));
            assert!(top.ends_with("Connection: close") && !body.is_empty());
            assert_eq!(top.contains("Retry-After: 1"), matches!(status, 418 | 429));
            if top.contains("json") {
                assert_eq!(json::check(body), Ok(()));
            }
        }
        let (text, _) = answer(&head("GET /ws-api/v3 HTTP/1.1"), Some(451));
        assert!(
            text.contains(r#"{"code":0,"msg":"Service unavailable from a restricted location"#)
        );
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
            respond(&good[..at], None, 0);
            for byte in [0, b' ', b'\n', b'?', b'%', 0x7f, 0xff] {
                let mut bytes = good.clone();
                bytes[at] = byte;
                respond(&bytes, None, 0);
            }
        }
    }
}
