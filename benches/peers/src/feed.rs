//! Who sends the frames: over TLS, each message a record of its own, as fast as they are read.

use native_tls::{Identity, TlsAcceptor};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes, accept_with_config};

/// A connection that hands many records at once to the system.
#[derive(Debug)]
struct Wide(TcpStream, Vec<u8>);

impl Read for Wide {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Whoever reads waits for an answer to what was written.
        self.0.write_all(&self.1)?;
        self.1.clear();
        self.0.read(buffer)
    }
}

impl Write for Wide {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.extend_from_slice(bytes);
        if self.1.len() >= 64 * 1024 {
            self.0.write_all(&self.1)?;
            self.1.clear();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Serves one client after the other: what stands in the file, a message a line, its first line once, the others for ever.
pub fn role(file: &str, certificate: &str, key: &str) {
    let read = |path: &str| std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let text = String::from_utf8(read(file)).expect("text");
    let frames: Vec<Utf8Bytes> = text.lines().map(Utf8Bytes::from).collect();
    let identity = Identity::from_pkcs8(&read(certificate), &read(key)).expect("an identity");
    let acceptor = TlsAcceptor::new(identity).expect("TLS");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    println!("{}", listener.local_addr().expect("an address"));
    for tcp in listener.incoming() {
        let wide = Wide(tcp.expect("a client"), Vec::new());
        let tls = acceptor.accept(wide).expect("a client that speaks TLS");
        let config = WebSocketConfig::default().write_buffer_size(0);
        let mut ws = accept_with_config(tls, Some(config)).expect("a client");
        let (first, rest) = frames.split_first().expect("frames");
        let all = std::iter::once(first).chain(rest.iter().cycle());
        // Until the client has gone.
        for frame in all {
            if ws.send(Message::Text(frame.clone())).is_err() {
                break;
            }
        }
    }
}
