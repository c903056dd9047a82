//! How a stream begins: where, in which form, and the upgrade to a websocket.

use super::answer::{Answer, NEVER};
use super::index::{CHAIN_DIGITS, Cursor, Feed};
use super::journal::Journal;
use super::problem::Problem;
use super::query::{feed_of, only};
use super::request::{Method, Request};
use tungstenite::handshake::derive_accept_key;

/// How a stream is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As server-sent events.
    Events,
    /// Over a websocket.
    Socket,
}

/// The beginning of a stream: its answer, form and feed, and the place of the first record, or why it ends at once.
pub(super) type Begin = (Answer, Form, usize, Result<Cursor, Problem>);

/// Begins a stream after the report that the client names, or else with the newest one.
pub(super) fn begin(request: &Request, journal: &Journal, form: Form) -> Result<Begin, Problem> {
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
    // A browser that connects again sends both; the header is newer. An empty one names nothing.
    let since = match request.one("last-event-id")?.filter(|id| !id.is_empty()) {
        Some(id) => Some(id),
        None => request.parameter("since")?,
    };
    let feed = &journal.feeds()[place];
    let from = match since {
        None => Ok(feed.at(feed.len().saturating_sub(1))),
        Some(text) => {
            let right = "the number of a report, or 0, or the id of an event";
            let (chain, number, changes) =
                cursor(text).ok_or_else(|| Problem::bad_parameter("since", right))?;
            match chain.is_none_or(|chain| chain == feed.chain()) {
                true => after(feed, number, changes),
                false => Err(Problem::REPLACED),
            }
        }
    };
    Ok((answer, form, place, from))
}

/// What an id names: perhaps a chain, the number of a report, and how many changes of keys were seen since that.
fn cursor(id: &str) -> Option<(Option<&str>, u64, usize)> {
    let Some((chain, place)) = id.split_once('-') else {
        return Some((None, id.parse().ok()?, 0));
    };
    let sound = chain.len() == CHAIN_DIGITS && chain.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (number, changes) = place.split_once('.').unwrap_or((place, "0"));
    let (number, changes) = (number.parse().ok()?, changes.parse().ok()?);
    sound.then_some((Some(chain), number, changes))
}

/// The place after this report and so many changes of keys.
fn after(feed: &Feed, number: u64, changes: usize) -> Result<Cursor, Problem> {
    let (first, last) = (
        feed.first_number().unwrap_or(1),
        feed.last_number().unwrap_or(0),
    );
    let next = number.saturating_add(1);
    if first > next {
        return Err(Problem::too_old(next, first));
    }
    let place = feed.after(feed.at_or_after(next), changes);
    place.filter(|_| number <= last).ok_or_else(|| {
        let sentence = format!("what the client has is not there yet; the last report is {last}");
        Problem::new(200, "cursor-ahead", sentence).with("last", last)
    })
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
