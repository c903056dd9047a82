//! One stream of prices: the part that is the same in all dialects.
//!
//! Invariant: a subscription gets the price of its base whenever that has changed and the client can take it. A slow client
//! misses the prices that it could not take. The K-th price message of a connection gets the faults for K; heartbeats and
//! answers do not count as price messages. As long as no price of the venue changes, a step costs the same for one
//! subscription as for many.

use super::dialect::{Beat, ChannelKind, Desk, ServerDialect};
use super::fault::{About, Deed, Lie, Plan, refuses};
use super::line::{Act, OpenSocket};
use super::quote::{MarketData, short};
use super::venue::{Now, Venue};
use std::collections::BTreeSet;
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
    /// The number of price messages about each part.
    of_parts: Vec<u64>,
    /// Whether no further price message is sent.
    muted: bool,
    /// The parts about which no further price message is sent.
    muted_parts: BTreeSet<usize>,
    /// [`Venue::changes`] when every subscription had the newest price.
    pushed: Option<u64>,
    /// When the next heartbeat is due. Some subscriptions may have put off their own since.
    next_beat: Instant,
}

impl Stream {
    /// Opens the stream with the dialect's welcome message, if it has one.
    pub fn new(dialect: &'static ServerDialect, venue: &Venue, now: Now) -> Stream {
        let mut desk = Desk::new(dialect, venue.bases().clone());
        let refused = |base: &&String| refuses(venue.faults(), dialect.name, base);
        desk.refused = venue.bases().iter().filter(refused).cloned().collect();
        if let Some(welcome) = dialect.welcome {
            let before_all = Plan::of(venue.faults(), dialect.name, About::default());
            desk.say(welcome(before_all.deed != Deed::Maintenance));
        }
        let mut stream = Stream {
            dialect,
            desk,
            opened: now.at,
            subscribed: None,
            prices: 0,
            of_parts: vec![0; venue.bases().len()],
            muted: false,
            muted_parts: BTreeSet::new(),
            pushed: None,
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
        self.pushed = None;
        match self.dialect.beat {
            Beat::Quiet(..) => self.put_off(venue, now),
            // A new subscription may need one earlier than all others.
            Beat::Again(_) | Beat::Still(..) => self.next_beat = now.at,
            _ => {}
        }
        self.say_all(socket)
    }

    /// Restarts the period of the connection's heartbeat.
    fn put_off(&mut self, venue: &Venue, now: Now) {
        if let Beat::Quiet(s, _) | Beat::Steady(s, _) | Beat::Asks(s, _) = self.dialect.beat {
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

    /// Sends each subscription the price that it does not have yet or, with `--rate`, prices as often as that says.
    fn push(&mut self, socket: &mut OpenSocket, venue: &Venue, now: Now) -> Result<bool, Error> {
        if self.muted || (venue.rate().is_none() && self.pushed == Some(venue.changes())) {
            return Ok(false);
        }
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
                .filter(|(_, sub)| sub.told != Some(venue.trade(sub.part).number))
                .map(|(at, _)| at)
                .collect(),
        };
        let told = self.tell(&due, socket, venue, now)?;
        if socket.is_free() {
            self.pushed = Some(venue.changes());
        }
        Ok(told)
    }

    /// Sends heartbeats, if they are due.
    fn beat(&mut self, socket: &mut OpenSocket, venue: &Venue, now: Now) -> Result<bool, Error> {
        if now.at < self.next_beat || !socket.is_free() {
            return Ok(false);
        }
        self.put_off(venue, now);
        let any = !self.desk.subscriptions.is_empty();
        let (places, words) = match self.dialect.beat {
            Beat::None => return Ok(false),
            Beat::Again(s) => {
                let places = self.quiet(ChannelKind::Quotes, s, venue, now);
                return self.tell(&places, socket, venue, now);
            }
            Beat::Quiet(_, words) if any => return socket.say(words()).map(|()| true),
            Beat::Asks(_, words) if any => {
                return socket.say(words(now.unix_us / 1_000)).map(|()| true);
            }
            Beat::Quiet(..) | Beat::Asks(..) => return Ok(false),
            Beat::Still(s, words) => (self.quiet(ChannelKind::Quotes, s, venue, now), words),
            Beat::Steady(_, words) => {
                let numbered = self.desk.subscriptions.iter().enumerate();
                let to = numbered.filter(|(_, sub)| sub.kind == ChannelKind::Heartbeats);
                (to.map(|(at, _)| at).collect(), words)
            }
        };
        let honest = Lie::default();
        for at in &places {
            self.desk.subscriptions[*at].quiet_since = Some(now.at);
            socket.say(words(&self.market_data(*at, &honest, venue, now)))?;
        }
        Ok(!places.is_empty())
    }

    /// The subscriptions of a kind on which there was no message for `s` seconds. Says when the next one may be due.
    fn quiet(&mut self, kind: ChannelKind, s: u64, venue: &Venue, now: Now) -> Vec<usize> {
        let period = venue.period(s);
        let mut places = Vec::new();
        self.next_beat = now.at + period;
        let subscriptions = self.desk.subscriptions.iter_mut().enumerate();
        for (at, sub) in subscriptions.filter(|(_, sub)| sub.kind == kind) {
            let due = *sub.quiet_since.get_or_insert(now.at) + period;
            match due <= now.at {
                true => places.push(at),
                false => self.next_beat = self.next_beat.min(due),
            }
        }
        places
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
        let part = self.desk.subscriptions[at].part;
        let plan = self.plan(part, venue);
        let act = match (plan.deed, self.dialect.notice, self.dialect.welcome) {
            _ if self.muted || self.muted_parts.contains(&part) => None,
            (Deed::Reconnect, Some(notice), _) => Some(Act::Notice(notice(now.unix_us / 1_000))),
            (Deed::Reconnect, None, _) => Some(Act::Close(CloseCode::Restart)),
            (Deed::Maintenance, _, Some(welcome)) => {
                self.muted = true;
                Some(Act::Text(welcome(false)))
            }
            (Deed::Maintenance, _, None) => Some(Act::Close(CloseCode::Again)),
            (deed, ..) => Some(Act::of(deed, || {
                (self.dialect.price)(&self.market_data(at, &plan.lie, venue, now))
            })),
        };
        let sub = &mut self.desk.subscriptions[at];
        sub.told = Some(venue.trade(part).number);
        let Some(act) = act else {
            return Ok(());
        };
        sub.quiet_since = Some(now.at);
        if matches!(self.dialect.beat, Beat::Quiet(..)) {
            self.put_off(venue, now);
        }
        socket.carry_out(&plan, act, now)
    }

    /// Counts a price message about a part, unless none is sent any more, and says what happens to it.
    fn plan(&mut self, part: usize, venue: &Venue) -> Plan {
        if self.muted_parts.contains(&part) {
            return Plan::default();
        }
        self.prices += 1;
        self.of_parts[part] += 1;
        let about = About {
            k: self.prices,
            base: Some(&venue.bases()[part]),
            k_of_base: self.of_parts[part],
        };
        let plan = Plan::of(venue.faults(), self.dialect.name, about);
        if plan.deed == Deed::Mute {
            self.muted = true;
        }
        // What is not traded has no new price.
        if plan.deed == Deed::MuteBase || plan.halted {
            self.muted_parts.insert(part);
        }
        plan
    }

    /// The tape's price for one subscription, or what a fault puts in its place.
    fn market_data(&self, at: usize, lie: &Lie, venue: &Venue, now: Now) -> MarketData {
        let sub = &self.desk.subscriptions[at];
        let trade = venue.trade(sub.part);
        let told = lie.about(&trade.price);
        let (bid, ask) = lie.quote(&told);
        // Text that a fault puts in place of a price is sent unchanged.
        let decimals_min = match lie.price {
            Some(_) => usize::MAX,
            None => self.dialect.decimals_min,
        };
        let (symbol, number) = match lie.wrong_symbol {
            true => (&sub.other, at + self.desk.subscriptions.len()),
            false => (&sub.symbol, at),
        };
        MarketData {
            channel: sub.channel,
            symbol: symbol.clone(),
            number: number as u64,
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
