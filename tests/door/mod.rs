//! An exchange that a test plays itself, byte by byte: a listener, and the connections that collectors open to it.
//!
//! Each test uses a part of this module.
#![allow(dead_code)]

use crate::support::{LONG, eventually};
use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};

/// A listener in the place of an exchange.
pub struct Door {
    listener: TcpListener,
    /// Its endpoint, for `--endpoint`.
    pub url: String,
}

impl Door {
    /// Listens on a free port.
    pub fn open() -> Door {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("O_NONBLOCK");
        let url = format!("ws://{}/ws-api/v3", listener.local_addr().unwrap());
        Door { listener, url }
    }

    /// The next connection, if there is one.
    pub fn come(&self) -> Option<TcpStream> {
        match self.listener.accept() {
            Ok((tcp, _)) => {
                tcp.set_nonblocking(false).expect("blocking");
                tcp.set_read_timeout(Some(LONG)).expect("a limit");
                Some(tcp)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits for the next connection.
    pub fn accept(&self) -> TcpStream {
        eventually("a connection", || self.come())
    }

    /// Waits for the next connection, and reads the head of its request.
    pub fn asked(&self) -> (TcpStream, String) {
        let mut tcp = self.accept();
        let head = head(&mut tcp);
        (tcp, head)
    }
}

/// Reads the head of a request.
pub fn head(tcp: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        tcp.read_exact(&mut byte).expect("a whole head");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("a head in ASCII")
}
