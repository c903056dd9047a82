//! A report as one line of JSON, in one form only.
//!
//! Invariant: reading what `write` writes gives the same report, and writing what was read the same line, byte for byte:
//! keys in one order, no blanks, floats as their shortest exact text, times in whole microseconds below 2^53 (JavaScript
//! reads all of it exactly), bytes in lower-case hexadecimal. What can be computed from the rest (price, standings, tolerances) stands in
//! the line for its readers; reading passes over it, and whoever verifies holds the line against `write`.
//! What this module does not do: read, or check a signature.

use super::{Lateness, Report};
use crate::record::{Answer, Observation, Record};
use crate::round::Standing;
use crate::seal::hex;
use crate::tolerance::Tolerance;
use crate::utc::utc_text;
use alloc::string::String;
use core::fmt::{self, Display, Write as _};

/// Writes a value, or `null`.
struct OrNull<T>(Option<T>);

impl<T: Display> Display for OrNull<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("null"),
        }
    }
}

/// Writes text that needs no escapes in quotes.
struct Quoted<T>(T);

impl<T: Display> Display for Quoted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

fn quoted<T: Display>(value: Option<T>) -> OrNull<Quoted<T>> {
    OrNull(value.map(Quoted))
}

/// The line, without its end.
pub fn write(report: &Report) -> String {
    let mut line = String::with_capacity(1024);
    let written = write_head(&mut line, report)
        .and_then(|()| write_terms(&mut line, report))
        .and_then(|()| write_slots(&mut line, report))
        .and_then(|()| write_tail(&mut line, report));
    written.expect("a String takes everything");
    line
}

fn write_head(line: &mut String, report: &Report) -> fmt::Result {
    let (outcome, terms) = (&report.outcome, &report.round.terms);
    write!(line, "{{\"rsoracle_report\":1,\"number\":{}", report.number)?;
    write!(line, ",\"feed\":\"{}\"", terms.feed)?;
    write!(line, ",\"price\":{}", OrNull(report.price()))?;
    write!(line, ",\"decision\":\"{}\"", report.decision.name())?;
    write!(
        line,
        ",\"time\":{}",
        quoted(outcome.timestamp_us.map(utc_text))
    )?;
    write!(line, ",\"time_us\":{}", OrNull(outcome.timestamp_us))?;
    write!(line, ",\"age_us\":{}", OrNull(report.age_us()))?;
    write!(line, ",\"embedded\":{}", report.embedded())?;
    write!(line, ",\"spread\":{}", OrNull(outcome.spread))?;
    write!(line, ",\"prices\":{}", outcome.prices)?;
    write!(line, ",\"signatures_verified\":{}", outcome.verified)?;
    write!(line, ",\"faulty_collectors_tolerated\":{}", terms.f)?;
    let Tolerance {
        exchanges, quotes, ..
    } = terms.tolerance();
    write!(line, ",\"exchanges\":{}", exchanges.count())?;
    write!(
        line,
        ",\"faulty_exchanges_tolerated\":{}",
        exchanges.tolerated
    )?;
    write!(line, ",\"quote_currencies\":{}", quotes.count())?;
    write!(
        line,
        ",\"faulty_quote_currencies_tolerated\":{}",
        quotes.tolerated
    )?;
    match Lateness::of(&report.round.parts) {
        Some(late) => write!(
            line,
            ",\"lateness_us\":{{\"median\":{},\"max\":{},\"spread_median\":{},\"spread_max\":{}}}",
            late.median_us, late.max_us, late.spread_median_us, late.spread_max_us
        ),
        None => line.write_str(",\"lateness_us\":null"),
    }
}

fn write_terms(line: &mut String, report: &Report) -> fmt::Result {
    let (terms, policy) = (&report.round.terms, &report.policy);
    write!(line, ",\"round_start_us\":{}", report.round.start_us)?;
    write!(line, ",\"session\":\"{}\"", hex(&terms.session))?;
    write!(line, ",\"rule\":\"{}\"", terms.rule)?;
    write!(line, ",\"sample_rule\":\"{}\"", terms.sample_rule)?;
    write!(
        line,
        ",\"n\":{},\"f\":{},\"quorum\":{}",
        terms.n(),
        terms.f,
        terms.quorum
    )?;
    write!(line, ",\"exchanges_min\":{}", terms.exchanges_min)?;
    write!(line, ",\"samples\":{}", terms.samples)?;
    write!(line, ",\"interval_us\":{}", terms.interval_us)?;
    write!(line, ",\"terms_digest\":\"{}\"", hex(&report.round.digest))?;
    write!(
        line,
        ",\"policy\":{{\"deviation\":{},\"heartbeat_us\":{},\"move_max\":{},\"spread_max\":{}}}",
        OrNull(policy.deviation),
        OrNull(policy.heartbeat_us),
        OrNull(policy.move_max),
        OrNull(policy.spread_max)
    )?;
    match &report.last {
        Some(last) => write!(
            line,
            ",\"last_published\":{{\"number\":{},\"price\":{},\"time_us\":{}}}",
            last.number, last.price, last.time_us
        ),
        None => line.write_str(",\"last_published\":null"),
    }
}

fn write_slots(line: &mut String, report: &Report) -> fmt::Result {
    line.write_str(",\"collectors\":[")?;
    for (slot, part) in report.round.parts.iter().enumerate() {
        let seat = &report.round.terms.seats[slot];
        let standing = match report.outcome.standings[slot] {
            Standing::Used(_) => "used",
            Standing::Trimmed(_) => "trimmed",
            Standing::Abstained(_) => "abstained",
            Standing::Equivocated => "equivocated",
            Standing::Silent => "silent",
        };
        line.write_str(if slot == 0 { "{" } else { ",{" })?;
        write!(line, "\"slot\":{slot},\"source\":\"{}\"", seat.source)?;
        write!(
            line,
            ",\"key\":{}",
            quoted(seat.key.map(|key| hex(key.bytes())))
        )?;
        write!(line, ",\"standing\":\"{standing}\",")?;
        write_observation(line, part.observation.as_ref())?;
        line.write_str(",\"second\":")?;
        match &part.equivocated {
            Some(second) => {
                line.write_char('{')?;
                write_observation(line, Some(second))?;
                line.write_char('}')?;
            }
            None => line.write_str("null")?,
        }
        line.write_str(",\"samples\":[")?;
        for (index, record) in part.records.iter().enumerate() {
            line.write_str(if index == 0 { "{" } else { ",{" })?;
            write_record(line, record)?;
            line.write_char('}')?;
        }
        line.write_str("]}")?;
    }
    line.write_char(']')
}

pub(super) fn write_observation(
    line: &mut String,
    observation: Option<&Observation>,
) -> fmt::Result {
    let (price, abstains) = match observation.map(|observation| observation.answer) {
        Some(Answer::Price(price)) => (Some(price), None),
        Some(Answer::Abstain(why)) => (None, Some(why)),
        None => (None, None),
    };
    let timestamp_us = observation.map(|observation| observation.timestamp_us);
    let signature = observation.map(|observation| hex(&observation.signature));
    write!(
        line,
        "\"price\":{},\"abstains\":{}",
        OrNull(price),
        quoted(abstains)
    )?;
    write!(line, ",\"timestamp_us\":{}", OrNull(timestamp_us))?;
    write!(line, ",\"signature\":{}", quoted(signature))
}

/// What a sample lacks is left out, since there are many.
fn write_record(line: &mut String, record: &Record) -> fmt::Result {
    match record.price {
        Ok(price) => write!(line, "\"price\":{price}")?,
        Err(miss) => write!(line, "\"missing\":\"{miss}\"")?,
    }
    if let Some(us) = record.lateness_us {
        write!(line, ",\"lateness_us\":{us}")?;
    }
    if let Some(us) = record.age_us {
        write!(line, ",\"age_us\":{us}")?;
    }
    Ok(())
}

fn write_tail(line: &mut String, report: &Report) -> fmt::Result {
    line.write_str(",\"refused\":[")?;
    for (index, (reason, count)) in report.refused.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let code = reason.code();
        write!(
            line,
            "{comma}{{\"code\":{code},\"reason\":\"{reason}\",\"count\":{count}}}"
        )?;
    }
    write!(
        line,
        "],\"previous\":{}",
        quoted(report.previous.map(|signature| hex(&signature)))
    )?;
    write!(
        line,
        ",\"aggregator_key\":\"{}\"",
        hex(report.round.terms.aggregator.bytes())
    )?;
    write!(line, ",\"ephemeral\":{}", report.ephemeral)?;
    write!(line, ",\"signature\":\"{}\"}}", hex(&report.signature))
}
