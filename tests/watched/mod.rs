//! Watches a real server as Prometheus does, and lets `promtool` apply docs/alerts.yml to what it saw.
//!
//! A scrape is taken every 200 ms. For the rules, scrapes are 10 s apart: so seconds of the test are most of a minute, and `for: 1m`
//! takes 1.2 s. What rules hold against `time()` (moments, and the period) is in their time too. A moment without a scrape, on a
//! busy machine, is a gap there, as it would be in Prometheus.

use crate::support::*;
use rsoracle::system::now::wall_us;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

/// From one scrape to the next, in microseconds, and in seconds of the rules' time.
const SCRAPE_US: u64 = 200_000;
const SCRAPE_S: u64 = 10;
/// Seconds of the rules' time in a second.
const SCALE: f64 = (SCRAPE_S * 1_000_000 / SCRAPE_US) as f64;
/// Scrapes in a row that may be missing before the rules see something else than what was.
const GAP_MAX: u64 = 5;
/// How often a scene is played that a busy machine disturbs.
const ATTEMPTS: usize = 4;

/// A Prometheus that looks more rarely than there are rounds: it takes one scrape of so many, with this number, and evaluates the rules
/// when that is old.
const RARE: u64 = 20;
const RARE_FIRST: u64 = 2;

/// Who looks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum View {
    /// Prometheus, at every scrape.
    All,
    /// Prometheus, at a few of them.
    Rare,
    /// A server on another machine than the aggregator's, which sees no lock.
    Elsewhere,
}

/// The rules.
pub const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/alerts.yml");

/// A scrape: series with their values.
pub type Page = BTreeMap<String, f64>;

/// An alert, and how many series of it fire.
pub type Fires = (&'static str, usize);

/// A part of the time that was watched.
struct Phase {
    /// The number of its last scrape.
    last: u64,
    /// What fires then: these, and no others.
    fires: Vec<Fires>,
}

/// A server that is watched.
pub struct Watch {
    address: SocketAddr,
    began_us: u64,
    /// Scrapes by their number; None if the server did not answer.
    scrapes: BTreeMap<u64, Option<Page>>,
    phases: Vec<Phase>,
    /// The text of the last scrape.
    pub text: String,
    /// Whether it matters that the server is on the machine of the aggregator.
    is_local: bool,
}

/// Reads a page. `time` turns seconds since the Unix epoch into another time.
fn page_of(text: &str, time: impl Fn(f64) -> f64) -> Page {
    let mut page = Page::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let value: f64 = value.parse().expect("a number");
        let name = series.split('{').next().expect("a name");
        let value = match name {
            "rsoracle_period_seconds" => value * SCALE,
            _ if name.ends_with("_timestamp_seconds") => time(value),
            _ => value,
        };
        let own = "job=\"rsoracle\",instance=\"serve\"";
        let labels = series.strip_prefix(name).expect("it begins so");
        let labels = labels.trim_matches(['{', '}']);
        let comma = if labels.is_empty() { "" } else { "," };
        page.insert(format!("{name}{{{own}{comma}{labels}}}"), value);
    }
    page
}

/// The text at `/metrics`.
pub fn scrape(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    let request = b"GET /metrics HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n";
    std::io::Write::write_all(&mut stream, request).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    Some(body.to_owned())
}

impl Watch {
    /// Watches a server from the first report on that has so many prices.
    pub fn new(address: SocketAddr, prices: usize) -> Watch {
        let what = format!("a report with {prices} prices");
        let line = format!("rsoracle_prices{{feed=\"BTC/USD\"}} {prices}\n");
        eventually(&what, || scrape(address)?.contains(&line).then_some(()));
        Watch::at_once(address)
    }

    /// Watches a server from now on.
    pub fn at_once(address: SocketAddr) -> Watch {
        Watch {
            address,
            began_us: wall_us(),
            scrapes: BTreeMap::new(),
            phases: Vec::new(),
            text: String::new(),
            is_local: true,
        }
    }

    /// It has to come to the same if the server is on another machine than the aggregator, and sees no lock.
    pub fn holds_elsewhere_too(&mut self) {
        self.is_local = false;
    }

    /// Takes a scrape if it is time. Returns the page of the last one.
    fn look(&mut self) -> Option<&Page> {
        let number = wall_us().saturating_sub(self.began_us) / SCRAPE_US;
        if !self.scrapes.contains_key(&number) {
            let began_s = self.began_us as f64 / 1e6;
            let text = scrape(self.address);
            let page = text.as_deref();
            let page = page.map(|text| page_of(text, |s| (s - began_s) * SCALE));
            self.scrapes.insert(number, page);
            self.text = text.unwrap_or_default();
        }
        self.scrapes.last_key_value()?.1.as_ref()
    }

    /// Waits until a series has a value that fits: its name, and a part of its labels.
    pub fn until(&mut self, name: &str, labels: &str, fits: impl Fn(f64) -> bool) {
        let what = format!("{name} {labels}");
        let begin = format!("{name}{{");
        eventually(&what, || {
            let mut series = self.look()?.iter();
            let fit = |(series, value): (&String, &f64)| {
                series.starts_with(&begin) && series.contains(labels) && fits(*value)
            };
            series.any(fit).then_some(())
        });
    }

    /// Waits until the server does not answer.
    pub fn until_down(&mut self) {
        eventually("it is down", || self.look().is_none().then_some(()));
    }

    /// Watches for so many scrapes.
    pub fn pass(&mut self, scrapes: usize) {
        let count = self.scrapes.len() + scrapes;
        eventually("some scrapes", || {
            self.look();
            (self.scrapes.len() >= count).then_some(())
        });
    }

    /// A phase is over. At its end these alerts fire, in so many series each; within it only these and those of the phase before.
    pub fn phase(&mut self, fires: &[Fires]) {
        let (last, _) = self.scrapes.last_key_value().expect("a scrape");
        let (last, fires) = (*last, fires.to_vec());
        self.phases.push(Phase { last, fires });
    }

    /// The longest gap between two scrapes.
    fn gap(&self) -> u64 {
        let numbers: Vec<&u64> = self.scrapes.keys().collect();
        let gaps = numbers.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or(0)
    }

    /// Every series, as `promtool` takes it.
    fn series(&self, view: View) -> String {
        let pages = self.scrapes.values().flatten();
        let mut all: BTreeMap<&str, String> = BTreeMap::new();
        let names = pages.flat_map(|page| page.keys());
        all.extend(names.map(|name| (name.as_str(), String::new())));
        let (last, _) = self.scrapes.last_key_value().expect("a scrape");
        let up = "up{job=\"rsoracle\",instance=\"serve\"}";
        all.insert(up, String::new());
        for (name, values) in &mut all {
            let mut there = false;
            for number in 0..=*last {
                let taken = view != View::Rare || number % RARE == RARE_FIRST;
                let value = match self.scrapes.get(&number).filter(|_| taken) {
                    None => None,
                    Some(page) if *name == up => Some(f64::from(u8::from(page.is_some()))),
                    // What a scrape does not have any more is marked as stale.
                    Some(page) => match page.as_ref().and_then(|page| page.get(*name)) {
                        None if std::mem::replace(&mut there, false) => Some(f64::NAN),
                        found => found.copied(),
                    },
                };
                there |= value.is_some_and(|value| !value.is_nan());
                let _ = match value {
                    None => write!(values, " _"),
                    Some(value) if value.is_nan() => write!(values, " stale"),
                    Some(value) => write!(values, " {value}"),
                };
            }
        }
        let line = |(name, values): (&str, String)| {
            let values =
                match view == View::Elsewhere && name.starts_with("rsoracle_journal_writer{") {
                    true => values.replace('1', "0"),
                    false => values,
                };
            let name = name.replace('\'', "''");
            format!(
                "      - series: '{name}'\n        values: '{}'\n",
                values.trim()
            )
        };
        all.into_iter().map(line).collect()
    }

    /// That nothing but what belongs to the phases has ever fired.
    fn no_others(&self) -> String {
        let fires = self.phases.iter().flat_map(|phase| &phase.fires);
        let names: Vec<&str> = fires.map(|(name, _)| *name).collect();
        let end_s = self.phases.last().expect("a phase").last * SCRAPE_S;
        none_but(&names, end_s, end_s)
    }

    /// What must hold at the end of each phase.
    fn expectations(&self) -> String {
        let mut text = String::new();
        let (mut from, mut before) = (0, &Vec::new());
        for Phase { last, fires } in &self.phases {
            let names = before.iter().chain(fires).map(|(name, _)| *name);
            let names: Vec<&str> = names.collect();
            let (length_s, at_s) = ((last - from) * SCRAPE_S, last * SCRAPE_S);
            text += &none_but(&names, length_s, at_s);
            let _ = write!(
                text,
                "      - expr: count by (alertname) (ALERTS{{alertstate=\"firing\"}})\n        eval_time: {at_s}s\n        exp_samples:\n"
            );
            for (name, count) in fires {
                let _ = write!(
                    text,
                    "          - labels: '{{alertname=\"{name}\"}}'\n            value: {count}\n"
                );
            }
            (from, before) = (*last, fires);
        }
        text
    }

    /// Lets `promtool` apply the rules. An error is what it says if something else fired.
    fn judge(&self) -> Result<(), String> {
        let elsewhere = (!self.is_local).then_some(View::Elsewhere);
        for view in [View::All, View::Rare].into_iter().chain(elsewhere) {
            let path = scratch("rules-test.yml");
            let (every_s, expected) = match view {
                View::Rare => (RARE * SCRAPE_S, self.no_others()),
                _ => (SCRAPE_S, self.expectations()),
            };
            let series = self.series(view);
            let text = format!(
                "rule_files: ['{RULES}']\nevaluation_interval: {every_s}s\ntests:\n  - interval: {SCRAPE_S}s\n    input_series:\n{series}    promql_expr_test:\n{expected}"
            );
            std::fs::write(&path, text).expect("a file");
            let done = promtool(&["test", "rules", path.to_str().expect("UTF-8")], "");
            done.map_err(|said| format!("{view:?}, {}: {said}", path.display()))?;
        }
        Ok(())
    }
}

/// That no alerts but these fired in a time.
fn none_but(names: &[&str], length_s: u64, at_s: u64) -> String {
    let names = names.join("|");
    format!(
        "      - expr: max_over_time(ALERTS{{alertstate=\"firing\",alertname!~\"{names}\"}}[{length_s}s])\n        eval_time: {at_s}s\n        exp_samples: []\n"
    )
}

/// Runs `promtool`, with something to read. What it says is an error if it fails.
pub fn promtool(args: &[&str], input: &str) -> Result<String, String> {
    let path = scratch("input");
    std::fs::write(&path, input).expect("a file");
    let mut command = Command::new("promtool");
    command.args(args);
    command.stdin(std::fs::File::open(&path).expect("the file"));
    let done = start_command(command).finish();
    let said = format!("{}{}", done.stdout, done.stderr);
    match done.code {
        Some(0) => Ok(said),
        _ => Err(said),
    }
}

/// Plays a scene, and holds it against the rules: again if they disagree, and something else happened than the scene meant, which
/// it returns beside what it watched. A busy machine costs prices.
pub fn play(scene: impl Fn() -> (Watch, Option<String>)) {
    for attempt in 1.. {
        let (watch, disturbed) = scene();
        let disturbed = disturbed.or_else(|| {
            let gap = watch.gap();
            (gap > GAP_MAX).then(|| format!("{gap} scrapes are missing"))
        });
        let Err(said) = watch.judge() else { return };
        match disturbed {
            Some(what) if attempt < ATTEMPTS => println!("attempt {attempt}: {what}; {said}"),
            what => panic!("attempt {attempt}, {what:?}: {said}"),
        }
    }
}
