//! One session against exchanges that turn it away: where it goes instead, and how long it stays away.

mod support;

use rsoracle::exchange::session::{Plan, Session, Timing};
use rsoracle::exchange::tunnel;
use rsoracle::source::{Endpoint, Source};
use std::time::{Duration, Instant};
use support::*;

fn source() -> Source {
    Source::parse("embedded-kraken:BTC/USD").expect("a source")
}

fn session<'a>(source: &'a Source, urls: &[&str]) -> Session<'a> {
    let place = |url: &&str| {
        Endpoint::parse(url)
            .expect("an address")
            .with_path("kraken")
    };
    Session::new(Plan {
        source,
        endpoints: urls.iter().map(place).collect(),
        tls: None,
        proxies: tunnel::proxies(None).expect("no proxy is named"),
        timing: Timing::of(source),
    })
}

/// How long it stays away after an upgrade that is refused like this, and what it says.
fn refused(fault: &str) -> (Duration, String) {
    let (_exchange, url) = exchange(&["--fault", &format!("upgrade:{fault}")]);
    let source = source();
    let mut session = session(&source, &[&url]);
    let until = Instant::now() + Duration::from_secs(10);
    let error = session.connect(until, &mut || Ok(())).unwrap_err();
    let away = session.retry_at().saturating_duration_since(Instant::now());
    (away, error.to_string())
}

#[test]
fn where_one_place_does_not_serve_this_location_the_next_one_does() {
    for status in ["451", "403"] {
        let (_closed, closed) = exchange(&["--fault", &format!("upgrade:{status}")]);
        let (_open, open) = exchange(&[]);
        let source = source();
        let mut session = session(&source, &[&closed, &open]);
        let price = session.first_price(&mut || Ok(())).expect("a price");
        assert!((87_200.0..87_263.0).contains(&price), "{price}");
        let place = open.rsplit_once("/ws-api").unwrap().0;
        assert!(session.endpoint().url.starts_with(place));
    }
}

#[test]
fn what_the_exchange_asks_for_is_obeyed_to_the_millisecond() {
    for fault in ["429:7", "503:7"] {
        let (away, text) = refused(fault);
        let ms = away.as_millis();
        assert!((6_000..=7_000).contains(&ms), "{fault}: {ms}");
        assert!(text.contains("(Retry-After: 7 s)"), "{text}");
    }
}

#[test]
fn who_is_turned_away_stays_away_for_long_and_not_as_long_as_its_neighbour() {
    let mut all = Vec::new();
    for fault in ["451", "403", "418", "451", "418:5"] {
        let (away, _) = refused(fault);
        let s = away.as_secs();
        assert!((590..=1_200).contains(&s), "{fault}: {s}");
        all.push(away.as_millis() / 100);
    }
    all.dedup();
    assert!(all.len() > 1, "no two in step: {all:?}");
    let (down, _) = refused("503");
    assert!(down < Duration::from_secs(2), "{down:?}");
}
