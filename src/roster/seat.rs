//! Signed seats: the file with which a collector's owner takes part in a roster, and rosters that are assembled from such files.
//!
//! Invariant: a seat that is parsed here is signed by its key. Seats go into a roster as they are.

use super::text::{render, section};
use crate::keys::secret::SecretKey;
use rsoracle_proof::roster::{parse_seat, seat_bytes};
use rsoracle_proof::seal::hex;
use rsoracle_proof::terms::{Roster, RosterSlot};
use rsoracle_proof::tolerance::counted;
use rsoracle_proof::toml::{self, Wrong};

/// The beginning of a seat's file.
const HEAD: &str = "\
# A signed seat in a roster of rsoracle: the public key and the source of one collector, one for each feed. It is not secret.
# Send it to whoever assembles the roster. They cannot change it, but they say which feeds the roster has and in which order:
# 'rsoracle roster check ROSTER --key FILE' shows what you watch for which feed.
";

/// A seat with its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SignedSeat {
    seat: RosterSlot,
    /// In hexadecimal.
    signature: String,
}

impl SignedSeat {
    /// Its section in a file.
    fn section(&self, name: &str) -> String {
        format!(
            "{}signature = \"{}\"\n",
            section(name, &self.seat),
            self.signature
        )
    }
}

/// The file of the seat of a key's holder.
pub(super) fn sign(key: &SecretKey, sources: &[String]) -> String {
    let public = key.public();
    let signature = hex(&key.sign(&seat_bytes(&public, sources)));
    let seat = RosterSlot {
        key: Some(public),
        sources: sources.to_vec(),
    };
    HEAD.to_owned() + &SignedSeat { seat, signature }.section("seat")
}

/// Parses the file of a seat.
pub(super) fn parse(text: &str) -> Result<SignedSeat, Wrong> {
    let sections = toml::parse(text)?;
    let [top, section] = &sections[..] else {
        let line = sections.get(2).map_or(1, |section| section.line);
        return Err(Wrong::line(
            line,
            "it takes one section, [seat], as 'rsoracle roster seat' prints it",
        ));
    };
    if section.name != "seat" {
        return Err(section.wrong("its only section is not [seat]"));
    }
    if let Some(entry) = top.entries.first() {
        return Err(entry.wrong("it stands before [seat]"));
    }
    let signature = section.required("signature")?.text()?.to_owned();
    Ok(SignedSeat {
        seat: parse_seat(section)?,
        signature,
    })
}

/// Makes a roster of a draft and seats, each with the name of its file. The error says what does not fit.
pub(super) fn assemble(
    draft: &str,
    seats: &[(String, SignedSeat)],
    number: Option<u64>,
    previous: Option<[u8; 32]>,
) -> Result<String, String> {
    let named = toml::parse(draft).map_err(|wrong| wrong.to_string())?;
    if let Some(slot) = named
        .iter()
        .find(|section| section.name.starts_with("slot."))
    {
        let advice = "it already has slots; a draft has none, as 'rsoracle roster new' prints it";
        return Err(slot.wrong(advice).to_string());
    }
    let is_feed = |section: &&toml::Section| section.name.starts_with("feed.");
    let feeds = named.iter().filter(is_feed).count();
    for (index, (path, signed)) in seats.iter().enumerate() {
        let sources = signed.seat.sources.len();
        if sources != feeds {
            return Err(format!(
                "the seat {path} is for {}, but the draft has {}: its holder signs again, with a --source for each feed of the draft, in their order ('none' where there is none)",
                counted(sources as u64, "feed"),
                counted(feeds as u64, "feed")
            ));
        }
        let same = |(_, other): &&(String, SignedSeat)| other.seat.key == signed.seat.key;
        if let Some((other, _)) = seats[..index].iter().find(same) {
            return Err(format!("the seats {other} and {path} have the same key"));
        }
    }
    let sections = seats.iter().enumerate();
    let slots = sections.map(|(slot, (_, signed))| signed.section(&format!("slot.{slot}")));
    let slots: String = slots.collect();
    // The draft stands first, so that errors name its lines. Errors about seats name their files.
    let both = format!("{draft}\n{slots}");
    let mut roster = Roster::parse(&both).map_err(|wrong| {
        let lines = both.lines().take(wrong.line);
        let at = lines.filter(|line| line.starts_with("[slot.")).count();
        match at.checked_sub(1).and_then(|at| seats.get(at)) {
            Some((path, _)) => format!("the seat {path}: {}", wrong.text),
            None => wrong.to_string(),
        }
    })?;
    roster.slots.clear();
    roster.number = number.unwrap_or(roster.number);
    roster.previous = previous.or(roster.previous);
    let text = render(&roster) + &slots;
    match Roster::parse(&text) {
        Ok(_) => Ok(text),
        Err(wrong) => Err(format!("what comes out is no roster: {}", wrong.text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAFT: &str = "number = 1\nprevious = \"\"\n[feed.\"BTC/USD\"]\nrule = \"trimmed-mean\"\nsample_rule = \"mean\"\nmin_exchanges = 1\nmax_age = \"\"\nmax_spread = \"\"\nsamples = 10\ninterval = \"1s\"\nperiod = \"10s\"\nfirst_start = \"2026-12-01T00:00:00Z\"\nend = \"\" # none";

    fn file(seed: u8) -> String {
        sign(
            &SecretKey::from_seed(&mut [seed; 32]),
            &["kraken:BTC/USD".to_owned()],
        )
    }

    fn seat(seed: u8) -> (String, SignedSeat) {
        let seat = parse(&file(seed)).expect("a seat");
        (format!("{seed}.seat"), seat)
    }

    #[test]
    fn a_seat_that_was_changed_is_refused() {
        let good = file(1);
        parse(&good).expect("a seat");
        let other = file(2);
        let line = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key));
            line.expect("it has that").to_owned()
        };
        let swapped = |key| good.replace(&line(&good, key), &line(&other, key));
        for (text, says) in [
            (
                good.replace("BTC/USD", "ETH/USD"),
                "key 'signature': it is not this key's signature",
            ),
            (
                swapped("key"),
                "key 'signature': it is not this key's signature",
            ),
            (
                swapped("signature"),
                "key 'signature': it is not this key's signature",
            ),
            (
                good.replace(&line(&good, "signature"), ""),
                "key 'signature': missing",
            ),
            (
                good.replace("[seat]", "[slot.0]"),
                "line 5: its only section",
            ),
            (format!("{good}[more]\n"), "line 9: it takes one section"),
            (format!("number = 1\n{good}"), "line 1, key 'number'"),
            (
                format!("{good}feed = \"BTC/USD\"\n"),
                "line 9, key 'feed': unknown",
            ),
            (String::new(), "it takes one section, [seat]"),
        ] {
            let wrong = parse(&text).unwrap_err().to_string();
            assert!(wrong.contains(says), "{wrong}");
        }
    }

    #[test]
    fn a_roster_has_the_seats_in_the_given_order_and_the_terms_of_the_draft() {
        let seats = [seat(3), seat(1), seat(2)];
        let text = assemble(DRAFT, &seats, None, None).expect("a roster");
        let roster = Roster::parse(&text).expect("a roster");
        let expected = seats.iter().map(|(_, signed)| signed.seat.clone());
        assert_eq!(roster.slots, expected.collect::<Vec<_>>());
        assert_eq!((roster.number, roster.previous), (1, None));
        assert_eq!(text.matches("\nsignature = ").count(), 3);
        let next = assemble(DRAFT, &seats, Some(2), Some(roster.digest())).expect("a roster");
        let next = Roster::parse(&next).expect("a roster");
        assert_eq!((next.number, next.previous), (2, Some(roster.digest())));
        assert_eq!(next.feeds[0], roster.feeds[0]);
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let says = |draft: &str, seats: &[(String, SignedSeat)]| {
            assemble(draft, seats, None, None).unwrap_err()
        };
        let twice = says(DRAFT, &[seat(1), seat(2), seat(1)]);
        assert_eq!(twice, "the seats 1.seat and 1.seat have the same key");
        let few = says(
            &DRAFT.replace("min_exchanges = 1", "min_exchanges = 2"),
            &[seat(1)],
        );
        assert!(few.starts_with("line 3: ") && few.contains("of 1"), "{few}");
        let section = DRAFT.split_once("[feed").expect("a feed").1;
        let two = format!("{DRAFT}\n[feed{}", section.replace("BTC/USD", "ETH/USD"));
        let few = says(&two, &[seat(1)]);
        let begin = "the seat 1.seat is for 1 feed, but the draft has 2 feeds: ";
        assert!(few.starts_with(begin), "{few}");
        let odd = |sources: [&str; 2]| {
            let key = SecretKey::from_seed(&mut [1; 32]);
            let text = sign(&key, &sources.map(str::to_owned));
            says(
                &two,
                &[("odd.seat".to_owned(), parse(&text).expect("a seat"))],
            )
        };
        for (sources, wrong) in [
            (
                ["kraken:BTC/USD", "okx:ETH-USDT"],
                "the seat odd.seat: its sources are of several kinds",
            ),
            (
                ["kraken:BTC/USD", ""],
                "line 14: the least number of exchanges is 1, but the sources are of 0",
            ),
        ] {
            let refused = odd(sources);
            assert!(refused.starts_with(wrong), "{refused}");
        }
        let full = says(&format!("{DRAFT}\n[slot.0]\n"), &[seat(1)]);
        assert!(full.starts_with("line 14: it already has slots"), "{full}");
        let broken = says(&DRAFT.replace("samples = 10", "samples = 11"), &[seat(1)]);
        assert!(broken.contains("use fewer samples"), "{broken}");
    }
}
