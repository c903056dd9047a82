//! Whether the journal has a fresh price of each feed, and what lacks.
//!
//! A collector that does not answer is named, but the feed is ready as long as the others make a price.

use super::journal::Journal;
use super::newest::Newest;
use rsoracle_proof::duration::duration_text;
use rsoracle_proof::round::Standing;
use rsoracle_verify::log::quoted;

/// A feed without a report in so many rounds of others under the same aggregator's key is not in the roster any more.
const DROPPED_ROUNDS: u64 = 3;

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
        if newest.is_some_and(|newest| is_dropped(newest, journal)) {
            let name = &feed.name;
            lacks.push(format!(
                "{name}: not in the last rounds of its aggregator; it does not count any more"
            ));
            continue;
        }
        if let Some((counts, lack)) = lack_of(newest, now_us) {
            ready &= !counts;
            lacks.push(format!("{}: {lack}", feed.name));
        }
        for lack in newest.into_iter().flat_map(collectors) {
            lacks.push(format!("{}: {lack}", feed.name));
        }
    }
    Readiness { ready, lacks }
}

/// Whether other feeds of the same aggregator have had several rounds without this one.
pub(super) fn is_dropped(newest: &Newest, journal: &Journal) -> bool {
    let Some(report) = &newest.report else {
        return false;
    };
    let all = (0..journal.feeds().len()).filter_map(|at| journal.newest(at)?.report.as_ref());
    let mut others = all.filter(|other| other.aggregator == report.aggregator);
    others.any(|other| {
        let periods = [report, other].map(|one| one.round.terms.schedule.period_us);
        let rounds_us = DROPPED_ROUNDS * periods[0].max(periods[1]);
        rounds_us > 0 && other.round.start_us >= report.round.start_us + rounds_us
    })
}

/// Why a feed has no fresh price, and whether it is not ready for that.
fn lack_of(newest: Option<&Newest>, now_us: u64) -> Option<(bool, String)> {
    let newest = newest?;
    let Some(report) = &newest.report else {
        return Some((true, "its newest report cannot be read".to_owned()));
    };
    if !report.decision.has_price() {
        let word = report.decision.name();
        return Some((true, format!("the newest report has no price ({word})")));
    }
    // A report that is missing is late once the round after it should be over too.
    let schedule = &report.round.terms.schedule;
    let next = newest
        .schedule()
        .and_then(|one| one.next_start_us(report.round.start_us + 1));
    let Some(start_us) = next else {
        let ended = schedule.end_us.is_some_and(|end_us| now_us >= end_us);
        return Some((
            ended,
            "it is over: no round follows the newest report".to_owned(),
        ));
    };
    let due_us = start_us + schedule.length_us() + schedule.period_us;
    let since_us = now_us.saturating_sub(report.round.start_us);
    (now_us > due_us).then(|| {
        let since = duration_text(since_us - since_us % 1_000_000);
        let period = duration_text(schedule.period_us);
        (
            true,
            format!("no report for {since}; one is due every {period}"),
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
