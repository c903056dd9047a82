//! The frames of the control and data channels, and the messages of the tether: fixed widths, big-endian, reserved bytes zero.
//!
//! | control frame | bytes | layout after the 8-byte head (magic `RSOR`, version, kind, two zero bytes) |
//! |---|---|---|
//! | 1 challenge | 40 | nonce 32 |
//! | 2 hello | 112 | public key 32, clock 8, signature 64 |
//! | 3 ready | 56 | terms digest 32, slot 2, zero 6, first price 8 |
//! | 4 sample | 56 | tag 8, round start 8, sample record 32 |
//! | 5 ping | 16 | clock 8 |
//! | 6 pong | 24 | the ping's clock 8, own clock 8 |
//! | 7 refusal | 16 | reason 2, zero 6 |
//!
//! | data channel | bytes | layout |
//! |---|---|---|
//! | preamble | 40 | head (kind 8), public key 32 |
//! | data frame | 96 | tag 8, round start 8, observation 80 (average 8, timestamp 8, signature 64) |
//!
//! Invariant: `decode` inverts `encode`, and every byte string that `decode` accepts is one that `encode` makes. Signatures are
//! carried, not checked.
//!
//! Uses: proof. Used by: aggregator, collector.

mod control;
mod data;
pub mod handed;
pub mod terms;
pub mod tether;

pub use control::{Challenge, Hello, Ping, Pong, Ready, Refusal, Sample};
pub use data::{DataFrame, Preamble};

use rsoracle_proof::bytes::Put;
use rsoracle_proof::decode::Take;
use rsoracle_proof::reason::Reject;

/// First bytes of every control frame and of the data channel's preamble.
pub const MAGIC: [u8; 4] = *b"RSOR";
/// Version of the protocol.
pub const VERSION: u8 = 2;
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
    /// [`Sample`]
    Sample = 4,
    /// [`Ping`]
    Ping = 5,
    /// [`Pong`]
    Pong = 6,
    /// [`Refusal`]
    Refusal = 7,
    /// [`Preamble`], on the data channel only
    Preamble = 8,
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
        [
            Challenge, Hello, Ready, Sample, Ping, Pong, Refusal, Preamble,
        ]
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
            FrameKind::Sample => Sample::BYTES,
            FrameKind::Ping => Ping::BYTES,
            FrameKind::Pong => Pong::BYTES,
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
    Challenge::BYTES == 40 && Hello::BYTES == 112 && Ready::BYTES == 56 && Sample::BYTES == 56
);
const _: () = assert!(Hello::SIGNED_BYTES == 136);
const _: () = assert!(Ping::BYTES == 16 && Pong::BYTES == 24 && Refusal::BYTES == 16);
const _: () = assert!(Preamble::BYTES == 40 && DataFrame::BYTES == 96);
const _: () = assert!(CONTROL_BYTES_MAX >= Ready::BYTES && CONTROL_BYTES_MAX >= Sample::BYTES);

#[cfg(test)]
mod tests {
    use super::*;
    use rsoracle_proof::reason::{Abstention, Miss};
    use rsoracle_proof::record::{Answer, Observation, Record};
    use rsoracle_proof::seal::CONTEXTS;

    fn price_sample() -> Sample {
        let record = Record {
            index: 7,
            price: Ok(87231.42),
            lateness_us: Some(3),
            age_us: None,
        };
        Sample {
            tag: [6; 8],
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
            key: [1; 32],
            clock_us: 5,
            signature: [9; 64],
        };
        flips(hello.encode(), Hello::decode, Hello::encode);
        let ready = Ready {
            terms_digest: [4; 32],
            slot: 3,
            price: 87231.42,
        };
        flips(ready.encode(), Ready::decode, Ready::encode);
        flips(Ping { clock_us: 5 }.encode(), Ping::decode, Ping::encode);
        let pong = Pong {
            echo_us: 5,
            clock_us: 6,
        };
        flips(pong.encode(), Pong::decode, Pong::encode);
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
            Preamble { key: [1; 32] }.encode(),
            Preamble::decode,
            Preamble::encode,
        );
        let frame = DataFrame {
            tag: [6; 8],
            start_us: 7,
            observation: [8; 80],
        };
        flips(
            frame.encode(),
            |bytes| Ok(DataFrame::decode(bytes)),
            DataFrame::encode,
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

    #[test]
    fn the_context_of_a_hello_is_no_other_ones() {
        let own = control::CONTEXT_HELLO;
        assert!(own.len() < 32 && !CONTEXTS.contains(&own));
    }
}
