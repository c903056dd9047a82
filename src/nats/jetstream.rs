//! What JetStream is asked, and what its answers mean.
//!
//! Invariant: pure. A stream is asked for one message at a time, by subject and from a sequence on, so that nothing can be skipped.

use super::client::Came;
use super::protocol::member;
use crate::exchange::json::{Json, Spans};
use rsoracle_proof::duration::duration_text;
use rsoracle_verify::error::brief;

/// Longest of a server's sentences that is passed on, in characters.
const SENTENCE_CHARS_MAX: usize = 200;

/// `err_code`s: a message of the subject has come after the one that was expected to be its last; one may be about to, since the
/// stream's leader has not stored it everywhere yet; and this very message is about to.
const WRONG_LAST: [u64; 3] = [10_071, 10_164, 10_158];
/// `err_code`: there is no such stream.
pub(crate) const NO_STREAM: u64 = 10_059;
/// `err_code`s that pass though they are no 503: not enough servers for the replicas, as a cluster says that is starting; not
/// enough room on the server, or for the account; and more messages than the stream takes at the moment.
const PASSING: [u64; 4] = [10_005, 10_047, 10_002, 10_167];

/// Longest duplicate window of a stream that the relay makes, in microseconds: for so long it knows the ids of messages. The servers'
/// own default is two minutes. A server of nats-server 2.9 that was killed stores some messages a second time when it starts again,
/// unless it still knows their ids.
const DUPLICATE_WINDOW_US_MAX: u64 = 3_600_000_000;

/// A refusal by JetStream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// As in HTTP: 503 if it cannot be done now.
    pub(crate) status: u64,
    /// JetStream's own number.
    pub(crate) code: u64,
    pub(crate) text: String,
}

impl Refusal {
    /// Whether the same may succeed later.
    pub(crate) fn passes(&self) -> bool {
        self.status == 503 || PASSING.contains(&self.code)
    }

    /// Whether the stream's end is not the one that was expected, and has to be asked for.
    pub(crate) fn is_wrong_last(&self) -> bool {
        WRONG_LAST.contains(&self.code)
    }

    fn of(status: u64, text: &str) -> Refusal {
        Refusal {
            status,
            code: 0,
            text: brief(text, SENTENCE_CHARS_MAX),
        }
    }
}

/// A stream as it should be where there is none.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) replicas: u8,
    /// How long reports are kept, in microseconds. `None`: for ever.
    pub(crate) age_us_max: Option<u64>,
    /// How many bytes of them are kept. `None`: all.
    pub(crate) bytes_max: Option<u64>,
}

impl Wanted {
    /// The request that makes it.
    pub(crate) fn create(&self) -> String {
        let bytes_max = self
            .bytes_max
            .map_or("-1".to_owned(), |bytes| bytes.to_string());
        format!(
            "{{\"name\":\"{}\",\"subjects\":[\"{}\"],\"retention\":\"limits\",\"storage\":\"file\",\"discard\":\"old\",\"num_replicas\":{},\"max_age\":{},\"max_bytes\":{bytes_max},\"duplicate_window\":{},\"allow_direct\":true}}",
            self.name,
            super::place::SUBJECTS,
            self.replicas,
            self.age_us_max.unwrap_or(0) * 1_000,
            self.age_us_max
                .unwrap_or(u64::MAX)
                .min(DUPLICATE_WINDOW_US_MAX)
                * 1_000,
        )
    }
}

/// A stream: how it keeps reports, and when it was made, which tells it from another one of its name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct About {
    pub(crate) text: String,
    pub(crate) created: String,
}

/// Reads the answer about a stream: what it is like, or what of it does not fit.
pub(crate) fn stream(payload: &[u8]) -> Result<Result<About, Vec<String>>, Refusal> {
    let text = std::str::from_utf8(payload).unwrap_or_default();
    let mut spans = Spans::new();
    let all = answer(text, &mut spans)?;
    let config = member(all, "config");
    let config = config.ok_or_else(|| Refusal::of(503, "an answer without the stream"))?;
    let says = |name, text| member(config, name).is_some_and(|value| value.says(text));
    let is = |name| member(config, name).and_then(Json::switch) == Some(true);
    let number = |name| member(config, name).and_then(Json::whole::<i64>);
    let mut subjects = member(config, "subjects")
        .and_then(Json::items)
        .into_iter()
        .flatten();
    let covers = [
        "rsoracle.*.reports",
        "rsoracle.>",
        "rsoracle.*.*",
        "rsoracle.*.>",
        ">",
    ];
    let rules = [
        (
            !subjects.any(|one| covers.iter().any(|it| one.says(it))),
            "its subjects lack rsoracle.*.reports",
        ),
        (
            !says("retention", "limits"),
            "its retention is not 'limits': what has been read is removed",
        ),
        (is("no_ack"), "it acknowledges nothing (no_ack)"),
        (is("sealed"), "it is sealed"),
        (
            member(config, "mirror").is_some(),
            "it mirrors another stream: publish to that one",
        ),
        (
            !is("allow_direct"),
            "it does not allow direct gets (allow_direct)",
        ),
    ];
    let unfit: Vec<String> = rules
        .iter()
        .filter(|rule| rule.0)
        .map(|rule| rule.1.to_owned())
        .collect();
    if !unfit.is_empty() {
        return Ok(Err(unfit));
    }
    let age_ns = number("max_age").filter(|ns| *ns > 0);
    let bytes = number("max_bytes").filter(|bytes| *bytes >= 0);
    let until = match (bytes, says("discard", "new")) {
        (None, _) => String::new(),
        (Some(bytes), false) => format!(", the newest {bytes} bytes"),
        (Some(bytes), true) => {
            format!(", {bytes} bytes, beyond which it refuses reports (discard new)")
        }
    };
    let age = age_ns.map_or("for ever".to_owned(), |ns| {
        format!("for {}", duration_text(ns as u64 / 1_000))
    });
    let replicas = number("num_replicas").unwrap_or(1);
    Ok(Ok(About {
        text: format!("it keeps reports {age}{until}; replicas: {replicas}"),
        created: member(all, "created")
            .and_then(Json::owned)
            .unwrap_or_default(),
    }))
}

/// Reads the answer to a published message: its sequence in the stream, and whether it had been there before.
pub(crate) fn acknowledged(came: &Came) -> Result<(u64, bool), Refusal> {
    if let Some((status, _)) = came.status() {
        let text = format!("no stream takes it (status {status})");
        return Err(Refusal::of(u64::from(status), &text));
    }
    let text = came.text();
    let mut spans = Spans::new();
    let all = answer(text, &mut spans)?;
    let is_twice = member(all, "duplicate").and_then(Json::switch) == Some(true);
    let sequence = member(all, "seq").and_then(Json::whole);
    let sequence = sequence.ok_or_else(|| Refusal::of(503, "an answer without a sequence"))?;
    Ok((sequence, is_twice))
}

/// The last sequence of the subject, as a refusal names it at its end; 0 if it does not.
pub(crate) fn named_sequence(refusal: &Refusal) -> u64 {
    let number = refusal.text.rsplit(' ').next();
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The sequence of a message that was asked for; None if there is none.
pub(crate) fn stored(came: &Came, subject: &str) -> Result<Option<u64>, Refusal> {
    // The stream adds these to every message, whatever the message itself has.
    let own = came
        .header("Nats-Sequence")
        .and_then(|text| text.parse().ok());
    let is_it = came.header("Nats-Subject") == Some(subject);
    match (own.filter(|_| is_it), came.status()) {
        (Some(sequence), _) => Ok(Some(sequence)),
        (None, Some((404, _))) => Ok(None),
        (None, Some((status, words))) => Err(Refusal::of(u64::from(status), words)),
        (None, None) => Err(Refusal::of(503, "an answer without a sequence")),
    }
}

/// Checks an answer of the API, and returns it unless it is a refusal.
fn answer<'a>(text: &'a str, spans: &'a mut Spans<'a>) -> Result<Json<'a>, Refusal> {
    let all = Json::read(text, spans).map_err(|_| Refusal::of(503, "an answer that is no JSON"))?;
    let Some(error) = member(all, "error") else {
        return Ok(all);
    };
    let number = |name| member(error, name).and_then(Json::whole).unwrap_or(0);
    let said = member(error, "description").and_then(Json::owned);
    Err(Refusal {
        code: number("err_code"),
        ..Refusal::of(number("code"), &said.unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As nats-server 2.9.10 describes a stream.
    const STREAM: &str = "{\"type\":\"io.nats.jetstream.api.v1.stream_info_response\",\"total\":0,\"config\":{\"name\":\"R\",\"subjects\":[\"rsoracle.*.reports\"],\"retention\":\"limits\",\"max_bytes\":-1,\"max_age\":0,\"discard\":\"old\",\"num_replicas\":3,\"allow_direct\":true,\"sealed\":false},\"state\":{\"last_seq\":0}}";

    #[test]
    fn a_stream_fits_or_it_is_said_what_does_not() {
        let found = |text: &str| stream(text.as_bytes()).map(|it| it.map(|about| about.text));
        let right = "it keeps reports for ever; replicas: 3".to_owned();
        assert_eq!(found(STREAM), Ok(Ok(right)));
        let kept = STREAM.replace(
            "\"max_bytes\":-1,\"max_age\":0",
            "\"max_bytes\":5,\"max_age\":3600000000000",
        );
        let right = "it keeps reports for 1h, the newest 5 bytes; replicas: 3".to_owned();
        assert_eq!(found(&kept), Ok(Ok(right)));
        for (from, to, part) in [
            (
                "rsoracle.*.reports",
                "rsoracle.BTC-USD.reports",
                "its subjects",
            ),
            ("limits\"", "workqueue\"", "retention"),
            ("direct\":true", "direct\":false", "direct gets"),
            (",\"allow_direct\":true", "", "direct gets"),
            ("sealed\":false", "sealed\":true", "sealed"),
            ("\"sealed", "\"no_ack\":true,\"sealed", "no_ack"),
            ("\"sealed", "\"mirror\":{},\"sealed", "mirrors"),
        ] {
            let text = STREAM.replace(from, to);
            let unfit = found(&text).expect("an answer").expect_err(part);
            assert!(unfit.len() == 1 && unfit[0].contains(part), "{unfit:?}");
        }
        for text in ["", "{}", "[]", "{\"config\"", "nonsense"] {
            assert!(found(text).is_err_and(|refusal| refusal.passes()), "{text}");
        }
    }

    #[test]
    fn a_refusal_says_whether_it_passes_and_which_sequence_is_the_last() {
        let read = |text: &str| answer(text, &mut Spans::new()).expect_err("a refusal");
        let wrong = read(
            "{\"error\":{\"code\":400,\"err_code\":10071,\"description\":\"wrong last sequence: 17\"},\"seq\":0}",
        );
        assert_eq!(
            (
                wrong.is_wrong_last(),
                wrong.passes(),
                named_sequence(&wrong)
            ),
            (true, false, 17)
        );
        for (code, text) in [
            (10_164, "wrong last sequence"),
            (10_158, "duplicate message id is in process"),
        ] {
            let text = format!(
                "{{\"error\":{{\"code\":400,\"err_code\":{code},\"description\":\"{text}\"}}}}"
            );
            let refusal = read(&text);
            assert_eq!(
                (refusal.is_wrong_last(), named_sequence(&refusal)),
                (true, 0)
            );
        }
        let full = read(
            "{\"error\":{\"code\":503,\"err_code\":10077,\"description\":\"maximum bytes exceeded\"}}",
        );
        assert!(full.passes() && named_sequence(&full) == 0);
        let strange = read("{\"error\":null}");
        assert_eq!((strange.status, strange.code), (0, 0));
    }
}
