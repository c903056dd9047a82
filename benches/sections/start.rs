//! Start-up time: from exec to a process's first action, with the dynamic and the static binary, beside an empty program.
//!
//! The first action of an aggregator is to open its ports and print them, that of an exchange to listen, that of a collector
//! to connect to its aggregator. The time runs from before the process is created until the other side has seen that.

use crate::figures::{Table, digits, median};
use rsoracle::keys::secret::SecretKey;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

const STARTS: usize = 31;
const GOAL_MS: f64 = 5.0;
/// Goal for the size of the static binary, stripped, in megabytes.
const GOAL_MB: f64 = 6.0;

/// Median time in milliseconds from start until `seen` returns.
fn median_ms(command: impl Fn() -> Command, seen: impl Fn(&mut std::process::Child)) -> f64 {
    let one = |_| {
        let mut command = command();
        let began = Instant::now();
        let mut child = command.spawn().expect("the program starts");
        seen(&mut child);
        let took = began.elapsed().as_secs_f64() * 1e3;
        let _ = child.kill();
        child.wait().expect("a child can be waited for");
        took
    };
    median(&(0..STARTS).map(one).collect::<Vec<f64>>())
}

fn quiet(binary: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(binary);
    command.args(args).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn aggregator_ms(binary: &Path) -> f64 {
    let run = || {
        let ports = ["--control-port", "0", "--data-port", "0"];
        // With remote collectors only, the aggregator starts no other process.
        let rest = [
            "--collectors",
            "1",
            "--remote",
            "1",
            "--enrolment-dir",
            "/nonexistent",
        ];
        let mut command = quiet(binary, &[&["run"], &ports[..], &rest].concat());
        command.stderr(Stdio::piped());
        command
    };
    median_ms(run, |child| {
        let mut line = String::new();
        let said = BufReader::new(child.stderr.take().expect("a pipe")).read_line(&mut line);
        assert!(
            said.is_ok() && line.contains("control channel on"),
            "{line}"
        );
    })
}

fn exchange_ms(binary: &Path) -> f64 {
    let listen = || {
        let mut command = quiet(binary, &["exchange", "--listen", "127.0.0.1:0"]);
        command.stdout(Stdio::piped());
        command
    };
    median_ms(listen, |child| {
        let mut line = String::new();
        let said = BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line);
        assert!(said.is_ok() && line.starts_with("listening on"), "{line}");
    })
}

fn collector_ms(binary: &Path) -> f64 {
    let control = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = control.local_addr().expect("an address").to_string();
    let collect = || {
        let source = [
            "--slot",
            "0",
            "--source",
            "binance:BTCUSDC",
            "--control",
            &address,
        ];
        let mut command = quiet(binary, &[&["collect"], &source[..]].concat());
        command.stdin(Stdio::piped());
        command
    };
    let enrolment = [
        [1; 32],
        *SecretKey::from_seed(&mut [2; 32]).public().bytes(),
    ]
    .concat();
    median_ms(collect, |child| {
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(&enrolment).expect("it reads");
        control.accept().expect("it calls");
    })
}

/// Prints the section.
pub fn show(table: &mut Table) {
    let dynamic = PathBuf::from(env!("CARGO_BIN_EXE_rsoracle"));
    let made = std::env::var_os("RSORACLE_STATIC").map(PathBuf::from);
    let empty_ms = median_ms(
        || quiet(Path::new("true"), &[]),
        |child| {
            child.wait().expect("a child can be waited for");
        },
    );
    table.figure(
        "an empty program, until it ends",
        &format!("{} ms", digits(empty_ms)),
    );
    type Start = fn(&Path) -> f64;
    let roles: [(&str, Start); 3] = [
        ("aggregator: until its ports are open", aggregator_ms),
        (
            "collector: until it connects to the aggregator",
            collector_ms,
        ),
        ("exchange: until its port is open", exchange_ms),
    ];
    for (what, start) in roles {
        let with_dynamic = start(&dynamic);
        table.at_most(
            &format!("{what}, dynamic binary"),
            with_dynamic,
            GOAL_MS,
            "ms",
        );
        if let Some(path) = &made {
            let with_static = start(path);
            table.at_most(
                &format!("{what}, static binary"),
                with_static,
                GOAL_MS,
                "ms",
            );
            table.remark(&format!(
                "static over dynamic: {}",
                digits(with_static / with_dynamic)
            ));
        }
    }
    let Some(path) = made else {
        table.remark("static binary: not measured ('make musl' builds it)");
        return;
    };
    let bytes = std::fs::metadata(path)
        .expect("RSORACLE_STATIC names a file")
        .len();
    table.at_most("static binary, stripped", bytes as f64 / 1e6, GOAL_MB, "MB");
}
