//! A wrong clock signs nothing: the real binary under libfaketime, and an embedded exchange whose time is right.

mod enlisted;
mod support;
mod witness;

use enlisted::*;
use std::path::Path;
use std::time::{Duration, Instant};
use support::*;
use witness::*;

/// What a collector says while it signs nothing.
const GUARDED: &str = "the exchange's; signing nothing meanwhile; set it: run an NTP client";

/// How often a collector has said so.
fn guarded(said: &str) -> usize {
    said.matches(GUARDED).count()
}

#[test]
#[ignore = "needs faketime"]
fn a_run_by_a_wrong_clock_has_no_price_and_says_by_how_much_it_is_off() {
    let library = faketime();
    let (_exchange, url) = exchange(&[]);
    for (source, off, says) in [
        ("embedded:BTCUSDT", "+3600", "60 min ahead of "),
        ("embedded-kraken:BTC/USD", "-30", " s behind "),
    ] {
        let clock = scratch("clock");
        assert!(set_clock(&clock, off));
        let mut command = rsoracle();
        command.args(["run", "--source", source, "--endpoint", &url]);
        command.args(["--samples", "1", "--ready-timeout", "3s"]);
        command.args(["--control-port", "0", "--data-port", "0"]);
        by_the_clock_of(&mut command, &library, &clock);
        let done = start_command(command).finish();
        assert_eq!((done.code, done.stdout.as_str()), (Some(3), ""), "{off}");
        let why = done.stderr.lines().find(|line| line.contains(GUARDED));
        let why = why.unwrap_or_else(|| panic!("{}", done.stderr));
        let begins = why.contains(": this machine's clock is ") && why.contains(says);
        assert!(begins, "{why}");
        // Each of five said it once, and the repetitions are summed up.
        assert!(guarded(&done.stderr) <= 6, "{}", done.stderr);
    }
}

/// Listens for a while, in which nothing is signed.
fn silent(standing: &mut Enlisted) {
    // What was under way.
    let settled = Instant::now() + Duration::from_millis(300);
    while Instant::now() < settled {
        standing.look();
    }
    let count = |standing: &Enlisted| {
        let ports = &standing.ports;
        (ports.frames.len(), standing.line.samples.len())
    };
    let before = count(standing);
    let until = Instant::now() + Duration::from_millis(2_500);
    while Instant::now() < until {
        standing.look();
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(count(standing), before, "answers and samples");
}

/// Starts a collector by hand whose clock is off as the file says, and lets it in.
fn stand(post: &Post, url: &str, clock: &Path) -> Enlisted {
    let ports = ports();
    let mut command = post.command(&[&ports], url);
    by_the_clock_of(&mut command, &faketime(), clock);
    let child = Child {
        running: start_command(command),
        tether: None,
        key: post.key,
    };
    let line = greet(accept(&ports.control), &child.key);
    Enlisted { ports, child, line }
}

#[test]
#[ignore = "needs faketime"]
fn a_collector_signs_nothing_by_a_wrong_clock_and_goes_on_once_it_is_right() {
    let (_exchange, url) = exchange(&[]);
    let post = Post::new(2, "100ms", "1s");
    let clock = scratch("clock");
    // An hour ahead at the start: nothing of that hour may be left behind, such as a mark.
    assert!(set_clock(&clock, "+3600"));
    let mut standing = stand(&post, &url, &clock);
    for (round, off) in ["+3600", "+30", "-30", "-2.5"].into_iter().enumerate() {
        assert!(set_clock(&clock, off));
        eventually("the collector says that its clock is off", || {
            standing.look();
            (guarded(&standing.child.running.stderr()) > round).then_some(())
        });
        silent(&mut standing);
        assert_eq!(standing.line.ready.is_empty(), round == 0, "{off}");
        assert!(set_clock(&clock, "+0"));
        standing.line.until_ready(post.terms.digest());
        standing.answer(&post.terms);
        let said = standing.child.running.stderr();
        assert_eq!(guarded(&said), round + 1, "{said}");
        let right = said.matches("agrees with the exchange's; signing").count();
        assert_eq!(right, round + 1, "{said}");
    }
    let said = standing.child.running.stderr();
    let set = "the exchange has not shown its time since the start, or since the clock was set; ";
    assert!(said.contains(set), "{said}");
}
