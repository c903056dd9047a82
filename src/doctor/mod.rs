//! `rsoracle doctor`: tells whether sources can be used from this machine, and what to do about those that cannot.
//!
//! Invariant: sources are examined one after the other, each within named time limits, and one that fails does not stop the
//! others. It changes nothing, and keeps no connection and no process; `finding` judges what was found.
//! Uses: aggregator, exchange, flags, proof, source, system, verify. Used by: main.

mod finding;

use crate::aggregator::children;
use crate::exchange::certificate::Certificate;
use crate::exchange::limits::OPEN_MS_MAX;
use crate::exchange::link::Ended;
use crate::exchange::proxy::Proxy;
use crate::exchange::roots::Roots;
use crate::exchange::session::{ExchangeSession, SessionPlan};
use crate::exchange::{self, Pace, offset, tunnel};
use crate::flags::args::{Given, Usage};
use crate::flags::values::{endpoint, feeds_to_price, path, proxy, source_for};
use crate::source::{KINDS, Source};
use crate::system::endpoint::Endpoint;
use crate::system::limits::SLICE_MS;
use crate::system::net::Patience;
use crate::system::now::wall_us;
use finding::{Finding, heads};
use rsoracle_verify::error::{EXIT_FAILURE, EXIT_OK, Error, VALUE_CHARS_MAX, brief};
use std::time::{Duration, Instant};

/// How long it listens after the first price, in milliseconds: until the answer to its ping and a newer time have come.
const LISTEN_MS_MAX: u64 = 3_000;

/// The settings of `rsoracle doctor`.
#[derive(Clone, Debug)]
pub struct DoctorSettings {
    /// The sources to examine, in this order.
    pub sources: Vec<Source>,
    /// Address of the embedded exchange, for embedded sources; `None` starts one.
    pub endpoint: Option<Endpoint>,
    /// Certificates to trust besides the system's.
    pub ca_file: Option<String>,
    /// The proxy to exchanges; `None` uses the proxy that the environment names, if any.
    pub proxy: Option<Proxy>,
    /// Print JSON.
    pub json: bool,
}

impl DoctorSettings {
    /// Reads the flags of [`crate::flags::tables::DOCTOR`].
    pub fn from_flags(given: &Given) -> Result<DoctorSettings, Usage> {
        let feeds = feeds_to_price(given)?;
        let kinds = KINDS.iter().map(|kind| kind.name.to_owned());
        let names = match given.operands() {
            [] => kinds.collect(),
            named => named.to_vec(),
        };
        let mut sources: Vec<Source> = Vec::new();
        for (name, feed) in names
            .iter()
            .flat_map(|name| feeds.iter().map(move |feed| (name, feed)))
        {
            let shown = brief(name, VALUE_CHARS_MAX);
            let refused = |right| Usage(format!("{shown:?} is not a source; it takes {right}"));
            let source = source_for(name, feed).map_err(refused)?;
            // With its symbol, it is the same for every feed.
            if feed == &feeds[0] || !sources.contains(&source) {
                sources.push(source);
            }
        }
        Ok(DoctorSettings {
            endpoint: endpoint(given, &sources)?,
            sources,
            ca_file: path(given, "ca-file")?,
            proxy: proxy(given)?,
            json: given.has("json"),
        })
    }
}

/// Examines all sources, and shows each finding as soon as it is known. Returns the exit code.
pub fn run(settings: &DoctorSettings) -> Result<u8, Error> {
    let proxies = tunnel::proxies(settings.proxy.as_ref())?;
    let is_embedded = settings.sources.iter().any(|source| source.embedded);
    let own = match settings.endpoint {
        // Nobody reads its log.
        None if is_embedded => Some(children::exchange(&children::Log::new()?)?),
        _ => None,
    };
    let of_own = own.as_ref().map(|server| Endpoint::parse(&server.url));
    let of_own = of_own.transpose();
    let of_own = of_own.map_err(|why| Error::new("cannot use the embedded exchange", why))?;
    let endpoint = of_own.as_ref().or(settings.endpoint.as_ref());
    let places = |source| exchange::endpoints(source, endpoint);
    let is_tls = |source| places(source).iter().any(|endpoint| endpoint.tls);
    let tls = match settings.sources.iter().any(is_tls) {
        true => Some(Roots::find(settings.ca_file.as_deref())?.trust()?),
        false => None,
    };
    let name_chars = settings
        .sources
        .iter()
        .map(|source| source.name.len())
        .max()
        .unwrap_or(0);
    let mut printed = settings.json || show(&heads(name_chars));
    let (mut usable, mut way) = (0, String::new());
    for source in &settings.sources {
        let finding = examine(SessionPlan {
            sources: std::slice::from_ref(source),
            endpoints: places(source),
            tls: tls.clone(),
            proxies: proxies.clone(),
            pace: Pace::of(source),
        });
        usable += usize::from(finding.is_usable());
        if let Some(proxy) = &finding.proxy {
            way = format!(", through the proxy {proxy}");
        }
        match settings.json {
            true => printed &= show(&finding.json()),
            false => printed &= show(&finding.lines(name_chars).join("\n")),
        }
        // Without a reader, nobody waits for the other findings.
        if !printed {
            return Ok(EXIT_FAILURE);
        }
    }
    let all = settings.sources.len();
    let summary = format!("{usable} of {all} can be used{way}");
    let done = (settings.json || show(&summary)) && usable == all;
    Ok(if done { EXIT_OK } else { EXIT_FAILURE })
}

/// Prints lines. Returns whether that was possible.
fn show(lines: &str) -> bool {
    rsoracle_verify::print("doctor", &format!("{lines}\n"))
}

/// Examines one source.
fn examine(plan: SessionPlan) -> Finding {
    let mut finding = Finding::new(&plan.sources[0].name, wall_us());
    let (first, proxies) = (plan.endpoints[0].clone(), plan.proxies.clone());
    // Its answer may have the exchange's time, which some exchanges send rarely unless asked.
    let ping = exchange::dialect(&plan.sources[0]).ping;
    let mut session = ExchangeSession::new(plan);
    finding.error = visit(&mut session, &mut finding, ping).err();
    finding.ahead_us = session.offset.told_us.or(session.offset.us());
    let place = session.endpoint();
    finding.proxy = proxies.to(place).map(Proxy::to_string);
    finding.passed_over = (*place != first).then_some(first.url);
    finding.url.clone_from(&place.url);
    finding
}

/// Connects, waits for a first price, and listens on until the round trip and the clock are known, or for
/// [`LISTEN_MS_MAX`].
fn visit(
    session: &mut ExchangeSession,
    finding: &mut Finding,
    ping: Option<&str>,
) -> Result<(), Error> {
    let began = Instant::now();
    session.connect(began + Duration::from_millis(OPEN_MS_MAX), &mut || Ok(()))?;
    finding.open_us = Some(began.elapsed().as_micros() as u64);
    let attempt = format!("cannot keep the connection to {}", session.endpoint().url);
    let lost = |ended: Ended| Error::new(&attempt, ended.text).passing();
    let pinged_at = Instant::now();
    if let Some(link) = session.link() {
        finding.certificate = link.certificate().and_then(|der| Certificate::read(&der));
        link.ping().map_err(lost)?;
    }
    session.wait_for_price(&mut || Ok(()), &mut |said| finding.hear(said, wall_us()))?;
    finding.price = session.first_prices()[0];
    if let (Some(ping), Some(link)) = (ping, session.link()) {
        link.send(ping.to_owned()).map_err(lost)?;
    }
    let until = Instant::now() + Duration::from_millis(LISTEN_MS_MAX);
    loop {
        let ponged_at = session.link().and_then(|link| link.ponged_at());
        let round_trip = ponged_at.map(|at| at.saturating_duration_since(pinged_at));
        finding.round_trip_us = round_trip.map(|trip| trip.as_micros() as u64);
        // If the clock seems off, listen on: a later message may arrive with less delay.
        let on_time = |us| offset::words(us).is_none();
        let clock_known = session.offset.told_us.is_some_and(on_time);
        if (round_trip.is_some() && clock_known) || Instant::now() >= until {
            return Ok(());
        }
        let slice = until.min(Instant::now() + Duration::from_millis(SLICE_MS));
        session.hear(Patience::Until(slice)).map_err(lost)?;
    }
}
