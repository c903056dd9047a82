//! A roster file: a roster that is read is written as a file that reads back as the same roster.
#![no_main]

use rsoracle::roster::text::render;
use rsoracle_proof::roster::Roster;
use rsoracle_proof::schedule::Schedule;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match Roster::parse(text) {
        Ok(roster) => {
            let page = render(&roster);
            assert_eq!(Roster::parse(&page).as_ref(), Ok(&roster), "{page}");
            assert_eq!(roster.check(), Ok(()));
            for (feed, terms) in roster.feeds.iter().enumerate() {
                assert_eq!(roster.feed(&terms.feed), Some(terms));
                let (n, f, quorum) = (terms.n(), terms.f(), terms.quorum());
                assert!(quorum > 2 * f && quorum <= n);
                let seats = (0..roster.slots.len()).filter_map(|slot| roster.seat_of(feed, slot));
                assert!(seats.eq(0..n));
            }
            rounds(roster.schedule());
        }
        Err(wrong) => assert!(!wrong.to_string().is_empty()),
    }
});

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
