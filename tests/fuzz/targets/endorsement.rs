//! Files with which a key's holder endorses a change of roster, with a line `---` between two of them. One that is accepted is
//! written as a file that reads back as the same. Its signature is accepted for no other key and no other change.
#![no_main]

use rsoracle::keys::secret::SecretKey;
use rsoracle::roster::change::{parse, render};
use rsoracle_proof::change::{Change, Endorsement};
use rsoracle_proof::roster::change_of;
use rsoracle_proof::seal::hex;
use rsoracle_proof::toml;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (one, other) = text.split_once("\n---\n").unwrap_or((text, ""));
    let accepted = [one, other].map(read);
    accepted.iter().flatten().for_each(flip);
    if let [Some(one), Some(other)] = &accepted {
        differ(one, other);
    }
    // Otherwise, only other comments would ever be accepted.
    let [one, other] = [one, other].map(changed);
    let key = |seed| SecretKey::from_seed(&mut [seed; 32]);
    let signed = [
        one.map(|it| sign(it, &key(1))),
        other.map(|it| sign(it, &key(2))),
    ];
    if let [Some(one), Some(other)] = signed {
        differ(&one, &other);
        differ(&one, &sign(one.0, &key(2)));
        differ(&one, &sign(other.0, &key(1)));
    }
});

/// Reads an endorsement, and checks what everyone relies on.
fn read(text: &str) -> Option<(Change, Endorsement)> {
    let found = parse(text).map_err(|wrong| assert!(!wrong.to_string().is_empty()));
    let (change, endorsement) = found.ok()?;
    let Endorsement { key, signature } = &endorsement;
    assert!(key.signed(&change.signed_bytes(), signature));
    let page = render(&change, &endorsement);
    let again = parse(&page).ok();
    assert_eq!(again, Some((change, endorsement.clone())), "{page}");
    Some((change, endorsement))
}

/// Checks that an endorsement is not accepted once a bit of its key, its signature or a digest is another.
fn flip((change, endorsement): &(Change, Endorsement)) {
    let page = render(change, endorsement);
    let Endorsement { key, signature } = endorsement;
    let parts = [key.bytes(), &change.old[..], &change.new, signature];
    for part in parts {
        for at in 0..part.len() {
            let mut flipped = part.to_vec();
            flipped[at] ^= 1 << (at % 8);
            let other = page.replace(&hex(part), &hex(&flipped));
            assert!(parse(&other).is_err(), "{other}");
        }
    }
}

/// The change that a text is about, whoever signed it.
fn changed(text: &str) -> Option<Change> {
    let sections = toml::parse(text).ok()?;
    change_of(sections.get(1)?).ok()
}

/// The endorsement of a change, which is read as it was written.
fn sign(change: Change, key: &SecretKey) -> (Change, Endorsement) {
    let endorsement = Endorsement {
        key: key.public(),
        signature: key.sign(&change.signed_bytes()),
    };
    let page = render(&change, &endorsement);
    let found = read(&page);
    assert_eq!(found, Some((change, endorsement.clone())), "{page}");
    (change, endorsement)
}

/// Checks that neither signature is accepted for the key or the change of the other, unless these are the same.
fn differ(one: &(Change, Endorsement), other: &(Change, Endorsement)) {
    for ((change, endorsement), (its_change, its)) in [(one, other), (other, one)] {
        let by_its_key = Endorsement {
            key: its.key,
            ..endorsement.clone()
        };
        let is_accepted = parse(&render(change, &by_its_key)).is_ok();
        assert_eq!(is_accepted, endorsement.key == its.key);
        let is_accepted = parse(&render(its_change, endorsement)).is_ok();
        assert_eq!(is_accepted, change == its_change);
    }
}
