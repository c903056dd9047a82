//! A TCP connection with or without TLS, non-blocking.
//!
//! Invariant: none of its own; it passes on what the socket says.
//! What this module does not do: the TLS handshake; `connection` does.

use native_tls::TlsStream;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

/// A TCP connection, with or without TLS.
pub enum Stream {
    /// Without.
    Plain(TcpStream),
    /// With.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(stream) => stream.flush(),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}

impl Stream {
    /// Says that nothing more will be written. That the peer may be gone already is no matter.
    pub fn finish(&mut self) {
        let _ = match self {
            Stream::Plain(stream) => stream.shutdown(Shutdown::Write),
            Stream::Tls(stream) => {
                let _ = stream.shutdown();
                stream.get_ref().shutdown(Shutdown::Write)
            }
        };
    }
}

/// Whether an I/O error means: not now.
pub fn waits(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}
