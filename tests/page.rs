//! The live page of `rsoracle serve`, in a headless Chromium and with the real server: what it shows, what it checks, and what it
//! calls right.

mod browser;
mod served;
mod signed;
mod support;

use browser::Browser;
use rsoracle::system::now::wall_us;
use rsoracle_proof::aggregate::Rule;
use rsoracle_proof::publish::{Policy, PublishedPrice};
use rsoracle_proof::reason::Reject;
use rsoracle_proof::report::Verifier;
use rsoracle_proof::terms::{Roster, Terms};
use served::*;
use signed::Says::*;
use signed::*;
use std::path::Path;
use support::*;

/// Long enough that no price becomes old while a test runs.
const PERIOD_US: u64 = 600_000_000;

/// A journal whose rounds are `PERIOD_US` apart, the last of so many now.
struct Rounds {
    book: Book,
    start_us: u64,
}

impl Rounds {
    fn new(source: &str, count: u64) -> Rounds {
        let mut book = Book::new(0);
        book.oracle = Oracle::new(5, source);
        let start_us = wall_us() - (count - 1) * PERIOD_US;
        let schedule = &mut book.oracle.terms.schedule;
        (schedule.first_start_us, schedule.period_us) = (start_us, PERIOD_US);
        Rounds { book, start_us }
    }

    /// The line of the next round, which is not written.
    fn next(&mut self, says: &[Says]) -> String {
        let line = self.book.oracle.line(self.start_us, says);
        self.start_us += PERIOD_US;
        self.book.lines.push(line.clone());
        line
    }

    /// Appends rounds with prices.
    fn grow(&mut self, count: usize) {
        for _ in 0..count {
            let line = self.next(&prices());
            self.book.append(&format!("{line}\n"));
        }
    }

    fn roster(&self) -> Roster {
        roster_of(&self.book.oracle.terms)
    }
}

fn prices() -> [Says; 5] {
    [87231.4, 87231.42, 87231.5, 87230.9, 87231.437].map(Price)
}

fn toml(roster: &Roster) -> String {
    rsoracle::roster::text::render(roster)
}

/// A page of a server, with or without a roster.
fn page(served: &Served, roster: Option<&str>) -> Browser {
    let mut page = Browser::start(&[]);
    page.open(&format!("http://{}/", served.address));
    page.until("document.querySelector('#strip i') !== null", "true");
    if let Some(text) = roster {
        give(&mut page, text);
    }
    page
}

/// Pastes a roster, and waits until the page shows what it found by it.
fn give(page: &mut Browser, roster: &str) {
    use nanoserde::SerJson;
    page.value(&format!(
        "document.querySelector('#roster').value = {}, document.querySelector('#use').click()",
        roster.to_owned().serialize_json()
    ));
    page.until("document.querySelector('#forget').hidden", "false");
    page.until(
        "session.roster !== null && session.newest !== null && !drawn",
        "true",
    );
}

fn verdict(page: &mut Browser) -> String {
    page.text("#verdict-word")
}

/// The slots whose rows are of a class.
fn slots(page: &mut Browser, class: &str) -> String {
    page.value(&format!(
        "[...document.querySelectorAll('#slots tr.{class}')].map(tr => tr.dataset.slot).join()"
    ))
}

fn assert_clean(page: &mut Browser, served: &Served) {
    assert_eq!(page.complaints(), Vec::<String>::new());
    let own = format!("http://{}/", served.address);
    let none: [String; 0] = [];
    assert_eq!(page.requests_except(&[&own, "data:"]), none);
}

#[test]
#[ignore = "needs chromium"]
fn the_page_shows_what_the_journal_has_and_green_only_what_it_checked() {
    let mut rounds = Rounds::new("kraken:BTC/USD", 4);
    rounds.grow(3);
    let mut says = prices();
    (says[3], says[4]) = (Abstains, Nothing);
    let line = rounds.next(&says);
    rounds.book.append(&format!("{line}\n"));
    let served = Served::start(&rounds.book.path, &[]);
    let mut page = page(&served, None);
    page.until("document.querySelectorAll('#strip i').length", "4");
    // Three of five are a quorum: without the highest and the lowest, one is left.
    assert_eq!(page.text("#price"), "87,231.42");
    assert_eq!(page.text("#exact"), "", "these are all its digits");
    assert!(line.contains("\"price\":87231.42,\"decision\":\"published\""));
    assert_eq!(page.text("#round"), "round 4");
    assert_eq!(page.text("#feed"), "BTC/USD");
    let cells = |name: &str| {
        format!(
            "[...document.querySelectorAll('#slots .{name}')].map(td => td.innerText).join('|')"
        )
    };
    for (name, expected) in [
        ("source", ["kraken BTC/USD"; 5].join("|").as_str()),
        ("last", "87,231.40|87,231.42|87,231.50|87,230.90|87,231.44"),
        ("deviation", "−0.0000 %|0.0000 %|+0.0001 %|–|–"),
        ("late", "1 µs|2 µs|3 µs|–|–"),
        (
            "state",
            "trimmed|used|trimmed|abstains: fewer than 80 % of the samples are valid|silent",
        ),
    ] {
        assert_eq!(page.value(&cells(name)), expected, "{name}");
    }
    let exact = page.value("document.querySelector('#slots tr:nth-child(5) .last').title");
    assert_eq!(exact, "87231.437", "the last price that it gave");
    assert_eq!(page.count("#slots .spark path"), 5);
    assert_eq!(page.count("#chart .band-used"), 1);
    assert!(page.value("document.querySelector('#recorded').hidden") == "true");
    // Its age counts up.
    let age = page.text("#age");
    assert!(age.ends_with(" old"), "{age}");
    page.until(
        &format!("document.querySelector('#age').innerText !== '{age}'"),
        "true",
    );
    // Without a roster nothing is green.
    assert_eq!(verdict(&mut page), "Consistent, signers unknown");
    assert_eq!(page.count(".proved"), 0);
    let roster = rounds.roster();
    give(&mut page, &toml(&roster));
    page.until(
        "document.querySelector('#verdict-word').innerText",
        "Checked in this browser",
    );
    let digest = rsoracle_proof::seal::hex(&roster.digest());
    assert!(page.text("#roster-state").contains(&digest));
    assert_eq!(
        slots(&mut page, "proved"),
        "0,1,2,3",
        "who said nothing signed nothing"
    );
    page.until("document.querySelectorAll('#strip i.proved').length", "4");
    // It is kept over a reload, until it is forgotten.
    page.ask("Page.reload", "{}");
    page.until(
        "document.querySelector('#verdict-word').innerText",
        "Checked in this browser",
    );
    page.value("document.querySelector('#forget').click()");
    page.until(
        "document.querySelector('#verdict-word').innerText",
        "Consistent, signers unknown",
    );
    assert_eq!(page.count(".proved"), 0);
    assert_clean(&mut page, &served);
}

/// A line with another character at a place that `find` names.
fn flipped(line: &str, find: &str) -> String {
    let at = line.find(find).expect("it is in the line") + find.len();
    let mut bytes = line.as_bytes().to_vec();
    bytes[at] ^= 1;
    String::from_utf8(bytes).expect("still ASCII")
}

#[test]
#[ignore = "needs chromium"]
fn a_flipped_bit_turns_exactly_its_collector_red() {
    let mut rounds = Rounds::new("kraken:BTC/USD", 11);
    let roster = toml(&rounds.roster());
    rounds.grow(1);
    let served = Served::start(&rounds.book.path, &[]);
    served.until("/v1/feeds", |answered| answered.body.contains("\"last\":1"));
    let mut page = page(&served, Some(&roster));
    page.until("document.querySelectorAll('#slots tr.proved').length", "5");
    let seat = |slot: u8, key: &str| {
        let public = rsoracle_proof::seal::hex(signed::key(slot + 1).public().bytes());
        format!("{public}\",{key}")
    };
    let standing = "\"standing\":\"used\",";
    for (slot, find) in [
        (1, seat(1, &format!("{standing}\"price\":87231.4"))),
        (
            4,
            seat(
                4,
                &format!("{standing}\"price\":87231.437,\"abstains\":null,\"timestamp_us\":17"),
            ),
        ),
        (
            0,
            seat(
                0,
                &format!("{standing}\"price\":87231.4,\"abstains\":null,\"timestamp_us\":17"),
            ),
        ),
        (2, "\"slot\":2,\"source\":\"k".to_owned()),
        (
            2,
            "\"slot\":2,\"source\":\"kraken:BTC/USD\",\"key\":\"".to_owned(),
        ),
        (3, "{\"price\":87230.".to_owned()),
        (3, "{\"price\":87230.9,\"lateness_us\":".to_owned()),
    ] {
        let line = rounds.next(&prices());
        rounds.book.append(&format!("{}\n", flipped(&line, &find)));
        let number = rounds.book.lines.len();
        page.until(
            "document.querySelector('#round').innerText",
            &format!("round {number}"),
        );
        page.until("drawn", "false");
        assert_eq!(verdict(&mut page), "Does not check");
        assert_eq!(slots(&mut page, "wrong"), slot.to_string(), "{find}");
        assert_eq!(page.count("#slots tr.proved"), 4, "{find}");
        let why = page.text("#verdict-why");
        assert!(why.starts_with(&format!("Collector {slot}: ")), "{why}");
        assert_eq!(page.count("#strip i.wrong"), number - 1);
    }
    // What follows from other samples, but was not signed.
    let line = rounds.next(&prices());
    let other = line.replace("\"price\":87231.5,", "\"price\":87231.6,");
    assert_eq!(line.matches("87231.5,").count(), 2, "average and sample");
    rounds.book.append(&format!("{other}\n"));
    page.until("document.querySelector('#round').innerText", "round 9");
    page.until("drawn", "false");
    assert_eq!(slots(&mut page, "wrong"), "2");
    assert!(
        page.text("#verdict-why")
            .contains("the signature does not check")
    );
    // A price that does not follow is nobody's fault but the aggregator's.
    let line = rounds.next(&prices());
    rounds.book.append(&format!(
        "{}\n",
        flipped(&line, "\"feed\":\"BTC/USD\",\"price\":8723")
    ));
    page.until("document.querySelector('#round').innerText", "round 10");
    page.until("drawn", "false");
    assert_eq!(verdict(&mut page), "Does not check");
    assert_eq!(page.count("#slots tr.wrong"), 0);
    assert_eq!(page.count(".hero.wrong"), 1);
    assert!(page.text("#verdict-why").starts_with("price is "));
    // What the price used is the aggregator's word then.
    let states = "[...document.querySelectorAll('#slots .state')].map(td => td.innerText).join('')";
    assert_eq!(page.value(states), "");
    // What follows is right again.
    rounds.grow(1);
    page.until(
        "document.querySelector('#verdict-word').innerText",
        "Checked in this browser",
    );
    assert_eq!(page.count("#slots tr.proved"), 5);
    assert_clean(&mut page, &served);
}

#[test]
#[ignore = "needs chromium"]
fn nothing_is_green_by_a_wrong_roster() {
    let mut rounds = Rounds::new("kraken:BTC/USD", 2);
    rounds.grow(2);
    let served = Served::start(&rounds.book.path, &[]);
    let right = rounds.roster();
    let mut page = page(&served, None);
    let mut keys = rounds.book.oracle.terms.clone();
    for (at, seat) in keys.seats.iter_mut().enumerate() {
        seat.key = Some(signed::key(100 + at as u8).public());
    }
    let mut limits = rounds.book.oracle.terms.clone();
    limits.spread_ppm_max = Some(20_000);
    let mut feed = rounds.book.oracle.terms.clone();
    feed.feed = "ETH/USD".to_owned();
    let mut one = rounds.book.oracle.terms.clone();
    one.seats[2].key = Some(signed::key(100).public());
    for (terms, red, says) in [
        (keys, "0,1,2,3,4", "its key is not the one in your roster"),
        (
            limits,
            "0,1,2,3,4",
            "spread_ppm_max is null, and 20000 in your roster",
        ),
        (feed, "", "your roster has no feed BTC/USD"),
        (one, "0,1,2,3,4", "Collector 0, 1, 2, 3, 4"),
    ] {
        give(&mut page, &toml(&roster_of(&terms)));
        page.until(
            "document.querySelector('#verdict-word').innerText",
            "Does not check",
        );
        assert_eq!(slots(&mut page, "wrong"), red);
        assert_eq!(page.count(".proved"), 0);
        let why = page.text("#verdict-why");
        assert!(why.contains(says), "{why}");
    }
    // What is no roster changes nothing.
    let text = toml(&right);
    for broken in [
        text.replace("rule = \"trimmed-mean\"", "rule = \"trimmed\""),
        text.replace("number = 1", "number = 1\nnumber = 1"),
        text.replacen("key = \"", "key = \"0", 1),
        text.replace("[slot.4]", "[slot.5]"),
        text.replace("interval = \"1s\"", "interval = \"1 s\""),
        format!("{text}more = 1\n"),
        "<p>".to_owned(),
    ] {
        assert_ne!(broken, text);
        give(&mut page, &broken);
        page.until("document.querySelector('#roster-state').className", "wrong");
        assert!(
            page.text("#roster-state")
                .starts_with("This is no valid roster: ")
        );
        assert_eq!(page.count(".proved"), 0);
        page.value("showRoster()");
    }
    give(&mut page, &text);
    page.until(
        "document.querySelector('#verdict-word').innerText",
        "Checked in this browser",
    );
    // A roster that follows another counts from its time on, and no endorsement in it is wrong.
    let next = Roster::single(2, Some(right.digest()), right.feeds[0].clone());
    let (hour_us, now_us) = (3_600_000_000, wall_us() / 1_000_000 * 1_000_000);
    let file = |from_us| signed::endorsed(&right, &next, from_us, &[1, 2, 3]);
    for (text, selector, says) in [
        (file(now_us + hour_us), "#verdict-word", "Does not check"),
        (
            file(now_us - hour_us),
            "#verdict-word",
            "Checked in this browser",
        ),
        (
            file(now_us - hour_us).replace(
                &signed::instant(now_us - hour_us),
                &signed::instant(now_us - 2 * hour_us),
            ),
            "#roster-state",
            "This is no valid roster: the signature of endorsement 0 does not check. The one before it still counts.",
        ),
        (
            file(now_us - hour_us).replace("[endorsement.2]", "[endorsement.3]"),
            "#roster-state",
            "This is no valid roster: [endorsement.3] where [endorsement.2] is expected. The one before it still counts.",
        ),
    ] {
        give(&mut page, &text);
        page.until(
            &format!("document.querySelector('{selector}').innerText"),
            says,
        );
    }
    assert_clean(&mut page, &served);
}

#[test]
#[ignore = "needs chromium"]
fn a_roster_file_that_is_dropped_counts_and_what_is_none_says_why() {
    let mut rounds = Rounds::new("kraken:BTC/USD", 2);
    rounds.grow(2);
    let served = Served::start(&rounds.book.path, &[]);
    let mut page = page(&served, None);
    let folder = scratch("dropped");
    std::fs::create_dir(&folder).expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("a file");
        path
    };
    let right = toml(&rounds.roster());
    let mut keys = rounds.book.oracle.terms.clone();
    for (at, seat) in (100..).zip(&mut keys.seats) {
        seat.key = Some(signed::key(at).public());
    }
    let right_file = file("right.toml", &right);
    let wrong_file = file("wrong.toml", &toml(&roster_of(&keys)));
    // It would be right, but for its length.
    let long = format!("{right}# {}\n", "-".repeat(1024 * 1024 - right.len()));
    let none = [
        (file("long.toml", &long), "it is longer than 1 MiB"),
        (
            file("report.jsonl", &rounds.book.lines[0]),
            "line 1: neither a section nor a key with a value",
        ),
        (file("empty.toml", ""), "[] lacks number"),
        (folder.clone(), "the file cannot be read"),
    ];
    let state = "document.querySelector('#roster-state').innerText";
    let verdict_word = "document.querySelector('#verdict-word').innerText";
    for (path, why) in &none {
        page.drop_file(path);
        page.until(state, &format!("This is no valid roster: {why}."));
        assert_eq!(verdict(&mut page), "Consistent, signers unknown");
        assert_eq!(page.count(".proved"), 0);
        let forget = page.value("document.querySelector('#forget').hidden");
        assert_eq!(forget, "true", "there is none to forget");
    }
    page.drop_file(&wrong_file);
    page.until(verdict_word, "Does not check");
    assert_eq!(page.count(".proved"), 0);
    assert_eq!(slots(&mut page, "wrong"), "0,1,2,3,4");
    assert!(
        page.text("#verdict-why")
            .contains("its key is not the one in your roster")
    );
    page.drop_file(&right_file);
    page.until(verdict_word, "Checked in this browser");
    assert_eq!(slots(&mut page, "proved"), "0,1,2,3,4");
    page.until("document.querySelectorAll('#strip i.proved').length", "2");
    let digest = rsoracle_proof::seal::hex(&rounds.roster().digest());
    assert!(page.text("#roster-state").contains(&digest));
    assert_eq!(page.value("document.querySelector('#roster').value"), right);
    // What is no roster takes nothing away.
    for (path, why) in &none {
        page.drop_file(path);
        let says = format!("This is no valid roster: {why}. The one before it still counts.");
        page.until(state, &says);
        assert_eq!(slots(&mut page, "proved"), "0,1,2,3,4");
    }
    let own = format!("http://{}/", served.address);
    assert_eq!(page.value("location.href").split('#').next(), Some(&*own));
    assert_clean(&mut page, &served);
}

#[test]
#[ignore = "needs chromium"]
fn gaps_rounds_without_a_price_old_prices_and_recorded_ones_are_marked() {
    let mut rounds = Rounds::new("embedded:BTCUSDT", 9);
    rounds.grow(3);
    for _ in 0..2 {
        rounds.next(&prices());
    }
    rounds.grow(1);
    let served = Served::start(&rounds.book.path, &[]);
    let mut page = page(&served, Some(&toml(&rounds.roster())));
    page.until(
        "document.querySelector('#notes .gap').innerText.includes('reports 4 to 5 missing')",
        "true",
    );
    assert_eq!(page.count("#strip i.gap"), 1);
    assert!(
        page.text("#recorded")
            .to_lowercase()
            .contains("recorded prices")
    );
    // A gap in the stream.
    rounds.next(&prices());
    rounds.grow(1);
    page.until("document.querySelectorAll('#strip i.gap').length", "2");
    assert!(page.text("#notes").contains("report 7 missing"));
    assert_eq!(slots(&mut page, "proved"), "0,1,2,3,4");
    // No quorum.
    let line = rounds.next(&[Price(87231.4), Abstains, Nothing, Nothing, Nothing]);
    rounds.book.append(&format!("{line}\n"));
    page.until(
        "document.querySelector('#verdict-word').innerText",
        "No price",
    );
    assert_eq!(page.count(".hero.old"), 1);
    assert!(page.text("#trouble").contains(
        "too few collectors gave a price (1 of 5 collectors gave a price; 3 are needed)"
    ));
    assert_eq!(page.count("#strip i.none"), 1);
    assert!(page.count("#chart .gone") >= 1);
    assert_eq!(page.text("#price"), "87,231.42", "the price before it");
    // What does not check moves no time, and what cannot be read hides nothing.
    let good = page.count("#strip i.proved");
    let start = format!("\"round_start_us\":{}", rounds.start_us + PERIOD_US);
    for (wrong, (from, to)) in (1..).zip([
        ("\"collectors\":[", "\"collectors\":("),
        (start.as_str(), "\"round_start_us\":9007199254740991"),
    ]) {
        let line = rounds.next(&prices()).replacen(from, to, 1);
        rounds.book.append(&format!("{line}\n"));
        page.until(
            "document.querySelectorAll('#strip i.wrong').length",
            &wrong.to_string(),
        );
        assert_eq!(page.count("#strip i.proved"), good, "{from}");
        assert_eq!(
            page.value("document.querySelector('#recorded').hidden"),
            "false"
        );
    }
    assert_clean(&mut page, &served);
    // Prices of 2023.
    let mut old = Book::new(START_US);
    old.grow(5);
    let served = Served::start(&old.path, &[]);
    let mut page = page_of(&served, &toml(&roster_of(&old.oracle.terms)));
    page.until(
        "document.querySelector('#verdict-word').innerText",
        "Old price",
    );
    assert_eq!(page.count(".verdict.proved"), 0);
    assert_eq!(page.count(".hero.stale"), 1);
    assert!(page.text("#age").ends_with(" days old"));
    assert!(page.value("document.title").starts_with('⚠'));
    assert_clean(&mut page, &served);
}

#[test]
#[ignore = "needs chromium"]
fn what_only_the_aggregator_says_is_no_price_and_an_older_round_is_not_the_newest() {
    let mut rounds = Rounds::new("kraken:BTC/USD", 4);
    let roster = toml(&rounds.roster());
    let silence = [Price(87231.4), Nothing, Nothing, Nothing, Nothing];
    for _ in 0..2 {
        let line = rounds.next(&silence);
        rounds.book.append(&format!("{line}\n"));
        // No collector gave this price.
        rounds.book.oracle.last = Some(PublishedPrice {
            number: 1,
            price: 1234.5,
            time_us: wall_us(),
        });
    }
    let served = Served::start(&rounds.book.path, &[]);
    let mut page = page(&served, Some(&roster));
    page.until("document.querySelectorAll('#strip i.proved').length", "2");
    assert_eq!(verdict(&mut page), "No price");
    assert_eq!(page.text("#price"), "–");
    assert_eq!(page.text("#age"), "no price yet");
    assert_eq!(page.text("#exact"), "");
    assert_eq!(page.value("document.title"), "BTC/USD");
    // The second came by the stream, the first by a tile.
    let notes = page.text("#notes");
    let broken = "it says something else of the price before it";
    assert!(notes.contains(broken), "{notes}");
    rounds.book.oracle.last = None;
    rounds.grow(1);
    page.until("document.querySelector('#price').innerText", "87,231.42");
    // Where the server begins anew, no price stays whose age would stand still.
    let shown = "(session.restart(''), show(), byId('price').textContent + document.title)";
    assert_eq!(page.value(shown), "–BTC/USD");
    page.until("document.querySelector('#price').innerText", "87,231.42");
    // An older round, numbered and signed anew. The real server passes on no such line, so it is said in its place.
    let newest = rounds.book.lines[2].clone();
    rounds.start_us -= 2 * PERIOD_US;
    rounds.next(&prices());
    rounds.start_us -= PERIOD_US;
    let older = rounds.next(&prices());
    let late = "its round does not start after that of a report seen here";
    let word = "document.querySelector('#verdict-word').innerText";
    page.value(&format!(
        "session.source.onmessage({{data: '{older}', lastEventId: session.chain + '-5'}})"
    ));
    page.until(word, "Does not check");
    assert!(page.text("#verdict-why").starts_with(late));
    assert_eq!(page.count("#strip i.wrong"), 1);
    // Nor is it the newest where another chain begins with it.
    let mut other = Rounds::new("kraken:BTC/USD", 1);
    other.book.oracle.terms = rounds.book.oracle.terms.clone();
    other.book.oracle.aggregator = 9;
    other.start_us = rounds.start_us - 2 * PERIOD_US;
    other.grow(1);
    std::fs::rename(&other.book.path, &rounds.book.path).unwrap();
    page.until("document.querySelectorAll('#strip i').length", "1");
    page.until(word, "Does not check");
    assert!(page.text("#verdict-why").starts_with(late));
    // Nor where only a tile shows that it is not.
    page.ask("Page.reload", "{}");
    page.until(word, "Old price");
    page.value(&format!(
        "(async () => {{ const run = {{points: [], first: null, last: null}}; \
         session.add(3, await session.check('{newest}'), run); session.join(run); session.changed(); }})()"
    ));
    page.until(word, "Does not check");
    page.until("document.querySelectorAll('#strip i.wrong').length", "1");
    other.start_us += 2 * PERIOD_US;
    let line = other.next(&prices());
    rounds.book.append(&format!("{line}\n"));
    page.until(word, "Checked in this browser");
    assert_clean(&mut page, &served);
}

fn page_of(served: &Served, roster: &str) -> Browser {
    page(served, Some(roster))
}

/// Serves a journal on an address that stays the same.
fn serve_at(journal: &Path, address: std::net::SocketAddr) -> Served {
    let (journal, listen) = (journal.to_str().unwrap(), address.to_string());
    let running = start(&["serve", "--journal", journal, "--listen", &listen]);
    eventually("it listens", || {
        running.stdout().ends_with('\n').then_some(())
    });
    Served {
        running,
        address,
        metrics: None,
    }
}

#[test]
#[ignore = "needs chromium"]
fn the_page_loses_and_doubles_no_report_when_the_server_is_killed() {
    let mut rounds = Rounds::new("kraken:BTC/USD", 16);
    rounds.grow(2);
    let address = nobodys_address();
    let mut served = serve_at(&rounds.book.path, address);
    served.until("/v1/feeds", |answered| answered.body.contains("\"last\":2"));
    let mut page = page(&served, Some(&toml(&rounds.roster())));
    let numbers =
        "[...document.querySelectorAll('#strip i')].map(cell => cell.dataset.number).join()";
    for _ in 0..3 {
        served.running.signal("KILL");
        served.running.finish();
        page.until(
            "document.querySelector('#connection').className",
            "connection lost",
        );
        rounds.grow(3);
        served = serve_at(&rounds.book.path, address);
        rounds.grow(1);
        let all: Vec<String> = (1..=rounds.book.lines.len())
            .map(|number| number.to_string())
            .collect();
        page.until(numbers, &all.join(","));
        page.until("document.querySelector('#connection').innerText", "live");
    }
    // A server that has no journal ends the stream for good, as far as the browser is concerned.
    let aside = rounds.book.path.with_extension("aside");
    std::fs::rename(&rounds.book.path, &aside).unwrap();
    served.running.signal("KILL");
    served.running.finish();
    served = serve_at(&rounds.book.path, address);
    page.until("session.source.readyState", "2");
    std::fs::rename(&aside, &rounds.book.path).unwrap();
    rounds.grow(2);
    page.until("document.querySelectorAll('#strip i.proved').length", "16");
    drop(served);
    assert_eq!(page.count("#notes li"), 0, "nothing is missing");
    // It went on by the id of the last event.
    let asked = page.events("Network.requestWillBeSentExtraInfo");
    let header = format!("\"Last-Event-ID\":\"{}-10\"", chain(&rounds));
    assert!(
        asked.iter().any(|event| event.contains(&header)),
        "{header}: {asked:?}"
    );
    for complaint in page.complaints() {
        let of_server = ["net::ERR_", "a status of 503"];
        let expected = of_server.iter().any(|part| complaint.contains(part));
        assert!(expected, "{complaint}");
    }
}

/// The name of a journal's chain.
fn chain(rounds: &Rounds) -> String {
    let (_, signature) = rounds.book.lines[0].rsplit_once(":\"").unwrap();
    signature[..16].to_owned()
}

#[test]
#[ignore = "needs chromium"]
fn a_journal_that_was_replaced_begins_anew_on_the_page() {
    let mut rounds = Rounds::new("kraken:BTC/USD", 5);
    rounds.grow(5);
    let served = Served::start(&rounds.book.path, &[]);
    let mut page = page(&served, Some(&toml(&rounds.roster())));
    page.until("document.querySelectorAll('#strip i.proved').length", "5");
    let mut other = Rounds::new("kraken:BTC/USD", 3);
    other.book.oracle.aggregator = 9;
    other.grow(3);
    let roster = toml(&other.roster());
    std::fs::rename(&other.book.path, &rounds.book.path).unwrap();
    page.until("document.querySelectorAll('#strip i').length", "3");
    assert!(
        page.text("#notes")
            .contains("The server’s journal was replaced.")
    );
    assert_eq!(
        verdict(&mut page),
        "Does not check",
        "it has another schedule"
    );
    give(&mut page, &roster);
    page.until("document.querySelectorAll('#strip i.proved').length", "3");
    assert_clean(&mut page, &served);
}

#[test]
#[ignore = "needs chromium"]
fn where_a_browser_cannot_check_nothing_is_green() {
    let mut rounds = Rounds::new("kraken:BTC/USD", 3);
    rounds.grow(3);
    let served = Served::start(&rounds.book.path, &[]);
    let mut page = Browser::start(&["--host-resolver-rules=MAP oracle.test 127.0.0.1"]);
    let own = format!("http://oracle.test:{}/", served.address.port());
    page.open(&own);
    page.until(
        "document.querySelector('#verdict-word').innerText",
        "Not checked",
    );
    assert!(
        page.text("#verdict-why")
            .contains("only on pages from https:// or from this machine")
    );
    assert_eq!(page.text("#price"), "87,231.42");
    page.until(
        "document.querySelectorAll('#strip i.unchecked').length",
        "3",
    );
    page.value("document.querySelector('#use').click()");
    assert_eq!(page.count(".proved") + page.count(".consistent:not(tr)"), 0);
    assert_eq!(page.requests_except(&[&own, "data:"]), Vec::<String>::new());
    assert_eq!(page.complaints(), Vec::<String>::new());
}

#[test]
#[ignore = "needs chromium"]
fn the_browser_refuses_whatever_is_not_of_the_page() {
    let mut rounds = Rounds::new("kraken:BTC/USD", 1);
    rounds.grow(1);
    let served = Served::start(&rounds.book.path, &[]);
    let answered = served.get("/");
    let policy = answered.field("content-security-policy").expect("a policy");
    for part in [
        "default-src 'none'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "script-src 'sha512-",
        "style-src 'sha512-",
    ] {
        assert!(policy.contains(part), "{part}: {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(answered.field("x-content-type-options"), Some("nosniff"));
    assert_eq!(answered.field("referrer-policy"), Some("no-referrer"));
    let mut page = page(&served, None);
    assert_clean(&mut page, &served);
    let elsewhere = format!("http://{}/", nobodys_address());
    let refused = page.value(&format!("fetch('{elsewhere}').catch(error => 'refused')"));
    assert_eq!(refused, "refused");
    let blocked = page.complaints().join("\n");
    assert!(blocked.contains("ContentSecurityPolicy"), "{blocked}");
    // By a script, a style or a frame that was put into it.
    page.value(
        "(document.body.insertAdjacentElement('beforeend', Object.assign(document.createElement('p'), {id: 'probe'})), \
          document.querySelector('#probe').setAttribute('style', 'color: rgb(1, 2, 3)'))",
    );
    let color = page.value("getComputedStyle(document.querySelector('#probe')).color");
    assert_ne!(color, "rgb(1, 2, 3)");
    let thrown = page.value("(() => { try { document.body.innerHTML = '<b>'; return 'taken'; } catch { return 'refused'; } })()");
    assert_eq!(thrown, "refused");
}

#[test]
#[ignore = "needs chromium"]
fn several_feeds_are_to_choose_from_and_a_copy_of_the_page_works_alone() {
    let mut first = Rounds::new("kraken:BTC/USD", 2);
    let mut other = Rounds::new("kraken:ETH/USD", 2);
    other.start_us = first.start_us;
    other.book.oracle.terms.schedule = first.book.oracle.terms.schedule;
    other.book.oracle.terms.feed = "ETH/USD".to_owned();
    for price in [3_000.5, 3_001.25] {
        let lines = [first.next(&prices()), other.next(&[Price(price); 5])];
        first.book.append(&format!("{}\n{}\n", lines[0], lines[1]));
    }
    let served = Served::start(&first.book.path, &[]);
    let roster = Roster::new(
        1,
        None,
        vec![
            first.book.oracle.terms.clone(),
            other.book.oracle.terms.clone(),
        ],
        roster_slots(&first, &other),
    );
    let mut page = page(&served, Some(&toml(&roster)));
    assert_eq!(page.text("#feeds"), "BTC/USD\nETH/USD");
    assert_eq!(page.text("#price"), "87,231.42");
    page.value("document.querySelector('#feeds button:last-child').click()");
    page.until("document.querySelector('#price').innerText", "3,001.250");
    page.until(
        "document.querySelector('#verdict-word').innerText",
        "Checked in this browser",
    );
    assert_eq!(page.text("#feed"), "ETH/USD");
    assert!(page.value("location.hash").contains("ETH%2FUSD"));
    assert_clean(&mut page, &served);
    // A copy asks the server that its address names.
    let copy = scratch("copy.html");
    std::fs::write(&copy, served.get("/").body).unwrap();
    let address = served.address;
    for wrong in ["javascript:alert(1)", "https:///", "file:///etc"] {
        page.open(&format!("file://{}#server={wrong}", copy.display()));
        page.until(
            "document.querySelector('#connection').innerText.includes('add #server=')",
            "true",
        );
        let link = page.value("document.querySelector('#theirs').protocol");
        assert_eq!(link, "file:", "{wrong}");
    }
    // It has a policy of its own, since nobody sends one with it.
    page.value("document.body.appendChild(document.createElement('style')).textContent = 'body { color: rgb(1, 2, 3) }'");
    let color = page.value("getComputedStyle(document.body).color");
    assert_ne!(color, "rgb(1, 2, 3)");
    page.open(&format!(
        "file://{}#feed=ETH/USD&server=http://{address}",
        copy.display()
    ));
    page.until("document.querySelector('#price').innerText", "3,001.250");
    give(&mut page, &toml(&roster));
    page.until(
        "document.querySelector('#verdict-word').innerText",
        "Checked in this browser",
    );
}

fn roster_slots(first: &Rounds, other: &Rounds) -> Vec<rsoracle_proof::terms::RosterSlot> {
    let (first, other) = (
        &first.book.oracle.terms.seats,
        &other.book.oracle.terms.seats,
    );
    let pair = |(one, two): (&rsoracle_proof::terms::Seat, &rsoracle_proof::terms::Seat)| {
        rsoracle_proof::terms::RosterSlot {
            key: one.key,
            sources: vec![one.source.clone(), two.source.clone()],
        }
    };
    first.iter().zip(other).map(pair).collect()
}

/// A vector of docs/PROTOCOL.md.
fn vector(name: &str) -> &'static str {
    let document = include_str!("../docs/PROTOCOL.md");
    let begin = format!("\n{name} = ");
    let (_, rest) = document
        .split_once(&begin)
        .unwrap_or_else(|| panic!("{name}"));
    rest.lines().next().unwrap()
}

#[test]
#[ignore = "needs chromium"]
fn the_browser_accepts_and_refuses_what_the_document_says() {
    let mut rounds = Rounds::new("kraken:BTC/USD", 1);
    rounds.grow(1);
    let served = Served::start(&rounds.book.path, &[]);
    let mut page = page(&served, None);
    for name in [
        "identity",
        "order-2",
        "order-4",
        "spelled-twice",
        "no-point",
    ] {
        let key = vector(&format!("refused.key.{name}"));
        let taken = page.value(&format!("importKey('{key}').then(() => true, () => false)"));
        assert_eq!(taken, "false", "{name}");
    }
    let (key, message) = (vector("slot0.public"), vector("slot0.observation.signed"));
    let first = &vector("slot0.observation")[32..];
    for (signature, right) in [
        (first, "true"),
        (vector("slot0.again.signature"), "true"),
        (vector("refused.signature.high-s"), "false"),
        (vector("refused.signature.small-order-r"), "false"),
    ] {
        let bytes = message.len() / 2;
        let asked = format!("isSigned('{key}', unhex('{message}', {bytes}), '{signature}')");
        assert_eq!(page.value(&asked), right, "{signature}");
    }
    let decimals = "(() => { let [s, text] = [1n, '']; for (let i = 0; i < 10000; i++) { \
        s = (s * 6364136223846793005n + 1442695040888963407n) % 2n ** 64n; const k = i % 3; \
        text += decimal(Number(2n * (s >> BigInt(39 - 7 * k)) + 1n) / 2 ** (14 - 3 * k)) + '\\n'; } \
        return crypto.subtle.digest('SHA-512', new TextEncoder().encode(text)).then(all => hex(new Uint8Array(all)).slice(0, 64)); })()";
    assert_eq!(page.value(decimals), vector("decimals.sha512"));
    let document = include_str!("../docs/PROTOCOL.md");
    let lines = document
        .lines()
        .filter(|line| line.starts_with("{\"rsoracle_report\""));
    let example = include_str!("../src/proof/example.jsonl").trim_end();
    let mut checked = 0;
    for line in lines.chain([example]) {
        let check = |line: &str| {
            format!("checkLine('{line}', null, 9e15, 'BTC/USD').then(({{verdict}}) => verdict)")
        };
        assert_eq!(page.value(&check(line)), "consistent", "{line}");
        checked += 1;
        // Whatever is changed in it is found.
        let flips = format!(
            "(async () => {{ const line = '{line}'; const taken = []; for (let at = 0; at < line.length; at += 5) {{ \
               const other = line.slice(0, at) + String.fromCharCode(line.charCodeAt(at) ^ 1) + line.slice(at + 1); \
               if ((await checkLine(other, null, 9e15, 'BTC/USD')).verdict !== 'wrong') taken.push(at); }} return taken.join(); }})()"
        );
        assert_eq!(page.value(&flips), "", "{line}");
    }
    assert_eq!(checked, 3);
    // Nor is a missing number taken for the greatest one where none may be missing.
    for line in lines_with_the_greatest_numbers() {
        let at = [u64::from(u32::MAX), u64::MAX].map(|most| format!(":{most}"));
        let null = at
            .iter()
            .fold(line.clone(), |line, most| line.replace(most, ":null"));
        assert_ne!(null, line);
        let flaws = Verifier::new(None).check(&null, wall_us()).flaws;
        assert!(!flaws.is_empty(), "{null}");
        let check =
            format!("checkLine('{null}', null, 9e15, 'BTC/USD').then(({{verdict}}) => verdict)");
        assert_eq!(page.value(&check), "wrong", "{null}");
    }
    let second = "(() => { try { addAnswer(new Fields(), {price: 1, abstains: null, timestamp_us: null}); return 'taken'; } \
        catch { return 'refused'; } })()";
    assert_eq!(page.value(second), "refused");
    // Nor is a report of another feed taken for one of this.
    let other = format!("checkLine('{example}', null, 9e15, 'ETH/USD').then(({{wrong}}) => wrong)");
    assert_eq!(page.value(&other), "it is a report of BTC/USD");
    assert_clean(&mut page, &served);
}

/// Signed reports whose bytes are all ones where their lines have a number.
fn lines_with_the_greatest_numbers() -> [String; 2] {
    let mut oracle = Oracle::new(5, "kraken:BTC/USD");
    let mut counted = oracle.report(START_US, &prices());
    counted.refused.insert(Reject::HelloLate, u32::MAX);
    counted.signature = signed::key(0).sign(&counted.signed_bytes());
    oracle.last = Some(PublishedPrice {
        number: 1,
        price: 87231.42,
        time_us: u64::MAX,
    });
    [counted.line(), oracle.line(START_US + GRID_US, &prices())]
}

/// Reports of all kinds, each with the terms that it was made under.
fn reports_of_all_kinds() -> Vec<(Terms, String)> {
    let sources = [
        "coinbase:BTC-USD",
        "binance-stream:BTCUSDC",
        "okx:BTC-USDT",
        "bitfinex:tBTCUST",
        "binance:BTCUSDT",
        "kraken:BTC/EUR",
        "gemini:btcgusd",
        "bitstamp:btcpyusd",
        "embedded-bitfinex:tBTCUSD",
        "bybit:BTCCHF",
    ];
    let policies = [
        Policy::default(),
        Policy {
            deviation: Some(0.005),
            heartbeat_us: Some(150_000),
            move_max: Some(0.01),
        },
        Policy {
            deviation: Some(5e-324),
            heartbeat_us: None,
            move_max: Some(1.5),
        },
    ];
    let mut found = Vec::new();
    for case in 0..36_usize {
        let n = 1 + case % 9;
        let mut oracle = Oracle::new(n as u8, "kraken:BTC/USD");
        for (at, seat) in oracle.terms.seats.iter_mut().enumerate() {
            seat.source = sources[(case + at) % sources.len()].to_owned();
        }
        oracle.terms.rule = [Rule::TrimmedMean, Rule::Median, Rule::Mean][case % 3];
        oracle.terms.sample_rule = [Rule::Mean, Rule::Median][case % 2];
        oracle.terms.feed = ["BTC/USD", "BTC/USDT", "BTC", "BTC/PYUSD"][case / 9].to_owned();
        oracle.terms.age_us_max = [None, Some(60_000_000)][case / 2 % 2];
        oracle.terms.spread_ppm_max = [None, Some(9_000)][case / 3 % 2];
        oracle.terms.schedule.end_us = [None, Some(2 * START_US)][case / 5 % 2];
        oracle.policy = policies[case % 3];
        for round in 0..4 {
            let says = |slot: usize| {
                let price = [87_231.0 + 1.0 / 4_096.0, 0.000_012_3, 1e12, 431.7][case / 9]
                    * (1.0 + 0.003 * (round * slot) as f64);
                match (round + slot * case) % 7 {
                    5 => Abstains,
                    6 => Nothing,
                    4 if round > 1 => Both(price),
                    3 if round > 2 => Anew(price),
                    _ => Price(price),
                }
            };
            let says: Vec<Says> = (0..n).map(says).collect();
            let start_us = START_US + round as u64 * GRID_US;
            found.push((oracle.terms.clone(), oracle.line(start_us, &says)));
        }
        let ages: Vec<Option<u64>> = (0..n as u64)
            .map(|slot| (slot != 2).then_some(slot * 7))
            .collect();
        let aged = oracle.report_aged(START_US + 4 * GRID_US, &ages);
        found.push((oracle.terms.clone(), aged.line()));
    }
    found
}

#[test]
#[ignore = "needs chromium"]
fn the_browser_agrees_with_the_verifier_on_reports_of_all_kinds() {
    use nanoserde::SerJson;
    let mut rounds = Rounds::new("kraken:BTC/USD", 1);
    rounds.grow(1);
    let served = Served::start(&rounds.book.path, &[]);
    let mut page = page(&served, None);
    let mut verdicts = std::collections::BTreeMap::new();
    for (terms, line) in reports_of_all_kinds() {
        let roster = roster_of(&terms);
        let ours = Verifier::new(Some(&roster)).check(&line, wall_us());
        assert_eq!(ours.flaws, Vec::<String>::new(), "{line}");
        let asked = format!(
            "readRoster({}).then(roster => checkLine('{line}', roster, 9e15, '{}')).then(({{verdict, wrong, slots}}) => \
             verdict + wrong + slots.filter(slot => slot))",
            toml(&roster).serialize_json(),
            terms.feed
        );
        *verdicts.entry(page.value(&asked)).or_insert(0) += 1;
    }
    // In a round in which nobody says anything, nobody signs.
    let unsigned = verdicts.remove("unsigned").unwrap_or(0);
    let proved = verdicts.remove("proved");
    assert!(verdicts.is_empty(), "{verdicts:?}");
    assert!(
        unsigned < 20 && proved == Some(180 - unsigned),
        "{proved:?} {unsigned}"
    );
    assert_clean(&mut page, &served);
}
