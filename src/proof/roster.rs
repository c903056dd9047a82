//! Reads the roster file: the terms of all feeds, which everybody has. They say whose signatures count. The roster itself is in
//! [`crate::terms`], so that code that only compares rosters need not use this reader.
//!
//! Invariant: every roster that [`Roster::parse`] returns is consistent ([`Terms::check`]), no key is weak (so only its holder
//! can sign with it), and every seat that has a signature was signed by its key.

use crate::aggregate::Rule;
use crate::bytes::padded;
pub use crate::change::RosterFile;
use crate::change::{Change, Endorsement};
use crate::duration::duration_us;
use crate::limits::{COLLECTORS_MAX, PPM_MAX, SAMPLES_MAX, SOURCE_BYTES_MAX, TIME_US_MAX};
use crate::schedule::Schedule;
use crate::seal::{CONTEXT_SEAT, Fields, PublicKey, unhex};
use crate::source::{check_feed, check_source};
pub use crate::terms::Roster;
use crate::terms::{Place, RosterSlot, Terms};
use crate::toml::{self, Section, Wrong};
use crate::utc::{utc_text, utc_us};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

impl RosterFile {
    /// Parses a roster file. Errors name the line and the key.
    pub fn parse(text: &str) -> Result<RosterFile, Wrong> {
        let sections = toml::parse(text)?;
        let is_change = |section: &Section| section.name == "change";
        let end = sections.iter().position(is_change);
        let (sections, change) = sections.split_at(end.unwrap_or(sections.len()));
        let mut file = RosterFile {
            roster: roster(sections)?,
            from_us: None,
            endorsements: Vec::new(),
        };
        let [head, endorsements @ ..] = change else {
            return Ok(file);
        };
        head.only(&["from"])?;
        file.from_us = Some(head.read("from", instant_us)?);
        let no_previous = "a change, but no 'previous': this roster follows none";
        let change = file.change().ok_or_else(|| head.wrong(no_previous))?;
        for (at, section) in endorsements.iter().enumerate() {
            let order = "endorsements count from 0 without gaps, and nothing follows them";
            section.named(&format!("endorsement.{at}"), order)?;
            section.only(&["key", "signature"])?;
            let new = parse_endorsement(section, &change)?;
            if file.endorsements.iter().any(|it| it.key == new.key) {
                return Err(section.wrong("a second endorsement of this key"));
            }
            file.endorsements.push(new);
        }
        Ok(file)
    }
}

/// Parses key and signature of an endorsement, which must be valid for this change.
pub fn parse_endorsement(section: &Section, change: &Change) -> Result<Endorsement, Wrong> {
    let key = section.read("key", public_key)?;
    let entry = section.required("signature")?;
    let signature = entry.read(signature)?;
    if !key.signed(&change.signed_bytes(), &signature) {
        return Err(entry.wrong("it is not this key's signature over this change: a roster or the time was changed, or somebody else signed"));
    }
    Ok(Endorsement { key, signature })
}

impl Roster {
    /// Parses a roster file. Errors name the line and the key.
    pub fn parse(text: &str) -> Result<Roster, Wrong> {
        RosterFile::parse(text).map(|file| file.roster)
    }
}

/// Makes a roster of its sections.
fn roster(sections: &[Section]) -> Result<Roster, Wrong> {
    let (top, rest) = sections
        .split_first()
        .expect("the first section always exists");
    top.only(&["number", "previous"])?;
    let right =
        "it takes the digest of the roster before it, 64 lower-case hexadecimal digits, or \"\"";
    let previous = top.read_some("previous", |text| unhex(text).ok_or(right))?;
    let number = top.required("number")?.whole(1..=i64::MAX)?;
    let is_feed = |section: &&Section| feed_of(section).is_some();
    let (feeds, slots) = rest.split_at(rest.iter().take_while(is_feed).count());
    if feeds.is_empty() {
        let wrong = "the first section must be [feed.\"NAME\"], as in [feed.\"BTC/USD\"]";
        return Err(rest.first().unwrap_or(top).wrong(wrong));
    }
    if let Some(late) = slots.iter().find(is_feed) {
        let wrong = "a feed behind the slots; all feeds stand before the first slot";
        return Err(late.wrong(wrong));
    }
    let terms = feeds.iter().map(terms).collect::<Result<_, _>>()?;
    if slots.is_empty() {
        let wrong = "it has no slots, so it is a draft: 'rsoracle roster assemble' makes a roster of it and signed seats";
        return Err(Wrong::line(feeds[0].line, wrong));
    }
    let roster = Roster::new(number as u64, previous, terms, seats(slots, feeds.len())?);
    roster.check().map_err(|(place, why)| match place {
        Place::Feed(at) => feeds[at.min(feeds.len() - 1)].wrong(why),
        Place::Slot(at) => slots[at].wrong(why),
    })?;
    Ok(roster)
}

/// The name of the feed that a section is about, if it is about one.
fn feed_of(section: &Section) -> Option<&str> {
    let quoted = section.name.strip_prefix("feed.")?;
    quoted.strip_prefix('"')?.strip_suffix('"')
}

/// Parses the section of a feed.
fn terms(section: &Section) -> Result<Terms, Wrong> {
    section.only(&[
        "rule",
        "sample_rule",
        "min_exchanges",
        "max_age",
        "max_spread",
        "samples",
        "interval",
        "period",
        "first_start",
        "end",
    ])?;
    let feed = feed_of(section).expect("it is the section of a feed");
    check_feed(feed).map_err(|right| section.wrong(format!("a feed takes {right}")))?;
    let right = "it takes trimmed-mean, median or mean";
    let rule = |text: &str| text.parse().map_err(|()| right);
    let sample_rule = |text: &str| match text.parse() {
        Ok(rule @ (Rule::Mean | Rule::Median)) => Ok(rule),
        _ => Err("it takes mean or median"),
    };
    let duration = |text: &str| match duration_us(text) {
        Ok(us) if us <= TIME_US_MAX => Ok(us),
        _ => Err("it takes a duration, as in 10s"),
    };
    Ok(Terms {
        feed: feed.to_owned(),
        rule: section.read("rule", rule)?,
        sample_rule: section.read("sample_rule", sample_rule)?,
        exchanges_min: section
            .required("min_exchanges")?
            .whole(1..=COLLECTORS_MAX)?,
        age_us_max: section.read_some("max_age", duration)?,
        spread_ppm_max: section.read_some("max_spread", ppm)?,
        schedule: Schedule {
            samples: section.required("samples")?.whole(1..=SAMPLES_MAX)?,
            interval_us: section.read("interval", duration)?,
            period_us: section.read("period", duration)?,
            first_start_us: section.read("first_start", instant_us)?,
            end_us: section.read_some("end", instant_us)?,
        },
        seats: Vec::new(),
    })
}

/// Parses the sections of the slots, in their order, each of which has a source for every feed. There are no other sections.
fn seats(sections: &[Section], feeds: usize) -> Result<Vec<RosterSlot>, Wrong> {
    let seat = |(slot, section): (usize, &Section)| {
        if slot >= usize::from(COLLECTORS_MAX) {
            return Err(section.wrong(format!("more than {COLLECTORS_MAX} slots")));
        }
        let order = "slots count from 0 without gaps, and there are no other sections";
        section.named(&format!("slot.{slot}"), order)?;
        let seat = parse_seat(section)?;
        let found = seat.sources.len();
        if found != feeds {
            let wrong = format!(
                "it takes a source for each feed, in their order (\"\" for none): {feeds}, not {found}"
            );
            return Err(section.required("sources")?.wrong(wrong));
        }
        Ok(seat)
    };
    sections.iter().enumerate().map(seat).collect()
}

/// Parses the section of a seat. A seat without `signature` is fine; one with a wrong signature is refused.
pub fn parse_seat(section: &Section) -> Result<RosterSlot, Wrong> {
    section.only(&["key", "sources", "signature"])?;
    let sources = section.required("sources")?;
    let toml::Value::List(names) = &sources.value else {
        return Err(sources.wrong("it takes a list with a source for each feed, in their order"));
    };
    for name in names.iter().filter(|name| !name.is_empty()) {
        check_source(name).map_err(|right| sources.wrong(format!("it takes {right}")))?;
    }
    let key = section.read_some("key", public_key)?;
    if let Some(entry) = section.get("signature") {
        let signature = entry.read(signature)?;
        let signed = |key: &PublicKey| key.signed(&seat_bytes(key, names), &signature);
        if !key.as_ref().is_some_and(signed) {
            return Err(entry.wrong("it is not this key's signature over this key and these sources: one of them was changed, or somebody else signed"));
        }
    }
    Ok(RosterSlot {
        key,
        sources: names.clone(),
    })
}

/// The bytes that the signature of a seat covers: context, key, number of sources, and each source at a fixed width.
pub fn seat_bytes(key: &PublicKey, sources: &[String]) -> Vec<u8> {
    let head = Fields::new(CONTEXT_SEAT)
        .field(key.bytes())
        .field(&(sources.len() as u16).to_be_bytes());
    let source = |fields: Fields, it: &String| fields.field(&padded::<SOURCE_BYTES_MAX>(it));
    sources.iter().fold(head, source).bytes()
}

/// Parses an instant of a schedule into microseconds since the Unix epoch. The error describes valid instants.
pub fn instant_us(text: &str) -> Result<u64, &'static str> {
    let us = utc_us(text).filter(|us| utc_text(*us)[..19] == text[..19]);
    us.ok_or("it takes a time, as in 2026-12-01T00:00:00Z")
}

fn signature(text: &str) -> Result<[u8; 64], &'static str> {
    unhex(text).ok_or("it takes a signature: 128 lower-case hexadecimal digits")
}

fn public_key(text: &str) -> Result<PublicKey, &'static str> {
    let bytes = unhex(text).ok_or("it takes a public key: 64 lower-case hexadecimal digits")?;
    let wrong =
        "no valid public key: it is not a point, of small order, or not in canonical encoding";
    PublicKey::decode(&bytes).ok_or(wrong)
}

/// Parses a percentage of at most four decimals into millionths: 5,000 for `0.5%`. The error describes valid percentages.
pub fn ppm(text: &str) -> Result<u32, &'static str> {
    const RIGHT: &str =
        "it takes a percentage above 0% and up to 100%, with at most four decimals, such as 0.5%";
    let number = text.strip_suffix('%').ok_or(RIGHT)?;
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || whole.len() > 3 || decimals.len() > 4 {
        return Err(RIGHT);
    }
    let ppm = format!("{whole}{decimals:0<4}").parse().ok();
    ppm.filter(|ppm| (1..=PPM_MAX).contains(ppm)).ok_or(RIGHT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::hex;
    use crate::seal::tests::SecretKey;
    use std::prelude::v1::*;

    fn key(seed: u8) -> PublicKey {
        SecretKey::from_seed(&[seed; 32]).public()
    }

    /// A roster file of `n` slots.
    fn roster(n: u8) -> String {
        let mut text = String::from(
            "number = 1\nprevious = \"\"\n[feed.\"BTC/USD\"]\nrule = \"trimmed-mean\"\nsample_rule = \"mean\"\nmin_exchanges = 1\nmax_age = \"\"\nmax_spread = \"2%\"\nsamples = 10\ninterval = \"1s\"\nperiod = \"10s\"\nfirst_start = \"2026-12-01T00:00:00Z\"\nend = \"\"\n",
        );
        for slot in 0..n {
            let key = hex(key(slot).bytes());
            text += &format!("[slot.{slot}]\nkey = \"{key}\"\nsources = [\"binance:BTCUSDC\"]\n");
        }
        text
    }

    #[test]
    fn a_roster_says_all_terms_and_its_digest_covers_them() {
        let parsed = Roster::parse(&roster(4)).expect("a roster");
        let terms = &parsed.feeds[0];
        assert_eq!((terms.n(), terms.f(), terms.quorum()), (4, 1, 3));
        assert_eq!(
            (terms.age_us_max, terms.spread_ppm_max),
            (None, Some(20_000))
        );
        assert_eq!(terms.schedule.first_start_us, 1_796_083_200_000_000);
        let digests = [
            ("1s", "2s"),
            ("number = 1", "number = 2"),
            (
                "previous = \"",
                &format!("previous = \"{}", "ab".repeat(32)),
            ),
        ]
        .map(|(part, other)| {
            Roster::parse(
                &roster(4)
                    .replacen(part, other, 1)
                    .replace("samples = 10", "samples = 5"),
            )
        });
        let digests = digests.map(|roster| roster.expect("a roster").digest());
        assert!(digests[0] != digests[1] && digests[1] != digests[2] && digests[0] != digests[2]);
        assert_ne!(parsed.digest(), digests[0]);
        // A source of a kind that this program does not know, and a slot whose collector showed no key.
        let text = roster(4).replace("binance:BTCUSDC", "new-exchange:xbt.usd");
        let text = text.replacen(&hex(key(2).bytes()), "", 1);
        let odd = Roster::parse(&text).expect("a roster").feeds.remove(0);
        assert_eq!(
            (odd.seats[3].source.as_str(), odd.seats[2].key),
            ("new-exchange:xbt.usd", None)
        );
    }

    /// The line of a slot's signature, by the key of a seed, over the seat of another.
    fn signature(seed: u8, seat: u8, source: &str) -> String {
        let bytes = seat_bytes(&key(seat), &[source.into()]);
        let signature = SecretKey::from_seed(&[seed; 32]).sign(&bytes);
        format!("signature = \"{}\"\n", hex(&signature))
    }

    #[test]
    fn a_seat_may_be_signed_by_its_key_and_no_signature_is_part_of_the_terms() {
        let bytes = seat_bytes(&key(1), &["a:b".into(), "c:d".into()]);
        assert_eq!(bytes.len(), 32 + 32 + 2 + 2 * 32);
        assert!(bytes.starts_with(b"rsoracle 2 seat\0") && bytes[64..66] == [0, 2]);
        let text = roster(2) + &signature(1, 1, "binance:BTCUSDC");
        assert_eq!(Roster::parse(&text), Roster::parse(&roster(2)));
        let other = "not this key's signature";
        for (line, says) in [
            (signature(0, 1, "binance:BTCUSDC"), other),
            (signature(1, 0, "binance:BTCUSDC"), other),
            (signature(1, 1, "binance:BTCUSDT"), other),
            ("signature = \"\"\n".into(), "128 lower-case"),
            ("signature = 7\n".into(), "double quotes"),
        ] {
            let wrong = Roster::parse(&(roster(2) + &line)).unwrap_err();
            assert_eq!((wrong.line, wrong.key.as_str()), (20, "signature"));
            assert!(wrong.text.contains(says), "{wrong}");
        }
        // A seat without a key cannot be signed.
        let text = text.replacen(&hex(key(1).bytes()), "", 1);
        assert!(Roster::parse(&text).unwrap_err().text.contains(other));
    }

    #[test]
    fn percentages_are_millionths() {
        for (text, millionths) in [
            ("2%", 20_000),
            ("0.5%", 5_000),
            ("0.0001%", 1),
            ("100%", 1_000_000),
            ("100.0%", 1_000_000),
        ] {
            assert_eq!(ppm(text), Ok(millionths), "{text}");
        }
        for text in [
            "", "%", "2", "0%", "100.1%", "0.00001%", ".5%", "5.%", "-1%", "1e1%", "1000%",
        ] {
            assert!(ppm(text).is_err(), "{text}");
        }
    }

    #[test]
    fn invalid_rosters_are_refused_with_line_and_key() {
        let good = roster(4);
        let (hex_0, hex_3) = (hex(key(0).bytes()), hex(key(3).bytes()));
        let small_order = format!("01{}", "0".repeat(62));
        let upper = hex_3.to_uppercase();
        let table: &[(&str, &str, &str, &str)] = &[
            ("number = 1\n", "", "key 'number'", "missing"),
            ("number = 1", "number = 0", "key 'number'", "from 1"),
            (
                "previous = \"\"",
                "previous = \"ab\"",
                "key 'previous'",
                "64 lower-case",
            ),
            (
                "[feed.\"BTC/USD\"]",
                "[feed.BTC]",
                "line 3",
                "must be [feed.",
            ),
            (
                "[feed.\"BTC/USD\"]",
                "[feed.\"BTC USD\"]",
                "line 3",
                "visible",
            ),
            (
                "[slot.3]",
                "[feed.\"ETH/USD\"]",
                "line ",
                "a feed behind the slots",
            ),
            ("\"trimmed-mean\"", "\"average\"", "key 'rule'", "median"),
            (
                "\"mean\"\n",
                "\"trimmed-mean\"\n",
                "key 'sample_rule'",
                "mean or median",
            ),
            (
                "min_exchanges = 1",
                "min_exchanges = 0",
                "key 'min_exchanges'",
                "from 1",
            ),
            ("min_exchanges = 1", "min_exchanges = 2", "line 3", "of 1"),
            (
                "max_age = \"\"",
                "max_age = \"60\"",
                "key 'max_age'",
                "a duration",
            ),
            ("\"2%\"", "\"2\"", "key 'max_spread'", "a percentage"),
            ("\"2%\"", "2", "key 'max_spread'", "double quotes"),
            (
                "samples = 10",
                "samples = 11",
                "line 3",
                "use fewer samples",
            ),
            (
                "\"2026-12-01T00:00:00Z\"",
                "\"2026-12-01\"",
                "key 'first_start'",
                "a time",
            ),
            ("00:00:00Z\"", "23:59:60Z\"", "key 'first_start'", "a time"),
            (
                "end = \"\"",
                "end = \"2026-12-01T00:00:00Z\"",
                "line 3",
                "not after",
            ),
            (
                "min_exchanges =",
                "exchanges_min =",
                "key 'exchanges_min'",
                "unknown",
            ),
            (&hex_3, &hex_0, "line 3", "the same key"),
            (&hex_3, &small_order, "key 'key'", "no valid public key"),
            (&hex_3, &upper, "key 'key'", "lower-case"),
            (&hex_3, &hex_3[1..], "key 'key'", "64 lower-case"),
            (
                "[\"binance:BTCUSDC\"]",
                "[\"binance\"]",
                "key 'sources'",
                "binance:BTCUSDC",
            ),
            (
                "[\"binance:BTCUSDC\"]",
                "[]",
                "key 'sources'",
                "a source for each feed",
            ),
            (
                "[\"binance:BTCUSDC\"]",
                "\"binance:BTCUSDC\"",
                "key 'sources'",
                "a list",
            ),
            ("[slot.3]", "[slot.4]", "line ", "[slot.3] is expected"),
            ("[slot.0]", "[slot.4]", "line ", "[slot.0] is expected"),
            ("[slot.3]", "[slot.03]", "line ", "[slot.3] is expected"),
            ("[slot.3]", "[slot]", "line ", "[slot.3] is expected"),
            ("[slot.3]", "[slot.2]", "line ", "twice"),
            (
                "[slot.3]\n",
                "[slot.3]\nslot = 3\n",
                "key 'slot'",
                "unknown",
            ),
        ];
        for (part, other, place, says) in table {
            assert!(good.contains(part), "{part}");
            let sentence = Roster::parse(&good.replacen(part, other, 1)).unwrap_err();
            let sentence = sentence.to_string();
            assert!(sentence.starts_with("line "), "{other}: {sentence}");
            assert!(sentence.contains(place), "{other}: {sentence}");
            assert!(sentence.contains(says), "{other}: {sentence}");
        }
        let (top, _) = good.split_once("[slot.0]").unwrap();
        let sentence = Roster::parse(top).unwrap_err().to_string();
        assert!(sentence.contains("it is a draft"), "{sentence}");
    }

    const ETH: &str = "[feed.\"ETH/USD\"]\nrule = \"median\"\nsample_rule = \"median\"\nmin_exchanges = 2\nmax_age = \"1m\"\nmax_spread = \"\"\nsamples = 10\ninterval = \"1s\"\nperiod = \"10s\"\nfirst_start = \"2026-12-01T00:00:00Z\"\nend = \"\"\n";

    /// A roster file of two feeds and four slots, whose lists of sources these are.
    fn roster_of_two(sources: [&str; 4]) -> String {
        let text = roster(4).replacen("[slot.0]", &format!("{ETH}[slot.0]"), 1);
        let (feeds, _) = text.split_once("[slot.0]").expect("a slot");
        let slot = |(slot, sources)| {
            let key = hex(key(slot).bytes());
            format!("[slot.{slot}]\nkey = \"{key}\"\nsources = {sources}\n")
        };
        feeds.to_owned() + &(0..).zip(sources).map(slot).collect::<String>()
    }

    const SOURCES: [&str; 4] = [
        "[\"binance:BTCUSDC\", \"binance:ETHUSDC\"]",
        "[\"\", \"kraken:ETH/USD\"]",
        "[\"okx:BTC-USDT\", \"\"]",
        "[\"coinbase:BTC-USD\", \"coinbase:ETH-USD\"]",
    ];

    #[test]
    fn a_roster_of_several_feeds_says_who_prices_which() {
        let roster = Roster::parse(&roster_of_two(SOURCES)).expect("a roster");
        let (btc, eth) = (&roster.feeds[0], &roster.feeds[1]);
        let sources = |terms: &Terms| -> Vec<String> {
            terms.seats.iter().map(|seat| seat.source.clone()).collect()
        };
        assert_eq!(
            sources(btc),
            ["binance:BTCUSDC", "okx:BTC-USDT", "coinbase:BTC-USD"]
        );
        assert_eq!(
            sources(eth),
            ["binance:ETHUSDC", "kraken:ETH/USD", "coinbase:ETH-USD"]
        );
        assert_eq!(
            (eth.feed.as_str(), eth.rule, eth.age_us_max),
            ("ETH/USD", Rule::Median, Some(60_000_000))
        );
        assert_eq!((eth.exchanges_min, eth.spread_ppm_max), (2, None));
        assert_eq!(eth.seats[1].key, Some(key(1)));
        assert_eq!(
            (roster.seat_of(0, 2), roster.seat_of(1, 3)),
            (Some(1), Some(2))
        );
        assert_eq!((*roster.schedule(), roster.feeds.len()), (eth.schedule, 2));
        // The feeds in another order are another roster.
        let text = roster_of_two(SOURCES);
        let (top, rest) = text.split_once("[feed.").expect("a feed");
        let (first, rest) = rest.split_once(ETH).expect("the other");
        let turned = Roster::parse(&format!("{top}{ETH}[feed.{first}{rest}"));
        assert_ne!(turned.expect("a roster").digest(), roster.digest());
    }

    #[test]
    fn a_seat_of_several_feeds_is_signed_with_all_its_sources() {
        let names = |sources: &str| -> Vec<String> {
            let inner = sources.trim_matches(['[', ']']).split(", ");
            inner
                .map(|name| name.trim_matches('"').to_owned())
                .collect()
        };
        let signed = |over: &str| {
            let bytes = seat_bytes(&key(3), &names(over));
            let signature = SecretKey::from_seed(&[3; 32]).sign(&bytes);
            roster_of_two(SOURCES) + &format!("signature = \"{}\"\n", hex(&signature))
        };
        assert_eq!(
            Roster::parse(&signed(SOURCES[3])),
            Roster::parse(&roster_of_two(SOURCES))
        );
        for other in [
            "[\"coinbase:BTC-USD\", \"\"]",
            "[\"coinbase:BTC-USD\"]",
            "[\"coinbase:ETH-USD\", \"coinbase:BTC-USD\"]",
            "[\"coinbase:BTC-USD\", \"coinbase:ETH-USD\", \"\"]",
        ] {
            let wrong = Roster::parse(&signed(other)).expect_err(other);
            assert!(wrong.text.contains("not this key's signature"), "{wrong}");
        }
        // No source is 32 zero bytes in its place.
        let bytes = seat_bytes(&key(1), &names(SOURCES[1]));
        assert_eq!(
            (bytes.len(), &bytes[64..66], &bytes[66..98]),
            (130, &[0, 2][..], &[0; 32][..])
        );
        assert!(bytes[98..].starts_with(b"kraken:ETH/USD\0"));
    }

    #[test]
    fn invalid_rosters_of_several_feeds_are_refused_with_line_and_key() {
        let good = roster_of_two(SOURCES);
        let again = ETH.replace("ETH", "BTC");
        let many: String = (0..64)
            .map(|feed| ETH.replace("ETH", &format!("F{feed}")))
            .collect();
        let long = format!("[{}]", vec!["\"okx:X\""; 65].join(", "));
        for (part, other, place, says) in [
            (ETH, again.as_str(), "line 14", "twice"),
            (
                "period = \"10s\"\nfirst_start = \"2026-12-01T00:00:00Z\"\nend = \"\"\n[slot",
                "period = \"20s\"\nfirst_start = \"2026-12-01T00:00:00Z\"\nend = \"\"\n[slot",
                "line 14",
                "its schedule (samples, interval, period, first_start, end) is not that of the first feed",
            ),
            ("min_exchanges = 2", "min_exchanges = 4", "line 14", "of 3"),
            (
                SOURCES[1],
                "[\"kraken:ETH/USD\"]",
                "key 'sources'",
                "2, not 1",
            ),
            (SOURCES[1], "[]", "key 'sources'", "2, not 0"),
            (
                SOURCES[1],
                "[\"\", \"kraken:ETH/USD\", \"\"]",
                "key 'sources'",
                "2, not 3",
            ),
            (SOURCES[1], "[\"\", \"\"]", "line 28", "it has no source"),
            (
                SOURCES[1],
                "[\"\", \"kraken\"]",
                "key 'sources'",
                "EXCHANGE:SYMBOL",
            ),
            (
                SOURCES[1],
                "[\"okx:BTC-USDT\", \"kraken:ETH/USD\"]",
                "line 28",
                "of several kinds",
            ),
        ] {
            assert!(good.contains(part), "{part}");
            let sentence = Roster::parse(&good.replacen(part, other, 1))
                .unwrap_err()
                .to_string();
            assert!(
                sentence.contains(place) && sentence.contains(says),
                "{other}: {sentence}"
            );
        }
        // Two slots of one key that price no feed together.
        let [first, second] = [1, 2].map(|slot| hex(key(slot).bytes()));
        let sentence = Roster::parse(&good.replace(&second, &first))
            .unwrap_err()
            .to_string();
        assert!(
            sentence.starts_with("line 31: two slots have the same key"),
            "{sentence}"
        );
        let text = roster(1).replacen("[slot.0]", &format!("{many}[slot.0]"), 1);
        let text = text
            .replacen("[\"binance:BTCUSDC\"]", &long, 1)
            .replace("min_exchanges = 2", "min_exchanges = 1");
        let sentence = Roster::parse(&text).unwrap_err().to_string();
        assert!(sentence.ends_with("more than 64 feeds"), "{sentence}");
    }
}
