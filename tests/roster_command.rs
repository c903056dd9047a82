//! Rosters between operators (`rsoracle roster`): from three keys to a verified price, and what nobody but a seat's holder can
//! change.

mod support;

use rsoracle::system::now::wall_us;
use rsoracle_proof::roster::Roster;
use rsoracle_proof::seal::{hex, unhex};
use rsoracle_proof::utc::utc_text;
use std::fs;
use std::path::{Path, PathBuf};
use support::*;

/// What the three operators watch.
const SOURCES: [&str; 3] = [
    "embedded-kraken:BTC/USD",
    "embedded-coinbase:BTC-USD",
    "embedded:BTCUSDT",
];

/// The files of three operators and of whoever assembles their roster.
struct Desk {
    dir: PathBuf,
}

impl Desk {
    /// Makes keys, seats and a draft.
    fn new() -> Desk {
        let desk = Desk {
            dir: scratch("x").parent().expect("a folder").to_owned(),
        };
        for (slot, source) in SOURCES.iter().enumerate() {
            let key = desk.path(&format!("slot-{slot}.key"));
            let seat = desk.path(&format!("{slot}.seat"));
            said(0, &["keygen", &key]);
            let text = said(0, &["roster", "seat", "--key", &key, "--source", source]);
            fs::write(seat, text).expect("a file");
        }
        let quick = ["--samples", "2", "--interval", "200ms", "--every", "2s"];
        let since = ["--first-start", "1970-01-01T00:00:00Z"];
        let draft = desk.path("draft.toml");
        let new = [
            "roster",
            "new",
            "BTC/USD",
            "--min-exchanges",
            "2",
            "--out",
            &draft,
        ];
        said(0, &[&new[..], &quick, &since].concat());
        desk
    }

    /// The same, with the roster.
    fn assembled() -> Desk {
        let desk = Desk::new();
        said(0, &desk.assemble(&["0.seat", "1.seat", "2.seat"]));
        desk
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().expect("UTF-8").to_owned()
    }

    /// The arguments that assemble the roster of these seats.
    fn assemble(&self, seats: &[&str]) -> Vec<String> {
        let mut args: Vec<String> = ["roster", "assemble"].map(str::to_owned).into();
        args.push(self.path("draft.toml"));
        args.extend(seats.iter().map(|seat| self.path(seat)));
        args.extend(["--out".to_owned(), self.path("roster.toml")]);
        args
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(name)).expect("a file")
    }

    fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.dir.join(name), text).expect("a file");
        self.path(name)
    }

    /// The value of a key in a slot of the roster.
    fn value(&self, slot: usize, key: &str) -> String {
        let text = self.text("roster.toml");
        let (_, section) = text.split_once(&format!("[slot.{slot}]\n")).expect("it");
        let begin = format!("{key} = ");
        let mut values = section.lines().filter_map(|line| line.strip_prefix(&begin));
        values.next().expect("a value").to_owned()
    }
}

/// The standard output of a command that must end with this code, or its standard error if the code is not 0 and there is none.
fn said(code: i32, args: &[impl AsRef<str>]) -> String {
    let args: Vec<&str> = args.iter().map(AsRef::as_ref).collect();
    let done = run(&args);
    let both = format!("{}{}", done.stdout, done.stderr);
    assert_eq!(done.code, Some(code), "{args:?}: {both}");
    if code == 0 {
        assert_eq!(done.stderr, "", "{args:?}");
    }
    both
}

/// Text with one blank between its words, so that it does not matter where lines are wrapped.
fn dense(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn digest(path: &str) -> String {
    let text = fs::read_to_string(path).expect("a file");
    hex(&Roster::parse(&text).expect("a roster").digest())
}

/// Starts an aggregator of the roster. Returns it and what its collectors call it.
fn aggregate(desk: &Desk, more: &[&str]) -> (Running, String) {
    let (roster, key_file) = (desk.path("roster.toml"), desk.path("aggregator.key"));
    let key = said(0, &["keygen", &key_file]);
    let files = [
        "aggregate",
        "--roster",
        &roster,
        "--aggregator-key",
        &key_file,
    ];
    let ports = ["--control-port", "0", "--data-port", "0"];
    let running = start(&[&files[..], &ports, more].concat());
    let (control, data) = running.channels();
    let place = format!(
        "127.0.0.1:{},{}@{}",
        control.port(),
        data.port(),
        key.trim()
    );
    (running, place)
}

#[test]
fn three_operators_agree_on_a_roster_and_their_collectors_make_a_verified_price() {
    let desk = Desk::new();
    let told = said(0, &desk.assemble(&["0.seat", "1.seat", "2.seat"]));
    let roster = desk.path("roster.toml");
    assert!(
        told.starts_with(&format!("roster digest  {}\n", digest(&roster))),
        "{told}"
    );
    for (slot, source) in SOURCES.iter().enumerate() {
        let key = desk.path(&format!("slot-{slot}.key"));
        let page = said(0, &["roster", "check", &roster, "--key", &key]);
        assert!(page.starts_with(&told), "all see the same digests: {page}");
        let words = dense(&page);
        for part in [
            "a price needs 2 of 3 collectors (quorum), from at least 2 exchanges",
            "mean of 2 samples, 200ms apart",
            "every 2s from 1970-01-01T00:00:00Z on, without end",
            "last sample after 200ms, replies until 1325ms, end after 1700ms",
            "tolerates 0 faulty collectors of 3, 0 faulty exchanges of 3",
            "all 3 are signed by their keys",
            "all are markets of BTC/USD: 2 in USD, 1 in USDT",
            &format!("your slot {slot}, {source}"),
            "roster.toml: sound",
        ] {
            assert!(words.contains(part), "{part}: {page}");
        }
    }

    let (_exchange, url) = exchange(&[]);
    let journal = desk.path("journal.jsonl");
    let journaled = [
        "--journal",
        &journal,
        "--rounds",
        "2",
        "--ready-timeout",
        "60s",
    ];
    let (running, place) = aggregate(&desk, &journaled);
    let (control, data) = running.channels();
    let mut collectors = Vec::new();
    for (slot, source) in SOURCES.iter().enumerate() {
        let key = desk.path(&format!("slot-{slot}.key"));
        let by_hand = [
            "collect",
            "--roster",
            &roster,
            "--key",
            &key,
            "--endpoint",
            &url,
        ];
        let collect = [&by_hand[..], &["--aggregator", &place]].concat();
        let page = dense(&said(0, &[&collect[..], &["--check"]].concat()));
        for part in [
            &format!(
                "slot {slot} of 3 source {source} roster digest {}",
                digest(&roster)
            ),
            &format!("control port {}, data port {}", control.port(), data.port()),
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        collectors.push(start(&collect));
    }
    let (check, key) = (
        ["--journal", &journal, "--check"],
        desk.path("aggregator.key"),
    );
    let aggregate = ["aggregate", "--roster", &roster, "--aggregator-key", &key];
    let check = [&aggregate[..], &check].concat();
    let page = dense(&said(0, &check));
    let in_use = "remark another process is writing to the journal, and must end before a start";
    assert!(page.contains(in_use), "{page}");
    let done = running.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let page = dense(&said(0, &check));
    let goes_on = format!("journal {journal}: continues at report 3");
    assert!(page.ends_with(&goes_on), "{page}");
    // Another key needs to be handed over to, and a journal that has lost its end is not continued.
    let new = desk.path("new.key");
    said(0, &["keygen", &new]);
    let with_new = ["aggregate", "--roster", &roster, "--aggregator-key", &new];
    let with_new = [&with_new[..], &["--journal", &journal, "--check"]].concat();
    let page = said(1, &with_new);
    assert!(
        page.contains("it is signed with another aggregator key"),
        "{page}"
    );
    let page = dense(&said(0, &[&with_new[..], &["--retire-key", &key]].concat()));
    let hands_over = "remark the journal would continue with another aggregator key";
    assert!(
        page.contains(&goes_on) && page.contains(hands_over),
        "{page}"
    );
    let whole = desk.text("journal.jsonl");
    let first = whole.lines().next().expect("a report");
    desk.write("journal.jsonl", &format!("{first}\n"));
    let page = said(1, &check);
    assert!(page.contains("the journal has lost its end"), "{page}");
    desk.write("journal.jsonl", &format!("{whole}{first}"));
    let page = dense(&said(0, &check));
    let torn = "remark the journal ends in the middle of a line";
    assert!(page.contains(&goes_on) && page.contains(torn), "{page}");
    desk.write("journal.jsonl", &whole);
    let verified = said(0, &["verify", &journal, "--roster", &roster]);
    assert!(
        verified.contains("2 reports, number 1 to 2; "),
        "{verified}"
    );
}

#[test]
fn an_aggregator_does_not_sign_with_the_key_of_a_collector_of_its_roster() {
    let desk = Desk::assembled();
    let (roster, key) = (desk.path("roster.toml"), desk.path("slot-1.key"));
    let ports = ["--control-port", "0", "--data-port", "0"];
    let start = ["aggregate", "--roster", &roster, "--aggregator-key", &key];
    for more in [&[][..], &["--check"]] {
        let told = dense(&said(1, &[&start[..], &ports, more].concat()));
        for part in [
            &format!("cannot aggregate with the key {key}"),
            "it is the key of slot 1 of roster 1",
            "'rsoracle keygen FILE' makes one",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
}

#[test]
fn a_draft_is_named_as_such_where_a_roster_is_expected() {
    let desk = Desk::new();
    let (draft, key) = (desk.path("draft.toml"), desk.path("slot-1.key"));
    let says = "it has no slots, so it is a draft: 'rsoracle roster assemble' makes a roster of it";
    for (code, words) in [
        (1, &["roster", "check", &draft][..]),
        (1, &["roster", "show", &draft]),
        (
            2,
            &["aggregate", "--roster", &draft, "--aggregator-key", &key],
        ),
    ] {
        let told = dense(&said(code, words));
        assert!(told.contains(says), "{told}");
    }
}

#[test]
fn a_check_shows_what_an_aggregator_would_gather_and_opens_and_writes_nothing() {
    let desk = of_three_feeds();
    let (roster, journal) = (desk.path("roster.toml"), desk.path("journal.jsonl"));
    let files = || fs::read_dir(&desk.dir).expect("a folder").count();
    let before = files();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let latest = desk.path("latest");
    let check = |more: &[&str]| {
        let aggregate = [
            "aggregate",
            "--check",
            "--roster",
            &roster,
            "--journal",
            &journal,
        ];
        [&aggregate[..], more]
            .concat()
            .iter()
            .map(|it| (*it).to_owned())
            .collect::<Vec<_>>()
    };
    let page = said(
        0,
        &check(&[
            "--control-port",
            &port,
            "--data-port",
            "0",
            "--latest",
            &latest,
        ]),
    );
    let parsed = Roster::parse(&desk.text("roster.toml")).expect("a roster");
    let words = dense(&page);
    for part in [
        &format!("roster {roster}, number 1, of BTC/USD, ETH/USD, SOL/USD"),
        &format!("roster digest {}", digest(&roster)),
        &format!("ETH/USD {}", hex(&parsed.feeds[1].digest())),
        "slots 2 collectors: kraken, okx",
        "rounds every 10s from ",
        &format!("control port {port} of 127.0.0.1 data a free port of 127.0.0.1"),
        &format!("key a new one, which the start makes in {journal}.key"),
        &format!("journal {journal}: all feeds: new"),
        &format!("latest {latest}/BTC-USD.json, {latest}/ETH-USD.json, {latest}/SOL-USD.json"),
    ] {
        assert!(words.contains(part), "{part}: {page}");
    }
    assert_eq!(files(), before);
    // Of one feed, the sources are named; without files, there is neither a key nor a journal.
    let single = Desk::assembled();
    let page = dense(&said(
        0,
        &[
            "aggregate",
            "--check",
            "--roster",
            &single.path("roster.toml"),
        ],
    ));
    for part in [
        &format!("slots 3 collectors: {}", SOURCES.join(", ")),
        "key a new one at each start, which is kept nowhere journal none",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let over = desk
        .text("roster.toml")
        .replace("end = \"\"", "end = \"2020-01-01T00:00:00Z\"");
    let over = over.replacen(
        "first_start = \"",
        "first_start = \"2019-01-01T00:00:00Z\" #",
        3,
    );
    let over = desk.write("over.toml", &over);
    let kept = desk.path("kept.jsonl");
    fs::write(&kept, "{}\n").expect("a file");
    let (key, other) = (desk.path("slot-0.key"), desk.path("slot-1.key"));
    let own = desk.path("aggregator.key");
    said(0, &["keygen", &own]);
    let folder = desk.path(".");
    for (args, says) in [
        (
            vec!["--roster", &over],
            "cannot aggregate by this roster: no round starts any more",
        ),
        (
            vec!["--roster", &roster, "--journal", "/nonexistent/a.jsonl"],
            "cannot open the journal /nonexistent/a.jsonl: ",
        ),
        (
            vec!["--roster", &roster, "--journal", &folder],
            "it is not a regular file",
        ),
        (
            vec!["--roster", &roster, "--journal", &kept],
            "cannot continue the journal",
        ),
        (
            vec![
                "--roster",
                &roster,
                "--journal",
                &kept,
                "--aggregator-key",
                &own,
            ],
            "kept.jsonl: line 1: it is not a report",
        ),
        (
            vec!["--roster", &roster, "--aggregator-key", "/nonexistent/key"],
            "/nonexistent/key",
        ),
        (
            vec!["--roster", &single.path("roster.toml"), "--latest", &key],
            "it is a secret key",
        ),
        (
            vec![
                "--roster",
                &single.path("roster.toml"),
                "--aggregator-key",
                &other,
                "--journal",
                &journal,
                "--latest",
                &journal,
            ],
            "it is the journal",
        ),
    ] {
        let before = files();
        let args = [&["aggregate", "--check"], &args[..]].concat();
        let checked = said(1, &args);
        assert!(checked.contains(says), "{says}: {checked}");
        assert_eq!(files(), before, "{checked}");
        // A start says the same.
        let start: Vec<&str> = args.iter().copied().filter(|it| *it != "--check").collect();
        let ports = ["--control-port", "0", "--data-port", "0"];
        let started = said(1, &[&start[..], &ports].concat());
        assert!(
            started.contains(says) || says.contains("/nonexistent/a"),
            "{started}"
        );
    }
}

#[test]
fn a_collector_of_the_embedded_exchange_is_told_that_its_address_is_missing() {
    let desk = Desk::assembled();
    let (roster, key) = (desk.path("roster.toml"), desk.path("slot-1.key"));
    // Any sound key will do: nobody is called.
    let place = format!("localhost@{}", desk.value(1, "key").trim_matches('"'));
    let mut collect = vec!["collect", "--roster", &roster, "--key", &key];
    collect.extend(["--aggregator", &place]);
    for check in [&["--check"][..], &[]] {
        let told = said(1, &[&collect, check].concat());
        let needs = format!("{} needs --endpoint URL", SOURCES[1]);
        assert!(dense(&told).contains(&needs), "{told}");
    }
}

#[test]
fn feeds_that_would_share_a_file_of_the_newest_reports_are_refused() {
    let desk = of_three_feeds();
    let text = desk.text("roster.toml");
    let twins = text.replace("ETH/USD\"]\nrule", "BTC-USD\"]\nrule");
    let twins = desk.write("twins.toml", &twins);
    for more in [&[][..], &["--check"]] {
        let args = ["aggregate", "--roster", &twins, "--latest", "there"];
        let page = said(2, &[&args, more].concat());
        let says = "--latest: BTC/USD and BTC-USD would share the file there/BTC-USD.json";
        assert!(page.contains(says), "{page}");
    }
}

#[test]
fn whoever_assembles_cannot_change_a_seat() {
    let desk = Desk::assembled();
    let text = desk.text("roster.toml");
    let [key, other_key] = [0, 1].map(|slot| desk.value(slot, "key"));
    let [signature, other] = [1, 2].map(|slot| desk.value(slot, "signature"));
    let flipped = match signature.strip_prefix("\"0") {
        Some(rest) => format!("\"1{rest}"),
        None => format!("\"0{}", &signature[2..]),
    };
    let stolen = "key 'signature': it is not this key's signature";
    let line = |part: &str| {
        1 + text
            .lines()
            .position(|line| line.contains(part))
            .expect("it")
    };
    let of_1 = format!("line {}, {stolen}", line(&signature));
    for (part, in_its_place, says) in [
        (SOURCES[1], "embedded-okx:BTC-USDT", &of_1),
        (&signature, &other, &of_1),
        (&signature, &flipped, &of_1),
        (
            &signature,
            "\"\"",
            &format!("line {}, key 'signature': it takes", line(&signature)),
        ),
        (
            &key,
            &other_key,
            &format!(
                "line {}, key 'key': [slot.0] has the same key",
                line(&other_key)
            ),
        ),
    ] {
        let changed = desk.write("changed.toml", &text.replacen(part, in_its_place, 1));
        let page = dense(&said(1, &["roster", "check", &changed]));
        assert!(
            page.contains(says.as_str()) && page.ends_with(": NOT sound"),
            "{page}"
        );
        let page = said(1, &["roster", "show", &changed]);
        assert!(page.contains(says.as_str()), "{page}");
        // Nobody else takes it either.
        let key_file = desk.path("slot-0.key");
        let place = format!("127.0.0.1@{}", other_key.trim_matches('"'));
        let collect = ["collect", "--key", &key_file, "--aggregator", &place];
        for command in [
            &["aggregate"][..],
            &collect,
            &[&collect[..], &["--check"]].concat(),
        ] {
            let page = said(2, &[command, &["--roster", &changed]].concat());
            assert!(page.contains("cannot use the roster"), "{page}");
        }
        let page = said(4, &["verify", &changed, "--roster", &changed]);
        assert!(page.contains("cannot use the roster"), "{page}");
    }
}

#[test]
fn a_seat_without_its_signature_among_signed_ones_is_named() {
    let desk = Desk::assembled();
    let text = desk.text("roster.toml");
    let unsigned = |slots: &[usize]| {
        let of = |slot: &usize| format!("signature = {}\n", desk.value(*slot, "signature"));
        let text = slots
            .iter()
            .fold(text.clone(), |text, slot| text.replace(&of(slot), ""));
        desk.write("unsigned.toml", &text)
    };
    let one = unsigned(&[1]);
    let page = dense(&said(1, &["roster", "check", &one]));
    let line = 1 + text
        .lines()
        .position(|line| line == "[slot.1]")
        .expect("it");
    let named = format!("wrong line {line}, slot 1: its seat is not signed");
    assert!(
        page.contains(&named) && page.contains("2 of 3 are signed"),
        "{page}"
    );
    let shown = said(0, &["roster", "show", &one]);
    assert_eq!(shown.matches("  not signed\n").count(), 1, "{shown}");
    // An own roster of 'run' has no signatures at all.
    let own = unsigned(&[0, 1, 2]);
    let page = dense(&said(0, &["roster", "check", &own]));
    assert!(
        page.contains("none is signed") && page.ends_with(": sound, but no seat is signed"),
        "{page}"
    );
    // Whoever takes part did sign, and so knows that somebody took the signatures away.
    let key = desk.path("slot-1.key");
    let page = dense(&said(1, &["roster", "check", &own, "--key", &key]));
    assert!(
        page.contains(
            "wrong your seat is not signed: whoever assembled the roster may have changed any seat"
        ) && page.ends_with(": NOT sound"),
        "{page}"
    );
    // Signatures are no terms: they show who chose the seat, and change nothing else.
    assert_eq!(digest(&own), digest(&desk.path("roster.toml")));
}

#[test]
fn a_roster_whose_rounds_are_over_is_not_sound() {
    let desk = Desk::assembled();
    let over = desk
        .text("roster.toml")
        .replace("end = \"\"", "end = \"2020-01-01T00:00:00Z\"");
    let over = desk.write("over.toml", &over);
    let page = dense(&said(1, &["roster", "check", &over]));
    assert!(
        page.contains("wrong no round is left: its end or its only start has passed"),
        "{page}"
    );
}

#[test]
fn an_aggregator_says_that_no_round_is_left_before_it_ends() {
    let desk = Desk::assembled();
    let start = utc_text((wall_us() + 3_000_000).next_multiple_of(1_000));
    let single = desk.text("roster.toml").replace("\"2s\"", "\"0s\"");
    let single = single.replace("1970-01-01T00:00:00Z", &start);
    desk.write("roster.toml", &single);
    let (running, _) = aggregate(&desk, &["--ready-timeout", "1s"]);
    let done = running.finish();
    assert!(done.stderr.contains(&start), "{}", done.stderr);
    assert!(
        done.stderr
            .ends_with("aggregator: no round is left by this roster\n"),
        "{}",
        done.stderr
    );
}

#[test]
fn seats_that_are_not_whole_or_share_a_key_are_not_assembled() {
    let desk = Desk::new();
    let good = desk.text("1.seat");
    for (name, text, says) in [
        (
            "source.seat",
            good.replace("BTC-USD", "ETH-USD"),
            "not this key's signature",
        ),
        (
            "cut.seat",
            good.split("signature").next().expect("it").to_owned(),
            "key 'signature': missing",
        ),
        (
            "roster.seat",
            good.replace("[seat]", "[slot.1]"),
            "its only section is not [seat]",
        ),
    ] {
        desk.write(name, &text);
        let page = said(1, &desk.assemble(&["0.seat", name]));
        assert!(
            page.contains(&format!("{name}: line ")) && page.contains(says),
            "{page}"
        );
    }
    desk.write("again.seat", &good);
    let page = said(1, &desk.assemble(&["0.seat", "1.seat", "again.seat"]));
    assert!(
        page.contains("1.seat and ") && page.contains("again.seat have the same key"),
        "{page}"
    );
    // Too few exchanges for the draft.
    let page = said(1, &desk.assemble(&["0.seat"]));
    assert!(
        page.contains("least number of exchanges is 2, but the sources are of 1"),
        "{page}"
    );
    assert!(!Path::new(&desk.path("roster.toml")).exists());
}

#[test]
fn rosters_that_differ_in_one_byte_have_other_digests() {
    let desk = Desk::assembled();
    let (roster, text) = (desk.path("roster.toml"), desk.text("roster.toml"));
    let page = said(0, &["roster", "check", &roster]);
    let digests = |page: &str| -> Vec<String> { page.lines().take(2).map(str::to_owned).collect() };
    for (part, other, same_terms) in [
        ("number = 1", "number = 2", true),
        ("samples = 2", "samples = 3", false),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:01Z", false),
    ] {
        let changed = desk.write("changed.toml", &text.replacen(part, other, 1));
        let changed = said(0, &["roster", "check", &changed]);
        let (one, two) = (digests(&page), digests(&changed));
        assert_ne!(one[0], two[0]);
        assert_eq!(one[1] == two[1], same_terms, "{part}");
    }
    // Comments are not terms.
    let commented = desk.write("commented.toml", &format!("# ours\n{text}"));
    assert_eq!(digest(&commented), digest(&roster));
    // The next roster names this one.
    let next = [
        "--number".to_owned(),
        "2".to_owned(),
        "--previous".to_owned(),
        digest(&roster),
    ];
    let before = digest(&roster);
    said(
        0,
        &[&desk.assemble(&["2.seat", "1.seat", "0.seat"])[..], &next].concat(),
    );
    let page = dense(&said(0, &["roster", "show", &roster]));
    assert!(
        page.contains(&format!("number 2, which follows {before}")),
        "{page}"
    );
}

#[test]
fn a_collector_whose_roster_differs_in_one_byte_is_refused_and_both_digests_are_told() {
    let desk = Desk::assembled();
    let text = desk.text("roster.toml");
    let changed = desk.write(
        "changed.toml",
        &text.replacen("samples = 2", "samples = 3", 1),
    );
    let (running, place) = aggregate(&desk, &["--ready-timeout", "1s"]);
    let (_exchange, url) = exchange(&[]);
    let key = desk.path("slot-0.key");
    let by_hand = [
        "collect",
        "--roster",
        &changed,
        "--key",
        &key,
        "--endpoint",
        &url,
    ];
    let collector = start(&[&by_hand[..], &["--aggregator", &place]].concat());
    let [theirs, ours] = ["changed.toml", "roster.toml"].map(|name| {
        let roster = Roster::parse(&desk.text(name)).expect("a roster");
        hex(&roster.feeds[0].digest()[..8])
    });
    let line = running.stderr_line(&theirs);
    assert!(line.contains(&ours), "{line}");
    collector.stderr_line("other terms than those of this roster");
}

#[test]
fn a_check_names_foreign_keys_and_sources_of_other_markets() {
    let desk = Desk::assembled();
    let stranger = desk.path("stranger.key");
    let key = said(0, &["keygen", &stranger]);
    let roster = desk.path("roster.toml");
    let page = dense(&said(1, &["roster", "check", &roster, "--key", &stranger]));
    assert!(
        page.contains(&format!("no slot has your key, {}", key.trim())),
        "{page}"
    );
    let other = "aggregator@".to_owned() + key.trim();
    let collect = [
        "collect",
        "--roster",
        &roster,
        "--key",
        &stranger,
        "--aggregator",
        &other,
    ];
    let page = said(1, &[&collect[..], &["--check"]].concat());
    assert!(
        page.contains(&format!("no slot has the key {}", key.trim())),
        "{page}"
    );

    let seat = |slot: usize, source: &str| {
        let key = desk.path(&format!("slot-{slot}.key"));
        let seat = desk.path(&format!("{slot}.seat"));
        said(
            0,
            &[
                "roster", "seat", "--key", &key, "--source", source, "--out", &seat,
            ],
        );
    };
    seat(0, "kraken:ETH/USD");
    seat(1, "coinbase:BTC-EUR");
    seat(2, "okx:BTC-USDT");
    said(0, &desk.assemble(&["0.seat", "1.seat", "2.seat"]));
    let page = dense(&said(1, &["roster", "check", &roster]));
    for part in [
        "slot 0: kraken:ETH/USD does not price BTC in USD",
        "slot 1: coinbase:BTC-EUR is priced in EUR, the feed in USD; its collector must sign a seat with the market in USD, coinbase:BTC-USD",
        "2 of 3 are not markets of BTC/USD",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    seat(0, "kraken:BTC/USD");
    said(0, &desk.assemble(&["0.seat", "1.seat", "2.seat"]));
    let euros = ["roster", "check", &roster, "--accept-quote", "EUR"];
    let page = dense(&said(1, &euros));
    assert!(page.contains("EUR is not pegged to USD"), "{page}");
    assert!(page.contains("1 of 3 are not markets of BTC/USD"), "{page}");
    // A stablecoin that has to be accepted by name.
    seat(1, "coinbase:BTC-FDUSD");
    said(0, &desk.assemble(&["0.seat", "1.seat", "2.seat"]));
    let page = dense(&said(1, &["roster", "check", &roster]));
    assert!(
        page.contains("to accept FDUSD for USD, add --accept-quote FDUSD"),
        "{page}"
    );
    let accepting = ["roster", "check", &roster, "--accept-quote", "FDUSD"];
    let page = dense(&said(0, &accepting));
    assert!(page.contains("1 in FDUSD, 1 in USD, 1 in USDT"), "{page}");
}

#[test]
fn a_roster_of_dozens_of_slots_fits_a_terminal() {
    let desk = Desk::new();
    let seats: Vec<String> = (0..40).map(|slot| format!("many-{slot}.seat")).collect();
    for seat in &seats {
        let (key, seat) = (desk.path(&format!("{seat}.key")), desk.path(seat));
        said(0, &["keygen", &key]);
        let source = "embedded-crypto.com:BTC_USDT";
        said(
            0,
            &[
                "roster", "seat", "--key", &key, "--source", source, "--out", &seat,
            ],
        );
    }
    let mut names: Vec<&str> = seats.iter().map(String::as_str).collect();
    names.extend(["0.seat", "2.seat"]);
    let told = said(0, &desk.assemble(&names));
    let roster = desk.path("roster.toml");
    for action in ["show", "check"] {
        let page = said(0, &["roster", action, &roster]);
        assert!(page.starts_with(&told), "{page}");
        for line in page.lines().filter(|line| !line.contains("roster.toml")) {
            assert!(line.chars().count() <= 80, "{line:?}");
        }
        assert_eq!(
            page.lines()
                .filter(|line| line.ends_with("  signed"))
                .count(),
            match action {
                "show" => 42,
                _ => 0,
            }
        );
    }
}

/// The roster of two operators for three feeds. Only the first one's exchange has the second feed.
fn of_three_feeds() -> Desk {
    let desk = Desk {
        dir: scratch("x").parent().expect("a folder").to_owned(),
    };
    let sources = [
        "kraken:BTC/USD,kraken:ETH/USD,kraken:SOL/USD",
        "okx:BTC-USDT,none,okx:SOL-USDT",
    ];
    for (slot, sources) in sources.iter().enumerate() {
        let key = desk.path(&format!("slot-{slot}.key"));
        let seat = desk.path(&format!("{slot}.seat"));
        said(0, &["keygen", &key]);
        let mut sign = vec!["roster", "seat", "--key", &key, "--out", &seat];
        match slot {
            0 => sign.extend(["--source", sources]),
            _ => sign.extend(sources.split(',').flat_map(|one| ["--source", one])),
        }
        said(0, &sign);
    }
    let (draft, feeds) = (desk.path("draft.toml"), ["BTC/USD", "ETH/USD", "SOL/USD"]);
    let new = [&["roster", "new"], &feeds[..], &["--out", &draft]].concat();
    said(0, &new);
    said(0, &desk.assemble(&["0.seat", "1.seat"]));
    desk
}

#[test]
fn two_operators_agree_on_a_roster_of_three_feeds() {
    let desk = of_three_feeds();
    let path = desk.path("roster.toml");
    let roster = Roster::parse(&desk.text("roster.toml")).expect("a roster");
    let digest = |feed: usize| hex(&roster.feeds[feed].digest());
    let digests = format!(
        "roster digest  {}\nterms digests  of each feed:\n  BTC/USD      {}\n  ETH/USD      {}\n  SOL/USD      {}\n",
        hex(&roster.digest()),
        digest(0),
        digest(1),
        digest(2)
    );
    let own = [
        "your slot 0, BTC/USD = kraken:BTC/USD, ETH/USD = kraken:ETH/USD, SOL/USD = kraken:SOL/USD",
        "your slot 1, BTC/USD = okx:BTC-USDT, ETH/USD = none, SOL/USD = okx:SOL-USDT",
    ];
    for (slot, own) in own.iter().enumerate() {
        let key = desk.path(&format!("slot-{slot}.key"));
        let page = said(0, &["roster", "check", &path, "--key", &key]);
        assert!(page.starts_with(&digests), "{page}");
        let words = dense(&page);
        for part in [
            "of 3 feeds, number 1, which follows no other",
            "every 10s from ",
            "prices of BTC/USD, SOL/USD price trimmed-mean",
            "a price needs 2 of 2 collectors (quorum)",
            "0 faulty exchanges of 2, 0 faulty quote currencies of 1 (USDT) sources all are markets of the feed: 1 in USD, 1 in USDT",
            "prices of ETH/USD price trimmed-mean",
            "a price needs 1 of 1 collector (quorum)",
            "all 2 are signed by their keys",
            own,
            "roster.toml: sound",
        ] {
            assert!(words.contains(part), "{part}: {page}");
        }
        assert_eq!(page.matches("\nrounds  ").count(), 1, "{page}");
    }
    let page = said(0, &["roster", "show", &path]);
    let [one, other] = [0, 1].map(|slot| desk.value(slot, "key")[1..17].to_owned());
    let tables = format!(
        "
slot  kind                     key               seat
   0  kraken                   {one}  signed
   1  okx                      {other}  signed

slot  BTC/USD   ETH/USD  SOL/USD
   0  BTC/USD   ETH/USD  SOL/USD
   1  BTC-USDT  -        SOL-USDT
"
    );
    assert!(
        page.starts_with(&digests) && page.ends_with(&tables),
        "{page}"
    );
    // With the terms of one feed changed, the others' stay.
    let text = desk.text("roster.toml");
    let (head, rest) = text.split_once("[feed.\"ETH/USD\"]").expect("a feed");
    let rest = rest.replacen("max_spread = \"\"", "max_spread = \"1%\"", 1);
    let changed = desk.write("changed.toml", &format!("{head}[feed.\"ETH/USD\"]{rest}"));
    let page = said(0, &["roster", "check", &changed]);
    assert!(
        page.contains(&digest(0)) && page.contains(&digest(2)),
        "{page}"
    );
    assert!(!page.contains(&digest(1)), "{page}");
    assert!(dense(&page).contains("differ by more than 1%"), "{page}");
}

#[test]
fn one_source_of_several_that_was_changed_is_named_and_so_is_one_of_another_market() {
    let desk = of_three_feeds();
    let text = desk.text("roster.toml");
    let line = |text: &str, slot: usize, begin: &str| {
        let (before, section) = text.split_once(&format!("[slot.{slot}]\n")).expect("it");
        let at = section.lines().position(|line| line.starts_with(begin));
        before.lines().count() + 2 + at.expect("a line")
    };
    let signature = format!("line {}, key 'signature': ", line(&text, 1, "signature"));
    for (part, other) in [
        ("okx:SOL-USDT", "okx:SOL-USDC"),
        (
            "\"okx:BTC-USDT\", \"\"",
            "\"okx:BTC-USDT\", \"okx:ETH-USDT\"",
        ),
        ("\"\", \"okx:SOL-USDT\"", "\"okx:SOL-USDT\", \"\""),
    ] {
        let changed = text.replacen(part, other, 1);
        assert_ne!(changed, text);
        let page = dense(&said(
            1,
            &["roster", "check", &desk.write("changed.toml", &changed)],
        ));
        let says = format!("{signature}it is not this key's signature");
        assert!(
            page.contains(&says) && page.ends_with(": NOT sound"),
            "{page}"
        );
    }
    // Whoever assembles decides the order of the feeds: the seats do not fit any more.
    let (head, rest) = text.split_once("[feed.\"BTC/USD\"]").expect("a feed");
    let swapped = rest.replacen("[feed.\"ETH/USD\"]", "[feed.\"BTC/USD\"]", 1);
    let swapped = desk.write(
        "changed.toml",
        &format!("{head}[feed.\"ETH/USD\"]{swapped}"),
    );
    let own = desk.path("slot-0.key");
    let check = ["roster", "check", &swapped, "--key", &own];
    let page = dense(&said(1, &check));
    for part in [
        "your slot 0, ETH/USD = kraken:BTC/USD, BTC/USD = kraken:ETH/USD, SOL/USD = kraken:SOL/USD",
        "slot 0, ETH/USD: kraken:BTC/USD does not price ETH in USD",
        "slot 1, ETH/USD: okx:BTC-USDT does not price ETH in USD",
        "slot 0, BTC/USD: kraken:ETH/USD does not price BTC in USD",
        "2 of 2 are not markets of the feed",
        "1 of 1 are not markets of the feed",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    // One market for two feeds, and schedules that differ.
    let key = desk.path("slot-1.key");
    let twice = "okx:BTC-USDT,okx:BTC-USDT,okx:SOL-USDT";
    let seat = desk.path("1.seat");
    let sign = ["roster", "seat", "--key", &key, "--out", &seat];
    said(0, &[&sign[..], &["--source", twice]].concat());
    said(0, &desk.assemble(&["0.seat", "1.seat"]));
    let path = desk.path("roster.toml");
    let page = dense(&said(1, &["roster", "check", &path]));
    assert!(
        page.contains("slot 1: okx:BTC-USDT stands for two feeds"),
        "{page}"
    );
    let (head, rest) = text.rsplit_once("samples = 10").expect("a feed");
    let other = desk.write("changed.toml", &format!("{head}samples = 5{rest}"));
    let page = dense(&said(1, &["roster", "check", &other]));
    assert!(page.contains("its schedule (samples, interval, period, first_start, end) is not that of the first feed"), "{page}");
    // A seat for another number of feeds.
    let sign = [&sign[..], &["--source", "okx:BTC-USDT,okx:ETH-USDT"]].concat();
    said(0, &sign);
    let page = said(1, &desk.assemble(&["0.seat", "1.seat"]));
    assert!(
        page.contains("1.seat is for 2 feeds, but the draft has 3 feeds"),
        "{page}"
    );
}

#[test]
fn more_requests_than_an_exchange_allows_are_not_sound() {
    let desk = of_three_feeds();
    let (key, seat) = (desk.path("slot-1.key"), desk.path("1.seat"));
    let sources = "binance:BTCUSDC,binance:ETHUSDC,binance:SOLUSDC";
    let sign = ["roster", "seat", "--key", &key, "--source", sources];
    said(0, &[&sign[..], &["--out", &seat]].concat());
    let (draft, roster) = (desk.path("draft.toml"), desk.path("roster.toml"));
    for (every, code) in [("500ms", 1), ("1s", 0)] {
        let new = [
            "roster", "new", "BTC/USD", "ETH/USD", "SOL/USD", "--out", &draft,
        ];
        let quick = ["--samples", "10", "--interval", "20ms", "--every", every];
        said(0, &[&new[..], &quick].concat());
        said(0, &desk.assemble(&["0.seat", "1.seat"]));
        let page = dense(&said(code, &["roster", "check", &roster]));
        let says = ", slot 1: 3600 requests a minute, which have a weight of ";
        assert_eq!(page.contains(says), code == 1, "{page}");
    }
}

#[test]
fn rosters_of_many_feeds_fit_a_terminal() {
    let desk = of_three_feeds();
    let names: Vec<String> = (0..64)
        .map(|feed| format!("COIN{feed:02}ABCDE/USD"))
        .collect();
    let draft = desk.path("draft.toml");
    let mut new = vec!["roster", "new", "--out", &draft];
    new.extend(names.iter().map(String::as_str));
    said(0, &new);
    let (key, seat) = (desk.path("slot-0.key"), desk.path("0.seat"));
    let sources: Vec<String> = names.iter().map(|name| format!("kraken:{name}")).collect();
    let sources = sources.join(",");
    said(
        0,
        &[
            "roster", "seat", "--key", &key, "--source", &sources, "--out", &seat,
        ],
    );
    let told = said(0, &desk.assemble(&["0.seat"]));
    let roster = desk.path("roster.toml");
    for action in ["show", "check"] {
        let page = said(0, &["roster", action, &roster]);
        assert!(page.starts_with(&told), "{page}");
        for line in page.lines().filter(|line| !line.contains("roster.toml")) {
            assert!(line.chars().count() <= 80, "{line:?}");
        }
        // Feeds of which the same is to be said share it.
        assert_eq!(page.matches("\nprice  ").count(), 1, "{page}");
        assert_eq!(
            page.matches("\nslot  ").count(),
            if action == "show" { 17 } else { 0 }
        );
    }
}

#[test]
fn a_draft_shows_its_terms_and_begins_soon() {
    let draft = said(0, &["roster", "new", "BTC/USD"]);
    for line in [
        "number = 1\n",
        "previous = \"\"\n",
        "[feed.\"BTC/USD\"]\n",
        "rule = \"trimmed-mean\" ",
        "sample_rule = \"mean\" ",
        "samples = 10 ",
        "interval = \"1s\" ",
        "period = \"10s\" ",
        ":00Z\"\nend = \"\" ",
    ] {
        assert!(draft.contains(line), "{line}: {draft}");
    }
    assert!(!draft.contains("[slot"));
    // A key file is never replaced.
    let desk = Desk::new();
    let key = desk.path("slot-0.key");
    let page = said(1, &["roster", "new", "BTC/USD", "--out", &key]);
    assert!(page.contains("it is a secret key"), "{page}");
}

/// The seat that docs/PROTOCOL.md shows.
fn documented() -> String {
    let document = include_str!("../docs/PROTOCOL.md");
    let (_, rest) = document.split_once("```toml\n[seat]\n").expect("a seat");
    let (seat, _) = rest.split_once("```").expect("its end");
    format!("[seat]\n{seat}")
}

#[test]
fn the_seat_in_the_protocol_document_is_signed_as_its_table_says() {
    let desk = Desk::new();
    desk.write("0.seat", &documented());
    said(0, &desk.assemble(&["0.seat", "1.seat"]));
    let roster = Roster::parse(&desk.text("roster.toml")).expect("a roster");
    let key = roster.feeds[0].seats[0].key.expect("a key");
    let signature = desk.value(0, "signature");
    let fields: [(&str, &[u8]); 4] = [
        ("context", b"rsoracle 2 seat"),
        ("public key", key.bytes()),
        ("sources", &[0, 1]),
        ("source", roster.feeds[0].seats[0].source.as_bytes()),
    ];
    let document = include_str!("../docs/PROTOCOL.md");
    let (_, table) = document
        .split_once("### Signed by a seat\n")
        .expect("a table");
    let rows = table.lines().filter(|line| line.starts_with("| "));
    let mut bytes = Vec::new();
    for (row, (name, field)) in rows.skip(1).zip(fields) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        assert_eq!((cells[1], cells[3]), (&*bytes.len().to_string(), name));
        let width: usize = cells[2].parse().expect("a number");
        bytes.extend(field);
        bytes.resize(bytes.len() + width - field.len(), 0);
    }
    assert_eq!(bytes.len(), 98);
    let signature = unhex(signature.trim_matches('"')).expect("a signature");
    assert!(key.signed(&bytes, &signature));
}

/// One round with the keys of the desk. Its own roster becomes the draft. Returns the report's file.
fn reported(desk: &Desk) -> String {
    let (keys, draft) = (desk.path("."), desk.path("draft.toml"));
    let sources = SOURCES.join(",");
    let quick = ["--samples", "2", "--interval", "200ms", "--json"];
    let ports = ["--control-port", "0", "--data-port", "0"];
    let who = [
        "--source",
        &sources,
        "--collectors",
        "3",
        "--collector-keys",
        &keys,
    ];
    let args = [&["run", "--write-roster", &draft][..], &quick, &ports, &who].concat();
    let done = run(&args);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let own = desk.text("draft.toml");
    let (terms, _) = own.split_once("\n[slot.0]\n").expect("a slot");
    desk.write("draft.toml", terms);
    desk.write("report.json", &done.stdout)
}

#[test]
#[ignore = "needs python"]
fn a_verifier_in_python_refuses_the_same_seats() {
    let python = std::env::var_os("RSORACLE_PYTHON").expect("a Python that has cryptography");
    let desk = Desk::new();
    let report = reported(&desk);
    said(0, &desk.assemble(&["0.seat", "1.seat", "2.seat"]));
    let text = desk.text("roster.toml");
    let signature = desk.value(1, "signature");
    for (changed, wrong) in [
        (text.clone(), ""),
        (text.replace(&format!("signature = {signature}\n"), ""), ""),
        (
            text.replace(SOURCES[1], "embedded-okx:BTC-USDT"),
            "a seat of the roster: ",
        ),
        (
            text.replace(&signature, &desk.value(2, "signature")),
            "a seat of the roster: ",
        ),
        (text.replace(&signature, "\"\""), "is not 64 bytes"),
    ] {
        let roster = desk.write("changed.toml", &changed);
        let mut command = std::process::Command::new(&python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/verify.py"));
        command.args([&report, &roster]);
        let done = start_command(command).finish();
        assert_eq!(
            done.code,
            Some(i32::from(!wrong.is_empty())),
            "{}",
            done.stderr
        );
        assert!(done.stderr.contains(wrong), "{}", done.stderr);
        let ours = run(&["verify", &report, "--roster", &roster]).code;
        assert_eq!(ours == Some(0), wrong.is_empty());
    }
}
