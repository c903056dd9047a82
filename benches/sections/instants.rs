//! Waiting only: how late `wait_until` returns, in one process, in one per core, and in five.
//!
//! A late wait has one of three causes: our own processes compete for a core, another program has the core, or the machine
//! does (an interrupt, the hypervisor). The kernel's run delay tells them apart: the time that a process was ready to run but
//! had no core (second number of /proc/self/schedstat). If a wait ends more than 20 µs late, and the run delay since its last
//! sleep began explains less than half of that, the machine had the core. If the run delay does explain it, but no other
//! process of ours was on that core at that instant, another program had it.

use crate::figures::{Table, digits, median, quantile, spreads};
use crate::machine::{self, Schedstat};
use crate::support::{Running, start_command};
use rsoracle::system::clock::{Anchor, Reading};
use rsoracle::system::now::{sharpen_sleeps, wall_us};
use rsoracle::system::wait::{Clock, SystemClock, wait_until};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const WAITS: u64 = 200;
const STEP_US: u64 = 20_000;
const LATE_US: f64 = 20.0;

/// One wait, as measured by its process.
struct Wait {
    late_us: f64,
    /// Run delay since the last sleep began.
    run_delay_us: f64,
    /// The core on which the wait ended.
    core: u32,
    /// Whether no other process of ours was on that core.
    alone: bool,
}

impl Wait {
    fn taken_by_machine(&self) -> bool {
        self.late_us > LATE_US && self.run_delay_us < self.late_us / 2.0
    }

    fn taken_by_others(&self) -> bool {
        self.late_us > LATE_US && self.alone && !self.taken_by_machine()
    }
}

/// The system's clocks, and the kernel's statistics about this process.
struct Watched {
    clock: SystemClock,
    schedstat: Option<File>,
    /// The statistics when the last sleep began.
    before: Schedstat,
}

impl Watched {
    fn schedstat(&self) -> Schedstat {
        let mut text = [0u8; 96];
        let count = self
            .schedstat
            .as_ref()
            .and_then(|file| file.read_at(&mut text, 0).ok());
        let text = std::str::from_utf8(&text[..count.unwrap_or(0)]).unwrap_or_default();
        Schedstat::read(text).unwrap_or_default()
    }
}

impl Clock for Watched {
    fn now(&mut self) -> Reading {
        self.clock.now()
    }

    fn sleep(&mut self, us: u64) {
        self.before = self.schedstat();
        self.clock.sleep(us);
    }

    fn give_way(&mut self) {
        self.clock.give_way();
    }

    fn spin(&mut self) {
        self.clock.spin();
    }
}

/// The role `wait`: waits for every instant of a list, and prints at the end how late each wait was.
pub fn role(words: &[String]) {
    let [how, first_us, step_us, count] = words else {
        panic!("role wait HOW FIRST STEP COUNT");
    };
    let number = |word: &String| word.parse::<u64>().expect("a number");
    let mut clock = Watched {
        clock: SystemClock::new(),
        schedstat: (how == "watched")
            .then(|| File::open("/proc/self/schedstat").ok())
            .flatten(),
        before: Schedstat::default(),
    };
    if how != "sleep" {
        sharpen_sleeps();
    }
    let mut waits = Vec::new();
    for index in 0..number(count) {
        let target_us = number(first_us) + index * number(step_us);
        if how != "sleep" {
            let anchor = Anchor(clock.clock.now());
            wait_until(&mut clock, &anchor, target_us).expect("nobody steps the clock");
        } else {
            clock.now();
            clock.sleep(target_us.saturating_sub(wall_us()));
            clock.now();
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let late_ns = since.expect("after 1970").as_nanos() as i128 - i128::from(target_us) * 1_000;
        // Like a collector that has sent its request: another process on this core may wait for the same instant.
        clock.give_way();
        let after = clock.schedstat();
        let run_delay_ns = after.ready_ns - clock.before.ready_ns;
        let core = if how == "watched" {
            machine::core_of_self()
        } else {
            0
        };
        waits.push((late_ns, run_delay_ns, core));
        // Sleep, like a collector that waits for its reply.
        std::thread::sleep(Duration::from_millis(2));
    }
    for (late_ns, run_delay_ns, core) in waits {
        println!("{late_ns} {run_delay_ns} {core}");
    }
}

/// Starts `processes` processes that wait for the same instants.
fn wait_together(how: &str, processes: usize) -> Vec<Vec<Wait>> {
    let first_us = wall_us() + 200_000;
    let numbers = [first_us, STEP_US, WAITS].map(|number| number.to_string());
    let start = |_| {
        let mut command = Command::new(std::env::current_exe().expect("this program has a file"));
        command.args(["role", "wait", how]).args(&numbers);
        start_command(command)
    };
    let running: Vec<Running> = (0..processes).map(start).collect();
    std::thread::sleep(Duration::from_micros(200_000 + WAITS * STEP_US));
    let read = |running: Running| running.finish().stdout.lines().map(read_wait).collect();
    let mut waits: Vec<Vec<Wait>> = running.into_iter().map(read).collect();
    for index in 0..WAITS as usize {
        let cores: Vec<u32> = waits.iter().map(|of_one| of_one[index].core).collect();
        for of_one in &mut waits {
            let core = of_one[index].core;
            of_one[index].alone = cores.iter().filter(|other| **other == core).count() == 1;
        }
    }
    waits
}

fn read_wait(line: &str) -> Wait {
    let numbers: Vec<f64> = line
        .split(' ')
        .map(|number| number.parse().expect("a number"))
        .collect();
    Wait {
        late_us: numbers[0] / 1e3,
        run_delay_us: numbers[1] / 1e3,
        core: numbers[2] as u32,
        alone: false,
    }
}

fn late(of_processes: &[Vec<Wait>]) -> Vec<Vec<f64>> {
    let times = |waits: &Vec<Wait>| waits.iter().map(|wait| wait.late_us).collect();
    of_processes.iter().map(times).collect()
}

/// Prints the section.
pub fn show(table: &mut Table) {
    let cores = machine::cores();
    let mut numbers = vec![1, cores, 5];
    numbers.dedup();
    for processes in numbers {
        // Reading /proc right after an instant delays processes on the same core, so do it only with one process per core.
        let ours = wait_together(
            if processes <= cores {
                "watched"
            } else {
                "ours"
            },
            processes,
        );
        let peer = wait_together("sleep", processes);
        let who = match processes {
            1 => "1 process".to_owned(),
            many => format!("{many} processes on {cores} cores"),
        };
        show_waits(table, &who, processes <= cores, &ours, &peer);
    }
    table.remark(&format!(
        "the machine: over {LATE_US} µs late, and the kernel's run delay (/proc/self/schedstat) explains less than half"
    ));
    table.remark(
        "other programs: the run delay explains it, and no process of ours was on that core",
    );
}

fn show_waits(
    table: &mut Table,
    who: &str,
    core_each: bool,
    ours: &[Vec<Wait>],
    peer: &[Vec<Wait>],
) {
    let late_us: Vec<f64> = late(ours).concat();
    if core_each {
        table.at_most(
            &format!("{who}: start error of wait_until, median"),
            median(&late_us),
            1.0,
            "µs",
        );
        show_taken(table, who, &late_us, ours);
    } else {
        let (middle, p99) = (median(&late_us), quantile(&late_us, 0.99));
        table.figure(
            &format!("{who}: start error, median / p99"),
            &format!("{} / {} µs", digits(middle), digits(p99)),
        );
    }
    let peer_late: Vec<f64> = late(peer).concat();
    table.figure(
        "  peer: thread::sleep until then, median / p99",
        &format!(
            "{} / {} µs",
            digits(median(&peer_late)),
            digits(quantile(&peer_late, 0.99))
        ),
    );
    if ours.len() > 1 {
        let spread = median(&spreads(&late(ours)));
        let what = format!("{who}: latest minus earliest, median");
        if core_each {
            table.figure(&what, &format!("{} µs", digits(spread)));
        } else {
            table.at_most(&what, spread, 30.0, "µs");
        }
        let peer_spread = median(&spreads(&late(peer)));
        table.figure(
            "  peer: the same",
            &format!(
                "{} µs, {} times ours",
                digits(peer_spread),
                digits(peer_spread / spread)
            ),
        );
    }
}

/// The 99th percentile, with and without the waits that the machine or other programs delayed.
fn show_taken(table: &mut Table, who: &str, late_us: &[f64], ours: &[Vec<Wait>]) {
    let all = || ours.iter().flatten();
    let taken = |wait: &&Wait| wait.taken_by_machine() || wait.taken_by_others();
    let own_us: Vec<f64> = all()
        .filter(|wait| !taken(wait))
        .map(|wait| wait.late_us)
        .collect();
    table.at_most(
        &format!("{who}: p99 without waits that others delayed"),
        quantile(&own_us, 0.99),
        20.0,
        "µs",
    );
    table.remark(&format!(
        "p99 with them {} µs; of {} waits, the machine delayed {}, other programs {}",
        digits(quantile(late_us, 0.99)),
        late_us.len(),
        all().filter(|wait| wait.taken_by_machine()).count(),
        all().filter(|wait| wait.taken_by_others()).count(),
    ));
}
