//! One round of a journal as it is shown: a line of the table, what is missing before it, a line of JSON.
//!
//! Invariant: a row is small, whatever the size of the report that it was taken from.

use crate::system::exact::Exact;
use crate::system::span::span;
use nanoserde::SerJson;
use rsoracle_proof::price;
use rsoracle_proof::publish::Decision;
use rsoracle_proof::report::Report;
use rsoracle_proof::round::Standing;
use rsoracle_proof::source::exchange_of;
use rsoracle_proof::utc::utc_text;
use rsoracle_verify::log::quoted;

/// Most slots of one kind that are named in a line of the table.
const SLOTS_NAMED: usize = 8;

/// What is kept in memory of a round.
pub(super) struct Row {
    pub(super) number: u64,
    pub(super) start_us: u64,
    pub(super) price: Option<f64>,
    pub(super) decision: Decision,
    pub(super) embedded: bool,
    /// Number of collectors that gave a price, and of all collectors.
    pub(super) prices: u16,
    pub(super) n: u16,
    /// Slots that gave no price, and why.
    pub(super) missing: Vec<(u16, &'static str)>,
    /// Their exchanges, with the slot where several slots have the same one.
    missing_names: Vec<String>,
    /// Slots that gave a price.
    given: Vec<Given>,
    age_us: Option<u64>,
    /// Number of reports that are missing between the previous line and this one.
    pub(super) lost: u64,
    /// Time from the previous round's start to this one's, if that started earlier.
    pub(super) since_us: Option<u64>,
    /// Whether its line passed all checks, and continues the line before it.
    pub(super) sound: bool,
    /// What is to be said of a round that was pooled from several files.
    pub(super) pooled: Option<Pooled>,
}

/// The files that a round was pooled from.
pub(super) struct Pooled {
    /// How many of the files have a report of it, and how many files there are.
    pub(super) files: [usize; 2],
    /// Whether the report of one file counts, since all answers together make no price.
    pub(super) stands: bool,
    /// How the files differ, if they do.
    pub(super) differences: Vec<String>,
    /// The files in which no report of it was found, until it is known which of them have their reports in order.
    pub(super) without: Vec<usize>,
}

impl Row {
    pub(super) fn new(report: &Report, before: Option<(u64, u64)>, sound: bool) -> Row {
        let why = |standing: &Standing| match standing {
            Standing::Used(_) | Standing::Trimmed(_) => None,
            Standing::Silent => Some("silent"),
            Standing::Abstained(_) => Some("abstained"),
            Standing::Equivocated => Some("equivocated"),
        };
        let given = |(slot, standing): (u16, &Standing)| {
            let (Standing::Used(price) | Standing::Trimmed(price)) = standing else {
                return None;
            };
            Some(Given {
                slot,
                source: report.round.terms.seats[usize::from(slot)].source.clone(),
                price: Exact(*price),
                age_us: report.round.parts[usize::from(slot)].age_us(),
            })
        };
        let exchange = |slot: u16| exchange_of(&report.round.terms.seats[usize::from(slot)].source);
        let name = |slot: u16| {
            let others =
                (0..report.round.terms.n()).filter(|other| exchange(*other) == exchange(slot));
            match others.count() {
                1 => exchange(slot).to_owned(),
                _ => format!("{} {slot}", exchange(slot)),
            }
        };
        let standings = (0..).zip(&report.outcome.standings);
        let missing = standings
            .clone()
            .filter_map(|(slot, standing)| Some((slot, why(standing)?)));
        let missing: Vec<(u16, &str)> = missing.collect();
        // A report that names no previous one begins a chain: nothing is missing before it.
        let follows = before.filter(|_| report.previous.is_some());
        Row {
            number: report.number,
            start_us: report.round.start_us,
            price: report.price(),
            decision: report.decision,
            embedded: report.embedded(),
            prices: report.outcome.prices,
            n: report.round.terms.n(),
            given: standings.filter_map(given).collect(),
            age_us: report.age_us(),
            missing_names: missing.iter().map(|(slot, _)| name(*slot)).collect(),
            missing,
            lost: follows.map_or(0, |(number, _)| report.number.saturating_sub(number + 1)),
            since_us: before.and_then(|(_, start_us)| report.round.start_us.checked_sub(start_us)),
            sound,
            pooled: None,
        }
    }

    /// How the files differ from which it was pooled.
    fn differences(&self) -> &[String] {
        let pooled = self.pooled.as_ref();
        pooled.map_or(&[], |pooled| &pooled.differences)
    }

    /// What was decided. Publishing is up to an aggregator, so of a pooled price it is only said where it comes from.
    fn decided(&self) -> &'static str {
        match &self.pooled {
            Some(pooled) if self.price.is_some() => match pooled.stands {
                true => "stands",
                false => "pooled",
            },
            _ => self.decision.name(),
        }
    }

    /// Whether the round needs attention.
    pub(super) fn stands_out(&self) -> bool {
        self.price.is_none() || !self.sound || !self.differences().is_empty()
    }

    /// Whether it started later than one and a half times `usual_us` after the previous round.
    pub(super) fn late(&self, usual_us: u64) -> bool {
        let three_halves = |us: u64| us.saturating_mul(2) > usual_us.saturating_mul(3);
        self.since_us.is_some_and(three_halves)
    }

    /// What is missing before this round, in words.
    pub(super) fn gap(&self, usual_us: u64) -> Option<String> {
        let after = self
            .since_us
            .map(|us| format!("; {} from start to start", span(us)));
        match self.lost {
            0 => self.since_us.filter(|_| self.late(usual_us)).map(|us| {
                format!(
                    "{} from start to start; usual: {}",
                    span(us),
                    span(usual_us)
                )
            }),
            1 => Some(format!(
                "report {} is missing{}",
                self.number - 1,
                after.unwrap_or_default()
            )),
            lost => Some(format!(
                "reports {} to {} are missing{}",
                self.number - lost,
                self.number - 1,
                after.unwrap_or_default()
            )),
        }
    }

    /// The slots that gave no price, grouped by what they did instead, and how files differ.
    fn missing_text(&self) -> String {
        let mut parts = Vec::new();
        for why in ["silent", "abstained", "equivocated"] {
            let slots = self.missing.iter().zip(&self.missing_names);
            let slots = slots.filter(|((_, what), _)| *what == why);
            let slots: Vec<&str> = slots.map(|(_, name)| name.as_str()).collect();
            if slots.is_empty() {
                continue;
            }
            let named = &slots[..slots.len().min(SLOTS_NAMED)];
            let more = match slots.len() - named.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            parts.push(format!("{why} {}{more}", named.join(", ")));
        }
        if !self.sound {
            parts.push("its line is invalid".to_owned());
        }
        parts.extend_from_slice(self.differences());
        parts.join("; ")
    }

    /// The cells of the table. The start is shown to the second or, if not all are whole seconds, to the millisecond.
    pub(super) fn cells(&self, whole_seconds: bool) -> [String; 6] {
        let digits = if whole_seconds { 19 } else { 23 };
        [
            self.pooled
                .as_ref()
                .map_or(self.number.to_string(), |pooled| {
                    let [some, all] = pooled.files;
                    format!("{some}/{all}")
                }),
            utc_text(self.start_us)[..digits].replace('T', " "),
            self.price
                .map_or("no price".to_owned(), |price| marked(price, self.embedded)),
            self.decided().to_owned(),
            format!("{}/{}", self.prices, self.n),
            self.missing_text(),
        ]
    }

    /// The round as one line of JSON.
    pub(super) fn json(&self, feed: &str, usual_us: u64) -> String {
        let missing = self.missing.iter();
        let told = Told {
            round_start: utc_text(self.start_us),
            round_start_us: self.start_us,
            price: self.price.map(Exact),
            decision: self.decided(),
            age_us: self.age_us,
            embedded: self.embedded,
            prices: self.prices,
            n: self.n,
            given: self.given.clone(),
            missing: missing.map(|&(slot, why)| Missing { slot, why }).collect(),
            gap: self.gap(usual_us).is_some(),
        };
        let told = told.serialize_json();
        let told = &told[1..told.len() - 1];
        let feed = quoted(feed);
        let Some(pooled) = &self.pooled else {
            let (number, lost, sound) = (self.number, self.lost, self.sound);
            return format!(
                "{{\"feed\":{feed},\"number\":{number},{told},\"reports_missing\":{lost},\"checks\":{sound}}}"
            );
        };
        let [files, _] = pooled.files;
        let differences: Vec<String> = pooled.differences.iter().map(|it| quoted(it)).collect();
        let differences = differences.join(",");
        format!("{{\"feed\":{feed},\"files\":{files},{told},\"differences\":[{differences}]}}")
    }
}

/// What the JSON forms of a round have in common, with its fields in this order.
#[derive(SerJson)]
#[nserde(serialize_none_as_null)]
struct Told {
    round_start: String,
    round_start_us: u64,
    price: Option<Exact>,
    decision: &'static str,
    age_us: Option<u64>,
    embedded: bool,
    prices: u16,
    n: u16,
    given: Vec<Given>,
    missing: Vec<Missing>,
    gap: bool,
}

/// A slot that gave no price.
#[derive(SerJson)]
struct Missing {
    slot: u16,
    why: &'static str,
}

/// A price for people, with the mark of recorded prices.
pub(super) fn marked(value: f64, embedded: bool) -> String {
    let mark = if embedded { "embedded " } else { "" };
    format!("{mark}{}", price::text(value))
}

/// A slot that gave a price.
#[derive(Clone, SerJson)]
#[nserde(serialize_none_as_null)]
struct Given {
    slot: u16,
    source: String,
    price: Exact,
    /// The age of its oldest sample, if its exchange gave the time of each.
    age_us: Option<u64>,
}
