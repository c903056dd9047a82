//! The rules of the house, checked on the source itself: layers, purity, no threads, no async, no unsafe, the five
//! dependencies, functions that fit a screen. This file names what it bans; it looks at `src` only.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Layers 0 to 2 do no input or output and read no clock.
const PURE_LAYERS: usize = 3;
const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 500;
const DEPENDENCIES: [&str; 5] = [
    "ed25519-dalek",
    "getrandom",
    "nanoserde",
    "native-tls",
    "tungstenite",
];

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every Rust file under `src` but those of unit tests that stand in a file of their own.
fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![src()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs")
                && !path.ends_with("tests.rs")
            {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 20, "the files are found");
    found.sort();
    found
}

/// The code of a file: no comments, no tests (which stand last in a file).
fn code(text: &str) -> String {
    let without_tests = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    without_tests
        .lines()
        .map(uncommented)
        .collect::<Vec<_>>()
        .join("\n")
}

/// A line without its comment; the two slashes of an address such as `wss://` begin none.
fn uncommented(line: &str) -> &str {
    let begins = |at: &usize| !line[..*at].ends_with(':');
    let comment = line.match_indices("//").map(|(at, _)| at).find(begins);
    comment.map_or(line, |at| &line[..at])
}

/// Layer of each top-level module, from the groups of `mod` lines in lib.rs.
fn layers() -> BTreeMap<String, usize> {
    let text = read(&src().join("lib.rs"));
    let groups: Vec<&str> = text
        .split("\n\n")
        .filter(|group| group.contains("pub mod "))
        .collect();
    assert_eq!(groups.len(), 5, "one group of mod lines per layer, 0 to 4");
    let mut layers = BTreeMap::new();
    for (layer, group) in groups.into_iter().enumerate() {
        for module in group
            .lines()
            .filter_map(|line| line.strip_prefix("pub mod "))
        {
            layers.insert(module.trim_end_matches(';').to_owned(), layer);
        }
    }
    layers
}

/// The top-level module that a file belongs to.
fn module(path: &Path) -> String {
    let inside = path.strip_prefix(src()).unwrap();
    inside
        .components()
        .next()
        .unwrap()
        .as_os_str()
        .to_str()
        .unwrap()
        .trim_end_matches(".rs")
        .to_owned()
}

/// The modules that `code` names by `crate::`.
fn uses(code: &str) -> Vec<String> {
    let name = |rest: &str| {
        rest.chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect()
    };
    code.split("crate::").skip(1).map(name).collect()
}

#[test]
fn modules_use_their_own_layer_or_lower_ones_and_never_in_a_circle() {
    let layers = layers();
    let mut edges: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in files() {
        let from = module(&path);
        let Some(layer) = layers.get(&from) else {
            continue;
        };
        for to in uses(&code(&read(&path))) {
            let below = layers.get(&to).unwrap_or_else(|| {
                panic!("{}: crate::{to} is no module of lib.rs", path.display())
            });
            assert!(
                below <= layer,
                "{}: layer {layer} uses crate::{to} of layer {below}",
                path.display()
            );
            if to != from {
                edges.entry(from.clone()).or_default().push(to);
            }
        }
    }
    for start in layers.keys() {
        let mut reached = Vec::new();
        let mut next = edges.get(start).cloned().unwrap_or_default();
        while let Some(module) = next.pop() {
            assert_ne!(
                &module, start,
                "{start} uses itself through others: {reached:?}"
            );
            if !reached.contains(&module) {
                next.extend(edges.get(&module).cloned().unwrap_or_default());
                reached.push(module);
            }
        }
    }
}

#[test]
fn the_lower_layers_do_no_input_or_output_and_read_no_clock() {
    let banned = [
        "std::fs",
        "std::io",
        "std::process",
        "std::thread",
        "std::env",
        "std::os",
        "Instant",
        "SystemTime",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "ToSocketAddrs",
        "println!",
        "print!",
        "getrandom::",
        "tungstenite::",
        "native_tls::",
    ];
    let layers = layers();
    for path in files().iter().filter(|path| {
        layers
            .get(&module(path))
            .is_some_and(|layer| *layer < PURE_LAYERS)
    }) {
        let code = code(&read(path));
        for word in banned {
            assert!(
                !code.contains(word),
                "{}: {word} in a pure layer",
                path.display()
            );
        }
    }
}

#[test]
fn there_are_no_threads_no_async_no_unsafe_and_nothing_unfinished() {
    let banned = [
        "thread::spawn",
        "thread::scope",
        "thread::Builder",
        "async ",
        ".await",
        "unsafe",
        "todo!",
        "unimplemented!",
        "dbg!",
        ".unwrap()",
        "static mut",
    ];
    for path in files() {
        let code = code(&read(&path));
        for word in banned {
            assert!(!code.contains(word), "{}: {word}", path.display());
        }
    }
    assert!(read(&src().join("../Cargo.toml")).contains("unsafe_code = \"forbid\""));
}

#[test]
fn the_direct_dependencies_are_the_five() {
    let text = read(&src().join("../Cargo.toml"));
    let mut found: Vec<String> = Vec::new();
    for section in text
        .split("\n[")
        .filter(|section| section.split(']').next().unwrap().ends_with("dependencies"))
    {
        let names = section
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once('='))
            .map(|(name, _)| name.trim());
        found.extend(
            names
                .filter(|name| !name.starts_with('#'))
                .map(str::to_owned),
        );
    }
    found.sort();
    // One may stand twice: the static binary asks for a feature more.
    found.dedup();
    assert_eq!(found, DEPENDENCIES);
}

#[test]
fn functions_fit_a_screen_and_files_a_short_reading() {
    for path in files() {
        let text = read(&path);
        let lines: Vec<&str> = text
            .split("#[cfg(test)]\nmod tests")
            .next()
            .unwrap()
            .lines()
            .collect();
        assert!(
            lines.len() <= FILE_LINES_MAX,
            "{}: {} lines without tests",
            path.display(),
            lines.len()
        );
        for (start, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let words = line.trim_start();
            let is_function = [
                "fn ",
                "pub fn ",
                "pub(super) fn ",
                "pub(crate) fn ",
                "const fn ",
            ]
            .iter()
            .any(|way| words.starts_with(way));
            if !is_function {
                continue;
            }
            let end = format!("{}}}", " ".repeat(indent));
            let length = lines[start..]
                .iter()
                .position(|line| *line == end)
                .map_or(1, |offset| offset + 1);
            assert!(
                length <= FUNCTION_LINES_MAX,
                "{}:{}: a function of {length} lines",
                path.display(),
                start + 1
            );
        }
    }
}

#[test]
fn every_module_says_what_it_is_for() {
    for path in files() {
        assert!(read(&path).starts_with("//! "), "{}", path.display());
    }
}
