//! Roster files, with lines `---` between them. A roster that is read is written as a file that reads back as the same roster.
//! The second one is made to follow the first. Each byte of the third and the fourth part leaves out one of those who could endorse
//! it: any two sets of endorsers that suffice have an honest key in common.
#![no_main]

use rsoracle::roster::text::render;
use rsoracle_proof::aggregate::{Rule, faulty_max};
use rsoracle_proof::change::{Endorsement, RosterFile};
use rsoracle_proof::roster::Roster;
use rsoracle_proof::schedule::Schedule;
use rsoracle_proof::seal::PublicKey;
use rsoracle_proof::succession::{Succession, missing};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let mut parts = text.split("\n---\n");
    let [old, new] = [parts.next(), parts.next()].map(|part| part.and_then(read));
    let absent = [parts.next(), parts.next()].map(Option::unwrap_or_default);
    if let (Some(old), Some(new)) = (old, new) {
        followed(&old, &new);
        change(&old, new, absent);
    }
});

/// Reads a roster file, and checks what everyone relies on.
fn read(text: &str) -> Option<RosterFile> {
    let file = RosterFile::parse(text).map_err(|wrong| assert!(!wrong.to_string().is_empty()));
    let file = file.ok()?;
    let roster = &file.roster;
    let page = render(roster);
    assert_eq!(Roster::parse(&page).as_ref(), Ok(roster), "{page}");
    assert_eq!(roster.check(), Ok(()));
    for (feed, terms) in roster.feeds.iter().enumerate() {
        assert_eq!(roster.feed(&terms.feed), Some(terms));
        let (n, f, quorum) = (terms.n(), terms.f(), terms.quorum());
        assert!(quorum > 2 * f && quorum <= n);
        let seats = (0..roster.slots.len()).filter_map(|slot| roster.seat_of(feed, slot));
        assert!(seats.eq(0..n));
    }
    rounds(roster.schedule());
    assert_eq!(file.change().is_some(), file.from_us.is_some());
    for (at, it) in file.endorsements.iter().enumerate() {
        let change = file.change().expect("a change");
        assert!(it.key.signed(&change.signed_bytes(), &it.signature));
        let before = &file.endorsements[..at];
        assert!(before.iter().all(|other| other.key != it.key));
    }
    assert!(!followed(&file, &file), "it follows itself");
    Some(file)
}

/// Whether one file follows another as it is.
fn followed(old: &RosterFile, new: &RosterFile) -> bool {
    let from_us = old.from_us.unwrap_or(0);
    let mut rosters = Succession::new(old.roster.clone(), from_us);
    let keys: Vec<PublicKey> = new.endorsements.iter().map(|it| it.key).collect();
    match rosters.follow(new.clone()) {
        Ok(()) => {
            assert_eq!(missing(&old.roster, &new.roster, &keys), [""; 0]);
            assert_eq!(new.roster.number, old.roster.number + 1);
            counts(&rosters, [from_us, new.from_us.expect("a change")]);
            assert!(rosters.follow(new.clone()).is_err(), "it follows twice");
            true
        }
        Err(why) => {
            assert!(!why.is_empty());
            assert_eq!(rosters.all().count(), 1);
            false
        }
    }
}

/// Has the second roster follow the first, by two sets of endorsers.
fn change(old: &RosterFile, mut new: RosterFile, absent: [&str; 2]) {
    new.roster.number = old.roster.number + 1;
    new.roster.previous = Some(old.roster.digest());
    let from_us = *new
        .from_us
        .get_or_insert(old.roster.schedule().first_start_us);
    let slots = old.roster.slots.iter().chain(&new.roster.slots);
    let all: Vec<PublicKey> = slots.filter_map(|slot| slot.key).collect();
    let sets = absent.map(|absent| {
        let is_absent = |key: &PublicKey| {
            let at = |byte: u8| all.iter().cycle().nth(byte.into());
            absent.bytes().any(|byte| at(byte) == Some(key))
        };
        let present = all.iter().filter(|key| !is_absent(key));
        let endorsement = |key: &PublicKey| Endorsement {
            key: *key,
            signature: [0; 64],
        };
        new.endorsements = present.map(endorsement).collect();
        let keys: Vec<PublicKey> = new.endorsements.iter().map(|it| it.key).collect();
        let suffices = missing(&old.roster, &new.roster, &keys).is_empty();
        let is_later = from_us > old.from_us.unwrap_or(0);
        assert_eq!(followed(old, &new), suffices && is_later);
        suffices.then_some(keys)
    });
    if let [Some(one), Some(other)] = sets {
        let keys = old.roster.slots.iter().filter_map(|slot| slot.key);
        let both = keys.filter(|key| one.contains(key) && other.contains(key));
        let f = faulty_max(Rule::TrimmedMean, old.roster.slots.len() as u16);
        assert!(both.count() > usize::from(f));
    }
}

/// Checks that two rosters count one after the other, from these times on.
fn counts(rosters: &Succession, [first_us, second_us]: [u64; 2]) {
    let all: Vec<_> = rosters.all().map(|(roster, _)| roster).collect();
    let around = [first_us, second_us].map(|us| [us.saturating_sub(1), us, us + 1]);
    for us in around.into_iter().flatten().chain([0, u64::MAX]) {
        let which = usize::from(us >= second_us);
        assert_eq!(rosters.at(us), all[which]);
        assert_eq!(rosters.has(&[0; 32], us), Ok(false));
        for (of, roster) in all.iter().enumerate() {
            for terms in roster.feeds.iter().map(|terms| terms.digest()) {
                let at = all[which].feeds.iter();
                let counts = us >= first_us && at.map(|it| it.digest()).any(|it| it == terms);
                assert_eq!(rosters.has(&terms, us) == Ok(true), counts, "{of} at {us}");
            }
        }
    }
}

/// Checks that the first rounds of a schedule follow each other without overlapping, and that each leaves time for its answers.
fn rounds(schedule: &Schedule) {
    let (last_us, reply_us) = (schedule.last_us(), schedule.reply_us());
    assert!(last_us + 2 * schedule.lateness_us_max() <= reply_us);
    assert!(reply_us < schedule.length_us());
    let mut over_us = 0;
    for _ in 0..3 {
        let Some(start_us) = schedule.next_start_us(over_us) else {
            return;
        };
        assert!(start_us >= over_us && schedule.is_start(start_us));
        let Some(end_us) = start_us.checked_add(schedule.length_us()) else {
            return;
        };
        over_us = end_us;
    }
}
