//! Verifies what one source sends of one feed, and keeps its chain: what is news, what must be asked for again, what is false.
//!
//! Invariant: a report that is news passes every check of the proof crate by itself and against the roster, and starts later than
//! all news before it. Whatever a source says, only its own reports are affected.

use rsoracle_proof::limits::FUTURE_US_MAX;
use rsoracle_proof::report::{Content, KeyChange, Report, Verifier};
use rsoracle_proof::seal::{Keys, PublicKey};
use rsoracle_proof::succession::Succession;
use std::rc::Rc;

/// The last report that was news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) number: u64,
    pub(super) start_us: u64,
    /// The signature that the next report names, and the aggregator's key that signs it.
    pub(super) signature: [u8; 64],
    pub(super) key: PublicKey,
}

impl Seen {
    pub(super) fn of(report: &Report) -> Seen {
        Seen {
            number: report.number,
            start_us: report.round.start_us,
            signature: report.signature,
            key: report.aggregator,
        }
    }

    /// Takes a change of keys that both keys have signed. Returns whether the chain goes on with it.
    pub(super) fn hand_over(&mut self, change: &KeyChange) -> bool {
        let continues = change.previous == self.signature && change.old == self.key;
        if continues {
            (self.signature, self.key) = (change.signature(), change.new);
        }
        continues
    }
}

/// What was made of a line.
pub(super) enum Taken {
    /// A report that is news.
    News(News),
    /// A change of the aggregator's key, by which the chain goes on.
    Change,
    /// A change of keys that is valid, but known already or of another chain.
    Aside,
    /// What should be a change of keys, and is none. It is passed over.
    Odd(String),
    /// A valid report that is no news.
    Old,
    /// A valid report whose round starts in the future: this clock is behind, or the aggregator's is ahead. So do those after it.
    Early(u64),
    /// Nothing can be made of it, or reports before it are missing: the source should be asked again.
    Again(String),
    /// It was asked for again, or that is impossible. It is passed over.
    False(String),
}

/// A report that is news.
pub(super) struct News {
    pub(super) report: Rc<Report>,
    /// Whether it continues the chain.
    pub(super) follows: bool,
    /// The first and the last number of the reports before it that cannot be got here.
    pub(super) missing: Option<(u64, u64)>,
}

/// What is known of one feed of one source.
pub(super) struct Intake {
    verifier: Verifier,
    keys: Keys,
    feed: String,
    asks: Asks,
    /// The number after which the source goes on, or is asked to. None: from its newest report.
    pub(super) position: Option<u64>,
    pub(super) last: Option<Seen>,
    /// The number of a report that was false once.
    false_once: Option<u64>,
    /// The number after which some were missing, and how often they were asked for.
    gap: Option<(u64, u32)>,
}

/// How often a source is asked again.
#[derive(Clone, Copy)]
pub(super) struct Asks {
    /// For reports that are missing.
    pub(super) gap: u32,
    /// Whether once for a report that is wrong.
    pub(super) wrong: bool,
}

impl Intake {
    /// Goes on after the last report that is known already.
    pub(super) fn new(rosters: &Succession, feed: &str, asks: Asks, last: Option<Seen>) -> Intake {
        Intake {
            verifier: Verifier::following(Some(rosters.clone())),
            keys: Keys::default(),
            feed: feed.to_owned(),
            asks,
            position: last.map(|last| last.number),
            last,
            false_once: None,
            gap: None,
        }
    }

    /// Whether the source was asked again for reports that are missing, and has not sent them or others after them yet.
    pub(super) fn asks_again(&self) -> bool {
        self.gap
            .is_some_and(|(before, _)| self.position == Some(before))
    }

    /// Takes a line. `number` is what the source says it has.
    pub(super) fn take(&mut self, number: Option<u64>, line: &[u8], now_us: u64) -> Taken {
        let said =
            number.unwrap_or_else(|| self.position.map_or(1, |before| before.saturating_add(1)));
        let Ok(text) = std::str::from_utf8(line) else {
            return self.wrong(said, "it is not UTF-8".to_owned());
        };
        if text.starts_with("{\"rsoracle_key_change\"") {
            return self.change(text, now_us);
        }
        // Only what the report is by itself: its time and its place in the chain are judged below.
        self.verifier.begin_anew();
        let check = self.verifier.check(text, u64::MAX);
        let Content::Report(report) = check.content else {
            return self.wrong(said, sentence(check.flaws, "it is not a report"));
        };
        if !check.flaws.is_empty() {
            let mut flaws = check.flaws;
            if let Some(last) = self.last.filter(|_| check.of_another_roster) {
                flaws.push(format!(
                    "the last report by this roster was {}; if another one followed it, name that with a further --roster",
                    last.number
                ));
            }
            return self.wrong(said, sentence(flaws, ""));
        }
        if report.round.terms.feed != self.feed {
            let why = format!("it is of {}, not of {}", report.round.terms.feed, self.feed);
            return self.wrong(said, why);
        }
        if number.is_some_and(|number| number != report.number) {
            let why = format!("it is report {}, which is sent as {said}", report.number);
            return self.wrong(said, why);
        }
        if report.round.start_us > now_us.saturating_add(FUTURE_US_MAX) {
            return Taken::Early(report.number);
        }
        self.report(Rc::from(report))
    }

    fn report(&mut self, report: Rc<Report>) -> Taken {
        let number = report.number;
        let gap = self
            .position
            .filter(|before| number > before.saturating_add(1));
        if let Some(before) = gap {
            let asked = self.gap.filter(|(at, _)| *at == before);
            let count = asked.map_or(0, |(_, count)| count);
            if count < self.asks.gap {
                self.gap = Some((before, count + 1));
                return Taken::Again(format!("reports are missing before {number}"));
            }
        }
        self.position = self.position.max(Some(number));
        let start_us = report.round.start_us;
        let last = self.last;
        if last.is_some_and(|last| last.start_us >= start_us) {
            return Taken::Old;
        }
        let before = gap.max(last.map(|last| last.number));
        let missing = before.filter(|before| number > before.saturating_add(1));
        let is_next = |last: Seen| {
            let continues = report.previous == Some(last.signature);
            number == last.number + 1 && continues && report.aggregator == last.key
        };
        let follows = last.is_none_or(is_next);
        self.last = Some(Seen::of(&report));
        Taken::News(News {
            report,
            follows,
            missing: missing.map(|before| (before + 1, number - 1)),
        })
    }

    /// The source is asked again for a report that is wrong, once.
    fn wrong(&mut self, number: u64, why: String) -> Taken {
        let why = format!("report {number}: {why}");
        if self.asks.wrong && self.false_once.replace(number) != Some(number) {
            return Taken::Again(why);
        }
        if self.asks.wrong {
            self.position = self.position.max(Some(number));
        }
        Taken::False(why)
    }

    fn change(&mut self, text: &str, now_us: u64) -> Taken {
        self.verifier.begin_anew();
        let flaws = self.verifier.check(text, now_us).flaws;
        let change = KeyChange::read(text, &mut self.keys);
        match change {
            Ok(change) if flaws.is_empty() && change.feed == self.feed => {
                let goes_on = self
                    .last
                    .as_mut()
                    .is_some_and(|last| last.hand_over(&change));
                if goes_on { Taken::Change } else { Taken::Aside }
            }
            _ => Taken::Odd(sentence(
                flaws,
                "a change of keys that is none of this feed",
            )),
        }
    }
}

fn sentence(flaws: Vec<String>, otherwise: &str) -> String {
    match flaws.is_empty() {
        true => otherwise.to_owned(),
        false => flaws.join("; "),
    }
}

/// Number and feed at the beginning of a report's line, unverified. A change of keys has no number.
pub(super) fn head_of(line: &[u8]) -> Option<(Option<u64>, &str)> {
    let text = std::str::from_utf8(&line[..line.len().min(120)]).ok()?;
    let (number, rest) = match text.strip_prefix("{\"rsoracle_key_change\":2,") {
        Some(rest) => (None, rest),
        None => {
            let rest = text.strip_prefix("{\"rsoracle_report\":2,\"number\":")?;
            let (number, rest) = rest.split_once(',')?;
            (Some(number.parse().ok()?), rest)
        }
    };
    let (feed, _) = rest.strip_prefix("\"feed\":\"")?.split_once('"')?;
    Some((number, feed))
}
