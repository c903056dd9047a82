//! Memory and CPU time of collectors and aggregator, with 5 to 1,000 collectors and the embedded exchange on this machine.
//!
//! Both are measured in the middle of a round. Memory is the process's proportional share (Pss). CPU time is the kernel's
//! count of nanoseconds on a core since the process started (/proc/PID/schedstat).

use crate::figures::{Table, digits, largest, median};
use crate::machine;
use crate::rounds::ReportView;
use crate::support::{Running, arguments, eventually, start};
use rsoracle::system::now::wall_us;
use std::time::{Duration, Instant};

/// The figures of one process in the middle of a round.
struct Look {
    pss_kib: f64,
    peak_kib: f64,
    cpu_ms: f64,
}

fn look(id: u32) -> Option<Look> {
    Some(Look {
        pss_kib: machine::pss_kib(id)?,
        peak_kib: machine::peak_kib(id)?,
        cpu_ms: machine::cpu_ms(id)?,
    })
}

/// Starts a round, and waits until its start is fixed.
fn begin(collectors: u32, samples: u32) -> (Running, Duration) {
    let began = Instant::now();
    let running = start(&[
        "run",
        "--collectors",
        &collectors.to_string(),
        "--samples",
        &samples.to_string(),
        "--source",
        "embedded:BTCUSDT",
        "--ready-timeout",
        "50s",
        "--control-port",
        "0",
        "--data-port",
        "0",
        "--json",
    ]);
    running.stderr_line(" collectors ready; ");
    (running, began.elapsed())
}

/// The process ids of a run's collectors.
pub fn collectors(running: &Running) -> Vec<u32> {
    let collects = |id: &u32| arguments(*id).iter().any(|word| word == "collect");
    running.children().into_iter().filter(collects).collect()
}

/// Prints the section.
pub fn show(table: &mut Table) {
    idle(table);
    let mut first_cost = None;
    for n in [5, 50, 200, 1_000] {
        let needed = 3 * u64::from(n) + 600;
        if machine::open_files_max() < needed {
            table.remark(&format!(
                "{n} collectors: not run, they need 'ulimit -n {needed}'"
            ));
            continue;
        }
        let cost = many(table, n);
        let first = *first_cost.get_or_insert(cost);
        if n == 1_000 {
            let growth = |a: f64, b: f64| digits(a / b);
            table.figure(
                "1,000 over 5: memory per collector, CPU per collector",
                &format!("{}, {}", growth(cost.0, first.0), growth(cost.1, first.1)),
            );
        }
    }
}

/// A default round: sizes of all processes, and the aggregator's CPU time while nothing happens.
fn idle(table: &mut Table) {
    let (running, _) = begin(5, 10);
    let cpu = || machine::cpu_ms(running.id()).unwrap_or(f64::NAN);
    std::thread::sleep(Duration::from_millis(300));
    let (from_ms, from) = (cpu(), Instant::now());
    std::thread::sleep(Duration::from_millis(4_000));
    let of_collectors: Vec<Look> = collectors(&running).into_iter().filter_map(look).collect();
    let of_aggregator = look(running.id()).expect("the aggregator runs");
    std::thread::sleep(Duration::from_millis(4_000));
    let busy = (cpu() - from_ms) / from.elapsed().as_secs_f64() / 10.0;
    let done = running.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let of = |part: fn(&Look) -> f64| of_collectors.iter().map(part).collect::<Vec<f64>>();
    table.figure(
        "one of five collectors: memory (Pss), peak resident",
        &format!(
            "{} KiB, {} KiB",
            digits(median(&of(|look| look.pss_kib))),
            digits(largest(&of(|look| look.peak_kib)))
        ),
    );
    table.figure(
        "aggregator with five collectors: memory (Pss), peak resident",
        &format!(
            "{} KiB, {} KiB",
            digits(of_aggregator.pss_kib),
            digits(of_aggregator.peak_kib)
        ),
    );
    table.at_most(
        "aggregator, five collectors, samples 1 s apart: CPU",
        busy,
        1.0,
        "%",
    );
}

/// A round with `n` collectors. Returns the average memory (KiB) and CPU time (ms) of a collector.
fn many(table: &mut Table, n: u32) -> (f64, f64) {
    let (running, ready) = begin(n, 5);
    let ready_us = wall_us();
    std::thread::sleep(Duration::from_millis(2_000));
    let aggregator = look(running.id());
    let ids = collectors(&running);
    // Reading a process's memory takes time, so only a few dozen collectors are looked at.
    let every = ids.len().div_ceil(50).max(1);
    let looks: Vec<Look> = ids
        .iter()
        .step_by(every)
        .filter_map(|id| look(*id))
        .collect();
    let looked_ms = wall_us().saturating_sub(ready_us) as f64 / 1e3;
    let mean =
        |part: fn(&Look) -> f64| looks.iter().map(part).sum::<f64>() / looks.len().max(1) as f64;
    let (pss_kib, cpu_ms) = (mean(|look| look.pss_kib), mean(|look| look.cpu_ms));
    let mut running = running;
    eventually("the round ends", || running.ended().then_some(()));
    let done = running.finish();
    let verified = match done.code {
        Some(0) => ReportView::read(&done.stdout).signatures_verified,
        _ => 0,
    };
    table.figure(
        &format!("{n} collectors: exit code, signatures, time to ready"),
        &format!(
            "{}, {verified} of {n}, {} s",
            done.code.map_or("none".into(), |code| code.to_string()),
            digits(ready.as_secs_f64())
        ),
    );
    table.remark(&format!(
        "per collector {} KiB (Pss), {} ms of CPU by {} s into the round; aggregator {} KiB, {} ms",
        digits(pss_kib),
        digits(cpu_ms),
        digits(looked_ms / 1e3),
        aggregator
            .as_ref()
            .map_or("?".into(), |look| digits(look.pss_kib)),
        aggregator
            .as_ref()
            .map_or("?".into(), |look| digits(look.cpu_ms))
    ));
    (pss_kib, cpu_ms)
}
