//! Frames that leave as the other side takes them.
//!
//! Invariant: at most the rest of one frame is stored, and nothing is sent behind it before it is through.

use crate::system::inbox::Inbox;

/// What is still to be sent of a frame that a connection took in part. Empty if nothing is.
#[derive(Default)]
pub(super) struct Rest(Vec<u8>);

impl Rest {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sends more of it.
    pub(super) fn flush<const W: usize>(&mut self, inbox: &mut Inbox<W>) {
        let count = inbox.send_some(&self.0);
        self.0.drain(..count);
    }

    /// Sends frames in one write, unless there is a rest. Returns how many were begun; the rest of the last of these is stored.
    pub(super) fn send<const W: usize, const N: usize>(
        &mut self,
        inbox: &mut Inbox<W>,
        frames: &[[u8; N]],
    ) -> usize {
        if frames.is_empty() || !self.is_empty() {
            return 0;
        }
        let bytes = frames.as_flattened();
        let count = inbox.send_some(bytes);
        let begun = count.div_ceil(N).max(1);
        self.0.extend_from_slice(&bytes[count..begun * N]);
        begun
    }
}
