//! The collector: it reads one source's price, signs it with its own key, and sends it to one aggregator.
//!
//! Everything slow happens before a round: the key, name resolution, TCP, TLS, the WebSocket upgrade, a first price. In the
//! round (`watch`) each request is encrypted before its instant and leaves in one write. Of a stream, the collector takes
//! the newest price known at the instant.
//! Invariant: a collector signs at most one answer per round start, and starts strictly increase. It ends when its control
//! connection ends, however its aggregator died.
//! Uses: exchange, keys, proof, source, system, verify, wire. Used by: aggregator, cli, flags, main.

mod complaints;
mod control;
mod data;
pub mod overrides;
pub mod sampler;
pub mod settings;
mod watch;

use crate::collector::settings::Collect;
use crate::exchange::roots::{self, Roots};
use crate::exchange::session::{ExchangeSession, SessionPlan};
use crate::exchange::tunnel;
use crate::exchange::{self, Pace, Said};
use crate::keys::file as key_file;
use crate::keys::secret::{EnrolmentSecret, SecretKey, wipe};
use crate::system::clock::Anchor;
use crate::system::clock::span;
use crate::system::endpoint::Endpoint;
use crate::system::limits::*;
use crate::system::net::Patience;
use crate::system::now::{sharpen_sleeps, wall_us};
use crate::system::stream;
use crate::system::wait::{Clock, SystemClock};
use crate::wire::Ready;
use complaints::Complaints;
use control::{Control, over_us};
use data::DataChannel;
use rsoracle_proof::record::Observation;
use rsoracle_proof::seal::{ObservationContext, PublicKey, observation_bytes, samples_digest};
use rsoracle_verify::error::Error;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Most exchange messages that are read before the collector turns to anything else.
const MESSAGES_PER_LOOK: usize = 64;

/// Why a collector stops.
enum Stop {
    /// The control connection ended, so the aggregator is gone.
    Aggregator,
    /// An error that this collector cannot recover from.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Failed(error)
    }
}

/// The credentials that admit this collector to its slot.
struct Enrolment {
    secret: EnrolmentSecret,
    aggregator: PublicKey,
}

/// A collector that is ready for rounds.
struct Collector<'a> {
    config: &'a Collect,
    role: String,
    key: SecretKey,
    control: Control,
    data: DataChannel,
    session: ExchangeSession<'a>,
    complaints: Complaints,
    /// Consecutive attempts to connect that a round interrupted.
    cut_short: u32,
    clock: SystemClock,
    /// When the exchange was asked last, in microseconds since the Unix epoch.
    asked_us: u64,
    last_start_us: u64,
}

/// Runs one collector until its aggregator ends.
pub fn run(config: &Collect) -> Result<(), Error> {
    // Before anything is read or opened.
    if endpoints(config).iter().any(|endpoint| endpoint.tls) {
        roots::defer();
    }
    let role = format!("collector {}", config.slot);
    sharpen_sleeps();
    let key = match &config.key {
        Some(path) => key_file::read(path)?,
        None => key_file::unsaved()?,
    };
    let enrolment = read_enrolment()?;
    let enlisted = enlist(config, role, key, &enrolment);
    // The enrolment is used once only: wipe its secret now.
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
    let advice = "it expects the 64 bytes of a file that 'rsoracle run --remote N --enrolment-dir DIR' writes: rsoracle collect … < DIR/slot-N.enrolment";
    // Read up to one byte more than an enrolment has, to detect a longer one. The buffer never grows, since growing would leave
    // a copy of the secret.
    let mut bytes = Vec::with_capacity(128);
    // Bypass std's buffer of standard input: it would keep the secret for as long as the process lives.
    let stdin = std::io::stdin().as_fd().try_clone_to_owned();
    let read = stdin.and_then(|stdin| File::from(stdin).take(65).read_to_end(&mut bytes));
    let secret = bytes.first_chunk_mut().map(EnrolmentSecret::take);
    let aggregator = bytes.get(32..).and_then(|half| half.first_chunk());
    let aggregator = aggregator.and_then(PublicKey::decode);
    wipe(&mut bytes);
    let cause = match (read, secret, aggregator) {
        (Ok(64), Some(secret), Some(aggregator)) => return Ok(Enrolment { secret, aggregator }),
        (Ok(64), ..) => "its second half is not a public key".to_owned(),
        (Ok(65), ..) => "there are more than 64 bytes".to_owned(),
        (Ok(count), ..) => format!("it ended after {count} of 64 bytes"),
        (Err(error), ..) => error.to_string(),
    };
    Err(Error::new(attempt, cause).advise(advice))
}

/// Gets ready for rounds: says hello to the aggregator, connects to the exchange, reads a first price, opens the data
/// channel, and reports *ready*.
fn enlist<'a>(
    config: &'a Collect,
    role: String,
    key: SecretKey,
    enrolment: &Enrolment,
) -> Result<Collector<'a>, Stop> {
    let until = Instant::now() + Duration::from_millis(HANDSHAKE_MS_MAX);
    let mut control = Control::open(config, enrolment, &key, until)?;
    let mut session = ExchangeSession::new(plan(config)?);
    let mut complaints = Complaints::new(&role);
    let price = loop {
        let price = first_price(config, &mut session, &mut control, &mut complaints);
        let stands = control.stands();
        if control.unheard() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(RECONNECT_MS));
            control = Control::open(config, enrolment, &key, until)?;
            continue;
        }
        stands?;
        break price?;
    };
    let data = DataChannel::open(config, &key, &mut || control.look())?;
    let mut collector = Collector {
        config,
        role,
        key,
        control,
        data,
        session,
        complaints,
        cut_short: 0,
        clock: SystemClock::new(),
        asked_us: 0,
        last_start_us: 0,
    };
    let ready = Ready {
        clock_us: wall_us(),
        price,
    };
    collector.control.send(&ready.encode())?;
    Ok(collector)
}

/// The endpoints of this collector's exchange.
fn endpoints(config: &Collect) -> Vec<Endpoint> {
    exchange::endpoints(&config.source, config.endpoint.as_ref())
}

/// The plan of this collector's exchange session: endpoints, certificates, proxies and pace.
fn plan(config: &Collect) -> Result<SessionPlan<'_>, Error> {
    let endpoints = endpoints(config);
    let tls = if endpoints.iter().any(|endpoint| endpoint.tls) {
        Some(Roots::find(config.ca_file.as_deref())?.trust()?)
    } else {
        None
    };
    Ok(SessionPlan {
        source: &config.source,
        endpoints,
        tls,
        proxies: tunnel::proxies(config.proxy.as_ref())?,
        pace: pace(config),
    })
}

/// The exchange's usual pace, with the operator's overrides.
fn pace(config: &Collect) -> Pace {
    let (pace, overrides) = (Pace::of(&config.source), &config.overrides);
    Pace {
        max_age: overrides.max_age.unwrap_or(pace.max_age),
        max_silence: overrides.max_silence.unwrap_or(pace.max_silence),
        ping_every: overrides.ping_every.unwrap_or(pace.ping_every),
        ..pace
    }
}

/// Connects to the exchange and reads until there is a price. Retries after a transient failure. Any other failure is
/// returned, unless this collector stays: a successor would not know the pauses that the exchange asked for.
fn first_price(
    config: &Collect,
    session: &mut ExchangeSession,
    control: &mut Control,
    complaints: &mut Complaints,
) -> Result<f64, Stop> {
    loop {
        // Also after an attempt that an earlier control connection cut short.
        control.pause(session.retry_at().saturating_duration_since(Instant::now()))?;
        let error = match session.first_price(&mut || control.look()) {
            Ok(price) => return Ok(price),
            Err(_) if control.over() => return Err(control.stop()),
            Err(error) if error.passing || config.stay => error,
            Err(error) => return Err(error.into()),
        };
        session.lose();
        complaints.add(format!("{error}; trying again"));
    }
}

/// The age at which this slot replaces its connection to the exchange. It differs from slot to slot, so that neighbouring
/// collectors do not reconnect at the same time.
fn age_max(config: &Collect) -> Duration {
    let steps = u64::from(config.slot) % CONNECTION_AGES;
    let age_us = config.connection_age_us;
    Duration::from_micros(age_us - age_us / CONNECTION_AGE_STEP * steps)
}

impl Collector<'_> {
    /// Waits for rounds and answers them until the aggregator ends.
    fn serve(&mut self) -> Result<(), Stop> {
        loop {
            if !self.keep_link() {
                self.control.wait(Duration::from_millis(SLICE_MS / 2));
            }
            self.complaints.sum_up();
            if let Some(round) = self.control.round()? {
                let since_us = match self.last_start_us {
                    0 => 0,
                    last_us => round.start_us - last_us,
                };
                self.last_start_us = round.start_us;
                let anchor = Anchor(self.clock.now());
                if let Some(us) = over_us(&round, wall_us()) {
                    self.complaints.add(format!(
                        "missed a round: it was over before its announcement was read, by {}; this machine was busy or suspended, or its clock is ahead of the aggregator's",
                        span(us)
                    ));
                } else {
                    self.watch(&round, &anchor)?;
                    self.renew_link(Duration::from_micros(since_us));
                }
            }
        }
    }

    /// Called right after a round: replaces a connection that would exceed its age limit by the next round. `until_next` is an
    /// estimate of the time until then: the time from the previous round's start to this one's.
    fn renew_link(&mut self, until_next: Duration) {
        let age = self.session.opened_at().elapsed() + until_next;
        let due = self.session.is_open() && age >= age_max(self.config);
        if due && Instant::now() >= self.session.retry_at() {
            // The old connection serves until the new one is open.
            self.connect_between_rounds();
        }
    }

    /// Called between rounds: reads the exchange's messages, and replaces a connection that ended. Returns whether more
    /// messages may be waiting.
    fn keep_link(&mut self) -> bool {
        let mut taken = 0;
        while taken < MESSAGES_PER_LOOK {
            match self.session.hear(Patience::Never) {
                Ok(Some(said)) => {
                    self.complain_of(&said);
                    taken += 1;
                }
                Ok(None) => break,
                Err(ended) => stream::say(&self.role, ended.text),
            }
        }
        if let Err(ended) = self.session.keep_alive() {
            stream::say(&self.role, ended.text);
        }
        if !self.session.is_open() && Instant::now() >= self.session.retry_at() {
            self.connect_between_rounds();
        }
        taken == MESSAGES_PER_LOOK
    }

    /// Logs an error that the exchange sent unasked.
    fn complain_of(&mut self, said: &Said) {
        match said {
            Said::Fault { miss, text, .. } => {
                let text = format!("the exchange sent no price: {miss}: {text}");
                self.complaints.add(text);
            }
            Said::Refusal(refusal) => {
                let text = format!("the exchange refused: {}; reconnecting", refusal.text);
                self.complaints.add(text);
            }
            _ => {}
        }
    }

    /// Tries to connect until the next round begins. If there is no connection and rounds have interrupted
    /// [`CUT_SHORT_MAX`] attempts, the next attempt is not interrupted, and rounds are missed: they may follow each other
    /// faster than a connection can be opened.
    fn connect_between_rounds(&mut self) {
        let rounds_wait = !self.session.is_open() && self.cut_short >= CUT_SHORT_MAX;
        let control = &mut self.control;
        let until = Instant::now() + Duration::from_millis(OPEN_MS_MAX);
        let connected = self.session.connect(until, &mut || match rounds_wait {
            true => control.look(),
            false => control.look_for_round(),
        });
        match connected {
            Ok(()) => {
                self.cut_short = 0;
            }
            Err(_) if control.over() => {}
            Err(_) if !rounds_wait && control.round_waits() => self.cut_short += 1,
            Err(error) => {
                self.cut_short = 0;
                self.complaints.add(error.to_string());
            }
        }
    }

    /// Sends the signed answer.
    fn send_observation(&mut self, bytes: &[u8; Observation::BYTES]) -> Result<(), Error> {
        if !self.data.stands() {
            let text = "the aggregator ended the data connection, as it does after an answer that it refuses; compare --feed, --sample-rule and the clock with its own";
            self.complaints.add(text.to_owned());
        }
        let control = &mut self.control;
        self.data.send(bytes, &mut || control.look())
    }

    /// Signs the answer of a finished round.
    fn sign(
        &self,
        round: &crate::wire::RoundFrame,
        finished: &(
            Vec<rsoracle_proof::record::Record>,
            rsoracle_proof::record::Answer,
            u64,
        ),
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
