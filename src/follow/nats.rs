//! The stream of one feed on a NATS server: where to begin, and then one message after the other.
//!
//! Invariant: each message is asked for by the sequence from which on the next one of the subject is wanted, so none is skipped and
//! none comes twice, whatever happens to the connection. News on the subject only wake this up: what is read is what the stream
//! keeps. Nothing here waits but opening the connection.

use super::intake::head_of;
use crate::follow::limits::{FOLLOW_BYTES_IDLE_MAX, FOLLOW_LINES_IDLE_MAX};
use crate::nats::client::{Client, Way};
use crate::nats::jetstream::stored;
use crate::nats::limits::{ANSWER_MS_MAX, LOOK_MS_MAX, LOOK_MS_MIN};
use crate::nats::place;
use crate::system::net::{Look, Patience};
use rsoracle_verify::error::Error;
use std::time::{Duration, Instant};

/// Bytes of a message besides the report, and of the answer that there is none.
const EXTRA_BYTES: u64 = 1_024;

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
    /// Most bytes of a report.
    bytes_max: u64,
    /// How many bytes the connection had brought when there was news last, and when that was.
    news: (u64, Instant),
    /// The number of the last report that was read though it was known, since news.
    again: u64,
}

impl Nats {
    /// A stream that is not connected yet.
    pub(super) fn new(way: Way, stream: &str, feed: &str, back: u64) -> Nats {
        let now = Instant::now();
        Nats {
            bytes_max: way.payload_bytes_max as u64,
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
            news: (0, now),
            again: 0,
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
        (self.news, self.again) = ((0, now), 0);
        Ok(())
    }

    /// Goes on some sequences earlier, on the next server that is called. Where reports were missing, its replica of the stream may
    /// have them there: see [`GAP_BACK`](crate::nats::limits::GAP_BACK).
    pub(super) fn step_back(&mut self, count: u64) {
        self.close();
        self.from = self.from.map(|from| from.saturating_sub(count).max(1));
    }

    /// What came was news, so that it may send on.
    pub(super) fn is_news(&mut self, now: Instant) {
        (self.news, self.again) = ((self.client.bytes_read(), now), 0);
    }

    /// Most bytes since the last news. Whoever waits for some asks for the last message, and whether there is another one, in turn.
    fn idle_bytes_max(&self, now: Instant) -> u64 {
        let looks = now.saturating_duration_since(self.news.1).as_millis() as u64 / LOOK_MS_MAX;
        FOLLOW_BYTES_IDLE_MAX + (FOLLOW_LINES_IDLE_MAX + looks) * (self.bytes_max + EXTRA_BYTES)
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
        let came = self.client.next(Patience::Never)?;
        if self.client.bytes_read() - self.news.0 > self.idle_bytes_max(now) {
            self.close();
            return Err("it sends much, and nothing of it is news".to_owned());
        }
        let Some(came) = came else {
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
        let found = stored(&came, &self.subject).map_err(|refusal| refusal.text);
        let number = head_of(came.text().as_bytes()).and_then(|(number, _)| number);
        let heard = found.and_then(|found| self.answered(found, number, known, now));
        match heard {
            Ok(true) => Ok(Heard::Message(came.payload())),
            Ok(false) => Ok(Heard::Part),
            Err(why) => {
                self.close();
                Err(why)
            }
        }
    }

    /// The sequence from which on a message is asked for.
    fn wanted(&self) -> Option<u64> {
        match self.aim {
            Aim::Last => None,
            Aim::Between(low, high) => Some(low.midpoint(high)),
            Aim::Next => self.from,
        }
    }

    fn ask(&mut self, now: Instant) {
        if std::mem::take(&mut self.has_news) && self.is_idle {
            // It need not be in the stream yet, nor in the stream that was there.
            (self.aim, self.pause_ms) = (Aim::Last, LOOK_MS_MIN);
        }
        let subject = &self.subject;
        let text = match self.wanted() {
            None => format!("{{\"last_by_subj\":\"{subject}\"}}"),
            Some(from) => format!("{{\"seq\":{from},\"next_by_subj\":\"{subject}\"}}"),
        };
        let to = format!("$JS.API.DIRECT.GET.{}", self.stream);
        self.asked = Some((self.client.ask(&to, &[], text.as_bytes()), now));
    }

    /// Goes on after an answer: the sequence of a message, if there is one, and the number of the report in it. Returns whether it
    /// is the next one.
    fn answered(
        &mut self,
        found: Option<u64>,
        number: Option<u64>,
        known: Option<u64>,
        now: Instant,
    ) -> Result<bool, String> {
        if found.is_some() && found < self.wanted() {
            return Err("it answers with a message before those that it was asked for".to_owned());
        }
        match (self.aim, found) {
            (Aim::Last, None) => {
                (self.from, self.aim) = (self.from.or(Some(1)), Aim::Next);
            }
            (Aim::Last, Some(last)) => {
                self.aim = Aim::Next;
                self.from = match (self.from, known) {
                    (Some(from), _) if from <= last.saturating_add(1) => Some(from),
                    // The first time, or the stream was made anew.
                    (_, Some(known)) if number <= Some(known) && number.is_some() => {
                        Some(last.saturating_add(1))
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
                let (low, high) = match (found, number) {
                    (Some(sequence), Some(number)) if Some(number) <= known && sequence < high => {
                        (sequence + 1, high)
                    }
                    _ => (low, middle),
                };
                self.aim = Aim::Between(low, high);
                if low >= high {
                    (self.from, self.aim) = (Some(low), Aim::Next);
                }
            }
            (Aim::Next, Some(sequence)) => {
                self.from = Some(sequence.saturating_add(1));
                self.pause_ms = LOOK_MS_MIN;
                // A stream that is filled anew has what is known first.
                if let Some(number) = number.filter(|number| Some(*number) <= known)
                    && number > self.again
                {
                    self.is_news(now);
                    self.again = number;
                }
                return Ok(true);
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
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nats::place::parse;

    fn nats(aim: Aim, from: Option<u64>) -> Nats {
        let way = Way {
            endpoints: vec![parse("nats://h").unwrap().0],
            credentials: None,
            ca_file: None,
            trust: None,
            payload_bytes_max: 1_000,
        };
        Nats {
            aim,
            from,
            ..Nats::new(way, "S", "A/B", 0)
        }
    }

    const END: u64 = u64::MAX;

    #[test]
    fn a_search_ends_whatever_sequences_and_numbers_are_answered() {
        let mut seed = 1u64;
        let mut random = |count: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % count
        };
        for high in [1, 2, 1_000, END] {
            for _ in 0..200 {
                let mut nats = nats(Aim::Between(1, high), None);
                let mut steps = 0;
                while let Aim::Between(low, high) = nats.aim {
                    let middle = low.midpoint(high);
                    let found = [None, Some(middle), Some(high), Some(END)][random(4) as usize];
                    let number = [None, Some(1), Some(9)][random(3) as usize];
                    let done = nats.answered(found, number, Some(5), Instant::now());
                    assert_eq!(done, Ok(false));
                    steps += 1;
                }
                assert!(steps <= 64, "{steps} of {high}");
            }
        }
    }

    #[test]
    fn a_message_before_those_that_were_asked_for_is_refused() {
        for (aim, from) in [(Aim::Next, Some(7)), (Aim::Between(1, 13), None)] {
            let mut nats = nats(aim, from);
            let now = Instant::now();
            let done = nats.answered(Some(6), Some(3), Some(5), now);
            assert!(done.is_err_and(|why| why.contains("before those")));
            assert!(nats.answered(Some(7), Some(3), Some(5), now).is_ok());
        }
    }

    #[test]
    fn the_last_sequence_of_all_is_no_overflow() {
        for (known, number) in [(None, None), (Some(5), Some(3)), (Some(5), Some(9))] {
            for (aim, from) in [
                (Aim::Last, None),
                (Aim::Next, Some(7)),
                (Aim::Between(1, END), None),
            ] {
                let mut nats = nats(aim, from);
                assert!(
                    nats.answered(Some(END), number, known, Instant::now())
                        .is_ok()
                );
            }
        }
    }

    #[test]
    fn what_is_known_may_come_again_once_and_in_order() {
        let mut nats = nats(Aim::Next, Some(1));
        let now = Instant::now();
        let later = |ms| now + Duration::from_millis(ms);
        for (sequence, number, is_excused) in [
            (1, 3, true),
            (2, 4, true),
            (3, 4, false),
            (4, 3, false),
            (5, 6, false),
        ] {
            let at = later(sequence);
            assert_eq!(
                nats.answered(Some(sequence), Some(number), Some(5), at),
                Ok(true)
            );
            assert_eq!(nats.news.1 == at, is_excused, "{sequence}");
        }
        // Whoever waits for a day gets the last report again and again.
        let most = nats.idle_bytes_max(nats.news.1);
        let day_ms = 86_400_000;
        let more = nats.idle_bytes_max(nats.news.1 + Duration::from_millis(day_ms)) - most;
        assert_eq!(more, day_ms / LOOK_MS_MAX * (1_000 + EXTRA_BYTES));
    }
}
