//! Sample records and observations: what collectors sign.
//!
//! Invariant: `decode` inverts `encode`, and every byte string that `decode` accepts is one that `encode` makes. Signatures are
//! carried, not checked.

use crate::bytes::{Put, Take};
use crate::price::is_price;
use crate::reason::{Abstention, Miss, Reject};

/// Bytes of a sample record, on the wire and in the digest.
pub const RECORD_BYTES: usize = 32;
/// Times in a record are below this, so that every JSON reader can represent them (2^53 microseconds are 285 years).
const RECORD_US_MAX: u64 = 1 << 53;
/// The number of microseconds that means "unknown" or "never".
const NONE_US: u64 = u64::MAX;

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

    /// Parses a record.
    pub fn decode(bytes: &[u8; RECORD_BYTES]) -> Result<Record, Reject> {
        let mut take = Take::all(bytes);
        let (index, reason) = (take.u32(), take.u16());
        take.zeros::<2>()?;
        let bits = take.u64();
        let some = |us| if us == NONE_US { None } else { Some(us) };
        let (lateness_us, age_us) = (some(take.u64()), some(take.u64()));
        let price = match reason {
            0 => Ok(f64::from_bits(bits)),
            code => Err(Miss::from_code(code).ok_or(Reject::SampleBroken)?),
        };
        let record = Record {
            index,
            price,
            lateness_us,
            age_us,
        };
        if record.is_sound() && (price.is_ok() || bits == 0) {
            Ok(record)
        } else {
            Err(Reject::SampleBroken)
        }
    }

    /// Whether its fields agree with each other, so that its encoding can be decoded.
    pub(crate) fn is_sound(&self) -> bool {
        let exact = |us: Option<u64>| us.is_none_or(|us| us < RECORD_US_MAX);
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

    /// Parses the bits. An abstention is recognised by its bits, before any arithmetic could use the NaN.
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

    /// Parses an observation.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Result<Observation, Reject> {
        let mut take = Take::all(bytes);
        Ok(Observation {
            answer: Answer::from_bits(take.u64())?,
            timestamp_us: take.u64(),
            signature: take.array(),
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_contradicts_itself_is_refused() {
        let good = Record {
            index: 7,
            price: Ok(87231.42),
            lateness_us: Some(12),
            age_us: Some(3_000),
        };
        let good = good.encode();
        let with = |at: usize, field: &[u8]| {
            let mut bytes = good;
            bytes[at..at + field.len()].copy_from_slice(field);
            Record::decode(&bytes)
        };
        assert!(with(0, &8u32.to_be_bytes()).is_ok());
        assert_eq!(
            with(4, &Miss::NoReply.code().to_be_bytes()),
            Err(Reject::SampleBroken),
            "a reason beside a price"
        );
        assert_eq!(
            with(4, &999u16.to_be_bytes()),
            Err(Reject::SampleBroken),
            "an unknown reason"
        );
        assert_eq!(with(6, &[1]), Err(Reject::Reserved));
        for price in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e16] {
            assert_eq!(
                with(8, &price.to_be_bytes()),
                Err(Reject::SampleBroken),
                "{price}"
            );
        }
        assert_eq!(
            with(16, &[0xff; 8]),
            Err(Reject::SampleBroken),
            "a price that was never requested"
        );
    }

    #[test]
    fn an_average_is_a_price_or_a_listed_abstention_and_nothing_else() {
        assert_eq!(
            Answer::from_bits(0x7ff8_0000_0000_0001),
            Ok(Answer::Abstain(Abstention::TooFewSamples))
        );
        for bits in [
            0x7ff8_0000_0000_0000,
            0x7ff8_0000_0000_0004,
            0xfff8_0000_0000_0001,
            0x7ff0_0000_0000_0001,
            f64::INFINITY.to_bits(),
            0,
            1 << 63,
        ] {
            assert_eq!(Answer::from_bits(bits), Err(Reject::Average), "{bits:016x}");
        }
        assert_eq!(
            Answer::from_bits((-87231.42f64).to_bits()),
            Err(Reject::Average)
        );
    }
}
