//! The certificate and key of a TLS server, from files.

use crate::system::limits::PEM_BYTES_MAX;
use native_tls::{Identity, TlsAcceptor};
use rsoracle_verify::error::Error;
use rsoracle_verify::files;

/// Reads certificate chain (`--cert`) and private key (`--key`).
pub(crate) fn acceptor(cert: &str, key: &str) -> Result<TlsAcceptor, Error> {
    let cert_attempt = format!("cannot use {cert} as the TLS certificate (--cert)");
    let key_attempt = format!("cannot use {key} as the TLS private key (--key)");
    let cert_pem = files::read(cert, PEM_BYTES_MAX, &cert_attempt)?;
    let key_pem = files::read(key, PEM_BYTES_MAX, &key_attempt)?;
    if !contains(&cert_pem, b"-----BEGIN CERTIFICATE-----") {
        return Err(Error::new(cert_attempt, "it holds no PEM certificate")
            .advise("it must hold the server's certificate and then its issuers', each as -----BEGIN CERTIFICATE-----"));
    }
    if !key_pem.starts_with(b"-----BEGIN PRIVATE KEY-----") {
        return Err(Error::new(key_attempt, "it does not begin with an unencrypted PKCS #8 key")
            .advise(format!(
                "it must begin with -----BEGIN PRIVATE KEY-----; 'openssl pkcs8 -topk8 -nodes -in {key}' makes that from other PEM keys"
            )));
    }
    let identity = Identity::from_pkcs8(&cert_pem, &key_pem).map_err(|error| {
        Error::new(
            format!("cannot use {cert} and {key} for TLS (--cert, --key)"),
            error,
        )
        .advise("the first takes PEM certificates, the server's own first, the second the PEM key of that one")
    })?;
    // OpenSSL does not check here that key and certificate match. If they do not, every handshake fails.
    TlsAcceptor::new(identity).map_err(|error| {
        Error::new(
            format!("cannot use {cert} and {key} for TLS (--cert, --key)"),
            error,
        )
    })
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
