//! Five hosts with a collector each, two of them with an aggregator too, in network namespaces: aggregators that are killed,
//! links that swallow packets, hosts that vanish, full disks and wrong clocks. And peers of protocol 1, which need no network.

mod chronicle;
mod enlisted;
#[path = "hosts/host.rs"]
mod host;
#[path = "hosts/network.rs"]
mod network;
mod support;
mod witness;

use network::*;
use rsoracle::system::now::wall_us;
use rsoracle::wire::*;
use rsoracle_proof::reason::Reject;
use std::io::Write;
use std::time::Duration;
use support::peer::{Peer, stage_with};
use support::*;
use witness::set_clock;

/// A frame as a peer of protocol 1 would begin it.
fn of_protocol_1<const N: usize>(mut frame: [u8; N]) -> [u8; N] {
    frame[4] = 1;
    frame
}

#[test]
fn an_aggregator_refuses_a_peer_of_protocol_1_by_name_and_tells_its_operator() {
    let stage = stage_with(1, 1, "1s", &["--ready-timeout", "1s"]);
    let (mut peer, nonce) = stage.challenged();
    let hello = support::peer::hello(&support::peer::collector_key(4), &nonce, &stage.key);
    assert!(peer.send(&of_protocol_1(hello.encode())));
    assert_eq!(peer.refusal(), Reject::Version);
    let key = hello.key;
    let mut peer = Peer::connect(stage.data);
    peer.send(&of_protocol_1(Preamble { key }.encode()));
    peer.until_ended();
    let said = format!("refused: 2 × {}", Reject::Version);
    stage.running.stderr_line(&said);
}

#[test]
fn a_collector_refuses_an_aggregator_of_protocol_1_by_name_and_tells_its_operator() {
    let (_exchange, url) = exchange(&[]);
    let (ports, post) = (enlisted::ports(), enlisted::Post::new(1, "1s", "2s"));
    let child = post.start(&[&ports], &url);
    let mut old = enlisted::accept(&ports.control);
    let challenge = Challenge { nonce: [1; 32] };
    old.send(&of_protocol_1(challenge.encode()));
    assert_eq!(old.refusal(), Reject::Version);
    let reason = Reject::Version;
    let says = format!(" sent a frame that was refused: {reason}; connecting again later");
    child.running.stderr_line(&says);
    // It goes on, and a new aggregator at the same place is served.
    let line = enlisted::greet(enlisted::accept(&ports.control), &child.key);
    let mut standing = enlisted::Enlisted { ports, child, line };
    standing.answer(&post.terms);
}

/// Kills of an aggregator.
const LIVES: u32 = 20;
/// Lives in which a machine that is busy may hold up somebody.
const HELD_UP_MAX: usize = 2;

#[test]
#[ignore = "needs namespaces"]
fn an_aggregator_killed_twenty_times_has_its_collectors_back_within_two_periods() {
    let test = "an_aggregator_killed_twenty_times_has_its_collectors_back_within_two_periods";
    let Some(mut five) = Five::set(test, &Special::default()) else {
        return;
    };
    let ids: Vec<u32> = five.posts.iter().map(|post| post.collector.id()).collect();
    let from = five.reports(1);
    let mut late = Vec::new();
    for life in 0..LIVES {
        // At another moment of a period in each life.
        std::thread::sleep(Duration::from_millis(31 * u64::from(life)));
        let before = five.reports(0);
        let first_us = five.restart_aggregator(0);
        let whole_us = five.until_whole(0, before);
        let periods = whole_us.saturating_sub(first_us) / five.schedule.period_us + 1;
        println!("life {life}: period {periods}");
        late.extend((periods > 2).then_some((life, periods)));
    }
    assert!(late.len() <= HELD_UP_MAX, "life and periods: {late:?}");
    five.assert_no_price_is_missing(1, from);
    let still = five.posts.iter().map(|post| post.collector.id());
    assert_eq!(still.collect::<Vec<_>>(), ids);
    five.end();
}

#[test]
#[ignore = "needs namespaces"]
fn a_link_that_swallows_packets_is_noticed_and_replaced_and_costs_the_others_nothing() {
    let test = "a_link_that_swallows_packets_is_noticed_and_replaced_and_costs_the_others_nothing";
    let Some(five) = Five::set(test, &Special::default()) else {
        return;
    };
    let from = five.reports(1);
    // The first host has the first aggregator and a collector. The other four collectors are a quorum.
    five.swallow(0, true);
    for post in &five.posts[1..] {
        post.collector
            .stderr_line(" at 10.7.0.1:8000 was silent for 15 s; ");
    }
    five.posts[0]
        .collector
        .stderr_line(" at 10.7.0.2:8000 was silent for 15 s; ");
    let rounds = |s: u64| s.div_ceil(PERIOD_S) as usize;
    let noticed = five.reports(1) - from;
    assert!(noticed <= rounds(15) + 2, "{noticed} rounds");
    // Attempts that nobody answers cost nothing either.
    five.aggregators[1].journal.until_lines(from + noticed + 3);
    five.posts[1]
        .collector
        .stderr_line("cannot connect to the aggregator at 10.7.0.1:8000: ");
    let works_us = wall_us();
    let before = [five.reports(0), five.reports(1)];
    five.swallow(0, false);
    for number in [0, 1] {
        let whole_us = five.until_whole(number, before[number]);
        let rounds_taken = whole_us.saturating_sub(works_us) / five.schedule.period_us;
        println!("aggregator {number}: {rounds_taken} rounds");
        assert!(
            rounds_taken as usize <= rounds(15) + 1,
            "{rounds_taken} rounds"
        );
    }
    five.assert_no_price_is_missing(1, from);
    five.end();
}

#[test]
#[ignore = "needs namespaces"]
fn a_host_that_vanishes_and_returns_keeps_its_slot_while_the_old_connection_stands() {
    let test = "a_host_that_vanishes_and_returns_keeps_its_slot_while_the_old_connection_stands";
    let Some(mut five) = Five::set(test, &Special::default()) else {
        return;
    };
    let last = HOSTS - 1;
    let before = [five.reports(0), five.reports(1)];
    assert_eq!([0, 1].map(|number| five.standing(number, last)), [1, 1]);
    five.replace_last();
    let again_us = wall_us();
    eventually("the old and the new connection stand", || {
        let both = [0, 1].map(|number| five.standing(number, last));
        (both == [2, 2]).then_some(())
    });
    for number in [0, 1] {
        // Rounds before it vanished may have been told later.
        let whole_us = eventually("its price", || {
            let journal = &five.aggregators[number].journal;
            let reports = journal.reports();
            let mut reports = reports[before[number]..].iter();
            let again =
                reports.find(|kept| kept.round_start_us >= again_us && kept.prices == HOSTS);
            again.map(|kept| kept.round_start_us)
        });
        let rounds = (whole_us - again_us) / five.schedule.period_us;
        println!("aggregator {number}: {rounds} rounds");
        assert!(rounds <= MARK_S / PERIOD_S + 2, "{rounds} rounds");
    }
    for aggregator in &five.aggregators {
        let said = aggregator.running.stderr();
        assert!(!said.contains(&Reject::Displaced.to_string()), "{said}");
    }
    let from = [five.reports(0), five.reports(1)];
    eventually("the old connections are given up", || {
        let both = [0, 1].map(|number| five.standing(number, last));
        (both == [1, 1]).then_some(())
    });
    for number in [0, 1] {
        let after = five.reports(number);
        five.aggregators[number].journal.until_lines(after + 2);
        five.assert_no_price_is_missing(number, from[number]);
        for kept in &five.aggregators[number].journal.reports()[from[number]..] {
            assert!(kept.collectors[last].price.is_some(), "{}", kept.number);
        }
    }
    five.end();
}

/// What a collector says that must not sign for want of a mark.
const UNMARKED: &str = "left out a round, whose answer could be signed twice: ";

#[test]
#[ignore = "needs namespaces"]
fn a_full_disk_under_the_mark_costs_rounds_and_never_a_second_answer() {
    let test = "a_full_disk_under_the_mark_costs_rounds_and_never_a_second_answer";
    let special = Special {
        small_disk: true,
        ..Special::default()
    };
    let Some(mut five) = Five::set(test, &special) else {
        return;
    };
    let filler = five.state().join("filler");
    let mut file = std::fs::File::create(&filler).expect("a file");
    let full = (0..1_000).any(|_| file.write_all(&[b'x'; 1 << 10]).is_err());
    assert!(full, "the disk is small");
    // A file that is open would keep its room.
    drop(file);
    for _ in 0..2 {
        let said = five.last().stderr_line(UNMARKED);
        assert!(said.contains("No space left on device"), "{said}");
        five.without_the_last(2);
        five.restart_last();
    }
    std::fs::remove_file(&filler).expect("it is there");
    for number in [0, 1] {
        five.until_whole(number, five.reports(number));
    }
    five.end();
}

#[test]
#[ignore = "needs faketime, namespaces"]
fn a_hosts_clock_that_is_set_back_over_a_restart_brings_no_second_answer() {
    let test = "a_hosts_clock_that_is_set_back_over_a_restart_brings_no_second_answer";
    let clock = scratch("clock");
    let special = Special {
        clock: Some(clock.clone()),
        of_exchange: true,
        ..Special::default()
    };
    assert!(set_clock(&clock, "+0"));
    let Some(mut five) = Five::set(test, &special) else {
        return;
    };
    // While one collector does not answer, rounds stay open for a second answer of another.
    let silent = &five.posts[HOSTS - 2].collector;
    silent.signal("STOP");
    for off in ["-1", "+0", "-1"] {
        let start_us = five.schedule.next_start_us(wall_us()).expect("a start");
        support::peer::sleep_until(start_us + 150_000);
        // The same start comes again a second later, for this host.
        assert!(set_clock(&clock, off));
        five.restart_last();
        let before = five.reports(0);
        let journal = &five.aggregators[0].journal;
        journal.until(before, "its price", |kept| {
            kept.collectors[HOSTS - 1].price.is_some()
        });
    }
    five.posts[HOSTS - 2].collector.signal("CONT");
    five.end();
}

#[test]
#[ignore = "needs faketime, namespaces"]
fn a_clock_that_is_two_seconds_off_is_named_on_both_sides_and_nothing_is_signed_by_it() {
    let test = "a_clock_that_is_two_seconds_off_is_named_on_both_sides_and_nothing_is_signed_by_it";
    let clock = scratch("clock");
    let special = Special {
        clock: Some(clock.clone()),
        ..Special::default()
    };
    assert!(set_clock(&clock, "+0"));
    let Some(mut five) = Five::set(test, &special) else {
        return;
    };
    for (off, way) in [("+2", "ahead of"), ("-2", "behind")] {
        assert!(set_clock(&clock, off));
        // Both while it runs and when it starts.
        for _ in 0..2 {
            let says = five
                .last()
                .stderr_line(&format!(" {way} the exchange's; signing nothing"));
            assert!(says.contains(": this machine's clock is "), "{says}");
            five.without_the_last(3);
            five.restart_last();
        }
        for aggregator in &five.aggregators {
            let says = format!(" {way} this machine's: set both (NTP)");
            let said = aggregator.running.stderr_line(&says);
            assert!(
                said.contains(": collector 4 (embedded): its clock is "),
                "{said}"
            );
        }
        assert!(set_clock(&clock, "+0"));
        for number in [0, 1] {
            five.until_whole(number, five.reports(number));
        }
    }
    five.end();
}
