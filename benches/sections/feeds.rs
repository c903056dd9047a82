//! Many feeds: what 20 feeds over seven collectors cost beside one feed over the same seven, and how late each is.
//!
//! The two run one after the other, each with an embedded exchange of its own, which plays every feed's market in another
//! phase. CPU time is the kernel's count for three whole rounds of ten samples in ten seconds. What signatures cost is measured here, by
//! making and checking one, and taken off: nobody can price 20 feeds with fewer. What is left is judged.

use crate::figures::{Table, digits, largest, median, quantile};
use crate::machine;
use crate::rounds::ReportView;
use crate::size::collectors;
use crate::support::{Running, eventually, start};
use rsoracle::keys::secret::SecretKey;
use rsoracle::source::recorded;
use std::time::Instant;

/// Seven exchanges with a stream each.
const SOURCES: &str = "embedded-coinbase,embedded-kraken,embedded-bitstamp,embedded-bitfinex,embedded-gemini,embedded-crypto.com,embedded-okx";
const COLLECTORS: usize = 7;
const FEEDS: usize = 20;
/// Rounds that are measured, after one that is not.
const ROUNDS: usize = 3;
/// Signatures per measurement.
const BLOCK: u32 = 200;

const CPU_GOAL: f64 = 2.0;
const MEMORY_GOAL: f64 = 1.5;
/// Goal for the median lateness of 20 feeds over that of one: the same, within what a run differs from the next.
const LATENESS_GOAL: f64 = 1.25;

/// The cost of one run.
struct Cost {
    /// CPU time per round in milliseconds: a collector's (mean of all), the aggregator's, the exchange's.
    collector_ms: f64,
    aggregator_ms: f64,
    exchange_ms: f64,
    /// Resident memory and proportional share in KiB: a collector's (mean of all), the aggregator's.
    collector_kib: [f64; 2],
    aggregator_kib: [f64; 2],
    /// How late each sample was taken, in microseconds.
    lateness_us: Vec<f64>,
}

/// Microseconds to make a signature and to check one.
fn signatures_us() -> [f64; 2] {
    let key = SecretKey::from_seed(&mut [7; 32]);
    let bytes = [7; 122];
    let signature = key.sign(&bytes);
    let public = key.public();
    let timed = |act: &dyn Fn()| {
        let block = |_| {
            let began = Instant::now();
            (0..BLOCK).for_each(|_| act());
            began.elapsed().as_secs_f64() * 1e6 / f64::from(BLOCK)
        };
        median(&(0..9).map(block).collect::<Vec<f64>>())
    };
    [
        timed(&|| assert_eq!(key.sign(&bytes), signature)),
        timed(&|| assert!(public.signed(&bytes, &signature))),
    ]
}

/// The names of the first `count` feeds.
fn feeds(count: usize) -> String {
    // The symbols of these two end in TUSD where they are written without a mark, which is a currency of its own.
    let clear = recorded::bases().filter(|base| !["DOT", "APT"].contains(base));
    let names: Vec<String> = clear
        .take(count)
        .map(|base| format!("{base}/USD"))
        .collect();
    assert_eq!(names.len(), count);
    names.join(",")
}

/// Waits until `count` reports were printed.
fn reported(running: &Running, count: usize) -> String {
    eventually("reports", || {
        let text = running.stdout();
        (text.lines().count() >= count && text.ends_with('\n')).then_some(text)
    })
}

/// Prices `count` feeds.
fn cost(count: usize) -> Cost {
    let running = start(&[
        "run",
        "--feed",
        &feeds(count),
        "--source",
        SOURCES,
        "--accept-quote",
        "USDT",
        "--samples",
        "10",
        "--interval",
        "1s",
        "--every",
        "10s",
        "--json",
        "--quiet",
        "--control-port",
        "0",
        "--data-port",
        "0",
    ]);
    reported(&running, count);
    let of_collectors = collectors(&running);
    assert_eq!(of_collectors.len(), COLLECTORS);
    let others = running
        .children()
        .into_iter()
        .filter(|id| !of_collectors.contains(id));
    let exchanges: Vec<u32> = others.collect();
    let cpu = |ids: &[u32]| {
        let of_each = ids.iter().map(|id| machine::cpu_ms(*id).expect("it runs"));
        of_each.sum::<f64>()
    };
    let all = || [cpu(&of_collectors), cpu(&[running.id()]), cpu(&exchanges)];
    let before = all();
    let text = reported(&running, count * (1 + ROUNDS));
    let after = all();
    let per_round = |at: usize| (after[at] - before[at]) / ROUNDS as f64;
    let memory = |ids: &[u32]| {
        let mean = |of: fn(u32) -> Option<f64>| {
            let sum: f64 = ids.iter().map(|id| of(*id).expect("it runs")).sum();
            sum / ids.len() as f64
        };
        [mean(machine::rss_kib), mean(machine::pss_kib)]
    };
    let reports = text.lines().skip(count).map(ReportView::read);
    let late = reports.flat_map(|report| report.lateness_us().concat());
    Cost {
        collector_ms: per_round(0) / COLLECTORS as f64,
        aggregator_ms: per_round(1),
        exchange_ms: per_round(2),
        collector_kib: memory(&of_collectors),
        aggregator_kib: memory(&[running.id()]),
        lateness_us: late.filter(|us| us.is_finite()).collect(),
    }
}

/// Prints the section.
pub fn show(table: &mut Table) {
    let [sign_us, check_us] = signatures_us();
    let (one, many) = (cost(1), cost(FEEDS));
    table.figure(
        "a signature: to make it, to check it",
        &format!("{} µs, {} µs", digits(sign_us), digits(check_us)),
    );
    let signed_ms = sign_us / 1e3;
    // The aggregator checks one of each collector, and signs the report.
    let checked_ms = (COLLECTORS as f64 * check_us + sign_us) / 1e3;
    cpu(
        table,
        "a collector",
        [one.collector_ms, many.collector_ms],
        signed_ms,
    );
    cpu(
        table,
        "the aggregator",
        [one.aggregator_ms, many.aggregator_ms],
        checked_ms,
    );
    table.figure(
        "the embedded exchange: CPU per round, one feed, 20 feeds",
        &format!(
            "{} ms, {} ms",
            digits(one.exchange_ms),
            digits(many.exchange_ms)
        ),
    );
    memory(table, "a collector", one.collector_kib, many.collector_kib);
    memory(
        table,
        "the aggregator",
        one.aggregator_kib,
        many.aggregator_kib,
    );
    let [first, all] = [&one.lateness_us, &many.lateness_us];
    table.at_most(
        "lateness, median: 20 feeds over one",
        median(all) / median(first),
        LATENESS_GOAL,
        "",
    );
    for (words, late) in [("one feed", first), ("20 feeds", all)] {
        table.remark(&format!(
            "{words}: median {} µs, 99 % {} µs, worst {} µs of {} samples",
            digits(median(late)),
            digits(quantile(late, 0.99)),
            digits(largest(late)),
            late.len()
        ));
    }
}

/// Prints CPU times per round of one and of 20 feeds, of which signatures cost `signed_ms` for each feed.
fn cpu(table: &mut Table, who: &str, [one, many]: [f64; 2], signed_ms: f64) {
    let (beyond_one, beyond_many) = (one - signed_ms, many - FEEDS as f64 * signed_ms);
    table.at_most(
        &format!("{who}: CPU beyond signatures, 20 feeds over one"),
        beyond_many / beyond_one,
        CPU_GOAL,
        "",
    );
    table.remark(&format!(
        "per round: {} ms − {} ms of signatures = {} ms; one feed: {} ms − {} ms = {} ms; with signatures {} times",
        digits(many),
        digits(FEEDS as f64 * signed_ms),
        digits(beyond_many),
        digits(one),
        digits(signed_ms),
        digits(beyond_one),
        digits(many / one)
    ));
}

/// Prints the memory of one and of 20 feeds.
fn memory(table: &mut Table, who: &str, one: [f64; 2], many: [f64; 2]) {
    table.at_most(
        &format!("{who}: resident memory, 20 feeds over one"),
        many[0] / one[0],
        MEMORY_GOAL,
        "",
    );
    table.remark(&format!(
        "{} KiB over {} KiB; proportional share (Pss) {} KiB over {} KiB",
        digits(many[0]),
        digits(one[0]),
        digits(many[1]),
        digits(one[1])
    ));
}
