//! Signing keys and enrolment secrets in memory, and the bytes that the signatures of a hello and a round announcement cover.
//!
//! Invariant: every signed byte string begins with a context that is unique to its kind, and has every field at a fixed
//! width. A secret is wiped where it came from, and when it is dropped.

use crate::wire::{Hello, RoundFrame};
use ed25519_dalek::SigningKey;
use rsoracle_proof::bytes::{Put, padded};
use rsoracle_proof::seal::{PublicKey, Signer, unhex_into};
use std::hint::black_box;

/// Contexts, each NUL-padded to 32 bytes.
const CONTEXT_HELLO: &str = "rsoracle v1 hello";
const CONTEXT_ROUND: &str = "rsoracle v1 round";

/// Bytes that a hello's signature covers.
pub(crate) const HELLO_SIGNED_BYTES: usize = 32 + 32 + 32 + 2 + 32 + 32 + 8;
/// Bytes that a round's signature covers.
pub(crate) const ROUND_SIGNED_BYTES: usize = 32 + 32 + 64 + 8 + 8 + 4 + 32;

/// A signing key. It has no `Debug`, and its bytes are wiped when it is dropped.
///
/// It is boxed, so that moving it leaves no copies on the stack.
pub struct SecretKey(Box<SigningKey>);

impl SecretKey {
    /// Makes a key from 32 random bytes, and wipes them.
    pub fn from_seed(seed: &mut [u8; 32]) -> SecretKey {
        let key = Box::new(SigningKey::from_bytes(seed));
        wipe(seed);
        SecretKey(key)
    }

    /// The public key, which verifies this key's signatures.
    pub fn public(&self) -> PublicKey {
        let key = PublicKey::decode(self.0.verifying_key().as_bytes());
        key.expect("no seed makes a key of small order")
    }

    /// Signs `bytes`, which must begin with a context.
    pub fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        ed25519_dalek::Signer::sign(&*self.0, bytes).to_bytes()
    }

    /// Signs [`hello_bytes`], then wipes them, since they contain the secret.
    pub fn sign_hello(
        &self,
        nonce: &[u8; 32],
        secret: &EnrolmentSecret,
        hello: &Hello,
    ) -> [u8; 64] {
        let mut bytes = hello_bytes(nonce, secret, hello);
        let signature = self.sign(&bytes);
        wipe(&mut bytes);
        signature
    }
}

impl Signer for SecretKey {
    fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.sign(bytes)
    }
}

/// The one-time secret that admits a collector to a slot. It is never sent. It has no `Debug`, and is wiped when it is dropped.
///
/// It is not a signing key, but is stored in one: among the types of our dependencies, this is the one that wipes itself.
pub struct EnrolmentSecret(Box<SigningKey>);

impl EnrolmentSecret {
    /// Takes 32 random bytes, and wipes the originals.
    pub fn take(bytes: &mut [u8; 32]) -> EnrolmentSecret {
        let secret = Box::new(SigningKey::from_bytes(bytes));
        wipe(bytes);
        EnrolmentSecret(secret)
    }

    /// The secret bytes, to give to the collector or to sign.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

/// Overwrites secret bytes. `black_box` keeps the compiler from removing the writes.
pub(crate) fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    black_box(bytes);
}

/// The bytes that a hello's signature covers. They contain the secret: wipe them after use.
pub fn hello_bytes(
    nonce: &[u8; 32],
    secret: &EnrolmentSecret,
    hello: &Hello,
) -> [u8; HELLO_SIGNED_BYTES] {
    let mut bytes = Put::new()
        .put(&padded::<32>(CONTEXT_HELLO))
        .put(nonce)
        .put(&[0; 32])
        .put(&hello.slot.to_be_bytes())
        .put(&hello.key)
        .put(&hello.source)
        .put(&hello.clock_us.to_be_bytes())
        .done();
    // Written last and in place, so that no earlier step leaves a copy of the secret behind.
    bytes[64..96].copy_from_slice(secret.expose());
    bytes
}

/// The bytes that the signature of a round announcement covers. The connection's nonce and hello bind it to one connection
/// of one collector.
pub fn round_bytes(
    nonce: &[u8; 32],
    hello_signature: &[u8; 64],
    round: &RoundFrame,
) -> [u8; ROUND_SIGNED_BYTES] {
    Put::new()
        .put(&padded::<32>(CONTEXT_ROUND))
        .put(nonce)
        .put(hello_signature)
        .put(&round.start_us.to_be_bytes())
        .put(&round.interval_us.to_be_bytes())
        .put(&round.samples.to_be_bytes())
        .put(&round.terms_digest)
        .done()
}

/// Whether `key` signed [`hello_bytes`] of this hello.
pub(crate) fn signed_hello(
    key: &PublicKey,
    nonce: &[u8; 32],
    secret: &EnrolmentSecret,
    hello: &Hello,
) -> bool {
    let mut bytes = hello_bytes(nonce, secret, hello);
    let signed = key.signed(&bytes, &hello.signature);
    wipe(&mut bytes);
    signed
}

/// Parses the digits that [`hex_into`] writes into `bytes`. If they are anything else, returns false and wipes `bytes`.
pub(crate) fn unhex_secret(text: &[u8], bytes: &mut [u8]) -> bool {
    let sound = unhex_into(text, bytes);
    if !sound {
        wipe(bytes);
    }
    sound
}

#[cfg(test)]
mod tests {
    use super::*;
    use rsoracle_proof::seal::{CONTEXTS, hex};

    #[test]
    fn seeds_and_secrets_are_wiped_where_they_came_from() {
        let mut seed = [3; 32];
        let _key = SecretKey::from_seed(&mut seed);
        assert_eq!(seed, [0; 32]);
        let mut bytes = [4; 32];
        let secret = EnrolmentSecret::take(&mut bytes);
        assert_eq!((bytes, secret.expose()), ([0; 32], &[4; 32]));
    }

    #[test]
    fn hexadecimal_of_a_secret_round_trips_and_invalid_text_leaves_nothing() {
        let bytes: [u8; 256] = std::array::from_fn(|i| i as u8);
        let (mut text, mut back) = ([0; 512], [0; 256]);
        rsoracle_proof::seal::hex_into(&bytes, &mut text);
        assert_eq!(hex(&bytes).as_bytes(), text);
        assert!(unhex_secret(&text, &mut back) && back == bytes);
        let mut secret = [7; 2];
        assert!(
            !unhex_secret(b"0a0G", &mut secret) && secret == [0; 2],
            "the decoded part is wiped"
        );
    }

    #[test]
    fn no_two_contexts_are_equal() {
        let ours = [CONTEXT_HELLO, CONTEXT_ROUND];
        let all: Vec<&str> = ours.into_iter().chain(CONTEXTS).collect();
        for (i, a) in all.iter().enumerate() {
            assert!(a.len() < 32 && all[i + 1..].iter().all(|b| a != b));
        }
    }
}
