//! Changes of roster: the file with which a key's holder endorses one, and rosters that carry endorsements.
//!
//! Invariant: a key endorses one change of a roster. A file on the disk says which one, before the endorsement leaves this program.

use super::page::{row, watched};
use super::text::instant;
use crate::keys::secret::SecretKey;
use crate::system::file;
use crate::system::limits::TOML_BYTES_MAX;
use rsoracle_proof::change::{Change, Endorsement};
use rsoracle_proof::roster::{RosterFile, instant_us, parse_endorsement};
use rsoracle_proof::seal::{PublicKey, hex, unhex};
use rsoracle_proof::succession::missing;
use rsoracle_proof::terms::{Roster, RosterSlot, Terms};
use rsoracle_proof::toml::{self, Wrong};
use rsoracle_verify::error::Error;
use rsoracle_verify::files;
use std::io::ErrorKind;

/// The beginning of an endorsement's file.
const HEAD: &str = "\
# A collector's key endorses a change of roster: which one follows which, and from when on. It is not secret. Send it to whoever
# puts the endorsements together ('rsoracle roster change').
";

/// A roster, and the one that is to follow it.
pub(super) struct Step {
    old: Roster,
    /// From when on the old one counts.
    old_from_us: u64,
    new: RosterFile,
}

impl Step {
    /// The error says why the new roster cannot follow the old one, whoever endorses it.
    pub(super) fn new(old: RosterFile, new: RosterFile) -> Result<Step, String> {
        let old_from_us = old.from_us.unwrap_or(0);
        let (old, digest) = (old.roster.clone(), old.roster.digest());
        let number = old.number + 1;
        if (new.roster.number, new.roster.previous) == (number, Some(digest)) {
            let step = Step {
                old,
                old_from_us,
                new,
            };
            return step.in_order().map(|()| step);
        }
        let digest = hex(&digest);
        Err(format!(
            "it is not made to follow roster {}; assemble it with --number {number} --previous {digest}",
            old.number
        ))
    }

    /// Refuses a time at which the old roster does not count yet.
    fn in_order(&self) -> Result<(), String> {
        if self.new.from_us.is_none_or(|us| us > self.old_from_us) {
            return Ok(());
        }
        let (number, from) = (self.old.number, instant(self.old_from_us));
        Err(format!(
            "it would count before roster {number} does, which is from {from} on; choose a later time"
        ))
    }

    /// The change, once it has a time. The error says what to do.
    fn change(&self) -> Result<Change, &'static str> {
        let none = "it has no [change], which says from when on it counts: 'rsoracle roster change OLD NEW --from TIME' adds it";
        self.new.change().ok_or(none)
    }

    /// What the change lacks to hold, in words.
    fn missing(&self) -> Vec<String> {
        let endorsers = self.new.endorsements.iter().map(|it| it.key);
        missing(&self.old, &self.new.roster, &endorsers.collect::<Vec<_>>())
    }

    /// The change in words. What it lacks is returned besides.
    pub(super) fn page(&self) -> (String, Vec<String>) {
        let (old, new) = (&self.old, &self.new.roster);
        let when = match self.new.from_us {
            Some(us) => format!("from {} on", instant(us)),
            None => "at a time that is not fixed yet".to_owned(),
        };
        let (from, to) = (old.number, new.number);
        let mut page = row(
            "change",
            &format!("from roster {from} to roster {to}, {when}"),
        );
        page += &row("old digest", &hex(&old.digest()));
        page += &row("new digest", &hex(&new.digest()));
        page += &row("feeds", &self.feeds());
        let slots = |of: &Roster, is_listed: &dyn Fn(&PublicKey) -> bool| {
            let listed = of.slots.iter().enumerate();
            let listed = listed.filter(|(_, slot)| slot.key.as_ref().is_some_and(is_listed));
            let listed: Vec<String> = listed.map(|(at, _)| at.to_string()).collect();
            let many = if listed.len() == 1 { "slot" } else { "slots" };
            (!listed.is_empty())
                .then(|| format!("{many} {} of roster {}", listed.join(", "), of.number))
        };
        let none = || "none".to_owned();
        let is_new = |key: &PublicKey| old.slot_of(key).is_none();
        let endorsed = |key: &PublicKey| self.new.endorsements.iter().any(|it| it.key == *key);
        let leaving = each(old, &|key| new.slot_of(key).is_none());
        page += &row("leaving", &leaving.unwrap_or_else(none));
        page += &row("joining", &each(new, &is_new).unwrap_or_else(none));
        let by = [
            slots(old, &endorsed),
            slots(new, &|key| endorsed(key) && is_new(key)),
        ];
        let by: Vec<String> = by.into_iter().flatten().collect();
        if !by.is_empty() {
            page += &row("endorsed by", &by.join("; "));
        }
        (page, self.missing())
    }

    /// What becomes of each feed.
    fn feeds(&self) -> String {
        let becomes = |terms: &Terms| match self.old.feed(&terms.feed) {
            None => "new",
            Some(before) if before.digest() == terms.digest() => "as before",
            Some(_) => "has other terms",
        };
        let (old, new) = (&self.old, &self.new.roster);
        let going_on = new.feeds.iter().map(|terms| (terms, becomes(terms)));
        let gone = old
            .feeds
            .iter()
            .filter(|terms| new.feed(&terms.feed).is_none());
        let all = going_on.chain(gone.map(|terms| (terms, "ends")));
        let all = all.map(|(terms, becomes)| format!("{} ({becomes})", terms.feed));
        all.collect::<Vec<_>>().join(", ")
    }

    /// The new roster's file with these endorsements besides those that it has. `text` is that of the file, `from_us` the time from
    /// which on it is to count. The error says what does not fit.
    pub(super) fn endorsed(
        mut self,
        text: &str,
        from_us: Option<u64>,
        more: Vec<(String, Change, Endorsement)>,
    ) -> Result<(String, Step), String> {
        if from_us.is_some() && from_us != self.new.from_us {
            if !self.new.endorsements.is_empty() {
                return Err("it has endorsements for another time than --from, and nobody endorses two; leave --from out or, for another time, assemble it again ('rsoracle roster assemble'), which leaves the endorsements out, and then change it with --from".to_owned());
            }
            self.new.from_us = from_us;
            self.in_order()?;
        }
        let change = self.change()?;
        for (path, other, endorsement) in more {
            if other != change {
                return Err(format!(
                    "{path} endorses another change: from {} to {}, {} on",
                    hex(&other.old),
                    hex(&other.new),
                    instant(other.from_us)
                ));
            }
            let key = endorsement.key;
            let known = [&self.old, &self.new.roster];
            if known.iter().all(|roster| roster.slot_of(&key).is_none()) {
                return Err(format!(
                    "{path} is of the key {}, which neither roster has",
                    hex(key.bytes())
                ));
            }
            self.new.endorsements.retain(|it| it.key != key);
            self.new.endorsements.push(endorsement);
        }
        let sections = toml::parse(text).map_err(|wrong| wrong.to_string())?;
        let head = sections.iter().find(|section| section.name == "change");
        let before = head.map_or(usize::MAX, |head| head.line - 1);
        let mut whole: String = text
            .lines()
            .take(before)
            .flat_map(|line| [line, "\n"])
            .collect();
        let from = instant(change.from_us);
        if head.is_none() {
            whole.push('\n');
        }
        whole += &format!(
            "[change]\n# It follows the roster above as 'previous', by these endorsements. Rounds from this time on count under it.\nfrom = \"{from}\"\n"
        );
        for (at, it) in self.new.endorsements.iter().enumerate() {
            let (key, signature) = (hex(it.key.bytes()), hex(&it.signature));
            whole +=
                &format!("\n[endorsement.{at}]\nkey = \"{key}\"\nsignature = \"{signature}\"\n");
        }
        match whole.len() <= TOML_BYTES_MAX {
            true => Ok((whole, self)),
            false => Err(format!(
                "with its endorsements it is larger than {TOML_BYTES_MAX} bytes"
            )),
        }
    }

    /// The endorsement of a key's holder, as a file's text. `places` are the beginnings of the names of the files that keep it; the
    /// first one is written.
    pub(super) fn endorse(
        &self,
        key: &SecretKey,
        places: &[String],
        now_us: u64,
    ) -> Result<String, Error> {
        let attempt = format!("cannot endorse roster {}", self.new.roster.number);
        let failed = |why: String| Error::new(&attempt, why);
        let change = self.change().map_err(|why| failed(why.to_owned()))?;
        let public = key.public();
        let rosters = [&self.old, &self.new.roster];
        if rosters.iter().all(|it| it.slot_of(&public).is_none()) {
            let key = hex(public.bytes());
            return Err(failed(format!("neither roster has this key, {key}")));
        }
        let ends = [hex(public.bytes()), hex(&change.old)];
        let end = ends.map(|end| end[..16].to_owned()).join("-");
        let paths: Vec<String> = places
            .iter()
            .map(|it| format!("{it}.endorsed-{end}"))
            .collect();
        for path in &paths {
            if let Some(before) = kept(path, &public)? {
                return match before.0 == change {
                    true => Ok(before.1),
                    false => Err(self.refused(&attempt, &before.0, path)),
                };
            }
        }
        if change.from_us <= now_us {
            let from = instant(change.from_us);
            return Err(failed(format!("it would count from {from} on, which has passed")).advise("those who have endorsed it cannot endorse another time: if enough others are left, agree on a later one, assemble the new roster again without endorsements ('rsoracle roster assemble'), and then set it with 'rsoracle roster change OLD NEW --from TIME'"));
        }
        let endorsement = Endorsement {
            key: public,
            signature: key.sign(&change.signed_bytes()),
        };
        let text = render(&change, &endorsement);
        let path = &paths[0];
        match file::create(path, &text) {
            Ok(()) => Ok(text),
            Err(error) => {
                let attempt = format!("cannot create {path}, which keeps what is endorsed");
                Err(Error::new(attempt, error)
                    .advise("name a directory with room that this user may write to: --state DIR"))
            }
        }
    }

    /// The error of a key that has endorsed another change, as this file says.
    fn refused(&self, attempt: &str, before: &Change, path: &str) -> Error {
        let why = format!(
            "this key endorsed another change of roster {}: to the digest {}, from {} on; {path} has it",
            self.old.number,
            hex(&before.new),
            instant(before.from_us)
        );
        Error::new(attempt, why).advise("a second endorsement would prove that you lied; if that one was never sent to anybody, remove that file")
    }
}

/// Rows about the endorsements that a change lacks.
pub(super) fn lacking(missing: &[String]) -> String {
    let line = |what: &String| row("missing", &format!("not yet endorsed: {what}"));
    missing.iter().map(line).collect()
}

/// The slots whose keys are listed, each with its sources and the first digits of its key; `None` if there are none.
fn each(of: &Roster, is_listed: &dyn Fn(&PublicKey) -> bool) -> Option<String> {
    let slot = |(at, slot): (usize, &RosterSlot)| {
        let key = slot.key.filter(is_listed)?;
        let (number, begins) = (of.number, hex(&key.bytes()[..8]));
        let watched = watched(of, slot);
        Some(format!(
            "slot {at} of roster {number} ({watched}, key {begins}…)"
        ))
    };
    let all: Vec<String> = of.slots.iter().enumerate().filter_map(slot).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// The change that a key has endorsed, and the endorsement's text, if there is such a file.
fn kept(path: &str, key: &PublicKey) -> Result<Option<(Change, String)>, Error> {
    let attempt = format!("cannot read {path}, which keeps what this key endorsed");
    if let Err(error) = std::fs::symlink_metadata(path)
        && error.kind() == ErrorKind::NotFound
    {
        return Ok(None);
    }
    let text = files::text(files::read(path, TOML_BYTES_MAX as u64, &attempt)?);
    let text = text.map_err(|why| Error::new(&attempt, why))?;
    let (change, endorsement) = parse(&text).map_err(|wrong| Error::new(&attempt, wrong))?;
    match endorsement.key == *key {
        true => Ok(Some((change, text))),
        false => Err(Error::new(attempt, "it is of another key")),
    }
}

/// The file of an endorsement, as `rsoracle roster endorse` writes it.
pub fn render(change: &Change, endorsement: &Endorsement) -> String {
    format!(
        "{HEAD}\n[endorsement]\nkey = \"{}\"\nold = \"{}\"\nnew = \"{}\"\nfrom = \"{}\"\nsignature = \"{}\"\n",
        hex(endorsement.key.bytes()),
        hex(&change.old),
        hex(&change.new),
        instant(change.from_us),
        hex(&endorsement.signature)
    )
}

/// Parses the file of an endorsement. Its signature must be valid.
pub fn parse(text: &str) -> Result<(Change, Endorsement), Wrong> {
    let sections = toml::parse(text)?;
    let [top, section] = &sections[..] else {
        let line = sections.get(2).map_or(1, |section| section.line);
        let wrong = "it takes one section, [endorsement], as 'rsoracle roster endorse' prints it";
        return Err(Wrong::line(line, wrong));
    };
    top.only(&[])?;
    if section.name != "endorsement" {
        let wrong = "its only section is not [endorsement]";
        return Err(section.wrong(wrong));
    }
    section.only(&["key", "old", "new", "from", "signature"])?;
    let right = "it takes a roster digest, 64 lower-case hexadecimal digits";
    let digest = |key| section.read(key, |text| unhex(text).ok_or(right));
    let change = Change {
        old: digest("old")?,
        new: digest("new")?,
        from_us: section.read("from", instant_us)?,
    };
    Ok((change, parse_endorsement(section, &change)?))
}
