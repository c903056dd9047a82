//! Keeps one exchange connected for months: connects, subscribes, reads messages, reconnects, and holds the newest price of
//! each symbol that is watched.
//!
//! Invariant: a connection that ended, fell silent or is about to be closed is replaced, but never faster than the exchange
//! allows. The backoff grows and is jittered, a `Retry-After` is obeyed, and an exchange that turns this address away is left
//! alone for at least ten minutes. When a connection ends, its prices are dropped, unless a new connection has replaced it.
//! A symbol that is refused, or falls silent, costs no other symbol its prices.

pub(crate) mod first;

use super::http::Unopened;
use super::link::{Ended, Link};
use super::offset::Offset;
use super::quote::{StreamPrice, Watched};
use super::roots::Trust;
use super::{Denial, Dialect, Pace, Refusal, Said, Topics, Way, dialect};
use crate::exchange::limits::*;
use crate::exchange::proxy::Proxies;
use crate::source::Source;
use crate::system::endpoint::Endpoint;
use crate::system::net::{Look, Patience};
use crate::system::now::wall_us;
use crate::system::random;
use crate::system::resolve::Addresses;
use rsoracle_proof::reason::Miss;
use rsoracle_verify::error::Error;
use std::time::{Duration, Instant};

/// What a session watches, and how.
pub struct SessionPlan<'a> {
    /// The sources whose prices it gets: at least one, all of one kind, none twice. A symbol's index is that of its source.
    pub sources: &'a [Source],
    /// The exchange's addresses, at least one. If one cannot be used, the next one is tried.
    pub endpoints: Vec<Endpoint>,
    /// The trusted certificates; required if an endpoint uses TLS.
    pub tls: Option<Trust>,
    /// Which endpoints are reached through a proxy.
    pub proxies: Proxies,
    /// Its timeouts and periods.
    pub pace: Pace,
}

/// What is known of one endpoint.
#[derive(Clone, Default)]
struct Place {
    addresses: Addresses,
    /// When it allows the next attempt to connect, if it asked for a pause.
    away_until: Option<Instant>,
}

/// The client of one exchange, whether it is connected or not.
pub struct ExchangeSession<'a> {
    plan: SessionPlan<'a>,
    dialect: &'static Dialect,
    places: Vec<Place>,
    /// Index of the endpoint that is connected, or is tried next.
    at: usize,
    link: Option<Link>,
    /// The symbols, and for each the number of its subscription, if the exchange gave one.
    symbols: Vec<&'a str>,
    channels: Vec<Option<u64>>,
    watched: Vec<Watched>,
    /// For each symbol the first price.
    first: Vec<Option<f64>>,
    /// By how much this machine's clock is off the exchange's.
    pub(crate) offset: Offset,
    /// When the connection was opened.
    opened_at: Instant,
    /// When the exchange last sent a price or an answer, or else when the connection was opened.
    spoke_at: Instant,
    pinged_at: Instant,
    /// Whether a price has come on this connection.
    proved: bool,
    /// Number of failed connections in a row.
    failures: u32,
    /// Earliest time of the next attempt to connect.
    retry_at: Instant,
    /// When the exchange allows the next request. The system clock may be set meanwhile.
    quiet_until: Instant,
}

impl<'a> ExchangeSession<'a> {
    /// A session that is not connected yet.
    pub fn new(plan: SessionPlan<'a>) -> ExchangeSession<'a> {
        let (now, count) = (Instant::now(), plan.sources.len());
        ExchangeSession {
            dialect: dialect(&plan.sources[0]),
            symbols: plan.sources.iter().map(Source::symbol).collect(),
            channels: vec![None; count],
            watched: vec![Watched::NEW; count],
            first: vec![None; count],
            places: vec![Place::default(); plan.endpoints.len()],
            plan,
            at: 0,
            link: None,
            offset: Offset::default(),
            opened_at: now,
            spoke_at: now,
            pinged_at: now,
            proved: false,
            failures: 0,
            retry_at: now,
            quiet_until: now,
        }
    }

    /// The endpoint that is connected, or is tried next.
    pub fn endpoint(&self) -> &Endpoint {
        &self.plan.endpoints[self.at]
    }

    /// The request for one price of a symbol; `None` if prices are streamed. The id ends in a hyphen and the symbol's index.
    pub fn request(&self, id: &str, symbol: usize) -> Option<String> {
        match self.dialect.way {
            Way::Poll(request) => Some(request(id, self.symbols[symbol])),
            Way::Stream(_) => None,
        }
    }

    /// Whether prices are streamed.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.dialect.way, Way::Stream(_))
    }

    /// The connection, if there is one.
    pub fn link(&mut self) -> Option<&mut Link> {
        self.link.as_mut()
    }

    /// Whether it is connected.
    pub(crate) fn is_open(&self) -> bool {
        self.link.is_some()
    }

    /// When the connection was opened.
    pub(crate) fn opened_at(&self) -> Instant {
        self.opened_at
    }

    /// Whether no price and no answer has come for so long.
    pub(crate) fn mute_for(&self, time: Duration) -> bool {
        self.spoke_at.elapsed() >= time
    }

    /// Earliest time of the next attempt to connect.
    pub fn retry_at(&self) -> Instant {
        self.retry_at
    }

    /// Whether the exchange forbids requests at `at_us`, in microseconds since the Unix epoch, or now if that has passed.
    pub(crate) fn is_quiet_at(&self, at_us: u64) -> bool {
        let ahead = Duration::from_micros(at_us.saturating_sub(wall_us()));
        self.quiet_until > Instant::now() + ahead
    }

    /// Opens a new connection, subscribes, and then drops the old connection, if there still is one. If an endpoint cannot be
    /// used, the next one is tried at once. An endpoint that asked for a pause is skipped until that pause ends.
    pub fn connect(&mut self, deadline: Instant, look: Look) -> Result<(), Error> {
        let count = self.places.len();
        let mut failed: Option<Error> = None;
        for left in (0..count).rev() {
            let (at, plan) = (self.at, &mut self.plan);
            let place = &mut self.places[at];
            let is_away = place.away_until.is_some_and(|at| Instant::now() < at);
            if !is_away || (left == 0 && failed.is_none()) {
                let (endpoint, tls) = (&plan.endpoints[at], plan.tls.as_mut());
                let addresses = &mut place.addresses;
                match Link::open(endpoint, tls, &plan.proxies, addresses, deadline, look) {
                    Ok(link) => return self.take_over(link, deadline, look),
                    Err(unopened) => {
                        let away = Duration::from_millis(away_ms(&unopened));
                        place.away_until = Some(Instant::now() + away);
                        let mut error = unopened.error;
                        error.passing |= failed.is_some_and(|before| before.passing);
                        failed = Some(error);
                    }
                }
                if look().is_err() {
                    break;
                }
                // The address was reached, but the exchange cannot be used there: try this address last.
                if place.addresses.works {
                    place.addresses.failed();
                }
            }
            self.at = (at + 1) % count;
            if failed.is_some() && Instant::now() >= deadline {
                break;
            }
        }
        self.back_off();
        let away = self.places.iter().map(|place| place.away_until).min();
        if let Some(Some(until)) = away {
            self.stay_away(until.saturating_duration_since(Instant::now()));
        }
        Err(failed.expect("the last endpoint is tried if no other one was"))
    }

    fn take_over(&mut self, mut link: Link, deadline: Instant, look: Look) -> Result<(), Error> {
        if let Way::Stream(subscribe) = self.dialect.way {
            let sent = link.send_all(subscribe(&self.symbols), deadline, look);
            sent.map_err(|ended| {
                self.back_off();
                let attempt = format!("cannot subscribe at {}", self.endpoint().url);
                Error::new(attempt, ended.text).passing()
            })?;
        }
        self.offset = Offset::new(link.ahead_us, self.symbols.len());
        self.link = Some(link);
        self.proved = false;
        self.channels.fill(None);
        let (long, several) = (self.long(), self.watched.len() > 1);
        for symbol in &mut self.watched {
            symbol.missed += u32::from(several && symbol.fell_silent(long));
            // A price counts until the new connection has a newer one.
            *symbol = Watched {
                newest: symbol.newest,
                ..symbol.anew()
            };
        }
        self.opened_at = Instant::now();
        self.spoke_at = self.opened_at;
        // The answer to a ping may have the time, or prove that the date was wrong.
        let is_due = u32::from(self.offset.agrees() != Some(true));
        let due_at = self
            .opened_at
            .checked_sub(self.plan.pace.ping_every * is_due);
        self.pinged_at = due_at.unwrap_or(self.opened_at);
        Ok(())
    }

    /// Forbids requests and new connections for this time, but for no longer than `RETRY_AFTER_MS_MAX`. A longer pause that is
    /// known already counts.
    fn stay_away(&mut self, time: Duration) {
        let until = Instant::now() + time.min(Duration::from_millis(RETRY_AFTER_MS_MAX));
        self.quiet_until = self.quiet_until.max(until);
        self.retry_at = self.retry_at.max(until);
    }

    /// Schedules the next attempt after a failed connection. The first retry comes soon, after a random delay, so that
    /// collectors that lost their connections together do not reconnect together. Later retries back off exponentially,
    /// from the exchange's minimum on.
    fn back_off(&mut self) {
        let floor_ms = self.plan.pace.pause_min.as_millis() as u64;
        let pause_ms = match self.failures {
            0 => random_ms(floor_ms.min(FIRST_RETRY_MS_MAX)),
            n => jittered((floor_ms << (n - 1).min(16)).min(RETRY_MS_MAX)),
        };
        self.failures += 1;
        let retry_at = Instant::now() + Duration::from_millis(pause_ms);
        self.retry_at = self.retry_at.max(retry_at);
    }

    /// Drops the connection and its prices, and backs off.
    pub fn lose(&mut self) {
        if self.link.take().is_none() {
            return;
        }
        let good = self.plan.pace.pause_min * GOOD_PAUSES;
        if self.proved && self.opened_at.elapsed() >= good {
            self.failures = 0;
        }
        for symbol in &mut self.watched {
            *symbol = symbol.anew();
        }
        self.back_off();
    }

    /// Reads the next message; `None` if none has come by the end of `patience`. After any error, the connection is gone.
    pub fn hear(&mut self, patience: Patience) -> Result<Option<Said>, Ended> {
        let Some(link) = &mut self.link else {
            return Ok(None);
        };
        let text = match link.receive(patience) {
            Ok(Some(text)) => text,
            Ok(None) => return Ok(None),
            Err(ended) => {
                self.lose();
                return Err(ended);
            }
        };
        let topics = Topics {
            symbols: &self.symbols,
            channels: &self.channels,
        };
        let (came_at, dry_at) = (link.heard_at(), link.dry_at());
        let said = (self.dialect.read)(text.as_str(), &topics);
        self.offset.hear(&said, wall_us());
        match &said {
            Said::Price {
                symbol,
                price,
                time_us,
                ..
            } => {
                // A price without a time may have waited to be read since there was last nothing to read.
                let since = time_us.map_or(dry_at, |_| came_at);
                self.price(*symbol, *price, *time_us, came_at, since);
            }
            Said::Channel { symbol, number } => self.channels[*symbol] = Some(*number),
            Said::Refusal(refusal) => self.refused(refusal),
            Said::Leaving(what) => {
                let (miss, text) = (Miss::Disconnected, format!("the exchange announces {what}"));
                self.lose();
                return Err(Ended { miss, text });
            }
            // The newest message about the price has none, so the price before it may no longer be true. What is about none of
            // several symbols costs none of them its price, as if it had not come.
            Said::Fault { symbol, miss, .. } => {
                if let Some(symbol) = symbol.or(self.only()) {
                    self.watched[symbol].newest = Err(*miss);
                }
                // It answers a request, and so shows that the exchange is alive. On a stream it does not.
                if !self.is_stream() {
                    self.spoke_at = Instant::now();
                }
            }
            Said::Asked(answer) => {
                let sent = self.link.as_mut().map(|link| link.send(answer.clone()));
                sent.unwrap_or(Ok(())).inspect_err(|_| self.lose())?;
            }
            Said::Alive { .. } => {}
        }
        Ok(Some(said))
    }

    /// Stores a price that was read at `came_at` and arrived at `heard_at` at the earliest. The time for parsing is neglected.
    fn price(
        &mut self,
        symbol: usize,
        price: f64,
        time_us: Option<u64>,
        came_at: Instant,
        heard_at: Instant,
    ) {
        (self.spoke_at, self.proved) = (came_at, true);
        let now_us = wall_us();
        let waited_us = came_at.duration_since(heard_at).as_micros() as u64;
        let quote = StreamPrice {
            price,
            time_us,
            heard_at,
            heard_us: now_us.saturating_sub(waited_us),
        };
        // A stale price must not keep out a newer one, even if its time, which may be nonsense, is later.
        let fresh = |session: &Self| session.newest(symbol, now_us).is_ok();
        let keeps = |before: StreamPrice| !quote.replaces(&before) && fresh(self);
        if !self.watched[symbol].newest.is_ok_and(keeps) {
            self.watched[symbol].newest = Ok(quote);
        }
        if self.first[symbol].is_none() && fresh(self) {
            self.first[symbol] = Some(price);
        }
        let long = self.long();
        self.watched[symbol].put_off = None;
        self.watched[symbol].spoke = match self.watched[symbol].spoke {
            Some([first, last]) if came_at - last < long => Some([first, came_at]),
            _ => fresh(self).then_some([came_at; 2]),
        };
    }

    /// The symbol, if there is only one: everything is about it.
    fn only(&self) -> Option<usize> {
        (self.watched.len() == 1).then_some(0)
    }

    /// Whether the exchange has refused all symbols on this connection.
    fn all_refused(&self) -> bool {
        self.watched.iter().all(|symbol| symbol.refused)
    }

    fn refused(&mut self, refusal: &Refusal) {
        self.spoke_at = Instant::now();
        // If the time is long past by this clock, yet the exchange still refuses, this clock is wrong, and the time is useless.
        let over = |until_ms: &u64| until_ms.saturating_add(RETRY_LATE_MS_MAX) < wall_us() / 1_000;
        let until_ms = refusal.retry_after_ms.filter(|until_ms| !over(until_ms));
        let away_ms = match (until_ms, refusal.denial) {
            (Some(until_ms), _) => until_ms.saturating_sub(wall_us() / 1_000),
            (None, Denial::Banned) => jittered(AWAY_MS_MIN),
            (None, Denial::TooMany) => jittered(LIMITED_MS),
            _ => 0,
        };
        self.stay_away(Duration::from_millis(away_ms));
        let about = refusal.symbol.or(self.only());
        let goes_on = match (refusal.denial, about) {
            (Denial::TooMany | Denial::Banned, _) => false,
            // Not about one of several.
            (Denial::Busy, about) if about == self.only() => false,
            (denial, Some(symbol)) => {
                let passes = matches!(denial, Denial::NotTrading | Denial::Busy);
                self.watched[symbol].refused = !passes;
                self.watched[symbol].put_off = passes.then(Instant::now);
                self.watched[symbol].newest = Err(refusal.miss());
                !self.all_refused()
            }
            // It is about one of the symbols, but the exchange does not say which. If no prices come, that shows.
            (_, None) => true,
        };
        if self.is_stream() && !goes_on {
            // No price will come on this connection.
            self.lose();
        }
    }

    /// The newest price of a symbol, if it is not stale at `now_us`, in microseconds since the Unix epoch.
    pub fn newest(&self, symbol: usize, now_us: u64) -> Result<StreamPrice, Miss> {
        let age_us_max = self.plan.pace.max_age.as_micros();
        let silent = |link: &Link| link.heard_at().elapsed() >= Duration::from_millis(SILENT_MS);
        match (self.watched[symbol].newest, &self.link) {
            (_, None) => Err(Miss::NotConnected),
            (Ok(quote), _) if u128::from(quote.age_us(now_us)) <= age_us_max => Ok(quote),
            // Not even a heartbeat.
            (_, Some(link)) if silent(link) => Err(Miss::NoReply),
            (newest, _) => newest.and(Err(Miss::Stale)),
        }
    }

    /// For each symbol the first price that was read in this session.
    pub fn first_prices(&self) -> &[Option<f64>] {
        &self.first
    }

    /// After this time without prices, a stream is reconnected.
    fn long(&self) -> Duration {
        self.plan.pace.max_age * RESUBSCRIBE_AGES
    }

    /// One of several symbols for which a new connection may be a remedy: a stream no longer has its prices, while others come.
    pub fn fell_silent(&self) -> Option<&str> {
        let long = self.long();
        let silent = |symbol: &Watched| symbol.fell_silent(long);
        let at = self.watched.iter().position(silent)?;
        (self.is_stream() && self.watched.len() > 1).then(|| self.symbols[at])
    }

    /// Sends a ping if one is due. Drops a connection on which nothing arrives any more, and a stream on which no prices do.
    pub fn keep_alive(&mut self) -> Result<(), Ended> {
        let (is_stream, is_quiet) = (self.is_stream(), self.is_quiet_at(wall_us()));
        let long = self.long();
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        let (pace, miss) = (self.plan.pace, Miss::NoReply);
        let given_up = if link.heard_at().elapsed() >= pace.max_silence {
            Some(format!("nothing has come for {:?}", pace.max_silence))
        } else if is_stream && self.spoke_at.elapsed() >= long {
            Some("the exchange no longer sends prices".to_owned())
        } else {
            None
        };
        let alive = match (given_up, self.dialect.ping) {
            (Some(text), _) => Err(Ended { miss, text }),
            (None, Some(ping)) if self.pinged_at.elapsed() >= pace.ping_every && !is_quiet => {
                self.pinged_at = Instant::now();
                link.send(ping.to_owned())
            }
            (None, _) => Ok(()),
        };
        alive.inspect_err(|_| self.lose())
    }
}

/// How long an endpoint that could not be used is left alone, in milliseconds, apart from the backoff.
fn away_ms(unopened: &Unopened) -> u64 {
    let ms = match (unopened.status, unopened.retry_after_ms) {
        (Some(451 | 403 | 418), ms) => jittered(ms.unwrap_or(0).max(AWAY_MS_MIN)),
        (Some(429), None) => jittered(LIMITED_MS),
        (_, ms) => ms.unwrap_or(0),
    };
    ms.min(RETRY_AFTER_MS_MAX)
}

/// A random duration between zero and `ms` milliseconds.
pub(crate) fn random_ms(ms: u64) -> u64 {
    jittered(ms) - ms
}

/// A random duration between `ms` and twice `ms` milliseconds.
pub(crate) fn jittered(ms: u64) -> u64 {
    // Without randomness, collectors that failed together merely retry together.
    let random = random::bytes().map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    let more = u128::from(ms) * u128::from(random) / u128::from(u16::MAX);
    // An exchange may ask for any number of milliseconds.
    ms.saturating_add(more as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jittered_pause_is_no_shorter_and_at_most_twice_as_long() {
        for ms in [0, 1, 50, 16_000, u64::MAX] {
            let longest = ms.saturating_mul(2);
            assert!((0..100).all(|_| (ms..=longest).contains(&jittered(ms))));
        }
    }

    fn unconnected(sources: &[Source]) -> ExchangeSession<'_> {
        ExchangeSession::new(SessionPlan {
            sources,
            endpoints: crate::exchange::endpoints(&sources[0], None),
            tls: None,
            proxies: Proxies::default(),
            pace: Pace::of(&sources[0]),
        })
    }

    #[test]
    fn a_ban_still_counts_when_a_wrong_clock_says_that_it_is_over() {
        let sources = [Source::parse("binance:BTCUSDC").expect("well formed")];
        for (denial, until_s, least_s, most_s) in [
            (Denial::Banned, -3_600, 599, 1_200),
            (Denial::TooMany, -3_600, 59, 120),
            (Denial::Banned, 30, 29, 31),
            (Denial::TooMany, 0, 0, 1),
        ] {
            let mut session = unconnected(&sources);
            let before = Instant::now();
            let until_ms = (wall_us() / 1_000).saturating_add_signed(until_s * 1_000);
            session.refused(&Refusal {
                symbol: None,
                id: None,
                denial,
                text: String::new(),
                retry_after_ms: Some(until_ms),
            });
            let since = |at| session.retry_at.saturating_duration_since(at);
            // However long this process had to wait for a core meanwhile.
            let (least, most) = (since(before), since(Instant::now()));
            assert!(
                least >= Duration::from_secs(least_s),
                "{denial:?}: {least:?}"
            );
            assert!(most <= Duration::from_secs(most_s), "{denial:?}: {most:?}");
        }
    }

    #[test]
    fn backoff_doubles_from_the_minimum_and_never_shortens_a_retry_after() {
        let sources = [Source::parse("binance:BTCUSDC").expect("well formed")];
        let mut session = unconnected(&sources);
        let floor = session.plan.pace.pause_min;
        let mut least = Duration::ZERO;
        for failure in 0..12 {
            let before = Instant::now();
            session.retry_at = before;
            session.back_off();
            let since = |at| session.retry_at.saturating_duration_since(at);
            // However long this process had to wait for a core meanwhile.
            let (pause, rest) = (since(before), since(Instant::now()));
            let longest = (2 * least).max(Duration::from_millis(FIRST_RETRY_MS_MAX));
            assert!(
                pause >= least && rest <= longest,
                "{failure}: {pause:?}, {rest:?}"
            );
            let ceiling = Duration::from_millis(RETRY_MS_MAX);
            least = if failure == 0 {
                floor
            } else {
                (2 * least).min(ceiling)
            };
        }
        let before = Instant::now();
        session.stay_away(Duration::from_secs(3_600));
        session.back_off();
        let away = session.retry_at.saturating_duration_since(before);
        assert!(away > Duration::from_secs(3_599), "{away:?}");
        assert!(session.is_quiet_at(wall_us()));
        // A pause that is over does not count again once the clock is set back.
        session.quiet_until = Instant::now();
        for back_us in [0, 3_600_000_000] {
            assert!(!session.is_quiet_at(wall_us() - back_us));
        }
    }
}
