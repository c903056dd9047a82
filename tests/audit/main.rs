//! Reports on one page what this program consists of, from the lock file and the sources, and enforces budgets.
//!
//! `make audit` prints the page. It tells how much there is to read, not how good it is. Every crate and every file of ours is
//! in a second file, which the page names.

#[path = "../reading/mod.rs"]
mod reading;
#[path = "../support/mod.rs"]
mod support;

mod count;
mod crates;

use count::Count;
use crates::{Crate, TARGET, Use};
use reading::Graph;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn in_checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(in_checkout(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The budgets of .ci/budget.toml, by name.
fn budgets() -> BTreeMap<String, usize> {
    let text = read(".ci/budget.toml");
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap().trim());
    let budget = |line: &str| {
        let (name, number) = line.split_once('=').expect("NAME = NUMBER");
        let number = number.replace('_', "");
        (
            name.trim().to_owned(),
            number.trim().parse().expect("a number"),
        )
    };
    lines.filter(|line| !line.is_empty()).map(budget).collect()
}

/// The foreign crates that Cargo.toml names.
fn direct() -> Vec<&'static str> {
    let manifest = include_str!("../../Cargo.toml");
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap();
    let lines = section.split("\n[").next().unwrap().lines();
    lines
        .filter_map(|line| Some(line.split_once(" = ")?.0))
        .filter(|name| !name.starts_with("rsoracle-"))
        .collect()
}

/// Our own files: their counts without tests, and the lines of their tests.
fn own_files() -> Vec<(String, Count, usize)> {
    let mut folders = vec![in_checkout("src")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let all_tests = path.ends_with("tests.rs");
                let without_tests = match all_tests {
                    true => "",
                    false => {
                        ["", "pub(crate) ", "pub(super) "]
                            .iter()
                            .fold(&*text, |text, public| {
                                let tests = format!("#[cfg(test)]\n{public}mod tests");
                                text.split(&*tests).next().expect("a first part")
                            })
                    }
                };
                let lines = |text: &str| {
                    let code = count::code(text, true);
                    code.lines().filter(|line| !line.trim().is_empty()).count()
                };
                let all = count::file(&path);
                let code = Count {
                    rust_lines: lines(without_tests),
                    ..all
                };
                let name = path.strip_prefix(in_checkout("")).unwrap();
                found.push((
                    name.display().to_string(),
                    code,
                    all.rust_lines - code.rust_lines,
                ));
            }
        }
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

/// What each reader must read: the name of the budget, the reader, and the files whose imports reach all code that can run.
const READERS: [(&str, &str, &str); 5] = [
    (
        "library_lines",
        "a consumer's program: rsoracle-proof",
        "src/proof/",
    ),
    (
        "verifier_lines",
        "a consumer: rsoracle-verify",
        "src/verify/",
    ),
    (
        "collector_lines",
        "a signer: a collector process",
        "src/collector/",
    ),
    (
        "aggregator_lines",
        "an operator: the aggregator process",
        "src/aggregator/",
    ),
    (
        "resolver_lines",
        "the process that resolves a name",
        "src/system/resolve.rs",
    ),
];

/// Adds what each reader must read, and the longest file and function.
fn readers(page: &mut String, counted: &mut BTreeMap<&'static str, usize>) {
    let sources = reading::sources();
    let graph = Graph::of(&sources);
    let _ = writeln!(page, "\nwho reads what (code that can run, by imports)");
    for (budget, who, begins) in READERS {
        let roots = sources
            .iter()
            .filter(|source| source.path.starts_with(begins));
        let reached = roots.flat_map(|root| graph.closure(&root.path));
        let reached: std::collections::BTreeSet<String> = reached.collect();
        let read = sources
            .iter()
            .filter(|source| reached.contains(&source.path));
        let lines = read.map(|source| source.lines()).sum();
        let _ = writeln!(
            page,
            "  {who:<40} {lines:>7} lines in {} files",
            reached.len()
        );
        counted.insert(budget, lines);
    }
    let longest = sources.iter().max_by_key(|source| source.lines()).unwrap();
    let _ = writeln!(page, "  the longest file: {}", longest.path);
    let of = |source: &reading::Source| (source.longest_function(), source.path.clone());
    let ((lines, at), path) = sources.iter().map(of).max().unwrap();
    let _ = writeln!(page, "  the longest function: {path}:{at}");
    counted.insert("longest_file_lines", longest.lines());
    counted.insert("longest_function_lines", lines);
    counted.insert("modules", sources.len());
}

fn versions_beyond_the_first(crates: &[Crate]) -> usize {
    let mut versions: BTreeMap<&str, usize> = BTreeMap::new();
    for one in crates.iter().filter(|one| one.used != Use::Elsewhere) {
        *versions.entry(&one.name).or_default() += 1;
    }
    versions.values().map(|count| count - 1).sum()
}

/// Adds the crates of one use: their sum to the page, each of them to the details.
fn table(
    (page, details): (&mut String, &mut String),
    crates: &[Crate],
    used: Use,
    title: &str,
) -> Count {
    let of_use: Vec<&Crate> = crates.iter().filter(|one| one.used == used).collect();
    let mut sum = Count::default();
    let _ = writeln!(details, "\n{title}: {}", of_use.len());
    let _ = writeln!(
        details,
        "  {:<34} {:>7} {:>7} {:>7}  build.rs  {:<32} pulled in by",
        "crate", "Rust", "C", "unsafe", "licence"
    );
    for one in &of_use {
        sum += one.count;
        let wanted_by: Vec<&str> = one.wanted_by.iter().map(String::as_str).collect();
        let _ = writeln!(
            details,
            "  {:<34} {:>7} {:>7} {:>7}  {:<8}  {:<32} {}",
            format!("{} {}", one.name, one.version),
            one.count.rust_lines,
            one.count.c_lines,
            one.count.unsafes,
            if one.has_build_script { "yes" } else { "" },
            one.licence,
            wanted_by.join(", ")
        );
    }
    let _ = writeln!(
        page,
        "  {title:<34} {:>7} {:>7} {:>7} {:>7}",
        of_use.len(),
        sum.rust_lines,
        sum.c_lines,
        sum.unsafes
    );
    sum
}

/// Adds our own files: their sum to the page, each of them to the details.
fn own(page: &mut String, details: &mut String) -> Count {
    let own = own_files();
    let _ = writeln!(
        details,
        "\nour own: {} files\n  {:<34} {:>7} {:>7} {:>7}",
        own.len(),
        "file",
        "code",
        "tests",
        "unsafe"
    );
    let (mut sum, mut sum_of_tests) = (Count::default(), 0);
    for (name, code, tests) in &own {
        sum += *code;
        sum_of_tests += tests;
        let _ = writeln!(
            details,
            "  {name:<34} {:>7} {tests:>7} {:>7}",
            code.rust_lines, code.unsafes
        );
    }
    let _ = writeln!(
        page,
        "  {:<34} {:>7} {:>7} {:>7} {:>7}  and {sum_of_tests} lines of tests",
        "our own files",
        own.len(),
        sum.rust_lines,
        sum.c_lines,
        sum.unsafes
    );
    sum
}

/// The page, the details behind it, and the figures by the names of the budgets.
fn page() -> (String, String, BTreeMap<&'static str, usize>) {
    let crates = crates::all();
    let number = |used| crates.iter().filter(|one| one.used == used).count();
    let (mut page, mut details) = (String::new(), String::new());
    let _ = writeln!(
        page,
        "rsoracle {}, {TARGET}: what is in it\n\ndirect dependencies: {}\n\n  {:<34} {:>7} {:>7} {:>7} {:>7}",
        env!("CARGO_PKG_VERSION"),
        direct().join(", "),
        "lines with code, without tests",
        "number",
        "Rust",
        "C",
        "unsafe"
    );
    let mut sum = |used, title| table((&mut page, &mut details), &crates, used, title);
    let run_time = sum(Use::RunTime, "crates in the binary");
    let macros = sum(Use::Macro, "crates run by the compiler");
    let build_time = sum(Use::BuildTime, "crates of build scripts");
    let elsewhere = crates.iter().filter(|one| one.used == Use::Elsewhere);
    let elsewhere: Vec<&str> = elsewhere.map(|one| one.name.as_str()).collect();
    let _ = writeln!(
        details,
        "\nin Cargo.lock for other systems only, not compiled: {}\n  {}",
        elsewhere.len(),
        elsewhere.join(", ")
    );
    let own = own(&mut page, &mut details);
    let mut counted = BTreeMap::from([
        ("direct_dependencies", direct().len()),
        ("crates_in_the_binary", number(Use::RunTime)),
        ("crates_of_macros", number(Use::Macro)),
        ("crates_of_build_scripts", number(Use::BuildTime)),
        (
            "versions_beyond_the_first",
            versions_beyond_the_first(&crates),
        ),
        (
            "build_scripts",
            crates.iter().filter(|one| one.has_build_script).count(),
        ),
        ("rust_lines_in_the_binary", run_time.rust_lines),
        (
            "rust_lines_of_macros_and_build_scripts",
            macros.rust_lines + build_time.rust_lines,
        ),
        ("c_lines", run_time.c_lines + build_time.c_lines),
        ("unsafe_in_the_binary", run_time.unsafes),
        ("own_unsafe", own.unsafes),
    ]);
    readers(&mut page, &mut counted);
    page.push_str(
        "\nIn the static binary, but no crate: Rust's standard library, musl and gcc's start files, from the toolchain.\n",
    );
    let binary = std::env::var_os("RSORACLE_STATIC").map(PathBuf::from);
    match binary.map(|path| std::fs::metadata(path).expect("RSORACLE_STATIC names a file")) {
        Some(metadata) => {
            counted.insert("static_binary_bytes", metadata.len() as usize);
        }
        None => page.push_str("Its size is not checked: 'make musl' builds it.\n"),
    }
    (page, details, counted)
}

/// Most lines of the page: what a screen shows.
const PAGE_LINES_MAX: usize = 50;

#[test]
fn nothing_passes_its_budget() {
    let (mut page, details, counted) = page();
    let budgets = budgets();
    let mut passed = Vec::new();
    let _ = writeln!(
        page,
        "\n{:<42} {:>10} {:>10}",
        "budgets (.ci/budget.toml)", "now", "budget"
    );
    for (name, budget) in &budgets {
        let Some(now) = counted.get(name.as_str()) else {
            assert_eq!(name, "static_binary_bytes", "an unknown budget");
            continue;
        };
        let verdict = match now.cmp(budget) {
            std::cmp::Ordering::Greater => "EXCEEDED",
            std::cmp::Ordering::Equal => "",
            std::cmp::Ordering::Less => "can go down",
        };
        let _ = writeln!(page, "  {name:<40} {now:>10} {budget:>10}  {verdict}");
        if now > budget {
            passed.push(format!("{name}: {now}, budget {budget}"));
        }
    }
    for name in counted.keys() {
        assert!(budgets.contains_key(*name), "{name} has no budget");
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    page.push_str("\nEvery crate with its licence, and every file: target/audit-details.txt\n");
    std::fs::write(target.join("audit.txt"), &page).unwrap();
    std::fs::write(target.join("audit-details.txt"), details).unwrap();
    assert_eq!(passed, Vec::<String>::new(), "{page}");
    let length = page.lines().count();
    assert!(length <= PAGE_LINES_MAX, "{length} lines: {page}");
}

#[test]
fn the_architecture_states_the_budget_of_each_reader() {
    let document = read("docs/ARCHITECTURE.md");
    let at_most = |line: &str| {
        Some(
            line.strip_suffix(" lines |")?
                .rsplit("| ")
                .next()?
                .replace(',', ""),
        )
    };
    let stated: Vec<String> = document.lines().filter_map(at_most).collect();
    let budgets = budgets();
    let readers = [
        "library_lines",
        "verifier_lines",
        "collector_lines",
        "aggregator_lines",
    ];
    assert_eq!(stated, readers.map(|name| budgets[name].to_string()));
}

#[test]
fn the_document_and_the_lock_file_name_the_same_crates_with_a_reason_each() {
    let document = read("docs/DEPENDENCIES.md");
    let mut told = Vec::new();
    for line in document.lines().filter(|line| line.starts_with("| `")) {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let name = cells.next().unwrap().trim_matches('`').to_owned();
        let reason = cells.next().expect("a reason");
        assert!(
            reason.split(' ').count() >= 4,
            "{name}: {reason:?} is no reason"
        );
        told.push(name);
    }
    let mut locked: Vec<String> = crates::all().into_iter().map(|one| one.name).collect();
    told.sort();
    locked.sort();
    assert_eq!(told, locked, "docs/DEPENDENCIES.md, then Cargo.lock");
}

#[test]
fn the_counter_sees_code_and_nothing_else() {
    let path = support::scratch("counted.rs");
    let of = |name: &str, text: &str| {
        let path = path.with_file_name(name);
        std::fs::write(&path, text).unwrap();
        count::file(&path)
    };
    let rust = |text: &str| {
        let count = of("counted.rs", text);
        assert_eq!(count.c_lines, 0);
        (count.rust_lines, count.unsafes)
    };
    assert_eq!(rust(""), (0, 0));
    assert_eq!(rust("// unsafe\n\n/* unsafe\n /* unsafe */ */\n"), (0, 0));
    assert_eq!(
        rust("fn f() {} // unsafe\n/* a */ unsafe fn g() {}\n"),
        (2, 1)
    );
    assert_eq!(
        rust("let a = \"unsafe // \\\" unsafe\"; unsafe {}\n"),
        (1, 1)
    );
    assert_eq!(rust("let a = r#\"unsafe \" /* \"#; unsafe {}\n"), (1, 1));
    assert_eq!(rust("let a = br\"\\\"; unsafe {}\n"), (1, 1));
    assert_eq!(rust("let a = b'\"'; let b = '\\''; unsafe {}\n"), (1, 1));
    assert_eq!(rust("fn f<'a>(a: &'a str) { unsafe {} } // 'b\n"), (1, 1));
    assert_eq!(
        rust("#![forbid(unsafe_code)]\nfn not_unsafe() {}\nr#unsafe\n"),
        (3, 0)
    );
    let c = |text: &str| of("counted.c", text).c_lines;
    assert_eq!(
        c("int a; /* b\n c */\n// d\nchar e = '\"'; /* /* */ int f;\n"),
        2
    );
    assert_eq!(of("counted.txt", "unsafe\n"), Count::default());
}

#[test]
fn what_keeps_the_aggregator_small_stays_out_of_it() {
    let sources = reading::sources();
    let graph = Graph::of(&sources);
    let ours = sources
        .iter()
        .filter(|source| source.path.starts_with("src/aggregator/"));
    let never = [
        "src/exchange/",
        "src/embedded/",
        "src/doctor/",
        "src/cli/",
        "src/flags/",
    ];
    for source in ours {
        for file in graph.closure(&source.path) {
            let is_kept_out = never.iter().any(|room| file.starts_with(room));
            assert!(!is_kept_out, "{} reaches {file}", source.path);
        }
    }
}
