//! Root certificates: whose signatures on an exchange's certificate count, and where they are looked for.
//!
//! `SSL_CERT_FILE` and `SSL_CERT_DIR`, where either names a place of the operator's own, name all of them. Otherwise they are
//! those of the system, which the TLS library finds in the places below. `--ca-file` adds to either.
//! Invariant: when there are none, that is said in words before anything is started, not by a failed handshake later.
//! What this module does not do: judge a certificate.

use crate::system::limits::{CERTIFICATE_FILES_MAX, PEM_BYTES_MAX};
use native_tls::{Certificate, TlsConnector};
use rsoracle_verify::error::Error;
use rsoracle_verify::files;
use std::fs;
use std::io;

/// Where systems keep all of them in one file, as openssl-probe 0.2 (the TLS library's way to find them) lists them.
const FILES: [&str; 8] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/ssl/cert.pem",
    "/opt/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/certs/cacert.pem",
];

/// Where systems keep one per file, under a hash of its name (the same list).
const DIRS: [&str; 3] = [
    "/etc/ssl/certs",
    "/etc/pki/tls/certs",
    "/etc/security/certificates",
];

/// The root certificates that count.
pub struct Roots {
    /// All of them, instead of the system's, where the environment names them.
    named: Option<Vec<Certificate>>,
    /// Those that `--ca-file` adds.
    added: Vec<Certificate>,
}

impl Roots {
    /// Reads those that are named; the system's are only looked for, since reading them takes tens of milliseconds.
    pub fn find(ca_file: Option<&str>) -> Result<Roots, Error> {
        let added = match ca_file {
            Some(path) => in_file(path, &format!("cannot use --ca-file {path}"))?,
            None => Vec::new(),
        };
        let named = named_by_environment()?;
        if named.is_none() && added.is_empty() && !system_has_any() {
            return Err(none());
        }
        Ok(Roots { named, added })
    }

    /// The TLS side of a collector, made once.
    pub fn connector(&self) -> Result<TlsConnector, Error> {
        let mut builder = TlsConnector::builder();
        builder.disable_built_in_roots(self.named.is_some());
        for certificate in self.named.iter().flatten().chain(&self.added) {
            builder.add_root_certificate(certificate.clone());
        }
        let failed = |error| Error::new("cannot set up TLS", error);
        builder.build().map_err(failed)
    }
}

fn none() -> Error {
    let places = [&FILES[..], &DIRS[..]].concat().join(", ");
    let cause = format!(
        "there are no root certificates: SSL_CERT_FILE and SSL_CERT_DIR name none, and none are in {places}"
    );
    Error::new("cannot check whose certificate an exchange shows", cause).advise(
        "install the system's (on Debian and Alpine: ca-certificates), or name a PEM file of them with --ca-file or SSL_CERT_FILE",
    )
}

/// The certificates in a file in PEM form: at least one.
fn in_file(path: &str, attempt: &str) -> Result<Vec<Certificate>, Error> {
    let advice = "it takes a file of one or more certificates in PEM form";
    let pem = files::read(path, PEM_BYTES_MAX, attempt).map_err(|error| error.advise(advice))?;
    match Certificate::stack_from_pem(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(Error::new(attempt, "no certificate in it").advise(advice)),
        Err(error) => Err(Error::new(attempt, error).advise(advice)),
    }
}

/// What `SSL_CERT_FILE` and `SSL_CERT_DIR` name: certificates, or an error; `None` if neither names any place but a usual one.
fn named_by_environment() -> Result<Option<Vec<Certificate>>, Error> {
    let variable = |name, usual: &[&str]| {
        let path = std::env::var(name).ok().filter(|path| !path.is_empty())?;
        (!usual.contains(&path.as_str())).then_some(path)
    };
    let file = variable("SSL_CERT_FILE", &FILES);
    let dir = variable("SSL_CERT_DIR", &DIRS);
    if file.is_none() && dir.is_none() {
        return Ok(None);
    }
    let mut certificates = Vec::new();
    if let Some(path) = file {
        certificates.extend(in_file(&path, &format!("cannot use SSL_CERT_FILE={path}"))?);
    }
    if let Some(path) = dir {
        certificates.extend(in_dir(&path, &format!("cannot use SSL_CERT_DIR={path}"))?);
    }
    Ok(Some(certificates))
}

/// The certificates in a directory, under the names by which OpenSSL finds them: at least one.
fn in_dir(path: &str, attempt: &str) -> Result<Vec<Certificate>, Error> {
    let advice = "it takes one directory of certificates in PEM form; 'openssl rehash DIR' gives them the names by which they are found";
    let files = hashed_files(path).map_err(|error| Error::new(attempt, error).advise(advice))?;
    if files.is_empty() {
        return Err(Error::new(attempt, "no certificate in it").advise(advice));
    }
    let mut certificates = Vec::new();
    for file in files.iter().take(CERTIFICATE_FILES_MAX) {
        certificates.extend(in_file(file, attempt)?);
    }
    Ok(certificates)
}

/// Whether any of the usual places holds something.
fn system_has_any() -> bool {
    let begins = b"-----BEGIN ";
    let filled = |path| {
        let pem = files::read(path, PEM_BYTES_MAX, "");
        pem.is_ok_and(|pem| pem.windows(begins.len()).any(|at| at == begins))
    };
    FILES.into_iter().any(filled)
        || DIRS
            .iter()
            .any(|dir| hashed_files(dir).is_ok_and(|files| !files.is_empty()))
}

/// The files in a directory that OpenSSL looks at: named by eight hexadecimal digits, a dot, a number.
fn hashed_files(dir: &str) -> io::Result<Vec<String>> {
    let is_hashed = |name: &str| {
        name.split_once('.').is_some_and(|(hash, number)| {
            hash.len() == 8
                && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
                && number.parse::<u32>().is_ok()
        })
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if let Some(name) = name.to_str().filter(|name| is_hashed(name)) {
            files.push(format!("{dir}/{name}"));
        }
    }
    Ok(files)
}
