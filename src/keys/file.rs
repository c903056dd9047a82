//! Files of secret keys: an identity that outlives a process.
//!
//! The file is one line, 87 bytes: `rsoracle secret key 1 `, 64 hexadecimal digits in lower case, a line feed.
//! Invariant: only the file's owner can read or write it; no file is ever overwritten; no buffer that held a secret is left
//! unwiped, and a secret is in no error and no log.
//! What this module does not do: protect a key from who runs as the same user, or from who owns the machine.

use crate::keys::secret::{SecretKey, unhex_secret, wipe};
use crate::system::file;
use crate::system::random;
use rsoracle_proof::seal::PublicKey;
use rsoracle_proof::seal::hex_into;
use rsoracle_verify::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// What the line begins with; the number is that of the form.
const HEAD: &[u8; 22] = b"rsoracle secret key 1 ";
const _: () = assert!(
    HEAD.len() == file::SECRET_BEGINS.len() + 2,
    "files that are replaced are told from it"
);
const HEX_END: usize = HEAD.len() + 64;
const LINE_BYTES: usize = HEX_END + 1;
const _: () = assert!(LINE_BYTES == 87);

/// Modes that let others than the owner at the file.
const OTHERS: u32 = 0o077;

/// The same for this file. A credential of a systemd service (since version 254) has root as its owner, and an access control
/// list that lets the service's own user read it: the bits of a group are that list's mask, and let no group at it.
fn others(path: &str) -> u32 {
    let given = std::env::var_os("CREDENTIALS_DIRECTORY");
    let is_credential = given.is_some_and(|dir| Path::new(path).parent() == Some(Path::new(&dir)));
    if is_credential {
        OTHERS & !0o040
    } else {
        OTHERS
    }
}

/// The key file of a slot in a directory of them.
pub fn of_slot(dir: &str, slot: u16) -> String {
    format!("{dir}/slot-{slot}.key")
}

/// Makes a fresh key in a new file, safe on the disk when this returns, and gives its public half.
pub fn create(path: &str) -> Result<PublicKey, Error> {
    let attempt = format!("cannot make the key file {path}");
    let mut new = OpenOptions::new();
    let opened = new.write(true).create_new(true).mode(0o600).open(path);
    let mut file = opened.map_err(|error| {
        let advice = match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                "a key is never overwritten; name another file, or remove this one if nobody trusts its key any more"
            }
            _ => "name a file in a directory that exists and can be written",
        };
        Error::new(&attempt, error).advise(advice)
    })?;
    let made = fresh(&mut file, &attempt).and_then(|key| {
        let safe = file.sync_all().and_then(|()| file::sync_directory(path));
        safe.map(|()| key)
            .map_err(|error| Error::new(&attempt, error))
    });
    if made.is_err() {
        // Half a key is of no use to anyone, and would stand in the way of the next attempt.
        let _ = std::fs::remove_file(path);
    }
    made
}

/// Writes a fresh key.
fn fresh(file: &mut File, attempt: &str) -> Result<PublicKey, Error> {
    let mut seed = [0; 32];
    random::fill(&mut seed)?;
    let mut line = [b'\n'; LINE_BYTES];
    line[..HEAD.len()].copy_from_slice(HEAD);
    hex_into(&seed, &mut line[HEAD.len()..HEX_END]);
    let key = SecretKey::from_seed(&mut seed);
    let written = file.write_all(&line);
    wipe(&mut line);
    written.map_err(|error| Error::new(attempt, error))?;
    Ok(key.public())
}

/// Reads a key from its file.
pub fn read(path: &str) -> Result<SecretKey, Error> {
    let attempt = format!("cannot read the key file {path}");
    let failed = |error| {
        let advice = "'rsoracle keygen FILE' makes one";
        Error::new(&attempt, error).advise(advice)
    };
    // Opening a pipe would wait for who writes to it.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Error::new(attempt, "it is no regular file"));
    }
    let mut file = File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    let mode = about.mode() & 0o7777;
    if mode & others(path) != 0 {
        let cause = format!("others than its owner may use it (mode {mode:04o})");
        return Err(Error::new(attempt, cause).advise(format!(
            "chmod 600 {path}, and make a new key if others may have read this one"
        )));
    }
    let malformed = || {
        let advice = "'rsoracle keygen FILE' makes one";
        let cause =
            "it is not one line 'rsoracle secret key 1 ' and 64 hexadecimal digits in lower case";
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
