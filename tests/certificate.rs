//! The reader of certificates, compared with the program `openssl`: on certificates made for that, and on all certificates that
//! this system trusts.

mod support;

use native_tls::Certificate as Pem;
use rsoracle::exchange::certificate::Certificate;
use rsoracle_proof::utc::utc_text;
use rsoracle_proof::utc::utc_us;
use std::process::Command;
use support::*;

/// The certificates of a PEM text, in DER.
fn ders(pem: &[u8]) -> Vec<Vec<u8>> {
    let stack = Pem::stack_from_pem(pem).expect("certificates in PEM form");
    let der = |certificate: &Pem| certificate.to_der().expect("DER");
    stack.iter().map(der).collect()
}

/// A self-signed certificate with this subject and this number of days, made with these further arguments.
fn made(subject: &str, days: &str, more: &[&str]) -> Vec<u8> {
    let (key, cert, config) = (
        scratch("key.pem"),
        scratch("cert.pem"),
        scratch("openssl.cnf"),
    );
    let mask = "[req]\ndistinguished_name=d\nstring_mask=default\n[d]\n";
    std::fs::write(&config, mask).unwrap();
    let mut command = Command::new("openssl");
    command.args([
        "req", "-x509", "-nodes", "-utf8", "-subj", subject, "-days", days,
    ]);
    command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    command
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .arg("-config")
        .arg(&config);
    let output = command.args(more).output().expect("openssl runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    ders(&std::fs::read(&cert).unwrap()).remove(0)
}

/// What `openssl` reads: the end of validity, and the issuer's attributes as `CN=…`.
fn by_openssl(der: &[u8]) -> (u64, Vec<String>) {
    let path = scratch("cert.der");
    std::fs::write(&path, der).unwrap();
    let mut command = Command::new("openssl");
    command.args([
        "x509", "-inform", "DER", "-noout", "-enddate", "-dateopt", "iso_8601",
    ]);
    command
        .args(["-issuer", "-nameopt", "utf8,sep_multiline,sname", "-in"])
        .arg(&path);
    let output = command.output().expect("openssl runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let mut lines = text.lines();
    let end = lines
        .next()
        .and_then(|line| line.strip_prefix("notAfter="))
        .expect("an end");
    let end_us = utc_us(&end.replace(' ', "T")).expect("an instant");
    (
        end_us,
        lines.skip(1).map(|line| line.trim().to_owned()).collect(),
    )
}

/// Asserts that both read the same from a certificate.
fn assert_same(der: &[u8]) {
    let own = Certificate::read(der).expect("a certificate");
    let (end_us, issuer) = by_openssl(der);
    assert_eq!(own.not_after_us, end_us, "{issuer:?}");
    let of = |name: &str| {
        let values = issuer.iter().filter_map(|line| line.strip_prefix(name));
        values.map(str::to_owned).collect::<Vec<String>>()
    };
    let known = Some(of("CN="))
        .filter(|names| !names.is_empty())
        .unwrap_or_else(|| of("O="));
    assert!(
        known.contains(&own.issuer) || known.is_empty() && own.issuer == "?",
        "{own:?} {issuer:?}"
    );
}

#[test]
fn issuer_and_end_are_those_that_openssl_reads() {
    let long = format!("/O={}/CN=Far beyond 255 bytes", "x".repeat(60));
    let names = format!("subjectAltName={}", vec!["DNS:example.org"; 40].join(","));
    for (subject, days, more, issuer) in [
        ("/CN=Test authority", "30", &[][..], "Test authority"),
        (
            "/C=DE/O=Only an organization",
            "36500",
            &[],
            "Only an organization",
        ),
        (
            "/O=Either/CN=Common before organization",
            "1",
            &[],
            "Common before organization",
        ),
        ("/C=DE", "30", &[], "?"),
        ("/CN=Ångström", "30", &[], "\u{fffd}"),
        ("/CN=Żółw", "30", &[], "Żółw"),
        (&long, "10000", &["-addext", &names], "Far beyond 255 bytes"),
    ] {
        let der = made(subject, days, more);
        let own = Certificate::read(&der).expect("a certificate");
        // The encoding of a Teletex string is not agreed on.
        if issuer == "\u{fffd}" {
            assert!(own.issuer.ends_with("ngstr\u{fffd}m"), "{own:?}");
        } else {
            assert_eq!(own.issuer, issuer);
            assert_same(&der);
        }
    }
}

/// Found by fuzzing: an issuer with an empty common name was shown as nothing.
#[test]
fn a_name_that_is_empty_names_nobody() {
    for (subject, issuer) in [("/O=Either/CN=xyz", "Either"), ("/CN=xyz", "?")] {
        let mut der = made(subject, "30", &[]);
        let name = |at: &usize| der[*at..].starts_with(b"\x03xyz");
        let at = (0..der.len())
            .find(name)
            .expect("the issuer comes before the subject");
        // An empty text, then an unused field of one byte, so that all lengths around them stay the same.
        der[at..at + 4].copy_from_slice(&[0, 4, 1, 0]);
        let own = Certificate::read(&der).expect("a certificate");
        assert_eq!(own.issuer, issuer);
    }
}

#[test]
fn days_are_counted_down_and_below_zero() {
    let own = Certificate::read(&made("/CN=x", "30", &[])).expect("a certificate");
    const DAY_US: u64 = 86_400_000_000;
    let end_us = own.not_after_us;
    for (now_us, days) in [
        (end_us - 30 * DAY_US, 30),
        (end_us - 30 * DAY_US + 1, 29),
        (end_us - 1, 0),
        (end_us, 0),
        (end_us + 1, -1),
        (end_us + DAY_US + 1, -2),
    ] {
        assert_eq!(own.days_left(now_us), days);
    }
}

#[test]
fn two_digits_of_a_year_are_of_this_century_until_1949_and_of_the_last_from_1950() {
    let good = made("/CN=x", "30", &[]);
    let ends = |text: &[u8; 2]| {
        let mut der = good.clone();
        let utc_time = |at: &usize| der[*at..].starts_with(&[0x17, 13]);
        let at = (0..der.len())
            .filter(utc_time)
            .nth(1)
            .expect("the second is the end");
        der[at + 2..at + 8].copy_from_slice(&[text[0], text[1], b'0', b'1', b'0', b'1']);
        let end = Certificate::read(&der).map(|own| utc_text(own.not_after_us));
        end.map(|end| end[..10].to_owned())
    };
    assert_eq!(ends(b"00").as_deref(), Some("2000-01-01"));
    assert_eq!(ends(b"49").as_deref(), Some("2049-01-01"));
    assert_eq!(ends(b"50"), None, "before the epoch");
    assert_eq!(ends(b"70").as_deref(), Some("1970-01-01"));
    assert_eq!(ends(b"99").as_deref(), Some("1999-01-01"));
    assert_eq!(ends(b"9x"), None);
}

#[test]
fn all_that_this_system_trusts_is_read() {
    let bundles = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
    ];
    let pem = bundles.iter().find_map(|path| std::fs::read(path).ok());
    let pem = pem.expect("the system's root certificates, from the package ca-certificates");
    let all = ders(&pem);
    assert!(!all.is_empty());
    for der in &all {
        assert_same(der);
    }
}

#[test]
fn no_cut_and_no_mutation_is_more_than_refused() {
    let mut seed = 0x5eed_0000_0000_0003u64;
    let mut next = |below: usize| {
        seed = seed
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        (seed >> 33) as usize % below
    };
    let mut read = 0;
    for (subject, days) in [("/CN=Test authority", "30"), ("/O=Żółw/C=DE", "36500")] {
        let good = made(subject, days, &[]);
        for end in 0..good.len() {
            assert_eq!(Certificate::read(&good[..end]), None, "cut to {end} bytes");
        }
        for _ in 0..100_000 {
            let mut bytes = good.clone();
            for _ in 0..1 + next(4) {
                // Mostly in the parts that the reader looks at.
                let anywhere = next(4) == 0;
                let at = next(if anywhere { bytes.len() } else { 150 });
                match next(4) {
                    0 => bytes[at] = [0x80, 0x81, 0x84, 0xff, 0x1f, 0x30, 0, 0x7f][next(8)],
                    1 => bytes[at] = next(256) as u8,
                    2 => bytes.insert(at, next(256) as u8),
                    _ => drop(bytes.remove(at)),
                }
            }
            if let Some(own) = Certificate::read(&bytes) {
                read += 1;
                let (count, plain) = (own.issuer.chars().count(), |c: char| !c.is_control());
                assert!(count <= 64 && own.issuer.chars().all(plain), "{own:?}");
                own.days_left(u64::MAX);
                own.days_left(0);
            }
        }
    }
    assert!(read > 1_000, "some mutations leave a certificate: {read}");
}

#[test]
fn lengths_that_der_does_not_allow_are_refused() {
    let good = made("/CN=x", "30", &[]);
    assert_eq!(&good[..2], [0x30, 0x82], "its length takes two bytes");
    let with = |head: &[u8]| Certificate::read(&[head, &good[4..]].concat());
    assert!(with(&good[..4]).is_some());
    let length = [good[2], good[3]];
    assert_eq!(with(&[0x30, 0x80]), None, "indefinite");
    assert_eq!(
        with(&[0x30, 0x83, 0, length[0], length[1]]),
        None,
        "longer than need be"
    );
    assert_eq!(
        with(&[0x30, 0x85, 0, 0, 0, length[0], length[1]]),
        None,
        "of five bytes"
    );
    assert_eq!(
        with(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]),
        None,
        "beyond the end"
    );
    assert_eq!(
        with(&[0x31, 0x82, length[0], length[1]]),
        None,
        "another tag"
    );
    let zeros = vec![0; 70_000];
    assert_eq!(
        Certificate::read(&[&good[..], &zeros].concat()),
        None,
        "too large"
    );
}
