//! An oracle of five collectors that were started by hand, its aggregator and a server for its journal.

use super::chronicle::Chronicle;
use super::served::Served;
use super::support::peer::{SOURCE, roster};
use super::support::*;
use super::watched::Watch;
use rsoracle::keys::create;
use rsoracle_proof::seal::{PublicKey, hex};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Collectors.
pub const SLOTS: usize = 5;
/// From one round to the next, in microseconds.
const PERIOD_US: u64 = 1_000_000;

/// An exchange, or what plays one.
pub struct Exchange {
    _running: Running,
    url: String,
}

impl Exchange {
    /// Starts the embedded exchange.
    pub fn new(args: &[&str]) -> Exchange {
        let (_running, url) = exchange(args);
        Exchange { _running, url }
    }

    /// An exchange whose price stays the same for so many seconds, and then changes by a factor for good.
    pub fn that_jumps(after_s: u64, factor: f64) -> Exchange {
        let tape = scratch("tape.csv");
        let later = 80_000.0 * factor;
        let text = match after_s {
            0 => format!("0,{later:.2}\n"),
            _ => format!("0,80000.00\n{after_s}000,{later:.2}\n"),
        };
        let text = format!("symbol,BTCUSDT\nlength_ms,3600000\n{text}");
        std::fs::write(&tape, text).expect("a file");
        Exchange::new(&["--tape", tape.to_str().expect("UTF-8")])
    }
}

/// What a slot watches.
pub type Watches<'a> = (&'static str, &'a Exchange);

/// A running oracle.
pub struct World {
    folder: PathBuf,
    /// The journal.
    pub chronicle: Chronicle,
    /// The aggregator's process.
    pub aggregator: Running,
    /// The collectors' processes, slot by slot.
    pub collectors: Vec<Running>,
    /// The server.
    pub served: Served,
    channels: (SocketAddr, SocketAddr),
    key: PublicKey,
}

fn inside(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

impl World {
    /// Starts everything. The journal is in a folder of its own choice; the aggregator has further flags.
    pub fn new(journal: PathBuf, watches: [Watches; SLOTS], flags: &[&str]) -> World {
        let folder = scratch("x").parent().expect("a folder").to_owned();
        let key = create(&inside(&folder, "aggregator.key")).expect("a key file");
        let slot_key = |slot| inside(&folder, &format!("slot-{slot}.key"));
        let keys: Vec<PublicKey> = (0..SLOTS)
            .map(|slot| create(&slot_key(slot)).expect("a key file"))
            .collect();
        let mut text = roster(&keys, 1, "1s").replace("period = \"2s\"", "period = \"1s\"");
        for (slot, (source, _)) in watches.iter().enumerate() {
            let (before, of_slot) = text.split_once(&format!("[slot.{slot}]")).expect("a slot");
            let of_slot = of_slot.replacen(SOURCE, source, 1);
            text = format!("{before}[slot.{slot}]{of_slot}");
        }
        std::fs::write(inside(&folder, "roster.toml"), text).expect("a file");
        let roster = inside(&folder, "roster.toml");
        let own_key = inside(&folder, "aggregator.key");
        let fixed = ["aggregate", "--roster", &roster, "--aggregator-key"];
        let of_journal = ["--journal", journal.to_str().expect("UTF-8")];
        let ports = ["--control-port", "0", "--data-port", "0"];
        let own_key = [own_key.as_str()];
        let aggregator = start(&[&fixed[..], &own_key, &of_journal, &ports, flags].concat());
        let mut world = World {
            channels: aggregator.channels(),
            served: Served::start(&journal, &[]),
            chronicle: Chronicle { path: journal },
            collectors: Vec::new(),
            aggregator,
            folder: folder.clone(),
            key,
        };
        for (slot, (_, exchange)) in watches.iter().enumerate() {
            let mut command = world.collect(&slot_key(slot), exchange);
            // What streams send is soon too old.
            if watches[slot].0 != SOURCE {
                command.args(["--max-age", "3s"]);
            }
            world.collectors.push(start_command(command));
        }
        world
    }

    fn collect(&self, key: &str, exchange: &Exchange) -> Command {
        let (control, data) = self.channels;
        let own = hex(self.key.bytes());
        let aggregator = format!("127.0.0.1:{},{}@{own}", control.port(), data.port());
        let mut command = rsoracle();
        command.args(["collect", "--roster", &inside(&self.folder, "roster.toml")]);
        command.args(["--key", key, "--aggregator", &aggregator]);
        command.args(["--endpoint", &exchange.url]);
        command.stdin(Stdio::null());
        command
    }

    /// Starts a second process with a copy of a slot's key.
    pub fn impostor(&self, slot: usize, exchange: &Exchange) -> Running {
        let copy = scratch("copy.key").display().to_string();
        let key = inside(&self.folder, &format!("slot-{slot}.key"));
        std::fs::copy(key, &copy).expect("a copy, with the same mode");
        start_command(self.collect(&copy, exchange))
    }

    /// Watches the server from the first report with five prices on.
    pub fn watch(&self) -> Watch {
        Watch::new(self.served.address, SLOTS)
    }

    /// Why the reports since one with five prices are not what was meant: a slot other than these has no price, or a start was
    /// left out.
    pub fn disturbed(&self, but: &[usize]) -> Option<String> {
        let reports = self.chronicle.reports();
        let whole = reports.iter().position(|kept| kept.prices == SLOTS)?;
        let reports = &reports[whole..];
        let lacks = reports.iter().find_map(|kept| {
            let mut slots = kept.collectors.iter().enumerate();
            let lacks = slots.find(|(slot, part)| part.price.is_none() && !but.contains(slot));
            Some((kept.number, lacks?.0))
        });
        let apart = |pair: &&[crate::chronicle::Kept]| {
            pair[1].round_start_us - pair[0].round_start_us > PERIOD_US
        };
        let left_out = reports.windows(2).find(apart);
        match (lacks, left_out) {
            (Some((number, slot)), _) => Some(format!("report {number} has no price of {slot}")),
            (_, Some(pair)) => Some(format!(
                "a start after report {} is missing",
                pair[0].number
            )),
            _ => None,
        }
    }
}
