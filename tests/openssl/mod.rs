//! Ed25519 by the program `openssl`, which shares no code with ours.
//!
//! Each test uses a part of this module.
#![allow(dead_code)]

use crate::support::scratch;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Decodes hexadecimal text.
pub fn bytes(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2), "whole bytes: {hex}");
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(byte).collect()
}

/// Writes bytes to a fresh file.
pub fn kept(name: &str, bytes: &[u8]) -> PathBuf {
    let path = scratch(name);
    std::fs::write(&path, bytes).expect("a file for the test");
    path
}

fn openssl(args: &[&str], files: &[(&str, &Path)]) -> Command {
    let mut command = Command::new("openssl");
    command.args(args).stderr(Stdio::null());
    for (flag, path) in files {
        command.arg(flag).arg(path);
    }
    command
}

/// Whether the program `openssl` accepts `signature` over `message` under the key `public`.
pub fn openssl_takes(public: &[u8], message: &[u8], signature: &[u8]) -> bool {
    // RFC 8410: SubjectPublicKeyInfo of an Ed25519 key.
    let key = [&bytes("302a300506032b6570032100"), public].concat();
    let (key, message, signature) = (
        kept("key.der", &key),
        kept("message", message),
        kept("signature", signature),
    );
    let args = ["pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-rawin"];
    let files = [
        ("-inkey", &*key),
        ("-in", &*message),
        ("-sigfile", &*signature),
    ];
    let mut command = openssl(&args, &files);
    let status = command.stdout(Stdio::null()).status();
    status.expect("openssl runs").success()
}

/// The signature that the program `openssl` makes over `message` with the key of `seed`.
pub fn openssl_signs(seed: &[u8], message: &[u8]) -> Vec<u8> {
    // RFC 8410: OneAsymmetricKey of an Ed25519 key.
    let key = [&bytes("302e020100300506032b657004220420"), seed].concat();
    let (key, message) = (kept("key.der", &key), kept("message", message));
    let args = ["pkeyutl", "-sign", "-keyform", "DER", "-rawin"];
    let output = openssl(&args, &[("-inkey", &key), ("-in", &message)]).output();
    output.expect("openssl runs").stdout
}
