//! Frames of the control channel, and the sample record that one of them carries.

use super::{HEAD_BYTES, Kind, Put, Take};
use crate::price::is_price;
use crate::reason::{Miss, Reject};

/// Bytes of a sample record, on the wire and under the digest.
pub const RECORD_BYTES: usize = 32;
/// Times in a record are below this, so that every reader of JSON can hold them (2^53 microseconds are 285 years).
const RECORD_US_MAX: u64 = 1 << 53;
/// Stands for "unknown" or "never" in a number of microseconds.
const NONE_US: u64 = u64::MAX;

/// Aggregator to collector, first: prove yourself over this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Fresh and random per connection.
    pub nonce: [u8; 32],
}

impl Challenge {
    /// Width on the wire.
    pub const BYTES: usize = HEAD_BYTES + 32;

    /// To the wire.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        Put::head(Kind::Challenge).put(&self.nonce).done()
    }

    /// From the wire.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Result<Challenge, Reject> {
        let mut take = Take::after_head(bytes, Kind::Challenge)?;
        Ok(Challenge {
            nonce: take.array(),
        })
    }
}

/// Collector to aggregator: who I am, proved by [`crate::seal::hello_bytes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Index in the roster.
    pub slot: u16,
    /// The collector's public key.
    pub key: [u8; 32],
    /// The source's name, NUL-padded.
    pub source: [u8; 32],
    /// The collector's clock, microseconds since the Unix epoch.
    pub clock_us: u64,
    /// Over context, nonce, enrolment secret and the fields above.
    pub signature: [u8; 64],
}

impl Hello {
    /// Width on the wire.
    pub const BYTES: usize = HEAD_BYTES + 2 + 6 + 32 + 32 + 8 + 64;

    /// To the wire.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        Put::head(Kind::Hello)
            .put(&self.slot.to_be_bytes())
            .put(&[0; 6])
            .put(&self.key)
            .put(&self.source)
            .put(&self.clock_us.to_be_bytes())
            .put(&self.signature)
            .done()
    }

    /// From the wire.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Result<Hello, Reject> {
        let mut take = Take::after_head(bytes, Kind::Hello)?;
        let slot = take.u16();
        take.zeros::<6>()?;
        Ok(Hello {
            slot,
            key: take.array(),
            source: take.array(),
            clock_us: take.u64(),
            signature: take.array(),
        })
    }
}

/// Collector to aggregator: the exchange answers, this was its first price.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ready {
    /// The collector's clock, microseconds since the Unix epoch.
    pub clock_us: u64,
    /// A price, for the eye only.
    pub price: f64,
}

impl Ready {
    /// Width on the wire.
    pub const BYTES: usize = HEAD_BYTES + 8 + 8;

    /// To the wire.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        Put::head(Kind::Ready)
            .put(&self.clock_us.to_be_bytes())
            .put(&self.price.to_be_bytes())
            .done()
    }

    /// From the wire.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Result<Ready, Reject> {
        let mut take = Take::after_head(bytes, Kind::Ready)?;
        let (clock_us, price) = (take.u64(), f64::from_bits(take.u64()));
        if is_price(price) {
            Ok(Ready { clock_us, price })
        } else {
            Err(Reject::Average)
        }
    }
}

/// Aggregator to collector: sample then, proved by [`crate::seal::round_bytes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// Instant of sample 0, microseconds since the Unix epoch; the round's identity.
    pub start_us: u64,
    /// From one sample to the next.
    pub interval_us: u64,
    /// How many samples.
    pub samples: u32,
    /// What the round is held to.
    pub terms_digest: [u8; 32],
    /// The aggregator's, over context, nonce, hello signature and the fields above.
    pub signature: [u8; 64],
}

impl Round {
    /// Width on the wire.
    pub const BYTES: usize = HEAD_BYTES + 8 + 8 + 4 + 4 + 32 + 64;

    /// To the wire.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        Put::head(Kind::Round)
            .put(&self.start_us.to_be_bytes())
            .put(&self.interval_us.to_be_bytes())
            .put(&self.samples.to_be_bytes())
            .put(&[0; 4])
            .put(&self.terms_digest)
            .put(&self.signature)
            .done()
    }

    /// From the wire.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Result<Round, Reject> {
        let mut take = Take::after_head(bytes, Kind::Round)?;
        let (start_us, interval_us, samples) = (take.u64(), take.u64(), take.u32());
        take.zeros::<4>()?;
        Ok(Round {
            start_us,
            interval_us,
            samples,
            terms_digest: take.array(),
            signature: take.array(),
        })
    }
}

/// One price asked for at one scheduled instant, or why there is none.
///
/// Record: index 4, reason 2 (0: there is a price), zero 2, price 8 (bits of the f64; 0 without one), lateness 8, age 8.
/// Lateness and age are microseconds, all ones where the sample was never asked for or the exchange gives no time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record {
    /// Number of the sample, from 0.
    pub index: u32,
    /// The price, or why there is none.
    pub price: Result<f64, Miss>,
    /// From the scheduled instant to the moment when the request had been handed to the system.
    pub lateness_us: Option<u64>,
    /// How old the price was, where the exchange says.
    pub age_us: Option<u64>,
}

impl Record {
    /// To the wire, and under the digest.
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

    /// From the wire.
    pub fn decode(bytes: &[u8; RECORD_BYTES]) -> Result<Record, Reject> {
        let mut take = Take(bytes);
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

    /// Whether it contradicts itself nowhere, so that its encoding can be decoded.
    pub fn is_sound(&self) -> bool {
        let exact = |us: Option<u64>| us.is_none_or(|us| us < RECORD_US_MAX);
        exact(self.lateness_us)
            && exact(self.age_us)
            && match self.price {
                Ok(price) => is_price(price) && self.lateness_us.is_some(),
                Err(_) => self.age_us.is_none(),
            }
    }
}

/// Collector to aggregator: one sample, as it is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Start of the round that it belongs to.
    pub start_us: u64,
    /// The sample.
    pub record: Record,
}

impl Sample {
    /// Width on the wire.
    pub const BYTES: usize = HEAD_BYTES + 8 + RECORD_BYTES;

    /// To the wire.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        Put::head(Kind::Sample)
            .put(&self.start_us.to_be_bytes())
            .put(&self.record.encode())
            .done()
    }

    /// From the wire.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Result<Sample, Reject> {
        let mut take = Take::after_head(bytes, Kind::Sample)?;
        Ok(Sample {
            start_us: take.u64(),
            record: Record::decode(&take.array())?,
        })
    }
}

/// Either way, before closing: why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub reason: Reject,
}

impl Refusal {
    /// Width on the wire.
    pub const BYTES: usize = HEAD_BYTES + 2 + 6;

    /// To the wire.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        Put::head(Kind::Refusal)
            .put(&self.reason.code().to_be_bytes())
            .put(&[0; 6])
            .done()
    }

    /// From the wire.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Result<Refusal, Reject> {
        let mut take = Take::after_head(bytes, Kind::Refusal)?;
        let reason = Reject::from_code(take.u16()).ok_or(Reject::Kind)?;
        take.zeros::<6>()?;
        Ok(Refusal { reason })
    }
}
