//! Changes of roster: the collectors of a roster sign which roster follows it, and from when on. So whoever trusts one roster can go
//! on to the next, whoever it comes from.
//!
//! Invariant: as long as at most f keys of a roster are faulty, at most one roster can follow it. Any two sets of endorsers that
//! suffice have more than f keys in common, and an honest key endorses one change of a roster. Two that both follow name the liars.

use crate::aggregate::{Rule, faulty_max};
use crate::change::RosterFile;
use crate::schedule::Tenure;
use crate::seal::{PublicKey, hex};
use crate::terms::{Roster, Terms};
use crate::utc::utc_text;
use alloc::string::String;
use alloc::vec::Vec;

/// What a change lacks to hold, in words; nothing if it holds. It needs more than half of all n + f of the old roster's slots, as many
/// of each feed that it changes or ends, and every key that is new.
pub fn missing(old: &Roster, new: &Roster, endorsers: &[PublicKey]) -> Vec<String> {
    let signed = |key: &Option<PublicKey>| key.is_some_and(|key| endorsers.contains(&key));
    let short = |who: String, f: u16, keys: Vec<Option<PublicKey>>| {
        let needed = (keys.len() + usize::from(f)) / 2 + 1;
        let found = keys.iter().filter(|key| signed(key)).count();
        (found < needed).then(|| {
            let n = keys.len();
            format!("{found} of {who}'s {n} keys have endorsed it, and {needed} must")
        })
    };
    let keys: Vec<_> = old.slots.iter().map(|slot| slot.key).collect();
    let f = faulty_max(Rule::TrimmedMean, keys.len() as u16);
    let mut missing = Vec::from_iter(short(format!("roster {}", old.number), f, keys));
    let digests: Vec<[u8; 32]> = new.feeds.iter().map(Terms::digest).collect();
    for terms in old.feeds.iter().filter(|_| old.feeds.len() > 1) {
        if !digests.contains(&terms.digest()) {
            let keys = terms.seats.iter().map(|seat| seat.key).collect();
            missing.extend(short(terms.feed.clone(), terms.f(), keys));
        }
    }
    for (at, slot) in new.slots.iter().enumerate() {
        if !signed(&slot.key) && slot.key.is_none_or(|key| old.slot_of(&key).is_none()) {
            missing.push(format!(
                "the key of slot {at}, which is new, has not endorsed it"
            ));
        }
    }
    missing
}

/// A roster of a succession.
#[derive(Clone, Debug)]
struct Link {
    roster: Roster,
    digest: [u8; 32],
    /// The terms digests of its feeds.
    terms: Vec<[u8; 32]>,
    tenure: Tenure,
    endorsers: Vec<PublicKey>,
}

impl Link {
    fn new(roster: Roster, from_us: u64, endorsers: Vec<PublicKey>) -> Link {
        let tenure = Tenure {
            from_us,
            until_us: None,
        };
        Link {
            digest: roster.digest(),
            terms: roster.feeds.iter().map(Terms::digest).collect(),
            roster,
            tenure,
            endorsers,
        }
    }
}

/// The roster that somebody trusts, and those that follow it.
#[derive(Clone, Debug)]
pub struct Succession(Vec<Link>);

impl Succession {
    /// Only the roster that is trusted, which counts from then on (0: always).
    pub fn new(trusted: Roster, from_us: u64) -> Succession {
        Succession(vec![Link::new(trusted, from_us, Vec::new())])
    }

    /// Goes on to the next roster. The error says why it does not follow.
    pub fn follow(&mut self, next: RosterFile) -> Result<(), String> {
        let (last, roster) = (self.newest(), &next.roster);
        let begin = format!(
            "roster {} does not follow roster {}",
            roster.number, last.number
        );
        let of = self
            .0
            .iter()
            .position(|link| Some(link.digest) == roster.previous);
        let Some(before) = of else {
            let previous = roster.previous.map_or("none".into(), |it| hex(&it));
            return Err(format!(
                "{begin}: the roster before it is {previous}, and the digest of that one is {}; name the rosters in their order",
                hex(&self.0[self.0.len() - 1].digest)
            ));
        };
        if let Some(other) = self.0.get(before + 1) {
            let is_same = other.digest == roster.digest();
            if is_same && Some(other.tenure.from_us) == next.from_us {
                return Err(format!("roster {} is given twice", roster.number));
            }
            return Err(fork(&self.0[before].roster, other, &next));
        }
        if roster.number.checked_sub(1) != Some(last.number) {
            return Err(format!("{begin}: its number is not the next one"));
        }
        let Some(from_us) = next.from_us else {
            return Err(format!(
                "{begin}: its file has no [change] with the endorsements of that one's collectors ('rsoracle roster change')"
            ));
        };
        if from_us <= self.0[before].tenure.from_us {
            return Err(format!("{begin}: it would count before that one does"));
        }
        let endorsers: Vec<PublicKey> = next.endorsements.iter().map(|it| it.key).collect();
        let missing = missing(last, roster, &endorsers);
        if !missing.is_empty() {
            return Err(format!("{begin}: {}", missing.join("; ")));
        }
        self.0[before].tenure.until_us = Some(from_us);
        self.0.push(Link::new(next.roster, from_us, endorsers));
        Ok(())
    }

    /// The newest roster.
    pub fn newest(&self) -> &Roster {
        &self.0[self.0.len() - 1].roster
    }

    /// All rosters, from the one that is trusted, each with the time in which it counts.
    pub fn all(&self) -> impl Iterator<Item = (&Roster, Tenure)> {
        self.0.iter().map(|link| (&link.roster, link.tenure))
    }

    /// The roster that counts for rounds that start then; before the first one counts, that one.
    pub fn at(&self, start_us: u64) -> &Roster {
        let counts = self.0.iter().find(|link| link.tenure.includes(start_us));
        &counts.unwrap_or(&self.0[0]).roster
    }

    /// Whether the roster that counts for rounds that start then has the terms of this digest. The error, if only another one has
    /// them, says when that one counts.
    pub fn has(&self, terms_digest: &[u8; 32], start_us: u64) -> Result<bool, String> {
        let mut having = self
            .0
            .iter()
            .filter(|link| link.terms.contains(terms_digest));
        if having.clone().any(|link| link.tenure.includes(start_us)) {
            return Ok(true);
        }
        let Some(link) = having.next() else {
            return Ok(false);
        };
        let Tenure { from_us, until_us } = link.tenure;
        let when = match until_us.filter(|_| from_us <= start_us) {
            Some(until_us) => format!("until {}", utc_text(until_us)),
            None => format!("from {} on", utc_text(from_us)),
        };
        let number = link.roster.number;
        Err(format!(
            "its terms are those of roster {number}, which counts {when}"
        ))
    }
}

/// What is wrong if a second roster says that it follows one: who endorsed both.
fn fork(old: &Roster, one: &Link, other: &RosterFile) -> String {
    let signed = |key: &&PublicKey| other.endorsements.iter().any(|it| it.key == **key);
    let both = one.endorsers.iter().filter(signed);
    let liars: Vec<String> = both.map(|key| hex(key.bytes())).collect();
    let who = match &liars[..] {
        [] => "no key endorsed both".into(),
        liars => format!(
            "these keys endorsed both, which proves that their holders lied: {}",
            liars.join(", ")
        ),
    };
    let from = |us| format!(" from {} on", utc_text(us));
    format!(
        "two rosters say that they follow roster {}: {}{} and {}{}; {who}",
        old.number,
        hex(&one.digest),
        from(one.tenure.from_us),
        hex(&other.roster.digest()),
        other.from_us.map_or(String::new(), from)
    )
}
