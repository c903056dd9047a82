//! Finds what the index needs in a line of a journal, without parsing all of it.
//!
//! Invariant: a line is taken for a report only if its head, up to the round's start, and its end, from the signature of the
//! record before it on, are spelled exactly as docs/PROTOCOL.md has it, and all of it is visible ASCII. The middle is not looked at and no signature is checked:
//! that is for whoever believes the price.

use rsoracle_proof::limits::TIME_US_MAX;
use rsoracle_proof::publish::Decision;
use rsoracle_proof::source::check_feed;

/// Digits of a signature in hexadecimal.
pub(super) const SIGNATURE_DIGITS: usize = 128;
/// What stands before the signature of a report.
const SIGNATURE_BEGINS: &[u8] = b",\"signature\":\"";
/// What stands after it.
const LINE_ENDS: &[u8] = b"\"}";
/// Longest value of the head that is skipped, in bytes.
const SKIPPED_BYTES_MAX: usize = 64;

/// The keys of the head whose values are skipped, in their order.
const SKIPPED: [&str; 12] = [
    "time",
    "time_us",
    "age_us",
    "embedded",
    "spread",
    "prices",
    "signatures_verified",
    "faulty_collectors_tolerated",
    "exchanges",
    "faulty_exchanges_tolerated",
    "quote_currencies",
    "faulty_quote_currencies_tolerated",
];

/// What stands around the signature of the record before, and before the aggregator's key, whose digits are as many as these.
const PREVIOUS_BEGINS: &[u8] = b",\"previous\":\"";
const NO_PREVIOUS: &[u8] = b",\"previous\":null";
const KEY_BEGINS: &[u8] = b",\"aggregator_key\":\"";
const KEY_DIGITS: usize = 64;
/// What stands before the feed in a change of keys.
const CHANGE_BEGINS: &[u8] = b"{\"rsoracle_key_change\":2,\"feed\":\"";

/// The first 16 bytes of a signature: enough to tell which record continues which.
pub type Tip = u128;
/// Digits of a [`Tip`] in hexadecimal.
const TIP_DIGITS: usize = 32;

/// What the index needs of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// Its number, from 1.
    pub number: u64,
    /// Its feed.
    pub feed: &'a str,
    /// What became of the price.
    pub decision: Decision,
    /// The start of its round, in microseconds since the Unix epoch.
    pub start_us: u64,
    /// The signature of the record before it; None in a first report.
    pub previous: Option<Tip>,
    /// Its own signature.
    pub tip: Tip,
}

/// What the index needs of a change of the aggregator's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handover<'a> {
    /// Its feed.
    pub feed: &'a str,
    /// The signature of the record before it.
    pub previous: Tip,
    /// The signature that the record after it names.
    pub tip: Tip,
}

/// What a line of a journal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A report.
    Report(Head<'a>),
    /// A change of the aggregator's key.
    Change(Handover<'a>),
    /// A proof.
    Aside,
    /// Neither, and why not.
    Odd(&'static str),
}

/// Looks at a line, without its newline.
pub fn scan(line: &[u8]) -> Kind<'_> {
    // Without an early end, so that the compiler can look at many bytes at once.
    let visible = |all, byte: &u8| all & (b' '..=b'~').contains(byte);
    if !line.iter().fold(true, visible) {
        return Kind::Odd("it is not visible ASCII");
    }
    if line.starts_with(b"{\"rsoracle_proof\":2,") {
        return Kind::Aside;
    }
    if line.starts_with(CHANGE_BEGINS) {
        return handover(line).map_or(Kind::Odd("it is no whole change of keys"), Kind::Change);
    }
    let tail = tail(line);
    match (begin(line, tail.unwrap_or_default()), tail) {
        (Some(head), Some(_)) => Kind::Report(head),
        (None, _) => Kind::Odd("it does not begin as a report of this version"),
        (_, None) => Kind::Odd("it does not end with a signature"),
    }
}

/// What the index needs of a line that begins as a change of keys.
pub(super) fn handover(line: &[u8]) -> Option<Handover<'_>> {
    const FIELDS: [(&[u8], usize); 5] = [
        (b",\"new_signature\":\"", SIGNATURE_DIGITS),
        (b",\"old_signature\":\"", SIGNATURE_DIGITS),
        (PREVIOUS_BEGINS, SIGNATURE_DIGITS),
        (b",\"new\":\"", KEY_DIGITS),
        (b",\"old\":\"", KEY_DIGITS),
    ];
    let mut rest = line.strip_suffix(b"}")?;
    let mut found = [""; 5];
    for (found, (begins, count)) in found.iter_mut().zip(FIELDS) {
        (rest, *found) = digits(rest.strip_suffix(b"\"")?, begins, count)?;
    }
    let feed = rest.strip_suffix(b"\"")?.strip_prefix(CHANGE_BEGINS)?;
    let feed = std::str::from_utf8(feed).ok()?;
    check_feed(feed).ok()?;
    Some(Handover {
        feed,
        previous: tip_of(found[2])?,
        tip: tip_of(found[0])?,
    })
}

fn tip_of(digits: &str) -> Option<Tip> {
    Tip::from_str_radix(digits.get(..TIP_DIGITS)?, 16).ok()
}

/// What the index needs of a line that was taken for a report, and that begins and ends so.
pub fn head<'a>(line: &'a [u8], end: &[u8]) -> Option<Head<'a>> {
    begin(line, tail(end)?)
}

/// The signature at the end of a report's line, in hexadecimal.
pub fn signature(line: &[u8]) -> Option<&str> {
    let rest = line.strip_suffix(LINE_ENDS)?;
    let (_, digits) = digits(rest, SIGNATURE_BEGINS, SIGNATURE_DIGITS)?;
    Some(digits)
}

/// So many hexadecimal digits at the end, and what is before them and `begins`.
fn digits<'a>(line: &'a [u8], begins: &[u8], count: usize) -> Option<(&'a [u8], &'a str)> {
    let (rest, digits) = line.split_at_checked(line.len().checked_sub(count)?)?;
    let rest = rest.strip_suffix(begins)?;
    let hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let digits = Some(digits).filter(|digits| digits.iter().all(hex));
    Some((rest, std::str::from_utf8(digits?).ok()?))
}

/// The beginnings of the signatures of the record before, and of the report itself.
fn tail(line: &[u8]) -> Option<(Option<Tip>, Tip)> {
    let rest = line.strip_suffix(LINE_ENDS)?;
    let (rest, own) = digits(rest, SIGNATURE_BEGINS, SIGNATURE_DIGITS)?;
    let rest = [&b",\"ephemeral\":true"[..], b",\"ephemeral\":false"]
        .into_iter()
        .find_map(|end| rest.strip_suffix(end))?;
    let (rest, _) = digits(rest.strip_suffix(b"\"")?, KEY_BEGINS, KEY_DIGITS)?;
    if rest.ends_with(NO_PREVIOUS) {
        return Some((None, tip_of(own)?));
    }
    let rest = rest.strip_suffix(b"\"")?;
    let (_, previous) = digits(rest, PREVIOUS_BEGINS, SIGNATURE_DIGITS)?;
    Some((Some(tip_of(previous)?), tip_of(own)?))
}

fn begin(line: &[u8], (previous, tip): (Option<Tip>, Tip)) -> Option<Head<'_>> {
    let mut rest = Rest(line);
    rest.literal("{\"rsoracle_report\":2,\"number\":")?;
    let number = rest.number().filter(|number| *number > 0)?;
    rest.literal(",\"feed\":\"")?;
    let feed = rest.until(b'"').filter(|feed| check_feed(feed).is_ok())?;
    rest.literal("\",\"price\":")?;
    rest.value()?;
    rest.literal(",\"decision\":\"")?;
    let decision = rest.until(b'"')?.parse().ok()?;
    rest.literal("\"")?;
    for key in SKIPPED {
        rest.key(key)?;
        rest.value()?;
    }
    rest.key("lateness_us")?;
    if rest.literal("null").is_none() {
        for name in [
            "{\"median\":",
            ",\"max\":",
            ",\"spread_median\":",
            ",\"spread_max\":",
        ] {
            rest.literal(name)?;
            rest.number()?;
        }
        rest.literal("}")?;
    }
    rest.key("round_start_us")?;
    let start_us = rest.number()?;
    rest.literal(",\"rule\":\"")?;
    Some(Head {
        number,
        feed,
        decision,
        start_us,
        previous,
        tip,
    })
}

/// What is left of a line.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn literal(&mut self, text: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(text.as_bytes())?;
        Some(())
    }

    fn key(&mut self, name: &str) -> Option<()> {
        self.literal(",\"")?;
        self.literal(name)?;
        self.literal("\":")
    }

    /// The text before the next `end`, which must be near.
    fn until(&mut self, end: u8) -> Option<&'a str> {
        let near = &self.0[..self.0.len().min(SKIPPED_BYTES_MAX)];
        let length = near.iter().position(|byte| *byte == end)?;
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    /// Passes over a value: a number, `null`, `true` or `false`, or a time.
    fn value(&mut self) -> Option<()> {
        let text = self.until(b',')?;
        let time = text
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'));
        let sound = match time {
            Some(time) => time
                .bytes()
                .all(|byte| byte.is_ascii_digit() || b"-:.TZ".contains(&byte)),
            None => matches!(text, "null" | "true" | "false") || is_number(text),
        };
        sound.then_some(())
    }

    /// A whole number without leading zeros.
    fn number(&mut self) -> Option<u64> {
        let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit());
        let (digits, rest) = self.0.split_at(digits.count());
        self.0 = rest;
        let plain = digits.len() == 1 || !digits.starts_with(b"0");
        let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
        (plain && number <= TIME_US_MAX).then_some(number)
    }
}

fn is_number(text: &str) -> bool {
    let digit_or_point = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    !text.is_empty() && text.bytes().all(digit_or_point)
}

/// Lines for tests, which look like reports as far as the index looks.
#[cfg(test)]
pub(super) mod lines {
    /// The signature of the report with this number.
    fn signature(number: u64) -> String {
        format!("{number:016x}").repeat(8)
    }

    /// The line of a report with this number, and so many bytes in its middle.
    pub(in super::super) fn line(number: u64, pad: usize) -> String {
        let start_us = 1_699_999_999_300_000 + 100_000 * number;
        let mut line = format!(
            "{{\"rsoracle_report\":2,\"number\":{number},\"feed\":\"BTC/USD\",\"price\":100000.5,\"decision\":\"unchanged\",\"time\":\"2023-11-14T22:13:20.000001Z\",\"time_us\":1700000000000001"
        );
        for key in &super::SKIPPED[2..] {
            line.push_str(&format!(",\"{key}\":5"));
        }
        line.push_str(&format!(
            ",\"lateness_us\":{{\"median\":1,\"max\":2,\"spread_median\":3,\"spread_max\":4}},\"round_start_us\":{start_us},\"rule\":\"mean\"{}",
            "x".repeat(pad)
        ));
        line.push_str(&match number {
            1 => ",\"previous\":null".to_owned(),
            _ => format!(",\"previous\":\"{}\"", signature(number - 1)),
        });
        line.push_str(&format!(
            ",\"aggregator_key\":\"{}\",\"ephemeral\":true,\"signature\":\"{}\"}}",
            "0b".repeat(32),
            signature(number)
        ));
        line
    }

    /// The line of a change of keys between records with these numbers.
    pub(in super::super) fn change(previous: u64, own: u64) -> String {
        format!(
            "{{\"rsoracle_key_change\":2,\"feed\":\"BTC/USD\",\"old\":\"{0}\",\"new\":\"{0}\",\"previous\":\"{1}\",\"old_signature\":\"{2}\",\"new_signature\":\"{2}\"}}",
            "0b".repeat(32),
            signature(previous),
            signature(own)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rsoracle_proof::reason::{Abstention, Miss, Reject};

    fn line() -> String {
        super::lines::line(7, 0)
    }

    #[test]
    fn what_the_index_needs_is_found() {
        let line = line();
        let head = Head {
            number: 7,
            feed: "BTC/USD",
            decision: Decision::Unchanged,
            start_us: 1_700_000_000_000_000,
            previous: Some(0x0000_0000_0000_0006_0000_0000_0000_0006),
            tip: 0x0000_0000_0000_0007_0000_0000_0000_0007,
        };
        assert_eq!(scan(line.as_bytes()), Kind::Report(head));
        let none = line.replace(
            "{\"median\":1,\"max\":2,\"spread_median\":3,\"spread_max\":4}",
            "null",
        );
        assert_eq!(scan(none.as_bytes()), Kind::Report(head));
        let own = "0000000000000007".repeat(8);
        assert_eq!(signature(line.as_bytes()), Some(&*own));
        let first = super::lines::line(1, 0).replace("ephemeral\":true", "ephemeral\":false");
        let Kind::Report(head) = scan(first.as_bytes()) else {
            panic!("{first}");
        };
        assert_eq!((head.number, head.previous), (1, None));
    }

    #[test]
    fn every_other_spelling_of_the_head_or_the_end_is_odd() {
        let good = line();
        let end = good.find(",\"rule\"").unwrap() + 8;
        let tail = good.find("previous").unwrap() - 1;
        for at in (0..end).chain(tail..good.len()) {
            let mut cut = good.clone();
            cut.remove(at);
            let mut twice = good.clone();
            twice.insert(at, good.as_bytes()[at] as char);
            // A digit of a value may be any: what follows from it is not looked at.
            let byte = good.as_bytes()[at];
            let from = good.find("\"2023").expect("the time");
            let in_time = (from + 1..from + 28).contains(&at);
            let value = in_time
                || byte.is_ascii_digit()
                || byte.is_ascii_uppercase()
                || b"./".contains(&byte);
            for text in [cut, twice] {
                let odd = matches!(scan(text.as_bytes()), Kind::Odd(_));
                assert!(odd || value && at < end, "{at}: {text}");
            }
        }
        for (from, to) in [
            ("report\":2", "report\":1"),
            ("\"number\":7", "\"number\":07"),
            ("\"number\":7", "\"number\":0"),
            ("\"number\":7", "\"number\":9007199254740992"),
            ("BTC/USD", ""),
            ("BTC/USD", "BTC USD"),
            ("unchanged", "changed"),
            (",\"spread\":5", ""),
            ("\"age_us\":5,\"embedded\":5", "\"embedded\":5,\"age_us\":5"),
            ("\"round_start_us\":1", "\"round_start_us\":-1"),
            ("07\"}", "0A\"}"),
            ("07\"}", "07\"} "),
            ("0b\",", "0B\","),
            ("\"ephemeral\":true", "\"ephemeral\":null"),
            ("6\",\"aggregator", "\",\"aggregator"),
            ("{\"rsoracle", " {\"rsoracle"),
            ("\"rule\"", "\r\"rule\""),
            ("mean", "m\u{e9}an"),
            ("mean", "m\0an"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from}");
            assert!(matches!(scan(bad.as_bytes()), Kind::Odd(_)), "{from} {to}");
        }
        for bytes in [&b""[..], b"{", b"{}", b"null", &[0xff; 300]] {
            assert!(matches!(scan(bytes), Kind::Odd(_)));
        }
    }

    #[test]
    fn a_change_of_keys_is_found_and_every_other_spelling_is_odd() {
        let good = super::lines::change(6, 100);
        let found = Handover {
            feed: "BTC/USD",
            previous: 0x0000_0000_0000_0006_0000_0000_0000_0006,
            tip: 0x0000_0000_0000_0064_0000_0000_0000_0064,
        };
        assert_eq!(scan(good.as_bytes()), Kind::Change(found));
        let name = good.find("BTC/USD").unwrap();
        for at in (0..good.len()).filter(|at| !(name..name + 7).contains(at)) {
            let mut cut = good.clone();
            cut.remove(at);
            let mut twice = good.clone();
            twice.insert(at, good.as_bytes()[at] as char);
            for text in [cut, twice] {
                assert!(
                    matches!(scan(text.as_bytes()), Kind::Odd(_)),
                    "{at}: {text}"
                );
            }
        }
    }

    #[test]
    fn every_sentence_of_a_report_is_visible_ascii() {
        let all = Miss::ALL.iter().map(|one| one.sentence());
        let all = all.chain(Abstention::ALL.iter().map(|one| one.sentence()));
        for sentence in all.chain(Reject::ALL.iter().map(|one| one.sentence())) {
            assert!(
                sentence.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
                "{sentence}"
            );
        }
    }
}
