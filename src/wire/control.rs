//! Frames of the control channel.

use super::{FrameKind, HEAD_BYTES, after_head, head};
use rsoracle_proof::price::is_price;
use rsoracle_proof::reason::Reject;
use rsoracle_proof::record::{RECORD_BYTES, Record};

/// Aggregator to collector, first on the connection: the nonce that the hello must sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Random, new for every connection.
    pub nonce: [u8; 32],
}

impl Challenge {
    /// Bytes of the frame.
    pub const BYTES: usize = HEAD_BYTES + 32;

    /// The frame as bytes.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        head(FrameKind::Challenge).put(&self.nonce).done()
    }

    /// Parses the frame.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Result<Challenge, Reject> {
        let mut take = after_head(bytes, FrameKind::Challenge)?;
        Ok(Challenge {
            nonce: take.array(),
        })
    }
}

/// Collector to aggregator: its identity, with a signature over [`crate::keys::secret::hello_bytes`].
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
    /// The collector's signature over context, nonce, enrolment secret and the fields above.
    pub signature: [u8; 64],
}

impl Hello {
    /// Bytes of the frame.
    pub const BYTES: usize = HEAD_BYTES + 2 + 6 + 32 + 32 + 8 + 64;

    /// The frame as bytes.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        head(FrameKind::Hello)
            .put(&self.slot.to_be_bytes())
            .put(&[0; 6])
            .put(&self.key)
            .put(&self.source)
            .put(&self.clock_us.to_be_bytes())
            .put(&self.signature)
            .done()
    }

    /// Parses the frame.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Result<Hello, Reject> {
        let mut take = after_head(bytes, FrameKind::Hello)?;
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

/// Collector to aggregator: the exchange answers, with its first price.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ready {
    /// The collector's clock, microseconds since the Unix epoch.
    pub clock_us: u64,
    /// The first price; only displayed.
    pub price: f64,
}

impl Ready {
    /// Bytes of the frame.
    pub const BYTES: usize = HEAD_BYTES + 8 + 8;

    /// The frame as bytes.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        head(FrameKind::Ready)
            .put(&self.clock_us.to_be_bytes())
            .put(&self.price.to_be_bytes())
            .done()
    }

    /// Parses the frame.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Result<Ready, Reject> {
        let mut take = after_head(bytes, FrameKind::Ready)?;
        let (clock_us, price) = (take.u64(), f64::from_bits(take.u64()));
        if is_price(price) {
            Ok(Ready { clock_us, price })
        } else {
            Err(Reject::Average)
        }
    }
}

/// Aggregator to collector: announces a round, with a signature over [`crate::keys::secret::round_bytes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundFrame {
    /// Instant of sample 0, microseconds since the Unix epoch. It identifies the round.
    pub start_us: u64,
    /// Microseconds from one sample to the next.
    pub interval_us: u64,
    /// Number of samples.
    pub samples: u32,
    /// Digest of the round's terms.
    pub terms_digest: [u8; 32],
    /// The aggregator's signature over context, nonce, hello signature and the fields above.
    pub signature: [u8; 64],
}

impl RoundFrame {
    /// Bytes of the frame.
    pub const BYTES: usize = HEAD_BYTES + 8 + 8 + 4 + 4 + 32 + 64;

    /// The frame as bytes.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        head(FrameKind::Round)
            .put(&self.start_us.to_be_bytes())
            .put(&self.interval_us.to_be_bytes())
            .put(&self.samples.to_be_bytes())
            .put(&[0; 4])
            .put(&self.terms_digest)
            .put(&self.signature)
            .done()
    }

    /// Parses the frame.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Result<RoundFrame, Reject> {
        let mut take = after_head(bytes, FrameKind::Round)?;
        let (start_us, interval_us, samples) = (take.u64(), take.u64(), take.u32());
        take.zeros::<4>()?;
        Ok(RoundFrame {
            start_us,
            interval_us,
            samples,
            terms_digest: take.array(),
            signature: take.array(),
        })
    }
}

/// Collector to aggregator: one sample, sent as soon as it is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Start of the round that it belongs to.
    pub start_us: u64,
    /// The sample.
    pub record: Record,
}

impl Sample {
    /// Bytes of the frame.
    pub const BYTES: usize = HEAD_BYTES + 8 + RECORD_BYTES;

    /// The frame as bytes.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        head(FrameKind::Sample)
            .put(&self.start_us.to_be_bytes())
            .put(&self.record.encode())
            .done()
    }

    /// Parses the frame.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Result<Sample, Reject> {
        let mut take = after_head(bytes, FrameKind::Sample)?;
        Ok(Sample {
            start_us: take.u64(),
            record: Record::decode(&take.array())?,
        })
    }
}

/// Either direction, before closing the connection: the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub reason: Reject,
}

impl Refusal {
    /// Bytes of the frame.
    pub const BYTES: usize = HEAD_BYTES + 2 + 6;

    /// The frame as bytes.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        head(FrameKind::Refusal)
            .put(&self.reason.code().to_be_bytes())
            .put(&[0; 6])
            .done()
    }

    /// Parses the frame.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Result<Refusal, Reject> {
        let mut take = after_head(bytes, FrameKind::Refusal)?;
        let reason = Reject::from_code(take.u16()).ok_or(Reject::Kind)?;
        take.zeros::<6>()?;
        Ok(Refusal { reason })
    }
}
