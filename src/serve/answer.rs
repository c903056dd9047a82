//! Answers in HTTP/1.1: their heads, and the bodies that are not lines of the journal.
//!
//! Invariant: pure. Every answer, errors too, may be read by any page (`Access-Control-Allow-Origin: *`), and every error is
//! JSON with a name and a sentence.

use super::index::Cursor;
use super::problem::Problem;
use super::request::{Method, Request};
use crate::system::date::http_date;
use std::rc::Rc;

/// For what never changes.
pub(super) const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// For what never changes, but may be replaced by something else at the same address.
pub(super) const FOR_A_WHILE: &str = "public, max-age=10, must-revalidate";
/// For what holds only now.
pub(super) const NEVER: &str = "no-store";

/// The body of an answer.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// None.
    None,
    /// These bytes.
    Bytes(Rc<[u8]>),
    /// A short text, and then bytes that all answers share.
    Page(String, Rc<[u8]>),
    /// The lines of a feed from a place to before the report at a position, whose bytes are counted.
    Lines {
        feed: usize,
        from: Cursor,
        until: usize,
        bytes: u64,
    },
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    fields: String,
    pub(super) body: Body,
    /// Whether it may have cost much: others have their turn after it.
    pub(super) is_dear: bool,
}

impl Answer {
    /// An answer without a body.
    pub(super) fn new(status: u16) -> Answer {
        Answer {
            status,
            fields: String::new(),
            body: Body::None,
            is_dear: false,
        }
    }

    /// An answer with a text.
    pub(super) fn text(status: u16, kind: &str, text: String) -> Answer {
        let mut answer = Answer::new(status);
        answer.field("Content-Type", kind);
        answer.body = Body::Bytes(text.into_bytes().into());
        answer
    }

    /// The answer that says what is wrong.
    pub(super) fn problem(problem: &Problem) -> Answer {
        let mut answer = Answer::text(problem.status, "application/json", problem.json() + "\n");
        answer.field("Cache-Control", NEVER);
        match problem.status {
            405 => answer.field("Allow", "GET, HEAD, OPTIONS"),
            426 => answer.field("Upgrade", "websocket"),
            429 | 503 => answer.field("Retry-After", "1"),
            _ => {}
        }
        answer
    }

    /// Adds a header field.
    pub(super) fn field(&mut self, name: &str, value: &str) {
        self.fields.push_str(&format!("{name}: {value}\r\n"));
    }

    /// Its head as bytes. `request` is that which it answers, if it could be read. `unix_s` is the time.
    pub(super) fn head(&self, request: Option<&Request>, keeps: bool, unix_s: u64) -> String {
        let (status, reason) = (self.status, reason(self.status));
        let mut head = format!(
            "HTTP/1.1 {status} {reason}\r\nDate: {}\r\nAccess-Control-Allow-Origin: *\r\n{}",
            http_date(unix_s),
            self.fields
        );
        let bytes = match &self.body {
            Body::None => 0,
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Page(own, shared) => (own.len() + shared.len()) as u64,
            Body::Lines { bytes, .. } => *bytes,
        };
        // These never have a body, and saying its length would mislead.
        if !matches!(status, 101 | 204 | 304) && !self.is_stream() {
            head.push_str(&format!("Content-Length: {bytes}\r\n"));
        }
        match (status, keeps, request.is_some_and(|request| request.old)) {
            (101, _, _) => {}
            (_, false, _) => head.push_str("Connection: close\r\n"),
            (_, true, true) => head.push_str("Connection: keep-alive\r\n"),
            (_, true, false) => {}
        }
        head.push_str("\r\n");
        head
    }

    /// Whether it has no end.
    pub(super) fn is_stream(&self) -> bool {
        self.fields.contains("text/event-stream")
    }

    /// The body to send: none to HEAD.
    pub(super) fn body_for(self, request: Option<&Request>) -> Body {
        match request.map(|request| request.method) {
            Some(Method::Head) => Body::None,
            _ => self.body,
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        204 => "No Content",
        302 => "Found",
        304 => "Not Modified",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}
