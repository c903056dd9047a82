//! A parent that the test plays hands a collector terms that are broken, not for it, for the past, contradictory or too many;
//! and its aggregator tries to keep it busy. Whatever they do, it signs at most one answer for a start, starts strictly increase
//! (`Ports::look` checks both on every frame), and the exchange is asked no more often than its bound.

mod enlisted;
mod support;

use enlisted::*;
use rsoracle::keys::create;
use rsoracle::system::now::wall_us;
use rsoracle::wire::tether::message;
use rsoracle::wire::{Challenge, Hello, Ping, Refusal, Sample};
use rsoracle_proof::limits::INTERVAL_US_MIN;
use rsoracle_proof::reason::Reject;
use rsoracle_proof::terms::{Terms, tag};
use std::net::TcpListener;
use std::time::{Duration, Instant};
use support::peer::collector_key;
use support::*;

const SECOND_US: u64 = 1_000_000;

/// The starts of all answers under these terms.
fn starts(collector: &Enlisted, terms: &Terms) -> Vec<u64> {
    let tag = tag(&terms.digest());
    let frames = collector.ports.frames.iter();
    let under = frames.filter(|frame| frame.tag == tag);
    under.map(|frame| frame.start_us).collect()
}

/// The same terms with starts that are so much later.
fn shifted(terms: &Terms, by_us: u64) -> Terms {
    let mut terms = terms.clone();
    terms.schedule.first_start_us += by_us;
    terms
}

#[test]
fn terms_under_which_it_cannot_sign_are_told_and_nothing_is_signed_under_them() {
    let (_exchange, url) = exchange(&[]);
    let mut collector = enlist(&url);
    let good = charter(&collector.child.key, 2, "100ms", "1s");
    let changed = |change: &dyn Fn(&mut Terms)| {
        let mut terms = good.clone();
        change(&mut terms);
        terms.encode()
    };
    let bytes = good.encode();
    let another = Some(collector_key(7).public());
    let (none, foreign) = ("the bytes are no terms", "no slot has this key");
    let okx = "okx:BTC-USDT";
    for (bytes, says) in [
        (vec![], none),
        (bytes[..bytes.len() - 1].to_vec(), none),
        (b"number = 1\n".to_vec(), none),
        (changed(&|terms| terms.seats[3].key = another), foreign),
        (changed(&|terms| terms.seats[3].key = None), foreign),
        (changed(&|terms| terms.seats.truncate(3)), foreign),
        (
            changed(&|terms| terms.seats[3].source = okx.to_owned()),
            "the source of slot 3 is okx:BTC-USDT",
        ),
        (
            changed(&|terms| terms.seats[4].key = terms.seats[3].key),
            "two slots have the same key",
        ),
        (
            changed(&|terms| terms.schedule.samples = 11),
            "do not fit into a period",
        ),
        (
            changed(&|terms| terms.schedule.interval_us = 19_999),
            "the interval is not from",
        ),
        (
            changed(&|terms| terms.schedule.samples = 0),
            "the number of samples",
        ),
    ] {
        collector
            .child
            .hand(&message(0, std::slice::from_ref(&bytes)));
        let line = collector.child.running.stderr_line(says);
        let begins = "collector 3: cannot sign under the roster that 'rsoracle run' handed down: ";
        assert!(line.starts_with(begins), "{line}");
    }
    collector.child.hand_terms(0, &good);
    collector.answer(&good);
    let all = collector.ports.frames.len();
    assert_eq!(starts(&collector, &good).len(), all);
    collector.child.part();
}

#[test]
fn terms_without_a_place_for_it_end_the_ones_before_until_the_next() {
    let (_exchange, url) = exchange(&[]);
    let (mut collector, terms) = enlist_under(&url, 2, "100ms", "1s");
    let last = collector.answer(&terms).start_us;
    let (from_us, until_us) = (last + 3 * SECOND_US, last + 6 * SECOND_US);
    let another = collector_key(7).public();
    let without = charter(&another, 2, "100ms", "1s");
    collector.child.hand_terms(from_us, &without);
    let again = charter(&collector.child.key, 3, "100ms", "1s");
    collector.child.hand_terms(until_us, &again);
    let after = collector.answer_after(until_us - 1, &again);
    assert!(after.start_us >= until_us);
    let between = |start_us: u64| (from_us..until_us).contains(&start_us);
    let mut told = collector.line.samples.iter();
    assert!(!told.any(|sample| between(sample.start_us)));
    collector.child.part();
}

#[test]
fn where_two_terms_hold_the_later_ones_are_signed_and_no_start_twice() {
    let (_exchange, url) = exchange(&[]);
    let (mut collector, first) = enlist_under(&url, 2, "100ms", "1s");
    let last = collector.answer(&first).start_us;
    let from_us = last + 3 * SECOND_US;
    let second = charter(&collector.child.key, 3, "100ms", "1s");
    collector.child.hand_terms(from_us, &second);
    collector.answer_after(from_us - 1, &second);
    let before = |start_us: &u64| *start_us < from_us;
    assert!(starts(&collector, &first).iter().all(before));
    assert!(!starts(&collector, &second).iter().any(before));
    // Terms that claim to have held since ever, while a round runs that they have too.
    let third = charter(&collector.child.key, 5, "100ms", "1s");
    for terms in [&third, &second, &third] {
        let seen = collector.line.samples.len();
        eventually("a round runs", || {
            collector.look();
            let mut news = collector.line.samples[seen..].iter();
            news.next().map(|_| ())
        });
        collector.child.hand_terms(0, terms);
        collector.answer(terms);
    }
    collector.child.part();
}

#[test]
fn terms_for_the_past_make_it_sign_nothing() {
    let (_exchange, url) = exchange(&[]);
    let mut collector = enlist(&url);
    let key = collector.child.key;
    let over = [1, 100, 86_400].map(|ago_s| {
        let terms = charter(&key, 2, "100ms", "1s");
        once(terms, wall_us() - ago_s * SECOND_US)
    });
    let mut ended = charter(&key, 2, "100ms", "1s");
    ended.schedule.end_us = Some(wall_us() - SECOND_US);
    for terms in over.iter().chain([&ended]) {
        collector.child.hand_terms(0, terms);
        collector.line.until_ready(terms.digest());
    }
    let next = charter(&key, 3, "100ms", "1s");
    collector.child.hand_terms(0, &next);
    collector.answer(&next);
    let of_next = starts(&collector, &next).len();
    assert_eq!(collector.ports.frames.len(), of_next);
    let under_next = |sample: &Sample| sample.tag == tag(&next.digest());
    assert!(collector.line.samples.iter().all(under_next));
    collector.child.part();
}

#[test]
fn a_key_from_a_file_signs_no_round_that_began_before_it_was_read() {
    let (_exchange, url) = exchange(&[]);
    let file = scratch("slot-3.key").display().to_string();
    create(&file).expect("a key file");
    let ports = ports();
    let before_us = wall_us();
    let mut child = Child::start_with(&ports, &url, &["--key", &file]);
    child.introduce();
    let line = greet(accept(&ports.control), &child.key);
    let mut collector = Enlisted { ports, child, line };
    let terms = charter(&collector.child.key, 600, "100ms", "2m");
    // Most of its samples are yet to come.
    let begun = once(terms, before_us - 1_000);
    collector.child.hand_terms(0, &begun);
    collector.line.until_ready(begun.digest());
    let next = charter(&collector.child.key, 2, "100ms", "1s");
    collector.child.hand_terms(0, &next);
    collector.answer(&next);
    let early = |sample: &Sample| sample.start_us < before_us;
    assert!(!collector.line.samples.iter().any(early));
    assert_eq!(starts(&collector, &begun), [0u64; 0]);
    collector.child.part();
}

#[test]
fn a_flood_of_rosters_costs_no_sample_under_the_one_that_stays() {
    let (_exchange, url) = exchange(&[]);
    let (mut collector, _) = enlist_under(&url, 2, "100ms", "1s");
    let key = collector.child.key;
    let rosters: Vec<Terms> = (1..=9)
        .map(|samples| charter(&key, samples, "20ms", "200ms"))
        .collect();
    let began = Instant::now();
    let mut count = 0;
    while began.elapsed() < Duration::from_secs(3) {
        let terms = &rosters[count % rosters.len()];
        let from_us = [0, wall_us(), wall_us() + 100_000][count % 3];
        collector.child.hand_terms(from_us, terms);
        collector.look();
        count += 1;
    }
    assert!(count > 100, "{count}");
    let stays = charter(&key, 10, "100ms", "2s");
    collector.child.hand_terms(wall_us(), &stays);
    collector.whole_answer(&stays);
    collector.child.part();
}

#[test]
fn samples_of_different_rosters_do_not_follow_each_other_faster_than_the_bound() {
    let (_exchange, url) = exchange(&[]);
    let mut collector = enlist(&url);
    let key = collector.child.key;
    let by_us = INTERVAL_US_MIN / 4;
    // Each has one sample, and one's is due soon after the other's.
    let first = charter(&key, 1, "20ms", "2s");
    let second = shifted(&first, by_us);
    let mut start_us = wall_us().next_multiple_of(2 * SECOND_US);
    let mut spared = false;
    eventually(
        "a sample that is not taken, so soon after the one before",
        || {
            start_us = (wall_us() + SECOND_US)
                .next_multiple_of(2 * SECOND_US)
                .max(start_us);
            assert!(first.schedule.is_start(start_us));
            collector.child.hand_terms(start_us, &first);
            collector.child.hand_terms(start_us + 1, &second);
            eventually("the time of both", || {
                collector.look();
                (wall_us() > start_us + SECOND_US / 2).then_some(())
            });
            // How late it was asked for, if it was.
            let late_us = |start_us| collector.line.records(start_us).first()?.lateness_us;
            let [first_us, second_us] = [start_us, start_us + by_us].map(late_us);
            // A busy machine may come to the second one so late that it may be asked for.
            if let (Some(_), Some(late_us)) = (first_us, second_us) {
                let after_us = by_us + late_us;
                assert!(
                    after_us >= INTERVAL_US_MIN / 2,
                    "{after_us} us after the first"
                );
            }
            let second = collector.line.records(start_us + by_us);
            spared |= first_us.is_some() && second_us.is_none() && !second.is_empty();
            spared.then_some(())
        },
    );
    collector.child.part();
}

#[test]
fn who_is_displaced_again_and_again_does_not_call_its_exchange_more_often() {
    let ports = ports();
    let exchange = TcpListener::bind("127.0.0.1:0").expect("a free port");
    exchange.set_nonblocking(true).expect("O_NONBLOCK");
    let url = format!("ws://{}/", address(&exchange));
    let mut child = Child::start(&ports, &url);
    child.introduce();
    let began = Instant::now();
    let (mut hellos, mut calls) = (0, Vec::new());
    eventually("six hellos", || {
        // The exchange never answers.
        calls.extend(exchange.accept());
        if let Some(mut control) = try_accept(&ports.control) {
            control.send(&Challenge { nonce: [1; 32] }.encode());
            let _hello: [u8; Hello::BYTES] = control.next();
            // Time for a call to the exchange, before it is refused.
            std::thread::sleep(Duration::from_millis(5));
            let reason = Reject::Displaced;
            control.send(&Refusal { reason }.encode());
            hellos += 1;
        }
        (hellos == 6).then_some(())
    });
    // The pauses double from 50 ms on.
    let past = began.elapsed();
    assert!(past >= Duration::from_millis(750), "{past:?}");
    // An attempt to open a connection takes 20 s, and the next one comes within a second.
    let calls = calls.len() as u64;
    assert!(
        (1..=2 + past.as_secs()).contains(&calls),
        "{calls} in {past:?}"
    );
    child.part();
}

/// The CPU time that a process has used, in nanoseconds.
fn cpu_ns(id: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{id}/schedstat")).expect("it lives");
    text.split(' ')
        .next()
        .and_then(|ns| ns.parse().ok())
        .expect("a number")
}

#[test]
fn half_a_frame_does_not_keep_a_collector_busy() {
    let (_exchange, url) = exchange(&[]);
    let mut collector = enlist(&url);
    let half_ping = &Ping { clock_us: 1 }.encode()[..15];
    collector.line.control.send(half_ping);
    // Nor do half terms.
    collector
        .child
        .hand(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, b'?']);
    let id = collector.child.running.id();
    let (before_ns, began) = (cpu_ns(id), Instant::now());
    std::thread::sleep(Duration::from_secs(1));
    let part = (cpu_ns(id) - before_ns) as f64 / began.elapsed().as_nanos() as f64;
    assert!(part < 0.2, "{part} of a core");
    collector.child.part();
}
