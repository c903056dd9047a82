//! The metrics, in the text format of Prometheus.
//!
//! Invariant: labels are bounded: feeds, slots with their sources, and reasons of this program. What a report says is read by the
//! proof crate; what is counted by reason is counted since this process has followed the journal.

use super::index::Feed;
use super::journal::Journal;
use super::newest::Newest;
use super::scan::DECISIONS;
use super::site::Site;
use rsoracle_proof::record::Answer;
use rsoracle_proof::report::{Lateness, Report};
use std::fmt::{Display, Write};
use std::rc::Rc;

/// A family of metrics: name, kind and what it means.
type Family = (&'static str, &'static str, &'static str);

const BUILD: Family = (
    "rsoracle_build_info",
    "gauge",
    "Version of this program, as a label.",
);
const START: Family = (
    "rsoracle_serve_start_timestamp_seconds",
    "gauge",
    "When this process began.",
);
const READY: Family = (
    "rsoracle_serve_level",
    "gauge",
    "Whether the journal is indexed: 1 if so.",
);
const SIZE: Family = ("rsoracle_journal_bytes", "gauge", "Size of the journal.");
const INDEXED: Family = (
    "rsoracle_journal_indexed_bytes",
    "gauge",
    "How much of the journal is indexed.",
);
const ODD: Family = (
    "rsoracle_journal_odd_lines",
    "gauge",
    "Lines of the journal that are left out.",
);
const ANSWERS: Family = (
    "rsoracle_serve_answers_total",
    "counter",
    "Answers, by status.",
);
const REFUSED_HERE: Family = (
    "rsoracle_serve_refused_connections_total",
    "counter",
    "Connections that were refused, by reason.",
);
const ENDED: Family = (
    "rsoracle_serve_ended_streams_total",
    "counter",
    "Streams that were ended here, by reason.",
);
const OPEN: Family = (
    "rsoracle_serve_connections",
    "gauge",
    "Open connections, streams among them.",
);
const STREAMS: Family = ("rsoracle_serve_streams", "gauge", "Open streams, by form.");

const REPORTS: Family = (
    "rsoracle_rounds_total",
    "counter",
    "Reports in the journal, by decision.",
);
const NUMBER: Family = (
    "rsoracle_report_number",
    "gauge",
    "Number of the newest report.",
);
const ROUND: Family = (
    "rsoracle_round_start_timestamp_seconds",
    "gauge",
    "When the round of the newest report started.",
);
const PERIOD: Family = (
    "rsoracle_period_seconds",
    "gauge",
    "From one round's start to the next.",
);
const PRICE: Family = (
    "rsoracle_price",
    "gauge",
    "Price of the newest report, if it shows one.",
);
const PRICE_AT: Family = (
    "rsoracle_price_timestamp_seconds",
    "gauge",
    "Oldest observation of the newest published price.",
);
const SPREAD: Family = (
    "rsoracle_price_spread",
    "gauge",
    "Highest minus lowest price used, in the newest report.",
);
const AGE: Family = (
    "rsoracle_price_age_seconds",
    "gauge",
    "Age that a quorum vouches for, in the newest report.",
);
const PRICES: Family = (
    "rsoracle_prices",
    "gauge",
    "Collectors that gave a price, in the newest report.",
);
const QUORUM: Family = ("rsoracle_quorum", "gauge", "Prices that a round needs.");
const COLLECTORS: Family = ("rsoracle_collectors", "gauge", "Collectors of the feed.");
const EMBEDDED: Family = (
    "rsoracle_embedded",
    "gauge",
    "Whether prices are recorded ones: 1 if so.",
);
const LATENESS: Family = (
    "rsoracle_lateness_seconds",
    "gauge",
    "How late samples were taken in the newest report.",
);
const REFUSED: Family = (
    "rsoracle_refused_total",
    "counter",
    "Frames and peers that the aggregator refused, by reason.",
);
const ABSTAINED: Family = (
    "rsoracle_abstentions_total",
    "counter",
    "Abstentions of collectors, by reason.",
);
const EQUIVOCATED: Family = (
    "rsoracle_equivocations_total",
    "counter",
    "Different answers of one collector for one round.",
);
const SLOT_AT: Family = (
    "rsoracle_collector_answer_timestamp_seconds",
    "gauge",
    "Timestamp of a collector's last answer.",
);
const SLOT_PRICE: Family = (
    "rsoracle_collector_price",
    "gauge",
    "A collector's price in the newest report.",
);
const SLOT_OFF: Family = (
    "rsoracle_collector_deviation_ratio",
    "gauge",
    "A collector's price over the price, minus 1.",
);
const SLOT_AGE: Family = (
    "rsoracle_collector_age_seconds",
    "gauge",
    "Greatest age of a collector's samples in the newest report.",
);
const SLOT_LATE: Family = (
    "rsoracle_collector_lateness_seconds",
    "gauge",
    "Greatest lateness of a collector's samples.",
);

/// A text of metrics.
struct Page(String);

impl Page {
    /// Begins a family.
    fn family(&mut self, (name, kind, help): Family) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// Adds a value; `labels` are names and values.
    fn value(&mut self, (name, ..): Family, labels: &[(&str, &dyn Display)], value: f64) {
        self.0.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let escaped = text.to_string().replace('\\', "\\\\").replace('"', "\\\"");
            let begin = if at == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{begin}{label}=\"{escaped}\"");
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }

    /// A family with one value.
    fn one(&mut self, family: Family, labels: &[(&str, &dyn Display)], value: f64) {
        self.family(family);
        self.value(family, labels, value);
    }

    /// A family with a value of each feed that has one.
    fn each<'a>(
        &mut self,
        family: Family,
        feeds: &[Told<'a>],
        value: impl Fn(&Told<'a>) -> Option<f64>,
    ) {
        self.family(family);
        for told in feeds {
            if let Some(value) = value(told) {
                self.value(family, &[("feed", &told.feed.name)], value);
            }
        }
    }
}

/// A feed and what is known of it.
struct Told<'a> {
    feed: &'a Feed,
    newest: &'a Newest,
}

impl<'a> Told<'a> {
    fn report(&self) -> Option<&'a Report> {
        self.newest.report.as_ref()
    }
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

/// The metrics of this process: a short text.
pub(super) fn of_process(site: &Site) -> String {
    let mut page = Page(String::with_capacity(4 * 1024));
    own(&mut page, site);
    page.0
}

/// The metrics of the reports: made anew when the journal has changed, and at most once a second.
pub(super) fn shared(site: &mut Site, now_us: u64) -> Rc<[u8]> {
    let (kept, version) = (&mut site.metrics, site.journal.version);
    if kept.is_old(now_us) && kept.version != Some(version) {
        kept.keep(of_reports(&site.journal), version, now_us);
    }
    kept.text.clone()
}

/// The metrics of the reports: a text as long as the feeds and their collectors make it.
fn of_reports(journal: &Journal) -> String {
    let mut page = Page(String::with_capacity(16 * 1024));
    let told = journal.feeds().iter().enumerate().filter_map(|(at, feed)| {
        let newest = journal.newest(at)?;
        Some(Told { feed, newest })
    });
    let feeds: Vec<Told> = told.collect();
    rounds(&mut page, &feeds);
    counted(&mut page, &feeds);
    slots(&mut page, &feeds);
    page.0
}

fn own(page: &mut Page, site: &Site) {
    let commit = option_env!("RSORACLE_COMMIT").filter(|commit| !commit.is_empty());
    let (version, commit) = (env!("CARGO_PKG_VERSION"), commit.unwrap_or("unknown"));
    page.one(BUILD, &[("version", &version), ("commit", &commit)], 1.0);
    page.one(START, &[], seconds(site.began_us));
    page.one(READY, &[], f64::from(u8::from(site.journal.level)));
    let (size, indexed) = site.journal.bytes();
    page.one(SIZE, &[], size as f64);
    page.one(INDEXED, &[], indexed as f64);
    page.one(ODD, &[], site.journal.odd as f64);
    let counts = &site.counts;
    page.family(ANSWERS);
    for (status, count) in &counts.answers {
        page.value(ANSWERS, &[("status", status)], *count as f64);
    }
    for (family, by_name) in [(REFUSED_HERE, &counts.refused), (ENDED, &counts.ended)] {
        page.family(family);
        for (name, count) in by_name {
            page.value(family, &[("reason", name)], *count as f64);
        }
    }
    let [connections, events, sockets] = counts.open;
    page.one(OPEN, &[], connections as f64);
    page.family(STREAMS);
    page.value(STREAMS, &[("form", &"events")], events as f64);
    page.value(STREAMS, &[("form", &"websocket")], sockets as f64);
}

fn rounds(page: &mut Page, feeds: &[Told]) {
    page.family(REPORTS);
    for told in feeds {
        for (decision, count) in DECISIONS.iter().zip(told.feed.decisions) {
            let labels: [(&str, &dyn Display); 2] =
                [("feed", &told.feed.name), ("decision", &decision.name())];
            page.value(REPORTS, &labels, count as f64);
        }
    }
    page.each(NUMBER, feeds, |told| Some(told.report()?.number as f64));
    page.each(ROUND, feeds, |told| {
        Some(seconds(told.report()?.round.start_us))
    });
    page.each(PERIOD, feeds, |told| {
        Some(seconds(told.newest.schedule()?.period_us))
    });
    page.each(PRICE, feeds, |told| told.report()?.price());
    page.each(PRICE_AT, feeds, |told| {
        Some(seconds(told.newest.published.as_ref()?.time_us))
    });
    page.each(SPREAD, feeds, |told| told.report()?.outcome.spread);
    page.each(AGE, feeds, |told| told.report()?.age_us().map(seconds));
    page.each(PRICES, feeds, |told| {
        Some(f64::from(told.report()?.outcome.prices))
    });
    page.each(QUORUM, feeds, |told| {
        Some(f64::from(told.report()?.round.terms.quorum()))
    });
    page.each(COLLECTORS, feeds, |told| {
        Some(f64::from(told.report()?.round.terms.n()))
    });
    page.each(EMBEDDED, feeds, |told| {
        Some(f64::from(u8::from(told.report()?.embedded())))
    });
    page.family(LATENESS);
    for told in feeds {
        let late = told
            .report()
            .and_then(|report| Lateness::of(&report.round.parts));
        for (which, us) in late.into_iter().flat_map(|late| {
            [
                ("median", late.median_us),
                ("max", late.max_us),
                ("spread_median", late.spread_median_us),
                ("spread_max", late.spread_max_us),
            ]
        }) {
            page.value(
                LATENESS,
                &[("feed", &told.feed.name), ("of", &which)],
                seconds(us),
            );
        }
    }
}

fn counted(page: &mut Page, feeds: &[Told]) {
    page.family(REFUSED);
    for told in feeds {
        for (reason, count) in &told.newest.refused {
            let labels: [(&str, &dyn Display); 2] = [("feed", &told.feed.name), ("reason", reason)];
            page.value(REFUSED, &labels, *count as f64);
        }
    }
    page.family(ABSTAINED);
    for told in feeds {
        for (reason, count) in &told.newest.abstained {
            let labels: [(&str, &dyn Display); 2] = [("feed", &told.feed.name), ("reason", reason)];
            page.value(ABSTAINED, &labels, *count as f64);
        }
    }
    page.each(EQUIVOCATED, feeds, |told| {
        Some(told.newest.equivocated as f64)
    });
}

/// The metrics of each collector.
fn slots(page: &mut Page, feeds: &[Told]) {
    page.family(SLOT_AT);
    for told in feeds {
        for ((slot, source), us) in &told.newest.answered_us {
            let labels: [(&str, &dyn Display); 3] = [
                ("feed", &told.feed.name),
                ("slot", slot),
                ("source", source),
            ];
            page.value(SLOT_AT, &labels, seconds(*us));
        }
    }
    let price = |report: &Report, slot: usize| match report.round.parts[slot].observation?.answer {
        Answer::Price(price) => Some(price),
        Answer::Abstain(_) => None,
    };
    by_slot(page, SLOT_PRICE, feeds, price);
    by_slot(page, SLOT_OFF, feeds, |report, slot| {
        Some(price(report, slot)? / report.outcome.price? - 1.0)
    });
    by_slot(page, SLOT_AGE, feeds, |report, slot| {
        let records = report.round.parts[slot].records.iter();
        records
            .filter_map(|record| record.age_us)
            .max()
            .map(seconds)
    });
    by_slot(page, SLOT_LATE, feeds, |report, slot| {
        let records = report.round.parts[slot].records.iter();
        let priced = records.filter(|record| record.price.is_ok());
        priced
            .filter_map(|record| record.lateness_us)
            .max()
            .map(seconds)
    });
}

fn by_slot(
    page: &mut Page,
    family: Family,
    feeds: &[Told],
    value: impl Fn(&Report, usize) -> Option<f64>,
) {
    page.family(family);
    for told in feeds {
        let Some(report) = told.report() else {
            continue;
        };
        for (slot, seat) in report.round.terms.seats.iter().enumerate() {
            if let Some(value) = value(report, slot) {
                let labels: [(&str, &dyn Display); 3] = [
                    ("feed", &told.feed.name),
                    ("slot", &slot),
                    ("source", &seat.source),
                ];
                page.value(family, &labels, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scan::lines::line;
    use super::super::site::KEPT_US;
    use super::*;

    #[test]
    fn what_is_made_from_the_whole_journal_is_made_at_most_once_a_second() {
        let name = format!("rsoracle-site-{}.jsonl", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, line(1, 0) + "\n").unwrap();
        let mut site = Site::new(path.to_str().unwrap(), None, false, 0);
        while site.journal.look() {}
        let start_us = 1_700_000_000_000_000;
        let first = shared(&mut site, start_us);
        let ready = site.readiness(start_us).1;
        let grown = [line(1, 0), line(2, 0)].join("\n") + "\n";
        std::fs::write(&path, grown).unwrap();
        site.journal.level = false;
        while site.journal.look() {}
        for us in [0, 1, KEPT_US - 1] {
            assert!(
                Rc::ptr_eq(&shared(&mut site, start_us + us), &first),
                "{us}"
            );
            assert!(Rc::ptr_eq(&site.readiness(start_us + us).1, &ready), "{us}");
        }
        let second = shared(&mut site, start_us + KEPT_US);
        assert!(!Rc::ptr_eq(&second, &first));
        assert!(!Rc::ptr_eq(&site.readiness(start_us + KEPT_US).1, &ready));
        // Nothing has changed since.
        assert!(Rc::ptr_eq(
            &shared(&mut site, start_us + 9 * KEPT_US),
            &second
        ));
        // The clock may have been set back.
        assert!(!Rc::ptr_eq(&site.readiness(start_us - KEPT_US).1, &ready));
        std::fs::remove_file(&path).unwrap();
    }
}
