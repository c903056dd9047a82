//! [`Gate`]: a socket with deadlines, for a connection whose bytes must leave at an instant; and [`Phase`], a deadline with
//! slices.
//!
//! Invariant: no read or write waits past the current deadline, however slowly bytes arrive. (A socket's own timeout would
//! restart with every byte.) Errors that only mean "nothing yet" are recognised by [`waits`].

use crate::system::inbox::waits;
use crate::system::limits::{MESSAGE_BYTES_MAX, SLICE_MS};
use rsoracle_verify::error::Error;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::time::{Duration, Instant};

/// A callback between two slices of a wait; an error ends the wait.
pub type Look<'a> = &'a mut dyn FnMut() -> Result<(), Error>;

/// How long reads may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Not at all.
    Never,
    /// Until then.
    Until(Instant),
}

/// One phase of opening a connection, with a timeout of its own.
pub(crate) struct Phase {
    began: Instant,
    /// When it ends.
    pub(crate) until: Instant,
}

impl Phase {
    /// A phase that begins now, and lasts `ms_max` milliseconds at most, but not beyond `deadline`.
    pub(crate) fn new(deadline: Instant, ms_max: u64) -> Phase {
        let began = Instant::now();
        let until = deadline.min(began + Duration::from_millis(ms_max));
        Phase { began, until }
    }

    /// Whether its time is over.
    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// The next slice of a wait in it, after which the caller looks elsewhere.
    pub(crate) fn slice(&self) -> Patience {
        let slice = Instant::now() + Duration::from_millis(SLICE_MS);
        Patience::Until(self.until.min(slice))
    }

    /// The error when the phase has timed out: what did not come, and how long the phase could really last.
    pub(crate) fn late(&self, what: &str) -> io::Error {
        let had_ms = (self.until - self.began).as_millis();
        io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no {what} within {had_ms} ms"),
        )
    }
}

/// Bytes that one read takes from the system at most: a TLS record, and more than comes in a millisecond.
const TAKEN_BYTES: usize = 16 * 1024;

/// A TCP connection with a deadline, which can hold back what is written to it.
///
/// TLS and WebSocket frames are made while the gate is shut. [`Gate::open`] then passes all held bytes to the system in one
/// write, so that nothing is left to compute at the instant of a sample. Reads take large pieces from the
/// system, because TLS asks for each record twice: for its header and for the rest.
pub struct Gate {
    tcp: TcpStream,
    patience: Patience,
    budget: usize,
    held: Option<Vec<u8>>,
    /// Bytes taken from the system.
    taken: Vec<u8>,
    /// The part of them that has not been read yet.
    waiting: Range<usize>,
    /// The last time that a read found nothing.
    dry_at: Instant,
}

impl Gate {
    /// Takes over a connection. Reads do not wait until [`Gate::set_patience`] allows it.
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

    /// The last time that a read found nothing. All bytes read since arrived later than that.
    pub(crate) fn dry_at(&self) -> Instant {
        self.dry_at
    }

    /// Sets how long later reads and writes may wait.
    pub(crate) fn set_patience(&mut self, patience: Patience) -> io::Result<()> {
        if (patience == Patience::Never) != (self.patience == Patience::Never) {
            self.tcp.set_nonblocking(patience == Patience::Never)?;
        }
        self.patience = patience;
        Ok(())
    }

    /// Limits how many bytes later reads return in total. Then reads behave as if nothing had arrived. Without this, a codec
    /// that reads until a message is complete would never return from an endless message.
    pub(crate) fn set_budget(&mut self, bytes: usize) {
        self.budget = bytes;
    }

    /// Holds back later writes, until [`Gate::open`].
    pub(crate) fn shut(&mut self) {
        self.held.get_or_insert_with(|| Vec::with_capacity(4096));
    }

    /// Writes all held bytes, in one write if the system takes them at once, and stops holding back. After an error that only means
    /// that there was no room by the end of `patience`, what is left is still held.
    pub fn open(&mut self, patience: Patience) -> io::Result<()> {
        let Some(mut bytes) = self.held.take().filter(|bytes| !bytes.is_empty()) else {
            return Ok(());
        };
        self.set_patience(patience)?;
        let mut sent = 0;
        while sent < bytes.len() {
            match self.write(&bytes[sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    bytes.drain(..sent);
                    self.held = Some(bytes);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Takes what the system has, after waiting until the deadline at most. Returns the number of bytes.
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

    /// The time left until the deadline: `None` if reads do not wait, an error once the deadline has passed.
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
                return Err(io::Error::other(
                    "more bytes are held back than one message may have",
                ));
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
    fn a_shut_gate_holds_bytes_back_until_it_opens() {
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
        gate.open(Patience::Never).unwrap();
        far.set_nonblocking(false).unwrap();
        assert_eq!(far.read(&mut bytes).unwrap(), 12);
        assert_eq!(&bytes[..12], b"first second");
    }

    #[test]
    fn what_finds_no_room_in_time_is_still_held_and_leaves_later() {
        let (near, mut far) = pair();
        near.set_nonblocking(true).unwrap();
        let (mut flood, mut before) = (near.try_clone().unwrap(), 0);
        while let Ok(count) = flood.write(&[b'.'; 65_536]) {
            before += count;
        }
        let mut gate = Gate::new(near).unwrap();
        gate.shut();
        let held: Vec<u8> = (0..60_000u32).map(|at| at as u8).collect();
        gate.write_all(&held).unwrap();
        let soon = || Patience::Until(Instant::now() + Duration::from_millis(5));
        for patience in [Patience::Never, soon()] {
            assert!(gate.open(patience).is_err_and(|error| waits(&error)));
        }
        let mut came = vec![0; before];
        far.read_exact(&mut came).unwrap();
        far.set_nonblocking(true).unwrap();
        let mut opened = false;
        came.clear();
        while came.len() < held.len() {
            opened = opened || gate.open(soon()).is_ok();
            let mut piece = [0; 4096];
            let count = far.read(&mut piece).unwrap_or(0);
            came.extend_from_slice(&piece[..count]);
        }
        assert!(came == held && opened);
    }

    #[test]
    fn a_gate_holds_back_a_bounded_number_of_bytes() {
        let mut gate = Gate::new(pair().0).unwrap();
        gate.shut();
        assert!(gate.write_all(&vec![0; MESSAGE_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn bytes_beyond_the_budget_stay_for_later_reads() {
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
    fn small_reads_are_served_from_bytes_taken_from_the_system_at_once() {
        let (near, mut far) = pair();
        let mut gate = Gate::new(near).unwrap();
        gate.set_patience(Patience::Until(Instant::now() + Duration::from_secs(60)))
            .unwrap();
        far.write_all(b"abcdef").unwrap();
        let mut bytes = [0; 4];
        assert_eq!((gate.read(&mut bytes).unwrap(), &bytes), (4, b"abcd"));
        // The rest was taken already: reading it does not wait, and later bytes follow it.
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
    fn a_read_after_the_deadline_returns_nothing() {
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
}
