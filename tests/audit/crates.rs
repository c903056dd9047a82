//! The crates of this program: their list (from Cargo.lock), where each is used (from `cargo tree`), and the size of their
//! sources.

use crate::count::{self, Count};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The target that is audited: that of the static binary, which includes OpenSSL.
pub const TARGET: &str = "x86_64-unknown-linux-musl";

/// Where a crate is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// In the binary.
    RunTime,
    /// In the compiler: procedural macros and their dependencies.
    Macro,
    /// In build scripts: their dependencies, and sources that they build.
    BuildTime,
    /// Nowhere: Cargo.lock lists it for other systems, and it is not compiled.
    Elsewhere,
}

/// One version of one crate.
#[derive(Debug)]
pub struct Crate {
    pub name: String,
    pub version: String,
    pub used: Use,
    /// The names of the crates that depend on it.
    pub wanted_by: BTreeSet<String>,
    /// The counts of its sources; zero for crates that are used on other systems only, whose sources may be missing.
    pub licence: String,
    pub has_build_script: bool,
    pub count: Count,
}

fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").expect("cargo runs the tests");
    let output = Command::new(cargo)
        .args(arguments)
        .args([
            "--locked",
            "--manifest-path",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
        ])
        .output()
        .expect("cargo runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// `name version` of every crate that `cargo tree` reaches through these edges.
fn reached(edges: &str) -> BTreeSet<String> {
    let tree = cargo(&[
        "tree", "--target", TARGET, "--edges", edges, "--prefix", "none",
    ]);
    let name = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, version) = (words.next()?, words.next()?.trim_start_matches('v'));
        Some(format!("{name} {version}"))
    };
    tree.lines().filter_map(name).collect()
}

/// The directory of the sources of each `name version`.
fn folders() -> BTreeMap<String, PathBuf> {
    let metadata = cargo(&[
        "metadata",
        "--format-version",
        "1",
        "--filter-platform",
        TARGET,
    ]);
    let paths = metadata.split("\"manifest_path\":\"").skip(1);
    let mut folders = BTreeMap::new();
    for path in paths.filter_map(|rest| rest.split('"').next()) {
        let manifest = std::fs::read_to_string(path).unwrap_or_default();
        let names = (value(&manifest, "name"), value(&manifest, "version"));
        if let (Some(name), Some(version)) = names {
            let folder = Path::new(path).parent().unwrap().to_owned();
            folders.insert(format!("{name} {version}"), folder);
        }
    }
    folders
}

/// The value of the first `key = "value"` in a manifest. Cargo normalizes published manifests to one key per line.
fn value(manifest: &str, key: &str) -> Option<String> {
    let of_key = |line: &str| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == key).then(|| value.trim().trim_matches('"').to_owned())
    };
    manifest.lines().find_map(of_key)
}

/// The contents of a `[[package]]` of Cargo.lock: name, version, and names of dependencies.
fn locked() -> Vec<(String, String, Vec<String>)> {
    let lock = include_str!("../../Cargo.lock");
    let package = |text: &str| {
        let dependencies = text.split("dependencies = [").nth(1).unwrap_or_default();
        let names = dependencies.lines().filter_map(|line| {
            let name = line.trim().strip_prefix('"')?.trim_end_matches(['"', ',']);
            name.split(' ').next().map(str::to_owned)
        });
        let (name, version) = (value(text, "name"), value(text, "version"));
        (name.unwrap(), version.unwrap(), names.collect())
    };
    lock.split("[[package]]").skip(1).map(package).collect()
}

/// All crates except our own, by name.
pub fn all() -> Vec<Crate> {
    let (in_binary, with_macros) = (reached("normal,no-proc-macro"), reached("normal"));
    let compiled = reached("normal,build");
    let folders = folders();
    let locked = locked();
    let of = |(name, version, _): &(String, String, Vec<String>)| {
        let key = format!("{name} {version}");
        let used = if in_binary.contains(&key) {
            Use::RunTime
        } else if with_macros.contains(&key) {
            Use::Macro
        } else if compiled.contains(&key) {
            Use::BuildTime
        } else {
            Use::Elsewhere
        };
        let wants = |other: &&(String, String, Vec<String>)| {
            compiled.contains(&format!("{} {}", other.0, other.1)) && other.2.contains(name)
        };
        let mut found = Crate {
            wanted_by: locked
                .iter()
                .filter(wants)
                .map(|other| other.0.clone())
                .collect(),
            name: name.clone(),
            version: version.clone(),
            used,
            licence: String::new(),
            has_build_script: false,
            count: Count::default(),
        };
        if used != Use::Elsewhere {
            let folder = folders
                .get(&key)
                .unwrap_or_else(|| panic!("no sources of {key}"));
            let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
            found.licence = value(&manifest, "license").unwrap_or_else(|| "none".to_owned());
            let build = value(&manifest, "build");
            found.has_build_script = build.is_some_and(|script| script != "false");
            found.count = count::folder(folder);
        }
        found
    };
    let others = locked
        .iter()
        .filter(|package| !package.0.starts_with("rsoracle"));
    others.map(of).collect()
}
