//! Reads one file of `rsoracle verify`, report by report, and says what was found in it.

use crate::error::Error;
use crate::lines::{Line, Lines};
use crate::log::{printable, quoted, say};
use crate::processes::{Checked, FILE_BYTES_MIN, Workers};
use crate::settings::Settings;
use rsoracle_proof::duration::duration_text;
use rsoracle_proof::price;
use rsoracle_proof::report::{Check, Content, Proof, Report, Verifier};
use rsoracle_proof::roster::Roster;
use rsoracle_proof::seal::hex;
use rsoracle_proof::tolerance::counted;
use rsoracle_proof::utc::utc_text;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, IsTerminal, Write};
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
    published: u64,
    first: Option<u64>,
    last: Option<Report>,
}

/// A file, and what was found in it so far.
pub struct Inspection<'a> {
    config: &'a Settings,
    roster: Option<&'a Roster>,
    pub name: &'a str,
    lines: Lines<Box<dyn BufRead>>,
    /// Its length; 0: unknown.
    bytes: u64,
    percent: u64,
    workers: Workers,
    /// Lines that were checked by themselves, but not yet with each other.
    checked: VecDeque<Checked>,
    /// Start of the last report, if it can be pooled and has not been; None at the end.
    pub start_us: Option<u64>,
    /// How many reports could be pooled, but start no later than one before them.
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
        roster: Option<&'a Roster>,
        path: &'a str,
        files: usize,
    ) -> Result<Inspection<'a>, Error> {
        let (name, input, bytes): (_, Box<dyn BufRead>, _) = if path == "-" {
            ("standard input", Box::new(std::io::stdin().lock()), 0)
        } else {
            let attempt = format!("cannot read {path}");
            let file = File::open(path).map_err(|error| Error::new(attempt, error))?;
            // 0 for what has no length, such as a pipe.
            let bytes = file.metadata().map_or(0, |metadata| metadata.len());
            let input = BufReader::with_capacity(64 * 1024, file);
            (path, Box::new(input), bytes)
        };
        let mut verifier = Verifier::new(roster);
        verifier.chain.published_only = config.published;
        Ok(Inspection {
            config,
            roster,
            name,
            lines: Lines::new(input, name),
            bytes,
            percent: 0,
            workers: Workers::start(bytes, files),
            checked: VecDeque::new(),
            start_us: None,
            disordered: 0,
            failed: false,
            verifier,
            tally: Tally::default(),
            flaws: Vec::new(),
            verdict: Verdict::Invalid,
        })
    }

    /// The last report, if it can be pooled and its round starts then.
    pub fn report_of(&self, start_us: u64) -> Option<&Report> {
        let last = self.tally.last.as_ref();
        last.filter(|_| self.start_us == Some(start_us))
    }

    /// Reads to the next report that can be pooled, or to the end.
    pub fn advance(&mut self) {
        let before_us = self.start_us.take();
        loop {
            let Some(checked) = self.checked.pop_front() else {
                match self.read() {
                    Ok(true) => continue,
                    Ok(false) => return,
                    Err(error) => {
                        say("verify", error);
                        self.failed = true;
                        return;
                    }
                }
            };
            if !self.take(checked) {
                continue;
            }
            let last = self.tally.last.as_ref();
            self.start_us = last.map(|last| last.round.start_us);
            if self.start_us > before_us {
                return;
            }
            self.disordered += 1;
            self.start_us = None
        }
    }

    /// Reads the next line. Returns false at the end.
    fn read(&mut self) -> Result<bool, Error> {
        let Some(line) = self.lines.next_line()? else {
            self.checked.extend(self.workers.rest()?);
            return Ok(!self.checked.is_empty());
        };
        let line = Line {
            number: line.number,
            text: line.text.map(str::to_owned),
            whole: line.whole,
        };
        self.checked.extend(self.workers.take(line)?);
        let percent = (self.lines.bytes() * 100)
            .checked_div(self.bytes)
            .unwrap_or(0);
        let shows = self.bytes >= FILE_BYTES_MIN && percent > self.percent;
        if shows && std::io::stderr().is_terminal() {
            self.percent = percent;
            // The next output overwrites it. It is not worth an error.
            let text = format!("\rverify: {percent} % of {}\x1b[K\r", printable(self.name));
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
        Ok(true)
    }

    /// Judges the file, prints the result, and returns the verdict.
    pub fn verdict(&mut self) -> Verdict {
        self.judge();
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

    /// Takes the next line. `known` are the flaws that its report has by itself, if another process looked for them. Returns
    /// whether it is a report that can be pooled.
    fn take(&mut self, (line, known): Checked) -> bool {
        let mut check = match line.text {
            Ok(text) => self.verifier.check_after(&text, wall_us(), known),
            Err(why) => Check::unreadable(why),
        };
        if !line.whole && matches!(check.content, Content::Unknown) {
            check.flaws.push(
                "the line is incomplete: it is still being written, or a write was interrupted"
                    .to_owned(),
            );
        }
        if !check.flaws.is_empty() {
            self.tally.bad += 1;
            if self.tally.bad <= FLAWS_SHOWN {
                self.flaws.push(flawed(line.number, &check));
            }
        }
        let stands_alone = check.stands_alone;
        self.tally.count(check);
        stands_alone
    }

    /// Judges the file as a whole.
    fn judge(&mut self) {
        let tally = &self.tally;
        if tally.bad > FLAWS_SHOWN {
            let more = tally.bad - FLAWS_SHOWN;
            self.flaws.push(format!("and {more} more lines"));
        }
        if self.config.head.is_some() && self.verifier.head() != self.config.head {
            self.flaws.push("its last report is not that of --head: reports are missing at its end, or it is another journal".to_owned());
        }
        let is_empty = tally.reports + tally.proofs + tally.bad == 0;
        let limit = self.config.age_us_max.filter(|_| !is_empty);
        let late = limit.and_then(|us| too_old(us, tally.last.as_ref(), wall_us()));
        self.verdict = match (self.flaws.is_empty(), &late) {
            (false, _) => Verdict::Invalid,
            _ if is_empty => Verdict::Empty,
            (true, Some(_)) => Verdict::Stale,
            (true, None) if self.verifier.vouched_for() => Verdict::Trusted,
            (true, None) => Verdict::SignersUnknown,
        };
        self.flaws.extend(late);
        if is_empty {
            self.flaws.push("it contains no report".to_owned());
        }
    }

    /// The result in sentences, for people.
    fn words(&self) -> String {
        let (tally, flaws) = (&self.tally, &self.flaws);
        let mut lines = vec![self.headline()];
        if flaws.is_empty() && tally.reports > 0 {
            lines.extend(self.checked());
        }
        if let Some(liar) = &tally.liar {
            lines.push(format!(
                "proof{}: the holder of the key {} signed two different answers for the round of {}",
                if tally.proofs > 1 { format!(" (the last of {})", tally.proofs) } else { String::new() },
                hex(liar.key.bytes()),
                utc_text(liar.start_us)
            ));
        }
        let last = tally.last.as_ref().filter(|last| last.price().is_some());
        if let Some(last) = last.filter(|_| flaws.is_empty()) {
            lines.push(match last.age_us() {
                Some(us) => format!(
                    "age: the exchange prices of a quorum were at most {} old when they were sampled",
                    seconds(us)
                ),
                None => {
                    "age: unknown, since the exchanges of fewer than a quorum give times".to_owned()
                }
            });
        }
        lines.extend(flaws.iter().map(|flaw| format!("wrong: {flaw}")));
        let verdict = match self.verdict {
            Verdict::Invalid => "verdict: INVALID; do not use any price in it",
            Verdict::Stale => "verdict: STALE; do not act on its price",
            Verdict::Empty => "verdict: EMPTY; nothing was proved",
            Verdict::Trusted if tally.reports == 0 => {
                "verdict: proved, and the key is in the roster"
            }
            Verdict::SignersUnknown if tally.reports == 0 => {
                "verdict: proved; a roster says whose key it is (--roster FILE)"
            }
            Verdict::Trusted => "verdict: valid, and the signers are those of the roster",
            Verdict::SignersUnknown if self.roster.is_some() => {
                "verdict: consistent, but nobody of the roster signed all of it: anyone can make a report without a collector's answer"
            }
            Verdict::SignersUnknown => {
                "verdict: consistent, but the signers are unknown; name a roster that you trust with --roster FILE"
            }
        };
        lines.push(verdict.to_owned());
        let lines: Vec<String> = lines.iter().map(|line| printable(line)).collect();
        lines.join("\n  ")
    }

    fn headline(&self) -> String {
        let (name, tally) = (self.name, &self.tally);
        let mut line = format!("{name}: {}", counted(tally.reports, "report"));
        if let (Some(first), Some(last)) = (tally.first, &tally.last) {
            let _ = match (first == last.number, self.verifier.chain.count) {
                (true, _) => write!(line, ", number {first}"),
                (false, 1) => write!(line, ", number {first} to {}", last.number),
                (false, pieces) => write!(line, " in {pieces} chains"),
            };
            let embedded = if last.embedded() { "embedded " } else { "" };
            let _ = match last.closing_line() {
                _ if !self.flaws.is_empty() => Ok(()),
                Some(closing) => write!(line, "; the last: {embedded}{closing}"),
                None => write!(line, "; the last has NO PRICE ({})", last.decision.name()),
            };
        }
        line
    }

    /// What was checked of every report in the file.
    fn checked(&self) -> Vec<String> {
        let (tally, verifier) = (&self.tally, &self.verifier);
        let first = tally.first.unwrap_or(0);
        let mut lines = vec![
            "form: every line is exactly what its samples and signatures give; every price was recomputed, to the bit".to_owned(),
            format!(
                "signatures: {} of collectors and aggregator, all valid; no key is weak (of small order) or in two slots",
                verifier.signatures
            ),
            match (self.verifier.chain.count, first) {
                (1, 1) => "chain: it begins at report 1; no report is missing, repeated or out of order".to_owned(),
                (1, _) => format!("chain: from report {first} on, no report is missing, repeated or out of order; earlier reports are not in this file"),
                (pieces, _) => format!("chain: {pieces} chains, the first from report {first} on; within each, no report is missing, repeated or out of order; missing reports at the end of a chain are not detected"),
            },
        ];
        if verifier.chain.skipped > 0 {
            let skipped = counted(verifier.chain.skipped, "report");
            let chains = counted(verifier.chain.count, "chain");
            lines[2] = format!(
                "chain: {chains}; {skipped} between its reports were not published and are not in this file; no published report is missing, repeated or out of order"
            );
        }
        if tally.key_changes > 0 {
            lines.push(format!(
                "keys: {} of the aggregator's key, signed by the old key and the new one",
                counted(tally.key_changes, "change")
            ));
        }
        if let (false, Some(head)) = (self.config.head.is_some(), verifier.head()) {
            lines.push(format!(
                "not checked: whether reports are missing at its end; --head SIGNATURE checks that, if you know the newest signature (here it is {})",
                hex(&head)
            ));
        }
        lines
    }

    /// The result as one line of JSON, for software.
    fn json(&self) -> String {
        let (tally, last) = (&self.tally, self.tally.last.as_ref());
        let verdict = match self.verdict {
            Verdict::Invalid => "invalid",
            Verdict::Stale => "stale",
            Verdict::Empty => "empty",
            Verdict::Trusted | Verdict::SignersUnknown if tally.reports == 0 => "proved",
            Verdict::Trusted => "trusted",
            Verdict::SignersUnknown => "signers-unknown",
        };
        let last = last.filter(|_| self.flaws.is_empty());
        let price = last.and_then(Report::price);
        let time_us = last
            .filter(|_| price.is_some())
            .and_then(|last| last.outcome.timestamp_us);
        let or_null = |value: Option<String>| value.unwrap_or_else(|| "null".to_owned());
        let wrong: Vec<String> = self.flaws.iter().map(|flaw| quoted(flaw)).collect();
        format!(
            "{{\"file\":{},\"verdict\":\"{verdict}\",\"reports\":{},\"bad\":{},\"published\":{},\"skipped\":{},\"signatures\":{},\"number\":{},\"feed\":{},\"embedded\":{},\"price\":{},\"time_us\":{},\"head\":{},\"wrong\":[{}]}}",
            quoted(self.name),
            tally.reports,
            tally.bad,
            tally.published,
            self.verifier.chain.skipped,
            self.verifier.signatures,
            or_null(last.map(|last| last.number.to_string())),
            or_null(last.map(|last| quoted(&last.round.terms.feed))),
            or_null(last.map(|last| last.embedded().to_string())),
            or_null(price.map(price::exact)),
            or_null(time_us.map(|us| us.to_string())),
            or_null(self.verifier.head().map(|head| quoted(&hex(&head)))),
            wrong.join(",")
        )
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
fn too_old(age_us_max: u64, last: Option<&Report>, now_us: u64) -> Option<String> {
    let priced = last.filter(|last| last.price().is_some());
    let Some(time_us) = priced.and_then(|last| last.outcome.timestamp_us) else {
        return Some("its last report has no price, so --max-age is not met".to_owned());
    };
    let age_us = now_us.saturating_sub(time_us);
    if age_us <= age_us_max {
        return None;
    }
    let (age, most) = (seconds(age_us), duration_text(age_us_max));
    let seldom = last.and_then(|last| last.policy.heartbeat_us);
    let hint = seldom
        .filter(|us| *us >= age_us_max)
        .map_or(String::new(), |us| {
            format!(
                "; its aggregator publishes prices that stand still every {} only",
                duration_text(us)
            )
        });
    Some(format!(
        "its last price is {age} old, more than --max-age {most}{hint}"
    ))
}

fn seconds(us: u64) -> String {
    format!("{}.{} s", us / 1_000_000, us / 100_000 % 10)
}

impl Tally {
    fn count(&mut self, check: Check) {
        match check.content {
            Content::Report(report) => {
                self.reports += 1;
                self.published += u64::from(report.decision.publishes());
                self.first.get_or_insert(report.number);
                self.last = Some(*report);
            }
            Content::Proof(proof) if check.flaws.is_empty() => {
                self.proofs += 1;
                self.liar = Some(*proof);
            }
            Content::KeyChange => self.key_changes += 1,
            Content::Proof(_) | Content::Unknown => {}
        }
    }
}

/// The flaws of one line, in a sentence.
fn flawed(number: u64, check: &Check) -> String {
    let which = match &check.content {
        Content::Report(report) => format!(" (report {})", report.number),
        Content::Proof(_) => " (a proof)".to_owned(),
        Content::KeyChange => " (a change of keys)".to_owned(),
        Content::Unknown => String::new(),
    };
    format!("line {number}{which}: {}", check.flaws.join("; "))
}

/// This machine's clock in microseconds since the Unix epoch; 0 if it is set to an earlier date.
fn wall_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64)
}
