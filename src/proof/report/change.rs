//! A change of the aggregator's key within a journal: a record that both keys signed.
//!
//! Invariant: whoever trusted the old key may go on with the new one, and nobody can put another in between: the record names
//! the signature before it, and the next report names the new key's signature over the record.
//! What this module does not do: say why.

use super::read::{self, Cursor, Flaw};
use crate::seal::{Keys, PublicKey, SignedBytes, Signer, hex};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

/// The record.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyChange {
    /// The key until now.
    pub old: PublicKey,
    /// The key from now on.
    pub new: PublicKey,
    /// The signature of the record before this one.
    pub previous: [u8; 64],
    /// The old key's signature, then the new one's.
    pub signatures: [[u8; 64]; 2],
}

impl KeyChange {
    /// The record, signed by both.
    pub fn sign(old: &impl Signer, new: &impl Signer, previous: [u8; 64]) -> KeyChange {
        let mut change = KeyChange {
            old: old.public(),
            new: new.public(),
            previous,
            signatures: [[0; 64]; 2],
        };
        let bytes = change.signed_bytes();
        change.signatures = [old.sign(&bytes), new.sign(&bytes)];
        change
    }

    /// What both signatures cover.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = SignedBytes::key_change();
        bytes
            .put(self.old.bytes())
            .put(self.new.bytes())
            .put(&self.previous);
        bytes.done()
    }

    /// What the next report names as the signature before it.
    pub fn signature(&self) -> [u8; 64] {
        self.signatures[1]
    }

    /// Whether a line is meant to be such a record.
    pub fn is_meant(line: &str) -> bool {
        line.starts_with("{\"rsoracle_key_change\"")
    }

    /// The record as one line of JSON, without its end.
    pub fn line(&self) -> String {
        format!(
            "{{\"rsoracle_key_change\":1,\"old\":\"{}\",\"new\":\"{}\",\"previous\":\"{}\",\"old_signature\":\"{}\",\"new_signature\":\"{}\"}}",
            hex(self.old.bytes()),
            hex(self.new.bytes()),
            hex(&self.previous),
            hex(&self.signatures[0]),
            hex(&self.signatures[1])
        )
    }

    /// Reads the line that [`KeyChange::line`] writes.
    pub fn read(line: &str, keys: &mut Keys) -> Result<KeyChange, Flaw> {
        read::whole(line, keys, |cursor: &mut Cursor| {
            cursor.expect("{\"rsoracle_key_change\":1,\"old\":")?;
            let old = cursor.public_key()?;
            cursor.key("new")?;
            let new = cursor.public_key()?;
            cursor.key("previous")?;
            let previous = cursor.hex()?;
            cursor.key("old_signature")?;
            let by_old = cursor.hex()?;
            cursor.key("new_signature")?;
            let by_new = cursor.hex()?;
            cursor.expect("}")?;
            Ok(KeyChange {
                old,
                new,
                previous,
                signatures: [by_old, by_new],
            })
        })
    }

    /// What is wrong with it by itself; empty if both keys signed it.
    pub fn flaws(&self) -> Vec<String> {
        let bytes = self.signed_bytes();
        let mut flaws = Vec::new();
        for (which, key, signature) in [
            ("old", &self.old, &self.signatures[0]),
            ("new", &self.new, &self.signatures[1]),
        ] {
            if !key.signed(&bytes, signature) {
                flaws.push(format!("the {which} key's signature does not check"));
            }
        }
        if self.old == self.new {
            flaws.push("it changes a key to itself".to_owned());
        }
        flaws
    }
}
