//! Reads several journals in step, and pools the reports of each round.
//!
//! Invariant: a round is pooled only if all files were read from before it, so that no report of it is missed. In memory are the
//! reports of one round, and one report more of each file.

use super::journal::{Entry, Journal, Tail};
use super::page::Source;
use super::row::Pooled;
use super::{Found, HistorySettings};
use crate::system::file;
use rsoracle_proof::limits::FEEDS_MAX;
use rsoracle_proof::pool::{Pool, price_by_terms};
use rsoracle_proof::report::Report;
use rsoracle_verify::error::Error;
use rsoracle_verify::pool::differences;

/// Most files that are named in a line.
const FILES_NAMED: usize = 8;

/// A file, and where it was read to.
struct Step {
    tail: Tail,
    /// The report that was read last, unless it has been taken.
    next: Option<Box<Report>>,
    /// How many reports cannot be compared, since they are not in the order of their starts, or are there twice.
    disordered: u64,
}

impl Step {
    fn start_us(&self) -> Option<u64> {
        self.next.as_ref().map(|report| report.round.start_us)
    }

    /// Reads to the next report that can be pooled and starts no earlier than `start_us`, or to the end.
    fn advance(&mut self, config: &HistorySettings, start_us: u64) -> Result<(), Error> {
        while let Some(entry) = self.tail.next()? {
            let Entry::Report(report, _, true) = entry else {
                continue;
            };
            if !config.shows(&report.round.terms.feed) {
                continue;
            }
            if report.round.start_us >= start_us {
                self.next = Some(report);
                return Ok(());
            }
            self.disordered += 1;
        }
        Ok(())
    }

    /// Takes the reports of the round that starts then, of each terms the first, and no more than a roster has feeds.
    fn take(&mut self, config: &HistorySettings, start_us: u64) -> Result<Vec<Report>, Error> {
        let mut reports: Vec<Report> = Vec::new();
        while self.start_us() == Some(start_us) {
            let report = self.next.take().expect("it was just there");
            let digest = report.round.digest;
            let is_new = reports.iter().all(|other| other.round.digest != digest);
            if is_new && reports.len() < FEEDS_MAX {
                reports.push(*report);
            } else {
                self.disordered += 1;
            }
            self.advance(config, start_us)?;
        }
        Ok(reports)
    }
}

/// Reads the rounds to show.
pub(super) fn read(config: &HistorySettings, paths: &[String]) -> Result<Found, Error> {
    let journals = paths.iter().map(|path| Journal::open(path));
    let journals = journals.collect::<Result<Vec<Journal>, Error>>()?;
    let newest: Vec<String> = journals.iter().flat_map(Journal::newest).collect();
    let mut stretch = match journals.iter().all(Journal::seekable) {
        true => file::TAIL_BYTES,
        // What cannot be read twice is read from its beginning, and so are the others.
        false => u64::MAX,
    };
    loop {
        let found = read_ends(config, &journals, stretch)?;
        if found.source.whole || found.suffices(config, &newest) {
            return Ok(found);
        }
        stretch = stretch.saturating_mul(file::TAIL_LONGER);
    }
}

/// Reads the last bytes of all journals in step.
fn read_ends(config: &HistorySettings, journals: &[Journal], stretch: u64) -> Result<Found, Error> {
    let mut steps = Vec::new();
    for journal in journals {
        let mut step = Step {
            tail: journal.tail(stretch)?,
            next: None,
            disordered: 0,
        };
        step.advance(config, 0)?;
        steps.push(step);
    }
    let cut = steps.iter().filter(|step| !step.tail.whole);
    // What was read of a file may begin within this round.
    let cut_us = cut.filter_map(Step::start_us).max();
    let mut found = Found::new(Source {
        files: journals.len(),
        whole: steps.iter().all(|step| step.tail.whole),
    });
    let names: Vec<&str> = journals.iter().map(|it| it.name.as_str()).collect();
    let mut lies = 0;
    while let Some(start_us) = steps.iter().filter_map(Step::start_us).min() {
        let mut reports = Vec::new();
        for (at, step) in steps.iter_mut().enumerate() {
            let taken = step.take(config, start_us)?.into_iter();
            reports.extend(taken.map(|report| (at, report)));
        }
        if cut_us.is_none_or(|cut_us| start_us > cut_us) {
            lies += pool(config, &mut found, &names, &reports);
        }
    }
    let is_disordered = |file: &usize| steps[*file].disordered > 0;
    for pooled in found.pages.iter_mut().flat_map(|(_, page)| page.pooled()) {
        let without = std::mem::take(&mut pooled.without).into_iter();
        let (unknown, without): (Vec<usize>, _) = without.partition(is_disordered);
        let told = [
            told(&names, &without, "have no report of it"),
            told(&names, &unknown, "were not compared"),
        ];
        pooled.differences.extend(told.into_iter().flatten());
    }
    for (path, step) in config.files.iter().zip(&steps) {
        found.bad |= step.tail.bad > 0 || step.disordered > 0;
        let remarks = step.tail.remarks(path).into_iter();
        let remarks = remarks.map(|remark| format!("{path}: {remark}"));
        found.remarks.extend(remarks);
        if step.disordered > 0 {
            let count = step.disordered;
            let remark = "reports that are there twice or not in order, and are not pooled";
            found.remarks.push(format!("{path}: {remark}: {count}"));
        }
    }
    if lies > 0 {
        found.bad = true;
        let files = config.files.join(" ");
        found.remarks.push(format!("rounds in which a collector gave different answers: {lies}; 'rsoracle verify {files}' proves it"));
    }
    Ok(found)
}

/// Pools the reports of one start, each with the number of its file. Returns how many of the rounds show a lie.
fn pool(
    config: &HistorySettings,
    found: &mut Found,
    names: &[&str],
    reports: &[(usize, Report)],
) -> u64 {
    let mut lies = 0;
    let mut done: Vec<[u8; 32]> = Vec::new();
    for (_, first) in reports {
        let digest = first.round.digest;
        if done.contains(&digest) {
            continue;
        }
        done.push(digest);
        let same = reports.iter().filter(|(_, it)| it.round.digest == digest);
        let (files, same): (Vec<usize>, Vec<&Report>) =
            same.map(|(file, report)| (*file, report)).unzip();
        let pool = Pool::of(&same);
        let prices: Vec<Option<f64>> = same.iter().map(|one| price_by_terms(one)).collect();
        let mut differ = differences(names, &files, &prices, &pool);
        let feed = &first.round.terms.feed;
        let has_feed = |file: usize| {
            let mut theirs = reports.iter().filter(|(at, _)| *at == file);
            theirs.any(|(_, report)| report.round.terms.feed == *feed)
        };
        let others = (0..names.len()).filter(|file| !files.contains(file));
        let (other_terms, without): (Vec<usize>, Vec<usize>) = others.partition(|it| has_feed(*it));
        differ.extend(told(names, &other_terms, "have a report of other terms"));
        lies += u64::from(!pool.lies.is_empty());
        let pooled = Pooled {
            files: [files.len(), names.len()],
            stands: pool.stands.is_some(),
            differences: differ,
            without,
        };
        let counts = pool.stands.map_or(&pool.report, |at| same[at]);
        if let Some(page) = found.page(config, feed) {
            page.add_pooled(counts, pooled);
        }
    }
    lies
}

/// What some of the files have in common, in words.
fn told(names: &[&str], files: &[usize], what: &str) -> Option<String> {
    let shown = files.iter().take(FILES_NAMED).map(|file| names[*file]);
    let shown = shown.collect::<Vec<_>>().join(", ");
    match files.len() {
        0 => None,
        1 => {
            let what = what.replacen("have", "has", 1).replacen("were", "was", 1);
            Some(format!("{shown} {what}"))
        }
        count if count > FILES_NAMED => {
            let more = count - FILES_NAMED;
            Some(format!("{shown} and {more} more {what}"))
        }
        _ => Some(format!("{shown} {what}")),
    }
}
