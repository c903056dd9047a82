//! Rounds without end while processes are killed and stopped: whatever dies, the journal stays complete, the next round starts
//! on time, and collectors that return take part again.

mod chronicle;
mod support;
mod witness;

use chronicle::*;
use std::time::{Duration, Instant};
use support::*;
use witness::*;

// A sample may be late by half the interval, so a long interval keeps a busy machine from disturbing these tests.
const FAST: [&str; 6] = ["--every", "150ms", "--samples", "1", "--interval", "150ms"];
const FAST_US: u64 = 150_000;
const CALM: [&str; 6] = ["--every", "1s", "--samples", "2", "--interval", "400ms"];
const CALM_US: u64 = 1_000_000;

/// Pseudorandom numbers from a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    /// Takes the seed from RSORACLE_SEED, otherwise from the clock, and prints it, so that a failed test can be repeated.
    fn new() -> Dice {
        let named = std::env::var("RSORACLE_SEED").ok();
        let seed = named.map(|seed| seed.parse().expect("RSORACLE_SEED is a number"));
        let seed = seed.unwrap_or_else(rsoracle::system::now::wall_us);
        println!("RSORACLE_SEED={seed}");
        Dice(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Kills and stops an aggregator's collectors at random.
#[derive(Default)]
struct Chaos {
    /// The stopped process, and until when it stays stopped.
    stopped: Vec<(u32, Instant)>,
    killed: u32,
    stops: u32,
}

impl Chaos {
    fn strike(&mut self, running: &Running, dice: &mut Dice) {
        self.stopped.retain(|(id, until)| {
            let over = Instant::now() >= *until;
            if over {
                signal(*id, "CONT");
            }
            !over
        });
        let victims = collectors(running);
        if victims.is_empty() {
            return;
        }
        let victim = victims[dice.below(victims.len() as u64) as usize];
        match dice.below(25) {
            0 => {
                signal(victim, "KILL");
                self.killed += 1;
            }
            1 | 2 => {
                signal(victim, "STOP");
                let stop = Duration::from_millis(20 + dice.below(600));
                self.stopped.push((victim, Instant::now() + stop));
                self.stops += 1;
            }
            _ => {}
        }
    }

    fn relent(&mut self) {
        for (id, _) in self.stopped.drain(..) {
            signal(id, "CONT");
        }
    }
}

#[test]
fn three_hundred_rounds_survive_whatever_is_killed_or_stopped() {
    const LIVES: usize = 11;
    const ROUNDS: usize = 300;
    let mut dice = Dice::new();
    let chronicle = Chronicle::new();
    let (_exchange, url) = exchange(&[]);
    let args = [&FAST[..], &["--json", "--endpoint", &url]].concat();
    let mut printed = Vec::new();
    let mut chaos = Chaos::default();
    for life in 1..=LIVES {
        let (command, mark) = chronicle.command(&args);
        let mut running = start_command(command);
        let until = ROUNDS * life / LIVES;
        eventually(&format!("{until} reports in {life} lives"), || {
            assert!(!running.ended(), "{}", running.stderr());
            chaos.strike(&running, &mut dice);
            std::thread::sleep(Duration::from_millis(15));
            (chronicle.lines().len() >= until).then_some(())
        });
        std::thread::sleep(Duration::from_micros(dice.below(FAST_US)));
        running.signal("KILL");
        eventually("the aggregator ends", || running.ended().then_some(()));
        chaos.relent();
        until_nobody_is_left(&mark);
        printed.extend(whole(&running.stdout()));
    }
    // One more run repairs what the last kill interrupted, and ends by itself.
    let (mut command, mark) = chronicle.command(&args);
    command.args(["--rounds", "2"]);
    let done = start_command(command).finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(bearers(&mark), [], "nobody is left");
    printed.extend(whole(&done.stdout));
    let reports = chronicle.assert_whole(FAST_US);
    chronicle.assert_holds(&printed);
    let published = reports
        .iter()
        .filter(|report| report.decision == "published");
    let published = published.count();
    println!(
        "{} reports, {published} published, {} printed; {} collectors killed, {} stopped, {LIVES} aggregators killed",
        reports.len(),
        printed.len(),
        chaos.killed,
        chaos.stops
    );
    assert!(reports.len() >= ROUNDS && chaos.killed > 0 && chaos.stops > 0);
    // A killed aggregator may have written a report that it did not print: at most one per run.
    assert!((printed.len()..=printed.len() + LIVES).contains(&published));
    assert!(published > ROUNDS / 10, "{published} published");
}

fn open_files(id: u32) -> usize {
    let files = std::fs::read_dir(format!("/proc/{id}/fd")).expect("it runs");
    files.count()
}

#[test]
fn a_killed_collector_is_started_again_after_growing_pauses_and_takes_part_again() {
    let chronicle = Chronicle::new();
    let running = chronicle.start(&CALM);
    let before = chronicle.until(0, "five prices", |kept| kept.prices == 5);
    let files = open_files(running.id());
    let mut killed = running.collector(2);
    for (count, pause_ms_min) in [(1, 250), (2, 500), (3, 1_000)] {
        let since = Instant::now();
        signal(killed, "KILL");
        running.stderr_line(&format!("collector 2 (embedded): started again ({count})"));
        let paused = since.elapsed();
        assert!(paused >= Duration::from_millis(pause_ms_min), "{paused:?}");
        killed = eventually("another process in its slot", || {
            Some(running.collector(2)).filter(|id| *id != killed)
        });
    }
    let old = before.key_with_price(2);
    let after = chronicle.lines().len();
    let again = chronicle.until(after, "it takes part again", |kept| {
        kept.key_with_price(2).is_some()
    });
    assert_ne!(again.key_with_price(2), old, "its key is a new one");
    for slot in [0, 1, 3, 4] {
        let key = before.collectors[slot].key.clone();
        assert_eq!(again.collectors[slot].key, key, "slot {slot}");
    }
    running.stderr_line("3 restarts");
    eventually("no file of those that died is left open", || {
        (open_files(running.id()) <= files).then_some(())
    });
    hold(&running);
    let reports = chronicle.assert_whole(CALM_US);
    // It was down for longer than the longest pause, so at a round's start too. (A collector that is up may abstain instead.)
    let later = reports.iter().filter(|kept| kept.number > before.number);
    let silent = |kept: &&Kept| kept.collectors[2].standing == "silent";
    assert!(later.clone().any(|kept| silent(&kept)));
    for kept in later.filter(|kept| kept.collectors[2].price.is_none()) {
        assert!(silent(&kept) || kept.collectors[2].standing == "abstained");
        assert!(kept.prices < 5);
    }
}

#[test]
fn a_stopped_collector_costs_its_own_price_only_and_no_round_its_start() {
    let chronicle = Chronicle::new();
    let (_exchange, url) = exchange(&[]);
    let running = chronicle.start(&[&CALM[..], &["--endpoint", &url]].concat());
    let before = chronicle.until(0, "five prices", |kept| kept.prices == 5);
    let stopped = running.collector(1);
    signal(stopped, "STOP");
    let silent = |kept: &Kept| kept.collectors[1].standing == "silent" && kept.prices == 4;
    let first = chronicle.until(0, "a round without it", silent);
    // On a busy machine, a round may be skipped for another reason, but not several in a row.
    let mut last = first;
    eventually("a round, after a silent one, at the next start", || {
        let next = chronicle.reports().pop()?;
        let on_time = silent(&last) && next.round_start_us == last.round_start_us + CALM_US;
        last = next;
        on_time.then_some(())
    });
    signal(stopped, "CONT");
    let after = chronicle.lines().len();
    let again = chronicle.until(after, "it takes part again", |kept| {
        kept.key_with_price(1).is_some()
    });
    // It missed rounds, which is no reason to end.
    assert_eq!(again.key_with_price(1), before.key_with_price(1));
    assert_eq!(running.collector(1), stopped);
    assert!(!running.stderr().contains("started again"));
    hold(&running);
    chronicle.assert_whole(CALM_US);
}

#[test]
fn an_exchange_that_dies_and_comes_back_costs_rounds_and_no_collector() {
    let chronicle = Chronicle::new();
    // No other program on this machine gets a port on this address before the exchange is back.
    let dies = start(&["exchange", "--listen", "127.81.7.3:0"]);
    let url = eventually("the exchange listens", || {
        let text = dies.stdout();
        let (line, _) = text.split_once('\n')?;
        line.strip_prefix("listening on ").map(str::to_owned)
    });
    let (mut command, _) = chronicle.command(&CALM);
    command.args(["--json", "--endpoint", &url]);
    let running = start_command(command);
    let before = chronicle.until(0, "five prices", |kept| kept.prices == 5);
    dies.signal("KILL");
    drop(dies);
    let none = chronicle.until(0, "a round without a price", |kept| {
        kept.decision == "no-quorum"
    });
    assert_eq!((none.price, none.time_us), (None, None));
    chronicle.until(none.number as usize, "and another one", |kept| {
        kept.decision == "no-quorum"
    });
    running.stderr_line("no price: 0 of 5 collectors gave a price, 3 are needed (quorum)");
    let address = url.trim_start_matches("ws://").split('/').next().unwrap();
    let back = start(&["exchange", "--listen", address]);
    let after = chronicle.until(none.number as usize, "five prices again", |kept| {
        kept.prices == 5
    });
    for slot in 0..5 {
        assert_eq!(after.key_with_price(slot), before.key_with_price(slot));
    }
    assert!(!running.stderr().contains("started again"));
    hold(&running);
    let reports = chronicle.assert_whole(CALM_US);
    let printed = whole(&running.stdout());
    chronicle.assert_holds(&printed);
    let unpriced = reports.iter().filter(|kept| kept.price.is_none()).count();
    assert!(unpriced >= 2 && printed.len() <= reports.len() - unpriced + 1);
    drop(back);
}

#[test]
fn an_embedded_exchange_of_the_runs_own_is_started_again_where_it_was() {
    let chronicle = Chronicle::new();
    let running = chronicle.start(&CALM);
    chronicle.until(0, "five prices", |kept| kept.prices == 5);
    let of_exchange = |id: &u32| arguments(*id).get(1).is_some_and(|word| word == "exchange");
    let exchange = running.children().into_iter().find(of_exchange);
    signal(exchange.expect("the run has started one"), "KILL");
    running.stderr_line("the embedded exchange ended");
    running.stderr_line("embedded exchange: started again (1)");
    let after = chronicle.lines().len();
    chronicle.until(after, "five prices again", |kept| kept.prices == 5);
    assert!(
        !running
            .stderr()
            .contains("collector 0 (embedded): started again")
    );
}

#[test]
fn a_hanging_exchange_is_noticed_though_no_round_lasts_so_long() {
    let chronicle = Chronicle::new();
    let (_exchange, url) = exchange(&["--fault", "hang@9.."]);
    let rounds = ["--every", "400ms", "--samples", "1", "--interval", "400ms"];
    let running = chronicle.start(&[&rounds[..], &["--endpoint", &url]].concat());
    let before = chronicle.until(0, "prices", |kept| kept.prices >= 3);
    let after = before.number as usize;
    let hung = chronicle.until(after, "it hangs", |kept| kept.prices == 0);
    running.stderr_line("the exchange stopped answering; reconnecting");
    let after = hung.number as usize;
    chronicle.until(after, "prices over new connections", |kept| {
        kept.prices >= 3
    });
    assert!(!running.stderr().contains("started again"));
    hold(&running);
    chronicle.assert_whole(400_000);
}

#[test]
fn periods_that_leave_no_time_are_refused() {
    let refused = |args: &[&str], says: &str| {
        let done = run(&[&["run"], &SOURCE[..], args].concat());
        assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""));
        assert!(done.stderr.contains(says), "{args:?}: {}", done.stderr);
    };
    let longer = |period| format!("do not fit into a period of {period}");
    let samples = ["--samples", "5", "--interval", "20ms"];
    refused(&["--every", "9s"], &longer("9s"));
    let short = [&["--every", "100ms"], &samples[..]].concat();
    refused(&short, &longer("100ms"));
    refused(&["--every", "99ms"], "--every");
    refused(&["--every", "25h"], "--every");
    refused(&["--rounds", "3"], "--rounds needs --every");
    refused(&["--every", "10s", "--rounds", "0"], "--rounds");
    refused(&["--connection-age", "10ms"], "--connection-age");
}

#[test]
fn a_program_whose_file_was_replaced_goes_on_with_what_it_is() {
    let program = scratch("rsoracle");
    copy_program(env!("CARGO_BIN_EXE_rsoracle"), &program);
    let mut command = std::process::Command::new(&program);
    command.args(["run", "--source", "embedded:BTCUSDT", "--every", "500ms"]);
    command.args(["--samples", "1", "--interval", "500ms", "--json"]);
    command.args(["--control-port", "0", "--data-port", "0"]);
    command.stdin(std::process::Stdio::null());
    let running = start_command(command);
    eventually("a first report", || {
        (running.stdout().lines().count() > 0).then_some(())
    });
    // As an upgrade does: put another file under the same name.
    let other = program.with_extension("new");
    std::fs::write(&other, "no program").unwrap();
    std::fs::rename(&other, &program).unwrap();
    signal(running.collector(1), "KILL");
    running.stderr_line("collector 1 (embedded): started again (1)");
    let before = running.stdout().lines().count();
    eventually("all five give prices again", || {
        let text = running.stdout();
        let later = text.lines().skip(before);
        later
            .into_iter()
            .find(|line| line.contains("\"prices\":5,"))
            .map(|_| ())
    });
}

#[test]
fn what_is_wrong_is_said_once_with_its_cause_and_then_in_the_line_of_every_round() {
    let chronicle = Chronicle::new();
    let nobody = format!("ws://{}/ws-api/v3", nobodys_address());
    let away = ["--endpoint", &nobody, "--ready-timeout", "200ms"];
    let running = chronicle.start(&[&CALM[..], &away].concat());
    let told = |line: &str| {
        ["round of ", "without collectors 0-4 since ", "refused"]
            .iter()
            .all(|part| line.contains(part))
    };
    eventually("eight rounds say since when, and the cause", || {
        let text = running.stderr();
        (text.lines().filter(|line| told(line)).count() >= 8).then_some(())
    });
    let text = running.stderr();
    let rounds = text.lines().filter(|line| line.contains("round of "));
    let details = text
        .lines()
        .filter(|line| line.contains(": no price since "));
    // The first rounds may come before a collector has said what is wrong, and between two of its attempts.
    assert!(details.count() <= 3 * 5, "{text}");
    assert!(rounds.count() >= 8);
    running.signal("KILL");
}

#[test]
fn starts_that_are_skipped_are_told_with_the_cause_that_was_measured() {
    let chronicle = Chronicle::new();
    let running = chronicle.start(&CALM);
    // If it is stopped while it writes, it names the disk or standard output, which took so long. Then it is stopped once more.
    eventually("a skipped start with its cause", || {
        let seen = chronicle.reports().len();
        chronicle.until(seen, "a price", |kept| kept.decision == "published");
        running.stderr_line(&format!("report {}, round of ", seen + 1));
        running.signal("STOP");
        std::thread::sleep(Duration::from_secs(5));
        running.signal("CONT");
        running.stderr_line(" starts: ");
        let cause = " starts: this process was stopped or had no core for ";
        running.stderr().contains(cause).then_some(())
    });
    hold(&running);
    chronicle.assert_whole(CALM_US);
}

/// How often a process has given up its core of itself, as it does when it goes to sleep.
fn sleeps(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("it lives");
    let count = status.split_once("\nvoluntary_ctxt_switches:\t");
    let count = count.and_then(|(_, rest)| rest.lines().next());
    count
        .and_then(|count| count.parse().ok())
        .expect("a number")
}

#[test]
fn an_aggregator_that_waits_for_the_next_round_sleeps_most_of_the_time() {
    let chronicle = Chronicle::new();
    let running = chronicle.start(&["--every", "5s", "--samples", "1"]);
    chronicle.until(0, "a price", |kept| kept.decision == "published");
    eventually("a second with at most 15 sleeps", || {
        let (before, began) = (sleeps(running.id()), Instant::now());
        std::thread::sleep(Duration::from_secs(1));
        let count = sleeps(running.id()) - before;
        (count as f64 <= 15.0 * began.elapsed().as_secs_f64()).then_some(())
    });
}
