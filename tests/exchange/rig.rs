//! Runs a server and its clients in one thread: whenever a client waits, the server gets a turn.

use rsoracle::embedded::ExchangeSettings;
use rsoracle::embedded::server::Server;
use rsoracle::embedded::venue::Now;
use rsoracle::flags::{args, tables};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tungstenite::handshake::HandshakeError;
use tungstenite::{Error, Message, WebSocket};

/// Timeout of a whole test, long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// The request that a collector sends.
pub const ASK: &str =
    r#"{"id":"a1","method":"ticker.price","params":{"symbol":"BTCUSDT","symbolStatus":"TRADING"}}"#;

/// A server, its clock, and the test's deadline.
pub struct Rig {
    pub server: Server,
    pub until: Instant,
    /// The reading of the exchange's clocks, if the test has stopped them.
    pub clock: Option<Now>,
}

pub fn settings(flags: &str) -> ExchangeSettings {
    let words: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
    let given = args::parse(&tables::EXCHANGE, &words).unwrap();
    ExchangeSettings::from_flags(&given).unwrap()
}

pub fn blocked(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::WouldBlock
}

impl Rig {
    pub fn new(flags: &str) -> Rig {
        Rig::begun(flags, Now::read())
    }

    /// A server whose clocks stand still until the test calls [`Rig::pass`].
    pub fn stopped(flags: &str, unix_us: u64) -> Rig {
        let now = Now {
            at: Instant::now(),
            unix_us,
        };
        let mut rig = Rig::begun(flags, now);
        rig.clock = Some(now);
        rig
    }

    fn begun(flags: &str, now: Now) -> Rig {
        let settings = settings(&format!("--listen 127.0.0.1:0 {flags}"));
        Rig {
            server: Server::open(&settings, now).unwrap(),
            until: Instant::now() + PATIENCE,
            clock: None,
        }
    }

    /// Advances the stopped clocks.
    pub fn pass(&mut self, ms: u64) {
        let now = self.clock.as_mut().expect("the clocks are stopped");
        now.at += Duration::from_millis(ms);
        now.unix_us += ms * 1_000;
    }

    /// Lets the server make one sweep. A test that has passed its deadline fails here.
    pub fn turn(&mut self) {
        assert!(Instant::now() < self.until, "the test timed out");
        let now = self.clock.unwrap_or_else(Now::read);
        if !self.server.sweep(now) {
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    pub fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.address()).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    }

    pub fn open<S: Read + Write>(&mut self, stream: S, path: &str) -> Result<WebSocket<S>, Error> {
        let url = format!("ws://localhost{path}");
        let mut shaken = tungstenite::client(url, stream);
        loop {
            match shaken {
                Ok((ws, _)) => return Ok(ws),
                Err(HandshakeError::Failure(error)) => return Err(error),
                Err(HandshakeError::Interrupted(mid)) => {
                    self.turn();
                    shaken = mid.handshake();
                }
            }
        }
    }

    pub fn client(&mut self) -> WebSocket<TcpStream> {
        self.at("/ws-api/v3")
    }

    pub fn at(&mut self, path: &str) -> WebSocket<TcpStream> {
        let stream = self.tcp();
        self.open(stream, path).unwrap()
    }

    pub fn send<S: Read + Write>(&mut self, ws: &mut WebSocket<S>, text: &str) {
        ws.send(Message::text(text)).unwrap();
    }

    pub fn next<S: Read + Write>(&mut self, ws: &mut WebSocket<S>) -> Result<Message, Error> {
        loop {
            match ws.read() {
                Err(Error::Io(error)) if blocked(&error) => self.turn(),
                other => return other,
            }
        }
    }

    pub fn ask<S: Read + Write>(&mut self, ws: &mut WebSocket<S>, text: &str) -> String {
        self.send(ws, text);
        self.text(ws)
    }

    /// The next message, which must be text.
    pub fn text<S: Read + Write>(&mut self, ws: &mut WebSocket<S>) -> String {
        match self.next(ws) {
            Ok(Message::Text(text)) => text.as_str().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    /// Asserts that nothing comes, even after several turns of the server.
    pub fn silence<S: Read + Write>(&mut self, ws: &mut WebSocket<S>) {
        for _ in 0..5 {
            self.turn();
            match ws.read() {
                Err(Error::Io(error)) if blocked(&error) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Asserts that the server closes the connection.
    pub fn closed<S: Read + Write>(&mut self, ws: &mut WebSocket<S>) {
        match self.next(ws) {
            Ok(Message::Close(Some(_))) | Err(_) => {}
            other => panic!("{other:?}"),
        }
        assert!(self.next(ws).is_err());
    }

    /// Sends a request and returns everything that comes until the server closes the connection.
    pub fn http(&mut self, request: &[u8]) -> String {
        let mut stream = self.tcp();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return String::from_utf8(answer).unwrap(),
                Ok(n) => answer.extend_from_slice(&buffer[..n]),
                Err(error) if blocked(&error) => self.turn(),
                Err(error) => panic!("{error}; so far {answer:?}"),
            }
        }
    }
}

pub fn upgrade(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}
