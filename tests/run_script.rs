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
