//! Changes of roster, with the real binary: who must endorse one, which reports count from when on, and rosters that fork.

mod signed;
mod support;
mod witness;

use rsoracle::roster::text::render;
use rsoracle::system::now::wall_us;
use rsoracle_proof::roster::Roster;
use rsoracle_proof::seal::hex;
use rsoracle_proof::terms::{RosterSlot, Terms};
use signed::{Oracle, Says, endorsed, instant, key};
use std::fs;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use support::*;

const SOURCES: [&str; 6] = [
    "kraken:BTC/USD",
    "coinbase:BTC-USD",
    "bitstamp:btcusd",
    "okx:BTC-USDT",
    "bybit:BTCUSDT",
    "gemini:btcusd",
];
const MINUTE_US: u64 = 60_000_000;

/// The files of a test.
struct Desk(PathBuf);

impl Desk {
    fn new() -> Desk {
        Desk(scratch("x").parent().expect("a folder").to_owned())
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }

    fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.0.join(name), text).expect("a file");
        self.path(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).expect("a file")
    }

    /// The file of the secret key of this number.
    fn key(&self, seed: u8) -> String {
        let path = self.path(&format!("{seed}.key"));
        let mut options = fs::OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path);
        let line = format!("rsoracle secret key 1 {}\n", hex(&[seed + 1; 32]));
        std::io::Write::write_all(&mut file.expect("a file"), line.as_bytes()).expect("written");
        path
    }
}

/// The terms of a feed, by collectors of these keys, with the source of each.
fn terms(feed: &str, seeds: &[u8]) -> Terms {
    let mut terms = Oracle::new(seeds.len() as u8, "kraken:BTC/USD").terms;
    terms.feed = feed.to_owned();
    for (seat, seed) in terms.seats.iter_mut().zip(seeds) {
        seat.key = Some(key(*seed).public());
    }
    terms
}

/// The roster of collectors of these keys.
fn roster(number: u64, previous: Option<&Roster>, seeds: &[u8]) -> Roster {
    Roster::single(
        number,
        previous.map(Roster::digest),
        terms("BTC/USD", seeds),
    )
}

/// Both outputs of a command that must end with this code.
fn said(code: i32, args: &[impl AsRef<str>]) -> String {
    let args: Vec<&str> = args.iter().map(AsRef::as_ref).collect();
    let done = run(&args);
    let both = format!("{}{}", done.stdout, done.stderr);
    assert_eq!(done.code, Some(code), "{args:?}: {both}");
    both.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What `verify` says of a file with these rosters.
fn verified(code: i32, file: &str, rosters: &[&str]) -> String {
    let mut args = vec!["verify", file];
    rosters
        .iter()
        .for_each(|roster| args.extend(["--roster", roster]));
    said(code, &args)
}

/// The lines of a journal: reports of rounds under these rosters that start then.
fn journal(rounds: &[(&Roster, u64)]) -> Vec<String> {
    let mut oracle = Oracle::new(1, "kraken:BTC/USD");
    let line = |(roster, start_us): &(&Roster, u64)| {
        oracle.terms = roster.feeds[0].clone();
        let says = vec![Says::Price(100_000.0); oracle.terms.seats.len()];
        oracle.line(*start_us, &says) + "\n"
    };
    rounds.iter().map(line).collect()
}

#[test]
fn operators_hand_over_to_another_roster_by_commands() {
    let desk = Desk::new();
    let since = (wall_us() - MINUTE_US) / MINUTE_US * MINUTE_US;
    let seats: Vec<String> = (1..7)
        .map(|seed| {
            let (key, out) = (desk.key(seed), desk.path(&format!("{seed}.seat")));
            let source = SOURCES[usize::from(seed) - 1];
            said(
                0,
                &[
                    "roster", "seat", "--key", &key, "--source", source, "--out", &out,
                ],
            );
            out
        })
        .collect();
    let [draft, old, new, next] =
        ["draft.toml", "1.toml", "2.toml", "next.toml"].map(|name| desk.path(name));
    said(
        0,
        &[
            "roster",
            "new",
            "BTC/USD",
            "--first-start",
            &instant(since),
            "--out",
            &draft,
        ],
    );
    let begin = ["roster", "assemble", &draft];
    let assemble = |seats: &[&String], more: &[&str]| {
        let seats: Vec<&str> = seats.iter().map(|seat| seat.as_str()).collect();
        said(0, &[&begin[..], &seats, more].concat());
    };
    // Five collectors, of which one gives its place to another.
    assemble(&seats[..5].iter().collect::<Vec<_>>(), &["--out", &old]);
    let five: Vec<&String> = seats[..4].iter().chain(&seats[5..]).collect();
    assemble(&five, &["--number", "2", "--out", &new]);
    let digest = hex(&Roster::parse(&desk.text("1.toml"))
        .expect("a roster")
        .digest());
    let advice = format!(
        "it is not made to follow roster 1; assemble it with --number 2 --previous {digest}"
    );
    let from_us = (wall_us() / MINUTE_US + 10) * MINUTE_US;
    let (from, later) = (instant(from_us), instant(from_us + MINUTE_US));
    let change = ["roster", "change", &old, &new];
    let timed = ["--from", &from, "--out", &next];
    assert!(said(1, &[&change[..], &timed].concat()).contains(&advice));
    assemble(
        &five,
        &["--number", "2", "--previous", &digest, "--out", &new],
    );
    let no_time = "it has no [change], which says from when on it counts";
    assert!(said(1, &change).contains(no_time));
    let endorse = |new: &str, seed: u8| {
        [
            "roster",
            "endorse",
            &desk.path("1.toml"),
            new,
            "--key",
            &desk.key(seed),
        ]
        .map(str::to_owned)
    };
    assert!(said(1, &endorse(&new, 1)).contains(no_time));
    let told = said(0, &[&change[..], &timed].concat());
    for says in [
        &format!("change from roster 1 to roster 2, from {from} on"),
        "feeds BTC/USD (has other terms)",
        &format!(
            "leaving slot 4 of roster 1 ({}, key {}…) joining slot 4 of roster 2 ({}, key {}…) missing",
            SOURCES[4],
            hex(&key(5).public().bytes()[..8]),
            SOURCES[5],
            hex(&key(6).public().bytes()[..8])
        ),
        "missing not yet endorsed: 0 of roster 1's 5 keys have endorsed it, and 4 must",
        "missing not yet endorsed: the key of slot 4, which is new, has not endorsed it",
    ] {
        assert!(told.contains(says), "{says}: {told}");
    }
    // Before anybody has endorsed it, nothing is wrong, and no round is told that comes before it counts.
    let told = said(1, &["roster", "check", &next, "--after", &old]);
    for says in [
        "missing not yet endorsed: 0 of roster 1's 5 keys have endorsed it, and 4 must",
        "next.toml: not yet endorsed: nothing is wrong, but endorsements are missing",
        "(the time and the endorsements are not part of the digest)",
        &format!("the next is at {from}"),
    ] {
        assert!(told.contains(says), "{says}: {told}");
    }
    assert!(!told.contains(" wrong ") && !told.contains("NOT"), "{told}");
    assert!(said(0, &["roster", "show", &next]).contains(&format!("the next is at {from}")));
    let aggregator = format!("127.0.0.1@{}", hex(key(9).public().bytes()));
    let joiner = [
        &["collect", "--check", "--roster", &next, "--key"][..],
        &[&desk.key(6), "--aggregator", &aggregator],
    ];
    let told = said(0, &joiner.concat());
    assert!(told.contains(&format!("the next is at {from}")), "{told}");
    let (past, early) = (instant(since), desk.path("early.toml"));
    said(
        0,
        &[&change[..], &["--from", &past, "--out", &early]].concat(),
    );
    let told = said(1, &endorse(&early, 5));
    for says in [
        "which has passed",
        "assemble the new roster again without endorsements",
    ] {
        assert!(told.contains(says), "{says}: {told}");
    }
    // Everybody endorses it, once.
    let mut endorsements = Vec::new();
    for seed in [1, 2, 3, 6] {
        let out = desk.path(&format!("{seed}.endorsement"));
        let words = [
            &endorse(&next, seed)[..],
            &["--out".to_owned(), out.clone()],
        ]
        .concat();
        said(0, &words);
        let first = fs::read_to_string(&out).expect("a file");
        said(0, &words);
        assert_eq!(
            fs::read_to_string(&out).expect("a file"),
            first,
            "the same again"
        );
        endorsements.push(out);
    }
    let add = |endorsements: &[String], code| {
        let endorsements: Vec<&str> = endorsements.iter().map(String::as_str).collect();
        said(
            code,
            &[
                &["roster", "change", &old, &next][..],
                &endorsements,
                &["--out", &next],
            ]
            .concat(),
        )
    };
    let told = add(&endorsements, 0);
    assert!(
        told.contains("missing not yet endorsed: 3 of roster 1's 5 keys have endorsed it"),
        "{told}"
    );
    let check = ["roster", "check", &next, "--after", &old];
    let told = said(1, &check);
    assert!(
        told.contains("missing not yet endorsed: 3 of roster 1's 5 keys"),
        "{told}"
    );
    let reports = desk.write("reports.jsonl", &journal(&[]).concat());
    let told = verified(1, &reports, &[&old, &next]);
    assert!(
        told.contains(
            "roster 2 does not follow roster 1: 3 of roster 1's 5 keys have endorsed it, and 4 must"
        ),
        "{told}"
    );
    let fourth = desk.path("4.endorsement");
    let words = [
        &endorse(&next, 4)[..],
        &["--out".to_owned(), fourth.clone()],
    ]
    .concat();
    said(0, &words);
    let told = add(&[fourth], 0);
    assert!(!told.contains("missing"), "{told}");
    assert!(
        told.contains("endorsed by slots 0, 1, 2, 3 of roster 1; slot 4 of roster 2"),
        "{told}"
    );
    assert!(said(0, &check).contains("sound"));
    assert_eq!(
        Roster::parse(&desk.text("next.toml")),
        Roster::parse(&desk.text("2.toml"))
    );
    // What is no endorsement of it is refused, and so is a second change.
    let other = desk.path("other.toml");
    said(
        0,
        &[&change[..], &["--from", &later, "--out", &other]].concat(),
    );
    let told = said(1, &endorse(&other, 1));
    for says in [
        "this key endorsed another change of roster 1",
        "would prove that you lied",
    ] {
        assert!(told.contains(says), "{told}");
    }
    let late = desk.path("5.endorsement");
    said(
        0,
        &[&endorse(&other, 5)[..], &["--out".to_owned(), late.clone()]].concat(),
    );
    assert!(add(&[late], 1).contains("5.endorsement endorses another change"));
    let told = said(1, &endorse(&next, 40));
    assert!(told.contains("neither roster has this key"), "{told}");
    let told = said(1, &["roster", "change", &old, &next, "--from", &later]);
    for says in [
        "it has endorsements for another time than --from",
        "assemble it again ('rsoracle roster assemble'), which leaves the endorsements out",
    ] {
        assert!(told.contains(says), "{says}: {told}");
    }
    // That advice leads on: assembled again, it takes the other time.
    let anew = ["--number", "2", "--previous", &digest, "--out", &new];
    assemble(&five, &anew);
    let told = said(0, &[&change[..], &["--from", &later]].concat());
    assert!(told.contains(&later), "{told}");
}

#[test]
fn a_link_to_a_key_endorses_no_second_change() {
    let desk = Desk::new();
    let first = roster(1, None, &[1, 2, 3, 4]);
    let second = render(&roster(2, Some(&first), &[1, 2, 3, 5]));
    let soon_us = (wall_us() / MINUTE_US + 10) * MINUTE_US;
    let old = desk.write("old.toml", &render(&first));
    let [soon, later] =
        [("soon.toml", soon_us), ("later.toml", soon_us + MINUTE_US)].map(|(name, us)| {
            desk.write(
                name,
                &format!("{second}[change]\nfrom = \"{}\"\n", instant(us)),
            )
        });
    let endorse = |code, next: &String, key: &str, more: &[&str]| {
        let words = ["roster", "endorse", &old, next, "--key", key];
        said(code, &[&words[..], more].concat())
    };
    for name in ["links", "state"] {
        fs::create_dir(desk.path(name)).expect("a folder");
    }
    symlink(&desk.0, desk.path("folder")).expect("a link");
    let links = |key: &str, seed: u8| {
        let [absolute, relative] = ["a", "r"].map(|way| desk.path(&format!("links/{way}{seed}")));
        symlink(key, &absolute).expect("a link");
        symlink(format!("../{seed}.key"), &relative).expect("a link");
        let twice = desk.path(&format!("links/t{seed}"));
        symlink(&absolute, &twice).expect("a link");
        [
            absolute,
            relative,
            twice,
            desk.path(&format!("folder/{seed}.key")),
        ]
    };
    let state = desk.path("state");
    let refuses = "this key endorsed another change of roster 1";
    for (seed, more) in [(1, &[][..]), (2, &["--state", &state])] {
        let key = desk.key(seed);
        let links = links(&key, seed);
        // By a link first, so that what it endorsed must be found from the file itself.
        endorse(0, &soon, &links[usize::from(seed)], more);
        for link in links.iter().chain([&key]) {
            assert!(endorse(1, &later, link, more).contains(refuses), "{link}");
            endorse(0, &soon, link, more);
        }
    }
    let kept = |folder: &str| {
        let entries = fs::read_dir(desk.path(folder)).expect("a folder");
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let names = names.filter(|name| name.contains(".endorsed-"));
        names.map(|name| name[..5].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(kept("."), ["1.key"]);
    assert_eq!(kept("state"), ["2.key"]);
    assert_eq!(kept("links"), [""; 0]);
}

/// Keys of the collectors of three rosters, each of which follows the one before it.
const FIRST: [u8; 4] = [1, 2, 3, 4];
const SECOND: [u8; 4] = [1, 2, 3, 5];
const THIRD: [u8; 5] = [1, 2, 3, 5, 6];

/// Three rosters with their files, and from when on the later two count.
fn three(desk: &Desk) -> ([Roster; 3], [String; 3], [u64; 2]) {
    let now_us = wall_us() / MINUTE_US * MINUTE_US;
    let from_us = [now_us - 60 * MINUTE_US, now_us - 30 * MINUTE_US];
    let one = roster(1, None, &FIRST);
    let two = roster(2, Some(&one), &SECOND);
    let three = roster(3, Some(&two), &THIRD);
    let files = [
        desk.write("1.toml", &render(&one)),
        desk.write("2.toml", &endorsed(&one, &two, from_us[0], &[1, 3, 4, 5])),
        desk.write("3.toml", &endorsed(&two, &three, from_us[1], &[6, 1, 2, 5])),
    ];
    ([one, two, three], files, from_us)
}

#[test]
fn a_report_counts_under_the_roster_of_its_start() {
    let desk = Desk::new();
    let ([one, two, three], files, from_us) = three(&desk);
    let [first, second, third] = [&files[0][..], &files[1], &files[2]];
    let rounds = [
        (&one, from_us[0] - MINUTE_US),
        (&two, from_us[0]),
        (&two, from_us[1] - MINUTE_US),
        (&three, from_us[1]),
        (&three, from_us[1] + MINUTE_US),
    ];
    let whole = desk.write("whole.jsonl", &journal(&rounds).concat());
    let told = verified(0, &whole, &[first, second, third]);
    for says in [
        "5 reports, number 1 to 5",
        "roster 2: it counts from",
        "roster 3: it counts from",
        "verdict: valid, and the signers are those of the roster",
    ] {
        assert!(told.contains(says), "{says}: {told}");
    }
    let follow = ["follow", &whole, "--once", "--max-age", "45m", "--roster"];
    let rosters = [first, "--roster", second, "--roster", third];
    let told = said(0, &[&follow[..], &rosters].concat());
    assert!(told.contains("BTC/USD 100000.00"), "{told}");
    let told = said(3, &[&follow[..], &[first]].concat());
    let says = "the last report by this roster was 1; if another one followed it, name that with a further --roster";
    assert!(told.contains(says), "{told}");
    let told = said(2, &[&follow[..], &[first, "--roster", third]].concat());
    assert!(told.contains("roster 3 does not follow roster 1"), "{told}");
    // Whoever begins later needs no earlier roster, and whoever stops earlier trusts no later one.
    let lines = journal(&rounds);
    let rest = desk.write("rest.jsonl", &lines[1..].concat());
    verified(0, &rest, &[second, third]);
    let told = verified(1, &whole, &[second, third]);
    assert!(
        told.contains("line 1") && !told.contains("line 2"),
        "{told}"
    );
    let says = "roster: reports 2 to 5 are by these rosters; if another one came before it, name that with a --roster before it verdict: INVALID";
    assert!(told.contains(says), "{told}");
    let early = desk.write(
        "early.jsonl",
        &journal(&[(&two, from_us[0] - MINUTE_US)]).concat(),
    );
    let says = "its terms are those of roster 2, which counts from";
    assert!(verified(1, &early, &[second]).contains(says));
    let told = verified(1, &whole, &[first]);
    let further = "if another one followed it, name that with a further --roster";
    let [found, own] = [&two, &one].map(|it| hex(&it.feeds[0].digest()[..8]));
    for says in [
        &format!(
            "line 2 (report 2): its terms are another roster's: their digest begins with {found}, the roster's with {own}; "
        ),
        &format!("roster: report 1 is by this roster; {further}"),
    ] {
        assert!(told.contains(says), "{says}: {told}");
    }
    let told = verified(1, &whole, &[first, second]);
    assert!(
        told.contains("line 4") && !told.contains("line 3"),
        "{told}"
    );
    let says = format!("roster: reports 1 to 3 are by these rosters; {further}");
    assert!(told.contains(&says), "{told}");
    // Not if anything else is wrong, nor if they take turns.
    let forged = lines[4].replacen("\"price\":", "\"price\":1", 1);
    let forged = desk.write("forged.jsonl", &(lines[..4].concat() + &forged));
    let turns = [
        (&one, MINUTE_US),
        (&two, 2 * MINUTE_US),
        (&one, 3 * MINUTE_US),
    ];
    let turns = desk.write("turns.jsonl", &journal(&turns).concat());
    for file in [&forged, &turns] {
        let told = verified(1, file, &[first]);
        assert!(!told.contains("by this roster"), "{told}");
    }
    // The same collectors at another time.
    for (round, says) in [
        (
            (&one, from_us[0]),
            "its terms are those of roster 1, which counts until",
        ),
        (
            (&one, from_us[1]),
            "its terms are those of roster 1, which counts until",
        ),
        (
            (&two, from_us[0] - MINUTE_US),
            "its terms are those of roster 2, which counts from",
        ),
        (
            (&two, from_us[1]),
            "its terms are those of roster 2, which counts until",
        ),
        (
            (&three, from_us[1] - MINUTE_US),
            "its terms are those of roster 3, which counts from",
        ),
    ] {
        let file = desk.write("odd.jsonl", &journal(&[round]).concat());
        let told = verified(1, &file, &[first, second, third]);
        assert!(told.contains(says), "{says}: {told}");
        if round.0.number == 1 {
            verified(0, &file, &[first]);
        }
    }
    // The rosters stand in their order, each once, and none is left out.
    for (rosters, says) in [
        (
            &[first, third][..],
            "roster 3 does not follow roster 1: the roster before it is",
        ),
        (
            &[second, first],
            "roster 1 does not follow roster 2: the roster before it is none",
        ),
        (&[first, second, second], "roster 2 is given twice"),
        (&[first, first], "roster 1 does not follow roster 1"),
    ] {
        assert!(verified(1, &whole, rosters).contains(says), "{says}");
    }
}

#[test]
fn a_change_needs_the_collectors_of_the_old_roster_and_all_that_are_new() {
    let desk = Desk::new();
    let ([one, two, _], files, [from_us, _]) = three(&desk);
    let empty = desk.write("empty.jsonl", "");
    let short = "2 of roster 1's 4 keys have endorsed it, and 3 must";
    for (by, says) in [
        (&[1, 2, 5][..], short),
        // The key of another roster, or of none, does not count.
        (&[1, 2, 5, 6, 7], short),
        (
            &[1, 2, 3, 4],
            "the key of slot 3, which is new, has not endorsed it",
        ),
        (&[], "0 of roster 1's 4 keys"),
    ] {
        let next = desk.write("next.toml", &endorsed(&one, &two, from_us, by));
        let told = verified(1, &empty, &[&files[0], &next]);
        assert!(told.contains(says), "{says}: {told}");
    }
    // Nothing of it can be changed, moved or repeated.
    let good = desk.text("2.toml");
    let later = instant(from_us + MINUTE_US);
    let section = &good[good.find("[endorsement.3]").expect("it")..];
    let wrong = "it is not this key's signature over this change";
    let seed = |seed: u8| hex(key(seed).public().bytes());
    for (text, code, says) in [
        (good.replace(&instant(from_us), &later), 4, wrong),
        (good.replace("kraken:BTC/USD", "kraken:XBT/USD"), 4, wrong),
        (good.replace("number = 2", "number = 3"), 4, wrong),
        (
            good.replace(
                &format!("key = \"{}\"\nsignature", seed(4)),
                &format!("key = \"{}\"\nsignature", seed(2)),
            ),
            4,
            wrong,
        ),
        (
            good.clone() + &section.replace("endorsement.3", "endorsement.4"),
            4,
            "a second endorsement of this key",
        ),
        (
            good.clone() + &section.replace("endorsement.3", "endorsement.9"),
            4,
            "[endorsement.4] is expected",
        ),
        (good.replace("from = ", "since = "), 4, "unknown"),
        (
            good.replace("[change]", "[changes]"),
            4,
            "there are no other sections",
        ),
        (
            render(&two),
            1,
            "its file has no [change] with the endorsements",
        ),
    ] {
        assert_ne!(text, good);
        let next = desk.write("next.toml", &text);
        let told = verified(code, &empty, &[&files[0], &next]);
        assert!(told.contains(says), "{says}: {told}");
    }
    let alone = endorsed(&one, &roster(2, None, &SECOND), from_us, &[]);
    let next = desk.write("next.toml", &alone);
    assert!(verified(4, &empty, &[&next]).contains("this roster follows none"));
    // A number is not left out, and time goes on.
    let skips = roster(3, Some(&one), &SECOND);
    let next = desk.write("next.toml", &endorsed(&one, &skips, from_us, &SECOND));
    assert!(verified(1, &empty, &[&files[0], &next]).contains("its number is not the next one"));
    let back = roster(3, Some(&two), &THIRD);
    let next = desk.write("next.toml", &endorsed(&two, &back, from_us, &THIRD));
    let told = verified(1, &empty, &[&files[0], &files[1], &next]);
    assert!(
        told.contains("it would count before that one does"),
        "{told}"
    );
}

#[test]
fn two_rosters_that_follow_one_name_exactly_those_who_endorsed_both() {
    let desk = Desk::new();
    let ([one, ..], files, [from_us, _]) = three(&desk);
    let empty = desk.write("empty.jsonl", "");
    let other = roster(2, Some(&one), &[1, 2, 3, 7]);
    let fork = desk.write(
        "fork.toml",
        &endorsed(&one, &other, from_us + MINUTE_US, &[2, 3, 4, 7]),
    );
    verified(3, &empty, &[&files[0], &fork]);
    for rosters in [
        &[&files[0][..], &files[1], &fork][..],
        &[&files[0], &fork, &files[1]],
        &[&files[0], &files[1], &files[2], &fork],
    ] {
        let told = verified(1, &empty, rosters);
        let begin = "two rosters say that they follow roster 1";
        assert!(
            told.contains(begin) && told.contains(&hex(&other.digest())),
            "{told}"
        );
        for seed in 1..8 {
            let named = told.contains(&hex(key(seed).public().bytes()));
            // The roster that is trusted, and both that follow it, have 1, 2 and 3.
            assert_eq!(named, [3, 4].contains(&seed), "{seed}: {told}");
        }
    }
    // The same roster from two times on is a fork too.
    let two = roster(2, Some(&one), &SECOND);
    let late = desk.write(
        "late.toml",
        &endorsed(&one, &two, from_us + MINUTE_US, &[3, 4, 2, 5]),
    );
    let told = verified(1, &empty, &[&files[0], &files[1], &late]);
    assert!(told.contains("these keys endorsed both"), "{told}");
}

#[test]
fn a_feed_goes_on_unchanged_or_its_own_collectors_agree() {
    let desk = Desk::new();
    let empty = desk.write("empty.jsonl", "");
    let now_us = wall_us() / MINUTE_US * MINUTE_US;
    let feeds = |names: &[&str]| {
        names
            .iter()
            .map(|name| terms(name, &[]))
            .collect::<Vec<_>>()
    };
    let slot = |seed: u8, sources: &[&str]| RosterSlot {
        key: Some(key(seed).public()),
        sources: sources.iter().map(|it| (*it).to_owned()).collect(),
    };
    let [btc, eth, sol] = ["kraken:BTC/USD", "kraken:ETH/USD", "kraken:SOL/USD"];
    // Seven collectors, three of which price ETH/USD.
    let slots = |last: u8| -> Vec<RosterSlot> {
        let of = |seed: u8| {
            slot(
                seed,
                &[
                    btc,
                    if (4..=6).contains(&seed) || seed == last {
                        eth
                    } else {
                        ""
                    },
                ],
            )
        };
        [1, 2, 3, 4, 5, 6, last]
            .into_iter()
            .collect::<std::collections::BTreeSet<u8>>()
            .into_iter()
            .map(of)
            .collect()
    };
    let one = Roster::new(1, None, feeds(&["BTC/USD", "ETH/USD"]), slots(6));
    let first = desk.write("1.toml", &render(&one));
    // The sixth gives its place to the seventh, in both feeds.
    let mut others = slots(6);
    others[5] = slot(7, &[btc, eth]);
    let other = Roster::new(
        2,
        Some(one.digest()),
        feeds(&["BTC/USD", "ETH/USD"]),
        others,
    );
    let follows = |next: &Roster, by: &[u8], lacks: Option<&str>| {
        let next = desk.write("2.toml", &endorsed(&one, next, now_us, by));
        let told = verified(
            if lacks.is_some() { 1 } else { 3 },
            &empty,
            &[&first, &next],
        );
        assert!(told.contains(lacks.unwrap_or("")), "{told}");
    };
    follows(
        &other,
        &[1, 2, 3, 4, 7],
        Some("1 of ETH/USD's 3 keys have endorsed it, and 2 must"),
    );
    follows(&other, &[1, 2, 4, 5, 7], None);
    follows(
        &other,
        &[1, 4, 5, 7],
        Some("3 of roster 1's 6 keys have endorsed it, and 4 must"),
    );
    // A feed is added: it needs nobody of ETH/USD, which goes on as it is.
    let three: Vec<RosterSlot> = one
        .slots
        .iter()
        .enumerate()
        .map(|(at, slot)| {
            let mut slot = slot.clone();
            slot.sources.push(if at < 3 { sol } else { "" }.to_owned());
            slot
        })
        .collect();
    let more = Roster::new(
        2,
        Some(one.digest()),
        feeds(&["BTC/USD", "ETH/USD", "SOL/USD"]),
        three,
    );
    follows(&more, &[1, 2, 3, 4], None);
    // A feed ends: its collectors must agree.
    let only: Vec<RosterSlot> = one
        .slots
        .iter()
        .map(|slot| RosterSlot {
            key: slot.key,
            sources: vec![btc.to_owned()],
        })
        .collect();
    let fewer = Roster::new(2, Some(one.digest()), feeds(&["BTC/USD"]), only);
    follows(
        &fewer,
        &[1, 2, 3, 4],
        Some("1 of ETH/USD's 3 keys have endorsed it"),
    );
    follows(&fewer, &[1, 2, 5, 6], None);
}

#[test]
#[ignore = "needs python"]
fn the_verifier_of_the_document_follows_the_same_rosters() {
    let desk = Desk::new();
    let ([one, two, three], files, from_us) = three(&desk);
    let python = std::env::var_os("RSORACLE_PYTHON").expect("RSORACLE_PYTHON names a Python");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/verify.py");
    let checked = |file: &str, rosters: &[&str]| {
        let done = Command::new(&python)
            .arg(&script)
            .arg(file)
            .args(rosters)
            .output()
            .expect("it runs");
        let told = format!(
            "{}{}",
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        );
        (done.status.success(), told)
    };
    let [first, second, third] = [&files[0][..], &files[1], &files[2]];
    let all = [first, second, third];
    let mut agreed = 0;
    for (roster, start_us) in [&one, &two, &three].into_iter().flat_map(|roster| {
        let starts = [
            from_us[0] - MINUTE_US,
            from_us[0],
            from_us[1] - MINUTE_US,
            from_us[1],
        ];
        starts.map(|start_us| (roster, start_us))
    }) {
        let file = desk.write("one.jsonl", &journal(&[(roster, start_us)]).concat());
        for rosters in [
            &all[..],
            &all[..2],
            &all[..1],
            &all[1..],
            &[first, third],
            &[second, first],
        ] {
            let mut args = vec!["verify", &file];
            rosters
                .iter()
                .for_each(|roster| args.extend(["--roster", roster]));
            let ours = run(&args);
            let (theirs, told) = checked(&file, rosters);
            assert_eq!(
                ours.code == Some(0),
                theirs,
                "{rosters:?}: {told} {}",
                ours.stdout
            );
            agreed += usize::from(theirs);
        }
    }
    assert!(agreed > 5, "{agreed}");
    let line = desk.write("one.jsonl", &journal(&[(&two, from_us[0])]).concat());
    for by in [&[1, 2, 5][..], &[1, 2, 3], &[1, 2, 3, 5]] {
        let next = desk.write("next.toml", &endorsed(&one, &two, from_us[0], by));
        let (theirs, told) = checked(&line, &[first, &next]);
        assert_eq!(theirs, by.len() == 4, "{told}");
    }
    let forged = desk
        .text("2.toml")
        .replace(&instant(from_us[0]), &instant(from_us[0] - MINUTE_US));
    let (theirs, told) = checked(&line, &[first, &desk.write("next.toml", &forged)]);
    assert!(!theirs && told.contains("REFUSED"), "{told}");
    // The file of the first roster is read as strictly as any.
    let good = desk.text("2.toml");
    for text in [
        good.clone(),
        forged,
        good.replace("[endorsement.3]", "[endorsement.4]"),
        good.replace("from = ", "since = "),
        good.replace("[change]\n", "[changes]\n"),
        good.replace("Z\"\n[endorsement.0]", "+00:00\"\n[endorsement.0]"),
    ] {
        let next = desk.write("next.toml", &text);
        let ours = run(&["verify", &line, "--roster", &next]).code == Some(0);
        let (theirs, told) = checked(&line, &[&next]);
        assert_eq!(
            (ours, theirs),
            (text == good, text == good),
            "{text}: {told}"
        );
    }
}

#[test]
fn processes_turn_to_the_next_roster_at_its_time() {
    // On a machine that is too busy for the first time, a later one.
    assert!(turns(30_000_000) || turns(120_000_000));
}

/// Whether the processes turn to the next roster, which counts after that time. False if the first one had no price before.
fn turns(after_us: u64) -> bool {
    const WATCHED: [&str; 5] = [
        "embedded:BTCUSDT",
        "embedded-kraken:BTC/USD",
        "embedded-okx:BTC-USDT",
        "embedded-gemini:btcusd",
        "embedded-bybit:BTCUSDT",
    ];
    let desk = Desk::new();
    let mut feed = terms("BTC/USD", &[]);
    feed.schedule.period_us = 2_000_000;
    feed.schedule.samples = 2;
    feed.schedule.interval_us = 200_000;
    let of = |number, previous: Option<&Roster>, seeds: &[u8]| {
        let slot = |seed: &u8| {
            // An exchange refuses the third, who gets another in the next roster.
            let source = match (number, seed) {
                (2, 3) => "embedded-coinbase:BTC-USD",
                _ => WATCHED[usize::from(*seed) - 1],
            };
            RosterSlot {
                key: Some(key(*seed).public()),
                sources: vec![source.to_owned()],
            }
        };
        let slots = seeds.iter().map(slot).collect();
        Roster::new(
            number,
            previous.map(Roster::digest),
            vec![feed.clone()],
            slots,
        )
    };
    let one = of(1, None, &[1, 2, 3, 4]);
    let two = of(2, Some(&one), &[1, 2, 3, 5]);
    let from_us = wall_us() / 2_000_000 * 2_000_000 + after_us;
    let old = desk.write("1.toml", &render(&one));
    let next = desk.write("2.toml", &endorsed(&one, &two, from_us, &[1, 2, 3, 5]));
    let rosters = ["--roster", &old, "--roster", &next];

    let args = ["aggregate", "--rounds", "3"];
    assert!(
        said(2, &[&args[..], &rosters].concat())
            .contains("--rounds does not go with a roster that ends")
    );

    let (_exchange, url) = exchange(&["--fault", "okx/refuse"]);
    let (journal, keyed) = (desk.path("journal.jsonl"), desk.key(9));
    let [control, data] =
        [nobodys_address(), nobodys_address()].map(|place| place.port().to_string());
    let ports = ["--control-port", &control, "--data-port", &data];
    let files = ["--aggregator-key", &keyed, "--journal", &journal];
    let mut aggregator = start(&[&["aggregate"][..], &rosters, &ports, &files].concat());
    let public = hex(key(9).public().bytes());
    let place = format!("127.0.0.1:{control},{data}@{public}");
    let collector = |seed: u8| {
        let key = desk.key(seed);
        let by_hand = ["--key", &key, "--endpoint", &url, "--aggregator", &place];
        start(&[&["collect"][..], &rosters, &by_hand].concat())
    };
    let mut staying: Vec<Running> = [1, 2, 3, 5].map(collector).into();
    let leaving = collector(4);
    // Who has the next roster only waits, and so does who joins.
    let waits = ["--control-port", "0", "--data-port", "0", "--rounds", "1"];
    let waits = start(&[&["aggregate", "--roster", &next][..], &waits].concat());
    // The key of each price's collector, report by report.
    let priced = |digest: &[u8; 32]| -> Vec<Vec<String>> {
        let text = fs::read_to_string(&journal).unwrap_or_default();
        let of = text.lines().filter(|line| line.contains(&hex(digest)));
        of.map(|line| {
            let used = |seed: &u8| {
                line.contains(&format!(
                    "{}\",\"standing\":\"used\"",
                    hex(key(*seed).public().bytes())
                )) || line.contains(&format!(
                    "{}\",\"standing\":\"trimmed\"",
                    hex(key(*seed).public().bytes())
                ))
            };
            (1..=5).filter(used).map(|seed| seed.to_string()).collect()
        })
        .collect()
    };
    let [before, after] = [&one, &two].map(|roster| roster.feeds[0].digest());
    let all = ["1", "2", "4"].map(str::to_owned).to_vec();
    let is_priced = eventually(
        "all of the old roster give a price, or its time is over",
        || {
            let is_over = wall_us() > from_us;
            let is_priced = priced(&before).contains(&all);
            (is_priced || is_over).then_some(is_priced)
        },
    );
    if !is_priced {
        return false;
    }
    let marked = Path::new(&desk.path("5.key.mark")).exists();
    assert!(
        !marked || wall_us() > from_us - 5_000_000,
        "it signs too early"
    );
    eventually("all of the next roster give a price", || {
        priced(&after)
            .contains(&["1", "2", "3", "5"].map(str::to_owned).to_vec())
            .then_some(())
    });
    let done = waits.finish();
    assert_eq!(done.code, Some(3), "{}", done.stderr);
    let (_, began) = done
        .stderr
        .split_once(" apart, from ")
        .expect("a first round");
    assert!(began[..19] >= instant(from_us)[..19], "{}", done.stderr);
    let starts = done.stderr.matches("control channel on").count();
    assert_eq!(starts, 1, "it does not start anew: {}", done.stderr);
    let done = leaving.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    // Each step is told once.
    let told = |stderr: &str, what: &str| stderr.matches(what).count();
    let url = format!(
        "connected to the aggregator at 127.0.0.1:{control} for slot 3 with {}",
        WATCHED[3]
    );
    for what in [
        &*url,
        "collector: first round at ",
        "roster 2 has no slot for this key: ending",
    ] {
        assert_eq!(told(&done.stderr, what), 1, "{what}: {}", done.stderr);
    }
    staying[0].stderr_line("roster 2 counts from now on");
    let stays = staying[0].stderr();
    assert_eq!(
        told(&stays, "counts from now on") + told(&stays, "first round"),
        2,
        "{stays}"
    );
    assert!(!aggregator.ended() && staying.iter_mut().all(|one| !one.ended()));
    let told = verified(0, &journal, &[&old, &next]);
    assert!(told.contains("roster 2: it counts from"), "{told}");
    // Nobody starts with a roster that does not follow.
    for command in [
        &["aggregate"][..],
        &["collect", "--key", &keyed, "--aggregator", &place],
    ] {
        let args = [command, &["--roster", &next, "--roster", &old]].concat();
        let told = said(2, &args);
        assert!(told.contains("roster 1 does not follow roster 2"), "{told}");
    }
    true
}

/// A roster of four collectors, and the one that follows it in forty minutes, in which the third one has another source.
#[test]
#[ignore = "needs faketime"]
fn a_clock_that_is_ahead_at_the_start_leaves_no_roster_for_good() {
    let desk = Desk::new();
    let mut feed = terms("BTC/USD", &[]);
    feed.schedule.period_us = 1_000_000;
    feed.schedule.samples = 1;
    let of = |number, previous: Option<&Roster>| {
        let slot = |seed: u8| RosterSlot {
            key: Some(key(seed).public()),
            sources: vec![match (number, seed) {
                (2, 3) => "embedded-kraken:BTC/USD".to_owned(),
                _ => "embedded:BTCUSDT".to_owned(),
            }],
        };
        let slots = (1..5).map(slot).collect();
        Roster::new(
            number,
            previous.map(Roster::digest),
            vec![feed.clone()],
            slots,
        )
    };
    let one = of(1, None);
    let two = of(2, Some(&one));
    let from_us = wall_us() / 1_000_000 * 1_000_000 + 40 * MINUTE_US;
    let old = desk.write("1.toml", &render(&one));
    let next = desk.write("2.toml", &endorsed(&one, &two, from_us, &[1, 2, 3, 4]));
    let rosters = ["--roster", &old, "--roster", &next];
    let (_exchange, url) = exchange(&[]);
    let [control, data] =
        [nobodys_address(), nobodys_address()].map(|place| place.port().to_string());
    let ports = ["--control-port", &control, "--data-port", &data];
    let (journal, keyed) = (desk.path("journal.jsonl"), desk.key(9));
    let files = ["--aggregator-key", &keyed, "--journal", &journal];
    let library = witness::faketime();
    let clock = scratch("clock");
    assert!(witness::set_clock(&clock, "+3600"));
    let run = |args: &[&str]| {
        let mut command = rsoracle();
        command.args(args);
        witness::by_the_clock_of(&mut command, &library, &clock);
        start_command(command)
    };
    let aggregator = run(&[&["aggregate"][..], &rosters, &ports, &files].concat());
    let public = hex(key(9).public().bytes());
    let place = format!("127.0.0.1:{control},{data}@{public}");
    let collectors = [1u8, 2, 3, 4].map(|seed| {
        let key = desk.key(seed);
        let by_hand = ["--key", &key, "--endpoint", &url, "--aggregator", &place];
        run(&[&["collect"][..], &rosters, &by_hand].concat())
    });
    for one in &collectors {
        one.stderr_line("signing nothing meanwhile");
    }
    assert!(witness::set_clock(&clock, "+0"));
    aggregator.stderr_line("the roster before this one still counts");
    eventually("four prices by the first roster", || {
        let text = fs::read_to_string(&journal).unwrap_or_default();
        let has_four = text.lines().any(|line| line.contains("\"prices\":4"));
        has_four.then_some(())
    });
    drop((collectors, aggregator));
    verified(0, &journal, &[&old]);
}
