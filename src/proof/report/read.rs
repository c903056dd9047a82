//! Parses the line of a report.
//!
//! Invariant: anything unexpected is refused, with its position; nothing is guessed, defaulted or reordered. Values that can be
//! computed are skipped: a verifier writes the report again and compares the lines. No signature is checked here.

use super::{Flaw, Refused, Report};
use crate::aggregate::Rule;
use crate::limits::{
    COLLECTORS_MAX, FEED_BYTES_MAX, PPM_MAX, SAMPLES_MAX, SOURCE_BYTES_MAX, TIME_US_MAX,
};
use crate::price::is_price;
use crate::publish::{Policy, PublishedPrice};
use crate::reason::Reject;
use crate::record::{Answer, Observation, Record, SignedAnswer};
use crate::round::{Part, Round};
use crate::schedule::Schedule;
use crate::seal::{Keys, PublicKey, unhex};
use crate::terms::{Seat, Terms};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Display;
use core::ops::RangeInclusive;
use core::str::FromStr;

/// Parses a whole line by `read`. `keys` caches decoded keys from line to line.
pub fn whole<T>(
    line: &str,
    keys: &mut Keys,
    read: impl FnOnce(&mut Cursor) -> Result<T, Flaw>,
) -> Result<T, Flaw> {
    let mut cursor = Cursor { line, at: 0, keys };
    let value = read(&mut cursor)?;
    if cursor.at < line.len() {
        return Err(cursor.flaw("the end of the line"));
    }
    Ok(value)
}

/// A position in a line.
pub struct Cursor<'a, 'k> {
    line: &'a str,
    at: usize,
    keys: &'k mut Keys,
}

impl<'a> Cursor<'a, '_> {
    pub(super) fn flaw(&self, expected: impl Into<String>) -> Flaw {
        Flaw {
            at: self.at,
            expected: expected.into(),
        }
    }

    fn rest(&self) -> &'a str {
        &self.line[self.at..]
    }

    fn takes(&mut self, literal: &str) -> bool {
        let there = self.rest().starts_with(literal);
        if there {
            self.at += literal.len();
        }
        there
    }

    pub(super) fn expect(&mut self, literal: &str) -> Result<(), Flaw> {
        if self.takes(literal) {
            Ok(())
        } else {
            Err(self.flaw(literal))
        }
    }

    /// Takes a value by `read`, and returns what `fit` makes of it. If that is nothing, the flaw is where the value begins.
    fn fitting<T, U>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Flaw>,
        fit: impl FnOnce(T) -> Option<U>,
        expected: &str,
    ) -> Result<U, Flaw> {
        let at = self.at;
        let expected = expected.to_owned();
        fit(read(self)?).ok_or(Flaw { at, expected })
    }

    /// Takes microseconds, or another number as large.
    pub(super) fn us(&mut self) -> Result<u64, Flaw> {
        self.number(TIME_US_MAX)
    }

    /// Takes microseconds or `null`.
    fn some_us(&mut self) -> Result<Option<u64>, Flaw> {
        self.or_null(Self::us)
    }

    /// Takes the next field, which has this key, and its value by `read`.
    pub(super) fn keyed<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Self) -> Result<T, Flaw>,
    ) -> Result<T, Flaw> {
        let rest = self.rest().strip_prefix(",\"");
        let rest = rest.and_then(|rest| rest.strip_prefix(key));
        if !rest.is_some_and(|rest| rest.starts_with("\":")) {
            return Err(self.flaw(format!(",\"{key}\":")));
        }
        self.at += key.len() + 4;
        read(self)
    }

    /// Skips a value that can be computed: everything up to the value of the next field `key`.
    fn pass_to(&mut self, key: &str) -> Result<(), Flaw> {
        let next = format!(",\"{key}\":");
        let Some(length) = self.rest().find(&next) else {
            return Err(self.flaw(format!("a value, and then {next}")));
        };
        self.at += length + next.len();
        Ok(())
    }

    /// Takes a whole number of this type, of at most `max`.
    pub(super) fn number<T: FromStr + PartialOrd + Display>(&mut self, max: T) -> Result<T, Flaw> {
        let rest = self.rest();
        let length = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number = rest[..length].parse().ok().filter(|it| *it <= max);
        let number = number.ok_or_else(|| self.flaw(format!("a whole number of at most {max}")))?;
        self.at += length;
        Ok(number)
    }

    /// Takes a number that is `sound`.
    fn float(&mut self, sound: impl Fn(f64) -> bool, expected: &str) -> Result<f64, Flaw> {
        let is_part = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
        let length = self.rest().bytes().take_while(is_part).count();
        let number = self.rest()[..length].parse().ok();
        let Some(number) = number.filter(|number: &f64| number.is_finite()) else {
            return Err(self.flaw("a number"));
        };
        if !sound(number) {
            return Err(self.flaw(expected));
        }
        self.at += length;
        Ok(number)
    }

    fn price(&mut self) -> Result<f64, Flaw> {
        self.float(is_price, "a price")
    }

    /// Takes a fraction above 0 or `null`. (In the signed bytes, 0 means that there is none.)
    fn part(&mut self) -> Result<Option<f64>, Flaw> {
        self.or_null(|cursor| cursor.float(|part| part > 0.0, "null or a fraction above 0"))
    }

    pub(super) fn or_null<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Flaw>,
    ) -> Result<Option<T>, Flaw> {
        if self.takes("null") {
            Ok(None)
        } else {
            read(self).map(Some)
        }
    }

    fn truth(&mut self) -> Result<bool, Flaw> {
        if self.takes("true") {
            return Ok(true);
        }
        self.expect("false").map(|()| false)
    }

    /// Takes text in quotes, without escapes.
    fn text(&mut self, bytes_max: usize) -> Result<&'a str, Flaw> {
        self.expect("\"")?;
        let rest = self.rest();
        let length = rest.find('"').filter(|length| *length <= bytes_max);
        let Some(length) = length.filter(|length| !rest[..*length].contains('\\')) else {
            return Err(self.flaw(format!("text of at most {bytes_max} bytes without escapes")));
        };
        self.at += length + 1;
        Ok(&rest[..length])
    }

    /// Takes a name that has a fixed-width field in the signed bytes.
    pub(super) fn name(&mut self, bytes_max: usize) -> Result<String, Flaw> {
        let visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let name = |text: &str| (!text.is_empty() && visible(text)).then(|| text.to_owned());
        let right = "a name of visible ASCII characters";
        self.fitting(|cursor| cursor.text(bytes_max), name, right)
    }

    /// Takes one of a table, by its text in quotes.
    fn word<T: FromStr>(&mut self, what: &str) -> Result<T, Flaw> {
        self.fitting(|cursor| cursor.text(200), |text| text.parse().ok(), what)
    }

    pub(super) fn hex<const N: usize>(&mut self) -> Result<[u8; N], Flaw> {
        let right = format!("{} lower-case hexadecimal digits", 2 * N);
        self.fitting(|cursor| cursor.text(2 * N), unhex, &right)
    }

    pub(super) fn public_key(&mut self) -> Result<PublicKey, Flaw> {
        let key = |cursor: &mut Self| cursor.hex().map(|bytes| cursor.keys.decode(&bytes));
        let right = "an Ed25519 public key that is not of small order";
        self.fitting(key, |key| key, right)
    }

    /// Takes a list of objects, which `read` reads from behind the brace on, given their index.
    fn list<T>(
        &mut self,
        count: RangeInclusive<usize>,
        mut read: impl FnMut(&mut Self, usize) -> Result<T, Flaw>,
    ) -> Result<Vec<T>, Flaw> {
        // Room for a usual number: a line that claims more must contain them before it takes more memory.
        let mut list = Vec::with_capacity(*count.end().min(&16));
        self.expect("[")?;
        while list.len() < *count.start() || !self.takes("]") {
            if list.len() == *count.end() {
                return Err(self.flaw("]"));
            }
            self.expect(if list.is_empty() { "{" } else { ",{" })?;
            list.push(read(self, list.len())?);
            self.expect("}")?;
        }
        Ok(list)
    }

    pub(super) fn report(&mut self) -> Result<Report, Flaw> {
        if self.rest().starts_with("{\"rsoracle_report\":1,") {
            return Err(self.flaw("a report of protocol 2, and this is one of protocol 1"));
        }
        self.expect("{\"rsoracle_report\":2,\"number\":")?;
        let number = self.us()?;
        let feed = self.keyed("feed", |cursor| cursor.name(FEED_BYTES_MAX))?;
        self.pass_to("round_start_us")?;
        let start_us = self.us()?;
        let rule = self.keyed("rule", |cursor| cursor.word("a rule"))?;
        let sample_rule = self.keyed("sample_rule", Self::sample_rule)?;
        let n = self.keyed("n", |cursor| cursor.number(COLLECTORS_MAX))?;
        self.pass_to("exchanges_min")?;
        let ppm = |cursor: &mut Self| cursor.number(PPM_MAX);
        let mut terms = Terms {
            feed,
            rule,
            sample_rule,
            exchanges_min: self.number(u16::MAX)?,
            age_us_max: self.keyed("age_us_max", Self::some_us)?,
            spread_ppm_max: self.keyed("spread_ppm_max", |cursor| cursor.or_null(ppm))?,
            schedule: self.schedule()?,
            seats: Vec::new(),
        };
        self.pass_to("policy")?;
        let policy = self.policy()?;
        let last = self.keyed("last_published", |cursor| cursor.or_null(Self::published))?;
        let (n, samples) = (usize::from(n), terms.schedule.samples as usize);
        let slot = |cursor: &mut Self, slot| cursor.slot(slot, samples);
        let slots = self.keyed("collectors", |cursor| cursor.list(n..=n, slot))?;
        let (seats, parts) = slots.into_iter().unzip();
        terms.seats = seats;
        let refused = self.keyed("refused", Self::refused)?;
        let previous = self.keyed("previous", |cursor| cursor.or_null(Self::hex))?;
        let aggregator = self.keyed("aggregator_key", Self::public_key)?;
        let ephemeral = self.keyed("ephemeral", Self::truth)?;
        let signature = self.keyed("signature", Self::hex)?;
        self.expect("}")?;
        let end_us = start_us.saturating_add(terms.schedule.length_us());
        if samples == 0 || end_us > TIME_US_MAX {
            return Err(self.flaw("a report of a possible round"));
        }
        let round = Round {
            parts,
            ..Round::new(terms, start_us)
        };
        Ok(Report {
            previous,
            ephemeral,
            signature,
            ..Report::new(number, aggregator, round, refused, policy, last)
        })
    }

    fn sample_rule(&mut self) -> Result<Rule, Flaw> {
        let right = "mean or median";
        let of_samples = |rule: Rule| (rule != Rule::TrimmedMean).then_some(rule);
        self.fitting(|cursor| cursor.word(right), of_samples, right)
    }

    /// Takes the schedule, from the key `samples` on.
    fn schedule(&mut self) -> Result<Schedule, Flaw> {
        Ok(Schedule {
            samples: self.keyed("samples", |cursor| cursor.number(SAMPLES_MAX))?,
            interval_us: self.keyed("interval_us", Self::us)?,
            period_us: self.keyed("period_us", Self::us)?,
            first_start_us: self.keyed("first_start_us", Self::us)?,
            end_us: self.keyed("end_us", Self::some_us)?,
        })
    }

    fn policy(&mut self) -> Result<Policy, Flaw> {
        self.expect("{\"deviation\":")?;
        let policy = Policy {
            deviation: self.part()?,
            heartbeat_us: self.keyed("heartbeat_us", Self::some_us)?,
            move_max: self.keyed("move_max", Self::part)?,
        };
        self.expect("}")?;
        Ok(policy)
    }

    fn published(&mut self) -> Result<PublishedPrice, Flaw> {
        self.expect("{\"number\":")?;
        let published = PublishedPrice {
            number: self.us()?,
            price: self.keyed("price", Self::price)?,
            time_us: self.keyed("time_us", Self::us)?,
        };
        self.expect("}")?;
        Ok(published)
    }

    fn slot(&mut self, slot: usize, samples: usize) -> Result<(Seat, Part), Flaw> {
        self.expect("\"slot\":")?;
        if self.us()? != slot as u64 {
            return Err(self.flaw("slots in order before this"));
        }
        let source = self.keyed("source", |cursor| cursor.name(SOURCE_BYTES_MAX))?;
        let key = self.keyed("key", |cursor| cursor.or_null(Self::public_key))?;
        self.pass_to("price")?;
        let part = Part {
            observation: self.observation()?,
            equivocated: self.keyed("second", |cursor| cursor.or_null(Self::signed_answer))?,
            records: self.keyed("samples", |cursor| cursor.list(0..=samples, Self::record))?,
            unfit: None,
        };
        Ok((Seat { key, source }, part))
    }

    /// Takes an answer with the digest of its samples, in braces.
    pub(super) fn signed_answer(&mut self) -> Result<SignedAnswer, Flaw> {
        self.expect("{\"samples_digest\":")?;
        let samples_digest = self.hex()?;
        let observation = self.keyed("price", Self::observation)?;
        self.expect("}")?;
        let missing = || self.flaw("an answer");
        Ok(SignedAnswer {
            samples_digest,
            observation: observation.ok_or_else(missing)?,
        })
    }

    /// Takes an observation, from the value of `price` on.
    fn observation(&mut self) -> Result<Option<Observation>, Flaw> {
        let price = self.or_null(Self::price)?;
        let why = |cursor: &mut Self| cursor.word("a reason to abstain");
        let abstains = self.keyed("abstains", |cursor| cursor.or_null(why))?;
        let timestamp_us = self.keyed("timestamp_us", Self::some_us)?;
        let signature = self.keyed("signature", |cursor| cursor.or_null(Self::hex))?;
        let answer = price.map(Answer::Price).or(abstains.map(Answer::Abstain));
        match (answer, timestamp_us, signature) {
            (Some(answer), Some(timestamp_us), Some(signature)) => Ok(Some(Observation {
                answer,
                timestamp_us,
                signature,
            })),
            (None, None, None) => Ok(None),
            _ => Err(self.flaw("an answer with time and signature, or null for all of them")),
        }
    }

    fn record(&mut self, index: usize) -> Result<Record, Flaw> {
        let price = if self.takes("\"price\":") {
            Ok(self.price()?)
        } else {
            self.expect("\"missing\":")?;
            Err(self.word("a reason for a missing sample")?)
        };
        let mut us = |key| self.takes(key).then(|| self.us()).transpose();
        Ok(Record {
            index: index as u32,
            price,
            lateness_us: us(",\"lateness_us\":")?,
            age_us: us(",\"age_us\":")?,
        })
    }

    fn refused(&mut self) -> Result<Refused, Flaw> {
        let mut refused = Refused::new();
        self.list(0..=usize::MAX, |cursor, _| {
            cursor.expect("\"code\":")?;
            let reason = Reject::from_code(cursor.number(u16::MAX)?);
            let reason = reason.ok_or_else(|| cursor.flaw("the number of a reason"))?;
            cursor.pass_to("count")?;
            let count = cursor.number(u32::MAX)?;
            let twice = refused.insert(reason, count).is_some();
            (!twice)
                .then_some(())
                .ok_or_else(|| cursor.flaw("every reason once"))
        })?;
        Ok(refused)
    }
}
