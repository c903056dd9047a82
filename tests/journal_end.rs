//! The end of a journal: a run continues where the journal ends, and nowhere else. If the end was lost, moved, restored from a
//! backup or damaged, the run is refused with the facts. A run is never refused because the one before it was killed.

mod chronicle;
mod signed;
mod support;
mod witness;

use chronicle::*;
use rsoracle::keys::file as keyfile;
use rsoracle_proof::seal::hex;
use signed::Says::*;
use signed::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use support::*;

const EVERY: [&str; 6] = ["--every", "500ms", "--samples", "1", "--interval", "500ms"];
const EVERY_US: u64 = 500_000;

/// Flags of a single round that ends soon, without a price: nobody listens at this address.
const SOON: [&str; 8] = [
    "--samples",
    "1",
    "--interval",
    "1s",
    "--ready-timeout",
    "100ms",
    "--endpoint",
    "ws://127.0.0.1:9/",
];

/// The lines of a journal that key 0 signed, each with a price.
fn signed_lines(count: u64) -> Vec<String> {
    let mut oracle = Oracle::new(5, SOURCE[1]);
    let says = |number: u64| [Price(100.0 + number as f64); 5];
    (1..=count)
        .map(|number| oracle.line(START_US + number * EVERY_US, &says(number)))
        .collect()
}

/// Writes the file of a secret key that `signed` makes from a number.
fn write_key(path: &str, seed: u8) {
    let text = format!("rsoracle secret key 1 {}\n", hex(&[seed + 1; 32]));
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(keyfile::read(path).unwrap().public(), key(seed).public());
}

/// A journal with these lines, beside the key that signed them.
fn journal_of(lines: &[String]) -> Chronicle {
    let chronicle = Chronicle::new();
    write_key(&format!("{}.key", chronicle.name()), 0);
    put(chronicle.name(), lines);
    chronicle
}

/// Replaces a file by these lines; without any, removes it.
fn put(path: &str, lines: &[String]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    match lines {
        [] => drop(fs::remove_file(path)),
        _ => fs::write(path, text).unwrap(),
    }
}

fn newest(chronicle: &Chronicle) -> String {
    format!("{}.newest", chronicle.name())
}

/// Runs one round that ends soon.
fn run_soon(chronicle: &Chronicle, args: &[&str]) -> Finished {
    chronicle.start(&[&SOON[..], args].concat()).finish()
}

/// Asserts that a run is refused at its start with all of `says`, and leaves all files as they were.
fn assert_refused(chronicle: &Chronicle, args: &[&str], says: &[&str]) {
    let before = contents(chronicle);
    let done = run_soon(chronicle, args);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    for part in says {
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }
    assert!(contents(chronicle) == before, "the files are as they were");
}

/// Name and content (a link's target) of every file beside a journal, except the programs' output.
fn contents(chronicle: &Chronicle) -> Vec<(String, Vec<u8>)> {
    let dir = fs::read_dir(chronicle.path.parent().unwrap()).unwrap();
    let file = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        match fs::read_link(entry.path()) {
            Ok(target) => (name, target.into_os_string().into_encoded_bytes()),
            Err(_) => (name, fs::read(entry.path()).unwrap()),
        }
    };
    // A journal that did not exist is made, empty.
    let mut files: Vec<_> = dir
        .map(|entry| file(entry.unwrap()))
        .filter(|(_, bytes)| !bytes.is_empty())
        .collect();
    files.sort();
    files
}

fn assert_chain(chronicle: &Chronicle, last: u64) {
    let verified = run(&["verify", chronicle.name()]);
    let (out, err) = (&verified.stdout, &verified.stderr);
    assert_eq!(verified.code, Some(5), "{out}{err}");
    let lines = chronicle.lines();
    assert_eq!(Kept::of(lines.last().unwrap()).number, last);
    let text = fs::read_to_string(newest(chronicle)).unwrap();
    assert_eq!(text, format!("{}\n", lines.last().unwrap()));
}

#[test]
fn whatever_moment_a_run_is_killed_at_the_next_one_goes_on() {
    let lines = signed_lines(4);
    for kept in 1..=3 {
        // A report is appended, then put beside the journal, then published. Before the first, the next is half written.
        let whole = lines[kept - 1].len();
        let moments = [
            (kept - 1, kept - 1, 0),
            (kept, kept - 1, 0),
            (kept, kept, 0),
            (kept, kept, 1),
            (kept, kept, whole),
        ];
        for (beside, published, torn) in moments {
            let chronicle = journal_of(&lines[..kept]);
            let latest = chronicle.beside("latest.json");
            let text = fs::read_to_string(&chronicle.path).unwrap();
            fs::write(&chronicle.path, text + &lines[kept][..torn]).unwrap();
            put(&newest(&chronicle), &lines[beside - beside.min(1)..beside]);
            put(&latest, &lines[published - published.min(1)..published]);
            let left = format!("{latest}.4194305.tmp");
            fs::write(&left, "half a rep").unwrap();
            let done = run_soon(&chronicle, &["--latest", &latest]);
            assert_eq!(done.code, Some(3), "{}", done.stderr);
            assert_chain(&chronicle, kept as u64 + 1);
            let found = fs::read_to_string(&latest).unwrap();
            assert_eq!(found, format!("{}\n", lines[kept - 1]));
            assert!(!Path::new(&left).exists());
        }
    }
}

#[test]
fn a_run_that_is_killed_over_and_over_goes_on_every_time() {
    let chronicle = Chronicle::new();
    let latest = chronicle.beside("latest.json");
    let often = ["--every", "100ms", "--samples", "1", "--interval", "50ms"];
    let mut before = 0;
    for _ in 0..8 {
        let running = chronicle.start(&[&often[..], &["--latest", &latest]].concat());
        chronicle.until_lines(before + 3);
        running.signal("KILL");
        let done = running.finish();
        assert_eq!(done.code, None, "{}", done.stderr);
        before = chronicle.lines().len();
        let beside = Kept::of(fs::read_to_string(newest(&chronicle)).unwrap().trim_end());
        assert!((before as u64 - 1..=before as u64).contains(&beside.number));
    }
    chronicle.assert_whole(100_000);
}

#[test]
fn a_journal_that_ends_before_what_its_key_has_signed_is_refused_with_both_facts() {
    let lines = signed_lines(6);
    for (kept, known) in [(0, 1), (0, 6), (1, 2), (3, 6), (5, 6)] {
        let chronicle = journal_of(&lines[..kept]);
        let latest = chronicle.beside("latest.json");
        let ends = match kept {
            0 => "it is empty".to_owned(),
            _ => format!("it ends at report {kept}"),
        };
        let signed = format!("its key has signed report {known}");
        let says = [&ends, &signed, chronicle.name(), "--retire-key"];
        // The file beside the journal shows it, and that of --latest, which may be on another disk.
        put(&newest(&chronicle), &lines[known - 1..known]);
        assert_refused(&chronicle, &["--quiet"], &says);
        put(&newest(&chronicle), &[]);
        put(&latest, &lines[known - 1..known]);
        assert_refused(&chronicle, &["--quiet", "--latest", &latest], &says);
    }
    // What was signed while the clock was ahead was signed.
    let chronicle = journal_of(&lines[..2]);
    let mut ahead = Oracle::new(5, SOURCE[1]);
    for number in 0..2 {
        ahead.line(START_US + number * EVERY_US, &[Price(100.0); 5]);
    }
    let hence_us = start_before(rsoracle::system::now::wall_us() + 3_600_000_000);
    put(
        &newest(&chronicle),
        &[ahead.line(hence_us, &[Price(7.0); 5])],
    );
    assert_refused(&chronicle, &[], &["ends at report 2", "signed report 3"]);
    // What cannot be read may show it.
    fs::remove_file(newest(&chronicle)).unwrap();
    std::os::unix::fs::symlink("journal.newest.loop", newest(&chronicle)).unwrap();
    std::os::unix::fs::symlink(
        "journal.newest.loop",
        chronicle.beside("journal.newest.loop"),
    )
    .unwrap();
    assert_refused(&chronicle, &[], &["cannot be read"]);
    // Another report of the same number.
    let chronicle = journal_of(&lines[..2]);
    let mut fork = Oracle::new(5, SOURCE[1]);
    fork.line(START_US + EVERY_US, &[Price(101.0); 5]);
    put(
        &newest(&chronicle),
        &[fork.line(START_US + 2 * EVERY_US, &[Price(7.0); 5])],
    );
    assert_refused(&chronicle, &[], &["its last report is another"]);
}

#[test]
fn a_journal_that_has_lost_its_end_goes_on_by_the_operators_word() {
    let lines = signed_lines(6);
    // By a new key, to which the old one hands over: no key signs a number twice.
    let chronicle = journal_of(&lines[..3]);
    let latest = chronicle.beside("latest.json");
    put(&newest(&chronicle), &lines[5..]);
    put(&latest, &lines[5..]);
    let [old, new] = [".key", ".new.key"].map(|end| format!("{}{end}", chronicle.name()));
    write_key(&new, 9);
    let keys = ["--aggregator-key", &new, "--latest", &latest];
    assert_refused(&chronicle, &keys, &["another aggregator key"]);
    let over = [&keys[..], &["--retire-key", &old]].concat();
    assert_eq!(run_soon(&chronicle, &over).code, Some(3));
    assert_chain(&chronicle, 4);
    // The file of --latest keeps what it has until there is something later.
    let kept = fs::read_to_string(&latest).unwrap();
    assert_eq!(kept, format!("{}\n", lines[5]));
    assert_eq!(run_soon(&chronicle, &keys).code, Some(3));
    // The old key with an old journal would sign its numbers again.
    put(chronicle.name(), &lines[..3]);
    assert_refused(&chronicle, &[], &["ends at report 3", "signed report 5"]);
    // By removing the file that shows it.
    fs::remove_file(newest(&chronicle)).unwrap();
    assert_eq!(run_soon(&chronicle, &[]).code, Some(3));
    assert_chain(&chronicle, 4);
    // By another journal with a key of its own.
    let other = Chronicle {
        path: chronicle.beside("other.jsonl").into(),
    };
    let done = run_soon(&other, &["--latest", &latest]);
    assert_eq!(done.code, Some(3), "{}", done.stderr);
}

#[test]
fn a_newest_report_that_is_damaged_is_told_and_written_anew() {
    let lines = signed_lines(3);
    let chronicle = journal_of(&lines);
    for text in ["", "half a rep", "{}\n"] {
        fs::write(newest(&chronicle), text).unwrap();
        let done = run_soon(&chronicle, &["--quiet"]);
        assert_eq!(done.code, Some(3), "{}", done.stderr);
        assert!(
            done.stderr.contains("holds no valid report"),
            "{}",
            done.stderr
        );
        put(chronicle.name(), &lines);
    }
}

#[test]
fn no_flipped_bit_of_the_last_report_is_made_use_of() {
    let lines = signed_lines(2);
    let chronicle = journal_of(&lines);
    let latest = chronicle.beside("latest.json");
    put(&latest, &lines[..1]);
    let good = fs::read(&chronicle.path).unwrap();
    let begin = lines[0].len() + 1;
    // Every eleventh, so that it hits every kind of field, and every bit in turn.
    for (count, at) in (begin..good.len() - 1).step_by(11).enumerate() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (count % 8);
        if bad[at] == b'\n' {
            continue;
        }
        fs::write(&chronicle.path, &bad).unwrap();
        let says = ["nothing was changed"];
        assert_refused(&chronicle, &["--latest", &latest], &says);
    }
    // The newest published report is not the last one.
    let mut oracle = Oracle::new(5, SOURCE[1]);
    oracle.policy.deviation = Some(0.5);
    let says = [Price(100.0); 5];
    let lines = [1, 2].map(|number| oracle.line(START_US + number * EVERY_US, &says));
    let bad = lines[0].replacen("\"price\":100,", "\"price\":101,", 1);
    assert_ne!(bad, lines[0]);
    put(chronicle.name(), &[bad, lines[1].clone()]);
    fs::remove_file(&latest).unwrap();
    assert_refused(&chronicle, &["--latest", &latest], &["nothing was changed"]);
}

#[test]
fn a_long_journal_is_read_from_its_end_as_far_as_a_run_needs() {
    let mut oracle = Oracle::new(5, SOURCE[1]);
    oracle.policy.deviation = Some(0.5);
    let says = [Price(100.0); 5];
    let mut lines: Vec<String> = (1..=6_000)
        .map(|number| oracle.line(START_US + number * EVERY_US, &says))
        .collect();
    let published = lines[0].clone();
    let bytes: usize = lines.iter().map(String::len).sum();
    assert!(bytes > 8 << 20, "{bytes}");
    // If the beginning were read, this line would be refused.
    lines[1] = "{}".to_owned();
    let chronicle = journal_of(&lines);
    let latest = chronicle.beside("latest.json");
    put(&latest, &[published]);
    let done = run_soon(&chronicle, &["--latest", &latest]);
    assert_eq!(done.code, Some(3), "{}", done.stderr);
    let last = chronicle.lines().pop().unwrap();
    assert_eq!(Kept::of(&last).number, 6_001);
    // Without that file, the newest published report is searched for back to the beginning.
    fs::remove_file(&latest).unwrap();
    let says = [
        "still reading the journal backwards, for the newest published report of BTC/USD",
        "line 2: it is not a report",
    ];
    assert_refused(&chronicle, &["--latest", &latest], &says);
    // There are other feeds, and what tells which is lost.
    let others = format!("{}.others", newest(&chronicle));
    put(&others, &lines[lines.len() - 1..]);
    fs::remove_file(newest(&chronicle)).unwrap();
    let says = [
        "still reading the journal backwards, for all of its feeds",
        "line 2: it is not a report",
    ];
    assert_refused(&chronicle, &[], &says);
}

/// Asserts that a run has ended since its journal is lost, and that what it published is in this file.
fn assert_ended(done: &Finished, why: &str, file: &str) {
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    for part in [why, "this run ends"] {
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }
    let kept = whole_lines(Path::new(file));
    for line in whole(&done.stdout) {
        assert!(kept.contains(&line), "published and in no file: {line}");
    }
}

#[test]
fn a_journal_set_aside_by_name_ends_the_run_and_nothing_is_published_that_is_in_no_file() {
    let chronicle = Chronicle::new();
    let aside = chronicle.beside("journal.jsonl.1");
    let start = || chronicle.start(&[&EVERY[..], &["--json"]].concat());
    let running = start();
    chronicle.until_lines(2);
    // As logrotate does it.
    fs::rename(&chronicle.path, &aside).unwrap();
    fs::write(&chronicle.path, "").unwrap();
    let done = running.finish();
    assert_ended(&done, "another one has its name", &aside);
    assert_eq!(fs::read(&chronicle.path).unwrap(), b"");
    // The next run does not begin at report 1 with the same key.
    let says = ["it is empty, but its key has signed report"];
    assert_refused(&chronicle, &["--quiet"], &says);
    // Put back, it goes on. A removed journal ends the run too.
    fs::rename(&aside, &chronicle.path).unwrap();
    let before = chronicle.lines().len();
    let running = start();
    chronicle.until_lines(before + 2);
    hold(&running);
    chronicle.assert_whole(EVERY_US);
    fs::hard_link(&chronicle.path, &aside).unwrap();
    fs::remove_file(&chronicle.path).unwrap();
    fs::write(&chronicle.path, "").unwrap();
    running.signal("CONT");
    assert_ended(&running.finish(), "another one has its name", &aside);
}

#[test]
fn a_removed_journal_ends_the_run() {
    let chronicle = Chronicle::new();
    let running = chronicle.start(&[&EVERY[..], &["--quiet"]].concat());
    chronicle.until_lines(2);
    hold(&running);
    fs::remove_dir_all(chronicle.path.parent().unwrap()).unwrap();
    running.signal("CONT");
    let done = running.finish();
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    for part in ["the file was removed by another program", "this run ends"] {
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }
}

#[test]
fn a_journal_that_was_moved_publishes_nothing_until_it_is_back() {
    let chronicle = Chronicle::new();
    let aside = chronicle.beside("aside");
    let running = chronicle.start(&[&EVERY[..], &["--json"]].concat());
    chronicle.until_lines(2);
    fs::rename(&chronicle.path, &aside).unwrap();
    let line = running.stderr_line("its name no longer leads to it");
    assert!(line.contains("this round is not published"), "{line}");
    let before = fs::read(&aside).unwrap();
    fs::rename(&aside, &chronicle.path).unwrap();
    let lines = chronicle.lines().len();
    chronicle.until_lines(lines + 2);
    hold(&running);
    assert!(fs::read(&chronicle.path).unwrap().starts_with(&before));
    chronicle.assert_holds(&whole(&running.stdout()));
    chronicle.assert_whole(EVERY_US);
}

#[test]
fn a_limit_on_the_size_of_files_costs_rounds_and_not_the_run() {
    let chronicle = Chronicle::new();
    let (inner, _) = chronicle.command(&[&EVERY[..], &["--json", "--rounds", "12"]].concat());
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -f 24; exec \"$@\"", "sh"]);
    command.arg(inner.get_program()).args(inner.get_args());
    command.stdin(std::process::Stdio::null());
    let running = start_command(command);
    running.stderr_line("a file of this process may have 12288 bytes");
    let done = running.finish();
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    let says = "and may have 12288 (ulimit -f)";
    assert!(done.stderr.contains(says), "{}", done.stderr);
    let reports = chronicle.assert_whole(EVERY_US);
    let lost = done.stderr.matches("this round is not published").count();
    assert!(lost > 0 && reports.len() == 12 - lost, "{lost} lost");
    chronicle.assert_holds(&whole(&done.stdout));
}

#[test]
fn a_key_file_that_a_killed_process_left_empty_is_made_anew() {
    let chronicle = Chronicle::new();
    let path = format!("{}.key", chronicle.name());
    fs::write(&path, "").unwrap();
    assert_eq!(run_soon(&chronicle, &[]).code, Some(3));
    assert!(keyfile::read(&path).is_ok());
}
