//! Marks runs so that their processes can be found, and reads about processes in /proc: threads, memory, environment. Also
//! runs commands in a network, on a disk, or with a clock of their own.
//!
//! Each test uses a part of this module.
#![allow(dead_code)]

use crate::support::{rsoracle, scratch};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// `rsoracle run` on free ports with these arguments. Its environment has a mark, also returned, which its children inherit:
/// every process with the mark belongs to this run.
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

/// The processes whose environment has a mark.
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

/// CPU time of a process so far; zero if it has ended.
pub fn time_on_a_core(id: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // Fields 14 and 15 of proc(5), in hundredths of a second. The name in field 2 may contain blanks.
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = behind_name.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(10 * ticks)
}

/// The same command in its own network namespace, where the loopback interface is up and `script` was run. The process id
/// stays that of the command. A test that calls this needs namespaces.
pub fn apart(script: &str, inner: &Command) -> Command {
    unshared("-rnm", &format!("ip link set lo up && {script}"), inner)
}

/// The same command in its own mount namespace, in which `script` was run. A test that calls this needs namespaces.
pub fn with_mounts(script: &str, inner: &Command) -> Command {
    unshared("-rm", script, inner)
}

fn unshared(what: &str, script: &str, inner: &Command) -> Command {
    let mut outer = Command::new("unshare");
    outer.args([what, "sh", "-c", &format!("{script} && exec \"$0\" \"$@\"")]);
    outer.arg(inner.get_program()).args(inner.get_args());
    let set = inner
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    outer.envs(set).stdin(Stdio::null());
    outer
}

/// Runs one test of the calling file again, in its own network namespace, with 127.0.0.1 as the name server in
/// /etc/resolv.conf. There, [`resolver_file`] returns a path.
pub fn in_a_network_of_its_own(test: &str) {
    let servers = scratch("resolv.conf");
    std::fs::write(&servers, "nameserver 127.0.0.1\n").unwrap();
    let script = format!("mount --bind \"${APART}\" /etc/resolv.conf");
    let command = this_program(test, APART, &servers);
    assert_passes(apart(&script, &command));
}

const APART: &str = "RSORACLE_TEST_APART";

/// Inside [`in_a_network_of_its_own`]: the file that names the name server.
pub fn resolver_file() -> Option<PathBuf> {
    std::env::var_os(APART).map(PathBuf::from)
}

/// Runs one test of the calling file again, with its own disk of 64 KiB. There, [`small_disk`] returns the path of the disk.
pub fn on_a_small_disk(test: &str) {
    let folder = scratch("disk");
    std::fs::create_dir(&folder).unwrap();
    let script = format!("mount -t tmpfs -o size=64k none \"${SMALL_DISK}\"");
    let command = this_program(test, SMALL_DISK, &folder);
    assert_passes(with_mounts(&script, &command));
}

const SMALL_DISK: &str = "RSORACLE_TEST_SMALL_DISK";

/// Inside [`on_a_small_disk`]: the path of the disk.
pub fn small_disk() -> Option<PathBuf> {
    std::env::var_os(SMALL_DISK).map(PathBuf::from)
}

/// A command that runs one test of the calling file, with the variable `name` set to `value`.
pub fn this_program(test: &str, name: &str, value: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--include-ignored", "--nocapture"]);
    command.env(name, value);
    command
}

/// Runs such a command until it ends, and asserts that the test passed.
pub fn assert_passes(mut command: Command) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    println!("{text}");
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{errors}"
    );
}

/// A route on which packets are lost, and a URL behind it: the kernel silently drops packets on the loopback interface for
/// an address that no interface has.
pub const ABYSS: &str = "ip route add 10.9.9.0/24 dev lo";
pub const IN_THE_ABYSS: &str = "ws://10.9.9.9:9/ws-api/v3";

/// The addresses, as in /proc/net/tcp, of the clients connected to an exchange at `ws://127.0.0.1:PORT/…`.
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

/// The path of libfaketime, which gives a process its own clock. A test that calls this needs faketime.
pub fn faketime() -> PathBuf {
    // Debian has it in a directory per architecture, Fedora in /usr/lib64.
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten();
    let folders = folders.filter_map(|entry| Some(entry.ok()?.path()));
    folders
        .chain([PathBuf::from("/usr/lib64")])
        .map(|folder| folder.join("faketime/libfaketime.so.1"))
        .find(|path| path.exists())
        .expect("libfaketime is installed")
}

/// Gives the command a system clock that is off by the number of seconds in a file, with its sign.
pub fn by_the_clock_of(command: &mut Command, library: &Path, file: &Path) {
    command.env("LD_PRELOAD", library);
    command.env("FAKETIME_TIMESTAMP_FILE", file);
    command.env("FAKETIME_NO_CACHE", "1");
    command.env("DONT_FAKE_MONOTONIC", "1");
}

/// Sets that clock. Replaces the file by renaming, so that no process reads half of it. Returns false if the disk is full.
pub fn set_clock(file: &Path, off: &str) -> bool {
    let new = file.with_extension("new");
    let written = std::fs::write(&new, off);
    written.and_then(|()| std::fs::rename(&new, file)).is_ok()
}
