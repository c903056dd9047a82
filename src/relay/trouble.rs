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

/// The stream does not take a report because of a message that it does not hand out.
pub(super) fn withheld(stream: &str, feed: &str, sequence: u64) -> Trouble {
    Trouble::Lost(format!(
        "the stream {stream} has refused a report of {feed} because of its message {sequence}, which it does not hand out; a report that was removed is not taken again for as long as the stream knows its id (duplicate window)"
    ))
}
