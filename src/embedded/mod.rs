//! The embedded exchange: a WebSocket server for trials and tests. It imitates every supported exchange, plays recorded
//! trades, and misbehaves on request. Binance's WS-API is at `/ws-api/v3`; each stream is at the name of its kind of source.
//!
//! Invariant: one thread, and the only blocking call is the nap between two sweeps. Whatever one client sends, the others
//! are still served. A source that reads these recorded prices always has `embedded` in its name. Only bitcoin's prices were
//! recorded; those of the other bases are bitcoin's times a fixed factor each (see [`tape`]).
//! Not imitated: WS-API methods other than `ticker.price`, `ticker.book`, `ping` and `time`; channels that no collector
//! uses; rate limits; the end of each connection after 24 hours.
//! Uses: exchange, flags, proof, source, system, verify. Used by: main.

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
use crate::system::lifeline::Lifeline;
use crate::system::stream::say;
use fault::Fault;
use rsoracle_proof::duration::duration_us;
use rsoracle_verify::error::Error;
use server::Server;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;
use venue::Now;

/// Highest `--speed`: how many times faster than recorded the tape may be played.
const SPEED_MAX: f64 = 1e6;
/// Longest `--poll`, in microseconds.
const POLL_US_MAX: u64 = 1_000_000;
/// Shortest and longest `--keep-alive`, in microseconds.
const KEEP_ALIVE_US: RangeInclusive<u64> = 1_000..=86_400_000_000;
/// Highest `--rate`, in price messages per second.
const RATE_MAX: u64 = 1_000_000;
/// First nap after a sweep in which nothing happened, in microseconds. Each further nap doubles, up to `--poll`.
const NAP_US_MIN: u64 = 100;

/// The settings of `rsoracle exchange`.
#[derive(Clone, Debug)]
pub struct ExchangeSettings {
    /// The address to listen on; port 0 takes any free port.
    pub listen: SocketAddr,
    /// The file of the price tape; `None` for the built-in tape.
    pub tape: Option<String>,
    /// How many times faster than recorded the tape runs.
    pub speed: f64,
    /// Overrides every keep-alive period of the dialects; three times this overrides every keep-alive timeout.
    pub keep_alive_us: Option<u64>,
    /// Price messages per second on a stream; `None` to send each price when the tape reaches it.
    pub rate: Option<u64>,
    /// How to misbehave.
    pub faults: Vec<Fault>,
    /// The files of certificate chain and private key, for TLS.
    pub tls: Option<(String, String)>,
    /// How far the exchange's clock is ahead of this machine's, in microseconds; negative if behind.
    pub clock_offset_us: i64,
    /// Longest nap between two sweeps, in microseconds; 0 for none.
    pub poll_us: u64,
    /// Whether to exit when standard input is closed.
    pub until_eof: bool,
}

impl ExchangeSettings {
    /// Reads the flags of [`crate::flags::tables::EXCHANGE`].
    pub fn from_flags(given: &Given) -> Result<ExchangeSettings, Usage> {
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
        Ok(ExchangeSettings {
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

/// Reads `--clock-offset`: `3s` for a clock that is ahead, `-3s` for one that is behind.
fn clock_offset_us(given: &Given) -> Result<i64, Usage> {
    let text = given.required("clock-offset")?;
    let length = text.strip_prefix('-').unwrap_or(text);
    let us = duration_us(length).map_err(|right| wrong("clock-offset", text, right))?;
    let us = i64::try_from(us).unwrap_or(i64::MAX);
    Ok(if length == text { us } else { -us })
}

/// The value of an optional flag.
fn optional<T>(
    given: &Given,
    name: &str,
    read: impl FnOnce(&str) -> Result<T, Usage>,
) -> Result<Option<T>, Usage> {
    given.text(name).map(|_| read(name)).transpose()
}

/// Serves for ever or, with `--until-eof`, until standard input is closed.
pub fn run(settings: &ExchangeSettings) -> Result<(), Error> {
    let mut lifeline = match settings.until_eof {
        true => Some(Lifeline::open()?),
        false => None,
    };
    let mut server = Server::open(settings, Now::read())?;
    // The only line on standard output. A parent that asked for port 0 reads the port from it.
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "listening on {}", server.url())
        .and_then(|()| stdout.flush())
        .map_err(|error| Error::new("cannot write to standard output", error))?;
    if lifeline.is_none() {
        say(
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::{args, tables};

    fn settings(line: &str) -> Result<ExchangeSettings, Usage> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        ExchangeSettings::from_flags(&args::parse(&tables::EXCHANGE, &words).unwrap())
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
    fn invalid_settings_are_refused_by_name() {
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
