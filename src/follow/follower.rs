//! Reads all sources in turn, in one thread, and tells the rounds.
//!
//! Invariant: nothing waits for one source: while one is being opened, the others are read and rounds are told. What a source
//! sends is believed only after it was verified.

use super::access::Access;
use super::book::{Book, append_proof, paths};
use super::complaints::{Complaints, Kind};
use super::intake::{News, Taken};
use super::output::{Age, Row};
use super::rounds::{Rounds, Shown, Told};
use super::settings::FollowSettings;
use super::supply::{Feeder, Goal, Item, Supply};
use crate::follow::limits::ONCE_MS_MAX;
use crate::system::now::wall_us;
use crate::system::span::span;
use rsoracle_proof::report::Proof;
use rsoracle_proof::tolerance::counted;
use rsoracle_proof::utc::utc_text;
use rsoracle_verify::error::{EXIT_FAILURE, EXIT_NO_PRICE, EXIT_OK, Error};
use rsoracle_verify::print;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Most lines of one source before the next one is read.
const LINES_PER_TURN: usize = 16;
/// Shortest and longest nap when nothing came.
const NAPS: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(10)];
/// Complaints about feeds have numbers from this on, those about sources smaller ones.
const OF_FEEDS: usize = 1 << 16;

/// One feed.
struct Track {
    name: String,
    rounds: Rounds,
    /// Time of the last price that was told, in microseconds since the Unix epoch; at first, that of the beginning.
    priced_us: u64,
    /// For `--once`: whether any report of it was verified.
    has_report: bool,
}

/// All sources, and what came of them.
pub(super) struct Follower<'a> {
    settings: &'a FollowSettings,
    names: Vec<&'a str>,
    tracks: Vec<Track>,
    /// None while it is being opened.
    supplies: Vec<Option<Supply>>,
    books: Vec<Book>,
    complaints: Complaints,
    /// The keys of collectors that lied.
    liars: BTreeSet<[u8; 32]>,
    /// Why it must end.
    over: Option<Result<u8, Error>>,
}

/// Why a report of the future is not taken.
const EARLY: &str =
    "its round starts in the future: the aggregator's clock or this machine's is wrong";

/// Whether a report does not continue what was there before, and how that is said.
fn breach(news: &News) -> Option<(Kind, String)> {
    if let Some((from, to)) = news.missing {
        let what = format!("it does not have the reports {from} to {to}");
        return Some((Kind::Missing, what));
    }
    let number = news.report.number;
    let what = format!(
        "report {number} does not continue the chain: a change of the aggregator's key, or another journal"
    );
    (!news.follows).then_some((Kind::Broken, what))
}

impl<'a> Follower<'a> {
    /// Opens the journals, and prepares all sources.
    pub(super) fn new(settings: &'a FollowSettings) -> Result<Follower<'a>, Error> {
        let names: Vec<&str> = settings.sources.iter().map(|(name, _)| &**name).collect();
        let access = Access::new(settings)?;
        let books = match &settings.journal {
            // `--once` keeps no reports, only proofs.
            Some(journal) if !settings.once => paths(journal, &names)?,
            _ => Vec::new(),
        };
        let books: Vec<Book> = books
            .iter()
            .map(|path| Book::open(path))
            .collect::<Result<_, _>>()?;
        let (mut tracks, mut supplies) = (Vec::new(), Vec::new());
        for (feed, at) in settings.feeds.iter().enumerate() {
            let terms = &settings.rosters.newest().feeds[*at];
            let mut told_us = None;
            for (source, (name, place)) in settings.sources.iter().enumerate() {
                let last = books
                    .get(source)
                    .and_then(|book| book.last.get(&terms.feed));
                let last = last.copied();
                told_us = told_us.max(last.map(|last| last.start_us));
                let feeder = access.feeder(place, terms, last);
                let (ids, terms) = ((source, feed), (&settings.rosters, terms));
                supplies.push(Some(Supply::new(
                    ids,
                    name,
                    feeder,
                    terms,
                    last,
                    settings.once,
                )));
            }
            tracks.push(Track {
                name: terms.feed.clone(),
                rounds: Rounds::new(terms.schedule, names.len(), told_us),
                priced_us: wall_us(),
                has_report: false,
            });
        }
        Ok(Follower {
            settings,
            names,
            tracks,
            supplies,
            books,
            complaints: Complaints::default(),
            liars: BTreeSet::new(),
            over: None,
        })
    }

    /// Follows until standard output is closed or something cannot be written. Returns the exit code.
    pub(super) fn run(&mut self) -> Result<u8, Error> {
        let until = Instant::now() + Duration::from_millis(ONCE_MS_MAX);
        let mut nap = NAPS[0];
        loop {
            let mut busy = self.turn();
            for at in 0..self.supplies.len() {
                busy |= self.open(at);
            }
            if self.settings.once && (self.is_done() || Instant::now() >= until) {
                self.tell_newest();
            }
            if let Some(over) = self.over.take() {
                return over;
            }
            match busy {
                true => nap = NAPS[0],
                false => {
                    std::thread::sleep(nap);
                    nap = (nap * 2).min(NAPS[1]);
                }
            }
        }
    }

    /// Opens a source, if it is due. Meanwhile the others are read.
    fn open(&mut self, at: usize) -> bool {
        let is_due = |supply: &mut Supply| supply.is_due(Instant::now());
        let Some(mut supply) = self.supplies[at].take_if(is_due) else {
            return false;
        };
        let opened = supply.open(&mut || {
            self.turn();
            match self.over {
                Some(_) => Err(Error::new("cannot go on", "the end has come")),
                None => Ok(()),
            }
        });
        if let Err(error) = opened {
            // A journal without a report is no failure.
            let kind = match error.cause.contains("no-report") {
                true => Kind::Missing,
                false => Kind::Lost,
            };
            let text = format!("{}: {error}", supply.name);
            self.complaints
                .add(supply.source, kind, &text, Instant::now());
            // Each attempt may take its time, which the feeds of one source need not all do.
            let others = self.supplies.iter_mut().flatten();
            let of_source = others.filter(|other| other.source == supply.source);
            of_source.for_each(|other| other.wait_for(&supply));
            // A server that still reads its journal soon has an answer.
            if self.settings.once && !error.cause.contains("indexing") {
                supply.give_up();
            }
        }
        self.supplies[at] = Some(supply);
        true
    }

    /// Reads all sources without waiting, and tells what can be told. Returns whether anything came.
    fn turn(&mut self) -> bool {
        let (now, now_us) = (Instant::now(), wall_us());
        let mut came = false;
        for at in 0..self.supplies.len() {
            if let Some(mut supply) = self.supplies[at].take() {
                came |= self.read(&mut supply, now, now_us);
                self.supplies[at] = Some(supply);
            }
        }
        if !self.settings.once {
            for feed in 0..self.tracks.len() {
                while self.over.is_none()
                    && let Some(told) = self.tracks[feed].rounds.tell(now, now_us)
                {
                    self.tell(feed, &told, now_us);
                    self.name_late(feed, &told, now);
                }
                self.name_stale(feed, now, now_us);
            }
        }
        came
    }

    fn read(&mut self, supply: &mut Supply, now: Instant, now_us: u64) -> bool {
        let mut came = false;
        for _ in 0..LINES_PER_TURN {
            let is_over = self.over.is_some() || supply.goal == Goal::Reached;
            if is_over || self.tracks[supply.feed].rounds.has_enough_of(supply.source) {
                break;
            }
            match supply.next(now) {
                Ok(None) => break,
                Ok(Some(Item::Part)) => {
                    came = true;
                    break;
                }
                Ok(Some(Item::Line(number, line))) => {
                    came = true;
                    self.take(supply, number, &line, now, now_us);
                }
                Err(why) => {
                    let text = format!("{}: {why}", supply.name);
                    self.complaints.add(supply.source, Kind::Lost, &text, now);
                    if self.settings.once && supply.goal == Goal::Unknown {
                        supply.give_up();
                    }
                    break;
                }
            }
        }
        came
    }

    /// Takes a line.
    fn take(
        &mut self,
        supply: &mut Supply,
        number: Option<u64>,
        line: &[u8],
        now: Instant,
        now_us: u64,
    ) {
        if supply.goal == Goal::Unknown
            && let (Feeder::Server(_), Some(number)) = (&supply.feeder, number)
        {
            return supply.set_goal(number);
        }
        let (source, name) = (supply.source, supply.name.clone());
        let feed = &self.tracks[supply.feed].name;
        let mut complain = |kind, what: &str| {
            self.complaints
                .add(source, kind, &format!("{name}: {feed}: {what}"), now);
        };
        match supply.intake.take(number, line, now_us) {
            Taken::News(news) => {
                if let Some((kind, what)) = breach(&news) {
                    complain(kind, &what);
                }
                supply.is_news();
                self.news(supply, news, line, now);
            }
            Taken::Change => {
                let what = "its aggregator goes on with another key, as both keys have signed";
                complain(Kind::Key, what);
                let written = self
                    .books
                    .get_mut(source)
                    .map(|book| book.append(line, true));
                self.over = written.and_then(Result::err).map(Err);
            }
            Taken::Old if supply.goal == Goal::Never && !supply.intake.asks_again() => {
                complain(
                    Kind::Old,
                    "it sends reports that are older than its last one; they are passed over",
                );
            }
            Taken::Old | Taken::Aside => {}
            Taken::Early(report) if supply.goal == Goal::Never => {
                let what = format!("report {report}: {EARLY}; it is taken when its time has come");
                complain(Kind::Early, &what);
                supply.wait(line, now);
            }
            Taken::Early(report) => {
                let what = format!("report {report}: {EARLY}; it is passed over");
                complain(Kind::Early, &what);
                supply.intake.position = supply.intake.position.max(Some(report));
            }
            Taken::Odd(why) => complain(Kind::False, &format!("{why}; it is passed over")),
            Taken::Again(why) => {
                complain(Kind::False, &format!("{why}; the source is asked again"));
                supply.ask_again();
            }
            Taken::False(why) => {
                complain(Kind::False, &format!("{why}; it is passed over"));
                // A stream goes on by itself.
                if matches!(supply.feeder, Feeder::Server(_)) {
                    supply.ask_again();
                }
            }
        }
        supply.reach();
    }

    fn news(&mut self, supply: &mut Supply, news: News, line: &[u8], now: Instant) {
        let (source, feed) = (supply.source, supply.feed);
        if let Some(book) = self.books.get_mut(source)
            && let Err(error) = book.append(line, news.follows && news.missing.is_none())
        {
            self.over = Some(Err(error));
            return;
        }
        let start_us = news.report.round.start_us;
        let track = &mut self.tracks[feed];
        track.has_report = true;
        let Shown {
            lies,
            is_twice,
            is_late,
        } = track.rounds.take(source, news.report, now);
        let (name, time) = (&supply.name, utc_text(start_us));
        if is_twice {
            let text = format!(
                "{name}: {}: its aggregator has signed two reports of the round of {time}",
                track.name
            );
            self.complaints.add(source, Kind::Lie, &text, now);
        }
        if is_late {
            let text = format!(
                "{name}: {}: the report of the round of {time} came after the round was printed",
                track.name
            );
            self.complaints.add(source, Kind::Late, &text, now);
        } else if self.complaints.is_lost(source) {
            self.complaints.add(
                source,
                Kind::Back,
                &format!("{name}: it sends reports"),
                now,
            );
        }
        for lie in lies {
            self.lie(feed, &lie, now);
        }
    }

    /// A collector's lie: the proof is kept, or printed.
    fn lie(&mut self, feed: usize, lie: &Proof, now: Instant) {
        if !self.liars.insert(*lie.key.bytes()) {
            return;
        }
        let (track, time) = (&self.tracks[feed].name, utc_text(lie.start_us));
        let text = format!(
            "LIE: collector {} of {track} gave two different answers for the round of {time}; its answers do not count",
            lie.slot
        );
        let place = OF_FEEDS * (2 + usize::from(lie.slot)) + feed;
        self.complaints.add(place, Kind::Lie, &text, now);
        let done = match &self.settings.journal {
            Some(journal) => append_proof(journal, &lie.line()).map(|()| true),
            None => Ok(print("follow", &(lie.line() + "\n"))),
        };
        match done {
            Ok(true) => {}
            Ok(false) => self.over = Some(Ok(EXIT_FAILURE)),
            Err(error) => self.over = Some(Err(error)),
        }
    }

    /// Prints a round. Returns the price's age.
    fn tell(&mut self, feed: usize, told: &Told, now_us: u64) -> Age {
        let row = Row::of(told, &self.names);
        let age = Age::of(&row, now_us, self.settings.age_us_max());
        if let Some((_, time_us)) = row.priced {
            self.tracks[feed].priced_us = time_us;
        }
        let sources = self.names.len();
        let line = match self.settings.json {
            true => row.json(age, sources),
            false => row.text(age, sources),
        };
        if !print("follow", &(line + "\n")) {
            self.over = Some(Ok(EXIT_FAILURE));
        }
        age
    }

    fn name_late(&mut self, feed: usize, told: &Told, now: Instant) {
        let (track, time) = (&self.tracks[feed].name, utc_text(told.start_us));
        for source in &told.late {
            let name = self.names[*source];
            let text = format!(
                "{name}: {track}: no report of the round of {time} when it was printed; it is not waited for until it has caught up"
            );
            self.complaints.add(*source, Kind::Late, &text, now);
        }
        if told.missing > 0 {
            let rounds = counted(told.missing, "round");
            let text = format!("{track}: no source has a report of {rounds} before that of {time}");
            self.complaints
                .add(OF_FEEDS + feed, Kind::Missing, &text, now);
        }
    }

    fn name_stale(&mut self, feed: usize, now: Instant, now_us: u64) {
        let Some(age_us_max) = self.settings.age_us_max else {
            return;
        };
        let track = &self.tracks[feed];
        let age_us = now_us.saturating_sub(track.priced_us);
        if age_us > age_us_max {
            let text = format!("{}: no fresh price for {}", track.name, span(age_us));
            self.complaints
                .add(OF_FEEDS + feed, Kind::Stale, &text, now);
        }
    }

    /// For `--once`: whether every source has been read.
    fn is_done(&self) -> bool {
        let mut supplies = self.supplies.iter().flatten();
        supplies.all(|supply| supply.goal == Goal::Reached)
    }

    /// For `--once`: prints the newest price of each feed, and ends.
    fn tell_newest(&mut self) {
        let mut code = EXIT_OK;
        for feed in 0..self.tracks.len() {
            let mut found = None;
            while let Some(told) = self.tracks[feed].rounds.tell_first() {
                let is_priced = Row::of(&told, &self.names).priced.is_some();
                // The newest round without a price is shown only if none has one.
                if is_priced || found.as_ref().is_none_or(|(_, priced)| !priced) {
                    found = Some((told, is_priced));
                }
            }
            let lacks = match found {
                Some((told, _)) => {
                    let told = Told { missing: 0, ..told };
                    match self.tell(feed, &told, wall_us()).is_fresh {
                        Some(false) => EXIT_NO_PRICE,
                        Some(true) => EXIT_OK,
                        None if Row::of(&told, &self.names).priced.is_some() => EXIT_OK,
                        None => EXIT_NO_PRICE,
                    }
                }
                None if self.has_failed(feed) => EXIT_FAILURE,
                None => EXIT_NO_PRICE,
            };
            // A failure is worse than a missing price.
            code = match (code, lacks) {
                (EXIT_FAILURE, _) | (_, EXIT_FAILURE) => EXIT_FAILURE,
                (one, other) => one.max(other),
            };
        }
        if !self.liars.is_empty() {
            code = EXIT_FAILURE;
        }
        self.over = Some(match self.over.take() {
            Some(over) => over,
            None => Ok(code),
        });
    }

    /// Whether a feed has no report because something is wrong with its sources.
    fn has_failed(&self, feed: usize) -> bool {
        let bad = [Kind::Lost, Kind::False, Kind::Early];
        let fails = |source| {
            bad.iter()
                .any(|kind| self.complaints.has_said(source, *kind))
        };
        !self.tracks[feed].has_report && (0..self.names.len()).any(fails)
    }
}
