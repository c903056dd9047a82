//! The attacks of docs/SECURITY.md that no other test file tries, and a check of the document itself: every row names tests,
//! and every named test exists.

mod chronicle;
mod door;
mod support;
mod witness;

use chronicle::*;
use door::Door;
use rsoracle::flags::values::DIVERSE;
use rsoracle::wire::{DataFrame, FrameKind, Preamble};
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::peer::{Peer, RoundOf, collector_seed, stage};
use support::*;
use tungstenite::{Message, WebSocket};
use witness::*;

/// Most memory that a process may use, in kB, whatever is sent to it: more than it needs, but less than is sent.
const RESIDENT_KB_MAX: u64 = 24_000;

fn checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(checkout(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The tests that a text names, as `file::test`.
fn named(text: &str) -> Vec<(&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    let tests = quoted.filter_map(|name| name.split_once(".rs::"));
    tests.collect()
}

#[test]
fn every_attack_names_its_tests_and_they_are_there() {
    let document = text("docs/SECURITY.md");
    let rows = document.lines().filter(|line| line.starts_with("| "));
    let is_head = |line: &&str| line.starts_with("| attack |") || line.starts_with("| who |");
    let attacks: Vec<&str> = rows
        .filter(|line| !is_head(line) && line.matches(" | ").count() == 2 && line.contains(".rs"))
        .collect();
    assert!(attacks.len() >= 50, "{} attacks", attacks.len());
    let mut tests = BTreeSet::new();
    for row in &attacks {
        let last = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let found = named(last);
        assert!(!found.is_empty(), "no test: {row}");
        tests.extend(found);
    }
    // Anywhere in the document.
    tests.extend(named(&document));
    for (file, test) in tests {
        let path = format!("{file}.rs");
        let code = text(&path);
        let declared = format!("fn {test}(");
        let (before, _) = code
            .split_once(&declared)
            .unwrap_or_else(|| panic!("{path} has no {test}"));
        let marks = before.rsplit("\n\n").next().unwrap_or_default();
        assert!(marks.contains("#[test]"), "{path}: {test} is no test");
    }
}

/// Waits for a collector's WebSocket, and reads its first request.
fn websocket(door: &Door) -> WebSocket<TcpStream> {
    let mut ws = door::upgraded(door.accept());
    let request = ws.read().expect("a request").into_text().expect("in text");
    assert!(request.contains("\"id\":\"first-0\""), "{request}");
    ws
}

/// Writes the same bytes repeatedly until the other side ends the connection, which it must. Returns how many bytes it took,
/// and the peak memory of process `id` meanwhile, in kB.
fn pour(tcp: &mut TcpStream, piece: &[u8], id: u32) -> (usize, u64) {
    tcp.set_nonblocking(true).expect("O_NONBLOCK");
    let (mut most_kb, mut poured) = (0, 0);
    let mut looked = Instant::now();
    eventually("the other side has had enough", || {
        // Writes more often than `eventually` checks, and continues partial writes where they stopped.
        while looked.elapsed() < Duration::from_millis(20) {
            match tcp.write(&piece[poured % piece.len()..]) {
                Ok(count) => poured += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return Some(()),
            }
        }
        looked = Instant::now();
        most_kb = most_kb.max(status_number(id, "VmHWM").unwrap_or(0));
        None
    });
    (poured, most_kb)
}

fn watching_one(door: &Door) -> (Running, String) {
    let (mut command, mark) = marked_run(&["--source", "embedded:BTCUSDT", "--collectors", "1"]);
    command.args([
        "--endpoint",
        &door.url,
        "--samples",
        "3",
        "--interval",
        "1s",
    ]);
    (start_command(command), mark)
}

#[test]
fn a_redirect_is_followed_nowhere() {
    for status in [
        "301 Moved Permanently",
        "302 Found",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        let (door, other) = (Door::open(), Door::open());
        let (mut running, _) = watching_one(&door);
        let (mut tcp, _) = door.asked();
        let answer = format!(
            "HTTP/1.1 {status}\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n",
            other.url
        );
        tcp.write_all(answer.as_bytes()).unwrap();
        let line = running.stderr_line(&format!("HTTP {}", &status[..3]));
        assert!(line.contains(&door.url), "{line}");
        // It retries or has ended, but it has not connected anywhere else.
        eventually("what it does next", || {
            let again = door.come().is_some();
            (again || running.ended()).then_some(())
        });
        assert!(other.come().is_none(), "{status} was followed");
        assert_eq!(running.stdout(), "");
    }
}

#[test]
fn an_answer_to_the_upgrade_that_never_ends_takes_no_memory_and_not_for_ever() {
    let header = format!("X-Filler: {}\r\n", "x".repeat(1_000));
    for (head, piece) in [
        ("HTTP/1.1 101 Switching Protocols\r\n", header.as_str()),
        (
            "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 999999999999\r\n\r\n",
            header.as_str(),
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "400\r\n",
        ),
        ("", header.as_str()),
    ] {
        let door = Door::open();
        let (running, _) = watching_one(&door);
        let collector = running.collector(0);
        let (mut tcp, _) = door.asked();
        tcp.write_all(head.as_bytes()).unwrap();
        let (_, most_kb) = pour(&mut tcp, piece.repeat(64).as_bytes(), collector);
        assert!(most_kb < RESIDENT_KB_MAX, "{head:?}: {most_kb} kB");
        assert_eq!(running.stdout(), "");
    }
}

#[test]
fn pings_without_end_take_no_memory_though_nobody_reads_the_answers() {
    let door = Door::open();
    let (running, _) = watching_one(&door);
    let collector = running.collector(0);
    let mut ws = websocket(&door);
    let reply = r#"{"id":"first-0","status":200,"result":{"symbol":"BTCUSDT","price":"87232.01"}}"#;
    ws.send(Message::text(reply)).unwrap();
    running.stderr_line("1 of 1 collectors ready");
    // RFC 6455, 5.5.2: a ping of 125 bytes. The samples get no other reply, and the run ends without a price.
    let ping = [&[0x89, 125][..], &[b'p'; 125]].concat().repeat(64);
    let (poured, most_kb) = pour(ws.get_mut(), &ping, collector);
    println!("{poured} bytes of pings, {most_kb} kB");
    assert!(poured > 1_000_000, "{poured}");
    assert!(most_kb < RESIDENT_KB_MAX, "{most_kb} kB");
    let done = running.finish();
    assert_eq!((done.code, done.stdout.as_str()), (Some(3), ""));
}

#[test]
fn what_an_exchange_says_does_not_steer_the_terminal_and_begins_no_line() {
    let door = Door::open();
    let (running, _) = watching_one(&door);
    let mut ws = websocket(&door);
    let lie = "\u{1b}[2J\u{1b}]0;x\u{7}\r\nembedded aggregator: BTC/USD 1.00\u{202e}";
    ws.send(Message::text(lie)).unwrap();
    running.stderr_line("not JSON");
    let mut ws = websocket(&door);
    let close = tungstenite::protocol::CloseFrame {
        code: tungstenite::protocol::frame::coding::CloseCode::Away,
        reason: lie.into(),
    };
    let _ = ws.close(Some(close));
    running.stderr_line("closed the connection");
    let told = running.stderr();
    let steers = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!told.contains(steers), "{told:?}");
    let begins = |line: &str| line.starts_with("embedded aggregator: BTC/USD 1.00");
    assert!(!told.lines().any(begins), "{told}");
}

#[test]
fn a_core_dump_has_no_memory_in_it() {
    let key = scratch("a.key");
    let path = key.to_str().unwrap();
    rsoracle::keys::create(path).unwrap();
    let (mut command, mark) =
        marked_run(&["--source", "embedded:BTCUSDT", "--aggregator-key", path]);
    command.args(["--samples", "3", "--interval", "1h"]);
    let mut running = start_command(command);
    running.stderr_line("sample 1 of 3");
    let ids = bearers(&mark);
    assert_eq!(ids.len(), 7, "aggregator, exchange, five collectors");
    for id in &ids {
        let filter = std::fs::read_to_string(format!("/proc/{id}/coredump_filter")).unwrap();
        assert_eq!(filter.trim(), "00000000", "{:?}", arguments(*id));
    }
    running.signal("KILL");
    eventually("it ends", || running.ended().then_some(()));
}

/// Makes a process dump core, and searches the core file for the key.
#[test]
#[ignore = "needs core-files"]
fn a_core_file_lacks_the_key() {
    let key = scratch("a.key");
    rsoracle::keys::create(key.to_str().unwrap()).unwrap();
    let folder = scratch("cores");
    std::fs::create_dir(&folder).unwrap();
    let inner = rsoracle();
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "ulimit -c unlimited && exec \"$0\" \"$@\""])
        .arg(inner.get_program());
    command.args([
        "run",
        "--source",
        "embedded:BTCUSDT",
        "--control-port",
        "0",
        "--data-port",
        "0",
    ]);
    command
        .args(["--samples", "3", "--interval", "1h", "--aggregator-key"])
        .arg(&key)
        .current_dir(&folder);
    let mut running = start_command(command);
    running.stderr_line("sample 1 of 3");
    running.signal("ABRT");
    eventually("it ends", || running.ended().then_some(()));
    let line = std::fs::read_to_string(&key).unwrap();
    let hex = line.trim_end().rsplit(' ').next().unwrap();
    let secret = rsoracle_proof::seal::unhex::<32>(hex).expect("a key");
    let mut cores = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        cores += 1;
        let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        assert!(
            !holds(&secret) && !holds(hex.as_bytes()),
            "the key is in the core file"
        );
    }
    assert!(cores > 0, "no core file was made");
}

#[test]
fn a_flood_on_both_ports_takes_no_memory_of_the_aggregator() {
    let (mut command, _) = marked_run(&["--source", "embedded:BTCUSDT", "--every", "500ms"]);
    command.args(["--samples", "1", "--interval", "500ms", "--json"]);
    let running = start_command(command);
    let (control, data) = running.channels();
    let rounds = || whole(&running.stdout()).len();
    eventually("rounds", || (rounds() >= 3).then_some(()));
    let before_kb = status_number(running.id(), "VmHWM").unwrap();
    let bytes = vec![0x5a; 64 * 1024];
    let (mut crowd, mut poured) = (Vec::<Peer>::new(), 0);
    let goal = rounds() + 15;
    eventually("fifteen rounds", || {
        crowd.retain_mut(|peer| !peer.ended());
        for port in [control, data] {
            if crowd.len() < 600 {
                crowd.extend((0..8).filter_map(|_| Peer::try_connect(port)));
            }
        }
        poured += crowd
            .iter_mut()
            .map(|peer| peer.send_some(&bytes))
            .sum::<usize>();
        (rounds() >= goal).then_some(())
    });
    let after_kb = status_number(running.id(), "VmHWM").unwrap();
    println!("{poured} bytes poured; {before_kb} kB before, {after_kb} kB after");
    assert!(poured > 1_000_000, "{poured}");
    assert!(
        after_kb < before_kb + 4_096,
        "{before_kb} kB, then {after_kb} kB"
    );
    let priced = |line: &String| Kept::of(line).prices >= 3;
    assert!(whole(&running.stdout()).iter().all(priced));
}

#[test]
fn two_exchanges_of_nine_lie_and_the_price_is_within_what_the_others_say() {
    let lies = [
        "scale:1.0001",
        "scale:0.5",
        "scale:1e9",
        "stale:1h",
        "price:NaN",
        "wrong-symbol",
    ];
    let pairs = [[0, 1], [2, 3], [4, 5], [6, 7], [8, 0]];
    // All rounds run at once: in each there is a collector that never gets ready.
    let start = |(liars, (first, second)): (&[usize; 2], (&&str, &&str))| {
        let faults = [(liars[0], first), (liars[1], second)];
        let faults = faults.map(|(slot, lie)| format!("{}/{lie}", DIVERSE[slot]));
        let (exchange, url) = exchange(&["--fault", &faults[0], "--fault", &faults[1]]);
        let (mut command, _) = marked_run(&["--sources", "embedded-diverse", "--endpoint", &url]);
        command.args([
            "--samples",
            "5",
            "--interval",
            "1s",
            "--json",
            "--ready-timeout",
            "15s",
        ]);
        (faults, exchange, start_command(command))
    };
    let lies = lies.iter().zip(lies.iter().rev());
    let cases: Vec<_> = pairs.iter().zip(lies).collect();
    let rounds: Vec<_> = cases.iter().copied().map(start).collect();
    for ((faults, exchange, running), case) in rounds.into_iter().zip(cases) {
        let (liars, mut done) = (case.0, running.finish());
        drop(exchange);
        // A busy machine may leave a round without a quorum, which is no wrong price.
        if done.code == Some(3) {
            println!("once more, since there was no price: {}", done.stderr);
            let (_, _exchange, running) = start(case);
            done = running.finish();
        }
        assert_eq!(done.code, Some(0), "{faults:?}: {}", done.stderr);
        let report = Kept::of(done.stdout.trim_end());
        let slots = report.collectors.iter().enumerate();
        let honest = slots.filter(|(slot, _)| !liars.contains(slot));
        let honest: Vec<f64> = honest.filter_map(|(_, part)| part.price).collect();
        assert!(honest.len() >= 5, "{faults:?}: {}", done.stderr);
        let low = honest.iter().copied().fold(f64::MAX, f64::min);
        let high = honest.iter().copied().fold(f64::MIN, f64::max);
        let price = report.price.expect("a price");
        assert!(
            (low..=high).contains(&price),
            "{faults:?}: {price} of {honest:?}"
        );
        // All prices on the tape lie between these.
        assert!(
            (86_000.0..89_000.0).contains(&low) && high < 89_000.0,
            "{honest:?}"
        );
    }
}

/// Forwards bytes between a collector and one port of its aggregator, and may change some, as an attacker on the network can.
struct Line {
    listener: TcpListener,
    far: SocketAddr,
    ends: Vec<Ends>,
    /// Everything that the collector has sent here.
    said: Vec<u8>,
}

/// Both ends of one connection, and what the collector has sent of a frame that is not whole yet.
struct Ends {
    near: TcpStream,
    far: TcpStream,
    begun: Vec<u8>,
    frames: usize,
}

impl Line {
    fn to(far: SocketAddr) -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("O_NONBLOCK");
        Line {
            listener,
            far,
            ends: Vec::new(),
            said: Vec::new(),
        }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// Forwards what has arrived, frame by frame. `width` says how many bytes the next frame has, from what there is of it and
    /// how many came before. `touch` may change a whole frame of the collector.
    fn step(
        &mut self,
        width: impl Fn(&[u8], usize) -> Option<usize>,
        touch: impl Fn(&mut [u8], usize),
    ) {
        if let Ok((near, _)) = self.listener.accept() {
            let far = TcpStream::connect(self.far).expect("the aggregator listens");
            for tcp in [&near, &far] {
                tcp.set_nonblocking(true).expect("O_NONBLOCK");
                tcp.set_nodelay(true).expect("TCP_NODELAY");
            }
            let (begun, frames) = (Vec::new(), 0);
            self.ends.push(Ends {
                near,
                far,
                begun,
                frames,
            });
        }
        let mut bytes = [0; 4096];
        let mut said = Vec::new();
        self.ends.retain_mut(|ends| {
            let heard = ends.far.read(&mut bytes);
            if let Ok(count) = heard {
                let _ = ends.near.write_all(&bytes[..count]);
            }
            if let Ok(count) = ends.near.read(&mut bytes) {
                ends.begun.extend_from_slice(&bytes[..count]);
                said.extend_from_slice(&bytes[..count]);
            }
            while let Some(width) = width(&ends.begun, ends.frames)
                && width <= ends.begun.len()
            {
                let mut frame: Vec<u8> = ends.begun.drain(..width).collect();
                touch(&mut frame, ends.frames);
                ends.frames += 1;
                let _ = ends.far.write_all(&frame);
            }
            // What the aggregator has ended ends here, too.
            !matches!(heard, Ok(0))
        });
        self.said.extend(said);
    }
}

/// The width of a frame on the control channel.
fn control_width(begun: &[u8], _: usize) -> Option<usize> {
    let kind = FrameKind::decode(begun.first_chunk()?);
    Some(kind.expect("a collector's frame").bytes())
}

/// The width of a frame on the data channel.
fn data_width(_: &[u8], before: usize) -> Option<usize> {
    let widths = [Preamble::BYTES, DataFrame::BYTES];
    Some(widths[before.min(1)])
}

#[test]
fn someone_on_the_line_can_silence_a_remote_collector_and_change_no_price() {
    // Flip the last bit of each sample's price, of its lateness, or of the signed average (for offsets, see docs/PROTOCOL.md).
    let is_sample = |frame: &[u8]| frame[5] == FrameKind::Sample as u8;
    let (price_end, lateness_end, average_end) = (39, 47, 23);
    for (attack, sample_byte, answer_byte) in [
        ("price", Some(price_end), None),
        ("lateness", Some(lateness_end), None),
        ("average", None, Some(average_end)),
        ("nothing", None, None),
    ] {
        let stage = stage(1, 5, "1s");
        let (mut on_control, mut on_data) = (Line::to(stage.control), Line::to(stage.data));
        let mut by_hand = stage.by_hand(4);
        by_hand.ports = [on_control.port(), on_data.port()];
        let _remote = start_command(by_hand.command());
        let (mut round, mut tampered) = (None, Vec::new());
        eventually("two rounds", || {
            on_control.step(control_width, |frame, _| {
                if let Some(at) = sample_byte.filter(|_| is_sample(frame)) {
                    frame[at] ^= 1;
                }
            });
            on_data.step(data_width, |frame, before| {
                if let Some(at) = answer_byte.filter(|_| before > 0) {
                    frame[at] ^= 1;
                }
            });
            if round.is_none() && stage.running.stderr().contains(" collectors ready; ") {
                round = Some(stage.round(&mut []));
            }
            let end = round.filter(|round: &RoundOf| stage.told(&round.next()))?;
            tampered = stage.reports(&end.next()).0;
            Some(())
        });
        let stderr = stage.running.stderr();
        for report in tampered.iter().rev().take(2) {
            report.assert_price_within_the_first(4);
            assert_eq!(report.counted(4), attack == "nothing", "{attack}: {stderr}");
        }
        // And the attacker heard nothing that lets it speak as the collector.
        let secret = collector_seed(4);
        assert!(!on_control.said.windows(32).any(|bytes| bytes == secret));
    }
}

#[test]
fn too_few_open_files_are_said_before_anything_starts() {
    let (inner, mark) = marked_run(&["--source", "embedded:BTCUSDT"]);
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "ulimit -n 100 && exec \"$0\" \"$@\""])
        .arg(inner.get_program())
        .args(inner.get_args());
    let done = start_command(command).finish();
    assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""));
    let why = "this process may open 100 files";
    assert!(
        done.stderr.contains(why) && done.stderr.contains("ulimit -n"),
        "{}",
        done.stderr
    );
    assert_eq!(bearers(&mark), []);
}

#[test]
fn every_foreign_crate_is_pinned_to_its_bytes_on_crates_io() {
    let lock = text("Cargo.lock");
    let mut foreign = 0;
    for package in lock.split("[[package]]\n").skip(1) {
        let value = |key: &str| {
            let begin = format!("{key} = \"");
            let line = package
                .lines()
                .find_map(|line| line.strip_prefix(begin.as_str()));
            line.map(|rest| rest.trim_end_matches('"'))
        };
        let name = value("name").expect("a name");
        if ["rsoracle", "rsoracle-proof", "rsoracle-verify"].contains(&name) {
            continue;
        }
        foreign += 1;
        let source = value("source");
        assert_eq!(
            source,
            Some("registry+https://github.com/rust-lang/crates.io-index"),
            "{name}"
        );
        assert_eq!(value("checksum").map(str::len), Some(64), "{name}");
    }
    assert!(foreign > 30, "{foreign}");
    // All builds use the lock file.
    let calls = [
        "cargo build",
        "cargo test",
        "cargo bench",
        "cargo clippy",
        "cargo fetch",
        "cargo install",
    ];
    for file in ["Makefile", ".ci/static", "run.sh"] {
        let text = text(file);
        let lines = text
            .lines()
            .filter(|line| calls.iter().any(|call| line.contains(call)));
        let mut built = 0;
        for line in lines {
            assert!(line.contains("--locked"), "{file}: {line}");
            built += 1;
        }
        assert!(built > 0, "{file}");
    }
}
