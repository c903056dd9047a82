//! The program `rsoracle-verify` as its user runs it: words and exit codes. What it finds wrong with reports is what
//! `rsoracle verify` finds, which is tested in tests/verify.rs; both run the same code.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A report, and the roster of those who signed it.
fn example(ending: &str) -> String {
    format!("{}/../proof/example.{ending}", env!("CARGO_MANIFEST_DIR"))
}

fn scratch(name: &str, text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Exit code, standard output, standard error.
fn run(words: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_rsoracle-verify"))
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have refused the words and ended.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let done = child.wait_with_output().unwrap();
    let [out, err] = [done.stdout, done.stderr].map(|text| String::from_utf8(text).unwrap());
    (done.status.code(), out, err)
}

#[test]
fn a_report_is_trusted_by_its_roster_and_by_no_other_word() {
    let (report, roster) = (example("jsonl"), example("toml"));
    let line = std::fs::read_to_string(&report).unwrap();
    let (code, said, wrong) = run(&[&report, "--roster", &roster], "");
    assert_eq!((code, wrong.as_str()), (Some(0), ""), "{said}");
    let verdict = "verdict: valid, and the signers are those of the roster\n";
    assert!(said.ends_with(verdict), "{said}");
    let (code, said, _) = run(&["-"], &line);
    assert_eq!(code, Some(5));
    assert!(
        said.starts_with("standard input: 1 report, number 1;"),
        "{said}"
    );
    let (code, said, _) = run(&["-", "--published"], &line);
    assert_eq!(code, Some(5), "{said}");
    let (code, said, _) = run(&["--json", "-", &format!("--roster={roster}")], &line);
    assert_eq!(code, Some(0));
    assert!(
        said.contains("\"verdict\":\"trusted\",\"reports\":1,\"bad\":0"),
        "{said}"
    );
}

#[test]
fn what_is_forged_old_cut_off_or_of_another_roster_is_invalid() {
    let (report, roster) = (example("jsonl"), example("toml"));
    let line = std::fs::read_to_string(&report).unwrap();
    let forged = line.replacen("\"price\":", "\"price\":1", 1);
    assert_ne!(forged, line);
    assert_eq!(run(&["-", "--roster", &roster], &forged).0, Some(1));
    let (code, said, _) = run(&[&report, "--max-age", "1s"], "");
    assert_eq!(code, Some(6));
    assert!(said.contains("more than --max-age 1s"), "{said}");
    assert_eq!(run(&["-"], "").0, Some(3));
    let (code, said, _) = run(&[&report, "--head", &"0".repeat(128)], "");
    assert_eq!(code, Some(1));
    assert!(said.contains("not that of --head"), "{said}");
    let text = std::fs::read_to_string(&roster).unwrap();
    let other = scratch("other.toml", &text.replace("BTC/USD", "ETH/USD"));
    let (code, said, _) = run(&[&report, "--roster", other.to_str().unwrap()], "");
    assert_eq!(code, Some(1));
    assert!(
        said.contains("its feed is BTC/USD, the roster's ETH/USD"),
        "{said}"
    );
}

#[test]
fn what_cannot_be_read_and_what_makes_no_sense_is_said() {
    let report = example("jsonl");
    let (code, _, wrong) = run(&["/nonexistent"], "");
    assert_eq!(code, Some(4));
    assert!(
        wrong.starts_with("verify: cannot read /nonexistent: "),
        "{wrong}"
    );
    for (words, sentence) in [
        (&[][..], "FILE… is missing: rsoracle-verify FILE…"),
        (
            &["--rooster", "x"],
            "'--rooster' is not a flag; --help lists the flags",
        ),
        (&["-x"], "'-x' is not a flag"),
        (&[""], "'' is not a flag"),
        (&["a", "--roster"], "--roster lacks its value"),
        (&["a", "--json=yes"], "--json takes no value"),
        (&["a", "--published="], "--published takes no value"),
        (
            &["a", "--json", "--json"],
            "--json is given twice; give it once",
        ),
        (
            &["a", "--max-age", "1s", "--max-age", "2s"],
            "--max-age is given twice; give it once",
        ),
        (
            &["a", "--roster="],
            "--roster \"\" is not valid; expected a path",
        ),
        (
            &["a", "--head", "12"],
            "--head \"12\" is not valid; expected the 128",
        ),
        (
            &["a", "--max-age", "0s"],
            "--max-age \"0s\" is not valid; expected a duration from 1us",
        ),
        (
            &["a", "--max-age", "1"],
            "--max-age \"1\" is not valid; expected a whole number",
        ),
    ] {
        let (code, out, wrong) = run(words, "");
        assert_eq!((code, out.as_str()), (Some(2), ""), "{words:?}");
        let told = format!("rsoracle-verify: {sentence}");
        assert!(wrong.starts_with(&told), "{words:?}: {wrong}");
    }
    let head = "0".repeat(128);
    let (code, _, wrong) = run(&[&report, &report, "--head", &head], "");
    assert_eq!(code, Some(2));
    assert!(wrong.contains("--head needs exactly one FILE"), "{wrong}");
    for words in ["--help", "-h", "--version"] {
        let (code, out, _) = run(&[words], "");
        assert!(
            code == Some(0) && out.starts_with("rsoracle-verify "),
            "{out}"
        );
    }
}
