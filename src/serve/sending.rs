//! What a connection still has to send: text, bytes that are shared, and lines that stay in the journal.
//!
//! Invariant: a client that takes nothing costs no copy of what it does not take. Lines are read again when there is room for
//! them. (Over TLS a piece of at most 16 KiB is kept, since it was encrypted already.)

use super::answer::Body;
use super::index::{Cursor, Record};
use super::journal::Journal;
use super::problem::Problem;
use crate::serve::limits::{WRITE_BYTES_MAX, WRITES_PER_SWEEP};
use crate::system::channel::Channel;
use crate::system::inbox::waits;
use std::io::{self, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Instant;

/// Most bytes that are encrypted at once: a TLS record.
const RECORD_BYTES: usize = 16 * 1024;

/// Where lines end.
#[derive(Clone, Copy)]
enum End {
    /// They go on as the journal grows.
    Never,
    /// Before the report at this position, and the changes of keys right before it.
    Before(usize),
    /// After the line that was begun, if there is one.
    Here,
}

/// A place in the lines of a feed.
pub(super) struct Pour {
    feed: usize,
    generation: (u64, u64),
    /// The record whose line is next.
    at: Cursor,
    end: End,
    /// Whether each line is sent as an event.
    events: bool,
    /// How much of the next line, with what is around it, was sent.
    within: usize,
}

/// What is left after an attempt to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Nothing.
    Nothing,
    /// Something, for which there is no room now.
    Blocked,
    /// Something, which can be sent when the others had their turn.
    More,
}

/// What a connection still has to send.
pub(super) struct Sending {
    text: Vec<u8>,
    sent: usize,
    bytes: Option<(Rc<[u8]>, usize)>,
    lines: Option<Pour>,
    /// When anything was sent last.
    pub(super) moved_at: Instant,
}

impl Pour {
    /// All records of a feed from a place on, as events.
    pub(super) fn events(journal: &Journal, feed: usize, at: Cursor) -> Pour {
        Pour {
            feed,
            generation: journal.generation(feed),
            at,
            end: End::Never,
            events: true,
            within: 0,
        }
    }

    /// The lines of a feed from a place to before the report at a position.
    fn lines(journal: &Journal, feed: usize, from: Cursor, until: usize) -> Pour {
        Pour {
            end: End::Before(until),
            events: false,
            ..Pour::events(journal, feed, from)
        }
    }

    /// The record at a place of which `within` bytes were sent, and the place after it.
    fn next(&self, journal: &Journal, at: Cursor, within: usize) -> Option<(Record, Cursor)> {
        match self.end {
            End::Before(report) if at.report >= report => None,
            End::Here if within == 0 => None,
            _ => journal.feeds().get(self.feed)?.next(at),
        }
    }

    /// What stands before and after a line: nothing, or what makes it an event.
    fn around(&self, journal: &Journal, record: Record) -> (String, &'static str) {
        let feed = journal.feeds().get(self.feed).filter(|_| self.events);
        let Some(id) = feed.and_then(|feed| feed.id(record)) else {
            return (String::new(), "");
        };
        let event = match record {
            Record::Report(_) => "",
            Record::Change(_) => "event: key-change\n",
        };
        (format!("id: {id}\n{event}data: "), "\n")
    }

    /// Appends what comes next to `out`, until that has `most` bytes.
    fn fill(&self, journal: &mut Journal, out: &mut Vec<u8>, most: usize) -> io::Result<()> {
        if self.generation != journal.generation(self.feed) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let (mut at, mut skip) = (self.at, self.within);
        while out.len() < most
            && let Some((record, next)) = self.next(journal, at, skip)
        {
            let (before, after) = self.around(journal, record);
            let rest = &before.as_bytes()[skip.min(before.len())..];
            out.extend_from_slice(&rest[..rest.len().min(most - out.len())]);
            let from = skip.saturating_sub(before.len());
            journal.piece((self.feed, record), from, out, most)?;
            if out.len() < most {
                // All of the line is in it.
                out.extend_from_slice(after.as_bytes());
            }
            (at, skip) = (next, 0);
        }
        Ok(())
    }

    fn advance(&mut self, journal: &Journal, mut count: usize) {
        while count > 0
            && let Some((record, next)) = self.next(journal, self.at, self.within)
        {
            let feed = journal.feeds().get(self.feed);
            let Some((_, length)) = feed.and_then(|feed| feed.line(record)) else {
                return;
            };
            let (before, after) = self.around(journal, record);
            let left = before.len() + length + 1 + after.len() - self.within;
            if count < left {
                self.within += count;
                return;
            }
            count -= left;
            (self.at, self.within) = (next, 0);
        }
    }
}

impl Sending {
    /// Sends a head, and then a body.
    pub(super) fn new(journal: &Journal, head: String, body: Body, now: Instant) -> Sending {
        let mut text = head;
        let (bytes, lines) = match body {
            Body::None => (None, None),
            Body::Bytes(bytes) => (Some((bytes, 0)), None),
            Body::Page(own, shared) => {
                text.push_str(&own);
                (Some((shared, 0)), None)
            }
            Body::Lines {
                feed, from, until, ..
            } => (None, Some(Pour::lines(journal, feed, from, until))),
        };
        Sending {
            text: text.into_bytes(),
            sent: 0,
            bytes,
            lines,
            moved_at: now,
        }
    }

    /// Sends a head, and then events without end.
    pub(super) fn events(head: String, pour: Pour, now: Instant) -> Sending {
        Sending {
            text: head.into_bytes(),
            sent: 0,
            bytes: None,
            lines: Some(pour),
            moved_at: now,
        }
    }

    /// Sends this text when all else is sent. Lines must be between two.
    pub(super) fn say(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
    }

    /// Sends no more lines, except the rest of one that was begun. Returns the number of the first that is not sent.
    pub(super) fn stop(&mut self, journal: &Journal) -> u64 {
        let Some(pour) = &mut self.lines else {
            return 0;
        };
        pour.end = End::Here;
        let begun = pour.next(journal, pour.at, pour.within);
        let next = begun.map_or(pour.at, |(_, next)| next);
        let feed = journal.feeds().get(pour.feed);
        feed.map_or(0, |feed| feed.number_or_next(next.report))
    }

    /// Forgets the lines that were not sent. Returns whether none of them was begun.
    pub(super) fn forget(&mut self) -> bool {
        self.lines.take().is_none_or(|pour| pour.within == 0)
    }

    /// Why the lines cannot be sent: they are of a journal that is gone, or of a segment that was removed.
    pub(super) fn stale(&self, journal: &Journal) -> Option<Problem> {
        let pour = self.lines.as_ref()?;
        if pour.generation != journal.generation(pour.feed) {
            return Some(Problem::REPLACED);
        }
        journal.too_old(pour.feed, pour.at)
    }

    /// Sends what there is room for.
    pub(super) fn send(
        &mut self,
        channel: &mut Channel<TcpStream>,
        journal: &mut Journal,
        scratch: &mut Vec<u8>,
        now: Instant,
    ) -> io::Result<Left> {
        let encrypts = matches!(channel, Channel::Tls(_));
        let most = if encrypts {
            RECORD_BYTES
        } else {
            WRITE_BYTES_MAX
        };
        for _ in 0..WRITES_PER_SWEEP {
            self.fill(journal, scratch, most)?;
            if scratch.is_empty() {
                return Ok(Left::Nothing);
            }
            match channel.write(scratch) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.advance(journal, count);
                    self.moved_at = now;
                    // A stream with nothing more to say need not ask again.
                    if count == scratch.len() && count < most {
                        return Ok(Left::Nothing);
                    }
                }
                Err(error) if waits(&error) => {
                    if encrypts {
                        // These bytes are encrypted already, and must be the next ones that are written.
                        self.advance(journal, scratch.len());
                        scratch.extend_from_slice(&self.text[self.sent..]);
                        (self.text, self.sent) = (scratch.clone(), 0);
                    }
                    return Ok(Left::Blocked);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Left::More)
    }

    fn fill(&self, journal: &mut Journal, out: &mut Vec<u8>, most: usize) -> io::Result<()> {
        out.clear();
        let text = &self.text[self.sent..];
        out.extend_from_slice(&text[..text.len().min(most)]);
        if let Some((bytes, sent)) = &self.bytes {
            let rest = &bytes[*sent..];
            out.extend_from_slice(&rest[..rest.len().min(most - out.len())]);
        }
        match &self.lines {
            Some(lines) if text.len() <= most => lines.fill(journal, out, most),
            _ => Ok(()),
        }
    }

    fn advance(&mut self, journal: &Journal, mut count: usize) {
        let of_text = count.min(self.text.len() - self.sent);
        (self.sent, count) = (self.sent + of_text, count - of_text);
        if self.sent == self.text.len() {
            (self.text, self.sent) = (Vec::new(), 0);
        }
        if let Some((bytes, sent)) = &mut self.bytes {
            let of_bytes = count.min(bytes.len() - *sent);
            (*sent, count) = (*sent + of_bytes, count - of_bytes);
        }
        if let Some(lines) = &mut self.lines {
            lines.advance(journal, count);
        }
    }
}
