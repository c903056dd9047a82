//! The nuisances of the soak test: collectors are killed and stopped, a clock is stepped, the disk fills up.

use crate::Chance;
use crate::chronicle::Chronicle;
use crate::support::*;
use crate::witness::*;
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
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

/// The collector of slot 8, whose clock is stepped by libfaketime. It is restarted when it ends.
pub struct Clock {
    running: Running,
    args: Vec<String>,
    enrolment: PathBuf,
    library: PathBuf,
    file: PathBuf,
    next: Instant,
    off: bool,
    steps: u32,
    starts: u32,
}

impl Clock {
    pub fn start(
        chronicle: &Chronicle,
        url: &str,
        (control, data): (SocketAddr, SocketAddr),
    ) -> Clock {
        let enrolment = PathBuf::from(chronicle.beside("enrolments/slot-8.enrolment"));
        eventually("the enrolment is written", || {
            (std::fs::metadata(&enrolment).ok()?.len() == 64).then_some(())
        });
        let key = chronicle.beside("remote.key");
        assert_eq!(run(&["keygen", &key]).code, Some(0));
        let file = PathBuf::from(chronicle.beside("clock"));
        assert!(set_clock(&file, "+0"));
        let (control, data) = (control.to_string(), data.to_string());
        let args = [
            "collect",
            "--slot",
            "8",
            "--source",
            "embedded-bybit:BTCUSDT",
            "--endpoint",
            url,
            "--control",
            &control,
            "--data",
            &data,
            "--key",
            &key,
            "--stay",
        ];
        let args: Vec<String> = args.map(str::to_owned).to_vec();
        let library = faketime();
        let running = collector(&args, &enrolment, &library, &file);
        let next = Instant::now() + Duration::from_secs(40);
        Clock {
            running,
            args,
            enrolment,
            library,
            file,
            next,
            off: false,
            steps: 0,
            starts: 1,
        }
    }

    pub fn turn(&mut self, chance: &mut Chance) {
        if self.running.ended() {
            self.running = collector(&self.args, &self.enrolment, &self.library, &self.file);
            self.starts += 1;
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
}

fn collector(args: &[String], enrolment: &PathBuf, library: &Path, clock: &Path) -> Running {
    let mut command = rsoracle();
    command
        .args(args)
        .stdin(Stdio::from(File::open(enrolment).unwrap()));
    by_the_clock_of(&mut command, library, clock);
    start_command(command)
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "{} steps of a clock, its collector started {} times",
            self.steps, self.starts
        )
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
