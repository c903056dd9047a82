//! Reads the messages that come down a tether ([`super::tether`] says how they look).
//!
//! Invariant: a reader holds at most one message, which is no longer than the terms of the largest roster.

use rsoracle_proof::decode::Take;
use rsoracle_proof::limits::{COLLECTORS_MAX, FEEDS_MAX};
use rsoracle_proof::terms::{HEAD_BYTES, SEAT_BYTES};

/// Bytes before the terms in a message.
const MESSAGE_HEAD_BYTES: usize = 8 + 4;
/// Bytes of the terms of the largest roster.
const TERMS_BYTES_MAX: usize = FEEDS_MAX * (4 + HEAD_BYTES) + COLLECTORS_MAX as usize * SEAT_BYTES;

/// A message that came down the tether.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handed {
    /// The aggregator's public key.
    Aggregator([u8; 32]),
    /// Terms.
    Terms {
        /// They hold for starts from then on, microseconds since the Unix epoch.
        from_us: u64,
        /// The terms of each feed, at fixed widths.
        feeds: Vec<Vec<u8>>,
    },
}

/// Collects the bytes that come down the tether, and yields the messages in them.
#[derive(Default)]
pub struct TetherReader {
    bytes: Vec<u8>,
    greeted: bool,
}

impl TetherReader {
    /// How many bytes the present message still lacks. No more may be added. The error says what is wrong with the message.
    pub fn wants(&self) -> Result<usize, &'static str> {
        let whole = match self.bytes.first_chunk::<MESSAGE_HEAD_BYTES>() {
            _ if !self.greeted => 32,
            None => MESSAGE_HEAD_BYTES,
            Some(head) => match Take::all(&head[8..]).u32() as usize {
                length @ 0..=TERMS_BYTES_MAX => MESSAGE_HEAD_BYTES + length,
                _ => return Err("a message is too long"),
            },
        };
        Ok(whole - self.bytes.len())
    }

    /// Adds bytes, and returns the message that they complete, if they do.
    pub fn add(&mut self, bytes: &[u8]) -> Result<Option<Handed>, &'static str> {
        assert!(
            self.wants()? >= bytes.len(),
            "no byte of the next message is added"
        );
        self.bytes.extend_from_slice(bytes);
        if self.wants()? > 0 {
            return Ok(None);
        }
        let bytes = std::mem::take(&mut self.bytes);
        let mut take = Take::all(&bytes);
        if !self.greeted {
            self.greeted = true;
            return Ok(Some(Handed::Aggregator(take.array())));
        }
        let from_us = take.u64();
        let feeds = split(&bytes[MESSAGE_HEAD_BYTES..]).ok_or("its terms are cut")?;
        Ok(Some(Handed::Terms { from_us, feeds }))
    }
}

/// The terms of each feed.
fn split(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut feeds = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (feed, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        feeds.push(feed.to_vec());
        bytes = rest;
    }
    Some(feeds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tether::message;

    /// All messages in `bytes`, which are added in pieces of `piece` bytes at most.
    fn read(bytes: &[u8], piece: usize) -> Result<Vec<Handed>, &'static str> {
        let (mut reader, mut rest, mut handed) = (TetherReader::default(), bytes, Vec::new());
        while !rest.is_empty() {
            let count = reader.wants()?.min(piece).min(rest.len());
            handed.extend(reader.add(&rest[..count])?);
            rest = &rest[count..];
        }
        Ok(handed)
    }

    #[test]
    fn messages_come_out_as_they_went_in_however_they_are_cut() {
        let mut bytes = vec![7; 32];
        let [some, more, none] = [&b"some terms"[..], b"more", b""].map(<[u8]>::to_vec);
        bytes.extend(message(5, &[some.clone(), more.clone()]));
        bytes.extend(message(u64::MAX, std::slice::from_ref(&none)));
        bytes.extend(message(9, std::slice::from_ref(&more))[..14].iter());
        let terms = |from_us, feeds: &[Vec<u8>]| Handed::Terms {
            from_us,
            feeds: feeds.to_vec(),
        };
        let handed = [
            Handed::Aggregator([7; 32]),
            terms(5, &[some, more]),
            terms(u64::MAX, &[none]),
        ];
        for piece in 1..=bytes.len() {
            assert_eq!(read(&bytes, piece).as_deref(), Ok(&handed[..]), "{piece}");
        }
    }

    #[test]
    fn a_message_that_is_too_long_is_refused_before_it_is_read() {
        let mut bytes = vec![7; 32];
        bytes.extend(5u64.to_be_bytes());
        bytes.extend((TERMS_BYTES_MAX as u32 + 1).to_be_bytes());
        assert_eq!(read(&bytes, 4), Err("a message is too long"));
    }
}
