//! What the targets begin with, written to `FOLDER/TARGET/NAME`: the protocol document's vectors, and what the embedded
//! exchange and its clients say to each other.

#[allow(dead_code)]
#[path = "../vectors/mod.rs"]
mod vectors;

use rsoracle::args::Command;
use rsoracle::config::{COMMANDS, RUN};
use rsoracle::embedded::answer::{Scene, reply};
use rsoracle::embedded::dialect::{Desk, STREAMS};
use rsoracle::embedded::fault::Lie;
use rsoracle::embedded::quote::Quote;
use rsoracle::embedded::request::Request;
use rsoracle::embedded::tape::BUILT_IN;
use rsoracle::exchange::{DIALECTS, Way};
use rsoracle::roster::{Roster, RosterSeat};
use rsoracle::source::KINDS;
use rsoracle::terms::Terms;
use std::fs;
use std::path::PathBuf;
use vectors::Story;

struct Seeds(PathBuf);

impl Seeds {
    fn put(&self, target: &str, name: &str, bytes: impl AsRef<[u8]>) {
        let folder = self.0.join(target);
        fs::create_dir_all(&folder).expect("the folder can be made");
        fs::write(folder.join(name), bytes).expect("the seed can be written");
    }
}

fn main() {
    let folder = std::env::args_os().nth(1).expect("which folder?");
    let seeds = Seeds(folder.into());
    reported(&seeds);
    exchanged(&seeds);
    commanded(&seeds);
    seeds.put("certificate", "common-name", certificate(3, b"170"));
    seeds.put("certificate", "organization", certificate(10, b"20170"));
    let proxy = "http://user:pass%20word@proxy.example:3128\nexample.com,.kraken.com:443,192.0.2.0/24,[::1],*\nwss://ws.kraken.com:443/v2\nHTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n";
    seeds.put("proxy", "open", proxy);
    let proxy = "[2001:db8::1]:8080/\n2001:db8::/32, 10.0.0.1\nwss://10.0.0.1/\nHTTP/1.0 407 Authentication Required\n\n";
    seeds.put("proxy", "refused", proxy);
}

/// Frames, reports, proofs, journals and rosters.
fn reported(seeds: &Seeds) {
    let story = Story::play();
    for (name, bytes) in story.vectors() {
        let carried = ["challenge", "hello", "ready", "round", "preamble", "refusal", "observation"];
        let last = name.rsplit('.').next().unwrap_or_default();
        if carried.contains(&last) || last.starts_with("sample") {
            seeds.put("frames", &name, bytes);
        }
    }
    let lines = story.lines();
    for (name, line) in ["report", "next", "change", "proof"].iter().zip(&lines) {
        seeds.put(if *name == "proof" { "proof" } else { "report" }, name, line);
    }
    let journal = lines[..3].join("\n");
    seeds.put("journal", "whole", format!("{journal}\n"));
    seeds.put("journal", "torn", &journal[..journal.len() - 9]);
    seeds.put("journal", "proofs", format!("{}\n", lines[3]));
    seeds.put("roster", "roster", roster(&story.terms).render());
}

fn roster(terms: &Terms) -> Roster {
    let seat = |seat: &rsoracle::terms::Seat| {
        let source = seat.source.clone();
        Some(RosterSeat { key: seat.key?, source })
    };
    Roster {
        feed: terms.feed.clone(),
        rule: terms.rule,
        sample_rule: terms.sample_rule,
        f: terms.f,
        quorum: terms.quorum,
        exchanges_min: terms.exchanges_min,
        aggregator: Some(terms.aggregator),
        collectors: terms.seats.iter().filter_map(seat).collect(),
    }
}

/// What clients of every dialect send, and what they are told.
fn exchanged(seeds: &Seeds) {
    for ((at, dialect), kind) in (0u8..).zip(DIALECTS).zip(&KINDS) {
        let symbol = kind.spelling.of("BTC", kind.quote);
        let said = match dialect.way {
            Way::Poll(request) => {
                let request = request("s-3", &symbol);
                seeds.put("embedded", dialect.name, format!("R{request}"));
                vec![answer(&request, &symbol)]
            }
            Way::Stream(subscribe) => {
                let mut sent = subscribe(&symbol);
                sent.extend(dialect.ping.map(str::to_owned));
                told(seeds, dialect.name, &symbol, &sent)
            }
        };
        for (number, text) in said.iter().enumerate() {
            let bytes = [&[at], text.as_bytes()].concat();
            seeds.put("exchange", &format!("{}-{number}", dialect.name), bytes);
        }
    }
    let head = "GET /ws-api/v3?returnRateLimits=false&timeUnit=MICROSECOND HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    seeds.put("embedded", "head", format!("H{head}"));
    // A masked text frame by a mask of zeros behind it.
    let frame = b"\x81\x84\0\0\0\0ping";
    let stream = head.replace("/ws-api/v3", "/bybit");
    seeds.put("embedded", "socket", [b"S", stream.as_bytes(), frame].concat());
    seeds.put("embedded", "fault", "Fstatus=429@2-5,8");
    let beginning: Vec<&str> = BUILT_IN.lines().take(30).collect();
    seeds.put("tape", "beginning", beginning.join("\n"));
}

fn answer(request: &str, symbol: &str) -> String {
    let scene = Scene {
        symbol,
        price: "87231.42000000",
        unix_us: 1_723_161_255_342_000,
        micros: false,
        rate_limits: true,
        weight_used: 2,
    };
    reply(&Request::read(request), &scene, &Lie::default())
}

/// Sends messages to a stream, and gives all that it says: welcome, answers, prices of each channel, its notice.
fn told(seeds: &Seeds, name: &str, symbol: &str, sent: &[String]) -> Vec<String> {
    let place = STREAMS.iter().position(|stream| stream.name == name);
    let at = place.expect("every stream has its dialect on both sides");
    let stream = STREAMS[at];
    seeds.put("embedded", name, [&[at as u8], sent.join("\n").as_bytes()].concat());
    let mut desk = Desk::new(stream, "BTCUSDT");
    desk.said.extend(stream.welcome.map(|welcome| welcome(true)));
    sent.iter().for_each(|text| (stream.hear)(text, &mut desk));
    desk.said.extend(stream.notice.map(|notice| notice(1_723_161_255_342)));
    for (number, (channel, _)) in (0..).zip(stream.channels) {
        let quote = Quote {
            channel,
            symbol: symbol.to_owned(),
            number,
            first: number == 0,
            serial: 7,
            last: "87231.42".to_owned(),
            bid: "87231.41".to_owned(),
            ask: "87231.43".to_owned(),
            trade_us: 1_723_161_255_342_017,
            now_us: 1_723_161_255_400_000,
        };
        desk.said.push((stream.price)(&quote));
    }
    desk.said
}

/// Every flag of every command, and the commented configuration.
fn commanded(seeds: &Seeds) {
    for (at, command) in (0u8..).zip(COMMANDS) {
        let all: Vec<String> = words(command).collect();
        let bytes = [&[at], all.join("\n").as_bytes()].concat();
        seeds.put("command_line", command.name, bytes);
        for word in &all {
            let bytes = [&[at], word.as_bytes()].concat();
            let name: String = word.chars().filter(char::is_ascii_alphanumeric).collect();
            seeds.put("command_line", &format!("{}-{name}", command.name), bytes);
        }
    }
    let page = include_str!("../../docs/oracle.toml");
    seeds.put("configuration", "page", format!("\n\n{page}"));
    seeds.put("configuration", "bare", format!("\n\n{}", page.replace("\n# ", "\n").replace("\n#", "\n")));
    for (number, word) in words(&RUN).enumerate() {
        seeds.put("configuration", &format!("flag-{number}"), word);
    }
}

/// Each flag with a value: its default, or what its help would take.
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
        let value = if flag.default.is_empty() { fitting } else { flag.default };
        match flag.value {
            "" => format!("--{}", flag.name),
            _ => format!("--{}={value}", flag.name),
        }
    })
}

/// A certificate as far as it is read, in DER: of an issuer with this attribute, and valid to the end of that century's 70th year.
fn certificate(attribute: u8, century: &[u8]) -> Vec<u8> {
    let name = [field(6, &[0x55, 4, attribute]), field(12, "Zertifikat für alle".as_bytes())];
    let name = field(0x30, &field(0x31, &field(0x30, &name.concat())));
    let time = [century, b"0101000000Z"].concat();
    let validity = field(0x30, &[field(23, b"250101000000Z"), field(if time.len() == 15 { 24 } else { 23 }, &time)].concat());
    let parts = [field(0xa0, &field(2, &[2])), field(2, &[1]), field(0x30, &[]), name, validity];
    field(0x30, &field(0x30, &parts.concat()))
}

fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    match content.len() {
        short @ ..=0x7f => [&[tag, short as u8], content].concat(),
        long => [&[tag, 0x81, long as u8], content].concat(),
    }
}
