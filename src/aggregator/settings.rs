//! The settings of `rsoracle run` and `rsoracle aggregate`. That they fit together was checked when they were read.

use crate::aggregator::limits;
use rsoracle_proof::publish::Policy;
use rsoracle_proof::schedule::Tenure;
use rsoracle_proof::source::is_embedded;
use rsoracle_proof::terms::{Roster, Terms};
use std::net::SocketAddr;

/// The settings of `rsoracle run` and `rsoracle aggregate`.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The feeds and slots. Those of a run that starts its collectors have no keys yet and, for a single round, no start.
    pub roster: Roster,
    /// When the roster counts. The aggregator ends when another one does.
    pub tenure: Tenure,
    /// What the collectors need that this run starts; `None` if it starts none (`rsoracle aggregate`).
    pub children: Option<Children>,
    /// Address of the control channel; port 0 takes any free port.
    pub control: SocketAddr,
    /// Address of the data channel; port 0 takes any free port.
    pub data: SocketAddr,
    /// Whether to take free ports if these are in use: when they are defaults, and all collectors are told.
    pub any_port_will_do: bool,
    /// How long the aggregator waits for collectors to be ready.
    pub ready_timeout_us: u64,
    /// File of the aggregator's key; `None` uses one beside the journal, or a fresh key.
    pub aggregator_key: Option<String>,
    /// File that the roster is written to.
    pub write_roster: Option<String>,
    /// How many rounds to run; `None` for no end.
    pub rounds: Option<u64>,
    /// The policy that decides when a price is published.
    pub policy: Policy,
    /// The journal: file of all reports.
    pub journal: Option<String>,
    /// Bytes of a segment of the journal from which on it is closed; `None` for no end.
    pub journal_max: Option<u64>,
    /// File of the key that signed the journal so far, if this run's key is another.
    pub retire_key: Option<String>,
    /// File that always holds the newest published report; with several feeds, a directory with such a file for each.
    pub latest: Option<String>,
    /// Where a server of the journal listens that this run starts, and its arguments; `None` starts none.
    pub serve: Option<(SocketAddr, Vec<String>)>,
    /// What is said at the start about the roster.
    pub warnings: Vec<String>,
    /// Print JSON.
    pub json: bool,
    /// Print no progress.
    pub quiet: bool,
}

/// What collectors need that `rsoracle run` starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Children {
    /// Flags of each collector about the connection to its exchange, slot by slot.
    pub flags: Vec<Vec<String>>,
    /// URL of a running embedded exchange; `None` starts one if a source needs it.
    pub endpoint: Option<String>,
    /// Certificates to trust besides the system's.
    pub ca_file: Option<String>,
    /// Variables to add to the collectors' environment, for their proxy.
    pub environment: Vec<(&'static str, String)>,
    /// Directory of the collectors' keys; `None` makes fresh keys.
    pub keys: Option<String>,
    /// Whether that is a directory beside the journal that nobody named: it is made if it is missing.
    pub keys_beside: bool,
}

impl Run {
    /// Whether there is a single round.
    pub fn single(&self) -> bool {
        self.roster.schedule().period_us == 0
    }

    /// The number of slots.
    pub(crate) fn n(&self) -> u16 {
        self.roster.slots.len() as u16
    }

    /// For each feed the file that always holds its newest published report, if there is one.
    pub(crate) fn latest_files(&self) -> Vec<Option<String>> {
        let feeds = &self.roster.feeds;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let file = |terms: &Terms| match (&self.latest, feeds.len()) {
            (Some(directory), 2..) => {
                let name = terms.feed.replace(|c| !is_plain(c), "-");
                Some(format!("{directory}/{name}.json"))
            }
            (latest, _) => latest.clone(),
        };
        feeds.iter().map(file).collect()
    }

    /// Whether any source has recorded prices, so that everything is marked `embedded`.
    pub fn embedded(&self) -> bool {
        let mut sources = self.roster.slots.iter().flat_map(|slot| &slot.sources);
        sources.any(|source| is_embedded(source))
    }

    /// The file of the aggregator's key: the file of `--aggregator-key`, or else a file beside the journal. `None`: the key is
    /// fresh, and kept nowhere.
    pub(crate) fn key_path(&self) -> Option<String> {
        let beside = || Some(format!("{}.key", self.journal.as_ref()?));
        self.aggregator_key.clone().or_else(beside)
    }

    /// The file of the local collectors' certificates, if one is named.
    pub(crate) fn ca_file(&self) -> Option<&String> {
        self.children.as_ref()?.ca_file.as_ref()
    }

    /// The directory of the local collectors' keys, if one is named.
    pub(crate) fn collector_keys(&self) -> Option<&String> {
        self.children.as_ref()?.keys.as_ref()
    }

    /// Lead time: between handing down a roster and the first start that it holds for.
    pub(crate) fn lead_us(&self) -> u64 {
        let seats: usize = self.roster.feeds.iter().map(|it| it.seats.len()).sum();
        let reading_us = seats as u64 * limits::LEAD_US_PER_COLLECTOR;
        reading_us.clamp(limits::LEAD_MS_MIN * 1_000, limits::LEAD_MS_MAX * 1_000)
    }
}
