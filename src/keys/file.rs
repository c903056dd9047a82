//! Secret key files, for keys that outlive a process: their form, and how they are read. [`super::make`] makes them.
//!
//! A file is one line of 87 bytes: `rsoracle secret key 1 `, 64 lower-case hexadecimal digits, a line feed.
//!
//! Invariant: only its owner can read or write a key file. No file is ever overwritten. Every buffer that held a secret is
//! wiped, and no error or log contains one. This does not protect a key from other processes of the same user, or from root.

use crate::keys::secret::{SecretKey, unhex_secret, wipe};
use crate::system::random;
use rsoracle_verify::error::Error;
use rsoracle_verify::files::unseen;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The beginning of the line; the number is the version of the format.
pub(super) const HEAD: &[u8; 22] = b"rsoracle secret key 1 ";
pub(super) const HEX_END: usize = HEAD.len() + 64;
pub(super) const LINE_BYTES: usize = HEX_END + 1;
const _: () = assert!(LINE_BYTES == 87);

/// Mode bits that give access to others than the owner.
const OTHERS: u32 = 0o077;

/// Whether this file's group may read it, because there is no other way to give the key to this process: either root owns the
/// file and gave it to a group of this process, as Kubernetes does with a secret under fsGroup; or it is a systemd credential.
/// Since version 254, systemd lets the service's user read it by an access control list. The group bits of the mode are then
/// that list's mask, and give the group no access.
fn is_given(path: &str, about: &Metadata) -> bool {
    let given = std::env::var_os("CREDENTIALS_DIRECTORY");
    let is_credential = given.is_some_and(|dir| Path::new(path).parent() == Some(Path::new(&dir)));
    is_credential || (about.uid() == 0 && own_user().is_some_and(|user| user != 0))
}

/// The user whose rights this process has; `None` without /proc.
pub(crate) fn own_user() -> Option<u32> {
    std::fs::metadata("/proc/self").ok().map(|own| own.uid())
}

/// Makes a new random key that is in no file.
pub(crate) fn unsaved() -> Result<SecretKey, Error> {
    let mut seed = [0; 32];
    random::fill(&mut seed)?;
    Ok(SecretKey::from_seed(&mut seed))
}

/// Reads a key from its file.
pub fn read(path: &str) -> Result<SecretKey, Error> {
    let attempt = format!("cannot read the key file {path}");
    let failed = |error: io::Error| {
        let advice = match error.kind() {
            ErrorKind::NotFound => "'rsoracle keygen FILE' makes one",
            ErrorKind::PermissionDenied => "run this as the user that the file belongs to",
            _ => "",
        };
        Error::new(&attempt, error).advise(advice)
    };
    // Opening a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Error::new(attempt, "it is not a regular file"));
    }
    let mut file = File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    let (mut line, mut seed) = ([0; LINE_BYTES + 4], [0; 32]);
    let count = file.read(&mut line).map_err(failed)?;
    let sound = count == LINE_BYTES
        && line.starts_with(HEAD)
        && unhex_secret(&line[HEAD.len()..HEX_END], &mut seed)
        && line[HEX_END] == b'\n';
    let first = line[..count].split(|byte| *byte == b'\n').next();
    let strange = first.and_then(unseen);
    wipe(&mut line);
    let key = SecretKey::from_seed(&mut seed);
    if !sound {
        let cause = format!(
            "it is not one line of 'rsoracle secret key 1 ' and 64 lower-case hexadecimal digits{}",
            strange.map_or(String::new(), |what| format!("; {what}"))
        );
        let advice = match strange {
            Some(_) => {
                "an editor or a transfer changed it: save it as plain UTF-8 text with the line ends of Unix (LF), or restore it"
            }
            None => "'rsoracle keygen FILE' makes one",
        };
        return Err(Error::new(&attempt, cause).advise(advice));
    }
    let mode = about.mode() & 0o7777;
    let group = if is_given(path, &about) { 0o040 } else { 0 };
    if mode & OTHERS & !group == 0 {
        return Ok(key);
    }
    let cause = format!("others than its owner may access it (mode {mode:04o})");
    let remedy = match own_user() {
        Some(own) if own != about.uid() => format!(
            "it belongs to user {}: use a file of this user's own, or root's with mode 0440 (in Kubernetes: defaultMode 0440 and fsGroup)",
            about.uid()
        ),
        _ => format!("run chmod 600 {path}"),
    };
    let advice = format!("{remedy}; if others may have read the key, make a new one");
    Err(Error::new(attempt, cause).advise(advice))
}
