//! Gives a round what arrives on the wire. It is apart from [`crate::round`], since a verifier decodes nothing, and from
//! [`crate::decode`], since a collector keeps no round's books.

use crate::reason::Reject;
use crate::record::{Observation, Record};
use crate::round::Round;

impl Round {
    /// [`Round::take`], of an observation from the wire.
    pub fn observe(
        &mut self,
        slot: u16,
        records: &[Record],
        bytes: &[u8; Observation::BYTES],
    ) -> Result<(), Reject> {
        self.take(slot, records, Observation::decode(bytes)?)
    }
}
