//! Runs that can be told apart, and what the system says about their processes: who is left, threads, memory, environment.
//!
//! Each test uses part of this.
#![allow(dead_code)]

use crate::support::rsoracle;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

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

/// The same command in a network of its own, where `script` has been run (the loopback interface is up); `None` where
/// that is not permitted. The process id stays that of the command.
pub fn apart(script: &str, inner: &Command) -> Option<Command> {
    let tried = Command::new("unshare").args(["-rnm", "true"]).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        println!("no network of its own: 'unshare -rnm' is not permitted here");
        return None;
    }
    let script = format!("ip link set lo up && {script} && exec \"$0\" \"$@\"");
    let mut outer = Command::new("unshare");
    outer.args(["-rnm", "sh", "-c", &script]);
    outer.arg(inner.get_program()).args(inner.get_args());
    let set = inner
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    outer.envs(set).stdin(Stdio::null());
    Some(outer)
}

/// A route on which packets vanish, and an address behind it: what comes in on the loopback interface for an
/// address that is nobody's is dropped without a word.
pub const ABYSS: &str = "ip route add 10.9.9.0/24 dev lo";
pub const IN_THE_ABYSS: &str = "ws://10.9.9.9:9/ws-api/v3";
