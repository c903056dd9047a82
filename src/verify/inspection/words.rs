//! What is said of a file: in sentences for people, or in a line of JSON for software.
//!
//! Of one feed, nothing is said of feeds but their name. Of several, each has words of its own.

use super::{FeedTally, Inspection, Verdict, seconds};
use crate::log::{or_null, printable, quoted};
use rsoracle_proof::price;
use rsoracle_proof::seal::hex;
use rsoracle_proof::succession::Succession;
use rsoracle_proof::tolerance::counted;
use rsoracle_proof::utc::utc_text;

impl Inspection<'_> {
    /// What follows a word about one feed of several.
    fn of(&self, feed: &str) -> String {
        let of = self.is_several().then(|| format!(" of {feed}"));
        of.unwrap_or_default()
    }

    /// The result in sentences, for people.
    pub(super) fn words(&self) -> String {
        let (tally, flaws) = (&self.tally, &self.flaws);
        let mut lines = self.headlines();
        let absent = self.absent().filter(|absent| !absent.is_empty());
        lines.extend(absent.map(|absent| format!("not in this file: {}", absent.join(", "))));
        if flaws.is_empty() && tally.reports > 0 {
            lines.extend(self.checked());
        }
        if let Some(liar) = &tally.liar {
            lines.push(format!(
                "proof{}: the holder of the key {} signed two different answers for the round of {}",
                if tally.proofs > 1 { format!(" (the last of {})", tally.proofs) } else { String::new() },
                hex(liar.key.bytes()),
                utc_text(liar.start_us)
            ));
        }
        for (feed, of) in tally.feeds.iter().filter(|_| flaws.is_empty()) {
            let last = of.last.as_ref().filter(|last| last.priced.is_some());
            let age = last.map(|last| match last.age_us {
                Some(us) => format!(
                    "the exchange prices of a quorum were at most {} old when they were sampled",
                    seconds(us)
                ),
                None => "unknown: too few of the exchanges give times".to_owned(),
            });
            lines.extend(age.map(|age| format!("age{}: {age}", self.of(feed))));
        }
        lines.extend(flaws.iter().map(|flaw| format!("wrong: {flaw}")));
        lines.extend(self.by_others());
        let verdict = match self.verdict {
            Verdict::Invalid => "verdict: INVALID; do not use any price in it",
            Verdict::Stale => "verdict: STALE; do not act on its price",
            Verdict::Empty => "verdict: EMPTY; nothing was proved",
            Verdict::Trusted if tally.reports == 0 => {
                "verdict: proved, and the key is in the roster"
            }
            Verdict::SignersUnknown if tally.reports == 0 => {
                "verdict: proved; a roster says whose key it is (--roster FILE)"
            }
            Verdict::Trusted => "verdict: valid, and the signers are those of the roster",
            Verdict::SignersUnknown if self.rosters.is_some() => {
                "verdict: consistent, but nobody of the roster signed all of it: anyone can make a report without a collector's answer"
            }
            Verdict::SignersUnknown => {
                "verdict: consistent, but the signers are unknown; name a roster that you trust with --roster FILE"
            }
        };
        lines.push(verdict.to_owned());
        let lines: Vec<String> = lines.iter().map(|line| printable(line)).collect();
        lines.join("\n  ")
    }

    /// The feeds of a roster of several that a file of reports lacks; `None` without such a roster.
    fn absent(&self) -> Option<Vec<&str>> {
        let roster = self
            .rosters
            .map(Succession::newest)
            .filter(|roster| roster.feeds.len() > 1)?;
        let names = roster.feeds.iter().map(|terms| terms.feed.as_str());
        let is_absent =
            |feed: &&str| self.tally.reports > 0 && !self.tally.feeds.contains_key(*feed);
        Some(names.filter(is_absent).collect())
    }

    /// If nothing is wrong but that some reports are of another roster: which ones are by those that were named, and what to do.
    fn by_others(&self) -> Option<String> {
        let tally = &self.tally;
        let mut feeds = tally.feeds.iter().filter(|_| tally.foreign == tally.bad);
        let (feed, (first, last, others_follow)) =
            feeds.find_map(|(feed, of)| Some((feed, of.span.run()?)))?;
        let which = match first == last {
            true => format!("report {first}{} is", self.of(feed)),
            false => format!("reports {first} to {last}{} are", self.of(feed)),
        };
        let several = self.rosters.is_some_and(|it| it.all().nth(1).is_some());
        let by = if several {
            "these rosters"
        } else {
            "this roster"
        };
        Some(match others_follow {
            true => format!(
                "roster: {which} by {by}; if another one followed it, name that with a further --roster"
            ),
            false => format!(
                "roster: {which} by {by}; if another one came before it, name that with a --roster before it"
            ),
        })
    }

    /// What is in the file; of several feeds, a line for each.
    fn headlines(&self) -> Vec<String> {
        let feeds = &self.tally.feeds;
        if !self.is_several() {
            let only = feeds.iter();
            let only = only.map(|(feed, of)| self.headline(self.name, feed, of));
            return only.collect();
        }
        let reports = counted(self.tally.reports, "report");
        let mut lines = vec![format!("{}: {reports} of {} feeds", self.name, feeds.len())];
        lines.extend(feeds.iter().map(|(feed, of)| self.headline(feed, feed, of)));
        lines
    }

    /// What is in the file of a feed, if it is not empty, under the name of the feed or of the file.
    fn headline(&self, name: &str, feed: &str, of: &FeedTally) -> String {
        let line = format!("{name}: {}", counted(of.reports, "report"));
        let (first, last) = (of.first, of.number);
        let numbers = match (first == last, self.verifier.chain.count(feed)) {
            _ if of.reports == 0 => return line,
            (true, _) => format!(", number {first}"),
            (false, 1) => format!(", number {first} to {last}"),
            (false, pieces) => format!(" in {pieces} chains"),
        };
        let shown = of.last.as_ref().filter(|_| self.flaws.is_empty());
        line + &numbers + shown.map_or("", |last| &last.words)
    }

    /// What was checked of every report in the file.
    fn checked(&self) -> Vec<String> {
        let (tally, verifier) = (&self.tally, &self.verifier);
        let (feeds, counts) = (tally.feeds.len() as u64, tally.feeds.keys());
        let count: u64 = counts.map(|feed| verifier.chain.count(feed)).sum();
        let from_1 = tally.feeds.values().all(|of| of.first == 1);
        let first = tally.feeds.values().map(|of| of.first).max().unwrap_or(0);
        let mut lines = vec![
            "form: every line is exactly what its samples and signatures give; every price was recomputed, to the bit".to_owned(),
            format!(
                "signatures: {} of collectors and aggregator, all valid; no key is weak (of small order) or in two slots",
                verifier.signatures
            ),
            match (feeds, count == feeds, from_1) {
                (1, true, true) => "chain: it begins at report 1; no report is missing, repeated or out of order".to_owned(),
                (_, true, true) => "chain: that of each feed begins at report 1; no report is missing, repeated or out of order".to_owned(),
                (1, true, _) => format!("chain: from report {first} on, no report is missing, repeated or out of order; earlier reports are not in this file"),
                (_, true, _) => "chain: from the first report of each feed on, no report is missing, repeated or out of order; earlier reports are not in this file".to_owned(),
                (1, ..) => format!("chain: {count} chains, the first from report {first} on; within each, no report is missing, repeated or out of order; missing reports at the end of a chain are not detected"),
                _ => format!("chain: {count} chains of {feeds} feeds; within each, no report is missing, repeated or out of order; missing reports at the end of a chain are not detected"),
            },
        ];
        let skipped = verifier.chain.skipped();
        if skipped > 0 {
            let (skipped, chains) = (counted(skipped, "report"), counted(count, "chain"));
            lines[2] = format!(
                "chain: {chains}; {skipped} between its reports were not published and are not in this file; no published report is missing, repeated or out of order"
            );
        }
        if tally.key_changes > 0 {
            lines.push(format!(
                "keys: {} of the aggregator's key, signed by the old key and the new one",
                counted(tally.key_changes, "change")
            ));
        }
        let rosters = self.rosters.iter().flat_map(|rosters| rosters.all());
        for (at, (roster, tenure)) in rosters.enumerate() {
            let (number, from) = (roster.number, utc_text(tenure.from_us));
            let by = match at {
                0 if tenure.from_us == 0 => continue,
                0 => "its file says",
                _ => "the collectors of the one before it endorsed",
            };
            lines.push(format!(
                "roster {number}: it counts from {from} on, as {by}"
            ));
        }
        for feed in tally.feeds.keys() {
            let head = verifier
                .head(feed)
                .filter(|head| !self.config.heads.contains(head));
            lines.extend(head.map(|head| format!(
                "not checked: whether reports{} are missing at its end; --head SIGNATURE checks that, if you know the newest signature (here it is {})",
                self.of(feed),
                hex(&head)
            )));
        }
        lines
    }

    /// The result as one line of JSON, for software.
    pub(super) fn json(&self) -> String {
        let tally = &self.tally;
        let verdict = match self.verdict {
            Verdict::Invalid => "invalid",
            Verdict::Stale => "stale",
            Verdict::Empty => "empty",
            Verdict::Trusted | Verdict::SignersUnknown if tally.reports == 0 => "proved",
            Verdict::Trusted => "trusted",
            Verdict::SignersUnknown => "signers-unknown",
        };
        let wrong: Vec<String> = self.flaws.iter().map(|flaw| quoted(flaw)).collect();
        let of_feed = |(feed, of): (&String, &FeedTally)| self.json_of(feed, of);
        let feeds: Vec<String> = tally.feeds.iter().map(of_feed).collect();
        let mut members = feeds.join("},{");
        if self.is_several() {
            let none = self.json_of("", &FeedTally::default());
            members = format!("{none},\"feeds\":[{{{members}}}]");
        }
        if let Some(absent) = self.absent() {
            let absent: Vec<String> = absent.into_iter().map(quoted).collect();
            members += &format!(",\"absent\":[{}]", absent.join(","));
        }
        format!(
            "{{\"file\":{},\"verdict\":\"{verdict}\",\"reports\":{},\"bad\":{},\"published\":{},\"skipped\":{},\"signatures\":{},{members},\"wrong\":[{}]}}",
            quoted(self.name),
            tally.reports,
            tally.bad,
            tally.published,
            self.verifier.chain.skipped(),
            self.verifier.signatures,
            wrong.join(",")
        )
    }

    /// The members about one feed; of none, each is null.
    fn json_of(&self, feed: &str, of: &FeedTally) -> String {
        let last = of.last.as_ref().filter(|_| self.flaws.is_empty());
        let several = self.is_several() && !feed.is_empty();
        let reports = several.then(|| format!("\"reports\":{},", of.reports));
        let feed_shown = (several || last.is_some()).then(|| quoted(feed));
        let (price, time_us) = last.and_then(|last| last.priced).unzip();
        format!(
            "{}\"number\":{},\"feed\":{},\"embedded\":{},\"price\":{},\"time_us\":{},\"head\":{}",
            reports.unwrap_or_default(),
            or_null(last.map(|_| of.number.to_string())),
            or_null(feed_shown),
            or_null(last.map(|last| last.embedded.to_string())),
            or_null(price.map(price::exact)),
            or_null(time_us.map(|us: u64| us.to_string())),
            or_null(self.verifier.head(feed).map(|head| quoted(&hex(&head))))
        )
    }
}
