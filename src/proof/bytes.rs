//! Encodes and decodes sequences of fixed-width fields, numbers in big-endian: signed bytes, and every frame on the wire.

use crate::reason::Reject;

/// Writes fields one after the other into exactly `N` bytes.
pub struct Put<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Put<N> {
    /// Starts with no field written.
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

    /// The bytes. Panics unless the fields filled all of them.
    pub fn done(self) -> [u8; N] {
        assert_eq!(self.at, N, "the fields fill the frame");
        self.bytes
    }
}

/// Reads fields one after the other from a frame of known width.
pub struct Take<'a>(&'a [u8]);

impl<'a> Take<'a> {
    /// Starts at the first byte of a frame.
    pub fn all(bytes: &'a [u8]) -> Take<'a> {
        Take(bytes)
    }

    /// The next `N` bytes.
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

    /// Checks that the next `N` bytes, which are reserved, are zero.
    pub fn zeros<const N: usize>(&mut self) -> Result<(), Reject> {
        if self.array() == [0u8; N] {
            Ok(())
        } else {
            Err(Reject::Reserved)
        }
    }
}

/// Text at a fixed width, padded with NUL bytes, so that different fields never encode to the same bytes.
pub fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [0; N];
    field[..text.len()].copy_from_slice(text.as_bytes());
    field
}
