//! Five hosts, and what runs on them.

use super::chronicle::Chronicle;
use super::host::*;
use super::support::peer::roster;
use super::support::*;
use super::witness::*;
use rsoracle::keys::create;
use rsoracle::system::now::wall_us;
use rsoracle_proof::roster::Roster;
use rsoracle_proof::schedule::Schedule;
use rsoracle_proof::seal::{PublicKey, hex};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Hosts, and collectors: one on each.
pub const HOSTS: usize = 5;
/// Seconds from one round to the next.
pub const PERIOD_S: u64 = 2;
/// Seconds for which a collector that starts again signs nothing, at most: its mark is so far ahead.
pub const MARK_S: u64 = 10;

/// One of the two aggregators; the first is on the first host, the second on the second.
pub struct Aggregator {
    number: usize,
    key: PublicKey,
    /// Its journal.
    pub journal: Chronicle,
    /// Its process.
    pub running: Running,
}

/// A collector and its exchange, on a host.
pub struct Post {
    host: Host,
    exchange: Running,
    /// Its process.
    pub collector: Running,
}

/// What is special about a collector.
#[derive(Clone, Default)]
pub struct Special {
    /// The file that its clock follows.
    pub clock: Option<PathBuf>,
    /// Whether its exchange follows that file too.
    pub of_exchange: bool,
    /// Whether the disk of its mark has 64 KiB.
    pub small_disk: bool,
}

/// Five hosts with a collector each, two of them with an aggregator too.
pub struct Five {
    dir: PathBuf,
    special: Special,
    /// The rounds.
    pub schedule: Schedule,
    /// The aggregators.
    pub aggregators: [Aggregator; 2],
    /// What is on each host, slot by slot.
    pub posts: Vec<Post>,
}

impl Five {
    /// Sets everything up, and waits until both aggregators get five prices. The last collector may be special. Outside a network
    /// of its own, this runs the test again in one, and returns `None`.
    pub fn set(test: &str, special: &Special) -> Option<Five> {
        if resolver_file().is_none() {
            in_a_network_of_its_own(test);
            return None;
        }
        let dir = bridge();
        let place = |name: &str| dir.join(name).display().to_string();
        let keys: Vec<PublicKey> = (0..HOSTS)
            .map(|slot| create(&place(&key_name(slot))).expect("a key file"))
            .collect();
        let text = roster(&keys, 1, "1s");
        std::fs::write(place("roster.toml"), &text).expect("a file");
        let schedule = Roster::parse(&text).expect("a roster").feeds[0].schedule;
        assert_eq!(schedule.period_us, PERIOD_S * 1_000_000);
        let hosts: Vec<Host> = (0..HOSTS).map(Host::new).collect();
        let aggregators = [0, 1].map(|number| {
            let path = dir.join(format!("journal-{number}.jsonl"));
            let key = create(&place(&format!("aggregator-{number}.key"))).expect("a key file");
            Aggregator {
                number,
                key,
                running: aggregate(&dir, number, &path, &hosts[number]),
                journal: Chronicle { path },
            }
        });
        let mut posts = Vec::new();
        for (slot, host) in hosts.into_iter().enumerate() {
            let ordinary = Special::default();
            let special = if slot == HOSTS - 1 {
                special
            } else {
                &ordinary
            };
            posts.push(post(&dir, &aggregators, host, special));
        }
        let five = Five {
            dir,
            special: special.clone(),
            schedule,
            aggregators,
            posts,
        };
        for number in [0, 1] {
            five.until_whole(number, 0);
        }
        Some(five)
    }

    /// Waits for a report of an aggregator, after the first `after`, with five prices.
    pub fn until_whole(&self, number: usize, after: usize) -> u64 {
        let journal = &self.aggregators[number].journal;
        let whole = journal.until(after, "five prices", |kept| kept.prices == HOSTS);
        whole.round_start_us
    }

    /// The number of an aggregator's reports.
    pub fn reports(&self, number: usize) -> usize {
        self.aggregators[number].journal.lines().len()
    }

    /// Kills an aggregator, and starts it again. Returns the first start after its ports are open.
    pub fn restart_aggregator(&mut self, number: usize) -> u64 {
        let aggregator = &mut self.aggregators[number];
        kill(&mut aggregator.running);
        let (host, path) = (&self.posts[number].host, &aggregator.journal.path);
        aggregator.running = aggregate(&self.dir, number, path, host);
        aggregator.running.channels();
        let next_us = self.schedule.next_start_us(wall_us());
        next_us.expect("rounds never end")
    }

    /// Kills the last collector, and starts it again, with its exchange.
    pub fn restart_last(&mut self) {
        let mut last = self.posts.pop().expect("it is there");
        kill(&mut last.collector);
        kill(&mut last.exchange);
        let special = Special {
            // The disk is there already.
            small_disk: false,
            ..self.special.clone()
        };
        let again = post(&self.dir, &self.aggregators, last.host, &special);
        self.posts.push(again);
    }

    /// A host's port on the bridge swallows everything, or no longer does. Nobody gets a reset.
    pub fn swallow(&self, number: usize, swallows: bool) {
        let state = if swallows { "down" } else { "up" };
        ip(&format!("link set {} {state}", port(number)));
    }

    /// The last host vanishes from one moment to the next, without a farewell, and comes back with new processes.
    pub fn replace_last(&mut self) {
        let last = self.posts.pop().expect("it is there");
        let number = last.host.number;
        ip(&format!("link delete {}", port(number)));
        drop(last);
        let again = post(
            &self.dir,
            &self.aggregators,
            Host::new(number),
            &self.special,
        );
        self.posts.push(again);
    }

    /// How many control connections from a host stand at an aggregator.
    pub fn standing(&self, aggregator: usize, host: usize) -> usize {
        let id = self.aggregators[aggregator].running.id();
        let table = std::fs::read_to_string(format!("/proc/{id}/net/tcp")).unwrap_or_default();
        // In this table, an address is a number in the byte order of the machine.
        let theirs = format!("{:02X}00070A:", host + 1);
        let stands = |line: &&str| {
            let mut fields = line.split_whitespace().skip(1);
            let (ours, others, state) = (fields.next(), fields.next(), fields.next());
            ours.is_some_and(|ours| ours.ends_with(":1F40"))
                && others.is_some_and(|others| others.starts_with(&theirs))
                && state == Some("01")
        };
        table.lines().filter(stands).count()
    }

    /// The folder of the last collector's mark, as seen from outside its host.
    pub fn state(&self) -> PathBuf {
        let last = self.posts.last().expect("it is there");
        let inside = state_of(&self.dir, HOSTS - 1);
        let id = last.host.holder.id();
        PathBuf::from(format!("/proc/{id}/root{}", inside.display()))
    }

    /// The last collector.
    pub fn last(&self) -> &Running {
        &self.posts.last().expect("it is there").collector
    }

    /// Waits for so many rounds of both aggregators, in which the last collector signs nothing, not even that it
    /// abstains.
    pub fn without_the_last(&self, rounds: usize) {
        // The round that was running may have its answer.
        let from = [0, 1].map(|number| self.reports(number) + 1);
        for (aggregator, from) in self.aggregators.iter().zip(from) {
            let journal = &aggregator.journal;
            journal.until_lines(from + rounds);
            for kept in &journal.reports()[from..] {
                let part = kept.collectors.last().expect("it has a slot");
                assert_eq!(part.standing, "silent", "report {}", kept.number);
            }
        }
    }

    /// Ends everything, and checks what is left: both journals verify, no collector signed twice, and none ended by itself.
    pub fn end(mut self) {
        for post in &mut self.posts {
            assert!(!post.collector.ended(), "{}", post.collector.stderr());
        }
        let roster = self.dir.join("roster.toml").display().to_string();
        let mut answers = BTreeMap::new();
        for aggregator in &mut self.aggregators {
            kill(&mut aggregator.running);
            let done = run(&["verify", aggregator.journal.name(), "--roster", &roster]);
            assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
            let said = aggregator.running.stderr();
            assert!(!said.contains("two different answers"), "{said}");
            for report in aggregator.journal.reports() {
                for (slot, part) in report.collectors.iter().enumerate() {
                    let Some(price) = part.price else { continue };
                    let answer = answers.entry((report.round_start_us, slot));
                    let first = *answer.or_insert(price);
                    assert_eq!(first, price, "slot {slot}, {}", report.round_start_us);
                }
            }
        }
    }

    /// Asserts that an aggregator has published a price for every start, in its reports after the first `after`.
    pub fn assert_no_price_is_missing(&self, number: usize, after: usize) {
        let reports = &self.aggregators[number].journal.reports()[after..];
        for pair in reports.windows(2) {
            let starts = [0, 1].map(|at: usize| pair[at].round_start_us);
            assert_eq!(starts[1] - starts[0], self.schedule.period_us);
        }
        for report in reports {
            assert_eq!(report.decision, "published", "report {}", report.number);
        }
    }
}

/// The folder of a collector's mark.
fn state_of(dir: &Path, slot: usize) -> PathBuf {
    dir.join(format!("state-{slot}"))
}

/// Starts an exchange and a collector on a host.
fn post(dir: &Path, aggregators: &[Aggregator; 2], host: Host, special: &Special) -> Post {
    let slot = host.number;
    let state = state_of(dir, slot);
    std::fs::create_dir_all(&state).expect("a folder");
    if special.small_disk {
        host.run(&format!(
            "mount -t tmpfs -o size=64k none '{}'",
            state.display()
        ));
    }
    let mut command = rsoracle();
    command.args(["exchange", "--listen", "127.0.0.1:0"]);
    let clock = special.clock.as_ref();
    if let Some(clock) = clock.filter(|_| special.of_exchange) {
        by_the_clock_of(&mut command, &faketime(), clock);
    }
    let exchange = start_command(host.inside(&command));
    let url = eventually("the exchange listens", || {
        let text = exchange.stdout();
        let (line, _) = text.split_once('\n')?;
        line.strip_prefix("listening on ").map(str::to_owned)
    });
    let mut command = rsoracle();
    command
        .arg("collect")
        .arg("--roster")
        .arg(dir.join("roster.toml"));
    command.arg("--key").arg(dir.join(key_name(slot)));
    command.arg("--state").arg(&state);
    command.args(["--endpoint", &url]);
    for aggregator in aggregators {
        let (at, key) = (address(aggregator.number), hex(aggregator.key.bytes()));
        command.args(["--aggregator", &format!("{at}@{key}")]);
    }
    if let Some(clock) = clock {
        by_the_clock_of(&mut command, &faketime(), clock);
    }
    Post {
        collector: start_command(host.inside(&command)),
        host,
        exchange,
    }
}
