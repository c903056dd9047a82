//! Signing keys in memory.
//!
//! Invariant: a secret is wiped where it came from, and when it is dropped.

use ed25519_dalek::SigningKey;
use rsoracle_proof::seal::{PublicKey, unhex_into};
use std::hint::black_box;

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
}

/// Overwrites secret bytes. `black_box` keeps the compiler from removing the writes.
pub(crate) fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    black_box(bytes);
}

/// Parses the digits that [`rsoracle_proof::seal::hex_into`] writes into `bytes`. If they are anything else, returns false and wipes `bytes`.
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
    use rsoracle_proof::seal::hex;

    #[test]
    fn seeds_are_wiped_where_they_came_from() {
        let mut seed = [3; 32];
        let _key = SecretKey::from_seed(&mut seed);
        assert_eq!(seed, [0; 32]);
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
}
