//! The needs of tests: `.ci/setup` knows every need, every program that tests call belongs to a need, and the document lists
//! all needs. Also, what `.ci/setup` does if something is missing.

mod support;

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use support::*;

/// Programs that exist on every system on which this can be built.
const ALWAYS_THERE: [&str; 6] = ["bash", "chroot", "cp", "make", "sh", "sha512sum"];

/// Programs whose need has another name.
const PROGRAMS: [(&str, &str); 6] = [
    ("ip", "namespaces"),
    ("mount", "namespaces"),
    ("nsenter", "namespaces"),
    ("python3", "python"),
    ("systemd-analyze", "systemd"),
    ("unshare", "namespaces"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All Rust files of the tests, except this file and the fuzz targets, which are a crate of their own.
fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("fuzz") {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs")
                && !path.ends_with("needs.rs")
            {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 40, "the files are found");
    found
}

/// The words in `text` between `before` and the next quote.
fn quoted<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
    let rest = text.split(before).skip(1);
    rest.filter_map(|rest| rest.split('"').next()).collect()
}

/// The needs that `.ci/setup` knows: those that packages meet, and those that it prints itself.
fn known() -> BTreeSet<String> {
    let text = read(&root().join(".ci/setup"));
    let by_packages = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "need" && matches!(words.next()?, "one" | "all")).then_some(())?;
        words.next().map(str::to_owned)
    });
    let printed = text.split("printf '").skip(1).filter_map(|rest| {
        let (name, _) = rest.split('\'').next()?.split_once("\\t")?;
        (!name.contains('%')).then(|| name.to_owned())
    });
    by_packages.chain(printed).collect()
}

/// The needs that tests name.
fn named() -> BTreeSet<String> {
    let text: String = files().iter().map(|path| read(path)).collect();
    let reasons = quoted(&text, "#[ignore = \"needs ").into_iter();
    reasons
        .flat_map(|reason| reason.split(", "))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_need_of_a_test_is_known_and_every_known_need_is_some_tests() {
    let mut known = known();
    // Nearly every test needs it, so none runs without it.
    assert!(known.remove("openssl"));
    assert_eq!(named(), known);
}

#[test]
fn every_program_that_tests_call_belongs_to_a_need() {
    let known = known();
    for path in files() {
        let text = read(&path);
        let programs = [quoted(&text, "Command::new(\""), quoted(&text, " tool(\"")];
        for program in programs.concat() {
            let other = PROGRAMS.iter().find(|(name, _)| *name == program);
            let need = other.map_or(program, |(_, need)| need);
            assert!(
                ALWAYS_THERE.contains(&program) || known.contains(need),
                "{}: {program} is nothing that .ci/setup installs",
                path.display()
            );
        }
    }
}

#[test]
fn the_document_lists_what_tests_need() {
    let text = read(&root().join("docs/BUILDING.md"));
    let (_, section) = text.split_once("### What the tests need\n").unwrap();
    let (_, table) = section.split_once("|---|---|---|---|\n").unwrap();
    let rows = table.lines().map_while(|line| line.strip_prefix("| `"));
    let listed: BTreeSet<String> = rows
        .map(|row| row.split('`').next().unwrap().to_owned())
        .collect();
    assert_eq!(listed, known());
}

/// `.ci/test` skips tests by name, and cargo skips every test whose name contains such a name.
#[test]
fn no_test_is_left_out_for_the_name_of_another() {
    let mut tests = Vec::new();
    for path in files() {
        let text = read(&path);
        for block in text.split("#[test]\n").skip(1) {
            let (attributes, rest) = block.split_once("fn ").expect("a function");
            let name = rest.split('(').next().unwrap().to_owned();
            tests.push((name, attributes.contains("#[ignore")));
        }
    }
    assert!(tests.len() > 250, "the tests are found");
    for (ignored, _) in tests.iter().filter(|(_, ignored)| *ignored) {
        let alike = tests.iter().filter(|(name, _)| name.contains(ignored));
        assert_eq!(alike.count(), 1, "{ignored}");
    }
}

/// A directory with the only programs of a system: those that `.ci/setup` uses, cargo, and scripts with these names.
fn only_these_programs(scripts: &[(&str, &str)]) -> PathBuf {
    let folder = scratch("bin");
    std::fs::create_dir(&folder).unwrap();
    for name in [
        "bash", "cargo", "cat", "dirname", "grep", "sh", "tail", "unshare", "true",
    ] {
        let places = ["/bin", "/usr/bin"].map(|place| Path::new(place).join(name));
        let cargo = PathBuf::from(env!("CARGO"));
        let found = places.into_iter().find(|path| path.exists());
        symlink(found.unwrap_or(cargo), folder.join(name)).unwrap();
    }
    for (name, script) in scripts {
        let path = folder.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    folder
}

/// Runs `.ci/setup` with only the programs of a directory.
fn set_up(word: &str, programs: &Path) -> Finished {
    let mut command = Command::new("bash");
    command.arg(root().join(".ci/setup")).arg(word);
    command.env("PATH", programs);
    start_command(command).finish()
}

#[test]
fn a_need_that_is_not_met_is_named_with_what_to_do() {
    let done = set_up("lacks", &only_these_programs(&[]));
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    let of = |need: &str| {
        let begin = format!("{need}\t");
        done.stdout
            .lines()
            .find_map(|line| line.strip_prefix(&begin).map(str::to_owned))
    };
    for need in ["mandoc", "zsh", "fish", "python"] {
        assert!(
            of(need).is_some_and(|advice| advice.contains(need)),
            "{need}: {}",
            done.stdout
        );
    }
    let here = only_these_programs(&[("mandoc", "exit 0")]);
    let done = set_up("lacks", &here);
    assert!(!done.stdout.contains("mandoc"), "{}", done.stdout);
}

#[test]
fn what_building_lacks_is_installed_by_root_and_shown_to_others() {
    let record = scratch("installed");
    let installer = format!("echo \"$@\" >> '{}'", record.display());
    let missing = "setup: missing: cc, make";
    for (id, is_root) in [("0", true), ("1000", false)] {
        let who = format!("echo {id}");
        let scripts = [("id", &*who), ("apt-get", &installer), ("dnf", &installer)];
        let done = set_up("build", &only_these_programs(&scripts));
        // This test's package manager installs nothing.
        assert_eq!(done.code, Some(1), "{}", done.stderr);
        assert!(done.stderr.contains(missing), "{}", done.stderr);
        assert!(done.stderr.contains("without cc, make"), "{}", done.stderr);
        let shown = done.stderr.contains("to install it, type: ");
        let installed = std::fs::read_to_string(&record).unwrap_or_default();
        let _ = std::fs::remove_file(&record);
        assert_eq!(
            (installed.contains(" gcc "), shown),
            (is_root, !is_root),
            "{}",
            done.stderr
        );
    }
}
