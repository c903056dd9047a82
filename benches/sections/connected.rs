//! Five collectors over TLS: how far apart they send their requests, for each sample.
//!
//! The collectors measure it themselves: each reads the clock right after the `write` that hands its request to the system
//! (`lateness_us` in the report).

use crate::figures::{Table, digits, largest, median, quantile};
use crate::machine;
use crate::rounds::{exchange, round};
use crate::support::good_certificates;

const SAMPLES: u32 = 100;

/// Prints the section.
pub fn show(table: &mut Table) {
    let tls = good_certificates();
    let idle = match machine::idle_priority() {
        Some((program, args)) => format!("polls every 5 ms, {program} {}", args.join(" ")),
        None => "polls every 5 ms (no chrt, no nice here)".to_owned(),
    };
    let exchanges = [
        (idle.as_str(), "5ms", true, true),
        ("polls every 5 ms", "5ms", false, true),
        ("answers at once on the same cores", "0ms", false, false),
    ];
    for (how, poll, idle, judged) in exchanges {
        let (_exchange, url) = exchange(Some(&tls), poll, idle);
        let done = round(&url, Some(&tls.ca), SAMPLES, "100ms");
        let spreads = done.report.spreads_us();
        let mut late = done.report.lateness_us().concat();
        late.retain(|us| us.is_finite());
        let what = format!("exchange {how}: spread, median");
        if judged {
            table.at_most(&what, median(&spreads), 100.0, "µs");
        } else {
            table.figure(&what, &format!("{} µs", digits(median(&spreads))));
        }
        table.remark(&format!(
            "p90 {} µs, largest {} µs, of the {} of {SAMPLES} samples that all five took; requests late by {} µs (median), {} µs (p99); {} of 5 signatures",
            digits(quantile(&spreads, 0.9)),
            digits(largest(&spreads)),
            spreads.len(),
            digits(median(&late)),
            digits(quantile(&late, 0.99)),
            done.report.signatures_verified
        ));
    }
}
