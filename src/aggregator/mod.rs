//! The aggregator: opens the two channels, starts the collectors (`run`) or none (`aggregate`), gathers one round or many, and
//! publishes the price.
//!
//! Nobody announces a round: collectors sample by the clock from the terms' schedule. Its one thread polls everything in turn
//! (`sweep`) and sleeps in between (`nap`).
//! Invariant: only fixed-width frames come in, never TLS, WebSocket or JSON from outside. No peer's silence, slowness or
//! garbage moves a deadline or a price.
//! Uses: keys, proof, roster, system, verify, wire. Used by: cli, doctor, main.

pub mod agreed;
pub mod book;
pub(crate) mod children;
mod clock;
pub mod control;
pub mod data;
mod finish;
pub mod journal;
pub mod limits;
mod nap;
pub(crate) mod resume;
pub mod roster;
mod rounds;
pub mod settings;
pub(crate) mod setup;
mod strays;
mod tether;
mod tracks;
mod view;
pub mod voices;
pub mod words;

use crate::aggregator::limits::*;
use crate::aggregator::settings::Run;
use crate::aggregator::voices::Voices;
use crate::keys::secret::SecretKey;
use crate::system::file;
use crate::system::now::{sharpen_sleeps, wall_us};
use crate::system::screen::{Outlet, Screen};
use agreed::Agreed;
use book::{Book, Remark};
use children::{LocalCollector, Log, ServerChild};
use clock::OwnClock;
use control::{ControlChannel, Member};
use data::DataChannel;
use nap::{INSTANT_CLEAR, Naps};
use rounds::Restart;
use rsoracle_proof::reason::Reject;
use rsoracle_proof::record::Record;
use rsoracle_proof::report::Refused;
use rsoracle_proof::round::Round;
use rsoracle_proof::seal::PublicKey;
use rsoracle_proof::source::exchange_of;
use rsoracle_proof::terms::{Roster, Terms};
use rsoracle_proof::utc::utc_text;
use rsoracle_verify::error::{EXIT_FAILURE, EXIT_OK, Error};
use setup::{
    check_aggregator_key, check_open_files, check_schedule, collector_keys, first_current,
    key_remarks, listen,
};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use strays::Strays;
use tracks::Track;
use view::Seen;
use words::Absence;

/// Most lines of a result that are about single collectors.
const DETAIL_SLOTS_MAX: usize = 20;

/// One slot of the roster, and its collector if there is one.
#[derive(Default)]
pub struct Slot {
    /// What it watches for each feed; empty for feeds that it does not price.
    sources: Vec<String>,
    /// Its seat in the terms of each feed that it prices.
    seats: Vec<Option<u16>>,
    child: Option<LocalCollector>,
    /// The key of its collector: the one in the roster, or the one that the child of a run showed last.
    key: Option<PublicKey>,
    /// The connections that have proved the key.
    members: Vec<Member>,
    /// The samples of the running rounds that came over connections that have ended.
    left: Track,
    /// For each feed whether its collector was ready when the running round began, and can still answer.
    expected: Vec<bool>,
    /// What happened to the collector, in words for the operator; empty if nothing did.
    remark: String,
    restart: Restart,
}

impl Slot {
    /// The slots of a roster with these keys, without collectors.
    pub fn all(roster: &Roster, keys: &[Option<PublicKey>]) -> Vec<Slot> {
        let feeds = 0..roster.feeds.len();
        let slot = |(at, key): (usize, &Option<PublicKey>)| Slot {
            sources: roster.slots[at].sources.clone(),
            seats: feeds.clone().map(|feed| roster.seat_of(feed, at)).collect(),
            key: *key,
            expected: vec![false; feeds.len()],
            ..Slot::default()
        };
        keys.iter().enumerate().map(slot).collect()
    }

    /// Its collector in messages: `collector 4 (okx)`.
    fn collector(&self, index: usize) -> String {
        let source = self.sources.iter().find(|source| !source.is_empty());
        let exchange = source.map_or("", |source| exchange_of(source));
        format!("collector {index} ({exchange})")
    }

    /// The feeds that it prices, with its seat in each of them.
    fn feeds(&self) -> impl Iterator<Item = (usize, u16)> {
        let seats = self.seats.iter().enumerate();
        seats.filter_map(|(feed, seat)| Some((feed, (*seat)?)))
    }

    /// The first price of a feed that its collector read, once it is ready for that.
    fn first_price(&self, feed: usize) -> Option<f64> {
        let mut members = self.members.iter();
        members.find_map(|member| member.first_prices[feed])
    }

    /// Whether its collector is ready for a feed: it has read a first price.
    fn ready_for(&self, feed: usize) -> bool {
        self.first_price(feed).is_some()
    }

    /// Whether its collector is ready for all feeds that it prices.
    pub fn ready(&self) -> bool {
        self.feeds().all(|(feed, _)| self.ready_for(feed))
    }

    /// The samples of a feed in a round, connection by connection.
    fn tracks(&self, start_us: u64, feed: usize) -> impl Iterator<Item = &[Record]> {
        let members = self.members.iter();
        let left = Some(&self.left).filter(|left| left.start_us == start_us);
        let left = left.map(|left| left.of(feed));
        members
            .map(move |member| member.tracks.at(start_us, feed))
            .chain(left)
    }

    /// The same of the connection that has brought the most.
    fn records(&self, start_us: u64, feed: usize) -> &[Record] {
        let tracks = self.tracks(start_us, feed);
        tracks.max_by_key(|records| records.len()).unwrap_or(&[])
    }
}

/// The whole state of the aggregator.
struct Aggregator<'a> {
    config: &'a Run,
    key: SecretKey,
    control: ControlChannel,
    data: DataChannel,
    slots: Vec<Slot>,
    agreed: Agreed,
    /// The running rounds, feed by feed, all of one start; empty between rounds.
    rounds: Vec<Round>,
    refused: Refused,
    log: Log,
    voices: Voices,
    /// For each feed.
    strays: Vec<Strays>,
    /// What the last round spent on keeping its report and on writing to standard output, in microseconds.
    spent_us: [u64; 2],
    screen: Screen,
    outlet: Outlet,
    /// For each feed and seat: since which round it has given no price.
    absences: Vec<Vec<Absence>>,
    /// For each feed its last rounds, for the display.
    past: Vec<VecDeque<Seen>>,
    /// The next start, if there will be one.
    next_us: Option<u64>,
    /// Whether no further round makes sense.
    over: bool,
    /// The embedded exchange and the server of the journal, if this aggregator has started them.
    servers: Vec<(ServerChild, Restart)>,
    /// Whether the roster may differ from the one that was written.
    roster_is_new: bool,
    /// URL of the embedded exchange, if there is one.
    endpoint: Option<String>,
    book: Book,
    clock: OwnClock,
    /// The run of the roster before this one, if there is one.
    before: Option<&'a Run>,
    /// Whether this run ends so that the one before it goes on: the clock was ahead.
    early: bool,
}

/// Runs one round, or rounds without end: of one roster after the other, if there are several. Returns the exit code.
pub fn run(runs: &[Run]) -> Result<u8, Error> {
    sharpen_sleeps();
    let (mut code, mut has_failed) = (EXIT_OK, false);
    check_aggregator_key(runs)?;
    let mut clock = OwnClock::new();
    let mut at = first_current(runs);
    while let Some(config) = runs.get(at) {
        check_schedule(config)?;
        let mark = if config.embedded() { "embedded " } else { "" };
        let mut aggregator = Aggregator::new(config, Screen::new(config.quiet, mark), clock)?;
        aggregator.before = runs[..at].last();
        if let Err(error) = aggregator.start_collectors() {
            aggregator.drain_log();
            return Err(error);
        }
        let done = match config.children {
            Some(_) if config.single() => Ok(aggregator.one_round()),
            _ => aggregator.rounds(),
        };
        let (is_over, is_early) = (aggregator.over, aggregator.early);
        clock = aggregator.clock.anew();
        aggregator.end();
        code = done?;
        has_failed |= code == EXIT_FAILURE;
        if is_over {
            break;
        }
        at = first_current(runs).max(if is_early { 0 } else { at + 1 });
    }
    Ok(if has_failed { EXIT_FAILURE } else { code })
}

impl<'a> Aggregator<'a> {
    fn new(config: &'a Run, screen: Screen, clock: OwnClock) -> Result<Aggregator<'a>, Error> {
        let any = config.any_port_will_do;
        let control = listen(config.control, "control", "control-port", any)?;
        let data = listen(config.data, "data", "data-port", any)?;
        check_open_files(config)?;
        let (key, key_made) = book::key(config)?;
        let (book, said) = Book::open(config, &key)?;
        let (keys, keys_made) = collector_keys(config, key.public())?;
        if let Some(path) = &config.write_roster {
            let advice = "name a file in a writable directory with --write-roster";
            file::make_replaceable(path).map_err(|error| error.advise(advice))?;
        }
        let mut agreed = Agreed::default();
        if config.children.is_none() {
            agreed.add(config.roster.clone(), config.tenure.from_us);
        }
        let feeds = config.roster.feeds.iter();
        let absent = |terms: &Terms| terms.seats.iter().map(|_| Absence::default()).collect();
        let children = config.children.as_ref();
        let mut aggregator = Aggregator {
            config,
            control: ControlChannel::new(control, key.public()),
            data: DataChannel::new(data),
            key,
            strays: feeds.clone().map(|_| Strays::default()).collect(),
            past: feeds.clone().map(|_| VecDeque::new()).collect(),
            next_us: None,
            absences: feeds.map(absent).collect(),
            slots: Slot::all(&config.roster, &keys),
            agreed,
            rounds: Vec::new(),
            refused: Refused::new(),
            log: Log::new()?,
            voices: Voices::default(),
            spent_us: [0; 2],
            screen,
            outlet: Outlet::default(),
            over: false,
            servers: Vec::new(),
            roster_is_new: true,
            endpoint: children.and_then(|children| children.endpoint.clone()),
            book,
            clock,
            before: None,
            early: false,
        };
        let own = config.key_path();
        let of_keys = key_remarks(config, own, key_made, keys_made);
        for remark in said.into_iter().chain(of_keys) {
            match remark {
                Remark::Warning(line) => aggregator.screen.say(&format!("aggregator: {line}")),
                Remark::Progress(line) => aggregator.tell(&line),
            }
        }
        Ok(aggregator)
    }

    /// Shows a line of progress, unless `--quiet` is set.
    fn tell(&mut self, line: &str) {
        if !self.config.quiet {
            self.screen.say(&format!("aggregator: {line}"));
        }
    }

    /// Runs one round as soon as the collectors are ready. Returns the exit code.
    fn one_round(&mut self) -> u8 {
        if !self.gather() {
            return self.give_up();
        }
        let now_us = wall_us();
        let start_us = (now_us + self.config.lead_us()).max(self.book.start_us_min());
        self.hand_down(start_us);
        self.begin(start_us, true);
        self.watch(start_us - now_us);
        let code = self.publish();
        self.close_segment();
        // The roster comes last: a slow disk must delay no round.
        match self.write_roster() {
            false if code == EXIT_OK => EXIT_FAILURE,
            _ => code,
        }
    }

    /// Polls everything once: the children's log and tethers, both channels, and the children themselves. Returns whether
    /// anything happened.
    fn sweep(&mut self) -> bool {
        let bytes = self.log.read();
        let mut stirred = !bytes.is_empty();
        for line in self.voices.hear(bytes) {
            self.screen.say(&line);
        }
        stirred |= self.tend_tethers();
        let floor_us = self.floor_us();
        let (agreed, refused) = (&self.agreed, &mut self.refused);
        stirred |= self
            .control
            .sweep(&mut self.slots, agreed, floor_us, refused);
        let rounds = &mut self.rounds;
        stirred |= self
            .data
            .sweep(&self.slots, agreed, rounds, floor_us, refused);
        // A child that ends takes its connection with it, so that one which has a connection need not be asked.
        let apart = self.slots.iter_mut().filter(|slot| slot.members.is_empty());
        for slot in apart {
            let child = slot.child.as_mut();
            if let Some(status) = child.and_then(|child| child.process.ended()) {
                stirred = true;
                slot.child = None;
                slot.expected.fill(false);
                slot.remark = format!("its process ended ({status})");
            }
        }
        for (server, _) in &mut self.servers {
            if let Some(status) = server.ended() {
                stirred = true;
                let name = server.name;
                self.screen.say(&format!(
                    "aggregator: the {name} ended ({status}); nobody gets prices from it until it runs again"
                ));
            }
        }
        stirred
    }

    /// The earliest start of rounds that are not over.
    fn floor_us(&self) -> u64 {
        let running = self.rounds.first().map(|round| round.start_us);
        running.unwrap_or(self.book.start_us_min())
    }

    /// Whether a slot has a collector, or may still get one.
    fn may_come(&self, slot: &Slot) -> bool {
        !slot.members.is_empty() || slot.child.is_some() || self.config.children.is_none()
    }

    /// Waits until every collector that may still come is ready, or until `--ready-timeout`. Once no feed can have a quorum, waits
    /// only [`LAST_WORDS_MS_MAX`] longer. Returns whether those that are ready are a quorum of any feed.
    fn gather(&mut self) -> bool {
        let mut patience_us = self.config.ready_timeout_us;
        let (now_us, from_us) = (wall_us(), self.config.tenure.from_us);
        if from_us > 0 && now_us < from_us + patience_us {
            // The roster counts soon, or has just begun to: its first round is not missed for those who are late.
            let left_us = from_us.saturating_sub(now_us + self.config.lead_us());
            patience_us = patience_us.min(left_us);
        }
        // Nor the first round of the next roster.
        if let Some(until_us) = self.config.tenure.until_us {
            patience_us = patience_us.min(until_us.saturating_sub(now_us));
        }
        let mut until = Instant::now() + Duration::from_micros(patience_us);
        let mut hopeless = false;
        let mut naps = Naps::gathering();
        loop {
            self.sweep();
            let ready = self.slots.iter().filter(|slot| slot.ready()).count();
            let possible = self.slots.iter().filter(|slot| self.may_come(slot)).count();
            self.show();
            if ready == possible || Instant::now() >= until {
                return has_quorum(&self.config.roster, &self.slots, |slot, feed| {
                    slot.ready_for(feed)
                });
            }
            let may_come = |slot: &Slot, _| self.may_come(slot);
            if !hopeless && !has_quorum(&self.config.roster, &self.slots, may_come) {
                hopeless = true;
                until = until.min(Instant::now() + Duration::from_millis(LAST_WORDS_MS_MAX));
            }
            std::thread::sleep(naps.waiting());
        }
    }

    /// Begins the rounds of a start. Collectors that are ready are expected to answer. Of the first round, the start is told.
    fn begin(&mut self, start_us: u64, is_first: bool) {
        self.agreed.forget_before(start_us);
        let held = self.agreed.at(start_us).expect("terms hold for it");
        let feeds = held.roster.feeds.iter();
        self.rounds = feeds.map(|it| Round::new(it.clone(), start_us)).collect();
        for line in control::odd_lines(&mut self.slots) {
            self.screen.say(&line);
        }
        let mut ready = 0;
        for (slot, roster_slot) in self.slots.iter_mut().zip(&held.roster.slots) {
            let known = slot.key == roster_slot.key;
            for feed in 0..self.rounds.len() {
                slot.expected[feed] = known && slot.seats[feed].is_some() && slot.ready_for(feed);
            }
            ready += u16::from(known && slot.ready());
            if slot.expected.contains(&true) {
                slot.remark.clear();
            }
        }
        if is_first {
            let (n, start) = (self.config.n(), utc_text(start_us));
            let samples = words::samples_text(self.config.roster.schedule());
            self.tell(&format!(
                "{ready} of {n} collectors ready; {samples}, from {start}"
            ));
        }
    }

    /// Takes samples and observations until nothing more can come, or until the round's end. The round starts in `lead_us` at most.
    fn watch(&mut self, lead_us: u64) {
        let round = self.rounds.first().expect("a round has begun");
        let (start_us, interval_us) = (round.start_us, round.terms.schedule.interval_us);
        let (last_us, end_us) = (round.last_instant_us(), round.end_us());
        // Not longer if the clock was set back just now.
        let left_us = end_us.saturating_sub(wall_us());
        let left_us = left_us.min(end_us - start_us + lead_us);
        let until = Instant::now() + Duration::from_micros(left_us);
        let closing = until - Duration::from_micros(left_us.min(end_us - last_us));
        let (mut sampling, mut closing_naps) = (Naps::sampling(), Naps::closing());
        let mut told = 0;
        loop {
            let stirred = self.sweep();
            told = self.show_progress(told);
            if Instant::now() >= until || self.nothing_more_can_come() {
                return;
            }
            let now = Instant::now();
            let nap = if now >= closing {
                closing_naps.waiting()
            } else {
                let nap = sampling.after(stirred);
                nap::between_instants(nap, wall_us(), start_us, interval_us)
                    .min(closing + INSTANT_CLEAR - now)
            };
            std::thread::sleep(nap.min(until.saturating_duration_since(now)));
        }
    }

    /// Whether every feed's round could end: each of its collectors that was ready at the beginning, or has brought samples since,
    /// has answered or is gone for good. If this aggregator did not start its collectors, there must have been at least one for
    /// each feed: all of them may be about to connect again.
    fn nothing_more_can_come(&self) -> bool {
        let mut waited_for = vec![self.config.children.is_some(); self.rounds.len()];
        for slot in &self.slots {
            for (feed, seat) in slot.feeds() {
                let came = !slot.records(self.floor_us(), feed).is_empty();
                if slot.expected[feed] || came && self.may_come(slot) {
                    waited_for[feed] = true;
                    if !self.rounds[feed].answered(seat) {
                        return false;
                    }
                }
            }
        }
        !waited_for.contains(&false)
    }
}

/// Whether the slots of which `is_there` is true are a quorum of any feed.
fn has_quorum(roster: &Roster, slots: &[Slot], is_there: impl Fn(&Slot, usize) -> bool) -> bool {
    roster.feeds.iter().enumerate().any(|(feed, terms)| {
        let of_feed = slots.iter().filter(|slot| slot.seats[feed].is_some());
        let there = of_feed.filter(|slot| is_there(slot, feed)).count();
        there >= usize::from(terms.quorum())
    })
}

/// Counts a refusal under its reason.
fn count(refused: &mut Refused, reason: Reject) {
    let count = refused.entry(reason).or_default();
    *count = count.saturating_add(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quorum_of_one_feed_is_enough_and_slots_that_do_not_price_it_do_not_count() {
        // Three slots price the first feed, which needs two, and two of them the second, which needs both.
        let roster = agreed::tests::two_feeds([None; 3]);
        let slots = Slot::all(&roster, &[None; 3]);
        let among = |there: &[usize]| {
            let at = |slot: &Slot| slots.iter().position(|one| std::ptr::eq(one, slot));
            has_quorum(&roster, &slots, |slot, _| {
                there.contains(&at(slot).unwrap())
            })
        };
        assert!(among(&[0, 1]) && among(&[0, 2]) && !among(&[1]) && !among(&[2]));
        let second = |there: &[usize]| {
            let at = |slot: &Slot| slots.iter().position(|one| std::ptr::eq(one, slot));
            has_quorum(&roster, &slots, |slot, feed| {
                feed == 1 && there.contains(&at(slot).unwrap())
            })
        };
        assert!(second(&[0, 2]) && !second(&[0, 1]));
    }
}
