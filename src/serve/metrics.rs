//! The metrics, in the text format of Prometheus.
//!
//! Invariant: labels are bounded: feeds, slots with their sources, and reasons of this program. What a report says is read by the
//! proof crate; what is counted by reason is counted since this process has followed the journal.

use super::index::Feed;
use super::journal::Journal;
use super::newest::{Newest, Slot};
use super::ready::is_dropped;
use super::site::Site;
use rsoracle_proof::publish::Decision;
use rsoracle_proof::reason::{Abstention, Reject};
use rsoracle_proof::record::Answer;
use rsoracle_proof::report::{Lateness, Report};
use std::fmt::{Display, Write};
use std::rc::Rc;

/// All families, one a line: a name, and what it means. What ends in `_total` is a counter, everything else a gauge.
const FAMILIES: &str = "\
rsoracle_build_info Version of this program, as a label.
rsoracle_serve_start_timestamp_seconds When this process began.
rsoracle_serve_level Whether the journal is indexed: 1 if so.
rsoracle_journal_readable Whether the journal was there at the last look, and could be read: 1 if so.
rsoracle_journal_writer Whether a process on this machine has the lock of the journal, as its aggregator has: 1 if so.
rsoracle_journal_modified_timestamp_seconds When the journal was changed last, by its file system.
rsoracle_journal_bytes Size of the journal.
rsoracle_journal_indexed_bytes How much of the journal is indexed.
rsoracle_journal_odd_lines Lines of the journal that are left out.
rsoracle_serve_answers_total Answers, by status.
rsoracle_serve_refused_connections_total Connections that were refused, by reason.
rsoracle_serve_ended_streams_total Streams that were ended here, by reason.
rsoracle_serve_connections Open connections, streams among them.
rsoracle_serve_streams Open streams, by form.
rsoracle_rounds_total Reports in the journal, by decision.
rsoracle_decision The decision of the newest report: 1 for this one, 0 for the others.
rsoracle_report_number Number of the newest report.
rsoracle_report_seen_timestamp_seconds When the newest report was found here; if it was there at the start, when the journal was changed last.
rsoracle_report_delay_seconds From the last instant of the newest round, by the clocks of its oracle, to its report being found, by the clock here.
rsoracle_round_start_timestamp_seconds When the round of the newest report started.
rsoracle_period_seconds From one round's start to the next.
rsoracle_price Price of the newest report, if it shows one.
rsoracle_price_timestamp_seconds Oldest observation of the newest published price.
rsoracle_price_spread Highest minus lowest price used, in the newest report.
rsoracle_price_spread_ratio Highest minus lowest price used over the price, in the newest report, even if that is withheld.
rsoracle_price_age_seconds Age that a quorum vouches for, in the newest report.
rsoracle_prices Collectors that gave a price, in the newest report.
rsoracle_quorum Prices that a round needs.
rsoracle_collectors Collectors of the feed.
rsoracle_embedded Whether prices are recorded ones: 1 if so.
rsoracle_lateness_seconds How late samples were taken in the newest report.
rsoracle_refused_total Frames and peers that the aggregator refused, by reason.
rsoracle_abstentions_total Abstentions of collectors, by reason.
rsoracle_equivocations_total Different answers of one collector for one round.
rsoracle_collector_answer_timestamp_seconds Timestamp of a collector's last answer.
rsoracle_collector_rounds_without_answer Rounds in a row, up to the newest, in which a collector signed nothing.
rsoracle_collector_rounds_without_price Rounds in a row, up to the newest, in which a collector was silent or abstained.
rsoracle_collector_price A collector's price in the newest report.
rsoracle_collector_deviation_ratio A collector's price over the price, minus 1.
rsoracle_collector_age_seconds Greatest age of a collector's samples in the newest report.
rsoracle_collector_lateness_seconds Greatest lateness of a collector's samples.
";

/// A text of metrics.
struct Page {
    text: String,
    /// The family that the next value belongs to.
    family: &'static str,
}

/// Names and values of labels.
type Labels<'a> = &'a [(&'a str, &'a dyn Display)];

impl Page {
    fn new(bytes: usize) -> Page {
        Page {
            text: String::with_capacity(bytes),
            family: "",
        }
    }

    /// Begins a family.
    fn begin(&mut self, name: &'static str) {
        let told = FAMILIES
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let help = told.expect("every family is in the table");
        let kind = match name.ends_with("_total") {
            true => "counter",
            false => "gauge",
        };
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        self.family = name;
    }

    /// Adds a value to the family.
    fn value(&mut self, labels: Labels, value: f64) {
        self.text.push_str(self.family);
        for (at, (label, text)) in labels.iter().enumerate() {
            let escaped = text.to_string().replace('\\', "\\\\").replace('"', "\\\"");
            let begin = if at == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{begin}{label}=\"{escaped}\"");
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{end} {value}");
    }

    /// A family with one value.
    fn one(&mut self, name: &'static str, labels: Labels, value: f64) {
        self.begin(name);
        self.value(labels, value);
    }

    /// A family with a value of each feed that has one.
    fn each<'a>(
        &mut self,
        name: &'static str,
        feeds: &[Told<'a>],
        value: impl Fn(&Told<'a>) -> Option<f64>,
    ) {
        self.begin(name);
        for told in feeds {
            if let Some(value) = value(told) {
                self.value(&[("feed", &told.feed.name)], value);
            }
        }
    }

    /// A family with a value of each feed and each of these, which `label` tells apart.
    fn each_by<'a, T: Copy>(
        &mut self,
        name: &'static str,
        feeds: &[Told<'a>],
        (label, all, word): (&str, &[T], impl Fn(&T) -> &'static str),
        value: impl Fn(&Told<'a>, &T) -> Option<f64>,
    ) {
        self.begin(name);
        for told in feeds {
            for one in all {
                if let Some(value) = value(told, one) {
                    self.value(&[("feed", &told.feed.name), (label, &word(one))], value);
                }
            }
        }
    }

    /// A family with a value of each slot of each feed that has one.
    fn by_slot<'a>(
        &mut self,
        name: &'static str,
        feeds: &[Told<'a>],
        value: impl Fn(&Told<'a>, &Report, usize) -> Option<f64>,
    ) {
        self.begin(name);
        for told in feeds {
            let Some(report) = told.report() else {
                continue;
            };
            for (slot, seat) in report.round.terms.seats.iter().enumerate() {
                if let Some(value) = value(told, report, slot) {
                    let labels: [(&str, &dyn Display); 3] = [
                        ("feed", &told.feed.name),
                        ("slot", &slot),
                        ("source", &seat.source),
                    ];
                    self.value(&labels, value);
                }
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

    fn slot(&self, slot: usize) -> Option<&'a Slot> {
        self.newest.slots.get(slot)
    }
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

/// The metrics of this process: a short text.
pub(super) fn of_process(site: &mut Site, now_us: u64) -> String {
    let mut page = Page::new(4 * 1024);
    let has_writer = site.has_writer(now_us);
    journal(&mut page, &site.journal, has_writer);
    own(&mut page, site);
    page.text
}

/// The metrics of the reports: made anew when the journal has changed, and at most once a second.
pub(super) fn shared(site: &mut Site, now_us: u64) -> Rc<[u8]> {
    let (kept, version) = (&mut site.metrics, site.journal.version);
    if kept.is_old(now_us) && kept.version != Some(version) {
        kept.keep(of_reports(&site.journal), version, now_us);
    }
    kept.text.clone()
}

/// The metrics of the reports: a text as long as the feeds and their collectors make it. A feed that the roster no longer has
/// is left out: what is known of it does not change any more.
fn of_reports(journal: &Journal) -> String {
    let mut page = Page::new(16 * 1024);
    let told = journal.feeds().iter().enumerate().filter_map(|(at, feed)| {
        let newest = journal.newest(at)?;
        let stays = !is_dropped(newest, journal);
        stays.then_some(Told { feed, newest })
    });
    let feeds: Vec<Told> = told.collect();
    rounds(&mut page, &feeds);
    prices(&mut page, &feeds);
    counted(&mut page, &feeds);
    slots(&mut page, &feeds);
    page.text
}

fn journal(page: &mut Page, journal: &Journal, has_writer: Option<bool>) {
    page.one("rsoracle_serve_level", &[], flag(journal.level));
    let readable = flag(journal.is_readable());
    page.one("rsoracle_journal_readable", &[], readable);
    if let Some(has_writer) = has_writer {
        page.one("rsoracle_journal_writer", &[], flag(has_writer));
    }
    if journal.exists() {
        let name = "rsoracle_journal_modified_timestamp_seconds";
        page.one(name, &[], seconds(journal.modified_us));
    }
    let (size, indexed) = journal.bytes();
    page.one("rsoracle_journal_bytes", &[], size as f64);
    page.one("rsoracle_journal_indexed_bytes", &[], indexed as f64);
    page.one("rsoracle_journal_odd_lines", &[], journal.odd as f64);
}

fn own(page: &mut Page, site: &Site) {
    let commit = option_env!("RSORACLE_COMMIT").filter(|commit| !commit.is_empty());
    let (version, commit) = (env!("CARGO_PKG_VERSION"), commit.unwrap_or("unknown"));
    let labels: Labels = &[("version", &version), ("commit", &commit)];
    page.one("rsoracle_build_info", labels, 1.0);
    let name = "rsoracle_serve_start_timestamp_seconds";
    page.one(name, &[], seconds(site.began_us));
    let counts = &site.counts;
    page.begin("rsoracle_serve_answers_total");
    for (status, count) in &counts.answers {
        page.value(&[("status", status)], *count as f64);
    }
    for (name, by_reason) in [
        ("rsoracle_serve_refused_connections_total", &counts.refused),
        ("rsoracle_serve_ended_streams_total", &counts.ended),
    ] {
        page.begin(name);
        for (reason, count) in by_reason {
            page.value(&[("reason", reason)], *count as f64);
        }
    }
    let [connections, events, sockets] = counts.open;
    page.one("rsoracle_serve_connections", &[], connections as f64);
    page.begin("rsoracle_serve_streams");
    page.value(&[("form", &"events")], events as f64);
    page.value(&[("form", &"websocket")], sockets as f64);
}

/// Which rounds there were, and when.
fn rounds(page: &mut Page, feeds: &[Told]) {
    let decisions = || ("decision", Decision::ALL, |one: &Decision| one.name());
    page.each_by("rsoracle_rounds_total", feeds, decisions(), |told, one| {
        let at = Decision::ALL.iter().position(|other| other == one)?;
        Some(told.feed.decisions[at] as f64)
    });
    page.each_by("rsoracle_decision", feeds, decisions(), |told, one| {
        Some(flag(told.report()?.decision == *one))
    });
    page.each("rsoracle_report_number", feeds, |told| {
        Some(told.report()?.number as f64)
    });
    page.each("rsoracle_report_seen_timestamp_seconds", feeds, |told| {
        Some(seconds(told.newest.seen_us))
    });
    page.each("rsoracle_report_delay_seconds", feeds, |told| {
        Some(told.newest.delay_us? as f64 / 1e6)
    });
    page.each("rsoracle_round_start_timestamp_seconds", feeds, |told| {
        Some(seconds(told.report()?.round.start_us))
    });
    page.each("rsoracle_period_seconds", feeds, |told| {
        Some(seconds(told.newest.schedule()?.period_us))
    });
    page.begin("rsoracle_lateness_seconds");
    for told in feeds {
        let report = told.report();
        let late = report.and_then(|report| Lateness::of(&report.round.parts));
        let Some(late) = late else { continue };
        for (of, us) in [
            ("median", late.median_us),
            ("max", late.max_us),
            ("spread_median", late.spread_median_us),
            ("spread_max", late.spread_max_us),
        ] {
            page.value(&[("feed", &told.feed.name), ("of", &of)], seconds(us));
        }
    }
}

/// What the newest report says of the price.
fn prices(page: &mut Page, feeds: &[Told]) {
    page.each("rsoracle_price", feeds, |told| told.report()?.price());
    page.each("rsoracle_price_timestamp_seconds", feeds, |told| {
        Some(seconds(told.newest.published.as_ref()?.time_us))
    });
    page.each("rsoracle_price_spread", feeds, |told| {
        told.report()?.outcome.spread
    });
    page.each("rsoracle_price_spread_ratio", feeds, |told| {
        let outcome = &told.report()?.outcome;
        Some(outcome.spread? / outcome.price?)
    });
    page.each("rsoracle_price_age_seconds", feeds, |told| {
        told.report()?.age_us().map(seconds)
    });
    page.each("rsoracle_prices", feeds, |told| {
        Some(f64::from(told.report()?.outcome.prices))
    });
    page.each("rsoracle_quorum", feeds, |told| {
        Some(f64::from(told.report()?.round.terms.quorum()))
    });
    page.each("rsoracle_collectors", feeds, |told| {
        Some(f64::from(told.report()?.round.terms.n()))
    });
    page.each("rsoracle_embedded", feeds, |told| {
        Some(flag(told.report()?.embedded()))
    });
}

/// What was counted. Reasons that have not come yet are there too: else nobody would see their first time as an increase.
fn counted(page: &mut Page, feeds: &[Told]) {
    let reasons = ("reason", Reject::ALL, |one: &Reject| one.sentence());
    page.each_by("rsoracle_refused_total", feeds, reasons, |told, one| {
        Some(told.newest.refused.get(one).copied().unwrap_or(0) as f64)
    });
    let reasons = ("reason", Abstention::ALL, |one: &Abstention| one.sentence());
    page.each_by("rsoracle_abstentions_total", feeds, reasons, |told, one| {
        Some(told.newest.abstained.get(one).copied().unwrap_or(0) as f64)
    });
    page.each("rsoracle_equivocations_total", feeds, |told| {
        Some(told.newest.equivocated as f64)
    });
}

/// The metrics of each collector.
fn slots(page: &mut Page, feeds: &[Told]) {
    let name = "rsoracle_collector_answer_timestamp_seconds";
    page.by_slot(name, feeds, |told, _, slot| {
        told.slot(slot)?.answered_us.map(seconds)
    });
    let name = "rsoracle_collector_rounds_without_answer";
    page.by_slot(name, feeds, |told, _, slot| {
        Some(told.slot(slot)?.without_answer as f64)
    });
    let name = "rsoracle_collector_rounds_without_price";
    page.by_slot(name, feeds, |told, _, slot| {
        Some(told.slot(slot)?.without_price as f64)
    });
    let price = |report: &Report, slot: usize| match report.round.parts[slot].observation?.answer {
        Answer::Price(price) => Some(price),
        Answer::Abstain(_) => None,
    };
    page.by_slot("rsoracle_collector_price", feeds, |_, report, slot| {
        price(report, slot)
    });
    let name = "rsoracle_collector_deviation_ratio";
    page.by_slot(name, feeds, |_, report, slot| {
        Some(price(report, slot)? / report.outcome.price? - 1.0)
    });
    page.by_slot(
        "rsoracle_collector_age_seconds",
        feeds,
        |_, report, slot| {
            let records = report.round.parts[slot].records.iter();
            let ages = records.filter_map(|record| record.age_us);
            ages.max().map(seconds)
        },
    );
    let name = "rsoracle_collector_lateness_seconds";
    page.by_slot(name, feeds, |_, report, slot| {
        let records = report.round.parts[slot].records.iter();
        let priced = records.filter(|record| record.price.is_ok());
        let late = priced.filter_map(|record| record.lateness_us);
        late.max().map(seconds)
    });
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
