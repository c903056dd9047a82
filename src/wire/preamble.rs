//! The preamble, which begins a connection on the data channel. Observations follow it (see `rsoracle_proof::record`).

use super::{FrameKind, HEAD_BYTES, after_head, head};
use rsoracle_proof::reason::Reject;

/// First bytes on a data connection: names the collector whose observations follow. It is not authenticated: it reserves
/// nothing, and displaces no other connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// Index in the roster.
    pub slot: u16,
    /// The collector's public key.
    pub key: [u8; 32],
}

impl Preamble {
    /// Bytes of the frame.
    pub const BYTES: usize = HEAD_BYTES + 2 + 6 + 32;

    /// The frame as bytes.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        head(FrameKind::Preamble)
            .put(&self.slot.to_be_bytes())
            .put(&[0; 6])
            .put(&self.key)
            .done()
    }

    /// Parses the frame.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Result<Preamble, Reject> {
        let mut take = after_head(bytes, FrameKind::Preamble)?;
        let slot = take.u16();
        take.zeros::<6>()?;
        Ok(Preamble {
            slot,
            key: take.array(),
        })
    }
}
