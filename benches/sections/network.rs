//! rsoracle beside a prototype: against a local exchange, and through a network with a delay of 40±8 ms in each direction.

use crate::figures::{Table, digits, median, spreads};
use crate::proxy;
use crate::rounds::{exchange, round};
use crate::support::{Certificates, good_certificates};

const SAMPLES: u32 = 10;

/// The figures of one run of five processes.
struct Run {
    spreads_us: Vec<f64>,
    cadence_ms: f64,
}

fn ours(url: &str, tls: &Certificates) -> Run {
    let done = round(url, Some(&tls.ca), SAMPLES, "1s");
    Run {
        spreads_us: done.report.spreads_us(),
        cadence_ms: done.report.cadence_ms(),
    }
}

fn prototype(url: &str, tls: &Certificates) -> Run {
    let sent_us = crate::prototype::run_five(url, tls, SAMPLES, 1_000_000);
    let cadence = |sent: &Vec<f64>| (sent[sent.len() - 1] - sent[0]) / (sent.len() - 1) as f64;
    let cadences: Vec<f64> = sent_us.iter().map(cadence).collect();
    Run {
        cadence_ms: cadences.iter().sum::<f64>() / cadences.len() as f64 / 1e3,
        spreads_us: spreads(&sent_us),
    }
}

fn show_run(table: &mut Table, who: &str, run: &Run) {
    let us = &run.spreads_us;
    table.figure(
        &format!("{who}: spread, median (first sample, tenth); cadence"),
        &format!(
            "{} µs ({}, {}); {:.3} ms",
            digits(median(us)),
            us.first().map_or("?".into(), |us| digits(*us)),
            us.last().map_or("?".into(), |us| digits(*us)),
            run.cadence_ms
        ),
    );
}

/// Prints the section.
pub fn show(table: &mut Table) {
    let tls = good_certificates();
    let (_exchange, url) = exchange(Some(&tls), "5ms", true);
    let near = (ours(&url, &tls), prototype(&url, &tls));
    show_run(table, "local: ours", &near.0);
    show_run(table, "local: prototype", &near.1);
    let ratio = median(&near.1.spreads_us) / median(&near.0.spreads_us);
    table.figure(
        "local: the prototype's spread over ours",
        &format!("{} times", digits(ratio)),
    );
    let (_proxy, through) = proxy::between(&url);
    let far = (ours(&through, &tls), prototype(&through, &tls));
    show_run(table, "network: ours", &far.0);
    show_run(table, "network: prototype", &far.1);
    let ratio = median(&far.1.spreads_us) / median(&far.0.spreads_us);
    table.figure(
        "network: the prototype's spread over ours",
        &format!("{} times", digits(ratio)),
    );
    table.at_most(
        "network: ours, spread, median",
        median(&far.0.spreads_us),
        100.0,
        "µs",
    );
    let drift_us = (far.0.cadence_ms - 1_000.0).abs() * 1e3;
    table.at_most("network: ours, drift per sample", drift_us, 20.0, "µs");
}
