//! Our reader beside serde_json's typed one, and the way from a TLS socket to a price beside tokio-tungstenite with serde_json:
//! the same frames, in turns, on one thread. `make bench` runs it; it prints ratios, and fails at nothing.
//!
//! RSORACLE_BINARY names the program whose embedded exchange says the frames; openssl(1) makes the certificate.

mod feed;
mod typed;

use futures_util::StreamExt;
use native_tls::{Certificate, TlsConnector};
use rsoracle::exchange::link::Link;
use rsoracle::exchange::session::{ExchangeSession, SessionPlan};
use rsoracle::exchange::{Dialect, Pace, Said, Topics, Way, dialect, endpoints, tunnel};
use rsoracle::source::{KINDS, Source};
use rsoracle::system::endpoint::Endpoint;
use rsoracle::system::net::Patience;
use rsoracle::system::resolve::Addresses;
use std::hint::black_box;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{Connector, client_async_tls_with_config};

/// Frames with a price that are looked at for each kind.
const FRAMES: usize = 200;
/// Turns of each reader, and of each way.
const READS: usize = 101;
const WAYS: usize = 15;
/// Messages in one turn of a way.
const MESSAGES: usize = 20_000;

/// A process that ends with this one.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a program, and waits for the last word of its first line: where it listens.
fn listening(mut command: Command) -> (Running, String) {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let stdout = child.stdout.take().expect("it is piped");
    let mut line = String::new();
    let read = BufReader::new(stdout).read_line(&mut line);
    read.expect("it says where it listens");
    let place = line.split_whitespace().last().expect("a place").to_owned();
    (Running(child), place)
}

/// Where the files of this run are.
fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("rsoracle-peers-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// A certificate for 127.0.0.1 that is its own authority, and its key.
fn certificate() -> (String, String) {
    let path = |name: &str| folder().join(name).to_str().expect("UTF-8").to_owned();
    let (certificate, key) = (path("cert.pem"), path("key.pem"));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt"]);
    command.args(["ec_paramgen_curve:P-256", "-nodes", "-days", "30"]);
    command.args([
        "-subj",
        "/CN=peers",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]);
    command.args(["-keyout", &key, "-out", &certificate]);
    let made = command.output().expect("openssl runs");
    assert!(made.status.success(), "{made:?}");
    (certificate, key)
}

/// What the embedded exchange says of a source: what has no price first, if a price needs it, then [`FRAMES`] with a price.
fn frames(source: &Source) -> (String, Vec<String>, Option<u64>) {
    let binary = std::env::var("RSORACLE_BINARY").expect("RSORACLE_BINARY names the program");
    let mut command = Command::new(binary);
    command.args(["exchange", "--listen", "127.0.0.1:0", "--poll", "0ms"]);
    command.args(["--rate", "20000", "--speed", "1000"]);
    command.stderr(Stdio::null());
    let (_exchange, url) = listening(command);
    let place = Endpoint::parse(&url).expect("an address");
    let until = Instant::now() + Duration::from_secs(60);
    let proxies = tunnel::proxies(None).expect("no proxy is named");
    let place = &endpoints(source, Some(&place))[0];
    let mut addresses = Addresses::default();
    let mut link =
        Link::open(place, None, &proxies, &mut addresses, until, &mut || Ok(())).expect("it answers");
    let spoken = dialect(source);
    let mut channel = None;
    if let Way::Stream(subscribe) = spoken.way {
        for message in subscribe(&[source.symbol()]) {
            link.send(message).expect("it listens");
        }
    }
    let (mut before, mut priced) = ("{}".to_owned(), Vec::new());
    while priced.len() < FRAMES {
        if let Way::Poll(request) = spoken.way {
            link.send(request("s-1", source.symbol()))
                .expect("it listens");
        }
        let received = link.receive(Patience::Until(until)).expect("it stands");
        let text = received.expect("a message in time").as_str().to_owned();
        let topics = Topics {
            symbols: &[source.symbol()],
            channels: &[channel],
        };
        match (spoken.read)(&text, &topics) {
            Said::Channel { number, .. } => (channel, before) = (Some(number), text),
            Said::Price { .. } => priced.push(text),
            _ => {}
        }
    }
    (before, priced, channel)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Two ways in turns; medians of each, and of the ratios.
fn in_turns(
    turns: usize,
    mut ours: impl FnMut() -> f64,
    mut theirs: impl FnMut() -> f64,
) -> [f64; 3] {
    let (mut own, mut other, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..turns {
        // Who comes first changes too.
        let early = (turn % 2 == 0).then(&mut ours);
        let peer = theirs();
        let mine = early.unwrap_or_else(&mut ours);
        own.push(mine);
        other.push(peer);
        ratios.push(mine / peer);
    }
    [median(own), median(other), median(ratios)]
}

/// Nanoseconds that one frame takes; both readers must read the same.
fn read(spoken: &Dialect, topics: &Topics, frames: &[String]) -> [f64; 3] {
    let typed = typed::reader(spoken.name);
    for frame in frames {
        let Said::Price { price, time_us, .. } = (spoken.read)(frame, topics) else {
            panic!("{frame}");
        };
        let (other, other_us) = typed(frame, topics.symbols[0]).unwrap_or_else(|| panic!("{frame}"));
        assert!((price - other).abs() <= price * 1e-12, "{price} {other}");
        assert_eq!(time_us, other_us.map(|us| us as u64), "{frame}");
    }
    let timed = |read: &dyn Fn(&str)| {
        let began = Instant::now();
        frames.iter().for_each(|frame| read(frame));
        began.elapsed().as_nanos() as f64 / frames.len() as f64
    };
    in_turns(
        READS,
        || timed(&|frame| _ = black_box((spoken.read)(black_box(frame), topics))),
        || timed(&|frame| _ = black_box(typed(black_box(frame), topics.symbols[0]))),
    )
}

/// Nanoseconds of CPU that this process has used.
fn cpu_ns() -> f64 {
    // The kernel counts when another may run.
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/self/schedstat").expect("Linux tells");
    let first = text.split(' ').next().expect("a number");
    first.parse().expect("a number")
}

/// Nanoseconds of CPU that one message takes from the socket to its price.
fn ways(source: &Source, before: &str, frames: &[String], tls: &(String, String)) -> [f64; 3] {
    let (certificate, key) = tls;
    let file = folder().join("frames");
    std::fs::write(&file, format!("{before}\n{}\n", frames.join("\n"))).expect("a file");
    let feed = || {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.arg("feed").arg(&file).args([certificate, key]);
        listening(command)
    };
    let ((_feed, place), (_other_feed, other_place)) = (feed(), feed());
    let pem = std::fs::read(certificate).expect("a certificate");
    let connector = || {
        let root = Certificate::from_pem(&pem).expect("a certificate");
        let mut builder = TlsConnector::builder();
        builder
            .disable_built_in_roots(true)
            .add_root_certificate(root);
        builder.build().expect("TLS")
    };
    let place = Endpoint::parse(&format!("wss://{place}")).expect("an address");
    let mut session = ExchangeSession::new(SessionPlan {
        sources: std::slice::from_ref(source),
        endpoints: vec![place],
        tls: Some(connector().into()),
        proxies: tunnel::proxies(None).expect("no proxy is named"),
        pace: Pace::of(source),
    });
    let until = Instant::now() + Duration::from_secs(30);
    session.connect(until, &mut || Ok(())).expect("it answers");
    let mut ours = || {
        let before = cpu_ns();
        let mut prices = 0;
        while prices < MESSAGES {
            let until = Patience::Until(Instant::now() + Duration::from_secs(30));
            let said = session.hear(until).expect("the connection stands");
            prices += usize::from(matches!(said, Some(Said::Price { .. })));
        }
        (cpu_ns() - before) / MESSAGES as f64
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build();
    let runtime = runtime.expect("a runtime");
    let mut ws = runtime.block_on(async {
        let tcp = tokio::net::TcpStream::connect(&other_place)
            .await
            .expect("it answers");
        tcp.set_nodelay(true).expect("a socket");
        let (url, tls) = (
            format!("wss://{other_place}"),
            Connector::NativeTls(connector()),
        );
        let opened = client_async_tls_with_config(url, tcp, None, Some(tls)).await;
        opened.expect("a websocket").0
    });
    let typed = typed::reader(source.kind.name);
    let mut theirs = || {
        let before = cpu_ns();
        runtime.block_on(async {
            let mut prices = 0;
            while prices < MESSAGES {
                let message = ws.next().await.expect("a message").expect("it stands");
                let Message::Text(text) = message else {
                    continue;
                };
                prices += usize::from(black_box(typed(&text, source.symbol())).is_some());
            }
        });
        (cpu_ns() - before) / MESSAGES as f64
    };
    // What is there before the first price.
    ours();
    theirs();
    in_turns(WAYS, ours, theirs)
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [role, file, certificate, key] = words.as_slice()
        && role == "feed"
    {
        return feed::role(file, certificate, key);
    }
    let tls = certificate();
    println!("\npeers: serde_json into types, and tokio-tungstenite over native-tls with it");
    println!("  medians of turns; goal: ours at most as long (ratio ≤ 1.00)");
    let judged = |what: &str, [ours, theirs, ratio]: [f64; 3]| {
        let verdict = if ratio <= 1.0 { "met" } else { "MISSED" };
        println!(
            "  {what:<44} {ours:>6.0} ns, theirs {theirs:>6.0} ns, ratio {ratio:.2} {verdict}"
        );
    };
    for kind in KINDS.iter() {
        let prefix = match kind.name {
            "binance" => String::new(),
            name => format!("-{name}"),
        };
        let name = format!("embedded{prefix}:{}", kind.spelling.of("BTC", "USDT"));
        let source = Source::parse(&name).expect("the embedded exchange has it");
        let (before, frames, channel) = frames(&source);
        let topics = Topics {
            symbols: &[source.symbol()],
            channels: &[channel],
        };
        let bytes = frames.iter().map(String::len).sum::<usize>() / frames.len();
        let what = format!("{}: reading {bytes} bytes", kind.name);
        judged(&what, read(dialect(&source), &topics, &frames));
        let what = format!("{}: TLS socket to price, CPU", kind.name);
        judged(&what, ways(&source, &before, &frames, &tls));
    }
    let _ = std::fs::remove_dir_all(folder());
}
