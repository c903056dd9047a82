//! What keeps a journal from being published: what another connection may mend, and what ends the process.

use rsoracle_verify::error::Error;

/// Why a connection is given up, or this process.
pub(super) enum Trouble {
    /// It may work on another connection.
    Lost(String),
    /// It will not.
    Over(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Over(error)
    }
}

impl From<String> for Trouble {
    fn from(why: String) -> Trouble {
        Trouble::Lost(why)
    }
}

/// The error about what only the operator can change.
pub(super) fn stop(path: &str, cause: String, advice: &str) -> Error {
    Error::new(format!("cannot publish the journal {path}"), cause).advise(advice)
}
