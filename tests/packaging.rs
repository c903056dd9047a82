//! What is installed beside the binary: manual pages and completions, which agree with the help and work in their shells;
//! `make install`; and the image's health check.

mod image;
mod signed;
mod support;

use image::{Image, ONE_ROUND};
use rsoracle::cli::{file, run};
use rsoracle::flags::args;
use rsoracle::flags::tables::{COMMANDS, RUN};
use rsoracle::roster::text;
use rsoracle::system::now::wall_us;
use rsoracle_proof::duration::duration_us;
use rsoracle_proof::terms::Roster;
use signed::Says::Price;
use signed::*;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use support::*;

/// Timeout of `make`, which may include a release build.
const BUILD: Duration = Duration::from_secs(1_800);
const COMPLETIONS: [&str; 3] = [
    "bash-completion/completions/rsoracle",
    "zsh/site-functions/_rsoracle",
    "fish/vendor_completions.d/rsoracle.fish",
];

/// The directory that `rsoracle manual` made.
fn manual() -> PathBuf {
    let dir = scratch("share");
    let done = run(&["manual", dir.to_str().unwrap()]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    let mut said: Vec<PathBuf> = done.stdout.lines().map(PathBuf::from).collect();
    said.sort();
    assert_eq!(said, files(&dir), "it says what it wrote");
    dir
}

/// All files below a directory, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

/// A command of this machine.
fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    command.stdin(Stdio::null());
    command
}

/// The output of a command, which must succeed without messages on standard error.
fn printed(command: Command) -> String {
    let done = start_command(command).finish();
    assert_eq!(
        (done.code, done.stderr.as_str()),
        (Some(0), ""),
        "{}",
        done.stdout
    );
    done.stdout
}

/// A text without blanks and line breaks, which formatting changes.
fn dense(text: &str) -> String {
    text.split_whitespace().collect()
}

/// A manual page as a reader sees it, without the backspaces that make bold type.
fn rendered(page: &Path) -> String {
    let mut mandoc = tool("mandoc");
    mandoc.args(["-T", "utf8", "-O", "width=400"]).arg(page);
    let text = printed(mandoc);
    let mut plain = String::new();
    for letter in text.chars() {
        match letter {
            '\u{8}' => drop(plain.pop()),
            letter => plain.push(letter),
        }
    }
    dense(&plain)
}

/// The parts of a command's help: flags, description, notes, example.
fn pieces(command: &args::Command) -> Vec<String> {
    let flags = command.flags.iter().map(|flag| {
        let default = match flag.default {
            "" => String::new(),
            default => format!("[default:{default}]"),
        };
        let repeats = if flag.repeats { "Mayberepeated." } else { "" };
        format!(
            "--{}{}{}{repeats}{default}",
            flag.name,
            dense(flag.value),
            dense(flag.help)
        )
    });
    let rest = [command.job, command.notes, command.example];
    flags.chain(rest.map(dense)).collect()
}

#[test]
#[ignore = "needs mandoc"]
fn the_manual_pages_say_what_the_help_says() {
    let dir = manual();
    let overview = rendered(&dir.join("man/man1/rsoracle.1"));
    for command in COMMANDS {
        let name = command.name;
        let entry = format!("{name}{}{}", dense(command.operands), dense(command.job));
        assert!(overview.contains(&entry), "{entry}");
        let page = rendered(&dir.join(format!("man/man1/rsoracle-{name}.1")));
        for piece in pieces(command) {
            assert!(
                page.contains(&piece),
                "{piece} in the page of {name}: {page}"
            );
        }
    }
}

#[test]
fn every_command_and_flag_is_in_help_manual_and_completions() {
    let dir = manual();
    let read = |place: &str| std::fs::read_to_string(dir.join(place)).unwrap();
    let [bash, zsh, fish] = COMPLETIONS.map(read);
    let list = run(&["help"]).stdout;
    assert_eq!(files(&dir).len(), COMMANDS.len() + 1 + COMPLETIONS.len());
    for command in COMMANDS {
        let name = command.name;
        let job = dense(command.job);
        assert!(list.contains(&format!("rsoracle {name}")) && dense(&list).contains(&job));
        let source = read(&format!("man/man1/rsoracle-{name}.1"));
        let help = dense(&run(&["help", name]).stdout);
        for piece in pieces(command) {
            assert!(
                help.contains(&piece),
                "{piece} in the help of {name}: {help}"
            );
        }
        let begin = format!("        *:{name}:-*) words='");
        let of_bash = bash
            .lines()
            .find_map(|line| line.strip_prefix(&begin))
            .unwrap();
        let (_, of_zsh) = zsh
            .split_once(&format!("\n    {name}) _arguments"))
            .unwrap();
        let of_zsh = of_zsh.split(" ;;\n").next().unwrap();
        for flag in command.flags {
            let name = flag.name;
            assert!(
                source.contains(&format!("\\-\\-{}", name.replace('-', "\\-"))),
                "{name}"
            );
            assert!(
                of_bash
                    .split([' ', '\''])
                    .any(|word| word == format!("--{name}")),
                "{name}"
            );
            let takes = if flag.value.is_empty() { "[" } else { "=[" };
            assert!(of_zsh.contains(&format!("--{name}{takes}")), "{name}");
            let begin = format!("__fish_seen_subcommand_from {}' -l {name} ", command.name);
            assert!(fish.contains(&begin), "{name}");
        }
    }
}

#[test]
#[ignore = "needs mandoc"]
fn mandoc_finds_nothing_wrong_with_the_manual_pages() {
    for page in files(&manual().join("man")) {
        let mut mandoc = tool("mandoc");
        mandoc.args(["-T", "lint", "-W", "warning"]).arg(&page);
        let done = start_command(mandoc).finish();
        // The pages have no date, so that the same source makes the same pages.
        let flaws = done
            .stdout
            .lines()
            .filter(|line| !line.ends_with("missing date, using \"\": TH"));
        assert_eq!(flaws.collect::<Vec<_>>(), Vec::<&str>::new());
    }
}

#[test]
#[ignore = "needs groff"]
fn groff_finds_nothing_wrong_with_the_manual_pages() {
    for page in files(&manual().join("man")) {
        let mut groff = tool("groff");
        groff.args(["-man", "-ww", "-Tutf8"]).arg(&page);
        printed(groff);
    }
}

/// What is typed in a directory with one file, `roster.toml`, and its possible completions.
const TYPED: [(&str, &str, &[&str]); 14] = [
    ("rsoracle", "his", &["history"]),
    ("rsoracle", "--ver", &["--version"]),
    ("rsoracle help", "his", &["history"]),
    ("rsoracle run", "--agg", &["--aggregator-key"]),
    (
        "rsoracle run",
        "--max",
        &["--max-age", "--max-move", "--max-silence", "--max-spread"],
    ),
    (
        "rsoracle run --source kraken --json",
        "--sour",
        &["--source", "--sources"],
    ),
    ("rsoracle exchange", "--unt", &["--until-eof"]),
    ("rsoracle run --config", "rost", &["roster.toml"]),
    ("rsoracle verify", "rost", &["roster.toml"]),
    ("rsoracle keygen", "--x", &[]),
    ("rsoracle roster", "as", &["assemble"]),
    ("rsoracle roster check", "rost", &["roster.toml"]),
    ("rsoracle roster new BTC/USD", "--fi", &["--first-start"]),
    ("rsoracle history roster.toml", "--l", &["--last"]),
];

fn folder_of_one_file() -> PathBuf {
    let file = scratch("roster.toml");
    std::fs::write(&file, "").unwrap();
    file.parent().unwrap().to_owned()
}

#[test]
fn bash_completes() {
    let file = manual().join(COMPLETIONS[0]);
    let folder = folder_of_one_file();
    for (before, word, wanted) in TYPED {
        let mut bash = tool("bash");
        // If the function finds nothing, readline completes paths ('-o default').
        let script = r#"source "$1"; COMP_WORDS=($2 "$3"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
            [[ $(complete -p rsoracle) == 'complete -o default -F _rsoracle rsoracle' ]] || exit 1
            _rsoracle; [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- "$3"))
            [ ${#COMPREPLY[@]} -eq 0 ] || printf '%s\n' "${COMPREPLY[@]}""#;
        bash.args(["--norc", "-c", script, "bash"])
            .arg(&file)
            .args([before, word])
            .current_dir(&folder);
        let text = printed(bash);
        let mut found: Vec<&str> = text.lines().collect();
        found.sort_unstable();
        assert_eq!(found, wanted, "{before} {word}");
    }
}

#[test]
#[ignore = "needs fish"]
fn fish_completes() {
    let file = manual().join(COMPLETIONS[2]);
    let folder = folder_of_one_file();
    for (before, word, wanted) in TYPED {
        let mut fish = tool("fish");
        let script = "source $argv[1]; complete -C \"$argv[2] $argv[3]\"";
        fish.args(["--no-config", "-c", script])
            .arg(&file)
            .args([before, word])
            .current_dir(&folder);
        fish.env("HOME", scratch("home")).env("TERM", "dumb");
        let text = printed(fish);
        let mut found: Vec<&str> = text
            .lines()
            .map(|line| line.split('\t').next().unwrap())
            .collect();
        found.sort_unstable();
        assert_eq!(found, wanted, "{before} {word}");
    }
}

#[test]
#[ignore = "needs zsh"]
fn zsh_completes() {
    let dir = manual().join("zsh/site-functions");
    let folder = folder_of_one_file();
    // An interactive zsh in its own terminal: type the text, a tab, and a key that prints the resulting line. The quotes inside
    // the awaited text distinguish it from an echo of what was typed.
    let script = r#"zmodload zsh/zpty && zpty shell zsh -f -i
        zpty -w shell "PS1=; PS2=; unsetopt prompt_sp; cd ${(q)2}; fpath=(${(q)1} \$fpath); autoload -Uz compinit; compinit -u -D
            show() { print -r -- '<''<'\$BUFFER'>''>' }; zle -N show; bindkey '^X' show; print is'' ready"
        zpty -r -m shell said '*is ready*'
        zpty -w -n shell "$3 $4"$'\t\x18'
        zpty -r -m shell said '*<<*>>*'
        zpty -d shell
        print -r -- "$said""#;
    for (before, word, wanted) in TYPED {
        let mut zsh = tool("zsh");
        zsh.args(["-f", "-c", script, "zsh"])
            .args([&dir, &folder])
            .args([before, word]);
        let text = printed(zsh);
        let line = text
            .rsplit("<<")
            .next()
            .unwrap()
            .split(">>")
            .next()
            .unwrap();
        // The common prefix of all completions.
        let common = match wanted {
            [] => word,
            [one] => one,
            [first, ..] => {
                let fits = |end: &usize| wanted.iter().all(|one| one.starts_with(&first[..*end]));
                &first[..(0..=first.len()).rev().find(fits).unwrap()]
            }
        };
        let line = line.trim_end_matches([' ', '=']);
        assert_eq!(line, format!("{before} {common}"));
    }
}

/// `make` with these words, as a user runs it.
fn make(words: &[&str]) -> Finished {
    let mut make = Command::new("make");
    make.args(words)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null());
    make.env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL")
        .env("CARGO_NET_OFFLINE", "true");
    let done = start_command(make).finish_within(BUILD);
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    done
}

#[test]
fn make_installs_and_uninstalls() {
    let stage = scratch("a stage");
    let to = format!("DESTDIR={}", stage.display());
    make(&["install", &to, "PREFIX=/opt/oracle"]);
    let root = stage.join("opt/oracle");
    let mut expected: Vec<PathBuf> = files(&manual())
        .iter()
        .map(|path| {
            let inside = path
                .ancestors()
                .find(|folder| folder.ends_with("share"))
                .unwrap();
            root.join("share").join(path.strip_prefix(inside).unwrap())
        })
        .collect();
    expected.push(root.join("bin/rsoracle"));
    let unit = root.join("lib/systemd/system/rsoracle.service");
    let of_collector = unit.with_file_name("rsoracle-collector.service");
    expected.extend([unit.clone(), of_collector.clone()]);
    let (source, documents) = (
        Path::new(env!("CARGO_MANIFEST_DIR")),
        root.join("share/doc/rsoracle"),
    );
    let top = ["README.md", "LICENSE-APACHE", "LICENSE-MIT"].map(|name| documents.join(name));
    expected.extend(top);
    for path in files(&source.join("docs")) {
        expected.push(documents.join(path.strip_prefix(source).unwrap()));
    }
    expected.sort();
    assert_eq!(files(&stage), expected);
    // The unit names what was installed.
    let unit = std::fs::read_to_string(unit).unwrap();
    let example = documents.join("docs/oracle.toml");
    for path in [root.join("bin/rsoracle"), example] {
        let installed = Path::new("/").join(path.strip_prefix(&stage).unwrap());
        assert!(unit.contains(installed.to_str().unwrap()), "{unit}");
    }
    assert!(!unit.contains("/usr/local"), "{unit}");
    let unit = std::fs::read_to_string(of_collector).unwrap();
    assert!(
        unit.contains("\nExecStart=/opt/oracle/bin/rsoracle collect "),
        "{unit}"
    );
    assert!(!unit.contains("/usr/local"), "{unit}");
    // So do the documents.
    for path in files(&documents) {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("/usr/local/"), "{}", path.display());
    }
    let operating = std::fs::read_to_string(documents.join("docs/OPERATING.md")).unwrap();
    assert!(operating.contains("/opt/oracle/share/doc/rsoracle/docs/alerts.yml"));
    let mut version = Command::new(root.join("bin/rsoracle"));
    version.arg("--version");
    let commit = printed(Command::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/.ci/commit"
    )));
    let commit = match commit.trim_end() {
        "" => "unknown commit",
        commit => commit,
    };
    let begin = format!("rsoracle {} ({commit}, ", env!("CARGO_PKG_VERSION"));
    let said = printed(version);
    assert!(said.starts_with(&begin), "{begin} in {said}");
    make(&["uninstall", &to, "PREFIX=/opt/oracle"]);
    assert_eq!(files(&stage), Vec::<PathBuf>::new());
}

/// `make` on a system that has nothing but a shell.
fn make_alone(words: &[&str]) -> Finished {
    let places = ["/usr/bin/make", "/bin/make"];
    let found = places.into_iter().find(|path| Path::new(path).exists());
    let mut make = Command::new(found.expect("make is there"));
    make.args(words).current_dir(env!("CARGO_MANIFEST_DIR"));
    make.env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL")
        .env("PATH", "/nonexistent");
    start_command(make).finish()
}

#[test]
fn a_target_without_its_program_says_so_and_installs_nothing_unasked() {
    let done = make_alone(&["docker"]);
    assert_eq!(done.code, Some(2), "{}", done.stdout);
    assert!(
        done.stderr.contains("docker is missing: see https://"),
        "{}",
        done.stderr
    );
    assert!(
        !done.stdout.contains("cargo"),
        "nothing was built: {}",
        done.stdout
    );
    // Only tells what it would do.
    let done = make_alone(&["-n", "audit"]);
    let told = "not checked; 'make deny' installs cargo-deny (115 MB) and checks them";
    assert!(done.stdout.contains(told), "{}{}", done.stdout, done.stderr);
    assert!(!done.stdout.contains("cargo install"), "{}", done.stdout);
}

/// Runs the image's health check in this directory.
fn health(image: &Image, folder: &Path) -> Finished {
    let mut command = rsoracle();
    command
        .args(&image.health)
        .current_dir(folder)
        .stdin(Stdio::null());
    start_command(command).finish()
}

#[test]
fn the_image_is_well_while_its_price_is_fresh() {
    let image = Image::read();
    let folder = scratch("latest.json").parent().unwrap().to_owned();
    assert_eq!(
        health(&image, &folder).code,
        Some(4),
        "there is nothing yet"
    );
    let mut command = rsoracle();
    command
        .args(&image.run)
        .args(ONE_ROUND)
        .current_dir(&folder)
        .stdin(Stdio::null());
    let done = start_command(command).finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let done = health(&image, &folder);
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    // A report that is signed by keys outside the roster is not healthy.
    let price = [Price(100.0); 5];
    let mut oracle = Oracle::new(5, "embedded:BTCUSDT");
    let newest = oracle.line(start_before(wall_us() - 2_000_000), &price);
    std::fs::write(folder.join("journal.jsonl.newest"), format!("{newest}\n")).unwrap();
    assert_eq!(health(&image, &folder).code, Some(1));
    std::fs::write(
        folder.join("roster.toml"),
        text::render(&Roster::single(1, None, oracle.terms.clone())),
    )
    .unwrap();
    assert_eq!(health(&image, &folder).code, Some(0));
    let old = oracle.line(start_before(wall_us() - 62_000_000), &price);
    std::fs::write(folder.join("journal.jsonl.newest"), format!("{old}\n")).unwrap();
    let done = health(&image, &folder);
    assert_eq!(done.code, Some(6));
    assert!(
        done.stdout.contains("more than --max-age 1m"),
        "{}",
        done.stdout
    );
}

#[test]
fn the_example_configuration_publishes_often_enough_for_the_health_check() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/docs");
    let read = |name: &str| std::fs::read_to_string(format!("{docs}/{name}")).unwrap();
    let mut given = args::parse(&RUN, &[]).unwrap();
    file::read(&mut given, "oracle.toml", &read("oracle.toml")).unwrap();
    let run = run::read(&given).unwrap().run;
    // In a calm market a price is published with the first round that ends after the heartbeat.
    let heartbeat_us = run.policy.heartbeat_us.expect("a heartbeat");
    let schedule = run.roster.schedule();
    assert!(schedule.period_us > 0, "rounds without end");
    let oldest_us = heartbeat_us + schedule.period_us + schedule.length_us();
    let (image, document) = (read("Dockerfile"), read("CONSUMING.md"));
    let (_, health) = image.split_once("\"--max-age\", \"").expect("an age");
    let (_, example) = document.split_once("`--max-age ").expect("an age");
    for age in [health.split_once('"'), example.split_once('`')] {
        let age = age.expect("it ends").0;
        assert!(
            duration_us(age).unwrap() > oldest_us,
            "{age}, {oldest_us} µs"
        );
    }
}

#[test]
fn the_change_log_has_this_version() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/CHANGELOG.md");
    let text = std::fs::read_to_string(path).unwrap();
    let version = concat!("\n## [", env!("CARGO_PKG_VERSION"), "]");
    assert!(text.contains(version), "{version} in docs/CHANGELOG.md");
}
