//! Start-up time: from exec to a process's first action, with the dynamic and the static binary, beside an empty program.
//!
//! The first action of an aggregator is to open its ports and print them, that of an exchange to listen, that of a collector
//! to connect to its aggregator. The time runs from before the process is created until the other side has seen that.

use crate::figures::{Table, digits, median};
use crate::support::peer::{SOURCE, roster};
use crate::support::scratch;
use rsoracle::keys::create;
use rsoracle_proof::seal::hex;
use std::io::{BufRead, BufReader};
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

/// The paths of a roster of one collector, which watches Binance, and of its key; and the key in hexadecimal.
fn enrolled() -> (String, String, String) {
    let [file, key_file] = ["roster.toml", "key"].map(|name| {
        let path = scratch(name);
        path.to_str().expect("a path in UTF-8").to_owned()
    });
    let key = create(&key_file).expect("a key file");
    let text = roster(&[key], 10, "1s").replace(SOURCE, "binance:BTCUSDC");
    std::fs::write(&file, text).expect("a roster file");
    (file, key_file, hex(key.bytes()))
}

fn aggregator_ms(binary: &Path) -> f64 {
    let (roster, _, _) = enrolled();
    let aggregate = || {
        let ports = ["--control-port", "0", "--data-port", "0"];
        let words = [&["aggregate", "--roster", &roster], &ports[..]].concat();
        let mut command = quiet(binary, &words);
        command.stderr(Stdio::piped());
        command
    };
    median_ms(aggregate, |child| {
        let said = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut lines = said.lines().map_while(Result::ok);
        let opened = lines.any(|line| line.contains("control channel on"));
        assert!(opened, "it ended before its ports were open");
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
    let address = control.local_addr().expect("an address");
    let (roster, key_file, key) = enrolled();
    // It would tell another key's aggregator by the signature of its hello only.
    let aggregator = format!("{address},1@{key}");
    let collect = || {
        let words = ["collect", "--roster", &roster, "--key", &key_file];
        quiet(
            binary,
            &[&words[..], &["--aggregator", &aggregator]].concat(),
        )
    };
    median_ms(collect, |_| {
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
