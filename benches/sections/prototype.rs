//! The peer: a price client as it is usually written. It waits for the start, connects, and then, ten times, sends a request,
//! reads the reply, and sleeps. Five such processes use the same TLS and the same exchange as rsoracle.

use crate::support::{Certificates, Running, start_command};
use native_tls::TlsConnector;
use rsoracle::exchange::{Way, binance};
use rsoracle::system::now::wall_us;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tungstenite::Message;

/// The role `prototype`: prints the instant of every request, in nanoseconds after the start.
pub fn role(words: &[String]) {
    let [url, start_us, samples, interval_us] = words else {
        panic!("role prototype URL START SAMPLES INTERVAL");
    };
    let number = |word: &String| word.parse::<u64>().expect("a number");
    let (start_us, interval_us) = (number(start_us), number(interval_us));
    std::thread::sleep(Duration::from_micros(start_us.saturating_sub(wall_us())));
    let authority = url.split('/').nth(2).expect("a websocket address");
    let tcp = TcpStream::connect(authority).expect("the exchange listens");
    tcp.set_nodelay(true).expect("a socket option");
    let tls = TlsConnector::new().expect("TLS can be set up");
    let tls = tls.connect("localhost", tcp).expect("TLS is agreed on");
    let (mut ws, _) = tungstenite::client(url.as_str(), tls).expect("the upgrade is granted");
    let mut sent = Vec::new();
    for index in 0..number(samples) {
        let Way::Poll(request) = binance::POLL.way else {
            panic!("prices are asked for here");
        };
        let request = request(&index.to_string(), "BTCUSDT");
        ws.send(Message::text(request)).expect("the request leaves");
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        sent.push(since.expect("after 1970") - Duration::from_micros(start_us));
        ws.read().expect("a reply");
        std::thread::sleep(Duration::from_micros(interval_us));
    }
    for instant in sent {
        println!("{}", instant.as_nanos());
    }
}

/// Runs five prototypes. Returns, for each, the instants of its requests in microseconds after the start.
pub fn run_five(url: &str, tls: &Certificates, samples: u32, interval_us: u64) -> Vec<Vec<f64>> {
    let start_us = wall_us() + 200_000;
    let numbers = [start_us, u64::from(samples), interval_us].map(|number| number.to_string());
    let start = |_| {
        let mut command = Command::new(std::env::current_exe().expect("this program has a file"));
        command.args(["role", "prototype", &url.replace("127.0.0.1", "localhost")]);
        command.args(&numbers);
        // In the prototype's favour: it does not spend 50 ms on the system's certificates after the start.
        command
            .env("SSL_CERT_FILE", &tls.ca)
            .env("SSL_CERT_DIR", "/nonexistent");
        start_command(command)
    };
    let running: Vec<Running> = (0..5).map(start).collect();
    std::thread::sleep(Duration::from_micros(interval_us * u64::from(samples)));
    let read = |running: Running| {
        let done = running.finish();
        assert_eq!(done.code, Some(0), "the prototype failed: {}", done.stderr);
        let us = |line: &str| line.parse::<f64>().expect("a number") / 1e3;
        done.stdout.lines().map(us).collect()
    };
    running.into_iter().map(read).collect()
}
