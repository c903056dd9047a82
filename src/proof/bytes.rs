//! Encodes sequences of fixed-width fields, numbers in big-endian: signed bytes, and every frame on the wire.

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

/// Text at a fixed width, padded with NUL bytes, so that different fields never encode to the same bytes.
pub fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [0; N];
    field[..text.len()].copy_from_slice(text.as_bytes());
    field
}
