//! Writes a report as one line of JSON, in its canonical form.
//!
//! Invariant: a report has exactly one line, and a line at most one report. Keys have a fixed order, there is no white
//! space, floats are their shortest exact text ([`price::exact`]), times are whole microseconds below 2^53 (so that
//! JavaScript reads them exactly), and bytes are lower-case hexadecimal. The line also contains what can be computed from
//! the rest (price, standings, tolerances). Reading skips these values, and a verifier compares the line with what [`write`]
//! makes of the report.

use super::{Lateness, Report};
use crate::price;
use crate::record::{Answer, Observation, Record, SignedAnswer};
use crate::round::Standing;
use crate::seal::hex;
use crate::utc::utc_text;
use alloc::string::{String, ToString};

/// Builds a line.
pub(super) struct LineWriter(String);

impl LineWriter {
    /// Starts an empty line, with room for `bytes`.
    pub(super) fn with_capacity(bytes: usize) -> LineWriter {
        LineWriter(String::with_capacity(bytes))
    }

    /// The line's text.
    pub(super) fn done(self) -> String {
        self.0
    }

    /// Appends text unchanged.
    pub(super) fn text(&mut self, text: &str) -> &mut LineWriter {
        self.0.push_str(text);
        self
    }

    /// Opens an object: one in a list, the value of a field, or the line itself.
    fn open(&mut self) -> &mut LineWriter {
        let follows = self.0.ends_with('}');
        self.text(if follows { ",{" } else { "{" })
    }

    /// Appends the name of a field, whose value comes next.
    pub(super) fn key(&mut self, key: &str) -> &mut LineWriter {
        let begins = self.0.ends_with('{');
        let before = if begins { "\"" } else { ",\"" };
        self.text(before).text(key).text("\":")
    }

    /// Appends text that needs no escapes, in quotes.
    pub(super) fn quoted(&mut self, text: &str) -> &mut LineWriter {
        self.text("\"").text(text).text("\"")
    }

    /// Appends `true` or `false`.
    fn truth(&mut self, truth: bool) -> &mut LineWriter {
        self.text(if truth { "true" } else { "false" })
    }

    /// Appends a whole number.
    pub(super) fn number(&mut self, number: impl Into<u64>) -> &mut LineWriter {
        self.text(&number.into().to_string())
    }

    /// Appends a float's shortest exact text, as [`price::exact`] has it.
    pub(super) fn float(&mut self, value: f64) -> &mut LineWriter {
        self.text(&price::exact(value))
    }

    /// Appends bytes in hexadecimal, in quotes.
    pub(super) fn hex(&mut self, bytes: &[u8]) -> &mut LineWriter {
        self.quoted(&hex(bytes))
    }

    /// Appends a value by `write`, or `null` if there is none.
    pub(super) fn or_null<T>(
        &mut self,
        value: Option<T>,
        write: impl FnOnce(&mut LineWriter, T) -> &mut LineWriter,
    ) -> &mut LineWriter {
        match value {
            Some(value) => write(self, value),
            None => self.text("null"),
        }
    }
}

/// The report's line, without the newline.
pub fn write(report: &Report) -> String {
    let parts = &report.round.parts;
    let samples: usize = parts.iter().map(|part| part.records.len()).sum();
    let mut line = LineWriter::with_capacity(2048 + 512 * parts.len() + 64 * samples);
    write_head(&mut line, report);
    write_terms(&mut line, report);
    write_slots(&mut line, report);
    write_tail(&mut line, report);
    line.done()
}

fn write_head(line: &mut LineWriter, report: &Report) {
    let (outcome, terms) = (&report.outcome, &report.round.terms);
    line.open().key("rsoracle_report").number(2u16);
    line.key("number").number(report.number);
    line.key("feed").quoted(&terms.feed);
    line.key("price").or_null(report.price(), LineWriter::float);
    line.key("decision").quoted(report.decision.name());
    line.key("time")
        .or_null(outcome.timestamp_us, |line, us| line.quoted(&utc_text(us)));
    line.key("time_us")
        .or_null(outcome.timestamp_us, LineWriter::number);
    line.key("age_us")
        .or_null(report.age_us(), LineWriter::number);
    line.key("embedded").truth(report.embedded());
    line.key("spread")
        .or_null(outcome.spread, LineWriter::float);
    line.key("prices").number(outcome.prices);
    line.key("signatures_verified").number(outcome.verified);
    line.key("faulty_collectors_tolerated").number(terms.f());
    let tolerance = terms.tolerance();
    let (exchanges, quotes) = (&tolerance.exchanges, &tolerance.quotes);
    line.key("exchanges").number(exchanges.count());
    line.key("faulty_exchanges_tolerated")
        .number(exchanges.tolerated);
    line.key("quote_currencies").number(quotes.count());
    line.key("faulty_quote_currencies_tolerated")
        .number(quotes.tolerated);
    line.key("lateness_us")
        .or_null(Lateness::of(&report.round.parts), |line, late| {
            line.open().key("median").number(late.median_us);
            line.key("max").number(late.max_us);
            line.key("spread_median").number(late.spread_median_us);
            line.key("spread_max").number(late.spread_max_us);
            line.text("}")
        });
}

fn write_terms(line: &mut LineWriter, report: &Report) {
    let (terms, policy) = (&report.round.terms, &report.policy);
    line.key("round_start_us").number(report.round.start_us);
    line.key("rule").quoted(terms.rule.name());
    line.key("sample_rule").quoted(terms.sample_rule.name());
    line.key("n").number(terms.n());
    line.key("f").number(terms.f());
    line.key("quorum").number(terms.quorum());
    line.key("exchanges_min").number(terms.exchanges_min);
    line.key("age_us_max")
        .or_null(terms.age_us_max, LineWriter::number);
    line.key("spread_ppm_max")
        .or_null(terms.spread_ppm_max, LineWriter::number);
    let schedule = &terms.schedule;
    line.key("samples").number(schedule.samples);
    line.key("interval_us").number(schedule.interval_us);
    line.key("period_us").number(schedule.period_us);
    line.key("first_start_us").number(schedule.first_start_us);
    line.key("end_us")
        .or_null(schedule.end_us, LineWriter::number);
    line.key("terms_digest").hex(&report.round.digest);
    line.key("policy")
        .open()
        .key("deviation")
        .or_null(policy.deviation, LineWriter::float);
    line.key("heartbeat_us")
        .or_null(policy.heartbeat_us, LineWriter::number);
    line.key("move_max")
        .or_null(policy.move_max, LineWriter::float);
    line.text("}")
        .key("last_published")
        .or_null(report.last, |line, last| {
            line.open().key("number").number(last.number);
            line.key("price").float(last.price);
            line.key("time_us").number(last.time_us);
            line.text("}")
        });
}

fn write_slots(line: &mut LineWriter, report: &Report) {
    line.key("collectors").text("[");
    for (slot, part) in report.round.parts.iter().enumerate() {
        let seat = &report.round.terms.seats[slot];
        let standing = match report.outcome.standings[slot] {
            Standing::Used(_) => "used",
            Standing::Trimmed(_) => "trimmed",
            Standing::Abstained(_) => "abstained",
            Standing::Equivocated => "equivocated",
            Standing::Silent => "silent",
        };
        line.open().key("slot").number(slot as u64);
        line.key("source").quoted(&seat.source);
        line.key("key")
            .or_null(seat.key, |line, key| line.hex(key.bytes()));
        line.key("standing").quoted(standing);
        write_observation(line, part.observation.as_ref());
        line.key("second");
        line.or_null(part.equivocated, |line, second| write_signed(line, &second));
        line.key("samples").text("[");
        for record in &part.records {
            write_record(line.open(), record);
            line.text("}");
        }
        line.text("]}");
    }
    line.text("]");
}

/// Writes an answer with the digest of its samples, in braces.
pub(super) fn write_signed<'a>(
    line: &'a mut LineWriter,
    signed: &SignedAnswer,
) -> &'a mut LineWriter {
    line.open()
        .key("samples_digest")
        .hex(&signed.samples_digest);
    write_observation(line, Some(&signed.observation));
    line.text("}")
}

fn write_observation(line: &mut LineWriter, observation: Option<&Observation>) {
    let (price, abstains) = match observation.map(|observation| observation.answer) {
        Some(Answer::Price(price)) => (Some(price), None),
        Some(Answer::Abstain(why)) => (None, Some(why)),
        None => (None, None),
    };
    line.key("price").or_null(price, LineWriter::float);
    line.key("abstains")
        .or_null(abstains, |line, why| line.quoted(why.sentence()));
    line.key("timestamp_us")
        .or_null(observation, |line, one| line.number(one.timestamp_us));
    line.key("signature")
        .or_null(observation, |line, one| line.hex(&one.signature));
}

/// Missing values of a sample are left out, since a report has many samples.
fn write_record(line: &mut LineWriter, record: &Record) {
    match record.price {
        Ok(price) => line.key("price").float(price),
        Err(miss) => line.key("missing").quoted(miss.sentence()),
    };
    if let Some(us) = record.lateness_us {
        line.key("lateness_us").number(us);
    }
    if let Some(us) = record.age_us {
        line.key("age_us").number(us);
    }
}

fn write_tail(line: &mut LineWriter, report: &Report) {
    line.key("refused").text("[");
    for (reason, count) in &report.refused {
        line.open().key("code").number(reason.code());
        line.key("reason").quoted(reason.sentence());
        line.key("count").number(*count).text("}");
    }
    line.text("]")
        .key("previous")
        .or_null(report.previous, |line, signature| line.hex(&signature));
    line.key("aggregator_key").hex(report.aggregator.bytes());
    line.key("ephemeral").truth(report.ephemeral);
    line.key("signature").hex(&report.signature);
    line.text("}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_bytes_are_written_in_full() {
        let mut line = LineWriter::with_capacity(0);
        line.number(0u64).text(" ").number(u64::MAX).text(" ");
        line.float(87_231.42).text(" ").hex(&[0, 0x9a, 0xff]);
        line.open().open().key("a").key("b").text("}").open();
        let text = "0 18446744073709551615 87231.42 \"009aff\"{{\"a\":,\"b\":},{";
        assert_eq!(line.done(), text);
    }
}
