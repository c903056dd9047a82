//! What an aggregator would gather, in words (`rsoracle aggregate --check`).
//!
//! Invariant: nothing is written, and no port is opened.

use super::outlook::Outlook;
use crate::aggregator::settings::Run;
use crate::aggregator::setup::check_aggregator_key;
use crate::roster::page::{digests, row, schedule};
use crate::roster::text::instant;
use crate::system::now::wall_us;
use rsoracle_proof::seal::hex;
use rsoracle_proof::source::kind_of;
use rsoracle_proof::terms::RosterSlot;
use rsoracle_proof::tolerance::counted;
use rsoracle_verify::error::Error;
use std::net::SocketAddr;

/// What an aggregator with these settings would do, whose rosters are in these files. The error is the one that a start would
/// give, as far as it can be known.
pub fn gather(runs: &[Run], paths: &[String]) -> Result<String, Error> {
    let (config, path) = (&runs[0], &paths[0]);
    check_aggregator_key(runs)?;
    let outlook = Outlook::of(config)?;
    let roster = &config.roster;
    let single = roster.feeds.len() == 1;
    let feeds = roster.feeds.iter().map(|terms| terms.feed.as_str());
    let feeds = feeds.collect::<Vec<_>>().join(", ");
    let watched = |slot: &RosterSlot| {
        let mut sources = slot.sources.iter().filter(|source| !source.is_empty());
        let source = sources.next().expect("a slot has a source");
        if single { source } else { kind_of(source) }.to_owned()
    };
    let slots: Vec<String> = roster.slots.iter().map(watched).collect();
    let count = counted(slots.len() as u64, "collector");
    let mut page = row(
        "roster",
        &format!("{path}, number {}, of {feeds}", roster.number),
    );
    page += &digests(roster);
    page += &row("slots", &format!("{count}: {}", slots.join(", ")));
    page += &schedule(&roster.feeds[0], wall_us().max(config.tenure.from_us));
    if config.tenure.from_us > 0 {
        page += &row(
            "counts",
            &format!("from {} on", instant(config.tenure.from_us)),
        );
    }
    for (run, path) in runs.iter().zip(paths).skip(1) {
        let (number, from) = (run.roster.number, instant(run.tenure.from_us));
        page += &row("then", &format!("{path}, number {number}, from {from} on"));
    }
    for (channel, address) in [("control", config.control), ("data", config.data)] {
        page += &row(channel, &place(address));
    }
    page += &match &outlook.key {
        None => row("key", "a new one at each start, which is kept nowhere"),
        Some((path, None)) => row(
            "key",
            &format!("a new one, which the start makes in {path}"),
        ),
        Some((path, Some(key))) => row("key", &hex(key.bytes())) + &row("key file", path),
    };
    let journal = config.journal.as_deref().zip(outlook.journal.as_deref());
    let journal = journal.map_or("none".to_owned(), |(path, place)| {
        format!("{path}: {place}")
    });
    page += &row("journal", &journal);
    if !outlook.latest.is_empty() {
        page += &row("latest", &outlook.latest.join(", "));
    }
    let remarks = outlook.remarks.iter();
    page.extend(remarks.map(|remark| row("remark", remark)));
    Ok(page)
}

/// Where a channel listens, in words.
fn place(address: SocketAddr) -> String {
    let ip = address.ip();
    match address.port() {
        0 => format!("a free port of {ip}"),
        port => format!("port {port} of {ip}"),
    }
}
