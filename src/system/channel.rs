//! A connection with or without TLS, for collectors and for servers.
//!
//! It only passes reads and writes on to the connection below. Handshakes are made elsewhere.

use native_tls::TlsStream;
use std::io::{self, Read, Write};

/// A connection `S`, or TLS over one.
pub enum Channel<S> {
    /// Without TLS.
    Plain(S),
    /// With TLS.
    Tls(Box<TlsStream<S>>),
}

impl<S: Read + Write> Channel<S> {
    /// The connection below.
    pub fn inner(&mut self) -> &mut S {
        match self {
            Channel::Plain(stream) => stream,
            Channel::Tls(tls) => tls.get_mut(),
        }
    }
}

impl<S: Read + Write> Read for Channel<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Channel::Plain(stream) => stream.read(buffer),
            Channel::Tls(tls) => tls.read(buffer),
        }
    }
}

impl<S: Read + Write> Write for Channel<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Channel::Plain(stream) => stream.write(bytes),
            Channel::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Channel::Plain(stream) => stream.flush(),
            Channel::Tls(tls) => tls.flush(),
        }
    }
}
