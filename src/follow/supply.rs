//! One feed of one source: where it is read, when it is called again after it was lost, and how far `--once` must read.
//!
//! Invariant: a server is called again after growing, jittered pauses. Only news, or a connection that lasted, makes them short
//! again, so that a server that hangs up or lies is not called every second.

use super::file::{Begin, Growing};
use super::intake::{Asks, Intake, Seen, head_of};
use super::nats::{self, Nats};
use super::server::{Heard, Server};
use crate::exchange::json::{Json, Spans};
use crate::exchange::session::{jittered, random_ms};
use crate::follow::limits::*;
use crate::nats::limits::{GAP_ASKS, GAP_BACK};
use crate::system::net::Look;
use rsoracle_proof::succession::Succession;
use rsoracle_proof::terms::Terms;
use rsoracle_verify::error::Error;
use std::time::{Duration, Instant};

/// Where it is read.
pub(super) enum Feeder {
    Server(Box<Server>),
    Nats(Box<Nats>),
    File(Box<Growing>),
}

/// How far `--once` reads a server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// For ever: this is not `--once`.
    Never,
    /// The number of its newest report is not known yet.
    Unknown,
    /// Up to this report.
    Number(u64),
    /// It is there.
    Reached,
}

/// Something that came.
pub(super) enum Item {
    /// A line, and the number that the source says it has.
    Line(Option<u64>, Vec<u8>),
    /// Something, but no whole line.
    Part,
}

/// A line with the number that it says itself.
fn line_of(line: Vec<u8>) -> Item {
    let number = head_of(&line).and_then(|(number, _)| number);
    Item::Line(number, line)
}

/// A report of the future in a file is looked at again after this many milliseconds.
const EARLY_MS: u64 = 500;

/// One feed of one source.
pub(super) struct Supply {
    /// The numbers of source and feed.
    pub(super) source: usize,
    pub(super) feed: usize,
    pub(super) name: String,
    pub(super) feeder: Feeder,
    pub(super) intake: Intake,
    pub(super) goal: Goal,
    failures: u32,
    retry_at: Instant,
}

/// Most bytes of a report's line under these terms.
pub(super) fn line_bytes_max(terms: &Terms) -> usize {
    let samples = terms.schedule.samples as usize * REPORT_BYTES_PER_SAMPLE;
    REPORT_BYTES + usize::from(terms.n()) * (REPORT_BYTES_PER_SLOT + samples)
}

impl Supply {
    /// A source that was not called yet. `last`: what is known already.
    pub(super) fn new(
        (source, feed): (usize, usize),
        name: &str,
        feeder: Feeder,
        (rosters, terms): (&Succession, &Terms),
        last: Option<Seen>,
        is_once: bool,
    ) -> Supply {
        let asks = match feeder {
            Feeder::Server(_) => Asks {
                gap: 1,
                wrong: true,
            },
            Feeder::Nats(_) => Asks {
                gap: GAP_ASKS,
                wrong: false,
            },
            Feeder::File(_) => Asks {
                gap: 0,
                wrong: false,
            },
        };
        Supply {
            source,
            feed,
            name: name.to_owned(),
            feeder,
            intake: Intake::new(rosters, &terms.feed, asks, last),
            goal: if is_once { Goal::Unknown } else { Goal::Never },
            failures: 0,
            retry_at: Instant::now(),
        }
    }

    /// Where to begin a file.
    pub(super) fn begin(last: Option<Seen>, is_once: bool) -> Begin {
        let newest = if is_once { 1 + ONCE_BACK as usize } else { 1 };
        last.map_or(Begin::Newest(newest), |last| Begin::After(last.number))
    }

    /// Whether it is to be opened now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let closed = match &self.feeder {
            Feeder::Server(server) => !server.is_open(),
            Feeder::Nats(nats) => !nats.is_open(),
            Feeder::File(_) => false,
        };
        closed && self.goal != Goal::Reached && now >= self.retry_at
    }

    /// Opens it, if it is a server.
    pub(super) fn open(&mut self, look: Look) -> Result<(), Error> {
        let done = match &mut self.feeder {
            Feeder::Server(server) => server.open(self.intake.position, look),
            Feeder::Nats(nats) => nats.open(look),
            Feeder::File(_) => Ok(()),
        };
        if done.is_err() {
            self.back_off();
        }
        done
    }

    /// A line came before its time: it comes again after a pause.
    pub(super) fn wait(&mut self, line: &[u8], now: Instant) {
        match &mut self.feeder {
            Feeder::Server(server) => server.close(),
            Feeder::Nats(nats) => nats.step_back(1),
            Feeder::File(file) => {
                let until = now + Duration::from_millis(EARLY_MS);
                return file.put_back(line.to_vec(), until);
            }
        }
        self.back_off();
    }

    /// What came next, without waiting. The error is why it was lost.
    pub(super) fn next(&mut self, now: Instant) -> Result<Option<Item>, String> {
        match &mut self.feeder {
            Feeder::Server(server) => {
                let lasted = server.lasted();
                let event = match server.hear(now) {
                    Ok(Heard::Event(event)) => event,
                    Ok(Heard::Part) => return Ok(Some(Item::Part)),
                    Ok(Heard::Nothing) => return Ok(None),
                    Err(why) => {
                        self.lost(lasted);
                        return Err(why);
                    }
                };
                if event.name == "key-change" {
                    return Ok(Some(Item::Line(None, event.data)));
                }
                if event.name.is_empty() {
                    let number = event.id.parse().ok();
                    let number = number.or(head_of(&event.data).and_then(|(number, _)| number));
                    return Ok(Some(Item::Line(number, event.data)));
                }
                self.ended(&event.name, &String::from_utf8_lossy(&event.data))
            }
            Feeder::Nats(nats) => {
                let (lasted, known) = (nats.lasted(), self.intake.last.map(|last| last.number));
                let heard = nats.hear(known, now);
                if nats.is_level && self.goal == Goal::Unknown {
                    self.goal = Goal::Reached;
                }
                match heard {
                    Ok(nats::Heard::Message(line)) => Ok(Some(line_of(line.unwrap_or_default()))),
                    Ok(nats::Heard::Part) => Ok(Some(Item::Part)),
                    Ok(nats::Heard::Nothing) => Ok(None),
                    Err(why) => {
                        self.lost(lasted);
                        Err(why)
                    }
                }
            }
            Feeder::File(_) if now < self.retry_at => Ok(None),
            Feeder::File(file) => {
                let found = file.next(now);
                if file.is_level && self.goal == Goal::Unknown && matches!(found, Ok(None)) {
                    self.goal = Goal::Reached;
                }
                if found.is_err() {
                    self.retry_at = now + Duration::from_millis(RECONNECT_MS);
                }
                Ok(found?.map(line_of))
            }
        }
    }

    /// The server has ended the stream, with a reason.
    fn ended(&mut self, name: &str, data: &str) -> Result<Option<Item>, String> {
        let number = |member: &str| -> Option<u64> {
            Json::read(data, &mut Spans::new())
                .ok()?
                .get(member)?
                .whole()
        };
        let before = self.intake.position;
        let mut is_plain = false;
        match name {
            "cursor-ahead" | "journal-replaced" => self.intake.position = None,
            "cursor-too-old" => {
                let first = number("first").unwrap_or(0);
                self.intake.position = before.max(first.checked_sub(1));
                is_plain = self.intake.position > before;
            }
            "too-slow" => is_plain = true,
            _ => {}
        }
        self.close();
        if is_plain {
            // It said where to go on.
            (self.failures, self.retry_at) = (0, Instant::now());
            return Ok(Some(Item::Part));
        }
        self.back_off();
        Err(format!("it has ended the stream: {name}"))
    }

    /// Another feed of the same source could not be opened: this one is not tried before that one is.
    pub(super) fn wait_for(&mut self, other: &Supply) {
        self.retry_at = self.retry_at.max(other.retry_at);
    }

    /// It is asked again, after a pause.
    pub(super) fn ask_again(&mut self) {
        match &mut self.feeder {
            Feeder::Server(server) => server.close(),
            Feeder::Nats(nats) => nats.step_back(GAP_BACK),
            Feeder::File(_) => return,
        }
        self.back_off();
    }

    /// What came was news.
    pub(super) fn is_news(&mut self) {
        self.failures = 0;
        match &mut self.feeder {
            Feeder::Server(server) => server.is_news(),
            Feeder::Nats(nats) => nats.is_news(Instant::now()),
            Feeder::File(_) => {}
        }
    }

    /// For `--once`: the first report says up to where to read. The stream is opened again some reports before that.
    pub(super) fn set_goal(&mut self, number: u64) {
        self.goal = Goal::Number(number);
        self.intake.position = Some(number.saturating_sub(1 + ONCE_BACK));
        self.close();
        self.retry_at = Instant::now();
    }

    /// For `--once`: ends the stream once it is where it should be.
    pub(super) fn reach(&mut self) {
        if let Goal::Number(number) = self.goal
            && self.intake.position >= Some(number)
        {
            self.give_up();
        }
    }

    /// For `--once`: it is not read any more.
    pub(super) fn give_up(&mut self) {
        self.goal = Goal::Reached;
        self.close();
    }

    fn close(&mut self) {
        match &mut self.feeder {
            Feeder::Server(server) => server.close(),
            Feeder::Nats(nats) => nats.close(),
            Feeder::File(_) => {}
        }
    }

    fn lost(&mut self, lasted: Duration) {
        if lasted >= Duration::from_millis(FOLLOW_GOOD_MS) {
            self.failures = 0;
        }
        self.back_off();
    }

    fn back_off(&mut self) {
        let pause_ms = match self.failures {
            0 => random_ms(FOLLOW_RETRY_FIRST_MS_MAX),
            n => jittered((FOLLOW_RETRY_MS_MIN << (n - 1).min(16)).min(FOLLOW_RETRY_MS_MAX)),
        };
        self.failures += 1;
        self.retry_at = Instant::now() + Duration::from_millis(pause_ms);
    }
}
