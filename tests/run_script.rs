//! `bash run.sh` as a new user runs it, in a network namespace where no exchange can be reached.

mod support;

use std::process::{Command, Stdio};
use support::*;

#[test]
#[ignore = "needs namespaces"]
fn without_a_network_the_script_says_so_loudly_and_every_price_bears_the_mark() {
    let inside = |script: &str| {
        let mut command = Command::new("unshare");
        command.args([
            "--map-root-user",
            "--net",
            "sh",
            "-c",
            &format!("ip link set lo up && {script}"),
        ]);
        command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null());
        command
    };
    let mut command = inside("exec bash run.sh");
    command.env("CARGO_NET_OFFLINE", "true");
    let done = start_command(command).finish_within(LONG * 10);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let loud =
        "run.sh: *** NO PRICE FROM THE LIVE EXCHANGE: RECORDED PRICES FOLLOW, NOT LIVE ONES ***\n";
    let (before, after) = done.stderr.split_once(loud).expect(&done.stderr);
    // The cause comes before the warning, all of it in the script's name.
    assert!(
        before.contains("cannot resolve ws-api.binance.com"),
        "{before}"
    );
    assert!(
        before.lines().all(|line| line.starts_with("run.sh: ")),
        "{before}"
    );
    let rest = after.lines().chain(done.stdout.lines());
    let unmarked: Vec<&str> = rest.filter(|line| !line.starts_with("embedded ")).collect();
    assert_eq!(unmarked, Vec::<&str>::new());
    assert!(
        done.stdout.starts_with("embedded BTC/USD 872") && done.stdout.lines().count() == 1,
        "{}",
        done.stdout
    );
}

/// The script with a `cargo` of this test, which says this and ends with this exit code, and with a program that prints its arguments.
fn with_cargo(said: &str, code: i32) -> Finished {
    let folder = scratch("target");
    std::fs::create_dir_all(folder.join("release")).unwrap();
    let program = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let metadata = format!("echo '{{\"target_directory\":\"{}\"}}'", folder.display());
    let build = format!("printf '{said}' >&2; exit {code}");
    program(
        "cargo",
        &format!("if [ $1 = metadata ]; then {metadata}; else {build}; fi"),
    );
    program("release/rsoracle", "echo \"$@\"");
    let mut command = Command::new("bash");
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    command
        .args(["run.sh", "--check"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("PATH", path)
        .stdin(Stdio::null());
    start_command(command).finish()
}

#[test]
fn the_script_announces_a_build_only_if_there_is_one_and_passes_errors_on() {
    let finished = "    Finished `release` profile [optimized] target(s) in 0.05s\\n";
    let done = with_cargo(finished, 0);
    assert_eq!(
        (done.code, done.stdout.as_str(), done.stderr.as_str()),
        (Some(0), "run --check\n", "")
    );
    let compiling = "   Compiling rsoracle-proof v0\\n   Compiling rsoracle v0\\n";
    let done = with_cargo(&format!("{compiling}{finished}"), 0);
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (Some(0), "run --check\n")
    );
    let lines: Vec<&str> = done.stderr.lines().collect();
    let [line] = lines[..] else {
        panic!("{}", done.stderr);
    };
    assert!(
        line.starts_with("run.sh: building rsoracle again"),
        "{line}"
    );
    let done = with_cargo(
        &format!("{compiling}error: it is wrong\\n  --> here\\n"),
        101,
    );
    assert_eq!((done.code, done.stdout.as_str()), (Some(101), ""));
    assert!(
        done.stderr.ends_with("\nerror: it is wrong\n  --> here\n"),
        "{}",
        done.stderr
    );
}
