//! [`Inbox`]: a socket for frames of fixed width.
//!
//! Invariant: no call waits unless it says so, and a peer cannot make us hold more than one frame. Errors that only mean
//! "nothing yet" are recognised by [`waits`].

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// Whether an error only means that there is nothing to read yet, or no room to write.
pub fn waits(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

/// A non-blocking connection that collects fixed-width frames, which may arrive in pieces, in a bounded buffer.
///
/// `N` is the width of the largest frame. A peer cannot make us buffer more than that.
pub struct Inbox<const N: usize> {
    tcp: TcpStream,
    buffer: [u8; N],
    filled: usize,
    begun: Option<Instant>,
    ended: bool,
}

impl<const N: usize> Inbox<N> {
    /// Takes over a connection.
    pub fn new(tcp: TcpStream) -> io::Result<Inbox<N>> {
        tcp.set_nodelay(true)?;
        tcp.set_nonblocking(true)?;
        Ok(Inbox {
            tcp,
            buffer: [0; N],
            filled: 0,
            begun: None,
            ended: false,
        })
    }

    /// Reads what has arrived, until the buffer is full. Returns whether anything had.
    pub fn fill(&mut self) -> bool {
        let mut came = false;
        while self.filled < N && !self.ended {
            match self.tcp.read(&mut self.buffer[self.filled..]) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    self.filled += count;
                    came = true;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if waits(&error) => break,
                Err(_) => self.ended = true,
            }
        }
        if came && self.begun.is_none() {
            self.begun = Some(Instant::now());
        }
        came
    }

    /// Waits up to `patience` for bytes, without reading them; [`Inbox::fill`] does.
    pub fn wait(&mut self, patience: Duration) {
        let waited = self
            .tcp
            .set_nonblocking(false)
            .and_then(|()| self.tcp.set_read_timeout(Some(patience)));
        if waited.is_ok() {
            let _ = self.tcp.peek(&mut [0]);
        }
        self.ended |= self.tcp.set_nonblocking(true).is_err();
    }

    /// The bytes that were read and not consumed yet.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    /// The first `W` bytes, once they have arrived. They stay in the buffer.
    pub(crate) fn peek<const W: usize>(&self) -> Option<[u8; W]> {
        self.bytes().first_chunk().copied()
    }

    /// Removes the first `count` bytes from the buffer.
    pub(crate) fn consume(&mut self, count: usize) {
        self.buffer.copy_within(count..self.filled, 0);
        self.filled -= count;
        self.begun = if self.filled == 0 {
            None
        } else {
            Some(Instant::now())
        };
    }

    /// When the frame in the buffer began to arrive; `None` if the buffer is empty. [`Inbox::consume`] restarts the time.
    pub fn begun(&self) -> Option<Instant> {
        self.begun
    }

    /// Whether the connection has ended. What arrived before is still in the buffer.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Sends a frame; returns whether all of it was sent. If the send buffer has no room for it, the peer does not read, and
    /// the connection counts as ended.
    pub fn send(&mut self, frame: &[u8]) -> bool {
        let count = self.send_some(frame);
        // A branch, since rustc 1.95 gets this wrong in a release build: `let sent = …; self.ended |= !sent; sent`.
        if count < frame.len() {
            self.ended = true;
        }
        count == frame.len()
    }

    /// Sends as many of the bytes as the system takes at once; returns how many that were.
    pub(crate) fn send_some(&mut self, bytes: &[u8]) -> usize {
        if bytes.is_empty() {
            return 0;
        }
        match self.tcp.write(bytes) {
            Ok(count) => count,
            Err(error) => {
                self.ended |= !waits(&error);
                0
            }
        }
    }

    /// Ends the connection so that what was sent last still arrives. Closing with unread bytes would send a reset, and the
    /// peer would discard it.
    pub fn end(mut self) {
        let _ = self.tcp.shutdown(Shutdown::Write);
        let mut rest = [0u8; 4096];
        let _ = self.tcp.read(&mut rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn an_inbox_joins_pieces_and_never_holds_more_than_its_width() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let near = listener.accept().unwrap().0;
        let mut inbox = Inbox::<8>::new(near).unwrap();
        assert!(!inbox.fill() && inbox.peek::<4>().is_none() && !inbox.ended());
        far.write_all(b"abcdefghijkl").unwrap();
        while !inbox.fill() {}
        assert_eq!(
            (inbox.bytes(), inbox.peek::<4>()),
            (&b"abcdefgh"[..], Some(*b"abcd"))
        );
        assert!(inbox.send(b"all of it") && !inbox.ended());
        inbox.consume(4);
        drop(far);
        while !inbox.ended() {
            inbox.fill();
            inbox.consume(inbox.bytes().len().saturating_sub(4));
        }
        assert_eq!(
            inbox.bytes(),
            b"ijkl",
            "bytes from before the end are still there"
        );
    }
}
