//! Faults: how the embedded exchange misbehaves on request, for tests.
//!
//! Invariant: what a connection's K-th request meets is a pure function of the faults and K ([`Plan::of`]), so a
//! test that injects a fault gets it every time. Delays, pings and lies add up; of several faults that put
//! something else in the answer's place, the first one given wins.
//! What this module does not do: carry a plan out; `talk` does.

use crate::args::{Usage, duration_us, wrong};

/// HTTP statuses with which an upgrade can be refused.
pub const UPGRADE_CODES: [u16; 4] = [451, 403, 418, 429];

/// One fault and the requests it befalls.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// What goes wrong.
    pub kind: Kind,
    /// With which of a connection's requests.
    pub when: When,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Close the connection instead of answering.
    Drop,
    /// Never answer on this connection again.
    Hang,
    /// Answer with text that is not JSON.
    Garbage,
    /// Answer with another id.
    WrongId,
    /// Answer with another symbol.
    WrongSymbol,
    /// Answer with this text as the price.
    Price(String),
    /// Answer with the price times this factor.
    Scale(f64),
    /// Answer with a message of 20 MB.
    Large,
    /// Answer with this status (429 or 418), `retryAfter` that far ahead.
    Status {
        /// 429 or 418.
        code: u16,
        /// How far ahead `retryAfter` is, in microseconds.
        retry_us: u64,
    },
    /// Refuse the websocket upgrade with this HTTP status.
    Upgrade(u16),
    /// Answer only once a ping was echoed.
    Ping,
    /// Answer this many microseconds later.
    Slow(u64),
}

/// Which requests of a connection, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Every one.
    Every,
    /// Only this one.
    Only(u64),
    /// This one and all after it.
    From(u64),
}

impl When {
    fn holds(self, k: u64) -> bool {
        match self {
            When::Every => true,
            When::Only(only) => k == only,
            When::From(first) => k >= first,
        }
    }
}

impl Fault {
    /// Reads `NAME[:VALUE][@K|@K..]`; the error names the fault and says what would be right.
    pub fn parse(text: &str) -> Result<Fault, Usage> {
        let refuse = |right: &str| wrong("fault", text, right);
        let (what, when) = match text.rsplit_once('@') {
            Some((what, when)) => (what, Some(when)),
            None => (text, None),
        };
        let (name, value) = match what.split_once(':') {
            Some((name, value)) => (name, Some(value)),
            None => (what, None),
        };
        let kind = kind(name, value).map_err(&refuse)?;
        let when = match when {
            None => When::Every,
            Some(_) if matches!(kind, Kind::Upgrade(_)) => {
                return Err(refuse(
                    "upgrade:CODE without @: an upgrade comes before all requests",
                ));
            }
            Some(when) => parse_when(when).ok_or_else(|| {
                refuse("after @ the number of a request from 1, as in @3 or @3..")
            })?,
        };
        Ok(Fault { kind, when })
    }
}

fn parse_when(text: &str) -> Option<When> {
    let (digits, open) = match text.strip_suffix("..") {
        Some(digits) => (digits, true),
        None => (text, false),
    };
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let k = digits.parse().ok().filter(|k| *k > 0)?;
    Some(if open { When::From(k) } else { When::Only(k) })
}

fn kind(name: &str, value: Option<&str>) -> Result<Kind, &'static str> {
    const SCALE: &str = "scale:FACTOR with a finite number, as in scale:1.5";
    const STATUS: &str = "status:429:DURATION or status:418:DURATION, as in status:429:2s";
    const UPGRADE: &str = "upgrade:CODE with one of 451, 403, 418, 429";
    const SLOW: &str = "slow:DURATION, as in slow:300ms";
    match (name, value) {
        ("drop", None) => Ok(Kind::Drop),
        ("hang", None) => Ok(Kind::Hang),
        ("garbage", None) => Ok(Kind::Garbage),
        ("wrong-id", None) => Ok(Kind::WrongId),
        ("wrong-symbol", None) => Ok(Kind::WrongSymbol),
        ("large", None) => Ok(Kind::Large),
        ("ping", None) => Ok(Kind::Ping),
        ("drop" | "hang" | "garbage" | "wrong-id" | "wrong-symbol" | "large" | "ping", Some(_)) => {
            Err("this fault without a value")
        }
        ("price", Some(text)) => Ok(Kind::Price(text.to_owned())),
        ("price", None) => Err("price:TEXT, as in price:NaN; the text may be empty, as in price:"),
        ("scale", value) => value
            .and_then(|text| text.parse().ok())
            .filter(|factor: &f64| factor.is_finite())
            .map(Kind::Scale)
            .ok_or(SCALE),
        ("status", value) => {
            let (code, after) = value.and_then(|v| v.split_once(':')).ok_or(STATUS)?;
            let code = match code {
                "429" => 429,
                "418" => 418,
                _ => return Err(STATUS),
            };
            let retry_us = duration_us(after).map_err(|_| STATUS)?;
            Ok(Kind::Status { code, retry_us })
        }
        ("upgrade", value) => value
            .and_then(|text| text.parse().ok())
            .filter(|code| UPGRADE_CODES.contains(code))
            .map(Kind::Upgrade)
            .ok_or(UPGRADE),
        ("slow", value) => value
            .and_then(|text| duration_us(text).ok())
            .map(Kind::Slow)
            .ok_or(SLOW),
        _ => Err(
            "drop, hang, garbage, wrong-id, wrong-symbol, price:TEXT, scale:FACTOR, large, status:CODE:DURATION, upgrade:CODE, ping or slow:DURATION",
        ),
    }
}

/// The HTTP status that upgrades are refused with, if they are.
pub fn upgrade_refusal(faults: &[Fault]) -> Option<u16> {
    faults.iter().find_map(|fault| match fault.kind {
        Kind::Upgrade(code) => Some(code),
        _ => None,
    })
}

/// What one request meets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Answer this much later.
    pub delay_us: u64,
    /// Answer only once a ping was echoed.
    pub ping: bool,
    /// What is done at all.
    pub deed: Deed,
    /// What is false in the answer.
    pub lie: Lie,
}

/// What is done when a request has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deed {
    /// It is answered.
    #[default]
    Answer,
    /// The connection is closed.
    Drop,
    /// Nothing, from now on.
    Hang,
    /// It is answered with text that is not JSON.
    Garbage,
    /// It is answered with a message of 20 MB.
    Large,
    /// It is answered with this status.
    Status {
        /// 429 or 418.
        code: u16,
        /// How far ahead `retryAfter` is, in microseconds.
        retry_us: u64,
    },
}

/// What is false in an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lie {
    /// The id is another one.
    pub wrong_id: bool,
    /// The symbol is another one.
    pub wrong_symbol: bool,
    /// The price is this text.
    pub price: Option<String>,
    /// The price is this many times itself.
    pub scale: Option<f64>,
}

impl Plan {
    /// What the `k`-th request of a connection meets.
    pub fn of(faults: &[Fault], k: u64) -> Plan {
        let mut plan = Plan::default();
        for fault in faults.iter().filter(|fault| fault.when.holds(k)) {
            let deed = match &fault.kind {
                Kind::Drop => Deed::Drop,
                Kind::Hang => Deed::Hang,
                Kind::Garbage => Deed::Garbage,
                Kind::Large => Deed::Large,
                Kind::Status { code, retry_us } => Deed::Status {
                    code: *code,
                    retry_us: *retry_us,
                },
                other => {
                    plan.add(other);
                    continue;
                }
            };
            if plan.deed == Deed::Answer {
                plan.deed = deed;
            }
        }
        plan
    }

    fn add(&mut self, kind: &Kind) {
        match kind {
            Kind::Ping => self.ping = true,
            Kind::Slow(us) => self.delay_us = self.delay_us.saturating_add(*us),
            Kind::WrongId => self.lie.wrong_id = true,
            Kind::WrongSymbol => self.lie.wrong_symbol = true,
            Kind::Price(text) => self.lie.price = Some(text.clone()),
            Kind::Scale(factor) => self.lie.scale = Some(self.lie.scale.unwrap_or(1.0) * factor),
            Kind::Drop
            | Kind::Hang
            | Kind::Garbage
            | Kind::Large
            | Kind::Status { .. }
            | Kind::Upgrade(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Kind, When) {
        let fault = Fault::parse(text).unwrap_or_else(|usage| panic!("{usage}"));
        (fault.kind, fault.when)
    }

    #[test]
    fn every_fault_of_the_help_text_is_read() {
        let status = |code, retry_us| Kind::Status { code, retry_us };
        for (text, kind, when) in [
            ("drop", Kind::Drop, When::Every),
            ("hang@2", Kind::Hang, When::Only(2)),
            ("garbage@3..", Kind::Garbage, When::From(3)),
            ("wrong-id", Kind::WrongId, When::Every),
            ("wrong-symbol@1", Kind::WrongSymbol, When::Only(1)),
            ("price:NaN", Kind::Price("NaN".into()), When::Every),
            ("price:", Kind::Price(String::new()), When::Every),
            ("price:@2", Kind::Price(String::new()), When::Only(2)),
            ("price:a:b", Kind::Price("a:b".into()), When::Every),
            (
                "price:1e400@2..",
                Kind::Price("1e400".into()),
                When::From(2),
            ),
            ("scale:1.5", Kind::Scale(1.5), When::Every),
            ("scale:-1@4", Kind::Scale(-1.0), When::Only(4)),
            ("large", Kind::Large, When::Every),
            ("status:429:2s", status(429, 2_000_000), When::Every),
            ("status:418:500ms@9", status(418, 500_000), When::Only(9)),
            ("upgrade:451", Kind::Upgrade(451), When::Every),
            ("ping", Kind::Ping, When::Every),
            ("slow:300ms@2..", Kind::Slow(300_000), When::From(2)),
        ] {
            assert_eq!(parsed(text), (kind, when), "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would_be_right() {
        for (text, says) in [
            ("", "drop, hang"),
            ("dorp", "drop, hang"),
            ("Drop", "drop, hang"),
            ("drop:1", "without a value"),
            ("drop:", "without a value"),
            ("price", "price:TEXT"),
            ("scale", "scale:FACTOR"),
            ("scale:x", "scale:FACTOR"),
            ("scale:inf", "scale:FACTOR"),
            ("scale:NaN", "scale:FACTOR"),
            ("status:429", "status:429:DURATION"),
            ("status:500:1s", "status:429:DURATION"),
            ("status:429:1", "status:429:DURATION"),
            ("upgrade:500", "451, 403, 418, 429"),
            ("upgrade", "451, 403, 418, 429"),
            ("upgrade:451@1", "without @"),
            ("slow", "slow:DURATION"),
            ("slow:3", "slow:DURATION"),
            ("drop@", "number of a request"),
            ("drop@0", "number of a request"),
            ("drop@+1", "number of a request"),
            ("drop@1...", "number of a request"),
            ("drop@..", "number of a request"),
            ("drop@-1", "number of a request"),
        ] {
            let Usage(sentence) = Fault::parse(text).unwrap_err();
            assert!(sentence.contains(says), "{text}: {sentence}");
            assert!(sentence.contains(&format!("{text:?}")), "{sentence}");
        }
    }

    #[test]
    fn a_plan_holds_what_befalls_that_request_and_no_other() {
        let faults: Vec<Fault> = [
            "slow:1ms",
            "slow:2ms@2..",
            "ping@3",
            "garbage@2",
            "drop@2..",
            "price:5@1",
            "scale:2@1",
            "scale:3@1",
            "upgrade:403",
        ]
        .iter()
        .map(|text| Fault::parse(text).unwrap())
        .collect();
        let first = Plan::of(&faults, 1);
        assert_eq!(
            (first.delay_us, first.ping, first.deed),
            (1_000, false, Deed::Answer)
        );
        assert_eq!(
            (first.lie.price.as_deref(), first.lie.scale),
            (Some("5"), Some(6.0))
        );
        let second = Plan::of(&faults, 2);
        assert_eq!((second.delay_us, second.deed), (3_000, Deed::Garbage));
        assert_eq!(second.lie, Lie::default());
        let third = Plan::of(&faults, 3);
        assert_eq!((third.ping, third.deed), (true, Deed::Drop));
        assert_eq!(upgrade_refusal(&faults), Some(403));
        assert_eq!(Plan::of(&[], 1), Plan::default());
    }
}
