//! Makes the seeds of the fuzz targets in tests/fuzz, as `target/tmp/seeds/TARGET/NAME`: the protocol document's vectors, and
//! conversations of the embedded exchange with its clients. Checks that each seed is what it is meant to be.

mod vectors;

use rsoracle::cli::file;
use rsoracle::cli::run;
use rsoracle::embedded::binance::answer::{Scene, reply};
use rsoracle::embedded::binance::request::Request;
use rsoracle::embedded::dialect::{Beat, Desk, STREAMS};
use rsoracle::embedded::fault::{Fault, Lie};
use rsoracle::embedded::quote::MarketData;
use rsoracle::embedded::tape::{BUILT_IN, Tape};
use rsoracle::embedded::upgrade::respond;
use rsoracle::exchange::certificate::Certificate;
use rsoracle::exchange::proxy::Proxy;
use rsoracle::exchange::{DIALECTS, Said, Topics, Way};
use rsoracle::flags::args;
use rsoracle::flags::args::Command;
use rsoracle::flags::tables::{COMMANDS, RUN};
use rsoracle::follow::body::Body;
use rsoracle::follow::events::Events;
use rsoracle::keys::secret::SecretKey;
use rsoracle::nats::protocol::Parser;
use rsoracle::roster::{change as endorsement, text};
use rsoracle::serve::request;
use rsoracle::serve::scan::{Kind, scan};
use rsoracle::source::KINDS;
use rsoracle_proof::change::{Change, Endorsement, RosterFile};
use rsoracle_proof::report::{Refused, Report, Verifier};
use rsoracle_proof::roster::Roster;
use rsoracle_proof::round::Round;
use rsoracle_proof::seal::hex;
use rsoracle_proof::succession::Succession;
use rsoracle_proof::utc::utc_text;
use std::path::{Path, PathBuf};
use vectors::Story;

/// A directory with a subdirectory for each target.
struct Seeds(PathBuf);

impl Seeds {
    fn empty() -> Seeds {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("seeds");
        let _ = std::fs::remove_dir_all(&folder);
        Seeds(folder)
    }

    fn put(&self, target: &str, name: &str, bytes: impl AsRef<[u8]>) {
        let folder = self.0.join(target);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}

#[test]
fn every_fuzz_target_has_its_seeds() {
    let seeds = Seeds::empty();
    reported(&seeds);
    exchanged(&seeds);
    embedded(&seeds);
    commanded(&seeds);
    conversed(&seeds);
    proxied(&seeds);
    served(&seeds);
    followed(&seeds);
    for (name, attribute, century) in [("name", 3, "700"), ("organization", 10, "20700")] {
        let der = certificate(attribute, century);
        let read = Certificate::read(&der).expect("a certificate");
        assert_eq!(read.issuer, "Zertifikat für alle");
        seeds.put("certificate", name, der);
    }
    let said = "collector 0: lost\ncollector 1: lost\nexchange: up\ncollector x: lost\nhalf";
    seeds.put("voices", "said", said);
    let greeting = "INFO {\"server_id\":\"N\",\"version\":\"2.9.10\",\"headers\":true,\"max_payload\":1048576,\"nonce\":\"VmW\",\"connect_urls\":[\"10.0.0.1:4222\"]} \r\nPING\r\nPONG\r\n+OK\r\n-ERR 'Slow Consumer'\r\n";
    let messages = "MSG _INBOX.x.1 1 23\r\n{\"stream\":\"R\", \"seq\":1}\r\nHMSG _INBOX.x.2 1  34 34\r\nNATS/1.0 404 Message Not Found\r\n\r\n\r\nHMSG a 2 r 36 41\r\nNATS/1.0\r\nA: b\r\nNats-Sequence: 7\r\n\r\nhello\r\n";
    for (name, text) in [("greeting", greeting), ("messages", messages)] {
        let (mut parser, mut rest) = (Parser::new(64), text.as_bytes());
        while !rest.is_empty() {
            let (taken, _) = parser.take(rest).expect("the protocol of NATS");
            rest = &rest[taken..];
        }
        seeds.put("nats", name, text);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut targets = 0;
    for target in root.join("tests/fuzz/targets").read_dir().unwrap() {
        let name = target.unwrap().file_name().into_string().unwrap();
        let name = name.trim_end_matches(".rs");
        assert!(seeds.0.join(name).is_dir(), "{name}");
        targets += 1;
    }
    let manifest = std::fs::read_to_string(root.join("tests/fuzz/Cargo.toml")).unwrap();
    assert_eq!(manifest.matches("[[bin]]").count(), targets);
}

/// Frames, reports, proofs, journals and rosters.
fn reported(seeds: &Seeds) {
    let story = Story::play();
    for (name, bytes) in story.vectors() {
        seeds.put("frames", &name, bytes);
    }
    let lines = story.lines();
    for (name, line) in ["report", "next", "change", "proof"].iter().zip(&lines) {
        let check = Verifier::default().check(line, u64::MAX);
        assert!(check.flaws.is_empty(), "{:?}", check.flaws);
        let target = if *name == "proof" { "proof" } else { "report" };
        seeds.put(target, name, line);
        let is_report = matches!(scan(line.as_bytes()), Kind::Report(_));
        assert_eq!(is_report, matches!(*name, "report" | "next"));
        seeds.put("scan", name, line);
    }
    // The same answer twice proves nothing.
    let mut same = story.proof();
    same.answers[1] = same.answers[0];
    seeds.put("proof", "same", same.line());
    let journal = lines[..3].join("\n");
    seeds.put("journal", "whole", format!("{journal}\n"));
    let second = Round::new(
        story.roster_of_two().feeds.remove(1),
        story.next.round.start_us,
    );
    let (by, policy) = (story.next.aggregator, story.next.policy);
    let second = Report::new(1, by, second, Refused::new(), policy, None);
    let feeds = format!("{journal}\n{}\n", second.line());
    seeds.put("journal", "feeds", feeds);
    seeds.put("journal", "torn", &journal[..journal.len() - 9]);
    seeds.put("journal", "proofs", format!("{}\n", lines[3]));
    let mut roster = Roster::single(1, None, story.terms.clone());
    let put = |name: &str, roster: &Roster| {
        let text = text::render(roster);
        assert_eq!(Roster::parse(&text).as_ref(), Ok(roster), "{text}");
        seeds.put("roster", name, text);
    };
    put("roster", &roster);
    (roster.number, roster.previous) = (2, Some(roster.digest()));
    let terms = &mut roster.feeds[0];
    (terms.age_us_max, terms.spread_ppm_max) = (Some(60_000_000), Some(12_345));
    terms.schedule.end_us = Some(terms.schedule.first_start_us + 1);
    put("next", &roster);
    put("two", &story.roster_of_two());
    changed(seeds, &story);
}

/// The roster of those that have keys, and the one that follows it, which all of them endorse.
fn changed(seeds: &Seeds, story: &Story) {
    let [old, mut new] = [story.roster(), story.roster_of_two()].map(|roster| {
        let slots = roster.slots[..story.players.len()].to_vec();
        Roster::new(roster.number, None, roster.feeds, slots)
    });
    new.previous = Some(old.digest());
    let change = Change {
        old: old.digest(),
        new: new.digest(),
        ..story.roster_change()
    };
    let mut file = text::render(&new);
    file += &format!("[change]\nfrom = \"{}\"\n", utc_text(change.from_us));
    for (at, seed) in (0x10..).take(new.slots.len()).enumerate() {
        let key = SecretKey::from_seed(&mut [seed; 32]);
        let signature = hex(&key.sign(&change.signed_bytes()));
        let key = hex(key.public().bytes());
        file += &format!("[endorsement.{at}]\nkey = \"{key}\"\nsignature = \"{signature}\"\n");
    }
    let read = RosterFile::parse(&file).expect("a roster file");
    let mut rosters = Succession::new(old.clone(), 0);
    assert_eq!(rosters.follow(read), Ok(()));
    seeds.put("roster", "endorsed", &file);
    endorsed(seeds, &change);
    // Two sets of endorsers besides, which suffice, or have only one in common.
    let old = text::render(&old);
    for (name, one, other) in [("change", "\0", "\u{1}"), ("few", "\0\u{1}", "\u{2}\u{3}")] {
        seeds.put("roster", name, [&old, &*file, one, other].join("\n---\n"));
    }
}

/// Files of endorsements: one, of two keys, of two changes, and with a signature of another key.
fn endorsed(seeds: &Seeds, change: &Change) {
    let later = Change {
        from_us: change.from_us + 1,
        ..*change
    };
    let file = |seed: u8, change: &Change| {
        let key = SecretKey::from_seed(&mut [seed; 32]);
        let (key, signature) = (key.public(), key.sign(&change.signed_bytes()));
        let endorsement = Endorsement { key, signature };
        let text = endorsement::render(change, &endorsement);
        let read = endorsement::parse(&text).expect("an endorsement");
        assert_eq!(read, (*change, endorsement));
        text
    };
    let [one, other, second] =
        [(0x10, change), (0x11, change), (0x10, &later)].map(|(seed, change)| file(seed, change));
    let line = |text: &str| text.lines().last().expect("its signature").to_owned();
    let forged = one.replace(&line(&one), &line(&other));
    assert!(endorsement::parse(&forged).is_err());
    for (name, texts) in [
        ("one", &[&*one][..]),
        ("keys", &[&one, &other]),
        ("changes", &[&one, &second]),
        ("forged", &[&forged, &other]),
    ] {
        seeds.put("endorsement", name, texts.join("\n---\n"));
    }
}

/// The messages of every dialect, among them prices. The first byte is the dialect's index.
fn exchanged(seeds: &Seeds) {
    for ((at, dialect), kind) in (0u8..).zip(DIALECTS).zip(&KINDS) {
        let symbol = kind.spelling.of("BTC", kind.quote);
        let said = match dialect.way {
            Way::Poll(request) => {
                let request = request("s-3", &symbol);
                seeds.put("embedded", dialect.name, format!("R{request}"));
                vec![answer(&request)]
            }
            Way::Stream(subscribe) => {
                let mut sent = subscribe(&[&symbol]);
                sent.extend(dialect.ping.map(str::to_owned));
                told(seeds, dialect.name, &symbol, &sent)
            }
        };
        let mut prices = 0;
        for (number, text) in said.iter().enumerate() {
            let topics = Topics {
                symbols: &[&symbol],
                channels: &[Some(232949)],
            };
            let priced = matches!((dialect.read)(text, &topics), Said::Price { .. });
            prices += usize::from(priced);
            let bytes = [&[at], text.as_bytes()].concat();
            seeds.put("exchange", &format!("{}-{number}", dialect.name), bytes);
        }
        assert!(prices > 0, "{}: {said:?}", dialect.name);
    }
}

/// Heads, frames over a socket, faults, and a tape.
fn embedded(seeds: &Seeds) {
    let head = |path: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
    };
    let api = head("/ws-api/v3");
    assert!(respond(api.as_bytes(), &[], 0).opens.is_some());
    seeds.put("embedded", "head", format!("H{api}"));
    // A text frame with a mask of zeros.
    let frame = b"\x81\x84\0\0\0\0ping";
    let socket = [b"S", head("/bybit").as_bytes(), frame].concat();
    seeds.put("embedded", "socket", socket);
    for (name, fault) in [
        ("fault", "kraken/slow:300ms@2.."),
        ("fault-of-a-base", "okx/ETH/mute@2"),
    ] {
        assert!(Fault::parse(fault).is_ok());
        seeds.put("embedded", name, format!("F{fault}"));
    }
    let beginning: Vec<&str> = BUILT_IN.lines().take(30).collect();
    assert!(Tape::parse(&beginning.join("\n")).is_ok());
    seeds.put("tape", "beginning", beginning.join("\n"));
}

fn answer(request: &str) -> String {
    let scene = Scene {
        price: Some("87231.42000000"),
        halted: false,
        unix_us: 1_723_161_255_342_000,
    };
    reply(&Request::read(request), &scene, &Lie::default())
}

/// Sends messages to a stream. Returns everything that it sends: welcome, answers, prices of each channel, notice.
fn told(seeds: &Seeds, name: &str, symbol: &str, sent: &[String]) -> Vec<String> {
    let place = STREAMS.iter().position(|stream| stream.name == name);
    let at = place.expect("every stream has its dialect on both sides");
    let stream = STREAMS[at];
    seeds.put(
        "embedded",
        name,
        [&[at as u8], sent.join("\n").as_bytes()].concat(),
    );
    let mut desk = Desk::new(stream, ["BTC".to_owned(), "ETH".to_owned()].into());
    desk.said
        .extend(stream.welcome.map(|welcome| welcome(true)));
    sent.iter().for_each(|text| (stream.hear)(text, &mut desk));
    desk.said
        .extend(stream.notice.map(|notice| notice(1_723_161_255_342)));
    for (number, (channel, _)) in (0..).zip(stream.channels) {
        let market = MarketData {
            channel,
            symbol: symbol.to_owned(),
            number,
            stamps: true,
            first: number == 0,
            serial: 7,
            last: "87231.42".to_owned(),
            bid: "87231.41".to_owned(),
            ask: "87231.43".to_owned(),
            trade_us: 1_723_161_255_342_017,
            now_us: 1_723_161_255_400_000,
        };
        desk.said.push((stream.price)(&market));
        desk.said.extend(match stream.beat {
            Beat::Still(_, words) | Beat::Steady(_, words) => Some(words(&market)),
            Beat::Quiet(_, words) => Some(words()),
            Beat::Asks(_, words) => Some(words(1_723_161_255_342)),
            Beat::None | Beat::Again(_) => None,
        });
    }
    desk.said
}

/// Every flag of every command, and the commented configuration.
fn commanded(seeds: &Seeds) {
    for (at, command) in (0u8..).zip(COMMANDS) {
        let all: Vec<String> = words(command).collect();
        let bytes = [&[at], all.join("\n").as_bytes()].concat();
        seeds.put("command_line", command.name, bytes);
        for (flag, word) in command.flags.iter().zip(&all) {
            let name = format!("{}-{}", command.name, flag.name);
            seeds.put("command_line", &name, [&[at], word.as_bytes()].concat());
        }
    }
    let page = include_str!("../docs/oracle.toml");
    let mut given = args::parse(&RUN, &[]).unwrap();
    file::read(&mut given, "oracle.toml", page).unwrap();
    run::read(&given).unwrap();
    seeds.put("configuration", "page", format!("\n\n{page}"));
    // Its comments show further keys.
    let shown = |line: &'static str| line.strip_prefix("# ").filter(|key| key.contains(" = "));
    let lines: Vec<&str> = page.lines().filter_map(shown).collect();
    assert!(lines.len() > 8, "{lines:?}");
    seeds.put(
        "configuration",
        "shown",
        format!("\n\n{}", lines.join("\n")),
    );
    for (number, word) in words(&RUN).enumerate() {
        seeds.put("configuration", &format!("flag-{number}"), word);
    }
}

/// What the fourth collector may do: behave as the others, sign a second answer, name another key, pass on another's hello, or
/// crowd the port. For the target, an action is a byte, the index of a connection, and its arguments.
fn conversed(seeds: &Seeds) {
    const PAUSE: &[u8] = &[0, 0];
    const LOOK: &[u8] = &[3, 0];
    const OPEN_DATA: &[u8] = &[2, 0];
    const OWN_HELLO: &[u8] = &[0, 0, 0];
    const SAMPLES: &[u8] = &[9, 0, 0, 0, 9, 0, 0, 0];
    // On its second connection: the answers that it signs there for the samples of its first one, by number in the target's list,
    // and for which start.
    let playing = |hello: &[u8], preamble: u8, first: &[u8], second: &[u8]| {
        let hello = [&[1, 0], LOOK, PAUSE, LOOK, &[7, 0], hello, PAUSE, LOOK].concat();
        let data = [OPEN_DATA, &[10, 1, preamble]].concat();
        let ready = [
            LOOK,
            &[8, 0, 0, 0, 0],
            PAUSE,
            LOOK,
            PAUSE,
            LOOK,
            SAMPLES,
            LOOK,
        ]
        .concat();
        let sign = |answer: &[u8]| [&[11, 1, 0], answer, LOOK].concat();
        let answers = [PAUSE, PAUSE, &sign(first), &sign(second)].concat();
        [hello, data, ready, answers].concat()
    };
    for (name, bytes) in [
        ("plays", playing(OWN_HELLO, 0, &[0, 0], &[0, 0])),
        ("abstains", playing(OWN_HELLO, 0, &[1, 0], &[1, 0])),
        ("equivocates", playing(OWN_HELLO, 0, &[0, 0], &[2, 99, 0])),
        ("names-another", playing(OWN_HELLO, 3, &[1, 0], &[2, 99, 0])),
        ("passes-on", playing(&[0, 0, 2], 3, &[0, 0], &[0, 0])),
        ("is-early", playing(OWN_HELLO, 0, &[0, 4], &[0, 2])),
    ] {
        seeds.put("conversation", name, bytes);
    }
    let crowd = [&[1, 0].repeat(8), LOOK, PAUSE, &[6, 0], b"RSOR"].concat();
    seeds.put("conversation", "crowds", crowd);
    let begins = |hellos: &[u8]| {
        let ready = [LOOK, &[8, 0, 0, 0, 0], PAUSE, LOOK, PAUSE, LOOK].concat();
        [
            &[1, 0, 1, 0],
            LOOK,
            PAUSE,
            LOOK,
            hellos,
            PAUSE,
            LOOK,
            OPEN_DATA,
            &[10, 2, 0],
            &ready,
        ]
        .concat()
    };
    // Two connections under its key, with other samples on each, and an answer for each.
    let answers = [&[11, 2, 0, 0, 0][..], LOOK, &[11, 2, 1, 0, 0], LOOK].concat();
    let two_faces = [
        &begins(&[7, 0, 0, 0, 0, 7, 1, 0, 0, 0])[..],
        SAMPLES,
        &[9, 1, 0, 0, 9, 1, 0, 0],
        LOOK,
        &answers,
    ];
    seeds.put("conversation", "has-two-faces", two_faces.concat());
    // Samples under another collector's key, which are not that one's.
    let shadows = [&begins(&[7, 0, 0, 0, 2])[..], SAMPLES, LOOK, PAUSE, LOOK];
    seeds.put("conversation", "shadows", shadows.concat());
    // Rounds that are none, over, to come or far ahead, and other terms.
    let places: [&[u8]; 5] = [&[2], &[3], &[4], &[5], &[7, 0]];
    let elsewhere =
        places.map(|place| [&[9, 0][..], place, &[0, 11, 2, 0, 1], place, LOOK].concat());
    let elsewhere = [begins(&[7, 0, 0, 0, 0]), elsewhere.concat()];
    seeds.put("conversation", "is-elsewhere", elsewhere.concat());
    let floods = [
        &begins(&[7, 0, 0, 0, 0])[..],
        &[12, 0, 0, 0, 255],
        LOOK,
        &[13, 0, 0, 255],
        LOOK,
    ];
    seeds.put("conversation", "floods", floods.concat());
}

fn proxied(seeds: &Seeds) {
    for (name, lines) in [
        (
            "open",
            "http://user:pass%20word@proxy.example:3128\nexample.com,.kraken.com:443,192.0.2.0/24,[::1],*\nwss://ws.kraken.com:443/v2\nHTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n",
        ),
        (
            "refused",
            "[2001:db8::1]:8080/\n2001:db8::/32, 10.0.0.1\nwss://10.0.0.1/\nHTTP/1.0 407 Authentication Required\n\n",
        ),
    ] {
        assert!(Proxy::parse(lines.lines().next().unwrap()).is_ok());
        seeds.put("proxy", name, lines);
    }
}

/// Heads of requests to `serve`, whole and with an end that is missing, and one that is refused.
fn served(seeds: &Seeds) {
    let fields = "Host: localhost:8090\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n";
    for (name, head) in [
        (
            "latest",
            format!(
                "GET /v1/latest?feed=BTC%2FUSD&wait=20s HTTP/1.1\r\n{fields}If-None-Match: \"00ff\"\r\n\r\n"
            ),
        ),
        (
            "old",
            "\r\nHEAD /live HTTP/1.0\r\nConnection: Keep-Alive, x\r\n\r\nGET".to_owned(),
        ),
        (
            "options",
            format!("OPTIONS * HTTP/1.1\r\n{fields}Content-Length: 0\r\nConnection: close\r\n\r\n"),
        ),
        (
            "absolute",
            format!("GET http://example.com/v1/at/1?feed=a+b HTTP/1.1\r\n{fields}\r\n"),
        ),
        (
            "events",
            format!("GET /v1/stream?feed=BTC%2fUSD HTTP/1.1\r\n{fields}Last-Event-ID:\t7 \r\n\r\n"),
        ),
    ] {
        let read = request::read(head.as_bytes());
        assert!(matches!(read, Ok(Some(_))), "{name}: {read:?}");
        seeds.put("request", name, &head);
        seeds.put("request", &format!("{name}-part"), &head[..head.len() / 2]);
    }
    let smuggled = format!("GET / HTTP/1.1\r\n{fields}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert!(request::read(smuggled.as_bytes()).is_err());
    seeds.put("request", "smuggled", smuggled);
}

/// What a server of reports sends: a body in chunks or as it is, and events. The first bytes are those of the targets.
fn followed(seeds: &Seeds) {
    let chunked = "1a;x=y\r\n: kept\nid: 7\ndata: {\"a\":1}\r\n2\r\n\n\n\r\n0\r\nServer: x\r\n\r\n";
    let mut out = Vec::new();
    assert_eq!(
        Body::new(true).take(chunked.as_bytes(), &mut out),
        Ok(false)
    );
    seeds.put("body", "chunked", format!("\x06{chunked}"));
    seeds.put("body", "plain", b"\x05data: 1\n\n");
    let text =
        b": kept\nid: 7\nevent: too-slow\ndata: {\"a\":1}\r\ndata:2\n\nretry: 5\nid\ndata\n\n";
    let found = Events::new(64).take(text).expect("no bound is reached");
    let event = found.1.expect("it is whole");
    assert_eq!(
        (&*event.id, &*event.name, &*event.data),
        ("7", "too-slow", &b"{\"a\":1}\n2"[..])
    );
    for (name, bounds) in [("whole", [64, 200]), ("bytes", [64, 0]), ("long", [4, 9])] {
        seeds.put("events", name, [&bounds, &text[..]].concat());
    }
}

/// Every flag with a value: its default, or a valid one.
fn words(command: &Command) -> impl Iterator<Item = String> {
    command.flags.iter().map(|flag| {
        let fitting = match flag.value {
            "SOURCE" | "SOURCES" | "LIST" => "kraken,binance:BTCUSDC",
            "TIME" | "DURATION" => "10s",
            "PERCENT" | "FRACTION" => "0.5%",
            "URL" => "wss://127.0.0.1:9001/ws-api/v3",
            "ADDRESS" => "127.0.0.1:8000",
            _ => "3",
        };
        let value = if flag.default.is_empty() {
            fitting
        } else {
            flag.default
        };
        match flag.value {
            "" => format!("--{}", flag.name),
            _ => format!("--{}={value}", flag.name),
        }
    })
}

/// The part of a certificate (DER) that our reader looks at: the issuer has this attribute, and validity ends in the year that
/// begins with these digits.
fn certificate(attribute: u8, year: &str) -> Vec<u8> {
    let issuer = "Zertifikat für alle".as_bytes();
    let pair = [field(6, &[0x55, 4, attribute]), field(12, issuer)].concat();
    let name = field(0x30, &field(0x31, &field(0x30, &pair)));
    let end = format!("{year}101000000Z");
    let kind = if end.len() == 15 { 24 } else { 23 };
    let ends = [field(23, b"250101000000Z"), field(kind, end.as_bytes())];
    let fields = [
        field(0xa0, &field(2, &[2])),
        field(2, &[1]),
        field(0x30, &[]),
        name,
        field(0x30, &ends.concat()),
    ];
    field(0x30, &field(0x30, &fields.concat()))
}

fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len())
        .ok()
        .filter(|length| *length < 0x80);
    let length = length.expect("a short form is long enough");
    [&[tag, length], content].concat()
}
