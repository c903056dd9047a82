//! The head of a request in HTTP/1.1 or HTTP/1.0 (RFC 9112).
//!
//! Invariant: pure, and every head is either a request or refused with a name and a sentence. What two readers could understand
//! in two ways (a bare line feed, a folded field, two lengths, a body) is refused, so that nothing can be smuggled past a proxy.

use super::problem::Problem;
use crate::serve::limits::{REQUEST_FIELDS_MAX, REQUEST_HEAD_BYTES_MAX};

/// What may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// An answer with its body.
    Get,
    /// Without its body.
    Head,
    /// What may be asked for.
    Options,
}

/// The head of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked for.
    pub method: Method,
    /// The path, as it was sent: no path of ours needs an escape.
    pub path: String,
    /// The parameters of the query, without their escapes.
    pub query: Vec<(String, String)>,
    /// Names in lower case, and values without blanks at their ends.
    pub fields: Vec<(String, String)>,
    /// Whether the connection stays open after the answer.
    pub keeps: bool,
    /// Whether this is HTTP/1.0, so that keeping it open must be said.
    pub old: bool,
    /// Bytes of the head.
    pub length: usize,
}

/// Reads the head at the beginning of `bytes`; `None` while it is incomplete.
pub fn read(bytes: &[u8]) -> Result<Option<Request>, Problem> {
    // Empty lines before a request are ignored (RFC 9112, section 2.2).
    let blank = bytes
        .chunks_exact(2)
        .take_while(|pair| pair == b"\r\n")
        .count()
        * 2;
    let end = bytes[blank..]
        .windows(4)
        .position(|four| four == b"\r\n\r\n");
    let Some(end) = end.filter(|end| blank + end + 4 <= REQUEST_HEAD_BYTES_MAX) else {
        if bytes.len() >= REQUEST_HEAD_BYTES_MAX {
            return Err(Problem::TOO_LONG);
        }
        // A NUL or a bare line feed will never become a head.
        let hopeless = bytes.contains(&0) || lone_line_feed(bytes);
        return if hopeless {
            Err(Problem::BROKEN)
        } else {
            Ok(None)
        };
    };
    let head = &bytes[blank..blank + end];
    if lone_line_feed(head) {
        return Err(Problem::BROKEN);
    }
    let head = std::str::from_utf8(head).map_err(|_| Problem::BROKEN)?;
    let mut request = whole(head)?;
    request.length = blank + end + 4;
    Ok(Some(request))
}

fn lone_line_feed(bytes: &[u8]) -> bool {
    let feeds = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let mut lone = feeds.filter(|(at, _)| at.checked_sub(1).is_none_or(|at| bytes[at] != b'\r'));
    lone.next().is_some()
}

fn whole(head: &str) -> Result<Request, Problem> {
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let mut words = line.split(' ');
    let words = [words.next(), words.next(), words.next(), words.next()];
    let [Some(method), Some(target), Some(version), None] = words else {
        return Err(Problem::BROKEN);
    };
    let old = match version {
        "HTTP/1.1" => false,
        "HTTP/1.0" => true,
        _ if version.starts_with("HTTP/") => return Err(Problem::VERSION),
        _ => return Err(Problem::BROKEN),
    };
    let fields = lines.map(field).collect::<Result<Vec<_>, _>>()?;
    if fields.len() > REQUEST_FIELDS_MAX {
        return Err(Problem::TOO_LONG);
    }
    let method = match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "OPTIONS" => Method::Options,
        _ if !method.is_empty() && method.bytes().all(is_token) => return Err(Problem::METHOD),
        _ => return Err(Problem::BROKEN),
    };
    let (path, query) = target_of(target, method)?;
    let mut request = Request {
        method,
        path,
        query,
        fields,
        keeps: false,
        old,
        length: 0,
    };
    let hosts = request.all("host").count();
    if hosts > 1 || (hosts == 0 && !old) {
        return Err(Problem::BROKEN);
    }
    let empty = request.all("content-length").all(|length| length == "0");
    if !empty || request.all("transfer-encoding").next().is_some() {
        return Err(Problem::BODY);
    }
    request.keeps = match old {
        true => request.lists("connection", "keep-alive"),
        false => true,
    } && !request.lists("connection", "close");
    Ok(request)
}

/// Path and query of a target in origin form, or in absolute form, as proxies send it.
fn target_of(target: &str, method: Method) -> Result<(String, Vec<(String, String)>), Problem> {
    if target == "*" && method == Method::Options {
        return Ok(("*".to_owned(), Vec::new()));
    }
    let visible = target.bytes().all(|byte| (b'!'..=b'~').contains(&byte));
    let absolute = ["http://", "https://"]
        .iter()
        .find_map(|scheme| target.strip_prefix(scheme));
    let target = match absolute {
        Some(rest) => rest.find(['/', '?']).map_or("/", |at| &rest[at..]),
        None => target,
    };
    if !visible || !target.starts_with('/') {
        return Err(Problem::BROKEN);
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((plain(name)?, plain(value)?))
    });
    let query: Option<Vec<_>> = pairs.collect();
    Ok((path.to_owned(), query.ok_or(Problem::ESCAPE)?))
}

/// A part of a query without its escapes, if it is text without control characters then.
fn plain(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [first, more @ ..] = rest {
        rest = more;
        bytes.push(match (first, more) {
            (b'%', [high, low, after @ ..]) => {
                rest = after;
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                (digit(high)? * 16 + digit(low)?) as u8
            }
            (b'%', _) => return None,
            (b'+', _) => b' ',
            (byte, _) => *byte,
        });
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.contains(char::is_control)).then_some(text)
}

/// The bytes of a token (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn field(line: &str) -> Result<(String, String), Problem> {
    let (name, value) = line.split_once(':').ok_or(Problem::BROKEN)?;
    let control = |c: char| c.is_control() && c != '\t';
    if name.is_empty() || !name.bytes().all(is_token) || value.contains(control) {
        return Err(Problem::BROKEN);
    }
    let value = value.trim_matches([' ', '\t']);
    Ok((name.to_ascii_lowercase(), value.to_owned()))
}

impl Request {
    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.fields.iter().filter(move |(one, _)| one == name);
        named.map(|(_, value)| value.as_str())
    }

    /// The value of a header field that was sent once.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let mut all = self.all(name);
        all.next().filter(|_| all.next().is_none())
    }

    /// The value of a header field; a problem if it was sent twice.
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, Problem> {
        match self.all(name).count() {
            0 | 1 => Ok(self.field(name)),
            _ => Err(Problem::BROKEN),
        }
    }

    /// The items of a header field that is a list.
    pub(super) fn items(&self, name: &str) -> impl Iterator<Item = &str> {
        self.all(name)
            .flat_map(|value| value.split(','))
            .map(|item| item.trim_matches([' ', '\t']))
    }

    /// Whether a list has this item, in upper or lower case.
    pub(super) fn lists(&self, name: &str, item: &str) -> bool {
        self.items(name).any(|one| one.eq_ignore_ascii_case(item))
    }

    /// A parameter of the query; a problem if it was given twice.
    pub(super) fn parameter(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut all = self.query.iter().filter(|(one, _)| one == name);
        let first = all.next().map(|(_, value)| value.as_str());
        match all.next() {
            None => Ok(first),
            Some(_) => Err(Problem::bad_parameter(name, "once")),
        }
    }
}
