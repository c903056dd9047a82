//! The parameters of requests, and the feed that they name.

use super::journal::Journal;
use super::problem::Problem;
use super::request::Request;
use rsoracle_proof::duration::duration_us;

/// Refuses parameters other than these.
pub(super) fn only(request: &Request, known: &[&str]) -> Result<(), Problem> {
    let unknown = |(name, _): &&(String, String)| !known.contains(&name.as_str());
    let Some((name, _)) = request.query.iter().find(unknown) else {
        return Ok(());
    };
    let known = match known {
        [] => "none".to_owned(),
        known => known.join(", "),
    };
    let sentence = format!("the parameter {name} is not known here; known: {known}");
    Err(Problem::new(400, "unknown-parameter", sentence))
}

/// The journal, once it can answer.
pub(super) fn usable(journal: &Journal) -> Result<&Journal, Problem> {
    match (journal.exists(), journal.level) {
        (false, _) => Err(Problem::NO_JOURNAL),
        (true, false) => Err(Problem::INDEXING),
        (true, true) => Ok(journal),
    }
}

/// The place of the feed that is asked for. If there is only one, it need not be named.
pub(super) fn feed_of(request: &Request, journal: &Journal) -> Result<usize, Problem> {
    let feeds = usable(journal)?.feeds();
    let names = || {
        let names: Vec<&str> = feeds.iter().map(|feed| feed.name.as_str()).collect();
        names.join(", ")
    };
    match (request.parameter("feed")?, feeds) {
        (None, [_]) => Ok(0),
        (_, []) => Err(Problem::new(
            404,
            "no-report",
            "there is no report in the journal yet".to_owned(),
        )),
        (None, _) => Err(Problem::new(
            400,
            "feed-missing",
            format!("the parameter feed is missing; there are {}", names()),
        )),
        (Some(name), _) => journal.find(name).ok_or_else(|| {
            let sentence = format!("there is no feed {name} here; there are {}", names());
            Problem::new(404, "unknown-feed", sentence)
        }),
    }
}

/// A duration among the parameters, in microseconds.
pub(super) fn duration(request: &Request, name: &str) -> Result<Option<u64>, Problem> {
    let text = request.parameter(name)?;
    let us =
        text.map(|text| duration_us(text).map_err(|right| Problem::bad_parameter(name, right)));
    us.transpose()
}
