//! Signed and chained reports of consecutive rounds. The verifier must accept them, and must find any tampering.

use super::chance::Chance;
use super::oracle;
use super::script::KeyRing;
use rsoracle_proof::publish::{Decision, Policy, PublishedPrice, decide};
use rsoracle_proof::report::{Content, Refused, Report, Verifier};
use rsoracle_proof::round::{Outcome, Round};
use rsoracle_proof::seal::Keys;

/// The reports of a chain so far.
pub struct Chain {
    lines: Vec<String>,
    starts_us: Vec<u64>,
    previous: Option<[u8; 64]>,
    last: Option<PublishedPrice>,
    policy: Policy,
}

/// The verifiers of sound and of tampered lines. They are kept from chain to chain, since they cache decoded keys.
#[derive(Default)]
pub struct Verifiers {
    chain: Verifier,
    tampered: Verifier,
    /// Number of lines and of chains that were tampered with.
    pub lines_tampered: u64,
    pub chains_tampered: u64,
}

impl Verifiers {
    /// Whether the verifier finds a flaw in `line` alone.
    fn finds(&mut self, line: &str, now_us: u64) -> bool {
        self.tampered.begin_anew();
        !self.tampered.check(line, now_us).flaws.is_empty()
    }
}

impl Chain {
    pub fn new(chance: &mut Chance) -> Chain {
        Chain {
            lines: Vec::new(),
            starts_us: Vec::new(),
            previous: None,
            last: None,
            policy: policy(chance),
        }
    }

    /// Appends the report of a round. Returns the number of its decision.
    pub fn append(
        &mut self,
        chance: &mut Chance,
        keys: &KeyRing,
        verifiers: &mut Verifiers,
        round: Round,
        refused: Refused,
    ) -> u16 {
        if chance.percent(20) {
            self.policy = policy(chance);
        }
        if chance.percent(10) {
            let limits = policy_at_limits(&round.outcome(), self.last);
            self.policy = limits.unwrap_or(self.policy);
            if chance.percent(50) {
                let policy = &mut self.policy;
                (policy.deviation, policy.heartbeat_us) = (policy.move_max, None);
            }
        }
        if self.lines.is_empty() {
            verifiers.chain.begin_anew();
        }
        let number = self.lines.len() as u64 + 1;
        let start_us = round.start_us;
        let by = keys.public(KeyRing::AGGREGATOR);
        let spread_ppm_max = round.terms.spread_ppm_max;
        let mut report = Report::new(number, by, round, refused, self.policy, self.last);
        report.previous = self.previous;
        report.ephemeral = chance.percent(50);
        report.signature = keys
            .secret(KeyRing::AGGREGATOR)
            .sign(&report.signed_bytes());
        let (decision, last) = oracle::decision(
            number,
            &report.outcome,
            spread_ppm_max,
            &self.policy,
            self.last,
        );
        assert_eq!(report.decision, decision, "the decision about the price");
        assert_eq!(report.published(), last, "the last published price");
        let shown = report.outcome.price.filter(|_| decision.has_price());
        assert_eq!(report.price(), shown, "the price that is shown");
        let line = report.line();
        let check = verifiers.chain.check(&line, start_us);
        assert_eq!(check.flaws, [""; 0], "a sound report has no flaw: {line}");
        let Content::Report(read) = check.content else {
            panic!("a sound line must be a report")
        };
        assert_eq!(
            read.outcome, report.outcome,
            "the verifier reads the same outcome"
        );
        if chance.percent(10) {
            assert_eq!(read.line(), line, "the report read makes the same line");
        }
        self.previous = Some(report.signature);
        self.last = last;
        if chance.percent(25) {
            self.tamper_with_line(chance, verifiers, &line, start_us);
        }
        self.tamper_as_aggregator(chance, keys, verifiers, report);
        self.starts_us.push(start_us);
        self.lines.push(line);
        decision.code()
    }

    /// Flips a bit or adds digits to a number; the verifier must find it.
    fn tamper_with_line(
        &self,
        chance: &mut Chance,
        verifiers: &mut Verifiers,
        line: &str,
        now_us: u64,
    ) {
        let mut bytes = line.as_bytes().to_vec();
        // Add digits to a price or to a count of refusals, or flip any bit.
        let field = chance.pick(&["\"price\":", "\"count\":", ""]);
        let fields: Vec<usize> = line.match_indices(field).map(|(at, _)| at).collect();
        if field.is_empty() || fields.is_empty() || chance.percent(40) {
            let at = chance.index(bytes.len());
            bytes[at] ^= 1 << chance.below(7);
        } else {
            let at = chance.pick(&fields) + field.len();
            let more: &[u8] = if field == "\"count\":" {
                b"1"
            } else {
                b"99999999999999999"
            };
            bytes.splice(at..at, more.iter().copied());
        }
        // Bytes that are not UTF-8 are not a line.
        if let Ok(text) = String::from_utf8(bytes) {
            verifiers.lines_tampered += 1;
            let found = verifiers.finds(&text, now_us);
            assert!(found, "tampered with: {text}, once: {line}");
        }
    }

    /// Changes the result, and has the aggregator sign that; the verifier must find it.
    fn tamper_as_aggregator(
        &self,
        chance: &mut Chance,
        keys: &KeyRing,
        verifiers: &mut Verifiers,
        mut report: Report,
    ) {
        if !chance.percent(5) {
            return;
        }
        let now_us = report.round.start_us;
        match (chance.below(4), report.outcome.price) {
            (0, Some(price)) if report.decision.has_price() => {
                report.outcome.price = Some(f64::from_bits(price.to_bits() + 1));
            }
            (1, _) => report.outcome.prices += 1,
            // A later report that names no previous one, or a first report that names one.
            (2, _) => report.previous = report.previous.xor(Some([7; 64])),
            _ if report.decision == Decision::Published => report.decision = Decision::Unchanged,
            _ => report.decision = Decision::Published,
        }
        report.signature = keys
            .secret(KeyRing::AGGREGATOR)
            .sign(&report.signed_bytes());
        let line = report.line();
        assert!(verifiers.finds(&line, now_us), "a lying aggregator: {line}");
    }

    /// Removes, doubles, moves or replaces a line of the chain; the verifier must find it.
    pub fn tamper_with_order(
        &self,
        chance: &mut Chance,
        keys: &KeyRing,
        verifiers: &mut Verifiers,
    ) {
        let count = self.lines.len();
        if count < 2 {
            return;
        }
        let mut lines = self.lines.clone();
        let at = chance.index(count - 1);
        let mut heads = false;
        let how = match chance.below(5) {
            // Not the first line: from the rest of a chain alone, one cannot know what came before it.
            0 if at > 0 => {
                lines.remove(at);
                "dropped"
            }
            1 => {
                lines.insert(at, lines[at].clone());
                "doubled"
            }
            2 => {
                lines[at] = signed_anew(&lines[at], keys, |report| {
                    report.ephemeral = !report.ephemeral;
                });
                "changed and signed again"
            }
            3 => {
                lines[count - 1] = signed_anew(&lines[count - 1], keys, forget_published);
                "with another last published price"
            }
            _ => {
                lines.swap(at, at + 1);
                // If the last line was moved, only the last signature (--head) shows it.
                heads = true;
                "moved"
            }
        };
        let now_us = *self.starts_us.last().expect("there are two");
        let mut found = false;
        verifiers.tampered.begin_anew();
        for line in &lines {
            found |= !verifiers.tampered.check(line, now_us).flaws.is_empty();
        }
        found |= heads && verifiers.tampered.head("BTC/USD") != self.previous;
        verifiers.chains_tampered += 1;
        assert!(found, "report {} of {count}, {how}", at + 1);
    }
}

/// The same report with a change, signed by its aggregator.
fn signed_anew(line: &str, keys: &KeyRing, change: fn(&mut Report)) -> String {
    let mut report = Report::read(line, &mut Keys::default()).expect("it was a report");
    change(&mut report);
    report.signature = keys
        .secret(KeyRing::AGGREGATOR)
        .sign(&report.signed_bytes());
    report.line()
}

/// Replaces the last published price, and decides again by that.
fn forget_published(report: &mut Report) {
    report.last = match report.last {
        Some(_) => None,
        None => Some(PublishedPrice {
            number: 1,
            price: 5.0,
            time_us: report.round.start_us - 1,
        }),
    };
    let spread_ppm_max = report.round.terms.spread_ppm_max;
    report.decision = decide(
        &report.outcome,
        spread_ppm_max,
        &report.policy,
        report.last.as_ref(),
    );
}

/// A policy whose limits this outcome just reaches.
fn policy_at_limits(outcome: &Outcome, last: Option<PublishedPrice>) -> Option<Policy> {
    let (price, last) = (outcome.price?, last?);
    // A limit of 0 is not valid.
    let part = |part: f64| (part > 0.0).then_some(part);
    let moved = (price - last.price).abs() / last.price;
    Some(Policy {
        deviation: part(moved * 1.5),
        heartbeat_us: outcome.timestamp_us?.checked_sub(last.time_us),
        move_max: part(moved),
    })
}

fn policy(chance: &mut Chance) -> Policy {
    let part = |chance: &mut Chance| {
        chance.pick(&[None, None, Some(1e-9), Some(0.0001), Some(0.01), Some(0.5)])
    };
    Policy {
        deviation: part(chance),
        heartbeat_us: chance.pick(&[None, Some(0), Some(3_000_000), Some(20_000_000)]),
        move_max: part(chance),
    }
}
