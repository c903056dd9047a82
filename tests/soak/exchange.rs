//! The exchange of the soak test. It alternates between lying in two of nine dialects and telling the truth, and drops
//! connections all the time. Every change starts a new process at the same address.

use crate::Chance;
use crate::support::*;
use rsoracle::flags::values::DIVERSE;
use rsoracle::system::now::wall_us;
use std::fmt;
use std::time::{Duration, Instant};

/// How long it lies, and how long it then tells the truth: longer than any source accepts an old price.
const LYING: Duration = Duration::from_secs(30);
const HONEST: Duration = Duration::from_secs(30);
/// A round may be affected by a lie if it starts up to this many microseconds after the lie ended, or before it began.
const AFTER_US: u64 = 25_000_000;
const BEFORE_US: u64 = 3_000_000;

const LIES: [&str; 17] = [
    "scale:1.5",
    "scale:0.5",
    "scale:1.0005",
    "scale:0.9995",
    "scale:1e9",
    "price:NaN",
    "price:0",
    "price:-1",
    "wrong-symbol",
    "garbage",
    "stale:1h",
    "mute",
    "ETH/mute",
    "ETH/refuse",
    "ETH/halt",
    "ETH/scale:2",
    "DOGE/price:NaN",
];
const DROPS: [&str; 6] = [
    "drop@40",
    "hang@60",
    "large@30",
    "reconnect@50",
    "maintenance@80",
    "slow:300ms@20",
];

/// When the exchange lied, and to which slots.
struct Lie {
    from_us: u64,
    to_us: u64,
    slots: [usize; 2],
}

pub struct Exchange {
    running: Option<Running>,
    url: String,
    until: Instant,
    lying: bool,
    lies: Vec<Lie>,
    starts: u32,
}

impl Exchange {
    pub fn open(chance: &mut Chance) -> Exchange {
        let (running, url) = crate::support::exchange(&[]);
        let mut new = Exchange {
            running: Some(running),
            url,
            until: Instant::now() + HONEST,
            lying: false,
            lies: Vec::new(),
            starts: 1,
        };
        new.restart(&drops(chance));
        new
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn turn(&mut self, chance: &mut Chance) {
        if Instant::now() < self.until {
            return;
        }
        let mut faults = drops(chance);
        if self.lying {
            self.lies.last_mut().expect("it lied").to_us = wall_us();
            self.until = Instant::now() + HONEST;
        } else {
            let count = DIVERSE.len();
            let first = chance.below(count);
            let slots = [first, (first + 1 + chance.below(count - 1)) % count];
            for slot in slots {
                let lie = LIES[chance.below(LIES.len())];
                faults.push(format!("{}/{lie}", DIVERSE[slot]));
            }
            let (from_us, to_us) = (wall_us(), u64::MAX);
            self.lies.push(Lie {
                from_us,
                to_us,
                slots,
            });
            self.until = Instant::now() + LYING;
        }
        self.lying = !self.lying;
        self.restart(&faults);
    }

    fn restart(&mut self, faults: &[String]) {
        self.running = None;
        let address = self.url.trim_start_matches("ws://").split('/').next();
        let mut args = vec!["exchange", "--listen", address.expect("an address")];
        for fault in faults {
            args.extend(["--fault", fault]);
        }
        let running = start(&args);
        eventually(
            &format!("the exchange listens again; it says {}", running.stderr()),
            || running.stdout().contains("listening on ").then_some(()),
        );
        self.running = Some(running);
        self.starts += 1;
    }

    /// The slots whose sources may have lied in the round that started at `start_us`, if any.
    pub fn suspects(&self, start_us: u64) -> Option<[usize; 2]> {
        let near = |lie: &&Lie| {
            lie.from_us.saturating_sub(BEFORE_US) <= start_us
                && start_us <= lie.to_us.saturating_add(AFTER_US)
        };
        let mut found = self.lies.iter().rev().filter(near);
        let lie = found.next();
        assert!(found.next().is_none(), "lies are far apart");
        lie.map(|lie| lie.slots)
    }
}

/// Faults that end connections of two dialects.
fn drops(chance: &mut Chance) -> Vec<String> {
    let one = |_| {
        format!(
            "{}/{}",
            DIVERSE[chance.below(DIVERSE.len())],
            DROPS[chance.below(DROPS.len())]
        )
    };
    (0..2).map(one).collect()
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "exchange started {} times, lied {}",
            self.starts,
            self.lies.len()
        )
    }
}
