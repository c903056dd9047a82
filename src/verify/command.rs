//! `rsoracle verify`: verifies reports from files or standard input, offline, and says what was checked and what was not.
//!
//! Invariant: memory is bounded by the longest line, not by the length of the file. Whom to trust comes only from the roster
//! file; without one, the verdict says that the signers are unknown. No file is changed, and the network is not used.

use crate::error::{
    EXIT_FAILURE, EXIT_NO_PRICE, EXIT_OK, EXIT_STALE, EXIT_UNKNOWN_SIGNERS, EXIT_UNREADABLE, Error,
};
use crate::files;
use crate::lines::{Line, Lines};
use crate::log::{self, printable, quoted};
use crate::processes::{Checked, FILE_BYTES_MIN, Workers, share};
use crate::settings::Settings;
use rsoracle_proof::duration::duration_text;
use rsoracle_proof::limits::TOML_BYTES_MAX;
use rsoracle_proof::price;
use rsoracle_proof::report::{Check, Content, Proof, Report, Verifier};
use rsoracle_proof::roster::Roster;
use rsoracle_proof::seal::hex;
use rsoracle_proof::tolerance::counted;
use rsoracle_proof::utc::utc_text;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, IsTerminal, Write};
use std::time::{SystemTime, UNIX_EPOCH};

/// Most flaws that are shown per file; the others are counted.
const FLAWS_SHOWN: u64 = 20;

/// The verdict on a file, from best to worst.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
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

/// Verifies all files; returns the exit code. Long files are shared with processes of this same program.
pub fn run(config: &Settings) -> Result<u8, Error> {
    if share()? {
        // Such a process has no verdict.
        return Ok(EXIT_FAILURE);
    }
    let roster = config.roster.as_deref().map(read_roster).transpose()?;
    let (mut worst, mut all_read) = (Verdict::Trusted, true);
    for path in &config.files {
        // An unreadable file does not prevent the others from being verified.
        match open(config, roster.as_ref(), path) {
            Ok(verdict) => worst = worst.max(verdict),
            Err(error) => {
                log::say("verify", error);
                all_read = false;
            }
        }
    }
    Ok(match worst {
        Verdict::Invalid => EXIT_FAILURE,
        _ if !all_read => EXIT_UNREADABLE,
        Verdict::Empty => EXIT_NO_PRICE,
        Verdict::Stale => EXIT_STALE,
        Verdict::SignersUnknown => EXIT_UNKNOWN_SIGNERS,
        Verdict::Trusted => EXIT_OK,
    })
}

fn open(config: &Settings, roster: Option<&Roster>, path: &str) -> Result<Verdict, Error> {
    if path == "-" {
        return one(config, roster, "standard input", std::io::stdin().lock(), 0);
    }
    let attempt = format!("cannot read {path}");
    let file = File::open(path).map_err(|error| Error::new(attempt, error))?;
    // 0 for what has no length, such as a pipe.
    let bytes = file.metadata().map_or(0, |metadata| metadata.len());
    let input = BufReader::with_capacity(64 * 1024, file);
    one(config, roster, path, input, bytes)
}

/// This machine's clock in microseconds since the Unix epoch; 0 if it is set to an earlier date.
fn wall_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64)
}

fn read_roster(path: &str) -> Result<Roster, Error> {
    let attempt = format!("cannot use the roster {path}");
    let advice = "--roster takes a file that 'rsoracle run --write-roster FILE' wrote";
    let bytes =
        files::read(path, TOML_BYTES_MAX as u64, &attempt).map_err(|error| error.advise(advice))?;
    let text = files::text(bytes).map_err(|why| Error::new(&attempt, why).advise(advice))?;
    Roster::parse(&text).map_err(|wrong| Error::new(&attempt, wrong).advise(advice))
}

/// What was found in a file.
struct Inspection<'a> {
    config: &'a Settings,
    roster: Option<&'a Roster>,
    name: &'a str,
    verifier: Verifier,
    tally: Tally,
    flaws: Vec<String>,
    verdict: Verdict,
}

/// Verifies a file of this length (0: unknown), and prints the result.
fn one(
    config: &Settings,
    roster: Option<&Roster>,
    name: &str,
    input: impl BufRead,
    bytes: u64,
) -> Result<Verdict, Error> {
    let mut inspection = Inspection {
        config,
        roster,
        name,
        verifier: Verifier::new(roster),
        tally: Tally::default(),
        flaws: Vec::new(),
        verdict: Verdict::Invalid,
    };
    inspection.verifier.chain.published_only = config.published;
    inspection.read(Lines::new(input, name), bytes)?;
    inspection.judge();
    let text = match config.json {
        true => inspection.json(),
        false => inspection.words(),
    };
    Ok(match print("verify", &format!("{text}\n")) {
        true => inspection.verdict,
        // A verdict that could not be written does not count.
        false => Verdict::Invalid,
    })
}

impl Inspection<'_> {
    /// Reads and verifies all lines.
    fn read(&mut self, mut lines: Lines<impl BufRead>, bytes: u64) -> Result<(), Error> {
        let mut workers = Workers::start(bytes);
        let shows = bytes >= FILE_BYTES_MIN && std::io::stderr().is_terminal();
        let mut percent = 0;
        while let Some(line) = lines.next_line()? {
            let line = Line {
                number: line.number,
                text: line.text.map(str::to_owned),
                whole: line.whole,
            };
            for checked in workers.take(line)? {
                self.take(checked);
            }
            let now = (lines.bytes() * 100).checked_div(bytes).unwrap_or(0);
            if shows && now > percent {
                percent = now;
                // The next output overwrites it. It is not worth an error.
                let text = format!("\rverify: {now} % of {}\x1b[K\r", printable(self.name));
                let _ = std::io::stderr().write_all(text.as_bytes());
            }
        }
        for checked in workers.rest()? {
            self.take(checked);
        }
        Ok(())
    }

    /// Takes the next line. `known` are the flaws that its report has by itself, if another process looked for them.
    fn take(&mut self, (line, known): Checked) {
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
        self.tally.count(check);
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
        Err(error) => log::say(role, format!("cannot write to standard output: {error}")),
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
