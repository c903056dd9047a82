//! A stream of server-sent events: every report of a feed from a place on, each once, in order.
//!
//! Invariant: a stream ends only between two events, and with an event that names the reason, unless its client has gone or takes
//! nothing at all. Then nothing can be said.

use super::problem::Problem;
use super::sending::{Left, Sending};
use super::site::Site;
use crate::serve::limits::{BEHIND_MS_MAX, HEARTBEAT_MS, STALL_MS_MAX};
use crate::system::channel::Channel;
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

/// A stream of events.
pub(super) struct Live {
    sending: Sending,
    pace: Pace,
    /// Why it ends, once the event that was begun is sent.
    ending: Option<Problem>,
    /// Whether its end has been said.
    ended: bool,
}

/// An end as an event. If the client cannot go on where it was, an empty id tells a browser to forget it.
fn event(problem: &Problem) -> String {
    let forgets = matches!(problem.name, "cursor-ahead" | "journal-replaced");
    let id = if forgets { "id:\n" } else { "" };
    let (name, json) = (problem.name, problem.json());
    format!("{id}event: {name}\ndata: {json}\n\n")
}

impl Live {
    /// A stream that begins with what is to be sent.
    pub(super) fn new(sending: Sending) -> Live {
        Live {
            sending,
            pace: Pace::default(),
            ending: None,
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
        if let Some(problem) = self.sending.stale(&site.journal) {
            if !self.sending.forget() {
                return Step::End;
            }
            self.end(&problem, site);
        }
        let Site {
            journal, scratch, ..
        } = site;
        let Ok(left) = self.sending.send(channel, journal, scratch, now) else {
            return Step::End;
        };
        let since = now.saturating_duration_since(self.sending.moved_at);
        if !self.ended && self.ending.is_none() && self.pace.is_slow(left, now) {
            let next = self.sending.stop(&site.journal);
            self.ending = Some(too_slow(next));
            return Step::Busy;
        }
        match left {
            Left::Nothing if self.ended => Step::Leave,
            Left::More => Step::Busy,
            Left::Nothing => {
                if let Some(problem) = self.ending.take() {
                    self.end(&problem, site);
                } else if since >= Duration::from_millis(HEARTBEAT_MS) {
                    self.sending.say(":\n\n");
                } else {
                    return Step::Idle;
                }
                Step::Busy
            }
            Left::Blocked if since >= Duration::from_millis(STALL_MS_MAX) => Step::End,
            Left::Blocked => Step::Blocked,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::index::Cursor;
    use super::super::scan::lines::line;
    use super::super::sending::Pour;
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// A journal in a file of its own, without the index of what is in it.
    pub(in super::super) fn site(name: &str) -> (std::path::PathBuf, Site) {
        let name = format!("rsoracle-live-{name}-{}.jsonl", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, "").unwrap();
        let site = Site::new(path.to_str().unwrap(), None, false, 0);
        (path, site)
    }

    pub(in super::super) fn append(
        path: &std::path::Path,
        site: &mut Site,
        numbers: std::ops::Range<u64>,
        pad: usize,
    ) {
        let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        for number in numbers {
            writeln!(file, "{}", line(number, pad)).unwrap();
        }
        // These lines are no whole reports, which would be asked for later.
        site.journal.level = false;
        while site.journal.look() {}
    }

    fn place(report: usize) -> Cursor {
        Cursor { report, changes: 0 }
    }

    pub(in super::super) fn pair() -> (Channel<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        (Channel::Plain(stream), client)
    }

    #[test]
    fn a_stream_that_stays_behind_ends_after_an_event_and_says_where_to_go_on() {
        let (path, mut site) = site("slow");
        append(&path, &mut site, 1..2, 100_000);
        let (mut channel, mut client) = pair();
        let start = Instant::now();
        let pour = Pour::events(&site.journal, 0, place(0));
        let mut live = Live::new(Sending::events(String::new(), pour, start));
        let mut step = |site: &mut Site, s: u64| {
            let now = start + Duration::from_secs(s);
            loop {
                match live.step(&mut channel, site, now) {
                    Step::Busy => {}
                    step => return step,
                }
            }
        };
        let mut text = Vec::new();
        let mut read = |count: u64| {
            let read = (&mut client).take(count).read_to_end(&mut text);
            assert_eq!(read.unwrap() as u64, count);
            text.len()
        };
        assert_eq!(step(&mut site, 0), Step::Idle, "it is level");
        // More than both sockets hold.
        append(&path, &mut site, 2..400, 100_000);
        for s in [1, 15, 30] {
            assert_eq!(step(&mut site, s), Step::Blocked);
            read(1_000_000);
        }
        // It still takes something, but was never level again.
        let mut last = step(&mut site, 32);
        client.set_nonblocking(true).unwrap();
        while last == Step::Blocked {
            let _ = client.read_to_end(&mut text);
            last = step(&mut site, 32);
        }
        assert_eq!(last, Step::Leave);
        drop(channel);
        client.set_nonblocking(false).unwrap();
        client.read_to_end(&mut text).unwrap();
        std::fs::remove_file(&path).unwrap();
        let text = String::from_utf8(text).unwrap();
        let events: Vec<&str> = text
            .split_terminator(
                "

",
            )
            .collect();
        let (end, reports) = events.split_last().unwrap();
        for (number, event) in (1..).zip(reports) {
            assert_eq!(
                *event,
                format!(
                    "id: 0000000000000001-{number}
data: {}",
                    line(number, 100_000)
                )
            );
        }
        let next = reports.len() + 1;
        assert!(next < 400);
        let problem = too_slow(next as u64).json();
        assert_eq!(*end, format!("event: too-slow\ndata: {problem}"));
        assert!(
            problem.ends_with(&format!("\"next\":{next}}}")),
            "{problem}"
        );
        assert_eq!(site.counts.ended.get("too-slow"), Some(&1));
    }

    #[test]
    fn a_replay_may_take_its_time_and_one_that_takes_nothing_is_ended() {
        let (path, mut site) = site("replay");
        append(&path, &mut site, 1..400, 100_000);
        let (mut channel, mut client) = pair();
        let start = Instant::now();
        let pour = Pour::events(&site.journal, 0, place(0));
        let mut live = Live::new(Sending::events(String::new(), pour, start));
        for s in 0..20 {
            let now = start + Duration::from_secs(10 * s);
            while live.step(&mut channel, &mut site, now) == Step::Busy {}
            client.read_exact(&mut [0; 300_000]).unwrap();
        }
        let last = start + Duration::from_secs(191);
        // The system may take a moment to pass on that there is room again.
        while live.step(&mut channel, &mut site, last) != Step::Busy {
            client.read_exact(&mut [0; 10_000]).unwrap();
        }
        // From here on the client reads nothing. What the system still has room for is progress.
        let mut late = last;
        loop {
            late += Duration::from_secs(21);
            match live.step(&mut channel, &mut site, late) {
                Step::End => break,
                step => assert!(matches!(step, Step::Busy | Step::Blocked), "{step:?}"),
            }
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_stream_without_news_is_sent_a_comment() {
        let (path, mut site) = site("comment");
        append(&path, &mut site, 1..2, 0);
        let (mut channel, mut client) = pair();
        let start = Instant::now();
        let pour = Pour::events(&site.journal, 0, place(1));
        let mut live = Live::new(Sending::events("head".to_owned(), pour, start));
        for s in [0, 14, 15, 29, 30] {
            let now = start + Duration::from_secs(s);
            while live.step(&mut channel, &mut site, now) == Step::Busy {}
        }
        drop(channel);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(
            text,
            "head:

:

"
        );
        std::fs::remove_file(&path).unwrap();
    }
}
