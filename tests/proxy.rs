//! Connections through a scripted proxy to the embedded exchange, whose name only the proxy can resolve. A price proves that
//! the TLS handshake passed through it unchanged.

mod served;
mod signed;
mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use support::*;

/// What the proxy does with a connection after it has read the whole request.
#[derive(Clone, Copy)]
enum Script {
    /// Opens a tunnel to the exchange, if the request has this line.
    Tunnel(&'static str),
    /// Sends this, and keeps the connection open.
    Say(&'static str),
    /// Sends this repeatedly.
    Repeat(&'static str),
}

/// A proxy that the test plays.
struct TestProxy {
    listener: TcpListener,
    script: Script,
    exchange: SocketAddr,
    clients: Vec<Client>,
    /// The heads of all requests so far.
    asked: Vec<String>,
}

struct Client {
    near: TcpStream,
    head: Vec<u8>,
    far: Option<TcpStream>,
    ended: bool,
}

/// Reads what has arrived; `None` if the connection has ended.
fn come(tcp: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 16 * 1024];
    match tcp.read(&mut bytes) {
        Ok(0) => None,
        Ok(count) => Some(bytes[..count].to_vec()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Some(Vec::new()),
        Err(_) => None,
    }
}

fn nonblocking(tcp: TcpStream) -> TcpStream {
    tcp.set_nonblocking(true).expect("a socket option");
    tcp.set_nodelay(true).expect("a socket option");
    tcp
}

impl TestProxy {
    fn new(script: Script, exchange: SocketAddr) -> TestProxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket option");
        let (clients, asked) = (Vec::new(), Vec::new());
        TestProxy {
            listener,
            script,
            exchange,
            clients,
            asked,
        }
    }

    /// Its URL, with a login such as `user:password@`.
    fn url(&self, login: &str) -> String {
        format!(
            "http://{login}{}",
            self.listener.local_addr().expect("it is bound")
        )
    }

    fn step(&mut self) {
        while let Ok((tcp, _)) = self.listener.accept() {
            let near = nonblocking(tcp);
            let (head, far, ended) = (Vec::new(), None, false);
            self.clients.push(Client {
                near,
                head,
                far,
                ended,
            });
        }
        for client in &mut self.clients {
            let begun = client.head.ends_with(b"\r\n\r\n");
            if let Some(far) = &mut client.far {
                client.ended = !pass(&mut client.near, far) || !pass(far, &mut client.near);
                continue;
            }
            match come(&mut client.near) {
                Some(bytes) => client.head.extend(bytes),
                None => client.ended = true,
            }
            if let (true, Script::Repeat(text)) = (begun, self.script) {
                let _ = client.near.write(text.repeat(100).as_bytes());
            }
            if begun || !client.head.ends_with(b"\r\n\r\n") {
                continue;
            }
            let head = String::from_utf8_lossy(&client.head).into_owned();
            let answer = match self.script {
                Script::Tunnel(line) if head.contains(line) => {
                    let far = TcpStream::connect(self.exchange).expect("the exchange listens");
                    client.far = Some(nonblocking(far));
                    "HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n"
                }
                Script::Tunnel(_) => {
                    "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n"
                }
                Script::Say(text) | Script::Repeat(text) => text,
            };
            self.asked.push(head);
            client
                .near
                .write_all(answer.as_bytes())
                .expect("an answer fits");
        }
        self.clients.retain(|client| !client.ended);
    }

    /// Serves until the program ends.
    fn serve(&mut self, mut running: Running) -> Finished {
        eventually("the program's end", || {
            self.step();
            running.ended().then_some(())
        });
        running.finish()
    }
}

/// Forwards what has arrived. Returns whether both connections are still open.
fn pass(from: &mut TcpStream, to: &mut TcpStream) -> bool {
    let Some(bytes) = come(from) else {
        let _ = to.shutdown(std::net::Shutdown::Write);
        return false;
    };
    let mut left = &bytes[..];
    while !left.is_empty() {
        match to.write(left) {
            Ok(count) => left = &left[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
    }
    true
}

/// The exchange behind the proxy, over TLS, under a reserved name (RFC 6761) that nobody else resolves.
struct Stage {
    _exchange: Running,
    address: SocketAddr,
    url: String,
    ca: String,
}

impl Stage {
    fn new() -> Stage {
        let names = "DNS:exchange.invalid,DNS:localhost";
        let tls = certificates(names, "20200101000000Z", "20991231235959Z");
        let (running, url) = exchange(&["--cert", &tls.cert, "--key", &tls.key]);
        let address = url
            .split('/')
            .nth(2)
            .expect("an address")
            .parse()
            .expect("an address");
        let url = url.replace("127.0.0.1", "exchange.invalid");
        Stage {
            _exchange: running,
            address,
            url,
            ca: tls.ca,
        }
    }

    fn proxy(&self, script: Script) -> TestProxy {
        TestProxy::new(script, self.address)
    }

    /// Starts `rsoracle doctor` for that exchange, through the proxy.
    fn doctor(&self, proxy: &TestProxy) -> Running {
        let args = [
            "doctor",
            "embedded:BTCUSDT",
            "--endpoint",
            &self.url,
            "--ca-file",
            &self.ca,
        ];
        start(&[&args[..], &["--proxy", &proxy.url("")]].concat())
    }

    /// Starts a run of one sample, with these arguments and environment variables.
    fn run(&self, more: &[&str], variables: &[(&str, &str)]) -> Running {
        let mut command = rsoracle();
        command.args([
            "run",
            "--source",
            "embedded:BTCUSDT",
            "--endpoint",
            &self.url,
        ]);
        command.args(["--ca-file", &self.ca, "--collectors", "1", "--samples", "1"]);
        command.args(["--control-port", "0", "--data-port", "0"]);
        command.args(more).envs(variables.iter().copied());
        start_command(command)
    }
}

fn assert_price(done: &Finished) {
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stdout.contains("1 of 1 signature"), "{}", done.stdout);
}

#[test]
fn a_price_comes_through_a_proxy_that_the_environment_or_the_command_line_names() {
    let stage = Stage::new();
    let target = stage.url.split('/').nth(2).unwrap();
    for way in ["HTTPS_PROXY", "https_proxy", "--proxy"] {
        let mut proxy = stage.proxy(Script::Tunnel(""));
        let url = proxy.url("");
        let running = match way {
            "--proxy" => stage.run(
                &["--proxy", &url],
                &[("HTTPS_PROXY", "http://127.0.0.1:1"), ("NO_PROXY", "*")],
            ),
            name => stage.run(&[], &[(name, &url), ("NO_PROXY", "example.org")]),
        };
        assert_price(&proxy.serve(running));
        let asked = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        assert_eq!(proxy.asked, [asked], "{way}");
    }
}

#[test]
fn credentials_reach_the_proxy_and_no_argument_of_a_child_and_no_output() {
    let stage = Stage::new();
    // "user:pass word" in the form of RFC 7617.
    let line = "\r\nProxy-Authorization: Basic dXNlcjpwYXNzIHdvcmQ=\r\n";
    let mut proxy = stage.proxy(Script::Tunnel(line));
    let url = proxy.url("user:pass%20word@");
    let running = stage.run(&["--proxy", &url], &[]);
    let collector = running.collector(0);
    let seen = arguments(collector).join(" ");
    assert!(seen.contains("--slot") && !seen.contains("pass"), "{seen}");
    let done = proxy.serve(running);
    assert_price(&done);
    assert!(!(done.stdout + &done.stderr).contains("pass%20word"));

    let running = stage.run(
        &["--ready-timeout", "20s"],
        &[("HTTPS_PROXY", &proxy.url("user:bad@"))],
    );
    let done = proxy.serve(running);
    assert_eq!(done.code, Some(3), "{}", done.stderr);
    for part in [
        "cannot reach exchange.invalid:",
        " through the proxy 127.0.0.1:",
        "refused with HTTP 407: it requires credentials, or does not accept these",
        "http://USER:PASSWORD@HOST:PORT",
    ] {
        assert!(done.stderr.contains(part), "{part} in {}", done.stderr);
    }
    assert!(!done.stderr.contains("bad"), "{}", done.stderr);
}

#[test]
fn who_is_named_in_no_proxy_is_reached_without_it() {
    let stage = Stage::new();
    let mut proxy = stage.proxy(Script::Say("HTTP/1.1 403 Forbidden\r\n\r\n"));
    let url = stage.url.replace("exchange.invalid", "localhost");
    let near = Stage { url, ..stage };
    let running = near.run(
        &[],
        &[
            ("HTTPS_PROXY", &proxy.url("")),
            ("NO_PROXY", "a.example,localhost"),
        ],
    );
    assert_price(&proxy.serve(running));
    assert!(proxy.asked.is_empty(), "{:?}", proxy.asked);
    let running = near.run(
        &[],
        &[("HTTPS_PROXY", &proxy.url("")), ("NO_PROXY", "calhost")],
    );
    let done = proxy.serve(running);
    assert_eq!(done.code, Some(3), "{}", done.stderr);
    assert!(
        done.stderr.contains("does not let this machine reach"),
        "{}",
        done.stderr
    );
}

#[test]
fn what_a_proxy_does_instead_of_its_work_is_said_in_words() {
    let stage = Stage::new();
    for (script, says) in [
        (
            Script::Say("HTTP/1.1 403 Forbidden\r\n\r\n"),
            "refused with HTTP 403",
        ),
        (
            Script::Say("HTTP/1.0 502 Bad Gateway\r\n\r\n"),
            "refused with HTTP 502: it could not reach",
        ),
        (
            Script::Say("220 mail.example ESMTP\r\n"),
            "what answers there does not speak HTTP",
        ),
        (Script::Say(""), "no whole answer to CONNECT within 5000 ms"),
        (
            Script::Say("HTTP/1.1 200 OK\r\nX: "),
            "no whole answer to CONNECT within 5000 ms",
        ),
        (
            Script::Repeat("HTTP/1.1 200 OK\r\n"),
            "longer than 8192 bytes",
        ),
    ] {
        let mut proxy = stage.proxy(script);
        let done = proxy.serve(stage.doctor(&proxy));
        let text = done.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(done.code, Some(1), "{text} {}", done.stderr);
        let attempt = "cannot reach exchange.invalid:";
        assert!(
            text.contains(attempt) && text.contains(says),
            "{says} in {text}"
        );
    }
}

#[test]
fn a_doctor_that_looks_through_a_proxy_says_which() {
    let stage = Stage::new();
    let mut proxy = stage.proxy(Script::Tunnel(""));
    let done = proxy.serve(stage.doctor(&proxy));
    assert_eq!(done.code, Some(0), "{} {}", done.stdout, done.stderr);
    assert!(done.stdout.contains("Test authority"), "{}", done.stdout);
    let end = format!(
        "1 of 1 can be used, through the proxy {}\n",
        &proxy.url("")[7..]
    );
    assert!(done.stdout.ends_with(&end), "{}", done.stdout);
}

#[test]
fn a_proxy_that_is_none_is_refused_before_anything_starts() {
    let stage = Stage::new();
    for (more, variables, code, says) in [
        (
            &["--proxy", "socks5://u:hidden@h:1"][..],
            &[][..],
            2,
            "--proxy is not valid",
        ),
        (
            &[],
            &[("HTTPS_PROXY", "https://u:hidden@h:1")],
            1,
            "the proxy that HTTPS_PROXY names",
        ),
        (
            &[],
            &[("https_proxy", "h")],
            1,
            "the proxy that https_proxy names",
        ),
    ] {
        let done = stage.run(more, variables).finish();
        assert_eq!(
            (done.code, done.stdout.as_str()),
            (Some(code), ""),
            "{}",
            done.stderr
        );
        assert!(done.stderr.contains(says), "{says} in {}", done.stderr);
        assert!(!done.stderr.contains("hidden"), "{}", done.stderr);
        assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    }
    let done = stage
        .run(
            &["--proxy", "http://127.0.0.1:1", "--ready-timeout", "10s"],
            &[],
        )
        .finish();
    assert_eq!(done.code, Some(3));
    assert!(done.stderr.contains("this is the proxy"), "{}", done.stderr);
}

#[test]
fn a_proxy_that_answers_in_the_exchanges_place_is_not_believed() {
    let stage = Stage::new();
    // A certificate for the same name, from another authority.
    let other = Stage::new();
    let mut proxy = TestProxy::new(Script::Tunnel(""), other.address);
    let url = proxy.url("");
    let done = proxy.serve(stage.run(&["--proxy", &url, "--ready-timeout", "20s"], &[]));
    assert_eq!((done.code, done.stdout.as_str()), (Some(3), ""));
    assert!(done.stderr.contains("certificate"), "{}", done.stderr);
    assert!(!proxy.asked.is_empty());
}

#[test]
fn a_server_of_reports_is_followed_through_a_proxy() {
    let certificates = good_certificates();
    let mut book = served::Book::new(signed::START_US);
    book.grow(3);
    let roster = scratch("roster.toml");
    let text = rsoracle::roster::text::render(&signed::roster_of(&book.oracle.terms));
    std::fs::write(&roster, text).unwrap();
    let flags = ["--cert", &certificates.cert, "--key", &certificates.key];
    let served = served::Served::start(&book.path, &flags);
    // The name is the proxy's to resolve.
    let url = format!("https://localhost:{}", served.address.port());
    let mut proxy = TestProxy::new(Script::Tunnel("Basic dTpw"), served.address);
    for (login, code, says) in [("u:p@", 3, "100002"), ("", 1, "it requires credentials")] {
        let roster = roster.to_str().unwrap();
        let url_of_proxy = proxy.url(login);
        let fixed = ["follow", &url, "--roster", roster, "--once"];
        let more = ["--ca-file", &certificates.ca, "--proxy", &url_of_proxy];
        let done = proxy.serve(start(
            &[fixed, [more[0], more[1], more[2], more[3], "--json"]].concat(),
        ));
        assert_eq!(done.code, Some(code), "{}", done.stderr);
        let all = done.stdout + &done.stderr;
        assert!(all.contains(says), "{all}");
    }
    assert!(proxy.asked[0].starts_with(&format!("CONNECT {} ", &url["https://".len()..])));
}
