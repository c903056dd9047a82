//! A journal in segments: closed by size and on request, killed at any moment, damaged, and read as one journal.

mod chronicle;
mod signed;
mod support;
mod witness;

use chronicle::*;
use rsoracle::aggregator::journal::Journal;
use rsoracle_proof::seal::hex;
use signed::Says::*;
use signed::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::*;
use witness::*;

/// The numbers of the closed segments of a journal.
fn closed(journal: &str) -> Vec<u64> {
    rsoracle_verify::segments::closed(journal).unwrap().0
}

fn segment(journal: &str, number: u64) -> String {
    rsoracle_verify::segments::path_of(journal, number)
}

/// All lines, in the order in which a reader of protocol and document would put the files.
fn all_lines(journal: &str) -> Vec<String> {
    let numbers = closed(journal).into_iter();
    let paths = numbers.map(|number| segment(journal, number));
    let paths = paths.chain([journal.to_owned()]);
    paths
        .flat_map(|path| whole_lines(Path::new(&path)))
        .collect()
}

/// Asserts that `verify` finds no fault, as in [`Chronicle::assert_whole`], and that the numbers of each feed have no gap.
fn assert_one_chain(journal: &str) -> Vec<String> {
    let done = run(&["verify", journal]);
    assert_eq!(done.code, Some(5), "{}{}", done.stdout, done.stderr);
    let lines = all_lines(journal);
    for (number, line) in (1..).zip(&lines) {
        assert_eq!(Kept::of(line).number, number);
    }
    assert!(
        done.stdout
            .contains(&format!(": {} reports, number 1 to ", lines.len())),
        "{}",
        done.stdout
    );
    lines
}

/// A journal with these lines in its segments, the last of which is open, beside the key that signed them.
fn journal_of(segments: &[&[String]]) -> Chronicle {
    let chronicle = Chronicle::new();
    let key = format!("{}.key", chronicle.name());
    fs::write(&key, format!("rsoracle secret key 1 {}\n", hex(&[1; 32]))).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let (open, closed) = segments.split_last().unwrap();
    put(chronicle.name(), open);
    for (number, lines) in (1..).zip(closed) {
        put(&segment(chronicle.name(), number), lines);
    }
    chronicle
}

fn put(path: &str, lines: &[String]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(path, text).unwrap();
}

/// Reports with a price each.
fn lines(count: u64) -> Vec<String> {
    let mut oracle = Oracle::new(5, SOURCE[1]);
    let line = |number| {
        oracle.line(
            START_US + number * GRID_US,
            &[Price(100.0 + number as f64); 5],
        )
    };
    (1..=count).map(line).collect()
}

/// A journal with 4, 3 and 2 reports.
fn three() -> (Chronicle, Vec<String>) {
    let lines = lines(9);
    (journal_of(&[&lines[..4], &lines[4..7], &lines[7..]]), lines)
}

fn rotate(journal: &str) -> Finished {
    run(&["journal", "rotate", journal])
}

const OFTEN: [&str; 6] = ["--every", "100ms", "--samples", "1", "--interval", "50ms"];
const KILLS: usize = 40;

#[test]
fn whatever_is_published_is_in_a_segment_once_and_in_order_however_often_the_run_is_killed() {
    let chronicle = Chronicle::new();
    let latest = chronicle.beside("latest.json");
    let mut printed = Vec::new();
    let mut random: u64 = 88_172_645_463_325_252;
    for _ in 0..KILLS {
        let flags = [
            "--json",
            "--quiet",
            "--latest",
            &latest,
            "--journal-max",
            "6kB",
        ];
        let running = chronicle.start(&[&OFTEN[..], &flags].concat());
        // Xorshift: after one to four prices, and then at any moment within a round.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let prices = 1 + (random % 4) as usize;
        eventually("prices are published", || {
            (whole(&running.stdout()).len() >= prices).then_some(())
        });
        std::thread::sleep(Duration::from_micros(random >> 20 & 0x1_ffff));
        running.signal("KILL");
        let done = running.finish();
        assert_eq!(done.code, None, "{}", done.stderr);
        printed.extend(whole(&done.stdout));
        let newest = fs::read_to_string(&latest).unwrap();
        assert!(printed.len() > prices || newest.ends_with('\n'));
    }
    let lines = assert_one_chain(chronicle.name());
    assert!(
        closed(chronicle.name()).len() >= KILLS / 2,
        "it was rotated often"
    );
    let mut left = lines.iter();
    for line in &printed {
        assert!(
            left.any(|kept| kept == line),
            "not there, or not in order: {line}"
        );
    }
    assert!(printed.len() >= KILLS);
    let newest = fs::read_to_string(&latest).unwrap();
    assert!(lines.contains(&newest.trim_end().to_owned()));
    // What was left by a process that was killed while it closed a segment is gone with the next start.
    let running = chronicle.start(&OFTEN);
    running.stderr_line("continues at report");
    let name = chronicle.name();
    let last = closed(name).pop().unwrap();
    let twice = rsoracle_verify::segments::id(&fs::metadata(segment(name, last)).unwrap());
    assert_ne!(
        twice,
        rsoracle_verify::segments::id(&fs::metadata(name).unwrap())
    );
}

/// Opens a journal of any lines, and returns how many it read.
fn open(path: &str) -> Result<(Journal, usize), String> {
    let take = |count: &mut usize, _: &str| {
        *count += 1;
        Ok(())
    };
    let opened = Journal::open(path, &take, &|_, whole| Ok(whole));
    let (journal, count, _) = opened.map_err(|error| error.to_string())?;
    Ok((journal, count))
}

#[test]
fn every_state_that_a_kill_while_closing_leaves_is_gone_on_from() {
    let lines = lines(5);
    for state in 0..4 {
        let chronicle = journal_of(&[&lines[..2], &lines[2..4]]);
        let (name, next) = (chronicle.name(), format!("{}.next", chronicle.name()));
        // The next file is there, has no name yet; then the open one has its number too; then the next file has its name.
        if state > 0 {
            fs::write(&next, "").unwrap();
        }
        if state > 1 {
            fs::hard_link(name, segment(name, 2)).unwrap();
        }
        if state > 2 {
            fs::rename(&next, name).unwrap();
        }
        // A reader sees each report once, at any of these moments.
        let verified = run(&["verify", name]);
        assert!(
            verified.stdout.contains(": 4 reports, number 1 to 4"),
            "{}",
            verified.stdout
        );
        let (mut journal, count) = open(name).unwrap();
        assert_eq!(count, 4, "{state}");
        journal.append(&lines[4..]).unwrap();
        assert_eq!(all_lines(name), lines, "{state}");
        assert_eq!(closed(name).len(), if state > 2 { 2 } else { 1 });
        // It is closed under the number after the highest one.
        let (number, path) = if state > 2 { (3, 3) } else { (2, 2) };
        let closed_as = journal.close_segment().unwrap();
        assert_eq!(closed_as, Some(segment(name, number)));
        assert_eq!(closed(name).last(), Some(&path));
        assert_eq!(journal.close_segment().unwrap(), None, "it is empty");
        assert_eq!(all_lines(name), lines);
        assert!(!Path::new(&next).exists());
    }
}

#[test]
fn a_running_aggregator_closes_a_segment_when_it_is_asked_and_the_chain_goes_on() {
    let chronicle = Chronicle::new();
    let name = chronicle.name();
    let running = chronicle.start(&[&OFTEN[..], &["--json"]].concat());
    for number in 1..=3 {
        chronicle.until_lines(2);
        let done = rotate(name);
        let path = segment(name, number);
        assert_eq!(
            (done.code, done.stdout),
            (Some(0), format!("{name}: closed {path}\n"))
        );
        assert!(done.stderr.is_empty(), "{}", done.stderr);
        running.stderr_line(&format!("closed the journal's segment {path}"));
        assert!(whole_lines(Path::new(&path)).len() >= 2);
    }
    // Two at once: both end, and nothing is closed twice.
    chronicle.until_lines(2);
    let two = [(); 2].map(|()| start(&["journal", "rotate", name]));
    for done in two.map(Running::finish) {
        assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    }
    assert!(!Path::new(&format!("{name}.rotate")).exists());
    chronicle.until_lines(1);
    running.signal("KILL");
    let printed = whole(&running.finish().stdout);
    let lines = assert_one_chain(name);
    let mut left = lines.iter();
    assert!(printed.iter().all(|line| left.any(|kept| kept == line)));
    // The history reads over the borders, from the end.
    let last = lines.len().to_string();
    let done = run(&["history", name, "--json", "--last", &last]);
    assert_eq!(
        (done.code, done.stdout.lines().count()),
        (Some(0), lines.len())
    );
}

#[test]
fn a_journal_that_nobody_writes_is_closed_at_once_and_goes_on_from_its_segments() {
    let all = lines(6);
    let chronicle = journal_of(&[&all[..4]]);
    let name = chronicle.name();
    fs::set_permissions(name, fs::Permissions::from_mode(0o640)).unwrap();
    let two = [(); 2].map(|()| start(&["journal", "rotate", name]));
    let two = two.map(Running::finish);
    for done in &two {
        assert_eq!(done.code, Some(0), "{}", done.stderr);
    }
    assert_eq!(
        (closed(name), fs::metadata(name).unwrap().len()),
        (vec![1], 0)
    );
    let mode = fs::metadata(name).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640, "the next file is as the one before");
    let done = rotate(name);
    assert_eq!(done.code, Some(0));
    assert!(
        done.stdout.contains("there is nothing to close"),
        "{}",
        done.stdout
    );
    // A start finds number, signature, key and last price in the closed segment.
    let rounds = ["--every", "1h", "--rounds", "1", "--journal-max", "1kB"];
    let soon = ["--endpoint", "ws://127.0.0.1:9/", "--samples", "1"];
    for number in 5..=6 {
        let running = chronicle.start(&[&rounds[..], &soon].concat());
        running.stderr_line(&format!("continues at report {number}"));
        running.signal("KILL");
        running.finish();
        put(name, &all[number - 1..number]);
        assert_eq!(rotate(name).code, Some(0));
    }
    assert_eq!(assert_one_chain(name).len(), 6);
    // If the end is lost, it is refused as ever.
    put(&format!("{name}.newest"), &all_lines(name)[5..]);
    fs::remove_file(segment(name, 3)).unwrap();
    let done = chronicle.start(&soon).finish();
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("has lost its end"), "{}", done.stderr);
}

#[test]
fn what_is_no_journal_is_not_closed() {
    let lines = lines(2);
    let chronicle = journal_of(&[&lines]);
    let [text, one_line, missing, folder, link] =
        ["text", "line", "missing", "folder", "link"].map(|name| chronicle.beside(name));
    fs::write(&text, "root:x:0:0\n").unwrap();
    fs::write(&one_line, "{}").unwrap();
    fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink(chronicle.name(), &link).unwrap();
    let before = fs::read_dir(chronicle.beside("")).unwrap().count();
    for (path, says) in [
        (&text, "nothing was changed"),
        (&one_line, "it holds no whole line"),
        (&missing, "No such file"),
        (&folder, "it is not a regular file"),
        (&link, "it is a symbolic link"),
    ] {
        let done = rotate(path);
        assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""));
        assert!(done.stderr.contains(says), "{}", done.stderr);
    }
    assert_eq!(fs::read_dir(chronicle.beside("")).unwrap().count(), before);
    assert_eq!(fs::read_to_string(&one_line).unwrap(), "{}");
    for words in [
        &["journal"][..],
        &["journal", "rotate"],
        &["journal", "x", &text],
    ] {
        assert_eq!(run(words).code, Some(2), "{words:?}");
    }
    // An obstacle: the journal goes on in the same file.
    fs::create_dir(format!("{}.next", chronicle.name())).unwrap();
    let done = rotate(chronicle.name());
    assert_eq!(done.code, Some(1));
    assert!(
        done.stderr.contains("it goes on in the same file"),
        "{}",
        done.stderr
    );
    assert_eq!(
        (closed(chronicle.name()), all_lines(chronicle.name())),
        (vec![], lines)
    );
}

/// Flags of a run of two feeds.
const TWO_FEEDS: [&str; 6] = [
    "--feed",
    "BTC/USD,ETH/USD",
    "--source",
    "embedded-kraken",
    "--every",
    "1h",
];

/// Asserts that a start of these feeds is refused, and signs nothing.
fn assert_refused(chronicle: &Chronicle, feeds: &str, says: &str) {
    let before = all_lines(chronicle.name());
    let source = [
        "--source",
        "embedded-kraken",
        "--every",
        "1h",
        "--rounds",
        "1",
    ];
    let flags = ["--feed", feeds, "--journal", chronicle.name()];
    let done = start_command(marked_run(&[&source[..], &flags].concat()).0).finish();
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(done.stderr.contains(says), "{says}: {}", done.stderr);
    assert_eq!(all_lines(chronicle.name()), before);
}

#[test]
fn no_number_is_signed_again_after_the_newest_segment_was_compressed() {
    let lines = lines(4);
    let chronicle = journal_of(&[&lines[..2], &lines[2..], &[]]);
    let name = chronicle.name();
    for number in [1, 2] {
        let path = segment(name, number);
        fs::rename(&path, format!("{path}.gz")).unwrap();
    }
    let says = format!("{}, is missing", segment(name, 2));
    assert_refused(&chronicle, "BTC/USD", &says);
    // Nor is a key made for them, or a segment closed.
    fs::remove_file(format!("{name}.key")).unwrap();
    assert_refused(&chronicle, "BTC/USD", "the key that signed its reports");
    assert!(!Path::new(&format!("{name}.key")).exists());
    put(name, &lines[..1]);
    assert!(rotate(name).stderr.contains(&says));
}

#[test]
fn a_feed_is_new_only_if_the_segments_that_are_gone_cannot_have_it() {
    let feeds = ["BTC/USD", "ETH/USD"];
    let mut oracles = oracles(&feeds, 5, SOURCE[1]);
    let mut line = |feed: usize, round: u64| {
        oracles[feed].line(START_US + round * GRID_US, &[Price(100.0); 5])
    };
    let both = [line(0, 1), line(1, 1)];
    let one: Vec<String> = [2, 3].map(|round| line(0, round)).into();
    let chronicle = journal_of(&[&both, &one[..1], &one[1..]]);
    put(&format!("{}.newest", chronicle.name()), &one[1..]);
    // Long ago it had another feed, and what says so is lost too.
    fs::remove_file(segment(chronicle.name(), 1)).unwrap();
    assert_refused(&chronicle, "BTC/USD,ETH/USD", "newest.others");
    // Before the first segment is closed, it is noted that there is no other feed.
    let lines = lines(4);
    for way in ["rotate", "--journal-max"] {
        let chronicle = journal_of(&[&lines[..2]]);
        let name = chronicle.name();
        if way == "rotate" {
            assert_eq!(rotate(name).code, Some(0));
            put(name, &lines[2..]);
            assert_eq!(rotate(name).code, Some(0));
        } else {
            let running = chronicle.start(&[&OFTEN[..], &[way, "1kB"]].concat());
            running.stderr_line(&format!(
                "closed the journal's segment {}",
                segment(name, 2)
            ));
            running.signal("KILL");
            running.finish();
        }
        assert_eq!(fs::read(format!("{name}.newest.others")).unwrap(), b"");
        fs::remove_file(segment(name, 1)).unwrap();
        let (command, _) = marked_run(&[&TWO_FEEDS[..], &["--journal", name]].concat());
        start_command(command).stderr_line("; ETH/USD: new");
    }
}

#[test]
fn what_belongs_to_another_journal_is_no_journal() {
    let (chronicle, lines) = three();
    let name = chronicle.name();
    let key = format!("{name}.key");
    let link = chronicle.beside("link");
    std::os::unix::fs::symlink(segment(name, 1), &link).unwrap();
    put(&format!("{name}.newest"), &lines[8..]);
    put(&format!("{name}.newest.others"), &lines[8..]);
    let before = fs::read_dir(chronicle.beside("")).unwrap().count();
    let beside = [".newest", ".newest.others", ".torn", ".proofs", ".part2"];
    let beside = beside.map(|ending| format!("{name}{ending}"));
    // Also one that is not there yet, and one that is only linked to.
    let segments = [segment(name, 1), segment(name, 3), link];
    for path in segments.iter().chain(&beside) {
        if Path::new(path).exists() {
            let done = rotate(path);
            assert_eq!(done.code, Some(1), "{path}: {}", done.stdout);
        }
        let flags = [
            "--journal",
            path.as_str(),
            "--aggregator-key",
            &key,
            "--every",
            "1h",
        ];
        let done = start_command(marked_run(&flags).0).finish();
        assert_eq!(done.code, Some(1), "{path}: {}", done.stderr);
        assert!(
            done.stderr.contains("nothing was changed"),
            "{}",
            done.stderr
        );
    }
    assert_eq!(fs::read_dir(chronicle.beside("")).unwrap().count(), before);
    assert_eq!(all_lines(name), lines);
    // Nor is anything replaced that is a segment, or would be one.
    for path in [segment(name, 1), segment(name, 7), format!("{name}.next")] {
        let done = chronicle.start(&["--latest", &path, "--rounds", "1", "--every", "1h"]);
        let done = done.finish();
        assert_eq!(done.code, Some(1), "{path}: {}", done.stderr);
        assert!(done.stderr.contains("cannot replace"), "{}", done.stderr);
    }
    // One that was copied elsewhere is on its own.
    let alone = segment(&chronicle.beside("copy"), 2);
    fs::copy(segment(name, 1), &alone).unwrap();
    assert_eq!(rotate(&alone).code, Some(0));
}

#[test]
fn segments_that_are_gone_cut_or_exchanged_are_found() {
    let (chronicle, _) = three();
    let name = chronicle.name();
    let verify = |says: &str, code| {
        let done = run(&["verify", name]);
        let text = done.stdout + &done.stderr;
        assert_eq!(done.code, Some(code), "{text}");
        assert!(text.contains(says), "{says}: {text}");
    };
    verify("9 reports, number 1 to 9", 5);
    assert_eq!(run(&["verify", &segment(name, 2)]).code, Some(5));
    let [first, second] = [1, 2].map(|number| segment(name, number));
    let aside = chronicle.beside("aside");
    // The oldest was moved away, or compressed.
    fs::rename(&first, format!("{first}.gz")).unwrap();
    verify("chain: from report 5 on", 5);
    fs::rename(format!("{first}.gz"), &first).unwrap();
    // A copy with its date has no segment's name.
    fs::copy(&second, format!("{name}.20261126")).unwrap();
    verify("9 reports, number 1 to 9", 5);
    // One between others.
    fs::rename(&second, &aside).unwrap();
    verify("report 8 follows report 4", 1);
    fs::rename(&aside, segment(name, 3)).unwrap();
    verify(&format!("the segment {second} is missing"), 4);
    let done = chronicle.start(&["--every", "1h"]).finish();
    assert!(
        done.code == Some(1) && done.stderr.contains("is missing"),
        "{}",
        done.stderr
    );
    fs::rename(segment(name, 3), &second).unwrap();
    // Cut within a line, and between two.
    let whole_second = fs::read(&second).unwrap();
    fs::write(&second, &whole_second[..whole_second.len() - 9]).unwrap();
    verify(&format!("{second}: line 3"), 1);
    fs::write(&second, &whole_second[..whole_second.len() / 3 + 1]).unwrap();
    verify(&format!("{second}: line 2"), 1);
    fs::write(&second, &whole_second).unwrap();
    // Exchanged.
    fs::rename(&second, &aside).unwrap();
    fs::rename(&first, &second).unwrap();
    fs::rename(&aside, &first).unwrap();
    verify(&format!("{second}: line 1"), 1);
}

#[test]
fn a_feed_without_a_report_in_the_newest_segment_goes_on_where_it_was() {
    let feeds = ["BTC/USD", "ETH/USD"];
    let mut oracles = oracles(&feeds, 5, SOURCE[1]);
    let mut line = |feed: usize, round: u64| {
        oracles[feed].line(START_US + round * GRID_US, &[Price(100.0); 5])
    };
    let both: Vec<String> = [(0, 1), (1, 1), (0, 2), (1, 2)]
        .map(|(feed, round)| line(feed, round))
        .into();
    let one: Vec<String> = [3, 4].map(|round| line(0, round)).into();
    for open in [&one[1..], &[]] {
        let chronicle = journal_of(&[&both, &one[..2 - open.len()], open]);
        let (command, _) = marked_run(&[&TWO_FEEDS[..], &["--journal", chronicle.name()]].concat());
        let running = start_command(command);
        running.stderr_line("BTC/USD: continues at report 5; ETH/USD: continues at report 3");
    }
}

/// Runs one test of this file again, on a disk that has room for so many files and links.
fn on_a_disk_of(files: usize, test: &str) {
    let folder = scratch("disk");
    fs::create_dir(&folder).unwrap();
    let script =
        format!("mount -t tmpfs -o size=64k,nr_inodes={files} none \"$RSORACLE_TEST_INODES\"");
    let command = this_program(test, "RSORACLE_TEST_INODES", &folder);
    assert_passes(with_mounts(&script, &command));
}

#[test]
#[ignore = "needs namespaces"]
fn a_disk_that_is_full_when_a_segment_is_closed_costs_nothing() {
    let test = "a_disk_that_is_full_when_a_segment_is_closed_costs_nothing";
    let Some(disk) = std::env::var_os("RSORACLE_TEST_INODES").map(PathBuf::from) else {
        // The folder and the journal; then the next file too.
        return [2, 3]
            .into_iter()
            .for_each(|files| on_a_disk_of(files, test));
    };
    let path = disk.join("journal");
    let path = path.to_str().unwrap();
    let (mut journal, _) = open(path).unwrap();
    for line in ["one", "two", "three"] {
        journal.append(&[line]).unwrap();
        let error = journal.close_segment().unwrap_err().to_string();
        assert!(error.contains("No space left on device"), "{error}");
        assert!(error.contains("it goes on in the same file"), "{error}");
        assert_eq!(fs::read_dir(&disk).unwrap().count(), 1, "nothing is left");
    }
    assert_eq!(all_lines(path), ["one", "two", "three"]);
    drop(journal);
    assert_eq!(open(path).unwrap().1, 3);
}
