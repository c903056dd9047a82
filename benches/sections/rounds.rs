//! Runs whole rounds of the real program, and takes the times that can be seen from outside.

use crate::figures::spreads;
use crate::machine;
use crate::support::{Certificates, Running, eventually, rsoracle, start_command};
use nanoserde::DeJson;
use rsoracle::system::now::wall_us;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// The fields of a report that are read here.
#[derive(DeJson)]
pub struct ReportView {
    pub signatures_verified: u32,
    pub round_start_us: u64,
    pub interval_us: u64,
    pub samples: u64,
    pub collectors: Vec<CollectorView>,
}

/// One collector's entry in a report.
#[derive(DeJson)]
pub struct CollectorView {
    pub samples: Vec<SampleView>,
}

/// One sample of a collector.
#[derive(DeJson)]
pub struct SampleView {
    pub lateness_us: Option<u64>,
    pub age_us: Option<u64>,
}

impl ReportView {
    /// Reads the output of `run --json`.
    pub fn read(line: &str) -> ReportView {
        ReportView::deserialize_json(line).expect("a report in JSON")
    }

    /// For each collector, how late each sample was requested, in microseconds; NaN for a sample that was not requested.
    pub fn lateness_us(&self) -> Vec<Vec<f64>> {
        let late = |sample: &SampleView| sample.lateness_us.map_or(f64::NAN, |us| us as f64);
        let of = |collector: &CollectorView| collector.samples.iter().map(late).collect();
        self.collectors.iter().map(of).collect()
    }

    /// For each sample, the latest minus the earliest collector, in microseconds.
    pub fn spreads_us(&self) -> Vec<f64> {
        spreads(&self.lateness_us())
    }

    /// The actual time from one sample to the next, averaged over the collectors, in milliseconds.
    pub fn cadence_ms(&self) -> f64 {
        let cadence = |late: &Vec<f64>| {
            let drift_us = late[late.len() - 1] - late[0];
            (self.interval_us as f64 + drift_us / (late.len() - 1) as f64) / 1e3
        };
        let of_each: Vec<f64> = self.lateness_us().iter().map(cadence).collect();
        let of_each: Vec<f64> = of_each.into_iter().filter(|ms| ms.is_finite()).collect();
        of_each.iter().sum::<f64>() / of_each.len() as f64
    }
}

/// A finished round.
pub struct Round {
    /// When its process was started.
    pub spawned_us: u64,
    /// When its result was read from a pipe.
    pub printed_us: u64,
    /// Its report.
    pub report: ReportView,
}

impl Round {
    /// From process start to the first sample's instant, in milliseconds.
    pub fn to_first_sample_ms(&self) -> f64 {
        self.report.round_start_us.saturating_sub(self.spawned_us) as f64 / 1e3
    }

    /// From the last sample's instant to the printed result, in milliseconds.
    pub fn to_result_ms(&self) -> f64 {
        let last_us =
            self.report.round_start_us + (self.report.samples - 1) * self.report.interval_us;
        self.printed_us.saturating_sub(last_us) as f64 / 1e3
    }
}

/// Runs one round of five collectors against the embedded exchange at `url`.
pub fn round(url: &str, ca: Option<&str>, samples: u32, interval: &str) -> Round {
    let mut command = rsoracle();
    command.args(["run", "--source", "embedded:BTCUSDT", "--json", "--quiet"]);
    command.args(["--control-port", "0", "--data-port", "0"]);
    command.args(["--endpoint", &url.replace("127.0.0.1", "localhost")]);
    command.args(["--samples", &samples.to_string(), "--interval", interval]);
    if let Some(ca) = ca {
        command.args(["--ca-file", ca]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let spawned_us = wall_us();
    let mut child = command.spawn().expect("rsoracle starts");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("standard output is a pipe");
    let read = BufReader::new(stdout).read_line(&mut line);
    let printed_us = wall_us();
    read.expect("the result is text");
    child.wait().expect("a child can be waited for");
    // A round without a quorum has a report too, in which a busy machine shows.
    assert!(!line.is_empty(), "the round could not begin");
    Round {
        spawned_us,
        printed_us,
        report: ReportView::read(&line),
    }
}

/// Starts an exchange, over TLS or not, that polls its connections every `poll`; at idle priority if `idle` is set and the
/// machine has that.
pub fn exchange(tls: Option<&Certificates>, poll: &str, idle: bool) -> (Running, String) {
    let mut command = match machine::idle_priority().filter(|_| idle) {
        Some((program, args)) => {
            let mut command = Command::new(program);
            command.args(args).arg(rsoracle().get_program());
            command
        }
        None => rsoracle(),
    };
    command.args(["exchange", "--listen", "127.0.0.1:0", "--poll", poll]);
    if let Some(tls) = tls {
        command.args(["--cert", &tls.cert, "--key", &tls.key]);
    }
    command.stdin(Stdio::null());
    let running = start_command(command);
    let url = listening(&running);
    (running, url)
}

/// The address that a server prints in its first line.
pub fn listening(running: &Running) -> String {
    eventually("a server listens", || {
        let text = running.stdout();
        let (line, _) = text.split_once('\n')?;
        line.strip_prefix("listening on ").map(str::to_owned)
    })
}
