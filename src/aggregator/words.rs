//! A report in words for people: what each slot did, what was refused, and why there is no price.

use crate::aggregator::voices::slots_text;
use crate::system::span::span;
use rsoracle_proof::duration::duration_text;
use rsoracle_proof::price;
use rsoracle_proof::publish::Decision;
use rsoracle_proof::report::{Lateness, Report};
use rsoracle_proof::round::Standing;
use rsoracle_proof::schedule::Schedule;
use rsoracle_proof::source::exchange_of;
use rsoracle_proof::terms::Roster;
use rsoracle_proof::utc::utc_text;
use std::collections::{BTreeMap, BTreeSet};

/// Most feeds of which a line about several names each.
const FEEDS_NAMED_MAX: usize = 4;
/// One day, in microseconds.
const DAY_US: u64 = 86_400_000_000;

/// A seat's absence: the start of the first round without its price (`None` while it gives prices), and the last known cause.
#[derive(Default)]
pub struct Absence {
    since_us: Option<u64>,
    said: String,
}

/// A report, in words for people.
pub struct Words<'a>(
    /// The report.
    pub &'a Report,
    /// The places of its seats in the roster.
    pub &'a [u16],
);

impl Words<'_> {
    /// What a person wants to know besides the price. Names at most `slots_max` slots, one per line. `remarks` has, for each
    /// seat, what happened to its collector, or an empty text.
    pub fn details(&self, remarks: &[String], slots_max: usize) -> Vec<String> {
        let mut lines = Vec::new();
        let standings = &self.0.outcome.standings;
        for (seat, standing) in standings.iter().take(slots_max).enumerate() {
            let text = self.slot_text(seat, standing, remarks);
            lines.push(format!("collector {}: {text}", self.1[seat]));
        }
        if standings.len() > slots_max {
            let is_silent = |standing: &&Standing| **standing == Standing::Silent;
            let silent = standings.iter().filter(is_silent).count();
            let more = standings.len() - slots_max;
            lines.push(format!("… and {more} more; {silent} silent in all"));
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

    /// The log line for one round of an endless run: the price or why there is none, and the slots without a price.
    pub fn round_line(&self, restarts: u32, absences: &[Absence]) -> String {
        let report = self.0;
        let prices = report.outcome.prices;
        let outcome = match (self.failure(), report.price()) {
            (Some(why), None) => why,
            (why, price) => format!(
                "{}, {}, {prices} of {} prices",
                price.map_or("no price".to_owned(), price::text),
                why.as_deref().unwrap_or(report.decision.name()),
                report.round.terms.n()
            ),
        };
        let (restarts, without) = (restarts_text(restarts), self.without(absences));
        let start = utc_text(report.round.start_us);
        format!(
            "report {}, round of {start}: {outcome}{restarts}{without}",
            report.number
        )
    }

    /// Which slots give no price, and what that means; it begins with a semicolon, or is empty.
    fn without(&self, absences: &[Absence]) -> String {
        let mut groups: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (seat, absence) in absences.iter().enumerate() {
            if let Some(since_us) = absence.since_us {
                groups.entry(since_us).or_default().push(seat);
            }
        }
        let group = |(since_us, seats): (&u64, &Vec<usize>)| {
            let who = match seats.as_slice() {
                [seat] => self.who(*seat),
                _ => {
                    let slots: Vec<u16> = seats.iter().map(|seat| self.1[*seat]).collect();
                    format!("collectors {}", slots_text(&slots))
                }
            };
            format!("{who} since {}", self.clock(*since_us))
        };
        let Some(first) = groups.values().flatten().min() else {
            return String::new();
        };
        let further = match self.0.price() {
            None => format!("; {}: {}", self.who(*first), absences[*first].said),
            Some(_) if self.0.outcome.prices == self.0.round.terms.quorum() => {
                "; one more failure leaves no quorum".to_owned()
            }
            _ => String::new(),
        };
        let groups: Vec<String> = groups.iter().map(group).collect();
        format!("; without {}{further}", groups.join(", "))
    }

    /// What is wrong with a feed among others: why it has no price, and which slots' are missing.
    fn wrong(&self, absences: &[Absence]) -> Option<String> {
        let why = self.failure().filter(|_| self.0.price().is_none());
        let text = why.unwrap_or_default() + &self.without(absences);
        let text = text.trim_start_matches("; ");
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// Updates the absences after a round of an endless run. Returns a line for each slot whose price went missing, came back,
    /// or is missing for another cause. After `slots_max` lines, one more line counts the rest. `causes` has what is known of
    /// each slot's failure, or an empty text.
    pub fn news(
        &self,
        absences: &mut [Absence],
        causes: &[String],
        slots_max: usize,
    ) -> Vec<String> {
        let start_us = self.0.round.start_us;
        let mut lines = Vec::new();
        let seats = self.0.outcome.standings.iter().zip(absences).zip(causes);
        for (seat, ((standing, absence), cause)) in seats.enumerate() {
            let state = match standing {
                Standing::Used(_) | Standing::Trimmed(_) => {
                    if let Some(since_us) = std::mem::take(absence).since_us {
                        let after = span(start_us.saturating_sub(since_us));
                        lines.push(format!("{}: prices again, after {after}", self.who(seat)));
                    }
                    continue;
                }
                Standing::Abstained(why) => format!("abstains: {why}"),
                Standing::Equivocated => "excluded: it signed two different answers".to_owned(),
                Standing::Silent => "silent".to_owned(),
            };
            let since_us = *absence.since_us.get_or_insert(start_us);
            let separator = if cause.is_empty() { "" } else { "; " };
            let said = format!("{state}{separator}{cause}");
            // A cause that differs only in numbers is not news.
            let shape = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "");
            if shape(&absence.said) != shape(&said) {
                let (who, since) = (self.who(seat), self.clock(since_us));
                lines.push(format!("{who}: no price since {since}: {said}"));
            }
            absence.said = said;
        }
        if lines.len() > slots_max {
            let more = lines.split_off(slots_max).len();
            lines.push(format!("… and {more} more"));
        }
        lines
    }

    /// A slot and its exchange: `collector 4 (okx)`.
    fn who(&self, seat: usize) -> String {
        let source = &self.0.round.terms.seats[seat].source;
        format!("collector {} ({})", self.1[seat], exchange_of(source))
    }

    /// A time of day; with its date if it is a day or more before the round.
    fn clock(&self, us: u64) -> String {
        let old = self.0.round.start_us.saturating_sub(us) >= DAY_US;
        format!("{} UTC", &utc_text(us)[if old { 0 } else { 11 }..19])
    }

    /// What was refused, with a count for each reason; `None` if nothing was.
    pub fn refused_text(&self) -> Option<String> {
        let counts = self.0.refused.iter();
        let counts = counts.map(|(reason, count)| format!("{count} × {reason}"));
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
                f64::from(self.0.round.terms.spread_ppm_max.unwrap_or_default()) / 1e4
            )),
            Decision::NoQuorum => Some(self.no_quorum()),
        }
    }

    fn no_quorum(&self) -> String {
        let (terms, prices) = (&self.0.round.terms, self.0.outcome.prices);
        let (n, needed) = (terms.n(), terms.quorum());
        let from = match terms.exchanges_min {
            least @ 2.. => format!(", from at least {least} exchanges"),
            _ => String::new(),
        };
        format!(
            "no price: {prices} of {n} collectors gave a price, {needed} are needed (quorum){from}"
        )
    }

    fn slot_text(&self, seat: usize, standing: &Standing, remarks: &[String]) -> String {
        let records = &self.0.round.parts[seat].records;
        let valid = records.iter().filter(|record| record.price.is_ok()).count();
        let source = &self.0.round.terms.seats[seat].source;
        let samples = format!(
            "{valid} of {} samples of {source}",
            self.0.round.terms.schedule.samples
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
        match remarks.get(seat) {
            Some(remark) if !remark.is_empty() => format!("{text}; {remark}"),
            _ => text,
        }
    }
}

/// The log line for one round: how many feeds have a price, and what is wrong with the others.
pub(crate) fn feeds_line(
    roster: &Roster,
    words: &[Words],
    restarts: u32,
    absences: &[Vec<Absence>],
) -> String {
    let start = utc_text(words[0].0.round.start_us);
    let priced = words.iter().filter(|one| one.0.price().is_some()).count();
    let wrong = (0..).zip(words.iter().zip(absences));
    let wrong = wrong.filter_map(|(feed, (one, absences))| Some((feed, one.wrong(absences)?)));
    let wrong = of_feeds(roster, wrong).join("; ");
    let (feeds, restarts) = (words.len(), restarts_text(restarts));
    let before = if wrong.is_empty() { "" } else { "; " };
    let end = format!("{restarts}{before}{wrong}");
    match (feeds, priced) {
        (1, 0) => format!("round of {start}{restarts}: {wrong}"),
        (1, _) => format!("round of {start}: a price{end}"),
        _ => format!("round of {start}: {priced} of {feeds} feeds have a price{end}"),
    }
}

/// How many samples each round has, and how far apart.
pub(crate) fn samples_text(schedule: &Schedule) -> String {
    match schedule.samples {
        1 => "1 sample".to_owned(),
        count => format!(
            "{count} samples {} apart",
            duration_text(schedule.interval_us)
        ),
    }
}

/// How often collectors were restarted; it begins with a comma, or is empty.
fn restarts_text(restarts: u32) -> String {
    match restarts {
        0 => String::new(),
        1 => ", 1 restart".to_owned(),
        count => format!(", {count} restarts"),
    }
}

/// Lines about feeds of a roster, each of which names its feed, unless there is only one. Those that say the same become one.
pub(crate) fn of_feeds(
    roster: &Roster,
    said: impl IntoIterator<Item = (usize, String)>,
) -> Vec<String> {
    let all = roster.feeds.len();
    let mut lines: Vec<(String, Vec<&str>)> = Vec::new();
    for (feed, text) in said {
        let name = roster.feeds[feed].feed.as_str();
        match lines.iter_mut().find(|(known, _)| *known == text) {
            Some((_, names)) if all > 1 => names.push(name),
            _ => lines.push((text, vec![name])),
        }
    }
    let line = |(text, names): (String, Vec<&str>)| match names.len() {
        _ if all == 1 => text,
        count if count == all => format!("all feeds: {text}"),
        count if count > FEEDS_NAMED_MAX => format!(
            "{} and {} more: {text}",
            names[..FEEDS_NAMED_MAX].join(", "),
            count - FEEDS_NAMED_MAX
        ),
        _ => format!("{}: {text}", names.join(", ")),
    };
    lines.into_iter().map(line).collect()
}

/// A difference of prices, with four significant digits.
fn short(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let decimals = (3 - price::exponent(value)).clamp(0, 18) as usize;
    format!("{value:.decimals$}")
}

/// The command that examines these sources; empty if they are embedded. It begins with a semicolon.
pub(crate) fn doctor<'a>(sources: impl Iterator<Item = &'a str>) -> String {
    let live = sources.filter(|source| !source.starts_with("embedded"));
    let live = Vec::from_iter(live.collect::<BTreeSet<_>>()).join(" ");
    match live.is_empty() {
        true => String::new(),
        false => format!("; 'rsoracle doctor {live}' examines what can be reached"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregator::agreed::tests::{roster, terms};
    use crate::keys::secret::SecretKey;
    use rsoracle_proof::publish::Policy;
    use rsoracle_proof::reason::{Abstention, Miss, Reject};
    use rsoracle_proof::record::Record;
    use rsoracle_proof::report::Refused;
    use rsoracle_proof::round::Round;

    const SLOTS: [u16; 7] = [0, 1, 2, 3, 4, 5, 6];

    fn report() -> Report {
        let terms = terms(&["binance:BTCUSDC"; 7], 0, 5);
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
        let aggregator = SecretKey::from_seed(&mut [1; 32]).public();
        Report::new(1, aggregator, round, refused, Policy::default(), None)
    }

    #[test]
    fn people_read_who_was_used_and_what_was_refused() {
        let mut report = report();
        report.outcome.standings[2] = Standing::Used(87233.42);
        report.outcome.standings[5] = Standing::Abstained(Abstention::TooFewSamples);
        report.outcome.spread = Some(0.0);
        let remarks = ["", "", "", "", "", "", "ended before the round"].map(str::to_owned);
        let words = Words(&report, &SLOTS);
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

    /// A round of an endless run, `seconds` after the first one, in which the first `prices` slots give a price.
    fn later(seconds: u64, prices: usize) -> Report {
        let mut report = report();
        report.round.start_us += seconds * 1_000_000;
        for standing in &mut report.outcome.standings[..prices] {
            *standing = Standing::Used(87233.42);
        }
        report.outcome.prices = prices as u16;
        report.outcome.price = (prices >= 5).then_some(87233.42);
        if prices >= 5 {
            report.decision = Decision::Published;
        }
        report
    }

    #[test]
    fn of_many_rounds_people_read_what_is_new_and_since_when_something_is_wrong() {
        let mut absences: [Absence; 7] = Default::default();
        let mut causes = vec![String::new(); 7];
        let whole = later(0, 7);
        assert_eq!(
            Words(&whole, &SLOTS).news(&mut absences, &causes, 20),
            [""; 0]
        );
        let line = Words(&whole, &SLOTS).round_line(0, &absences);
        assert!(
            line.ends_with(": 87233.42, published, 7 of 7 prices"),
            "{line}"
        );

        let fewer = later(10, 5);
        "no answer in 5 s".clone_into(&mut causes[5]);
        assert_eq!(
            Words(&fewer, &SLOTS).news(&mut absences, &causes, 20),
            [
                "collector 5 (binance): no price since 10:30:10 UTC: silent; no answer in 5 s",
                "collector 6 (binance): no price since 10:30:10 UTC: silent",
            ]
        );
        let line = Words(&fewer, &SLOTS).round_line(1, &absences);
        let end = "5 of 7 prices, 1 restart; without collectors 5-6 since 10:30:10 UTC; one more failure leaves no quorum";
        assert!(line.ends_with(end), "{line}");

        // Only the number is new.
        "no answer in 7 s".clone_into(&mut causes[5]);
        let same = later(20, 5);
        assert_eq!(
            Words(&same, &SLOTS).news(&mut absences, &causes, 20),
            [""; 0]
        );
        "its process ended".clone_into(&mut causes[5]);
        assert_eq!(
            Words(&same, &SLOTS).news(&mut absences, &causes, 20),
            ["collector 5 (binance): no price since 10:30:10 UTC: silent; its process ended"]
        );

        // A day later everything but one is down.
        let down = later(86_410, 1);
        let news = Words(&down, &SLOTS).news(&mut absences, &causes, 2);
        assert_eq!(news.len(), 3);
        assert_eq!(news[2], "… and 2 more");
        let line = Words(&down, &SLOTS).round_line(0, &absences);
        let end = ": no price: 1 of 7 collectors gave a price, 5 are needed (quorum); without collectors 5-6 since 2026-11-22T10:30:10 UTC, collectors 1-4 since 10:30:10 UTC; collector 1 (binance): silent";
        assert!(line.ends_with(end), "{line}");

        let back = later(86_530, 7);
        let news = Words(&back, &SLOTS).news(&mut absences, &causes, 20);
        assert_eq!(news.len(), 6);
        assert_eq!(news[0], "collector 1 (binance): prices again, after 2 min");
        assert!(
            !Words(&back, &SLOTS)
                .round_line(0, &absences)
                .contains("without")
        );
    }

    #[test]
    fn live_sources_are_examined_by_name() {
        let sources = ["kraken:BTC/USD", "okx:BTC-USDT", "kraken:BTC/USD"];
        let text = doctor(sources.into_iter());
        assert!(
            text.contains("'rsoracle doctor kraken:BTC/USD okx:BTC-USDT'"),
            "{text}"
        );
        assert_eq!(doctor(["embedded:BTCUSDT"].into_iter()), "");
    }

    #[test]
    fn of_several_feeds_one_line_says_how_many_have_a_price_and_what_is_wrong_with_the_others() {
        let whole = later(0, 7);
        let mut roster = roster(&whole.round.terms);
        for name in ["ETH/USD", "SOL/USD"] {
            let mut terms = whole.round.terms.clone();
            terms.feed = name.into();
            roster.feeds.push(terms);
        }
        // Seat 6 is slot 7's.
        let slots = [0, 1, 2, 3, 4, 5, 7];
        let reports = [whole, later(0, 6), later(0, 3)];
        let words = reports.each_ref().map(|report| Words(report, &slots));
        let mut absences: [Vec<Absence>; 3] = Default::default();
        let mut news = Vec::new();
        for (feed, one) in words.iter().enumerate() {
            absences[feed].resize_with(7, Absence::default);
            let lines = one.news(&mut absences[feed], &vec![String::new(); 7], 20);
            news.extend(lines.into_iter().map(|line| (feed, line)));
        }
        let news = of_feeds(&roster, news);
        assert_eq!(news.len(), 4, "{news:?}");
        assert_eq!(
            news[0],
            "ETH/USD, SOL/USD: collector 7 (binance): no price since 10:30:00 UTC: silent"
        );
        assert_eq!(
            feeds_line(&roster, &words, 2, &absences),
            "round of 2026-11-22T10:30:00.000Z: 2 of 3 feeds have a price, 2 restarts; ETH/USD: without collector 7 (binance) since 10:30:00 UTC; SOL/USD: no price: 3 of 7 collectors gave a price, 5 are needed (quorum); without collectors 3-5, 7 since 10:30:00 UTC; collector 3 (binance): silent"
        );
        let same = (0..3).map(|feed| (feed, "the same".to_owned()));
        assert_eq!(of_feeds(&roster, same), ["all feeds: the same"]);
        // Of one feed there is nothing to count.
        let roster = Roster::single(1, None, roster.feeds[0].clone());
        for (words, says) in [
            (&words[..1], ": a price"),
            (&words[2..], ": no price: 3 of 7 "),
        ] {
            let line = feeds_line(&roster, words, 0, &absences[..1]);
            assert!(line.contains(says) && !line.contains("feeds"), "{line}");
        }
    }
}
