//! Verifies reports, single ones or a chain of them, from their lines alone.
//!
//! A line is parsed, its round is replayed (the bookkeeping that the aggregator used judges every sample and signature), and
//! the report is written again. The result must be the same line. So no price, standing or count can differ from what the
//! signed samples give, and a report has only one spelling.
//!
//! Invariant: a line without flaws was verified by signatures and computations alone. Whom to trust comes from the roster,
//! never from the report.

use super::chain::Chain;
use super::{KeyChange, Proof, Report, line};
use crate::limits::FUTURE_US_MAX;
use crate::reason::Reject;
use crate::round::{Part, Round};
use crate::seal::{Keys, PublicKey, hex};
use crate::succession::Succession;
use crate::terms::{Roster, Terms, tag};
use crate::tolerance::counted;
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt::Display;

/// What a line contains.
pub enum Content {
    /// A report.
    Report(Box<Report>),
    /// A proof that a collector lied.
    Proof(Box<Proof>),
    /// A change of the aggregator's key.
    KeyChange,
    /// None of these, or unreadable.
    Unknown,
}

/// After this many flaws of one report, its remaining collectors are not checked.
const FLAWS_MAX: usize = 20;
/// Most differences from the roster that are named; the others are counted.
const DIFFERENCES_MAX: usize = 2;

/// The result of verifying one line.
pub struct Check {
    /// What the line contains.
    pub content: Content,
    /// Its flaws, in the order in which they were found; empty if there are none.
    pub flaws: Vec<String>,
    /// Whether it is a report without flaws, but for its place in the chain: then it may be pooled with others.
    pub stands_alone: bool,
    /// Whether it is a report whose only flaw is that its terms are not those of the roster that counts.
    pub of_another_roster: bool,
}

impl Check {
    /// The result for a line that does not count as a report.
    fn new(content: Content, flaws: Vec<String>) -> Check {
        Check {
            content,
            flaws,
            stands_alone: false,
            of_another_roster: false,
        }
    }

    /// The result for a line that cannot be parsed.
    pub fn unreadable(why: impl Display) -> Check {
        let flaw = format!("it is not a report: {why}");
        Check::new(Content::Unknown, vec![flaw])
    }
}

/// Verifies line after line.
#[derive(Default)]
pub struct Verifier {
    keys: Keys,
    rosters: Option<Succession>,
    /// The chains that the lines so far form.
    pub chain: Chain,
    /// How many Ed25519 signatures were verified.
    pub signatures: u64,
}

impl Verifier {
    /// A verifier that trusts the collectors of a roster, or nobody.
    pub fn new(roster: Option<&Roster>) -> Verifier {
        Verifier::following(roster.map(|it| Succession::new(it.clone(), 0)))
    }

    /// A verifier that trusts the collectors of the roster that counts when a round starts, or nobody.
    pub fn following(rosters: Option<Succession>) -> Verifier {
        Verifier {
            rosters,
            ..Verifier::default()
        }
    }

    /// Whether collectors of the roster signed something in the reports of every aggregator so far, for each of its feeds. Anyone
    /// can make a report that no collector signed; it has no price.
    pub fn vouched_for(&self) -> bool {
        self.rosters.is_some() && self.chain.vouched_for()
    }

    /// Verifies the next line. `now_us` is the current time, microseconds since the Unix epoch: reports of the future are
    /// refused.
    pub fn check(&mut self, text: &str, now_us: u64) -> Check {
        self.check_after(text, now_us, None)
    }

    /// The flaws that a report has by itself, whatever the other lines and the roster say: most of the work, so that several
    /// processes can share it. There are none if the line is no report.
    pub fn alone(&mut self, text: &str) -> Vec<String> {
        let report = Report::read(text, &mut self.keys);
        report.map_or(Vec::new(), |mut report| alone(&mut report, text))
    }

    /// Verifies the next line as [`Verifier::check`] does. If it is a report, `known` are the flaws that [`Verifier::alone`]
    /// found.
    pub fn check_after(&mut self, text: &str, now_us: u64, known: Option<Vec<String>>) -> Check {
        if Proof::is_meant(text) {
            return self.check_proof(text);
        }
        if KeyChange::is_meant(text) {
            return Check::new(Content::KeyChange, self.check_change(text));
        }
        let mut report = match Report::read(text, &mut self.keys) {
            Ok(report) => report,
            Err(flaw) => return Check::unreadable(flaw),
        };
        if let Some(flaw) = self.chain.crowded(&report.round.terms.feed) {
            return Check::new(Content::Unknown, vec![flaw]);
        }
        let mut flaws = known.unwrap_or_else(|| alone(&mut report, text));
        self.signatures += 1 + signatures(&report);
        if report.round.start_us > now_us.saturating_add(FUTURE_US_MAX) {
            let flaw =
                "its round starts in the future: the aggregator's clock or this machine's is wrong";
            flaws.push(flaw.to_owned());
        }
        let is_whole = flaws.is_empty();
        if let Some(rosters) = &self.rosters {
            flaws.extend(against(&report.round, rosters));
        }
        let (stands_alone, others) = (flaws.is_empty(), flaws.len());
        flaws.extend(self.chain.report(&report));
        let (digest, start_us) = (&report.round.digest, report.round.start_us);
        let is_known = |rosters: &Succession| rosters.has(digest, start_us) != Ok(false);
        let of_another_roster = is_whole
            && flaws.len() == others
            && self.rosters.as_ref().is_some_and(|it| !is_known(it));
        Check {
            content: Content::Report(Box::new(report)),
            flaws,
            stands_alone,
            of_another_roster,
        }
    }

    fn check_proof(&mut self, text: &str) -> Check {
        let proof = match Proof::read(text, &mut self.keys) {
            Ok(proof) => proof,
            Err(flaw) => return Check::unreadable(flaw),
        };
        self.signatures += 2;
        let mut flaws = proof.flaws();
        if proof.line() != text {
            flaws.push("it is not in canonical form".to_owned());
        }
        if self.is_in_none(|roster| roster.slot_of(&proof.key).is_some()) {
            flaws.push("its key is not in the roster".to_owned());
        }
        Check::new(Content::Proof(Box::new(proof)), flaws)
    }

    /// The flaws of a change of the aggregator's key. The chain of its feed continues with the new key.
    fn check_change(&mut self, text: &str) -> Vec<String> {
        let change = match KeyChange::read(text, &mut self.keys) {
            Ok(change) => change,
            Err(flaw) => return vec![format!("it is not a change of keys: {flaw}")],
        };
        if let Some(flaw) = self.chain.crowded(&change.feed) {
            return vec![flaw];
        }
        self.signatures += 2;
        let mut flaws = change.flaws();
        if change.line() != text {
            flaws.push("it is not in canonical form".to_owned());
        }
        let feed = &change.feed;
        if self.is_in_none(|roster| roster.feed(feed).is_some()) {
            flaws.push(format!("the roster has no feed {feed}"));
        }
        flaws.extend(self.chain.change(&change, flaws.is_empty()));
        flaws
    }

    /// Whether there are rosters, and none of them is such a one.
    fn is_in_none(&self, is_such: impl Fn(&Roster) -> bool) -> bool {
        let rosters = self.rosters.as_ref();
        rosters.is_some_and(|it| !it.all().any(|(roster, _)| is_such(roster)))
    }

    /// Forgets the previous lines, so that the next ones may begin anywhere in their chains.
    pub fn begin_anew(&mut self) {
        self.chain.feeds.clear();
    }

    /// The feeds of the lines so far, in the order of their names.
    pub fn feeds(&self) -> impl Iterator<Item = &str> {
        self.chain.feeds.keys().map(String::as_str)
    }

    /// The aggregator's key at the end of a feed's chain.
    pub fn aggregator(&self, feed: &str) -> Option<PublicKey> {
        let last = self.chain.feeds.get(feed)?.last.as_ref();
        last.map(|seen| seen.aggregator)
    }

    /// The signature of a feed's last record, which identifies the end of its chain.
    pub fn head(&self, feed: &str) -> Option<[u8; 64]> {
        let last = self.chain.feeds.get(feed)?.last.as_ref();
        last.map(|seen| seen.signature)
    }
}

/// The first differences between a report's terms and those of the roster that counts for its round.
fn against(round: &Round, rosters: &Succession) -> Vec<String> {
    match rosters.has(&round.digest, round.start_us) {
        Ok(true) => return Vec::new(),
        Ok(false) => {}
        Err(flaw) => return vec![flaw],
    }
    let (found, roster) = (&round.terms, rosters.at(round.start_us));
    let only = || Some(&roster.feeds[0]).filter(|_| roster.feeds.len() == 1);
    let Some(trusted) = roster.feed(&found.feed).or_else(only) else {
        return vec![format!("the roster has no feed {}", found.feed)];
    };
    let mut flaws = vec![format!(
        "its terms are another roster's: their digest begins with {}, the roster's with {}",
        hex(&tag(&round.digest)),
        hex(&tag(&trusted.digest()))
    )];
    let number = |us: Option<u64>| us.map_or("none".to_owned(), |us| us.to_string());
    let values = |terms: &Terms| {
        let (schedule, first_us) = (&terms.schedule, terms.schedule.first_start_us);
        let (least, ppm) = (terms.exchanges_min, terms.spread_ppm_max.map(u64::from));
        [
            ("feed", terms.feed.clone()),
            ("rule", terms.rule.to_string()),
            ("sample rule", terms.sample_rule.to_string()),
            ("number of slots", terms.n().to_string()),
            ("minimum number of exchanges", least.to_string()),
            ("greatest age in microseconds", number(terms.age_us_max)),
            ("greatest spread in millionths", number(ppm)),
            ("number of samples", schedule.samples.to_string()),
            ("interval in microseconds", schedule.interval_us.to_string()),
            ("period in microseconds", schedule.period_us.to_string()),
            ("first start in microseconds", first_us.to_string()),
            ("end in microseconds", number(schedule.end_us)),
        ]
    };
    for ((what, found), (_, trusted)) in values(found).iter().zip(values(trusted)) {
        flaws.extend(differ(what, found, &trusted));
    }
    for (slot, (seat, trusted)) in found.seats.iter().zip(&trusted.seats).enumerate() {
        let source = format_args!("source in slot {slot}");
        flaws.extend(differ(source, &seat.source, &trusted.source));
        if seat.key != trusted.key {
            flaws.push(format!("the key in slot {slot} is not the roster's"));
        }
    }
    let more = flaws.len().saturating_sub(1 + DIFFERENCES_MAX);
    flaws.truncate(1 + DIFFERENCES_MAX);
    flaws.extend((more > 0).then(|| format!("and {}", counted(more as u64, "more difference"))));
    flaws
}

/// The flaw of a value that differs from the roster's.
fn differ<T: PartialEq + Display>(what: impl Display, found: T, trusted: T) -> Option<String> {
    let differs = || format!("its {what} is {found}, the roster's {trusted}");
    (found != trusted).then(differs)
}

/// How many signed observations a report contains.
fn signatures(report: &Report) -> u64 {
    let parts = report.round.parts.iter();
    let answers = |part: &Part| part.observation.iter().count() + part.equivocated.iter().count();
    parts.map(answers).sum::<usize>() as u64
}

/// The flaws of a report by itself.
fn alone(report: &mut Report, text: &str) -> Vec<String> {
    let terms = &report.round.terms;
    let mut flaws: Vec<String> = terms.check().err().into_iter().collect();
    if !terms.schedule.is_start(report.round.start_us) {
        flaws.push("its terms have no round that starts then".to_owned());
    }
    let key = report.aggregator;
    if !key.signed(&report.signed_bytes(), &report.signature) {
        flaws.push("the aggregator's signature is invalid".to_owned());
    }
    if report.number == 0 {
        flaws.push("reports are numbered from 1".to_owned());
    }
    let before = 1..report.number;
    if report
        .last
        .is_some_and(|last| !before.contains(&last.number))
    {
        let flaw = "the last published report that it names does not have a smaller number";
        flaws.push(flaw.to_owned());
    }
    flaws.extend(played_again(&mut report.round));
    flaws.extend(written_again(report, text));
    flaws
}

/// Replays the round and restores it afterwards. What the aggregator would have refused is a flaw.
fn played_again(again: &mut Round) -> Vec<String> {
    let nothing = vec![Part::default(); again.parts.len()];
    let parts = core::mem::replace(&mut again.parts, nothing);
    let mut flaws = Vec::new();
    for (slot, part) in parts.iter().enumerate() {
        let slot = slot as u16;
        if flaws.len() >= FLAWS_MAX {
            flaws.push(format!("collector {slot} and later ones were not checked"));
            break;
        }
        if part.observation.is_none() && (part.equivocated.is_some() || !part.records.is_empty()) {
            let flaw = "samples or a second answer without an answer";
            flaws.push(format!("collector {slot}: {flaw}"));
        }
        for (index, record) in (0..).zip(&part.records) {
            if let Err(reason) = again.terms.check_record(index, record) {
                flaws.push(format!("collector {slot}, sample {index}: {reason}"));
                break;
            }
        }
        let Some(observation) = part.observation else {
            continue;
        };
        if let Err(reason) = again.take(slot, &part.records, observation) {
            flaws.push(format!("collector {slot}: {reason}"));
        }
        let Some((first, second)) = part.signed_answer().zip(part.equivocated) else {
            continue;
        };
        let reason = match again.is_signed(slot, &second) {
            true if !first.says_the_same_as(&second) => continue,
            true => Reject::Duplicate,
            false => Reject::Signature,
        };
        flaws.push(format!("collector {slot}, second answer: {reason}"));
    }
    again.parts = parts;
    flaws
}

/// Writes the report again, and names the first field that differs.
fn written_again(report: &Report, text: &str) -> Option<String> {
    let again = line::write(report);
    if again == text {
        return None;
    }
    let pairs = again.bytes().zip(text.bytes());
    let same = pairs.take_while(|(a, b)| a == b).count();
    // The last complete key before the difference.
    let before = again.get(..same).unwrap_or_default();
    let key = before.rfind("\":").and_then(|end| {
        let begin = before[..end].rfind('"')?;
        Some(&before[begin + 1..end])
    });
    let key = key.unwrap_or("the beginning");
    Some(format!(
        "it differs from what its own samples and signatures give, at byte {same} (after \"{key}\")"
    ))
}
