//! A stream of server-sent events: every report of a feed from a place on, each once, in order.
//!
//! Invariant: a stream ends only between two events, and with an event that names the reason, unless its client has gone or takes
//! nothing at all. Then nothing can be said.

use super::problem::Problem;
use super::sending::{Left, Sending};
use super::site::Site;
use crate::system::channel::Channel;
use crate::system::limits::{BEHIND_MS_MAX, HEARTBEAT_MS, STALL_MS_MAX};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// What a step of a connection led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Something happened, and more may at once.
    Busy,
    /// There is nothing to do until the client or the journal moves.
    Idle,
    /// The client takes nothing now.
    Blocked,
    /// All was said. The client is to be seen off.
    Leave,
    /// The connection has ended.
    End,
}

/// How far behind the journal a stream is, and for how long.
#[derive(Default)]
pub(super) struct Pace {
    /// Whether it ever was level with the journal: before, it replays, and may take its time.
    level: bool,
    behind_since: Option<Instant>,
}

impl Pace {
    /// Takes what is left after an attempt to send. Returns whether the stream has been behind for too long.
    pub(super) fn is_slow(&mut self, left: Left, now: Instant) -> bool {
        match left {
            Left::Nothing => (self.level, self.behind_since) = (true, None),
            _ if self.level => {
                let since = *self.behind_since.get_or_insert(now);
                return now - since >= Duration::from_millis(BEHIND_MS_MAX);
            }
            _ => {}
        }
        false
    }
}

/// The end of a stream that is too slow.
pub(super) fn too_slow(next: u64) -> Problem {
    let sentence = format!("this client is too slow; go on at report {next}, or with tiles");
    Problem::new(200, "too-slow", sentence).with("next", next)
}

/// The end of all streams of a journal that was replaced.
pub(super) fn replaced() -> Problem {
    let sentence = "the journal was replaced; begin anew".to_owned();
    Problem::new(200, "journal-replaced", sentence)
}

/// A stream of events.
pub(super) struct Live {
    sending: Sending,
    pace: Pace,
    /// Whether its end has been said.
    ended: bool,
}

/// An end as an event.
fn event(problem: &Problem) -> String {
    format!("event: {}\ndata: {}\n\n", problem.name, problem.json())
}

impl Live {
    /// A stream that begins with what is to be sent.
    pub(super) fn new(sending: Sending) -> Live {
        Live {
            sending,
            pace: Pace::default(),
            ended: false,
        }
    }

    /// Says why the stream ends.
    pub(super) fn end(&mut self, problem: &Problem, site: &mut Site) {
        *site.counts.ended.entry(problem.name).or_default() += 1;
        self.sending.say(&event(problem));
        self.ended = true;
    }

    /// Sends what there is, or a comment if nothing was sent for long.
    pub(super) fn step(
        &mut self,
        channel: &mut Channel<TcpStream>,
        site: &mut Site,
        now: Instant,
    ) -> Step {
        if self.sending.is_stale(&site.journal) {
            if self.sending.stop(&site.journal).is_none() {
                return Step::End;
            }
            self.end(&replaced(), site);
        }
        let Site {
            journal, scratch, ..
        } = site;
        let Ok(left) = self.sending.send(channel, journal, scratch, now) else {
            return Step::End;
        };
        let since = now - self.sending.moved_at;
        if !self.ended && self.pace.is_slow(left, now) {
            self.end_slow(site);
        }
        match left {
            Left::Nothing if self.ended => Step::Leave,
            Left::More => Step::Busy,
            Left::Nothing => {
                if since >= Duration::from_millis(HEARTBEAT_MS) {
                    self.sending.say(":\n\n");
                    return Step::Busy;
                }
                Step::Idle
            }
            Left::Blocked if since >= Duration::from_millis(STALL_MS_MAX) => Step::End,
            Left::Blocked => Step::Blocked,
        }
    }

    fn end_slow(&mut self, site: &mut Site) {
        if let Some(next) = self.sending.stop(&site.journal) {
            self.end(&too_slow(next), site);
        }
    }
}
