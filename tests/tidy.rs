//! The project's rules, checked on the source files in `src`: rooms, circular imports, purity, no threads, no async, no unsafe,
//! dependencies, lengths of functions and files.

mod reading;

use reading::{Graph, Source, sources};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 500;
const DEPENDENCIES: [&str; 5] = [
    "ed25519-dalek",
    "getrandom",
    "nanoserde",
    "native-tls",
    "tungstenite",
];

/// Files that do no input or output and read no clock, and use no files that do. (In src/proof, the compiler ensures that.)
const PURE: [&str; 34] = [
    "src/aggregator/limits.rs",
    "src/aggregator/settings.rs",
    "src/aggregator/strays.rs",
    "src/aggregator/voices.rs",
    "src/aggregator/words.rs",
    "src/cli/file.rs",
    "src/cli/manual.rs",
    "src/cli/sources.rs",
    "src/collector/limits.rs",
    "src/collector/sampler.rs",
    "src/collector/settings.rs",
    "src/exchange/binance.rs",
    "src/exchange/decimal.rs",
    "src/exchange/json.rs",
    "src/exchange/kraken.rs",
    "src/exchange/limits.rs",
    "src/exchange/proxy.rs",
    "src/flags/args.rs",
    "src/flags/tables/mod.rs",
    "src/flags/values.rs",
    "src/follow/limits.rs",
    "src/keys/secret.rs",
    "src/roster/seat.rs",
    "src/roster/settings.rs",
    "src/roster/text.rs",
    "src/serve/index.rs",
    "src/serve/limits.rs",
    "src/serve/scan.rs",
    "src/source/market.rs",
    "src/system/clock.rs",
    "src/system/date.rs",
    "src/system/endpoint.rs",
    "src/system/limits.rs",
    "src/wire/mod.rs",
];

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Which files each file uses. A door (`mod.rs`, `lib.rs`) stands for its room, so its uses of that room are left out.
fn edges(sources: &[Source]) -> BTreeMap<String, BTreeSet<String>> {
    let mut edges = Graph::of(sources).uses;
    for door in sources.iter().filter(|source| source.is_door()) {
        let folder = door.path.rsplit_once('/').expect("it is in a folder").0;
        let own = format!("{folder}/");
        let used = edges.get_mut(&door.path).expect("every file is there");
        used.retain(|file| !file.starts_with(&own));
    }
    edges
}

/// In every folder, the files and subfolders (each as a whole) do not use each other in a circle. Doors are left out, since
/// they name what is behind them and are named by it.
#[test]
fn nothing_uses_itself_in_a_circle() {
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (from, files) in Graph::of(&sources()).uses {
        for to in files {
            let same = from
                .split('/')
                .zip(to.split('/'))
                .take_while(|(a, b)| a == b);
            let depth = same.count();
            let part = |path: &str| -> String {
                let parts = path.split_inclusive('/').take(depth + 1);
                parts.collect()
            };
            let (one, other) = (part(&from), part(&to));
            if !is_door(&one) && !is_door(&other) {
                edges.entry(one).or_default().insert(other);
            }
        }
    }
    for start in edges.keys() {
        let mut reached = BTreeSet::new();
        let mut next: Vec<&String> = edges[start].iter().collect();
        while let Some(part) = next.pop() {
            assert_ne!(part, start, "it uses itself through some of {reached:?}");
            if reached.insert(part) {
                next.extend(edges.get(part).into_iter().flatten());
            }
        }
    }
}

fn is_door(path: &str) -> bool {
    path.ends_with("mod.rs") || path.ends_with("lib.rs")
}

#[test]
fn nothing_stands_outside_the_rooms_and_every_door_says_what_its_room_uses_and_who_uses_it() {
    let sources = sources();
    let room_of = |path: &String| {
        let source = sources.iter().find(|source| source.path == *path);
        source.expect("every file is there").room()
    };
    let (mut uses, mut used_by): (BTreeMap<_, BTreeSet<_>>, BTreeMap<_, BTreeSet<_>>) =
        Default::default();
    for (from, files) in Graph::of(&sources).uses {
        for to in files {
            let (from, to) = (room_of(&from), room_of(&to));
            if from != to {
                uses.entry(from.clone()).or_default().insert(to.clone());
                used_by.entry(to).or_default().insert(from);
            }
        }
    }
    for source in &sources {
        let inside = &source.path["src/".len()..];
        let is_loose = !inside.contains('/');
        assert!(
            !is_loose || matches!(inside, "lib.rs" | "main.rs"),
            "{inside} stands in no room"
        );
        let is_room = inside.split('/').count() == 2 && inside.ends_with("/mod.rs");
        if !is_room {
            continue;
        }
        let room = source.room();
        let listed = |rooms: Option<&BTreeSet<String>>| {
            let rooms = rooms.into_iter().flatten().map(String::as_str);
            let rooms: Vec<&str> = rooms.collect();
            rooms.join(", ")
        };
        let told = format!(
            "Uses: {}. Used by: {}.",
            listed(uses.get(&room)),
            listed(used_by.get(&room))
        );
        let comments = source
            .text
            .lines()
            .map_while(|line| line.strip_prefix("//!"));
        let words: Vec<&str> = comments.flat_map(str::split_whitespace).collect();
        assert!(
            words.join(" ").contains(&told),
            "{inside} should say: {told}"
        );
    }
}

#[test]
fn pure_files_do_no_input_or_output_and_read_no_clock() {
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
    let sources = sources();
    let edges = edges(&sources);
    let mut pure: BTreeSet<&str> = BTreeSet::from(PURE);
    let mut next: Vec<&str> = PURE.to_vec();
    while let Some(file) = next.pop() {
        let uses = edges.get(file);
        for used in uses.unwrap_or_else(|| panic!("{file} is not there")) {
            if pure.insert(used) {
                next.push(used);
            }
        }
    }
    for source in &sources {
        let code = source.code();
        for word in banned {
            assert!(
                !pure.contains(source.path.as_str()) || !code.contains(word),
                "{}: {word} in what should be pure",
                source.path
            );
        }
    }
    let proof = read("src/proof/lib.rs");
    assert!(proof.contains("#![no_std]"), "the compiler keeps it pure");
}

#[test]
fn there_are_no_threads_no_async_no_unsafe_and_nothing_unfinished() {
    let banned = [
        "thread::spawn",
        "thread::scope",
        "thread::Builder",
        "async ",
        ".await",
        "unsafe ",
        "unsafe{",
        "todo!",
        "unimplemented!",
        "dbg!",
        ".unwrap()",
        "static mut",
    ];
    for source in sources() {
        let code = source.code();
        for word in banned {
            assert!(!code.contains(word), "{}: {word}", source.path);
        }
    }
    assert!(read("Cargo.toml").contains("[workspace.lints.rust]\nunsafe_code = \"forbid\""));
    for manifest in MANIFESTS {
        assert!(
            read(manifest).contains("[lints]\nworkspace = true"),
            "{manifest}"
        );
    }
}

const MANIFESTS: [&str; 3] = [
    "Cargo.toml",
    "src/proof/Cargo.toml",
    "src/verify/Cargo.toml",
];

/// The dependencies of a manifest. The static binary names one of them again for a feature, but each is listed once.
fn dependencies(manifest: &str) -> Vec<String> {
    let text = read(manifest);
    let sections = text
        .split("\n[")
        .filter(|section| section.split(']').next().unwrap().ends_with("dependencies"));
    let lines = sections.flat_map(|section| section.lines().skip(1));
    let names = lines
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name.trim());
    let names = names
        .filter(|name| !name.starts_with('#'))
        .map(str::to_owned);
    let mut names: Vec<String> = names.collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn the_direct_dependencies_are_the_five() {
    let mut of_all = dependencies("Cargo.toml");
    of_all.retain(|name| !name.starts_with("rsoracle-"));
    assert_eq!(of_all, DEPENDENCIES);
    assert_eq!(dependencies("src/proof/Cargo.toml"), ["ed25519-dalek"]);
    assert_eq!(dependencies("src/verify/Cargo.toml"), ["rsoracle-proof"]);
}

#[test]
fn functions_fit_a_screen_and_files_a_short_reading() {
    for source in sources() {
        let lines = source.without_tests().lines().count();
        let path = &source.path;
        assert!(
            lines <= FILE_LINES_MAX,
            "{path}: {lines} lines without tests"
        );
        let (length, at) = source.longest_function();
        assert!(
            length <= FUNCTION_LINES_MAX,
            "{path}:{at}: a function of {length} lines"
        );
    }
}

/// `std::env::var` cannot tell a variable that is not UTF-8 from one that is not set, unless its error is looked at.
#[test]
fn one_file_reads_environment_variables_as_text() {
    for source in sources() {
        let reads = source.code().contains("env::var(");
        let may = source.path == "src/exchange/roots.rs";
        assert_eq!(reads, may, "{}", source.path);
    }
}

#[test]
fn every_module_says_what_it_is_for() {
    for source in sources() {
        assert!(source.text.starts_with("//! "), "{}", source.path);
    }
}
