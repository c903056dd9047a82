//! Root certificates: the certificate authorities that are trusted to sign an exchange's certificate, and where to find them.
//!
//! If `SSL_CERT_FILE` or `SSL_CERT_DIR` names a place other than the system's usual ones, the roots in these places are the
//! only ones. Otherwise they are the system's, which the TLS library finds in the places below. `--ca-file` adds further ones
//! in both cases.
//!
//! The TLS library reads the system's file of all roots whenever it is set up, twice on some systems: 100 ms of CPU and 2 MB.
//! Most systems also keep each root in a file of its own, named by a hash, of which the library reads only the one that a
//! server's certificate needs. Therefore a process restarts itself in a way that hides the large file from the library
//! ([`defer`]). It reads that file only after a server's certificate was refused without it ([`Trust::widen`]). So the
//! trusted roots stay exactly the same.
//! Invariant: if there are no roots at all, an error says so before anything is started, instead of a failed handshake later.

use crate::exchange::limits::{CERTIFICATE_FILES_MAX, PEM_BYTES_MAX};
use crate::exchange::proxy::BASE64;
use crate::system::child;
use native_tls::{Certificate, TlsConnector};
use rsoracle_verify::error::Error;
use rsoracle_verify::files;
use std::env::VarError;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;

/// Where systems keep all roots in one file, as listed by openssl-probe 0.2, with which the TLS library finds them.
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

/// Where systems keep one root per file, named by a hash (also from openssl-probe).
const DIRS: [&str; 3] = [
    "/etc/ssl/certs",
    "/etc/pki/tls/certs",
    "/etc/security/certificates",
];

/// Where OpenSSL may look for one more file of all roots, depending on how it was built.
const DEFAULT_FILES: [&str; 4] = [
    "/usr/lib/ssl/cert.pem",
    "/etc/pki/tls/cert.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/ssl/cert.pem",
];

/// Environment variable that names, to the restarted process, the file hidden from the TLS library.
const DEFERRED: &str = "RSORACLE_DEFERRED_ROOTS";
/// The empty file that the TLS library reads instead.
const NOTHING: &str = "/dev/null";

/// The trusted root certificates.
pub struct Roots {
    /// The roots that the environment names, which replace the system's.
    named: Option<Vec<Certificate>>,
    /// The roots that `--ca-file` adds.
    added: Vec<Certificate>,
    /// The system's file of all roots, if it is hidden from the TLS library.
    deferred: Option<String>,
}

/// The TLS side of a collector.
#[derive(Clone)]
pub struct Trust {
    connector: TlsConnector,
    /// The certificates that `--ca-file` adds, and the hidden file, until [`Trust::widen`] reads it.
    rest: Option<(Vec<Certificate>, String)>,
}

impl From<TlsConnector> for Trust {
    fn from(connector: TlsConnector) -> Trust {
        let rest = None;
        Trust { connector, rest }
    }
}

impl Trust {
    /// The connector for TLS handshakes.
    pub fn connector(&self) -> &TlsConnector {
        &self.connector
    }

    /// Call this after a server's certificate was refused. Trusts the roots in the hidden file from now on. Returns false if
    /// that cannot help: there is no hidden file, it was already read, or TLS cannot be set up with it.
    pub(crate) fn widen(&mut self) -> bool {
        let Some((mut certificates, path)) = self.rest.take() else {
            return false;
        };
        // A missing or invalid file counts as empty, as it does to the TLS library.
        certificates.extend(in_file(&path, "").unwrap_or_default());
        let all = connector(&certificates, false).map(|all| self.connector = all);
        all.is_ok()
    }
}

fn connector(certificates: &[Certificate], alone: bool) -> Result<TlsConnector, Error> {
    let mut builder = TlsConnector::builder();
    builder.disable_built_in_roots(alone);
    for certificate in certificates {
        builder.add_root_certificate(certificate.clone());
    }
    let failed = |error| Error::new("cannot set up TLS", error);
    builder.build().map_err(failed)
}

impl Roots {
    /// Reads the roots that are named. The system's are not read, which would take tens of milliseconds; it is only checked that
    /// there are any.
    pub fn find(ca_file: Option<&str>) -> Result<Roots, Error> {
        let added = match ca_file {
            Some(path) => in_file(path, &format!("cannot use --ca-file {path}"))?,
            None => Vec::new(),
        };
        let deferred = variable(DEFERRED)?.filter(|path| FILES.contains(&path.as_str()));
        let named = match deferred {
            Some(_) => None,
            None => named_by_environment()?,
        };
        if named.is_none() && added.is_empty() && !system_has_any() {
            return Err(none());
        }
        Ok(Roots {
            named,
            added,
            deferred,
        })
    }

    /// Builds the TLS side of a collector, once per process.
    pub fn trust(self) -> Result<Trust, Error> {
        let alone = self.named.is_some();
        let mut certificates = self.named.unwrap_or_default();
        certificates.extend(self.added);
        Ok(Trust {
            connector: connector(&certificates, alone)?,
            rest: self.deferred.map(|path| (certificates, path)),
        })
    }
}

/// Restarts this process, under the same id and with the same files open, so that the TLS library does not read the system's
/// file of all roots. Returns if that is already done, would gain nothing, or fails.
pub(crate) fn defer() {
    if std::env::var_os(DEFERRED).is_some() || !Path::new(NOTHING).exists() {
        return;
    }
    let (Some(path), Ok(mut command)) = (deferrable(), child::this_program()) else {
        return;
    };
    command.args(std::env::args_os().skip(1));
    command.env(DEFERRED, path).env("SSL_CERT_FILE", NOTHING);
    // `exec` returns only if it fails. Then the library reads everything as usual.
    let _ = command.exec();
}

/// The file of all roots that the TLS library would read, if it can be hidden: a directory has at least as many roots, and
/// OpenSSL reads no other such file.
fn deferrable() -> Option<&'static str> {
    let (file, dirs) = (
        variable("SSL_CERT_FILE").ok()?,
        variable("SSL_CERT_DIR").ok()?,
    );
    if dirs.is_some_and(|dirs| !are_usual(&dirs)) {
        return None;
    }
    let path = match file {
        Some(file) => FILES.into_iter().find(|usual| *usual == file)?,
        None => FILES.into_iter().find(|usual| Path::new(usual).exists())?,
    };
    let itself = fs::canonicalize(path).ok()?;
    let other = |path: &&str| fs::canonicalize(path).is_ok_and(|path| path != itself);
    if DEFAULT_FILES.iter().any(other) {
        return None;
    }
    let pem = files::read(path, PEM_BYTES_MAX, "").ok()?;
    let lines = pem.split(|byte| *byte == b'\n');
    let count = lines.filter(|line| line.starts_with(BEGINS)).count();
    let has_as_many = |dir| hashed_files(dir).is_ok_and(|files| files.len() >= count);
    DIRS.into_iter().any(has_as_many).then_some(path)
}

/// The beginning of every item in PEM form.
const BEGINS: &[u8] = b"-----BEGIN ";

/// The kinds of certificates in PEM form. The last is OpenSSL's own, with remarks.
const KINDS: [&str; 3] = ["", "X509 ", "TRUSTED "];
/// The purposes in such remarks that mean servers: serverAuth and any (RFC 5280, section 4.2.1.12), in DER.
const SERVERS: [&[u8]; 2] = [
    &[6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1],
    &[6, 4, 0x55, 0x1d, 0x25, 0],
];

fn none() -> Error {
    let places = [&FILES[..], &DIRS[..]].concat().join(", ");
    let cause = format!(
        "there are no root certificates: SSL_CERT_FILE and SSL_CERT_DIR name none, and there are none in {places}"
    );
    Error::new("cannot verify the certificates of exchanges", cause).advise(
        "install the system's certificate store (on Debian and Alpine: ca-certificates), or name a PEM file of root certificates with --ca-file or SSL_CERT_FILE",
    )
}

/// Reads the certificates in a PEM file; an error if there are none.
fn in_file(path: &str, attempt: &str) -> Result<Vec<Certificate>, Error> {
    let advice = "it takes a file of one or more certificates in PEM form";
    let pem = files::read(path, PEM_BYTES_MAX, attempt).map_err(|error| error.advise(advice))?;
    match certificates(&pem) {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(Error::new(attempt, "no certificate in it").advise(advice)),
        Err(cause) => Err(Error::new(attempt, cause).advise(advice)),
    }
}

/// The certificates in a PEM text (RFC 7468) that may vouch for servers. Like OpenSSL, passes over other items and the text
/// around them. The error names the certificate that cannot be read.
fn certificates(pem: &[u8]) -> Result<Vec<Certificate>, String> {
    let text = String::from_utf8_lossy(pem);
    let text = format!("\n{}", text.trim_start_matches('\u{feff}'));
    let items = text.split("\n-----BEGIN ").skip(1);
    let named = items.filter_map(|item| item.split_once("CERTIFICATE-----"));
    let mut found = Vec::new();
    for (index, (_, rest)) in named.filter(|(kind, _)| KINDS.contains(kind)).enumerate() {
        let body = rest.split_once("-----END ").map(|(body, _)| body);
        let der = body.and_then(base64_decoded).unwrap_or_default();
        // Bytes behind the certificate are passed over here.
        let certificate = Certificate::from_der(&der)
            .map_err(|_| format!("certificate {} of it cannot be read", index + 1))?;
        let own = certificate.to_der().unwrap_or_default();
        if der.get(own.len()..).is_some_and(may_vouch) {
            found.push(certificate);
        }
    }
    Ok(found)
}

/// Whether OpenSSL's remarks behind a `TRUSTED CERTIFICATE` (x509(1): -addtrust, -addreject) let it vouch for servers. They
/// are a sequence, in which a sequence lists the purposes that are trusted, and then a field 0 those that are not.
fn may_vouch(remarks: &[u8]) -> bool {
    let head = match remarks.get(1) {
        Some(long) if *long > 0x80 => 2 + usize::from(long & 0x7f),
        _ => 2,
    };
    let (mut may, mut rest) = (true, remarks.get(head..).unwrap_or_default());
    while let [tag @ (0x30 | 0xa0), length @ ..0x80, more @ ..] = rest {
        let (purposes, after) = more.split_at(more.len().min((*length).into()));
        let named = |one: &&[u8]| purposes.windows(one.len()).any(|part| part == *one);
        may &= SERVERS.iter().any(named) == (*tag == 0x30);
        rest = after;
    }
    // A list that is too long to be read here vouches for nothing.
    may && !matches!(rest, [0x30 | 0xa0, ..])
}

/// Decodes Base64 (RFC 4648, section 4), spread over lines.
fn base64_decoded(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0, 0);
    let letters = text.bytes().filter(u8::is_ascii_graphic);
    for letter in letters.filter(|letter| *letter != b'=') {
        bits = bits << 6 | BASE64.iter().position(|known| *known == letter)?;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    Some(bytes)
}

/// Whether a list of directories such as `DIR:DIR` has none but the system's usual ones.
fn are_usual(dirs: &str) -> bool {
    dirs.split(':').all(|dir| DIRS.contains(&dir))
}

/// The value of an environment variable; `None` if it is unset or empty. A value that is not UTF-8 is an error, like such an
/// argument: a variable that is set is never taken for one that is not.
pub(crate) fn variable(name: &str) -> Result<Option<String>, Error> {
    let value = std::env::var(name);
    if let Err(VarError::NotUnicode(_)) = value {
        let attempt = format!("cannot use the environment variable {name}");
        let error = Error::new(attempt, "its value is not valid UTF-8");
        return Err(error.advise("correct or unset it"));
    }
    Ok(value.ok().filter(|text| !text.is_empty()))
}

/// Reads the certificates that `SSL_CERT_FILE` and `SSL_CERT_DIR` name; `None` if neither names anything but usual places.
fn named_by_environment() -> Result<Option<Vec<Certificate>>, Error> {
    let file = variable("SSL_CERT_FILE")?.filter(|path| !FILES.contains(&path.as_str()));
    let dirs = variable("SSL_CERT_DIR")?.filter(|dirs| !are_usual(dirs));
    if file.is_none() && dirs.is_none() {
        return Ok(None);
    }
    let mut certificates = Vec::new();
    if let Some(path) = file {
        certificates.extend(in_file(&path, &format!("cannot use SSL_CERT_FILE={path}"))?);
    }
    if let Some(dirs) = dirs {
        certificates.extend(in_dirs(&dirs)?);
    }
    Ok(Some(certificates))
}

/// Reads the certificates in a list of directories, from files named as OpenSSL expects (by hash). Skips what OpenSSL skips: a
/// directory that cannot be read, a link that leads nowhere, a file that is no certificate. If no certificate is found, the
/// error names the first item that was skipped.
fn in_dirs(dirs: &str) -> Result<Vec<Certificate>, Error> {
    let (mut found, mut causes) = (Vec::new(), Vec::new());
    for dir in dirs.split(':').filter(|dir| !dir.is_empty()) {
        let files = hashed_files(dir).map_err(|error| causes.push(format!("{error} ({dir})")));
        for file in files.unwrap_or_default().iter().take(CERTIFICATE_FILES_MAX) {
            match in_file(file, "") {
                Ok(certificates) => found.extend(certificates),
                Err(error) => causes.push(format!("{} ({file})", error.cause)),
            }
        }
    }
    if !found.is_empty() {
        return Ok(found);
    }
    causes.push("no certificate in it".to_owned());
    let cause = causes.swap_remove(0);
    Err(Error::new(format!("cannot use SSL_CERT_DIR={dirs}"), cause).advise(
        "it takes directories of certificates in PEM form, with ':' between them; 'openssl rehash DIR' gives the files the names by which OpenSSL finds them",
    ))
}

/// Whether any of the usual places has a certificate.
fn system_has_any() -> bool {
    let filled = |path| {
        let pem = files::read(path, PEM_BYTES_MAX, "");
        pem.is_ok_and(|pem| pem.windows(BEGINS.len()).any(|at| at == BEGINS))
    };
    FILES.into_iter().any(filled)
        || DIRS
            .iter()
            .any(|dir| hashed_files(dir).is_ok_and(|files| !files.is_empty()))
}

/// The files in a directory that OpenSSL reads: those named by eight hexadecimal digits, a dot and a number.
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
