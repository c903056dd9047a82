//! The figures of the soak test: what the journal says about each round, and what resources the processes use.

use super::exchange::Exchange;
use crate::chronicle::*;
use crate::support::*;
use crate::witness::*;
use rsoracle::source::recorded;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// How much memory may grow in an hour, in kB: the allocator keeps freed memory for later.
const SLACK_KB: u64 = 1024;
/// Minutes until every buffer has reached its largest size.
const SETTLED: usize = 2;

/// A process's memory in kB, and its number of open files.
#[derive(Clone, Copy, Debug)]
struct Belongings {
    resident_kb: u64,
    files: usize,
}

impl Belongings {
    /// The least of several samples; `None` if the process has ended.
    fn of(id: u32) -> Option<Belongings> {
        let look = || {
            std::thread::sleep(std::time::Duration::from_millis(3));
            let files = std::fs::read_dir(format!("/proc/{id}/fd")).ok()?.count();
            let resident_kb = status_number(id, "VmRSS")?;
            Some(Belongings { resident_kb, files })
        };
        let looks: Vec<Belongings> = (0..20).map_while(|_| look()).collect();
        looks.into_iter().min_by_key(|look| look.files)
    }
}

/// The figures at the end of one minute.
#[derive(Debug)]
struct Minute {
    aggregator: Belongings,
    /// The collector of slot 0, which is never killed or stopped.
    untouched: Belongings,
    /// The largest figures of the other collectors.
    others: Belongings,
    processes: usize,
}

/// What a recorded price was multiplied by to get one of this feed.
fn factor(feed: &str) -> f64 {
    let base = feed.split('/').next().expect("a base");
    let scaled = recorded::SCALED.iter().find(|(own, _)| *own == base);
    scaled.map_or(1.0, |(_, millionths)| *millionths as f64 / 1e6)
}

pub struct Figures {
    journal: PathBuf,
    offset: u64,
    begun: Vec<u8>,
    tape: RangeInclusive<f64>,
    decisions: BTreeMap<String, u32>,
    wrong: Vec<String>,
    checked: u32,
    under_lies: u32,
    untouched: u32,
    minutes: Vec<Minute>,
}

impl Figures {
    pub fn new(chronicle: &Chronicle, running: &Running) -> Figures {
        let tape = include_str!("../../src/embedded/tape.csv");
        let prices = tape
            .lines()
            .filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
        let prices: Vec<f64> = prices
            .map(|line| line.split(',').nth(1).unwrap().parse().unwrap())
            .collect();
        let (low, high) = prices
            .iter()
            .fold((f64::MAX, f64::MIN), |(low, high), price| {
                (low.min(*price), high.max(*price))
            });
        Figures {
            journal: chronicle.path.clone(),
            offset: 0,
            begun: Vec::new(),
            tape: low - 0.02..=high + 0.02,
            decisions: BTreeMap::new(),
            wrong: Vec::new(),
            checked: 0,
            under_lies: 0,
            untouched: running.collector(0),
            minutes: Vec::new(),
        }
    }

    /// Reads what was appended to the journal since the last call.
    pub fn read(&mut self, exchange: &Exchange) {
        let Ok(mut file) = File::open(&self.journal) else {
            return;
        };
        file.seek(SeekFrom::Start(self.offset)).unwrap();
        let mut bytes = Vec::new();
        self.offset += file.read_to_end(&mut bytes).unwrap() as u64;
        self.begun.extend(bytes);
        while let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.begun.drain(..=end).collect();
            self.report(std::str::from_utf8(&line[..end]).expect("UTF-8"), exchange);
        }
    }

    fn report(&mut self, line: &str, exchange: &Exchange) {
        let kept = Kept::of(line);
        *self.decisions.entry(kept.decision.clone()).or_default() += 1;
        let suspects = exchange.suspects(kept.round_start_us);
        let is_suspect = |slot: usize| suspects.is_some_and(|slots| slots.contains(&slot));
        let honest = kept
            .collectors
            .iter()
            .enumerate()
            .filter(|(slot, _)| !is_suspect(*slot));
        let honest: Vec<f64> = honest.filter_map(|(_, part)| part.price).collect();
        let Some(price) = kept.price else {
            return;
        };
        self.checked += 1;
        self.under_lies += u32::from(suspects.is_some());
        let low = honest.iter().copied().fold(f64::MAX, f64::min);
        let high = honest.iter().copied().fold(f64::MIN, f64::max);
        let factor = factor(&kept.feed);
        let on_tape = |price: &f64| self.tape.contains(&(price / factor));
        let honest_on_tape = honest.iter().all(on_tape);
        if !(low..=high).contains(&price) || !honest_on_tape {
            println!("WRONG: {price} with {honest:?} but {suspects:?}: {line}");
            self.wrong.push(line.to_owned());
        }
    }

    /// Takes and prints the figures of all processes.
    pub fn take(&mut self, minute: u64, running: &Running, mark: &str) {
        let aggregator = Belongings::of(running.id()).expect("the aggregator runs");
        let untouched = Belongings::of(self.untouched).expect("nobody touches slot 0");
        let others = collectors(running)
            .into_iter()
            .filter(|id| *id != self.untouched);
        let others: Vec<Belongings> = others.filter_map(Belongings::of).collect();
        let most = Belongings {
            resident_kb: others
                .iter()
                .map(|other| other.resident_kb)
                .max()
                .unwrap_or(0),
            files: others.iter().map(|other| other.files).max().unwrap_or(0),
        };
        let processes = bearers(mark).len();
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        println!(
            "minute {minute}: {:?}, {} prices checked, {} of them beside liars, {} wrong; aggregator {} kB, {} files; collector 0 {} kB, {} files; {} others at most {} kB, {} files; {processes} processes; load {}",
            self.decisions,
            self.checked,
            self.under_lies,
            self.wrong.len(),
            aggregator.resident_kb,
            aggregator.files,
            untouched.resident_kb,
            untouched.files,
            others.len(),
            most.resident_kb,
            most.files,
            load.split(' ').next().unwrap_or_default(),
        );
        self.minutes.push(Minute {
            aggregator,
            untouched,
            others: most,
            processes,
        });
    }

    /// Asserts that nothing has grown after [`SETTLED`] minutes, and that no price was wrong.
    pub fn assert_flat(&self) {
        assert_eq!(self.wrong, [""; 0], "a wrong price");
        let rounds: u32 = self.decisions.values().sum();
        assert!(
            self.checked * 3 > rounds,
            "few prices: {:?}",
            self.decisions
        );
        let (settled, later) = self.minutes.split_at(self.minutes.len().min(SETTLED));
        let most =
            |of: fn(&Minute) -> u64| settled.iter().map(of).max().expect("a minute at least");
        for minute in later {
            let kb: [fn(&Minute) -> u64; 3] = [
                |m| m.aggregator.resident_kb,
                |m| m.untouched.resident_kb,
                |m| m.others.resident_kb,
            ];
            for of in kb {
                assert!(
                    of(minute) <= most(of) + SLACK_KB,
                    "memory: {minute:?} after {settled:?}"
                );
            }
            let counts: [fn(&Minute) -> u64; 3] = [
                |m| m.aggregator.files as u64,
                |m| m.untouched.files as u64,
                |m| m.others.files as u64,
            ];
            for of in counts {
                assert!(
                    of(minute) <= most(of) + 1,
                    "files: {minute:?} after {settled:?}"
                );
            }
            // The aggregator and its nine collectors.
            assert!(minute.processes <= 10, "processes: {minute:?}");
        }
    }
}
