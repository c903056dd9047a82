//! One feed: how far its chain is in the stream and in the journal, and what follows for the journal's next record.
//!
//! Invariant: pure. A record is published only if it continues the last one of the stream, and while it is on its way, no other.

use super::record::Record;
use crate::nats::limits::{ANSWER_MS_MAX, LOOK_MS_MIN};
use rsoracle_proof::seal::Keys;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What is known of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Its last record has to be asked for, from that instant on. It is no earlier than this sequence.
    Unknown(Instant, u64),
    /// It was asked for, by this number, at that instant.
    Asked(u64, Instant),
    /// It has none; whether it has any record at all was asked, by this number, at that instant.
    Checked(u64, Instant),
    /// It is known; its first record was asked for, by this number, at that instant.
    First(u64, Instant),
    /// It is known; the journal has not been read up to it.
    Behind,
    /// It is known, and is the last record of the journal that was read.
    Level,
    /// The record in `pending` was sent, by this number, at that instant.
    Sent(u64, Instant),
}

/// A feed.
pub(super) struct Feed {
    pub(super) subject: String,
    pub(super) state: State,
    /// The last record in the stream, as far as that is known.
    pub(super) last: Option<Record>,
    /// Its sequence; 0 if there is none.
    pub(super) sequence: u64,
    /// The first record in the stream, if it was needed: a journal that ends before `last` can be compared with it.
    pub(super) first: Option<Record>,
    /// The sequence below which an answer is not of now.
    pub(super) least: u64,
    /// Whether the journal has not been read up to `last`. It is kept while the stream is asked once more.
    is_behind: bool,
    /// The record after it, which is to be published.
    pub(super) pending: Option<Record>,
    /// Whether the journal was compared with what the stream has.
    compared: bool,
    /// Whether the stream had nothing of it any more when it was asked last.
    pub(super) emptied: bool,
    /// Since when the stream has refused its record without naming another one as the last, and the next pause in milliseconds.
    stuck: Option<(Instant, u64)>,
}

/// What becomes of a line of the journal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The stream has it.
    There,
    /// It is to be published, and stands in `pending`.
    Next,
    /// It does not belong there: why, and what to do.
    Wrong(String, &'static str),
}

/// What a look at the stream's last record means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The journal can be read on.
    GoOn,
    /// The stream is not what it was: the journal has to be read from its beginning.
    Rewind,
    /// It has nothing of the feed any more. It has to be seen whether it is still the same stream.
    Emptied,
}

const OTHER: &str =
    "name another stream with --stream, or remove these messages ('nats stream purge')";

impl Feed {
    pub(super) fn new(subject: String, now: Instant) -> Feed {
        Feed {
            subject,
            state: State::Unknown(now, 0),
            last: None,
            sequence: 0,
            first: None,
            least: 0,
            is_behind: false,
            pending: None,
            compared: false,
            emptied: false,
            stuck: None,
        }
    }

    /// The stream is asked now, on a connection that is new.
    pub(super) fn begin(&mut self, now: Instant) {
        (self.state, self.stuck) = (State::Unknown(now, 0), None);
    }

    /// The stream is asked again, for a record of this sequence or later: at once the first time, then after pauses that double.
    /// Returns whether that has led nowhere for too long.
    pub(super) fn again(&mut self, least: u64, now: Instant) -> bool {
        let (since, pause_ms) = self.stuck.unwrap_or((now, 0));
        self.stuck = Some((since, (pause_ms * 2).max(LOOK_MS_MIN)));
        self.state = State::Unknown(now + Duration::from_millis(pause_ms), least);
        now >= since + Duration::from_millis(ANSWER_MS_MAX)
    }

    /// The stream has the record that was sent, under this sequence.
    pub(super) fn arrived(&mut self, sequence: u64) {
        (self.last, self.sequence) = (self.pending.take(), sequence);
        (self.state, self.emptied, self.stuck) = (State::Level, false, None);
    }

    /// Whether this answer is to what was asked of it last.
    pub(super) fn expects(&self, answer: Option<u64>) -> bool {
        match self.state {
            State::Asked(token, _)
            | State::Checked(token, _)
            | State::First(token, _)
            | State::Sent(token, _) => answer == Some(token),
            _ => false,
        }
    }

    /// Whether the stream's first record is needed: the journal was not compared with the stream yet, and may end before its last one.
    pub(super) fn lacks_first(&self) -> bool {
        self.state == State::Behind && !self.compared && self.first.is_none()
    }

    /// Whether the next line of the journal can be judged.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.state, State::Level | State::Behind) && self.pending.is_none()
    }

    /// Judges the next line of the journal, whose head has this number.
    pub(super) fn judge(&mut self, number: Option<u64>, line: Vec<u8>, keys: &mut Keys) -> Verdict {
        let damaged = || {
            Verdict::Wrong(
                "it is damaged".to_owned(),
                "restore the journal from a backup, or from another aggregator's reports",
            )
        };
        let Some(last) = &self.last else {
            self.pending = Record::read(line, keys);
            return if self.pending.is_some() {
                Verdict::Next
            } else {
                damaged()
            };
        };
        if self.state == State::Behind {
            if line == last.line {
                (self.state, self.is_behind) = (State::Level, false);
                return Verdict::There;
            }
            let before = match (number, last.number) {
                (Some(number), Some(last)) => number < last,
                _ => true,
            };
            if !before {
                let has = last.name();
                let why = match number == last.number {
                    true => format!("the stream has another {has}: this is another chain"),
                    false => format!(
                        "the stream ends with {has}, and what follows that is not in the journal"
                    ),
                };
                return Verdict::Wrong(why, OTHER);
            }
            let first = self.first.as_ref().filter(|first| first.number == number);
            if let Some(first) = first.filter(|first| number.is_some() && first.line != line) {
                let has = first.name();
                let why = format!("the stream has another {has}: this is another chain");
                return Verdict::Wrong(why, OTHER);
            }
            if std::mem::replace(&mut self.compared, true) || number.is_none() {
                return Verdict::There;
            }
            // The starts of a chain increase.
            return match Record::read(line, keys) {
                Some(first) if last.number.is_some() && first.start_us >= last.start_us => {
                    Verdict::Wrong(
                        format!(
                            "it is later than {} of the stream: this is another chain",
                            last.name()
                        ),
                        OTHER,
                    )
                }
                _ => Verdict::There,
            };
        }
        let Some(record) = Record::read(line, keys) else {
            return damaged();
        };
        if record.previous != Some(last.signature) {
            let why = format!(
                "it does not continue {}, with which the stream ends",
                last.name()
            );
            return Verdict::Wrong(why, OTHER);
        }
        self.pending = Some(record);
        Verdict::Next
    }

    /// Takes the last record of the stream and its sequence.
    pub(super) fn learn(&mut self, found: Option<Record>, sequence: u64) -> Found {
        if found != self.last {
            self.stuck = None;
        }
        let as_before = if self.is_behind {
            State::Behind
        } else {
            State::Level
        };
        if found.is_none() && self.last.is_some() {
            // What it had has expired: the chain goes on.
            (self.state, self.sequence) = (as_before, 0);
            return match std::mem::replace(&mut self.emptied, true) {
                true => Found::GoOn,
                false => Found::Emptied,
            };
        }
        self.emptied = false;
        let is = |own: &Option<Record>| own.is_some() && *own == found;
        let before = self.pending.as_ref().or(self.last.as_ref());
        if is(&self.pending) {
            // It arrived, though its acknowledgement did not.
            self.pending = None;
            self.state = State::Level;
        } else if found == self.last {
            self.state = as_before;
        } else if let Some(before) = before {
            // Another relay is ahead of this one.
            let is_ahead = found
                .as_ref()
                .is_some_and(|found| found.number > before.number && before.number.is_some());
            if !is_ahead {
                return Found::Rewind;
            }
            self.pending = None;
            self.state = State::Behind;
        } else {
            self.state = State::Behind;
        }
        self.is_behind = self.state == State::Behind;
        (self.last, self.sequence) = (found, sequence);
        Found::GoOn
    }
}

/// The feeds in this state, each with what the stream ends with, for people.
pub(super) fn ends(feeds: &BTreeMap<String, Feed>, state: State) -> String {
    let feeds = feeds.iter().filter(|(_, feed)| feed.state == state);
    let one = |(name, feed): (&String, &Feed)| {
        let last = feed.last.as_ref().map(Record::name);
        format!("{name}: {}", last.unwrap_or_else(|| "nothing".to_owned()))
    };
    feeds.map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u64) -> Record {
        Record {
            feed: "BTC/USD".to_owned(),
            number: Some(number),
            start_us: number,
            previous: None,
            signature: [number as u8; 64],
            line: number.to_string().into_bytes(),
        }
    }

    /// A feed whose last record in the stream has the first number, and whose next one the second.
    fn feed(last: Option<u64>, pending: Option<u64>) -> Feed {
        let mut feed = Feed::new(String::new(), Instant::now());
        (feed.last, feed.pending) = (last.map(record), pending.map(record));
        feed
    }

    #[test]
    fn what_the_stream_ends_with_says_where_to_go_on() {
        for (last, pending, found, goes_on, state, left) in [
            // At first.
            (None, None, None, true, State::Level, None),
            (None, None, Some(7), true, State::Behind, None),
            // After a connection was lost: nothing was under way, it did not arrive, it did, another relay is ahead.
            (Some(6), None, Some(6), true, State::Level, None),
            (None, Some(1), None, true, State::Level, Some(1)),
            (Some(6), Some(7), Some(6), true, State::Level, Some(7)),
            (Some(6), Some(7), Some(7), true, State::Level, None),
            (Some(6), Some(7), Some(9), true, State::Behind, None),
            (Some(6), None, Some(7), true, State::Behind, None),
            // The stream lost what it had.
            (Some(6), Some(7), Some(5), false, State::Level, Some(7)),
            (None, Some(8), Some(7), false, State::Level, Some(8)),
        ] {
            let mut feed = feed(last, pending);
            let is = feed.learn(found.map(record), found.unwrap_or(0)) == Found::GoOn;
            let about = (last, pending, found);
            assert_eq!(is, goes_on, "{about:?}");
            if goes_on {
                let number = |one: &Option<Record>| one.as_ref().and_then(|one| one.number);
                assert_eq!(
                    (feed.state, number(&feed.pending)),
                    (state, left),
                    "{about:?}"
                );
                assert_eq!(number(&feed.last), found, "{about:?}");
            }
        }
    }

    #[test]
    fn who_is_behind_still_is_after_a_connection_was_lost() {
        let keys = &mut Keys::default();
        for found in [Some(9), None] {
            let mut feed = feed(Some(6), Some(7));
            assert_eq!(feed.learn(Some(record(9)), 9), Found::GoOn);
            feed.begin(Instant::now());
            feed.learn(found.map(record), found.unwrap_or(0));
            for number in [8, 9] {
                assert_eq!(feed.state, State::Behind);
                let line = number.to_string().into_bytes();
                assert_eq!(feed.judge(Some(number), line, keys), Verdict::There);
            }
            assert_eq!(feed.state, State::Level);
        }
    }

    #[test]
    fn what_expired_is_not_published_again() {
        let mut feed = feed(Some(6), Some(7));
        assert_eq!(feed.learn(None, 0), Found::Emptied);
        assert_eq!(feed.learn(None, 0), Found::GoOn);
        let number = |one: &Option<Record>| one.as_ref().and_then(|one| one.number);
        assert_eq!(
            (number(&feed.last), number(&feed.pending)),
            (Some(6), Some(7))
        );
        assert_eq!((feed.state, feed.sequence), (State::Level, 0));
    }

    #[test]
    fn a_refusal_that_leads_nowhere_has_an_end() {
        let (mut feed, began) = (feed(Some(6), Some(7)), Instant::now());
        let at = |ms| began + Duration::from_millis(ms);
        for (ms, pause_ms) in [(0, 0), (5, 10), (20, 20), (50, 40), (ANSWER_MS_MAX - 1, 80)] {
            assert!(!feed.again(7, at(ms)));
            assert_eq!(feed.state, State::Unknown(at(ms + pause_ms), 7));
            // The stream says what it said before.
            assert_eq!(feed.learn(Some(record(6)), 6), Found::GoOn);
        }
        assert!(feed.again(7, at(ANSWER_MS_MAX)));
        // Another relay is ahead: that is progress.
        assert_eq!(feed.learn(Some(record(8)), 8), Found::GoOn);
        assert!(!feed.again(9, at(ANSWER_MS_MAX)));
        feed.arrived(9);
        assert!(!feed.again(10, at(3 * ANSWER_MS_MAX)));
        feed.begin(at(4 * ANSWER_MS_MAX));
        assert!(!feed.again(10, at(5 * ANSWER_MS_MAX)));
    }

    #[test]
    fn the_journal_is_read_up_to_what_the_stream_has_or_it_is_another_one() {
        let keys = &mut Keys::default();
        let mut feed = feed(Some(7), None);
        (feed.state, feed.is_behind) = (State::Behind, true);
        for number in 5..7u64 {
            let line = number.to_string().into_bytes();
            assert_eq!(feed.judge(Some(number), line, keys), Verdict::There);
        }
        for (number, line, part) in [
            (7, "other", "has another report 7"),
            (8, "8", "ends with report 7"),
        ] {
            let wrong = feed.judge(Some(number), line.into(), keys);
            assert!(
                matches!(&wrong, Verdict::Wrong(why, _) if why.contains(part)),
                "{wrong:?}"
            );
        }
        assert_eq!(feed.judge(Some(7), b"7".to_vec(), keys), Verdict::There);
        assert_eq!(feed.state, State::Level);
        let wrong = feed.judge(Some(8), b"8".to_vec(), keys);
        assert!(
            matches!(&wrong, Verdict::Wrong(why, _) if why.contains("damaged")),
            "{wrong:?}"
        );
    }

    #[test]
    fn a_journal_that_ends_before_the_stream_does_is_compared_with_its_first_record() {
        let keys = &mut Keys::default();
        let mut feed = feed(None, None);
        assert!(!feed.lacks_first());
        assert_eq!(feed.learn(Some(record(9)), 9), Found::GoOn);
        assert!(feed.lacks_first());
        feed.first = Some(record(5));
        assert!(!feed.lacks_first());
        for (number, line, is_there) in [(4, "x", true), (5, "5", true), (5, "x", false)] {
            let verdict = feed.judge(Some(number), line.into(), keys);
            assert_eq!(verdict == Verdict::There, is_there, "{number} {line}");
            assert!(
                is_there
                    || matches!(&verdict, Verdict::Wrong(why, _) if why.contains("another report 5")),
                "{verdict:?}"
            );
        }
    }
}
