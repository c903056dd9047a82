//! A roster file: a roster that is read is written as a file that reads back as the same roster.
#![no_main]

use rsoracle::aggregator::roster::render;
use rsoracle_proof::roster::Roster;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match Roster::parse(text) {
        Ok(roster) => {
            let page = render(&roster);
            assert_eq!(Roster::parse(&page).as_ref(), Ok(&roster), "{page}");
            assert!(roster.quorum > 2 * roster.f && roster.quorum <= roster.n());
        }
        Err(wrong) => assert!(!wrong.to_string().is_empty()),
    }
});
