//! The journal on a full disk, and with a writer that is killed: the file stays intact, and contains every line whose append
//! succeeded.

mod support;
mod witness;

use rsoracle::aggregator::journal::Journal;
use rsoracle::system::file::replace;
use std::path::{Path, PathBuf};
use support::*;
use witness::*;

/// Opens a journal, and returns the lines that it had.
fn open(path: &Path) -> Result<(Journal, usize, Vec<String>), String> {
    let take = |lines: &mut Vec<String>, line: &str| {
        lines.push(line.to_owned());
        Ok(())
    };
    let opened = Journal::open(path.to_str().unwrap(), &take, &|_, whole| Ok(whole));
    let (journal, lines, torn) = opened.map_err(|error| error.to_string())?;
    Ok((journal, torn, lines))
}

/// Fills the disk, except for some bytes.
fn fill(filler: &Path, but: usize) {
    let taken = (0..1 << 20).step_by(1 << 10).find(|bytes| {
        let written = std::fs::write(filler, vec![b'x'; *bytes]);
        written.is_err()
    });
    let taken = taken.expect("the disk is small") - (1 << 10);
    std::fs::write(filler, vec![b'x'; taken - but]).unwrap();
}

fn assert_full(error: &str, path: &Path) {
    assert!(error.contains(path.to_str().unwrap()), "{error}");
    assert!(error.contains("No space left on device"), "{error}");
}

#[test]
#[ignore = "needs namespaces"]
fn a_full_disk_costs_the_line_and_not_the_file() {
    let Some(disk) = small_disk() else {
        return on_a_small_disk("a_full_disk_costs_the_line_and_not_the_file");
    };
    let (path, filler) = (disk.join("journal"), disk.join("filler"));
    std::fs::write(&filler, [0; 20_000]).unwrap();
    let (mut journal, ..) = open(&path).unwrap();
    // The disk is not a multiple of this size, so a part of the last line still fits.
    let line = |number: usize| format!("{number:03000}");
    let mut taken = String::new();
    let error = (0..100).find_map(|number| {
        // As the reports of one round: all of them or none.
        let lines = [line(number), "".to_owned(), line(number)];
        let error = journal.append(&lines).err();
        if error.is_none() {
            taken += &(lines.join("\n") + "\n");
        }
        error
    });
    let error = error.expect("the disk is small").to_string();
    assert_full(&error, &path);
    assert!(error.contains("the file is as it was before"), "{error}");
    assert!(taken.len() > 30_000, "{}", taken.len());
    for _ in 0..2 {
        assert_eq!(std::fs::read_to_string(&path).unwrap(), taken);
        assert_full(
            &journal
                .append(&[line(1), line(100)])
                .unwrap_err()
                .to_string(),
            &path,
        );
    }
    std::fs::remove_file(&filler).unwrap();
    journal.append(&[line(101)]).unwrap();
    taken += &(line(101) + "\n");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), taken);
    drop(journal);
    let (_, torn, lines) = open(&path).unwrap();
    assert_eq!((torn, lines.join("\n") + "\n"), (0, taken));
}

#[test]
#[ignore = "needs namespaces"]
fn a_cut_off_end_stays_where_it_is_until_there_is_room_to_move_it() {
    let Some(disk) = small_disk() else {
        return on_a_small_disk("a_cut_off_end_stays_where_it_is_until_there_is_room_to_move_it");
    };
    let (path, filler) = (disk.join("journal"), disk.join("filler"));
    let (moved, tail) = ("from before", "t".repeat(10_000));
    let text = format!("one\n{tail}");
    std::fs::write(&path, &text).unwrap();
    std::fs::write(disk.join("journal.torn"), moved).unwrap();
    fill(&filler, 5_000);
    let error = open(&path).unwrap_err();
    assert_full(&error, &path);
    assert!(error.contains("nothing was lost"), "{error}");
    let read = |name: &str| std::fs::read_to_string(disk.join(name)).unwrap();
    assert_eq!(
        (read("journal"), read("journal.torn").as_str()),
        (text, moved)
    );
    std::fs::remove_file(&filler).unwrap();
    let (_, torn, lines) = open(&path).unwrap();
    assert_eq!((torn, lines), (10_000, vec!["one".to_owned()]));
    assert_eq!(read("journal"), "one\n");
    assert_eq!(read("journal.torn"), format!("{moved}\n{tail}\n"));
}

#[test]
#[ignore = "needs namespaces"]
fn a_file_for_which_a_full_disk_has_no_successor_stays() {
    let Some(disk) = small_disk() else {
        return on_a_small_disk("a_file_for_which_a_full_disk_has_no_successor_stays");
    };
    let path = disk.join("latest.json");
    let name = path.to_str().unwrap();
    replace(name, "old").unwrap();
    fill(&disk.join("filler"), 5_000);
    let error = replace(name, &"new".repeat(5_000)).unwrap_err();
    assert_full(&error.to_string(), &path);
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(
        std::fs::read_dir(&disk).unwrap().count(),
        2,
        "no third file"
    );
    replace(name, "new").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"new");
}

const WRITER: &str = "RSORACLE_TEST_WRITER";

/// Appends lines and prints which ones succeeded, until it is killed.
fn write_until_killed(path: &Path) {
    // A program that another test is starting may hold the lock for a moment: it inherits the file until it executes.
    let (mut journal, _, lines) = eventually("the lock is free", || open(path).ok());
    let filling = "x".repeat(100_000);
    for number in (lines.len()..).take(1_000) {
        journal.append(&[format!("{number} {filling}")]).unwrap();
        println!("taken {number}.");
    }
    // Keep the lock until the test, which may be held up, kills this process.
    std::thread::sleep(LONG);
    panic!("nobody killed the writer");
}

#[test]
fn a_killed_writer_leaves_what_it_confirmed_and_lets_go_of_the_lock() {
    const TEST: &str = "a_killed_writer_leaves_what_it_confirmed_and_lets_go_of_the_lock";
    if let Some(path) = std::env::var_os(WRITER).map(PathBuf::from) {
        return write_until_killed(&path);
    }
    let path = scratch("journal");
    for _ in 0..5 {
        let writer = start_command(this_program(TEST, WRITER, &path));
        let taken = || {
            let text = writer.stdout();
            let numbers = text.split("taken ").skip(1);
            numbers
                .filter_map(|part| part.split_once('.')?.0.parse().ok())
                .collect::<Vec<usize>>()
        };
        eventually("lines are taken", || (taken().len() >= 3).then_some(()));
        let error = open(&path).unwrap_err();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        assert!(
            error.contains("another process is writing to it"),
            "{error}"
        );
        writer.signal("KILL");
        let (_, _, lines) = eventually("the lock is free", || open(&path).ok());
        let last = *taken().last().unwrap();
        assert!(lines.len() > last, "{} lines, {last} taken", lines.len());
        for (number, line) in lines.iter().enumerate() {
            assert!(line.starts_with(&format!("{number} x")) && line.len() > 100_000);
        }
    }
}
