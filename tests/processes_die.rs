//! Processes are killed or stopped at several moments: the round ends by its deadline with the collectors that are left. When
//! the aggregator is killed, all its children end.

mod published;
mod support;
mod witness;

use published::*;
use std::collections::BTreeSet;
use std::net::{TcpListener, UdpSocket};
use std::time::{Duration, Instant};
use support::*;
use witness::*;

/// Longest time for processes to end after their aggregator was killed. They take at most one second, or two during name
/// resolution; a wait that is not cut into slices would take five or more. A busy machine's delay is measured beside it.
const END_MAX: Duration = Duration::from_secs(4);

/// Allowance for a busy machine: this many times the time that it takes to run an empty process.
const BEATS: u32 = 10;

/// When a collector receives the signal.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    /// As soon as its process exists.
    Starting,
    /// After the first of ten samples, eight of which are needed for a price.
    MidRound,
    /// After the last sample but one.
    NearEnd,
}

/// Starts a round of five and sends `signal` to the collectors in `slots` at `moment`.
fn strike(signal_name: &str, slots: &[u16], moment: Moment) -> (Finished, String) {
    let (mut command, mark) = marked_run(&["--source", "embedded:BTCUSDT", "--json"]);
    // One second between samples, so that the signal comes before the next one.
    command.args(["--samples", "10", "--interval", "1s"]);
    // The round waits this long only if a collector is stopped.
    command.args(["--ready-timeout", "15s"]);
    let running = start_command(command);
    let line = match moment {
        Moment::Starting => "control channel on ",
        Moment::MidRound => "sample 1 of 10",
        Moment::NearEnd => "sample 9 of 10",
    };
    running.stderr_line(line);
    for slot in slots {
        signal(running.collector(*slot), signal_name);
    }
    (running.finish(), mark)
}

/// Asserts that the round has a price without the collectors in `slots`.
fn assert_price_without(done: &Finished, slots: &[u16], what: &str) {
    assert_eq!(done.code, Some(0), "{what}: {}", done.stderr);
    let report = Published::of(done);
    report.checked_price();
    report.assert_on_time(done);
    assert_eq!(report.prices, 5 - slots.len(), "{what}: {}", done.stderr);
    for slot in &report.collectors {
        let struck = slots.contains(&slot.slot);
        assert_eq!(slot.standing == "silent", struck, "{what}: {}", done.stderr);
        assert_eq!(slot.price.is_none(), struck, "{what}");
        let remark = done.remark(slot.slot);
        assert_eq!(remark.is_some(), struck, "{what}: {remark:?}");
    }
}

#[test]
fn a_collector_killed_at_any_moment_costs_its_own_price_only() {
    for moment in [Moment::Starting, Moment::MidRound, Moment::NearEnd] {
        let (done, mark) = strike("KILL", &[3], moment);
        assert_price_without(&done, &[3], &format!("{moment:?}"));
        let remark = done.remark(3).unwrap();
        let ended = remark.contains("signal: 9") || remark.contains("connection ended");
        assert!(ended, "{moment:?}: {remark}");
        assert_eq!(bearers(&mark), [], "nobody is left");
    }
}

#[test]
fn a_collector_stopped_at_any_moment_costs_its_own_price_only() {
    for moment in [Moment::Starting, Moment::MidRound, Moment::NearEnd] {
        let (done, mark) = strike("STOP", &[1], moment);
        assert_price_without(&done, &[1], &format!("{moment:?}"));
        assert_eq!(bearers(&mark), [], "the stopped one is not left either");
    }
}

#[test]
fn two_of_five_may_be_lost() {
    let (done, _) = strike("KILL", &[0, 4], Moment::MidRound);
    assert_price_without(&done, &[0, 4], "killed");
    let (done, _) = strike("STOP", &[0, 4], Moment::MidRound);
    assert_price_without(&done, &[0, 4], "stopped");
    let (done, _) = strike("KILL", &[1, 2], Moment::Starting);
    assert_price_without(&done, &[1, 2], "killed while starting");
}

#[test]
fn three_of_five_are_too_many() {
    for name in ["KILL", "STOP"] {
        let (done, mark) = strike(name, &[0, 2, 4], Moment::MidRound);
        assert_eq!(done.code, Some(3), "{}", done.stderr);
        let report = Published::of(&done);
        report.assert_on_time(&done);
        assert_eq!(
            (report.price, report.time_us, report.prices),
            (None, None, 2)
        );
        let why = "no price: 2 of 5 collectors gave a price, 3 are needed (quorum)";
        assert!(done.stderr.contains(why), "{}", done.stderr);
        assert_eq!(bearers(&mark), [], "nobody is left");
    }
    let (done, _) = strike("KILL", &[0, 2, 4], Moment::Starting);
    // Whether the round has begun or not, there is a report without a price.
    assert_eq!(done.code, Some(3), "{}", done.stderr);
    assert_eq!(Published::of(&done).price, None);
    let why = "no price: 2 of 5 collectors ";
    assert!(done.stderr.contains(why), "{}", done.stderr);
}

#[test]
fn below_the_quorum_nothing_stands_on_standard_output() {
    let (mut command, _) = marked_run(&["--source", "embedded:BTCUSDT"]);
    command.args(["--collectors", "1", "--samples", "3", "--interval", "1s"]);
    let running = start_command(command);
    running.stderr_line("sample 1 of 3");
    signal(running.collector(0), "KILL");
    let done = running.finish();
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (Some(3), ""),
        "{}",
        done.stderr
    );
}

#[test]
fn an_exchange_killed_in_mid_round_leaves_abstentions() {
    let (mut command, mark) = marked_run(&["--source", "embedded:BTCUSDT", "--json"]);
    command.args(["--samples", "4", "--interval", "1s"]);
    let running = start_command(command);
    running.stderr_line("sample 1 of 4");
    let of_exchange = |id: &u32| arguments(*id).iter().any(|word| word == "exchange");
    let exchange = running.children().into_iter().find(of_exchange);
    signal(exchange.expect("the run has started one"), "KILL");
    let done = running.finish();
    assert_eq!(done.code, Some(3), "{}", done.stderr);
    let report = Published::of(&done);
    report.assert_on_time(&done);
    assert_eq!((report.price, report.signatures_verified), (None, 5));
    assert_eq!(bearers(&mark), [], "nobody is left");
}

/// Kills the aggregator, and waits until none of its children is left.
fn kill_and_watch(mut running: Running, mark: &str, phase: &str) {
    // A child shows its environment only once it has become this program.
    let before = eventually(&format!("{phase}: there are children"), || {
        Some(bearers(mark).len()).filter(|count| *count > 1)
    });
    running.signal("KILL");
    eventually("the aggregator ends", || running.ended().then_some(()));
    let killed = Instant::now();
    eventually(&format!("{phase}: nobody is left"), || {
        bearers(mark).is_empty().then_some(())
    });
    let took = killed.elapsed();
    let beat = run(&["--version"]).took;
    println!(
        "{phase}: {} processes ended within {took:?}; one that has nothing to do takes {beat:?}",
        before - 1
    );
    assert!(took < END_MAX + BEATS * beat, "{phase}: {took:?}");
}

fn marked_start(args: &[&str]) -> (Running, String) {
    let (mut command, mark) = marked_run(&["--source", "embedded:BTCUSDT"]);
    command.args(["--ready-timeout", "1h"]).args(args);
    (start_command(command), mark)
}

#[test]
fn nobody_outlives_an_aggregator_killed_while_starting() {
    for children in 1..=6 {
        let (running, mark) = marked_start(&[]);
        let started = || (running.children().len() >= children).then_some(());
        eventually("so many children are started", started);
        kill_and_watch(running, &mark, &format!("{children} children started"));
    }
}

#[test]
fn nobody_outlives_an_aggregator_killed_while_the_exchange_says_nothing() {
    for scheme in ["ws", "wss"] {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        silent.set_nonblocking(true).unwrap();
        let url = format!("{scheme}://{}/ws-api/v3", silent.local_addr().unwrap());
        let (running, mark) = marked_start(&["--endpoint", &url]);
        let mut held = Vec::new();
        eventually("all five have connected", || {
            held.extend(silent.accept());
            (held.len() == 5).then_some(())
        });
        kill_and_watch(running, &mark, &format!("silent {scheme} exchange"));
    }
}

#[test]
fn nobody_outlives_an_aggregator_killed_while_waiting_for_a_first_price() {
    let (_exchange, url) = exchange(&["--fault", "hang"]);
    let (running, mark) = marked_start(&["--endpoint", &url]);
    let connected = || (clients_of(&url).len() == 5).then_some(());
    eventually("all five have connected", connected);
    kill_and_watch(running, &mark, "no first price");
}

#[test]
fn nobody_outlives_an_aggregator_killed_between_two_attempts() {
    // A port that the system assigns to no program.
    let (running, mark) = marked_start(&["--endpoint", "ws://127.0.0.1:9/ws-api/v3"]);
    running.stderr_line("trying again");
    kill_and_watch(running, &mark, "between two attempts");
    let (_exchange, url) = exchange(&["--fault", "status:429:1h"]);
    let (running, mark) = marked_start(&["--endpoint", &url]);
    running.stderr_line("trying again");
    kill_and_watch(running, &mark, "told to wait for an hour");
}

#[test]
fn nobody_outlives_an_aggregator_killed_in_mid_round() {
    let (running, mark) = marked_start(&["--samples", "1000", "--interval", "100ms"]);
    running.stderr_line("sample 2 of 1000");
    kill_and_watch(running, &mark, "short intervals");
    let (running, mark) = marked_start(&["--samples", "3", "--interval", "1h"]);
    running.stderr_line("sample 1 of 3");
    kill_and_watch(running, &mark, "an hour between samples");
    let (_exchange, url) = exchange(&["--fault", "hang@3"]);
    let args = [
        "--endpoint",
        &url,
        "--samples",
        "1000",
        "--interval",
        "100ms",
    ];
    let (running, mark) = marked_start(&args);
    running.stderr_line("sample 1 of 1000");
    kill_and_watch(running, &mark, "hanging exchange");
}

#[test]
#[ignore = "needs namespaces"]
fn nobody_outlives_an_aggregator_killed_while_packets_vanish() {
    let (mut command, mark) = marked_run(&["--source", "embedded:BTCUSDT"]);
    command.args(["--ready-timeout", "1h", "--endpoint", IN_THE_ABYSS]);
    let running = start_command(apart(ABYSS, &command));
    let table = format!("/proc/{}/net/tcp", running.id());
    eventually("all five try to connect", || {
        let table = std::fs::read_to_string(&table).ok()?;
        let trying = |line: &&str| line.split_whitespace().nth(3) == Some("02");
        (table.lines().filter(trying).count() == 5).then_some(())
    });
    kill_and_watch(running, &mark, "packets vanish");
}

#[test]
#[ignore = "needs namespaces"]
fn nobody_outlives_an_aggregator_killed_while_the_name_server_is_silent() {
    if resolver_file().is_none() {
        let this = "nobody_outlives_an_aggregator_killed_while_the_name_server_is_silent";
        return in_a_network_of_its_own(this);
    }
    let server = UdpSocket::bind("127.0.0.1:53").unwrap();
    server.set_nonblocking(true).unwrap();
    let (running, mark) = marked_start(&["--endpoint", "ws://exchange.example:9/ws-api/v3"]);
    let mut askers = BTreeSet::new();
    eventually("all five have asked the name server", || {
        let asked = server.recv_from(&mut [0; 512]);
        askers.extend(asked.map(|(_, asker)| asker));
        (askers.len() >= 5).then_some(())
    });
    kill_and_watch(running, &mark, "silent name server");
}
