//! The embedded exchange: a websocket server that speaks as each of the exchanges does that can be watched, from recorded
//! trades, and misbehaves on request. Binance's WS-API is at `/ws-api/v3`, the stream of a kind of source at its name.
//!
//! Invariant: one thread, no blocking call but the nap between two sweeps; whatever a client sends, the others are
//! served. Prices are recorded ones and say so: this is for trials and tests, and its source is called `embedded`.
//! What this role does not do: other methods of the WS-API than `ticker.price`, `ticker.book`, `ping` and `time`, other
//! channels of the streams than collectors use; enforce rate limits; close connections after 24 hours.
//! Uses: exchange, flags, proof, system, verify. Used by: main.

pub mod binance;
pub mod connection;
pub mod dialect;
pub mod fault;
pub(crate) mod line;
pub mod quote;
pub mod server;
pub(crate) mod stream;
pub mod talk;
pub mod tape;
mod text;
pub mod upgrade;
pub mod venue;

use crate::flags::args::{Given, Usage, wrong};
use crate::system::net::waits;
use fault::Fault;
use rsoracle_verify::duration::duration_us;
use rsoracle_verify::error::Error;
use rsoracle_verify::log;
use server::Server;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use venue::Now;

/// Fastest that a tape can be played.
const SPEED_MAX: f64 = 1e6;
/// Longest that `--poll` can be.
const POLL_US_MAX: u64 = 1_000_000;
/// Shortest and longest that `--keep-alive` can be.
const KEEP_ALIVE_US: RangeInclusive<u64> = 1_000..=86_400_000_000;
/// Most that `--rate` can be.
const RATE_MAX: u64 = 1_000_000;
/// The first nap when nothing happened in a sweep; it doubles until `--poll`.
const NAP_US_MIN: u64 = 100;

/// What `rsoracle exchange` is to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen, port 0 for any.
    pub listen: SocketAddr,
    /// The file of the price tape, if not the built-in one.
    pub tape: Option<String>,
    /// How many times faster than recorded the tape runs.
    pub speed: f64,
    /// What stands for every period and, threefold, for every limit of the dialects' keeping alive.
    pub keep_alive_us: Option<u64>,
    /// How many prices a stream tells in a second, if not as they come.
    pub rate: Option<u64>,
    /// How to misbehave.
    pub faults: Vec<Fault>,
    /// The files of certificate chain and private key, for TLS.
    pub tls: Option<(String, String)>,
    /// How far its clock is ahead, in microseconds.
    pub clock_offset_us: i64,
    /// Longest nap between two sweeps; 0 for none.
    pub poll_us: u64,
    /// Whether to end when standard input does.
    pub until_eof: bool,
}

impl Settings {
    /// Makes sense of the flags of [`crate::flags::tables::EXCHANGE`].
    pub fn from_flags(given: &Given) -> Result<Settings, Usage> {
        const SPEED: &str = "a number above 0 and up to 1000000, such as 1 or 0.5";
        let speed: f64 = given.read("speed", SPEED)?;
        if !(speed > 0.0 && speed <= SPEED_MAX) {
            return Err(wrong("speed", given.required("speed")?, SPEED));
        }
        let tls = match (given.text("cert"), given.text("key")) {
            (Some(cert), Some(key)) => Some((cert.to_owned(), key.to_owned())),
            (None, None) => None,
            (Some(_), None) => {
                return Err(Usage("--cert needs --key FILE, its private key".into()));
            }
            (None, Some(_)) => {
                return Err(Usage("--key needs --cert FILE, its certificate".into()));
            }
        };
        Ok(Settings {
            listen: given.address("listen")?,
            tape: given.text("tape").map(str::to_owned),
            speed,
            keep_alive_us: optional(given, "keep-alive", |name| {
                given.duration_us(name, KEEP_ALIVE_US)
            })?,
            rate: optional(given, "rate", |name| given.number(name, 1..=RATE_MAX))?,
            faults: given
                .all("fault")
                .map(Fault::parse)
                .collect::<Result<_, _>>()?,
            tls,
            clock_offset_us: clock_offset_us(given)?,
            poll_us: given.duration_us("poll", 0..=POLL_US_MAX)?,
            until_eof: given.has("until-eof"),
        })
    }
}

/// `3s`, or `-3s` for a clock that is behind.
fn clock_offset_us(given: &Given) -> Result<i64, Usage> {
    let text = given.required("clock-offset")?;
    let length = text.strip_prefix('-').unwrap_or(text);
    let us = duration_us(length).map_err(|right| wrong("clock-offset", text, right))?;
    let us = i64::try_from(us).unwrap_or(i64::MAX);
    Ok(if length == text { us } else { -us })
}

/// The value of a flag that may be left out.
fn optional<T>(
    given: &Given,
    name: &str,
    read: impl FnOnce(&str) -> Result<T, Usage>,
) -> Result<Option<T>, Usage> {
    given.text(name).map(|_| read(name)).transpose()
}

/// Serves until standard input ends, with `--until-eof`, or else for ever.
pub fn run(settings: &Settings) -> Result<(), Error> {
    let mut lifeline = match settings.until_eof {
        true => Some(Lifeline::open()?),
        false => None,
    };
    let mut server = Server::open(settings, Now::read())?;
    // The one line on standard output: a parent that asked for any port learns it from here.
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "listening on {}", server.url())
        .and_then(|()| stdout.flush())
        .map_err(|error| Error::new("cannot write to standard output", error))?;
    if lifeline.is_none() {
        log::say(
            "exchange",
            format!("listening on {}: {}", server.url(), server.wares()),
        );
    }
    let mut nap_us = NAP_US_MIN;
    loop {
        if lifeline.as_mut().is_some_and(Lifeline::has_ended) {
            return Ok(());
        }
        if server.sweep(Now::read().ahead(settings.clock_offset_us)) {
            nap_us = NAP_US_MIN;
        } else if settings.poll_us == 0 {
            std::thread::yield_now();
        } else {
            std::thread::sleep(Duration::from_micros(nap_us.min(settings.poll_us)));
            nap_us = (nap_us * 2).min(POLL_US_MAX);
        }
    }
}

/// Standard input as a socket that a parent holds the other end of.
struct Lifeline(UnixStream);

impl Lifeline {
    fn open() -> Result<Lifeline, Error> {
        let open = || {
            let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
            // Fails on what is no Unix socket, before anything is changed: a terminal or pipe made non-blocking
            // here would be so for everyone who shares it.
            socket.local_addr()?;
            socket.set_nonblocking(true)?;
            Ok(Lifeline(socket))
        };
        open().map_err(|error: io::Error| {
            Error::new(
                "cannot watch standard input for its end (--until-eof)",
                error,
            )
            .advise("--until-eof is for a parent process that hands down a Unix socket as standard input; leave it out otherwise")
        })
    }

    /// Whether the other end is closed. What a parent might write is thrown away.
    fn has_ended(&mut self) -> bool {
        match self.0.read(&mut [0; 64]) {
            Ok(n) => n == 0,
            Err(error) => !waits(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::{args, tables};

    fn settings(line: &str) -> Result<Settings, Usage> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Settings::from_flags(&args::parse(&tables::EXCHANGE, &words).unwrap())
    }

    #[test]
    fn flags_become_settings() {
        let plain = settings("").unwrap();
        assert_eq!(plain.listen.to_string(), "127.0.0.1:9443");
        assert_eq!((plain.speed, plain.poll_us), (1.0, 2_000));
        assert!(plain.faults.is_empty() && plain.tls.is_none() && !plain.until_eof);
        let all = settings(
            "--listen [::1]:0 --tape t.csv --speed 1e6 --fault drop@2 --fault slow:1s --cert c --key k --poll 0ms --until-eof --keep-alive 50ms --rate 20000",
        )
        .unwrap();
        assert_eq!((all.faults.len(), all.poll_us, all.until_eof), (2, 0, true));
        assert_eq!((plain.keep_alive_us, plain.rate), (None, None));
        assert_eq!((all.keep_alive_us, all.rate), (Some(50_000), Some(20_000)));
        assert_eq!(all.tls, Some(("c".into(), "k".into())));
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_by_name() {
        for (line, says) in [
            ("--listen 9443", "--listen"),
            ("--speed 0", "--speed"),
            ("--speed -1", "--speed"),
            ("--speed NaN", "--speed"),
            ("--speed inf", "--speed"),
            ("--speed 1000001", "--speed"),
            ("--speed fast", "--speed"),
            ("--fault dorp", "--fault"),
            ("--cert c", "--key FILE"),
            ("--key k", "--cert FILE"),
            ("--keep-alive 0s", "--keep-alive"),
            ("--keep-alive 3", "--keep-alive"),
            ("--rate 0", "--rate"),
            ("--rate many", "--rate"),
            ("--poll 2s", "--poll"),
            ("--poll 2", "--poll"),
        ] {
            let Usage(sentence) = settings(line).unwrap_err();
            assert!(sentence.contains(says), "{line}: {sentence}");
        }
    }
}
