//! The aggregator: opens the two channels, starts the collectors, runs one round, makes the price.
//!
//! One thread looks at everything in turn (`sweep`) and naps in between: briefly while something is awaited, longer
//! while samples are taken, and never around a sample's instant, when the collectors want the cores.
//! Invariant: only fixed-width frames come in; nobody's silence, slowness or garbage moves a deadline or a price.
//! What this module does not do: TLS, websockets or JSON from outside.

mod control;
mod data;
mod view;

use crate::aggregate::{faulty_max, quorum};
use crate::child::{self, Child, CollectorPlace, ExchangeChild};
use crate::clock::utc_text;
use crate::config::Run;
use crate::error::{EXIT_NO_QUORUM, EXIT_PRICE, Error};
use crate::exchange::link;
use crate::frame;
use crate::limits::*;
use crate::random;
use crate::reason::Reject;
use crate::report::{Refused, Report};
use crate::round::Round;
use crate::screen::Screen;
use crate::seal::{EnrolmentSecret, SecretKey, round_bytes, wipe};
use crate::terms::{Seat, Terms};
use crate::voices::Voices;
use crate::wait::{sharpen_sleeps, wall_us};
use control::{ControlChannel, Member};
use data::DataChannel;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

/// Nap while frames are awaited.
const NAP_SHORT: Duration = Duration::from_micros(500);
/// Nap while samples are taken.
const NAP_LONG: Duration = Duration::from_millis(20);
/// No nap ends within this of a sample's instant: before it the collectors poll the clock, after it they encrypt and send.
const INSTANT_CLEAR_US: u64 = 3_000;
/// Collectors started between two looks at the channels.
const STARTS_PER_SWEEP: u16 = 16;
/// Lines of the result that name single collectors.
const DETAIL_SLOTS_MAX: usize = 20;

/// One slot of the roster as it stands.
pub struct Slot {
    source: String,
    secret: EnrolmentSecret,
    child: Option<Child>,
    remote: bool,
    member: Option<Member>,
    /// The member's key, which stays when its connection goes.
    key: Option<crate::seal::PublicKey>,
    /// What became of the collector, for the report.
    remark: String,
}

impl Slot {
    fn ready(&self) -> bool {
        self.member
            .as_ref()
            .is_some_and(|member| member.first_price.is_some())
    }

    /// Whether there is still someone to hope for.
    fn may_come(&self) -> bool {
        self.member.is_some() || self.remote || self.child.is_some()
    }
}

/// The aggregator's whole state.
struct Aggregator<'a> {
    config: &'a Run,
    key: SecretKey,
    session: [u8; 32],
    control: ControlChannel,
    data: DataChannel,
    slots: Vec<Slot>,
    round: Option<Round>,
    refused: Refused,
    log: child::Log,
    voices: Voices,
    screen: Screen,
    exchange: Option<ExchangeChild>,
}

/// Runs one round; gives the exit code.
pub fn run(config: &Run) -> Result<u8, Error> {
    sharpen_sleeps();
    let mark = if config.source.embedded {
        "embedded "
    } else {
        ""
    };
    let mut aggregator = Aggregator::new(config, Screen::new(config.quiet, mark))?;
    aggregator.start_collectors()?;
    let began = aggregator.gather();
    let code = if began {
        aggregator.announce();
        aggregator.watch();
        aggregator.publish()
    } else {
        aggregator.give_up()
    };
    aggregator.end();
    Ok(code)
}

fn listen(address: SocketAddr, channel: &str, flag: &str) -> Result<TcpListener, Error> {
    TcpListener::bind(address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|error| {
            let attempt = format!(
                "cannot listen on {address} (port {} for the {channel} channel)",
                address.port()
            );
            Error::new(attempt, error).advise(format!(
                "choose another with --{flag} PORT, or end what uses it"
            ))
        })
}

impl<'a> Aggregator<'a> {
    fn new(config: &'a Run, screen: Screen) -> Result<Aggregator<'a>, Error> {
        let control = listen(config.control, "control", "control-port")?;
        let data = listen(config.data, "data", "data-port")?;
        check_open_files(config)?;
        if config.ca_file.is_some() {
            link::connector(config.ca_file.as_deref())?;
        }
        let slot = |index: u16| -> Result<Slot, Error> {
            let secret = EnrolmentSecret::take(&mut random::bytes()?);
            let remote = index >= config.collectors - config.remote;
            Ok(Slot {
                source: config.source.name.clone(),
                secret,
                child: None,
                remote,
                member: None,
                key: None,
                remark: String::new(),
            })
        };
        Ok(Aggregator {
            config,
            key: SecretKey::from_seed(&mut random::bytes()?),
            session: random::bytes()?,
            control: ControlChannel::new(control)?,
            data: DataChannel::new(data)?,
            slots: (0..config.collectors).map(slot).collect::<Result<_, _>>()?,
            round: None,
            refused: Refused::new(),
            log: child::Log::new()?,
            voices: Voices::default(),
            screen,
            exchange: None,
        })
    }

    /// Progress, for those who want it.
    fn tell(&mut self, line: &str) {
        if !self.config.quiet {
            self.screen.say(&format!("aggregator: {line}"));
        }
    }

    /// Starts the embedded exchange if one is wanted, and every local collector.
    fn start_collectors(&mut self) -> Result<(), Error> {
        let (control, data) = (self.control.address, self.data.address);
        self.tell(&format!(
            "control channel on {control}, data channel on {data}"
        ));
        if self.config.source.embedded && self.config.endpoint.is_none() {
            self.exchange = Some(child::exchange(&self.log)?);
        }
        let started = self
            .exchange
            .as_ref()
            .map(|exchange| exchange.endpoint.clone());
        let endpoint = started.or_else(|| self.config.endpoint.clone());
        for index in 0..self.config.collectors {
            let slot = &mut self.slots[usize::from(index)];
            let mut enrolment = [0; 64];
            enrolment[..32].copy_from_slice(slot.secret.expose());
            enrolment[32..].copy_from_slice(self.key.public().bytes());
            if slot.remote {
                write_enrolment(
                    self.config.enrolment_dir.as_deref().unwrap_or("."),
                    index,
                    &enrolment,
                )?;
            } else {
                let place = CollectorPlace {
                    slot: index,
                    control,
                    data,
                    endpoint: endpoint.as_ref(),
                };
                slot.child = Some(child::collector(
                    self.config,
                    &place,
                    &enrolment,
                    &self.log,
                )?);
            }
            wipe(&mut enrolment);
            // Those already started knock meanwhile, and the system keeps only 128 waiting at a door.
            if index % STARTS_PER_SWEEP == STARTS_PER_SWEEP - 1 {
                self.sweep();
            }
        }
        Ok(())
    }

    /// Looks at everything once.
    fn sweep(&mut self) {
        let bytes = self.log.read();
        for line in self.voices.hear(&bytes) {
            self.screen.say(&line);
        }
        self.data.receive();
        self.control
            .sweep(&mut self.slots, self.round.as_mut(), &mut self.refused);
        self.data
            .sweep(&self.slots, self.round.as_mut(), &mut self.refused);
        for slot in &mut self.slots {
            if let Some(status) = slot.child.as_mut().and_then(Child::ended) {
                slot.child = None;
                slot.remark = format!("its process ended ({status})");
            }
        }
    }

    /// Waits until the roster is ready; whether a round can begin.
    fn gather(&mut self) -> bool {
        let n = self.config.collectors;
        let needed = usize::from(quorum(n, faulty_max(self.config.rule, n)));
        let until = Instant::now() + Duration::from_micros(self.config.ready_timeout_us);
        loop {
            self.sweep();
            let ready = self.slots.iter().filter(|slot| slot.ready()).count();
            let possible = self.slots.iter().filter(|slot| slot.may_come()).count();
            let block = view::gathering(&self.slots);
            self.screen.draw(block, false);
            if ready == possible && ready >= needed {
                return true;
            }
            if possible < needed || Instant::now() >= until {
                return ready >= needed;
            }
            std::thread::sleep(NAP_SHORT);
        }
    }

    /// The terms of the round: everything that is fixed once the roster is.
    fn terms(&self) -> Terms {
        let (config, n) = (self.config, self.config.collectors);
        let f = faulty_max(config.rule, n);
        let seat = |slot: &Slot| Seat {
            key: slot.key,
            source: slot.source.clone(),
        };
        Terms {
            aggregator: self.key.public(),
            session: self.session,
            feed: config.feed.clone(),
            rule: config.rule,
            f,
            quorum: quorum(n, f),
            exchanges_min: 1,
            samples: config.samples,
            interval_us: config.interval_us,
            seats: self.slots.iter().map(seat).collect(),
        }
    }

    /// Fixes the terms and tells every collector that is ready when to begin.
    fn announce(&mut self) {
        let members = || self.slots.iter().filter_map(|slot| slot.member.as_ref());
        let apart_us = members()
            .map(|member| 2 * member.round_trip_us + member.clock_offset_us.unsigned_abs())
            .max();
        let lead_us = apart_us
            .unwrap_or(0)
            .clamp(LEAD_MS_MIN * 1_000, LEAD_MS_MAX * 1_000);
        let round = Round::new(self.terms(), wall_us() + lead_us);
        let mut ready = 0;
        for slot in self.slots.iter_mut().filter(|slot| slot.ready()) {
            let Some(member) = &mut slot.member else {
                continue;
            };
            let mut frame = frame::Round {
                start_us: round.start_us,
                interval_us: round.terms.interval_us,
                samples: round.terms.samples,
                terms_digest: round.digest,
                signature: [0; 64],
            };
            frame.signature =
                self.key
                    .sign(&round_bytes(&member.nonce, &member.hello_signature, &frame));
            member.inbox.send(&frame.encode());
            ready += 1;
        }
        let (n, config) = (self.config.collectors, self.config);
        let interval = crate::args::duration_text(config.interval_us);
        let start = utc_text(round.start_us);
        self.tell(&format!(
            "{ready} of {n} collectors ready; {} samples {interval} apart, from {start}",
            config.samples
        ));
        self.round = Some(round);
    }

    /// Takes in samples and observations until all that can come has come, or the deadline.
    fn watch(&mut self) {
        let round = self.round.as_ref().expect("a round was announced");
        let (start_us, interval_us) = (round.start_us, round.terms.interval_us);
        let (last_us, deadline_us) = (round.last_instant_us(), round.deadline_us());
        let left_us = deadline_us.saturating_sub(wall_us());
        let until = Instant::now() + Duration::from_micros(left_us);
        let closing = until - Duration::from_micros(left_us.min(deadline_us - last_us));
        let mut told = 0;
        loop {
            self.sweep();
            told = self.show_progress(told);
            if Instant::now() >= until || self.nothing_more_can_come() {
                return;
            }
            let nap = if Instant::now() >= closing {
                NAP_SHORT
            } else {
                nap_between(wall_us(), start_us, interval_us)
            };
            std::thread::sleep(nap.min(until.saturating_duration_since(Instant::now())));
        }
    }

    /// Whether every collector has answered or is gone.
    fn nothing_more_can_come(&self) -> bool {
        let round = self.round.as_ref().expect("a round is running");
        let open = |(index, slot): (usize, &Slot)| slot.ready() && !round.answered(index as u16);
        !self.slots.iter().enumerate().any(open)
    }

    /// Shows where the round is: on a terminal all the time, elsewhere once per sample.
    fn show_progress(&mut self, told: usize) -> usize {
        let round = self.round.as_ref().expect("a round is running");
        if self.screen.live() {
            let block = view::sampling(&self.slots, round);
            self.screen.draw(block, false);
            return told;
        }
        let done = view::samples_done(&self.slots, round);
        let lines: Vec<String> = (told..done)
            .map(|index| view::sample_line(round, index))
            .collect();
        lines.iter().for_each(|line| self.tell(line));
        done
    }

    /// Makes the price and prints it, or says why there is none.
    fn publish(&mut self) -> u8 {
        let round = self.round.take().expect("a round was run");
        self.data.close_round(&mut self.refused);
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.remark.is_empty() && !round.answered(index as u16) {
                slot.remark = view::why_silent(slot).to_owned();
            }
        }
        let outcome = round.outcome();
        let remarks: Vec<String> = self.slots.iter().map(|slot| slot.remark.clone()).collect();
        let report = Report {
            round: &round,
            outcome: &outcome,
            refused: &self.refused,
            remarks: &remarks,
            embedded: self.config.source.embedded,
        };
        let code = if outcome.price.is_some() {
            EXIT_PRICE
        } else {
            EXIT_NO_QUORUM
        };
        let line = if self.config.json {
            Some(report.json())
        } else {
            report.closing_line()
        };
        let details = report.details(DETAIL_SLOTS_MAX);
        let failure = report.failure();
        self.screen.draw(view::sampling(&self.slots, &round), true);
        self.screen.keep();
        for line in details {
            self.tell(&line);
        }
        if code == EXIT_NO_QUORUM {
            self.screen.say(&format!("aggregator: {failure}"));
        }
        line.map_or(code, |line| self.print(&line, code))
    }

    /// The result, on standard output.
    fn print(&mut self, line: &str, code: u8) -> u8 {
        let mark = if self.config.json {
            ""
        } else {
            self.screen.mark()
        };
        let mut out = std::io::stdout().lock();
        match out
            .write_all(format!("{mark}{line}\n").as_bytes())
            .and_then(|()| out.flush())
        {
            Ok(()) => code,
            Err(error) => {
                self.screen.say(&format!(
                    "aggregator: cannot write the result to standard output: {error}"
                ));
                crate::error::EXIT_FAILURE
            }
        }
    }

    /// No round could begin: says what is missing.
    fn give_up(&mut self) -> u8 {
        self.drain_log();
        self.screen.keep();
        let (n, ready) = (
            self.config.collectors,
            self.slots.iter().filter(|slot| slot.ready()).count(),
        );
        let needed = quorum(n, faulty_max(self.config.rule, n));
        let mut reasons: Vec<&str> = self
            .slots
            .iter()
            .filter(|slot| !slot.ready())
            .map(view::why_silent)
            .collect();
        reasons.dedup();
        let why = reasons.join("; ");
        self.screen.say(&format!("aggregator: no price: {ready} of {n} collectors became ready, {needed} are needed (quorum); {why}"));
        EXIT_NO_QUORUM
    }

    fn drain_log(&mut self) {
        loop {
            let bytes = self.log.read();
            if bytes.is_empty() {
                break;
            }
            for line in self.voices.hear(&bytes) {
                self.screen.say(&line);
            }
        }
        for line in self.voices.summary() {
            self.screen.say(&line);
        }
    }

    /// Tells the collectors to end by ending their connections, and sees to it that they do.
    fn end(mut self) {
        self.drain_log();
        let children: Vec<Child> = self
            .slots
            .iter_mut()
            .filter_map(|slot| slot.child.take())
            .collect();
        self.slots.clear();
        drop(self.data);
        drop(self.control);
        child::end_all(children);
    }
}

/// Counts a refusal.
fn count(refused: &mut Refused, reason: Reject) {
    let count = refused.entry(reason).or_default();
    *count = count.saturating_add(1);
}

/// How long to nap while samples are taken, so as not to wake around an instant.
fn nap_between(now_us: u64, start_us: u64, interval_us: u64) -> Duration {
    let wake_us = now_us + NAP_LONG.as_micros() as u64;
    if wake_us + INSTANT_CLEAR_US < start_us {
        return NAP_LONG;
    }
    let since = (wake_us + INSTANT_CLEAR_US).saturating_sub(start_us);
    let past_instant = since % interval_us;
    // `past_instant` counts from INSTANT_CLEAR_US before an instant; within twice that the instant is too near.
    let shift = (2 * INSTANT_CLEAR_US).saturating_sub(past_instant);
    NAP_LONG + Duration::from_micros(shift)
}

/// Three open files per collector (two channels, a moment of standard input) and room for strangers.
fn check_open_files(config: &Run) -> Result<(), Error> {
    let needed = 3 * u64::from(config.collectors) + 2 * STRANGERS_MAX as u64 + 32;
    let Ok(limits) = std::fs::read_to_string("/proc/self/limits") else {
        return Ok(());
    };
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    match soft {
        Some(soft) if soft < needed => {
            let attempt = format!("cannot run {} collectors", config.collectors);
            let cause = format!("this process may open {soft} files, {needed} are needed");
            Err(Error::new(attempt, cause).advise(format!(
                "raise the limit with 'ulimit -n {needed}' or take fewer --collectors"
            )))
        }
        _ => Ok(()),
    }
}

/// Writes a remote collector's enrolment so that only its owner can read it.
fn write_enrolment(dir: &str, slot: u16, enrolment: &[u8; 64]) -> Result<(), Error> {
    let path = format!("{dir}/slot-{slot}.enrolment");
    let failed = |error| {
        Error::new(format!("cannot write {path}"), error)
            .advise("name a directory with --enrolment-dir that can be written")
    };
    // An older file is removed, not overwritten: its mode might let others read.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path);
    file.and_then(|mut file| file.write_all(enrolment))
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_nap_between_samples_ends_around_an_instant() {
        let (start, interval) = (1_000_000_000, 1_000_000);
        for offset in (0..3_000_000).step_by(333) {
            let now = start - 500_000 + offset;
            let wake = now + nap_between(now, start, interval).as_micros() as u64;
            if wake + INSTANT_CLEAR_US < start {
                continue;
            }
            let near = (wake + INSTANT_CLEAR_US - start) % interval;
            assert!(near >= 2 * INSTANT_CLEAR_US, "now {now}, wakes {wake}");
        }
    }
}
