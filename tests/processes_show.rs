//! What other users can see of the processes during a round over TLS: each has one thread, and shows no secret.

mod support;
mod witness;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use support::*;
use witness::*;

/// A round of three local collectors and a remote one over TLS, long enough to look at its processes.
struct Stage {
    tls: Certificates,
    url: String,
    exchange: Running,
    aggregator: Running,
    remote: Running,
    enrolment: Vec<u8>,
}

impl Stage {
    /// Starts it, and waits until the round is running.
    fn set() -> Stage {
        let tls = good_certificates();
        let (exchange, url) = exchange(&["--cert", &tls.cert, "--key", &tls.key]);
        let url = url.replace("127.0.0.1", "localhost");
        let dir = scratch("slot-3.enrolment").parent().unwrap().to_owned();
        let dir = dir.to_str().expect("a path in UTF-8");
        let (mut command, _) = marked_run(&["--source", "embedded:BTCUSDT", "--endpoint", &url]);
        command.args(["--ca-file", &tls.ca, "--collectors", "4", "--remote", "1"]);
        command.args(["--enrolment-dir", dir, "--ready-timeout", "1h"]);
        command.args(["--samples", "1000", "--interval", "1s", "--json"]);
        let aggregator = start_command(command);
        let path = format!("{dir}/slot-3.enrolment");
        let enrolment = eventually("the enrolment is written", || {
            std::fs::read(&path).ok().filter(|bytes| bytes.len() == 64)
        });
        let (control, data) = aggregator.channels();
        let mut command = rsoracle();
        command.args(["collect", "--slot", "3", "--source", "embedded:BTCUSDT"]);
        command.args([
            "--control",
            &control.to_string(),
            "--data",
            &data.to_string(),
        ]);
        command.args(["--endpoint", &url, "--ca-file", &tls.ca]);
        command.stdin(Stdio::from(std::fs::File::open(&path).unwrap()));
        let remote = start_command(command);
        aggregator.stderr_line(" of 1000: 4 prices");
        assert_enrolment_is_private(Path::new(&path));
        Stage {
            tls,
            url,
            exchange,
            aggregator,
            remote,
            enrolment,
        }
    }
}

fn assert_enrolment_is_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "only its owner reads the enrolment");
}

#[test]
fn every_process_has_one_thread() {
    let stage = Stage::set();
    let children = stage.aggregator.children();
    assert_eq!(children.len(), 3);
    let others = [&stage.aggregator, &stage.remote, &stage.exchange].map(Running::id);
    for id in children.into_iter().chain(others) {
        assert_eq!(status_number(id, "Threads"), Some(1), "{:?}", arguments(id));
    }
}

#[test]
fn nothing_secret_is_in_arguments_environment_or_log() {
    let stage = Stage::set();
    let (control, data) = stage.aggregator.channels();
    let inherited = environment(stage.aggregator.id());
    for slot in 0..3u16 {
        let id = stage.aggregator.collector(slot);
        // The exact arguments leave no room for a secret.
        let (slot, control, data) = (slot.to_string(), control.to_string(), data.to_string());
        let expected = [
            ["collect", ""],
            ["--slot", &slot],
            ["--source", "embedded:BTCUSDT"],
            ["--feed", "BTC/USD"],
            ["--control", &control],
            ["--data", &data],
            ["--sample-rule", "mean"],
            ["--connection-age", "23h"],
            ["--endpoint", &stage.url],
            ["--ca-file", &stage.tls.ca],
        ];
        let expected: Vec<&str> = expected.iter().flatten().copied().collect();
        let expected: Vec<&str> = expected
            .into_iter()
            .filter(|word| !word.is_empty())
            .collect();
        let words: Vec<String> = arguments(id)
            .into_iter()
            .filter(|w| !w.is_empty())
            .collect();
        assert_eq!(words[1..], expected);
        let added: BTreeSet<String> = environment(id)
            .into_iter()
            .filter(|entry| !inherited.contains(entry))
            .collect();
        assert_eq!(added, BTreeSet::new());
    }
    // The test knows one secret: that of the remote collector.
    let secret: String = stage.enrolment[..32]
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let Stage {
        aggregator, remote, ..
    } = stage;
    let mut seen = vec![aggregator.stderr(), remote.stderr()];
    for id in [aggregator.id(), remote.id()] {
        seen.extend(arguments(id));
        seen.extend(environment(id));
    }
    assert!(
        seen.iter()
            .all(|text| !text.to_lowercase().contains(&secret))
    );
}

#[test]
fn the_embedded_exchange_is_handed_nothing_but_what_it_needs() {
    let (mut command, _) = marked_run(&["--source", "embedded:BTCUSDT"]);
    command.args(["--samples", "1000", "--interval", "100ms"]);
    let running = start_command(command);
    running.stderr_line("sample 1 of 1000");
    let id = running.children()[0];
    let words = ["exchange", "--listen", "127.0.0.1:0", "--until-eof", ""];
    assert_eq!(arguments(id)[1..], words);
    assert_eq!(environment(id), environment(running.id()));
    assert_eq!(status_number(id, "Threads"), Some(1));
}
