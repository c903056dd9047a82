//! Ed25519 signatures with context strings: the exact bytes that are signed, and the public keys that verify them.
//!
//! Invariant: every signed byte string begins with a context that is unique to its kind, and has every field at a fixed width. So
//! no signature over one thing is valid for another. All contexts are here, but for that of the hello (`wire`), and so is
//! [`Fields`], which puts the parts together. Signatures are verified with `verify_strict`, under the key of the slot in question,
//! never under "any known key". Secret keys are not here.

use crate::bytes::{Put, padded};
use crate::record::{Record, SignedAnswer};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use ed25519_dalek::{Digest, Sha512, VerifyingKey};

/// Contexts, each NUL-padded to 32 bytes.
const CONTEXT_OBSERVATION: &str = "rsoracle 2 observation";
const CONTEXT_SAMPLES: &str = "rsoracle 2 samples";
/// Begins the terms, of which a digest is made.
pub const CONTEXT_TERMS: &str = "rsoracle 2 terms";
pub(crate) const CONTEXT_SEAT: &str = "rsoracle 2 seat";
pub(crate) const CONTEXT_ROSTER: &str = "rsoracle 2 roster";
pub(crate) const CONTEXT_REPORT: &str = "rsoracle 2 report";
pub(crate) const CONTEXT_KEY_CHANGE: &str = "rsoracle 2 key change";
pub(crate) const CONTEXT_ROSTER_CHANGE: &str = "rsoracle 2 roster change";
/// All contexts of this crate. Contexts elsewhere must differ from them.
pub const CONTEXTS: [&str; 8] = [
    CONTEXT_OBSERVATION,
    CONTEXT_SAMPLES,
    CONTEXT_TERMS,
    CONTEXT_SEAT,
    CONTEXT_ROSTER,
    CONTEXT_REPORT,
    CONTEXT_KEY_CHANGE,
    CONTEXT_ROSTER_CHANGE,
];

/// Bytes that an observation's signature covers.
pub const OBSERVATION_SIGNED_BYTES: usize = 32 + 32 + 2 + 8 + 32 + 8 + 8;

/// A public key, decoded once, since decoding costs a tenth of verifying a signature. It is never of small order: such a key
/// has signatures that are valid for any message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Decodes a key. `None` if the bytes are not a point, a point of small order, or a non-canonical encoding: a y of
    /// p = 2^255 - 19 or more, which the library accepts and RFC 8032 (5.1.3) forbids.
    pub fn decode(bytes: &[u8; 32]) -> Option<PublicKey> {
        let second_spelling =
            bytes[0] >= 0xed && bytes[1..31].iter().all(|b| *b == 0xff) && bytes[31] & 0x7f == 0x7f;
        VerifyingKey::from_bytes(bytes)
            .ok()
            .filter(|key| !key.is_weak() && !second_spelling)
            .map(PublicKey)
    }

    /// The key's bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Whether it signed this answer, for this slot in the round of these terms that starts then.
    pub(crate) fn answered(
        &self,
        terms_digest: &[u8; 32],
        slot: u16,
        start_us: u64,
        signed: &SignedAnswer,
    ) -> bool {
        let observation = &signed.observation;
        let context = ObservationContext {
            terms_digest,
            slot,
            start_us,
            samples_digest: &signed.samples_digest,
        };
        let bits = observation.answer.to_bits();
        let bytes = observation_bytes(&context, bits, observation.timestamp_us);
        self.signed(&bytes, &observation.signature)
    }

    /// Whether `signature` is a valid signature of this key over `bytes`, by `verify_strict`.
    pub fn signed(&self, bytes: &[u8], signature: &[u8; 64]) -> bool {
        self.0
            .verify_strict(bytes, &ed25519_dalek::Signature::from_bytes(signature))
            .is_ok()
    }
}

/// Everything that an observation's signature covers but its 80 bytes do not contain. The feed, the source and the schedule are in
/// the terms.
#[derive(Clone, Copy)]
pub struct ObservationContext<'a> {
    /// The digest of the round's terms.
    pub terms_digest: &'a [u8; 32],
    /// The collector's slot.
    pub slot: u16,
    /// The round's start, microseconds since the Unix epoch.
    pub start_us: u64,
    /// [`samples_digest`] of all samples.
    pub samples_digest: &'a [u8; 32],
}

/// The bytes that an observation's signature covers.
pub fn observation_bytes(
    context: &ObservationContext,
    average_bits: u64,
    timestamp_us: u64,
) -> [u8; OBSERVATION_SIGNED_BYTES] {
    Put::new()
        .put(&padded::<32>(CONTEXT_OBSERVATION))
        .put(context.terms_digest)
        .put(&context.slot.to_be_bytes())
        .put(&context.start_us.to_be_bytes())
        .put(context.samples_digest)
        .put(&average_bits.to_be_bytes())
        .put(&timestamp_us.to_be_bytes())
        .done()
}

/// What is signed or digested: a context, and fields of fixed width after it. A count precedes repeated fields.
pub struct Fields(Vec<u8>);

impl Fields {
    /// Begins with a context.
    pub fn new(context: &str) -> Fields {
        let mut bytes = Vec::with_capacity(1024);
        bytes.extend_from_slice(&padded::<32>(context));
        Fields(bytes)
    }

    /// Adds one field.
    pub fn field(mut self, bytes: &[u8]) -> Fields {
        self.0.extend_from_slice(bytes);
        self
    }

    /// All bytes, to be signed.
    pub(crate) fn bytes(self) -> Vec<u8> {
        self.0
    }

    /// The first 32 bytes of their SHA-512. All of them are hashed at once, which is faster than field by field.
    pub fn digest(&self) -> [u8; 32] {
        let whole: [u8; 64] = Sha512::digest(&self.0).into();
        *whole.first_chunk().expect("32 of 64 bytes")
    }
}

/// The digest that binds an average to its samples.
pub fn samples_digest(records: &[Record]) -> [u8; 32] {
    let fields = Fields::new(CONTEXT_SAMPLES);
    let field = |fields: Fields, record: &Record| fields.field(&record.encode());
    records.iter().fold(fields, field).digest()
}

/// A cache of decoded keys, since decoding costs a tenth of verifying a signature.
#[derive(Default)]
pub struct Keys(BTreeMap<[u8; 32], PublicKey>);

impl Keys {
    /// Most keys in the cache. When it is full, it is cleared.
    const MAX: usize = 100_000;

    /// [`PublicKey::decode`], cached.
    pub fn decode(&mut self, bytes: &[u8; 32]) -> Option<PublicKey> {
        if let Some(key) = self.0.get(bytes) {
            return Some(*key);
        }
        let key = PublicKey::decode(bytes)?;
        if self.0.len() >= Keys::MAX {
            self.0.clear();
        }
        self.0.insert(*bytes, key);
        Some(key)
    }
}

/// Bytes in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = vec![0; 2 * bytes.len()];
    hex_into(bytes, &mut text);
    String::from_utf8(text).expect("digits are text")
}

/// The same, into a buffer of exactly twice their length. It leaves no other copy, so that it is safe for secrets.
pub fn hex_into(bytes: &[u8], text: &mut [u8]) {
    assert_eq!(text.len(), 2 * bytes.len(), "two digits for each byte");
    let digit = |nibble: u8| nibble + if nibble < 10 { b'0' } else { b'a' - 10 };
    for (byte, pair) in bytes.iter().zip(text.chunks_exact_mut(2)) {
        pair[0] = digit(byte >> 4);
        pair[1] = digit(byte & 15);
    }
}

/// Parses what [`hex`] writes: exactly two lower-case digits for each of the N bytes. None for anything else.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    unhex_into(text.as_bytes(), &mut bytes).then_some(bytes)
}

/// The same, into `bytes`. For anything else it returns false and fills `bytes` with zeros.
pub fn unhex_into(text: &[u8], bytes: &mut [u8]) -> bool {
    // Without branches: it is fast, and its duration does not depend on the digits.
    let nibble = |digit: u8| {
        let (number, letter) = (digit.wrapping_sub(b'0'), digit.wrapping_sub(b'a'));
        let value = if number < 10 {
            number
        } else {
            letter.wrapping_add(10)
        };
        (value, (number < 10) | (letter < 6))
    };
    let mut sound = text.len() == 2 * bytes.len();
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let ((high, first), (low, second)) = (nibble(pair[0]), nibble(pair[1]));
        *byte = (high & 15) << 4 | (low & 15);
        sound &= first & second;
    }
    if !sound {
        bytes.fill(0);
    }
    sound
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;
    use std::prelude::v1::*;

    /// A secret key for tests.
    pub(crate) struct SecretKey(SigningKey);

    impl SecretKey {
        pub(crate) fn from_seed(seed: &[u8; 32]) -> SecretKey {
            SecretKey(SigningKey::from_bytes(seed))
        }

        pub(crate) fn public(&self) -> PublicKey {
            PublicKey(self.0.verifying_key())
        }

        pub(crate) fn sign(&self, bytes: &[u8]) -> [u8; 64] {
            ed25519_dalek::Signer::sign(&self.0, bytes).to_bytes()
        }
    }

    #[test]
    fn a_signature_fits_its_own_bytes_and_key_only() {
        let (a, b) = (
            SecretKey::from_seed(&[1; 32]),
            SecretKey::from_seed(&[2; 32]),
        );
        let signature = a.sign(b"message");
        assert!(a.public().signed(b"message", &signature));
        assert!(!a.public().signed(b"massage", &signature));
        assert!(!b.public().signed(b"message", &signature));
        for bit in 0..512 {
            let mut flipped = signature;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!a.public().signed(b"message", &flipped), "bit {bit}");
        }
    }

    #[test]
    fn a_key_of_small_order_is_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(
            PublicKey::decode(&identity),
            None,
            "one signature of the identity key is valid for any message"
        );
        assert_eq!(PublicKey::decode(&[0; 32]), None);
        assert_eq!(
            PublicKey::decode(&[0xff; 32]),
            None,
            "y = 2^255 - 1 is a non-canonical encoding of y = 18"
        );
    }

    #[test]
    fn hexadecimal_round_trips_and_has_one_spelling() {
        let bytes: [u8; 256] = core::array::from_fn(|i| i as u8);
        assert_eq!(unhex(&hex(&bytes)), Some(bytes));
        assert_eq!(unhex(""), Some([]));
        for text in [
            "", "0", "0a0", "0a0b0", "0A0b", "0g0b", " a0b", "0a0b\n", "0x0b", "é0b", "0a0b0c",
        ] {
            assert_eq!(unhex::<2>(text), None, "{text}");
        }
    }

    #[test]
    fn no_two_contexts_are_equal() {
        for (i, a) in CONTEXTS.iter().enumerate() {
            assert!(a.len() < 32 && CONTEXTS[i + 1..].iter().all(|b| a != b));
        }
    }
}
