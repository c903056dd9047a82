//! A simulated network between collectors and exchange: a proxy that delays all bytes by 40±8 ms in each direction, in order.

use crate::machine;
use crate::support::{Running, start_command};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const DELAY_US: u64 = 40_000;
const JITTER_US: u64 = 8_000;
/// Longest life of the proxy, so that it ends soon even if the bench is killed.
const LIFE: Duration = Duration::from_secs(60);

/// One direction of one connection.
struct Lane {
    from: TcpStream,
    to: TcpStream,
    /// Bytes under way, with the instant at which they arrive; empty bytes are the end of the stream.
    pieces: VecDeque<(Instant, Vec<u8>)>,
    ended: bool,
}

impl Lane {
    /// Reads what has arrived, and writes what is due. Returns whether the lane is still open.
    fn step(&mut self, now: Instant, random: &mut u64) -> bool {
        let mut bytes = [0; 16 * 1024];
        let came = if self.ended {
            None
        } else {
            match self.from.read(&mut bytes) {
                Ok(count) => Some(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => None,
                Err(_) => Some(0),
            }
        };
        if let Some(count) = came {
            *random ^= *random << 13;
            *random ^= *random >> 7;
            *random ^= *random << 17;
            let delay_us = DELAY_US - JITTER_US + *random % (2 * JITTER_US);
            let due = now + Duration::from_micros(delay_us);
            let behind = self.pieces.back().map_or(due, |(last, _)| due.max(*last));
            self.pieces.push_back((behind, bytes[..count].to_vec()));
            self.ended = count == 0;
        }
        while self.pieces.front().is_some_and(|(due, _)| *due <= now) {
            let (_, piece) = self.pieces.pop_front().expect("there is one");
            if piece.is_empty() || self.to.write_all(&piece).is_err() {
                let _ = self.to.shutdown(std::net::Shutdown::Write);
                return false;
            }
        }
        true
    }
}

/// The role `proxy`: listens on a free port, prints its address, and forwards everything to `UPSTREAM`, with the delay.
pub fn role(words: &[String]) {
    let [upstream] = words else {
        panic!("role proxy UPSTREAM");
    };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a socket option");
    println!(
        "listening on {}",
        listener.local_addr().expect("it is bound")
    );
    let began = Instant::now();
    let mut lanes: Vec<Lane> = Vec::new();
    let mut random = 0x9e37_79b9_7f4a_7c15;
    while began.elapsed() < LIFE {
        while let Ok((near, _)) = listener.accept() {
            let far = TcpStream::connect(upstream).expect("the exchange listens");
            for tcp in [&near, &far] {
                tcp.set_nonblocking(true).expect("a socket option");
                tcp.set_nodelay(true).expect("a socket option");
            }
            let twin = |tcp: &TcpStream| tcp.try_clone().expect("a socket can be shared");
            let lane = |from, to| Lane {
                from,
                to,
                pieces: VecDeque::new(),
                ended: false,
            };
            lanes.push(lane(twin(&near), twin(&far)));
            lanes.push(lane(far, near));
        }
        let now = Instant::now();
        lanes.retain_mut(|lane| lane.step(now, &mut random));
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Starts the network in front of the exchange at `url`. Returns the URL by which it is reached through it.
pub fn between(url: &str) -> (Running, String) {
    let upstream = url.split('/').nth(2).expect("a websocket address");
    let exe = std::env::current_exe().expect("this program has a file");
    let mut command = match machine::idle_priority() {
        Some((program, args)) => {
            let mut command = Command::new(program);
            command.args(args).arg(exe);
            command
        }
        None => Command::new(exe),
    };
    command
        .args(["role", "proxy", upstream])
        .stdin(Stdio::null());
    let running = start_command(command);
    let address = crate::rounds::listening(&running);
    let through = url.replace(upstream, &address);
    (running, through)
}
