//! `rsoracle serve`: its start and its memory with a long journal, requests a second beside nginx, what a cache in front of it leaves
//! to it, and many streams of which half never read.
//!
//! The load comes from wrk, and nginx is the peer and the cache. Where one of them is missing, the section says so.

use crate::figures::{Table, digits, largest, median, quantile};
use crate::machine;
use crate::served::{Book, Client, Served};
use crate::signed::Says::Price;
use crate::support::{LONG, Running, eventually, nobodys_address, scratch, start_command, within};
use rsoracle::system::now::wall_us;
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Reports of the long journal.
const REPORTS: u64 = 200_000;
/// Streams, of which half never read.
const STREAMS: usize = 2_000;
/// Reports that are appended while the streams are open, and the time between two of them.
const APPENDED: usize = 50;
const BETWEEN: Duration = Duration::from_millis(200);
/// Requests through the cache.
const THROUGH_CACHE: u64 = 1_000_000;
/// Connections of wrk.
const CONNECTIONS: &str = "32";
/// From one round's start to the next: the newest price may be cached for as long as possible.
const DAY_US: u64 = 86_400_000_000;

/// An empty journal of rounds that are a day apart. The one with this number began a minute ago.
fn book(round: u64) -> Book {
    let mut book = Book::new(0);
    let schedule = &mut book.oracle.terms.schedule;
    schedule.period_us = DAY_US;
    schedule.first_start_us = wall_us() / 1_000_000 * 1_000_000 - 60_000_000 - round * DAY_US;
    book
}

/// The line of the next report.
fn line(book: &mut Book, round: u64) -> String {
    let start_us = book.oracle.terms.schedule.first_start_us + round * DAY_US;
    book.oracle.line(start_us, &[Price(100_000.0); 5]) + "\n"
}

/// A journal of so many reports. Only the last one is signed: the others differ from the first in their numbers, starts and
/// signatures, which is all that is indexed.
fn long_journal(reports: u64) -> Book {
    let mut book = book(10_000);
    let first = line(&mut book, 0);
    let schedule = book.oracle.terms.schedule;
    let signature = &first[first.len() - 131..][..128];
    let mut file = BufWriter::new(File::create(&book.path).expect("a file"));
    let mut previous = "null".to_owned();
    let start_us = schedule.first_start_us;
    for number in 1..reports {
        let own = format!("{number:016x}").repeat(8);
        let text = first
            .replacen("\"number\":1,", &format!("\"number\":{number},"), 1)
            .replacen(
                &format!("\"round_start_us\":{start_us}"),
                &format!("\"round_start_us\":{}", start_us - reports + number),
                1,
            )
            .replacen("\"previous\":null", &format!("\"previous\":{previous}"), 1)
            .replacen(signature, &own, 1);
        file.write_all(text.as_bytes()).expect("room on the disk");
        previous = format!("\"{own}\"");
    }
    let last = (reports - 1).to_be_bytes().repeat(8);
    (book.oracle.number, book.oracle.previous) = (reports, last.first_chunk().copied());
    let end = line(&mut book, 10_000);
    file.write_all(end.as_bytes()).expect("room on the disk");
    file.flush().expect("room on the disk");
    book
}

/// Start and memory with a long journal.
fn begin(table: &mut Table) -> (Book, Served) {
    let book = long_journal(REPORTS);
    let bytes = std::fs::metadata(&book.path).expect("a file").len();
    // So that the disk is not measured.
    std::io::copy(
        &mut File::open(&book.path).expect("a file"),
        &mut std::io::sink(),
    )
    .expect("it can be read");
    let began = Instant::now();
    let served = Served::start(&book.path, &["--per-address", "8192"]);
    within(LONG, "a first answer", || {
        let answered = served.get("/v1/latest");
        (answered.status == 200).then_some(())
    });
    let took_s = began.elapsed().as_secs_f64();
    table.at_most("200,000 reports: start to first answer", took_s, 2.0, "s");
    let kib = machine::peak_kib(served.running.id()).unwrap_or(f64::NAN);
    table.at_most("the same: memory, peak", kib / 1024.0, 32.0, "MiB");
    table.remark(&format!("the journal has {} MB", bytes / 1_000_000));
    (book, served)
}

/// What wrk found: requests a second, and how many in all.
fn wrk(address: &str, path: &str, seconds: u64) -> Option<(f64, u64)> {
    let mut command = Command::new("wrk");
    command.args(["-t", "1", "-c", CONNECTIONS, "-d", &format!("{seconds}s")]);
    command.arg(format!("http://{address}{path}"));
    let done = command.output().ok()?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(!text.contains("Non-2xx"), "{text}");
    let rate = text.lines().find_map(|it| it.strip_prefix("Requests/sec:"));
    let count = text.lines().find(|it| it.contains(" requests in "));
    let count = count?.trim().split(' ').next()?.parse().ok()?;
    Some((rate?.trim().parse().ok()?, count))
}

/// Starts nginx with one process and this server in its configuration. None if it is not installed.
fn nginx(server: &str) -> Option<(Running, String)> {
    let address = nobodys_address().to_string();
    let dir = scratch("nginx.conf").parent()?.to_owned();
    let path = dir.to_str()?;
    let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {path}/{kind};"))
        .concat();
    let server = server.replace("DIR", path).replace("ADDRESS", &address);
    let text = format!(
        "daemon off; master_process off; pid {path}/pid; events {{ worker_connections 1024; }}\n\
         http {{ access_log off; keepalive_requests 100000000; {paths} {server} }}\n"
    );
    std::fs::write(dir.join("nginx.conf"), text).ok()?;
    let mut command = Command::new("nginx");
    // Where users other than root do not look.
    let places = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
    command.env("PATH", &places);
    command.args(["-p", path, "-e", "stderr", "-c", "nginx.conf"]);
    command.stdin(Stdio::null());
    let found = places
        .split(':')
        .any(|it| std::path::Path::new(it).join("nginx").exists());
    if !found {
        return None;
    }
    let running = start_command(command);
    eventually("nginx listens", || {
        std::net::TcpStream::connect(&address).ok()
    });
    Some((running, address))
}

/// Requests a second for the newest price, beside nginx with the same bytes in a file, and through its cache.
fn requests(table: &mut Table) {
    let mut book = book(2);
    for round in 0..3 {
        let text = line(&mut book, round);
        book.append(&text);
    }
    let served = Served::start(&book.path, &["--per-address", "8192"]);
    let latest = served.until("/v1/latest", |answered| answered.status == 200);
    let address = served.address.to_string();
    let before = machine::cpu_ms(served.running.id());
    let Some((rate, count)) = wrk(&address, "/v1/latest", 5) else {
        table.remark("wrk is not installed: no requests were measured");
        return;
    };
    let used = machine::cpu_ms(served.running.id()).zip(before);
    let used_ms = used.map_or(f64::NAN, |(after, before)| after - before);
    table.at_least("/v1/latest: requests a second (wrk)", rate, 5_000.0, "/s");
    let each_us = 1e3 * used_ms / count as f64;
    table.remark(&format!("{} µs of CPU each", digits(each_us)));
    let file = scratch("latest");
    std::fs::write(&file, &latest.body).expect("a file");
    let folder = file.parent().and_then(|it| it.to_str()).expect("a folder");
    let server = format!(
        "server {{ listen ADDRESS; root {folder}; location / {{ default_type application/json; }} }}"
    );
    let Some((peer, at)) = nginx(&server) else {
        table.remark("nginx is not installed: neither a peer nor a cache was measured");
        return;
    };
    let (peers, _) = wrk(&at, "/latest", 5).expect("wrk is there");
    drop(peer);
    table.figure(
        "nginx, the same bytes from a file",
        &format!("{} /s", digits(peers)),
    );
    table.figure("serve as a part of that", &digits(rate / peers));
    through_cache(table, &served);
}

/// How many requests of a million reach the server behind nginx's cache.
fn through_cache(table: &mut Table, served: &Served) {
    let cached = format!(
        "proxy_cache_path DIR/cache keys_zone=it:1m; server {{ listen ADDRESS; location / {{ \
         proxy_pass http://{}; proxy_cache it; proxy_cache_lock on; proxy_cache_use_stale updating; }} }}",
        served.address
    );
    let (_cache, at) = nginx(&cached).expect("nginx is there");
    let name = "rsoracle_serve_answers_total{status=\"200\"}";
    let before = served.metric(name).unwrap_or(0.0);
    let (mut count, began) = (0, Instant::now());
    while count < THROUGH_CACHE {
        count += wrk(&at, "/v1/latest", 5).expect("wrk is there").1;
    }
    // The page of metrics itself was one.
    let reached = served.metric(name).unwrap_or(f64::NAN) - before - 1.0;
    let most = 1.0 + (began.elapsed().as_secs_f64() / 9.0).floor();
    let what = "requests that reach it of a million through nginx's cache";
    table.at_most(what, reached, most, "");
    let seconds = began.elapsed().as_secs_f64();
    table.remark(&format!(
        "{count} requests in {} s, kept for 9 to 10 s",
        digits(seconds)
    ));
}

/// A stream that is read, and the times at which its events were whole.
struct Reader {
    client: Client,
    came: Vec<Instant>,
    /// The last byte that was read.
    last: u8,
}

impl Reader {
    /// Reads what has arrived. Each event ends with an empty line.
    fn read(&mut self, buffer: &mut [u8]) {
        loop {
            match self.client.stream.read(buffer) {
                Ok(0) => panic!("a stream has ended"),
                Ok(count) => {
                    for byte in &buffer[..count] {
                        if [self.last, *byte] == *b"\n\n" {
                            self.came.push(Instant::now());
                        }
                        self.last = *byte;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("a stream has failed: {error}"),
            }
        }
    }
}

/// Opens a stream after a report.
fn stream(address: SocketAddr, since: u64) -> Client {
    let client = Client::stream(address, &format!("?since={since}"), "");
    client
        .stream
        .set_nonblocking(true)
        .expect("a socket option");
    client
}

/// Many streams, half of which never read, while reports are appended.
fn streams(table: &mut Table, mut book: Book, served: &Served) {
    let most = usize::try_from(machine::open_files_max()).unwrap_or(usize::MAX);
    let count = STREAMS.min(most.saturating_sub(200)) / 2;
    if 2 * count < STREAMS {
        table.remark(&format!("only {} streams: raise 'ulimit -n'", 2 * count));
    }
    let mut readers: Vec<Reader> = (0..count)
        .map(|_| Reader {
            client: stream(served.address, REPORTS),
            came: Vec::new(),
            last: 0,
        })
        .collect();
    let before = machine::cpu_ms(served.running.id());
    std::thread::sleep(Duration::from_secs(3));
    let idle = machine::cpu_ms(served.running.id()).zip(before);
    let idle = idle.map_or(f64::NAN, |(after, before)| (after - before) / 30.0);
    // These want more than their sockets hold.
    let silent: Vec<Client> = (0..count)
        .map(|_| stream(served.address, REPORTS - 100))
        .collect();
    let mut buffer = vec![0; 64 * 1024];
    let mut late_ms = Vec::new();
    for round in 0..APPENDED {
        let text = line(&mut book, 10_001 + round as u64);
        let written = Instant::now();
        book.append(&text);
        while written.elapsed() < BETWEEN {
            readers.iter_mut().for_each(|it| it.read(&mut buffer));
            std::thread::sleep(Duration::from_micros(200));
        }
        within(LONG, "all readers have it", || {
            readers.iter_mut().for_each(|it| it.read(&mut buffer));
            readers.iter().all(|it| it.came.len() > round).then_some(())
        });
        let late = readers.iter().map(|it| it.came[round] - written);
        late_ms.extend(late.map(|it| it.as_secs_f64() * 1e3));
    }
    let what = format!("{count} streams that read: report late, 99th percentile");
    table.at_most(&what, quantile(&late_ms, 0.99), 50.0, "ms");
    table.remark(&format!(
        "median {} ms, longest {} ms, beside {count} streams that never read",
        digits(median(&late_ms)),
        digits(largest(&late_ms))
    ));
    let kib = machine::peak_kib(served.running.id()).unwrap_or(f64::NAN);
    table.at_most("memory with all of them, peak", kib / 1024.0, 48.0, "MiB");
    table.at_most(
        &format!("{count} streams without news: CPU"),
        idle,
        2.0,
        "% of a core",
    );
    drop(silent);
}

/// Prints the section.
pub fn show(table: &mut Table) {
    requests(table);
    let (book, served) = begin(table);
    streams(table, book, &served);
}
