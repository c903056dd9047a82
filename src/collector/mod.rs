//! The collector: it reads the prices of one exchange's symbols by the clock, signs each with its own key, and sends them to its
//! aggregators.
//!
//! Nobody tells it when to sample: it follows the schedule in its roster. Everything slow happens before a round: the key, name
//! resolution, TCP, TLS, the WebSocket upgrade, a first price. In the round (`watch`) all requests of an instant are encrypted
//! before it and leave in one write. Of a stream, the collector takes the newest prices known at the instant.
//! Invariant: a collector signs at most one answer per feed and round start, starts strictly increase, and nothing is signed while the
//! exchange's own time contradicts this machine's clock (`exchange/offset.rs`). A child of `rsoracle run` ends when its parent
//! ends, however that died; any other collector does not end by itself.
//! Uses: exchange, keys, proof, source, system, verify, wire. Used by: cli, flags, main, roster.

mod charge;
mod complaints;
mod control;
pub mod limits;
mod mark;
mod present;
mod rest;
pub mod rosters;
pub mod sampler;
pub mod settings;
mod tether;
mod ties;
mod uplink;
mod watch;

pub use charge::sources_of;

use crate::collector::limits::*;
use crate::collector::settings::{Charge, Collect};
use crate::exchange::offset::Offset;
use crate::exchange::roots::{self, Roots};
use crate::exchange::session::{ExchangeSession, SessionPlan};
use crate::exchange::tunnel;
use crate::exchange::{self, Pace, Said};
use crate::source::Source;
use crate::system::clock::Anchor;
use crate::system::net::Patience;
use crate::system::now::{sharpen_sleeps, wall_us};
use crate::system::span::span;
use crate::system::stream;
use crate::system::wait::{Clock, SystemClock};
use mark::Mark;
use rosters::Task;
use rsoracle_proof::utc::utc_text;
use rsoracle_verify::error::Error;
use std::rc::Rc;
use std::time::{Duration, Instant};
use ties::Ties;

/// Most exchange messages that are read before the collector turns to anything else.
const MESSAGES_PER_LOOK: usize = 64;

/// A collector at work.
struct Collector<'a> {
    config: &'a Collect,
    role: String,
    ties: Ties,
    mark: Option<Mark>,
    /// When it ends, since another roster counts from then on.
    until_us: Option<u64>,
    /// When the last earlier roster with a slot for this key is over; `None` if there is none.
    earlier_us: Option<u64>,
    session: ExchangeSession<'a>,
    /// Consecutive attempts to connect that a round interrupted.
    cut_short: u32,
    clock: SystemClock,
    /// Both clocks when they were last compared.
    anchor: Anchor,
    /// Whether this machine's clock agreed with the exchange's then; `None` while that was unknown.
    agrees: Option<bool>,
    /// When the exchange was asked last, in microseconds since the Unix epoch.
    asked_us: u64,
    /// The round that comes next, as far as was known when it was looked for last.
    expected: Option<(Rc<Task>, u64)>,
    /// The start that the mark was moved for last.
    marked_us: u64,
    /// Whether this machine's clock was trusted for the first time.
    begun: bool,
    /// The number of the roster of the next round, once that was logged.
    told: Option<u64>,
}

/// How long before a roster counts a collector turns to it, in microseconds, if no round is left by the one before.
const TURN_EARLY_US: u64 = 1_000_000;

/// Runs one collector: until its parent ends, until the key has no slot in the roster that counts, or for ever.
pub fn run(config: &Collect) -> Result<(), Error> {
    // Before anything is read or opened.
    if uses_tls(config) {
        roots::defer();
    }
    sharpen_sleeps();
    let (mut since_us, mut floor_us, mut told) = (wall_us(), None, None);
    while let Some(charged) = charge::take(config, since_us, floor_us)? {
        let mut clock = SystemClock::new();
        let mut collector = Collector {
            config,
            role: config.role(),
            ties: charged.ties,
            mark: charged.mark,
            until_us: charged.until_us,
            earlier_us: charged.earlier_us,
            session: ExchangeSession::new(plan(config, &charged.sources)?),
            cut_short: 0,
            anchor: Anchor(clock.now()),
            // Nothing is told at a start if it does.
            agrees: Some(true),
            clock,
            asked_us: 0,
            expected: None,
            marked_us: 0,
            begun: false,
            told,
        };
        match collector.serve() {
            Err(_) if collector.ties.is_over() => return Ok(()),
            served => served?,
        }
        if collector.is_early() {
            // This machine's clock was ahead. What was signed is known by the mark.
            (since_us, floor_us) = (collector.anchor.0.wall_us, None);
            continue;
        }
        since_us = since_us.max(charged.until_us.unwrap_or(u64::MAX));
        floor_us = Some(collector.ties.rosters.floor_us());
        told = collector.told;
    }
    if let Some(number) = config.charge.roster_at(since_us) {
        let text = format!("roster {number} has no slot for this key: ending");
        stream::say(&config.role(), text);
    }
    Ok(())
}

/// Whether an exchange may be reached by TLS. A collector by hand does not know its source yet.
fn uses_tls(config: &Collect) -> bool {
    match (&config.charge, &config.endpoint) {
        (Charge::Tether { sources, .. }, endpoint) => {
            let endpoints = exchange::endpoints(&sources[0], endpoint.as_ref());
            endpoints.iter().any(|endpoint| endpoint.tls)
        }
        (Charge::Roster { .. }, endpoint) => endpoint.as_ref().is_none_or(|endpoint| endpoint.tls),
    }
}

/// The plan of this collector's exchange session: endpoints, certificates, proxies and pace.
fn plan<'a>(config: &Collect, sources: &'a [Source]) -> Result<SessionPlan<'a>, Error> {
    // All are of one kind.
    let source = &sources[0];
    let attempt = || format!("cannot reach the exchange of {}", source.name);
    let fits = source.check_endpoint(config.endpoint.is_some());
    fits.map_err(|why| Error::new(attempt(), why))?;
    let endpoints = exchange::endpoints(source, config.endpoint.as_ref());
    let tls = if endpoints.iter().any(|endpoint| endpoint.tls) {
        Some(Roots::find(config.ca_file.as_deref())?.trust()?)
    } else {
        None
    };
    Ok(SessionPlan {
        sources,
        endpoints,
        tls,
        proxies: tunnel::proxies(config.proxy.as_ref())?,
        pace: pace(config, source),
    })
}

/// The exchange's usual pace, with the operator's overrides.
fn pace(config: &Collect, source: &Source) -> Pace {
    let (pace, overrides) = (Pace::of(source), &config.overrides);
    Pace {
        max_age: overrides.max_age.unwrap_or(pace.max_age),
        max_silence: overrides.max_silence.unwrap_or(pace.max_silence),
        ping_every: overrides.ping_every.unwrap_or(pace.ping_every),
        ..pace
    }
}

impl Collector<'_> {
    /// Gets ready, then waits for rounds and takes part in them.
    fn serve(&mut self) -> Result<(), Error> {
        self.first_price()?;
        loop {
            if self.is_over(0) && self.session.first_prices().iter().all(Option::is_none) {
                return Ok(());
            }
            self.ties.look()?;
            let more = self.keep_link();
            self.ties.connect(None);
            let trusted = self.trusts_clock();
            if trusted && self.is_early() {
                return Ok(());
            }
            // The reading that is trusted: the clock may have been set since.
            let now_us = self.anchor.0.wall_us;
            if trusted && !std::mem::replace(&mut self.begun, true) {
                // A process that had the key before this one signed for earlier starts only. A fresh key was in no other process.
                if self.config.key.is_some() && self.ties.rosters.floor_us() < now_us {
                    self.ties.rosters.begin(now_us);
                }
            }
            let priced = self.tell_prices();
            let next = self.ties.rosters.next(now_us).filter(|_| trusted);
            match &next {
                Some((task, _)) => self.ties.turn_to(task),
                None if trusted && self.is_over(TURN_EARLY_US) => return Ok(()),
                None => {}
            }
            self.compare(next.as_ref(), now_us);
            let left_us = next
                .as_ref()
                .map_or(u64::MAX, |(_, start_us)| start_us.saturating_sub(now_us));
            match next {
                // The disk may take its time now. Whether it worked is told when the round begins.
                Some((task, start_us))
                    if left_us <= MARK_EARLY_US && self.marked_us != start_us =>
                {
                    self.marked_us = start_us;
                    let _ = self.move_mark(&task, start_us);
                }
                Some((task, start_us)) if left_us <= ROUND_LEAD_US => {
                    self.take_part(&task, start_us)?;
                }
                _ if more => {}
                _ => {
                    let nap_us = left_us.saturating_sub(ROUND_LEAD_US);
                    let most_us = if priced { SLICE_MS * 500 } else { 5_000 };
                    let nap_us = nap_us.clamp(1_000, most_us);
                    self.ties.wait(Duration::from_micros(nap_us))?;
                }
            }
        }
    }

    /// Whether an earlier roster than this session's still counts, by a clock that is trusted.
    fn is_early(&self) -> bool {
        let now_us = self.anchor.0.wall_us;
        self.agrees == Some(true)
            && self
                .earlier_us
                .is_some_and(|until_us| now_us + 2 * TURN_EARLY_US < until_us)
    }

    /// Whether another roster counts that is not for this session with an exchange: from now on, or `early_us` later.
    fn is_over(&self, early_us: u64) -> bool {
        let is_over = |until_us| wall_us() + early_us >= until_us;
        self.until_us.is_some_and(is_over)
    }

    /// Connects to the exchange and reads until there is a price. Retries after a transient failure. Any other failure is
    /// returned, unless this collector stays: a successor would not know the pauses that the exchange asked for. Meanwhile,
    /// aggregators are connected to. Ends without a price if another roster counts.
    fn first_price(&mut self) -> Result<(), Error> {
        while !self.is_over(0) {
            if self.session.is_open() && self.session.offset.agrees() == Some(false) {
                self.keep_link();
                self.trusts_clock();
                self.ties.wait(Duration::from_millis(SLICE_MS))?;
            }
            let ties = &mut self.ties;
            let mut look = || {
                ties.look()?;
                ties.connect(None);
                Ok(())
            };
            look()?;
            let left = self
                .session
                .retry_at()
                .saturating_duration_since(Instant::now());
            if !left.is_zero() {
                self.ties.wait(left.min(Duration::from_millis(SLICE_MS)))?;
                continue;
            }
            let error = match self.session.first_price(&mut look) {
                Ok(()) => return Ok(()),
                Err(_) if self.session.is_open() && self.session.offset.agrees() == Some(false) => {
                    continue;
                }
                Err(error) if error.passing || self.config.stay => error,
                Err(error) => return Err(error),
            };
            self.session.lose();
            self.ties.complaints.add(format!("{error}; trying again"));
        }
        Ok(())
    }

    /// Tells the aggregators the first prices. As long as there is no roster, it waits for those of all symbols, but not for long.
    /// Returns whether it waits for none.
    fn tell_prices(&mut self) -> bool {
        let prices = self.session.first_prices();
        let patience = Duration::from_millis(FIRST_PRICE_MS_MAX);
        let due = self.ties.rosters.newest().is_some()
            || prices.iter().all(Option::is_some)
            || self.session.opened_at().elapsed() >= patience;
        if due && self.begun {
            self.ties.present.price(prices);
        }
        due
    }

    /// Whether this machine's clock can be trusted: the exchange's own time has agreed with it since it last diverged from the
    /// monotonic clock. Logs when that changes.
    fn trusts_clock(&mut self) -> bool {
        let now = self.clock.now();
        if self.anchor.moved(now) {
            // The next connection shows the exchange's time anew.
            self.session.lose();
            self.session.offset = Offset::default();
            self.ties.complaints.renew();
        }
        self.anchor = Anchor(now);
        let agrees = self.session.offset.agrees();
        if std::mem::replace(&mut self.agrees, agrees) != agrees {
            self.ties.complaints.add(self.session.offset.remark());
        }
        agrees == Some(true)
    }

    /// Logs if the expected round never began, or if the clock was set back.
    fn compare(&mut self, next: Option<&(Rc<Task>, u64)>, now_us: u64) {
        let expected = std::mem::replace(&mut self.expected, next.cloned());
        let floor_us = self.ties.rosters.floor_us();
        let Some((task, start_us)) = next else {
            return;
        };
        self.tell_roster(*start_us);
        if expected.is_some_and(|(old, us)| old == *task && us < *start_us && floor_us <= us) {
            let text = "missed a round: it was over before this collector turned to it; this machine was busy or suspended, its clock was set, or connecting to the exchange took too long";
            self.ties.complaints.add(text.to_owned());
        }
        if floor_us > now_us + 2 * MARK_AHEAD_US {
            let left = span(start_us.saturating_sub(now_us));
            let text = format!(
                "the clock is behind what this key has signed already; the next round begins in {left}"
            );
            self.ties.complaints.add(text);
        }
    }

    /// Logs the first round, and when another roster counts, so that waiting is no riddle. A child's parent says what it does.
    fn tell_roster(&mut self, start_us: u64) {
        let number = self.config.charge.roster_at(start_us);
        let time = utc_text(start_us);
        let text = match (self.told, number) {
            (None, Some(_)) => format!("first round at {time}"),
            (Some(old), Some(new)) if old != new => {
                format!("roster {new} counts from now on, first for the round at {time}")
            }
            _ => return,
        };
        self.told = number;
        self.ties.complaints.tell(&text);
    }

    /// Moves the mark, if this collector has one, so that it covers a start.
    fn move_mark(&mut self, task: &Task, start_us: u64) -> Result<(), Error> {
        let mark = self.mark.as_mut();
        mark.map_or(Ok(()), |mark| mark.cover(&task.digests(), start_us))
    }

    /// Takes part in a round that is about to begin, or has begun.
    fn take_part(&mut self, task: &Task, start_us: u64) -> Result<(), Error> {
        if let Err(error) = self.move_mark(task, start_us) {
            self.ties.rosters.begin(start_us);
            let text = format!("left out a round, whose answer could be signed twice: {error}");
            self.ties.complaints.add(text);
            return Ok(());
        }
        self.ties.begin(task, start_us);
        let anchor = self.anchor;
        self.watch(task, start_us, &anchor)?;
        // The disk has the most time now. A mark far ahead would cost the next round if this process ended before; one that goes by
        // a clock that is wrong would cost many.
        let now = self.clock.now();
        if let Some((task, next_us)) = self.ties.rosters.next(now.wall_us)
            && next_us <= now.wall_us + MARK_AHEAD_US
            && !anchor.moved(now)
        {
            let _ = self.move_mark(&task, next_us);
        }
        self.renew_link();
        Ok(())
    }

    /// Called right after a round: replaces a connection that would exceed its age limit by the next round, or no longer has the
    /// prices of one symbol.
    fn renew_link(&mut self) {
        let now_us = wall_us();
        let next = self.ties.rosters.next(now_us);
        let left_us = next.map_or(0, |(_, start_us)| start_us.saturating_sub(now_us));
        let age = self.session.opened_at().elapsed() + Duration::from_micros(left_us);
        let silent = self.session.fell_silent();
        let due = self.session.is_open() && (age >= self.age_max() || silent.is_some());
        if due && Instant::now() >= self.session.retry_at() {
            if let Some(symbol) = silent {
                let text = format!(
                    "the exchange no longer sends prices of {symbol}; opening a new connection"
                );
                self.ties.complaints.about("", symbol, text);
            }
            // The old connection serves until the new one is open.
            self.connect_between_rounds();
        }
    }

    /// The age at which this slot replaces its connection to the exchange. It differs from slot to slot, so that neighbouring
    /// collectors do not reconnect at the same time.
    fn age_max(&self) -> Duration {
        let steps = u64::from(self.ties.present.slot) % CONNECTION_AGES;
        let age_us = self.config.connection_age_us;
        Duration::from_micros(age_us - age_us / CONNECTION_AGE_STEP * steps)
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
        let (symbol, text) = match said {
            Said::Fault {
                symbol, miss, text, ..
            } => (symbol, format!("sent no price: {miss}: {text}")),
            Said::Refusal(refusal) if self.session.is_open() => {
                (&refusal.symbol, format!("refused: {}", refusal.text))
            }
            Said::Refusal(refusal) => (
                &refusal.symbol,
                format!("refused: {}; reconnecting", refusal.text),
            ),
            _ => return,
        };
        let several = self.ties.sources.len() > 1;
        let about = symbol.filter(|_| several).map(|at| &self.ties.sources[at]);
        let (about, market) = match about {
            Some(source) => (format!("{source}: "), ties::market(source)),
            None => (String::new(), ""),
        };
        let text = format!("the exchange {text}");
        self.ties.complaints.about(&about, market, text);
    }

    /// Tries to connect until the next round begins. If there is no connection and rounds have interrupted
    /// [`CUT_SHORT_MAX`] attempts, the next attempt is not interrupted, and rounds are missed: they may follow each other
    /// faster than a connection can be opened.
    fn connect_between_rounds(&mut self) {
        let rounds_wait = !self.session.is_open() && self.cut_short >= CUT_SHORT_MAX;
        let lead_us = (!rounds_wait).then_some(QUIET_US);
        let ties = &mut self.ties;
        let until = Instant::now() + ties.left(lead_us);
        let connected = match ties.look_before_round(lead_us) {
            Ok(()) => self
                .session
                .connect(until, &mut || ties.look_before_round(lead_us)),
            interrupted => interrupted,
        };
        match connected {
            Ok(()) => {
                self.cut_short = 0;
            }
            Err(_) if ties.is_over() => {}
            Err(_) if ties.left(lead_us).is_zero() => self.cut_short += 1,
            Err(error) => {
                self.cut_short = 0;
                self.ties.complaints.add(error.to_string());
            }
        }
    }
}
