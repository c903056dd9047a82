//! What the data channel carries: a preamble, then observations.

use super::{HEAD_BYTES, Kind, Put, Take};
use crate::price::is_price;
use crate::reason::{Abstention, Reject};

/// A quiet NaN whose low 16 bits are an [`Abstention`].
const ABSTENTION_BITS: u64 = 0x7ff8_0000_0000_0000;

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
        Put::head(Kind::Preamble)
            .put(&self.slot.to_be_bytes())
            .put(&[0; 6])
            .put(&self.key)
            .done()
    }

    /// From the wire.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Result<Preamble, Reject> {
        let mut take = Take::after_head(bytes, Kind::Preamble)?;
        let slot = take.u16();
        take.zeros::<6>()?;
        Ok(Preamble {
            slot,
            key: take.array(),
        })
    }
}

/// What a collector answers to a round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answer {
    /// The average of its samples.
    Price(f64),
    /// No average, and why.
    Abstain(Abstention),
}

impl Answer {
    /// The bits that stand in the average's place.
    pub fn to_bits(self) -> u64 {
        match self {
            Answer::Price(price) => price.to_bits(),
            Answer::Abstain(why) => ABSTENTION_BITS | u64::from(why.code()),
        }
    }

    /// Reads the bits, as bits: an abstention becomes an enum before any arithmetic could touch it.
    pub fn from_bits(bits: u64) -> Result<Answer, Reject> {
        if let Some(why) = Abstention::ALL
            .iter()
            .find(|why| ABSTENTION_BITS | u64::from(why.code()) == bits)
        {
            return Ok(Answer::Abstain(*why));
        }
        let price = f64::from_bits(bits);
        if is_price(price) {
            Ok(Answer::Price(price))
        } else {
            Err(Reject::Average)
        }
    }
}

/// One collector's signed answer for one round. The signature covers [`crate::seal::observation_bytes`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// The average or an abstention.
    pub answer: Answer,
    /// When the newest valid sample was asked for, microseconds since the Unix epoch; the round's start with an abstention.
    pub timestamp_us: u64,
    /// The collector's.
    pub signature: [u8; 64],
}

impl Observation {
    /// Width on the wire.
    pub const BYTES: usize = 80;

    /// To the wire.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        Put::new()
            .put(&self.answer.to_bits().to_be_bytes())
            .put(&self.timestamp_us.to_be_bytes())
            .put(&self.signature)
            .done()
    }

    /// Whether both are the same answer, whatever their signatures.
    pub fn says_the_same_as(&self, other: &Observation) -> bool {
        (self.answer.to_bits(), self.timestamp_us) == (other.answer.to_bits(), other.timestamp_us)
    }

    /// From the wire.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Result<Observation, Reject> {
        let mut take = Take(bytes);
        Ok(Observation {
            answer: Answer::from_bits(take.u64())?,
            timestamp_us: take.u64(),
            signature: take.array(),
        })
    }
}
