//! The system clock is stepped in mid-round, for one collector of five: the real binary under libfaketime.
//!
//! The same with an injected clock, to the microsecond, stands beside the code (`wait.rs`, `sampler.rs`). Where the library is
//! not installed (Debian's package `faketime`), the test says so and passes.

mod published;
mod support;

use published::*;
use std::path::PathBuf;
use std::process::Stdio;
use support::*;

fn faketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?;
    let library = |folder: PathBuf| folder.join("faketime/libfaketime.so.1");
    folders
        .filter_map(Result::ok)
        .map(|entry| library(entry.path()))
        .find(|path| path.exists())
}

#[test]
fn a_collector_whose_clock_is_stepped_abstains_and_says_so() {
    let Some(library) = faketime() else {
        eprintln!("SKIPPED: libfaketime is not installed (Debian: apt-get install faketime)");
        return;
    };
    for step in ["+3600", "-3600"] {
        let (_exchange, url) = exchange(&[]);
        let dir = scratch("clock").parent().unwrap().to_owned();
        let dir_text = dir.to_str().unwrap();
        let aggregator = start(&[
            "run",
            "--source",
            "embedded:BTCUSDT",
            "--endpoint",
            &url,
            "--samples",
            "6",
            "--interval",
            "400ms",
            "--remote",
            "1",
            "--enrolment-dir",
            dir_text,
            "--control-port",
            "0",
            "--data-port",
            "0",
            "--json",
        ]);
        let (control, data) = aggregator.channels();
        let enrolment = dir.join("slot-4.enrolment");
        eventually("the enrolment is written", || {
            (std::fs::metadata(&enrolment).ok()?.len() == 64).then_some(())
        });

        let clock = dir.join("clock");
        std::fs::write(&clock, "+0").unwrap();
        let mut collect = rsoracle();
        collect.args([
            "collect",
            "--slot",
            "4",
            "--source",
            "embedded:BTCUSDT",
            "--endpoint",
            &url,
        ]);
        collect.args([
            "--control",
            &control.to_string(),
            "--data",
            &data.to_string(),
        ]);
        collect.stdin(Stdio::from(std::fs::File::open(&enrolment).unwrap()));
        collect
            .env("LD_PRELOAD", &library)
            .env("FAKETIME_TIMESTAMP_FILE", &clock);
        collect
            .env("FAKETIME_NO_CACHE", "1")
            .env("DONT_FAKE_MONOTONIC", "1");
        let collector = start_command(collect);
        aggregator.stderr_line("sample 2 of 6");
        // In one rename, so that no read sees half of it.
        std::fs::write(dir.join("stepped"), step).unwrap();
        std::fs::rename(dir.join("stepped"), &clock).unwrap();

        let done = aggregator.finish();
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let report = Published::of(&done);
        let slot_4 = &report.collectors[4];
        let why = "the system clock was stepped within the round";
        assert_eq!(slot_4.standing, "abstained", "{step}");
        assert_eq!(slot_4.abstains.as_deref(), Some(why), "{step}");
        let valid = slot_4.valid().len();
        let stepped = Some("the system clock was stepped");
        let given_up = slot_4.samples.iter();
        let given_up = given_up
            .filter(|sample| sample.missing.as_deref() == stepped)
            .count();
        assert_eq!(
            valid + given_up,
            6,
            "{step}: no sample after the step, none lost: {:?}",
            slot_4.samples
        );
        assert!(valid >= 2 && given_up >= 1, "{step}: {:?}", slot_4.samples);
        let ended = collector.finish();
        assert!(
            ended
                .stderr
                .contains("collector 4: abstains: the system clock was stepped"),
            "{}",
            ended.stderr
        );
    }
}
