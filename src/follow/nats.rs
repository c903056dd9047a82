//! The stream of one feed on a NATS server: where to begin, and then one message after the other.
//!
//! Invariant: each message is asked for by the sequence from which on the next one of the subject is wanted, so none is skipped and
//! none comes twice, whatever happens to the connection. News on the subject only wake this up: what is read is what the stream
//! keeps. Nothing here waits but opening the connection.

use super::intake::head_of;
use crate::nats::client::{Came, Client, Way};
use crate::nats::jetstream::stored;
use crate::nats::limits::{ANSWER_MS_MAX, LOOK_MS_MAX, LOOK_MS_MIN};
use crate::nats::place;
use crate::system::net::{Look, Patience};
use rsoracle_verify::error::Error;
use std::time::{Duration, Instant};

/// What reading led to.
pub(super) enum Heard {
    /// A message; None if it is longer than any report.
    Message(Option<Vec<u8>>),
    /// Something came, but no message of the feed.
    Part,
    Nothing,
}

/// What is asked for next.
#[derive(Clone, Copy)]
enum Aim {
    /// The last message, which says where the stream ends.
    Last,
    /// The first message after the last known report, which is between these sequences.
    Between(u64, u64),
    /// The next one.
    Next,
}

/// A stream, connected or not.
pub(super) struct Nats {
    client: Client,
    stream: String,
    subject: String,
    /// How many messages before the newest one the first may be, if no report is known.
    back: u64,
    /// The sequence from which on the next message is wanted.
    from: Option<u64>,
    aim: Aim,
    asked: Option<(u64, Instant)>,
    ask_at: Instant,
    pause_ms: u64,
    /// Whether there was news since the stream's end was asked for.
    has_news: bool,
    /// Whether the last answer was that there is no further message.
    is_idle: bool,
    /// Whether all was read that was there.
    pub(super) is_level: bool,
    opened_at: Instant,
}

impl Nats {
    /// A stream that is not connected yet.
    pub(super) fn new(way: Way, stream: &str, feed: &str, back: u64) -> Nats {
        let now = Instant::now();
        Nats {
            client: Client::new(way),
            stream: stream.to_owned(),
            subject: place::subject(feed),
            back,
            from: None,
            aim: Aim::Last,
            asked: None,
            ask_at: now,
            pause_ms: LOOK_MS_MIN,
            has_news: false,
            is_idle: false,
            is_level: false,
            opened_at: now,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.client.is_open()
    }

    /// For how long it has been open.
    pub(super) fn lasted(&self) -> Duration {
        self.opened_at.elapsed()
    }

    pub(super) fn close(&mut self) {
        if self.client.is_open() {
            self.client.close();
        }
    }

    pub(super) fn open(&mut self, look: Look) -> Result<(), Error> {
        self.client.open(look)?;
        self.client.subscribe(&self.subject);
        let now = Instant::now();
        (self.aim, self.asked) = (Aim::Last, None);
        (self.opened_at, self.ask_at, self.pause_ms) = (now, now, LOOK_MS_MIN);
        Ok(())
    }

    /// Reads on without waiting. `known` is the number of the last report, after which to begin. After an error the connection is
    /// closed.
    pub(super) fn hear(&mut self, known: Option<u64>, now: Instant) -> Result<Heard, String> {
        if !self.client.is_open() {
            return Ok(Heard::Nothing);
        }
        let late = Duration::from_millis(ANSWER_MS_MAX);
        match self.asked {
            None if now >= self.ask_at || self.has_news => self.ask(now),
            Some((_, since)) if now >= since + late => {
                self.close();
                let why = "does it exist, and does it allow direct gets?";
                return Err(format!("no answer from the stream {}: {why}", self.stream));
            }
            _ => {}
        }
        let Some(came) = self.client.next(Patience::Never)? else {
            return Ok(Heard::Nothing);
        };
        if came.answers.is_none() {
            self.has_news = true;
            return Ok(Heard::Part);
        }
        if self.asked.map(|(token, _)| token) != came.answers {
            return Ok(Heard::Part);
        }
        (self.asked, self.ask_at, self.is_idle) = (None, now, false);
        let heard = self.answered(came, known, now);
        if heard.is_err() {
            self.close();
        }
        heard
    }

    fn ask(&mut self, now: Instant) {
        if std::mem::take(&mut self.has_news) && self.is_idle {
            // It need not be in the stream yet, nor in the stream that was there.
            (self.aim, self.pause_ms) = (Aim::Last, LOOK_MS_MIN);
        }
        let from = match self.aim {
            Aim::Last => None,
            Aim::Between(low, high) => Some(low.midpoint(high)),
            Aim::Next => self.from,
        };
        let subject = &self.subject;
        let text = match from {
            None => format!("{{\"last_by_subj\":\"{subject}\"}}"),
            Some(from) => format!("{{\"seq\":{from},\"next_by_subj\":\"{subject}\"}}"),
        };
        let to = format!("$JS.API.DIRECT.GET.{}", self.stream);
        self.asked = Some((self.client.ask(&to, &[], text.as_bytes()), now));
    }

    fn answered(&mut self, came: Came, known: Option<u64>, now: Instant) -> Result<Heard, String> {
        let found = stored(&came, &self.subject).map_err(|refusal| refusal.text)?;
        let number = || head_of(came.text().as_bytes()).and_then(|(number, _)| number);
        match (self.aim, found) {
            (Aim::Last, None) => {
                (self.from, self.aim) = (self.from.or(Some(1)), Aim::Next);
            }
            (Aim::Last, Some(last)) => {
                self.aim = Aim::Next;
                self.from = match (self.from, known) {
                    (Some(from), _) if from <= last + 1 => Some(from),
                    // The first time, or the stream was made anew.
                    (_, Some(known)) if number() <= Some(known) && number().is_some() => {
                        Some(last + 1)
                    }
                    (_, Some(_)) => {
                        self.aim = Aim::Between(1, last);
                        None
                    }
                    (_, None) => Some(last.saturating_sub(self.back).max(1)),
                };
            }
            (Aim::Between(low, high), _) => {
                let middle = low.midpoint(high);
                // What is no report decides nothing: the search goes on before it.
                let (low, high) = match (found, number()) {
                    (Some(sequence), Some(number)) if Some(number) <= known => (sequence + 1, high),
                    _ => (low, middle),
                };
                self.aim = Aim::Between(low, high);
                if low >= high {
                    (self.from, self.aim) = (Some(low), Aim::Next);
                }
            }
            (Aim::Next, Some(sequence)) => {
                self.from = Some(sequence + 1);
                self.pause_ms = LOOK_MS_MIN;
                return Ok(Heard::Message(came.payload()));
            }
            (Aim::Next, None) => {
                (self.is_level, self.is_idle) = (true, true);
                self.ask_at = now + Duration::from_millis(self.pause_ms);
                self.pause_ms = (self.pause_ms * 2).min(LOOK_MS_MAX);
                if self.pause_ms == LOOK_MS_MAX {
                    // Is it still the same stream?
                    self.aim = Aim::Last;
                }
            }
        }
        Ok(Heard::Part)
    }
}
