//! Runs that can be told apart, and what the system says about their processes: who is left, threads, memory, environment.
//!
//! Each test uses part of this.
#![allow(dead_code)]

use crate::support::{rsoracle, scratch};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// `rsoracle run` on free ports, with these further arguments, and a mark in its environment that its children
/// inherit: whoever bears it came from this run.
pub fn marked_run(args: &[&str]) -> (Command, String) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let mark = format!("RSORACLE_TEST_RUN={}-{number}", std::process::id());
    let (name, value) = mark.split_once('=').unwrap();
    let mut command = rsoracle();
    command.arg("run").args(args).stdin(Stdio::null());
    for port in ["--control-port", "--data-port"] {
        if !args.contains(&port) {
            command.args([port, "0"]);
        }
    }
    command.env(name, value);
    (command, mark)
}

/// The processes that bear a mark.
pub fn bearers(mark: &str) -> Vec<u32> {
    let proc = std::fs::read_dir("/proc").expect("/proc is there");
    let ids = proc.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter(|id| environment(*id).iter().any(|entry| entry == mark))
        .collect()
}

/// The environment of a process.
pub fn environment(id: u32) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
    let entries = bytes
        .split(|byte| *byte == 0)
        .filter(|entry| !entry.is_empty());
    entries
        .map(|entry| String::from_utf8_lossy(entry).into_owned())
        .collect()
}

/// One number from /proc/ID/status, such as `Threads` or `VmHWM` (in kB).
pub fn status_number(id: u32, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// How long a process has run on a core so far; nothing if it is gone.
pub fn time_on_a_core(id: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // Fields 14 and 15 of proc(5), in hundredths of a second; the name in the second may hold blanks.
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = behind_name.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(10 * ticks)
}

/// The same command in a network of its own, where `script` has been run (the loopback interface is up); `None` where
/// that is not permitted. The process id stays that of the command.
pub fn apart(script: &str, inner: &Command) -> Option<Command> {
    unshared("-rnm", &format!("ip link set lo up && {script}"), inner)
}

/// The same command where `script` has mounted what it wanted, for itself alone; `None` where that is not permitted.
pub fn with_mounts(script: &str, inner: &Command) -> Option<Command> {
    unshared("-rm", script, inner)
}

fn unshared(what: &str, script: &str, inner: &Command) -> Option<Command> {
    let tried = Command::new("unshare").args([what, "true"]).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: 'unshare {what}' is not permitted here");
        return None;
    }
    let mut outer = Command::new("unshare");
    outer.args([what, "sh", "-c", &format!("{script} && exec \"$0\" \"$@\"")]);
    outer.arg(inner.get_program()).args(inner.get_args());
    let set = inner
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    outer.envs(set).stdin(Stdio::null());
    Some(outer)
}

/// Runs one test of the calling file in a network of its own, where the name server of /etc/resolv.conf is 127.0.0.1; the
/// test finds itself there by [`resolver_file`].
pub fn in_a_network_of_its_own(test: &str) {
    let servers = scratch("resolv.conf");
    std::fs::write(&servers, "nameserver 127.0.0.1\n").unwrap();
    let script = format!("mount --bind \"${APART}\" /etc/resolv.conf");
    let command = this_program(test, APART, &servers);
    if let Some(command) = apart(&script, &command) {
        assert_passes(command);
    }
}

const APART: &str = "RSORACLE_TEST_APART";

/// In a network of its own: the file that names its name server.
pub fn resolver_file() -> Option<PathBuf> {
    std::env::var_os(APART).map(PathBuf::from)
}

/// Runs one test of the calling file once more, with a disk of 64 KiB for itself alone; the test finds itself there by
/// [`small_disk`].
pub fn on_a_small_disk(test: &str) {
    let folder = scratch("disk");
    std::fs::create_dir(&folder).unwrap();
    let script = format!("mount -t tmpfs -o size=64k none \"${SMALL_DISK}\"");
    let command = this_program(test, SMALL_DISK, &folder);
    if let Some(command) = with_mounts(&script, &command) {
        assert_passes(command);
    }
}

const SMALL_DISK: &str = "RSORACLE_TEST_SMALL_DISK";

/// On a small disk of its own: where that is.
pub fn small_disk() -> Option<PathBuf> {
    std::env::var_os(SMALL_DISK).map(PathBuf::from)
}

/// One test of the calling file as a program of its own, which is told `value` by a variable.
pub fn this_program(test: &str, name: &str, value: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]);
    command.env(name, value);
    command
}

/// Runs a program that is one test to its end.
fn assert_passes(mut command: Command) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    println!("{text}");
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{errors}"
    );
}

/// A route on which packets vanish, and an address behind it: what comes in on the loopback interface for an
/// address that is nobody's is dropped without a word.
pub const ABYSS: &str = "ip route add 10.9.9.0/24 dev lo";
pub const IN_THE_ABYSS: &str = "ws://10.9.9.9:9/ws-api/v3";

/// The ports of the clients that are connected to an exchange at `ws://127.0.0.1:PORT/…`.
pub fn clients_of(url: &str) -> BTreeSet<String> {
    let port = url.trim_start_matches("ws://127.0.0.1:").split('/').next();
    let port: u16 = port.and_then(|port| port.parse().ok()).expect("a port");
    let server = format!("0100007F:{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").expect("/proc/net/tcp is there");
    let client = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let client = fields.next()?.to_owned();
        let established = fields.next()? == server && fields.next()? == "01";
        established.then_some(client)
    };
    table.lines().filter_map(client).collect()
}

/// Where Debian's package `faketime` has put its library; `None`, said aloud, where it is not installed.
pub fn faketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?;
    let library = |entry: std::fs::DirEntry| entry.path().join("faketime/libfaketime.so.1");
    let found = folders.filter_map(Result::ok).map(library);
    let found = found.into_iter().find(|path| path.exists());
    if found.is_none() {
        println!("SKIPPED: libfaketime is not installed (Debian: apt-get install faketime)");
    }
    found
}

/// The command with a clock that is off by what the file says: seconds, with their sign.
pub fn by_the_clock_of(command: &mut Command, library: &Path, file: &Path) {
    command.env("LD_PRELOAD", library);
    command.env("FAKETIME_TIMESTAMP_FILE", file);
    command.env("FAKETIME_NO_CACHE", "1");
    command.env("DONT_FAKE_MONOTONIC", "1");
}

/// Sets that clock, in one rename, so that no read sees half of it; whether there was room.
pub fn set_clock(file: &Path, off: &str) -> bool {
    let new = file.with_extension("new");
    let written = std::fs::write(&new, off);
    written.and_then(|()| std::fs::rename(&new, file)).is_ok()
}
