//! Secret key files, for keys that outlive a process: their form, and how they are read. The room's door makes them.
//!
//! A file is one line of 87 bytes: `rsoracle secret key 1 `, 64 lower-case hexadecimal digits, a line feed.
//!
//! Invariant: only its owner can read or write a key file. No file is ever overwritten. Every buffer that held a secret is
//! wiped, and no error or log contains one. This does not protect a key from other processes of the same user, or from root.

use crate::keys::secret::{SecretKey, unhex_secret, wipe};
use rsoracle_verify::error::Error;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The beginning of the line; the number is the version of the format.
pub(super) const HEAD: &[u8; 22] = b"rsoracle secret key 1 ";
pub(super) const HEX_END: usize = HEAD.len() + 64;
pub(super) const LINE_BYTES: usize = HEX_END + 1;
const _: () = assert!(LINE_BYTES == 87);

/// Mode bits that give access to others than the owner.
const OTHERS: u32 = 0o077;

/// The mode bits that must be zero for this file. Since version 254, systemd gives a service's credential to root, with an
/// access control list that lets the service's user read it. The group bits are that list's mask then, and give no group
/// access.
fn others(path: &str) -> u32 {
    let given = std::env::var_os("CREDENTIALS_DIRECTORY");
    let is_credential = given.is_some_and(|dir| Path::new(path).parent() == Some(Path::new(&dir)));
    if is_credential {
        OTHERS & !0o040
    } else {
        OTHERS
    }
}

/// The path of a slot's key file in a directory of key files.
pub fn of_slot(dir: &str, slot: u16) -> String {
    format!("{dir}/slot-{slot}.key")
}

/// Reads a key from its file.
pub fn read(path: &str) -> Result<SecretKey, Error> {
    let attempt = format!("cannot read the key file {path}");
    let failed = |error| {
        let advice = "'rsoracle keygen FILE' makes one";
        Error::new(&attempt, error).advise(advice)
    };
    // Opening a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Error::new(attempt, "it is not a regular file"));
    }
    let mut file = File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    let mode = about.mode() & 0o7777;
    if mode & others(path) != 0 {
        let cause = format!("others than its owner may access it (mode {mode:04o})");
        return Err(Error::new(attempt, cause).advise(format!(
            "run chmod 600 {path}; if others may have read the key, make a new one"
        )));
    }
    let malformed = || {
        let advice = "'rsoracle keygen FILE' makes one";
        let cause =
            "it is not one line of 'rsoracle secret key 1 ' and 64 lower-case hexadecimal digits";
        Error::new(&attempt, cause).advise(advice)
    };
    if about.len() != LINE_BYTES as u64 {
        return Err(malformed());
    }
    let mut line = [0; LINE_BYTES];
    let mut seed = [0; 32];
    let read = file.read_exact(&mut line);
    let sound = line.starts_with(HEAD)
        && unhex_secret(&line[HEAD.len()..HEX_END], &mut seed)
        && line.ends_with(b"\n");
    wipe(&mut line);
    let key = SecretKey::from_seed(&mut seed);
    read.map_err(failed)?;
    if sound { Ok(key) } else { Err(malformed()) }
}
