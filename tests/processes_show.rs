//! What other users can see of the processes during a round over TLS: each has one thread, and shows no secret.

mod support;
mod witness;

use std::collections::BTreeSet;
use support::peer::{collector_seed, stage};
use support::*;
use witness::*;

/// A round of four collectors over TLS, long enough to look at its processes.
struct Stage {
    tls: Certificates,
    url: String,
    exchange: Running,
    aggregator: Running,
}

impl Stage {
    /// Starts it, and waits until the round is running.
    fn set() -> Stage {
        let tls = good_certificates();
        let (exchange, url) = exchange(&["--cert", &tls.cert, "--key", &tls.key]);
        let url = url.replace("127.0.0.1", "localhost");
        let (mut command, _) = marked_run(&["--source", "embedded:BTCUSDT", "--endpoint", &url]);
        command.args(["--ca-file", &tls.ca, "--collectors", "4"]);
        command.args(["--ready-timeout", "1h"]);
        command.args(["--samples", "1000", "--interval", "1s", "--json"]);
        let aggregator = start_command(command);
        aggregator.stderr_line(" of 1000: 4 prices");
        Stage {
            tls,
            url,
            exchange,
            aggregator,
        }
    }
}

#[test]
fn every_process_has_one_thread() {
    let of_run = Stage::set();
    let children = of_run.aggregator.children();
    assert_eq!(children.len(), 4);
    // By hand, too.
    let by_hand = stage(0, 5, "1s");
    let round = by_hand.round(&mut []);
    by_hand.report(&round);
    let others = [&of_run.aggregator, &of_run.exchange, &by_hand.running];
    let others = others.into_iter().chain(&by_hand.collectors);
    for id in children.into_iter().chain(others.map(Running::id)) {
        assert_eq!(status_number(id, "Threads"), Some(1), "{:?}", arguments(id));
    }
}

#[test]
fn nothing_secret_is_in_arguments_environment_or_log() {
    let stage = Stage::set();
    let (control, data) = stage.aggregator.channels();
    let inherited = environment(stage.aggregator.id());
    for slot in 0..4u16 {
        let id = stage.aggregator.collector(slot);
        // The exact arguments leave no room for a secret.
        let (slot, control, data) = (slot.to_string(), control.to_string(), data.to_string());
        let expected = [
            "collect",
            "--tether",
            "--slot",
            &slot,
            "--source",
            "embedded:BTCUSDT",
            "--control",
            &control,
            "--data",
            &data,
            "--connection-age=23h",
            "--endpoint",
            &stage.url,
            "--ca-file",
            &stage.tls.ca,
        ];
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
}

#[test]
fn collectors_by_hand_show_no_secret_either() {
    let stage = stage(0, 5, "1s");
    let round = stage.round(&mut []);
    let (report, stderr) = stage.report(&round);
    assert!(report.price.is_some(), "{stderr}");
    let everyone = stage.collectors.iter().chain([&stage.running]);
    let mut seen = Vec::new();
    for process in everyone {
        seen.extend([process.stdout(), process.stderr()]);
        seen.extend(arguments(process.id()));
        seen.extend(environment(process.id()));
    }
    for slot in 0..5 {
        let secret = rsoracle_proof::seal::hex(&collector_seed(slot));
        let shows = |text: &String| text.to_lowercase().contains(&secret);
        assert!(!seen.iter().any(shows), "slot {slot}");
    }
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
