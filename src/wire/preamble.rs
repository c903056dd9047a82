//! What opens a connection on the data channel; observations follow, as `rsoracle_proof::record` has them.

use super::{HEAD_BYTES, Kind, after_head, head};
use rsoracle_proof::reason::Reject;

/// First bytes on a data connection: whose observations follow. It reserves nothing and displaces nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// Index in the roster.
    pub slot: u16,
    /// The collector's public key.
    pub key: [u8; 32],
}

impl Preamble {
    /// Width on the wire.
    pub const BYTES: usize = HEAD_BYTES + 2 + 6 + 32;

    /// To the wire.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        head(Kind::Preamble)
            .put(&self.slot.to_be_bytes())
            .put(&[0; 6])
            .put(&self.key)
            .done()
    }

    /// From the wire.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Result<Preamble, Reject> {
        let mut take = after_head(bytes, Kind::Preamble)?;
        let slot = take.u16();
        take.zeros::<6>()?;
        Ok(Preamble {
            slot,
            key: take.array(),
        })
    }
}
