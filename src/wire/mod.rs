//! The frames of the control and data channels: fixed widths, big-endian, reserved bytes zero.
//!
//! | control frame | bytes | layout after the 8-byte head (magic `RSOR`, version, kind, two zero bytes) |
//! |---|---|---|
//! | 1 challenge | 40 | nonce 32 |
//! | 2 hello | 152 | slot 2, zero 6, public key 32, source 32, clock 8, signature 64 |
//! | 3 ready | 24 | clock 8, first price 8 |
//! | 4 round | 128 | start 8, interval 8, samples 4, zero 4, terms digest 32, signature 64 |
//! | 5 sample | 48 | round start 8, sample record 32 |
//! | 6 refusal | 16 | reason 2, zero 6 |
//!
//! | data channel | bytes | layout |
//! |---|---|---|
//! | preamble | 48 | head (kind 7), slot 2, zero 6, public key 32 |
//! | observation | 80 | average 8, timestamp 8, signature 64 |
//!
//! Invariant: `decode` inverts `encode`, and every byte string that `decode` accepts is one that `encode` makes. Signatures are
//! carried, not checked.
//!
//! Uses: proof. Used by: aggregator, collector, keys.

mod control;

pub use control::{Challenge, Hello, Ready, Refusal, RoundFrame, Sample};

use rsoracle_proof::bytes::{Put, Take};
use rsoracle_proof::reason::Reject;
use rsoracle_proof::record::Observation;

/// First bytes of every control frame and of the data channel's preamble.
pub const MAGIC: [u8; 4] = *b"RSOR";
/// Version of the protocol.
pub const VERSION: u8 = 1;
/// Bytes of a frame's head.
pub const HEAD_BYTES: usize = 8;
/// Bytes of the largest control frame.
pub const CONTROL_BYTES_MAX: usize = Hello::BYTES;

/// The kind of a frame, from its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// [`Challenge`]
    Challenge = 1,
    /// [`Hello`]
    Hello = 2,
    /// [`Ready`]
    Ready = 3,
    /// [`RoundFrame`]
    Round = 4,
    /// [`Sample`]
    Sample = 5,
    /// [`Refusal`]
    Refusal = 6,
    /// [`Preamble`], on the data channel only
    Preamble = 7,
}

impl FrameKind {
    /// Parses a head: magic, version, kind, two zero bytes.
    pub fn decode(head: &[u8; HEAD_BYTES]) -> Result<FrameKind, Reject> {
        if head[..4] != MAGIC {
            return Err(Reject::Magic);
        }
        if head[4] != VERSION {
            return Err(Reject::Version);
        }
        if head[6..] != [0, 0] {
            return Err(Reject::Reserved);
        }
        use FrameKind::*;
        [Challenge, Hello, Ready, Round, Sample, Refusal, Preamble]
            .into_iter()
            .find(|kind| *kind as u8 == head[5])
            .ok_or(Reject::Kind)
    }

    /// Bytes of the whole frame, head included.
    pub fn bytes(self) -> usize {
        match self {
            FrameKind::Challenge => Challenge::BYTES,
            FrameKind::Hello => Hello::BYTES,
            FrameKind::Ready => Ready::BYTES,
            FrameKind::Round => RoundFrame::BYTES,
            FrameKind::Sample => Sample::BYTES,
            FrameKind::Refusal => Refusal::BYTES,
            FrameKind::Preamble => Preamble::BYTES,
        }
    }
}

/// Begins a frame: writes its head.
fn head<const N: usize>(kind: FrameKind) -> Put<N> {
    Put::new().put(&MAGIC).put(&[VERSION, kind as u8, 0, 0])
}

/// Checks that the head is of `kind`, and returns the fields after it.
fn after_head(bytes: &[u8], kind: FrameKind) -> Result<Take<'_>, Reject> {
    let mut take = Take::all(bytes);
    if FrameKind::decode(&take.array())? != kind {
        return Err(Reject::Kind);
    }
    Ok(take)
}

const _: () = assert!(
    Challenge::BYTES == 40 && Hello::BYTES == 152 && Ready::BYTES == 24 && RoundFrame::BYTES == 128
);
const _: () = assert!(
    Sample::BYTES == 48
        && Refusal::BYTES == 16
        && Preamble::BYTES == 48
        && Observation::BYTES == 80
);
const _: () = assert!(CONTROL_BYTES_MAX >= RoundFrame::BYTES && CONTROL_BYTES_MAX >= Sample::BYTES);

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

#[cfg(test)]
mod tests {
    use super::*;
    use rsoracle_proof::bytes::padded;
    use rsoracle_proof::reason::{Abstention, Miss};
    use rsoracle_proof::record::{Answer, Record};

    fn price_sample() -> Sample {
        let record = Record {
            index: 7,
            price: Ok(87231.42),
            lateness_us: Some(3),
            age_us: None,
        };
        Sample {
            start_us: 1_790_000_000_000_000,
            record,
        }
    }

    /// Decodes every single-bit flip. Each is refused, or decodes to a value that encodes to exactly those bytes.
    fn flips<const N: usize, T>(
        good: [u8; N],
        decode: impl Fn(&[u8; N]) -> Result<T, Reject>,
        encode: impl Fn(&T) -> [u8; N],
    ) {
        assert!(decode(&good).is_ok_and(|value| encode(&value) == good));
        for bit in 0..N * 8 {
            let mut bytes = good;
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(value) = decode(&bytes) {
                assert_eq!(encode(&value), bytes, "bit {bit}");
            }
        }
    }

    #[test]
    fn every_frame_round_trips_and_no_bit_is_ignored() {
        flips(
            Challenge { nonce: [7; 32] }.encode(),
            Challenge::decode,
            Challenge::encode,
        );
        let hello = Hello {
            slot: 3,
            key: [1; 32],
            source: padded("embedded:BTCUSDT"),
            clock_us: 5,
            signature: [9; 64],
        };
        flips(hello.encode(), Hello::decode, Hello::encode);
        flips(
            Ready {
                clock_us: 5,
                price: 87231.42,
            }
            .encode(),
            Ready::decode,
            Ready::encode,
        );
        let round = RoundFrame {
            start_us: 1,
            interval_us: 2,
            samples: 3,
            terms_digest: [4; 32],
            signature: [5; 64],
        };
        flips(round.encode(), RoundFrame::decode, RoundFrame::encode);
        flips(price_sample().encode(), Sample::decode, Sample::encode);
        let miss = Record {
            index: 1,
            price: Err(Miss::NoReply),
            lateness_us: Some(9),
            age_us: None,
        };
        flips(miss.encode(), Record::decode, Record::encode);
        flips(
            Refusal {
                reason: Reject::HelloLate,
            }
            .encode(),
            Refusal::decode,
            Refusal::encode,
        );
        flips(
            Preamble {
                slot: 3,
                key: [1; 32],
            }
            .encode(),
            Preamble::decode,
            Preamble::encode,
        );
        for answer in [
            Answer::Price(87231.42),
            Answer::Abstain(Abstention::ClockMoved),
        ] {
            let observation = Observation {
                answer,
                timestamp_us: 6,
                signature: [8; 64],
            };
            flips(
                observation.encode(),
                Observation::decode,
                Observation::encode,
            );
        }
    }

    #[test]
    fn a_head_is_refused_by_the_first_broken_rule() {
        let good = Challenge { nonce: [0; 32] }.encode();
        for (at, reason) in [
            (0, Reject::Magic),
            (4, Reject::Version),
            (5, Reject::Kind),
            (6, Reject::Reserved),
            (7, Reject::Reserved),
        ] {
            let mut bytes = good;
            bytes[at] ^= 0x80;
            assert_eq!(Challenge::decode(&bytes), Err(reason), "byte {at}");
        }
        let mut other = Refusal {
            reason: Reject::Magic,
        }
        .encode();
        assert_eq!(
            FrameKind::decode(&other[..8].try_into().unwrap()).map(FrameKind::bytes),
            Ok(Refusal::BYTES)
        );
        other[15] = 1;
        assert_eq!(Refusal::decode(&other), Err(Reject::Reserved));
        other[9] = 0;
        assert_eq!(
            Refusal::decode(&other),
            Err(Reject::Kind),
            "an unknown reason"
        );
    }
}
