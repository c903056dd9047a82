//! The wire: every frame of the control and data channels, at fixed widths, big-endian, reserved bytes zero.
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
//! Invariant: `decode` of an `encode` gives the same value, and every other byte string of that width is refused or is
//! itself such an `encode`. What this module does not do: sockets, and signatures beyond carrying their bytes.

use crate::price::is_price;
use crate::reason::{Abstention, Miss, Reject};

/// First bytes of every control frame and of the data channel's preamble.
pub const MAGIC: [u8; 4] = *b"RSOR";
/// Version of the protocol.
pub const VERSION: u8 = 1;
/// Bytes of a frame's head.
pub const HEAD_BYTES: usize = 8;
/// Bytes of the largest control frame.
pub const CONTROL_BYTES_MAX: usize = Hello::BYTES;
/// Bytes of a sample record, on the wire and under the digest.
pub const RECORD_BYTES: usize = 32;
/// Stands for "unknown" or "never" in a number of microseconds.
const NONE_US: u64 = u64::MAX;
/// A quiet NaN whose low 16 bits are an [`Abstention`].
const ABSTENTION_BITS: u64 = 0x7ff8_0000_0000_0000;

/// What a head announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// [`Challenge`]
    Challenge = 1,
    /// [`Hello`]
    Hello = 2,
    /// [`Ready`]
    Ready = 3,
    /// [`Round`]
    Round = 4,
    /// [`Sample`]
    Sample = 5,
    /// [`Refusal`]
    Refusal = 6,
    /// [`Preamble`], on the data channel only
    Preamble = 7,
}

impl Kind {
    /// Reads a head: magic, version, kind, two zero bytes.
    pub fn decode(head: &[u8; HEAD_BYTES]) -> Result<Kind, Reject> {
        if head[..4] != MAGIC {
            return Err(Reject::Magic);
        }
        if head[4] != VERSION {
            return Err(Reject::Version);
        }
        if head[6..] != [0, 0] {
            return Err(Reject::Reserved);
        }
        use Kind::*;
        [Challenge, Hello, Ready, Round, Sample, Refusal, Preamble]
            .into_iter()
            .find(|kind| *kind as u8 == head[5])
            .ok_or(Reject::Kind)
    }

    /// Bytes of the whole frame, head included.
    pub fn bytes(self) -> usize {
        match self {
            Kind::Challenge => Challenge::BYTES,
            Kind::Hello => Hello::BYTES,
            Kind::Ready => Ready::BYTES,
            Kind::Round => Round::BYTES,
            Kind::Sample => Sample::BYTES,
            Kind::Refusal => Refusal::BYTES,
            Kind::Preamble => Preamble::BYTES,
        }
    }
}

/// Writes fields one after the other into exactly `N` bytes.
pub struct Put<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Put<N> {
    /// Nothing written yet.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Put<N> {
        Put {
            bytes: [0; N],
            at: 0,
        }
    }

    fn head(kind: Kind) -> Put<N> {
        Put::new().put(&MAGIC).put(&[VERSION, kind as u8, 0, 0])
    }

    /// Appends the bytes of one field.
    pub fn put(mut self, field: &[u8]) -> Put<N> {
        self.bytes[self.at..self.at + field.len()].copy_from_slice(field);
        self.at += field.len();
        self
    }

    /// The bytes, all of them written.
    pub fn done(self) -> [u8; N] {
        assert_eq!(self.at, N, "the fields fill the frame");
        self.bytes
    }
}

/// Reads fields one after the other from a frame of known width.
struct Take<'a>(&'a [u8]);

impl<'a> Take<'a> {
    /// The fields after the head, once the head is that of `kind`.
    fn after_head(bytes: &'a [u8], kind: Kind) -> Result<Take<'a>, Reject> {
        let mut take = Take(bytes);
        if Kind::decode(&take.array())? != kind {
            return Err(Reject::Kind);
        }
        Ok(take)
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self
            .0
            .split_first_chunk()
            .expect("a frame is as wide as its fields");
        self.0 = rest;
        *field
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }

    fn zeros<const N: usize>(&mut self) -> Result<(), Reject> {
        if self.array() == [0u8; N] {
            Ok(())
        } else {
            Err(Reject::Reserved)
        }
    }
}

/// Text at a fixed width, NUL-padded, so that no two field lists share bytes.
pub fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [0; N];
    field[..text.len()].copy_from_slice(text.as_bytes());
    field
}

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
        let sound = match price {
            Ok(price) => is_price(price) && lateness_us.is_some(),
            Err(_) => bits == 0 && age_us.is_none(),
        };
        if sound {
            Ok(Record {
                index,
                price,
                lateness_us,
                age_us,
            })
        } else {
            Err(Reject::SampleBroken)
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

const _: () = assert!(
    Challenge::BYTES == 40 && Hello::BYTES == 152 && Ready::BYTES == 24 && Round::BYTES == 128
);
const _: () = assert!(
    Sample::BYTES == 48
        && Refusal::BYTES == 16
        && Preamble::BYTES == 48
        && Observation::BYTES == 80
);
const _: () = assert!(CONTROL_BYTES_MAX >= Round::BYTES && CONTROL_BYTES_MAX >= Sample::BYTES);

#[cfg(test)]
mod tests {
    use super::*;

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

    /// Decodes every single-bit flip: each is refused, or decodes to something that encodes to just those bytes.
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
    fn every_frame_comes_back_and_no_bit_is_ignored() {
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
        let round = Round {
            start_us: 1,
            interval_us: 2,
            samples: 3,
            terms_digest: [4; 32],
            signature: [5; 64],
        };
        flips(round.encode(), Round::decode, Round::encode);
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
            Kind::decode(&other[..8].try_into().unwrap()).map(Kind::bytes),
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
    fn a_record_that_contradicts_itself_is_refused() {
        let good = price_sample().record.encode();
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
            "a price that was never asked for"
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
            0x7ff8_0000_0000_0003,
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
