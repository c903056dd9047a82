//! HTTP with exchanges and proxies: the request that opens a WebSocket, and the answers to it and to CONNECT.
//!
//! Invariant: exactly the head of an answer is read; what follows it is left for TLS or for the WebSocket. A head has a maximum
//! size and a timeout. Of the body of a refusal, [`BODY_BYTES_MAX`] bytes are read at most, and one printable line is shown. A
//! redirect is followed nowhere.

use super::{excerpt, offset};
use crate::exchange::limits::*;
use crate::system::channel::Channel;
use crate::system::endpoint::Endpoint;
use crate::system::inbox::waits;
use crate::system::net::{Gate, Look, Patience, Phase};
use crate::system::now::wall_us;
use rsoracle_proof::utc::{utc_text, utc_us};
use rsoracle_verify::error::Error;
use rsoracle_verify::log::printable;
use std::io::{self, Read, Write};
use std::time::Instant;
use tungstenite::WebSocket;
use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::{Role, WebSocketConfig};

/// Why no connection was opened.
#[derive(Debug)]
pub struct Unopened {
    /// The error to show.
    pub error: Error,
    /// The HTTP status, if the exchange refused the upgrade.
    pub status: Option<u16>,
    /// The value of `Retry-After`, in milliseconds from now, if the exchange sent it.
    pub retry_after_ms: Option<u64>,
}

impl From<Error> for Unopened {
    fn from(error: Error) -> Unopened {
        Unopened {
            error,
            status: None,
            retry_after_ms: None,
        }
    }
}

/// An answer, as far as it has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Its head is incomplete.
    Part,
    /// Its head is complete.
    Head(Head),
    /// It is not HTTP, whatever may follow.
    Other,
}

/// The head of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The HTTP status.
    pub status: u16,
    text: String,
}

impl Answer {
    /// Parses the head of an HTTP/1.0 or HTTP/1.1 answer, as far as it has arrived. It ends with the first empty line.
    pub fn parse(head: &[u8]) -> Answer {
        if head.iter().zip(b"HTTP/1.").any(|(byte, like)| byte != like) {
            return Answer::Other;
        }
        if !head.ends_with(b"\n\r\n") && !head.ends_with(b"\n\n") {
            return Answer::Part;
        }
        let text = String::from_utf8_lossy(head).into_owned();
        let mut words = text.lines().next().unwrap_or_default().split(' ');
        let known = matches!(words.next(), Some("HTTP/1.0" | "HTTP/1.1"));
        let code = words.next().filter(|code| known && code.len() == 3);
        match code.and_then(|code| code.parse().ok()) {
            Some(status) => Answer::Head(Head { status, text }),
            None => Answer::Other,
        }
    }
}

impl Head {
    /// The values of all fields with this name, whose case does not matter.
    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let fields = self.text.lines().filter_map(|line| line.split_once(':'));
        let named = fields.filter(move |(field, _)| field.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.trim())
    }

    /// Whether this answer opens the WebSocket that was asked for with `key` (RFC 6455, section 4.1). Fields that are lists are
    /// read as such (RFC 9110, section 5.6.1).
    fn opens(&self, key: &str) -> bool {
        let lists = |name, member| {
            let mut members = self.values(name).flat_map(|value| value.split(','));
            members.any(|one| one.trim().eq_ignore_ascii_case(member))
        };
        // None of these was offered.
        let more = ["Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol"];
        let accept = derive_accept_key(key.as_bytes());
        self.values("Sec-WebSocket-Accept").eq([accept])
            && lists("Upgrade", "websocket")
            && lists("Connection", "Upgrade")
            && more.iter().all(|name| self.values(name).next().is_none())
    }

    /// The exchange's time, in microseconds since the Unix epoch.
    fn date_us(&self) -> Option<u64> {
        self.values("Date").next().and_then(http_date_us)
    }

    /// The pause that `Retry-After` asks for, in milliseconds: a number of seconds, or a date. A date is compared with the `Date`
    /// of the same answer, or with `now_us` if it has none.
    fn retry_after_ms(&self, now_us: u64) -> Option<u64> {
        let value = self.values("Retry-After").next()?;
        if let Ok(s) = value.parse::<u64>() {
            return Some(s.saturating_mul(1_000));
        }
        let sent_us = self.date_us().unwrap_or(now_us);
        let left_us = http_date_us(value)?.saturating_sub(sent_us);
        // A date has no parts of a second.
        Some(left_us / 1_000 + 1_000)
    }
}

/// Parses a date of HTTP, such as `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7), into microseconds since the Unix
/// epoch. Its two obsolete forms are no date here.
fn http_date_us(text: &str) -> Option<u64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let (_, date) = text.strip_suffix(" GMT")?.split_once(", ")?;
    let parts: Vec<&str> = date.split(' ').collect();
    let [day, month, year, time] = parts[..].try_into().ok()?;
    let at = MONTHS
        .find(month)
        .filter(|at| at % 3 == 0 && month.len() == 3);
    let month = at? / 3 + 1;
    utc_us(&format!("{year}-{month:02}-{day}T{time}Z"))
}

/// Reads the head of the answer to `request`, and nothing after it. `gate` is the connection below `stream`; `failed` makes
/// the error of a cause.
pub(crate) fn read_head<S: Read>(
    (stream, gate): (&mut S, fn(&mut S) -> &mut Gate),
    request: &str,
    phase: &Phase,
    failed: &dyn Fn(String) -> Error,
    look: Look,
) -> Result<Head, Error> {
    let broken = |error: io::Error| failed(error.to_string()).passing();
    let (mut head, mut left) = (Vec::new(), HTTP_HEAD_BYTES_MAX);
    gate(stream).set_patience(phase.slice()).map_err(broken)?;
    loop {
        match Answer::parse(&head) {
            // An interim answer, such as 103 (Early Hints), comes before the answer.
            Answer::Head(Head { status, .. }) if status / 100 == 1 && status != 101 => head.clear(),
            Answer::Head(head) => return Ok(head),
            Answer::Other => return Err(failed("what answers there does not speak HTTP".into())),
            Answer::Part if left == 0 => {
                let cause =
                    format!("the head of its answer is longer than {HTTP_HEAD_BYTES_MAX} bytes");
                return Err(failed(cause));
            }
            Answer::Part => {}
        }
        // Read one byte at a time: the next one may already be TLS or a frame.
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(0) => return Err(failed("it closed the connection".into()).passing()),
            Ok(_) => {
                head.extend(byte);
                left -= 1;
            }
            Err(error) if waits(&error) => {
                look()?;
                if phase.is_over() {
                    return Err(broken(phase.late(&format!("whole answer to {request}"))));
                }
                gate(stream).set_patience(phase.slice()).map_err(broken)?;
            }
            Err(error) => return Err(broken(error)),
        }
    }
}

/// Asks for a WebSocket, and reads the answer. Returns the offset of this machine's clock, too, if the answer has the time.
pub(crate) fn upgrade(
    endpoint: &Endpoint,
    mut channel: Channel<Gate>,
    deadline: Instant,
    look: Look,
) -> Result<(WebSocket<Channel<Gate>>, Option<i64>), Unopened> {
    let phase = Phase::new(deadline, UPGRADE_MS_MAX);
    let attempt = format!("cannot open a websocket at {}", endpoint.url);
    let failed = |cause: String| Error::new(&attempt, cause).passing();
    let key = generate_key();
    let (gate, asked_us) = (channel.inner(), wall_us());
    gate.set_patience(Patience::Until(phase.until))
        .and_then(|()| channel.write_all(request(endpoint, &key).as_bytes()))
        .map_err(|error| failed(error.to_string()))?;
    let below: fn(&mut _) -> &mut _ = Channel::inner;
    let at = (&mut channel, below);
    let head = read_head(at, "the upgrade", &phase, &failed, look)?;
    if head.status != 101 {
        let words = body((&mut channel, below), &head, deadline, look);
        return Err(refusal(&attempt, &head, &words));
    }
    if !head.opens(&key) {
        return Err(failed("its answer does not fit the request (RFC 6455, 4.1)".into()).into());
    }
    let dated = |date_us| offset::dated_us(date_us, asked_us, wall_us());
    let ahead_us = head.date_us().map(dated);
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
        // The buffer is zeroed before each read, so keep it small. A read over TLS returns one record at most, and the gate
        // holds further ones.
        .read_buffer_size(4 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * MESSAGE_BYTES_MAX);
    let client = Role::Client;
    let ws = WebSocket::from_raw_socket(channel, client, Some(config));
    Ok((ws, ahead_us))
}

/// The request for a WebSocket (RFC 6455, section 4.1). Some exchanges refuse a request that names the default port, or that
/// does not name a program (`User-Agent`).
fn request(endpoint: &Endpoint, key: &str) -> String {
    let mut parts = endpoint.url.splitn(4, '/').skip(2);
    let place = parts.next().unwrap_or(&endpoint.host);
    let path = parts.next().unwrap_or_default();
    let port = if endpoint.tls { ":443" } else { ":80" };
    let host = place.strip_suffix(port).unwrap_or(place);
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "GET /{path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: rsoracle/{version}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    )
}

/// The words of a refusal: where a redirect leads, and what comes of the body within [`BODY_MS_MAX`].
pub(crate) fn body<S: Read>(
    (stream, gate): (&mut S, fn(&mut S) -> &mut Gate),
    head: &Head,
    deadline: Instant,
    look: Look,
) -> String {
    let phase = Phase::new(deadline, BODY_MS_MAX);
    let length = head.values("Content-Length").next();
    let length = length.and_then(|length| length.parse().ok());
    let mut bytes = vec![0; BODY_BYTES_MAX.min(length.unwrap_or(BODY_BYTES_MAX))];
    let mut filled = 0;
    while filled < bytes.len() && !phase.is_over() && look().is_ok() {
        let ready = gate(stream).set_patience(phase.slice());
        match ready.and_then(|()| stream.read(&mut bytes[filled..])) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if waits(&error) => {}
            Err(_) => break,
        }
    }
    let place = head.values("Location").next().unwrap_or_default();
    words(&format!(
        "{place} {}",
        String::from_utf8_lossy(&bytes[..filled])
    ))
}

/// The visible text of an HTML page or other text, on one printable line: without tags, styles and scripts.
fn words(text: &str) -> String {
    let mut pieces = text.split('<');
    let mut words = pieces.next().unwrap_or_default().to_owned();
    for (tag, text) in pieces.filter_map(|piece| piece.split_once('>')) {
        let tag = tag.to_ascii_lowercase();
        if !tag.starts_with("style") && !tag.starts_with("script") {
            words.extend([" ", text]);
        }
    }
    let words: Vec<&str> = words.split_whitespace().collect();
    printable(&words.join(" "))
}

/// The end of a sentence about a refusal with these words.
pub(crate) fn saying(words: &str) -> String {
    match words {
        "" => String::new(),
        words => format!(", saying \"{}\"", excerpt(words)),
    }
}

/// The error for an answer in place of the upgrade: what it says, what that means, and what to do.
fn refusal(attempt: &str, head: &Head, words: &str) -> Unopened {
    let retry_after_ms = head.retry_after_ms(wall_us());
    let until = retry_after_ms.map_or(String::new(), |ms| {
        let until_us = wall_us().saturating_add(ms.saturating_mul(1_000));
        let (until, s) = (utc_text(until_us), ms / 1_000);
        format!(" until {until} (Retry-After: {s} s)")
    });
    let said = saying(words);
    let line = head.text.lines().next().unwrap_or_default();
    let status = excerpt(line.get(9..).unwrap_or_default());
    let cause = format!("refused with HTTP {status}{until}{said}");
    let error = Error::new(attempt, cause).advise(advice(head.status, &words.to_lowercase()));
    Unopened {
        // For a while, a page of maintenance or of a network that wants a login often stands in an exchange's place.
        error: match head.status {
            200..=399 | 500..=599 => error.passing(),
            _ => error,
        },
        status: Some(head.status),
        retry_after_ms,
    }
}

/// What to do about a refusal, by its status and the words of its body. Binance, Bybit and MEXC document the same meanings of
/// a status. Where a status has several, as 403, 200 and 302 have, the words tell which.
fn advice(status: u16, words: &str) -> &'static str {
    let say = |signs: &str| signs.split('|').any(|sign| words.contains(sign));
    match status {
        418 => BANNED,
        429 => TOO_OFTEN,
        451 => ELSEWHERE,
        _ if say("restricted location|your country|your region|jurisdiction") => ELSEWHERE,
        _ if say("too frequent|too many|rate limit") => TOO_OFTEN,
        _ if say("maintenance") => "the exchange is in maintenance; try again later",
        200..=403 if say("sign in|sign-in|log in|login|captive|portal") => LOGIN,
        403 => FIREWALL,
        404 => "there is no websocket API at this path; check the address",
        200..=399 => {
            "a page answers in the exchange's place; open it in a browser to see whose it is"
        }
        500..=599 => "the exchange is down or in maintenance; try again later",
        _ => "what answers there is no websocket API",
    }
}

const BANNED: &str =
    "the exchange has banned this address for too many requests; stay away until the ban ends";
const TOO_OFTEN: &str =
    "too many connections or requests from this address; wait before the next try";
const ELSEWHERE: &str = "the exchange does not serve this location; use another source (for Binance: binance-stream, which falls back to data-stream.binance.vision), or run from a location that it serves";
const LOGIN: &str = "a page that wants a login answers in the exchange's place, such as that of a hotel's or an office's network: sign in there with a browser, or use another network";
const FIREWALL: &str = "a firewall of the exchange refuses this address, because of its location or of too many requests; wait, or use another source";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &str) -> Head {
        match Answer::parse(head.as_bytes()) {
            Answer::Head(head) => head,
            other => panic!("{other:?}: {head}"),
        }
    }

    #[test]
    fn the_answer_ends_at_its_empty_line_and_only_there() {
        for (head, code) in [
            ("HTTP/1.1 200 Connection established\r\n\r\n", 200),
            ("HTTP/1.0 200\r\nVia: x\r\n\r\n", 200),
            ("HTTP/1.1 407 Proxy Authentication Required\nA: b\n\n", 407),
            ("HTTP/1.1 502 \r\n\r\n", 502),
        ] {
            for end in 0..head.len() {
                let part = Answer::parse(&head.as_bytes()[..end]);
                assert_eq!(part, Answer::Part, "{end} of {head}");
            }
            assert_eq!(read(head).status, code, "{head}");
        }
        for other in [
            "SSH-2.0-OpenSSH_9.2\r\n",
            "\x15\x03\x01\0\x02",
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.2 200 OK\r\n\r\n",
            "HTTP/1.1  200 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 2x0 OK\r\n\r\n",
            "HTTP/1.1 20\r\n\r\n",
            "HTTP/1.\r\n\r\n",
            "http/1.1 200 OK\r\n\r\n",
            "\r\n\r\n",
        ] {
            assert_eq!(Answer::parse(other.as_bytes()), Answer::Other, "{other:?}");
        }
    }

    #[test]
    fn the_request_names_the_client_and_no_default_port() {
        for (url, line, host) in [
            ("wss://ws.kraken.com:443/v2", "/v2", "ws.kraken.com"),
            (
                "wss://ws.okx.com:8443/ws/v5/public",
                "/ws/v5/public",
                "ws.okx.com:8443",
            ),
            ("wss://ws.bitstamp.net:443", "/", "ws.bitstamp.net"),
            ("ws://127.0.0.1:80/a?b=c/d", "/a?b=c/d", "127.0.0.1"),
            ("ws://127.0.0.1:443/", "/", "127.0.0.1:443"),
            ("wss://[::1]:443/x", "/x", "[::1]"),
        ] {
            let text = request(&Endpoint::parse(url).unwrap(), "KEY");
            let version = env!("CARGO_PKG_VERSION");
            let begins = format!(
                "GET {line} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: rsoracle/{version}\r\n"
            );
            assert!(text.starts_with(&begins), "{text}");
            assert!(
                text.ends_with("\r\nSec-WebSocket-Key: KEY\r\n\r\n"),
                "{text}"
            );
        }
    }

    #[test]
    fn an_upgrade_is_accepted_in_every_spelling_and_for_our_key_only() {
        // The example of RFC 6455, section 1.3.
        let (key, accept) = ("dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let good = format!(
            "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        for (from, to, accepted) in [
            ("X", "Switching Protocols", true),
            (
                "Connection: Upgrade",
                "connection: keep-alive, Upgrade",
                true,
            ),
            (
                "Connection: Upgrade",
                "CONNECTION:upgrade ,\tkeep-alive",
                true,
            ),
            (
                "Connection: Upgrade",
                "Connection: a\r\nConnection: Upgrade",
                true,
            ),
            ("websocket", "h2c, WebSocket", true),
            ("Connection: Upgrade", "Connection: Upgraded", false),
            ("Connection: Upgrade", "Connection: close", false),
            ("websocket", "websockets", false),
            ("Upgrade: w", "X: w", false),
            ("s3p", "S3p", false),
            ("Sec-WebSocket-Accept", "X", false),
            (
                "\r\n\r\n",
                "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
                false,
            ),
            (
                "\r\n\r\n",
                "\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
                false,
            ),
        ] {
            let bent = good.replacen(from, to, 1);
            assert_eq!(read(&bent).opens(key), accepted, "{bent}");
        }
    }

    #[test]
    fn a_date_of_http_is_an_instant() {
        for (text, us) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777_000_000)),
            ("Mon, 01 Jan 2035 00:00:00 GMT", Some(2_051_222_400_000_000)),
            ("Fri, 31 Dec 1999 23:59:59 GMT", Some(946_684_799_000_000)),
            ("Sun, 31 Feb 1999 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37", None),
            ("Sun, 06 Neb 1994 08:49:37 GMT", None),
            ("Sun, 06 anF 1994 08:49:37 GMT", None),
            ("Sun, 06  1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994  08:49:37 GMT", None),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("Sun Nov  6 08:49:37 1994", None),
            ("", None),
        ] {
            assert_eq!(http_date_us(text), us, "{text}");
        }
    }

    #[test]
    fn a_pause_is_a_number_of_seconds_or_a_date_by_the_exchanges_clock() {
        let now_us = 784_111_777_000_000;
        for (fields, ms) in [
            ("retry-after: 25", Some(25_000)),
            ("Retry-After: 18446744073709551615", Some(u64::MAX)),
            ("Retry-After: Sun, 06 Nov 1994 08:50:02 GMT", Some(26_000)),
            ("Retry-After: Sun, 06 Nov 1994 08:49:00 GMT", Some(1_000)),
            (
                "Date: Sun, 06 Nov 1994 07:49:37 GMT\r\nRetry-After: Sun, 06 Nov 1994 07:50:02 GMT",
                Some(26_000),
            ),
            ("Retry-After: soon", None),
            ("Retry-After: -1", None),
            ("X: 1", None),
        ] {
            let head = read(&format!("HTTP/1.1 503 X\r\n{fields}\r\n\r\n"));
            assert_eq!(head.retry_after_ms(now_us), ms, "{fields}");
        }
    }

    /// Status, body, and parts of the error that they make.
    const REFUSALS: &[(&str, &str, bool, &[&str])] = &[
        (
            "403 Forbidden",
            "<HTML><HEAD><STYLE>a{}</STYLE><TITLE>ERROR: The request could not be satisfied</TITLE></HEAD>\n<BODY>The Amazon CloudFront distribution is configured to block access from your country.",
            false,
            &[
                "HTTP 403 Forbidden, saying \"ERROR: The request could not be satisfied The Amazon CloudFront",
                "does not serve this location",
            ],
        ),
        (
            "403 Forbidden",
            "{\"retMsg\":\"Access too frequent. Please try again in 5 minutes.\"}",
            false,
            &["Access too frequent", "too many connections"],
        ),
        (
            "403 Forbidden",
            "",
            false,
            &["refused with HTTP 403 Forbidden; a firewall of the exchange"],
        ),
        (
            "451 X",
            "maintenance",
            false,
            &["does not serve this location"],
        ),
        ("429 X", "maintenance", false, &["wait before the next try"]),
        ("418 X", "", false, &["banned this address"]),
        ("404 Not Found", "", false, &["check the address"]),
        (
            "400 Bad Request",
            "\u{1b}[2J\r\nx",
            false,
            &["saying \"·[2J x\"; what answers"],
        ),
        (
            "200 OK",
            "<html><body>Scheduled  maintenance</body>",
            true,
            &["saying \"Scheduled maintenance\"; the exchange is in maintenance"],
        ),
        (
            "200 OK",
            "<title>Welcome</title><form>Please sign in",
            true,
            &["wants a login"],
        ),
        (
            "200 OK",
            "hello",
            true,
            &["a page answers in the exchange's place"],
        ),
        ("301 Moved Permanently", "", true, &["a page answers"]),
        (
            "302 Found",
            "https://hotspot.example/login",
            true,
            &["saying \"https://hotspot.example/login\"", "wants a login"],
        ),
        ("503 X", "", true, &["is down or in maintenance"]),
        ("599", "", true, &["refused with HTTP 599; "]),
    ];

    #[test]
    fn a_refusal_says_what_the_exchange_said_what_that_means_and_whether_to_retry() {
        for (status, body, passing, parts) in REFUSALS {
            let head = read(&format!("HTTP/1.1 {status}\r\n\r\n"));
            let error = refusal("cannot", &head, &words(body)).error;
            let text = error.to_string();
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
            assert_eq!(error.passing, *passing, "{text}");
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic() {
        let mut seed = 0x5eed_0000_0000_0002u64;
        let mut next = |below: usize| {
            seed = seed
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            (seed >> 33) as usize % below
        };
        let good = b"HTTP/1.1 503 X\r\nRetry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\nUpgrade: a, b\r\n\r\n";
        for _ in 0..60_000 {
            let mut bytes = good.to_vec();
            for _ in 0..1 + next(4) {
                let at = next(bytes.len());
                bytes[at] = b"<>:-/ ,*01279aF\r\n\0\xff\x80"[next(20)];
            }
            if let Answer::Head(head) = Answer::parse(&bytes) {
                head.opens("");
                let text = String::from_utf8_lossy(&bytes);
                refusal("", &head, &words(&text));
            }
        }
    }
}
