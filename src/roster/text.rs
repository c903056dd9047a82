//! Writes a roster, and each seat in it, as the text that the proof crate parses.
//!
//! Invariant: what is written parses as what was written. It contains public keys only.

use rsoracle_proof::duration::duration_text;
use rsoracle_proof::limits::{COLLECTORS_MAX, FEEDS_MAX, SOURCE_BYTES_MAX, TOML_BYTES_MAX};
use rsoracle_proof::seal::hex;
use rsoracle_proof::terms::{Roster, RosterSlot, Terms};
use rsoracle_proof::utc::utc_text;

/// Most bytes that one slot without a signature and without sources takes in the file.
const SLOT_BYTES_MAX: usize = 128;
/// Most bytes that a slot's source for one feed takes.
const NAME_BYTES_MAX: usize = SOURCE_BYTES_MAX + 4;
/// Most bytes that the section of a feed takes.
const FEED_SECTION_BYTES_MAX: usize = 1024;
const _: () = {
    let slots = COLLECTORS_MAX as usize * (SLOT_BYTES_MAX + NAME_BYTES_MAX);
    assert!(slots + FEEDS_MAX * FEED_SECTION_BYTES_MAX + 4096 <= TOML_BYTES_MAX);
};

/// The beginning of the file.
const HEAD: &str = "\
# A roster of rsoracle: the terms of a price, and whose signatures count. It contains only public keys and is not secret.
# Whoever can change this file decides which prices you believe, so get it over a channel that you trust.
";

/// A roster as a file, with comments, which `Roster::parse` reads as the same roster. Its seats are not signed.
pub fn render(roster: &Roster) -> String {
    let previous = roster.previous.map_or(String::new(), |digest| hex(&digest));
    let number = roster.number;
    let mut text = format!("{HEAD}number = {number}\nprevious = \"{previous}\"\n");
    for terms in &roster.feeds {
        text.push_str(&feed(terms));
    }
    for (at, slot) in roster.slots.iter().enumerate() {
        text.push_str(&section(&format!("slot.{at}"), slot));
    }
    text
}

/// The section of a feed.
fn feed(terms: &Terms) -> String {
    let schedule = &terms.schedule;
    let (feed, rule, sample_rule) = (&terms.feed, terms.rule.name(), terms.sample_rule.name());
    let (min_exchanges, samples) = (terms.exchanges_min, schedule.samples);
    let max_age = terms.age_us_max.map_or(String::new(), duration_text);
    let max_spread = terms.spread_ppm_max.map_or(String::new(), percent);
    let [interval, period] = [schedule.interval_us, schedule.period_us].map(|us| match us {
        0 => "0s".to_owned(),
        us => duration_text(us),
    });
    let first_start = instant(schedule.first_start_us);
    let end = schedule.end_us.map_or(String::new(), instant);
    // No name needs an escape: that is what the parser checks of them.
    format!(
        "
[feed.\"{feed}\"]
rule = \"{rule}\" # of the collectors' prices: trimmed-mean, median or mean
sample_rule = \"{sample_rule}\" # of a collector's samples: mean or median
min_exchanges = {min_exchanges} # how many exchanges a price needs
max_age = \"{max_age}\" # of a sample; \"\": what each exchange's kind has
max_spread = \"{max_spread}\" # of the prices used; \"\": no limit
samples = {samples} # of each collector in each round
interval = \"{interval}\" # from one sample to the next
period = \"{period}\" # from one round's start to the next; \"0s\": a single round
first_start = \"{first_start}\"
end = \"{end}\" # no round starts at that time or later; \"\": no end
"
    )
}

/// The section of a slot, which `parse_seat` reads as the same slot.
pub(crate) fn section(name: &str, slot: &RosterSlot) -> String {
    let key = slot.key.map_or(String::new(), |key| hex(key.bytes()));
    let sources = slot.sources.join("\", \"");
    format!("\n[{name}]\nkey = \"{key}\"\nsources = [\"{sources}\"]\n")
}

/// An instant as a roster has it, to the microsecond.
pub(crate) fn instant(us: u64) -> String {
    match us % 1_000_000 {
        0 => format!("{}Z", &utc_text(us)[..19]),
        part => format!("{}.{part:06}Z", &utc_text(us)[..19]),
    }
}

/// Millionths as a percentage.
pub(crate) fn percent(ppm: u32) -> String {
    let text = format!("{}.{:04}", ppm / 10_000, ppm % 10_000);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::secret::SecretKey;
    use rsoracle_proof::aggregate::Rule;
    use rsoracle_proof::schedule::Schedule;

    fn terms(feed: &str) -> Terms {
        Terms {
            feed: feed.into(),
            rule: Rule::TrimmedMean,
            sample_rule: Rule::Mean,
            exchanges_min: 1,
            age_us_max: None,
            spread_ppm_max: None,
            schedule: Schedule {
                first_start_us: 0,
                period_us: 10_000_000,
                end_us: None,
                samples: 10,
                interval_us: 1_000_000,
            },
            seats: Vec::new(),
        }
    }

    fn slot(seed: u8, sources: &[&str]) -> RosterSlot {
        RosterSlot {
            key: Some(SecretKey::from_seed(&mut [seed; 32]).public()),
            sources: sources.iter().map(|source| (*source).into()).collect(),
        }
    }

    fn roster(n: u8) -> Roster {
        let slots = (0..n).map(|seed| slot(seed, &["binance:BTCUSDC"]));
        Roster::new(1, None, vec![terms("BTC/USD")], slots.collect())
    }

    #[test]
    fn a_roster_round_trips() {
        let odd_terms = Terms {
            feed: "a'b#[]=c".into(),
            rule: Rule::Mean,
            sample_rule: Rule::Median,
            age_us_max: Some(60_000_000),
            spread_ppm_max: Some(20_500),
            schedule: Schedule {
                first_start_us: 1_795_343_400_000_001,
                period_us: 10_500_000,
                end_us: Some(1_895_343_400_123_456),
                samples: 3,
                interval_us: 20_000,
            },
            ..terms("")
        };
        let mut slots = roster(5).slots;
        slots[3].key = None;
        let odd = Roster::new(7, Some([7; 32]), vec![odd_terms], slots);
        for ppm in [1, 10_000, 1_000_000, 999_999] {
            let mut spread = odd.clone();
            spread.feeds[0].spread_ppm_max = Some(ppm);
            assert_eq!(Roster::parse(&render(&spread)).as_ref(), Ok(&spread));
        }
        let feeds = ["BTC/USD", "ETH/USD", "SOL/USD"].map(terms);
        let slots = vec![
            slot(1, &["kraken:BTC/USD", "", "kraken:SOL/USD"]),
            slot(2, &["okx:BTC-USDT", "okx:ETH-USDT", ""]),
            slot(3, &["", "coinbase:ETH-USD", "coinbase:SOL-USD"]),
        ];
        let several = Roster::new(1, None, feeds.into(), slots);
        for roster in [roster(1), roster(5), roster(100), odd, several] {
            let text = render(&roster);
            assert_eq!(Roster::parse(&text).as_ref(), Ok(&roster), "{text}");
            assert_eq!(render(&Roster::parse(&text).unwrap()), text);
        }
    }

    #[test]
    fn the_largest_roster_is_within_the_bound_of_the_parser() {
        let longest = format!("binance:{}", "X".repeat(24));
        let largest = Roster::new(1, None, vec![terms("BTC/USD")], vec![slot(1, &[&longest])]);
        let text = render(&largest);
        let slot_bytes = text.len() - text.find("\n[slot.0]").unwrap() + "4095".len();
        assert!(
            slot_bytes <= SLOT_BYTES_MAX + NAME_BYTES_MAX,
            "{slot_bytes}"
        );
        assert!(feed(&terms("0123456789abcdef")).len() + 64 <= FEED_SECTION_BYTES_MAX);
    }
}
