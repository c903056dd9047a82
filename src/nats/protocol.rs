//! The protocol of NATS clients (docs.nats.io, "Client Protocol"): from bytes to what a server says, and what a client writes.
//!
//! Invariant: pure, total on any bytes, and no more is kept than one line, the end of one message's headers, and one payload of
//! the wanted length. A longer payload is passed over; its message still arrives, without it.

use super::limits::{HEADERS_BYTES_MAX, LINE_BYTES_MAX, SERVERS_MAX};
use crate::exchange::json::{Json, Spans};

/// What a server says.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// What the server is, as JSON: first of all, and whenever it changes.
    Info(String),
    /// A message of a subscription.
    Message(Message),
    /// A question whether this client is alive.
    Ping,
    /// The answer to such a question.
    Pong,
    /// A refusal, in the server's words.
    Refusal(String),
}

/// A message.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The number of the subscription.
    pub sid: u64,
    /// The subject on which it was published.
    pub subject: String,
    /// Its headers or, if they are longer than [`HEADERS_BYTES_MAX`], their end.
    headers: Vec<u8>,
    /// Its content; `None` if it was longer than wanted.
    pub payload: Option<Vec<u8>>,
}

impl Message {
    /// The last header of this name. JetStream appends its own to those of the publisher, who may have given any.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.headers.split(|byte| *byte == b'\n');
        let texts = lines.filter_map(|line| std::str::from_utf8(line).ok());
        let mut pairs = texts.filter_map(|line| line.split_once(':'));
        let value = pairs.rfind(|(key, _)| key.eq_ignore_ascii_case(name))?.1;
        Some(value.trim())
    }

    /// The status in place of headers, such as 404, and its words. A publisher can give a message one, too.
    pub fn status(&self) -> Option<(u16, &str)> {
        let text = std::str::from_utf8(&self.headers).ok()?;
        let (number, words) = text
            .lines()
            .next()?
            .strip_prefix("NATS/1.0 ")?
            .split_at_checked(3)?;
        Some((number.parse().ok()?, words.trim()))
    }
}

/// A message whose end has not come yet.
#[derive(Debug)]
struct Body {
    message: Message,
    headers_left: usize,
    payload_left: usize,
    /// What is left of the line end after it.
    end: &'static [u8],
}

/// The server's side of a connection, as far as it has arrived.
#[derive(Debug)]
pub struct Parser {
    line: Vec<u8>,
    body: Option<Body>,
    payload_bytes_max: usize,
}

const NO_NATS: &str = "what it sends is not the protocol of NATS";

impl Parser {
    /// A connection from its beginning. Longer payloads than `payload_bytes_max` are not wanted.
    pub fn new(payload_bytes_max: usize) -> Parser {
        Parser {
            line: Vec::new(),
            body: None,
            payload_bytes_max,
        }
    }

    /// Takes bytes up to the end of what is said next. Returns how many were taken, and what was said.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(usize, Option<Said>), &'static str> {
        let mut taken = 0;
        while taken < bytes.len() {
            if let Some(body) = &mut self.body {
                taken += body.take(&bytes[taken..])?;
                if body.end.is_empty() {
                    let whole = self.body.take().map(|body| Said::Message(body.message));
                    return Ok((taken, whole));
                }
                continue;
            }
            let rest = &bytes[taken..];
            let end = rest.iter().position(|byte| *byte == b'\n');
            let piece = &rest[..end.unwrap_or(rest.len())];
            if self.line.len() + piece.len() > LINE_BYTES_MAX {
                return Err("a line is longer than any server needs");
            }
            self.line.extend_from_slice(piece);
            taken += piece.len() + usize::from(end.is_some());
            if end.is_some() {
                let line = std::mem::take(&mut self.line);
                let said = self.line(line.strip_suffix(b"\r").unwrap_or(&line))?;
                if said.is_some() {
                    return Ok((taken, said));
                }
            }
        }
        Ok((taken, None))
    }

    fn line(&mut self, line: &[u8]) -> Result<Option<Said>, &'static str> {
        let line = std::str::from_utf8(line).map_err(|_| NO_NATS)?;
        let (word, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        Ok(match word.to_ascii_uppercase().as_str() {
            "MSG" => {
                self.body = Some(self.begin(rest, false).ok_or(NO_NATS)?);
                None
            }
            "HMSG" => {
                self.body = Some(self.begin(rest, true).ok_or(NO_NATS)?);
                None
            }
            "PING" => Some(Said::Ping),
            "PONG" => Some(Said::Pong),
            "+OK" => None,
            "-ERR" => Some(Said::Refusal(rest.trim().trim_matches('\'').to_owned())),
            "INFO" => Some(Said::Info(rest.trim().to_owned())),
            _ => return Err(NO_NATS),
        })
    }

    /// Begins a message: `SUBJECT SID [REPLY] [HEADERS] BYTES`, in which `BYTES` counts headers and payload.
    fn begin(&self, line: &str, has_headers: bool) -> Option<Body> {
        let mut words: Vec<&str> = line.split_ascii_whitespace().collect();
        let mut length = || {
            let digits = words.pop().filter(|word| word.len() <= 9)?;
            digits.parse::<u32>().ok().map(|count| count as usize)
        };
        let total = length()?;
        let headers_left = if has_headers { length()? } else { 0 };
        let (subject, sid) = match words[..] {
            [subject, sid] | [subject, sid, _] => (subject, sid.parse().ok()?),
            _ => return None,
        };
        let payload_left = total.checked_sub(headers_left)?;
        Some(Body {
            message: Message {
                sid,
                subject: subject.to_owned(),
                headers: Vec::new(),
                payload: (payload_left <= self.payload_bytes_max).then(Vec::new),
            },
            headers_left,
            payload_left,
            end: b"\r\n",
        })
    }
}

impl Body {
    /// Takes bytes up to its end. Returns how many were taken.
    fn take(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        let (headers, rest) = bytes.split_at(bytes.len().min(self.headers_left));
        let (payload, rest) = rest.split_at(rest.len().min(self.payload_left));
        self.headers_left -= headers.len();
        self.payload_left -= payload.len();
        let kept = &mut self.message.headers;
        kept.extend_from_slice(headers);
        if kept.len() > HEADERS_BYTES_MAX {
            // Without its beginning, it has no status.
            kept.drain(..kept.len() - HEADERS_BYTES_MAX + 1);
            kept.insert(0, b'\n');
        }
        if let Some(kept) = &mut self.message.payload {
            kept.extend_from_slice(payload);
        }
        let end = match self.headers_left + self.payload_left {
            0 => rest.len().min(self.end.len()),
            _ => 0,
        };
        if rest[..end] != self.end[..end] {
            return Err("a message does not end where its length says");
        }
        self.end = &self.end[end..];
        Ok(headers.len() + payload.len() + end)
    }
}

/// The member of that name. Servers say little, so unlike [`Json::get`] this need not be fast, but small.
#[inline(never)]
pub(super) fn member<'a>(json: Json<'a>, name: &str) -> Option<Json<'a>> {
    json.get(name)
}

/// What a server says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// What is to be signed, to prove who this client is.
    pub(crate) nonce: Option<String>,
    /// Whether it wants TLS, or at least offers it.
    pub(crate) tls_required: bool,
    pub(crate) tls_available: bool,
    /// Whether it wants credentials.
    pub(crate) auth_required: bool,
    /// Whether it knows headers.
    pub(crate) headers: bool,
    /// Most bytes of a message.
    pub(crate) payload_bytes_max: Option<usize>,
    /// Whether it is about to end, so that clients should leave.
    pub(crate) is_lame_duck: bool,
    /// The addresses (host and port) of the servers of its cluster.
    pub(crate) urls: Vec<String>,
}

impl Info {
    /// Reads the JSON of an INFO.
    pub fn read(text: &str) -> Option<Info> {
        let mut spans = Spans::new();
        let all = Json::read(text, &mut spans).ok()?;
        let is = |name| member(all, name).and_then(Json::switch).unwrap_or(false);
        let urls = member(all, "connect_urls").and_then(Json::items);
        Some(Info {
            nonce: member(all, "nonce").and_then(Json::owned),
            tls_required: is("tls_required"),
            tls_available: is("tls_available"),
            auth_required: is("auth_required"),
            headers: is("headers"),
            payload_bytes_max: member(all, "max_payload").and_then(Json::whole),
            is_lame_duck: is("ldm"),
            urls: urls.map_or(Vec::new(), |urls| {
                urls.take(SERVERS_MAX).filter_map(Json::owned).collect()
            }),
        })
    }
}

/// Writes a message. `reply` is where an answer is wanted. None of the texts may have blanks or line ends but headers' values,
/// which may have blanks.
pub(crate) fn publish(
    out: &mut Vec<u8>,
    subject: &str,
    reply: &str,
    headers: &[(&str, &str)],
    payload: &[u8],
) {
    let mut head = String::new();
    if !headers.is_empty() {
        head.push_str("NATS/1.0\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
    }
    let total = head.len() + payload.len();
    let line = match headers.is_empty() {
        true => format!("PUB {subject} {reply} {total}\r\n"),
        false => format!("HPUB {subject} {reply} {} {total}\r\n", head.len()),
    };
    for part in [line.as_bytes(), head.as_bytes(), payload, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that is said in these pieces; payloads longer than 8 bytes are not wanted.
    fn all(pieces: &[&[u8]]) -> Result<Vec<Said>, &'static str> {
        let (mut parser, mut found) = (Parser::new(8), Vec::new());
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                let (taken, said) = parser.take(rest)?;
                rest = &rest[taken..];
                found.extend(said);
            }
        }
        Ok(found)
    }

    const TEXT: &[u8] = b"INFO {\"a\":1} \r\nPING\r\n+OK\r\nMSG a.b 1 5\r\nhe\r\no\r\npong\r\nHMSG c 22 _I.x.7 20 22\r\nNATS/1.0\r\nA: b:c\r\n\r\nhi\r\n-ERR 'No, no'\r\nHMSG d 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\nMSG e 1 9\r\n123456789\r\nMSG f 1 0\r\n\r\nMSG cut";

    #[test]
    fn what_a_server_says_is_read_wherever_it_is_cut() {
        let message = |sid, subject: &str, headers: &str, payload: Option<&str>| {
            Said::Message(Message {
                sid,
                subject: subject.to_owned(),
                headers: headers.as_bytes().to_vec(),
                payload: payload.map(|text| text.as_bytes().to_vec()),
            })
        };
        let right = vec![
            Said::Info("{\"a\":1}".to_owned()),
            Said::Ping,
            message(1, "a.b", "", Some("he\r\no")),
            Said::Pong,
            message(22, "c", "NATS/1.0\r\nA: b:c\r\n\r\n", Some("hi")),
            Said::Refusal("No, no".to_owned()),
            message(1, "d", "NATS/1.0 503\r\n\r\n", Some("")),
            message(1, "e", "", None),
            message(1, "f", "", Some("")),
        ];
        for cut in 0..TEXT.len() {
            let (one, other) = TEXT.split_at(cut);
            assert_eq!(all(&[one, other]).as_ref(), Ok(&right), "{cut}");
        }
        let bytes: Vec<&[u8]> = TEXT.chunks(1).collect();
        assert_eq!(all(&bytes), Ok(right));
    }

    #[test]
    fn what_is_not_the_protocol_is_refused_and_nothing_makes_it_panic() {
        for text in [
            "HTTP/1.1 400 Bad Request\r\n",
            "MSG a 1\r\n",
            "MSG a x 1\r\n",
            "MSG a 1 -1\r\n",
            "MSG a 1 b c 1\r\n",
            "MSG a 1 4294967296\r\n",
            "HMSG a 1 5 4\r\n",
            "HMSG a 1 5\r\n",
            "MSG a 1 1\r\nab\r\n",
            "\r\n",
            "\u{e9}\r\n",
        ] {
            assert!(all(&[text.as_bytes()]).is_err(), "{text:?}");
        }
        assert!(all(&[&vec![b'P'; LINE_BYTES_MAX + 1]]).is_err());
        let mut seed = 1u64;
        for _ in 0..20_000 {
            let mut text = TEXT.to_vec();
            for _ in 0..1 + seed % 4 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (seed >> 33) as usize % text.len();
                text[at] = (seed >> 24) as u8;
            }
            let _ = all(&[&text]);
        }
    }

    #[test]
    fn of_headers_without_end_their_end_is_kept_and_a_status_in_them_is_none() {
        let begin = format!(
            "NATS/1.0 404 None\r\nX: {}\r\n",
            "NATS/1.0 404 ".repeat(4_000)
        );
        let head = format!("{begin}Nats-Sequence: 1\r\nnats-sequence: 7\r\n\r\n");
        let text = format!("HMSG a 1 {} {}\r\n{head}z\r\n", head.len(), head.len() + 1);
        for size in [1, 7, 16_384, text.len()] {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            let found = all(&pieces).unwrap();
            let [Said::Message(message)] = &found[..] else {
                panic!("{found:?}");
            };
            assert!(message.headers.len() <= HEADERS_BYTES_MAX);
            assert_eq!(
                (message.header("Nats-Sequence"), message.status()),
                (Some("7"), None)
            );
            assert_eq!(message.payload.as_deref(), Some(&b"z"[..]));
        }
    }

    #[test]
    fn a_message_is_written_as_a_server_reads_it() {
        let mut out = Vec::new();
        publish(&mut out, "a.b", "_I.1", &[], b"hello");
        publish(&mut out, "a.b", "_I.2", &[("A", "b"), ("C", "d e")], b"");
        let right = "PUB a.b _I.1 5\r\nhello\r\nHPUB a.b _I.2 26 26\r\nNATS/1.0\r\nA: b\r\nC: d e\r\n\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), right);
    }

    #[test]
    fn what_a_server_says_of_itself_is_read() {
        let text = "{\"server_id\":\"N\",\"version\":\"2.9.10\",\"headers\":true,\"max_payload\":1048576,\"nonce\":\"VmW\",\"auth_required\":true,\"tls_available\":true,\"ldm\":true,\"connect_urls\":[\"10.0.0.1:4222\",\"[::1]:4222\"]}";
        let info = Info {
            nonce: Some("VmW".to_owned()),
            tls_required: false,
            tls_available: true,
            auth_required: true,
            headers: true,
            payload_bytes_max: Some(1_048_576),
            is_lame_duck: true,
            urls: vec!["10.0.0.1:4222".to_owned(), "[::1]:4222".to_owned()],
        };
        assert_eq!(Info::read(text), Some(info));
        assert_eq!(Info::read("{}"), Some(Info::default()));
        assert_eq!(Info::read("{"), None);
    }
}
