//! Faults: how the embedded exchange misbehaves on request, for tests.
//!
//! Invariant: what happens to the K-th answer of a connection (on a stream, to its K-th price message) is a pure function of
//! the faults, the dialect, K, the base that it is about and how many answers about that base there were ([`Plan::of`]), so
//! a test that injects a fault gets it every time. Delays, pings and lies add up. Of several faults that replace the answer,
//! the first one given wins. `line`, `talk` and `stream` carry plans out.

use super::dialect;
use super::quote::around;
use crate::flags::args::{Usage, wrong};
use crate::source::capitals;
use rsoracle_proof::duration::duration_us;
use std::borrow::Cow;

/// HTTP statuses with which an upgrade can be refused.
pub(crate) const UPGRADE_CODES: [u16; 5] = [451, 403, 418, 429, 503];
/// Name of Binance's WS-API in a fault, for `binance` and `binance-book` alike. It is the only dialect without a stream.
pub const API: &str = "binance";

/// One fault and the answers that it affects.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// The only dialect that has this fault; `None` if all have it.
    pub dialect: Option<&'static str>,
    /// The only base whose answers it affects, such as `ETH`; `None` if all are affected.
    pub base: Option<String>,
    /// What goes wrong.
    pub kind: FaultKind,
    /// Which answers of a connection it affects.
    pub when: When,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum FaultKind {
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
    /// Answer with these texts as best bid and best ask.
    Quote(String, String),
    /// Answer with a message of 20 MB.
    Large,
    /// Answer with this status.
    Status {
        /// 429 or 418.
        code: u16,
        /// How far ahead `retryAfter` is, in microseconds.
        retry_us: u64,
    },
    /// Refuse the WebSocket upgrade.
    Upgrade(UpgradeRefusal),
    /// Never send a price (with a base: this base's price) on this connection again, but everything else.
    Mute,
    /// Refuse the symbol as unknown.
    Refuse,
    /// Serve the symbol as one that is not traded at present.
    Halt,
    /// Announce in the dialect's words that the connection will end, and end it.
    Reconnect,
    /// Announce maintenance in the dialect's words; if it has none, close the connection.
    Maintenance,
    /// Send times that are this many microseconds too old.
    Stale(u64),
    /// Answer only after the client has answered a ping.
    Ping,
    /// Answer this many microseconds later.
    Slow(u64),
}

/// How an upgrade is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpgradeRefusal {
    /// The HTTP status.
    pub code: u16,
    /// The value of `Retry-After`, in seconds; `None` if the fault gives none.
    pub retry_s: Option<u64>,
}

/// Which answers of a connection (of a fault with a base: which answers about that base), counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Every answer.
    Every,
    /// Only this one.
    Only(u64),
    /// This one and all later ones.
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
    /// Reads `[DIALECT/][BASE/]NAME[:VALUE][@K|@K..]`. The error names the fault and says what would be right.
    pub fn parse(text: &str) -> Result<Fault, Usage> {
        let refuse = |right: &str| wrong("fault", text, right);
        let (dialect, rest) = match before_slash(text) {
            Some((name, rest)) if !capitals(name) => {
                let known = dialect::STREAMS.iter().map(|dialect| dialect.name);
                let found = known.chain([API]).find(|known| *known == name);
                (Some(found.ok_or_else(|| refuse(&dialects()))?), rest)
            }
            _ => (None, text),
        };
        let (base, rest) = match before_slash(rest) {
            Some((base, rest)) if capitals(base) => (Some(base.to_owned()), rest),
            _ => (None, rest),
        };
        if before_slash(rest).is_some() {
            return Err(refuse(&dialects()));
        }
        let (what, when) = match rest.rsplit_once('@') {
            Some((what, when)) => (what, Some(when)),
            None => (rest, None),
        };
        let (name, value) = match what.split_once(':') {
            Some((name, value)) => (name, Some(value)),
            None => (what, None),
        };
        let kind = kind(name, value).map_err(&refuse)?;
        let when = match when {
            None if name == "old-first" => When::Only(1),
            None => When::Every,
            Some(_) if ["upgrade", "old-first", "refuse"].contains(&name) => {
                return Err(refuse(
                    "this fault without @, because it always happens at the same point",
                ));
            }
            Some(when) => parse_when(when).ok_or_else(|| {
                refuse("after @ the number of a request or price message from 1, as in @3 or @3..")
            })?,
        };
        if base.is_some() && matches!(kind, FaultKind::Upgrade(_)) {
            return Err(refuse(
                "this fault without a base, because an upgrade has none",
            ));
        }
        Ok(Fault {
            dialect,
            base,
            kind,
            when,
        })
    }

    fn befalls(&self, dialect: &str) -> bool {
        self.dialect.is_none_or(|own| own == dialect)
    }

    /// Whether it is limited to another base than this one.
    fn spares(&self, base: Option<&str>) -> bool {
        self.base.as_deref().is_some_and(|own| Some(own) != base)
    }
}

/// The part before a slash, and what follows. A slash after a colon is part of the value.
fn before_slash(text: &str) -> Option<(&str, &str)> {
    text.split_once('/').filter(|(name, _)| !name.contains(':'))
}

/// What may precede the slash, for an error message.
fn dialects() -> String {
    let names: Vec<&str> = dialect::STREAMS.iter().map(|known| known.name).collect();
    format!(
        "one of these before the slash: {API} (for binance-book too), {}; then, if the fault is for one base only, the base in capitals, as in kraken/ETH/mute",
        names.join(", ")
    )
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

fn kind(name: &str, value: Option<&str>) -> Result<FaultKind, &'static str> {
    const SCALE: &str = "scale:FACTOR with a finite number, as in scale:1.5";
    const DURATION: &str = "a duration behind the colon, as in slow:300ms";
    let duration = |kind: fn(u64) -> FaultKind| {
        let us = value.and_then(|text| duration_us(text).ok());
        us.map(kind).ok_or(DURATION)
    };
    let bare = match name {
        "drop" => FaultKind::Drop,
        "hang" => FaultKind::Hang,
        "garbage" => FaultKind::Garbage,
        "wrong-id" => FaultKind::WrongId,
        "wrong-symbol" => FaultKind::WrongSymbol,
        "large" => FaultKind::Large,
        "ping" => FaultKind::Ping,
        "mute" => FaultKind::Mute,
        "refuse" => FaultKind::Refuse,
        "halt" => FaultKind::Halt,
        "reconnect" => FaultKind::Reconnect,
        "maintenance" => FaultKind::Maintenance,
        "slow" => return duration(FaultKind::Slow),
        "stale" | "old-first" => return duration(FaultKind::Stale),
        "status" => return status(value),
        "upgrade" => return upgrade(value),
        "price" => {
            let text =
                value.ok_or("price:TEXT, as in price:NaN; the text may be empty, as in price:")?;
            return Ok(FaultKind::Price(text.to_owned()));
        }
        "quote" => {
            let quote = value.and_then(|text| text.split_once(':'));
            return quote
                .map(|(bid, ask)| FaultKind::Quote(bid.to_owned(), ask.to_owned()))
                .ok_or("quote:BID:ASK, as in quote:88000:86000");
        }
        "scale" => {
            let factor = value.and_then(|text| text.parse().ok());
            return factor
                .filter(|factor: &f64| factor.is_finite())
                .map(FaultKind::Scale)
                .ok_or(SCALE);
        }
        _ => {
            return Err(
                "drop, hang, mute, refuse, halt, garbage, wrong-id, wrong-symbol, price:TEXT, scale:FACTOR, quote:BID:ASK, stale:DURATION, old-first:DURATION, large, reconnect, maintenance, status:CODE:DURATION, upgrade:CODE, ping or slow:DURATION",
            );
        }
    };
    match value {
        None => Ok(bare),
        Some(_) => Err("this fault without a value"),
    }
}

fn status(value: Option<&str>) -> Result<FaultKind, &'static str> {
    const RIGHT: &str = "status:429:DURATION or status:418:DURATION, as in status:429:2s";
    let (code, after) = value.and_then(|v| v.split_once(':')).ok_or(RIGHT)?;
    let code = match code {
        "429" => 429,
        "418" => 418,
        _ => return Err(RIGHT),
    };
    let retry_us = duration_us(after).map_err(|_| RIGHT)?;
    Ok(FaultKind::Status { code, retry_us })
}

fn upgrade(value: Option<&str>) -> Result<FaultKind, &'static str> {
    const RIGHT: &str =
        "upgrade:CODE or upgrade:CODE:SECONDS, the code one of 451, 403, 418, 429, 503";
    let value = value.ok_or(RIGHT)?;
    let (code, retry) = match value.split_once(':') {
        Some((code, seconds)) => (code, Some(seconds.parse().map_err(|_| RIGHT)?)),
        None => (value, None),
    };
    let code = code.parse().map_err(|_| RIGHT)?;
    let known = UPGRADE_CODES.contains(&code);
    let turned = FaultKind::Upgrade(UpgradeRefusal {
        code,
        retry_s: retry,
    });
    known.then_some(turned).ok_or(RIGHT)
}

/// How to refuse upgrades to this dialect; `None` to accept them.
pub(crate) fn upgrade_refusal(faults: &[Fault], dialect: &str) -> Option<UpgradeRefusal> {
    faults.iter().find_map(|fault| match fault.kind {
        FaultKind::Upgrade(turned) if fault.befalls(dialect) => Some(turned),
        _ => None,
    })
}

/// Whether symbols of a base are refused as unknown.
pub(crate) fn refuses(faults: &[Fault], dialect: &str, base: &str) -> bool {
    let refused = |fault: &Fault| fault.kind == FaultKind::Refuse && !fault.spares(Some(base));
    faults
        .iter()
        .any(|fault| fault.befalls(dialect) && refused(fault))
}

/// What one answer is about.
#[derive(Clone, Copy, Debug, Default)]
pub struct About<'a> {
    /// The answer's number on its connection, from 1; 0 is the welcome message.
    pub k: u64,
    /// The base whose price it is; `None` if it is no price.
    pub base: Option<&'a str>,
    /// Its number among the answers about this base.
    pub k_of_base: u64,
}

/// What happens to one answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Delay of the answer, in microseconds.
    pub delay_us: u64,
    /// Answer only after the client has answered a ping.
    pub ping: bool,
    /// What is done instead of answering, if anything.
    pub deed: Deed,
    /// Whether the symbol is not traded at present.
    pub halted: bool,
    /// What is false in the answer.
    pub lie: Lie,
}

/// What is done when an answer is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deed {
    /// Answer.
    #[default]
    Answer,
    /// Close the connection.
    Drop,
    /// Do nothing from now on.
    Hang,
    /// Answer with text that is not JSON.
    Garbage,
    /// Answer with a message of 20 MB.
    Large,
    /// Send no price from now on.
    Mute,
    /// Send no price of this base from now on.
    MuteBase,
    /// Announce that the connection will end.
    Reconnect,
    /// Announce maintenance.
    Maintenance,
    /// Answer with this status.
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
    /// Send another id.
    pub wrong_id: bool,
    /// Send another symbol.
    pub wrong_symbol: bool,
    /// Send this text as the price.
    pub price: Option<String>,
    /// Multiply the price by this.
    pub scale: Option<f64>,
    /// Send these texts as best bid and best ask.
    pub quote: Option<(String, String)>,
    /// How much too old times are, in microseconds.
    pub age_us: u64,
}

impl Lie {
    /// The price to send instead of this one.
    pub fn about<'a>(&'a self, price: &'a str) -> Cow<'a, str> {
        let price = self.price.as_deref().unwrap_or(price);
        match (self.scale, price.parse::<f64>()) {
            (Some(factor), Ok(value)) => format!("{:.8}", value * factor).into(),
            _ => price.into(),
        }
    }

    /// Best bid and best ask to send with this price.
    pub fn quote(&self, price: &str) -> (String, String) {
        self.quote.clone().unwrap_or_else(|| around(price))
    }
}

impl Plan {
    /// What happens to an answer.
    pub fn of(faults: &[Fault], dialect: &str, about: About) -> Plan {
        let mut plan = Plan::default();
        let held = |fault: &&Fault| {
            let k = match fault.base {
                Some(_) => about.k_of_base,
                None => about.k,
            };
            fault.befalls(dialect) && !fault.spares(about.base) && fault.when.holds(k)
        };
        for fault in faults.iter().filter(held) {
            let deed = match &fault.kind {
                FaultKind::Drop => Deed::Drop,
                FaultKind::Hang => Deed::Hang,
                FaultKind::Garbage => Deed::Garbage,
                FaultKind::Large => Deed::Large,
                FaultKind::Mute if fault.base.is_some() => Deed::MuteBase,
                FaultKind::Mute => Deed::Mute,
                FaultKind::Reconnect => Deed::Reconnect,
                FaultKind::Maintenance => Deed::Maintenance,
                FaultKind::Status { code, retry_us } => Deed::Status {
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

    fn add(&mut self, kind: &FaultKind) {
        match kind {
            FaultKind::Ping => self.ping = true,
            FaultKind::Halt => self.halted = true,
            FaultKind::Slow(us) => self.delay_us = self.delay_us.saturating_add(*us),
            FaultKind::WrongId => self.lie.wrong_id = true,
            FaultKind::WrongSymbol => self.lie.wrong_symbol = true,
            FaultKind::Price(text) => self.lie.price = Some(text.clone()),
            FaultKind::Scale(factor) => {
                self.lie.scale = Some(self.lie.scale.unwrap_or(1.0) * factor)
            }
            FaultKind::Quote(bid, ask) => self.lie.quote = Some((bid.clone(), ask.clone())),
            FaultKind::Stale(us) => self.lie.age_us = self.lie.age_us.saturating_add(*us),
            // The other kinds are deeds, or happen at the upgrade or the subscription.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (FaultKind, When) {
        let fault = Fault::parse(text).unwrap_or_else(|usage| panic!("{usage}"));
        (fault.kind, fault.when)
    }

    #[test]
    fn every_fault_of_the_help_text_is_read() {
        let status = |code, retry_us| FaultKind::Status { code, retry_us };
        let turned = |code, retry_s| FaultKind::Upgrade(UpgradeRefusal { code, retry_s });
        for (text, kind, when) in [
            ("drop", FaultKind::Drop, When::Every),
            ("hang@2", FaultKind::Hang, When::Only(2)),
            ("garbage@3..", FaultKind::Garbage, When::From(3)),
            ("wrong-id", FaultKind::WrongId, When::Every),
            ("wrong-symbol@1", FaultKind::WrongSymbol, When::Only(1)),
            ("price:NaN", FaultKind::Price("NaN".into()), When::Every),
            ("price:", FaultKind::Price(String::new()), When::Every),
            ("price:@2", FaultKind::Price(String::new()), When::Only(2)),
            ("price:a:b", FaultKind::Price("a:b".into()), When::Every),
            (
                "price:1e400@2..",
                FaultKind::Price("1e400".into()),
                When::From(2),
            ),
            ("scale:1.5", FaultKind::Scale(1.5), When::Every),
            ("scale:-1@4", FaultKind::Scale(-1.0), When::Only(4)),
            (
                "quote:88000:86000@3..",
                FaultKind::Quote("88000".into(), "86000".into()),
                When::From(3),
            ),
            ("large", FaultKind::Large, When::Every),
            ("status:429:2s", status(429, 2_000_000), When::Every),
            ("status:418:500ms@9", status(418, 500_000), When::Only(9)),
            ("upgrade:451", turned(451, None), When::Every),
            ("upgrade:503:7", turned(503, Some(7)), When::Every),
            ("mute@3", FaultKind::Mute, When::Only(3)),
            ("refuse", FaultKind::Refuse, When::Every),
            ("halt@2..", FaultKind::Halt, When::From(2)),
            ("reconnect@2", FaultKind::Reconnect, When::Only(2)),
            ("maintenance", FaultKind::Maintenance, When::Every),
            ("stale:40s@2..", FaultKind::Stale(40_000_000), When::From(2)),
            ("old-first:40s", FaultKind::Stale(40_000_000), When::Only(1)),
            ("price:1/2", FaultKind::Price("1/2".into()), When::Every),
            ("ping", FaultKind::Ping, When::Every),
            ("slow:300ms@2..", FaultKind::Slow(300_000), When::From(2)),
        ] {
            assert_eq!(parsed(text), (kind, when), "{text}");
        }
    }

    #[test]
    fn an_invalid_fault_is_refused_with_what_would_be_right() {
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
            ("quote", "quote:BID:ASK"),
            ("quote:1", "quote:BID:ASK"),
            ("scale:NaN", "scale:FACTOR"),
            ("status:429", "status:429:DURATION"),
            ("status:500:1s", "status:429:DURATION"),
            ("status:429:1", "status:429:DURATION"),
            ("upgrade:500", "451, 403, 418, 429"),
            ("upgrade", "451, 403, 418, 429"),
            ("upgrade:429:soon", "upgrade:CODE:SECONDS"),
            ("upgrade:451@1", "without @"),
            ("old-first:1s@1", "without @"),
            ("slow", "a duration"),
            ("slow:3", "a duration"),
            ("stale", "a duration"),
            ("mute:1", "without a value"),
            ("refuse:ETH", "without a value"),
            ("refuse@2", "without @"),
            ("ETH/upgrade:429", "without a base"),
            ("mexc/drop", "kraken"),
            ("ETH/kraken/mute", "kraken/ETH/mute"),
            ("kraken/okx/mute", "kraken/ETH/mute"),
            ("ETH/BTC/mute", "kraken/ETH/mute"),
            ("/mute", "before the slash"),
            ("binance-book/drop", "binance (for binance-book too)"),
            ("kraken/dorp", "drop, hang"),
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
    fn a_fault_with_a_base_counts_and_affects_the_answers_about_this_base() {
        let faults: Vec<Fault> = [
            "ETH/mute@2..",
            "kraken/BTC1/price:1/2",
            "SOL/refuse",
            "halt@9",
        ]
        .iter()
        .map(|text| Fault::parse(text).unwrap())
        .collect();
        assert_eq!(faults[1].kind, FaultKind::Price("1/2".into()));
        let bases: Vec<_> = faults.iter().map(|fault| fault.base.as_deref()).collect();
        assert_eq!(bases, [Some("ETH"), Some("BTC1"), Some("SOL"), None]);
        let plan = |base, k, k_of_base| {
            let about = About { k, base, k_of_base };
            Plan::of(&faults, "okx", about)
        };
        assert_eq!(plan(Some("ETH"), 7, 2).deed, Deed::MuteBase);
        for (base, k_of_base) in [(Some("ETH"), 1), (Some("BTC"), 2), (None, 2)] {
            assert_eq!(plan(base, 7, k_of_base), Plan::default());
        }
        assert!(plan(None, 9, 0).halted && plan(Some("ETH"), 9, 1).halted);
        let refused = |base| refuses(&faults, "okx", base);
        assert_eq!((refused("SOL"), refused("ETH")), (true, false));
    }

    #[test]
    fn a_plan_has_the_faults_of_its_request_and_no_others() {
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
            "kraken/mute@1",
            "okx/upgrade:429",
        ]
        .iter()
        .map(|text| Fault::parse(text).unwrap())
        .collect();
        let of = |faults: &[Fault], dialect, k| {
            let about = About {
                k,
                ..About::default()
            };
            Plan::of(faults, dialect, about)
        };
        let first = of(&faults, API, 1);
        assert_eq!(
            (first.delay_us, first.ping, first.deed),
            (1_000, false, Deed::Answer)
        );
        assert_eq!(
            (first.lie.price.as_deref(), first.lie.scale),
            (Some("5"), Some(6.0))
        );
        let second = of(&faults, API, 2);
        assert_eq!((second.delay_us, second.deed), (3_000, Deed::Garbage));
        assert_eq!(second.lie, Lie::default());
        let third = of(&faults, API, 3);
        assert_eq!((third.ping, third.deed), (true, Deed::Drop));
        let refusal = |dialect| upgrade_refusal(&faults, dialect).map(|turned| turned.code);
        assert_eq!((refusal(API), refusal("okx")), (Some(403), Some(403)));
        assert_eq!(upgrade_refusal(&faults[10..], API), None);
        assert_eq!(of(&faults, "kraken", 1).deed, Deed::Mute);
        assert_eq!(of(&[], API, 1), Plan::default());
    }
}
