//! A real `rsoracle collect` against an aggregator that the test plays, and that says what has no place, or nothing, or too much,
//! or that vanishes. None of this ends a collector, costs it a sample, or makes it call its exchange again.

mod door;
mod enlisted;
mod support;
mod witness;

use door::Door;
use enlisted::*;
use rsoracle::system::now::wall_us;
use rsoracle::wire::{Challenge, FrameKind, HEAD_BYTES, Ping, Refusal, VERSION};
use rsoracle_proof::reason::Reject;
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};
use support::peer::{Peer, SOURCE};
use support::*;
use witness::*;

/// A frame of this kind whose fields are all zero.
fn blank(kind: FrameKind) -> Vec<u8> {
    let mut frame = vec![0; kind.bytes()];
    frame[..HEAD_BYTES].copy_from_slice(&[b'R', b'S', b'O', b'R', VERSION, kind as u8, 0, 0]);
    frame
}

/// Frames that no aggregator may send, and the reasons for which they are refused.
fn misplaced() -> Vec<(Vec<u8>, Reject)> {
    let mut reserved = Refusal {
        reason: Reject::Silent,
    }
    .encode();
    reserved[15] = 1;
    let kind = |kind| (blank(kind), Reject::Kind);
    vec![
        kind(FrameKind::Challenge),
        kind(FrameKind::Hello),
        kind(FrameKind::Ready),
        kind(FrameKind::Sample),
        kind(FrameKind::Pong),
        kind(FrameKind::Preamble),
        // A refusal for no known reason.
        kind(FrameKind::Refusal),
        (b"RSOR\x02\x00\0\0".to_vec(), Reject::Kind),
        (b"RSOR\x02\x09\0\0".to_vec(), Reject::Kind),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), Reject::Magic),
        (b"RSOR\x01\x05\0\0".to_vec(), Reject::Version),
        (b"RSOR\x02\x05\x01\0".to_vec(), Reject::Reserved),
        (reserved.to_vec(), Reject::Reserved),
    ]
}

/// Waits for a refusal on a connection, and for its end.
fn refused(line: &mut Line) -> Reject {
    eventually("the collector refuses and ends the connection", || {
        line.look();
        line.control.ended().then_some(())
    });
    line.look();
    line.refused.expect("it says why")
}

#[test]
fn what_has_no_place_is_refused_for_its_reason_and_the_collector_comes_back() {
    let (_exchange, url) = exchange(&[]);
    let (mut collector, terms) = enlist_under(&url, 2, "100ms", "1s");
    let clients = clients_of(&url);
    for (bytes, reason) in misplaced() {
        collector.line.control.send(&bytes);
        assert_eq!(refused(&mut collector.line), reason, "{bytes:?}");
        collector.welcome_again();
    }
    for reason in [
        Reject::Magic,
        Reject::Version,
        Reject::Reserved,
        Reject::Kind,
    ] {
        let says = format!(" sent a frame that was refused: {reason}; connecting again later");
        collector.child.running.stderr_line(&says);
    }
    collector.whole_answer(&terms);
    assert_eq!(
        clients_of(&url),
        clients,
        "the exchange was not called again"
    );
    collector.child.part();
}

#[test]
fn a_collector_says_nothing_of_itself_before_it_is_challenged() {
    let (_exchange, url) = exchange(&[]);
    let mut collector = enlist(&url);
    let ping = Ping { clock_us: 1 }.encode();
    let mut early = misplaced();
    early.retain(|(bytes, _)| bytes[..] != blank(FrameKind::Challenge)[..]);
    early.push((ping.to_vec(), Reject::Kind));
    for (bytes, reason) in early {
        collector.line.control.half_close();
        let mut control = accept(&collector.ports.control);
        control.send(&bytes);
        assert_eq!(control.refusal(), reason, "{bytes:?}");
        collector.welcome_again();
    }
    collector.child.part();
}

#[test]
fn garbage_in_the_midst_of_a_round_costs_no_sample() {
    let (_exchange, url) = exchange(&[]);
    let (mut collector, terms) = enlist_under(&url, 10, "100ms", "2s");
    eventually("a whole round with broken connections in it", || {
        let mut broken = 0;
        let start_us = eventually("the end of a round is near", || {
            collector.line.look();
            let newest = collector.line.samples.last().copied()?;
            let near = broken > 0 && newest.record.index >= 7;
            if !near {
                collector.line.control.send(b"garbage!");
                refused(&mut collector.line);
                collector.welcome_again();
                broken += 1;
            }
            near.then_some(newest.start_us)
        });
        let answered = collector.answer_after(start_us - 1, &terms);
        answered.is_whole().then_some(())
    });
    collector.child.part();
}

#[test]
fn who_is_refused_comes_back_after_growing_pauses_and_does_not_call_its_exchange_again() {
    let (_exchange, url) = exchange(&[]);
    let (mut collector, terms) = enlist_under(&url, 2, "100ms", "1s");
    let (clients, began) = (clients_of(&url), Instant::now());
    for reason in [
        Reject::HelloSignature,
        Reject::KeyUnknown,
        Reject::Displaced,
        Reject::Crowded,
    ] {
        collector.line.control.send(&Refusal { reason }.encode());
        collector.line.control.until_ended();
        let says = format!(" refused this collector: {reason}; ");
        let line = collector.child.running.stderr_line(&says);
        assert!(line.ends_with("; connecting again later"), "{line}");
        collector.welcome_again();
    }
    // The pauses double from 50 ms on.
    let paused = began.elapsed();
    assert!(paused >= Duration::from_millis(750), "{paused:?}");
    collector.whole_answer(&terms);
    assert_eq!(clients_of(&url), clients);
    collector.child.part();
}

#[test]
fn a_flood_of_pings_is_answered_and_costs_no_sample() {
    let (_exchange, url) = exchange(&[]);
    let (mut collector, terms) = enlist_under(&url, 10, "100ms", "2s");
    collector.line.floods = true;
    collector.whole_answer(&terms);
    eventually("a hundred pongs", || {
        collector.look();
        (collector.line.pongs > 100).then_some(())
    });
    collector.child.part();
}

#[test]
fn an_aggregator_that_falls_silent_counts_as_dead_after_15_seconds_and_is_called_again() {
    let (_exchange, url) = exchange(&[]);
    let challenge = Challenge { nonce: [1; 32] }.encode();
    let half_ping = &Ping { clock_us: 1 }.encode()[..15];
    let cases: [(bool, &[u8]); 4] = [
        (false, b""),
        (false, &challenge[..39]),
        (true, b""),
        (true, half_ping),
    ];
    let mut silent = Vec::new();
    for (greets, bytes) in cases {
        let ports = ports();
        let mut child = Child::start(&ports, &url);
        child.introduce();
        let mut control = accept(&ports.control);
        if greets {
            control = greet(control, &child.key).control;
        }
        control.send(bytes);
        silent.push((ports, child, control, Instant::now()));
    }
    for (ports, child, mut control, since) in silent {
        let again = accept(&ports.control);
        // On a busy machine, it may have waited for a core before `since`.
        assert!(since.elapsed() > Duration::from_secs(10));
        control.until_ended();
        let says = " was silent for 15 s; connecting again later";
        child.running.stderr_line(says);
        greet(again, &child.key);
        child.part();
    }
}

#[test]
#[ignore = "needs namespaces"]
fn an_aggregator_that_never_reads_loses_its_connection_and_nothing_else() {
    // In a network of its own, whose connections hold no more than a few kilobytes.
    if resolver_file().is_none() {
        let this = "an_aggregator_that_never_reads_loses_its_connection_and_nothing_else";
        return in_a_network_of_its_own(this);
    }
    for name in ["tcp_rmem", "tcp_wmem"] {
        let path = format!("/proc/sys/net/ipv4/{name}");
        std::fs::write(path, "4096 4096 4096").expect("this network is the test's own");
    }
    let (_exchange, url) = exchange(&[]);
    let (mut collector, terms) = enlist_under(&url, 10, "100ms", "2s");
    let clients = clients_of(&url);
    let began = Instant::now();
    let again = eventually("the collector gives the connection up", || {
        collector.line.flood();
        collector.ports.look(&collector.child.key);
        try_accept(&collector.ports.control)
    });
    assert!(began.elapsed() > Duration::from_secs(10));
    let says = " was silent for 15 s; connecting again later";
    collector.child.running.stderr_line(says);
    collector.line = greet(again, &collector.child.key);
    collector.whole_answer(&terms);
    assert_eq!(clients_of(&url), clients);
    collector.child.part();
}

#[test]
fn who_comes_back_in_the_midst_of_a_round_sends_all_its_records_first_and_its_answer() {
    let (_exchange, url) = exchange(&[]);
    let (mut collector, terms) = enlist_under(&url, 60, "100ms", "8s");
    eventually("a round that goes on over a new connection", || {
        let start_us = eventually("some samples of a round", || {
            collector.look();
            let newest = collector.line.samples.last()?;
            let some = (5..30).contains(&newest.record.index);
            some.then_some(newest.start_us)
        });
        collector.line.control.half_close();
        collector.welcome_again();
        let answered = collector.answer_after(start_us - 1, &terms);
        let first = collector.line.samples[0];
        assert_eq!((first.start_us, first.record.index), (answered.start_us, 0));
        // On a busy machine, the round may be over before it is back.
        (answered.start_us == start_us).then_some(())
    });
    collector.child.part();
}

#[test]
fn data_connections_that_end_or_speak_are_opened_anew_and_cost_no_answer() {
    let (_exchange, url) = exchange(&[]);
    let (mut collector, terms) = enlist_under(&url, 2, "100ms", "1s");
    for speaks in [false, true, false, true] {
        // On a busy machine, a round may be missed for other reasons.
        eventually("the next round's answer over a new connection", || {
            let before_us = collector.answer(&terms).start_us;
            let connections = collector.ports.connections;
            collector.ports.end_data(speaks);
            let next_us = collector.answer_after(before_us, &terms).start_us;
            assert!(collector.ports.connections > connections);
            (next_us == before_us + 1_000_000).then_some(())
        });
    }
    assert!(!collector.child.running.ended());
    collector.child.part();
}

#[test]
fn a_child_that_got_no_roster_signs_nothing() {
    let (_exchange, url) = exchange(&[]);
    let mut collector = enlist(&url);
    let began = Instant::now();
    eventually("two seconds", || {
        collector.look();
        (began.elapsed() > Duration::from_secs(2)).then_some(())
    });
    assert_eq!(collector.line.samples, []);
    assert_eq!(collector.ports.frames, []);
    let terms = charter(&collector.child.key, 2, "100ms", "1s");
    collector.child.hand_terms(0, &terms);
    collector.answer_after(0, &terms);
    collector.child.part();
}

/// Sets up a collector, ends its tether, and waits for its end: well, and within a second. A busy machine may need several
/// attempts for the latter.
fn ends_within_a_second(what: &str, set: impl Fn(&Ports) -> (Child, Vec<Peer>)) {
    eventually(what, || {
        let ports = ports();
        let (child, _peers) = set(&ports);
        let since = Instant::now();
        child.part();
        (since.elapsed() < Duration::from_secs(1)).then_some(())
    });
}

#[test]
fn a_child_ends_with_its_tether_whatever_it_is_about() {
    let (_exchange, url) = exchange(&[]);
    let door = Door::open();
    let nobody = format!("ws://{}/", nobodys_address());
    ends_within_a_second("before it was handed anything", |ports| {
        (Child::start(ports, &url), vec![])
    });
    let introduced = |ports: &Ports, url: &str| {
        let mut child = Child::start(ports, url);
        child.introduce();
        child
    };
    ends_within_a_second("while it waits for a challenge", |ports| {
        let child = introduced(ports, &url);
        (child, vec![accept(&ports.control)])
    });
    ends_within_a_second("while terms are handed down", |ports| {
        let mut child = introduced(ports, &url);
        child.hand(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, b'?']);
        (child, vec![accept(&ports.control)])
    });
    ends_within_a_second("while it waits for its exchange", |ports| {
        let child = introduced(ports, &door.url);
        door.accept();
        (child, vec![])
    });
    ends_within_a_second("in a pause before it calls its exchange again", |ports| {
        let child = introduced(ports, &nobody);
        child.running.stderr_line("Connection refused");
        (child, vec![])
    });
    ends_within_a_second("in a round that lasts for an hour", |ports| {
        let mut child = introduced(ports, &url);
        let mut line = greet(accept(&ports.control), &child.key);
        line.until_ready([0; 32]);
        let terms = charter(&child.key, 2, "1h", "2h");
        child.hand_terms(0, &once(terms, wall_us() + 1_000_000));
        eventually("the first sample", || {
            line.look();
            line.samples.first().map(|_| ())
        });
        (child, vec![line.control])
    });
    ends_within_a_second("while the aggregator's queue is full", |ports| {
        let crowd = crowd(ports);
        let child = introduced(ports, &url);
        let port = address(&ports.control).port();
        eventually("the collector knocks", || half_open(port).pop());
        (child, crowd.into_iter().map(Peer::over).collect())
    });
}

#[test]
fn a_tether_that_is_none_or_brings_garbage_ends_the_child() {
    let ports = ports();
    let (_exchange, url) = exchange(&[]);
    // Longer than any terms.
    let message = [&[0; 8][..], &[1, 0, 0, 0]].concat();
    let mut child = Child::start(&ports, &url);
    child.introduce();
    child.hand(&message);
    let done = child.running.finish();
    let line = "collector 3: cannot read the tether: a message is too long";
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(done.stderr.contains(line), "{}", done.stderr);
    let mut command = rsoracle();
    command.args(["collect", "--tether", "--slot", "3", "--source", SOURCE]);
    command.args(["--endpoint", &url, "--control", "127.0.0.1:1"]);
    command.args(["--data", "127.0.0.1:1"]).stdin(Stdio::null());
    let done = start_command(command).finish();
    let line = "collector 3: cannot use standard input as the tether: ";
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(done.stderr.starts_with(line), "{}", done.stderr);
    assert!(done.stderr.contains("by hand, use --roster"));
}

/// Local ports of connections to `port` that are still being opened, as the system lists them.
fn half_open(port: u16) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux lists its connections");
    let to = format!("0100007F:{port:04X}");
    let half_open = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words.get(2) == Some(&to.as_str()) && words.get(3) == Some(&"02"))
            .then(|| words[1].to_owned())
    };
    table.lines().filter_map(half_open).collect()
}

/// Connections to the control port that are not accepted, so many that the system drops further ones.
fn crowd(ports: &Ports) -> Vec<TcpStream> {
    let mut crowd = Vec::new();
    let brief = Duration::from_millis(200);
    // A single failed attempt may only mean that this program was held up.
    let mut dropped = 0;
    while dropped < 3 {
        match TcpStream::connect_timeout(&address(&ports.control), brief) {
            Ok(tcp) => crowd.push(tcp),
            Err(_) => dropped += 1,
        }
    }
    crowd
}

#[test]
fn a_full_queue_at_the_door_is_tried_again() {
    let (_exchange, url) = exchange(&[]);
    let ports = ports();
    let _crowd = crowd(&ports);
    let mut child = Child::start(&ports, &url);
    child.introduce();
    let port = address(&ports.control).port();
    let first = eventually("the collector knocks", || half_open(port).pop());
    eventually("it knocks again, from another port", || {
        assert!(!child.running.ended(), "{}", child.running.stderr());
        half_open(port)
            .iter()
            .any(|other| *other != first)
            .then_some(())
    });
    // Now all are accepted; the collector among them answers its challenge.
    let mut let_in = Vec::new();
    eventually("the collector says hello", || {
        while let Some(mut peer) = try_accept(&ports.control) {
            peer.send(&Challenge { nonce: [1; 32] }.encode());
            let_in.push(peer);
        }
        let_in.iter_mut().find_map(Peer::take::<112>)
    });
    child.part();
}
