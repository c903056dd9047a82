//! The soak test: an hour of everything at once. A roster of nine with three feeds, whose exchange drops connections and lies, strangers on
//! both ports, collectors that are killed and stopped, and a disk that fills up; beside them, a collector by hand whose clock is
//! stepped. In the end, memory, open files and processes must be as they were, the journals must be complete, and every published
//! price must lie within what honest sources said.
//!
//! `make soak MINUTES=60` runs it, and prints figures every minute. `cargo test` does not run it.

#[path = "../chronicle/mod.rs"]
mod chronicle;
mod exchange;
mod figures;
mod nuisance;
mod strangers;
#[path = "../support/mod.rs"]
mod support;
#[path = "../witness/mod.rs"]
mod witness;

use crate::exchange::Exchange;
use chronicle::*;
use figures::Figures;
use nuisance::{Clock, Disk, Killer};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use strangers::Strangers;
use support::*;
use witness::*;

const THIS: &str = "an_hour_of_everything_at_once_leaves_all_as_it_was_and_no_wrong_price";
const DISK: &str = "RSORACLE_TEST_SOAK_DISK";
/// The feeds that are priced.
const FEEDS: [&str; 3] = ["BTC/USD", "ETH/USD", "DOGE/USD"];
/// How long the nuisances pause before figures are taken.
const REST: Duration = Duration::from_secs(4);

/// Pseudorandom numbers (xorshift) that are the same in every run.
pub struct Chance(u64);

impl Chance {
    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

#[test]
#[ignore = "it takes an hour; 'make soak' runs it"]
fn an_hour_of_everything_at_once_leaves_all_as_it_was_and_no_wrong_price() {
    match std::env::var_os(DISK) {
        Some(disk) => soak(&PathBuf::from(disk)),
        None => on_a_disk_of_its_own(),
    }
}

/// Runs this test again, with its own disk that can be filled.
fn on_a_disk_of_its_own() {
    let folder = scratch("disk");
    std::fs::create_dir(&folder).unwrap();
    let command = this_program(THIS, DISK, &folder);
    let script = format!("mount -t tmpfs -o size=512m none \"${DISK}\"");
    let status = with_mounts(&script, &command).status();
    assert!(status.unwrap().success());
}

fn soak(disk: &Path) {
    let minutes = std::env::var("MINUTES").map_or(60, |text| text.parse().expect("MINUTES"));
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let mut exchange = Exchange::open(&mut chance);
    let chronicle = Chronicle {
        path: disk.join("journal.jsonl"),
    };
    let (running, mark) = start_rounds(&chronicle, exchange.url());
    let (control, data) = running.channels();
    let mut clock = Clock::start(&chronicle, exchange.url());
    let mut disk = Disk::new(disk.join("filler"));
    let mut strangers = Strangers::new(control, data);
    let mut killer = Killer::default();
    let mut figures = Figures::new(&chronicle, &running);
    let began = Instant::now();
    for minute in 1..=minutes {
        let end = began + Duration::from_secs(60 * minute);
        while Instant::now() < end - REST {
            exchange.turn(&mut chance);
            strangers.turn(&mut chance);
            killer.turn(&running, &mut chance);
            clock.turn(&mut chance);
            disk.turn();
            figures.read(&exchange);
            std::thread::sleep(Duration::from_millis(20));
        }
        strangers.leave();
        killer.rest();
        while Instant::now() < end {
            figures.read(&exchange);
            std::thread::sleep(Duration::from_millis(20));
        }
        figures.take(minute, &running, &mark);
        println!("  so far {strangers}; {killer}; {clock}; {exchange}; {disk}");
    }
    disk.empty();
    let kept = chronicle.lines().len();
    chronicle.until_lines(kept + 2 * FEEDS.len());
    figures.read(&exchange);
    let printed = whole(&running.stdout());
    let lost = running.stderr().matches("could not be written").count();
    clock.finish();
    drop(running);
    until_nobody_is_left(&mark);
    figures.assert_flat();
    let roster = chronicle.beside("roster.toml");
    let done = run(&["verify", chronicle.name(), "--roster", &roster]);
    println!("{}{}", done.stdout, done.stderr);
    assert_eq!(
        done.code,
        Some(0),
        "the journal is complete and matches its roster"
    );
    chronicle.assert_holds(&printed);
    let reports = chronicle.lines().len();
    println!(
        "{reports} reports in the journal, {} printed; {lost} rounds lost to a full disk",
        printed.len()
    );
    assert!(lost > 0, "the full disk must cost rounds");
}

/// Starts rounds without end with nine collectors.
fn start_rounds(chronicle: &Chronicle, url: &str) -> (Running, String) {
    let keys = chronicle.beside("keys");
    std::fs::create_dir(&keys).unwrap();
    let roster = chronicle.beside("roster.toml");
    let (command, mark) = marked_run(&[
        "--feed",
        &FEEDS.join(","),
        "--sources",
        "embedded-diverse",
        "--endpoint",
        url,
        "--every",
        "1s",
        "--samples",
        "5",
        "--interval",
        "150ms",
        "--journal",
        chronicle.name(),
        "--collector-keys",
        &keys,
        "--write-roster",
        &roster,
        "--json",
    ]);
    (start_command(command), mark)
}
