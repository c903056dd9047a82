//! Sockets with one owner of the deadline, and a gate that holds bytes back until their instant.
//!
//! Invariant: no read or write waits past the deadline that was set last, however slowly bytes come (a socket's own
//! timeout starts again with every byte). `WouldBlock` and `TimedOut` are one case, told apart from failure by [`waits`].
//! What this module does not do: protocols.

use crate::system::limits::{MESSAGE_BYTES_MAX, SLICE_MS};
use rsoracle_verify::error::Error;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::time::{Duration, Instant};

/// What a caller does between two slices of waiting; an error ends the wait.
pub type Look<'a> = &'a mut dyn FnMut() -> Result<(), Error>;

/// The part of a wait after which the caller looks elsewhere.
pub fn slice(until: Instant) -> Patience {
    Patience::Until(until.min(Instant::now() + Duration::from_millis(SLICE_MS)))
}

/// How long reads may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Not at all.
    Never,
    /// Until then.
    Until(Instant),
}

/// Whether an error only says that there was nothing to read yet, or no room to write.
pub fn waits(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

/// Most that is taken from the system at once: a TLS record, and more than comes in a millisecond.
const TAKEN_BYTES: usize = 16 * 1024;

/// A TCP connection that owns its deadline and can hold back what is written to it.
///
/// TLS and websocket frames are made while the gate is shut; [`Gate::open`] then hands all of it to the system in
/// one write, so that nothing is left to compute at the instant of a sample. What is there to read is taken from the system in
/// large pieces: TLS asks for each record twice, for its header and for the rest.
pub struct Gate {
    tcp: TcpStream,
    patience: Patience,
    budget: usize,
    held: Option<Vec<u8>>,
    /// Room for what is taken from the system ...
    taken: Vec<u8>,
    /// ... and where in there that which was not read yet begins and ends.
    waiting: Range<usize>,
    /// When nothing was there to read, for the last time.
    dry_at: Instant,
}

impl Gate {
    /// Takes over a connection; at first its reads wait for nothing.
    pub fn new(tcp: TcpStream) -> io::Result<Gate> {
        tcp.set_nodelay(true)?;
        tcp.set_nonblocking(true)?;
        Ok(Gate {
            tcp,
            patience: Patience::Never,
            budget: usize::MAX,
            held: None,
            taken: vec![0; TAKEN_BYTES],
            waiting: 0..0,
            dry_at: Instant::now(),
        })
    }

    /// When nothing was there to read, for the last time: what was read since came later than that.
    pub fn dry_at(&self) -> Instant {
        self.dry_at
    }

    /// From here on, reads and writes wait so long.
    pub fn set_patience(&mut self, patience: Patience) -> io::Result<()> {
        if (patience == Patience::Never) != (self.patience == Patience::Never) {
            self.tcp.set_nonblocking(patience == Patience::Never)?;
        }
        self.patience = patience;
        Ok(())
    }

    /// From here on, reads give no more than so many bytes, then behave as if nothing more had come: a codec that
    /// reads until a message is whole would never return from one that has no end.
    pub fn set_budget(&mut self, bytes: usize) {
        self.budget = bytes;
    }

    /// From here on, writes are held back.
    pub fn shut(&mut self) {
        self.held.get_or_insert_with(|| Vec::with_capacity(4096));
    }

    /// Hands what was held back to the system, in one write.
    pub fn open(&mut self) -> io::Result<()> {
        match self.held.take() {
            Some(bytes) if !bytes.is_empty() => self.tcp.write_all(&bytes),
            _ => Ok(()),
        }
    }

    /// Takes from the system what is there, and waits for it as long as the patience allows; gives how many bytes came.
    fn take(&mut self) -> io::Result<usize> {
        if let Some(left) = self.remainder()? {
            self.tcp.set_read_timeout(Some(left))?;
        }
        let taken = self.tcp.read(&mut self.taken);
        if let Err(error) = &taken
            && waits(error)
            && error.kind() != io::ErrorKind::Interrupted
        {
            self.dry_at = Instant::now();
        }
        taken
    }

    /// What is left of the patience: `None` without any, an error once it has run out.
    fn remainder(&self) -> io::Result<Option<Duration>> {
        match self.patience {
            Patience::Never => Ok(None),
            Patience::Until(until) => match until.saturating_duration_since(Instant::now()) {
                Duration::ZERO => Err(io::ErrorKind::WouldBlock.into()),
                left => Ok(Some(left.max(Duration::from_millis(1)))),
            },
        }
    }
}

impl Read for Gate {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let allowed = buffer.len().min(self.budget);
        if allowed == 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if self.waiting.is_empty() {
            self.waiting = 0..self.take()?;
        }
        let waiting = &self.taken[self.waiting.clone()];
        let count = allowed.min(waiting.len());
        buffer[..count].copy_from_slice(&waiting[..count]);
        self.waiting.start += count;
        self.budget -= count;
        Ok(count)
    }
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(held) = &mut self.held {
            if held.len() + bytes.len() > MESSAGE_BYTES_MAX {
                return Err(io::Error::other("more is held back than one message takes"));
            }
            held.extend_from_slice(bytes);
            return Ok(bytes.len());
        }
        if let Some(left) = self.remainder()? {
            self.tcp.set_write_timeout(Some(left))?;
        }
        self.tcp.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A non-blocking connection that fixed-width frames come in on, piece by piece, into a bounded buffer.
///
/// `N` is the width of the largest frame: a peer can make us hold that much and no more.
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

    /// Reads what is there, up to a full buffer; whether anything came.
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

    /// Waits up to `patience` for something to come; it is read by [`Inbox::fill`].
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

    /// The bytes that came and were not taken yet.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    /// The first `W` bytes, once they are here; they stay.
    pub fn peek<const W: usize>(&self) -> Option<[u8; W]> {
        self.bytes().first_chunk().copied()
    }

    /// Drops the first `count` bytes, which were dealt with.
    pub fn consume(&mut self, count: usize) {
        self.buffer.copy_within(count..self.filled, 0);
        self.filled -= count;
        self.begun = if self.filled == 0 {
            None
        } else {
            Some(Instant::now())
        };
    }

    /// When the oldest of the bytes that wait came in.
    pub fn begun(&self) -> Option<Instant> {
        self.begun
    }

    /// Whether the peer has ended the connection (what came before is still in the buffer).
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Sends a frame. One that the system has no room for at once ends the connection: the peer does not read.
    pub fn send(&mut self, frame: &[u8]) -> bool {
        let sent = self
            .tcp
            .write(frame)
            .is_ok_and(|count| count == frame.len());
        self.ended |= !sent;
        sent
    }

    /// Ends the connection so that what was sent last still arrives: unread bytes would turn the end into a reset,
    /// which discards it on the peer's side.
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

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (one, listener.accept().unwrap().0)
    }

    #[test]
    fn what_a_shut_gate_holds_back_leaves_when_it_opens() {
        let (near, mut far) = pair();
        let mut gate = Gate::new(near).unwrap();
        gate.shut();
        gate.write_all(b"first ").unwrap();
        gate.write_all(b"second").unwrap();
        far.set_nonblocking(true).unwrap();
        let mut bytes = [0; 32];
        assert!(
            far.read(&mut bytes).is_err_and(|error| waits(&error)),
            "nothing has left yet"
        );
        gate.open().unwrap();
        far.set_nonblocking(false).unwrap();
        assert_eq!(far.read(&mut bytes).unwrap(), 12);
        assert_eq!(&bytes[..12], b"first second");
    }

    #[test]
    fn a_gate_does_not_hold_back_without_bound() {
        let mut gate = Gate::new(pair().0).unwrap();
        gate.shut();
        assert!(gate.write_all(&vec![0; MESSAGE_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn what_goes_beyond_the_budget_waits_for_the_next() {
        let (near, mut far) = pair();
        let mut gate = Gate::new(near).unwrap();
        gate.set_patience(Patience::Until(Instant::now() + Duration::from_secs(60)))
            .unwrap();
        far.write_all(b"abcdef").unwrap();
        let mut bytes = [0; 8];
        gate.set_budget(4);
        assert_eq!(gate.read(&mut bytes).unwrap(), 4);
        assert!(gate.read(&mut bytes).is_err_and(|error| waits(&error)));
        gate.set_budget(4);
        assert_eq!(
            (gate.read(&mut bytes).unwrap(), &bytes[..2]),
            (2, &b"ef"[..])
        );
    }

    #[test]
    fn what_is_read_in_small_pieces_is_taken_from_the_system_at_once() {
        let (near, mut far) = pair();
        let mut gate = Gate::new(near).unwrap();
        gate.set_patience(Patience::Until(Instant::now() + Duration::from_secs(60)))
            .unwrap();
        far.write_all(b"abcdef").unwrap();
        let mut bytes = [0; 4];
        assert_eq!((gate.read(&mut bytes).unwrap(), &bytes), (4, b"abcd"));
        // The rest is here already: it needs no patience, and what comes later comes behind it.
        gate.set_patience(Patience::Never).unwrap();
        far.write_all(b"g").unwrap();
        assert_eq!(
            (gate.read(&mut bytes).unwrap(), &bytes[..2]),
            (2, &b"ef"[..])
        );
        gate.set_patience(Patience::Until(Instant::now() + Duration::from_secs(60)))
            .unwrap();
        assert_eq!((gate.read(&mut bytes).unwrap(), bytes[0]), (1, b'g'));
        drop(far);
        assert_eq!(gate.read(&mut bytes).unwrap(), 0, "the end");
    }

    #[test]
    fn patience_that_has_run_out_reads_nothing() {
        let (near, _far) = pair();
        let mut gate = Gate::new(near).unwrap();
        for patience in [Patience::Never, Patience::Until(Instant::now())] {
            gate.set_patience(patience).unwrap();
            assert!(gate.read(&mut [0; 8]).is_err_and(|error| waits(&error)));
        }
        gate.set_patience(Patience::Until(Instant::now() + Duration::from_millis(20)))
            .unwrap();
        let began = Instant::now();
        assert!(gate.read(&mut [0; 8]).is_err_and(|error| waits(&error)));
        assert!(began.elapsed() >= Duration::from_millis(20));
    }

    #[test]
    fn an_inbox_keeps_frames_in_pieces_and_never_more_than_its_width() {
        let (near, mut far) = pair();
        let mut inbox = Inbox::<8>::new(near).unwrap();
        assert!(!inbox.fill() && inbox.peek::<4>().is_none() && !inbox.ended());
        far.write_all(b"abcdefghijkl").unwrap();
        while !inbox.fill() {}
        assert_eq!(
            (inbox.bytes(), inbox.peek::<4>()),
            (&b"abcdefgh"[..], Some(*b"abcd"))
        );
        inbox.consume(4);
        drop(far);
        while !inbox.ended() {
            inbox.fill();
            inbox.consume(inbox.bytes().len().saturating_sub(4));
        }
        assert_eq!(
            inbox.bytes(),
            b"ijkl",
            "what came before the end is still there"
        );
    }
}
