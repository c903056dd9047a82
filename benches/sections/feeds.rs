//! Many feeds: what 20 feeds over seven collectors cost beside one feed over the same seven, and how late each is.
//!
//! The two run at the same time, so that disturbances of the machine affect both alike, each with an embedded exchange of its
//! own, which plays every feed's market in another phase. CPU time is the kernel's count for three whole rounds of ten samples in
//! ten seconds. What signatures cost is measured here, by making and checking one, and taken off: nobody can price 20 feeds with
//! fewer. What is left is judged.

use crate::figures::{Table, digits, largest, median, quantile};
use crate::machine;
use crate::rounds::ReportView;
use crate::size::collectors;
use crate::support::{Running, eventually, start};
use rsoracle::keys::secret::SecretKey;
use rsoracle::source::recorded;
use std::time::Duration;

/// Seven exchanges with a stream each.
const SOURCES: &str = "embedded-coinbase,embedded-kraken,embedded-bitstamp,embedded-bitfinex,embedded-gemini,embedded-crypto.com,embedded-okx";
const COLLECTORS: usize = 7;
const FEEDS: usize = 20;
/// Rounds that are measured, after one that is not.
const ROUNDS: usize = 3;
/// Signatures that are made and checked to learn what one costs.
const SIGNATURES: u32 = 4_000;

const CPU_GOAL: f64 = 2.0;
const MEMORY_GOAL: f64 = 1.5;
/// Goal for the median lateness of 20 feeds over that of one: the same, within what a run differs from the next.
const LATENESS_GOAL: f64 = 1.25;

/// How often the runs are looked at. Reading their output takes time from them.
const LOOK: Duration = Duration::from_millis(50);

/// A run of some feeds.
struct Run {
    feeds: usize,
    running: Running,
    /// The processes: collectors, aggregator, exchange.
    processes: [Vec<u32>; 3],
    /// CPU times of these in milliseconds, after the first round and after the last.
    cpu_ms: Vec<[f64; 3]>,
    /// Resident memory and proportional share of these in KiB, in the end: the mean of each kind.
    memory_kib: [[f64; 2]; 3],
    /// How late each sample was taken, in microseconds.
    lateness_us: Vec<f64>,
}

impl Run {
    fn start(feeds: usize) -> Run {
        let names = names(feeds);
        let words = [
            "run", "--feed", &names, "--source", SOURCES, "--json", "--quiet",
        ];
        let rounds = ["--samples", "10", "--interval", "1s", "--every", "10s"];
        let ports = ["--control-port", "0", "--data-port", "0"];
        let accepted = ["--accept-quote", "USDT"];
        Run {
            feeds,
            running: start(&[&words[..], &rounds, &ports, &accepted].concat()),
            processes: Default::default(),
            cpu_ms: Vec::new(),
            memory_kib: Default::default(),
            lateness_us: Vec::new(),
        }
    }

    /// Takes the figures that are due. Returns whether these are all.
    fn look(&mut self) -> bool {
        let text = self.running.stdout();
        let rounds = [1, 1 + ROUNDS][self.cpu_ms.len().min(1)];
        if self.cpu_ms.len() < 2 && text.lines().count() >= rounds * self.feeds {
            if self.cpu_ms.is_empty() {
                let of_collectors = collectors(&self.running);
                assert_eq!(of_collectors.len(), COLLECTORS);
                let mut others = self.running.children();
                others.retain(|id| !of_collectors.contains(id));
                self.processes = [of_collectors, vec![self.running.id()], others];
            }
            let sum = |ids: &Vec<u32>, of: fn(u32) -> Option<f64>| -> f64 {
                ids.iter().map(|id| of(*id).expect("it runs")).sum()
            };
            let all = &self.processes;
            self.cpu_ms
                .push(std::array::from_fn(|at| sum(&all[at], machine::cpu_ms)));
            self.memory_kib = std::array::from_fn(|at| {
                [machine::rss_kib, machine::pss_kib]
                    .map(|of| sum(&all[at], of) / all[at].len() as f64)
            });
            let reports = text.lines().skip(self.feeds).map(ReportView::read);
            let late = reports.flat_map(|report| report.lateness_us().concat());
            self.lateness_us = late.filter(|us| us.is_finite()).collect();
        }
        self.cpu_ms.len() == 2
    }

    /// CPU time per round in milliseconds of the processes of a kind: the mean of them.
    fn per_round_ms(&self, kind: usize) -> f64 {
        let all = self.cpu_ms[1][kind] - self.cpu_ms[0][kind];
        all / (ROUNDS * self.processes[kind].len()) as f64
    }
}

/// Microseconds of CPU time to make a signature and to check one.
fn signatures_us() -> [f64; 2] {
    let key = SecretKey::from_seed(&mut [7; 32]);
    let bytes = [7; 122];
    let signature = key.sign(&bytes);
    let public = key.public();
    let cpu_ms = || machine::cpu_ms(std::process::id()).expect("this process runs");
    let timed = |act: &dyn Fn()| {
        let before_ms = cpu_ms();
        (0..SIGNATURES).for_each(|_| act());
        (cpu_ms() - before_ms) * 1e3 / f64::from(SIGNATURES)
    };
    [
        timed(&|| assert_eq!(key.sign(&bytes), signature)),
        timed(&|| assert!(public.signed(&bytes, &signature))),
    ]
}

/// The names of the first `count` feeds.
fn names(count: usize) -> String {
    // Where they are written without a mark, the symbols of these two end in TUSD, which is a currency of its own.
    let clear = recorded::bases().filter(|base| !["DOT", "APT"].contains(base));
    let names: Vec<String> = clear
        .take(count)
        .map(|base| format!("{base}/USD"))
        .collect();
    assert_eq!(names.len(), count);
    names.join(",")
}

/// Prints the section.
pub fn show(table: &mut Table) {
    let [sign_us, check_us] = signatures_us();
    let mut runs = [1, FEEDS].map(Run::start);
    eventually("the rounds of both runs", || {
        std::thread::sleep(LOOK);
        let done = runs.each_mut().map(Run::look);
        (done == [true, true]).then_some(())
    });
    let [one, many] = &runs;
    table.figure(
        "a signature: to make it, to check it",
        &format!("{} µs, {} µs", digits(sign_us), digits(check_us)),
    );
    // A collector makes one; the aggregator checks one of each collector, and makes its own.
    let made_ms = sign_us / 1e3;
    let checked_ms = COLLECTORS as f64 * check_us / 1e3 + made_ms;
    for (kind, who, signed_ms) in [
        (0, "a collector", made_ms),
        (1, "the aggregator", checked_ms),
    ] {
        cpu(
            table,
            who,
            [one.per_round_ms(kind), many.per_round_ms(kind)],
            signed_ms,
        );
        memory(table, who, one.memory_kib[kind], many.memory_kib[kind]);
    }
    table.figure(
        "the embedded exchange: CPU per round, one feed, 20 feeds",
        &format!(
            "{} ms, {} ms",
            digits(one.per_round_ms(2)),
            digits(many.per_round_ms(2))
        ),
    );
    lateness(table, &one.lateness_us, &many.lateness_us);
}

/// Prints how late the samples of one and of 20 feeds were.
fn lateness(table: &mut Table, one: &[f64], many: &[f64]) {
    table.at_most(
        "lateness, median: 20 feeds over one",
        median(many) / median(one),
        LATENESS_GOAL,
        "",
    );
    for (words, late) in [("one feed", one), ("20 feeds", many)] {
        table.remark(&format!(
            "{words}: median {} µs, 90 % {} µs, 99 % {} µs, worst {} µs of {} samples",
            digits(median(late)),
            digits(quantile(late, 0.9)),
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
