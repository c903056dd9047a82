//! The aggregator: opens the two channels, starts the collectors, runs one round or many, and publishes the price.
//!
//! Its one thread polls everything in turn (`sweep`) and sleeps in between (`nap`).
//! Invariant: only fixed-width frames come in, never TLS, WebSocket or JSON from outside. No peer's silence, slowness or
//! garbage moves a deadline or a price.
//! Uses: collector, keys, proof, source, system, verify, wire. Used by: cli, doctor, main.

pub mod book;
pub(crate) mod children;
pub mod control;
pub mod data;
mod finish;
pub mod journal;
mod nap;
mod resume;
pub mod roster;
mod rounds;
pub mod settings;
mod setup;
mod strays;
mod view;
pub mod voices;
pub mod words;

use crate::aggregator::settings::Run;
use crate::aggregator::voices::Voices;
use crate::keys::secret::{EnrolmentSecret, SecretKey, round_bytes};
use crate::system::child::Child;
use crate::system::endpoint::Endpoint;
use crate::system::limits::*;
use crate::system::now::{sharpen_sleeps, wall_us};
use crate::system::random;
use crate::system::screen::{Outlet, Screen};
use crate::wire as frame;
use book::{Book, Remark};
use children::{ExchangeChild, Log};
use control::{ControlChannel, Member};
use data::DataChannel;
use nap::{INSTANT_CLEAR, Naps};
use rounds::Restart;
use rsoracle_proof::reason::Reject;
use rsoracle_proof::report::Refused;
use rsoracle_proof::round::Round;
use rsoracle_proof::seal::PublicKey;
use rsoracle_proof::terms::{Seat, Terms};
use rsoracle_proof::utc::utc_text;
use rsoracle_verify::error::{EXIT_FAILURE, EXIT_OK, Error};
use setup::{check_open_files, collector_keys, key_remarks, listen};
use std::time::{Duration, Instant};
use strays::Strays;
use words::Absence;

/// Most lines of a result that are about single collectors.
const DETAIL_SLOTS_MAX: usize = 20;

/// One slot of the roster, and its collector if there is one.
pub struct Slot {
    source: String,
    secret: EnrolmentSecret,
    child: Option<Child>,
    remote: bool,
    member: Option<Member>,
    /// The key of the last collector that joined; kept when its connection ends.
    key: Option<PublicKey>,
    /// The public key in the slot's key file, if it has one: the key of any collector started for this slot.
    file_key: Option<PublicKey>,
    /// What happened to the collector, in words for the operator; empty if nothing did.
    remark: String,
    restart: Restart,
}

impl Slot {
    /// A slot whose collector has not joined yet. `secret` will prove it. A `remote` collector is not started by this
    /// aggregator.
    pub fn new(source: String, secret: EnrolmentSecret, remote: bool) -> Slot {
        Slot {
            source,
            secret,
            child: None,
            remote,
            member: None,
            key: None,
            file_key: None,
            remark: String::new(),
            restart: Restart::default(),
        }
    }

    /// Sends the announcement of a round, signed with the aggregator's key, to the slot's collector, if that is ready.
    /// Returns whether it was sent.
    pub fn announce(&mut self, round: &Round, key: &SecretKey) -> bool {
        let Some(member) = self.member.as_mut().filter(|m| m.first_price.is_some()) else {
            return false;
        };
        let mut frame = frame::RoundFrame {
            start_us: round.start_us,
            interval_us: round.terms.interval_us,
            samples: round.terms.samples,
            terms_digest: round.digest,
            signature: [0; 64],
        };
        frame.signature = key.sign(&round_bytes(&member.nonce, &member.hello_signature, &frame));
        member.round_start_us = round.start_us;
        member.inbox.send(&frame.encode());
        self.remark.clear();
        true
    }

    /// Whether its collector is ready: it has read a first price.
    pub fn ready(&self) -> bool {
        self.member
            .as_ref()
            .is_some_and(|member| member.first_price.is_some())
    }

    /// Whether the round that starts at `start_us` was announced to its collector.
    fn takes_part(&self, start_us: u64) -> bool {
        let told = |member: &Member| member.round_start_us == start_us;
        self.member.as_ref().is_some_and(told)
    }

    /// Whether the slot has a collector, or may still get one.
    fn may_come(&self) -> bool {
        self.member.is_some() || self.remote || self.child.is_some()
    }
}

/// The whole state of the aggregator.
struct Aggregator<'a> {
    config: &'a Run,
    key: SecretKey,
    session: [u8; 32],
    control: ControlChannel,
    data: DataChannel,
    slots: Vec<Slot>,
    round: Option<Round>,
    refused: Refused,
    log: Log,
    voices: Voices,
    strays: Strays,
    /// What the last round spent on keeping its report and on writing to standard output, in microseconds.
    spent_us: [u64; 2],
    screen: Screen,
    outlet: Outlet,
    /// For each slot: since which round it has given no price.
    absences: Vec<Absence>,
    /// Whether no further round makes sense.
    over: bool,
    exchange: Option<ExchangeChild>,
    exchange_restart: Restart,
    /// Address of the embedded exchange, if there is one.
    endpoint: Option<Endpoint>,
    book: Book,
}

/// Runs one round, or rounds without end. Returns the exit code.
pub fn run(config: &Run) -> Result<u8, Error> {
    sharpen_sleeps();
    let mark = if config.embedded() { "embedded " } else { "" };
    let mut aggregator = Aggregator::new(config, Screen::new(config.quiet, mark))?;
    aggregator.start_collectors()?;
    let code = match config.every_us {
        Some(every_us) => aggregator.rounds(every_us),
        None => Ok(aggregator.one_round()),
    };
    aggregator.end();
    code
}

impl<'a> Aggregator<'a> {
    fn new(config: &'a Run, screen: Screen) -> Result<Aggregator<'a>, Error> {
        let any = config.any_port_will_do;
        let control = listen(config.control, "control", "control-port", any)?;
        let data = listen(config.data, "data", "data-port", any)?;
        check_open_files(config)?;
        let (key, key_made) = book::key(config)?;
        let (book, said) = Book::open(config, &key)?;
        let keys = collector_keys(config, key.public())?;
        config
            .write_roster
            .as_deref()
            .map_or(Ok(()), roster::check)?;
        let slot = |index: u16| -> Result<Slot, Error> {
            let mut seed = [0; 32];
            random::fill(&mut seed)?;
            let secret = EnrolmentSecret::take(&mut seed);
            let remote = index >= config.collectors - config.remote;
            let source = config.sources[usize::from(index)].name.clone();
            Ok(Slot {
                file_key: keys.public[usize::from(index)],
                ..Slot::new(source, secret, remote)
            })
        };
        let mut aggregator = Aggregator {
            config,
            key,
            session: random::bytes()?,
            control: ControlChannel::new(control)?,
            data: DataChannel::new(data)?,
            slots: (0..config.collectors).map(slot).collect::<Result<_, _>>()?,
            round: None,
            refused: Refused::new(),
            log: Log::new()?,
            voices: Voices::default(),
            strays: Strays::default(),
            spent_us: [0; 2],
            screen,
            outlet: Outlet::default(),
            absences: (0..config.collectors).map(|_| Absence::default()).collect(),
            over: false,
            exchange: None,
            exchange_restart: Restart::default(),
            endpoint: config.endpoint.clone(),
            book,
        };
        let own = book::key_path(config);
        let of_keys = key_remarks(config, own, key_made, keys.made);
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
        // The roster comes before the start is fixed: a slow disk must not use up the lead time.
        let written = self.write_roster();
        let start_us = wall_us() + self.lead_us();
        self.announce(start_us.max(self.book.start_us_min()));
        self.watch(u64::MAX);
        match self.publish() {
            EXIT_OK if !written => EXIT_FAILURE,
            code => code,
        }
    }

    /// Polls everything once: the children's log, both channels, and the children themselves. Returns whether anything
    /// happened.
    fn sweep(&mut self) -> bool {
        let bytes = self.log.read();
        let mut stirred = !bytes.is_empty();
        for line in self.voices.hear(bytes) {
            self.screen.say(&line);
        }
        // With a single round, there is no later round that a collector could join.
        let joining = self.round.is_none() || self.config.every_us.is_some();
        stirred |= self.control.sweep(
            &mut self.slots,
            self.round.as_mut(),
            joining,
            &mut self.refused,
        );
        stirred |= self
            .data
            .sweep(&self.slots, self.round.as_mut(), &mut self.refused);
        // A child that ends takes its connection with it, so that one which has a connection need not be asked.
        for slot in self.slots.iter_mut().filter(|slot| slot.member.is_none()) {
            if let Some(status) = slot.child.as_mut().and_then(Child::ended) {
                stirred = true;
                slot.child = None;
                slot.remark = format!("its process ended ({status})");
            }
        }
        if let Some(exchange) = &mut self.exchange
            && let Some(status) = exchange.child.ended()
        {
            stirred = true;
            self.exchange = None;
            self.screen.say(&format!(
                "aggregator: the embedded exchange ended ({status}); its sources have no price until it runs again"
            ));
        }
        stirred
    }

    /// Waits until every collector that may still come is ready, or until `--ready-timeout`. Once a quorum is impossible, waits
    /// only [`LAST_WORDS_MS_MAX`] longer. Returns whether those that are ready are a quorum.
    fn gather(&mut self) -> bool {
        let needed = usize::from(self.config.quorum());
        let mut until = Instant::now() + Duration::from_micros(self.config.ready_timeout_us);
        let mut hopeless = false;
        let mut naps = Naps::gathering();
        loop {
            self.sweep();
            let ready = self.slots.iter().filter(|slot| slot.ready()).count();
            let possible = self.slots.iter().filter(|slot| slot.may_come()).count();
            if self.screen.live() {
                self.screen
                    .draw(view::gathering(&self.slots, self.screen.rows()), false);
            }
            if ready == possible || Instant::now() >= until {
                return ready >= needed;
            }
            if possible < needed && !hopeless {
                hopeless = true;
                until = until.min(Instant::now() + Duration::from_millis(LAST_WORDS_MS_MAX));
            }
            std::thread::sleep(naps.waiting());
        }
    }

    /// The terms of the next round, with the keys known by now.
    fn terms(&self) -> Terms {
        let config = self.config;
        let seat = |slot: &Slot| Seat {
            key: slot.key,
            source: slot.source.clone(),
        };
        Terms {
            aggregator: self.key.public(),
            session: self.session,
            feed: config.feed.clone(),
            rule: config.rule,
            sample_rule: config.sample_rule,
            f: config.f(),
            quorum: config.quorum(),
            exchanges_min: config.exchanges_min,
            samples: config.samples,
            interval_us: config.interval_us,
            seats: self.slots.iter().map(seat).collect(),
        }
    }

    /// Fixes the terms, and announces the round to every collector that is ready.
    fn announce(&mut self, start_us: u64) {
        let round = Round::new(self.terms(), start_us);
        for line in control::clock_lines(&self.slots) {
            self.screen.say(&line);
        }
        let mut ready = 0;
        for slot in &mut self.slots {
            ready += u16::from(slot.announce(&round, &self.key));
        }
        self.round = Some(round);
        if self.config.every_us.is_none() {
            self.tell_start(ready, start_us);
        }
    }

    fn tell_start(&mut self, ready: u16, start_us: u64) {
        let (n, config) = (self.config.collectors, self.config);
        let interval = rsoracle_verify::duration::duration_text(config.interval_us);
        let start = utc_text(start_us);
        self.tell(&format!(
            "{ready} of {n} collectors ready; {} samples {interval} apart, from {start}",
            config.samples
        ));
    }

    /// Takes samples and observations until nothing more can come, the round's deadline, or `end_us`, whichever is first.
    fn watch(&mut self, end_us: u64) {
        let round = self.round.as_ref().expect("a round was announced");
        let (start_us, interval_us) = (round.start_us, round.terms.interval_us);
        let deadline_us = round.deadline_us().min(end_us);
        let last_us = round.last_instant_us().min(deadline_us);
        let left_us = deadline_us.saturating_sub(wall_us());
        let until = Instant::now() + Duration::from_micros(left_us);
        let closing = until - Duration::from_micros(left_us.min(deadline_us - last_us));
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

    /// Whether every collector that takes part has answered or is gone.
    fn nothing_more_can_come(&self) -> bool {
        let round = self.round.as_ref().expect("a round is running");
        let open = |(index, slot): (usize, &Slot)| {
            slot.takes_part(round.start_us) && !round.answered(index as u16)
        };
        !self.slots.iter().enumerate().any(open)
    }

    /// Shows the round's progress: on a terminal at every sweep, otherwise one line per sample. `told` is the number of lines
    /// shown so far; returns the new one.
    fn show_progress(&mut self, told: usize) -> usize {
        let round = self.round.as_ref().expect("a round is running");
        if self.screen.live() {
            let block = view::sampling(&self.slots, round, self.screen.rows());
            self.screen.draw(block, false);
            return told;
        }
        if self.config.every_us.is_some() {
            return told;
        }
        let done = view::samples_done(&self.slots, round);
        let lines: Vec<String> = (told..done)
            .map(|index| view::sample_line(round, index))
            .collect();
        lines.iter().for_each(|line| self.tell(line));
        done
    }
}

/// Counts a refusal under its reason.
fn count(refused: &mut Refused, reason: Reject) {
    let count = refused.entry(reason).or_default();
    *count = count.saturating_add(1);
}
