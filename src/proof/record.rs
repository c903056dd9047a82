//! Sample records and observations: what collectors sign.
//!
//! Invariant: two that differ have different bytes. Signatures are carried, not checked.

use crate::bytes::Put;
use crate::limits::TIME_US_MAX;
use crate::price::is_price;
use crate::reason::{Abstention, Miss};

/// Bytes of a sample record, on the wire and in the digest.
pub const RECORD_BYTES: usize = 32;
/// The number of microseconds that means "unknown" or "never".
pub(crate) const NONE_US: u64 = u64::MAX;

/// A quiet NaN whose low 16 bits are an [`Abstention`].
const ABSTENTION_BITS: u64 = 0x7ff8_0000_0000_0000;

/// One sample: the price at a scheduled instant, or why there is none.
///
/// Layout: index 4, reason 2 (0: there is a price), zero 2, price 8 (bits of the f64; 0 without one), lateness 8, age 8.
/// Lateness and age are microseconds. They are all ones if the sample was never requested, or the exchange gives no time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record {
    /// Number of the sample, from 0.
    pub index: u32,
    /// The price, or why there is none.
    pub price: Result<f64, Miss>,
    /// Microseconds from the scheduled instant until the request was passed to the system; None if it was never requested.
    pub lateness_us: Option<u64>,
    /// Age of the price in microseconds; None if the exchange gives no time.
    pub age_us: Option<u64>,
}

impl Record {
    /// The record as bytes, for the wire and the digest.
    pub fn encode(&self) -> [u8; RECORD_BYTES] {
        let (reason, bits) = match self.price {
            Ok(price) => (0, price.to_bits()),
            Err(miss) => (miss.code(), 0),
        };
        Put::new()
            .put(&self.index.to_be_bytes())
            .put(&reason.to_be_bytes())
            .put(&[0; 2])
            .put(&bits.to_be_bytes())
            .put(&self.lateness_us.unwrap_or(NONE_US).to_be_bytes())
            .put(&self.age_us.unwrap_or(NONE_US).to_be_bytes())
            .done()
    }

    /// Whether its fields agree with each other, so that its encoding can be decoded.
    pub(crate) fn is_sound(&self) -> bool {
        let exact = |us: Option<u64>| us.is_none_or(|us| us <= TIME_US_MAX);
        exact(self.lateness_us)
            && exact(self.age_us)
            && match self.price {
                Ok(price) => is_price(price) && self.lateness_us.is_some(),
                Err(_) => self.age_us.is_none(),
            }
    }
}

/// A collector's answer to a round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answer {
    /// The average of its samples.
    Price(f64),
    /// Why there is no average.
    Abstain(Abstention),
}

impl Answer {
    /// The 64 bits of the average's field: the price, or a NaN that encodes the abstention.
    pub fn to_bits(self) -> u64 {
        match self {
            Answer::Price(price) => price.to_bits(),
            Answer::Abstain(why) => ABSTENTION_BITS | u64::from(why.code()),
        }
    }
}

/// One collector's signed answer for one round. The signature covers [`crate::seal::observation_bytes`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// The average or an abstention.
    pub answer: Answer,
    /// When the newest valid sample was requested, microseconds since the Unix epoch; for an abstention, the round's start.
    pub timestamp_us: u64,
    /// The collector's signature.
    pub signature: [u8; 64],
}

impl Observation {
    /// Bytes of an observation.
    pub const BYTES: usize = 80;

    /// The observation as bytes.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        Put::new()
            .put(&self.answer.to_bits().to_be_bytes())
            .put(&self.timestamp_us.to_be_bytes())
            .put(&self.signature)
            .done()
    }
}

/// An observation with the digest of the samples that its signature covers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SignedAnswer {
    /// [`crate::seal::samples_digest`] of its samples.
    pub samples_digest: [u8; 32],
    /// The answer and its signature.
    pub observation: Observation,
}

impl SignedAnswer {
    /// Whether both say the same; their signatures may differ. A key that signs two that do not, for one round, lies.
    pub fn says_the_same_as(&self, other: &SignedAnswer) -> bool {
        let said = |signed: &SignedAnswer| {
            let observation = signed.observation;
            (
                signed.samples_digest,
                observation.answer.to_bits(),
                observation.timestamp_us,
            )
        };
        said(self) == said(other)
    }
}
