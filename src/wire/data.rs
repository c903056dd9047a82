//! Frames of the data channel.

use super::{FrameKind, HEAD_BYTES, after_head, head};
use rsoracle_proof::bytes::Put;
use rsoracle_proof::decode::Take;
use rsoracle_proof::reason::Reject;
use rsoracle_proof::record::Observation;

/// First bytes on a data connection: names the collector whose observations follow. It is not authenticated: it reserves
/// nothing, and displaces no other connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// The collector's public key.
    pub key: [u8; 32],
}

impl Preamble {
    /// Bytes of the frame.
    pub const BYTES: usize = HEAD_BYTES + 32;

    /// The frame as bytes.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        head(FrameKind::Preamble).put(&self.key).done()
    }

    /// Parses the frame.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Result<Preamble, Reject> {
        let mut take = after_head(bytes, FrameKind::Preamble)?;
        Ok(Preamble { key: take.array() })
    }
}

/// One observation, with the round that it is for. It has no head, and every byte string of its width is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataFrame {
    /// The tag of the terms.
    pub tag: [u8; 8],
    /// Start of the round.
    pub start_us: u64,
    /// The observation as bytes; they are judged together with its samples.
    pub observation: [u8; Observation::BYTES],
}

impl DataFrame {
    /// Bytes of the frame.
    pub const BYTES: usize = 8 + 8 + Observation::BYTES;

    /// The frame as bytes.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        Put::new()
            .put(&self.tag)
            .put(&self.start_us.to_be_bytes())
            .put(&self.observation)
            .done()
    }

    /// Parses the frame.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> DataFrame {
        let mut take = Take::all(bytes);
        DataFrame {
            tag: take.array(),
            start_us: take.u64(),
            observation: take.array(),
        }
    }
}
