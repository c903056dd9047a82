//! How a host is found: through which name servers, and at which of its addresses. Each test runs in its own network, in which
//! it plays the name server.

mod chronicle;
mod support;
mod witness;

use chronicle::*;
use std::net::{TcpListener, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};
use support::*;
use witness::*;

/// The name that the name server knows.
const NAME: &str = "exchange.example";

/// A name server that the test plays (RFC 1035, 4.1). It knows every name.
struct NameServer {
    socket: UdpSocket,
    /// The addresses of type A (1) that it tells.
    places: Vec<[u8; 4]>,
    /// Number of addresses of type AAAA (28) that it tells.
    others: u8,
    /// How long it takes for an answer.
    delay: Duration,
    /// Answers that are not due yet.
    waiting: Vec<(Instant, Vec<u8>, std::net::SocketAddr)>,
}

impl NameServer {
    fn at(address: &str) -> NameServer {
        let socket = UdpSocket::bind((address, 53)).expect("nobody else has the port");
        socket.set_nonblocking(true).expect("O_NONBLOCK");
        NameServer {
            socket,
            places: vec![[127, 0, 0, 1]],
            others: 0,
            delay: Duration::ZERO,
            waiting: Vec::new(),
        }
    }

    fn step(&mut self) {
        let mut question = [0; 512];
        while let Ok((length, asker)) = self.socket.recv_from(&mut question) {
            let reply = self.reply(&question[..length]);
            self.waiting
                .push((Instant::now() + self.delay, reply, asker));
        }
        self.waiting.retain(|(due, reply, asker)| {
            let later = Instant::now() < *due;
            if !later {
                let _ = self.socket.send_to(reply, asker);
            }
            later
        });
    }

    fn reply(&self, question: &[u8]) -> Vec<u8> {
        let name = question[12..].iter().position(|byte| *byte == 0);
        let name_end = 12 + name.expect("a name ends");
        let kind = &question[name_end + 1..name_end + 3];
        let count = match kind {
            [0, 1] => self.places.len() as u8,
            [0, 28] => self.others,
            _ => 0,
        };
        let mut reply = question[..name_end + 5].to_vec();
        // A response with recursion available: one question, and the number of answers.
        reply[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0]);
        for number in 1..=count {
            // The same name and type, class IN, TTL of a minute.
            reply.extend([0xc0, 12, 0, kind[1], 0, 1, 0, 0, 0, 60, 0]);
            match kind[1] {
                1 => {
                    reply.push(4);
                    reply.extend(self.places[usize::from(number) - 1]);
                }
                _ => {
                    let last = [0; 11];
                    reply.extend([16, 0x20, 0x01, 0x0d, 0xb8]);
                    reply.extend(last);
                    reply.push(number);
                }
            }
        }
        reply
    }

    /// Serves until a program ends.
    fn serve(&mut self, mut running: Running) -> Finished {
        eventually("the program's end", || {
            self.step();
            running.ended().then_some(())
        });
        running.finish()
    }
}

/// In a network of its own: the text of resolv.conf(5), which the test may change.
fn name_servers(test: &str, text: &str) -> bool {
    let Some(file) = resolver_file() else {
        in_a_network_of_its_own(test);
        return false;
    };
    // The file is mounted, so it must stay the same one.
    std::fs::write(file, text).expect("the test's own file");
    true
}

/// `rsoracle doctor` for an exchange that listens at this URL, by its name.
fn doctor(url: &str) -> Command {
    let mut command = rsoracle();
    let url = url.replace("127.0.0.1", NAME);
    command.args(["doctor", "embedded:BTCUSDT", "--endpoint", &url]);
    command.env_remove("RES_OPTIONS");
    command
}

/// One collector, which is given up after a minute.
fn oracle(url: &str) -> Command {
    let url = url.replace("127.0.0.1", NAME);
    let one = [
        "--collectors",
        "1",
        "--samples",
        "1",
        "--ready-timeout",
        "1m",
    ];
    let source = ["--source", "embedded:BTCUSDT", "--endpoint", &url];
    let (mut command, _) = marked_run(&[&source[..], &one].concat());
    command.env_remove("RES_OPTIONS");
    command
}

fn assert_usable(done: &Finished) {
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
}

#[test]
#[ignore = "needs namespaces"]
fn a_first_name_server_that_is_silent_leaves_time_for_the_second() {
    let this = "a_first_name_server_that_is_silent_leaves_time_for_the_second";
    if !name_servers(this, "nameserver 127.0.0.2\nnameserver 127.0.0.3\n") {
        return;
    }
    let _silent = UdpSocket::bind("127.0.0.2:53").unwrap();
    let mut second = NameServer::at("127.0.0.3");
    let (_exchange, url) = exchange(&[]);
    assert_usable(&second.serve(start_command(doctor(&url))));
}

#[test]
#[ignore = "needs namespaces"]
fn a_slow_name_server_is_heard_if_it_is_the_only_one_or_the_operator_says_so() {
    let this = "a_slow_name_server_is_heard_if_it_is_the_only_one_or_the_operator_says_so";
    if !name_servers(this, "nameserver 127.0.0.3\n") {
        return;
    }
    let mut slow = NameServer::at("127.0.0.3");
    slow.delay = Duration::from_millis(1_500);
    let (_exchange, url) = exchange(&[]);
    for way in [doctor, oracle] {
        name_servers(this, "nameserver 127.0.0.3\n");
        assert_usable(&slow.serve(start_command(way(&url))));
        // There are two name servers. If the program shortened its timeout because of that, neither could answer in time.
        let two = "nameserver 127.0.0.3\nnameserver 127.0.0.3\n";
        name_servers(this, &format!("{two}options timeout:3\n"));
        assert_usable(&slow.serve(start_command(way(&url))));
        name_servers(this, two);
        let mut command = way(&url);
        command.env("RES_OPTIONS", "timeout:3");
        assert_usable(&slow.serve(start_command(command)));
    }
}

#[test]
#[ignore = "needs namespaces"]
fn behind_many_addresses_of_one_family_the_other_ones_is_found() {
    let this = "behind_many_addresses_of_one_family_the_other_ones_is_found";
    if !name_servers(this, "nameserver 127.0.0.3\n") {
        return;
    }
    // A route on which packets are lost. With an address of its own, the resolver asks for this family too.
    let script =
        "ip -6 addr add 2001:db8:1::1/64 dev lo nodad && ip -6 route add 2001:db8::/64 dev lo";
    let done = Command::new("sh").args(["-c", script]).status().unwrap();
    assert!(done.success(), "{script}");
    let mut server = NameServer::at("127.0.0.3");
    server.others = 8;
    let (_exchange, url) = exchange(&[]);
    assert_usable(&server.serve(start_command(doctor(&url))));
}

#[test]
#[ignore = "needs namespaces"]
fn after_an_address_that_accepts_and_says_nothing_the_next_one_is_tried() {
    let this = "after_an_address_that_accepts_and_says_nothing_the_next_one_is_tried";
    if !name_servers(this, "nameserver 127.0.0.3\n") {
        return;
    }
    let mut server = NameServer::at("127.0.0.3");
    server.places.push([127, 0, 0, 2]);
    // The system puts 127.0.0.1 first (RFC 6724, section 6, rule 9).
    let exchange = start(&["exchange", "--listen", "127.0.0.2:0"]);
    let url = eventually("the exchange listens", || {
        let text = exchange.stdout();
        let (line, _) = text.split_once('\n')?;
        line.strip_prefix("listening on ").map(str::to_owned)
    });
    let silent = url.split('/').nth(2).expect("an address");
    let _silent = TcpListener::bind(silent.replace("127.0.0.2", "127.0.0.1")).unwrap();
    let url = url.replace("127.0.0.2", "127.0.0.1");
    assert_usable(&server.serve(start_command(oracle(&url))));
}

#[test]
#[ignore = "needs namespaces"]
fn while_no_name_server_answers_the_last_known_addresses_count() {
    let this = "while_no_name_server_answers_the_last_known_addresses_count";
    if !name_servers(this, "nameserver 127.0.0.3\n") {
        return;
    }
    let mut server = NameServer::at("127.0.0.3");
    let (exchange, url) = exchange(&[]);
    let port = url.split([':', '/']).nth(4).expect("a port").to_owned();
    let named = url.replace("127.0.0.1", NAME);
    let chronicle = Chronicle::new();
    let every = ["--every", "1s", "--samples", "1", "--endpoint", &named];
    let running = chronicle.start(&every);
    eventually("five prices", || {
        server.step();
        let newest = chronicle.reports().pop();
        newest.filter(|kept| kept.prices == 5)
    });
    // From now on nobody answers, and all connections end.
    drop(server);
    drop(exchange);
    let after = chronicle.lines().len();
    chronicle.until(after, "no price", |kept| kept.prices == 0);
    let listen = format!("127.0.0.1:{port}");
    let _again = start(&["exchange", "--listen", &listen]);
    let after = chronicle.lines().len();
    chronicle.until(after, "five prices again", |kept| kept.prices == 5);
    drop(running);
}
