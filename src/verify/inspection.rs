//! Reads one file of `rsoracle verify`, report by report, and judges it.

mod words;

use crate::error::Error;
use crate::log::{printable, say};
use crate::processes::{Checked, FILE_BYTES_MIN, Workers};
use crate::segments::{Reading, Segments};
use crate::settings::Settings;
use rsoracle_proof::duration::duration_text;
use rsoracle_proof::limits::COLLECTORS_MAX;
use rsoracle_proof::report::{Check, Content, Proof, Report, Verifier};
use rsoracle_proof::seal::hex;
use rsoracle_proof::succession::Succession;
use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, IsTerminal, Write};
use std::time::{SystemTime, UNIX_EPOCH};

/// Most flaws that are shown per file; the others are counted.
const FLAWS_SHOWN: u64 = 20;
/// The verdict on a file, from best to worst.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Trusted,
    SignersUnknown,
    Stale,
    Empty,
    Invalid,
}

/// What was counted in a file.
#[derive(Default)]
struct Tally {
    reports: u64,
    key_changes: u64,
    proofs: u64,
    /// The last proof in the file.
    liar: Option<Proof>,
    bad: u64,
    /// How many of these are whole, but of another roster.
    foreign: u64,
    published: u64,
    /// By feed, at most as many as the verifier follows. In the end there is at least one, whose name may be empty.
    feeds: BTreeMap<String, FeedTally>,
}

/// What was counted of one feed.
#[derive(Default)]
struct FeedTally {
    reports: u64,
    /// The numbers of its first report and of its last one.
    first: u64,
    number: u64,
    last: Option<Last>,
    span: Span,
}

/// Which reports of a feed are by the roster, as long as they are one run at its beginning or at its end.
#[derive(Default)]
struct Span {
    /// The numbers of the first one and of the last one.
    own: Option<(u64, u64)>,
    /// Whether others came before it, and after it.
    others: [bool; 2],
    /// Whether there is another run after those.
    is_broken: bool,
}

impl Span {
    fn take(&mut self, number: u64, is_own: bool) {
        match (&mut self.own, is_own) {
            (Some((_, last)), true) => {
                *last = number;
                self.is_broken |= self.others[1];
            }
            (own, true) => *own = Some((number, number)),
            (own, false) => self.others[usize::from(own.is_some())] = true,
        }
    }

    /// Its numbers, and whether others come after it (else before).
    fn run(&self) -> Option<(u64, u64, bool)> {
        let (first, last) = self.own.filter(|_| !self.is_broken)?;
        match self.others {
            [false, true] => Some((first, last, true)),
            [true, false] => Some((first, last, false)),
            _ => None,
        }
    }
}

/// What is kept of a feed's last report: what is said of it, whatever its size.
struct Last {
    /// Its price, with its time.
    priced: Option<(f64, u64)>,
    age_us: Option<u64>,
    heartbeat_us: Option<u64>,
    embedded: bool,
    words: String,
}

impl Last {
    fn of(report: &Report) -> Last {
        let embedded = if report.embedded() { "embedded " } else { "" };
        Last {
            priced: report.price().zip(report.outcome.timestamp_us),
            age_us: report.age_us(),
            heartbeat_us: report.policy.heartbeat_us,
            embedded: report.embedded(),
            words: match report.closing_line() {
                Some(closing) => format!("; the last: {embedded}{closing}"),
                None => format!("; the last has NO PRICE ({})", report.decision.name()),
            },
        }
    }
}

/// A file, and what was found in it so far.
pub struct Inspection<'a> {
    config: &'a Settings,
    rosters: Option<&'a Succession>,
    pub name: &'a str,
    lines: Reading,
    /// Its length; 0: unknown.
    bytes: u64,
    percent: u64,
    workers: Workers,
    /// Whether it is read in step with others.
    pools: bool,
    /// Lines that were checked by themselves, but not yet with each other.
    checked: VecDeque<Checked>,
    /// The reports that are to be pooled next: of one start, and of each feed at most one. None at the end.
    pooled: Vec<Report>,
    /// The first report of a later start.
    later: Option<Report>,
    /// How many reports could be pooled, but start earlier than one before them, or as early as one of the same feed.
    pub disordered: u64,
    /// Whether it could not be read to its end.
    pub failed: bool,
    verifier: Verifier,
    tally: Tally,
    flaws: Vec<String>,
    verdict: Verdict,
}

impl<'a> Inspection<'a> {
    /// Opens a file, which is one of `files` that are read in step.
    pub fn open(
        config: &'a Settings,
        rosters: Option<&'a Succession>,
        path: &'a str,
        files: usize,
    ) -> Result<Inspection<'a>, Error> {
        let (name, lines, bytes) = if path == "-" {
            ("standard input", Reading::standard_input(), 0)
        } else {
            let segments = Segments::open(path)?;
            if let Some(note) = &segments.unlisted {
                say("verify", note);
            }
            (path, segments.tail(u64::MAX)?, segments.bytes())
        };
        let mut verifier = Verifier::following(rosters.cloned());
        verifier.chain.published_only = config.published;
        Ok(Inspection {
            config,
            rosters,
            name,
            lines,
            bytes,
            percent: 0,
            workers: Workers::start(bytes, files),
            pools: files > 1,
            checked: VecDeque::new(),
            pooled: Vec::new(),
            later: None,
            disordered: 0,
            failed: false,
            verifier,
            tally: Tally::default(),
            flaws: Vec::new(),
            verdict: Verdict::Invalid,
        })
    }

    /// When the rounds of the reports that are to be pooled next start.
    pub fn start_us(&self) -> Option<u64> {
        self.pooled.first().map(|first| first.round.start_us)
    }

    /// The reports that are to be pooled next, if their rounds start then.
    pub fn reports_of(&self, start_us: u64) -> impl Iterator<Item = &Report> {
        let is_then = self.start_us() == Some(start_us);
        self.pooled.iter().filter(move |_| is_then)
    }

    /// Reads on until all reports of the next start are there that can be pooled, or to the end. Together they have no more slots
    /// than a roster may have.
    pub fn advance(&mut self) {
        self.pooled.clear();
        self.pooled.extend(self.later.take());
        while !self.failed {
            let Some(checked) = self.checked.pop_front() else {
                match self.read() {
                    Ok(true) => continue,
                    Ok(false) => return,
                    Err(error) => say("verify", error),
                }
                self.failed = true;
                return;
            };
            let Some(report) = self.take(checked) else {
                continue;
            };
            let (start_us, before_us) = (Some(report.round.start_us), self.start_us());
            let feed = |one: &Report| one.round.terms.feed == report.round.terms.feed;
            let all = self.pooled.iter().chain([&report]);
            let slots: usize = all.map(|one| one.round.parts.len()).sum();
            if start_us > before_us && before_us.is_some() {
                self.later = Some(report);
                return;
            }
            let too_many = slots > COLLECTORS_MAX.into();
            if start_us < before_us || too_many || self.pooled.iter().any(feed) {
                self.disordered += 1;
            } else {
                self.pooled.push(report);
            }
        }
    }

    /// Reads the next line. Returns false at the end.
    fn read(&mut self) -> Result<bool, Error> {
        let Some(line) = self.lines.next_line()? else {
            self.checked.extend(self.workers.rest()?);
            return Ok(!self.checked.is_empty());
        };
        let (number, whole) = (line.number, line.whole);
        let text = line.text.map(str::to_owned);
        self.checked.extend(self.workers.take(Checked {
            place: self.lines.place(number),
            text,
            whole,
            known: None,
        })?);
        let percent = self.lines.bytes() * 100 / self.bytes.max(1);
        let shows = self.bytes >= FILE_BYTES_MIN && percent > self.percent;
        if shows && std::io::stderr().is_terminal() {
            self.percent = percent;
            // The next output overwrites it. It is not worth an error.
            let text = format!("\rverify: {percent} % of {}\x1b[K\r", printable(self.name));
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
        Ok(true)
    }

    /// Judges the file, prints the result, and returns the verdict. `is_pooled`: it was compared with others.
    pub fn verdict(&mut self, is_pooled: bool) -> Verdict {
        self.judge(is_pooled);
        let text = match self.config.json {
            true => self.json(),
            false => self.words(),
        };
        match print("verify", &format!("{text}\n")) {
            true => self.verdict,
            // A verdict that could not be written does not count.
            false => Verdict::Invalid,
        }
    }

    /// Takes the next line. Returns its report if that can be pooled.
    fn take(&mut self, line: Checked) -> Option<Report> {
        let mut check = match line.text {
            Ok(text) => self.verifier.check_after(&text, wall_us(), line.known),
            Err(why) => Check::unreadable(why),
        };
        if !line.whole && matches!(check.content, Content::Unknown) {
            let flaw =
                "the line is incomplete: it is still being written, or a write was interrupted";
            check.flaws.push(flaw.to_owned());
        }
        if !check.flaws.is_empty() {
            self.tally.bad += 1;
            self.tally.foreign += u64::from(check.of_another_roster);
            if self.tally.bad <= FLAWS_SHOWN {
                let several = self.verifier.feeds().nth(1).is_some();
                self.flaws.push(flawed(&line.place, &check, several));
            }
        }
        let is_pooled = check.stands_alone && self.pools;
        self.tally.count(check).filter(|_| is_pooled)
    }

    /// Judges the file as a whole.
    fn judge(&mut self, is_pooled: bool) {
        if self.tally.bad > FLAWS_SHOWN {
            let more = self.tally.bad - FLAWS_SHOWN;
            self.flaws.push(format!("and {more} more lines"));
        }
        // What was not compared might contradict the others.
        if is_pooled && self.disordered > 0 {
            let flaw = "its reports are not in the order of their starts, so that they cannot all be compared with the others'";
            self.flaws.push(flaw.to_owned());
        }
        let tally = &mut self.tally;
        let is_empty = tally.reports + tally.proofs + tally.bad == 0;
        // Also those that have only a change of keys.
        for feed in self.verifier.feeds() {
            tally.feeds.entry(feed.to_owned()).or_default();
        }
        if tally.feeds.is_empty() {
            tally.feeds.entry(String::new()).or_default();
        }
        let ends = self.verifier.feeds().map(|feed| self.verifier.head(feed));
        let ends: Vec<_> = ends.collect();
        let missing = |head: &&[u8; 64]| !ends.contains(&Some(**head));
        for head in self.config.heads.iter().filter(missing) {
            self.flaws.push(match (self.config.heads.len(), self.is_several()) {
                (1, false) => "its last report is not that of --head: reports are missing at its end, or it is another journal".to_owned(),
                _ => format!("no feed ends with the report of --head {}: reports of that feed are missing at its end, or it is another journal", hex(head)),
            });
        }
        let limit = self.config.age_us_max.filter(|_| !is_empty);
        let late = self.tally.feeds.iter().filter_map(|(feed, of)| {
            let why = too_old(limit?, of.last.as_ref(), wall_us())?;
            let of = self.is_several().then(|| format!("{feed}: "));
            Some(of.unwrap_or_default() + &why)
        });
        let late: Vec<String> = late.collect();
        self.verdict = match () {
            _ if !self.flaws.is_empty() => Verdict::Invalid,
            _ if is_empty => Verdict::Empty,
            _ if !late.is_empty() => Verdict::Stale,
            _ if self.verifier.vouched_for() => Verdict::Trusted,
            _ => Verdict::SignersUnknown,
        };
        self.flaws.extend(late);
        if is_empty {
            self.flaws.push("it contains no report".to_owned());
        }
    }

    fn is_several(&self) -> bool {
        self.tally.feeds.len() > 1
    }
}

/// Writes a result to standard output. If that fails, returns false and says so, unless the reader closed it (`| head`).
pub fn print(role: &str, text: &str) -> bool {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => return true,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        Err(error) => say(role, format!("cannot write to standard output: {error}")),
    }
    false
}

/// The flaw of a last price that is too old or missing.
fn too_old(age_us_max: u64, last: Option<&Last>, now_us: u64) -> Option<String> {
    let Some((_, time_us)) = last.and_then(|last| last.priced) else {
        return Some("its last report has no price, so --max-age is not met".to_owned());
    };
    let age_us = now_us.saturating_sub(time_us);
    if age_us <= age_us_max {
        return None;
    }
    let (age, most) = (seconds(age_us), duration_text(age_us_max));
    let mut flaw = format!("its last price is {age} old, more than --max-age {most}");
    let seldom = last.and_then(|last| last.heartbeat_us);
    if let Some(us) = seldom.filter(|us| *us >= age_us_max) {
        let every = duration_text(us);
        flaw += &format!("; its aggregator publishes prices that stand still every {every} only");
    }
    Some(flaw)
}

fn seconds(us: u64) -> String {
    format!("{}.{} s", us / 1_000_000, us / 100_000 % 10)
}

impl Tally {
    /// Counts a line, and returns its report if it is one.
    fn count(&mut self, check: Check) -> Option<Report> {
        match check.content {
            Content::Report(report) => {
                self.reports += 1;
                self.published += u64::from(report.decision.publishes());
                let feed = report.round.terms.feed.clone();
                let of = self.feeds.entry(feed).or_default();
                if of.reports == 0 {
                    of.first = report.number;
                }
                of.reports += 1;
                of.number = report.number;
                of.span.take(report.number, !check.of_another_roster);
                of.last = Some(Last::of(&report));
                return Some(*report);
            }
            Content::Proof(proof) if check.flaws.is_empty() => {
                self.proofs += 1;
                self.liar = Some(*proof);
            }
            Content::KeyChange => self.key_changes += 1,
            Content::Proof(_) | Content::Unknown => {}
        }
        None
    }
}

/// The flaws of one line, in a sentence. `several`: there are several feeds so far.
fn flawed(place: &str, check: &Check, several: bool) -> String {
    let which = match &check.content {
        Content::Report(report) if several => {
            format!(" (report {} of {})", report.number, report.round.terms.feed)
        }
        Content::Report(report) => format!(" (report {})", report.number),
        Content::Proof(_) => " (a proof)".to_owned(),
        Content::KeyChange => " (a change of keys)".to_owned(),
        Content::Unknown => String::new(),
    };
    format!("{place}{which}: {}", check.flaws.join("; "))
}

/// This machine's clock in microseconds since the Unix epoch; 0 if it is set to an earlier date.
fn wall_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64)
}
