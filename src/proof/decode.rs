//! Decodes what arrives on the wire: fields of frames, sample records and observations. A verifier needs none of it, since it
//! reads lines.
//!
//! Invariant: `decode` inverts `encode`, and every byte string that `decode` accepts is one that `encode` makes. Signatures are
//! carried, not checked.

use crate::price::is_price;
use crate::reason::{Abstention, Miss, Reject};
use crate::record::{Answer, NONE_US, Observation, RECORD_BYTES, Record};

/// Reads fields one after the other from a frame of known width.
pub struct Take<'a>(&'a [u8]);

impl<'a> Take<'a> {
    /// Starts at the first byte of a frame.
    pub fn all(bytes: &'a [u8]) -> Take<'a> {
        Take(bytes)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self
            .0
            .split_first_chunk()
            .expect("a frame is as wide as its fields");
        self.0 = rest;
        *field
    }

    /// The next two bytes.
    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    /// The next four bytes.
    pub fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    /// The next eight bytes.
    pub fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }

    /// Checks that the next `N` bytes, which are reserved, are zero.
    pub fn zeros<const N: usize>(&mut self) -> Result<(), Reject> {
        if self.array() == [0u8; N] {
            Ok(())
        } else {
            Err(Reject::Reserved)
        }
    }
}

impl Record {
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
}

impl Answer {
    /// Parses the bits. An abstention is recognised by its bits, before any arithmetic could use the NaN.
    pub fn from_bits(bits: u64) -> Result<Answer, Reject> {
        if let Some(why) = Abstention::from_code(bits as u16)
            && bits == Answer::Abstain(why).to_bits()
        {
            return Ok(Answer::Abstain(why));
        }
        let price = f64::from_bits(bits);
        if is_price(price) {
            Ok(Answer::Price(price))
        } else {
            Err(Reject::Average)
        }
    }
}

impl Observation {
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
