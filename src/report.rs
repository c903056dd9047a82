//! The outcome of one round in words and as JSON.
//!
//! Invariant: both say the same; neither holds a price that the rule did not make. Text is for people, software reads
//! the JSON, whose numbers are exact (floats as their shortest exact text, times in microseconds below 2^53).
//! What this module does not do: write.

use crate::aggregate::Rule;
use crate::clock::utc_text;
use crate::frame::Answer;
use crate::price;
use crate::reason::Reject;
use crate::round::{Outcome, Part, Round, Standing};
use crate::seal::hex;
use nanoserde::SerJson;
use std::collections::BTreeMap;

/// Refusals, counted by reason.
pub type Refused = BTreeMap<Reject, u32>;

/// One round and what it came to.
pub struct Report<'a> {
    /// The round.
    pub round: &'a Round,
    /// What it came to.
    pub outcome: &'a Outcome,
    /// What was refused meanwhile.
    pub refused: &'a Refused,
    /// What became of each slot's collector, where there is something to tell.
    pub remarks: Vec<String>,
    /// Whether the prices are recorded ones.
    pub embedded: bool,
    /// Whether the round began at all.
    pub began: bool,
}

#[derive(SerJson)]
#[nserde(serialize_none_as_null)]
struct ReportJson {
    feed: String,
    price: Option<f64>,
    time: Option<String>,
    time_us: Option<u64>,
    age_known: bool,
    embedded: bool,
    spread: Option<f64>,
    rule: String,
    n: u16,
    f: u16,
    quorum: u16,
    prices: u16,
    signatures_verified: u16,
    faulty_collectors_tolerated: u16,
    exchanges: u16,
    faulty_exchanges_tolerated: u16,
    round_start_us: Option<u64>,
    samples: u32,
    interval_us: u64,
    lateness_us: Option<LatenessJson>,
    session: String,
    aggregator_key: String,
    terms_digest: String,
    collectors: Vec<CollectorJson>,
    refused: Vec<RefusedJson>,
}

#[derive(SerJson)]
#[nserde(serialize_none_as_null)]
struct LatenessJson {
    median: u64,
    max: u64,
    spread_median: u64,
    spread_max: u64,
}

#[derive(SerJson)]
#[nserde(serialize_none_as_null)]
struct CollectorJson {
    slot: u16,
    source: String,
    key: Option<String>,
    standing: String,
    price: Option<f64>,
    timestamp_us: Option<u64>,
    signature: Option<String>,
    remark: Option<String>,
    samples: Vec<SampleJson>,
}

#[derive(SerJson)]
#[nserde(serialize_none_as_null)]
struct SampleJson {
    price: Option<f64>,
    missing: Option<String>,
    lateness_us: Option<u64>,
    age_us: Option<u64>,
}

#[derive(SerJson)]
#[nserde(serialize_none_as_null)]
struct RefusedJson {
    code: u16,
    reason: String,
    count: u32,
}

/// How late samples were asked for, and how far apart the collectors asked for the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lateness {
    /// Median over all samples of all collectors, in microseconds.
    pub median_us: u64,
    /// The latest.
    pub max_us: u64,
    /// Latest minus earliest collector of one sample: median over the samples.
    pub spread_median_us: u64,
    /// The same: the worst sample.
    pub spread_max_us: u64,
}

impl Lateness {
    /// Taken from the samples of a round; `None` if nobody asked for any.
    pub fn of(parts: &[Part]) -> Option<Lateness> {
        let mut all: Vec<u64> = Vec::new();
        let mut extremes: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for record in parts.iter().flat_map(|part| &part.records) {
            // What was asked for too late to count says nothing about those that count.
            let (Ok(_), Some(us)) = (record.price, record.lateness_us) else {
                continue;
            };
            all.push(us);
            let (low, high) = extremes.entry(record.index).or_insert((us, us));
            (*low, *high) = ((*low).min(us), (*high).max(us));
        }
        let mut spreads: Vec<u64> = extremes.values().map(|(low, high)| high - low).collect();
        all.sort_unstable();
        spreads.sort_unstable();
        Some(Lateness {
            median_us: *all.get(all.len() / 2)?,
            max_us: *all.last()?,
            spread_median_us: spreads[spreads.len() / 2],
            spread_max_us: *spreads.last()?,
        })
    }
}

impl Report<'_> {
    /// The one line that is the result; `None` without a price.
    pub fn closing_line(&self) -> Option<String> {
        let terms = &self.round.terms;
        let (price, time_us) = self.outcome.price.zip(self.outcome.timestamp_us)?;
        let exchanges = terms.exchanges();
        let rule = match terms.rule {
            Rule::TrimmedMean => "trimmed mean",
            Rule::Median => "median",
            Rule::Mean => "plain mean",
        };
        let (verified, n, f) = (self.outcome.verified, terms.n(), terms.f);
        Some(format!(
            "{} {}  ({verified} of {n} signatures verified, {rule}, tolerates {} of {n}, {} of {}, {})",
            terms.feed,
            price::text(price),
            counted(f, "faulty collector"),
            counted(exchanges.tolerated, "faulty exchange"),
            exchanges.of,
            utc_text(time_us)
        ))
    }

    /// What a person wants to know besides the price, in lines of at most `slots_max` slots.
    pub fn details(&self, slots_max: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for (slot, standing) in self.outcome.standings.iter().enumerate().take(slots_max) {
            lines.push(format!(
                "collector {slot}: {}",
                self.slot_text(slot, standing)
            ));
        }
        if self.outcome.standings.len() > slots_max {
            let silent = self
                .outcome
                .standings
                .iter()
                .filter(|standing| **standing == Standing::Silent)
                .count();
            lines.push(format!(
                "… and {} more; {silent} silent in all",
                self.outcome.standings.len() - slots_max
            ));
        }
        if let Some(spread) = self.outcome.spread {
            lines.push(format!("spread of the prices used: {}", short(spread)));
        }
        if let Some(late) = Lateness::of(&self.round.parts) {
            lines.push(format!(
                "start error: median {} µs, worst {} µs; collectors apart: median {} µs, worst {} µs",
                late.median_us, late.max_us, late.spread_median_us, late.spread_max_us
            ));
        }
        lines.extend(self.refused_text());
        lines
    }

    /// What was refused, counted by reason; `None` if nothing was.
    pub fn refused_text(&self) -> Option<String> {
        let counts = self
            .refused
            .iter()
            .map(|(reason, count)| format!("{count} × {reason}"));
        let text = counts.collect::<Vec<_>>().join("; ");
        (!text.is_empty()).then(|| format!("refused: {text}"))
    }

    /// Why there is no price.
    pub fn failure(&self) -> String {
        let terms = &self.round.terms;
        format!(
            "no price: {} of {} collectors gave a price, {} are needed (quorum){}",
            self.outcome.prices,
            terms.n(),
            terms.quorum,
            if terms.exchanges_min > 1 {
                format!(", from at least {} exchanges", terms.exchanges_min)
            } else {
                String::new()
            }
        )
    }

    fn slot_text(&self, slot: usize, standing: &Standing) -> String {
        let records = &self.round.parts[slot].records;
        let valid = records.iter().filter(|record| record.price.is_ok()).count();
        let samples = format!("{valid} of {} samples", self.round.terms.samples);
        let text = match standing {
            Standing::Used(price) => format!("used {} ({samples})", price::text(*price)),
            Standing::Trimmed(price) => format!("trimmed {} ({samples})", price::text(*price)),
            Standing::Abstained(why) => format!("abstained: {why} ({samples})"),
            Standing::Equivocated => "excluded: it signed two different answers".to_owned(),
            Standing::Silent => format!("silent ({samples})"),
        };
        match self.remarks.get(slot) {
            Some(remark) if !remark.is_empty() => format!("{text}; {remark}"),
            _ => text,
        }
    }

    /// The report as one line of JSON.
    pub fn json(&self) -> String {
        let (terms, outcome) = (&self.round.terms, self.outcome);
        let exchanges = terms.exchanges();
        let late = Lateness::of(&self.round.parts).map(|late| LatenessJson {
            median: late.median_us,
            max: late.max_us,
            spread_median: late.spread_median_us,
            spread_max: late.spread_max_us,
        });
        let refused = |(reason, count): (&Reject, &u32)| RefusedJson {
            code: reason.code(),
            reason: reason.to_string(),
            count: *count,
        };
        let json = ReportJson {
            feed: terms.feed.clone(),
            price: outcome.price,
            time: outcome.timestamp_us.map(utc_text),
            time_us: outcome.timestamp_us,
            age_known: false,
            embedded: self.embedded,
            spread: outcome.spread,
            rule: terms.rule.name().to_owned(),
            n: terms.n(),
            f: terms.f,
            quorum: terms.quorum,
            prices: outcome.prices,
            signatures_verified: outcome.verified,
            faulty_collectors_tolerated: terms.f,
            exchanges: exchanges.of,
            faulty_exchanges_tolerated: exchanges.tolerated,
            round_start_us: self.began.then_some(self.round.start_us),
            samples: terms.samples,
            interval_us: terms.interval_us,
            lateness_us: late,
            session: hex(&terms.session),
            aggregator_key: hex(terms.aggregator.bytes()),
            terms_digest: hex(&self.round.digest),
            collectors: (0..outcome.standings.len())
                .map(|slot| self.collector_json(slot))
                .collect(),
            refused: self.refused.iter().map(refused).collect(),
        };
        json.serialize_json()
    }

    fn collector_json(&self, slot: usize) -> CollectorJson {
        let (seat, part) = (&self.round.terms.seats[slot], &self.round.parts[slot]);
        let standing = match self.outcome.standings[slot] {
            Standing::Used(_) => "used".to_owned(),
            Standing::Trimmed(_) => "trimmed".to_owned(),
            Standing::Abstained(why) => format!("abstained: {why}"),
            Standing::Equivocated => "equivocated".to_owned(),
            Standing::Silent => "silent".to_owned(),
        };
        let sample = |record: &crate::frame::Record| SampleJson {
            price: record.price.ok(),
            missing: record.price.err().map(|miss| miss.to_string()),
            lateness_us: record.lateness_us,
            age_us: record.age_us,
        };
        let price = part
            .observation
            .and_then(|observation| match observation.answer {
                Answer::Price(price) => Some(price),
                Answer::Abstain(_) => None,
            });
        CollectorJson {
            slot: slot as u16,
            source: seat.source.clone(),
            key: seat.key.map(|key| hex(key.bytes())),
            standing,
            price,
            timestamp_us: part.observation.map(|observation| observation.timestamp_us),
            signature: part
                .observation
                .map(|observation| hex(&observation.signature)),
            remark: self
                .remarks
                .get(slot)
                .filter(|remark| !remark.is_empty())
                .cloned(),
            samples: part.records.iter().map(sample).collect(),
        }
    }
}

/// `1 faulty collector`, `2 faulty collectors`.
fn counted(count: u16, what: &str) -> String {
    if count == 1 {
        format!("1 {what}")
    } else {
        format!("{count} {what}s")
    }
}

/// A difference of prices, to four significant digits.
fn short(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let decimals = (3 - value.log10().floor() as i32).clamp(0, 18) as usize;
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Record;
    use crate::json;
    use crate::reason::Miss;
    use crate::seal::SecretKey;
    use crate::terms::{Seat, Terms};

    fn round() -> Round {
        let key = |seed: u8| SecretKey::from_seed(&mut [seed; 32]).public();
        let terms = Terms {
            aggregator: key(1),
            session: [2; 32],
            feed: "BTC/USD".into(),
            rule: Rule::TrimmedMean,
            f: 1,
            quorum: 3,
            exchanges_min: 1,
            samples: 2,
            interval_us: 1_000_000,
            seats: (0..5)
                .map(|slot| Seat {
                    key: (slot < 4).then(|| key(slot + 2)),
                    source: "binance:BTCUSDC".into(),
                })
                .collect(),
        };
        let mut round = Round::new(terms, 1_795_343_400_000_000);
        for (slot, part) in round.parts.iter_mut().enumerate() {
            part.records = vec![
                Record {
                    index: 0,
                    price: Ok(87231.42),
                    lateness_us: Some(10 * slot as u64),
                    age_us: None,
                },
                Record {
                    index: 1,
                    price: Err(Miss::NoReply),
                    lateness_us: Some(5),
                    age_us: None,
                },
            ];
        }
        round
    }

    fn outcome(price: Option<f64>) -> Outcome {
        Outcome {
            standings: vec![
                Standing::Used(87231.42),
                Standing::Trimmed(87231.5),
                Standing::Silent,
                Standing::Equivocated,
                Standing::Silent,
            ],
            price,
            timestamp_us: price.map(|_| 1_795_343_409_000_000),
            spread: Some(0.08),
            verified: 5,
            prices: 2,
        }
    }

    #[test]
    fn the_closing_line_reads_as_promised_and_there_is_none_without_a_price() {
        let (round, refused) = (round(), Refused::new());
        let (with, without) = (outcome(Some(87231.42)), outcome(None));
        let report = |outcome| {
            Report {
                round: &round,
                outcome,
                refused: &refused,
                remarks: Vec::new(),
                embedded: false,
                began: true,
            }
            .closing_line()
        };
        let line = "BTC/USD 87231.42  (5 of 5 signatures verified, trimmed mean, tolerates 1 faulty collector of 5, \
                    0 faulty exchanges of 1, 2026-11-22T10:30:09.000Z)";
        assert_eq!(report(&with).as_deref(), Some(line));
        assert_eq!(report(&without), None);
    }

    #[test]
    fn the_json_is_json_and_without_a_price_says_null() {
        let (round, refused) = (round(), Refused::from([(Reject::HelloLate, 3)]));
        for (price, expected) in [
            (Some(87231.42), "\"price\":87231.42,"),
            (None, "\"price\":null,"),
        ] {
            let outcome = outcome(price);
            let remarks = ["".to_owned(), "said \"no\"\n".to_owned()];
            let text = Report {
                round: &round,
                outcome: &outcome,
                refused: &refused,
                remarks: remarks.to_vec(),
                embedded: true,
                began: true,
            }
            .json();
            assert_eq!(json::check(&text), Ok(()), "{text}");
            assert!(
                text.starts_with("{\"feed\":\"BTC/USD\",") && text.contains(expected),
                "{text}"
            );
            assert!(
                text.contains("\"embedded\":true") && text.contains("\"count\":3"),
                "{text}"
            );
        }
    }

    #[test]
    fn lateness_is_summed_up_over_samples_and_collectors() {
        let late = Lateness {
            median_us: 20,
            max_us: 40,
            spread_median_us: 40,
            spread_max_us: 40,
        };
        assert_eq!(Lateness::of(&round().parts), Some(late));
        assert_eq!(Lateness::of(&[Part::default()]), None);
    }

    #[test]
    fn people_read_who_was_used_and_what_was_refused() {
        let (round, refused) = (round(), Refused::from([(Reject::HelloLate, 3)]));
        let outcome = outcome(Some(87231.42));
        let remarks = ["", "", "ended before the round"].map(str::to_owned);
        let report = Report {
            round: &round,
            outcome: &outcome,
            refused: &refused,
            remarks: remarks.to_vec(),
            embedded: false,
            began: true,
        };
        let lines = report.details(20).join("\n");
        assert!(
            lines.contains("collector 2: silent (1 of 2 samples); ended before the round"),
            "{lines}"
        );
        assert!(
            lines.contains("spread of the prices used: 0.08000") && lines.contains("3 × no hello"),
            "{lines}"
        );
        assert!(report.details(2).join("\n").contains("… and 3 more"));
        assert_eq!(
            report.failure(),
            "no price: 2 of 5 collectors gave a price, 3 are needed (quorum)"
        );
    }
}
