//! What is at which path: turns a request into an answer, a wait, or a stream.
//!
//! Invariant: nothing is answered from a journal that is still being read for the first time, and what is said to never change
//! is a report by its number, or a tile that is full, if the address names feed and chain. A parameter that is not known is refused, since a mistyped `max_age` would
//! let a stale price pass.

use super::answer::{Answer, Body, FOR_A_WHILE, FOR_EVER, NEVER};
use super::begin::{Begin, Form, begin};
use super::index::{Feed, Record};
use super::journal::Journal;
use super::metrics;
use super::problem::Problem;
use super::query::{duration, feed_of, only, usable};
use super::request::{Method, Request};
use super::scan::signature;
use super::site::Site;
use crate::serve::limits::{TILE_REPORTS, WAIT_US_MAX};
use rsoracle_proof::duration::duration_text;
use rsoracle_verify::log::quoted;
use std::ops::Range;

/// Longest time for which the newest report may be cached, in seconds: a roster may bring another schedule.
const LATEST_CACHED_S_MAX: u64 = 10;

/// The content of a report, and of a tile.
const JSON: &str = "application/json";
const TILE: &str = "application/x-ndjson";

/// What becomes of a request.
pub(super) enum Reply {
    /// It is answered.
    Now(Answer),
    /// It is answered when the journal has changed, or after so many microseconds.
    Later(u64),
    /// A stream begins.
    Stream(Begin),
}

/// The instant of an answer, and whether the request may still wait.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    /// Microseconds since the Unix epoch.
    pub(super) now_us: u64,
    pub(super) patient: bool,
    /// Whether it came through the listener for metrics.
    pub(super) inside: bool,
}

/// Answers a request.
pub(super) fn answer(request: &Request, site: &mut Site, asked: Asked) -> Result<Reply, Problem> {
    if request.method == Method::Options {
        return Ok(Reply::Now(options()));
    }
    let path = request.path.as_str();
    let now_us = asked.now_us;
    let reply = match path {
        "/live" | "/-/healthy" | "/healthz" => {
            return Ok(Reply::Now(document(200, "{\"live\":true}".to_owned())));
        }
        "/ready" | "/-/ready" | "/readyz" => ready(site, now_us),
        "/metrics" if asked.inside || !site.metrics_apart => {
            let mut text = Answer::new(200);
            text.field("Content-Type", "text/plain; version=0.0.4; charset=utf-8");
            text.field("Cache-Control", NEVER);
            text.body = Body::Page(
                metrics::of_process(site, now_us),
                metrics::shared(site, now_us),
            );
            text.is_dear = true;
            text
        }
        _ if asked.inside => return Err(Problem::NOT_FOUND),
        "/" => site.page.answer(),
        "/v1/latest" => return latest(request, &mut site.journal, asked),
        "/v1/feeds" => {
            only(request, &[])?;
            document(200, feeds(usable(&site.journal)?))
        }
        "/v1/roster" => {
            only(request, &[])?;
            site.roster()?
        }
        "/v1/proofs" => {
            only(request, &[])?;
            site.proofs()?
        }
        "/v1/stream" => return begin(request, &site.journal, Form::Events).map(Reply::Stream),
        "/v1/ws" => return begin(request, &site.journal, Form::Socket).map(Reply::Stream),
        _ => numbered(request, &mut site.journal)?,
    };
    Ok(Reply::Now(reply))
}

/// What may be asked for, and with which header fields.
fn options() -> Answer {
    let mut answer = Answer::new(204);
    answer.field("Allow", "GET, HEAD, OPTIONS");
    answer.field("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS");
    answer.field(
        "Access-Control-Allow-Headers",
        "If-None-Match, Last-Event-ID",
    );
    answer.field("Access-Control-Max-Age", "86400");
    answer
}

/// A document that holds only now.
fn document(status: u16, text: String) -> Answer {
    let mut answer = Answer::text(status, "application/json", text + "\n");
    answer.field("Cache-Control", NEVER);
    answer
}

fn latest(request: &Request, journal: &mut Journal, asked: Asked) -> Result<Reply, Problem> {
    only(request, &["feed", "wait", "max_age"])?;
    let feed = feed_of(request, journal)?;
    let wait_us = duration(request, "wait")?.map_or(0, |us| us.min(WAIT_US_MAX));
    let max_age_us = duration(request, "max_age")?;
    let waits = wait_us > 0 && asked.patient;
    let newest = journal.newest(feed).ok_or(Problem::INDEXING)?;
    let Some(published) = &newest.published else {
        if waits {
            return Ok(Reply::Later(wait_us));
        }
        let sentence = "no price of this feed was published yet".to_owned();
        return Err(Problem::new(404, "no-price", sentence));
    };
    let (position, time_us) = (published.position, published.time_us);
    let age_us = asked.now_us.saturating_sub(time_us);
    let left_us = max_age_us.map(|max_us| max_us.checked_sub(age_us));
    if let Some(None) = left_us {
        if waits {
            return Ok(Reply::Later(wait_us));
        }
        let sentence = format!(
            "the newest price is {} old, which is more than max_age",
            duration_text(age_us - age_us % 1_000)
        );
        let stale = Problem::new(503, "stale", sentence).with("age_us", age_us);
        return Err(stale.with("time_us", time_us));
    }
    let tag = format!("\"{}\"", published.signature);
    let known = knows(request, &tag);
    if known && waits {
        return Ok(Reply::Later(wait_us));
    }
    let due_us = newest
        .next_report_us()
        .unwrap_or(0)
        .saturating_sub(asked.now_us);
    let next_us = due_us.min(left_us.flatten().unwrap_or(u64::MAX));
    let seconds = (next_us / 1_000_000).min(LATEST_CACHED_S_MAX);
    let mut answer = match known {
        true => Answer::new(304),
        false => lines(journal, feed, position..position + 1, JSON)?,
    };
    answer.field("ETag", &tag);
    answer.field(
        "Cache-Control",
        &match seconds {
            // A cache that has an answer to a long poll would end the next one at once.
            _ if wait_us > 0 => NEVER.to_owned(),
            0 => "no-cache".to_owned(),
            _ => format!("public, max-age={seconds}, must-revalidate"),
        },
    );
    Ok(Reply::Now(answer))
}

/// Whether the client has what this tag stands for.
fn knows(request: &Request, tag: &str) -> bool {
    let mut items = request.items("if-none-match");
    items.any(|item| item == "*" || item.strip_prefix("W/").unwrap_or(item) == tag)
}

/// The lines of the reports of a feed at these positions. In a tile, changes of keys are in their places before the reports.
fn lines(
    journal: &Journal,
    feed: usize,
    reports: Range<usize>,
    kind: &str,
) -> Result<Answer, Problem> {
    let of = journal.feeds().get(feed).ok_or(Problem::GONE)?;
    let from = match kind {
        TILE => of.before(reports.start),
        _ => of.at(reports.start),
    };
    let (mut place, mut bytes, until) = (from, 0, reports.end);
    while place.report < until
        && let Some((record, next)) = of.next(place)
    {
        let (_, length) = of.line(record).ok_or(Problem::GONE)?;
        (place, bytes) = (next, bytes + length as u64 + 1);
    }
    let mut answer = Answer::new(200);
    answer.field("Content-Type", kind);
    answer.body = Body::Lines {
        feed,
        from,
        until,
        bytes,
    };
    Ok(answer)
}

/// What is at a path that ends with a number.
fn numbered(request: &Request, journal: &mut Journal) -> Result<Answer, Problem> {
    let rest = request
        .path
        .strip_prefix("/v1/")
        .ok_or(Problem::NOT_FOUND)?;
    let (what, number) = rest.split_once('/').ok_or(Problem::NOT_FOUND)?;
    if !matches!(what, "reports" | "at" | "tiles") {
        return Err(Problem::NOT_FOUND);
    }
    only(request, &["feed", "chain"])?;
    let plain = number.bytes().all(|byte| byte.is_ascii_digit())
        && (number == "0" || !number.starts_with('0'));
    let number: Option<u64> = number.parse().ok().filter(|_| plain);
    let number = number.ok_or_else(|| {
        let sentence = format!("/v1/{what}/ is followed by a whole number in decimal digits");
        Problem::new(400, "bad-number", sentence)
    })?;
    let feed = feed_of(request, journal)?;
    if let Some(chain) = request.parameter("chain")? {
        let present = journal.feeds()[feed].chain();
        if chain != present {
            let sentence = format!("the chain of reports that is served here is {present}");
            return Err(Problem::new(404, Problem::REPLACED.name, sentence));
        }
    }
    match what {
        "reports" => report(request, journal, feed, number),
        "at" => in_force(request, &journal.feeds()[feed], number),
        _ => tile(request, journal, feed, number),
    }
}

fn absent(feed: &Feed, number: u64) -> Problem {
    let (first, last) = (
        feed.first_number().unwrap_or(0),
        feed.last_number().unwrap_or(0),
    );
    let (name, why) = match number {
        _ if number > last => ("not-yet", "is not there yet"),
        _ => ("not-kept", "is not in the journal"),
    };
    let sentence = format!("report {number} {why}; the journal has {first} to {last}");
    Problem::new(404, name, sentence)
        .with("first", first)
        .with("last", last)
}

fn report(
    request: &Request,
    journal: &mut Journal,
    feed: usize,
    number: u64,
) -> Result<Answer, Problem> {
    let of = &journal.feeds()[feed];
    let position = of.position(number).ok_or_else(|| absent(of, number))?;
    for_ever(request, journal, feed, position..position + 1, JSON)
}

/// Lines that never change, with the signature of the last one as their tag.
fn for_ever(
    request: &Request,
    journal: &mut Journal,
    feed: usize,
    reports: Range<usize>,
    kind: &str,
) -> Result<Answer, Problem> {
    let last = Record::Report(reports.end - 1);
    let line = journal.line(feed, last).map_err(|_| Problem::GONE)?;
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let tag = format!("\"{}\"", signature(line).ok_or(Problem::GONE)?);
    let mut answer = match knows(request, &tag) {
        true => Answer::new(304),
        false => lines(journal, feed, reports, kind)?,
    };
    answer.field("ETag", &tag);
    answer.field("Cache-Control", settled(request)?);
    Ok(answer)
}

/// How long an answer may be cached that never changes within its chain: for ever, if the address names feed and chain.
fn settled(request: &Request) -> Result<&'static str, Problem> {
    let named = request.parameter("feed")?.and(request.parameter("chain")?);
    Ok(named.map_or(FOR_A_WHILE, |_| FOR_EVER))
}

/// Leads to the newest published report whose round had started by then.
fn in_force(request: &Request, feed: &Feed, us: u64) -> Result<Answer, Problem> {
    let number = feed
        .published_at(us)
        .and_then(|position| feed.number(position));
    let number = number.ok_or_else(|| {
        let sentence = "no price in the journal was published that early".to_owned();
        Problem::new(404, "too-early", sentence)
    })?;
    let mut location = format!("/v1/reports/{number}");
    for name in ["feed", "chain"] {
        if let Some(value) = request.parameter(name)? {
            let begin = if location.contains('?') { '&' } else { '?' };
            location.push_str(&format!("{begin}{name}={}", escaped(value)));
        }
    }
    let mut answer = Answer::new(302);
    answer.field("Location", &location);
    let newest_us = feed
        .len()
        .checked_sub(1)
        .and_then(|last| feed.start_us(last));
    let caching = match newest_us.is_some_and(|newest_us| us < newest_us) {
        true => settled(request)?,
        false => NEVER,
    };
    answer.field("Cache-Control", caching);
    Ok(answer)
}

fn tile(
    request: &Request,
    journal: &mut Journal,
    feed: usize,
    tile: u64,
) -> Result<Answer, Problem> {
    let of = &journal.feeds()[feed];
    let first = tile
        .checked_mul(TILE_REPORTS)
        .and_then(|before| before.checked_add(1));
    let range = first.map(|first| {
        (
            of.at_or_after(first),
            of.at_or_after(first.saturating_add(TILE_REPORTS)),
        )
    });
    let (from, until) = range.filter(|(from, until)| from < until).ok_or_else(|| {
        let sentence = format!("there is no report of tile {tile} in the journal");
        Problem::new(404, "no-tile", sentence)
    })?;
    if (until - from) as u64 == TILE_REPORTS {
        return for_ever(request, journal, feed, from..until, TILE);
    }
    let mut answer = lines(journal, feed, from..until, TILE)?;
    answer.field("Cache-Control", "no-cache");
    Ok(answer)
}

/// The feeds as JSON.
fn feeds(journal: &Journal) -> String {
    let one = |(at, feed): (usize, &Feed)| {
        let or_null =
            |number: Option<u64>| number.map_or("null".to_owned(), |number| number.to_string());
        let newest = journal.newest(at);
        let published = newest
            .and_then(|newest| newest.published.as_ref())
            .map(|published| {
                format!(
                    "{{\"number\":{},\"time_us\":{},\"signature\":\"{}\"}}",
                    or_null(feed.number(published.position)),
                    published.time_us,
                    published.signature
                )
            });
        let last_us = feed
            .len()
            .checked_sub(1)
            .and_then(|last| feed.start_us(last));
        format!(
            "{{\"feed\":{},\"chain\":\"{}\",\"reports\":{},\"first\":{},\"last\":{},\"last_start_us\":{},\"published\":{},\"latest\":\"/v1/latest?feed={}\"}}",
            quoted(&feed.name),
            feed.chain(),
            feed.len() - feed.kept(),
            or_null(feed.first_number()),
            or_null(feed.last_number()),
            or_null(last_us),
            published.unwrap_or("null".to_owned()),
            escaped(&feed.name)
        )
    };
    let all: Vec<String> = journal.feeds().iter().enumerate().map(one).collect();
    format!("{{\"feeds\":[{}]}}", all.join(","))
}

/// A feed's name in a query.
fn escaped(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    let one = |c: char| match plain(c) {
        true => c.to_string(),
        false => format!("%{:02X}", c as u32),
    };
    name.chars().map(one).collect()
}

fn ready(site: &mut Site, now_us: u64) -> Answer {
    let (ready, text) = site.readiness(now_us);
    let mut answer = document(if ready { 200 } else { 503 }, String::new());
    answer.body = Body::Bytes(text);
    answer.is_dear = true;
    answer
}
