//! Messages of the tether: the socket pair between `rsoracle run` and each of its children. It never leaves the host.
//!
//! The child sends its public key (32 bytes) once. `run` first sends the aggregator's public key (32 bytes), once. Then it sends
//! terms, any number of times: the earliest start that they hold for (8 bytes), their length (4 bytes), and the terms at fixed
//! widths.
//!
//! Invariant: a reader holds at most one message, which is no longer than the longest terms.

use rsoracle_proof::bytes::Take;
use rsoracle_proof::limits::COLLECTORS_MAX;
use rsoracle_proof::terms::{HEAD_BYTES, SEAT_BYTES, Terms};

/// Bytes before the terms in a message.
const MESSAGE_HEAD_BYTES: usize = 8 + 4;
/// Bytes of the longest terms.
const TERMS_BYTES_MAX: usize = HEAD_BYTES + COLLECTORS_MAX as usize * SEAT_BYTES;

/// Terms as a message.
pub fn terms_message(from_us: u64, terms: &Terms) -> Vec<u8> {
    message(from_us, &terms.encode())
}

/// Any bytes as such a message.
pub fn message(from_us: u64, terms: &[u8]) -> Vec<u8> {
    let mut bytes = from_us.to_be_bytes().to_vec();
    bytes.extend_from_slice(&(terms.len() as u32).to_be_bytes());
    bytes.extend_from_slice(terms);
    bytes
}

/// A message that came down the tether.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handed {
    /// The aggregator's public key.
    Aggregator([u8; 32]),
    /// Terms.
    Terms {
        /// They hold for starts from then on, microseconds since the Unix epoch.
        from_us: u64,
        /// The terms at fixed widths.
        terms: Vec<u8>,
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
        let terms = bytes[MESSAGE_HEAD_BYTES..].to_vec();
        Ok(Some(Handed::Terms { from_us, terms }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        bytes.extend(message(5, b"some terms"));
        bytes.extend(message(u64::MAX, b""));
        bytes.extend(message(9, b"cut")[..14].iter());
        let terms = |from_us, terms: &[u8]| Handed::Terms {
            from_us,
            terms: terms.to_owned(),
        };
        let handed = [
            Handed::Aggregator([7; 32]),
            terms(5, b"some terms"),
            terms(u64::MAX, b""),
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
