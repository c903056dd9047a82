//! Failures caused by the environment, and exit codes. An [`Error`] says what was attempted, why it failed, and what the
//! operator can do.
//!
//! Other kinds of failure are elsewhere: a bug panics, and a misbehaving peer is a [`rsoracle_proof::reason::Reject`].

use std::fmt;

/// Exit code of success: a price was published, all reports are valid, all sources can be used.
pub const EXIT_OK: u8 = 0;
/// Exit code of a failure: a runtime error, an invalid report, or a source that cannot be used.
pub const EXIT_FAILURE: u8 = 1;
/// Exit code of an invalid command line or configuration.
pub const EXIT_USAGE: u8 = 2;
/// Exit code of `run` when there is no price: there was no quorum, or the price was withheld. Also that of `verify` for a file
/// without a report.
pub const EXIT_NO_PRICE: u8 = 3;

/// Exit code of `verify` and `history` when a file cannot be read.
pub const EXIT_UNREADABLE: u8 = 4;
/// Exit code of `verify` when all reports are consistent, but no roster says whom to trust, or nobody
/// of the roster signed.
pub(crate) const EXIT_UNKNOWN_SIGNERS: u8 = 5;
/// Exit code of `verify` when all reports are sound, but the last price is older than `--max-age`, or there is none.
pub(crate) const EXIT_STALE: u8 = 6;

/// A failure of a process, in words for its operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What was attempted, with the address, file or role: `cannot listen on 127.0.0.1:8000 (control channel)`.
    pub attempt: String,
    /// Why it failed.
    pub cause: String,
    /// What the operator can do; empty if the cause says enough.
    pub advice: String,
    /// Whether a retry may succeed without any action.
    pub passing: bool,
}

impl Error {
    /// A permanent failure: a retry fails too, until someone fixes the cause.
    pub fn new(attempt: impl Into<String>, cause: impl fmt::Display) -> Error {
        Error {
            attempt: attempt.into(),
            cause: cause.to_string(),
            advice: String::new(),
            passing: false,
        }
    }

    /// Adds advice.
    pub fn advise(mut self, advice: impl Into<String>) -> Error {
        self.advice = advice.into();
        self
    }

    /// Marks the failure as transient: a retry may succeed.
    pub fn passing(mut self) -> Error {
        self.passing = true;
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.attempt, self.cause)?;
        if self.advice.is_empty() {
            Ok(())
        } else {
            write!(f, "; {}", self.advice)
        }
    }
}

impl std::error::Error for Error {}

/// Longest value that a message repeats whole, in characters.
pub const VALUE_CHARS_MAX: usize = 120;

/// A text of at most `chars_max` characters as it is. Of a longer one, the beginning, which says what is wrong, and the end,
/// which says what to do.
pub fn brief(text: &str, chars_max: usize) -> String {
    let (count, half) = (text.chars().count(), chars_max / 2);
    if count <= chars_max {
        return text.to_owned();
    }
    let begin: String = text.chars().take(half).collect();
    let end: String = text.chars().skip(count - half).collect();
    format!("{begin}…({} characters left out)…{end}", count - 2 * half)
}
