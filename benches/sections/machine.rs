//! What the kernel says about this machine and about a process.

use std::fs;

/// Processor, cores, kernel and load, in one line.
pub fn description() -> String {
    let cpu = line_of("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown CPU".to_owned());
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("?").to_owned();
    let open_files = line_of("/proc/self/limits", "Max open files").unwrap_or_default();
    let open_files = open_files.split_whitespace().next().unwrap_or("?");
    format!(
        "on {} cores of {cpu}, Linux {}, load {load} before it began, ulimit -n {open_files}",
        cores(),
        kernel.trim()
    )
}

/// Cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// What follows `name` and a colon or spaces in a file of the kernel's.
fn line_of(path: &str, name: &str) -> Option<String> {
    let text = read(path);
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(rest.trim_start_matches([':', '\t', ' ']).to_owned())
}

fn number_of(path: &str, name: &str) -> Option<u64> {
    line_of(path, name)?.split_whitespace().next()?.parse().ok()
}

/// The first two numbers of a `schedstat`: nanoseconds on a core, nanoseconds of waiting for one while ready to run.
pub fn schedstat(text: &str) -> Option<(u64, u64)> {
    let mut numbers = text.split_whitespace().map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// CPU time of a process so far, in milliseconds (it must be alive).
pub fn cpu_ms(id: u32) -> Option<f64> {
    let (on_core_ns, _) = schedstat(&read(&format!("/proc/{id}/schedstat")))?;
    Some(on_core_ns as f64 / 1e6)
}

/// How often this process was taken off its core against its will; a `sched_yield` that yields counts too.
pub fn involuntary_switches() -> u64 {
    number_of("/proc/self/status", "nonvoluntary_ctxt_switches").unwrap_or(0)
}

/// Time that the hypervisor says it gave to others, all cores together, in milliseconds (it counts in tens).
pub fn stolen_ms() -> u64 {
    let line = line_of("/proc/stat", "cpu ").unwrap_or_default();
    let ticks = line.split_whitespace().nth(7);
    10 * ticks
        .and_then(|ticks| ticks.parse::<u64>().ok())
        .unwrap_or(0)
}

/// A process's share of memory in KiB: pages that k processes share count one k-th each.
pub fn pss_kib(id: u32) -> Option<f64> {
    number_of(&format!("/proc/{id}/smaps_rollup"), "Pss").map(|kib| kib as f64)
}

/// The most memory that a process ever had resident, in KiB, shared pages in full.
pub fn peak_kib(id: u32) -> Option<f64> {
    number_of(&format!("/proc/{id}/status"), "VmHWM").map(|kib| kib as f64)
}

/// How many files this process may open.
pub fn open_files_max() -> u64 {
    number_of("/proc/self/limits", "Max open files").unwrap_or(u64::MAX)
}

/// A way to start a program so that it runs only when nobody else wants the core, if this machine has one.
pub fn idle_priority() -> Option<(&'static str, &'static [&'static str])> {
    let there = |program: &str| {
        let tried = std::process::Command::new(program)
            .arg("--version")
            .stdout(std::process::Stdio::null())
            .status();
        tried.is_ok_and(|status| status.success())
    };
    [("chrt", &["-i", "0"] as &[&str]), ("nice", &["-n", "19"])]
        .into_iter()
        .find(|(program, _)| there(program))
}
