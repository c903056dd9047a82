//! The collector: one source, one key, one aggregator. It parses the outside world, and signs.
//!
//! Everything slow happens before a round: the key, name resolution, TCP, TLS, upgrade, a first price. In the round
//! (`watch`) each request is encrypted before its instant and leaves in one write.
//! Invariant: it signs at most one answer per round start, and starts strictly increase; it ends when its control
//! connection does, however its aggregator died. What this module does not do: decide what a price is worth.

mod control;
mod watch;

use crate::clock::Anchor;
use crate::config::Collect;
use crate::error::Error;
use crate::exchange::link::{self, Link};
use crate::exchange::roots::Roots;
use crate::exchange::tunnel;
use crate::exchange::{self, Denial, Refusal, Said, Topic, Way};
use crate::frame::{Observation, Preamble, Ready};
use crate::keyfile;
use crate::limits::*;
use crate::log;
use crate::net::Patience;
use crate::proxy::Proxies;
use crate::random;
use crate::seal::{
    EnrolmentSecret, ObservationContext, PublicKey, SecretKey, observation_bytes, samples_digest,
    wipe,
};
use crate::wait::{Clock, SystemClock, sharpen_sleeps, wall_us};
use control::{Control, is_over, reach};
use native_tls::TlsConnector;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Bytes of an enrolment: the one-time secret, then the aggregator's public key.
pub const ENROLMENT_BYTES: usize = 64;

/// Why a collector stops.
enum Stop {
    /// The aggregator has ended, and with it this collector's work.
    Aggregator,
    /// Something that this collector cannot recover from.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Failed(error)
    }
}

/// What lets this collector into its slot.
struct Enrolment {
    secret: EnrolmentSecret,
    aggregator: PublicKey,
}

/// A collector that has been let in.
struct Collector<'a> {
    config: &'a Collect,
    role: String,
    key: SecretKey,
    control: Control,
    data: Option<TcpStream>,
    exchange: Exchange<'a>,
    clock: SystemClock,
    last_start_us: u64,
}

/// The way to the exchange, whether a connection stands or not.
struct Exchange<'a> {
    config: &'a Collect,
    endpoint: crate::config::Endpoint,
    tls: Option<TlsConnector>,
    proxies: Proxies,
    link: Option<Link>,
    /// Not before then is the next attempt to connect made.
    retry_at: Instant,
    /// The exchange wants no request before then: milliseconds since the Unix epoch.
    quiet_until_ms: u64,
    /// When the connection was opened.
    opened_at: Instant,
    /// When it last said anything, or the connection was opened.
    heard_at: Instant,
    /// What was last said about failed attempts, so that it is said once.
    said: String,
}

/// Runs one collector until its aggregator ends.
pub fn run(config: &Collect) -> Result<(), Error> {
    let role = format!("collector {}", config.slot);
    sharpen_sleeps();
    let key = match &config.key {
        Some(path) => keyfile::read(path)?,
        None => random::key()?,
    };
    let enrolment = read_enrolment()?;
    let enlisted = enlist(config, role, key, &enrolment);
    // Its one use is over.
    drop(enrolment);
    let outcome = enlisted.and_then(|mut collector| collector.serve());
    match outcome {
        Ok(()) | Err(Stop::Aggregator) => Ok(()),
        Err(Stop::Failed(error)) => Err(error),
    }
}

/// Reads the enrolment from standard input.
fn read_enrolment() -> Result<Enrolment, Error> {
    let attempt = "cannot read the enrolment from standard input";
    let advice = "it takes 64 bytes, as 'rsoracle run --remote N --enrolment-dir DIR' writes them: rsoracle collect … < DIR/slot-N.enrolment";
    let mut secret = [0u8; 32];
    let mut key = [0u8; 32];
    // Past std's own buffer, which would keep the secret for as long as the process lives.
    let read = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .and_then(|stdin| {
            let mut stdin = File::from(stdin);
            stdin.read_exact(&mut secret)?;
            stdin.read_exact(&mut key)
        });
    let aggregator = PublicKey::decode(&key);
    let taken = EnrolmentSecret::take(&mut secret);
    wipe(&mut secret);
    read.map_err(|error| Error::new(attempt, error).advise(advice))?;
    match aggregator {
        Some(aggregator) => Ok(Enrolment {
            secret: taken,
            aggregator,
        }),
        None => Err(Error::new(attempt, "its second half is no public key").advise(advice)),
    }
}

/// Gets ready: says hello, reaches the exchange, reads a first price, opens the data channel, and says so.
fn enlist<'a>(
    config: &'a Collect,
    role: String,
    key: SecretKey,
    enrolment: &Enrolment,
) -> Result<Collector<'a>, Stop> {
    let until = Instant::now() + Duration::from_millis(HANDSHAKE_MS_MAX);
    let mut control = Control::open(config, enrolment, &key, until)?;
    let mut exchange = Exchange::new(config)?;
    let price = loop {
        let price = exchange.first_price(&role, &mut control);
        let stands = control.stands();
        if control.crowded() && Instant::now() < until {
            control = Control::open(config, enrolment, &key, until)?;
            continue;
        }
        stands?;
        break price?;
    };
    let mut collector = Collector {
        config,
        role,
        key,
        control,
        data: None,
        exchange,
        clock: SystemClock::new(),
        last_start_us: 0,
    };
    collector.open_data()?;
    let ready = Ready {
        clock_us: wall_us(),
        price,
    };
    collector.control.send(&ready.encode())?;
    Ok(collector)
}

impl<'a> Exchange<'a> {
    fn new(config: &'a Collect) -> Result<Exchange<'a>, Error> {
        let known = config
            .endpoint
            .clone()
            .or_else(|| crate::exchange::endpoint(&config.source));
        let endpoint =
            known.expect("the configuration names an endpoint where the source has none");
        let tls = if endpoint.tls {
            Some(Roots::find(config.ca_file.as_deref())?.connector()?)
        } else {
            None
        };
        Ok(Exchange {
            config,
            endpoint,
            tls,
            proxies: tunnel::proxies(config.proxy.as_ref())?,
            link: None,
            retry_at: Instant::now(),
            quiet_until_ms: 0,
            opened_at: Instant::now(),
            heard_at: Instant::now(),
            said: String::new(),
        })
    }

    /// Opens a new connection, and then gives up the old one, if there still is one.
    fn connect(&mut self, deadline: Instant, look: link::Look) -> Result<(), Error> {
        let (tls, proxies) = (self.tls.as_ref(), &self.proxies);
        let link = Link::open(&self.endpoint, tls, proxies, deadline, look)?;
        self.link = Some(link);
        self.opened_at = Instant::now();
        self.heard_at = self.opened_at;
        self.said.clear();
        Ok(())
    }

    /// The exchange wants nothing from this address before then, no new connection either.
    fn stay_away(&mut self, until_ms: u64) {
        self.quiet_until_ms = until_ms;
        let ms = until_ms.saturating_sub(wall_us() / 1_000);
        self.retry_at = Instant::now() + Duration::from_millis(ms.min(RETRY_AFTER_MS_MAX));
    }

    /// Logs why an attempt failed, unless the last one failed just so.
    fn complain(&mut self, role: &str, text: String) {
        if self.said != text {
            log::say(role, &text);
            self.said = text;
        }
    }

    /// Connects and asks until there is a price; gives up on what does not pass by itself.
    fn first_price(&mut self, role: &str, control: &mut Control) -> Result<f64, Stop> {
        let mut pause = Duration::from_millis(RETRY_MS_MIN);
        loop {
            let error = match self.try_first_price(control) {
                Ok(price) => return Ok(price),
                Err(_) if control.over() => return Err(control.stop()),
                Err(error) if !error.passing => return Err(error.into()),
                Err(error) => error,
            };
            self.complain(role, format!("{error}; trying again"));
            let banned_ms = self
                .quiet_until_ms
                .saturating_sub(wall_us() / 1_000)
                .min(RETRY_AFTER_MS_MAX);
            let banned = Duration::from_millis(banned_ms);
            control.pause(pause.max(banned))?;
            pause = (pause * 2).min(Duration::from_millis(RETRY_MS_MAX));
        }
    }

    fn try_first_price(&mut self, control: &mut Control) -> Result<f64, Error> {
        let until = Instant::now() + Duration::from_millis(3 * HANDSHAKE_MS_MAX);
        self.connect(until, &mut || control.look())?;
        let symbol = self.config.source.symbol();
        let attempt = format!(
            "cannot get a first price of {symbol} from {}",
            self.endpoint.url
        );
        let lost = |ended: link::Ended| Error::new(&attempt, ended.text).passing();
        let link = self.link.as_mut().expect("just connected");
        let dialect = exchange::dialect(&self.config.source);
        let channel = None;
        let topic = Topic { symbol, channel };
        let Way::Poll(request) = dialect.way else {
            unreachable!("streams come next")
        };
        link.send(request("first", symbol)).map_err(lost)?;
        let until = Instant::now() + Duration::from_millis(HANDSHAKE_MS_MAX);
        loop {
            control.look()?;
            let slice = until.min(Instant::now() + Duration::from_millis(SLICE_MS));
            match link.receive(Patience::Until(slice)).map_err(lost)? {
                Some(text) => match (dialect.read)(&text, &topic) {
                    Said::Price { id, price, .. } if id.as_deref() == Some("first") => {
                        return Ok(price);
                    }
                    Said::Price { .. } => {
                        return Err(Error::new(attempt, "the reply has another id").passing());
                    }
                    Said::Alive { .. } | Said::Channel(_) => {}
                    Said::Fault { miss, text, .. } => {
                        return Err(Error::new(attempt, format!("{miss}: {text}")).passing());
                    }
                    Said::Leaving(_) => {
                        return Err(Error::new(attempt, "the exchange is about to close").passing());
                    }
                    Said::Refusal(refusal) => {
                        self.quiet_until_ms = refusal.retry_after_ms.unwrap_or(0);
                        return Err(refused(attempt, symbol, &refusal));
                    }
                },
                None if Instant::now() >= until => {
                    return Err(Error::new(attempt, "no reply").passing());
                }
                None => {}
            }
        }
    }
}

/// How old this slot's connection to the exchange may get: an age of its own, so that neighbours are not away together.
fn age_max(config: &Collect) -> Duration {
    let steps = u64::from(config.slot) % CONNECTION_AGES;
    let age_us = config.connection_age_us;
    Duration::from_micros(age_us - age_us / CONNECTION_AGE_STEP * steps)
}

/// An error object in answer to the first request: what it means and what to do.
fn refused(attempt: String, symbol: &str, refusal: &Refusal) -> Error {
    let until = refusal.retry_after_ms.map_or(String::new(), |ms| {
        let until = crate::clock::utc_text(ms.saturating_mul(1_000));
        format!("; until {until}")
    });
    let error = |cause: String| Error::new(&attempt, cause + &until);
    let text = &refusal.text;
    match refusal.denial {
        Denial::UnknownSymbol => error(format!("unknown symbol {symbol} ({text})"))
            .advise("check the spelling in --source"),
        Denial::NotTrading => error(text.clone())
            .advise("the exchange has halted this market; waiting until it trades again")
            .passing(),
        Denial::Banned => error(text.clone()).advise(
            "the exchange has banned this address for too many requests; stay away until the ban ends",
        ),
        Denial::TooMany => error(text.clone())
            .advise("too many requests from this address; waiting until the exchange allows the next")
            .passing(),
        Denial::Busy => error(text.clone()).passing(),
        Denial::Other => error(text.clone()),
    }
}

impl Collector<'_> {
    /// Waits for rounds and answers them, until the aggregator ends.
    fn serve(&mut self) -> Result<(), Stop> {
        loop {
            self.control.wait(Duration::from_millis(SLICE_MS / 2));
            if let Some(round) = self.control.round(self.last_start_us, wall_us())? {
                let since_us = match self.last_start_us {
                    0 => 0,
                    last_us => round.start_us - last_us,
                };
                self.last_start_us = round.start_us;
                let anchor = Anchor(self.clock.now());
                if is_over(&round, wall_us()) {
                    log::say(
                        &self.role,
                        "missed a round: it was over when it was read of",
                    );
                } else {
                    self.watch(&round, &anchor)?;
                    self.renew_link(Duration::from_micros(since_us));
                }
            }
            self.keep_link();
        }
    }

    /// Right behind a round: replaces a connection that the exchange would soon close for its age. The next round may be as
    /// far away as the one before was.
    fn renew_link(&mut self, until_next: Duration) {
        let age_max = age_max(self.config);
        let Collector {
            exchange,
            control,
            role,
            ..
        } = self;
        let old = exchange.opened_at.elapsed() + until_next >= age_max;
        if exchange.link.is_none() || !old || Instant::now() < exchange.retry_at {
            return;
        }
        let until = Instant::now() + Duration::from_millis(3 * HANDSHAKE_MS_MAX);
        if let Err(error) = exchange.connect(until, &mut || control.look_for_round())
            && !control.over()
            && !control.round_waits()
        {
            // The old one serves until the next try.
            exchange.retry_at = Instant::now() + Duration::from_millis(RETRY_MS_MAX);
            exchange.complain(role, error.to_string());
        }
    }

    /// Between rounds: answers pings, and replaces a connection that ended.
    fn keep_link(&mut self) {
        let Collector {
            exchange,
            control,
            role,
            ..
        } = self;
        if let Some(link) = &mut exchange.link {
            if let Err(ended) = link.receive(Patience::Never) {
                log::say(role, ended.text);
                exchange.link = None;
            }
        } else if Instant::now() >= exchange.retry_at {
            let until = Instant::now() + Duration::from_millis(3 * HANDSHAKE_MS_MAX);
            if let Err(error) = exchange.connect(until, &mut || control.look_for_round())
                && !control.over()
                && !control.round_waits()
            {
                exchange.retry_at = Instant::now() + Duration::from_millis(RETRY_MS_MAX);
                exchange.complain(role, error.to_string());
            }
        }
    }

    /// Opens the data channel and names this collector's key on it.
    fn open_data(&mut self) -> Result<(), Error> {
        let attempt = format!("cannot open the data channel to {}", self.config.data);
        let failed = |error| {
            Error::new(&attempt, error).advise("check --data, and that the aggregator runs")
        };
        let until = Instant::now() + Duration::from_millis(HANDSHAKE_MS_MAX);
        let look = || self.control.look().map_err(std::io::Error::other);
        let mut tcp = reach(&self.config.data, until, look).map_err(failed)?;
        tcp.set_nodelay(true).map_err(failed)?;
        tcp.set_write_timeout(Some(Duration::from_millis(CONNECT_SLICE_MS)))
            .map_err(failed)?;
        let preamble = Preamble {
            slot: self.config.slot,
            key: *self.key.public().bytes(),
        };
        tcp.write_all(&preamble.encode()).map_err(failed)?;
        self.data = Some(tcp);
        Ok(())
    }

    /// Whether the data channel still stands: the aggregator never sends on it, so anything to read is its end.
    fn data_stands(&mut self) -> bool {
        let Some(tcp) = &mut self.data else {
            return false;
        };
        let ended = tcp.set_nonblocking(true).is_err()
            || !tcp
                .peek(&mut [0])
                .is_err_and(|error| crate::net::waits(&error));
        !ended && tcp.set_nonblocking(false).is_ok()
    }

    /// Sends the signed answer, over a new data channel if the old one ended.
    fn send_observation(&mut self, bytes: &[u8; Observation::BYTES]) -> Result<(), Error> {
        if self.data_stands()
            && self
                .data
                .as_mut()
                .is_some_and(|tcp| tcp.write_all(bytes).is_ok())
        {
            return Ok(());
        }
        self.open_data()?;
        let tcp = self.data.as_mut().expect("just opened");
        tcp.write_all(bytes)
            .map_err(|error| Error::new("cannot send the observation", error))
    }

    /// Signs what a round came to.
    fn sign(
        &self,
        round: &crate::frame::Round,
        finished: &(Vec<crate::frame::Record>, crate::frame::Answer, u64),
    ) -> Observation {
        let (records, answer, timestamp_us) = finished;
        let context = ObservationContext {
            terms_digest: &round.terms_digest,
            slot: self.config.slot,
            feed: &self.config.feed,
            source: &self.config.source.name,
            start_us: round.start_us,
            samples: round.samples,
            interval_us: round.interval_us,
            samples_digest: &samples_digest(records),
        };
        let signature = self.key.sign(&observation_bytes(
            &context,
            answer.to_bits(),
            *timestamp_us,
        ));
        Observation {
            answer: *answer,
            timestamp_us: *timestamp_us,
            signature,
        }
    }
}
