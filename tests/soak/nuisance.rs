//! The nuisances of the soak test: collectors are killed and stopped, the clock of another one is stepped, the disk fills up.

use crate::Chance;
use crate::chronicle::Chronicle;
use crate::support::peer::{SOURCE, roster};
use crate::support::*;
use crate::witness::*;
use rsoracle::keys::create;
use rsoracle_proof::seal::hex;
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Kills and stops the collectors of slots 1 to 5. Slot 0 is left alone, to see what an hour does to it.
pub struct Killer {
    next: Instant,
    stopped: Option<(u32, Instant)>,
    kills: u32,
    stops: u32,
}

impl Default for Killer {
    fn default() -> Killer {
        let next = Instant::now() + Duration::from_secs(10);
        Killer {
            next,
            stopped: None,
            kills: 0,
            stops: 0,
        }
    }
}

impl Killer {
    pub fn turn(&mut self, running: &Running, chance: &mut Chance) {
        let now = Instant::now();
        if self.stopped.is_some_and(|(_, until)| now >= until) {
            self.rest();
        }
        if now < self.next {
            return;
        }
        self.next = now + Duration::from_secs(5 + chance.below(8) as u64);
        let slot = (1 + chance.below(5)).to_string();
        let of_slot = |id: &u32| {
            arguments(*id)
                .windows(2)
                .any(|pair| pair == ["--slot", slot.as_str()])
        };
        let Some(id) = running.children().into_iter().find(of_slot) else {
            return; // It is being restarted.
        };
        if self.stopped.is_none() && chance.below(3) == 0 {
            signal(id, "STOP");
            self.stopped = Some((id, now + Duration::from_secs(3)));
            self.stops += 1;
        } else {
            signal(id, "KILL");
            self.kills += 1;
        }
    }

    /// Continues a stopped collector.
    pub fn rest(&mut self) {
        if let Some((id, _)) = self.stopped.take() {
            signal(id, "CONT");
        }
    }
}

impl fmt::Display for Killer {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} kills, {} stops", self.kills, self.stops)
    }
}

/// An oracle beside the one under test: an aggregator, and a collector that was started by hand, whose clock is stepped by
/// libfaketime. Neither ever ends, and no start is signed twice, whatever the clock says.
pub struct Clock {
    aggregator: Running,
    collector: Running,
    chronicle: Chronicle,
    roster: String,
    file: PathBuf,
    next: Instant,
    off: bool,
    steps: u32,
}

impl Clock {
    pub fn start(beside: &Chronicle, url: &str) -> Clock {
        let chronicle = Chronicle {
            path: PathBuf::from(beside.beside("stepped.jsonl")),
        };
        let path = |name: &str| beside.beside(name);
        let [key_file, own_file] = [path("stepped.key"), path("stepped-aggregator.key")];
        let [key, own] = [&key_file, &own_file].map(|path| create(path).expect("a key file"));
        let text = roster(&[key], 5, "150ms").replace(SOURCE, "embedded-bybit:BTCUSDT");
        let roster = path("stepped.toml");
        std::fs::write(&roster, text).expect("the disk is there");
        let file = PathBuf::from(path("clock"));
        assert!(set_clock(&file, "+0"));
        let mut words = vec!["aggregate", "--roster", &roster];
        words.extend(["--aggregator-key", &own_file, "--journal", chronicle.name()]);
        words.extend(["--control-port", "0", "--data-port", "0"]);
        let aggregator = start(&[&words[..], &["--ready-timeout", "10m"]].concat());
        let (control, data) = aggregator.channels();
        let (control, data, own) = (control.port(), data.port(), hex(own.bytes()));
        let mut command = rsoracle();
        command.args(["collect", "--roster", &roster, "--key", &key_file, "--stay"]);
        command.args(["--endpoint", url, "--aggregator"]);
        command.arg(format!("127.0.0.1:{control},{data}@{own}"));
        command.stdin(Stdio::null());
        by_the_clock_of(&mut command, &faketime(), &file);
        Clock {
            aggregator,
            collector: start_command(command),
            chronicle,
            roster,
            file,
            next: Instant::now() + Duration::from_secs(40),
            off: false,
            steps: 0,
        }
    }

    pub fn turn(&mut self, chance: &mut Chance) {
        for running in [&mut self.aggregator, &mut self.collector] {
            assert!(!running.ended(), "{}", running.stderr());
        }
        if Instant::now() < self.next {
            return;
        }
        let (text, pause_s) = if self.off {
            ("+0".to_owned(), 40)
        } else {
            let sign = if chance.below(2) == 0 { '+' } else { '-' };
            (
                format!("{sign}{}", [0.05, 2.0, 90.0, 3600.0][chance.below(4)]),
                15,
            )
        };
        // If the disk is full, step the clock later.
        if set_clock(&self.file, &text) {
            self.off = !self.off;
            self.steps += 1;
            self.next = Instant::now() + Duration::from_secs(pause_s);
        }
    }

    /// Ends both, and asserts that the journal is whole, has prices, and proves no lie.
    pub fn finish(self) {
        drop((self.collector, self.aggregator));
        let done = run(&["verify", self.chronicle.name(), "--roster", &self.roster]);
        assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
        let reports = self.chronicle.reports();
        assert!(reports.iter().any(|kept| kept.price.is_some()));
        let proofs = format!("{}.proofs", self.chronicle.name());
        assert!(!Path::new(&proofs).exists(), "{proofs}");
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let reports = self.chronicle.lines().len();
        write!(f, "{} steps of a clock, {reports} reports", self.steps)
    }
}

/// Fills the disk for some seconds, repeatedly.
pub struct Disk {
    filler: PathBuf,
    next: Instant,
    full: bool,
    times: u32,
}

impl Disk {
    pub fn new(filler: PathBuf) -> Disk {
        let next = Instant::now() + Duration::from_secs(30);
        Disk {
            filler,
            next,
            full: false,
            times: 0,
        }
    }

    pub fn turn(&mut self) {
        if Instant::now() < self.next {
            return;
        }
        if self.full {
            self.empty();
            self.next = Instant::now() + Duration::from_secs(120);
        } else {
            self.fill();
            self.next = Instant::now() + Duration::from_secs(4);
        }
    }

    fn fill(&mut self) {
        let mut file = File::create(&self.filler).expect("the disk is there");
        let (mut piece, bytes) = (1 << 20, vec![b'x'; 1 << 20]);
        while piece > 0 {
            if file.write(&bytes[..piece]).is_err() {
                piece /= 4;
            }
        }
        self.full = true;
        self.times += 1;
    }

    pub fn empty(&mut self) {
        let _ = std::fs::remove_file(&self.filler);
        self.full = false;
    }
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "disk full {} times", self.times)
    }
}
