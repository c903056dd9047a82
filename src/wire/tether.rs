//! Messages of the tether: the socket pair between `rsoracle run` and each of its children. It never leaves the host.
//!
//! Up goes the child's public key (32 bytes), once. Down comes the aggregator's public key (32 bytes), once and first, then
//! any number of rosters: the earliest start that each holds for (8 bytes), its length (4 bytes), and the text of its file.
//!
//! Invariant: a reader holds one message at most, and no roster longer than [`TOML_BYTES_MAX`].

use rsoracle_proof::bytes::Take;
use rsoracle_proof::limits::TOML_BYTES_MAX;

/// Bytes before a roster's text.
const ROSTER_HEAD_BYTES: usize = 8 + 4;

/// A roster as a message. Its text is at most [`TOML_BYTES_MAX`] bytes long.
pub fn roster_message(from_us: u64, text: &str) -> Vec<u8> {
    assert!(text.len() <= TOML_BYTES_MAX, "the roster can be read");
    let mut bytes = from_us.to_be_bytes().to_vec();
    bytes.extend_from_slice(&(text.len() as u32).to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// A message that came down the tether.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handed {
    /// The aggregator's public key.
    Aggregator([u8; 32]),
    /// A roster.
    Roster {
        /// It holds for starts from then on, microseconds since the Unix epoch.
        from_us: u64,
        /// The text of its file.
        text: String,
    },
}

/// Collects the bytes that come down the tether, and yields the messages in them.
#[derive(Default)]
pub struct TetherReader {
    bytes: Vec<u8>,
    greeted: bool,
}

impl TetherReader {
    /// How many bytes the present message still lacks; only so many may be added. The error says what is wrong with it.
    pub fn wants(&self) -> Result<usize, &'static str> {
        let whole = match self.bytes.first_chunk::<ROSTER_HEAD_BYTES>() {
            _ if !self.greeted => 32,
            None => ROSTER_HEAD_BYTES,
            Some(head) => match Take::all(&head[8..]).u32() as usize {
                0..=TOML_BYTES_MAX => ROSTER_HEAD_BYTES + Take::all(&head[8..]).u32() as usize,
                _ => return Err("a roster is too long"),
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
        let text = String::from_utf8(bytes[ROSTER_HEAD_BYTES..].to_vec());
        let text = text.map_err(|_| "a roster is not UTF-8")?;
        Ok(Some(Handed::Roster { from_us, text }))
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
        bytes.extend(roster_message(5, "number = 1\n"));
        bytes.extend(roster_message(u64::MAX, ""));
        bytes.extend(roster_message(9, "cut")[..14].iter());
        let roster = |from_us, text: &str| Handed::Roster {
            from_us,
            text: text.to_owned(),
        };
        let handed = [
            Handed::Aggregator([7; 32]),
            roster(5, "number = 1\n"),
            roster(u64::MAX, ""),
        ];
        for piece in 1..=bytes.len() {
            assert_eq!(read(&bytes, piece).as_deref(), Ok(&handed[..]), "{piece}");
        }
    }

    #[test]
    fn a_roster_that_is_too_long_is_refused_before_it_is_read() {
        let mut bytes = vec![7; 32];
        bytes.extend(5u64.to_be_bytes());
        bytes.extend((TOML_BYTES_MAX as u32 + 1).to_be_bytes());
        assert_eq!(read(&bytes, 4), Err("a roster is too long"));
        let mut bytes = vec![7; 32];
        bytes.extend(roster_message(5, "abc"));
        *bytes.last_mut().unwrap() = 0xff;
        assert_eq!(read(&bytes, 4), Err("a roster is not UTF-8"));
    }
}
