//! A proof that a collector lied: two different answers for the same round, signed by the same key.
//!
//! Invariant: a proof is self-contained. Both signatures are valid under the same key, for the same terms and start, and
//! what they sign differs. An honest collector never signs twice for the same start. A proof does not say which answer is
//! true.

use super::line::{LineWriter, write_observation};
use super::read::{self, Cursor, Flaw, NUMBER_MAX};
use crate::limits::{FEED_BYTES_MAX, SAMPLES_MAX, SOURCE_BYTES_MAX};
use crate::record::Observation;
use crate::seal::{Keys, ObservationContext, PublicKey, observation_bytes};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

/// The beginning of a proof's line.
const BEGINS: &str = "{\"rsoracle_proof\":1,\"key\":";

/// Two different answers of one collector for one round.
#[derive(Clone, Debug, PartialEq)]
pub struct Proof {
    /// The collector's key.
    pub key: PublicKey,
    /// The digest of the round's terms.
    pub terms_digest: [u8; 32],
    /// The collector's slot.
    pub slot: u16,
    /// The name of the feed.
    pub feed: String,
    /// The collector's source.
    pub source: String,
    /// The round's start, microseconds since the Unix epoch.
    pub start_us: u64,
    /// Number of samples.
    pub samples: u32,
    /// Microseconds from one sample to the next.
    pub interval_us: u64,
    /// Both answers, each with the digest of the samples that its signature covers.
    pub answers: [([u8; 32], Observation); 2],
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
        line.text(",\"terms_digest\":").hex(&self.terms_digest);
        line.text(",\"slot\":").number(self.slot);
        line.text(",\"feed\":").quoted(&self.feed);
        line.text(",\"source\":").quoted(&self.source);
        line.text(",\"round_start_us\":").number(self.start_us);
        line.text(",\"samples\":").number(self.samples);
        line.text(",\"interval_us\":").number(self.interval_us);
        for (name, (digest, observation)) in ["first", "second"].iter().zip(&self.answers) {
            line.text(",").quoted(name);
            line.text(":{\"samples_digest\":").hex(digest).text(",");
            write_observation(&mut line, Some(observation));
            line.text("}");
        }
        line.text("}");
        line.done()
    }

    /// Parses a line as [`Proof::line`] writes it.
    pub fn read(line: &str, keys: &mut Keys) -> Result<Proof, Flaw> {
        read::whole(line, keys, Proof::take)
    }

    fn take(cursor: &mut Cursor) -> Result<Proof, Flaw> {
        cursor.expect(BEGINS)?;
        let key = cursor.public_key()?;
        cursor.key("terms_digest")?;
        let terms_digest = cursor.hex()?;
        cursor.key("slot")?;
        let slot = cursor.small()?;
        cursor.key("feed")?;
        let feed = cursor.name(FEED_BYTES_MAX)?;
        cursor.key("source")?;
        let source = cursor.name(SOURCE_BYTES_MAX)?;
        cursor.key("round_start_us")?;
        let start_us = cursor.number(NUMBER_MAX)?;
        cursor.key("samples")?;
        let samples = cursor.number(u64::from(SAMPLES_MAX))? as u32;
        cursor.key("interval_us")?;
        let interval_us = cursor.number(NUMBER_MAX)?;
        let mut answer = |name| {
            cursor.key(name)?;
            cursor.expect("{\"samples_digest\":")?;
            let digest = cursor.hex()?;
            cursor.key("price")?;
            let observation = cursor.observation()?;
            cursor.expect("}")?;
            observation
                .map(|observation| (digest, observation))
                .ok_or_else(|| cursor.flaw("an answer"))
        };
        let answers = [answer("first")?, answer("second")?];
        cursor.expect("}")?;
        Ok(Proof {
            key,
            terms_digest,
            slot,
            feed,
            source,
            start_us,
            samples,
            interval_us,
            answers,
        })
    }

    /// The flaws of the proof; empty if it is valid.
    pub fn flaws(&self) -> Vec<String> {
        let mut flaws = Vec::new();
        let signed = self.answers.map(|(digest, observation)| {
            let context = ObservationContext {
                terms_digest: &self.terms_digest,
                slot: self.slot,
                feed: &self.feed,
                source: &self.source,
                start_us: self.start_us,
                samples: self.samples,
                interval_us: self.interval_us,
                samples_digest: &digest,
            };
            observation_bytes(
                &context,
                observation.answer.to_bits(),
                observation.timestamp_us,
            )
        });
        for (which, (bytes, (_, observation))) in ["first", "second"]
            .iter()
            .zip(signed.iter().zip(&self.answers))
        {
            if !self.key.signed(bytes, &observation.signature) {
                flaws.push(format!("the {which} answer's signature is invalid"));
            }
        }
        if signed[0] == signed[1] {
            flaws.push("both answers are the same".to_owned());
        }
        flaws
    }
}
