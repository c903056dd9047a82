//! Rounds of several feeds by `rsoracle aggregate`, whose collectors the test plays: three feeds and seven slots, one of which
//! prices only two of them. Each feed has a chain of its own in one journal, and what goes wrong with one costs no other.

mod support;

use nanoserde::DeJson;
use rsoracle::keys::create;
use rsoracle::system::now::wall_us;
use rsoracle_proof::answer::answer;
use rsoracle_proof::record::Record;
use rsoracle_proof::roster::Roster;
use rsoracle_proof::round::Round;
use rsoracle_proof::seal::{PublicKey, hex, samples_digest};
use rsoracle_proof::terms::tag;
use rsoracle_proof::utc::{utc_text, utc_us};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::peer::*;
use support::*;

const FEEDS: [&str; 3] = ["BTC/USD", "ETH/USD", "SOL/USD"];
const SLOTS: u16 = 7;
/// The slot that does not price the second feed.
const PARTIAL: u16 = 5;
/// Samples of a round.
const SAMPLES: u32 = 2;

/// A price of a slot for a feed.
fn price(slot: u16, feed: usize) -> f64 {
    [87_000.0, 3_000.0, 150.0][feed] + f64::from(slot)
}

/// The roster of the first `feeds` feeds, with a round every second.
fn roster_text(feeds: usize) -> String {
    let mut text = "number = 1\nprevious = \"\"\n".to_owned();
    for feed in &FEEDS[..feeds] {
        text += &format!(
            "[feed.\"{feed}\"]\nrule = \"trimmed-mean\"\nsample_rule = \"mean\"\nmin_exchanges = 1\nmax_age = \"\"\nmax_spread = \"\"\nsamples = {SAMPLES}\ninterval = \"20ms\"\nperiod = \"1s\"\nfirst_start = \"2026-01-01T00:00:00Z\"\nend = \"\"\n"
        );
    }
    for slot in 0..SLOTS {
        let watches = |(at, feed): (usize, &&str)| match (slot, at) {
            (PARTIAL, 1) => "\"\"".to_owned(),
            _ => format!("\"kraken:{feed}\""),
        };
        let sources: Vec<String> = FEEDS[..feeds].iter().enumerate().map(watches).collect();
        let (key, sources) = (collector_key(slot).public(), sources.join(", "));
        let key = hex(key.bytes());
        text += &format!("[slot.{slot}]\nkey = \"{key}\"\nsources = [{sources}]\n");
    }
    text
}

/// The files of an aggregator.
struct Place {
    dir: PathBuf,
    key: PublicKey,
    roster: Roster,
}

impl Place {
    fn new() -> Place {
        let dir = scratch("roster.toml").parent().unwrap().to_owned();
        let key = create(dir.join("aggregator.key").to_str().unwrap()).expect("a key file");
        let mut place = Place {
            dir,
            key,
            roster: Roster::parse(&roster_text(3)).expect("a roster"),
        };
        place.use_feeds(3);
        place
    }

    /// From now on its roster has the first `feeds` feeds.
    fn use_feeds(&mut self, feeds: usize) {
        std::fs::write(self.dir.join("roster.toml"), roster_text(feeds)).unwrap();
        self.roster = Roster::parse(&roster_text(feeds)).expect("a roster");
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = rsoracle();
        command.args(["aggregate", "--roster", &self.path("roster.toml")]);
        command.args(["--journal", &self.path("journal")]);
        command.args(["--control-port", "0", "--data-port", "0"]);
        command.args(["--ready-timeout", "4m"]).args(more);
        if !more.contains(&"--aggregator-key") {
            command.args(["--aggregator-key", &self.path("aggregator.key")]);
        }
        command.stdin(Stdio::null());
        command
    }

    /// Starts the aggregator and its collectors, which are ready for all their feeds. No round has begun.
    fn start(&self, more: &[&str]) -> Fair<'_> {
        self.start_command(self.command(more))
    }

    fn start_command(&self, command: Command) -> Fair<'_> {
        let running = start_command(command);
        let (control, data) = running.channels();
        let greeting = running.stderr_line("this aggregator's key is ");
        let digest = hex(&self.roster.digest()[..8]);
        assert!(greeting.contains(&format!("of its roster begins with {digest}; ")));
        for terms in &self.roster.feeds {
            let digest = hex(&terms.digest()[..8]);
            let begins = format!(
                "{}: the digest of its terms begins with {digest}",
                terms.feed
            );
            assert!(greeting.contains(&begins), "{greeting}");
        }
        let mut fair = Fair {
            players: Vec::new(),
            place: self,
            running,
            ports: (control, data),
        };
        fair.connect(|_| true);
        fair
    }

    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("journal")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The journal's reports, after a check of all chains against the roster.
    fn reports(&self) -> Vec<Kept> {
        let verified = run(&[
            "verify",
            &self.path("journal"),
            "--roster",
            &self.path("roster.toml"),
        ]);
        let (out, err) = (&verified.stdout, &verified.stderr);
        assert_eq!(verified.code, Some(0), "{out}{err}");
        let lines = self.lines();
        let reports = lines
            .iter()
            .filter(|line| line.starts_with("{\"rsoracle_report\""));
        reports.map(|line| Kept::of(line)).collect()
    }

    /// The numbers of a feed's reports.
    fn numbers(&self, feed: usize) -> Vec<u64> {
        let reports = self.reports().into_iter();
        let of_feed = reports.filter(|report| report.feed == FEEDS[feed]);
        of_feed.map(|report| report.number).collect()
    }
}

/// The feeds that a slot prices, with its seat in each.
fn seats(roster: &Roster, slot: u16) -> Vec<(usize, u16)> {
    let feeds = 0..roster.feeds.len();
    let seat = |feed| Some((feed, roster.seat_of(feed, usize::from(slot))?));
    feeds.filter_map(seat).collect()
}

/// The fields of a report that these tests read.
#[derive(DeJson, Clone)]
struct Kept {
    number: u64,
    feed: String,
    price: Option<f64>,
    round_start_us: u64,
    collectors: Vec<Part>,
}

#[derive(DeJson, Clone)]
struct Part {
    standing: String,
}

impl Kept {
    fn of(line: &str) -> Kept {
        Kept::deserialize_json(line).unwrap_or_else(|error| panic!("{error} in {line:?}"))
    }

    /// The seats whose price counted.
    fn counted(&self) -> Vec<usize> {
        let parts = self.collectors.iter().enumerate();
        let counts = |part: &Part| ["used", "trimmed"].contains(&part.standing.as_str());
        parts
            .filter_map(|(seat, part)| counts(part).then_some(seat))
            .collect()
    }
}

/// A running aggregator and its collectors.
struct Fair<'a> {
    players: Vec<TestCollector>,
    place: &'a Place,
    running: Running,
    /// Addresses of the control port and of the data port.
    ports: (SocketAddr, SocketAddr),
}

/// What a collector sends of one feed in a round.
struct Sent {
    records: Vec<Record>,
    frame: Vec<u8>,
}

impl Fair<'_> {
    /// Connects all collectors, again if they are connected, and makes them ready for those of their feeds of which `is` is true.
    fn connect(&mut self, is: impl Fn(usize) -> bool) {
        let roster = &self.place.roster;
        let (control, data) = self.ports;
        self.players.clear();
        let players = (0..SLOTS).map(|slot| {
            let key = collector_key(slot);
            let mut control = Peer::connect(control);
            let challenge = rsoracle::wire::Challenge::decode(&control.next()).unwrap();
            control.send(&hello(&key, &challenge.nonce, &self.place.key).encode());
            TestCollector::over(slot, key, roster.feeds[0].clone(), control, data)
        });
        self.players = players.collect();
        for player in &mut self.players {
            eventually("the first ping", || player.tend().then_some(()));
            let feeds = seats(roster, player.slot).into_iter();
            for (feed, seat) in feeds.filter(|(feed, _)| is(*feed)) {
                let ready = rsoracle::wire::Ready {
                    terms_digest: roster.feeds[feed].digest(),
                    slot: seat,
                    price: price(player.slot, feed),
                };
                player.control.send(&ready.encode());
            }
        }
    }

    /// The start of the first round, once all are ready.
    fn first_start(&mut self) -> u64 {
        let line = self.running.stderr_line(" collectors ready; ");
        assert!(line.contains("7 of 7 collectors ready"), "{line}");
        utc_us(line.rsplit_once("from ").expect("a time").1).expect("a time")
    }

    fn round(&self, feed: usize, start_us: u64) -> RoundOf {
        RoundOf::new(&self.place.roster.feeds[feed], start_us)
    }

    /// What a slot honestly sends of a feed.
    fn honest(&self, slot: u16, feed: usize, start_us: u64) -> Option<Sent> {
        let seat = self.place.roster.seat_of(feed, usize::from(slot))?;
        let (round, records) = (
            self.round(feed, start_us),
            records(SAMPLES, price(slot, feed)),
        );
        let terms = &self.place.roster.feeds[feed];
        let interval_us = terms.schedule.interval_us;
        let (said, at_us) = answer(&records, start_us, interval_us, terms.sample_rule);
        let digest = samples_digest(&records);
        let player = &self.players[usize::from(slot)];
        let signed = player.sign_over(&context(seat, &round, &digest), said, at_us);
        Some(Sent {
            frame: data_frame(&round, &signed.encode()).to_vec(),
            records,
        })
    }

    /// Sends the samples of a feed.
    fn samples(&mut self, slot: u16, feed: usize, start_us: u64) {
        let round = self.round(feed, start_us);
        let sent = self
            .honest(slot, feed, start_us)
            .expect("it prices the feed");
        for record in &sent.records {
            self.players[usize::from(slot)].send_sample(&round, *record);
        }
    }

    /// Sends frames on a new data connection, in one write.
    fn observe(&self, slot: u16, frames: &[Vec<u8>]) -> Peer {
        let mut peer = self.players[usize::from(slot)].open_data();
        peer.send(&frames.concat());
        peer
    }

    /// All slots send what they should of the feeds for which `does` is true. Returns the data connections.
    fn play(&mut self, start_us: u64, does: impl Fn(u16, usize) -> bool) -> Vec<Peer> {
        sleep_until(start_us - 500_000);
        let mut peers = Vec::new();
        for slot in 0..SLOTS {
            self.players[usize::from(slot)].tend();
            let feeds = seats(&self.place.roster, slot)
                .into_iter()
                .map(|(feed, _)| feed);
            let feeds: Vec<usize> = feeds.filter(|feed| does(slot, *feed)).collect();
            feeds
                .iter()
                .for_each(|feed| self.samples(slot, *feed, start_us));
            let frames = feeds
                .iter()
                .filter_map(|feed| self.honest(slot, *feed, start_us));
            let frames: Vec<Vec<u8>> = frames.map(|sent| sent.frame).collect();
            peers.push(self.observe(slot, &frames));
        }
        peers
    }

    /// Waits for what the aggregator says of a round at its end.
    fn told(&self, start_us: u64) -> String {
        self.running
            .stderr_line(&format!("round of {}: ", utc_text(start_us)))
    }
}

fn feed_files(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a directory");
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn every_feed_has_its_own_price_and_chain_and_its_newest_report_in_its_own_file() {
    let place = Place::new();
    let latest = place.path("latest");
    let mut fair = place.start(&["--rounds", "2", "--latest", &latest]);
    let first_us = fair.first_start();
    for start_us in [first_us, first_us + 1_000_000] {
        let _peers = fair.play(start_us, |_, _| true);
        let said = fair.told(start_us);
        assert!(said.ends_with(": 3 of 3 feeds have a price"), "{said}");
    }
    let done = fair.running.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let reports = place.reports();
    let found: Vec<(&str, u64)> = reports.iter().map(|it| (&*it.feed, it.number)).collect();
    let expected = [1, 2]
        .map(|number| FEEDS.map(|feed| (feed, number)))
        .concat();
    assert_eq!(found, expected, "the feeds of a start stand in their order");
    let counts: Vec<usize> = reports.iter().map(|it| it.counted().len()).collect();
    assert_eq!(counts, [7, 6, 7, 7, 6, 7]);
    // Seven prices from 0 to 6 above, of which the two lowest and highest are dropped.
    assert_eq!(reports[0].price, Some(87_003.0));
    // Standard output has a line for each feed of each round, and so have the files their newest.
    let printed: Vec<&str> = done
        .stdout
        .lines()
        .filter_map(|it| it.split(' ').next())
        .collect();
    assert_eq!(printed, [FEEDS, FEEDS].concat());
    let newest = place.lines()[3..].to_vec();
    let beside = std::fs::read_to_string(place.path("journal.newest")).unwrap();
    assert_eq!(beside.lines().collect::<Vec<_>>(), newest);
    let files = ["BTC-USD.json", "ETH-USD.json", "SOL-USD.json"];
    assert_eq!(feed_files(Path::new(&latest)), files);
    for (file, line) in files.iter().zip(&newest) {
        let found = std::fs::read_to_string(format!("{latest}/{file}")).unwrap();
        assert_eq!(found, format!("{line}\n"));
    }
}

#[test]
fn what_is_missing_of_one_feed_costs_no_other_and_one_feed_below_its_quorum_is_exit_code_3() {
    let place = Place::new();
    let mut fair = place.start(&["--rounds", "1", "--json"]);
    let start_us = fair.first_start();
    // Of the second feed, six slots have a quorum of four: 0, 1, 5 and 6 give no price. Of the third, slot 2 gives none.
    let _peers = fair.play(start_us, |slot, feed| match feed {
        0 => slot != 0,
        1 => (2..5).contains(&slot),
        _ => slot != 2,
    });
    // The answer for the first feed stands before one for the third, and its samples never come.
    let frames = [0, 2].map(|feed| fair.honest(0, feed, start_us).unwrap().frame);
    let _waits = fair.observe(0, &frames);
    let said = fair.told(start_us);
    let done = fair.running.finish();
    assert_eq!(done.code, Some(3), "{}", done.stderr);
    for part in [
        ": 2 of 3 feeds have a price; BTC/USD: without collector 0 (kraken) since ",
        "; ETH/USD: no price: 3 of 6 collectors gave a price, 4 are needed (quorum); without collectors 0-1, 6 since ",
        "; SOL/USD: without collector 2 (kraken) since ",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let absent = "ETH/USD: collector 6 (kraken): no price since ";
    assert!(done.stderr.contains(absent), "{}", done.stderr);
    assert!(
        done.stderr.contains(
            "refused: 1 × an observation without all of its samples; 1 × the same observation again"
        ),
        "{}",
        done.stderr
    );
    let reports = place.reports();
    let counted: Vec<Vec<usize>> = reports.iter().map(Kept::counted).collect();
    assert_eq!(
        counted,
        [
            vec![1, 2, 3, 4, 5, 6],
            vec![2, 3, 4],
            vec![0, 1, 3, 4, 5, 6]
        ]
    );
    let prices: Vec<bool> = reports.iter().map(|it| it.price.is_some()).collect();
    assert_eq!(prices, [true, false, true]);
    // A report without a price is in the journal only.
    assert_eq!(done.stdout.lines().count(), 2);
}

#[test]
fn a_collector_that_connects_again_sends_all_of_a_start_and_what_is_there_already_costs_nothing() {
    let place = Place::new();
    let mut fair = place.start(&["--rounds", "1"]);
    let start_us = fair.first_start();
    let _peers = fair.play(start_us, |slot, feed| slot != 1 || feed == 0);
    (1..3).for_each(|feed| fair.samples(1, feed, start_us));
    let frames = [0, 1, 2].map(|feed| fair.honest(1, feed, start_us).unwrap().frame);
    let _again = fair.observe(1, &frames);
    let done = fair.running.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let counts: Vec<usize> = place
        .reports()
        .iter()
        .map(|it| it.counted().len())
        .collect();
    assert_eq!(counts, [7, 6, 7]);
    let refused = "refused: 1 × the same observation again";
    assert!(done.stderr.contains(refused), "{}", done.stderr);
}

#[test]
fn a_round_is_not_over_early_for_a_feed_of_which_all_collectors_may_be_about_to_connect_again() {
    let place = Place::new();
    let mut fair = place.start(&[]);
    let first_us = fair.first_start();
    let _peers = fair.play(first_us, |_, _| true);
    fair.told(first_us);
    // Nobody is ready for the second feed any more, and all answer for the others.
    fair.connect(|feed| feed != 1);
    let second_us = first_us + 1_000_000;
    let _peers = fair.play(second_us, |_, feed| feed != 1);
    let said = fair.told(second_us);
    let end_us = Round::new(place.roster.feeds[1].clone(), second_us).end_us();
    assert!(wall_us() >= end_us, "{said}");
}

#[test]
fn a_collectors_silence_about_one_feed_is_not_told_of_another() {
    let place = Place::new();
    let mut fair = place.start(&[]);
    let first_us = fair.first_start();
    let _peers = fair.play(first_us, |slot, feed| (slot, feed) != (0, 1));
    fair.told(first_us);
    fair.players.remove(0);
    fair.told(first_us + 1_000_000);
    let said = fair.running.stderr();
    let of = |begin: &str| {
        let begin = format!("aggregator: {begin}: collector 0 (kraken): no price since ");
        let line = said.lines().find(|line| line.starts_with(&begin));
        line.unwrap_or_else(|| panic!("{begin}: {said}")).to_owned()
    };
    let line = of("ETH/USD");
    assert!(line.ends_with(": silent; no answer in time"), "{line}");
    let line = of("BTC/USD, SOL/USD");
    let ended = ": silent; its control connection ended";
    assert!(line.ends_with(ended), "{line}");
}

#[test]
fn an_answer_under_the_tag_of_another_feed_is_refused_and_told_of_that_feed_alone() {
    let place = Place::new();
    let mut fair = place.start(&["--rounds", "1"]);
    let start_us = fair.first_start();
    let _peers = fair.play(start_us, |slot, feed| {
        (slot, feed) != (0, 1) && (slot, feed) != (0, 2) && slot != PARTIAL
    });
    // The answer for one feed under the tag of another, whose samples are there.
    fair.samples(0, 1, start_us);
    let mut frame = fair.honest(0, 0, start_us).unwrap().frame;
    let other = tag(&place.roster.feeds[1].digest());
    frame[..8].copy_from_slice(&other);
    let mut wrong = fair.observe(0, &[frame]);
    wrong.until_ended();
    // A feed that the slot does not price.
    let mut frame = fair.honest(PARTIAL, 0, start_us).unwrap().frame;
    frame[..8].copy_from_slice(&other);
    fair.observe(PARTIAL, &[frame]).until_ended();
    let done = fair.running.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    for part in [
        "1 × the slot is not the one of this key",
        "1 × the observation's signature",
    ] {
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }
    let silent = |feed: &str, why: &str| {
        let begin = format!("aggregator: {feed}: collector 0 (kraken): no price since ");
        let line = done.stderr.lines().find(|line| line.starts_with(&begin));
        let why = format!(": silent; {why}");
        assert!(
            line.is_some_and(|line| line.contains(&why)),
            "{}",
            done.stderr
        );
    };
    silent("ETH/USD", "an answer under its key was refused");
    silent("SOL/USD", "no answer in time");
    let counted: Vec<Vec<usize>> = place.reports().iter().map(Kept::counted).collect();
    assert_eq!(counted[0], [0, 1, 2, 3, 4, 6]);
    assert_eq!(counted[1], [1, 2, 3, 4, 5], "the last seat is slot 6's");
}

/// Plays a round, and kills the aggregator after it.
fn one_round_and_kill(place: &Place, more: &[&str]) -> u64 {
    let mut fair = place.start(more);
    let start_us = fair.first_start();
    let _peers = fair.play(start_us, |_, _| true);
    let start = format!("\"round_start_us\":{start_us},");
    let newest = place.path("journal.newest");
    eventually("the newest reports stand beside the journal", || {
        let text = std::fs::read_to_string(&newest).unwrap_or_default();
        let there = text.matches(&start).count();
        (there == place.roster.feeds.len()).then_some(())
    });
    fair.running.signal("KILL");
    fair.running.finish();
    start_us
}

/// Asserts that a start is refused for a reason, and that the journal stays as it is.
fn assert_refused(place: &Place, more: &[&str], says: &str) {
    let before = place.lines();
    let mut running = start_command(place.command(more));
    eventually("it ends, or goes on", || {
        let goes_on = running.stderr().contains("control channel on ");
        (running.ended() || goes_on).then_some(())
    });
    running.signal("TERM");
    let done = running.finish();
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(done.stderr.contains(says), "{}", done.stderr);
    assert_eq!(place.lines(), before);
}

#[test]
fn a_killed_run_goes_on_in_every_chain_unless_one_of_them_has_lost_its_end() {
    let place = Place::new();
    for _ in 0..2 {
        one_round_and_kill(&place, &[]);
    }
    // The end of the second chain is missing, and those of the others are there.
    let (journal, whole) = (place.path("journal"), place.lines());
    let mut cut = whole.clone();
    cut.remove(4);
    let text = |lines: &[String]| -> String { lines.iter().map(|it| format!("{it}\n")).collect() };
    std::fs::write(&journal, text(&cut)).unwrap();
    let says = "ETH/USD: it ends at report 1, but its key has signed report 2, which ";
    assert_refused(&place, &[], says);
    // A chain is missing as a whole.
    cut.remove(1);
    std::fs::write(&journal, text(&cut)).unwrap();
    assert_refused(
        &place,
        &[],
        "ETH/USD: it has no report, but its key has signed report 2",
    );
    // Killed after a part of the round was written: what is there counts, and the chains go on from their own ends.
    std::fs::write(&journal, text(&whole[..4]) + &whole[4][..50]).unwrap();
    std::fs::write(place.path("journal.newest"), text(&whole[..3])).unwrap();
    let start_us = one_round_and_kill(&place, &[]);
    assert_eq!([0, 1, 2].map(|feed| place.numbers(feed).len()), [3, 2, 2]);
    let last = place.reports().pop().expect("a report");
    assert_eq!((last.number, last.round_start_us), (2, start_us));
}

#[test]
fn a_feed_that_comes_later_begins_its_chain_and_one_that_goes_keeps_its_end() {
    let mut place = Place::new();
    place.use_feeds(2);
    one_round_and_kill(&place, &[]);
    place.use_feeds(3);
    one_round_and_kill(&place, &[]);
    assert_eq!(
        [0, 1, 2].map(|feed| place.numbers(feed)),
        [vec![1, 2], vec![1, 2], vec![1]]
    );
    // Without the third, then with it again: its number goes on, though the file beside the journal is all that tells of it.
    place.use_feeds(2);
    one_round_and_kill(&place, &[]);
    for (file, expected) in [
        ("journal.newest", &FEEDS[..2]),
        ("journal.newest.others", &FEEDS[2..]),
    ] {
        let beside = std::fs::read_to_string(place.path(file)).unwrap();
        let feeds: Vec<String> = beside.lines().map(|line| Kept::of(line).feed).collect();
        assert_eq!(feeds, expected, "{file}");
    }
    place.use_feeds(3);
    let third = place.lines()[4].clone();
    let cut: String = place
        .lines()
        .iter()
        .filter(|it| **it != third)
        .map(|it| format!("{it}\n"))
        .collect();
    let whole = std::fs::read(place.path("journal")).unwrap();
    std::fs::write(place.path("journal"), cut).unwrap();
    assert_refused(
        &place,
        &[],
        "SOL/USD: it has no report, but its key has signed report 1",
    );
    std::fs::write(place.path("journal"), whole).unwrap();
    std::fs::remove_file(place.path("journal.newest")).unwrap();
    one_round_and_kill(&place, &[]);
    assert_eq!([0, 1, 2].map(|feed| place.numbers(feed).len()), [4, 4, 2]);
}

#[test]
fn a_round_whose_reports_do_not_fit_on_the_disk_publishes_none_of_them() {
    let place = Place::new();
    one_round_and_kill(&place, &[]);
    let before = std::fs::read(place.path("journal")).unwrap();
    // Two of three reports fit, in blocks of 512 bytes.
    let blocks = before.len() * 5 / 3 / 512;
    let inner = place.command(&["--latest", &place.path("latest")]);
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("ulimit -f {blocks}; exec \"$0\" \"$@\"")]);
    limited
        .arg(inner.get_program())
        .args(inner.get_args())
        .stdin(Stdio::null());
    let mut fair = place.start_command(limited);
    let start_us = fair.first_start();
    let _peers = fair.play(start_us, |_, _| true);
    let said = fair.running.stderr_line("this round is not published");
    assert!(said.contains("(ulimit -f)"), "{said}");
    assert_eq!(std::fs::read(place.path("journal")).unwrap(), before);
    assert_eq!(fair.running.stdout(), "");
    // The files have the reports of the round before.
    let newest = std::fs::read_to_string(place.path("latest/SOL-USD.json")).unwrap();
    assert_eq!(Kept::of(&newest).number, 1);
}

#[test]
fn another_key_of_the_aggregator_takes_over_every_chain() {
    let mut place = Place::new();
    one_round_and_kill(&place, &[]);
    let (new, old) = (place.path("new.key"), place.path("aggregator.key"));
    place.key = create(&new).expect("a key file");
    let key = ["--aggregator-key", new.as_str()];
    assert_refused(&place, &key, "it is signed with another aggregator key");
    one_round_and_kill(&place, &[&key[..], &["--retire-key", &old]].concat());
    let changes: Vec<String> = place.lines()[3..6].to_vec();
    for (line, feed) in changes.iter().zip(FEEDS) {
        let begin = format!("{{\"rsoracle_key_change\":2,\"feed\":\"{feed}\",");
        assert!(line.starts_with(&begin), "{line}");
    }
    one_round_and_kill(&place, &key);
    assert_eq!(
        [0, 1, 2].map(|feed| place.numbers(feed)),
        [[1, 2, 3], [1, 2, 3], [1, 2, 3]]
    );
}

#[test]
fn of_several_files_that_cannot_be_replaced_the_first_is_named_and_the_others_are() {
    let place = Place::new();
    let latest = place.path("latest");
    let mut fair = place.start(&["--latest", &latest, "--rounds", "1"]);
    let start_us = fair.first_start();
    for name in [
        "journal.newest",
        "latest/BTC-USD.json",
        "latest/SOL-USD.json",
    ] {
        std::fs::create_dir(place.path(name)).unwrap();
    }
    let _peers = fair.play(start_us, |_, _| true);
    let done = fair.running.finish();
    let first = format!("cannot replace {}: it is not", place.path("journal.newest"));
    assert!(done.stderr.contains(&first), "{}", done.stderr);
    assert_eq!(done.code, Some(1));
    let text = std::fs::read_to_string(place.path("latest/ETH-USD.json")).unwrap();
    assert_eq!(Kept::of(&text).number, 1, "it could be replaced, and was");
}

#[test]
#[ignore = "needs strace"]
fn the_files_of_the_newest_reports_cost_no_sync_if_a_journal_holds_them() {
    // How often the aggregator waits for the disk, in a run of one round.
    let syncs = |with_latest: bool| {
        let place = Place::new();
        let trace = place.path("trace");
        let latest = place.path("latest");
        let latest = ["--latest", &latest];
        let more = if with_latest { &latest[..] } else { &[] };
        let inner = place.command(&[&["--rounds", "1"], more].concat());
        let mut command = Command::new("strace");
        command.args(["-D", "-o", &trace, "-e", "trace=fsync,fdatasync"]);
        command.arg(inner.get_program()).args(inner.get_args());
        command.stdin(Stdio::null());
        let mut fair = place.start_command(command);
        let start_us = fair.first_start();
        let _peers = fair.play(start_us, |_, _| true);
        let done = fair.running.finish();
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let calls = eventually("the trace is whole", || {
            let text = std::fs::read_to_string(&trace).ok()?;
            text.contains("+++ exited").then_some(text)
        });
        calls.lines().filter(|line| line.contains("sync(")).count()
    };
    assert_eq!(syncs(true), syncs(false));
}

#[test]
fn a_file_is_no_directory_for_the_newest_reports() {
    let place = Place::new();
    std::fs::write(place.path("file"), "").unwrap();
    for name in ["file", "file/in/it"] {
        let latest = place.path(name);
        let says = format!(
            "cannot create the directory {latest}: {} is not a directory; with several feeds, --latest names a directory",
            place.path("file")
        );
        assert_refused(&place, &["--latest", &latest], &says);
        let done = start_command(place.command(&["--latest", &latest, "--check"])).finish();
        let said = done.stdout + &done.stderr;
        assert!(done.code == Some(1) && said.contains(&says), "{said}");
    }
}

#[test]
fn run_starts_a_collector_for_each_slot_that_watches_all_its_feeds_and_writes_the_whole_roster() {
    let place = Place::new();
    let (journal, roster) = (place.path("journal"), place.path("roster.toml"));
    let keys = place.path("keys");
    std::fs::create_dir(&keys).unwrap();
    let feeds = [
        "--feed", "BTC/USD", "--feed", "ETH/USD", "--source", "embedded",
    ];
    let round = ["--samples", "2", "--interval", "100ms", "--every", "1s"];
    let files = [
        "--journal",
        &journal,
        "--write-roster",
        &roster,
        "--collector-keys",
        &keys,
    ];
    let ports = ["--control-port", "0", "--data-port", "0"];
    let running = start(
        &[
            &["run", "--rounds", "3"],
            &feeds[..],
            &round,
            &files,
            &ports,
        ]
        .concat(),
    );
    let words = arguments(running.collector(4));
    let sources = words.windows(2).filter(|pair| pair[0] == "--source");
    let sources: Vec<&str> = sources.map(|pair| pair[1].as_str()).collect();
    assert_eq!(sources, ["embedded:BTCUSDC", "embedded:ETHUSDC"]);
    let collectors = running.children().into_iter();
    let collectors =
        collectors.filter(|id| arguments(*id).get(1).is_some_and(|it| it == "collect"));
    assert_eq!(collectors.count(), 5);
    let done = running.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let written = Roster::parse(&std::fs::read_to_string(&roster).unwrap()).expect("a roster");
    assert_eq!((written.feeds.len(), written.slots.len()), (2, 5));
    assert_eq!([0, 1].map(|feed| place.numbers(feed)), [[1, 2, 3]; 2]);
}

#[test]
fn a_single_round_of_several_feeds_tells_of_each_collector_only_if_something_is_wrong() {
    let feeds = [
        "run", "--feed", "BTC/USD", "--feed", "ETH/USD", "--source", "embedded",
    ];
    let round = [
        "--samples",
        "2",
        "--interval",
        "100ms",
        "--control-port",
        "0",
        "--data-port",
        "0",
    ];
    // A busy machine may not manage a whole round at once, so the first round in which it does is checked.
    let done = eventually("a round in which all answer for both feeds", || {
        let done = run(&[&feeds[..], &round].concat());
        let prices = done.stderr.contains("sample 2 of 2: 10 prices of 2 feeds");
        let answers = done.stdout.matches("(5 of 5 signatures verified").count();
        (prices && answers == 2).then_some(done)
    });
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(
        done.stderr.contains(": 2 of 2 feeds have a price"),
        "{}",
        done.stderr
    );
    assert!(!done.stderr.contains("collector 0"), "{}", done.stderr);
    let closing: Vec<&str> = done.stdout.lines().collect();
    assert!(closing[0].starts_with("embedded BTC/USD "), "{closing:?}");
    assert!(closing[1].starts_with("embedded ETH/USD "), "{closing:?}");
    // Nobody answers at this address.
    let nobody = format!("ws://{}/", nobodys_address());
    let nobody = ["--endpoint", &nobody, "--ready-timeout", "100ms", "--json"];
    let done = run(&[&feeds[..], &round, &nobody].concat());
    assert_eq!(done.code, Some(3), "{}", done.stderr);
    let missing = "no price: all feeds: 0 of 5 collectors became ready, 3 are needed (quorum); ";
    assert!(done.stderr.contains(missing), "{}", done.stderr);
    let printed: Vec<Kept> = done.stdout.lines().map(Kept::of).collect();
    let printed: Vec<(&str, Option<f64>)> =
        printed.iter().map(|it| (&*it.feed, it.price)).collect();
    assert_eq!(printed, [("BTC/USD", None), ("ETH/USD", None)]);
}
