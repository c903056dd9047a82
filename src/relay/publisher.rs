//! Publishes: reads the journal, asks the stream where each feed ends, and sends one record of each feed at a time.
//!
//! Invariant: nothing is kept that the stream does not know. After any loss (of a connection, an answer, a server) each feed asks the
//! stream again where it ends, and goes on from there.

use super::feed::{Feed, Found, State, Verdict, ends};
use super::journal::{Journal, Next};
use super::record::{Record, head};
use super::trouble::{Trouble, stop, withheld};
use crate::exchange::session::{jittered, random_ms};
use crate::nats::client::{Came, Client, Way};
use crate::nats::jetstream::{
    About, NO_STREAM, Refusal, Wanted, acknowledged, named_sequence, stored, stream,
};
use crate::nats::limits::*;
use crate::nats::place;
use crate::system::lifeline::Lifeline;
use crate::system::limits::{
    COMPLAINTS_MAX, COMPLAINTS_MS, FEEDS_MAX, JOURNAL_LOOK_MS, ODD_LINES_NAMED_MAX,
};
use crate::system::net::Patience;
use crate::system::stream::say;
use rsoracle_proof::seal::{Keys, hex};
use rsoracle_verify::error::Error;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Bytes of a message besides the report: its headers.
const HEADERS_BYTES: usize = 512;

/// The journal, the stream, and what is on its way from one to the other.
pub(super) struct Publisher<'a> {
    path: &'a str,
    wanted: &'a Wanted,
    client: Client,
    lifeline: Option<Lifeline>,
    journal: Journal,
    keys: Keys,
    feeds: BTreeMap<String, Feed>,
    /// The line of the journal that is next, and its number.
    held: Option<(u64, Vec<u8>)>,
    odd: u64,
    /// Whether it was said that the stream has everything, or is ahead.
    told: bool,
    /// How often in a row a connection was lost without a report that was acknowledged.
    failures: u32,
    retry_at: Instant,
    /// What was said about that, and when.
    said: BTreeMap<String, Instant>,
    /// Whether the stream was ever reached, and what was said of it.
    began: bool,
    about: String,
    /// When the stream was made.
    created: String,
}

impl<'a> Publisher<'a> {
    pub(super) fn new(
        path: &'a str,
        way: Way,
        wanted: &'a Wanted,
        lifeline: Option<Lifeline>,
    ) -> Publisher<'a> {
        Publisher {
            path,
            wanted,
            client: Client::new(way),
            lifeline,
            journal: Journal::new(path),
            keys: Keys::default(),
            feeds: BTreeMap::new(),
            held: None,
            odd: 0,
            told: false,
            failures: 0,
            retry_at: Instant::now(),
            said: BTreeMap::new(),
            began: false,
            about: String::new(),
            created: String::new(),
        }
    }

    /// Publishes until the lifeline ends, or something is wrong that only the operator can change.
    pub(super) fn run(&mut self) -> Result<(), Error> {
        while !self.lifeline.as_mut().is_some_and(Lifeline::has_ended) {
            let done = match self.client.is_open() {
                true => self.step(),
                false if Instant::now() >= self.retry_at => self.connect(),
                false => {
                    std::thread::sleep(Duration::from_millis(JOURNAL_LOOK_MS));
                    Ok(())
                }
            };
            match done {
                Ok(()) => {}
                Err(Trouble::Over(error)) => return Err(error),
                Err(Trouble::Lost(why)) => self.lost(&why),
            }
        }
        Ok(())
    }

    /// Connects, and sees to the stream.
    fn connect(&mut self) -> Result<(), Trouble> {
        let lifeline = &mut self.lifeline;
        let mut look = || match lifeline.as_mut().is_some_and(Lifeline::has_ended) {
            true => Err(Error::new("cannot go on", "standard input was closed").passing()),
            false => Ok(()),
        };
        self.client
            .open(&mut look)
            .map_err(|error| match error.passing || self.began {
                true => Trouble::Lost(error.to_string()),
                false => Trouble::Over(error),
            })?;
        let url = self.client.url().to_owned();
        let about = self.see_to_stream(&url)?;
        let (name, path) = (&self.wanted.name, self.path);
        let text = format!(
            "publishing {path} to the stream {name} at {url}; {}",
            about.text
        );
        if self.about != text {
            say("relay", &text);
        }
        (self.began, self.about) = (true, text);
        if std::mem::replace(&mut self.created, about.created.clone()) != about.created {
            // What is known of the one before says nothing about this one.
            self.rewind();
        }
        let now = Instant::now();
        self.told = false;
        for feed in self.feeds.values_mut() {
            feed.begin(now);
        }
        Ok(())
    }

    /// What kind of stream there is, after making it if there is none.
    fn see_to_stream(&mut self, url: &str) -> Result<About, Trouble> {
        let name = &self.wanted.name;
        let attempt = format!("cannot use the stream {name} at {url}");
        let mut answer = self.asked(&format!("$JS.API.STREAM.INFO.{name}"), "")?;
        if matches!(&answer, Err(refusal) if refusal.code == NO_STREAM) {
            answer = self.asked(
                &format!("$JS.API.STREAM.CREATE.{name}"),
                &self.wanted.create(),
            )?;
        }
        match answer {
            Ok(Ok(about)) => Ok(about),
            Ok(Err(unfit)) => {
                let advice = "change it with 'nats stream edit', or name another one with --stream";
                Err(Trouble::Over(
                    Error::new(attempt, unfit.join("; ")).advise(advice),
                ))
            }
            Err(refusal) if refusal.passes() || self.began => {
                Err(Trouble::Lost(format!("{attempt}: {}", refusal.text)))
            }
            Err(refusal) => Err(Trouble::Over(Error::new(attempt, refusal.text))),
        }
    }

    /// Asks about the stream, and waits for the answer.
    fn asked(
        &mut self,
        subject: &str,
        payload: &str,
    ) -> Result<Result<Result<About, Vec<String>>, Refusal>, Trouble> {
        let token = self.client.ask(subject, &[], payload.as_bytes());
        let until = Instant::now() + Duration::from_millis(ANSWER_MS_MAX);
        while Instant::now() < until && !self.lifeline.as_mut().is_some_and(Lifeline::has_ended) {
            let soon = Instant::now() + Duration::from_millis(JOURNAL_LOOK_MS);
            if let Some(came) = self.client.next(Patience::Until(soon))?
                && came.answers == Some(token)
            {
                if came.status().is_some() {
                    return Err(Trouble::Lost(
                        "JetStream is not enabled there, or not ready".to_owned(),
                    ));
                }
                return Ok(stream(came.text().as_bytes()));
            }
        }
        Err(Trouble::Lost(format!(
            "no answer from JetStream within {ANSWER_MS_MAX} ms"
        )))
    }

    fn step(&mut self) -> Result<(), Trouble> {
        self.read()?;
        let now = Instant::now();
        let late = Duration::from_millis(ANSWER_MS_MAX);
        for feed in self.feeds.values_mut() {
            match feed.state {
                State::Unknown(at, least) if now >= at => {
                    let text = format!("{{\"last_by_subj\":\"{}\"}}", feed.subject);
                    let subject = format!("$JS.API.DIRECT.GET.{}", self.wanted.name);
                    let token = self.client.ask(&subject, &[], text.as_bytes());
                    (feed.state, feed.least) = (State::Asked(token, now), least);
                }
                State::Asked(_, since)
                | State::Checked(_, since)
                | State::First(_, since)
                | State::Sent(_, since)
                    if now >= since + late =>
                {
                    return Err(Trouble::Lost(format!(
                        "no answer from the stream {} within {ANSWER_MS_MAX} ms",
                        self.wanted.name
                    )));
                }
                _ => {}
            }
        }
        let soon = now + Duration::from_millis(JOURNAL_LOOK_MS);
        if let Some(came) = self.client.next(Patience::Until(soon))? {
            self.take(came)?;
        }
        Ok(())
    }

    /// Reads the journal on, as far as its records can be sent.
    fn read(&mut self) -> Result<(), Trouble> {
        while self.client.bytes_waiting() < OUT_BYTES_MAX {
            let (number, line) = match self.held.take() {
                Some(held) => held,
                None => match self.journal.next()? {
                    Next::Line(number, line) => (number, line),
                    Next::Level => {
                        self.tell();
                        return Ok(());
                    }
                    Next::Replaced => {
                        say(
                            "relay",
                            format!(
                                "the journal {} was replaced or cut; it is read anew",
                                self.path
                            ),
                        );
                        self.rewind();
                        return Ok(());
                    }
                },
            };
            let Some((of_report, name)) = head(&line) else {
                self.leave_out(number, &line);
                continue;
            };
            if !self.feeds.contains_key(name) {
                if self.feeds.len() >= FEEDS_MAX {
                    let cause = format!("line {number} is of more than {FEEDS_MAX} feeds");
                    return Err(stop(self.path, cause, "").into());
                }
                let feed = Feed::new(place::subject(name), Instant::now());
                self.feeds.insert(name.to_owned(), feed);
            }
            let feed = self.feeds.get_mut(name).expect("it is there now");
            if !feed.is_ready() {
                self.held = Some((number, line));
                return Ok(());
            }
            let (name, keys) = (name.to_owned(), &mut self.keys);
            match feed.judge(of_report, line, keys) {
                Verdict::There => self.told &= feed.state != State::Level,
                Verdict::Next => self.send(&name)?,
                Verdict::Wrong(why, advice) => {
                    let cause = format!(
                        "line {number} of {name} cannot follow in the stream {}: {why}",
                        self.wanted.name
                    );
                    return Err(stop(self.path, cause, advice).into());
                }
            }
        }
        Ok(())
    }

    /// Passes over a line that is no record.
    fn leave_out(&mut self, number: u64, line: &[u8]) {
        if line.starts_with(b"{\"rsoracle_proof\"") {
            return;
        }
        self.odd += 1;
        if self.odd <= ODD_LINES_NAMED_MAX {
            let path = self.path;
            say(
                "relay",
                format!("line {number} of {path} is left out: it is no report"),
            );
        }
    }

    /// Sends the record of a feed that is next.
    fn send(&mut self, name: &str) -> Result<(), Error> {
        let feed = self.feeds.get_mut(name).expect("it is known");
        let Some(record) = &feed.pending else {
            return Ok(());
        };
        let bytes = record.line.len() + HEADERS_BYTES;
        if let Some(most) = self.client.payload_bytes_max().filter(|most| bytes > *most) {
            let cause = format!(
                "{} of {name} has {bytes} bytes with its headers, and the server takes {most}",
                record.name()
            );
            return Err(stop(
                self.path,
                cause,
                "raise max_payload of the NATS servers",
            ));
        }
        let (id, sequence) = (hex(&record.signature), feed.sequence.to_string());
        let headers = [
            ("Nats-Msg-Id", &*id),
            ("Nats-Expected-Stream", &self.wanted.name),
            ("Nats-Expected-Last-Subject-Sequence", &sequence),
        ];
        let token = self.client.ask(&feed.subject, &headers, &record.line);
        feed.state = State::Sent(token, Instant::now());
        Ok(())
    }

    /// Takes an answer. One to something that was asked before is passed over.
    fn take(&mut self, came: Came) -> Result<(), Trouble> {
        let Some((name, feed)) = self
            .feeds
            .iter_mut()
            .find(|(_, feed)| feed.expects(came.answers))
        else {
            return Ok(());
        };
        let name = name.clone();
        match feed.state {
            State::Sent(..) => {}
            State::First(..) => {
                self.learn_first(&name, came);
                return Ok(());
            }
            _ => return self.learn(&name, came),
        }
        match acknowledged(&came) {
            // One that was there before may have been removed since.
            Ok((sequence, true)) if !feed.again(sequence, Instant::now()) => Ok(()),
            Ok((sequence, true)) => Err(withheld(&self.wanted.name, &name, sequence)),
            Ok((sequence, false)) => {
                feed.arrived(sequence);
                self.failures = 0;
                Ok(())
            }
            Err(refusal)
                if refusal.is_wrong_last()
                    && !feed.again(named_sequence(&refusal), Instant::now()) =>
            {
                Ok(())
            }
            Err(refusal) => {
                let cause = format!(
                    "the stream {} does not take a report of {name}: {}",
                    self.wanted.name, refusal.text
                );
                match refusal.passes() || refusal.is_wrong_last() {
                    true => Err(Trouble::Lost(cause)),
                    false => Err(stop(self.path, cause, "check its subjects and limits").into()),
                }
            }
        }
    }

    /// Takes the first record of a feed in the stream. What is no report of it, or is gone, says nothing.
    fn learn_first(&mut self, name: &str, came: Came) {
        let line = came.payload();
        let record = line.and_then(|line| Record::read(line, &mut self.keys));
        let feed = self.feeds.get_mut(name).expect("it is known");
        feed.first = record.filter(|record| record.feed == name);
        feed.state = State::Behind;
    }

    /// Takes the last record of a feed in the stream.
    fn learn(&mut self, name: &str, came: Came) -> Result<(), Trouble> {
        let feed = self.feeds.get_mut(name).expect("it is known");
        let sequence = stored(&came, &feed.subject).map_err(|refusal| refusal.text)?;
        let sequence = sequence.unwrap_or(0);
        if sequence < feed.least {
            // A replica that is behind, or what was there has been removed.
            let least = feed.least;
            return match feed.again(least, Instant::now()) {
                false => Ok(()),
                true => Err(withheld(&self.wanted.name, name, least)),
            };
        }
        let found = match (sequence, feed.state) {
            (0, State::Asked(..)) => {
                self.ask_first(name, State::Checked);
                return Ok(());
            }
            (0, _) => None,
            // Not knowing the last one, it would take all of them again.
            (_, State::Checked(..)) => {
                let (stream, subject) = (&self.wanted.name, &feed.subject);
                return Err(Trouble::Lost(format!(
                    "the stream {stream} has messages of {subject}, but does not know which one is the last, as nats-server 2.9 does after that was removed; restart the NATS servers"
                )));
            }
            _ => {
                let record = came
                    .payload()
                    .and_then(|line| Record::read(line, &mut self.keys));
                let record = record.filter(|record| record.feed == name);
                Some(record.ok_or_else(|| {
                    let (subject, stream) = (&feed.subject, &self.wanted.name);
                    let cause = format!("the last message of {subject} in the stream {stream} (sequence {sequence}) is no report of {name}");
                    let advice = format!("remove it ('nats stream rmm {stream} {sequence}'), and let nobody else publish to that subject");
                    stop(self.path, cause, &advice)
                })?)
            }
        };
        match feed.learn(found, sequence) {
            Found::Rewind => {
                self.rewind();
                let stream = &self.wanted.name;
                let why = format!(
                    "the stream {stream} no longer has what it had of {name}; the journal is read anew"
                );
                return Err(Trouble::Lost(why));
            }
            Found::Emptied => {
                let stream = &self.wanted.name;
                return Err(Trouble::Lost(format!(
                    "the stream {stream} has nothing of {name} any more"
                )));
            }
            Found::GoOn if feed.state == State::Level => self.send(name)?,
            Found::GoOn if feed.lacks_first() => self.ask_first(name, State::First),
            Found::GoOn => {}
        }
        Ok(())
    }

    /// Asks for the first record of a feed in the stream.
    fn ask_first(&mut self, name: &str, asked: fn(u64, Instant) -> State) {
        let feed = self.feeds.get_mut(name).expect("it is known");
        let subject = format!("$JS.API.DIRECT.GET.{}", self.wanted.name);
        let text = format!("{{\"seq\":1,\"next_by_subj\":\"{}\"}}", feed.subject);
        let token = self.client.ask(&subject, &[], text.as_bytes());
        feed.state = asked(token, Instant::now());
    }

    /// Reads the journal anew, and asks the stream anew.
    fn rewind(&mut self) {
        self.journal.rewind();
        self.feeds.clear();
        (self.held, self.told) = (None, false);
    }

    /// Says that the stream has all that the journal has, or that it has more: once after each connection, and once after that
    /// changed; not after every report.
    fn tell(&mut self) {
        if self.told || self.feeds.is_empty() || !self.feeds.values().all(Feed::is_ready) {
            return;
        }
        self.told = true;
        let [level, ahead] = [State::Level, State::Behind].map(|is| ends(&self.feeds, is));
        let stream = &self.wanted.name;
        let text = match ahead.is_empty() {
            true => format!("has all that the journal has ({level})"),
            false => format!(
                "ends with records that the journal does not have yet ({ahead}); waiting for them"
            ),
        };
        say("relay", format!("the stream {stream} {text}"));
    }

    /// The connection was lost, or is given up: pauses, and says so unless that was said lately.
    fn lost(&mut self, why: &str) {
        let pause_ms = match self.failures {
            0 => random_ms(RETRY_FIRST_MS_MAX),
            n => jittered((RETRY_MS_MIN << (n - 1).min(16)).min(RETRY_MS_MAX)),
        };
        self.failures += 1;
        self.retry_at = Instant::now() + Duration::from_millis(pause_ms);
        let window = Duration::from_millis(COMPLAINTS_MS);
        self.said.retain(|_, at| at.elapsed() < window);
        if !self.said.contains_key(why) && self.said.len() < COMPLAINTS_MAX {
            say(
                "relay",
                format!("{}: {why}; trying again", self.client.url()),
            );
            self.said.insert(why.to_owned(), Instant::now());
        }
        self.client.close();
    }
}
