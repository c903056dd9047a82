//! Why a request is refused, or a stream ended: a status, a name for programs, and a sentence for people.
//!
//! Invariant: pure. A name never changes its meaning; docs/CONSUMING.md has them all.

use rsoracle_verify::log::quoted;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub(super) status: u16,
    pub(super) name: &'static str,
    sentence: String,
    /// Further members of the error, each with a comma before it.
    more: String,
}

/// A problem whose sentence is always the same.
macro_rules! problems {
    ($($name:ident = $status:literal $word:literal: $sentence:literal;)*) => {
        impl Problem {
            $(pub(super) const $name: Problem = Problem {
                status: $status,
                name: $word,
                sentence: String::new(),
                more: String::new(),
            };)*
        }
        fn fixed(name: &str) -> &'static str {
            match name { $($word => $sentence,)* _ => "" }
        }
    };
}

problems! {
    BROKEN = 400 "bad-request": "this is not a request of HTTP/1.1 or HTTP/1.0";
    ESCAPE = 400 "bad-escape": "an escape in the query is no two hexadecimal digits, or gives no text";
    NOT_FOUND = 404 "not-found": "there is nothing at this path; docs/openapi.json lists all";
    METHOD = 405 "bad-method": "only GET, HEAD and OPTIONS are answered";
    LATE = 408 "request-late": "the head of the request was not complete in time";
    BODY = 413 "body": "a request has no body here";
    TOO_LONG = 431 "head-too-long": "the head of the request has more than 8 KiB or 64 fields";
    CROWDED = 429 "too-many-of-this-address": "this address has too many connections; close some, or ask through a cache";
    FULL = 503 "too-many-connections": "no further connection is possible now; try again, or ask through a cache";
    VERSION = 505 "bad-version": "only HTTP/1.1 and HTTP/1.0 are spoken";
    NO_JOURNAL = 503 "no-journal": "the journal does not exist yet";
    INDEXING = 503 "indexing": "the journal is being read; try again in a moment";
    NO_ROSTER = 404 "no-roster": "no roster is served here (--roster); get it from the operator over a channel that you trust";
    REPLACED = 200 "journal-replaced": "the journal was replaced, or another chain of reports has begun; begin anew";
    GONE = 500 "journal-changed": "the journal changed while it was read; try again";
}

impl Problem {
    /// A problem with a sentence of its own.
    pub(super) fn new(status: u16, name: &'static str, sentence: String) -> Problem {
        Problem {
            status,
            name,
            sentence,
            more: String::new(),
        }
    }

    /// The end of a stream whose next report is no longer there.
    pub(super) fn too_old(next: u64, first: u64) -> Problem {
        let sentence = format!("report {next} is not in the journal; the first one is {first}");
        Problem::new(200, "cursor-too-old", sentence).with("first", first)
    }

    /// A parameter that takes something else.
    pub(super) fn bad_parameter(name: &str, right: &str) -> Problem {
        let sentence = format!("the parameter {name} takes {right}");
        Problem::new(400, "bad-parameter", sentence)
    }

    /// Adds a member: its value is JSON.
    pub(super) fn with(mut self, name: &str, value: impl std::fmt::Display) -> Problem {
        self.more.push_str(&format!(",\"{name}\":{value}"));
        self
    }

    /// The problem as JSON, without a newline.
    pub(super) fn json(&self) -> String {
        let sentence = match self.sentence.as_str() {
            "" => fixed(self.name),
            own => own,
        };
        format!(
            "{{\"error\":{},\"message\":{}{}}}",
            quoted(self.name),
            quoted(sentence),
            self.more
        )
    }
}
