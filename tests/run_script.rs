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
    // Before the warning, the script prints only what it builds.
    let building = |line: &&str| line.starts_with("run.sh: building ");
    let mut lines = done.stderr.lines().skip_while(building);
    let loud = lines.next().unwrap_or_default();
    assert!(
        loud.contains("*** NO PRICE FROM THE LIVE EXCHANGE: RECORDED PRICES FOLLOW"),
        "{}",
        done.stderr
    );
    assert!(
        loud.contains("cannot resolve ws-api.binance.com"),
        "the cause is named: {loud}"
    );
    let rest = lines.chain(done.stdout.lines());
    let unmarked: Vec<&str> = rest.filter(|line| !line.starts_with("embedded ")).collect();
    assert_eq!(unmarked, Vec::<&str>::new());
    assert!(
        done.stdout.starts_with("embedded BTC/USD 872") && done.stdout.lines().count() == 1,
        "{}",
        done.stdout
    );
}
