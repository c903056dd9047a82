//! `rsoracle verify` of long files, which it shares with processes of its own: the verdict is the one that a single process
//! gives.

mod signed;
mod support;

use signed::Says::Price;
use signed::{Oracle, START_US};
use std::fs::File;
use std::path::{Path, PathBuf};
use support::*;

/// More than 4 MiB of reports: what is shorter is not shared.
fn journal() -> Vec<String> {
    let mut oracle = Oracle::new(5, "binance:BTCUSDC");
    let line = |round: u64| oracle.line(START_US + round * 10_000_000, &[Price(100.0); 5]);
    (0..1_500).map(line).collect()
}

fn file(lines: &[String]) -> PathBuf {
    let path = scratch("journal.jsonl");
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    assert!(text.len() > 4 << 20, "{} bytes are not shared", text.len());
    std::fs::write(&path, text).unwrap();
    path
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Verifies a file, and the same as standard input, which no other process shares. Returns exit code and words, the same ones.
fn verified(path: &Path) -> (Option<i32>, String) {
    let shared = run(&["verify", text(path)]);
    let mut command = rsoracle();
    command
        .args(["verify", "-"])
        .stdin(File::open(path).unwrap());
    let alone = start_command(command).finish();
    let words = shared.stdout.replace(text(path), "standard input");
    assert_eq!(
        (shared.code, words),
        (alone.code, alone.stdout),
        "{}",
        shared.stderr
    );
    assert_eq!(shared.stderr, "");
    (shared.code, shared.stdout)
}

#[test]
fn a_long_file_gets_the_verdict_that_one_process_gives() {
    let lines = journal();
    let (code, said) = verified(&file(&lines));
    assert_eq!(code, Some(5), "{said}");
    for part in [
        "1500 reports, number 1 to 1500",
        "signatures: 9000 of",
        "chain: it begins at report 1",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // Everything that can be wrong with a line, at the beginning, in the middle and at the end of the file.
    let mut bad = lines.clone();
    bad[1] = bad[1].replacen("\"price\":100,", "\"price\":101,", 1);
    bad[700] = bad[700].replacen("\"lateness_us\":1", "\"lateness_us\":2", 1);
    bad[701] = "no report".to_owned();
    bad[702] = String::new();
    bad[703] = "+\t\u{feff}\0".to_owned();
    bad.remove(1_000);
    bad.swap(1_200, 1_201);
    let last = bad.last_mut().expect("lines");
    last.truncate(last.len() - 50);
    let (code, said) = verified(&file(&bad));
    assert_eq!(code, Some(1), "{said}");
    for line in [2, 701, 702, 703, 704, 1_001, 1_201, 1_202, 1_499] {
        let wrong = format!("\n  wrong: line {line}");
        assert_eq!(said.matches(&wrong).count(), 1, "line {line}: {said}");
    }
    assert!(
        said.contains("collector 0: the observation's signature does not check"),
        "{said}"
    );
}

#[test]
fn a_process_that_ends_early_is_an_error_and_proves_nothing() {
    let path = file(&journal());
    if std::thread::available_parallelism().unwrap().get() == 1 {
        // Nothing is shared.
        return;
    }
    // Long enough to find one of the processes.
    let done = eventually("a process of verify's own that can be killed", || {
        let mut running = start(&[&["verify", "--json"][..], &[text(&path); 2]].concat());
        while running.children().is_empty() && !running.ended() {
            std::thread::yield_now();
        }
        let child = running.children().into_iter().next()?;
        signal(child, "KILL");
        Some(running.finish())
    });
    assert_eq!(done.code, Some(4), "{}", done.stdout);
    let why = "verify: a process that shares the work ended: its answer is missing; was it killed";
    assert_eq!(done.stderr.matches(why).count(), 1, "{}", done.stderr);
    // The other file is judged.
    assert_eq!(
        done.stdout
            .matches("\"verdict\":\"signers-unknown\"")
            .count(),
        1
    );
    // What shares the work never has a verdict, whatever it is asked.
    let mut command = rsoracle();
    command
        .args(["verify", text(&path)])
        .env("RSORACLE_VERIFY_SHARES", "1");
    let done = start_command(command).finish();
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (Some(1), ""),
        "{}",
        done.stderr
    );
}
