//! A proof that a collector lied: two different answers for the same round, signed by the same key.
//!
//! Invariant: a proof is self-contained. Both signatures are valid under the same key, for the same terms and start, and
//! what they sign differs. An honest collector never signs twice for the same start. A proof does not say which answer is
//! true.

use super::Flaw;
use super::line::{LineWriter, write_signed};
use super::read::{self, Cursor};
use crate::record::SignedAnswer;
use crate::seal::{Keys, PublicKey};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

/// The beginning of a proof's line.
const BEGINS: &str = "{\"rsoracle_proof\":2,\"key\":";

/// Two different answers of one collector for one round.
#[derive(Clone, Debug, PartialEq)]
pub struct Proof {
    /// The collector's key.
    pub key: PublicKey,
    /// The digest of the round's terms.
    pub terms_digest: [u8; 32],
    /// The collector's slot.
    pub slot: u16,
    /// The round's start, microseconds since the Unix epoch.
    pub start_us: u64,
    /// Both answers, each with the digest of the samples that its signature covers.
    pub answers: [SignedAnswer; 2],
}

impl Proof {
    /// Whether a line begins as a proof does.
    pub(crate) fn is_meant(line: &str) -> bool {
        line.starts_with("{\"rsoracle_proof\"")
    }

    /// The proof as one line of JSON, without the newline.
    pub fn line(&self) -> String {
        let mut line = LineWriter::with_capacity(1024);
        line.text(BEGINS).hex(self.key.bytes());
        line.key("terms_digest").hex(&self.terms_digest);
        line.key("slot").number(self.slot);
        line.key("round_start_us").number(self.start_us);
        for (name, answer) in ["first", "second"].iter().zip(&self.answers) {
            write_signed(line.key(name), answer);
        }
        line.text("}");
        line.done()
    }

    /// Parses a line as [`Proof::line`] writes it.
    pub fn read(line: &str, keys: &mut Keys) -> Result<Proof, Flaw> {
        read::whole(line, keys, |cursor: &mut Cursor| {
            cursor.expect(BEGINS)?;
            let proof = Proof {
                key: cursor.public_key()?,
                terms_digest: cursor.keyed("terms_digest", Cursor::hex)?,
                slot: cursor.keyed("slot", |cursor| cursor.number(u16::MAX))?,
                start_us: cursor.keyed("round_start_us", Cursor::us)?,
                answers: [
                    cursor.keyed("first", Cursor::signed_answer)?,
                    cursor.keyed("second", Cursor::signed_answer)?,
                ],
            };
            cursor.expect("}")?;
            Ok(proof)
        })
    }

    /// The flaws of the proof; empty if it is valid.
    pub fn flaws(&self) -> Vec<String> {
        let mut flaws = Vec::new();
        let [first, second] = &self.answers;
        for (which, answer) in [("first", first), ("second", second)] {
            let (digest, slot, start_us) = (&self.terms_digest, self.slot, self.start_us);
            if !self.key.answered(digest, slot, start_us, answer) {
                flaws.push(format!("the {which} answer's signature is invalid"));
            }
        }
        if first.says_the_same_as(second) {
            flaws.push("both answers are the same".to_owned());
        }
        flaws
    }
}
