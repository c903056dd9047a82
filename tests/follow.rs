//! `rsoracle follow` against scripted servers: whatever they do, it loses nothing, doubles nothing and believes nothing false.

mod following;
mod signed;
mod support;
mod witness;

use following::*;
use signed::Says::*;
use signed::*;
use support::*;
use witness::*;

const SOURCE: &str = "binance:BTCUSDC";

/// An aggregator with a key of its own.
fn aggregator(number: u8, n: u8) -> Oracle {
    Oracle {
        aggregator: number,
        ..Oracle::new(n, SOURCE)
    }
}

fn roster(oracle: &Oracle) -> String {
    roster_file(&roster_of(&oracle.terms))
}

/// How many lines on standard error have this part.
fn count(running: &Running, part: &str) -> usize {
    running.stderr().matches(part).count()
}

/// A path for a journal.
fn journal() -> String {
    scratch("kept.jsonl").to_str().unwrap().to_owned()
}

/// The journal of a server among several.
fn of(journal: &str, server: &Server) -> String {
    format!("{journal}.{}", server.address.to_string().replace(':', "-"))
}

/// Cuts at every byte of an event: each connection gives one report and a part of the next, and is closed.
#[test]
fn a_stream_may_be_cut_at_every_byte_and_nothing_is_lost_or_doubled() {
    const SERVERS: usize = 16;
    let mut oracle = aggregator(0, 1);
    let roster = roster(&oracle);
    let first = lines(&mut oracle, 0, 1);
    let bytes = event(1_000, &first[0]).len();
    let rounds = bytes / SERVERS + 2;
    let all = [&first[..], &lines(&mut oracle, 1, rounds as u64)].concat();
    let server = |at: usize| {
        let whole = all.clone();
        Server::new(&first, move |asked| {
            let Some(after) = asked.after else {
                return (asked.honest(), Then::Closes);
            };
            let one = whole
                .get(after)
                .map_or(String::new(), |line| event(after + 1, line));
            let other = whole
                .get(after + 1)
                .map_or(String::new(), |line| event(after + 2, line));
            let cut = (after * SERVERS + at).min(other.len());
            let sent = [HEAD, &one, &other[..cut]].concat();
            (sent.into_bytes(), Then::Closes)
        })
    };
    let mut servers: Vec<Server> = (0..SERVERS).map(server).collect();
    let journal = journal();
    let follow = follow(&servers, &roster, &["--journal", &journal]);
    let rows = rows_until(&follow, &mut servers, all.len());
    assert_rounds(&rows, 0);
    until("all journals are whole", &mut servers, |servers| {
        let is_whole = |server: &Server| kept(of(&journal, server)).len() == all.len();
        servers.iter().all(is_whole).then_some(())
    });
    for server in &servers {
        assert_eq!(kept(of(&journal, server)), all);
        assert!(std::fs::metadata(of(&journal, server) + ".part2").is_err());
    }
    let reconnects: usize = servers.iter().map(|server| server.asked.len() - 1).sum();
    assert!(reconnects >= 1_000, "{reconnects}");
    let text = follow.stderr();
    assert!(text.lines().count() <= 3 * SERVERS, "{text}");
    assert_eq!(status_number(follow.id(), "Threads"), Some(1));
    assert_eq!(follow.stdout().lines().count(), all.len());
    let files: Vec<String> = servers.iter().map(|server| of(&journal, server)).collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let done = verified(&roster, &files);
    assert_eq!(done.code, Some(0), "{}", done.stdout);
}

#[test]
fn the_reports_of_two_aggregators_are_pooled_and_one_that_falls_silent_costs_one_wait() {
    let (mut a, mut b) = (aggregator(20, 5), aggregator(21, 5));
    let roster = roster(&a);
    let [mut of_a, mut of_b] = [lines(&mut a, 0, 1), lines(&mut b, 0, 1)];
    let mut servers = [Server::honest(&of_a), Server::honest(&of_b)];
    let journal = journal();
    let follow = follow(&servers, &roster, &["--journal", &journal]);
    assert_rounds(&rows_until(&follow, &mut servers, 1), 0);
    // Each leaves out two answers; together they have all. Both reports of a second come at once.
    let says = |left_out: [usize; 2], round: u64| {
        let mut says = [1.0, 2.0, 3.0, 4.0, 9.0].map(|more| Price(100.0 + round as f64 + more));
        left_out.iter().for_each(|slot| says[*slot] = Nothing);
        says
    };
    for round in 1..5 {
        let start_us = START_US + round * GRID_US;
        of_a.push(a.line(start_us, &says([0, 1], round)));
        of_b.push(b.line(start_us, &says([3, 4], round)));
    }
    (servers[1].lines, servers[0].lines) = (of_b.clone(), of_a.clone());
    let rows = rows_until(&follow, &mut servers, 5);
    for (round, row) in (1..).zip(&rows[1..]) {
        assert_eq!(row.round_start_us, START_US + round * GRID_US);
        assert_eq!(
            (row.price, row.prices),
            (Some(103.0 + round as f64), 5),
            "{row:?}"
        );
        assert_eq!((row.sources, row.sources_followed), (2, 2));
        assert!(
            row.differences[0].contains("left out the answers of slots 0, 1"),
            "{row:?}"
        );
    }
    // B says nothing for a while. Then it has all at once, too late for what was printed.
    let more = lines(&mut a, 5, 20);
    of_a.extend(more);
    servers[0].lines = of_a.clone();
    let rows = rows_until(&follow, &mut servers, 25);
    assert_rounds(&rows[5..], 5);
    assert!(rows[5..].iter().all(|row| row.sources == 1));
    assert_eq!(
        count(&follow, "it is not waited for until it has caught up"),
        1
    );
    of_b.extend(lines(&mut b, 5, 20));
    servers[1].lines = of_b.clone();
    let kept_b = of(&journal, &servers[1]);
    until("B's reports are kept", &mut servers, |_| {
        (kept(&kept_b).len() == 25).then_some(())
    });
    assert_eq!(follow.stdout().lines().count(), 25, "nothing is revised");
    // It has caught up, and counts again.
    of_a.extend(lines(&mut a, 25, 1));
    of_b.extend(lines(&mut b, 25, 1));
    (servers[1].lines, servers[0].lines) = (of_b.clone(), of_a.clone());
    let rows = rows_until(&follow, &mut servers, 26);
    assert_eq!((rows[25].sources, rows[25].price), (2, Some(125.0)));
    assert_eq!(kept(of(&journal, &servers[0])), of_a);
    assert_eq!(kept(&kept_b), of_b);
    let done = verified(&roster, &[&of(&journal, &servers[0]), &kept_b]);
    assert_eq!(done.code, Some(0), "{}", done.stdout);
}

/// Makes something else of a report's line.
type Lie = Box<dyn Fn(&str) -> String>;

/// What a lying server makes of the reports of an honest one.
fn lies() -> Vec<(&'static str, Lie)> {
    let mut stranger = aggregator(30, 5);
    // Other collectors: not those of the roster.
    for (at, seat) in (40..).zip(&mut stranger.terms.seats) {
        seat.key = Some(key(at).public());
    }
    let mut future = aggregator(31, 5);
    let ahead_us = start_before(rsoracle::system::now::wall_us() + 3_600_000_000);
    future.line(START_US, &[Price(1.0); 5]);
    let future = future.line(ahead_us, &[Price(1.0); 5]);
    let mut unsigned = aggregator(32, 5);
    let other_terms = {
        unsigned.terms.exchanges_min = 0;
        unsigned.line(START_US + 7 * GRID_US, &[Price(1.0); 5])
    };
    let flipped = |line: &str| line.replacen("\"price\":10", "\"price\":11", 1);
    vec![
        ("differs from what its own samples", Box::new(flipped)),
        (
            "signature",
            Box::new(|line: &str| {
                let at = line.rfind("\"signature\":\"").unwrap() + 13;
                let digit = if &line[at..at + 1] == "0" { "1" } else { "0" };
                format!("{}{digit}{}", &line[..at], &line[at + 1..])
            }),
        ),
        (
            "starts in the future",
            Box::new(move |_: &str| future.clone()),
        ),
        (
            "minimum number of exchanges",
            Box::new(move |_: &str| other_terms.clone()),
        ),
        ("is sent as", Box::new(|line: &str| line.to_owned())),
        (
            "not a report",
            Box::new(|_: &str| "{\"price\":1}".to_owned()),
        ),
        ("not a report", Box::new(|_: &str| "x".repeat(10_000))),
    ]
}

#[test]
fn a_server_that_lies_is_named_once_and_costs_nobody_anything() {
    let mut oracle = aggregator(0, 5);
    let roster = roster(&oracle);
    let first = lines(&mut oracle, 0, 1);
    let all = [&first[..], &lines(&mut oracle, 1, 30)].concat();
    let mut servers = vec![Server::honest(&first)];
    let lies = lies();
    let parts: Vec<&str> = lies.iter().map(|(part, _)| *part).collect();
    for (part, lie) in lies {
        let whole = all.clone();
        servers.push(Server::new(&first, move |asked| {
            let after = asked.after.unwrap_or(0);
            let lied = whole
                .iter()
                .enumerate()
                .skip(after)
                .map(|(at, line)| match (part, at) {
                    ("is sent as", _) => event(at + 1, &whole[(at + 1) % whole.len()]),
                    (_, 0) => event(1, line),
                    _ => event(at + 1, &lie(line)),
                });
            let sent: String = lied.collect();
            ((HEAD.to_owned() + &sent).into_bytes(), Then::Closes)
        }));
    }
    let follow = follow(&servers, &roster, &[]);
    rows_until(&follow, &mut servers, 1);
    for (at, part) in parts.iter().enumerate() {
        let server = servers[at + 1].url();
        let line = named(
            &follow,
            &mut servers,
            &format!("{server}: BTC/USD: report "),
        );
        assert!(line.contains(part), "{part}: {line}");
    }
    servers[0].lines = all.clone();
    let rows = rows_until(&follow, &mut servers, all.len());
    assert_rounds(&rows, 0);
    let text = follow.stderr();
    for server in &servers[1..] {
        assert!(text.matches(&server.url()).count() <= 4, "{text}");
    }
    assert!(!text.contains(&servers[0].url()), "{text}");
}

#[test]
fn reports_of_the_future_are_taken_when_their_time_has_come() {
    let mut oracle = aggregator(0, 5);
    let roster = roster(&oracle);
    let now_us = start_before(rsoracle::system::now::wall_us());
    // The third one is more than the five seconds ahead that clocks may differ.
    let starts = [-2, -1, 8, 9].map(|s| now_us.wrapping_add_signed(s * 1_000_000));
    let all: Vec<String> = (1..)
        .zip(starts)
        .map(|(round, start_us)| oracle.line(start_us, &[Price(100.0 + f64::from(round)); 5]))
        .collect();
    let mut servers = [Server::honest(&all[..1])];
    let file = journal();
    std::fs::write(&file, all[0].clone() + "\n").unwrap();
    let flags = [file.as_str(), "--journal", &journal()];
    let follow = follow(&servers, &roster, &flags);
    rows_until(&follow, &mut servers, 1);
    servers[0].lines = all.clone();
    std::fs::write(&file, all.join("\n") + "\n").unwrap();
    let said = named(
        &follow,
        &mut servers,
        "report 3: its round starts in the future",
    );
    assert!(said.contains("it is taken when its time has come"));
    assert!(rsoracle::system::now::wall_us() < starts[2]);
    let rows = rows_until(&follow, &mut servers, 4);
    let found: Vec<(u64, usize)> = rows
        .iter()
        .map(|row| (row.round_start_us, row.sources))
        .collect();
    assert_eq!(found, starts.map(|start_us| (start_us, 2)));
    assert!(!follow.stderr().contains("does not have"));
}

#[test]
fn a_journal_that_is_replaced_is_read_though_a_report_of_the_future_was_in_it() {
    let mut oracle = aggregator(0, 5);
    let roster = roster(&oracle);
    let now_us = start_before(rsoracle::system::now::wall_us());
    let mut line = |off_s: i64| {
        let start_us = now_us.wrapping_add_signed(off_s * 1_000_000);
        oracle.line(start_us, &[Price(100.0); 5])
    };
    let (past, future) = (line(-2), line(3_600));
    let file = journal();
    std::fs::write(&file, past.clone() + "\n").unwrap();
    let follow = start(&["follow", "--json", "--roster", &roster, &file]);
    rows_until(&follow, &mut [], 1);
    std::fs::write(&file, format!("{past}\n{future}\n")).unwrap();
    named(&follow, &mut [], "report 2: its round starts in the future");
    // As after a restore: the same first report, and another one after it.
    let mut oracle = aggregator(0, 5);
    oracle.line(now_us - 2_000_000, &[Price(100.0); 5]);
    let other = oracle.line(now_us - 1_000_000, &[Price(101.0); 5]);
    let fresh = format!("{file}.fresh");
    std::fs::write(&fresh, format!("{past}\n{other}\n")).unwrap();
    std::fs::rename(&fresh, &file).unwrap();
    let rows = rows_until(&follow, &mut [], 2);
    assert_eq!(rows[1].price, Some(101.0));
}

#[test]
fn what_is_replayed_or_sent_twice_is_printed_once() {
    let mut oracle = aggregator(0, 5);
    let roster = roster(&oracle);
    let first = lines(&mut oracle, 0, 1);
    let all = [&first[..], &lines(&mut oracle, 1, 20)].concat();
    let whole = all.clone();
    let replaying = Server::new(&first, move |asked| {
        let Some(after) = asked.after else {
            return (asked.honest(), Then::Closes);
        };
        // Whatever is asked for, everything from the first on, each twice, and backwards too.
        let numbered = || whole.iter().enumerate();
        let mut sent = HEAD.to_owned();
        numbered().for_each(|(at, line)| sent += &event(at + 1, line).repeat(2));
        numbered()
            .rev()
            .for_each(|(at, line)| sent += &event(at + 1, line));
        assert!(after >= 1);
        (sent.into_bytes(), Then::Holds)
    });
    let mut servers = [replaying];
    let journal = journal();
    let follow = follow(&servers, &roster, &["--journal", &journal]);
    assert_rounds(&rows_until(&follow, &mut servers, all.len()), 0);
    named(&follow, &mut servers, "older than its last one");
    assert_eq!(kept(&journal), all);
    assert_eq!(follow.stdout().lines().count(), all.len());
    assert_eq!(count(&follow, "older than its last one"), 1);
    assert_eq!(verified(&roster, &[&journal]).code, Some(0));
}

#[test]
fn numbers_that_are_skipped_are_asked_for_again_and_named_if_nobody_has_them() {
    let mut oracle = aggregator(0, 5);
    let roster = roster(&oracle);
    let first = lines(&mut oracle, 0, 1);
    let all = [&first[..], &lines(&mut oracle, 1, 20)].concat();
    let whole = all.clone();
    let mut skips = 0;
    let server = Server::new(&first, move |asked| {
        let Some(after) = asked.after else {
            return (asked.honest(), Then::Closes);
        };
        // Report 5 is skipped once, 10 to 12 always.
        let numbered = (1..).zip(&whole).skip(after);
        skips += usize::from(after < 5);
        let once = skips;
        let lacks = |number: usize| (number == 5 && once == 1) || (10..13).contains(&number);
        let sent = numbered.filter(|(number, _)| !lacks(*number));
        let sent: String = sent.map(|(number, line)| event(number, line)).collect();
        ((HEAD.to_owned() + &sent).into_bytes(), Then::Holds)
    });
    let mut servers = [server];
    let journal = journal();
    let follow = follow(&servers, &roster, &["--journal", &journal]);
    let rows = rows_until(&follow, &mut servers, 18);
    assert_rounds(&rows[..9], 0);
    assert_rounds(&rows[9..], 12);
    let missing: Vec<u64> = rows.iter().map(|row| row.rounds_missing).collect();
    assert_eq!((missing[9], missing.iter().sum::<u64>()), (3, 3));
    let line = named(&follow, &mut servers, "does not have the reports");
    assert!(
        line.ends_with("BTC/USD: it does not have the reports 10 to 12"),
        "{line}"
    );
    named(
        &follow,
        &mut servers,
        "no source has a report of 3 rounds before that of",
    );
    let part = format!("{journal}.part2");
    assert_eq!(
        (kept(&journal), kept(&part)),
        (all[..9].to_vec(), all[12..].to_vec())
    );
    for file in [&*journal, &part] {
        assert_eq!(verified(&roster, &[file]).code, Some(0), "{file}");
    }
}

#[test]
fn a_gap_of_one_server_is_filled_from_another() {
    let mut oracle = aggregator(0, 5);
    let roster = roster(&oracle);
    let first = lines(&mut oracle, 0, 1);
    let all = [&first[..], &lines(&mut oracle, 1, 20)].concat();
    let lacking = |from: usize| {
        let whole = all.clone();
        Server::new(&first, move |asked| {
            let Some(after) = asked.after else {
                return (asked.honest(), Then::Closes);
            };
            let numbered = (1..).zip(&whole).skip(after);
            let sent = numbered.filter(|(number, _)| !(from..from + 4).contains(number));
            let sent: String = sent.map(|(number, line)| event(number, line)).collect();
            ((HEAD.to_owned() + &sent).into_bytes(), Then::Holds)
        })
    };
    let mut servers = [lacking(4), lacking(10)];
    let follow = follow(&servers, &roster, &[]);
    let rows = rows_until(&follow, &mut servers, all.len());
    assert_rounds(&rows, 0);
    assert_eq!(rows.iter().map(|row| row.rounds_missing).sum::<u64>(), 0);
}

/// Servers that answer with anything but reports, and go on for ever where they can.
fn nuisances(first: &[String]) -> Vec<Server> {
    const ENDLESS: usize = 40 << 20;
    let plain = |bytes: Vec<u8>, then: Then| Server::new(first, move |_| (bytes.clone(), then));
    let head = |more: &str| {
        HEAD.replace("\r\n\r\n", &format!("\r\n{more}\r\n\r\n"))
            .into_bytes()
    };
    vec![
        plain(
            [HEAD.as_bytes(), b"data: ", &vec![b'x'; ENDLESS]].concat(),
            Then::Holds,
        ),
        plain(
            [HEAD.as_bytes(), &b":\n".repeat(ENDLESS / 2)].concat(),
            Then::Holds,
        ),
        plain(
            [HEAD.as_bytes(), &b"data: x\n".repeat(ENDLESS / 8)].concat(),
            Then::Holds,
        ),
        plain(
            [HEAD.as_bytes(), &b"data: x\n\n".repeat(ENDLESS / 9)].concat(),
            Then::Holds,
        ),
        plain(
            [
                &head("Transfer-Encoding: chunked"),
                &vec![b'1'; ENDLESS][..],
            ]
            .concat(),
            Then::Holds,
        ),
        plain(
            [b"HTTP/1.1 200 OK\r\n", &b"A: b\r\n".repeat(ENDLESS / 6)[..]].concat(),
            Then::Holds,
        ),
        plain(
            b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\r\n".to_vec(),
            Then::Closes,
        ),
        plain(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>".to_vec(),
            Then::Closes,
        ),
        plain(b"SSH-2.0-OpenSSH\r\n".to_vec(), Then::Holds),
        plain(Vec::new(), Then::Closes),
        // Silent, before and after the head.
        plain(Vec::new(), Then::Holds),
        plain(HEAD.as_bytes().to_vec(), Then::Holds),
    ]
}

#[test]
fn servers_that_flood_or_say_nothing_cost_the_others_nothing_and_little_memory() {
    let mut oracle = aggregator(0, 5);
    let roster = roster(&oracle);
    let first = lines(&mut oracle, 0, 1);
    let all = [&first[..], &lines(&mut oracle, 1, 200)].concat();
    let mut servers = nuisances(&first);
    servers.push(Server::honest(&first));
    let follow = follow(&servers, &roster, &[]);
    rows_until(&follow, &mut servers, 1);
    let last = servers.len() - 1;
    for most in [20, 60, 100, all.len()] {
        servers[last].lines = all[..most].to_vec();
        assert_rounds(&rows_until(&follow, &mut servers, most), 0);
    }
    let peak_kb = status_number(follow.id(), "VmHWM").expect("it is running");
    assert!(peak_kb < 48 * 1024, "{peak_kb} kB");
    assert_eq!(status_number(follow.id(), "Threads"), Some(1));
    let text = follow.stderr();
    for server in &servers {
        assert!(text.matches(&server.url()).count() <= 4, "{text}");
    }
    assert!(!text.contains(&servers[last].url()), "{text}");
}

#[test]
fn chunks_and_carriage_returns_and_a_path_before_it_make_no_difference() {
    let mut oracle = aggregator(0, 5);
    let roster = roster(&oracle);
    let all = lines(&mut oracle, 0, 10);
    let whole = all.clone();
    let mut servers = [Server::new(&all[..1], move |asked| {
        let line = asked.head.lines().next().unwrap().to_owned();
        assert_eq!(line, "GET /a/b/v1/stream?feed=BTC%2FUSD HTTP/1.1");
        let begin = HEAD.replace("event-stream", "event-stream; charset=utf-8");
        let mut sent = begin.replace("\r\n\r\n", "\r\ntransfer-encoding: Chunked\r\n\r\n");
        for (number, line) in (1..).zip(&whole) {
            let event = event(number, line).replace('\n', "\r\n");
            for piece in event.as_bytes().chunks(700) {
                let piece = std::str::from_utf8(piece).unwrap();
                sent += &format!("{:x}\r\n{piece}\r\n", piece.len());
            }
        }
        ((sent + "0\r\n\r\n").into_bytes(), Then::Holds)
    })];
    let url = servers[0].url() + "/a/b/";
    let follow = start(&["follow", &url, "--json", "--roster", &roster]);
    assert_rounds(&rows_until(&follow, &mut servers, 10), 0);
    named(&follow, &mut servers, "it has ended the stream");
}

#[test]
fn named_ends_of_streams_say_where_to_go_on() {
    let mut oracle = aggregator(0, 5);
    let roster = roster(&oracle);
    let first = lines(&mut oracle, 0, 1);
    let all = [&first[..], &lines(&mut oracle, 1, 20)].concat();
    let whole = all.clone();
    let some = move |from: usize, to: usize, end: &str| {
        let numbered = (from + 1..).zip(&whole[from..to]);
        let events: String = numbered.map(|(number, line)| event(number, line)).collect();
        (format!("{HEAD}{events}{end}").into_bytes(), Then::Closes)
    };
    let mut servers = [Server::new(&first, move |asked| {
        match (asked.connection, asked.after) {
            (0, None) => some(0, 3, "event: too-slow\ndata: {\"next\":4}\n\n"),
            (1, Some(3)) => some(
                0,
                0,
                "event: cursor-too-old\ndata: {\"error\":\"cursor-too-old\",\"first\":8}\n\n",
            ),
            (2, Some(7)) => some(7, 12, "event: journal-replaced\ndata: {}\n\n"),
            (3, None) => some(14, 15, ""),
            (4, Some(15)) => some(0, 0, "event: cursor-ahead\ndata: {\"last\":2}\n\n"),
            (5, None) => some(1, 2, ""),
            (6, Some(2)) => (some(2, 20, "").0, Then::Holds),
            other => panic!("{other:?}"),
        }
    })];
    let follow = follow(&servers, &roster, &[]);
    let rows = rows_until(&follow, &mut servers, 3 + 5 + 1 + 5);
    for (rows, first) in [
        (&rows[..3], 0),
        (&rows[3..8], 7),
        (&rows[8..9], 14),
        (&rows[9..], 15),
    ] {
        assert_rounds(rows, first);
    }
    let line = named(&follow, &mut servers, "does not have the reports");
    assert!(line.ends_with("4 to 7"), "{line}");
}

#[test]
fn a_price_that_is_old_is_marked_and_missing_ones_are_named() {
    let mut oracle = aggregator(0, 5);
    let roster = roster(&oracle);
    let line = oracle.line(START_US, &[Price(1.0), Nothing, Nothing, Nothing, Nothing]);
    let other = oracle.line(START_US + GRID_US, &[Price(2.0); 5]);
    let mut servers = [Server::honest(&[line])];
    let follow = follow(&servers, &roster, &["--max-age", "1s"]);
    let row = rows_until(&follow, &mut servers, 1).remove(0);
    assert_eq!(
        (row.price, row.decision.as_str(), row.fresh),
        (None, "no-quorum", Some(false))
    );
    servers[0].lines.push(other.clone());
    let row = rows_until(&follow, &mut servers, 2).remove(1);
    assert_eq!((row.price, row.fresh), (Some(2.0), Some(false)));
    named(&follow, &mut servers, "BTC/USD: no fresh price for ");
    // The same in words.
    let url = servers[0].url();
    let words = start(&["follow", &url, "--roster", &roster, "--max-age", "1s"]);
    let text = until("a line", &mut servers, |_| {
        Some(words.stdout()).filter(|text| text.ends_with('\n'))
    });
    let right = "2023-11-14T22:13:20.100Z BTC/USD 2.000000  5 of 5 prices, STALE: ";
    assert!(text.starts_with(right), "{text}");
}

#[test]
fn it_goes_on_after_its_journal_and_removes_what_a_crash_cut() {
    let mut oracle = aggregator(0, 5);
    let roster = roster(&oracle);
    let first = lines(&mut oracle, 0, 3);
    let all = [&first[..], &lines(&mut oracle, 3, 20)].concat();
    let mut servers = [Server::honest(&first)];
    let journal = journal();
    let before = follow(&servers, &roster, &["--journal", &journal]);
    assert_eq!(rows_until(&before, &mut servers, 1)[0].price, Some(102.0));
    // Another one cannot write it too.
    let other = follow(&servers, &roster, &["--journal", &journal]);
    let done = finished(other, &mut servers);
    assert_eq!(done.code, Some(1));
    assert!(
        done.stderr.contains("another process writes it"),
        "{}",
        done.stderr
    );
    servers[0].lines = all[..10].to_vec();
    rows_until(&before, &mut servers, 8);
    before.signal("KILL");
    finished(before, &mut servers);
    // A crash cut a line.
    let text = std::fs::read_to_string(&journal).unwrap();
    std::fs::write(&journal, text + &all[10][..100]).unwrap();
    servers[0].lines = all.clone();
    let after = follow(&servers, &roster, &["--journal", &journal]);
    let rows = rows_until(&after, &mut servers, all.len() - 10);
    assert_rounds(&rows, 10);
    assert_eq!(servers[0].asked.last(), Some(&Some(10)));
    assert_eq!(kept(&journal), all[2..]);
    assert_eq!(verified(&roster, &[&journal]).code, Some(0));
    // It goes on after its closed segments, too.
    after.signal("KILL");
    finished(after, &mut servers);
    assert_eq!(run(&["journal", "rotate", &journal]).code, Some(0));
    let more = [&all[..], &lines(&mut oracle, 23, 2)].concat();
    servers[0].lines = more.clone();
    let rotated = follow(&servers, &roster, &["--journal", &journal]);
    assert_rounds(&rows_until(&rotated, &mut servers, 2), 23);
    assert_eq!(servers[0].asked.last(), Some(&Some(23)));
    assert_eq!(kept(&journal), more[23..]);
    assert_eq!(verified(&roster, &[&journal]).code, Some(0));
    // Another file is not written to.
    let done = run(&[
        "follow",
        &servers[0].url(),
        "--roster",
        &roster,
        "--journal",
        &roster,
    ]);
    assert_eq!(done.code, Some(1));
    assert!(
        done.stderr.contains("a line that is no report"),
        "{}",
        done.stderr
    );
}

#[test]
fn it_ends_when_nobody_reads_what_it_prints() {
    let mut oracle = aggregator(0, 5);
    let roster = roster(&oracle);
    let all = lines(&mut oracle, 0, 3);
    let mut servers = [Server::honest(&all[..1])];
    let mut command = std::process::Command::new("sh");
    let binary = rsoracle().get_program().to_owned();
    command.args([
        "-c",
        "\"$1\" follow \"$2\" --roster \"$3\" | head -n 1",
        "sh",
    ]);
    command.arg(binary).args([&servers[0].url(), &roster]);
    let mut pipe = start_command(command);
    until("a line", &mut servers, |_| {
        pipe.stdout().ends_with('\n').then_some(())
    });
    until("its end", &mut servers, |servers| {
        // Each further round is an attempt to print.
        servers[0].lines = all.clone();
        pipe.ended().then_some(())
    });
}
