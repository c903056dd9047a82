//! `rsoracle follow --once`, its exit codes and its proofs; and `follow` with files, over TLS and with the real server.

mod following;
mod served;
mod signed;
mod support;
mod witness;

use following::*;
use served::{Book, Served};
use signed::Says::*;
use signed::*;
use std::fs::{self, OpenOptions};
use std::io::Write;
use support::*;
use witness::*;

const SOURCE: &str = "binance:BTCUSDC";

fn aggregator(number: u8) -> Oracle {
    Oracle {
        aggregator: number,
        ..Oracle::new(5, SOURCE)
    }
}

fn roster(oracle: &Oracle) -> String {
    roster_file(&roster_of(&oracle.terms))
}

/// Starts of the last rounds, which are fresh.
fn fresh_us() -> u64 {
    start_before(rsoracle::system::now::wall_us()) - 20 * GRID_US
}

/// Prices of five collectors.
fn all(price: f64) -> [Says; 5] {
    [Price(price); 5]
}

/// `follow --once --json` of these servers.
fn once(servers: &mut [Server], roster: &str, flags: &[&str]) -> Finished {
    let running = follow(
        servers,
        roster,
        &[&["--once", "--max-age", "1h"], flags].concat(),
    );
    finished(running, servers)
}

#[test]
fn the_newest_pooled_price_is_printed_and_the_code_says_whether_it_is_fresh() {
    let (mut a, mut b) = (aggregator(20), aggregator(21));
    let roster = roster(&a);
    let start_us = fresh_us();
    let lines = |oracle: &mut Oracle, left_out: usize, count: u64| -> Vec<String> {
        let mut says = [1.0, 2.0, 3.0, 4.0, 9.0].map(Price);
        says[left_out] = Nothing;
        let line = |round| oracle.line(start_us + round * GRID_US, &says);
        (0..count).map(line).collect()
    };
    let (of_a, of_b) = (lines(&mut a, 0, 5), lines(&mut b, 4, 4));
    // The newest round is known to A alone.
    let mut servers = [Server::honest(&of_a), Server::honest(&of_b)];
    let done = once(&mut servers, &roster, &[]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let row = rows(&done.stdout).remove(0);
    assert_eq!(
        (row.price, row.sources, row.fresh),
        (Some(3.5), 1, Some(true))
    );
    assert_eq!(row.round_start_us, start_us + 4 * GRID_US);
    // Both know the one before it.
    servers[0] = Server::honest(&of_a[..4]);
    let done = once(&mut servers, &roster, &[]);
    let row = rows(&done.stdout).remove(0);
    assert_eq!(
        (done.code, row.price, row.sources, row.prices),
        (Some(0), Some(3.0), 2, 5)
    );
    // A round without a price is no reason to show none, as long as an earlier one is fresh.
    let none = a.line(start_us + 5 * GRID_US, &[Nothing; 5]);
    servers[0] = Server::honest(&[&of_a[..], &[none]].concat());
    let done = once(&mut servers, &roster, &[]);
    let row = rows(&done.stdout).remove(0);
    assert_eq!((done.code, row.price), (Some(0), Some(3.5)));
    // In words.
    let urls = servers.each_ref().map(Server::url);
    let words = start(&[
        "follow",
        &urls[0],
        &urls[1],
        "--roster",
        &roster,
        "--once",
        "--max-age",
        "1h",
    ]);
    let done = finished(words, &mut servers);
    assert_eq!((done.code, done.stdout.lines().count()), (Some(0), 1));
    assert!(
        done.stdout
            .contains(" BTC/USD 3.500000  4 of 5 prices, 1 of 2 sources"),
        "{}",
        done.stdout
    );
}

#[test]
fn no_price_and_a_stale_one_have_code_3() {
    let mut oracle = aggregator(0);
    let roster = roster(&oracle);
    let old = lines(&mut oracle, 0, 3);
    let mut servers = [Server::honest(&old)];
    // Without --max-age there is a limit too.
    let running = follow(&servers, &roster, &["--once"]);
    let done = finished(running, &mut servers);
    let row = rows(&done.stdout).remove(0);
    assert_eq!(
        (done.code, row.price, row.fresh),
        (Some(3), Some(102.0), Some(false))
    );
    let none: Vec<String> = (3..30)
        .map(|round| oracle.line(START_US + round * GRID_US, &[Nothing; 5]))
        .collect();
    let mut servers = [Server::honest(&[old, none].concat())];
    let done = once(&mut servers, &roster, &[]);
    let row = rows(&done.stdout).remove(0);
    assert_eq!(
        (done.code, row.price, row.decision.as_str()),
        (Some(3), None, "no-quorum")
    );
    // A server whose journal has no report yet.
    let book = Book::new(START_US);
    let served = Served::start(&book.path, &[]);
    let url = format!("http://{}", served.address);
    let done = run(&["follow", &url, "--roster", &roster, "--once"]);
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (Some(3), ""),
        "{}",
        done.stderr
    );
}

#[test]
fn a_server_that_reads_its_journal_is_asked_again() {
    let mut oracle = aggregator(0);
    let roster = roster(&oracle);
    let line = oracle.line(fresh_us(), &all(5.0));
    let mut servers = [Server::new(&[line], |asked| {
        let refusal = "HTTP/1.1 503 Service Unavailable\r\n\r\n{\"error\":\"indexing\"}\n";
        match asked.connection {
            0..3 => (refusal.as_bytes().to_vec(), Then::Closes),
            _ => (asked.honest(), Then::Goes),
        }
    })];
    let done = once(&mut servers, &roster, &[]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(rows(&done.stdout)[0].price, Some(5.0));
}

#[test]
fn a_lie_of_a_collector_has_code_1_and_its_proof_is_kept() {
    let (mut a, mut b) = (aggregator(20), aggregator(21));
    let roster = roster(&a);
    let start_us = fresh_us();
    let mut lied = all(5.0);
    lied[2] = Price(6.0);
    let (of_a, of_b) = (a.line(start_us, &all(5.0)), b.line(start_us, &lied));
    let mut servers = [
        Server::honest(std::slice::from_ref(&of_a)),
        Server::honest(std::slice::from_ref(&of_b)),
    ];
    let done = once(&mut servers, &roster, &[]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    let (row, proof) = (
        rows(&done.stdout).remove(0),
        done.stdout.lines().next().unwrap(),
    );
    assert_eq!((row.price, row.prices, row.sources), (Some(5.0), 4, 2));
    assert!(
        row.differences[0].contains("different answers of slot 2"),
        "{row:?}"
    );
    assert!(
        done.stderr.contains("LIE: collector 2 of BTC/USD"),
        "{}",
        done.stderr
    );
    let file = scratch("proof.jsonl");
    fs::write(&file, format!("{proof}\n")).unwrap();
    let checked = verified(&roster, &[file.to_str().unwrap()]);
    assert!(checked.stdout.contains("proof"), "{}", checked.stdout);
    assert_eq!(checked.code, Some(0), "{}", checked.stdout);
    // The same into a file.
    let journal = scratch("kept.jsonl").to_str().unwrap().to_owned();
    let done = once(&mut servers, &roster, &["--journal", &journal]);
    assert_eq!((done.code, done.stdout.lines().count()), (Some(1), 1));
    assert_eq!(kept(format!("{journal}.proofs")), [proof]);
    // While following, a report that comes after its round was printed still proves the lie.
    let later_us = start_us + GRID_US;
    let of_a = [of_a, a.line(later_us, &all(5.0))];
    let of_b = [of_b, b.line(later_us, &lied)];
    let mut servers = [Server::honest(&of_a), Server::honest(&[])];
    let running = follow(&servers, &roster, &[]);
    rows_until(&running, &mut servers, 1);
    servers[1].lines = of_b.to_vec();
    let text = until("a proof", &mut servers, |_| {
        let text = running.stdout();
        text.contains("{\"rsoracle_proof\"").then_some(text)
    });
    assert_eq!(rows(&text).len(), 1);
}

#[test]
fn what_cannot_be_verified_has_code_1_unless_another_source_can() {
    let mut oracle = aggregator(0);
    let trusted = roster(&oracle);
    let line = oracle.line(fresh_us(), &all(5.0));
    let forged = line.replacen("\"price\":5", "\"price\":6", 1);
    let nobody = format!("http://{}", nobodys_address());
    let missing = scratch("missing.jsonl").to_str().unwrap().to_owned();
    for source in [&nobody, &missing] {
        let done = run(&["follow", source, "--roster", &trusted, "--once"]);
        assert_eq!(
            (done.code, done.stdout.as_str()),
            (Some(1), ""),
            "{}",
            done.stderr
        );
        assert!(done.stderr.contains(source), "{}", done.stderr);
    }
    let mut servers = [Server::honest(std::slice::from_ref(&forged))];
    let done = once(&mut servers, &trusted, &[]);
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (Some(1), ""),
        "{}",
        done.stderr
    );
    assert!(
        done.stderr.contains("differs from what its own samples"),
        "{}",
        done.stderr
    );
    // Another roster.
    let mut other = aggregator(0);
    other.terms.spread_ppm_max = Some(10_000);
    let mut servers = [Server::honest(std::slice::from_ref(&line))];
    let done = once(&mut servers, &roster(&other), &[]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(
        done.stderr.contains("greatest spread in millionths"),
        "{}",
        done.stderr
    );
    // One honest source among them is enough.
    let mut servers = [Server::honest(&[forged]), Server::honest(&[line])];
    let done = once(&mut servers, &trusted, &[&nobody, &missing]);
    let row = rows(&done.stdout).remove(0);
    assert_eq!(
        (done.code, row.price),
        (Some(0), Some(5.0)),
        "{}",
        done.stderr
    );
}

#[test]
fn wrong_usage_has_code_2_and_says_what_is_right() {
    let oracle = aggregator(0);
    let roster = roster(&oracle);
    for (args, says) in [
        (vec!["follow", "--roster", &roster], "SOURCE… is missing"),
        (vec!["follow", "http://127.0.0.1:1"], "--roster is missing"),
        (
            vec!["follow", "ws://127.0.0.1:1", "--roster", &roster],
            "is not a source; it takes http://HOST:PORT",
        ),
        (vec!["follow", "a", "a", "--roster", &roster], "given twice"),
        (
            vec!["follow", "127.0.0.1:18090", "--roster", &roster],
            "there is no file \"127.0.0.1:18090\"; a server is named with its scheme: 'http://127.0.0.1:18090'",
        ),
        (
            vec![
                "follow",
                "http://127.0.0.1:1/a/v1/latest",
                "--roster",
                &roster,
            ],
            "name the server without /v1/latest: 'http://127.0.0.1:1/a'",
        ),
        (
            vec!["follow", "a", "--roster", &roster, "--feed", "X"],
            "a feed of the roster: BTC/USD",
        ),
        (
            vec!["follow", "a", "--roster", &roster, "--max-age", "0s"],
            "--max-age",
        ),
        (
            vec!["follow", "a", "--roster", "/nowhere"],
            "cannot use the roster",
        ),
    ] {
        let done = run(&args);
        assert_eq!(done.code, Some(2), "{args:?}: {}", done.stderr);
        assert!(done.stderr.contains(says), "{args:?}: {}", done.stderr);
    }
}

#[test]
fn journals_that_grow_are_followed_and_a_new_file_in_their_place() {
    let (mut a, mut b) = (aggregator(20), aggregator(21));
    let roster = roster(&a);
    let [path, other] =
        ["a.jsonl", "b.jsonl"].map(|name| scratch(name).to_str().unwrap().to_owned());
    let append = |path: &str, text: &str| {
        let file = OpenOptions::new().append(true).create(true).open(path);
        file.unwrap().write_all(text.as_bytes()).unwrap();
    };
    let of_a = lines(&mut a, 0, 40);
    append(&path, &(of_a[..5].join("\n") + "\n"));
    // The other one is not there yet.
    let running = start(&["follow", &path, &other, "--json", "--roster", &roster]);
    assert_eq!(rows_until(&running, &mut [], 1)[0].price, Some(104.0));
    running.stderr_line("b.jsonl: No such file");
    let of_b = lines(&mut b, 5, 35);
    append(&other, &format!("{}\n", of_b[0]));
    // In pieces, and two at once.
    append(&path, &of_a[5][..700]);
    append(&path, &format!("{}\n{}\n", &of_a[5][700..], of_a[6]));
    append(&other, &(of_b[1].clone() + "\n"));
    assert_rounds(&rows_until(&running, &mut [], 3), 4);
    eventually("a line that is no report is named", || {
        append(&other, "junk\n");
        running.stderr().contains("not a report").then_some(())
    });
    // A new file takes its place, and goes on.
    fs::rename(&path, format!("{path}.old")).unwrap();
    append(&path, &(of_a[7..20].join("\n") + "\n"));
    assert_rounds(&rows_until(&running, &mut [], 16), 4);
    append(&other, &(of_b[2..15].join("\n") + "\n"));
    let done = run(&[
        "follow", &path, &other, "--json", "--roster", &roster, "--once", "--feed", "BTC/USD",
    ]);
    let row = rows(&done.stdout).remove(0);
    assert_eq!(
        (done.code, row.price, row.sources),
        (Some(3), Some(119.0), 2)
    );
}

#[test]
fn a_journal_is_followed_over_its_segments() {
    let mut oracle = aggregator(22);
    let roster = roster(&oracle);
    let path = scratch("journal.jsonl").to_str().unwrap().to_owned();
    let all = lines(&mut oracle, 0, 20);
    let append = |from: usize, until: usize| {
        let file = OpenOptions::new().append(true).create(true).open(&path);
        let text = all[from..until].join("\n") + "\n";
        file.unwrap().write_all(text.as_bytes()).unwrap();
    };
    let rotate = || {
        let done = run(&["journal", "rotate", &path]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
    };
    append(0, 3);
    rotate();
    // The newest report is in the closed segment.
    let running = start(&["follow", &path, "--json", "--roster", &roster]);
    let mut found = rows_until(&running, &mut [], 1);
    append(3, 5);
    rotate();
    append(5, 6);
    found = rows_until(&running, &mut [], found.len() + 3);
    // Several are closed between two looks.
    running.signal("STOP");
    for from in [6, 8, 10] {
        append(from, from + 2);
        rotate();
    }
    append(12, 13);
    running.signal("CONT");
    found = rows_until(&running, &mut [], found.len() + 7);
    let prices: Vec<_> = found.iter().map(|row| row.price.unwrap()).collect();
    let expected: Vec<_> = (2..13).map(|round| 100.0 + f64::from(round)).collect();
    assert_eq!(prices, expected);
    assert!(found.iter().all(|row| row.rounds_missing == 0));
    // With a journal of its own, it goes on where that ends, over the borders.
    let own = scratch("own.jsonl").to_str().unwrap().to_owned();
    fs::write(&own, format!("{}\n", all[3])).unwrap();
    let again = start(&[
        "follow",
        &path,
        "--json",
        "--roster",
        &roster,
        "--journal",
        &own,
    ]);
    let found = rows_until(&again, &mut [], 9);
    assert_eq!(found[0].price, Some(104.0));
    rotate();
    let once = ["follow", &path, "--json", "--roster", &roster, "--once"];
    let row = rows(&run(&once).stdout).remove(0);
    assert_eq!(row.price, Some(112.0));
}

#[test]
fn a_server_is_followed_over_tls_if_its_certificate_is_trusted() {
    let certificates = good_certificates();
    let mut book = Book::new(START_US);
    book.grow(2);
    let roster = roster(&book.oracle);
    let flags = ["--cert", &certificates.cert, "--key", &certificates.key];
    let served = Served::start(&book.path, &flags);
    let url = format!("https://localhost:{}", served.address.port());
    let journal = scratch("kept.jsonl").to_str().unwrap().to_owned();
    let fixed = ["follow", &url, "--json", "--roster", &roster];
    let trusting = ["--ca-file", &certificates.ca, "--journal", &journal];
    let running = start(&[&fixed[..], &trusting[..]].concat());
    rows_until(&running, &mut [], 1);
    book.grow(100);
    let rows = rows_until(&running, &mut [], 101);
    assert_eq!(rows[100].price, Some(100_101.0));
    assert_eq!(kept(&journal), book.lines[1..]);
    assert_eq!(status_number(running.id(), "Threads"), Some(1));
    for (url, flags, why) in [
        (url.clone(), vec![], "no authority that is trusted here"),
        (url.replace("https", "http"), vec![], "cannot follow"),
        (
            format!("https://127.0.0.2:{}", served.address.port()),
            vec!["--ca-file", &certificates.ca],
            "cannot ",
        ),
    ] {
        let done = run(&[&["follow", &url, "--roster", &roster, "--once"], &flags[..]].concat());
        assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""));
        assert!(done.stderr.contains(why), "{url}: {}", done.stderr);
    }
}

#[test]
fn several_feeds_of_a_real_server_are_followed_though_it_is_killed() {
    let feeds = ["BTC/USD", "ETH/USD", "SOL/USD"];
    let mut oracles = oracles(&feeds, 5, SOURCE);
    let roster = roster_file(&roster_of_all(&oracles));
    let path = scratch("served.jsonl");
    let mut written: Vec<String> = Vec::new();
    let mut grow = |rounds: std::ops::Range<u64>| {
        let mut text = String::new();
        for round in rounds {
            let says = all(100.0 + round as f64);
            for line in lines_of(&mut oracles, START_US + round * GRID_US, &says) {
                text += &(line.clone() + "\n");
                written.push(line);
            }
        }
        let file = OpenOptions::new().append(true).create(true).open(&path);
        file.unwrap().write_all(text.as_bytes()).unwrap();
    };
    grow(0..1);
    let address = nobodys_address().to_string();
    let serve = || {
        start(&[
            "serve",
            "--journal",
            path.to_str().unwrap(),
            "--listen",
            &address,
        ])
    };
    let mut server = serve();
    let journal = scratch("kept.jsonl").to_str().unwrap().to_owned();
    let url = format!("http://{address}");
    let fixed = ["follow", &url, "--json", "--roster", &roster];
    let running = start(&[&fixed[..], &["--journal", &journal]].concat());
    let some = start(&[&fixed[..], &["--feed", "SOL/USD", "--feed", "BTC/USD"]].concat());
    rows_until(&running, &mut [], 3);
    rows_until(&some, &mut [], 2);
    for kills in 1..4 {
        grow(kills * 10 - 9..kills * 10 - 4);
        server.signal("KILL");
        server.finish();
        grow(kills * 10 - 4..kills * 10 + 1);
        server = serve();
    }
    let told = rows_until(&running, &mut [], 31 * 3);
    for feed in feeds {
        let of: Vec<Row> = told
            .iter()
            .filter(|row| row.feed == feed)
            .cloned()
            .collect();
        assert_eq!(of.len(), 31);
        assert_rounds(&of, 0);
    }
    let told = rows_until(&some, &mut [], 31 * 2);
    assert!(told.iter().all(|row| row.feed != "ETH/USD"));
    for feed in feeds {
        let of = |lines: Vec<String>| -> Vec<String> {
            let name = format!("\"feed\":\"{feed}\"");
            lines
                .into_iter()
                .filter(|line| line.contains(&name))
                .collect()
        };
        assert_eq!(of(kept(&journal)), of(written.clone()));
    }
    let done = verified(&roster, &[&journal]);
    assert_eq!(done.code, Some(0), "{}", done.stdout);
    let done = run(&[&fixed[..], &["--once", "--max-age", "1h"]].concat());
    let newest = rows(&done.stdout);
    assert_eq!((done.code, newest.len()), (Some(3), 3), "{}", done.stderr);
    assert!(newest.iter().all(|row| row.price == Some(130.0)));
}

/// The script in docs/CONSUMING.md, with addresses and a roster of this test.
#[test]
fn the_script_in_the_document_prints_the_price() {
    let mut oracle = aggregator(0);
    let roster = roster(&oracle);
    let line = oracle.line(fresh_us(), &all(87_231.5));
    let mut servers = [
        Server::honest(std::slice::from_ref(&line)),
        Server::honest(&[line]),
    ];
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/CONSUMING.md");
    let document = fs::read_to_string(document).unwrap();
    let scripts = document.split("```sh\n").skip(1);
    let mut scripts = scripts.filter_map(|rest| rest.split("```").next());
    let script = scripts.find(|script| script.contains("follow")).unwrap();
    let urls = format!("{} {}", servers[0].url(), servers[1].url());
    let binary = rsoracle().get_program().to_str().unwrap().to_owned();
    let replaced = [
        ("https://a.example https://b.example", urls.as_str()),
        ("roster.toml", &roster),
        ("--max-age 30s", "--max-age 1h"),
        ("rsoracle follow", &format!("{binary} follow")),
    ];
    let mut script = script.to_owned();
    for (from, to) in replaced {
        assert!(script.contains(from), "{from}");
        script = script.replace(from, to);
    }
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &script]);
    let done = finished(start_command(command), &mut servers);
    assert_eq!(done.stdout, "BTC/USD is 87231.5\n", "{}", done.stderr);
}

#[test]
fn a_change_of_the_aggregators_key_in_a_file_continues_the_chain() {
    let mut oracle = aggregator(20);
    let roster = roster(&oracle);
    let path = scratch("a.jsonl").to_str().unwrap().to_owned();
    let before = lines(&mut oracle, 0, 4);
    fs::write(&path, before.join("\n") + "\n").unwrap();
    let journal = scratch("kept.jsonl").to_str().unwrap().to_owned();
    let fixed = [
        "follow",
        &path,
        "--json",
        "--roster",
        &roster,
        "--journal",
        &journal,
    ];
    let running = start(&fixed);
    rows_until(&running, &mut [], 1);
    let change = oracle.hand_over(21);
    let after = lines(&mut oracle, 4, 3);
    let file = OpenOptions::new().append(true).open(&path);
    let text = format!("{change}\n{}\n", after.join("\n"));
    file.unwrap().write_all(text.as_bytes()).unwrap();
    assert_rounds(&rows_until(&running, &mut [], 4), 3);
    let right = [&before[3..], &[change], &after].concat();
    assert_eq!(kept(&journal), right);
    assert_eq!(verified(&roster, &[&journal]).code, Some(0));
    let said = running.stderr();
    assert!(
        said.contains("goes on with another key") && said.lines().count() == 1,
        "{said}"
    );
    // It goes on from there, too.
    drop(running);
    let more = lines(&mut oracle, 7, 2);
    let file = OpenOptions::new().append(true).open(&path);
    file.unwrap()
        .write_all((more.join("\n") + "\n").as_bytes())
        .unwrap();
    let running = start(&fixed);
    assert_rounds(&rows_until(&running, &mut [], 2), 7);
    assert_eq!(kept(&journal), [right, more].concat());
}
