//! Three hosts, each with three collectors, the exchanges that these watch, and an aggregator. Every collector serves all three
//! aggregators.
//!
//! Nine is the smallest number that survives the loss of any of three hosts with one to spare: six are left, and five are a quorum.

use super::chronicle::{Chronicle, Kept};
use super::host::*;
use super::support::peer::{SOURCE, roster};
use super::support::*;
use super::witness::*;
use nanoserde::DeJson;
use rsoracle::keys::create;
use rsoracle_proof::roster::Roster;
use rsoracle_proof::schedule::Schedule;
use rsoracle_proof::seal::{PublicKey, hex};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Hosts, and aggregators.
pub const HOSTS: usize = 3;
/// Collectors on each host.
pub const ON_EACH: usize = 3;
/// All collectors.
pub const ALL: usize = HOSTS * ON_EACH;
/// What they watch, slot by slot: the first three are on the first host.
const SOURCES: [&str; ALL] = [
    "embedded-coinbase:BTC-USD",
    "embedded-kraken:BTC/USD",
    "embedded-bitstamp:btcusd",
    "embedded-bitfinex:tBTCUSD",
    "embedded-gemini:btcusd",
    "embedded-crypto.com:BTC_USD",
    "embedded-binance-stream:BTCUSDC",
    "embedded-okx:BTC-USDT",
    "embedded-bybit:BTCUSDT",
];
/// The collector whose exchange lies.
const LIAR: usize = 7;
/// The lie.
const LIE: &str = "okx/scale:10";

/// What is on a host.
struct Site {
    host: Host,
    exchange: Running,
    collectors: Vec<Running>,
    aggregator: Running,
}

/// The three hosts.
pub struct Three {
    dir: PathBuf,
    schedule: Schedule,
    aggregators: Vec<PublicKey>,
    /// The journals of the aggregators.
    pub journals: [Chronicle; HOSTS],
    sites: Vec<Site>,
    /// The first start in which every aggregator had all prices.
    from_us: u64,
}

/// A pooled round, as `history --json` prints it.
#[derive(DeJson)]
struct Pooled {
    round_start_us: u64,
    price: Option<f64>,
    prices: usize,
}

impl Three {
    /// Sets everything up, and waits until each aggregator has all prices. Outside a network of its own, this runs the test again in
    /// one, and returns `None`.
    pub fn set(test: &str) -> Option<Three> {
        if resolver_file().is_none() {
            in_a_network_of_its_own(test);
            return None;
        }
        let dir = bridge();
        let key = |name: String| create(&dir.join(name).display().to_string()).expect("a key file");
        let keys: Vec<PublicKey> = (0..ALL).map(|slot| key(key_name(slot))).collect();
        let aggregators = (0..HOSTS).map(|number| key(format!("aggregator-{number}.key")));
        let aggregators: Vec<PublicKey> = aggregators.collect();
        // A single sample, which may be late by half a second: a busy machine costs none.
        let mut text = roster(&keys, 1, "1s");
        for source in SOURCES {
            text = text.replacen(&format!("\"{SOURCE}\""), &format!("\"{source}\""), 1);
        }
        std::fs::write(dir.join("roster.toml"), &text).expect("a file");
        let roster = Roster::parse(&text).expect("a roster");
        let terms = &roster.feeds[0];
        assert!(usize::from(terms.quorum()) < ALL - ON_EACH);
        let mut three = Three {
            journals: std::array::from_fn(|number| Chronicle {
                path: dir.join(format!("journal-{number}.jsonl")),
            }),
            schedule: terms.schedule,
            dir,
            aggregators,
            sites: Vec::new(),
            from_us: 0,
        };
        for number in 0..HOSTS {
            three.start(Host::new(number));
        }
        three.from_us = three.until_whole();
        Some(three)
    }

    /// Starts what belongs on a host.
    fn start(&mut self, host: Host) {
        let (dir, number) = (&self.dir, host.number);
        let aggregator = aggregate(dir, number, &self.journals[number].path, &host);
        let mut command = rsoracle();
        command.args(["exchange", "--listen", "127.0.0.1:0", "--fault", LIE]);
        let exchange = start_command(host.inside(&command));
        let url = eventually("the exchange listens", || {
            let text = exchange.stdout();
            let (line, _) = text.split_once('\n')?;
            line.strip_prefix("listening on ").map(str::to_owned)
        });
        let slots = number * ON_EACH..(number + 1) * ON_EACH;
        let collectors = slots.map(|slot| collect(dir, slot, &url, &self.aggregators, &host));
        let site = Site {
            collectors: collectors.collect(),
            host,
            exchange,
            aggregator,
        };
        self.sites.insert(number, site);
    }

    /// A host vanishes from one moment to the next, without a farewell.
    pub fn lose(&mut self, number: usize) {
        ip(&format!("link delete {}", port(number)));
        // This kills its processes.
        drop(self.sites.remove(number));
    }

    /// A host that vanished comes back with new processes, and with its disk.
    pub fn bring_back(&mut self, number: usize) {
        self.start(Host::new(number));
    }

    /// Stops all processes of a host one after the other, as an update does, and starts them again.
    pub fn update(&mut self, number: usize) {
        let site = self.sites.remove(number);
        let collectors = site.collectors.into_iter();
        for mut running in collectors.chain([site.exchange, site.aggregator]) {
            assert!(!running.ended(), "{}", running.stderr());
            running.signal("TERM");
            eventually("it ends", || running.ended().then_some(()));
        }
        self.start(site.host);
    }

    /// Two hosts no longer reach each other, or do again. Both reach the third. Nobody gets a reset: packets go to a place on the
    /// bridge where nobody is.
    pub fn part(&self, pair: [usize; 2], parted: bool) {
        for [here, there] in [pair, [pair[1], pair[0]]] {
            let there = address(there);
            self.sites[here].host.run(&match parted {
                true => format!(
                    "ip neigh replace {there} lladdr 02:00:00:00:00:99 dev eth0 nud permanent"
                ),
                false => format!("ip neigh del {there} dev eth0"),
            });
        }
    }

    /// Waits for a new report of each aggregator that has all prices. Returns the latest start of these.
    pub fn until_whole(&self) -> u64 {
        let before = self.journals.each_ref().map(|it| it.lines().len());
        let whole = (0..HOSTS).map(|number| {
            let journal = &self.journals[number];
            let what = format!("all prices at aggregator {number}");
            journal.until(before[number], &what, |kept| kept.prices == ALL)
        });
        let latest = whole.map(|kept| kept.round_start_us).max();
        latest.expect("there are aggregators")
    }

    /// Waits for so many reports of an aggregator that have exactly the prices of these hosts, and returns the last.
    pub fn until_only(&self, number: usize, hosts: &[usize], reports: usize) -> Kept {
        let (mut seen, journal) = (self.journals[number].lines().len(), &self.journals[number]);
        let what = format!("{reports} reports of aggregator {number} with hosts {hosts:?} only");
        let mut last = None;
        for _ in 0..reports {
            let only = |kept: &Kept| {
                let mut parts = kept.collectors.iter().enumerate();
                parts.all(|(slot, part)| part.price.is_some() == hosts.contains(&(slot / ON_EACH)))
            };
            let kept = journal.until(seen, &what, only);
            seen = kept.number as usize;
            last = Some(kept);
        }
        last.expect("reports are more than none")
    }

    /// Ends everything, and checks what is left, over the three journals: they verify, nobody signed twice, no round is without
    /// a price, and no price lies outside what honest collectors saw.
    pub fn end(mut self) {
        for site in &mut self.sites {
            for running in site.collectors.iter_mut().chain([&mut site.aggregator]) {
                assert!(!running.ended(), "{}", running.stderr());
            }
            kill(&mut site.aggregator);
        }
        let roster = self.dir.join("roster.toml").display().to_string();
        let names = self.journals.each_ref().map(|it| it.name());
        let done = run(&[&["verify"], &names[..], &["--roster", &roster]].concat());
        assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
        assert!(!done.stdout.contains("LIE"), "{}", done.stdout);
        let (_, pool) = done.stdout.split_once("\npool: ").expect("they are pooled");
        println!("pool: {}", pool.lines().next().unwrap_or_default());
        let done = run(&[&["history", "--json", "--last", "1000"], &names[..]].concat());
        assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
        let rounds = done.stdout.lines().map(Pooled::deserialize_json);
        let rounds: Vec<Pooled> = rounds.map(|it| it.expect("a round")).collect();
        self.assert_no_price_is_missing(&rounds);
        self.assert_honest(&rounds);
    }

    /// Asserts that each start, from the first in which everybody had all prices, has a pooled price.
    fn assert_no_price_is_missing(&self, rounds: &[Pooled]) {
        let mut due_us = self.from_us;
        let since = rounds.iter().filter(|it| it.round_start_us >= self.from_us);
        for round in since.clone() {
            assert_eq!(round.round_start_us, due_us, "a round is missing");
            let prices = round.prices;
            assert!(round.price.is_some(), "{due_us}: {prices} prices make none");
            due_us += self.schedule.period_us;
        }
        let (count, fewer) = (since.clone().count(), since.filter(|it| it.prices < ALL));
        println!("{count} rounds, {} without all prices", fewer.count());
        for (number, journal) in self.journals.iter().enumerate() {
            let reports = journal.reports().into_iter();
            let priced =
                reports.filter(|it| it.price.is_some() && it.round_start_us >= self.from_us);
            println!("aggregator {number}: {} with a price", priced.count());
        }
    }

    /// Asserts that every price, pooled or of one aggregator, lies within what honest collectors saw in its round.
    fn assert_honest(&self, rounds: &[Pooled]) {
        let reports = self.journals.iter().flat_map(Chronicle::reports);
        let reports: Vec<Kept> = reports.collect();
        let mut seen: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
        let mut lies = 0;
        for report in &reports {
            for (slot, part) in report.collectors.iter().enumerate() {
                let Some(price) = part.price else { continue };
                if slot == LIAR {
                    lies += 1;
                    continue;
                }
                let range = seen.entry(report.round_start_us).or_insert((price, price));
                *range = (range.0.min(price), range.1.max(price));
            }
        }
        let single = reports.iter().map(|it| (it.round_start_us, it.price));
        let pooled = rounds.iter().map(|it| (it.round_start_us, it.price));
        for (start_us, price) in single.chain(pooled) {
            let Some(price) = price else { continue };
            let (low, high) = seen[&start_us];
            assert!(
                (low..=high).contains(&price),
                "{start_us}: {price} is not within {low} to {high}"
            );
        }
        assert!(lies > 0, "somebody lied");
    }
}

/// Starts a collector on a host.
fn collect(dir: &Path, slot: usize, url: &str, aggregators: &[PublicKey], host: &Host) -> Running {
    let mut command = rsoracle();
    command
        .arg("collect")
        .arg("--roster")
        .arg(dir.join("roster.toml"));
    command.arg("--key").arg(dir.join(key_name(slot)));
    command.args(["--endpoint", url]);
    for (number, key) in aggregators.iter().enumerate() {
        let named = format!("{}@{}", address(number), hex(key.bytes()));
        command.args(["--aggregator", &named]);
    }
    start_command(host.inside(&command))
}
