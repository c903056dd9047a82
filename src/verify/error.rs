//! What the world can do to a role: [`Error`] says what was attempted, why it failed, and what the operator can do.
//!
//! The other two kinds of error are not here: a bug panics, a bad peer is a [`rsoracle_proof::reason::Reject`].

use std::fmt;

/// The exit code of success: a price was published, all reports check, all sources can be used.
pub const EXIT_OK: u8 = 0;
/// The exit code of a runtime failure.
pub const EXIT_FAILURE: u8 = 1;
/// The exit code of a command line that makes no sense.
pub const EXIT_USAGE: u8 = 2;
/// The exit code when no price was published: there was no quorum, or the price was withheld.
pub const EXIT_NO_PRICE: u8 = 3;

/// The exit code of `verify` and `history` when a file cannot be read.
pub const EXIT_UNREADABLE: u8 = 4;
/// The exit code of `verify` when all is consistent and no roster says whom to trust.
pub const EXIT_UNKNOWN_SIGNERS: u8 = 5;

/// A failure that ends a role, in words for its operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What was attempted, with the address, file or role: `cannot listen on 127.0.0.1:8000 (control channel)`.
    pub attempt: String,
    /// Why it failed.
    pub cause: String,
    /// What the operator can do; empty where nothing better than the cause can be said.
    pub advice: String,
    /// Whether trying again may help without anyone doing anything.
    pub passing: bool,
}

impl Error {
    /// A failure that lasts until someone mends it.
    pub fn new(attempt: impl Into<String>, cause: impl fmt::Display) -> Error {
        Error {
            attempt: attempt.into(),
            cause: cause.to_string(),
            advice: String::new(),
            passing: false,
        }
    }

    /// The same with advice.
    pub fn advise(mut self, advice: impl Into<String>) -> Error {
        self.advice = advice.into();
        self
    }

    /// The same, marked as one that may pass by itself.
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
