//! Compares the reports of several files, round by round: where they differ and why, which price all their answers give, and
//! which collectors gave them different answers.

use crate::log::{or_null, printable, quoted};
use rsoracle_proof::limits::COLLECTORS_MAX;
use rsoracle_proof::pool::{Pool, price_by_terms};
use rsoracle_proof::price;
use rsoracle_proof::report::{Proof, Report};
use rsoracle_proof::seal::PublicKey;
use rsoracle_proof::tolerance::counted;
use rsoracle_proof::utc::utc_text;
use std::collections::{BTreeMap, BTreeSet};

/// Most differences, slots and liars that are shown.
const SHOWN: usize = 10;

/// What was found so far.
#[derive(Default)]
pub struct Comparison<'a> {
    names: Vec<&'a str>,
    /// For each file, in how many rounds it alone has a price, and the start of the last one.
    alone: Vec<(u64, u64)>,
    /// For each file, how many of its reports are not compared, since they are not in the order of their starts.
    pub disordered: Vec<u64>,
    /// By their names: at most as many as the files may have.
    feeds: BTreeMap<String, Feed>,
    /// How many reports were in one file only, and of other terms than those of their feed.
    others: u64,
    /// The first aggregator; and whether there is another aggregator, or a second report of the first one for some round.
    aggregator: Option<PublicKey>,
    several: bool,
    /// How many rounds are in several files, and how many of them differ.
    rounds: u64,
    differ: u64,
    /// Each with its feed.
    differences: Vec<(String, String)>,
    /// By key, the first lie and its feed.
    liars: BTreeMap<[u8; 32], (String, Proof)>,
    /// The keys of further liars: at most as many as a roster can have.
    more_liars: BTreeSet<[u8; 32]>,
}

/// What was found of a feed.
struct Feed {
    /// The terms of its last round that is in several files; of its first round until there is one.
    terms: [u8; 32],
    /// Of the last round of these terms: start, price and time.
    last: (u64, Option<(f64, u64)>),
}

impl<'a> Comparison<'a> {
    /// Nothing yet, for files of these names.
    pub fn new(names: Vec<&'a str>) -> Comparison<'a> {
        Comparison {
            alone: vec![(0, 0); names.len()],
            names,
            ..Comparison::default()
        }
    }

    /// Takes all reports that start at one time, each with the number of its file. No file has two of one feed.
    pub fn take(&mut self, mut reports: Vec<(usize, &Report)>) {
        while let Some((_, first)) = reports.first() {
            let digest = first.round.digest;
            let is_same = |(_, report): &(usize, &Report)| report.round.digest == digest;
            let (same, others): (Vec<_>, _) = reports.into_iter().partition(is_same);
            let (files, same): (Vec<usize>, Vec<&Report>) = same.into_iter().unzip();
            self.round(&files, &same);
            reports = others;
        }
    }

    /// Takes the reports of one round.
    fn round(&mut self, files: &[usize], reports: &[&Report]) {
        let (first, pool) = (reports[0], Pool::of(reports));
        let (start_us, digest) = (first.round.start_us, first.round.digest);
        let name = &first.round.terms.feed;
        let feed = self.feeds.entry(name.clone()).or_insert(Feed {
            terms: digest,
            last: (0, None),
        });
        if reports.len() > 1 {
            feed.terms = digest;
        }
        let stands = pool.stands.map_or(&pool.report, |at| reports[at]);
        let is_pooled = feed.terms == digest;
        if is_pooled {
            feed.last = (start_us, stands.price().zip(stands.outcome.timestamp_us));
        }
        let aggregator = *self.aggregator.get_or_insert(first.aggregator);
        let by = |one: &Report| (one.aggregator, one.signature);
        self.several |= reports
            .iter()
            .any(|one| by(one) != (aggregator, first.signature));
        let prices: Vec<Option<f64>> = reports.iter().map(|one| price_by_terms(one)).collect();
        let mut priced = (0..prices.len()).filter(|at| prices[*at].is_some());
        if !is_pooled {
            self.others += 1;
        } else if let (Some(at), None) = (priced.next(), priced.next()) {
            self.alone[files[at]] = (self.alone[files[at]].0 + 1, start_us);
        }
        if reports.len() > 1 {
            let why = differences(&self.names, files, &prices, &pool).join("; ");
            self.rounds += 1;
            self.differ += u64::from(!why.is_empty());
            if !why.is_empty() && self.differences.len() < SHOWN {
                let text = format!("{}: {why}", utc_text(start_us));
                self.differences.push((name.clone(), text));
            }
        }
        for lie in pool.lies {
            let key = *lie.key.bytes();
            if self.liars.len() < SHOWN {
                self.liars.entry(key).or_insert((name.clone(), lie));
            } else if !self.liars.contains_key(&key)
                && self.more_liars.len() < COLLECTORS_MAX.into()
            {
                self.more_liars.insert(key);
            }
        }
    }

    /// Whether any collector's answers in several files contradict each other.
    pub fn has_lies(&self) -> bool {
        !self.liars.is_empty()
    }

    /// The result, and a proof for each liar, in lines; nothing if all is of one aggregator.
    pub fn text(&self, json: bool) -> String {
        if !self.several {
            return String::new();
        }
        let result = if json { self.json() } else { self.words() };
        let proofs = self.liars.values().map(|(_, lie)| lie.line() + "\n");
        format!("{result}\n{}", proofs.collect::<String>())
    }

    /// The differences in sentences; of several feeds, each with its feed.
    fn differences(&self) -> impl Iterator<Item = String> {
        let texts = self.differences.iter();
        texts.map(|(feed, text)| self.of("", feed, ", ") + text)
    }

    /// The name of a feed between these words; nothing if there is only one.
    fn of(&self, before: &str, feed: &str, behind: &str) -> String {
        let of = (self.feeds.len() > 1).then(|| [before, feed, behind].concat());
        of.unwrap_or_default()
    }

    fn words(&self) -> String {
        let (rounds, differ) = (counted(self.rounds, "round"), self.differ);
        let mut lines = vec![format!(
            "pool: {rounds} in more than one file, differences in {differ}"
        )];
        lines.extend(self.differences());
        let more = differ - self.differences.len() as u64;
        let mut counts = vec![(more, "more rounds that differ".to_owned())];
        for (at, name) in self.names.iter().enumerate() {
            let (alone, last_us) = self.alone[at];
            let last = utc_text(last_us);
            let only = format!("rounds in which only {name} has a price, the last of {last}");
            let late = format!("reports of {name} that are not in order, and not compared");
            counts.extend([(alone, only), (self.disordered[at], late)]);
        }
        let others = "reports of other terms, not compared";
        counts.push((self.others, others.to_owned()));
        let liars = "more liars, whose proofs are not shown";
        counts.push((self.more_liars.len() as u64, liars.to_owned()));
        let counts = counts.iter().filter(|(count, _)| *count > 0);
        lines.extend(counts.map(|(count, what)| format!("{what}: {count}")));
        for (name, feed) in &self.feeds {
            let (start_us, price) = feed.last;
            let price = price.map_or("NO PRICE".to_owned(), |(price, _)| price::text(price));
            let time = utc_text(start_us);
            lines.push(format!("the last round, of {time}: {name} {price}"));
        }
        for (feed, lie) in self.liars.values() {
            let (slot, time) = (lie.slot, utc_text(lie.start_us));
            let of = self.of(" of ", feed, "");
            lines.push(format!("LIE: two different answers of slot {slot}{of} for the round of {time}; the proof is below"));
        }
        let lines: Vec<String> = lines.iter().map(|line| printable(line)).collect();
        lines.join("\n  ")
    }

    fn json(&self) -> String {
        let list = |texts: Vec<String>| format!("[{}]", texts.join(","));
        let alone: Vec<u64> = self.alone.iter().map(|(count, _)| *count).collect();
        let members = |of: Option<(&String, &Feed)>| {
            let price = of.and_then(|(_, feed)| feed.last.1);
            format!(
                "\"round_start_us\":{},\"feed\":{},\"price\":{},\"time_us\":{}",
                or_null(of.map(|(_, feed)| feed.last.0.to_string())),
                or_null(of.map(|(name, _)| quoted(name))),
                or_null(price.map(|(price, _)| price::exact(price))),
                or_null(price.map(|(_, us)| us.to_string()))
            )
        };
        let feeds: Vec<String> = self.feeds.iter().map(Some).map(members).collect();
        let mut feeds = feeds.join("},{");
        if self.feeds.len() > 1 {
            feeds = format!("{},\"feeds\":[{{{feeds}}}]", members(None));
        }
        format!(
            "{{\"files\":{},\"rounds\":{},\"differ\":{},\"alone\":{alone:?},\"disordered\":{:?},\"other_terms\":{},\"liars\":{},{feeds},\"differences\":{}}}",
            list(self.names.iter().map(|name| quoted(name)).collect()),
            self.rounds,
            self.differ,
            self.disordered,
            self.others,
            self.liars.len() + self.more_liars.len(),
            list(self.differences().map(|text| quoted(&text)).collect())
        )
    }
}

/// Why the reports of a round differ, if they do. For each report, `files` has the index of its file's name, and `prices` the
/// price that the terms give from it.
pub fn differences(
    names: &[&str],
    files: &[usize],
    prices: &[Option<f64>],
    pool: &Pool,
) -> Vec<String> {
    let mut reasons = Vec::new();
    for (slots, file) in pool.left_out.iter().zip(files) {
        if !slots.is_empty() {
            let (name, slots) = (names[*file], listed(slots));
            reasons.push(format!("{name} left out the answers of {slots}"));
        }
    }
    let lied: Vec<u16> = pool.lies.iter().map(|lie| lie.slot).collect();
    if !lied.is_empty() {
        reasons.push(format!("different answers of {}", listed(&lied)));
    }
    let text = |price: Option<f64>| price.map_or("none".to_owned(), price::exact);
    let pooled = pool.report.price();
    if prices.iter().any(|price| *price != pooled) {
        let each = prices.iter().zip(files);
        let each = each.map(|(price, file)| format!("{} {}", names[*file], text(*price)));
        let each = each.collect::<Vec<_>>().join(", ");
        reasons.push(format!("prices: {each}, pooled {}", text(pooled)));
        let stands = pool.stands.map(|at| names[files[at]]);
        reasons.extend(stands.map(|name| format!("the report of {name} stands")));
    } else if !reasons.is_empty() {
        reasons.push(format!("the price is the same, {}", text(pooled)));
    }
    reasons
}

/// Slots by their numbers, of which the first are shown.
fn listed(slots: &[u16]) -> String {
    let shown: Vec<String> = slots.iter().take(SHOWN).map(u16::to_string).collect();
    let more = match slots.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let noun = if slots.len() == 1 { "slot" } else { "slots" };
    format!("{noun} {}{more}", shown.join(", "))
}
