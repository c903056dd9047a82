//! Frames of the control channel.

use super::{FrameKind, HEAD_BYTES, after_head, head};
use rsoracle_proof::bytes::{Put, padded};
use rsoracle_proof::price::is_price;
use rsoracle_proof::reason::Reject;
use rsoracle_proof::record::{RECORD_BYTES, Record};
use rsoracle_proof::seal::PublicKey;

/// The context of a hello's signature.
pub(super) const CONTEXT_HELLO: &str = "rsoracle 2 hello";

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

/// Collector to aggregator: its key, with a signature over [`Hello::signed_bytes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The collector's public key.
    pub key: [u8; 32],
    /// The collector's clock, microseconds since the Unix epoch.
    pub clock_us: u64,
    /// The collector's signature.
    pub signature: [u8; 64],
}

impl Hello {
    /// Bytes of the frame.
    pub const BYTES: usize = HEAD_BYTES + 32 + 8 + 64;
    /// Bytes that its signature covers.
    pub const SIGNED_BYTES: usize = 32 + 32 + 32 + 32 + 8;

    /// What its signature covers: a context that no other kind of signature has, the nonce, the key of the aggregator that the
    /// collector means to speak to (so that the hello is of no use to any other), and the other fields.
    pub fn signed_bytes(
        &self,
        nonce: &[u8; 32],
        aggregator: &PublicKey,
    ) -> [u8; Self::SIGNED_BYTES] {
        Put::new()
            .put(&padded::<32>(CONTEXT_HELLO))
            .put(nonce)
            .put(aggregator.bytes())
            .put(&self.key)
            .put(&self.clock_us.to_be_bytes())
            .done()
    }

    /// The frame as bytes.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        head(FrameKind::Hello)
            .put(&self.key)
            .put(&self.clock_us.to_be_bytes())
            .put(&self.signature)
            .done()
    }

    /// Parses the frame.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Result<Hello, Reject> {
        let mut take = after_head(bytes, FrameKind::Hello)?;
        Ok(Hello {
            key: take.array(),
            clock_us: take.u64(),
            signature: take.array(),
        })
    }
}

/// Collector to aggregator: the exchange answers, with its first price; sent again when the terms change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ready {
    /// Digest of the newest terms that the collector has; zeros if it has none yet.
    pub terms_digest: [u8; 32],
    /// The collector's slot.
    pub slot: u16,
    /// The first price; only displayed.
    pub price: f64,
}

impl Ready {
    /// Bytes of the frame.
    pub const BYTES: usize = HEAD_BYTES + 32 + 2 + 6 + 8;

    /// The frame as bytes.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        head(FrameKind::Ready)
            .put(&self.terms_digest)
            .put(&self.slot.to_be_bytes())
            .put(&[0; 6])
            .put(&self.price.to_be_bytes())
            .done()
    }

    /// Parses the frame.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Result<Ready, Reject> {
        let mut take = after_head(bytes, FrameKind::Ready)?;
        let (terms_digest, slot) = (take.array(), take.u16());
        take.zeros::<6>()?;
        let price = f64::from_bits(take.u64());
        if !is_price(price) {
            return Err(Reject::Average);
        }
        Ok(Ready {
            terms_digest,
            slot,
            price,
        })
    }
}

/// Collector to aggregator: one sample, sent as soon as it is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// The tag of the terms.
    pub tag: [u8; 8],
    /// Start of the round that it belongs to.
    pub start_us: u64,
    /// The sample.
    pub record: Record,
}

impl Sample {
    /// Bytes of the frame.
    pub const BYTES: usize = HEAD_BYTES + 8 + 8 + RECORD_BYTES;

    /// The frame as bytes.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        head(FrameKind::Sample)
            .put(&self.tag)
            .put(&self.start_us.to_be_bytes())
            .put(&self.record.encode())
            .done()
    }

    /// Parses the frame.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Result<Sample, Reject> {
        let mut take = after_head(bytes, FrameKind::Sample)?;
        Ok(Sample {
            tag: take.array(),
            start_us: take.u64(),
            record: Record::decode(&take.array())?,
        })
    }
}

/// Aggregator to collector, at once after the hello and then regularly: asks for a pong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping {
    /// The aggregator's clock, microseconds since the Unix epoch.
    pub clock_us: u64,
}

impl Ping {
    /// Bytes of the frame.
    pub const BYTES: usize = HEAD_BYTES + 8;

    /// The frame as bytes.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        head(FrameKind::Ping)
            .put(&self.clock_us.to_be_bytes())
            .done()
    }

    /// Parses the frame.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Result<Ping, Reject> {
        let mut take = after_head(bytes, FrameKind::Ping)?;
        Ok(Ping {
            clock_us: take.u64(),
        })
    }
}

/// Collector to aggregator: the answer to a ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pong {
    /// The ping's clock.
    pub echo_us: u64,
    /// The collector's clock, microseconds since the Unix epoch.
    pub clock_us: u64,
}

impl Pong {
    /// Bytes of the frame.
    pub const BYTES: usize = HEAD_BYTES + 8 + 8;

    /// The frame as bytes.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        head(FrameKind::Pong)
            .put(&self.echo_us.to_be_bytes())
            .put(&self.clock_us.to_be_bytes())
            .done()
    }

    /// Parses the frame.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Result<Pong, Reject> {
        let mut take = after_head(bytes, FrameKind::Pong)?;
        Ok(Pong {
            echo_us: take.u64(),
            clock_us: take.u64(),
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
