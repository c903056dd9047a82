//! The way to one exchange for months: connections as they come and go, what is said on them, and the newest price.
//!
//! Invariant: a connection that ended, fell silent or is about to be closed is replaced, but never faster than the exchange
//! allows: pauses grow and are jittered, what the exchange asks for in milliseconds is obeyed, and one that turns this
//! address away is left alone for long. A price goes with the connection that it came on, unless another took over in time.
//! What this module does not do: decide when a price is sampled, or read what exchanges say (their files do).

use super::link::{Ended, Link, Unopened};
use super::quote::Quote;
use super::roots::Trust;
use super::{Denial, Dialect, Pace, Refusal, Said, Topic, Way, dialect};
use crate::exchange::proxy::Proxies;
use crate::system::endpoint::Endpoint;
use crate::system::limits::*;
use crate::system::net::{Look, Patience};
use crate::system::random;
use crate::system::wait::wall_us;
use rsoracle_proof::reason::Miss;
use rsoracle_proof::source::Source;
use rsoracle_verify::error::Error;
use std::time::{Duration, Instant};

/// What a session is to watch, and how patient it is.
pub struct Plan<'a> {
    /// What.
    pub source: &'a Source,
    /// Where it is spoken, each place tried when the one before turns this location away; at least one.
    pub endpoints: Vec<Endpoint>,
    /// Needed where an endpoint is TLS.
    pub tls: Option<Trust>,
    /// Which of them are reached through a proxy.
    pub proxies: Proxies,
    /// When what it says is too old, and how often it must be spoken to.
    pub pace: Pace,
}

impl Pace {
    /// What the exchange's file says; the embedded exchange may be called as often as one likes.
    pub fn of(source: &Source) -> Pace {
        let pace = dialect(source).pace;
        let pause_min = match source.embedded {
            true => Duration::from_millis(RECONNECT_MS),
            false => pace.pause_min,
        };
        Pace { pause_min, ..pace }
    }
}

/// The way to one exchange, whether a connection stands or not.
pub struct Session<'a> {
    plan: Plan<'a>,
    dialect: &'static Dialect,
    /// Which of the endpoints is tried next.
    place: usize,
    link: Option<Link>,
    /// The number of the subscription, where the exchange gives one.
    channel: Option<u64>,
    /// The newest price, or why the exchange's newest word is none.
    newest: Result<Quote, Miss>,
    /// When the connection was opened.
    opened_at: Instant,
    /// When it last said a price or answered, or was opened.
    spoke_at: Instant,
    pinged_at: Instant,
    /// Whether a price has come on this connection.
    proved: bool,
    /// Connections that came to nothing on end.
    failures: u32,
    /// Not before then is the next attempt to connect made.
    retry_at: Instant,
    /// The exchange wants no request before then: milliseconds since the Unix epoch.
    quiet_until_ms: u64,
}

impl<'a> Session<'a> {
    /// A way that is not walked yet.
    pub fn new(plan: Plan<'a>) -> Session<'a> {
        let now = Instant::now();
        Session {
            dialect: dialect(plan.source),
            plan,
            place: 0,
            link: None,
            channel: None,
            newest: Err(Miss::Stale),
            opened_at: now,
            spoke_at: now,
            pinged_at: now,
            proved: false,
            failures: 0,
            retry_at: now,
            quiet_until_ms: 0,
        }
    }

    /// Where it connects next, or is connected.
    pub fn endpoint(&self) -> &Endpoint {
        &self.plan.endpoints[self.place]
    }

    /// How a price is asked for; none where prices come by themselves.
    pub fn request(&self, id: &str) -> Option<String> {
        match self.dialect.way {
            Way::Poll(request) => Some(request(id, self.plan.source.symbol())),
            Way::Stream(_) => None,
        }
    }

    /// Whether prices come by themselves.
    pub fn is_stream(&self) -> bool {
        matches!(self.dialect.way, Way::Stream(_))
    }

    /// The connection, if one stands.
    pub fn link(&mut self) -> Option<&mut Link> {
        self.link.as_mut()
    }

    /// Whether a connection stands.
    pub fn is_open(&self) -> bool {
        self.link.is_some()
    }

    /// When the connection was opened.
    pub fn opened_at(&self) -> Instant {
        self.opened_at
    }

    /// Whether it has not answered or said a price for so long.
    pub fn mute_for(&self, ms: u64) -> bool {
        self.spoke_at.elapsed() >= Duration::from_millis(ms)
    }

    /// Not before then is the next attempt to connect made.
    pub fn retry_at(&self) -> Instant {
        self.retry_at
    }

    /// Whether the exchange wants no request at `wall_us`.
    pub fn is_quiet_at(&self, wall_us: u64) -> bool {
        self.quiet_until_ms > wall_us / 1_000
    }

    /// Opens a new connection and subscribes, and then gives up the old one, if there still is one. Where the exchange does
    /// not serve this location, its other places are tried at once.
    pub fn connect(&mut self, deadline: Instant, look: Look) -> Result<(), Error> {
        loop {
            let (place, plan) = (self.place, &mut self.plan);
            let (endpoint, tls) = (&plan.endpoints[place], plan.tls.as_mut());
            let opened = Link::open(endpoint, tls, &plan.proxies, deadline, look);
            let Unopened {
                error,
                status,
                retry_after_ms,
            } = match opened {
                Ok(link) => return self.take_over(link),
                Err(unopened) => unopened,
            };
            let elsewhere = self.place + 1 < self.plan.endpoints.len();
            if matches!(status, Some(451 | 403)) && elsewhere {
                self.place += 1;
                continue;
            }
            self.place = 0;
            self.back_off();
            match (status, retry_after_ms) {
                (Some(451 | 403 | 418), ms) => {
                    self.stay_away_ms(jittered(ms.unwrap_or(0).max(AWAY_MS_MIN)));
                }
                (Some(429), None) => self.stay_away_ms(jittered(LIMITED_MS)),
                (_, Some(ms)) => self.stay_away_ms(ms),
                (_, None) => {}
            }
            return Err(error);
        }
    }

    fn take_over(&mut self, mut link: Link) -> Result<(), Error> {
        if let Way::Stream(subscribe) = self.dialect.way {
            for message in subscribe(self.plan.source.symbol()) {
                link.send(message).map_err(|ended| {
                    self.back_off();
                    let attempt = format!("cannot subscribe at {}", self.endpoint().url);
                    Error::new(attempt, ended.text).passing()
                })?;
            }
        }
        self.link = Some(link);
        (self.channel, self.proved) = (None, false);
        self.opened_at = Instant::now();
        (self.spoke_at, self.pinged_at) = (self.opened_at, self.opened_at);
        Ok(())
    }

    /// Whether the exchange wants nothing from this address for now.
    pub fn is_turned_away(&self) -> bool {
        self.is_quiet_at(wall_us())
    }

    fn stay_away_ms(&mut self, ms: u64) {
        self.stay_away((wall_us() / 1_000).saturating_add(ms));
    }

    /// The exchange wants nothing from this address before then, no new connection either.
    fn stay_away(&mut self, until_ms: u64) {
        let now_us = wall_us();
        let left_us = until_ms.saturating_mul(1_000).saturating_sub(now_us);
        let left = Duration::from_micros(left_us).min(Duration::from_millis(RETRY_AFTER_MS_MAX));
        self.quiet_until_ms = until_ms.min(now_us / 1_000 + RETRY_AFTER_MS_MAX);
        self.retry_at = self.retry_at.max(Instant::now() + left);
    }

    /// One more connection came to nothing: the next attempt comes soon, after a moment of its own that keeps neighbours whose
    /// connections ended together apart; the later ones after pauses that double, from the exchange's floor on.
    fn back_off(&mut self) {
        let floor_ms = self.plan.pace.pause_min.as_millis() as u64;
        let pause_ms = match self.failures {
            0 => apart(floor_ms.min(FIRST_RETRY_MS_MAX)),
            n => jittered((floor_ms << (n - 1).min(16)).min(RETRY_MS_MAX)),
        };
        self.failures += 1;
        let retry_at = Instant::now() + Duration::from_millis(pause_ms);
        self.retry_at = self.retry_at.max(retry_at);
    }

    /// The connection ended, or is given up.
    pub fn lose(&mut self) {
        if self.link.take().is_none() {
            return;
        }
        let good = self.plan.pace.pause_min * GOOD_PAUSES;
        if self.proved && self.opened_at.elapsed() >= good {
            self.failures = 0;
        }
        self.newest = Err(Miss::Stale);
        self.back_off();
    }

    /// What the exchange says next; `None` when nothing has come by the end of `patience`. Whatever the error, the connection
    /// is gone then.
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
        let topic = Topic {
            symbol: self.plan.source.symbol(),
            channel: self.channel,
        };
        let (came_at, dry_at) = (link.heard_at(), link.dry_at());
        let said = (self.dialect.read)(text.as_str(), &topic);
        match &said {
            Said::Price { price, time_us, .. } => {
                // What bears no time may have waited to be read for as long as there was something to read.
                let since = time_us.map_or(dry_at, |_| came_at);
                self.price(*price, *time_us, came_at, since);
            }
            Said::Channel(number) => self.channel = Some(*number),
            Said::Refusal(refusal) => self.refused(refusal),
            Said::Leaving(what) => {
                self.lose();
                return Err(Ended {
                    miss: Miss::Disconnected,
                    text: format!("the exchange announces {what}"),
                });
            }
            // The exchange's newest word on the price is none: what was true before need not be any more.
            Said::Fault { miss, .. } => {
                self.newest = Err(*miss);
                // To a question it is an answer; in a stream nothing that keeps a connection.
                if !self.is_stream() {
                    self.spoke_at = Instant::now();
                }
            }
            Said::Alive { .. } => {}
        }
        Ok(Some(said))
    }

    /// A price that was read at `came_at` and came at `heard_at` at the earliest. Reading the message took no time to speak of.
    fn price(&mut self, price: f64, time_us: Option<u64>, came_at: Instant, heard_at: Instant) {
        (self.spoke_at, self.proved) = (came_at, true);
        let now_us = wall_us();
        let waited_us = came_at.duration_since(heard_at).as_micros() as u64;
        let quote = Quote {
            price,
            time_us,
            heard_at,
            heard_us: now_us.saturating_sub(waited_us),
        };
        // A time that is nonsense must not keep out what comes after it.
        let keeps = |before: Quote| !quote.replaces(&before) && self.newest(now_us).is_ok();
        if !self.newest.is_ok_and(keeps) {
            self.newest = Ok(quote);
        }
    }

    fn refused(&mut self, refusal: &Refusal) {
        self.spoke_at = Instant::now();
        // By this clock it should have ended a while ago, and still it is said: the clock is wrong, and cannot tell when it ends.
        let over = |until_ms: &u64| until_ms.saturating_add(RETRY_LATE_MS_MAX) < wall_us() / 1_000;
        let until_ms = refusal.retry_after_ms.filter(|until_ms| !over(until_ms));
        match (until_ms, refusal.denial) {
            (Some(until_ms), _) => self.stay_away(until_ms),
            (None, Denial::Banned) => self.stay_away_ms(jittered(AWAY_MS_MIN)),
            (None, Denial::TooMany) => self.stay_away_ms(jittered(LIMITED_MS)),
            _ => {}
        }
        if self.is_stream() {
            // There is nothing to come on this connection.
            self.lose();
        }
    }

    /// The newest price, if it is young enough at `now_us`.
    pub fn newest(&self, now_us: u64) -> Result<Quote, Miss> {
        let age_us_max = self.plan.pace.max_age.as_micros();
        match self.newest {
            _ if self.link.is_none() => Err(Miss::NotConnected),
            Ok(quote) if u128::from(quote.age_us(now_us)) > age_us_max => Err(Miss::Stale),
            newest => newest,
        }
    }

    /// Shows the exchange that this side lives, where that is due, and gives up a connection on which nothing comes any more,
    /// or only what is no price.
    pub fn keep_alive(&mut self) -> Result<(), Ended> {
        let is_stream = self.is_stream();
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        let Pace {
            max_age,
            max_silence,
            ping_every,
            ..
        } = self.plan.pace;
        let given_up = if link.heard_at().elapsed() >= max_silence {
            Some(format!("nothing has come for {max_silence:?}"))
        } else if is_stream && self.spoke_at.elapsed() >= max_age * RESUBSCRIBE_AGES {
            Some("the exchange says no price any more".to_owned())
        } else {
            None
        };
        let alive = match (given_up, self.dialect.ping) {
            (Some(text), _) => Err(Ended {
                miss: Miss::NoReply,
                text,
            }),
            (None, Some(ping)) if self.pinged_at.elapsed() >= ping_every => {
                self.pinged_at = Instant::now();
                link.send(ping.to_owned())
            }
            (None, _) => Ok(()),
        };
        alive.inspect_err(|_| self.lose())
    }

    /// Connects, and waits for a price that is young enough.
    pub fn first_price(&mut self, look: Look) -> Result<f64, Error> {
        let until = Instant::now() + Duration::from_millis(OPEN_MS_MAX);
        self.connect(until, look)?;
        self.wait_for_price(look, &mut |_| {})
    }

    /// Waits for a price that is young enough, on a connection that stands; `listen` gets all that is said until then.
    pub fn wait_for_price(
        &mut self,
        look: Look,
        listen: &mut dyn FnMut(&Said),
    ) -> Result<f64, Error> {
        let symbol = self.plan.source.symbol();
        let attempt = format!(
            "cannot get a first price of {symbol} from {}",
            self.endpoint().url
        );
        let failed = |cause: String| Error::new(&attempt, cause).passing();
        if let (Some(request), Some(link)) = (self.request(FIRST), &mut self.link) {
            link.send(request).map_err(|ended| failed(ended.text))?;
        }
        let until = Instant::now() + Duration::from_millis(FIRST_PRICE_MS_MAX);
        let (mut stale, mut came) = (None, false);
        loop {
            look()?;
            // Also while something comes all the time.
            if Instant::now() >= until {
                let advice =
                    "see whether this market trades, and whether this machine's clock is right";
                return Err(failed(no_first(stale)).advise(advice));
            }
            let slice = until.min(Instant::now() + Duration::from_millis(SLICE_MS));
            // Behind something comes a look whether that was all.
            let said = self.hear(if came {
                Patience::Never
            } else {
                Patience::Until(slice)
            });
            let said = said.map_err(|ended| failed(ended.text))?;
            came = said.is_some();
            said.iter().for_each(&mut *listen);
            match said {
                Some(Said::Price { id, price, time_us }) => match (id, self.newest(wall_us())) {
                    (Some(id), _) if id.as_str() != FIRST => {
                        return Err(failed("the reply has another id".to_owned()));
                    }
                    (Some(_), _) => return Ok(price),
                    (None, Ok(quote)) => return Ok(quote.price),
                    (None, Err(_)) => stale = time_us,
                },
                Some(Said::Fault { miss, text, .. }) => {
                    return Err(failed(format!("{miss}: {text}")));
                }
                Some(Said::Refusal(refusal)) => return Err(refused(&attempt, symbol, &refusal)),
                Some(_) | None => {}
            }
        }
    }
}

/// The id of the request for a first price.
const FIRST: &str = "first";

fn no_first(stale_us: Option<u64>) -> String {
    match stale_us {
        Some(us) => format!(
            "no price that is young enough within {FIRST_PRICE_MS_MAX} ms, only one of {}",
            rsoracle_proof::utc::utc_text(us)
        ),
        None => format!("no price within {FIRST_PRICE_MS_MAX} ms"),
    }
}

/// At most so long.
fn apart(ms: u64) -> u64 {
    jittered(ms) - ms
}

/// So long to twice as long.
fn jittered(ms: u64) -> u64 {
    // Without randomness neighbours merely keep in step.
    let random = random::bytes().map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    let more = u128::from(ms) * u128::from(random) / u128::from(u16::MAX);
    // What an exchange asks for may be any number.
    ms.saturating_add(more as u64)
}

/// An error object in answer to the first request: what it means and what to do.
fn refused(attempt: &str, symbol: &str, refusal: &Refusal) -> Error {
    let until = refusal.retry_after_ms.map_or(String::new(), |ms| {
        let until = rsoracle_proof::utc::utc_text(ms.saturating_mul(1_000));
        format!("; until {until}")
    });
    let error = |cause: String| Error::new(attempt, cause + &until);
    let text = &refusal.text;
    match refusal.denial {
        Denial::UnknownSymbol => error(format!("unknown symbol {symbol} ({text})"))
            .advise("check the spelling of the source, and that the exchange has this market"),
        Denial::NotTrading => error(text.clone())
            .advise("the exchange has halted this market; it can be used once it trades again")
            .passing(),
        Denial::Banned => error(text.clone()).advise(
            "the exchange has banned this address for too many requests; stay away until the ban ends",
        ),
        Denial::TooMany => error(text.clone())
            .advise("too many requests from this address; wait until the exchange allows the next")
            .passing(),
        Denial::Busy => error(text.clone()).passing(),
        Denial::Other => error(text.clone()),
    }
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

    fn unconnected(source: &Source) -> Session<'_> {
        Session::new(Plan {
            source,
            endpoints: crate::exchange::endpoints(source, None),
            tls: None,
            proxies: Proxies::default(),
            pace: Pace::of(source),
        })
    }

    #[test]
    fn a_ban_that_is_over_by_a_clock_that_is_wrong_is_no_leave_to_go_on() {
        let source = Source::parse("binance:BTCUSDC").expect("well formed");
        for (denial, until_s, least_s, most_s) in [
            (Denial::Banned, -3_600, 599, 1_200),
            (Denial::TooMany, -3_600, 59, 120),
            (Denial::Banned, 30, 29, 31),
            (Denial::TooMany, 0, 0, 1),
        ] {
            let mut session = unconnected(&source);
            let before = Instant::now();
            let until_ms = (wall_us() / 1_000).saturating_add_signed(until_s * 1_000);
            session.refused(&Refusal {
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
    fn pauses_double_from_the_floor_on_and_what_the_exchange_asks_for_outlasts_them() {
        let source = Source::parse("binance:BTCUSDC").expect("well formed");
        let mut session = unconnected(&source);
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
        session.stay_away_ms(3_600_000);
        session.back_off();
        let away = session.retry_at.saturating_duration_since(before);
        assert!(away > Duration::from_secs(3_599), "{away:?}");
        assert!(session.is_turned_away());
    }
}
