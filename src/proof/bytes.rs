//! Fields at fixed widths, one after the other, numbers big-endian: what is signed, and every frame on the wire.

use crate::reason::Reject;

/// Writes fields one after the other into exactly `N` bytes.
pub struct Put<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Put<N> {
    /// Nothing written yet.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Put<N> {
        Put {
            bytes: [0; N],
            at: 0,
        }
    }

    /// Appends the bytes of one field.
    pub fn put(mut self, field: &[u8]) -> Put<N> {
        self.bytes[self.at..self.at + field.len()].copy_from_slice(field);
        self.at += field.len();
        self
    }

    /// The bytes, all of them written.
    pub fn done(self) -> [u8; N] {
        assert_eq!(self.at, N, "the fields fill the frame");
        self.bytes
    }
}

/// Reads fields one after the other from a frame of known width.
pub struct Take<'a>(&'a [u8]);

impl<'a> Take<'a> {
    /// All of a frame's bytes.
    pub fn all(bytes: &'a [u8]) -> Take<'a> {
        Take(bytes)
    }

    /// The next field, as it is.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self
            .0
            .split_first_chunk()
            .expect("a frame is as wide as its fields");
        self.0 = rest;
        *field
    }

    /// The next two bytes.
    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    /// The next four bytes.
    pub fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    /// The next eight bytes.
    pub fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }

    /// Bytes that are reserved, and so zero.
    pub fn zeros<const N: usize>(&mut self) -> Result<(), Reject> {
        if self.array() == [0u8; N] {
            Ok(())
        } else {
            Err(Reject::Reserved)
        }
    }
}

/// Text at a fixed width, NUL-padded, so that no two field lists share bytes.
pub fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [0; N];
    field[..text.len()].copy_from_slice(text.as_bytes());
    field
}
