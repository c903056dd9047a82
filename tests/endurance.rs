//! After hundreds of rounds, memory, open files and threads of aggregator and collectors have not grown.
//!
//! RSORACLE_ROUNDS sets the number of rounds: 2000 take four minutes.

mod chronicle;
mod support;
mod witness;

use chronicle::*;
use std::time::Duration;
use support::*;
use witness::*;

const EVERY_US: u64 = 100_000;
/// Rounds until every buffer has reached its largest size.
const SETTLED: usize = 50;
/// How much memory may grow, in kB: the allocator keeps freed memory for later.
const SLACK_KB: u64 = 512;

/// A process's memory in kB, and its numbers of open files and threads.
#[derive(Clone, Copy, Debug)]
struct Belongings {
    resident_kb: u64,
    files: usize,
    threads: u64,
}

impl Belongings {
    fn of(id: u32) -> Belongings {
        let files = std::fs::read_dir(format!("/proc/{id}/fd")).expect("it runs");
        Belongings {
            resident_kb: status_number(id, "VmRSS").expect("it runs"),
            files: files.count(),
            threads: status_number(id, "Threads").expect("it runs"),
        }
    }

    /// The least of several samples: a file that is being replaced is open for a moment.
    fn settled(id: u32) -> Belongings {
        let looks = (0..20).map(|_| {
            std::thread::sleep(Duration::from_millis(3));
            Belongings::of(id)
        });
        looks.min_by_key(|look| look.files).expect("twenty looks")
    }
}

#[test]
fn memory_files_and_threads_stay_as_they_are_round_after_round() {
    let rounds = std::env::var("RSORACLE_ROUNDS").map_or(200, |count| {
        count.parse().expect("RSORACLE_ROUNDS is a number")
    });
    let chronicle = Chronicle::new();
    let latest = chronicle.beside("latest.json");
    let running = chronicle.start(&[
        "--every",
        "100ms",
        "--samples",
        "3",
        "--interval",
        "20ms",
        "--latest",
        &latest,
        "--json",
    ]);
    chronicle.until_lines(SETTLED);
    // On a busy machine, some collectors may join later: only now are all connections open.
    eventually("a round in which all five count", || {
        let newest = std::fs::read_to_string(&latest).ok()?;
        (Kept::of(newest.trim_end()).prices == 5).then_some(())
    });
    let ids: Vec<u32> = [running.id()]
        .into_iter()
        .chain(running.children())
        .collect();
    assert_eq!(ids.len(), 7, "aggregator, exchange, five collectors");
    let before: Vec<Belongings> = ids.iter().map(|id| Belongings::settled(*id)).collect();
    let limit = LONG + Duration::from_millis(200 * rounds as u64);
    // Counting the lines of a long file takes longer than a round, so take the number in the newest report.
    within(limit, &format!("{rounds} rounds"), || {
        std::thread::sleep(Duration::from_millis(100));
        let newest = std::fs::read_to_string(&latest).ok()?;
        (Kept::of(newest.trim_end()).number >= rounds as u64).then_some(())
    });
    for (id, before) in ids.iter().zip(&before) {
        let after = Belongings::settled(*id);
        let what = format!("{:?}: {before:?}, then {after:?}", &arguments(*id)[1..4]);
        println!("{what}");
        assert!(after.resident_kb <= before.resident_kb + SLACK_KB, "{what}");
        assert!(after.files <= before.files, "{what}");
        assert_eq!((before.threads, after.threads), (1, 1), "{what}");
    }
    assert_eq!(running.children(), ids[1..], "no process was restarted");
    drop(running);
    let reports = chronicle.reports();
    let starts = reports.last().unwrap().round_start_us - reports[0].round_start_us;
    let published = reports.iter().filter(|kept| kept.decision == "published");
    let prices: usize = reports.iter().map(|kept| kept.prices).sum();
    println!(
        "{} reports, {} published, {prices} of {} prices, {} starts skipped",
        reports.len(),
        published.count(),
        5 * reports.len(),
        starts / EVERY_US + 1 - reports.len() as u64,
    );
}
