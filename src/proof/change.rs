//! A change of roster, and a key's endorsement of it: what is signed. What follows from it is in [`crate::succession`].

use crate::seal::{CONTEXT_ROSTER_CHANGE, Fields, PublicKey};
use crate::terms::Roster;
use alloc::vec::Vec;

/// A change of roster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The digest of the roster that it ends.
    pub old: [u8; 32],
    /// The digest of the roster that follows.
    pub new: [u8; 32],
    /// From when on the new one counts: rounds that start then or later, microseconds since the Unix epoch.
    pub from_us: u64,
}

impl Change {
    /// The bytes that an endorsement covers.
    pub fn signed_bytes(&self) -> Vec<u8> {
        Fields::new(CONTEXT_ROSTER_CHANGE)
            .field(&self.old)
            .field(&self.new)
            .field(&self.from_us.to_be_bytes())
            .bytes()
    }
}

/// A key's signature over a change of roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endorsement {
    /// Whose it is.
    pub key: PublicKey,
    /// Over [`Change::signed_bytes`].
    pub signature: [u8; 64],
}

/// A roster file: a roster, and the change by which it follows the roster before it.
#[derive(Clone, Debug)]
pub struct RosterFile {
    /// The roster.
    pub roster: Roster,
    /// From when on it counts; `None` if the file has no `[change]`.
    pub from_us: Option<u64>,
    /// Endorsements of the change, each of another key, whose signatures are valid.
    pub endorsements: Vec<Endorsement>,
}

impl RosterFile {
    /// The change by which this roster follows the one before it.
    pub fn change(&self) -> Option<Change> {
        Some(Change {
            old: self.roster.previous?,
            new: self.roster.digest(),
            from_us: self.from_us?,
        })
    }
}
