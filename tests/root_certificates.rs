//! Which root certificates are trusted: the system's, or those that SSL_CERT_FILE or SSL_CERT_DIR name instead, and those that
//! --ca-file adds. Each run has its own directory mounted in place of the system's.

mod support;
mod witness;

use std::path::Path;
use std::process::Command;
use support::*;
use witness::*;

/// A short round.
const SHORT: [&str; 4] = ["--samples", "2", "--interval", "1s"];

/// An exchange, and the authority that signed its certificate.
struct Stage {
    _exchange: Running,
    url: String,
    ca: String,
}

impl Stage {
    fn new() -> Stage {
        let tls = good_certificates();
        let (exchange, url) = exchange(&["--cert", &tls.cert, "--key", &tls.key]);
        Stage {
            _exchange: exchange,
            url,
            ca: tls.ca,
        }
    }

    /// Runs where the system's only certificates are those of `system`.
    fn run(&self, system: Option<&str>, more: &[&str], variables: &[(&str, &str)]) -> Finished {
        let fill = system.map_or("true".to_owned(), |file| {
            format!("cp '{file}' /etc/ssl/certs/ca-certificates.crt")
        });
        let more = [&SHORT, more].concat();
        self.start(&fill, &more, variables).finish()
    }

    /// Starts such a run, where the script `fill` puts certificates into the system's empty directories.
    fn start(&self, fill: &str, more: &[&str], variables: &[(&str, &str)]) -> Running {
        let (mut command, _) =
            marked_run(&["--source", "embedded:BTCUSDT", "--endpoint", &self.url]);
        command.args(["--collectors", "3"]);
        command.args(more);
        // Ignore the calling machine's settings.
        command.envs([("SSL_CERT_FILE", ""), ("SSL_CERT_DIR", "")]);
        command.envs(variables.iter().copied());
        let bare = "for dir in /etc/ssl /etc/pki; do [ ! -d $dir ] || mount -t tmpfs none $dir || exit 1; done && mkdir -p /etc/ssl/certs";
        let script = format!("{bare} && {fill}");
        start_command(with_mounts(&script, &command))
    }
}

fn assert_price(done: &Finished) {
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stdout.contains("3 of 3 signatures"), "{}", done.stdout);
}

fn assert_untrusted(done: &Finished) {
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (Some(3), ""),
        "{}",
        done.stderr
    );
    assert!(
        done.stderr
            .contains("no authority that is trusted here signed its certificate"),
        "{}",
        done.stderr
    );
}

/// Asserts that a run ends before it starts anything, with a message that contains all of `parts`.
fn assert_refused(done: &Finished, parts: &[&str]) {
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (Some(1), ""),
        "{}",
        done.stderr
    );
    assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    for part in parts {
        assert!(done.stderr.contains(part), "{part:?} in {}", done.stderr);
    }
}

/// A directory with a certificate under the hash name by which OpenSSL finds it.
fn rehashed(certificate: &str) -> String {
    let file = scratch("one.pem");
    std::fs::copy(certificate, &file).unwrap();
    let dir = file.parent().unwrap().to_str().unwrap().to_owned();
    let done = Command::new("openssl")
        .args(["rehash", &dir])
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    dir
}

#[test]
#[ignore = "needs namespaces"]
fn those_of_the_system_are_found() {
    let stage = Stage::new();
    let done = stage.run(Some(&stage.ca), &[], &[]);
    assert_price(&done);
    // Naming the usual file is the same as naming none.
    let usual = ("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt");
    assert_price(&stage.run(Some(&stage.ca), &[], &[usual]));
    assert_untrusted(&stage.run(Some(&good_certificates().ca), &[], &[]));
}

/// If the system has all roots both in one file and in a file each, the large file is deferred, but still counts.
#[test]
#[ignore = "needs namespaces"]
fn a_file_that_is_put_off_counts_when_it_is_needed() {
    let (stage, other) = (Stage::new(), good_certificates());
    let fill = |file: &str, single: &str| {
        let dir = rehashed(single);
        format!("cp '{file}' /etc/ssl/certs/ca-certificates.crt && cp -a '{dir}'/. /etc/ssl/certs")
    };
    let (ours, others) = (stage.ca.as_str(), other.ca.as_str());
    for (file, single) in [(ours, others), (others, ours), (ours, ours)] {
        let running = stage.start(&fill(file, single), &["--samples", "3"], &[]);
        let put_off = |id: &u32| {
            let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
            let name = b"RSORACLE_DEFERRED_ROOTS=";
            environment
                .split(|byte| *byte == 0)
                .any(|one| one.starts_with(name))
        };
        eventually("three collectors have put the file off", || {
            let children = running.children();
            (children.iter().filter(|id| put_off(id)).count() == 3).then_some(())
        });
        assert_price(&running.finish());
    }
    let neither = stage.start(&fill(others, others), &SHORT, &[]);
    assert_untrusted(&neither.finish());
    // If the directory has fewer roots than the file, the file is not deferred.
    let two = format!(
        "{} && cat '{ours}' >> /etc/ssl/certs/ca-certificates.crt",
        fill(others, others)
    );
    assert_price(&stage.start(&two, &SHORT, &[]).finish());
}

#[test]
#[ignore = "needs namespaces"]
fn none_at_all_is_said_in_words() {
    let stage = Stage::new();
    let done = stage.run(None, &[], &[]);
    let parts = [
        "there are no root certificates",
        "/etc/ssl/certs",
        "--ca-file or SSL_CERT_FILE",
    ];
    assert_refused(&done, &parts);
    assert_price(&stage.run(None, &["--ca-file", &stage.ca], &[]));
}

#[test]
#[ignore = "needs namespaces"]
fn a_file_that_is_named_adds_to_the_systems() {
    let (stage, other) = (Stage::new(), good_certificates());
    let done = stage.run(Some(&other.ca), &["--ca-file", &stage.ca], &[]);
    assert_price(&done);
    assert_price(&stage.run(Some(&stage.ca), &["--ca-file", &other.ca], &[]));
}

#[test]
#[ignore = "needs namespaces"]
fn a_variable_stands_in_the_systems_place() {
    let (stage, other) = (Stage::new(), good_certificates());
    let (ours, theirs) = (rehashed(&stage.ca), rehashed(&other.ca));
    let done = stage.run(None, &[], &[("SSL_CERT_FILE", &stage.ca)]);
    assert_price(&done);
    assert_price(&stage.run(None, &[], &[("SSL_CERT_DIR", &ours)]));
    let both = [
        ("SSL_CERT_FILE", other.ca.as_str()),
        ("SSL_CERT_DIR", ours.as_str()),
    ];
    assert_price(&stage.run(None, &[], &both));
    // Then the system's certificates do not count, but --ca-file does.
    for named in [
        ("SSL_CERT_FILE", other.ca.as_str()),
        ("SSL_CERT_DIR", theirs.as_str()),
    ] {
        assert_untrusted(&stage.run(Some(&stage.ca), &[], &[named]));
        let added = ["--ca-file", stage.ca.as_str()];
        assert_price(&stage.run(Some(&other.ca), &added, &[named]));
    }
}

#[test]
#[ignore = "needs namespaces"]
fn a_variable_that_names_none_is_refused_rather_than_passed_over() {
    let stage = Stage::new();
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let empty = scratch("nothing");
    let empty = empty.parent().and_then(Path::to_str).unwrap();
    for (name, value, cause) in [
        ("SSL_CERT_FILE", "/nonexistent.pem", "No such file"),
        ("SSL_CERT_FILE", readme, "no certificate in it"),
        ("SSL_CERT_FILE", "/dev/zero", "it is larger than"),
        ("SSL_CERT_DIR", "/nonexistent", "No such file"),
        ("SSL_CERT_DIR", empty, "no certificate in it"),
        ("SSL_CERT_DIR", &stage.ca, "Not a directory"),
    ] {
        let done = stage.run(Some(&stage.ca), &[], &[(name, value)]);
        let named = format!("cannot use {name}={value}: {cause}");
        assert_refused(&done, &[&named, "in PEM form"]);
    }
}

/// Runs a shell script that makes certificates in a new directory. Returns the directory.
fn made(script: &str) -> String {
    let dir = scratch("x").parent().unwrap().to_str().unwrap().to_owned();
    let script = format!("set -e; cd '{dir}'; {script}");
    let done = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    dir
}

#[test]
#[ignore = "needs namespaces"]
fn the_variables_are_read_as_openssl_reads_them() {
    let stage = Stage::new();
    let (ours, theirs) = (rehashed(&stage.ca), rehashed(&good_certificates().ca));
    // A dead link and a file that is no certificate, under names by which OpenSSL would look for one.
    let spoilt = made(&format!(
        "cp -a '{ours}'/. .; ln -s /nonexistent 0123abcd.0; echo none > 89abcdef.0"
    ));
    for dirs in [
        format!("{theirs}:{ours}"),
        format!("/etc/ssl/certs:/nonexistent::{ours}"),
        spoilt,
    ] {
        assert_price(&stage.run(None, &[], &[("SSL_CERT_DIR", &dirs)]));
    }
    assert_untrusted(&stage.run(Some(&stage.ca), &[], &[("SSL_CERT_DIR", &theirs)]));
    let script = "openssl x509 -in $CA -trustout -addtrust serverAuth -out trusted.pem
        openssl x509 -in $CA -trustout -setalias other -out alias.pem
        openssl x509 -in $CA -trustout -addtrust emailProtection -out other.pem
        openssl x509 -in $CA -trustout -addreject serverAuth -out rejected.pem
        sed 's/CERTIFICATE/X509 &/; s/$/\\r/' $CA > windows.pem
        { printf '\\357\\273\\277'; cat $CA; } > marked.pem
        { echo text; sed 's/^/# /' $CA; cat $CA; } > commented.pem";
    let dir = made(&format!("CA='{}'; {script}", stage.ca));
    for name in ["trusted", "alias", "windows", "marked", "commented"] {
        let file = format!("{dir}/{name}.pem");
        assert_price(&stage.run(None, &[], &[("SSL_CERT_FILE", &file)]));
        assert_price(&stage.run(None, &["--ca-file", &file], &[]));
    }
    // What OpenSSL would not trust for servers is not trusted.
    for name in ["other", "rejected"] {
        let file = format!("{dir}/{name}.pem");
        let done = stage.run(None, &[], &[("SSL_CERT_FILE", &file)]);
        assert_refused(&done, &["no certificate in it"]);
    }
}

#[test]
#[ignore = "needs namespaces"]
fn a_certificate_that_cannot_be_read_is_named() {
    let stage = Stage::new();
    let script = "{ cat $CA; sed 's/^M/m/' $CA; } > second.pem; head -3 $CA > half.pem; mkdir one; cp second.pem one/0123abcd.0";
    let dir = made(&format!("CA='{}'; {script}", stage.ca));
    for (name, number) in [("second", 2), ("half", 1)] {
        let cause = format!("{dir}/{name}.pem: certificate {number} of it cannot be read");
        let file = format!("{dir}/{name}.pem");
        assert_refused(&stage.run(None, &["--ca-file", &file], &[]), &[&cause]);
    }
    let place = format!("{dir}/one");
    let cause = format!("certificate 2 of it cannot be read ({place}/0123abcd.0)");
    let done = stage.run(None, &[], &[("SSL_CERT_DIR", &place)]);
    assert_refused(&done, &[&cause]);
}

#[test]
#[ignore = "needs namespaces"]
fn an_intermediate_authority_without_its_root_is_told_apart() {
    let dir = made(
        "new() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $1.key -out $1.csr -subj /CN=$1; }
        sign() { openssl x509 -req -in $1.csr -CA $2.pem -CAkey $2.key -CAcreateserial -days 9000 -extfile $1.ext -out $1.pem; }
        echo basicConstraints=CA:TRUE > middle.ext; echo subjectAltName=DNS:localhost,IP:127.0.0.1 > leaf.ext
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout root.key -out root.pem -days 9000 -subj /CN=root
        new middle; new leaf; sign middle root; sign leaf middle; cat middle.pem root.pem > both.pem",
    );
    let place = |name: &str| format!("{dir}/{name}");
    let (exchange, url) = exchange(&["--cert", &place("leaf.pem"), "--key", &place("leaf.key")]);
    let stage = Stage {
        _exchange: exchange,
        url,
        ca: place("both.pem"),
    };
    let other = good_certificates().ca;
    assert_price(&stage.run(Some(&other), &["--ca-file", &stage.ca], &[]));
    let done = stage.run(Some(&other), &["--ca-file", &place("middle.pem")], &[]);
    assert_eq!(done.code, Some(3), "{}", done.stderr);
    let advice = "add the root's certificate to the file of --ca-file or SSL_CERT_FILE";
    assert!(done.stderr.contains(advice), "{}", done.stderr);
}

#[test]
fn a_variable_that_is_not_text_is_refused_rather_than_passed_over() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    for name in [
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "HTTPS_PROXY",
        "https_proxy",
        "NO_PROXY",
        "no_proxy",
    ] {
        for args in [&["run", "--source", "kraken"][..], &["doctor", "kraken"]] {
            let mut command = rsoracle();
            command.args(args);
            command.env(name, OsStr::from_bytes(b"/tmp/\xff.pem"));
            let done = start_command(command).finish();
            assert_refused(&done, &[name, "not valid UTF-8", "correct or unset it"]);
        }
    }
}
