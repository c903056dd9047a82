//! A change of the aggregator's key within the chain of a feed: a record that both keys sign.
//!
//! Invariant: whoever trusted the old key may trust the new one, and nobody can insert another key. The record names the
//! signature of the previous record, and the next report names the new key's signature over this record.

use super::Flaw;
use super::read::{self, Cursor};
use crate::bytes::padded;
use crate::limits::FEED_BYTES_MAX;
use crate::seal::{CONTEXT_KEY_CHANGE, Fields, Keys, PublicKey, hex};
use crate::source::check_feed;
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

/// A change of the aggregator's key.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyChange {
    /// The feed whose chain goes on with the new key.
    pub feed: String,
    /// The key before this record.
    pub old: PublicKey,
    /// The key after this record.
    pub new: PublicKey,
    /// The signature of the previous record.
    pub previous: [u8; 64],
    /// The old key's signature, then the new one's.
    pub signatures: [[u8; 64]; 2],
}

impl KeyChange {
    /// The bytes that both signatures cover.
    pub fn signed_bytes(&self) -> Vec<u8> {
        Fields::new(CONTEXT_KEY_CHANGE)
            .field(&padded::<FEED_BYTES_MAX>(&self.feed))
            .field(self.old.bytes())
            .field(self.new.bytes())
            .field(&self.previous)
            .bytes()
    }

    /// The signature that the next report names as its previous one.
    pub fn signature(&self) -> [u8; 64] {
        self.signatures[1]
    }

    /// Whether a line begins as such a record does.
    pub(crate) fn is_meant(line: &str) -> bool {
        line.starts_with("{\"rsoracle_key_change\"")
    }

    /// The record as one line of JSON, without the newline.
    pub fn line(&self) -> String {
        format!(
            "{{\"rsoracle_key_change\":2,\"feed\":\"{}\",\"old\":\"{}\",\"new\":\"{}\",\"previous\":\"{}\",\"old_signature\":\"{}\",\"new_signature\":\"{}\"}}",
            self.feed,
            hex(self.old.bytes()),
            hex(self.new.bytes()),
            hex(&self.previous),
            hex(&self.signatures[0]),
            hex(&self.signatures[1])
        )
    }

    /// Parses a line as [`KeyChange::line`] writes it.
    pub fn read(line: &str, keys: &mut Keys) -> Result<KeyChange, Flaw> {
        read::whole(line, keys, |cursor: &mut Cursor| {
            cursor.expect("{\"rsoracle_key_change\":2,\"feed\":")?;
            let change = KeyChange {
                feed: cursor.name(FEED_BYTES_MAX)?,
                old: cursor.keyed("old", Cursor::public_key)?,
                new: cursor.keyed("new", Cursor::public_key)?,
                previous: cursor.keyed("previous", Cursor::hex)?,
                signatures: [
                    cursor.keyed("old_signature", Cursor::hex)?,
                    cursor.keyed("new_signature", Cursor::hex)?,
                ],
            };
            cursor.expect("}")?;
            Ok(change)
        })
    }

    /// The flaws of the record by itself; empty if both keys signed it.
    pub fn flaws(&self) -> Vec<String> {
        let bytes = self.signed_bytes();
        let mut flaws = Vec::new();
        for (which, key, signature) in [
            ("old", &self.old, &self.signatures[0]),
            ("new", &self.new, &self.signatures[1]),
        ] {
            if !key.signed(&bytes, signature) {
                flaws.push(format!("the {which} key's signature is invalid"));
            }
        }
        if check_feed(&self.feed).is_err() {
            flaws.push("its feed has a comma in its name".to_owned());
        }
        if self.old == self.new {
            flaws.push("it changes a key to itself".to_owned());
        }
        flaws
    }
}
