//! Connections to the exchange across rounds: they are kept open, pings on them are answered, and they are replaced before
//! the exchange closes them for their age, one after the other and never while samples are taken.

mod chronicle;
mod support;
mod witness;

use chronicle::*;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};
use support::*;
use witness::*;

/// A period long enough for a busy machine to send requests in time and to open a connection between rounds.
const EVERY: [&str; 6] = ["--every", "400ms", "--samples", "1", "--interval", "400ms"];
/// A period shorter than the time that it takes to open a connection.
const OFTEN: [&str; 6] = ["--every", "100ms", "--samples", "1", "--interval", "100ms"];

/// Logged if a busy machine keeps the exchange from a core for a second; then its connections are replaced.
const MUTE: &str = "the exchange stopped answering; reconnecting";

#[test]
fn connections_are_kept_over_the_rounds_and_pings_on_them_are_answered() {
    let (_exchange, url) = exchange(&["--fault", "ping"]);
    let chronicle = Chronicle::new();
    let running = chronicle.start(&[&EVERY[..], &["--endpoint", &url]].concat());
    chronicle.until(0, "five prices", |kept| kept.prices == 5);
    let mut before = clients_of(&url);
    assert_eq!(before.len(), 5);
    // The exchange sends a price only after the ping before it was answered.
    for _ in 0..10 {
        let after = chronicle.lines().len();
        chronicle.until(after, "five prices again", |kept| kept.prices == 5);
        let (now, said) = (clients_of(&url), running.stderr());
        assert!(now == before || said.contains(MUTE), "{said}");
        before = now;
    }
}

#[test]
fn old_connections_are_replaced_one_after_the_other_and_no_round_loses_a_price() {
    const AGE: Duration = Duration::from_secs(30);
    let (_exchange, url) = exchange(&[]);
    let chronicle = Chronicle::new();
    let args = ["--endpoint", &url, "--connection-age", "30s"];
    let began = Instant::now();
    let running = chronicle.start(&[&EVERY[..], &args].concat());
    chronicle.until(0, "five prices", |kept| kept.prices == 5);
    let first = clients_of(&url);
    assert_eq!(first.len(), 5);
    // The instants at which connections beyond the first five were seen.
    let mut seen: BTreeMap<String, Duration> = BTreeMap::new();
    let mut most = 0;
    let second = eventually("all five are replaced", || {
        let now = clients_of(&url);
        most = most.max(now.len());
        for client in now.difference(&first) {
            seen.entry(client.clone()).or_insert(began.elapsed());
        }
        (now.is_disjoint(&first) && now.len() == 5).then_some(now)
    });
    // An attempt that a round interrupted may be seen as well.
    let mut times: Vec<Duration> = second.iter().map(|client| seen[client]).collect();
    times.sort();
    println!("replaced at {times:?}; at most {most} at once");
    if running.stderr().contains(MUTE) {
        times.retain(|at| *at > AGE * 9 / 10);
    }
    // Ages differ by a hundredth from slot to slot: 1.2 s from the first to the last, rounded up to the end of a round.
    assert!(times.iter().all(|at| *at > AGE * 9 / 10), "{times:?}");
    if times.len() == 5 {
        assert!(times[4] - times[0] > AGE / 100, "{times:?}");
    }
    assert!(most <= 7, "{most} at once");
    let after = chronicle.lines().len();
    chronicle.until(after + 3, "five prices", |kept| kept.prices == 5);
    let said = running.stderr();
    let stays = clients_of(&url) == second;
    assert!(stays || said.contains(MUTE), "each once: {said}");
    let reports = chronicle.assert_whole(400_000);
    let said = running.stderr();
    let given_up = said.contains(MUTE);
    let said = said.replace(MUTE, "");
    for trouble in [
        "not connected",
        "disconnect",
        "reconnecting",
        "started again",
    ] {
        assert!(!said.contains(trouble), "{said}");
    }
    let lost: usize = reports.iter().map(|kept| 5 - kept.prices).sum();
    println!("{} reports, {lost} prices lost", reports.len());
    // A busy machine may sometimes request a sample too late, but no sample was lost for lack of a connection.
    for line in chronicle.lines() {
        for miss in ["no connection", "connection ended"] {
            assert!(!line.contains(miss) || given_up, "{line}");
        }
    }
}

/// A forwarder to the exchange that delays every new connection.
struct SlowWay {
    listener: TcpListener,
    exchange: String,
    delay: Duration,
    pairs: Vec<(TcpStream, Option<TcpStream>, Instant)>,
}

impl SlowWay {
    fn step(&mut self) {
        while let Ok((near, _)) = self.listener.accept() {
            near.set_nonblocking(true).expect("a socket option");
            self.pairs.push((near, None, Instant::now()));
        }
        let (exchange, delay) = (&self.exchange, self.delay);
        self.pairs.retain_mut(|(near, far, since)| match far {
            Some(far) => pass(near, far) && pass(far, near),
            None if since.elapsed() < delay => true,
            None => {
                let reached = TcpStream::connect(exchange).expect("it listens");
                reached.set_nonblocking(true).expect("a socket option");
                *far = Some(reached);
                true
            }
        });
    }
}

/// Forwards what has arrived. Returns whether both connections are still open.
fn pass(from: &mut TcpStream, to: &mut TcpStream) -> bool {
    let mut bytes = [0; 16 * 1024];
    match from.read(&mut bytes) {
        Ok(0) => false,
        Ok(count) => to.write_all(&bytes[..count]).is_ok(),
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

#[test]
fn a_lost_connection_comes_back_although_it_takes_longer_than_a_period() {
    let (_exchange, url) = exchange(&[]);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a socket option");
    let place = listener.local_addr().expect("it is bound").to_string();
    let address = url.split('/').nth(2).expect("an address").to_owned();
    let mut way = SlowWay {
        listener,
        delay: Duration::ZERO,
        pairs: Vec::new(),
        exchange: address.clone(),
    };
    let chronicle = Chronicle::new();
    let url = url.replace(&address, &place);
    let args = ["--endpoint", &url, "--collectors", "1"];
    let running = chronicle.start(&[&OFTEN[..], &args].concat());
    let wait_for = |way: &mut SlowWay, what: &str, prices: usize| {
        let after = chronicle.lines().len();
        eventually(what, || {
            way.step();
            let lines = chronicle.lines();
            let new = lines.iter().skip(after).map(|line| Kept::of(line));
            new.into_iter().find(|kept| kept.prices == prices)
        });
    };
    wait_for(&mut way, "a price", 1);
    way.delay = Duration::from_millis(700);
    way.pairs.clear();
    wait_for(&mut way, "a round without a price", 0);
    wait_for(&mut way, "a price again", 1);
    drop(running);
}
