//! A report in words for people: what each slot did, what was refused, and why there is no price.

use rsoracle_proof::price;
use rsoracle_proof::publish::Decision;
use rsoracle_proof::report::{Lateness, Report};
use rsoracle_proof::round::Standing;
use rsoracle_proof::tolerance::{Groups, Tolerance, counted};
use rsoracle_proof::utc::utc_text;

/// A report, in words for people.
pub struct Words<'a>(
    /// The report.
    pub &'a Report,
);

impl Words<'_> {
    /// What a person wants to know besides the price. Names at most `slots_max` slots, one per line. `remarks` has, for each
    /// slot, what happened to its collector, or an empty text.
    pub fn details(&self, remarks: &[String], slots_max: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for (slot, standing) in self.0.outcome.standings.iter().enumerate().take(slots_max) {
            lines.push(format!(
                "collector {slot}: {}",
                self.slot_text(slot, standing, remarks)
            ));
        }
        if self.0.outcome.standings.len() > slots_max {
            let silent = self
                .0
                .outcome
                .standings
                .iter()
                .filter(|standing| **standing == Standing::Silent)
                .count();
            lines.push(format!(
                "… and {} more; {silent} silent in all",
                self.0.outcome.standings.len() - slots_max
            ));
        }
        if let Some(spread) = self.0.outcome.spread {
            lines.push(format!("spread of the prices used: {}", short(spread)));
        }
        if let Some(late) = Lateness::of(&self.0.round.parts) {
            lines.push(format!(
                "start error: median {} µs, worst {} µs; collectors apart: median {} µs, worst {} µs",
                late.median_us, late.max_us, late.spread_median_us, late.spread_max_us
            ));
        }
        lines.extend(self.refused_text());
        lines
    }

    /// One line about one round of many.
    pub fn round_line(&self, restarts: u32) -> String {
        let price = self.0.price().map_or("no price".to_owned(), price::text);
        let restarts = match restarts {
            0 => String::new(),
            count => format!(", {}", counted(count.into(), "restart")),
        };
        format!(
            "report {}, round of {}: {price}, {}, {} of {} prices{restarts}",
            self.0.number,
            utc_text(self.0.round.start_us),
            self.0.decision.name(),
            self.0.outcome.prices,
            self.0.round.terms.n()
        )
    }

    /// The slots that gave no price, at most `slots_max` of them, one per line; then what was refused.
    pub fn exceptions(&self, remarks: &[String], slots_max: usize) -> Vec<String> {
        let priced =
            |standing: &Standing| matches!(standing, Standing::Used(_) | Standing::Trimmed(_));
        let standings = self.0.outcome.standings.iter().enumerate();
        let others = standings
            .filter(|(_, standing)| !priced(standing))
            .take(slots_max);
        let mut lines: Vec<String> = others
            .map(|(slot, standing)| {
                format!(
                    "collector {slot}: {}",
                    self.slot_text(slot, standing, remarks)
                )
            })
            .collect();
        lines.extend(self.refused_text());
        lines
    }

    /// What was refused, with a count for each reason; `None` if nothing was.
    pub fn refused_text(&self) -> Option<String> {
        let counts = self
            .0
            .refused
            .iter()
            .map(|(reason, count)| format!("{count} × {reason}"));
        let text = counts.collect::<Vec<_>>().join("; ");
        (!text.is_empty()).then(|| format!("refused: {text}"))
    }

    /// Why no price was published; `None` if one was.
    pub fn failure(&self) -> Option<String> {
        let part = |part: Option<f64>| part.unwrap_or_default() * 100.0;
        match self.0.decision {
            Decision::Published => None,
            Decision::Unchanged => Some(format!(
                "not published: it differs from the last published price by less than {} %",
                part(self.0.policy.deviation)
            )),
            Decision::MovedTooFar => Some(format!(
                "no price: it moved by more than {} % from the last published one; if the new price is right, publish it with one run without --max-move",
                part(self.0.policy.move_max)
            )),
            Decision::SpreadTooWide => Some(format!(
                "no price: the prices used differ by more than {} %",
                part(self.0.policy.spread_max)
            )),
            Decision::NoQuorum => Some(self.no_quorum()),
        }
    }

    fn no_quorum(&self) -> String {
        let terms = &self.0.round.terms;
        format!(
            "no price: {} of {} collectors gave a price, {} are needed (quorum){}",
            self.0.outcome.prices,
            terms.n(),
            terms.quorum,
            if terms.exchanges_min > 1 {
                format!(", from at least {} exchanges", terms.exchanges_min)
            } else {
                String::new()
            }
        )
    }

    fn slot_text(&self, slot: usize, standing: &Standing, remarks: &[String]) -> String {
        let records = &self.0.round.parts[slot].records;
        let valid = records.iter().filter(|record| record.price.is_ok()).count();
        let source = &self.0.round.terms.seats[slot].source;
        let samples = format!(
            "{valid} of {} samples of {source}",
            self.0.round.terms.samples
        );
        let text = match standing {
            Standing::Used(price) => format!("used {} ({samples})", price::text(*price)),
            Standing::Trimmed(price) => format!("trimmed {} ({samples})", price::text(*price)),
            Standing::Abstained(why) => format!("abstained: {why} ({samples})"),
            Standing::Equivocated => {
                format!("excluded: it signed two different answers ({samples})")
            }
            Standing::Silent => format!("silent ({samples})"),
        };
        match remarks.get(slot) {
            Some(remark) if !remark.is_empty() => format!("{text}; {remark}"),
            _ => text,
        }
    }
}

/// A difference of prices, with four significant digits.
fn short(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let decimals = (3 - price::exponent(value)).clamp(0, 18) as usize;
    format!("{value:.decimals$}")
}

/// A warning for every exchange and every foreign quote currency that holds more slots than may be faulty.
pub(crate) fn warnings(tolerance: &Tolerance) -> Vec<String> {
    let exchanges = (&tolerance.exchanges, "exchange", "is wrong or stands still");
    let quotes = (&tolerance.quotes, "quote currency", "loses its parity");
    let large = |(groups, what, fails): (&Groups, &str, &str)| {
        let large = groups
            .slots
            .iter()
            .filter(|(_, slots)| *slots > tolerance.f);
        let sentence = |(name, slots): &(&str, u16)| {
            format!(
                "{what} {name} holds {slots} of {} slots, and {} may be faulty: if it {fails}, the price can be wrong",
                tolerance.n, tolerance.f
            )
        };
        large.map(sentence).collect::<Vec<_>>()
    };
    [exchanges, quotes].into_iter().flat_map(large).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::secret::SecretKey;
    use rsoracle_proof::aggregate::Rule;
    use rsoracle_proof::publish::Policy;
    use rsoracle_proof::reason::{Abstention, Miss, Reject};
    use rsoracle_proof::record::Record;
    use rsoracle_proof::report::Refused;
    use rsoracle_proof::round::Round;
    use rsoracle_proof::terms::{Seat, Terms};

    fn report() -> Report {
        let seat = || Seat {
            key: None,
            source: "binance:BTCUSDC".into(),
        };
        let terms = Terms {
            aggregator: SecretKey::from_seed(&mut [1; 32]).public(),
            session: [2; 32],
            feed: "BTC/USD".into(),
            rule: Rule::TrimmedMean,
            sample_rule: Rule::Mean,
            f: 2,
            quorum: 5,
            exchanges_min: 1,
            samples: 5,
            interval_us: 1_000_000,
            seats: (0..7).map(|_| seat()).collect(),
        };
        let mut round = Round::new(terms, 1_795_343_400_000_000);
        for index in 0..5 {
            let record = Record {
                index,
                price: match index {
                    1 => Err(Miss::NoReply),
                    _ => Ok(87233.42),
                },
                lateness_us: Some(3),
                age_us: None,
            };
            round.parts[2].records.push(record);
        }
        let refused = Refused::from([(Reject::HelloLate, 3)]);
        Report::new(1, round, refused, Policy::default(), None)
    }

    #[test]
    fn people_read_who_was_used_and_what_was_refused() {
        let mut report = report();
        report.outcome.standings[2] = Standing::Used(87233.42);
        report.outcome.standings[5] = Standing::Abstained(Abstention::TooFewSamples);
        report.outcome.spread = Some(0.0);
        let remarks = ["", "", "", "", "", "", "ended before the round"].map(str::to_owned);
        let words = Words(&report);
        let lines = words.details(&remarks, 20).join("\n");
        for part in [
            "collector 2: used 87233.42 (4 of 5 samples of binance:BTCUSDC)",
            "collector 5: abstained: fewer than 80 %",
            "collector 6: silent (0 of 5 samples of binance:BTCUSDC); ended before the round",
            "spread of the prices used: 0",
            "3 × no hello",
        ] {
            assert!(lines.contains(part), "{part:?} in {lines}");
        }
        let few = words.details(&remarks, 2).join("\n");
        assert!(few.contains("… and 5 more"), "{few}");
        assert_eq!(
            words.failure().as_deref(),
            Some("no price: 0 of 7 collectors gave a price, 5 are needed (quorum)")
        );
    }

    #[test]
    fn each_group_that_holds_more_slots_than_may_be_faulty_has_a_warning() {
        assert_eq!(
            warnings(&Tolerance::of("BTC/USD", &["binance:BTCUSDC"; 5], 1)),
            [
                "exchange binance holds 5 of 5 slots, and 1 may be faulty: if it is wrong or stands still, the price can be wrong",
                "quote currency USDC holds 5 of 5 slots, and 1 may be faulty: if it loses its parity, the price can be wrong",
            ]
        );
        let own = Tolerance::of("BTC/USD", &["kraken:BTC/USD"; 4], 1);
        assert_eq!(warnings(&own).len(), 1);
        let apart = ["kraken:BTC/USD", "okx:BTC-USDT", "coinbase:BTC-USD"];
        assert_eq!(warnings(&Tolerance::of("BTC/USD", &apart, 1)), [""; 0]);
    }
}
