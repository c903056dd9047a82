//! Hosts on one bridge: network namespaces, each with a mount namespace of its own.
//!
//! A host lives as long as the process that holds its namespaces, which ends with the test: its standard input is a pipe from it.

use super::support::*;
use std::io::PipeWriter;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A host on the bridge.
pub struct Host {
    /// Its number, which is the last part of its address, less one.
    pub number: usize,
    /// The process that holds its namespaces.
    pub holder: Running,
    _end: PipeWriter,
}

/// Makes the bridge. Returns a folder in memory for the files of all hosts: how long a disk takes to keep a report is tried elsewhere.
pub fn bridge() -> PathBuf {
    ip("link add bridge0 type bridge");
    ip("link set bridge0 up");
    let folder = scratch("disk").parent().expect("a folder").to_owned();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "none"]).arg(&folder);
    assert!(mount.status().expect("mount").success());
    folder
}

impl Host {
    /// Makes a host, and connects it to the bridge.
    pub fn new(number: usize) -> Host {
        let (stdin, end) = std::io::pipe().expect("a pipe");
        let mut command = Command::new("unshare");
        command.args(["-nm", "sh", "-c", "echo here; read -r _"]);
        command.stdin(stdin);
        let holder = start_command(command);
        let host = Host {
            number,
            holder,
            _end: end,
        };
        let made = || host.holder.stdout().contains("here").then_some(());
        eventually("the namespaces are there", made);
        let (port, id) = (port(number), host.holder.id());
        ip(&format!(
            "link add {port} type veth peer name eth0 netns {id}"
        ));
        ip(&format!("link set {port} master bridge0 up"));
        let address = address(number);
        host.run(&format!(
            "ip link set lo up && ip address add {address}/24 dev eth0 && ip link set eth0 up"
        ));
        host
    }

    /// The same command on this host. The process id stays that of the command.
    pub fn inside(&self, inner: &Command) -> Command {
        let mut outer = Command::new("nsenter");
        outer.args(["-t", &self.holder.id().to_string(), "-n", "-m", "--"]);
        outer.arg(inner.get_program()).args(inner.get_args());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => outer.env(name, value),
                None => outer.env_remove(name),
            };
        }
        outer.stdin(Stdio::null());
        outer
    }

    /// Runs a line of shell on this host.
    pub fn run(&self, line: &str) {
        let mut shell = Command::new("sh");
        shell.args(["-c", line]);
        let done = start_command(self.inside(&shell)).finish();
        assert_eq!(done.code, Some(0), "{line}: {}", done.stderr);
    }
}

/// The name of a host's port on the bridge.
pub fn port(number: usize) -> String {
    format!("port{number}")
}

/// The address of a host.
pub fn address(number: usize) -> String {
    format!("10.7.0.{}", number + 1)
}

/// Runs `ip` in the network that has the bridge.
pub fn ip(words: &str) {
    let mut command = Command::new("ip");
    command.args(words.split(' ')).stdin(Stdio::null());
    let done = start_command(command).finish();
    assert_eq!(done.code, Some(0), "ip {words}: {}", done.stderr);
}

/// Kills a process, and waits for its end.
pub fn kill(running: &mut Running) {
    running.signal("KILL");
    eventually("it ends", || running.ended().then_some(()));
}

/// The name of a slot's key file.
pub fn key_name(slot: usize) -> String {
    format!("slot-{slot}.key")
}

/// Starts an aggregator on its host.
pub fn aggregate(dir: &Path, number: usize, journal: &Path, host: &Host) -> Running {
    let mut command = rsoracle();
    command.args(["aggregate", "--bind", &address(number)]);
    command.arg("--roster").arg(dir.join("roster.toml"));
    let key = dir.join(format!("aggregator-{number}.key"));
    command.arg("--aggregator-key").arg(key);
    command.arg("--journal").arg(journal);
    start_command(host.inside(&command))
}
