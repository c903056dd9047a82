//! `rsoracle run --serve` and `aggregate --serve`: one command makes prices and serves them.

mod signed;
mod support;
mod witness;

use rsoracle::roster::text;
use signed::*;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use support::*;
use witness::*;

/// The flags of rounds that follow each other quickly.
const ROUNDS: [&str; 8] = [
    "--every",
    "500ms",
    "--samples",
    "2",
    "--interval",
    "50ms",
    "--journal",
    "",
];

/// Starts a run that serves its journal on a free port. Returns it, the address and its mark.
fn served_run(journal: &Path, flags: &[&str]) -> (Running, SocketAddr, String) {
    let (mut command, mark) = marked_run(&["--source", "embedded:BTCUSDT"]);
    command.args(&ROUNDS[..7]).arg(journal);
    command.args(["--serve", "127.0.0.1:0"]).args(flags);
    let running = start_command(command);
    let address = address(&running);
    (running, address, mark)
}

/// The address that a run says.
fn address(running: &Running) -> SocketAddr {
    let line = running.stderr_line("live page and reports on http://");
    let (_, place) = line.split_once("http://").unwrap();
    place.trim_end_matches('/').parse().expect(&line)
}

/// The process id of its server.
fn server(running: &Running) -> u32 {
    eventually("the server runs", || {
        let serves = |id: &u32| arguments(*id).get(1).is_some_and(|word| word == "serve");
        running.children().into_iter().find(serves)
    })
}

/// Asks until there is an answer with a body that fits. The server may be down.
fn until(address: SocketAddr, path: &str, fits: impl Fn(&str) -> bool) -> String {
    eventually(path, || {
        let mut stream = TcpStream::connect(address).ok()?;
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let good = head.starts_with("HTTP/1.1 200 ") && fits(body);
        good.then(|| body.to_owned())
    })
}

/// A file with this text.
fn file(name: &str, text: &str) -> PathBuf {
    let path = scratch(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Whether a line is proved by the keys of a roster.
fn is_proved(line: &str, roster: &str) -> bool {
    let (line, roster) = (file("line.json", line), file("roster.toml", roster));
    let words = ["verify", line.to_str().unwrap(), "--roster"];
    run(&[&words[..], &[roster.to_str().unwrap()]].concat()).code == Some(0)
}

#[test]
fn one_command_makes_prices_and_serves_them_with_their_roster() {
    let journal = scratch("prices.jsonl");
    let (running, address, mark) = served_run(&journal, &[]);
    let roster = until(address, "/v1/roster", |_| true);
    let latest = until(address, "/v1/latest", |_| true);
    let kept = std::fs::read_to_string(&journal).unwrap();
    assert!(kept.contains(&latest));
    assert!(is_proved(&latest, &roster), "{roster}");
    // A collector that begins anew has its key still, so the roster holds.
    let killed = running.collector(2);
    signal(killed, "KILL");
    running.stderr_line("started again (1)");
    let then = until(address, "/v1/latest", |_| true);
    let all = "\"prices\":5,";
    let later = until(address, "/v1/latest", |body| {
        body != then && body.contains(all)
    });
    assert!(is_proved(&later, &roster), "{later}");
    assert_eq!(until(address, "/v1/roster", |_| true), roster);
    // A server that ends is started again, at the same address.
    let first = server(&running);
    signal(first, "KILL");
    running.stderr_line("aggregator: the server ended (signal: 9 (SIGKILL))");
    running.stderr_line("aggregator: server: started again (1)");
    until(address, "/v1/latest", |_| true);
    let second = server(&running);
    assert_ne!(first, second);
    // Nobody is left when the run is killed.
    running.signal("KILL");
    eventually("the server has ended", || (!alive(second)).then_some(()));
    eventually("nobody is left", || bearers(&mark).is_empty().then_some(()));
}

#[test]
fn the_roster_of_a_served_run_holds_for_its_whole_journal_over_restarts() {
    let journal = scratch("prices.jsonl");
    let path = journal.to_str().unwrap();
    let (beside, keys) = (format!("{path}.roster"), format!("{path}.keys"));
    let mut rosters = Vec::new();
    for flags in [&[][..], &[], &["--feed", "ETH/USD"]] {
        let (mut command, _) = marked_run(&["--source", "embedded-kraken"]);
        command.args(&ROUNDS[..7]).arg(path);
        command.args(["--serve", "127.0.0.1:0", "--rounds", "2"]);
        command.args(flags);
        let done = start_command(command).finish();
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let made = format!("made new keys for 5 of 5 collectors in {keys}");
        assert_eq!(done.stderr.contains(&made), rosters.is_empty());
        let gone = done.stderr.contains("had another roster, which is gone");
        assert_eq!(gone, !flags.is_empty(), "{}", done.stderr);
        rosters.push(std::fs::read_to_string(&beside).unwrap());
        if flags.is_empty() {
            let done = run(&["verify", path, "--roster", &beside]);
            assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
        }
    }
    assert_eq!(rosters[0], rosters[1]);
    let mode = std::fs::metadata(&keys).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn an_aggregator_of_a_roster_serves_it_too() {
    let text = text::render(&roster_of(&Oracle::new(5, "binance:BTCUSDC").terms));
    let (roster, journal) = (file("roster.toml", &text), scratch("prices.jsonl"));
    let [roster, journal] = [&roster, &journal].map(|path| path.to_str().unwrap());
    let files = ["aggregate", "--roster", roster, "--journal", journal];
    let ports = ["--control-port", "0", "--data-port", "0"];
    let running = start(&[&files[..], &ports, &["--serve=127.0.0.1:0"]].concat());
    let passed = until(address(&running), "/v1/roster", |_| true);
    assert!(passed.ends_with(&text), "{passed}");
}

#[test]
fn a_server_that_cannot_listen_is_a_failure_at_the_start_and_the_cause_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let journal = scratch("prices.jsonl");
    let (mut command, mark) = marked_run(&["--source", "embedded:BTCUSDT"]);
    command.args(&ROUNDS[..7]).arg(journal);
    let done = start_command({
        command.args(["--serve", &address]);
        command
    });
    let done = done.finish();
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    for part in [
        &format!("serve: cannot listen on {address} (--serve)"),
        "another process has this port",
        "aggregator: cannot start the server",
    ] {
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }
    assert_eq!(bearers(&mark), [], "nobody is left");
}

#[test]
fn what_a_server_needs_is_named() {
    let journal = scratch("prices.jsonl");
    let journal = journal.to_str().unwrap();
    for (flags, part) in [
        (
            &["--every", "10s", "--serve"][..],
            "--serve needs --journal",
        ),
        (
            &["--serve", "--journal", journal],
            "--serve needs --every DURATION",
        ),
        (
            &["--every", "10s", "--journal", journal, "--serve", "8090"],
            "--serve \"8090\" is not valid; expected an address and port",
        ),
    ] {
        let done = run(&[&["run", "--source", "embedded:BTCUSDT"], flags].concat());
        assert_eq!(done.code, Some(2), "{}", done.stderr);
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }
    // Without a value it has the usual address, on the command line as in a file.
    let check = |flags: &[&str]| {
        let fixed = ["run", "--source", "embedded:BTCUSDT", "--every", "10s"];
        let done = run(&[&fixed, flags, &["--journal", journal, "--check"]].concat());
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        done.stdout
    };
    let config = file("oracle.toml", "serve = true\n");
    let config = ["--config", config.to_str().unwrap()];
    for flags in [&["--serve"][..], &["--serve", "--quiet"], &config] {
        let page = check(flags);
        assert!(page.contains("\nserve = \"127.0.0.1:8090\"\n"), "{page}");
    }
    let page = check(&["--serve", "[::1]:0"]);
    assert!(page.contains("\nserve = \"[::1]:0\"\n"), "{page}");
    let off = file("off.toml", "serve = false\n");
    let page = check(&["--config", off.to_str().unwrap()]);
    assert!(!page.contains("\nserve = "), "{page}");
}
