//! Statistics of the kernel about this machine and about processes.

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
        "on {} cores of {cpu}, Linux {}, load {load} before the start, ulimit -n {open_files}",
        cores(),
        kernel.trim()
    )
}

/// Number of cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The value after `name` and a colon or spaces, in a file of /proc.
fn line_of(path: &str, name: &str) -> Option<String> {
    let text = read(path);
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(rest.trim_start_matches([':', '\t', ' ']).to_owned())
}

fn number_of(path: &str, name: &str) -> Option<u64> {
    line_of(path, name)?.split_whitespace().next()?.parse().ok()
}

/// The numbers of a `schedstat` file.
#[derive(Clone, Copy, Default)]
pub struct Schedstat {
    /// CPU time in nanoseconds.
    pub ran_ns: u64,
    /// Run delay: nanoseconds of waiting for a core while ready to run.
    pub ready_ns: u64,
}

impl Schedstat {
    /// Reads the first two of its three numbers.
    pub fn read(text: &str) -> Option<Schedstat> {
        let mut numbers = text.split_whitespace().map(str::parse);
        Some(Schedstat {
            ran_ns: numbers.next()?.ok()?,
            ready_ns: numbers.next()?.ok()?,
        })
    }
}

/// The core that this process runs on (field 39 of /proc/self/stat, see proc(5)).
pub fn core_of_self() -> u32 {
    let stat = read("/proc/self/stat");
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let core = fields
        .split_whitespace()
        .nth(36)
        .and_then(|field| field.parse().ok());
    core.unwrap_or(0)
}

/// CPU time of a process so far, in milliseconds. The process must be alive.
pub fn cpu_ms(id: u32) -> Option<f64> {
    let schedstat = Schedstat::read(&read(&format!("/proc/{id}/schedstat")))?;
    Some(schedstat.ran_ns as f64 / 1e6)
}

/// CPU time of all cores together, in ticks of 10 ms: used by all programs, used by this process and its ended children, and
/// stolen by the hypervisor for other machines.
#[derive(Clone, Copy, Default)]
pub struct Cores {
    used: u64,
    ours: u64,
    stolen: u64,
    idle: u64,
}

impl Cores {
    /// The totals since the machine started.
    pub fn now() -> Cores {
        let line = line_of("/proc/stat", "cpu ").unwrap_or_default();
        let all: Vec<u64> = line.split_whitespace().flat_map(str::parse).collect();
        let own = read("/proc/self/stat");
        let own = own.rsplit(')').next().unwrap_or_default();
        let own: Vec<&str> = own.split_whitespace().collect();
        let sum = |fields: &[usize]| {
            let of = |field: &usize| all.get(*field).copied().unwrap_or(0);
            fields.iter().map(of).sum::<u64>()
        };
        let own = own.get(11..15).unwrap_or_default();
        Cores {
            used: sum(&[0, 1, 2, 5, 6]),
            ours: own.iter().flat_map(|ticks| ticks.parse::<u64>()).sum(),
            stolen: sum(&[7]),
            idle: sum(&[3, 4]),
        }
    }

    /// How the CPU time since `before` was used, in words.
    pub fn since(before: Cores) -> String {
        let now = Cores::now();
        let used = now.used.saturating_sub(before.used);
        let others = used.saturating_sub(now.ours.saturating_sub(before.ours));
        let stolen = now.stolen.saturating_sub(before.stolen);
        let all = used + stolen + now.idle.saturating_sub(before.idle);
        format!(
            "meanwhile, other programs used {} % of the cores, and the hypervisor reports {} ms of stolen time",
            100 * others / all.max(1),
            10 * stolen
        )
    }
}

/// A process's proportional share of memory (Pss) in KiB: a page that k processes share counts as 1/k.
pub fn pss_kib(id: u32) -> Option<f64> {
    number_of(&format!("/proc/{id}/smaps_rollup"), "Pss").map(|kib| kib as f64)
}

/// A process's resident memory in KiB, with shared pages in full.
pub fn rss_kib(id: u32) -> Option<f64> {
    number_of(&format!("/proc/{id}/status"), "VmRSS").map(|kib| kib as f64)
}

/// A process's peak resident memory in KiB, with shared pages in full.
pub fn peak_kib(id: u32) -> Option<f64> {
    number_of(&format!("/proc/{id}/status"), "VmHWM").map(|kib| kib as f64)
}

/// How many files this process may open.
pub fn open_files_max() -> u64 {
    number_of("/proc/self/limits", "Max open files").unwrap_or(u64::MAX)
}

/// A command that starts a program at idle priority, if this machine has one.
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
