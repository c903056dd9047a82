//! What is printed of a round: a line of text, or of JSON.
//!
//! Invariant: pure. The price is what all reports of the round give, by the rules for several reports of one round.

use super::rounds::{Told, pool};
use crate::system::span::span;
use rsoracle_proof::limits::FUTURE_US_MAX;
use rsoracle_proof::pool::price_by_terms;
use rsoracle_proof::price;
use rsoracle_proof::report::Report;
use rsoracle_proof::tolerance::counted;
use rsoracle_proof::utc::utc_text;
use rsoracle_verify::log::{printable, quoted};
use rsoracle_verify::pool::differences;

/// A round, and what came out of it.
pub(super) struct Row {
    feed: String,
    start_us: u64,
    /// Price and time.
    pub(super) priced: Option<(f64, u64)>,
    decision: &'static str,
    prices: u16,
    n: u16,
    spread: Option<f64>,
    embedded: bool,
    sources: usize,
    missing: u64,
    differences: Vec<String>,
}

/// The price's age, and whether that is fresh, if there is a limit.
#[derive(Clone, Copy)]
pub(super) struct Age {
    us: Option<u64>,
    pub(super) is_fresh: Option<bool>,
}

impl Age {
    /// The age of a price at `now_us`. No price is not fresh, and neither is one of the future.
    pub(super) fn of(row: &Row, now_us: u64, age_us_max: Option<u64>) -> Age {
        let us = row
            .priced
            .map(|(_, time_us)| now_us.saturating_sub(time_us));
        let ahead_us = row
            .priced
            .map_or(0, |(_, time_us)| time_us.saturating_sub(now_us));
        let is_fresh = |max_us: u64| us.is_some_and(|us| us <= max_us) && ahead_us <= FUTURE_US_MAX;
        Age {
            us,
            is_fresh: age_us_max.map(is_fresh),
        }
    }
}

impl Row {
    /// Pools the reports of a round. `names` are those of all sources.
    pub(super) fn of(told: &Told, names: &[&str]) -> Row {
        let pool = pool(&told.reports);
        let stands = pool.stands.map_or(&pool.report, |at| &told.reports[at].1);
        let (files, reports): (Vec<usize>, Vec<&Report>) = told
            .reports
            .iter()
            .map(|(source, report)| (*source, &**report))
            .unzip();
        let prices: Vec<Option<f64>> = reports.iter().map(|one| price_by_terms(one)).collect();
        let terms = &pool.report.round.terms;
        Row {
            feed: terms.feed.clone(),
            start_us: told.start_us,
            priced: stands.price().zip(stands.outcome.timestamp_us),
            decision: stands.decision.name(),
            prices: stands.outcome.prices,
            n: terms.n(),
            spread: stands.outcome.spread,
            embedded: stands.embedded(),
            sources: told.sources,
            missing: told.missing,
            differences: differences(names, &files, &prices, &pool),
        }
    }

    /// A line for people.
    pub(super) fn text(&self, age: Age, sources: usize) -> String {
        let price = match self.priced {
            Some((value, _)) => price::text(value),
            None => format!("NO PRICE ({})", self.decision),
        };
        let mut line = format!(
            "{} {} {price}  {} of {} prices",
            utc_text(self.start_us),
            self.feed,
            self.prices,
            self.n
        );
        if sources > 1 {
            line.push_str(&format!(", {} of {sources} sources", self.sources));
        }
        if self.embedded {
            line.push_str(", recorded prices");
        }
        if let (Some(false), Some(us)) = (age.is_fresh, age.us) {
            line.push_str(&format!(", STALE: {} old", span(us)));
        }
        if self.missing > 0 {
            let rounds = counted(self.missing, "round");
            let have = if self.missing == 1 { "has" } else { "have" };
            line.push_str(&format!(", {rounds} before it {have} no report"));
        }
        for difference in &self.differences {
            line.push_str(&format!("; {difference}"));
        }
        printable(&line)
    }

    /// A line of JSON.
    pub(super) fn json(&self, age: Age, sources: usize) -> String {
        let null = || "null".to_owned();
        let or_null = |us: Option<u64>| us.map_or_else(null, |us| us.to_string());
        let differences: Vec<String> = self.differences.iter().map(|one| quoted(one)).collect();
        format!(
            "{{\"feed\":{},\"round_start_us\":{},\"price\":{},\"time_us\":{},\"decision\":\"{}\",\"spread\":{},\"prices\":{},\"n\":{},\"embedded\":{},\"sources\":{},\"sources_followed\":{sources},\"age_us\":{},\"fresh\":{},\"rounds_missing\":{},\"differences\":[{}]}}",
            quoted(&self.feed),
            self.start_us,
            self.priced
                .map_or_else(null, |(value, _)| price::exact(value)),
            or_null(self.priced.map(|(_, us)| us)),
            self.decision,
            self.spread.map_or_else(null, price::exact),
            self.prices,
            self.n,
            self.embedded,
            self.sources,
            or_null(age.us),
            age.is_fresh.map_or_else(null, |fresh| fresh.to_string()),
            self.missing,
            differences.join(",")
        )
    }
}
