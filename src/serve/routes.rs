//! What is at which path: turns a request into an answer, a wait, or a stream.
//!
//! Invariant: nothing is answered from a journal that is still being read for the first time, and what is said to never change
//! is a report by its number, or a tile that is full. A parameter that is not known is refused, since a mistyped `max_age` would
//! let a stale price pass.

use super::answer::{Answer, Body, FOR_EVER, NEVER};
use super::index::Feed;
use super::journal::Journal;
use super::metrics;
use super::problem::Problem;
use super::ready::{Readiness, readiness};
use super::request::{Method, Request};
use super::scan::signature;
use super::site::Site;
use crate::system::limits::{TILE_REPORTS, WAIT_US_MAX};
use rsoracle_proof::duration::{duration_text, duration_us};
use rsoracle_verify::log::quoted;
use tungstenite::handshake::derive_accept_key;

/// How a stream is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As server-sent events.
    Events,
    /// Over a websocket.
    Socket,
}

/// What becomes of a request.
pub(super) enum Reply {
    /// It is answered.
    Now(Answer),
    /// It is answered when the journal has changed, or after so many microseconds.
    Later(u64),
    /// The answer begins a stream of a feed, from a position on. Or the stream ends at once, for a reason.
    Stream(Answer, Form, usize, Result<usize, Problem>),
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
        "/ready" | "/-/ready" | "/readyz" => ready(&site.journal, now_us),
        "/metrics" if asked.inside || !site.metrics_apart => {
            let mut text = Answer::text(
                200,
                "text/plain; version=0.0.4; charset=utf-8",
                metrics::text(site),
            );
            text.field("Cache-Control", NEVER);
            text
        }
        _ if asked.inside => return Err(Problem::NOT_FOUND),
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
        "/v1/stream" => return stream(request, &site.journal, Form::Events),
        "/v1/ws" => return stream(request, &site.journal, Form::Socket),
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

/// Refuses parameters other than these.
fn only(request: &Request, known: &[&str]) -> Result<(), Problem> {
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
fn usable(journal: &Journal) -> Result<&Journal, Problem> {
    match (journal.exists(), journal.level) {
        (false, _) => Err(Problem::NO_JOURNAL),
        (true, false) => Err(Problem::INDEXING),
        (true, true) => Ok(journal),
    }
}

/// The place of the feed that is asked for. If there is only one, it need not be named.
fn feed_of(request: &Request, journal: &Journal) -> Result<usize, Problem> {
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
fn duration(request: &Request, name: &str) -> Result<Option<u64>, Problem> {
    let text = request.parameter(name)?;
    let us =
        text.map(|text| duration_us(text).map_err(|right| Problem::bad_parameter(name, right)));
    us.transpose()
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
    let next_us = newest
        .next_report_us()
        .unwrap_or(0)
        .saturating_sub(asked.now_us);
    let seconds = next_us.min(left_us.flatten().unwrap_or(u64::MAX)) / 1_000_000;
    let mut answer = match known {
        true => Answer::new(304),
        false => lines(journal, feed, position, position + 1, "application/json")?,
    };
    answer.field("ETag", &tag);
    answer.field(
        "Cache-Control",
        &match seconds {
            0 => "no-cache".to_owned(),
            _ => format!("public, max-age={seconds}"),
        },
    );
    Ok(Reply::Now(answer))
}

/// Whether the client has what this tag stands for.
fn knows(request: &Request, tag: &str) -> bool {
    let mut items = request.items("if-none-match");
    items.any(|item| item == "*" || item.strip_prefix("W/").unwrap_or(item) == tag)
}

/// The lines of a feed from one position to before another.
fn lines(
    journal: &Journal,
    feed: usize,
    from: usize,
    until: usize,
    kind: &str,
) -> Result<Answer, Problem> {
    let of = journal.feeds().get(feed).ok_or(Problem::GONE)?;
    let bytes = (from..until).filter_map(|at| of.line(at));
    let bytes = bytes.map(|(_, length)| length as u64 + 1).sum();
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
    only(request, &["feed"])?;
    let plain = number.bytes().all(|byte| byte.is_ascii_digit())
        && (number == "0" || !number.starts_with('0'));
    let number: Option<u64> = number.parse().ok().filter(|_| plain);
    let number = number.ok_or_else(|| {
        let sentence = format!("/v1/{what}/ is followed by a whole number in decimal digits");
        Problem::new(400, "bad-number", sentence)
    })?;
    let feed = feed_of(request, journal)?;
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
    for_ever(
        request,
        journal,
        feed,
        position,
        position + 1,
        "application/json",
    )
}

/// Lines that never change, with the signature of the last one as their tag.
fn for_ever(
    request: &Request,
    journal: &mut Journal,
    feed: usize,
    from: usize,
    until: usize,
    kind: &str,
) -> Result<Answer, Problem> {
    let line = journal.line(feed, until - 1).map_err(|_| Problem::GONE)?;
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let tag = format!("\"{}\"", signature(line).ok_or(Problem::GONE)?);
    let mut answer = match knows(request, &tag) {
        true => Answer::new(304),
        false => lines(journal, feed, from, until, kind)?,
    };
    answer.field("ETag", &tag);
    answer.field("Cache-Control", FOR_EVER);
    Ok(answer)
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
    let named = request.parameter("feed")?.map(escaped);
    let query = named.map_or(String::new(), |name| format!("?feed={name}"));
    let mut answer = Answer::new(302);
    answer.field("Location", &format!("/v1/reports/{number}{query}"));
    let newest_us = feed
        .len()
        .checked_sub(1)
        .and_then(|last| feed.start_us(last));
    let settled = newest_us.is_some_and(|newest_us| us < newest_us);
    answer.field("Cache-Control", if settled { FOR_EVER } else { NEVER });
    Ok(answer)
}

fn tile(
    request: &Request,
    journal: &mut Journal,
    feed: usize,
    tile: u64,
) -> Result<Answer, Problem> {
    const KIND: &str = "application/x-ndjson";
    let of = &journal.feeds()[feed];
    let first = tile
        .checked_mul(TILE_REPORTS)
        .and_then(|before| before.checked_add(1));
    let range = first.map(|first| {
        (
            of.from_number(first),
            of.from_number(first.saturating_add(TILE_REPORTS)),
        )
    });
    let (from, until) = range.filter(|(from, until)| from < until).ok_or_else(|| {
        let sentence = format!("there is no report of tile {tile} in the journal");
        Problem::new(404, "no-tile", sentence)
    })?;
    if (until - from) as u64 == TILE_REPORTS {
        return for_ever(request, journal, feed, from, until, KIND);
    }
    let mut answer = lines(journal, feed, from, until, KIND)?;
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
            "{{\"feed\":{},\"reports\":{},\"first\":{},\"last\":{},\"last_start_us\":{},\"published\":{},\"latest\":\"/v1/latest?feed={}\"}}",
            quoted(&feed.name),
            feed.len(),
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

fn ready(journal: &Journal, now_us: u64) -> Answer {
    let Readiness { ready, lacks } = readiness(journal, now_us);
    let lacks: Vec<String> = lacks.iter().map(|lack| quoted(lack)).collect();
    document(
        if ready { 200 } else { 503 },
        format!("{{\"ready\":{ready},\"lacks\":[{}]}}", lacks.join(",")),
    )
}

/// Begins a stream after the report that the client names, or else with the newest one.
fn stream(request: &Request, journal: &Journal, form: Form) -> Result<Reply, Problem> {
    only(request, &["feed", "since"])?;
    let answer = match form {
        Form::Events => {
            let mut answer = Answer::new(200);
            answer.field("Content-Type", "text/event-stream");
            answer.field("Cache-Control", NEVER);
            // Tells nginx not to hold events back.
            answer.field("X-Accel-Buffering", "no");
            answer
        }
        Form::Socket => upgrade(request)?,
    };
    let place = feed_of(request, journal)?;
    // A browser that connects again sends both; the header is newer.
    let since = match request.field("last-event-id") {
        Some(id) => Some(id),
        None => request.parameter("since")?,
    };
    let feed = &journal.feeds()[place];
    let from = match since {
        None => Ok(feed.len().saturating_sub(1)),
        Some(text) => {
            let right = "the number of a report, or 0";
            let number = text
                .parse()
                .map_err(|_| Problem::bad_parameter("since", right))?;
            after(feed, number)
        }
    };
    Ok(Reply::Stream(answer, form, place, from))
}

/// The position of the report after this one.
fn after(feed: &Feed, number: u64) -> Result<usize, Problem> {
    let (first, last) = (
        feed.first_number().unwrap_or(1),
        feed.last_number().unwrap_or(0),
    );
    if number > last {
        let sentence = format!("report {number} is not there yet; the last one is {last}");
        return Err(Problem::new(200, "cursor-ahead", sentence).with("last", last));
    }
    if first > number + 1 {
        let sentence = format!(
            "report {} is not in the journal; the first one is {first}",
            number + 1
        );
        return Err(Problem::new(200, "cursor-too-old", sentence).with("first", first));
    }
    Ok(feed.from_number(number + 1))
}

/// Accepts the upgrade to a websocket (RFC 6455, section 4.2).
fn upgrade(request: &Request) -> Result<Answer, Problem> {
    let refused = |why: &str| {
        let sentence = format!("this is a websocket: {why}; /v1/stream has the same without one");
        Problem::new(426, "no-websocket", sentence)
    };
    let asks = request.method == Method::Get
        && !request.old
        && request.lists("upgrade", "websocket")
        && request.lists("connection", "upgrade");
    if !asks {
        return Err(refused("the request must ask for an upgrade to it"));
    }
    if request.field("sec-websocket-version") != Some("13") {
        return Err(refused("the version is 13"));
    }
    let key = request.field("sec-websocket-key");
    // 16 bytes in base64.
    let sound = |key: &&str| {
        let digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
        key.len() == 24 && key.ends_with("==") && key.bytes().take(22).all(digit)
    };
    let key = key
        .filter(sound)
        .ok_or_else(|| refused("it needs a key of 16 bytes"))?;
    let mut answer = Answer::new(101);
    answer.field("Upgrade", "websocket");
    answer.field("Connection", "Upgrade");
    answer.field("Sec-WebSocket-Accept", &derive_accept_key(key.as_bytes()));
    Ok(answer)
}
