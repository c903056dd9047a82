//! One stream of prices: the part that is the same in all dialects.
//!
//! Invariant: a subscription gets the tape's price whenever the price has changed and the client can take it. A slow client
//! misses the prices that it could not take. The K-th price message of a connection gets the faults for K; heartbeats and
//! answers do not count as price messages.

use super::dialect::{Beat, ChannelKind, Desk, ServerDialect};
use super::fault::{Deed, Lie, Plan};
use super::line::{Act, OpenSocket};
use super::quote::{MarketData, short};
use super::venue::{Now, Venue};
use std::time::Instant;
use tungstenite::Error;
use tungstenite::protocol::frame::coding::CloseCode;

/// With `--rate`: most price messages on one connection in one step, before the others get their turn.
const PRICES_PER_STEP: u128 = 1024;

/// A connection to a stream.
pub struct Stream {
    dialect: &'static ServerDialect,
    desk: Desk,
    opened: Instant,
    /// When the client first subscribed to something.
    subscribed: Option<Instant>,
    /// The number of price messages so far.
    prices: u64,
    /// Whether no further price message is sent.
    muted: bool,
    next_beat: Instant,
}

impl Stream {
    /// Opens the stream with the dialect's welcome message, if it has one.
    pub fn new(dialect: &'static ServerDialect, venue: &Venue, now: Now) -> Stream {
        let mut desk = Desk::new(dialect, venue.symbol());
        if let Some(welcome) = dialect.welcome {
            let before_all = Plan::of(venue.faults(), dialect.name, 0);
            desk.say(welcome(before_all.deed != Deed::Maintenance));
        }
        let mut stream = Stream {
            dialect,
            desk,
            opened: now.at,
            subscribed: None,
            prices: 0,
            muted: false,
            next_beat: now.at,
        };
        stream.put_off(venue, now);
        stream
    }

    /// Reads a client's message and answers it.
    pub fn hear(
        &mut self,
        text: &str,
        socket: &mut OpenSocket,
        venue: &Venue,
        now: Now,
    ) -> Result<(), Error> {
        self.desk.now_us = now.unix_us;
        (self.dialect.hear)(text, &mut self.desk);
        if matches!(self.dialect.beat, Beat::Quiet(..)) {
            self.put_off(venue, now);
        }
        self.say_all(socket)
    }

    /// Restarts the heartbeat's period.
    fn put_off(&mut self, venue: &Venue, now: Now) {
        if let Beat::Again(s) | Beat::Quiet(s, _) | Beat::Steady(s, _) | Beat::Asks(s, _) =
            self.dialect.beat
        {
            self.next_beat = now.at + venue.period(s);
        }
    }

    fn say_all(&mut self, socket: &mut OpenSocket) -> Result<(), Error> {
        self.desk
            .said
            .drain(..)
            .try_for_each(|text| socket.say(text))
    }

    /// Sends what is due. Returns whether there was anything.
    pub fn speak(
        &mut self,
        socket: &mut OpenSocket,
        venue: &Venue,
        now: Now,
    ) -> Result<bool, Error> {
        if !socket.is_free() {
            return Ok(false);
        }
        let mut busy = !self.desk.said.is_empty();
        self.say_all(socket)?;
        if self.subscribed.is_none() && !self.desk.subscriptions.is_empty() {
            self.subscribed = Some(now.at);
        }
        let over = |since: Instant, limit_s: Option<u64>| {
            limit_s.is_some_and(|s| now.at.saturating_duration_since(since) > venue.limit(s))
        };
        let idle = over(socket.heard(), self.dialect.idle_s);
        if idle || (self.subscribed.is_none() && over(self.opened, self.dialect.subscribe_s)) {
            socket.close(CloseCode::Policy, "idle", now)?;
            return Ok(true);
        }
        busy |= self.push(socket, venue, now)?;
        busy |= self.beat(socket, venue, now)?;
        Ok(busy)
    }

    /// Sends the tape's price to each subscription that does not have it yet or, with `--rate`, as often as that says.
    fn push(&mut self, socket: &mut OpenSocket, venue: &Venue, now: Now) -> Result<bool, Error> {
        let number = venue.trade(now).number;
        let numbered = self.desk.subscriptions.iter().enumerate();
        let priced = numbered.filter(|(_, sub)| sub.kind != ChannelKind::Heartbeats);
        let due: Vec<usize> = match (venue.rate(), self.subscribed) {
            (Some(rate), Some(since)) => {
                let places: Vec<usize> = priced.map(|(at, _)| at).collect();
                let elapsed_us = now.at.saturating_duration_since(since).as_micros();
                let so_far = elapsed_us * u128::from(rate) / 1_000_000 + 1;
                let due = so_far.saturating_sub(self.prices.into());
                let due = due.min(PRICES_PER_STEP) as usize;
                let turn = self.prices as usize % places.len().max(1);
                places.into_iter().cycle().skip(turn).take(due).collect()
            }
            _ => priced
                .filter(|(_, sub)| sub.told != Some(number))
                .map(|(at, _)| at)
                .collect(),
        };
        self.tell(&due, socket, venue, now)
    }

    /// Sends heartbeats, if they are due.
    fn beat(&mut self, socket: &mut OpenSocket, venue: &Venue, now: Now) -> Result<bool, Error> {
        if now.at < self.next_beat || !socket.is_free() {
            return Ok(false);
        }
        self.put_off(venue, now);
        let numbered = self.desk.subscriptions.iter().enumerate();
        let (words, to) = match self.dialect.beat {
            Beat::None => return Ok(false),
            Beat::Again(_) => {
                let quotes = numbered.filter(|(_, sub)| sub.kind == ChannelKind::Quotes);
                let places: Vec<usize> = quotes.map(|(at, _)| at).collect();
                return self.tell(&places, socket, venue, now);
            }
            Beat::Quiet(_, words) | Beat::Asks(_, words) => (words, None),
            Beat::Steady(_, words) => (words, Some(ChannelKind::Heartbeats)),
        };
        let heard = numbered.filter(|(_, sub)| to.is_none_or(|kind| sub.kind == kind));
        let honest = Lie::default();
        let mut texts: Vec<String> = heard
            .map(|(at, _)| words(&self.market_data(at, &honest, venue, now)))
            .collect();
        texts.dedup();
        let any = !texts.is_empty();
        texts.into_iter().try_for_each(|text| socket.say(text))?;
        Ok(any)
    }

    /// Sends a price message to each of these subscriptions, until the connection is muted or can take no more.
    fn tell(
        &mut self,
        places: &[usize],
        socket: &mut OpenSocket,
        venue: &Venue,
        now: Now,
    ) -> Result<bool, Error> {
        let before = self.prices;
        for at in places {
            if self.muted || !socket.is_free() {
                break;
            }
            self.price(*at, socket, venue, now)?;
        }
        Ok(self.prices > before)
    }

    fn price(
        &mut self,
        at: usize,
        socket: &mut OpenSocket,
        venue: &Venue,
        now: Now,
    ) -> Result<(), Error> {
        self.prices += 1;
        let plan = Plan::of(venue.faults(), self.dialect.name, self.prices);
        let act = match (plan.deed, self.dialect.notice, self.dialect.welcome) {
            (Deed::Mute, ..) => {
                self.muted = true;
                return Ok(());
            }
            (Deed::Reconnect, Some(notice), _) => Act::Notice(notice(now.unix_us / 1_000)),
            (Deed::Reconnect, None, _) => Act::Close(CloseCode::Restart),
            (Deed::Maintenance, _, Some(welcome)) => {
                self.muted = true;
                Act::Text(welcome(false))
            }
            (Deed::Maintenance, _, None) => Act::Close(CloseCode::Again),
            (deed, ..) => Act::of(deed, || {
                (self.dialect.price)(&self.market_data(at, &plan.lie, venue, now))
            }),
        };
        if !matches!(self.dialect.beat, Beat::Steady(..) | Beat::Asks(..)) {
            self.put_off(venue, now);
        }
        self.desk.subscriptions[at].told = Some(venue.trade(now).number);
        socket.carry_out(&plan, act, now)
    }

    /// The tape's price for one subscription, or what a fault puts in its place.
    fn market_data(&self, at: usize, lie: &Lie, venue: &Venue, now: Now) -> MarketData {
        let sub = &self.desk.subscriptions[at];
        let trade = venue.trade(now);
        let told = lie.about(trade.price);
        let (bid, ask) = lie.quote(&told);
        // Text that a fault puts in place of a price is sent unchanged.
        let decimals_min = match lie.price {
            Some(_) => usize::MAX,
            None => self.dialect.decimals_min,
        };
        let symbol = if lie.wrong_symbol {
            &sub.other
        } else {
            &sub.symbol
        };
        MarketData {
            channel: sub.channel,
            symbol: symbol.clone(),
            number: at as u64 + u64::from(lie.wrong_symbol),
            stamps: self.desk.stamps,
            first: sub.told.is_none(),
            serial: trade.number + self.prices,
            last: short(&told, decimals_min).to_owned(),
            bid: short(&bid, decimals_min).to_owned(),
            ask: short(&ask, decimals_min).to_owned(),
            trade_us: trade.since_us.saturating_sub(lie.age_us),
            now_us: now.unix_us.saturating_sub(lie.age_us),
        }
    }
}
