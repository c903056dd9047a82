//! The systemd units in docs: systemd accepts them, the binary accepts their command lines, and the binary works when it is
//! started, given keys and stopped as systemd does it.
//!
//! Nothing here runs systemd itself. One test needs systemd-analyze.

mod chronicle;
mod support;
mod witness;

use chronicle::*;
use rsoracle::flags::values::DIVERSE;
use rsoracle::flags::values::{CONTROL_PORT, DATA_PORT};
use rsoracle::keys::create;
use rsoracle_proof::seal::hex;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::peer::roster;
use support::*;
use witness::*;

/// Highest exposure level that 'systemd-analyze security' may report, in tenths: 0 is the safest, 100 the least safe.
const EXPOSURE_MAX: &str = "11";
const BINARY: &str = "/usr/local/bin/rsoracle";
/// The unit of a run, and that of a collector by hand.
const RUN: &str = "rsoracle.service";
const COLLECTOR: &str = "rsoracle-collector.service";

/// A unit in docs.
fn unit(name: &str) -> String {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    std::fs::read_to_string(docs.join(name)).unwrap()
}

/// All values of a key in the unit of a run, with continued lines joined.
fn values(key: &str) -> Vec<String> {
    values_of(RUN, key)
}

/// The same in another unit.
fn values_of(name: &str, key: &str) -> Vec<String> {
    let text = unit(name).replace("\\\n", " ");
    let lines = text.lines().filter_map(|line| line.split_once('='));
    lines
        .filter(|(name, _)| *name == key)
        .map(|(_, value)| value.to_owned())
        .collect()
}

/// The directories that systemd would make for the service.
struct Places {
    /// %S/rsoracle
    state: PathBuf,
    /// %t/rsoracle
    runtime: PathBuf,
    /// %d
    credentials: PathBuf,
}

impl Places {
    /// Directories with a key for every slot and the aggregator, as systemd would provide them.
    fn set() -> Places {
        let root = scratch("root");
        let places = Places {
            state: root.join("state/rsoracle"),
            runtime: root.join("runtime/rsoracle"),
            credentials: root.join("credentials"),
        };
        for folder in [&places.state, &places.runtime, &places.credentials] {
            std::fs::create_dir_all(folder).unwrap();
        }
        for credential in values("LoadCredential") {
            let (name, _) = credential.split_once(':').expect("NAME:PATH");
            let path = places.credentials.join(name);
            assert_eq!(run(&["keygen", path.to_str().unwrap()]).code, Some(0));
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::Permissions::from_mode(0o440);
            std::fs::set_permissions(&path, mode).unwrap();
        }
        places
    }

    /// The command that the unit starts, with these directories and this configuration.
    fn command(&self, config: &Path, more: &[&str]) -> (Command, String) {
        let [line] = &values("ExecStart")[..] else {
            panic!("one ExecStart");
        };
        let folder = |path: &Path| path.parent().unwrap().to_str().unwrap().to_owned();
        let line = line
            .replace("%S", &folder(&self.state))
            .replace("%t", &folder(&self.runtime))
            .replace("%d", self.credentials.to_str().unwrap())
            .replace("/etc/rsoracle.toml", config.to_str().unwrap());
        let mut words = line.split_whitespace();
        assert_eq!((words.next(), words.next()), (Some(BINARY), Some("run")));
        let args: Vec<&str> = words.chain(more.iter().copied()).collect();
        let (mut command, mark) = marked_run(&args);
        command.env("CREDENTIALS_DIRECTORY", &self.credentials);
        command.current_dir(&self.state);
        (command, mark)
    }
}

#[test]
#[ignore = "needs systemd"]
fn systemd_takes_the_unit_and_finds_it_closed() {
    for name in [RUN, COLLECTOR] {
        assert_closed(name);
    }
}

fn assert_closed(name: &str) {
    // systemd-analyze requires the binary to exist.
    let path = scratch(name);
    let binary = rsoracle().get_program().to_str().unwrap().to_owned();
    std::fs::write(&path, unit(name).replace(BINARY, &binary)).unwrap();
    let ask = |args: &[&str]| {
        let mut command = Command::new("systemd-analyze");
        let output = command.args(args).arg(&path).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(output.status.success(), "{args:?}: {text}");
        text
    };
    assert_eq!(ask(&["verify"]), "", "no warning either");
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let text = ask(&["security", "--offline=true", &threshold]);
    println!("{}", text.lines().last().unwrap_or_default());
}

#[test]
fn the_unit_has_what_the_diverse_roster_needs() {
    let slots = DIVERSE.iter().enumerate();
    let keys = slots.map(|(slot, _)| format!("slot-{slot}.key:/etc/rsoracle/slot-{slot}.key"));
    let own = "aggregator.key:/etc/rsoracle/aggregator.key".to_owned();
    let expected: Vec<String> = [own].into_iter().chain(keys).collect();
    assert_eq!(values("LoadCredential"), expected);
    let ports = [CONTROL_PORT, DATA_PORT].map(|port| format!("tcp:{port}"));
    assert_eq!(values("SocketBindAllow"), ports);
    // A core dump contains no memory anyway (tests/threats.rs).
    assert_eq!(values("LimitCORE"), ["0"]);
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/oracle.toml");
    let places = Places::set();
    let (command, _) = places.command(&example, &["--check"]);
    let done = start_command(command).finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let effective = |line: String| assert!(done.stdout.contains(&line), "{line}: {}", done.stdout);
    // The period is the configuration's.
    effective("every = \"10s\"\n".to_owned());
    effective(format!(
        "journal = \"{}/reports.jsonl\"",
        places.state.display()
    ));
    effective(format!(
        "collector_keys = \"{}\"",
        places.credentials.display()
    ));
    effective(format!(
        "aggregator_key = \"{}/aggregator.key\"",
        places.credentials.display()
    ));
}

/// systemd starts a service that ended again, except after the exit codes of RestartPreventExitStatus.
#[test]
fn a_configuration_that_is_missing_or_wrong_is_not_tried_for_ever_and_its_own_period_counts() {
    let prevented = values("RestartPreventExitStatus");
    let prevented: Vec<&str> = prevented.iter().flat_map(|line| line.split(' ')).collect();
    let (places, folder) = (Places::set(), scratch("etc"));
    std::fs::create_dir(&folder).unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    for config in [
        folder.join("missing.toml"),
        folder.clone(),
        file("wrong.toml", "evry = \"10s\"\n"),
        file("binary.toml", "\u{feff}every = \"10s\"\n"),
    ] {
        let (command, _) = places.command(&config, &[]);
        let done = start_command(command).finish();
        let code = done.code.expect("an exit code").to_string();
        assert!(
            prevented.contains(&code.as_str()),
            "{code}: {}",
            done.stderr
        );
        assert!(
            done.stderr.contains(config.to_str().unwrap()),
            "{}",
            done.stderr
        );
    }
    // What systemd ends with if it finds no key (systemd.exec(5), EXIT_CREDENTIALS).
    assert!(prevented.contains(&"243"));
    // One minute: the configuration's period is not overridden.
    let slow =
        "sources = \"embedded-diverse\"\nsamples = 2\ninterval = \"400ms\"\nevery = \"1m\"\n";
    let (command, _) = places.command(&file("slow.toml", slow), &["--check"]);
    let done = start_command(command).finish();
    assert!(
        done.stdout.contains("\nevery = \"1m\"\n"),
        "{}{}",
        done.stdout,
        done.stderr
    );
}

#[test]
fn the_unit_ends_at_once_when_it_is_told_to_and_goes_on_where_its_journal_ends() {
    let config = scratch("rsoracle.toml");
    let short =
        "sources = \"embedded-diverse\"\nsamples = 2\ninterval = \"400ms\"\nevery = \"1s\"\n";
    std::fs::write(&config, short).unwrap();
    let places = Places::set();
    let chronicle = Chronicle {
        path: places.state.join("reports.jsonl"),
    };
    let mut kept = 0;
    for _ in 0..2 {
        let (command, mark) = places.command(&config, &[]);
        let mut running = start_command(command);
        chronicle.until_lines(kept + 3);
        // As systemd does: signal every process in the control group.
        for id in bearers(&mark) {
            signal(id, "TERM");
        }
        eventually("it ends", || running.ended().then_some(()));
        until_nobody_is_left(&mark);
        kept = chronicle.lines().len();
    }
    let (command, _) = places.command(&config, &["--rounds", "2"]);
    let done = start_command(command).finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(chronicle.lines().len(), kept + 2);
    let roster = places.state.join("roster.toml");
    let done = run(&[
        "verify",
        chronicle.name(),
        "--roster",
        roster.to_str().unwrap(),
    ]);
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    let latest = std::fs::read_to_string(places.runtime.join("latest.json")).unwrap();
    let lines = chronicle.lines();
    let published = |line: &&String| Kept::of(line).decision == "published";
    let newest = lines.iter().rfind(published).expect("a price");
    assert_eq!(latest.trim_end(), newest);
}

/// The command that the unit of a collector starts, with these directories for %d and %S and these arguments for the aggregators.
fn collects(credentials: &Path, state: &Path, aggregators: &str) -> Command {
    let [line] = &values_of(COLLECTOR, "ExecStart")[..] else {
        panic!("one ExecStart");
    };
    let line = line
        .replace("%d", credentials.to_str().unwrap())
        .replace("%S", state.to_str().unwrap())
        .replace("$AGGREGATORS", aggregators);
    let mut words = line.split_whitespace();
    assert_eq!(
        (words.next(), words.next()),
        (Some(BINARY), Some("collect"))
    );
    let mut command = rsoracle();
    command.arg("collect").args(words);
    command
}

#[test]
fn the_unit_of_a_collector_signs_under_its_roster_and_keeps_its_mark_in_its_own_directory() {
    let folder = scratch("credentials");
    let [credentials, state] = ["credentials", "state"].map(|name| folder.with_file_name(name));
    let own = state.join("rsoracle-collector");
    for folder in [&credentials, &own] {
        std::fs::create_dir_all(folder).unwrap();
    }
    assert_eq!(
        values_of(COLLECTOR, "StateDirectory"),
        ["rsoracle-collector"]
    );
    let names = values_of(COLLECTOR, "LoadCredential");
    let names: Vec<&str> = names
        .iter()
        .filter_map(|line| Some(line.split_once(':')?.0))
        .collect();
    assert_eq!(names, ["collector.key", "roster.toml"]);
    let key = create(credentials.join(names[0]).to_str().unwrap()).expect("a key file");
    std::fs::write(credentials.join(names[1]), roster(&[key], 1, "1s")).unwrap();
    let (_exchange, url) = exchange(&[]);
    let here = nobodys_address().port();
    let aggregators = format!("--aggregator 127.0.0.1:{here},{here}@{}", hex(key.bytes()));
    let mut command = collects(&credentials, &state, &aggregators);
    command.args(["--endpoint", &url]);
    let running = start_command(command);
    // It moves before a round is signed.
    let mark = own.join("collector.key.mark");
    eventually("the mark is there", || mark.exists().then_some(()));
    drop(running);
    // What no restart mends is not tried for ever: arguments that are missing, and a roster that is none.
    let prevented = values_of(COLLECTOR, "RestartPreventExitStatus").join(" ");
    std::fs::write(credentials.join(names[1]), "number = 1\n").unwrap();
    for aggregators in ["", &aggregators] {
        let done = start_command(collects(&credentials, &state, aggregators)).finish();
        let code = done.code.expect("an exit code").to_string();
        assert!(
            prevented.split(' ').any(|other| other == code),
            "{}",
            done.stderr
        );
    }
}
