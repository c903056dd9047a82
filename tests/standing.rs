//! A collector that was started by hand outlives its aggregators, serves several at once, and signs at most one answer for a start,
//! however often it is killed: its mark sees to that.

mod chronicle;
mod enlisted;
mod support;
mod witness;

use chronicle::*;
use enlisted::*;
use rsoracle::keys::create;
use rsoracle::system::now::wall_us;
use rsoracle_proof::seal::hex;
use rsoracle_proof::utc::utc_us;
use std::process::{Command, Stdio};
use std::time::Duration;
use support::peer::roster;
use support::*;
use witness::*;

/// A collector and its only aggregator, which has let it in.
fn stand(post: &Post, ports: Ports, url: &str) -> Enlisted {
    let child = post.start(&[&ports], url);
    let line = greet(accept(&ports.control), &child.key);
    let mut standing = Enlisted { ports, child, line };
    standing.line.until_ready(post.terms.digest());
    standing
}

/// Starts a collector by hand with this command, and lets it in.
fn let_in(ports: Ports, post: &Post, command: Command) -> Enlisted {
    let child = Child {
        running: start_command(command),
        tether: None,
        key: post.key,
    };
    let line = greet(accept(&ports.control), &child.key);
    Enlisted { ports, child, line }
}

#[test]
fn it_goes_on_while_its_aggregator_is_away_and_answers_when_that_is_back() {
    let (_exchange, url) = exchange(&[]);
    let post = Post::new(2, "100ms", "1s");
    // No other program gets these ports meanwhile.
    let addresses = [nobodys_address(), nobodys_address()];
    let mut standing = stand(&post, ports_at(addresses), &url);
    for _ in 0..2 {
        standing.answer(&post.terms);
        let Enlisted { ports, line, child } = standing;
        drop((ports, line));
        child.running.stderr_line("Connection refused");
        let ports = ports_at(addresses);
        let line = greet(accept(&ports.control), &child.key);
        standing = Enlisted { ports, child, line };
    }
    standing.whole_answer(&post.terms);
    assert!(!standing.child.running.ended());
}

#[test]
fn of_three_aggregators_a_deaf_one_and_one_that_is_away_cost_the_third_nothing() {
    let (_exchange, url) = exchange(&[]);
    let post = Post::new(10, "100ms", "2s");
    let (deaf, ports) = (ports(), ports());
    let away = ports_at([nobodys_address(), nobodys_address()]);
    let command = post.command(&[&deaf, &ports, &away], &url);
    drop(away);
    let mut standing = let_in(ports, &post, command);
    let mut unread = greet(accept(&deaf.control), &post.key);
    let mut after_us = wall_us();
    eventually("a whole round while another floods and never reads", || {
        after_us = eventually("an answer", || {
            unread.flood();
            standing.look();
            let newest_us = standing.ports.frames.last()?.start_us;
            (newest_us > after_us).then_some(newest_us)
        });
        let answered = standing.answer_after(after_us - 1, &post.terms);
        answered.is_whole().then_some(())
    });
    standing.child.running.stderr_line("Connection refused");
}

#[test]
fn all_its_aggregators_get_the_same_bytes() {
    let (_exchange, url) = exchange(&[]);
    let post = Post::new(2, "100ms", "1s");
    let (mut other, ports) = (ports(), ports());
    let child = post.start(&[&other, &ports], &url);
    let mut second = greet(accept(&other.control), &child.key);
    let line = greet(accept(&ports.control), &child.key);
    let mut standing = Enlisted { ports, child, line };
    eventually("three answers that both got", || {
        standing.look();
        second.look();
        other.look(&post.key);
        let both = standing.ports.frames.iter().filter(|frame| {
            let same = |theirs: &&_| theirs == frame;
            let start_us = frame.start_us;
            let theirs = other
                .frames
                .iter()
                .find(|theirs| theirs.start_us == start_us);
            assert!(theirs.iter().all(same), "{frame:?}, {theirs:?}");
            theirs.is_some()
        });
        (both.count() >= 3).then_some(())
    });
}

#[test]
fn an_aggregator_may_be_named_by_its_host_name() {
    let (_exchange, url) = exchange(&[]);
    let post = Post::new(2, "100ms", "1s");
    let ports = ports();
    let by_address = post.command(&[&ports], &url);
    let mut command = rsoracle();
    command.args(by_address.get_args().map(|word| {
        let word = word.to_str().expect("text");
        word.replace(
            "127.0.0.1:",
            match word.contains('@') {
                true => "localhost:",
                false => "127.0.0.1:",
            },
        )
    }));
    command.stdin(Stdio::null());
    let mut standing = let_in(ports, &post, command);
    standing.answer(&post.terms);
    standing.line.control.half_close();
    standing.welcome_again();
    standing.answer(&post.terms);
}

#[test]
fn no_start_is_answered_twice_though_it_is_killed_again_and_again() {
    let (_exchange, url) = exchange(&[]);
    let post = Post::new(2, "20ms", "200ms");
    // The frames of all lives come here, and the ports check their starts.
    let mut ports = ports();
    for life in 0..5 {
        let seen = ports.frames.len();
        let mut standing = stand(&post, ports, &url);
        eventually("some answers", || {
            standing.look();
            (standing.ports.frames.len() > seen).then_some(())
        });
        // At another moment of a period in each life.
        std::thread::sleep(Duration::from_millis(37 * life));
        standing.child.running.signal("KILL");
        eventually("it ends", || standing.child.running.ended().then_some(()));
        standing.ports.look(&post.key);
        ports = standing.ports;
        let text = std::fs::read_to_string(post.mark()).expect("a mark");
        let newest = text.lines().rev().nth(1).expect("a line of these terms");
        let (digest, time) = newest.split_once(' ').expect("a digest and a time");
        assert_eq!(digest, hex(&post.terms.digest()));
        let newest_us = ports.frames.last().expect("an answer").start_us;
        assert!(utc_us(time).expect("a time") >= newest_us, "{text}");
    }
}

#[test]
#[ignore = "needs faketime"]
fn a_clock_that_is_set_back_over_a_restart_makes_it_sign_nothing_twice() {
    let post = Post::new(2, "20ms", "200ms");
    let (library, clock) = (faketime(), scratch("clock"));
    // The frames of both lives come here, and the ports check that starts increase.
    let mut ports = ports();
    for (off, same) in [("+0", &[][..]), ("-4", &["--clock-offset", "-4s"])] {
        assert!(set_clock(&clock, off));
        // Nothing is signed unless the exchange's clock agrees.
        let (_exchange, url) = exchange(same);
        let mut command = post.command(&[&ports], &url);
        by_the_clock_of(&mut command, &library, &clock);
        let mut standing = let_in(ports, &post, command);
        let seen = standing.ports.frames.len();
        eventually("some answers", || {
            standing.look();
            (standing.ports.frames.len() > seen + 3).then_some(())
        });
        standing.child.running.signal("KILL");
        standing.ports.look(&post.key);
        ports = standing.ports;
    }
}

#[test]
fn a_mark_that_cannot_be_written_costs_rounds_and_no_more() {
    let (_exchange, url) = exchange(&[]);
    let post = Post::new(2, "100ms", "1s");
    let state = scratch("state");
    std::fs::create_dir(&state).expect("a folder");
    let ports = ports();
    let mut command = post.command(&[&ports], &url);
    command.arg("--state").arg(&state);
    let mut standing = let_in(ports, &post, command);
    standing.answer(&post.terms);
    assert!(state.join("slot-3.key.mark").exists());
    assert!(!std::path::Path::new(&post.mark()).exists());
    std::fs::remove_dir_all(&state).expect("it is removed");
    let says = "left out a round, whose answer could be signed twice: ";
    eventually("a round is left out", || {
        standing.look();
        standing.child.running.stderr().contains(says).then_some(())
    });
    let newest_us = |standing: &Enlisted| standing.ports.frames.last().map(|frame| frame.start_us);
    standing.look();
    let (last_us, until_us) = (newest_us(&standing), wall_us() + 3_000_000);
    eventually("three more starts", || {
        standing.look();
        (wall_us() > until_us).then_some(())
    });
    assert_eq!(
        newest_us(&standing),
        last_us,
        "nothing is signed without a mark"
    );
    std::fs::create_dir(&state).expect("a folder");
    standing.answer(&post.terms);
    assert!(state.join("slot-3.key.mark").exists());
}

#[test]
fn what_could_make_it_sign_twice_or_nothing_refuses_the_start() {
    let (_exchange, url) = exchange(&[]);
    let ports = ports();
    let post = Post::new(2, "100ms", "1s");
    let refused = |post: &Post, says: &str, advice: &str| {
        let done = post.start(&[&ports], &url).running.finish();
        assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""));
        for part in ["collector: ", says, advice] {
            assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
        }
    };
    let mark = format!("rsoracle mark 1 {}\nend\n", hex(post.key.bytes()));
    let foreign = mark.replace(&hex(post.key.bytes()), &hex(&[9; 32]));
    let restore = "restore the file";
    for (text, says) in [
        ("", "it is not a mark"),
        (&mark[..mark.len() - 1], "it is cut or was changed"),
        (&mark[..mark.len() - 4], "it is cut or was changed"),
        (&foreign, "it is of another key"),
    ] {
        std::fs::write(post.mark(), text).expect("a file");
        refused(&post, says, restore);
        let kept = std::fs::read_to_string(post.mark()).expect("it is still there");
        assert_eq!(kept, text, "a mark that cannot be read is not replaced");
    }
    std::fs::write(post.mark(), &mark).expect("a file");
    let away = ["--state", "/nonexistent/folder"];
    let done = post.start_with(&[&ports], &url, &away).running.finish();
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    for part in [
        "in /nonexistent/folder: it is not a directory",
        "--state names an existing directory",
    ] {
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }
    let first = post.start(&[&ports], &url);
    let _line = greet(accept(&ports.control), &first.key);
    refused(&post, "another process signs with this key", "end it first");
    drop(first);
    let stranger = Post {
        key_file: scratch("other.key").display().to_string(),
        ..post
    };
    create(&stranger.key_file).expect("a key file");
    refused(
        &stranger,
        "no slot has the key ",
        "'rsoracle keys FILE' shows",
    );
    std::fs::write(&stranger.roster, "number = 1\n").expect("a file");
    let done = stranger.start(&[&ports], &url).running.finish();
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("key 'previous'"), "{}", done.stderr);
}

#[test]
fn an_aggregator_that_is_killed_and_started_again_gets_prices_again() {
    let (_exchange, url) = exchange(&[]);
    let chronicle = Chronicle::new();
    let [roster_file, aggregator_key] =
        ["roster.toml", "aggregator.key"].map(|name| chronicle.beside(name));
    let key_files: Vec<String> = (0..5)
        .map(|slot| chronicle.beside(&format!("slot-{slot}.key")))
        .collect();
    let keys = key_files.iter().map(|file| create(file).expect("a key"));
    let text = roster(&keys.collect::<Vec<_>>(), 2, "200ms");
    std::fs::write(&roster_file, text).expect("a file");
    let key = hex(create(&aggregator_key).expect("a key").bytes());
    let [control, data] = [nobodys_address().port(), nobodys_address().port()];
    let place = format!("127.0.0.1:{control},{data}@{key}");
    let collectors: Vec<Running> = key_files
        .iter()
        .map(|file| {
            let files = ["collect", "--roster", &roster_file, "--key", file];
            start(&[&files[..], &["--aggregator", &place, "--endpoint", &url]].concat())
        })
        .collect();
    let [control, data] = [control, data].map(|port| port.to_string());
    let aggregate = [
        "aggregate",
        "--roster",
        &roster_file,
        "--aggregator-key",
        &aggregator_key,
        "--control-port",
        &control,
        "--data-port",
        &data,
        "--journal",
        chronicle.name(),
    ];
    for _ in 0..3 {
        let before = chronicle.lines().len();
        let running = start(&aggregate);
        chronicle.until(before, "five prices", |kept| kept.prices == 5);
        running.signal("KILL");
    }
    for mut collector in collectors {
        assert!(!collector.ended(), "{}", collector.stderr());
    }
    let done = run(&["verify", chronicle.name(), "--roster", &roster_file]);
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
}
