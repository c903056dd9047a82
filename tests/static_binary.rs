//! The static binary depends on no other file: its ELF headers say so, and it does the main job in an otherwise empty root
//! with the files of docs/Dockerfile.
//!
//! `make test` builds it if this machine can ('make musl'), and names it in RSORACLE_STATIC.

mod image;
mod support;
mod witness;

#[path = "static_binary/elf.rs"]
mod elf;

use elf::Elf;
use image::{Image, ONE_ROUND};
use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::*;
use witness::*;

/// The binary under test.
fn static_binary() -> PathBuf {
    let path = std::env::var_os("RSORACLE_STATIC").map(PathBuf::from);
    let path = path.expect("RSORACLE_STATIC names the static binary");
    assert!(path.is_file(), "RSORACLE_STATIC: no {}", path.display());
    path
}

#[test]
#[ignore = "needs static"]
fn its_headers_ask_for_no_interpreter_and_no_library() {
    // The reader of ELF headers finds both in a dynamic binary.
    let dynamic = Elf::read(&std::fs::read(env!("CARGO_BIN_EXE_rsoracle")).unwrap());
    assert!(dynamic.interpreter.is_some() && dynamic.libraries > 0);
    assert!(!dynamic.stripped, "{dynamic:?}");
    let path = static_binary();
    let elf = Elf::read(&std::fs::read(path).unwrap());
    assert_eq!((&elf.interpreter, elf.libraries), (&None, 0), "{elf:?}");
    assert!(elf.stripped && elf.relocatable, "{elf:?}");
    assert!(
        elf.read_only_relocations && !elf.executable_stack,
        "{elf:?}"
    );
}

/// Largest size of the static verifier in bytes.
const VERIFIER_BYTES_MAX: u64 = 1_000_000;

#[test]
#[ignore = "needs static"]
fn the_verifier_is_small_and_asks_for_no_interpreter_and_no_library() {
    // 'make test' builds it beside the static binary ('make verifier').
    let verifier = static_binary().with_file_name("rsoracle-verify");
    let bytes = std::fs::read(verifier).expect("the static verifier");
    let elf = Elf::read(&bytes);
    assert_eq!((&elf.interpreter, elf.libraries), (&None, 0), "{elf:?}");
    assert!(elf.stripped, "{elf:?}");
    assert!(
        bytes.len() as u64 <= VERIFIER_BYTES_MAX,
        "{} bytes",
        bytes.len()
    );
}

/// All files below a directory.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path);
        }
    }
    found
}

#[test]
#[ignore = "needs static, namespaces"]
fn alone_in_an_empty_root_it_does_the_main_job_over_tls() {
    let binary = static_binary();
    let image = Image::read();
    let tls = good_certificates();
    let root = image.lay_out(&binary, &tls.ca);
    let laid_out = files(&root);
    assert_eq!(
        laid_out.len(),
        2,
        "the binary and the certificates: {laid_out:?}"
    );
    let mut command = image.command(&root);
    let (_exchange, url) = exchange(&["--cert", &tls.cert, "--key", &tls.key]);
    command.args(["run", "--source", "embedded:BTCUSDT", "--endpoint", &url]);
    command.args([
        "--samples",
        "3",
        "--interval",
        "1s",
        "--control-port",
        "0",
        "--data-port",
        "0",
    ]);
    let done = start_command(command).finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(
        done.stdout.starts_with("embedded BTC/USD 872"),
        "{}",
        done.stdout
    );
    assert!(
        done.stdout.contains("(5 of 5 signatures verified"),
        "{}",
        done.stdout
    );
    assert_eq!(files(&root), laid_out, "it writes nothing");
}

#[test]
#[ignore = "needs static, namespaces"]
fn alone_in_an_empty_root_it_brings_its_own_exchange() {
    let binary = static_binary();
    let image = Image::read();
    let root = image.lay_out(&binary, &good_certificates().ca);
    let mut command = image.command(&root);
    command.args([
        "run",
        "--source",
        "embedded:BTCUSDT",
        "--samples",
        "3",
        "--interval",
        "1s",
    ]);
    command.args(["--control-port", "0", "--data-port", "0", "--quiet"]);
    let done = start_command(command).finish();
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    assert!(
        done.stdout.contains("(5 of 5 signatures verified"),
        "{}",
        done.stdout
    );
}

#[test]
#[ignore = "needs static, namespaces"]
fn alone_in_an_empty_root_it_does_what_the_image_says_and_is_well() {
    let binary = static_binary();
    let image = Image::read();
    let root = image.lay_out(&binary, &good_certificates().ca);
    let (mut run, mut health) = (image.command(&root), image.command(&root));
    run.args(&image.run).args(ONE_ROUND);
    let done = start_command(run).finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    health.args(&image.health);
    let done = start_command(health).finish();
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
}

#[test]
#[ignore = "needs static, namespaces"]
fn without_certificates_it_says_so_and_what_to_do_before_anything_starts() {
    let binary = static_binary();
    let image = Image::read();
    let root = image.lay_out(&binary, &good_certificates().ca);
    std::fs::remove_dir_all(root.join("etc")).unwrap();
    let mut command = image.command(&root);
    command.args(["run", "--control-port", "0", "--data-port", "0"]);
    let done = start_command(command).finish();
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (Some(1), ""),
        "{}",
        done.stderr
    );
    for part in [
        "there are no root certificates",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "/etc/ssl/certs/ca-certificates.crt",
        "name a PEM file of root certificates with --ca-file",
    ] {
        assert!(done.stderr.contains(part), "{part:?} in {}", done.stderr);
    }
    assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
}

/// Answers one query as a name server that resolves every name to 127.0.0.1 (RFC 1035, 4.1).
fn answer(server: &UdpSocket) -> Option<()> {
    let mut question = [0; 512];
    let (length, asker) = server.recv_from(&mut question).ok()?;
    let question = &question[..length];
    let name_end = 12 + question[12..].iter().position(|byte| *byte == 0)?;
    let kind = &question[name_end + 1..name_end + 3];
    let found: u8 = if kind == [0, 1] { 1 } else { 0 };
    let mut reply = question[..name_end + 5].to_vec();
    // A response with recursion available: one question, and the number of answers.
    reply[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, found, 0, 0, 0, 0]);
    if found == 1 {
        // The same name, type A, class IN, TTL of a minute, four bytes.
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    server.send_to(&reply, asker).ok().map(|_| ())
}

#[test]
#[ignore = "needs static, namespaces"]
fn it_resolves_names_by_itself() {
    let binary = static_binary();
    let this = "it_resolves_names_by_itself";
    let Some(resolvers) = resolver_file() else {
        return in_a_network_of_its_own(this);
    };
    let server = UdpSocket::bind("127.0.0.1:53").unwrap();
    server.set_nonblocking(true).unwrap();
    let always = ("20200101000000Z", "20991231235959Z");
    let tls = certificates("DNS:exchange.example", always.0, always.1);
    let (_exchange, url) = exchange(&["--cert", &tls.cert, "--key", &tls.key]);
    let root = Image::read().lay_out(&binary, &tls.ca);
    std::fs::copy(resolvers, root.join("etc/resolv.conf")).unwrap();
    let mut command = Command::new("chroot");
    command
        .arg(&root)
        .args(["/rsoracle", "run", "--source", "embedded:BTCUSDT"]);
    command.args(["--endpoint", &url.replace("127.0.0.1", "exchange.example")]);
    command.args([
        "--samples",
        "3",
        "--interval",
        "1s",
        "--control-port",
        "0",
        "--data-port",
        "0",
    ]);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap());
    let mut running = start_command(command);
    let mut answered = 0;
    eventually("the round is over", || {
        while answer(&server).is_some() {
            answered += 1;
        }
        running.ended().then_some(())
    });
    let done = running.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(
        done.stdout.contains("(5 of 5 signatures verified"),
        "{}",
        done.stdout
    );
    assert!(
        answered >= 5,
        "five collectors asked, {answered} questions came"
    );
}

/// A self-signed certificate for 127.0.0.1; `kind` is the kind of key for `openssl req -newkey`.
fn self_signed(kind: &str) -> Certificates {
    let path = |name| scratch(name).to_str().unwrap().to_owned();
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    let mut command = Command::new("openssl");
    command.args([
        "req",
        "-x509",
        "-nodes",
        "-days",
        "9999",
        "-subj",
        "/CN=exchange",
    ]);
    command.args(["-addext", "subjectAltName=IP:127.0.0.1", "-newkey"]);
    command
        .args(kind.split(' '))
        .args(["-keyout", &key, "-out", &cert]);
    let done = command.output().unwrap();
    assert!(done.status.success(), "{done:?}");
    Certificates {
        ca: cert.clone(),
        cert,
        key,
    }
}

#[test]
#[ignore = "needs static"]
fn its_trimmed_tls_still_understands_every_usual_certificate() {
    let binary = static_binary();
    for kind in [
        "rsa:2048",
        "rsa:4096",
        "ec -pkeyopt ec_paramgen_curve:P-256",
        "ec -pkeyopt ec_paramgen_curve:P-384",
        "ed25519",
    ] {
        let tls = self_signed(kind);
        let (_exchange, url) = exchange(&["--cert", &tls.cert, "--key", &tls.key]);
        let mut command = Command::new(&binary);
        command.args([
            "run",
            "--source",
            "embedded:BTCUSDT",
            "--endpoint",
            &url,
            "--ca-file",
            &tls.ca,
        ]);
        command.args([
            "--samples",
            "1",
            "--collectors",
            "1",
            "--control-port",
            "0",
            "--data-port",
            "0",
        ]);
        let done = start_command(command).finish();
        assert_eq!(done.code, Some(0), "{kind}: {}", done.stderr);
    }
}

#[test]
#[ignore = "needs static"]
fn its_trimmed_tls_still_speaks_1_2_and_nothing_older() {
    let binary = static_binary();
    for (version, ciphers, agree) in [
        ("-tls1_3", "DEFAULT", true),
        ("-tls1_2", "ECDHE-RSA-AES128-GCM-SHA256", true),
        ("-tls1_2", "ECDHE-RSA-AES256-GCM-SHA384", true),
        ("-tls1_2", "ECDHE-RSA-CHACHA20-POLY1305", true),
        ("-tls1_1", "DEFAULT:@SECLEVEL=0", false),
        ("-tls1", "DEFAULT:@SECLEVEL=0", false),
    ] {
        let tls = self_signed("rsa:2048");
        let mut server = Command::new("openssl");
        // The server speaks plain HTTP, not WebSocket. But that error comes only after a successful TLS handshake.
        server.args([
            "s_server",
            "-accept",
            "127.0.0.1:0",
            "-www",
            version,
            "-cipher",
            ciphers,
        ]);
        server
            .args(["-cert", &tls.cert, "-key", &tls.key])
            .stdin(Stdio::null());
        let server = start_command(server);
        let port = eventually("openssl listens", || {
            let text = server.stdout();
            let line = text.lines().find_map(|line| line.strip_prefix("ACCEPT "))?;
            Some(line.rsplit(':').next()?.trim().to_owned())
        });
        let mut command = Command::new(&binary);
        let url = format!("wss://127.0.0.1:{port}/ws-api/v3");
        command.args([
            "run",
            "--source",
            "embedded:BTCUSDT",
            "--endpoint",
            &url,
            "--ca-file",
            &tls.ca,
        ]);
        command.args([
            "--collectors",
            "1",
            "--control-port",
            "0",
            "--data-port",
            "0",
        ]);
        let running = start_command(command);
        let said = eventually("a word about TLS or the websocket", || {
            let text = running.stderr();
            let said = |part: &str| text.contains(part);
            let said = [
                "cannot open a websocket at",
                "cannot complete the TLS handshake with",
            ]
            .map(said);
            (said != [false, false]).then_some(said)
        });
        assert_eq!(said, [agree, !agree], "{version} {ciphers}");
    }
}

#[test]
fn what_cannot_be_built_here_says_what_is_missing() {
    // A copy of the script, beside which nothing was installed.
    let copy = scratch("checkout").join(".ci/static");
    std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
    copy_program(concat!(env!("CARGO_MANIFEST_DIR"), "/.ci/static"), &copy);
    for (target, code, parts) in [
        (
            "x86_64-unknown-linux-gnu",
            2,
            ["expected ARCH-unknown-linux-musl"; 3],
        ),
        (
            "sparc-unknown-linux-musl",
            1,
            [
                "cannot build for sparc",
                "make musl-setup TARGET=sparc",
                "zig",
            ],
        ),
    ] {
        for task in ["build", "reproduce", "route"] {
            let mut command = Command::new(&copy);
            command.arg(task).env("TARGET", target).stdin(Stdio::null());
            let done = start_command(command).finish();
            assert_eq!(done.code, Some(code), "{}", done.stderr);
            for part in parts {
                assert!(done.stderr.contains(part), "{part:?} in {}", done.stderr);
            }
        }
    }
}
