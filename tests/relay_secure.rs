//! `rsoracle relay` and `rsoracle follow nats://` with servers that want credentials or TLS, and with a client in Python.

mod following;
mod nats;
mod signed;
mod support;

use following::*;
use nats::*;
use signed::*;
use std::path::Path;
use std::process::Command;
use support::*;

/// Seeds of users, and the public key of the first, made by Python's nkeys.
const SEED: &str = "SUAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4H776Y";
const PUBLIC: &str = "UAB2CB576PHBBPQ5ODORRZ2LYCMWPZGWGCN2KDK7DXOIMZASKUY3RLKK";
const OTHER: &str = "SUAP77X57T57V6PY673PL5HT6LY7B37O5XWOX2XJ5DT6NZPE4PRODYCLOI";

fn file(name: &str, text: &str) -> String {
    let path = scratch(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Starts a relay and a `follow --once`, which must both fail at once and say this.
fn refused(book: &Book, roster: &str, url: &str, flags: &[&str], parts: &[&str]) {
    let relay = book.relay(url, flags).finish();
    let follow = run(&[&["follow", url, "--once", "--roster", roster], flags].concat());
    for done in [relay, follow] {
        assert_eq!((done.code, &*done.stdout), (Some(1), ""), "{}", done.stderr);
        for part in parts {
            assert!(done.stderr.contains(part), "{part:?} in {}", done.stderr);
        }
    }
}

/// Publishes a journal, follows it to its end, and compares what it keeps.
fn passes(book: &mut Book, roster: &str, url: &str, flags: &[&str]) {
    let relay = book.relay(url, flags);
    book.until_said(&relay);
    let (follow, journal) = followed(url, roster, flags);
    rows_until(&follow, &mut [], 1);
    book.grow(200);
    rows_until(&follow, &mut [], 201);
    assert_eq!(kept(&journal), book.lines[book.lines.len() - 201..]);
    assert_eq!(follow.stderr(), "");
}

fn book() -> (Book, String) {
    let mut book = Book::new(&["BTC/USD"]);
    book.grow(3);
    let roster = roster_file(&roster_of_all(&book.oracles));
    (book, roster)
}

#[test]
#[ignore = "needs nats-server"]
fn a_server_that_knows_an_nkey_lets_its_owner_in_and_nobody_else() {
    let servers = [Nats::start(&format!(
        "authorization {{ users: [ {{ nkey: {PUBLIC} }} ] }}"
    ))];
    let (mut book, roster) = book();
    let url = servers[0].url();
    let own = file("own.nk", &format!("{SEED}\n"));
    let other = file("other.nk", OTHER);
    refused(
        &book,
        &roster,
        &url,
        &["--nkey", &other],
        &["Authorization Violation", "check the credentials"],
    );
    refused(
        &book,
        &roster,
        &url,
        &[],
        &["Authorization Violation", "--creds or --nkey"],
    );
    refused(
        &book,
        &roster,
        &url,
        &["--nkey", &roster],
        &["it has no user's seed", "--nkey"],
    );
    refused(
        &book,
        &roster,
        &url,
        &["--creds", &own],
        &["it has no token or no user's seed", "--nkey"],
    );
    passes(&mut book, &roster, &url, &["--nkey", &own]);
}

/// Valid certificates for another host.
fn certificates_of_another() -> Certificates {
    certificates(
        "DNS:elsewhere.example",
        "20200101000000Z",
        "20991231235959Z",
    )
}

#[test]
#[ignore = "needs nats-server"]
fn over_tls_a_server_needs_a_trusted_certificate_for_its_name() {
    let certificates = good_certificates();
    let tls = format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\" }}",
        certificates.cert, certificates.key
    );
    let server = Nats::start(&tls);
    let port = server.address.port();
    let (mut book, roster) = book();
    let trusting = ["--ca-file", &*certificates.ca];
    let named = |scheme: &str, host: &str| format!("{scheme}://{host}:{port}");
    let local = named("tls", "localhost");
    refused(
        &book,
        &roster,
        &local,
        &[],
        &["no authority that is trusted here", "--ca-file"],
    );
    // Whatever the address says, a server that wants TLS gets no word without it.
    refused(
        &book,
        &roster,
        &named("nats", "localhost"),
        &[],
        &["no authority that is trusted here"],
    );
    let other = certificates_of_another();
    let tls = format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\" }}",
        other.cert, other.key
    );
    let impostor = Nats::start(&tls);
    let wrong = format!("tls://localhost:{}", impostor.address.port());
    let flags = ["--ca-file", &*other.ca];
    let part = "its certificate is not for localhost";
    refused(&book, &roster, &wrong, &flags, &[part]);
    passes(&mut book, &roster, &local, &trusting);
    passes(&mut book, &roster, &named("nats", "localhost"), &trusting);
    // A server without TLS is not spoken to where TLS is asked for.
    let plain = Nats::start("");
    let url = plain.url().replace("nats:", "tls:");
    refused(&book, &roster, &url, &trusting, &["it does not offer TLS"]);
}

/// Makes an operator, accounts and users, and prints a server's configuration, credentials, and those of a stranger.
const MAKES: &str = r#"
import base64, json, os, sys, nkeys
def new(prefix):
    return nkeys.from_seed(nkeys.encode_seed(os.urandom(32), prefix))
def url64(data):
    return base64.urlsafe_b64encode(data).rstrip(b'=').decode()
def text(key):
    return key.public_key.decode()
def token(issuer, subject, name, claims):
    head = url64(json.dumps({'typ': 'JWT', 'alg': 'ed25519-nkey'}).encode())
    body = {'jti': 'X', 'iat': 1, 'iss': text(issuer), 'name': name, 'sub': text(subject), 'nats': {**claims, 'version': 2}}
    signed = head + '.' + url64(json.dumps(body).encode())
    return signed + '.' + url64(issuer.sign(signed.encode()))
def account(operator, name):
    key = new(nkeys.PREFIX_BYTE_ACCOUNT)
    some = ['subs', 'data', 'payload', 'imports', 'exports', 'conn', 'leaf']
    stores = ['mem_storage', 'disk_storage', 'streams', 'consumer'] if name != 'SYS' else []
    limits = {one: -1 for one in some + stores}
    limits['wildcards'] = True
    return key, token(operator, key, name, {'type': 'account', 'limits': limits})
def creds(account):
    key = new(nkeys.PREFIX_BYTE_USER)
    jwt = token(account, key, 'relay', {'type': 'user', 'subs': -1, 'data': -1, 'payload': -1, 'pub': {}, 'sub': {}})
    return ('-----BEGIN NATS USER JWT-----\n%s\n------END NATS USER JWT------\n\n'
            '-----BEGIN USER NKEY SEED-----\n%s\n------END USER NKEY SEED------\n' % (jwt, key.seed.decode()))
operator = new(nkeys.PREFIX_BYTE_OPERATOR)
system, system_jwt = account(operator, 'SYS')
own, own_jwt = account(operator, 'OWN')
stranger, _ = account(new(nkeys.PREFIX_BYTE_OPERATOR), 'OWN')
folder = sys.argv[1]
def write(name, what):
    with open(os.path.join(folder, name), 'w') as out:
        out.write(what)
write('own.creds', creds(own))
write('stranger.creds', creds(stranger))
write('conf', 'operator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload: { %s: %s, %s: %s }\n' % (
    token(operator, operator, 'op', {'type': 'operator'}), text(system), text(system), system_jwt, text(own), own_jwt))
"#;

/// Prints every message of a subject, and then publishes something to it.
const READS: &str = r#"
import asyncio, sys, nats
async def main(url, creds, subject, count):
    client = await nats.connect(url, user_credentials=creds)
    stream = client.jetstream()
    reader = await stream.subscribe(subject, stream='RSORACLE', ordered_consumer=True)
    for _ in range(int(count)):
        message = await reader.next_msg(timeout=60)
        print(message.data.decode())
    await stream.publish(subject, b'no report', stream='RSORACLE')
    await client.close()
asyncio.run(main(*sys.argv[1:]))
"#;

#[test]
#[ignore = "needs nats-server, python"]
fn a_client_in_python_reads_the_reports_that_a_verifier_in_python_takes() {
    let python = std::env::var_os("RSORACLE_PYTHON").expect("a Python that has nats-py");
    let ran = |words: &[&str]| {
        let mut command = Command::new(&python);
        command.args(words);
        let done = start_command(command).finish();
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        done.stdout
    };
    let conf = scratch("conf");
    let folder = conf.parent().unwrap().to_str().unwrap();
    ran(&["-c", MAKES, folder]);
    let [own, stranger] = ["own", "stranger"].map(|name| format!("{folder}/{name}.creds"));
    let server = Nats::start(&std::fs::read_to_string(&conf).unwrap());
    let url = server.url();
    let (mut book, roster) = book();
    refused(
        &book,
        &roster,
        &url,
        &["--creds", &stranger],
        &["Authorization Violation"],
    );
    refused(
        &book,
        &roster,
        &url,
        &[],
        &["Authorization Violation", "--creds or --nkey"],
    );
    book.grow(200);
    let relay = book.relay(&url, &["--creds", &own]);
    book.until_said(&relay);
    let fixed = [
        "follow", &url, "--json", "--roster", &roster, "--creds", &own,
    ];
    let follow = start(&fixed);
    rows_until(&follow, &mut [], 1);
    drop(relay);
    let read = ran(&["-c", READS, &url, &own, "rsoracle.BTC-USD.reports", "203"]);
    let lines: Vec<&str> = read.lines().collect();
    assert_eq!(lines, book.lines);
    let journal = file("read.jsonl", &read);
    assert_eq!(verified(&roster, &[&journal]).code, Some(0));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/verify.py");
    for line in [lines[0], lines[202]] {
        let one = file("report.json", line);
        let said = ran(&[script.to_str().unwrap(), &one, &roster]);
        assert!(said.contains("price of BTC/USD: "), "{said}");
    }
    // What it published is no report.
    let line = follow.stderr_line("it is passed over");
    assert!(
        line.contains("not a report") || line.contains("expected"),
        "{line}"
    );
    let done = run(&[&fixed[..], &["--once"]].concat());
    assert_eq!(rows(&done.stdout)[0].price, Some(302.0), "{}", done.stderr);
}
