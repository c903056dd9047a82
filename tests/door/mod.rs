//! An exchange that a test plays itself, byte by byte: a listener, and the connections that collectors open to it.
//!
//! Each test uses a part of this module.
#![allow(dead_code)]

use crate::support::{LONG, eventually};
use rsoracle::system::now::wall_us;
use rsoracle_proof::utc::civil;
use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use tungstenite::WebSocket;
use tungstenite::handshake::server::{Request, Response};

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

/// Takes the upgrade of a connection to a WebSocket. The answer has the time, as that of every exchange: without it, a collector
/// does not trust its own clock.
pub fn upgraded(tcp: TcpStream) -> WebSocket<TcpStream> {
    #[allow(clippy::result_large_err)]
    let dated = |_: &Request, mut response: Response| {
        let date = date().parse().expect("a header's value");
        response.headers_mut().insert("Date", date);
        Ok(response)
    };
    tungstenite::accept_hdr(tcp, dated).expect("an upgrade")
}

/// The time as a header has it, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn date() -> String {
    let s = wall_us() / 1_000_000;
    let (days, s) = (s / 86_400, s % 86_400);
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][(days % 7) as usize];
    let (year, month, day) = civil(days);
    let months = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let month = &months[3 * (month as usize - 1)..][..3];
    let (hour, minute, second) = (s / 3_600, s / 60 % 60, s % 60);
    format!("{weekday}, {day:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT")
}
