//! Whether the journal has a fresh price of each feed, and what lacks.
//!
//! A collector that does not answer is named, but the feed is ready as long as the others make a price.

use super::journal::Journal;
use super::newest::Newest;
use rsoracle_proof::duration::duration_text;
use rsoracle_proof::round::Standing;
use rsoracle_verify::log::quoted;

/// What `/ready` says.
pub(super) struct Readiness {
    /// Whether every feed has a fresh price.
    pub(super) ready: bool,
    /// A sentence for each feed and each collector that lacks.
    pub(super) lacks: Vec<String>,
}

impl Readiness {
    /// It as JSON, with a newline.
    pub(super) fn json(&self) -> String {
        let lacks: Vec<String> = self.lacks.iter().map(|lack| quoted(lack)).collect();
        let (ready, lacks) = (self.ready, lacks.join(","));
        format!("{{\"ready\":{ready},\"lacks\":[{lacks}]}}\n")
    }
}

/// How things are now.
pub(super) fn readiness(journal: &Journal, now_us: u64) -> Readiness {
    let nothing = match (journal.exists(), journal.level, journal.feeds().len()) {
        (false, _, 0) => "the journal does not exist yet",
        (_, false, _) => "the journal is being read",
        (_, _, 0) => "there is no report in the journal yet",
        _ => "",
    };
    if !nothing.is_empty() {
        return Readiness {
            ready: false,
            lacks: vec![nothing.to_owned()],
        };
    }
    let (mut ready, mut lacks) = (true, Vec::new());
    for (at, feed) in journal.feeds().iter().enumerate() {
        let newest = journal.newest(at);
        if let Some(lack) = lack_of(newest, now_us) {
            ready = false;
            lacks.push(format!("{}: {lack}", feed.name));
        }
        for lack in newest.into_iter().flat_map(collectors) {
            lacks.push(format!("{}: {lack}", feed.name));
        }
    }
    Readiness { ready, lacks }
}

/// Why a feed has no fresh price.
fn lack_of(newest: Option<&Newest>, now_us: u64) -> Option<String> {
    let newest = newest?;
    let Some(report) = &newest.report else {
        return Some("its newest report cannot be read".to_owned());
    };
    if !report.decision.has_price() {
        let word = report.decision.name();
        return Some(format!("the newest report has no price ({word})"));
    }
    // A report that is missing is late once the round after it should be over too.
    let schedule = newest.schedule()?;
    let start_us = schedule.next_start_us(report.round.start_us + 1)?;
    let due_us = start_us + schedule.length_us() + schedule.period_us;
    let since_us = now_us.saturating_sub(report.round.start_us);
    (now_us > due_us).then(|| {
        format!(
            "no report for {}; one is due every {}",
            duration_text(since_us - since_us % 1_000_000),
            duration_text(schedule.period_us)
        )
    })
}

/// What each collector lacks in the newest report.
fn collectors(newest: &Newest) -> Vec<String> {
    let Some(report) = &newest.report else {
        return Vec::new();
    };
    let seats = report
        .round
        .terms
        .seats
        .iter()
        .zip(&report.outcome.standings);
    let lack = |(slot, (seat, standing)): (usize, (&rsoracle_proof::terms::Seat, &Standing))| {
        let what = match standing {
            Standing::Used(_) | Standing::Trimmed(_) => return None,
            Standing::Silent => "silent".to_owned(),
            Standing::Abstained(why) => format!("abstains: {why}"),
            Standing::Equivocated => "gave two different answers".to_owned(),
        };
        Some(format!("collector {slot} ({}): {what}", seat.source))
    };
    seats.enumerate().filter_map(lack).collect()
}
